/* locks.c - what locks and their kin cost in C. docs/design/locks.md quotes it.
 *
 *     meson setup build -Dbench=true -Dbuildtype=release
 *     meson compile -C build && build/bench/c/bench_locks
 *
 * First nobody else is there: the median of ROUNDS rounds, in ns for one of each. Then four
 * processes at one lock, and a lock whose holder is killed. */
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic.h"
#include "core/lock.h"
#include "leveret/leveret.h"
#include "os/os.h"

enum { ROUNDS = 15, COUNT = 100000, CROWD = 4, CROWD_COUNT = 250000, DEATHS = 25, MANY = 20000 };

static lvr_session *session;
static lvr_lock *lock, *rlock;
static lvr_semaphore *semaphore;
static lvr_event *event;
static lvr_condition *condition;
static lvr_barrier *barrier;
static sem_t theirs;

/* Shared by the processes of a measurement. */
static struct shared {
  sem_t theirs;
  _Atomic uint32_t ready;
  int64_t at_ns;
  uint64_t counter;
} * shared;

static void demand(bool fulfilled, const char *what) {
  if (fulfilled) return;
  (void)fprintf(stderr, "bench: %s failed\n", what);
  exit(1);
}

static int by_value(const void *left, const void *right) {
  double l = *(const double *)left, r = *(const double *)right;
  return (l > r) - (l < r);
}

/* body does its work `count` times; the first round is not counted. */
static void measure(const char *what, unsigned count, void (*body)(unsigned count)) {
  double times[ROUNDS];
  body(count);
  for (unsigned i = 0; i < ROUNDS; i++) {
    int64_t start = lvri_os_now_ns();
    body(count);
    times[i] = (double)(lvri_os_now_ns() - start) / count;
  }
  qsort(times, ROUNDS, sizeof(times[0]), by_value);
  (void)printf("%-52s %10.1f ns   (%.1f to %.1f)\n", what, times[ROUNDS / 2], times[0],
               times[ROUNDS - 1]);
}

/* --- alone --------------------------------------------------------------------------------- */

static void use_their_semaphore(unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    (void)sem_wait(&theirs);
    (void)sem_post(&theirs);
  }
}

static void use_lock(unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    demand(lvr_lock_acquire_until(lock, LVR_FOREVER) == 0, "acquire");
    demand(lvr_lock_release(lock) == 0, "release");
  }
}

static void use_lock_inline(unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    demand(lvri_lock_take_fast(lock), "acquire");
    demand(lvri_lock_drop_fast(lock), "release");
  }
}

static void use_rlock(unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    demand(lvr_lock_acquire_until(rlock, LVR_FOREVER) == 0, "acquire");
    demand(lvr_lock_release(rlock) == 0, "release");
  }
}

static void use_semaphore(unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    demand(lvr_semaphore_acquire_until(semaphore, false, LVR_FOREVER) == 0, "acquire");
    demand(lvr_semaphore_release(semaphore, false) == 0, "release");
  }
}

static void hold_semaphore(unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    demand(lvr_semaphore_acquire_until(semaphore, true, LVR_FOREVER) == 0, "acquire");
    demand(lvr_semaphore_release(semaphore, true) == 0, "release");
  }
}

static void set_event(unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    lvr_event_set(event);
    lvr_event_clear(event);
  }
}

static void notify_nobody(unsigned count) {
  for (unsigned i = 0; i < count; i++)
    demand(lvr_condition_notify(condition, 1, NULL) == 0, "notify");
}

static void wait_for_nothing(unsigned count) {
  demand(lvr_lock_try(lock) == 0, "acquire");
  for (unsigned i = 0; i < count; i++)
    demand(lvr_condition_wait_until(condition, lock, 0) == -ETIMEDOUT, "wait");
  demand(lvr_lock_release(lock) == 0, "release");
}

static void pass_barrier(unsigned count) {
  for (unsigned i = 0; i < count; i++)
    demand(lvr_barrier_pass_until(barrier, LVR_FOREVER, NULL) == 0, "barrier");
}

static void create_locks(unsigned count) {
  static lvr_lock *locks[MANY];
  for (unsigned i = 0; i < count; i++)
    demand(lvr_lock_create(session, LVR_LOCK, &locks[i]) == 0, "create");
  for (unsigned i = 0; i < count; i++)
    lvr_lock_detach(locks[i]);
}

static void measure_alone(void) {
  measure("sem_wait and sem_post, for comparison", COUNT, use_their_semaphore);
  measure("lock: acquire and release", COUNT, use_lock);
  measure("lock: acquire and release, inline", COUNT, use_lock_inline);
  measure("recursive lock: acquire and release", COUNT, use_rlock);
  measure("semaphore: acquire and release", COUNT, use_semaphore);
  measure("semaphore: acquire and release, held", COUNT, hold_semaphore);
  measure("event: set and clear", COUNT, set_event);
  measure("condition: notify nobody", COUNT, notify_nobody);
  measure("condition: a wait without sleep", COUNT / 10, wait_for_nothing);
  measure("barrier of one: pass", COUNT / 10, pass_barrier);
  measure("lock: create and detach", MANY, create_locks);
}

/* --- four at one lock ---------------------------------------------------------------------- */

static void count_with_ours(void) {
  for (unsigned i = 0; i < CROWD_COUNT; i++) {
    demand(lvr_lock_acquire_until(lock, LVR_FOREVER) >= 0, "acquire");
    shared->counter++;
    demand(lvr_lock_release(lock) == 0, "release");
  }
}

static void count_with_semaphore(void) {
  for (unsigned i = 0; i < CROWD_COUNT; i++) {
    demand(lvr_semaphore_acquire_until(semaphore, false, LVR_FOREVER) >= 0, "acquire");
    shared->counter++;
    demand(lvr_semaphore_release(semaphore, false) == 0, "release");
  }
}

static void count_with_held(void) {
  for (unsigned i = 0; i < CROWD_COUNT; i++) {
    demand(lvr_semaphore_acquire_until(semaphore, true, LVR_FOREVER) >= 0, "acquire");
    shared->counter++;
    demand(lvr_semaphore_release(semaphore, true) == 0, "release");
  }
}

static void count_with_theirs(void) {
  for (unsigned i = 0; i < CROWD_COUNT; i++) {
    while (sem_wait(&shared->theirs))
      continue;
    shared->counter++;
    (void)sem_post(&shared->theirs);
  }
}

static double crowd_once(void (*body)(void)) {
  pid_t pids[CROWD];
  shared->counter = 0;
  int64_t start = lvri_os_now_ns();
  for (unsigned i = 0; i < CROWD; i++) {
    pids[i] = fork();
    if (pids[i] != 0) continue;
    body();
    _exit(0);
  }
  for (unsigned i = 0; i < CROWD; i++)
    (void)waitpid(pids[i], NULL, 0);
  demand(shared->counter == (uint64_t)CROWD * CROWD_COUNT, "counting");
  return (double)(lvri_os_now_ns() - start) / 1e9;
}

static void measure_crowd(const char *what, void (*body)(void)) {
  double times[5];
  for (unsigned i = 0; i < 5; i++)
    times[i] = crowd_once(body);
  qsort(times, 5, sizeof(times[0]), by_value);
  (void)printf("%-52s %10.3f s    (%.3f to %.3f)\n", what, times[2], times[0], times[4]);
}

/* --- the holder dies ----------------------------------------------------------------------- */

static pid_t start(void (*body)(void)) {
  uint32_t ready = lvri_load_acquire_u32(&shared->ready);
  pid_t pid = fork();
  if (pid == 0) {
    body();
    _exit(0);
  }
  while (lvri_load_acquire_u32(&shared->ready) == ready)
    lvri_os_yield();
  return pid;
}

static void hold_for_ever(void) {
  demand(lvr_lock_acquire_until(lock, LVR_FOREVER) >= 0, "acquire");
  (void)lvri_fetch_add_acq_rel_u32(&shared->ready, 1);
  for (;;)
    (void)pause();
}

static void take_from_the_dead(void) {
  (void)lvri_fetch_add_acq_rel_u32(&shared->ready, 1);
  demand(lvr_lock_acquire_until(lock, LVR_FOREVER) == 1, "acquire from the dead");
  shared->at_ns = lvri_os_now_ns();
  demand(lvr_lock_release(lock) == 0, "release");
}

static void measure_deaths(void) {
  double times[DEATHS];
  for (unsigned i = 0; i < DEATHS; i++) {
    pid_t holder = start(hold_for_ever), heir = start(take_from_the_dead);
    (void)lvri_os_sleep_until(lvri_os_now_ns() + 2000000); /* the heir sleeps by now */
    int64_t killed_ns = lvri_os_now_ns();
    (void)kill(holder, SIGKILL);
    (void)waitpid(heir, NULL, 0);
    (void)waitpid(holder, NULL, 0);
    times[i] = (double)(shared->at_ns - killed_ns) / 1e6;
  }
  qsort(times, DEATHS, sizeof(times[0]), by_value);
  (void)printf("%-52s %10.3f ms   (%.3f to %.3f)\n",
               "from the holder's SIGKILL to the next one's having it", times[DEATHS / 2], times[0],
               times[DEATHS - 1]);
}

int main(void) {
  shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  demand(shared != MAP_FAILED, "memory");
  demand(sem_init(&theirs, 1, 1) == 0 && sem_init(&shared->theirs, 1, 1) == 0, "sem_init");
  demand(lvr_session_create(NULL, &session) == 0, "session");
  demand(lvr_lock_create(session, LVR_LOCK, &lock) == 0, "lock");
  demand(lvr_lock_create(session, LVR_RLOCK, &rlock) == 0, "lock");
  demand(lvr_semaphore_create(session, 1, 1, &semaphore) == 0, "semaphore");
  demand(lvr_event_create(session, &event) == 0, "event");
  demand(lvr_condition_create(session, &condition) == 0, "condition");
  demand(lvr_barrier_create(session, 1, &barrier) == 0, "barrier");
  measure_alone();
  measure_crowd("4 processes x 250000: lock", count_with_ours);
  measure_crowd("4 processes x 250000: semaphore", count_with_semaphore);
  measure_crowd("4 processes x 250000: semaphore, held", count_with_held);
  measure_crowd("4 processes x 250000: sem_wait and sem_post", count_with_theirs);
  measure_deaths();
  return 0;
}
