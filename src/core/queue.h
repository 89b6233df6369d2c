/* queue.h - a channel that any number of processes put into and get from. */
#ifndef LVRI_CORE_QUEUE_H
#define LVRI_CORE_QUEUE_H

#include "core/channel.h"
#include "core/object.h"
#include "leveret/queue.h"

/* qu_done    messages that are done, lost ones included: unfinished = tail.count - qu_done
 * qu_lost    of these, those whose receiver died
 * qu_strange how many were called done by processes that held none: they are still on somebody's
 *            books
 * The three: of joinable queues, under the arena's guard, logged. Others read qu_done to see
 * whether it is worth while to enter.
 * qu_joined  futex word: counted up when nothing is unfinished any more; not logged, for a wake-up
 *            too many does no harm and one too few is healed by the relook
 *
 * Always: qu_done + (le_held of all ledgers) - qu_strange = messages got.
 *
 * Crash: taking a message and holding its unit is one transaction (core/channel.h), calling it done
 * is another. */
struct lvr_queue_shm {
  struct lvri_object_shm qu_object;
  _Atomic uint32_t qu_done;
  _Atomic uint32_t qu_lost;
  _Atomic uint32_t qu_joined;
  uint32_t qu_strange;
  uint32_t qu_reserved[6];
  struct lvri_channel_shm qu_channel;
};
_Static_assert(sizeof(struct lvr_queue_shm) == 384, "a size of blocks of the heap");

struct lvr_queue {
  struct lvri_handle handle;
  struct lvri_channel channel;
  uint32_t told_lost; /* how many lost messages a join of this handle has told of; in the guard */
};

/* For kinds.c. */
bool lvri_queue_drain_locked(struct lvri_arena *a, lvri_off object);
void lvri_queue_each_reference(struct lvri_arena *a, lvri_off object,
                               void (*visit)(void *context, lvri_off to), void *context);
int lvri_queue_give_back(struct lvri_arena *a, lvri_off object, uint32_t *held);
void lvri_queue_close(struct lvri_handle *h);
bool lvri_queue_valid(struct lvri_arena *a, lvri_off object);

#endif
