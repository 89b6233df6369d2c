/* linux_memory.c - how much memory there is to be had.
 *
 * A file in memory knows no limit: fallocate() on it does not fail for want of memory, the kernel
 * kills processes instead, one after the other, and frees nothing by that. So want of memory has to
 * be noticed before. A look reads a few small files (50 to 150 us; more in control groups with a
 * limit), too much for each slab of 64 KiB: after a look, this process takes up to a 256th of what
 * it has found (at most LVRI_MEMORY_STEP_BYTES) without another. */
#include "os/memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/fault.h"

#define UNSEEN_AT_FIRST (UINT64_C(1) << 20)
#define UNSEEN_SHARE    256U
#define MARGIN_BYTES    (UINT64_C(4) << 20) /* left alone, and a 32nd of the rest */
#define MARGIN_SHARE    32U
#define WITHOUT_A_LIMIT UINT64_MAX
#define MOST_TEXT_BYTES 8192
#define MOST_PATH_BYTES 4608

/* What this process may take without a look. Read and written by all its threads, in no order
 * with anything else. */
static _Atomic uint64_t unseen_bytes = UNSEEN_AT_FIRST;

/* --- small files --------------------------------------------------------------------------- */

#ifdef LVRI_TESTING
static const char *root = "";
void lvri_memory_look_in(const char *folder) {
  root = folder;
  lvri_store_relaxed_u64(&unseen_bytes, 0);
}
#else
static const char *const root = "";
#endif

/* A file of /proc or /sys, with a line's end before its first line, so that each starts with
 * one. */
struct text {
  char bytes[MOST_TEXT_BYTES];
};

static bool read_all(const char *path, struct text *ret) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  ssize_t got = read(fd, ret->bytes + 1, sizeof(ret->bytes) - 2);
  (void)close(fd);
  ret->bytes[0] = '\n';
  ret->bytes[got > 0 ? got + 1 : 1] = '\0';
  return got > 0;
}

static bool read_file(const char *folder, const char *name, struct text *ret) {
  char path[MOST_PATH_BYTES];
  int length = snprintf(path, sizeof(path), "%s%s/%s", root, folder, name);
  return length > 0 && (size_t)length < sizeof(path) && read_all(path, ret);
}

static uint64_t plus(uint64_t left, uint64_t right) {
  return left > UINT64_MAX - right ? UINT64_MAX : left + right;
}

static uint64_t less(uint64_t left, uint64_t right) { return left > right ? left - right : 0; }

static uint64_t smaller(uint64_t left, uint64_t right) { return left < right ? left : right; }

/* The number behind "\nkey"; 0 if there is no such line. */
static uint64_t number_in(const struct text *text, const char *key) {
  const char *at = strstr(text->bytes, key);
  return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

/* The number that a file consists of; WITHOUT_A_LIMIT if that is "max", or there is no such
 * file. */
static uint64_t number_of(const char *folder, const char *name) {
  struct text text;
  if (!read_file(folder, name, &text) || strncmp(text.bytes, "\nmax", 4) == 0)
    return WITHOUT_A_LIMIT;
  return strtoull(text.bytes + 1, NULL, 10);
}

/* --- the machine --------------------------------------------------------------------------- */

/* All that there is, had nobody any: better than no answer where /proc is not to be seen. */
static uint64_t all_of_machine(void) {
  struct sysinfo info;
  if (sysinfo(&info) < 0) return WITHOUT_A_LIMIT;
  return ((uint64_t)info.totalram + info.totalswap) * info.mem_unit;
}

static uint64_t in_machine(uint64_t *ret_swap_bytes) {
  struct text text;
  *ret_swap_bytes = 0;
  if (!read_file("/proc", "meminfo", &text)) return all_of_machine();
  *ret_swap_bytes = number_in(&text, "\nSwapFree:") * 1024;
  return number_in(&text, "\nMemAvailable:") * 1024 + *ret_swap_bytes;
}

/* --- control groups ------------------------------------------------------------------------ */

/* How a version of them shows itself. */
struct hierarchy {
  const char *line; /* in /proc/self/cgroup, before the group's path */
  const char *mounted;
  const char *limit;
  const char *used;
  const char *cache[3]; /* in its memory.stat: what is used, but given up when wanted */
  const char *swap_limit;
  const char *swap_used;
};

static const struct hierarchy hierarchies[] = {
    {"\n0::",
     "/sys/fs/cgroup",
     "memory.max",
     "memory.current",
     {"\ninactive_file", "\nactive_file", "\nslab_reclaimable"},
     "memory.swap.max",
     "memory.swap.current"},
    {":memory:",
     "/sys/fs/cgroup/memory",
     "memory.limit_in_bytes",
     "memory.usage_in_bytes",
     {"\ntotal_inactive_file", "\ntotal_active_file", NULL},
     NULL,
     NULL},
};

static uint64_t swap_of(const struct hierarchy *h, const char *folder, uint64_t swap_bytes) {
  if (!h->swap_limit || swap_bytes == 0) return 0;
  uint64_t limit = number_of(folder, h->swap_limit);
  if (limit == WITHOUT_A_LIMIT) return swap_bytes;
  return smaller(less(limit, number_of(folder, h->swap_used)), swap_bytes);
}

static uint64_t cache_of(const struct hierarchy *h, const char *folder) {
  struct text text;
  uint64_t bytes = 0;
  if (!read_file(folder, "memory.stat", &text)) return 0;
  for (int i = 0; i < 3 && h->cache[i]; i++)
    bytes = plus(bytes, number_in(&text, h->cache[i]));
  return bytes;
}

static uint64_t in_group(const struct hierarchy *h, const char *folder, uint64_t swap_bytes) {
  uint64_t limit = number_of(folder, h->limit);
  if (limit >= INT64_MAX - UINT32_MAX)
    return WITHOUT_A_LIMIT; /* version 1 says it by a large one */
  uint64_t bytes = less(limit, number_of(folder, h->used));
  return plus(plus(bytes, cache_of(h, folder)), swap_of(h, folder, swap_bytes));
}

/* In the group and all above it, up to what is mounted here: in a container that is its own. */
static uint64_t in_groups(const struct hierarchy *h, const struct text *mine, uint64_t swap_bytes) {
  char folder[MOST_PATH_BYTES];
  const char *at = strstr(mine->bytes, h->line);
  if (!at) return WITHOUT_A_LIMIT;
  at += strlen(h->line);
  size_t least = strlen(h->mounted);
  int length = snprintf(folder, sizeof(folder), "%s%.*s", h->mounted, (int)strcspn(at, "\n"), at);
  if (length < 0 || (size_t)length >= sizeof(folder)) return WITHOUT_A_LIMIT;
  uint64_t bytes = WITHOUT_A_LIMIT;
  while (strlen(folder) >= least) {
    bytes = smaller(bytes, in_group(h, folder, swap_bytes));
    *strrchr(folder, '/') = '\0';
  }
  return bytes;
}

/* --- what may be taken --------------------------------------------------------------------- */

uint64_t lvri_memory_available(void) {
  struct text mine;
  uint64_t swap_bytes;
  LVRI_FAULT("os.memory.available", 0);
  uint64_t bytes = in_machine(&swap_bytes);
  if (!read_file("/proc/self", "cgroup", &mine)) return bytes;
  for (size_t i = 0; i < sizeof(hierarchies) / sizeof(hierarchies[0]); i++)
    bytes = smaller(bytes, in_groups(&hierarchies[i], &mine, swap_bytes));
  return bytes;
}

bool lvri_memory_may_take(uint64_t bytes) {
  uint64_t unseen = lvri_load_relaxed_u64(&unseen_bytes);
  while (bytes <= unseen)
    if (lvri_cas_relaxed_u64(&unseen_bytes, &unseen, unseen - bytes)) return true;
  uint64_t available = less(lvri_memory_available(), MARGIN_BYTES);
  available -= available / MARGIN_SHARE;
  if (bytes > available) return false;
  unseen = smaller((available - bytes) / UNSEEN_SHARE, LVRI_MEMORY_STEP_BYTES);
  lvri_store_relaxed_u64(&unseen_bytes, unseen);
  return true;
}
