#include "core/handles.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/assert.h"

enum { FIRST_ROOM = 16 };

/* Offsets are multiples of 64 and come in rows: this keeps neighbours apart, and is cheap. */
static size_t place_of(const struct lvri_handles *t, lvri_off off) {
  return (size_t)((off >> 6) * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (t->room - 1);
}

static size_t after(const struct lvri_handles *t, size_t place) {
  return (place + 1) & (t->room - 1);
}

struct lvri_record *lvri_handles_find(const struct lvri_handles *t, lvri_off off) {
  if (t->count == 0 || off == 0) return NULL;
  for (size_t at = place_of(t, off); t->records[at].off; at = after(t, at))
    if (t->records[at].off == off) return &t->records[at];
  return NULL;
}

struct lvri_record *lvri_handles_add(struct lvri_handles *t, lvri_off off) {
  LVRI_ASSERT((t->count + 1) * 4 <= t->room * 3);
  size_t at = place_of(t, off);
  while (t->records[at].off)
    at = after(t, at);
  t->records[at] = (struct lvri_record){.off = off};
  t->count++;
  return &t->records[at];
}

int lvri_handles_reserve(struct lvri_handles *t) {
  if ((t->count + 1) * 4 <= t->room * 3) return 0;
  struct lvri_handles bigger = {.room = t->room ? t->room * 2 : FIRST_ROOM};
  bigger.records = calloc(bigger.room, sizeof(struct lvri_record));
  if (!bigger.records) return -ENOMEM;
  for (size_t at = 0; at < t->room; at++)
    if (t->records[at].off) *lvri_handles_add(&bigger, t->records[at].off) = t->records[at];
  free(t->records);
  *t = bigger;
  return 0;
}

/* Whether a record whose place is `home` and that stands at `at` may be moved back to `hole`. */
static bool may_fill(const struct lvri_handles *t, size_t home, size_t hole, size_t at) {
  size_t mask = t->room - 1;
  return ((at - home) & mask) >= ((at - hole) & mask);
}

/* Moves those behind it back, so that no search ends too early. */
void lvri_handles_remove(struct lvri_handles *t, struct lvri_record *record) {
  size_t hole = (size_t)(record - t->records);
  for (size_t at = after(t, hole); t->records[at].off; at = after(t, at)) {
    if (!may_fill(t, place_of(t, t->records[at].off), hole, at)) continue;
    t->records[hole] = t->records[at];
    hole = at;
  }
  t->records[hole] = (struct lvri_record){.off = 0};
  t->count--;
}

void lvri_handles_fini(struct lvri_handles *t) {
  free(t->records);
  *t = (struct lvri_handles){.records = NULL};
}
