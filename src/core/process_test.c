#include "core/process.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/crashpoint.h"
#include "core/kinds.h"
#include "core/object.h"
#include "core/repair.h"
#include "core/slots.h"
#include "os/os.h"
#include "testing/fixture.h"
#include "testing/test.h"

#define SOON (lvri_os_now_ns() + INT64_C(10000000000))

/* Memory that a test shares with its children. */
struct common {
  _Atomic uint32_t step;
  _Atomic uint32_t count;
  _Atomic uint64_t id;
};

static lvr_session *session;
static struct common *common;
static struct lvri_handle *object;

static void begin(void) {
  session = fixture_session();
  common = test_shared(sizeof(*common));
}

static void reach(uint32_t step) {
  lvri_store_release_u32(&common->step, step);
  (void)lvri_os_futex_wake(&common->step, 100);
}

static void await(uint32_t step) {
  for (uint32_t now; (now = lvri_load_acquire_u32(&common->step)) < step;)
    (void)lvri_os_futex_wait(&common->step, now, INT64_MAX);
}

static void rest(void *unused) {
  (void)unused;
  lvri_store_release_u64(&common->id, lvr_proc_self(session));
  reach(1);
  for (;;)
    (void)pause();
}

/* A child that is `id`, runs body, and is not awaited. */
static pid_t bear(lvr_proc_id id, void (*body)(void *)) {
  CHECK_INT(lvr_proc_fork_next(session, id), 0);
  return test_fork(body, NULL);
}

static int wait_for(lvr_proc_id id, int32_t *ret_status) {
  return lvr_proc_wait_until(session, id, SOON, ret_status);
}

/* --- birth and death ------------------------------------------------------------------------- */

static void announce_seven(void *unused) {
  (void)unused;
  CHECK(lvr_proc_self(session) != 0);
  lvr_proc_announce(session, 7);
  CHECK_INT(lvr_proc_self(session), 0);
}

TEST(a_child_is_born_and_announces) {
  begin();
  struct lvr_proc_info info;
  int32_t pid, status;
  lvr_proc_id child = fixture_prepare(session);
  CHECK_INT(lvr_proc_info(session, child, &info), 0);
  CHECK_INT(info.state, LVR_PROC_EMBRYO);
  CHECK(!lvr_proc_is_alive(session, child));
  CHECK_INT(lvr_proc_wait_born_until(session, child, 0, &pid), -ETIMEDOUT);
  CHECK_INT(lvr_proc_wait_until(session, child, 0, &status), -ETIMEDOUT);
  pid_t forked = bear(child, announce_seven);
  CHECK_INT(lvr_proc_wait_born_until(session, child, SOON, &pid), 0);
  CHECK_INT(pid, forked);
  CHECK_INT(wait_for(child, &status), 0);
  CHECK_INT(status, 7);
  CHECK_INT(lvr_proc_set_status(session, child, 0), -EALREADY);
  CHECK_INT(test_join(forked), 0);
  CHECK_INT(lvr_repair(session), 0);
  CHECK_INT(lvr_proc_info(session, child, &info), 0);
  CHECK_INT(info.state, LVR_PROC_DEAD);
  CHECK(info.status_known && info.status == 7 && info.parent == lvr_proc_self(session));
  CHECK_INT(lvr_proc_forget(session, child), 0);
  CHECK_INT(lvr_proc_info(session, child, &info), -ESRCH);
  CHECK_INT(wait_for(child, &status), -ESRCH);
  CHECK_INT(lvr_proc_forget(session, child), -ESRCH);
  fixture_check(session);
}

TEST(who_is_killed_is_over_and_its_reaper_says_how) {
  begin();
  int32_t status;
  lvr_proc_id child = fixture_prepare(session);
  pid_t pid = bear(child, rest);
  await(1);
  CHECK(lvr_proc_is_alive(session, child));
  CHECK_INT(kill(pid, SIGKILL), 0);
  CHECK_INT(wait_for(child, &status), -ENODATA);
  CHECK(!lvr_proc_is_alive(session, child));
  CHECK_INT(test_join(pid), -SIGKILL);
  CHECK_INT(lvr_proc_wait_status_until(session, child, child, SOON, &status), -ENODATA);
  CHECK_INT(lvr_proc_set_status(session, child, -SIGKILL), 0);
  CHECK_INT(wait_for(child, &status), 0);
  CHECK_INT(status, -SIGKILL);
  CHECK_INT(lvr_proc_forget(session, child), 0);
  fixture_check(session);
}

static void say_status(void *unused) {
  int32_t status;
  lvr_proc_id other = lvri_load_acquire_u64(&common->id);
  (void)unused;
  CHECK_INT(lvr_proc_wait_until(session, other, SOON, &status), -ENODATA);
  await(2);
  CHECK_INT(lvr_proc_set_status(session, other, 3), 0);
}

TEST(the_reaper_may_be_a_third_one) {
  begin();
  int32_t status;
  lvr_proc_id child = fixture_prepare(session), reaper = fixture_prepare(session);
  pid_t pid = bear(child, rest);
  await(1);
  pid_t second = bear(reaper, say_status);
  test_kill(pid);
  CHECK_INT(wait_for(child, &status), -ENODATA);
  CHECK_INT(lvr_proc_wait_status_until(session, child, reaper, 0, &status), -ETIMEDOUT);
  reach(2);
  CHECK_INT(lvr_proc_wait_status_until(session, child, reaper, SOON, &status), 0);
  CHECK_INT(status, 3);
  CHECK_INT(test_join(second), 0);
}

TEST(waiting_for_a_birth_ends_with_the_midwife) {
  begin();
  int32_t pid;
  lvr_proc_id midwife = fixture_prepare(session), child = fixture_prepare(session);
  pid_t forked = bear(midwife, rest);
  await(1);
  CHECK_INT(lvri_proc_wait_born_until(session, child, midwife, 0, &pid), -ETIMEDOUT);
  test_kill(forked);
  CHECK_INT(lvri_proc_wait_born_until(session, child, midwife, SOON, &pid), -EOWNERDEAD);
  CHECK_INT(lvr_proc_withdraw(session, child), 0);
  CHECK_INT(lvri_proc_wait_born_until(session, child, 0, SOON, &pid), -ESRCH);
}

static void on_alarm(int signo) { (void)signo; }

TEST(a_signal_ends_a_wait) {
  begin();
  struct sigaction action = {.sa_handler = on_alarm};
  int32_t status;
  CHECK_INT(sigaction(SIGUSR1, &action, NULL), 0);
  lvr_proc_id child = fixture_prepare(session);
  pid_t self = getpid(), ticker = fork();
  if (ticker == 0)
    for (;;) { /* whenever it arrives: the first one in the wait ends it */
      (void)kill(self, SIGUSR1);
      (void)usleep(1000);
    }
  CHECK_INT(lvr_proc_wait_until(session, child, SOON, &status), -EINTR);
  test_kill(ticker);
}

/* --- forks ----------------------------------------------------------------------------------- */

static void use_object(void *unused) {
  lvr_ref ref;
  struct lvri_handle *h;
  (void)unused;
  CHECK(lvri_load_acquire_u64(&common->id) != lvr_proc_self(session));
  lvri_object_ref(object, &ref);
  CHECK_INT(lvri_object_attach(session, &ref, LVRI_KIND_TEST, &h), 0);
  CHECK(h == object && h->uses == 2);
  CHECK(lvri_handle_entry(h)->le_object == h->off);
  reach(1);
  await(2);
  CHECK_INT(object->object->ob_refs, 1);
  lvri_object_detach(h);
  lvri_object_detach(h);
  CHECK_INT(fixture_stats(session).objects, 0);
  fixture_check(session);
}

TEST(any_fork_is_a_process_with_its_parents_handles) {
  begin();
  object = fixture_object(session);
  lvri_store_release_u64(&common->id, lvr_proc_self(session));
  pid_t pid = test_fork(use_object, NULL);
  await(1);
  CHECK_INT(object->object->ob_refs, 2);
  CHECK_INT(fixture_stats(session).slots_running, 2);
  fixture_check(session);
  lvri_object_detach(object);
  CHECK_INT(fixture_stats(session).objects, 1);
  reach(2);
  CHECK_INT(test_join(pid), 0);
  CHECK_INT(lvr_repair(session), 1);
  CHECK_INT(fixture_stats(session).slots_over + fixture_stats(session).slots_kept, 0);
  CHECK_INT(fixture_stats(session).objects, 0);
  fixture_check(session);
}

static void fork_deeper(void *unused) {
  (void)unused;
  uint32_t depth = lvri_fetch_add_acq_rel_u32(&common->count, 1);
  CHECK(lvr_proc_self(session) != 0);
  CHECK_INT(object->object->ob_refs, depth + 2);
  if (depth < 8) CHECK_INT(test_join(test_fork(fork_deeper, NULL)), 0);
}

TEST(grandchildren) {
  begin();
  object = fixture_object(session);
  CHECK_INT(test_join(test_fork(fork_deeper, NULL)), 0);
  CHECK_INT(lvr_repair(session), 9);
  CHECK_INT(object->object->ob_refs, 1);
  fixture_check(session);
}

static void be_nobody(void *unused) {
  struct lvri_handle *h;
  lvr_proc_id id = lvri_load_acquire_u64(&common->id);
  lvr_ref ref;
  (void)unused;
  CHECK_INT(lvr_proc_self(session), 0);
  CHECK_INT(lvri_object_create(session, LVRI_KIND_TEST, 64, &h), -ESTALE);
  CHECK_INT(lvri_object_send(object, &ref), -ESTALE);
  if (id) {
    CHECK_INT(lvr_proc_adopt(session, id), 0);
    CHECK(lvri_handle_entry(object) != NULL); /* a handle of the time before */
    CHECK_INT(lvri_object_create(session, LVRI_KIND_TEST, 64, &h), 0);
  }
  lvri_object_detach(object);
}

TEST(a_fork_may_be_nobody) {
  begin();
  object = fixture_object(session);
  CHECK_INT(lvr_proc_fork_next(session, LVR_PROC_NOBODY), 0);
  CHECK_INT(test_join(test_fork(be_nobody, NULL)), 0);
  CHECK_INT(lvr_repair(session), 0);
  CHECK_INT(object->object->ob_refs, 1);
  lvri_store_release_u64(&common->id, fixture_prepare(session));
  CHECK_INT(lvr_proc_fork_next(session, LVR_PROC_NOBODY), 0);
  CHECK_INT(test_join(test_fork(be_nobody, NULL)), 0);
  CHECK_INT(lvr_repair(session), 1);
  CHECK_INT(object->object->ob_refs, 1);
  CHECK_INT(fixture_stats(session).objects, 1);
  fixture_check(session);
}

TEST(a_fork_behind_our_back_is_nobody) {
  begin();
  object = fixture_object(session);
  pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  if (pid == 0) {
    be_nobody(NULL);
    _exit(0);
  }
  CHECK_INT(test_join(pid), 0);
  CHECK(lvr_proc_is_alive(session, lvr_proc_self(session)));
  CHECK_INT(object->object->ob_refs, 1);
  fixture_check(session);
}

TEST(a_fork_without_room_is_nobody) {
  session = fixture_small_session(2);
  common = test_shared(sizeof(*common));
  object = fixture_object(session);
  lvr_proc_id child = fixture_prepare(session), more;
  CHECK_INT(lvr_proc_prepare(session, 0, &more), -EAGAIN);
  CHECK_INT(test_join(test_fork(be_nobody, NULL)), 0);
  CHECK_INT(lvr_proc_withdraw(session, child), 0);
  CHECK_INT(lvr_proc_prepare(session, 0, &more), 0);
  fixture_check(session);
}

static void fork_in_thread(void *unused) {
  (void)unused;
  object = NULL;
  CHECK(lvr_proc_self(session) != 0);
  CHECK(lvri_slot_alive_thoroughly(&session->arena, lvr_proc_self(session)));
}

static void fork_often(void *unused) {
  (void)unused;
  for (int i = 0; i < 5; i++)
    CHECK_INT(test_join(test_fork(fork_in_thread, NULL)), 0);
}

TEST(threads_may_fork_at_once) {
  begin();
  object = fixture_object(session);
  test_threads(4, fork_often, NULL);
  CHECK_INT(lvr_repair(session), 20);
  CHECK_INT(object->object->ob_refs, 1);
  fixture_check(session);
}

TEST(a_fork_is_a_process_of_each_session) {
  begin();
  lvr_session *other = fixture_session(), *again;
  CHECK_INT(lvr_session_attach(lvr_session_fd(session), 0, &again), 0);
  pid_t pid = test_fork(rest, NULL);
  await(1);
  CHECK_INT(fixture_stats(other).slots_running, 2);
  CHECK_INT(fixture_stats(session).slots_running, 4);
  test_kill(pid);
  CHECK_INT(lvr_repair(session), 2);
  CHECK_INT(lvr_repair(other), 1);
}

/* --- embryos that nobody adopts -------------------------------------------------------------- */

static void prepare_and_die(void *unused) {
  lvr_ref ref;
  lvr_proc_id child = fixture_prepare(session);
  (void)unused;
  lvri_object_ref(object, &ref);
  CHECK_INT(lvr_proc_give(session, child, &ref), 0);
  CHECK_INT(lvri_proc_put_task(session, child, "abc", 3), 0);
  lvri_store_release_u64(&common->id, child);
}

TEST(embryos_die_with_their_parent) {
  begin();
  object = fixture_object(session);
  uint64_t blocks = fixture_stats(session).blocks;
  CHECK_INT(test_join(test_fork(prepare_and_die, NULL)), 0);
  lvr_proc_id child = lvri_load_acquire_u64(&common->id);
  CHECK_INT(object->object->ob_refs, 3);
  CHECK_INT(lvr_repair(session), 1);
  CHECK_INT(object->object->ob_refs, 1);
  CHECK_INT(fixture_stats(session).blocks, blocks);
  CHECK_INT(lvr_session_attach(lvr_session_fd(session), child, &(lvr_session *){NULL}), -ESRCH);
  fixture_check(session);
}

static void announce_zero(void *unused) {
  (void)unused;
  lvr_proc_announce(session, 0);
}

static void have_children_and_die(void *unused) {
  (void)unused;
  lvr_proc_id done = fixture_prepare(session), alive = fixture_prepare(session);
  int32_t status;
  CHECK_INT(test_join(bear(done, announce_zero)), 0);
  CHECK_INT(wait_for(done, &status), 0);
  (void)bear(alive, rest);
  await(1);
}

/* A watched child that is over goes with its parent, one that lives is watched no more. */
TEST(a_parents_death_unwatches_its_children) {
  begin();
  CHECK_INT(test_join(test_fork(have_children_and_die, NULL)), 0);
  CHECK_INT(fixture_stats(session).slots_kept, 1);
  CHECK_INT(lvr_repair(session), 1);
  CHECK_INT(fixture_stats(session).slots_kept, 0);
  CHECK_INT(fixture_stats(session).slots_running, 2);
  struct lvr_proc_info info;
  lvr_proc_id child = lvri_load_acquire_u64(&common->id);
  CHECK_INT(lvr_proc_info(session, child, &info), 0);
  CHECK_INT(info.flags, 0);
  CHECK_INT(kill(info.pid, SIGKILL), 0);
  int32_t status;
  int result = wait_for(child, &status);
  CHECK(result == -ENODATA || result == -ESRCH);
  CHECK_INT(lvr_proc_info(session, child, &info), -ESRCH);
  fixture_check(session);
}

/* --- adoption -------------------------------------------------------------------------------- */

static void race_for(void *unused) {
  lvr_session *s;
  (void)unused;
  CHECK_INT(lvr_session_map(lvr_session_fd(session), &s), 0);
  await(1);
  lvr_proc_id id = lvri_load_acquire_u64(&common->id);
  int error = lvr_proc_adopt(s, id);
  CHECK(error == 0 || error == -ESRCH);
  if (error == 0) {
    (void)lvri_fetch_add_acq_rel_u32(&common->count, 1);
    CHECK(lvr_proc_self(s) == id);
    lvr_proc_announce(s, 5);
  }
}

TEST(one_of_many_adopts) {
  begin();
  for (int round = 0; round < 10; round++) {
    pid_t pids[8];
    int32_t status;
    lvri_store_release_u32(&common->step, 0);
    lvri_store_release_u32(&common->count, 0);
    lvri_store_release_u64(&common->id, fixture_prepare(session));
    for (int i = 0; i < 8; i++) {
      CHECK_INT(lvr_proc_fork_next(session, LVR_PROC_NOBODY), 0);
      pids[i] = test_fork(race_for, NULL);
    }
    reach(1);
    CHECK_INT(wait_for(lvri_load_acquire_u64(&common->id), &status), 0);
    CHECK_INT(status, 5);
    for (int i = 0; i < 8; i++)
      CHECK_INT(test_join(pids[i]), 0);
    CHECK_INT(lvri_load_acquire_u32(&common->count), 1);
    CHECK_INT(lvr_proc_forget(session, lvri_load_acquire_u64(&common->id)), 0);
  }
  fixture_check(session);
}

static void die_before_the_commit(void *unused) {
  lvr_session *s;
  (void)unused;
  CHECK_INT(lvr_session_map(lvr_session_fd(session), &s), 0);
  lvri_crashpoint_arm(LVRI_CRASH_KILL, "guard.commit.before", 1);
  CHECK_INT(lvr_proc_adopt(s, lvri_load_acquire_u64(&common->id)), 0);
}

/* Its slot looks as if it were born, until somebody enters the guard and takes that back. */
TEST(who_dies_within_an_adoption_was_not_born) {
  begin();
  lvr_proc_id child = fixture_prepare(session);
  lvri_store_release_u64(&common->id, child);
  CHECK_INT(lvr_proc_fork_next(session, LVR_PROC_NOBODY), 0);
  pid_t pid = test_fork(die_before_the_commit, NULL);
  CHECK_INT(test_join(pid), -SIGKILL);
  const struct lvri_slot *slot = lvri_slot_of(&session->arena, child);
  CHECK_INT(lvri_load_relaxed_u32(&slot->sl_pid), pid);
  CHECK_INT(lvr_proc_wait_born_until(session, child, lvri_os_now_ns(), &(int32_t){0}), -ETIMEDOUT);
  CHECK_INT(lvri_load_relaxed_u32(&slot->sl_state), LVRI_SLOT_EMBRYO);
  CHECK_INT(lvr_proc_withdraw(session, child), 0);
  fixture_check(session);
}

TEST(adoption_against_withdrawal) {
  begin();
  for (int round = 0; round < 20; round++) {
    lvri_store_release_u32(&common->step, 0);
    lvri_store_release_u32(&common->count, 0);
    lvr_proc_id id = fixture_prepare(session);
    lvri_store_release_u64(&common->id, id);
    CHECK_INT(lvr_proc_fork_next(session, LVR_PROC_NOBODY), 0);
    pid_t pid = test_fork(race_for, NULL);
    reach(1);
    int error = lvr_proc_withdraw(session, id);
    CHECK_INT(test_join(pid), 0);
    CHECK_INT(error, lvri_load_acquire_u32(&common->count) ? -EBUSY : 0);
    if (error) CHECK_INT(lvr_proc_forget(session, id), 0);
    CHECK_INT(lvr_repair(session), 0);
  }
  CHECK_INT(fixture_stats(session).slots_kept, 0);
  fixture_check(session);
}

/* What a spare has of its zygote: one handle that is given to it as well, and one that is not. */
static void adopt_with_handles(void *second) {
  struct lvri_handle *other = second;
  CHECK(!lvri_handle_entry(object));
  CHECK_INT(lvr_proc_adopt(session, lvri_load_acquire_u64(&common->id)), 0);
  CHECK_INT(object->object->ob_refs, 2);
  CHECK_INT(other->object->ob_refs, 2);
  CHECK(lvri_handle_entry(object)->le_object == object->off);
  CHECK(lvri_handle_entry(other)->le_object == other->off);
  CHECK_INT(lvr_session_check(session), 0);
  lvri_object_detach(object);
  lvri_object_detach(other);
  CHECK_INT(fixture_stats(session).objects, 2);
}

TEST(handles_come_along_when_a_fork_adopts) {
  begin();
  object = fixture_object(session);
  struct lvri_handle *other = fixture_object(session);
  lvr_ref ref;
  lvri_object_ref(object, &ref);
  lvri_store_release_u64(&common->id, fixture_prepare(session));
  CHECK_INT(lvr_proc_give(session, lvri_load_acquire_u64(&common->id), &ref), 0);
  CHECK_INT(lvr_proc_fork_next(session, LVR_PROC_NOBODY), 0);
  CHECK_INT(test_join(test_fork(adopt_with_handles, other)), 0);
  CHECK_INT(lvr_repair(session), 1);
  CHECK_INT(object->object->ob_refs, 1);
  CHECK_INT(other->object->ob_refs, 1);
  fixture_check(session);
}

static void adopt_after_the_end(void *unused) {
  (void)unused;
  await(1); /* our parent has dropped the object, and made another in its place */
  CHECK_INT(lvr_proc_adopt(session, lvri_load_acquire_u64(&common->id)), 0);
  CHECK(!lvri_handle_entry(object));
  lvri_object_detach(object);
  CHECK_INT(lvr_session_check(session), 0);
}

TEST(a_handle_whose_object_is_gone_does_not_come_along) {
  begin();
  object = fixture_object(session);
  lvri_store_release_u64(&common->id, fixture_prepare(session));
  CHECK_INT(lvr_proc_fork_next(session, LVR_PROC_NOBODY), 0);
  pid_t pid = test_fork(adopt_after_the_end, NULL);
  lvri_object_detach(object);
  object = fixture_object(session);
  reach(1);
  CHECK_INT(test_join(pid), 0);
  CHECK_INT(lvr_repair(session), 1);
  CHECK_INT(object->object->ob_refs, 1);
  fixture_check(session);
}

/* --- gifts and payloads ---------------------------------------------------------------------- */

static void check_gift(lvr_session *s) {
  lvr_ref ref;
  struct lvri_handle *h;
  lvri_object_ref(object, &ref);
  lvr_session_uuid(s, ref.session);
  CHECK_INT(lvri_object_attach(s, &ref, LVRI_KIND_TEST, &h), 0);
  CHECK_INT(h->object->ob_refs, 2);
  lvri_object_detach(h);
  CHECK_INT(h == object ? 1 : object->object->ob_refs, 1);
}

static void unpack_gift(void *unused) {
  lvr_session *s;
  const void *bytes;
  size_t len;
  lvr_proc_id id = lvri_load_acquire_u64(&common->id);
  (void)unused;
  CHECK_INT(lvr_session_attach(lvr_session_fd(session), id, &s), 0);
  CHECK_INT(object->object->ob_refs, 2);
  check_gift(s);
  CHECK_INT(lvri_proc_get_task(s, id, &bytes, &len), 0);
  CHECK(len == 5 && memcmp(bytes, "hello", 5) == 0);
  lvri_proc_drop_task(s, id);
  CHECK_INT(lvri_proc_get_task(s, id, &bytes, &len), -ENOENT);
  lvr_proc_announce(s, 0);
}

TEST(a_gift_is_the_childs_from_birth) {
  begin();
  object = fixture_object(session);
  lvr_ref ref, bad;
  int32_t status;
  lvr_proc_id child = fixture_prepare(session);
  uint64_t blocks = fixture_stats(session).blocks;
  lvri_object_ref(object, &ref);
  lvri_store_release_u64(&common->id, child);
  CHECK_INT(lvr_proc_give(session, child, &ref), 0);
  CHECK_INT(lvr_proc_give(session, child, &ref), 0); /* twice is once, when it is born */
  bad = ref, bad.serial++;
  CHECK_INT(lvr_proc_give(session, child, &bad), -ESTALE);
  CHECK_INT(lvr_proc_give(session, child + 1, &ref), -ESRCH);
  CHECK_INT(lvri_proc_put_task(session, child, "hello", 5), 0);
  CHECK_INT(lvri_proc_put_task(session, child, "hello", 5), -EBUSY);
  fixture_check(session);
  CHECK_INT(lvr_proc_fork_next(session, LVR_PROC_NOBODY), 0);
  CHECK_INT(test_join(test_fork(unpack_gift, NULL)), 0);
  CHECK_INT(wait_for(child, &status), 0);
  CHECK_INT(lvr_proc_give(session, child, &ref), -EBUSY);
  CHECK_INT(object->object->ob_refs, 1);
  CHECK_INT(fixture_stats(session).blocks, blocks);
  fixture_check(session);
}

static void keep_gift(void *unused) {
  (void)unused;
  lvr_ref ref;
  struct lvri_handle *h;
  await(1); /* the parent has taken its loan back */
  memcpy(&ref, common + 1, sizeof(ref));
  CHECK_INT(lvri_object_attach(session, &ref, LVRI_KIND_TEST, &h), 0);
  CHECK_INT(h->object->ob_refs, 1);
  lvri_object_detach(h);
  CHECK_INT(lvri_object_attach(session, &ref, LVRI_KIND_TEST, &h), -ESTALE);
}

/* The parent gives away what it has no handle of any more. */
TEST(a_gift_to_a_forked_child) {
  session = fixture_session();
  common = test_shared(sizeof(*common) + sizeof(lvr_ref));
  struct lvri_handle *kept = fixture_object(session), *given = fixture_object(session);
  lvr_ref ref;
  lvr_proc_id child = fixture_prepare(session);
  lvri_object_ref(kept, &ref);
  CHECK_INT(lvr_proc_give(session, child, &ref), 0);
  lvri_object_ref(given, &ref);
  memcpy(common + 1, &ref, sizeof(ref));
  CHECK_INT(lvr_proc_give(session, child, &ref), 0);
  lvri_object_detach(given);
  CHECK_INT(fixture_stats(session).objects, 2);
  pid_t pid = bear(child, keep_gift);
  reach(1);
  CHECK_INT(test_join(pid), 0);
  CHECK_INT(fixture_stats(session).objects, 1);
  CHECK_INT(lvr_repair(session), 1);
  CHECK_INT(kept->object->ob_refs, 1);
  fixture_check(session);
}

/* --- other ways to go ------------------------------------------------------------------------ */

static void become_sleep(void *unused) {
  (void)unused;
  lvri_store_release_u64(&common->id, lvr_proc_self(session));
  CHECK_INT(execl("/bin/sleep", "sleep", "60", (char *)NULL), 0);
}

TEST(who_execs_is_over) {
  begin();
  int32_t status;
  lvr_proc_id child = fixture_prepare(session);
  pid_t pid = bear(child, become_sleep);
  CHECK_INT(wait_for(child, &status), -ENODATA);
  CHECK_INT(kill(pid, 0), 0);
  CHECK(!lvr_proc_is_alive(session, child));
  test_kill(pid);
  CHECK_INT(lvr_proc_set_status(session, child, -SIGKILL), 0);
  CHECK_INT(wait_for(child, &status), 0);
  CHECK_INT(lvr_proc_forget(session, child), 0);
  fixture_check(session);
}

/* The word is held by this thread, not by the main thread: the kernel does not mark it at exec. */
static void *exec_in_thread(void *unused) {
  lvr_session *s;
  (void)unused;
  CHECK_INT(lvr_session_map(lvr_session_fd(session), &s), 0);
  CHECK_INT(lvr_proc_adopt(s, lvri_load_acquire_u64(&common->id)), 0);
  CHECK_INT(execl("/bin/sleep", "sleep", "60", (char *)NULL), 0);
  return NULL;
}

static void start_exec_thread(void *unused) {
  pthread_t thread;
  (void)unused;
  CHECK_INT(pthread_create(&thread, NULL, exec_in_thread, NULL), 0);
  for (;;)
    (void)pause();
}

TEST(who_execs_in_a_thread_is_noticed_at_the_second_look) {
  begin();
  int32_t status, born;
  lvr_proc_id child = fixture_prepare(session);
  lvri_store_release_u64(&common->id, child);
  CHECK_INT(lvr_proc_fork_next(session, LVR_PROC_NOBODY), 0);
  pid_t pid = test_fork(start_exec_thread, NULL);
  CHECK_INT(lvr_proc_wait_born_until(session, child, SOON, &born), 0);
  CHECK_INT(born, pid);
  CHECK_INT(wait_for(child, &status), -ENODATA);
  CHECK_INT(kill(pid, 0), 0);
  test_kill(pid);
  CHECK_INT(lvr_proc_forget(session, child), 0);
  CHECK_INT(fixture_stats(session).slots_kept + fixture_stats(session).slots_over, 0);
  fixture_check(session);
}

/* As if the process had gone unmarked and another had its pid: it began too late to be the one. */
TEST(a_pid_that_was_given_away_is_noticed) {
  begin();
  lvr_proc_id child = fixture_prepare(session);
  pid_t pid = bear(child, rest);
  await(1);
  struct lvri_slot *slot = lvri_slot_of(&session->arena, child);
  CHECK(lvri_slot_alive_thoroughly(&session->arena, child));
  slot->sl_born_ticks = 1;
  CHECK(lvr_proc_is_alive(session, child));
  CHECK_INT(lvr_repair(session), 1);
  CHECK(!lvr_proc_is_alive(session, child));
  test_kill(pid);
  CHECK_INT(lvr_proc_forget(session, child), 0);
  fixture_check(session);
}

static void die_with_id(void *unused) {
  (void)unused;
  lvr_proc_id other = lvri_load_acquire_u64(&common->id);
  CHECK_INT(lvr_proc_die_with(session, other), 0);
  CHECK_INT(lvr_proc_die_with(session, other), 0);
  CHECK_INT(lvr_proc_die_with(session, lvr_proc_self(session)), -EBUSY);
  reach(2);
  for (;;)
    (void)pause();
}

TEST(dying_together) {
  begin();
  lvr_proc_id first = fixture_prepare(session);
  pid_t pid = bear(first, rest), others[10];
  await(1);
  for (int i = 0; i < 10; i++) {
    lvri_store_release_u32(&common->step, 1);
    others[i] = test_fork(die_with_id, NULL);
    await(2);
  }
  test_kill(pid);
  for (int i = 0; i < 10; i++)
    CHECK_INT(test_join(others[i]), -SIGKILL);
  CHECK_INT(test_join(test_fork(die_with_id, NULL)), -SIGKILL); /* at once */
  CHECK_INT(lvr_repair(session), 12);
  CHECK_INT(lvr_proc_die_with(session, 0), -ESRCH);
}

TEST(a_bond_ends_with_its_session) {
  begin();
  lvr_session *t;
  CHECK_INT(lvr_session_attach(lvr_session_fd(session), 0, &t), 0);
  CHECK_INT(lvr_proc_die_with(t, lvr_proc_self(session)), 0);
  lvr_session_detach(t);
  fixture_check(session);
}

/* --- many ------------------------------------------------------------------------------------ */

static void end_at_once(void *unused) { (void)unused; }

TEST(slots_are_used_again) {
  session = fixture_small_session(8);
  common = test_shared(sizeof(*common));
  object = fixture_object(session);
  for (int i = 0; i < 200; i++)
    CHECK_INT(test_join(test_fork(end_at_once, NULL)), 0);
  CHECK(lvr_repair(session) >= 0);
  struct lvr_session_stats stats = fixture_stats(session);
  CHECK_INT(stats.slots_free, 7);
  CHECK_INT(stats.slots_running, 1);
  CHECK_INT(object->object->ob_refs, 1);
  fixture_check(session);
}

static void storm(void *unused) {
  (void)unused;
  for (int i = 0; i < 10; i++) {
    lvr_proc_id child = fixture_prepare(session);
    int32_t status;
    pid_t pid = bear(child, announce_seven);
    CHECK_INT(wait_for(child, &status), 0);
    CHECK_INT(status, 7);
    CHECK_INT(lvr_proc_forget(session, child), 0);
    CHECK_INT(test_join(pid), 0);
  }
}

TEST(many_fathers) {
  begin();
  pid_t pids[6];
  object = fixture_object(session);
  for (int i = 0; i < 6; i++)
    pids[i] = test_fork(storm, NULL);
  for (int i = 0; i < 6; i++)
    CHECK_INT(test_join(pids[i]), 0);
  CHECK(lvr_repair(session) >= 0);
  CHECK_INT(fixture_stats(session).slots_running, 1);
  CHECK_INT(fixture_stats(session).slots_kept + fixture_stats(session).slots_over, 0);
  CHECK_INT(object->object->ob_refs, 1);
  fixture_check(session);
}
