/* board.c - Board: tasks from its owner to workers in other processes, and results back.
 *
 *   owner:   put() -> numbers    wait() -> take() -> events    look(), over(), settle(), bury()
 *   worker:  enlist(row), ready()    work(): claim, run, finish, again
 *
 * It is a shared object like a queue; but only the process that made it puts and takes, and what
 * it knows of who waits for which numbers is this object's. */
#include "binding/board.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "core/board.h"
#include "core/home.h"
#include "core/process.h"
#include "core/session.h"

LVRI_DEFINE_REFERENCE(board)
LVRI_DEFINE_FROM_REFERENCE(board)

PyObject *lvri_board_raise(int code, const char *doing) {
  if (code != -EPIPE) return lvri_raise(code, doing);
  PyErr_Format(PyExc_ValueError, "cannot %s: the board is closed", doing);
  return NULL;
}

struct lvri_board_object *lvri_board_any(PyObject *self) {
  struct lvri_board_object *object = lvri_board_of(self);

  if (__builtin_expect(object->board != NULL, 1)) return object;
  (void)lvri_raise_uninitialised(self);
  return NULL;
}

struct lvri_board_object *lvri_board_owned(PyObject *self) {
  struct lvri_board_object *object = lvri_board_any(self);

  if (object == NULL || __builtin_expect(lvri_board_is_owner(object->board), 1)) return object;
  PyErr_Format(PyExc_RuntimeError,
               "this board belongs to process %ld, which made it: only that one puts tasks and "
               "takes results; process %d can make a board of its own",
               object->owner_pid, (int)getpid());
  return NULL;
}

/* A forked child has a copy of the object, and not the row. */
struct lvri_board_object *lvri_board_working(PyObject *self) {
  struct lvri_board_object *object = lvri_board_any(self);

  if (object == NULL || lvri_board_is_worker(object->board)) return object;
  PyErr_Format(PyExc_RuntimeError, "process %d is no worker of this board: enlist() first",
               (int)getpid());
  return NULL;
}

PyDoc_STRVAR(is_ours_doc,
             "is_ours($self, /)\n--\n\n"
             "Whether this process made the board. No system call; true of no forked child, from\n"
             "its first instruction on.");

static PyObject *board_is_ours(PyObject *self, PyObject *Py_UNUSED(none)) {
  struct lvri_board_object *object = lvri_board_any(self);

  return object == NULL ? NULL : PyBool_FromLong(lvri_board_is_owner(object->board));
}

/* --- waiting ------------------------------------------------------------------------------- */

typedef int (*wait_until)(lvr_board *b, int64_t deadline_ns);

static PyObject *wait_with(PyObject *self, PyObject *timeout, wait_until wait, bool for_results) {
  struct lvri_board_object *object = lvri_board_owned(self);
  int64_t deadline_ns;
  int code;

  if (object == NULL || lvri_deadline_of(timeout, &deadline_ns) < 0) return NULL;
  if (for_results && lvri_board_owes(object)) Py_RETURN_TRUE;
  LVRI_WAIT_UNTIL(code, deadline_ns, wait(object->board, until_ns));
  if (code == LVRI_RAISED) return NULL;
  if (code < 0 && code != -ETIMEDOUT && code != -ECANCELED)
    return lvri_board_raise(code, "wait for results");
  return PyBool_FromLong(code == 0);
}

PyDoc_STRVAR(wait_doc,
             "wait($self, timeout, /)\n--\n\n"
             "Wait until there is a result, or a worker is over that is not buried.\n\n"
             "False after timeout seconds (None: no limit), or when it was interrupted.");

static PyObject *board_wait(PyObject *self, PyObject *timeout) {
  return wait_with(self, timeout, lvr_board_wait_until, true);
}

PyDoc_STRVAR(watch_doc,
             "watch($self, timeout, /)\n--\n\n"
             "As wait(), but only until a worker is over. One thread may wait and another watch.");

static PyObject *board_watch(PyObject *self, PyObject *timeout) {
  return wait_with(self, timeout, lvr_board_watch_until, false);
}

PyDoc_STRVAR(interrupt_doc,
             "interrupt($self, /)\n--\n\n"
             "End what other threads wait for, and watch for; or the next such call.");

static PyObject *board_interrupt(PyObject *self, PyObject *Py_UNUSED(none)) {
  struct lvri_board_object *object = lvri_board_any(self);

  if (object == NULL) return NULL;
  lvr_board_interrupt(object->board);
  Py_RETURN_NONE;
}

static PyObject *board_close(PyObject *self, PyObject *Py_UNUSED(none)) {
  struct lvri_board_object *object = lvri_board_any(self);

  if (object == NULL) return NULL;
  lvr_board_close(object->board);
  Py_RETURN_NONE;
}

/* --- numbers ------------------------------------------------------------------------------- */

int lvri_board_number(PyObject *number, uint32_t *ret_number) {
  unsigned long value = PyLong_AsUnsignedLong(number);

  if (value == (unsigned long)-1 && PyErr_Occurred()) return -1;
  if (value > UINT32_MAX) {
    PyErr_Format(PyExc_OverflowError, "%lu is no number of a task, and no row", value);
    return -1;
  }
  *ret_number = (uint32_t)value;
  return 0;
}

static PyObject *board_waiting(PyObject *self, PyObject *Py_UNUSED(none)) {
  struct lvri_board_object *object = lvri_board_any(self);

  return object == NULL ? NULL : PyLong_FromUnsignedLong(lvr_board_waiting(object->board));
}

static PyObject *board_outstanding(PyObject *self, PyObject *Py_UNUSED(none)) {
  struct lvri_board_object *object = lvri_board_any(self);

  return object == NULL ? NULL : PyLong_FromSsize_t(object->runs.outstanding);
}

static bool strike(struct lvri_board_object *object, uint32_t number) {
  struct lvri_struck struck;

  if (!lvri_runs_strike(&object->runs, number, &struck)) return false;
  lvri_struck_drop(&struck);
  return true;
}

/* Never waits with the GIL: who has the mutex may be a worker that was stopped. */
static int cancel(lvr_board *board, uint32_t number) {
  int code;

  while ((code = lvri_board_try_cancel(board, number)) == -EBUSY) {
    Py_BEGIN_ALLOW_THREADS
    code = lvri_board_await_claims(board);
    Py_END_ALLOW_THREADS
    if (code < 0) break;
  }
  return code;
}

PyDoc_STRVAR(cancel_doc,
             "cancel($self, number, /)\n--\n\n"
             "Strike a task out, if nobody has claimed it: it will not be run.\n\n"
             "True for one of those who ask, as strike().");

static PyObject *board_cancel(PyObject *self, PyObject *arg) {
  struct lvri_board_object *object = lvri_board_owned(self);
  uint32_t number;

  if (object == NULL || lvri_board_number(arg, &number) < 0) return NULL;
  int code = cancel(object->board, number);

  if (code < 0 && code != -ENOENT) return lvri_board_raise(code, "cancel a task");
  /* Still with the GIL: who buries a worker that claimed it since would take it for one of his. */
  return PyBool_FromLong(code == 0 && strike(object, number));
}

PyDoc_STRVAR(find_doc,
             "find($self, number, /)\n--\n\n"
             "(job, place) of a task; None if nobody waits for it any more.");

static PyObject *board_find(PyObject *self, PyObject *arg) {
  struct lvri_board_object *object = lvri_board_any(self);
  uint32_t number;
  Py_ssize_t place;

  if (object == NULL || lvri_board_number(arg, &number) < 0) return NULL;
  PyObject *job = lvri_runs_find(&object->runs, number, &place);

  if (job == NULL) Py_RETURN_NONE;
  return Py_BuildValue("(On)", job, place);
}

PyDoc_STRVAR(strike_doc,
             "strike($self, number, /)\n--\n\n"
             "Nobody waits for that task any more: a result that comes is dropped.\n\n"
             "False if nobody did.");

static PyObject *board_strike(PyObject *self, PyObject *arg) {
  struct lvri_board_object *object = lvri_board_any(self);
  uint32_t number;

  if (object == NULL || lvri_board_number(arg, &number) < 0) return NULL;
  return PyBool_FromLong(strike(object, number));
}

/* --- jobs that nobody has any more --------------------------------------------------------- */

/* New lists may run finalizers that drop jobs. */
static PyObject *list_of_dropped(struct lvri_board_object *object) {
  PyObject *list = object->dropped != NULL ? NULL : PyList_New(0);

  if (object->dropped == NULL) return object->dropped = list;
  Py_XDECREF(list);
  return object->dropped;
}

PyDoc_STRVAR(
    drop_doc,
    "drop($self, job, /)\n--\n\n"
    "Note a job whose result nobody will fetch, and wake who waits or watches for that.\n\n"
    "No Python code runs in here: so a weak reference may call it, and Ctrl-C is not lost.");

static PyObject *board_drop(PyObject *self, PyObject *job) {
  struct lvri_board_object *object = lvri_board_any(self);

  if (object == NULL) return NULL;
  if (!lvri_board_is_owner(object->board))
    Py_RETURN_NONE; /* in a forked child: it is not its job */
  PyObject *list = list_of_dropped(object);

  if (list == NULL || PyList_Append(list, job) < 0) return NULL;
  if (PyList_GET_SIZE(list) == 1) lvr_board_interrupt(object->board);
  Py_RETURN_NONE;
}

PyDoc_STRVAR(dropped_doc, "dropped($self, /)\n--\n\nThe jobs that were dropped, once.");

static PyObject *board_dropped(PyObject *self, PyObject *Py_UNUSED(none)) {
  struct lvri_board_object *object = lvri_board_of(self);
  PyObject *list = object->dropped;

  object->dropped = NULL;
  return list != NULL ? list : PyList_New(0);
}

/* --- rows ---------------------------------------------------------------------------------- */

/* The row that is meant, when there is such a one; -1 with an error. */
static int parse_row(struct lvri_board_object *object, PyObject *number, uint32_t *ret_row) {
  if (lvri_board_number(number, ret_row) < 0) return -1;
  if (*ret_row < lvr_board_rows(object->board)) return 0;
  PyErr_Format(PyExc_IndexError, "there is no row %u on a board of %u", *ret_row,
               lvr_board_rows(object->board));
  return -1;
}

/* The pid of a process that is not repaired yet; 0 for one that is gone. */
static int pid_of(lvr_proc_id id) {
  struct lvr_proc_info info;
  lvr_session *session = lvri_home();

  return lvr_proc_info(session, id, &info) == 0 ? (int)info.pid : 0;
}

static PyStructSequence_Field row_fields[] = {
    {"pid", "the worker's"},
    {"first", "the number of the first task that it has claimed and not finished"},
    {"claimed", "how many these are"},
    {"running", "the number of the one that it runs, or None"},
    {"since", "the time.monotonic() since which it does"},
    {"finished", "how many results it has put"},
    {"order", "what it was told last: (count << 2 | why) << 32 | number, or 0"},
    {"doomed", "whether it is to be killed for what it runs or has run, and begins nothing more"},
    {NULL, NULL},
};

static PyStructSequence_Desc row_desc = {
    .name = "leveret._core.Row",
    .doc = "What the row of a worker says.",
    .fields = row_fields,
    .n_in_sequence = sizeof(row_fields) / sizeof(*row_fields) - 1,
};

static PyObject *row_object(struct lvri_state *state, const struct lvr_board_row *row, int pid) {
  PyObject *seen = PyStructSequence_New(state->row_type);

  if (seen == NULL) return NULL;
  PyStructSequence_SetItem(seen, 0, PyLong_FromLong(pid));
  PyStructSequence_SetItem(seen, 1, PyLong_FromUnsignedLong(row->first));
  PyStructSequence_SetItem(seen, 2, PyLong_FromUnsignedLong(row->count));
  PyStructSequence_SetItem(
      seen, 3, row->is_running ? PyLong_FromUnsignedLong(row->running) : Py_NewRef(Py_None));
  PyStructSequence_SetItem(seen, 4, PyFloat_FromDouble((double)row->since_ns / 1e9));
  PyStructSequence_SetItem(seen, 5, PyLong_FromUnsignedLong(row->finished));
  PyStructSequence_SetItem(seen, 6, PyLong_FromUnsignedLongLong(row->order));
  PyStructSequence_SetItem(seen, 7, PyBool_FromLong(row->is_doomed));
  if (PyErr_Occurred()) Py_CLEAR(seen);
  return seen;
}

PyDoc_STRVAR(look_doc,
             "look($self, row, /)\n--\n\n"
             "The Row of a worker; None if nobody has it.");

static PyObject *board_look(PyObject *self, PyObject *arg) {
  struct lvri_board_object *object = lvri_board_any(self);
  struct lvr_board_row row;
  uint32_t number;

  if (object == NULL || parse_row(object, arg, &number) < 0) return NULL;
  lvr_board_look(object->board, number, &row);
  if (row.worker == 0) Py_RETURN_NONE;
  return row_object(lvri_state_of_type(Py_TYPE(self)), &row, pid_of(row.worker));
}

static PyObject *board_over(PyObject *self, PyObject *Py_UNUSED(none)) {
  struct lvri_board_object *object = lvri_board_any(self);
  PyObject *list = object == NULL ? NULL : PyList_New(0);

  for (uint32_t row = 0; list != NULL && row < lvr_board_rows(object->board); row++) {
    if (!lvr_board_is_over(object->board, row)) continue;
    PyObject *number = PyLong_FromUnsignedLong(row);

    if (number == NULL || PyList_Append(list, number) < 0) Py_CLEAR(list);
    Py_XDECREF(number);
  }
  return list;
}

static PyObject *raise_row(int code, const char *doing, uint32_t row) {
  if (code == -EBUSY)
    return PyErr_Format(PyExc_ValueError, "cannot %s: the worker of row %u lives", doing, row);
  if (code == -EINVAL)
    return PyErr_Format(PyExc_ValueError, "cannot %s: nobody has row %u", doing, row);
  return lvri_board_raise(code, doing);
}

PyDoc_STRVAR(settle_doc,
             "settle($self, row, /)\n--\n\n"
             "Before bury(): after this all results of the dead worker are there to be taken.");

static PyObject *board_settle(PyObject *self, PyObject *arg) {
  struct lvri_board_object *object = lvri_board_owned(self);
  uint32_t row;
  int code;

  if (object == NULL || parse_row(object, arg, &row) < 0) return NULL;
  Py_BEGIN_ALLOW_THREADS /* others may hold its mutexes for a moment */
  code = lvr_board_settle(object->board, row);
  Py_END_ALLOW_THREADS
  return code < 0 ? raise_row(code, "settle with a worker", row) : Py_NewRef(Py_None);
}

PyDoc_STRVAR(bury_doc,
             "bury($self, row, /)\n--\n\n"
             "What look() gives, for the last time; the row of the dead worker is free.");

static PyObject *board_bury(PyObject *self, PyObject *arg) {
  struct lvri_board_object *object = lvri_board_owned(self);
  struct lvr_board_row row;
  uint32_t number;

  if (object == NULL || parse_row(object, arg, &number) < 0) return NULL;
  lvr_board_look(object->board, number, &row);
  int pid = pid_of(row.worker);
  int code = lvr_board_bury(object->board, number, &row);

  if (code < 0) return raise_row(code, "bury a worker", number);
  return row_object(lvri_state_of_type(Py_TYPE(self)), &row, pid);
}

/* --- what is taken back -------------------------------------------------------------------- */

/* Numbers that no worker has, from the call that took them back until somebody was told of them. */
struct lvri_revoked {
  struct lvri_revoked *next;
  uint32_t first, count;
};

static void keep_revoked(struct lvri_board_object *object, struct lvri_revoked *r) {
  r->next = object->revoked;
  object->revoked = r;
}

static void free_revoked(struct lvri_board_object *object) {
  for (struct lvri_revoked *r = object->revoked, *next; r != NULL; r = next) {
    next = r->next;
    PyMem_Free(r);
  }
  object->revoked = NULL;
}

PyDoc_STRVAR(revoke_doc,
             "revoke($self, row, /)\n--\n\n"
             "Take back what a row's worker has claimed and not begun, but for the first.\n\n"
             "These tasks will not be run, and are not struck out: revoked() says which they are.");

/* What notes them is there before there is something to be noted. */
static PyObject *board_revoke(PyObject *self, PyObject *arg) {
  struct lvri_board_object *object = lvri_board_owned(self);
  uint32_t row;
  int code;

  if (object == NULL || parse_row(object, arg, &row) < 0) return NULL;
  struct lvri_revoked *r = PyMem_Calloc(1, sizeof(*r));

  if (r == NULL) return PyErr_NoMemory();
  Py_BEGIN_ALLOW_THREADS /* a worker that was stopped may have the mutex */
  code = lvr_board_revoke(object->board, row, &r->first, &r->count);
  Py_END_ALLOW_THREADS
  if (code == 0)
    keep_revoked(object, r);
  else
    PyMem_Free(r);
  return code < 0 && code != -ENOENT ? raise_row(code, "take tasks back", row) : Py_NewRef(Py_None);
}

/* A number leaves the note when it is in the dict. */
static int tell_revoked(struct lvri_revoked *r, PyObject *numbers) {
  int failed = 0;

  while (failed == 0 && r->count > 0) {
    PyObject *number = PyLong_FromUnsignedLong(r->first);

    failed = number == NULL ? -1 : PyDict_SetItem(numbers, number, Py_None);
    Py_XDECREF(number);
    r->first += failed == 0;
    r->count -= failed == 0;
  }
  return failed;
}

PyDoc_STRVAR(revoked_doc,
             "revoked($self, numbers, /)\n--\n\n"
             "Add to a dict the numbers of what was taken back, each of them once.\n\n"
             "Where there is no memory for that, the rest comes with the next such call.");

static PyObject *board_revoked(PyObject *self, PyObject *numbers) {
  struct lvri_board_object *object = lvri_board_owned(self);

  if (object == NULL) return NULL;
  if (!PyDict_CheckExact(numbers))
    return PyErr_Format(PyExc_TypeError, "revoked() adds to a dict, not to a %s",
                        Py_TYPE(numbers)->tp_name);
  while (object->revoked != NULL) {
    struct lvri_revoked *r = object->revoked;

    object->revoked = r->next; /* ours, whatever a key of the dict's runs */
    if (tell_revoked(r, numbers) < 0) {
      keep_revoked(object, r);
      return NULL;
    }
    PyMem_Free(r);
  }
  Py_RETURN_NONE;
}

/* --- orders, and ends ------------------------------------------------------------------------ */

PyDoc_STRVAR(
    doom_doc,
    "doom($self, row, number, /)\n--\n\n"
    "Whether a row's worker runs that task, and is to be killed: it begins no other one.\n\n"
    "Also when it was doomed for that one before, which may have ended since.");

static PyObject *board_doom(PyObject *self, PyObject *args) {
  struct lvri_board_object *object = lvri_board_owned(self);
  PyObject *row_arg, *number_arg;
  uint32_t row, number;

  if (object == NULL || !PyArg_ParseTuple(args, "OO:doom", &row_arg, &number_arg) ||
      parse_row(object, row_arg, &row) < 0 || lvri_board_number(number_arg, &number) < 0)
    return NULL;
  int code = lvr_board_doom(object->board, row, number);

  if (code < 0 && code != -ENOENT) return raise_row(code, "end a worker", row);
  return PyBool_FromLong(code == 0);
}

/* An order: which task, why, and how many signals there are with this one that came, or will
 * come, with orders to this worker. */
enum { WHY_BITS = 2, WHY_SHIFT = 32, COUNT_SHIFT = WHY_SHIFT + WHY_BITS };

static uint64_t next_order(uint64_t last, uint32_t number, uint32_t why) {
  uint64_t count = (last >> COUNT_SHIFT) + 1;

  return count << COUNT_SHIFT | (uint64_t)why << WHY_SHIFT | number;
}

/* Once for each number, so that who was interrupted may do it again. A worker that is over, which
 * is all that can keep the signal from it, will not miss it. */
static void order_and_interrupt(lvr_board *board, uint32_t row, uint32_t number, uint32_t why) {
  struct lvr_board_row seen;

  lvr_board_look(board, row, &seen);
  bool is_told = seen.order != 0 && (uint32_t)seen.order == number;

  if (seen.worker == 0 || is_told) return;
  int code = lvr_board_order(board, row, next_order(seen.order, number, why));

  if (code == 0) code = lvri_proc_signal(lvri_home(), seen.worker, 0, SIGINT);
  (void)code;
}

PyDoc_STRVAR(order_doc,
             "order($self, row, number, why, /)\n--\n\n"
             "Tell a row's worker why (1..3) to stop that task, once, and send it SIGINT: it asks\n"
             "ordered(). One thread at a time.\n\n"
             "No Python code runs in here: Ctrl-C comes before both or after both.");

static PyObject *board_order(PyObject *self, PyObject *args) {
  struct lvri_board_object *object = lvri_board_owned(self);
  PyObject *row_arg, *number_arg, *why_arg;
  uint32_t row, number, why;

  if (object == NULL || !PyArg_ParseTuple(args, "OOO:order", &row_arg, &number_arg, &why_arg) ||
      parse_row(object, row_arg, &row) < 0 || lvri_board_number(number_arg, &number) < 0 ||
      lvri_board_number(why_arg, &why) < 0)
    return NULL;
  if (why == 0 || why >> WHY_BITS != 0)
    return PyErr_Format(PyExc_ValueError, "why is 1 to 3, not %u", why);
  order_and_interrupt(object->board, row, number, why);
  Py_RETURN_NONE;
}

/* --- a worker ------------------------------------------------------------------------------ */

PyDoc_STRVAR(enlist_doc,
             "enlist($self, row, /)\n--\n\n"
             "This process is the worker of that row, which nobody has.");

static PyObject *board_enlist(PyObject *self, PyObject *arg) {
  struct lvri_board_object *object = lvri_board_any(self);
  uint32_t row;

  if (object == NULL || parse_row(object, arg, &row) < 0) return NULL;
  int code = lvr_board_enlist(object->board, row);

  if (code == -EBUSY) return PyErr_Format(PyExc_ValueError, "row %u has a worker", row);
  if (code == -EINVAL)
    return PyErr_Format(PyExc_ValueError, "process %d is a worker of this board already",
                        (int)getpid());
  if (code < 0) return lvri_board_raise(code, "enlist");
  object->row = row;
  object->running = -1;
  object->is_busy = false;
  Py_RETURN_NONE;
}

PyDoc_STRVAR(running_doc,
             "running($self, /)\n--\n\n"
             "The number of the task whose code runs in this worker; None: no such code does.");

static PyObject *board_running(PyObject *self, PyObject *Py_UNUSED(none)) {
  const struct lvri_board_object *object = lvri_board_of(self);

  /* the core knows whether this is the process that runs it */
  if (object->running < 0 || lvr_board_running(object->board) < 0) Py_RETURN_NONE;
  return PyLong_FromLongLong(object->running);
}

PyDoc_STRVAR(ordered_doc,
             "ordered($self, /)\n--\n\n"
             "(number, why, count) of what the owner told this worker last; why 0: nothing.\n\n"
             "Count: so many orders there were, each with its SIGINT.");

static PyObject *board_ordered(PyObject *self, PyObject *Py_UNUSED(none)) {
  struct lvri_board_object *object = lvri_board_any(self);

  if (object == NULL) return NULL;
  uint64_t order = lvr_board_ordered(object->board);

  return Py_BuildValue("(III)", (uint32_t)order,
                       (uint32_t)(order >> WHY_SHIFT) & ((1u << WHY_BITS) - 1),
                       (uint32_t)(order >> COUNT_SHIFT));
}

/* --- life ---------------------------------------------------------------------------------- */

static PyObject *board_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  PyObject *self = PyType_GenericNew(type, args, kwargs);

  if (self != NULL) lvri_board_of(self)->running = -1;
  return self;
}

static int board_init(PyObject *self, PyObject *args, PyObject *kwargs) {
  static char *keywords[] = {"rows", "ctx", NULL};
  struct lvri_board_object *object = lvri_board_of(self);
  lvr_session *session;
  PyObject *ctx;
  Py_ssize_t rows;

  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n|$O:__init__", keywords, &rows, &ctx) ||
      lvri_check_fresh(self, object->board) < 0)
    return -1;
  if (rows < 1 || rows > (Py_ssize_t)LVR_BOARD_ROWS_MAX) {
    PyErr_Format(PyExc_ValueError, "a board has 1 to %u rows, not %zd", LVR_BOARD_ROWS_MAX, rows);
    return -1;
  }
  session = lvri_session();
  if (session == NULL) return -1;
  int code = lvr_board_create(session, (uint32_t)rows, &object->board);

  object->owner_pid = getpid();
  if (code < 0) (void)lvri_raise(code, "make a board");
  return code < 0 ? -1 : 0;
}

static int board_traverse(PyObject *self, visitproc visit, void *arg) {
  struct lvri_board_object *object = lvri_board_of(self);
  int visited = lvri_runs_traverse(&object->runs, visit, arg);

  if (visited == 0) visited = lvri_inboxes_traverse(object->inboxes, visit, arg);
  if (visited == 0) visited = lvri_known_traverse(&object->known, visit, arg);
  if (visited == 0 && object->dropped != NULL) visited = visit(object->dropped, arg);
  return visited != 0 ? visited : lvri_shared_traverse(self, visit, arg);
}

static int board_clear(PyObject *self) {
  struct lvri_board_object *object = lvri_board_of(self);
  struct lvri_inbox *inboxes = object->inboxes;

  object->inboxes = NULL;
  lvri_inboxes_free(inboxes);
  lvri_runs_fini(&object->runs);
  lvri_known_forget(&object->known, false);
  Py_CLEAR(object->dropped);
  return lvri_shared_clear(self);
}

static void board_dealloc(PyObject *self) {
  lvri_shared_dealloc_begin(self);
  (void)board_clear(self);
  free_revoked(lvri_board_of(self));
  lvr_board_detach(lvri_board_of(self)->board);
  lvri_shared_dealloc_end(self);
}

static PyObject *board_getstate(PyObject *self, PyObject *Py_UNUSED(none)) {
  struct lvri_board_object *object = lvri_board_any(self);
  PyObject *reference = object == NULL ? NULL : board_reference(object->board);

  return reference == NULL ? NULL : Py_BuildValue("(Nl)", reference, object->owner_pid);
}

static PyObject *board_setstate(PyObject *self, PyObject *state) {
  struct lvri_board_object *object = lvri_board_of(self);
  PyObject *reference;

  if (lvri_check_state(self, object->board, state) < 0 ||
      !PyArg_ParseTuple(state, "Ol:__setstate__", &reference, &object->owner_pid) ||
      board_from_reference(reference, &object->board) < 0)
    return NULL;
  Py_RETURN_NONE;
}

static PyMethodDef board_methods[] = {
    {"put", LVRI_METHOD(lvri_board_put), METH_FASTCALL | METH_KEYWORDS, lvri_board_put_doc},
    {"put_many", LVRI_METHOD(lvri_board_put_many), METH_FASTCALL | METH_KEYWORDS,
     lvri_board_put_many_doc},
    {"put_again", lvri_board_put_again, METH_VARARGS, lvri_board_put_again_doc},
    {"take", lvri_board_take, METH_NOARGS, lvri_board_take_doc},
    {"is_ours", board_is_ours, METH_NOARGS, is_ours_doc},
    {"wait", board_wait, METH_O, wait_doc},
    {"watch", board_watch, METH_O, watch_doc},
    {"interrupt", board_interrupt, METH_NOARGS, interrupt_doc},
    {"drop", board_drop, METH_O, drop_doc},
    {"dropped", board_dropped, METH_NOARGS, dropped_doc},
    {"close", board_close, METH_NOARGS,
     "close($self, /)\n--\n\nNo task will be put any more: workers that find none leave."},
    {"waiting", board_waiting, METH_NOARGS,
     "waiting($self, /)\n--\n\nHow many tasks nobody has claimed."},
    {"outstanding", board_outstanding, METH_NOARGS,
     "outstanding($self, /)\n--\n\nHow many tasks somebody waits for."},
    {"cancel", board_cancel, METH_O, cancel_doc},
    {"find", board_find, METH_O, find_doc},
    {"strike", board_strike, METH_O, strike_doc},
    {"look", board_look, METH_O, look_doc},
    {"over", board_over, METH_NOARGS,
     "over($self, /)\n--\n\nThe rows whose workers are over and have to be buried."},
    {"settle", board_settle, METH_O, settle_doc},
    {"bury", board_bury, METH_O, bury_doc},
    {"revoke", board_revoke, METH_O, revoke_doc},
    {"doom", board_doom, METH_VARARGS, doom_doc},
    {"revoked", board_revoked, METH_O, revoked_doc},
    {"order", board_order, METH_VARARGS, order_doc},
    {"enlist", board_enlist, METH_O, enlist_doc},
    {"ready", lvri_board_ready, METH_O, lvri_board_ready_doc},
    {"unfit", lvri_board_unfit, METH_O, lvri_board_unfit_doc},
    {"work", LVRI_METHOD(lvri_board_work), METH_VARARGS | METH_KEYWORDS, lvri_board_work_doc},
    {"running", board_running, METH_NOARGS, running_doc},
    {"ordered", board_ordered, METH_NOARGS, ordered_doc},
    {"__getstate__", board_getstate, METH_NOARGS, NULL},
    {"__setstate__", board_setstate, METH_O, NULL},
    {"__reduce__", lvri_shared_reduce, METH_NOARGS, lvri_reduce_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(board_doc,
             "Board(rows, *, ctx=None)\n--\n\n"
             "Tasks from this process to workers, each with a row; and results back.");

static PyType_Slot board_slots[] = {
    {Py_tp_doc, (void *)board_doc},
    {Py_tp_new, board_new},
    {Py_tp_init, board_init},
    {Py_tp_dealloc, board_dealloc},
    {Py_tp_traverse, board_traverse},
    {Py_tp_clear, board_clear},
    {Py_tp_methods, board_methods},
    {Py_tp_members, lvri_shared_members},
    {0, NULL},
};

static PyType_Spec board_spec = {
    .name = "leveret._core.Board",
    .basicsize = sizeof(struct lvri_board_object),
    .flags = LVRI_SHARED_FLAGS,
    .slots = board_slots,
};

static const struct {
  const char *name;
  long value;
} constants[] = {
    {"ITEM", LVRI_TASK_ITEM},           {"STAR", LVRI_TASK_STAR},
    {"APPLY", LVRI_TASK_APPLY},         {"CHUNK", LVRI_TASK_CHUNK},
    {"STARCHUNK", LVRI_TASK_STARCHUNK}, {"VALUE", LVRI_RESULT_VALUE},
    {"FAILED", LVRI_RESULT_FAILED},     {"UNDECODED", LVRI_RESULT_UNDECODED},
    {"READY", LVRI_RESULT_READY},       {"UNFIT", LVRI_RESULT_UNFIT},
    {"ROWS_MAX", LVR_BOARD_ROWS_MAX},
};

int lvri_exec_board(PyObject *module, struct lvri_state *state) {
  for (size_t i = 0; i < Py_ARRAY_LENGTH(constants); i++)
    if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value) < 0) return -1;
  state->row_type = PyStructSequence_NewType(&row_desc);
  if (state->row_type == NULL || PyModule_AddType(module, state->row_type) < 0) return -1;
  return lvri_add_type(module, &board_spec, NULL, &state->board_type);
}
