/* decode.c - reads an object of plain types from bytes that may be anything.
 *
 *   read_tree():  read one value -----> a leaf: give it to the innermost open container
 *                      |                             |
 *                      +-> a container: open it       +-> that is whole now: give it on outwards
 *
 * No recursion: open containers lie in an array of frames. Every length is compared with what is
 * left before anything is read or allocated for it; see "Hostile input" in docs/design/codec.md.
 *
 * The collector may run Python code whenever we make an object. It does not see lists and tuples
 * before they are whole. */
#include "binding/codec.h"
#include "binding/wire.h"

#include <string.h>

#define FEW_FRAMES   16u
#define FEW_NUMBERED 32u

/* A container whose items are being read. */
struct frame {
  PyObject *container;
  PyObject *key; /* of a dict: the one whose value comes next; NULL: a key comes next */
  size_t filled, count;
  unsigned kind; /* LVRI_WIRE_TUPLE, LVRI_WIRE_LIST, LVRI_WIRE_DICT */
};

struct reader {
  const unsigned char *at, *end;
  struct lvri_state *state;
  struct frame *frames; /* those that are open, outermost first */
  size_t depth, frame_room;
  size_t key_depth;    /* of the frame whose key is being read, plus one; 0: no key is */
  PyObject **numbered; /* strs, bytes, whole tuples so far; borrowed: what is made is kept */
  size_t numbered_count, numbered_room;
  struct frame few_frames[FEW_FRAMES];
  PyObject *few_numbered[FEW_NUMBERED];
};

int lvri_raise_corrupt(struct lvri_state *state, const char *what) {
  PyErr_Format(state->corrupt_message,
               "a message of wrong shape: %s; it is damaged, or was written by something else",
               what);
  return -1;
}

static PyObject *corrupt(struct reader *r, const char *what) {
  (void)lvri_raise_corrupt(r->state, what);
  return NULL;
}

static inline size_t left(const struct reader *r) { return (size_t)(r->end - r->at); }

/* --- numbers ------------------------------------------------------------------------------- */

/* `bytes` bytes, which the caller has seen to be there. */
static inline uint64_t take(struct reader *r, size_t bytes) {
  uint64_t number = 0;

  memcpy(&number, r->at, bytes);
  r->at += bytes;
  return number;
}

static int read_long_size(struct reader *r, unsigned first, uint64_t *ret_size) {
  size_t bytes = first == LVRI_SIZE_16 ? 2 : first == LVRI_SIZE_32 ? 4 : 8;

  if (left(r) < bytes) return lvri_raise_corrupt(r->state, "it ends within a size");
  *ret_size = take(r, bytes);
  return 0;
}

static inline int read_size(struct reader *r, uint64_t *ret_size) {
  if (r->at == r->end) return lvri_raise_corrupt(r->state, "it ends where a size should be");
  *ret_size = *r->at++;
  return *ret_size <= LVRI_SIZE_BYTE ? 0 : read_long_size(r, (unsigned)*ret_size, ret_size);
}

/* A size of things of `each` bytes that follow. */
static inline int read_length(struct reader *r, size_t each, size_t *ret_count) {
  uint64_t count;

  if (read_size(r, &count) < 0) return -1;
  if (count > left(r) / each)
    return lvri_raise_corrupt(r->state, "a size is larger than all of it");
  *ret_count = (size_t)count;
  return 0;
}

static PyObject *read_int(struct reader *r, size_t bytes) {
  if (left(r) < bytes) return corrupt(r, "it ends within an int");
  uint64_t number = take(r, bytes);
  unsigned above = (unsigned)(64 - bytes * 8);

  return PyLong_FromLongLong((int64_t)(number << above) >> above);
}

static PyObject *read_long(struct reader *r) {
  size_t bytes;

  if (read_length(r, 1, &bytes) < 0) return NULL;
  const unsigned char *from = r->at;

  r->at += bytes;
#if PY_VERSION_HEX >= 0x030D0000
  return PyLong_FromNativeBytes(from, bytes, Py_ASNATIVEBYTES_LITTLE_ENDIAN);
#else
  return _PyLong_FromByteArray(from, bytes, 1, 1);
#endif
}

static PyObject *read_float(struct reader *r) {
  double value;

  if (left(r) < sizeof(value)) return corrupt(r, "it ends within a float");
  uint64_t bits = take(r, sizeof(value));

  memcpy(&value, &bits, sizeof(value));
  return PyFloat_FromDouble(value);
}

/* --- strings ------------------------------------------------------------------------------- */

static int widen_numbered(struct reader *r) {
  size_t room = r->numbered_room * 2;
  bool is_first = r->numbered == r->few_numbered;
  PyObject **wider = PyMem_RawRealloc(is_first ? NULL : r->numbered, room * sizeof(PyObject *));

  if (wider == NULL) {
    (void)PyErr_NoMemory();
    return -1;
  }
  if (is_first) memcpy(wider, r->few_numbered, sizeof(r->few_numbered));
  r->numbered = wider;
  r->numbered_room = room;
  return 0;
}

/* Gives an object, NULL too, its number; takes it on failure. */
static inline PyObject *give_number(struct reader *r, PyObject *o) {
  if (o == NULL) return NULL;
  if (__builtin_expect(r->numbered_count == r->numbered_room, 0) && widen_numbered(r) < 0) {
    Py_DECREF(o);
    return NULL;
  }
  r->numbered[r->numbered_count++] = o;
  return o;
}

static inline uint64_t load_64(const unsigned char *at) {
  uint64_t word;

  memcpy(&word, at, sizeof(word));
  return word;
}

#define HIGH_BITS UINT64_C(0x8080808080808080)

static bool is_ascii(const unsigned char *at, size_t bytes) {
  uint64_t all = 0;

  for (; bytes >= 8; bytes -= 8, at += 8)
    all |= load_64(at);
  for (; bytes > 0; bytes--)
    all |= *at++;
  return (all & HIGH_BITS) == 0;
}

static PyObject *make_ascii(struct reader *r, size_t chars) {
  const unsigned char *from = r->at;

  r->at += chars;
  if (!is_ascii(from, chars)) return corrupt(r, "a str is not ASCII");
  if (chars == 1) return PyUnicode_FromOrdinal(*from); /* there is one such str only */
  PyObject *str = PyUnicode_New((Py_ssize_t)chars, 127);

  if (str != NULL) lvri_copy(PyUnicode_DATA(str), from, chars);
  return str;
}

/* The widest of characters, which need not be aligned. */
static Py_UCS4 widest_of(const unsigned char *from, size_t chars, size_t kind) {
  Py_UCS4 widest = 0;

  for (size_t i = 0; i < chars; i++) {
    Py_UCS4 c = 0;

    memcpy(&c, from + i * kind, kind);
    widest = c > widest ? c : widest;
  }
  return widest;
}

static Py_UCS4 widest_char(const unsigned char *from, size_t chars, size_t kind) {
  if (kind == 1) return is_ascii(from, chars) ? 127 : 255;
  return kind == 2 ? widest_of(from, chars, 2) : widest_of(from, chars, 4);
}

/* Whether CPython would keep a str with that widest character in this width. */
static bool is_width_of(Py_UCS4 widest, size_t kind) {
  if (kind == 1) return widest > 127;
  if (kind == 2) return widest > 0xff;
  return widest > 0xffff && widest <= 0x10ffff;
}

static PyObject *make_wide(struct reader *r, size_t chars, size_t kind) {
  const unsigned char *from = r->at;
  Py_UCS4 widest = widest_char(from, chars, kind);

  r->at += chars * kind;
  if (!is_width_of(widest, kind)) return corrupt(r, "a str has characters of another width");
  if (chars == 1) return PyUnicode_FromOrdinal((int)widest_of(from, 1, kind));
  PyObject *str = PyUnicode_New((Py_ssize_t)chars, widest);

  if (str != NULL) lvri_copy(PyUnicode_DATA(str), from, chars * kind);
  return str;
}

static PyObject *read_str(struct reader *r, size_t kind, bool ascii) {
  size_t chars;

  if (read_length(r, kind, &chars) < 0) return NULL;
  return give_number(r, ascii ? make_ascii(r, chars) : make_wide(r, chars, kind));
}

static PyObject *read_word(struct reader *r, size_t chars) {
  if (left(r) < chars) return corrupt(r, "it ends within a str");
  return give_number(r, make_ascii(r, chars));
}

static PyObject *read_bytes(struct reader *r) {
  size_t bytes;

  if (read_length(r, 1, &bytes) < 0) return NULL;
  const unsigned char *from = r->at;

  r->at += bytes;
  if (bytes < 2)
    return give_number(r, PyBytes_FromStringAndSize((const char *)from, (Py_ssize_t)bytes));
  PyObject *made = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)bytes);

  if (made != NULL) lvri_copy(PyBytes_AS_STRING(made), from, bytes);
  return give_number(r, made);
}

static PyObject *read_bytearray(struct reader *r) {
  size_t bytes;

  if (read_length(r, 1, &bytes) < 0) return NULL;
  PyObject *made = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)bytes);

  if (made != NULL) lvri_copy(PyByteArray_AS_STRING(made), r->at, bytes);
  r->at += bytes;
  return made;
}

static PyObject *read_again(struct reader *r) {
  uint64_t number;

  if (read_size(r, &number) < 0) return NULL;
  if (number >= r->numbered_count) return corrupt(r, "it names something that did not come");
  if (r->key_depth > 0 && PyTuple_CheckExact(r->numbered[number]))
    return corrupt(r, "a key names a tuple");
  return Py_NewRef(r->numbered[number]);
}

/* --- containers ---------------------------------------------------------------------------- */

static int widen_frames(struct reader *r) {
  size_t room = r->frame_room * 2;
  bool is_first = r->frames == r->few_frames;
  struct frame *frames = PyMem_RawRealloc(is_first ? NULL : r->frames, room * sizeof(*frames));

  if (frames == NULL) {
    (void)PyErr_NoMemory();
    return -1;
  }
  if (is_first) memcpy(frames, r->few_frames, sizeof(r->few_frames));
  r->frames = frames;
  r->frame_room = room;
  return 0;
}

/* Hidden from the collector until it is whole. */
static PyObject *make_hidden(unsigned kind, size_t count) {
  if (kind == LVRI_WIRE_DICT) return PyDict_New();
  PyObject *made =
      kind == LVRI_WIRE_LIST ? PyList_New((Py_ssize_t)count) : PyTuple_New((Py_ssize_t)count);

  if (made != NULL) PyObject_GC_UnTrack(made);
  return made;
}

static PyObject *make_empty(unsigned kind) {
  if (kind == LVRI_WIRE_DICT) return PyDict_New();
  return kind == LVRI_WIRE_LIST ? PyList_New(0) : PyTuple_New(0);
}

static int check_open(struct reader *r, unsigned kind, size_t count) {
  if (count > left(r) / (kind == LVRI_WIRE_DICT ? 2 : 1))
    return lvri_raise_corrupt(r->state, "a container is larger than all of it");
  if (r->key_depth == 0) return 0;
  if (kind != LVRI_WIRE_TUPLE) return lvri_raise_corrupt(r->state, "a key is a list or a dict");
  if (r->depth - r->key_depth >= LVRI_KEY_DEPTH)
    return lvri_raise_corrupt(r->state, "a key is nested too deep");
  return 0;
}

/* Opens a container; an empty one is returned whole. NULL without an exception: it is open. */
static PyObject *open_container(struct reader *r, unsigned kind, size_t count) {
  if (check_open(r, kind, count) < 0) return NULL;
  if (count == 0) return make_empty(kind);
  if (r->depth == r->frame_room && widen_frames(r) < 0) return NULL;
  PyObject *container = make_hidden(kind, count);

  if (container == NULL) return NULL;
  r->frames[r->depth++] = (struct frame){.container = container, .count = count, .kind = kind};
  if (kind == LVRI_WIRE_DICT) r->key_depth = r->depth;
  return NULL;
}

static PyObject *read_container(struct reader *r, unsigned kind) {
  uint64_t count;

  if (read_size(r, &count) < 0) return NULL;
  return open_container(r, kind, count > left(r) ? SIZE_MAX : (size_t)count);
}

/* A key, or the value of the key before it; takes it. */
static int add_to_dict(struct reader *r, struct frame *f, PyObject *value) {
  if (f->key == NULL) {
    f->key = value;
    r->key_depth = 0;
    return 0;
  }
  int failed = PyDict_SetItem(f->container, f->key, value);

  Py_CLEAR(f->key);
  Py_DECREF(value);
  r->key_depth = r->depth;
  if (failed < 0) return -1;
  if ((size_t)PyDict_GET_SIZE(f->container) == ++f->filled) return 0;
  return lvri_raise_corrupt(r->state, "a key comes twice");
}

static inline int add(struct reader *r, struct frame *f, PyObject *value) {
  if (f->kind == LVRI_WIRE_DICT) return add_to_dict(r, f, value);
  if (f->kind == LVRI_WIRE_LIST)
    PyList_SET_ITEM(f->container, (Py_ssize_t)f->filled, value);
  else
    PyTuple_SET_ITEM(f->container, (Py_ssize_t)f->filled, value);
  f->filled++;
  return 0;
}

/* The innermost container, which is whole; NULL with MemoryError. */
static PyObject *close_container(struct reader *r) {
  struct frame *f = &r->frames[--r->depth];

  if (f->kind == LVRI_WIRE_DICT)
    r->key_depth = 0; /* a dict is in no key */
  else
    PyObject_GC_Track(f->container);
  return f->kind == LVRI_WIRE_TUPLE ? give_number(r, f->container) : f->container;
}

static void drop_open(struct reader *r) {
  while (r->depth > 0) {
    struct frame *f = &r->frames[--r->depth];

    Py_XDECREF(f->key);
    Py_DECREF(f->container);
  }
}

/* --- all of them --------------------------------------------------------------------------- */

static PyObject *read_tagged(struct reader *r, unsigned tag) {
  switch (tag) {
    case LVRI_WIRE_NONE:
      return Py_NewRef(Py_None);
    case LVRI_WIRE_FALSE:
      return Py_NewRef(Py_False);
    case LVRI_WIRE_TRUE:
      return Py_NewRef(Py_True);
    case LVRI_WIRE_FLOAT:
      return read_float(r);
    case LVRI_WIRE_INT8:
      return read_int(r, 1);
    case LVRI_WIRE_INT16:
      return read_int(r, 2);
    case LVRI_WIRE_INT32:
      return read_int(r, 4);
    case LVRI_WIRE_INT64:
      return read_int(r, 8);
    case LVRI_WIRE_LONG:
      return read_long(r);
    case LVRI_WIRE_ASCII:
      return read_str(r, 1, true);
    case LVRI_WIRE_LATIN1:
      return read_str(r, 1, false);
    case LVRI_WIRE_UCS2:
      return read_str(r, 2, false);
    case LVRI_WIRE_UCS4:
      return read_str(r, 4, false);
    case LVRI_WIRE_BYTES:
      return read_bytes(r);
    case LVRI_WIRE_BYTEARRAY:
      return read_bytearray(r);
    case LVRI_WIRE_TUPLE:
    case LVRI_WIRE_LIST:
    case LVRI_WIRE_DICT:
      return read_container(r, tag);
    case LVRI_WIRE_AGAIN:
      return read_again(r);
    default:
      return corrupt(r, "a byte says nothing that is known");
  }
}

/* A leaf, or an empty container; NULL without an exception: a container was opened. */
static PyObject *read_value(struct reader *r) {
  if (__builtin_expect(r->at == r->end, 0)) return corrupt(r, "it ends too early");
  unsigned tag = *r->at++;

  if (tag <= LVRI_WIRE_INT_MAX) return PyLong_FromLong((long)tag);
  if (tag < LVRI_WIRE_FEW_TUPLE) return read_word(r, tag - LVRI_WIRE_WORD);
  if (tag < LVRI_WIRE_FEW_LIST)
    return open_container(r, LVRI_WIRE_TUPLE, tag - LVRI_WIRE_FEW_TUPLE);
  if (tag < LVRI_WIRE_FEW_DICT) return open_container(r, LVRI_WIRE_LIST, tag - LVRI_WIRE_FEW_LIST);
  if (tag < LVRI_WIRE_NONE) return open_container(r, LVRI_WIRE_DICT, tag - LVRI_WIRE_FEW_DICT);
  return read_tagged(r, tag);
}

/* Gives a value to where it belongs. 1: that made the root whole, which is *value then; 0: there is
 * more to come; -1 with the exception. */
static int settle(struct reader *r, PyObject **value) {
  while (r->depth > 0) {
    struct frame *f = &r->frames[r->depth - 1];

    if (add(r, f, *value) < 0) return -1;
    if (f->filled < f->count) return 0;
    *value = close_container(r);
    if (*value == NULL) return -1;
  }
  return 1;
}

static PyObject *read_tree(struct reader *r) {
  for (;;) {
    size_t depth = r->depth;
    PyObject *value = read_value(r);

    if (value == NULL && r->depth == depth) return NULL;
    if (value == NULL) continue;
    int settled = settle(r, &value);

    if (settled != 0) return settled < 0 ? NULL : value;
  }
}

static PyObject *decode_direct(struct reader *r) {
  PyObject *root = read_tree(r);

  drop_open(r);
  if (r->frames != r->few_frames) PyMem_RawFree(r->frames);
  if (r->numbered != r->few_numbered) PyMem_RawFree(r->numbered);
  if (root != NULL && r->at != r->end) {
    Py_DECREF(root);
    return corrupt(r, "there are bytes left over");
  }
  return root;
}

PyObject *lvri_decode(struct lvri_state *state, const void *data, size_t bytes, PyObject *buffers) {
  const unsigned char *from = data;
  struct reader r;

  if (bytes > 0 && (*from == LVRI_WIRE_PICKLE || *from == LVRI_WIRE_PICKLE_BUFFERS))
    return lvri_decode_pickled(state, from, bytes, buffers);
  r.at = from;
  r.end = from + bytes;
  r.state = state;
  r.frames = r.few_frames;
  r.frame_room = FEW_FRAMES;
  r.numbered = r.few_numbered;
  r.numbered_room = FEW_NUMBERED;
  r.depth = r.key_depth = r.numbered_count = 0;
  return decode_direct(&r);
}

int lvri_decode_buffers(struct lvri_state *state, const void *data, size_t bytes,
                        uint32_t *ret_count, const unsigned char **ret_flags) {
  const unsigned char *from = data;
  uint32_t count = 0;

  if (bytes == 0 || *from != LVRI_WIRE_PICKLE_BUFFERS) {
    *ret_count = 0;
    return 0;
  }
  if (bytes - 1 >= LVRI_BUFFER_COUNT_BYTES)
    memcpy(&count, from + bytes - LVRI_BUFFER_COUNT_BYTES, LVRI_BUFFER_COUNT_BYTES);
  if (count == 0 || count > bytes - 1 - LVRI_BUFFER_COUNT_BYTES)
    return lvri_raise_corrupt(state, "it does not say how many buffers it has");
  *ret_count = count;
  *ret_flags = from + bytes - LVRI_BUFFER_COUNT_BYTES - count;
  return 0;
}
