/* check.c - counting what a session has, and seeing that all its equations hold. */
#include <errno.h>
#include <stdlib.h>

#include "core/grave.h"
#include "core/handles.h"
#include "core/kinds.h"
#include "core/ledger.h"
#include "core/object.h"
#include "core/session.h"
#include "core/slots.h"
#include "os/os.h"

/* --- counting ------------------------------------------------------------------------------ */

static void count_object(void *context, lvri_off off, size_t bytes, uint32_t kind) {
  struct lvr_session_stats *stats = context;
  (void)off;
  (void)bytes;
  if (kind >= LVRI_KIND_FIRST_OBJECT) stats->objects++;
}

static void count_slot(lvr_session *s, const struct lvri_slot *slot,
                       struct lvr_session_stats *stats) {
  bool alive = lvri_slot_alive(&s->arena, lvri_load_relaxed_u64(&slot->sl_id));
  switch (lvri_load_relaxed_u32(&slot->sl_state)) {
    case LVRI_SLOT_FREE:
      stats->slots_free++;
      break;
    case LVRI_SLOT_EMBRYO:
      stats->slots_embryo++;
      break;
    case LVRI_SLOT_DEAD:
      stats->slots_kept++;
      break;
    default:
      *(alive ? &stats->slots_running : &stats->slots_over) += 1;
      break;
  }
}

static void count_all(lvr_session *s, struct lvr_session_stats *stats) {
  struct lvri_arena *a = &s->arena;
  const struct lvri_heap_shm *heap = &lvri_arena_header(a)->ah_heap;
  stats->blocks = lvri_load_relaxed_u64(&heap->hp_blocks);
  stats->bytes = lvri_load_relaxed_u64(&heap->hp_bytes);
  stats->warm_bytes = lvri_heap_warm_bytes(a);
  lvri_heap_each(a, count_object, stats);
  for (uint32_t index = 1; index <= lvri_slots_of(a)->st_count; index++)
    count_slot(s, lvri_slot_at(a, index), stats);
}

static uint32_t count_handles(lvr_session *s) {
  uint32_t count = 0;
  lvri_session_lock(s);
  for (size_t at = 0; at < s->handles.room; at++)
    if (s->handles.records[at].handle) count++;
  lvri_session_unlock(s);
  return count;
}

int lvr_session_stats(lvr_session *s, struct lvr_session_stats *ret_stats) {
  struct lvr_session_stats stats = {.handles = count_handles(s)};
  if (lvri_session_stale(s)) return -ESTALE;
  int error = lvri_guard_enter(&s->arena, lvri_arena_guard(&s->arena));
  if (error) return error;
  count_all(s, &stats);
  lvri_guard_leave(&s->arena, lvri_arena_guard(&s->arena));
  (void)lvri_os_shm_used(s->arena.fd, &stats.committed_bytes);
  *ret_stats = stats;
  return 0;
}

/* --- references ---------------------------------------------------------------------------- */

/* How often each object is referred to, by ledgers and by objects: a record's index counts it. */
struct census {
  lvr_session *session;
  struct lvri_handles counts;
  uint32_t dead; /* objects without a reference */
  int error;
};

static void count_reference(void *context, lvri_off to) {
  struct census *census = context;
  struct lvri_record *r = lvri_handles_find(&census->counts, to);
  if (!r) {
    if (!census->error) census->error = lvri_handles_reserve(&census->counts);
    if (census->error) return;
    r = lvri_handles_add(&census->counts, to);
  }
  r->index++;
}

static void count_entry(void *context, uint32_t index, const struct lvri_ledger_entry *entry) {
  (void)index;
  count_reference(context, entry->le_object);
}

static const struct lvri_kind_ops *ops_of(uint32_t kind) {
  return kind < LVRI_KIND_LIMIT ? lvri_kinds[kind] : NULL;
}

/* What an object refers to. Its own equations come first: they say where that stands. */
static void count_held(void *context, lvri_off off, size_t bytes, uint32_t kind) {
  struct census *census = context;
  struct lvri_arena *a = &census->session->arena;
  const struct lvri_kind_ops *ops = ops_of(kind);
  (void)bytes;
  if (!ops || !ops->each_reference) return;
  if (ops->valid && !ops->valid(a, off))
    census->error = -EUCLEAN;
  else
    ops->each_reference(a, off, count_reference, census);
}

static bool object_valid(struct census *census, lvri_off off, uint32_t kind) {
  struct lvri_arena *a = &census->session->arena;
  const struct lvri_object_shm *object = lvri_at(a, off);
  const struct lvri_record *r = lvri_handles_find(&census->counts, off);
  const struct lvri_kind_ops *ops = ops_of(kind);
  if (!ops || object->ob_kind != kind || object->ob_serial == 0) return false;
  if (object->ob_refs != (r ? r->index : 0) + object->ob_travelling) return false;
  if (object->ob_refs == 0) census->dead++;
  return !ops->valid || ops->valid(a, off);
}

/* Each block that is an object is in order; one that was found is counted no more. */
static void check_block(void *context, lvri_off off, size_t bytes, uint32_t kind) {
  struct census *census = context;
  (void)bytes;
  if (kind < LVRI_KIND_FIRST_OBJECT) return;
  if (!object_valid(census, off, kind)) census->error = -EUCLEAN;
  struct lvri_record *r = lvri_handles_find(&census->counts, off);
  if (r) lvri_handles_remove(&census->counts, r);
}

/* --- everything ---------------------------------------------------------------------------- */

static int check_slot(struct census *census, const struct lvri_slot *slot) {
  struct lvri_arena *a = &census->session->arena;
  uint32_t state = lvri_load_relaxed_u32(&slot->sl_state);
  if (state == LVRI_SLOT_FREE) return 0;
  int error = lvri_ledger_valid(a, slot->sl_ledger, state == LVRI_SLOT_RUNNING);
  if (error) return error;
  if (slot->sl_task && !lvri_heap_is_block(a, slot->sl_task)) return -EUCLEAN;
  if (slot->sl_task && lvri_heap_kind(a, slot->sl_task) != LVRI_KIND_TASK) return -EUCLEAN;
  lvri_ledger_each(a, slot->sl_ledger, count_entry, census);
  return census->error;
}

static int check_all(struct census *census) {
  struct lvri_arena *a = &census->session->arena;
  int error = lvri_arena_valid(a);
  if (!error) error = lvri_slots_valid(a);
  for (uint32_t index = 1; !error && index <= lvri_slots_of(a)->st_count; index++)
    error = check_slot(census, lvri_slot_at(a, index));
  if (error) return error;
  lvri_heap_each(a, count_held, census);
  if (census->error) return census->error;
  lvri_heap_each(a, check_block, census);
  if (!census->error && !lvri_grave_valid(a, census->dead)) census->error = -EUCLEAN;
  /* what is left was named by an entry, and is no object */
  return !census->error && census->counts.count > 0 ? -EUCLEAN : census->error;
}

int lvr_session_check(lvr_session *s) {
  struct census census = {.session = s};
  if (lvri_session_stale(s)) return -ESTALE;
  int error = lvri_guard_enter(&s->arena, lvri_arena_guard(&s->arena));
  if (error) return error;
  error = check_all(&census);
  lvri_guard_leave(&s->arena, lvri_arena_guard(&s->arena));
  lvri_handles_fini(&census.counts);
  return error;
}
