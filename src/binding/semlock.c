/* semlock.c - SemLock, the class above Lock, RLock and the semaphores, and what they share.
 *
 * The standard library's queues, pools and tests read a lock's private counts through `_semlock`;
 * here an object is its own _semlock. */
#include "binding/semlock.h"

const char lvri_acquire_doc[] =
    "acquire($self, /, block=True, timeout=None)\n--\n\n"
    "Take it, waiting up to timeout seconds unless block is false; return whether that worked.";
const char lvri_release_doc[] = "release($self, /)\n--\n\nGive it back.";
const char lvri_locked_doc[] =
    "locked($self, /)\n--\n\nWhether a thread that holds nothing would have to wait.";
const char lvri_enter_doc[] = "__enter__($self, /)\n--\n\nacquire()";
const char lvri_exit_doc[] = "__exit__($self, /, *args)\n--\n\nrelease()";

static int set_deadline(PyObject *block, PyObject *timeout, int64_t *ret_deadline_ns) {
  int blocking = block == NULL ? 1 : PyObject_IsTrue(block);

  if (blocking < 0 || lvri_deadline_of(timeout, ret_deadline_ns) < 0) return -1;
  if (!blocking) *ret_deadline_ns = LVRI_TRY_ONCE;
  return 0;
}

static int raise_unexpected(const char *function, PyObject *name) {
  PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", function, name);
  return -1;
}

static int raise_repeated(const char *function, PyObject *name, Py_ssize_t position) {
  PyErr_Format(PyExc_TypeError, "argument for %s() given by name ('%U') and position (%zd)",
               function, name, position);
  return -1;
}

/* Which of the two arguments a keyword names; -1 with an error. */
static int argument_named(const char *function, PyObject *name) {
  if (PyUnicode_CompareWithASCIIString(name, "block") == 0) return 0;
  if (PyUnicode_CompareWithASCIIString(name, "timeout") == 0) return 1;
  return raise_unexpected(function, name);
}

int lvri_parse_waiting(const char *function, Py_ssize_t before, PyObject *const *args,
                       Py_ssize_t nargs, PyObject *kwnames, int64_t *ret_deadline_ns) {
  PyObject *values[2] = {NULL, NULL};
  Py_ssize_t keywords = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);

  if (nargs + keywords > 2) {
    PyErr_Format(PyExc_TypeError, "%s() takes at most %zd arguments (%zd given)", function,
                 before + 2, before + nargs + keywords);
    return -1;
  }
  for (Py_ssize_t i = 0; i < nargs; i++)
    values[i] = args[i];
  for (Py_ssize_t i = 0; i < keywords; i++) {
    PyObject *name = PyTuple_GET_ITEM(kwnames, i);
    int which = argument_named(function, name);

    if (which < 0) return -1;
    if (values[which] != NULL) return raise_repeated(function, name, before + which + 1);
    values[which] = args[nargs + i];
  }
  return set_deadline(values[0], values[1], ret_deadline_ns);
}

/* The attribute `name` of what module.function() returns. */
static PyObject *name_of_current(const char *module_name, const char *function) {
  PyObject *module = PyImport_ImportModule(module_name);
  PyObject *current = module == NULL ? NULL : PyObject_CallMethod(module, function, NULL);
  PyObject *name = current == NULL ? NULL : PyObject_GetAttrString(current, "name");

  Py_XDECREF(module);
  Py_XDECREF(current);
  return name;
}

PyObject *lvri_own_name(void) {
  PyObject *process = name_of_current("multiprocessing.process", "current_process");
  PyObject *thread = process == NULL ? NULL : name_of_current("threading", "current_thread");
  PyObject *both = NULL;

  if (thread != NULL && PyUnicode_Check(thread) &&
      PyUnicode_CompareWithASCIIString(thread, "MainThread") == 0)
    both = Py_NewRef(process);
  else if (thread != NULL)
    both = PyUnicode_FromFormat("%S|%S", process, thread);
  Py_XDECREF(process);
  Py_XDECREF(thread);
  return both;
}

static PyObject *semlock_self(PyObject *self, void *Py_UNUSED(closure)) { return Py_NewRef(self); }

static PyObject *semlock_after_fork(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(none)) {
  Py_RETURN_NONE;
}

static PyMethodDef semlock_methods[] = {
    {"__reduce__", lvri_shared_reduce, METH_NOARGS, lvri_reduce_doc},
    {"_after_fork", semlock_after_fork, METH_NOARGS, "Nothing: the core knows of every fork."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef semlock_getset[] = {
    {"_semlock", semlock_self, NULL, "The object itself.", NULL},
    LVRI_GETSET_DICT,
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot semlock_slots[] = {
    {Py_tp_doc, "Base class of Lock, RLock, Semaphore and BoundedSemaphore."},
    {Py_tp_traverse, lvri_shared_traverse},
    {Py_tp_clear, lvri_shared_clear},
    {Py_tp_members, lvri_shared_members},
    {Py_tp_methods, semlock_methods},
    {Py_tp_getset, semlock_getset},
    {0, NULL},
};

static PyType_Spec semlock_spec = {
    .name = "leveret.synchronize.SemLock",
    .basicsize = sizeof(struct lvri_shared),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = semlock_slots,
};

int lvri_exec_semlock(PyObject *module, struct lvri_state *state) {
  return lvri_add_type(module, &semlock_spec, NULL, &state->semlock_type);
}
