/* ledger.h - which shared objects a process refers to, kept where its survivors can read it. */
#ifndef LVRI_CORE_LEDGER_H
#define LVRI_CORE_LEDGER_H

#include "core/arena.h"
#include "leveret/object.h"

struct lvri_ledger_entry {
    uint64_t le_object; /* offset of the object; 0: unused, le_held is the next unused one's index + 1 */
    uint32_t le_held;   /* units that come back when the process dies */
    uint32_t le_flags;
};

/* Enter an object (the caller counts the reference). Caller holds the arena's guard, for a living
 * process its table's mutex too. 0, -ENOMEM, -ESRCH. */
int lvri_ledger_add_locked(struct lvri_arena *a, lvr_proc_id who, lvri_off object,
                           uint32_t *ret_index);

/* Strike an entry out (the caller counts the reference). */
void lvri_ledger_drop_locked(struct lvri_arena *a, lvr_proc_id who, uint32_t index);

/* Before a fork: the ledger of an embryo becomes a copy of from's, index by index, without units;
 * what the embryo had been given besides comes behind. Enters the guard itself, in batches; the caller
 * sees to it that from's ledger does not change meanwhile. 0, -ENOMEM, -ESRCH, -ENOTRECOVERABLE. */
int lvri_ledger_copy(struct lvri_arena *a, lvr_proc_id from, lvr_proc_id to);

/* The entry at index; it stays where it is until the process has been repaired. */
struct lvri_ledger_entry *lvri_ledger_entry(struct lvri_arena *a, lvri_off ledger, uint32_t index);

#endif
