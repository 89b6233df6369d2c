/* Repair goes in steps, each of which can be done again:
 *
 *   1. The slot is OVER (so it is even if the process died without a word).
 *   2. Every stripe has been entered once since: nothing that the dead process had begun there is
 *      left to be rolled back, so its ledger's units are what they are and may be freed later.
 *   3. Units come back, and those who counted on the process are told: by the kinds, per entry.
 *   4. Entries are struck out and their references given back, in transactions of some dozens.
 *   5. Ledger and birth payload are freed.
 *   6. Children are unwatched; those not born yet are withdrawn and repaired likewise.
 *   7. The slot is DEAD, and free if nobody wants its status.
 *   8. The grave is emptied of what lost its last reference by that.
 *
 * The table's repair mutex lets one repairer work at a time, so an entry that step 3 looks at is
 * not struck out meanwhile. A repairer that dies leaves each step done or not done per entry;
 * whoever comes next starts at 1 and finds less to do. */
#include "core/repair.h"

#include <errno.h>

#include "base/atomic.h"
#include "base/crashpoint.h"
#include "core/grave.h"
#include "core/ledger.h"
#include "core/object.h"
#include "os/os.h"

static int repair_held(struct lvri_arena *a, lvr_proc_id id);

static uint32_t state_of(const struct lvri_slot *slot) {
  return lvri_load_acquire_u32(&slot->sl_state);
}

/* --- 1 and 2 ------------------------------------------------------------------------------- */

/* Dead, seen from inside the guard: the slot cannot have been given away since. */
static int begin(struct lvri_arena *a, lvr_proc_id id) {
  struct lvri_guard *g = lvri_arena_guard(a);
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  struct lvri_slot *slot = lvri_slot_of(a, id);
  bool over = lvri_slot_over(a, id), running = slot && state_of(slot) == LVRI_SLOT_RUNNING;
  if (over && running) lvri_set32_shared(a, g, &slot->sl_state, LVRI_SLOT_OVER);
  lvri_guard_leave(a, g);
  if (!over) return -EBUSY;
  if (running) lvri_slot_tell(slot);
  LVR_CRASHPOINT("repair.begun");
  return 0;
}

/* A journal with records in it is a dead one's, or a living one's that is about to leave. */
static int settle_stripes(struct lvri_arena *a) {
  struct lvri_stripe_guard *stripes = lvri_arena_header(a)->ah_stripes;
  for (uint32_t i = 0; i < LVRI_ARENA_STRIPES; i++) {
    struct lvri_guard *g = &stripes[i].sg_guard;
    if (lvri_load_acquire_u32(&g->gd_count) == 0) continue;
    int error = lvri_guard_enter(a, g);
    if (error) return error;
    lvri_guard_leave(a, g);
  }
  return 0;
}

/* --- 3 ------------------------------------------------------------------------------------- */

static int give_back(struct lvri_arena *a, lvr_proc_id id, struct lvri_ledger_entry *entry) {
  const struct lvri_object_shm *object = lvri_at(a, entry->le_object);
  const struct lvri_kind_ops *ops = lvri_kinds[object->ob_kind];
  int error = 0;
  if (!ops) return 0;
  if (entry->le_held && ops->give_back) {
    error = ops->give_back(a, entry->le_object, &entry->le_held);
    LVR_CRASHPOINT("repair.unit.given");
  }
  if (ops->left) ops->left(a, entry->le_object, id);
  return error;
}

static int give_back_all(struct lvri_arena *a, lvr_proc_id id, lvri_off ledger) {
  for (uint32_t i = 0; i < lvri_ledger_len(a, ledger); i++) {
    struct lvri_ledger_entry *entry = lvri_ledger_entry(a, ledger, i);
    int error = entry->le_object ? give_back(a, id, entry) : 0;
    if (error) return error;
  }
  return 0;
}

/* --- 4 and 5 ------------------------------------------------------------------------------- */

static void strike_out(struct lvri_arena *a, lvr_proc_id id, struct lvri_ledger_entry *entry) {
  lvri_off off = entry->le_object;
  const struct lvri_object_shm *object = lvri_at(a, off);
  const struct lvri_kind_ops *ops = lvri_kinds[object->ob_kind];
  bool others = object->ob_refs > 1;
  lvri_set64(a, lvri_arena_guard(a), &entry->le_object, 0);
  lvri_object_unref_locked(a, off);
  if (others && ops && ops->left_locked) ops->left_locked(a, off, id);
}

/* From *index on, as many as the journal has room for. */
static int strike_batch(struct lvri_arena *a, lvr_proc_id id, lvri_off ledger, uint32_t *index) {
  struct lvri_guard *g = lvri_arena_guard(a);
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  struct lvri_ledger *l = lvri_at(a, ledger);
  uint32_t used = l->lg_used;
  for (; *index < l->lg_len && lvri_guard_room(g) > LVRI_UNREF_RECORDS + 2; ++*index) {
    struct lvri_ledger_entry *entry = lvri_ledger_entry(a, ledger, *index);
    if (!entry->le_object) continue;
    strike_out(a, id, entry);
    used--;
  }
  lvri_set32(a, g, &l->lg_used, used);
  LVR_CRASHPOINT("repair.batch.struck");
  lvri_guard_leave(a, g);
  return 0;
}

static int discard(struct lvri_arena *a, struct lvri_slot *slot) {
  struct lvri_guard *g = lvri_arena_guard(a);
  for (bool done = false; !done;) {
    int error = lvri_guard_enter(a, g);
    if (error) return error;
    done = lvri_ledger_discard_locked(a, &slot->sl_ledger);
    LVR_CRASHPOINT("repair.ledger.discarded");
    lvri_guard_leave(a, g);
  }
  return 0;
}

static int release_ledger(struct lvri_arena *a, lvr_proc_id id, struct lvri_slot *slot) {
  if (!slot->sl_ledger) return 0;
  int error = settle_stripes(a);
  if (!error) error = give_back_all(a, id, slot->sl_ledger);
  for (uint32_t index = 0; !error && index < lvri_ledger_len(a, slot->sl_ledger);)
    error = strike_batch(a, id, slot->sl_ledger, &index);
  return error ? error : discard(a, slot);
}

/* --- 6 ------------------------------------------------------------------------------------- */

/* It was forked, and has not come to its first instruction: it may have been stopped. */
static bool is_on_its_way(const struct lvri_slot *slot) {
  return slot->sl_forked && lvri_os_process_is((int32_t)slot->sl_forked, slot->sl_born_ticks);
}

static bool is_too_old(const struct lvri_slot *slot) {
  return lvri_os_now_ns() - (int64_t)slot->sl_prepared_ns > LVRI_EMBRYO_AGE_NS;
}

/* Nobody will be that embryo, as far as anybody can tell. */
static bool abandoned(struct lvri_arena *a, const struct lvri_slot *slot) {
  if (lvri_load_relaxed_u32(&slot->sl_flags) & LVRI_PROC_FORKING)
    return is_too_old(slot) && !is_on_its_way(slot);
  return lvri_slot_over(a, slot->sl_parent);
}

/* In a transaction of its own: what becomes of a child whose parent is over. True: it has to be
 * repaired, too. */
static int orphan(struct lvri_arena *a, lvr_proc_id id, struct lvri_slot *slot,
                  bool *ret_withdrawn) {
  struct lvri_guard *g = lvri_arena_guard(a);
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  if (lvri_slot_of(a, id) != slot) { /* freed meanwhile */
    lvri_guard_leave(a, g);
    *ret_withdrawn = false;
    return 0;
  }
  uint32_t flags = lvri_load_relaxed_u32(&slot->sl_flags);
  *ret_withdrawn = state_of(slot) == LVRI_SLOT_EMBRYO && abandoned(a, slot);
  if (flags & LVR_PROC_WATCHED) lvri_set32_shared(a, g, &slot->sl_flags, flags & ~LVR_PROC_WATCHED);
  if (*ret_withdrawn) lvri_set32_shared(a, g, &slot->sl_state, LVRI_SLOT_OVER);
  (void)lvri_slot_free_locked(a, slot);
  LVR_CRASHPOINT("repair.child.orphaned");
  lvri_guard_leave(a, g);
  return 0;
}

static int orphan_children(struct lvri_arena *a, lvr_proc_id parent, struct lvri_slot *slot) {
  uint32_t left = slot->sl_children;
  for (uint32_t index = 1; left > 0 && index <= lvri_slots_of(a)->st_count; index++) {
    struct lvri_slot *child = lvri_slot_at(a, index);
    if (state_of(child) == LVRI_SLOT_FREE || child->sl_parent != parent) continue;
    left--;
    bool withdrawn;
    lvr_proc_id id = lvri_load_relaxed_u64(&child->sl_id);
    int error = orphan(a, id, child, &withdrawn);
    if (!error && withdrawn) {
      lvri_slot_tell(child);
      error = repair_held(a, id);
    }
    if (error && error != -EBUSY) return error;
  }
  return 0;
}

/* --- 7 ------------------------------------------------------------------------------------- */

static int bury_slot(struct lvri_arena *a, struct lvri_slot *slot) {
  struct lvri_guard *g = lvri_arena_guard(a);
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  if (slot->sl_task) {
    lvri_heap_free_locked(a, slot->sl_task);
    lvri_set64(a, g, &slot->sl_task, 0);
  }
  lvri_slots_note_burial(a);
  lvri_set32_shared(a, g, &slot->sl_state, LVRI_SLOT_DEAD);
  (void)lvri_slot_free_locked(a, slot);
  LVR_CRASHPOINT("repair.slot.dead");
  lvri_guard_leave(a, g);
  return 0;
}

/* --- all of it ----------------------------------------------------------------------------- */

static int repair_held(struct lvri_arena *a, lvr_proc_id id) {
  int error = begin(a, id);
  struct lvri_slot *slot = lvri_slot_of(a, id);
  if (error || !slot || state_of(slot) == LVRI_SLOT_DEAD) return error;
  error = release_ledger(a, id, slot);
  if (!error) error = orphan_children(a, id, slot);
  if (!error) error = bury_slot(a, slot);
  if (!error) lvri_slot_tell(slot);
  return error;
}

static int lock_repair(struct lvri_arena *a) {
  struct lvri_mutex *m = &lvri_slots_of(a)->st_repair;
  int error = lvri_mutex_lock(m);
  if (error == -EOWNERDEAD) lvri_mutex_consistent(m); /* its work is done again from its start */
  return error == -EOWNERDEAD ? 0 : error;
}

int lvri_slot_repair(struct lvri_arena *a, lvr_proc_id id) {
  struct lvri_slot *slot = lvri_slot_of(a, id);
  if (!slot || state_of(slot) == LVRI_SLOT_DEAD) return 0;
  if (!lvri_slot_over(a, id)) return -EBUSY;
  int error = lock_repair(a);
  if (error) return error;
  LVR_CRASHPOINT("repair.locked");
  error = repair_held(a, id);
  lvri_mutex_unlock(&lvri_slots_of(a)->st_repair);
  lvri_grave_empty(a);
  return error;
}

/* --- everybody ----------------------------------------------------------------------------- */

/* DEAD and unwatched, but its alive word was still held when it was repaired. */
static int sweep_dead(struct lvri_arena *a, struct lvri_slot *slot, lvr_proc_id id) {
  struct lvri_guard *g = lvri_arena_guard(a);
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  bool freed = lvri_slot_of(a, id) && lvri_slot_free_locked(a, slot);
  lvri_guard_leave(a, g);
  return freed;
}

static int sweep_embryo(struct lvri_arena *a, struct lvri_slot *slot, lvr_proc_id id) {
  struct lvri_guard *g = lvri_arena_guard(a);
  if (!abandoned(a, slot)) return 0;
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  bool withdrawn = lvri_slot_of(a, id) && state_of(slot) == LVRI_SLOT_EMBRYO;
  if (withdrawn) lvri_set32_shared(a, g, &slot->sl_state, LVRI_SLOT_OVER);
  lvri_guard_leave(a, g);
  if (!withdrawn) return 0;
  lvri_slot_tell(slot);
  error = lvri_slot_repair(a, id);
  return error ? error : 1;
}

static int sweep_slot(struct lvri_arena *a, struct lvri_slot *slot) {
  lvr_proc_id id = lvri_load_acquire_u64(&slot->sl_id);
  uint32_t state = state_of(slot);
  if (state == LVRI_SLOT_FREE) return 0;
  if (state == LVRI_SLOT_EMBRYO) return sweep_embryo(a, slot, id);
  bool watched = lvri_load_relaxed_u32(&slot->sl_flags) & LVR_PROC_WATCHED;
  if (state == LVRI_SLOT_DEAD) return watched ? 0 : sweep_dead(a, slot, id);
  if (!lvri_slot_over(a, id)) return 0;
  int error = lvri_slot_repair(a, id);
  return error ? error : 1;
}

int lvri_slots_sweep(struct lvri_arena *a) {
  int count = 0;
  for (uint32_t index = 1; index <= lvri_slots_of(a)->st_count; index++) {
    int result = sweep_slot(a, lvri_slot_at(a, index));
    if (result < 0 && result != -EBUSY) return result;
    if (result > 0) count++;
  }
  lvri_grave_empty(a); /* what somebody left who was killed while he emptied it */
  return count;
}
