/* connection.c - PipeConnection: an end of a pipe.
 *
 *   send(obj)        encode  ->  channel                       channel  ->  decode         recv()
 *   send_bytes(buf)  RAW, and the bytes (in a block if many)    the bytes, RAW taken off
 *   recv_bytes()
 *
 * What was sent by the one may be received by the other: raw.h says how. _put_many() and
 * _get_many() are send() and recv() of many objects at once (many.h), for SimpleQueue.
 *
 * What can be done at once is done with the GIL held: one call of the core. Who must wait is
 * counted as a user of the handle and lets the GIL go; close() by another thread cuts his wait
 * short, and the last user gives the handle back. Under the GIL: all fields. A forked child has
 * none of its parent's threads, so users are forgotten when the process is another one. */
#include "binding/many.h"
#include "binding/parcel.h"
#include "binding/raw.h"
#include "binding/shared.h"
#include "core/pipe.h"
#include "core/session.h"

struct connection_object {
  struct lvri_shared shared;
  lvr_pipe *pipe; /* NULL: closed and given back, or never set */
  lvr_proc_id process;
  uint32_t users; /* threads of `process` that wait */
  PyObject *owed; /* as lvri_raise_owed() says */
  bool closed;
  bool readable, writable; /* also of a closed one */
};

LVRI_DEFINE_REFERENCE(pipe)
LVRI_DEFINE_FROM_REFERENCE(pipe)

static struct connection_object *connection_of(PyObject *self) {
  return (struct connection_object *)self;
}

/* Handles and their users */

/* -1 with an error when there is no open handle. */
static int check_open(PyObject *self) {
  struct connection_object *c = connection_of(self);

  if (__builtin_expect(c->pipe != NULL && !c->closed, 1)) return 0;
  if (c->closed)
    PyErr_SetString(PyExc_OSError, "handle is closed");
  else
    (void)lvri_raise_uninitialised(self);
  return -1;
}

static int check_readable(PyObject *self) {
  struct connection_object *c = connection_of(self);

  if (check_open(self) < 0) return -1;
  if (__builtin_expect(c->readable, 1)) return 0;
  PyErr_SetString(PyExc_OSError, "connection is write-only");
  return -1;
}

static int check_writable(PyObject *self) {
  if (check_open(self) < 0) return -1;
  if (__builtin_expect(connection_of(self)->writable, 1)) return 0;
  PyErr_SetString(PyExc_OSError, "connection is read-only");
  return -1;
}

static void forget_parents_users(struct connection_object *c) {
  lvr_proc_id process = lvri_session_self(c->pipe->handle.session);

  if (c->process != process) c->users = 0;
  c->process = process;
}

static void enter(struct connection_object *c) {
  forget_parents_users(c);
  c->users++;
}

static void give_back(struct connection_object *c) {
  lvr_pipe *pipe = c->pipe;

  c->pipe = NULL;
  lvr_pipe_detach(pipe);
}

static void leave(struct connection_object *c) {
  forget_parents_users(c);
  if (c->users > 0) c->users--;
  if (c->closed && c->users == 0) give_back(c);
}

static void interrupt(struct lvri_channel *channel) {
  if (channel != NULL) lvri_channel_interrupt(channel);
}

static void close_handle(struct connection_object *c) {
  if (c->pipe == NULL || c->closed) return;
  forget_parents_users(c);
  c->closed = true;
  if (c->users == 0) {
    give_back(c);
    return;
  }
  interrupt(lvri_pipe_in(c->pipe));
  interrupt(lvri_pipe_out(c->pipe));
}

/* After a wait that another thread's close() cut short; or that of another object over the same
 * end, which is no concern of ours: true, go on. */
static bool is_false_alarm(const struct connection_object *c, int code) {
  return code == -ECANCELED && !c->closed;
}

/* CALL waits at `channel` since `mark` until `until_ns`: as long as nobody closes this object. The
 * caller is a user. */
#define WAIT_WHILE_OPEN(c, code, deadline_ns, CALL)   \
  do {                                                \
    const uint32_t mark = lvri_channel_mark(channel); \
                                                      \
    LVRI_WAIT_UNTIL(code, deadline_ns, CALL);         \
  } while (is_false_alarm(c, code))

/* What became of a wait. Always NULL. */
static PyObject *raise_code(int code, const char *doing) {
  if (code == LVRI_RAISED || PyErr_Occurred()) return NULL;
  if (code == -ECANCELED) {
    PyErr_SetString(PyExc_OSError, "handle is closed");
  } else if (code == -EPIPE) {
    errno = EPIPE;
    return PyErr_SetFromErrno(PyExc_OSError);
  } else {
    return lvri_raise(code, doing);
  }
  return NULL;
}

/* Sending */

static int put_waiting(struct connection_object *c, const struct lvri_put *put) {
  struct lvri_channel *channel = lvri_pipe_out(c->pipe);
  int code;

  enter(c);
  WAIT_WHILE_OPEN(c, code, LVR_FOREVER, lvri_channel_put_since_until(channel, put, mark, until_ns));
  leave(c);
  return code;
}

/* 0; -1 with the exception. */
static int put_message(PyObject *self, const struct lvri_put *put) {
  struct connection_object *c = connection_of(self);

  if (check_open(self) < 0) return -1; /* what encoded may have closed it */
  int code = lvri_channel_try_put(lvri_pipe_out(c->pipe), put, false);

  if (code == -EAGAIN || code == -EBUSY) code = put_waiting(c, put);
  if (__builtin_expect(code == 0, 1)) return 0;
  (void)raise_code(code, "send through a pipe");
  return -1;
}

static int send_parcel(PyObject *self, PyObject *obj) {
  struct lvri_state *state = lvri_state_of_type(Py_TYPE(self));
  struct lvri_parcel parcel;

  if (state == NULL || lvri_parcel_pack(state, obj, &parcel) < 0) return -1;
  const struct lvri_put put = {parcel.data, parcel.bytes, parcel.block};
  int failed = put_message(self, &put);

  if (failed == 0) parcel.block = NULL; /* the message's now */
  lvri_parcel_fini(&parcel);
  return failed;
}

/* send(obj=...), or an error. Borrowed. */
static PyObject *parse_obj(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
  Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);

  if (nargs == 0 && named == 1 &&
      PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0), "obj") == 0)
    return args[0];
  PyErr_Format(PyExc_TypeError, "send() takes one argument, obj (%zd given)", nargs + named);
  return NULL;
}

static PyObject *connection_send(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames) {
  bool usual = nargs == 1 && kwnames == NULL;
  PyObject *obj = __builtin_expect(usual, 1) ? args[0] : parse_obj(args, nargs, kwnames);
  unsigned char small[LVRI_ENCODING_BYTES];

  if (obj == NULL || check_writable(self) < 0) return NULL;
  const struct lvri_put simple = {small, lvri_encode_small(obj, small, sizeof(small)), NULL};
  int failed = simple.bytes > 0 ? put_message(self, &simple) : send_parcel(self, obj);

  return failed < 0 ? NULL : Py_NewRef(Py_None);
}

static int send_few(PyObject *self, const void *data, size_t bytes) {
  unsigned char message[LVR_MESSAGE_INLINE];
  const struct lvri_put put = {message, bytes + 1, NULL};

  message[0] = LVRI_RAW;
  memcpy(message + 1, data, bytes);
  return put_message(self, &put);
}

static int send_many(PyObject *self, const void *data, size_t bytes) {
  static const unsigned char raw = LVRI_RAW;
  lvr_block *block;
  int code;

  Py_BEGIN_ALLOW_THREADS
  code = lvr_block_create(connection_of(self)->pipe->handle.session, bytes, 0, &block);
  Py_END_ALLOW_THREADS
  if (code < 0) {
    (void)lvri_raise(code, "send bytes through a pipe");
    return -1;
  }
  lvri_copy(lvr_block_data(block), data, bytes);
  const struct lvri_put put = {&raw, sizeof(raw), block};
  int failed = put_message(self, &put);

  if (failed < 0) lvr_block_detach(block);
  return failed;
}

/* The part of view that is meant: 0, or -1 with an error. */
static int parse_part(const Py_buffer *view, Py_ssize_t *offset, PyObject *size_arg,
                      Py_ssize_t *ret_size) {
  Py_ssize_t size = 0;

  if (*offset < 0) {
    PyErr_SetString(PyExc_ValueError, "offset is negative");
  } else if (view->len < *offset) {
    PyErr_SetString(PyExc_ValueError, "buffer length < offset");
  } else if (size_arg == NULL || size_arg == Py_None) {
    *ret_size = view->len - *offset;
    return 0;
  } else if ((size = PyNumber_AsSsize_t(size_arg, NULL)) == -1 && PyErr_Occurred()) {
    return -1;
  } else if (size < 0) {
    PyErr_SetString(PyExc_ValueError, "size is negative");
  } else if (size > view->len - *offset) {
    PyErr_SetString(PyExc_ValueError, "buffer length < offset + size");
  } else {
    *ret_size = size;
    return 0;
  }
  return -1;
}

/* As memoryview(buf) does it, and says it. */
static int view_of(PyObject *buf, int flags, Py_buffer *ret_view) {
  if (PyObject_CheckBuffer(buf)) return PyObject_GetBuffer(buf, ret_view, flags);
  PyErr_Format(PyExc_TypeError, "memoryview: a bytes-like object is required, not '%.200s'",
               Py_TYPE(buf)->tp_name);
  return -1;
}

static PyObject *connection_send_bytes(PyObject *self, PyObject *args, PyObject *kwargs) {
  static char *keywords[] = {"buf", "offset", "size", NULL};
  PyObject *buf, *size_arg = NULL;
  Py_ssize_t offset = 0, size = 0;
  Py_buffer view;
  int failed = -1;

  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|nO:send_bytes", keywords, &buf, &offset,
                                   &size_arg) ||
      check_writable(self) < 0 || view_of(buf, PyBUF_SIMPLE, &view) < 0)
    return NULL;
  if (parse_part(&view, &offset, size_arg, &size) == 0) {
    const char *data = (const char *)view.buf + offset;

    failed = (size_t)size < LVR_MESSAGE_INLINE ? send_few(self, data, (size_t)size)
                                               : send_many(self, data, (size_t)size);
  }
  PyBuffer_Release(&view);
  return failed < 0 ? NULL : Py_NewRef(Py_None);
}

/* Receiving */

static int get_waiting(struct connection_object *c, struct lvr_message *m, int64_t deadline_ns) {
  struct lvri_channel *channel = lvri_pipe_in(c->pipe);
  int code;

  enter(c);
  WAIT_WHILE_OPEN(c, code, deadline_ns, lvri_channel_get_since_until(channel, m, mark, until_ns));
  leave(c);
  return code;
}

/* Always NULL. */
static PyObject *get_failed(int code) {
  if (code != -EPIPE) return raise_code(code, "receive from a pipe");
  PyErr_SetNone(PyExc_EOFError);
  return NULL;
}

/* 0; -1 with the exception. */
static int get_message(PyObject *self, struct lvr_message *m) {
  struct connection_object *c = connection_of(self);
  bool owes = c->owed != NULL;
  int code = __builtin_expect(owes, 0) ? lvri_raise_owed(&c->owed)
                                       : lvri_channel_try_get(lvri_pipe_in(c->pipe), m, false);

  if (code == -EAGAIN || code == -EBUSY) code = get_waiting(c, m, LVR_FOREVER);
  if (__builtin_expect(code == 0, 1)) return 0;
  (void)get_failed(code);
  return -1;
}

/* Of the type's module; NULL with an error: then the message is given back. */
static struct lvri_state *state_for(PyObject *self, struct lvr_message *m) {
  struct lvri_state *state = lvri_state_of_type(Py_TYPE(self));

  if (__builtin_expect(state == NULL, 0)) lvr_message_fini(m);
  return state;
}

/* m is the caller's memory for it. 0, or -1 with an error: then there is nothing to give back. */
static int get_raw(PyObject *self, struct lvr_message *m, struct lvri_raw *ret_raw) {
  if (get_message(self, m) < 0) return -1;
  struct lvri_state *state = state_for(self, m);

  return state == NULL ? -1 : lvri_raw_of(state, m, ret_raw);
}

/* Consumes the message; NULL with an error. */
static PyObject *unpack(struct lvri_state *state, struct lvr_message *m) {
  if (__builtin_expect(lvri_is_raw(m), 0)) return lvri_raw_loads(m);
  if (m->block != NULL) return lvri_parcel_unpack(state, m);
  return lvri_decode(state, m->data, m->bytes, NULL);
}

static PyObject *connection_recv(PyObject *self, PyObject *Py_UNUSED(none)) {
  struct lvr_message m;

  if (check_readable(self) < 0 || get_message(self, &m) < 0) return NULL;
  struct lvri_state *state = state_for(self, &m);

  return __builtin_expect(state != NULL, 1) ? unpack(state, &m) : NULL;
}

static PyObject *raise_too_long(PyObject *self) {
  struct connection_object *c = connection_of(self);

  if (c->writable)
    c->readable = false;
  else
    close_handle(c);
  PyErr_SetString(PyExc_OSError, "bad message length");
  return NULL;
}

static PyObject *connection_recv_bytes(PyObject *self, PyObject *args, PyObject *kwargs) {
  static char *keywords[] = {"maxlength", NULL};
  PyObject *most_arg = Py_None;
  Py_ssize_t most = PY_SSIZE_T_MAX;
  struct lvr_message m;
  struct lvri_raw raw;

  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:recv_bytes", keywords, &most_arg) ||
      check_readable(self) < 0)
    return NULL;
  if (most_arg != Py_None && (most = PyNumber_AsSsize_t(most_arg, NULL)) < 0)
    return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "negative maxlength");
  if (get_raw(self, &m, &raw) < 0) return NULL;
  PyObject *bytes = raw.bytes > most ? raise_too_long(self) : lvri_raw_bytes(&raw);

  lvri_raw_fini(&raw);
  return bytes;
}

static PyObject *raise_too_short(const struct lvri_raw *raw) {
  PyObject *module = PyImport_ImportModule("multiprocessing.context");
  PyObject *type = module == NULL ? NULL : PyObject_GetAttrString(module, "BufferTooShort");
  PyObject *bytes = type == NULL ? NULL : lvri_raw_bytes(raw);

  if (bytes != NULL) PyErr_SetObject(type, bytes);
  Py_XDECREF(bytes);
  Py_XDECREF(type);
  Py_XDECREF(module);
  return NULL;
}

static PyObject *receive_into(PyObject *self, const Py_buffer *view, Py_ssize_t offset) {
  struct lvr_message m;
  struct lvri_raw raw;
  PyObject *result;

  if (offset < 0) return PyErr_Format(PyExc_ValueError, "negative offset");
  if (offset > view->len) return PyErr_Format(PyExc_ValueError, "offset too large");
  if (get_raw(self, &m, &raw) < 0) return NULL;
  if (raw.bytes > view->len - offset) {
    result = raise_too_short(&raw);
  } else {
    lvri_copy((char *)view->buf + offset, raw.data, (size_t)raw.bytes);
    result = PyLong_FromSsize_t(raw.bytes);
  }
  lvri_raw_fini(&raw);
  return result;
}

static PyObject *connection_recv_bytes_into(PyObject *self, PyObject *args, PyObject *kwargs) {
  static char *keywords[] = {"buf", "offset", NULL};
  PyObject *buf;
  Py_ssize_t offset = 0;
  Py_buffer view;

  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|n:recv_bytes_into", keywords, &buf, &offset) ||
      check_readable(self) < 0 || view_of(buf, PyBUF_WRITABLE, &view) < 0)
    return NULL;
  PyObject *result = receive_into(self, &view, offset);

  PyBuffer_Release(&view);
  return result;
}

/* Many at once */

static int put_some(PyObject *self, const struct lvr_slice *slices, uint32_t count,
                    int64_t deadline_ns, uint32_t *done) {
  struct connection_object *c = connection_of(self);
  int code;

  if (check_open(self) < 0) return LVRI_RAISED;
  struct lvri_channel *channel = lvri_pipe_out(c->pipe);

  enter(c);
  WAIT_WHILE_OPEN(c, code, deadline_ns,
                  lvri_channel_put_many_since_until(channel, slices, count, mark, until_ns, done));
  leave(c);
  return code;
}

static int put_one(PyObject *self, PyObject *obj, int64_t Py_UNUSED(deadline_ns)) {
  return send_parcel(self, obj) < 0 ? LVRI_RAISED : 0;
}

static const struct lvri_sink sink = {.put_some = put_some, .put_one = put_one};

PyDoc_STRVAR(put_many_doc,
             "_put_many($self, iterable, /)\n--\n\n"
             "Send every object of iterable, and return how many that were.");

static PyObject *connection_put_many(PyObject *self, PyObject *iterable) {
  Py_ssize_t done;

  if (check_writable(self) < 0) return NULL;
  int code = lvri_put_many(&sink, self, iterable, LVR_FOREVER, &done);

  return code == 0 ? PyLong_FromSsize_t(done) : raise_code(code, "send through a pipe");
}

static int get_batch(struct connection_object *c, void *buf, uint32_t most, int64_t deadline_ns,
                     uint32_t *ret_count) {
  struct lvri_channel *channel = lvri_pipe_in(c->pipe);
  size_t bytes;
  int code;

  WAIT_WHILE_OPEN(c, code, deadline_ns,
                  lvri_channel_get_many_since_until(channel, buf, LVRI_PACKED_BYTES, most, mark,
                                                    until_ns, ret_count, &bytes));
  return code;
}

static int get_some(PyObject *self, void *buf, uint32_t most, int64_t deadline_ns,
                    uint32_t *ret_count) {
  struct connection_object *c = connection_of(self);

  if (check_open(self) < 0) return LVRI_RAISED;
  enter(c);
  int code = get_batch(c, buf, most, deadline_ns, ret_count);

  if (code == -ETIMEDOUT && lvri_pipe_glance(c->pipe))
    code = get_batch(c, buf, most, LVRI_TRY_ONCE, ret_count);
  leave(c);
  return code;
}

static int get_one(PyObject *self, struct lvr_message *ret_m, int64_t deadline_ns) {
  if (check_open(self) < 0) return LVRI_RAISED;
  return get_waiting(connection_of(self), ret_m, deadline_ns);
}

static uint32_t size(PyObject *self) {
  const struct connection_object *c = connection_of(self);

  return c->pipe == NULL || c->closed ? 0 : lvri_channel_size(lvri_pipe_in(c->pipe)->shm);
}

static const struct lvri_source source = {
    .get_some = get_some, .get_one = get_one, .unpack = unpack, .size = size};

PyDoc_STRVAR(get_many_doc,
             "_get_many($self, /, max=None, timeout=None)\n--\n\n"
             "Wait for an object, and return a list of it and of those that are there, at most "
             "max;\nqueue.Empty after timeout seconds without one.");

static PyObject *connection_get_many(PyObject *self, PyObject *args, PyObject *kwargs) {
  int64_t deadline_ns;
  Py_ssize_t most;
  PyObject *list;

  if (lvri_parse_get_many(args, kwargs, &most, &deadline_ns) < 0 || check_readable(self) < 0)
    return NULL;
  int code = lvri_get_many(&source, self, &connection_of(self)->owed, most, deadline_ns, &list);

  if (code == -ETIMEDOUT) return lvri_raise_queue_error("Empty");
  return code == 0 ? list : get_failed(code);
}

/* Looking */

static int poll_until(struct connection_object *c, int64_t deadline_ns) {
  struct lvri_channel *channel = lvri_pipe_in(c->pipe);
  int code;

  enter(c);
  WAIT_WHILE_OPEN(c, code, deadline_ns, lvri_channel_wait_since_until(channel, mark, until_ns));
  if (code == -ETIMEDOUT && lvri_pipe_glance(c->pipe)) code = 0;
  leave(c);
  return code;
}

static PyObject *connection_poll(PyObject *self, PyObject *args, PyObject *kwargs) {
  static char *keywords[] = {"timeout", NULL};
  PyObject *timeout = NULL;
  int64_t deadline_ns = LVRI_TRY_ONCE;

  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:poll", keywords, &timeout) ||
      check_readable(self) < 0 || (timeout != NULL && lvri_deadline_of(timeout, &deadline_ns) < 0))
    return NULL;
  struct connection_object *c = connection_of(self);
  int code = deadline_ns == LVRI_TRY_ONCE ? lvr_pipe_wait_until(c->pipe, LVRI_TRY_ONCE)
                                          : poll_until(c, deadline_ns);

  if (code == -ETIMEDOUT) Py_RETURN_FALSE;
  return code == 0 ? Py_NewRef(Py_True) : raise_code(code, "wait for a pipe");
}

static PyObject *connection_fileno(PyObject *self, PyObject *Py_UNUSED(none)) {
  int fd;

  if (check_open(self) < 0) return NULL;
  int code = lvr_pipe_fileno(connection_of(self)->pipe, &fd);

  return code < 0 ? lvri_raise(code, "make a descriptor for a pipe") : PyLong_FromLong(fd);
}

static PyObject *connection_handle(PyObject *self, void *Py_UNUSED(closure)) {
  const struct connection_object *c = connection_of(self);

  if (c->pipe == NULL || c->closed) Py_RETURN_NONE;
  return connection_fileno(self, NULL);
}

static PyObject *connection_is_closed(PyObject *self, void *Py_UNUSED(closure)) {
  const struct connection_object *c = connection_of(self);

  return PyBool_FromLong(c->pipe == NULL || c->closed);
}

static PyObject *connection_is_readable(PyObject *self, void *Py_UNUSED(closure)) {
  return PyBool_FromLong(connection_of(self)->readable);
}

static PyObject *connection_is_writable(PyObject *self, void *Py_UNUSED(closure)) {
  return PyBool_FromLong(connection_of(self)->writable);
}

/* Life */

static void set_handle(PyObject *self, lvr_pipe *pipe) {
  struct connection_object *c = connection_of(self);

  c->pipe = pipe;
  c->readable = lvr_pipe_readable(pipe);
  c->writable = lvr_pipe_writable(pipe);
}

static int connection_init(PyObject *self, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs)) {
  PyErr_Format(PyExc_TypeError, "a %s is made by Pipe()", lvri_class_name(self));
  return -1;
}

/* In the place of the standard class's, which looks at what we do not have. */
static void connection_finalize(PyObject *Py_UNUSED(self)) {}

static int connection_traverse(PyObject *self, visitproc visit, void *arg) {
  Py_VISIT(connection_of(self)->owed);
  return lvri_shared_traverse(self, visit, arg);
}

static int connection_clear(PyObject *self) {
  Py_CLEAR(connection_of(self)->owed);
  return lvri_shared_clear(self);
}

static void connection_dealloc(PyObject *self) {
  lvri_shared_dealloc_begin(self);
  Py_CLEAR(connection_of(self)->owed);
  close_handle(connection_of(self));
  lvri_shared_dealloc_end(self);
}

static PyObject *connection_close(PyObject *self, PyObject *Py_UNUSED(none)) {
  close_handle(connection_of(self));
  Py_RETURN_NONE;
}

static PyObject *connection_enter(PyObject *self, PyObject *Py_UNUSED(none)) {
  return Py_NewRef(self);
}

static PyObject *connection_exit(PyObject *self, PyObject *const *Py_UNUSED(args),
                                 Py_ssize_t Py_UNUSED(nargs)) {
  return connection_close(self, NULL);
}

static PyObject *connection_getstate(PyObject *self, PyObject *Py_UNUSED(none)) {
  struct connection_object *c = connection_of(self);
  PyObject *reference = check_open(self) < 0 ? NULL : pipe_reference(c->pipe);

  if (reference == NULL) return NULL;
  return Py_BuildValue("(NNN)", reference, PyBool_FromLong(c->readable), lvri_attributes(self));
}

static PyObject *connection_setstate(PyObject *self, PyObject *state) {
  struct connection_object *c = connection_of(self);
  PyObject *reference, *attributes;
  lvr_pipe *pipe;
  int readable;

  if (lvri_check_state(self, c->pipe, state) < 0 ||
      !PyArg_ParseTuple(state, "OpO:__setstate__", &reference, &readable, &attributes) ||
      pipe_from_reference(reference, &pipe) < 0)
    return NULL;
  set_handle(self, pipe);
  c->readable = readable && c->readable;
  if (lvri_attributes_set(self, attributes) < 0) return NULL;
  Py_RETURN_NONE;
}

static PyObject *new_connection(PyTypeObject *type, lvr_pipe **pipe) {
  PyObject *empty = PyTuple_New(0);
  PyObject *self = empty == NULL ? NULL : PyType_GenericNew(type, empty, NULL);

  Py_XDECREF(empty);
  if (self == NULL) return NULL;
  set_handle(self, *pipe);
  *pipe = NULL;
  return self;
}

PyDoc_STRVAR(
    pipe_doc,
    "_pipe($type, duplex=True, /)\n--\n\n"
    "The two ends of a new pipe; if not duplex, the first can only receive and the second\n"
    "only send.");

static PyObject *connection_pipe(PyObject *type, PyObject *args) {
  lvr_session *session;
  lvr_pipe *first, *second;
  int duplex = 1;

  if (!PyArg_ParseTuple(args, "|p:Pipe", &duplex) || (session = lvri_session()) == NULL)
    return NULL;
  int code = lvr_pipe_create(session, duplex != 0, &first, &second);

  if (code < 0) return lvri_raise(code, "make a pipe");
  PyObject *one = new_connection((PyTypeObject *)type, &first);
  PyObject *two = one == NULL ? NULL : new_connection((PyTypeObject *)type, &second);
  PyObject *both = two == NULL ? NULL : PyTuple_Pack(2, one, two);

  lvr_pipe_detach(first);
  lvr_pipe_detach(second);
  Py_XDECREF(one);
  Py_XDECREF(two);
  return both;
}

static PyMethodDef connection_methods[] = {
    {"send", LVRI_METHOD(connection_send), METH_FASTCALL | METH_KEYWORDS,
     "send($self, obj)\n--\n\nSend an object; it is there for the other end when this returns."},
    {"recv", connection_recv, METH_NOARGS,
     "recv($self, /)\n--\n\n"
     "Receive an object; EOFError when there is none and the other end is closed."},
    {"send_bytes", LVRI_METHOD(connection_send_bytes), METH_VARARGS | METH_KEYWORDS,
     "send_bytes($self, buf, offset=0, size=None)\n--\n\nSend the bytes of a bytes-like object."},
    {"recv_bytes", LVRI_METHOD(connection_recv_bytes), METH_VARARGS | METH_KEYWORDS,
     "recv_bytes($self, maxlength=None)\n--\n\n"
     "Receive what send_bytes() sent, as bytes; OSError if it is longer than maxlength."},
    {"recv_bytes_into", LVRI_METHOD(connection_recv_bytes_into), METH_VARARGS | METH_KEYWORDS,
     "recv_bytes_into($self, buf, offset=0)\n--\n\n"
     "Receive bytes into a writable bytes-like object; returns how many.\n\n"
     "BufferTooShort, which has them, if there is too little room."},
    {"poll", LVRI_METHOD(connection_poll), METH_VARARGS | METH_KEYWORDS,
     "poll($self, timeout=0.0)\n--\n\n"
     "Whether something can be received, or the end is there, within timeout seconds; None: wait."},
    {"fileno", connection_fileno, METH_NOARGS,
     "fileno($self, /)\n--\n\n"
     "A descriptor that is readable when recv() would not wait, for select and asyncio."},
    {"close", connection_close, METH_NOARGS,
     "close($self, /)\n--\n\nClose this end here; others that have it go on with it."},
    {"__enter__", connection_enter, METH_NOARGS, NULL},
    {"__exit__", LVRI_METHOD(connection_exit), METH_FASTCALL, NULL},
    {"__getstate__", connection_getstate, METH_NOARGS, NULL},
    {"__setstate__", connection_setstate, METH_O, NULL},
    {"__reduce__", lvri_shared_reduce, METH_NOARGS, lvri_reduce_doc},
    {"_put_many", connection_put_many, METH_O, put_many_doc},
    {"_get_many", LVRI_METHOD(connection_get_many), METH_VARARGS | METH_KEYWORDS, get_many_doc},
    {"_pipe", connection_pipe, METH_VARARGS | METH_CLASS, pipe_doc},
    {NULL, NULL, 0, NULL},
};

/* And the standard library's private names. */
static PyGetSetDef connection_getset[] = {
    {"closed", connection_is_closed, NULL, "Whether this end is closed here.", NULL},
    {"readable", connection_is_readable, NULL, "Whether this end can receive.", NULL},
    {"writable", connection_is_writable, NULL, "Whether this end can send.", NULL},
    {"_handle", connection_handle, NULL, NULL, NULL},
    {"_readable", connection_is_readable, NULL, NULL, NULL},
    {"_writable", connection_is_writable, NULL, NULL, NULL},
    LVRI_GETSET_DICT,
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(connection_doc, "An end of a pipe.");

static PyType_Slot connection_slots[] = {
    {Py_tp_doc, (void *)connection_doc},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, connection_init},
    {Py_tp_finalize, connection_finalize},
    {Py_tp_dealloc, connection_dealloc},
    {Py_tp_traverse, connection_traverse},
    {Py_tp_clear, connection_clear},
    {Py_tp_methods, connection_methods},
    {Py_tp_getset, connection_getset},
    {Py_tp_members, lvri_shared_members},
    {0, NULL},
};

static PyType_Spec connection_spec = {
    .name = "leveret._core.PipeConnection",
    .basicsize = sizeof(struct connection_object),
    .flags = LVRI_SHARED_FLAGS,
    .slots = connection_slots,
};

int lvri_exec_connection(PyObject *module, struct lvri_state *state) {
  return lvri_add_type(module, &connection_spec, NULL, &state->connection_type);
}
