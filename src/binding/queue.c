/* queue.c - Queue and JoinableQueue.
 *
 *   put   encode (no lock)  ->  channel: copy, one store (GIL held)
 *         ->  only if it is full: wait without the GIL
 *   get   channel: copy, one store (GIL held)
 *         ->  only if it is empty: wait without the GIL  ->  decode (no lock)
 *
 * An object that is simple and short goes through a buffer on the stack; any other is made a parcel
 * (parcel.h), whose block travels with the message. What cannot be encoded raises in put(), and
 * what cannot be decoded in get(), when the message is gone from the queue. */
#include "core/queue.h"
#include "binding/many.h"
#include "binding/parcel.h"
#include "binding/semlock.h"

#include <unistd.h>

struct queue_object {
  struct lvri_shared shared;
  lvr_queue *queue;
  Py_ssize_t maxsize; /* 0: no limit */
  PyObject *owed;     /* as lvri_raise_owed() says */
  pid_t closed_in;    /* the process that closed it; others go on with it, a forked child too */
  bool joinable;
  bool used; /* something was put from here */
};

LVRI_DEFINE_REFERENCE(queue)
LVRI_DEFINE_FROM_REFERENCE(queue)

static struct queue_object *queue_of(PyObject *self) { return (struct queue_object *)self; }

static bool is_closed(const struct queue_object *object) {
  return object->closed_in != 0 && object->closed_in == getpid();
}

/* The handle, for one who wants to put or get; NULL with an error. */
static lvr_queue *open_queue(PyObject *self) {
  struct queue_object *object = queue_of(self);

  if (__builtin_expect(object->queue == NULL, 0)) (void)lvri_raise_uninitialised(self);
  if (__builtin_expect(!is_closed(object), 1)) return object->queue;
  PyErr_Format(PyExc_ValueError, "Queue %R is closed", self);
  return NULL;
}

static lvr_queue *any_queue(PyObject *self) {
  struct queue_object *object = queue_of(self);

  if (__builtin_expect(object->queue == NULL, 0)) (void)lvri_raise_uninitialised(self);
  return object->queue;
}

/* Putting */

static PyObject *put_failed(int code) {
  if (code == LVRI_RAISED) return NULL;
  return code == -ETIMEDOUT ? lvri_raise_queue_error("Full") : lvri_raise(code, "put into a queue");
}

/* Bytes that the caller keeps meanwhile, and a block that goes with them. 0 or a code. */
static int put_waiting(lvr_queue *queue, const struct lvri_put *put, int64_t deadline_ns) {
  int code;

  LVRI_WAIT_UNTIL(code, deadline_ns, lvri_channel_put_until(&queue->channel, put, until_ns));
  return code;
}

static int put_bytes(lvr_queue *queue, const struct lvri_put *put, int64_t deadline_ns) {
  int code = lvri_channel_try_put(&queue->channel, put, false);

  if (__builtin_expect(code == 0, 1)) return 0;
  return code == -EAGAIN || code == -EBUSY ? put_waiting(queue, put, deadline_ns) : code;
}

/* obj could not be encoded, and the exception says why: a queue may want to be told in another way.
 * 0: it was. */
static int tell_of_error(PyObject *self, PyObject *obj) {
  PyObject *raised = lvri_take_exception(), *told = NULL;
  PyObject *hook = PyObject_GetAttrString(self, "_on_queue_feeder_error");

  PyErr_Clear();
  if (hook != NULL && PyErr_GivenExceptionMatches(raised, PyExc_Exception)) {
    told = PyObject_CallFunctionObjArgs(hook, raised, obj, NULL);
    Py_DECREF(raised);
  } else {
    lvri_put_exception(raised);
  }
  int code = told == NULL ? LVRI_RAISED : 0;

  Py_XDECREF(told);
  Py_XDECREF(hook);
  return code;
}

static int put_parcel(PyObject *self, PyObject *obj, int64_t deadline_ns) {
  struct lvri_state *state = lvri_state_of_type(Py_TYPE(self));
  struct lvri_parcel parcel;

  if (state == NULL) return LVRI_RAISED;
  if (lvri_parcel_pack(state, obj, &parcel) < 0) return tell_of_error(self, obj);
  const struct lvri_put put = {parcel.data, parcel.bytes, parcel.block};
  int code = put_bytes(queue_of(self)->queue, &put, deadline_ns);

  if (code == 0) parcel.block = NULL; /* the message's now */
  lvri_parcel_fini(&parcel);
  return code;
}

static PyObject *put(PyObject *self, PyObject *obj, int64_t deadline_ns) {
  lvr_queue *queue = open_queue(self);
  unsigned char small[LVRI_ENCODING_BYTES];

  if (queue == NULL) return NULL;
  queue_of(self)->used = true;
  const struct lvri_put simple = {small, lvri_encode_small(obj, small, sizeof(small)), NULL};
  int code = simple.bytes > 0 ? put_bytes(queue, &simple, deadline_ns)
                              : put_parcel(self, obj, deadline_ns);

  return __builtin_expect(code == 0, 1) ? Py_NewRef(Py_None) : put_failed(code);
}

/* put(obj=..., ...): the one way to call it in which the object is not the first argument. */
static PyObject *put_named(PyObject *self, PyObject *const *args, PyObject *kwnames) {
  PyObject *method = PyObject_GetAttrString(self, "put"), *result = NULL;
  PyObject *dict = method == NULL ? NULL : PyDict_New();
  Py_ssize_t count = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames), i = 0;

  while (dict != NULL && i < count &&
         PyDict_SetItem(dict, PyTuple_GET_ITEM(kwnames, i), args[i]) == 0)
    i++;
  PyObject *obj = i == count && dict != NULL ? PyDict_GetItemString(dict, "obj") : NULL;
  PyObject *tuple = obj == NULL ? NULL : PyTuple_Pack(1, obj);

  if (tuple != NULL && PyDict_DelItemString(dict, "obj") == 0)
    result = PyObject_Call(method, tuple, dict);
  if (result == NULL && !PyErr_Occurred())
    PyErr_SetString(PyExc_TypeError, "put() missing 1 required positional argument: 'obj'");
  Py_XDECREF(tuple);
  Py_XDECREF(dict);
  Py_XDECREF(method);
  return result;
}

static PyObject *queue_put(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                           PyObject *kwnames) {
  int64_t deadline_ns = LVR_FOREVER;

  if (__builtin_expect(nargs == 1 && kwnames == NULL, 1)) return put(self, args[0], deadline_ns);
  if (nargs == 0) return put_named(self, args, kwnames);
  if (lvri_parse_waiting("put", 1, args + 1, nargs - 1, kwnames, &deadline_ns) < 0) return NULL;
  return put(self, args[0], deadline_ns);
}

/* Getting */

static PyObject *get_failed(int code) {
  if (code == LVRI_RAISED) return NULL;
  return code == -ETIMEDOUT ? lvri_raise_queue_error("Empty")
                            : lvri_raise(code, "get from a queue");
}

static int get_waiting(PyObject *self, struct lvr_message *m, int64_t deadline_ns) {
  lvr_queue *queue = queue_of(self)->queue;
  int code;

  LVRI_WAIT_UNTIL(code, deadline_ns, lvr_queue_get_until(queue, m, until_ns));
  return code;
}

/* Consumes the message; NULL with an error. */
static PyObject *unpack(struct lvri_state *state, struct lvr_message *m) {
  return m->block != NULL ? lvri_parcel_unpack(state, m)
                          : lvri_decode(state, m->data, m->bytes, NULL);
}

static PyObject *unpack_here(PyObject *self, struct lvr_message *m) {
  struct lvri_state *state = lvri_state_of_type(Py_TYPE(self));

  if (__builtin_expect(state != NULL, 1)) return unpack(state, m);
  lvr_message_fini(m);
  return NULL;
}

static PyObject *raise_owed(PyObject *self) {
  (void)lvri_raise_owed(&queue_of(self)->owed);
  return NULL;
}

static PyObject *get(PyObject *self, int64_t deadline_ns) {
  lvr_queue *queue = open_queue(self);
  struct lvr_message m;

  if (queue == NULL) return NULL;
  if (__builtin_expect(queue_of(self)->owed != NULL, 0)) return raise_owed(self);
  int code = lvri_channel_try_get(&queue->channel, &m, false);

  if (code == -EAGAIN || code == -EBUSY) code = get_waiting(self, &m, deadline_ns);
  return __builtin_expect(code == 0, 1) ? unpack_here(self, &m) : get_failed(code);
}

static PyObject *queue_get(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                           PyObject *kwnames) {
  int64_t deadline_ns = LVR_FOREVER;

  if ((nargs > 0 || kwnames != NULL) &&
      lvri_parse_waiting("get", 0, args, nargs, kwnames, &deadline_ns) < 0)
    return NULL;
  return get(self, deadline_ns);
}

/* Many at once */

static int put_some(PyObject *self, const struct lvr_slice *slices, uint32_t count,
                    int64_t deadline_ns, uint32_t *done) {
  struct lvri_channel *channel = &queue_of(self)->queue->channel;
  const uint32_t mark = lvri_channel_mark(channel);
  int code;

  LVRI_WAIT_UNTIL(code, deadline_ns,
                  lvri_channel_put_many_since_until(channel, slices, count, mark, until_ns, done));
  return code;
}

static const struct lvri_sink sink = {.put_some = put_some, .put_one = put_parcel};

/* Full says how many were put all the same: in words, and as `done`. */
static PyObject *put_many_failed(int code, Py_ssize_t done) {
  if (code != -ETIMEDOUT) return put_failed(code);
  (void)lvri_raise_queue_error("Full");
  PyObject *full = lvri_take_exception(), *count = PyLong_FromSsize_t(done);
  PyObject *args = Py_BuildValue(
      "(N)",
      PyUnicode_FromFormat("put_many() put %zd objects; there is no room for the next", done));

  if (count != NULL && args != NULL && PyObject_SetAttrString(full, "args", args) == 0)
    (void)PyObject_SetAttrString(full, "done", count);
  Py_XDECREF(args);
  Py_XDECREF(count);
  if (PyErr_Occurred())
    Py_DECREF(full);
  else
    lvri_put_exception(full);
  return NULL;
}

PyDoc_STRVAR(
    put_many_doc,
    "put_many($self, iterable, /, block=True, timeout=None)\n--\n\n"
    "Put every object of iterable, and return how many that were.\n\n"
    "As fast as it gets: several objects take the queue's lock once. Others' objects may come\n"
    "between them. When it is full for longer than the timeout, or an object cannot be sent,\n"
    "those before it are in the queue and the exception is raised; the `done` of queue.Full\n"
    "says how many they are.");

static PyObject *queue_put_many(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                PyObject *kwnames) {
  int64_t deadline_ns = LVR_FOREVER;

  if (nargs < 1) return PyErr_Format(PyExc_TypeError, "put_many() takes an iterable");
  if (lvri_parse_waiting("put_many", 1, args + 1, nargs - 1, kwnames, &deadline_ns) < 0)
    return NULL;
  if (open_queue(self) == NULL) return NULL;
  Py_ssize_t done;
  int code = lvri_put_many(&sink, self, args[0], deadline_ns, &done);

  if (done > 0) queue_of(self)->used = true;
  return code == 0 ? PyLong_FromSsize_t(done) : put_many_failed(code, done);
}

static int get_some(PyObject *self, void *buf, uint32_t most, int64_t deadline_ns,
                    uint32_t *ret_count) {
  lvr_queue *queue = queue_of(self)->queue;
  size_t bytes;
  int code;

  LVRI_WAIT_UNTIL(
      code, deadline_ns,
      lvr_queue_get_many_until(queue, buf, LVRI_PACKED_BYTES, most, until_ns, ret_count, &bytes));
  return code;
}

static uint32_t size(PyObject *self) { return lvr_queue_size(queue_of(self)->queue); }

static const struct lvri_source source = {
    .get_some = get_some, .get_one = get_waiting, .unpack = unpack, .size = size};

PyDoc_STRVAR(
    get_many_doc,
    "get_many($self, /, max=None, timeout=None)\n--\n\n"
    "Wait for an object, and return a list of it and of those that are there, at most max.\n\n"
    "queue.Empty after timeout seconds without one. Where one of several cannot be unpickled, the\n"
    "others are returned, and the next get() or get_many() here raises its exception.");

static PyObject *queue_get_many(PyObject *self, PyObject *args, PyObject *kwargs) {
  int64_t deadline_ns;
  Py_ssize_t most;
  PyObject *list;

  if (lvri_parse_get_many(args, kwargs, &most, &deadline_ns) < 0 || open_queue(self) == NULL)
    return NULL;
  int code = lvri_get_many(&source, self, &queue_of(self)->owed, most, deadline_ns, &list);

  return code == 0 ? list : get_failed(code);
}

/* Looking */

static PyObject *queue_qsize(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_queue *queue = any_queue(self);

  return queue == NULL ? NULL : PyLong_FromUnsignedLong(lvr_queue_size(queue));
}

/* A closed queue says no more whether it is empty, unless it was closed before it was used: as in
 * the standard library, where it is the feeder thread that closes the pipe. */
static PyObject *queue_empty(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_queue *queue = any_queue(self);

  if (queue == NULL) return NULL;
  if (is_closed(queue_of(self)) && queue_of(self)->used)
    return PyErr_Format(PyExc_OSError, "Queue %R is closed", self);
  return PyBool_FromLong(lvr_queue_size(queue) == 0);
}

static PyObject *queue_full(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_queue *queue = any_queue(self);

  if (queue == NULL) return NULL;
  uint32_t bound = lvr_queue_bound(queue);

  return PyBool_FromLong(bound != 0 && lvr_queue_size(queue) >= bound);
}

/* Waits for a message without taking it: what _reader.poll() does. */
static PyObject *queue_poll(PyObject *self, PyObject *args) {
  PyObject *timeout = NULL;
  int64_t deadline_ns = LVRI_TRY_ONCE;
  int code;

  if (!PyArg_ParseTuple(args, "|O:_poll", &timeout)) return NULL;
  lvr_queue *queue = open_queue(self);

  if (queue == NULL || (timeout != NULL && lvri_deadline_of(timeout, &deadline_ns) < 0))
    return NULL;
  LVRI_WAIT_UNTIL(code, deadline_ns, lvr_queue_wait_until(queue, until_ns));
  if (code == LVRI_RAISED) return NULL;
  if (code < 0 && code != -ETIMEDOUT) return lvri_raise(code, "wait for a queue");
  return PyBool_FromLong(code == 0);
}

static PyObject *queue_fileno(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_queue *queue = open_queue(self);
  int fd;

  if (queue == NULL) return NULL;
  int code = lvr_queue_fileno(queue, &fd);

  return code < 0 ? lvri_raise(code, "make a descriptor for a queue") : PyLong_FromLong(fd);
}

/* The end */

static PyObject *queue_close(PyObject *self, PyObject *Py_UNUSED(none)) {
  queue_of(self)->closed_in = getpid();
  Py_RETURN_NONE;
}

PyDoc_STRVAR(join_thread_doc,
             "join_thread($self, /)\n--\n\n"
             "Nothing to wait for: what put() returned from is in the queue.");

static PyObject *queue_join_thread(PyObject *self, PyObject *Py_UNUSED(none)) {
  if (is_closed(queue_of(self))) Py_RETURN_NONE;
  return PyErr_Format(PyExc_AssertionError, "Queue %R not closed", self);
}

static PyObject *queue_cancel_join_thread(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(none)) {
  Py_RETURN_NONE;
}

/* What is done */

static PyObject *queue_task_done(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_queue *queue = any_queue(self);

  if (queue == NULL) return NULL;
  int code = lvr_queue_done(queue);

  if (code == -EINVAL) return PyErr_Format(PyExc_ValueError, "task_done() called too many times");
  return code < 0 ? lvri_raise(code, "call a message done") : Py_NewRef(Py_None);
}

PyDoc_STRVAR(join_doc,
             "join($self, /)\n--\n\n"
             "Wait until task_done() was called for every object that was put.\n\n"
             "Objects whose receiver died before it called task_done() are not waited for; a\n"
             "LostTaskWarning says how many there were.");

static PyObject *queue_join(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_queue *queue = any_queue(self);
  struct lvri_state *state = lvri_state_of_type(Py_TYPE(self));
  uint32_t lost = 0;
  int code;

  if (queue == NULL || state == NULL) return NULL;
  LVRI_WAIT_UNTIL(code, LVR_FOREVER, lvr_queue_join_until(queue, until_ns, &lost));
  if (code < 0) return code == LVRI_RAISED ? NULL : lvri_raise(code, "wait for a queue");
  if (lost > 0 && PyErr_WarnFormat(state->lost_task_warning, 1,
                                   "%u of this queue's objects will never be done: the process "
                                   "that got them died before it called task_done()",
                                   lost) < 0)
    return NULL;
  Py_RETURN_NONE;
}

/* Life */

static PyObject *joinable_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  PyObject *self = PyType_GenericNew(type, args, kwargs);

  if (self != NULL) queue_of(self)->joinable = true;
  return self;
}

/* Any number up to 0 is no limit. */
static int parse_maxsize(PyObject *number, Py_ssize_t *ret_maxsize) {
  PyObject *index = PyNumber_Index(number);
  int overflow;

  if (index == NULL) return -1;
  long maxsize = PyLong_AsLongAndOverflow(index, &overflow);

  Py_DECREF(index);
  if (overflow > 0 || maxsize > INT32_MAX) {
    PyErr_Format(PyExc_OverflowError, "maxsize must be at most %d, not %R", INT32_MAX, number);
    return -1;
  }
  *ret_maxsize = overflow < 0 || maxsize < 0 ? 0 : (Py_ssize_t)maxsize;
  return 0;
}

static int make(struct queue_object *object, Py_ssize_t maxsize) {
  lvr_session *session = lvri_session();
  uint32_t bound = (uint32_t)maxsize;

  if (session == NULL) return -1;
  int code =
      lvr_queue_create(session, bound, object->joinable ? LVR_QUEUE_JOINABLE : 0, &object->queue);

  object->maxsize = maxsize;
  if (code < 0) (void)lvri_raise(code, "make a queue");
  return code < 0 ? -1 : 0;
}

static int queue_init(PyObject *self, PyObject *args, PyObject *kwargs) {
  static char *keywords[] = {"maxsize", "ctx", NULL};
  PyObject *number = NULL, *ctx;
  Py_ssize_t maxsize = 0;

  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O$O:__init__", keywords, &number, &ctx) ||
      lvri_check_fresh(self, queue_of(self)->queue) < 0 ||
      (number != NULL && parse_maxsize(number, &maxsize) < 0))
    return -1;
  return make(queue_of(self), maxsize);
}

static int queue_traverse(PyObject *self, visitproc visit, void *arg) {
  Py_VISIT(queue_of(self)->owed);
  return lvri_shared_traverse(self, visit, arg);
}

static int queue_clear(PyObject *self) {
  Py_CLEAR(queue_of(self)->owed);
  return lvri_shared_clear(self);
}

static void queue_dealloc(PyObject *self) {
  lvri_shared_dealloc_begin(self);
  Py_CLEAR(queue_of(self)->owed);
  lvr_queue_detach(queue_of(self)->queue);
  lvri_shared_dealloc_end(self);
}

/* Other attributes stay here, as in the standard library: the executor's queue has some that cannot
 * be sent. */
static PyObject *queue_getstate(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_queue *queue = any_queue(self);
  PyObject *reference = queue == NULL ? NULL : queue_reference(queue);

  return reference == NULL ? NULL : Py_BuildValue("(Nn)", reference, queue_of(self)->maxsize);
}

static PyObject *queue_setstate(PyObject *self, PyObject *state) {
  struct queue_object *object = queue_of(self);
  PyObject *reference;

  if (lvri_check_state(self, object->queue, state) < 0 ||
      !PyArg_ParseTuple(state, "On:__setstate__", &reference, &object->maxsize) ||
      queue_from_reference(reference, &object->queue) < 0)
    return NULL;
  Py_RETURN_NONE;
}

/* The standard library's private names, which programs read. */
static PyObject *queue_get_maxsize(PyObject *self, void *Py_UNUSED(closure)) {
  Py_ssize_t maxsize = queue_of(self)->maxsize;

  return PyLong_FromSsize_t(maxsize > 0 ? maxsize : (Py_ssize_t)LVR_SEMAPHORE_MAX);
}

static PyObject *queue_get_closed(PyObject *self, void *Py_UNUSED(closure)) {
  return PyBool_FromLong(is_closed(queue_of(self)));
}

static PyMethodDef queue_methods[] = {
    {"put", LVRI_METHOD(queue_put), METH_FASTCALL | METH_KEYWORDS,
     "put($self, obj, block=True, timeout=None)\n--\n\n"
     "Put obj into the queue; it is there when this returns, whatever becomes of this process.\n\n"
     "queue.Full when there was no room for timeout seconds, or none at all and block is false."},
    {"get", LVRI_METHOD(queue_get), METH_FASTCALL | METH_KEYWORDS,
     "get($self, block=True, timeout=None)\n--\n\n"
     "Take the first object out of the queue.\n\n"
     "queue.Empty when there was none for timeout seconds, or none at all and block is false."},
    {"put_many", LVRI_METHOD(queue_put_many), METH_FASTCALL | METH_KEYWORDS, put_many_doc},
    {"get_many", LVRI_METHOD(queue_get_many), METH_VARARGS | METH_KEYWORDS, get_many_doc},
    {"qsize", queue_qsize, METH_NOARGS, "qsize($self, /)\n--\n\nHow many objects are in it."},
    {"empty", queue_empty, METH_NOARGS, "empty($self, /)\n--\n\nWhether nothing is in it."},
    {"full", queue_full, METH_NOARGS, "full($self, /)\n--\n\nWhether there are maxsize objects."},
    {"close", queue_close, METH_NOARGS,
     "close($self, /)\n--\n\nThis process will not use it any more; others go on."},
    {"join_thread", queue_join_thread, METH_NOARGS, join_thread_doc},
    {"cancel_join_thread", queue_cancel_join_thread, METH_NOARGS,
     "cancel_join_thread($self, /)\n--\n\nNothing: there is no thread."},
    {"_poll", queue_poll, METH_VARARGS, NULL},
    {"_fileno", queue_fileno, METH_NOARGS, NULL},
    {"__getstate__", queue_getstate, METH_NOARGS, NULL},
    {"__setstate__", queue_setstate, METH_O, NULL},
    {"__reduce__", lvri_shared_reduce, METH_NOARGS, lvri_reduce_doc},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef joinable_methods[] = {
    {"task_done", queue_task_done, METH_NOARGS,
     "task_done($self, /)\n--\n\nAn object that was got is done with."},
    {"join", queue_join, METH_NOARGS, join_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef queue_getset[] = {
    {"_maxsize", queue_get_maxsize, NULL, NULL, NULL},
    {"_closed", queue_get_closed, NULL, NULL, NULL},
    LVRI_GETSET_DICT,
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(queue_doc,
             "Queue(maxsize=0, *, ctx=None)\n--\n\n"
             "Objects from any number of processes to any number of processes, in order.");

PyDoc_STRVAR(joinable_doc,
             "JoinableQueue(maxsize=0, *, ctx=None)\n--\n\n"
             "A Queue that knows which of its objects are done with.");

static PyType_Slot queue_slots[] = {
    {Py_tp_doc, (void *)queue_doc},
    {Py_tp_init, queue_init},
    {Py_tp_dealloc, queue_dealloc},
    {Py_tp_traverse, queue_traverse},
    {Py_tp_clear, queue_clear},
    {Py_tp_methods, queue_methods},
    {Py_tp_getset, queue_getset},
    {Py_tp_members, lvri_shared_members},
    {0, NULL},
};

static PyType_Slot joinable_slots[] = {
    {Py_tp_doc, (void *)joinable_doc},
    {Py_tp_new, joinable_new},
    {Py_tp_dealloc, queue_dealloc},
    {Py_tp_traverse, queue_traverse},
    {Py_tp_clear, queue_clear},
    {Py_tp_methods, joinable_methods},
    {0, NULL},
};

static PyType_Spec queue_spec = {
    .name = "leveret._core.Queue",
    .basicsize = sizeof(struct queue_object),
    .flags = LVRI_SHARED_FLAGS,
    .slots = queue_slots,
};

static PyType_Spec joinable_spec = {
    .name = "leveret._core.JoinableQueue",
    .basicsize = sizeof(struct queue_object),
    .flags = LVRI_SHARED_FLAGS,
    .slots = joinable_slots,
};

int lvri_exec_queue(PyObject *module, struct lvri_state *state) {
  if (lvri_add_type(module, &queue_spec, NULL, &state->queue_type) < 0) return -1;
  return lvri_add_type(module, &joinable_spec, state->queue_type, &state->joinable_queue_type);
}
