/* A zygote without Python: births, what they are given, and what ends with whom. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/crashpoint.h"
#include "base/fault.h"
#include "core/wait.h"
#include "core/zygote.h"
#include "leveret/zygote.h"
#include "os/os.h"
#include "testing/fixture.h"
#include "testing/test.h"

enum { PATIENCE_S = 10, MANY = 40, BARREN = 5, DEAF = 6 };

/* What a child does, by its number. */
enum task { LEAVE, STAY, TELL_FDS, TELL_SIGNALS, DIE };

struct told {
  _Atomic uint32_t task;
  _Atomic uint32_t births;
  _Atomic uint32_t rehearsals;
  _Atomic uint32_t forks_to_fail; /* from now on, all */
  _Atomic uint32_t forks_refused;
  _Atomic uint32_t spares_to_die; /* so many, before they wait */
  _Atomic uint32_t spares_forked;
  _Atomic uint32_t deaf_spares; /* so many fail to receive */
  _Atomic uint32_t deaf_zygote; /* and it as well */
  _Atomic uint32_t hold_spares; /* before they wait */
  _Atomic uint32_t die_in_vain; /* spares whose request was met, before they say so */
  _Atomic uint32_t n_fds;
  _Atomic uint64_t blocked;
  _Atomic uint32_t done;
};

struct house {
  lvr_session *s;
  lvr_zygote *z;
  pid_t pid;
  struct told *told;
};

static uint32_t mark; /* of the last request */

static int64_t soon(void) { return lvri_os_now_ns() + PATIENCE_S * INT64_C(1000000000); }

static void await(_Atomic uint32_t *word, uint32_t least) {
  int64_t deadline_ns = soon();
  while (lvri_load_acquire_u32(word) < least) {
    CHECK(lvri_os_now_ns() < deadline_ns);
    lvri_os_yield();
  }
}

static bool lives(int32_t pid) {
  uint64_t ticks;
  char state = 'Z';
  return lvri_os_process_start(pid, &ticks, &state) == 0 && state != 'Z' && state != 'X';
}

/* --- the zygote ---------------------------------------------------------------------------- */

_Noreturn static void stay(void) {
  for (;;)
    (void)pause();
}

static void live(const struct house *h, const struct lvr_birth *birth) {
  struct told *told = h->told;
  uint32_t task = lvri_load_acquire_u32(&told->task);
  atomic_store(&told->n_fds, birth->n_fds);
  atomic_store(&told->blocked, lvri_os_signals_blocked());
  if (task == TELL_FDS)
    for (uint32_t i = 0; i < birth->n_fds; i++)
      CHECK_INT(write(birth->fds[i], "x", 1), 1);
  (void)atomic_fetch_add(&told->births, 1);
  if (task == STAY) stay();
  if (task == DIE) (void)raise(SIGUSR1);
  lvr_proc_announce(h->s, 3);
  _exit(3);
}

static int32_t fork_unless_told_not_to(void *context) {
  struct told *told = context;
  if (lvri_load_acquire_u32(&told->forks_to_fail)) {
    (void)atomic_fetch_add(&told->forks_refused, 1);
    return -EAGAIN;
  }
  pid_t pid = fork();
  return pid < 0 ? -errno : (int32_t)pid;
}

static void prepare_spare(void *context) {
  struct told *told = context;
  while (lvri_load_acquire_u32(&told->hold_spares))
    (void)usleep(1000);
  if (lvri_load_acquire_u32(&told->die_in_vain))
    lvri_crashpoint_arm(LVRI_CRASH_KILL, "spare.declined", 1);
  uint32_t nth = lvri_fetch_add_relaxed_u32(&told->spares_forked, 1);
  if (nth < lvri_load_acquire_u32(&told->spares_to_die)) _exit(1);
  if (nth < lvri_load_acquire_u32(&told->deaf_spares)) lvri_fault_arm("os.link.receive", 1);
}

static void rehearse(void *context) {
  struct told *told = context;
  (void)atomic_fetch_add(&told->rehearsals, 1);
}

_Noreturn static void serve(const struct house *h, const struct lvr_zygote_seat *seat) {
  const struct lvr_zygote_service service = {.context = h->told,
                                             .fork = fork_unless_told_not_to,
                                             .spare = prepare_spare,
                                             .rehearse = rehearse};
  struct lvr_birth birth;
  lvr_zygote *z;
  CHECK_INT(lvr_proc_adopt(h->s, seat->id), 0);
  CHECK_INT(lvr_zygote_open(h->s, seat, &z), 0);
  if (lvri_load_acquire_u32(&h->told->deaf_zygote)) lvri_fault_arm("os.link.receive", 1);
  int part = lvr_zygote_serve(z, &service, &birth);
  CHECK(part == 0 || part == 1 || part == -ECHILD || part == -ENOMEM);
  if (part == 0) live(h, &birth);
  if (part == -ENOMEM) _exit(DEAF);
  _exit(part == -ECHILD ? BARREN : 0);
}

static void make_zygote(struct house *h) {
  struct lvr_zygote_seat seat;
  CHECK_INT(lvr_zygote_create(h->s, &h->z), 0);
  lvr_zygote_seat(h->z, &seat);
  CHECK_INT(lvr_proc_fork_next(h->s, LVR_PROC_NOBODY), 0);
  h->pid = fork();
  CHECK(h->pid >= 0);
  if (h->pid == 0) serve(h, &seat);
  CHECK_INT(lvr_zygote_seated(h->z, h->pid), 0);
}

static struct house open_house_where(uint32_t die, uint32_t deaf, uint32_t zygote) {
  struct house h = {.s = fixture_session(), .told = test_shared(sizeof(struct told))};
  lvri_store_release_u32(&h.told->spares_to_die, die);
  lvri_store_release_u32(&h.told->deaf_spares, deaf);
  lvri_store_release_u32(&h.told->deaf_zygote, zygote);
  make_zygote(&h);
  return h;
}

static struct house open_house_where_spares_die(uint32_t count) {
  return open_house_where(count, 0, 0);
}

static struct house open_house(void) { return open_house_where(0, 0, 0); }

/* Its zygote is over. */
static void leave_house(struct house *h) {
  lvr_zygote_free(h->z);
  while (fixture_stats(h->s).slots_running > 1 || fixture_stats(h->s).slots_over > 0)
    CHECK(lvr_repair(h->s) >= 0);
  CHECK_INT(fixture_stats(h->s).slots_embryo, 0);
  fixture_check(h->s);
  lvr_session_detach(h->s);
}

static void close_house(struct house *h) {
  (void)kill(h->pid, SIGKILL);
  (void)test_join(h->pid);
  leave_house(h);
}

static lvr_proc_id give_birth(const struct house *h, enum task task, const int *fds, uint32_t n_fds,
                              int32_t *ret_pid) {
  lvr_proc_id child = fixture_prepare(h->s);
  lvri_store_release_u32(&h->told->task, (uint32_t)task);
  CHECK_INT(lvr_zygote_send(h->z, child, fds, n_fds, &mark), 0);
  CHECK_INT(lvr_zygote_wait_until(h->z, child, fds, n_fds, &mark, soon(), ret_pid), 0);
  return child;
}

static int32_t end_of(const struct house *h, lvr_proc_id child) {
  int32_t status = 0;
  int error = lvr_proc_wait_until(h->s, child, soon(), &status);
  if (error == -ENODATA)
    error = lvr_proc_wait_status_until(h->s, child, lvr_zygote_id(h->z), soon(), &status);
  CHECK_INT(error, 0);
  CHECK_INT(lvr_proc_forget(h->s, child), 0);
  return status;
}

/* --- births -------------------------------------------------------------------------------- */

TEST(a_child_is_born_and_announces_its_end) {
  struct house h = open_house();
  int32_t pid;
  lvr_proc_id child = give_birth(&h, LEAVE, NULL, 0, &pid);
  CHECK(pid > 0 && pid != h.pid);
  CHECK_INT(end_of(&h, child), 3);
  CHECK_INT(lvri_load_acquire_u32(&h.told->births), 1);
  close_house(&h);
}

TEST(a_birth_that_is_asked_for_twice_is_one) {
  struct house h = open_house();
  lvr_proc_id child = fixture_prepare(h.s);
  int32_t pid;
  for (int i = 0; i < 5; i++)
    CHECK_INT(lvr_zygote_send(h.z, child, NULL, 0, &mark), 0);
  CHECK_INT(lvr_zygote_wait_until(h.z, child, NULL, 0, &mark, soon(), &pid), 0);
  CHECK_INT(end_of(&h, child), 3);
  CHECK_INT(end_of(&h, give_birth(&h, LEAVE, NULL, 0, &pid)), 3);
  CHECK_INT(lvri_load_acquire_u32(&h.told->births), 2);
  close_house(&h);
}

static void have_many_born(const struct house *h) {
  lvr_proc_id children[MANY];
  uint32_t marks[MANY];
  int32_t pid;
  for (int i = 0; i < MANY; i++)
    children[i] = fixture_prepare(h->s);
  for (int i = 0; i < MANY; i++)
    CHECK_INT(lvr_zygote_send(h->z, children[i], NULL, 0, &marks[i]), 0);
  for (int i = 0; i < MANY; i++)
    CHECK_INT(lvr_zygote_wait_until(h->z, children[i], NULL, 0, &marks[i], soon(), &pid), 0);
  for (int i = 0; i < MANY; i++)
    CHECK_INT(end_of(h, children[i]), 3);
}

TEST(many_at_once) {
  struct house h = open_house();
  have_many_born(&h);
  CHECK_INT(lvri_load_acquire_u32(&h.told->births), MANY);
  CHECK(lvr_zygote_spares(h.z) <= 16);
  close_house(&h);
}

TEST(descriptors_are_handed_over) {
  struct house h = open_house();
  int ends[2], fds[LVR_BIRTH_FDS + 1];
  char got[LVR_BIRTH_FDS];
  int32_t pid;
  CHECK_INT(pipe(ends), 0);
  for (int i = 0; i <= LVR_BIRTH_FDS; i++)
    fds[i] = ends[1];
  lvr_proc_id child = give_birth(&h, TELL_FDS, fds, LVR_BIRTH_FDS, &pid);
  CHECK_INT(end_of(&h, child), 3);
  CHECK_INT(read(ends[0], got, sizeof(got)), LVR_BIRTH_FDS);
  child = fixture_prepare(h.s);
  CHECK_INT(lvr_zygote_send(h.z, child, fds, LVR_BIRTH_FDS + 1, &mark), -EMSGSIZE);
  CHECK_INT(lvr_proc_withdraw(h.s, child), 0);
  CHECK_INT(close(ends[0]) + close(ends[1]), 0);
  close_house(&h);
}

TEST(a_child_blocks_the_signals_of_its_caller) {
  struct house h = open_house();
  int32_t pid;
  lvri_os_signals_block(LVRI_SIGNAL_BIT(SIGUSR2));
  (void)end_of(&h, give_birth(&h, TELL_SIGNALS, NULL, 0, &pid));
  CHECK(atomic_load(&h.told->blocked) == LVRI_SIGNAL_BIT(SIGUSR2));
  lvri_os_signals_block(0);
  (void)end_of(&h, give_birth(&h, TELL_SIGNALS, NULL, 0, &pid));
  CHECK(atomic_load(&h.told->blocked) == 0);
  close_house(&h);
}

TEST(a_withdrawn_child_is_not_born) {
  struct house h = open_house();
  int32_t pid;
  lvr_proc_id child = fixture_prepare(h.s);
  CHECK_INT(kill(h.pid, SIGSTOP), 0);
  CHECK_INT(lvr_proc_withdraw(h.s, child), 0);
  CHECK_INT(lvr_zygote_send(h.z, child, NULL, 0, &mark), 0);
  CHECK_INT(kill(h.pid, SIGCONT), 0);
  CHECK_INT(end_of(&h, give_birth(&h, LEAVE, NULL, 0, &pid)), 3);
  CHECK_INT(lvri_load_acquire_u32(&h.told->births), 1);
  close_house(&h);
}

static char state_of_process(int32_t pid) {
  uint64_t ticks;
  char state = 'Z';
  return lvri_os_process_start(pid, &ticks, &state) == 0 ? state : 'X';
}

/* So many, and the zygote has nothing else to do. */
static void await_spares(const struct house *h, uint32_t count) {
  int64_t deadline_ns = soon();
  while (lvr_zygote_spares(h->z) != count || state_of_process(h->pid) != 'S') {
    CHECK(lvri_os_now_ns() < deadline_ns);
    lvri_os_yield();
  }
}

/* Nothing else tells the zygote of a birth but the bell: its children stay,
 * and it has another spare. */
TEST(the_place_of_a_spare_that_was_born_is_taken) {
  struct house h = open_house();
  await(&h.told->rehearsals, 1);
  lvr_proc_id children[4];
  int32_t pids[4];
  for (int i = 0; i < 4; i++) {
    await_spares(&h, LVRI_SPARES_LEAST);
    children[i] = give_birth(&h, STAY, NULL, 0, &pids[i]);
  }
  await_spares(&h, LVRI_SPARES_LEAST);
  for (int i = 0; i < 4; i++) {
    CHECK_INT(kill(pids[i], SIGTERM), 0);
    CHECK_INT(end_of(&h, children[i]), -SIGTERM);
  }
  close_house(&h);
}

TEST(a_rehearsal_is_held_once_and_learned_from) {
  struct house h = open_house();
  int32_t pid;
  await(&h.told->rehearsals, 1);
  await(&h.z->desk->zd_n_runs, 1);
  for (int i = 0; i < 5; i++)
    CHECK_INT(end_of(&h, give_birth(&h, LEAVE, NULL, 0, &pid)), 3);
  CHECK_INT(lvri_load_acquire_u32(&h.told->rehearsals), 1);
  close_house(&h);
}

/* --- want ---------------------------------------------------------------------------------- */

TEST(want_of_processes_is_told) {
  struct house h = open_house();
  lvr_proc_id child;
  int32_t pid;
  int error = 0;
  (void)end_of(&h, give_birth(&h, LEAVE, NULL, 0, &pid));
  lvri_store_release_u32(&h.told->forks_to_fail, 1);
  while (error == 0) { /* spares that were there already */
    child = fixture_prepare(h.s);
    CHECK_INT(lvr_zygote_send(h.z, child, NULL, 0, &mark), 0);
    error = lvr_zygote_wait_until(h.z, child, NULL, 0, &mark, soon(), &pid);
    if (error == 0) (void)end_of(&h, child);
  }
  CHECK_INT(error, -EAGAIN);
  lvri_store_release_u32(&h.told->forks_to_fail, 0);
  while (error == -EAGAIN) { /* while it still refuses */
    child = fixture_prepare(h.s);
    CHECK_INT(lvr_zygote_send(h.z, child, NULL, 0, &mark), 0);
    error = lvr_zygote_wait_until(h.z, child, NULL, 0, &mark, soon(), &pid);
  }
  CHECK_INT(error, 0);
  CHECK_INT(end_of(&h, child), 3);
  close_house(&h);
}

TEST(a_zygote_whose_spares_all_die_gives_up) {
  struct house h = open_house_where_spares_die(UINT32_MAX);
  lvr_proc_id child = fixture_prepare(h.s);
  int32_t pid;
  int error = lvr_zygote_send(h.z, child, NULL, 0, &mark);
  if (!error) error = lvr_zygote_wait_until(h.z, child, NULL, 0, &mark, soon(), &pid);
  CHECK_INT(error, -EOWNERDEAD);
  CHECK_INT(test_join(h.pid), BARREN);
  CHECK(!lvr_zygote_is_ready(h.z));
  CHECK(lvri_load_acquire_u32(&h.told->spares_forked) < MANY);
  CHECK_INT(lvr_proc_withdraw(h.s, child), 0);
  leave_house(&h);
}

TEST(a_few_spares_that_die_are_made_up_for) {
  struct house h = open_house_where_spares_die(5);
  int32_t pid;
  CHECK_INT(end_of(&h, give_birth(&h, LEAVE, NULL, 0, &pid)), 3);
  CHECK(lvr_zygote_is_ready(h.z));
  close_house(&h);
}

/* 0, or why it is refused; *ret_child is to be forgotten, or is withdrawn. */
static int ask_for_birth(const struct house *h, lvr_proc_id *ret_child) {
  int32_t pid;
  *ret_child = fixture_prepare(h->s);
  int error = lvr_zygote_send(h->z, *ret_child, NULL, 0, &mark);
  if (error) return error;
  return lvr_zygote_wait_until(h->z, *ret_child, NULL, 0, &mark, soon(), &pid);
}

TEST(a_few_spares_that_cannot_receive_are_made_up_for) {
  struct house h = open_house_where(0, 5, 0);
  int32_t pid;
  CHECK_INT(end_of(&h, give_birth(&h, LEAVE, NULL, 0, &pid)), 3);
  CHECK_INT(lvr_zygote_unheard(h.z), ENOMEM);
  CHECK(lives(h.pid));
  close_house(&h);
}

/* Each request, or what was sent again of one, has a few forks; before the first there are as
 * many. */
TEST(spares_that_cannot_receive_are_not_forked_for_ever) {
  struct house h = open_house_where(0, UINT32_MAX, 0);
  lvr_proc_id child;
  await(&h.told->spares_forked, 8);
  await_spares(&h, 0);
  for (uint32_t i = 1; i <= 3; i++) {
    CHECK_INT(ask_for_birth(&h, &child), -EIO);
    CHECK_INT(lvr_zygote_unheard(h.z), ENOMEM);
    await_spares(&h, 0);
    CHECK(lvri_load_acquire_u32(&h.told->spares_forked) < (i + 1) * MANY);
  }
  lvri_store_release_u32(&h.told->deaf_spares, 0);
  CHECK_INT(ask_for_birth(&h, &child), 0);
  CHECK_INT(end_of(&h, child), 3);
  await_spares(&h, LVRI_SPARES_LEAST);
  close_house(&h);
}

TEST(a_zygote_that_cannot_receive_either_gives_up_when_it_is_asked) {
  struct house h = open_house_where(0, UINT32_MAX, 1);
  lvr_proc_id child;
  await(&h.told->spares_forked, 8);
  await_spares(&h, 0);
  CHECK_INT(ask_for_birth(&h, &child), -EOWNERDEAD);
  CHECK_INT(test_join(h.pid), DEAF);
  CHECK_INT(lvr_zygote_unheard(h.z), ENOMEM);
  CHECK_INT(lvr_proc_withdraw(h.s, child), 0);
  leave_house(&h);
}

/* It tries again when something has changed. */
TEST(a_zygote_that_cannot_fork_sleeps) {
  struct house h = open_house();
  int32_t pid;
  await(&h.told->rehearsals, 1);
  await_spares(&h, LVRI_SPARES_LEAST);
  lvri_store_release_u32(&h.told->forks_to_fail, 1);
  for (uint32_t i = 1; i <= 2; i++) {
    CHECK_INT(end_of(&h, give_birth(&h, LEAVE, NULL, 0, &pid)), 3);
    await(&h.told->forks_refused, i);
  }
  CHECK(lvri_load_acquire_u32(&h.told->forks_refused) < 12);
  lvri_store_release_u32(&h.told->forks_to_fail, 0);
  CHECK_INT(end_of(&h, give_birth(&h, LEAVE, NULL, 0, &pid)), 3);
  await_spares(&h, LVRI_SPARES_LEAST);
  close_house(&h);
}

/* --- deaths -------------------------------------------------------------------------------- */

TEST(the_zygote_says_how_a_child_died) {
  struct house h = open_house();
  int32_t pid;
  CHECK_INT(end_of(&h, give_birth(&h, DIE, NULL, 0, &pid)), -SIGUSR1);
  lvr_proc_id child = give_birth(&h, STAY, NULL, 0, &pid);
  await(&h.told->births, 2);
  CHECK_INT(kill(pid, SIGTERM), 0);
  CHECK_INT(end_of(&h, child), -SIGTERM);
  close_house(&h);
}

TEST(a_dead_zygote_is_told_and_another_takes_the_birth_over) {
  struct house h = open_house();
  lvr_proc_id child = fixture_prepare(h.s);
  int32_t pid;
  CHECK_INT(kill(h.pid, SIGSTOP), 0);
  while (lvr_zygote_spares(h.z) > 0) /* they are born; no others come */
    (void)end_of(&h, give_birth(&h, LEAVE, NULL, 0, &pid));
  CHECK_INT(lvr_zygote_send(h.z, child, NULL, 0, &mark), 0);
  CHECK_INT(kill(h.pid, SIGKILL), 0);
  CHECK_INT(lvr_zygote_wait_until(h.z, child, NULL, 0, &mark, soon(), &pid), -EOWNERDEAD);
  CHECK_INT(test_join(h.pid), -SIGKILL);
  CHECK_INT(lvr_zygote_send(h.z, child, NULL, 0, &mark), -EOWNERDEAD);
  lvr_zygote_free(h.z);
  make_zygote(&h);
  CHECK_INT(lvr_zygote_send(h.z, child, NULL, 0, &mark), 0);
  CHECK_INT(lvr_zygote_wait_until(h.z, child, NULL, 0, &mark, soon(), &pid), 0);
  CHECK_INT(end_of(&h, child), 3);
  close_house(&h);
}

/* Runs in a process that is killed: tells its zygote's pid and those of a
 * daemon and another child. */
struct family {
  _Atomic int32_t zygote, daemon, other;
};

static void be_a_maker(void *argument) {
  struct family *family = argument;
  struct house h = open_house();
  int32_t pid;
  lvr_proc_id daemon;
  CHECK_INT(lvr_proc_prepare(h.s, LVR_PROC_DAEMON, &daemon), 0);
  lvri_store_release_u32(&h.told->task, STAY);
  CHECK_INT(lvr_zygote_send(h.z, daemon, NULL, 0, &mark), 0);
  CHECK_INT(lvr_zygote_wait_until(h.z, daemon, NULL, 0, &mark, soon(), &pid), 0);
  atomic_store(&family->daemon, pid);
  (void)give_birth(&h, STAY, NULL, 0, &pid);
  await(&h.told->births, 2);
  atomic_store(&family->zygote, h.pid);
  atomic_store(&family->other, pid);
  for (;;)
    (void)pause();
}

/* Who is left is a child of the test once its parent has been joined: /proc calls a process dead
 * while a thread of it, such as a sanitizer's, still has the children. */
TEST(the_zygote_and_daemons_end_with_the_maker_others_do_not) {
  struct family *family = test_shared(sizeof(*family));
  CHECK_INT(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  pid_t maker = test_fork(be_a_maker, family);
  while (!atomic_load(&family->other))
    lvri_os_yield();
  test_kill(maker);
  CHECK_INT(test_join(atomic_load(&family->zygote)), 0);
  CHECK_INT(test_join(atomic_load(&family->daemon)), -SIGKILL);
  CHECK(lives(atomic_load(&family->other)));
  test_kill(atomic_load(&family->other));
}

TEST(a_retired_zygote_ends_with_its_last_child) {
  struct house h = open_house();
  int32_t pid;
  lvr_proc_id child = give_birth(&h, STAY, NULL, 0, &pid);
  await(&h.told->births, 1);
  CHECK_INT(lvr_zygote_retire(h.z), 0);
  while (lvr_zygote_spares(h.z) > 0)
    lvri_os_yield();
  CHECK_INT(end_of(&h, give_birth(&h, LEAVE, NULL, 0, &pid)), 3); /* as its children may ask */
  CHECK(lives(h.pid));
  struct lvr_proc_info info;
  CHECK_INT(lvr_proc_info(h.s, child, &info), 0);
  CHECK_INT(kill(info.pid, SIGTERM), 0);
  CHECK_INT(end_of(&h, child), -SIGTERM);
  CHECK_INT(test_join(h.pid), 0);
  CHECK_INT(lvr_zygote_retire(h.z), -ESRCH);
  leave_house(&h);
}

TEST(quiet_shrinks_the_stock) {
  struct house h = open_house();
  lvr_proc_id children[MANY];
  int32_t pid;
  for (int i = 0; i < MANY; i++)
    children[i] = give_birth(&h, LEAVE, NULL, 0, &pid);
  for (int i = 0; i < MANY; i++)
    CHECK_INT(end_of(&h, children[i]), 3);
  while (lvr_zygote_spares(h.z) > LVRI_SPARES_LEAST)
    lvri_os_yield();
  CHECK_INT(end_of(&h, give_birth(&h, LEAVE, NULL, 0, &pid)), 3);
  close_house(&h);
}

static uint32_t cards(const struct house *h, enum lvri_card_state state) {
  uint32_t found = 0;
  for (uint32_t i = 0; i < LVRI_DESK_CARDS; i++)
    found += lvri_load_acquire_u32(&h->z->desk->zd_cards[i].zc_state) == state;
  return found;
}

static void await_empty_stock(const struct house *h) {
  int64_t deadline_ns = soon();
  while (cards(h, LVRI_CARD_FREE) != LVRI_DESK_CARDS) {
    CHECK(lvri_os_now_ns() < deadline_ns);
    lvri_os_yield();
  }
}

/* The zygote sleeps, with a spare for a request that waits; and then the child was born already. */
static void ask_a_retired_one_in_vain(bool spare_dies) {
  struct house h = open_house();
  int32_t pid;
  lvr_proc_id child = give_birth(&h, STAY, NULL, 0, &pid);
  CHECK_INT(lvr_zygote_retire(h.z), 0);
  await_empty_stock(&h);
  lvri_store_release_u32(&h.told->hold_spares, 1);
  lvri_store_release_u32(&h.told->die_in_vain, spare_dies);
  CHECK_INT(lvr_zygote_send(h.z, child, NULL, 0, &mark), 0);
  await_spares(&h, 1);
  lvri_store_release_u32(&h.told->hold_spares, 0);
  await_empty_stock(&h);
  CHECK_INT(kill(pid, SIGTERM), 0);
  CHECK_INT(end_of(&h, child), -SIGTERM);
  CHECK_INT(test_join(h.pid), 0);
  leave_house(&h);
}

TEST(a_retired_zygote_keeps_no_spare_that_was_asked_in_vain) {
  ask_a_retired_one_in_vain(false);
  ask_a_retired_one_in_vain(true);
}

static void kill_spares(const struct house *h) {
  for (uint32_t i = 0; i < LVRI_DESK_CARDS; i++) {
    const struct lvri_card *card = &h->z->desk->zd_cards[i];
    int32_t pid = (int32_t)lvri_load_relaxed_u32(&card->zc_pid);
    if (pid && lvri_load_acquire_u32(&card->zc_state) == LVRI_CARD_IDLE) (void)kill(pid, SIGKILL);
  }
}

/* Who is killed before it waits is held against the zygote. */
static void await_waiting(const struct house *h) {
  int64_t deadline_ns = soon();
  for (uint32_t i = 0; i < LVRI_DESK_CARDS; i++) {
    const struct lvri_card *card = &h->z->desk->zd_cards[i];
    while (lvri_load_acquire_u32(&card->zc_state) == LVRI_CARD_IDLE &&
           !lvri_load_relaxed_u32(&card->zc_waits))
      CHECK(lvri_os_now_ns() < deadline_ns);
  }
}

/* All spares are held before they wait. False: the stock has not grown, or it may have shrunk again
 * meanwhile, which takes it a quiet second. */
static bool hold_a_grown_stock(const struct house *h) {
  int64_t since_ns = lvri_os_now_ns();
  lvri_store_release_u32(&h->told->hold_spares, 0);
  have_many_born(h);
  await_waiting(h);
  bool grown = lvr_zygote_spares(h->z) > LVRI_SPARES_LEAST;
  lvri_store_release_u32(&h->told->hold_spares, 1);
  kill_spares(h);
  return grown && lvri_os_now_ns() - since_ns < INT64_C(1000000000);
}

/* Spares are dismissed while they do not wait yet, and do not notice. */
TEST(a_spare_that_overheard_its_dismissal_is_told_again) {
  struct house h = open_house();
  int64_t deadline_ns = soon();
  while (!hold_a_grown_stock(&h))
    CHECK(lvri_os_now_ns() < deadline_ns);
  while (cards(&h, LVRI_CARD_LEAVE) == 0)
    CHECK(lvri_os_now_ns() < deadline_ns);
  lvri_store_release_u32(&h.told->hold_spares, 0);
  while (cards(&h, LVRI_CARD_LEAVE) > 0 || cards(&h, LVRI_CARD_IDLE) > LVRI_SPARES_LEAST)
    CHECK(lvri_os_now_ns() < deadline_ns);
  close_house(&h);
}
