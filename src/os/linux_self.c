#include <dirent.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "os/os.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

int lvri_os_wiped_page(void **ret_page) {
  LVRI_FAULT("os.wiped_page", -ENOMEM);
  size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
  void *page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return -errno;
  if (madvise(page, bytes, MADV_WIPEONFORK) != 0) {
    int error = errno;
    (void)munmap(page, bytes);
    return error == EINVAL ? -ENOSYS : -error;
  }
  *ret_page = page;
  return 0;
}

void lvri_os_wiped_page_free(void *page) {
  if (page) (void)munmap(page, (size_t)sysconf(_SC_PAGESIZE));
}

uint64_t lvri_os_boot_ticks(void) {
  struct timespec at;
  (void)clock_gettime(CLOCK_BOOTTIME, &at);
  uint64_t per_second = (uint64_t)sysconf(_SC_CLK_TCK);
  return (uint64_t)at.tv_sec * per_second + (uint64_t)at.tv_nsec * per_second / 1000000000U;
}

/* How many threads a process lists: a zombie that is dead altogether lists itself alone. */
static unsigned count_threads(int32_t pid) {
  char path[32];
  (void)snprintf(path, sizeof(path), "/proc/%d/task", pid);
  DIR *tasks = opendir(path);
  if (!tasks) return 0;
  unsigned count = 0;
  for (struct dirent *entry; (entry = readdir(tasks));)
    if (entry->d_name[0] != '.') count++;
  (void)closedir(tasks);
  return count;
}

bool lvri_os_process_is(int32_t pid, uint64_t born_ticks) {
  uint64_t started;
  char state;
  int error = lvri_os_process_start(pid, &started, &state);
  if (error == -ESRCH) return lvri_os_signal(pid, 0) != -ESRCH && access("/proc/self", F_OK) != 0;
  if (error) return lvri_os_signal(pid, 0) != -ESRCH;
  if (started > born_ticks || state == 'X') return false;
  return state != 'Z' || count_threads(pid) > 1;
}
