/* connection.c - PipeConnection: an end of a pipe.
 *
 *   send(obj)        encode  ->  channel                       channel  ->  decode         recv()
 *   send_bytes(buf)  RAW, and the bytes (in a block if many)    the bytes, RAW taken off
 *   recv_bytes()
 *
 * No stream of the codec begins with RAW. In the standard library send() is send_bytes() of a
 * pickle, and some programs count on it: so recv() unpickles what was sent raw, and recv_bytes()
 * pickles what was not.
 *
 * What can be done at once is done with the GIL held: one call of the core. Who must wait is
 * counted as a user of the handle and lets the GIL go; close() by another thread cuts his wait
 * short, and the last user gives the handle back. Under the GIL: all fields. A forked child has
 * none of its parent's threads, so users are forgotten when the process is another one. */
#include "binding/codec.h"
#include "binding/parcel.h"
#include "binding/shared.h"
#include "core/pipe.h"
#include "core/session.h"

#define RAW 0xffu

struct connection_object {
  struct lvri_shared shared;
  lvr_pipe *pipe; /* NULL: closed and given back, or never set */
  lvr_proc_id process;
  uint32_t users; /* threads of `process` that wait */
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
  do {
    const uint32_t mark = lvri_channel_mark(channel);

    LVRI_WAIT_UNTIL(code, LVR_FOREVER, lvri_channel_put_since_until(channel, put, mark, until_ns));
  } while (is_false_alarm(c, code));
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

  message[0] = RAW;
  memcpy(message + 1, data, bytes);
  return put_message(self, &put);
}

static int send_many(PyObject *self, const void *data, size_t bytes) {
  static const unsigned char raw = RAW;
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

static int get_waiting(struct connection_object *c, struct lvr_message *m) {
  struct lvri_channel *channel = lvri_pipe_in(c->pipe);
  int code;

  enter(c);
  do {
    const uint32_t mark = lvri_channel_mark(channel);

    LVRI_WAIT_UNTIL(code, LVR_FOREVER, lvri_channel_get_since_until(channel, m, mark, until_ns));
  } while (is_false_alarm(c, code));
  leave(c);
  return code;
}

/* 0; -1 with the exception. */
static int get_message(PyObject *self, struct lvr_message *m) {
  struct connection_object *c = connection_of(self);
  int code = lvri_channel_try_get(lvri_pipe_in(c->pipe), m, false);

  if (code == -EAGAIN || code == -EBUSY) code = get_waiting(c, m);
  if (__builtin_expect(code == 0, 1)) return 0;
  if (code == -EPIPE)
    PyErr_SetNone(PyExc_EOFError);
  else
    (void)raise_code(code, "receive from a pipe");
  return -1;
}

/* Bytes as they were sent: in a message, or in what recv() would have returned. */
struct raw {
  const void *data;
  Py_ssize_t bytes;
  struct lvr_message *message;
  PyObject *pickle; /* NULL, or whose buffer data is in */
  Py_buffer view;
};

static bool is_raw(const struct lvr_message *m) {
  return !m->in_block && m->bytes > 0 && *(const unsigned char *)m->data == RAW;
}

static void raw_of_message(struct lvr_message *m, struct raw *ret_raw) {
  bool in_block = m->block != NULL;

  *ret_raw = (struct raw){
      .data = in_block ? lvr_block_data(m->block) : (const unsigned char *)m->data + 1,
      .bytes = (Py_ssize_t)(in_block ? lvr_block_bytes(m->block) : m->bytes - 1),
      .message = m,
  };
}

/* ForkingPickler.NAME(argument) */
static PyObject *call_pickler(const char *name, PyObject *argument) {
  PyObject *module = PyImport_ImportModule("multiprocessing.reduction");
  PyObject *pickler = module == NULL ? NULL : PyObject_GetAttrString(module, "ForkingPickler");
  PyObject *method = pickler == NULL ? NULL : PyObject_GetAttrString(pickler, name);
  PyObject *result = method == NULL ? NULL : PyObject_CallOneArg(method, argument);

  Py_XDECREF(method);
  Py_XDECREF(pickler);
  Py_XDECREF(module);
  return result;
}

/* The pickle of an object that was sent by send(). Takes the message. */
static int raw_of_object(PyObject *self, struct lvr_message *m, struct raw *ret_raw) {
  struct lvri_state *state = lvri_state_of_type(Py_TYPE(self));
  PyObject *obj = state == NULL ? NULL : lvri_parcel_unpack(state, m);
  PyObject *pickle = obj == NULL ? NULL : call_pickler("dumps", obj);

  Py_XDECREF(obj);
  *ret_raw = (struct raw){.pickle = pickle};
  if (pickle == NULL || PyObject_GetBuffer(pickle, &ret_raw->view, PyBUF_SIMPLE) < 0) {
    Py_XDECREF(pickle);
    return -1;
  }
  ret_raw->data = ret_raw->view.buf;
  ret_raw->bytes = ret_raw->view.len;
  return 0;
}

static void raw_fini(struct raw *raw) {
  if (raw->message != NULL) lvr_message_fini(raw->message);
  if (raw->pickle == NULL) return;
  PyBuffer_Release(&raw->view);
  Py_DECREF(raw->pickle);
}

/* m is the caller's memory for it. 0, or -1 with an error: then there is nothing to give back. */
static int get_raw(PyObject *self, struct lvr_message *m, struct raw *ret_raw) {
  if (get_message(self, m) < 0) return -1;
  if (!is_raw(m)) return raw_of_object(self, m, ret_raw);
  raw_of_message(m, ret_raw);
  return 0;
}

static PyObject *bytes_of(const struct raw *raw) {
  PyObject *bytes = PyBytes_FromStringAndSize(NULL, raw->bytes);

  if (bytes != NULL) lvri_copy(PyBytes_AS_STRING(bytes), raw->data, (size_t)raw->bytes);
  return bytes;
}

static PyObject *loads_raw(struct raw *raw) {
  PyObject *bytes = bytes_of(raw);
  PyObject *obj = bytes == NULL ? NULL : call_pickler("loads", bytes);

  Py_XDECREF(bytes);
  return obj;
}

static PyObject *connection_recv(PyObject *self, PyObject *Py_UNUSED(none)) {
  struct lvr_message m;
  struct raw raw;

  if (check_readable(self) < 0 || get_message(self, &m) < 0) return NULL;
  if (__builtin_expect(is_raw(&m), 0)) {
    raw_of_message(&m, &raw);
    PyObject *obj = loads_raw(&raw);

    raw_fini(&raw);
    return obj;
  }
  struct lvri_state *state = lvri_state_of_type(Py_TYPE(self));

  if (__builtin_expect(state == NULL, 0)) lvr_message_fini(&m);
  if (state == NULL) return NULL;
  if (m.block != NULL) return lvri_parcel_unpack(state, &m);
  return lvri_decode(state, m.data, m.bytes, NULL);
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
  struct raw raw;

  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:recv_bytes", keywords, &most_arg) ||
      check_readable(self) < 0)
    return NULL;
  if (most_arg != Py_None && (most = PyNumber_AsSsize_t(most_arg, NULL)) < 0)
    return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "negative maxlength");
  if (get_raw(self, &m, &raw) < 0) return NULL;
  PyObject *bytes = raw.bytes > most ? raise_too_long(self) : bytes_of(&raw);

  raw_fini(&raw);
  return bytes;
}

static PyObject *raise_too_short(const struct raw *raw) {
  PyObject *module = PyImport_ImportModule("multiprocessing.context");
  PyObject *type = module == NULL ? NULL : PyObject_GetAttrString(module, "BufferTooShort");
  PyObject *bytes = type == NULL ? NULL : bytes_of(raw);

  if (bytes != NULL) PyErr_SetObject(type, bytes);
  Py_XDECREF(bytes);
  Py_XDECREF(type);
  Py_XDECREF(module);
  return NULL;
}

static PyObject *receive_into(PyObject *self, const Py_buffer *view, Py_ssize_t offset) {
  struct lvr_message m;
  struct raw raw;
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
  raw_fini(&raw);
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

/* Looking */

static int poll_until(struct connection_object *c, int64_t deadline_ns) {
  struct lvri_channel *channel = lvri_pipe_in(c->pipe);
  int code;

  enter(c);
  do {
    const uint32_t mark = lvri_channel_mark(channel);

    LVRI_WAIT_UNTIL(code, deadline_ns, lvri_channel_wait_since_until(channel, mark, until_ns));
  } while (is_false_alarm(c, code));
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

static void connection_dealloc(PyObject *self) {
  lvri_shared_dealloc_begin(self);
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
    {Py_tp_traverse, lvri_shared_traverse},
    {Py_tp_clear, lvri_shared_clear},
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
