/* mutex.h - the one wrapper of a robust process-shared mutex.
 *
 * The only place where a pthread type lies in the arena. Held for a few dozen instructions, never
 * across a wait; but for the alive word in a slot, which is held for life. When the thread that
 * holds it dies, however it dies, the kernel marks the word and wakes one waiter; the next to lock
 * it gets -EOWNERDEAD, holds it, and either repairs and calls lvri_mutex_consistent(), or unlocks
 * it as it is: from then on it is -ENOTRECOVERABLE for all.
 *
 * A thread must unlock what it locked, through the same mapping, before that is unmapped: the C
 * library keeps a list of a thread's robust mutexes by address. */
#ifndef LVRI_CORE_MUTEX_H
#define LVRI_CORE_MUTEX_H

#include <pthread.h>
#include <stdint.h>

/* Who writes: the C library and the kernel, by their own protocol; we read its first word. */
struct lvri_mutex {
  _Alignas(8) pthread_mutex_t mu_pthread;
};
_Static_assert(sizeof(struct lvri_mutex) <= 48, "the guard has 48 bytes for it");

/* What its futex word holds. */
#define LVRI_MUTEX_TID        0x3fffffffU
#define LVRI_MUTEX_OWNER_DIED 0x40000000U
#define LVRI_MUTEX_WAITERS    0x80000000U

/* Makes it, unlocked, in zeroed or dead memory. 0, -ENOSYS. */
int lvri_mutex_init(struct lvri_mutex *m);

/* 0; -EOWNERDEAD: held, and its last holder died; -ENOTRECOVERABLE: not held. */
int lvri_mutex_lock(struct lvri_mutex *m);

/* The same, or -EBUSY at once. */
int lvri_mutex_trylock(struct lvri_mutex *m);

/* After -EOWNERDEAD: what it protects is in order again. */
void lvri_mutex_consistent(struct lvri_mutex *m);

void lvri_mutex_unlock(struct lvri_mutex *m);

/* Its futex word: owner's tid | LVRI_MUTEX_WAITERS | LVRI_MUTEX_OWNER_DIED; 0 when free. To be
 * read, waited on, and (for such a wait) given its WAITERS bit by compare-and-swap; never else. */
_Atomic uint32_t *lvri_mutex_word(struct lvri_mutex *m);

/* The order in which a thread takes locks: each of a higher rank than all that it holds. Checked
 * per thread where LVRI_DEBUG is 1. */
enum lvri_rank {
  LVRI_RANK_CHANNEL = 1, /* one of the two mutexes of a channel: one at a time */
  LVRI_RANK_PRIVATE,     /* process-private locks: of a session, of its table of handles */
  LVRI_RANK_STRIPE,      /* one of the stripe guards: one at a time */
  LVRI_RANK_ARENA,       /* the arena's guard: the innermost */
  LVRI_RANK_END
};

/* This thread is about to take, or has given back, a lock of that rank. */
void lvri_rank_take(enum lvri_rank rank);
void lvri_rank_give(enum lvri_rank rank);

/* In a child of fork(): it holds none of what its maker held. */
void lvri_rank_forget(void);

#endif
