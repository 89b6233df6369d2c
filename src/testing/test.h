/* test.h - a small harness for the C tests.
 *
 *     #include "testing/test.h"
 *
 *     TEST(adds_up) { CHECK(1 + 1 == 2); CHECK_INT(add(1, 1), 2); }
 *     TEST_WITHIN(waits_long, 40) { ... }            // seconds; else TEST_SECONDS
 *
 * and nothing more: tests register themselves, the harness has main(). Each test runs in a child
 * process of its own, in a process group of its own, under an alarm; a failed check ends it, and
 * whatever it has started is killed with it. `PROGRAM [-l] [words...]` lists the tests or runs
 * those whose names contain one of the words. The last line is "N passed, N failed" (and
 * ", N skipped"); the exit status is 0 if none failed.
 *
 * CHECK works in children of a test too: it prints, and ends the child with status 99, which
 * test_join() reports. */
#ifndef LVRI_TESTING_TEST_H
#define LVRI_TESTING_TEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TEST_SECONDS 20

/* What this is built with. GCC says it by a macro, clang by a feature. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TEST_TSAN 1
#elif __has_feature(address_sanitizer)
#define TEST_ASAN 1
#endif
#elif defined(__SANITIZE_THREAD__)
#define TEST_TSAN 1
#elif defined(__SANITIZE_ADDRESS__)
#define TEST_ASAN 1
#endif
#ifndef TEST_TSAN
#define TEST_TSAN 0
#endif
#ifndef TEST_ASAN
#define TEST_ASAN 0
#endif
#ifndef TEST_VALGRIND /* it runs what any build runs; so tools/sanitize.sh says that it will */
#define TEST_VALGRIND 0
#endif

/* Limits of tests are that many times longer. */
#define TEST_SLOWNESS (TEST_VALGRIND ? 20U : TEST_TSAN || TEST_ASAN ? 5U : 1U)

struct test_case {
  const char *name;
  void (*run)(void);
  unsigned seconds;
  struct test_case *next;
};

void test_register(struct test_case *test);

#define TEST_WITHIN(test_name, limit_seconds)                                      \
  static void test_name(void);                                                     \
  __attribute__((constructor)) static void test_register_##test_name(void) {       \
    static struct test_case test = {#test_name, test_name, (limit_seconds), NULL}; \
    test_register(&test);                                                          \
  }                                                                                \
  static void test_name(void)

#define TEST(test_name) TEST_WITHIN(test_name, TEST_SECONDS)

#define CHECK(what)                                          \
  do {                                                       \
    if (!(what)) test_fail(__FILE__, __LINE__, "%s", #what); \
  } while (0)

/* Signed numbers: prints both. */
#define CHECK_INT(got, wanted)                                                            \
  do {                                                                                    \
    long long test_got = (long long)(got), test_wanted = (long long)(wanted);             \
    if (test_got != test_wanted)                                                          \
      test_fail(__FILE__, __LINE__, "%s is %lld, not %lld", #got, test_got, test_wanted); \
  } while (0)

#define CHECK_STR(got, wanted) test_check_str(__FILE__, __LINE__, #got, (got), (wanted))

/* Ends the test: it cannot run here. */
#define SKIP(why) test_skip(why)

_Noreturn void test_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
_Noreturn void test_skip(const char *why);
void test_check_str(const char *file, int line, const char *what, const char *got,
                    const char *wanted);

/* What the test is at; printed with a failed check. "" to clear. */
void test_context(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Runs body(argument) in a child, which then leaves with status 0, without exit handlers. */
pid_t test_fork(void (*body)(void *argument), void *argument);

/* Waits for a child: exit status >= 0, or minus the signal that killed it. */
int test_join(pid_t pid);

/* Waits until a child has stopped itself (LVRI_CRASH_STOP); fails the test if it ended instead. */
void test_await_stop(pid_t pid);
void test_continue(pid_t pid);
void test_kill(pid_t pid); /* SIGKILL and join */

/* Runs body in a child and checks that this signal kills it (0: that it leaves with status 0). */
void test_expect_signal(int signal_number, void (*body)(void *argument), void *argument);

/* Zeroed memory that children share; it lasts as long as the test, or until test_unshare(). */
void *test_shared(size_t bytes);
void test_unshare(void *memory, size_t bytes);

/* Runs body(argument) in `count` threads and waits for all. */
void test_threads(unsigned count, void (*body)(void *argument), void *argument);

/* Open descriptors of this process: to check that none was left. */
int test_count_fds(void);

/* Median of `rounds` runs of body, in ns per unit, `units` units each: for figures,
 * not for checks. */
double test_measure(unsigned rounds, uint64_t units, void (*body)(void *argument), void *argument);

#endif
