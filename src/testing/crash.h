/* crash.h - kills a child at every crash point, and the repairer too.
 *
 * A scenario says what is shared, what the child does, how the living repair,
 * and what must hold then:
 *
 *     struct my_state { struct lvri_arena a; lvri_off block; };
 *     static void setup(void *s) { ... }             // in the survivor: fresh state for each death
 *     static void action(void *s) { ... }            // in the child: dies somewhere in here
 *     static void recover(void *s) { ... }           // as the living would: a guard, lvr_repair()
 *     static void check(void *s, bool done) { ... }  // valid, progress, no leak; uses CHECK.
 *                                                    // done: the child came to its end, unkilled
 *     static void teardown(void *s) { ... }
 *     TEST_WITHIN(alloc_survives_death, 60)
 *     {
 *       static const struct crash_scenario scenario = {"alloc", sizeof(struct my_state),
 *           setup, action, recover, check, teardown};
 *       crash_run(&scenario);                 // a death at each hit of a point in action
 *       crash_run_repairer(&scenario, 1);     // the same, and then a death at each hit in recover
 *     }
 *
 * The driver forks, arms the child for its first hit, its second, ... until the child comes through
 * alive: so every hit is tried, not just every point, without a list of them. The state is memory
 * of the survivor's own; what child and survivor share is what the state points to (an
 * arena, test_shared()).
 * setup, recover, check and teardown of a round run in the survivor; recover also in repairers.
 * check(s, false) may look for either outcome: as before the action, or as after it,
 * never in between.
 * The test is named in a failure together with the point and hit of the death. */
#ifndef LVRI_TESTING_CRASH_H
#define LVRI_TESTING_CRASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct crash_scenario {
  const char *name;
  size_t state_bytes;
  void (*setup)(void *state);
  void (*action)(void *state);
  void (*recover)(void *state); /* or NULL: check alone */
  void (*check)(void *state, bool done);
  void (*teardown)(void *state); /* or NULL */
};

/* What was tried; printed by each run. */
struct crash_tally {
  uint64_t deaths;
  uint64_t repairer_deaths;
  uint64_t waits; /* of bystanders that slept when the child died */
};

/* Kills a child at each hit. At least one point must be hit. */
struct crash_tally crash_run(const struct crash_scenario *scenario);

/* For every every-th hit of the action: the child dies there, then repairers die, one at each hit
 * of recover, then the survivor recovers and checks. (1: all; more for long actions.) */
struct crash_tally crash_run_repairer(const struct crash_scenario *scenario, uint64_t every);

/* Rounds in which the child dies at a hit below `most`, then repairers, one after the other, at a
 * hit of theirs each: all chosen by the seed, which is printed with a failure. */
struct crash_tally crash_run_at_random(const struct crash_scenario *scenario, uint64_t rounds,
                                       uint64_t most, uint32_t seed);

/* For each hit: the child stops there, a bystander runs `beside` until it has come to its end or
 * sleeps, and only then the child dies: so it dies while another waits for what it holds. The
 * bystander must get through. The action must not fork. */
struct crash_tally crash_run_beside(const struct crash_scenario *scenario,
                                    void (*beside)(void *state));

/* Crash points linked into this program whose names begin with prefix, and that no child or
 * repairer of this process's crash_run() calls has died at: prints them, returns how many. */
unsigned crash_unvisited(const char *prefix);

/* Forks a child that runs body and stops itself at the nth hit of the point; returns once it has
 * stopped. test_continue() or test_kill() ends that. */
int crash_stop_at(const char *point, uint64_t nth, void (*body)(void *argument), void *argument);

#endif
