/* pipe.h - messages between two ends, each of which any number of processes may have.
 *
 * An end is closed when its last handle is gone: given back, or its process over, however that
 * went. */
#ifndef LEVERET_PIPE_H
#define LEVERET_PIPE_H

#include "message.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lvr_pipe lvr_pipe; /* an end */

#define LVR_PIPE_ROOM (UINT64_C(1) << 20) /* so many bytes may be under way, or one message */

/* lvr_pipe_create - make a pipe with its two ends.
 * Units:   duplex: messages go both ways; else from *ret_second to *ret_first.
 * Owner:   both are the caller's until lvr_pipe_detach().
 * Caller:  any thread of an attached process; not a signal handler.
 * Locks:   the arena's guard, shortly.   Fork: -ESTALE in a child without a slot.
 * Returns: 0, -ENOMEM, -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_pipe_create(lvr_session *s, bool duplex, lvr_pipe **ret_first,
                                           lvr_pipe **ret_second);

/* lvr_pipe_attach - a handle of the end that ref names.
 * Returns: 0, -ESTALE (it is closed), -EXDEV, -EINVAL (ref names no pipe), -ENOMEM,
 *          -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_pipe_attach(lvr_session *s, const lvr_ref *ref, lvr_pipe **ret_p);

/* lvr_pipe_detach - give the handle back; with the last one of all processes the end is closed.
 * NULL is fine. */
LVR_API void lvr_pipe_detach(lvr_pipe *p);

/* lvr_pipe_ref, lvr_pipe_send - its name; as those of a lock. */
LVR_API void lvr_pipe_ref(const lvr_pipe *p, lvr_ref *ret_ref);
LVR_API LVR_MUST_CHECK int lvr_pipe_send(lvr_pipe *p, lvr_ref *ret_ref);

/* lvr_pipe_readable, lvr_pipe_writable - whether messages can be got, or put, at this end. */
LVR_API bool lvr_pipe_readable(const lvr_pipe *p);
LVR_API bool lvr_pipe_writable(const lvr_pipe *p);

/* lvr_pipe_put_until, lvr_pipe_put_block_until - send one message to the other end; as those of a
 * queue.
 * Returns: and -EPIPE (the other end is closed), -EINVAL (nothing can be put here). */
LVR_API LVR_MUST_CHECK int lvr_pipe_put_until(lvr_pipe *p, const void *data, size_t bytes,
                                              int64_t deadline_ns);
LVR_API LVR_MUST_CHECK int lvr_pipe_put_block_until(lvr_pipe *p, const void *data, size_t bytes,
                                                    lvr_block *block, int64_t deadline_ns);

/* lvr_pipe_put_many_until - send messages in one go, waiting for room whenever there is none; as
 * that of a queue.
 * Returns: and -EPIPE (the other end is closed), -EINVAL (nothing can be put here). */
LVR_API LVR_MUST_CHECK int lvr_pipe_put_many_until(lvr_pipe *p, const struct lvr_slice *messages,
                                                   uint32_t count, int64_t deadline_ns,
                                                   uint32_t *ret_put);

/* lvr_pipe_get_until - take the first message, waiting for one; as that of a queue.
 * Returns: and -EPIPE (none, and the other end is closed), -EINVAL (nothing can be got here). */
LVR_API LVR_MUST_CHECK int lvr_pipe_get_until(lvr_pipe *p, struct lvr_message *ret_m,
                                              int64_t deadline_ns);

/* lvr_pipe_get_many_until - take the first message, and more of those behind it; as that of a
 * queue, which says how they are packed.
 * Returns: and -EPIPE (none, and the other end is closed), -EINVAL (nothing can be got here). */
LVR_API LVR_MUST_CHECK int lvr_pipe_get_many_until(lvr_pipe *p, void *buf, size_t room,
                                                   uint32_t most, int64_t deadline_ns,
                                                   uint32_t *ret_count, size_t *ret_bytes);

/* lvr_pipe_wait_until - wait until there is a message, or the other end is closed.
 * Returns: 0, -ETIMEDOUT, -EINTR, -EINVAL, -ESTALE. */
LVR_API LVR_MUST_CHECK int lvr_pipe_wait_until(lvr_pipe *p, int64_t deadline_ns);

/* lvr_pipe_fileno - a descriptor that is readable while lvr_pipe_wait_until() would not wait; as
 * that of a queue. */
LVR_API LVR_MUST_CHECK int lvr_pipe_fileno(lvr_pipe *p, int *ret_fd);

#ifdef __cplusplus
}
#endif

#endif
