#include "testing/fixture.h"

#include "core/slots.h"
#include "testing/test.h"

lvr_session *fixture_small_session(uint32_t max_processes) {
  struct lvr_session_options options = {.max_processes = max_processes};
  lvr_session *s;
  lvri_test_kind.handle_bytes = sizeof(struct lvri_handle);
  CHECK_INT(lvr_session_create(&options, &s), 0);
  return s;
}

lvr_session *fixture_session(void) { return fixture_small_session(0); }

struct lvri_handle *fixture_object(lvr_session *s) {
  struct lvri_handle *h;
  CHECK_INT(lvri_object_create(s, LVRI_KIND_TEST, 64, &h), 0);
  return h;
}

lvr_proc_id fixture_prepare(lvr_session *s) {
  lvr_proc_id id;
  CHECK_INT(lvr_proc_prepare(s, LVR_PROC_WATCHED, &id), 0);
  return id;
}

struct lvr_session_stats fixture_stats(lvr_session *s) {
  struct lvr_session_stats stats;
  CHECK_INT(lvr_session_stats(s, &stats), 0);
  return stats;
}

void fixture_age_embryos(lvr_session *s) {
  for (uint32_t i = 1; i <= lvri_slots_of(&s->arena)->st_count; i++) {
    struct lvri_slot *slot = lvri_slot_at(&s->arena, i);
    if (lvri_load_relaxed_u32(&slot->sl_state) != LVRI_SLOT_EMBRYO) continue;
    if (lvri_load_relaxed_u32(&slot->sl_flags) & LVRI_PROC_FORKING)
      slot->sl_prepared_ns -= 2 * (uint64_t)LVRI_EMBRYO_AGE_NS;
  }
}

void fixture_check(lvr_session *s) { CHECK_INT(lvr_session_check(s), 0); }
