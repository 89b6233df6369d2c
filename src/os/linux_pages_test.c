#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "os/os.h"
#include "os/pages.h"
#include "testing/test.h"

#define PAGE       UINT64_C(4096)
#define PAGES      256u
#define IN_MEMORY  (UINT64_C(1) << 63)
#define LIKE_A_LIB (MAP_PRIVATE | MAP_POPULATE)

static uint64_t entry_of(const void *address) {
  uint64_t entry = 0;
  int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  off_t at = (off_t)((uintptr_t)address / PAGE * sizeof(entry));
  CHECK(fd >= 0);
  CHECK_INT(pread(fd, &entry, sizeof(entry), at), sizeof(entry));
  CHECK_INT(close(fd), 0);
  return entry;
}

static unsigned mapped(const char *memory) {
  unsigned found = 0;
  for (unsigned i = 0; i < PAGES; i++)
    found += (entry_of(memory + i * PAGE) & IN_MEMORY) != 0;
  return found;
}

static const char *map_file(void) {
  int fd;
  CHECK_INT(lvri_os_shm_create(&fd), 0);
  CHECK_INT(lvri_os_shm_commit(fd, 0, PAGES * PAGE), 0);
  char *all = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK(all != MAP_FAILED);
  memset(all, 'x', PAGES * PAGE);
  const char *memory = mmap(NULL, PAGES * PAGE, PROT_READ, LIKE_A_LIB, fd, 0);
  CHECK(memory != MAP_FAILED);
  return memory;
}

static void check_mapped(void *memory) { CHECK_INT(mapped(memory), PAGES); }

static void check_not_mapped(void *memory) { CHECK_INT(mapped(memory), 0); }

/* Without it the kernel leaves a fork's child to find the pages of files again. */
TEST(forks_copy_what_is_tied) {
  const char *memory = map_file();
  CHECK_INT(mapped(memory), PAGES);
  CHECK_INT(test_join(test_fork(check_not_mapped, (void *)(uintptr_t)memory)), 0);
  lvri_os_pages_tie();
  CHECK_INT(test_join(test_fork(check_mapped, (void *)(uintptr_t)memory)), 0);
  for (uint64_t i = 0; i < PAGES * PAGE; i++)
    CHECK(memory[i] == 'x');
}
