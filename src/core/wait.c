/* wait.c - spinning, sleeping, waking.
 *
 * Why a wait that is old may sleep long. What a relook has to find was left unsaid by a process
 * that was killed between its store and its wake-up, or between being woken and passing that on. A
 * wait that sleeps on the alive word of every process is woken by that death, looks, repairs, and
 * has its caller look: it finds the same, and sooner. For:
 *
 *   - All who could have done something since our caller looked are slept on. The count of births
 *     and burials that we compare is the one from before he looked (note_calm()). Who was RUNNING
 *     then still is, or lies dead and unburied, and we do not sleep long, or was buried, and the
 *     count differs. Who is born after it counts it up, and wakes us, before he can do anything.
 *   - The kernel compares all words as it begins to sleep: who dies after we have found him alive
 *     wakes us, or does not let us sleep.
 *   - The kernel wakes one of those who sleep on a dead process's word. He tells the others, also
 *     if it was something else that woke him; if he is killed before, his own death wakes another,
 *     who finds both.
 *
 * A young wait sleeps on its own words alone, for every other one costs some 100 ns, and each birth
 * and each death wakes those who sleep long: they are young again then.
 *
 * Nobody is told of these, and the longer relook is for them: a process whose address space the
 * kernel took for want of memory before it could find the words to mark (before 5.18); a thread
 * that wrote over its list of mutexes; a process that was *stopped* when it should have passed a
 * wake-up on. What else the kernel would not tell keeps all waits young: see watch() in slots.c. */
#include "core/wait.h"

#include "base/atomic.h"
#include "base/crashpoint.h"
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
int64_t lvri_relook_most_ns = 512 * INT64_C(50000000);
int64_t lvri_slept_before_ns = 0;
#else
#define lvri_slept_before_ns 0
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

bool lvri_spin(const _Atomic uint32_t *word, uint32_t expected) {
  return lvri_spin_for(word, expected, SPIN_PAUSES);
}

bool lvri_spin_for(const _Atomic uint32_t *word, uint32_t expected, unsigned pauses) {
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

/* --- sleeping ------------------------------------------------------------------------------ */

#define AGING 7 /* an old wait's next look, over what it has slept: it is 8 times as old then */

/* One sleep. words[0] is the caller's; ids[i]: whose alive word words[i] is, 0: nobody's. */
struct sleep {
  lvr_session *session;
  const lvr_proc_id *watch;
  unsigned watched;
  bool aside;
  bool is_long; /* on everybody's word */
  unsigned count;
  struct lvri_os_word words[LVRI_OS_WORDS_MAX];
  lvr_proc_id ids[LVRI_OS_WORDS_MAX];
};

/* What this thread slept on last; since when nothing has happened there; and how many births and
 * burials there had been when that sleep ended. That a wait was here before, which has long ended,
 * makes this one old at once, and is no harm. */
static _Thread_local struct {
  struct lvri_os_word word;
  int64_t since_ns;
  uint32_t changes;
} calm;

static struct lvri_arena *arena_of(const struct sleep *p) { return &p->session->arena; }

static int64_t calm_for(const struct sleep *p, int64_t now_ns) {
  if (calm.word.word != p->words[0].word || calm.word.expected != p->words[0].expected) {
    calm.word = p->words[0];
    calm.since_ns = now_ns - lvri_slept_before_ns;
    calm.changes = lvri_slots_changes(arena_of(p));
  }
  return now_ns - calm.since_ns;
}

/* Our caller is about to look. */
static void note_calm(const struct sleep *p, int error) {
  if (error == -ETIMEDOUT)
    calm.changes = lvri_slots_changes(arena_of(p));
  else if (error != -EINTR)
    calm.word.word = NULL;
}

/* Caller's word and those that he watches. False: one of them is over. */
static bool set_short(struct sleep *p) {
  p->is_long = false;
  p->count = 1;
  for (unsigned i = 0; i < p->watched && p->count < LVRI_OS_WORDS_MAX; i++) {
    struct lvri_os_word *word = &p->words[p->count];
    word->word = lvri_slot_alive_word(arena_of(p), p->watch[i], &word->expected);
    if (!word->word) return false;
    p->ids[p->count++] = p->watch[i];
  }
  return true;
}

/* Caller's word and everybody's. */
static bool set_long(struct sleep *p) {
  unsigned others = 0;
  if (!lvri_os_futex_has_wait2()) return false;
  lvr_proc_id self = lvri_session_self(p->session);
  int error = lvri_slots_watch(arena_of(p), self, calm.changes, LVRI_OS_WORDS_MAX - 1, p->words + 1,
                               p->ids + 1, &others);
  if (error == -ESRCH && !p->aside) (void)lvri_slots_sweep(arena_of(p));
  p->count = 1 + others;
  p->is_long = error == 0;
  return p->is_long;
}

/* Until the relook; 0: one of those who are watched is over. */
static int64_t prepare(struct sleep *p, int64_t now_ns, int64_t deadline_ns) {
  int64_t calm_ns = calm_for(p, now_ns);
  bool is_old = calm_ns >= LVRI_RELOOK_NS && deadline_ns - now_ns > LVRI_RELOOK_NS;
  if (is_old && set_long(p)) {
    int64_t next_ns = AGING * calm_ns;
    return next_ns < LVRI_RELOOK_MOST_NS ? next_ns : LVRI_RELOOK_MOST_NS;
  }
  return set_short(p) ? LVRI_RELOOK_NS : 0;
}

/* Where the kernel has no sleep on many words, on one, and not for long. */
static int sleep_until(const struct sleep *p, int64_t now_ns, int64_t until_ns) {
  int error = -ENOSYS;
  if (p->count > 1) error = lvri_os_futex_wait_any(p->words, p->count, until_ns);
  if (error != -ENOSYS) return error;
  if (p->is_long && until_ns - now_ns > LVRI_RELOOK_NS) until_ns = now_ns + LVRI_RELOOK_NS;
  return lvri_os_futex_wait(p->words[0].word, p->words[0].expected, until_ns);
}

static bool is_watched(const struct sleep *p, lvr_proc_id id) {
  for (unsigned i = 0; i < p->watched; i++)
    if (p->watch[i] == id) return true;
  return false;
}

/* Tells the others of the deaths that we slept through or were woken by: the kernel told one. True:
 * somebody died whom our caller does not know of. */
static bool tell_of_the_dead(const struct sleep *p) {
  bool strangers = false;
  for (unsigned i = 1; i < p->count; i++)
    if (p->ids[i] && !lvri_slot_alive(arena_of(p), p->ids[i]) && !is_watched(p, p->ids[i]))
      strangers = true;
  return strangers;
}

/* Who waits for nobody in particular repairs whoever is dead: it may be what he waits for. To ask
 * the kernel is dear, so an old wait does it at its longest relooks only. */
static void look_after(const struct sleep *p, bool relook, bool thoroughly) {
  bool strangers = tell_of_the_dead(p);
  for (unsigned i = 0; relook && thoroughly && i < p->watched; i++)
    (void)lvri_slot_alive_thoroughly(arena_of(p), p->watch[i]);
  if (!p->aside && (strangers || (relook && p->watched == 0))) (void)lvri_slots_sweep(arena_of(p));
}

static int sleep_once(struct sleep *p, int64_t deadline_ns) {
  int64_t now_ns = lvri_os_now_ns();
  if (deadline_ns <= now_ns) return -ETIMEDOUT;
  int64_t relook_ns = prepare(p, now_ns, deadline_ns);
  if (relook_ns == 0) return 0;
  int64_t until_ns = deadline_ns - now_ns <= relook_ns ? deadline_ns : now_ns + relook_ns;
  int error = sleep_until(p, now_ns, until_ns);
  LVR_CRASHPOINT("wait.woken");
  look_after(p, error == -ETIMEDOUT, !p->is_long || relook_ns == LVRI_RELOOK_MOST_NS);
  note_calm(p, error);
  if (error == -ETIMEDOUT) return lvri_os_now_ns() >= deadline_ns ? error : 0;
  return error == -EINTR ? error : 0;
}

int lvri_wait_any(lvr_session *s, _Atomic uint32_t *word, uint32_t expected,
                  const lvr_proc_id *watch, unsigned count, int64_t deadline_ns) {
  struct sleep p; /* not {0}: it is large, and the start of it is used as a rule */
  p.session = s;
  p.watch = watch;
  p.watched = count;
  p.aside = false;
  p.words[0] = (struct lvri_os_word){word, expected};
  lvri_session_rearm(s);
  return sleep_once(&p, deadline_ns);
}

int lvri_wait(lvr_session *s, _Atomic uint32_t *word, uint32_t expected, lvr_proc_id watch,
              int64_t deadline_ns) {
  return lvri_wait_any(s, word, expected, &watch, watch != 0, deadline_ns);
}

int lvri_wait_aside(lvr_session *s, _Atomic uint32_t *word, uint32_t expected, lvr_proc_id watch,
                    int64_t deadline_ns) {
  struct sleep p;
  p.session = s;
  p.watch = &watch;
  p.watched = watch != 0;
  p.aside = true;
  p.words[0] = (struct lvri_os_word){word, expected};
  return sleep_once(&p, deadline_ns);
}
