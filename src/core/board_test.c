/* The board: tasks to workers and results back; a worker killed at every step of its work, and
 * whoever buries it, too. Each task is told of once: its result, or that its worker died; one that
 * was never begun is done by another. */
#include "core/board.h"

#include <errno.h>
#include <string.h>

#include "core/locking_test.h"
#include "testing/fixture.h"

enum { ROWS = 4, MANY = 500 };

/* A task says a number to be squared; a result, which task it was, and the square. */
struct answer {
  uint32_t number, square;
};

static lvr_board *new_board(lvr_session *s) {
  lvr_board *b;
  CHECK_INT(lvr_board_create(s, ROWS, &b), 0);
  return b;
}

static void put_tasks(lvr_board *b, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    uint32_t number;
    CHECK_INT(lvr_board_put(b, &i, sizeof(i), NULL, &number), 0);
    CHECK_INT(number, i);
  }
}

static void work_on(lvr_board *b, uint32_t number, uint32_t task) {
  lvr_board_begin(b, number);
  struct answer a = {number, task * task};
  CHECK_INT(lvr_board_finish(b, &a, sizeof(a), NULL), 0);
}

/* One claim, of up to `most`. 0, or why there was none. */
static int work_some(lvr_board *b, uint32_t most, int64_t deadline_ns) {
  unsigned char buf[2 * LVR_MESSAGE_INLINE];
  uint32_t count, first;
  size_t bytes;
  int error = lvr_board_claim_until(b, buf, sizeof(buf), most, deadline_ns, &count, &bytes, &first);
  for (uint32_t i = 0; !error && i < count; i++) {
    uint32_t task;
    memcpy(&task, buf + (size_t)i * 8 + 4, sizeof(task));
    work_on(b, first + i, task);
  }
  return error;
}

/* --- among the living ------------------------------------------------------------------------ */

TEST(gives_numbers_in_order) {
  lvr_session *s = new_session();
  lvr_board *b = new_board(s);
  uint32_t put, first, number;
  struct lvr_slice slices[3] = {{"aaaa", 4}, {"bbbbb", 5}, {"cccc", 4}};
  put_tasks(b, 5);
  CHECK_INT(lvr_board_put_many(b, slices, 3, &put, &first), 0);
  CHECK_INT(put, 3);
  CHECK_INT(first, 5);
  CHECK_INT(lvr_board_put(b, "dddd", 4, NULL, &number), 0);
  CHECK_INT(number, 8);
  CHECK_INT(lvr_board_waiting(b), 9);
  lvr_board_detach(b);
  CHECK_INT(lvr_session_check(s), 0);
}

TEST(works_alone) {
  lvr_session *s = new_session();
  lvr_board *b = new_board(s);
  struct lvr_message m;
  CHECK_INT(lvr_board_enlist(b, 1), 0);
  put_tasks(b, 10);
  CHECK_INT(work_some(b, 3, 0), 0);
  struct lvr_board_row row;
  lvr_board_look(b, 1, &row);
  CHECK_INT(row.first, 0);
  CHECK_INT(row.count, 3);
  CHECK(row.is_running);
  CHECK_INT(row.running, 2);
  CHECK_INT(row.finished, 3);
  for (uint32_t i = 0; i < 3; i++) {
    CHECK_INT(lvr_board_take_until(b, &m, 0), 0);
    CHECK_INT(((const struct answer *)m.data)->number, i);
    CHECK_INT(((const struct answer *)m.data)->square, i * i);
  }
  CHECK_INT(lvr_board_take_until(b, &m, 0), -ETIMEDOUT);
  CHECK_INT(lvr_board_waiting(b), 7);
  lvr_board_detach(b);
}

TEST(refuses_what_cannot_be) {
  lvr_session *s = new_session();
  lvr_board *b, *other;
  struct lvr_board_row row;
  uint32_t number;
  lvr_ref ref;
  CHECK_INT(lvr_board_create(s, 0, &b), -EINVAL);
  CHECK_INT(lvr_board_create(s, LVR_BOARD_ROWS_MAX + 1, &b), -EINVAL);
  b = new_board(s);
  CHECK_INT(work_some(b, 1, 0), -EINVAL);
  CHECK_INT(lvr_board_finish(b, "", 0, NULL), -EINVAL);
  CHECK_INT(lvr_board_enlist(b, ROWS), -EINVAL);
  CHECK_INT(lvr_board_enlist(b, 0), 0);
  CHECK_INT(lvr_board_enlist(b, 1), -EINVAL);
  CHECK_INT(lvr_board_settle(b, 0), -EBUSY);
  CHECK_INT(lvr_board_bury(b, 0, &row), -EBUSY);
  CHECK_INT(lvr_board_bury(b, 1, &row), -EINVAL);
  lvr_board_ref(b, &ref);
  CHECK_INT(lvr_board_attach(s, &ref, &other), 0);
  CHECK(other == b);
  lvr_board_detach(other);
  lvr_board_close(b);
  CHECK_INT(work_some(b, 1, LVR_FOREVER), -EPIPE);
  CHECK_INT(lvr_board_put(b, "xxxx", 4, NULL, &number), -EPIPE);
  lvr_board_detach(b);
}

/* Who has no memory to take a task with has not claimed it: another one may. */
TEST(a_claim_without_memory_is_none) {
  enum { BLOCKS = 300 };
  lvr_session *s = new_session();
  lvr_board *b = new_board(s);
  static struct lvr_message m[BLOCKS];
  struct lvr_board_row row;
  uint32_t refused = 0, number;
  CHECK_INT(lvr_board_enlist(b, 0), 0);
  for (uint32_t i = 0; i < BLOCKS; i++) {
    lvr_block *block;
    CHECK_INT(lvr_block_create(s, 1, 0, &block), 0);
    CHECK_INT(lvr_board_put(b, "xxxx", 4, block, &number), 0);
  }
  for (uint32_t i = 0; i < BLOCKS; i++) {
    lvri_fault_arm("os.shm.commit", 1);
    int error = lvr_board_claim_block_until(b, &m[i], 0, &number);
    lvri_fault_arm(NULL, 0);
    lvr_board_look(b, 0, &row);
    CHECK_INT(row.count, error ? 0 : 1);
    if (!error) continue;
    CHECK_INT(error, -ENOMEM);
    refused++;
    CHECK_INT(lvr_board_claim_block_until(b, &m[i], 0, &number), 0);
    CHECK_INT(number, i);
  }
  CHECK(refused > 0);
  for (uint32_t i = 0; i < BLOCKS; i++)
    lvr_message_fini(&m[i]);
  lvr_board_detach(b);
}

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

TEST(orders_reach_the_worker) {
  const uint64_t order = UINT64_C(7) << 32 | 5;
  lvr_session *s = new_session();
  lvr_board *b = new_board(s);
  struct lvr_board_row row;
  CHECK_INT(lvr_board_ordered(b), 0);
  CHECK_INT(lvr_board_enlist(b, 2), 0);
  CHECK_INT(lvr_board_ordered(b), 0);
  lvr_board_order(b, 2, order);
  CHECK(lvr_board_ordered(b) == order);
  lvr_board_look(b, 2, &row);
  CHECK(row.order == order);
  lvr_board_detach(b);
}

/* It is asked by a signal handler that is to stop a task: not its result, and not the next one. */
TEST(a_worker_knows_what_it_runs) {
  lvr_session *s = new_session();
  lvr_board *b = new_board(s);
  struct lvr_board_row row;
  CHECK_INT(lvr_board_running(b), -1);
  CHECK_INT(lvr_board_enlist(b, 0), 0);
  CHECK_INT(lvr_board_running(b), -1);
  lvr_board_begin(b, UINT32_MAX);
  CHECK_INT(lvr_board_running(b), UINT32_MAX);
  CHECK_INT(lvr_board_finish(b, "done", 4, NULL), 0);
  CHECK_INT(lvr_board_running(b), -1);
  lvr_board_look(b, 0, &row);
  CHECK(row.is_running);
  CHECK_INT(row.running, UINT32_MAX);
  lvr_board_begin(b, 0);
  CHECK_INT(lvr_board_running(b), 0);
  lvr_board_detach(b);
}

TEST(refuses_what_is_no_task) {
  static const char bytes[LVR_MESSAGE_INLINE + 1];
  lvr_session *s = new_session();
  lvr_board *b = new_board(s);
  struct lvr_slice long_one[2] = {{bytes, 4}, {bytes, sizeof(bytes)}};
  struct lvr_slice short_one[2] = {{bytes, 4}, {bytes, 3}};
  uint32_t number, put;
  CHECK_INT(lvr_board_put(b, bytes, 3, NULL, &number), -EINVAL);
  CHECK_INT(lvr_board_put(b, bytes, sizeof(bytes), NULL, &number), -EINVAL);
  CHECK_INT(lvr_board_put_many(b, long_one, 2, &put, &number), -EINVAL);
  CHECK_INT(put, 0);
  CHECK_INT(lvr_board_put_many(b, short_one, 2, &put, &number), -EINVAL);
  CHECK_INT(put, 0);
  CHECK_INT(lvr_board_waiting(b), 0);
  lvr_board_detach(b);
}

/* --- in a forked child ----------------------------------------------------------------------- */

static void put_as_a_stranger(void *argument) {
  lvr_board *b = argument;
  struct lvr_slice task = {"aaaa", 4};
  uint32_t number, put;
  CHECK_INT(lvr_board_put(b, "aaaa", 4, NULL, &number), -EPERM);
  CHECK_INT(lvr_board_put_many(b, &task, 1, &put, &number), -EPERM);
  CHECK_INT(put, 0);
  CHECK_INT(lvr_board_cancel(b, 0), -EPERM);
  lvr_board_close(b);
}

/* A thread that it does not have may hold the mutex of those who put. */
TEST(only_the_owner_puts) {
  lvr_session *s = new_session();
  lvr_board *b = new_board(s);
  put_tasks(b, 1);
  CHECK_INT(pthread_mutex_lock(&b->putting), 0);
  pid_t child = test_fork(put_as_a_stranger, b);
  CHECK_INT(test_join(child), 0);
  CHECK_INT(pthread_mutex_unlock(&b->putting), 0);
  CHECK_INT(lvr_board_waiting(b), 1);
  lvr_board_detach(b);
}

static void act_as_the_parent(void *argument) {
  lvr_board *b = argument;
  struct lvr_message m;
  uint32_t number;
  CHECK_INT(lvr_board_running(b), -1);
  CHECK_INT(lvr_board_ordered(b), 0);
  CHECK_INT(work_some(b, 1, 0), -EINVAL);
  CHECK_INT(lvr_board_claim_block_until(b, &m, 0, &number), -EINVAL);
  lvr_board_begin(b, 7);
  CHECK_INT(lvr_board_finish(b, "done", 4, NULL), -EINVAL);
}

static void be_a_worker_too(void *argument) {
  lvr_board *b = argument;
  act_as_the_parent(b);
  CHECK_INT(lvr_board_enlist(b, 1), 0);
  CHECK_INT(work_some(b, 1, 0), 0);
}

/* Of a worker: the row is its parent's, whose task may have forked it. */
TEST(a_forked_child_of_a_worker_is_none) {
  lvr_session *s = new_session();
  lvr_board *b = new_board(s);
  struct lvr_board_row row;
  put_tasks(b, 5);
  CHECK_INT(lvr_board_enlist(b, 0), 0);
  CHECK_INT(work_some(b, 3, 0), 0);
  lvr_board_begin(b, 2);
  lvr_board_order(b, 0, 1);
  pid_t child = test_fork(be_a_worker_too, b);
  CHECK_INT(test_join(child), 0);
  lvr_board_look(b, 0, &row);
  CHECK_INT(row.first, 0);
  CHECK_INT(row.count, 3);
  CHECK_INT(row.running, 2);
  CHECK_INT(row.finished, 3);
  lvr_board_look(b, 1, &row);
  CHECK_INT(row.first, 3);
  CHECK_INT(row.count, 1);
  CHECK_INT(lvr_board_waiting(b), 1);
  CHECK(lvr_repair(s) >= 0);
  lvr_board_detach(b);
  CHECK_INT(lvr_session_check(s), 0);
}

/* --- tasks that are not to be run ------------------------------------------------------------ */

/* The next task. */
static uint32_t claim_one(lvr_board *b, uint32_t *ret_number) {
  unsigned char buf[LVR_MESSAGE_INLINE + 4];
  uint32_t count, task;
  size_t bytes;
  CHECK_INT(lvr_board_claim_until(b, buf, sizeof(buf), 1, 0, &count, &bytes, ret_number), 0);
  memcpy(&task, buf + 4, sizeof(task));
  return task;
}

TEST(a_cancelled_task_says_so) {
  lvr_session *s = new_session();
  lvr_board *b = new_board(s);
  uint32_t number;
  CHECK_INT(lvr_board_cancel(b, 0), -ENOENT);
  put_tasks(b, 4);
  CHECK_INT(lvr_board_enlist(b, 0), 0);
  CHECK_INT(claim_one(b, &number), 0);
  CHECK_INT(lvr_board_cancel(b, 0), -ENOENT);
  CHECK_INT(lvr_board_cancel(b, 2), 0);
  CHECK_INT(lvr_board_cancel(b, 2), 0);
  CHECK_INT(lvr_board_cancel(b, 4), -ENOENT);
  CHECK_INT(claim_one(b, &number), 1);
  CHECK_INT(claim_one(b, &number), LVR_BOARD_CANCELLED);
  CHECK_INT(number, 2);
  CHECK_INT(lvr_board_cancel(b, 2), -ENOENT);
  CHECK_INT(claim_one(b, &number), 3);
  lvr_board_detach(b);
}

/* Tasks of all lengths, in many segments, some with blocks; also where the get segment is read to
 * its end, and where numbers begin anew. */
TEST(finds_a_task_wherever_it_is) {
  enum { NUMBERS = 4000 };
  lvr_session *s = new_session();
  lvr_board *b = new_board(s);
  unsigned char bytes[300] = {0};
  uint64_t seed = test_seed();
  lvr_block *block;
  const uint32_t start = UINT32_MAX - NUMBERS / 2;
  lvri_store_relaxed_u64(&b->tasks.shm->ch_tail, (uint64_t)start << 32);
  lvri_store_relaxed_u64(&b->tasks.shm->ch_head, (uint64_t)start << 32);
  b->tasks.shm->ch_seen_puts = b->tasks.shm->ch_seen_gets = start;
  for (uint32_t i = 0; i < NUMBERS; i++) {
    bool with_block = test_random(&seed) % 16 == 0;
    size_t length = 4 + test_random(&seed) % (sizeof(bytes) - 4);
    uint32_t number;
    memcpy(bytes, &i, sizeof(i));
    if (with_block) CHECK_INT(lvr_block_create(s, 1, 0, &block), 0);
    CHECK_INT(lvr_board_put(b, bytes, length, with_block ? block : NULL, &number), 0);
    CHECK_INT(number, start + i);
  }
  CHECK_INT(lvr_board_enlist(b, 0), 0);
  for (uint32_t i = 0; i < NUMBERS; i++) {
    struct lvr_message m;
    uint32_t number, task;
    if (i % 100 == 0)
      for (uint32_t n = i; n < NUMBERS; n++)
        if (n % 3 == 0) CHECK_INT(lvr_board_cancel(b, start + n), 0);
    CHECK_INT(lvr_board_claim_block_until(b, &m, 0, &number), 0);
    memcpy(&task, m.data, sizeof(task));
    CHECK_INT(number, start + i);
    CHECK_INT(task, i % 3 ? i : LVR_BOARD_CANCELLED);
    lvr_message_fini(&m);
  }
  lvr_board_detach(b);
  CHECK_INT(lvr_session_check(s), 0);
}

struct crew {
  lvr_session *s;
  lvr_board *b;
  uint32_t row;
};

static void serve(void *argument) {
  struct crew *c = argument;
  CHECK_INT(lvr_board_enlist(c->b, c->row), 0);
  while (work_some(c->b, 8, LVR_FOREVER) == 0) {
  }
  lvr_proc_announce(c->s, 0);
}

TEST_WITHIN(many_workers_do_each_task_once, 60) {
  lvr_session *s = new_session();
  struct crew crew = {s, new_board(s), 0};
  uint8_t told[MANY] = {0};
  pid_t workers[ROWS];
  for (; crew.row < ROWS; crew.row++)
    workers[crew.row] = test_fork(serve, &crew);
  put_tasks(crew.b, MANY);
  for (uint32_t i = 0; i < MANY; i++) {
    struct lvr_message m;
    CHECK_INT(lvr_board_take_until(crew.b, &m, in_ns(10 * SEC)), 0);
    const struct answer *a = m.data;
    CHECK(a->number < MANY && !told[a->number]);
    CHECK_INT(a->square, a->number * a->number);
    told[a->number] = 1;
  }
  lvr_board_close(crew.b);
  for (uint32_t i = 0; i < ROWS; i++)
    CHECK_INT(test_join(workers[i]), 0);
  CHECK(lvr_repair(s) >= 0);
  lvr_board_detach(crew.b);
  CHECK_INT(lvr_session_check(s), 0);
}

static void sleep_for_ever(void *argument) {
  struct crew *c = argument;
  CHECK_INT(lvr_board_enlist(c->b, c->row), 0);
  (void)work_some(c->b, 1, LVR_FOREVER);
}

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

/* --- who waits ------------------------------------------------------------------------------- */

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

static void hold_vigil(struct vigil *v) {
  lvri_relook_ns = 60 * SEC;
  v->watch[1] = v->watch[3] = true;
  test_threads(WAITERS + 1, sleep_or_wake, v);
  lvr_board_detach(v->crew.b);
}

static void interrupt(struct vigil *v) { lvr_board_interrupt(v->crew.b); }

TEST(an_interrupt_ends_all_waits) {
  lvr_session *s = new_session();
  struct vigil v = {.crew = {s, new_board(s), 0}, .wanted = -ECANCELED, .wake = interrupt};
  hold_vigil(&v);
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

/* --- deaths ---------------------------------------------------------------------------------- */

enum { TASKS = 7 };

/* What the owner has been told; it outlives repairers, as the owner's own table does. */
struct ledger {
  uint8_t result[TASKS], died[TASKS];
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
  put_tasks(x->b, TASKS);
  for (uint32_t i = 0; i < TASKS; i++)
    x->l->task_of[i] = i;
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
    CHECK(!x->l->result[task] && !x->l->died[task]);
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
    if (x->l->result[task]) continue;
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

/* The owner buries it and hires another, who does the rest. */
static void check(void *state, bool done) {
  struct state *x = state;
  struct lvr_board_row row;
  uint32_t told = 0, dead = 0;
  if (lvr_board_is_over(x->b, 0)) {
    CHECK_INT(lvr_board_settle(x->b, 0), 0);
    take_results(x);
    CHECK_INT(lvr_board_bury(x->b, 0, &row), 0);
    judge(x, &row);
  }
  CHECK_INT(lvr_board_enlist(x->b, 0), 0);
  while (work_some(x->b, 3, 0) == 0) {
  }
  take_results(x);
  for (uint32_t i = 0; i < TASKS; i++) {
    told += x->l->result[i] + x->l->died[i];
    dead += x->l->died[i];
  }
  CHECK_INT(told, TASKS);
  CHECK(dead <= (done ? 0 : 1));
}

static void teardown(void *state) {
  struct state *x = state;
  lvr_board_detach(x->b);
  CHECK_INT(lvr_session_check(x->s), 0);
  CHECK_INT(fixture_stats(x->s).blocks, x->blocks);
  lvr_session_detach(x->s);
  test_unshare(x->l, sizeof(*x->l));
}

static const struct crash_scenario working = {
    "board", sizeof(struct state), setup, be_a_worker, recover, check, teardown};

TEST_WITHIN(survives_a_worker_at_each_step, 60) {
  CHECK(crash_run(&working).deaths > 20);
  CHECK_INT(crash_unvisited("channel.claim."), 1); /* struck: by who takes over, in the next test */
}

TEST_WITHIN(survives_who_buries_it, 120) {
  CHECK(crash_run_repairer(&working, 3).repairer_deaths > 100);
}

/* --- deaths at random ------------------------------------------------------------------------- */

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
  uint32_t tasks, left, died;
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

static void bury(struct random_run *r, uint32_t row_index) {
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
  }
  r->crew.row = row_index;
  r->workers[row_index] = test_fork(work_until_killed, &r->crew);
}

static void shoot(struct random_run *r, uint32_t row_index) {
  struct lvr_board_row row;
  lvr_board_look(r->crew.b, row_index, &row);
  if (row.worker == 0) return; /* not there yet */
  test_kill(r->workers[row_index]);
  bury(r, row_index);
}

TEST_WITHIN(tells_of_each_task_once_whoever_is_killed, 60) {
  enum { TASKS_MANY = 20000, NUMBERS = 60000 };
  struct random_run r = {.crew = {.s = new_session()}, .tasks = TASKS_MANY, .left = TASKS_MANY};
  uint64_t seed = test_seed();
  uint32_t kills = 0;
  r.crew.b = new_board(r.crew.s);
  r.told = test_shared(TASKS_MANY);
  r.task_of = test_shared(NUMBERS * sizeof(*r.task_of));
  for (uint32_t i = 0; i < TASKS_MANY; i++)
    r.task_of[i] = i;
  for (; r.crew.row < ROWS; r.crew.row++)
    r.workers[r.crew.row] = test_fork(work_until_killed, &r.crew);
  put_tasks(r.crew.b, TASKS_MANY);
  for (; r.left > 0; take_all(&r)) {
    int error = lvr_board_wait_until(r.crew.b, in_ns(test_random(&seed) % (2 * MS)));
    CHECK(error == 0 || error == -ETIMEDOUT);
    if (test_random(&seed) % 4 == 0 && kills++ < 200) shoot(&r, test_random(&seed) % ROWS);
  }
  for (uint32_t i = 0; i < ROWS; i++)
    test_kill(r.workers[i]);
  CHECK(lvr_repair(r.crew.s) >= 0);
  lvr_board_detach(r.crew.b);
  CHECK_INT(lvr_session_check(r.crew.s), 0);
}
