/* guard.h - what is changed under a guard is changed wholly or not at all.
 *
 * A guard is a robust mutex with an undo journal behind it. Between enter and leave every change
 * to a shared word goes through lvri_set32() or lvri_set64(): the old value is written to the
 * journal, then the record is counted, then the word is changed. Leaving empties the journal with
 * one store: the commit. If the owner is killed, the next one to enter rolls back what was logged,
 * last first, and goes on as if the dead one had never been in.
 *
 *     int error = lvri_guard_enter(a, g);
 *     if (error) return error;                      // -ENOTRECOVERABLE: a corrupt arena
 *     lvri_set64(a, g, &o->ob_count, o->ob_count + 1);
 *     if (no_memory) { lvri_guard_abort(a, g); return -ENOMEM; }     // as it was before
 *     lvri_guard_leave(a, g);
 *
 * Memory that nobody can reach yet (a block just allocated) need not be logged. Who reads a guarded
 * word without the guard may see a value that is rolled back later: he must bear that. Plain code
 * between enter and leave: no wait, no system call that may sleep long, no call into user code.
 *
 * One guard is not enough for two things at once: changes under two guards are two commits. */
#ifndef LVRI_CORE_GUARD_H
#define LVRI_CORE_GUARD_H

#include <stdint.h>

#include "base/off.h"
#include "core/mutex.h"

struct lvri_arena;

/* Old value of a word. Written by the guard's owner only.
 * gr_where: offset of the word; the lowest bit is set for one of 64 bits, clear for one of 32. */
struct lvri_guard_record {
  uint64_t gr_where;
  uint64_t gr_old;
};
_Static_assert(sizeof(struct lvri_guard_record) == 16, "layout");

/* In the arena, followed by gd_capacity records.
 *   gd_mutex     by its own protocol
 *   gd_count     records that count; by the owner only; 0 whenever nobody is in: the commit
 *   gd_rank, gd_capacity    constant
 *   gd_repairs   how often a dead owner's changes were rolled back; by the owner only, not logged;
 *                read at any time, for statistics
 * Crash: a record is complete before it is counted, and counted before its word is changed. So each
 * word changed since enter has its old value in a record below gd_count, and writing back a
 * record twice, or one whose word was not changed yet, does no harm: a repairer may die
 * anywhere. */
struct lvri_guard {
  _Alignas(64) struct lvri_mutex gd_mutex;
  _Atomic uint32_t gd_count;
  uint32_t gd_capacity;
  uint32_t gd_rank;
  _Atomic uint32_t gd_repairs;
};
_Static_assert(sizeof(struct lvri_guard) == 64, "the records follow");

/* Makes a guard with room for `capacity` records behind it. */
int lvri_guard_init(struct lvri_guard *g, enum lvri_rank rank, uint32_t capacity);

/* Waits for the guard and enters; undoes what a dead owner left half done.
 * 0, -ENOTRECOVERABLE: its journal is corrupt; not entered. */
int lvri_guard_enter(struct lvri_arena *a, struct lvri_guard *g);

/* Commits, unlocks. */
void lvri_guard_leave(struct lvri_arena *a, struct lvri_guard *g);

/* Undoes every change since enter, unlocks. */
void lvri_guard_abort(struct lvri_arena *a, struct lvri_guard *g);

/* Commits what was done so far and stays in: for long work in steps, each whole in itself. */
void lvri_guard_commit(struct lvri_arena *a, struct lvri_guard *g);

/* The same, and not a word more: the heap's trimming, which each other commit may lead to, goes by
 * it. */
void lvri_guard_commit_only(struct lvri_guard *g);

/* How many more words this critical section may change. */
uint32_t lvri_guard_room(const struct lvri_guard *g);

/* Where we are in the journal, and back to there: undoes the changes since that mark, stays in. */
uint32_t lvri_guard_mark(const struct lvri_guard *g);
void lvri_guard_rollback_to(struct lvri_arena *a, struct lvri_guard *g, uint32_t mark);

/* Logged stores. */
void lvri_set32(struct lvri_arena *a, struct lvri_guard *g, uint32_t *field, uint32_t value);
void lvri_set64(struct lvri_arena *a, struct lvri_guard *g, uint64_t *field, uint64_t value);

/* Logged stores, with release order, of words that others read without the guard. */
void lvri_set32_shared(struct lvri_arena *a, struct lvri_guard *g, _Atomic uint32_t *field,
                       uint32_t value);
void lvri_set64_shared(struct lvri_arena *a, struct lvri_guard *g, _Atomic uint64_t *field,
                       uint64_t value);

/* Logged copy of `bytes` (a multiple of 8) to `to` (8-byte aligned): a record for every 8. */
void lvri_set_words(struct lvri_arena *a, struct lvri_guard *g, void *to, const void *from,
                    uint32_t bytes);

/* For tests and checks, in the guard: the journal is in order. 0, -EUCLEAN. */
int lvri_guard_valid(const struct lvri_arena *a, const struct lvri_guard *g);

#endif
