#include "core/event.h"

#include "core/locking_test.h"

struct fixture {
  lvr_session *s;
  lvr_event *e;
  _Atomic uint32_t *step;
};

static struct fixture new_fixture(void) {
  struct fixture f = {.s = new_session(), .step = test_shared(2 * sizeof(uint32_t))};
  CHECK_INT(lvr_event_create(f.s, &f.e), 0);
  return f;
}

TEST(is_a_flag) {
  struct fixture f = new_fixture();
  CHECK(!lvr_event_is_set(f.e));
  CHECK_INT(lvr_event_wait_until(f.e, 0), -ETIMEDOUT);
  lvr_event_set(f.e);
  lvr_event_set(f.e);
  CHECK(lvr_event_is_set(f.e));
  CHECK_INT(lvr_event_wait_until(f.e, LVR_FOREVER), 0);
  CHECK_INT(lvr_event_wait_until(f.e, 0), 0);
  lvr_event_clear(f.e);
  lvr_event_clear(f.e);
  CHECK(!lvr_event_is_set(f.e));
  int64_t start_ns = lvri_os_now_ns();
  CHECK_INT(lvr_event_wait_until(f.e, start_ns + 130 * MS), -ETIMEDOUT);
  CHECK(lvri_os_now_ns() - start_ns >= 130 * MS);
}

static void wait_for_it(void *argument) {
  struct fixture *f = argument;
  (void)lvri_fetch_add_acq_rel_u32(f->step, 1);
  CHECK_INT(lvr_event_wait_until(f->e, in_ns(10 * SEC)), 0);
}

/* All wake, although the flag is down again before any of them can look. */
TEST(set_and_clear_wakes_all) {
  enum { WAITERS = 4 };
  struct fixture f = new_fixture();
  pid_t pids[WAITERS];
  lvri_relook_ns = 60 * SEC;
  for (int i = 0; i < WAITERS; i++)
    pids[i] = test_fork(wait_for_it, &f);
  await_u32(f.step, WAITERS);
  for (int i = 0; i < WAITERS; i++)
    await_asleep(pids[i]);
  int64_t start_ns = lvri_os_now_ns();
  lvr_event_set(f.e);
  lvr_event_clear(f.e);
  for (int i = 0; i < WAITERS; i++)
    CHECK_INT(test_join(pids[i]), 0);
  CHECK(lvri_os_now_ns() - start_ns < LVRI_RELOOK_NS);
  CHECK(!lvr_event_is_set(f.e));
}

TEST(a_mark_outlasts_an_interruption) {
  struct fixture f = new_fixture();
  uint32_t mark = lvr_event_mark(f.e);
  CHECK_INT(lvr_event_wait_since_until(f.e, mark, in_ns(2 * MS)), -ETIMEDOUT);
  lvr_event_set(f.e);
  lvr_event_clear(f.e);
  CHECK_INT(lvr_event_wait_since_until(f.e, mark, in_ns(2 * MS)), 0);
  CHECK_INT(lvr_event_wait_until(f.e, in_ns(2 * MS)), -ETIMEDOUT);
}

/* The count of sets starts anew without anybody noticing. */
TEST(the_count_wraps_around) {
  struct fixture f = new_fixture();
  _Atomic uint32_t *word = &((struct lvr_event_shm *)(void *)f.e->handle.object)->ev_word;
  lvri_store_relaxed_u32(word, UINT32_MAX & ~(LVRI_EVENT_SET | LVRI_EVENT_WAITERS));
  uint32_t mark = lvr_event_mark(f.e);
  lvr_event_set(f.e);
  CHECK(lvr_event_is_set(f.e));
  CHECK_INT(lvr_event_mark(f.e), 0);
  lvr_event_clear(f.e);
  CHECK_INT(lvr_event_wait_since_until(f.e, mark, 0), 0);
}

static void be_interrupted(void *argument) {
  struct fixture *f = argument;
  catch_signals();
  lvri_store_release_u32(f->step, 1);
  CHECK_INT(lvr_event_wait_until(f->e, in_ns(10 * SEC)), -EINTR);
  lvri_store_release_u32(f->step, 2);
}

TEST(signals_interrupt) {
  struct fixture f = new_fixture();
  pid_t pid = test_fork(be_interrupted, &f);
  await_u32(f.step, 1);
  while (lvri_load_acquire_u32(f.step) < 2) {
    CHECK_INT(kill(pid, SIGUSR1), 0);
    (void)sched_yield();
  }
  CHECK_INT(test_join(pid), 0);
}

static void play(void *argument) {
  struct fixture *f = argument;
  _Atomic uint32_t *ball = f->step + 1;
  for (uint32_t i = 0; i < 2000; i++) {
    CHECK_INT(lvr_event_wait_until(f->e, in_ns(10 * SEC)), 0);
    lvr_event_clear(f->e);
    lvri_store_release_u32(ball, i + 1);
  }
}

TEST(loses_no_set) {
  struct fixture f = new_fixture();
  pid_t pid = test_fork(play, &f);
  for (uint32_t i = 0; i < 2000; i++) {
    lvr_event_set(f.e);
    await_u32(f.step + 1, i + 1);
  }
  CHECK_INT(test_join(pid), 0);
}

/* --- killed at every step ------------------------------------------------------------------ */

static void crash_setup(void *state) {
  struct fixture *f = state;
  *f = new_fixture();
}

static void crash_action(void *state) {
  struct fixture *f = state;
  CHECK_INT(lvr_event_wait_until(f->e, in_ns(2 * MS)), -ETIMEDOUT);
  lvr_event_set(f->e);
  lvr_event_clear(f->e);
}

static void crash_check(void *state, bool done) {
  struct fixture *f = state;
  (void)done;
  lvr_event_clear(f->e);
  CHECK_INT(lvr_event_wait_until(f->e, 0), -ETIMEDOUT);
  lvr_event_set(f->e);
  CHECK_INT(lvr_event_wait_until(f->e, 0), 0);
}

static void crash_teardown(void *state) {
  struct fixture *f = state;
  lvr_event_detach(f->e);
  check_session(f->s);
  lvr_session_detach(f->s);
}

TEST(killed_at_every_step) {
  static const struct crash_scenario scenario = {
      "event",     sizeof(struct fixture), crash_setup, crash_action, NULL,
      crash_check, crash_teardown};
  (void)crash_run(&scenario);
  CHECK_INT(crash_unvisited("event."), 0);
}

/* Who set it was killed before he woke anybody: the relook finds it. */
TEST(a_setter_dies_before_the_wake) {
  struct fixture f = new_fixture();
  pid_t waiter = test_fork(wait_for_it, &f);
  await_u32(f.step, 1);
  await_asleep(waiter);
  pid_t setter = fork();
  if (setter == 0) {
    lvri_crashpoint_arm(LVRI_CRASH_KILL, "event.set.set", 1);
    lvr_event_set(f.e);
    _exit(1);
  }
  CHECK_INT(test_join(setter), -SIGKILL);
  CHECK_INT(test_join(waiter), 0);
}
