#include "binding/item.h"

#include <float.h>
#include <math.h>
#include <string.h>
#include <wchar.h>

/* A number that is not even equal to itself: two of them must not be one object. */
static inline bool is_nan(PyObject *number) {
  return PyFloat_CheckExact(number) && isnan(PyFloat_AS_DOUBLE(number));
}

/* What the many functions of an item are made from: its other two become part of the loop. A run of
 * the same bits is one object, many times: making objects is what takes time, and arrays are often
 * zeros. */
static inline __attribute__((always_inline)) PyObject *list_of(const char *bits, Py_ssize_t count,
                                                               size_t bytes,
                                                               PyObject *(*get)(const void *bits)) {
  PyObject *list = PyList_New(count), *one = NULL;

  for (Py_ssize_t i = 0; list != NULL && i < count; i++, bits += bytes) {
    if (i > 0 && memcmp(bits, bits - bytes, bytes) == 0 && !is_nan(one))
      Py_INCREF(one);
    else
      one = get(bits);
    if (one == NULL)
      Py_CLEAR(list);
    else
      PyList_SET_ITEM(list, i, one);
  }
  return list;
}

static inline __attribute__((always_inline)) bool bits_of(char *bits, PyObject *const *values,
                                                          Py_ssize_t count, size_t bytes,
                                                          bool (*set)(void *bits,
                                                                      PyObject *value)) {
  for (Py_ssize_t i = 0; i < count; i++, bits += bytes)
    if (!set(bits, values[i])) return false;
  return true;
}

#define DEFINE_SET_MANY(NAME, TYPE)                                                    \
  static bool NAME##_set_many(void *bits, PyObject *const *values, Py_ssize_t count) { \
    return bits_of(bits, values, count, sizeof(TYPE), NAME##_set);                     \
  }

#define DEFINE_MANY(NAME, TYPE)                                          \
  DEFINE_SET_MANY(NAME, TYPE)                                            \
  static PyObject *NAME##_get_many(const void *bits, Py_ssize_t count) { \
    return list_of(bits, count, sizeof(TYPE), NAME##_get);               \
  }

/* An integer's low 64 bits. */
static inline unsigned long long low_bits(PyObject *value) {
#if PY_VERSION_HEX >= 0x030C0000
  if (PyUnstable_Long_IsCompact((PyLongObject *)value))
    return (unsigned long long)PyUnstable_Long_CompactValue((PyLongObject *)value);
#endif
  return PyLong_AsUnsignedLongLongMask(value);
}

/* NAME_get() and NAME_set() for the C type TYPE. FROM makes Python's of it; TO, where CHECK holds,
 * is the way back. */
#define DEFINE_ITEM(NAME, TYPE, FROM, CHECK, TO)        \
  static PyObject *NAME##_get(const void *bits) {       \
    TYPE number;                                        \
                                                        \
    memcpy(&number, bits, sizeof(number));              \
    return FROM(number);                                \
  }                                                     \
                                                        \
  static bool NAME##_set(void *bits, PyObject *value) { \
    if (!CHECK(value)) return false;                    \
    TYPE number = (TYPE)TO(value);                      \
                                                        \
    memcpy(bits, &number, sizeof(number));              \
    return true;                                        \
  }                                                     \
                                                        \
  DEFINE_MANY(NAME, TYPE)

/* As ctypes does: what does not fit is cut off. */
#define DEFINE_INTEGER(NAME, TYPE, FROM) DEFINE_ITEM(NAME, TYPE, FROM, PyLong_Check, low_bits)

DEFINE_INTEGER(byte, signed char, PyLong_FromLong)
DEFINE_INTEGER(ubyte, unsigned char, PyLong_FromLong)
DEFINE_INTEGER(short, short, PyLong_FromLong)
DEFINE_INTEGER(ushort, unsigned short, PyLong_FromLong)
DEFINE_INTEGER(int, int, PyLong_FromLong)
DEFINE_INTEGER(uint, unsigned int, PyLong_FromUnsignedLong)
DEFINE_INTEGER(long, long, PyLong_FromLong)
DEFINE_INTEGER(ulong, unsigned long, PyLong_FromUnsignedLong)
DEFINE_INTEGER(longlong, long long, PyLong_FromLongLong)
DEFINE_INTEGER(ulonglong, unsigned long long, PyLong_FromUnsignedLongLong)
DEFINE_ITEM(double, double, PyFloat_FromDouble, PyFloat_CheckExact, PyFloat_AS_DOUBLE)
DEFINE_ITEM(boolean, unsigned char, PyBool_FromLong, PyBool_Check, Py_IsTrue)

static PyObject *float_get(const void *bits) {
  float number;

  memcpy(&number, bits, sizeof(number));
  return PyFloat_FromDouble((double)number);
}

/* What does not fit into a float is ctypes's affair. */
static bool float_set(void *bits, PyObject *value) {
  double wide = PyFloat_CheckExact(value) ? PyFloat_AS_DOUBLE(value) : HUGE_VAL;

  if (!(fabs(wide) <= (double)FLT_MAX)) return false;
  float number = (float)wide;

  memcpy(bits, &number, sizeof(number));
  return true;
}

DEFINE_MANY(float, float)

static PyObject *char_get_many(const void *bits, Py_ssize_t count) {
  return PyBytes_FromStringAndSize(bits, count);
}

static PyObject *char_get(const void *bits) { return char_get_many(bits, 1); }

static bool char_set(void *bits, PyObject *value) {
  if (!PyBytes_CheckExact(value) || PyBytes_GET_SIZE(value) != 1) return false;
  memcpy(bits, PyBytes_AS_STRING(value), 1);
  return true;
}

DEFINE_SET_MANY(char, char)

static PyObject *wchar_get_many(const void *bits, Py_ssize_t count) {
  return PyUnicode_FromWideChar(bits, count);
}

static PyObject *wchar_get(const void *bits) { return wchar_get_many(bits, 1); }

static bool wchar_set(void *bits, PyObject *value) {
  if (!PyUnicode_CheckExact(value) || PyUnicode_GET_LENGTH(value) != 1) return false;
  wchar_t character = (wchar_t)PyUnicode_READ_CHAR(value, 0);

  memcpy(bits, &character, sizeof(character));
  return true;
}

DEFINE_SET_MANY(wchar, wchar_t)

#define ITEM(CTYPE, NAME, CODE, TYPE, ATOMIC) \
  { CTYPE, CODE, sizeof(TYPE), ATOMIC, NAME##_get, NAME##_set, NAME##_get_many, NAME##_set_many }
#define INTEGER(NAME, CODE, TYPE) ITEM("c_" #NAME, NAME, CODE, TYPE, sizeof(TYPE) >= 4)

static const struct lvri_item items[] = {
    INTEGER(byte, 'b', signed char),
    INTEGER(ubyte, 'B', unsigned char),
    INTEGER(short, 'h', short),
    INTEGER(ushort, 'H', unsigned short),
    INTEGER(int, 'i', int),
    INTEGER(uint, 'I', unsigned int),
    INTEGER(long, 'l', long),
    INTEGER(ulong, 'L', unsigned long),
    INTEGER(longlong, 'q', long long),
    INTEGER(ulonglong, 'Q', unsigned long long),
    ITEM("c_float", float, 'f', float, false),
    ITEM("c_double", double, 'd', double, false),
    ITEM("c_bool", boolean, '?', unsigned char, false),
    ITEM("c_char", char, 'c', char, false),
    ITEM("c_wchar", wchar, 'u', wchar_t, false),
};

/* The type's code, which is one letter; 0: it has none. */
static Py_UCS4 code_of(PyObject *type) {
  PyObject *code = PyObject_GetAttrString(type, "_type_");
  Py_UCS4 letter = 0;

  PyErr_Clear();
  if (code != NULL && PyUnicode_Check(code) && PyUnicode_GET_LENGTH(code) == 1)
    letter = PyUnicode_READ_CHAR(code, 0);
  Py_XDECREF(code);
  return letter;
}

/* Whether it is ctypes.NAME itself, no subclass and no type of the other byte order. */
static bool is_ctypes(PyObject *type, const char *name) {
  PyObject *ctypes = PyImport_ImportModule("ctypes");
  PyObject *simple = ctypes == NULL ? NULL : PyObject_GetAttrString(ctypes, name);

  PyErr_Clear();
  Py_XDECREF(ctypes);
  Py_XDECREF(simple);
  return simple == type;
}

const struct lvri_item *lvri_item_of(PyObject *type) {
  Py_UCS4 code = code_of(type);

  for (size_t i = 0; i < Py_ARRAY_LENGTH(items); i++)
    if (code == (Py_UCS4)items[i].code && is_ctypes(type, items[i].name)) return &items[i];
  return NULL;
}
