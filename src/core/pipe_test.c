/* Pipes and doorbells: who is told of a message, and of the end, however it comes. */
#include "core/pipe.h"

#include <poll.h>

#include "base/fault.h"
#include "core/doorbell.h"
#include "core/locking_test.h"

struct fixture {
  lvr_session *s;
  lvr_pipe *first, *second;
  _Atomic uint32_t *step;
  lvr_ref *ref; /* shared, too */
};

static struct fixture pipe_of(bool duplex) {
  struct fixture f = {.s = new_session(), .step = test_shared(4 * sizeof(uint32_t))};
  f.ref = test_shared(sizeof(*f.ref));
  CHECK_INT(lvr_pipe_create(f.s, duplex, &f.first, &f.second), 0);
  return f;
}

static void leave(struct fixture *f) {
  lvr_pipe_detach(f->first);
  lvr_pipe_detach(f->second);
  check_session(f->s);
  struct lvr_session_stats stats;
  CHECK_INT(lvr_session_stats(f->s, &stats), 0);
  CHECK_INT(stats.objects, 0);
  lvr_session_detach(f->s);
}

static void put(lvr_pipe *p, uint32_t value) {
  CHECK_INT(lvr_pipe_put_until(p, &value, sizeof(value), in_ns(10 * SEC)), 0);
}

static int try_get(lvr_pipe *p, uint32_t *ret_value) {
  struct lvr_message m;
  int error = lvr_pipe_get_until(p, &m, 0);
  if (error) return error;
  CHECK_INT(m.bytes, sizeof(*ret_value));
  memcpy(ret_value, m.data, sizeof(*ret_value));
  lvr_message_fini(&m);
  return 0;
}

static uint32_t get(lvr_pipe *p) {
  struct lvr_message m;
  uint32_t value;
  CHECK_INT(lvr_pipe_get_until(p, &m, in_ns(10 * SEC)), 0);
  CHECK_INT(m.bytes, sizeof(value));
  memcpy(&value, m.data, sizeof(value));
  lvr_message_fini(&m);
  return value;
}

static void check_end(lvr_pipe *p) {
  struct lvr_message m;
  CHECK_INT(lvr_pipe_get_until(p, &m, in_ns(10 * SEC)), -EPIPE);
  CHECK_INT(lvr_pipe_wait_until(p, 0), 0);
}

static bool polls(int fd) {
  struct pollfd entry = {.fd = fd, .events = POLLIN};
  return poll(&entry, 1, 0) == 1;
}

static bool polls_within(int fd, int ms) {
  struct pollfd entry = {.fd = fd, .events = POLLIN};
  return poll(&entry, 1, ms) == 1;
}

static int fileno_of(lvr_pipe *p) {
  int fd;
  CHECK_INT(lvr_pipe_fileno(p, &fd), 0);
  return fd;
}

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

struct ending {
  struct fixture *f;
  bool writes;
  int how; /* a signal; 0: by exit; -1: gives the end back, and lives on */
};

static void come_to_an_end(void *argument) {
  struct ending *e = argument;
  lvr_pipe_detach(e->f->first);
  if (e->writes) put(e->f->second, 1);
  lvri_store_release_u32(e->f->step, 1);
  await_u32(e->f->step, 2);
  if (e->how < 0) {
    lvr_pipe_detach(e->f->second);
    await_u32(e->f->step, 3);
  }
  if (e->how > 0) (void)raise(e->how);
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

/* --- doorbells ----------------------------------------------------------------------------- */

TEST(a_descriptor_says_what_there_is) {
  struct fixture f = pipe_of(true);
  uint32_t value;
  int before = test_count_fds(), fd = fileno_of(f.first);
  CHECK_INT(fileno_of(f.first), fd);
  for (int i = 0; i < 3; i++) {
    CHECK(!polls(fd));
    put(f.second, 1);
    CHECK(polls(fd));
    put(f.second, 2);
    CHECK(polls(fd));
    CHECK_INT(get(f.first), 1);
    CHECK(polls(fd));
    CHECK_INT(get(f.first), 2);
    CHECK(!polls(fd));
    CHECK_INT(try_get(f.first, &value), -ETIMEDOUT);
  }
  lvr_pipe_detach(f.second);
  f.second = NULL;
  CHECK(polls(fd));
  check_end(f.first);
  CHECK(polls(fd));
  lvr_pipe_detach(f.first);
  f.first = NULL;
  CHECK_INT(test_count_fds(), before);
  leave(&f);
}

TEST(a_descriptor_made_late_says_it_too) {
  struct fixture f = pipe_of(true);
  put(f.second, 1);
  CHECK(polls(fileno_of(f.first)));
  CHECK_INT(get(f.first), 1);
  CHECK(!polls(fileno_of(f.first)));
  lvr_pipe_detach(f.first);
  f.first = NULL;
  CHECK(polls(fileno_of(f.second)));
  leave(&f);
}

TEST(an_end_that_only_puts_is_never_readable) {
  struct fixture f = pipe_of(false);
  struct pollfd entry = {.fd = fileno_of(f.second), .events = POLLIN | POLLOUT};
  put(f.second, 1);
  CHECK_INT(poll(&entry, 1, 0), 1);
  CHECK_INT(entry.revents, POLLOUT);
  CHECK(polls(fileno_of(f.first)));
  leave(&f);
}

static void poll_and_get(void *argument) {
  struct fixture *f = argument;
  lvr_pipe_detach(f->second);
  int fd = fileno_of(f->first);
  for (uint32_t expected = 0;;) {
    uint32_t value;
    int error = try_get(f->first, &value);
    if (error == -EPIPE) return;
    if (error == 0) {
      CHECK_INT(value, expected);
      lvri_store_release_u32(f->step, ++expected);
      continue;
    }
    CHECK_INT(error, -ETIMEDOUT);
    CHECK(polls_within(fd, 10000));
  }
}

/* Each message is waited for by poll(2), and none is missed: in step, then in bursts. */
TEST_WITHIN(no_message_is_missed_by_who_polls, 60) {
  struct fixture f = pipe_of(true);
  pid_t pid = test_fork(poll_and_get, &f);
  for (uint32_t i = 0; i < 2000; i++) {
    put(f.second, i);
    if (i < 1000 || i % 7 == 0) await_u32(f.step, i + 1);
  }
  lvr_pipe_detach(f.second);
  f.second = NULL;
  CHECK_INT(test_join(pid), 0);
  leave(&f);
}

static void await_end_by_poll(void *argument) {
  struct fixture *f = argument;
  lvr_pipe_detach(f->second);
  int fd = fileno_of(f->first);
  lvri_store_release_u32(f->step + 1, 1);
  while (lvr_pipe_wait_until(f->first, 0) == -ETIMEDOUT)
    CHECK(polls_within(fd, 10000));
  check_end(f->first);
}

/* Nobody but the reader is there to notice, and he sleeps in poll(2). */
static void check_polled_ending(bool writes, int how) {
  struct fixture f = pipe_of(true);
  struct ending e = {&f, writes, how};
  pid_t writer = test_fork(come_to_an_end, &e);
  await_u32(f.step, 1);
  if (writes) CHECK_INT(get(f.first), 1);
  pid_t reader = test_fork(await_end_by_poll, &f);
  await_u32(f.step + 1, 1);
  lvr_pipe_detach(f.first);
  lvr_pipe_detach(f.second);
  f.first = f.second = NULL;
  int64_t begin_ns = lvri_os_now_ns();
  lvri_store_release_u32(f.step, 2);
  CHECK_INT(test_join(reader), 0);
  int64_t took_ns = lvri_os_now_ns() - begin_ns;
  lvri_store_release_u32(f.step, 3);
  CHECK_INT(test_join(writer), how < 0 ? 0 : -how);
  CHECK(took_ns < 100 * MS * TEST_SLOWNESS);
  leave(&f);
}

TEST(who_polls_is_told_of_a_handle_given_back) { check_polled_ending(true, -1); }
TEST(who_polls_is_told_of_an_exit) { check_polled_ending(true, 0); }
TEST(who_polls_is_told_of_a_kill) { check_polled_ending(false, SIGKILL); }

/* This process can put, too, so nobody's death matters, until it gives that up: it then watches the
 * child, and is not told anything for it. */
TEST(who_polls_his_own_pipe_watches_the_child_later) {
  struct fixture f = pipe_of(true);
  struct ending e = {&f, false, SIGKILL};
  int fd = fileno_of(f.first);
  pid_t pid = test_fork(come_to_an_end, &e);
  await_u32(f.step, 1);
  CHECK(!polls(fd));
  lvr_pipe_detach(f.second);
  f.second = NULL;
  CHECK(!polls(fd));
  lvri_store_release_u32(f.step, 2);
  CHECK(polls_within(fd, 10000));
  CHECK_INT(test_join(pid), -SIGKILL);
  CHECK_INT(lvr_pipe_wait_until(f.first, 0), 0);
  check_end(f.first);
  leave(&f);
}

static void poll_in_child(void *argument) {
  struct fixture *f = argument;
  int fd = fileno_of(f->first);
  lvri_store_release_u32(f->step, 1);
  await_u32(f->step, 2);
  CHECK(polls(fd));
  CHECK_INT(get(f->first), 1);
  CHECK(!polls(fd));
  lvr_pipe_detach(f->first);
}

/* A child makes its own, and takes nothing away from its parent's. */
TEST(a_forked_child_has_its_own) {
  struct fixture f = pipe_of(true);
  int fd = fileno_of(f.first);
  pid_t pid = test_fork(poll_in_child, &f);
  await_u32(f.step, 1);
  put(f.second, 1);
  CHECK(polls(fd));
  lvri_store_release_u32(f.step, 2);
  CHECK_INT(test_join(pid), 0);
  CHECK_INT(lvr_pipe_wait_until(f.first, 0), -ETIMEDOUT); /* which settles it */
  CHECK(!polls(fd));
  put(f.second, 2);
  CHECK(polls(fd));
  CHECK_INT(get(f.first), 2);
  leave(&f);
}

static void poll_one_message(void *argument) {
  struct fixture *f = argument;
  int fd = fileno_of(f->first);
  lvri_fetch_add_acq_rel_u32(f->step, 1);
  await_u32(f->step + 1, 1);
  CHECK(polls_within(fd, 10000));
  lvri_fetch_add_acq_rel_u32(f->step + 2, 1);
  await_u32(f->step + 1, 2);
}

/* More processes than there is room for in one table; those that die make room. */
TEST(everybody_is_rung) {
  enum { MANY = 20 };
  struct fixture f = pipe_of(true);
  pid_t pids[MANY];
  for (int round = 0; round < 2; round++) {
    for (int i = 0; i < 3; i++)
      lvri_store_release_u32(f.step + i, 0);
    for (int i = 0; i < MANY; i++)
      pids[i] = test_fork(poll_one_message, &f);
    await_u32(f.step, MANY);
    put(f.second, 1);
    lvri_store_release_u32(f.step + 1, 1);
    await_u32(f.step + 2, MANY);
    lvri_store_release_u32(f.step + 1, 2);
    for (int i = 0; i < MANY; i++)
      CHECK_INT(test_join(pids[i]), 0);
    CHECK_INT(get(f.first), 1);
  }
  leave(&f);
}

/* Without a descriptor to ring with there is no message either. */
TEST(a_put_that_cannot_ring_fails) {
  struct fixture f = pipe_of(true);
  uint32_t value = 1;
  int fd = fileno_of(f.first);
  lvri_fault_arm("os.doorbell.socket", 1);
  CHECK_INT(lvr_pipe_put_until(f.second, &value, sizeof(value), 0), -EMFILE);
  CHECK(!polls(fd));
  CHECK_INT(lvr_pipe_wait_until(f.first, 0), -ETIMEDOUT);
  put(f.second, 2);
  CHECK(polls(fd));
  CHECK_INT(get(f.first), 2);
  leave(&f);
}

TEST(a_descriptor_that_cannot_be_made_is_not_there) {
  static const char *const faults[] = {"os.doorbell.socket", "os.pollset.create",
                                       "os.timer.create"};
  struct fixture f = pipe_of(true);
  int before = test_count_fds(), fd;
  for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++) {
    lvri_fault_arm(faults[i], 1);
    CHECK_INT(lvr_pipe_fileno(f.first, &fd), -EMFILE);
    CHECK_INT(test_count_fds(), before);
  }
  CHECK(!polls(fileno_of(f.first)));
  leave(&f);
}

/* Arms anew once that is due, and stops there; then polls. */
static void stop_and_poll(struct fixture *f, const char *point) {
  int fd = fileno_of(f->first);
  uint32_t value;
  lvri_crashpoint_arm(LVRI_CRASH_STOP, point, 1);
  lvri_store_release_u32(f->step, 1);
  await_u32(f->step, 2);
  lvri_doorbell_settle(&f->first->in);
  lvri_store_release_u32(f->step + 2, 1);
  do
    CHECK(polls_within(fd, 10000));
  while (try_get(f->first, &value) == -ETIMEDOUT);
  CHECK_INT(value, 7);
}

static void poll_behind_a_look(void *argument) { stop_and_poll(argument, "doorbell.looked"); }
static void poll_behind_arming(void *argument) { stop_and_poll(argument, "doorbell.armed"); }

static void put_seven(void *argument) { put(((struct fixture *)argument)->second, 7); }

/* A block that others use cannot be put; who puts it learns that when he has rung. */
static void put_in_vain_then_seven(void *argument) {
  struct fixture *f = argument;
  lvr_ref ref;
  lvr_block *block, *again;
  CHECK_INT(lvr_block_create(f->s, 1, 0, &block), 0);
  lvr_block_ref(block, &ref);
  CHECK_INT(lvr_block_attach(f->s, &ref, &again), 0);
  CHECK_INT(lvr_pipe_put_block_until(f->second, "", 1, block, 0), -EINVAL);
  lvri_store_release_u32(f->step + 1, 1);
  await_u32(f->step + 2, 1);
  put_seven(f);
}

/* The reader arms while the writer, who has rung for what was armed before, is stopped. */
static void check_arming_beside(void (*read)(void *), void (*write)(void *), const char *where,
                                bool in_vain) {
  struct fixture f = pipe_of(true);
  pid_t reader = test_fork(read, &f);
  await_u32(f.step, 1);
  pid_t writer = crash_stop_at(where, 1, write, &f);
  lvri_store_release_u32(f.step, 2);
  test_await_stop(reader);
  test_continue(writer);
  if (in_vain) await_u32(f.step + 1, 1);
  if (!in_vain) CHECK_INT(test_join(writer), 0);
  test_continue(reader);
  CHECK_INT(test_join(reader), 0);
  if (in_vain) CHECK_INT(test_join(writer), 0);
  leave(&f);
}

TEST(who_arms_beside_a_put_is_told) {
  check_arming_beside(poll_behind_a_look, put_seven, "channel.put.written", false);
}

TEST(who_arms_beside_a_put_in_vain_is_told_of_the_next) {
  check_arming_beside(poll_behind_arming, put_in_vain_then_seven, "doorbell.ring.rung", true);
}

/* --- whom a poller watches ----------------------------------------------------------------- */

static void poll_for_the_end(void *argument) {
  struct fixture *f = argument;
  lvri_crashpoint_arm(LVRI_CRASH_STOP, "doorbell.watching", 1);
  int fd = fileno_of(f->first);
  lvri_store_release_u32(f->step + 1, 1);
  do
    CHECK(polls_within(fd, 10000));
  while (lvr_pipe_wait_until(f->first, 0) == -ETIMEDOUT);
  check_end(f->first);
}

struct leaver {
  struct fixture *f;
  bool session;
};

/* Lives on without the end, or without the session. */
static void leave_and_live(void *argument) {
  struct leaver *leaver = argument;
  struct fixture *f = leaver->f;
  await_u32(f->step, 1);
  if (leaver->session)
    lvr_session_detach(f->s);
  else
    lvr_pipe_detach(f->second);
  lvri_store_release_u32(f->step, 2);
  await_u32(f->step, 3);
}

static void stay(void *argument) { await_u32(((struct fixture *)argument)->step, 3); }

/* The one who is watched leaves just when he has been chosen, and lives; then another one who has
 * the end is killed. */
static void check_leaving(bool session) {
  struct fixture f = pipe_of(true);
  struct leaver leaver = {&f, session};
  pid_t watched = test_fork(leave_and_live, &leaver), other = test_fork(stay, &f);
  lvr_pipe_detach(f.second);
  f.second = NULL;
  pid_t reader = test_fork(poll_for_the_end, &f);
  test_await_stop(reader);
  lvri_store_release_u32(f.step, 1);
  await_u32(f.step, 2);
  test_continue(reader);
  await_u32(f.step + 1, 1);
  test_kill(other);
  CHECK_INT(test_join(reader), 0);
  lvri_store_release_u32(f.step, 3);
  CHECK_INT(test_join(watched), 0);
  leave(&f);
}

TEST(who_is_watched_may_leave_at_once) { check_leaving(false); }
TEST(who_is_watched_may_leave_the_session) { check_leaving(true); }

/* --- killed at every step ------------------------------------------------------------------ */

static void crash_setup(void *state) {
  struct fixture *f = state;
  *f = pipe_of(true);
  put(f->first, 1);
  put(f->second, 2);
  (void)fileno_of(f->first);
}

/* Everything that a process does with a pipe of its own, and with one that others have. */
static void crash_action(void *state) {
  struct fixture *f = state;
  lvr_pipe *first, *second;
  CHECK_INT(lvr_pipe_create(f->s, false, &first, &second), 0);
  (void)fileno_of(first);
  put(second, 3);
  CHECK_INT(get(first), 3);
  put(second, 4);
  lvr_pipe_detach(first);
  lvr_pipe_detach(second);
  lvr_pipe_detach(f->first);
  CHECK_INT(get(f->second), 1);
  put(f->second, 5);
  lvr_pipe_detach(f->second);
}

static void crash_recover(void *state) {
  struct fixture *f = state;
  CHECK(lvr_repair(f->s) >= 0);
}

/* What the child put is there or not; what it was about to get, too; then the end, when we have
 * given back what we have. */
static void crash_check(void *state, bool done) {
  struct fixture *f = state;
  uint32_t value;
  int fd = fileno_of(f->first);
  CHECK_INT(lvr_session_check(f->s), 0);
  CHECK_INT(get(f->first), 2);
  int error = try_get(f->first, &value);
  CHECK(error == 0 ? value == 5 : error == -ETIMEDOUT && !done);
  CHECK_INT(try_get(f->first, &value), -ETIMEDOUT);
  CHECK(!polls(fd));
  error = try_get(f->second, &value);
  CHECK(error == -ETIMEDOUT || (error == 0 && value == 1 && !done));
  put(f->second, 6);
  CHECK(polls(fd));
  CHECK_INT(get(f->first), 6);
  lvr_pipe_detach(f->second);
  f->second = NULL;
  CHECK(polls(fd));
  check_end(f->first);
}

static void crash_teardown(void *state) { leave(state); }

static const struct crash_scenario pipe_scenario = {
    "pipe",      sizeof(struct fixture), crash_setup, crash_action, crash_recover,
    crash_check, crash_teardown};

TEST_WITHIN(killed_at_every_step, 120) {
  struct crash_tally tally = crash_run(&pipe_scenario);
  printf("%llu deaths\n", (unsigned long long)tally.deaths);
}

TEST_WITHIN(repairers_killed_at_every_step, 240) {
  struct crash_tally tally = crash_run_repairer(&pipe_scenario, 40);
  printf("%llu repairers\n", (unsigned long long)tally.repairer_deaths);
}

/* The child is the last to have the other end, and dies closing it, or before: the reader, who
 * sleeps in poll(2), is told. */
static void closing_setup(void *state) {
  struct fixture *f = state;
  *f = pipe_of(true);
  CHECK_INT(lvr_pipe_send(f->second, f->ref), 0); /* it travels to the child */
  lvr_pipe_detach(f->second);
  f->second = NULL;
  (void)fileno_of(f->first);
}

static void closing_action(void *state) {
  struct fixture *f = state;
  lvr_pipe *second;
  CHECK_INT(lvr_pipe_attach(f->s, f->ref, &second), 0);
  lvr_pipe_detach(f->first);
  lvri_store_release_u32(f->step, 1);
  lvr_pipe_detach(second);
}

static void closing_check(void *state, bool done) {
  struct fixture *f = state;
  (void)done;
  if (lvri_load_acquire_u32(f->step) == 0) return; /* it travels still, or the child had it */
  int64_t begin_ns = lvri_os_now_ns();
  while (lvr_pipe_wait_until(f->first, 0) == -ETIMEDOUT)
    CHECK(polls_within(fileno_of(f->first), 10000));
  CHECK(lvri_os_now_ns() - begin_ns < SEC);
  check_end(f->first);
}

static void closing_teardown(void *state) {
  struct fixture *f = state;
  int error = lvr_object_unsend(f->s, f->ref);
  CHECK(error == 0 || error == -EINVAL || error == -ESTALE);
  leave(f);
  test_unshare(f->ref, sizeof(*f->ref));
}

TEST_WITHIN(killed_while_closing, 120) {
  static const struct crash_scenario scenario = {
      "closing", sizeof(struct fixture), closing_setup,   closing_action,
      NULL,      closing_check,          closing_teardown};
  (void)crash_run(&scenario);
  (void)crash_run(&pipe_scenario);
  CHECK_INT(crash_unvisited("pipe."), 0);
  CHECK_INT(crash_unvisited("doorbell.ring."), 0);
}
