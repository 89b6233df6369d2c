#include "core/mutex.h"

#include <errno.h>
#include <stddef.h>

#include "base/assert.h"
#include "base/atomic.h"

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

int lvri_mutex_lock(struct lvri_mutex *m) { return -pthread_mutex_lock(&m->mu_pthread); }

int lvri_mutex_trylock(struct lvri_mutex *m) { return -pthread_mutex_trylock(&m->mu_pthread); }

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
