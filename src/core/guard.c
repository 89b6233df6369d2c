#include "core/guard.h"

#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "base/atomic.h"
#include "base/crashpoint.h"
#include "core/arena.h"

#define WIDE 1U /* in gr_where: a word of 64 bits */

static struct lvri_guard_record *records(const struct lvri_guard *g) {
  return (struct lvri_guard_record *)(void *)(g + 1);
}

int lvri_guard_init(struct lvri_guard *g, enum lvri_rank rank, uint32_t capacity) {
  int error = lvri_mutex_init(&g->gd_mutex);
  if (error) return error;
  lvri_store_relaxed_u32(&g->gd_count, 0);
  g->gd_capacity = capacity;
  g->gd_rank = rank;
  lvri_store_relaxed_u32(&g->gd_repairs, 0);
  return 0;
}

/* --- the journal --------------------------------------------------------------------------- */

/* A record that this library can have written: an aligned word of the arena. */
static bool is_sound(const struct lvri_arena *a, const struct lvri_guard_record *r) {
  uint64_t width = r->gr_where & WIDE ? 8 : 4, off = r->gr_where & ~(uint64_t)WIDE;
  return off != 0 && off % width == 0 && lvri_arena_contains(a, off, width);
}

static void write_back(const struct lvri_arena *a, const struct lvri_guard_record *r) {
  void *field = lvri_at(a, r->gr_where & ~(uint64_t)WIDE);
  if (r->gr_where & WIDE)
    lvri_store_release_u64((_Atomic uint64_t *)field, r->gr_old);
  else
    lvri_store_release_u32((_Atomic uint32_t *)field, (uint32_t)r->gr_old);
}

/* Takes back the changes above mark, last first. A record is uncounted only once its word is back:
 * whoever dies in here leaves a journal that rolls back as well. */
static void roll_back(const struct lvri_arena *a, struct lvri_guard *g, uint32_t mark) {
  uint32_t count = lvri_load_relaxed_u32(&g->gd_count);
  while (count > mark) {
    LVR_CRASHPOINT("guard.rollback.record");
    write_back(a, &records(g)[count - 1]);
    lvri_fence_compiler();
    LVR_CRASHPOINT("guard.rollback.written");
    lvri_store_release_u32(&g->gd_count, --count);
  }
}

int lvri_guard_valid(const struct lvri_arena *a, const struct lvri_guard *g) {
  uint32_t count = lvri_load_relaxed_u32(&g->gd_count);
  if (count > g->gd_capacity) return -EUCLEAN;
  for (uint32_t i = 0; i < count; i++)
    if (!is_sound(a, &records(g)[i])) return -EUCLEAN;
  return 0;
}

void lvri_guard_commit_only(struct lvri_guard *g) {
  lvri_fence_compiler();
  LVR_CRASHPOINT("guard.commit.before");
  lvri_store_release_u32(&g->gd_count, 0);
  LVR_CRASHPOINT("guard.commit.after");
}

/* --- in and out ---------------------------------------------------------------------------- */

static int give_up(struct lvri_guard *g) {
  lvri_mutex_unlock(&g->gd_mutex); /* not consistent: from now on nobody gets in */
  return -ENOTRECOVERABLE;
}

/* The one place that handles a dead owner of a guard. */
static int take_over(struct lvri_arena *a, struct lvri_guard *g) {
  LVR_CRASHPOINT("guard.takeover.enter");
  if (lvri_guard_valid(a, g) != 0) return give_up(g);
  roll_back(a, g, 0);
  lvri_fetch_add_relaxed_u32(&g->gd_repairs, 1);
  LVR_CRASHPOINT("guard.takeover.clean");
  lvri_mutex_consistent(&g->gd_mutex);
  LVR_CRASHPOINT("guard.takeover.consistent");
  return 0;
}

int lvri_guard_enter(struct lvri_arena *a, struct lvri_guard *g) {
  lvri_rank_take(g->gd_rank);
  int error = lvri_mutex_lock(&g->gd_mutex);
  if (__builtin_expect(error != 0, 0)) {
    if (error == -EOWNERDEAD) error = take_over(a, g);
    if (error) lvri_rank_give(g->gd_rank);
    return error;
  }
  LVR_CRASHPOINT("guard.enter.locked");
  LVRI_ASSERT(lvri_load_relaxed_u32(&g->gd_count) == 0);
  return 0;
}

static void unlock(struct lvri_guard *g) {
  enum lvri_rank rank = g->gd_rank;
  lvri_mutex_unlock(&g->gd_mutex);
  lvri_rank_give(rank);
  LVR_CRASHPOINT("guard.leave.unlocked");
}

void lvri_guard_commit(struct lvri_arena *a, struct lvri_guard *g) {
  lvri_guard_commit_only(g);
  if (g->gd_rank != LVRI_RANK_ARENA) return;
  if (__builtin_expect(lvri_arena_header(a)->ah_heap.hp_dirty != 0, 0)) lvri_heap_trim_locked(a);
}

void lvri_guard_leave(struct lvri_arena *a, struct lvri_guard *g) {
  lvri_guard_commit(a, g);
  unlock(g);
}

void lvri_guard_abort(struct lvri_arena *a, struct lvri_guard *g) {
  roll_back(a, g, 0);
  unlock(g);
}

uint32_t lvri_guard_room(const struct lvri_guard *g) {
  return g->gd_capacity - lvri_load_relaxed_u32(&g->gd_count);
}

uint32_t lvri_guard_mark(const struct lvri_guard *g) { return lvri_load_relaxed_u32(&g->gd_count); }

void lvri_guard_rollback_to(struct lvri_arena *a, struct lvri_guard *g, uint32_t mark) {
  LVRI_ASSERT(mark <= lvri_load_relaxed_u32(&g->gd_count));
  roll_back(a, g, mark);
}

/* --- logged stores ------------------------------------------------------------------------- */

/* Record first, then the count, then (by the caller) the word. */
static void log_word(struct lvri_arena *a, struct lvri_guard *g, const void *field, uint64_t wide,
                     uint64_t old) {
  uint32_t count = lvri_load_relaxed_u32(&g->gd_count);
  LVRI_ASSERT(count < g->gd_capacity);
  records(g)[count] = (struct lvri_guard_record){lvri_off_in(a, field) | wide, old};
  lvri_fence_compiler();
  LVR_CRASHPOINT("guard.log.written");
  lvri_store_release_u32(&g->gd_count, count + 1);
  lvri_fence_compiler();
  LVR_CRASHPOINT("guard.log.counted");
}

void lvri_set32_shared(struct lvri_arena *a, struct lvri_guard *g, _Atomic uint32_t *field,
                       uint32_t value) {
  log_word(a, g, field, 0, lvri_load_relaxed_u32(field));
  lvri_store_release_u32(field, value); /* pairs with the acquire of who reads without the guard */
  LVR_CRASHPOINT("guard.set.stored");
}

void lvri_set64_shared(struct lvri_arena *a, struct lvri_guard *g, _Atomic uint64_t *field,
                       uint64_t value) {
  log_word(a, g, field, WIDE, lvri_load_relaxed_u64(field));
  lvri_store_release_u64(field, value); /* pairs with the acquire of who reads without the guard */
  LVR_CRASHPOINT("guard.set.stored");
}

void lvri_set32(struct lvri_arena *a, struct lvri_guard *g, uint32_t *field, uint32_t value) {
  lvri_set32_shared(a, g, (_Atomic uint32_t *)field, value);
}

void lvri_set64(struct lvri_arena *a, struct lvri_guard *g, uint64_t *field, uint64_t value) {
  lvri_set64_shared(a, g, (_Atomic uint64_t *)field, value);
}

void lvri_set_words(struct lvri_arena *a, struct lvri_guard *g, void *to, const void *from,
                    uint32_t bytes) {
  LVRI_ASSERT(bytes % 8 == 0);
  for (uint32_t at = 0; at < bytes; at += 8) {
    uint64_t word;
    memcpy(&word, (const char *)from + at, sizeof(word));
    lvri_set64(a, g, (uint64_t *)(void *)((char *)to + at), word);
  }
}
