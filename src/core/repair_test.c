#include "core/repair.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/crashpoint.h"
#include "core/process.h"
#include "core/slots.h"
#include "core/wait.h"
#include "os/os.h"
#include "testing/crash.h"
#include "testing/fixture.h"
#include "testing/test.h"

/* An object of the test's kind: units that may be held, and a block of its own. */
struct thing {
  struct lvri_object_shm th_object;
  uint32_t th_units;
  uint32_t th_left; /* how often we were told of a death */
  lvri_off th_part;
};

static int thing_give_back(struct lvri_arena *a, lvri_off off, uint32_t *held) {
  struct thing *thing = lvri_at(a, off);
  struct lvri_guard *g = lvri_arena_stripe(a, off);
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  lvri_set32(a, g, &thing->th_units, thing->th_units + *held);
  lvri_set32(a, g, held, 0);
  lvri_guard_leave(a, g);
  return 0;
}

static void thing_left(struct lvri_arena *a, lvri_off off, lvr_proc_id who) {
  struct thing *thing = lvri_at(a, off);
  (void)who;
  thing->th_left++;
}

static void thing_fini(struct lvri_arena *a, lvri_off off) {
  const struct thing *thing = lvri_at(a, off);
  if (thing->th_part) lvri_heap_free_locked(a, thing->th_part);
}

static void set_kind(void) {
  lvri_test_kind.give_back = thing_give_back;
  lvri_test_kind.left = thing_left;
  lvri_test_kind.fini_locked = thing_fini;
}

static struct thing *thing_of(const struct lvri_handle *h) {
  return (struct thing *)(void *)h->object;
}

/* Takes or gives back a unit: the count and what we hold change together. */
static void move_unit(struct lvri_handle *h, int32_t units) {
  struct lvri_arena *a = &h->session->arena;
  struct lvri_guard *g = lvri_arena_stripe(a, h->off);
  struct lvri_ledger_entry *entry = lvri_handle_entry(h);
  CHECK_INT(lvri_guard_enter(a, g), 0);
  lvri_set32(a, g, &thing_of(h)->th_units, thing_of(h)->th_units - (uint32_t)units);
  lvri_set32(a, g, &entry->le_held, entry->le_held + (uint32_t)units);
  lvri_guard_leave(a, g);
}

static void add_part(struct lvri_handle *h) {
  struct lvri_arena *a = &h->session->arena;
  struct lvri_guard *g = lvri_arena_guard(a);
  lvri_off part;
  CHECK_INT(lvri_guard_enter(a, g), 0);
  CHECK_INT(lvri_heap_alloc_locked(a, 100, LVRI_KIND_PART, &part), 0);
  lvri_set64(a, g, &thing_of(h)->th_part, part);
  lvri_guard_leave(a, g);
}

static struct lvri_handle *new_thing(lvr_session *s, uint32_t units) {
  struct lvri_handle *h;
  CHECK_INT(lvri_object_create(s, LVRI_KIND_TEST, sizeof(struct thing), &h), 0);
  if (units) move_unit(h, -(int32_t)units);
  lvri_handle_entry(h)->le_held = 0;
  return h;
}

/* --- a scenario ------------------------------------------------------------------------------ */

struct state {
  lvr_session *s;
  struct lvri_handle *h;
  uint64_t blocks;
  struct lvr_ref ref;
  lvr_proc_id embryo;
  struct lvri_handle *more[60];
  uint32_t n_more;
};

static void set_up(void *argument) {
  struct state *state = argument;
  state->s = fixture_session();
  set_kind();
  state->h = new_thing(state->s, 5);
  lvri_object_ref(state->h, &state->ref);
  state->blocks = fixture_stats(state->s).blocks;
}

static void set_up_with_embryo(void *argument) {
  struct state *state = argument;
  set_up(state);
  state->embryo = fixture_prepare(state->s);
  CHECK_INT(lvr_proc_give(state->s, state->embryo, &state->ref), 0);
  CHECK_INT(lvri_proc_put_task(state->s, state->embryo, "abc", 3), 0);
}

static void set_up_with_many(void *argument) {
  struct state *state = argument;
  set_up(state);
  while (state->n_more < 60)
    state->more[state->n_more++] = new_thing(state->s, 0);
  state->blocks = fixture_stats(state->s).blocks;
}

static void repair(void *argument) {
  const struct state *state = argument;
  CHECK(lvr_repair(state->s) >= 0);
}

static void tear_down(void *argument) {
  struct state *state = argument;
  lvri_object_detach(state->h);
  while (state->n_more > 0)
    lvri_object_detach(state->more[--state->n_more]);
  CHECK_INT(fixture_stats(state->s).objects, 0);
  lvr_session_detach(state->s);
}

/* As if the dead had never been. */
static void check_nothing_left(void *argument, bool done) {
  struct state *state = argument;
  (void)done;
  fixture_check(state->s);
  fixture_age_embryos(state->s);
  CHECK(lvr_repair(state->s) >= 0);
  struct lvr_session_stats stats = fixture_stats(state->s);
  CHECK_INT(stats.slots_running, 1);
  CHECK_INT(stats.slots_embryo + stats.slots_over + stats.slots_kept, 0);
  CHECK_INT(stats.objects, 1 + state->n_more);
  CHECK_INT(stats.blocks, state->blocks);
  CHECK_INT(thing_of(state->h)->th_units, 5);
  CHECK_INT(state->h->object->ob_refs, 1);
  CHECK_INT(state->h->object->ob_travelling, 0);
  for (uint32_t i = 0; i < state->n_more; i++)
    CHECK_INT(state->more[i]->object->ob_refs, 1);
  CHECK_INT(lvri_ledger_len(&state->s->arena, state->s->slot->sl_ledger), 1 + state->n_more);
  fixture_check(state->s);
}

/* --- what dies ------------------------------------------------------------------------------- */

static void use_things(void *argument) {
  struct state *state = argument;
  struct lvri_handle *h = new_thing(state->s, 0), *again;
  lvr_ref ref;
  lvri_object_ref(h, &ref);
  CHECK_INT(lvri_object_attach(state->s, &ref, LVRI_KIND_TEST, &again), 0);
  add_part(h);
  move_unit(state->h, 2);
  move_unit(state->h, -1);
  lvri_object_detach(again);
  lvri_object_detach(h);
  (void)new_thing(state->s, 1);
}

TEST_WITHIN(whoever_dies_with_objects_leaves_nothing, 120) {
  static const struct crash_scenario scenario = {
      "objects", sizeof(struct state), set_up, use_things, repair, check_nothing_left, tear_down};
  (void)crash_run(&scenario);
}

TEST_WITHIN(whoever_dies_repairing_objects_leaves_nothing, 120) {
  static const struct crash_scenario scenario = {
      "objects", sizeof(struct state), set_up, use_things, repair, check_nothing_left, tear_down};
  (void)crash_run_repairer(&scenario, 13);
}

/* Of a reference that travels it is known only that it is counted or not. */
static void send_things(void *argument) {
  struct state *state = argument;
  struct lvri_handle *h;
  lvr_ref ref;
  CHECK_INT(lvri_object_send(state->h, &ref), 0);
  CHECK_INT(lvri_object_attach(state->s, &ref, LVRI_KIND_TEST, &h), 0);
  CHECK_INT(lvri_object_send(state->h, &ref), 0);
  CHECK_INT(lvr_object_unsend(state->s, &ref), 0);
}

static void check_travel(void *argument, bool done) {
  struct state *state = argument;
  CHECK(state->h->object->ob_travelling <= 1);
  CHECK_INT(state->h->object->ob_refs, 1 + state->h->object->ob_travelling);
  lvr_ref lost = state->ref;
  lost.travels = 1;
  if (state->h->object->ob_travelling) CHECK_INT(lvr_object_unsend(state->s, &lost), 0);
  check_nothing_left(argument, done);
}

TEST_WITHIN(whoever_dies_with_a_message_leaves_it_sent_or_not, 120) {
  static const struct crash_scenario scenario = {
      "messages", sizeof(struct state), set_up, send_things, repair, check_travel, tear_down};
  (void)crash_run(&scenario);
}

/* What the child's child does at a hit of its own counts as ours. */
static void join_likewise(pid_t pid) {
  int status = test_join(pid);
  if (status == -SIGKILL) (void)kill(getpid(), SIGKILL);
  CHECK_INT(status, 0);
}

static void give_birth(void *argument) {
  struct state *state = argument;
  lvr_proc_id child, withdrawn;
  CHECK_INT(lvr_proc_prepare(state->s, LVR_PROC_WATCHED, &child), 0);
  CHECK_INT(lvr_proc_prepare(state->s, LVR_PROC_WATCHED, &withdrawn), 0);
  CHECK_INT(lvr_proc_give(state->s, child, &state->ref), 0);
  CHECK_INT(lvri_proc_put_task(state->s, child, "abc", 3), 0);
  lvri_proc_forked(state->s, withdrawn, lvri_os_pid());
  CHECK_INT(lvr_proc_withdraw(state->s, withdrawn), 0);
  CHECK_INT(lvr_proc_fork_next(state->s, child), 0);
  pid_t pid = fork();
  if (pid == 0) {
    lvri_proc_drop_task(state->s, child);
    lvr_proc_announce(state->s, 0);
    _exit(0);
  }
  join_likewise(pid);
  int32_t status;
  CHECK_INT(lvr_proc_wait_until(state->s, child, INT64_MAX, &status), 0);
  CHECK_INT(lvr_proc_forget(state->s, child), 0);
}

TEST_WITHIN(whoever_dies_at_a_birth_leaves_nothing, 120) {
  static const struct crash_scenario scenario = {
      "births", sizeof(struct state), set_up, give_birth, repair, check_nothing_left, tear_down};
  (void)crash_run(&scenario);
}

TEST_WITHIN(whoever_dies_repairing_a_birth_leaves_nothing, 120) {
  static const struct crash_scenario scenario = {
      "births", sizeof(struct state), set_up, give_birth, repair, check_nothing_left, tear_down};
  (void)crash_run_repairer(&scenario, 29);
}

static void fork_only(void *argument) {
  (void)argument;
  pid_t pid = fork();
  if (pid == 0) _exit(0);
  join_likewise(pid);
}

TEST_WITHIN(whoever_dies_copying_a_ledger_leaves_nothing, 120) {
  static const struct crash_scenario scenario = {
      "forks", sizeof(struct state), set_up_with_many, fork_only,
      repair,  check_nothing_left,   tear_down};
  (void)crash_run(&scenario);
  (void)crash_run_repairer(&scenario, 113);
}

/* A gift that the parent has no handle of, and one that it has. */
static void fork_with_gifts(void *argument) {
  struct state *state = argument;
  struct lvri_handle *h = new_thing(state->s, 0);
  lvr_ref ref;
  lvr_proc_id child = fixture_prepare(state->s);
  lvri_object_ref(h, &ref);
  CHECK_INT(lvr_proc_give(state->s, child, &ref), 0);
  CHECK_INT(lvr_proc_give(state->s, child, &state->ref), 0);
  lvri_object_detach(h);
  CHECK_INT(lvr_proc_fork_next(state->s, child), 0);
  pid_t pid = fork();
  if (pid == 0) _exit(0);
  join_likewise(pid);
}

/* The child may still be on its way when its parent has died. */
static void await_children(lvr_session *s) {
  int32_t status;
  for (uint32_t i = 1; i <= lvri_slots_of(&s->arena)->st_count; i++) {
    struct lvri_slot *slot = lvri_slot_at(&s->arena, i);
    lvr_proc_id id = lvri_load_acquire_u64(&slot->sl_id);
    if (id == lvr_proc_self(s)) continue;
    if (lvri_load_acquire_u32(&slot->sl_state) == LVRI_SLOT_RUNNING)
      CHECK(lvr_proc_wait_until(s, id, INT64_MAX, &status) < 0);
  }
}

static void check_gifts(void *argument, bool done) {
  const struct state *state = argument;
  await_children(state->s);
  fixture_age_embryos(state->s);
  CHECK(lvr_repair(state->s) >= 0);
  await_children(state->s); /* who was just in time */
  CHECK(lvr_repair(state->s) >= 0);
  check_nothing_left(argument, done);
}

TEST_WITHIN(whoever_dies_forking_with_gifts_leaves_nothing, 120) {
  static const struct crash_scenario scenario = {
      "gifts", sizeof(struct state), set_up, fork_with_gifts, repair, check_gifts, tear_down};
  (void)crash_run(&scenario);
}

/* Whatever happens to the first who wants to be it, the next one can, or it is over. */
static void adopt_it(void *argument) {
  struct state *state = argument;
  lvr_session *t;
  CHECK_INT(lvr_session_map(lvr_session_fd(state->s), &t), 0);
  CHECK_INT(lvr_proc_adopt(t, state->embryo), 0);
  lvri_proc_drop_task(t, state->embryo);
  lvr_session_detach(t);
}

static void check_adopted(void *argument, bool done) {
  struct state *state = argument;
  lvr_session *t;
  int error = lvr_session_attach(lvr_session_fd(state->s), state->embryo, &t);
  CHECK(error == 0 || error == -ESRCH);
  if (error == 0) {
    CHECK(lvr_proc_is_alive(state->s, state->embryo));
    lvr_session_detach(t);
  }
  struct lvr_proc_info info;
  CHECK_INT(lvr_proc_info(state->s, state->embryo, &info), 0);
  CHECK(info.pid != 0); /* somebody was it, from the first moment to the last */
  CHECK_INT(lvr_proc_forget(state->s, state->embryo), 0);
  check_nothing_left(argument, done);
}

TEST_WITHIN(whoever_dies_adopting_is_over_or_was_nobody, 120) {
  static const struct crash_scenario scenario = {
      "adoptions", sizeof(struct state), set_up_with_embryo, adopt_it,
      repair,      check_adopted,        tear_down};
  (void)crash_run(&scenario);
}

static void reap_it(void *argument) {
  struct state *state = argument;
  int32_t status;
  CHECK_INT(lvr_proc_set_status(state->s, state->embryo, -9), 0);
  CHECK_INT(lvr_proc_wait_until(state->s, state->embryo, INT64_MAX, &status), 0);
}

static void set_up_dead(void *argument) {
  struct state *state = argument;
  set_up_with_embryo(state);
  CHECK_INT(lvr_proc_fork_next(state->s, LVR_PROC_NOBODY), 0);
  pid_t pid = fork();
  if (pid == 0) {
    lvr_session *t;
    struct lvri_handle *h;
    CHECK_INT(lvr_session_attach(lvr_session_fd(state->s), state->embryo, &t), 0);
    CHECK_INT(lvri_object_attach(t, &state->ref, LVRI_KIND_TEST, &h), 0);
    move_unit(h, 3);
    _exit(0);
  }
  CHECK_INT(test_join(pid), 0);
}

static void check_reaped(void *argument, bool done) {
  struct state *state = argument;
  int32_t status = 0;
  int error = lvr_proc_set_status(state->s, state->embryo, -9);
  CHECK(error == 0 || error == -EALREADY);
  if (done) CHECK_INT(error, -EALREADY);
  CHECK_INT(lvr_proc_wait_until(state->s, state->embryo, INT64_MAX, &status), 0);
  CHECK_INT(status, -9);
  CHECK_INT(lvr_proc_forget(state->s, state->embryo), 0);
  check_nothing_left(argument, done);
}

TEST_WITHIN(whoever_dies_reaping_leaves_it_to_the_next, 120) {
  static const struct crash_scenario scenario = {
      "reaping", sizeof(struct state), set_up_dead, reap_it, repair, check_reaped, tear_down};
  (void)crash_run(&scenario);
  (void)crash_run_repairer(&scenario, 19);
}

/* A process whose arming thread has ended, and that dies: asked of the kernel at each point. */
static void *attach_in_thread(void *argument) {
  struct state *state = argument;
  CHECK_INT(lvr_session_attach(lvr_session_fd(state->s), 0, &state->s), 0);
  return NULL;
}

static void rearm(void *argument) {
  struct state copy = *(struct state *)argument;
  pthread_t thread;
  CHECK_INT(pthread_create(&thread, NULL, attach_in_thread, &copy), 0);
  CHECK_INT(pthread_join(thread, NULL), 0);
  lvri_session_rearm(copy.s);
}

TEST_WITHIN(whoever_dies_while_the_arming_thread_ends_is_dead, 120) {
  static const struct crash_scenario scenario = {"arming", sizeof(struct state), set_up,   rearm,
                                                 repair,   check_nothing_left,   tear_down};
  (void)crash_run(&scenario);
}

/* --- many ------------------------------------------------------------------------------------ */

static void own_many(void *argument) {
  struct state *state = argument;
  for (int i = 0; i < 300; i++)
    (void)new_thing(state->s, 0);
}

static void have_many(void *argument) {
  struct state *state = argument;
  set_up(state);
  CHECK_INT(test_join(test_fork(own_many, state)), 0);
}

/* The repair itself is what dies. */
TEST_WITHIN(repairers_of_many_die_anywhere, 120) {
  struct state state;
  char *died_at = test_shared(64);
  for (uint64_t nth = 1, died = 1; died; nth += 97) {
    memset(&state, 0, sizeof(state));
    have_many(&state);
    test_context("repairer's hit %llu", (unsigned long long)nth);
    pid_t pid = fork();
    if (pid == 0) {
      lvri_crashpoint_report_to(died_at);
      lvri_crashpoint_arm(LVRI_CRASH_KILL, NULL, nth);
      repair(&state);
      _exit(0);
    }
    int status = test_join(pid);
    CHECK(status == 0 || status == -SIGKILL);
    died = status != 0;
    repair(&state);
    check_nothing_left(&state, !died);
    tear_down(&state);
  }
}

static void *repair_in_thread(void *argument) {
  repair(argument);
  return NULL;
}

/* Units come back once, however many repairers there are. */
TEST(repairers_do_not_get_into_each_others_way) {
  for (int round = 0; round < 10; round++) {
    struct state state = {.s = NULL};
    pthread_t threads[4];
    have_many(&state);
    CHECK_INT(test_join(test_fork(use_things, &state)), 0);
    pid_t pid = fork();
    if (pid == 0) {
      repair(&state);
      _exit(0);
    }
    for (int i = 0; i < 4; i++)
      CHECK_INT(pthread_create(&threads[i], NULL, repair_in_thread, &state), 0);
    for (int i = 0; i < 4; i++)
      CHECK_INT(pthread_join(threads[i], NULL), 0);
    CHECK_INT(test_join(pid), 0);
    repair(&state);
    check_nothing_left(&state, true);
    tear_down(&state);
  }
}

/* A death in the middle of giving units back, with a stripe's journal that names the ledger: the
 * ledger is looked at, and freed, only after that has been rolled back. */
static void die_in_stripe(void *argument) {
  struct state *state = argument;
  struct lvri_arena *a = &state->s->arena;
  struct lvri_guard *g = lvri_arena_stripe(a, state->h->off);
  struct lvri_ledger_entry *entry = lvri_handle_entry(state->h);
  move_unit(state->h, 2);
  CHECK_INT(lvri_guard_enter(a, g), 0);
  lvri_set32(a, g, &thing_of(state->h)->th_units, 5);
  lvri_set32(a, g, &entry->le_held, 0);
  (void)kill(getpid(), SIGKILL);
}

TEST(a_death_inside_a_stripe_is_settled_first) {
  struct state state = {.s = NULL};
  set_up(&state);
  CHECK_INT(test_join(test_fork(die_in_stripe, &state)), -SIGKILL);
  repair(&state);
  CHECK_INT(thing_of(state.h)->th_left, 1);
  move_unit(state.h, 1); /* whoever comes next into that stripe */
  move_unit(state.h, -1);
  check_nothing_left(&state, false);
}

static void die_with_units(void *argument) {
  struct state *state = argument;
  move_unit(state->h, 3);
  (void)kill(getpid(), SIGKILL);
}

/* What is waited for may be in the hands of any of them. */
TEST(a_wait_for_nobody_in_particular_repairs_the_dead) {
  struct state state = {.s = NULL};
  _Atomic uint32_t word = 0;
  set_up(&state);
  CHECK_INT(test_join(test_fork(die_with_units, &state)), -SIGKILL);
  CHECK_INT(thing_of(state.h)->th_units, 2);
  CHECK_INT(lvri_wait(state.s, &word, 0, 0, INT64_MAX), 0); /* the relook */
  CHECK_INT(thing_of(state.h)->th_units, 5);
  check_nothing_left(&state, false);
}
