/* semaphore.h - so many units of something, for processes and threads.
 *
 * A unit is taken to be *held*, or to be *consumed*. A held unit comes back when its holder dies;
 * it is what a resource is: `hold` is true in both calls. A consumed one is gone with who took it;
 * it is what a signal is. Where L is the limit: value + held + consumed = L, and whoever dies, at
 * any instruction, changes nothing of that. */
#ifndef LEVERET_SEMAPHORE_H
#define LEVERET_SEMAPHORE_H

#include "object.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lvr_semaphore lvr_semaphore;

/* The largest value and limit: SEM_VALUE_MAX of the system's own. */
#define LVR_SEMAPHORE_MAX 0x7fffffffu

/* lvr_semaphore_create - make a semaphore of `value` units.
 * Units:   value 0..LVR_SEMAPHORE_MAX; limit: it never has more (value..LVR_SEMAPHORE_MAX), 0 =
 *          LVR_SEMAPHORE_MAX.
 * Owner:   *ret_m is the caller's until lvr_semaphore_detach(); it lives as long as anything refers
 *          to it.
 * Caller:  any thread of an attached process; not a signal handler.
 * Locks:   the arena's guard, shortly.   Fork: -ESTALE in a child without a slot.
 * Crash:   killed at any instruction there is a semaphore with a handle, which is repaired, or
 *          there is none.
 * Returns: 0, -EINVAL, -ENOMEM, -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_semaphore_create(lvr_session *s, uint32_t value, uint32_t limit,
                                                lvr_semaphore **ret_m);

/* lvr_semaphore_attach - a handle of the semaphore that ref names.
 * Returns: 0, -ESTALE (it is gone), -EXDEV, -EINVAL (ref names no semaphore), -ENOMEM,
 *          -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_semaphore_attach(lvr_session *s, const lvr_ref *ref,
                                                lvr_semaphore **ret_m);

/* lvr_semaphore_detach - give the handle back. NULL is fine. Units that are held stay held, until
 * somebody releases them or the process ends. */
LVR_API void lvr_semaphore_detach(lvr_semaphore *m);

/* lvr_semaphore_ref, lvr_semaphore_send - its name; as those of a lock. */
LVR_API void lvr_semaphore_ref(const lvr_semaphore *m, lvr_ref *ret_ref);
LVR_API LVR_MUST_CHECK int lvr_semaphore_send(lvr_semaphore *m, lvr_ref *ret_ref);

/* lvr_semaphore_try - take a unit if there is one.
 * Returns: 0, -EBUSY, -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_semaphore_try(lvr_semaphore *m, bool hold);

/* lvr_semaphore_acquire_until - take a unit, waiting for one.
 * Units:   deadline_ns absolute CLOCK_MONOTONIC, LVR_FOREVER = no limit, the past = try once.
 * Caller:  any thread of an attached process; not a signal handler.
 * Locks:   hold: a stripe guard, shortly; else none.
 * Crash:   killed at any instruction the unit is there, or held by a dead process and hence given
 *          back, or consumed.
 * Returns: 0, -ETIMEDOUT, -EINTR (call again, same deadline), -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_semaphore_acquire_until(lvr_semaphore *m, bool hold,
                                                       int64_t deadline_ns);

/* lvr_semaphore_release - give a unit back, or (held false) one more.
 * A held unit may be released by another process than took it: it is then nobody's. When it came
 * back already, because who took it has died, releasing it does nothing.
 * Caller:  any thread of an attached process; not a signal handler.
 * Locks:   held: a stripe guard, shortly; else none.
 * Crash:   killed at any instruction it is released or it is not.
 * Returns: 0, -EOVERFLOW (over the limit), -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_semaphore_release(lvr_semaphore *m, bool held);

/* lvr_semaphore_value - units that are there; old news at once. */
LVR_API uint32_t lvr_semaphore_value(const lvr_semaphore *m);

/* lvr_semaphore_limit - what it was made with (0 became LVR_SEMAPHORE_MAX). */
LVR_API uint32_t lvr_semaphore_limit(const lvr_semaphore *m);

#ifdef __cplusplus
}
#endif

#endif
