#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/fault.h"
#include "os/os.h"

/* Headers may be older than the kernel. */
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

#define NS_PER_S        INT64_C(1000000000)
#define WORD_OF_32_BITS 2U /* FUTEX_32, without FUTEX_PRIVATE_FLAG */

/* As the kernel reads it. */
struct wait_entry {
  uint64_t value;
  uint64_t address;
  uint32_t flags;
  uint32_t reserved;
};

enum { UNKNOWN, PRESENT, ABSENT };
static _Atomic uint32_t wait2_support = UNKNOWN;

static struct timespec *until(int64_t deadline_ns, struct timespec *at) {
  int64_t when = deadline_ns < 0 ? 0 : deadline_ns;
  if (deadline_ns == LVRI_FOREVER) return NULL;
  *at = (struct timespec){when / NS_PER_S, when % NS_PER_S};
  return at;
}

static int code(long result) { return result >= 0 ? 0 : -errno; }

int lvri_os_futex_wait(const _Atomic uint32_t *word, uint32_t expected, int64_t deadline_ns) {
  struct timespec at;
  LVRI_FAULT("os.futex.wait", -EINTR);
  /* The one form of wait whose time is absolute. */
  return code(syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected, until(deadline_ns, &at), NULL,
                      FUTEX_BITSET_MATCH_ANY));
}

int lvri_os_futex_wake(const _Atomic uint32_t *word, int count) {
  long woken = syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
  return woken < 0 ? -errno : (int)woken;
}

/* Asks for a wait on no word: -EINVAL from a kernel that has the call. */
static uint32_t look_for_wait2(void) {
  long result = syscall(SYS_futex_waitv, NULL, 0, 0, NULL, CLOCK_MONOTONIC);
  return result < 0 && errno == EINVAL ? PRESENT : ABSENT;
}

bool lvri_os_futex_has_wait2(void) {
  uint32_t support = lvri_load_relaxed_u32(&wait2_support);
  if (support == UNKNOWN) {
    support = look_for_wait2();
    lvri_store_relaxed_u32(&wait2_support, support); /* all who look find the same */
  }
  return support == PRESENT;
}

int lvri_os_futex_wait_any(const struct lvri_os_word *words, unsigned count, int64_t deadline_ns) {
  struct timespec at;
  struct wait_entry entries[LVRI_OS_WORDS_MAX];
  LVRI_FAULT("os.futex.wait2", -ENOSYS);
  if (!lvri_os_futex_has_wait2()) return -ENOSYS;
  for (unsigned i = 0; i < count && i < LVRI_OS_WORDS_MAX; i++)
    entries[i] = (struct wait_entry){words[i].expected, (uint64_t)(uintptr_t)words[i].word,
                                     WORD_OF_32_BITS, 0};
  if (count > LVRI_OS_WORDS_MAX) count = LVRI_OS_WORDS_MAX;
  return code(
      syscall(SYS_futex_waitv, entries, count, 0, until(deadline_ns, &at), CLOCK_MONOTONIC));
}

int lvri_os_futex_wait2(const _Atomic uint32_t *word0, uint32_t expected0,
                        const _Atomic uint32_t *word1, uint32_t expected1, int64_t deadline_ns) {
  struct lvri_os_word words[2] = {{word0, expected0}, {word1, expected1}};
  return lvri_os_futex_wait_any(words, 2, deadline_ns);
}
