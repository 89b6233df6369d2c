#include "core/barrier.h"

#include "core/locking_test.h"

enum { PARTIES = 3 };

struct board {
  _Atomic uint32_t passed;
  _Atomic uint32_t broken;
  _Atomic uint32_t step;
  _Atomic uint32_t seen[64]; /* how often each index was had */
  _Atomic uint32_t round[64];
};

struct fixture {
  lvr_session *s;
  lvr_barrier *b;
  struct board *board;
};

static struct fixture fixture_of(uint32_t parties) {
  struct fixture f = {.s = new_session(), .board = test_shared(sizeof(struct board))};
  CHECK_INT(lvr_barrier_create(f.s, parties, &f.b), 0);
  CHECK_INT(lvr_barrier_parties(f.b), parties);
  return f;
}

static void note(struct fixture *f, int result) {
  if (result == 0) (void)lvri_fetch_add_acq_rel_u32(&f->board->passed, 1);
  if (result == -EPIPE) (void)lvri_fetch_add_acq_rel_u32(&f->board->broken, 1);
}

static void pass_or_break(void *argument) {
  struct fixture *f = argument;
  int result = lvr_barrier_pass_until(f->b, in_ns(10 * SEC), NULL);
  CHECK(result == 0 || result == -EPIPE);
  note(f, result);
}

static void await_waiting(struct fixture *f, uint32_t count) {
  while (lvr_barrier_waiting(f->b) != count)
    (void)sched_yield();
}

/* `count` processes that have arrived and wait. */
static void fork_waiters(struct fixture *f, uint32_t count, pid_t *ret_pids) {
  uint32_t waiting = lvr_barrier_waiting(f->b);
  for (uint32_t i = 0; i < count; i++) {
    ret_pids[i] = test_fork(pass_or_break, f);
    await_waiting(f, waiting + i + 1);
    await_asleep(ret_pids[i]);
  }
}

static void join_all(const pid_t *pids, uint32_t count) {
  for (uint32_t i = 0; i < count; i++)
    CHECK_INT(test_join(pids[i]), 0);
}

/* It works, from the start, for all. */
static void check_fresh(struct fixture *f) {
  pid_t pids[PARTIES];
  CHECK(!lvr_barrier_broken(f->b));
  uint32_t before = lvri_load_acquire_u32(&f->board->passed);
  for (int i = 0; i < PARTIES; i++)
    pids[i] = test_fork(pass_or_break, f);
  join_all(pids, PARTIES);
  CHECK_INT(lvri_load_acquire_u32(&f->board->passed) - before, PARTIES);
  CHECK_INT(lvr_barrier_waiting(f->b), 0);
  check_session(f->s);
}

TEST(refuses_nonsense) {
  struct fixture f = fixture_of(1);
  lvr_barrier *b;
  CHECK_INT(lvr_barrier_create(f.s, 0, &b), -EINVAL);
}

TEST(alone) {
  struct fixture f = fixture_of(1);
  for (int i = 0; i < 3; i++) {
    uint32_t index = 7;
    CHECK_INT(lvr_barrier_pass_until(f.b, 0, &index), 0);
    CHECK_INT(index, 0);
  }
}

enum { ROUNDS = 300 };

static void run_rounds(void *argument) {
  struct fixture *f = argument;
  for (uint32_t i = 0; i < ROUNDS; i++) {
    uint32_t index;
    (void)lvri_fetch_add_acq_rel_u32(&f->board->round[i % 64], 1);
    CHECK_INT(lvr_barrier_pass_until(f->b, in_ns(10 * SEC), &index), 0);
    CHECK(index < PARTIES);
    (void)lvri_fetch_add_acq_rel_u32(&f->board->seen[index], 1);
    /* Nobody is through before all have arrived. */
    CHECK(lvri_load_acquire_u32(&f->board->round[i % 64]) >= PARTIES * (i / 64 + 1));
  }
}

TEST(keeps_all_in_step) {
  struct fixture f = fixture_of(PARTIES);
  pid_t pids[PARTIES];
  for (int i = 0; i < PARTIES; i++)
    pids[i] = test_fork(run_rounds, &f);
  join_all(pids, PARTIES);
  for (int i = 0; i < PARTIES; i++)
    CHECK_INT(lvri_load_acquire_u32(&f.board->seen[i]), ROUNDS);
  test_threads(PARTIES, run_rounds, &(struct fixture){f.s, f.b, test_shared(sizeof(struct board))});
  check_fresh(&f);
}

TEST(a_crowd) {
  struct fixture f = fixture_of(60);
  test_threads(60, pass_or_break, &f);
  CHECK_INT(lvri_load_acquire_u32(&f.board->passed), 60);
  check_session(f.s);
  lvr_barrier_detach(f.b);
  check_session(f.s);
}

TEST(the_last_one_lets_all_through) {
  struct fixture f = fixture_of(PARTIES);
  struct lvr_barrier_ticket t;
  pid_t pids[PARTIES - 1];
  fork_waiters(&f, PARTIES - 1, pids);
  CHECK_INT(lvr_barrier_enter_until(f.b, LVR_FOREVER, &t), 1);
  CHECK_INT(t.index, PARTIES - 1);
  CHECK_INT(lvri_load_acquire_u32(&f.board->passed), 0);
  CHECK_INT(lvr_barrier_open(&t), 0);
  CHECK_INT(lvr_barrier_open(&t), -EINVAL);
  join_all(pids, PARTIES - 1);
  CHECK_INT(lvri_load_acquire_u32(&f.board->passed), PARTIES - 1);
  check_fresh(&f);
}

TEST(a_timeout_breaks_it) {
  struct fixture f = fixture_of(PARTIES);
  pid_t pid;
  fork_waiters(&f, 1, &pid);
  CHECK_INT(lvr_barrier_pass_until(f.b, in_ns(5 * MS), NULL), -ETIMEDOUT);
  CHECK_INT(test_join(pid), 0);
  CHECK_INT(lvri_load_acquire_u32(&f.board->broken), 1);
  CHECK(lvr_barrier_broken(f.b));
  CHECK_INT(lvr_barrier_pass_until(f.b, LVR_FOREVER, NULL), -EPIPE);
  CHECK_INT(lvr_barrier_reset(f.b), 0);
  check_fresh(&f);
}

static void be_late(void *argument) {
  struct fixture *f = argument;
  CHECK_INT(lvr_barrier_pass_until(f->b, in_ns(30 * MS), NULL), 0);
}

/* As in the standard library: whoever has seen the last one arrive is not too late. */
TEST(no_timeout_while_the_last_one_works) {
  struct fixture f = fixture_of(2);
  struct lvr_barrier_ticket t;
  pid_t pid = test_fork(be_late, &f);
  await_waiting(&f, 1);
  await_asleep(pid);
  CHECK_INT(lvr_barrier_enter_until(f.b, LVR_FOREVER, &t), 1);
  CHECK_INT(lvri_os_sleep_until(in_ns(60 * MS)), 0); /* past his deadline */
  CHECK_INT(lvr_barrier_open(&t), 0);
  CHECK_INT(test_join(pid), 0);
}

TEST(abort_and_reset) {
  struct fixture f = fixture_of(PARTIES);
  pid_t pids[PARTIES - 1];
  fork_waiters(&f, PARTIES - 1, pids);
  CHECK_INT(lvr_barrier_reset(f.b), 0);
  join_all(pids, PARTIES - 1);
  CHECK_INT(lvri_load_acquire_u32(&f.board->broken), 2);
  CHECK(!lvr_barrier_broken(f.b));
  fork_waiters(&f, PARTIES - 1, pids);
  CHECK_INT(lvr_barrier_abort(f.b), 0);
  join_all(pids, PARTIES - 1);
  CHECK_INT(lvri_load_acquire_u32(&f.board->broken), 4);
  CHECK(lvr_barrier_broken(f.b));
  CHECK_INT(lvr_barrier_reset(f.b), 0);
  check_fresh(&f);
}

TEST(reset_under_the_last_one) {
  struct fixture f = fixture_of(PARTIES);
  struct lvr_barrier_ticket t;
  pid_t pids[PARTIES - 1];
  fork_waiters(&f, PARTIES - 1, pids);
  CHECK_INT(lvr_barrier_enter_until(f.b, LVR_FOREVER, &t), 1);
  CHECK_INT(lvr_barrier_reset(f.b), 0);
  CHECK_INT(lvr_barrier_open(&t), -EPIPE);
  join_all(pids, PARTIES - 1);
  CHECK_INT(lvri_load_acquire_u32(&f.board->broken), 2);
  check_fresh(&f);
}

TEST(leaving) {
  struct fixture f = fixture_of(2);
  struct lvr_barrier_ticket t;
  pid_t pid;
  CHECK_INT(lvr_barrier_enter_until(f.b, LVR_FOREVER, &t), 0);
  CHECK_INT(t.index, 0);
  lvr_barrier_leave(&t);
  lvr_barrier_leave(&t); /* nothing more */
  CHECK_INT(lvr_barrier_waiting(f.b), 0);
  CHECK(!lvr_barrier_broken(f.b));
  fork_waiters(&f, 1, &pid);
  CHECK_INT(lvr_barrier_enter_until(f.b, LVR_FOREVER, &t), 1);
  lvr_barrier_leave(&t); /* the last one cannot without breaking it */
  CHECK_INT(test_join(pid), 0);
  CHECK_INT(lvri_load_acquire_u32(&f.board->broken), 1);
  CHECK(lvr_barrier_broken(f.b));
}

TEST(comers_wait_while_it_is_full) {
  struct fixture f = fixture_of(2);
  struct lvr_barrier_ticket t;
  pid_t first, next;
  fork_waiters(&f, 1, &first);
  CHECK_INT(lvr_barrier_enter_until(f.b, LVR_FOREVER, &t), 1);
  next = test_fork(pass_or_break, &f);
  await_asleep(next);
  CHECK_INT(lvr_barrier_waiting(f.b), 2);
  CHECK_INT(lvr_barrier_open(&t), 0);
  CHECK_INT(test_join(first), 0);
  await_waiting(&f, 1);
  CHECK_INT(lvr_barrier_pass_until(f.b, LVR_FOREVER, NULL), 0);
  CHECK_INT(test_join(next), 0);
}

static void be_interrupted(void *argument) {
  struct fixture *f = argument;
  struct lvr_barrier_ticket t;
  int result;
  catch_signals();
  CHECK_INT(lvr_barrier_enter_until(f->b, LVR_FOREVER, &t), 0);
  CHECK_INT(lvr_barrier_wait_until(&t, in_ns(10 * SEC)), -EINTR);
  lvri_store_release_u32(&f->board->step, 1);
  while ((result = lvr_barrier_wait_until(&t, in_ns(10 * SEC))) == -EINTR)
    continue;
  CHECK_INT(result, 0);
}

TEST(signals_interrupt) {
  struct fixture f = fixture_of(2);
  pid_t pid = test_fork(be_interrupted, &f);
  await_waiting(&f, 1);
  while (!lvri_load_acquire_u32(&f.board->step)) {
    CHECK_INT(kill(pid, SIGUSR1), 0);
    (void)sched_yield();
  }
  CHECK_INT(lvr_barrier_waiting(f.b), 1);
  CHECK_INT(lvr_barrier_pass_until(f.b, LVR_FOREVER, NULL), 0);
  CHECK_INT(test_join(pid), 0);
}

/* --- deaths -------------------------------------------------------------------------------- */

/* Nobody repairs: those who wait notice by themselves, at once or at the relook. */
static void waiter_dies(uint32_t which) {
  struct fixture f = fixture_of(PARTIES + 1);
  pid_t pids[PARTIES];
  fork_waiters(&f, PARTIES, pids);
  int64_t killed_ns = lvri_os_now_ns();
  test_kill(pids[which]);
  for (uint32_t i = 0; i < PARTIES; i++)
    if (i != which) CHECK_INT(test_join(pids[i]), 0);
  (void)printf("  number %u of %d died: the others knew after %.2f ms\n", which, PARTIES,
               (double)(lvri_os_now_ns() - killed_ns) / 1e6);
  CHECK_INT(lvri_load_acquire_u32(&f.board->broken), PARTIES - 1);
  CHECK(lvr_barrier_broken(f.b));
  check_session(f.s);
}

TEST(a_waiter_dies) {
  for (uint32_t which = 0; which < PARTIES; which++)
    waiter_dies(which);
}

/* The last one comes before anybody has noticed: he is told. */
TEST(the_last_one_looks_for_the_dead) {
  struct fixture f = fixture_of(2);
  pid_t pid;
  fork_waiters(&f, 1, &pid);
  test_kill(pid);
  CHECK_INT(lvr_barrier_pass_until(f.b, LVR_FOREVER, NULL), -EPIPE);
}

static void lead_and_die(void *argument) {
  struct fixture *f = argument;
  struct lvr_barrier_ticket t;
  CHECK_INT(lvr_barrier_enter_until(f->b, LVR_FOREVER, &t), 1);
  (void)raise(SIGKILL);
}

TEST(the_last_one_dies) {
  struct fixture f = fixture_of(PARTIES);
  pid_t pids[PARTIES - 1];
  fork_waiters(&f, PARTIES - 1, pids);
  CHECK_INT(test_join(test_fork(lead_and_die, &f)), -SIGKILL);
  join_all(pids, PARTIES - 1);
  CHECK_INT(lvri_load_acquire_u32(&f.board->broken), PARTIES - 1);
  CHECK_INT(lvr_barrier_pass_until(f.b, LVR_FOREVER, NULL), -EPIPE);
  CHECK_INT(lvr_barrier_reset(f.b), 0);
  check_fresh(&f);
}

static void wait_in_anothers_place(void *argument) {
  struct lvr_barrier_ticket *t = argument;
  CHECK_INT(lvr_barrier_wait_until(t, 0), -ESTALE);
  lvr_barrier_leave(t);
}

TEST(a_fork_while_waiting) {
  struct fixture f = fixture_of(2);
  struct lvr_barrier_ticket t;
  pid_t pid;
  CHECK_INT(lvr_barrier_enter_until(f.b, LVR_FOREVER, &t), 0);
  CHECK_INT(test_join(test_fork(wait_in_anothers_place, &t)), 0);
  CHECK(lvr_repair(f.s) >= 1);
  CHECK_INT(lvr_barrier_waiting(f.b), 1);
  pid = test_fork(pass_or_break, &f);
  CHECK_INT(lvr_barrier_wait_until(&t, in_ns(5 * SEC)), 0);
  CHECK_INT(test_join(pid), 0);
}

/* Passes as long as it can; whoever finds it broken mends it. */
static void pass_for_ever(void *argument) {
  struct fixture *f = argument;
  for (;;) {
    int result = lvr_barrier_pass_until(f->b, LVR_FOREVER, NULL);
    CHECK(result == 0 || result == -EPIPE);
    note(f, result);
    if (result == -EPIPE && lvr_barrier_broken(f->b)) CHECK_INT(lvr_barrier_reset(f->b), 0);
  }
}

TEST_WITHIN(survives_random_kills, 60) {
  struct fixture f = fixture_of(PARTIES);
  uint64_t seed = test_seed();
  pid_t pids[PARTIES];
  for (int i = 0; i < PARTIES; i++)
    pids[i] = test_fork(pass_for_ever, &f);
  for (int round = 0; round < 40; round++) {
    uint32_t who = test_random(&seed) % PARTIES, work = test_random(&seed) % 100;
    await_u32(&f.board->passed, lvri_load_acquire_u32(&f.board->passed) + work);
    test_kill(pids[who]);
    pids[who] = test_fork(pass_for_ever, &f);
  }
  await_u32(&f.board->passed, lvri_load_acquire_u32(&f.board->passed) + 100);
  for (int i = 0; i < PARTIES; i++)
    test_kill(pids[i]);
  CHECK(lvr_repair(f.s) >= 0);
  CHECK_INT(lvr_barrier_reset(f.b), 0);
  check_fresh(&f);
}

/* --- killed at every step ------------------------------------------------------------------ */

struct crash_state {
  struct fixture f;
  pid_t waiter;
};

static void crash_setup(void *state) {
  struct crash_state *x = state;
  x->f = fixture_of(2);
  fork_waiters(&x->f, 1, &x->waiter);
}

static void pass_action(void *state) {
  struct crash_state *x = state;
  CHECK_INT(lvr_barrier_pass_until(x->f.b, LVR_FOREVER, NULL), 0);
}

static void abort_action(void *state) {
  struct crash_state *x = state;
  CHECK_INT(lvr_barrier_abort(x->f.b), 0);
}

static void crash_recover(void *state) {
  struct crash_state *x = state;
  CHECK(lvr_repair(x->f.s) >= 0);
}

/* The waiter was let through, or told, or (the other had not arrived)
 * waits and gets through now. */
static void crash_check(void *state, bool done) {
  struct crash_state *x = state;
  struct board *board = x->f.board;
  if (!done && lvr_barrier_waiting(x->f.b) == 1)
    CHECK_INT(lvr_barrier_pass_until(x->f.b, in_ns(5 * SEC), NULL), 0);
  CHECK_INT(test_join(x->waiter), 0);
  CHECK_INT(lvri_load_acquire_u32(&board->passed) + lvri_load_acquire_u32(&board->broken), 1);
  CHECK(lvri_load_acquire_u32(&board->passed) || lvr_barrier_broken(x->f.b));
}

static void crash_teardown(void *state) {
  struct crash_state *x = state;
  CHECK_INT(lvr_barrier_reset(x->f.b), 0);
  CHECK_INT(lvr_barrier_waiting(x->f.b), 0);
  check_session(x->f.s);
  lvr_barrier_detach(x->f.b);
  check_session(x->f.s);
  lvr_session_detach(x->f.s);
}

TEST_WITHIN(killed_at_every_step, 60) {
  static const struct crash_scenario passing = {"barrier",     sizeof(struct crash_state),
                                                crash_setup,   pass_action,
                                                crash_recover, crash_check,
                                                crash_teardown};
  static const struct crash_scenario aborting = {"barrier, abort", sizeof(struct crash_state),
                                                 crash_setup,      abort_action,
                                                 crash_recover,    crash_check,
                                                 crash_teardown};
  (void)crash_run(&passing);
  (void)crash_run(&aborting);
  (void)crash_run_repairer(&passing, 40);
  CHECK_INT(crash_unvisited("barrier."), 0);
}
