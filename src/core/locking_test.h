/* locking_test.h - what the tests of all that is waited for share: sessions, steps, sleepers. */
#ifndef LVRI_CORE_LOCKING_TEST_H
#define LVRI_CORE_LOCKING_TEST_H

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/crashpoint.h"
#include "core/object.h"
#include "core/session.h"
#include "core/wait.h"
#include "leveret/barrier.h"
#include "leveret/condition.h"
#include "leveret/event.h"
#include "leveret/lock.h"
#include "leveret/process.h"
#include "leveret/semaphore.h"
#include "leveret/session.h"
#include "os/os.h"
#include "testing/crash.h"
#include "testing/test.h"

#define MS  INT64_C(1000000)
#define SEC INT64_C(1000000000)

static inline int64_t in_ns(int64_t ns) { return lvri_os_now_ns() + ns; }

static inline lvr_session *new_session(void) {
  lvr_session *s;
  CHECK_INT(lvr_session_create(NULL, &s), 0);
  return s;
}

/* All structures are in order. */
static inline void check_session(lvr_session *s) {
  CHECK(lvr_repair(s) >= 0);
  CHECK_INT(lvr_session_check(s), 0);
}

/* Yields until *word is at least `value`: a step that another process is about to take. */
static inline void await_u32(_Atomic uint32_t *word, uint32_t value) {
  while (lvri_load_acquire_u32(word) < value)
    (void)sched_yield();
}

/* Yields until process pid sleeps in the kernel, as far as /proc can tell: it waits for what we are
 * about to do. Being wrong makes a test easier to pass, never harder. */
static inline void await_asleep(pid_t pid) {
  uint64_t ticks;
  char state = 'R';
  while (lvri_os_process_start(pid, &ticks, &state) == 0 && state != 'S')
    (void)sched_yield();
}

/* A seed that can be given again: LVRI_SEED. */
static inline uint64_t test_seed(void) {
  const char *given = getenv("LVRI_SEED");
  uint64_t seed = given ? strtoull(given, NULL, 0) : 0;
  if (!given) CHECK_INT(lvri_os_random(&seed, 4), 0);
  (void)printf("  LVRI_SEED=%llu\n", (unsigned long long)seed);
  (void)fflush(stdout);
  return seed;
}

static inline uint32_t test_random(uint64_t *state) {
  *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)(*state >> 33);
}

static inline void ignore_signal(int signo) { (void)signo; }

/* SIGUSR1 interrupts waits from now on, and does nothing else. */
static inline void catch_signals(void) {
  struct sigaction action = {.sa_handler = ignore_signal};
  CHECK_INT(sigaction(SIGUSR1, &action, NULL), 0);
}

#endif
