/* What the parts of a channel do when they are stopped in the middle, at the end of their segments
 * and of their counts: bells, seals, closing. */
#include "core/channel_inner.h"
#include "core/queue_test.h"

struct fixture {
  lvr_session *s;
  lvr_queue *q;
  _Atomic uint32_t *step;
  _Atomic uint32_t *got;
};

static struct fixture fixture_of(uint32_t bound, uint32_t flags) {
  struct fixture f = {.s = new_session(),
                      .step = test_shared(sizeof(uint32_t)),
                      .got = test_shared(sizeof(uint32_t))};
  f.q = new_queue(f.s, bound, flags);
  return f;
}

static void get_a_hundred(void *argument) {
  struct fixture *f = argument;
  for (int i = 0; i < 100; i++)
    (void)get_note(f->q);
}

struct long_one {
  struct fixture *f;
  size_t bytes;
};

static void put_that_long(void *argument) {
  const struct long_one *one = argument;
  put_bytes(one->f->q, one->bytes);
}

static void put_long_one(void *argument) {
  struct fixture *f = argument;
  put_bytes(f->q, 5000);
}

/* --- counts --------------------------------------------------------------------------------- */

/* As if so many messages had come through. */
static void start_at(lvr_queue *q, uint32_t count) {
  struct lvri_channel_shm *shm = channel_shm(q);
  lvri_store_relaxed_u64(&shm->ch_tail, lvri_channel_word(count, 0));
  lvri_store_relaxed_u64(&shm->ch_head, lvri_channel_word(count, 0));
  shm->ch_seen_gets = shm->ch_seen_puts = count;
  lvri_store_relaxed_u32(&((struct lvr_queue_shm *)(void *)q->handle.object)->qu_done, count);
}

static void fill_and_empty(struct fixture *f, uint32_t bound, uint32_t number) {
  for (uint32_t i = 0; i < bound; i++)
    put_note(f->q, 1, number + i);
  CHECK_INT(try_put_note(f->q, 1, 0, 0), -ETIMEDOUT);
  CHECK_INT(lvr_queue_size(f->q), bound);
  CHECK_INT(lvr_queue_unfinished(f->q), bound);
  check_session(f->s);
  for (uint32_t i = 0; i < bound; i++) {
    expect_note(f->q, 1, number + i);
    CHECK_INT(lvr_queue_done(f->q), 0);
  }
  CHECK_INT(lvr_queue_done(f->q), -EINVAL);
  expect_empty(f->q);
}

TEST(counts_wrap) {
  enum { BOUND = 7 };
  for (uint32_t before = 0; before < 2 * BOUND; before++) {
    struct fixture f = fixture_of(BOUND, LVR_QUEUE_JOINABLE);
    start_at(f.q, 0 - before);
    for (uint32_t i = 0; i < 5; i++)
      fill_and_empty(&f, BOUND, BOUND * i);
    lvr_session_detach(f.s);
  }
}

static void get_a_batch(void *argument) {
  struct fixture *f = argument;
  unsigned char buf[4 * LVR_MESSAGE_INLINE];
  uint32_t count;
  size_t bytes;
  CHECK_INT(lvr_queue_get_many_until(f->q, buf, sizeof(buf), 6, 0, &count, &bytes), 0);
}

/* Taken by the dead, over the end of the counts. */
TEST(what_the_dead_took_wraps) {
  for (uint32_t before = 0; before < 9; before++) {
    struct fixture f = fixture_of(0, LVR_QUEUE_JOINABLE);
    uint32_t lost;
    start_at(f.q, 0 - before);
    for (uint32_t i = 0; i < 8; i++)
      put_bytes(f.q, i);
    pid_t pid = crash_stop_at("channel.get.copied", 1, get_a_batch, &f);
    test_kill(pid);
    check_session(f.s);
    get_bytes(f.q, 6);
    get_bytes(f.q, 7);
    expect_empty(f.q);
    CHECK_INT(lvr_queue_done(f.q), 0);
    CHECK_INT(lvr_queue_done(f.q), 0);
    CHECK_INT(lvr_queue_join_until(f.q, 0, &lost), 0);
    CHECK_INT(lost, 6);
    check_session(f.s);
  }
}

/* --- bells ---------------------------------------------------------------------------------- */

static void get_one(void *argument) {
  struct fixture *f = argument;
  (void)lvri_fetch_add_acq_rel_u32(f->step, 1);
  (void)get_note(f->q);
  (void)lvri_fetch_add_acq_rel_u32(f->got, 1);
}

static void get_one_as_a_batch(void *argument) {
  struct fixture *f = argument;
  unsigned char buf[LVR_MESSAGE_INLINE + 4];
  uint32_t count;
  size_t bytes;
  (void)lvri_fetch_add_acq_rel_u32(f->step, 1);
  CHECK_INT(lvr_queue_get_many_until(f->q, buf, sizeof(buf), 1, LVR_FOREVER, &count, &bytes), 0);
  CHECK_INT(count, 1);
  (void)lvri_fetch_add_acq_rel_u32(f->got, 1);
}

static void only_wait(void *argument) {
  struct fixture *f = argument;
  (void)lvri_fetch_add_acq_rel_u32(f->step, 1);
  CHECK_INT(lvr_queue_wait_until(f->q, LVR_FOREVER), 0);
  (void)lvri_fetch_add_acq_rel_u32(f->got, 1);
}

static void put_one(void *argument) {
  struct fixture *f = argument;
  (void)lvri_fetch_add_acq_rel_u32(f->step, 1);
  put_note(f->q, 9, 9);
  (void)lvri_fetch_add_acq_rel_u32(f->got, 1);
}

/* Asleep, for all that /proc can tell. */
static pid_t put_to_sleep(struct fixture *f, void (*body)(void *)) {
  uint32_t step = lvri_load_acquire_u32(f->step);
  pid_t pid = test_fork(body, f);
  await_u32(f->step, step + 1);
  await_asleep(pid);
  return pid;
}

static void put_some(struct fixture *f, uint32_t count) {
  struct lvr_slice messages[8];
  unsigned char data[8][LVR_MESSAGE_INLINE];
  uint32_t put;
  for (uint32_t i = 0; i < count; i++) {
    size_t bytes = note_write((struct note){2, i}, data[i]);
    messages[i] = (struct lvr_slice){data[i], bytes};
  }
  CHECK_INT(lvr_queue_put_many_until(f->q, messages, count, 0, &put), 0);
}

/* One ring for many messages: who was woken wakes the next. */
static void one_ring_for_all(void (*body)(void *)) {
  enum { SLEEPERS = 5 };
  struct fixture f = fixture_of(0, 0);
  pid_t pids[SLEEPERS];
  for (int i = 0; i < SLEEPERS; i++)
    pids[i] = put_to_sleep(&f, body);
  put_some(&f, SLEEPERS);
  for (int i = 0; i < SLEEPERS; i++)
    CHECK_INT(test_join(pids[i]), 0);
}

TEST(who_was_woken_wakes_the_next) {
  without_relook();
  one_ring_for_all(get_one);
  one_ring_for_all(get_one_as_a_batch);
  one_ring_for_all(only_wait);
}

/* One message each time; all others sleep on, and are told of the next one. */
static void one_after_the_other(void (*body)(void *)) {
  enum { SLEEPERS = 4 };
  struct fixture f = fixture_of(0, 0);
  pid_t pids[SLEEPERS];
  for (int i = 0; i < SLEEPERS; i++)
    pids[i] = put_to_sleep(&f, body);
  for (uint32_t i = 1; i <= SLEEPERS; i++) {
    put_note(f.q, 1, i);
    await_u32(f.got, i);
  }
  for (int i = 0; i < SLEEPERS; i++)
    CHECK_INT(test_join(pids[i]), 0);
}

TEST(who_was_woken_does_not_hide_the_others) {
  without_relook();
  one_after_the_other(get_one);
  one_after_the_other(get_one_as_a_batch);
}

TEST(so_do_those_who_wait_for_room) {
  enum { SLEEPERS = 4 };
  without_relook();
  struct fixture f = fixture_of(SLEEPERS, 0);
  pid_t pids[SLEEPERS];
  put_some(&f, SLEEPERS);
  for (int i = 0; i < SLEEPERS; i++)
    pids[i] = put_to_sleep(&f, put_one);
  get_one(&f);
  await_u32(f.got, 2);
  get_a_batch(&f);
  for (int i = 0; i < SLEEPERS; i++)
    CHECK_INT(test_join(pids[i]), 0);
}

/* A message that comes when he has looked, but not yet said that he is about to sleep. */
TEST(looks_again_when_armed) {
  without_relook();
  struct fixture f = fixture_of(1, 0);
  pid_t pid = crash_stop_at("channel.wait.looked", 1, get_one, &f);
  put_note(f.q, 1, 1);
  test_continue(pid);
  CHECK_INT(test_join(pid), 0);
  put_note(f.q, 1, 2);
  pid = crash_stop_at("channel.wait.looked", 1, put_one, &f);
  expect_note(f.q, 1, 2);
  test_continue(pid);
  CHECK_INT(test_join(pid), 0);
}

/* ... when he has said so, and looked, but does not sleep yet. */
TEST(does_not_sleep_through_a_ring) {
  without_relook();
  struct fixture f = fixture_of(1, 0);
  pid_t pid = crash_stop_at("channel.wait.armed", 1, get_one, &f);
  put_note(f.q, 1, 1);
  test_continue(pid);
  CHECK_INT(test_join(pid), 0);
  put_note(f.q, 1, 2);
  pid = crash_stop_at("channel.wait.armed", 1, put_one, &f);
  expect_note(f.q, 1, 2);
  test_continue(pid);
  CHECK_INT(test_join(pid), 0);
}

/* Stops once a ring has woken him, before he looks. */
static void get_one_slowly(void *argument) {
  lvri_crashpoint_arm(LVRI_CRASH_STOP, "channel.wait.woken", 1);
  get_one(argument);
}

static void put_one_slowly(void *argument) {
  lvri_crashpoint_arm(LVRI_CRASH_STOP, "channel.wait.woken", 1);
  put_one(argument);
}

/* ... two while he wakes up, and SLEEPER is not set: nobody was told of the second one. */
TEST(tells_what_came_while_he_woke_up) {
  without_relook();
  struct fixture f = fixture_of(0, 0);
  pid_t slow = put_to_sleep(&f, get_one_slowly), other = put_to_sleep(&f, get_one);
  put_note(f.q, 1, 1);
  test_await_stop(slow);
  put_note(f.q, 1, 2);
  test_continue(slow);
  CHECK_INT(test_join(slow), 0);
  CHECK_INT(test_join(other), 0);
}

TEST(tells_of_room_that_came_while_he_woke_up) {
  without_relook();
  struct fixture f = fixture_of(2, 0);
  put_some(&f, 2);
  pid_t slow = put_to_sleep(&f, put_one_slowly), other = put_to_sleep(&f, put_one);
  get_one(&f);
  test_await_stop(slow);
  get_one(&f);
  test_continue(slow);
  CHECK_INT(test_join(slow), 0);
  CHECK_INT(test_join(other), 0);
}

static uint32_t rings_of(struct fixture *f) {
  return lvri_load_acquire_u32(&channel_shm(f->q)->ch_items) / LVRI_BELL_RING;
}

/* Who was woken for the only message wakes nobody else, however he takes it. */
static void one_message_wakes_one(void (*body)(void *)) {
  struct fixture f = fixture_of(0, 0);
  pid_t pids[2] = {put_to_sleep(&f, body), put_to_sleep(&f, body)};
  uint32_t rings = rings_of(&f);
  put_note(f.q, 1, 1);
  await_u32(f.got, 1);
  CHECK_INT(rings_of(&f), rings + 1);
  put_note(f.q, 1, 2);
  for (int i = 0; i < 2; i++)
    CHECK_INT(test_join(pids[i]), 0);
}

TEST(who_was_woken_wakes_nobody_for_nothing) {
  without_relook();
  one_message_wakes_one(get_one);
  one_message_wakes_one(get_one_as_a_batch);
}

/* A message that comes while one spins is his, and others sleep on; of a second one they hear. */
TEST(who_spins_is_in_the_place_of_those_who_sleep) {
  without_relook();
  struct fixture f = fixture_of(0, 0);
  for (uint32_t count = 1; count <= 2; count++) {
    pid_t other = put_to_sleep(&f, get_one);
    pid_t spins = crash_stop_at("channel.wait.spins", 1, get_one, &f);
    uint32_t rings = rings_of(&f);
    for (uint32_t i = 0; i < count; i++)
      put_note(f.q, 1, i);
    CHECK_INT(rings_of(&f), rings);
    test_continue(spins);
    CHECK_INT(test_join(spins), 0);
    if (count == 1) {
      CHECK_INT(rings_of(&f), rings);
      put_note(f.q, 1, 1);
    }
    CHECK_INT(test_join(other), 0);
  }
}

TEST(so_is_who_spins_for_room) {
  without_relook();
  struct fixture f = fixture_of(2, 0);
  put_some(&f, 2);
  pid_t other = put_to_sleep(&f, put_one);
  pid_t spins = crash_stop_at("channel.wait.spins", 1, put_one, &f);
  get_one(&f);
  get_one(&f);
  test_continue(spins);
  CHECK_INT(test_join(spins), 0);
  CHECK_INT(test_join(other), 0);
}

static void get_until_soon(void *argument) {
  struct fixture *f = argument;
  struct note n;
  lvri_crashpoint_arm(LVRI_CRASH_STOP, "channel.wait.woken", 1);
  (void)lvri_fetch_add_acq_rel_u32(f->step, 1);
  CHECK_INT(try_get_note(f->q, &n, in_ns(200 * MS)), -ETIMEDOUT);
}

/* Whose time is over when the ring wakes him tells the next. */
TEST(passes_on_what_he_has_no_time_for) {
  without_relook();
  struct fixture f = fixture_of(0, 0);
  pid_t late = put_to_sleep(&f, get_until_soon);
  test_await_stop(late); /* his time is over; nobody has rung */
  pid_t other = put_to_sleep(&f, get_one);
  _Atomic uint32_t *bell = &channel_shm(f.q)->ch_items;
  (void)lvri_fetch_and_release_u32(bell, ~LVRI_BELL_SLEEPER); /* as if he had been woken */
  put_note(f.q, 1, 1);
  test_continue(late);
  CHECK_INT(test_join(late), 0);
  CHECK_INT(test_join(other), 0);
}

/* Nobody hears of a message whose writer dies before he wakes anybody, or whose waker was killed:
 * the others look by themselves. */
static void expect_relook(struct fixture *f, pid_t sleeper) {
  int64_t start_ns = lvri_os_now_ns();
  CHECK_INT(test_join(sleeper), 0);
  CHECK(lvri_os_now_ns() - start_ns < 20 * LVRI_RELOOK_NS * TEST_SLOWNESS);
  check_session(f->s);
}

TEST(a_ring_that_died_is_made_up_for) {
  static const char *const points[] = {"channel.put.published", "channel.put.done",
                                       "channel.ring.counted"};
  for (size_t i = 0; i < sizeof(points) / sizeof(*points); i++) {
    struct fixture f = fixture_of(0, 0);
    pid_t sleeper = put_to_sleep(&f, get_one);
    test_kill(crash_stop_at(points[i], 1, put_one, &f));
    expect_relook(&f, sleeper);
  }
}

TEST(a_sleeper_that_died_awake_is_made_up_for) {
  struct fixture f = fixture_of(0, 0);
  lvri_relook_ns = 2 * SEC; /* so that it is the ring that wakes */
  pid_t slow = put_to_sleep(&f, get_one_slowly);
  lvri_relook_ns = 50 * MS;
  pid_t other = put_to_sleep(&f, get_one);
  put_note(f.q, 1, 1);
  test_await_stop(slow);
  test_kill(slow);
  expect_relook(&f, other);
}

TEST(who_died_while_he_spun_is_made_up_for) {
  struct fixture f = fixture_of(0, 0);
  pid_t other = put_to_sleep(&f, get_one);
  pid_t spins = crash_stop_at("channel.wait.spins", 1, get_one, &f);
  put_note(f.q, 1, 1);
  test_kill(spins);
  expect_relook(&f, other);
}

/* A stopped sleeper is not in the way of one who is awake. */
TEST(a_ring_does_not_go_to_the_stopped) {
  without_relook();
  struct fixture f = fixture_of(0, 0);
  pid_t stopped = put_to_sleep(&f, get_one), other = put_to_sleep(&f, get_one);
  CHECK(kill(stopped, SIGSTOP) == 0);
  test_await_stop(stopped);
  put_note(f.q, 1, 1);
  CHECK_INT(test_join(other), 0);
  test_continue(stopped);
  put_note(f.q, 1, 2);
  CHECK_INT(test_join(stopped), 0);
}

/* A bell that was rung 2^29 times is rung on. */
TEST(a_bell_wraps) {
  without_relook();
  struct fixture f = fixture_of(0, 0);
  lvri_store_relaxed_u32(&channel_shm(f.q)->ch_items, 0 - 3 * LVRI_BELL_RING);
  for (uint32_t i = 0; i < 6; i++) {
    pid_t pid = put_to_sleep(&f, get_one);
    put_note(f.q, 1, i);
    CHECK_INT(test_join(pid), 0);
  }
}

static void put_one_and_stay(void *argument) {
  struct fixture *f = argument;
  put_one(f);
  for (;;)
    (void)pause();
}

/* Who waits for a message repairs the dead, also while the one who wrote last lives. */
TEST(a_reader_repairs_any_dead) {
  struct fixture f = fixture_of(0, 0);
  struct note n;
  pid_t writer = test_fork(put_one_and_stay, &f);
  await_u32(f.got, 1);
  expect_note(f.q, 9, 9);
  pid_t dead = put_to_sleep(&f, only_wait);
  test_kill(dead);
  CHECK_INT(fixture_stats(f.s).slots_running, 2);
  CHECK_INT(fixture_stats(f.s).slots_over, 1);
  CHECK_INT(try_get_note(f.q, &n, in_ns(4 * LVRI_RELOOK_NS)), -ETIMEDOUT);
  CHECK_INT(fixture_stats(f.s).slots_over, 0);
  test_kill(writer);
}

/* --- stopped in the middle ------------------------------------------------------------------ */

static int try_put(lvr_queue *q, bool patient) {
  const struct lvri_put put = {.data = "", .bytes = 0};
  return lvri_channel_try_put(&q->channel, &put, patient);
}

TEST(a_stopped_writer_holds_up_no_reader) {
  struct fixture f = fixture_of(0, 0);
  struct lvr_message m;
  put_bytes(f.q, 1);
  put_bytes(f.q, 2);
  pid_t pid = crash_stop_at("channel.put.written", 1, put_one, &f);
  get_bytes(f.q, 1);
  CHECK_INT(try_put(f.q, false), -EBUSY);
  get_bytes(f.q, 2);
  expect_empty(f.q);
  CHECK_INT(lvri_channel_try_get(&f.q->channel, &m, false), -EAGAIN);
  check_session(f.s);
  test_continue(pid);
  CHECK_INT(test_join(pid), 0);
  expect_note(f.q, 9, 9);
}

TEST(a_stopped_reader_holds_up_no_writer) {
  struct fixture f = fixture_of(0, 0);
  struct lvr_message m;
  for (uint32_t i = 0; i < 100; i++)
    put_note(f.q, 1, i);
  pid_t pid = crash_stop_at("channel.get.copied", 50, get_a_hundred, &f);
  for (uint32_t i = 100; i < 2000; i++)
    put_note(f.q, 1, i);
  CHECK_INT(lvri_channel_try_get(&f.q->channel, &m, false), -EBUSY);
  CHECK_INT(lvr_queue_size(f.q), 2000 - 49);
  check_session(f.s);
  test_kill(pid);
  for (uint32_t i = 49; i < 2000; i++)
    expect_note(f.q, 1, i);
  expect_empty(f.q);
  check_session(f.s);
}

/* In the arena's guard: who stays in his segment goes on. */
TEST(a_stopped_switch_holds_up_no_reader) {
  struct fixture f = fixture_of(0, 0);
  put_bytes(f.q, 300);
  put_bytes(f.q, 301);
  pid_t pid = crash_stop_at("channel.segment.linked", 1, put_long_one, &f);
  get_bytes(f.q, 300);
  get_bytes(f.q, 301);
  expect_empty(f.q);
  test_kill(pid);
  put_bytes(f.q, 3); /* where the old one was sealed, and is not any more */
  get_bytes(f.q, 3);
  put_bytes(f.q, 302);
  get_bytes(f.q, 302);
  check_session(f.s);
}

/* Left half done, before anybody else has entered the guard: who gets next does that first. */
TEST(a_move_to_the_next_segment_that_died_is_undone) {
  struct fixture f = fixture_of(0, 0);
  for (uint32_t i = 0; i < 100; i++)
    put_note(f.q, 1, i);
  test_kill(crash_stop_at("channel.segment.left", 2, get_a_hundred, &f));
  struct note n = get_note(f.q);
  expect_note(f.q, 1, n.number + 1);
  fixture_check(f.s);
  for (uint32_t i = n.number + 2; i < 100; i++)
    expect_note(f.q, 1, i);
  expect_empty(f.q);
  check_session(f.s);
}

/* What cannot be made whole is shut, for all and at once: nobody waits for it. */
TEST(a_side_that_cannot_be_repaired_is_shut) {
  struct fixture f = fixture_of(0, 0);
  struct lvr_message m;
  put_note(f.q, 1, 1);
  struct lvri_mutex *mutex = &channel_shm(f.q)->ch_get_mutex;
  test_kill(crash_stop_at("channel.get.copied", 1, get_one, &f));
  CHECK_INT(lvri_mutex_lock(mutex), -EOWNERDEAD);
  lvri_mutex_unlock(mutex); /* not consistent */
  for (int i = 0; i < 3; i++) {
    CHECK_INT(lvr_queue_get_until(f.q, &m, LVR_FOREVER), -ENOTRECOVERABLE);
    put_bytes(f.q, 1);
  }
}

/* --- segments ------------------------------------------------------------------------------- */

/* Writers who die with a new segment, but no message: the next one finds no room in it, either. */
TEST(segments_with_nothing_in_them) {
  static const size_t bytes[] = {100, 1000, 5000, LVR_MESSAGE_INLINE};
  for (size_t first = 0; first < 2; first++) {
    struct fixture f = fixture_of(0, 0);
    struct long_one one = {.f = &f};
    if (first) put_bytes(f.q, 700);
    for (size_t i = 0; i < 3; i++) {
      one.bytes = bytes[i];
      test_kill(crash_stop_at("channel.put.written", 1, put_that_long, &one));
      check_session(f.s);
    }
    put_bytes(f.q, bytes[3]);
    CHECK_INT(lvr_queue_size(f.q), 1 + first);
    check_session(f.s);
    if (first) get_bytes(f.q, 700);
    get_bytes(f.q, bytes[3]);
    expect_empty(f.q);
    check_session(f.s);
  }
}

/* --- bytes under way, closing: what pipes have ---------------------------------------------- */

static struct fixture narrow_fixture(uint64_t most_bytes) {
  struct fixture f = fixture_of(0, 0);
  channel_shm(f.q)->ch_most_units = (uint32_t)(most_bytes / 64);
  return f;
}

TEST(so_many_bytes_at_most) {
  struct fixture f = narrow_fixture(UINT64_C(64) * 64);
  for (uint32_t round = 0; round < 50; round++) {
    for (int i = 0; i < 4; i++)
      put_bytes(f.q, 1000);
    CHECK_INT(lvr_queue_put_until(f.q, "", 0, 0), -ETIMEDOUT);
    get_bytes(f.q, 1000);
    put_bytes(f.q, 900);
    CHECK_INT(lvr_queue_put_until(f.q, "", 64, 0), -ETIMEDOUT);
    put_bytes(f.q, 1);
    for (int i = 0; i < 3; i++)
      get_bytes(f.q, 1000);
    get_bytes(f.q, 900);
    get_bytes(f.q, 1);
  }
}

/* One that is longer than that has room when there is nothing else. */
TEST(one_message_has_room) {
  struct fixture f = narrow_fixture(1024);
  put_bytes(f.q, LVR_MESSAGE_INLINE);
  CHECK_INT(lvr_queue_put_until(f.q, "", 0, 0), -ETIMEDOUT);
  get_bytes(f.q, LVR_MESSAGE_INLINE);
  put_bytes(f.q, 1);
  CHECK_INT(lvr_queue_put_until(f.q, (unsigned char[LVR_MESSAGE_INLINE]){0}, LVR_MESSAGE_INLINE, 0),
            -ETIMEDOUT);
  get_bytes(f.q, 1);
}

/* Room that the dead took is there again with the next message that is got. */
TEST(the_dead_take_no_room) {
  struct fixture f = narrow_fixture(1024);
  struct long_one one = {.f = &f, .bytes = 400};
  put_bytes(f.q, 400);
  test_kill(crash_stop_at("channel.put.written", 1, put_that_long, &one));
  put_bytes(f.q, 0);
  get_bytes(f.q, 400);
  get_bytes(f.q, 0);
  put_bytes(f.q, 400);
  put_bytes(f.q, 400);
  get_bytes(f.q, 400);
  get_bytes(f.q, 400);
}

static void close_side(struct fixture *f, uint32_t side) {
  struct lvri_arena *a = &f->s->arena;
  CHECK_INT(lvri_guard_enter(a, lvri_arena_guard(a)), 0);
  lvri_channel_close_locked(a, channel_shm(f->q), side);
  lvri_guard_leave(a, lvri_arena_guard(a));
  lvri_channel_ring_closed(a, channel_shm(f->q));
}

static void meet_the_end(void *argument) {
  struct fixture *f = argument;
  struct lvr_message m;
  (void)lvri_fetch_add_acq_rel_u32(f->step, 1);
  CHECK_INT(lvr_queue_get_until(f->q, &m, LVR_FOREVER), -EPIPE);
}

TEST(readers_meet_the_end_when_all_is_read) {
  without_relook();
  struct fixture f = fixture_of(0, 0), other = fixture_of(0, 0);
  pid_t pids[3];
  for (int i = 0; i < 3; i++)
    pids[i] = put_to_sleep(&f, meet_the_end);
  close_side(&f, LVRI_CHANNEL_NO_WRITER);
  for (int i = 0; i < 3; i++)
    CHECK_INT(test_join(pids[i]), 0);
  CHECK_INT(lvr_queue_wait_until(f.q, 0), 0);
  CHECK_INT(lvr_queue_put_until(f.q, "", 0, 0), -EPIPE);
  put_bytes(other.q, 5);
  close_side(&other, LVRI_CHANNEL_NO_WRITER);
  get_bytes(other.q, 5);
  meet_the_end(&other);
}

static void write_in_vain(void *argument) {
  struct fixture *f = argument;
  (void)lvri_fetch_add_acq_rel_u32(f->step, 1);
  CHECK_INT(lvr_queue_put_until(f->q, "", 0, LVR_FOREVER), -EPIPE);
}

TEST(writers_meet_the_end) {
  without_relook();
  struct fixture f = fixture_of(1, 0);
  put_bytes(f.q, 5);
  pid_t pids[3];
  for (int i = 0; i < 3; i++)
    pids[i] = put_to_sleep(&f, write_in_vain);
  close_side(&f, LVRI_CHANNEL_NO_READER);
  for (int i = 0; i < 3; i++)
    CHECK_INT(test_join(pids[i]), 0);
  get_bytes(f.q, 5);
  write_in_vain(&f);
}
