#include "core/heap.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/fault.h"
#include "core/arena.h"
#include "core/heap_inner.h"
#include "os/os.h"
#include "testing/crash.h"
#include "testing/test.h"

enum { KIND = 3 };
#define MANY 4000

/* --- helpers ---------------------------------------------------------------------------------- */

static void enter(struct lvri_arena *a) { CHECK_INT(lvri_guard_enter(a, lvri_arena_guard(a)), 0); }

static void leave(struct lvri_arena *a) { lvri_guard_leave(a, lvri_arena_guard(a)); }

static lvri_off new_block(struct lvri_arena *a, size_t bytes) {
  lvri_off off = 0;
  enter(a);
  CHECK_INT(lvri_heap_alloc_locked(a, bytes, KIND, &off), 0);
  leave(a);
  return off;
}

static lvri_off new_bare(struct lvri_arena *a, size_t bytes) {
  lvri_off off = 0;
  enter(a);
  CHECK_INT(lvri_heap_alloc_bare_locked(a, bytes, KIND, &off), 0);
  leave(a);
  return off;
}

static void free_block(struct lvri_arena *a, lvri_off off) {
  enter(a);
  lvri_heap_free_locked(a, off);
  leave(a);
}

static uint64_t memory(struct lvri_arena *a) {
  uint64_t bytes = 0;
  CHECK_INT(lvri_os_shm_used(a->fd, &bytes), 0);
  return bytes;
}

/* What is said to have all of its memory has it. The kernel does not say where it is, but how much
 * there is; header and page table of a small arena are less than a page of ours. */
static void check_memory(struct lvri_arena *a) {
  const struct lvri_heap_shm *heap = &lvri_arena_header(a)->ah_heap;
  uint64_t filled = 0;
  for (uint32_t at = heap->hp_first; at < heap->hp_pages;) {
    const struct lvri_page *page = lvri_heap_page(a, at);
    uint32_t end = at + page->pg_run;
    if (page->pg_state != LVRI_PAGE_FREE && lvri_load_relaxed_u32(&page->pg_filled))
      filled += (uint64_t)page->pg_run << LVRI_PAGE_SHIFT;
    at = end;
  }
  CHECK(filled <= memory(a));
}

static void check_heap(struct lvri_arena *a) {
  enter(a);
  CHECK_INT(lvri_arena_valid(a), 0);
  check_memory(a);
  leave(a);
}

static uint64_t blocks(struct lvri_arena *a) {
  return lvri_load_relaxed_u64(&lvri_arena_header(a)->ah_heap.hp_blocks);
}

/* But for what is warm. */
static uint64_t memory_in_use(struct lvri_arena *a) { return memory(a) - lvri_heap_warm_bytes(a); }

static bool is_zero(const void *at, size_t bytes) {
  const unsigned char *p = at;
  return bytes == 0 || (p[0] == 0 && memcmp(p, p + 1, bytes - 1) == 0);
}

/* --- blocks ----------------------------------------------------------------------------------- */

static void check_block(struct lvri_arena *a, size_t bytes) {
  lvri_off off = new_block(a, bytes);
  test_context("a block of %zu bytes", bytes);
  CHECK(off % 64 == 0 && (bytes <= LVRI_HEAP_SMALL_MAX || off % LVRI_PAGE_BYTES == 0));
  CHECK(lvri_heap_is_block(a, off) && !lvri_heap_is_block(a, off + 64));
  CHECK(lvri_heap_size(a, off) >= bytes);
  CHECK_INT(lvri_heap_kind(a, off), KIND);
  CHECK(is_zero(lvri_at(a, off), lvri_heap_size(a, off)));
  memset(lvri_at(a, off), 0xee, lvri_heap_size(a, off));
  check_heap(a);
  free_block(a, off);
  CHECK(!lvri_heap_is_block(a, off));
  check_heap(a);
  test_context("%s", "");
}

TEST(blocks_of_all_sizes) {
  struct lvri_arena a;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  for (int round = 0; round < 2; round++) /* the second finds what the first has left dirty */
    for (size_t bytes = 1; bytes < 1 << 20; bytes += 1 + bytes / 7)
      check_block(&a, bytes);
  CHECK_INT(blocks(&a), 0);
  lvri_arena_fini(&a);
}

TEST(a_lock_fits_into_128_bytes) {
  struct lvri_arena a;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  uint64_t before = memory(&a);
  for (int i = 0; i < 10000; i++)
    (void)new_block(&a, 128);
  CHECK(memory(&a) - before < 10000 * 132 + (1 << 17));
  lvri_arena_fini(&a);
}

TEST(blocks_do_not_overlap) {
  struct lvri_arena a;
  static lvri_off offs[MANY];
  CHECK_INT(lvri_arena_create(0, &a), 0);
  for (int i = 0; i < MANY; i++) {
    offs[i] = new_block(&a, 1 + (size_t)i % 700);
    memset(lvri_at(&a, offs[i]), i & 0xff, 1 + (size_t)i % 700);
  }
  check_heap(&a);
  for (int i = 0; i < MANY; i++) {
    const unsigned char *p = lvri_at(&a, offs[i]);
    CHECK(p[0] == (i & 0xff) && memcmp(p, p + 1, (size_t)i % 700) == 0);
  }
  CHECK_INT(blocks(&a), MANY);
  lvri_arena_fini(&a);
}

TEST(no_offset_but_a_block_is_one) {
  struct lvri_arena a;
  CHECK_INT(lvri_arena_create(LVRI_ARENA_LEAST_BYTES, &a), 0);
  lvri_off small = new_block(&a, 200), large = new_block(&a, 200000);
  unsigned found = 0;
  for (lvri_off off = 0; off < a.mapped_bytes + 1000; off++) {
    if (!lvri_heap_is_block(&a, off)) continue;
    found++;
    CHECK(off == small || off == large);
  }
  CHECK_INT(found, 2);
  CHECK(!lvri_heap_is_block(&a, UINT64_MAX) && !lvri_heap_is_block(&a, UINT64_MAX << 20));
  lvri_arena_fini(&a);
}

static void count_block(void *context, lvri_off off, size_t bytes, uint32_t kind) {
  uint64_t *sums = context;
  CHECK_INT(kind, KIND);
  sums[0]++;
  sums[1] += off;
  sums[2] += bytes;
}

TEST(each_block_is_visited) {
  struct lvri_arena a;
  uint64_t sums[3] = {0}, offs = 0;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  for (size_t bytes = 1; bytes < 300000; bytes *= 3)
    offs += new_block(&a, bytes);
  enter(&a);
  lvri_heap_each(&a, count_block, sums);
  leave(&a);
  CHECK_INT(sums[0], blocks(&a));
  CHECK_INT(sums[1], offs);
  CHECK_INT(sums[2], lvri_load_relaxed_u64(&lvri_arena_header(&a)->ah_heap.hp_bytes));
  lvri_arena_fini(&a);
}

/* A walk of random steps, checked against a list of what should be there. */
struct step {
  lvri_off off;
  size_t bytes;
  unsigned char fill;
};

static uint32_t next_random(uint32_t *seed) {
  *seed = *seed * 1664525U + 1013904223U;
  return *seed >> 8;
}

static size_t random_size(uint32_t *seed) {
  return 1 + (next_random(seed) >> 4) % (64U << next_random(seed) % 14);
}

static void random_step(struct lvri_arena *a, struct step *s, uint32_t *seed) {
  if (s->off) {
    const unsigned char *p = lvri_at(a, s->off);
    CHECK(p[0] == s->fill && memcmp(p, p + 1, s->bytes - 1) == 0);
    free_block(a, s->off);
    s->off = 0;
  } else {
    s->bytes = random_size(seed);
    s->off = new_block(a, s->bytes);
    CHECK(is_zero(lvri_at(a, s->off), s->bytes));
    s->fill = (unsigned char)(1 + next_random(seed) % 255);
    memset(lvri_at(a, s->off), s->fill, s->bytes);
  }
}

TEST_WITHIN(a_random_walk, 60) {
  struct lvri_arena a;
  static struct step steps[200];
  uint32_t seed = 42;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  for (int i = 0; i < 20000; i++) {
    test_context("step %d", i);
    random_step(&a, &steps[next_random(&seed) % 200], &seed);
    if (i % 64 == 0) check_heap(&a);
  }
  for (int i = 0; i < 200; i++)
    if (steps[i].off) free_block(&a, steps[i].off);
  check_heap(&a);
  CHECK_INT(blocks(&a), 0);
  lvri_arena_fini(&a);
}

/* --- memory ----------------------------------------------------------------------------------- */

TEST(freed_memory_goes_back) {
  struct lvri_arena a;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  uint64_t before = memory(&a);
  lvri_off off = new_block(&a, 128 << 20);
  CHECK(memory(&a) >= before + (128 << 20));
  free_block(&a, off);
  CHECK(memory(&a) < before + (113 << 20) &&
        memory(&a) > before + (100 << 20)); /* not all at once */
  check_heap(&a);
  free_block(&a, new_block(&a, 64)); /* whoever comes next goes on */
  CHECK(memory(&a) < before + (100 << 20));
  lvri_heap_settle(&a);
  CHECK(memory_in_use(&a) < before + (1 << 18)); /* the page table has grown */
  CHECK_INT(lvri_arena_header(&a)->ah_heap.hp_dirty, 0);
  check_heap(&a);
  lvri_arena_fini(&a);
}

TEST(empty_slabs_go_back_but_one) {
  struct lvri_arena a;
  static lvri_off offs[MANY];
  CHECK_INT(lvri_arena_create(0, &a), 0);
  uint64_t before = memory(&a);
  for (int i = 0; i < MANY; i++)
    offs[i] = new_block(&a, 1000);
  CHECK(memory(&a) > before + MANY * UINT64_C(1000));
  for (int i = 0; i < MANY; i++)
    free_block(&a, offs[i]);
  check_heap(&a);
  CHECK(lvri_heap_warm_bytes(&a) > 0);
  CHECK(memory_in_use(&a) <= before + LVRI_PAGE_BYTES + UINT64_C(3) * 4096 /* of the page table */);
  CHECK(lvri_heap_squeeze(&a));
  CHECK_INT(lvri_heap_warm_bytes(&a), 0);
  CHECK(memory(&a) <= before + LVRI_PAGE_BYTES + UINT64_C(3) * 4096);
  lvri_arena_fini(&a);
}

TEST(free_runs_grow_together) {
  struct lvri_arena a;
  lvri_off offs[64];
  CHECK_INT(lvri_arena_create(LVRI_ARENA_LEAST_BYTES * 4, &a), 0);
  for (int i = 0; i < 64; i++)
    offs[i] = new_block(&a, LVRI_PAGE_BYTES);
  for (int i = 0; i < 64; i += 2)
    free_block(&a, offs[i]);
  for (int i = 1; i < 64; i += 2)
    free_block(&a, offs[i]);
  check_heap(&a);
  CHECK(lvri_heap_squeeze(&a));
  (void)new_block(&a, LVRI_ARENA_LEAST_BYTES * 3); /* would not fit if they lay apart */
  check_heap(&a);
  lvri_arena_fini(&a);
}

TEST(a_bare_block_gets_its_memory_later) {
  struct lvri_arena a;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  (void)new_block(&a, 64);
  uint64_t before = memory(&a);
  for (int zeros = 0; zeros < 2; zeros++) {
    lvri_off off = new_bare(&a, 8 << 20);
    CHECK(memory(&a) < before + (1 << 16));
    CHECK_INT(lvri_heap_fill(&a, off, zeros), 0);
    CHECK(memory(&a) >= before + (8 << 20));
    if (zeros) CHECK(is_zero(lvri_at(&a, off), 8 << 20));
    memset(lvri_at(&a, off), 0x33, 8 << 20);
    check_heap(&a);
    free_block(&a, off);
    (void)lvri_heap_squeeze(&a);
    check_heap(&a);
  }
  lvri_off small = new_bare(&a, 100);
  memset(lvri_at(&a, small), 0x33, 100);
  free_block(&a, small);
  check_heap(&a);
  lvri_arena_fini(&a);
}

/* --- warm runs -------------------------------------------------------------------------------- */

static uint64_t warm(const struct lvri_arena *a) { return lvri_heap_warm_bytes(a); }

TEST(a_freed_run_is_used_again) {
  struct lvri_arena a;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  lvri_off off = new_block(&a, 1 << 20);
  uint64_t before = memory(&a);
  memset(lvri_at(&a, off), 0x44, 1 << 20);
  free_block(&a, off);
  CHECK_INT(warm(&a), 1 << 20);
  CHECK_INT(memory(&a), before);
  CHECK_INT(new_bare(&a, 1 << 20), off);
  CHECK_INT(warm(&a), 0);
  CHECK_INT(lvri_heap_fill(&a, off, false), 0);
  CHECK_INT(*(unsigned char *)lvri_at(&a, off + 12345), 0x44); /* nobody has touched it */
  free_block(&a, off);
  CHECK_INT(new_bare(&a, 1 << 20), off);
  CHECK_INT(lvri_heap_fill(&a, off, true), 0);
  CHECK(is_zero(lvri_at(&a, off), 1 << 20));
  memset(lvri_at(&a, off), 0x45, 1 << 20);
  free_block(&a, off);
  CHECK_INT(new_block(&a, 1 << 20), off);
  CHECK(is_zero(lvri_at(&a, off), 1 << 20));
  CHECK_INT(memory(&a), before);
  check_heap(&a);
  lvri_arena_fini(&a);
}

TEST(the_one_that_fits_is_taken) {
  struct lvri_arena a;
  static const size_t pages[] = {16, 20, 40, 10};
  lvri_off offs[4];
  CHECK_INT(lvri_arena_create(0, &a), 0);
  for (int i = 0; i < 4; i++)
    offs[i] = new_block(&a, pages[i] * LVRI_PAGE_BYTES);
  for (int i = 0; i < 4; i++)
    free_block(&a, offs[i]);
  CHECK_INT(warm(&a), 86 * LVRI_PAGE_BYTES);
  CHECK_INT(new_block(&a, 16 * LVRI_PAGE_BYTES), offs[0]); /* as long */
  CHECK_INT(new_block(&a, 32 * LVRI_PAGE_BYTES), offs[2]); /* a quarter longer */
  CHECK_INT(warm(&a), (20 + 8 + 10) * LVRI_PAGE_BYTES);    /* what was cut off stays */
  check_heap(&a);
  CHECK_INT(new_block(&a, 8 * LVRI_PAGE_BYTES), offs[2] + 32 * LVRI_PAGE_BYTES);
  (void)new_block(&a, 15 * LVRI_PAGE_BYTES); /* 20 are too long for it */
  CHECK_INT(warm(&a), 30 * LVRI_PAGE_BYTES);
  check_heap(&a);
  lvri_arena_fini(&a);
}

TEST(slabs_are_made_of_warm_pages) {
  struct lvri_arena a;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  lvri_off page = new_block(&a, LVRI_PAGE_BYTES);
  memset(lvri_at(&a, page), 0xff, LVRI_PAGE_BYTES);
  free_block(&a, page);
  lvri_off small = new_block(&a, 700);
  CHECK_INT(small & ~(LVRI_PAGE_BYTES - 1), page);
  CHECK(is_zero(lvri_at(&a, small), 700));
  check_heap(&a);
  lvri_arena_fini(&a);
}

TEST(the_oldest_make_room) {
  struct lvri_arena a;
  enum { RUNS = 100 };
  lvri_off offs[RUNS];
  CHECK_INT(lvri_arena_create(0, &a), 0);
  uint64_t before = memory(&a);
  for (int i = 0; i < RUNS; i++)
    offs[i] = new_block(&a, 1 << 20);
  for (int i = 0; i < RUNS; i++)
    free_block(&a, offs[i]);
  CHECK_INT(warm(&a), 64 << 20);
  CHECK(memory_in_use(&a) < before + (1 << 16));
  CHECK_INT(new_block(&a, 1 << 20), offs[RUNS - 1]);
  free_block(&a, new_block(&a, 64 << 20)); /* takes the place of all */
  lvri_heap_settle(&a);
  check_heap(&a);
  CHECK_INT(warm(&a), 64 << 20);
  CHECK(memory_in_use(&a) < before + (2 << 20));
  lvri_arena_fini(&a);
}

/* A freed run that the same critical section wants again is not given away:
 * it may be rolled back. */
TEST(nothing_is_warm_before_the_commit) {
  struct lvri_arena a;
  lvri_off off = 0, other = 0;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  off = new_block(&a, 1 << 20);
  memset(lvri_at(&a, off), 0x66, 1 << 20);
  enter(&a);
  lvri_heap_free_locked(&a, off);
  CHECK_INT(lvri_heap_alloc_locked(&a, 1 << 20, KIND, &other), 0);
  CHECK(other != off);
  lvri_guard_abort(&a, lvri_arena_guard(&a));
  check_heap(&a);
  CHECK_INT(*(unsigned char *)lvri_at(&a, off + 777), 0x66);
  lvri_arena_fini(&a);
}

/* Want of memory in the middle: what is warm is given up for it. */
TEST(warm_memory_is_memory) {
  struct lvri_arena a;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  lvri_off first = new_block(&a, 8 << 20), second = new_block(&a, 4 << 20);
  free_block(&a, first);
  free_block(&a, second);
  uint64_t before = memory(&a);
  lvri_fault_arm("os.shm.commit", 2); /* the first is for the page table, or there is none */
  lvri_off third = new_block(&a, 20 << 20);
  CHECK(lvri_fault_hits() >= 2);
  lvri_fault_arm(NULL, 0);
  CHECK(memory(&a) < before + (9 << 20));
  check_heap(&a);
  memset(lvri_at(&a, third), 1, 20 << 20);
  CHECK_INT(new_block(&a, 4 << 20), second); /* warm it is, but cold */
  CHECK(is_zero(lvri_at(&a, second), 4 << 20));
  check_heap(&a);
  lvri_off fourth = new_bare(&a, 5 << 20);
  lvri_fault_arm("os.shm.commit", 1);
  CHECK_INT(lvri_heap_fill(&a, fourth, false), 0);
  lvri_fault_arm(NULL, 0);
  CHECK_INT(warm(&a), 0);
  check_heap(&a);
  lvri_arena_fini(&a);
}

static bool says_filled(struct lvri_arena *a, lvri_off off) {
  const struct lvri_page *page = lvri_heap_page(a, (uint32_t)(off >> LVRI_PAGE_SHIFT));
  return lvri_load_relaxed_u32(&page->pg_filled);
}

/* The first part of a warm run is taken, the rest loses its memory, and the run is whole again. */
TEST(a_run_that_lost_its_end_is_not_full_after_a_rollback) {
  struct lvri_arena a;
  lvri_off part = 0, more = 0;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  lvri_off whole = new_block(&a, 5 << 20);
  free_block(&a, whole);
  CHECK(says_filled(&a, whole));
  enter(&a);
  CHECK_INT(lvri_heap_alloc_locked(&a, 4 << 20, KIND, &part), 0);
  CHECK_INT(part, whole);
  lvri_fault_arm("os.shm.commit", 2); /* behind that for the page table */
  CHECK_INT(lvri_heap_alloc_locked(&a, 20 << 20, KIND, &more), 0);
  CHECK(lvri_fault_hits() >= 2);
  lvri_fault_arm(NULL, 0);
  lvri_guard_abort(&a, lvri_arena_guard(&a));
  CHECK(!says_filled(&a, whole));
  /* it is cold; now its first part is filled, and that is taken back */
  enter(&a);
  CHECK_INT(lvri_heap_alloc_locked(&a, 4 << 20, KIND, &part), 0);
  CHECK_INT(part, whole);
  lvri_guard_abort(&a, lvri_arena_guard(&a));
  CHECK(!says_filled(&a, whole));
  CHECK_INT(new_block(&a, 5 << 20), whole);
  CHECK(says_filled(&a, whole));
  check_heap(&a);
  lvri_arena_fini(&a);
}

/* Where there is no other room, a slab is made of a longer one. */
TEST(a_full_arena_uses_what_is_warm) {
  struct lvri_arena a;
  lvri_off off = 0, last = 0;
  CHECK_INT(lvri_arena_create(LVRI_ARENA_LEAST_BYTES, &a), 0);
  int error;
  do {
    enter(&a);
    error = lvri_heap_alloc_locked(&a, 4 * LVRI_PAGE_BYTES, KIND, &off);
    leave(&a);
    if (!error) last = off;
  } while (!error);
  while (!error) { /* the rest */
    enter(&a);
    error = lvri_heap_alloc_locked(&a, LVRI_PAGE_BYTES, KIND, &off);
    leave(&a);
  }
  free_block(&a, last);
  CHECK_INT(warm(&a), 4 * LVRI_PAGE_BYTES);
  for (int i = 0; i < 4; i++)
    (void)new_block(&a, LVRI_PAGE_BYTES);
  check_heap(&a);
  lvri_arena_fini(&a);
}

/* --- want of memory --------------------------------------------------------------------------- */

TEST(a_full_arena_says_so) {
  struct lvri_arena a;
  lvri_off off = 0, last = 0;
  uint64_t count = 0;
  int error;
  CHECK_INT(lvri_arena_create(LVRI_ARENA_LEAST_BYTES, &a), 0);
  do {
    enter(&a);
    error = lvri_heap_alloc_locked(&a, 30000, KIND, &off);
    leave(&a);
    if (!error) last = off;
    count += !error;
  } while (!error);
  CHECK_INT(error, -ENOMEM);
  CHECK_INT(off, last); /* untouched by the failure */
  CHECK(count * 32768 > LVRI_ARENA_LEAST_BYTES * 9 / 10);
  check_heap(&a);
  free_block(&a, last);
  CHECK_INT(new_block(&a, 30000), last);
  lvri_arena_fini(&a);
}

TEST(impossible_sizes_are_refused) {
  struct lvri_arena a;
  lvri_off off = 0;
  const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 65535, (size_t)1 << 63, (size_t)1 << 48};
  CHECK_INT(lvri_arena_create(0, &a), 0);
  enter(&a);
  for (int i = 0; i < 4; i++)
    CHECK_INT(lvri_heap_alloc_locked(&a, sizes[i], 0, &off), -ENOMEM);
  leave(&a);
  CHECK_INT(off, 0);
  check_heap(&a);
  lvri_arena_fini(&a);
}

/* Each system call of an allocation fails once; what was done before in the same critical section
 * stands. */
static bool fails_at(uint64_t nth, size_t bytes) {
  struct lvri_arena a;
  lvri_off first = 0, second = 0;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  enter(&a);
  CHECK_INT(lvri_heap_alloc_locked(&a, 64, KIND, &first), 0);
  lvri_fault_arm(NULL, nth);
  int error = lvri_heap_alloc_locked(&a, bytes, KIND, &second);
  bool hit = lvri_fault_hits() >= nth;
  lvri_fault_arm(NULL, 0);
  CHECK(error == 0 || error == -ENOMEM);
  leave(&a);
  CHECK_INT(blocks(&a), error ? 1 : 2);
  CHECK(lvri_heap_is_block(&a, first));
  check_heap(&a);
  second = new_block(&a, bytes);
  CHECK(lvri_heap_is_block(&a, second));
  lvri_arena_fini(&a);
  return hit;
}

TEST(each_failing_call_leaves_the_heap_as_it_was) {
  uint64_t nth = 1;
  while (fails_at(nth, 128))
    nth++;
  CHECK(nth > 1);
  for (nth = 1; fails_at(nth, 5 << 20); nth++)
    continue;
  CHECK(nth > 3);
}

TEST(a_limit_on_file_size_is_want_of_memory) {
  struct lvri_arena a;
  struct rlimit limit = {80 << 20, 80 << 20};
  lvri_off off = 0;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  CHECK_INT(setrlimit(RLIMIT_FSIZE, &limit), 0); /* beyond it: SIGXFSZ, which kills */
  (void)new_block(&a, 1 << 20);
  enter(&a);
  CHECK_INT(lvri_heap_alloc_locked(&a, 200 << 20, KIND, &off), -ENOMEM);
  leave(&a);
  check_heap(&a);
  lvri_arena_fini(&a);
}

/* Memory that was there at the first step and is gone at the third. */
TEST(what_a_failed_block_got_goes_back) {
  struct lvri_arena a;
  lvri_off off = 0;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  (void)new_block(&a, 64);
  uint64_t before = memory(&a);
  lvri_fault_arm("os.memory.available", 3);
  enter(&a);
  CHECK_INT(lvri_heap_alloc_locked(&a, 64 << 20, KIND, &off), -ENOMEM);
  leave(&a);
  CHECK_INT(lvri_fault_hits(), 3);
  lvri_fault_arm(NULL, 0);
  CHECK(memory(&a) < before + (1 << 16));
  check_heap(&a);
  lvri_arena_fini(&a);
}

/* --- rolling back ----------------------------------------------------------------------------- */

TEST(aborted_blocks_were_never_there) {
  struct lvri_arena a;
  lvri_off off = 0, kept = 0;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  kept = new_block(&a, 100000);
  memset(lvri_at(&a, kept), 0x77, 100000);
  enter(&a);
  lvri_heap_free_locked(&a, kept);
  CHECK_INT(lvri_heap_alloc_locked(&a, 70000, KIND, &off), 0);
  CHECK(off != kept);
  memset(lvri_at(&a, off), 0x55, 70000);
  CHECK_INT(lvri_heap_alloc_locked(&a, 700, KIND, &off), 0);
  lvri_guard_abort(&a, lvri_arena_guard(&a));
  check_heap(&a);
  CHECK_INT(blocks(&a), 1);
  const unsigned char *p = lvri_at(&a, kept);
  CHECK(p[0] == 0x77 && memcmp(p, p + 1, 99999) == 0);
  CHECK(is_zero(lvri_at(&a, new_block(&a, 70000)), 70000));
  lvri_arena_fini(&a);
}

/* --- deaths ----------------------------------------------------------------------------------- */

struct heap_state {
  struct lvri_arena a;
  lvri_off old[3]; /* there before the action, freed by it */
  uint64_t blocks;
};

static const size_t old_bytes[3] = {64, 90000, 6000};

static void setup(void *state) {
  struct heap_state *s = state;
  CHECK_INT(lvri_arena_create(LVRI_ARENA_LEAST_BYTES, &s->a), 0);
  (void)new_block(&s->a, 64); /* stays */
  for (int i = 0; i < 3; i++) {
    s->old[i] = new_block(&s->a, old_bytes[i]);
    memset(lvri_at(&s->a, s->old[i]), 0x40 + i, old_bytes[i]);
  }
  s->blocks = blocks(&s->a);
}

/* Two blocks come, three go, in one critical section: the small one makes a slab. */
static void change_blocks(void *state) {
  struct heap_state *s = state;
  lvri_off off;
  enter(&s->a);
  CHECK_INT(lvri_heap_alloc_locked(&s->a, 300, KIND, &off), 0);
  memset(lvri_at(&s->a, off), 0xdd, 300);
  for (int i = 0; i < 3; i++)
    lvri_heap_free_locked(&s->a, s->old[i]);
  CHECK_INT(lvri_heap_alloc_locked(&s->a, 70000, KIND, &off), 0);
  memset(lvri_at(&s->a, off), 0xdd, 70000);
  leave(&s->a);
}

/* One block that only growth has room for. */
static void grow(void *state) {
  struct heap_state *s = state;
  lvri_off off = new_block(&s->a, 2 << 20);
  memset(lvri_at(&s->a, off), 0xdd, 2 << 20);
}

/* The same, but its memory comes behind the commit. */
static void grow_bare(void *state) {
  struct heap_state *s = state;
  lvri_off off = new_bare(&s->a, 2 << 20);
  CHECK_INT(lvri_heap_fill(&s->a, off, true), 0);
  memset(lvri_at(&s->a, off), 0xdd, 2 << 20);
}

/* Runs that are warm and that do not all stay so: one is cut, others push it out,
 * all are squeezed. */
static void warm_up(void *state) {
  struct heap_state *s = state;
  setup(state);
  lvri_off off = new_block(&s->a, 5 * LVRI_PAGE_BYTES);
  memset(lvri_at(&s->a, off), 0xdd, 5 * LVRI_PAGE_BYTES);
  free_block(&s->a, off);
}

static void use_warm(void *state) {
  struct heap_state *s = state;
  lvri_off off = new_bare(&s->a, 4 * LVRI_PAGE_BYTES), other;
  CHECK_INT(lvri_heap_fill(&s->a, off, false), 0);
  memset(lvri_at(&s->a, off), 0xdd, 4 * LVRI_PAGE_BYTES);
  enter(&s->a);
  lvri_heap_free_locked(&s->a, off);
  CHECK_INT(lvri_heap_alloc_locked(&s->a, 6 * LVRI_PAGE_BYTES, KIND, &other), 0);
  leave(&s->a);
  free_block(&s->a, other);
  CHECK(lvri_heap_squeeze(&s->a));
}

static void repair(void *state) {
  struct heap_state *s = state;
  enter(&s->a);
  leave(&s->a);
}

static void old_ones_are_there(struct heap_state *s) {
  for (int i = 0; i < 3; i++) {
    const unsigned char *p = lvri_at(&s->a, s->old[i]);
    CHECK(lvri_heap_is_block(&s->a, s->old[i]));
    CHECK(p[0] == 0x40 + i && memcmp(p, p + 1, old_bytes[i] - 1) == 0);
  }
}

static void fill_the_rest(struct heap_state *s) {
  lvri_off off = 0;
  int error;
  do {
    enter(&s->a);
    error = lvri_heap_alloc_locked(&s->a, 50000, KIND, &off);
    leave(&s->a);
    CHECK(error || is_zero(lvri_at(&s->a, off), 50000));
  } while (!error);
}

static void check_changed(void *state, bool done) {
  struct heap_state *s = state;
  check_heap(&s->a);
  CHECK(blocks(&s->a) == s->blocks - 1 || (!done && blocks(&s->a) == s->blocks));
  if (blocks(&s->a) == s->blocks) old_ones_are_there(s);
  for (int i = 0; i < 3; i++)
    if (blocks(&s->a) != s->blocks) CHECK(!lvri_heap_is_block(&s->a, s->old[i]));
  CHECK_INT(lvri_arena_header(&s->a)->ah_heap.hp_dirty, 0);
  fill_the_rest(s);
  check_heap(&s->a);
}

static void check_grown(void *state, bool done) {
  struct heap_state *s = state;
  check_heap(&s->a);
  CHECK(blocks(&s->a) == s->blocks + 1 || (!done && blocks(&s->a) == s->blocks));
  old_ones_are_there(s);
  fill_the_rest(s);
  check_heap(&s->a);
}

static void check_warm(void *state, bool done) {
  struct heap_state *s = state;
  (void)done;
  check_heap(&s->a);
  CHECK(blocks(&s->a) == s->blocks || blocks(&s->a) == s->blocks + 1);
  old_ones_are_there(s);
  fill_the_rest(s);
  check_heap(&s->a);
}

static void teardown(void *state) { lvri_arena_fini(&((struct heap_state *)state)->a); }

static const struct crash_scenario changing = {
    "heap.change", sizeof(struct heap_state), setup, change_blocks, repair, check_changed,
    teardown};
static const struct crash_scenario growing = {
    "heap.grow", sizeof(struct heap_state), setup, grow, repair, check_grown, teardown};

static const struct crash_scenario growing_bare = {
    "heap.grow_bare", sizeof(struct heap_state), setup, grow_bare, repair, check_grown, teardown};

static const struct crash_scenario using_warm = {
    "heap.warm", sizeof(struct heap_state), warm_up, use_warm, repair, check_warm, teardown};

TEST_WITHIN(a_death_leaves_the_heap_whole, 60) {
  crash_run(&changing);
  crash_run(&growing);
  crash_run(&growing_bare);
  crash_run(&using_warm);
  CHECK_INT(crash_unvisited("heap.") + crash_unvisited("arena."), 0);
}

TEST_WITHIN(a_repairers_death_too, 120) {
  crash_run_repairer(&changing, 13);
  crash_run_repairer(&growing, 13);
  crash_run_repairer(&using_warm, 13);
}

/* --- the checker can say no ------------------------------------------------------------------- */

static void expect_unclean(struct lvri_arena *a, uint32_t *field, uint32_t wrong) {
  uint32_t right = *field;
  *field = wrong;
  CHECK_INT(lvri_heap_valid(a), -EUCLEAN);
  *field = right;
  CHECK_INT(lvri_heap_valid(a), 0);
}

TEST(damage_is_seen) {
  struct lvri_arena a;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  lvri_off small = new_block(&a, 64), large = new_block(&a, 100000);
  lvri_off freed = new_block(&a, 300000);
  free_block(&a, freed);
  struct lvri_heap_shm *heap = &lvri_arena_header(&a)->ah_heap;
  struct lvri_page *tepid = lvri_heap_page(&a, (uint32_t)(freed >> LVRI_PAGE_SHIFT));
  struct lvri_page *slab = lvri_heap_page(&a, (uint32_t)(small >> LVRI_PAGE_SHIFT));
  struct lvri_page *run = lvri_heap_page(&a, (uint32_t)(large >> LVRI_PAGE_SHIFT));
  struct lvri_page *rest = tepid + tepid->pg_run;
  CHECK_INT(rest->pg_state, LVRI_PAGE_FREE);
  enter(&a);
  expect_unclean(&a, &slab->pg_used, 2);
  expect_unclean(&a, &slab->pg_class, 1);
  expect_unclean(&a, &slab->pg_class, 77);
  expect_unclean(&a, &slab->pg_next, (uint32_t)(small >> LVRI_PAGE_SHIFT)); /* a cycle */
  expect_unclean(&a, &slab->pg_prev, 5);
  expect_unclean(&a, &slab->pg_state, LVRI_PAGE_BODY);
  expect_unclean(&a, &run->pg_run, 1);
  expect_unclean(&a, &run->pg_run, 0);
  expect_unclean(&a, &run->pg_run, UINT32_MAX);
  expect_unclean(&a, &run->pg_kind, LVRI_KIND_MAX + 1);
  expect_unclean(&a, &rest->pg_next, (uint32_t)(rest - lvri_heap_page(&a, 0)));
  expect_unclean(&a, &heap->hp_partial[0], 0);
  expect_unclean(&a, &heap->hp_partial[3], UINT32_MAX);
  expect_unclean(&a, &heap->hp_dirty, (uint32_t)(large >> LVRI_PAGE_SHIFT));
  expect_unclean(&a, &heap->hp_warm, 0);
  expect_unclean(&a, &heap->hp_warm_last, 0);
  expect_unclean(&a, (uint32_t *)&heap->hp_warm_pages, 4);
  expect_unclean(&a, &tepid->pg_next, (uint32_t)(freed >> LVRI_PAGE_SHIFT));
  expect_unclean(&a, &tepid->pg_state, LVRI_PAGE_DIRTY);
  expect_unclean(&a, &heap->hp_pages, heap->hp_pages - 1);
  expect_unclean(&a, &heap->hp_pages, heap->hp_first - 1);
  leave(&a);
  lvri_arena_fini(&a);
}

/* --- many ------------------------------------------------------------------------------------- */

static void churn(void *state) {
  struct lvri_arena *a = state;
  lvri_off offs[16] = {0};
  uint32_t seed = (uint32_t)lvri_os_tid();
  for (int i = 0; i < 3000; i++) {
    lvri_off *off = &offs[next_random(&seed) % 16];
    if (*off) free_block(a, *off);
    *off = *off ? 0 : new_block(a, random_size(&seed) % 100000 + 1);
  }
  for (int i = 0; i < 16; i++)
    if (offs[i]) free_block(a, offs[i]);
}

TEST(threads_share_the_heap) {
  struct lvri_arena a;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  test_threads(4, churn, &a);
  check_heap(&a);
  CHECK_INT(blocks(&a), 0);
  lvri_arena_fini(&a);
}

TEST(processes_share_the_heap) {
  struct lvri_arena a;
  pid_t pids[4];
  CHECK_INT(lvri_arena_create(0, &a), 0);
  for (int i = 0; i < 4; i++)
    pids[i] = test_fork(churn, &a);
  for (int i = 0; i < 4; i++)
    CHECK_INT(test_join(pids[i]), 0);
  check_heap(&a);
  CHECK_INT(blocks(&a), 0);
  lvri_arena_fini(&a);
}
