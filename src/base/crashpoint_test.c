#include "base/crashpoint.h"

#include <signal.h>
#include <string.h>

#include "base/fault.h"
#include "testing/crash.h"
#include "testing/test.h"

/* --- points ----------------------------------------------------------------------------------- */

static void pass_points(void *count) {
  uint32_t *passed = count;
  for (int i = 0; i < 3; i++) {
    LVR_CRASHPOINT("test.first");
    (*passed)++;
    LVR_CRASHPOINT("test.second");
  }
}

static void note_point(const struct lvri_crashpoint *point, void *context) {
  unsigned *found = context;
  *found += strcmp(point->cp_name, "test.first") == 0 || strcmp(point->cp_name, "test.second") == 0;
  CHECK(point->cp_line > 0 && strstr(point->cp_file, ".c"));
}

TEST(points_are_listed) {
  unsigned found = 0;
  lvri_crashpoint_each(note_point, &found);
  CHECK_INT(found, 2);
}

TEST(hits_are_counted_by_name) {
  uint32_t passed = 0;
  pass_points(&passed);
  lvri_crashpoint_arm(LVRI_CRASH_COUNT, NULL, 0);
  pass_points(&passed);
  CHECK_INT(lvri_crashpoint_hits(), 6);
  lvri_crashpoint_arm(LVRI_CRASH_COUNT, "test.first", 0);
  pass_points(&passed);
  CHECK_INT(lvri_crashpoint_hits(), 3);
}

static void die_at_second_hit(void *passed) {
  lvri_crashpoint_arm(LVRI_CRASH_KILL, "test.second", 2);
  pass_points(passed);
}

TEST(a_death_comes_at_the_chosen_hit) {
  uint32_t *passed = test_shared(sizeof(*passed));
  test_expect_signal(SIGKILL, die_at_second_hit, passed);
  CHECK_INT(*passed, 2);
}

TEST(a_stop_lets_others_go_past) {
  uint32_t *passed = test_shared(sizeof(*passed));
  pid_t pid = crash_stop_at("test.first", 3, pass_points, passed);
  CHECK_INT(*passed, 2);
  test_continue(pid);
  CHECK_INT(test_join(pid), 0);
  CHECK_INT(*passed, 3);
}

/* --- the driver ------------------------------------------------------------------------------- */

struct tried {
  uint32_t *passed; /* shared with the victims */
  uint32_t seen[4]; /* how often each count was found */
};

static struct tried tried;

static void setup(void *state) { *(uint32_t **)state = test_shared(sizeof(uint32_t)); }
static void action(void *state) { pass_points(*(uint32_t **)state); }
static void recover(void *state) {
  LVR_CRASHPOINT("test.recover");
  (void)state;
}
static void check(void *state, bool done) {
  uint32_t passed = **(uint32_t **)state;
  CHECK(!done || passed == 3);
  tried.seen[passed]++;
}

TEST(the_driver_tries_each_hit) {
  static const struct crash_scenario scenario = {
      "driver", sizeof(uint32_t *), setup, action, recover, check, NULL};
  struct crash_tally tally = crash_run(&scenario);
  CHECK_INT(tally.deaths, 6);
  CHECK(tried.seen[0] == 1 && tried.seen[1] == 2 && tried.seen[2] == 2 && tried.seen[3] == 2);
  CHECK_INT(crash_unvisited("test."), 1);
  tally = crash_run_repairer(&scenario, 1);
  CHECK_INT(tally.deaths, 6);
  CHECK_INT(tally.repairer_deaths, 6);
  CHECK_INT(crash_unvisited("test."), 0);
}

static void fail_in_child(void *unused) {
  (void)unused;
  CHECK(1 + 1 == 3);
}

TEST(a_failed_check_in_a_child_is_seen) {
  CHECK_INT(test_join(test_fork(fail_in_child, NULL)), 99);
}

/* --- faults ----------------------------------------------------------------------------------- */

static int fallible(void) {
  LVRI_FAULT("test.call", -5);
  return 0;
}

TEST(the_nth_call_fails_once) {
  CHECK_INT(fallible(), 0);
  lvri_fault_arm("test.call", 2);
  CHECK_INT(fallible(), 0);
  CHECK_INT(fallible(), -5);
  CHECK_INT(fallible(), 0);
  CHECK_INT(lvri_fault_hits(), 3);
  lvri_fault_arm("test.other", 1);
  CHECK_INT(fallible(), 0);
  lvri_fault_arm(NULL, 1);
  CHECK_INT(fallible(), -5);
  lvri_fault_arm(NULL, 0);
  CHECK_INT(fallible(), 0);
}
