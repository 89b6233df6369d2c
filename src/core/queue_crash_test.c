/* Killed at every step of a put, a get, of what is done, and of a queue's end; the repairer
 * killed, too; and while others sleep for what the dead one had. Whose put has returned, his
 * message is there; whose get has returned, he had it; what was under way is there as a whole, or
 * not at all. */
#include "core/channel_inner.h"
#include "core/queue_test.h"

/* What the child did, as it told us. */
struct board {
  _Atomic uint32_t puts; /* returned */
  _Atomic uint32_t many; /* of the last put, how many it had */
  _Atomic uint32_t gets; /* returned */
  _Atomic uint32_t hand; /* most that one get takes */
  _Atomic uint32_t done;
  _Atomic uint32_t taken; /* by a bystander */
};

struct state {
  lvr_session *s;
  lvr_queue *q;
  struct board *board;
  uint64_t blocks; /* before there was a queue */
  uint32_t filled; /* messages of ours that were there first */
  lvr_ref ref;
};

static void make(struct state *x, uint32_t bound, uint32_t flags) {
  x->s = new_session();
  x->board = test_shared(sizeof(*x->board));
  x->blocks = fixture_stats(x->s).blocks;
  x->q = new_queue(x->s, bound, flags);
}

static void fill(struct state *x, uint32_t count) {
  for (; count > 0; count--)
    put_note(x->q, 0, x->filled++);
}

static uint32_t room_left(struct state *x) {
  const struct lvri_channel_shm *shm = channel_shm(x->q);
  if (!shm->ch_put_segment) return 0;
  return lvri_segment_at(&x->s->arena, shm->ch_put_segment)->sg_room -
         lvri_channel_pos_of(lvri_load_relaxed_u64(&shm->ch_tail));
}

static void pass_one_through(struct state *x) {
  put_bytes(x->q, 150);
  get_bytes(x->q, 150);
  if (channel_shm(x->q)->ch_flags & LVRI_CHANNEL_COUNTED) CHECK_INT(lvr_queue_done(x->q), 0);
}

/* So many segments are left behind, and the one at hand is nearly full: with the fourth all have
 * the size that they keep, and there is a spare one. */
static void age(struct state *x, uint32_t segments) {
  for (; segments > 0; segments--) {
    uint64_t segment = channel_shm(x->q)->ch_put_segment;
    while (channel_shm(x->q)->ch_put_segment == segment)
      pass_one_through(x);
  }
  while (room_left(x) > 300)
    pass_one_through(x);
}

/* --- what the child does -------------------------------------------------------------------- */

static void put(struct state *x) {
  lvri_store_release_u32(&x->board->many, 1);
  put_note(x->q, 1, x->board->puts);
  (void)lvri_fetch_add_acq_rel_u32(&x->board->puts, 1);
}

static void put_many(struct state *x, uint32_t count) {
  static unsigned char data[64][LVR_MESSAGE_INLINE];
  struct lvr_slice messages[64];
  uint32_t put;
  for (uint32_t i = 0; i < count; i++) {
    size_t bytes = note_write((struct note){1, x->board->puts + i}, data[i]);
    messages[i] = (struct lvr_slice){data[i], bytes};
  }
  lvri_store_release_u32(&x->board->many, count);
  CHECK_INT(lvr_queue_put_many_until(x->q, messages, count, 0, &put), 0);
  (void)lvri_fetch_add_acq_rel_u32(&x->board->puts, count);
}

static void get(struct state *x) {
  lvri_store_release_u32(&x->board->hand, 1);
  expect_note(x->q, 0, x->board->gets);
  (void)lvri_fetch_add_acq_rel_u32(&x->board->gets, 1);
}

static void get_many(struct state *x, uint32_t most) {
  unsigned char buf[4 * LVR_MESSAGE_INLINE];
  uint32_t count;
  size_t bytes;
  lvri_store_release_u32(&x->board->hand, most);
  CHECK_INT(lvr_queue_get_many_until(x->q, buf, sizeof(buf), most, 0, &count, &bytes), 0);
  (void)lvri_fetch_add_acq_rel_u32(&x->board->gets, count);
  if (count == 0) get(x); /* one with a block comes first */
}

static void do_one(struct state *x) {
  CHECK_INT(lvr_queue_done(x->q), 0);
  (void)lvri_fetch_add_acq_rel_u32(&x->board->done, 1);
}

/* --- what must hold then -------------------------------------------------------------------- */

/* What others do who go on: take over from him on both sides. */
static void take_over(void *state) {
  struct state *x = state;
  struct lvri_arena *a = &x->s->arena;
  CHECK_INT(lvr_session_check(x->s), 0);
  CHECK_INT(lvri_channel_lock_get(a, channel_shm(x->q), true), 0);
  lvri_channel_unlock(&channel_shm(x->q)->ch_get_mutex);
  CHECK_INT(lvri_channel_lock_put(a, channel_shm(x->q), true), 0);
  lvri_channel_unlock(&channel_shm(x->q)->ch_put_mutex);
  CHECK_INT(lvr_session_check(x->s), 0);
}

/* ... and repair him. */
static void recover(void *state) {
  struct state *x = state;
  CHECK_INT(lvr_session_check(x->s), 0);
  CHECK(lvr_repair(x->s) >= 0);
  CHECK_INT(lvr_session_check(x->s), 0);
  if (x->q) take_over(x);
}

/* What is left: of ours and of theirs, each in order and without a gap; and of a bystander's. */
struct rest {
  uint32_t ours, theirs, others;
};

static struct rest read_rest(struct state *x) {
  struct rest rest = {0, 0, 0};
  uint32_t first = 0, size = lvr_queue_size(x->q);
  struct note n;
  while (try_get_note(x->q, &n, 0) == 0) {
    rest.others += n.from == 2;
    if (n.from == 2) continue;
    CHECK(n.from == 1 || rest.theirs == 0);
    if (n.from == 0 && rest.ours == 0) first = n.number;
    CHECK_INT(n.number, n.from ? rest.theirs : first + rest.ours);
    *(n.from ? &rest.theirs : &rest.ours) += 1;
  }
  CHECK_INT(rest.ours + rest.theirs + rest.others, size);
  if (rest.ours) CHECK_INT(first + rest.ours, x->filled);
  return rest;
}

/* All that its puts and gets say, and perhaps the one that was under way. */
static uint32_t check_rest(struct state *x, const struct rest *rest, bool done) {
  const struct board *b = x->board;
  uint32_t missing = x->filled - rest->ours - b->taken;
  CHECK(missing >= b->gets && missing <= b->gets + (done ? 0 : b->hand));
  CHECK(rest->theirs >= b->puts && rest->theirs <= b->puts + (done ? 0 : b->many));
  return missing;
}

static void check_progress(struct state *x) {
  int64_t start_ns = lvri_os_now_ns();
  pass_one_through(x);
  age(x, 1);
  CHECK(lvri_os_now_ns() - start_ns < 5 * SEC);
  expect_empty(x->q);
}

static void check_plain(void *state, bool done) {
  struct state *x = state;
  struct rest rest = read_rest(x);
  (void)check_rest(x, &rest, done);
  check_progress(x);
}

/* What it took and did not call done is told as lost, once; a done that was under way may have
 * been. */
static void check_joinable(void *state, bool done) {
  struct state *x = state;
  CHECK(lvr_repair(x->s) >= 0);
  struct rest rest = read_rest(x);
  uint32_t lost = 0, missing = check_rest(x, &rest, done), open = missing - x->board->done;
  CHECK_INT(lvr_queue_unfinished(x->q), rest.ours + rest.theirs);
  for (uint32_t i = rest.ours + rest.theirs; i > 0; i--)
    CHECK_INT(lvr_queue_done(x->q), 0);
  CHECK_INT(lvr_queue_done(x->q), -EINVAL);
  CHECK_INT(lvr_queue_join_until(x->q, 0, &lost), 0);
  CHECK(lost == open || (!done && lost + 1 == open));
  check_progress(x);
}

/* Nothing remains. */
static void teardown(void *state) {
  struct state *x = state;
  check_session(x->s);
  lvr_queue_detach(x->q);
  CHECK_INT(lvr_session_check(x->s), 0);
  CHECK_INT(fixture_stats(x->s).objects, 0);
  CHECK_INT(fixture_stats(x->s).blocks, x->blocks);
  lvr_session_detach(x->s);
  test_unshare(x->board, sizeof(*x->board));
}

/* --- scenarios ------------------------------------------------------------------------------ */

static uint32_t age_now; /* of the queues that setup makes */

static void setup_for_puts(void *state) {
  struct state *x = state;
  make(x, 0, 0);
  age(x, age_now);
  if (age_now % 2) fill(x, 1);
}

static void put_five(void *state) {
  for (int i = 0; i < 5; i++)
    put(state);
}

static void put_batch(void *state) {
  put_many(state, 6);
  put(state);
}

/* Two segments end on the way: with a spare one there already the second is freed. */
static void setup_for_gets(void *state) {
  struct state *x = state;
  make(x, 0, 0);
  age(x, age_now);
  fill(x, age_now ? 8 : 60);
}

static void get_all(void *state) {
  struct state *x = state;
  while (x->board->gets < x->filled)
    get(x);
}

static void get_batches(void *state) {
  struct state *x = state;
  while (x->board->gets < x->filled)
    get_many(x, 5);
}

static void setup_joinable(void *state) {
  struct state *x = state;
  make(x, 0, LVR_QUEUE_JOINABLE);
  age(x, age_now);
  fill(x, 8);
}

static void get_and_do(void *state) {
  struct state *x = state;
  for (int i = 0; i < 4; i++)
    get(x);
  for (int i = 0; i < 3; i++)
    do_one(x);
  get_many(x, 3);
  do_one(x);
  CHECK_INT(lvr_queue_join_until(x->q, in_ns(MS), NULL), -ETIMEDOUT);
  put(x);
  lvri_store_release_u32(&x->board->many, 0);
}

static void get_four(void *state) {
  for (int i = 0; i < 4; i++)
    get(state);
}

/* The last one is done: who joins is told. */
static void setup_two(void *state) {
  struct state *x = state;
  make(x, 0, LVR_QUEUE_JOINABLE);
  fill(x, 2);
}

static void do_two(void *state) {
  struct state *x = state;
  get(x);
  get(x);
  do_one(x);
  do_one(x);
  CHECK_INT(lvr_queue_join_until(x->q, LVR_FOREVER, NULL), 0);
}

/* Waits, in vain. */
static void setup_bounded(void *state) {
  struct state *x = state;
  make(x, 3, 0);
  fill(x, 2);
}

static void wait_and_go_on(void *state) {
  struct state *x = state;
  put(x);
  CHECK_INT(try_put_note(x->q, 1, 9, in_ns(MS)), -ETIMEDOUT);
  get(x);
  get(x);
}

/* --- the end of a queue: the child is the last who has it ----------------------------------- */

static void setup_end(void *state) {
  struct state *x = state;
  make(x, 0, LVR_QUEUE_JOINABLE);
  age(x, 2);
  fill(x, notes_have_blocks ? 20 : 100);
  CHECK_INT(lvr_queue_send(x->q, &x->ref), 0);
  lvr_queue_detach(x->q);
  x->q = NULL;
}

static void be_the_last(void *state) {
  struct state *x = state;
  lvr_queue *q;
  CHECK_INT(lvr_queue_attach(x->s, &x->ref, &q), 0);
  (void)get_note(q);
  lvr_queue_detach(q);
  lvr_session_detach(x->s);
}

/* It is still on its way, or it is gone. */
static void check_end(void *state, bool done) {
  struct state *x = state;
  int error = lvr_queue_attach(x->s, &x->ref, &x->q);
  CHECK(error == -ESTALE || (error == 0 && !done));
  if (error) return;
  CHECK_INT(read_rest(x).ours, x->filled);
  for (uint32_t i = 0; i < x->filled; i++)
    CHECK_INT(lvr_queue_done(x->q), 0);
}

/* --- bystanders ----------------------------------------------------------------------------- */

static void put_beside(void *state) {
  struct state *x = state;
  put_note(x->q, 2, 0);
}

static void get_beside(void *state) {
  struct state *x = state;
  struct note n = {0, 0};
  CHECK_INT(try_get_note(x->q, &n, LVR_FOREVER), 0);
  if (n.from == 0) (void)lvri_fetch_add_acq_rel_u32(&x->board->taken, 1);
  if (n.from == 1) put_note(x->q, 2, 0); /* read_rest() counts what is there */
}

static void run_at_each_age(const struct crash_scenario *scenario, uint32_t most) {
  for (age_now = 0; age_now <= most; age_now++)
    (void)crash_run(scenario);
}

#define SCENARIO(variable, set_up, act, heal, look) \
  static const struct crash_scenario variable = {   \
      #act, sizeof(struct state), set_up, act, heal, look, teardown}

TEST_WITHIN(killed_with_the_queue_in_his_hands, 120) {
  SCENARIO(end, setup_end, be_the_last, recover, check_end);
  (void)crash_run(&end);
  (void)crash_run_repairer(&end, 60);
}

TEST_WITHIN(killed_while_he_waits, 120) {
  SCENARIO(bounded, setup_bounded, wait_and_go_on, recover, check_plain);
  (void)crash_run(&bounded);
  (void)crash_run_repairer(&bounded, 3);
}

TEST_WITHIN(killed_in_a_put, 120) {
  SCENARIO(one, setup_for_puts, put_five, recover, check_plain);
  SCENARIO(many, setup_for_puts, put_batch, recover, check_plain);
  run_at_each_age(&one, 5);
  run_at_each_age(&many, 5);
}

TEST_WITHIN(killed_in_a_get, 120) {
  SCENARIO(one, setup_for_gets, get_all, recover, check_plain);
  SCENARIO(many, setup_for_gets, get_batches, recover, check_plain);
  run_at_each_age(&one, 5);
  run_at_each_age(&many, 5);
}

TEST_WITHIN(killed_beside_others, 180) {
  SCENARIO(puts, setup_for_puts, put_five, recover, check_plain);
  SCENARIO(gets, setup_for_gets, get_four, recover, check_plain);
  age_now = 2;
  (void)crash_run_beside(&puts, put_beside);
  (void)crash_run_beside(&gets, get_beside);
}

TEST_WITHIN(repairers_killed_too, 180) {
  SCENARIO(puts, setup_for_puts, put_five, recover, check_plain);
  SCENARIO(gets, setup_for_gets, get_all, recover, check_plain);
  SCENARIO(several, setup_joinable, get_and_do, recover, check_joinable);
  age_now = 3;
  (void)crash_run_repairer(&puts, 9);
  (void)crash_run_repairer(&gets, 5);
  (void)crash_run_repairer(&several, 15);
}

/* The same with blocks: what a record, an intent or a ledger refers to, and nothing else, exists.
 */
TEST_WITHIN(killed_with_blocks, 120) {
  SCENARIO(puts, setup_for_puts, put_five, recover, check_plain);
  SCENARIO(gets, setup_for_gets, get_batches, recover, check_plain);
  SCENARIO(several, setup_joinable, get_and_do, recover, check_joinable);
  SCENARIO(bounded, setup_bounded, wait_and_go_on, recover, check_plain);
  SCENARIO(end, setup_end, be_the_last, recover, check_end);
  notes_have_blocks = true;
  age_now = 2;
  (void)crash_run(&puts);
  (void)crash_run(&gets);
  (void)crash_run(&several);
  (void)crash_run(&bounded);
  (void)crash_run(&end);
}

TEST_WITHIN(killed_with_blocks_beside_others, 120) {
  SCENARIO(puts, setup_for_puts, put_five, recover, check_plain);
  SCENARIO(gets, setup_for_gets, get_four, recover, check_plain);
  notes_have_blocks = true;
  age_now = 2;
  (void)crash_run_beside(&puts, put_beside);
  (void)crash_run_beside(&gets, get_beside);
}

TEST_WITHIN(repairers_killed_too_with_blocks, 120) {
  SCENARIO(puts, setup_for_puts, put_five, take_over, check_plain);
  SCENARIO(gets, setup_for_gets, get_four, take_over, check_plain);
  SCENARIO(several, setup_joinable, get_and_do, recover, check_joinable);
  notes_have_blocks = true;
  age_now = 1;
  (void)crash_run_repairer(&puts, 1);
  (void)crash_run_repairer(&gets, 1);
  (void)crash_run_repairer(&several, 40);
}

/* Who takes over is killed, too, before anybody repairs. */
TEST_WITHIN(no_point_is_left_out, 120) {
  /* all of a channel's but those of claims, which a board's tests have */
  static const char *const parts[] = {"channel.put.",  "channel.pending.", "channel.get.",
                                      "channel.taken", "channel.takeover", "channel.segment.",
                                      "channel.ring.", "channel.wait."};
  SCENARIO(puts, setup_for_puts, put_five, take_over, check_plain);
  SCENARIO(gets, setup_for_gets, get_batches, take_over, check_plain);
  SCENARIO(several, setup_joinable, get_and_do, take_over, check_joinable);
  SCENARIO(bounded, setup_bounded, wait_and_go_on, take_over, check_plain);
  SCENARIO(last, setup_two, do_two, recover, check_joinable);
  age_now = 2;
  (void)crash_run_repairer(&puts, 1);
  (void)crash_run_repairer(&gets, 1);
  (void)crash_run_repairer(&several, 1);
  (void)crash_run(&bounded);
  (void)crash_run(&last);
  (void)crash_run_repairer(&last, 14);
  notes_have_blocks = true;
  (void)crash_run_repairer(&puts, 1);
  for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
    CHECK_INT(crash_unvisited(parts[i]), 0);
  CHECK_INT(crash_unvisited("queue."), 0);
}

TEST_WITHIN(killed_with_work_to_do, 120) {
  SCENARIO(several, setup_joinable, get_and_do, recover, check_joinable);
  SCENARIO(last, setup_two, do_two, recover, check_joinable);
  run_at_each_age(&several, 4);
  (void)crash_run(&last);
}
