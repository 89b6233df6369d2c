/* condition.h - wait until another process says that something has changed.
 *
 * The lock that goes with it is the caller's, of either kind: held when a wait begins, and held
 * again, as often as before, when it is over.
 *
 *     waiter                                       notifier
 *     lvr_lock_acquire_until(l)                    lvr_lock_acquire_until(l)
 *     while (!ready)                               ready = true
 *       lvr_condition_wait_until(c, l, ...)        lvr_condition_notify(c, 1, NULL)
 *     lvr_lock_release(l)                          lvr_lock_release(l)
 *
 * Notifications go to those who waited longest, and to the living only. */
#ifndef LEVERET_CONDITION_H
#define LEVERET_CONDITION_H

#include "lock.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lvr_condition lvr_condition;

/* lvr_condition_create - make a condition that nobody waits for.
 * Owner:   *ret_c is the caller's until lvr_condition_detach(); it lives as long as anything refers
 *          to it.
 * Caller:  any thread of an attached process; not a signal handler.
 * Locks:   the arena's guard, shortly.   Fork: -ESTALE in a child without a slot.
 * Crash:   killed at any instruction there is a condition with a handle, which is repaired, or
 *          there is none.
 * Returns: 0, -ENOMEM, -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_condition_create(lvr_session *s, lvr_condition **ret_c);

/* lvr_condition_attach - a handle of the condition that ref names.
 * Returns: 0, -ESTALE (it is gone), -EXDEV, -EINVAL (ref names no condition), -ENOMEM,
 *          -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_condition_attach(lvr_session *s, const lvr_ref *ref,
                                                lvr_condition **ret_c);

/* lvr_condition_detach - give the handle back, with no wait of this process on it. NULL is fine. */
LVR_API void lvr_condition_detach(lvr_condition *c);

/* lvr_condition_ref, lvr_condition_send - its name; as those of a lock. */
LVR_API void lvr_condition_ref(const lvr_condition *c, lvr_ref *ret_ref);
LVR_API LVR_MUST_CHECK int lvr_condition_send(lvr_condition *c, lvr_ref *ret_ref);

/* lvr_condition_wait_until - release l, wait for a notification, take l again.
 * Units:   deadline_ns absolute CLOCK_MONOTONIC, LVR_FOREVER = no limit.
 * Caller:  holds l; a thread of an attached process.
 * Locks:   stripe guards and the arena's guard, shortly, never while it sleeps.
 * Crash:   killed at any instruction this process waits no more, and l is abandoned if it was held.
 * Returns: with l held: 0 notified, -ETIMEDOUT, -EINTR (a notification since then was somebody
 *          else's: look at what was waited for, then wait again); l not held before nor now:
 *          -EPERM, -EINVAL, -ENOMEM, -ESTALE, -ENOTRECOVERABLE. Whether l was abandoned while it
 *          was not held, lvr_lock_abandoned() tells. */
LVR_API LVR_MUST_CHECK int lvr_condition_wait_until(lvr_condition *c, lvr_lock *l,
                                                    int64_t deadline_ns);

/* One wait in three steps, for callers that must do something of their own when a signal arrives,
 * without the lock: a language runtime with signal handlers. Fields are the library's.
 *
 *     begin; while ((r = sleep) == -EINTR) if (handler_failed()) break;
 *     r = end; while ((t = lvr_condition_retake(&w)) == -EINTR) handler(); */
struct lvr_condition_wait {
  lvr_condition *condition;
  lvr_lock *lock;
  uint32_t node;  /* in the queue; 0: left */
  uint32_t count; /* how often the lock was taken */
  uint32_t notified;
  uint32_t reserved;
};

/* lvr_condition_wait_begin - join the queue of those who wait, and release the lock however often
 * it was taken.
 * Owner:   *ret_w is in use until lvr_condition_wait_end(), in the same thread.
 * Returns: 0; with nothing changed: -EPERM, -EINVAL (the lock is not held), -ENOMEM, -ESTALE,
 *          -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_condition_wait_begin(lvr_condition *c, lvr_lock *l,
                                                    struct lvr_condition_wait *ret_w);

/* lvr_condition_wait_sleep - sleep until notified; still in the queue after -EINTR, and may be
 * called again.
 * Returns: 0 notified, -ETIMEDOUT, -EINTR, -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_condition_wait_sleep(struct lvr_condition_wait *w,
                                                    int64_t deadline_ns);

/* lvr_condition_wait_end - leave the queue, once for each begin. The lock is not held yet.
 * Returns: 0: a notification was received, even if the sleep ended otherwise at that moment;
 *          -ETIMEDOUT: none was; -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_condition_wait_end(struct lvr_condition_wait *w);

/* lvr_condition_retake - take the lock back, as often as it was held.
 * Returns: 0; 1: taken, and its last holder died; -EINTR (call again), -ESTALE. */
LVR_API LVR_MUST_CHECK int lvr_condition_retake(struct lvr_condition_wait *w);

/* lvr_condition_notify - wake the `count` (UINT32_MAX: all) who have waited longest.
 * Units:   *ret_woken (or NULL): how many there were.
 * Caller:  any thread of an attached process, holding the lock that the waiters use.
 * Locks:   a stripe guard, shortly.
 * Crash:   killed at any instruction, each waiter has been notified or has not; it wakes within 100
 *          ms.
 * Returns: 0, -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_condition_notify(lvr_condition *c, uint32_t count,
                                                uint32_t *ret_woken);

/* lvr_condition_waiting - how many wait; old news at once. */
LVR_API uint32_t lvr_condition_waiting(const lvr_condition *c);

#ifdef __cplusplus
}
#endif

#endif
