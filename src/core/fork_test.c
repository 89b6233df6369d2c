/* Forks that fail, and forked children that have not come to their first instruction. */
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/process.h"
#include "core/slots.h"
#include "os/os.h"
#include "testing/fixture.h"
#include "testing/test.h"

#define SOON (lvri_os_now_ns() + INT64_C(10000000000))

static lvr_session *session;
static _Atomic uint32_t *stop; /* shared with children: stop at once */

static void begin(void) {
  session = fixture_session();
  stop = test_shared(sizeof(*stop));
}

static void age(lvr_proc_id id) {
  struct lvri_slot *slot = lvri_slot_of(&session->arena, id);
  slot->sl_prepared_ns -= 2 * (uint64_t)LVRI_EMBRYO_AGE_NS;
}

static lvr_proc_id first_embryo(void) {
  for (uint32_t i = 1; i <= lvri_slots_of(&session->arena)->st_count; i++) {
    struct lvri_slot *slot = lvri_slot_at(&session->arena, i);
    if (lvri_load_relaxed_u32(&slot->sl_state) == LVRI_SLOT_EMBRYO)
      return lvri_load_relaxed_u64(&slot->sl_id);
  }
  return 0;
}

TEST(a_failed_fork_leaves_an_embryo_that_ages) {
  begin();
  struct lvri_handle *object = fixture_object(session);
  struct rlimit none = {.rlim_cur = 0, .rlim_max = 0};
  if (getuid() == 0) CHECK_INT(setresuid(65534, 65534, 65534), 0);
  CHECK_INT(setrlimit(RLIMIT_NPROC, &none), 0);
  CHECK_INT(fork(), -1);
  CHECK_INT(fixture_stats(session).slots_embryo, 1);
  CHECK_INT(object->object->ob_refs, 2);
  CHECK_INT(lvr_repair(session), 0);
  age(first_embryo());
  CHECK_INT(lvr_repair(session), 1);
  CHECK_INT(fixture_stats(session).slots_embryo, 0);
  CHECK_INT(object->object->ob_refs, 1);
  fixture_check(session);
}

static void announce_seven(void *unused) {
  (void)unused;
  CHECK(lvr_proc_self(session) != 0);
  lvr_proc_announce(session, 7);
}

/* In a child, before the library knows of it. */
static void stop_if_told_to(void) {
  if (stop && lvri_load_acquire_u32(stop)) (void)raise(SIGSTOP);
}

/* A child whose fork has succeeded, and which has not come to its first instruction. */
static pid_t bear_stopped(lvr_proc_id id) {
  lvri_store_release_u32(stop, 1);
  CHECK_INT(lvr_proc_fork_next(session, id), 0);
  pid_t pid = test_fork(announce_seven, NULL);
  test_await_stop(pid);
  lvri_store_release_u32(stop, 0);
  return pid;
}

static void check_that_it_is_born(lvr_proc_id child, pid_t pid) {
  int32_t status;
  test_continue(pid);
  CHECK_INT(lvr_proc_wait_until(session, child, SOON, &status), 0);
  CHECK_INT(status, 7);
  CHECK_INT(test_join(pid), 0);
  CHECK_INT(lvr_proc_forget(session, child), 0);
}

TEST(an_embryos_age_counts_from_its_fork) {
  CHECK_INT(pthread_atfork(NULL, NULL, stop_if_told_to), 0);
  begin();
  lvr_proc_id child = fixture_prepare(session);
  age(child);
  pid_t pid = bear_stopped(child);
  CHECK_INT(lvr_repair(session), 0);
  check_that_it_is_born(child, pid);
  fixture_check(session);
}

TEST(an_embryo_waits_for_a_child_that_is_known_to_be_on_its_way) {
  CHECK_INT(pthread_atfork(NULL, NULL, stop_if_told_to), 0);
  begin();
  lvr_proc_id child = fixture_prepare(session);
  pid_t pid = bear_stopped(child);
  lvri_proc_forked(session, child, pid);
  age(child);
  CHECK_INT(lvr_repair(session), 0);
  check_that_it_is_born(child, pid);

  child = fixture_prepare(session);
  pid = bear_stopped(child);
  lvri_proc_forked(session, child, pid);
  test_kill(pid);
  CHECK_INT(lvr_repair(session), 0);
  age(child);
  CHECK_INT(lvr_repair(session), 1);
  fixture_check(session);
}
