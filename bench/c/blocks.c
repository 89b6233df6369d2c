/* blocks.c - what blocks and views cost, beside the copy of their bytes.
 *
 *     build/bench/c/bench_blocks
 *
 * Medians of rounds, in microseconds for each block. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "core/block.h"
#include "core/heap.h"
#include "os/os.h"

enum { ROUNDS = 25 };

static lvr_session *session;
static unsigned char *source;
static volatile unsigned sum; /* so that reads are not left out */

static void expect(int error) {
  if (error == 0) return;
  (void)fprintf(stderr, "error %d\n", error);
  exit(1);
}

static long faults(void) {
  struct rusage usage;
  (void)getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

/* --- what is measured ------------------------------------------------------------------------ */

static void copy_only(size_t bytes) {
  static unsigned char *target;
  if (!target) target = malloc((size_t)16 << 20);
  memcpy(target, source, bytes);
}

static lvr_block *new_block(size_t bytes, uint32_t flags) {
  lvr_block *b;
  expect(lvr_block_create(session, bytes, flags, &b));
  return b;
}

static void create_only(size_t bytes) { lvr_block_detach(new_block(bytes, LVR_BLOCK_PAGED)); }

static void create_zeroed(size_t bytes) {
  lvr_block_detach(new_block(bytes, LVR_BLOCK_PAGED | LVR_BLOCK_ZEROED));
}

static void create_and_fill(size_t bytes) {
  lvr_block *b = new_block(bytes, LVR_BLOCK_PAGED);
  memcpy(lvr_block_data(b), source, bytes);
  lvr_block_detach(b);
}

/* The kernel clears it, maps it, and takes it back. */
static void create_and_fill_cold(size_t bytes) {
  create_and_fill(bytes);
  (void)lvri_heap_squeeze(&session->arena);
}

/* Memory that is there, but not zeros: given back and taken anew. */
static void clear_by_punching(size_t bytes) {
  lvr_block *b = new_block(bytes, LVR_BLOCK_PAGED);
  lvri_off off = (lvri_off)((unsigned char *)lvr_block_data(b) - session->arena.base);
  expect(lvri_os_shm_punch(session->arena.fd, off, bytes));
  expect(lvri_os_shm_commit(session->arena.fd, off, off + bytes));
  lvr_block_detach(b);
}

static void carry_one(size_t bytes) {
  static lvr_block *what;
  lvr_ref ref;
  if (!what) what = new_block(1, 0);
  lvr_block *b = new_block(bytes, 0);
  lvr_block_ref(what, &ref);
  expect(lvr_block_carry(b, &ref));
  lvr_block_detach(b);
}

static void small_one(size_t bytes) { lvr_block_detach(new_block(bytes, 0)); }

/* One block, viewed again and again by who has got it. */
static lvr_block *shown;

static unsigned char *view(size_t bytes, bool prefault) {
  lvri_off off = (lvri_off)((unsigned char *)lvr_block_data(shown) - session->arena.base);
  void *base;
  expect(lvri_os_shm_view(session->arena.fd, off, bytes, &base));
  if (prefault) (void)madvise(base, bytes, MADV_POPULATE_READ);
  return base;
}

static void read_all(const unsigned char *from, size_t bytes) {
  uint64_t total = 0, word;
  for (size_t at = 0; at + sizeof(word) <= bytes; at += sizeof(word)) {
    memcpy(&word, from + at, sizeof(word));
    total += word;
  }
  sum += (unsigned)total;
}

static void read_only(size_t bytes) { read_all(lvr_block_data(shown), bytes); }

static void view_and_read(size_t bytes, bool prefault) {
  unsigned char *base = view(bytes, prefault);
  read_all(base, bytes);
  lvri_os_shm_unmap(base, bytes);
}

static void view_prefaulted(size_t bytes) { view_and_read(bytes, true); }
static void view_unfaulted(size_t bytes) { view_and_read(bytes, false); }

static void view_and_write(size_t bytes, bool prefault) {
  unsigned char *base = view(bytes, prefault);
  memset(base, 1, bytes);
  lvri_os_shm_unmap(base, bytes);
}

static void write_prefaulted(size_t bytes) { view_and_write(bytes, true); }
static void write_unfaulted(size_t bytes) { view_and_write(bytes, false); }

static void view_untouched(size_t bytes) { lvri_os_shm_unmap(view(bytes, false), bytes); }

static void copy_out(size_t bytes) {
  unsigned char *base =
      mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  expect(base == MAP_FAILED);
  memcpy(base, lvr_block_data(shown), bytes);
  read_all(base, bytes);
  (void)munmap(base, bytes);
}

/* --- measuring ------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void measure(const char *name, size_t bytes, void (*body)(size_t bytes)) {
  double took[ROUNDS];
  unsigned units = (unsigned)(((size_t)8 << 20) / (bytes + 100000)) + 1;
  body(bytes);
  long before = faults();
  for (int round = 0; round < ROUNDS; round++) {
    int64_t begin = lvri_os_now_ns();
    for (unsigned i = 0; i < units; i++)
      body(bytes);
    took[round] = (double)(lvri_os_now_ns() - begin) / units / 1000;
  }
  long per = (faults() - before) / ((long)units * ROUNDS);
  qsort(took, ROUNDS, sizeof(took[0]), by_size);
  (void)printf("%-34s %8zu KiB %10.2f us (fastest %.2f), %ld faults\n", name, bytes >> 10,
               took[ROUNDS / 2], took[0], per);
}

static void measure_large(size_t bytes) {
  measure("copy alone", bytes, copy_only);
  measure("create, detach", bytes, create_only);
  measure("create, copy, detach", bytes, create_and_fill);
  measure("create, copy, detach, squeeze", bytes, create_and_fill_cold);
  measure("create zeroed, detach", bytes, create_zeroed);
  measure("create, punch, take, detach", bytes, clear_by_punching);
  shown = new_block(bytes, LVR_BLOCK_PAGED);
  memcpy(lvr_block_data(shown), source, bytes);
  measure("read alone", bytes, read_only);
  measure("view, unmap", bytes, view_untouched);
  measure("view, populate, read", bytes, view_prefaulted);
  measure("view, read", bytes, view_unfaulted);
  measure("view, populate, write", bytes, write_prefaulted);
  measure("view, write", bytes, write_unfaulted);
  measure("copy to fresh memory, read", bytes, copy_out);
  lvr_block_detach(shown);
}

int main(void) {
  source = malloc((size_t)16 << 20);
  if (!source) return 1;
  memset(source, 7, (size_t)16 << 20);
  expect(lvr_session_create(NULL, &session));
  measure("create, detach", 100, small_one);
  measure("create, detach", 4000, small_one);
  measure("create, detach", 32000, small_one);
  measure("create, carry one, detach", 100, carry_one);
  measure_large((size_t)64 << 10);
  measure_large((size_t)1 << 20);
  measure_large((size_t)8 << 20);
  return 0;
}
