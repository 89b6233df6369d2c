/* atomic.c - fetch_add() and its like: a shared number is changed without its lock.
 *
 * For integers of 4 and 8 bytes in memory of ours. They wait for nobody, and no holder of the lock
 * keeps them out. Numbers that do not fit are cut, as ctypes cuts them: an item's bits are an
 * unsigned number here, and the item makes Python's of it. */
#include "binding/synchronized.h"

/* Where the number is; NULL with an error when there is none that this can be done to. */
static void *number_at(struct lvri_synchronized *s, Py_ssize_t index) {
  if (s->obj == NULL) return lvri_raise_uninitialised((PyObject *)s);
  if (s->item == NULL || !s->item->atomic) {
    PyErr_Format(PyExc_TypeError,
                 "this works without the lock, so it needs integers of 4 or 8 bytes in shared "
                 "memory, not %s",
                 Py_TYPE(s->obj)->tp_name);
    return NULL;
  }
  if (index < 0 || index >= s->count) {
    PyErr_SetString(PyExc_IndexError, "invalid index");
    return NULL;
  }
  return s->items + index * s->item->bytes;
}

/* The bits of an argument. -1 with an error. */
static int bits_of(PyObject *argument, uint64_t *ret_bits) {
  PyObject *number = PyNumber_Index(argument);

  if (number == NULL) return -1;
  *ret_bits = PyLong_AsUnsignedLongLongMask(number);
  Py_DECREF(number);
  return 0;
}

/* Python's number for bits of this item. */
static PyObject *number_of(const struct lvri_item *item, uint64_t bits) {
  uint32_t low = (uint32_t)bits;

  return item->get(item->bytes == sizeof(low) ? (const void *)&low : &bits);
}

PyObject *lvri_atomic_load(struct lvri_synchronized *s, Py_ssize_t index) {
  const void *at = number_at(s, index);

  if (at == NULL) return NULL;
  return number_of(s->item, s->item->bytes == 4 ? lvr_value_load_u32(at) : lvr_value_load_u64(at));
}

PyObject *lvri_atomic_store(struct lvri_synchronized *s, Py_ssize_t index, PyObject *number) {
  void *at = number_at(s, index);
  uint64_t bits;

  if (at == NULL || bits_of(number, &bits) < 0) return NULL;
  if (s->item->bytes == 4)
    lvr_value_store_u32(at, (uint32_t)bits);
  else
    lvr_value_store_u64(at, bits);
  Py_RETURN_NONE;
}

PyObject *lvri_atomic_exchange(struct lvri_synchronized *s, Py_ssize_t index, PyObject *number) {
  void *at = number_at(s, index);
  uint64_t bits;

  if (at == NULL || bits_of(number, &bits) < 0) return NULL;
  return number_of(s->item, s->item->bytes == 4 ? lvr_value_exchange_u32(at, (uint32_t)bits)
                                                : lvr_value_exchange_u64(at, bits));
}

PyObject *lvri_atomic_fetch_add(struct lvri_synchronized *s, Py_ssize_t index, PyObject *number) {
  void *at = number_at(s, index);
  uint64_t bits;

  if (at == NULL || bits_of(number, &bits) < 0) return NULL;
  return number_of(s->item, s->item->bytes == 4 ? lvr_value_fetch_add_u32(at, (uint32_t)bits)
                                                : lvr_value_fetch_add_u64(at, bits));
}

static bool compare_exchange(void *at, size_t bytes, uint64_t expected, uint64_t bits) {
  uint32_t low = (uint32_t)expected;

  if (bytes == 4) return lvr_value_compare_exchange_u32(at, &low, (uint32_t)bits);
  return lvr_value_compare_exchange_u64(at, &expected, bits);
}

PyObject *lvri_atomic_compare_exchange(struct lvri_synchronized *s, Py_ssize_t index,
                                       PyObject *expected, PyObject *number) {
  void *at = number_at(s, index);
  uint64_t expected_bits, bits;

  if (at == NULL || bits_of(expected, &expected_bits) < 0 || bits_of(number, &bits) < 0)
    return NULL;
  return PyBool_FromLong(compare_exchange(at, s->item->bytes, expected_bits, bits));
}
