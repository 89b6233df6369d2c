/* semaphore.h - units in one word; who holds which is in the ledgers. */
#ifndef LVRI_CORE_SEMAPHORE_H
#define LVRI_CORE_SEMAPHORE_H

#include "base/atomic.h"
#include "core/object.h"
#include "core/session.h"
#include "leveret/semaphore.h"

#define LVRI_SEMAPHORE_VALUE   UINT64_C(0x7fffffff) /* units that are there */
#define LVRI_SEMAPHORE_WAITERS UINT64_C(0x80000000) /* somebody may be asleep */
#define LVRI_SEMAPHORE_LOCKED  (UINT64_C(1) << 32) /* the guard's owner alone may change the word */

/* se_word: by compare-and-swap while it is not LOCKED; while it is, by the owner of the object's
 * stripe, logged. Its low half is the futex word.
 *   se_limit      constant
 *   se_held       sum of le_held over all ledgers
 *   se_strange    how many of these units were released by processes that held none: nobody knows
 *                 whose they were, and they are still on somebody's books; at most se_held
 *   se_returned   units that came back because their holder died
 * The last three: under the stripe, logged.
 *
 * Always, but inside of a critical section:
 *   value + (se_held - se_strange) + consumed = what was put in
 * Units come back from a dead process as far as they are not strange: a death may leave one out
 * until the holder of another dies, too, but it never invents one.
 *
 * Crash: taking or releasing a consumed unit is one swap. Taking or releasing a held one changes
 * two words, value and le_held: in the guard, with the word LOCKED so that no swap comes between
 * change and commit. Who dies in there leaves the word LOCKED, with a value that the guard's next
 * owner sets right, by rolling back or because it was committed; LOCKED means nothing to him, and
 * he takes it away. */
struct lvr_semaphore_shm {
  struct lvri_object_shm se_object;
  _Atomic uint64_t se_word;
  uint32_t se_limit;
  uint32_t se_held;
  uint32_t se_strange;
  uint32_t se_returned;
};
_Static_assert(sizeof(struct lvr_semaphore_shm) <= 64, "a semaphore fits the smallest block");

struct lvr_semaphore {
  struct lvri_handle handle;
};

static inline struct lvr_semaphore_shm *lvri_semaphore_shm(const struct lvr_semaphore *m) {
  return (struct lvr_semaphore_shm *)(void *)m->handle.object;
}

/* Takes a unit that is there, to be consumed. False: nothing happened. */
static inline bool lvri_semaphore_take_fast(struct lvr_semaphore *m) {
  _Atomic uint64_t *place = &lvri_semaphore_shm(m)->se_word;
  uint64_t word = lvri_load_relaxed_u64(place);
  if ((word & LVRI_SEMAPHORE_LOCKED) || (word & LVRI_SEMAPHORE_VALUE) == 0) return false;
  if (lvri_session_stale(m->handle.session)) return false;
  return lvri_cas_acquire_u64(place, &word, word - 1); /* pairs with the release */
}

/* Puts a unit in if nobody waits. False: nothing happened. */
static inline bool lvri_semaphore_put_fast(struct lvr_semaphore *m) {
  struct lvr_semaphore_shm *shm = lvri_semaphore_shm(m);
  uint64_t word = lvri_load_relaxed_u64(&shm->se_word);
  if (word >= shm->se_limit) return false; /* at the limit, or waited for, or locked */
  if (lvri_session_stale(m->handle.session)) return false;
  return lvri_cas_release_u64(&shm->se_word, &word, word + 1); /* pairs with the take */
}

/* For kinds.c. */
int lvri_semaphore_give_back(struct lvri_arena *a, lvri_off object, uint32_t *held);
bool lvri_semaphore_valid(struct lvri_arena *a, lvri_off object);

#endif
