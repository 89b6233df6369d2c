/* Units: taken, consumed, held, given back. That a semaphore keeps others out is in lock_test.c. */
#include "core/semaphore.h"

#include "core/locking_test.h"

struct fixture {
  lvr_session *s;
  lvr_semaphore *m;
  _Atomic uint32_t *step;
};

static struct fixture fixture_of(uint32_t value, uint32_t limit) {
  struct fixture f = {.s = new_session(), .step = test_shared(sizeof(uint32_t))};
  CHECK_INT(lvr_semaphore_create(f.s, value, limit, &f.m), 0);
  return f;
}

/* Units that are out and will come back. */
static uint32_t held(const struct fixture *f) {
  const struct lvr_semaphore_shm *shm = lvri_semaphore_shm(f->m);
  return shm->se_held - shm->se_strange;
}

static void take(struct fixture *f, bool hold) {
  CHECK_INT(lvr_semaphore_acquire_until(f->m, hold, in_ns(5 * SEC)), 0);
}

static void put(struct fixture *f, bool hold) { CHECK_INT(lvr_semaphore_release(f->m, hold), 0); }

TEST(refuses_nonsense) {
  struct fixture f = fixture_of(0, 0);
  lvr_semaphore *m;
  CHECK_INT(lvr_semaphore_limit(f.m), LVR_SEMAPHORE_MAX);
  CHECK_INT(lvr_semaphore_create(f.s, 2, 1, &m), -EINVAL);
  CHECK_INT(lvr_semaphore_create(f.s, 0x80000000u, 0, &m), -EINVAL);
  CHECK_INT(lvr_semaphore_create(f.s, 0, 0x80000000u, &m), -EINVAL);
}

TEST(does_not_overflow) {
  struct fixture f = fixture_of(LVR_SEMAPHORE_MAX, 0);
  CHECK_INT(lvr_semaphore_release(f.m, false), -EOVERFLOW);
  CHECK_INT(lvr_semaphore_release(f.m, true), -EOVERFLOW);
  take(&f, false);
  put(&f, false);
  CHECK_INT(lvr_semaphore_value(f.m), LVR_SEMAPHORE_MAX);
}

TEST(counts) {
  struct fixture f = fixture_of(2, 3);
  take(&f, true);
  take(&f, false);
  CHECK_INT(lvr_semaphore_value(f.m), 0);
  CHECK_INT(lvr_semaphore_try(f.m, true), -EBUSY);
  CHECK_INT(lvr_semaphore_try(f.m, false), -EBUSY);
  CHECK_INT(held(&f), 1);
  put(&f, true);
  put(&f, false);
  put(&f, false);
  CHECK_INT(lvr_semaphore_value(f.m), 3);
  CHECK_INT(held(&f), 0);
  CHECK_INT(lvr_semaphore_release(f.m, false), -EOVERFLOW);
  CHECK_INT(lvr_semaphore_release(f.m, true), -EOVERFLOW);
  CHECK_INT(lvr_semaphore_try(f.m, true), 0);
  CHECK_INT(lvr_semaphore_try(f.m, false), 0);
  check_session(f.s);
}

/* --- units and deaths ---------------------------------------------------------------------- */

static void hold_two_consume_one(void *argument) {
  struct fixture *f = argument;
  take(f, true);
  take(f, true);
  take(f, false);
  (void)raise(SIGKILL);
}

TEST(held_units_come_back) {
  struct fixture f = fixture_of(5, 5);
  CHECK_INT(test_join(test_fork(hold_two_consume_one, &f)), -SIGKILL);
  CHECK_INT(lvr_semaphore_value(f.m), 2);
  CHECK(lvr_repair(f.s) >= 1);
  CHECK_INT(lvr_semaphore_value(f.m), 4);
  CHECK_INT(held(&f), 0);
}

static void hold_one_and_end(void *argument) { take(argument, true); }

TEST(held_units_come_back_after_an_orderly_end) {
  struct fixture f = fixture_of(1, 1);
  CHECK_INT(test_join(test_fork(hold_one_and_end, &f)), 0);
  CHECK(lvr_repair(f.s) >= 1);
  CHECK_INT(lvr_semaphore_value(f.m), 1);
}

/* A child has its parent's handle, but none of its units. */
static void hold_nothing(void *argument) {
  struct fixture *f = argument;
  CHECK_INT(lvri_handle_entry(&f->m->handle)->le_held, 0);
}

TEST(a_child_holds_nothing) {
  struct fixture f = fixture_of(1, 1);
  take(&f, true);
  CHECK_INT(test_join(test_fork(hold_nothing, &f)), 0);
  CHECK(lvr_repair(f.s) >= 1);
  CHECK_INT(lvr_semaphore_value(f.m), 0);
}

static void hold_three_and_wait(void *argument) {
  struct fixture *f = argument;
  for (int i = 0; i < 3; i++)
    take(f, true);
  lvri_store_release_u32(f->step, 1);
  await_u32(f->step, 2);
}

/* Who makes takes the units, who consumes releases them: what comes back is what is still out, and
 * releasing that late does no harm. */
TEST(units_released_by_another) {
  struct fixture f = fixture_of(3, 3);
  pid_t pid = test_fork(hold_three_and_wait, &f);
  await_u32(f.step, 1);
  put(&f, true);
  put(&f, true);
  CHECK_INT(lvr_semaphore_value(f.m), 2);
  CHECK_INT(held(&f), 1);
  lvri_store_release_u32(f.step, 2);
  CHECK_INT(test_join(pid), 0);
  CHECK(lvr_repair(f.s) >= 1);
  CHECK_INT(lvr_semaphore_value(f.m), 3);
  put(&f, true);
  CHECK_INT(lvr_semaphore_value(f.m), 3);
  CHECK_INT(lvr_semaphore_release(f.m, true), -EOVERFLOW);
}

static void hold_one_and_wait(void *argument) {
  struct fixture *f = argument;
  take(f, true);
  lvri_store_release_u32(f->step, 1);
  await_u32(f->step, 2);
}

/* The end of somebody whose unit was released by another does not take a third one's from him. */
TEST(a_death_invents_no_unit) {
  struct fixture f = fixture_of(1, 1);
  pid_t pid = test_fork(hold_one_and_wait, &f);
  await_u32(f.step, 1);
  put(&f, true);
  take(&f, true);
  lvri_store_release_u32(f.step, 2);
  CHECK_INT(test_join(pid), 0);
  CHECK(lvr_repair(f.s) >= 1);
  CHECK_INT(lvr_semaphore_value(f.m), 0);
  CHECK_INT(held(&f), 1);
  put(&f, true);
  CHECK_INT(lvr_semaphore_value(f.m), 1);
  CHECK_INT(held(&f), 0);
}

/* A child that leaves its parent's `with`: the unit is there twice, as with any semaphore. */
static void release_it(void *argument) { put(argument, true); }

TEST(a_unit_released_by_parent_and_child) {
  struct fixture f = fixture_of(1, 0);
  take(&f, true);
  CHECK_INT(test_join(test_fork(release_it, &f)), 0);
  put(&f, true);
  CHECK(lvr_repair(f.s) >= 1);
  CHECK_INT(lvr_semaphore_value(f.m), 2);
  CHECK_INT(held(&f), 0);
  check_session(f.s);
}

/* Units outlive the handle that they were taken with, and are known to the next one. */
TEST(units_outlive_a_handle) {
  struct fixture f = fixture_of(2, 2);
  lvr_ref ref;
  CHECK_INT(lvr_semaphore_send(f.m, &ref), 0);
  take(&f, true);
  lvr_semaphore_detach(f.m);
  CHECK_INT(lvr_semaphore_attach(f.s, &ref, &f.m), 0);
  CHECK_INT(lvr_semaphore_value(f.m), 1);
  CHECK_INT(lvri_handle_entry(&f.m->handle)->le_held, 1);
  put(&f, true);
  CHECK_INT(held(&f), 0);
  lvr_semaphore_detach(f.m);
  CHECK_INT(lvr_semaphore_attach(f.s, &ref, &f.m), -ESTALE);
}

/* --- waiters ------------------------------------------------------------------------------- */

static void take_one(void *argument) {
  struct fixture *f = argument;
  (void)lvri_fetch_add_acq_rel_u32(f->step, 1);
  take(f, false);
}

TEST(as_many_wake_as_there_are_units) {
  enum { WAITERS = 6 };
  struct fixture f = fixture_of(0, 0);
  pid_t pids[WAITERS];
  lvri_relook_ns = 60 * SEC;
  for (int i = 0; i < WAITERS; i++)
    pids[i] = test_fork(take_one, &f);
  await_u32(f.step, WAITERS);
  for (int i = 0; i < WAITERS; i++)
    await_asleep(pids[i]);
  int64_t start_ns = lvri_os_now_ns();
  for (int i = 0; i < WAITERS; i++)
    put(&f, false);
  for (int i = 0; i < WAITERS; i++)
    CHECK_INT(test_join(pids[i]), 0);
  CHECK(lvri_os_now_ns() - start_ns < LVRI_RELOOK_NS);
  CHECK_INT(lvr_semaphore_value(f.m), 0);
}

/* WAITERS was taken back between a wake-up and the return of who was woken: he sets it again, and
 * wakes the next if there is more. */
TEST(who_was_woken_cares_for_the_rest) {
  struct fixture f = fixture_of(0, 0);
  _Atomic uint64_t *word = &lvri_semaphore_shm(f.m)->se_word;
  lvri_relook_ns = 60 * SEC;
  for (uint32_t units = 1; units <= 2; units++) {
    pid_t pids[2];
    lvri_store_release_u32(f.step, 0);
    for (int i = 0; i < 2; i++)
      pids[i] = test_fork(take_one, &f);
    await_u32(f.step, 2);
    for (int i = 0; i < 2; i++)
      await_asleep(pids[i]);
    int64_t start_ns = lvri_os_now_ns();
    lvri_store_release_u64(word, units);
    (void)lvri_wake((_Atomic uint32_t *)(void *)word, 1);
    while (lvr_semaphore_value(f.m) != 0)
      (void)sched_yield();
    if (units == 1) put(&f, false);
    for (int i = 0; i < 2; i++)
      CHECK_INT(test_join(pids[i]), 0);
    CHECK(lvri_os_now_ns() - start_ns < LVRI_RELOOK_NS / 2);
  }
}

static void take_a_held_one(void *argument) { take(argument, true); }

/* A swap waits for a guarded change that is under way: neither is lost. */
TEST(a_swap_does_not_come_between) {
  struct fixture f = fixture_of(3, 0);
  pid_t stopped = crash_stop_at("semaphore.word.locked", 1, take_a_held_one, &f);
  pid_t taker = test_fork(take_one, &f);
  await_u32(f.step, 1);
  await_asleep(taker);
  CHECK_INT(lvr_semaphore_value(f.m), 3);
  test_continue(stopped);
  CHECK_INT(test_join(stopped), 0);
  CHECK_INT(test_join(taker), 0);
  CHECK_INT(lvr_semaphore_value(f.m), 1);
}

enum { ROUNDS = 20000 };

static void produce(void *argument) {
  for (int i = 0; i < ROUNDS; i++)
    put(argument, i & 1);
}

static void consume(void *argument) {
  for (int i = 0; i < ROUNDS; i++)
    take(argument, i & 1);
}

/* Swaps and guarded changes of one word, from all sides. */
TEST_WITHIN(loses_no_unit, 60) {
  struct fixture f = fixture_of(0, 0);
  pid_t pids[4];
  for (int i = 0; i < 4; i++)
    pids[i] = test_fork(i & 1 ? produce : consume, &f);
  for (int i = 0; i < 4; i++)
    CHECK_INT(test_join(pids[i]), 0);
  CHECK_INT(lvr_semaphore_value(f.m), 0);
  check_session(f.s);
}

/* --- killed at every step ------------------------------------------------------------------ */

static void crash_setup(void *state) {
  struct fixture *f = state;
  *f = fixture_of(3, 3);
}

static void crash_action(void *state) {
  struct fixture *f = state;
  take(f, true);
  take(f, true);
  put(f, true);
  take(f, true);
  take(f, true);
  CHECK_INT(lvr_semaphore_acquire_until(f->m, true, in_ns(2 * MS)), -ETIMEDOUT);
  put(f, true);
  put(f, true);
  put(f, true);
}

static void crash_recover(void *state) {
  struct fixture *f = state;
  CHECK(lvr_repair(f->s) >= 0);
}

/* Whoever died, there are three units again, and all of them can be had, either way. */
static void crash_check(void *state, bool done) {
  struct fixture *f = state;
  (void)done;
  CHECK_INT(lvr_semaphore_value(f->m), 3);
  CHECK_INT(held(f), 0);
  take(f, false);
  take(f, true);
  take(f, false);
  CHECK_INT(lvr_semaphore_try(f->m, true), -EBUSY);
  put(f, false);
  put(f, true);
  put(f, false);
  CHECK_INT(lvr_semaphore_value(f->m), 3);
}

static void crash_teardown(void *state) {
  struct fixture *f = state;
  lvr_semaphore_detach(f->m);
  check_session(f->s);
  lvr_session_detach(f->s);
}

/* The same without holding: a unit is there, or it is consumed. Somebody has died with the word
 * LOCKED, so that it goes the long way first. */
static void consume_setup(void *state) {
  struct fixture *f = state;
  crash_setup(state);
  (void)lvri_fetch_or_acquire_u64(&lvri_semaphore_shm(f->m)->se_word, LVRI_SEMAPHORE_LOCKED);
}

static void consume_action(void *state) {
  struct fixture *f = state;
  take(f, false);
  take(f, false);
  take(f, false);
  CHECK_INT(lvr_semaphore_acquire_until(f->m, false, in_ns(2 * MS)), -ETIMEDOUT);
  for (int i = 0; i < 3; i++)
    put(f, false);
}

static void consume_check(void *state, bool done) {
  struct fixture *f = state;
  uint32_t value = lvr_semaphore_value(f->m);
  CHECK(value <= 3 && (!done || value == 3));
  CHECK_INT(held(f), 0);
  for (; value < 3; value++)
    put(f, false);
  crash_check(state, true);
}

TEST_WITHIN(killed_at_every_step, 60) {
  static const struct crash_scenario holding = {
      "semaphore, held", sizeof(struct fixture), crash_setup, crash_action, crash_recover,
      crash_check,       crash_teardown};
  static const struct crash_scenario consuming = {
      "semaphore, consumed", sizeof(struct fixture), consume_setup, consume_action,
      crash_recover,         consume_check,          crash_teardown};
  (void)crash_run(&holding);
  (void)crash_run(&consuming);
  CHECK_INT(crash_unvisited("semaphore."), 0);
  (void)crash_run_repairer(&holding, 50);
}
