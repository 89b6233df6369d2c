#include "core/condition.h"

#include "core/locking_test.h"

struct board {
  _Atomic uint32_t arrived;
  _Atomic uint32_t passed;
  uint32_t order[16]; /* who passed when; under l */
  int64_t items;      /* under l */
};

struct fixture {
  lvr_session *s;
  lvr_lock *l;
  lvr_condition *c;
  struct board *board;
  uint32_t me;
};

static struct fixture fixture_of(enum lvr_lock_kind kind) {
  struct fixture f = {.s = new_session(), .board = test_shared(sizeof(struct board))};
  CHECK_INT(lvr_lock_create(f.s, kind, &f.l), 0);
  CHECK_INT(lvr_condition_create(f.s, &f.c), 0);
  return f;
}

static void lock(struct fixture *f) { CHECK(lvr_lock_acquire_until(f->l, in_ns(10 * SEC)) >= 0); }

static void unlock(struct fixture *f) { CHECK_INT(lvr_lock_release(f->l), 0); }

static uint32_t notify(struct fixture *f, uint32_t count) {
  uint32_t woken = 77;
  lock(f);
  CHECK_INT(lvr_condition_notify(f->c, count, &woken), 0);
  unlock(f);
  return woken;
}

static void wait_once(void *argument) {
  struct fixture *f = argument;
  lock(f);
  (void)lvri_fetch_add_acq_rel_u32(&f->board->arrived, 1);
  CHECK_INT(lvr_condition_wait_until(f->c, f->l, in_ns(10 * SEC)), 0);
  CHECK(lvr_lock_is_mine(f->l));
  f->board->order[lvri_fetch_add_acq_rel_u32(&f->board->passed, 1) % 16] = f->me;
  unlock(f);
}

/* Forks a waiter; returns once it is in the queue, behind those before it. */
static pid_t new_waiter(struct fixture *f) {
  uint32_t waiting = lvr_condition_waiting(f->c);
  pid_t pid = test_fork(wait_once, f);
  while (lvr_condition_waiting(f->c) == waiting)
    (void)sched_yield();
  return pid;
}

TEST(wakes_in_the_order_of_arrival) {
  struct fixture f = fixture_of(LVR_LOCK);
  pid_t pids[4];
  for (f.me = 0; f.me < 4; f.me++)
    pids[f.me] = new_waiter(&f);
  CHECK_INT(notify(&f, 1), 1);
  await_u32(&f.board->passed, 1);
  CHECK_INT(notify(&f, 1), 1);
  await_u32(&f.board->passed, 2);
  CHECK_INT(lvr_condition_waiting(f.c), 2);
  CHECK_INT(notify(&f, UINT32_MAX), 2);
  for (int i = 0; i < 4; i++)
    CHECK_INT(test_join(pids[i]), 0);
  CHECK_INT(f.board->order[0], 0);
  CHECK_INT(f.board->order[1], 1);
  CHECK_INT(notify(&f, 1), 0);
  check_session(f.s);
}

TEST(a_notification_skips_the_dead) {
  struct fixture f = fixture_of(LVR_LOCK);
  pid_t pids[3];
  for (int i = 0; i < 3; i++)
    pids[i] = new_waiter(&f);
  test_kill(pids[0]);
  CHECK_INT(notify(&f, 1), 1);
  CHECK_INT(test_join(pids[1]), 0);
  test_kill(pids[2]);
  CHECK_INT(notify(&f, 1), 0);
  CHECK_INT(lvr_condition_waiting(f.c), 0);
  check_session(f.s);
}

TEST(repair_frees_the_dead) {
  struct fixture f = fixture_of(LVR_LOCK);
  pid_t pids[3];
  for (int i = 0; i < 3; i++)
    pids[i] = new_waiter(&f);
  test_kill(pids[1]);
  CHECK(lvr_repair(f.s) >= 1);
  CHECK_INT(lvr_condition_waiting(f.c), 2);
  CHECK_INT(notify(&f, 5), 2);
  CHECK_INT(test_join(pids[0]), 0);
  CHECK_INT(test_join(pids[2]), 0);
  check_session(f.s);
}

TEST(gives_the_lock_back_whole) {
  struct fixture f = fixture_of(LVR_RLOCK);
  lock(&f);
  lock(&f);
  lock(&f);
  CHECK_INT(lvr_condition_wait_until(f.c, f.l, in_ns(2 * MS)), -ETIMEDOUT);
  CHECK_INT(lvr_lock_count(f.l), 3);
  CHECK_INT(lvr_condition_waiting(f.c), 0);
  CHECK_INT(lvr_condition_wait_until(f.c, f.l, 0), -ETIMEDOUT);
  CHECK_INT(lvr_lock_count(f.l), 3);
}

TEST(wants_the_lock_held) {
  struct fixture f = fixture_of(LVR_RLOCK), g = fixture_of(LVR_LOCK);
  CHECK_INT(lvr_condition_wait_until(f.c, f.l, 0), -EPERM);
  CHECK_INT(lvr_condition_wait_until(g.c, g.l, 0), -EINVAL);
  CHECK_INT(lvr_condition_waiting(f.c), 0);
  CHECK_INT(lvr_condition_waiting(g.c), 0);
}

static void notify_one(void *argument) { CHECK_INT(notify(argument, 1), 1); }

/* Whoever is notified at the last moment is notified, even if he was not going to wait any more. */
TEST(a_notification_is_not_lost_to_a_timeout) {
  struct fixture f = fixture_of(LVR_LOCK);
  struct lvr_condition_wait w;
  lock(&f);
  CHECK_INT(lvr_condition_wait_begin(f.c, f.l, &w), 0);
  CHECK_INT(lvr_condition_wait_sleep(&w, in_ns(MS)), -ETIMEDOUT);
  CHECK_INT(test_join(test_fork(notify_one, &f)), 0);
  CHECK_INT(lvr_condition_wait_end(&w), 0);
  CHECK_INT(lvr_condition_wait_end(&w), -EINVAL);
  CHECK_INT(lvr_condition_retake(&w), 0);
  CHECK(lvr_lock_is_mine(f.l));
}

static void be_interrupted(void *argument) {
  struct fixture *f = argument;
  struct lvr_condition_wait w;
  int slept;
  catch_signals();
  lock(f);
  CHECK_INT(lvr_condition_wait_begin(f->c, f->l, &w), 0);
  CHECK_INT(lvr_condition_wait_sleep(&w, in_ns(10 * SEC)), -EINTR);
  CHECK(!lvr_lock_is_mine(f->l));
  lvri_store_release_u32(&f->board->arrived, 1);
  while ((slept = lvr_condition_wait_sleep(&w, in_ns(10 * SEC))) == -EINTR)
    continue;
  CHECK_INT(slept, 0);
  CHECK_INT(lvr_condition_wait_end(&w), 0);
  while (lvr_condition_retake(&w) == -EINTR)
    continue;
  CHECK(lvr_lock_is_mine(f->l));
  unlock(f);
}

TEST(signals_interrupt_and_leave_the_place_in_the_queue) {
  struct fixture f = fixture_of(LVR_LOCK);
  pid_t pid = test_fork(be_interrupted, &f);
  while (lvr_condition_waiting(f.c) == 0)
    (void)sched_yield();
  while (!lvri_load_acquire_u32(&f.board->arrived)) {
    CHECK_INT(kill(pid, SIGUSR1), 0);
    (void)sched_yield();
  }
  CHECK_INT(notify(&f, 1), 1);
  CHECK_INT(test_join(pid), 0);
}

struct forked {
  struct fixture *f;
  struct lvr_condition_wait *w;
};

static void wait_in_anothers_place(void *argument) {
  struct forked *forked = argument;
  CHECK_INT(lvr_condition_wait_sleep(forked->w, 0), -ESTALE);
  CHECK_INT(lvr_condition_wait_end(forked->w), -ESTALE);
}

/* Its child does not wait, and its end takes nobody out of the queue. */
TEST(a_fork_while_waiting) {
  struct fixture f = fixture_of(LVR_LOCK);
  struct lvr_condition_wait w;
  lock(&f);
  CHECK_INT(lvr_condition_wait_begin(f.c, f.l, &w), 0);
  CHECK_INT(test_join(test_fork(wait_in_anothers_place, &(struct forked){&f, &w})), 0);
  CHECK(lvr_repair(f.s) >= 1);
  CHECK_INT(lvr_condition_waiting(f.c), 1);
  CHECK_INT(notify(&f, 2), 1);
  CHECK_INT(lvr_condition_wait_sleep(&w, in_ns(SEC)), 0);
  CHECK_INT(lvr_condition_wait_end(&w), 0);
}

static void notify_a_crowd(void *argument) {
  struct fixture *f = argument;
  while (lvr_condition_waiting(f->c) < 60)
    (void)sched_yield();
  CHECK_INT(notify(f, UINT32_MAX), 60);
}

/* More than one chunk of records, more than one batch of notifications; then from the free list. */
TEST(wakes_a_crowd) {
  struct fixture f = fixture_of(LVR_LOCK);
  for (int i = 0; i < 2; i++) {
    pid_t pid = test_fork(notify_a_crowd, &f);
    test_threads(60, wait_once, &f);
    CHECK_INT(test_join(pid), 0);
  }
  CHECK_INT(((struct lvr_condition_shm *)(void *)f.c->handle.object)->co_waiters.ws_used, 60);
  check_session(f.s);
  lvr_condition_detach(f.c);
  check_session(f.s);
}

/* --- random kills -------------------------------------------------------------------------- */

static void consume(void *argument) {
  struct fixture *f = argument;
  for (;;) {
    lock(f);
    while (f->board->items == 0)
      CHECK_INT(lvr_condition_wait_until(f->c, f->l, LVR_FOREVER), 0);
    f->board->items--;
    (void)lvri_fetch_add_relaxed_u32(&f->board->passed, 1);
    unlock(f);
  }
}

/* One producer, consumers who are killed: a notification that went to one of those is made up for,
 * since whoever is left takes what there is before he waits. */
TEST_WITHIN(survives_random_kills, 60) {
  enum { CROWD = 4, KILLS = 60 };
  struct fixture f = fixture_of(LVR_LOCK);
  uint64_t seed = test_seed();
  pid_t pids[CROWD];
  for (int i = 0; i < CROWD; i++)
    pids[i] = test_fork(consume, &f);
  for (int round = 0; round < KILLS; round++) {
    uint32_t who = test_random(&seed) % CROWD, work = test_random(&seed) % 200;
    for (uint32_t i = 0; i < work; i++) {
      lock(&f);
      f.board->items++;
      CHECK_INT(lvr_condition_notify(f.c, 1, NULL), 0);
      unlock(&f);
    }
    test_kill(pids[who]);
    pids[who] = test_fork(consume, &f);
  }
  lock(&f);
  CHECK_INT(lvr_condition_notify(f.c, UINT32_MAX, NULL), 0);
  unlock(&f);
  for (int64_t items = 1; items > 0; unlock(&f)) { /* the rest is consumed */
    lock(&f);
    items = f.board->items;
  }
  for (int i = 0; i < CROWD; i++)
    test_kill(pids[i]);
  check_session(f.s);
  CHECK_INT(lvr_condition_waiting(f.c), 0);
}

/* --- killed at every step ------------------------------------------------------------------ */

struct crash_state {
  struct fixture f;
  pid_t dead, alive;
};

static void crash_setup(void *state) {
  struct crash_state *x = state;
  x->f = fixture_of(LVR_LOCK);
  x->dead = new_waiter(&x->f);
  x->alive = new_waiter(&x->f);
  test_kill(x->dead);
}

static void crash_action(void *state) {
  struct crash_state *x = state;
  lock(&x->f);
  CHECK_INT(lvr_condition_wait_until(x->f.c, x->f.l, in_ns(MS)), -ETIMEDOUT);
  CHECK_INT(lvr_condition_notify(x->f.c, 1, NULL), 0);
  unlock(&x->f);
}

static void crash_recover(void *state) {
  struct crash_state *x = state;
  CHECK(lvr_repair(x->f.s) >= 0);
}

/* The one who lives can still be woken; nobody is left in the queue. */
static void crash_check(void *state, bool done) {
  struct crash_state *x = state;
  uint32_t woken = notify(&x->f, 2);
  CHECK(woken == 1 || woken == 0);
  if (done) CHECK_INT(woken, 0);
  CHECK_INT(test_join(x->alive), 0);
  CHECK_INT(lvr_condition_waiting(x->f.c), 0);
}

static void crash_teardown(void *state) {
  struct crash_state *x = state;
  check_session(x->f.s);
  lvr_condition_detach(x->f.c);
  lvr_lock_detach(x->f.l);
  check_session(x->f.s);
  lvr_session_detach(x->f.s);
}

TEST_WITHIN(killed_at_every_step, 60) {
  static const struct crash_scenario scenario = {"condition",   sizeof(struct crash_state),
                                                 crash_setup,   crash_action,
                                                 crash_recover, crash_check,
                                                 crash_teardown};
  (void)crash_run(&scenario);
  (void)crash_run_repairer(&scenario, 40);
  CHECK_INT(crash_unvisited("condition."), 0);
}
