/* link.h - what births ask of the operating system beyond os.h: a socket that hands each message to
 * exactly one of many receivers, sleeping on events, and children that are looked at before
 * they are reaped.
 *
 * The same contract as os.h: 0 (or what it says) or a negative errno, outputs on success only. */
#ifndef LVRI_OS_LINK_H
#define LVRI_OS_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Descriptors that one message may carry: a limit of the kernel (SCM_MAX_FD). */
#define LVRI_LINK_FDS 253

/* Two ends, close-on-exec, of a socket of nobody else's: what is sent into one end as one message
 * comes out of the other as one message, once. 0, -EMFILE, -ENFILE. */
int lvri_os_link_create(int ret_fds[2]);

/* Sends a message with copies of descriptors; waits for room if `wait`.
 * 0, -EPIPE (nobody has the other end any more), -EAGAIN (no room), -EINTR, -EBADF (one of fds),
 * -EMSGSIZE, -ETOOMANYREFS (too many descriptors under way). */
int lvri_os_link_send(int fd, const void *bytes, size_t len, const int *fds, unsigned n_fds,
                      bool wait);

/* Receives a message of at most `room` bytes, cut off there, waiting for one if `wait`. ret_fds has
 * room for LVRI_LINK_FDS; what arrives is close-on-exec and the caller's.
 * Its length; 0: the other end is closed; -EINTR, -EAGAIN (none there), -EMFILE (received, but its
 * descriptors did not fit: none of them is there). */
int lvri_os_link_receive(int fd, void *bytes, size_t room, int *ret_fds, unsigned *ret_n_fds,
                         bool wait);

/* Whether messages can be received here at all: looks, and takes none. 0; -EPERM, -ENOSYS or what
 * else a seccomp filter says, as every receive would. */
int lvri_os_link_try(int fd);

/* A descriptor that polls readable between ring and hush. -EMFILE, -ENFILE. */
int lvri_os_bell_create(void);
void lvri_os_bell_ring(int fd);
void lvri_os_bell_hush(int fd);

/* --- signals of the calling thread --------------------------------------------------------- */

/* Signal sets as bits, signal n in bit n - 1. */
#define LVRI_SIGNAL_BIT(signo) (UINT64_C(1) << ((signo)-1))

uint64_t lvri_os_signals_blocked(void);
void lvri_os_signals_block(uint64_t set); /* exactly these from now on */
uint64_t lvri_os_signals_ignored(void);

enum lvri_signal_way {
  LVRI_SIGNAL_DEFAULT,
  LVRI_SIGNAL_IGNORE,
  LVRI_SIGNAL_INTERRUPT, /* does nothing but end a wait with -EINTR */
};

/* What was done about a signal before. */
struct lvri_signal_was {
  _Alignas(16) unsigned char bytes[160];
};

void lvri_os_signal_set(int signo, enum lvri_signal_way way, struct lvri_signal_was *ret_was);
void lvri_os_signal_restore(int signo, const struct lvri_signal_was *was);

/* Sleeps until one of fds (-1 is none) polls readable, or a signal outside `blocked` arrives: the
 * blocked set is exchanged for the time of the sleep alone, so none is missed.
 * Bits of the fds that are ready (bit i for fds[i]), 0 at the deadline, -EINTR. */
int lvri_os_sleep_on(const int *fds, unsigned n_fds, int64_t deadline_ns, uint64_t blocked);

/* Whether fd polls readable (or hung up) now. */
bool lvri_os_is_ready(int fd);

/* --- children ------------------------------------------------------------------------------ */

/* Finds a child that is over and leaves it as it is: its pid still is its own.
 * 1; 0: none is over; -ECHILD: there is none at all. *ret_status: exit code, or
 * minus the signal. */
int lvri_os_child_over(int32_t *ret_pid, int32_t *ret_status);

/* Reaps that child without waiting. 1; 0: it is not over;
 * -ECHILD: no child of this process (any more). */
int lvri_os_child_reap(int32_t pid, int32_t *ret_status);

/* Whether pid is no child of this process any more, or one that is over: a look,
 * it is not reaped. */
bool lvri_os_child_is_gone(int32_t pid);

/* Whether it is a child of this process that nobody has reaped: its pid is its own then, whatever
 * program it has become. */
bool lvri_os_is_child(int32_t pid);

/* How the process behind a pidfd ended, whoever reaped it,
 * as far as the kernel keeps that (from 6.15 on).
 * 0, -ENODATA (not known here), -EAGAIN (not reaped yet). */
int lvri_os_pidfd_status(int pidfd, int32_t *ret_status);

/* Threads of this process. */
unsigned lvri_os_thread_count(void);

/* Closes every descriptor from `first` on. */
void lvri_os_close_from(unsigned first);

/* Ends this process at once: no handlers, no flushing. */
_Noreturn void lvri_os_exit(int status);

/* The mask that files are created with. Read without changing it unless
 * this process has one thread. */
uint32_t lvri_os_umask(void);

#endif
