/* atomic.h - the only home of memory orders.
 *
 * Shared words that are read without a lock are _Atomic fields, touched by these functions alone:
 * the order is in the name, and each use says what it pairs with. All are lock-free, hence safe
 * between processes. */
#ifndef LVRI_BASE_ATOMIC_H
#define LVRI_BASE_ATOMIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

_Static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2, "atomics need a lock");
_Static_assert(sizeof(_Atomic uint32_t) == 4 && sizeof(_Atomic uint64_t) == 8, "padded atomics");
_Static_assert(sizeof(_Atomic uint8_t) == 1 && sizeof(_Atomic uint16_t) == 2, "padded atomics");

/* Items of shared values: see core/value.h. */
static inline uint8_t lvri_load_relaxed_u8(const _Atomic uint8_t *word) {
  return atomic_load_explicit(word, memory_order_relaxed);
}

static inline void lvri_store_relaxed_u8(_Atomic uint8_t *word, uint8_t value) {
  atomic_store_explicit(word, value, memory_order_relaxed);
}

static inline uint16_t lvri_load_relaxed_u16(const _Atomic uint16_t *word) {
  return atomic_load_explicit(word, memory_order_relaxed);
}

static inline void lvri_store_relaxed_u16(_Atomic uint16_t *word, uint16_t value) {
  atomic_store_explicit(word, value, memory_order_relaxed);
}

static inline uint32_t lvri_load_relaxed_u32(const _Atomic uint32_t *word) {
  return atomic_load_explicit(word, memory_order_relaxed);
}

static inline uint32_t lvri_load_acquire_u32(const _Atomic uint32_t *word) {
  return atomic_load_explicit(word, memory_order_acquire);
}

static inline void lvri_store_relaxed_u32(_Atomic uint32_t *word, uint32_t value) {
  atomic_store_explicit(word, value, memory_order_relaxed);
}

static inline void lvri_store_release_u32(_Atomic uint32_t *word, uint32_t value) {
  atomic_store_explicit(word, value, memory_order_release);
}

static inline void lvri_store_seq_u32(_Atomic uint32_t *word, uint32_t value) {
  atomic_store_explicit(word, value, memory_order_seq_cst);
}

static inline uint32_t lvri_exchange_acquire_u32(_Atomic uint32_t *word, uint32_t value) {
  return atomic_exchange_explicit(word, value, memory_order_acquire);
}

static inline uint32_t lvri_exchange_release_u32(_Atomic uint32_t *word, uint32_t value) {
  return atomic_exchange_explicit(word, value, memory_order_release);
}

static inline uint32_t lvri_exchange_acq_rel_u32(_Atomic uint32_t *word, uint32_t value) {
  return atomic_exchange_explicit(word, value, memory_order_acq_rel);
}

/* Puts wanted where *expected is; else tells in *expected what was there. */
static inline bool lvri_cas_relaxed_u32(_Atomic uint32_t *word, uint32_t *expected,
                                        uint32_t wanted) {
  return atomic_compare_exchange_strong_explicit(word, expected, wanted, memory_order_relaxed,
                                                 memory_order_relaxed);
}

static inline bool lvri_cas_acquire_u32(_Atomic uint32_t *word, uint32_t *expected,
                                        uint32_t wanted) {
  return atomic_compare_exchange_strong_explicit(word, expected, wanted, memory_order_acquire,
                                                 memory_order_acquire);
}

static inline bool lvri_cas_release_u32(_Atomic uint32_t *word, uint32_t *expected,
                                        uint32_t wanted) {
  return atomic_compare_exchange_strong_explicit(word, expected, wanted, memory_order_release,
                                                 memory_order_relaxed);
}

static inline bool lvri_cas_acq_rel_u32(_Atomic uint32_t *word, uint32_t *expected,
                                        uint32_t wanted) {
  return atomic_compare_exchange_strong_explicit(word, expected, wanted, memory_order_acq_rel,
                                                 memory_order_acquire);
}

static inline uint32_t lvri_fetch_add_relaxed_u32(_Atomic uint32_t *word, uint32_t value) {
  return atomic_fetch_add_explicit(word, value, memory_order_relaxed);
}

static inline uint32_t lvri_fetch_add_acq_rel_u32(_Atomic uint32_t *word, uint32_t value) {
  return atomic_fetch_add_explicit(word, value, memory_order_acq_rel);
}

static inline uint32_t lvri_fetch_add_release_u32(_Atomic uint32_t *word, uint32_t value) {
  return atomic_fetch_add_explicit(word, value, memory_order_release);
}

static inline uint32_t lvri_fetch_sub_relaxed_u32(_Atomic uint32_t *word, uint32_t value) {
  return atomic_fetch_sub_explicit(word, value, memory_order_relaxed);
}

static inline uint32_t lvri_fetch_sub_acq_rel_u32(_Atomic uint32_t *word, uint32_t value) {
  return atomic_fetch_sub_explicit(word, value, memory_order_acq_rel);
}

static inline uint32_t lvri_fetch_sub_release_u32(_Atomic uint32_t *word, uint32_t value) {
  return atomic_fetch_sub_explicit(word, value, memory_order_release);
}

static inline uint32_t lvri_fetch_or_relaxed_u32(_Atomic uint32_t *word, uint32_t value) {
  return atomic_fetch_or_explicit(word, value, memory_order_relaxed);
}

static inline uint32_t lvri_fetch_or_acq_rel_u32(_Atomic uint32_t *word, uint32_t value) {
  return atomic_fetch_or_explicit(word, value, memory_order_acq_rel);
}

static inline uint32_t lvri_fetch_or_release_u32(_Atomic uint32_t *word, uint32_t value) {
  return atomic_fetch_or_explicit(word, value, memory_order_release);
}

static inline uint32_t lvri_fetch_or_acquire_u32(_Atomic uint32_t *word, uint32_t value) {
  return atomic_fetch_or_explicit(word, value, memory_order_acquire);
}

static inline uint32_t lvri_fetch_and_relaxed_u32(_Atomic uint32_t *word, uint32_t value) {
  return atomic_fetch_and_explicit(word, value, memory_order_relaxed);
}

static inline uint32_t lvri_fetch_and_acq_rel_u32(_Atomic uint32_t *word, uint32_t value) {
  return atomic_fetch_and_explicit(word, value, memory_order_acq_rel);
}

static inline uint32_t lvri_fetch_and_release_u32(_Atomic uint32_t *word, uint32_t value) {
  return atomic_fetch_and_explicit(word, value, memory_order_release);
}

static inline uint32_t lvri_fetch_and_acquire_u32(_Atomic uint32_t *word, uint32_t value) {
  return atomic_fetch_and_explicit(word, value, memory_order_acquire);
}

static inline uint64_t lvri_load_relaxed_u64(const _Atomic uint64_t *word) {
  return atomic_load_explicit(word, memory_order_relaxed);
}

static inline uint64_t lvri_load_acquire_u64(const _Atomic uint64_t *word) {
  return atomic_load_explicit(word, memory_order_acquire);
}

static inline void lvri_store_relaxed_u64(_Atomic uint64_t *word, uint64_t value) {
  atomic_store_explicit(word, value, memory_order_relaxed);
}

static inline void lvri_store_release_u64(_Atomic uint64_t *word, uint64_t value) {
  atomic_store_explicit(word, value, memory_order_release);
}

static inline void lvri_store_seq_u64(_Atomic uint64_t *word, uint64_t value) {
  atomic_store_explicit(word, value, memory_order_seq_cst);
}

static inline uint64_t lvri_exchange_acquire_u64(_Atomic uint64_t *word, uint64_t value) {
  return atomic_exchange_explicit(word, value, memory_order_acquire);
}

static inline uint64_t lvri_exchange_release_u64(_Atomic uint64_t *word, uint64_t value) {
  return atomic_exchange_explicit(word, value, memory_order_release);
}

static inline uint64_t lvri_exchange_acq_rel_u64(_Atomic uint64_t *word, uint64_t value) {
  return atomic_exchange_explicit(word, value, memory_order_acq_rel);
}

/* Puts wanted where *expected is; else tells in *expected what was there. */
static inline bool lvri_cas_relaxed_u64(_Atomic uint64_t *word, uint64_t *expected,
                                        uint64_t wanted) {
  return atomic_compare_exchange_strong_explicit(word, expected, wanted, memory_order_relaxed,
                                                 memory_order_relaxed);
}

static inline bool lvri_cas_acquire_u64(_Atomic uint64_t *word, uint64_t *expected,
                                        uint64_t wanted) {
  return atomic_compare_exchange_strong_explicit(word, expected, wanted, memory_order_acquire,
                                                 memory_order_acquire);
}

static inline bool lvri_cas_release_u64(_Atomic uint64_t *word, uint64_t *expected,
                                        uint64_t wanted) {
  return atomic_compare_exchange_strong_explicit(word, expected, wanted, memory_order_release,
                                                 memory_order_relaxed);
}

static inline bool lvri_cas_acq_rel_u64(_Atomic uint64_t *word, uint64_t *expected,
                                        uint64_t wanted) {
  return atomic_compare_exchange_strong_explicit(word, expected, wanted, memory_order_acq_rel,
                                                 memory_order_acquire);
}

static inline uint64_t lvri_fetch_add_relaxed_u64(_Atomic uint64_t *word, uint64_t value) {
  return atomic_fetch_add_explicit(word, value, memory_order_relaxed);
}

static inline uint64_t lvri_fetch_add_acq_rel_u64(_Atomic uint64_t *word, uint64_t value) {
  return atomic_fetch_add_explicit(word, value, memory_order_acq_rel);
}

static inline uint64_t lvri_fetch_add_release_u64(_Atomic uint64_t *word, uint64_t value) {
  return atomic_fetch_add_explicit(word, value, memory_order_release);
}

static inline uint64_t lvri_fetch_sub_relaxed_u64(_Atomic uint64_t *word, uint64_t value) {
  return atomic_fetch_sub_explicit(word, value, memory_order_relaxed);
}

static inline uint64_t lvri_fetch_sub_acq_rel_u64(_Atomic uint64_t *word, uint64_t value) {
  return atomic_fetch_sub_explicit(word, value, memory_order_acq_rel);
}

static inline uint64_t lvri_fetch_sub_release_u64(_Atomic uint64_t *word, uint64_t value) {
  return atomic_fetch_sub_explicit(word, value, memory_order_release);
}

static inline uint64_t lvri_fetch_or_relaxed_u64(_Atomic uint64_t *word, uint64_t value) {
  return atomic_fetch_or_explicit(word, value, memory_order_relaxed);
}

static inline uint64_t lvri_fetch_or_acq_rel_u64(_Atomic uint64_t *word, uint64_t value) {
  return atomic_fetch_or_explicit(word, value, memory_order_acq_rel);
}

static inline uint64_t lvri_fetch_or_release_u64(_Atomic uint64_t *word, uint64_t value) {
  return atomic_fetch_or_explicit(word, value, memory_order_release);
}

static inline uint64_t lvri_fetch_or_acquire_u64(_Atomic uint64_t *word, uint64_t value) {
  return atomic_fetch_or_explicit(word, value, memory_order_acquire);
}

static inline uint64_t lvri_fetch_and_relaxed_u64(_Atomic uint64_t *word, uint64_t value) {
  return atomic_fetch_and_explicit(word, value, memory_order_relaxed);
}

static inline uint64_t lvri_fetch_and_acq_rel_u64(_Atomic uint64_t *word, uint64_t value) {
  return atomic_fetch_and_explicit(word, value, memory_order_acq_rel);
}

static inline uint64_t lvri_fetch_and_release_u64(_Atomic uint64_t *word, uint64_t value) {
  return atomic_fetch_and_explicit(word, value, memory_order_release);
}

static inline uint64_t lvri_fetch_and_acquire_u64(_Atomic uint64_t *word, uint64_t value) {
  return atomic_fetch_and_explicit(word, value, memory_order_acquire);
}

/* Pointers, which lie in process-private memory only. */
static inline void *lvri_load_acquire_ptr(void *_Atomic const *word) {
  return atomic_load_explicit(word, memory_order_acquire);
}

static inline void lvri_store_release_ptr(void *_Atomic *word, void *value) {
  atomic_store_explicit(word, value, memory_order_release);
}

static inline bool lvri_cas_acq_rel_ptr(void *_Atomic *word, void **expected, void *wanted) {
  return atomic_compare_exchange_strong_explicit(word, expected, wanted, memory_order_acq_rel,
                                                 memory_order_acquire);
}

/* All loads and stores before it come before all after it, for everybody. */
static inline void lvri_fence_seq(void) { atomic_thread_fence(memory_order_seq_cst); }

/* The same, right behind a read-modify-write, which is one already on some processors. */
static inline void lvri_fence_seq_behind_rmw(void) {
#if defined(__x86_64__) || defined(__i386__)
  atomic_signal_fence(memory_order_seq_cst);
#else
  atomic_thread_fence(memory_order_seq_cst);
#endif
}

/* Keeps the compiler from moving stores over it. Enough where only our own death may come
 * between: the kernel unlocks a dead thread's robust mutexes after all its stores. */
static inline void lvri_fence_compiler(void) { atomic_signal_fence(memory_order_seq_cst); }

/* The hint to give in a spinning loop. */
static inline void lvri_cpu_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

#endif
