/* item.h - the simple C types: between the bits in memory and Python's objects.
 *
 * An item does what ctypes does for that type, as far as that is beyond doubt; for all else it says
 * that it cannot, and ctypes is asked. It neither calls Python code nor raises but for want of
 * memory, and knows private copies of the bits only: shared ones are core/value.h's. */
#ifndef LVRI_BINDING_ITEM_H
#define LVRI_BINDING_ITEM_H

#include "binding/state.h"

#define LVRI_ITEM_MAX_BYTES 8

struct lvri_item {
  const char *name; /* in ctypes */
  char code;        /* its _type_ there */
  uint8_t bytes;
  bool atomic; /* an integer of 4 or 8 bytes: it can be changed without a lock */
  PyObject *(*get)(const void *bits);
  bool (*set)(void *bits, PyObject *value); /* false: ask ctypes; nothing happened */
  /* A slice: bytes, a string or a list. */
  PyObject *(*get_many)(const void *bits, Py_ssize_t count);
  bool (*set_many)(void *bits, PyObject *const *values, Py_ssize_t count);
};

/* The item of a ctypes type; NULL, without an error, when it has none. */
const struct lvri_item *lvri_item_of(PyObject *type);

#endif
