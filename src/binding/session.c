/* session.c - the one session of this process, as Python sees it.
 *
 * The session belongs to the process and not to an interpreter: every interpreter's objects live
 * in the same arena. It is the process's home (core/home.h), made when something shared is first
 * made, or joined by session_attach() at the birth of a process that was not forked. Of two
 * interpreters that make one at the same time one keeps the other's.
 *
 * One process may change it again: a child of the standard fork server, if a module that was
 * imported there ahead of it has made something shared. That session is the server's. The child
 * joins its parent's before it runs anything; what the module made stays where it is, shared by
 * the server's children.
 */
#include "binding/state.h"

#include "core/home.h"
#include "os/link.h"
#include "os/os.h"

lvr_session *lvri_session(void) {
  lvr_session *session = lvri_home();

  if (session != NULL) return session;
  int code = lvr_session_create(NULL, &session);

  if (code < 0) {
    (void)lvri_raise(code, "make an arena for shared objects");
    return NULL;
  }
  if (!lvri_home_settle(session)) lvr_session_detach(session);
  return lvri_home();
}

static PyObject *raise_second_session(void) {
  PyErr_SetString(
      PyExc_RuntimeError,
      "this process is in a session of leveret already, and can be in one only: join before "
      "anything shared is made");
  return NULL;
}

static PyObject *settle_or_detach(lvr_session *session) {
  if (lvri_home_settle(session)) Py_RETURN_NONE;
  lvr_session_detach(session);
  return raise_second_session();
}

PyDoc_STRVAR(session_attach_doc,
             "session_attach($module, fd, proc_id=0, /)\n--\n\n"
             "Join the session behind fd, as the prepared process or as a new one.");

static PyObject *session_attach(PyObject *Py_UNUSED(module), PyObject *args) {
  int fd;
  unsigned long long as = 0;
  lvr_session *session;

  if (!PyArg_ParseTuple(args, "i|K:session_attach", &fd, &as)) return NULL;
  lvr_session *found = lvri_home();

  if (found != NULL && !lvri_home_is_inherited()) return raise_second_session();
  int code = lvr_session_attach(fd, as, &session);

  if (code == 0 && found != NULL) lvri_home_leave(found); /* the server's */
  return code < 0 ? lvri_raise(code, "join the session") : settle_or_detach(session);
}

PyDoc_STRVAR(session_map_doc,
             "session_map($module, fd, /)\n--\n\n"
             "Map the arena behind fd; this process joins it when it adopts a prepared one.");

static PyObject *session_map(PyObject *Py_UNUSED(module), PyObject *arg) {
  int fd = PyObject_AsFileDescriptor(arg);
  lvr_session *session;

  if (fd < 0) return NULL;
  if (lvri_home() != NULL) return raise_second_session();
  int code = lvr_session_map(fd, &session);

  return code < 0 ? lvri_raise(code, "map the arena of the session") : settle_or_detach(session);
}

PyDoc_STRVAR(session_fd_doc,
             "session_fd($module, /)\n--\n\n"
             "The descriptor of the arena; it stays the session's.");

static PyObject *session_fd(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
  lvr_session *session = lvri_session();

  return session == NULL ? NULL : PyLong_FromLong(lvr_session_fd(session));
}

PyDoc_STRVAR(session_exists_doc,
             "session_exists($module, /)\n--\n\n"
             "Whether this process has made or joined a session already.");

static PyObject *session_exists(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
  return PyBool_FromLong(lvri_home() != NULL);
}

PyDoc_STRVAR(session_stats_doc,
             "session_stats($module, /)\n--\n\n"
             "What there is in the session, counted: a dict of ints.");

static PyObject *session_stats(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
  lvr_session *session = lvri_session();
  struct lvr_session_stats stats;

  if (session == NULL) return NULL;
  int code = lvr_session_stats(session, &stats);

  if (code < 0) return lvri_raise(code, "count what is in the session");
  return Py_BuildValue("{sK sK sK sK sI sI sI sI sI sI}", "blocks", stats.blocks, "bytes",
                       stats.bytes, "committed_bytes", stats.committed_bytes, "objects",
                       stats.objects, "slots_free", stats.slots_free, "slots_embryo",
                       stats.slots_embryo, "slots_running", stats.slots_running, "slots_over",
                       stats.slots_over, "slots_kept", stats.slots_kept, "handles", stats.handles);
}

PyDoc_STRVAR(session_check_doc,
             "session_check($module, /)\n--\n\n"
             "Walk every structure of the arena; RuntimeError if something is wrong.");

static PyObject *session_check(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
  lvr_session *session = lvri_session();

  if (session == NULL) return NULL;
  int code = lvr_session_check(session);

  if (code < 0) return lvri_raise(code, "vouch for this session");
  Py_RETURN_NONE;
}

PyDoc_STRVAR(proc_self_doc,
             "proc_self($module, /)\n--\n\n"
             "The process id of this process in the session; 0 when it is none of it.");

static PyObject *proc_self(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
  lvr_session *session = lvri_session();

  return session == NULL ? NULL : PyLong_FromUnsignedLongLong(lvr_proc_self(session));
}

PyDoc_STRVAR(platform_check_doc,
             "platform_check($module, /)\n--\n\n"
             "Raise if processes cannot share anything here, or not watch one another, by trying.");

static int try_session(void) {
  lvr_session *session;
  int code = lvr_session_create(NULL, &session);

  if (code == 0) lvr_session_detach(session);
  return code;
}

static int try_pidfd(void) {
  int fd = lvri_os_pidfd_open(lvri_os_pid());
  int code = fd < 0 ? fd : lvri_os_pidfd_signal(fd, 0);

  lvri_os_close(fd < 0 ? -1 : fd);
  return code;
}

static int try_bell(void) {
  int fd = lvri_os_bell_create();

  lvri_os_close(fd < 0 ? -1 : fd);
  return fd < 0 ? fd : 0;
}

static PyObject *platform_check(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
  int code;

  if (lvri_home() != NULL) Py_RETURN_NONE;
  if ((code = try_session()) < 0) return lvri_raise(code, "make an arena for shared objects");
  if ((code = try_pidfd()) < 0) return lvri_raise(code, "watch processes (pidfd)");
  if ((code = try_bell()) < 0) return lvri_raise(code, "wake processes (eventfd)");
  Py_RETURN_NONE;
}

static PyMethodDef session_functions[] = {
    {"session_attach", session_attach, METH_VARARGS, session_attach_doc},
    {"session_map", session_map, METH_O, session_map_doc},
    {"session_fd", session_fd, METH_NOARGS, session_fd_doc},
    {"session_exists", session_exists, METH_NOARGS, session_exists_doc},
    {"session_stats", session_stats, METH_NOARGS, session_stats_doc},
    {"session_check", session_check, METH_NOARGS, session_check_doc},
    {"proc_self", proc_self, METH_NOARGS, proc_self_doc},
    {"platform_check", platform_check, METH_NOARGS, platform_check_doc},
    {NULL, NULL, 0, NULL},
};

int lvri_exec_session(PyObject *module, struct lvri_state *Py_UNUSED(state)) {
  return PyModule_AddFunctions(module, session_functions);
}
