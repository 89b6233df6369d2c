/* work.c - a worker's loop: Board.work().
 *
 *   claim some --> for each: begin --> decode, call, encode --> finish --> claim some
 *                            the row says that it runs; any code may run and raise
 *
 * What a task's code raises, be it a KeyboardInterrupt from a signal handler, is the task's; what
 * comes from anywhere else comes out of work(). Nothing of a task is kept when it is done.
 *
 * How many are claimed: as many as will take CLAIM_NS if they are like the last ones, but no more
 * than half of this worker's share of those that wait; one, where it may end after each, or is to
 * be looked at (one_by_one). */
#include "binding/board.h"

#include <string.h>
#include <unistd.h>

#include "os/os.h"

#define CLAIM_NS    INT64_C(200000)
#define CLAIM_BYTES 32768u
#define CLAIM_MOST  1024u
#define GROWTH      8u        /* of one claim over the last one, at most */
#define IDLE_NS     100000000 /* then functions with a block are let go */
#define IDLE_AGING  7         /* as an old wait's of the core: see deadline.c */
#define RELEASE_NS  5000000   /* how long others may wait for the GIL */

/* One call of work(). */
struct worker {
  struct lvri_board_object *object;
  struct lvri_state *state;
  PyObject *fail, *unsendable;
  PyObject *undecodable; /* NULL: as fail */
  bool is_decoding;      /* the task, or that is as far as it came */
  size_t bare_bytes;     /* of what is told without memory, which is in bare; 0: nothing */
  PyObject *between;     /* NULL: none */
  Py_ssize_t left;       /* tasks to be run; PY_SSIZE_T_MAX: no limit */
  uint32_t workers;
  uint32_t next; /* how many fit into CLAIM_NS */
  bool one_by_one;
  bool has_run;     /* some task */
  bool is_poor;     /* of memory: there is a task that could not be claimed */
  bool in_claim;    /* something is claimed, and not done */
  int64_t since_ns; /* when this claim began */
  int64_t released_ns;
  uint32_t count, first; /* of the claim */
  unsigned char *claim;
  unsigned char bare[LVRI_ENCODING_BYTES];
};

/* A task of the claim. */
struct task {
  struct lvri_task_header head;
  const unsigned char *function;
  const unsigned char *stream;
  size_t bytes;
  lvr_block *block; /* NULL: none */
};

/* --- results ------------------------------------------------------------------------------- */

/* Where a result goes: lvr_board_finish(), or lvr_board_tell(). */
typedef int (*put_result)(lvr_board *b, const void *data, size_t bytes, lvr_block *block);

static int send_parcel(const struct worker *w, const struct lvri_result_header *head,
                       PyObject *value, put_result put) {
  unsigned char data[LVR_MESSAGE_INLINE];
  struct lvri_parcel p;

  if (lvri_parcel_pack_within(w->state, value, &p, sizeof(data) - sizeof(*head)) < 0)
    return LVRI_RAISED;
  memcpy(data, head, sizeof(*head));
  if (p.bytes > 0) memcpy(data + sizeof(*head), p.data, p.bytes);
  int code = put(w->object->board, data, sizeof(*head) + p.bytes, p.block);

  if (code == 0) p.block = NULL;
  lvri_parcel_fini(&p);
  return code;
}

/* -1 with an error: it could not be encoded, or there is no memory for it. */
static int send(const struct worker *w, uint32_t number, enum lvri_result what, PyObject *value,
                put_result put) {
  const struct lvri_result_header head = {number, what};
  unsigned char data[sizeof(head) + LVRI_ENCODING_BYTES];
  size_t bytes = lvri_encode_small(value, data + sizeof(head), LVRI_ENCODING_BYTES);
  int code;

  memcpy(data, &head, sizeof(head));
  if (bytes > 0)
    code = put(w->object->board, data, sizeof(head) + bytes, NULL);
  else
    code = send_parcel(w, &head, value, put);
  if (code < 0 && code != LVRI_RAISED) (void)lvri_board_raise(code, "send a result");
  return code < 0 ? -1 : 0;
}

/* --- calling; the argument is taken -------------------------------------------------------- */

/* PyObject_Call() would not look whether there is an exception where there is no value. */
static PyObject *call_with(PyObject *function, PyObject *tuple, PyObject *kwargs) {
  return PyObject_VectorcallDict(function, PySequence_Fast_ITEMS(tuple),
                                 (size_t)PyTuple_GET_SIZE(tuple), kwargs);
}

static PyObject *call_one(PyObject *function, PyObject *argument) {
  PyObject *args[] = {NULL, argument};
  PyObject *value =
      PyObject_Vectorcall(function, args + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);

  Py_DECREF(argument);
  return value;
}

static PyObject *call_star(PyObject *function, PyObject *arguments) {
  PyObject *tuple = PySequence_Tuple(arguments);

  Py_DECREF(arguments);
  PyObject *value = tuple == NULL ? NULL : call_with(function, tuple, NULL);

  Py_XDECREF(tuple);
  return value;
}

static PyObject *call_apply(PyObject *function, PyObject *pair) {
  PyObject *args, *kwargs, *value = NULL;

  if (!PyTuple_Check(pair))
    PyErr_Format(PyExc_TypeError, "this task's argument is a pair, not a %s",
                 Py_TYPE(pair)->tp_name);
  else if (PyArg_ParseTuple(pair, "O!O!;this task's argument is a pair of a tuple and a dict",
                            &PyTuple_Type, &args, &PyDict_Type, &kwargs))
    value = call_with(function, args, kwargs);
  Py_DECREF(pair);
  return value;
}

typedef PyObject *(*call_item)(PyObject *function, PyObject *item);

/* An item goes when it is done. The lists are ours alone, and that of the values has holes: the
 * collector, which would show them to anybody, does not know of them. */
static PyObject *call_each(PyObject *function, PyObject *items, call_item call) {
  Py_ssize_t count = PyList_GET_SIZE(items);
  PyObject *values = PyList_New(count);

  PyObject_GC_UnTrack(items);
  if (values != NULL) PyObject_GC_UnTrack(values);
  for (Py_ssize_t i = 0; values != NULL && i < count; i++) {
    PyObject *item = PyList_GET_ITEM(items, i);

    PyList_SET_ITEM(items, i, Py_NewRef(Py_None));
    PyObject *value = call(function, item);

    if (value == NULL)
      Py_CLEAR(values);
    else
      PyList_SET_ITEM(values, i, value);
  }
  if (values != NULL) PyObject_GC_Track(values);
  return values;
}

static PyObject *call_chunk(PyObject *function, PyObject *chunk, call_item call) {
  PyObject *items = PySequence_List(chunk);

  Py_DECREF(chunk);
  PyObject *values = items == NULL ? NULL : call_each(function, items, call);

  Py_XDECREF(items);
  return values;
}

static PyObject *call(unsigned kind, PyObject *function, PyObject *argument) {
  switch (kind) {
    case LVRI_TASK_ITEM:
      return call_one(function, argument);
    case LVRI_TASK_STAR:
      return call_star(function, argument);
    case LVRI_TASK_APPLY:
      return call_apply(function, argument);
    case LVRI_TASK_CHUNK:
      return call_chunk(function, argument, call_one);
    default:
      return call_chunk(function, argument, call_star);
  }
}

/* --- one task ------------------------------------------------------------------------------ */

static bool is_cancelled(const unsigned char *data) {
  uint32_t word;

  memcpy(&word, data, sizeof(word)); /* a task has so many bytes */
  return word == LVR_BOARD_CANCELLED;
}

/* -1 with an error: that is no task. */
static int read_task(struct lvri_state *state, const unsigned char *data, size_t bytes,
                     struct task *t) {
  const struct lvri_task_header *head = &t->head;

  if (bytes >= sizeof(*head)) memcpy(&t->head, data, sizeof(*head));
  if (bytes < sizeof(*head) || head->function_bytes > bytes - sizeof(*head) ||
      head->kind >= LVRI_TASK_KINDS || (head->is_large && head->function_bytes < sizeof(lvr_ref)))
    return lvri_raise_corrupt(state, "it is no task");
  t->function = data + sizeof(*head);
  t->stream = t->function + head->function_bytes;
  t->bytes = bytes - sizeof(*head) - head->function_bytes;
  return 0;
}

/* The block goes when the argument is decoded. */
static PyObject *run(struct worker *w, struct task *t) {
  struct lvri_known *known = &w->object->known;

  w->is_decoding = true;
  PyObject *function = lvri_known_find(known, w->state, &t->head, t->function);

  if (function == NULL) return NULL;
  Py_INCREF(function);
  PyObject *argument = lvri_parcel_decode(w->state, t->stream, t->bytes, t->block), *value = NULL;

  lvr_block_detach(t->block);
  t->block = NULL;
  w->is_decoding = argument == NULL;
  if (argument != NULL) value = call(t->head.kind, function, argument);
  Py_DECREF(function);
  return value;
}

/* Whether it was for want of memory that the last step failed. Then the value goes. */
static bool was_short(PyObject **value) {
  if (!PyErr_ExceptionMatches(PyExc_MemoryError)) return false;
  PyErr_Clear();
  Py_CLEAR(*value);
  return true;
}

/* What is told of what was raised. */
static PyObject *put_into_words(const struct worker *w, PyObject *raised, PyObject **value) {
  PyObject *args[] = {raised, *value};
  PyObject *fail = w->is_decoding && w->undecodable != NULL ? w->undecodable : w->fail;

  if (*value == NULL) return PyObject_Vectorcall(fail, args, 1, NULL);
  PyObject *told = PyObject_Vectorcall(w->unsendable, args, 2, NULL);

  if (told != NULL || !was_short(value)) return told;
  return PyObject_Vectorcall(w->fail, args, 1, NULL);
}

/* What failed for want of memory is told in a few bytes, which need none; -1 with anything else. */
static int send_bare(struct worker *w, uint32_t number) {
  const struct lvri_result_header head = {number, LVRI_RESULT_FAILED};
  unsigned char data[sizeof(head) + sizeof(w->bare)];
  PyObject *none = NULL;

  if (w->bare_bytes == 0 || !was_short(&none)) return -1;
  memcpy(data, &head, sizeof(head));
  memcpy(data + sizeof(head), w->bare, w->bare_bytes);
  int code = lvr_board_finish(w->object->board, data, sizeof(head) + w->bare_bytes, NULL);

  if (code < 0) (void)lvri_board_raise(code, "send a result");
  return code < 0 ? -1 : 0;
}

static int send_words(struct worker *w, uint32_t number, PyObject *told, PyObject **value) {
  int failed = send(w, number, LVRI_RESULT_FAILED, told, lvr_board_finish);

  if (failed && *value != NULL && was_short(value))
    failed = send(w, number, LVRI_RESULT_FAILED, told, lvr_board_finish);
  return failed;
}

/* The exception that is set was raised by the task's code, or by sending its value, which is taken.
 * -1 with what is to come out of work(). */
static int send_failure(struct worker *w, uint32_t number, PyObject *value) {
  PyObject *raised = lvri_take_exception();

  lvri_let_go(w->state, raised);
  PyObject *told = put_into_words(w, raised, &value);

  Py_DECREF(raised);
  int failed = told == NULL ? -1 : send_words(w, number, told, &value);

  Py_XDECREF(told);
  if (failed) failed = send_bare(w, number);
  Py_XDECREF(value);
  return failed;
}

static void note_run(struct worker *w) {
  w->has_run = true;
  w->left -= w->left != PY_SSIZE_T_MAX;
}

/* 1; 0: the owner took it back, and all behind it, or he ends this worker: so the next claim says;
 * -1: a handler raised. A signal that has come by now, to who slept or was between two tasks, is
 * not for this one. */
static int begin_task(struct worker *w, uint32_t number) {
  if (PyErr_CheckSignals() < 0) return -1;
  if (lvr_board_begin(w->object->board, number) != 0) return 0;
  w->object->running = (int64_t)number;
  return 1;
}

/* The task has begun. Takes the block. -1 with what is to come out of work(). */
static int run_task(struct worker *w, uint32_t number, const unsigned char *data, size_t bytes,
                    lvr_block *block) {
  struct task t = {.block = block};

  PyObject *value = read_task(w->state, data, bytes, &t) < 0 ? NULL : run(w, &t);
  int failed = value == NULL ? -1 : send(w, number, LVRI_RESULT_VALUE, value, lvr_board_finish);

  w->object->running = -1;
  lvr_block_detach(t.block);
  if (failed)
    failed = send_failure(w, number, value);
  else
    Py_DECREF(value);
  note_run(w);
  return failed;
}

/* --- a claim ------------------------------------------------------------------------------- */

static int run_message(struct worker *w, struct lvr_message *m, uint32_t number) {
  lvr_block *block = m->block;
  int began = is_cancelled(m->data) ? 0 : begin_task(w, number);

  if (began > 0) return run_task(w, number, m->data, m->bytes, block);
  lvr_message_fini(m);
  return began;
}

static int run_claim(struct worker *w) {
  const unsigned char *at = w->claim;
  int failed = 0;

  for (uint32_t i = 0; failed == 0 && i < w->count; i++) {
    uint32_t bytes;

    memcpy(&bytes, at, sizeof(bytes));
    at += sizeof(bytes);
    if (!is_cancelled(at)) {
      int began = begin_task(w, w->first + i);

      if (began <= 0) return began;
      failed = run_task(w, w->first + i, at, bytes, NULL);
    }
    at += (bytes + 3u) & ~3u;
  }
  return failed;
}

static uint32_t how_many(const struct worker *w) {
  if (w->one_by_one || w->next <= 1) return 1;
  uint32_t share = lvr_board_waiting(w->object->board) / 2 / w->workers;
  uint32_t many = w->next < share ? w->next : share;

  return many > 0 ? many : 1;
}

/* From how long the claim took. */
static void guess_next(struct worker *w) {
  int64_t now_ns = lvri_os_now_ns(), took_ns = now_ns - w->since_ns;
  int64_t count = w->count > 0 ? w->count : 1, most = count * GROWTH;
  int64_t fit = took_ns > 0 ? CLAIM_NS * count / took_ns : most;

  if (fit > most) fit = most;
  if (fit > CLAIM_MOST) fit = CLAIM_MOST;
  w->next = fit > 0 ? (uint32_t)fit : 1;
  w->since_ns = now_ns;
}

static int claim_until(struct worker *w, uint32_t most, int64_t deadline_ns) {
  size_t bytes;

  return lvr_board_claim_until(w->object->board, w->claim, CLAIM_BYTES, most, deadline_ns,
                               &w->count, &bytes, &w->first);
}

/* Until there is a task, or there will be none: -EPIPE. LVRI_RAISED: a signal handler did. */
static int sleep_for_claim(struct worker *w, int64_t deadline_ns) {
  int code;

  LVRI_WAIT_SLICED(code, deadline_ns, IDLE_AGING, claim_until(w, 1, until_ns));
  w->since_ns = lvri_os_now_ns();
  return code;
}

/* Who is idle for longer lets go of what holds much. */
static int await_claim(struct worker *w) {
  int code = sleep_for_claim(w, lvri_os_now_ns() + IDLE_NS);

  if (code != -ETIMEDOUT) return code;
  lvri_known_forget(&w->object->known, true);
  return sleep_for_claim(w, LVR_FOREVER);
}

/* Every now and then others run, where tasks are no Python code. */
static void let_others_run(struct worker *w) {
  if (w->since_ns - w->released_ns < RELEASE_NS) return;
  w->released_ns = w->since_ns;
  Py_BEGIN_ALLOW_THREADS
  Py_END_ALLOW_THREADS
}

static int claim(struct worker *w) {
  if (PyErr_CheckSignals() < 0) return LVRI_RAISED;
  let_others_run(w);
  int code = claim_until(w, how_many(w), LVRI_TRY_ONCE);

  return code == -ETIMEDOUT ? await_claim(w) : code;
}

/* There is no memory to take the block of number with, or any for it. */
static int fail_bare(struct worker *w, const struct lvr_message *m, uint32_t number) {
  int began = is_cancelled(m->data) ? 0 : begin_task(w, number);

  if (began <= 0) return began;
  PyErr_Format(PyExc_MemoryError, "there was no memory left in worker %d to take this task's data",
               (int)getpid());
  w->object->running = -1;
  w->is_decoding = false;
  note_run(w);
  return send_failure(w, number, NULL);
}

/* With its block. -ENOMEM: though nothing is kept here that can go, it is not claimed. */
static int claim_block(struct worker *w, struct lvr_message *ret_m, uint32_t *ret_number) {
  lvr_board *board = w->object->board;
  int code = lvr_board_claim_block_until(board, ret_m, LVRI_TRY_ONCE, ret_number);

  if (code != -ENOMEM) return code;
  lvri_known_forget(&w->object->known, false);
  return lvr_board_claim_block_until(board, ret_m, LVRI_TRY_ONCE, ret_number);
}

/* Of these the next claim says more: another worker has the task, or this one is to leave. */
static bool is_news(int code) { return code != -ETIMEDOUT && code != -ENOENT && code != -EPIPE; }

/* The first one has a block, or had when we looked. Taking it needs little memory, and what holds
 * the rest may be what other tasks have left here: who has run some ends, and the next one has
 * theirs. Who has that little from the beginning answers the task, unless another one has it by
 * now: others like it would end for it, one after the other. */
static int run_first(struct worker *w) {
  struct lvr_message m;
  uint32_t number;
  int code = claim_block(w, &m, &number);
  bool is_bare = code == -ENOMEM && !w->has_run;

  if (is_bare) code = lvr_board_claim_bare(w->object->board, number, &m);
  if (code == 0) return is_bare ? fail_bare(w, &m, number) : run_message(w, &m, number);
  w->is_poor = code == -ENOMEM;
  if (w->is_poor || !is_news(code)) return 0;
  w->in_claim = false;
  (void)lvri_board_raise(code, "claim a task");
  return -1;
}

/* --- the loop ------------------------------------------------------------------------------ */

/* 1: between() was true; -1 with an error. */
static int call_between(struct worker *w) {
  if (w->between == NULL) return 0;
  PyObject *answer = PyObject_CallNoArgs(w->between);
  int is_true = answer == NULL ? -1 : PyObject_IsTrue(answer);

  Py_XDECREF(answer);
  return is_true;
}

/* -1 with what is to come out of work(): the claim is not done with. */
static int run_all(struct worker *w) {
  w->in_claim = true;
  if ((w->count > 0 ? run_claim(w) : run_first(w)) < 0) return -1;
  w->in_claim = false;
  guess_next(w);
  return 0;
}

/* Why it ended; NULL with an error. */
static const char *work(struct worker *w) {
  while (w->left > 0) {
    int code = claim(w);

    if (code == -EPIPE) return "closed";
    if (code != 0 && code != LVRI_RAISED) (void)lvri_board_raise(code, "claim a task");
    if (code != 0 || run_all(w) < 0) return NULL;
    if (w->is_poor) return "memory";
    int is_true = call_between(w);

    if (is_true != 0) return is_true < 0 ? NULL : "between";
  }
  return "enough";
}

/* What was claimed and not done is the dead worker's only once it is dead. */
static int begin(struct lvri_board_object *object) {
  if (!object->is_busy) {
    object->is_busy = true;
    return 0;
  }
  PyErr_Format(PyExc_RuntimeError,
               "process %d works on this board already, or was interrupted in the middle of a "
               "task: then it has to end, so that the owner is told of the task",
               (int)getpid());
  return -1;
}

/* CPython makes the object of the frame that works when an exception leaves a task's function, and
 * forgets the exception where it finds no memory (take_ownership() in its Python/frame.c): so it is
 * made here. */
static PyObject *work_claiming(struct worker *w) {
  w->claim = PyMem_Malloc(CLAIM_BYTES);
  if (w->claim == NULL) return PyErr_NoMemory();
  if (begin(w->object) < 0) {
    PyMem_Free(w->claim);
    return NULL;
  }
  (void)PyEval_GetFrame();
  const char *why = work(w);

  PyMem_Free(w->claim);
  w->object->is_busy = w->in_claim;
  return why == NULL ? NULL : PyUnicode_FromString(why);
}

const char lvri_board_work_doc[] =
    "work($self, /, fail, unsendable, most=0, workers=1, between=None, undecodable=None,\n"
    "     bare=None)\n--\n\n"
    "Claim and run tasks until the board is closed and empty, or its owner is gone, or has doomed\n"
    "this worker: 'closed'; until so many were run (0: no limit): 'enough'; until between() is\n"
    "true: 'between'; or until there is no memory here to claim the next one with, after others:\n"
    "'memory'. One that there is none for from the beginning has failed with MemoryError.\n\n"
    "fail(exception) is what is sent for a task that raised, unsendable(exception, value) for a\n"
    "result that could not be sent, undecodable(exception), if there is one, for a task that\n"
    "could not be decoded. What they raise comes out of here, and what a signal handler raises\n"
    "while no task runs. Where they raise MemoryError, or there is no memory to send what they\n"
    "return, bare is sent, if there is one: something small.";

/* 0, or -1 with an error. */
static int encode_bare(struct worker *w, PyObject *bare) {
  if (bare == Py_None) return 0;
  w->bare_bytes = lvri_encode_small(bare, w->bare, sizeof(w->bare));
  if (w->bare_bytes > 0) return 0;
  PyErr_Format(PyExc_ValueError, "bare has more than %zu bytes, or is nothing plain",
               sizeof(w->bare));
  return -1;
}

PyObject *lvri_board_work(PyObject *self, PyObject *args, PyObject *kwargs) {
  static char *keywords[] = {"fail",    "unsendable",  "most", "workers",
                             "between", "undecodable", "bare", NULL};
  struct worker w = {.object = lvri_board_working(self),
                     .state = lvri_state_of_type(Py_TYPE(self))};
  PyObject *between = Py_None, *undecodable = Py_None, *bare = Py_None;
  Py_ssize_t most = 0, workers = 1;

  if (w.object == NULL || w.state == NULL ||
      !PyArg_ParseTupleAndKeywords(args, kwargs, "OO|nnOOO:work", keywords, &w.fail, &w.unsendable,
                                   &most, &workers, &between, &undecodable, &bare) ||
      encode_bare(&w, bare) < 0)
    return NULL;
  if (most < 0 || workers < 1 || workers > (Py_ssize_t)LVR_BOARD_ROWS_MAX)
    return PyErr_Format(PyExc_ValueError, "most is at least 0, workers 1 to %u",
                        LVR_BOARD_ROWS_MAX);
  w.between = between == Py_None ? NULL : between;
  w.undecodable = undecodable == Py_None ? NULL : undecodable;
  w.left = most == 0 ? PY_SSIZE_T_MAX : most;
  w.one_by_one = most > 0 || w.between != NULL;
  w.workers = (uint32_t)workers;
  w.since_ns = w.released_ns = lvri_os_now_ns();
  return work_claiming(&w);
}

/* --- of a row ------------------------------------------------------------------------------ */

static PyObject *send_of_row(PyObject *self, enum lvri_result what, PyObject *value) {
  const struct worker w = {.object = lvri_board_working(self),
                           .state = lvri_state_of_type(Py_TYPE(self))};

  if (w.object == NULL || w.state == NULL ||
      send(&w, w.object->row, what, value, lvr_board_tell) < 0)
    return NULL;
  Py_RETURN_NONE;
}

const char lvri_board_ready_doc[] =
    "ready($self, value, /)\n--\n\nTell the owner that this worker is initialised.";

PyObject *lvri_board_ready(PyObject *self, PyObject *value) {
  return send_of_row(self, LVRI_RESULT_READY, value);
}

const char lvri_board_unfit_doc[] =
    "unfit($self, value, /)\n--\n\nTell the owner that this worker cannot be initialised.";

PyObject *lvri_board_unfit(PyObject *self, PyObject *value) {
  return send_of_row(self, LVRI_RESULT_UNFIT, value);
}
