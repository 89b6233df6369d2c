#include "core/guard.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/crashpoint.h"
#include "core/arena.h"
#include "testing/crash.h"
#include "testing/test.h"

/* Some words of the arena that are changed together. */
struct words {
  struct lvri_arena a;
  lvri_off off;
};

struct shared_words {
  uint64_t wide[8];
  uint32_t narrow[8];
};

static struct shared_words *words_of(struct words *w) {
  return (struct shared_words *)(void *)(w->a.base + w->off);
}

static void setup(void *state) {
  struct words *w = state;
  CHECK_INT(lvri_arena_create(LVRI_ARENA_LEAST_BYTES, &w->a), 0);
  CHECK_INT(lvri_guard_enter(&w->a, lvri_arena_guard(&w->a)), 0);
  CHECK_INT(lvri_heap_alloc_locked(&w->a, sizeof(struct shared_words), 1, &w->off), 0);
  lvri_guard_leave(&w->a, lvri_arena_guard(&w->a));
}

static void teardown(void *state) { lvri_arena_fini(&((struct words *)state)->a); }

/* Adds delta to each word; the first one twice. */
static void change_all(struct words *w, struct lvri_guard *g, uint32_t delta) {
  struct shared_words *s = words_of(w);
  lvri_set64(&w->a, g, &s->wide[0], s->wide[0] + 1000);
  for (int i = 0; i < 8; i++) {
    lvri_set64(&w->a, g, &s->wide[i], s->wide[i] + delta);
    lvri_set32(&w->a, g, &s->narrow[i], s->narrow[i] + delta);
  }
  lvri_set64(&w->a, g, &s->wide[0], s->wide[0] - 1000);
}

static void check_all(struct words *w, uint64_t value) {
  const struct shared_words *s = words_of(w);
  for (int i = 0; i < 8; i++) {
    CHECK_INT(s->wide[i], value);
    CHECK_INT(s->narrow[i], value);
  }
}

static struct lvri_guard *stripe(struct words *w) { return lvri_arena_stripe(&w->a, w->off); }

static void change_in_guard(void *state) {
  struct words *w = state;
  CHECK_INT(lvri_guard_enter(&w->a, stripe(w)), 0);
  change_all(w, stripe(w), 7);
  lvri_guard_leave(&w->a, stripe(w));
}

TEST(leaving_commits) {
  struct words w;
  setup(&w);
  change_in_guard(&w);
  check_all(&w, 7);
  CHECK_INT(lvri_load_relaxed_u32(&stripe(&w)->gd_count), 0);
  teardown(&w);
}

TEST(aborting_takes_back) {
  struct words w;
  setup(&w);
  change_in_guard(&w);
  CHECK_INT(lvri_guard_enter(&w.a, stripe(&w)), 0);
  change_all(&w, stripe(&w), 1);
  check_all(&w, 8);
  lvri_guard_abort(&w.a, stripe(&w));
  check_all(&w, 7);
  change_in_guard(&w);
  check_all(&w, 14);
  teardown(&w);
}

TEST(rolls_back_to_a_mark_only) {
  struct words w;
  setup(&w);
  struct lvri_guard *g = lvri_arena_guard(&w.a);
  CHECK_INT(lvri_guard_enter(&w.a, g), 0);
  change_all(&w, g, 1);
  uint32_t mark = lvri_guard_mark(g);
  change_all(&w, g, 1);
  lvri_guard_rollback_to(&w.a, g, mark);
  lvri_guard_leave(&w.a, g);
  check_all(&w, 1);
  teardown(&w);
}

TEST(a_commit_in_between_stands) {
  struct words w;
  setup(&w);
  CHECK_INT(lvri_guard_enter(&w.a, stripe(&w)), 0);
  change_all(&w, stripe(&w), 1);
  lvri_guard_commit(&w.a, stripe(&w));
  CHECK_INT(lvri_guard_room(stripe(&w)), LVRI_STRIPE_RECORDS);
  change_all(&w, stripe(&w), 1);
  lvri_guard_abort(&w.a, stripe(&w));
  check_all(&w, 1);
  teardown(&w);
}

TEST(words_are_copied_and_taken_back) {
  struct words w;
  uint64_t from[4] = {1, 2, 3, 4};
  setup(&w);
  CHECK_INT(lvri_guard_enter(&w.a, stripe(&w)), 0);
  lvri_set_words(&w.a, stripe(&w), words_of(&w)->wide, from, sizeof(from));
  CHECK(memcmp(words_of(&w)->wide, from, sizeof(from)) == 0);
  lvri_guard_abort(&w.a, stripe(&w));
  check_all(&w, 0);
  teardown(&w);
}

/* --- deaths ----------------------------------------------------------------------------------- */

static void enter_and_leave(void *state) {
  struct words *w = state;
  CHECK_INT(lvri_guard_enter(&w->a, stripe(w)), 0);
  CHECK_INT(lvri_guard_valid(&w->a, stripe(w)), 0);
  lvri_guard_leave(&w->a, stripe(w));
}

static void all_or_nothing(void *state, bool done) {
  struct words *w = state;
  uint64_t value = words_of(w)->wide[0];
  CHECK(value == 0 || value == 7);
  CHECK(!done || value == 7);
  check_all(w, value);
  change_in_guard(w);
  check_all(w, value + 7);
}

static const struct crash_scenario change = {"guard",         sizeof(struct words), setup,
                                             change_in_guard, enter_and_leave,      all_or_nothing,
                                             teardown};

TEST_WITHIN(a_death_leaves_all_or_nothing, 60) {
  crash_run(&change);
  crash_run_repairer(&change, 1);
  CHECK_INT(crash_unvisited("guard."), 0);
}

static void die_in_guard(void *state) {
  struct words *w = state;
  CHECK_INT(lvri_guard_enter(&w->a, stripe(w)), 0);
  change_all(w, stripe(w), 7);
  (void)raise(SIGKILL);
}

/* One process, two mappings: rolling back must not use addresses of the dead one's. */
TEST(rolls_back_through_another_mapping) {
  struct words w, other;
  setup(&w);
  CHECK_INT(lvri_arena_attach(w.a.fd, &other.a), 0);
  other.off = w.off;
  CHECK(other.a.base != w.a.base);
  test_expect_signal(SIGKILL, die_in_guard, &w);
  CHECK_INT(words_of(&other)->wide[0], 7);
  enter_and_leave(&other);
  check_all(&w, 0);
  CHECK_INT(lvri_load_relaxed_u32(&stripe(&w)->gd_repairs), 1);
  teardown(&other);
  teardown(&w);
}

TEST(a_corrupt_journal_shuts_the_guard) {
  struct words w;
  setup(&w);
  test_expect_signal(SIGKILL, die_in_guard, &w);
  lvri_store_relaxed_u32(&stripe(&w)->gd_count, LVRI_STRIPE_RECORDS + 1);
  CHECK_INT(lvri_guard_enter(&w.a, stripe(&w)), -ENOTRECOVERABLE);
  CHECK_INT(lvri_guard_enter(&w.a, stripe(&w)), -ENOTRECOVERABLE);
  teardown(&w);
}

TEST(a_record_outside_the_arena_shuts_the_guard) {
  struct words w;
  setup(&w);
  test_expect_signal(SIGKILL, die_in_guard, &w);
  struct lvri_guard_record *records = (void *)(stripe(&w) + 1);
  records[2].gr_where = UINT64_C(1) << 40;
  CHECK_INT(lvri_guard_enter(&w.a, stripe(&w)), -ENOTRECOVERABLE);
  teardown(&w);
}

/* --- many ------------------------------------------------------------------------------------- */

enum { ROUNDS = 2000 };

static void change_often(void *state) {
  for (int i = 0; i < ROUNDS; i++)
    change_in_guard(state);
}

TEST(threads_take_turns) {
  struct words w;
  setup(&w);
  test_threads(4, change_often, &w);
  check_all(&w, UINT64_C(7) * 4 * ROUNDS);
  teardown(&w);
}

static void take_in_wrong_order(void *state) {
  struct words *w = state;
  CHECK_INT(lvri_guard_enter(&w->a, lvri_arena_guard(&w->a)), 0);
  CHECK_INT(lvri_guard_enter(&w->a, stripe(w)), 0);
}

TEST(wrong_order_of_locks_aborts) {
  struct words w;
  setup(&w);
  test_expect_signal(SIGABRT, take_in_wrong_order, &w);
  teardown(&w);
}

static void overflow(void *state) {
  struct words *w = state;
  CHECK_INT(lvri_guard_enter(&w->a, stripe(w)), 0);
  for (;;)
    change_all(w, stripe(w), 1);
}

TEST(too_many_changes_abort) {
  struct words w;
  setup(&w);
  test_expect_signal(SIGABRT, overflow, &w);
  enter_and_leave(&w);
  check_all(&w, 0);
  teardown(&w);
}
