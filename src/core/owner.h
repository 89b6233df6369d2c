/* owner.h - a process in one word: what a lock stores to say whose it is.
 *
 *   bit 63        54 53           32 31 30 29          16 15           0
 *      | generation |      pid      | W| A| generation   |  slot index  |
 *      | high 10    |      22       |  |  | low 14       |              |
 *
 * W (waiters) and A (abandoned) belong to the lock. The low half is a futex word. Slot 0 is never
 * used, so both the word and its low half are 0 only when nobody is the owner. Of a generation 24
 * bits are kept: a slot would have to be given away 16 million times between two looks to deceive,
 * and to a process of the same pid. */
#ifndef LVRI_CORE_OWNER_H
#define LVRI_CORE_OWNER_H

#include "core/arena.h"
#include "leveret/object.h"

#define LVRI_OWNER_WAITERS   (UINT64_C(1) << 31)
#define LVRI_OWNER_ABANDONED (UINT64_C(1) << 30)
#define LVRI_OWNER_BITS      (LVRI_OWNER_WAITERS | LVRI_OWNER_ABANDONED)
#define LVRI_OWNER_IDENTITY  (~LVRI_OWNER_BITS) /* who, without the lock's two bits */
#define LVRI_OWNER_PID_MAX   ((1 << 22) - 1)

/* A process id is generation << 16 | slot index. */
static inline uint32_t lvri_proc_index(lvr_proc_id id) { return (uint32_t)(id & 0xffff); }

static inline uint64_t lvri_proc_generation(lvr_proc_id id) { return id >> 16; }

static inline lvr_proc_id lvri_proc_id_of(uint64_t generation, uint32_t index) {
  return generation << 16 | index;
}

/* The word of process id whose pid is pid; neither bit is set. */
static inline uint64_t lvri_owner_make(lvr_proc_id id, int32_t pid) {
  uint64_t generation = lvri_proc_generation(id);
  return (generation >> 14 & 0x3ff) << 54 | ((uint64_t)pid & 0x3fffff) << 32 |
         (generation & 0x3fff) << 16 | lvri_proc_index(id);
}

static inline uint32_t lvri_owner_index(uint64_t word) { return (uint32_t)(word & 0xffff); }

static inline int32_t lvri_owner_pid(uint64_t word) { return (int32_t)(word >> 32 & 0x3fffff); }

/* The low 24 bits of it. */
static inline uint32_t lvri_owner_generation(uint64_t word) {
  return (uint32_t)((word >> 54 & 0x3ff) << 14 | (word >> 16 & 0x3fff));
}

/* The process that word stands for; 0 when its slot has been given away since: then it is dead.
 * Never fails on garbage. */
lvr_proc_id lvri_owner_id(struct lvri_arena *a, uint64_t word);

/* Whether that process lives: one load of its alive word as a rule. False for the word 0. */
bool lvri_owner_alive(struct lvri_arena *a, uint64_t word);

#endif
