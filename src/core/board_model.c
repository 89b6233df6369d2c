/* The steps of the board's model (board_model.h): what each changes, and where it leads; at the end
 * which function's it is. Where it is made otherwise if a fault is wanted, it asks is_without(). */
#include "core/board_model.h"

#include <string.h>

struct model model;

const char *const model_fault_names[FAULTS] = {
    [NOTHING] = "nothing left out",
    [NOTE_BEHIND_HEAD] = "a claim is noted behind the store of the head",
    [NOTE_BEFORE_PLACE] = "it is noted before its place is",
    [KEEP_FAILED_NOTE] = "the note of a claim that failed is kept",
    [NO_STRIKE] = "who takes over strikes out no note",
    [NO_FINISH] = "who takes over leaves the head where it is",
    [NO_SETTLE] = "a row is read without the mutex having been taken",
    [JUDGE_BEFORE_RESULTS] = "a row is judged before all results are taken",
    [JUDGE_THE_LIVING] = "a row is judged before its worker is over",
    [RUN_BEFORE_BEGIN] = "a task runs before the row says so",
    [CANCEL_WITHOUT_MUTEX] = "a task is cancelled without the mutex",
    [CANCEL_WITHOUT_LOOKING] = "a task is cancelled whoever has it",
    [STRIKE_LATER] = "the owner's table is let go before the number is struck out",
    [STRIKE_ALL] = "a note that ends before the head is struck out, too",
    [BEGIN_WHAT_WAS_REVOKED] = "a task begins without a look at the claim",
    [REVOKE_WITHOUT_MUTEX] = "a claim is taken back without the mutex",
    [REVOKE_THE_FIRST] = "its first task is taken back as well",
    [OVER_BEFORE_RESULT] = "a task is noted as over before its result is put",
    [KILL_BY_LOOKING] = "who was seen to run a task is killed for it",
    [DOOMED_BEGINS] = "a doomed worker begins another task",
    [FORGET_DOOM] = "the end of a task forgets the doom",
};

/* --- a state -------------------------------------------------------------------------------- */

static bool is_without(enum fault fault) { return model.fault == fault; }

static struct actor *actor_of(struct world *w, unsigned me) { return &w->actors[me]; }

static uint8_t task_of(const struct world *w, unsigned number) {
  return w->message[number] & (uint8_t)~CANCELLED;
}

static void put_task(struct world *w, uint8_t task) {
  claim_that(w->tail < NUMBERS, "tasks are put again and again");
  if (w->tail == NUMBERS) return;
  w->number_of[task] = w->tail;
  w->message[w->tail++] = task;
}

/* --- steps ---------------------------------------------------------------------------------- */

/* A step of actor `me` is a function; it says where the actor is then. False: it cannot be made
 * now, and what it changed is forgotten. */

static bool go(struct world *w, unsigned me, enum at at) {
  actor_of(w, me)->at = (uint8_t)at;
  return true;
}

/* As it was born: what it remembered means nothing any more. */
static bool go_fresh(struct world *w, unsigned me, enum at at) {
  *actor_of(w, me) = (struct actor){.lives = 1};
  return go(w, me, at);
}

static void kill_thread(struct world *w, unsigned me) {
  if (w->get_mutex == me + 1) w->get_mutex = DEAD;
  w->actors[me] = (struct actor){0};
}

/* --- the get mutex -------------------------------------------------------------------------- */

/* Is about to take it, to go on there. */
static bool lock_get(struct world *w, unsigned me, enum at behind_lock) {
  actor_of(w, me)->behind_lock = (uint8_t)behind_lock;
  return go(w, me, LOCK_GET);
}

/* Whose worker's look at its row says so. */
static bool is_doomed(const struct world *w, unsigned me) {
  return me < WORKERS && w->rows[me].running & DOOMED && !is_without(DOOMED_BEGINS);
}

/* A process ends by itself, with nothing in its hands. */
static bool leave(struct world *w, unsigned me) {
  w->actors[me] = (struct actor){0};
  return true;
}

/* A worker, and no task waits. */
static bool is_asleep(const struct world *w, unsigned me) {
  return me < WORKERS && w->head == w->tail && w->get_mutex != DEAD;
}

static bool step_lock_get(struct world *w, unsigned me) {
  bool takes_over = w->get_mutex == DEAD;
  if (is_doomed(w, me)) return leave(w, me);
  if (w->get_mutex != FREE && !takes_over) return false;
  if (is_asleep(w, me)) return false;
  w->get_mutex = (uint8_t)(me + 1);
  if (!takes_over) return go(w, me, actor_of(w, me)->behind_lock);
  return go(w, me, w->taken && !is_without(NO_FINISH) ? FINISH_HEAD : STRIKE_LOOK);
}

static bool step_finish_head(struct world *w, unsigned me) {
  w->head = w->taken;
  return go(w, me, FINISH_TAKEN);
}

static bool step_finish_taken(struct world *w, unsigned me) {
  w->taken = 0;
  return go(w, me, STRIKE_LOOK);
}

static bool step_strike_look(struct world *w, unsigned me) {
  const struct row *row = &w->rows[w->place ? w->place - 1 : 0];
  unsigned end = row->first + row->count;
  bool stays = !w->place || (is_without(STRIKE_ALL) ? end == w->head : end <= w->head);
  if (stays || is_without(NO_STRIKE)) return go(w, me, actor_of(w, me)->behind_lock);
  return go(w, me, STRIKE);
}

static bool step_strike(struct world *w, unsigned me) {
  struct row *row = &w->rows[w->place - 1];
  row->first = row->count = 0;
  return go(w, me, actor_of(w, me)->behind_lock);
}

/* --- a worker ------------------------------------------------------------------------------- */

static bool go_to_work(struct world *w, unsigned me) {
  return go_fresh(w, me, LOCK_GET) && lock_get(w, me, FIND);
}

static bool step_enlist(struct world *w, unsigned me) {
  if (w->rows[me].worker) return false;
  w->rows[me].worker = 1;
  return go_to_work(w, me);
}

/* One message, or two where both are plain. */
static bool step_find(struct world *w, unsigned me, unsigned choice) {
  struct actor *a = actor_of(w, me);
  unsigned count = choice + 1;
  a->first = w->head;
  a->count = a->next = 0;
  if (w->head == w->tail) return choice == 0 && go(w, me, UNLOCK);
  if (w->head + count > w->tail) return false;
  for (unsigned i = 0; i < count; i++) {
    if (count > 1 && task_of(w, w->head + i) == THE_BLOCK) return false;
    a->data[i] = w->message[w->head + i];
  }
  a->count = (uint8_t)count;
  return go(w, me,
            is_without(NOTE_BEHIND_HEAD)    ? HEAD
            : is_without(NOTE_BEFORE_PLACE) ? NOTE
                                            : PLACE);
}

static bool takes_block(const struct world *w, unsigned me) {
  return task_of(w, w->actors[me].first) == THE_BLOCK;
}

static enum at behind_note(const struct world *w, unsigned me) {
  if (is_without(NOTE_BEHIND_HEAD)) return UNLOCK;
  return takes_block(w, me) ? TAKE : HEAD;
}

static bool step_place(struct world *w, unsigned me) {
  w->place = (uint8_t)(me + 1);
  return go(w, me, is_without(NOTE_BEFORE_PLACE) ? behind_note(w, me) : NOTE);
}

static bool step_note(struct world *w, unsigned me) {
  const struct actor *a = actor_of(w, me);
  w->rows[me].first = a->first;
  w->rows[me].count = a->count;
  return go(w, me, is_without(NOTE_BEFORE_PLACE) ? PLACE : behind_note(w, me));
}

/* The transaction that gives it the block; or there is no memory, and the note is struck out. */
static bool step_take(struct world *w, unsigned me, unsigned choice) {
  struct actor *a = actor_of(w, me);
  if (choice == 0) {
    claim_that(!(w->emptied >> a->first & 1), "a block is taken twice");
    w->emptied |= (uint8_t)(1u << a->first);
    w->taken = (uint8_t)(a->first + 1);
    return go(w, me, HEAD);
  }
  if (!w->failures_left) return false;
  w->failures_left--;
  a->count = 0;
  if (!is_without(KEEP_FAILED_NOTE)) w->rows[me].first = w->rows[me].count = 0;
  return go(w, me, UNLOCK);
}

static bool step_head(struct world *w, unsigned me) {
  const struct actor *a = actor_of(w, me);
  w->head = (uint8_t)(a->first + a->count);
  if (w->taken) return go(w, me, TAKEN);
  return go(w, me, is_without(NOTE_BEHIND_HEAD) ? PLACE : UNLOCK);
}

static bool step_taken(struct world *w, unsigned me) {
  w->taken = 0;
  return go(w, me, UNLOCK);
}

/* On to what was claimed; what was cancelled is passed over. */
static bool go_on(struct world *w, unsigned me) {
  struct actor *a = actor_of(w, me);
  while (a->next < a->count && a->data[a->next] & CANCELLED)
    a->next++;
  if (a->next == a->count) return go_to_work(w, me);
  return go(w, me, ADVANCE);
}

static bool step_unlock(struct world *w, unsigned me) {
  w->get_mutex = FREE;
  return go_on(w, me);
}

/* What is before it leaves the claim; unless the rest was taken back, with all behind it. */
static bool step_advance(struct world *w, unsigned me) {
  struct row *row = &w->rows[me];
  uint8_t number = (uint8_t)(actor_of(w, me)->first + actor_of(w, me)->next);
  uint8_t end = (uint8_t)(row->first + row->count);
  bool is_claimed = number >= row->first && number < end;
  if (is_doomed(w, me)) return leave(w, me);
  if (!is_claimed && !is_without(BEGIN_WHAT_WAS_REVOKED)) return go_to_work(w, me);
  if (is_claimed) row->first = number;
  if (is_claimed) row->count = (uint8_t)(end - number);
  return go(w, me, is_without(RUN_BEFORE_BEGIN) ? RUN : BEGIN);
}

static bool step_begin(struct world *w, unsigned me) {
  const struct actor *a = actor_of(w, me);
  w->rows[me].running = (uint8_t)(a->first + a->next + 1);
  return go(w, me, is_without(RUN_BEFORE_BEGIN) ? PUBLISH : RUN);
}

static bool step_run(struct world *w, unsigned me) {
  const struct actor *a = actor_of(w, me);
  uint8_t task = a->data[a->next];
  claim_that(!w->began[task], "a task runs twice");
  claim_that(task != THE_CANCELLED || !w->said, "a task runs that was cancelled");
  w->began[task] = 1;
  if (is_without(OVER_BEFORE_RESULT)) return go(w, me, OVER_NOTE);
  return go(w, me, is_without(RUN_BEFORE_BEGIN) ? BEGIN : PUBLISH);
}

static bool step_publish(struct world *w, unsigned me) {
  struct actor *a = actor_of(w, me);
  w->results[w->result_count++] = (uint8_t)(a->first + a->next++);
  return is_without(OVER_BEFORE_RESULT) ? go_on(w, me) : go(w, me, OVER_NOTE);
}

static bool step_over_note(struct world *w, unsigned me) {
  struct row *row = &w->rows[me];
  row->running |= OVER;
  if (is_without(FORGET_DOOM)) row->running &= (uint8_t)~DOOMED;
  return is_without(OVER_BEFORE_RESULT) ? go(w, me, PUBLISH) : go_on(w, me);
}

/* --- the owner's pump ----------------------------------------------------------------------- */

static uint8_t take_result(struct world *w) {
  uint8_t number = w->results[0];
  memmove(w->results, w->results + 1, NUMBERS - 1);
  w->results[NUMBERS - 1] = 0;
  w->result_count--;
  return number;
}

static void tell(struct world *w, uint8_t task, enum fate fate) {
  claim_that(w->told[task] == UNTOLD, "a task is told of twice");
  claim_that(task != THE_CANCELLED || !w->said || fate == STRUCK, "a cancelled task has a fate");
  claim_that(task != THE_CANCELLED || !w->refused || fate != STRUCK, "it was not to be cancelled");
  w->told[task] = (uint8_t)fate;
}

static bool has_lost(const struct world *w, unsigned row) {
  if (is_without(JUDGE_THE_LIVING)) return w->rows[row].worker && w->rows[row].count;
  return w->rows[row].worker && !w->actors[row].lives;
}

/* A worker that was killed before it enlisted has no row to be buried in. */
static bool hire_again(struct world *w, unsigned row) {
  if (w->rows[row].worker || w->actors[row].lives) return false;
  return go_fresh(w, row, ENLIST);
}

static bool settle(struct world *w, unsigned row) {
  actor_of(w, PUMP)->row = (uint8_t)row;
  if (is_without(NO_SETTLE)) return go(w, PUMP, DRAIN);
  return lock_get(w, PUMP, SETTLED);
}

static bool revoke(struct world *w, unsigned row) {
  if (!w->revokes_left || w->rows[row].count < 2) return false;
  w->revokes_left--;
  actor_of(w, PUMP)->row = (uint8_t)row;
  return is_without(REVOKE_WITHOUT_MUTEX) ? go(w, PUMP, REVOKE) : lock_get(w, PUMP, REVOKE);
}

/* The swap. */
static bool step_revoke(struct world *w, unsigned me) {
  struct actor *a = actor_of(w, me);
  struct row *row = &w->rows[a->row];
  uint8_t kept = is_without(REVOKE_THE_FIRST) ? 0 : 1;
  a->first = a->next = (uint8_t)(row->first + kept);
  a->count = row->count > kept ? (uint8_t)(row->count - kept) : 0;
  if (a->count) row->count = kept;
  return go(w, me, REVOKE_UNLOCK);
}

/* And on to putting them again. */
static bool step_revoke_unlock(struct world *w, unsigned me) {
  if (!is_without(REVOKE_WITHOUT_MUTEX)) w->get_mutex = FREE;
  return go(w, me, JUDGE);
}

static bool runs(const struct row *row) { return row->running && !(row->running & OVER); }

/* The swap; whom it fails for is left alone, as one who was not looked at. */
static bool doom(struct world *w, unsigned row) {
  if (!w->dooms_left || !runs(&w->rows[row])) return false;
  w->dooms_left--;
  w->doomed = w->rows[row].running;
  actor_of(w, PUMP)->row = (uint8_t)row;
  if (!is_without(KILL_BY_LOOKING)) w->rows[row].running |= DOOMED;
  return go(w, PUMP, KILL);
}

static bool step_kill(struct world *w, unsigned me) {
  unsigned row = actor_of(w, me)->row;
  w->shot = w->actors[row].lives ? (uint8_t)(row + 1) : 0;
  if (w->shot)
    kill_thread(w, row);
  else
    w->doomed = 0; /* it has left, or died of something else */
  return go_fresh(w, me, LOOP);
}

/* Takes a result; or buries who had a row; or hires one for it; or takes back what one claimed; or
 * kills one for what it runs. */
static bool step_loop(struct world *w, unsigned me, unsigned choice) {
  if (choice == 0) {
    if (!w->result_count) return false;
    actor_of(w, me)->seen = take_result(w);
    return go(w, me, TELL);
  }
  if (choice <= WORKERS) return has_lost(w, choice - 1) && settle(w, choice - 1);
  if (choice <= 2 * WORKERS) return hire_again(w, choice - 1 - WORKERS);
  if (choice <= 3 * WORKERS) return revoke(w, choice - 1 - 2 * WORKERS);
  return doom(w, choice - 1 - 3 * WORKERS);
}

static bool tell_result(struct world *w) {
  if (w->table_lock != FREE) return false;
  tell(w, task_of(w, actor_of(w, PUMP)->seen), RESULT);
  actor_of(w, PUMP)->seen = 0;
  return true;
}

static bool step_tell(struct world *w, unsigned me) {
  return tell_result(w) && go_fresh(w, me, LOOP);
}

static bool step_settled(struct world *w, unsigned me) {
  w->get_mutex = FREE;
  return go(w, me, is_without(JUDGE_BEFORE_RESULTS) ? READ_CLAIM : DRAIN);
}

static bool step_drain(struct world *w, unsigned me) {
  if (!w->result_count) return go(w, me, READ_CLAIM);
  actor_of(w, me)->seen = take_result(w);
  return go(w, me, DRAIN_TELL);
}

static bool step_drain_tell(struct world *w, unsigned me) {
  return tell_result(w) && go(w, me, DRAIN);
}

static bool step_read_claim(struct world *w, unsigned me) {
  struct actor *a = actor_of(w, me);
  a->first = a->next = w->rows[a->row].first;
  a->count = w->rows[a->row].count;
  return go(w, me, READ_RUNNING);
}

/* What is over, and all before it, is not of the claim. */
static void drop_finished(struct actor *a, uint8_t last) {
  if (last < a->first || last >= a->first + a->count) return;
  a->count = (uint8_t)(a->first + a->count - (last + 1));
  a->first = a->next = (uint8_t)(last + 1);
}

static bool step_read_running(struct world *w, unsigned me) {
  struct actor *a = actor_of(w, me);
  uint8_t running = w->rows[a->row].running & (uint8_t)~DOOMED;
  if (running & OVER)
    drop_finished(a, (uint8_t)((running & ~OVER) - 1));
  else
    a->seen = running;
  return go(w, me, CLEAR);
}

static bool step_clear(struct world *w, unsigned me) {
  struct row *row = &w->rows[actor_of(w, me)->row];
  row->first = row->count = row->running = 0;
  return go(w, me, CLEAR_WORKER);
}

static bool step_clear_worker(struct world *w, unsigned me) {
  w->rows[actor_of(w, me)->row].worker = 0;
  return go(w, me, JUDGE);
}

/* What nobody was told of: it died with the worker, or is put again under a new number. With the
 * table, like each put. A number is judged once: the table knows only a task's latest one. */
static void judge(struct world *w, uint8_t number, bool began) {
  uint8_t task = task_of(w, number);
  if (w->told[task] != UNTOLD || w->number_of[task] != number) return;
  claim_that(!began || w->shot != actor_of(w, PUMP)->row + 1 || number + 1 == w->doomed,
             "a task dies of a kill for another one");
  if (began)
    tell(w, task, DIED);
  else
    put_task(w, task);
}

/* Of a buried one, or of what was taken back. */
static bool judged_all(struct world *w, unsigned me) {
  uint8_t row = actor_of(w, me)->row;
  if (w->shot == row + 1 && !w->rows[row].worker) w->shot = w->doomed = 0;
  return go_fresh(w, me, LOOP);
}

static bool step_judge(struct world *w, unsigned me) {
  struct actor *a = actor_of(w, me);
  if (a->next == a->first + a->count) return judged_all(w, me);
  if (w->table_lock != FREE) return false;
  judge(w, a->next, a->seen == a->next + 1);
  a->next++;
  return true;
}

/* --- the owner's other thread --------------------------------------------------------------- */

/* Holds the table from its look at it to what it notes there. */
static bool step_cancel(struct world *w, unsigned me) {
  if (w->told[THE_CANCELLED] != UNTOLD) return go(w, me, CANCEL_DONE);
  w->table_lock = (uint8_t)(me + 1);
  actor_of(w, me)->first = w->number_of[THE_CANCELLED];
  return is_without(CANCEL_WITHOUT_MUTEX) ? go(w, me, LOOK) : lock_get(w, me, LOOK);
}

static bool step_look(struct world *w, unsigned me) {
  uint8_t number = actor_of(w, me)->first;
  if (number >= w->head || is_without(CANCEL_WITHOUT_LOOKING)) return go(w, me, OVERWRITE);
  w->refused = 1;
  return go(w, me, CANCEL_UNLOCK);
}

static bool step_overwrite(struct world *w, unsigned me) {
  w->message[actor_of(w, me)->first] |= CANCELLED;
  return go(w, me, CANCEL_UNLOCK);
}

static bool step_cancel_unlock(struct world *w, unsigned me) {
  if (!is_without(CANCEL_WITHOUT_MUTEX)) w->get_mutex = FREE;
  w->said = !w->refused;
  if (is_without(STRIKE_LATER)) w->table_lock = FREE;
  return go(w, me, STRIKE_OUT);
}

static bool step_strike_out(struct world *w, unsigned me) {
  if (!w->refused) tell(w, THE_CANCELLED, STRUCK);
  w->table_lock = FREE;
  return go_fresh(w, me, CANCEL_DONE);
}

/* --- who makes which step, in which function ------------------------------------------------ */

const struct step model_steps[STEPS] = {
    [LOCK_GET] = {.name = "lvri_channel_lock_get(): takes the mutex", .make = step_lock_get},
    [FINISH_HEAD] = {.name = "finish_taken(): stores the head", .make = step_finish_head},
    [FINISH_TAKEN] = {.name = "finish_taken(): clears ch_taken", .make = step_finish_taken},
    [STRIKE_LOOK] = {.name = "strike_claim(): compares note and head", .make = step_strike_look},
    [STRIKE] = {.name = "strike_claim(): strikes it out", .make = step_strike},
    [ENLIST] = {.name = "lvr_board_enlist()", .make = step_enlist},
    [FIND] = {.name = "get_batch(), take(): copies", .choose = step_find, .choices = CLAIM - 1},
    [PLACE] = {.name = "note_claim(): stores ch_claim", .make = step_place},
    [NOTE] = {.name = "note_claim(): stores ro_claim", .make = step_note},
    [TAKE] = {.name = "take_block(): the transaction", .choose = step_take, .choices = 1},
    [HEAD] = {.name = "lvri_channel_publish_head()", .make = step_head},
    [TAKEN] = {.name = "publish_taken(): clears ch_taken", .make = step_taken},
    [UNLOCK] = {.name = "try_get_many(): gives the mutex back", .make = step_unlock},
    [ADVANCE] = {.name = "advance_claim(): the swap", .make = step_advance},
    [BEGIN] = {.name = "lvr_board_begin(): stores ro_running", .make = step_begin},
    [RUN] = {.name = "the task's own code", .make = step_run},
    [PUBLISH] = {.name = "lvr_board_finish(): stores the tail", .make = step_publish},
    [OVER_NOTE] = {.name = "note_finished(): adds to ro_running", .make = step_over_note},
    [LOOP] = {.name = "lvr_board_take_until(), lvr_board_is_over()",
              .choose = step_loop,
              .choices = 4 * WORKERS},
    [TELL] = {.name = "tells of a result", .make = step_tell},
    [SETTLED] = {.name = "lvr_board_settle(): gives the mutex back", .make = step_settled},
    [DRAIN] = {.name = "lvr_board_take_until(), before it buries", .make = step_drain},
    [DRAIN_TELL] = {.name = "tells of it", .make = step_drain_tell},
    [READ_CLAIM] = {.name = "lvr_board_bury(): reads ro_claim", .make = step_read_claim},
    [READ_RUNNING] = {.name = "lvr_board_bury(): reads ro_running", .make = step_read_running},
    [CLEAR] = {.name = "clear(): ro_claim, ro_running", .make = step_clear},
    [CLEAR_WORKER] = {.name = "clear(): ro_worker", .make = step_clear_worker},
    [JUDGE] = {.name = "judges one task: tells of it, or lvr_board_put()", .make = step_judge},
    [REVOKE] = {.name = "lvr_board_revoke(): the swap", .make = step_revoke},
    [REVOKE_UNLOCK] = {.name = "lvr_board_revoke(): gives the mutex back",
                       .make = step_revoke_unlock},
    [KILL] = {.name = "kills whom lvr_board_doom() has marked", .make = step_kill},
    [CANCEL] = {.name = "lvr_board_cancel()", .make = step_cancel},
    [LOOK] = {.name = "overwrite(): looks at the head", .make = step_look},
    [OVERWRITE] = {.name = "overwrite(): stores", .make = step_overwrite},
    [CANCEL_UNLOCK] = {.name = "lvri_channel_overwrite(): gives the mutex back",
                       .make = step_cancel_unlock},
    [STRIKE_OUT] = {.name = "strikes it from the table", .make = step_strike_out},
    [CANCEL_DONE] = {.name = "is done"},
};

static bool make_step(struct world *w, unsigned me, unsigned choice) {
  const struct step *step = &model_steps[w->actors[me].at];
  if (step->choose) return step->choose(w, me, choice);
  return choice == 0 && step->make && step->make(w, me);
}

/* What is over and of no claim is as if it had never been: states that differ in it are one. */
static void forget_what_is_over(struct row *row) {
  uint8_t number = (uint8_t)((row->running & ~(OVER | DOOMED)) - 1);
  if (!(row->running & OVER)) return;
  if (number < row->first || number >= row->first + row->count) row->running &= DOOMED;
}

bool model_make(struct world *w, unsigned me, unsigned choice) {
  if (!make_step(w, me, choice)) return false;
  for (unsigned i = 0; i < WORKERS; i++)
    forget_what_is_over(&w->rows[i]);
  return true;
}

/* --- deaths --------------------------------------------------------------------------------- */

bool model_kill_process(struct world *w, unsigned me) {
  if (!w->deaths_left || !w->actors[me].lives || me == CANCELLER) return false;
  w->deaths_left--;
  kill_thread(w, me);
  if (me == PUMP) kill_thread(w, CANCELLER);
  return true;
}

/* --- the beginning -------------------------------------------------------------------------- */

struct world model_begin(struct bounds may) {
  struct world w = {.deaths_left = may.deaths,
                    .failures_left = 1,
                    .revokes_left = may.revokes,
                    .dooms_left = may.dooms};
  (void)go_fresh(&w, PUMP, LOOP);
  (void)go_fresh(&w, CANCELLER, may.cancels ? CANCEL : CANCEL_DONE);
  for (unsigned me = 0; me < WORKERS; me++)
    (void)step_enlist(&w, me);
  for (unsigned task = 0; task < TASKS; task++)
    put_task(&w, (uint8_t)task);
  return w;
}
