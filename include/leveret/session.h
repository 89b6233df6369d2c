/* session.h - all processes that map one arena.
 *
 * A session is born with lvr_session_create() and ends with its last process; it names nothing in
 * the file system. Another process joins it by the arena's descriptor, inherited or received. */
#ifndef LEVERET_SESSION_H
#define LEVERET_SESSION_H

#include "object.h"

#ifdef __cplusplus
extern "C" {
#endif

struct lvr_session_options {
  uint64_t reserve_bytes; /* addresses for the arena; 0: the default; less is taken if need be */
  uint32_t max_processes; /* room in the process table; 0: the default, at most 16384 */
  uint32_t reserved;      /* 0 */
};

struct lvr_session_stats {
  uint64_t blocks;          /* heap blocks in use, those of the session itself included */
  uint64_t bytes;           /* and their bytes */
  uint64_t committed_bytes; /* memory that the arena has taken from the system */
  uint64_t warm_bytes;      /* of these: of no block, but kept for the next one; 64 MiB at most */
  uint64_t objects;         /* shared objects alive */
  uint32_t slots_free;      /* slots that exist and belong to nobody; the table grows by itself */
  uint32_t slots_embryo;    /* prepared, not born yet */
  uint32_t slots_running;   /* processes */
  uint32_t slots_over;      /* ended, not repaired yet */
  uint32_t slots_kept;      /* ended and repaired, their status not forgotten yet */
  uint32_t handles;         /* handles of this process */
};

/* lvr_session_create - make an arena and join it as its first process.
 * Units:   options may be NULL.
 * Owner:   *ret_s belongs to the caller until lvr_session_detach() or the end of the process.
 * Caller:  any thread; the calling thread's end does not end the session.
 * Fork:    a child is a process of the session of its own, with handles of all its parent has.
 * Crash:   nothing remains.
 * Returns: 0, -ENOMEM, -EMFILE, -ENFILE, -ENOSYS, -EINVAL. */
LVR_API LVR_MUST_CHECK int lvr_session_create(const struct lvr_session_options *options,
                                              lvr_session **ret_s);

/* lvr_session_attach - join the session whose arena is behind a descriptor.
 * Units:   as = a prepared process to become (see lvr_proc_prepare()), or 0 for a new one.
 * Owner:   fd stays the caller's: the session keeps a duplicate.
 * Caller:  any thread.
 * Crash:   killed on the way it was born or it was not; either is repaired.
 * Returns: 0, -EBADMSG (no arena), -EPROTO (another version or layout), -ESRCH (as is withdrawn or
 *          somebody else), -EAGAIN (table full), -ENOMEM, -EMFILE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_session_attach(int fd, lvr_proc_id as, lvr_session **ret_s);

/* lvr_session_map - map the arena behind a descriptor without becoming a process of the session.
 * The session answers -ESTALE to everything until lvr_proc_adopt() has made this process one of it:
 * so a spare maps before it knows who it will be.
 * Owner:   fd stays the caller's.
 * Returns: as lvr_session_attach(). */
LVR_API LVR_MUST_CHECK int lvr_session_map(int fd, lvr_session **ret_s);

/* lvr_session_detach - leave the session: give back every handle and the slot, unmap.
 * Owner:   s and all handles of it are gone; detach them before.
 * Caller:  any thread, while no other thread uses s. NULL is fine.
 * Fork:    a child without a slot only unmaps.
 * Crash:   what has not been given back yet is repaired. */
LVR_API void lvr_session_detach(lvr_session *s);

/* lvr_session_fd - the descriptor of the arena, to be inherited or sent; it stays the session's. */
LVR_API int lvr_session_fd(const lvr_session *s);

/* lvr_session_uuid - what every lvr_ref of this session begins with. */
LVR_API void lvr_session_uuid(const lvr_session *s, uint8_t ret_uuid[16]);

/* lvr_session_stats - count what there is.
 * Locks:   the arena's guard, for as long as it takes to walk the process table.
 * Returns: 0, -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_session_stats(lvr_session *s, struct lvr_session_stats *ret_stats);

/* lvr_session_check - walk every structure and see that its equations hold.
 * Locks:   the arena's guard, for long: a tool for tests and for the suspicious.
 * Returns: 0, -EUCLEAN (something is wrong), -ESTALE, -ENOMEM, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_session_check(lvr_session *s);

#ifdef __cplusplus
}
#endif

#endif
