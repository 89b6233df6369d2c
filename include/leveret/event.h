/* event.h - a flag that processes wait for. */
#ifndef LEVERET_EVENT_H
#define LEVERET_EVENT_H

#include "object.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lvr_event lvr_event;

/* lvr_event_create - make an event, not set.
 * Owner:   *ret_e is the caller's until lvr_event_detach(); it lives as long as anything refers to
 *          it.
 * Caller:  any thread of an attached process; not a signal handler.
 * Locks:   the arena's guard, shortly.   Fork: -ESTALE in a child without a slot.
 * Crash:   killed at any instruction there is an event with a handle, which is repaired, or there
 *          is none.
 * Returns: 0, -ENOMEM, -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_event_create(lvr_session *s, lvr_event **ret_e);

/* lvr_event_attach - a handle of the event that ref names.
 * Returns: 0, -ESTALE (it is gone), -EXDEV, -EINVAL (ref names no event), -ENOMEM,
 *          -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_event_attach(lvr_session *s, const lvr_ref *ref, lvr_event **ret_e);

/* lvr_event_detach - give the handle back. NULL is fine. */
LVR_API void lvr_event_detach(lvr_event *e);

/* lvr_event_ref, lvr_event_send - its name; as those of a lock. */
LVR_API void lvr_event_ref(const lvr_event *e, lvr_ref *ret_ref);
LVR_API LVR_MUST_CHECK int lvr_event_send(lvr_event *e, lvr_ref *ret_ref);

/* lvr_event_set - set the flag and wake all who wait, even if it is cleared again at once.
 * Caller:  any thread of an attached process; a signal handler, too.
 * Crash:   killed at any instruction it is set or not; who waits wakes within 50 ms. */
LVR_API void lvr_event_set(lvr_event *e);

/* lvr_event_clear - take the flag back. As lvr_event_set() otherwise. */
LVR_API void lvr_event_clear(lvr_event *e);

/* lvr_event_is_set - whether the flag is set; old news at once.
 * Caller:  as lvr_event_set(). */
LVR_API bool lvr_event_is_set(const lvr_event *e);

/* lvr_event_wait_until - wait until the flag is set, or was since this call began.
 * Units:   deadline_ns absolute CLOCK_MONOTONIC, LVR_FOREVER = no limit, the past = look once.
 * Returns: 0, -ETIMEDOUT, -EINTR (call again, same deadline), -ESTALE. */
LVR_API LVR_MUST_CHECK int lvr_event_wait_until(lvr_event *e, int64_t deadline_ns);

/* lvr_event_mark, lvr_event_wait_since_until - the same in two steps, for a wait that goes on after
 * -EINTR: a set() followed by clear() between mark and wait counts. */
LVR_API uint32_t lvr_event_mark(const lvr_event *e);
LVR_API LVR_MUST_CHECK int lvr_event_wait_since_until(lvr_event *e, uint32_t mark,
                                                      int64_t deadline_ns);

#ifdef __cplusplus
}
#endif

#endif
