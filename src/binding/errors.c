/* errors.c - from the core's codes to Python's exceptions, once.
 *
 * A text is read at three in the morning: "cannot " + what was tried + ": " + what is the matter
 * and what helps. A code that is not in the table is an OSError of that number.
 */
#include "binding/state.h"

#include <errno.h>
#include <string.h>

enum raised { RAISE_MEMORY, RAISE_RUNTIME, RAISE_VALUE, RAISE_OS };

struct error_row {
  int code;
  enum raised raised;
  const char *text;
};

static const struct error_row error_rows[] = {
    {-ENOMEM, RAISE_MEMORY,
     "there is no memory left for it (see `ulimit -v`, `ulimit -f` and the memory limit of the "
     "container)"},
    {-EAGAIN, RAISE_OS, "the process table of this session is full; end some processes first"},
    {-EMFILE, RAISE_OS, "this process has too many open files (see `ulimit -n`)"},
    {-ENFILE, RAISE_OS, "the machine has too many open files"},
    {-EPERM, RAISE_OS, "the kernel, or a seccomp filter, forbids a system call that is needed"},
    {-ENOSYS, RAISE_OS,
     "the kernel, or a seccomp filter, does not offer a system call that is needed"},
    {-ESTALE, RAISE_RUNTIME,
     "the object is gone, or this process is not part of its session: the last handle was dropped "
     "before this one arrived, or this process was forked when the process table was full or "
     "memory was short"},
    {-EXDEV, RAISE_RUNTIME,
     "it belongs to another session of leveret; only processes that were started (directly or not) "
     "by the process that made it share it, so hand it to one of those"},
    {-EPROTO, RAISE_RUNTIME, "the arena was written by another version of leveret"},
    {-EBADMSG, RAISE_RUNTIME,
     "the descriptor is not the arena of a session, or the arena's header is damaged; end that "
     "session's processes if it is"},
    {-ESRCH, RAISE_RUNTIME, "there is no such process in this session (any more)"},
    {-EUCLEAN, RAISE_RUNTIME,
     "the arena is damaged: something wrote where it must not; end this session's processes"},
    {-ENOTRECOVERABLE, RAISE_RUNTIME,
     "a structure of the arena is broken: it could not be repaired after a process died, or "
     "something wrote where it must not; end this session's processes"},
    {-EOVERFLOW, RAISE_VALUE, "a counter would go beyond its limit"},
    {-EINVAL, RAISE_VALUE, "that is not a valid argument for it"},
};

int lvri_raise_os(int number, const char *text) {
  PyObject *args = Py_BuildValue("(is)", number, text);

  if (args != NULL) PyErr_SetObject(PyExc_OSError, args);
  Py_XDECREF(args);
  return -1;
}

static void raise_os(int code, const char *doing, const char *text) {
  PyObject *message = PyUnicode_FromFormat("cannot %s: %s", doing, text);
  const char *bytes = message == NULL ? NULL : PyUnicode_AsUTF8(message);

  if (bytes != NULL) (void)lvri_raise_os(-code, bytes);
  Py_XDECREF(message);
}

static void raise_row(const struct error_row *row, const char *doing) {
  switch (row->raised) {
    case RAISE_MEMORY:
      PyErr_Format(PyExc_MemoryError, "cannot %s: %s", doing, row->text);
      return;
    case RAISE_RUNTIME:
      PyErr_Format(PyExc_RuntimeError, "cannot %s: %s", doing, row->text);
      return;
    case RAISE_VALUE:
      PyErr_Format(PyExc_ValueError, "cannot %s: %s", doing, row->text);
      return;
    case RAISE_OS:
      raise_os(row->code, doing, row->text);
      return;
  }
}

PyObject *lvri_raise(int code, const char *doing) {
  if (PyErr_Occurred()) return NULL;
  for (size_t i = 0; i < Py_ARRAY_LENGTH(error_rows); i++) {
    if (error_rows[i].code == code) {
      raise_row(&error_rows[i], doing);
      return NULL;
    }
  }
  raise_os(code, doing, strerror(-code));
  return NULL;
}

PyObject *lvri_take_exception(void) {
#if PY_VERSION_HEX >= 0x030C0000
  return PyErr_GetRaisedException();
#else
  PyObject *type, *value, *traceback;

  PyErr_Fetch(&type, &value, &traceback);
  if (type == NULL) return NULL;
  PyErr_NormalizeException(&type, &value, &traceback);
  if (traceback != NULL) (void)PyException_SetTraceback(value, traceback);
  Py_DECREF(type);
  Py_XDECREF(traceback);
  return value;
#endif
}

void lvri_put_exception(PyObject *exception) {
#if PY_VERSION_HEX >= 0x030C0000
  PyErr_SetRaisedException(exception);
#else
  if (exception != NULL)
    PyErr_Restore(Py_NewRef(Py_TYPE(exception)), exception, PyException_GetTraceback(exception));
#endif
}

void lvri_let_go(const struct lvri_state *state, PyObject *raised) {
  if (!PyErr_GivenExceptionMatches(raised, PyExc_MemoryError)) return;
  PyObject *trace = PyException_GetTraceback(raised);
  const PyTracebackObject *at = (const PyTracebackObject *)(void *)trace;

  for (; at != NULL; at = at->tb_next) {
    PyObject *none = PyObject_CallMethodNoArgs((PyObject *)at->tb_frame, state->name_clear);

    if (none == NULL) PyErr_Clear();
    Py_XDECREF(none);
  }
  Py_XDECREF(trace);
}

static PyObject *let_go(PyObject *module, PyObject *raised) {
  if (!PyExceptionInstance_Check(raised))
    return PyErr_Format(PyExc_TypeError, "not an exception: %R", raised);
  lvri_let_go(lvri_state_of(module), raised);
  Py_RETURN_NONE;
}

static PyMethodDef error_functions[] = {
    {"let_go", let_go, METH_O,
     PyDoc_STR("let_go($module, exception, /)\n--\n\n"
               "Of a MemoryError: empty the frames that it came through. It takes no memory.")},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(
    abandoned_doc,
    "The last holder of a lock died with it; whoever acquires it next gets this warning.\n\n"
    "What the lock protects may be half changed.");

PyDoc_STRVAR(lost_task_doc,
             "Objects of a JoinableQueue will never be done: the processes that got them died.\n\n"
             "The next join() of the queue gives this warning, and does not wait for them.");

int lvri_exec_errors(PyObject *module, struct lvri_state *state) {
  state->name_clear = PyUnicode_InternFromString("clear");
  if (state->name_clear == NULL || PyModule_AddFunctions(module, error_functions) < 0) return -1;
  state->abandoned_lock_warning = PyErr_NewExceptionWithDoc(
      "leveret.AbandonedLockWarning", abandoned_doc, PyExc_RuntimeWarning, NULL);
  if (state->abandoned_lock_warning == NULL) return -1;
  if (PyModule_AddObjectRef(module, "AbandonedLockWarning", state->abandoned_lock_warning) < 0)
    return -1;
  state->lost_task_warning = PyErr_NewExceptionWithDoc("leveret.LostTaskWarning", lost_task_doc,
                                                       PyExc_RuntimeWarning, NULL);
  if (state->lost_task_warning == NULL) return -1;
  return PyModule_AddObjectRef(module, "LostTaskWarning", state->lost_task_warning);
}
