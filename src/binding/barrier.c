/* barrier.c - Barrier.
 *
 * The last one to arrive runs the action, with no lock of anybody's held, and then opens the
 * barrier: were it to die, or the action to raise, the barrier is broken and the others are told.
 *
 * leveret.synchronize.Barrier is this class and threading.Barrier, whose methods are all hidden
 * by these. */
#include "binding/shared.h"

struct barrier_object {
  struct lvri_shared shared;
  PyObject *action;  /* or None; these two are set once, with the handle */
  PyObject *timeout; /* the default of wait(): seconds or None */
  lvr_barrier *barrier;
};

LVRI_DEFINE_REFERENCE(barrier)
LVRI_DEFINE_FROM_REFERENCE(barrier)

static lvr_barrier *handle_of(PyObject *self) {
  lvr_barrier *barrier = ((struct barrier_object *)self)->barrier;

  if (barrier == NULL) (void)lvri_raise_uninitialised(self);
  return barrier;
}

static PyObject *raise_broken(void) {
  PyObject *threading = PyImport_ImportModule("threading");
  PyObject *broken =
      threading == NULL ? NULL : PyObject_GetAttrString(threading, "BrokenBarrierError");

  if (broken != NULL) PyErr_SetNone(broken);
  Py_XDECREF(threading);
  Py_XDECREF(broken);
  return NULL;
}

static PyObject *raise_not_passed(int code) {
  if (code == -EPIPE || code == -ETIMEDOUT) return raise_broken();
  return lvri_raise(code, "pass a barrier");
}

/* For the last one to arrive. */
static PyObject *act_and_open(PyObject *self, struct lvr_barrier_ticket *ticket) {
  struct barrier_object *object = (struct barrier_object *)self;
  PyObject *action = Py_NewRef(object->action);
  PyObject *done = action == Py_None ? Py_NewRef(Py_None) : PyObject_CallNoArgs(action);

  Py_DECREF(action);
  if (done == NULL) {
    lvr_barrier_leave(ticket); /* which breaks it, since this one was the last */
    return NULL;
  }
  Py_DECREF(done);
  int code = lvr_barrier_open(ticket);

  return code < 0 ? raise_not_passed(code) : PyLong_FromUnsignedLong(ticket->index);
}

/* For all others. */
static PyObject *wait_for_last(struct lvr_barrier_ticket *ticket, int64_t deadline_ns) {
  int code;

  LVRI_WAIT(code, lvr_barrier_wait_until(ticket, deadline_ns));
  if (code == LVRI_RAISED) lvr_barrier_leave(ticket);
  return code < 0 ? raise_not_passed(code) : PyLong_FromUnsignedLong(ticket->index);
}

static PyObject *barrier_wait(PyObject *self, PyObject *args, PyObject *kwargs) {
  static char *keywords[] = {"timeout", NULL};
  PyObject *timeout = Py_None;
  lvr_barrier *barrier = handle_of(self);
  struct lvr_barrier_ticket ticket;
  int64_t deadline_ns;

  if (barrier == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "|O:wait", keywords, &timeout))
    return NULL;
  if (timeout == Py_None) timeout = ((struct barrier_object *)self)->timeout;
  if (lvri_deadline_of(timeout, &deadline_ns) < 0) return NULL;
  int code;

  LVRI_WAIT(code, lvr_barrier_enter_until(barrier, LVR_FOREVER, &ticket));
  if (code < 0) return raise_not_passed(code);
  return code == 1 ? act_and_open(self, &ticket) : wait_for_last(&ticket, deadline_ns);
}

static PyObject *none_or_raise(int code, const char *doing) {
  if (code < 0) return lvri_raise(code, doing);
  Py_RETURN_NONE;
}

static PyObject *barrier_reset(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_barrier *barrier = handle_of(self);

  return barrier == NULL ? NULL : none_or_raise(lvr_barrier_reset(barrier), "reset a barrier");
}

static PyObject *barrier_abort(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_barrier *barrier = handle_of(self);

  return barrier == NULL ? NULL : none_or_raise(lvr_barrier_abort(barrier), "abort a barrier");
}

static PyObject *barrier_parties(PyObject *self, void *Py_UNUSED(closure)) {
  lvr_barrier *barrier = handle_of(self);

  return barrier == NULL ? NULL : PyLong_FromUnsignedLong(lvr_barrier_parties(barrier));
}

static PyObject *barrier_n_waiting(PyObject *self, void *Py_UNUSED(closure)) {
  lvr_barrier *barrier = handle_of(self);

  return barrier == NULL ? NULL : PyLong_FromUnsignedLong(lvr_barrier_waiting(barrier));
}

static PyObject *barrier_broken(PyObject *self, void *Py_UNUSED(closure)) {
  lvr_barrier *barrier = handle_of(self);

  return barrier == NULL ? NULL : PyBool_FromLong(lvr_barrier_broken(barrier));
}

static PyObject *repr_of(PyObject *self, const lvr_barrier *barrier, PyObject *module,
                         PyObject *name) {
  if (lvr_barrier_broken(barrier))
    return PyUnicode_FromFormat("<%S.%S at %p: broken>", module, name, self);
  return PyUnicode_FromFormat("<%S.%S at %p: waiters=%u/%u>", module, name, self,
                              lvr_barrier_waiting(barrier), lvr_barrier_parties(barrier));
}

static PyObject *barrier_repr(PyObject *self) {
  lvr_barrier *barrier = handle_of(self);
  PyObject *type = (PyObject *)Py_TYPE(self);
  PyObject *module = barrier == NULL ? NULL : PyObject_GetAttrString(type, "__module__");
  PyObject *name = module == NULL ? NULL : PyType_GetQualName(Py_TYPE(self));
  PyObject *repr = name == NULL ? NULL : repr_of(self, barrier, module, name);

  Py_XDECREF(module);
  Py_XDECREF(name);
  return repr;
}

/* Life */

static void set_python_fields(PyObject *self, PyObject *action, PyObject *timeout) {
  struct barrier_object *object = (struct barrier_object *)self;

  object->action = Py_NewRef(action);
  object->timeout = Py_NewRef(timeout);
}

static int barrier_init(PyObject *self, PyObject *args, PyObject *kwargs) {
  static char *keywords[] = {"parties", "action", "timeout", "ctx", NULL};
  struct barrier_object *object = (struct barrier_object *)self;
  PyObject *action = Py_None, *timeout = Py_None, *ctx;
  int parties;

  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i|OO$O:__init__", keywords, &parties, &action,
                                   &timeout, &ctx) ||
      lvri_check_fresh(self, object->barrier) < 0)
    return -1;
  if (parties < 1) {
    PyErr_SetString(PyExc_ValueError, "parties must be > 0");
    return -1;
  }
  lvr_session *session = lvri_session();
  int code = session == NULL ? LVRI_RAISED
                             : lvr_barrier_create(session, (uint32_t)parties, &object->barrier);

  if (code < 0)
    (void)lvri_raise(code, "make a barrier");
  else
    set_python_fields(self, action, timeout);
  return code < 0 ? -1 : 0;
}

static int barrier_traverse(PyObject *self, visitproc visit, void *arg) {
  Py_VISIT(((struct barrier_object *)self)->action);
  Py_VISIT(((struct barrier_object *)self)->timeout);
  return lvri_shared_traverse(self, visit, arg);
}

/* None instead of nothing: a finalizer may still call wait(). */
static void forget(PyObject **field) {
  PyObject *old = *field;

  if (old == NULL) return;
  *field = Py_NewRef(Py_None);
  Py_DECREF(old);
}

static int barrier_clear(PyObject *self) {
  forget(&((struct barrier_object *)self)->action);
  forget(&((struct barrier_object *)self)->timeout);
  return lvri_shared_clear(self);
}

static void barrier_dealloc(PyObject *self) {
  struct barrier_object *object = (struct barrier_object *)self;

  lvri_shared_dealloc_begin(self);
  lvr_barrier_detach(object->barrier);
  Py_CLEAR(object->action);
  Py_CLEAR(object->timeout);
  lvri_shared_dealloc_end(self);
}

static PyObject *barrier_getstate(PyObject *self, PyObject *Py_UNUSED(none)) {
  struct barrier_object *object = (struct barrier_object *)self;
  lvr_barrier *barrier = handle_of(self);
  PyObject *reference = barrier == NULL ? NULL : barrier_reference(barrier);

  if (reference == NULL) return NULL;
  return Py_BuildValue("(NOON)", reference, object->action, object->timeout, lvri_attributes(self));
}

static PyObject *barrier_setstate(PyObject *self, PyObject *state) {
  struct barrier_object *object = (struct barrier_object *)self;
  PyObject *reference, *action, *timeout, *attributes;

  if (lvri_check_state(self, object->barrier, state) < 0 ||
      !PyArg_ParseTuple(state, "OOOO:__setstate__", &reference, &action, &timeout, &attributes) ||
      barrier_from_reference(reference, &object->barrier) < 0)
    return NULL;
  set_python_fields(self, action, timeout);
  if (lvri_attributes_set(self, attributes) < 0) return NULL;
  Py_RETURN_NONE;
}

static PyGetSetDef barrier_getset[] = {
    {"parties", barrier_parties, NULL, "How many go on together.", NULL},
    {"n_waiting", barrier_n_waiting, NULL, "How many have arrived and wait for the others.", NULL},
    {"broken", barrier_broken, NULL, "Whether nobody can pass until a reset().", NULL},
    LVRI_GETSET_DICT,
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef barrier_methods[] = {
    {"wait", LVRI_METHOD(barrier_wait), METH_VARARGS | METH_KEYWORDS,
     "wait($self, /, timeout=None)\n--\n\n"
     "Wait for all the others; return how many had arrived before. BrokenBarrierError if it took\n"
     "more than timeout seconds, or one of them gave up or died."},
    {"reset", barrier_reset, METH_NOARGS,
     "reset($self, /)\n--\n\nMake it fresh; who waits now gets a BrokenBarrierError."},
    {"abort", barrier_abort, METH_NOARGS,
     "abort($self, /)\n--\n\nBreak it for all who wait and all who come, until a reset()."},
    {"__reduce__", lvri_shared_reduce, METH_NOARGS, lvri_reduce_doc},
    {"__getstate__", barrier_getstate, METH_NOARGS, NULL},
    {"__setstate__", barrier_setstate, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(barrier_doc,
             "Barrier(parties, action=None, timeout=None, *, ctx=None)\n--\n\n"
             "So many processes or threads go on together, or none of them does.");

static PyType_Slot barrier_slots[] = {
    {Py_tp_doc, (void *)barrier_doc},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, barrier_init},
    {Py_tp_dealloc, barrier_dealloc},
    {Py_tp_traverse, barrier_traverse},
    {Py_tp_clear, barrier_clear},
    {Py_tp_repr, barrier_repr},
    {Py_tp_members, lvri_shared_members},
    {Py_tp_methods, barrier_methods},
    {Py_tp_getset, barrier_getset},
    {0, NULL},
};

static PyType_Spec barrier_spec = {
    .name = "leveret._core.Barrier",
    .basicsize = sizeof(struct barrier_object),
    .flags = LVRI_SHARED_FLAGS,
    .slots = barrier_slots,
};

int lvri_exec_barrier(PyObject *module, struct lvri_state *state) {
  return lvri_add_type(module, &barrier_spec, NULL, &state->barrier_type);
}
