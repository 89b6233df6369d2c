#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/fault.h"
#include "os/memory.h"
#include "os/os.h"

#define LEAST_STEP_BYTES (UINT64_C(64) << 10)

/* Headers may be older than the kernel. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

/* Some systems refuse files in memory that could be executed; old kernels do not know the flag. */
static int create_memfd(void) {
  int fd = memfd_create("leveret", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
  if (fd < 0 && errno == EINVAL) fd = memfd_create("leveret", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  return fd < 0 ? -errno : fd;
}

/* Whoever prints to a descriptor that was closed when we came would print into the arena. */
static int behind_standard_streams(int fd) {
  if (fd < 0 || fd > 2) return fd;
  int copy = lvri_os_dup(fd);
  lvri_os_close(fd);
  return copy;
}

int lvri_os_shm_create(int *ret_fd) {
  LVRI_FAULT("os.shm.create", -EMFILE);
  int fd = behind_standard_streams(create_memfd());
  if (fd < 0) return fd;
  if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) < 0) {
    int error = -errno;
    lvri_os_close(fd);
    return error;
  }
  *ret_fd = fd;
  return 0;
}

/* --- mapping ------------------------------------------------------------------------------ */

/* A process with little address space needs most of it for itself. */
static uint64_t fair_share(uint64_t want_bytes) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_AS, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY) return want_bytes;
  while (want_bytes > limit.rlim_cur / 4)
    want_bytes /= 2;
  return want_bytes;
}

static void *map(int fd, uint64_t bytes) {
  return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
}

/* mmap(2) has two words for it. */
static bool was_too_large(void) { return errno == ENOMEM || errno == EINVAL; }

int lvri_os_shm_reserve(int fd, uint64_t want_bytes, uint64_t least_bytes, void **ret_base,
                        uint64_t *ret_bytes) {
  LVRI_FAULT("os.shm.reserve", -ENOMEM);
  uint64_t bytes = want_bytes > least_bytes ? fair_share(want_bytes) : least_bytes;
  if (bytes < least_bytes) bytes = least_bytes;
  void *base = map(fd, bytes);
  while (base == MAP_FAILED && was_too_large() && bytes / 2 >= least_bytes) {
    bytes /= 2;
    base = map(fd, bytes);
  }
  if (base == MAP_FAILED) return -errno;
  (void)madvise(base, bytes, MADV_DONTDUMP); /* without it dumps are large, no more */
  *ret_base = base;
  *ret_bytes = bytes;
  return 0;
}

int lvri_os_shm_view(int fd, uint64_t from, uint64_t bytes, void **ret_base) {
  LVRI_FAULT("os.shm.view", -ENOMEM);
  void *base =
      mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, (off_t)from);
  if (base == MAP_FAILED) return -errno;
  /* not populated: the kernel maps 16 pages around each that is read, which costs less */
  *ret_base = base;
  return 0;
}

void lvri_os_shm_unmap(void *base, uint64_t bytes) { (void)munmap(base, bytes); }

/* --- the file ----------------------------------------------------------------------------- */

int lvri_os_shm_size(int fd, uint64_t *ret_bytes) {
  struct stat status;
  if (fstat(fd, &status) < 0) return -errno;
  if (!S_ISREG(status.st_mode)) return -ENODEV;
  *ret_bytes = (uint64_t)status.st_size;
  return 0;
}

int lvri_os_shm_used(int fd, uint64_t *ret_bytes) {
  struct stat status;
  if (fstat(fd, &status) < 0) return -errno;
  *ret_bytes = (uint64_t)status.st_blocks * 512;
  return 0;
}

/* Growing a file beyond RLIMIT_FSIZE would raise SIGXFSZ, which kills. */
static int may_be_as_long_as(uint64_t bytes) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY) return 0;
  return bytes <= limit.rlim_cur ? 0 : -ENOMEM;
}

static int want_of_memory(int error) {
  return error == ENOSPC || error == EFBIG || error == EDQUOT ? -ENOMEM : -error;
}

int lvri_os_shm_extend(int fd, uint64_t bytes) {
  uint64_t now = 0;
  LVRI_FAULT("os.shm.extend", -ENOMEM);
  int error = lvri_os_shm_size(fd, &now);
  if (error || now >= bytes) return error;
  error = may_be_as_long_as(bytes);
  if (error) return error;
  while (ftruncate(fd, (off_t)bytes) < 0)
    if (errno != EINTR) return want_of_memory(errno);
  return 0;
}

static int take(int fd, uint64_t from, uint64_t bytes) {
  LVRI_FAULT("os.shm.take", -EINTR);
  if (fallocate(fd, 0, (off_t)from, (off_t)bytes) == 0) return 0;
  return want_of_memory(errno);
}

/* In steps, for memory that was there at the first may be gone at the last; and because older
 * kernels take all of a step back when a signal comes: one who gets many of them needs small
 * steps. */
int lvri_os_shm_commit(int fd, uint64_t from, uint64_t to) {
  uint64_t step = LVRI_MEMORY_STEP_BYTES;
  LVRI_FAULT("os.shm.commit", -ENOMEM);
  int error = may_be_as_long_as(to);
  while (from < to && (!error || error == -EINTR)) {
    uint64_t bytes = to - from < step ? to - from : step;
    if (!lvri_memory_may_take(to - from)) return -ENOMEM;
    error = take(fd, from, bytes);
    if (!error) from += bytes;
    if (error == -EINTR && step > LEAST_STEP_BYTES) step /= 2;
  }
  return error;
}

int lvri_os_shm_may_commit(uint64_t bytes) {
  LVRI_FAULT("os.shm.may_commit", -ENOMEM);
  return lvri_memory_may_take(bytes) ? 0 : -ENOMEM;
}

int lvri_os_shm_punch(int fd, uint64_t from, uint64_t bytes) {
  while (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)bytes) < 0)
    if (errno != EINTR) return -errno;
  return 0;
}

int lvri_os_shm_read(int fd, uint64_t from, void *buf, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    ssize_t got = pread(fd, (char *)buf + done, bytes - done, (off_t)(from + done));
    if (got == 0) return -ENODATA;
    if (got < 0 && errno != EINTR) return -errno;
    if (got > 0) done += (size_t)got;
  }
  return 0;
}

/* --- the rest ----------------------------------------------------------------------------- */

int lvri_os_random(void *buf, size_t bytes) {
  LVRI_FAULT("os.random", -ENOSYS);
  for (size_t done = 0; done < bytes;) {
    ssize_t got = getrandom((char *)buf + done, bytes - done, 0);
    if (got < 0 && errno != EINTR) return -errno;
    if (got > 0) done += (size_t)got;
  }
  return 0;
}

int lvri_os_dup(int fd) {
  LVRI_FAULT("os.dup", -EMFILE);
  int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  return copy < 0 ? -errno : copy;
}

void lvri_os_close(int fd) {
  if (fd >= 0) (void)close(fd); /* on Linux it is closed even after EINTR */
}
