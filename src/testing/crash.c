#include "testing/crash.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/crashpoint.h"
#include "os/os.h"
#include "testing/test.h"

enum { CHILD_SECONDS = 20, NAME_BYTES = 64, VISITED_MAX = 512 };

static char visited[VISITED_MAX][NAME_BYTES];
static unsigned visited_count;

/* The doing of one process that is meant to die. */
struct victim {
  void (*body)(void *state);
  void *state;
  uint64_t nth;
  char *died_at; /* shared with it */
  enum lvri_crash_mode mode;
  const char *point;
};

static void remember(const char *name) {
  for (unsigned i = 0; i < visited_count; i++)
    if (strcmp(visited[i], name) == 0) return;
  CHECK(visited_count < VISITED_MAX);
  (void)snprintf(visited[visited_count++], NAME_BYTES, "%s", name);
}

static void run_victim(void *argument) {
  const struct victim *v = argument;
  (void)alarm(CHILD_SECONDS * TEST_SLOWNESS);
  lvri_crashpoint_report_to(v->died_at);
  lvri_crashpoint_arm(v->mode, v->point, v->nth);
  v->body(v->state);
  lvri_crashpoint_arm(LVRI_CRASH_OFF, NULL, 0);
}

/* Runs body in a child that dies at its nth hit. False: it had fewer, and came to its end. */
static bool dies_at(void (*body)(void *), void *state, uint64_t nth, char *died_at) {
  struct victim v = {body, state, nth, died_at, LVRI_CRASH_KILL, NULL};
  died_at[0] = '\0';
  int status = test_join(test_fork(run_victim, &v));
  if (status == 0) return false;
  if (status != -SIGKILL) test_fail(__FILE__, __LINE__, "child left with %d", status);
  remember(died_at);
  return true;
}

static void finish(const struct crash_scenario *scenario, void *state, bool done) {
  if (scenario->recover) scenario->recover(state);
  scenario->check(state, done);
  if (scenario->teardown) scenario->teardown(state);
  memset(state, 0, scenario->state_bytes);
}

static void report(const struct crash_scenario *scenario, const struct crash_tally *tally) {
  (void)printf("  %s: %llu deaths", scenario->name, (unsigned long long)tally->deaths);
  if (tally->repairer_deaths)
    (void)printf(", %llu of a repairer", (unsigned long long)tally->repairer_deaths);
  if (tally->waits) (void)printf(", %llu while another slept", (unsigned long long)tally->waits);
  (void)printf("\n");
  test_context("%s", "");
}

static void *new_state(const struct crash_scenario *scenario) {
  if (TEST_TSAN) SKIP("deaths are told by the kernel, and of one thread: nothing for TSan to see");
  if (TEST_VALGRIND) SKIP("each death takes a process of valgrind, and there are thousands");
  void *state = calloc(1, scenario->state_bytes ? scenario->state_bytes : 1);
  CHECK(state != NULL);
  return state;
}

struct crash_tally crash_run(const struct crash_scenario *scenario) {
  struct crash_tally tally = {0, 0, 0};
  void *state = new_state(scenario);
  char *died_at = test_shared(NAME_BYTES);

  for (bool died = true; died;) {
    test_context("%s, hit %llu", scenario->name, (unsigned long long)tally.deaths + 1);
    scenario->setup(state);
    died = dies_at(scenario->action, state, tally.deaths + 1, died_at);
    test_context("%s, hit %llu: %s", scenario->name, (unsigned long long)tally.deaths + 1,
                 died ? died_at : "came through");
    finish(scenario, state, !died);
    tally.deaths += died;
  }
  CHECK(tally.deaths > 0);
  report(scenario, &tally);
  free(state);
  return tally;
}

/* One death of the action at its nth hit, then one of a repairer at its mth. False: no such hit of
 * the action (*ret_repaired untouched); *ret_repaired: the repairer came through. */
static bool die_twice(const struct crash_scenario *scenario, void *state, uint64_t nth,
                      uint64_t mth, bool *ret_repaired) {
  char *first = test_shared(NAME_BYTES), *second = test_shared(NAME_BYTES);

  test_context("%s, hit %llu, repairer's hit %llu", scenario->name, (unsigned long long)nth,
               (unsigned long long)mth);
  scenario->setup(state);
  bool died = dies_at(scenario->action, state, nth, first);
  if (died) *ret_repaired = !dies_at(scenario->recover, state, mth, second);
  test_context("%s, hit %llu: %s, repairer's hit %llu: %s", scenario->name, (unsigned long long)nth,
               first, (unsigned long long)mth, second);
  finish(scenario, state, !died);
  test_unshare(first, NAME_BYTES);
  test_unshare(second, NAME_BYTES);
  return died;
}

struct crash_tally crash_run_repairer(const struct crash_scenario *scenario, uint64_t every) {
  struct crash_tally tally = {0, 0, 0};
  void *state = new_state(scenario);
  bool died = true;

  CHECK(scenario->recover != NULL && every > 0);
  for (uint64_t nth = 1; died; nth += every) {
    bool repaired = false;
    for (uint64_t mth = 1; died && !repaired; mth++) {
      died = die_twice(scenario, state, nth, mth, &repaired);
      tally.repairer_deaths += died && !repaired;
    }
    tally.deaths += died;
  }
  CHECK(tally.deaths > 0);
  report(scenario, &tally);
  free(state);
  return tally;
}

/* --- many repairers in a row -------------------------------------------------------------- */

static uint64_t next_random(uint32_t *seed) {
  *seed = *seed * 1664525U + 1013904223U;
  return *seed >> 8;
}

struct crash_tally crash_run_at_random(const struct crash_scenario *scenario, uint64_t rounds,
                                       uint64_t most, uint32_t seed) {
  enum { REPAIRERS = 5 };
  struct crash_tally tally = {0, 0, 0};
  void *state = new_state(scenario);
  char *died_at = test_shared(NAME_BYTES);

  for (uint64_t round = 0; round < rounds; round++) {
    test_context("%s, seed %u before round %llu", scenario->name, seed, (unsigned long long)round);
    scenario->setup(state);
    bool died = dies_at(scenario->action, state, 1 + next_random(&seed) % most, died_at);
    tally.deaths += died;
    for (int i = 0; died && i < REPAIRERS; i++)
      tally.repairer_deaths +=
          dies_at(scenario->recover, state, 1 + next_random(&seed) % most, died_at);
    finish(scenario, state, !died);
  }
  CHECK(tally.deaths > 0 && tally.repairer_deaths > 0);
  report(scenario, &tally);
  free(state);
  return tally;
}

/* --- a death while another waits ----------------------------------------------------------- */

struct bystander {
  void (*body)(void *state);
  void *state;
  _Atomic uint32_t *go; /* shared */
};

static void stand_by(void *argument) {
  const struct bystander *b = argument;
  (void)alarm(CHILD_SECONDS * TEST_SLOWNESS);
  while (!lvri_load_acquire_u32(b->go)) /* pairs with let_stop_and_die() */
    (void)lvri_os_futex_wait(b->go, 0, LVRI_FOREVER);
  b->body(b->state);
}

/* It waits for somebody, or has come to its end. */
static bool sleeps(pid_t pid) {
  uint64_t ticks;
  char state = 0;
  while (lvri_os_process_start(pid, &ticks, &state) == 0 && state != 'S' && state != 'Z')
    lvri_os_yield();
  return state == 'S';
}

/* False: the child came to its end. */
static bool let_stop_and_die(struct victim *v, const struct bystander *b, pid_t bystander,
                             struct crash_tally *tally) {
  int status = 0;
  pid_t pid = test_fork(run_victim, v);
  while (waitpid(pid, &status, WUNTRACED) < 0)
    CHECK(errno == EINTR);
  CHECK(WIFSTOPPED(status) || status == 0);
  lvri_store_release_u32(b->go, 1);
  (void)lvri_os_futex_wake(b->go, 1);
  if (!WIFSTOPPED(status)) return false;
  test_context("%s, beside %s", "stopped", v->died_at);
  tally->waits += sleeps(bystander);
  remember(v->died_at);
  test_kill(pid);
  return true;
}

/* The bystander is there first: its fork might have to wait for the child that has stopped. */
static bool die_beside(const struct crash_scenario *scenario, void (*beside)(void *), uint64_t nth,
                       struct crash_tally *tally) {
  void *state = new_state(scenario);
  char *at = test_shared(NAME_BYTES);
  struct bystander b = {beside, state, test_shared(sizeof(uint32_t))};
  struct victim v = {scenario->action, state, nth, at, LVRI_CRASH_STOP, NULL};
  scenario->setup(state);
  pid_t bystander = test_fork(stand_by, &b);
  bool died = let_stop_and_die(&v, &b, bystander, tally);
  CHECK_INT(test_join(bystander), 0);
  test_context("%s, hit %llu: %s, beside", scenario->name, (unsigned long long)nth, at);
  finish(scenario, state, !died);
  test_unshare(at, NAME_BYTES);
  test_unshare((void *)b.go, sizeof(uint32_t));
  free(state);
  return died;
}

struct crash_tally crash_run_beside(const struct crash_scenario *scenario,
                                    void (*beside)(void *state)) {
  struct crash_tally tally = {0, 0, 0};
  while (die_beside(scenario, beside, tally.deaths + 1, &tally))
    tally.deaths++;
  CHECK(tally.deaths > 0 && tally.waits > 0);
  report(scenario, &tally);
  return tally;
}

/* --- which points were never died at ------------------------------------------------------ */

struct search {
  const char *prefix;
  unsigned missed;
};

static void look_for(const struct lvri_crashpoint *point, void *context) {
  struct search *search = context;

  if (strncmp(point->cp_name, search->prefix, strlen(search->prefix)) != 0) return;
  for (unsigned i = 0; i < visited_count; i++)
    if (strncmp(visited[i], point->cp_name, NAME_BYTES - 1) == 0) return;
  (void)printf("  nobody died at %s (%s:%llu)\n", point->cp_name, point->cp_file,
               (unsigned long long)point->cp_line);
  search->missed++;
}

unsigned crash_unvisited(const char *prefix) {
  struct search search = {prefix, 0};
  lvri_crashpoint_each(look_for, &search);
  return search.missed;
}

int crash_stop_at(const char *point, uint64_t nth, void (*body)(void *argument), void *argument) {
  struct victim v = {body, argument, nth, NULL, LVRI_CRASH_STOP, point};
  pid_t pid = test_fork(run_victim, &v);
  test_await_stop(pid);
  return pid;
}
