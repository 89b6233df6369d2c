/* doorbell.h - what doorbells ask of the operating system: sockets that anybody who knows a name
 * and a secret can make readable, and a descriptor that is readable when one of several is.
 *
 * The same contract as os.h: 0 (or what it says) or a negative errno, outputs on success only. */
#ifndef LVRI_OS_DOORBELL_H
#define LVRI_OS_DOORBELL_H

#include <stdbool.h>
#include <stdint.h>

/* Where a doorbell is rung: an abstract socket address, and what is shouted there. */
struct lvri_os_chime {
  uint64_t name;
  uint64_t secret;
};

/* A doorbell: a datagram socket at a new address. It polls readable once it was rung, until it is
 * hushed; whatever comes without the secret the kernel drops. Close-on-exec, never blocks. The
 * descriptor, or -EMFILE, -ENFILE, -ENOMEM, -ENOBUFS, -EPERM, -EACCES. */
int lvri_os_doorbell_create(struct lvri_os_chime *ret_chime);

/* Rings one, in any process. Needs a descriptor for a moment: who has none left has a child do it,
 * which has a table of its own, and waits for that.
 * 0: it is readable; -ECONNREFUSED: nobody has it any more (or he is in another network namespace);
 * -EMFILE, -ENFILE, -ENOMEM, -ENOBUFS, -EPERM, -EACCES. */
int lvri_os_doorbell_ring(const struct lvri_os_chime *chime);

/* The same by its owner, who needs no descriptor but its own. */
int lvri_os_doorbell_ring_own(int fd, const struct lvri_os_chime *chime);

/* Not readable any more, until it is rung again. */
void lvri_os_doorbell_hush(int fd);

/* A descriptor that polls readable while one of its members does. A member must be removed before
 * it is closed: a forked child may still have a copy, and then it stays. -EMFILE, -ENFILE,
 * -ENOMEM. */
int lvri_os_pollset_create(void);
int lvri_os_pollset_add(int set, int fd); /* 0, -ENOMEM, -ENOSPC (see /proc/sys/fs/epoll) */
void lvri_os_pollset_remove(int set, int fd);

/* A descriptor that polls readable from the deadline on; a new deadline makes it not so. */
int lvri_os_timer_create(void); /* -EMFILE, -ENFILE, -ENOMEM */
void lvri_os_timer_set(int fd, int64_t deadline_ns);

#endif
