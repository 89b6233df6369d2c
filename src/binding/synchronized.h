/* synchronized.h - a ctypes object and its lock: what Synchronized and its like have in common.
 *
 * The fields are written by __init__, once. A *simple* one has an item: its ctypes object is one,
 * or count, of a simple C type in memory of ours, so what is to be done with it is done here, with
 * the lock held for a load or a store. All others are ctypes's affair: it is asked, with the lock
 * held, and so it is for whatever is wrong with a simple one's arguments. */
#ifndef LVRI_BINDING_SYNCHRONIZED_H
#define LVRI_BINDING_SYNCHRONIZED_H

#include "binding/item.h"
#include "binding/shared.h"
#include "core/lock.h"
#include "core/value.h"

struct lvri_synchronized {
  struct lvri_shared shared;
  PyObject *obj;
  PyObject *lock;
  lvr_lock *handle; /* that of `lock`, when it is a Lock or an RLock of ours and no subclass */
  PyObject *memory; /* where the items lie; it is held with them */
  const struct lvri_item *item; /* NULL: not simple */
  char *items;
  Py_ssize_t count;
};

/* Takes the lock, waiting for it. -1 with an error: it is not taken. */
static inline int lvri_synchronized_take(struct lvri_synchronized *s);
/* Releases it. -1 with an error; one that is set already stays. */
static inline int lvri_synchronized_drop(struct lvri_synchronized *s);
int lvri_synchronized_take_slowly(struct lvri_synchronized *s);
int lvri_synchronized_drop_slowly(struct lvri_synchronized *s);

/* Ends what was done with the lock held: releases it. NULL with an error if that was one. */
PyObject *lvri_synchronized_done(struct lvri_synchronized *s, PyObject *result);

/* The attribute `name` of the ctypes object, with the lock held; and back. */
PyObject *lvri_synchronized_get(struct lvri_synchronized *s, const char *name);
int lvri_synchronized_set(struct lvri_synchronized *s, const char *name, PyObject *value);

/* For __init__. The second finds out whether the object is simple, as count items of this ctypes
 * type (which may be none at all). */
int lvri_synchronized_init(PyObject *self, PyObject *args, PyObject *kwargs);
int lvri_synchronized_find_items(struct lvri_synchronized *s, PyObject *type, Py_ssize_t count);

/* The slots of every such type. */
int lvri_synchronized_traverse(PyObject *self, visitproc visit, void *arg);
int lvri_synchronized_clear(PyObject *self);
void lvri_synchronized_dealloc(PyObject *self);

/* Without the lock. The methods of the number at `index`; nargs and the like are checked. */
PyObject *lvri_atomic_load(struct lvri_synchronized *s, Py_ssize_t index);
PyObject *lvri_atomic_store(struct lvri_synchronized *s, Py_ssize_t index, PyObject *number);
PyObject *lvri_atomic_exchange(struct lvri_synchronized *s, Py_ssize_t index, PyObject *number);
PyObject *lvri_atomic_fetch_add(struct lvri_synchronized *s, Py_ssize_t index, PyObject *number);
PyObject *lvri_atomic_compare_exchange(struct lvri_synchronized *s, Py_ssize_t index,
                                       PyObject *expected, PyObject *number);

static inline bool lvri_recursive(const lvr_lock *l) { return l->handle.kind == LVRI_KIND_RLOCK; }

static inline int lvri_synchronized_take(struct lvri_synchronized *s) {
  lvr_lock *l = s->handle;

  if (l != NULL && lvri_recursive(l) && lvri_rlock_retake_fast(l)) return 0;
  if (l != NULL && lvri_lock_take_fast(l)) return 0;
  return lvri_synchronized_take_slowly(s);
}

static inline int lvri_synchronized_drop(struct lvri_synchronized *s) {
  lvr_lock *l = s->handle;

  if (l != NULL && (lvri_recursive(l) ? lvri_rlock_drop_fast(l) : lvri_lock_drop_fast(l))) return 0;
  return lvri_synchronized_drop_slowly(s);
}

#endif
