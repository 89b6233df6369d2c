/* err.h - what the return codes of libleveret mean, and the attributes of its functions.
 *
 * Every function that can fail returns 0 (or what its comment says) or a negative errno. There is
 * no enumeration of our own; this table says what each code means here.
 *
 *   -EAGAIN           the process table is full; or "not now, nothing has changed"
 *   -EBUSY            taken (a lock that was only tried), or already born (a child to be withdrawn)
 *   -ECHILD           every process that is forked here dies before it can be used;
 *                     or not ours to ask
 *   -EINTR            a signal arrived while waiting: run its handler, call again with the same
 *                     deadline
 *   -EINVAL           an argument that no caller may pass, or an object of another kind
 *   -EMFILE, -ENFILE  no descriptor left for the arena
 *   -ENODATA          the process is over and nobody has said with which status
 *   -ENOMEM           no memory, or no room in the arena
 *   -ENOTRECOVERABLE  a structure of the arena is broken; nothing can be done with the session
 *   -ENOSYS           this kernel cannot do it
 *   -EOVERFLOW        a count would pass its limit
 *   -EPERM            only its owner may do that
 *   -EPIPE            broken: a barrier, or the other side is gone
 *   -ESRCH            no such process, or its slot has been given away since
 *   -ESTALE           the object is gone; or this process is none of the session's (it was forked
 *                     without a slot)
 *   -ETIMEDOUT        the deadline has passed
 *   -EUCLEAN          lvr_session_check() found something wrong
 *   -EXDEV            the reference belongs to another session
 *   -EBADMSG, -EPROTO the descriptor is no arena, or one of another version or layout
 */
#ifndef LEVERET_ERR_H
#define LEVERET_ERR_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define LVR_API        __attribute__((visibility("default")))
#define LVR_MUST_CHECK __attribute__((warn_unused_result))
#else
#define LVR_API
#define LVR_MUST_CHECK
#endif

/* A deadline is absolute CLOCK_MONOTONIC in nanoseconds. One in the past means "try once". */
#define LVR_FOREVER INT64_MAX

#endif
