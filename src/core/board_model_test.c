/* All that can happen to the board's model (board_model.h): all states that can be reached are
 * visited, and in each the next step of everybody is tried, and everybody's death:
 *
 *   - no task begins twice, and no task is told of twice
 *   - none begins after its cancel said 0, and one whose cancel said no is told of by its fate
 *   - no block is taken out of a message twice
 *   - who is killed by the pump takes no task with him that had begun, but the one he is killed for
 *   - where nobody can go on each task has been told of, and nobody is in the middle of anything
 *   - no state comes back to itself: so each run ends there
 *
 * The last test leaves out what makes it so, one thing at a time, and wants the model to find each.
 *
 * Of whoever, two deaths a run while one cancels, or while one takes back, or one death while both
 * happen; one death while one is killed for a task, and one takes back; none while one cancels as
 * well.
 * All but the kill at once, with two deaths, are 10.1 million states; all of it with one death,
 * 9.2; and all is well, too. */
#include <stdio.h>
#include <sys/mman.h>

#include "core/board_model.h"
#include "testing/test.h"

/* --- the search ----------------------------------------------------------------------------- */

enum { TABLE = 1 << 22, DEPTH = 1 << 8 };

/* A state, by two hashes: that two of some millions have both in common has a chance of 2^-80. */
static struct seen {
  uint64_t high, low; /* the last bits of high: IS_SEEN, IS_ON_TRAIL */
} * table;

enum { IS_SEEN = 1, IS_ON_TRAIL = 2, BITS = 3 };

static struct trail {
  uint8_t actor, at;
  bool death;
} trail[DEPTH];

static struct tally {
  uint32_t states, steps, ends;
  uint32_t depth, deepest; /* of the trail */
} tally;

static void forget_all(enum fault fault) {
  if (table) (void)munmap(table, TABLE * sizeof(*table));
  table = mmap(NULL, TABLE * sizeof(*table), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
               -1, 0);
  CHECK(table != MAP_FAILED);
  model = (struct model){.fault = fault};
  tally = (struct tally){0};
}

static uint64_t hash(const struct world *w, uint64_t factor) {
  const unsigned char *bytes = (const unsigned char *)w;
  uint64_t h = factor;
  for (size_t i = 0; i < sizeof(*w); i++)
    h = (h ^ bytes[i]) * factor ^ h >> 32;
  return h ^ h >> 29;
}

/* The state's place in the table, where it is entered if it is new. */
static struct seen *find(const struct world *w, bool *ret_new) {
  uint64_t high = hash(w, UINT64_C(0x9e3779b97f4a7c15)) | BITS;
  uint64_t low = hash(w, UINT64_C(0xbf58476d1ce4e5b9));
  struct seen *seen;
  for (uint64_t at = low; seen = &table[at % TABLE], seen->high != 0; at++) {
    *ret_new = false;
    if ((seen->high | BITS) == high && seen->low == low) return seen;
  }
  *ret_new = true;
  *seen = (struct seen){(high & ~(uint64_t)BITS) | IS_SEEN, low};
  CHECK(++tally.states < TABLE);
  return seen;
}

/* Nobody can go on. */
static void check_the_end(const struct world *w) {
  bool owner = w->actors[PUMP].lives;
  tally.ends++;
  claim_that(w->get_mutex == FREE || !(owner || w->actors[FIRST].lives || w->actors[SECOND].lives),
             "a mutex is held for ever");
  for (unsigned i = 0; i < WORKERS; i++)
    claim_that(!w->actors[i].lives || w->actors[i].at == LOCK_GET, "a worker cannot go on");
  for (unsigned i = 0; owner && i < TASKS; i++)
    claim_that(w->told[i] != UNTOLD, "a task is lost");
  claim_that(!owner || w->actors[PUMP].at == LOOP, "the pump cannot go on");
  claim_that(!owner || w->actors[CANCELLER].at == CANCEL_DONE, "the canceller cannot go on");
  claim_that(!w->said || !w->began[THE_CANCELLED], "a task ran that was cancelled");
}

static void explore(const struct world *w);

static void leave_trail(unsigned me, const struct world *from, bool death) {
  trail[tally.depth] = (struct trail){(uint8_t)me, from->actors[me].at, death};
}

static bool try_steps(const struct world *w, unsigned me) {
  unsigned choices = model_steps[w->actors[me].at].choices;
  bool any = false;
  if (!w->actors[me].lives) return false;
  for (unsigned choice = 0; choice <= choices && !model.wrong; choice++) {
    struct world next = *w;
    if (!model_make(&next, me, choice)) continue;
    any = true;
    tally.steps++;
    leave_trail(me, w, false);
    explore(&next);
  }
  return any;
}

static void try_death(const struct world *w, unsigned me) {
  struct world next = *w;
  if (model.wrong || !model_kill_process(&next, me)) return;
  leave_trail(me, w, true);
  explore(&next);
}

static void explore(const struct world *w) {
  bool any = false, is_new;
  if (model.wrong) return;
  tally.depth++;
  CHECK(tally.depth < DEPTH);
  if (tally.depth > tally.deepest) tally.deepest = tally.depth;
  struct seen *seen = find(w, &is_new);
  claim_that(!(seen->high & IS_ON_TRAIL), "it goes round and round");
  if (is_new) {
    seen->high |= IS_ON_TRAIL;
    for (unsigned me = 0; me < ACTORS; me++)
      any |= try_steps(w, me);
    if (!any) check_the_end(w);
    for (unsigned me = 0; me < ACTORS; me++)
      try_death(w, me);
    seen->high &= ~(uint64_t)IS_ON_TRAIL;
  }
  if (!model.wrong) tally.depth--; /* else it says how long the trail is */
}

/* --- tests ---------------------------------------------------------------------------------- */

static void search(enum fault fault, struct bounds may) {
  struct world w = model_begin(may);
  forget_all(fault);
  explore(&w);
  (void)printf("  %s: %u states, %u steps, %u ends, %u deep: %s\n", model_fault_names[fault],
               tally.states, tally.steps, tally.ends, tally.deepest,
               model.wrong ? model.wrong : "all is well");
  (void)fflush(stdout);
}

static void print_trail(void) {
  static const char *const names[ACTORS] = {"worker 1", "worker 2", "pump", "canceller"};
  for (uint32_t i = 1; i < tally.depth; i++)
    (void)printf("    %-9s  %s%s\n", names[trail[i].actor], trail[i].death ? "DIES before " : "",
                 model_steps[trail[i].at].name);
  (void)fflush(stdout);
}

static void check_all(struct bounds may, uint32_t least_states) {
  search(NOTHING, may);
  if (model.wrong) print_trail();
  CHECK(!model.wrong);
  CHECK(tally.states > least_states);
}

TEST_WITHIN(holds_whoever_is_killed_while_one_cancels, 120) {
  check_all((struct bounds){.deaths = 2, .cancels = true}, 2000000);
}

TEST_WITHIN(holds_whoever_is_killed_while_one_takes_back, 120) {
  check_all((struct bounds){.deaths = 2, .revokes = 1}, 500000);
}

TEST_WITHIN(holds_while_one_cancels_and_takes_back, 120) {
  check_all((struct bounds){.deaths = 1, .cancels = true, .revokes = 1}, 500000);
}

TEST_WITHIN(holds_while_one_is_killed_for_a_task, 120) {
  check_all((struct bounds){.deaths = 1, .revokes = 1, .dooms = 1}, 1000000);
}

TEST_WITHIN(holds_while_one_is_killed_for_a_task_and_one_cancels, 120) {
  check_all((struct bounds){.cancels = true, .revokes = 1, .dooms = 1}, 500000);
}

TEST_WITHIN(finds_what_is_left_out, 120) {
  for (enum fault fault = NOTHING + 1; fault < FAULTS; fault++) {
    search(fault, fault < KILL_BY_LOOKING
                      ? (struct bounds){.deaths = 2, .cancels = true, .revokes = 1}
                      : (struct bounds){.deaths = 1, .dooms = 1});
    CHECK(model.wrong);
  }
}
