/* queue.h - messages from any number of processes to any number of processes, in order.
 *
 * What a put returned from is there for everybody, and outlives its writer. Each message is got by
 * one process. Messages of one producer come in the order in which it put them. */
#ifndef LEVERET_QUEUE_H
#define LEVERET_QUEUE_H

#include "message.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lvr_queue lvr_queue;

#define LVR_QUEUE_JOINABLE 1u /* counts the messages that are not done yet */

/* lvr_queue_create - make a queue of at most `bound` messages.
 * Units:   bound 1..2^31-1; 0 = as many as there is memory for. flags: LVR_QUEUE_*.
 * Owner:   *ret_q is the caller's until lvr_queue_detach(); the queue, and what is in it, lives as
 *          long as anything refers to it.
 * Caller:  any thread of an attached process; not a signal handler.
 * Locks:   the arena's guard, shortly.   Fork: -ESTALE in a child without a slot.
 * Crash:   killed at any instruction there is a queue with a handle, which is repaired, or none.
 * Returns: 0, -EINVAL, -ENOMEM, -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_queue_create(lvr_session *s, uint32_t bound, uint32_t flags,
                                            lvr_queue **ret_q);

/* lvr_queue_attach - a handle of the queue that ref names.
 * Returns: 0, -ESTALE (it is gone), -EXDEV, -EINVAL (ref names no queue), -ENOMEM,
 *          -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_queue_attach(lvr_session *s, const lvr_ref *ref, lvr_queue **ret_q);

/* lvr_queue_detach - give the handle back. NULL is fine. */
LVR_API void lvr_queue_detach(lvr_queue *q);

/* lvr_queue_ref, lvr_queue_send - its name; as those of a lock. */
LVR_API void lvr_queue_ref(const lvr_queue *q, lvr_ref *ret_ref);
LVR_API LVR_MUST_CHECK int lvr_queue_send(lvr_queue *q, lvr_ref *ret_ref);

/* lvr_queue_put_until - append one message, waiting for room.
 * Units:   bytes from 0; more than LVR_MESSAGE_INLINE are copied into a block. deadline_ns absolute
 *          CLOCK_MONOTONIC, LVR_FOREVER = no limit, the past = try once.
 * Owner:   copies *data, keeps nothing; on failure the queue is as it was.
 * Caller:  any thread of an attached process; not a signal handler.
 * Locks:   the queue's put mutex, for the time of a copy; to switch segments the arena's guard.
 * Crash:   killed at any instruction the message is there, whole, or it is not.
 * Returns: 0, -ETIMEDOUT (full), -EINTR (call again, same deadline), -ENOMEM, -ESTALE,
 *          -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_queue_put_until(lvr_queue *q, const void *data, size_t bytes,
                                               int64_t deadline_ns);

/* lvr_queue_put_block_until - the same, and a block travels with the message: a handle of its own
 * making, with one use. bytes at most LVR_MESSAGE_INLINE; 0: the message is the block's payload.
 * Owner:   with 0 the handle is gone, and its reference is the message's; else it is still the
 *          caller's.
 * Returns: as above, -EINVAL (too many bytes, or a handle that is used elsewhere, too). */
LVR_API LVR_MUST_CHECK int lvr_queue_put_block_until(lvr_queue *q, const void *data, size_t bytes,
                                                     lvr_block *block, int64_t deadline_ns);

/* lvr_queue_put_many_until - append messages in one go, waiting for room whenever there is none.
 * Others' messages may come between them.
 * Units:   *ret_put: how many were put; written in any case.
 * Returns: as lvr_queue_put_until(); -EINVAL: one has more than LVR_MESSAGE_INLINE bytes, those
 *          before it were put. */
LVR_API LVR_MUST_CHECK int lvr_queue_put_many_until(lvr_queue *q, const struct lvr_slice *messages,
                                                    uint32_t count, int64_t deadline_ns,
                                                    uint32_t *ret_put);

/* lvr_queue_get_until - take the first message, waiting for one.
 * Owner:   *ret_m is the caller's: lvr_message_fini().
 * Caller:  any thread of an attached process; not a signal handler.
 * Locks:   the queue's get mutex, for the time of a copy; with a block, or at the end of a segment,
 *          the arena's guard.
 * Crash:   killed at any instruction the message is there for another, or it was received.
 * Returns: 0, -ETIMEDOUT (empty), -EINTR (call again, same deadline), -ENOMEM, -ESTALE,
 *          -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_queue_get_until(lvr_queue *q, struct lvr_message *ret_m,
                                               int64_t deadline_ns);

/* lvr_queue_get_many_until - take the first message, and as many more as lie behind it in one piece
 * (some 60 KiB of a queue that is used a lot), are wanted and fit.
 * Units:   the messages lie in buf one behind the other, each as 4 bytes of length and its
 *          bytes, padded to a multiple of 4. room in bytes, at least LVR_MESSAGE_INLINE + 4. Ends
 *          before a message with a block: *ret_count 0 with a return of 0 says that such a one is
 *          first.
 * Returns: as lvr_queue_get_until(), -EINVAL (too little room). */
LVR_API LVR_MUST_CHECK int lvr_queue_get_many_until(lvr_queue *q, void *buf, size_t room,
                                                    uint32_t most, int64_t deadline_ns,
                                                    uint32_t *ret_count, size_t *ret_bytes);

/* lvr_queue_wait_until - wait until there is a message; another may be faster to get it.
 * Returns: 0, -ETIMEDOUT, -EINTR, -ESTALE. */
LVR_API LVR_MUST_CHECK int lvr_queue_wait_until(lvr_queue *q, int64_t deadline_ns);

/* lvr_queue_size, lvr_queue_bound - messages in it, old news at once; and how many there may be (0:
 * no limit). */
LVR_API uint32_t lvr_queue_size(const lvr_queue *q);
LVR_API uint32_t lvr_queue_bound(const lvr_queue *q);

/* lvr_queue_done - one message that this process, or another, has got is done with.
 * Returns: 0, -EINVAL (not joinable, or called more often than there were messages), -ESTALE,
 *          -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_queue_done(lvr_queue *q);

/* lvr_queue_unfinished - messages put and not done. */
LVR_API uint32_t lvr_queue_unfinished(const lvr_queue *q);

/* lvr_queue_join_until - wait until every message that was put is done.
 * Units:   *ret_lost: how many were never done, because the process that got them died; since the
 *          queue was made, those already told to a join of this handle not counted. NULL is fine.
 * Returns: 0, -ETIMEDOUT, -EINTR, -EINVAL (not joinable), -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_queue_join_until(lvr_queue *q, int64_t deadline_ns,
                                                uint32_t *ret_lost);

/* lvr_queue_fileno - a descriptor that is readable while there is a message: for poll(2). Never
 * read it.
 * Owner:   the handle's; closed with it.
 * Returns: 0, -EMFILE, -ENFILE, -ENOMEM, -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_queue_fileno(lvr_queue *q, int *ret_fd);

#ifdef __cplusplus
}
#endif

#endif
