/* Deaths at the board: a worker killed at every step of its work, and whoever buries it, too; the
 * same with a task cancelled by whoever takes over, and with the one who cancels; and a worker that
 * is doomed, which takes nothing with it but that task. Each task is told of once: its result, or
 * that its worker died, or that it was cancelled; one that was never begun is done by another. The
 * owner, too, killed as it buries and takes back: then nobody is left to be told, but the board
 * serves its workers to their end. */
#include "core/board_test.h"

enum { TASKS = 7 };

/* What the owner has been told; it outlives repairers, as the owner's own table does. */
struct ledger {
  uint8_t result[TASKS], died[TASKS], cancelled[TASKS], claimed[TASKS];
  uint32_t task_of[64]; /* by number: tasks that are put again have a new one */
};

struct state {
  lvr_session *s;
  lvr_board *b;
  struct ledger *l;
  uint64_t blocks;
};

static void setup(void *state) {
  struct state *x = state;
  x->s = new_session();
  x->blocks = fixture_stats(x->s).blocks;
  x->b = new_board(x->s);
  x->l = test_shared(sizeof(*x->l));
  for (uint32_t i = 0; i < TASKS; i++)
    x->l->task_of[i] = i;
}

static void teardown(void *state) {
  struct state *x = state;
  lvr_board_detach(x->b);
  CHECK_INT(lvr_session_check(x->s), 0);
  CHECK_INT(fixture_stats(x->s).blocks, x->blocks);
  lvr_session_detach(x->s);
  test_unshare(x->l, sizeof(*x->l));
}

/* Any process may be the one that goes on. */
static void be_the_owner(struct state *x) {
  lvri_board_shm(x->b)->bo_owner = lvri_session_self(x->s);
}

/* And notes what it is told. */
static void cancel(struct state *x, uint32_t task) {
  int error = lvr_board_cancel(x->b, task);
  if (error != 0) CHECK_INT(error, -ENOENT);
  if (error == 0)
    x->l->cancelled[task] = 1;
  else
    x->l->claimed[task] = 1;
}

/* --- of a worker ---------------------------------------------------------------------------- */

static void setup_tasks(void *state) {
  struct state *x = state;
  setup(state);
  put_tasks(x->b, TASKS);
}

static void be_a_worker(void *state) {
  struct state *x = state;
  CHECK_INT(lvr_board_enlist(x->b, 0), 0);
  CHECK_INT(work_some(x->b, 1, 0), 0);
  CHECK_INT(work_some(x->b, 3, 0), 0);
  CHECK_INT(work_some(x->b, 2, 0), 0);
}

static void take_results(struct state *x) {
  struct lvr_message m;
  while (lvr_board_take_until(x->b, &m, 0) == 0) {
    const struct answer *a = m.data;
    uint32_t task = x->l->task_of[a->number];
    CHECK_INT(a->square, task * task);
    CHECK(!x->l->result[task] && !x->l->died[task] && !x->l->cancelled[task]);
    x->l->result[task] = 1;
  }
}

static void put_again(struct state *x, uint32_t task) {
  uint32_t number;
  CHECK_INT(lvr_board_put(x->b, &task, sizeof(task), NULL, &number), 0);
  x->l->task_of[number] = task;
}

static void judge(struct state *x, const struct lvr_board_row *row) {
  for (uint32_t n = row->first; n != row->first + row->count; n++) {
    uint32_t task = x->l->task_of[n];
    if (x->l->result[task] || x->l->cancelled[task]) continue;
    if (row->is_running && row->running == n)
      x->l->died[task] = 1;
    else
      put_again(x, task);
  }
}

/* Any process that goes on: the channels are in order, and the dead is repaired. */
static void recover(void *state) {
  struct state *x = state;
  CHECK(lvr_repair(x->s) >= 0);
  if (lvr_board_is_over(x->b, 0)) CHECK_INT(lvr_board_settle(x->b, 0), 0);
  CHECK_INT(lvr_session_check(x->s), 0);
}

/* And is the next worker. */
static void bury_and_enlist(struct state *x) {
  struct lvr_board_row row;
  be_the_owner(x);
  if (lvr_board_is_over(x->b, 0)) {
    CHECK_INT(lvr_board_settle(x->b, 0), 0);
    take_results(x);
    CHECK_INT(lvr_board_bury(x->b, 0, &row), 0);
    judge(x, &row);
  }
  CHECK_INT(lvr_board_enlist(x->b, 0), 0);
}

/* The owner buries it and hires another, who does the rest. */
static void check(void *state, bool done) {
  struct state *x = state;
  uint32_t told = 0, dead = 0;
  bury_and_enlist(x);
  while (work_some(x->b, 3, 0) == 0) {
  }
  take_results(x);
  for (uint32_t i = 0; i < TASKS; i++) {
    told += (uint32_t)(x->l->result[i] + x->l->died[i] + x->l->cancelled[i]);
    dead += x->l->died[i];
  }
  CHECK_INT(told, TASKS);
  CHECK(dead <= (done ? 0 : 1));
}

static const struct crash_scenario working = {
    "board", sizeof(struct state), setup_tasks, be_a_worker, recover, check, teardown};

TEST_WITHIN(survives_a_worker_at_each_step, 60) {
  CHECK(crash_run(&working).deaths > 20);
  CHECK_INT(crash_unvisited("channel.claim."), 1); /* struck: by who takes over, in the next test */
}

TEST_WITHIN(survives_who_buries_it, 120) {
  CHECK(crash_run_repairer(&working, 3).repairer_deaths > 100);
}

static void setup_cancelled(void *state) {
  struct state *x = state;
  setup_tasks(state);
  cancel(x, 0);
  cancel(x, 2);
  cancel(x, 5);
}

/* Among what it claims there is something that it does not run. */
TEST_WITHIN(survives_a_worker_that_skips, 60) {
  static const struct crash_scenario skipping = {
      "skip", sizeof(struct state), setup_cancelled, be_a_worker, recover, check, teardown};
  CHECK(crash_run(&skipping).deaths > 20);
}

/* Doomed for its first task, which it ends for all that. */
static void be_doomed(void *state) {
  struct state *x = state;
  unsigned char buf[2 * LVR_MESSAGE_INLINE];
  uint32_t count, first;
  size_t used;
  CHECK_INT(lvr_board_enlist(x->b, 0), 0);
  CHECK_INT(lvr_board_claim_until(x->b, buf, sizeof(buf), 3, 0, &count, &used, &first), 0);
  CHECK_INT(lvr_board_begin(x->b, 0), 0);
  CHECK_INT(lvr_board_doom(x->b, 0, 0), 0);
  CHECK_INT(lvr_board_finish(x->b, &(struct answer){0, 0}, sizeof(struct answer), NULL), 0);
  CHECK_INT(lvr_board_begin(x->b, 1), -EPIPE);
  CHECK_INT(work_some(x->b, 1, 0), -EPIPE);
}

static void check_doomed(void *state, bool done) {
  struct state *x = state;
  check(state, done);
  for (uint32_t i = 1; i < TASKS; i++)
    CHECK(!x->l->died[i]);
}

TEST_WITHIN(survives_a_doomed_worker_at_each_step, 60) {
  static const struct crash_scenario doomed = {
      "doomed", sizeof(struct state), setup_tasks, be_doomed, recover, check_doomed, teardown};
  CHECK(crash_run(&doomed).deaths > 10);
  CHECK_INT(crash_unvisited("board.task."), 0);
  CHECK(crash_run_repairer(&doomed, 3).repairer_deaths > 20);
}

static void setup_blocks(void *state) {
  struct state *x = state;
  uint32_t number;
  setup(state);
  for (uint32_t i = 0; i < TASKS; i++) {
    lvr_block *block;
    CHECK_INT(lvr_block_create(x->s, i % 2 ? 100000 : 8, 0, &block), 0);
    CHECK_INT(lvr_board_put(x->b, &i, sizeof(i), block, &number), 0);
  }
}

/* Lets go of the first tasks' blocks. */
static void be_a_poor_worker(void *state) {
  struct state *x = state;
  struct lvr_message m;
  CHECK_INT(lvr_board_enlist(x->b, 0), 0);
  for (uint32_t i = 0; i < 3; i++) {
    CHECK_INT(lvr_board_claim_bare(x->b, i, &m), 0);
    CHECK(work_on(x->b, i, i));
  }
}

/* The tasks behind those have blocks; who works takes them. */
static void check_blocks(void *state, bool done) {
  struct state *x = state;
  struct lvr_message m;
  uint32_t number, task, gone = 0;
  bury_and_enlist(x);
  while (lvr_board_claim_block_until(x->b, &m, 0, &number) == 0) {
    memcpy(&task, m.data, sizeof(task));
    CHECK(work_on(x->b, number, task));
    lvr_message_fini(&m);
  }
  take_results(x);
  for (uint32_t i = 0; i < TASKS; i++) {
    CHECK_INT(x->l->result[i] + x->l->died[i], 1);
    gone += x->l->died[i];
  }
  CHECK(gone <= (done ? 0 : 1));
}

TEST_WITHIN(survives_a_worker_that_lets_blocks_go, 60) {
  static const struct crash_scenario poor = {
      "poor",  sizeof(struct state), setup_blocks, be_a_poor_worker,
      recover, check_blocks,         teardown};
  CHECK(crash_run(&poor).deaths > 40);
}

/* Whoever goes on does not settle first: he takes the mutex over in order to cancel. */
static void cancel_the_rest(void *state) {
  struct state *x = state;
  be_the_owner(x);
  for (uint32_t task = 1; task < TASKS; task++)
    cancel(x, task);
  CHECK(lvr_repair(x->s) >= 0);
}

static void check_the_rest(void *state, bool done) {
  struct state *x = state;
  for (uint32_t i = 1; i < TASKS; i++)
    CHECK(x->l->cancelled[i] + x->l->claimed[i] == 1);
  check(state, done);
}

static const struct crash_scenario cancelling = {
    "cancel the rest", sizeof(struct state), setup_tasks, be_a_worker,
    cancel_the_rest,   check_the_rest,       teardown};

TEST_WITHIN(what_is_cancelled_is_not_in_a_dead_hand, 60) {
  CHECK(crash_run(&cancelling).deaths > 20);
}

TEST_WITHIN(survives_who_cancels_it, 120) {
  CHECK(crash_run_repairer(&cancelling, 3).repairer_deaths > 100);
}

/* --- of who cancels ------------------------------------------------------------------------- */

enum { LONG = 300 };

/* In several segments; the first task is in a living worker's hands. */
static void setup_long_tasks(void *state) {
  struct state *x = state;
  unsigned char bytes[LONG] = {0}, buf[2 * LVR_MESSAGE_INLINE];
  uint32_t number, count, first;
  size_t used;
  setup(state);
  for (uint32_t i = 0; i < TASKS; i++) {
    memcpy(bytes, &i, sizeof(i));
    CHECK_INT(lvr_board_put(x->b, bytes, sizeof(bytes), NULL, &number), 0);
  }
  CHECK_INT(lvr_board_enlist(x->b, 0), 0);
  CHECK_INT(lvr_board_claim_until(x->b, buf, sizeof(buf), 1, 0, &count, &used, &first), 0);
}

static bool is_to_be_cancelled(uint32_t task) { return task == 1 || task == 4; }

static void cancel_some(void *state) {
  struct state *x = state;
  be_the_owner(x);
  for (uint32_t task = 0; task < TASKS; task++)
    if (is_to_be_cancelled(task)) cancel(x, task);
}

/* Claims what there is, and notes which of it would be run. */
static void claim_all(struct state *x) {
  unsigned char buf[2 * LVR_MESSAGE_INLINE];
  uint32_t count, first, task;
  size_t used;
  while (lvr_board_claim_until(x->b, buf, sizeof(buf), 1, 0, &count, &used, &first) == 0) {
    memcpy(&task, buf + sizeof(uint32_t), sizeof(task));
    if (task != LVR_BOARD_CANCELLED) CHECK_INT(task, first);
    if (task == LVR_BOARD_CANCELLED) CHECK(is_to_be_cancelled(first));
    CHECK(!x->l->result[first] && !x->l->died[first]);
    *(task == LVR_BOARD_CANCELLED ? &x->l->died[first] : &x->l->result[first]) = 1;
  }
}

static void claim_beside(void *state) {
  struct state *x = state;
  CHECK_INT(lvr_board_enlist(x->b, 1), 0);
  claim_all(x);
}

static void recover_tasks(void *state) {
  struct state *x = state;
  CHECK(lvr_repair(x->s) >= 0);
  CHECK_INT(lvr_board_settle(x->b, ROWS - 1), 0); /* nobody's row: only through the mutexes */
  CHECK_INT(lvr_session_check(x->s), 0);
}

static void check_cancelled(void *state, bool done) {
  struct state *x = state;
  struct lvr_board_row row;
  recover_tasks(state);
  lvr_board_look(x->b, 0, &row);
  CHECK_INT(row.first, 0);
  CHECK_INT(row.count, 1);
  claim_all(x);
  for (uint32_t i = 1; i < TASKS; i++) {
    CHECK_INT(x->l->result[i] + x->l->died[i], 1);
    CHECK(!x->l->cancelled[i] || !x->l->result[i]);
    CHECK(!x->l->claimed[i] || x->l->result[i]);
    CHECK(!done || !is_to_be_cancelled(i) || x->l->cancelled[i] || x->l->claimed[i]);
  }
}

static const struct crash_scenario canceller = {"canceller", sizeof(struct state), setup_long_tasks,
                                                cancel_some, recover_tasks,        check_cancelled,
                                                teardown};

TEST_WITHIN(survives_who_cancels_at_each_step, 60) {
  CHECK(crash_run(&canceller).deaths > 5);
  CHECK_INT(crash_unvisited("channel.overwrite."), 0);
  CHECK(crash_run_repairer(&canceller, 1).repairer_deaths > 20);
}

/* Else it would take what is about to be cancelled. */
TEST(a_claim_waits_for_who_cancels) {
  struct state x = {0};
  setup_long_tasks(&x);
  pid_t who_cancels = crash_stop_at("channel.overwrite.found", 1, cancel_some, &x);
  pid_t who_claims = test_fork(claim_beside, &x);
  await_asleep(who_claims);
  test_continue(who_cancels);
  CHECK_INT(test_join(who_cancels), 0);
  CHECK_INT(test_join(who_claims), 0);
  CHECK(x.l->cancelled[1]);
  check_cancelled(&x, true);
  teardown(&x);
}

TEST_WITHIN(a_claim_goes_on_when_who_cancels_dies, 60) {
  CHECK(crash_run_beside(&canceller, claim_beside).deaths > 5);
}

/* --- of the owner ---------------------------------------------------------------------------- */

/* We are the worker of the first row, with tasks in hand; that of the second has died in one. */
enum { IN_HAND = 3 };

static void die_in_a_task(void *state) {
  struct state *x = state;
  unsigned char buf[2 * LVR_MESSAGE_INLINE];
  uint32_t count, first;
  size_t used;
  CHECK_INT(lvr_board_enlist(x->b, 1), 0);
  CHECK_INT(lvr_board_claim_until(x->b, buf, sizeof(buf), 2, 0, &count, &used, &first), 0);
  CHECK_INT(lvr_board_begin(x->b, first), 0);
}

static void setup_owned(void *state) {
  struct state *x = state;
  unsigned char buf[2 * LVR_MESSAGE_INLINE];
  uint32_t count, first;
  size_t used;
  setup_tasks(state);
  CHECK_INT(lvr_board_enlist(x->b, 0), 0);
  CHECK_INT(lvr_board_claim_until(x->b, buf, sizeof(buf), IN_HAND, 0, &count, &used, &first), 0);
  CHECK_INT(count, IN_HAND);
  CHECK_INT(test_join(test_fork(die_in_a_task, x)), 0);
}

static void bury_and_revoke(void *state) {
  struct state *x = state;
  struct lvr_board_row row;
  uint32_t first, count;
  be_the_owner(x);
  CHECK_INT(lvr_board_settle(x->b, 1), 0);
  CHECK_INT(lvr_board_bury(x->b, 1, &row), 0);
  judge(x, &row);
  CHECK_INT(lvr_board_revoke(x->b, 0, &first, &count), 0);
  for (uint32_t n = first; n != first + count; n++)
    put_again(x, x->l->task_of[n]);
}

/* What it said of tasks is gone with it. What is left is a board whose mutexes pass on, a row that
 * is free and empty or can be buried, and a worker that does what is still its own, and then what
 * waits. */
static void check_owned(void *state, bool done) {
  struct state *x = state;
  struct lvr_board_row row;
  uint32_t begun = 0;
  for (uint32_t n = 0; n < IN_HAND; n++)
    begun += work_on(x->b, n, n);
  CHECK(begun == 1 || (begun == IN_HAND && !done));
  while (work_some(x->b, 3, 0) == 0) {
  }
  CHECK_INT(lvr_board_waiting(x->b), 0);
  bool buried = lvri_board_worker(x->b, 1) == 0;
  CHECK(buried || !done);
  if (!buried) CHECK_INT(lvr_board_settle(x->b, 1), 0);
  if (!buried) CHECK_INT(lvr_board_bury(x->b, 1, &row), 0);
  lvr_board_look(x->b, 1, &row);
  CHECK(row.worker == 0 && row.count == 0 && !row.is_running);
}

TEST_WITHIN(survives_its_owner_at_each_step, 60) {
  static const struct crash_scenario owning = {
      "owner", sizeof(struct state), setup_owned, bury_and_revoke, recover, check_owned, teardown};
  CHECK(crash_run(&owning).deaths > 20);
  CHECK_INT(crash_unvisited("board.row.cleared"), 0);
  CHECK_INT(crash_unvisited("board.claim.revoked"), 0);
}

/* --- deaths at random ----------------------------------------------------------------------- */

static void work_until_killed(void *argument) {
  struct crew *c = argument;
  CHECK_INT(lvr_board_enlist(c->b, c->row), 0);
  while (work_some(c->b, 16, LVR_FOREVER) == 0) {
  }
}

struct random_run {
  struct crew crew;
  pid_t workers[ROWS];
  uint8_t *told;
  uint32_t *task_of; /* by number */
  uint32_t numbers, left, kills, died, cancelled, revoked, doomed;
};

static void take_all(struct random_run *r) {
  struct lvr_message m;
  while (lvr_board_take_until(r->crew.b, &m, 0) == 0) {
    const struct answer *a = m.data;
    uint32_t task = r->task_of[a->number];
    CHECK(!r->told[task]);
    CHECK_INT(a->square, task * task);
    r->told[task] = 1;
    r->left--;
  }
}

static struct lvr_board_row bury(struct random_run *r, uint32_t row_index) {
  struct lvr_board_row row;
  CHECK_INT(lvr_board_settle(r->crew.b, row_index), 0);
  take_all(r);
  CHECK_INT(lvr_board_bury(r->crew.b, row_index, &row), 0);
  for (uint32_t n = row.first; n != row.first + row.count; n++) {
    uint32_t task = r->task_of[n], number;
    if (r->told[task]) continue;
    if (row.is_running && row.running == n) r->died++;
    CHECK_INT(lvr_board_put(r->crew.b, &task, sizeof(task), NULL, &number), 0);
    r->task_of[number] = task;
    r->numbers = number + 1;
  }
  r->crew.row = row_index;
  r->workers[row_index] = test_fork(work_until_killed, &r->crew);
  return row;
}

static void shoot(struct random_run *r, uint32_t row_index) {
  struct lvr_board_row row;
  lvr_board_look(r->crew.b, row_index, &row);
  if (row.worker == 0) return; /* not there yet */
  test_kill(r->workers[row_index]);
  r->kills++;
  (void)bury(r, row_index);
}

/* For what it runs, and for nothing else: it may be quicker, and leave. */
static void shoot_for_its_task(struct random_run *r, uint32_t row_index) {
  struct lvr_board_row row;
  lvr_board_look(r->crew.b, row_index, &row);
  int error = lvr_board_doom(r->crew.b, row_index, row.running);
  if (error != 0) CHECK_INT(error, -ENOENT);
  if (error != 0) return;
  CHECK_INT(kill(r->workers[row_index], SIGKILL), 0);
  int status = test_join(r->workers[row_index]);
  CHECK(status == 0 || status == -SIGKILL);
  struct lvr_board_row last = bury(r, row_index);
  CHECK(last.is_doomed);
  CHECK(!last.is_running || last.running == row.running);
  r->doomed++;
}

/* The rest of a claim, to be put again. */
static void take_back(struct random_run *r, uint32_t row_index) {
  uint32_t first, count;
  int error = lvr_board_revoke(r->crew.b, row_index, &first, &count);
  if (error != 0) CHECK_INT(error, -ENOENT);
  if (error != 0) return;
  for (uint32_t n = first; n != first + count; n++) {
    uint32_t task = r->task_of[n];
    if (r->told[task]) continue; /* cancelled */
    CHECK_INT(lvr_board_put(r->crew.b, &task, sizeof(task), NULL, &r->numbers), 0);
    r->task_of[r->numbers++] = task;
    r->revoked++;
  }
}

/* One of those that wait, if it still does: then it counts as told, and a result would be a fault.
 */
static void cancel_one(struct random_run *r, uint64_t *seed) {
  uint32_t waiting = lvr_board_waiting(r->crew.b);
  if (waiting == 0) return;
  uint32_t number = r->numbers - 1 - test_random(seed) % waiting;
  if (r->told[r->task_of[number]]) return;
  int error = lvr_board_cancel(r->crew.b, number);
  if (error != 0) CHECK_INT(error, -ENOENT);
  if (error != 0) return;
  r->told[r->task_of[number]] = 1;
  r->cancelled++;
  r->left--;
}

TEST_WITHIN(tells_of_each_task_once_whoever_is_killed, 60) {
  enum { TASKS_MANY = 20000, NUMBERS = 60000 };
  struct random_run r = {.crew = {.s = new_session()}, .numbers = TASKS_MANY, .left = TASKS_MANY};
  uint64_t seed = test_seed();
  task_ns = 20 * MS / 1000;
  r.crew.b = new_board(r.crew.s);
  r.told = test_shared(TASKS_MANY);
  r.task_of = test_shared(NUMBERS * sizeof(*r.task_of));
  for (uint32_t i = 0; i < TASKS_MANY; i++)
    r.task_of[i] = i;
  put_tasks(r.crew.b, TASKS_MANY);
  for (; r.crew.row < ROWS; r.crew.row++)
    r.workers[r.crew.row] = test_fork(work_until_killed, &r.crew);
  for (; r.left > 0; take_all(&r)) {
    CHECK_INT(lvri_os_sleep_until(in_ns(test_random(&seed) % MS)), 0);
    if (test_random(&seed) % 4 == 0) shoot(&r, test_random(&seed) % ROWS);
    if (test_random(&seed) % 8 == 0) shoot_for_its_task(&r, test_random(&seed) % ROWS);
    for (uint32_t i = test_random(&seed) % 8; i > 0; i--)
      cancel_one(&r, &seed);
    for (uint32_t i = test_random(&seed) % 8; i > 0; i--)
      take_back(&r, test_random(&seed) % ROWS);
  }
  CHECK(r.cancelled > 20);
  CHECK(r.revoked > 20);
  CHECK(r.doomed > 0);
  for (uint32_t i = 0; i < ROWS; i++)
    test_kill(r.workers[i]);
  CHECK(lvr_repair(r.crew.s) >= 0);
  lvr_board_detach(r.crew.b);
  CHECK_INT(lvr_session_check(r.crew.s), 0);
}
