#include <errno.h>
#include <linux/filter.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fault.h"
#include "os/doorbell.h"
#include "os/os.h"

#define NS_PER_S 1000000000

/* --- doorbells ----------------------------------------------------------------------------- */

static socklen_t address_of(uint64_t name, struct sockaddr_un *ret_address) {
  memset(ret_address, 0, sizeof(*ret_address));
  ret_address->sun_family = AF_UNIX;
  int len = snprintf(ret_address->sun_path + 1, sizeof(ret_address->sun_path) - 1,
                     "leveret-%016llx", (unsigned long long)name);
  return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
}

/* Lets through what begins with the secret: the kernel asks before it puts anything into the
 * socket's queue, so nobody else wakes us. */
static int let_in_only(int fd, uint64_t secret) {
  uint8_t bytes[sizeof(secret)];
  memcpy(bytes, &secret, sizeof(secret));
  uint32_t words[2]; /* as the filter loads them: the first byte is the highest */
  for (size_t i = 0; i < 2; i++)
    words[i] = (uint32_t)bytes[4 * i] << 24 | (uint32_t)bytes[4 * i + 1] << 16 |
               (uint32_t)bytes[4 * i + 2] << 8 | bytes[4 * i + 3];
  struct sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, words[0], 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 4), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, words[1], 0, 1),
      BPF_STMT(BPF_RET | BPF_K, UINT32_MAX), BPF_STMT(BPF_RET | BPF_K, 0),
  };
  struct sock_fprog filter = {sizeof(program) / sizeof(*program), program};
  return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) < 0 ? -errno : 0;
}

static int new_socket(void) {
  LVRI_FAULT("os.doorbell.socket", -EMFILE);
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  return fd < 0 ? -errno : fd;
}

int lvri_os_doorbell_create(struct lvri_os_chime *ret_chime) {
  struct lvri_os_chime chime;
  struct sockaddr_un address;
  int error = lvri_os_random(&chime, sizeof(chime));
  if (error) return error;
  int fd = new_socket();
  if (fd < 0) return fd;
  error = let_in_only(fd, chime.secret);
  socklen_t len = address_of(chime.name, &address);
  if (!error && bind(fd, (const struct sockaddr *)&address, len) < 0) error = -errno;
  if (error) {
    lvri_os_close(fd);
    return error;
  }
  *ret_chime = chime;
  return fd;
}

/* A queue that is full is readable. */
int lvri_os_doorbell_ring_own(int fd, const struct lvri_os_chime *chime) {
  struct sockaddr_un address;
  socklen_t len = address_of(chime->name, &address);
  ssize_t sent = sendto(fd, &chime->secret, sizeof(chime->secret), MSG_NOSIGNAL,
                        (const struct sockaddr *)&address, len);
  return sent >= 0 || errno == EAGAIN ? 0 : -errno;
}

static int ring_by_new_socket(const struct lvri_os_chime *chime) {
  int fd = new_socket();
  if (fd < 0) return fd;
  int error = lvri_os_doorbell_ring_own(fd, chime);
  lvri_os_close(fd);
  return error;
}

/* One who has our memory, and descriptors of his own. */
struct proxy {
  const struct lvri_os_chime *chime;
  int error;
};

#define PROXY_STACK 32768

/* Younger than some headers. */
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE 2u
#endif

/* Ours are not copied, and so not flushed at its end: a hung file system would hold us up. */
static int ring_as_proxy(void *argument) {
  struct proxy *proxy = argument;
  if (syscall(SYS_close_range, 0, ~0u, CLOSE_RANGE_UNSHARE) == 0)
    proxy->error = ring_by_new_socket(proxy->chime);
  return 0;
}

/* As posix_spawn() does it: the child has our memory while we wait, so no handler of a signal may
 * run in it, nor what a cancelled thread runs. It has no signal for its end: only who asks for such
 * children finds it. -EMFILE also where there can be none, or Linux is older than 5.9. */
static int ring_by_proxy(const struct lvri_os_chime *chime) {
  _Alignas(16) char stack[PROXY_STACK];
  struct proxy proxy = {chime, -EMFILE};
  sigset_t all, before;
  int cancel;
  (void)sigfillset(&all);
  (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
  (void)pthread_sigmask(SIG_SETMASK, &all, &before);
  int pid = clone(ring_as_proxy, stack + PROXY_STACK, CLONE_VM | CLONE_VFORK | CLONE_FILES, &proxy);
  while (pid > 0 && waitpid(pid, NULL, (int)__WCLONE) < 0 && errno == EINTR) {
  }
  (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  (void)pthread_setcancelstate(cancel, NULL);
  return proxy.error;
}

/* One who leaves may have no descriptor left, and whoever polls may watch him alone. */
int lvri_os_doorbell_ring(const struct lvri_os_chime *chime) {
  int error = ring_by_new_socket(chime);
  return error == -EMFILE ? ring_by_proxy(chime) : error;
}

void lvri_os_doorbell_hush(int fd) {
  uint64_t secret;
  while (recv(fd, &secret, sizeof(secret), MSG_DONTWAIT) >= 0) {
  }
}

/* --- sets of descriptors ------------------------------------------------------------------- */

int lvri_os_pollset_create(void) {
  LVRI_FAULT("os.pollset.create", -EMFILE);
  int set = epoll_create1(EPOLL_CLOEXEC);
  return set < 0 ? -errno : set;
}

int lvri_os_pollset_add(int set, int fd) {
  struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
  return epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

void lvri_os_pollset_remove(int set, int fd) {
  struct epoll_event unused = {.events = 0};
  (void)epoll_ctl(set, EPOLL_CTL_DEL, fd, &unused);
}

/* --- timers -------------------------------------------------------------------------------- */

int lvri_os_timer_create(void) {
  LVRI_FAULT("os.timer.create", -EMFILE);
  int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  return fd < 0 ? -errno : fd;
}

void lvri_os_timer_set(int fd, int64_t deadline_ns) {
  struct itimerspec at = {.it_value = {deadline_ns / NS_PER_S, deadline_ns % NS_PER_S}};
  if (deadline_ns == LVRI_FOREVER) at = (struct itimerspec){0};
  (void)timerfd_settime(fd, TFD_TIMER_ABSTIME, &at, NULL);
}
