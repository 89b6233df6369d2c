/* semlock.h - what the types with acquire() have in common, and what Condition uses of the locks.
 */
#ifndef LVRI_BINDING_SEMLOCK_H
#define LVRI_BINDING_SEMLOCK_H

#include "binding/shared.h"

/* semlock.c. Parses the arguments block=True and timeout=None of a function; `before` others stand
 * in front of them (for the texts of errors). Not to block is LVRI_TRY_ONCE. -1 with an error. */
int lvri_parse_waiting(const char *function, Py_ssize_t before, PyObject *const *args,
                       Py_ssize_t nargs, PyObject *kwnames, int64_t *ret_deadline_ns);
/* "MainProcess" or "MainProcess|Thread-1": who the calling thread is. */
PyObject *lvri_own_name(void);

#define LVRI_TOO_MANY_RELEASES "semaphore or lock released too many times"

extern const char lvri_acquire_doc[], lvri_release_doc[], lvri_enter_doc[], lvri_exit_doc[],
    lvri_locked_doc[];

/* lock.c. The handle of a Lock or RLock, whose type the caller has checked; NULL with an error. */
lvr_lock *lvri_lock_handle(PyObject *self);
/* Warn that this lock, just taken over, was abandoned; -1 if warnings are errors. */
int lvri_lock_warn_abandoned(PyObject *self);

/* acquire() and release() of a Lock or RLock, for who goes the short way (core/lock.h) first. -1
 * with an error. */
int lvri_lock_acquire(PyObject *self);
int lvri_lock_release(PyObject *self);

#endif
