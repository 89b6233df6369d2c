#include "binding/many.h"
#include "binding/raw.h"

#define PACKED_COUNT 1024u

PyObject *lvri_raise_queue_error(const char *name) {
  PyObject *module = PyImport_ImportModule("queue");
  PyObject *type = module == NULL ? NULL : PyObject_GetAttrString(module, name);

  if (type != NULL) PyErr_SetNone(type);
  Py_XDECREF(type);
  Py_XDECREF(module);
  return NULL;
}

/* --- putting ------------------------------------------------------------------------------- */

/* Messages that are encoded and not put yet. */
struct packed {
  const struct lvri_sink *sink;
  PyObject *self;
  int64_t deadline_ns;
  Py_ssize_t done; /* put so far */
  size_t used;
  uint32_t count;
  struct lvr_slice slices[PACKED_COUNT];
  unsigned char bytes[LVRI_PACKED_BYTES];
};

/* 0 or a code; those that were put are counted in any case. */
static int flush(struct packed *p) {
  uint32_t put = 0;
  int code = 0;

  if (p->count > 0) code = p->sink->put_some(p->self, p->slices, p->count, p->deadline_ns, &put);
  p->done += put;
  p->count = 0;
  p->used = 0;
  return code;
}

static int pack(struct packed *p, PyObject *obj) {
  int code = 0;

  if (p->count == PACKED_COUNT || LVRI_PACKED_BYTES - p->used < LVRI_ENCODING_BYTES)
    code = flush(p);
  size_t bytes = code == 0 ? lvri_encode_small(obj, p->bytes + p->used, LVRI_ENCODING_BYTES) : 0;

  if (bytes > 0) {
    p->slices[p->count++] = (struct lvr_slice){p->bytes + p->used, bytes};
    p->used += bytes;
    return 0;
  }
  if (code == 0) code = flush(p);
  if (code == 0) code = p->sink->put_one(p->self, obj, p->deadline_ns);
  if (code == 0) p->done++;
  return code;
}

static int put_all(struct packed *p, PyObject *iterator) {
  PyObject *obj;
  int code = 0;

  while (code == 0 && (obj = PyIter_Next(iterator)) != NULL) {
    code = pack(p, obj);
    Py_DECREF(obj);
  }
  PyObject *raised = lvri_take_exception(); /* of the iterator, or of packing */
  int flushed = code == 0 ? flush(p) : 0;

  if (raised != NULL) lvri_put_exception(raised);
  if (raised != NULL) return LVRI_RAISED;
  return code != 0 ? code : flushed;
}

int lvri_put_many(const struct lvri_sink *sink, PyObject *self, PyObject *iterable,
                  int64_t deadline_ns, Py_ssize_t *ret_done) {
  PyObject *iterator = PyObject_GetIter(iterable);
  struct packed *p = iterator == NULL ? NULL : PyMem_Malloc(sizeof(*p));

  *ret_done = 0;
  if (p == NULL) {
    if (iterator != NULL) (void)PyErr_NoMemory();
    Py_XDECREF(iterator);
    return LVRI_RAISED;
  }
  p->sink = sink;
  p->self = self;
  p->deadline_ns = deadline_ns;
  p->used = p->count = 0;
  p->done = 0;
  int code = put_all(p, iterator);

  *ret_done = p->done;
  PyMem_Free(p);
  Py_DECREF(iterator);
  return code;
}

/* --- getting ------------------------------------------------------------------------------- */

/* What get_many() has got so far. */
struct gathered {
  const struct lvri_source *source;
  PyObject *self;
  struct lvri_state *state;
  PyObject **owed;
  PyObject *list;
  Py_ssize_t left; /* how many more it may be */
};

/* The exception that is set is raised by the next get. 0, or -1 with an error. */
static int owe(PyObject **owed) {
  PyObject *raised = lvri_take_exception();

  if (*owed == NULL) *owed = PyList_New(0);
  int failed = *owed == NULL ? -1 : PyList_Append(*owed, raised);

  Py_XDECREF(raised);
  return failed;
}

int lvri_raise_owed(PyObject **owed) {
  PyObject *first = Py_NewRef(PyList_GET_ITEM(*owed, 0));

  (void)PyList_SetSlice(*owed, 0, 1, NULL);
  if (PyList_GET_SIZE(*owed) == 0) Py_CLEAR(*owed);
  PyErr_Clear();
  lvri_put_exception(first);
  return LVRI_RAISED;
}

/* obj into the list; NULL: its exception is owed. 0 or LVRI_RAISED. */
static int keep(struct gathered *g, PyObject *obj) {
  int failed = obj == NULL ? owe(g->owed) : PyList_Append(g->list, obj);

  Py_XDECREF(obj);
  return failed ? LVRI_RAISED : 0;
}

/* What is no stream of the codec. */
static PyObject *unpack_raw(struct gathered *g, const unsigned char *bytes, uint32_t size) {
  struct lvr_message m;

  m.data = bytes;
  m.bytes = size;
  m.block = NULL;
  m.in_block = false;
  return g->source->unpack(g->state, &m);
}

static int unpack_many(struct gathered *g, const unsigned char *bytes, uint32_t count) {
  int code = 0;

  for (uint32_t i = 0; i < count && code == 0; i++) {
    uint32_t size;

    memcpy(&size, bytes, sizeof(size));
    bytes += sizeof(size);
    bool raw = size > 0 && *bytes == LVRI_RAW;

    code = keep(g, __builtin_expect(raw, 0) ? unpack_raw(g, bytes, size)
                                            : lvri_decode(g->state, bytes, size, NULL));
    bytes += (size + 3u) & ~3u;
  }
  return code;
}

static int get_one(struct gathered *g, int64_t deadline_ns) {
  struct lvr_message m;
  int code = g->source->get_one(g->self, &m, deadline_ns);

  if (code != 0) return code;
  g->left--;
  return keep(g, g->source->unpack(g->state, &m));
}

/* A few of those that are there, waiting for the first. */
static int get_some(struct gathered *g, int64_t deadline_ns) {
  unsigned char *buf = PyMem_Malloc(LVRI_PACKED_BYTES);
  uint32_t most = g->left < (Py_ssize_t)PACKED_COUNT ? (uint32_t)g->left : PACKED_COUNT, count = 0;

  if (buf == NULL) {
    (void)PyErr_NoMemory();
    return LVRI_RAISED;
  }
  int code = g->source->get_some(g->self, buf, most, deadline_ns, &count);

  if (code == 0) code = unpack_many(g, buf, count);
  PyMem_Free(buf);
  g->left -= (Py_ssize_t)count;
  return code != 0 || count > 0 ? code : get_one(g, deadline_ns);
}

/* The first one is waited for; then those that are there by now, not those that come meanwhile. */
static int get_all(struct gathered *g, int64_t deadline_ns) {
  int code = get_some(g, deadline_ns);
  Py_ssize_t there = (Py_ssize_t)g->source->size(g->self);

  if (there < g->left) g->left = there;
  while (code == 0 && g->left > 0)
    code = get_some(g, LVRI_TRY_ONCE);
  return code;
}

/* With something in the list it is returned, whatever stopped us. */
int lvri_get_many(const struct lvri_source *source, PyObject *self, PyObject **owed,
                  Py_ssize_t most, int64_t deadline_ns, PyObject **ret_list) {
  if (*owed != NULL) return lvri_raise_owed(owed);
  struct gathered g = {source, self, lvri_state_of_type(Py_TYPE(self)), owed, NULL, most};

  if (g.state == NULL || (g.list = PyList_New(0)) == NULL) return LVRI_RAISED;
  int code = get_all(&g, deadline_ns);

  if (PyList_GET_SIZE(g.list) > 0 && (code != LVRI_RAISED || owe(owed) == 0)) {
    *ret_list = g.list;
    return 0;
  }
  Py_DECREF(g.list);
  return *owed != NULL && code != LVRI_RAISED ? lvri_raise_owed(owed) : code;
}

int lvri_parse_get_many(PyObject *args, PyObject *kwargs, Py_ssize_t *ret_most,
                        int64_t *ret_deadline_ns) {
  static char *keywords[] = {"max", "timeout", NULL};
  PyObject *max = Py_None, *timeout = Py_None;
  Py_ssize_t most = PY_SSIZE_T_MAX;

  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:get_many", keywords, &max, &timeout) ||
      lvri_deadline_of(timeout, ret_deadline_ns) < 0)
    return -1;
  if (max != Py_None) most = PyNumber_AsSsize_t(max, PyExc_OverflowError);
  if (most == -1 && PyErr_Occurred()) return -1;
  if (most < 1) {
    PyErr_Format(PyExc_ValueError, "max must be at least 1, not %zd", most);
    return -1;
  }
  *ret_most = most;
  return 0;
}
