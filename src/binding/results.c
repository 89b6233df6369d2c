/* results.c - Board.take(): from results to those who wait for them.
 *
 *   channel --> inbox: up to 64 KiB of results --> decode (runs any code) --> a batch's list,
 *                                                                             or an event
 *
 * A result is out of the inbox when it has been told: stored, or in the list of events. Where that
 * is broken off, by a signal handler or for want of memory, inbox and events are kept, and the next
 * take() goes on there. Decoding may run code that takes, too: each take has an inbox of its own,
 * and looks up who waits for a result when it is decoded. */
#include "binding/board.h"

#include <string.h>

#define INBOX_BYTES ((size_t)65536)
#define TAKE_MOST   4096u

struct lvri_inbox {
  struct lvri_inbox *next;
  PyObject *events;  /* a list of what was told, and nobody has seen; NULL: nothing */
  unsigned char *at; /* the next result, packed as include/leveret/queue.h says */
  uint32_t left;     /* how many there are from there on */
  bool tried;        /* the next one was broken off by what was no Exception */
  bool has_message;  /* one that came by itself is to be told first */
  struct lvr_message message;
  unsigned char bytes[INBOX_BYTES];
};

/* One take(). */
struct take {
  struct lvri_board_object *object;
  struct lvri_state *state;
  struct lvri_inbox *inbox;
  PyObject *events;
  uint32_t told; /* how many results */
  uint64_t serial;
};

/* A result that is to be told. */
struct result {
  struct lvri_result_header head;
  const unsigned char *stream;
  size_t bytes;
  const lvr_block *block;
};

/* --- inboxes ------------------------------------------------------------------------------- */

static bool is_empty(const struct lvri_inbox *inbox) {
  return inbox->left == 0 && !inbox->has_message && inbox->events == NULL;
}

static void end_message(struct lvri_inbox *inbox) {
  if (inbox->has_message) lvr_message_fini(&inbox->message);
  inbox->has_message = false;
}

void lvri_inboxes_free(struct lvri_inbox *inbox) {
  while (inbox != NULL) {
    struct lvri_inbox *next = inbox->next;

    end_message(inbox);
    Py_XDECREF(inbox->events);
    PyMem_Free(inbox);
    inbox = next;
  }
}

int lvri_inboxes_traverse(struct lvri_inbox *inbox, visitproc visit, void *arg) {
  for (; inbox != NULL; inbox = inbox->next)
    Py_VISIT(inbox->events);
  return 0;
}

bool lvri_board_owes(const struct lvri_board_object *object) {
  return object->inboxes != NULL && !is_empty(object->inboxes);
}

/* One that was broken off, or an empty one that is kept; or a new one. */
static struct lvri_inbox *open_inbox(struct lvri_board_object *object) {
  struct lvri_inbox *inbox = object->inboxes;

  if (inbox != NULL) {
    object->inboxes = inbox->next;
    return inbox;
  }
  inbox = PyMem_Malloc(sizeof(*inbox));
  if (inbox == NULL) {
    (void)PyErr_NoMemory();
    return NULL;
  }
  inbox->left = 0;
  inbox->events = NULL;
  inbox->tried = inbox->has_message = false;
  return inbox;
}

/* Those that are not empty are in front; of the others one is kept. */
static void close_inbox(struct lvri_board_object *object, struct lvri_inbox *inbox) {
  if (is_empty(inbox) && object->inboxes != NULL) {
    PyMem_Free(inbox);
    return;
  }
  inbox->next = object->inboxes;
  object->inboxes = inbox;
}

/* --- telling ------------------------------------------------------------------------------- */

static int append(struct take *t, PyObject *event) {
  int failed = event == NULL ? -1 : PyList_Append(t->events, event);

  Py_XDECREF(event);
  return failed;
}

/* A batch is in the list once, before what it waits for is stored: that cannot fail then. */
static int tell_batch(struct take *t, struct lvri_batch *batch, bool always) {
  if (batch->told == t->serial || !(always || batch->left <= 1)) return 0;
  if (PyList_Append(t->events, (PyObject *)batch) < 0) return -1;
  batch->told = t->serial;
  return 0;
}

/* value is taken, whatever comes of it. 0, or -1 with MemoryError: nobody was told. */
static int tell_job(struct take *t, PyObject *job, Py_ssize_t place, enum lvri_result what,
                    PyObject *value) {
  if (!PyObject_TypeCheck(job, t->state->batch_type))
    return append(t, Py_BuildValue("(OniN)", job, place, (int)what, value));
  struct lvri_batch *batch = (struct lvri_batch *)job;

  if (tell_batch(t, batch, batch->notify) == 0 && lvri_batch_store(batch, place, what, value) == 0)
    return 0;
  Py_DECREF(value);
  return -1;
}

static int tell(struct take *t, uint32_t number, enum lvri_result what, PyObject *value) {
  struct lvri_runs *runs = &t->object->runs;
  struct lvri_struck struck;
  Py_ssize_t place;
  PyObject *job = lvri_runs_find(runs, number, &place);

  if (job == NULL) { /* struck out while it was decoded */
    Py_DECREF(value);
    return 0;
  }
  Py_INCREF(job);
  int failed = tell_job(t, job, place, what, value);

  if (failed == 0 && lvri_runs_strike(runs, number, &struck)) lvri_struck_drop(&struck);
  Py_DECREF(job);
  return failed;
}

/* --- decoding ------------------------------------------------------------------------------ */

/* Decoding raised what is no Exception: it did so itself, or a signal handler in the middle of it.
 * Only the first does so again. What a handler raised comes out of take(), and the next one decodes
 * this result anew, and a second handler's exception is what has come: there is no third time. */
static PyObject *exception_or_handlers(struct take *t, const struct result *r) {
  PyObject *first = lvri_take_exception();
  PyObject *value = lvri_parcel_decode(t->state, r->stream, r->bytes, r->block);

  if (value == NULL) {
    Py_DECREF(first);
    return lvri_take_exception();
  }
  Py_DECREF(value);
  t->inbox->tried = true;
  lvri_put_exception(first);
  return NULL;
}

/* The exception that is set is what has come, as a rule. NULL with an error if it is not. */
static PyObject *exception_as_value(struct take *t, const struct result *r) {
  if (t->inbox->tried || PyErr_ExceptionMatches(PyExc_Exception)) return lvri_take_exception();
  return exception_or_handlers(t, r);
}

static PyObject *decode(struct take *t, const struct result *r, enum lvri_result *what) {
  PyObject *value = lvri_parcel_decode(t->state, r->stream, r->bytes, r->block);

  if (value != NULL) return value;
  value = exception_as_value(t, r);
  if (*what < LVRI_RESULT_READY) *what = LVRI_RESULT_UNDECODED;
  return value;
}

static int handle(struct take *t, const struct result *r) {
  enum lvri_result what = (enum lvri_result)r->head.what;
  bool is_rows = what == LVRI_RESULT_READY || what == LVRI_RESULT_UNFIT;
  Py_ssize_t place;

  if (!is_rows && lvri_runs_find(&t->object->runs, r->head.number, &place) == NULL) return 0;
  PyObject *value = decode(t, r, &what);

  if (value == NULL) return -1;
  if (!is_rows) return tell(t, r->head.number, what, value);
  return append(t, Py_BuildValue("(OIiN)", Py_None, r->head.number, (int)what, value));
}

static int handle_bytes(struct take *t, const unsigned char *data, size_t bytes,
                        const lvr_block *block) {
  struct result r;

  if (bytes < sizeof(r.head)) return 0; /* written by something else */
  memcpy(&r.head, data, sizeof(r.head));
  r.stream = data + sizeof(r.head);
  r.bytes = bytes - sizeof(r.head);
  r.block = block;
  return handle(t, &r);
}

/* --- taking -------------------------------------------------------------------------------- */

/* The next result of the inbox. -1 with an error: it is still there. */
static int handle_next(struct take *t) {
  struct lvri_inbox *inbox = t->inbox;
  uint32_t bytes;

  memcpy(&bytes, inbox->at, sizeof(bytes));
  if (handle_bytes(t, inbox->at + sizeof(bytes), bytes, NULL) < 0) return -1;
  inbox->tried = false;
  inbox->at += sizeof(bytes) + ((bytes + 3u) & ~3u);
  inbox->left--;
  t->told++;
  return 0;
}

static int handle_message(struct take *t) {
  struct lvri_inbox *inbox = t->inbox;
  const struct lvr_message *m = &inbox->message;

  if (handle_bytes(t, m->data, m->bytes, m->block) < 0) return -1;
  inbox->tried = false;
  end_message(inbox);
  t->told++;
  return 0;
}

static int handle_inbox(struct take *t) {
  int failed = t->inbox->has_message ? handle_message(t) : 0;

  while (failed == 0 && t->inbox->left > 0)
    failed = handle_next(t);
  return failed;
}

/* Fills an empty inbox. 1; 0: nothing is there; -1 with an error. */
static int refill(struct take *t) {
  struct lvri_inbox *inbox = t->inbox;
  lvr_board *board = t->object->board;
  size_t bytes;

  inbox->at = inbox->bytes;
  int code = lvr_board_take_many_until(board, inbox->bytes, INBOX_BYTES, TAKE_MOST, LVRI_TRY_ONCE,
                                       &inbox->left, &bytes);

  if (code == 0 && inbox->left == 0) { /* the first one has a block, or had when we looked */
    code = lvr_board_take_until(board, &inbox->message, LVRI_TRY_ONCE);
    inbox->has_message = code == 0;
  }
  if (code == 0) return 1;
  if (code != -ETIMEDOUT) (void)lvri_board_raise(code, "take results");
  return code == -ETIMEDOUT ? 0 : -1;
}

static int take_all(struct take *t) {
  int going = 1;

  while (going > 0 && t->told < TAKE_MOST) {
    going = handle_inbox(t) < 0 ? -1 : 1;
    if (going > 0 && t->told < TAKE_MOST) going = refill(t);
  }
  return going < 0 ? -1 : 0;
}

/* What was told stays told. */
static PyObject *break_off(struct take *t) {
  if (t->events != NULL && PyList_GET_SIZE(t->events) == 0) Py_CLEAR(t->events);
  t->inbox->events = t->events;
  close_inbox(t->object, t->inbox);
  return NULL;
}

const char lvri_board_take_doc[] =
    "take($self, /)\n--\n\n"
    "Take the results that are there, some 4000 at most, and return what is to be told of them.\n\n"
    "(job, place, what, value), or (None, row, what, value) for READY and UNFIT. Of a Batch, the\n"
    "batch itself, once: it has the results. It never waits.";

PyObject *lvri_board_take(PyObject *self, PyObject *Py_UNUSED(none)) {
  struct lvri_board_object *object = lvri_board_owned(self);
  struct take t = {.object = object, .state = lvri_state_of_type(Py_TYPE(self))};

  if (object == NULL || t.state == NULL) return NULL;
  t.inbox = open_inbox(object);
  if (t.inbox == NULL) return NULL;
  t.serial = ++object->takes;
  t.events = t.inbox->events != NULL ? t.inbox->events : PyList_New(0);
  t.inbox->events = NULL;
  if (t.events == NULL || take_all(&t) < 0) return break_off(&t);
  close_inbox(object, t.inbox);
  return t.events;
}
