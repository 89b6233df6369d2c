#include "core/heap.h"

#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "base/atomic.h"
#include "base/crashpoint.h"
#include "core/arena.h"
#include "core/guard.h"
#include "core/heap_inner.h"
#include "os/os.h"

#define GROW_LEAST_PAGES 16U
#define GROW_MOST_PAGES  4096U
#define BIN_WALK         32   /* runs of about that length, looked at before a longer one is cut */
#define WARM_WALK        32   /* the youngest warm runs, which are looked at for one that fits */
#define WARM_SHARE       8U   /* of a small arena's pages at most one in so many is warm */
#define TRIM_MOST_PAGES  256U /* 16 MiB: what the guard is held for */
#define WORD_BITS        64U
#define SLAB_ROOM        ((uint32_t)(LVRI_PAGE_BYTES - sizeof(struct lvri_slab)))

/* Multiples of 64; each but the first few as large as its number to a slab allows. */
static const uint32_t class_bytes[LVRI_HEAP_CLASSES] = {
    64,   128,  192,  256,  384,  512,   768,   1024,  1536,
    2048, 3072, 4288, 6400, 8000, 10688, 16064, 21440, LVRI_HEAP_SMALL_MAX};

/* --- small things ---------------------------------------------------------------------------- */

static struct lvri_heap_shm *heap_of(const struct lvri_arena *a) {
  return &lvri_arena_header(a)->ah_heap;
}

static struct lvri_page *page_of(const struct lvri_arena *a, uint32_t number) {
  return (struct lvri_page *)lvri_at(a, heap_of(a)->hp_table) + number;
}

struct lvri_page *lvri_heap_page(const struct lvri_arena *a, uint32_t number) {
  return page_of(a, number);
}

static lvri_off off_of(uint32_t number) { return (lvri_off)number << LVRI_PAGE_SHIFT; }

static uint32_t number_of(lvri_off off) { return (uint32_t)(off >> LVRI_PAGE_SHIFT); }

static struct lvri_slab *slab_of(const struct lvri_arena *a, uint32_t number) {
  return (struct lvri_slab *)(void *)(a->base + off_of(number));
}

/* For words that may be looked at without the guard. */
static uint32_t get(const uint32_t *field) {
  return lvri_load_relaxed_u32((const _Atomic uint32_t *)field);
}

/* A logged store, if it changes anything. */
static void put(struct lvri_arena *a, uint32_t *field, uint32_t value) {
  if (*field != value) lvri_set32(a, lvri_arena_guard(a), field, value);
}

static void add_to(struct lvri_arena *a, _Atomic uint64_t *counter, uint64_t delta) {
  lvri_set64_shared(a, lvri_arena_guard(a), counter, lvri_load_relaxed_u64(counter) + delta);
}

/* Blocks handed out: 1 more or (delta -1) 1 less, of so many bytes. */
static void account(struct lvri_arena *a, uint64_t delta, uint64_t bytes) {
  add_to(a, &heap_of(a)->hp_blocks, delta);
  add_to(a, &heap_of(a)->hp_bytes, delta * bytes);
}

/* --- lists of runs ---------------------------------------------------------------------------- */

static void push(struct lvri_arena *a, uint32_t *head, uint32_t number) {
  struct lvri_page *page = page_of(a, number);
  put(a, &page->pg_next, *head);
  put(a, &page->pg_prev, 0);
  if (*head) put(a, &page_of(a, *head)->pg_prev, number);
  put(a, head, number);
}

static void pull(struct lvri_arena *a, uint32_t *head, uint32_t number) {
  const struct lvri_page *page = page_of(a, number);
  if (page->pg_prev)
    put(a, &page_of(a, page->pg_prev)->pg_next, page->pg_next);
  else
    put(a, head, page->pg_next);
  if (page->pg_next) put(a, &page_of(a, page->pg_next)->pg_prev, page->pg_prev);
}

static uint32_t *bin_of(const struct lvri_arena *a, uint32_t run) {
  uint32_t bin = 31U - (uint32_t)__builtin_clz(run);
  return &heap_of(a)->hp_bins[bin < LVRI_HEAP_BINS ? bin : LVRI_HEAP_BINS - 1];
}

/* --- memory of runs --------------------------------------------------------------------------- */

static void set_filled(struct lvri_arena *a, uint32_t number, bool filled) {
  lvri_store_release_u32(&page_of(a, number)->pg_filled, filled);
}

static bool is_filled(const struct lvri_arena *a, uint32_t number) {
  return lvri_load_acquire_u32(&page_of(a, number)->pg_filled) != 0;
}

/* Set in a transaction that may still be rolled back: then the run may be the start of a longer one
 * again, which has not all of its memory, so this is logged. */
static void note_filled(struct lvri_arena *a, uint32_t number) {
  lvri_set32_shared(a, lvri_arena_guard(a), &page_of(a, number)->pg_filled, 1);
}

/* Gives the memory of a run's first pages back. The run is not filled from before that on. */
static void punch(struct lvri_arena *a, uint32_t number, uint32_t pages) {
  set_filled(a, number, false);
  LVR_CRASHPOINT("heap.punch.cold");
  (void)lvri_os_shm_punch(a->fd, off_of(number), off_of(pages)); /* tried again when taken */
  LVR_CRASHPOINT("heap.punch.punched");
}

/* --- free runs -------------------------------------------------------------------------------- */

static void mark_free(struct lvri_arena *a, uint32_t number, uint32_t run) {
  struct lvri_page *head = page_of(a, number), *tail = page_of(a, number + run - 1);
  put(a, &head->pg_state, LVRI_PAGE_FREE);
  put(a, &head->pg_run, run);
  put(a, &tail->pg_state, LVRI_PAGE_FREE);
  put(a, &tail->pg_run, run);
  push(a, bin_of(a, run), number);
}

/* Makes [number, number + run) free, one with its free neighbours. */
static void add_free(struct lvri_arena *a, uint32_t number, uint32_t run) {
  const struct lvri_heap_shm *heap = heap_of(a);
  if (number > heap->hp_first && page_of(a, number - 1)->pg_state == LVRI_PAGE_FREE) {
    uint32_t before = page_of(a, number - 1)->pg_run;
    number -= before;
    run += before;
    pull(a, bin_of(a, before), number);
  }
  uint32_t next = number + run;
  if (next < heap->hp_pages && page_of(a, next)->pg_state == LVRI_PAGE_FREE) {
    run += page_of(a, next)->pg_run;
    pull(a, bin_of(a, page_of(a, next)->pg_run), next);
  }
  mark_free(a, number, run);
}

/* A free run of at least so many pages; 0 if there is none. */
static uint32_t find_free(const struct lvri_arena *a, uint32_t pages) {
  const uint32_t *bin = bin_of(a, pages), *end = heap_of(a)->hp_bins + LVRI_HEAP_BINS;
  uint32_t number = *bin;
  int patience =
      bin + 1 == end ? INT32_MAX : BIN_WALK; /* behind the last there is nothing longer */
  for (; number && patience; number = page_of(a, number)->pg_next, patience--)
    if (page_of(a, number)->pg_run >= pages) return number;
  while (++bin < end)
    if (*bin) return *bin;
  return 0;
}

/* Takes the first pages of a free run out; the rest stays free. */
static void cut(struct lvri_arena *a, uint32_t number, uint32_t pages, uint32_t state) {
  struct lvri_page *head = page_of(a, number);
  uint32_t run = head->pg_run;
  pull(a, bin_of(a, run), number);
  if (run > pages) mark_free(a, number + pages, run - pages);
  if (pages > 1) put(a, &page_of(a, number + pages - 1)->pg_state, LVRI_PAGE_BODY);
  put(a, &head->pg_state, state);
  put(a, &head->pg_run, pages);
}

/* --- warm runs -------------------------------------------------------------------------------- */

static uint32_t warm_pages(const struct lvri_arena *a) {
  return lvri_load_relaxed_u32(&heap_of(a)->hp_warm_pages);
}

static void add_warm(struct lvri_arena *a, uint32_t delta) {
  lvri_set32_shared(a, lvri_arena_guard(a), &heap_of(a)->hp_warm_pages, warm_pages(a) + delta);
}

static void push_warm(struct lvri_arena *a, uint32_t number) {
  struct lvri_heap_shm *heap = heap_of(a);
  if (!heap->hp_warm) put(a, &heap->hp_warm_last, number);
  put(a, &page_of(a, number)->pg_state, LVRI_PAGE_WARM);
  push(a, &heap->hp_warm, number);
  add_warm(a, page_of(a, number)->pg_run);
}

static void pull_warm(struct lvri_arena *a, uint32_t number) {
  struct lvri_heap_shm *heap = heap_of(a);
  if (heap->hp_warm_last == number) put(a, &heap->hp_warm_last, page_of(a, number)->pg_prev);
  pull(a, &heap->hp_warm, number);
  add_warm(a, -page_of(a, number)->pg_run);
}

/* One of that many pages among the youngest, or one that is a quarter longer at most. 0: none. */
static uint32_t find_warm(const struct lvri_arena *a, uint32_t pages) {
  uint32_t longer = 0, number = heap_of(a)->hp_warm;
  for (int patience = WARM_WALK; number && patience; patience--) {
    uint32_t run = page_of(a, number)->pg_run;
    if (run == pages) return number;
    if (run > pages && run - pages <= pages / 4) longer = number;
    number = page_of(a, number)->pg_next;
  }
  return longer;
}

/* Where the arena has no other room. */
static uint32_t find_longer_warm(const struct lvri_arena *a, uint32_t pages) {
  uint32_t number = heap_of(a)->hp_warm;
  while (number && page_of(a, number)->pg_run < pages)
    number = page_of(a, number)->pg_next;
  return number;
}

/* Takes the first pages of a warm run out; the rest stays warm. It may lose its memory before this
 * is rolled back: then the whole has not all of it. */
static void cut_warm(struct lvri_arena *a, uint32_t number, uint32_t pages, uint32_t state) {
  struct lvri_page *head = page_of(a, number);
  uint32_t rest = head->pg_run - pages;
  pull_warm(a, number);
  if (rest) {
    bool filled = is_filled(a, number);
    set_filled(a, number + pages, filled);
    set_filled(a, number, false);
    if (filled) note_filled(a, number);
    put(a, &page_of(a, number + pages)->pg_run, rest);
    push_warm(a, number + pages);
  }
  if (pages > 1) put(a, &page_of(a, number + pages - 1)->pg_state, LVRI_PAGE_BODY);
  put(a, &head->pg_state, state);
  put(a, &head->pg_run, pages);
  LVR_CRASHPOINT("heap.warm.taken");
}

/* Want of memory in the middle of a transaction: warm runs stay what they are, but lose theirs.
 * Whether any had some. */
static bool cool_all(struct lvri_arena *a) {
  bool any = false;
  for (uint32_t number = heap_of(a)->hp_warm; number; number = page_of(a, number)->pg_next) {
    if (!is_filled(a, number)) continue;
    punch(a, number, page_of(a, number)->pg_run);
    any = true;
  }
  return any;
}

/* --- growth ----------------------------------------------------------------------------------- */

/* Adds so many pages at the end. Its rows of the page table get their memory before they are used;
 * as a free page they are FREE by what is logged, and zero before that. */
static int grow_by(struct lvri_arena *a, uint32_t pages) {
  struct lvri_heap_shm *heap = heap_of(a);
  uint32_t old = heap->hp_pages, new = old + pages;
  if (pages > number_of(a->mapped_bytes) - old) return -ENOMEM;
  int error = lvri_arena_grow_locked(a, off_of(new));
  if (!error)
    error = lvri_os_shm_commit(a->fd, heap->hp_table + old * sizeof(struct lvri_page),
                               heap->hp_table + new * sizeof(struct lvri_page));
  if (error) return error;
  LVR_CRASHPOINT("heap.grow.committed");
  put(a, &heap->hp_pages, new);
  add_free(a, old, pages);
  return 0;
}

/* Free pages at the very end, which growth adds to. */
static uint32_t free_at_end(const struct lvri_arena *a) {
  const struct lvri_heap_shm *heap = heap_of(a);
  if (heap->hp_pages == heap->hp_first) return 0;
  const struct lvri_page *last = page_of(a, heap->hp_pages - 1);
  return last->pg_state == LVRI_PAGE_FREE ? last->pg_run : 0;
}

/* Room for a run of so many pages at the end: by a good step, or if that fails by as little as will
 * do. */
static int grow_for(struct lvri_arena *a, uint32_t pages) {
  uint32_t step = heap_of(a)->hp_pages / 8, there = free_at_end(a);
  if (there >= pages) return 0;
  if (step < GROW_LEAST_PAGES) step = GROW_LEAST_PAGES;
  if (step > GROW_MOST_PAGES) step = GROW_MOST_PAGES;
  if (step > pages - there && grow_by(a, step) == 0) return 0;
  return grow_by(a, pages - there);
}

/* --- runs ------------------------------------------------------------------------------------- */

/* A run with memory or without. Failing it may leave changes behind: the caller rolls back. */
static int take_bare(struct lvri_arena *a, uint32_t pages, uint32_t state, uint32_t *ret_number) {
  uint32_t number = find_warm(a, pages), found = number ? 0 : find_free(a, pages);
  if (!number && !found) {
    int error = grow_for(a, pages);
    if (error && !(number = find_longer_warm(a, pages))) return error;
    found = number ? 0 : heap_of(a)->hp_pages - free_at_end(a);
  }
  if (number) {
    cut_warm(a, number, pages, state);
  } else {
    number = found;
    cut(a, number, pages, state);
    set_filled(a, number, false);
  }
  *ret_number = number;
  return 0;
}

/* Memory for a run, all zeros. It is a hole as a rule; but not if someone died, or gave up, between
 * here and his commit the last time. */
static int fill_run(struct lvri_arena *a, uint32_t number) {
  lvri_off off = off_of(number);
  size_t bytes = off_of(page_of(a, number)->pg_run);
  int error = lvri_os_shm_punch(a->fd, off, bytes);
  if (error) return -ENOMEM;
  LVR_CRASHPOINT("heap.run.punched");
  error = lvri_os_shm_commit(a->fd, off, off + bytes);
  if (error) (void)lvri_os_shm_punch(a->fd, off, bytes); /* what it got */
  return error;
}

/* A run with memory, which is zeros or, if it was warm, anything. */
static int take_run(struct lvri_arena *a, uint32_t pages, uint32_t state, uint32_t *ret_number,
                    bool *ret_zeros) {
  int error = take_bare(a, pages, state, ret_number);
  *ret_zeros = !error && !is_filled(a, *ret_number);
  if (error || !*ret_zeros) return error;
  error = fill_run(a, *ret_number);
  if (error && cool_all(a)) error = fill_run(a, *ret_number);
  if (!error) note_filled(a, *ret_number);
  return error;
}

/* Its bytes may be wanted again until the commit, so what becomes of it is decided behind that. */
static void drop_run(struct lvri_arena *a, uint32_t number) {
  put(a, &page_of(a, number)->pg_state, LVRI_PAGE_DIRTY);
  push(a, &heap_of(a)->hp_dirty, number);
}

/* --- trimming: each step is a transaction ----------------------------------------------------- */

/* The first `pages` of a dirty run become free, the rest stays dirty. */
static void free_dirty(struct lvri_arena *a, uint32_t number, uint32_t pages) {
  uint32_t rest = page_of(a, number)->pg_run - pages;
  punch(a, number, pages);
  pull(a, &heap_of(a)->hp_dirty, number);
  if (rest) {
    struct lvri_page *page = page_of(a, number + pages);
    set_filled(a, number + pages, false);
    put(a, &page->pg_state, LVRI_PAGE_DIRTY);
    put(a, &page->pg_run, rest);
    push(a, &heap_of(a)->hp_dirty, number + pages);
  }
  add_free(a, number, pages);
}

/* The oldest warm run is dirty again, and is not to be warm. */
static void evict(struct lvri_arena *a) {
  uint32_t number = heap_of(a)->hp_warm_last;
  set_filled(a, number, false);
  LVR_CRASHPOINT("heap.evict.cold");
  pull_warm(a, number);
  drop_run(a, number);
}

static uint32_t warm_most(const struct lvri_arena *a) {
  uint32_t share = number_of(lvri_arena_header(a)->ah_reserve_bytes) / WARM_SHARE;
  return share < LVRI_HEAP_WARM_MAX ? share : LVRI_HEAP_WARM_MAX;
}

/* One step for the first dirty run; how many pages were punched. */
static uint32_t trim_step(struct lvri_arena *a, uint32_t most) {
  uint32_t number = heap_of(a)->hp_dirty, pages = page_of(a, number)->pg_run;
  if (!is_filled(a, number) || pages > warm_most(a)) {
    if (pages > most) pages = most;
    free_dirty(a, number, pages);
    return pages;
  }
  if (warm_pages(a) + pages > warm_most(a)) {
    evict(a);
  } else {
    pull(a, &heap_of(a)->hp_dirty, number);
    push_warm(a, number);
  }
  return 0;
}

void lvri_heap_trim_locked(struct lvri_arena *a) {
  for (uint32_t left = TRIM_MOST_PAGES; left && heap_of(a)->hp_dirty;) {
    left -= trim_step(a, left);
    LVR_CRASHPOINT("heap.trim.step");
    lvri_guard_commit_only(lvri_arena_guard(a));
  }
}

void lvri_heap_settle(struct lvri_arena *a) {
  struct lvri_guard *g = lvri_arena_guard(a);
  while (get(&heap_of(a)->hp_dirty) && lvri_guard_enter(a, g) == 0)
    lvri_guard_leave(a, g);
}

bool lvri_heap_squeeze(struct lvri_arena *a) {
  struct lvri_guard *g = lvri_arena_guard(a);
  if (lvri_guard_enter(a, g) != 0) return false;
  bool any = heap_of(a)->hp_warm || heap_of(a)->hp_dirty;
  while (heap_of(a)->hp_warm) {
    evict(a);
    lvri_guard_commit_only(g);
  }
  lvri_guard_leave(a, g);
  lvri_heap_settle(a);
  return any;
}

uint64_t lvri_heap_warm_bytes(const struct lvri_arena *a) { return off_of(warm_pages(a)); }

/* --- slabs ------------------------------------------------------------------------------------ */

static uint32_t class_for(size_t bytes) {
  uint32_t class = 0;
  while (class_bytes[class] < bytes)
    class ++;
  return class;
}

static uint32_t blocks_in(uint32_t class) { return SLAB_ROOM / class_bytes[class]; }

uint32_t lvri_heap_class_bytes(uint32_t class_number) { return class_bytes[class_number]; }

uint32_t lvri_heap_blocks_in(uint32_t class_number) { return blocks_in(class_number); }

lvri_off lvri_heap_block_off(uint32_t number, uint32_t class_number, uint32_t index) {
  return off_of(number) + sizeof(struct lvri_slab) + (lvri_off)index * class_bytes[class_number];
}

static void free_all(struct lvri_slab *slab, uint32_t blocks) {
  memset(slab->sb_free, 0, sizeof(slab->sb_free));
  for (uint32_t i = 0; i < blocks; i++)
    slab->sb_free[i / WORD_BITS] |= UINT64_C(1) << i % WORD_BITS;
}

/* The slab's own page is nobody's yet, so its bitmap need not be logged. */
static int new_slab(struct lvri_arena *a, uint32_t class, uint32_t *ret_number) {
  uint32_t number = 0;
  bool zeros;
  int error = take_run(a, 1, LVRI_PAGE_SLAB, &number, &zeros);
  if (error) return error;
  free_all(slab_of(a, number), blocks_in(class));
  LVR_CRASHPOINT("heap.slab.made");
  put(a, &page_of(a, number)->pg_class, class);
  put(a, &page_of(a, number)->pg_used, 0);
  push(a, &heap_of(a)->hp_partial[class], number);
  *ret_number = number;
  return 0;
}

/* Clears the bit of some free block. There is one. */
static uint32_t claim_bit(struct lvri_arena *a, struct lvri_slab *slab, uint32_t kind) {
  uint32_t word = 0;
  while (!slab->sb_free[word])
    word++;
  uint32_t bit = (uint32_t)__builtin_ctzll(slab->sb_free[word]);
  slab->sb_kind[word * WORD_BITS + bit] = (uint8_t)kind;
  lvri_set64(a, lvri_arena_guard(a), &slab->sb_free[word],
             slab->sb_free[word] & (slab->sb_free[word] - 1));
  return word * WORD_BITS + bit;
}

static int alloc_small(struct lvri_arena *a, size_t bytes, uint32_t kind, lvri_off *ret_off) {
  uint32_t class = class_for(bytes), number = heap_of(a)->hp_partial[class];
  int error = number ? 0 : new_slab(a, class, &number);
  if (error) return error;
  struct lvri_page *page = page_of(a, number);
  uint32_t index = claim_bit(a, slab_of(a, number), kind);
  put(a, &page->pg_used, page->pg_used + 1);
  if (page->pg_used == blocks_in(class)) pull(a, &heap_of(a)->hp_partial[class], number);
  account(a, 1, class_bytes[class]);
  *ret_off = lvri_heap_block_off(number, class, index);
  return 0;
}

/* Which block of its slab starts at off; blocks_in() or more if none does. */
static uint32_t index_in(uint32_t class, lvri_off off) {
  uint64_t inside = off % LVRI_PAGE_BYTES;
  if (inside < sizeof(struct lvri_slab)) return UINT32_MAX;
  inside -= sizeof(struct lvri_slab);
  return inside % class_bytes[class] ? UINT32_MAX : (uint32_t)(inside / class_bytes[class]);
}

/* An empty slab is kept if it is the only one of its size with room: it will be wanted. */
static void free_small(struct lvri_arena *a, uint32_t number, lvri_off off) {
  struct lvri_page *page = page_of(a, number);
  uint32_t class = page->pg_class, index = index_in(class, off);
  uint32_t *partial = &heap_of(a)->hp_partial[class];
  uint64_t *word = &slab_of(a, number)->sb_free[index / WORD_BITS];
  lvri_set64(a, lvri_arena_guard(a), word, *word | UINT64_C(1) << index % WORD_BITS);
  if (page->pg_used == blocks_in(class)) push(a, partial, number);
  put(a, &page->pg_used, page->pg_used - 1);
  account(a, UINT64_MAX, class_bytes[class]);
  if (page->pg_used == 0 && (page->pg_next || page->pg_prev)) {
    pull(a, partial, number);
    drop_run(a, number);
  }
}

/* --- blocks ----------------------------------------------------------------------------------- */

static int alloc_large(struct lvri_arena *a, size_t bytes, uint32_t kind, bool bare,
                       lvri_off *ret_off) {
  uint32_t number = 0;
  bool zeros = true;
  if (bytes > a->mapped_bytes) return -ENOMEM;
  uint32_t pages = number_of(bytes + LVRI_PAGE_BYTES - 1);
  int error = bare ? take_bare(a, pages, LVRI_PAGE_BLOCK, &number)
                   : take_run(a, pages, LVRI_PAGE_BLOCK, &number, &zeros);
  if (error) return error;
  if (!zeros) memset(a->base + off_of(number), 0, off_of(pages));
  put(a, &page_of(a, number)->pg_kind, kind);
  account(a, 1, off_of(pages));
  *ret_off = off_of(number);
  return 0;
}

static int alloc(struct lvri_arena *a, size_t bytes, uint32_t kind, bool bare, lvri_off *ret_off) {
  struct lvri_guard *g = lvri_arena_guard(a);
  uint32_t mark = lvri_guard_mark(g);
  LVRI_ASSERT(bytes > 0 && kind <= LVRI_KIND_MAX);
  int error = bytes <= LVRI_HEAP_SMALL_MAX ? alloc_small(a, bytes, kind, ret_off)
                                           : alloc_large(a, bytes, kind, bare, ret_off);
  if (error) lvri_guard_rollback_to(a, g, mark);
  LVRI_ASSERT(lvri_guard_mark(g) - mark <= LVRI_HEAP_RECORDS);
  return error;
}

int lvri_heap_alloc_locked(struct lvri_arena *a, size_t bytes, uint32_t kind, lvri_off *ret_off) {
  int error = alloc(a, bytes, kind, false, ret_off);
  if (!error && bytes <= LVRI_HEAP_SMALL_MAX) /* a larger one is zeros */
    memset(lvri_at(a, *ret_off), 0, class_bytes[class_for(bytes)]);
  return error;
}

int lvri_heap_alloc_bare_locked(struct lvri_arena *a, size_t bytes, uint32_t kind,
                                lvri_off *ret_off) {
  return alloc(a, bytes, kind, true, ret_off);
}

/* Zeros are cleared by the kernel, but for what somebody left who died. */
static int fill_block(struct lvri_arena *a, lvri_off off, size_t bytes, bool zeros) {
  int error = zeros ? lvri_os_shm_punch(a->fd, off, bytes) : 0;
  if (error) return -ENOMEM;
  LVR_CRASHPOINT("heap.fill.punched");
  return lvri_os_shm_commit(a->fd, off, off + bytes);
}

int lvri_heap_fill(struct lvri_arena *a, lvri_off off, bool zeros) {
  size_t bytes = lvri_heap_size(a, off);
  if (is_filled(a, number_of(off))) {
    if (zeros) memset(lvri_at(a, off), 0, bytes);
    return 0;
  }
  int error = fill_block(a, off, bytes, zeros);
  if (error == -ENOMEM && lvri_heap_squeeze(a)) error = fill_block(a, off, bytes, zeros);
  LVR_CRASHPOINT("heap.fill.filled");
  if (!error) set_filled(a, number_of(off), true);
  return error;
}

void lvri_heap_free_locked(struct lvri_arena *a, lvri_off off) {
  uint32_t number = number_of(off);
  struct lvri_page *page = page_of(a, number);
  LVRI_ASSERT(lvri_heap_is_block(a, off));
  if (page->pg_state == LVRI_PAGE_SLAB) {
    free_small(a, number, off);
  } else {
    account(a, UINT64_MAX, off_of(page->pg_run));
    drop_run(a, number);
  }
}

size_t lvri_heap_size(struct lvri_arena *a, lvri_off off) {
  const struct lvri_page *page = page_of(a, number_of(off));
  LVRI_ASSERT(lvri_heap_is_block(a, off));
  return get(&page->pg_state) == LVRI_PAGE_SLAB ? class_bytes[get(&page->pg_class)]
                                                : off_of(get(&page->pg_run));
}

uint32_t lvri_heap_kind(struct lvri_arena *a, lvri_off off) {
  const struct lvri_page *page = page_of(a, number_of(off));
  LVRI_ASSERT(lvri_heap_is_block(a, off));
  if (get(&page->pg_state) != LVRI_PAGE_SLAB) return get(&page->pg_kind);
  return slab_of(a, number_of(off))->sb_kind[index_in(get(&page->pg_class), off)];
}

static bool is_small_block(const struct lvri_arena *a, uint32_t number, lvri_off off) {
  uint32_t class = get(&page_of(a, number)->pg_class);
  if (class >= LVRI_HEAP_CLASSES) return false;
  uint32_t index = index_in(class, off);
  if (index >= blocks_in(class)) return false;
  const uint64_t *word = &slab_of(a, number)->sb_free[index / WORD_BITS];
  uint64_t free_bits = lvri_load_relaxed_u64((const _Atomic uint64_t *)word);
  return !(free_bits >> index % WORD_BITS & 1);
}

bool lvri_heap_is_block(struct lvri_arena *a, lvri_off off) {
  const struct lvri_heap_shm *heap = heap_of(a);
  if (off < off_of(heap->hp_first) || off >= off_of(get(&heap->hp_pages))) return false;
  uint32_t number = number_of(off), state = get(&page_of(a, number)->pg_state);
  if (state == LVRI_PAGE_SLAB) return is_small_block(a, number, off);
  return state == LVRI_PAGE_BLOCK && off % LVRI_PAGE_BYTES == 0;
}

/* --- the making ------------------------------------------------------------------------------- */

int lvri_heap_init(struct lvri_arena *a) {
  struct lvri_heap_shm *heap = heap_of(a);
  uint64_t table_bytes = number_of(a->mapped_bytes) * sizeof(struct lvri_page);
  heap->hp_table = LVRI_PAGE_BYTES;
  heap->hp_first = 1 + number_of(table_bytes + LVRI_PAGE_BYTES - 1);
  heap->hp_pages = heap->hp_first;
  return lvri_arena_grow_locked(a, off_of(heap->hp_first));
}
