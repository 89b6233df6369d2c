/* shared.c - what the types of shared objects have in common: attributes, weak references,
 * pickling. */
#include "binding/shared.h"

#include <stddef.h>
#include <string.h>

#include "binding/codec.h"

PyMemberDef lvri_shared_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(struct lvri_shared, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(struct lvri_shared, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

int lvri_shared_traverse(PyObject *self, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(((struct lvri_shared *)self)->dict);
  return 0;
}

int lvri_shared_clear(PyObject *self) {
  Py_CLEAR(((struct lvri_shared *)self)->dict);
  return 0;
}

void lvri_shared_dealloc_begin(PyObject *self) {
  PyObject_GC_UnTrack(self);
  if (((struct lvri_shared *)self)->weakrefs != NULL) PyObject_ClearWeakRefs(self);
}

void lvri_shared_dealloc_end(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);

  (void)lvri_shared_clear(self);
  type->tp_free(self);
  Py_DECREF(type);
}

const char *lvri_class_name(PyObject *self) {
  const char *dot = strrchr(Py_TYPE(self)->tp_name, '.');

  return dot == NULL ? Py_TYPE(self)->tp_name : dot + 1;
}

PyObject *lvri_raise_uninitialised(PyObject *self) {
  return PyErr_Format(PyExc_RuntimeError, "%s.__init__() was not called", lvri_class_name(self));
}

int lvri_parse_ctx(PyObject *args, PyObject *kwargs) {
  static char *keywords[] = {"ctx", NULL};
  PyObject *ctx;

  return PyArg_ParseTupleAndKeywords(args, kwargs, "|$O:__init__", keywords, &ctx) ? 0 : -1;
}

int lvri_check_count(const char *method, Py_ssize_t nargs, Py_ssize_t wanted) {
  if (nargs == wanted) return 0;
  PyErr_Format(PyExc_TypeError, "%s() takes exactly %zd arguments (%zd given)", method, wanted,
               nargs);
  return -1;
}

int lvri_check_fresh(PyObject *self, const void *handle) {
  if (handle == NULL) return 0;
  PyErr_Format(PyExc_RuntimeError, "%s.__init__() was called already; make another object instead",
               lvri_class_name(self));
  return -1;
}

int lvri_check_state(PyObject *self, const void *handle, PyObject *state) {
  if (lvri_check_fresh(self, handle) < 0) return -1;
  if (PyTuple_Check(state)) return 0;
  PyErr_Format(PyExc_TypeError, "the state of a %s is a tuple, not %s", lvri_class_name(self),
               Py_TYPE(state)->tp_name);
  return -1;
}

/* Pickling */

const char lvri_reduce_doc[] =
    "__reduce__($self, /)\n--\n\nFor pickle; any process of the session can load it.";

/* The Popen of ours that is spawning a child in this thread, a new reference; or NULL. -1 with an
 * error. */
static int spawning(PyObject **ret_popen) {
  PyObject *context = PyImport_ImportModule("multiprocessing.context");

  *ret_popen = NULL;
  if (context == NULL) return -1;
  PyObject *popen = PyObject_CallMethod(context, "get_spawning_popen", NULL);
  Py_DECREF(context);
  if (popen == NULL) return -1;
  if (popen != Py_None && PyObject_HasAttrString(popen, "give"))
    *ret_popen = popen;
  else
    Py_DECREF(popen);
  return 0;
}

int lvri_passage_begin(struct lvri_passage *passage) {
  *passage = (struct lvri_passage){.alone = false};
  if (lvri_packing()) return 0;
  int failed = spawning(&passage->popen);

  passage->alone = passage->popen == NULL;
  return failed;
}

static int tell(const struct lvri_passage *passage, PyObject *bytes, const lvr_ref *ref) {
  if (passage->alone) return 0;
  if (passage->popen == NULL) return lvri_packing_carry(ref);
  PyObject *given = PyObject_CallMethod(passage->popen, "give", "O", bytes);

  Py_XDECREF(given);
  return given == NULL ? -1 : 0;
}

PyObject *lvri_passage_end(struct lvri_passage *passage, const lvr_ref *ref) {
  PyObject *bytes = PyBytes_FromStringAndSize((const char *)ref, sizeof(*ref));

  if (bytes != NULL && tell(passage, bytes, ref) < 0) Py_CLEAR(bytes);
  Py_CLEAR(passage->popen);
  return bytes;
}

int lvri_reference_parse(PyObject *bytes, lvr_ref *ret_ref) {
  if (!PyBytes_Check(bytes) || PyBytes_GET_SIZE(bytes) != (Py_ssize_t)sizeof(*ret_ref)) {
    PyErr_SetString(PyExc_ValueError,
                    "this pickle does not hold a reference of leveret's: it is damaged, or of "
                    "another version");
    return -1;
  }
  memcpy(ret_ref, PyBytes_AS_STRING(bytes), sizeof(*ret_ref));
  return 0;
}

PyObject *lvri_attributes(PyObject *self) {
  PyObject *dict = ((struct lvri_shared *)self)->dict;

  return Py_NewRef(dict != NULL && PyDict_GET_SIZE(dict) > 0 ? dict : Py_None);
}

int lvri_attributes_set(PyObject *self, PyObject *attributes) {
  if (attributes == Py_None) return 0;
  PyObject *dict = PyObject_GenericGetDict(self, NULL);
  int failed = dict == NULL ? -1 : PyDict_Update(dict, attributes);

  Py_XDECREF(dict);
  return failed;
}

PyObject *lvri_shared_reduce(PyObject *self, PyObject *Py_UNUSED(none)) {
  struct lvri_state *state = lvri_state_of_type(Py_TYPE(self));
  PyObject *contents = state == NULL ? NULL : PyObject_CallMethod(self, "__getstate__", NULL);

  return contents == NULL ? NULL : Py_BuildValue("O(O)N", state->newobj, Py_TYPE(self), contents);
}

int lvri_exec_shared(PyObject *Py_UNUSED(module), struct lvri_state *state) {
  PyObject *copyreg = PyImport_ImportModule("copyreg");

  if (copyreg == NULL) return -1;
  state->newobj = PyObject_GetAttrString(copyreg, "__newobj__");
  Py_DECREF(copyreg);
  return state->newobj == NULL ? -1 : 0;
}
