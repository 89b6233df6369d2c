/* birth.c - births and deaths for Python: embryos, waits, signals, the end of a process.
 *
 * Thin: which process is started how is decided in python/leveret/popen/; here are its system calls
 * and its waits, with the GIL released. Functions that begin with proc_ take process ids of the
 * session. */
#include "binding/state.h" /* first: Python.h says which system it is made for */

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "core/home.h"
#include "core/process.h"
#include "core/wait.h"
#include "os/link.h"
#include "os/os.h"

/* What proc_wait() gives for a process that is over and has left no word of how. */
#define UNKNOWN_STATUS 0x10000

static int id_of(PyObject *number, lvr_proc_id *ret_id) {
  unsigned long long id = PyLong_AsUnsignedLongLong(number);

  if (id == (unsigned long long)-1 && PyErr_Occurred()) return -1;
  *ret_id = id;
  return 0;
}

static PyObject *none_or_raise(int code, const char *doing) {
  if (code < 0) return lvri_raise(code, doing);
  Py_RETURN_NONE;
}

/* --- embryos ------------------------------------------------------------------------------- */

PyDoc_STRVAR(proc_prepare_doc,
             "proc_prepare($module, flags, /)\n--\n\n"
             "Make a slot for a child that is to be born; its process id.");

static PyObject *proc_prepare(PyObject *Py_UNUSED(module), PyObject *arg) {
  lvr_session *session = lvri_session();
  unsigned long flags = PyLong_AsUnsignedLong(arg);
  lvr_proc_id id;

  if (session == NULL || (flags == (unsigned long)-1 && PyErr_Occurred())) return NULL;
  int code = lvr_proc_prepare(session, (uint32_t)flags, &id);

  return code < 0 ? lvri_raise(code, "start another process") : PyLong_FromUnsignedLongLong(id);
}

PyDoc_STRVAR(proc_give_doc,
             "proc_give($module, child, ref, /)\n--\n\n"
             "Let a prepared child have a handle of what ref names.");

static PyObject *proc_give(PyObject *Py_UNUSED(module), PyObject *args) {
  unsigned long long child;
  const char *bytes;
  Py_ssize_t len;
  lvr_ref ref;
  lvr_session *session = lvri_session();

  if (session == NULL || !PyArg_ParseTuple(args, "Ky#:proc_give", &child, &bytes, &len))
    return NULL;
  if (len != sizeof(ref)) {
    PyErr_SetString(PyExc_ValueError, "that is no reference to a shared object");
    return NULL;
  }
  memcpy(&ref, bytes, sizeof(ref));
  return none_or_raise(lvr_proc_give(session, child, &ref),
                       "hand a shared object to a new process");
}

PyDoc_STRVAR(proc_fork_next_doc,
             "proc_fork_next($module, child, /)\n--\n\n"
             "This thread's next fork gives birth to that child; 0 takes it back.");

static PyObject *proc_fork_next(PyObject *Py_UNUSED(module), PyObject *arg) {
  lvr_session *session = lvri_session();
  lvr_proc_id child;

  if (session == NULL || id_of(arg, &child) < 0) return NULL;
  return none_or_raise(lvr_proc_fork_next(session, child), "fork");
}

PyDoc_STRVAR(proc_forked_doc,
             "proc_forked($module, child, pid, /)\n--\n\n"
             "The fork that gives birth to that child has succeeded.");

static PyObject *proc_forked(PyObject *Py_UNUSED(module), PyObject *args) {
  unsigned long long child;
  int pid;
  lvr_session *session = lvri_session();

  if (session == NULL || !PyArg_ParseTuple(args, "Ki:proc_forked", &child, &pid)) return NULL;
  lvri_proc_forked(session, child, pid);
  Py_RETURN_NONE;
}

PyDoc_STRVAR(proc_withdraw_doc,
             "proc_withdraw($module, child, /)\n--\n\n"
             "That child will not be born; False if it is.");

static PyObject *proc_withdraw(PyObject *Py_UNUSED(module), PyObject *arg) {
  lvr_session *session = lvri_session();
  lvr_proc_id child;

  if (session == NULL || id_of(arg, &child) < 0) return NULL;
  return PyBool_FromLong(lvr_proc_withdraw(session, child) != -EBUSY);
}

PyDoc_STRVAR(proc_forget_doc,
             "proc_forget($module, child, /)\n--\n\n"
             "Nobody will ask about that child again.");

static PyObject *proc_forget(PyObject *Py_UNUSED(module), PyObject *arg) {
  lvr_session *session = lvri_session();
  lvr_proc_id child;

  if (session == NULL || id_of(arg, &child) < 0) return NULL;
  int gone = lvr_proc_forget(session, child);

  (void)gone; /* no slot any more is as good */
  Py_RETURN_NONE;
}

/* --- the payload --------------------------------------------------------------------------- */

PyDoc_STRVAR(proc_put_task_doc,
             "proc_put_task($module, child, data, /)\n--\n\n"
             "Lay down in the arena what a prepared child is to do.");

static PyObject *proc_put_task(PyObject *Py_UNUSED(module), PyObject *args) {
  unsigned long long child;
  Py_buffer data;
  lvr_session *session = lvri_session();

  if (session == NULL || !PyArg_ParseTuple(args, "Ky*:proc_put_task", &child, &data)) return NULL;
  int code;

  Py_BEGIN_ALLOW_THREADS
  code = lvri_proc_put_task(session, child, data.buf, (size_t)data.len);
  Py_END_ALLOW_THREADS
  PyBuffer_Release(&data);
  return none_or_raise(code, "hand its arguments to a new process");
}

PyDoc_STRVAR(proc_get_task_doc,
             "proc_get_task($module, child, /)\n--\n\n"
             "What was laid down for it: a view that is good until proc_drop_task().");

static PyObject *proc_get_task(PyObject *Py_UNUSED(module), PyObject *arg) {
  lvr_session *session = lvri_session();
  lvr_proc_id child;
  const void *bytes;
  size_t len;

  if (session == NULL || id_of(arg, &child) < 0) return NULL;
  int code = lvri_proc_get_task(session, child, &bytes, &len);

  if (code < 0) return lvri_raise(code, "find what this process is to do");
  return PyMemoryView_FromMemory((char *)(uintptr_t)bytes, (Py_ssize_t)len, PyBUF_READ);
}

PyDoc_STRVAR(proc_drop_task_doc,
             "proc_drop_task($module, child, /)\n--\n\n"
             "Free what was laid down for it, if anything is left.");

static PyObject *proc_drop_task(PyObject *Py_UNUSED(module), PyObject *arg) {
  lvr_session *session = lvri_session();
  lvr_proc_id child;

  if (session == NULL || id_of(arg, &child) < 0) return NULL;
  lvri_proc_drop_task(session, child);
  Py_RETURN_NONE;
}

/* --- waiting ------------------------------------------------------------------------------- */

/* A child to be waited for. */
struct mortal {
  lvr_session *session;
  lvr_proc_id id;
  lvr_proc_id reaper; /* the process of the session that reaps it; 0: we do */
  int pid;            /* as a child of this process; 0: it is none */
  int32_t status;
};

static bool is_embryo(const struct mortal *m) {
  struct lvr_proc_info info;

  return lvr_proc_info(m->session, m->id, &info) == 0 && info.state == LVR_PROC_EMBRYO;
}

/* Forked, but killed before its first instruction: its slot will never tell. */
static bool is_stillborn(const struct mortal *m) {
  return m->pid != 0 && is_embryo(m) && lvri_os_child_is_gone(m->pid) && is_embryo(m);
}

/* Nobody will ever be it. */
static int write_off(const struct mortal *m) {
  int gone = lvr_proc_withdraw(m->session, m->id);

  (void)gone;
  return -ENODATA;
}

static int64_t next_look(const struct mortal *m, int64_t deadline_ns) {
  int64_t relook_ns = lvri_os_now_ns() + LVRI_RELOOK_NS;

  return m->pid != 0 && relook_ns < deadline_ns && is_embryo(m) ? relook_ns : deadline_ns;
}

static int wait_for_end(struct mortal *m, int64_t deadline_ns) {
  for (;;) {
    int64_t until_ns = next_look(m, deadline_ns);
    int code = lvr_proc_wait_until(m->session, m->id, until_ns, &m->status);

    if (code != -ETIMEDOUT) return code;
    if (is_stillborn(m)) return write_off(m);
    if (until_ns == deadline_ns) return code;
  }
}

/* Over for the session, and nobody has said how. Our own child may live on as another program, or
 * the kernel may still be at it: -ENODATA once there is something to reap. */
static int wait_for_kernel(const struct mortal *m, int64_t deadline_ns) {
  if (lvri_os_child_is_gone(m->pid)) return -ENODATA;
  int pidfd = deadline_ns == LVRI_TRY_ONCE ? -ETIMEDOUT : lvri_os_pidfd_open(m->pid);
  if (pidfd < 0) return pidfd;
  int ready = lvri_os_sleep_on(&pidfd, 1, deadline_ns, lvri_os_signals_blocked());

  lvri_os_close(pidfd);
  if (ready < 0) return ready;
  return ready > 0 ? -ENODATA : -ETIMEDOUT;
}

static PyObject *await(struct mortal *m, int64_t deadline_ns) {
  int code;

  LVRI_WAIT_UNTIL(code, deadline_ns, wait_for_end(m, until_ns));
  if (code == -ENODATA && m->pid != 0)
    LVRI_WAIT_UNTIL(code, deadline_ns, wait_for_kernel(m, until_ns));
  if (code == -ENODATA && m->reaper != 0)
    LVRI_WAIT_UNTIL(code, deadline_ns,
                    lvr_proc_wait_status_until(m->session, m->id, m->reaper, until_ns, &m->status));
  if (code == -ETIMEDOUT) Py_RETURN_NONE;
  if (code == -ENODATA || code == -ESRCH) return PyLong_FromLong(UNKNOWN_STATUS);
  return code < 0 ? lvri_raise(code, "wait for a process") : PyLong_FromLong(m->status);
}

PyDoc_STRVAR(
    proc_wait_doc,
    "proc_wait($module, child, reaper, pid, timeout, /)\n--\n\n"
    "The exit code of a child; None if it goes on after timeout seconds (None: wait on).\n\n"
    "UNKNOWN_STATUS if it is over and nobody says how: reaper is waited for to say so; 0 if\n"
    "this process reaps it, as its child pid.");

static PyObject *proc_wait(PyObject *Py_UNUSED(module), PyObject *args) {
  unsigned long long id, reaper;
  PyObject *timeout;
  int64_t deadline_ns;
  struct mortal mortal = {.session = lvri_session()};

  if (mortal.session == NULL ||
      !PyArg_ParseTuple(args, "KKiO:proc_wait", &id, &reaper, &mortal.pid, &timeout) ||
      lvri_deadline_of(timeout, &deadline_ns) < 0)
    return NULL;
  mortal.id = id;
  mortal.reaper = reaper;
  return await(&mortal, deadline_ns);
}

PyDoc_STRVAR(proc_poll_doc,
             "proc_poll($module, child, reaper, pid, /)\n--\n\n"
             "As proc_wait(), without waiting for the end.");

static PyObject *proc_poll(PyObject *Py_UNUSED(module), PyObject *args) {
  unsigned long long id, reaper;
  struct mortal mortal = {.session = lvri_session()};

  if (mortal.session == NULL || !PyArg_ParseTuple(args, "KKi:proc_poll", &id, &reaper, &mortal.pid))
    return NULL;
  if (lvr_proc_is_alive(mortal.session, id)) Py_RETURN_NONE;
  mortal.id = id;
  mortal.reaper = reaper;
  return await(&mortal, LVRI_TRY_ONCE);
}

PyDoc_STRVAR(proc_die_with_doc,
             "proc_die_with($module, parent, /)\n--\n\n"
             "Kill this process as soon as that one is over.");

static PyObject *proc_die_with(PyObject *Py_UNUSED(module), PyObject *arg) {
  lvr_session *session = lvri_session();
  lvr_proc_id parent;

  if (session == NULL || id_of(arg, &parent) < 0) return NULL;
  return none_or_raise(lvr_proc_die_with(session, parent), "end with its parent");
}

PyDoc_STRVAR(
    die_with_parent_doc,
    "die_with_parent($module, pid, /)\n--\n\n"
    "Have the kernel kill this process when the thread that made it ends; at once if its parent "
    "is not pid. 0 takes it back.");

static PyObject *die_with_parent(PyObject *Py_UNUSED(module), PyObject *arg) {
  long pid = PyLong_AsLong(arg);

  if (pid == -1 && PyErr_Occurred()) return NULL;
  int code = lvri_os_die_with_parent(pid == 0 ? 0 : SIGKILL);

  if (code == 0 && pid != 0 && lvri_os_parent_pid() != pid)
    (void)lvri_os_signal(lvri_os_pid(), SIGKILL);
  return none_or_raise(code, "end with its parent");
}

PyDoc_STRVAR(at_parents_death_doc,
             "at_parents_death($module, number, /)\n--\n\n"
             "Have the kernel send this process a signal when the thread that made it ends.");

static PyObject *at_parents_death(PyObject *Py_UNUSED(module), PyObject *arg) {
  long number = PyLong_AsLong(arg);

  if (number == -1 && PyErr_Occurred()) return NULL;
  return none_or_raise(lvri_os_die_with_parent((int)number), "hear of its parent's end");
}

PyDoc_STRVAR(repair_doc,
             "repair($module, /)\n--\n\n"
             "Clean up now after all processes that are over; how many there were.");

static PyObject *repair(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
  lvr_session *session = lvri_session();

  if (session == NULL) return NULL;
  int code = lvr_repair(session);

  return code < 0 ? lvri_raise(code, "clean up after processes that are over")
                  : PyLong_FromLong(code);
}

/* --- descriptors that tell of a death ------------------------------------------------------ */

/* As good as the pidfd of a process that is over: readable for ever. */
static int readable_fd(void) {
  int fd = lvri_os_bell_create();

  if (fd >= 0) lvri_os_bell_ring(fd);
  return fd;
}

/* A pid may be somebody else's by now, unless its process still is there after the pidfd
 * was made. */
static int sentinel_of(lvr_session *session, lvr_proc_id id, int32_t pid) {
  int fd = lvri_os_pidfd_open(pid);

  if (fd == -ESRCH) return readable_fd();
  if (fd < 0 || lvri_proc_is_there(session, id, pid)) return fd;
  lvri_os_close(fd);
  return readable_fd();
}

PyDoc_STRVAR(proc_sentinel_doc,
             "proc_sentinel($module, proc_id, pid, /)\n--\n\n"
             "A descriptor that polls readable once that process is gone.");

static PyObject *proc_sentinel(PyObject *Py_UNUSED(module), PyObject *args) {
  unsigned long long id;
  int pid;
  lvr_session *session = lvri_session();

  if (session == NULL || !PyArg_ParseTuple(args, "Ki:proc_sentinel", &id, &pid)) return NULL;
  int fd = sentinel_of(session, id, pid);

  return fd < 0 ? lvri_raise(fd, "watch a process") : PyLong_FromLong(fd);
}

PyDoc_STRVAR(proc_signal_doc,
             "proc_signal($module, proc_id, pid, number, /)\n--\n\n"
             "Send a signal to that process, if there is one. pid 0: what its slot says.");

static PyObject *proc_signal(PyObject *Py_UNUSED(module), PyObject *args) {
  unsigned long long id;
  int pid, number;
  lvr_session *session = lvri_session();

  if (session == NULL || !PyArg_ParseTuple(args, "Kii:proc_signal", &id, &pid, &number))
    return NULL;
  int code = lvri_proc_signal(session, id, pid, number);

  return none_or_raise(code == -ESRCH ? 0 : code, "send a signal to a process");
}

PyDoc_STRVAR(
    pidfd_status_doc,
    "pidfd_status($module, fd, /)\n--\n\n"
    "The exit code of a process that somebody else reaped, or None where the kernel does not "
    "tell.");

static PyObject *pidfd_status(PyObject *Py_UNUSED(module), PyObject *arg) {
  int32_t status;
  int fd = PyObject_AsFileDescriptor(arg);

  if (fd < 0) return NULL;
  if (lvri_os_pidfd_status(fd, &status) < 0) Py_RETURN_NONE;
  return PyLong_FromLong(status);
}

PyDoc_STRVAR(
    reap_doc,
    "reap($module, pid, /)\n--\n\n"
    "Reap a child if it is over: its exit code, None if it is not, UNKNOWN_STATUS if it is no "
    "child (any more).");

static PyObject *reap(PyObject *Py_UNUSED(module), PyObject *arg) {
  int32_t status = 0;
  long pid = PyLong_AsLong(arg);

  if (pid == -1 && PyErr_Occurred()) return NULL;
  int code = lvri_os_child_reap((int32_t)pid, &status);

  if (code == 0) Py_RETURN_NONE;
  return PyLong_FromLong(code < 0 ? UNKNOWN_STATUS : status);
}

/* --- this process -------------------------------------------------------------------------- */

PyDoc_STRVAR(umask_doc,
             "umask($module, /)\n--\n\n"
             "The mask that files are created with; it stays as it is.");

static PyObject *umask_now(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
  return PyLong_FromUnsignedLong(lvri_os_umask());
}

PyDoc_STRVAR(
    signals_block_doc,
    "signals_block($module, mask, /)\n--\n\n"
    "Block these signals (bit n-1 is signal n) in this thread and no others; which were.\n\n"
    "Handlers run before anything is blocked, or once something no longer is.");

static PyObject *signals_block(PyObject *Py_UNUSED(module), PyObject *arg) {
  uint64_t mask = PyLong_AsUnsignedLongLong(arg);
  uint64_t before = lvri_os_signals_blocked();
  bool unblocks = (before & ~mask) != 0;

  if (PyErr_Occurred() || (!unblocks && PyErr_CheckSignals() < 0)) return NULL;
  lvri_os_signals_block(mask);
  if (unblocks && PyErr_CheckSignals() < 0) return NULL;
  return PyLong_FromUnsignedLongLong(before);
}

PyDoc_STRVAR(signals_ignored_doc,
             "signals_ignored($module, /)\n--\n\n"
             "The signals that this process ignores (bit n-1 is signal n).");

static PyObject *signals_ignored(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
  return PyLong_FromUnsignedLongLong(lvri_os_signals_ignored());
}

/* Other threads may still be in the arena: then the kernel tells of the death, not we. */
static void say_farewell(lvr_session *session, int32_t status) {
  if (lvr_proc_self(session) == 0) return;
  if (lvri_os_thread_count() == 1) {
    lvr_proc_announce(session, status);
    return;
  }
  int known = lvr_proc_set_status(session, lvr_proc_self(session), status);

  (void)known;
}

PyDoc_STRVAR(
    end_doc,
    "end($module, status, /)\n--\n\n"
    "End this process: close every descriptor, announce the status, leave without looking back.");

static PyObject *end(PyObject *Py_UNUSED(module), PyObject *arg) {
  int overflow;
  long long status = PyLong_AsLongLongAndOverflow(arg, &overflow);
  lvr_session *session = lvri_home();

  if (status == -1 && PyErr_Occurred()) return NULL;
  int32_t low = (int32_t)(status & 0xff); /* -1, as Python ends with, if it is too large */

  lvri_os_close_from(0);
  if (session != NULL) say_farewell(session, low);
  lvri_os_exit(low);
}

/* ------------------------------------------------------------------------------------------- */

static PyMethodDef birth_functions[] = {
    {"proc_prepare", proc_prepare, METH_O, proc_prepare_doc},
    {"proc_give", proc_give, METH_VARARGS, proc_give_doc},
    {"proc_fork_next", proc_fork_next, METH_O, proc_fork_next_doc},
    {"proc_forked", proc_forked, METH_VARARGS, proc_forked_doc},
    {"proc_withdraw", proc_withdraw, METH_O, proc_withdraw_doc},
    {"proc_forget", proc_forget, METH_O, proc_forget_doc},
    {"proc_put_task", proc_put_task, METH_VARARGS, proc_put_task_doc},
    {"proc_get_task", proc_get_task, METH_O, proc_get_task_doc},
    {"proc_drop_task", proc_drop_task, METH_O, proc_drop_task_doc},
    {"proc_wait", proc_wait, METH_VARARGS, proc_wait_doc},
    {"proc_poll", proc_poll, METH_VARARGS, proc_poll_doc},
    {"proc_signal", proc_signal, METH_VARARGS, proc_signal_doc},
    {"proc_die_with", proc_die_with, METH_O, proc_die_with_doc},
    {"die_with_parent", die_with_parent, METH_O, die_with_parent_doc},
    {"at_parents_death", at_parents_death, METH_O, at_parents_death_doc},
    {"repair", repair, METH_NOARGS, repair_doc},
    {"proc_sentinel", proc_sentinel, METH_VARARGS, proc_sentinel_doc},
    {"pidfd_status", pidfd_status, METH_O, pidfd_status_doc},
    {"reap", reap, METH_O, reap_doc},
    {"signals_block", signals_block, METH_O, signals_block_doc},
    {"signals_ignored", signals_ignored, METH_NOARGS, signals_ignored_doc},
    {"umask", umask_now, METH_NOARGS, umask_doc},
    {"end", end, METH_O, end_doc},
    {NULL, NULL, 0, NULL},
};

int lvri_exec_birth(PyObject *module, struct lvri_state *Py_UNUSED(state)) {
  if (PyModule_AddFunctions(module, birth_functions) < 0) return -1;
  return PyModule_AddIntConstant(module, "UNKNOWN_STATUS", UNKNOWN_STATUS);
}
