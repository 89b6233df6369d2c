/* array.c - SynchronizedArray and SynchronizedString: an array and its lock.
 *
 * Items and slices of a simple one are copied with the lock held and turned into Python's objects
 * without it; so nobody waits while a list is made. */
#include "binding/synchronized.h"

#define SELF ((struct lvri_synchronized *)self)

static char *item_at(const struct lvri_synchronized *s, Py_ssize_t index) {
  return s->items + index * s->item->bytes;
}

/* Asking ctypes, with the lock held */

static PyObject *get_by_ctypes(struct lvri_synchronized *s, PyObject *key) {
  if (lvri_synchronized_take(s) < 0) return NULL;
  return lvri_synchronized_done(s, PyObject_GetItem(s->obj, key));
}

static int set_by_ctypes(struct lvri_synchronized *s, PyObject *key, PyObject *value) {
  if (lvri_synchronized_take(s) < 0) return -1;
  int failed = value == NULL ? PyObject_DelItem(s->obj, key) : PyObject_SetItem(s->obj, key, value);

  return lvri_synchronized_drop(s) < 0 ? -1 : failed;
}

/* Items */

static PyObject *get_item(struct lvri_synchronized *s, Py_ssize_t index) {
  char bits[LVRI_ITEM_MAX_BYTES];

  if (lvri_synchronized_take(s) < 0) return NULL;
  lvri_value_load(item_at(s, index), s->item->bytes, bits);
  return lvri_synchronized_drop(s) < 0 ? NULL : s->item->get(bits);
}

/* False: nothing happened, ask ctypes. *ret_failed is set when true. */
static bool set_item(struct lvri_synchronized *s, Py_ssize_t index, PyObject *value,
                     int *ret_failed) {
  char bits[LVRI_ITEM_MAX_BYTES];

  if (value == NULL || !s->item->set(bits, value)) return false;
  *ret_failed = lvri_synchronized_take(s);
  if (*ret_failed) return true;
  lvri_value_store(item_at(s, index), s->item->bytes, bits);
  *ret_failed = lvri_synchronized_drop(s);
  return true;
}

/* The index that key is, from the end if it is negative; -1, without an error: it is none. */
static Py_ssize_t index_of(const struct lvri_synchronized *s, PyObject *key) {
  if (s->item == NULL || !PyLong_CheckExact(key)) return -1;
  Py_ssize_t index = PyNumber_AsSsize_t(key, NULL);

  if (index < 0) index += s->count;
  return index < s->count ? index : -1;
}

/* Slices */

struct slice {
  Py_ssize_t start, step, count;
};

/* -1 with an error. */
static int slice_of(const struct lvri_synchronized *s, PyObject *key, struct slice *ret) {
  Py_ssize_t stop;

  if (PySlice_Unpack(key, &ret->start, &stop, &ret->step) < 0) return -1;
  ret->count = PySlice_AdjustIndices(s->count, &ret->start, &stop, ret->step);
  return 0;
}

static PyObject *get_slice(struct lvri_synchronized *s, PyObject *key) {
  struct slice slice;

  if (slice_of(s, key, &slice) < 0) return NULL;
  size_t bytes = s->item->bytes, count = (size_t)slice.count;
  void *bits = PyMem_Malloc(count * bytes);

  if (bits == NULL) return PyErr_NoMemory();
  int failed = lvri_synchronized_take(s);

  if (!failed) {
    if (count > 0) lvri_value_gather(item_at(s, slice.start), slice.step, count, bytes, bits);
    failed = lvri_synchronized_drop(s);
  }
  PyObject *result = failed ? NULL : s->item->get_many(bits, slice.count);

  PyMem_Free(bits);
  return result;
}

static int store_slice(struct lvri_synchronized *s, struct slice slice, const void *bits) {
  if (slice.count == 0) return 0;
  if (lvri_synchronized_take(s) < 0) return -1;
  lvri_value_scatter(item_at(s, slice.start), slice.step, (size_t)slice.count, s->item->bytes,
                     bits);
  return lvri_synchronized_drop(s);
}

/* All of it, or nothing; ctypes would stop at the first value that it does not like. */
static int set_slice(struct lvri_synchronized *s, PyObject *key, PyObject *values) {
  struct slice slice;

  if (values == NULL || !(PyList_CheckExact(values) || PyTuple_CheckExact(values)))
    return set_by_ctypes(s, key, values);
  if (slice_of(s, key, &slice) < 0) return -1;
  if (PySequence_Fast_GET_SIZE(values) != slice.count) return set_by_ctypes(s, key, values);
  char *bits = PyMem_Malloc((size_t)slice.count * s->item->bytes);

  if (bits == NULL) {
    (void)PyErr_NoMemory();
    return -1;
  }
  PyObject *const *items = PySequence_Fast_ITEMS(values);
  int failed = s->item->set_many(bits, items, slice.count) ? store_slice(s, slice, bits)
                                                           : set_by_ctypes(s, key, values);

  PyMem_Free(bits);
  return failed;
}

/* The protocols */

static Py_ssize_t length(PyObject *self) {
  if (SELF->item != NULL) return SELF->count;
  if (SELF->obj != NULL) return PyObject_Size(SELF->obj);
  (void)lvri_raise_uninitialised(self);
  return -1;
}

static PyObject *subscript(PyObject *self, PyObject *key) {
  Py_ssize_t index = index_of(SELF, key);

  if (index >= 0) return get_item(SELF, index);
  if (SELF->item != NULL && PySlice_Check(key)) return get_slice(SELF, key);
  return get_by_ctypes(SELF, key);
}

static int ass_subscript(PyObject *self, PyObject *key, PyObject *value) {
  Py_ssize_t index = index_of(SELF, key);
  int failed;

  if (index >= 0 && set_item(SELF, index, value, &failed)) return failed;
  if (SELF->item != NULL && PySlice_Check(key)) return set_slice(SELF, key, value);
  return set_by_ctypes(SELF, key, value);
}

/* For iteration. PySequence_GetItem() has added the length to an index from the end. */
static PyObject *sequence_item(PyObject *self, Py_ssize_t index) {
  if (SELF->item != NULL && index >= 0 && index < SELF->count) return get_item(SELF, index);
  if (index < 0) {
    PyErr_SetString(PyExc_IndexError, "invalid index");
    return NULL;
  }
  if (lvri_synchronized_take(SELF) < 0) return NULL;
  return lvri_synchronized_done(SELF, PySequence_GetItem(SELF->obj, index));
}

static PyObject *getslice(PyObject *self, PyObject *args) {
  PyObject *start, *stop;

  if (!PyArg_ParseTuple(args, "OO:__getslice__", &start, &stop)) return NULL;
  PyObject *key = PySlice_New(start, stop, NULL);
  PyObject *result = key == NULL ? NULL : subscript(self, key);

  Py_XDECREF(key);
  return result;
}

static PyObject *setslice(PyObject *self, PyObject *args) {
  PyObject *start, *stop, *values;

  if (!PyArg_ParseTuple(args, "OOO:__setslice__", &start, &stop, &values)) return NULL;
  PyObject *key = PySlice_New(start, stop, NULL);
  int failed = key == NULL ? -1 : ass_subscript(self, key, values);

  Py_XDECREF(key);
  return failed ? NULL : Py_NewRef(Py_None);
}

/* Without the lock */

/* An index argument; -1 with or without an error: the array says that it is invalid. */
static int parse_index(struct lvri_synchronized *s, PyObject *key, Py_ssize_t *ret_index) {
  *ret_index = PyNumber_AsSsize_t(key, PyExc_IndexError);
  if (*ret_index == -1 && PyErr_Occurred()) return -1;
  if (*ret_index < 0) *ret_index += s->count;
  return 0;
}

static PyObject *load(PyObject *self, PyObject *key) {
  Py_ssize_t index;

  return parse_index(SELF, key, &index) < 0 ? NULL : lvri_atomic_load(SELF, index);
}

/* NAME(index, number) */
#define DEFINE_METHOD(NAME)                                                        \
  static PyObject *NAME(PyObject *self, PyObject *const *args, Py_ssize_t nargs) { \
    Py_ssize_t index;                                                              \
                                                                                   \
    if (lvri_check_count(#NAME, nargs, 2) < 0) return NULL;                        \
    if (parse_index(SELF, args[0], &index) < 0) return NULL;                       \
    return lvri_atomic_##NAME(SELF, index, args[1]);                               \
  }

DEFINE_METHOD(store)
DEFINE_METHOD(exchange)
DEFINE_METHOD(fetch_add)

static PyObject *compare_exchange(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
  Py_ssize_t index;

  if (lvri_check_count("compare_exchange", nargs, 3) < 0) return NULL;
  if (parse_index(SELF, args[0], &index) < 0) return NULL;
  return lvri_atomic_compare_exchange(SELF, index, args[1], args[2]);
}

/* The classes */

static PyObject *string_get(PyObject *self, void *name) {
  return lvri_synchronized_get(SELF, name);
}

static int string_set(PyObject *self, PyObject *value, void *name) {
  return lvri_synchronized_set(SELF, name, value);
}

/* Whether obj is an array that reads and writes its items as ctypes.Array does. -1 with an error.
 */
static int is_plain_array(PyObject *obj) {
  PyObject *ctypes = PyImport_ImportModule("ctypes");
  PyObject *array = ctypes == NULL ? NULL : PyObject_GetAttrString(ctypes, "Array");

  Py_XDECREF(ctypes);
  if (array == NULL) return -1;
  const PyTypeObject *base = (PyTypeObject *)array, *type = Py_TYPE(obj);
  bool plain = PyObject_TypeCheck(obj, (PyTypeObject *)array) &&
               PyType_GetSlot((PyTypeObject *)type, Py_mp_subscript) ==
                   PyType_GetSlot((PyTypeObject *)base, Py_mp_subscript) &&
               PyType_GetSlot((PyTypeObject *)type, Py_mp_ass_subscript) ==
                   PyType_GetSlot((PyTypeObject *)base, Py_mp_ass_subscript) &&
               PyType_GetSlot((PyTypeObject *)type, Py_mp_length) ==
                   PyType_GetSlot((PyTypeObject *)base, Py_mp_length);

  Py_DECREF(array);
  return plain;
}

static int find_items(PyObject *self, PyObject *obj) {
  PyObject *type = PyObject_GetAttrString(obj, "_type_");
  Py_ssize_t count = type == NULL ? -1 : PyObject_Size(obj);
  int failed = count < 0 ? -1 : lvri_synchronized_find_items(SELF, type, count);

  Py_XDECREF(type);
  return failed;
}

static int init(PyObject *self, PyObject *args, PyObject *kwargs) {
  if (lvri_synchronized_init(self, args, kwargs) < 0) return -1;
  int plain = is_plain_array(SELF->obj);

  return plain > 0 ? find_items(self, SELF->obj) : plain;
}

static PyMethodDef methods[] = {
    {"__getslice__", getslice, METH_VARARGS, "self[start:stop]"},
    {"__setslice__", setslice, METH_VARARGS, "self[start:stop] = values"},
    {"load", load, METH_O, "load($self, index, /)\n--\n\nThat number; without the lock."},
    {"store", LVRI_METHOD(store), METH_FASTCALL,
     "store($self, index, number, /)\n--\n\nMake this that number, without the lock."},
    {"fetch_add", LVRI_METHOD(fetch_add), METH_FASTCALL,
     "fetch_add($self, index, number, /)\n--\n\n"
     "Add to that number, without the lock, and return what it was before. It wraps around."},
    {"exchange", LVRI_METHOD(exchange), METH_FASTCALL,
     "exchange($self, index, number, /)\n--\n\n"
     "Make this that number, without the lock, and return what it was before."},
    {"compare_exchange", LVRI_METHOD(compare_exchange), METH_FASTCALL,
     "compare_exchange($self, index, expected, number, /)\n--\n\n"
     "If that number is what was expected make it this one, without the lock; return whether it "
     "was."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef string_getset[] = {
    {"value", string_get, string_set, "The bytes up to the first null byte.", "value"},
    {"raw", string_get, string_set, "All bytes.", "raw"},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(array_doc,
             "SynchronizedArray(obj, lock=None, ctx=None)\n--\n\n"
             "A ctypes array and its lock.");
PyDoc_STRVAR(string_doc,
             "SynchronizedString(obj, lock=None, ctx=None)\n--\n\n"
             "A ctypes array of c_char and its lock.");

static PyType_Slot array_slots[] = {
    {Py_tp_doc, (void *)array_doc},
    {Py_tp_init, init},
    {Py_tp_dealloc, lvri_synchronized_dealloc},
    {Py_tp_traverse, lvri_synchronized_traverse},
    {Py_tp_clear, lvri_synchronized_clear},
    {Py_tp_methods, methods},
    {Py_sq_item, sequence_item},
    {Py_sq_length, length},
    {Py_mp_length, length},
    {Py_mp_subscript, subscript},
    {Py_mp_ass_subscript, ass_subscript},
    {0, NULL},
};

static PyType_Slot string_slots[] = {
    {Py_tp_doc, (void *)string_doc},
    {Py_tp_dealloc, lvri_synchronized_dealloc},
    {Py_tp_traverse, lvri_synchronized_traverse},
    {Py_tp_clear, lvri_synchronized_clear},
    {Py_tp_getset, string_getset},
    {0, NULL},
};

static PyType_Spec array_spec = {
    .name = "leveret.sharedctypes.SynchronizedArray",
    .basicsize = sizeof(struct lvri_synchronized),
    .flags = LVRI_SHARED_FLAGS,
    .slots = array_slots,
};

static PyType_Spec string_spec = {
    .name = "leveret.sharedctypes.SynchronizedString",
    .basicsize = sizeof(struct lvri_synchronized),
    .flags = LVRI_SHARED_FLAGS,
    .slots = string_slots,
};

int lvri_exec_array(PyObject *module, struct lvri_state *state) {
  PyTypeObject **array = &state->synchronized_array_type;

  if (lvri_add_type(module, &array_spec, state->synchronized_base_type, array) < 0) return -1;
  return lvri_add_type(module, &string_spec, *array, &state->synchronized_string_type);
}
