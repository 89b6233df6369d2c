#include "os/os.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic.h"
#include "os/link.h"
#include "testing/test.h"

#define MS INT64_C(1000000)

/* --- clock ------------------------------------------------------------------------------------ */

TEST(sleeping_lasts_until_the_deadline) {
  int64_t deadline = lvri_os_now_ns() + 5 * MS;
  CHECK_INT(lvri_os_sleep_until(deadline), 0);
  CHECK(lvri_os_now_ns() >= deadline);
  CHECK_INT(lvri_os_sleep_until(0), 0);
  CHECK_INT(lvri_os_sleep_until(-1), 0);
}

/* --- futex ------------------------------------------------------------------------------------ */

struct word {
  _Atomic uint32_t value;
  _Atomic uint32_t other;
};

TEST(no_wait_on_another_value) {
  struct word *w = test_shared(sizeof(*w));
  CHECK_INT(lvri_os_futex_wait(&w->value, 1, LVRI_FOREVER), -EAGAIN);
  CHECK_INT(lvri_os_futex_wait2(&w->value, 1, &w->other, 0, LVRI_FOREVER), -EAGAIN);
  CHECK_INT(lvri_os_futex_wait2(&w->value, 0, &w->other, 1, LVRI_FOREVER), -EAGAIN);
}

TEST(a_wait_ends_at_its_deadline) {
  struct word *w = test_shared(sizeof(*w));
  const int64_t past[] = {INT64_MIN, -1, 0, 1};
  for (int i = 0; i < 4; i++) {
    CHECK_INT(lvri_os_futex_wait(&w->value, 0, past[i]), -ETIMEDOUT);
    CHECK_INT(lvri_os_futex_wait2(&w->value, 0, &w->other, 0, past[i]), -ETIMEDOUT);
  }
  int64_t deadline = lvri_os_now_ns() + 5 * MS;
  CHECK_INT(lvri_os_futex_wait(&w->value, 0, deadline), -ETIMEDOUT);
  CHECK(lvri_os_now_ns() >= deadline);
  deadline = lvri_os_now_ns() + 5 * MS;
  CHECK_INT(lvri_os_futex_wait2(&w->value, 0, &w->other, 0, deadline), -ETIMEDOUT);
  CHECK(lvri_os_now_ns() >= deadline);
}

static void wait_one(void *word) {
  struct word *w = word;
  while (lvri_load_acquire_u32(&w->value) == 0)
    (void)lvri_os_futex_wait(&w->value, 0, LVRI_FOREVER);
}

static void wait_two(void *word) {
  struct word *w = word;
  while (lvri_load_acquire_u32(&w->value) == 0 && lvri_load_acquire_u32(&w->other) == 0)
    (void)lvri_os_futex_wait2(&w->value, 0, &w->other, 0, LVRI_FOREVER);
}

/* Wakes until someone was there to be woken. */
static void wake_one(_Atomic uint32_t *word) {
  while (lvri_os_futex_wake(word, 1) == 0)
    lvri_os_yield();
}

TEST(a_wake_crosses_processes_and_mappings) {
  int fd = -1;
  void *here = NULL, *there = NULL;
  uint64_t bytes;
  CHECK_INT(lvri_os_shm_create(&fd), 0);
  CHECK_INT(lvri_os_shm_commit(fd, 0, 4096), 0);
  CHECK_INT(lvri_os_shm_reserve(fd, 4096, 4096, &here, &bytes), 0);
  CHECK_INT(lvri_os_shm_reserve(fd, 4096, 4096, &there, &bytes), 0);
  pid_t pid = test_fork(wait_one, here);
  struct word *w = there;
  wake_one(&w->value);
  lvri_store_release_u32(&w->value, 1);
  (void)lvri_os_futex_wake(&w->value, 1);
  CHECK_INT(test_join(pid), 0);
}

TEST(either_of_two_words_wakes) {
  struct word *w = test_shared(2 * sizeof(*w));
  if (!lvri_os_futex_has_wait2()) SKIP("this kernel cannot wait on two words");
  for (int i = 0; i < 2; i++) {
    _Atomic uint32_t *word = i ? &w[i].other : &w[i].value;
    pid_t pid = test_fork(wait_two, &w[i]);
    wake_one(word);
    lvri_store_release_u32(word, 1);
    (void)lvri_os_futex_wake(word, 1);
    CHECK_INT(test_join(pid), 0);
  }
}

static void on_signal(int signo) { (void)signo; }

static void wait_for_signal(void *word) {
  struct word *w = word;
  struct sigaction action = {.sa_handler = on_signal};
  CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
  lvri_store_release_u32(&w->other, 1);
  CHECK_INT(lvri_os_futex_wait(&w->value, 0, LVRI_FOREVER), -EINTR);
  CHECK_INT(lvri_os_futex_wait2(&w->value, 0, &w->other, 1, LVRI_FOREVER), -EINTR);
  lvri_store_release_u32(&w->value, 1);
}

TEST(a_signal_interrupts) {
  struct word *w = test_shared(sizeof(*w));
  if (!lvri_os_futex_has_wait2()) SKIP("this kernel cannot wait on two words");
  pid_t pid = test_fork(wait_for_signal, w);
  while (!lvri_load_acquire_u32(&w->other))
    lvri_os_yield();
  while (!lvri_load_acquire_u32(&w->value)) { /* may come too early, so again */
    CHECK_INT(lvri_os_signal(pid, SIGUSR1), 0);
    lvri_os_yield();
  }
  CHECK_INT(test_join(pid), 0);
}

/* --- shared memory ---------------------------------------------------------------------------- */

static int new_file(void) {
  int fd = -1;
  CHECK_INT(lvri_os_shm_create(&fd), 0);
  return fd;
}

static uint64_t size_of(int fd) {
  uint64_t bytes = 0;
  CHECK_INT(lvri_os_shm_size(fd, &bytes), 0);
  return bytes;
}

static uint64_t used_of(int fd) {
  uint64_t bytes = 0;
  CHECK_INT(lvri_os_shm_used(fd, &bytes), 0);
  return bytes;
}

TEST(ignored_signals_are_known) {
  struct sigaction ignore = {.sa_handler = SIG_IGN}, handle = {.sa_handler = on_signal}, was;
  uint64_t bit = LVRI_SIGNAL_BIT(SIGUSR2);

  CHECK(sigaction(SIGUSR2, &ignore, &was) == 0);
  CHECK((lvri_os_signals_ignored() & bit) != 0);
  CHECK(sigaction(SIGUSR2, &handle, NULL) == 0);
  CHECK((lvri_os_signals_ignored() & bit) == 0);
  CHECK(sigaction(SIGUSR2, &was, NULL) == 0);
}

TEST(the_file_is_private_and_cannot_shrink) {
  int fd = new_file();
  CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
  CHECK_INT(lvri_os_shm_extend(fd, 8192), 0);
  CHECK_INT(lvri_os_shm_extend(fd, 4096), 0);
  CHECK_INT(size_of(fd), 8192);
  CHECK(ftruncate(fd, 0) < 0 && errno == EPERM);
}

TEST(the_file_is_never_a_standard_stream) {
  (void)close(0);
  int fd = new_file();
  CHECK(fd > 2 && fcntl(0, F_GETFD) < 0);
}

TEST(memory_comes_and_goes) {
  int fd = new_file();
  void *base = NULL;
  uint64_t bytes = 0;
  CHECK_INT(lvri_os_shm_extend(fd, 1 << 20), 0);
  CHECK_INT(used_of(fd), 0);
  CHECK_INT(lvri_os_shm_commit(fd, 4096, 65536), 0);
  CHECK_INT(used_of(fd), 61440);
  CHECK_INT(size_of(fd), 1 << 20);
  CHECK_INT(lvri_os_shm_reserve(fd, 1 << 20, 4096, &base, &bytes), 0);
  ((char *)base)[8192] = 'x';
  CHECK_INT(lvri_os_shm_commit(fd, 4096, 65536), 0);
  CHECK(((char *)base)[8192] == 'x');
  CHECK_INT(lvri_os_shm_punch(fd, 4096, 61440), 0);
  CHECK(used_of(fd) == 0 && ((char *)base)[8192] == 0);
  CHECK_INT(lvri_os_shm_commit(fd, 1 << 20, 2 << 20), 0);
  CHECK_INT(size_of(fd), 2 << 20);
  lvri_os_shm_unmap(base, bytes);
}

TEST(reading_past_the_end_is_a_code) {
  int fd = new_file();
  char text[8] = "";
  CHECK_INT(lvri_os_shm_extend(fd, 4096), 0);
  CHECK_INT(lvri_os_shm_read(fd, 4088, text, 8), 0);
  CHECK_INT(lvri_os_shm_read(fd, 4089, text, 8), -ENODATA);
  CHECK_INT(lvri_os_shm_read(-1, 0, text, 8), -EBADF);
}

TEST(bad_descriptors_are_codes) {
  uint64_t bytes;
  void *base = NULL;
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  CHECK_INT(lvri_os_shm_size(-1, &bytes), -EBADF);
  CHECK_INT(lvri_os_shm_size(null, &bytes), -ENODEV);
  CHECK_INT(lvri_os_shm_extend(-1, 1), -EBADF);
  CHECK_INT(lvri_os_shm_commit(-1, 0, 1), -EBADF);
  CHECK_INT(lvri_os_shm_punch(-1, 0, 1), -EBADF);
  CHECK_INT(lvri_os_shm_reserve(-1, 4096, 4096, &base, &bytes), -EBADF);
  CHECK_INT(lvri_os_shm_reserve(null, 4096, 4096, &base, &bytes), -ENODEV);
  CHECK_INT(lvri_os_dup(-1), -EBADF);
  CHECK(base == NULL);
}

TEST(a_limit_on_file_size_kills_nobody) {
  int fd = new_file();
  struct rlimit limit = {1 << 20, 1 << 20};
  CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  CHECK_INT(lvri_os_shm_extend(fd, (1 << 20) + 1), -ENOMEM);
  CHECK_INT(lvri_os_shm_commit(fd, 0, (1 << 20) + 1), -ENOMEM);
  CHECK_INT(lvri_os_shm_extend(fd, 1 << 20), 0);
  CHECK_INT(size_of(fd), 1 << 20);
}

/* --- processes -------------------------------------------------------------------------------- */

static void wait_for_end(void *unused) {
  (void)unused;
  for (;;)
    (void)pause();
}

TEST(a_process_is_known_by_its_start) {
  uint64_t mine = 0, its = 0;
  char state = 0;
  CHECK_INT(lvri_os_process_start(lvri_os_pid(), &mine, &state), 0);
  CHECK(mine > 0 && state == 'R');
  pid_t pid = test_fork(wait_for_end, NULL);
  CHECK_INT(lvri_os_process_start(pid, &its, &state), 0);
  CHECK(its >= mine);
  CHECK(lvri_os_thread_exists(pid));
  CHECK(kill(pid, SIGKILL) == 0);
  siginfo_t info;
  CHECK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0);
  CHECK_INT(lvri_os_process_start(pid, &its, &state), 0);
  CHECK(state == 'Z' && !lvri_os_thread_exists(pid));
  CHECK_INT(test_join(pid), -SIGKILL);
  CHECK_INT(lvri_os_process_start(pid, &its, &state), -ESRCH);
}

TEST(a_name_may_hold_brackets_and_blanks) {
  uint64_t before = 0, after = 0;
  char state;
  CHECK_INT(lvri_os_process_start(lvri_os_pid(), &before, &state), 0);
  CHECK(prctl(PR_SET_NAME, "a) Z (b) 1 2") == 0);
  CHECK_INT(lvri_os_process_start(lvri_os_pid(), &after, &state), 0);
  CHECK(before == after && state == 'R');
}

TEST(pidfds_signal_and_refuse) {
  pid_t pid = test_fork(wait_for_end, NULL);
  int fd = lvri_os_pidfd_open(pid);
  CHECK(fd >= 0 && fcntl(fd, F_GETFD) & FD_CLOEXEC);
  CHECK_INT(lvri_os_pidfd_signal(fd, 0), 0);
  CHECK_INT(lvri_os_pidfd_signal(fd, SIGTERM), 0);
  CHECK_INT(test_join(pid), -SIGTERM);
  CHECK_INT(lvri_os_pidfd_signal(fd, 0), -ESRCH);
  CHECK_INT(lvri_os_pidfd_open(pid), -ESRCH);
}

static void die_with_maker(void *shared) {
  struct word *w = shared;
  CHECK_INT(lvri_os_die_with_parent(SIGKILL), 0);
  lvri_store_release_u32(&w->value, (uint32_t)lvri_os_pid());
  wait_for_end(NULL);
}

static void make_and_end(void *shared) {
  struct word *w = shared;
  (void)test_fork(die_with_maker, shared);
  while (!lvri_load_acquire_u32(&w->value))
    lvri_os_yield();
}

TEST(a_child_dies_with_its_maker) {
  struct word *w = test_shared(sizeof(*w));
  CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
  CHECK_INT(test_join(test_fork(make_and_end, w)), 0);
  CHECK_INT(test_join((pid_t)lvri_load_acquire_u32(&w->value)), -SIGKILL);
}

TEST(processors_are_those_we_may_use) {
  cpu_set_t one;
  CHECK(lvri_os_cpu_count() >= 1);
  CPU_ZERO(&one);
  CPU_SET((size_t)sched_getcpu(), &one);
  CHECK(sched_setaffinity(0, sizeof(one), &one) == 0);
  CHECK_INT(lvri_os_cpu_count(), 1);
  CHECK(CPU_ISSET((size_t)lvri_os_cpu(), &one));
}

TEST(random_bytes_differ) {
  unsigned char a[16] = {0}, b[16] = {0};
  CHECK_INT(lvri_os_random(a, sizeof(a)), 0);
  CHECK_INT(lvri_os_random(b, sizeof(b)), 0);
  CHECK(memcmp(a, b, sizeof(a)) != 0);
}
