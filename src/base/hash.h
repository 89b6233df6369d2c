/* hash.h - small, fast hashes; none of them withstands an enemy. */
#ifndef LVRI_BASE_HASH_H
#define LVRI_BASE_HASH_H

#include <stdint.h>

/* Spreads the bits of x over the whole word (the finalizer of MurmurHash3, public domain). */
static inline uint64_t lvri_hash_u64(uint64_t x) {
  x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdULL;
  x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53ULL;
  return x ^ (x >> 33);
}

/* A hash of what h stands for, followed by x: the order counts. */
static inline uint64_t lvri_hash_mix(uint64_t h, uint64_t x) {
  return lvri_hash_u64(h * 0x9e3779b97f4a7c15ULL + x);
}

#endif
