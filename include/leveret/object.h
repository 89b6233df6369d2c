/* object.h - how a shared object is named outside its process.
 *
 * An lvr_ref is plain bytes: it may be copied, stored and sent anywhere. By itself it does not keep
 * its object alive. A reference that travels with a message does: lvr_K_send() takes it and marks
 * the bytes, lvr_K_attach() with these bytes takes it over, and lvr_object_unsend() gives it back
 * if the message was never sent. So bytes that travel are to be attached or unsent, once. */
#ifndef LEVERET_OBJECT_H
#define LEVERET_OBJECT_H

#include "err.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lvr_session lvr_session;

/* One process of one session, for ever: unlike a pid it is never used again. 0 is nobody. */
typedef uint64_t lvr_proc_id;

typedef struct lvr_ref {
  uint8_t session[16]; /* the session's uuid */
  uint64_t off;        /* where in the arena */
  uint64_t serial;     /* which object there: never used again in this session */
  uint32_t kind;       /* lock, semaphore, ... */
  uint32_t travels;    /* 1: lvr_K_send() has taken a reference for it; 0: it is only a name */
} lvr_ref;

/* lvr_object_unsend - give back the reference that lvr_K_send() took for a message that was lost.
 * Units:   ref as it came from there.
 * Owner:   the object is destroyed if nothing else referred to it.
 * Caller:  any thread of an attached process; not a signal handler.
 * Locks:   the arena's guard, shortly.   Fork: -ESTALE in a child without a slot.
 * Crash:   killed at any instruction, the reference is given back or it is not.
 * Returns: 0, -EXDEV (another session), -ESTALE (no such object), -EINVAL (ref does
 *          not travel, or nothing of the object does), -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_object_unsend(lvr_session *s, const lvr_ref *ref);

#ifdef __cplusplus
}
#endif

#endif
