/* board_model.h - the board as a model: an owner with two threads, two workers, three tasks, and
 * all there is to their order. Every step is one store or one look at what others store, and says
 * which function makes it; a death may come before any of them, of a worker or of the owner, also
 * of one that is just putting in order what another dead one left. Then a dead worker is buried,
 * and a new one is hired.
 *
 *   pump       takes results, tells whoever asked; settles, buries, judges, puts again, hires;
 *              once, at any time, takes back what a worker has claimed and not begun, and puts it
 *              again; once, dooms who runs a task, and kills him then
 *   canceller  another thread of the owner: cancels task 1 at some time
 *   workers    claim one or two tasks at a time; task 2 has a block, and taking it may fail once
 *
 * Here is what a state is, and in board_model.c each step from one to the next, which says at once
 * if what it does must not be. board_model_test.c visits all states.
 *
 * Not in it: that a store may be seen late (each pair of release and acquire is argued where it
 * stands); the arena's guard, whose transactions are one step each; sleeping and waking, which are
 * tested in board_wait_test.c; and the mutex of those who put, who leave a result or none. */
#ifndef LVRI_CORE_BOARD_MODEL_H
#define LVRI_CORE_BOARD_MODEL_H

#include <stdbool.h>
#include <stdint.h>

enum { TASKS = 3, NUMBERS = 8, CLAIM = 2, WORKERS = 2 };
enum { THE_CANCELLED = 1, THE_BLOCK = 2 }; /* tasks */
enum { FIRST, SECOND, PUMP, CANCELLER, ACTORS };
enum { FREE = 0, DEAD = 0xff };      /* a mutex; else 1 + who holds it */
enum { CANCELLED = 0x80 };           /* in a message's data: else it is the task */
enum { OVER = 0x40, DOOMED = 0x80 }; /* in what a row runs: else it is 1 + number */
enum fate { UNTOLD, RESULT, DIED, STRUCK };

/* What the protocol is without. */
enum fault {
  NOTHING,
  NOTE_BEHIND_HEAD,
  NOTE_BEFORE_PLACE,
  KEEP_FAILED_NOTE,
  NO_STRIKE,
  NO_FINISH,
  NO_SETTLE,
  JUDGE_BEFORE_RESULTS,
  JUDGE_THE_LIVING,
  RUN_BEFORE_BEGIN,
  CANCEL_WITHOUT_MUTEX,
  CANCEL_WITHOUT_LOOKING,
  STRIKE_LATER,
  STRIKE_ALL,
  BEGIN_WHAT_WAS_REVOKED,
  REVOKE_WITHOUT_MUTEX,
  REVOKE_THE_FIRST,
  OVER_BEFORE_RESULT,
  KILL_BY_LOOKING,
  DOOMED_BEGINS,
  FORGET_DOOM,
  FAULTS
};

extern const char *const model_fault_names[FAULTS];

struct row {
  uint8_t worker, first, count, running;
};

/* A thread, with what it remembers between two steps. */
struct actor {
  uint8_t at, lives;
  uint8_t behind_lock;        /* where it goes once it has the get mutex */
  uint8_t first, count, next; /* a claim, its own or a dead one's; the message that it is at */
  uint8_t seen;               /* of a word that it has read, or will store */
  uint8_t row;                /* pump: which it buries */
  uint8_t data[CLAIM];        /* copied out of messages */
};

struct world {
  uint8_t tail, head, taken, place, get_mutex; /* place: 1 + row */
  uint8_t message[NUMBERS];
  struct row rows[WORKERS];
  uint8_t results[NUMBERS], result_count;
  struct actor actors[ACTORS];
  uint8_t told[TASKS], number_of[TASKS], table_lock;
  uint8_t deaths_left, failures_left, revokes_left, dooms_left;
  uint8_t doomed, shot; /* for the checks: 1 + number, 1 + the row of who was killed for it */
  uint8_t began[TASKS], refused, said, emptied; /* for the checks; emptied: a bit a number */
};

/* What may happen in a run. */
struct bounds {
  uint8_t deaths;
  bool cancels;
  uint8_t revokes, dooms;
};

/* Where an actor is: the step that it makes next. */
enum at {
  LOCK_GET,
  FINISH_HEAD,
  FINISH_TAKEN,
  STRIKE_LOOK,
  STRIKE,
  ENLIST,
  FIND,
  PLACE,
  NOTE,
  TAKE,
  HEAD,
  TAKEN,
  UNLOCK,
  ADVANCE,
  BEGIN,
  RUN,
  PUBLISH,
  OVER_NOTE,
  LOOP,
  TELL,
  SETTLED,
  DRAIN,
  DRAIN_TELL,
  READ_CLAIM,
  READ_RUNNING,
  CLEAR,
  CLEAR_WORKER,
  JUDGE,
  REVOKE,
  REVOKE_UNLOCK,
  KILL,
  CANCEL,
  LOOK,
  OVERWRITE,
  CANCEL_UNLOCK,
  STRIKE_OUT,
  CANCEL_DONE,
  STEPS
};

/* Of each, how it is made. */
struct step {
  const char *name;
  bool (*make)(struct world *w, unsigned me);
  bool (*choose)(struct world *w, unsigned me, unsigned choice); /* or this */
  unsigned choices;                                              /* the last one, from 0 */
};
extern const struct step model_steps[STEPS];

extern struct model {
  enum fault fault;
  const char *wrong; /* what is; the search ends */
} model;

static inline void claim_that(bool holds, const char *what) {
  if (!holds && !model.wrong) model.wrong = what;
}

/* Two workers are about to claim, and all tasks wait. */
struct world model_begin(struct bounds may);

/* The next step of actor `me`. False: it cannot be made now, and `w` is to be forgotten. */
bool model_make(struct world *w, unsigned me, unsigned choice);

/* The process of that actor, if it lives: the owner's two threads at once. */
bool model_kill_process(struct world *w, unsigned me);

#endif
