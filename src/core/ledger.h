/* ledger.h - which shared objects a process refers to, kept where its survivors can read it. */
#ifndef LVRI_CORE_LEDGER_H
#define LVRI_CORE_LEDGER_H

#include "core/arena.h"
#include "leveret/object.h"

#define LVRI_LEDGER_FIRST  16u /* entries in chunk 0, which lies in the ledger's own block */
#define LVRI_LEDGER_LEAVES 64u
#define LVRI_LEDGER_CHUNKS 18u /* chunk k has LVRI_LEDGER_FIRST << k entries */

/* An object that the process refers to.
 *   le_object  offset of the object; 0: unused. Arena's guard, logged (below lg_len)
 *   le_held    units that come back when the process dies: by the object's kind, under the object's
 *              stripe, logged there. Of an unused entry: index + 1 of the next unused one; arena's
 *              guard
 * An entry never moves, and its memory stays until the process has been repaired: a stripe's
 * journal may still want to write le_held back after the process is dead. */
struct lvri_ledger_entry {
  uint64_t le_object;
  uint32_t le_held;
  uint32_t le_reserved;
};

/* A process's ledger. All under the arena's guard, logged; of a running process changed by itself
 * alone, under its session's mutex too, so that it may read it holding only that.
 *   lg_used    entries with an object
 *   lg_len     entries that have ever been used; those above mean nothing
 *   lg_free    index + 1 of the first unused entry below lg_len, 0 none
 *   lg_chunks  chunks that exist, number 0 not counted
 *   lg_chunk   where they are; [0] is in the ledger's own block and stays 0
 * Always: lg_used + length of the list of unused ones == lg_len; each le_object is an object of
 * whose references this is one.
 * Crash: an entry and the reference it stands for change in one transaction. */
struct lvri_ledger {
  uint32_t lg_used;
  uint32_t lg_len;
  uint32_t lg_free;
  uint32_t lg_chunks;
  lvri_off lg_chunk[LVRI_LEDGER_CHUNKS];
  struct lvri_ledger_entry lg_first[LVRI_LEDGER_FIRST];
};

_Static_assert(sizeof(struct lvri_ledger_entry) == 16, "layout");
_Static_assert(sizeof(struct lvri_ledger) <= 448, "seven lines");

/* Enter an object (the caller counts the reference). Caller holds the arena's guard, for a living
 * process its table's mutex too. 0, -ENOMEM, -ESRCH. */
int lvri_ledger_add_locked(struct lvri_arena *a, lvr_proc_id who, lvri_off object,
                           uint32_t *ret_index);

/* Strike an entry out (the caller counts the reference). The ledger goes with its last entry, as
 * far as the journal has room for that: room for LVRI_LEDGER_LEAVES words is left. */
void lvri_ledger_drop_locked(struct lvri_arena *a, lvr_proc_id who, uint32_t index);

/* Before a fork: the ledger of an embryo that has none becomes a copy of from's, index by index,
 * without units. Enters the guard itself, in batches; the caller
 * sees to it that from's ledger does not change meanwhile. 0, -ENOMEM, -ESRCH, -ENOTRECOVERABLE. */
int lvri_ledger_copy(struct lvri_arena *a, lvr_proc_id from, lvr_proc_id to);

/* The entry at index; it stays where it is until the process has been repaired. */
struct lvri_ledger_entry *lvri_ledger_entry(struct lvri_arena *a, lvri_off ledger, uint32_t index);

/* For the repairer and for withdrawals, with the guard held: how many entries there may be, and,
 * once all are struck out, the end of it: frees what the journal has room for; true: nothing is
 * left. */
uint32_t lvri_ledger_len(struct lvri_arena *a, lvri_off ledger);
bool lvri_ledger_discard_locked(struct lvri_arena *a, lvri_off *field);

/* Calls visit for each entry with an object. */
void lvri_ledger_each(struct lvri_arena *a, lvri_off ledger,
                      void (*visit)(void *context, uint32_t index,
                                    const struct lvri_ledger_entry *entry),
                      void *context);

/* The ledger's own equations; not whole: it is being filled or emptied, and its list of unused
 * entries may lag behind. The caller holds the guard. 0, -EUCLEAN. */
int lvri_ledger_valid(struct lvri_arena *a, lvri_off ledger, bool whole);

#endif
