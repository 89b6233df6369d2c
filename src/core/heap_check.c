/* heap_check.c - walks the heap and compares: what always holds, checked.
 *
 *   - The pages from hp_first to hp_pages are covered by runs, without gap or overlap.
 *   - A free run is in the bin of its length, once; its neighbours are not free.
 *   - A slab is in the list of its size, once, exactly if it has a free block.
 *   - A freed run that is dirty or warm is in the list of those, once; hp_warm_pages is the sum
 *     over the warm ones, hp_warm_last the last of their list.
 *   - pg_used is the number of bits not set; hp_blocks and hp_bytes are the sums over all. */
#include <errno.h>

#include "base/atomic.h"
#include "core/arena.h"
#include "core/heap.h"
#include "core/heap_inner.h"

struct sums {
  uint64_t blocks;
  uint64_t bytes;
  uint64_t warm_pages;
  uint32_t listed[LVRI_PAGE_BLOCK + 1]; /* runs that must be in a list, by state */
};

static bool slab_is_sound(struct lvri_arena *a, uint32_t number, struct sums *sums) {
  const struct lvri_page *page = lvri_heap_page(a, number);
  const struct lvri_slab *slab = lvri_at(a, (lvri_off)number << LVRI_PAGE_SHIFT);
  if (page->pg_class >= LVRI_HEAP_CLASSES || page->pg_run != 1) return false;
  uint32_t blocks = lvri_heap_blocks_in(page->pg_class), free_blocks = 0;
  for (uint32_t word = 0; word < 16; word++) {
    uint64_t bits = slab->sb_free[word];
    free_blocks += (uint32_t)__builtin_popcountll(bits);
    if (word * 64 >= blocks ? bits != 0 : word * 64 + 64 > blocks && bits >> blocks % 64 != 0)
      return false;
  }
  if (page->pg_used + free_blocks != blocks) return false;
  sums->blocks += page->pg_used;
  sums->bytes += (uint64_t)page->pg_used * lvri_heap_class_bytes(page->pg_class);
  sums->listed[LVRI_PAGE_SLAB] += free_blocks > 0;
  return true;
}

static bool free_run_is_sound(struct lvri_arena *a, uint32_t number, bool after_free) {
  const struct lvri_page *head = lvri_heap_page(a, number);
  const struct lvri_page *tail = lvri_heap_page(a, number + head->pg_run - 1);
  return !after_free && tail->pg_state == LVRI_PAGE_FREE && tail->pg_run == head->pg_run;
}

static bool run_is_sound(struct lvri_arena *a, uint32_t number, bool after_free,
                         struct sums *sums) {
  const struct lvri_page *page = lvri_heap_page(a, number);
  uint32_t left = lvri_arena_header(a)->ah_heap.hp_pages - number;
  if (page->pg_run == 0 || page->pg_run > left) return false;
  if (page->pg_run > 1 && page->pg_state != LVRI_PAGE_FREE &&
      lvri_heap_page(a, number + page->pg_run - 1)->pg_state != LVRI_PAGE_BODY)
    return false;
  switch (page->pg_state) {
    case LVRI_PAGE_SLAB:
      return slab_is_sound(a, number, sums);
    case LVRI_PAGE_FREE:
      sums->listed[LVRI_PAGE_FREE]++;
      return free_run_is_sound(a, number, after_free);
    case LVRI_PAGE_DIRTY:
      sums->listed[LVRI_PAGE_DIRTY]++;
      return true;
    case LVRI_PAGE_WARM:
      sums->listed[LVRI_PAGE_WARM]++;
      sums->warm_pages += page->pg_run;
      return true;
    case LVRI_PAGE_BLOCK:
      sums->blocks++;
      sums->bytes += (uint64_t)page->pg_run << LVRI_PAGE_SHIFT;
      return page->pg_kind <= LVRI_KIND_MAX;
    default:
      return false;
  }
}

static bool runs_are_sound(struct lvri_arena *a, struct sums *sums) {
  const struct lvri_heap_shm *heap = &lvri_arena_header(a)->ah_heap;
  bool after_free = false;
  uint32_t number = heap->hp_first;
  while (number < heap->hp_pages) {
    if (!run_is_sound(a, number, after_free, sums)) return false;
    after_free = lvri_heap_page(a, number)->pg_state == LVRI_PAGE_FREE;
    number += lvri_heap_page(a, number)->pg_run;
  }
  return number == heap->hp_pages;
}

/* What every member of one list must be. */
struct membership {
  uint32_t state;
  uint32_t run_least;
  uint32_t run_most;
  uint32_t class; /* of slabs */
};

static bool belongs(const struct lvri_page *page, const struct membership *m) {
  if (page->pg_state != m->state || page->pg_run < m->run_least || page->pg_run > m->run_most)
    return false;
  return m->state != LVRI_PAGE_SLAB ||
         (page->pg_class == m->class && page->pg_used < lvri_heap_blocks_in(m->class));
}

/* Takes the members from *listed, so that a list with a cycle runs out of them. */
static bool list_is_sound(struct lvri_arena *a, uint32_t head, const struct membership *m,
                          uint32_t *listed) {
  const struct lvri_heap_shm *heap = &lvri_arena_header(a)->ah_heap;
  uint32_t before = 0;
  for (uint32_t number = head; number; number = lvri_heap_page(a, number)->pg_next) {
    if (number < heap->hp_first || number >= heap->hp_pages || *listed == 0) return false;
    const struct lvri_page *page = lvri_heap_page(a, number);
    if (!belongs(page, m) || page->pg_prev != before) return false;
    before = number;
    (*listed)--;
  }
  return true;
}

/* Of a list that is sound. */
static bool last_is_sound(struct lvri_arena *a) {
  const struct lvri_heap_shm *heap = &lvri_arena_header(a)->ah_heap;
  uint32_t last = heap->hp_warm;
  if (!last) return true;
  while (lvri_heap_page(a, last)->pg_next)
    last = lvri_heap_page(a, last)->pg_next;
  return last == heap->hp_warm_last;
}

static bool lists_are_sound(struct lvri_arena *a, struct sums *sums) {
  const struct lvri_heap_shm *heap = &lvri_arena_header(a)->ah_heap;
  for (uint32_t bin = 0; bin < LVRI_HEAP_BINS; bin++) {
    uint32_t most = bin + 1 == LVRI_HEAP_BINS ? UINT32_MAX : (2U << bin) - 1;
    struct membership m = {LVRI_PAGE_FREE, 1U << bin, most, 0};
    if (!list_is_sound(a, heap->hp_bins[bin], &m, &sums->listed[m.state])) return false;
  }
  for (uint32_t class = 0; class < LVRI_HEAP_CLASSES; class ++) {
    struct membership m = {LVRI_PAGE_SLAB, 1, 1, class};
    if (!list_is_sound(a, heap->hp_partial[class], &m, &sums->listed[m.state])) return false;
  }
  struct membership dirty = {LVRI_PAGE_DIRTY, 1, UINT32_MAX, 0};
  struct membership warm = {LVRI_PAGE_WARM, 1, LVRI_HEAP_WARM_MAX, 0};
  return list_is_sound(a, heap->hp_dirty, &dirty, &sums->listed[dirty.state]) &&
         list_is_sound(a, heap->hp_warm, &warm, &sums->listed[warm.state]) && last_is_sound(a);
}

int lvri_heap_valid(struct lvri_arena *a) {
  const struct lvri_heap_shm *heap = &lvri_arena_header(a)->ah_heap;
  struct sums sums = {0};
  if (heap->hp_pages < heap->hp_first) return -EUCLEAN;
  if (!lvri_arena_contains(a, 1, ((uint64_t)heap->hp_pages << LVRI_PAGE_SHIFT) - 1))
    return -EUCLEAN;
  if (!runs_are_sound(a, &sums) || !lists_are_sound(a, &sums)) return -EUCLEAN;
  if (sums.listed[LVRI_PAGE_FREE] || sums.listed[LVRI_PAGE_SLAB] || sums.listed[LVRI_PAGE_DIRTY] ||
      sums.listed[LVRI_PAGE_WARM])
    return -EUCLEAN; /* not in the list where it belongs */
  if (sums.warm_pages != lvri_load_relaxed_u32(&heap->hp_warm_pages)) return -EUCLEAN;
  return sums.blocks == lvri_load_relaxed_u64(&heap->hp_blocks) &&
                 sums.bytes == lvri_load_relaxed_u64(&heap->hp_bytes)
             ? 0
             : -EUCLEAN;
}

/* --- a walk for others ------------------------------------------------------------------------ */

static void each_in_slab(struct lvri_arena *a, uint32_t number,
                         void (*visit)(void *, lvri_off, size_t, uint32_t), void *context) {
  const struct lvri_slab *slab = lvri_at(a, (lvri_off)number << LVRI_PAGE_SHIFT);
  uint32_t class = lvri_heap_page(a, number)->pg_class;
  for (uint32_t i = 0; i < lvri_heap_blocks_in(class); i++)
    if (!(slab->sb_free[i / 64] >> i % 64 & 1))
      visit(context, lvri_heap_block_off(number, class, i), lvri_heap_class_bytes(class),
            slab->sb_kind[i]);
}

void lvri_heap_each(struct lvri_arena *a,
                    void (*visit)(void *context, lvri_off off, size_t bytes, uint32_t kind),
                    void *context) {
  const struct lvri_heap_shm *heap = &lvri_arena_header(a)->ah_heap;
  for (uint32_t number = heap->hp_first; number < heap->hp_pages;) {
    const struct lvri_page *page = lvri_heap_page(a, number);
    uint32_t run = page->pg_run;
    if (page->pg_state == LVRI_PAGE_SLAB) each_in_slab(a, number, visit, context);
    if (page->pg_state == LVRI_PAGE_BLOCK)
      visit(context, (lvri_off)number << LVRI_PAGE_SHIFT, (size_t)run << LVRI_PAGE_SHIFT,
            page->pg_kind);
    number += run;
  }
}
