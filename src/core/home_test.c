/* The session that a process lives in: one for all its threads, and what a forked child makes of
 * its parent's. Nobody looks into it here, so any address is a session. */
#include "core/home.h"

#include "base/atomic.h"
#include "testing/test.h"

static char places[8];

static lvr_session *place(int which) { return (lvr_session *)(void *)&places[which]; }

TEST(it_is_settled_in_once) {
  CHECK(lvri_home() == NULL && !lvri_home_is_inherited());
  CHECK(lvri_home_settle(place(0)));
  CHECK(!lvri_home_settle(place(1)) && !lvri_home_settle(place(0)));
  CHECK(lvri_home() == place(0) && !lvri_home_is_inherited());
}

static void move_out(void *argument) {
  (void)argument;
  CHECK(lvri_home() == place(0) && lvri_home_is_inherited());
  CHECK(!lvri_home_settle(place(1)) && lvri_home_is_inherited());
  lvri_home_leave(place(1)); /* it is another */
  CHECK(lvri_home() == place(0) && lvri_home_is_inherited());
  lvri_home_leave(place(0));
  CHECK(lvri_home() == NULL && !lvri_home_is_inherited());
  CHECK(lvri_home_settle(place(1)) && !lvri_home_is_inherited());
}

TEST(a_forked_child_has_its_parents_and_may_leave_it) {
  CHECK(lvri_home_settle(place(0)));
  CHECK_INT(test_join(test_fork(move_out, NULL)), 0);
  CHECK(lvri_home() == place(0) && !lvri_home_is_inherited());
}

static void settle_first(void *argument) {
  (void)argument;
  CHECK(lvri_home() == NULL && lvri_home_settle(place(0)) && !lvri_home_is_inherited());
}

TEST(a_child_of_who_had_none_has_its_own) {
  CHECK_INT(test_join(test_fork(settle_first, NULL)), 0);
  CHECK(lvri_home() == NULL);
}

enum { THREADS = 4, ROUNDS = 100 };

struct race {
  _Atomic uint32_t ready, settled, next;
};

static void settle_with_others(void *argument) {
  struct race *race = argument;
  uint32_t me = lvri_fetch_add_relaxed_u32(&race->next, 1);
  lvri_fetch_add_acq_rel_u32(&race->ready, 1);
  while (lvri_load_acquire_u32(&race->ready) < THREADS)
    lvri_cpu_relax();
  if (me % 2 == 0 && lvri_home_settle(place((int)me)))
    lvri_fetch_add_relaxed_u32(&race->settled, 1);
  while (!lvri_home())
    lvri_cpu_relax();
  CHECK(!lvri_home_is_inherited());
}

static void race_once(void *argument) {
  struct race race = {.ready = 0};
  (void)argument;
  test_threads(THREADS, settle_with_others, &race);
  CHECK_INT(lvri_load_relaxed_u32(&race.settled), 1);
}

/* Nor does anybody take the home that another thread settles in for one that he has inherited. */
TEST(of_several_threads_one_settles) {
  for (int round = 0; round < ROUNDS; round++)
    CHECK_INT(test_join(test_fork(race_once, NULL)), 0);
}
