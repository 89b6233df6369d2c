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

/* Whoever does not wait comes again and again: he is told, too. */
TEST(a_look_finds_the_dead) {
  struct fixture f = pipe_of(true);
  struct ending e = {&f, false, SIGKILL};
  pid_t writer = test_fork(come_to_an_end, &e);
  await_u32(f.step, 1);
  lvr_pipe_detach(f.second);
  f.second = NULL;
  CHECK_INT(lvr_pipe_wait_until(f.first, 0), -ETIMEDOUT);
  lvri_store_release_u32(f.step, 2);
  CHECK_INT(test_join(writer), -SIGKILL);
  int64_t begin_ns = lvri_os_now_ns();
  while (lvr_pipe_wait_until(f.first, 0) == -ETIMEDOUT)
    CHECK(lvri_os_now_ns() - begin_ns < 100 * MS * TEST_SLOWNESS);
  check_end(f.first);
  leave(&f);
}

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

static void *wait_in_thread(void *argument) {
  wait_for_ever(argument);
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
