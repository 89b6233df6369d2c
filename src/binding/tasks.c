/* tasks.c - Board.put(), put_many() and put_again(): from objects to tasks.
 *
 *   encode (runs any code)  ->  get memory to note whose it is  ->  put  ->  note
 *                               '-------- the GIL is kept, nothing of Python's runs --------'
 *
 * So whoever takes a result finds who waits for it, and a task that is put is noted. One that is
 * put again has its old number until it is noted with its new one: interrupted at any moment, by
 * Ctrl-C in what encodes, it has one of the two, and may be put again by the one that it has. */
#include "binding/board.h"

#include <string.h>

#define PACKED_BYTES 32768u
#define PACKED_COUNT 1024u
#define FLUSHES      16u
#define PLACE_MOST   (PY_SSIZE_T_MAX / 4)
#define SMALL_BYTES  ((size_t)LVRI_TASK_START_BYTES + LVRI_ENCODING_BYTES)

/* A task that is to be put, and for whom. */
struct errand {
  struct lvri_board_object *object;
  struct lvri_state *state;
  struct lvri_function *function;
  enum lvri_task_kind kind;
  PyObject *job;
  Py_ssize_t place;
  const uint32_t *instead_of; /* the number that it has; NULL: none yet */
};

#define NOT_AWAITED 1 /* beside 0 and codes: nobody waits any more for what is to be put again */

/* --- arguments ----------------------------------------------------------------------------- */

static int parse_kind(PyObject *number, enum lvri_task_kind *ret_kind) {
  long kind = PyLong_AsLong(number);

  if (kind == -1 && PyErr_Occurred()) return -1;
  if (kind < 0 || kind >= LVRI_TASK_KINDS) {
    PyErr_Format(PyExc_ValueError, "there is no kind of task %ld", kind);
    return -1;
  }
  *ret_kind = (enum lvri_task_kind)kind;
  return 0;
}

/* (function, kind, argument, job, place=0): one more than four, by its name or not. */
static int count_args(const char *method, Py_ssize_t nargs, PyObject *kwnames) {
  Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);

  if (nargs + named < 4 || nargs + named > 5 || nargs < 4) {
    PyErr_Format(PyExc_TypeError, "%s() takes function, kind, argument, job, place=0", method);
    return -1;
  }
  if (named == 0 || PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0), "place") == 0)
    return 0;
  PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument %R", method,
               PyTuple_GET_ITEM(kwnames, 0));
  return -1;
}

/* Not so far out that counting from there could go wrong. */
static int parse_place(PyObject *number, Py_ssize_t *ret_place) {
  Py_ssize_t place = PyNumber_AsSsize_t(number, PyExc_OverflowError);

  if (place == -1 && PyErr_Occurred()) return -1;
  if (place < -PLACE_MOST || place > PLACE_MOST) {
    PyErr_Format(PyExc_OverflowError, "%zd is no place of a result", place);
    return -1;
  }
  *ret_place = place;
  return 0;
}

/* Whether a job of many can have so many places. */
static int check_job(const struct errand *e, Py_ssize_t count) {
  if (!PyObject_TypeCheck(e->job, e->state->batch_type)) return 0;
  return lvri_batch_check((struct lvri_batch *)e->job, e->place, count);
}

static int parse(const char *method, PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames, struct errand *e) {
  if (count_args(method, nargs, kwnames) < 0) return -1;
  e->object = lvri_board_owned(self);
  e->state = lvri_state_of_type(Py_TYPE(self));
  e->job = args[3];
  e->place = 0;
  e->instead_of = NULL;
  if (e->object == NULL || e->state == NULL) return -1;
  e->function = lvri_function_of(e->state, args[0]);
  if (e->function == NULL || parse_kind(args[1], &e->kind) < 0) return -1;
  return nargs + (kwnames != NULL) > 4 ? parse_place(args[4], &e->place) : 0;
}

/* --- one ----------------------------------------------------------------------------------- */

static bool is_awaited(const struct errand *e) {
  Py_ssize_t place;

  return e->instead_of == NULL || lvri_runs_find(&e->object->runs, *e->instead_of, &place) != NULL;
}

/* What is let go was the caller's, too, so that no code runs; but for a function that was encoded
 * anew, and all is noted by then. */
static void note(const struct errand *e, uint32_t number) {
  struct lvri_runs *runs = &e->object->runs;
  struct lvri_struck struck = {NULL, NULL};

  if (e->instead_of != NULL) (void)lvri_runs_strike(runs, *e->instead_of, &struck);
  lvri_runs_add(runs, number, 1, e->job, (PyObject *)e->function, e->place);
  lvri_struck_drop(&struck);
}

/* 0, a code, NOT_AWAITED or LVRI_RAISED. With 0 the block is the task's. */
static int put_noted(const struct errand *e, const void *data, size_t bytes, lvr_block *block,
                     uint32_t *ret_number) {
  if (!is_awaited(e)) return NOT_AWAITED;
  if (lvri_runs_prepare(&e->object->runs, 1) < 0) return LVRI_RAISED;
  int code = lvr_board_put(e->object->board, data, bytes, block, ret_number);

  if (code == 0) note(e, *ret_number);
  return code;
}

static int put_parcel(const struct errand *e, PyObject *argument, uint32_t *ret_number) {
  unsigned char data[LVR_MESSAGE_INLINE];
  struct lvri_parcel p;
  size_t start = lvri_task_start(e->function, e->kind, data);

  if (lvri_parcel_pack_within(e->state, argument, &p, sizeof(data) - start) < 0) return LVRI_RAISED;
  if (p.bytes > 0) memcpy(data + start, p.data, p.bytes);
  int code = put_noted(e, data, start + p.bytes, p.block, ret_number);

  if (code == 0) p.block = NULL;
  lvri_parcel_fini(&p);
  return code;
}

static int put(const struct errand *e, PyObject *argument, uint32_t *ret_number) {
  unsigned char data[SMALL_BYTES];
  size_t start = lvri_task_start(e->function, e->kind, data);
  size_t bytes = lvri_encode_small(argument, data + start, LVRI_ENCODING_BYTES);

  if (bytes == 0) return put_parcel(e, argument, ret_number);
  return put_noted(e, data, start + bytes, NULL, ret_number);
}

static PyObject *put_failed(int code) {
  return code == LVRI_RAISED ? NULL : lvri_board_raise(code, "put a task");
}

const char lvri_board_put_doc[] =
    "put($self, function, kind, argument, job, place=0)\n--\n\n"
    "Put a task, and return its number: its result is the job's, at that place.";

PyObject *lvri_board_put(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                         PyObject *kwnames) {
  struct errand e;
  uint32_t number;

  if (parse("put", self, args, nargs, kwnames, &e) < 0 || check_job(&e, 1) < 0) return NULL;
  int code = put(&e, args[2], &number);

  return code == 0 ? PyLong_FromUnsignedLong(number) : put_failed(code);
}

/* --- again --------------------------------------------------------------------------------- */

static int tell_moved(PyObject *moved, uint32_t number) {
  if (moved == Py_None) return 0;
  PyObject *answer = PyObject_CallFunction(moved, "k", (unsigned long)number);

  Py_XDECREF(answer);
  return answer == NULL ? -1 : 0;
}

/* The job is held: encoding may run code that strikes it out. */
static PyObject *put_instead(const struct errand *e, PyObject *argument, PyObject *moved) {
  uint32_t number;
  int code = put(e, argument, &number);

  if (code == NOT_AWAITED) Py_RETURN_FALSE;
  if (code != 0) return put_failed(code);
  if (tell_moved(moved, number) < 0) return NULL;
  Py_RETURN_TRUE;
}

const char lvri_board_put_again_doc[] =
    "put_again($self, number, function, kind, argument, moved, /)\n--\n\n"
    "Put a task that was claimed and will not be run under that number, which it loses.\n\n"
    "moved(its new number) is called at once, unless it is None; if that is no Python code,\n"
    "Ctrl-C cannot come before it. False if nobody waits for the task any more: it was not put.";

PyObject *lvri_board_put_again(PyObject *self, PyObject *args) {
  struct errand e = {.object = lvri_board_owned(self), .state = lvri_state_of_type(Py_TYPE(self))};
  PyObject *number, *function, *kind, *argument, *moved;
  uint32_t old;

  if (e.object == NULL || e.state == NULL ||
      !PyArg_ParseTuple(args, "OOOOO:put_again", &number, &function, &kind, &argument, &moved) ||
      lvri_board_number(number, &old) < 0 || parse_kind(kind, &e.kind) < 0)
    return NULL;
  e.function = lvri_function_of(e.state, function);
  e.instead_of = &old;
  e.job = e.function == NULL ? NULL : lvri_runs_find(&e.object->runs, old, &e.place);
  if (e.job == NULL) return e.function == NULL ? NULL : Py_NewRef(Py_False);
  Py_INCREF(e.job);
  PyObject *answer = put_instead(&e, argument, moved);

  Py_DECREF(e.job);
  return answer;
}

/* --- many ---------------------------------------------------------------------------------- */

/* Tasks that are encoded and not put yet; their places are those in front of errand.place. */
struct packed {
  struct errand errand;
  Py_ssize_t end;     /* the place behind the last one */
  Py_ssize_t put;     /* how many were put */
  PyObject *failures; /* a list of (place, exception) */
  size_t used;
  uint32_t count, flushes;
  struct lvr_slice slices[PACKED_COUNT];
  unsigned char bytes[PACKED_BYTES];
};

static int raised(int code) {
  if (code != LVRI_RAISED) (void)put_failed(code);
  return -1;
}

/* Puts what is packed and notes what was put: errand.place is behind that. -1 with an error. */
static int put_packed(struct packed *p) {
  struct errand *e = &p->errand;
  Py_ssize_t place = e->place - (Py_ssize_t)p->count;
  uint32_t put = 0, first = 0;
  bool noted = lvri_runs_prepare(&e->object->runs, (uint32_t)(p->end - place)) == 0;
  int code =
      noted ? lvr_board_put_many(e->object->board, p->slices, p->count, &put, &first) : LVRI_RAISED;

  if (put > 0) lvri_runs_add(&e->object->runs, first, put, e->job, (PyObject *)e->function, place);
  e->place = place + (Py_ssize_t)put;
  p->put += (Py_ssize_t)put;
  p->used = p->count = 0;
  return code == 0 ? 0 : raised(code);
}

/* Every now and then others run, and signal handlers. */
static int flush(struct packed *p) {
  if (p->count == 0) return 0;
  if (put_packed(p) < 0) return -1;
  if (++p->flushes % FLUSHES != 0) return 0;
  Py_BEGIN_ALLOW_THREADS
  Py_END_ALLOW_THREADS
  return PyErr_CheckSignals();
}

static int note_failure(struct packed *p, PyObject *error) {
  PyObject *pair = Py_BuildValue("(nO)", p->errand.place, error);
  int failed = pair == NULL ? -1 : PyList_Append(p->failures, pair);

  Py_XDECREF(pair);
  p->errand.place++;
  return failed;
}

/* An argument that cannot be sent fails by itself; what a signal handler raised is no failure. */
static int pass_over(struct packed *p) {
  if (!PyErr_ExceptionMatches(PyExc_Exception)) return -1;
  PyObject *error = lvri_take_exception();
  int failed = note_failure(p, error);

  Py_DECREF(error);
  return failed;
}

static int pack_parcel(struct packed *p, PyObject *argument) {
  uint32_t number;

  if (flush(p) < 0) return -1;
  int code = put_parcel(&p->errand, argument, &number);

  if (code == LVRI_RAISED) return pass_over(p);
  if (code != 0) return raised(code);
  p->errand.place++;
  p->put++;
  return 0;
}

static int pack(struct packed *p, PyObject *argument) {
  bool is_full = p->count == PACKED_COUNT || PACKED_BYTES - p->used < SMALL_BYTES;

  if (is_full && flush(p) < 0) return -1;
  unsigned char *at = p->bytes + p->used;
  size_t start = lvri_task_start(p->errand.function, p->errand.kind, at);
  size_t bytes = lvri_encode_small(argument, at + start, LVRI_ENCODING_BYTES);

  if (bytes == 0) return pack_parcel(p, argument);
  p->slices[p->count++] = (struct lvr_slice){at, start + bytes};
  p->used += start + bytes;
  p->errand.place++;
  return 0;
}

/* Encoding runs code that may change the list. */
static int pack_all(struct packed *p, PyObject *arguments, Py_ssize_t count) {
  int failed = 0;

  for (Py_ssize_t i = 0; failed == 0 && i < count; i++) {
    if (i >= PySequence_Fast_GET_SIZE(arguments)) {
      PyErr_SetString(PyExc_RuntimeError, "the arguments changed while they were put");
      return -1;
    }
    PyObject *argument = Py_NewRef(PySequence_Fast_GET_ITEM(arguments, i));

    failed = pack(p, argument);
    Py_DECREF(argument);
  }
  return failed == 0 ? flush(p) : failed;
}

/* Where some were put already, the others fail: each is told of, one way or the other. */
static int fail_others(struct packed *p) {
  if (p->put == 0 || !PyErr_ExceptionMatches(PyExc_Exception)) return -1;
  PyObject *error = lvri_take_exception();
  int failed = 0;

  p->errand.place -= (Py_ssize_t)p->count; /* packed, and not put */
  while (failed == 0 && p->errand.place < p->end)
    failed = note_failure(p, error);
  Py_DECREF(error);
  return failed;
}

static struct packed *new_packed(const struct errand *errand, Py_ssize_t count) {
  struct packed *p = PyMem_Malloc(sizeof(*p));
  PyObject *failures = p == NULL ? PyErr_NoMemory() : PyList_New(0);

  if (failures == NULL) {
    PyMem_Free(p);
    return NULL;
  }
  p->errand = *errand;
  p->end = errand->place + count;
  p->failures = failures;
  p->put = 0;
  p->used = p->count = p->flushes = 0;
  return p;
}

static PyObject *put_all(const struct errand *errand, PyObject *arguments) {
  Py_ssize_t count = PySequence_Fast_GET_SIZE(arguments);

  if (check_job(errand, count) < 0) return NULL;
  struct packed *p = new_packed(errand, count);

  if (p == NULL) return NULL;
  int failed = pack_all(p, arguments, count);

  if (failed) failed = fail_others(p);
  PyObject *failures = p->failures;

  lvri_runs_trim(&errand->object->runs);
  PyMem_Free(p);
  if (failed) Py_CLEAR(failures);
  return failures;
}

const char lvri_board_put_many_doc[] =
    "put_many($self, function, kind, arguments, job, place=0)\n--\n\n"
    "Put a task for each argument: their results are the job's, from that place on.\n\n"
    "Those that cannot be sent are returned, as (place, exception); all others are put. It raises\n"
    "only if none was, or what a signal handler raised.";

PyObject *lvri_board_put_many(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                              PyObject *kwnames) {
  struct errand e;

  if (parse("put_many", self, args, nargs, kwnames, &e) < 0) return NULL;
  PyObject *arguments = PySequence_Fast(args[2], "the arguments of put_many() are not iterable");
  PyObject *failures = arguments == NULL ? NULL : put_all(&e, arguments);

  Py_XDECREF(arguments);
  return failures;
}
