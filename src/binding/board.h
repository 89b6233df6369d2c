/* board.h - what tasks and results look like, and what the files of Board share.
 *
 *   task      struct lvri_task_header, the function, the argument's stream
 *   result    struct lvri_result_header, the value's stream
 *
 * A stream lies there, or, if nothing is behind what comes before it, in the payload of the block
 * that travels with the message; that block carries what else the stream needs (parcel.h).
 *
 * A function is a stream of its own, encoded once: a small one is in each task that it is for. What
 * is longer than that, or has something with it, has a block: its name is in front of the stream,
 * and whoever waits for such a task keeps it alive.
 *
 *   board.c     the type; rows and their workers
 *   tasks.c     put, put_again: object -> task
 *   results.c   take: result -> object, and to whom
 *   work.c      a worker's loop: task -> result
 *   runs.c      who waits for which numbers
 *   batch.c     one who waits for many
 *   function.c  an encoded callable; and what a worker keeps of those that it has met */
#ifndef LVRI_BINDING_BOARD_H
#define LVRI_BINDING_BOARD_H

#include "binding/parcel.h"
#include "binding/shared.h"

#include <leveret/board.h>

/* How a function is applied to its argument. */
enum lvri_task_kind {
  LVRI_TASK_ITEM,      /* f(argument) */
  LVRI_TASK_STAR,      /* f(*argument) */
  LVRI_TASK_APPLY,     /* f(*argument[0], **argument[1]) */
  LVRI_TASK_CHUNK,     /* [f(item) for item in argument] */
  LVRI_TASK_STARCHUNK, /* [f(*item) for item in argument] */
  LVRI_TASK_KINDS
};

/* Its first four bytes are LVR_BOARD_CANCELLED once it is cancelled: kinds are less. */
struct lvri_task_header {
  uint16_t kind;
  uint16_t is_large;       /* the function has a block */
  uint32_t function_bytes; /* of what is there of it */
  uint32_t function;       /* its id: the same one is the same function */
};

/* What a result is. The last two are a row's, and the number is the row. */
enum lvri_result {
  LVRI_RESULT_VALUE,
  LVRI_RESULT_FAILED,
  LVRI_RESULT_UNDECODED, /* not on the wire: it could not be decoded here */
  LVRI_RESULT_READY = 10,
  LVRI_RESULT_UNFIT
};

struct lvri_result_header {
  uint32_t number;
  uint32_t what;
};

/* --- runs.c -------------------------------------------------------------------------------- */

struct lvri_run;

/* The numbers that somebody waits for, in runs of consecutive ones. All zeros is none. */
struct lvri_runs {
  struct lvri_run *runs; /* those from begin to end mean something, in the order of numbers */
  size_t begin, end, room;
  size_t over;     /* how many of them nobody waits for any more */
  size_t last;     /* where something was found last */
  uint64_t *spare; /* marks for a run that is to come; NULL: none */
  uint32_t spare_room;
  Py_ssize_t outstanding; /* numbers */
};

/* What is to be dropped once nothing is half done: that may run any code. */
struct lvri_struck {
  PyObject *job, *function;
};

void lvri_runs_fini(struct lvri_runs *r);
int lvri_runs_traverse(struct lvri_runs *r, visitproc visit, void *arg);

/* What an add of up to `most` numbers needs is there then, and for others that follow it up to as
 * many in all. -1 with MemoryError. lvri_runs_trim(): no more follow. */
LVR_MUST_CHECK int lvri_runs_prepare(struct lvri_runs *r, uint32_t most);
void lvri_runs_trim(struct lvri_runs *r);

/* Numbers [first, first + count), behind all that were there, are those of job from its place on;
 * function is kept as long as they are. */
void lvri_runs_add(struct lvri_runs *r, uint32_t first, uint32_t count, PyObject *job,
                   PyObject *function, Py_ssize_t place);

/* Whose that number is: borrowed, and which place. NULL without an error: nobody waits for it. */
PyObject *lvri_runs_find(struct lvri_runs *r, uint32_t number, Py_ssize_t *ret_place);

/* Nobody waits for that number any more. False: nobody did. */
bool lvri_runs_strike(struct lvri_runs *r, uint32_t number, struct lvri_struck *ret_struck);

static inline void lvri_struck_drop(struct lvri_struck *struck) {
  Py_XDECREF(struck->job);
  Py_XDECREF(struck->function);
}

/* --- function.c ---------------------------------------------------------------------------- */

#define LVRI_FUNCTION_BYTES 1024u /* a longer stream is a block's payload */

struct lvri_function {
  PyObject_HEAD
  uint32_t id;
  uint16_t is_large;
  uint32_t bytes;
  unsigned char *data; /* the block's name, if there is one; the stream, unless it is in there */
  lvr_block *block;    /* NULL: none */
};

/* The object as that, when it is one; NULL with an error. */
struct lvri_function *lvri_function_of(struct lvri_state *state, PyObject *object);

/* The start of a task: how many bytes that is, at most LVRI_TASK_START_BYTES. */
#define LVRI_TASK_START_BYTES \
  (sizeof(struct lvri_task_header) + sizeof(lvr_ref) + LVRI_FUNCTION_BYTES)
size_t lvri_task_start(const struct lvri_function *f, enum lvri_task_kind kind, unsigned char *to);

/* The functions that a worker has met last: a ring. What holds much goes when there is nothing to
 * do. */
#define LVRI_KNOWN_MOST 8u
struct lvri_known {
  struct lvri_known_function {
    PyObject *function; /* NULL: no entry */
    uint32_t id;
    bool is_large;
  } entries[LVRI_KNOWN_MOST];
  uint32_t last, next; /* which one was used last; where the next one goes */
};

/* The function of a task: borrowed from what is known. NULL with what decoding raised. */
PyObject *lvri_known_find(struct lvri_known *k, struct lvri_state *state,
                          const struct lvri_task_header *head, const unsigned char *function);
void lvri_known_forget(struct lvri_known *k, bool large_ones_only);
int lvri_known_traverse(struct lvri_known *k, visitproc visit, void *arg);

/* --- batch.c ------------------------------------------------------------------------------- */

struct lvri_batch {
  PyObject_HEAD
  PyObject *results;  /* a list; NULL: not initialised */
  PyObject *failures; /* a list of (place, value) */
  Py_ssize_t left;
  uint64_t told; /* the last take that tells of it */
  char notify;
};

/* Whether it can have results for so many places; -1 with an error. */
LVR_MUST_CHECK int lvri_batch_check(struct lvri_batch *b, Py_ssize_t place, Py_ssize_t count);
/* What was waited for has come; value is taken if that is true: 0. -1 with MemoryError. */
LVR_MUST_CHECK int lvri_batch_store(struct lvri_batch *b, Py_ssize_t place, enum lvri_result what,
                                    PyObject *value);

/* --- board.c ------------------------------------------------------------------------------- */

/* Results that were taken, and events that nobody has seen. */
struct lvri_inbox;
/* What was taken back, and nobody was told of. */
struct lvri_revoked;

struct lvri_board_object {
  struct lvri_shared shared;
  lvr_board *board;
  long owner_pid; /* for messages */
  /* the owner's */
  struct lvri_runs runs;
  struct lvri_inbox *inboxes; /* of takes that were broken off; the last may be empty */
  uint64_t takes;
  PyObject *dropped;            /* a list of jobs; NULL: none */
  struct lvri_revoked *revoked; /* NULL: none */
  /* a worker's */
  struct lvri_known known;
  uint32_t row;
  int64_t running; /* the task whose code runs; -1: none */
  bool is_busy;    /* in work(), or that was left in the middle of a claim */
};

static inline struct lvri_board_object *lvri_board_of(PyObject *self) {
  return (struct lvri_board_object *)self;
}

/* The object for a method that anybody may call, the owner's process, or a worker; NULL with an
 * error. */
struct lvri_board_object *lvri_board_any(PyObject *self);
struct lvri_board_object *lvri_board_owned(PyObject *self);
struct lvri_board_object *lvri_board_working(PyObject *self);

/* lvri_raise(), and what a board means by its codes. Always NULL. */
PyObject *lvri_board_raise(int code, const char *doing);

/* The number of a task, or of a row; -1 with an error. */
LVR_MUST_CHECK int lvri_board_number(PyObject *number, uint32_t *ret_number);

/* tasks.c */
extern const char lvri_board_put_doc[], lvri_board_put_many_doc[], lvri_board_put_again_doc[];
PyObject *lvri_board_put(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                         PyObject *kwnames);
PyObject *lvri_board_put_many(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                              PyObject *kwnames);
PyObject *lvri_board_put_again(PyObject *self, PyObject *args);

/* results.c */
extern const char lvri_board_take_doc[];
PyObject *lvri_board_take(PyObject *self, PyObject *none);
/* Whether something is taken that the next take will tell. */
bool lvri_board_owes(const struct lvri_board_object *object);
void lvri_inboxes_free(struct lvri_inbox *inbox);
int lvri_inboxes_traverse(struct lvri_inbox *inbox, visitproc visit, void *arg);

/* work.c */
extern const char lvri_board_work_doc[], lvri_board_ready_doc[], lvri_board_unfit_doc[];
PyObject *lvri_board_work(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *lvri_board_ready(PyObject *self, PyObject *value);
PyObject *lvri_board_unfit(PyObject *self, PyObject *value);

#endif
