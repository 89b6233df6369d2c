/* condition.h - a queue of waiters; each sleeps on a word of its own. */
#ifndef LVRI_CORE_CONDITION_H
#define LVRI_CORE_CONDITION_H

#include "core/object.h"
#include "core/waiters.h"
#include "leveret/condition.h"

/* co_waiters: under the object's stripe.
 * Crash: joining, being notified and leaving are one transaction each. Who notifies and is killed
 * before the wake-up leaves a waiter that is notified and asleep until its relook. The record of a
 * waiter that was killed is skipped and freed by the next notification, and freed by repair. */
struct lvr_condition_shm {
  struct lvri_object_shm co_object;
  struct lvri_waiters co_waiters;
};
_Static_assert(sizeof(struct lvr_condition_shm) <= 128, "at most two cache lines");

struct lvr_condition {
  struct lvri_handle handle;
};

/* For kinds.c. */
void lvri_condition_fini_locked(struct lvri_arena *a, lvri_off object);
void lvri_condition_left(struct lvri_arena *a, lvri_off object, lvr_proc_id who);
bool lvri_condition_valid(struct lvri_arena *a, lvri_off object);

#endif
