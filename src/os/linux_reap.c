#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fault.h"
#include "os/link.h"
#include "os/os.h"

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

/* From a wait status to ours: an exit code, or minus a signal. */
static int32_t status_of(int waited) {
  return WIFSIGNALED(waited) ? -WTERMSIG(waited) : WEXITSTATUS(waited);
}

int lvri_os_child_over(int32_t *ret_pid, int32_t *ret_status) {
  siginfo_t info = {.si_pid = 0};
  int got;

  do
    got = waitid(P_ALL, 0, &info, WEXITED | WNOWAIT | WNOHANG);
  while (got < 0 && errno == EINTR);
  if (got < 0) return -errno;
  if (info.si_pid == 0) return 0;
  *ret_pid = info.si_pid;
  *ret_status = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
  return 1;
}

int lvri_os_child_reap(int32_t pid, int32_t *ret_status) {
  int waited;
  pid_t got;

  do
    got = waitpid(pid, &waited, WNOHANG);
  while (got < 0 && errno == EINTR);
  if (got < 0) return -errno;
  if (got == 0) return 0;
  *ret_status = status_of(waited);
  return 1;
}

bool lvri_os_child_is_gone(int32_t pid) {
  siginfo_t info = {.si_pid = 0};
  return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | WNOHANG) < 0 || info.si_pid == pid;
}

bool lvri_os_is_child(int32_t pid) {
  siginfo_t info;
  return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | WNOHANG) == 0;
}

/* --- what a pidfd knows -------------------------------------------------------------------- */

/* The kernel's struct pidfd_info; headers may be older than the kernel. */
struct pidfd_facts {
  uint64_t mask, cgroupid;
  uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  int32_t exit_code;
};

#define FACTS_EXIT (UINT64_C(1) << 3)
#define FACTS_GET  _IOWR(0xFF, 11, struct pidfd_facts)

int lvri_os_pidfd_status(int pidfd, int32_t *ret_status) {
  struct pidfd_facts facts = {.mask = FACTS_EXIT};

  if (ioctl(pidfd, FACTS_GET, &facts) < 0) return -ENODATA;
  if (!(facts.mask & FACTS_EXIT)) return facts.mask ? -EAGAIN : -ENODATA;
  *ret_status = status_of(facts.exit_code);
  return 0;
}

/* --- the end of a process ------------------------------------------------------------------ */

/* A directory has a link for each directory in it, and two. */
unsigned lvri_os_thread_count(void) {
  struct stat about;
  if (stat("/proc/self/task", &about) < 0 || about.st_nlink < 3) return 2;
  return (unsigned)about.st_nlink - 2;
}

void lvri_os_close_from(unsigned first) {
  if (syscall(SYS_close_range, first, ~0u, 0) == 0) return;
  long most = sysconf(_SC_OPEN_MAX);
  for (long fd = first; fd < most; fd++)
    (void)close((int)fd);
}

_Noreturn void lvri_os_exit(int status) { _exit(status); }

/* --- the file mode mask -------------------------------------------------------------------- */

enum { STATUS_BYTES = 512 };

/* "Umask:\t0022" stands near the start of /proc/self/status. */
static bool read_umask(uint32_t *ret_mask) {
  char text[STATUS_BYTES];
  int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  ssize_t got = read(fd, text, sizeof(text) - 1);
  lvri_os_close(fd);
  if (got <= 0) return false;
  text[got] = '\0';
  const char *at = strstr(text, "\nUmask:");
  if (!at) return false;
  *ret_mask = (uint32_t)strtoul(at + strlen("\nUmask:"), NULL, 8);
  return true;
}

/* The kernel tells the mask only in exchange for another:
 * no other thread may make a file meanwhile. */
uint32_t lvri_os_umask(void) {
  uint32_t mask;
  if (lvri_os_thread_count() > 1 && read_umask(&mask)) return mask;
  mode_t was = umask(0077);
  (void)umask(was);
  return (uint32_t)was;
}
