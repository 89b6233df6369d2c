/* Pipes: who is told of a message, and of the end, however it comes. */
#include "core/pipe_test.h"

/* --- messages ------------------------------------------------------------------------------ */

TEST(goes_both_ways) {
  struct fixture f = pipe_of(true);
  uint32_t value;
  put(f.first, 1);
  put(f.second, 2);
  put(f.first, 3);
  CHECK_INT(get(f.first), 2);
  CHECK_INT(get(f.second), 1);
  CHECK_INT(get(f.second), 3);
  CHECK_INT(try_get(f.second, &value), -ETIMEDOUT);
  leave(&f);
}

TEST(goes_one_way) {
  struct fixture f = pipe_of(false);
  uint32_t value = 1;
  CHECK(lvr_pipe_readable(f.first) && !lvr_pipe_writable(f.first));
  CHECK(!lvr_pipe_readable(f.second) && lvr_pipe_writable(f.second));
  CHECK_INT(lvr_pipe_put_until(f.first, &value, sizeof(value), 0), -EINVAL);
  CHECK_INT(lvr_pipe_put_block_until(f.first, NULL, 0, NULL, 0), -EINVAL);
  CHECK_INT(try_get(f.second, &value), -EINVAL);
  CHECK_INT(lvr_pipe_wait_until(f.second, 0), -EINVAL);
  put(f.second, 7);
  CHECK_INT(get(f.first), 7);
  leave(&f);
}

TEST(is_bounded_by_bytes) {
  struct fixture f = pipe_of(false);
  static unsigned char bytes[LVR_MESSAGE_INLINE];
  struct lvr_message m;
  uint32_t count = 0;
  while (lvr_pipe_put_until(f.second, bytes, sizeof(bytes), 0) == 0)
    count++;
  CHECK(count > 100 && count <= LVR_PIPE_ROOM / sizeof(bytes));
  CHECK_INT(lvr_pipe_get_until(f.first, &m, 0), 0);
  CHECK_INT(lvr_pipe_put_until(f.second, bytes, sizeof(bytes), 0), 0);
  CHECK_INT(lvr_pipe_put_until(f.second, bytes, sizeof(bytes), 0), -ETIMEDOUT);
  leave(&f);
}

struct echo {
  struct fixture *f;
  uint32_t rounds;
};

static void echo(void *argument) {
  struct echo *e = argument;
  lvr_pipe_detach(e->f->first);
  for (uint32_t i = 0; i < e->rounds; i++)
    put(e->f->second, get(e->f->second) + 1);
}

TEST(plays_ping_pong) {
  struct fixture f = pipe_of(true);
  struct echo e = {&f, 20000};
  pid_t pid = test_fork(echo, &e);
  lvr_pipe_detach(f.second);
  f.second = NULL;
  for (uint32_t i = 0; i < e.rounds; i++) {
    put(f.first, i);
    CHECK_INT(get(f.first), i + 1);
  }
  CHECK_INT(test_join(pid), 0);
  check_end(f.first);
  leave(&f);
}

/* --- many at once -------------------------------------------------------------------------- */

enum { HUNDRED = 100 };

/* So many numbers from `first` on, each in the first bytes of `bytes` others. */
struct batch {
  unsigned char data[HUNDRED][LVR_MESSAGE_INLINE];
  struct lvr_slice messages[HUNDRED];
};

static const struct lvr_slice *batch_of(uint32_t first, size_t bytes) {
  static struct batch b;
  for (uint32_t i = 0; i < HUNDRED; i++) {
    uint32_t value = first + i;
    memcpy(b.data[i], &value, sizeof(value));
    b.messages[i] = (struct lvr_slice){.data = b.data[i], .bytes = bytes};
  }
  return b.messages;
}

static int put_hundred(lvr_pipe *p, uint32_t first, size_t bytes, int64_t deadline_ns,
                       uint32_t *ret_put) {
  return lvr_pipe_put_many_until(p, batch_of(first, bytes), HUNDRED, deadline_ns, ret_put);
}

static int try_get_some(lvr_pipe *p, uint32_t most, uint32_t *ret_count) {
  static unsigned char buf[LVR_MESSAGE_INLINE + 4];
  size_t bytes;
  return lvr_pipe_get_many_until(p, buf, sizeof(buf), most, 0, ret_count, &bytes);
}

/* The next of a row of numbers, by batches; which is to come then. */
static uint32_t get_some(lvr_pipe *p, uint32_t next, uint32_t most) {
  static unsigned char buf[4 * LVR_MESSAGE_INLINE];
  uint32_t count;
  size_t bytes;
  CHECK_INT(lvr_pipe_get_many_until(p, buf, sizeof(buf), most, in_ns(10 * SEC), &count, &bytes), 0);
  CHECK(count >= 1 && count <= most);
  for (size_t at = 0; at < bytes; next++) {
    uint32_t length, value;
    memcpy(&length, buf + at, sizeof(length));
    memcpy(&value, buf + at + sizeof(length), sizeof(value));
    CHECK_INT(value, next);
    at += sizeof(length) + ((length + 3) & ~UINT32_C(3));
  }
  return next;
}

TEST(batches_go_both_ways) {
  struct fixture f = pipe_of(true);
  uint32_t put = 0, next;
  CHECK_INT(put_hundred(f.first, 1000, 5, 0, &put), 0);
  CHECK_INT(put, HUNDRED);
  CHECK_INT(put_hundred(f.second, 2000, 4, 0, &put), 0);
  CHECK_INT(get(f.first), 2000);
  CHECK_INT(get_some(f.first, 2001, 1), 2002);
  for (next = 2002; next < 2000 + HUNDRED;)
    next = get_some(f.first, next, 30);
  for (next = 1000; next < 1000 + HUNDRED;)
    next = get_some(f.second, next, 1000);
  CHECK_INT(try_get_some(f.first, 1, &put), -ETIMEDOUT);
  CHECK_INT(try_get_some(f.second, 0, &put), -EINVAL);
  leave(&f);
}

TEST(batches_go_one_way) {
  struct fixture f = pipe_of(false);
  uint32_t count = 7;
  CHECK_INT(put_hundred(f.first, 0, 4, 0, &count), -EINVAL);
  CHECK_INT(count, 0);
  CHECK_INT(try_get_some(f.second, 1, &count), -EINVAL);
  leave(&f);
}

TEST(a_batch_is_bounded_by_bytes) {
  struct fixture f = pipe_of(false);
  uint32_t put, count = 0, next = 0;
  int error;
  while ((error = put_hundred(f.second, count, LVR_MESSAGE_INLINE, 0, &put)) == 0)
    count += put;
  CHECK_INT(error, -ETIMEDOUT);
  count += put;
  CHECK(count > HUNDRED && count <= LVR_PIPE_ROOM / LVR_MESSAGE_INLINE);
  while (next < count)
    next = get_some(f.first, next, HUNDRED);
  leave(&f);
}

static void put_batches(void *argument) {
  struct fixture *f = argument;
  uint32_t put;
  lvr_pipe_detach(f->first);
  for (uint32_t i = 0; i < 10; i++) {
    CHECK_INT(put_hundred(f->second, i * HUNDRED, LVR_MESSAGE_INLINE, LVR_FOREVER, &put), 0);
    CHECK_INT(put, HUNDRED);
  }
}

/* What batches have taken away is room again; behind the last one is the end. */
TEST(batches_wait_for_room) {
  struct fixture f = pipe_of(false);
  uint32_t next = 0, count;
  lvri_relook_ns = 1000 * SEC;
  pid_t pid = test_fork(put_batches, &f);
  await_asleep(pid);
  lvr_pipe_detach(f.second);
  f.second = NULL;
  while (next < 10 * HUNDRED)
    next = get_some(f.first, next, 3);
  CHECK_INT(test_join(pid), 0);
  while (try_get_some(f.first, 3, &count) == -ETIMEDOUT) {
  }
  CHECK_INT(try_get_some(f.first, 3, &count), -EPIPE);
  leave(&f);
}

TEST(a_batch_ends_with_the_pipe) {
  struct fixture f = pipe_of(true);
  uint32_t count = 7;
  put(f.second, 1);
  put(f.second, 2);
  lvr_pipe_detach(f.second);
  f.second = NULL;
  CHECK_INT(put_hundred(f.first, 0, 4, LVR_FOREVER, &count), -EPIPE);
  CHECK_INT(count, 0);
  CHECK_INT(get_some(f.first, 1, 9), 3);
  CHECK_INT(try_get_some(f.first, 9, &count), -EPIPE);
  leave(&f);
}

TEST(a_batch_ends_before_a_block) {
  struct fixture f = pipe_of(false);
  static unsigned char bytes[LVR_MESSAGE_INLINE + 1];
  struct lvr_message m;
  uint32_t count = 7;
  put(f.second, 1);
  CHECK_INT(lvr_pipe_put_until(f.second, bytes, sizeof(bytes), 0), 0);
  put(f.second, 2);
  CHECK_INT(get_some(f.first, 1, 9), 2);
  CHECK_INT(try_get_some(f.first, 9, &count), 0);
  CHECK_INT(count, 0);
  CHECK_INT(lvr_pipe_get_until(f.first, &m, 0), 0);
  CHECK_INT(m.bytes, sizeof(bytes));
  lvr_message_fini(&m);
  CHECK_INT(get_some(f.first, 2, 9), 3);
  leave(&f);
}

static void be_interrupted(void *argument) {
  struct fixture *f = argument;
  const struct lvr_slice *messages = batch_of(0, LVR_MESSAGE_INLINE);
  struct lvri_channel *out = &f->second->out;
  uint32_t put, done;
  CHECK_INT(put_hundred(f->second, 0, LVR_MESSAGE_INLINE, 0, &put), 0);
  done = 0;
  catch_signals();
  uint32_t mark = lvri_channel_mark(out);
  CHECK_INT(lvri_channel_put_many_since_until(out, messages, HUNDRED, mark, LVR_FOREVER, &done),
            -EINTR);
  CHECK(done > 0 && done < HUNDRED);
  lvri_store_release_u32(f->step, done);
  CHECK_INT(lvri_channel_put_many_since_until(out, messages, HUNDRED, mark, LVR_FOREVER, &done), 0);
  CHECK_INT(done, HUNDRED);
}

/* Who was interrupted goes on where he was: nothing is put twice. */
TEST(an_interrupted_batch_goes_on) {
  struct fixture f = pipe_of(false);
  pid_t pid = test_fork(be_interrupted, &f);
  await_asleep(pid);
  CHECK(kill(pid, SIGUSR1) == 0);
  while (lvri_load_acquire_u32(f.step) == 0)
    (void)sched_yield();
  await_asleep(pid);
  for (uint32_t round = 0; round < 2; round++)
    for (uint32_t next = 0; next < HUNDRED;)
      next = get_some(f.first, next, HUNDRED - next);
  CHECK_INT(test_join(pid), 0);
  uint32_t value;
  CHECK_INT(try_get(f.first, &value), -ETIMEDOUT);
  leave(&f);
}

/* --- the end ------------------------------------------------------------------------------- */

TEST(ends_behind_the_last_message) {
  struct fixture f = pipe_of(true);
  uint32_t value = 5;
  put(f.second, 1);
  put(f.second, 2);
  lvr_pipe_detach(f.second);
  f.second = NULL;
  CHECK_INT(lvr_pipe_put_until(f.first, &value, sizeof(value), LVR_FOREVER), -EPIPE);
  CHECK_INT(get(f.first), 1);
  CHECK_INT(get(f.first), 2);
  check_end(f.first);
  leave(&f);
}

TEST(a_closed_end_cannot_be_attached) {
  struct fixture f = pipe_of(true);
  lvr_pipe *again;
  lvr_ref ref;
  lvr_pipe_ref(f.second, &ref);
  CHECK_INT(lvr_pipe_attach(f.s, &ref, &again), 0);
  CHECK(again == f.second);
  lvr_pipe_detach(again);
  put(f.first, 1);
  lvr_pipe_detach(f.second);
  f.second = NULL;
  CHECK_INT(lvr_pipe_attach(f.s, &ref, &again), -ESTALE);
  leave(&f);
}

TEST(an_end_that_travels_is_open) {
  struct fixture f = pipe_of(true);
  uint32_t value;
  lvr_ref ref;
  CHECK_INT(lvr_pipe_send(f.second, &ref), 0);
  lvr_pipe_detach(f.second);
  CHECK_INT(try_get(f.first, &value), -ETIMEDOUT);
  CHECK_INT(lvr_pipe_attach(f.s, &ref, &f.second), 0);
  put(f.second, 1);
  CHECK_INT(get(f.first), 1);
  CHECK_INT(lvr_pipe_send(f.second, &ref), 0);
  lvr_pipe_detach(f.second);
  f.second = NULL;
  CHECK_INT(lvr_object_unsend(f.s, &ref), 0);
  check_end(f.first);
  leave(&f);
}

static void read_to_the_end(void *argument) {
  struct fixture *f = argument;
  lvr_pipe_detach(f->second);
  lvri_fetch_add_acq_rel_u32(f->step + 1, 1);
  check_end(f->first);
}

/* Two readers in two processes sleep; both are told in time. */
static void check_ending(bool writes, int how) {
  struct fixture f = pipe_of(true);
  struct ending e = {&f, writes, how};
  pid_t writer = test_fork(come_to_an_end, &e), readers[2];
  await_u32(f.step, 1);
  if (writes) CHECK_INT(get(f.first), 1);
  for (int i = 0; i < 2; i++)
    readers[i] = test_fork(read_to_the_end, &f);
  await_u32(f.step + 1, 2);
  lvr_pipe_detach(f.second);
  f.second = NULL;
  for (int i = 0; i < 2; i++)
    await_asleep(readers[i]);
  int64_t begin_ns = lvri_os_now_ns();
  lvri_store_release_u32(f.step, 2);
  for (int i = 0; i < 2; i++)
    CHECK_INT(test_join(readers[i]), 0);
  int64_t took_ns = lvri_os_now_ns() - begin_ns;
  lvri_store_release_u32(f.step, 3);
  CHECK_INT(test_join(writer), how < 0 ? 0 : -how);
  CHECK(took_ns < 100 * MS * TEST_SLOWNESS);
  leave(&f);
}

TEST(ends_with_the_handle) { check_ending(true, -1); }
TEST(ends_with_a_handle_that_never_wrote) { check_ending(false, -1); }
TEST(ends_with_the_process) { check_ending(true, 0); }
TEST(ends_with_the_killed) { check_ending(true, SIGKILL); }
TEST(ends_with_the_killed_who_never_wrote) { check_ending(false, SIGKILL); }

static void write_and_leave(void *argument) {
  struct fixture *f = argument;
  lvr_pipe_detach(f->first);
  put(f->second, 1);
  lvr_pipe_detach(f->second);
  (void)lvri_fetch_add_acq_rel_u32(f->step, 1);
  await_u32(f->step, 3);
}

static void only_have_it(void *argument) {
  struct fixture *f = argument;
  lvr_pipe_detach(f->first);
  (void)lvri_fetch_add_acq_rel_u32(f->step, 1);
  for (;;)
    (void)pause();
}

/* The reader watches him, and the last end is a dead one's. A child that is not born yet keeps the
 * reader from watching everybody. */
TEST(ends_though_who_wrote_last_lives_on) {
  struct fixture f = pipe_of(true);
  lvr_proc_id embryo;
  CHECK_INT(lvr_proc_prepare(f.s, 0, &embryo), 0);
  pid_t writer = test_fork(write_and_leave, &f), other = test_fork(only_have_it, &f);
  await_u32(f.step, 2);
  CHECK_INT(get(f.first), 1);
  lvr_pipe_detach(f.second);
  f.second = NULL;
  pid_t reader = test_fork(read_to_the_end, &f);
  await_u32(f.step + 1, 1);
  await_asleep(reader);
  int64_t begin_ns = lvri_os_now_ns();
  test_kill(other);
  CHECK_INT(test_join(reader), 0);
  CHECK(lvri_os_now_ns() - begin_ns < 20 * LVRI_RELOOK_NS * TEST_SLOWNESS);
  (void)lvri_fetch_add_acq_rel_u32(f.step, 1);
  CHECK_INT(test_join(writer), 0);
  CHECK_INT(lvr_proc_withdraw(f.s, embryo), 0);
  leave(&f);
}

static int look(lvr_pipe *p) { return lvr_pipe_wait_until(p, 0); }

static int look_by_batch(lvr_pipe *p) {
  uint32_t count;
  return try_get_some(p, 1, &count);
}

/* Whoever does not wait comes again and again: he is told, too. */
static void check_looking(int (*try)(lvr_pipe *p), int wanted) {
  struct fixture f = pipe_of(true);
  struct ending e = {&f, false, SIGKILL};
  pid_t writer = test_fork(come_to_an_end, &e);
  await_u32(f.step, 1);
  lvr_pipe_detach(f.second);
  f.second = NULL;
  CHECK_INT(try(f.first), -ETIMEDOUT);
  lvri_store_release_u32(f.step, 2);
  CHECK_INT(test_join(writer), -SIGKILL);
  int64_t begin_ns = lvri_os_now_ns();
  int error;
  while ((error = try(f.first)) == -ETIMEDOUT)
    CHECK(lvri_os_now_ns() - begin_ns < 100 * MS * TEST_SLOWNESS);
  CHECK_INT(error, wanted);
  check_end(f.first);
  leave(&f);
}

TEST(a_look_finds_the_dead) { check_looking(look, 0); }
TEST(so_does_a_try_for_a_batch) { check_looking(look_by_batch, -EPIPE); }

static void fill(void *argument) {
  struct fixture *f = argument;
  static unsigned char bytes[LVR_MESSAGE_INLINE];
  int error;
  lvr_pipe_detach(f->first);
  while ((error = lvr_pipe_put_until(f->second, bytes, sizeof(bytes), in_ns(10 * SEC))) == 0)
    lvri_fetch_add_acq_rel_u32(f->step, 1);
  CHECK_INT(error, -EPIPE);
}

TEST(a_writer_learns_that_nobody_reads) {
  struct fixture f = pipe_of(false);
  pid_t pid = test_fork(fill, &f);
  await_u32(f.step, 100);
  await_asleep(pid);
  lvr_pipe_detach(f.first);
  f.first = NULL;
  CHECK_INT(test_join(pid), 0);
  leave(&f);
}

static void put_long_message(void *argument) {
  struct fixture *f = argument;
  static unsigned char bytes[LVR_PIPE_ROOM / 2];
  CHECK_INT(lvr_pipe_put_until(f->second, bytes, sizeof(bytes), LVR_FOREVER), 0);
}

static void put_short_message(void *argument) { put(((struct fixture *)argument)->second, 7); }

static pid_t put_to_sleep(struct fixture *f, void (*body)(void *)) {
  pid_t pid = crash_stop_at("channel.wait.armed", 1, body, f);
  test_continue(pid);
  await_asleep(pid);
  return pid;
}

/* He who waits for much does not hide the room from one who needs little. */
TEST(room_for_some_is_told_to_all) {
  struct fixture f = pipe_of(false);
  static unsigned char bytes[LVR_MESSAGE_INLINE];
  struct lvr_message m;
  while (lvr_pipe_put_until(f.second, bytes, sizeof(bytes), 0) == 0) {
  }
  while (lvr_pipe_put_until(f.second, bytes, 1, 0) == 0) {
  }
  lvri_relook_ns = 1000 * SEC;
  pid_t much = put_to_sleep(&f, put_long_message), little = put_to_sleep(&f, put_short_message);
  CHECK_INT(lvr_pipe_get_until(f.first, &m, 0), 0);
  CHECK_INT(test_join(little), 0);
  while (lvr_pipe_get_until(f.first, &m, in_ns(10 * SEC)) == 0 && !m.block)
    lvr_message_fini(&m);
  lvr_message_fini(&m);
  CHECK_INT(test_join(much), 0);
  leave(&f);
}

static void hold(void *argument) {
  struct fixture *f = argument;
  lvri_store_release_u32(f->step, 1);
  await_u32(f->step, 2);
}

/* As with descriptors: who was forked and closes nothing keeps it open. */
TEST(inherited_ends_count) {
  struct fixture f = pipe_of(true);
  uint32_t value;
  pid_t pid = test_fork(hold, &f);
  await_u32(f.step, 1);
  lvr_pipe_detach(f.second);
  f.second = NULL;
  CHECK_INT(try_get(f.first, &value), -ETIMEDOUT);
  put(f.first, 1);
  lvri_store_release_u32(f.step, 2);
  CHECK_INT(test_join(pid), 0);
  check_end(f.first);
  leave(&f);
}

/* --- cutting a wait short ------------------------------------------------------------------ */

static void wait_for_ever(void *argument) {
  struct fixture *f = argument;
  struct lvr_message m;
  uint32_t mark = lvri_channel_mark(&f->first->in);
  lvri_store_release_u32(f->step, 1);
  CHECK_INT(lvri_channel_get_since_until(&f->first->in, &m, mark, LVR_FOREVER), -ECANCELED);
  CHECK_INT(lvri_channel_wait_since_until(&f->first->in, mark, LVR_FOREVER), -ECANCELED);
  lvri_store_release_u32(f->step, 2);
}

static void check_cancelled(struct fixture *f, uint32_t in_mark, uint32_t out_mark) {
  static unsigned char buf[LVR_MESSAGE_INLINE + 4];
  struct lvri_channel *in = &f->first->in, *out = &f->first->out;
  const struct lvr_slice *messages = batch_of(0, LVR_MESSAGE_INLINE);
  uint32_t count, done = 0;
  size_t bytes;
  CHECK_INT(lvri_channel_get_many_since_until(in, buf, sizeof(buf), 1, in_mark, LVR_FOREVER, &count,
                                              &bytes),
            -ECANCELED);
  CHECK_INT(lvri_channel_put_many_since_until(out, messages, HUNDRED, out_mark, LVR_FOREVER, &done),
            -ECANCELED);
  CHECK_INT(done, 0);
}

static void *wait_in_thread(void *argument) {
  wait_for_ever(argument);
  return NULL;
}

static void *wait_for_batches_in_thread(void *argument) {
  struct fixture *f = argument;
  uint32_t in_mark = lvri_channel_mark(&f->first->in);
  uint32_t out_mark = lvri_channel_mark(&f->first->out);
  lvri_store_release_u32(f->step, 1);
  check_cancelled(f, in_mark, out_mark);
  return NULL;
}

TEST(a_wait_can_be_cut_short) {
  struct fixture f = pipe_of(true);
  for (int i = 0; i < 200; i++) {
    pthread_t thread;
    lvri_store_release_u32(f.step, 0);
    CHECK_INT(pthread_create(&thread, NULL, wait_in_thread, &f), 0);
    await_u32(f.step, 1);
    if (i % 2) (void)lvri_os_sleep_until(in_ns(MS));
    lvri_channel_interrupt(&f.first->in);
    CHECK_INT(pthread_join(thread, NULL), 0);
  }
  leave(&f);
}

static void cut_short(struct fixture *f) {
  lvri_channel_interrupt(&f->first->in);
  lvri_channel_interrupt(&f->first->out);
}

/* Also by what came before they began, and behind the mark. */
TEST(so_can_the_waits_of_batches) {
  struct fixture f = pipe_of(true);
  while (lvr_pipe_put_until(f.first, batch_of(0, 1)->data, LVR_MESSAGE_INLINE, 0) == 0) {
  }
  cut_short(&f);
  check_cancelled(&f, 0, 0);
  for (int i = 0; i < 200; i++) {
    pthread_t thread;
    lvri_store_release_u32(f.step, 0);
    CHECK_INT(pthread_create(&thread, NULL, wait_for_batches_in_thread, &f), 0);
    await_u32(f.step, 1);
    if (i % 2) (void)lvri_os_sleep_until(in_ns(MS));
    cut_short(&f);
    CHECK_INT(pthread_join(thread, NULL), 0);
  }
  leave(&f);
}
