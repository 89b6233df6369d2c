#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fault.h"
#include "os/os.h"

/* Headers may be older than the kernel. */
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif

int32_t lvri_os_pid(void) { return (int32_t)getpid(); }

int32_t lvri_os_tid(void) { return (int32_t)syscall(SYS_gettid); }

int32_t lvri_os_parent_pid(void) { return (int32_t)getppid(); }

int lvri_os_pidfd_open(int32_t pid) {
  LVRI_FAULT("os.pidfd.open", -EMFILE);
  long fd = syscall(SYS_pidfd_open, pid, 0);
  return fd < 0 ? -errno : (int)fd;
}

int lvri_os_pidfd_signal(int pidfd, int signo) {
  return syscall(SYS_pidfd_send_signal, pidfd, signo, NULL, 0) < 0 ? -errno : 0;
}

int lvri_os_signal(int32_t pid, int signo) { return kill(pid, signo) < 0 ? -errno : 0; }

/* --- /proc -------------------------------------------------------------------------------- */

enum { STAT_BYTES = 1024, FIELDS_FROM_STATE_TO_START = 19 };

static int read_stat(int32_t pid, char text[STAT_BYTES]) {
  char path[32];
  (void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT ? -ESRCH : -errno;
  ssize_t got = read(fd, text, STAT_BYTES - 1);
  int error = got < 0 ? -errno : 0;
  lvri_os_close(fd);
  text[got > 0 ? got : 0] = '\0';
  return error;
}

/* The fields behind the name, which may itself hold blanks and brackets. */
static int parse_stat(const char *text, uint64_t *ret_ticks, char *ret_state) {
  const char *at = strrchr(text, ')');
  if (!at || strlen(at) < 3) return -ESRCH;
  char state = at[2];
  at += 2;
  for (int field = 0; at && field < FIELDS_FROM_STATE_TO_START; field++)
    at = strchr(at + 1, ' ');
  if (!at) return -ESRCH;
  *ret_ticks = strtoull(at + 1, NULL, 10);
  *ret_state = state;
  return 0;
}

int lvri_os_process_start(int32_t pid, uint64_t *ret_ticks, char *ret_state) {
  char text[STAT_BYTES];
  int error = read_stat(pid, text);
  return error ? error : parse_stat(text, ret_ticks, ret_state);
}

bool lvri_os_thread_exists(int32_t tid) {
  uint64_t ticks;
  char state;
  return lvri_os_process_start(tid, &ticks, &state) == 0 && state != 'Z' && state != 'X';
}

int lvri_os_die_with_parent(int signo) {
  return prctl(PR_SET_PDEATHSIG, signo, 0, 0, 0) < 0 ? -errno : 0;
}

/* --- processors --------------------------------------------------------------------------- */

/* The set of more processors than cpu_set_t has room for. */
static int count_many(void) {
  for (int room = 4096; room <= 1 << 20; room *= 2) {
    cpu_set_t *set = CPU_ALLOC((size_t)room);
    if (!set) return 1;
    size_t bytes = CPU_ALLOC_SIZE((size_t)room);
    int count = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count;
  }
  return 1;
}

int lvri_os_cpu_count(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) < 0) return count_many();
  return CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
}

uint32_t lvri_os_cpu(void) {
  int cpu = sched_getcpu();
  return cpu < 0 ? 0 : (uint32_t)cpu;
}

void lvri_os_yield(void) { (void)sched_yield(); }
