/* barrier.h - a queue of those who have arrived, and a verdict over all of them at once. */
#ifndef LVRI_CORE_BARRIER_H
#define LVRI_CORE_BARRIER_H

#include "core/object.h"
#include "core/waiters.h"
#include "leveret/barrier.h"

/* ba_state. Everybody in the queue is of ba_generation, or there is a verdict on them that is not
 * carried out. */
#define LVRI_BARRIER_FULL    1u /* all have arrived; ba_leader, the last one, is to open it */
#define LVRI_BARRIER_BROKEN  2u /* until reset */
#define LVRI_BARRIER_PASS    4u /* verdict: whoever is in the queue may pass */
#define LVRI_BARRIER_BREAK   8u /* verdict: whoever is in the queue is told that it is broken */
#define LVRI_BARRIER_VERDICT (LVRI_BARRIER_PASS | LVRI_BARRIER_BREAK)

/* All: under the object's stripe, logged.
 *   ba_waiters      who has arrived, the leader included
 *   ba_generation   counts verdicts; the futex word: who waits sleeps while it is his
 *   ba_parties      constant
 *   ba_leader       while FULL
 *   ba_state        flags
 * ba_generation and ba_state are read without the guard, as a hint.
 * Crash: a verdict is one transaction, whoever comes into the guard next carries it out on the
 * rest of the queue before anything else. So all pass or none does. Who is killed while he is in
 * the queue breaks the barrier: when his neighbour in the queue notices, who sleeps on his alive
 * word, too; or when he is repaired; or at the relook. */
struct lvr_barrier_shm {
  struct lvri_object_shm ba_object;
  struct lvri_waiters ba_waiters;
  _Atomic uint32_t ba_generation;
  uint32_t ba_parties;
  uint64_t ba_leader;
  _Atomic uint32_t ba_state;
  uint32_t ba_spare;
};
_Static_assert(sizeof(struct lvr_barrier_shm) <= 128, "at most two cache lines");

struct lvr_barrier {
  struct lvri_handle handle;
};

/* For kinds.c. */
void lvri_barrier_fini_locked(struct lvri_arena *a, lvri_off object);
void lvri_barrier_left(struct lvri_arena *a, lvri_off object, lvr_proc_id who);
bool lvri_barrier_valid(struct lvri_arena *a, lvri_off object);

#endif
