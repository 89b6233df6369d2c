/* batch.c - Batch: one who waits for the results of many tasks, each of which has its place.
 *
 * Results go straight into its list, without an event for each. Programs make subclasses: what they
 * do when all is there is theirs. */
#include "binding/board.h"

#include <stddef.h>

static struct lvri_batch *batch_of(PyObject *self) { return (struct lvri_batch *)self; }

int lvri_batch_check(struct lvri_batch *b, Py_ssize_t place, Py_ssize_t count) {
  Py_ssize_t places = b->results == NULL ? -1 : PyList_GET_SIZE(b->results);

  if (places < 0) {
    PyErr_Format(PyExc_RuntimeError, "%s.__init__() was not called", Py_TYPE(b)->tp_name);
    return -1;
  }
  if (place >= 0 && count <= places && place <= places - count) return 0;
  PyErr_Format(PyExc_IndexError, "a batch of %zd has no %zd places from %zd on", places, count,
               place);
  return -1;
}

/* The list is the program's too: it may have been cut. */
static void put_into(PyObject *list, Py_ssize_t place, PyObject *value) {
  PyObject *old = value;

  if (place < PyList_GET_SIZE(list)) {
    old = PyList_GET_ITEM(list, place);
    PyList_SET_ITEM(list, place, value);
  }
  Py_XDECREF(old);
}

static int append_failure(PyObject *failures, Py_ssize_t place, PyObject *value) {
  PyObject *pair = Py_BuildValue("(nO)", place, value);
  int failed = pair == NULL ? -1 : PyList_Append(failures, pair);

  Py_XDECREF(pair);
  return failed;
}

int lvri_batch_store(struct lvri_batch *b, Py_ssize_t place, enum lvri_result what,
                     PyObject *value) {
  if (what != LVRI_RESULT_VALUE) {
    if (append_failure(b->failures, place, value) < 0) return -1;
    b->left--;
    Py_DECREF(value);
  } else {
    b->left--;
    put_into(b->results, place, value);
  }
  return 0;
}

PyDoc_STRVAR(fail_doc,
             "fail($self, place, exception, /)\n--\n\n"
             "What was struck out failed: count it, and tell whether it was the last one.\n\n"
             "Who was interrupted and says the same again, of the same exception, is not counted.");

/* A failure is its place's result, too: that tells whether it was counted. */
static bool is_counted(const struct lvri_batch *b, Py_ssize_t place, PyObject *exception) {
  return place < PyList_GET_SIZE(b->results) && PyList_GET_ITEM(b->results, place) == exception;
}

static PyObject *batch_fail(PyObject *self, PyObject *args) {
  struct lvri_batch *b = batch_of(self);
  PyObject *exception;
  Py_ssize_t place;

  if (!PyArg_ParseTuple(args, "nO:fail", &place, &exception) || lvri_batch_check(b, place, 1) < 0)
    return NULL;
  if (!is_counted(b, place, exception)) {
    if (append_failure(b->failures, place, exception) < 0) return NULL;
    b->left--;
    put_into(b->results, place, Py_NewRef(exception));
  }
  return PyBool_FromLong(b->left == 0);
}

/* --- life ---------------------------------------------------------------------------------- */

static PyObject *new_results(Py_ssize_t count) {
  PyObject *list = PyList_New(count);

  for (Py_ssize_t i = 0; list != NULL && i < count; i++)
    PyList_SET_ITEM(list, i, Py_NewRef(Py_None));
  return list;
}

static int batch_init(PyObject *self, PyObject *args, PyObject *kwargs) {
  static char *keywords[] = {"count", NULL};
  struct lvri_batch *b = batch_of(self);
  Py_ssize_t count;

  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n:__init__", keywords, &count)) return -1;
  if (b->results != NULL || count < 0) {
    PyErr_SetString(PyExc_ValueError, count < 0 ? "count must not be negative"
                                                : "a batch is made once; make another one instead");
    return -1;
  }
  PyObject *failures = PyList_New(0), *results = failures == NULL ? NULL : new_results(count);

  if (results == NULL) {
    Py_XDECREF(failures);
    return -1;
  }
  b->left = count;
  b->failures = failures;
  b->results = results;
  return 0;
}

static int batch_traverse(PyObject *self, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(batch_of(self)->results);
  Py_VISIT(batch_of(self)->failures);
  return 0;
}

static int batch_clear(PyObject *self) {
  Py_CLEAR(batch_of(self)->results);
  Py_CLEAR(batch_of(self)->failures);
  return 0;
}

static void batch_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);

  PyObject_GC_UnTrack(self);
  (void)batch_clear(self);
  type->tp_free(self);
  Py_DECREF(type);
}

static PyMemberDef batch_members[] = {
    {"results", T_OBJECT_EX, offsetof(struct lvri_batch, results), READONLY,
     "The results by place; None where there is none yet."},
    {"failures", T_OBJECT_EX, offsetof(struct lvri_batch, failures), READONLY,
     "(place, value) of tasks that failed, in the order in which that came."},
    {"left", T_PYSSIZET, offsetof(struct lvri_batch, left), 0, "How many are not there yet."},
    {"notify", T_BOOL, offsetof(struct lvri_batch, notify), 0,
     "Whether take() tells of each result, and not only of the last one."},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef batch_methods[] = {
    {"fail", batch_fail, METH_VARARGS, fail_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(batch_doc,
             "Batch(count)\n--\n\n"
             "Waits for the results of many tasks, and keeps them by place.");

static PyType_Slot batch_slots[] = {
    {Py_tp_doc, (void *)batch_doc}, {Py_tp_init, batch_init},
    {Py_tp_dealloc, batch_dealloc}, {Py_tp_traverse, batch_traverse},
    {Py_tp_clear, batch_clear},     {Py_tp_methods, batch_methods},
    {Py_tp_members, batch_members}, {0, NULL},
};

static PyType_Spec batch_spec = {
    .name = "leveret._core.Batch",
    .basicsize = sizeof(struct lvri_batch),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = batch_slots,
};

int lvri_exec_batch(PyObject *module, struct lvri_state *state) {
  return lvri_add_type(module, &batch_spec, NULL, &state->batch_type);
}
