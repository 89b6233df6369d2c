#include "core/mutex.h"

#include <errno.h>
#include <signal.h>
#include <sys/types.h>

#include "base/atomic.h"
#include "core/wait.h"
#include "os/os.h"
#include "testing/test.h"

static struct lvri_mutex *new_mutex(void) {
  struct lvri_mutex *m = test_shared(sizeof(*m));
  CHECK_INT(lvri_mutex_init(m), 0);
  return m;
}

/* What the layout assertions in mutex.c cannot see: that glibc uses this very word. */
TEST(the_word_holds_the_owners_thread) {
  struct lvri_mutex *m = new_mutex();
  CHECK_INT(lvri_load_relaxed_u32(lvri_mutex_word(m)), 0);
  CHECK_INT(lvri_mutex_lock(m), 0);
  CHECK_INT(lvri_load_relaxed_u32(lvri_mutex_word(m)) & LVRI_MUTEX_TID, lvri_os_tid());
  lvri_mutex_unlock(m);
  CHECK_INT(lvri_load_relaxed_u32(lvri_mutex_word(m)), 0);
}

static void lock_and_stay(void *m) {
  CHECK_INT(lvri_mutex_lock(m), 0);
  (void)raise(SIGSTOP);
}

TEST(the_kernel_marks_the_word_of_the_dead) {
  struct lvri_mutex *m = new_mutex();
  pid_t pid = test_fork(lock_and_stay, m);
  test_await_stop(pid);
  CHECK_INT(lvri_load_relaxed_u32(lvri_mutex_word(m)), pid);
  CHECK_INT(lvri_mutex_trylock(m), -EBUSY);
  test_kill(pid);
  CHECK_INT(lvri_load_relaxed_u32(lvri_mutex_word(m)), LVRI_MUTEX_OWNER_DIED);
}

static void lock_and_leave(void *m) {
  CHECK_INT(lvri_mutex_lock(m), 0);
  lvri_mutex_unlock(m);
}

/* A waiter was woken, somebody else took the mutex before him, and he was killed before he could
 * say that he, or anybody, waits: the word is without WAITERS, and the others still sleep. */
TEST(a_wakeup_that_died_is_made_up_for) {
  if (TEST_TSAN) SKIP("TSan does not know how we sleep");
  struct lvri_mutex *m = new_mutex();
  CHECK_INT(lvri_mutex_lock(m), 0);
  pid_t waiter = test_fork(lock_and_leave, m);
  uint32_t word = 0;
  while (!(word & LVRI_MUTEX_WAITERS)) {
    lvri_os_yield();
    word = lvri_load_relaxed_u32(lvri_mutex_word(m));
  }
  (void)lvri_os_sleep_until(lvri_os_now_ns() + LVRI_RELOOK_NS / 5); /* now he sleeps */
  CHECK(lvri_cas_acq_rel_u32(lvri_mutex_word(m), &word, word & ~LVRI_MUTEX_WAITERS));
  lvri_mutex_unlock(m);
  CHECK_INT(test_join(waiter), 0);
}

/* As a wait in the core does it: sets the WAITERS bit itself, so that the kernel wakes it. */
static void wait_for_death(void *m) {
  uint32_t word = lvri_load_relaxed_u32(lvri_mutex_word(m));
  CHECK(lvri_cas_acq_rel_u32(lvri_mutex_word(m), &word, word | LVRI_MUTEX_WAITERS));
  int error = lvri_os_futex_wait(lvri_mutex_word(m), word | LVRI_MUTEX_WAITERS, LVRI_FOREVER);
  CHECK(error == 0 || error == -EAGAIN);
  CHECK(lvri_load_relaxed_u32(lvri_mutex_word(m)) & LVRI_MUTEX_OWNER_DIED);
}

TEST(who_sleeps_on_the_word_wakes_at_the_death) {
  struct lvri_mutex *m = new_mutex();
  pid_t owner = test_fork(lock_and_stay, m);
  test_await_stop(owner);
  pid_t waiter = test_fork(wait_for_death, m);
  while (!(lvri_load_relaxed_u32(lvri_mutex_word(m)) & LVRI_MUTEX_WAITERS))
    lvri_os_yield();
  test_kill(owner);
  CHECK_INT(test_join(waiter), 0);
}

static void lock_and_die(void *m) {
  CHECK_INT(lvri_mutex_lock(m), 0);
  (void)raise(SIGKILL);
}

TEST(a_dead_owner_is_told_once) {
  struct lvri_mutex *m = new_mutex();
  test_expect_signal(SIGKILL, lock_and_die, m);
  CHECK_INT(lvri_mutex_lock(m), -EOWNERDEAD);
  lvri_mutex_consistent(m);
  lvri_mutex_unlock(m);
  CHECK_INT(lvri_mutex_lock(m), 0);
  lvri_mutex_unlock(m);
}

TEST(unrepaired_it_is_shut) {
  struct lvri_mutex *m = new_mutex();
  test_expect_signal(SIGKILL, lock_and_die, m);
  CHECK_INT(lvri_mutex_trylock(m), -EOWNERDEAD);
  lvri_mutex_unlock(m);
  for (int i = 0; i < 2; i++) {
    CHECK_INT(lvri_mutex_lock(m), -ENOTRECOVERABLE);
    CHECK_INT(lvri_mutex_trylock(m), -ENOTRECOVERABLE);
    CHECK_INT(lvri_load_relaxed_u32(lvri_mutex_word(m)), 0);
  }
  CHECK_INT(lvri_mutex_init(m), 0); /* dead memory may be made anew */
  CHECK_INT(lvri_mutex_lock(m), 0);
  lvri_mutex_unlock(m);
}

static void end_as_owner(void *m) { CHECK_INT(lvri_mutex_lock(m), 0); }

TEST(an_ordinary_end_is_a_death_too) {
  struct lvri_mutex *m = new_mutex();
  test_expect_signal(0, end_as_owner, m);
  CHECK_INT(lvri_mutex_lock(m), -EOWNERDEAD);
  lvri_mutex_unlock(m);
}

TEST(a_threads_end_is_a_death_too) {
  struct lvri_mutex *m = new_mutex();
  test_threads(1, end_as_owner, m);
  CHECK_INT(lvri_mutex_lock(m), -EOWNERDEAD);
  lvri_mutex_unlock(m);
}

/* --- ranks ---------------------------------------------------------------------------------- */

static void take_twice(void *unused) {
  (void)unused;
  lvri_rank_take(LVRI_RANK_STRIPE);
  lvri_rank_take(LVRI_RANK_STRIPE);
}

static void give_what_was_not_taken(void *unused) {
  (void)unused;
  lvri_rank_give(LVRI_RANK_ARENA);
}

TEST(ranks_are_taken_upwards) {
  for (int i = 0; i < 2; i++) {
    lvri_rank_take(LVRI_RANK_PRIVATE);
    lvri_rank_take(LVRI_RANK_STRIPE);
    lvri_rank_take(LVRI_RANK_ARENA);
    lvri_rank_give(LVRI_RANK_STRIPE);
    lvri_rank_give(LVRI_RANK_ARENA);
    lvri_rank_forget();
  }
  test_expect_signal(SIGABRT, take_twice, NULL);
  test_expect_signal(SIGABRT, give_what_was_not_taken, NULL);
}
