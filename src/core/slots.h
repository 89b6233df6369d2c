/* slots.h - the process table.
 *
 *   FREE --prepare--> EMBRYO --adopt--> RUNNING --announce--> OVER --repair--> DEAD --forget--> FREE
 *                        |                 `------- any death ---^ (noticed)
 *                        `--withdraw, or its parent is dead--------> FREE
 *
 * Rows of 256 bytes, 64 to a chunk; a chunk never moves, so a slot is found without a lock. The
 * id of a slot's process is in the slot: whoever comes with an older id finds that it differs. */
#ifndef LVRI_CORE_SLOTS_H
#define LVRI_CORE_SLOTS_H

#include "core/arena.h"
#include "core/guard.h"
#include "core/mutex.h"
#include "core/owner.h"
#include "leveret/process.h"

#define LVRI_SLOTS_PER_CHUNK 64u
#define LVRI_SLOT_CHUNKS     256u
#define LVRI_SLOTS_MAX       (LVRI_SLOTS_PER_CHUNK * LVRI_SLOT_CHUNKS)
#define LVRI_SLOTS_DEFAULT   8192u

/* A prepared fork is being made: its parent's death does not reclaim it at once. */
#define LVRI_PROC_FORKING 0x100u

enum lvri_slot_state {
    LVRI_SLOT_FREE = 0,
    LVRI_SLOT_EMBRYO = LVR_PROC_EMBRYO,
    LVRI_SLOT_RUNNING = LVR_PROC_RUNNING,
    LVRI_SLOT_OVER = LVR_PROC_OVER,
    LVRI_SLOT_DEAD = LVR_PROC_DEAD
};

struct lvri_slot;

/* The slot of process id; NULL when it has been given away, or never was. */
struct lvri_slot *lvri_slot_of(struct lvri_arena *a, lvr_proc_id id);

/* Make an embryo. Caller holds the arena's guard and has room for 16 entries in its journal.
 * 0, -EAGAIN (table full), -ENOMEM. */
int lvri_slot_prepare_locked(struct lvri_arena *a, lvr_proc_id parent, uint32_t flags,
                             lvr_proc_id *ret_id);

/* This process is that one from now on: pid, start time, alive word, held by the calling thread.
 * 0, -ESRCH (no embryo any more), -ENOTRECOVERABLE. */
int lvri_slot_adopt(struct lvri_arena *a, lvr_proc_id id);

/* Born and not over. One load as a rule. A death that the kernel reported is seen at once;
 * one that it could not report, by lvri_slot_alive_thoroughly(). */
bool lvri_slot_alive(struct lvri_arena *a, lvr_proc_id id);

/* The same, and asks the kernel whether the pid still is that process: for the relook. */
bool lvri_slot_alive_thoroughly(struct lvri_arena *a, lvr_proc_id id);

/* The word to wait on beside one's own until process id is over: marks it as waited for and gives
 * the value to expect. NULL when it is over. The kernel wakes one waiter only: that one calls
 * lvri_slot_alive(), which wakes the others. */
_Atomic uint32_t *lvri_slot_alive_word(struct lvri_arena *a, lvr_proc_id id, uint32_t *ret_expected);

#endif
