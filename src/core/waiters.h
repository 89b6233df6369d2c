/* waiters.h - a queue of those who wait for a condition or at a barrier: first come, first out.
 *
 *   ws_chunk[0] --> 4 records, [1] --> 16, [2] --> 64, ...       each numbered, from 1
 *   ws_head ... ws_tail     queued, oldest first
 *   ws_free ...             used before, free now
 *   ws_used + 1 ...         never used
 *
 * The records belong to the object and die with it, so nothing is lost with a waiter that is
 * killed: its record is found by its owner's name and freed. Chunks stay where they are: who sleeps
 * on a record needs no guard for it. */
#ifndef LVRI_CORE_WAITERS_H
#define LVRI_CORE_WAITERS_H

#include "base/atomic.h"
#include "core/arena.h"
#include "leveret/object.h"

#define LVRI_WAITERS_CHUNKS  7u /* 4 + 16 + ... + 16384 records: 21844 waiters at once */
#define LVRI_WAITERS_RECORDS 8u /* words that one operation below changes, at most */

enum lvri_waiter_state {
  LVRI_WAITER_FREE,
  LVRI_WAITER_QUEUED,
  LVRI_WAITER_PASSED, /* out of the queue: it was notified, or let through */
  LVRI_WAITER_BROKEN  /* out of the queue: the barrier was broken */
};

/* wa_state: futex word; who waits sleeps while it is QUEUED. All fields: under the object's stripe,
 * logged. Without it only the owner reads wa_state, as a hint: what is true is what it finds in the
 * guard. */
struct lvri_waiter {
  uint64_t wa_owner; /* the process; 0 when free */
  _Atomic uint32_t wa_state;
  uint32_t wa_next; /* in the queue, or in the list of free ones; 0: none */
  uint32_t wa_prev;
  uint32_t wa_spare[3];
};
_Static_assert(sizeof(struct lvri_waiter) == 32, "two to a cache line");

/* ws_chunk: under the stripe and the arena's guard, logged in the latter; the rest under the
 * stripe, logged.
 * ws_count: of the queued ones; read at any time.
 * Always: a record is free (in the free list, or above ws_used), or it has an owner; it is in the
 * queue if and only if its state is QUEUED. */
struct lvri_waiters {
  lvri_off ws_chunk[LVRI_WAITERS_CHUNKS];
  uint32_t ws_used;
  uint32_t ws_free;
  uint32_t ws_head;
  uint32_t ws_tail;
  _Atomic uint32_t ws_count;
  uint32_t ws_spare;
};
_Static_assert(sizeof(struct lvri_waiters) == 80, "it leaves 24 bytes to a barrier");

/* All but fini and find: the caller holds the object's stripe, g. */

/* The record of that number. */
struct lvri_waiter *lvri_waiters_at(struct lvri_arena *a, const struct lvri_waiters *ws,
                                    uint32_t number);

/* A record for owner, at the end of the queue. Takes the arena's guard if there is none left.
 * 0, -ENOMEM, -ENOTRECOVERABLE. */
int lvri_waiters_join(struct lvri_arena *a, struct lvri_guard *g, struct lvri_waiters *ws,
                      lvr_proc_id owner, uint32_t *ret_number);

/* Takes a queued record out of the queue; its state says why, from now on. */
void lvri_waiters_take_out(struct lvri_arena *a, struct lvri_guard *g, struct lvri_waiters *ws,
                           uint32_t number, enum lvri_waiter_state why);

/* Frees a record, queued or not. */
void lvri_waiters_free(struct lvri_arena *a, struct lvri_guard *g, struct lvri_waiters *ws,
                       uint32_t number);

/* The first record from `number` on that is not free; 0: none. */
uint32_t lvri_waiters_next_used(struct lvri_arena *a, const struct lvri_waiters *ws,
                                uint32_t number);

/* Frees all records' memory; the caller holds the arena's guard, and nobody else can reach ws. */
void lvri_waiters_fini_locked(struct lvri_arena *a, struct lvri_waiters *ws);

/* The equations above hold. */
bool lvri_waiters_valid(struct lvri_arena *a, const struct lvri_waiters *ws);

#endif
