/* os.h - everything that the library asks of the operating system.
 *
 * The contract; linux_*.c fulfil it and are the only files with system calls. Every function
 * answers 0 (or what it says) or a negative errno, converted here once and for all; what a seccomp
 * filter or an old kernel refuses comes out as its code (-EPERM, -ENOSYS), never as a crash.
 * Outputs named ret_ are written on success only. Deadlines are absolute CLOCK_MONOTONIC
 * nanoseconds; LVRI_FOREVER is none, one in the past means "look, but do not wait".
 * All may be called from any thread; none from a signal handler but where it says so. */
#ifndef LVRI_OS_OS_H
#define LVRI_OS_OS_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LVRI_FOREVER INT64_MAX /* the value of LVR_FOREVER in <leveret/err.h> */

/* --- clock ------------------------------------------------------------------------------- */

/* CLOCK_MONOTONIC, in nanoseconds: the same in all processes of the machine. */
int64_t lvri_os_now_ns(void);

/* The same at the machine's last tick, 1 to 10 ms ago: a third of the price. */
int64_t lvri_os_coarse_ns(void);

/* Sleeps until the deadline. 0, -EINTR. */
int lvri_os_sleep_until(int64_t deadline_ns);

/* --- futex ------------------------------------------------------------------------------- */
/* Words are shared between processes: their identity is the page of the file, not the address. */

/* Sleeps while *word is expected: 0 woken (or not: look again), -EAGAIN it was another value,
 * -ETIMEDOUT, -EINTR. */
int lvri_os_futex_wait(const _Atomic uint32_t *word, uint32_t expected, int64_t deadline_ns);

/* The same on two words at once, until either is woken; -ENOSYS where the kernel (before 5.16) or
 * a filter does not have it: the caller then waits on one, with a deadline. */
int lvri_os_futex_wait2(const _Atomic uint32_t *word0, uint32_t expected0,
                        const _Atomic uint32_t *word1, uint32_t expected1, int64_t deadline_ns);

/* The same on any of several words; those behind the first LVRI_OS_WORDS_MAX are left out. */
#define LVRI_OS_WORDS_MAX 128u /* FUTEX_WAITV_MAX */
struct lvri_os_word {
  const _Atomic uint32_t *word;
  uint32_t expected;
};
int lvri_os_futex_wait_any(const struct lvri_os_word *words, unsigned count, int64_t deadline_ns);

/* Wakes at most count of those who wait; how many it woke. Never touches the word. */
int lvri_os_futex_wake(const _Atomic uint32_t *word, int count);

/* Whether lvri_os_futex_wait2() works here. Asked of the kernel once. */
bool lvri_os_futex_has_wait2(void);

/* --- shared memory ----------------------------------------------------------------------- */

/* A new nameless file in memory: close-on-exec, sealed against shrinking and further seals;
 * never 0, 1 or 2, even where those are closed.
 * 0, -EMFILE, -ENFILE, -ENOMEM, -ENOSYS, -EPERM. */
int lvri_os_shm_create(int *ret_fd);

/* Maps the file from its start, shared, readable and writable, kept out of core dumps: want_bytes,
 * or the largest half, quarter, ... of it that the address space has room for (under RLIMIT_AS at
 * most a quarter of the limit), but not under least_bytes. The file may be shorter.
 * 0, -ENOMEM, -EBADF, -EACCES, -ENODEV. */
int lvri_os_shm_reserve(int fd, uint64_t want_bytes, uint64_t least_bytes, void **ret_base,
                        uint64_t *ret_bytes);

/* A private, copy-on-write mapping of [from, from + bytes) of the file, `from` at a page's start:
 * what is written there is this process's own. 0, -ENOMEM, -EINVAL.
 * Owner: the caller; lvri_os_shm_unmap(). */
int lvri_os_shm_view(int fd, uint64_t from, uint64_t bytes, void **ret_base);

/* Gives a mapping back. */
void lvri_os_shm_unmap(void *base, uint64_t bytes);

/* Makes the file at least as long as `bytes`, with a hole at its end: no memory is taken.
 * 0, -ENOMEM (also where RLIMIT_FSIZE forbids it). */
int lvri_os_shm_extend(int fd, uint64_t bytes);

/* Takes memory for [from, to), extending the file to `to` if it is shorter; what was there stays.
 * After this a store there cannot fail. 0; -ENOMEM: the machine, or a control group that this
 * process is in, does not have that much (linux_memory.c looks, for the kernel would not say so but
 * kill), and some of it may have been taken. */
int lvri_os_shm_commit(int fd, uint64_t from, uint64_t to);

/* Whether a commit of so many bytes would find them, now. 0, -ENOMEM. */
int lvri_os_shm_may_commit(uint64_t bytes);

/* Gives the memory of [from, from + bytes) back; it reads as zeros from then on. */
int lvri_os_shm_punch(int fd, uint64_t from, uint64_t bytes);

/* Length of the file. 0, -EBADF, -ENODEV if it is not one that can be mapped. */
int lvri_os_shm_size(int fd, uint64_t *ret_bytes);

/* Reads exactly `bytes` at `from`: 0, -ENODATA if the file ends before. */
int lvri_os_shm_read(int fd, uint64_t from, void *buf, size_t bytes);

/* Memory that the file really takes, in bytes. */
int lvri_os_shm_used(int fd, uint64_t *ret_bytes);

/* --- processes --------------------------------------------------------------------------- */

int32_t lvri_os_pid(void); /* of this process; no system call is saved: forks are counted */
int32_t lvri_os_tid(void); /* of this thread: what its robust mutexes hold in their words */
int32_t lvri_os_parent_pid(void);

/* A descriptor (close-on-exec) that polls readable once pid is dead. -ESRCH, -EMFILE, -ENOSYS. */
int lvri_os_pidfd_open(int32_t pid);

/* 0, -ESRCH, -EPERM. signo 0 only looks. */
int lvri_os_pidfd_signal(int pidfd, int signo);

/* As kill(2): a pid may have been given away; whoever can, uses a pidfd. */
int lvri_os_signal(int32_t pid, int signo);

/* When pid started (clock ticks since boot: with the pid it names a process for ever) and its
 * state as in /proc/PID/stat ('Z' and 'X' are dead). -ESRCH. */
int lvri_os_process_start(int32_t pid, uint64_t *ret_ticks, char *ret_state);

/* Whether thread tid (of any process) exists and is not a zombie. */
bool lvri_os_thread_exists(int32_t tid);

/* Whether pid is the process that was known by this pid at born_ticks (lvri_os_boot_ticks()), and
 * has a thread that lives: so a main thread that has ended before the others does not count. Where
 * /proc cannot be read, any process of that pid is taken for it. */
bool lvri_os_process_is(int32_t pid, uint64_t born_ticks);

/* The clock that a process's start is told in: ticks since boot. */
uint64_t lvri_os_boot_ticks(void);

/* A page of zeros that is zeros again in the child of a fork, however it is forked.
 * 0, -ENOMEM, -ENOSYS (before Linux 4.14). */
int lvri_os_wiped_page(void **ret_page);
void lvri_os_wiped_page_free(void *page);

/* The kernel sends signo to this process when the thread that made it ends; 0 takes it back. */
int lvri_os_die_with_parent(int signo);

/* Processors that this process may run on, at least 1. */
int lvri_os_cpu_count(void);

/* The one that the caller runs on, or has just run on. */
uint32_t lvri_os_cpu(void);

/* Lets others run. */
void lvri_os_yield(void);

/* --- the rest ---------------------------------------------------------------------------- */

/* Fills buf (at most 256 bytes) with random bytes. 0, -ENOSYS, -EPERM. */
int lvri_os_random(void *buf, size_t bytes);

/* A copy of fd, close-on-exec, at least 3. -EBADF, -EMFILE. */
int lvri_os_dup(int fd);

/* Closes fd; -1 is nothing. */
void lvri_os_close(int fd);

#endif
