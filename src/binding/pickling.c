/* pickling.c - what is not direct: pickle, protocol 5, straight into the stream.
 *
 *   pickler --- write(bytes) -----------> sink ---> the encoding's stream
 *           --- __call__(PickleBuffer) -> sink ---> the encoding's buffers, if it is large
 *
 * The pickler is the C one with the table of ForkingPickler, made anew for each object: somebody
 * may register a reducer at any time. That spares the call of ForkingPickler's own __init__, which
 * makes the same table in Python. Where another class is in its place, that one is called.
 *
 * When pickling fails, leveret.reduction says what to do: see last_resort() there. */
#include "binding/codec.h"
#include "binding/wire.h"

#include <string.h>

/* What is pickled in this thread, innermost: shared objects are carried by its parcel. */
static _Thread_local struct lvri_encoding *packing;

bool lvri_packing(void) { return packing != NULL; }

int lvri_packing_carry(const lvr_ref *ref) {
  if (packing == NULL) return 0;
  return lvri_encoding_refer(packing, ref) < 0 ? -1 : 1;
}

/* --- the sink ------------------------------------------------------------------------------ */

struct sink {
  PyObject_HEAD
  struct lvri_encoding *e; /* NULL: pickling is over */
};

static struct lvri_encoding *open_encoding(PyObject *self) {
  struct lvri_encoding *e = ((struct sink *)self)->e;

  if (e == NULL) PyErr_SetString(PyExc_ValueError, "the message is complete");
  return e;
}

static PyObject *sink_write(PyObject *self, PyObject *data) {
  struct lvri_encoding *e = open_encoding(self);
  Py_buffer view;

  if (e == NULL || PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) return NULL;
  if (lvri_encoding_put_view(e, &view) < 0) return NULL;
  Py_RETURN_NONE;
}

static PyObject *sink_rewind(PyObject *self, PyObject *Py_UNUSED(none)) {
  struct lvri_encoding *e = open_encoding(self);

  if (e == NULL) return NULL;
  lvri_encoding_clear(e);
  (void)lvri_encoding_claim(e, 1); /* the tag: there was room for it before */
  Py_RETURN_NONE;
}

static PyObject *sink_keep(PyObject *self, PyObject *pickler) {
  struct lvri_encoding *e = open_encoding(self);

  if (e == NULL) return NULL;
  Py_XSETREF(e->keeps, Py_NewRef(pickler));
  Py_RETURN_NONE;
}

/* Whether a view can travel by itself: its bytes as they lie in memory. */
static int take_buffer(struct lvri_encoding *e, PyObject *buffer) {
  Py_buffer view;

  if (PyObject_GetBuffer(buffer, &view, PyBUF_ANY_CONTIGUOUS) < 0) return -1;
  struct lvri_piece *piece =
      (size_t)view.len < LVRI_BUFFER_BYTES ? NULL : lvri_piece_add(&e->buffers);

  if (piece != NULL)
    *piece = (struct lvri_piece){.view = view};
  else
    PyBuffer_Release(&view);
  if (PyErr_Occurred()) return -1;
  return piece != NULL;
}

/* A pickler's buffer_callback: true, and the buffer is pickled with all else; false, and it travels
 * by itself. What is not contiguous is the pickler's business. */
static PyObject *sink_call(PyObject *self, PyObject *args, PyObject *Py_UNUSED(kwargs)) {
  struct lvri_encoding *e = open_encoding(self);
  PyObject *buffer;

  if (e == NULL || !PyArg_ParseTuple(args, "O:buffer_callback", &buffer)) return NULL;
  int taken = take_buffer(e, buffer);

  if (taken < 0 && !PyErr_ExceptionMatches(PyExc_BufferError)) return NULL;
  if (taken < 0) PyErr_Clear();
  return PyBool_FromLong(taken <= 0);
}

static void sink_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);

  type->tp_free(self);
  Py_DECREF(type);
}

static PyMethodDef sink_methods[] = {
    {"write", sink_write, METH_O, NULL},
    {"rewind", sink_rewind, METH_NOARGS, NULL},
    {"keep", sink_keep, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot sink_slots[] = {
    {Py_tp_doc, (void *)"What a pickler writes to."},
    {Py_tp_dealloc, sink_dealloc},
    {Py_tp_call, sink_call},
    {Py_tp_methods, sink_methods},
    {0, NULL},
};

static PyType_Spec sink_spec = {
    .name = "leveret._core.Sink",
    .basicsize = sizeof(struct sink),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = sink_slots,
};

static struct sink *new_sink(struct lvri_state *state, struct lvri_encoding *e) {
  struct sink *sink = PyObject_New(struct sink, state->sink_type);

  if (sink != NULL) sink->e = e;
  return sink;
}

/* --- what of Python's is needed ------------------------------------------------------------ */

/* The attribute of a module that is imported for it; into *ret_object, unless that is set. */
static int fetch(PyObject **ret_object, const char *module_name, const char *name) {
  if (*ret_object != NULL) return 0;
  PyObject *module = PyImport_ImportModule(module_name);

  if (module == NULL) return -1;
  PyObject *found = PyObject_GetAttrString(module, name);

  Py_DECREF(module);
  if (found == NULL) return -1;
  Py_XSETREF(*ret_object, found); /* the import may have come here, too */
  return 0;
}

/* ForkingPickler, whatever has been put into its place since. */
static int fetch_forking_pickler(struct lvri_state *state) {
  PyObject *registering = NULL;

  if (fetch(&registering, "multiprocessing.reduction", "register") < 0) return -1;
  PyObject *found = PyObject_GetAttrString(registering, "__self__");

  Py_DECREF(registering);
  if (found != NULL) Py_XSETREF(state->forking_pickler, found);
  return found == NULL ? -1 : 0;
}

static int fetch_pickle(struct lvri_state *state) {
  if (state->contexts != NULL) return 0;
  if (fetch(&state->pickler, "pickle", "Pickler") < 0 ||
      fetch(&state->loads, "pickle", "loads") < 0 || fetch_forking_pickler(state) < 0)
    return -1;
  PyObject *contexts = PyImport_ImportModule("multiprocessing.context");

  if (contexts != NULL) Py_XSETREF(state->contexts, contexts);
  return contexts == NULL ? -1 : 0;
}

/* The class that pickles as of now: contexts have it in `reduction`, which a program may set. */
static PyObject *current_class(struct lvri_state *state) {
  PyObject *reduction = PyObject_GetAttr(state->contexts, state->name_reduction);

  if (reduction == NULL) return NULL;
  PyObject *found = PyObject_GetAttr(reduction, state->name_class);

  Py_DECREF(reduction);
  return found;
}

/* --- pickling ------------------------------------------------------------------------------ */

/* Whether two dicts have the same entries in the same order, by identity. */
static bool are_same(PyObject *one, PyObject *two) {
  Py_ssize_t at_one = 0, at_two = 0;
  PyObject *key_one, *key_two, *value_one, *value_two;

  if (!PyDict_Check(one) || !PyDict_Check(two) || PyDict_GET_SIZE(one) != PyDict_GET_SIZE(two))
    return false;
  while (PyDict_Next(one, &at_one, &key_one, &value_one))
    if (!PyDict_Next(two, &at_two, &key_two, &value_two) || key_one != key_two ||
        value_one != value_two)
      return false;
  return true;
}

/* Joins them anew, and keeps copies to compare with. */
static int join_tables(struct lvri_state *state, PyObject *base, PyObject *more) {
  PyObject *joined = PyDict_Copy(base);
  PyObject *base_copy = joined == NULL ? NULL : PyDict_Copy(base);
  PyObject *more_copy = base_copy == NULL ? NULL : PyDict_Copy(more);

  if (more_copy == NULL || PyDict_Update(joined, more) < 0) Py_CLEAR(joined);
  if (joined != NULL) {
    Py_XSETREF(state->reducers, Py_NewRef(joined));
    Py_XSETREF(state->base_reducers, Py_NewRef(base_copy));
    Py_XSETREF(state->more_reducers, Py_NewRef(more_copy));
  }
  Py_XDECREF(base_copy);
  Py_XDECREF(more_copy);
  Py_XDECREF(joined);
  return joined == NULL ? -1 : 0;
}

static int join_if_changed(struct lvri_state *state, PyObject *base, PyObject *more) {
  if (state->reducers != NULL && are_same(base, state->base_reducers) &&
      are_same(more, state->more_reducers))
    return 0;
  return join_tables(state, base, more);
}

/* The reducers of ForkingPickler as of now: copyreg's, and its own. A new reference. */
static PyObject *current_reducers(struct lvri_state *state) {
  PyObject *base = PyObject_GetAttr(state->forking_pickler, state->name_base);
  PyObject *more = base == NULL ? NULL : PyObject_GetAttr(state->forking_pickler, state->name_more);
  int failed = more == NULL ? -1 : join_if_changed(state, base, more);

  Py_XDECREF(base);
  Py_XDECREF(more);
  return failed ? NULL : Py_NewRef(state->reducers);
}

static PyObject *call_pickler(struct lvri_state *state, PyObject *class, PyObject *sink) {
  PyObject *args[] = {sink, state->protocol, Py_True, sink};

  return PyObject_Vectorcall(class, args, Py_ARRAY_LENGTH(args), NULL);
}

static PyObject *new_quick_pickler(struct lvri_state *state, PyObject *sink) {
  PyObject *reducers = current_reducers(state);
  PyObject *pickler = reducers == NULL ? NULL : call_pickler(state, state->pickler, sink);

  if (pickler != NULL && PyObject_SetAttr(pickler, state->name_table, reducers) < 0)
    Py_CLEAR(pickler);
  Py_XDECREF(reducers);
  return pickler;
}

static PyObject *new_pickler(struct lvri_state *state, PyObject *sink) {
  PyObject *class = current_class(state);

  if (class == NULL) return NULL;
  PyObject *pickler = class == state->forking_pickler ? new_quick_pickler(state, sink)
                                                      : call_pickler(state, class, sink);

  Py_DECREF(class);
  return pickler;
}

static int dump(struct lvri_state *state, struct sink *sink, PyObject *obj) {
  PyObject *pickler = new_pickler(state, (PyObject *)sink);

  if (pickler == NULL) return -1;
  Py_XSETREF(sink->e->keeps, pickler);
  PyObject *done = PyObject_CallMethodOneArg(pickler, state->name_dump, obj);

  Py_XDECREF(done);
  return done == NULL ? -1 : 0;
}

/* leveret.reduction.last_resort(obj, sink, error): whether it wrote it after all. */
static PyObject *call_last_resort(PyObject *obj, struct sink *sink, PyObject *error) {
  PyObject *reduction = PyImport_ImportModule("leveret.reduction");
  PyObject *written = reduction == NULL ? NULL
                                        : PyObject_CallMethod(reduction, "last_resort", "(OOO)",
                                                              obj, (PyObject *)sink, error);

  Py_XDECREF(reduction);
  return written;
}

static int last_resort(PyObject *obj, struct sink *sink) {
  if (!PyErr_ExceptionMatches(PyExc_Exception)) return -1;
  PyObject *error = lvri_take_exception();
  PyObject *written = call_last_resort(obj, sink, error);
  int failed = written == Py_True ? 0 : -1;

  if (written == NULL || failed == 0)
    Py_DECREF(error);
  else
    lvri_put_exception(error);
  Py_XDECREF(written);
  return failed;
}

/* Behind the pickle: a byte for each buffer, and how many there are. */
static int put_buffers(struct lvri_encoding *e) {
  uint32_t count = e->buffers.count;
  unsigned char *at = lvri_encoding_claim(e, count + LVRI_BUFFER_COUNT_BYTES);

  if (at == NULL) return -1;
  for (uint32_t i = 0; i < count; i++)
    *at++ = e->buffers.items[i].view.readonly ? LVRI_BUFFER_READONLY : 0;
  memcpy(at, &count, LVRI_BUFFER_COUNT_BYTES);
  e->data[0] = LVRI_WIRE_PICKLE_BUFFERS;
  return 0;
}

static int pickle_into(struct lvri_state *state, struct sink *sink, PyObject *obj) {
  struct lvri_encoding *outer = packing;

  packing = sink->e;
  int failed = dump(state, sink, obj);

  if (failed) failed = last_resort(obj, sink);
  packing = outer;
  sink->e = NULL;
  return failed;
}

int lvri_encode_pickled(struct lvri_state *state, PyObject *obj, struct lvri_encoding *e) {
  unsigned char *tag = lvri_encoding_claim(e, 1);

  if (tag == NULL || fetch_pickle(state) < 0) return -1;
  *tag = LVRI_WIRE_PICKLE;
  struct sink *sink = new_sink(state, e);

  if (sink == NULL) return -1;
  int failed = pickle_into(state, sink, obj);

  Py_DECREF(sink);
  if (failed == 0 && e->buffers.count > 0) failed = put_buffers(e);
  return failed;
}

/* --- unpickling ---------------------------------------------------------------------------- */

static PyObject *call_loads(struct lvri_state *state, PyObject *view, PyObject *buffers) {
  PyObject *args[] = {view, buffers == NULL ? Py_None : buffers};

  return PyObject_Vectorcall(state->loads, args, 1, state->loads_names);
}

/* The view is taken from whoever may have got hold of it: the memory is not there for long. */
static PyObject *close_view(struct lvri_state *state, PyObject *view, PyObject *loaded) {
  PyObject *raised = loaded == NULL ? lvri_take_exception() : NULL;
  PyObject *released = PyObject_CallMethodNoArgs(view, state->name_release);

  if (released == NULL) Py_CLEAR(loaded);
  if (raised != NULL) lvri_put_exception(raised);
  Py_XDECREF(released);
  Py_DECREF(view);
  return loaded;
}

static PyObject *load(struct lvri_state *state, const unsigned char *data, size_t bytes,
                      PyObject *buffers) {
  PyObject *view = PyMemoryView_FromMemory((char *)(uintptr_t)data, (Py_ssize_t)bytes, PyBUF_READ);

  if (view == NULL) return NULL;
  return close_view(state, view, call_loads(state, view, buffers));
}

PyObject *lvri_decode_pickled(struct lvri_state *state, const unsigned char *data, size_t bytes,
                              PyObject *buffers) {
  uint32_t count;
  const unsigned char *flags;
  Py_ssize_t came = buffers == NULL ? 0 : PyList_GET_SIZE(buffers);

  if (lvri_decode_buffers(state, data, bytes, &count, &flags) < 0 || fetch_pickle(state) < 0)
    return NULL;
  if (came != (Py_ssize_t)count) {
    (void)lvri_raise_corrupt(state, "it came with more or fewer buffers than it has");
    return NULL;
  }
  return load(state, data + 1, bytes - 1, buffers);
}

static int intern(PyObject **ret_name, const char *text) {
  *ret_name = PyUnicode_InternFromString(text);
  return *ret_name == NULL ? -1 : 0;
}

static int intern_names(struct lvri_state *state) {
  if (intern(&state->name_base, "_copyreg_dispatch_table") < 0 ||
      intern(&state->name_more, "_extra_reducers") < 0 ||
      intern(&state->name_table, "dispatch_table") < 0 ||
      intern(&state->name_reduction, "reduction") < 0 ||
      intern(&state->name_class, "ForkingPickler") < 0 || intern(&state->name_dump, "dump") < 0 ||
      intern(&state->name_release, "release") < 0)
    return -1;
  return 0;
}

int lvri_exec_pickling(PyObject *module, struct lvri_state *state) {
  PyObject *type = PyType_FromModuleAndSpec(module, &sink_spec, NULL);

  if (type == NULL) return -1;
  state->sink_type = (PyTypeObject *)type;
  state->loads_names = Py_BuildValue("(s)", "buffers");
  state->protocol = PyLong_FromLong(5);
  if (state->loads_names == NULL || state->protocol == NULL) return -1;
  return intern_names(state);
}
