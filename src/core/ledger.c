#include "core/ledger.h"

#include <errno.h>

#include "base/assert.h"
#include "base/atomic.h"
#include "base/crashpoint.h"
#include "core/object.h"
#include "core/slots.h"

enum { COPY_ROOM = 8 }; /* records left for the end of a batch: the counts */

/* --- places -------------------------------------------------------------------------------- */

/* Chunk k begins at entry FIRST * (2^k - 1). */
static uint32_t chunk_of(uint32_t index) {
  return 31U - (uint32_t)__builtin_clz(index / LVRI_LEDGER_FIRST + 1);
}

struct lvri_ledger_entry *lvri_ledger_entry(struct lvri_arena *a, lvri_off ledger, uint32_t index) {
  struct lvri_ledger *l = lvri_at(a, ledger);
  uint32_t chunk = chunk_of(index), at = index - LVRI_LEDGER_FIRST * ((1U << chunk) - 1);
  struct lvri_ledger_entry *entries = chunk ? lvri_at(a, l->lg_chunk[chunk]) : l->lg_first;
  return &entries[at];
}

uint32_t lvri_ledger_len(struct lvri_arena *a, lvri_off ledger) {
  const struct lvri_ledger *l = lvri_at(a, ledger);
  return l ? l->lg_len : 0;
}

void lvri_ledger_each(struct lvri_arena *a, lvri_off ledger,
                      void (*visit)(void *context, uint32_t index,
                                    const struct lvri_ledger_entry *entry),
                      void *context) {
  for (uint32_t i = 0; i < lvri_ledger_len(a, ledger); i++) {
    const struct lvri_ledger_entry *entry = lvri_ledger_entry(a, ledger, i);
    if (entry->le_object) visit(context, i, entry);
  }
}

/* --- growth -------------------------------------------------------------------------------- */

/* The slot has a ledger. */
static int need_ledger(struct lvri_arena *a, struct lvri_guard *g, struct lvri_slot *slot) {
  if (slot->sl_ledger) return 0;
  lvri_off off;
  int error = lvri_heap_alloc_locked(a, sizeof(struct lvri_ledger), LVRI_KIND_LEDGER, &off);
  if (!error) lvri_set64(a, g, &slot->sl_ledger, off);
  return error;
}

/* There is memory for entry number index, the first that was never used. */
static int need_entry(struct lvri_arena *a, struct lvri_guard *g, struct lvri_ledger *l,
                      uint32_t index) {
  uint32_t chunk = chunk_of(index);
  if (chunk >= LVRI_LEDGER_CHUNKS) return -ENOMEM;
  if (chunk <= l->lg_chunks) return 0;
  lvri_off off;
  size_t bytes = sizeof(struct lvri_ledger_entry) * LVRI_LEDGER_FIRST << chunk;
  int error = lvri_heap_alloc_locked(a, bytes, LVRI_KIND_LEDGER, &off);
  if (error) return error;
  lvri_set64(a, g, &l->lg_chunk[chunk], off);
  lvri_set32(a, g, &l->lg_chunks, chunk);
  return 0;
}

static void free_chunk(struct lvri_arena *a, struct lvri_guard *g, struct lvri_ledger *l) {
  lvri_heap_free_locked(a, l->lg_chunk[l->lg_chunks]);
  lvri_set64(a, g, &l->lg_chunk[l->lg_chunks], 0);
  lvri_set32(a, g, &l->lg_chunks, l->lg_chunks - 1);
}

static bool discard(struct lvri_arena *a, lvri_off *field, uint32_t leave) {
  struct lvri_guard *g = lvri_arena_guard(a);
  struct lvri_ledger *l = lvri_at(a, *field);
  if (!l) return true;
  if (l->lg_len) lvri_set32(a, g, &l->lg_len, 0);
  if (l->lg_free) lvri_set32(a, g, &l->lg_free, 0);
  while (lvri_guard_room(g) > LVRI_HEAP_RECORDS + 4 + leave) {
    if (l->lg_chunks) {
      free_chunk(a, g, l);
      continue;
    }
    lvri_heap_free_locked(a, *field);
    lvri_set64(a, g, field, 0);
    return true;
  }
  return false;
}

bool lvri_ledger_discard_locked(struct lvri_arena *a, lvri_off *field) {
  return discard(a, field, 0);
}

/* --- entries ------------------------------------------------------------------------------- */

/* An entry out of the list of unused ones. */
static uint32_t reuse(struct lvri_arena *a, struct lvri_guard *g, struct lvri_slot *slot,
                      struct lvri_ledger *l, lvri_off object) {
  uint32_t index = l->lg_free - 1;
  struct lvri_ledger_entry *entry = lvri_ledger_entry(a, slot->sl_ledger, index);
  lvri_set32(a, g, &l->lg_free, entry->le_held);
  lvri_set32(a, g, &entry->le_held, 0);
  lvri_set64(a, g, &entry->le_object, object);
  return index;
}

int lvri_ledger_add_locked(struct lvri_arena *a, lvr_proc_id who, lvri_off object,
                           uint32_t *ret_index) {
  struct lvri_guard *g = lvri_arena_guard(a);
  struct lvri_slot *slot = lvri_slot_of(a, who);
  if (!slot) return -ESRCH;
  int error = need_ledger(a, g, slot);
  if (error) return error;
  struct lvri_ledger *l = lvri_at(a, slot->sl_ledger);
  uint32_t index = l->lg_len;
  if (l->lg_free) {
    index = reuse(a, g, slot, l, object);
  } else {
    if ((error = need_entry(a, g, l, index)) != 0) return error;
    /* above lg_len: nobody reads it, no need to log */
    *lvri_ledger_entry(a, slot->sl_ledger, index) = (struct lvri_ledger_entry){object, 0, 0};
    lvri_set32(a, g, &l->lg_len, index + 1);
  }
  lvri_set32(a, g, &l->lg_used, l->lg_used + 1);
  *ret_index = index;
  return 0;
}

void lvri_ledger_drop_locked(struct lvri_arena *a, lvr_proc_id who, uint32_t index) {
  struct lvri_guard *g = lvri_arena_guard(a);
  struct lvri_slot *slot = lvri_slot_of(a, who);
  if (!slot || !slot->sl_ledger) return;
  struct lvri_ledger *l = lvri_at(a, slot->sl_ledger);
  struct lvri_ledger_entry *entry = lvri_ledger_entry(a, slot->sl_ledger, index);
  LVRI_ASSERT(index < l->lg_len && entry->le_object);
  lvri_set64(a, g, &entry->le_object, 0);
  lvri_set32(a, g, &entry->le_held, l->lg_free);
  lvri_set32(a, g, &l->lg_free, index + 1);
  lvri_set32(a, g, &l->lg_used, l->lg_used - 1);
  if (l->lg_used == 0) (void)discard(a, &slot->sl_ledger, LVRI_LEDGER_LEAVES);
}

/* --- copying ------------------------------------------------------------------------------- */

/* How many entries from index on lie side by side. */
static uint32_t run_from(uint32_t index) {
  return LVRI_LEDGER_FIRST * ((2U << chunk_of(index)) - 1) - index;
}

/* n entries that lie side by side: the references, and what stands in unused ones; how many were
 * used. */
static uint32_t copy_run(struct lvri_arena *a, struct lvri_guard *g,
                         struct lvri_ledger_entry *entries, const struct lvri_ledger_entry *old,
                         uint32_t n) {
  uint32_t used = 0;
  for (uint32_t i = 0; i < n; i++) {
    entries[i] = (struct lvri_ledger_entry){.le_object = old[i].le_object};
    if (old[i].le_object) {
      struct lvri_object_shm *object = lvri_at(a, old[i].le_object);
      lvri_set32(a, g, &object->ob_refs, object->ob_refs + 1);
      used++;
    } else {
      entries[i].le_held = old[i].le_held;
    }
  }
  return used;
}

/* As many entries from *index on as the journal has room for; one transaction. */
static int copy_batch(struct lvri_arena *a, struct lvri_guard *g, lvri_off from,
                      struct lvri_slot *to, uint32_t *index) {
  const struct lvri_ledger *source = lvri_at(a, from);
  int error = need_ledger(a, g, to);
  struct lvri_ledger *l = error ? NULL : lvri_at(a, to->sl_ledger);
  if (!error) error = need_entry(a, g, l, *index);
  if (error) return error;
  uint32_t n = source->lg_len - *index, run = run_from(*index);
  if (n > run) n = run;
  if (n > lvri_guard_room(g) - COPY_ROOM) n = lvri_guard_room(g) - COPY_ROOM;
  uint32_t used = copy_run(a, g, lvri_ledger_entry(a, to->sl_ledger, *index),
                           lvri_ledger_entry(a, from, *index), n);
  *index += n;
  lvri_set32(a, g, &l->lg_len, *index);
  lvri_set32(a, g, &l->lg_used, l->lg_used + used);
  if (*index == source->lg_len) lvri_set32(a, g, &l->lg_free, source->lg_free);
  return 0;
}

int lvri_ledger_copy(struct lvri_arena *a, lvr_proc_id from, lvr_proc_id to) {
  struct lvri_guard *g = lvri_arena_guard(a);
  struct lvri_slot *source = lvri_slot_of(a, from);
  if (!source) return -ESRCH;
  uint32_t index = 0, len = lvri_ledger_len(a, source->sl_ledger);
  while (index < len) {
    int error = lvri_guard_enter(a, g);
    if (error) return error;
    struct lvri_slot *target = lvri_slot_of(a, to);
    bool unborn = target && lvri_load_relaxed_u32(&target->sl_state) == LVRI_SLOT_EMBRYO;
    error = unborn ? copy_batch(a, g, source->sl_ledger, target, &index) : -ESRCH;
    if (error) {
      lvri_guard_abort(a, g);
      return error;
    }
    LVR_CRASHPOINT("ledger.copy.batch");
    lvri_guard_leave(a, g);
  }
  return 0;
}

/* --- checks -------------------------------------------------------------------------------- */

/* The list of unused entries is as long as it has to be. */
static bool unused_valid(struct lvri_arena *a, lvri_off ledger, const struct lvri_ledger *l) {
  uint32_t length = 0;
  for (uint32_t at = l->lg_free; at;) {
    if (at > l->lg_len || ++length > l->lg_len) return false;
    const struct lvri_ledger_entry *entry = lvri_ledger_entry(a, ledger, at - 1);
    if (entry->le_object) return false;
    at = entry->le_held;
  }
  return l->lg_used + length == l->lg_len;
}

int lvri_ledger_valid(struct lvri_arena *a, lvri_off ledger, bool whole) {
  const struct lvri_ledger *l = lvri_at(a, ledger);
  if (!l) return 0;
  if (!lvri_heap_is_block(a, ledger) || lvri_heap_kind(a, ledger) != LVRI_KIND_LEDGER)
    return -EUCLEAN;
  if (l->lg_chunks >= LVRI_LEDGER_CHUNKS) return -EUCLEAN;
  for (uint32_t k = 1; k < LVRI_LEDGER_CHUNKS; k++) {
    bool there = l->lg_chunk[k] && lvri_heap_is_block(a, l->lg_chunk[k]);
    if (there != (k <= l->lg_chunks)) return -EUCLEAN;
  }
  if (l->lg_len > LVRI_LEDGER_FIRST * ((2U << l->lg_chunks) - 1)) return -EUCLEAN;
  uint32_t used = 0;
  for (uint32_t i = 0; i < l->lg_len; i++)
    if (lvri_ledger_entry(a, ledger, i)->le_object) used++;
  if (used != l->lg_used) return -EUCLEAN;
  return whole && !unused_valid(a, ledger, l) ? -EUCLEAN : 0;
}
