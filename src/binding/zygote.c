/* zygote.c - leveret._core.Zygote: a clean process that gives birth,
 * for its callers and for itself.
 *
 * Thin, over lvr_zygote_*; when there is one, and what it is told, is
 * python/leveret/zygote.py's. */
#include "binding/state.h" /* first: Python.h says which system it is made for */

#include <errno.h>
#include <unistd.h>

#include "os/os.h"

struct zygote_object {
  PyObject_HEAD
  lvr_zygote *zygote;
};

static lvr_zygote *zygote_of(PyObject *self) { return ((struct zygote_object *)self)->zygote; }

static PyObject *zygote_wrap(PyTypeObject *type, lvr_zygote *zygote) {
  struct zygote_object *self = (struct zygote_object *)type->tp_alloc(type, 0);

  if (self == NULL)
    lvr_zygote_free(zygote);
  else
    self->zygote = zygote;
  return (PyObject *)self;
}

static PyObject *zygote_create(PyTypeObject *type, PyObject *Py_UNUSED(none)) {
  lvr_session *session = lvri_session();
  lvr_zygote *zygote;

  if (session == NULL) return NULL;
  int code = lvr_zygote_create(session, &zygote);

  return code < 0 ? lvri_raise(code, "make a zygote") : zygote_wrap(type, zygote);
}

static PyObject *zygote_open(PyTypeObject *type, PyObject *args) {
  unsigned long long id;
  struct lvr_zygote_seat seat = {0};
  lvr_session *session = lvri_session();
  lvr_zygote *zygote;

  if (session == NULL || !PyArg_ParseTuple(args, "Kiiii:open", &id, &seat.maker, &seat.call_fd,
                                           &seat.serve_fd, &seat.desk_fd))
    return NULL;
  seat.id = id;
  int code = lvr_zygote_open(session, &seat, &zygote);

  return code < 0 ? lvri_raise(code, "be a zygote") : zygote_wrap(type, zygote);
}

static void zygote_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);

  PyObject_GC_UnTrack(self);
  lvr_zygote_free(zygote_of(self));
  type->tp_free(self);
  Py_DECREF(type);
}

static int zygote_traverse(PyObject *self, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE(self));
  return 0;
}

static PyObject *zygote_seat(PyObject *self, PyObject *Py_UNUSED(none)) {
  struct lvr_zygote_seat seat;

  lvr_zygote_seat(zygote_of(self), &seat);
  return Py_BuildValue("(Kiiii)", (unsigned long long)seat.id, seat.maker, seat.call_fd,
                       seat.serve_fd, seat.desk_fd);
}

static PyObject *zygote_seated(PyObject *self, PyObject *arg) {
  long pid = PyLong_AsLong(arg);

  if (pid == -1 && PyErr_Occurred()) return NULL;
  int code = lvr_zygote_seated(zygote_of(self), (int32_t)pid);

  if (code < 0) return lvri_raise(code, "watch the zygote");
  Py_RETURN_NONE;
}

/* The descriptors of a sequence; how many, or -1 with an error. */
static int fds_of(PyObject *sequence, int *ret_fds) {
  PyObject *fast = PySequence_Fast(sequence, "descriptors are a sequence");

  if (fast == NULL) return -1;
  Py_ssize_t n_fds = PySequence_Fast_GET_SIZE(fast);

  if (n_fds > LVR_BIRTH_FDS) {
    PyErr_Format(PyExc_ValueError, "too many fds: %zd, and a new process can be given %d", n_fds,
                 LVR_BIRTH_FDS);
    n_fds = -1;
  }
  for (Py_ssize_t i = 0; i < n_fds; i++) {
    ret_fds[i] = PyObject_AsFileDescriptor(PySequence_Fast_GET_ITEM(fast, i));
    if (ret_fds[i] < 0) n_fds = -1;
  }
  Py_DECREF(fast);
  return (int)n_fds;
}

/* The zygote's fork() said so. */
static PyObject *raise_too_many(void) {
  PyObject *args =
      Py_BuildValue("(is)", EAGAIN,
                    "cannot start a process: there are too many (see `ulimit -u`, and the "
                    "limit of pids of the container)");

  if (args != NULL) PyErr_SetObject(PyExc_OSError, args);
  Py_XDECREF(args);
  return NULL;
}

/* -EOWNERDEAD is None, for somebody else to make another zygote. */
static PyObject *raise_birth(int code) {
  if (code == -EOWNERDEAD) Py_RETURN_NONE;
  return code == -EAGAIN ? raise_too_many() : lvri_raise(code, "start a process");
}

static PyObject *zygote_ask(PyObject *self, PyObject *args) {
  unsigned long long child;
  PyObject *sequence;
  int fds[LVR_BIRTH_FDS], code;
  uint32_t mark = 0;

  if (!PyArg_ParseTuple(args, "KO:ask", &child, &sequence)) return NULL;
  int n_fds = fds_of(sequence, fds);

  if (n_fds < 0) return NULL;
  LVRI_WAIT(code, lvr_zygote_send(zygote_of(self), child, fds, (uint32_t)n_fds, &mark));
  return code < 0 ? raise_birth(code) : PyLong_FromUnsignedLong(mark);
}

static PyObject *zygote_birth(PyObject *self, PyObject *args) {
  unsigned long long child;
  PyObject *sequence;
  int fds[LVR_BIRTH_FDS], code;
  int32_t pid = 0;
  unsigned mark;

  if (!PyArg_ParseTuple(args, "KOI:birth", &child, &sequence, &mark)) return NULL;
  int n_fds = fds_of(sequence, fds);

  if (n_fds < 0) return NULL;
  LVRI_WAIT_UNTIL(
      code, LVR_FOREVER,
      lvr_zygote_wait_until(zygote_of(self), child, fds, (uint32_t)n_fds, &mark, until_ns, &pid));
  return code < 0 ? raise_birth(code) : PyLong_FromLong(pid);
}

static int32_t fork_interpreter(void *Py_UNUSED(context)) {
  PyOS_BeforeFork();
  pid_t pid = fork();
  int code = errno;

  if (pid == 0)
    PyOS_AfterFork_Child();
  else
    PyOS_AfterFork_Parent();
  return pid < 0 ? -code : (int32_t)pid;
}

/* What serve() was given: called in every spare, and in the rehearsal. */
struct callbacks {
  PyObject *spare;
  PyObject *rehearse;
};

static void call(PyObject *function) {
  PyObject *result = PyObject_CallNoArgs(function);

  if (result == NULL) PyErr_WriteUnraisable(function);
  Py_XDECREF(result);
}

static void prepare_spare(void *context) { call(((struct callbacks *)context)->spare); }

static void rehearse(void *context) { call(((struct callbacks *)context)->rehearse); }

static PyObject *describe_birth(const struct lvr_birth *birth) {
  PyObject *fds = PyTuple_New((Py_ssize_t)birth->n_fds);

  for (uint32_t i = 0; fds != NULL && i < birth->n_fds; i++) {
    PyObject *fd = PyLong_FromLong(birth->fds[i]);

    if (fd == NULL)
      Py_CLEAR(fds);
    else
      PyTuple_SET_ITEM(fds, (Py_ssize_t)i, fd);
  }
  if (fds == NULL) return NULL;
  return Py_BuildValue("(KiN)", (unsigned long long)birth->id, (int)birth->error, fds);
}

static PyObject *zygote_serve(PyObject *self, PyObject *args) {
  struct callbacks callbacks;
  struct lvr_zygote_service service = {.context = &callbacks,
                                       .fork = fork_interpreter,
                                       .spare = prepare_spare,
                                       .rehearse = rehearse};
  struct lvr_birth birth;

  if (!PyArg_ParseTuple(args, "OOII:serve", &callbacks.spare, &callbacks.rehearse,
                        &service.spares_least, &service.spares_most))
    return NULL;
  int code = lvr_zygote_serve(zygote_of(self), &service, &birth);

  if (code < 0) return lvri_raise(code, "be a zygote");
  if (code > 0) Py_RETURN_NONE;
  return describe_birth(&birth);
}

static PyObject *zygote_learn(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_zygote_learn(zygote_of(self));
  Py_RETURN_NONE;
}

static PyObject *zygote_retire(PyObject *self, PyObject *Py_UNUSED(none)) {
  int code = lvr_zygote_retire(zygote_of(self));

  if (code < 0 && code != -ESRCH) return lvri_raise(code, "let the zygote go");
  Py_RETURN_NONE;
}

static PyObject *zygote_id(PyObject *self, void *Py_UNUSED(closure)) {
  return PyLong_FromUnsignedLongLong(lvr_zygote_id(zygote_of(self)));
}

static PyObject *zygote_pidfd(PyObject *self, void *Py_UNUSED(closure)) {
  return PyLong_FromLong(lvr_zygote_pidfd(zygote_of(self)));
}

static PyObject *zygote_ready(PyObject *self, void *Py_UNUSED(closure)) {
  return PyBool_FromLong(lvr_zygote_is_ready(zygote_of(self)));
}

static PyObject *zygote_watches(PyObject *self, void *Py_UNUSED(closure)) {
  return PyBool_FromLong(lvr_zygote_watches(zygote_of(self)));
}

static PyObject *zygote_spares(PyObject *self, void *Py_UNUSED(closure)) {
  return PyLong_FromUnsignedLong(lvr_zygote_spares(zygote_of(self)));
}

static PyObject *zygote_unheard(PyObject *self, void *Py_UNUSED(closure)) {
  return PyLong_FromLong(lvr_zygote_unheard(zygote_of(self)));
}

static PyMethodDef zygote_methods[] = {
    {"create", (PyCFunction)(void (*)(void))zygote_create, METH_NOARGS | METH_CLASS,
     PyDoc_STR("create($type, /)\n--\n\nMake what a zygote and its callers share.")},
    {"open", (PyCFunction)(void (*)(void))zygote_open, METH_VARARGS | METH_CLASS,
     PyDoc_STR("open($type, /, *seat)\n--\n\nThe same in the process that is to be the zygote.")},
    {"seat", zygote_seat, METH_NOARGS,
     PyDoc_STR("seat($self, /)\n--\n\nWhat that process needs to know: a tuple for open().")},
    {"seated", zygote_seated, METH_O,
     PyDoc_STR("seated($self, pid, /)\n--\n\nThat process exists.")},
    {"ask", zygote_ask, METH_VARARGS,
     PyDoc_STR(
         "ask($self, child, fds, /)\n--\n\n"
         "Ask for the birth of a prepared child: a mark for birth(), or None if the zygote is "
         "dead.")},
    {"birth", zygote_birth, METH_VARARGS,
     PyDoc_STR("birth($self, child, fds, mark, /)\n--\n\n"
               "Wait for the birth that was asked for: its pid, or None if the zygote is dead.\n\n"
               "OSError EIO: its spares fail to receive, by `unheard`.")},
    {"serve", zygote_serve, METH_VARARGS,
     PyDoc_STR("serve($self, spare, rehearse, least, most, /)\n--\n\n"
               "Be the zygote: (id, error, fds) in each child, None in the zygote at its end.")},
    {"retire", zygote_retire, METH_NOARGS,
     PyDoc_STR("retire($self, /)\n--\n\n"
               "Its maker wants no more of it: it ends with the last of its children.")},
    {"learn", zygote_learn, METH_NOARGS,
     PyDoc_STR("learn($self, /)\n--\n\n"
               "What memory this process has touched, spares are to fetch beforehand.")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef zygote_getset[] = {
    {"id", zygote_id, NULL, PyDoc_STR("Its process id in the session."), NULL},
    {"pidfd", zygote_pidfd, NULL, PyDoc_STR("Its pidfd, in its maker; else -1."), NULL},
    {"ready", zygote_ready, NULL, PyDoc_STR("Whether it has come as far as serving."), NULL},
    {"watches", zygote_watches, NULL, PyDoc_STR("Whether it ends this process's daemons."), NULL},
    {"spares", zygote_spares, NULL, PyDoc_STR("How many of its spares wait."), NULL},
    {"unheard", zygote_unheard, NULL,
     PyDoc_STR("The errno of its spares' last receive that failed; 0: none has."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot zygote_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t) "A clean process that gives birth, as its callers see it."},
    {Py_tp_dealloc, zygote_dealloc},
    {Py_tp_traverse, zygote_traverse},
    {Py_tp_methods, zygote_methods},
    {Py_tp_getset, zygote_getset},
    {0, NULL},
};

static PyType_Spec zygote_spec = {
    .name = "leveret._core.Zygote",
    .basicsize = sizeof(struct zygote_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = zygote_slots,
};

int lvri_exec_zygote(PyObject *module, struct lvri_state *state) {
  return lvri_add_type(module, &zygote_spec, NULL, &state->zygote_type);
}
