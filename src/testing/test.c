#include "testing/test.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STATUS_FAILED = 99, STATUS_SKIPPED = 77, THREADS_MAX = 64, ROUNDS_MAX = 99 };

static struct test_case *first_test;
static char context[160];

void test_register(struct test_case *test) {
  struct test_case **at = &first_test;
  while (*at)
    at = &(*at)->next;
  *at = test;
}

_Noreturn static void leave(int status) {
  (void)fflush(NULL);
  _exit(status);
}

_Noreturn void test_fail(const char *file, int line, const char *format, ...) {
  va_list arguments;

  (void)fprintf(stderr, "%s:%d: failed: ", file, line);
  va_start(arguments, format);
  (void)vfprintf(stderr, format, arguments);
  va_end(arguments);
  (void)fprintf(stderr, "%s%s\n", context[0] ? "; at " : "", context);
  leave(STATUS_FAILED);
}

_Noreturn void test_skip(const char *why) {
  (void)fprintf(stderr, "skipped: %s\n", why);
  leave(STATUS_SKIPPED);
}

void test_check_str(const char *file, int line, const char *what, const char *got,
                    const char *wanted) {
  if (strcmp(got, wanted) != 0)
    test_fail(file, line, "%s is \"%s\", not \"%s\"", what, got, wanted);
}

void test_context(const char *format, ...) {
  va_list arguments;

  va_start(arguments, format);
  (void)vsnprintf(context, sizeof(context), format, arguments);
  va_end(arguments);
}

/* --- children ---------------------------------------------------------------------------- */

static pid_t fork_or_fail(void) {
  (void)fflush(NULL);
  pid_t pid = fork();
  if (pid < 0) test_fail(__FILE__, __LINE__, "fork: %s", strerror(errno));
  return pid;
}

pid_t test_fork(void (*body)(void *argument), void *argument) {
  pid_t pid = fork_or_fail();
  if (pid > 0) return pid;
  body(argument);
  leave(0);
}

int test_join(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) test_fail(__FILE__, __LINE__, "waitpid: %s", strerror(errno));
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

void test_await_stop(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, WUNTRACED) < 0)
    if (errno != EINTR) test_fail(__FILE__, __LINE__, "waitpid: %s", strerror(errno));
  if (!WIFSTOPPED(status))
    test_fail(__FILE__, __LINE__, "child ended (%#x) and did not stop", (unsigned)status);
}

void test_continue(pid_t pid) { CHECK(kill(pid, SIGCONT) == 0); }

void test_kill(pid_t pid) {
  CHECK(kill(pid, SIGKILL) == 0);
  CHECK_INT(test_join(pid), -SIGKILL);
}

void test_expect_signal(int signal_number, void (*body)(void *argument), void *argument) {
  int status = test_join(test_fork(body, argument));
  CHECK_INT(status, -signal_number);
}

void *test_shared(size_t bytes) {
  void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  return memory;
}

void test_unshare(void *memory, size_t bytes) { CHECK(munmap(memory, bytes) == 0); }

/* --- threads, descriptors, time ---------------------------------------------------------- */

struct thread_body {
  void (*run)(void *argument);
  void *argument;
};

static void *thread_main(void *body) {
  const struct thread_body *b = body;
  b->run(b->argument);
  return NULL;
}

void test_threads(unsigned count, void (*body)(void *argument), void *argument) {
  pthread_t threads[THREADS_MAX];
  struct thread_body b = {body, argument};

  CHECK(count <= THREADS_MAX);
  for (unsigned i = 0; i < count; i++)
    CHECK(!pthread_create(&threads[i], NULL, thread_main, &b));
  for (unsigned i = 0; i < count; i++)
    CHECK(!pthread_join(threads[i], NULL));
}

int test_count_fds(void) {
  int count = 0;
  DIR *fds = opendir("/proc/self/fd");

  CHECK(fds != NULL);
  while (readdir(fds))
    count++;
  (void)closedir(fds);
  return count - 3; /* ".", ".." and the one of opendir() */
}

static double now_ns(void) {
  struct timespec now;
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int by_value(const void *left, const void *right) {
  double l = *(const double *)left, r = *(const double *)right;
  return (l > r) - (l < r);
}

double test_measure(unsigned rounds, uint64_t units, void (*body)(void *argument), void *argument) {
  double times[ROUNDS_MAX];

  CHECK(rounds > 0 && rounds <= ROUNDS_MAX);
  for (unsigned i = 0; i < rounds; i++) {
    double start = now_ns();
    body(argument);
    times[i] = (now_ns() - start) / (double)units;
  }
  qsort(times, rounds, sizeof(times[0]), by_value);
  return times[rounds / 2];
}

/* --- the runner -------------------------------------------------------------------------- */

/* In the test's own process: leads a group, so that all its children can be ended with it. */
_Noreturn static void run_in_child(const struct test_case *test) {
  (void)setpgid(0, 0);
  (void)alarm(test->seconds * TEST_SLOWNESS);
  test->run();
  leave(0);
}

static const char *word_for(int status) {
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) return "FAILED (timeout)";
  if (WIFSIGNALED(status)) return "FAILED (killed)";
  if (WEXITSTATUS(status) == STATUS_SKIPPED) return "skipped";
  return WEXITSTATUS(status) == 0 ? "ok" : "FAILED";
}

static int run_one(const struct test_case *test) {
  int status = 0;
  pid_t pid = fork_or_fail();

  if (pid == 0) run_in_child(test);
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
    continue;
  (void)kill(-pid, SIGKILL);
  (void)printf("%-56s %s\n", test->name, word_for(status));
  if (WIFSIGNALED(status)) (void)printf("    signal %d\n", WTERMSIG(status));
  (void)fflush(stdout);
  return status;
}

static bool chosen(const struct test_case *test, int count, char **words) {
  for (int i = 0; i < count; i++)
    if (strstr(test->name, words[i])) return true;
  return count == 0;
}

static void list_tests(void) {
  for (const struct test_case *t = first_test; t; t = t->next)
    (void)puts(t->name);
}

int main(int argc, char **argv) {
  unsigned passed = 0, failed = 0, skipped = 0;

  if (argc > 1 && strcmp(argv[1], "-l") == 0) {
    list_tests();
    return 0;
  }
  for (const struct test_case *t = first_test; t; t = t->next) {
    if (!chosen(t, argc - 1, argv + 1)) continue;
    int status = run_one(t);
    if (WIFEXITED(status) && WEXITSTATUS(status) == STATUS_SKIPPED)
      skipped++;
    else if (status == 0)
      passed++;
    else
      failed++;
  }
  (void)printf("%u passed, %u failed", passed, failed);
  if (skipped) (void)printf(", %u skipped", skipped);
  (void)printf("\n");
  return failed > 0;
}
