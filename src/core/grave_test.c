#include "core/grave.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/crashpoint.h"
#include "core/slots.h"
#include "testing/crash.h"
#include "testing/fixture.h"
#include "testing/test.h"

/* An object of the test's kind that refers to others, in a block of its own. */
struct carrier {
  struct lvri_object_shm ca_object;
  uint64_t ca_count;
  lvri_off ca_part; /* lvri_off[ROOM]; 0: it carries nothing */
};

enum { ROOM = 1000 };

static lvri_off *carried(struct lvri_arena *a, const struct carrier *c) {
  return lvri_at(a, c->ca_part);
}

static bool drain(struct lvri_arena *a, lvri_off off) {
  struct lvri_guard *g = lvri_arena_guard(a);
  struct carrier *c = lvri_at(a, off);
  if (c->ca_count) {
    lvri_set64(a, g, &c->ca_count, c->ca_count - 1);
    lvri_object_unref_locked(a, carried(a, c)[c->ca_count]);
    return false;
  }
  if (!c->ca_part) return true;
  lvri_heap_free_locked(a, c->ca_part);
  lvri_set64(a, g, &c->ca_part, 0);
  return true;
}

static bool is_drained(struct lvri_arena *a, lvri_off off) {
  const struct carrier *c = lvri_at(a, off);
  return !c->ca_part;
}

static void each_reference(struct lvri_arena *a, lvri_off off, void (*visit)(void *, lvri_off),
                           void *context) {
  const struct carrier *c = lvri_at(a, off);
  for (uint64_t i = 0; i < c->ca_count; i++)
    visit(context, carried(a, c)[i]);
}

static lvr_session *new_session(void) {
  lvr_session *s = fixture_session();
  lvri_test_kind.drain_locked = drain;
  lvri_test_kind.is_drained = is_drained;
  lvri_test_kind.each_reference = each_reference;
  return s;
}

static struct lvri_handle *new_carrier(lvr_session *s) {
  struct lvri_handle *h;
  CHECK_INT(lvri_object_create(s, LVRI_KIND_TEST, sizeof(struct carrier), &h), 0);
  return h;
}

static void carry(struct lvri_handle *by, const struct lvri_handle *what) {
  struct lvri_arena *a = &by->session->arena;
  struct lvri_guard *g = lvri_arena_guard(a);
  struct carrier *c = (struct carrier *)(void *)by->object;
  CHECK_INT(lvri_guard_enter(a, g), 0);
  if (!c->ca_part) {
    lvri_off part;
    CHECK_INT(lvri_heap_alloc_locked(a, ROOM * sizeof(part), LVRI_KIND_PART, &part), 0);
    lvri_set64(a, g, &c->ca_part, part);
  }
  carried(a, c)[c->ca_count] = what->off;
  lvri_set64(a, g, &c->ca_count, c->ca_count + 1);
  lvri_set32(a, g, &what->object->ob_refs, what->object->ob_refs + 1);
  lvri_guard_leave(a, g);
}

/* Carried by `by`, and by nobody else's handle. */
static void carry_only(struct lvri_handle *by, struct lvri_handle *what) {
  carry(by, what);
  lvri_object_detach(what);
}

static bool is_empty(lvr_session *s) {
  return !lvri_load_relaxed_u32(&lvri_arena_header(&s->arena)->ah_grave);
}

/* --- one process ----------------------------------------------------------------------------- */

TEST(what_is_carried_lives_as_long) {
  lvr_session *s = new_session();
  struct lvri_handle *root = new_carrier(s), *leaf = new_carrier(s);
  lvr_ref ref;
  lvri_object_ref(leaf, &ref);
  uint64_t blocks = fixture_stats(s).blocks;
  carry_only(root, leaf);
  fixture_check(s);
  CHECK_INT(lvri_object_attach(s, &ref, LVRI_KIND_TEST, &leaf), 0);
  lvri_object_detach(root);
  CHECK_INT(fixture_stats(s).objects, 1);
  CHECK_INT(leaf->object->ob_refs, 1);
  CHECK(is_empty(s));
  fixture_check(s);
  CHECK_INT(fixture_stats(s).blocks, blocks - 1);
  lvri_object_detach(leaf);
  CHECK_INT(fixture_stats(s).objects, 0);
}

/* A list that no stack and no journal would bear. */
TEST(a_long_chain_goes) {
  lvr_session *s = new_session();
  struct lvri_handle *first = new_carrier(s);
  for (int i = 0; i < 1000; i++) {
    struct lvri_handle *before = new_carrier(s);
    carry_only(before, first);
    first = before;
  }
  fixture_check(s);
  CHECK_INT(fixture_stats(s).objects, 1001);
  lvri_object_detach(first);
  CHECK_INT(fixture_stats(s).objects, 0);
  CHECK(is_empty(s));
  fixture_check(s);
}

/* `many` objects, each with two of its own and one that all share. */
static struct lvri_handle *plant(lvr_session *s, int many) {
  struct lvri_handle *root = new_carrier(s), *shared = new_carrier(s);
  for (int i = 0; i < many; i++) {
    struct lvri_handle *branch = new_carrier(s);
    carry_only(branch, new_carrier(s));
    carry(branch, shared);
    carry_only(branch, new_carrier(s));
    carry_only(root, branch);
  }
  lvri_object_detach(shared);
  return root;
}

/* What is put into the grave by a transaction that is aborted was never there. */
TEST(an_aborted_burial) {
  lvr_session *s = new_session();
  struct lvri_arena *a = &s->arena;
  struct lvri_handle *root = plant(s, 3);
  CHECK_INT(lvri_guard_enter(a, lvri_arena_guard(a)), 0);
  lvri_object_unref_locked(a, root->off);
  CHECK(!is_empty(s));
  lvri_guard_abort(a, lvri_arena_guard(a));
  CHECK(is_empty(s));
  fixture_check(s);
}

/* --- what is in the grave -------------------------------------------------------------------- */

struct state {
  lvr_session *s;
  struct lvri_handle *kept; /* carried by the root, and ours */
  struct lvri_handle *root;
  lvr_ref ref; /* of the root */
  uint64_t blocks;
  int many;
};

static void set_up(struct state *state, int many) {
  state->s = new_session();
  state->kept = new_carrier(state->s);
  state->many = many;
  state->blocks = fixture_stats(state->s).blocks;
  state->root = plant(state->s, many);
  carry(state->root, state->kept);
  lvri_object_ref(state->root, &state->ref);
}

static void detach_root(void *argument) {
  struct state *state = argument;
  lvri_object_detach(state->root);
}

static void detach_root_as_a_child(void *argument) {
  struct state *state = argument;
  lvri_crashpoint_arm(LVRI_CRASH_KILL, "grave.step.left", 2);
  detach_root(state);
}

/* The child is the last one to detach the root, and is killed after the second step. */
static void leave_a_grave(struct state *state) {
  int pipes[2];
  set_up(state, 5);
  CHECK_INT(pipe(pipes), 0);
  pid_t pid = fork();
  if (pid == 0) {
    char c;
    CHECK_INT(read(pipes[0], &c, 1), 1);
    detach_root_as_a_child(state);
  }
  lvri_object_detach(state->root);
  CHECK_INT(write(pipes[1], "", 1), 1);
  CHECK_INT(test_join(pid), -SIGKILL);
  CHECK(!is_empty(state->s));
}

TEST(nobody_gets_what_is_in_the_grave) {
  struct state state = {.s = NULL};
  struct lvri_handle *h;
  leave_a_grave(&state);
  lvr_ref travelling = state.ref;
  travelling.travels = 1;
  CHECK_INT(lvri_object_attach(state.s, &state.ref, LVRI_KIND_TEST, &h), -ESTALE);
  CHECK_INT(lvri_object_attach(state.s, &travelling, LVRI_KIND_TEST, &h), -ESTALE);
  fixture_check(state.s); /* a grave is in order */
  CHECK(!is_empty(state.s));
  CHECK_INT(lvr_repair(state.s), 1);
  CHECK(is_empty(state.s));
  CHECK_INT(fixture_stats(state.s).objects, 1);
  fixture_check(state.s);
}

/* Whoever frees anything goes on. */
TEST(the_next_one_who_detaches_goes_on) {
  struct state state = {.s = NULL};
  leave_a_grave(&state);
  lvri_object_detach(new_carrier(state.s));
  CHECK(is_empty(state.s));
  CHECK(lvr_repair(state.s) >= 0);
  CHECK_INT(fixture_stats(state.s).objects, 1);
  fixture_check(state.s);
}

static void expect_unclean(lvr_session *s, uint32_t *field, uint32_t wrong) {
  uint32_t right = *field;
  *field = wrong;
  CHECK_INT(lvr_session_check(s), -EUCLEAN);
  *field = right;
  fixture_check(s);
}

TEST(damage_is_seen) {
  struct state state = {.s = NULL};
  lvr_session *s;
  set_up(&state, 5);
  s = state.s;
  struct lvri_arena *a = &s->arena;
  struct lvri_object_shm *root = state.root->object, *kept = state.kept->object;
  lvri_guard_enter(a, lvri_arena_guard(a));
  lvri_ledger_drop_locked(a, lvr_proc_self(s), state.root->index);
  lvri_object_unref_locked(a, state.root->off);
  lvri_guard_leave(a, lvri_arena_guard(a));
  uint32_t *first = (uint32_t *)(void *)&lvri_arena_header(a)->ah_grave;
  uint32_t kept_link = (uint32_t)(state.kept->off >> 6);
  expect_unclean(s, first, 0);
  expect_unclean(s, first, *first + 1);
  expect_unclean(s, first, UINT32_MAX);
  expect_unclean(s, first, kept_link);
  expect_unclean(s, &root->ob_next, kept_link);
  expect_unclean(s, &root->ob_next, *first); /* a cycle */
  expect_unclean(s, &root->ob_refs, 1);
  expect_unclean(s, &root->ob_travelling, 1);
  expect_unclean(s, &kept->ob_refs, 1);
  lvri_grave_empty(a);
  CHECK_INT(kept->ob_refs, 1);
}

static void empty_it(void *argument) {
  struct lvri_arena *a = argument;
  lvri_grave_empty(a);
}

TEST(many_empty_one_grave) {
  struct state state = {.s = NULL};
  set_up(&state, 300);
  struct lvri_arena *a = &state.s->arena;
  lvri_guard_enter(a, lvri_arena_guard(a));
  lvri_ledger_drop_locked(a, lvr_proc_self(state.s), state.root->index);
  lvri_object_unref_locked(a, state.root->off);
  lvri_guard_leave(a, lvri_arena_guard(a));
  pid_t pid = test_fork(empty_it, a);
  test_threads(3, empty_it, a);
  CHECK_INT(test_join(pid), 0);
  CHECK(lvr_repair(state.s) >= 0);
  CHECK_INT(fixture_stats(state.s).objects, 1);
  fixture_check(state.s);
}

/* --- deaths ---------------------------------------------------------------------------------- */

static void set_up_few(void *argument) { set_up(argument, 2); }

static void set_up_many(void *argument) { set_up(argument, 200); }

static void repair(void *argument) {
  const struct state *state = argument;
  CHECK(lvr_repair(state->s) >= 0);
}

/* The survivor has its own handle of the root. The child had another, and was the last or not. */
static void check_gone(void *argument, bool done) {
  struct state *state = argument;
  (void)done;
  fixture_check(state->s);
  CHECK(is_empty(state->s));
  lvri_object_detach(state->root);
  CHECK_INT(fixture_stats(state->s).objects, 1);
  CHECK_INT(state->kept->object->ob_refs, 1);
  CHECK_INT(fixture_stats(state->s).blocks, state->blocks);
  fixture_check(state->s);
}

static void tear_down(void *argument) { lvr_session_detach(((struct state *)argument)->s); }

/* The child makes the tree, and gives it back: it has the only handle. */
static void plant_and_fell(void *argument) {
  struct state *state = argument;
  struct lvri_handle *root = plant(state->s, 2);
  carry(root, state->kept);
  lvri_object_detach(root);
}

/* It sends it, and takes the message back. */
static void plant_and_unsend(void *argument) {
  struct state *state = argument;
  struct lvri_handle *root = plant(state->s, 1);
  lvr_ref ref;
  CHECK_INT(lvri_object_send(root, &ref), 0);
  lvri_object_detach(root);
  CHECK_INT(lvr_object_unsend(state->s, &ref), 0);
}

static const struct crash_scenario felling = {
    "grave", sizeof(struct state), set_up_few, plant_and_fell, repair, check_gone, tear_down};

TEST_WITHIN(whoever_dies_beside_a_grave_leaves_nothing, 120) {
  (void)crash_run(&felling);
  CHECK_INT(crash_unvisited("grave."), 0);
}

TEST_WITHIN(whoever_dies_emptying_a_dead_ones_grave_leaves_it_to_the_next, 120) {
  (void)crash_run_repairer(&felling, 401);
}

/* A message that is lost by a death goes on travelling; from the unsend on it is gone. */
TEST_WITHIN(whoever_dies_unsending_leaves_nothing, 120) {
  struct state state = {.s = NULL};
  char *died_at = test_shared(64);
  int status = -SIGKILL;
  for (uint64_t nth = 1; status == -SIGKILL; nth++) {
    set_up(&state, 1);
    pid_t pid = fork();
    if (pid == 0) {
      lvri_crashpoint_report_to(died_at);
      lvri_crashpoint_arm(LVRI_CRASH_KILL, "grave.step.done", nth);
      plant_and_unsend(&state);
      _exit(0);
    }
    status = test_join(pid);
    CHECK(status == 0 || status == -SIGKILL);
    repair(&state);
    check_gone(&state, status == 0);
    tear_down(&state);
  }
}

/* Kills whoever runs body at the nth hit of a point; whether it died. */
static bool dies_at(void (*body)(void *), struct state *state, const char *point, uint64_t nth) {
  test_context("%s, hit %llu", point, (unsigned long long)nth);
  pid_t pid = fork();
  if (pid == 0) {
    lvri_crashpoint_arm(LVRI_CRASH_KILL, point, nth);
    body(state);
    _exit(0);
  }
  int status = test_join(pid);
  CHECK(status == 0 || status == -SIGKILL);
  return status != 0;
}

static void leave_all(void *argument) {
  struct state *state = argument;
  lvri_object_detach(plant(state->s, 200));
}

/* Hundreds that carry others, one death after the other on the same grave, at every tenth step. */
TEST_WITHIN(a_grave_that_kills_everybody, 120) {
  struct state state = {.s = NULL};
  unsigned deaths = 0;
  set_up_many(&state);
  CHECK(dies_at(leave_all, &state, "grave.step.done", 300));
  while (dies_at(repair, &state, "grave.step.done", 10)) {
    deaths++;
    fixture_check(state.s);
  }
  CHECK(deaths > 40);
  repair(&state);
  check_gone(&state, false);
}
