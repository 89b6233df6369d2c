/* runs.c - the numbers that somebody waits for: runs of consecutive ones, each of one job.
 *
 *   [ over | run 0..999 | over | run 1010..1010 | run 1011..1074 ]     marks of a run: 0110...
 *     begin                                              last      end   a bit for each number
 *                                                                        that was struck out
 *
 * Numbers are given in order and noted before anybody else can put, so runs are sorted as they
 * come: by differences, for numbers wrap. Most results are of the run that the last one was of, or
 * of the next. What is over goes when it is at the front, or when half of all are over.
 *
 * All memory is got before a number is given: neither noting nor striking out can fail. Nothing
 * here runs Python code; who strikes out a number is handed what is to be let go. */
#include "binding/board.h"

#define FEW 64u /* numbers whose marks lie in the run itself */

struct lvri_run {
  PyObject *job; /* NULL: over */
  PyObject *function;
  Py_ssize_t place; /* the job's, of the first number */
  uint32_t first, count;
  uint32_t left; /* numbers that are not struck out */
  uint32_t room; /* how many numbers there are marks for */
  union {
    uint64_t few;
    uint64_t *many; /* room > FEW */
  } marks;
};

static uint64_t *marks_of(struct lvri_run *run) {
  return run->room > FEW ? run->marks.many : &run->marks.few;
}

/* The run without what it held. */
static void end_run(struct lvri_run *run, struct lvri_struck *ret_struck) {
  *ret_struck = (struct lvri_struck){run->job, run->function};
  if (run->room > FEW) PyMem_Free(run->marks.many);
  run->room = 0;
  run->job = run->function = NULL;
}

/* Emptied before anything is dropped: that may look here again. */
void lvri_runs_fini(struct lvri_runs *r) {
  struct lvri_runs old = *r;

  *r = (struct lvri_runs){.runs = NULL};
  for (; old.begin < old.end; old.begin++) {
    struct lvri_struck struck;

    end_run(&old.runs[old.begin], &struck);
    lvri_struck_drop(&struck);
  }
  PyMem_Free(old.runs);
  PyMem_Free(old.spare);
}

int lvri_runs_traverse(struct lvri_runs *r, visitproc visit, void *arg) {
  for (size_t i = r->begin; i < r->end; i++) {
    Py_VISIT(r->runs[i].job);
    Py_VISIT(r->runs[i].function);
  }
  return 0;
}

/* --- room ---------------------------------------------------------------------------------- */

/* Moves what is not over to the start. */
static void compact(struct lvri_runs *r) {
  size_t to = 0;

  for (size_t i = r->begin; i < r->end; i++)
    if (r->runs[i].job != NULL) r->runs[to++] = r->runs[i];
  r->begin = r->over = r->last = 0;
  r->end = to;
}

static int make_room(struct lvri_runs *r) {
  if (r->end < r->room) return 0;
  compact(r);
  if (r->end < r->room / 2) return 0;
  size_t room = r->room == 0 ? 16 : 2 * r->room;
  struct lvri_run *runs = PyMem_Realloc(r->runs, room * sizeof(*runs));

  if (runs == NULL) return -1;
  r->runs = runs;
  r->room = room;
  return 0;
}

static int make_spare(struct lvri_runs *r, uint32_t most) {
  if (most <= FEW || r->spare_room >= most) return 0;
  uint64_t *marks = PyMem_Calloc((most + 63u) / 64u, sizeof(*marks));

  if (marks == NULL) return -1;
  PyMem_Free(r->spare);
  r->spare = marks;
  r->spare_room = most;
  return 0;
}

int lvri_runs_prepare(struct lvri_runs *r, uint32_t most) {
  if (make_room(r) == 0 && make_spare(r, most) == 0) return 0;
  (void)PyErr_NoMemory();
  return -1;
}

void lvri_runs_trim(struct lvri_runs *r) {
  PyMem_Free(r->spare);
  r->spare = NULL;
  r->spare_room = 0;
}

/* --- adding -------------------------------------------------------------------------------- */

static bool continues(const struct lvri_run *run, const struct lvri_run *with) {
  return run->job == with->job && run->function == with->function &&
         run->first + run->count == with->first &&
         run->place + (Py_ssize_t)run->count == with->place &&
         run->count + with->count <= run->room;
}

static void append(struct lvri_runs *r, struct lvri_run *run) {
  Py_INCREF(run->job);
  Py_INCREF(run->function);
  run->room = FEW;
  if (r->spare != NULL) {
    run->room = r->spare_room;
    run->marks.many = r->spare;
    r->spare = NULL;
    r->spare_room = 0;
  }
  r->runs[r->end++] = *run;
}

void lvri_runs_add(struct lvri_runs *r, uint32_t first, uint32_t count, PyObject *job,
                   PyObject *function, Py_ssize_t place) {
  struct lvri_run run = {job, function, place, first, count, count, 0, {0}};
  struct lvri_run *last = r->end > r->begin ? &r->runs[r->end - 1] : NULL;

  r->outstanding += count;
  if (last != NULL && continues(last, &run)) {
    last->count += count;
    last->left += count;
  } else {
    append(r, &run);
  }
}

/* --- finding ------------------------------------------------------------------------------- */

static inline bool has(struct lvri_run *run, uint32_t number) {
  uint32_t offset = number - run->first;

  if (run->job == NULL || offset >= run->count) return false;
  return !(marks_of(run)[offset / 64] >> offset % 64 & 1);
}

static struct lvri_run *search(struct lvri_runs *r, uint32_t number) {
  size_t low = r->begin, high = r->end;

  while (low < high) { /* the first run that begins behind number is at low or above */
    size_t middle = low + (high - low) / 2;

    if ((int32_t)(r->runs[middle].first - number) <= 0)
      low = middle + 1;
    else
      high = middle;
  }
  if (low == r->begin || !has(&r->runs[low - 1], number)) return NULL;
  r->last = low - 1;
  return &r->runs[low - 1];
}

static inline struct lvri_run *find(struct lvri_runs *r, uint32_t number) {
  for (size_t i = r->last; i < r->last + 2; i++) {
    if (i < r->begin || i >= r->end || !has(&r->runs[i], number)) continue;
    r->last = i;
    return &r->runs[i];
  }
  return search(r, number);
}

PyObject *lvri_runs_find(struct lvri_runs *r, uint32_t number, Py_ssize_t *ret_place) {
  struct lvri_run *run = find(r, number);

  if (run == NULL) return NULL;
  *ret_place = run->place + (Py_ssize_t)(number - run->first);
  return run->job;
}

/* --- striking out -------------------------------------------------------------------------- */

/* One more is over. */
static void tidy(struct lvri_runs *r) {
  r->over++;
  while (r->begin < r->end && r->runs[r->begin].job == NULL) {
    r->begin++;
    r->over--;
  }
  if (r->over > 32 && r->over > (r->end - r->begin) / 2) compact(r);
}

bool lvri_runs_strike(struct lvri_runs *r, uint32_t number, struct lvri_struck *ret_struck) {
  struct lvri_run *run = find(r, number);

  *ret_struck = (struct lvri_struck){NULL, NULL};
  if (run == NULL) return false;
  uint32_t offset = number - run->first;

  marks_of(run)[offset / 64] |= UINT64_C(1) << offset % 64;
  r->outstanding--;
  if (--run->left > 0) return true;
  end_run(run, ret_struck);
  tidy(r);
  return true;
}
