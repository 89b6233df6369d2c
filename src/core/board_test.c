/* The board among the living: tasks to workers and results back, tasks that are not to be run, and
 * who may do what. */
#include "core/board_test.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "core/channel_inner.h"

/* --- among the living ----------------------------------------------------------------------- */

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
  CHECK_INT(row.first, 3);
  CHECK_INT(row.count, 0);
  CHECK(!row.is_running); /* any more */
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

/* For who has no memory for it: the task is claimed, and the block is gone. */
TEST(claims_a_task_without_its_block) {
  lvr_session *s = new_session();
  lvr_board *b = new_board(s);
  uint64_t blocks = fixture_stats(s).blocks;
  struct lvr_board_row row;
  struct lvr_message m;
  lvr_block *block;
  uint32_t number;
  CHECK_INT(lvr_board_claim_bare(b, 0, &m), -EINVAL);
  CHECK_INT(lvr_board_enlist(b, 0), 0);
  CHECK_INT(lvr_board_claim_bare(b, 0, &m), -ENOENT);
  CHECK_INT(lvr_board_put(b, "xxxx", 4, NULL, &number), 0);
  CHECK_INT(lvr_board_claim_bare(b, 0, &m), -EINVAL);
  CHECK_INT(lvr_board_waiting(b), 1);
  CHECK_INT(work_some(b, 1, 0), 0);
  CHECK_INT(lvr_block_create(s, 100000, 0, &block), 0);
  CHECK_INT(lvr_board_put(b, "yyyy", 4, block, &number), 0);
  CHECK_INT(lvr_board_claim_bare(b, number - 1, &m), -ENOENT);
  CHECK_INT(lvr_board_claim_bare(b, number + 1, &m), -ENOENT);
  lvri_fault_arm("os.shm.commit", 1);
  CHECK_INT(lvr_board_claim_bare(b, number, &m), 0);
  lvri_fault_arm(NULL, 0);
  CHECK(m.block == NULL && m.bytes == 4 && memcmp(m.data, "yyyy", 4) == 0);
  lvr_board_look(b, 0, &row);
  CHECK(row.first == 1 && row.count == 1 && !row.is_running);
  CHECK_INT(lvr_board_begin(b, number), 0);
  CHECK_INT(lvr_board_finish(b, "zzzz", 4, NULL), 0);
  lvr_board_close(b);
  CHECK_INT(lvr_board_claim_bare(b, number + 1, &m), -ENOENT);
  CHECK_INT(lvr_session_check(s), 0);
  CHECK(fixture_stats(s).blocks <= blocks + 2); /* a segment of each channel */
  lvr_board_detach(b);
}

static void bury_the_fourth(void *argument) {
  struct lvr_board_row row;
  CHECK_INT(lvr_board_bury(argument, 3, &row), 0);
}

TEST(a_row_is_free_when_nothing_is_left_in_it) {
  lvr_session *s = new_session();
  struct crew crew = {s, new_board(s), 3};
  struct lvr_board_row row;
  pid_t worker = test_fork(sleep_for_ever, &crew);
  while (lvr_board_look(crew.b, 3, &row), row.worker == 0)
    (void)sched_yield();
  test_kill(worker);
  CHECK_INT(lvr_board_settle(crew.b, 3), 0);
  pid_t burier = crash_stop_at("board.row.cleared", 1, bury_the_fourth, crew.b);
  CHECK_INT(lvr_board_enlist(crew.b, 3), -EBUSY);
  test_continue(burier);
  CHECK_INT(test_join(burier), 0);
  CHECK_INT(lvr_board_enlist(crew.b, 3), 0);
  lvr_board_detach(crew.b);
}

TEST(the_check_finds_the_blocks_of_tasks_and_results) {
  lvr_session *s = new_session();
  lvr_board *b = new_board(s);
  struct lvr_message m;
  lvr_block *block;
  uint32_t number;
  CHECK_INT(lvr_board_enlist(b, 0), 0);
  CHECK_INT(lvr_block_create(s, 100000, 0, &block), 0);
  CHECK_INT(lvr_board_put(b, "task", 4, block, &number), 0);
  CHECK_INT(lvr_session_check(s), 0);
  CHECK_INT(lvr_board_claim_block_until(b, &m, 0, &number), 0);
  CHECK_INT(lvr_board_begin(b, number), 0);
  CHECK_INT(lvr_board_finish(b, "done", 4, m.block), 0);
  CHECK_INT(lvr_session_check(s), 0);
  CHECK_INT(lvr_board_take_until(b, &m, 0), 0);
  lvr_message_fini(&m);
  CHECK_INT(lvr_session_check(s), 0);
  lvr_board_detach(b);
}

enum { BLOCKS = 300 };

static void put_with_blocks(lvr_session *s, lvr_board *b) {
  for (uint32_t task = 0; task < BLOCKS; task++) {
    lvr_block *block;
    uint32_t number;
    CHECK_INT(lvr_block_create(s, 1, 0, &block), 0);
    CHECK_INT(lvr_board_put(b, &task, sizeof(task), block, &number), 0);
  }
}

/* Keeps the blocks, so that the table of them is full at some time. */
static int claim_without_memory(lvr_board *b, struct lvr_message *m, uint32_t wanted) {
  uint32_t number;
  lvri_fault_arm("os.shm.commit", 1);
  int error = lvr_board_claim_block_until(b, m, 0, &number);
  lvri_fault_arm(NULL, 0);
  CHECK_INT(number, wanted);
  return error;
}

/* Who has no memory to take a task with has not claimed it: another one may. */
TEST(a_claim_without_memory_is_none) {
  lvr_session *s = new_session();
  lvr_board *b = new_board(s);
  static struct lvr_message m[BLOCKS];
  struct lvr_board_row row;
  uint32_t refused = 0, number;
  CHECK_INT(lvr_board_enlist(b, 0), 0);
  put_with_blocks(s, b);
  for (uint32_t i = 0; i < BLOCKS; i++) {
    int error = claim_without_memory(b, &m[i], i);
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

static void claim_one_with_block(void *argument) {
  struct crew *c = argument;
  struct lvr_message m;
  uint32_t number;
  CHECK_INT(lvr_board_enlist(c->b, c->row), 0);
  CHECK_INT(lvr_board_claim_block_until(c->b, &m, 0, &number), 0);
  lvr_message_fini(&m);
}

/* Another one takes it, and would have taken the next one, too: that is not to be answered that it
 * cannot be run. */
TEST(who_has_no_memory_for_a_task_takes_no_other_one) {
  static struct lvr_message kept[BLOCKS];
  struct crew other = {.s = new_session(), .row = 1};
  struct lvr_board_row row;
  struct lvr_message m;
  uint32_t refused = 0;
  other.b = new_board(other.s);
  CHECK_INT(lvr_board_enlist(other.b, 0), 0);
  put_with_blocks(other.s, other.b);
  while (claim_without_memory(other.b, &kept[refused], refused) == 0)
    CHECK(++refused < BLOCKS - 2);
  CHECK_INT(test_join(test_fork(claim_one_with_block, &other)), 0);
  CHECK_INT(lvr_board_claim_bare(other.b, refused, &m), -ENOENT);
  CHECK_INT(lvr_board_waiting(other.b), BLOCKS - refused - 1);
  lvr_board_look(other.b, 0, &row);
  CHECK_INT(row.count, 0);
  lvr_board_look(other.b, 1, &row);
  CHECK_INT(row.first, refused);
  CHECK_INT(lvr_board_claim_bare(other.b, refused + 1, &m), 0);
  lvr_board_detach(other.b);
}

TEST(orders_reach_the_worker) {
  const uint64_t order = UINT64_C(7) << 32 | 5;
  lvr_session *s = new_session();
  lvr_board *b = new_board(s);
  struct lvr_board_row row;
  CHECK_INT(lvr_board_ordered(b), 0);
  CHECK_INT(lvr_board_enlist(b, 2), 0);
  CHECK_INT(lvr_board_ordered(b), 0);
  CHECK_INT(lvr_board_order(b, 2, order), 0);
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
  lvri_store_release_u64(&b->row->ro_claim, (uint64_t)UINT32_MAX << 32 | 2); /* that, and 0 */
  CHECK_INT(lvr_board_begin(b, UINT32_MAX), 0);
  CHECK_INT(lvr_board_running(b), UINT32_MAX);
  lvr_board_look(b, 0, &row);
  CHECK(row.is_running);
  CHECK_INT(row.running, UINT32_MAX);
  CHECK_INT(lvr_board_finish(b, "done", 4, NULL), 0);
  CHECK_INT(lvr_board_running(b), -1);
  lvr_board_look(b, 0, &row);
  CHECK(!row.is_running);
  CHECK_INT(row.first, 0);
  CHECK_INT(row.count, 1);
  CHECK_INT(lvr_board_begin(b, 0), 0);
  CHECK_INT(lvr_board_running(b), 0);
  CHECK_INT(lvr_board_begin(b, 1), -ECANCELED);
  lvr_board_detach(b);
}

/* --- what is taken back ---------------------------------------------------------------------- */

static void claim_some(lvr_board *b, uint32_t most, uint32_t first_wanted) {
  unsigned char buf[2 * LVR_MESSAGE_INLINE];
  uint32_t count, first;
  size_t bytes;
  CHECK_INT(lvr_board_claim_until(b, buf, sizeof(buf), most, 0, &count, &bytes, &first), 0);
  CHECK_INT(count, most);
  CHECK_INT(first, first_wanted);
}

static void check_claim(const lvr_board *b, uint32_t first, uint32_t count) {
  struct lvr_board_row row;
  lvr_board_look(b, 0, &row);
  CHECK_INT(row.first, first);
  CHECK_INT(row.count, count);
}

TEST(takes_back_what_is_behind_the_one_that_runs) {
  lvr_session *s = new_session();
  lvr_board *b = new_board(s);
  uint32_t first = 77, count = 77;
  put_tasks(b, 8);
  CHECK_INT(lvr_board_enlist(b, 0), 0);
  CHECK_INT(lvr_board_revoke(b, 0, &first, &count), -ENOENT);
  CHECK_INT(lvr_board_revoke(b, ROWS, &first, &count), -EINVAL);
  claim_some(b, 5, 0);
  CHECK_INT(lvr_board_begin(b, 0), 0);
  check_claim(b, 0, 5);
  CHECK_INT(lvr_board_begin(b, 2), 0);
  check_claim(b, 2, 3);
  CHECK_INT(lvr_board_begin(b, 1), -ECANCELED); /* it is done with */
  CHECK_INT(lvr_board_revoke(b, 0, &first, &count), 0);
  CHECK_INT(first, 3);
  CHECK_INT(count, 2);
  check_claim(b, 2, 1);
  CHECK_INT(lvr_board_revoke(b, 0, &first, &count), -ENOENT);
  CHECK_INT(lvr_board_begin(b, 3), -ECANCELED);
  CHECK_INT(lvr_board_finish(b, "done", 4, NULL), 0);
  claim_some(b, 3, 5);
  CHECK_INT(lvr_board_revoke(b, 0, &first, &count), 0); /* before any of it has begun */
  CHECK_INT(first, 6);
  CHECK_INT(lvr_board_begin(b, 5), 0);
  CHECK_INT(lvr_board_begin(b, 6), -ECANCELED);
  lvr_board_detach(b);
}

static void claim_and_die(void *argument) {
  struct crew *c = argument;
  CHECK_INT(lvr_board_enlist(c->b, c->row), 0);
  (void)work_some(c->b, 1, 0);
}

static void claim_and_stop(void *argument) {
  struct crew *c = argument;
  CHECK_INT(lvr_board_enlist(c->b, c->row), 0);
  (void)work_some(c->b, 3, 0);
}

/* It has noted three, and not taken them: they wait. To take back two of them would be to have them
 * twice. */
TEST(what_was_noted_and_not_taken_is_not_taken_back) {
  struct crew c = {.s = new_session()};
  uint32_t first, count;
  c.b = new_board(c.s);
  put_tasks(c.b, 3);
  test_kill(crash_stop_at("channel.claim.noted", 1, claim_and_stop, &c));
  CHECK_INT(lvr_board_revoke(c.b, 0, &first, &count), -ENOENT);
  check_claim(c.b, 0, 0);
  CHECK_INT(lvr_board_waiting(c.b), 3);
  CHECK(lvr_repair(c.s) >= 0);
  lvr_board_detach(c.b);
  CHECK_INT(lvr_session_check(c.s), 0);
}

/* The one who claimed last lives, and some of its claim was taken back; then somebody dies with the
 * mutex: what is left of that claim is no note of the dead one's. */
TEST(what_is_left_of_a_claim_stays) {
  struct crew c = {.s = new_session(), .row = 1};
  uint32_t first, count;
  c.b = new_board(c.s);
  put_tasks(c.b, 6);
  CHECK_INT(lvr_board_enlist(c.b, 0), 0);
  claim_some(c.b, 3, 0);
  CHECK_INT(lvr_board_begin(c.b, 0), 0);
  CHECK_INT(lvr_board_revoke(c.b, 0, &first, &count), 0);
  test_kill(crash_stop_at("channel.claim.placed", 1, claim_and_die, &c));
  lvri_board_shm(c.b)->bo_tasks.ch_claim =
      lvri_off_in(lvri_board_arena(c.b), &c.b->row->ro_claim); /* as if it had come less far */
  CHECK_INT(lvr_board_settle(c.b, 1), 0);
  check_claim(c.b, 0, 1);
  CHECK(lvr_repair(c.s) >= 0);
  lvr_board_detach(c.b);
  CHECK_INT(lvr_session_check(c.s), 0);
}

/* --- who is killed for a task ---------------------------------------------------------------- */

static void check_row(const lvr_board *b, bool is_running, bool is_doomed) {
  struct lvr_board_row row;
  lvr_board_look(b, 0, &row);
  CHECK_INT(row.is_running, is_running);
  CHECK_INT(row.is_doomed, is_doomed);
}

TEST(a_doomed_worker_begins_nothing) {
  lvr_session *s = new_session();
  lvr_board *b = new_board(s);
  struct lvr_message m;
  uint32_t number;
  put_tasks(b, 5);
  CHECK_INT(lvr_board_doom(b, 0, 0), -ENOENT);
  CHECK_INT(lvr_board_doom(b, ROWS, 0), -EINVAL);
  CHECK_INT(lvr_board_enlist(b, 0), 0);
  claim_some(b, 3, 0);
  CHECK_INT(lvr_board_doom(b, 0, 0), -ENOENT); /* it has not begun */
  CHECK_INT(lvr_board_begin(b, 0), 0);
  CHECK_INT(lvr_board_doom(b, 0, 1), -ENOENT);
  check_row(b, true, false);
  for (int times = 0; times < 2; times++)
    CHECK_INT(lvr_board_doom(b, 0, 0), 0);
  check_row(b, true, true);
  check_claim(b, 0, 3);
  CHECK_INT(lvr_board_finish(b, "done", 4, NULL), 0);
  check_row(b, false, true);
  CHECK_INT(lvr_board_doom(b, 0, 0), 0);
  CHECK_INT(lvr_board_doom(b, 0, 1), -ENOENT);
  CHECK_INT(lvr_board_begin(b, 1), -EPIPE);
  CHECK_INT(work_some(b, 1, 0), -EPIPE);
  CHECK_INT(lvr_board_claim_block_until(b, &m, 0, &number), -EPIPE);
  check_claim(b, 1, 2);
  CHECK_INT(lvr_board_waiting(b), 2);
  lvr_board_detach(b);
}

/* Its result could not be put: it runs until another one begins. */
TEST(who_has_ended_a_task_is_not_doomed_for_it) {
  static const char bytes[LVR_MESSAGE_INLINE + 1];
  lvr_session *s = new_session();
  lvr_board *b = new_board(s);
  put_tasks(b, 5);
  CHECK_INT(lvr_board_enlist(b, 0), 0);
  claim_some(b, 5, 0);
  CHECK_INT(lvr_board_begin(b, 0), 0);
  CHECK_INT(lvr_board_finish(b, "done", 4, NULL), 0);
  CHECK_INT(lvr_board_doom(b, 0, 0), -ENOENT);
  CHECK_INT(lvr_board_begin(b, 1), 0);
  CHECK_INT(lvr_board_finish(b, bytes, sizeof(bytes), NULL), -EINVAL);
  CHECK_INT(lvr_board_begin(b, 2), 0);
  CHECK_INT(lvr_board_doom(b, 0, 1), -ENOENT);
  CHECK_INT(lvr_board_finish(b, bytes, sizeof(bytes), NULL), -EINVAL);
  CHECK_INT(lvr_board_doom(b, 0, 2), 0);
  CHECK_INT(lvr_board_begin(b, 3), -EPIPE);
  check_claim(b, 2, 3);
  lvr_board_detach(b);
}

static void work_on_three(void *argument) {
  struct crew *c = argument;
  CHECK_INT(lvr_board_enlist(c->b, c->row), 0);
  CHECK_INT(work_some(c->b, 3, 0), 0);
}

/* Two tasks, and the first one's result is not put. */
static void begin_without_an_end(void *argument) {
  struct crew *c = argument;
  CHECK_INT(lvr_board_enlist(c->b, c->row), 0);
  claim_some(c->b, 3, 0);
  CHECK_INT(lvr_board_begin(c->b, 0), 0);
  CHECK_INT(lvr_board_begin(c->b, 1), -EPIPE);
}

/* It is doomed for the first of three while it stands there, or it is too late; how many results it
 * comes to. */
static void check_doom_at(const char *point, void (*body)(void *argument), int doom,
                          uint32_t finished) {
  struct crew c = {.s = new_session()};
  struct lvr_board_row row;
  c.b = new_board(c.s);
  put_tasks(c.b, 3);
  pid_t pid = crash_stop_at(point, 1, body, &c);
  CHECK_INT(lvr_board_doom(c.b, 0, 0), doom);
  test_continue(pid);
  CHECK_INT(test_join(pid), 0);
  CHECK_INT(lvr_board_settle(c.b, 0), 0);
  CHECK_INT(lvr_board_bury(c.b, 0, &row), 0);
  CHECK_INT(row.finished, finished);
  CHECK_INT(row.is_doomed, doom == 0);
  check_row(c.b, false, false); /* it is free, for somebody who is not */
  lvr_board_detach(c.b);
  CHECK_INT(lvr_session_check(c.s), 0);
}

TEST(a_worker_is_doomed_until_it_notes_the_end) {
  check_doom_at("board.task.begun", work_on_three, 0, 1);
  check_doom_at("board.task.finished", work_on_three, 0, 1);
  check_doom_at("board.task.over", work_on_three, -ENOENT, 3);
  check_doom_at("board.claim.advanced", begin_without_an_end, 0, 0);
}

/* --- who may do what ------------------------------------------------------------------------- */

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

/* --- in a forked child ---------------------------------------------------------------------- */

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

/* Behind the board there may be anything. */
TEST(there_are_no_other_rows) {
  lvr_session *s = new_session();
  lvr_board *b = new_board(s), *behind = new_board(s);
  struct lvr_board_row row;
  CHECK_INT(lvr_board_enlist(behind, 0), 0);
  for (uint32_t i = ROWS; i < 4 * ROWS; i++) {
    lvr_board_look(b, i, &row);
    CHECK(row.worker == 0 && row.finished == 0 && !row.is_running);
    CHECK_INT(lvr_board_order(b, i, 1), -EINVAL);
    CHECK_INT(lvr_board_doom(b, i, 0), -EINVAL);
    CHECK_INT(lvr_board_enlist(b, i), -EINVAL);
    CHECK_INT(lvr_board_bury(b, i, &row), -EINVAL);
    CHECK(!lvr_board_is_over(b, i));
  }
  CHECK_INT(lvr_session_check(s), 0);
  lvr_board_detach(behind);
  lvr_board_detach(b);
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
  CHECK_INT(lvr_board_begin(b, 7), -EINVAL);
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
  CHECK_INT(lvr_board_begin(b, 2), 0);
  CHECK_INT(lvr_board_order(b, 0, 1), 0);
  pid_t child = test_fork(be_a_worker_too, b);
  CHECK_INT(test_join(child), 0);
  lvr_board_look(b, 0, &row);
  CHECK_INT(row.first, 2);
  CHECK_INT(row.count, 1);
  CHECK_INT(row.running, 2);
  CHECK_INT(row.finished, 3);
  lvr_board_look(b, 1, &row);
  CHECK_INT(row.first, 4);
  CHECK_INT(row.count, 0);
  CHECK_INT(lvr_board_waiting(b), 1);
  CHECK(lvr_repair(s) >= 0);
  lvr_board_detach(b);
  CHECK_INT(lvr_session_check(s), 0);
}

static int stale_worker(lvr_board *b) {
  struct lvr_message m;
  uint32_t number;
  if (lvr_board_claim_block_until(b, &m, 0, &number) != -ESTALE) return 1;
  if (lvr_board_begin(b, 7) != -ESTALE) return 6;
  if (lvr_board_finish(b, "done", 4, NULL) != -ESTALE) return 2;
  if (lvr_board_put(b, "aaaa", 4, NULL, &number) != -ESTALE) return 3;
  if (lvr_board_enlist(b, 1) != -ESTALE) return 4;
  return lvr_board_running(b) == -1 ? 0 : 5;
}

/* Past the fork handlers: nobody, with a copy of the handle of one who is owner and worker. */
TEST(who_is_in_no_session_is_no_worker) {
  lvr_session *s = new_session();
  lvr_board *b = new_board(s);
  put_tasks(b, 1);
  CHECK_INT(lvr_board_enlist(b, 0), 0);
  claim_some(b, 1, 0);
  CHECK_INT(lvr_board_begin(b, 0), 0);
  pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  if (pid == 0) _exit(stale_worker(b));
  CHECK_INT(test_join(pid), 0);
  CHECK_INT(lvr_board_waiting(b), 0);
  lvr_board_detach(b);
}

/* --- tasks that are not to be run ----------------------------------------------------------- */

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

static void serve(void *argument) {
  struct crew *c = argument;
  CHECK_INT(lvr_board_enlist(c->b, c->row), 0);
  while (work_some(c->b, 8, LVR_FOREVER) == 0) {
  }
  lvr_proc_announce(c->s, 0);
}

enum { RACERS = 5000 };

struct race {
  lvr_board *b;
  _Atomic uint32_t threads;
  uint8_t cancelled[RACERS], refused[RACERS], claimed[RACERS];
  uint64_t seed;
};

static void claim_racing(struct race *r) {
  uint32_t number = 0;
  while (number != RACERS - 1) {
    uint32_t task = claim_one(r->b, &number);
    r->claimed[number] = task == number;
    CHECK(task == number || task == LVR_BOARD_CANCELLED);
  }
}

/* Those that are about to be claimed. */
static void cancel_racing(struct race *r) {
  for (uint32_t waiting; (waiting = lvr_board_waiting(r->b)) > 0;) {
    uint32_t number = RACERS - waiting + test_random(&r->seed) % 4;
    int error = lvr_board_cancel(r->b, number);
    if (error == 0) CHECK(!r->refused[number]);
    if (error != 0) CHECK_INT(error, -ENOENT);
    if (number < RACERS) *(error ? &r->refused[number] : &r->cancelled[number]) = 1;
  }
}

static void race(void *argument) {
  struct race *r = argument;
  if (lvri_fetch_add_relaxed_u32(&r->threads, 1) == 0)
    claim_racing(r);
  else
    cancel_racing(r);
}

/* What a cancel says is what the worker sees. */
TEST(a_cancel_is_before_a_claim_or_behind_it) {
  static struct race r;
  lvr_session *s = new_session();
  r.b = new_board(s);
  r.seed = test_seed();
  put_tasks(r.b, RACERS);
  CHECK_INT(lvr_board_enlist(r.b, 0), 0);
  test_threads(2, race, &r);
  for (uint32_t i = 0; i < RACERS; i++) {
    CHECK_INT(r.claimed[i], r.cancelled[i] ? 0 : 1);
    CHECK(!r.refused[i] || r.claimed[i] || r.cancelled[i]);
  }
  lvr_board_detach(r.b);
}

enum { MANY = 500 };

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
