/* birth.c - births and deaths for Python: embryos, the zygote, the end of a process.
 *
 * Thin: which process is started how is decided in python/leveret/popen/; here are its system calls and
 * its waits, with the GIL released. Functions that begin with proc_ take process ids of the session. */
#include "binding/state.h" /* first: Python.h says which system it is made for */

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

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

/* Over for the session, and nobody has said how. Our own child may live on as another program, or the kernel
 * may still be at it: -ENODATA once there is something to reap. */
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

PyDoc_STRVAR(proc_set_status_doc,
             "proc_set_status($module, child, status, /)\n--\n\n"
             "Say how a child that was reaped has ended.");

static PyObject *proc_set_status(PyObject *Py_UNUSED(module), PyObject *args) {
  unsigned long long child;
  int status;
  lvr_session *session = lvri_session();

  if (session == NULL || !PyArg_ParseTuple(args, "Ki:proc_set_status", &child, &status))
    return NULL;
  int known = lvr_proc_set_status(session, child, status);

  (void)known; /* the first word counts */
  Py_RETURN_NONE;
}

PyDoc_STRVAR(proc_is_alive_doc,
             "proc_is_alive($module, proc_id, /)\n--\n\n"
             "Whether that process is born and not over.");

static PyObject *proc_is_alive(PyObject *Py_UNUSED(module), PyObject *arg) {
  lvr_session *session = lvri_session();
  lvr_proc_id id;

  if (session == NULL || id_of(arg, &id) < 0) return NULL;
  return PyBool_FromLong(lvr_proc_is_alive(session, id));
}

PyDoc_STRVAR(proc_parent_doc,
             "proc_parent($module, /)\n--\n\n"
             "The process id of this process's parent in the session; 0 if it has none.");

static PyObject *proc_parent(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
  lvr_session *session = lvri_session();
  struct lvr_proc_info info;

  if (session == NULL) return NULL;
  int code = lvr_proc_info(session, lvr_proc_self(session), &info);

  return PyLong_FromUnsignedLongLong(code < 0 ? 0 : info.parent);
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

static bool is_over(lvr_session *session, lvr_proc_id id) {
  struct lvr_proc_info info;

  return lvr_proc_info(session, id, &info) < 0 || info.state >= LVR_PROC_OVER;
}

/* A child of ours that nobody has reaped: its pid is its own, whatever program it has become. */
static bool is_our_child(int32_t pid) {
  siginfo_t info;

  return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | WNOHANG) == 0;
}

/* A pid may be somebody else's by now, unless its process still is in its slot after the pidfd was made. */
static int sentinel_of(lvr_session *session, lvr_proc_id id, int32_t pid) {
  int fd = lvri_os_pidfd_open(pid);

  if (fd == -ESRCH) return readable_fd();
  if (fd < 0 || !is_over(session, id) || is_our_child(pid)) return fd;
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

static int32_t pid_in_slot(lvr_session *session, lvr_proc_id id) {
  struct lvr_proc_info info;

  return lvr_proc_info(session, id, &info) < 0 ? 0 : info.pid;
}

/* Without a descriptor to spare the pid has to do: it was that process's a moment ago. */
static int signal_process(lvr_session *session, lvr_proc_id id, int32_t pid, int number) {
  int pidfd = pid == 0 ? -ESRCH : lvri_os_pidfd_open(pid);
  bool no_room = pidfd == -EMFILE || pidfd == -ENFILE;
  int code = 0;

  if (pidfd < 0 && !no_room) return pidfd;
  if (!is_over(session, id) || is_our_child(pid))
    code = no_room ? lvri_os_signal(pid, number) : lvri_os_pidfd_signal(pidfd, number);
  lvri_os_close(no_room ? -1 : pidfd);
  return code;
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
  if (pid == 0) pid = pid_in_slot(session, id);
  int code = signal_process(session, id, pid, number);

  return none_or_raise(code == -ESRCH ? 0 : code, "send a signal to a process");
}

PyDoc_STRVAR(
    pidfd_status_doc,
    "pidfd_status($module, fd, /)\n--\n\n"
    "The exit code of a process that somebody else reaped, or None where the kernel does not tell.");

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
    "Reap a child if it is over: its exit code, None if it is not, UNKNOWN_STATUS if it is no child "
    "(any more).");

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
  lvr_session *session = lvri_session_peek();

  if (status == -1 && PyErr_Occurred()) return NULL;
  int32_t low = (int32_t)(status & 0xff); /* -1, as Python ends with, if it is too large */

  lvri_os_close_from(0);
  if (session != NULL) say_farewell(session, low);
  lvri_os_exit(low);
}

/* --- the zygote ---------------------------------------------------------------------------- */

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
  return none_or_raise(lvr_zygote_seated(zygote_of(self), (int32_t)pid), "watch the zygote");
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

static PyObject *zygote_birth(PyObject *self, PyObject *args) {
  unsigned long long child;
  PyObject *sequence;
  int fds[LVR_BIRTH_FDS], code;
  int32_t pid = 0;
  uint32_t mark = 0;

  if (!PyArg_ParseTuple(args, "KO:birth", &child, &sequence)) return NULL;
  int n_fds = fds_of(sequence, fds);

  if (n_fds < 0) return NULL;
  LVRI_WAIT(code, lvr_zygote_send(zygote_of(self), child, fds, (uint32_t)n_fds, &mark));
  if (code == 0)
    LVRI_WAIT_UNTIL(
        code, LVR_FOREVER,
        lvr_zygote_wait_until(zygote_of(self), child, fds, (uint32_t)n_fds, &mark, until_ns, &pid));
  if (code == -EOWNERDEAD) Py_RETURN_NONE;
  if (code == -EAGAIN) return raise_too_many();
  return code < 0 ? lvri_raise(code, "start a process") : PyLong_FromLong(pid);
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

static PyMethodDef zygote_methods[] = {
    {"create", (PyCFunction)(void (*)(void))zygote_create, METH_NOARGS | METH_CLASS,
     PyDoc_STR("create($type, /)\n--\n\nMake what a zygote and its callers share.")},
    {"open", (PyCFunction)(void (*)(void))zygote_open, METH_VARARGS | METH_CLASS,
     PyDoc_STR("open($type, /, *seat)\n--\n\nThe same in the process that is to be the zygote.")},
    {"seat", zygote_seat, METH_NOARGS,
     PyDoc_STR("seat($self, /)\n--\n\nWhat that process needs to know: a tuple for open().")},
    {"seated", zygote_seated, METH_O,
     PyDoc_STR("seated($self, pid, /)\n--\n\nThat process exists.")},
    {"birth", zygote_birth, METH_VARARGS,
     PyDoc_STR("birth($self, child, fds, /)\n--\n\n"
               "Have a prepared child born: its pid, or None if the zygote is dead.")},
    {"serve", zygote_serve, METH_VARARGS,
     PyDoc_STR("serve($self, spare, rehearse, least, most, /)\n--\n\n"
               "Be the zygote: (id, error, fds) in each child, None in the zygote at its end.")},
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

/* ------------------------------------------------------------------------------------------- */

static PyMethodDef birth_functions[] = {
    {"proc_prepare", proc_prepare, METH_O, proc_prepare_doc},
    {"proc_give", proc_give, METH_VARARGS, proc_give_doc},
    {"proc_fork_next", proc_fork_next, METH_O, proc_fork_next_doc},
    {"proc_withdraw", proc_withdraw, METH_O, proc_withdraw_doc},
    {"proc_forget", proc_forget, METH_O, proc_forget_doc},
    {"proc_put_task", proc_put_task, METH_VARARGS, proc_put_task_doc},
    {"proc_get_task", proc_get_task, METH_O, proc_get_task_doc},
    {"proc_drop_task", proc_drop_task, METH_O, proc_drop_task_doc},
    {"proc_wait", proc_wait, METH_VARARGS, proc_wait_doc},
    {"proc_poll", proc_poll, METH_VARARGS, proc_poll_doc},
    {"proc_set_status", proc_set_status, METH_VARARGS, proc_set_status_doc},
    {"proc_signal", proc_signal, METH_VARARGS, proc_signal_doc},
    {"proc_is_alive", proc_is_alive, METH_O, proc_is_alive_doc},
    {"proc_parent", proc_parent, METH_NOARGS, proc_parent_doc},
    {"proc_die_with", proc_die_with, METH_O, proc_die_with_doc},
    {"die_with_parent", die_with_parent, METH_O, die_with_parent_doc},
    {"repair", repair, METH_NOARGS, repair_doc},
    {"proc_sentinel", proc_sentinel, METH_VARARGS, proc_sentinel_doc},
    {"pidfd_status", pidfd_status, METH_O, pidfd_status_doc},
    {"reap", reap, METH_O, reap_doc},
    {"signals_block", signals_block, METH_O, signals_block_doc},
    {"umask", umask_now, METH_NOARGS, umask_doc},
    {"end", end, METH_O, end_doc},
    {NULL, NULL, 0, NULL},
};

int lvri_exec_birth(PyObject *module, struct lvri_state *state) {
  if (PyModule_AddFunctions(module, birth_functions) < 0) return -1;
  if (PyModule_AddIntConstant(module, "UNKNOWN_STATUS", UNKNOWN_STATUS) < 0) return -1;
  return lvri_add_type(module, &zygote_spec, NULL, &state->zygote_type);
}
