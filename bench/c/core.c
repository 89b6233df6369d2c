/* core.c - what the ground floor costs: mutex, guard, heap, memory. docs/design/arena.md quotes it.
 *
 *     meson setup build -Dbench=true -Dbuildtype=release
 *     meson compile -C build && build/bench/c/bench_core
 *
 * One thread, nobody else in the arena; the median of ROUNDS rounds, in ns for one of each. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/arena.h"
#include "os/memory.h"
#include "os/os.h"

enum { ROUNDS = 15, SMALL = 20000, LARGE = 200, MANY = 100000 };

static struct lvri_arena arena;
static lvri_off words; /* a block of them */
static size_t block_bytes;
static unsigned records;

static void demand(bool fulfilled, const char *what) {
  if (fulfilled) return;
  (void)fprintf(stderr, "bench: %s failed\n", what);
  exit(1);
}

/* --- measuring ----------------------------------------------------------------------------- */

static int by_value(const void *left, const void *right) {
  double l = *(const double *)left, r = *(const double *)right;
  return (l > r) - (l < r);
}

/* body does its work `count` times; the first round is not counted. */
static void measure(const char *what, unsigned count, void (*body)(unsigned count)) {
  double times[ROUNDS];
  body(count);
  for (unsigned i = 0; i < ROUNDS; i++) {
    int64_t start = lvri_os_now_ns();
    body(count);
    times[i] = (double)(lvri_os_now_ns() - start) / count;
  }
  qsort(times, ROUNDS, sizeof(times[0]), by_value);
  (void)printf("%-52s %10.1f ns   (%.1f to %.1f)\n", what, times[ROUNDS / 2], times[0],
               times[ROUNDS - 1]);
}

/* --- mutex and guard ----------------------------------------------------------------------- */

static void lock_plain_mutex(unsigned count) {
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  for (unsigned i = 0; i < count; i++) {
    (void)pthread_mutex_lock(&mutex);
    (void)pthread_mutex_unlock(&mutex);
  }
}

static void lock_robust_mutex(unsigned count) {
  struct lvri_mutex *mutex = &lvri_arena_stripe(&arena, words)->gd_mutex;
  for (unsigned i = 0; i < count; i++) {
    demand(lvri_mutex_lock(mutex) == 0, "lock");
    lvri_mutex_unlock(mutex);
  }
}

static void change_words(unsigned count) {
  struct lvri_guard *g = lvri_arena_stripe(&arena, words);
  uint64_t *word = lvri_at(&arena, words);
  for (unsigned i = 0; i < count; i++) {
    demand(lvri_guard_enter(&arena, g) == 0, "enter");
    for (unsigned r = 0; r < records; r++)
      lvri_set64(&arena, g, &word[r], word[r] + 1);
    lvri_guard_leave(&arena, g);
  }
}

static void measure_guards(void) {
  static const unsigned counts[] = {0, 2, 8};
  measure("plain mutex: lock, unlock", SMALL, lock_plain_mutex);
  measure("robust shared mutex: lock, unlock", SMALL, lock_robust_mutex);
  for (unsigned i = 0; i < 3; i++) {
    char what[64];
    records = counts[i];
    (void)snprintf(what, sizeof(what), "guard: enter, %u words changed, leave", records);
    measure(what, SMALL, change_words);
  }
}

/* --- heap ---------------------------------------------------------------------------------- */

static lvri_off alloc(void) {
  lvri_off off = 0;
  demand(lvri_guard_enter(&arena, lvri_arena_guard(&arena)) == 0, "enter");
  demand(lvri_heap_alloc_locked(&arena, block_bytes, 1, &off) == 0, "alloc");
  lvri_guard_leave(&arena, lvri_arena_guard(&arena));
  return off;
}

static void give_back(lvri_off off) {
  demand(lvri_guard_enter(&arena, lvri_arena_guard(&arena)) == 0, "enter");
  lvri_heap_free_locked(&arena, off);
  lvri_guard_leave(&arena, lvri_arena_guard(&arena));
}

static void alloc_and_free(unsigned count) {
  for (unsigned i = 0; i < count; i++)
    give_back(alloc());
}

static void alloc_many(unsigned count) {
  static lvri_off offs[MANY];
  for (unsigned i = 0; i < count; i++)
    offs[i] = alloc();
  for (unsigned i = 0; i < count; i++)
    give_back(offs[i]);
}

static void measure_heap(void) {
  static const struct {
    size_t bytes;
    unsigned count;
  } sizes[] = {{64, SMALL},    {128, SMALL},   {1024, SMALL},
               {16384, SMALL}, {65536, LARGE}, {1 << 20, LARGE}};
  for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
    char what[64];
    block_bytes = sizes[i].bytes;
    (void)snprintf(what, sizeof(what), "heap: alloc and free %zu bytes", block_bytes);
    measure(what, sizes[i].count, alloc_and_free);
  }
  block_bytes = 128;
  measure("heap: alloc 100 000 of 128 bytes, then free, each", MANY, alloc_many);
}

/* --- memory -------------------------------------------------------------------------------- */

static void look(unsigned count) {
  for (unsigned i = 0; i < count; i++)
    demand(lvri_memory_available() > 0, "a look");
}

static void commit_page(unsigned count) {
  lvri_off end = (lvri_off)64 << 20;
  for (unsigned i = 0; i < count; i++) {
    demand(lvri_os_shm_commit(arena.fd, end, end + LVRI_PAGE_BYTES) == 0, "commit");
    demand(lvri_os_shm_punch(arena.fd, end, LVRI_PAGE_BYTES) == 0, "punch");
  }
}

int main(void) {
  demand(lvri_arena_create(0, &arena) == 0, "arena");
  block_bytes = 64;
  words = alloc();
  measure_guards();
  measure_heap();
  measure("memory: how much is there?", LARGE, look);
  measure("memory: take 64 KiB and give them back", LARGE, commit_page);
  lvri_arena_fini(&arena);
  return 0;
}
