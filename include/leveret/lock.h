/* lock.h - mutual exclusion between processes, and between threads of them.
 *
 * A lock of kind LVR_LOCK may be released by anybody; one of kind LVR_RLOCK belongs to the thread
 * that took it, which may take it again. A lock whose holder died is not lost: the next one to ask
 * gets it, is told so (1 instead of 0), and lvr_lock_abandoned() is true until that one releases
 * it.
 *
 *     int got = lvr_lock_acquire_until(l, LVR_FOREVER);
 *     if (got < 0) return got;
 *     if (got == 1) mend_what_the_dead_one_left();
 *     ...
 *     got = lvr_lock_release(l);
 */
#ifndef LEVERET_LOCK_H
#define LEVERET_LOCK_H

#include "object.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lvr_lock lvr_lock;

enum lvr_lock_kind { LVR_LOCK = 1, LVR_RLOCK = 2 };

/* lvr_lock_create - make a lock, free.
 * Owner:   *ret_l is the caller's until lvr_lock_detach(); the lock lives as long as anything
 *          refers to it.
 * Caller:  any thread of an attached process; not a signal handler.
 * Locks:   the arena's guard, shortly.   Fork: -ESTALE in a child without a slot.
 * Crash:   killed at any instruction there is a lock with a handle, which is repaired, or there is
 *          none.
 * Returns: 0, -ENOMEM, -EINVAL (no such kind), -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_lock_create(lvr_session *s, enum lvr_lock_kind kind,
                                           lvr_lock **ret_l);

/* lvr_lock_attach - a handle of the lock that ref names, of either kind.
 * Returns: 0, -ESTALE (the lock is gone), -EXDEV, -EINVAL (ref names no lock), -ENOMEM,
 *          -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_lock_attach(lvr_session *s, const lvr_ref *ref, lvr_lock **ret_l);

/* lvr_lock_detach - give the handle back. NULL is fine. A lock that is held stays held. */
LVR_API void lvr_lock_detach(lvr_lock *l);

/* lvr_lock_ref - its name in any process of the session; keeps nothing alive. */
LVR_API void lvr_lock_ref(const lvr_lock *l, lvr_ref *ret_ref);

/* lvr_lock_send - its name, with a reference that travels until the first attach (or
 * lvr_object_unsend()).
 * Returns: 0, -EOVERFLOW, -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_lock_send(lvr_lock *l, lvr_ref *ret_ref);

/* lvr_lock_kind - what it was made as. */
LVR_API enum lvr_lock_kind lvr_lock_kind(const lvr_lock *l);

/* lvr_lock_try - take the lock if that is possible at once.
 * Caller:  any thread of an attached process; not a signal handler.
 * Locks:   none of the core's.   Fork: the child holds nothing that its parent holds.
 * Crash:   killed at any instruction the lock is as it was, or it is abandoned to the next.
 * Returns: 0; 1: taken, and its last holder died; -EBUSY, -EOVERFLOW (too often recursive),
 *          -ESTALE. */
LVR_API LVR_MUST_CHECK int lvr_lock_try(lvr_lock *l);

/* lvr_lock_acquire_until - take the lock, waiting for it; for as long as it may take if its holder
 * lives, and no longer than it takes to notice (well under a millisecond) if its holder dies.
 * Units:   deadline_ns absolute CLOCK_MONOTONIC, LVR_FOREVER = no limit, the past = as
 *          lvr_lock_try().
 * Returns: 0; 1: taken, and its last holder died; -ETIMEDOUT; -EINTR (call again, same deadline);
 *          -EOVERFLOW, -ESTALE. */
LVR_API LVR_MUST_CHECK int lvr_lock_acquire_until(lvr_lock *l, int64_t deadline_ns);

/* lvr_lock_release - give the lock to whoever comes first; an RLock, when it was released as often
 * as taken.
 * Caller:  LVR_LOCK: any thread of any process. LVR_RLOCK: the thread that took it.
 * Crash:   killed before the release it is abandoned; after it, the next waiter has it within 100
 *          ms.
 * Returns: 0, -EINVAL (LVR_LOCK: nobody holds it), -EPERM (LVR_RLOCK: not ours), -ESTALE. */
LVR_API LVR_MUST_CHECK int lvr_lock_release(lvr_lock *l);

/* lvr_lock_release_abandoned - give back a lock, whole, that was taken with 1, without having
 * mended anything: the next one to take it gets 1, too. Like lvr_lock_release() if it is not
 * abandoned. */
LVR_API LVR_MUST_CHECK int lvr_lock_release_abandoned(lvr_lock *l);

/* lvr_lock_release_all - release however often it was taken; *ret_count is for lvr_lock_restore().
 * Returns: as lvr_lock_release(). */
LVR_API LVR_MUST_CHECK int lvr_lock_release_all(lvr_lock *l, uint32_t *ret_count);

/* lvr_lock_restore - take it again as often as lvr_lock_release_all() released it, waiting for it.
 * Returns: 0; 1: taken, and its last holder died; -EINTR (call again), -ESTALE. */
LVR_API LVR_MUST_CHECK int lvr_lock_restore(lvr_lock *l, uint32_t count);

/* lvr_lock_owner - the process that holds it (it may be dead); 0: nobody. Old news at once, unless
 * it is us. */
LVR_API lvr_proc_id lvr_lock_owner(const lvr_lock *l);

/* lvr_lock_is_mine - whether this thread took it last, and still has it. */
LVR_API bool lvr_lock_is_mine(const lvr_lock *l);

/* lvr_lock_count - how often this process (any thread of it) has taken it; 0: not ours. */
LVR_API uint32_t lvr_lock_count(const lvr_lock *l);

/* lvr_lock_abandoned - somebody died holding it, and whoever took it since has not released it. */
LVR_API bool lvr_lock_abandoned(const lvr_lock *l);

/* lvr_lock_abandoned_pid - the pid of who died, as far as this process has seen it; 0: nobody. */
LVR_API int32_t lvr_lock_abandoned_pid(const lvr_lock *l);

#ifdef __cplusplus
}
#endif

#endif
