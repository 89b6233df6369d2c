/* holder.h - who has a handle of an object: for those whose waiting ends with the holder's life. */
#ifndef LVRI_CORE_HOLDER_H
#define LVRI_CORE_HOLDER_H

#include "core/object.h"

/* A process that has a handle of the object: this one if it has, else any that was born, alive or
 * not yet repaired. 0: none; it is on its way, or gone. Looks through all ledgers: not for every
 * day. */
lvr_proc_id lvri_holder_find(lvr_session *s, lvri_off object);

/* The same with the arena's guard held; self: who "this one" is. */
lvr_proc_id lvri_holder_find_locked(struct lvri_arena *a, lvri_off object, lvr_proc_id self);

/* Whether this process has one. */
bool lvri_holder_is_self(lvr_session *s, lvri_off object);

#endif
