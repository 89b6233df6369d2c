/* condition.c - Condition.
 *
 * A wait is three steps of the core's, because Python's signal handlers run in the middle of it,
 * and must run while this thread does not hold the lock: join the queue and release; sleep, and
 * again after a handler that returned; leave the queue. Then the lock is taken back, whatever
 * happened.
 *
 * A notification that arrives while a handler raises goes to the next one who waits: nothing is
 * lost. */
#include "binding/semlock.h"

struct condition_object {
  struct lvri_shared shared;
  PyObject *lock; /* a Lock or RLock of ours; set once, with the handle */
  lvr_condition *condition;
};

LVRI_DEFINE_REFERENCE(condition)
LVRI_DEFINE_FROM_REFERENCE(condition)

static lvr_condition *handle_of(PyObject *self) {
  lvr_condition *condition = ((struct condition_object *)self)->condition;

  if (condition == NULL) (void)lvri_raise_uninitialised(self);
  return condition;
}

static PyObject *lock_of(PyObject *self) {
  return handle_of(self) == NULL ? NULL : ((struct condition_object *)self)->lock;
}

/* The handle of the lock if this thread holds it, else NULL with an AssertionError. */
static lvr_lock *held_lock(PyObject *self, const char *complaint) {
  PyObject *object = lock_of(self);
  lvr_lock *lock = object == NULL ? NULL : lvri_lock_handle(object);

  if (lock == NULL || lvr_lock_is_mine(lock)) return lock;
  PyErr_SetString(PyExc_AssertionError, complaint);
  return NULL;
}

/* The lock's own methods */

static PyObject *forward(PyObject *self, const char *name, PyObject *const *args, Py_ssize_t nargs,
                         PyObject *kwnames) {
  PyObject *lock = lock_of(self);
  PyObject *method = lock == NULL ? NULL : PyObject_GetAttrString(lock, name);

  if (method == NULL) return NULL;
  PyObject *result = PyObject_Vectorcall(method, args, (size_t)nargs, kwnames);

  Py_DECREF(method);
  return result;
}

static PyObject *condition_acquire(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                   PyObject *kwnames) {
  return forward(self, "acquire", args, nargs, kwnames);
}

static PyObject *condition_release(PyObject *self, PyObject *Py_UNUSED(none)) {
  return forward(self, "release", NULL, 0, NULL);
}

static PyObject *condition_enter(PyObject *self, PyObject *Py_UNUSED(none)) {
  return forward(self, "__enter__", NULL, 0, NULL);
}

static PyObject *condition_exit(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
  return forward(self, "__exit__", args, nargs, NULL);
}

/* Waiting */

/* One attempt to run the signal handlers with an exception possibly set; false if that raised,
 * with the earlier exception as the context of the new one. */
static bool handlers_returned(void) {
  PyObject *earlier = lvri_take_exception();

  if (PyErr_CheckSignals() == 0) {
    lvri_put_exception(earlier);
    return true;
  }
  PyObject *later = lvri_take_exception();

  if (earlier != NULL) PyException_SetContext(later, earlier);
  lvri_put_exception(later);
  return false;
}

/* Takes the lock back. A handler that raises does not keep it from that, but the second one does:
 * whoever presses Ctrl-C twice wants to get out, even if the lock's holder hangs. */
static int retake(struct lvr_condition_wait *wait) {
  int raised = 0;
  int code;

  do {
    Py_BEGIN_ALLOW_THREADS
    code = lvr_condition_retake(wait);
    Py_END_ALLOW_THREADS
    if (code == -EINTR && !handlers_returned()) raised++;
  } while (code == -EINTR && raised < 2);
  return code == -EINTR ? LVRI_RAISED : code;
}

/* What wait() returns: `slept` is how the sleep ended, `ended` whether a notification came,
 * `retaken` how the lock was taken back. */
static PyObject *wait_result(PyObject *self, int slept, int ended, int retaken) {
  struct condition_object *object = (struct condition_object *)self;

  if (PyErr_Occurred()) {
    if (ended == 0) ended = lvr_condition_notify(object->condition, 1, NULL);
    return NULL;
  }
  if (slept < 0 && slept != -ETIMEDOUT) return lvri_raise(slept, "wait for a condition");
  if (ended < 0 && ended != -ETIMEDOUT) return lvri_raise(ended, "wait for a condition");
  if (retaken < 0) return lvri_raise(retaken, "take the lock of a condition back");
  if (retaken == 1 && lvri_lock_warn_abandoned(object->lock) < 0) return NULL;
  return PyBool_FromLong(ended == 0);
}

static PyObject *wait_until(PyObject *self, lvr_lock *lock, int64_t deadline_ns) {
  struct lvr_condition_wait wait;
  int slept = lvr_condition_wait_begin(handle_of(self), lock, &wait);

  if (slept < 0) return lvri_raise(slept, "wait for a condition");
  LVRI_WAIT_UNTIL(slept, deadline_ns, lvr_condition_wait_sleep(&wait, until_ns));
  int ended = lvr_condition_wait_end(&wait);
  int retaken = retake(&wait);

  return wait_result(self, slept, ended, retaken);
}

static PyObject *condition_wait(PyObject *self, PyObject *args, PyObject *kwargs) {
  static char *keywords[] = {"timeout", NULL};
  PyObject *timeout = Py_None;
  int64_t deadline_ns;

  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:wait", keywords, &timeout)) return NULL;
  lvr_lock *lock = held_lock(self, "must acquire() condition before using wait()");

  if (lock == NULL || lvri_deadline_of(timeout, &deadline_ns) < 0) return NULL;
  return wait_until(self, lock, deadline_ns);
}

/* One wait of wait_for(), by the method so that a subclass may have its own; false when the time
 * is up or on error. */
static bool waited(PyObject *self, int64_t deadline_ns) {
  double left_s = lvri_seconds_left(deadline_ns);

  if (deadline_ns != LVR_FOREVER && left_s <= 0.0) return false;
  PyObject *result = deadline_ns == LVR_FOREVER ? PyObject_CallMethod(self, "wait", "O", Py_None)
                                                : PyObject_CallMethod(self, "wait", "d", left_s);

  Py_XDECREF(result);
  return result != NULL;
}

static PyObject *condition_wait_for(PyObject *self, PyObject *args, PyObject *kwargs) {
  static char *keywords[] = {"predicate", "timeout", NULL};
  PyObject *predicate, *timeout = Py_None;
  int64_t deadline_ns;

  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:wait_for", keywords, &predicate, &timeout) ||
      lvri_deadline_of(timeout, &deadline_ns) < 0)
    return NULL;
  for (;;) {
    PyObject *result = PyObject_CallNoArgs(predicate);
    int is_true = result == NULL ? -1 : PyObject_IsTrue(result);

    if (is_true == 0 && waited(self, deadline_ns)) {
      Py_DECREF(result);
      continue;
    }
    if (!PyErr_Occurred()) return result;
    Py_XDECREF(result);
    return NULL;
  }
}

/* Notifying */

static PyObject *notify(PyObject *self, uint32_t count) {
  if (held_lock(self, "lock is not owned") == NULL) return NULL;
  int code = lvr_condition_notify(handle_of(self), count, NULL);

  if (code < 0) return lvri_raise(code, "notify who waits for a condition");
  Py_RETURN_NONE;
}

static PyObject *condition_notify(PyObject *self, PyObject *args, PyObject *kwargs) {
  static char *keywords[] = {"n", NULL};
  PyObject *n = NULL;

  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:notify", keywords, &n)) return NULL;
  Py_ssize_t count = n == NULL ? 1 : PyNumber_AsSsize_t(n, NULL); /* clipped, not an error */

  if (count == -1 && PyErr_Occurred()) return NULL;
  return notify(self, count <= 0 ? 0 : count > UINT32_MAX ? UINT32_MAX : (uint32_t)count);
}

static PyObject *condition_notify_all(PyObject *self, PyObject *Py_UNUSED(none)) {
  return notify(self, UINT32_MAX);
}

static PyObject *condition_repr(PyObject *self) {
  struct condition_object *object = (struct condition_object *)self;

  if (object->condition == NULL)
    return PyUnicode_FromFormat("<%s(None, unknown)>", lvri_class_name(self));
  return PyUnicode_FromFormat("<%s(%S, %u)>", lvri_class_name(self), object->lock,
                              lvr_condition_waiting(object->condition));
}

/* Life */

/* A Lock or RLock of ours for what the caller gave: None makes an RLock. */
static PyObject *lock_for(PyObject *self, PyObject *given) {
  struct lvri_state *state = lvri_state_of_type(Py_TYPE(self));

  if (state == NULL) return NULL;
  if (given == Py_None) return PyObject_CallNoArgs((PyObject *)state->rlock_type);
  if (PyObject_TypeCheck(given, state->lock_type) || PyObject_TypeCheck(given, state->rlock_type))
    return lvri_lock_handle(given) == NULL ? NULL : Py_NewRef(given);
  return PyErr_Format(PyExc_TypeError,
                      "a Condition of leveret needs a Lock or RLock of leveret, not %s; was it "
                      "made before install(), or is it a semaphore?",
                      Py_TYPE(given)->tp_name);
}

static int condition_init(PyObject *self, PyObject *args, PyObject *kwargs) {
  static char *keywords[] = {"lock", "ctx", NULL};
  struct condition_object *object = (struct condition_object *)self;
  PyObject *given = Py_None, *ctx, *lock;

  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O$O:__init__", keywords, &given, &ctx) ||
      lvri_check_fresh(self, object->condition) < 0 || (lock = lock_for(self, given)) == NULL)
    return -1;
  lvr_session *session = lvri_session();
  int code = session == NULL ? LVRI_RAISED : lvr_condition_create(session, &object->condition);

  if (code == 0) {
    object->lock = lock;
    return 0;
  }
  Py_DECREF(lock);
  (void)lvri_raise(code, "make a condition");
  return -1;
}

/* There is no clear for the lock: what it refers to in turn are attributes, which its own clear
 * drops. */
static int condition_traverse(PyObject *self, visitproc visit, void *arg) {
  Py_VISIT(((struct condition_object *)self)->lock);
  return lvri_shared_traverse(self, visit, arg);
}

static void condition_dealloc(PyObject *self) {
  struct condition_object *object = (struct condition_object *)self;

  lvri_shared_dealloc_begin(self);
  lvr_condition_detach(object->condition);
  Py_CLEAR(object->lock);
  lvri_shared_dealloc_end(self);
}

static PyObject *condition_getstate(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_condition *condition = handle_of(self);
  PyObject *reference = condition == NULL ? NULL : condition_reference(condition);

  if (reference == NULL) return NULL;
  return Py_BuildValue("(NON)", reference, ((struct condition_object *)self)->lock,
                       lvri_attributes(self));
}

static PyObject *condition_setstate(PyObject *self, PyObject *state) {
  struct condition_object *object = (struct condition_object *)self;
  PyObject *reference, *given, *attributes, *lock;

  if (lvri_check_state(self, object->condition, state) < 0 ||
      !PyArg_ParseTuple(state, "OOO:__setstate__", &reference, &given, &attributes) ||
      (lock = lock_for(self, given)) == NULL)
    return NULL;
  if (condition_from_reference(reference, &object->condition) < 0) {
    Py_DECREF(lock);
    return NULL;
  }
  object->lock = lock;
  if (lvri_attributes_set(self, attributes) < 0) return NULL;
  Py_RETURN_NONE;
}

static PyObject *condition_get_lock(PyObject *self, void *Py_UNUSED(closure)) {
  return Py_XNewRef(lock_of(self));
}

static PyGetSetDef condition_getset[] = {
    {"_lock", condition_get_lock, NULL, "The lock that goes with it.", NULL},
    LVRI_GETSET_DICT,
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef condition_methods[] = {
    {"acquire", LVRI_METHOD(condition_acquire), METH_FASTCALL | METH_KEYWORDS, lvri_acquire_doc},
    {"release", condition_release, METH_NOARGS, lvri_release_doc},
    {"__enter__", condition_enter, METH_NOARGS, lvri_enter_doc},
    {"__exit__", LVRI_METHOD(condition_exit), METH_FASTCALL, lvri_exit_doc},
    {"wait", LVRI_METHOD(condition_wait), METH_VARARGS | METH_KEYWORDS,
     "wait($self, /, timeout=None)\n--\n\n"
     "Release the lock, wait to be notified, take the lock back; False if nobody notified within\n"
     "timeout seconds."},
    {"wait_for", LVRI_METHOD(condition_wait_for), METH_VARARGS | METH_KEYWORDS,
     "wait_for($self, /, predicate, timeout=None)\n--\n\n"
     "Wait until predicate() is true; return what it returned last."},
    {"notify", LVRI_METHOD(condition_notify), METH_VARARGS | METH_KEYWORDS,
     "notify($self, /, n=1)\n--\n\nWake the n who have waited longest."},
    {"notify_all", condition_notify_all, METH_NOARGS,
     "notify_all($self, /)\n--\n\nWake all who wait."},
    {"__reduce__", lvri_shared_reduce, METH_NOARGS, lvri_reduce_doc},
    {"__getstate__", condition_getstate, METH_NOARGS, NULL},
    {"__setstate__", condition_setstate, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(condition_doc,
             "Condition(lock=None, *, ctx=None)\n--\n\n"
             "Wait until another process or thread says that something has changed.");

static PyType_Slot condition_slots[] = {
    {Py_tp_doc, (void *)condition_doc},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, condition_init},
    {Py_tp_dealloc, condition_dealloc},
    {Py_tp_traverse, condition_traverse},
    {Py_tp_clear, lvri_shared_clear},
    {Py_tp_repr, condition_repr},
    {Py_tp_members, lvri_shared_members},
    {Py_tp_methods, condition_methods},
    {Py_tp_getset, condition_getset},
    {0, NULL},
};

static PyType_Spec condition_spec = {
    .name = "leveret.synchronize.Condition",
    .basicsize = sizeof(struct condition_object),
    .flags = LVRI_SHARED_FLAGS,
    .slots = condition_slots,
};

int lvri_exec_condition(PyObject *module, struct lvri_state *state) {
  return lvri_add_type(module, &condition_spec, NULL, &state->condition_type);
}
