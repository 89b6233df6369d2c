/* process.h - the processes of a session: who is to be born, who lives, who died and how.
 *
 *      parent                           child
 *      lvr_proc_prepare()   embryo
 *      lvr_proc_give()      ...its ledger
 *      fork, spawn, a spare ----------> lvr_proc_adopt() or lvr_session_attach(fd, id)
 *      lvr_proc_wait_born_until()       runs
 *      lvr_proc_wait_until() <--------- lvr_proc_announce(status), or any death
 *      lvr_proc_forget()
 *
 * A status is an exit code (0 and up) or minus the number of the signal that killed the process. */
#ifndef LEVERET_PROCESS_H
#define LEVERET_PROCESS_H

#include "session.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The slot keeps the status until the parent calls lvr_proc_forget(), or is over itself. */
#define LVR_PROC_WATCHED 1u
/* For the information of others; lvr_proc_die_with() is what makes it so. */
#define LVR_PROC_DAEMON 2u

enum lvr_proc_state {
  LVR_PROC_EMBRYO = 1, /* prepared: nobody is it yet */
  LVR_PROC_RUNNING,    /* it lives */
  LVR_PROC_OVER,       /* announced, or dead: not repaired yet */
  LVR_PROC_DEAD        /* and repaired: nothing but its status is left */
};

struct lvr_proc_info {
  lvr_proc_id id, parent;
  uint64_t born_ticks; /* when it was born, in clock ticks since boot; 0 before */
  int32_t pid;         /* 0 for an embryo */
  uint32_t state;      /* enum lvr_proc_state */
  uint32_t flags;
  int32_t status; /* meaningful if status_known */
  bool status_known;
};

/* lvr_proc_self - which process of the session this is; 0: none (stale, or only mapped). */
LVR_API lvr_proc_id lvr_proc_self(const lvr_session *s);

/* lvr_proc_prepare - make an embryo: the slot and the ledger of a child of this process.
 * Units:   flags of LVR_PROC_*.
 * Owner:   the embryo is this process's until somebody adopts it; it is reclaimed if this process
 *          dies first.
 * Caller:  any thread of an attached process; not a signal handler.
 * Locks:   the arena's guard, shortly.   Fork: -ESTALE in a child without a slot.
 * Crash:   killed at any instruction there is an embryo or there is none; repair withdraws it.
 * Returns: 0, -EAGAIN (process table full), -ENOMEM, -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_proc_prepare(lvr_session *s, uint32_t flags, lvr_proc_id *ret_id);

/* lvr_proc_give - let a prepared child have a handle of an object from its birth on.
 * Owner:   the child's reference; attaching in the child uses it, its death gives it back. Giving
 *          one object twice is giving it once. A reference that travels (lvr_K_send()) is not
 *          consumed.
 * Caller:  any thread of the parent, before the child is born.
 * Crash:   given or not given.
 * Returns: 0, -ESRCH (no such embryo), -EBUSY (born already), -EXDEV, -ESTALE (no such object),
 *          -EINVAL (not of that kind), -ENOMEM, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_proc_give(lvr_session *s, lvr_proc_id child, const lvr_ref *object);

/* Nobody, as the child of a fork: it is mapped, not one of the session, and may adopt later. */
#define LVR_PROC_NOBODY UINT64_MAX

/* lvr_proc_fork_next - this thread's next fork() gives birth to that child.
 * Every fork() of an attached process makes its child a process of the session, with handles of all
 * that the parent has; this names which process it will be (LVR_PROC_NOBODY: none). 0 takes the
 * naming back.
 * Returns: 0, -ESRCH (no such embryo of ours), -ESTALE. */
LVR_API LVR_MUST_CHECK int lvr_proc_fork_next(lvr_session *s, lvr_proc_id child);

/* lvr_proc_adopt - be that prepared process from now on.
 * Caller:  one thread, in a process that is mapped (lvr_session_map()) or stale, not one of the
 *          session.
 * Crash:   killed at any instruction the child is unborn, or dead.
 * Returns: 0, -ESRCH (withdrawn, or somebody else is it), -EALREADY (this process is one already),
 *          -ENOMEM, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_proc_adopt(lvr_session *s, lvr_proc_id prepared);

/* lvr_proc_withdraw - a prepared process will not be born: its adoption fails from now on.
 * Returns: 0, -EBUSY (it is born), -ESRCH, -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_proc_withdraw(lvr_session *s, lvr_proc_id prepared);

/* lvr_proc_announce - the last act of a process: its status is known, it touches the arena no more.
 * Who waits for it returns at once; call _exit() next. Every later call with s says -ESTALE.
 * Caller:  any thread, while no other uses the session. */
LVR_API void lvr_proc_announce(lvr_session *s, int32_t status);

/* lvr_proc_set_status - say how a process ended that did not announce. The first to say so is
 * believed.
 * Caller:  who reaped it.
 * Returns: 0, -EALREADY (known), -ESRCH, -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_proc_set_status(lvr_session *s, lvr_proc_id id, int32_t status);

/* lvr_proc_wait_until - wait for a process to be over. It is repaired on return, as a rule.
 * Units:   deadline_ns absolute CLOCK_MONOTONIC, LVR_FOREVER = no limit.
 * Returns: 0, -ETIMEDOUT, -EINTR, -ENODATA (it is over and nobody has said how yet), -ESRCH (its
 *          slot has been given away: it was not watched, or is forgotten), -ESTALE,
 *          -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_proc_wait_until(lvr_session *s, lvr_proc_id id, int64_t deadline_ns,
                                               int32_t *ret_status);

/* lvr_proc_wait_status_until - wait until the status of a process is known, or its reaper is over.
 * For those who get -ENODATA from lvr_proc_wait_until(): the reaper is about to say.
 * Returns: 0, -ETIMEDOUT, -EINTR, -ENODATA (the reaper is over, too), -ESRCH, -ESTALE,
 *          -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_proc_wait_status_until(lvr_session *s, lvr_proc_id id,
                                                      lvr_proc_id reaper, int64_t deadline_ns,
                                                      int32_t *ret_status);

/* lvr_proc_wait_born_until - wait until somebody is that prepared process.
 * Units:   *ret_pid also when it is over already.
 * Returns: 0, -ETIMEDOUT, -EINTR, -ESRCH (withdrawn, or forgotten), -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_proc_wait_born_until(lvr_session *s, lvr_proc_id id,
                                                    int64_t deadline_ns, int32_t *ret_pid);

/* lvr_proc_forget - nobody will ask for the status of that child again: its slot may be given away.
 * Returns: 0, -ESRCH, -EPERM (not a child of this process), -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_proc_forget(lvr_session *s, lvr_proc_id id);

/* lvr_proc_is_alive - born and not over. One load as a rule; false for an embryo. */
LVR_API bool lvr_proc_is_alive(lvr_session *s, lvr_proc_id id);

/* lvr_proc_info - what the table says of a process.
 * Returns: 0, -ESRCH. */
LVR_API LVR_MUST_CHECK int lvr_proc_info(lvr_session *s, lvr_proc_id id,
                                         struct lvr_proc_info *ret_info);

/* lvr_proc_die_with - SIGKILL to this process as soon as that one is over; at once if it is.
 * Owner:   one small native thread, with all signals blocked, until the session is detached; asking
 *          again for the same process does nothing.
 * Fork:    a child is not bound.
 * Returns: 0, -ESRCH (0 is nobody), -EBUSY (it dies with another), -EAGAIN (no thread), -ENOMEM,
 *          -ESTALE. */
LVR_API LVR_MUST_CHECK int lvr_proc_die_with(lvr_session *s, lvr_proc_id parent);

/* lvr_repair - repair every process of the session that is over.
 * Nobody has to call this: who waits for something repairs whom it finds dead.
 * Crash:   killed at any instruction, the next repairer goes on from there.
 * Returns: how many were repaired, -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_repair(lvr_session *s);

#ifdef __cplusplus
}
#endif

#endif
