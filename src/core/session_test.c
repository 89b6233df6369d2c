#include "core/session.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/object.h"
#include "core/slots.h"
#include "leveret/process.h"
#include "os/os.h"
#include "testing/fixture.h"
#include "testing/test.h"

TEST(starts_with_one_process) {
  lvr_session *s = fixture_session();
  struct lvr_session_stats stats;
  CHECK_INT(lvr_session_stats(s, &stats), 0);
  CHECK_INT(stats.slots_running, 1);
  CHECK_INT(stats.objects, 0);
  CHECK_INT(stats.handles, 0);
  CHECK(stats.blocks >= 2 && stats.committed_bytes > 0);
  CHECK(lvr_proc_self(s) != 0);
  CHECK(lvr_proc_is_alive(s, lvr_proc_self(s)));
  CHECK_INT(lvr_session_check(s), 0);
  int fds = test_count_fds();
  lvr_session_detach(s);
  CHECK_INT(test_count_fds(), fds - 1);
}

TEST(second_mapping_is_a_process_of_its_own) {
  lvr_session *s = fixture_session(), *t;
  CHECK_INT(lvr_session_attach(lvr_session_fd(s), 0, &t), 0);
  CHECK(lvr_proc_self(s) != lvr_proc_self(t));
  CHECK(lvr_proc_is_alive(s, lvr_proc_self(t)));
  CHECK_INT(fixture_stats(s).slots_running, 2);
  lvr_proc_id gone = lvr_proc_self(t);
  uint64_t blocks = fixture_stats(s).blocks;
  struct lvri_handle *h = fixture_object(t);
  lvri_object_detach(h);
  lvr_session_detach(t);
  CHECK(!lvr_proc_is_alive(s, gone));
  CHECK_INT(fixture_stats(s).slots_running, 1);
  CHECK_INT(fixture_stats(s).slots_kept + fixture_stats(s).slots_over, 0);
  CHECK_INT(fixture_stats(s).blocks, blocks);
  fixture_check(s);
}

TEST(detaching_gives_back_what_is_left) {
  lvr_session *s = fixture_session(), *t;
  CHECK_INT(lvr_session_attach(lvr_session_fd(s), 0, &t), 0);
  uint64_t blocks = fixture_stats(s).blocks;
  for (int i = 0; i < 100; i++)
    (void)fixture_object(t);
  CHECK_INT(fixture_stats(s).objects, 100);
  lvr_session_detach(t);
  CHECK_INT(fixture_stats(s).objects, 0);
  CHECK_INT(fixture_stats(s).blocks, blocks);
}

TEST(two_sessions_do_not_mix) {
  lvr_session *s = fixture_session(), *t = fixture_session();
  struct lvri_handle *h = fixture_object(s), *k;
  uint8_t one[16], other[16];
  lvr_ref ref;
  lvr_session_uuid(s, one);
  lvr_session_uuid(t, other);
  CHECK(memcmp(one, other, 16) != 0);
  lvri_object_ref(h, &ref);
  CHECK_INT(lvri_object_attach(t, &ref, LVRI_KIND_TEST, &k), -EXDEV);
  CHECK_INT(lvr_object_unsend(t, &ref), -EXDEV);
}

TEST(foreign_descriptors_are_refused) {
  lvr_session *s;
  CHECK_INT(lvr_session_attach(-1, 0, &s), -EBADF);
  CHECK(lvr_session_attach(0, 0, &s) < 0);
  struct lvr_session_options many = {.max_processes = LVRI_SLOTS_MAX};
  CHECK_INT(lvr_session_create(&many, &s), -EINVAL);
}

TEST(a_mapping_is_nobody_until_it_adopts) {
  lvr_session *s = fixture_session(), *t;
  struct lvri_handle *h;
  struct lvr_session_stats stats;
  lvr_proc_id child, other;
  lvr_ref none = {.kind = LVRI_KIND_TEST};
  CHECK_INT(lvr_session_map(lvr_session_fd(s), &t), 0);
  CHECK_INT(lvr_proc_self(t), 0);
  lvr_session_uuid(t, none.session);
  CHECK_INT(lvri_object_create(t, LVRI_KIND_TEST, 64, &h), -ESTALE);
  CHECK_INT(lvri_object_attach(t, &none, LVRI_KIND_TEST, &h), -ESTALE);
  CHECK_INT(lvr_object_unsend(t, &none), -ESTALE);
  CHECK_INT(lvr_session_stats(t, &stats), -ESTALE);
  CHECK_INT(lvr_session_check(t), -ESTALE);
  CHECK_INT(lvr_proc_prepare(t, 0, &child), -ESTALE);
  CHECK_INT(lvr_proc_give(t, lvr_proc_self(s), &none), -ESTALE);
  CHECK_INT(lvr_proc_fork_next(t, 0), -ESTALE);
  CHECK_INT(lvr_proc_withdraw(t, lvr_proc_self(s)), -ESTALE);
  CHECK_INT(lvr_proc_set_status(t, lvr_proc_self(s), 0), -ESTALE);
  CHECK_INT(lvr_proc_forget(t, lvr_proc_self(s)), -ESTALE);
  CHECK_INT(lvr_proc_die_with(t, lvr_proc_self(s)), -ESTALE);
  CHECK_INT(lvr_repair(t), -ESTALE);
  CHECK_INT(lvr_proc_wait_until(t, lvr_proc_self(s), 0, &(int32_t){0}), -ESTALE);
  CHECK_INT(lvr_proc_wait_born_until(t, lvr_proc_self(s), 0, &(int32_t){0}), -ESTALE);
  lvr_proc_announce(t, 0);
  CHECK_INT(lvr_proc_prepare(s, 0, &child), 0);
  CHECK_INT(lvr_proc_adopt(t, child), 0);
  CHECK(lvr_proc_self(t) == child);
  CHECK_INT(lvr_proc_prepare(s, 0, &other), 0);
  CHECK_INT(lvr_proc_adopt(t, other), -EALREADY);
  if (!TEST_VALGRIND) /* which has no room for a third mapping of that size */
    CHECK_INT(lvr_session_attach(lvr_session_fd(s), child, &t), -ESRCH);
  fixture_check(s);
}

/* --- the thread that holds the alive word ---------------------------------------------------- */

static void *attach_and_end(void *argument) {
  lvr_session **at = argument;
  CHECK_INT(lvr_session_attach(lvr_session_fd(at[0]), 0, &at[1]), 0);
  CHECK(lvr_proc_is_alive(at[0], lvr_proc_self(at[1])));
  return NULL;
}

static void run_thread(void *(*body)(void *), void *argument) {
  pthread_t thread;
  CHECK_INT(pthread_create(&thread, NULL, body, argument), 0);
  CHECK_INT(pthread_join(thread, NULL), 0);
}

TEST(the_end_of_the_arming_thread_is_not_a_death) {
  lvr_session *at[2] = {fixture_session(), NULL};
  run_thread(attach_and_end, at);
  lvr_proc_id id = lvr_proc_self(at[1]);
  struct lvri_slot *slot = lvri_slot_of(&at[0]->arena, id);
  uint32_t expected;
  CHECK_INT(lvri_load_relaxed_u32(&slot->sl_ask), 1);
  CHECK(lvr_proc_is_alive(at[0], id));
  CHECK(lvri_slot_alive_word(&at[0]->arena, id, &expected) != NULL);
  CHECK_INT(lvr_repair(at[0]), 0);
  CHECK(lvri_slot_alive_thoroughly(&at[0]->arena, id));
  lvri_session_rearm(at[1]);
  CHECK_INT(lvri_load_relaxed_u32(&slot->sl_ask), 0);
  CHECK(lvri_load_relaxed_u32(lvri_mutex_word(&slot->sl_alive)) & LVRI_MUTEX_TID);
  CHECK(lvr_proc_is_alive(at[0], id));
  lvr_session_detach(at[1]);
  CHECK(!lvr_proc_is_alive(at[0], id));
  fixture_check(at[0]);
}

struct end_in_child {
  lvr_session *s;
  _Atomic uint32_t *ready, *go;
};

static void *outlive_main(void *argument) {
  struct end_in_child *e = argument;
  while (lvri_os_thread_exists(lvri_os_pid()))
    lvri_os_yield();
  lvri_store_release_u32(e->ready, 1);
  (void)lvri_os_futex_wake(e->ready, 1);
  while (!lvri_load_acquire_u32(e->go))
    (void)lvri_os_futex_wait(e->go, 0, INT64_MAX);
  _exit(0);
}

static void end_main_thread(void *argument) {
  pthread_t thread;
  CHECK_INT(pthread_create(&thread, NULL, outlive_main, argument), 0);
  pthread_exit(NULL);
}

TEST(a_process_whose_main_thread_has_ended_lives) {
  static struct end_in_child e; /* the stack of a thread that ends is overwritten */
  e.s = fixture_session();
  e.ready = test_shared(128);
  e.go = e.ready + 16;
  lvr_proc_id child = fixture_prepare(e.s);
  CHECK_INT(lvr_proc_fork_next(e.s, child), 0);
  pid_t pid = test_fork(end_main_thread, &e);
  while (!lvri_load_acquire_u32(e.ready))
    (void)lvri_os_futex_wait(e.ready, 0, INT64_MAX);
  CHECK(lvr_proc_is_alive(e.s, child));
  CHECK(lvri_slot_alive_thoroughly(&e.s->arena, child));
  CHECK_INT(lvr_repair(e.s), 0);
  lvri_store_release_u32(e.go, 1);
  (void)lvri_os_futex_wake(e.go, 1);
  CHECK_INT(test_join(pid), 0);
  CHECK(!lvr_proc_is_alive(e.s, child));
  CHECK_INT(lvr_repair(e.s), 1);
  fixture_check(e.s);
}

static void *detach_it(void *argument) {
  lvr_session_detach(argument);
  return NULL;
}

/* The mapping stays for the thread that still holds the alive word; the slot is freed after. */
TEST(detaching_in_another_thread) {
  lvr_session *s = fixture_session(), *t;
  CHECK_INT(lvr_session_attach(lvr_session_fd(s), 0, &t), 0);
  lvr_proc_id id = lvr_proc_self(t);
  run_thread(detach_it, t);
  CHECK(!lvr_proc_is_alive(s, id));
  CHECK_INT(fixture_stats(s).slots_running, 1);
  CHECK_INT(lvr_repair(s), 0);
  CHECK_INT(fixture_stats(s).slots_kept, 1); /* this thread holds its word still */
  fixture_check(s);
}

/* --- want ------------------------------------------------------------------------------------ */

TEST(want_of_descriptors_is_an_error) {
  struct rlimit none = {.rlim_cur = 3, .rlim_max = 3};
  lvr_session *s;
  if (TEST_VALGRIND) SKIP("valgrind has this limit to itself");
  CHECK_INT(setrlimit(RLIMIT_NOFILE, &none), 0);
  CHECK_INT(lvr_session_create(NULL, &s), -EMFILE);
}

TEST(want_of_address_space_is_an_error) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  SKIP("a sanitizer needs all the address space there is");
#endif
  struct rlimit some = {.rlim_cur = UINT64_C(256) << 20, .rlim_max = UINT64_C(256) << 20};
  lvr_session *s;
  CHECK_INT(setrlimit(RLIMIT_AS, &some), 0);
  int error = lvr_session_create(NULL, &s);
  if (error) {
    CHECK_INT(error, -ENOMEM);
    return;
  }
  fixture_check(s);
}

TEST(every_failing_call_is_survived) {
  for (uint64_t nth = 1;; nth++) {
    lvr_session *s = NULL, *t = NULL;
    int fds = test_count_fds();
    lvri_fault_arm(NULL, nth);
    int error = lvr_session_create(NULL, &s);
    if (!error) error = lvr_session_attach(lvr_session_fd(s), 0, &t);
    bool all = lvri_fault_hits() < nth;
    lvri_fault_arm(NULL, 0);
    test_context("fault %llu", (unsigned long long)nth);
    CHECK(all || error < 0 || nth > 1);
    if (s && t) fixture_check(s);
    lvr_session_detach(t);
    lvr_session_detach(s);
    CHECK_INT(test_count_fds(), fds);
    if (all) return;
  }
}
