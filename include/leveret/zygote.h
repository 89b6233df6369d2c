/* zygote.h - births from a clean process.
 *
 *      caller                       zygote (single-threaded)           spare (its child)
 *      lvr_zygote_create()
 *      start a process  ----------> lvr_zygote_open()
 *                                   lvr_zygote_serve()  --fork-------> waits for a message
 *      lvr_zygote_send(child)  ------------------------- message ----> is the child from now on:
 *      lvr_zygote_wait_until() <------------------------ adoption ---- lvr_zygote_serve() returns
 *                                   is rung, forks another <----------
 *
 * A message is received by exactly one spare. Adoption is one compare-and-swap on the child's slot,
 * so a message that is sent twice gives one birth: whoever was not answered sends again, to
 * another zygote if need be.
 *
 * The zygote and its spares end with the process that made it. The children do not, but for daemons
 * (LVR_PROC_DAEMON) whose parent made the zygote or was born from it. The zygote reaps its children
 * and says how those ended that did not announce it. */
#ifndef LEVERET_ZYGOTE_H
#define LEVERET_ZYGOTE_H

#include "process.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lvr_zygote lvr_zygote;

#define LVR_BIRTH_FDS 253 /* descriptors that one birth may hand over */

/* What the process that serves needs to know: inherited descriptors and a number. */
struct lvr_zygote_seat {
  lvr_proc_id id; /* the prepared process that the zygote is to be */
  int32_t maker;  /* pid of the process that made it */
  int call_fd;    /* callers' end of the socket */
  int serve_fd;   /* the spares' end */
  int desk_fd;    /* memory that callers, zygote and spares share */
  uint32_t reserved;
};

struct lvr_zygote_service {
  uint32_t spares_least; /* kept when nobody asks; 0: 4 */
  uint32_t spares_most;  /* kept under bursts; 0: 16 */
  void *context;
  int32_t (*fork)(void *context); /* as fork(2), negative errno on failure; NULL: fork() itself */
  void (*spare)(void *context);   /* in each spare, before it waits; may be NULL */
  /* Once, in a process of its own that ends behind it: does what children do, so that spares can
   * have the memory for that before they are needed. It may end the process itself, after
   * lvr_zygote_learn(). May be NULL. */
  void (*rehearse)(void *context);
};

/* What a born child has been given. */
struct lvr_birth {
  lvr_proc_id id;
  int32_t error; /* 0; -EMFILE: its descriptors did not all fit, so it has none of them */
  uint32_t n_fds;
  int fds[LVR_BIRTH_FDS]; /* close-on-exec, the child's own */
};

/* lvr_zygote_create - make what callers and a zygote share, and its slot; the process is up to the
 * caller.
 * Owner:   *ret_z is the caller's until lvr_zygote_free(), and any forked child's. The descriptors
 *          of the seat belong to it; a child made by exec must inherit three of them under the
 *          same numbers.
 * Caller:  any thread of an attached process.
 * Crash:   the prepared slot is reclaimed with its parent; the rest is descriptors.
 * Returns: 0, -EAGAIN (process table full), -EMFILE, -ENFILE, -ENOMEM, -ESTALE,
 *          -ENOTRECOVERABLE, -EPERM, -ENOSYS (a seccomp filter lets nobody receive messages). */
LVR_API LVR_MUST_CHECK int lvr_zygote_create(lvr_session *s, lvr_zygote **ret_z);

/* lvr_zygote_seat - what to tell the process that is to serve. */
LVR_API void lvr_zygote_seat(const lvr_zygote *z, struct lvr_zygote_seat *ret_seat);

/* lvr_zygote_seated - the process that is to serve exists: the caller has no use for its end any
 * more.
 * Units:   pid of that process, a child of the caller.
 * Returns: 0, -EMFILE, -ENFILE, -ENOMEM, -ESRCH (no such process). */
LVR_API LVR_MUST_CHECK int lvr_zygote_seated(lvr_zygote *z, int32_t pid);

/* lvr_zygote_open - the other side of the seat, in the process that is to serve.
 * Owner:   takes the seat's descriptors over.
 * Caller:  s is attached as seat->id.
 * Returns: 0, -ENOMEM, -EBADF, -EBADMSG (no such seat). */
LVR_API LVR_MUST_CHECK int lvr_zygote_open(lvr_session *s, const struct lvr_zygote_seat *seat,
                                           lvr_zygote **ret_z);

/* lvr_zygote_serve - be the zygote. Returns in the children, once each, and in the zygote at its
 * end.
 * Caller:  a process with one thread. Its signal mask, SIGCHLD, SIGURG and SIGINT are the zygote's;
 *          a child gets the mask of its caller and the rest as it was.
 * Crash:   killed at any instruction, callers get -EOWNERDEAD and make another;
 *          spares die, children live on.
 * Returns: 0 (this is a born child, see *ret_birth), 1 (this is the zygote: its maker is gone, its
 *          spares and the daemons that depend on it are dead; or it was retired and is alone),
 *          -ECHILD (spare after spare died before it could wait: a fork handler ends them, say),
 *          -EMFILE, -ENFILE, -ENOMEM, -ESTALE, -EPERM, -ENOSYS (as of lvr_zygote_create()), or of
 *          what receives fail in its spares and in itself: nobody could be told otherwise. */
LVR_API LVR_MUST_CHECK int lvr_zygote_serve(lvr_zygote *z, const struct lvr_zygote_service *service,
                                            struct lvr_birth *ret_birth);

/* lvr_zygote_learn - what this process has touched of its memory, spares are to fetch beforehand.
 * Caller:  the rehearsal, at its end.
 * Crash:   learned wholly or not at all; nothing depends on it but time. */
LVR_API void lvr_zygote_learn(lvr_zygote *z);

/* lvr_zygote_send - ask for the birth of a prepared process. Sending again does no harm.
 * Owner:   fds are copied. *mark belongs to lvr_zygote_wait_until().
 * Caller:  any thread of any process that has z, after lvr_zygote_seated() or in a child of it.
 * Returns: 0, -EOWNERDEAD (no zygote any more), -EINTR, -EMSGSIZE (too many descriptors), -EBADF,
 *          -ETOOMANYREFS. */
LVR_API LVR_MUST_CHECK int lvr_zygote_send(lvr_zygote *z, lvr_proc_id child, const int *fds,
                                           uint32_t n_fds, uint32_t *mark);

/* lvr_zygote_wait_until - wait for the birth that was asked for; sends again what was lost with a
 * spare.
 * Units:   child, fds and mark as with lvr_zygote_send(); deadline_ns absolute CLOCK_MONOTONIC.
 * Returns: 0, -EOWNERDEAD (the zygote died first: make another, send again), -ETIMEDOUT,
 *          -EINTR (wait on), what fork(2) answered in the zygote (-EAGAIN, -ENOMEM: the child
 *          is withdrawn), -EIO (spare after spare failed to receive that it is the child, which is
 *          withdrawn: see lvr_zygote_unheard()), -ESRCH, -ESTALE. */
LVR_API LVR_MUST_CHECK int lvr_zygote_wait_until(lvr_zygote *z, lvr_proc_id child, const int *fds,
                                                 uint32_t n_fds, uint32_t *mark,
                                                 int64_t deadline_ns, int32_t *ret_pid);

/* lvr_zygote_retire - nobody will ask for births any more but its own children: it keeps no spares,
 * and ends with the last of its children.
 * Caller:  its maker, after lvr_zygote_seated().
 * Crash:   retired or not; both are good states.
 * Returns: 0, -ESRCH (it is over), -ECHILD (not the maker). */
LVR_API LVR_MUST_CHECK int lvr_zygote_retire(lvr_zygote *z);

/* lvr_zygote_id - its process id in the session: who reaps what is born from it. */
LVR_API lvr_proc_id lvr_zygote_id(const lvr_zygote *z);

/* lvr_zygote_pidfd - a descriptor of its process, z's own; -1 but in its maker,
 * once it is seated. */
LVR_API int lvr_zygote_pidfd(const lvr_zygote *z);

/* lvr_zygote_is_ready - it has had a spare that waited, be it dead or alive now. */
LVR_API bool lvr_zygote_is_ready(const lvr_zygote *z);

/* lvr_zygote_watches - it will end this process's daemons with this process. */
LVR_API bool lvr_zygote_watches(const lvr_zygote *z);

/* lvr_zygote_spares - how many wait for a message now. */
LVR_API uint32_t lvr_zygote_spares(const lvr_zygote *z);

/* lvr_zygote_unheard - of what error its spares could not receive what they are to become, be it
 * dead or alive now: that of the last one, as a positive errno; 0: none has failed. */
LVR_API int32_t lvr_zygote_unheard(const lvr_zygote *z);

/* lvr_zygote_free - close and unmap; the zygote itself lives as long as its maker, unless it has
 * not taken its seat yet: then it never will. NULL is fine. */
LVR_API void lvr_zygote_free(lvr_zygote *z);

#ifdef __cplusplus
}
#endif

#endif
