/* semaphore.c - Semaphore and BoundedSemaphore.
 *
 * A unit of a BoundedSemaphore, and one taken with `with`, is held: it comes back if its holder
 * dies, since somebody was to give it back. A unit of a Semaphore that a bare acquire() took is
 * consumed: it may have been a signal, and giving it back would invent one. */
#include "binding/semlock.h"

struct semaphore_object {
  struct lvri_shared shared;
  lvr_semaphore *semaphore;
  uint32_t limit; /* of a BoundedSemaphore: 0 is a limit, too, which the core has no word for */
  bool bounded;
};

LVRI_DEFINE_REFERENCE(semaphore)
LVRI_DEFINE_FROM_REFERENCE(semaphore)

static lvr_semaphore *handle_of(PyObject *self) {
  lvr_semaphore *semaphore = ((struct semaphore_object *)self)->semaphore;

  if (__builtin_expect(semaphore == NULL, 0)) (void)lvri_raise_uninitialised(self);
  return semaphore;
}

static bool is_bounded(PyObject *self) { return ((struct semaphore_object *)self)->bounded; }

/* Acquiring and releasing */

static PyObject *acquired(int code) {
  if (code == 0) Py_RETURN_TRUE;
  if (code == -EBUSY || code == -ETIMEDOUT) Py_RETURN_FALSE;
  return code == LVRI_RAISED ? NULL : lvri_raise(code, "acquire a semaphore");
}

static PyObject *acquire_until(lvr_semaphore *semaphore, bool hold, int64_t deadline_ns) {
  int code = lvr_semaphore_try(semaphore, hold);

  if (code == -EBUSY && deadline_ns != LVRI_TRY_ONCE)
    LVRI_WAIT_UNTIL(code, deadline_ns, lvr_semaphore_acquire_until(semaphore, hold, until_ns));
  return acquired(code);
}

static PyObject *semaphore_acquire(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                   PyObject *kwnames) {
  lvr_semaphore *semaphore = handle_of(self);
  int64_t deadline_ns = LVR_FOREVER;

  if (semaphore == NULL) return NULL;
  if ((nargs > 0 || kwnames != NULL) &&
      lvri_parse_waiting("acquire", 0, args, nargs, kwnames, &deadline_ns) < 0)
    return NULL;
  return acquire_until(semaphore, is_bounded(self), deadline_ns);
}

static PyObject *semaphore_enter(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_semaphore *semaphore = handle_of(self);

  return semaphore == NULL ? NULL : acquire_until(semaphore, true, LVR_FOREVER);
}

static PyObject *release(PyObject *self, bool held) {
  struct semaphore_object *object = (struct semaphore_object *)self;
  lvr_semaphore *semaphore = handle_of(self);

  if (semaphore == NULL) return NULL;
  int code =
      object->bounded && object->limit == 0 ? -EOVERFLOW : lvr_semaphore_release(semaphore, held);

  if (code == 0) Py_RETURN_NONE;
  if (code != -EOVERFLOW) return lvri_raise(code, "release a semaphore");
  PyErr_SetString(PyExc_ValueError, LVRI_TOO_MANY_RELEASES);
  return NULL;
}

static PyObject *semaphore_release(PyObject *self, PyObject *Py_UNUSED(none)) {
  return release(self, is_bounded(self));
}

static PyObject *semaphore_exit(PyObject *self, PyObject *const *Py_UNUSED(args),
                                Py_ssize_t Py_UNUSED(nargs)) {
  return release(self, true);
}

/* Looking */

static PyObject *semaphore_get_value(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_semaphore *semaphore = handle_of(self);

  return semaphore == NULL ? NULL : PyLong_FromUnsignedLong(lvr_semaphore_value(semaphore));
}

static PyObject *semaphore_locked(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_semaphore *semaphore = handle_of(self);

  return semaphore == NULL ? NULL : PyBool_FromLong(lvr_semaphore_value(semaphore) == 0);
}

static PyObject *semaphore_repr(PyObject *self) {
  struct semaphore_object *object = (struct semaphore_object *)self;

  if (object->semaphore == NULL)
    return PyUnicode_FromFormat("<%s(value=unknown)>", lvri_class_name(self));
  uint32_t value = lvr_semaphore_value(object->semaphore);

  if (object->bounded)
    return PyUnicode_FromFormat("<%s(value=%u, maxvalue=%u)>", lvri_class_name(self), value,
                                object->limit);
  return PyUnicode_FromFormat("<%s(value=%u)>", lvri_class_name(self), value);
}

/* Life */

static PyObject *bounded_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  PyObject *self = PyType_GenericNew(type, args, kwargs);

  if (self != NULL) ((struct semaphore_object *)self)->bounded = true;
  return self;
}

static int parse_value(PyObject *args, PyObject *kwargs, uint32_t *ret_value) {
  static char *keywords[] = {"value", "ctx", NULL};
  PyObject *ctx;
  int value = 1;

  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|i$O:__init__", keywords, &value, &ctx))
    return -1;
  if (value < 0) {
    (void)lvri_raise_os(EINVAL, "a semaphore's value cannot be negative");
    return -1;
  }
  *ret_value = (uint32_t)value;
  return 0;
}

static int semaphore_init(PyObject *self, PyObject *args, PyObject *kwargs) {
  struct semaphore_object *object = (struct semaphore_object *)self;
  uint32_t value;

  if (parse_value(args, kwargs, &value) < 0 || lvri_check_fresh(self, object->semaphore) < 0)
    return -1;
  lvr_session *session = lvri_session();

  if (session == NULL) return -1;
  object->limit = object->bounded ? value : LVR_SEMAPHORE_MAX;
  int code = lvr_semaphore_create(session, value, object->limit, &object->semaphore);

  if (code < 0) (void)lvri_raise(code, "make a semaphore");
  return code < 0 ? -1 : 0;
}

static void semaphore_dealloc(PyObject *self) {
  lvri_shared_dealloc_begin(self);
  lvr_semaphore_detach(((struct semaphore_object *)self)->semaphore);
  lvri_shared_dealloc_end(self);
}

static PyObject *semaphore_getstate(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_semaphore *semaphore = handle_of(self);
  PyObject *reference = semaphore == NULL ? NULL : semaphore_reference(semaphore);

  if (reference == NULL) return NULL;
  return Py_BuildValue("(NIN)", reference, ((struct semaphore_object *)self)->limit,
                       lvri_attributes(self));
}

static PyObject *semaphore_setstate(PyObject *self, PyObject *state) {
  struct semaphore_object *object = (struct semaphore_object *)self;
  PyObject *reference, *attributes;
  unsigned int limit;

  if (lvri_check_state(self, object->semaphore, state) < 0 ||
      !PyArg_ParseTuple(state, "OIO:__setstate__", &reference, &limit, &attributes) ||
      semaphore_from_reference(reference, &object->semaphore) < 0)
    return NULL;
  object->limit = limit;
  if (lvri_attributes_set(self, attributes) < 0) return NULL;
  Py_RETURN_NONE;
}

static PyMethodDef semaphore_methods[] = {
    {"acquire", LVRI_METHOD(semaphore_acquire), METH_FASTCALL | METH_KEYWORDS, lvri_acquire_doc},
    {"release", semaphore_release, METH_NOARGS, lvri_release_doc},
    {"__enter__", semaphore_enter, METH_NOARGS, lvri_enter_doc},
    {"__exit__", LVRI_METHOD(semaphore_exit), METH_FASTCALL, lvri_exit_doc},
    {"get_value", semaphore_get_value, METH_NOARGS,
     "get_value($self, /)\n--\n\nHow many units there are."},
    {"locked", semaphore_locked, METH_NOARGS, lvri_locked_doc},
    {"_get_value", semaphore_get_value, METH_NOARGS, NULL},
    {"_is_zero", semaphore_locked, METH_NOARGS, NULL},
    {"__getstate__", semaphore_getstate, METH_NOARGS, NULL},
    {"__setstate__", semaphore_setstate, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(semaphore_doc,
             "Semaphore(value=1, *, ctx=None)\n--\n\n"
             "So many units of something, for processes and threads.");

PyDoc_STRVAR(bounded_doc,
             "BoundedSemaphore(value=1, *, ctx=None)\n--\n\n"
             "A semaphore that never has more units than it began with.");

static PyType_Slot semaphore_slots[] = {
    {Py_tp_doc, (void *)semaphore_doc},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, semaphore_init},
    {Py_tp_dealloc, semaphore_dealloc},
    {Py_tp_traverse, lvri_shared_traverse},
    {Py_tp_clear, lvri_shared_clear},
    {Py_tp_repr, semaphore_repr},
    {Py_tp_methods, semaphore_methods},
    {0, NULL},
};

static PyType_Spec semaphore_spec = {
    .name = "leveret.synchronize.Semaphore",
    .basicsize = sizeof(struct semaphore_object),
    .flags = LVRI_SHARED_FLAGS,
    .slots = semaphore_slots,
};

/* All else is inherited from Semaphore. */
static PyType_Slot bounded_slots[] = {
    {Py_tp_doc, (void *)bounded_doc},
    {Py_tp_new, bounded_new},
    {Py_tp_traverse, lvri_shared_traverse},
    {Py_tp_clear, lvri_shared_clear},
    {0, NULL},
};

static PyType_Spec bounded_spec = {
    .name = "leveret.synchronize.BoundedSemaphore",
    .basicsize = sizeof(struct semaphore_object),
    .flags = LVRI_SHARED_FLAGS,
    .slots = bounded_slots,
};

int lvri_exec_semaphore(PyObject *module, struct lvri_state *state) {
  if (lvri_add_type(module, &semaphore_spec, state->semlock_type, &state->semaphore_type) < 0)
    return -1;
  return lvri_add_type(module, &bounded_spec, state->semaphore_type,
                       &state->bounded_semaphore_type);
}
