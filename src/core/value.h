/* value.h - items in shared memory, each of them read and written whole.
 *
 * What is under a lock may at the same time be changed without it (leveret/value.h), or by a
 * process that ignores the lock. So an item of 1, 2, 4 or 8 bytes, which lies at a multiple of its
 * size, is always one load or one store, in one item as in a thousand. The order is the lock's. */
#ifndef LVRI_CORE_VALUE_H
#define LVRI_CORE_VALUE_H

#include <stddef.h>
#include <string.h>

#include "base/assert.h"
#include "base/atomic.h"
#include "leveret/value.h"

/* A distance in items, and which way: from[0], from[step], from[2 * step], ... */
void lvri_value_gather(const void *from, ptrdiff_t step, size_t count, size_t item_bytes, void *to);
void lvri_value_scatter(void *to, ptrdiff_t step, size_t count, size_t item_bytes,
                        const void *from);

/* X(bits) for each size of item */
#define LVRI_VALUE_SIZES(X) X(8) X(16) X(32) X(64)

/* One item: `to`, or `from`, is private and may lie anywhere. */
static inline void lvri_value_load(const void *from, size_t item_bytes, void *to) {
  switch (item_bytes * 8) {
#define LVRI_LOAD(BITS)                                                                      \
  case BITS: {                                                                               \
    uint##BITS##_t item = lvri_load_relaxed_u##BITS((const _Atomic uint##BITS##_t *)(from)); \
    memcpy(to, &item, sizeof(item));                                                         \
    return;                                                                                  \
  }
    LVRI_VALUE_SIZES(LVRI_LOAD)
#undef LVRI_LOAD
    default:
      LVRI_ASSERT(false);
  }
}

static inline void lvri_value_store(void *to, size_t item_bytes, const void *from) {
  switch (item_bytes * 8) {
#define LVRI_STORE(BITS)                                              \
  case BITS: {                                                        \
    uint##BITS##_t item;                                              \
    memcpy(&item, from, sizeof(item));                                \
    lvri_store_relaxed_u##BITS((_Atomic uint##BITS##_t *)(to), item); \
    return;                                                           \
  }
    LVRI_VALUE_SIZES(LVRI_STORE)
#undef LVRI_STORE
    default:
      LVRI_ASSERT(false);
  }
}

#endif
