/* process.h - births and deaths, as the modules above see them. */
#ifndef LVRI_CORE_PROCESS_H
#define LVRI_CORE_PROCESS_H

#include "core/session.h"
#include "leveret/process.h"

/* lvr_proc_wait_born_until(), but also -EOWNERDEAD as soon as process watch is over (0: nobody):
 * the one who was to give birth. */
int lvri_proc_wait_born_until(lvr_session *s, lvr_proc_id id, lvr_proc_id watch,
                              int64_t deadline_ns, int32_t *ret_pid);

/* The fork that gives birth to that embryo has succeeded: as long as its process is there, the
 * embryo's age does not reclaim it. Not needed for a child that runs at once.
 * Caller: the parent, behind its fork.
 * Crash: noted or not; not noted, the embryo ages. */
void lvri_proc_forked(lvr_session *s, lvr_proc_id child, int32_t pid);

/* Sends a signal to a process of the session if it is there, whatever program it has become: also
 * to one that has left the session by execv(). Never to somebody else who has its pid by now. Its
 * slot must be kept: its parent watches it, or nobody has repaired it yet.
 * pid: what its parent knows; 0: what the slot says.
 * 0, -ESRCH (it is gone), -EPERM. */
int lvri_proc_signal(lvr_session *s, lvr_proc_id id, int32_t pid, int signo);

/* Whether it has not ended for the kernel, though it may be over for the session:
 * the process with that pid. */
bool lvri_proc_is_there(lvr_session *s, lvr_proc_id id, int32_t pid);

/* The payload of a birth: a block that belongs to the child's slot, written by its parent before
 * the birth, read by the child, freed by either of them or by repair. At most one per process.
 * put: 0, -ESRCH, -EBUSY (there is one), -ENOMEM, -ESTALE. get: 0, -ENOENT. */
int lvri_proc_put_task(lvr_session *s, lvr_proc_id id, const void *bytes, size_t len);
int lvri_proc_get_task(lvr_session *s, lvr_proc_id id, const void **ret_bytes, size_t *ret_len);
void lvri_proc_drop_task(lvr_session *s, lvr_proc_id id);

#endif
