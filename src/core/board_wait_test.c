/* Who waits for the board: for results, for the ends of workers; who cuts that short; and who
 * closes it, or dies, as workers wait for tasks. */
#include "base/crashpoint.h"
#include "core/board_test.h"

/* Idle, and nobody else to tell of it but the kernel. */
TEST(a_wait_ends_with_a_worker) {
  lvr_session *s = new_session();
  struct crew crew = {s, new_board(s), 3};
  struct lvr_board_row row;
  pid_t worker = test_fork(sleep_for_ever, &crew);
  while (lvr_board_look(crew.b, 3, &row), row.worker == 0)
    CHECK_INT(lvr_board_wait_until(crew.b, in_ns(SEC / 100)), -ETIMEDOUT);
  CHECK_INT(lvr_board_wait_until(crew.b, in_ns(SEC / 100)), -ETIMEDOUT);
  CHECK(!lvr_board_is_over(crew.b, 3));
  test_kill(worker);
  int64_t since_ns = lvri_os_now_ns();
  CHECK_INT(lvr_board_wait_until(crew.b, in_ns(5 * SEC)), 0);
  CHECK(lvri_os_now_ns() - since_ns < SEC);
  CHECK(lvr_board_is_over(crew.b, 3));
  CHECK_INT(lvr_board_settle(crew.b, 3), 0);
  CHECK_INT(lvr_board_bury(crew.b, 3, &row), 0);
  CHECK_INT(row.count, 0);
  CHECK_INT(lvr_board_wait_until(crew.b, in_ns(SEC / 100)), -ETIMEDOUT);
  CHECK_INT(lvr_board_enlist(crew.b, 3), 0);
  lvr_board_detach(crew.b);
}

TEST(a_watch_is_not_for_results) {
  lvr_session *s = new_session();
  lvr_board *b = new_board(s);
  put_tasks(b, 1);
  CHECK_INT(lvr_board_enlist(b, 0), 0);
  CHECK_INT(lvr_board_wait_until(b, 0), -ETIMEDOUT);
  CHECK_INT(work_some(b, 1, 0), 0);
  CHECK_INT(lvr_board_wait_until(b, 0), 0);
  CHECK_INT(lvr_board_watch_until(b, 0), -ETIMEDOUT);
  CHECK_INT(lvr_board_watch_until(b, in_ns(SEC / 100)), -ETIMEDOUT);
  lvr_board_detach(b);
}

/* It comes between the moment when they saw nothing to do and their sleep. */
TEST(an_interrupt_that_comes_early_is_kept) {
  lvr_session *s = new_session();
  lvr_board *b = new_board(s);
  lvr_board_interrupt(b);
  lvr_board_interrupt(b);
  CHECK_INT(lvr_board_wait_until(b, in_ns(10 * SEC)), -ECANCELED);
  CHECK_INT(lvr_board_wait_until(b, 0), -ETIMEDOUT);
  CHECK_INT(lvr_board_watch_until(b, 0), -ECANCELED);
  CHECK_INT(lvr_board_watch_until(b, in_ns(SEC / 100)), -ETIMEDOUT);
  lvr_board_detach(b);
}

enum { WAITERS = 4 };

/* Threads of the owner, the first ones asleep when the last one does something. Nobody looks by
 * himself. */
struct vigil {
  struct crew crew;
  int wanted; /* what the sleepers get */
  bool watch[WAITERS];
  void (*wake)(struct vigil *v);
  _Atomic uint32_t threads, tids[WAITERS];
  _Atomic uint32_t *may_enlist;
  pid_t worker;
};

static void sleep_or_wake(void *argument) {
  struct vigil *v = argument;
  uint32_t me = lvri_fetch_add_relaxed_u32(&v->threads, 1);
  int64_t deadline_ns = in_ns(15 * SEC);
  if (me < WAITERS) {
    lvri_store_release_u32(&v->tids[me], (uint32_t)lvri_os_tid());
    CHECK_INT(v->watch[me] ? lvr_board_watch_until(v->crew.b, deadline_ns)
                           : lvr_board_wait_until(v->crew.b, deadline_ns),
              v->wanted);
    CHECK(lvri_os_now_ns() < deadline_ns - 5 * SEC); /* not by a look at the end */
    return;
  }
  for (uint32_t i = 0; i < WAITERS; i++) {
    await_u32(&v->tids[i], 1);
    await_asleep((pid_t)lvri_load_relaxed_u32(&v->tids[i]));
  }
  v->wake(v);
}

static void wait_all(struct vigil *v) {
  lvri_relook_ns = 60 * SEC;
  test_threads(WAITERS + 1, sleep_or_wake, v);
  lvr_board_detach(v->crew.b);
}

static void hold_vigil(struct vigil *v) {
  v->watch[1] = v->watch[3] = true;
  wait_all(v);
}

static void interrupt(struct vigil *v) { lvr_board_interrupt(v->crew.b); }

TEST(an_interrupt_ends_all_waits) {
  lvr_session *s = new_session();
  struct vigil v = {.crew = {s, new_board(s), 0}, .wanted = -ECANCELED, .wake = interrupt};
  hold_vigil(&v);
}

static void finish_a_task(struct vigil *v) { CHECK_INT(work_some(v->crew.b, 1, 0), 0); }

/* It lies there for all, but wakes one. */
TEST(a_result_ends_all_waits) {
  lvr_session *s = new_session();
  struct vigil v = {.crew = {s, new_board(s), 0}, .wake = finish_a_task};
  put_tasks(v.crew.b, 1);
  CHECK_INT(lvr_board_enlist(v.crew.b, 0), 0);
  wait_all(&v);
}

static void enlist_and_sleep(void *argument) {
  struct vigil *v = argument;
  await_u32(v->may_enlist, 1);
  sleep_for_ever(&v->crew);
}

static void await_the_worker(struct vigil *v) {
  struct lvr_board_row row;
  while (lvr_board_look(v->crew.b, v->crew.row, &row), row.worker == 0)
    (void)sched_yield();
}

static void kill_the_worker(struct vigil *v) { test_kill(v->worker); }

static void hire(struct vigil *v) {
  v->may_enlist = test_shared(sizeof(*v->may_enlist));
  v->worker = test_fork(enlist_and_sleep, v);
}

TEST(a_death_ends_all_waits) {
  lvr_session *s = new_session();
  struct vigil v = {.crew = {s, new_board(s), 1}, .wake = kill_the_worker};
  hire(&v);
  lvri_store_release_u32(v.may_enlist, 1);
  await_the_worker(&v);
  hold_vigil(&v);
}

static void enlist_and_kill(struct vigil *v) {
  lvri_store_release_u32(v->may_enlist, 1);
  await_the_worker(v);
  await_asleep(v->worker); /* behind its news */
  test_kill(v->worker);
}

/* There was no such worker when they fell asleep. */
TEST(a_death_of_who_came_later_ends_all_waits) {
  lvr_session *s = new_session();
  struct vigil v = {.crew = {s, new_board(s), 1}, .wake = enlist_and_kill};
  hire(&v);
  hold_vigil(&v);
}

/* --- closing -------------------------------------------------------------------------------- */

static void await_the_close(void *argument) {
  lvr_board *b = argument;
  CHECK_INT(lvr_board_enlist(b, 0), 0);
  CHECK_INT(work_some(b, 1, in_ns(10 * SEC)), -EPIPE);
}

/* Not 50 ms later. */
TEST(a_close_wakes_the_workers) {
  lvr_session *s = new_session();
  lvr_board *b = new_board(s);
  lvri_relook_ns = 60 * SEC;
  pid_t pid = crash_stop_at("channel.wait.armed", 1, await_the_close, b);
  test_continue(pid);
  await_asleep(pid);
  lvr_board_close(b);
  CHECK_INT(test_join(pid), 0);
  lvr_board_detach(b);
}

struct closing {
  lvr_board *b;
  _Atomic uint32_t *refused; /* 1: the put was not, 2: it was */
};

static void own_and_put(void *argument) {
  struct closing *c = argument;
  uint32_t number = 0;
  lvri_board_shm(c->b)->bo_owner = lvri_session_self(c->b->handle.session);
  int error = lvr_board_put(c->b, &number, sizeof(number), NULL, &number);
  if (error) CHECK_INT(error, -EPIPE);
  lvri_store_release_u32(c->refused, error ? 2 : 1);
  CHECK_INT(lvr_board_wait_until(c->b, LVR_FOREVER), 0);
}

static void close_and_sleep(void *argument) {
  lvr_board_close(argument);
  (void)pause();
}

/* No worker is told that there is nothing more before that is so, whoever closes. */
TEST(a_close_waits_for_the_task_of_a_put) {
  lvr_session *s = new_session();
  struct closing c = {new_board(s), test_shared(sizeof(_Atomic uint32_t))};
  pid_t owner = crash_stop_at("channel.put.looked", 1, own_and_put, &c);
  pid_t closer = test_fork(close_and_sleep, c.b);
  await_asleep(closer);
  CHECK_INT(lvr_board_enlist(c.b, 0), 0);
  CHECK_INT(work_some(c.b, 1, 0), -ETIMEDOUT);
  test_continue(owner);
  await_u32(c.refused, 1);
  CHECK_INT(lvri_load_relaxed_u32(c.refused), 1);
  CHECK_INT(work_some(c.b, 1, in_ns(10 * SEC)), 0);
  CHECK_INT(work_some(c.b, 1, in_ns(10 * SEC)), -EPIPE);
  CHECK_INT(test_join(owner), 0);
  test_kill(closer);
  CHECK(lvr_repair(s) >= 0);
  lvr_board_detach(c.b);
}

static void close_board(void *argument) { lvr_board_close(argument); }

/* The kernel gives it the mutex of the dead. */
TEST(a_close_outlives_who_puts) {
  lvr_session *s = new_session();
  struct closing c = {new_board(s), test_shared(sizeof(_Atomic uint32_t))};
  pid_t owner = crash_stop_at("channel.put.looked", 1, own_and_put, &c);
  pid_t closer = test_fork(close_board, c.b);
  await_asleep(closer);
  CHECK_INT(lvri_load_acquire_u32(&c.b->tasks.shm->ch_closed), 0);
  test_kill(owner);
  CHECK_INT(test_join(closer), 0);
  CHECK_INT(lvri_load_acquire_u32(&c.b->tasks.shm->ch_closed), LVRI_CHANNEL_NO_WRITER);
  CHECK_INT(lvr_board_waiting(c.b), 0);
  CHECK(lvr_repair(s) >= 0);
  lvr_board_detach(c.b);
}

/* What one worker was told is so for all, and for who puts. */
TEST(a_close_is_not_taken_back_with_who_made_it) {
  lvr_session *s = new_session();
  lvr_board *b = new_board(s);
  uint32_t number = 0;
  pid_t sleeper = test_fork(await_the_close, b);
  await_asleep(sleeper);
  pid_t closer = crash_stop_at("board.tasks.closed", 1, close_board, b);
  CHECK_INT(lvr_board_enlist(b, 1), 0);
  CHECK_INT(work_some(b, 1, 0), -EPIPE);
  test_kill(closer);
  CHECK(lvr_repair(s) >= 0);
  CHECK_INT(work_some(b, 1, 0), -EPIPE);
  CHECK_INT(lvr_board_put(b, &number, sizeof(number), NULL, &number), -EPIPE);
  CHECK_INT(test_join(sleeper), 0);
  lvr_board_detach(b);
}

/* --- the end of the owner ------------------------------------------------------------------- */

static void own_until_killed(void *argument) {
  lvr_board *b = argument;
  lvri_board_shm(b)->bo_owner = lvri_session_self(b->handle.session);
  CHECK_INT(lvr_board_wait_until(b, LVR_FOREVER), 0);
}

static void work_until_closed(void *argument) {
  struct crew *c = argument;
  CHECK_INT(lvr_board_enlist(c->b, c->row), 0);
  while (work_some(c->b, 1, LVR_FOREVER) == 0) {
  }
}

static void work_at_leisure(void *argument) {
  task_ns = 15 * MS / 1000; /* whoever waits for a result has gone to sleep */
  work_until_closed(argument);
}

/* Each result would wake the owner, who has nothing else to do than to take it. */
TEST(results_that_follow_one_another_are_taken_together) {
  enum { MANY = 4000 };
  struct crew c = {.s = new_session()};
  uint32_t waits = 0, count;
  unsigned char buf[2 * LVR_MESSAGE_INLINE];
  size_t bytes;
  c.b = new_board(c.s);
  put_tasks(c.b, MANY);
  lvr_board_close(c.b);
  pid_t worker = test_fork(work_at_leisure, &c);
  for (uint32_t taken = 0; taken < MANY; taken += count, waits++) {
    CHECK_INT(lvr_board_wait_until(c.b, in_ns(5 * SEC)), 0);
    CHECK_INT(lvr_board_take_many_until(c.b, buf, sizeof(buf), MANY, 0, &count, &bytes), 0);
  }
  CHECK(waits < MANY / 2);
  CHECK_INT(test_join(worker), 0);
  lvr_board_detach(c.b);
}

static int cut_short(struct crew *c) {
  lvr_board_interrupt(c->b);
  return lvr_board_wait_until(c->b, in_ns(5 * SEC));
}

/* Who has rested in vain is not in haste any more. */
TEST(one_task_for_each_worker_is_no_backlog_to_rest_behind) {
  struct crew c = {.s = new_session()};
  uint32_t number;
  c.b = new_board(c.s);
  put_tasks(c.b, ROWS);
  lvri_store_relaxed_u32(&c.b->hasty, 1);
  CHECK_INT(cut_short(&c), -ECANCELED);
  CHECK_INT(lvri_load_relaxed_u32(&c.b->hasty), 1);
  CHECK_INT(lvr_board_put(c.b, &number, sizeof(number), NULL, &number), 0);
  CHECK_INT(cut_short(&c), -ECANCELED);
  CHECK_INT(lvri_load_relaxed_u32(&c.b->hasty), 0);
  lvr_board_detach(c.b);
}

static void call(struct crew *c) {
  unsigned char buf[2 * LVR_MESSAGE_INLINE];
  uint32_t count = 0, number;
  size_t bytes;
  CHECK_INT(lvr_board_put(c->b, &count, sizeof(count), NULL, &number), 0);
  CHECK_INT(lvr_board_wait_until(c->b, in_ns(5 * SEC)), 0);
  CHECK_INT(lvr_board_take_many_until(c->b, buf, sizeof(buf), 1, 0, &count, &bytes), 0);
}

TEST(a_short_wait_makes_haste_and_a_long_one_ends_it) {
  struct crew c = {.s = new_session()};
  int64_t deadline_ns = in_ns(20 * SEC);
  c.b = new_board(c.s);
  pid_t worker = test_fork(work_until_closed, &c);
  while (!lvri_load_relaxed_u32(&c.b->hasty)) {
    CHECK(lvri_os_now_ns() < deadline_ns);
    call(&c);
  }
  CHECK_INT(lvr_board_wait_until(c.b, in_ns(SEC / 1000)), -ETIMEDOUT);
  CHECK_INT(lvri_load_relaxed_u32(&c.b->hasty), 0);
  lvr_board_close(c.b);
  CHECK_INT(test_join(worker), 0);
  lvr_board_detach(c.b);
}

static void interrupt_later(void *board) {
  (void)raise(SIGSTOP);
  lvr_board_interrupt(board);
}

/* A child that is none of the session's keeps nothing: where the board was, another may be. */
TEST(who_is_in_no_session_interrupts_nobody) {
  lvr_session *s = new_session();
  lvr_board *b = new_board(s);
  lvri_off off = b->handle.off;
  CHECK_INT(lvr_proc_fork_next(s, LVR_PROC_NOBODY), 0);
  pid_t pid = test_fork(interrupt_later, b);
  test_await_stop(pid);
  lvr_board_detach(b);
  b = new_board(s);
  CHECK_INT(b->handle.off, off);
  test_continue(pid);
  CHECK_INT(test_join(pid), 0);
  CHECK_INT(lvri_load_relaxed_u32(&lvri_board_shm(b)->bo_news), 0);
  CHECK_INT(lvri_load_relaxed_u32(&b->results.shm->ch_items), 0);
  lvr_board_detach(b);
}

/* The least of some, for who spins may be put off the processor; not so many in vain that a spin is
 * not worth while any more (wait.c). */
static int64_t spun_ns(struct lvr_board *b, bool soon) {
  int64_t least_ns = INT64_MAX;
  for (int i = 0; i < 10; i++) {
    int64_t since_ns = lvri_os_now_ns();
    CHECK(!lvri_channel_spin(&b->results, soon));
    int64_t ns = lvri_os_now_ns() - since_ns;
    if (ns < least_ns) least_ns = ns;
  }
  return least_ns;
}

TEST(who_is_in_haste_spins_for_longer) {
  lvr_session *s = new_session();
  lvr_board *b = new_board(s);
  CHECK(spun_ns(b, true) > 2 * spun_ns(b, false));
  lvr_board_detach(b);
}

static void work_until_told(void *argument) {
  struct crew *c = argument;
  uint32_t number;
  struct lvr_message m;
  lvri_relook_ns = 100 * SEC; /* it does not look by itself */
  CHECK_INT(lvr_board_enlist(c->b, c->row), 0);
  CHECK_INT(work_some(c->b, 1, LVR_FOREVER), -EPIPE);
  CHECK_INT(lvr_board_claim_block_until(c->b, &m, LVR_FOREVER, &number), -EPIPE);
}

TEST(a_claim_ends_with_the_owner) {
  struct crew c = {.s = new_session(), .row = 1};
  c.b = new_board(c.s);
  pid_t owner = test_fork(own_until_killed, c.b);
  await_asleep(owner);
  pid_t worker = test_fork(work_until_told, &c);
  await_asleep(worker);
  test_kill(owner);
  CHECK_INT(test_join(worker), 0);
  CHECK(lvr_repair(c.s) >= 0);
  lvr_board_detach(c.b);
}

/* He was killed while they waited to be claimed. */
TEST(what_a_dead_owner_has_left_is_not_claimed) {
  struct crew c = {.s = new_session()};
  c.b = new_board(c.s);
  put_tasks(c.b, 3);
  pid_t owner = test_fork(own_until_killed, c.b);
  await_asleep(owner);
  test_kill(owner);
  CHECK_INT(lvr_board_enlist(c.b, 0), 0);
  CHECK_INT(work_some(c.b, 1, LVR_FOREVER), -EPIPE);
  CHECK_INT(lvr_board_waiting(c.b), 3);
  CHECK(lvr_repair(c.s) >= 0);
  lvr_board_detach(c.b);
}

static void own_and_die_in_a_put(void *argument) {
  struct crew *c = argument;
  uint32_t number = 0;
  lvri_board_shm(c->b)->bo_owner = lvri_session_self(c->s);
  await_u32(&lvri_board_row(c->b, 1)->ro_finished, 1);
  lvri_crashpoint_arm(LVRI_CRASH_KILL, "channel.put.published", 1);
  CHECK_INT(lvr_board_put(c->b, &number, sizeof(number), NULL, &number), 0);
}

/* The worker slept, and nobody rang. */
TEST(nor_is_what_he_put_with_his_last_step) {
  struct crew c = {.s = new_session(), .row = 1};
  c.b = new_board(c.s);
  _Atomic uint32_t *may_die = &lvri_board_row(c.b, 1)->ro_finished;
  pid_t owner = test_fork(own_and_die_in_a_put, &c);
  while (lvri_board_is_owner(c.b))
    (void)sched_yield();
  pid_t worker = test_fork(work_until_told, &c);
  while (lvri_board_worker(c.b, 1) == 0)
    (void)sched_yield();
  await_asleep(worker);
  lvri_store_release_u32(may_die, 1);
  CHECK_INT(test_join(owner), -SIGKILL);
  CHECK_INT(test_join(worker), 0);
  CHECK_INT(lvr_board_waiting(c.b), 1);
  CHECK(lvr_repair(c.s) >= 0);
  lvr_board_detach(c.b);
}
