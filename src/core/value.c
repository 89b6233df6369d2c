#include "core/value.h"

#define DEFINE_GATHER(BITS)                                                                   \
  static void gather_##BITS(const _Atomic uint##BITS##_t *from, ptrdiff_t step, size_t count, \
                            uint##BITS##_t *to) {                                             \
    for (size_t i = 0; i < count; i++, from += step)                                          \
      to[i] = lvri_load_relaxed_u##BITS(from);                                                \
  }

#define DEFINE_SCATTER(BITS)                                                           \
  static void scatter_##BITS(_Atomic uint##BITS##_t *to, ptrdiff_t step, size_t count, \
                             const uint##BITS##_t *from) {                             \
    for (size_t i = 0; i < count; i++, to += step)                                     \
      lvri_store_relaxed_u##BITS(to, from[i]);                                         \
  }

LVRI_VALUE_SIZES(DEFINE_GATHER)
LVRI_VALUE_SIZES(DEFINE_SCATTER)

#define GATHER(BITS)                      \
  case BITS:                              \
    gather_##BITS(from, step, count, to); \
    return;
#define SCATTER(BITS)                      \
  case BITS:                               \
    scatter_##BITS(to, step, count, from); \
    return;

void lvri_value_gather(const void *from, ptrdiff_t step, size_t count, size_t item_bytes,
                       void *to) {
  switch (item_bytes * 8) {
    LVRI_VALUE_SIZES(GATHER)
    default:
      LVRI_ASSERT(false);
  }
}

void lvri_value_scatter(void *to, ptrdiff_t step, size_t count, size_t item_bytes,
                        const void *from) {
  switch (item_bytes * 8) {
    LVRI_VALUE_SIZES(SCATTER)
    default:
      LVRI_ASSERT(false);
  }
}
