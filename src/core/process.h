/* process.h - births and deaths, as the modules above see them. */
#ifndef LVRI_CORE_PROCESS_H
#define LVRI_CORE_PROCESS_H

#include "core/session.h"
#include "leveret/process.h"

/* lvr_proc_wait_born_until(), but also -EOWNERDEAD as soon as process watch is over (0: nobody):
 * the one who was to give birth. */
int lvri_proc_wait_born_until(lvr_session *s, lvr_proc_id id, lvr_proc_id watch,
                              int64_t deadline_ns, int32_t *ret_pid);

/* The payload of a birth: a block that belongs to the child's slot, written by its parent before
 * the birth, read by the child, freed by either of them or by repair. At most one per process.
 * put: 0, -ESRCH, -EBUSY (there is one), -ENOMEM, -ESTALE. get: 0, -ENOENT. */
int lvri_proc_put_task(lvr_session *s, lvr_proc_id id, const void *bytes, size_t len);
int lvri_proc_get_task(lvr_session *s, lvr_proc_id id, const void **ret_bytes, size_t *ret_len);
void lvri_proc_drop_task(lvr_session *s, lvr_proc_id id);

#endif
