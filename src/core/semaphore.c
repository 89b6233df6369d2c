#include "core/semaphore.h"

#include "base/crashpoint.h"
#include "core/wait.h"

/* What an operation on held units works with. */
struct view {
  struct lvri_arena *a;
  struct lvri_guard *g;
  struct lvr_semaphore_shm *shm;
};

static struct view view_at(struct lvri_arena *a, lvri_off object) {
  return (struct view){a, lvri_arena_stripe(a, object), lvri_at(a, object)};
}

static struct view view_of(const lvr_semaphore *m) {
  return view_at(&m->handle.session->arena, m->handle.off);
}

static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

static uint32_t value_of(uint64_t word) { return (uint32_t)(word & LVRI_SEMAPHORE_VALUE); }

/* The half that is slept on: value and WAITERS. */
static _Atomic uint32_t *futex_half(struct lvr_semaphore_shm *shm) {
  _Atomic uint32_t *halves = (_Atomic uint32_t *)(void *)&shm->se_word;
  return halves + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__);
}

int lvr_semaphore_create(lvr_session *s, uint32_t value, uint32_t limit, lvr_semaphore **ret_m) {
  struct lvri_handle *h;
  if (limit == 0) limit = LVR_SEMAPHORE_MAX;
  if (limit > LVR_SEMAPHORE_MAX || value > limit) return -EINVAL;
  int error = lvri_object_create(s, LVRI_KIND_SEMAPHORE, sizeof(struct lvr_semaphore_shm), &h);
  if (error) return error;
  lvr_semaphore *m = (struct lvr_semaphore *)(void *)h;
  lvri_semaphore_shm(m)->se_limit = limit; /* nobody else knows it yet */
  lvri_store_release_u64(&lvri_semaphore_shm(m)->se_word, value);
  *ret_m = m;
  return 0;
}

int lvr_semaphore_attach(lvr_session *s, const lvr_ref *ref, lvr_semaphore **ret_m) {
  struct lvri_handle *h;
  int error = lvri_object_attach(s, ref, LVRI_KIND_SEMAPHORE, &h);
  if (!error) *ret_m = (struct lvr_semaphore *)(void *)h;
  return error;
}

/* The ledger entry stays as long as it has units. */
void lvr_semaphore_detach(lvr_semaphore *m) {
  if (m) lvri_object_detach(&m->handle);
}

void lvr_semaphore_ref(const lvr_semaphore *m, lvr_ref *ret_ref) {
  lvri_object_ref(&m->handle, ret_ref);
}

int lvr_semaphore_send(lvr_semaphore *m, lvr_ref *ret_ref) {
  return lvri_object_send(&m->handle, ret_ref);
}

/* --- in the guard ------------------------------------------------------------------------ */

/* Keeps swaps out until unlock(); the word without LOCKED. If it is LOCKED, a dead owner of the
 * guard left it so. */
static uint64_t lock_word(struct view v) {
  uint64_t word =
      lvri_fetch_or_acquire_u64(&v.shm->se_word, LVRI_SEMAPHORE_LOCKED); /* pairs with all swaps */
  LVR_CRASHPOINT("semaphore.word.locked");
  return word & ~LVRI_SEMAPHORE_LOCKED;
}

static void set_word(struct view v, uint64_t word) {
  lvri_set64_shared(v.a, v.g, &v.shm->se_word, word | LVRI_SEMAPHORE_LOCKED);
}

/* Commits, lets swaps in again, leaves. */
static void unlock(struct view v) {
  LVR_CRASHPOINT("semaphore.commit.before");
  lvri_guard_commit(v.a, v.g);
  LVR_CRASHPOINT("semaphore.commit.after");
  uint64_t word = lvri_load_relaxed_u64(&v.shm->se_word);
  lvri_store_release_u64(&v.shm->se_word, word & ~LVRI_SEMAPHORE_LOCKED);
  lvri_guard_leave(v.a, v.g);
}

/* Waits until the word is not LOCKED any more: for its owner, or instead of him. */
static int await_unlocked(struct view v) {
  int error = lvri_guard_enter(v.a, v.g);
  if (error) return error;
  (void)lock_word(v);
  unlock(v);
  return 0;
}

/* --- taking ------------------------------------------------------------------------------ */

/* One unit to be consumed. slept: set WAITERS, for others may be asleep, and tell one if there is
 * more. 0, -EAGAIN: there is none (*ret_word says so), -ENOTRECOVERABLE. */
static int take(lvr_semaphore *m, bool slept, uint64_t *ret_word) {
  struct view v = view_of(m);
  uint64_t word = lvri_load_relaxed_u64(&v.shm->se_word), next;
  do {
    while (word & LVRI_SEMAPHORE_LOCKED) {
      int error = await_unlocked(v);
      if (error) return error;
      word = lvri_load_relaxed_u64(&v.shm->se_word);
    }
    *ret_word = word;
    if (value_of(word) == 0) return -EAGAIN;
    next = (word - 1) | (slept ? LVRI_SEMAPHORE_WAITERS : 0);
  } while (!lvri_cas_acquire_u64(&v.shm->se_word, &word, next)); /* pairs with put() */
  LVR_CRASHPOINT("semaphore.take.taken");
  if (slept && value_of(next) != 0) (void)lvri_wake(futex_half(v.shm), 1);
  return 0;
}

/* The same, to be held. */
static int take_held(lvr_semaphore *m, bool slept, uint64_t *ret_word) {
  struct view v = view_of(m);
  struct lvri_ledger_entry *entry = lvri_handle_entry(&m->handle);
  if (!entry) return -ESTALE;
  int error = lvri_guard_enter(v.a, v.g);
  if (error) return error;
  uint64_t word = *ret_word = lock_word(v);
  error = value_of(word) == 0 ? -EAGAIN : 0;
  if (!error) {
    word = (word - 1) | (slept ? LVRI_SEMAPHORE_WAITERS : 0);
    lvri_set32(v.a, v.g, &entry->le_held, entry->le_held + 1);
    lvri_set32(v.a, v.g, &v.shm->se_held, v.shm->se_held + 1);
    set_word(v, word);
  }
  unlock(v);
  if (!error && slept && value_of(word) != 0) (void)lvri_wake(futex_half(v.shm), 1);
  return error;
}

static int take_either(lvr_semaphore *m, bool hold, bool slept, uint64_t *ret_word) {
  if (lvri_session_stale(m->handle.session)) return -ESTALE;
  return hold ? take_held(m, slept, ret_word) : take(m, slept, ret_word);
}

int lvr_semaphore_try(lvr_semaphore *m, bool hold) {
  uint64_t word;
  if (!hold && lvri_semaphore_take_fast(m)) return 0;
  int error = take_either(m, hold, false, &word);
  return error == -EAGAIN ? -EBUSY : error;
}

/* Sleeps while there is no unit, as `word` says. */
static int sleep_on(lvr_semaphore *m, uint64_t word, int64_t deadline_ns) {
  struct lvr_semaphore_shm *shm = lvri_semaphore_shm(m);
  if (!(word & LVRI_SEMAPHORE_WAITERS)) {
    uint64_t expected = word;
    word |= LVRI_SEMAPHORE_WAITERS;
    if (!lvri_cas_relaxed_u64(&shm->se_word, &expected, word)) return 0;
    LVR_CRASHPOINT("semaphore.take.waiting");
  }
  return lvri_wait(m->handle.session, futex_half(shm), (uint32_t)word, 0, deadline_ns);
}

static int acquire_slowly(lvr_semaphore *m, bool hold, int64_t deadline_ns) {
  bool spun = false;
  for (bool slept = false;;) {
    uint64_t word;
    int error = take_either(m, hold, slept, &word);
    if (error != -EAGAIN) return error;
    if (deadline_ns <= 0) return -ETIMEDOUT; /* it is only tried: nobody need wake us */
    if (!spun) {
      spun = true;
      if (lvri_spin(futex_half(lvri_semaphore_shm(m)), (uint32_t)word)) continue;
    }
    error = sleep_on(m, word, deadline_ns);
    if (error) return error;
    slept = true;
  }
}

int lvr_semaphore_acquire_until(lvr_semaphore *m, bool hold, int64_t deadline_ns) {
  if (!hold && lvri_semaphore_take_fast(m)) return 0;
  return acquire_slowly(m, hold, deadline_ns);
}

/* --- releasing --------------------------------------------------------------------------- */

/* Wakes one, if `word`, which we have just stored with a unit in it, says that somebody may be
 * asleep. If nobody is, takes WAITERS back; only from that very word, for nobody goes to sleep
 * while there are units. */
static void wake_one(struct lvr_semaphore_shm *shm, uint64_t word) {
  if (!(word & LVRI_SEMAPHORE_WAITERS)) return;
  if (lvri_wake(futex_half(shm), 1) == 0)
    (void)lvri_cas_relaxed_u64(&shm->se_word, &word, word & ~LVRI_SEMAPHORE_WAITERS);
}

/* Puts in one more unit. */
static int put(lvr_semaphore *m) {
  struct view v = view_of(m);
  uint64_t word = lvri_load_relaxed_u64(&v.shm->se_word);
  do {
    while (word & LVRI_SEMAPHORE_LOCKED) {
      int error = await_unlocked(v);
      if (error) return error;
      word = lvri_load_relaxed_u64(&v.shm->se_word);
    }
    if (value_of(word) >= v.shm->se_limit) return -EOVERFLOW;
  } while (!lvri_cas_release_u64(&v.shm->se_word, &word, word + 1)); /* pairs with take() */
  LVR_CRASHPOINT("semaphore.put.put");
  wake_one(v.shm, word + 1);
  return 0;
}

static void set_held(struct view v, uint32_t held, uint32_t strange) {
  lvri_set32(v.a, v.g, &v.shm->se_held, held);
  lvri_set32(v.a, v.g, &v.shm->se_strange, least(strange, held));
}

/* In the guard: strikes one held unit from our books; if we have none,
 * somebody else's is strange now. */
static void strike(struct view v, struct lvri_ledger_entry *entry) {
  uint32_t held = v.shm->se_held, strange = v.shm->se_strange;
  if (entry->le_held == 0) {
    set_held(v, held, strange + 1);
    return;
  }
  lvri_set32(v.a, v.g, &entry->le_held, entry->le_held - 1);
  set_held(v, held - 1, strange);
}

/* Puts a held unit back. One that came back by itself, its holder being dead, is found as a unit
 * too many. */
static int put_held(lvr_semaphore *m) {
  struct view v = view_of(m);
  struct lvri_ledger_entry *entry = lvri_handle_entry(&m->handle);
  if (!entry) return -ESTALE;
  int error = lvri_guard_enter(v.a, v.g);
  if (error) return error;
  uint64_t word = lock_word(v);
  bool room = value_of(word) < v.shm->se_limit, returned = !room && v.shm->se_returned != 0;
  if (room) {
    strike(v, entry);
    set_word(v, ++word);
  } else if (returned) {
    lvri_set32(v.a, v.g, &v.shm->se_returned, v.shm->se_returned - 1);
  }
  unlock(v);
  if (room) wake_one(v.shm, word);
  return room || returned ? 0 : -EOVERFLOW;
}

int lvr_semaphore_release(lvr_semaphore *m, bool held) {
  if (!held && lvri_semaphore_put_fast(m)) return 0;
  if (lvri_session_stale(m->handle.session)) return -ESTALE;
  return held ? put_held(m) : put(m);
}

uint32_t lvr_semaphore_value(const lvr_semaphore *m) {
  return value_of(lvri_load_relaxed_u64(&lvri_semaphore_shm(m)->se_word));
}

uint32_t lvr_semaphore_limit(const lvr_semaphore *m) { return lvri_semaphore_shm(m)->se_limit; }

/* --- the dead ---------------------------------------------------------------------------- */

/* What others have released of the dead one's units does not come back a second time. */
int lvri_semaphore_give_back(struct lvri_arena *a, lvri_off object, uint32_t *held) {
  struct view v = view_at(a, object);
  int error = lvri_guard_enter(a, v.g);
  if (error) return error;
  uint64_t word = lock_word(v);
  uint32_t gone = least(*held, v.shm->se_strange);
  uint32_t back = least(*held - gone, v.shm->se_limit - value_of(word));
  set_held(v, v.shm->se_held - *held, v.shm->se_strange - gone);
  lvri_set32(a, v.g, &v.shm->se_returned, v.shm->se_returned + back);
  lvri_set32(a, v.g, held, 0);
  set_word(v, word + back);
  unlock(v);
  if (back && (word & LVRI_SEMAPHORE_WAITERS)) (void)lvri_wake(futex_half(v.shm), (int)back);
  return 0;
}

bool lvri_semaphore_valid(struct lvri_arena *a, lvri_off object) {
  const struct lvr_semaphore_shm *shm = view_at(a, object).shm;
  uint64_t word = lvri_load_relaxed_u64(&shm->se_word);
  return value_of(word) <= shm->se_limit && shm->se_strange <= shm->se_held &&
         shm->se_limit <= LVR_SEMAPHORE_MAX && word < LVRI_SEMAPHORE_LOCKED << 1;
}
