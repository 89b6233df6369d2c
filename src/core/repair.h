/* repair.h - undo what a dead process had, by whoever notices. */
#ifndef LVRI_CORE_REPAIR_H
#define LVRI_CORE_REPAIR_H

#include "core/slots.h"

/* Give back everything of process id, if it is over. Idempotent, resumable, by any process.
 * 0: nothing of it is left; -EBUSY: it is not over; -ENOTRECOVERABLE. */
int lvri_slot_repair(struct lvri_arena *a, lvr_proc_id id);

/* The same for every process that is over, and for embryos that nobody will adopt; returns how
 * many, or -ENOTRECOVERABLE. */
int lvri_slots_sweep(struct lvri_arena *a);

#endif
