/* Waits that are old: they sleep on everybody's word, and are told of every death. */
#include "core/queue_test.h"
#include "core/repair.h"
#include "core/slots.h"

struct fixture {
  lvr_session *s;
  lvr_queue *q;
  _Atomic uint32_t *step, *go;
};

static struct fixture new_fixture(void) {
  struct fixture f = {.s = new_session(),
                      .step = test_shared(sizeof(uint32_t)),
                      .go = test_shared(sizeof(uint32_t))};
  f.q = new_queue(f.s, 0, 0);
  return f;
}

/* From now on a wait that begins is old, and its relook never comes: who is not told hangs. */
static void grow_old(void) {
  if (!lvri_os_futex_has_wait2()) SKIP("the kernel has no sleep on many words");
  if (access("/proc/self/syscall", R_OK) != 0) SKIP("no /proc/PID/syscall");
  lvri_relook_most_ns = lvri_slept_before_ns = 1000 * SEC;
}

/* Until process pid is in the system call that sleeps on so many words. */
static void await_words(pid_t pid, unsigned words) {
  char path[32], line[128];
  unsigned long number = 0, count = 0;
  (void)snprintf(path, sizeof(path), "/proc/%d/syscall", (int)pid);
  while (number != 449 || count != words) {
    FILE *file = fopen(path, "r");
    CHECK(file != NULL);
    CHECK(fgets(line, sizeof(line), file) != NULL); /* else it has ended */
    (void)fclose(file);
    char *at = line;
    number = strtoul(at, &at, 10); /* 0 of "running" */
    (void)strtoul(at, &at, 16);    /* where the words are */
    count = strtoul(at, &at, 16);
    (void)sched_yield();
  }
}

/* Of a wait that watches nobody, beside so many other processes: its own, births, theirs. */
static void await_old(pid_t pid, unsigned others) { await_words(pid, 2 + others); }

/* To the end of those who sleep: a stop takes it out, and going on puts it in again. */
static void queue_up_again(pid_t pid, unsigned others) {
  CHECK_INT(kill(pid, SIGSTOP), 0);
  test_await_stop(pid);
  test_continue(pid);
  await_old(pid, others);
}

static void get_one(void *argument) {
  struct fixture *f = argument;
  CHECK_INT(get_note(f->q).number, 7);
}

static void put_one(void *argument) {
  struct fixture *f = argument;
  put_note(f->q, 1, 7);
}

/* --- whom an old wait watches ---------------------------------------------------------------- */

/* What lvri_slots_watch() says; how many words. */
static int watch(lvr_session *s, uint32_t changes, unsigned room, unsigned *ret_count) {
  struct lvri_os_word words[8];
  lvr_proc_id ids[8];
  CHECK(room <= 8);
  return lvri_slots_watch(&s->arena, lvr_proc_self(s), changes, room, words, ids, ret_count);
}

static int watch_now(lvr_session *s, unsigned *ret_count) {
  return watch(s, lvri_slots_changes(&s->arena), 8, ret_count);
}

static void rest(void *argument) {
  (void)lvri_fetch_add_acq_rel_u32(((struct fixture *)argument)->step, 1);
  for (;;)
    (void)pause();
}

static pid_t start_resting(struct fixture *f) {
  uint32_t step = lvri_load_acquire_u32(f->step);
  pid_t pid = test_fork(rest, f);
  await_u32(f->step, step + 1);
  return pid;
}

TEST(everybody_is_watched) {
  struct fixture f = new_fixture();
  unsigned count = 0;
  uint32_t before = lvri_slots_changes(&f.s->arena);
  CHECK_INT(watch_now(f.s, &count), 0);
  CHECK_INT(count, 1);
  pid_t pids[3];
  for (int i = 0; i < 3; i++)
    pids[i] = start_resting(&f);
  CHECK_INT(watch_now(f.s, &count), 0);
  CHECK_INT(count, 4);
  CHECK_INT(watch(f.s, before, 8, &count), -EAGAIN);
  CHECK_INT(watch(f.s, lvri_slots_changes(&f.s->arena), 3, &count), -EAGAIN);
  for (int i = 0; i < 3; i++)
    test_kill(pids[i]);
}

TEST(who_lies_dead_is_repaired_first) {
  struct fixture f = new_fixture();
  unsigned count = 0;
  test_kill(start_resting(&f));
  uint32_t before = lvri_slots_changes(&f.s->arena);
  CHECK_INT(watch_now(f.s, &count), -ESRCH);
  CHECK_INT(lvr_repair(f.s), 1);
  CHECK_INT(watch(f.s, before, 8, &count), -EAGAIN); /* a burial */
  CHECK_INT(watch_now(f.s, &count), 0);
  CHECK_INT(count, 1);
}

TEST(an_embryo_keeps_waits_young) {
  struct fixture f = new_fixture();
  unsigned count = 0;
  lvr_proc_id child = fixture_prepare(f.s);
  CHECK_INT(watch_now(f.s, &count), -EAGAIN);
  CHECK_INT(lvr_proc_withdraw(f.s, child), 0);
  CHECK_INT(watch_now(f.s, &count), 0);
}

static void *attach_and_end(void *argument) {
  struct fixture *f = argument;
  lvr_session *s;
  CHECK_INT(lvr_session_attach(lvr_session_fd(f->s), 0, &s), 0);
  (void)lvri_fetch_add_acq_rel_u32(f->step, 1);
  await_u32(f->go, 1);
  return NULL;
}

/* Nobody but the kernel would tell of an exec() in that thread, and it does not; and nobody at all
 * holds the word when the thread has ended. */
static void attach_in_thread(void *argument) {
  struct fixture *f = argument;
  pthread_t thread;
  CHECK_INT(pthread_create(&thread, NULL, attach_and_end, f), 0);
  CHECK_INT(pthread_join(thread, NULL), 0);
  (void)lvri_fetch_add_acq_rel_u32(f->step, 1);
  for (;;)
    (void)pause();
}

TEST(a_word_that_the_main_thread_does_not_hold_keeps_waits_young) {
  struct fixture f = new_fixture();
  unsigned count = 0;
  CHECK_INT(lvr_proc_fork_next(f.s, LVR_PROC_NOBODY), 0);
  pid_t pid = test_fork(attach_in_thread, &f);
  await_u32(f.step, 1);
  CHECK_INT(watch_now(f.s, &count), -EAGAIN);
  lvri_store_release_u32(f.go, 1);
  await_u32(f.step, 2);
  CHECK_INT(watch_now(f.s, &count), -EAGAIN);
  test_kill(pid);
}

/* --- how often it looks ---------------------------------------------------------------------- */

/* How often a wait on a word that nobody changes sleeps in the time of 100 relooks. */
static unsigned count_sleeps(lvr_session *s) {
  _Atomic uint32_t word = 0;
  unsigned sleeps = 1;
  lvri_relook_ns = 20 * MS;
  int64_t deadline_ns = in_ns(100 * lvri_relook_ns);
  while (lvri_wait(s, &word, 0, 0, deadline_ns) != -ETIMEDOUT)
    sleeps++;
  return sleeps;
}

TEST(an_old_wait_seldom_looks) {
  struct fixture f = new_fixture();
  if (!lvri_os_futex_has_wait2()) SKIP("the kernel has no sleep on many words");
  pid_t pid = start_resting(&f);
  CHECK(count_sleeps(f.s) <= 9); /* at 1, 2, 4, 8, 16, 32, 64 relooks */
  lvr_proc_id child = fixture_prepare(f.s);
  CHECK(count_sleeps(f.s) >= 50); /* as far as the machine lets us */
  CHECK_INT(lvr_proc_withdraw(f.s, child), 0);
  lvri_relook_most_ns = 200 * MS;
  CHECK(count_sleeps(f.s) >= 9);
  test_kill(pid);
}

/* --- what it is told ------------------------------------------------------------------------- */

/* Who puts, and where he dies. */
struct putter {
  struct fixture f;
  const char *point;
};

static void put_and_die(void *argument) {
  struct putter *p = argument;
  lvri_crashpoint_arm(LVRI_CRASH_KILL, p->point, 1);
  (void)lvri_fetch_add_acq_rel_u32(p->f.step, 1);
  await_u32(p->f.go, 1);
  put_one(&p->f);
}

static pid_t start_putter(const struct fixture *f, const char *point) {
  struct putter p = {*f, point};
  uint32_t step = lvri_load_acquire_u32(f->step);
  pid_t pid = test_fork(put_and_die, &p);
  await_u32(f->step, step + 1);
  return pid;
}

/* Killed with the message there, and the sleeper not told. */
static void check_a_death_in_put(const char *point, bool born_later) {
  struct fixture f = new_fixture();
  pid_t putter = born_later ? 0 : start_putter(&f, point);
  pid_t sleeper = test_fork(get_one, &f);
  await_old(sleeper, born_later ? 1 : 2);
  if (born_later) putter = start_putter(&f, point);
  await_old(sleeper, 2);
  lvri_store_release_u32(f.go, 1);
  CHECK_INT(test_join(putter), -SIGKILL);
  CHECK_INT(test_join(sleeper), 0);
  check_session(f.s);
  lvr_session_detach(f.s);
}

TEST(an_old_wait_is_told_of_a_ring_that_died) {
  static const char *const points[] = {"channel.put.published", "channel.put.done",
                                       "channel.ring.counted"};
  grow_old();
  for (size_t i = 0; i < sizeof(points) / sizeof(*points); i++) {
    test_context("%s", points[i]);
    check_a_death_in_put(points[i], false);
    check_a_death_in_put(points[i], true);
  }
}

static void get_one_or_stop(void *argument) {
  lvri_crashpoint_arm(LVRI_CRASH_STOP, "channel.wait.woken", 1);
  get_one(argument);
}

TEST(an_old_wait_is_told_of_a_sleeper_that_died_awake) {
  struct fixture f = new_fixture();
  grow_old();
  pid_t other = test_fork(get_one, &f);
  await_old(other, 1);
  pid_t first = test_fork(get_one_or_stop, &f);
  await_old(first, 2);
  await_old(other, 2);
  queue_up_again(other, 2);
  put_one(&f);
  test_await_stop(first);
  test_kill(first);
  CHECK_INT(test_join(other), 0);
  check_session(f.s);
}

static void get_one_or_stop_when_told(void *argument) {
  lvri_crashpoint_arm(LVRI_CRASH_STOP, "wait.woken", 1);
  get_one(argument);
}

/* The kernel told one of the ringer's death, who dies before he has told anybody. */
TEST(an_old_wait_is_told_of_a_death_by_another) {
  struct fixture f = new_fixture();
  grow_old();
  pid_t putter = start_putter(&f, "channel.ring.counted");
  pid_t other = test_fork(get_one, &f);
  await_old(other, 2);
  pid_t told = test_fork(get_one_or_stop_when_told, &f);
  await_old(told, 3);
  await_old(other, 3);
  queue_up_again(other, 3);
  lvri_store_release_u32(f.go, 1);
  test_await_stop(told);
  CHECK_INT(test_join(putter), -SIGKILL);
  test_kill(told);
  CHECK_INT(test_join(other), 0);
  check_session(f.s);
}

static void wait_once(void *argument) {
  struct fixture *f = argument;
  static _Atomic uint32_t word;
  CHECK_INT(lvri_wait(f->s, &word, 0, 0, LVR_FOREVER), 0);
  rest(f);
}

/* ... or who has come for something else, and never looks again. */
TEST(an_old_wait_is_told_by_whoever_was) {
  struct fixture f = new_fixture();
  grow_old();
  pid_t putter = start_putter(&f, "channel.put.published");
  pid_t other = test_fork(get_one, &f);
  await_old(other, 2);
  pid_t told = test_fork(wait_once, &f);
  await_old(told, 3);
  await_old(other, 3);
  queue_up_again(other, 3);
  lvri_store_release_u32(f.go, 1);
  CHECK_INT(test_join(putter), -SIGKILL);
  CHECK_INT(test_join(other), 0);
  await_u32(f.step, 2);
  test_kill(told);
  check_session(f.s);
}

static void get_in_spite_of_signals(void *argument) {
  struct fixture *f = argument;
  struct note n = {0, 0};
  catch_signals();
  lvri_crashpoint_arm(LVRI_CRASH_STOP, "channel.wait.armed", 2);
  int error;
  do
    error = try_get_note(f->q, &n, LVR_FOREVER);
  while (error == -EINTR);
  CHECK_INT(error, 0);
  CHECK_INT(n.number, 7);
}

/* He has looked, and is about to sleep; before he does, another puts, dies, and is buried: nothing
 * of that one is left to be watched. */
TEST(an_old_wait_does_not_sleep_through_a_burial) {
  struct fixture f = new_fixture();
  grow_old();
  pid_t putter = start_putter(&f, "channel.put.published");
  pid_t sleeper = test_fork(get_in_spite_of_signals, &f);
  await_old(sleeper, 2);
  CHECK_INT(kill(sleeper, SIGUSR1), 0);
  test_await_stop(sleeper);
  lvri_store_release_u32(f.go, 1);
  CHECK_INT(test_join(putter), -SIGKILL);
  CHECK_INT(lvr_repair(f.s), 1);
  test_continue(sleeper);
  CHECK_INT(test_join(sleeper), 0);
}

static void take_and_rest(void *argument) {
  struct fixture *f = argument;
  struct note n;
  CHECK_INT(try_get_note(f->q, &n, in_ns(5 * SEC)), 0);
  rest(f);
}

static void join_the_queue(void *argument) {
  struct fixture *f = argument;
  uint32_t lost = 0;
  CHECK_INT(lvr_queue_join_until(f->q, LVR_FOREVER, &lost), 0);
  CHECK_INT(lost, 1);
}

/* What is waited for is in the hands of somebody who is watched by no word of his own. */
TEST(an_old_wait_repairs_the_dead) {
  struct fixture f = {.s = new_session(), .step = test_shared(sizeof(uint32_t))};
  grow_old();
  f.q = new_queue(f.s, 0, LVR_QUEUE_JOINABLE);
  put_one(&f);
  pid_t holder = test_fork(take_and_rest, &f);
  await_u32(f.step, 1);
  pid_t joiner = test_fork(join_the_queue, &f);
  await_old(joiner, 2);
  test_kill(holder);
  CHECK_INT(test_join(joiner), 0);
  check_session(f.s);
}

struct lock_fixture {
  struct fixture f;
  lvr_lock *l;
};

static void hold_the_lock(void *argument) {
  struct lock_fixture *x = argument;
  CHECK_INT(lvr_lock_acquire_until(x->l, 0), 0);
  rest(&x->f);
}

static void await_the_lock(void *argument) {
  struct lock_fixture *x = argument;
  CHECK_INT(lvr_lock_acquire_until(x->l, LVR_FOREVER), 1);
}

/* All who wait for a lock are woken by the end of its holder, and no other's end gives it away. */
TEST(an_old_wait_watches_whom_it_must) {
  struct lock_fixture x = {.f = new_fixture()};
  grow_old();
  CHECK_INT(lvr_lock_create(x.f.s, LVR_LOCK, &x.l), 0);
  pid_t holder = test_fork(hold_the_lock, &x), stranger;
  await_u32(x.f.step, 1);
  stranger = start_resting(&x.f);
  pid_t waiter = test_fork(await_the_lock, &x);
  await_old(waiter, 3);
  test_kill(stranger);
  await_old(waiter, 2);
  test_kill(holder);
  CHECK_INT(test_join(waiter), 0);
  check_session(x.f.s);
}
