/* lock.c - Lock and RLock.
 *
 * The fast path is one call of the core with the GIL held: a compare-and-swap. Only when the lock
 * is taken the GIL is released, and the wait begins.
 *
 * A lock whose holder died is acquired with a warning. If the warning is an error (python -W
 * error), acquiring failed: the lock is given back, marked abandoned as it was, before the
 * exception leaves; so __enter__ never raises with the lock held. */
#include "binding/semlock.h"

#include <stdio.h>

struct lock_object {
  struct lvri_shared shared;
  lvr_lock *lock;
  bool recursive;
};

LVRI_DEFINE_REFERENCE(lock)
LVRI_DEFINE_FROM_REFERENCE(lock)

lvr_lock *lvri_lock_handle(PyObject *self) {
  lvr_lock *lock = ((struct lock_object *)self)->lock;

  if (__builtin_expect(lock == NULL, 0)) (void)lvri_raise_uninitialised(self);
  return lock;
}

/* Acquiring and releasing */

int lvri_lock_warn_abandoned(PyObject *self) {
  struct lvri_state *state = lvri_state_of_type(Py_TYPE(self));
  lvr_lock *lock = ((struct lock_object *)self)->lock;

  if (state == NULL) return -1;
  return PyErr_WarnFormat(
      state->abandoned_lock_warning, 1,
      "process %d died while it held this %s; the lock is yours now, but what it "
      "protects may be half changed: check it, or make it anew",
      (int)lvr_lock_abandoned_pid(lock), lvri_class_name(self));
}

/* What acquire() returns for a code of the core's other than 0. */
static PyObject *not_simply_acquired(PyObject *self, lvr_lock *lock, int code) {
  if (code == -EBUSY || code == -ETIMEDOUT) Py_RETURN_FALSE;
  if (code < 0) return code == LVRI_RAISED ? NULL : lvri_raise(code, "acquire a lock");
  if (lvri_lock_warn_abandoned(self) == 0) Py_RETURN_TRUE;
  code = lvr_lock_release_abandoned(lock); /* if that fails, the session is over anyway */
  return NULL;
}

static PyObject *acquire_until(PyObject *self, lvr_lock *lock, int64_t deadline_ns) {
  int code = lvr_lock_try(lock);

  if (__builtin_expect(code == 0, 1)) Py_RETURN_TRUE;
  if (code == -EBUSY && deadline_ns != LVRI_TRY_ONCE)
    LVRI_WAIT_UNTIL(code, deadline_ns, lvr_lock_acquire_until(lock, until_ns));
  return code == 0 ? Py_NewRef(Py_True) : not_simply_acquired(self, lock, code);
}

static PyObject *lock_acquire(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                              PyObject *kwnames) {
  lvr_lock *lock = lvri_lock_handle(self);
  int64_t deadline_ns = LVR_FOREVER;

  if (lock == NULL) return NULL;
  if ((nargs > 0 || kwnames != NULL) &&
      lvri_parse_waiting("acquire", 0, args, nargs, kwnames, &deadline_ns) < 0)
    return NULL;
  return acquire_until(self, lock, deadline_ns);
}

static PyObject *lock_enter(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_lock *lock = lvri_lock_handle(self);

  return lock == NULL ? NULL : acquire_until(self, lock, LVR_FOREVER);
}

static PyObject *raise_not_released(int code) {
  if (code == -EPERM)
    PyErr_SetString(PyExc_AssertionError, "attempt to release recursive lock not owned by thread");
  else if (code == -EINVAL)
    PyErr_SetString(PyExc_ValueError, LVRI_TOO_MANY_RELEASES);
  else
    (void)lvri_raise(code, "release a lock");
  return NULL;
}

static PyObject *lock_release(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_lock *lock = lvri_lock_handle(self);

  if (lock == NULL) return NULL;
  int code = lvr_lock_release(lock);

  if (__builtin_expect(code < 0, 0)) return raise_not_released(code);
  Py_RETURN_NONE;
}

static PyObject *lock_exit(PyObject *self, PyObject *const *Py_UNUSED(args),
                           Py_ssize_t Py_UNUSED(nargs)) {
  return lock_release(self, NULL);
}

static int forget(PyObject *result) {
  Py_XDECREF(result);
  return result == NULL ? -1 : 0;
}

int lvri_lock_acquire(PyObject *self) { return forget(lock_enter(self, NULL)); }

int lvri_lock_release(PyObject *self) { return forget(lock_release(self, NULL)); }

/* Looking */

static PyObject *lock_locked(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_lock *lock = lvri_lock_handle(self);

  return lock == NULL ? NULL : PyBool_FromLong(lvr_lock_owner(lock) != 0);
}

static PyObject *lock_get_value(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_lock *lock = lvri_lock_handle(self);

  return lock == NULL ? NULL : PyLong_FromLong(lvr_lock_owner(lock) == 0);
}

static PyObject *lock_is_mine(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_lock *lock = lvri_lock_handle(self);

  return lock == NULL ? NULL : PyBool_FromLong(lvr_lock_is_mine(lock));
}

static PyObject *lock_count(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_lock *lock = lvri_lock_handle(self);

  return lock == NULL ? NULL : PyLong_FromUnsignedLong(lvr_lock_count(lock));
}

static PyObject *lock_abandoned(PyObject *self, void *Py_UNUSED(closure)) {
  lvr_lock *lock = lvri_lock_handle(self);

  return lock == NULL ? NULL : PyBool_FromLong(lvr_lock_abandoned(lock));
}

static PyObject *lock_abandoned_pid(PyObject *self, void *Py_UNUSED(closure)) {
  lvr_lock *lock = lvri_lock_handle(self);
  int32_t pid = lock != NULL && lvr_lock_abandoned(lock) ? lvr_lock_abandoned_pid(lock) : 0;

  if (lock == NULL) return NULL;
  return pid == 0 ? Py_NewRef(Py_None) : PyLong_FromLong(pid);
}

/* The holder's name, and how often it holds the lock, as far as this process can tell. */
static PyObject *holder(const lvr_lock *lock, char *count, size_t size) {
  if (lvr_lock_is_mine(lock)) {
    (void)snprintf(count, size, "%u", lvr_lock_count(lock));
    return lvri_own_name();
  }
  bool is_free = lvr_lock_owner(lock) == 0;

  (void)snprintf(count, size, "%s", is_free ? "0" : "nonzero");
  if (is_free) return PyUnicode_FromString("None");
  return PyUnicode_FromString(lvr_lock_count(lock) > 0 ? "SomeOtherThread" : "SomeOtherProcess");
}

static PyObject *lock_repr(PyObject *self) {
  struct lock_object *object = (struct lock_object *)self;
  char count[16] = "unknown";
  PyObject *name = object->lock == NULL ? NULL : holder(object->lock, count, sizeof(count));

  if (name == NULL) {
    PyErr_Clear();
    (void)snprintf(count, sizeof(count), "unknown");
    name = PyUnicode_FromString("unknown");
  }
  if (name == NULL) return NULL;
  PyObject *repr = object->recursive
                       ? PyUnicode_FromFormat("<%s(%S, %s)>", lvri_class_name(self), name, count)
                       : PyUnicode_FromFormat("<%s(owner=%S)>", lvri_class_name(self), name);

  Py_DECREF(name);
  return repr;
}

/* Life */

static PyObject *rlock_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  PyObject *self = PyType_GenericNew(type, args, kwargs);

  if (self != NULL) ((struct lock_object *)self)->recursive = true;
  return self;
}

static int lock_init(PyObject *self, PyObject *args, PyObject *kwargs) {
  struct lock_object *object = (struct lock_object *)self;

  if (lvri_parse_ctx(args, kwargs) < 0 || lvri_check_fresh(self, object->lock) < 0) return -1;
  lvr_session *session = lvri_session();

  if (session == NULL) return -1;
  int code = lvr_lock_create(session, object->recursive ? LVR_RLOCK : LVR_LOCK, &object->lock);

  if (code < 0) (void)lvri_raise(code, "make a lock");
  return code < 0 ? -1 : 0;
}

static void lock_dealloc(PyObject *self) {
  struct lock_object *object = (struct lock_object *)self;

  lvri_shared_dealloc_begin(self);
  lvr_lock_detach(object->lock);
  lvri_shared_dealloc_end(self);
}

static PyObject *lock_getstate(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_lock *lock = lvri_lock_handle(self);
  PyObject *reference = lock == NULL ? NULL : lock_reference(lock);

  return reference == NULL ? NULL : Py_BuildValue("(NN)", reference, lvri_attributes(self));
}

static PyObject *lock_setstate(PyObject *self, PyObject *state) {
  struct lock_object *object = (struct lock_object *)self;
  PyObject *reference, *attributes;

  if (lvri_check_state(self, object->lock, state) < 0 ||
      !PyArg_ParseTuple(state, "OO:__setstate__", &reference, &attributes) ||
      lock_from_reference(reference, &object->lock) < 0)
    return NULL;
  object->recursive = lvr_lock_kind(object->lock) == LVR_RLOCK;
  if (lvri_attributes_set(self, attributes) < 0) return NULL;
  Py_RETURN_NONE;
}

static PyMethodDef lock_methods[] = {
    {"acquire", LVRI_METHOD(lock_acquire), METH_FASTCALL | METH_KEYWORDS, lvri_acquire_doc},
    {"release", lock_release, METH_NOARGS, lvri_release_doc},
    {"__enter__", lock_enter, METH_NOARGS, lvri_enter_doc},
    {"__exit__", LVRI_METHOD(lock_exit), METH_FASTCALL, lvri_exit_doc},
    {"locked", lock_locked, METH_NOARGS, lvri_locked_doc},
    {"_get_value", lock_get_value, METH_NOARGS, NULL},
    {"_is_zero", lock_locked, METH_NOARGS, NULL},
    {"_is_mine", lock_is_mine, METH_NOARGS, NULL},
    {"_count", lock_count, METH_NOARGS, NULL},
    {"__getstate__", lock_getstate, METH_NOARGS, NULL},
    {"__setstate__", lock_setstate, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef lock_getset[] = {
    {"abandoned", lock_abandoned, NULL,
     "Whether a process died holding this, and who has taken it since has not released it.", NULL},
    {"abandoned_pid", lock_abandoned_pid, NULL,
     "The pid of the process that died holding this, while it is abandoned; else None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define LOCK_SLOTS(NEW, DOC)                                                                    \
  {                                                                                             \
    {Py_tp_new, NEW}, {Py_tp_doc, DOC}, {Py_tp_init, lock_init}, {Py_tp_dealloc, lock_dealloc}, \
        {Py_tp_traverse, lvri_shared_traverse}, {Py_tp_clear, lvri_shared_clear},               \
        {Py_tp_repr, lock_repr}, {Py_tp_methods, lock_methods}, {Py_tp_getset, lock_getset}, {  \
      0, NULL                                                                                   \
    }                                                                                           \
  }

PyDoc_STRVAR(
    lock_doc,
    "Lock(*, ctx=None)\n--\n\n"
    "A lock between processes: held by one thread of one of them. Anybody may release it.");

PyDoc_STRVAR(rlock_doc,
             "RLock(*, ctx=None)\n--\n\n"
             "A lock that the thread that holds it may acquire again, and it alone may "
             "release.");

static PyType_Slot lock_slots[] = LOCK_SLOTS(PyType_GenericNew, (void *)lock_doc);
static PyType_Slot rlock_slots[] = LOCK_SLOTS(rlock_new, (void *)rlock_doc);

static PyType_Spec lock_spec = {
    .name = "leveret.synchronize.Lock",
    .basicsize = sizeof(struct lock_object),
    .flags = LVRI_SHARED_FLAGS,
    .slots = lock_slots,
};

static PyType_Spec rlock_spec = {
    .name = "leveret.synchronize.RLock",
    .basicsize = sizeof(struct lock_object),
    .flags = LVRI_SHARED_FLAGS,
    .slots = rlock_slots,
};

int lvri_exec_lock(PyObject *module, struct lvri_state *state) {
  if (lvri_add_type(module, &lock_spec, state->semlock_type, &state->lock_type) < 0) return -1;
  return lvri_add_type(module, &rlock_spec, state->semlock_type, &state->rlock_type);
}
