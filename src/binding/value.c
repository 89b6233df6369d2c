/* value.c - Synchronized: one number, character or pointer and its lock. */
#include "binding/synchronized.h"

/* value */

static PyObject *value_get(PyObject *self, void *Py_UNUSED(closure)) {
  struct lvri_synchronized *s = (struct lvri_synchronized *)self;
  const struct lvri_item *item = s->item;
  char bits[LVRI_ITEM_MAX_BYTES];

  if (item == NULL) return lvri_synchronized_get(s, "value");
  if (lvri_synchronized_take(s) < 0) return NULL;
  lvri_value_load(s->items, item->bytes, bits);
  return lvri_synchronized_drop(s) < 0 ? NULL : item->get(bits);
}

static int value_set(PyObject *self, PyObject *value, void *Py_UNUSED(closure)) {
  struct lvri_synchronized *s = (struct lvri_synchronized *)self;
  const struct lvri_item *item = s->item;
  char bits[LVRI_ITEM_MAX_BYTES];

  if (item == NULL || value == NULL || !item->set(bits, value))
    return lvri_synchronized_set(s, "value", value);
  if (lvri_synchronized_take(s) < 0) return -1;
  lvri_value_store(s->items, item->bytes, bits);
  return lvri_synchronized_drop(s);
}

/* Without the lock */

#define SELF ((struct lvri_synchronized *)self)

static PyObject *load(PyObject *self, PyObject *Py_UNUSED(none)) {
  return lvri_atomic_load(SELF, 0);
}

static PyObject *store(PyObject *self, PyObject *number) {
  return lvri_atomic_store(SELF, 0, number);
}

static PyObject *exchange(PyObject *self, PyObject *number) {
  return lvri_atomic_exchange(SELF, 0, number);
}

static PyObject *fetch_add(PyObject *self, PyObject *number) {
  return lvri_atomic_fetch_add(SELF, 0, number);
}

static PyObject *compare_exchange(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
  if (lvri_check_count("compare_exchange", nargs, 2) < 0) return NULL;
  return lvri_atomic_compare_exchange(SELF, 0, args[0], args[1]);
}

/* The class */

static int init(PyObject *self, PyObject *args, PyObject *kwargs) {
  if (lvri_synchronized_init(self, args, kwargs) < 0) return -1;
  return lvri_synchronized_find_items(SELF, (PyObject *)Py_TYPE(SELF->obj), 1);
}

static PyMethodDef methods[] = {
    {"load", load, METH_NOARGS, "load($self, /)\n--\n\nThe number; without the lock."},
    {"store", store, METH_O,
     "store($self, number, /)\n--\n\nMake this the number, without the lock."},
    {"fetch_add", fetch_add, METH_O,
     "fetch_add($self, number, /)\n--\n\n"
     "Add to it, without the lock, and return what it was before. It wraps around."},
    {"exchange", exchange, METH_O,
     "exchange($self, number, /)\n--\n\n"
     "Make this the number, without the lock, and return what it was before."},
    {"compare_exchange", LVRI_METHOD(compare_exchange), METH_FASTCALL,
     "compare_exchange($self, expected, number, /)\n--\n\n"
     "If it is what was expected make this the number, without the lock; return whether it was."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"value", value_get, value_set, "What it is, read and written with the lock held.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(doc,
             "Synchronized(obj, lock=None, ctx=None)\n--\n\n"
             "A simple ctypes object, such as a c_int, and its lock.");

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)doc},
    {Py_tp_init, init},
    {Py_tp_dealloc, lvri_synchronized_dealloc},
    {Py_tp_traverse, lvri_synchronized_traverse},
    {Py_tp_clear, lvri_synchronized_clear},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "leveret.sharedctypes.Synchronized",
    .basicsize = sizeof(struct lvri_synchronized),
    .flags = LVRI_SHARED_FLAGS,
    .slots = slots,
};

int lvri_exec_value(PyObject *module, struct lvri_state *state) {
  return lvri_add_type(module, &spec, state->synchronized_base_type, &state->synchronized_type);
}
