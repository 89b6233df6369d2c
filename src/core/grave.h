/* grave.h - objects that nobody refers to any more and that still refer to something.
 *
 * What hangs on an object may be more than one journal holds: so an object of a kind that has
 * drain_locked() is not freed by its last unref. That puts it into the list that begins at
 * ah_grave, in the same transaction, and whoever did it empties the list once he has left the
 * guard: step by step, each a transaction that gives back at most one reference, or frees one part,
 * or at last the object itself. Nothing recurses: what loses its last reference on the way comes
 * before the one that referred to it.
 *
 *   ah_grave -> object -> object -> 0        linked by ob_next, last in, first out
 *
 * An object in the grave has no references, so nobody can attach it.
 *
 * Crash: killed between two steps, the list is as the last one left it; killed in one, it is rolled
 * back. The next one who frees anything, or repairs anybody, goes on. */
#ifndef LVRI_CORE_GRAVE_H
#define LVRI_CORE_GRAVE_H

#include "core/kinds.h"

/* Most words that a step of drain_locked() may change, but for the one lvri_object_unref_locked()
 * that it may call. */
#define LVRI_DRAIN_RECORDS 64u

/* The last reference of the object is gone. In the arena's guard; two words. */
void lvri_grave_put_locked(struct lvri_arena *a, lvri_off object);

/* Drains and frees what is in the grave, until nothing is; then trims the heap likewise. Two loads
 * if there is nothing to do. No guard is held. */
void lvri_grave_empty(struct lvri_arena *a);

/* In the guard: the list has that many members, each an object that belongs there. */
bool lvri_grave_valid(struct lvri_arena *a, uint32_t members);

#endif
