/* A process that uses pipes, or repairs them, is killed at every step of it. */
#include "core/pipe_test.h"

static void crash_setup(void *state) {
  struct fixture *f = state;
  *f = pipe_of(true);
  put(f->first, 1);
  put(f->second, 2);
  (void)fileno_of(f->first);
}

static void put_and_get_many(lvr_pipe *first, lvr_pipe *second) {
  static const struct lvr_slice messages[] = {{"a", 1}, {"b", 1}, {"c", 1}};
  unsigned char buf[LVR_MESSAGE_INLINE + 4];
  uint32_t count;
  size_t bytes;
  CHECK_INT(lvr_pipe_put_many_until(second, messages, 3, 0, &count), 0);
  CHECK_INT(lvr_pipe_get_many_until(first, buf, sizeof(buf), 3, 0, &count, &bytes), 0);
  CHECK_INT(count, 3);
}

/* Everything that a process does with a pipe of its own, and with one that others have. */
static void crash_action(void *state) {
  struct fixture *f = state;
  lvr_pipe *first, *second;
  CHECK_INT(lvr_pipe_create(f->s, false, &first, &second), 0);
  (void)fileno_of(first);
  put(second, 3);
  CHECK_INT(get(first), 3);
  put_and_get_many(first, second);
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

/* The child is watched by one who polls, and dies giving the end back, or before; another one has
 * the end, too. When that one is killed, the poller is told: so he watches him by then. */
struct leaving {
  struct fixture f;
  pid_t poller, other;
};

enum { ATTACHED = 1, WATCHED, SHARED };

static void next_step(const struct fixture *f, uint32_t step) {
  await_u32(f->step, step - 1);
  lvri_store_release_u32(f->step, step);
}

static void poll_to_the_end(void *argument) {
  const struct fixture *f = argument;
  (void)lvri_fetch_add_acq_rel_u32(f->step + 1, 1);
  await_u32(f->step, ATTACHED);
  int fd = fileno_of(f->first);
  next_step(f, WATCHED);
  while (lvr_pipe_wait_until(f->first, 0) == -ETIMEDOUT)
    CHECK(polls_within(fd, 10000));
  check_end(f->first);
}

static void attach_late_and_stay(void *argument) {
  const struct fixture *f = argument;
  lvr_pipe *second;
  (void)lvri_fetch_add_acq_rel_u32(f->step + 1, 1);
  await_u32(f->step, WATCHED);
  CHECK_INT(lvr_pipe_attach(f->s, f->ref, &second), 0);
  next_step(f, SHARED);
  for (;;)
    (void)pause();
}

static void leaving_setup(void *state) {
  struct leaving *x = state;
  x->f = pipe_of(true);
  for (int i = 0; i < 2; i++)
    CHECK_INT(lvr_pipe_send(x->f.second, x->f.ref), 0);
  lvr_pipe_detach(x->f.second);
  x->f.second = NULL;
  x->other = test_fork(attach_late_and_stay, &x->f);
  x->poller = test_fork(poll_to_the_end, &x->f);
  await_u32(x->f.step + 1, 2); /* born: else a kill leaves an embryo, which is not swept for long */
}

static void leaving_action(void *state) {
  const struct fixture *f = &((struct leaving *)state)->f;
  lvr_pipe *second;
  CHECK_INT(lvr_pipe_attach(f->s, f->ref, &second), 0);
  next_step(f, ATTACHED);
  await_u32(f->step, SHARED);
  lvr_pipe_detach(second);
}

static void leaving_check(void *state, bool done) {
  struct leaving *x = state;
  bool shared = lvri_load_acquire_u32(x->f.step) == SHARED;
  CHECK(shared || !done);
  test_kill(x->other);
  if (shared)
    CHECK_INT(test_join(x->poller), 0);
  else
    test_kill(x->poller);
  CHECK(lvr_repair(x->f.s) >= 0);
}

static void leaving_teardown(void *state) {
  struct fixture *f = &((struct leaving *)state)->f;
  while (lvr_object_unsend(f->s, f->ref) == 0) {
  }
  leave(f);
  test_unshare(f->ref, sizeof(*f->ref));
}

TEST_WITHIN(killed_while_watched, 120) {
  static const struct crash_scenario scenario = {
      "leaving", sizeof(struct leaving), leaving_setup,   leaving_action,
      NULL,      leaving_check,          leaving_teardown};
  (void)crash_run(&scenario);
  CHECK_INT(crash_unvisited("doorbell.left."), 0);
}
