/* Messages with blocks: whose they are on the way, when nobody gets them, and when something
 * fails. */
#include "base/fault.h"
#include "core/channel_inner.h"
#include "core/queue_test.h"
#include "leveret/lock.h"

struct fixture {
  lvr_session *s;
  lvr_queue *q;
  uint64_t blocks; /* with the queue, and nothing in it */
};

static struct fixture fixture_of(uint32_t bound, uint32_t flags) {
  struct fixture f = {.s = new_session()};
  f.q = new_queue(f.s, bound, flags);
  put_empty(f.q); /* its first segment */
  get_bytes(f.q, 0);
  if (flags & LVR_QUEUE_JOINABLE) CHECK_INT(lvr_queue_done(f.q), 0);
  f.blocks = fixture_stats(f.s).blocks;
  notes_have_blocks = true;
  return f;
}

static void expect_nothing_left(struct fixture *f, uint64_t segments) {
  check_session(f->s);
  CHECK(fixture_stats(f->s).blocks <= f->blocks + segments);
  CHECK_INT(fixture_stats(f->s).objects, 1);
}

static lvr_block *new_block(lvr_session *s, size_t bytes, int byte) {
  lvr_block *b;
  CHECK_INT(lvr_block_create(s, bytes, 0, &b), 0);
  memset(lvr_block_data(b), byte, bytes);
  return b;
}

static int put_block(lvr_queue *q, size_t bytes, lvr_block *b) {
  static const unsigned char zeros[LVR_MESSAGE_INLINE];
  return lvr_queue_put_block_until(q, zeros, bytes, b, 0);
}

/* --- there and back ------------------------------------------------------------------------ */

TEST(long_messages) {
  static const size_t sizes[] = {LVR_MESSAGE_INLINE + 1, 31999, 32000, 32001, 65536, 1000000};
  struct fixture f = fixture_of(0, 0);
  for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
    unsigned char *data = malloc(sizes[i]);
    struct lvr_message m;
    CHECK(data != NULL);
    memset(data, (int)i + 1, sizes[i]);
    CHECK_INT(lvr_queue_put_until(f.q, data, sizes[i], 0), 0);
    CHECK_INT(fixture_stats(f.s).handles, 1);
    CHECK_INT(fixture_stats(f.s).objects, 2);
    check_session(f.s);
    CHECK_INT(lvr_queue_get_until(f.q, &m, 0), 0);
    CHECK(m.in_block && m.block);
    CHECK_INT(m.bytes, sizes[i]);
    CHECK(memcmp(m.data, data, sizes[i]) == 0);
    lvr_message_fini(&m);
    lvr_message_fini(&m);
    expect_nothing_left(&f, 1);
    free(data);
  }
}

TEST(blocks_travel_in_order_with_what_has_none) {
  struct fixture f = fixture_of(0, LVR_QUEUE_JOINABLE);
  for (uint32_t i = 0; i < 500; i++) {
    put_note(f.q, 1, i);
    if (i < 20) continue;
    expect_note(f.q, 1, i - 20);
    CHECK_INT(lvr_queue_done(f.q), 0);
    if (i % 50 == 0) check_session(f.s);
  }
  CHECK_INT(lvr_queue_unfinished(f.q), 20);
}

/* Whoever puts a block has it no more; what does not get through is still his. */
TEST(what_cannot_be_put_stays) {
  struct fixture f = fixture_of(1, 0);
  lvr_block *b = new_block(f.s, 10, 1), *same;
  lvr_ref ref;
  lvr_block_ref(b, &ref);
  CHECK_INT(lvr_block_attach(f.s, &ref, &same), 0);
  CHECK_INT(put_block(f.q, 5, b), -EINVAL); /* two uses */
  lvr_block_detach(same);
  put_empty(f.q);
  CHECK_INT(put_block(f.q, 5, b), -ETIMEDOUT);
  CHECK_INT(put_block(f.q, LVR_MESSAGE_INLINE + 1, b), -EINVAL);
  CHECK_INT(lvr_block_bytes(b), 10);
  get_bytes(f.q, 0);
  check_session(f.s);
  CHECK_INT(put_block(f.q, 5, b), 0);
  CHECK_INT(lvr_block_attach(f.s, &ref, &same), 0); /* the message's */
  lvr_block_detach(same);
  check_session(f.s);
}

/* A put that fails behind its switch of segments leaves one with nothing in it; or two, or three.
 */
TEST(segments_of_failed_puts) {
  static const size_t bytes[] = {600, 4000, 8000, LVR_MESSAGE_INLINE};
  struct fixture f = fixture_of(0, 0);
  lvr_block *b = new_block(f.s, 10, 1), *same;
  lvr_ref ref;
  lvr_block_ref(b, &ref);
  CHECK_INT(lvr_block_attach(f.s, &ref, &same), 0);
  put_bytes(f.q, 200);
  for (int i = 0; i < 4; i++) {
    CHECK_INT(put_block(f.q, bytes[i], b), -EINVAL);
    check_session(f.s);
  }
  lvr_block_detach(same);
  CHECK_INT(put_block(f.q, LVR_MESSAGE_INLINE, b), 0);
  get_bytes(f.q, 200);
  struct lvr_message m;
  CHECK_INT(lvr_queue_get_until(f.q, &m, 0), 0);
  CHECK_INT(m.bytes, LVR_MESSAGE_INLINE);
  CHECK_INT(((const unsigned char *)lvr_block_data(m.block))[9], 1);
  lvr_message_fini(&m);
  expect_empty(f.q);
}

/* The receiver may have the block already: then he has it twice. */
TEST(a_block_of_whom_has_it) {
  struct fixture f = fixture_of(0, 0);
  lvr_session *t;
  lvr_queue *q;
  lvr_block *b = new_block(f.s, 10, 1), *mine;
  lvr_ref ref, queue;
  lvr_block_ref(b, &ref);
  lvr_queue_ref(f.q, &queue);
  CHECK_INT(lvr_session_attach(lvr_session_fd(f.s), 0, &t), 0);
  CHECK_INT(lvr_queue_attach(t, &queue, &q), 0);
  CHECK_INT(lvr_block_attach(t, &ref, &mine), 0);
  CHECK_INT(put_block(f.q, 3, b), 0);
  struct lvr_message m;
  CHECK_INT(lvr_queue_get_until(q, &m, 0), 0);
  CHECK(m.block == mine);
  check_session(f.s);
  lvr_block_detach(mine);
  CHECK_INT(lvr_block_bytes(m.block), 10);
  check_session(f.s);
  lvr_message_fini(&m);
  expect_nothing_left(&f, 1);
  lvr_queue_detach(q);
  lvr_session_detach(t);
}

TEST(a_batch_ends_before_a_block) {
  struct fixture f = fixture_of(0, LVR_QUEUE_JOINABLE);
  unsigned char buf[LVR_MESSAGE_INLINE + 4];
  uint32_t count = 9;
  size_t bytes = 9;
  put_bytes(f.q, 1);
  put_bytes(f.q, 2);
  CHECK_INT(put_block(f.q, 3, new_block(f.s, 5, 1)), 0);
  put_bytes(f.q, 4);
  CHECK_INT(lvr_queue_get_many_until(f.q, buf, sizeof(buf), 9, 0, &count, &bytes), 0);
  CHECK_INT(count, 2);
  CHECK_INT(lvr_queue_get_many_until(f.q, buf, sizeof(buf), 9, LVR_FOREVER, &count, &bytes), 0);
  CHECK_INT(count, 0);
  CHECK_INT(bytes, 0);
  CHECK_INT(lvr_queue_size(f.q), 2);
  struct lvr_message m;
  CHECK_INT(lvr_queue_get_until(f.q, &m, 0), 0);
  CHECK_INT(m.bytes, 3);
  lvr_message_fini(&m);
  get_bytes(f.q, 4);
  for (int i = 0; i < 4; i++)
    CHECK_INT(lvr_queue_done(f.q), 0);
  expect_nothing_left(&f, 1);
}

/* --- what they carry ------------------------------------------------------------------------ */

static void send_a_lock(void *argument) {
  struct fixture *f = argument;
  lvr_block *b = new_block(f->s, 1, 1);
  lvr_lock *l;
  lvr_ref ref;
  CHECK_INT(lvr_lock_create(f->s, LVR_LOCK, &l), 0);
  lvr_lock_ref(l, &ref);
  CHECK_INT(lvr_block_carry(b, &ref), 0);
  CHECK_INT(put_block(f->q, 1, b), 0);
  lvr_lock_detach(l);
}

TEST(what_is_carried_lives_in_the_queue) {
  struct fixture f = fixture_of(0, 0);
  struct lvr_message m;
  lvr_lock *l;
  lvr_ref ref;
  CHECK_INT(test_join(test_fork(send_a_lock, &f)), 0);
  check_session(f.s);
  CHECK_INT(fixture_stats(f.s).objects, 3);
  CHECK_INT(lvr_queue_get_until(f.q, &m, 0), 0);
  CHECK_INT(lvr_block_carried(m.block), 1);
  lvr_block_carried_ref(m.block, 0, &ref);
  CHECK_INT(lvr_lock_attach(f.s, &ref, &l), 0);
  lvr_message_fini(&m);
  CHECK_INT(fixture_stats(f.s).objects, 2);
  lvr_lock_detach(l);
  expect_nothing_left(&f, 1);
}

/* A queue whose messages carry queues whose messages carry queues: all go with the first. */
TEST(queues_in_queues_go_with_the_last_handle) {
  lvr_session *s = new_session();
  uint64_t blocks = fixture_stats(s).blocks;
  lvr_queue *inner = new_queue(s, 0, 0);
  notes_have_blocks = true;
  for (uint32_t i = 0; i < 40; i++)
    put_note(inner, 1, i);
  for (int depth = 0; depth < 50; depth++) {
    lvr_queue *outer = new_queue(s, 0, LVR_QUEUE_JOINABLE);
    lvr_block *b = new_block(s, 100, 1);
    lvr_ref ref;
    lvr_queue_ref(inner, &ref);
    CHECK_INT(lvr_block_carry(b, &ref), 0);
    CHECK_INT(put_block(outer, 10, b), 0);
    lvr_queue_detach(inner);
    inner = outer;
  }
  check_session(s);
  CHECK_INT(fixture_stats(s).handles, 1);
  lvr_queue_detach(inner);
  check_session(s);
  CHECK_INT(fixture_stats(s).objects, 0);
  CHECK_INT(fixture_stats(s).blocks, blocks);
}

/* --- how many bytes ------------------------------------------------------------------------- */

TEST(blocks_count_as_bytes_under_way) {
  struct fixture f = fixture_of(0, 0);
  lvr_block *b = new_block(f.s, 5000, 1);
  channel_shm(f.q)->ch_most_units = 10000 / 64;
  CHECK_INT(put_block(f.q, 100, new_block(f.s, 7000, 1)), 0);
  CHECK_INT(put_block(f.q, 100, b), -ETIMEDOUT);
  put_bytes(f.q, 2000);
  struct lvr_message m;
  CHECK_INT(lvr_queue_get_until(f.q, &m, 0), 0);
  lvr_message_fini(&m);
  CHECK_INT(put_block(f.q, 100, b), 0);
  get_bytes(f.q, 2000);
  CHECK_INT(lvr_queue_get_until(f.q, &m, 0), 0);
  lvr_message_fini(&m);
  expect_nothing_left(&f, 1);
}

/* --- memory --------------------------------------------------------------------------------- */

/* What is kept warm is given up for a put that finds no memory. */
TEST(warm_memory_is_given_up) {
  struct fixture f = fixture_of(0, 0);
  uint64_t hits = 0;
  for (int i = 0; i < 40; i++) {
    lvr_block_detach(new_block(f.s, 200000, 1));
    lvri_fault_arm("os.shm.commit", 1);
    put_bytes(f.q, LVR_MESSAGE_INLINE);
    hits += lvri_fault_hits();
    lvri_fault_arm(NULL, 0);
  }
  CHECK(hits > 0);
  check_session(f.s);
}

/* Who has no memory for a ledger, or a handle, leaves the message where it is. */
TEST(a_get_without_memory_leaves_the_message) {
  enum { MANY = 300 };
  struct fixture f = fixture_of(0, 0);
  static struct lvr_message m[MANY];
  uint32_t refused = 0;
  for (uint32_t i = 0; i < MANY; i++)
    CHECK_INT(put_block(f.q, 3, new_block(f.s, 5, 1)), 0);
  for (uint32_t i = 0; i < MANY; i++) {
    lvri_fault_arm("os.shm.commit", 1);
    int error = lvr_queue_get_until(f.q, &m[i], 0);
    CHECK(error == 0 || error == -ENOMEM);
    lvri_fault_arm(NULL, 0);
    if (!error) continue;
    refused++;
    CHECK_INT(lvr_queue_size(f.q), MANY - i);
    check_session(f.s);
    CHECK_INT(lvr_queue_get_until(f.q, &m[i], 0), 0);
  }
  CHECK(refused > 0);
  for (uint32_t i = 0; i < MANY; i++)
    lvr_message_fini(&m[i]);
  expect_nothing_left(&f, 8); /* and a longer ledger */
}

/* --- intents -------------------------------------------------------------------------------- */

struct one {
  struct fixture f;
  uint32_t number;
};

static void put_it(void *argument) {
  const struct one *one = argument;
  put_note(one->f.q, 1, one->number);
}

static void get_three(void *argument) {
  struct one *one = argument;
  for (int i = 0; i < 3; i++)
    (void)get_note(one->f.q);
}

static void get_one(void *argument) {
  const struct one *one = argument;
  struct lvr_message m;
  CHECK_INT(lvr_queue_get_until(one->f.q, &m, 0), 0);
}

static struct one filled(uint32_t count) {
  struct one one = {.f = fixture_of(0, 0)};
  for (uint32_t i = 0; i < count; i++)
    put_note(one.f.q, 1, i);
  return one;
}

/* Whose block it is can be told at each moment, before anybody has taken over. */
TEST(the_dead_ones_block_is_counted_once) {
  static const char *const puts[] = {"channel.put.pending", "channel.put.written",
                                     "channel.put.published", "channel.put.done"};
  static const char *const gets[] = {"channel.get.taken", "channel.get.copied",
                                     "channel.get.published", "channel.get.done"};
  for (size_t i = 0; i < 4; i++) {
    struct one one = filled(6);
    one.number = 7;
    pid_t pid = crash_stop_at(puts[i], 1, put_it, &one);
    if (i > 0) fixture_check(one.f.s); /* else it has stopped in the guard */
    test_kill(pid);
    fixture_check(one.f.s);
    check_session(one.f.s);
    pid = crash_stop_at(gets[i], 2, get_three, &one);
    if (i > 0) fixture_check(one.f.s);
    test_kill(pid);
    fixture_check(one.f.s);
    check_session(one.f.s);
    put_note(one.f.q, 1, 8);
    (void)get_note(one.f.q);
    check_session(one.f.s);
  }
}

/* Who finishes a get tells those who wait for room what it was. */
TEST(what_the_dead_took_makes_room) {
  struct one one = filled(0);
  channel_shm(one.f.q)->ch_most_units = 2048 / 64;
  CHECK_INT(put_block(one.f.q, 100, new_block(one.f.s, 900, 1)), 0);
  put_bytes(one.f.q, 900);
  CHECK_INT(lvr_queue_put_until(one.f.q, (unsigned char[500]){0}, 500, 0), -ETIMEDOUT);
  test_kill(crash_stop_at("channel.get.copied", 1, get_one, &one));
  CHECK_INT(lvri_channel_lock_get(&one.f.s->arena, channel_shm(one.f.q), true), 0);
  lvri_channel_unlock(&channel_shm(one.f.q)->ch_get_mutex);
  CHECK_INT(lvr_queue_size(one.f.q), 1);
  put_bytes(one.f.q, 500);
  get_bytes(one.f.q, 900);
  get_bytes(one.f.q, 500);
  check_session(one.f.s);
}

/* A pending block of a message that was got long ago is not touched again. */
TEST(a_writer_who_slept_too_long_takes_nothing_with_him) {
  struct one one = filled(0);
  one.number = 1;
  pid_t pid = crash_stop_at("channel.put.published", 1, put_it, &one);
  expect_note(one.f.q, 1, 1);
  lvr_block *b = new_block(one.f.s, 100, 7); /* where that one was, perhaps */
  fixture_check(one.f.s);
  test_kill(pid);
  put_bytes(one.f.q, 1);
  check_session(one.f.s);
  CHECK_INT(((unsigned char *)lvr_block_data(b))[99], 7);
  lvr_block_detach(b);
  get_bytes(one.f.q, 1);
  expect_nothing_left(&one.f, 1);
}
