#include "core/slots.h"

#include <errno.h>

#include "core/ledger.h"
#include "core/repair.h"
#include "os/os.h"
#include "testing/fixture.h"
#include "testing/test.h"

TEST(owner_words_are_there_and_back) {
  const lvr_proc_id ids[] = {lvri_proc_id_of(1, 1), lvri_proc_id_of(0xffffff, 0xffff),
                             lvri_proc_id_of(0x4000, 77), lvri_proc_id_of(0x123456789, 16383)};
  const int32_t pids[] = {1, 4194304, LVRI_OWNER_PID_MAX};
  for (size_t i = 0; i < 4; i++) {
    for (size_t k = 0; k < 3; k++) {
      uint64_t word = lvri_owner_make(ids[i], pids[k]);
      CHECK_INT(word & LVRI_OWNER_BITS, 0);
      CHECK((uint32_t)word != 0);
      CHECK_INT(lvri_owner_index(word), lvri_proc_index(ids[i]));
      CHECK_INT(lvri_owner_pid(word), pids[k] & LVRI_OWNER_PID_MAX);
      CHECK_INT(lvri_owner_generation(word), lvri_proc_generation(ids[i]) & 0xffffff);
      CHECK_INT(lvri_owner_index(word | LVRI_OWNER_BITS), lvri_proc_index(ids[i]));
      CHECK_INT(lvri_owner_generation(word | LVRI_OWNER_BITS), lvri_owner_generation(word));
    }
  }
}

TEST(owners_are_known_by_their_word) {
  lvr_session *s = fixture_session(), *t;
  CHECK_INT(lvr_session_attach(lvr_session_fd(s), 0, &t), 0);
  uint64_t ours = lvri_owner_word(s), word = lvri_owner_word(t);
  CHECK(lvri_owner_id(&s->arena, word) == lvr_proc_self(t));
  CHECK_INT(lvri_owner_pid(word), lvri_os_pid());
  CHECK(lvri_owner_alive(&s->arena, word | LVRI_OWNER_BITS));
  CHECK(!lvri_owner_alive(&s->arena, 0));
  CHECK(!lvri_owner_alive(&s->arena, UINT64_MAX));
  CHECK_INT(lvri_owner_id(&s->arena, UINT64_MAX), 0);
  lvr_session_detach(t);
  CHECK(!lvri_owner_alive(&s->arena, word));
  CHECK_INT(lvri_owner_id(&s->arena, word), 0);
  CHECK(lvri_owner_alive(&s->arena, ours));
}

static lvr_proc_id prepare(lvr_session *s) {
  lvr_proc_id id;
  CHECK_INT(lvr_proc_prepare(s, 0, &id), 0);
  return id;
}

/* The slot that has been free for longest comes first: so ids are far apart in time. */
TEST(slots_are_given_away_oldest_first) {
  lvr_session *s = fixture_small_session(20);
  lvr_proc_id ids[19];
  for (int i = 0; i < 19; i++)
    ids[i] = prepare(s);
  CHECK_INT(lvr_proc_prepare(s, 0, &(lvr_proc_id){0}), -EAGAIN);
  fixture_check(s);
  const int order[] = {7, 3, 12};
  for (int i = 0; i < 3; i++)
    CHECK_INT(lvr_proc_withdraw(s, ids[order[i]]), 0);
  for (int i = 0; i < 3; i++) {
    lvr_proc_id id = prepare(s);
    CHECK_INT(lvri_proc_index(id), lvri_proc_index(ids[order[i]]));
    CHECK_INT(lvri_proc_generation(id), lvri_proc_generation(ids[order[i]]) + 1);
    CHECK(lvri_slot_of(&s->arena, ids[order[i]]) == NULL);
    CHECK_INT(lvr_proc_withdraw(s, ids[order[i]]), -ESRCH);
  }
  fixture_check(s);
}

/* More than one chunk, and every id still finds its slot. */
TEST(the_table_grows) {
  lvr_session *s = fixture_session();
  enum { MANY = 1500 };
  static lvr_proc_id ids[MANY];
  for (int i = 0; i < MANY; i++)
    ids[i] = prepare(s);
  CHECK_INT(fixture_stats(s).slots_embryo, MANY);
  fixture_check(s);
  for (int i = 0; i < MANY; i++) {
    CHECK(lvri_slot_of(&s->arena, ids[i]) != NULL);
    for (int k = i - 3; k < i; k++)
      CHECK(k < 0 || ids[k] != ids[i]);
    CHECK_INT(lvr_proc_withdraw(s, ids[i]), 0);
  }
  CHECK_INT(fixture_stats(s).slots_embryo, 0);
  fixture_check(s);
}

TEST(ids_from_anywhere) {
  lvr_session *s = fixture_session();
  const lvr_proc_id odd[] = {0,
                             1,
                             0xffff,
                             UINT64_MAX,
                             1ULL << 63,
                             lvri_proc_id_of(1, 300),
                             lvri_proc_id_of(1, 2),
                             lvri_proc_id_of(2, 1)};
  struct lvr_proc_info info;
  int32_t number;
  for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
    CHECK(!lvr_proc_is_alive(s, odd[i]));
    CHECK_INT(lvr_proc_info(s, odd[i], &info), -ESRCH);
    CHECK_INT(lvr_proc_withdraw(s, odd[i]), -ESRCH);
    CHECK_INT(lvr_proc_forget(s, odd[i]), -ESRCH);
    CHECK_INT(lvr_proc_set_status(s, odd[i], 0), -ESRCH);
    CHECK_INT(lvr_proc_wait_until(s, odd[i], INT64_MAX, &number), -ESRCH);
    CHECK_INT(lvr_proc_wait_born_until(s, odd[i], INT64_MAX, &number), -ESRCH);
    CHECK_INT(lvri_slot_repair(&s->arena, odd[i]), 0);
    CHECK(lvri_slot_alive_word(&s->arena, odd[i], &(uint32_t){0}) == NULL);
    CHECK(!lvri_slot_alive_thoroughly(&s->arena, odd[i]));
  }
  CHECK_INT(lvri_slot_repair(&s->arena, lvr_proc_self(s)), -EBUSY);
  CHECK_INT(lvr_proc_withdraw(s, lvr_proc_self(s)), -EBUSY);
  CHECK_INT(lvr_proc_forget(s, lvr_proc_self(s)), -EPERM);
}
