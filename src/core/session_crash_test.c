/* Deaths beside those of repair_test.c: of strangers that join, where the table and the ledgers
 * grow, of several repairers in a row, and while another process waits for what
 * the dead one holds. */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "core/process.h"
#include "core/repair.h"
#include "core/slots.h"
#include "testing/crash.h"
#include "testing/fixture.h"
#include "testing/test.h"

enum { MOST_OBJECTS = 60 };

struct state {
  lvr_session *s;
  struct lvri_handle *h[MOST_OBJECTS];
  unsigned objects;
  uint32_t embryos; /* of the survivor's */
  lvr_ref ref;      /* of the first object */
  uint64_t blocks;
};

static void set_up_with(struct state *state, unsigned objects) {
  state->s = fixture_session();
  for (unsigned i = 0; i < objects; i++)
    state->h[i] = fixture_object(state->s);
  state->objects = objects;
  lvri_object_ref(state->h[0], &state->ref);
  state->blocks = fixture_stats(state->s).blocks;
}

static void set_up(void *state) { set_up_with(state, 1); }

static void repair(void *argument) {
  const struct state *state = argument;
  CHECK(lvr_repair(state->s) >= 0);
}

/* A reference that travelled when its sender died goes on travelling. */
static void end_travels(struct state *state) {
  const struct lvri_object_shm *object = state->h[0]->object;
  CHECK(object->ob_travelling <= 1);
  lvr_ref lost = state->ref;
  lost.travels = 1;
  if (object->ob_travelling) CHECK_INT(lvr_object_unsend(state->s, &lost), 0);
}

static void check(void *argument, bool done) {
  struct state *state = argument;
  (void)done;
  fixture_check(state->s);
  end_travels(state);
  fixture_age_embryos(state->s);
  repair(state);
  struct lvr_session_stats stats = fixture_stats(state->s);
  CHECK_INT(stats.slots_running, 1);
  CHECK_INT(stats.slots_embryo, state->embryos);
  CHECK_INT(stats.slots_over + stats.slots_kept, 0);
  CHECK_INT(stats.objects, state->objects);
  for (unsigned i = 0; i < state->objects; i++)
    CHECK_INT(state->h[i]->object->ob_refs, 1);
  if (!state->embryos) CHECK_INT(stats.blocks, state->blocks);
  fixture_check(state->s);
}

/* The living get on: what was there can be used, and given back. */
static void tear_down(void *argument) {
  struct state *state = argument;
  struct lvri_handle *again;
  lvr_proc_id id = fixture_prepare(state->s);
  CHECK_INT(lvri_object_attach(state->s, &state->ref, LVRI_KIND_TEST, &again), 0);
  CHECK(again == state->h[0]);
  lvri_object_detach(again);
  CHECK_INT(lvr_proc_withdraw(state->s, id), 0);
  for (unsigned i = 0; i < state->objects; i++)
    lvri_object_detach(state->h[i]);
  CHECK_INT(fixture_stats(state->s).objects, 0);
  lvr_session_detach(state->s);
}

/* --- strangers -------------------------------------------------------------------------------- */

static void join(void *argument) {
  struct state *state = argument;
  lvr_session *t;
  struct lvri_handle *h, *own;
  lvr_ref ref;
  CHECK_INT(lvri_object_send(state->h[0], &ref), 0);
  CHECK_INT(lvr_session_attach(lvr_session_fd(state->s), 0, &t), 0);
  CHECK_INT(lvri_object_attach(t, &ref, LVRI_KIND_TEST, &h), 0);
  CHECK_INT(lvri_object_create(t, LVRI_KIND_TEST, 5000, &own), 0);
  CHECK(lvr_repair(t) >= 0);
  lvri_object_detach(h);
  lvr_session_detach(t);
}

static const struct crash_scenario joining = {
    "joining", sizeof(struct state), set_up, join, repair, check, tear_down};

TEST_WITHIN(whoever_dies_joining_leaves_nothing, 120) {
  (void)crash_run(&joining);
  (void)crash_run_repairer(&joining, 23);
  CHECK_INT(crash_unvisited("object.attach.entered"), 0);
}

TEST_WITHIN(repairers_may_die_in_a_row, 120) {
  (void)crash_run_at_random(&joining, 150, 200, 20261122);
}

/* What the dead one holds while the other wants it: a guard, the mutex of repairs. */
TEST_WITHIN(a_death_lets_those_go_on_who_wait, 120) {
  struct crash_tally tally = crash_run_beside(&joining, join);
  CHECK(tally.waits > tally.deaths / 4);
}

/* --- the table grows -------------------------------------------------------------------------- */

/* The first chunk is full but for the slot of the process that is going to die. */
static void fill_table(void *argument) {
  struct state *state = argument;
  set_up(state);
  state->embryos = LVRI_SLOTS_PER_CHUNK - 1 - 1 - 1; /* no slot 0; we; the victim */
  for (uint32_t i = 0; i < state->embryos; i++)
    (void)fixture_prepare(state->s);
}

static void grow_table(void *argument) {
  struct state *state = argument;
  lvr_proc_id first = fixture_prepare(state->s), second = fixture_prepare(state->s);
  CHECK(lvri_proc_index(first) >= LVRI_SLOTS_PER_CHUNK);
  CHECK_INT(lvr_proc_give(state->s, second, &state->ref), 0);
  CHECK_INT(lvri_proc_put_task(state->s, second, "abc", 3), 0);
  CHECK_INT(lvr_proc_withdraw(state->s, first), 0);
}

TEST_WITHIN(whoever_dies_while_the_table_grows_leaves_it_whole, 120) {
  static const struct crash_scenario scenario = {
      "table", sizeof(struct state), fill_table, grow_table, repair, check, tear_down};
  (void)crash_run(&scenario);
  (void)crash_run_repairer(&scenario, 31);
  CHECK_INT(crash_unvisited("slots.grow."), 0);
}

/* --- long ledgers ----------------------------------------------------------------------------- */

/* 16 and 32 entries fill two chunks: the next one makes a third. */
static void set_up_many(void *state) { set_up_with(state, 48); }

static void live_and_die(struct state *state) {
  for (unsigned i = 0; i < 20; i++)
    lvri_object_detach(state->h[i]);
  lvr_proc_announce(state->s, 3);
  _exit(0);
}

static void fork_with_many(void *argument) {
  struct state *state = argument;
  struct lvri_handle *own = fixture_object(state->s);
  lvr_proc_id child = fixture_prepare(state->s);
  int32_t status = 0;
  CHECK_INT(lvr_proc_fork_next(state->s, child), 0);
  pid_t pid = fork();
  if (pid == 0) live_and_die(state);
  int ended = test_join(pid);
  if (ended == -SIGKILL) (void)raise(SIGKILL); /* it died at a hit of its own: so do we */
  CHECK_INT(ended, 0);
  CHECK_INT(lvr_proc_wait_until(state->s, child, INT64_MAX, &status), 0);
  CHECK_INT(status, 3);
  CHECK_INT(lvr_proc_forget(state->s, child), 0);
  lvri_object_detach(own);
}

TEST_WITHIN(whoever_dies_with_a_long_ledger_leaves_nothing, 150) {
  static const struct crash_scenario scenario = {
      "ledgers", sizeof(struct state), set_up_many, fork_with_many, repair, check, tear_down};
  (void)crash_run(&scenario);
  (void)crash_run_at_random(&scenario, 150, 1200, 48);
  CHECK_INT(crash_unvisited("ledger.") + crash_unvisited("fork."), 0);
}

/* --- everybody at once ------------------------------------------------------------------------ */

/* Processes that die with what they have, one after the other, while others repair. */
static void work_and_die(void *argument) {
  struct state *state = argument;
  for (int i = 0; i < 3; i++)
    join(state);
  (void)fixture_object(state->s);
  (void)raise(SIGKILL);
}

TEST_WITHIN(many_may_die_at_once, 60) {
  struct state state = {.s = NULL};
  pid_t pids[8];
  set_up(&state);
  for (int round = 0; round < 10; round++) {
    for (int i = 0; i < 8; i++)
      pids[i] = test_fork(work_and_die, &state);
    for (int i = 0; i < 8; i++)
      CHECK_INT(test_join(pids[i]), -SIGKILL);
    repair(&state);
    check(&state, true);
  }
  tear_down(&state);
}
