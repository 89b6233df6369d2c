/* heap.h - blocks in the arena.
 *
 * The arena behind its header is cut into pages of 64 KiB. Small blocks lie in slabs: one page of
 * blocks of one size, with a bitmap of the free ones at its start. Larger blocks are runs of whole
 * pages. Memory is taken from the kernel when a slab or a run is handed out (so that want of it is
 * -ENOMEM here and never SIGBUS later). Of what is freed, some stays warm: it keeps its memory for
 * the next one who wants a run as long. The rest is given back.
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
#define LVRI_HEAP_CLASSES   18U    /* sizes of small blocks: 64 ... LVRI_HEAP_SMALL_MAX */
#define LVRI_HEAP_SMALL_MAX 32192U /* two to a slab */
#define LVRI_HEAP_BINS      21U    /* free runs of 1, 2-3, 4-7, ... pages */
#define LVRI_HEAP_RECORDS   48U    /* most words that one call here changes */
#define LVRI_HEAP_WARM_MAX  1024U  /* pages that are freed and keep their memory, all together */
#define LVRI_KIND_MAX       255U

/* Heap state in the arena's header. All fields: by the owner of the arena's guard, logged. Runs and
 * slabs are named by their first page's number; 0 is none, for page 0 is the header's.
 *   hp_table       where the page table lies: from page 1 on, a row for each page there may be
 *   hp_pages       pages in use by header, page table and heap; what lies behind is not touched
 *   hp_first       the first page that can be handed out
 *   hp_partial     per size: first slab with a free block
 *   hp_bins        per power of two: first free run of that many pages, and up to twice as many
 *   hp_dirty       first run that is freed and not dealt with yet: read at each commit
 *   hp_warm, hp_warm_last, hp_warm_pages    freed runs that keep their memory for the next
 *                  who wants one: the youngest, the oldest, and the pages of all
 *   hp_blocks, hp_bytes   blocks handed out, and what they hold; may be read at any time */
struct lvri_heap_shm {
  uint64_t hp_table;
  uint32_t hp_pages;
  uint32_t hp_first;
  _Atomic uint64_t hp_blocks;
  _Atomic uint64_t hp_bytes;
  uint32_t hp_dirty;
  uint32_t hp_warm;
  uint32_t hp_warm_last;
  _Atomic uint32_t hp_warm_pages;
  uint32_t hp_partial[LVRI_HEAP_CLASSES];
  uint32_t hp_bins[LVRI_HEAP_BINS];
  uint32_t hp_reserved;
};
_Static_assert(sizeof(struct lvri_heap_shm) == 208, "layout");

/* What the first page of a run is. The last page of a free run is FREE as well, that of any other
 * BODY; a page between them may have any state but SLAB and BLOCK. */
enum lvri_page_state {
  LVRI_PAGE_BODY,
  LVRI_PAGE_FREE,  /* in a bin; no neighbour of it is FREE */
  LVRI_PAGE_DIRTY, /* freed, to be trimmed; in the list of those */
  LVRI_PAGE_WARM,  /* freed, keeps its memory; in the list of those */
  LVRI_PAGE_SLAB,  /* one page of small blocks */
  LVRI_PAGE_BLOCK, /* a large block */
};

/* One row of the page table. All fields: by the owner of the arena's guard, logged.
 *   pg_state, pg_run   of the run that starts here; pg_run also at the last page of a free run
 *   pg_next, pg_prev   neighbours in the list that the run is in; 0 at its ends
 *   pg_kind            of a large block
 *   pg_class           of a slab: which size
 *   pg_used            of a slab: blocks handed out, all but those in sb_free
 *   pg_filled          1: the run that starts here has all of its memory. Of a block by who fills
 *                      it, of all others by the guard's owner. Set behind the last of it, logged in
 *                      a transaction, for a rollback may make the run longer; cleared before the
 *                      first of it goes, and not logged, for memory knows no rollback. Of a free
 *                      run it says nothing */
struct lvri_page {
  uint32_t pg_state;
  uint32_t pg_run;
  uint32_t pg_next;
  uint32_t pg_prev;
  uint32_t pg_kind;
  uint32_t pg_class;
  uint32_t pg_used;
  _Atomic uint32_t pg_filled;
};
_Static_assert(sizeof(struct lvri_page) == 32, "layout");

/* The start of a slab; its blocks follow.
 *   sb_free    a set bit for each free block; by the owner of the arena's guard, logged
 *   sb_kind    kind of each block; by the same, not logged: it says nothing about a free
 *              block, and is written before the block's bit is cleared */
struct lvri_slab {
  uint64_t sb_free[16];
  uint8_t sb_kind[1024];
};
_Static_assert(sizeof(struct lvri_slab) % 64 == 0, "blocks are aligned");

/* Makes the heap in a new arena; nobody else can see it yet. */
int lvri_heap_init(struct lvri_arena *a);

/* A block of at least `bytes` (from 1), 64-byte aligned (page aligned if larger than
 * LVRI_HEAP_SMALL_MAX), zeroed. kind (at most LVRI_KIND_MAX) is the caller's.
 * 0; -ENOMEM: the heap is as it was, and what else was done in this critical section stands. */
int lvri_heap_alloc_locked(struct lvri_arena *a, size_t bytes, uint32_t kind, lvri_off *ret_off);

/* The same in haste, for who sees to the contents himself: it holds anything, and a block larger
 * than LVRI_HEAP_SMALL_MAX may have no memory until lvri_heap_fill() is through: not to be
 * touched before. */
int lvri_heap_alloc_bare_locked(struct lvri_arena *a, size_t bytes, uint32_t kind,
                                lvri_off *ret_off);

/* Outside of the guard: memory for a large block, unless it was warm. The caller is the only one
 * who uses it, and his ledger has it. It holds zeros or anything. 0; -ENOMEM: the
 * block is to be freed. */
int lvri_heap_fill(struct lvri_arena *a, lvri_off off, bool zeros);

/* Gives a block back. Its bytes stay as they are until the guard is left. */
void lvri_heap_free_locked(struct lvri_arena *a, lvri_off off);

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

/* Makes freed runs warm, or gives their memory back to the kernel, 16 MiB at most: then the rest is
 * for the next one who leaves. In the guard, with an empty journal: each commit calls it while
 * hp_dirty says so, for what is freed may be wanted again until then. */
void lvri_heap_trim_locked(struct lvri_arena *a);

/* Outside of the guard: trims until nothing is left of that. A load if nothing is. */
void lvri_heap_settle(struct lvri_arena *a);

/* Outside of the guard: gives the memory of warm runs back. Whether there were any: who was told
 * -ENOMEM may try again. */
bool lvri_heap_squeeze(struct lvri_arena *a);

/* What warm runs hold; without the guard a guess. */
uint64_t lvri_heap_warm_bytes(const struct lvri_arena *a);

/* In the guard, walks everything: pages are covered once each, lists are whole and without
 * cycles, counts agree with bitmaps. 0, -EUCLEAN. */
int lvri_heap_valid(struct lvri_arena *a);

#endif
