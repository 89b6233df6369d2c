/* value.h - numbers that processes share and change without a lock.
 *
 * A shared value is memory of a block; a number in it may lie at any multiple of its size:
 *
 *     lvr_block *b;
 *     int error = lvr_block_create(s, sizeof(uint64_t), LVR_BLOCK_ZEROED, &b);
 *     if (error) return error;
 *     uint64_t *counter = lvr_block_data(b);
 *     (void)lvr_value_fetch_add_u64(counter, 1);
 *
 * Each of these is one step for all processes, never half done, whoever is killed. All of them are
 * sequentially consistent: everybody sees them in the same order, and who sees what one of them
 * wrote sees all that its process had written before.
 *
 * Caller:  any thread of any process that has the block; a signal handler, too.
 * Locks:   none, and nobody who holds one is waited for.   Fork: as before it.
 * Numbers: unsigned, and they wrap around; of a signed one its bits: the cast there and back is
 *          all there is to it. */
#ifndef LEVERET_VALUE_H
#define LEVERET_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "block.h"

#ifdef __cplusplus
extern "C" {
#endif

static inline uint32_t lvr_value_load_u32(const uint32_t *v) {
  return __atomic_load_n(v, __ATOMIC_SEQ_CST);
}

static inline void lvr_value_store_u32(uint32_t *v, uint32_t number) {
  __atomic_store_n(v, number, __ATOMIC_SEQ_CST);
}

/* The number that was there before: so in fetch_add and in exchange. */
static inline uint32_t lvr_value_fetch_add_u32(uint32_t *v, uint32_t number) {
  return __atomic_fetch_add(v, number, __ATOMIC_SEQ_CST);
}

static inline uint32_t lvr_value_exchange_u32(uint32_t *v, uint32_t number) {
  return __atomic_exchange_n(v, number, __ATOMIC_SEQ_CST);
}

/* Whether `*expected` was there, and `number` is now; else *expected is what was there. */
static inline bool lvr_value_compare_exchange_u32(uint32_t *v, uint32_t *expected,
                                                  uint32_t number) {
  return __atomic_compare_exchange_n(v, expected, number, false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST);
}

static inline uint64_t lvr_value_load_u64(const uint64_t *v) {
  return __atomic_load_n(v, __ATOMIC_SEQ_CST);
}

static inline void lvr_value_store_u64(uint64_t *v, uint64_t number) {
  __atomic_store_n(v, number, __ATOMIC_SEQ_CST);
}

static inline uint64_t lvr_value_fetch_add_u64(uint64_t *v, uint64_t number) {
  return __atomic_fetch_add(v, number, __ATOMIC_SEQ_CST);
}

static inline uint64_t lvr_value_exchange_u64(uint64_t *v, uint64_t number) {
  return __atomic_exchange_n(v, number, __ATOMIC_SEQ_CST);
}

static inline bool lvr_value_compare_exchange_u64(uint64_t *v, uint64_t *expected,
                                                  uint64_t number) {
  return __atomic_compare_exchange_n(v, expected, number, false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST);
}

#ifdef __cplusplus
}
#endif

#endif
