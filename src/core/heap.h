/* heap.h - blocks in the arena.
 *
 * The arena behind its header is cut into pages of 64 KiB. Small blocks lie in slabs: one page of
 * blocks of one size, with a bitmap of the free ones at its start. Larger blocks are runs of whole
 * pages. Memory is taken from the kernel when a slab or a run is handed out (so that want of it is
 * -ENOMEM here and never SIGBUS later) and given back when it is freed.
 *
 * Callers hold the arena's guard, which logs every change: a block allocated or freed in a critical
 * section that is not committed was never allocated, or never freed. */
#ifndef LVRI_CORE_HEAP_H
#define LVRI_CORE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/off.h"

struct lvri_arena;

#define LVRI_PAGE_SHIFT     16U
#define LVRI_PAGE_BYTES     (UINT64_C(1) << LVRI_PAGE_SHIFT)
#define LVRI_HEAP_CLASSES   14U   /* sizes of small blocks: 64 ... 8192 */
#define LVRI_HEAP_BINS      21U   /* free runs of 1, 2-3, 4-7, ... pages */
#define LVRI_HEAP_SMALL_MAX 8128U /* the largest small block: eight to a page */
#define LVRI_KIND_MAX       255U

/* Heap state in the arena's header. Everything: by the owner of the arena's guard, logged.
 * Page numbers; 0 is none, for page 0 is the header's.
 *   hp_pages       pages in the arena, header and page table included
 *   hp_first       the first page that can be handed out
 *   hp_table       where the page table lies
 *   hp_partial     per size: first slab with a free block; linked through the page table
 *   hp_bins        per power of two: first free run
 *   hp_dirty       first of the free runs whose memory is not given back yet
 *   hp_blocks, hp_bytes   blocks handed out, and their bytes; read at any time, for statistics */
struct lvri_heap_shm {
  uint64_t hp_table;
  uint32_t hp_pages;
  uint32_t hp_first;
  _Atomic uint64_t hp_blocks;
  _Atomic uint64_t hp_bytes;
  uint32_t hp_partial[LVRI_HEAP_CLASSES];
  uint32_t hp_bins[LVRI_HEAP_BINS];
  uint32_t hp_dirty;
};

/* What a page is. */
enum lvri_page_state {
  LVRI_PAGE_FREE,  /* head and tail of a free run; inside of one anything but a head of a block */
  LVRI_PAGE_SLAB,  /* small blocks of one size */
  LVRI_PAGE_BLOCK, /* head of a run that is one block */
  LVRI_PAGE_BODY,  /* its last page, if it has more than one; inside of it anything but a head */
};

/* One row of the page table. Everything: by the owner of the arena's guard, logged.
 *   pg_state   as above
 *   pg_run     length of the run in pages: in head and tail of a free one, in the head of a block
 *   pg_next, pg_prev   neighbours in the list that it is in: of free runs of about this length, or of
 *              slabs of this size with a free block; 0 at the ends
 *   pg_kind    of a block
 *   pg_size    slab: number of its size class; free run: 1 while its memory is not given back
 *   pg_used    slab: blocks handed out; pg_used == blocks - bits set in sb_free */
struct lvri_page {
  uint32_t pg_state;
  uint32_t pg_run;
  uint32_t pg_next;
  uint32_t pg_prev;
  uint32_t pg_kind;
  uint32_t pg_size;
  uint32_t pg_used;
  uint32_t pg_dirty_next;
};
_Static_assert(sizeof(struct lvri_page) == 32, "layout");

/* The start of a slab; its blocks follow at the next multiple of 64.
 *   sb_free    a set bit for each free block; by the owner of the arena's guard, logged
 *   sb_kind    kind of each block; by the same, not logged: it means something only for a
 *              block that is handed out, and is written before the block is published */
struct lvri_slab {
  uint64_t sb_free[16];
  uint8_t sb_kind[1024];
};

/* Makes the heap in a new arena; nobody else can see it yet. */
int lvri_heap_init(struct lvri_arena *a);

/* A block of at least `bytes` (from 1), 64-byte aligned (page aligned above LVRI_HEAP_SMALL_MAX), zeroed.
 * kind (at most LVRI_KIND_MAX) is the caller's. 0; -ENOMEM: the heap is as it was. Changes at
 * most LVRI_HEAP_RECORDS words. */
int lvri_heap_alloc_locked(struct lvri_arena *a, size_t bytes, uint32_t kind, lvri_off *ret_off);

/* Gives a block back. Its bytes stay as they are until the guard is left. */
void lvri_heap_free_locked(struct lvri_arena *a, lvri_off off);

#define LVRI_HEAP_RECORDS 48U

/* Of a block: how much it holds (at least what was asked for), and its kind. */
size_t lvri_heap_size(struct lvri_arena *a, lvri_off off);
uint32_t lvri_heap_kind(struct lvri_arena *a, lvri_off off);

/* Whether a block starts at off. Any off may be asked about; without the guard the answer is a
 * guess unless the caller knows otherwise that nobody frees it. */
bool lvri_heap_is_block(struct lvri_arena *a, lvri_off off);

/* Calls visit for each block, lowest first; in the guard. */
void lvri_heap_each(struct lvri_arena *a,
                    void (*visit)(void *context, lvri_off off, size_t bytes, uint32_t kind),
                    void *context);

/* Gives freed memory back to the kernel; called when the arena's guard is left. */
void lvri_heap_trim_locked(struct lvri_arena *a);

/* In the guard, walks everything: pages are covered once each, lists are whole and without
 * cycles, counts agree with bitmaps. 0, -EUCLEAN. */
int lvri_heap_valid(struct lvri_arena *a);

#endif
