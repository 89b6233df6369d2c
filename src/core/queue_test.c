/* What a queue promises to those who live: order, contents, bounds, deadlines, what is done. Bells
 * and segments are in channel_test.c, deaths in queue_crash_test.c. */
#include "core/queue_test.h"

#include "base/fault.h"

struct fixture {
  lvr_session *s;
  lvr_queue *q;
  _Atomic uint32_t *step;
};

static struct fixture fixture_of(uint32_t bound, uint32_t flags) {
  struct fixture f = {.s = new_session(), .step = test_shared(64)};
  f.q = new_queue(f.s, bound, flags);
  return f;
}

TEST(refuses_nonsense) {
  struct fixture f = fixture_of(0, 0);
  lvr_queue *q;
  unsigned char buf[LVR_MESSAGE_INLINE + 8];
  uint32_t count;
  size_t bytes;
  CHECK_INT(lvr_queue_create(f.s, 0, 2, &q), -EINVAL);
  CHECK_INT(lvr_queue_create(f.s, UINT32_C(1) << 31, 0, &q), -EINVAL);
  CHECK_INT(lvr_queue_get_many_until(f.q, buf, LVR_MESSAGE_INLINE + 3, 1, 0, &count, &bytes),
            -EINVAL);
  CHECK_INT(lvr_queue_get_many_until(f.q, buf, sizeof(buf), 0, 0, &count, &bytes), -EINVAL);
  CHECK_INT(lvr_queue_put_block_until(f.q, buf, LVR_MESSAGE_INLINE + 1, NULL, 0), -EINVAL);
  CHECK_INT(lvr_queue_done(f.q), -EINVAL);
  CHECK_INT(lvr_queue_join_until(f.q, 0, NULL), -EINVAL);
  CHECK_INT(lvr_queue_unfinished(f.q), 0);
  CHECK_INT(lvr_queue_bound(f.q), 0);
  check_session(f.s);
}

/* --- order and contents -------------------------------------------------------------------- */

TEST(every_size) {
  enum { LAG = 30 };
  struct fixture f = fixture_of(0, 0);
  for (uint32_t bytes = 0; bytes <= LVR_MESSAGE_INLINE + LAG; bytes++) {
    if (bytes <= LVR_MESSAGE_INLINE) put_bytes(f.q, bytes);
    if (bytes >= LAG) get_bytes(f.q, bytes - LAG);
  }
  expect_empty(f.q);
  check_session(f.s);
}

TEST(no_bytes_need_no_memory) {
  struct fixture f = fixture_of(0, 0);
  CHECK_INT(lvr_queue_put_until(f.q, NULL, 0, 0), 0);
  get_bytes(f.q, 0);
}

/* A first message of each size that ends near the end of a segment, and others behind it. */
static void fill_up_to(lvr_session *s, size_t first, size_t bytes) {
  lvr_queue *q = new_queue(s, 0, 0);
  put_bytes(q, first);
  for (int i = 0; i < 3; i++)
    put_bytes(q, bytes);
  check_session(s);
  get_bytes(q, first);
  for (int i = 0; i < 3; i++)
    get_bytes(q, bytes);
  expect_empty(q);
  check_session(s);
  lvr_queue_detach(q);
}

TEST(segments_end_anywhere) {
  lvr_session *s = new_session();
  for (size_t first = 680; first <= 760; first++)
    for (size_t bytes = 0; bytes <= 24; bytes += 8)
      fill_up_to(s, first, bytes);
}

/* Puts and gets in any order and in any number, against a count of each. */
TEST(as_a_model_says) {
  struct fixture f = fixture_of(500, 0);
  uint64_t seed = test_seed();
  uint32_t puts = 0, gets = 0;
  for (int round = 0; round < 3000; round++) {
    for (uint32_t n = test_random(&seed) % 60; n > 0 && puts - gets < 500; n--)
      CHECK_INT(try_put_note(f.q, 7, puts++, 0), 0);
    CHECK_INT(lvr_queue_size(f.q), puts - gets);
    for (uint32_t n = test_random(&seed) % 62; n > 0 && puts != gets; n--)
      expect_note(f.q, 7, gets++);
    if (round % 100 == 0) check_session(f.s);
  }
  while (gets != puts)
    expect_note(f.q, 7, gets++);
  expect_empty(f.q);
}

/* A long queue costs what is in it, and an empty one next to nothing. */
TEST(gives_memory_back) {
  enum { MANY = 40000 };
  struct fixture f = fixture_of(0, 0);
  uint64_t before = fixture_stats(f.s).bytes;
  for (uint32_t i = 0; i < MANY; i++)
    put_bytes(f.q, 100);
  uint64_t full = fixture_stats(f.s).bytes - before;
  CHECK(full >= UINT64_C(112) * MANY && full < UINT64_C(112) * MANY + 4 * LVRI_PAGE_BYTES);
  for (uint32_t i = 0; i < MANY; i++)
    get_bytes(f.q, 100);
  CHECK(fixture_stats(f.s).bytes - before <= 2 * LVRI_PAGE_BYTES);
  check_session(f.s);
}

/* No new block for what fits into what there is: two segments are enough for a short queue. */
TEST(a_short_queue_stays_where_it_is) {
  struct fixture f = fixture_of(0, 0);
  uint64_t blocks = 0;
  for (uint32_t i = 0; i < 30000; i++) {
    put_note(f.q, 1, i);
    expect_note(f.q, 1, i);
    if (i == 10000) blocks = fixture_stats(f.s).blocks;
  }
  CHECK_INT(fixture_stats(f.s).blocks, blocks);
}

/* --- bounds and deadlines ------------------------------------------------------------------ */

static void expect_full(lvr_queue *q) {
  CHECK_INT(lvr_queue_put_until(q, "x", 1, 0), -ETIMEDOUT);
  CHECK_INT(lvr_queue_put_until(q, "x", 1, in_ns(-SEC)), -ETIMEDOUT);
}

TEST(bounded_exactly) {
  for (uint32_t bound = 1; bound < 40; bound += 3) {
    struct fixture f = fixture_of(bound, 0);
    for (uint32_t round = 0; round < 10; round++) {
      for (uint32_t i = 0; i < bound; i++)
        put_bytes(f.q, i);
      expect_full(f.q);
      CHECK_INT(lvr_queue_size(f.q), bound);
      get_bytes(f.q, 0);
      put_bytes(f.q, bound);
      expect_full(f.q);
      for (uint32_t i = 1; i <= bound; i++)
        get_bytes(f.q, i);
    }
    CHECK_INT(lvr_queue_bound(f.q), bound);
    check_session(f.s);
    lvr_session_detach(f.s);
  }
}

/* Whoever waits in vain waits to the end. */
static void expect_late(int error, int64_t deadline_ns) {
  CHECK_INT(error, -ETIMEDOUT);
  int64_t late_ns = lvri_os_now_ns() - deadline_ns;
  CHECK(late_ns >= 0 && late_ns < SEC);
}

TEST(keeps_deadlines) {
  struct fixture f = fixture_of(1, LVR_QUEUE_JOINABLE);
  unsigned char buf[LVR_MESSAGE_INLINE + 4];
  struct lvr_message m;
  uint32_t count;
  size_t bytes;
  for (int64_t ns = MS; ns <= 81 * MS; ns += 80 * MS) {
    int64_t at = in_ns(ns);
    expect_late(lvr_queue_get_until(f.q, &m, at), at);
    at = in_ns(ns);
    expect_late(lvr_queue_get_many_until(f.q, buf, sizeof(buf), 1, at, &count, &bytes), at);
    at = in_ns(ns);
    expect_late(lvr_queue_wait_until(f.q, at), at);
    put_empty(f.q);
    at = in_ns(ns);
    expect_late(lvr_queue_put_until(f.q, "", 0, at), at);
    at = in_ns(ns);
    expect_late(lvr_queue_join_until(f.q, at, &count), at);
    get_bytes(f.q, 0);
    CHECK_INT(lvr_queue_done(f.q), 0);
  }
}

TEST(waits_for_a_message_and_leaves_it) {
  struct fixture f = fixture_of(0, 0);
  CHECK_INT(lvr_queue_wait_until(f.q, 0), -ETIMEDOUT);
  put_bytes(f.q, 5);
  CHECK_INT(lvr_queue_wait_until(f.q, 0), 0);
  CHECK_INT(lvr_queue_wait_until(f.q, LVR_FOREVER), 0);
  get_bytes(f.q, 5);
  CHECK_INT(lvr_queue_wait_until(f.q, 0), -ETIMEDOUT);
}

enum { BOUND = 5, PRODUCERS = 4, EACH = 4000 };

/* step[0]: puts that have returned; step[1]: gets that have begun. What is between them is in the
 * queue, or more. */
static void produce_within_bounds(void *argument) {
  struct fixture *f = argument;
  for (uint32_t i = 0; i < EACH; i++) {
    CHECK_INT(lvr_queue_put_until(f->q, "", 0, LVR_FOREVER), 0);
    (void)lvri_fetch_add_acq_rel_u32(&f->step[0], 1);
    uint32_t puts = lvri_load_acquire_u32(&f->step[0]), gets = lvri_load_acquire_u32(&f->step[1]);
    CHECK((int32_t)(puts - gets) <= BOUND);
    CHECK(lvr_queue_size(f->q) <= BOUND);
  }
}

TEST_WITHIN(never_more_than_the_bound, 60) {
  struct fixture f = fixture_of(BOUND, 0);
  struct lvr_message m;
  pid_t pids[PRODUCERS];
  for (int i = 0; i < PRODUCERS; i++)
    pids[i] = test_fork(produce_within_bounds, &f);
  for (int i = 0; i < PRODUCERS * EACH; i++) {
    CHECK(lvr_queue_size(f.q) <= BOUND);
    (void)lvri_fetch_add_acq_rel_u32(&f.step[1], 1);
    CHECK_INT(lvr_queue_get_until(f.q, &m, LVR_FOREVER), 0);
    if (i % 100 == 0) CHECK_INT(lvr_session_check(f.s), 0);
  }
  for (int i = 0; i < PRODUCERS; i++)
    CHECK_INT(test_join(pids[i]), 0);
  expect_empty(f.q);
}

/* --- many at once -------------------------------------------------------------------------- */

static struct lvr_slice slice_of(const void *data, size_t bytes) {
  return (struct lvr_slice){.data = data, .bytes = bytes};
}

TEST(packs_as_the_header_says) {
  struct fixture f = fixture_of(0, 0);
  static const unsigned char wanted[] =
      "\1\0\0\0a\0\0\0"
      "\0\0\0\0"
      "\4\0\0\0bcde"
      "\5\0\0\0fghij";
  unsigned char buf[LVR_MESSAGE_INLINE + 4];
  struct lvr_slice messages[] = {slice_of("a", 1), slice_of("", 0), slice_of("bcde", 4),
                                 slice_of("fghij", 5)};
  uint32_t count;
  size_t bytes;
  CHECK_INT(lvr_queue_put_many_until(f.q, messages, 4, 0, &count), 0);
  CHECK_INT(count, 4);
  memset(buf, 0, sizeof(buf));
  CHECK_INT(lvr_queue_get_many_until(f.q, buf, sizeof(buf), 100, 0, &count, &bytes), 0);
  CHECK_INT(count, 4);
  CHECK_INT(bytes, 32);
  CHECK(memcmp(buf, wanted, 29) == 0);
  CHECK_INT(lvr_queue_put_many_until(f.q, messages, 0, 0, &count), 0);
  CHECK_INT(count, 0);
  expect_empty(f.q);
}

/* Two messages in one segment; a batch ends where its segment does. */
static void put_two(lvr_queue *q, size_t first, size_t second) {
  for (;;) {
    put_bytes(q, first);
    uint64_t segment = channel_shm(q)->ch_put_segment;
    put_bytes(q, second);
    if (channel_shm(q)->ch_put_segment == segment) return;
    get_bytes(q, first);
    get_bytes(q, second);
  }
}

TEST(gets_no_more_than_wanted_and_fit) {
  struct fixture f = fixture_of(0, 0);
  unsigned char buf[LVR_MESSAGE_INLINE + 4];
  uint32_t count;
  size_t bytes;
  put_two(f.q, 10, 11);
  CHECK_INT(lvr_queue_get_many_until(f.q, buf, sizeof(buf), 1, 0, &count, &bytes), 0);
  CHECK_INT(count, 1);
  get_bytes(f.q, 11);
  for (size_t last = LVR_MESSAGE_INLINE - 20; last <= LVR_MESSAGE_INLINE; last++) {
    put_two(f.q, 1, last);
    CHECK_INT(lvr_queue_get_many_until(f.q, buf, sizeof(buf), 2, 0, &count, &bytes), 0);
    CHECK(bytes <= sizeof(buf));
    CHECK_INT(count, last <= LVR_MESSAGE_INLINE - 8 ? 2 : 1);
    if (count == 1) get_bytes(f.q, last);
  }
  expect_empty(f.q);
}

/* The least room that is allowed is enough for the longest message. */
TEST(the_longest_fits_alone) {
  struct fixture f = fixture_of(0, 0);
  unsigned char buf[LVR_MESSAGE_INLINE + 4];
  uint32_t count;
  size_t bytes;
  for (size_t last = LVR_MESSAGE_INLINE - 8; last <= LVR_MESSAGE_INLINE; last++) {
    put_bytes(f.q, last);
    CHECK_INT(lvr_queue_get_many_until(f.q, buf, sizeof(buf), 2, 0, &count, &bytes), 0);
    CHECK_INT(count, 1);
    CHECK_INT(bytes, 4 + ((last + 3) & ~(size_t)3));
  }
}

TEST(says_how_many_were_put) {
  struct fixture f = fixture_of(3, 0);
  unsigned char big[LVR_MESSAGE_INLINE + 1] = {0};
  struct lvr_slice messages[5];
  uint32_t count;
  for (int i = 0; i < 5; i++)
    messages[i] = slice_of(big, (size_t)i);
  CHECK_INT(lvr_queue_put_many_until(f.q, messages, 5, 0, &count), -ETIMEDOUT);
  CHECK_INT(count, 3);
  CHECK_INT(lvr_queue_size(f.q), 3);
  CHECK_INT(lvr_queue_put_many_until(f.q, messages, 5, in_ns(5 * MS), &count), -ETIMEDOUT);
  CHECK_INT(count, 0);
  f = fixture_of(0, 0);
  messages[2].bytes = sizeof(big);
  CHECK_INT(lvr_queue_put_many_until(f.q, messages, 5, 0, &count), -EINVAL);
  CHECK_INT(count, 2);
  CHECK_INT(lvr_queue_size(f.q), 2);
}

static void put_a_hundred(void *argument) {
  struct fixture *f = argument;
  unsigned char data[100][LVR_MESSAGE_INLINE];
  struct lvr_slice messages[100];
  uint32_t count;
  for (uint32_t i = 0; i < 100; i++)
    messages[i] = slice_of(data[i], note_write((struct note){3, i}, data[i]));
  CHECK_INT(lvr_queue_put_many_until(f->q, messages, 100, LVR_FOREVER, &count), 0);
  CHECK_INT(count, 100);
}

/* Of a packed batch. */
static uint32_t expect_batch(const unsigned char *buf, size_t bytes, uint32_t from,
                             uint32_t number) {
  for (size_t at = 0; at < bytes;) {
    uint32_t length;
    memcpy(&length, buf + at, sizeof(length));
    struct note n = note_read(buf + at + sizeof(length), length);
    CHECK_INT(n.from, from);
    CHECK_INT(n.number, number++);
    at += sizeof(length) + ((length + 3) & ~UINT32_C(3));
  }
  return number;
}

static void expect_a_hundred(lvr_queue *q) {
  unsigned char buf[3 * LVR_MESSAGE_INLINE];
  uint32_t number = 0, count;
  size_t bytes;
  while (number < 100) {
    CHECK_INT(lvr_queue_get_many_until(q, buf, sizeof(buf), 30, LVR_FOREVER, &count, &bytes), 0);
    CHECK(count >= 1 && count <= 30);
    uint32_t next = expect_batch(buf, bytes, 3, number);
    CHECK_INT(next, number + count);
    number = next;
  }
}

TEST(batches_wait_for_room_and_for_messages) {
  without_relook();
  for (uint32_t bound = 0; bound < 120; bound += 7) {
    struct fixture f = fixture_of(bound, bound & 1 ? LVR_QUEUE_JOINABLE : 0);
    pid_t pid = test_fork(put_a_hundred, &f);
    expect_a_hundred(f.q);
    CHECK_INT(test_join(pid), 0);
    expect_empty(f.q);
    lvr_queue_detach(f.q);
    lvr_session_detach(f.s);
  }
}

/* --- what is done -------------------------------------------------------------------------- */

static uint32_t held(const struct fixture *f) { return lvri_handle_entry(&f->q->handle)->le_held; }

static void expect_lost(struct fixture *f, uint32_t wanted) {
  uint32_t lost = 99;
  CHECK_INT(lvr_queue_join_until(f->q, in_ns(5 * SEC), &lost), 0);
  CHECK_INT(lost, wanted);
}

TEST(counts_what_is_done) {
  struct fixture f = fixture_of(0, LVR_QUEUE_JOINABLE);
  expect_lost(&f, 0);
  CHECK_INT(lvr_queue_done(f.q), -EINVAL);
  for (uint32_t i = 0; i < 3; i++)
    put_bytes(f.q, i);
  for (uint32_t i = 0; i < 3; i++) {
    get_bytes(f.q, i);
    CHECK_INT(lvr_queue_unfinished(f.q), 3 - i);
    CHECK_INT(held(&f), 1);
    CHECK_INT(lvr_queue_join_until(f.q, 0, NULL), -ETIMEDOUT);
    CHECK_INT(lvr_queue_done(f.q), 0);
  }
  CHECK_INT(held(&f), 0);
  CHECK_INT(lvr_queue_done(f.q), -EINVAL);
  CHECK_INT(lvr_queue_join_until(f.q, 0, NULL), 0);
  expect_lost(&f, 0);
  check_session(f.s);
}

TEST(a_batch_is_held_as_a_whole) {
  struct fixture f = fixture_of(0, LVR_QUEUE_JOINABLE);
  unsigned char buf[LVR_MESSAGE_INLINE + 4];
  uint32_t count;
  size_t bytes;
  for (uint32_t i = 0; i < 5; i++)
    put_bytes(f.q, i);
  CHECK_INT(lvr_queue_get_many_until(f.q, buf, sizeof(buf), 4, 0, &count, &bytes), 0);
  CHECK_INT(held(&f), 4);
  for (int i = 0; i < 4; i++)
    CHECK_INT(lvr_queue_done(f.q), 0);
  CHECK_INT(held(&f), 0);
  CHECK_INT(lvr_queue_unfinished(f.q), 1);
}

/* Takes two, calls one done. */
static void take_two(void *argument) {
  struct fixture *f = argument;
  (void)get_note(f->q);
  (void)get_note(f->q);
  CHECK_INT(lvr_queue_done(f->q), 0);
  lvri_store_release_u32(f->step, 1);
  await_u32(f->step, 2);
}

static void put_notes(struct fixture *f, uint32_t count) {
  for (uint32_t i = 0; i < count; i++)
    put_note(f->q, 0, i);
}

TEST(tells_once_what_was_lost) {
  struct fixture f = fixture_of(0, LVR_QUEUE_JOINABLE);
  put_notes(&f, 2);
  pid_t pid = test_fork(take_two, &f);
  await_u32(f.step, 1);
  CHECK_INT(lvr_queue_unfinished(f.q), 1);
  CHECK_INT(lvr_queue_join_until(f.q, in_ns(5 * MS), NULL), -ETIMEDOUT);
  test_kill(pid);
  expect_lost(&f, 1);
  expect_lost(&f, 0);
  check_session(f.s);
}

/* Others call done what the dead one had; nothing is lost then. */
TEST(done_by_another_is_done) {
  struct fixture f = fixture_of(0, LVR_QUEUE_JOINABLE);
  put_notes(&f, 2);
  pid_t pid = test_fork(take_two, &f);
  await_u32(f.step, 1);
  CHECK_INT(lvr_queue_done(f.q), 0);
  CHECK_INT(lvr_queue_done(f.q), -EINVAL);
  lvri_store_release_u32(f.step, 2);
  CHECK_INT(test_join(pid), 0);
  CHECK(lvr_repair(f.s) >= 1);
  expect_lost(&f, 0);
  put_note(f.q, 0, 3);
  CHECK_INT(lvr_queue_unfinished(f.q), 1);
  expect_note(f.q, 0, 3);
  CHECK_INT(lvr_queue_done(f.q), 0);
  expect_lost(&f, 0);
  check_session(f.s);
}

static void take_and_do_one(void *argument) {
  struct fixture *f = argument;
  (void)get_note(f->q);
  CHECK_INT(lvr_queue_done(f->q), 0);
}

static void repair_it(void *argument) {
  const struct fixture *f = argument;
  CHECK(lvr_repair(f->s) >= 0);
}

static void join_with_one_lost(void *argument) {
  struct fixture *f = argument;
  await_u32(f->step, 1);
  expect_lost(f, 1);
  expect_lost(f, 0);
}

/* The joiner is there first: its fork would wait for who has stopped in the guard. */
static void kill_while_another_joins(struct fixture *f, const char *point, void (*doer)(void *)) {
  lvri_store_release_u32(f->step, 0);
  pid_t joiner = test_fork(join_with_one_lost, f), pid = crash_stop_at(point, 1, doer, f);
  lvri_store_release_u32(f->step, 1);
  await_asleep(joiner);
  test_kill(pid);
  CHECK_INT(test_join(joiner), 0);
  check_session(f->s);
}

/* What is rolled back with its doer, or with his repairer, was not done: a join does not see it. */
TEST(a_join_sees_what_is_committed) {
  struct fixture f = fixture_of(0, LVR_QUEUE_JOINABLE);
  put_notes(&f, 1);
  kill_while_another_joins(&f, "queue.done.counted", take_and_do_one);
  f = fixture_of(0, LVR_QUEUE_JOINABLE);
  put_notes(&f, 1);
  test_kill(crash_stop_at("queue.done.counted", 1, take_and_do_one, &f));
  kill_while_another_joins(&f, "queue.lost.counted", repair_it);
}

static void join_it(void *argument) {
  struct fixture *f = argument;
  uint32_t lost;
  (void)lvri_fetch_add_acq_rel_u32(f->step, 1);
  CHECK_INT(lvr_queue_join_until(f->q, LVR_FOREVER, &lost), 0);
  CHECK_INT(lost, 0);
}

TEST(wakes_all_who_join) {
  enum { JOINERS = 3 };
  without_relook();
  struct fixture f = fixture_of(0, LVR_QUEUE_JOINABLE);
  pid_t pids[JOINERS];
  put_notes(&f, 1);
  for (int i = 0; i < JOINERS; i++)
    pids[i] = test_fork(join_it, &f);
  await_u32(f.step, JOINERS);
  for (int i = 0; i < JOINERS; i++)
    await_asleep(pids[i]);
  expect_note(f.q, 0, 0);
  CHECK_INT(lvr_queue_done(f.q), 0);
  for (int i = 0; i < JOINERS; i++)
    CHECK_INT(test_join(pids[i]), 0);
}

/* Units outlive the handle, as long as anybody else can see the queue. */
TEST(units_outlive_a_handle) {
  struct fixture f = fixture_of(0, LVR_QUEUE_JOINABLE);
  lvr_ref ref;
  put_notes(&f, 2);
  (void)get_note(f.q);
  CHECK_INT(lvr_queue_send(f.q, &ref), 0);
  lvr_queue_detach(f.q);
  CHECK_INT(lvr_queue_attach(f.s, &ref, &f.q), 0);
  CHECK_INT(held(&f), 1);
  CHECK_INT(lvr_queue_done(f.q), 0);
  expect_note(f.q, 0, 1);
  CHECK_INT(lvr_queue_done(f.q), 0);
  check_session(f.s);
}

/* --- signals, forks, names ----------------------------------------------------------------- */

static void be_interrupted(void *argument) {
  struct fixture *f = argument;
  unsigned char buf[LVR_MESSAGE_INLINE + 4];
  struct lvr_slice slice = slice_of("", 0);
  struct lvr_message m;
  uint32_t count;
  size_t bytes;
  catch_signals();
  CHECK_INT(lvr_queue_get_until(f->q, &m, LVR_FOREVER), -EINTR);
  (void)lvri_fetch_add_acq_rel_u32(f->step, 1);
  CHECK_INT(lvr_queue_get_many_until(f->q, buf, sizeof(buf), 1, LVR_FOREVER, &count, &bytes),
            -EINTR);
  (void)lvri_fetch_add_acq_rel_u32(f->step, 1);
  CHECK_INT(lvr_queue_wait_until(f->q, LVR_FOREVER), -EINTR);
  put_empty(f->q);
  (void)lvri_fetch_add_acq_rel_u32(f->step, 1);
  CHECK_INT(lvr_queue_put_until(f->q, "", 0, LVR_FOREVER), -EINTR);
  (void)lvri_fetch_add_acq_rel_u32(f->step, 1);
  CHECK_INT(lvr_queue_put_many_until(f->q, &slice, 1, LVR_FOREVER, &count), -EINTR);
  (void)lvri_fetch_add_acq_rel_u32(f->step, 1);
  CHECK_INT(lvr_queue_join_until(f->q, LVR_FOREVER, NULL), -EINTR);
}

TEST(signals_interrupt_every_wait) {
  without_relook();
  struct fixture f = fixture_of(1, LVR_QUEUE_JOINABLE);
  pid_t pid = test_fork(be_interrupted, &f);
  for (uint32_t step = 0; step < 6; step++) {
    await_u32(f.step, step);
    await_asleep(pid);
    CHECK(kill(pid, SIGUSR1) == 0);
  }
  CHECK_INT(test_join(pid), 0);
  CHECK_INT(lvr_queue_size(f.q), 1);
  check_session(f.s);
}

static void expect_stale(lvr_queue *q) {
  unsigned char buf[LVR_MESSAGE_INLINE + 4];
  struct lvr_slice slice = slice_of("", 0);
  struct lvr_message m;
  lvr_ref ref;
  uint32_t count;
  size_t bytes;
  CHECK_INT(lvr_queue_put_until(q, "", 0, 0), -ESTALE);
  CHECK_INT(lvr_queue_put_many_until(q, &slice, 1, 0, &count), -ESTALE);
  CHECK_INT(lvr_queue_get_until(q, &m, 0), -ESTALE);
  CHECK_INT(lvr_queue_get_many_until(q, buf, sizeof(buf), 1, 0, &count, &bytes), -ESTALE);
  CHECK_INT(lvr_queue_done(q), -ESTALE);
  CHECK_INT(lvr_queue_join_until(q, 0, NULL), -ESTALE);
  CHECK_INT(lvr_queue_send(q, &ref), -ESTALE);
}

TEST(a_child_without_a_slot_is_nobody) {
  struct fixture f = fixture_of(0, LVR_QUEUE_JOINABLE);
  put_empty(f.q);
  pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  if (pid == 0) {
    expect_stale(f.q);
    CHECK_INT(lvr_queue_size(f.q), 1);
    lvr_queue_detach(f.q);
    _exit(0);
  }
  CHECK_INT(test_join(pid), 0);
  get_bytes(f.q, 0);
  check_session(f.s);
}

static void put_and_get_as_a_child(void *argument) {
  struct fixture *f = argument;
  expect_note(f->q, 0, 0);
  put_note(f->q, 1, 1);
  lvr_queue_detach(f->q);
  check_session(f->s);
}

TEST(a_child_has_its_parents_queues) {
  struct fixture f = fixture_of(0, 0);
  put_note(f.q, 0, 0);
  CHECK_INT(test_join(test_fork(put_and_get_as_a_child, &f)), 0);
  expect_note(f.q, 1, 1);
}

TEST(travels_by_its_name) {
  struct fixture f = fixture_of(0, 0);
  lvr_ref ref;
  lvr_queue *q;
  CHECK_INT(lvr_queue_send(f.q, &ref), 0);
  put_bytes(f.q, 3);
  get_bytes(f.q, 3);
  lvr_queue_detach(f.q);
  CHECK_INT(lvr_queue_attach(f.s, &ref, &f.q), 0);
  CHECK_INT(lvr_queue_attach(f.s, &ref, &q), 0);
  CHECK(q == f.q);
  put_bytes(q, 4);
  lvr_queue_detach(q);
  get_bytes(f.q, 4);
  lvr_queue_detach(f.q);
  CHECK_INT(lvr_queue_attach(f.s, &ref, &f.q), -ESTALE);
  ref.kind = LVRI_KIND_LOCK;
  CHECK_INT(lvr_queue_attach(f.s, &ref, &f.q), -EINVAL);
}

/* Two processes that map the arena at different addresses, in one. */
TEST(two_mappings) {
  struct fixture f = fixture_of(40, LVR_QUEUE_JOINABLE);
  lvr_session *t;
  lvr_queue *q;
  lvr_ref ref;
  CHECK_INT(lvr_session_attach(lvr_session_fd(f.s), 0, &t), 0);
  CHECK(t->arena.base != f.s->arena.base);
  lvr_queue_ref(f.q, &ref);
  CHECK_INT(lvr_queue_attach(t, &ref, &q), 0);
  for (uint32_t i = 0; i < 5000; i++) {
    put_note(i % 3 ? q : f.q, 0, i);
    if (i >= 30) expect_note(i % 5 ? f.q : q, 0, i - 30);
    if (i >= 30) CHECK_INT(lvr_queue_done(i % 2 ? q : f.q), 0);
  }
  CHECK_INT(lvr_queue_unfinished(q), 30);
  check_session(t);
  lvr_queue_detach(q);
  lvr_session_detach(t);
  check_session(f.s);
}

/* --- no memory ----------------------------------------------------------------------------- */

/* In vain, then not: the queue is as it was. */
TEST(a_put_without_memory_leaves_no_trace) {
  struct fixture f = fixture_of(0, 0);
  uint32_t refused = 0;
  for (uint32_t i = 0; i < 3000; i++) {
    lvri_fault_arm("os.shm.commit", 1);
    int error = try_put_note(f.q, 0, i, 0);
    CHECK(error == 0 || error == -ENOMEM);
    lvri_fault_arm(NULL, 0);
    if (!error) continue;
    refused++;
    check_session(f.s);
    CHECK_INT(lvr_queue_size(f.q), i);
    put_note(f.q, 0, i);
  }
  CHECK(refused > 3);
  for (uint32_t i = 0; i < 3000; i++)
    expect_note(f.q, 0, i);
}

/* --- from all sides ------------------------------------------------------------------------ */

enum { CROWD = 4, PUTS = 5000 };

/* How far each producer's messages have been seen; and how many of all of them. */
struct crowd {
  struct fixture f;
  _Atomic uint32_t next_producer;
  _Atomic uint32_t got[CROWD];
  _Atomic uint8_t seen[CROWD][PUTS];
};

static void put_as_one_of_many(void *argument) {
  struct crowd *crowd = argument;
  uint32_t from = lvri_fetch_add_acq_rel_u32(&crowd->next_producer, 1);
  for (uint32_t i = 0; i < PUTS; i++)
    put_note(crowd->f.q, from, i);
}

static void get_as_one_of_many(void *argument) {
  struct crowd *crowd = argument;
  int64_t last[CROWD] = {-1, -1, -1, -1};
  for (;;) {
    struct note n = get_note(crowd->f.q);
    if (n.from >= CROWD) return;
    CHECK(n.number < PUTS && n.number > last[n.from]);
    last[n.from] = n.number;
    CHECK_INT(atomic_fetch_add(&crowd->seen[n.from][n.number], 1), 0);
    (void)lvri_fetch_add_relaxed_u32(&crowd->got[n.from], 1);
  }
}

static void put_or_get(void *argument) {
  struct crowd *crowd = argument;
  if (lvri_fetch_add_acq_rel_u32(crowd->f.step, 1) % 2)
    put_as_one_of_many(crowd);
  else
    get_as_one_of_many(crowd);
}

static struct crowd *new_crowd(uint32_t bound) {
  struct crowd *crowd = test_shared(sizeof(*crowd));
  crowd->f = fixture_of(bound, 0);
  without_relook();
  return crowd;
}

static void check_crowd(struct crowd *crowd) {
  for (int i = 0; i < CROWD; i++)
    CHECK_INT(crowd->got[i], PUTS);
  expect_empty(crowd->f.q);
  check_session(crowd->f.s);
}

static void run_processes(uint32_t bound) {
  struct crowd *crowd = new_crowd(bound);
  pid_t pids[2 * CROWD];
  for (int i = 0; i < 2 * CROWD; i++)
    pids[i] = test_fork(i % 2 ? put_as_one_of_many : get_as_one_of_many, crowd);
  for (int i = 1; i < 2 * CROWD; i += 2)
    CHECK_INT(test_join(pids[i]), 0);
  for (int i = 0; i < CROWD; i++)
    put_note(crowd->f.q, CROWD, 0);
  for (int i = 0; i < 2 * CROWD; i += 2)
    CHECK_INT(test_join(pids[i]), 0);
  check_crowd(crowd);
}

TEST_WITHIN(many_processes, 90) {
  run_processes(0);
  run_processes(1);
  run_processes(100);
}

static void dismiss(void *argument) {
  struct crowd *crowd = argument;
  for (int i = 0; i < CROWD; i++)
    while (lvri_load_acquire_u32(&crowd->got[i]) < PUTS)
      (void)sched_yield();
  for (int i = 0; i < CROWD; i++)
    put_note(crowd->f.q, CROWD, 0);
}

static void thread_of_many(void *argument) {
  struct crowd *crowd = argument;
  if (lvri_fetch_add_acq_rel_u32(&crowd->f.step[1], 1) == 0)
    dismiss(crowd);
  else
    put_or_get(crowd);
}

static void run_threads(uint32_t bound) {
  struct crowd *crowd = new_crowd(bound);
  test_threads(2 * CROWD + 1, thread_of_many, crowd);
  check_crowd(crowd);
}

TEST_WITHIN(many_threads, 90) {
  run_threads(0);
  run_threads(1);
  run_threads(100);
}
