/* encode.c - writes an object of exact plain types into a stream, in one pass.
 *
 *   put_value() ---> put_int, put_str, ...        leaves
 *       ^      \
 *       +------- put_tuple, put_list, put_dict    their items; recursion that Python bounds
 *
 * Each put_X returns 1: written; 0: not direct, so that the whole object must be pickled; -1: the
 * exception is set (none where memory was fixed and too small). Nothing of Python's runs meanwhile
 * and the GIL stays ours, so no container changes under our hands and nothing is freed: borrowed
 * references will do.
 *
 * Two references at least lead to what is met twice; so only what has more than one is entered into
 * the set of what was seen. */
#include "binding/codec.h"
#include "binding/wire.h"

#include <string.h>

#define FEW       64u        /* that many slots of the set are on the stack */
#define NO_NUMBER UINT32_MAX /* it can be changed, or it is a tuple that is not whole yet */

/* What was seen: an open-addressed table of addresses, at most half full. */
struct seen {
  PyObject **objects; /* NULL: nothing was entered yet */
  uint32_t *numbers;  /* how many strs, bytes and tuples came before this one; or NO_NUMBER */
  uint32_t slots, used;
  PyObject *few_objects[FEW];
  uint32_t few_numbers[FEW];
};

struct walk {
  struct lvri_encoding *e;
  uint32_t numbered;  /* strs, bytes and whole tuples so far */
  uint32_t key_depth; /* levels of tuples in the key that is being written */
  struct seen seen;
};

static int put_value(struct walk *w, PyObject *o);

/* --- what was seen ------------------------------------------------------------------------- */

static uint32_t slot_of(const struct seen *seen, const PyObject *o) {
  uint64_t mixed = ((uint64_t)(uintptr_t)o >> 4) * UINT64_C(0x9E3779B97F4A7C15);

  return (uint32_t)(mixed >> 32) & (seen->slots - 1);
}

/* Where o is, or the empty slot where it belongs. */
static uint32_t find_slot(const struct seen *seen, const PyObject *o) {
  uint32_t at = slot_of(seen, o);

  while (seen->objects[at] != NULL && seen->objects[at] != o)
    at = (at + 1) & (seen->slots - 1);
  return at;
}

static void free_seen(struct seen *seen) {
  if (seen->slots <= FEW) return;
  PyMem_RawFree(seen->objects);
  PyMem_RawFree(seen->numbers);
}

static void move_seen(const struct seen *from, struct seen *to) {
  for (uint32_t i = 0; i < from->slots; i++) {
    if (from->objects[i] == NULL) continue;
    uint32_t at = find_slot(to, from->objects[i]);

    to->objects[at] = from->objects[i];
    to->numbers[at] = from->numbers[i];
  }
}

static int widen_seen(struct seen *seen) {
  struct seen wide;

  wide.slots = seen->slots * 4;
  wide.objects = wide.slots == 0 ? NULL : PyMem_RawCalloc(wide.slots, sizeof(PyObject *));
  wide.numbers = wide.slots == 0 ? NULL : PyMem_RawMalloc(wide.slots * sizeof(uint32_t));
  if (wide.objects == NULL || wide.numbers == NULL) {
    PyMem_RawFree(wide.objects);
    PyMem_RawFree(wide.numbers);
    (void)PyErr_NoMemory();
    return -1;
  }
  move_seen(seen, &wide);
  free_seen(seen);
  seen->slots = wide.slots;
  seen->objects = wide.objects;
  seen->numbers = wide.numbers;
  return 0;
}

static void begin_seen(struct seen *seen) {
  memset(seen->few_objects, 0, sizeof(seen->few_objects));
  seen->objects = seen->few_objects;
  seen->numbers = seen->few_numbers;
  seen->slots = FEW;
  seen->used = 0;
}

/* 1: met before, and *ret_number says which it was; 0: entered as `number`; -1: MemoryError. */
static int meet(struct seen *seen, PyObject *o, uint32_t number, uint32_t *ret_number) {
  if (seen->objects == NULL) begin_seen(seen);
  uint32_t at = find_slot(seen, o);

  if (seen->objects[at] != NULL) {
    *ret_number = seen->numbers[at];
    return 1;
  }
  seen->objects[at] = o;
  seen->numbers[at] = number;
  return ++seen->used * 2 > seen->slots ? widen_seen(seen) : 0;
}

static inline bool may_be_met_again(PyObject *o) { return Py_REFCNT(o) > 1; }

/* A str or bytes. Where nothing is written yet it is all there will be. */
static inline bool is_worth_a_note(const struct walk *w, PyObject *o) {
  return may_be_met_again(o) && w->e->bytes > 0;
}

/* 1: this container is met for the first time; 0: not, so it is not direct. */
static int enter(struct walk *w, PyObject *o) {
  uint32_t number;

  if (!may_be_met_again(o)) return 1;
  int met = meet(&w->seen, o, NO_NUMBER, &number);

  return met < 0 ? -1 : !met;
}

/* --- bytes of a stream --------------------------------------------------------------------- */

static inline int put_byte(struct walk *w, unsigned byte) {
  unsigned char *at = lvri_encoding_claim(w->e, 1);

  if (at == NULL) return -1;
  *at = (unsigned char)byte;
  return 1;
}

/* A tag and the low `bytes` bytes of number. */
static inline int put_number(struct walk *w, unsigned tag, uint64_t number, size_t bytes) {
  unsigned char *at = lvri_encoding_claim(w->e, 1 + bytes);

  if (at == NULL) return -1;
  *at = (unsigned char)tag;
  memcpy(at + 1, &number, bytes);
  return 1;
}

static int put_long_size(struct walk *w, uint64_t size) {
  if (size <= UINT16_MAX) return put_number(w, LVRI_SIZE_16, size, 2);
  if (size <= UINT32_MAX) return put_number(w, LVRI_SIZE_32, size, 4);
  return put_number(w, LVRI_SIZE_64, size, 8);
}

static inline int put_size(struct walk *w, unsigned tag, size_t size) {
  if (size <= LVRI_SIZE_BYTE) return put_number(w, tag, size, 1);
  if (put_byte(w, tag) < 0) return -1;
  return put_long_size(w, size);
}

/* How many items a container has: in its tag, if they are few. */
static inline int put_count(struct walk *w, unsigned few_tag, unsigned tag, size_t count) {
  if (count <= LVRI_FEW_MAX) return put_byte(w, few_tag + (unsigned)count);
  return put_size(w, tag, count);
}

/* Memory of `owner`, which stays as it is as long as owner lives. */
static int put_memory(struct walk *w, PyObject *owner, const void *memory, size_t bytes) {
  if (bytes < LVRI_SPLICE_BYTES) {
    unsigned char *at = lvri_encoding_claim(w->e, bytes);

    if (at != NULL) memcpy(at, memory, bytes);
    return at == NULL ? -1 : 1;
  }
  Py_buffer view;

  if (PyBuffer_FillInfo(&view, owner, (void *)(uintptr_t)memory, (Py_ssize_t)bytes, 1,
                        PyBUF_SIMPLE) < 0)
    return -1;
  return lvri_encoding_put_view(w->e, &view) < 0 ? -1 : 1;
}

/* --- numbers ------------------------------------------------------------------------------- */

static size_t bytes_of(PyObject *o) {
#if PY_VERSION_HEX >= 0x030D0000
  return (size_t)PyLong_AsNativeBytes(o, NULL, 0, Py_ASNATIVEBYTES_LITTLE_ENDIAN);
#else
  return _PyLong_NumBits(o) / 8 + 1;
#endif
}

static int copy_long(PyObject *o, unsigned char *to, size_t bytes) {
#if PY_VERSION_HEX >= 0x030D0000
  return PyLong_AsNativeBytes(o, to, (Py_ssize_t)bytes, Py_ASNATIVEBYTES_LITTLE_ENDIAN) < 0 ? -1
                                                                                            : 1;
#else
  return _PyLong_AsByteArray((PyLongObject *)o, to, bytes, 1, 1) < 0 ? -1 : 1;
#endif
}

static int put_long(struct walk *w, PyObject *o) {
  size_t bytes = bytes_of(o);

  if (put_size(w, LVRI_WIRE_LONG, bytes) < 0) return -1;
  unsigned char *at = lvri_encoding_claim(w->e, bytes);

  return at == NULL ? -1 : copy_long(o, at, bytes);
}

static int put_int(struct walk *w, PyObject *o) {
  int overflow;
  long long value = PyLong_AsLongLongAndOverflow(o, &overflow);

  if (overflow) return put_long(w, o);
  if (value >= 0 && value <= LVRI_WIRE_INT_MAX) return put_byte(w, (unsigned)value);
  if (value == (int8_t)value) return put_number(w, LVRI_WIRE_INT8, (uint64_t)value, 1);
  if (value == (int16_t)value) return put_number(w, LVRI_WIRE_INT16, (uint64_t)value, 2);
  if (value == (int32_t)value) return put_number(w, LVRI_WIRE_INT32, (uint64_t)value, 4);
  return put_number(w, LVRI_WIRE_INT64, (uint64_t)value, 8);
}

static int put_float(struct walk *w, PyObject *o) {
  double value = PyFloat_AS_DOUBLE(o);
  uint64_t bits;

  memcpy(&bits, &value, sizeof(bits));
  return put_number(w, LVRI_WIRE_FLOAT, bits, sizeof(bits));
}

/* --- strings ------------------------------------------------------------------------------- */

/* 1: it came before, and its number is written; 0: it is new, and has a number. */
static int put_again(struct walk *w, PyObject *o) {
  uint32_t number = 0;
  int met = meet(&w->seen, o, w->numbered, &number);

  if (met > 0) return put_size(w, LVRI_WIRE_AGAIN, number);
  w->numbered++;
  return met;
}

static int put_characters(struct walk *w, PyObject *o) {
  size_t chars = (size_t)PyUnicode_GET_LENGTH(o);
  unsigned kind = (unsigned)PyUnicode_KIND(o);
  unsigned tag = kind == 1 ? LVRI_WIRE_LATIN1 : kind == 2 ? LVRI_WIRE_UCS2 : LVRI_WIRE_UCS4;

  if (put_size(w, PyUnicode_IS_ASCII(o) ? LVRI_WIRE_ASCII : tag, chars) < 0) return -1;
  return put_memory(w, o, PyUnicode_DATA(o), chars * kind);
}

static int put_word(struct walk *w, PyObject *o, size_t chars) {
  unsigned char *at = lvri_encoding_claim(w->e, 1 + chars);

  if (at == NULL) return -1;
  *at = (unsigned char)(LVRI_WIRE_WORD + chars);
  memcpy(at + 1, PyUnicode_DATA(o), chars);
  return 1;
}

static int put_str(struct walk *w, PyObject *o) {
#if PY_VERSION_HEX < 0x030C0000
  if (PyUnicode_READY(o) < 0) return -1;
#endif
  size_t chars = (size_t)PyUnicode_GET_LENGTH(o);

  if (chars > 1 && is_worth_a_note(w, o)) {
    int again = put_again(w, o);

    if (again != 0) return again;
  } else {
    w->numbered++;
  }
  if (chars <= LVRI_WORD_MAX && PyUnicode_IS_ASCII(o)) return put_word(w, o, chars);
  return put_characters(w, o);
}

static int put_bytes(struct walk *w, PyObject *o) {
  size_t bytes = (size_t)PyBytes_GET_SIZE(o);

  if (bytes > 1 && is_worth_a_note(w, o)) {
    int again = put_again(w, o);

    if (again != 0) return again;
  } else {
    w->numbered++;
  }
  if (put_size(w, LVRI_WIRE_BYTES, bytes) < 0) return -1;
  return put_memory(w, o, PyBytes_AS_STRING(o), bytes);
}

static int put_bytearray(struct walk *w, PyObject *o) {
  Py_buffer view;
  int entered = enter(w, o);

  if (entered <= 0) return entered;
  if (PyObject_GetBuffer(o, &view, PyBUF_SIMPLE) < 0) return -1;
  if (put_size(w, LVRI_WIRE_BYTEARRAY, (size_t)view.len) < 0) {
    PyBuffer_Release(&view);
    return -1;
  }
  return lvri_encoding_put_view(w->e, &view) < 0 ? -1 : 1;
}

/* --- containers ---------------------------------------------------------------------------- */

static int put_items(struct walk *w, PyObject *const *items, Py_ssize_t count) {
  int put = 1;

  for (Py_ssize_t i = 0; i < count && put > 0; i++)
    put = put_value(w, items[i]);
  return put;
}

/* 1: it came before, and its number is written; 0: its items are to be written; -1; 2: it is not
 * direct, since it contains itself, or is in a key, where a number could lead too deep. */
static int put_tuple_again(struct walk *w, PyObject *o) {
  uint32_t number;
  int met = may_be_met_again(o) ? meet(&w->seen, o, NO_NUMBER, &number) : 0;

  if (met <= 0) return met;
  if (number == NO_NUMBER || w->key_depth > 0) return 2;
  return put_size(w, LVRI_WIRE_AGAIN, number);
}

/* A tuple's number is that of its end. */
static void number_tuple(struct walk *w, PyObject *o) {
  uint32_t number = w->numbered++;

  if (may_be_met_again(o)) w->seen.numbers[find_slot(&w->seen, o)] = number;
}

static int put_tuple_items(struct walk *w, PyObject *o) {
  Py_ssize_t count = PyTuple_GET_SIZE(o);

  if (w->key_depth > LVRI_KEY_DEPTH) return 0;
  if (put_count(w, LVRI_WIRE_FEW_TUPLE, LVRI_WIRE_TUPLE, (size_t)count) < 0) return -1;
  w->key_depth += w->key_depth > 0;
  int put = put_items(w, &PyTuple_GET_ITEM(o, 0), count);

  w->key_depth -= w->key_depth > 0;
  return put;
}

static int put_tuple(struct walk *w, PyObject *o) {
  if (PyTuple_GET_SIZE(o) == 0) return put_byte(w, LVRI_WIRE_FEW_TUPLE);
  int again = put_tuple_again(w, o);

  if (again != 0) return again == 2 ? 0 : again;
  int put = put_tuple_items(w, o);

  if (put > 0) number_tuple(w, o);
  return put;
}

static int put_list(struct walk *w, PyObject *o) {
  Py_ssize_t count = PyList_GET_SIZE(o);
  int put = enter(w, o);

  if (put > 0) put = put_count(w, LVRI_WIRE_FEW_LIST, LVRI_WIRE_LIST, (size_t)count);
  if (put <= 0 || count == 0) return put;
  return put_items(w, &PyList_GET_ITEM(o, 0), count);
}

/* A key: tuples in it are counted, and they alone can be. */
static int put_key(struct walk *w, PyObject *key) {
  if (!PyTuple_CheckExact(key)) return put_value(w, key);
  w->key_depth = 1;
  int put = put_value(w, key);

  w->key_depth = 0;
  return put;
}

static int put_dict(struct walk *w, PyObject *o) {
  Py_ssize_t at = 0;
  PyObject *key, *value;
  int put = enter(w, o);

  if (put > 0) put = put_count(w, LVRI_WIRE_FEW_DICT, LVRI_WIRE_DICT, (size_t)PyDict_GET_SIZE(o));
  while (put > 0 && PyDict_Next(o, &at, &key, &value)) {
    put = put_key(w, key);
    if (put > 0) put = put_value(w, value);
  }
  return put;
}

static int put_container(struct walk *w, PyObject *o, int (*put_it)(struct walk *w, PyObject *o)) {
  if (Py_EnterRecursiveCall(" while encoding a message")) return -1;
  int put = put_it(w, o);

  Py_LeaveRecursiveCall();
  return put;
}

/* --- all of them --------------------------------------------------------------------------- */

static int put_rare(struct walk *w, PyObject *o) {
  const PyTypeObject *type = Py_TYPE(o);

  if (type == &PyBytes_Type) return put_bytes(w, o);
  if (type == &PyBool_Type) return put_byte(w, o == Py_True ? LVRI_WIRE_TRUE : LVRI_WIRE_FALSE);
  if (type == &PyByteArray_Type) return put_bytearray(w, o);
  return 0;
}

static int put_value(struct walk *w, PyObject *o) {
  const PyTypeObject *type = Py_TYPE(o);

  if (type == &PyLong_Type) return put_int(w, o);
  if (type == &PyUnicode_Type) return put_str(w, o);
  if (type == &PyFloat_Type) return put_float(w, o);
  if (type == &PyTuple_Type) return put_container(w, o, put_tuple);
  if (type == &PyList_Type) return put_container(w, o, put_list);
  if (type == &PyDict_Type) return put_container(w, o, put_dict);
  if (o == Py_None) return put_byte(w, LVRI_WIRE_NONE);
  return put_rare(w, o);
}

int lvri_encode_direct(PyObject *obj, struct lvri_encoding *e) {
  struct walk w;

  w.e = e;
  w.numbered = 0;
  w.key_depth = 0;
  w.seen.objects = NULL;
  w.seen.slots = 0;
  int put = put_value(&w, obj);

  free_seen(&w.seen);
  return w.numbered >= NO_NUMBER - 1 && put > 0 ? 0 : put;
}

int lvri_encode(struct lvri_state *state, PyObject *obj, struct lvri_encoding *e) {
  int put = lvri_encode_direct(obj, e);

  if (put != 0) return put < 0 ? -1 : 0;
  lvri_encoding_clear(e);
  return lvri_encode_pickled(state, obj, e);
}

size_t lvri_encode_small(PyObject *obj, unsigned char *buf, size_t room) {
  struct lvri_encoding e;

  lvri_encoding_init(&e, buf, room);
  e.is_fixed = true;
  int put = lvri_encode_direct(obj, &e);
  size_t bytes = put > 0 && lvri_encoding_is_plain(&e) ? e.bytes : 0;

  if (bytes == 0 && put < 0) PyErr_Clear();
  lvri_encoding_fini(&e);
  return bytes;
}
