#include "core/holder.h"

#include "base/atomic.h"
#include "core/ledger.h"
#include "core/session.h"
#include "core/slots.h"

struct search {
  lvri_off object;
  bool found;
};

static void compare_entry(void *context, uint32_t index, const struct lvri_ledger_entry *entry) {
  struct search *search = context;
  (void)index;
  search->found |= entry->le_object == search->object;
}

static bool has_entry(struct lvri_arena *a, const struct lvri_slot *slot, lvri_off object) {
  struct search search = {.object = object};
  uint32_t state = lvri_load_relaxed_u32(&slot->sl_state);
  if (state != LVRI_SLOT_RUNNING && state != LVRI_SLOT_OVER) return false;
  if (slot->sl_ledger) lvri_ledger_each(a, slot->sl_ledger, compare_entry, &search);
  return search.found;
}

lvr_proc_id lvri_holder_find_locked(struct lvri_arena *a, lvri_off object, lvr_proc_id self) {
  lvr_proc_id holder = 0;
  for (uint32_t index = 1; index <= lvri_slots_of(a)->st_count; index++) {
    const struct lvri_slot *slot = lvri_slot_at(a, index);
    lvr_proc_id id = lvri_load_relaxed_u64(&slot->sl_id);
    if ((holder && id != self) || !has_entry(a, slot, object)) continue;
    holder = id;
    if (id == self) break;
  }
  return holder;
}

bool lvri_holder_is_self(lvr_session *s, lvri_off object) {
  lvri_session_lock(s);
  bool found = lvri_handles_find(&s->handles, object) != NULL;
  lvri_session_unlock(s);
  return found;
}

lvr_proc_id lvri_holder_find(lvr_session *s, lvri_off object) {
  struct lvri_arena *a = &s->arena;
  if (lvri_holder_is_self(s, object)) return lvri_session_self(s);
  if (lvri_guard_enter(a, lvri_arena_guard(a)) != 0) return 0;
  lvr_proc_id holder = lvri_holder_find_locked(a, object, lvri_session_self(s));
  lvri_guard_leave(a, lvri_arena_guard(a));
  return holder;
}
