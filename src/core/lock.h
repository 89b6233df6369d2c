/* lock.h - a lock and its owner in one word, and the short way in and out of it.
 *
 *   word = 0                        free
 *   word = owner [+ W] [+ A]        taken; W: somebody may be asleep; A: a holder before died
 *   word = A + pid of the dead      free, but what it protects was never mended since that one died
 *
 * The low half is the futex word. See owner.h for the layout, lock.c for the long way. */
#ifndef LVRI_CORE_LOCK_H
#define LVRI_CORE_LOCK_H

#include <pthread.h>

#include "core/object.h"
#include "core/session.h"
#include "leveret/lock.h"

/* lo_word: by anybody, by compare-and-swap. Whoever is named in it holds the lock; if that process
 * is dead, whoever comes next replaces it by his own name and A.
 * lo_hungry: a hint, by anybody. 1: somebody has slept for long and was never quick enough to take
 * the lock when it was free; whoever releases it next lets him go first.
 * Crash: every step is one store to one word, so the only half-done thing is a wake-up that was
 * not sent, or whose receiver died: who sleeps looks again after LVRI_RELOOK_NS. */
struct lvr_lock_shm {
  struct lvri_object_shm lo_object;
  _Atomic uint64_t lo_word;
  _Atomic uint32_t lo_hungry;
  uint32_t lo_spare;
};
_Static_assert(sizeof(struct lvr_lock_shm) <= 64, "a lock fits the smallest block");
_Static_assert(offsetof(struct lvr_lock_shm, lo_word) % 8 == 0, "the word is atomic");

/* One per process and lock. The thread that holds an RLock writes these; of a Lock, whoever does
 * something to it last, and only lvr_lock_is_mine() looks. `process` tells a forked child that what
 * it sees was its parent's. */
struct lvr_lock {
  struct lvri_handle handle;
  _Atomic uint64_t
      thread; /* which thread of this process took it last; 0 when that one has released it */
  _Atomic uint64_t process;  /* the process's owner word when it did */
  _Atomic uint32_t count;    /* RLock: how often */
  _Atomic uint32_t dead_pid; /* of the dead holder that was seen last */
};

static inline _Atomic uint64_t *lvri_lock_word(const struct lvr_lock *l) {
  return &((struct lvr_lock_shm *)(void *)l->handle.object)->lo_word;
}

/* Tells the threads of a process apart, for as long as they live. */
static inline uint64_t lvri_thread_id(void) {
#if defined(__x86_64__)
  return (uint64_t)(uintptr_t)__builtin_thread_pointer();
#else
  return (uint64_t)(uintptr_t)pthread_self();
#endif
}

/* thread before process (release): who reads process (acquire) and finds the word of his own
 * process there sees the thread that belongs to it or a later one, never one that fork() copied. */
static inline void lvri_lock_note_taker(struct lvr_lock *l, uint64_t own) {
  lvri_store_relaxed_u32(&l->count, 1);
  lvri_store_relaxed_u64(&l->thread, lvri_thread_id());
  lvri_store_release_u64(&l->process, own); /* pairs with lvri_lock_noted_mine() */
}

static inline bool lvri_lock_noted_mine(const struct lvr_lock *l, uint64_t own) {
  return lvri_load_acquire_u64(&l->process) == own && /* pairs with lvri_lock_note_taker() */
         lvri_load_relaxed_u64(&l->thread) == lvri_thread_id();
}

/* Takes a lock that is free, of either kind. False: nothing happened, go the long way. */
static inline bool lvri_lock_take_fast(struct lvr_lock *l) {
  uint64_t own = lvri_owner_word(l->handle.session);
  uint64_t word = 0;
  if (own == 0 || !lvri_cas_acquire_u64(lvri_lock_word(l), &word, own)) return false;
  lvri_lock_note_taker(
      l, own); /* the swap pairs with that of lvri_lock_drop_fast() and lock.c's drop() */
  return true;
}

/* Releases a Lock that this process holds and nobody waits for. False: nothing happened. */
static inline bool lvri_lock_drop_fast(struct lvr_lock *l) {
  uint64_t own = lvri_owner_word(l->handle.session);
  uint64_t word = own;
  lvri_store_relaxed_u64(&l->thread, 0);
  return own != 0 && lvri_cas_release_u64(lvri_lock_word(l), &word, 0);
}

/* An RLock that this thread holds: once more. False: it does not, or too often. */
static inline bool lvri_rlock_retake_fast(struct lvr_lock *l) {
  uint64_t own = lvri_owner_word(l->handle.session);
  if (own == 0 || !lvri_lock_noted_mine(l, own)) return false;
  uint32_t count = lvri_load_relaxed_u32(&l->count);
  if (count == UINT32_MAX) return false;
  lvri_store_relaxed_u32(&l->count, count + 1);
  return true;
}

/* An RLock that this thread holds more than once, or that nobody waits for: once less. False:
 * nothing happened. */
static inline bool lvri_rlock_drop_fast(struct lvr_lock *l) {
  uint64_t own = lvri_owner_word(l->handle.session);
  if (own == 0 || !lvri_lock_noted_mine(l, own)) return false;
  uint32_t count = lvri_load_relaxed_u32(&l->count);
  if (count == 1) {
    if (lvri_lock_drop_fast(l)) return true;
    lvri_store_relaxed_u64(&l->thread, lvri_thread_id());
    return false;
  }
  lvri_store_relaxed_u32(&l->count, count - 1);
  return true;
}

#endif
