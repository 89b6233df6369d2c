/* What holds for everything that keeps others out, and then what only locks do. */
#include "core/lock.h"

#include "base/fault.h"
#include "core/locking_test.h"

/* --- whatever keeps others out: one suite over all kinds ----------------------------------- */

struct kind {
  const char *name;
  int (*create)(lvr_session *s, void **ret);
  int (*acquire)(void *o, int64_t deadline_ns);
  int (*release)(void *o);
  void (*detach)(void *o);
  bool comes_back; /* when its holder dies */
  bool tells;      /* and says so: 1 */
};

static int create_lock(lvr_session *s, void **ret) {
  return lvr_lock_create(s, LVR_LOCK, (lvr_lock **)ret);
}
static int create_rlock(lvr_session *s, void **ret) {
  return lvr_lock_create(s, LVR_RLOCK, (lvr_lock **)ret);
}
static int acquire_lock(void *o, int64_t deadline_ns) {
  return lvr_lock_acquire_until(o, deadline_ns);
}
static int release_lock(void *o) { return lvr_lock_release(o); }
static void detach_lock(void *o) { lvr_lock_detach(o); }

static int create_semaphore(lvr_session *s, void **ret) {
  return lvr_semaphore_create(s, 1, 0, (lvr_semaphore **)ret);
}
static int create_bounded(lvr_session *s, void **ret) {
  return lvr_semaphore_create(s, 1, 1, (lvr_semaphore **)ret);
}
static int acquire_consumed(void *o, int64_t deadline_ns) {
  return lvr_semaphore_acquire_until(o, false, deadline_ns);
}
static int release_consumed(void *o) { return lvr_semaphore_release(o, false); }
static int acquire_held(void *o, int64_t deadline_ns) {
  return lvr_semaphore_acquire_until(o, true, deadline_ns);
}
static int release_held(void *o) { return lvr_semaphore_release(o, true); }
static void detach_semaphore(void *o) { lvr_semaphore_detach(o); }

static const struct kind kinds[] = {
    {"Lock", create_lock, acquire_lock, release_lock, detach_lock, true, true},
    {"RLock", create_rlock, acquire_lock, release_lock, detach_lock, true, true},
    {"Semaphore, consumed", create_semaphore, acquire_consumed, release_consumed, detach_semaphore,
     false, false},
    {"Semaphore, held", create_semaphore, acquire_held, release_held, detach_semaphore, true,
     false},
    {"BoundedSemaphore", create_bounded, acquire_held, release_held, detach_semaphore, true, false},
};

struct board {
  _Atomic uint32_t step;
  _Atomic uint32_t interrupted;
  int64_t counter; /* under what is tested */
  int64_t shadow;
  int64_t at_ns;
};

struct fixture {
  const struct kind *kind;
  lvr_session *s;
  void *o;
  struct board *board;
};

static struct fixture fixture_of(const struct kind *kind) {
  struct fixture f = {.kind = kind, .s = new_session(), .board = test_shared(sizeof(struct board))};
  test_context("%s", kind->name);
  CHECK_INT(kind->create(f.s, &f.o), 0);
  return f;
}

static void end(struct fixture *f) {
  f->kind->detach(f->o);
  check_session(f->s);
  lvr_session_detach(f->s);
}

static void for_each_kind(void (*test)(struct fixture *f)) {
  for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    struct fixture f = fixture_of(&kinds[i]);
    test(&f);
    end(&f);
  }
}

static void expect_taken(void *argument) {
  struct fixture *f = argument;
  CHECK_INT(f->kind->acquire(f->o, 0), -ETIMEDOUT);
  int64_t start_ns = lvri_os_now_ns();
  CHECK_INT(f->kind->acquire(f->o, start_ns + 30 * MS), -ETIMEDOUT);
  CHECK(lvri_os_now_ns() - start_ns >= 30 * MS);
}

static void expect_free(void *argument) {
  struct fixture *f = argument;
  CHECK_INT(f->kind->acquire(f->o, 0), 0);
  CHECK_INT(f->kind->release(f->o), 0);
}

static void one_at_a_time(struct fixture *f) {
  CHECK_INT(f->kind->acquire(f->o, LVR_FOREVER), 0);
  CHECK_INT(test_join(test_fork(expect_taken, f)), 0);
  test_threads(1, expect_taken, f);
  CHECK_INT(f->kind->release(f->o), 0);
  CHECK_INT(test_join(test_fork(expect_free, f)), 0);
  test_threads(1, expect_free, f);
}

TEST(excludes_threads_and_processes) { for_each_kind(one_at_a_time); }

static void wait_for_it(void *argument) {
  struct fixture *f = argument;
  (void)lvri_fetch_add_acq_rel_u32(&f->board->step, 1);
  CHECK_INT(f->kind->acquire(f->o, in_ns(10 * SEC)), 0);
  CHECK_INT(f->kind->release(f->o), 0);
}

/* From one to the next, each of whom was asleep. */
static void hand_over(struct fixture *f) {
  enum { WAITERS = 3 };
  pid_t pids[WAITERS];
  lvri_relook_ns = 60 * SEC;
  CHECK_INT(f->kind->acquire(f->o, LVR_FOREVER), 0);
  for (int i = 0; i < WAITERS; i++)
    pids[i] = test_fork(wait_for_it, f);
  await_u32(&f->board->step, WAITERS);
  for (int i = 0; i < WAITERS; i++)
    await_asleep(pids[i]);
  int64_t released_ns = lvri_os_now_ns();
  CHECK_INT(f->kind->release(f->o), 0);
  for (int i = 0; i < WAITERS; i++)
    CHECK_INT(test_join(pids[i]), 0);
  /* Woken, not found at the relook. */
  CHECK(lvri_os_now_ns() - released_ns < LVRI_RELOOK_NS / 2);
}

TEST(wakes_those_who_wait) { for_each_kind(hand_over); }

/* Where a process cannot wait for a death, it looks for it now and then. */
static void wait_without_wait2(void *argument) {
  struct fixture *f = argument;
  lvri_fault_arm("os.futex.wait2", 1);
  CHECK_INT(f->kind->acquire(f->o, in_ns(10 * SEC)), f->kind->tells ? 1 : 0);
  f->board->at_ns = lvri_os_now_ns();
}

static void be_interrupted(void *argument) {
  struct fixture *f = argument;
  catch_signals();
  lvri_store_release_u32(&f->board->step, 1);
  CHECK_INT(f->kind->acquire(f->o, in_ns(10 * SEC)), -EINTR);
  lvri_store_release_u32(&f->board->interrupted, 1);
  int got;
  while ((got = f->kind->acquire(f->o, in_ns(10 * SEC))) == -EINTR)
    continue; /* one signal more had been sent */
  CHECK_INT(got, 0);
  CHECK_INT(f->kind->release(f->o), 0);
}

static void interrupt(struct fixture *f) {
  CHECK_INT(f->kind->acquire(f->o, LVR_FOREVER), 0);
  pid_t pid = test_fork(be_interrupted, f);
  await_u32(&f->board->step, 1);
  while (!lvri_load_acquire_u32(&f->board->interrupted)) {
    CHECK_INT(kill(pid, SIGUSR1), 0);
    (void)sched_yield();
  }
  CHECK_INT(f->kind->release(f->o), 0);
  CHECK_INT(test_join(pid), 0);
}

TEST(signals_interrupt) { for_each_kind(interrupt); }

enum { ROUNDS = 20000, CROWD = 4 };

static void count_up(void *argument) {
  struct fixture *f = argument;
  for (int i = 0; i < ROUNDS; i++) {
    CHECK_INT(f->kind->acquire(f->o, LVR_FOREVER), 0);
    f->board->counter++;
    CHECK_INT(f->kind->release(f->o), 0);
  }
}

static void crowd(struct fixture *f) {
  pid_t pids[CROWD];
  for (int i = 0; i < CROWD; i++)
    pids[i] = test_fork(count_up, f);
  for (int i = 0; i < CROWD; i++)
    CHECK_INT(test_join(pids[i]), 0);
  CHECK_INT(f->board->counter, CROWD * ROUNDS);
  test_threads(CROWD, count_up, f);
  CHECK_INT(f->board->counter, 2 * CROWD * ROUNDS);
}

TEST_WITHIN(counts_right, 60) { for_each_kind(crowd); }

static void take_and_stay(void *argument) {
  struct fixture *f = argument;
  CHECK(f->kind->acquire(f->o, LVR_FOREVER) >= 0);
  lvri_store_release_u32(&f->board->step, 1);
  for (;;)
    (void)pause();
}

static void inherit(void *argument) {
  struct fixture *f = argument;
  lvri_store_release_u32(&f->board->step, 2);
  CHECK_INT(f->kind->acquire(f->o, in_ns(10 * SEC)), f->kind->tells ? 1 : 0);
  f->board->at_ns = lvri_os_now_ns();
  CHECK_INT(f->kind->release(f->o), 0);
}

/* Locks are taken over by who waits; units come back with the first repair. */
static void holder_dies(struct fixture *f) {
  lvri_relook_ns = 60 * SEC;
  pid_t holder = test_fork(take_and_stay, f);
  await_u32(&f->board->step, 1);
  pid_t heir = test_fork(inherit, f);
  await_u32(&f->board->step, 2);
  await_asleep(heir);
  int64_t killed_ns = lvri_os_now_ns();
  test_kill(holder);
  if (!f->kind->tells) CHECK(lvr_repair(f->s) >= 0);
  if (f->kind->comes_back) {
    CHECK_INT(test_join(heir), 0);
    (void)printf("  %s: the next one had it after %.2f ms\n", f->kind->name,
                 (double)(f->board->at_ns - killed_ns) / 1e6);
    CHECK(f->board->at_ns - killed_ns < LVRI_RELOOK_NS / 2); /* an event, not a relook */
    CHECK_INT(f->kind->acquire(f->o, 0), 0);
  } else {
    await_asleep(heir);
    test_kill(heir);
    CHECK_INT(f->kind->acquire(f->o, 0), -ETIMEDOUT);
  }
}

TEST(the_next_one_gets_it_from_the_dead) { for_each_kind(holder_dies); }

static void holder_dies_unseen(struct fixture *f) {
  if (!f->kind->tells) return;
  pid_t holder = test_fork(take_and_stay, f);
  await_u32(&f->board->step, 1);
  pid_t heir = test_fork(wait_without_wait2, f);
  await_asleep(heir);
  int64_t killed_ns = lvri_os_now_ns();
  test_kill(holder);
  CHECK_INT(test_join(heir), 0);
  CHECK(f->board->at_ns - killed_ns < 5 * LVRI_RELOOK_NS);
  CHECK_INT(f->kind->acquire(f->o, 0), 1);
}

TEST(without_a_wait_on_two_words) { for_each_kind(holder_dies_unseen); }

/* What is under the lock may be half done when its holder is killed; `shadow` says whether. */
static void count_until_killed(void *argument) {
  struct fixture *f = argument;
  for (;;) {
    CHECK(f->kind->acquire(f->o, LVR_FOREVER) >= 0);
    int64_t both = f->board->counter + 1;
    f->board->counter = both;
    lvri_fence_compiler();
    f->board->shadow = both;
    CHECK_INT(f->kind->release(f->o), 0);
  }
}

/* Takes it from whoever died, sees what he left, and mends it. */
static void inspect(struct fixture *f) {
  CHECK(lvr_repair(f->s) >= 0);
  int got = f->kind->acquire(f->o, in_ns(5 * SEC));
  CHECK(got >= 0);
  int64_t off = f->board->counter - f->board->shadow;
  CHECK(off == 0 || off == 1);
  if (f->kind->tells && off) CHECK_INT(got, 1);
  f->board->shadow = f->board->counter;
  CHECK_INT(f->kind->release(f->o), 0);
}

static int64_t counted(const struct fixture *f) {
  return *(volatile int64_t *)&f->board->counter; /* a look from outside the lock, for progress */
}

static void random_kills(struct fixture *f) {
  if (!f->kind->comes_back) return;
  uint64_t seed = test_seed();
  pid_t pids[CROWD];
  for (int i = 0; i < CROWD; i++)
    pids[i] = test_fork(count_until_killed, f);
  for (int round = 0; round < 60; round++) {
    uint32_t who = test_random(&seed) % CROWD, work = test_random(&seed) % 4000;
    for (int64_t until = counted(f) + work; counted(f) < until;)
      (void)sched_yield();
    test_kill(pids[who]);
    inspect(f);
    pids[who] = test_fork(count_until_killed, f);
  }
  for (int i = 0; i < CROWD; i++)
    test_kill(pids[i]);
}

TEST_WITHIN(survives_random_kills, 60) { for_each_kind(random_kills); }

/* --- locks alone --------------------------------------------------------------------------- */

struct locks {
  lvr_session *s;
  lvr_lock *l;
  _Atomic uint32_t *step;
};

static struct locks locks_of(enum lvr_lock_kind kind) {
  struct locks x = {.s = new_session(), .step = test_shared(sizeof(uint32_t))};
  CHECK_INT(lvr_lock_create(x.s, kind, &x.l), 0);
  return x;
}

static void not_mine(void *argument) {
  struct locks *x = argument;
  CHECK(!lvr_lock_is_mine(x->l));
  CHECK_INT(lvr_lock_release(x->l), -EPERM);
  CHECK_INT(lvr_lock_try(x->l), -EBUSY);
}

static void not_mine_in_a_child(void *argument) {
  struct locks *x = argument;
  not_mine(x);
  CHECK_INT(lvr_lock_count(x->l), 0);
  CHECK(lvr_lock_owner(x->l) != lvr_proc_self(x->s));
}

TEST(rlock_counts) {
  struct locks x = locks_of(LVR_RLOCK);
  uint32_t count;
  CHECK_INT(lvr_lock_kind(x.l), LVR_RLOCK);
  CHECK_INT(lvr_lock_release(x.l), -EPERM);
  CHECK_INT(lvr_lock_acquire_until(x.l, LVR_FOREVER), 0);
  CHECK_INT(lvr_lock_try(x.l), 0);
  CHECK_INT(lvr_lock_acquire_until(x.l, 0), 0);
  CHECK_INT(lvr_lock_count(x.l), 3);
  CHECK(lvr_lock_is_mine(x.l));
  CHECK(lvr_lock_owner(x.l) == lvr_proc_self(x.s));
  test_threads(1, not_mine, &x);
  CHECK_INT(test_join(test_fork(not_mine_in_a_child, &x)), 0);
  CHECK_INT(lvr_lock_release(x.l), 0);
  CHECK_INT(lvr_lock_release_all(x.l, &count), 0);
  CHECK_INT(count, 2);
  CHECK_INT(lvr_lock_owner(x.l), 0);
  CHECK_INT(lvr_lock_restore(x.l, 2), 0);
  CHECK_INT(lvr_lock_count(x.l), 2);
  CHECK_INT(lvr_lock_release(x.l), 0);
  CHECK_INT(lvr_lock_release(x.l), 0);
  CHECK_INT(lvr_lock_release(x.l), -EPERM);
  CHECK_INT(lvr_lock_release_all(x.l, &count), -EPERM);
  CHECK_INT(lvr_lock_release_abandoned(x.l), -EPERM);
}

static void wait_in_vain(void *argument) {
  struct locks *x = argument;
  CHECK_INT(lvr_lock_acquire_until(x->l, in_ns(2 * MS)), -ETIMEDOUT);
}

/* The long way out: somebody waits, or did. */
TEST(rlock_is_released_past_a_waiter) {
  struct locks x = locks_of(LVR_RLOCK);
  CHECK_INT(lvr_lock_acquire_until(x.l, LVR_FOREVER), 0);
  test_threads(1, wait_in_vain, &x);
  CHECK(lvr_lock_is_mine(x.l));
  CHECK_INT(lvr_lock_release(x.l), 0);
  CHECK_INT(lvr_lock_owner(x.l), 0);
}

TEST(rlock_overflows) {
  struct locks x = locks_of(LVR_RLOCK);
  CHECK_INT(lvr_lock_restore(x.l, UINT32_MAX), 0);
  CHECK_INT(lvr_lock_try(x.l), -EOVERFLOW);
  CHECK_INT(lvr_lock_acquire_until(x.l, LVR_FOREVER), -EOVERFLOW);
  CHECK_INT(lvr_lock_count(x.l), UINT32_MAX);
}

static void release_it(void *argument) {
  struct locks *x = argument;
  CHECK(!lvr_lock_is_mine(x->l));
  CHECK_INT(lvr_lock_release(x->l), 0);
}

TEST(lock_is_released_by_anybody) {
  struct locks x = locks_of(LVR_LOCK);
  uint32_t count;
  CHECK_INT(lvr_lock_release(x.l), -EINVAL);
  CHECK_INT(lvr_lock_release_all(x.l, &count), -EINVAL);
  CHECK_INT(lvr_lock_acquire_until(x.l, LVR_FOREVER), 0);
  CHECK(lvr_lock_is_mine(x.l));
  CHECK_INT(lvr_lock_count(x.l), 1);
  CHECK_INT(test_join(test_fork(release_it, &x)), 0);
  CHECK(!lvr_lock_is_mine(x.l));
  CHECK_INT(lvr_lock_count(x.l), 0);
  CHECK_INT(lvr_lock_try(x.l), 0);
  test_threads(1, release_it, &x);
  CHECK_INT(lvr_lock_release(x.l), -EINVAL);
}

static void die_with_it(void *argument) {
  struct locks *x = argument;
  CHECK(lvr_lock_acquire_until(x->l, LVR_FOREVER) >= 0);
  (void)raise(SIGKILL);
}

static void abandon(enum lvr_lock_kind kind) {
  struct locks x = locks_of(kind);
  CHECK(!lvr_lock_abandoned(x.l));
  pid_t pid = test_fork(die_with_it, &x);
  CHECK_INT(test_join(pid), -SIGKILL);
  CHECK(lvr_lock_abandoned(x.l));
  CHECK_INT(lvr_lock_abandoned_pid(x.l), pid);
  CHECK_INT(lvr_lock_try(x.l), 1);
  CHECK(lvr_lock_abandoned(x.l) && lvr_lock_is_mine(x.l));
  CHECK_INT(lvr_lock_abandoned_pid(x.l), pid);
  CHECK_INT(lvr_lock_release(x.l), 0);
  CHECK(!lvr_lock_abandoned(x.l));
  CHECK_INT(lvr_lock_abandoned_pid(x.l), 0);
  CHECK_INT(lvr_lock_try(x.l), 0);
  CHECK_INT(lvr_lock_release(x.l), 0);
}

TEST(abandoned_until_released) {
  abandon(LVR_LOCK);
  abandon(LVR_RLOCK);
}

TEST(abandoned_twice) {
  struct locks x = locks_of(LVR_LOCK);
  CHECK_INT(test_join(test_fork(die_with_it, &x)), -SIGKILL);
  pid_t second = test_fork(die_with_it, &x);
  CHECK_INT(test_join(second), -SIGKILL);
  CHECK_INT(lvr_lock_acquire_until(x.l, LVR_FOREVER), 1);
  CHECK_INT(lvr_lock_abandoned_pid(x.l), second);
}

TEST(abandoned_and_given_back) {
  struct locks x = locks_of(LVR_RLOCK);
  pid_t pid = test_fork(die_with_it, &x);
  CHECK_INT(test_join(pid), -SIGKILL);
  CHECK_INT(lvr_lock_try(x.l), 1);
  CHECK_INT(lvr_lock_release_abandoned(x.l), 0);
  CHECK_INT(lvr_lock_owner(x.l), 0);
  CHECK(lvr_lock_abandoned(x.l));
  CHECK_INT(lvr_lock_abandoned_pid(x.l), pid);
  CHECK_INT(lvr_lock_release(x.l), -EPERM);
  CHECK_INT(lvr_lock_acquire_until(x.l, LVR_FOREVER), 1);
  CHECK_INT(lvr_lock_abandoned_pid(x.l), pid);
  CHECK_INT(lvr_lock_release(x.l), 0);
  CHECK_INT(lvr_lock_try(x.l), 0);
  CHECK_INT(lvr_lock_release_abandoned(x.l), 0); /* it is not: as release() */
  CHECK(!lvr_lock_abandoned(x.l));
}

static void exit_with_it(void *argument) {
  struct locks *x = argument;
  CHECK_INT(lvr_lock_acquire_until(x->l, LVR_FOREVER), 0);
}

TEST(abandoned_by_an_orderly_end) {
  struct locks x = locks_of(LVR_LOCK);
  CHECK_INT(test_join(test_fork(exit_with_it, &x)), 0);
  CHECK_INT(lvr_lock_acquire_until(x.l, LVR_FOREVER), 1);
}

/* A thread that ends with a lock does not abandon it: its process lives. */
static void hold_by_an_ended_thread(void *argument) {
  struct locks *x = argument;
  test_threads(1, exit_with_it, x);
  lvri_store_release_u32(x->step, 1);
  await_u32(x->step, 2);
}

TEST(held_by_a_thread_that_ended) {
  struct locks x = locks_of(LVR_LOCK);
  pid_t pid = test_fork(hold_by_an_ended_thread, &x);
  await_u32(x.step, 1);
  CHECK_INT(lvr_lock_acquire_until(x.l, in_ns(150 * MS)), -ETIMEDOUT); /* past a relook */
  lvri_store_release_u32(x.step, 2);
  CHECK_INT(test_join(pid), 0);
  CHECK_INT(lvr_lock_acquire_until(x.l, LVR_FOREVER), 1);
}

static void take_both_and_stay(void *argument) {
  struct locks *x = argument;
  for (int i = 0; i < 2; i++)
    CHECK_INT(lvr_lock_acquire_until(x[i].l, LVR_FOREVER), 0);
  lvri_store_release_u32(x->step, 1);
  for (;;)
    (void)pause();
}

static void inherit_one(void *argument) {
  struct locks *x = argument;
  CHECK_INT(lvr_lock_acquire_until(x->l, in_ns(10 * SEC)), 1);
}

/* The kernel tells one of those who sleep on the dead one's word: that one tells the rest. */
TEST(all_heirs_are_told) {
  struct locks x[2] = {locks_of(LVR_LOCK)};
  pid_t heirs[2];
  lvri_relook_ns = 60 * SEC; /* so that nobody finds out by himself */
  x[1] = x[0];
  CHECK_INT(lvr_lock_create(x[0].s, LVR_LOCK, &x[1].l), 0);
  pid_t holder = test_fork(take_both_and_stay, x);
  await_u32(x[0].step, 1);
  for (int i = 0; i < 2; i++) {
    heirs[i] = test_fork(inherit_one, &x[i]);
    await_asleep(heirs[i]);
  }
  test_kill(holder);
  for (int i = 0; i < 2; i++)
    CHECK_INT(test_join(heirs[i]), 0);
}

/* Gives the lock back for a moment only, again and again. */
static void hog(void *argument) {
  struct locks *x = argument;
  for (;;) {
    CHECK(lvr_lock_acquire_until(x->l, LVR_FOREVER) >= 0);
    lvri_store_release_u32(x->step, 1);
    for (int64_t until_ns = in_ns(MS / 2); lvri_os_now_ns() < until_ns;)
      continue;
    CHECK_INT(lvr_lock_release(x->l), 0);
  }
}

TEST(nobody_starves) {
  struct locks x = locks_of(LVR_LOCK);
  pid_t pids[CROWD];
  for (int i = 0; i < CROWD; i++)
    pids[i] = test_fork(hog, &x);
  await_u32(x.step, 1);
  for (int i = 0; i < 20; i++) {
    CHECK_INT(lvr_lock_acquire_until(x.l, in_ns(SEC)), 0);
    CHECK_INT(lvr_lock_release(x.l), 0);
  }
  for (int i = 0; i < CROWD; i++)
    test_kill(pids[i]);
}

TEST(named_by_a_reference) {
  struct locks x = locks_of(LVR_RLOCK);
  lvr_ref ref;
  lvr_lock *again;
  lvr_event *e;
  lvr_lock_ref(x.l, &ref);
  CHECK_INT(lvr_lock_attach(x.s, &ref, &again), 0);
  CHECK(again == x.l);
  lvr_lock_detach(again);
  CHECK_INT(lvr_event_attach(x.s, &ref, &e), -EINVAL);
  lvr_lock_detach(x.l);
  CHECK_INT(lvr_lock_attach(x.s, &ref, &again), -ESTALE);
  CHECK_INT(lvr_lock_create(x.s, (enum lvr_lock_kind)7, &again), -EINVAL);
}

/* --- killed at every step ------------------------------------------------------------------ */

static void crash_setup(void *state) {
  struct locks *x = state;
  x->s = new_session();
  CHECK_INT(lvr_lock_create(x->s, LVR_LOCK, &x->l), 0);
}

static void crash_action(void *state) {
  struct locks *x = state;
  CHECK_INT(lvr_lock_acquire_until(x->l, LVR_FOREVER), 0);
  CHECK_INT(lvr_lock_release(x->l), 0);
  CHECK_INT(lvr_lock_acquire_until(x->l, LVR_FOREVER), 0);
  CHECK_INT(lvr_lock_acquire_until(x->l, in_ns(2 * MS)), -ETIMEDOUT); /* W is set now */
  CHECK_INT(lvr_lock_release(x->l), 0);
  lvri_crashpoint_arm(LVRI_CRASH_OFF, NULL, 0);
}

static void crash_recover(void *state) {
  struct locks *x = state;
  CHECK(lvr_repair(x->s) >= 0);
}

static void crash_check(void *state, bool done) {
  struct locks *x = state;
  int got = lvr_lock_acquire_until(x->l, in_ns(5 * SEC));
  CHECK(got == 0 || (!done && got == 1));
  CHECK_INT(lvr_lock_release(x->l), 0);
  CHECK_INT(lvr_lock_try(x->l), 0);
  CHECK_INT(lvr_lock_release(x->l), 0);
}

static void crash_teardown(void *state) {
  struct locks *x = state;
  lvr_lock_detach(x->l);
  check_session(x->s);
  lvr_session_detach(x->s);
}

/* The heir is killed in turn: whoever comes then gets it all the same. */
static void inherit_setup(void *state) {
  crash_setup(state);
  CHECK_INT(test_join(test_fork(die_with_it, state)), -SIGKILL);
}

static void inherit_action(void *state) {
  struct locks *x = state;
  CHECK_INT(lvr_lock_acquire_until(x->l, LVR_FOREVER), 1);
  CHECK_INT(lvr_lock_release_abandoned(x->l), 0);
}

static void inherit_check(void *state, bool done) {
  struct locks *x = state;
  (void)done;
  CHECK_INT(lvr_lock_acquire_until(x->l, in_ns(5 * SEC)), 1);
  CHECK_INT(lvr_lock_release(x->l), 0);
  CHECK_INT(lvr_lock_try(x->l), 0);
  CHECK_INT(lvr_lock_release(x->l), 0);
}

TEST_WITHIN(killed_at_every_step, 60) {
  static const struct crash_scenario scenario = {"lock",        sizeof(struct locks), crash_setup,
                                                 crash_action,  crash_recover,        crash_check,
                                                 crash_teardown};
  static const struct crash_scenario heir = {"lock, heir",   sizeof(struct locks), inherit_setup,
                                             inherit_action, crash_recover,        inherit_check,
                                             crash_teardown};
  (void)crash_run(&scenario);
  (void)crash_run(&heir);
  CHECK_INT(crash_unvisited("lock."), 0);
}
