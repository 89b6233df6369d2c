#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "os/link.h"
#include "os/os.h"

#define NS_PER_S 1000000000

/* --- sockets ------------------------------------------------------------------------------- */

int lvri_os_link_create(int ret_fds[2]) {
  LVRI_FAULT("os.link.create", -EMFILE);
  return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_fds) < 0 ? -errno : 0;
}

union fds_message {
  struct cmsghdr align;
  char bytes[CMSG_SPACE(sizeof(int) * LVRI_LINK_FDS)];
};

static void put_fds(struct msghdr *message, union fds_message *room, const int *fds,
                    unsigned n_fds) {
  if (n_fds == 0) return;
  message->msg_control = room->bytes;
  message->msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
  struct cmsghdr *header = CMSG_FIRSTHDR(message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
  memcpy(CMSG_DATA(header), fds, sizeof(int) * n_fds);
}

int lvri_os_link_send(int fd, const void *bytes, size_t len, const int *fds, unsigned n_fds,
                      bool wait) {
  union fds_message room;
  struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

  LVRI_FAULT("os.link.send", -EPIPE);
  if (n_fds > LVRI_LINK_FDS) return -EMSGSIZE;
  put_fds(&message, &room, fds, n_fds);
  ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL | (wait ? 0 : MSG_DONTWAIT));
  if (sent >= 0) return 0;
  return errno == ECONNRESET || errno == ENOTCONN ? -EPIPE : -errno;
}

static unsigned take_fds(struct msghdr *message, int *ret_fds) {
  struct cmsghdr *header = CMSG_FIRSTHDR(message);
  if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) return 0;
  size_t bytes = header->cmsg_len - CMSG_LEN(0);
  memcpy(ret_fds, CMSG_DATA(header), bytes);
  return (unsigned)(bytes / sizeof(int));
}

int lvri_os_link_receive(int fd, void *bytes, size_t room, int *ret_fds, unsigned *ret_n_fds,
                         bool wait) {
  union fds_message fds_room;
  struct iovec part = {.iov_base = bytes, .iov_len = room};
  struct msghdr message = {.msg_iov = &part,
                           .msg_iovlen = 1,
                           .msg_control = fds_room.bytes,
                           .msg_controllen = sizeof(fds_room)};

  LVRI_FAULT("os.link.receive", -ENOMEM);
  ssize_t got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
  if (got < 0) return errno == ECONNRESET ? 0 : -errno;
  unsigned n_fds = take_fds(&message, ret_fds);
  if (message.msg_flags & MSG_CTRUNC) {
    while (n_fds > 0)
      lvri_os_close(ret_fds[--n_fds]);
    return -EMFILE;
  }
  *ret_n_fds = n_fds;
  return (int)got;
}

int lvri_os_link_try(int fd) {
  struct msghdr message = {.msg_iovlen = 0};
  ssize_t got = recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT);
  return got >= 0 || errno == EAGAIN || errno == ECONNRESET ? 0 : -errno;
}

int lvri_os_bell_create(void) {
  LVRI_FAULT("os.bell.create", -EMFILE);
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return fd < 0 ? -errno : fd;
}

void lvri_os_bell_ring(int fd) { (void)eventfd_write(fd, 1); }

void lvri_os_bell_hush(int fd) {
  eventfd_t count;
  (void)eventfd_read(fd, &count);
}

/* --- signals ------------------------------------------------------------------------------- */

enum { SIGNALS = 64 };

static uint64_t bits_of(const sigset_t *set) {
  uint64_t bits = 0;
  for (int signo = 1; signo <= SIGNALS; signo++)
    if (sigismember(set, signo) == 1) bits |= LVRI_SIGNAL_BIT(signo);
  return bits;
}

static void set_of(uint64_t bits, sigset_t *ret_set) {
  (void)sigemptyset(ret_set);
  for (int signo = 1; signo <= SIGNALS; signo++)
    if (bits & LVRI_SIGNAL_BIT(signo)) (void)sigaddset(ret_set, signo);
}

uint64_t lvri_os_signals_blocked(void) {
  sigset_t set;
  (void)pthread_sigmask(SIG_BLOCK, NULL, &set);
  return bits_of(&set);
}

void lvri_os_signals_block(uint64_t set) {
  sigset_t wanted;
  set_of(set, &wanted);
  (void)pthread_sigmask(SIG_SETMASK, &wanted, NULL);
}

/* The numbers that the C library keeps for itself it knows nothing of: they are not ignored. */
uint64_t lvri_os_signals_ignored(void) {
  uint64_t ignored = 0;
  struct sigaction now;
  for (int signo = 1; signo <= SIGNALS; signo++)
    if (sigaction(signo, NULL, &now) == 0 && now.sa_handler == SIG_IGN)
      ignored |= LVRI_SIGNAL_BIT(signo);
  return ignored;
}

static void interrupt_only(int signo) { (void)signo; }

_Static_assert(sizeof(struct sigaction) <= sizeof(struct lvri_signal_was), "room");

void lvri_os_signal_set(int signo, enum lvri_signal_way way, struct lvri_signal_was *ret_was) {
  struct sigaction action = {.sa_handler = SIG_DFL}, was;
  if (way == LVRI_SIGNAL_IGNORE) action.sa_handler = SIG_IGN;
  if (way == LVRI_SIGNAL_INTERRUPT) action.sa_handler = interrupt_only;
  if (sigaction(signo, &action, &was) == 0) memcpy(ret_was->bytes, &was, sizeof(was));
}

void lvri_os_signal_restore(int signo, const struct lvri_signal_was *was) {
  struct sigaction action;
  memcpy(&action, was->bytes, sizeof(action));
  (void)sigaction(signo, &action, NULL);
}

enum { SLEEP_FDS = 4 };

static int ready_bits(const struct pollfd *polled, unsigned n_fds) {
  int bits = 0;
  for (unsigned i = 0; i < n_fds; i++)
    if (polled[i].revents) bits |= 1 << i;
  return bits;
}

static struct timespec time_until(int64_t deadline_ns) {
  int64_t left_ns = deadline_ns - lvri_os_now_ns();
  if (left_ns < 0) left_ns = 0;
  return (struct timespec){.tv_sec = left_ns / NS_PER_S, .tv_nsec = left_ns % NS_PER_S};
}

int lvri_os_sleep_on(const int *fds, unsigned n_fds, int64_t deadline_ns, uint64_t blocked) {
  struct pollfd polled[SLEEP_FDS];
  struct timespec left = {0};
  sigset_t during;

  if (n_fds > SLEEP_FDS) return -EINVAL;
  for (unsigned i = 0; i < n_fds; i++)
    polled[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
  if (deadline_ns != LVRI_FOREVER) left = time_until(deadline_ns);
  set_of(blocked, &during);
  int ready = ppoll(polled, n_fds, deadline_ns == LVRI_FOREVER ? NULL : &left, &during);
  return ready < 0 ? -errno : ready_bits(polled, n_fds);
}

bool lvri_os_is_ready(int fd) {
  struct pollfd polled = {.fd = fd, .events = POLLIN};
  return poll(&polled, 1, 0) > 0;
}
