/* Pipes and doorbells: who sleeps in poll(2) is told of each message, and of the end. */
#include <fcntl.h>
#include <sys/resource.h>

#include "base/fault.h"
#include "core/doorbell.h"
#include "core/pipe_test.h"

/* --- what a descriptor says ---------------------------------------------------------------- */

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

static void limit_descriptors(rlim_t count) {
  struct rlimit limit;
  CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = count < limit.rlim_max ? count : limit.rlim_max;
  CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void use_up_descriptors(void) {
  limit_descriptors(64);
  while (open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0) {
  }
  CHECK_INT(errno, EMFILE);
}

/* Without a descriptor to ring with, be it a copy of one, there is no message either. */
TEST(a_put_that_cannot_ring_fails) {
  struct fixture f = pipe_of(true);
  uint32_t value = 1;
  int fd = fileno_of(f.first);
  limit_descriptors(0);
  CHECK_INT(lvr_pipe_put_until(f.second, &value, sizeof(value), 0), -EMFILE);
  limit_descriptors(RLIM_INFINITY);
  CHECK(!polls(fd));
  CHECK_INT(lvr_pipe_wait_until(f.first, 0), -ETIMEDOUT);
  put(f.second, 2);
  CHECK(polls(fd));
  CHECK_INT(get(f.first), 2);
  leave(&f);
}

static void put_without_descriptors(void *argument) {
  const struct fixture *f = argument;
  use_up_descriptors();
  put(f->second, 1);
  CHECK(open("/dev/null", O_RDONLY | O_CLOEXEC) < 0); /* all of them are there still */
}

TEST(a_put_without_a_descriptor_rings) {
  struct fixture f = pipe_of(true);
  int fd = fileno_of(f.first);
  CHECK(!polls(fd));
  CHECK_INT(test_join(test_fork(put_without_descriptors, &f)), 0);
  CHECK(polls(fd));
  CHECK_INT(get(f.first), 1);
  CHECK(!polls(fd));
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
  bool session, bare;
};

/* Lives on without the end, or without the session. */
static void leave_and_live(void *argument) {
  struct leaver *leaver = argument;
  struct fixture *f = leaver->f;
  (void)lvri_fetch_add_acq_rel_u32(f->step + 3, 1);
  await_u32(f->step, 1);
  if (leaver->bare) use_up_descriptors();
  if (leaver->session)
    lvr_session_detach(f->s);
  else
    lvr_pipe_detach(f->second);
  lvri_store_release_u32(f->step, 2);
  await_u32(f->step, 3);
}

static void stay(void *argument) {
  const struct fixture *f = argument;
  (void)lvri_fetch_add_acq_rel_u32(f->step + 3, 1);
  await_u32(f->step, 3);
}

/* A poller who has chosen whom to watch, and stops there; that one; another who has the end. */
struct watchers {
  struct fixture f;
  struct leaver leaver;
  pid_t reader, watched, other;
};

static void begin_watching(struct watchers *w, bool session, bool bare,
                           void (*leave_somehow)(void *)) {
  w->f = pipe_of(true);
  w->leaver = (struct leaver){&w->f, session, bare};
  w->watched = test_fork(leave_somehow, &w->leaver);
  w->other = test_fork(stay, &w->f);
  await_u32(w->f.step + 3, 2); /* before that they hold nothing, and nobody watches them */
  lvr_pipe_detach(w->f.second);
  w->f.second = NULL;
  w->reader = test_fork(poll_for_the_end, &w->f);
  test_await_stop(w->reader);
}

/* The poller is told of the end, by the death of the one who has it still. */
static void end_watching(struct watchers *w) {
  test_kill(w->other);
  CHECK_INT(test_join(w->reader), 0);
  lvri_store_release_u32(w->f.step, 3);
  CHECK_INT(test_join(w->watched), 0);
  leave(&w->f);
}

/* The one who is watched leaves just when he has been chosen, and lives. */
static void check_leaving(bool session, bool bare) {
  struct watchers w;
  begin_watching(&w, session, bare, leave_and_live);
  lvri_store_release_u32(w.f.step, 1);
  await_u32(w.f.step, 2);
  test_continue(w.reader);
  await_u32(w.f.step + 1, 1);
  end_watching(&w);
}

TEST(who_is_watched_may_leave_at_once) { check_leaving(false, false); }
TEST(who_is_watched_may_leave_the_session) { check_leaving(true, false); }
TEST(who_is_watched_may_leave_without_a_descriptor) { check_leaving(false, true); }
TEST(who_is_watched_may_leave_the_session_without_a_descriptor) { check_leaving(true, true); }

/* The poller is told of the end while that one lives. */
TEST(the_last_may_leave_without_a_descriptor) {
  struct fixture f = pipe_of(true);
  struct leaver leaver = {&f, .bare = true};
  pid_t last = test_fork(leave_and_live, &leaver);
  await_u32(f.step + 3, 1);
  lvr_pipe_detach(f.second);
  f.second = NULL;
  pid_t reader = test_fork(poll_for_the_end, &f);
  test_await_stop(reader);
  test_continue(reader);
  await_u32(f.step + 1, 1);
  lvri_store_release_u32(f.step, 1);
  CHECK_INT(test_join(reader), 0);
  await_u32(f.step, 2);
  lvri_store_release_u32(f.step, 3);
  CHECK_INT(test_join(last), 0);
  leave(&f);
}

static void leave_haltingly(void *argument) {
  lvri_crashpoint_arm(LVRI_CRASH_STOP, "session.resigned", 1);
  leave_and_live(argument);
}

static void repair_in_part(void *argument) {
  lvri_crashpoint_arm(LVRI_CRASH_KILL, "doorbell.left.noted", 1);
  CHECK(lvr_repair(((struct fixture *)argument)->s) >= 0);
}

/* The one who is watched leaves the session, and lives; who does it for him rings nobody. */
TEST(who_leaves_in_part_is_watched_no_longer) {
  struct watchers w;
  begin_watching(&w, true, false, leave_haltingly);
  test_continue(w.reader);
  await_u32(w.f.step + 1, 1);
  lvri_store_release_u32(w.f.step, 1);
  test_await_stop(w.watched);
  CHECK_INT(test_join(test_fork(repair_in_part, &w.f)), -SIGKILL);
  test_continue(w.watched);
  await_u32(w.f.step, 2);
  end_watching(&w);
}
