#include "core/mutex.h"

#include <errno.h>
#include <stddef.h>
#include <time.h>

#include "base/assert.h"
#include "base/atomic.h"
#include "core/wait.h"
#include "os/os.h"

#ifndef __SANITIZE_THREAD__
#define SECOND_NS INT64_C(1000000000)
#endif

/* Where glibc keeps the futex word; mutex_test.c looks whether it is really used as one. */
_Static_assert(offsetof(struct lvri_mutex, mu_pthread.__data.__lock) == 0, "where is the word?");
_Static_assert(sizeof(((pthread_mutex_t *)0)->__data.__lock) == 4, "a futex word has 32 bits");

int lvri_mutex_init(struct lvri_mutex *m) {
  pthread_mutexattr_t attributes;
  int error = pthread_mutexattr_init(&attributes);
  if (error) return -error;
  error = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  if (!error) error = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  if (!error) error = pthread_mutex_init(&m->mu_pthread, &attributes);
  (void)pthread_mutexattr_destroy(&attributes);
  return -error;
}

/* glibc (2.36 at least) says of a mutex that was given up that it is not recoverable, and keeps it:
 * all others would wait for us. */
static void let_go(struct lvri_mutex *m) {
  uint32_t ours = (uint32_t)lvri_os_tid(), word = lvri_load_relaxed_u32(lvri_mutex_word(m));
  if ((word & LVRI_MUTEX_TID) != ours) return;
  while (!lvri_cas_acq_rel_u32(lvri_mutex_word(m), &word, 0)) {
  }
  (void)lvri_wake(lvri_mutex_word(m), INT32_MAX);
}

int lvri_mutex_trylock(struct lvri_mutex *m) {
  int error = pthread_mutex_trylock(&m->mu_pthread);
  if (__builtin_expect(error == ENOTRECOVERABLE, 0)) let_go(m);
  return -error;
}

/* Sleeps for it no longer than the relook: ETIMEDOUT. */
static int lock_for_a_while(pthread_mutex_t *m) {
#ifdef __SANITIZE_THREAD__
  return pthread_mutex_lock(m); /* TSan does not know the other one, and nobody dies under it */
#else
  int64_t at_ns = lvri_os_now_ns() + LVRI_RELOOK_NS;
  struct timespec until = {.tv_sec = at_ns / SECOND_NS, .tv_nsec = at_ns % SECOND_NS};
  return pthread_mutex_clocklock(m, CLOCK_MONOTONIC, &until);
#endif
}

/* When a mutex is unlocked one waiter is woken. If he is killed before he has it, and somebody else
 * took it in between, then neither the kernel nor that one wakes the next: the word says nothing of
 * waiters. So all who sleep look again by themselves. */
int lvri_mutex_lock(struct lvri_mutex *m) {
  int error = lvri_mutex_trylock(m);
  if (error != -EBUSY) return error;
  do
    error = lock_for_a_while(&m->mu_pthread);
  while (error == ETIMEDOUT);
  return -error;
}

void lvri_mutex_consistent(struct lvri_mutex *m) {
  int error = pthread_mutex_consistent(&m->mu_pthread);
  LVRI_ASSERT(error == 0);
  (void)error;
}

void lvri_mutex_unlock(struct lvri_mutex *m) {
  int error = pthread_mutex_unlock(&m->mu_pthread);
  LVRI_ASSERT(error == 0);
  (void)error;
}

_Atomic uint32_t *lvri_mutex_word(struct lvri_mutex *m) {
  return (_Atomic uint32_t *)(void *)&m->mu_pthread;
}

/* --- ranks --------------------------------------------------------------------------------- */

#if LVRI_DEBUG

static _Thread_local uint32_t ranks_held; /* a bit each */

void lvri_rank_take(enum lvri_rank rank) {
  LVRI_ASSERT(rank < LVRI_RANK_END);
  LVRI_ASSERT(ranks_held >> rank == 0); /* none of this rank or a higher one */
  ranks_held |= 1U << rank;
}

void lvri_rank_give(enum lvri_rank rank) {
  LVRI_ASSERT(ranks_held & 1U << rank);
  ranks_held &= ~(1U << rank);
}

void lvri_rank_forget(void) { ranks_held = 0; }

#else

void lvri_rank_take(enum lvri_rank rank) { (void)rank; }

void lvri_rank_give(enum lvri_rank rank) { (void)rank; }

void lvri_rank_forget(void) {}

#endif
