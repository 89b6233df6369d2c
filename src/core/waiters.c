#include "core/waiters.h"

#include <errno.h>

#include "base/assert.h"
#include "core/kinds.h"

/* Chunk k has 4 << 2k records, and those before it first(k) together. */
static uint32_t chunk_size(uint32_t k) { return UINT32_C(4) << (2 * k); }
static uint32_t first(uint32_t k) { return (chunk_size(k) - 4) / 3; }

static uint32_t chunk_of(uint32_t number) {
  uint32_t k = 0;
  LVRI_ASSERT(number != 0);
  while (number - 1 >= first(k + 1))
    k++;
  return k;
}

struct lvri_waiter *lvri_waiters_at(struct lvri_arena *a, const struct lvri_waiters *ws,
                                    uint32_t number) {
  uint32_t k = chunk_of(number);
  struct lvri_waiter *chunk = lvri_at(a, ws->ws_chunk[k]);
  return chunk + (number - 1 - first(k));
}

/* Memory for chunk k. Whole before the stripe's critical section is: if that is rolled back, it is
 * there to be used. */
static int grow(struct lvri_arena *a, struct lvri_waiters *ws, uint32_t k) {
  struct lvri_guard *g = lvri_arena_guard(a);
  lvri_off off;
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  error =
      lvri_heap_alloc_locked(a, chunk_size(k) * sizeof(struct lvri_waiter), LVRI_KIND_PART, &off);
  if (error) {
    lvri_guard_abort(a, g);
    return error;
  }
  lvri_set64(a, g, &ws->ws_chunk[k], off);
  lvri_guard_leave(a, g);
  return 0;
}

/* A record that nobody has; its number. 0: no memory, or *ret_error. */
static int obtain(struct lvri_arena *a, struct lvri_guard *g, struct lvri_waiters *ws,
                  uint32_t *ret_number) {
  if (ws->ws_free != 0) {
    *ret_number = ws->ws_free;
    lvri_set32(a, g, &ws->ws_free, lvri_waiters_at(a, ws, ws->ws_free)->wa_next);
    return 0;
  }
  uint32_t number = ws->ws_used + 1, k = chunk_of(number);
  if (k >= LVRI_WAITERS_CHUNKS) return -ENOMEM;
  int error = ws->ws_chunk[k] ? 0 : grow(a, ws, k);
  if (error) return error;
  lvri_set32(a, g, &ws->ws_used, number);
  *ret_number = number;
  return 0;
}

static void count(struct lvri_arena *a, struct lvri_guard *g, struct lvri_waiters *ws,
                  uint32_t by) {
  lvri_set32_shared(a, g, &ws->ws_count, lvri_load_relaxed_u32(&ws->ws_count) + by);
}

/* Puts record number behind the last one. */
static void append(struct lvri_arena *a, struct lvri_guard *g, struct lvri_waiters *ws,
                   uint32_t number) {
  struct lvri_waiter *w = lvri_waiters_at(a, ws, number);
  lvri_set32(a, g, &w->wa_prev, ws->ws_tail);
  lvri_set32(a, g, &w->wa_next, 0);
  if (ws->ws_tail)
    lvri_set32(a, g, &lvri_waiters_at(a, ws, ws->ws_tail)->wa_next, number);
  else
    lvri_set32(a, g, &ws->ws_head, number);
  lvri_set32(a, g, &ws->ws_tail, number);
  count(a, g, ws, 1);
}

int lvri_waiters_join(struct lvri_arena *a, struct lvri_guard *g, struct lvri_waiters *ws,
                      lvr_proc_id owner, uint32_t *ret_number) {
  uint32_t number;
  int error = obtain(a, g, ws, &number);
  if (error) return error;
  struct lvri_waiter *w = lvri_waiters_at(a, ws, number);
  lvri_set64(a, g, &w->wa_owner, owner);
  lvri_set32_shared(a, g, &w->wa_state, LVRI_WAITER_QUEUED);
  append(a, g, ws, number);
  *ret_number = number;
  return 0;
}

void lvri_waiters_take_out(struct lvri_arena *a, struct lvri_guard *g, struct lvri_waiters *ws,
                           uint32_t number, enum lvri_waiter_state why) {
  struct lvri_waiter *w = lvri_waiters_at(a, ws, number);
  LVRI_ASSERT(lvri_load_relaxed_u32(&w->wa_state) == LVRI_WAITER_QUEUED);
  if (w->wa_prev)
    lvri_set32(a, g, &lvri_waiters_at(a, ws, w->wa_prev)->wa_next, w->wa_next);
  else
    lvri_set32(a, g, &ws->ws_head, w->wa_next);
  if (w->wa_next)
    lvri_set32(a, g, &lvri_waiters_at(a, ws, w->wa_next)->wa_prev, w->wa_prev);
  else
    lvri_set32(a, g, &ws->ws_tail, w->wa_prev);
  count(a, g, ws, UINT32_MAX);
  lvri_set32_shared(a, g, &w->wa_state, why);
}

void lvri_waiters_free(struct lvri_arena *a, struct lvri_guard *g, struct lvri_waiters *ws,
                       uint32_t number) {
  struct lvri_waiter *w = lvri_waiters_at(a, ws, number);
  if (lvri_load_relaxed_u32(&w->wa_state) == LVRI_WAITER_QUEUED)
    lvri_waiters_take_out(a, g, ws, number, LVRI_WAITER_FREE);
  else
    lvri_set32_shared(a, g, &w->wa_state, LVRI_WAITER_FREE);
  lvri_set64(a, g, &w->wa_owner, 0);
  lvri_set32(a, g, &w->wa_next, ws->ws_free);
  lvri_set32(a, g, &ws->ws_free, number);
}

uint32_t lvri_waiters_next_used(struct lvri_arena *a, const struct lvri_waiters *ws,
                                uint32_t number) {
  for (; number <= ws->ws_used; number++)
    if (lvri_waiters_at(a, ws, number)->wa_owner != 0) return number;
  return 0;
}

void lvri_waiters_fini_locked(struct lvri_arena *a, struct lvri_waiters *ws) {
  for (uint32_t k = 0; k < LVRI_WAITERS_CHUNKS && ws->ws_chunk[k]; k++)
    lvri_heap_free_locked(a, ws->ws_chunk[k]);
}

/* Counts the free list; more than ws_used: it has a cycle, or a record that is not free. */
static uint32_t count_free(struct lvri_arena *a, const struct lvri_waiters *ws) {
  uint32_t n = 0;
  for (uint32_t i = ws->ws_free; i != 0 && n <= ws->ws_used; n++) {
    const struct lvri_waiter *w = lvri_waiters_at(a, ws, i);
    if (i > ws->ws_used || w->wa_owner != 0) return UINT32_MAX;
    i = w->wa_next;
  }
  return n;
}

/* The same of the queue, in both directions. */
static uint32_t count_queued(struct lvri_arena *a, const struct lvri_waiters *ws) {
  uint32_t n = 0, before = 0;
  for (uint32_t i = ws->ws_head; i != 0 && n <= ws->ws_used; n++) {
    if (i > ws->ws_used) return UINT32_MAX;
    const struct lvri_waiter *w = lvri_waiters_at(a, ws, i);
    if (w->wa_owner == 0 || w->wa_prev != before) return UINT32_MAX;
    if (lvri_load_relaxed_u32(&w->wa_state) != LVRI_WAITER_QUEUED) return UINT32_MAX;
    before = i;
    i = w->wa_next;
  }
  return before == ws->ws_tail ? n : UINT32_MAX;
}

bool lvri_waiters_valid(struct lvri_arena *a, const struct lvri_waiters *ws) {
  uint32_t owned = 0, queued = 0;
  for (uint32_t i = 1; i <= ws->ws_used; i++) {
    const struct lvri_waiter *w = lvri_waiters_at(a, ws, i);
    owned += w->wa_owner != 0;
    queued += lvri_load_relaxed_u32(&w->wa_state) == LVRI_WAITER_QUEUED;
  }
  return count_free(a, ws) == ws->ws_used - owned && count_queued(a, ws) == queued &&
         lvri_load_relaxed_u32(&ws->ws_count) == queued;
}
