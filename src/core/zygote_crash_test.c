/* Births while zygotes, spares and callers are killed at each crash point:
 * whoever asks for a birth gets one, once. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/crashpoint.h"
#include "core/slots.h"
#include "leveret/zygote.h"
#include "os/os.h"
#include "testing/fixture.h"
#include "testing/test.h"

enum { STATUS = 7, BIRTHS = 3, PATIENCE_S = 10 };

/* Shared with all that is born. */
struct tally {
  char died_at[64];
  _Atomic uint32_t born;
  _Atomic uint32_t spares;
};

enum victim { THE_ZYGOTE, THE_FIRST_SPARE, THE_CALLER };

struct house {
  lvr_session *s;
  struct tally *tally;
  lvr_zygote *z;
  pid_t pid; /* of the zygote */
  enum victim victim;
  uint64_t nth; /* the hit that it dies at; 0: no more */
};

static uint32_t mark; /* of the last request */

static int64_t soon(void) { return lvri_os_now_ns() + PATIENCE_S * INT64_C(1000000000); }

/* --- zygotes ---------------------------------------------------------------------------------- */

static void arm(const struct house *h, bool victim) {
  lvri_crashpoint_report_to(h->tally->died_at);
  lvri_crashpoint_arm(victim && h->nth ? LVRI_CRASH_KILL : LVRI_CRASH_OFF, NULL, h->nth);
}

static void begin_as_spare(void *house) {
  const struct house *h = house;
  bool first = lvri_fetch_add_relaxed_u32(&h->tally->spares, 1) == 0;
  arm(h, h->victim == THE_FIRST_SPARE && first);
}

_Noreturn static void serve(struct house *h, const struct lvr_zygote_seat *seat) {
  const struct lvr_zygote_service service = {
      .spares_least = 1, .spares_most = 2, .context = h, .spare = begin_as_spare};
  struct lvr_birth birth;
  lvr_zygote *z;
  arm(h, h->victim == THE_ZYGOTE);
  CHECK_INT(lvr_proc_adopt(h->s, seat->id), 0);
  CHECK_INT(lvr_zygote_open(h->s, seat, &z), 0);
  int part = lvr_zygote_serve(z, &service, &birth);
  CHECK(part == 0 || part == 1);
  if (part == 0) {
    CHECK_INT(birth.error, 0);
    (void)lvri_fetch_add_relaxed_u32(&h->tally->born, 1);
    lvr_proc_announce(h->s, STATUS);
  }
  _exit(0);
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

static bool zygote_is_over(const struct house *h) {
  siginfo_t info = {.si_pid = 0};
  CHECK(waitid(P_PID, (id_t)h->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0);
  return info.si_pid != 0;
}

/* Its slot may still be an embryo's. */
static void end_zygote(struct house *h) {
  (void)kill(h->pid, SIGKILL);
  CHECK_INT(test_join(h->pid), -SIGKILL);
  int error = lvr_proc_withdraw(h->s, lvr_zygote_id(h->z));
  CHECK(error == 0 || error == -EBUSY || error == -ESRCH);
  lvr_zygote_free(h->z);
}

/* --- births ----------------------------------------------------------------------------------- */

static int ask(const struct house *h, lvr_proc_id child, int32_t *ret_pid) {
  int error = lvr_zygote_send(h->z, child, NULL, 0, &mark);
  return error ? error : lvr_zygote_wait_until(h->z, child, NULL, 0, &mark, soon(), ret_pid);
}

/* As a caller does: if the zygote died, make another and ask that one for the same birth. */
static void give_birth(struct house *h, lvr_proc_id child, int32_t *ret_pid) {
  int error = ask(h, child, ret_pid);
  while (error == -EOWNERDEAD) {
    end_zygote(h);
    h->nth = 0;
    make_zygote(h);
    error = ask(h, child, ret_pid);
  }
  CHECK_INT(error, 0);
}

/* Its own end, or that at a hit of its own, which its zygote tells, if that lives: the first that
 * was asked, for what the others give birth to is not armed. */
static void check_end(const struct house *h, lvr_proc_id child, lvr_proc_id zygote,
                      uint32_t born_before) {
  int32_t status = 0;
  int error = lvr_proc_wait_status_until(h->s, child, zygote, soon(), &status);
  uint32_t born = lvri_load_relaxed_u32(&h->tally->born) - born_before;
  CHECK(error == 0 || error == -ENODATA);
  CHECK(born <= 1);
  if (error == 0) CHECK(status == STATUS || status == -SIGKILL);
  if (error == 0 && status == STATUS) CHECK_INT(born, 1);
}

/* The zygote has reaped it, or is over itself. */
static void await_burial(const struct house *h, int32_t pid) {
  while (!zygote_is_over(h) && lvri_os_signal(pid, 0) == 0)
    lvri_os_yield();
}

static void one_birth(struct house *h) {
  uint32_t born = lvri_load_relaxed_u32(&h->tally->born);
  lvr_proc_id child = fixture_prepare(h->s), zygote = lvr_zygote_id(h->z);
  int32_t pid = 0;
  give_birth(h, child, &pid);
  CHECK(pid > 0);
  check_end(h, child, zygote, born);
  CHECK_INT(lvr_proc_forget(h->s, child), 0);
  if (lvr_zygote_id(h->z) == zygote) await_burial(h, pid);
}

static void ask_for_one(struct house *h) {
  lvr_proc_id child = fixture_prepare(h->s);
  int32_t pid = 0, status = 0;
  CHECK_INT(ask(h, child, &pid), 0);
  CHECK_INT(lvr_proc_wait_status_until(h->s, child, lvr_zygote_id(h->z), soon(), &status), 0);
  CHECK_INT(status, STATUS);
  CHECK_INT(lvr_proc_forget(h->s, child), 0);
}

static void call(void *house) {
  arm(house, true);
  ask_for_one(house);
  lvri_crashpoint_arm(LVRI_CRASH_OFF, NULL, 0);
}

/* What the dead one has asked for is nobody's any more, be it born or not; its zygote goes on. */
static void birth_beside_a_dead_caller(struct house *h) {
  int status = test_join(test_fork(call, h));
  CHECK(status == 0 || status == -SIGKILL);
  ask_for_one(h);
  CHECK(lvri_load_relaxed_u32(&h->tally->born) <= 2);
}

/* The last ones may just be letting go of their alive words. */
static void check_nothing_left(lvr_session *s) {
  struct lvr_session_stats stats;
  do {
    CHECK(lvr_repair(s) >= 0);
    stats = fixture_stats(s);
  } while (stats.slots_over + stats.slots_kept > 0 || stats.slots_running > 1);
  CHECK_INT(stats.slots_embryo, 0);
  fixture_check(s);
}

/* How many of the children that came to us when their zygote died: to be reaped. */
static void reap_orphans(void) {
  while (waitpid(-1, NULL, 0) > 0)
    continue;
}

/* False: nobody died. */
static bool births_with_death(struct house *h, enum victim victim, uint64_t nth) {
  h->s = fixture_session();
  h->victim = victim;
  h->nth = nth;
  memset(h->tally, 0, sizeof(*h->tally));
  make_zygote(h);
  for (int i = 0; i < BIRTHS && victim != THE_CALLER; i++)
    one_birth(h);
  if (victim == THE_CALLER) birth_beside_a_dead_caller(h);
  end_zygote(h);
  reap_orphans();
  test_context("hit %llu: %s", (unsigned long long)nth, h->tally->died_at);
  check_nothing_left(h->s);
  lvr_session_detach(h->s);
  return h->tally->died_at[0] != '\0';
}

enum { PASSES = 4 };

/* How often it died: at each of its hits, until it comes through. How much the zygote does, and
 * when, depends on who was first: so once is not enough for that, nor may one pass be for a death
 * at each of the points. */
static unsigned kill_at_each_hit(enum victim victim, const char *const *points, unsigned n_points) {
  struct house h = {.tally = test_shared(sizeof(struct tally))};
  unsigned deaths = 0, quiet = 0, seen = 0, passes = 0;
  const unsigned all = (1U << n_points) - 1;
  CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
  for (uint64_t nth = 1; quiet < 3; nth++) {
    test_context("hit %llu", (unsigned long long)nth);
    quiet = births_with_death(&h, victim, nth) ? 0 : quiet + 1;
    deaths += quiet == 0;
    for (unsigned i = 0; i < n_points; i++)
      if (strcmp(h.tally->died_at, points[i]) == 0) seen |= 1U << i;
    if (quiet == 3 && seen != all && ++passes < PASSES) nth = quiet = 0;
  }
  test_context("%u deaths", deaths);
  CHECK_INT(seen, all);
  return deaths;
}

TEST_WITHIN(births_survive_the_deaths_of_zygotes, 120) {
  static const char *const points[] = {"fork.prepared", "zygote.bury"};
  CHECK(kill_at_each_hit(THE_ZYGOTE, points, 2) > 20);
}

TEST_WITHIN(births_survive_the_deaths_of_spares, 120) {
  static const char *const points[] = {"spare.taken", "slots.adopt.born", "spare.adopted",
                                       "session.resigned"};
  CHECK(kill_at_each_hit(THE_FIRST_SPARE, points, 4) > 20);
}

TEST_WITHIN(births_survive_the_deaths_of_callers, 120) {
  static const char *const points[] = {"birth.send", "birth.sent"};
  CHECK(kill_at_each_hit(THE_CALLER, points, 2) > 20);
}
