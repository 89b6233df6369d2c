/* Workers that nap, or spin (channel_wait.c): who is rung and who is not, that a task waits for
 * nobody's relook, and what one leaves that is killed. Nobody looks by himself here. */
#include "core/board_test.h"
#include "core/channel_inner.h"
#include "testing/crash.h"

enum { HELD = 1000 }; /* a task that goes on until it is let go */

#define SPINS "channel.wait.spins"

/* Where somebody is relied on to look. */
static const char *const awake_at[] = {SPINS, "channel.nap.noted", "channel.nap.woken"};

enum { AWAKE_AT = sizeof(awake_at) / sizeof(*awake_at) };

/* What a worker is to be: its last wait was so long; where it stops; whether it is in the way of
 * who puts, and does not spin. */
struct post {
  lvr_board *b;
  _Atomic uint32_t *let_go;
  uint32_t row;
  int64_t pace_ns;
  const char *stops_at;
  bool is_in_the_way;
};

static struct post new_post(void) {
  lvri_relook_ns = 1000 * SEC;
  struct post p = {.b = new_board(new_session()), .let_go = test_shared(sizeof(_Atomic uint32_t))};
  lvri_store_relaxed_u32(&p.b->tasks.shm->ch_put_cpu, UINT32_MAX); /* no worker is in its way */
  return p;
}

static int run_one(struct post *p) {
  unsigned char buf[2 * LVR_MESSAGE_INLINE];
  uint32_t count, first, task;
  size_t bytes;
  int error = lvr_board_claim_until(p->b, buf, sizeof(buf), 1, LVR_FOREVER, &count, &bytes, &first);
  if (error) return error;
  memcpy(&task, buf + 4, sizeof(task));
  CHECK_INT(lvr_board_begin(p->b, first), 0);
  if (task == HELD) await_u32(p->let_go, 1);
  CHECK_INT(lvr_board_finish(p->b, &task, sizeof(task), NULL), 0);
  return 0;
}

static void run_all(void *argument) {
  struct post *p = argument;
  int error;
  CHECK_INT(lvr_board_enlist(p->b, p->row), 0);
  p->b->tasks.pace_ns = p->pace_ns;
  if (p->is_in_the_way) lvri_channel_note_cpu(p->b->tasks.shm);
  if (p->stops_at) lvri_crashpoint_arm(LVRI_CRASH_STOP, p->stops_at, 1);
  while ((error = run_one(p)) == 0) {
  }
  CHECK_INT(error, -EPIPE);
}

static pid_t hire(struct post *p, uint32_t row, int64_t pace_ns, const char *stops_at) {
  p->row = row;
  p->pace_ns = pace_ns;
  p->stops_at = stops_at;
  return test_fork(run_all, p);
}

static pid_t hire_sleeper(struct post *p, uint32_t row) {
  pid_t pid = hire(p, row, INT64_MAX, NULL);
  struct lvr_board_row seen;
  while (lvr_board_look(p->b, row, &seen), seen.worker == 0)
    (void)sched_yield();
  await_asleep(pid);
  return pid;
}

/* Or a spinner. */
static pid_t hire_napper(struct post *p, uint32_t row, const char *stops_at) {
  pid_t pid = hire(p, row, 0, stops_at);
  test_await_stop(pid);
  return pid;
}

static void put(struct post *p, uint32_t task) {
  uint32_t number;
  CHECK_INT(lvr_board_put(p->b, &task, sizeof(task), NULL, &number), 0);
}

static uint32_t rings_of(struct post *p) {
  return lvri_load_acquire_u32(&p->b->tasks.shm->ch_items) / LVRI_BELL_RING;
}

static bool naps(struct post *p) {
  return lvri_load_acquire_u32(&p->b->tasks.shm->ch_items) & LVRI_BELL_NAPPER;
}

static bool is_relied_on(struct post *p) {
  return lvri_load_acquire_u32(&p->b->tasks.shm->ch_items) & LVRI_BELL_AWAKE;
}

/* For who looks at the clock, and it is for long over then; or it never will be. */
static void await_late_look(struct post *p) {
  uint64_t late_ns = lvri_load_relaxed_u64(&p->b->tasks.shm->ch_look_ns) + LVRI_LOOK_LATE_NS;
  CHECK(is_relied_on(p));
  while ((uint64_t)lvri_os_coarse_ns() <= late_ns)
    (void)sched_yield();
}

static void keep_look_young(struct post *p) {
  lvri_store_relaxed_u64(&p->b->tasks.shm->ch_look_ns, INT64_MAX / 2);
}

static uint32_t finished(struct post *p) {
  struct lvr_board_row row;
  uint32_t all = 0;
  for (uint32_t i = 0; i < ROWS; i++) {
    lvr_board_look(p->b, i, &row);
    all += row.finished;
  }
  return all;
}

static void await_finished(struct post *p, uint32_t count) {
  while (finished(p) < count)
    (void)sched_yield();
}

static void end(struct post *p, pid_t one, pid_t other) {
  lvri_store_release_u32(p->let_go, 1);
  lvr_board_close(p->b);
  CHECK_INT(test_join(one), 0);
  if (other) CHECK_INT(test_join(other), 0);
  lvr_board_detach(p->b);
}

/* And is seen by who has not fallen asleep yet. */
TEST(what_comes_in_a_nap_wakes_nobody) {
  struct post p = new_post();
  lvri_nap_ns = 1000 * SEC;
  pid_t sleeper = hire_sleeper(&p, 0), napper = hire_napper(&p, 1, "channel.nap.noted");
  uint32_t rings = rings_of(&p);
  for (uint32_t i = 0; i < 3; i++)
    put(&p, i);
  CHECK_INT(rings_of(&p), rings);
  test_continue(napper);
  await_finished(&p, 3);
  end(&p, sleeper, napper);
}

TEST(who_has_napped_leaves_nothing_behind) {
  struct post p = new_post();
  lvri_nap_ns = 1000 * SEC;
  pid_t sleeper = hire_sleeper(&p, 0);
  p.is_in_the_way = true;
  pid_t napper = hire_napper(&p, 1, "channel.nap.noted");
  put(&p, HELD);
  put(&p, 1);
  test_continue(napper);
  await_finished(&p, 1);
  end(&p, sleeper, napper);
}

/* It leaves nothing behind. */
static void check_that_a_spin_wakes_nobody(struct post *p, pid_t sleeper, pid_t spinner) {
  uint32_t rings = rings_of(p);
  await_asleep(sleeper);
  put(p, HELD);
  put(p, 1);
  CHECK_INT(rings_of(p), rings);
  await_asleep(sleeper);
  test_continue(spinner);
  await_finished(p, 1);
  end(p, sleeper, spinner);
}

TEST(what_comes_in_a_spin_wakes_nobody) {
  struct post p = new_post();
  pid_t sleeper = hire_sleeper(&p, 0), spinner = hire_napper(&p, 1, SPINS);
  check_that_a_spin_wakes_nobody(&p, sleeper, spinner);
}

TEST(nor_who_falls_asleep_in_the_meantime) {
  struct post p = new_post();
  pid_t sleeper = hire(&p, 0, INT64_MAX, "channel.wait.looked");
  test_await_stop(sleeper);
  pid_t spinner = hire_napper(&p, 1, SPINS);
  test_continue(sleeper);
  check_that_a_spin_wakes_nobody(&p, sleeper, spinner);
}

/* And then it sleeps until it is rung. */
TEST(a_nap_ends_by_itself) {
  struct post p = new_post();
  pid_t napper = hire_napper(&p, 0, "channel.nap.woken");
  put(&p, 1);
  test_continue(napper);
  await_finished(&p, 1);
  for (uint32_t i = 2; i < 50; i++) {
    put(&p, i);
    await_finished(&p, i);
    if (i % 2) await_asleep(napper);
  }
  end(&p, napper, 0);
}

/* One that is busy leaves the bell to the napper: it is in time for what comes then. */
static void put_long_and_short(struct post *p) {
  uint32_t before = finished(p);
  put(p, HELD);
  put(p, 1);
  await_finished(p, before + 1);
  lvri_store_release_u32(p->let_go, 1);
  await_finished(p, before + 2);
  lvri_store_release_u32(p->let_go, 0);
}

TEST(a_long_task_holds_up_no_short_one) {
  struct post p = new_post();
  pid_t one = hire_sleeper(&p, 0), other = hire_sleeper(&p, 1);
  for (int i = 0; i < 500; i++) {
    put_long_and_short(&p);
    if (i % 3 == 0) await_asleep(one);
    if (i % 3 != 1) await_asleep(other);
  }
  end(&p, one, other);
}

TEST(nor_where_one_naps_and_one_spins) {
  for (size_t i = 0; i < AWAKE_AT; i++) {
    struct post p = new_post();
    pid_t sleeper = hire_sleeper(&p, 2), napper = hire_napper(&p, 0, awake_at[i]);
    pid_t spinner = hire(&p, 1, 0, NULL);
    keep_look_young(&p);
    put(&p, HELD);
    while (lvr_board_waiting(p.b) != 0)
      (void)sched_yield();
    put(&p, 1);
    test_continue(napper);
    await_finished(&p, 1);
    lvri_store_release_u32(p.let_go, 1);
    lvr_board_close(p.b);
    CHECK_INT(test_join(spinner), 0);
    end(&p, sleeper, napper);
  }
}

/* --- in a hurry ------------------------------------------------------------------------------ */

static pid_t hire_for_long_naps(struct post *p) {
  lvri_nap_ns = 1000 * SEC;
  pid_t napper = hire(p, 0, 0, NULL);
  while (!naps(p))
    (void)sched_yield();
  await_asleep(napper);
  return napper;
}

TEST(who_waits_for_results_ends_a_nap) {
  struct post p = new_post();
  pid_t napper = hire_for_long_naps(&p);
  CHECK_INT(lvr_board_wait_until(p.b, in_ns(SEC / 100)), -ETIMEDOUT);
  CHECK(naps(&p)); /* for nothing */
  struct lvr_message m;
  CHECK_INT(lvr_board_take_until(p.b, &m, 0), -ETIMEDOUT);
  lvri_store_relaxed_u32(&p.b->results.shm->ch_items, 0); /* nobody waits */
  put(&p, 1);
  CHECK_INT(finished(&p), 0);
  CHECK(naps(&p));
  CHECK_INT(lvr_board_wait_until(p.b, in_ns(15 * SEC)), 0);
  end(&p, napper, 0);
}

static void wait_for_result(struct post *p, _Atomic uint32_t *tid) {
  lvri_store_release_u32(tid, (uint32_t)lvri_os_tid());
  while (lvr_board_wait_until(p->b, LVR_FOREVER) != 0 || finished(p) == 0)
    (void)sched_yield();
}

struct pair {
  struct post post;
  _Atomic uint32_t threads, tid;
};

static void wait_or_put(void *argument) {
  struct pair *pair = argument;
  if (lvri_fetch_add_relaxed_u32(&pair->threads, 1) == 0) {
    wait_for_result(&pair->post, &pair->tid);
  } else {
    await_u32(&pair->tid, 1);
    await_asleep((pid_t)lvri_load_relaxed_u32(&pair->tid));
    put(&pair->post, 1);
  }
}

TEST(a_put_ends_a_nap_where_somebody_waits) {
  struct pair pair = {.post = new_post()};
  pid_t napper = hire_for_long_naps(&pair.post);
  test_threads(2, wait_or_put, &pair);
  end(&pair.post, napper, 0);
}

static void wait_or_put_many(void *argument) {
  struct pair *pair = argument;
  const uint32_t task = 1;
  const struct lvr_slice slice = {&task, sizeof(task)};
  uint32_t put, first;
  if (lvri_fetch_add_relaxed_u32(&pair->threads, 1) == 0) {
    wait_for_result(&pair->post, &pair->tid);
  } else {
    await_u32(&pair->tid, 1);
    await_asleep((pid_t)lvri_load_relaxed_u32(&pair->tid));
    CHECK_INT(lvr_board_put_many(pair->post.b, &slice, 1, &put, &first), 0);
  }
}

TEST(so_do_many_that_are_put) {
  struct pair pair = {.post = new_post()};
  pid_t napper = hire_for_long_naps(&pair.post);
  test_threads(2, wait_or_put_many, &pair);
  end(&pair.post, napper, 0);
}

static void take_result(void *argument) {
  struct post *p = argument;
  struct lvr_message m;
  CHECK_INT(lvr_board_take_until(p->b, &m, in_ns(15 * SEC)), 0);
}

static void take_many_results(void *argument) {
  struct post *p = argument;
  unsigned char buf[2 * LVR_MESSAGE_INLINE];
  uint32_t count;
  size_t bytes;
  CHECK_INT(lvr_board_take_many_until(p->b, buf, sizeof(buf), 1, in_ns(15 * SEC), &count, &bytes),
            0);
}

/* It was put before. */
static void check_that_it_ends_a_nap(void (*take)(void *argument)) {
  struct post p = new_post();
  pid_t napper = hire_for_long_naps(&p);
  put(&p, 1);
  CHECK(naps(&p));
  take(&p);
  end(&p, napper, 0);
}

TEST(who_takes_results_ends_a_nap) {
  check_that_it_ends_a_nap(take_result);
  check_that_it_ends_a_nap(take_many_results);
}

/* It is put when he has looked for naps to end, and nobody can see yet that he waits. */
TEST(who_begins_to_take_ends_a_nap_once_more) {
  struct post p = new_post();
  pid_t napper = hire_for_long_naps(&p);
  pid_t taker = crash_stop_at("channel.wait.looked", 1, take_result, &p);
  put(&p, 1);
  CHECK(naps(&p));
  test_continue(taker);
  CHECK_INT(test_join(taker), 0);
  end(&p, napper, 0);
}

/* It is put while he sleeps. */
static void put_from_beside(void *argument) {
  struct pair *pair = argument;
  if (lvri_fetch_add_relaxed_u32(&pair->threads, 1) == 0) {
    lvri_store_release_u32(&pair->tid, (uint32_t)lvri_os_tid());
    take_result(&pair->post);
  } else {
    await_u32(&pair->tid, 1);
    await_asleep((pid_t)lvri_load_relaxed_u32(&pair->tid));
    put(&pair->post, 1);
  }
}

TEST(a_put_ends_a_nap_where_somebody_takes) {
  struct pair pair = {.post = new_post()};
  pid_t napper = hire_for_long_naps(&pair.post);
  test_threads(2, put_from_beside, &pair);
  end(&pair.post, napper, 0);
}

/* --- stopped --------------------------------------------------------------------------------- */

/* For a while: another one is rung for what comes then. */
static void check_that_nobody_waits_for(pid_t sleeper, pid_t napper, struct post *p) {
  await_late_look(p);
  for (uint32_t i = 1; i < 5; i++) {
    put(p, i);
    await_finished(p, i);
    await_asleep(sleeper);
  }
  CHECK_INT(lvri_load_relaxed_u32(&p->b->tasks.shm->ch_hurries), 0); /* it may nap again */
  test_continue(napper);
  await_asleep(napper);
  put(p, 5);
  await_finished(p, 5);
  end(p, sleeper, napper);
}

TEST(nobody_waits_for_one_that_was_stopped) {
  for (size_t i = 0; i < AWAKE_AT; i++) {
    struct post p = new_post();
    pid_t sleeper = hire_sleeper(&p, 0), napper = hire_napper(&p, 1, awake_at[i]);
    check_that_nobody_waits_for(sleeper, napper, &p);
  }
}

TEST(nor_for_a_napper_that_was_stopped_in_its_sleep) {
  struct post p = new_post();
  lvri_nap_ns = SEC;
  pid_t sleeper = hire_sleeper(&p, 0), napper = hire(&p, 1, 0, NULL);
  while (!naps(&p))
    (void)sched_yield();
  await_asleep(napper);
  CHECK_INT(kill(napper, SIGSTOP), 0);
  test_await_stop(napper);
  check_that_nobody_waits_for(sleeper, napper, &p);
}

/* It came in the nap, and nothing after it. Who asks for its result now and then has it, if another
 * worker is there. */
TEST(who_looks_for_a_result_waits_for_no_napper) {
  struct post p = new_post();
  struct lvr_message m;
  pid_t sleeper = hire_sleeper(&p, 0), napper = hire_napper(&p, 1, "channel.nap.noted");
  uint64_t end_ns = lvri_load_relaxed_u64(&p.b->tasks.shm->ch_look_ns);
  keep_look_young(&p);
  put(&p, 1);
  CHECK_INT(lvr_board_take_until(p.b, &m, 0), -ETIMEDOUT);
  CHECK_INT(lvr_board_wait_until(p.b, 0), -ETIMEDOUT);
  CHECK(naps(&p));
  lvri_store_relaxed_u64(&p.b->tasks.shm->ch_look_ns, end_ns);
  await_late_look(&p);
  while (lvr_board_take_until(p.b, &m, 0) == -ETIMEDOUT)
    (void)sched_yield();
  test_continue(napper);
  end(&p, sleeper, napper);
}

/* Who sleeps until he is rung, and has done so for long, wakes up when the spinner is late. */
static void check_that_it_waits_for_no_spinner(void (*take)(void *argument)) {
  struct post p = new_post();
  pid_t sleeper = hire_sleeper(&p, 0), spinner = hire_napper(&p, 1, SPINS);
  lvri_relook_ns = 50 * MS;
  lvri_slept_before_ns = 100 * SEC;
  lvri_store_relaxed_u64(&p.b->tasks.shm->ch_look_ns, (uint64_t)lvri_os_now_ns());
  put(&p, 1);
  int64_t since_ns = lvri_os_now_ns();
  take(&p);
  CHECK(lvri_os_now_ns() - since_ns < 5 * SEC);
  test_continue(spinner);
  end(&p, sleeper, spinner);
}

static void await_result(void *argument) {
  struct post *p = argument;
  CHECK_INT(lvr_board_wait_until(p->b, in_ns(15 * SEC)), 0);
}

TEST(an_old_wait_for_a_result_waits_for_no_spinner) {
  check_that_it_waits_for_no_spinner(take_result);
  check_that_it_waits_for_no_spinner(await_result);
}

/* --- deaths ---------------------------------------------------------------------------------- */

/* It had the bell. Who buries it gives that to those who sleep. */
TEST(who_buries_one_that_is_relied_on_wakes_the_others) {
  for (size_t i = 0; i < AWAKE_AT; i++) {
    struct post p = new_post();
    pid_t sleeper = hire_sleeper(&p, 0), napper = hire_napper(&p, 1, awake_at[i]);
    keep_look_young(&p);
    put(&p, 1);
    test_kill(napper);
    CHECK_INT(finished(&p), 0);
    CHECK_INT(lvr_board_settle(p.b, 1), 0);
    CHECK(!is_relied_on(&p));
    await_finished(&p, 1);
    await_asleep(sleeper);
    put(&p, 2);
    await_finished(&p, 2);
    end(&p, sleeper, 0);
  }
}

/* Who was to end a nap dies in between: it ends. */
static void hurry(void *argument) {
  struct post *p = argument;
  lvri_channel_hurry(p->b->tasks.shm);
}

TEST(a_hurry_that_died_is_made_up_for) {
  struct post p = new_post();
  pid_t napper = hire_napper(&p, 0, "channel.nap.noted");
  keep_look_young(&p);
  put(&p, 1);
  test_kill(crash_stop_at("channel.hurry.counted", 1, hurry, &p));
  test_continue(napper);
  await_finished(&p, 1);
  end(&p, napper, 0);
}

static void own_and_stop_in_a_put(void *argument) {
  struct post *p = argument;
  lvri_board_shm(p->b)->bo_owner = lvri_session_self(p->b->handle.session);
  lvri_store_release_u32(p->let_go, 2);
  await_u32(p->let_go, 3);
  lvri_crashpoint_arm(LVRI_CRASH_STOP, "channel.hurry.counted", 1);
  put(p, 1);
}

/* He was to wake another one than the napper, which is stopped: that one is woken by his death. */
TEST(an_owner_that_dies_in_a_late_ring_leaves_nobody_asleep) {
  struct post p = new_post();
  pid_t owner = test_fork(own_and_stop_in_a_put, &p);
  await_u32(p.let_go, 2);
  pid_t sleeper = hire_sleeper(&p, 0), napper = hire_napper(&p, 1, "channel.nap.noted");
  await_late_look(&p);
  lvri_store_release_u32(p.let_go, 3);
  test_await_stop(owner);
  CHECK(!naps(&p));
  CHECK_INT(finished(&p), 0);
  test_kill(owner);
  CHECK_INT(test_join(sleeper), 0);
  test_continue(napper);
  CHECK_INT(test_join(napper), 0);
  CHECK(lvr_repair(p.b->handle.session) >= 0);
  lvr_board_detach(p.b);
}
