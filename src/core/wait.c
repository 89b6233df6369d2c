#include "core/wait.h"

#include "base/atomic.h"
#include "core/repair.h"
#include "core/session.h"
#include "core/slots.h"
#include "os/os.h"

/* A spin is SPIN_PAUSES looks at the word at most: one to two microseconds, what a sleep and a
 * wake-up cost. How it went lately is kept per process: `luck` rises with each spin that ended in
 * time and falls with each that did not. Without luck only every SPIN_RETRY-th spin is made, to
 * find out whether times have changed. */
#define SPIN_PAUSES 40u
#define SPIN_RETRY  16u
#define LUCK_MAX    64u
#define LUCK_GAIN   4u /* a spin that succeeds saves much more than one that fails costs */

static _Atomic uint32_t processors; /* 0: not asked yet */
static _Atomic uint32_t luck = LUCK_MAX / 2;
static _Atomic uint32_t unlucky_calls;

#ifdef LVRI_TESTING
int64_t lvri_relook_ns = 50000000;
#endif

static bool alone(void) {
  uint32_t count = lvri_load_relaxed_u32(&processors);
  if (count == 0) {
    count = (uint32_t)lvri_os_cpu_count();
    lvri_store_relaxed_u32(&processors, count);
  }
  return count < 2;
}

static bool worth_trying(void) {
  if (alone()) return false;
  if (lvri_load_relaxed_u32(&luck) > 0) return true;
  return lvri_fetch_add_relaxed_u32(&unlucky_calls, 1) % SPIN_RETRY == 0;
}

/* Threads may overwrite each other's count: it is a guess anyway. */
static void note_luck(bool lucky) {
  uint32_t now = lvri_load_relaxed_u32(&luck);
  if (lucky)
    lvri_store_relaxed_u32(&luck, now + LUCK_GAIN > LUCK_MAX ? LUCK_MAX : now + LUCK_GAIN);
  else if (now > 0)
    lvri_store_relaxed_u32(&luck, now - 1);
}

bool lvri_spin(lvr_session *s, _Atomic uint32_t *word, uint32_t expected) {
  return lvri_spin_for(s, word, expected, SPIN_PAUSES);
}

bool lvri_spin_for(lvr_session *s, _Atomic uint32_t *word, uint32_t expected, unsigned pauses) {
  (void)s;
  if (!worth_trying()) return false;
  for (unsigned i = 0; i < pauses; i++) {
    lvri_cpu_relax();
    if (lvri_load_relaxed_u32(word) != expected) {
      note_luck(true);
      return true;
    }
  }
  note_luck(false);
  return false;
}

int lvri_wake(_Atomic uint32_t *word, int count) {
  int woken = lvri_os_futex_wake(word, count);
  return woken < 0 ? 0 : woken;
}

/* One sleep on one or two words. */
static int sleep_once(_Atomic uint32_t *word, uint32_t expected, _Atomic uint32_t *alive,
                      uint32_t alive_expected, int64_t until_ns) {
  if (!alive) return lvri_os_futex_wait(word, expected, until_ns);
  int error = lvri_os_futex_wait2(word, expected, alive, alive_expected, until_ns);
  if (error == -ENOSYS) error = lvri_os_futex_wait(word, expected, until_ns);
  return error;
}

/* After a sleep: the kernel told one waiter only of a death, whoever looks tells the others. Who
 * waits for nobody in particular repairs whoever is dead: it may be what he waits for. */
static void look_after(lvr_session *s, lvr_proc_id watch, bool thoroughly) {
  if (!watch) {
    if (thoroughly) (void)lvri_slots_sweep(&s->arena);
    return;
  }
  if (thoroughly)
    (void)lvri_slot_alive_thoroughly(&s->arena, watch);
  else
    (void)lvri_slot_alive(&s->arena, watch);
}

int lvri_wait(lvr_session *s, _Atomic uint32_t *word, uint32_t expected, lvr_proc_id watch,
              int64_t deadline_ns) {
  int64_t now_ns = lvri_os_now_ns();
  if (deadline_ns <= now_ns) return -ETIMEDOUT;
  lvri_session_rearm(s);
  uint32_t alive_expected = 0;
  _Atomic uint32_t *alive = NULL;
  if (watch) {
    alive = lvri_slot_alive_word(&s->arena, watch, &alive_expected);
    if (!alive) return 0; /* it is dead: the caller sees that */
  }
  bool last = deadline_ns - now_ns <= LVRI_RELOOK_NS;
  int64_t until_ns = last ? deadline_ns : now_ns + LVRI_RELOOK_NS;
  int error = sleep_once(word, expected, alive, alive_expected, until_ns);
  look_after(s, watch, error == -ETIMEDOUT);
  if (error == -EINTR) return error;
  return error == -ETIMEDOUT && last ? error : 0;
}

int lvri_wait_any(lvr_session *s, const struct lvri_os_word *words, unsigned count,
                  int64_t deadline_ns) {
  int64_t now_ns = lvri_os_now_ns();
  if (deadline_ns <= now_ns) return -ETIMEDOUT;
  lvri_session_rearm(s);
  bool last = deadline_ns - now_ns <= LVRI_RELOOK_NS;
  int64_t until_ns = last ? deadline_ns : now_ns + LVRI_RELOOK_NS;
  int error = lvri_os_futex_wait_any(words, count, until_ns);
  if (error == -ENOSYS) error = lvri_os_futex_wait(words[0].word, words[0].expected, until_ns);
  if (error == -EINTR) return error;
  return error == -ETIMEDOUT && last ? error : 0;
}
