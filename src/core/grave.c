#include "core/grave.h"

#include "base/assert.h"
#include "base/atomic.h"
#include "base/crashpoint.h"
#include "core/object.h"

/* Blocks are 64-byte aligned, so 32 bits name each of the largest arena. */
#define UNIT_SHIFT 6u
_Static_assert(LVRI_ARENA_MOST_BYTES >> UNIT_SHIFT <= UINT64_C(1) << 32, "a link has 32 bits");

static _Atomic uint32_t *first_of(struct lvri_arena *a) { return &lvri_arena_header(a)->ah_grave; }

static uint32_t link_to(lvri_off off) { return (uint32_t)(off >> UNIT_SHIFT); }

static lvri_off linked(uint32_t link) { return (lvri_off)link << UNIT_SHIFT; }

static struct lvri_object_shm *object_at(struct lvri_arena *a, uint32_t link) {
  return lvri_at(a, linked(link));
}

void lvri_grave_put_locked(struct lvri_arena *a, lvri_off object) {
  struct lvri_guard *g = lvri_arena_guard(a);
  struct lvri_object_shm *o = lvri_at(a, object);
  LVRI_ASSERT(o->ob_refs == 0 && o->ob_travelling == 0);
  lvri_set32(a, g, &o->ob_next, lvri_load_relaxed_u32(first_of(a)));
  lvri_set32_shared(a, g, first_of(a), link_to(object));
}

/* The first of the list, of which nothing is left: out of it, and gone. */
static void bury_first(struct lvri_arena *a) {
  uint32_t first = lvri_load_relaxed_u32(first_of(a));
  const struct lvri_object_shm *object = object_at(a, first);
  const struct lvri_kind_ops *ops = lvri_kinds[object->ob_kind];
  lvri_set32_shared(a, lvri_arena_guard(a), first_of(a), object->ob_next);
  if (ops->fini_locked) ops->fini_locked(a, linked(first));
  lvri_heap_free_locked(a, linked(first));
}

/* One step of the first. It may have put another one before itself: then it has its turn later,
 * with nothing left to do. */
static void step(struct lvri_arena *a) {
  uint32_t first = lvri_load_relaxed_u32(first_of(a));
  if (!first) return; /* somebody else was faster */
  bool drained = lvri_kinds[object_at(a, first)->ob_kind]->drain_locked(a, linked(first));
  LVR_CRASHPOINT("grave.step.drained");
  if (drained && lvri_load_relaxed_u32(first_of(a)) == first) bury_first(a);
  LVR_CRASHPOINT("grave.step.done");
}

void lvri_grave_empty(struct lvri_arena *a) {
  struct lvri_guard *g = lvri_arena_guard(a);
  while (lvri_load_relaxed_u32(first_of(a)) && lvri_guard_enter(a, g) == 0) {
    step(a);
    lvri_guard_leave(a, g);
    LVR_CRASHPOINT("grave.step.left");
  }
  lvri_heap_settle(a);
}

static bool belongs(struct lvri_arena *a, lvri_off off) {
  if (!lvri_heap_is_block(a, off)) return false;
  uint32_t kind = lvri_heap_kind(a, off);
  if (kind >= LVRI_KIND_LIMIT || !lvri_kinds[kind] || !lvri_kinds[kind]->drain_locked) return false;
  const struct lvri_object_shm *object = lvri_at(a, off);
  return object->ob_kind == kind && object->ob_refs == 0 && object->ob_travelling == 0;
}

bool lvri_grave_valid(struct lvri_arena *a, uint32_t members) {
  uint32_t at = lvri_load_relaxed_u32(first_of(a));
  for (; at && members; members--) {
    if (!belongs(a, linked(at))) return false;
    at = object_at(a, at)->ob_next;
  }
  return !at && !members;
}
