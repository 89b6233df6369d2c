#include "os/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/fault.h"
#include "os/os.h"
#include "testing/test.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

/* --- a machine of paper ----------------------------------------------------------------------- */

static char machine[64];

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *at) {
  (void)status, (void)kind, (void)at;
  return remove(path);
}

static void forget_machine(void) {
  lvri_memory_look_in("");
  (void)nftw(machine, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void new_machine(void) {
  (void)snprintf(machine, sizeof(machine), "%s", "/tmp/leveret-memory-XXXXXX");
  CHECK(mkdtemp(machine) != NULL);
  lvri_memory_look_in(machine);
}

/* Writes a file of it, and the folders that it lies in. */
static void put(const char *name, const char *text) {
  char path[256];
  (void)snprintf(path, sizeof(path), "%s%s", machine, name);
  for (char *slash = path + strlen(machine) + 1; (slash = strchr(slash, '/')); slash++) {
    *slash = '\0';
    CHECK(mkdir(path, 0700) == 0 || errno == EEXIST);
    *slash = '/';
  }
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
  (void)close(fd);
}

static void put_meminfo(uint64_t available_kib, uint64_t swap_kib) {
  char text[256];
  (void)snprintf(text, sizeof(text),
                 "MemTotal: 999999999 kB\nMemFree: 1 kB\nMemAvailable:   %llu kB\n"
                 "SwapCached: 7 kB\nSwapTotal: 5 kB\nSwapFree:  %llu kB\n",
                 (unsigned long long)available_kib, (unsigned long long)swap_kib);
  put("/proc/meminfo", text);
}

TEST(the_machine_has_what_it_says) {
  new_machine();
  put_meminfo(3 * MIB, MIB);
  CHECK_INT(lvri_memory_available(), 4 * GIB);
  forget_machine();
}

TEST(without_proc_the_machine_has_at_most_all) {
  new_machine();
  uint64_t bytes = lvri_memory_available();
  CHECK(bytes > 64 * MIB && bytes < UINT64_C(1) << 50);
  forget_machine();
}

TEST(this_machine_has_some) {
  uint64_t bytes = lvri_memory_available();
  CHECK(bytes > MIB && bytes < UINT64_C(1) << 50);
}

TEST(a_group_of_version_2_limits) {
  new_machine();
  put_meminfo(8 * MIB, 0);
  put("/proc/self/cgroup", "0::/user.slice/mine\n");
  put("/sys/fs/cgroup/user.slice/mine/memory.max", "max\n");
  put("/sys/fs/cgroup/user.slice/mine/memory.current", "123456\n");
  CHECK_INT(lvri_memory_available(), 8 * GIB);
  put("/sys/fs/cgroup/user.slice/mine/memory.max", "1073741824\n");
  put("/sys/fs/cgroup/user.slice/mine/memory.current", "536870912\n");
  CHECK_INT(lvri_memory_available(), 512 * MIB);
  put("/sys/fs/cgroup/user.slice/mine/memory.stat",
      "anon 4096\nfile 999\nkernel 1\ninactive_file 1048576\nactive_file 2097152\n"
      "slab_reclaimable 4194304\nslab 9999\n");
  CHECK_INT(lvri_memory_available(), (512 + 7) * MIB);
  put("/sys/fs/cgroup/user.slice/memory.max", "2097152\n");
  put("/sys/fs/cgroup/user.slice/memory.current", "1048576\n");
  CHECK_INT(lvri_memory_available(), MIB);
  put("/sys/fs/cgroup/memory.max",
      "1048576\n"); /* a container's own, with a foreign path below it */
  put("/sys/fs/cgroup/memory.current", "2000000\n");
  CHECK_INT(lvri_memory_available(), 0);
  forget_machine();
}

TEST(swap_counts_as_far_as_the_group_may) {
  new_machine();
  put_meminfo(8 * MIB, 64 * KIB);
  put("/proc/self/cgroup", "1:name=systemd:/x\n0::/mine\n");
  put("/sys/fs/cgroup/mine/memory.max", "1048576\n");
  put("/sys/fs/cgroup/mine/memory.current", "0\n");
  put("/sys/fs/cgroup/mine/memory.swap.max", "max\n");
  CHECK_INT(lvri_memory_available(), 65 * MIB);
  put("/sys/fs/cgroup/mine/memory.swap.max", "3145728\n");
  put("/sys/fs/cgroup/mine/memory.swap.current", "1048576\n");
  CHECK_INT(lvri_memory_available(), 3 * MIB);
  forget_machine();
}

TEST(a_group_of_version_1_limits) {
  new_machine();
  put_meminfo(8 * MIB, 0);
  put("/proc/self/cgroup", "8:pids:/a\n4:memory:/a/b\n0::/\n");
  put("/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
  put("/sys/fs/cgroup/memory/a/b/memory.usage_in_bytes", "4096\n");
  CHECK_INT(lvri_memory_available(), 8 * GIB);
  put("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "8388608\n");
  put("/sys/fs/cgroup/memory/a/memory.usage_in_bytes", "7340032\n");
  put("/sys/fs/cgroup/memory/a/memory.stat",
      "inactive_file 1\ntotal_inactive_file 1048576\ntotal_active_file 4096\n");
  CHECK_INT(lvri_memory_available(), 2 * MIB + 4096);
  forget_machine();
}

TEST(odd_files_are_no_limit) {
  char line[9000];
  new_machine();
  put_meminfo(1024, 0);
  memset(line, 'x', sizeof(line) - 1);
  line[sizeof(line) - 1] = '\0';
  memcpy(line, "0::/", 4);
  const char *lines[] = {"", "\n", "0::", "0::/\n", "0::/none\n", "memory", line};
  for (int i = 0; i < 7; i++) {
    put("/proc/self/cgroup", lines[i]);
    CHECK_INT(lvri_memory_available(), MIB);
  }
  forget_machine();
}

/* --- taking it -------------------------------------------------------------------------------- */

static int new_file(void) {
  int fd = -1;
  CHECK_INT(lvri_os_shm_create(&fd), 0);
  return fd;
}

static uint64_t used_of(int fd) {
  uint64_t bytes = 0;
  CHECK_INT(lvri_os_shm_used(fd, &bytes), 0);
  return bytes;
}

/* Nothing is taken here, on paper or off it: the first look refuses. */
TEST(more_than_there_is_is_a_code) {
  int fd = new_file();
  new_machine();
  put_meminfo(64 * KIB, 0);
  CHECK_INT(lvri_os_shm_commit(fd, 0, 64 * MIB), -ENOMEM);
  CHECK_INT(lvri_os_shm_commit(fd, 0, UINT64_C(1) << 50), -ENOMEM);
  CHECK_INT(used_of(fd), 0);
  CHECK_INT(lvri_os_shm_commit(fd, 0, 8 * MIB), 0);
  CHECK_INT(used_of(fd), 8 * MIB);
  put_meminfo(4 * KIB, 0); /* of which a margin is left alone */
  CHECK_INT(lvri_os_shm_commit(fd, 8 * MIB, 9 * MIB), -ENOMEM);
  CHECK_INT(used_of(fd), 8 * MIB);
  forget_machine();
}

TEST(a_group_without_room_is_a_code) {
  int fd = new_file();
  new_machine();
  put_meminfo(MIB, 0);
  put("/proc/self/cgroup", "0::/mine\n");
  put("/sys/fs/cgroup/mine/memory.max", "33554432\n");
  put("/sys/fs/cgroup/mine/memory.current", "16777216\n");
  CHECK_INT(lvri_os_shm_commit(fd, 0, 16 * MIB), -ENOMEM);
  CHECK_INT(lvri_os_shm_commit(fd, 0, 8 * MIB), 0);
  forget_machine();
}

TEST(it_looks_again_at_each_step) {
  int fd = new_file();
  lvri_fault_arm("os.memory.available", 3);
  CHECK_INT(lvri_os_shm_commit(fd, 0, 4 * LVRI_MEMORY_STEP_BYTES), -ENOMEM);
  CHECK_INT(used_of(fd), 2 * LVRI_MEMORY_STEP_BYTES);
  lvri_fault_arm(NULL, 0);
}

TEST(small_ones_share_a_look) {
  int fd = new_file();
  new_machine();
  put_meminfo(8 * MIB, 0);
  lvri_fault_arm("os.memory.available", UINT64_MAX);
  for (uint64_t at = 0; at < 32 * MIB; at += MIB / 16)
    CHECK_INT(lvri_os_shm_commit(fd, at, at + MIB / 16), 0);
  CHECK_INT(lvri_fault_hits(), 2);
  lvri_memory_look_in(machine);
  put_meminfo(64 * KIB, 0); /* with less there is, it looks more often */
  lvri_fault_arm("os.memory.available", UINT64_MAX);
  for (uint64_t at = 32 * MIB; at < 34 * MIB; at += MIB / 16)
    CHECK_INT(lvri_os_shm_commit(fd, at, at + MIB / 16), 0);
  CHECK(lvri_fault_hits() > 4);
  lvri_fault_arm(NULL, 0);
  forget_machine();
}

TEST(a_signal_makes_the_steps_smaller) {
  int fd = new_file();
  lvri_fault_arm("os.shm.take", 2);
  CHECK_INT(lvri_os_shm_commit(fd, 0, 3 * LVRI_MEMORY_STEP_BYTES), 0);
  CHECK_INT(lvri_fault_hits(), 1 + 1 + 4);
  lvri_fault_arm(NULL, 0);
  CHECK_INT(used_of(fd), 3 * LVRI_MEMORY_STEP_BYTES);
}

/* Where the kernel takes a step back at each signal, whole, this would never end. */
static void on_alarm(int signo) { (void)signo; }

TEST(it_gets_on_under_many_signals) {
  int fd = new_file();
  struct sigaction action = {.sa_handler = on_alarm};
  struct itimerval often = {{0, 250}, {0, 250}}, never = {{0, 0}, {0, 0}};
  CHECK(sigaction(SIGALRM, &action, NULL) == 0);
  CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
  CHECK_INT(lvri_os_shm_commit(fd, 0, 64 * MIB), 0);
  CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
  CHECK_INT(used_of(fd), 64 * MIB);
}
