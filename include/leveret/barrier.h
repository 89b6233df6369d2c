/* barrier.h - so many processes or threads go on together, or none of them does.
 *
 *     enter -> -EPIPE                      broken
 *           -> 1   the last one: does what is to be done once, then open (or leave)
 *           -> 0   wait until it opens; -EINTR: wait again, or leave
 *
 * The death of one who waits, or of the last one before it has opened the barrier, breaks it for
 * all: nobody waits for the dead. */
#ifndef LEVERET_BARRIER_H
#define LEVERET_BARRIER_H

#include "object.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lvr_barrier lvr_barrier;

/* lvr_barrier_create - make a barrier for `parties` (from 1).
 * Owner:   *ret_b is the caller's until lvr_barrier_detach(); it lives as long as anything refers
 *          to it.
 * Caller:  any thread of an attached process; not a signal handler.
 * Locks:   the arena's guard, shortly.   Fork: -ESTALE in a child without a slot.
 * Crash:   killed at any instruction there is a barrier with a handle, which is repaired, or there
 *          is none.
 * Returns: 0, -EINVAL, -ENOMEM, -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_barrier_create(lvr_session *s, uint32_t parties,
                                              lvr_barrier **ret_b);

/* lvr_barrier_attach - a handle of the barrier that ref names.
 * Returns: 0, -ESTALE (it is gone), -EXDEV, -EINVAL (ref names no barrier), -ENOMEM,
 *          -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_barrier_attach(lvr_session *s, const lvr_ref *ref,
                                              lvr_barrier **ret_b);

/* lvr_barrier_detach - give the handle back, with nobody of this process inside. NULL is fine. */
LVR_API void lvr_barrier_detach(lvr_barrier *b);

/* lvr_barrier_ref, lvr_barrier_send - its name; as those of a lock. */
LVR_API void lvr_barrier_ref(const lvr_barrier *b, lvr_ref *ret_ref);
LVR_API LVR_MUST_CHECK int lvr_barrier_send(lvr_barrier *b, lvr_ref *ret_ref);

/* One who has arrived. Fields are the library's, but for index. */
struct lvr_barrier_ticket {
  lvr_barrier *barrier;
  uint32_t node;       /* in the queue; 0: left */
  uint32_t index;      /* 0..parties - 1: how many had arrived before */
  uint32_t generation; /* of those who arrive together */
  uint32_t reserved;
};

/* lvr_barrier_enter_until - arrive; while the last one of those before is not done yet, wait for it
 * first.
 * Units:   deadline_ns absolute CLOCK_MONOTONIC, LVR_FOREVER = no limit; it is for that first wait
 *          only.
 * Owner:   after 0 and 1, *ret_t is in use until lvr_barrier_open(), lvr_barrier_leave(), or a wait
 *          that returned anything but -EINTR; in the same thread.
 * Caller:  any thread of an attached process; not a signal handler.
 * Locks:   a stripe guard and the arena's guard, shortly.
 * Crash:   killed at any instruction, it has not arrived, or the barrier is broken.
 * Returns: 0: lvr_barrier_wait_until(); 1: the last one; -EPIPE: broken; -EINTR (not arrived: call
 *          again), -ETIMEDOUT (not arrived; nothing broken), -ENOMEM, -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_barrier_enter_until(lvr_barrier *b, int64_t deadline_ns,
                                                   struct lvr_barrier_ticket *ret_t);

/* lvr_barrier_wait_until - wait until all have arrived and the last one opens the barrier.
 * Units:   deadline_ns absolute CLOCK_MONOTONIC, LVR_FOREVER = no limit.
 *          Once the last one has arrived, it is waited for without limit.
 * Returns: 0: it opened; -EPIPE: broken, or reset; -ETIMEDOUT: broken by this; -EINTR: call again,
 *          same deadline, or lvr_barrier_leave(); -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_barrier_wait_until(struct lvr_barrier_ticket *t,
                                                  int64_t deadline_ns);

/* lvr_barrier_leave - go away without having been let through, as if this one had never arrived.
 * The last one, who cannot, breaks the barrier by it. */
LVR_API void lvr_barrier_leave(struct lvr_barrier_ticket *t);

/* lvr_barrier_open - the last one lets all through, itself included.
 * Returns: 0, -EPIPE (broken or reset in the meantime), -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_barrier_open(struct lvr_barrier_ticket *t);

/* lvr_barrier_abort - break it: all who wait and all who come get -EPIPE, until a reset. The last
 * one still leaves by lvr_barrier_leave().
 * Returns: 0, -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_barrier_abort(lvr_barrier *b);

/* lvr_barrier_reset - those who wait get -EPIPE; those who come find a fresh barrier.
 * Returns: 0, -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_barrier_reset(lvr_barrier *b);

/* lvr_barrier_pass_until - enter, wait and open in one call, for those who have nothing to do once.
 * Units:   *ret_index (or NULL) on success: 0..parties - 1, each once.
 * Returns: 0, -EPIPE, -ETIMEDOUT, -EINTR (it has left again), -ENOMEM, -ESTALE,
 *          -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_barrier_pass_until(lvr_barrier *b, int64_t deadline_ns,
                                                  uint32_t *ret_index);

/* lvr_barrier_parties - how many it lets through at a time. */
LVR_API uint32_t lvr_barrier_parties(const lvr_barrier *b);

/* lvr_barrier_waiting - how many have arrived and wait for more; old news at once. */
LVR_API uint32_t lvr_barrier_waiting(const lvr_barrier *b);

/* lvr_barrier_broken - whether all who come get -EPIPE, until lvr_barrier_reset(); old news. */
LVR_API bool lvr_barrier_broken(const lvr_barrier *b);

#ifdef __cplusplus
}
#endif

#endif
