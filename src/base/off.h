/* off.h - places in the arena.
 *
 * Every process maps the arena at an address of its own, so what lies in it names other things
 * in it by their distance from its start. 0 is nowhere: the header lies there. */
#ifndef LVRI_BASE_OFF_H
#define LVRI_BASE_OFF_H

#include <stddef.h>
#include <stdint.h>

typedef uint64_t lvri_off;

/* The address of off in a mapping that starts at base; NULL for nowhere. */
static inline void *lvri_ptr(const void *base, lvri_off off) {
  return off ? (void *)((uintptr_t)base + (uintptr_t)off) : NULL;
}

/* The place of ptr in a mapping that starts at base; nowhere for NULL. */
static inline lvri_off lvri_off_of(const void *base, const void *ptr) {
  return ptr ? (lvri_off)((uintptr_t)ptr - (uintptr_t)base) : 0;
}

#endif
