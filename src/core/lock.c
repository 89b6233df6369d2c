/* lock.c - the long way into a lock and out of it.
 *
 * Nobody waiting, nobody dead: lock.h, one compare-and-swap each way. Else:
 *
 *   take    free or its holder dead?   swap in our name (+ A if somebody died), done
 *           a moment's spin, then W into the word, then sleep on the low half and the holder's
 *           alive word
 *   drop    swap the word to 0; if W was there, wake one
 *
 * Who has slept takes the lock with W set, for he cannot know whether others sleep. So as long as
 * somebody sleeps, there is W in the word, or somebody who was woken and not yet back, who will put
 * it there. Only if that one is killed the rest sleeps on, until the relook. Whoever comes first
 * gets the lock; one who was woken is not preferred, since handing over costs two switches a round.
 * Only if he has slept for HUNGRY_NS, the next one to release the lock waits for a moment until
 * it has been taken, so that who releases it and takes it again at once
 * does not starve the rest. */
#include "core/lock.h"

#include "base/crashpoint.h"
#include "core/slots.h"
#include "core/wait.h"
#include "os/os.h"

#define SPIN_TRIES  8                /* how often the lock may change hands while we spin */
#define HUNGRY_NS   INT64_C(5000000) /* 5 ms */
#define COURTESY_NS INT64_C(300000)  /* time enough to be woken and to take the lock */

static uint32_t object_kind(enum lvr_lock_kind kind) {
  return kind == LVR_RLOCK ? LVRI_KIND_RLOCK : LVRI_KIND_LOCK;
}

static bool recursive(const struct lvr_lock *l) { return l->handle.kind == LVRI_KIND_RLOCK; }

static uint64_t identity(uint64_t word) { return word & LVRI_OWNER_IDENTITY; }

/* The half that is slept on: slot, some of the generation, both bits. */
static _Atomic uint32_t *futex_half(struct lvr_lock *l) {
  _Atomic uint32_t *halves = (_Atomic uint32_t *)(void *)lvri_lock_word(l);
  return halves + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__);
}

int lvr_lock_create(lvr_session *s, enum lvr_lock_kind kind, lvr_lock **ret_l) {
  if (kind != LVR_LOCK && kind != LVR_RLOCK) return -EINVAL;
  struct lvri_handle *h;
  int error = lvri_object_create(s, object_kind(kind), sizeof(struct lvr_lock_shm), &h);
  if (!error) *ret_l = (struct lvr_lock *)(void *)h;
  return error;
}

int lvr_lock_attach(lvr_session *s, const lvr_ref *ref, lvr_lock **ret_l) {
  struct lvri_handle *h;
  if (ref->kind != LVRI_KIND_LOCK && ref->kind != LVRI_KIND_RLOCK) return -EINVAL;
  int error = lvri_object_attach(s, ref, ref->kind, &h);
  if (!error) *ret_l = (struct lvr_lock *)(void *)h;
  return error;
}

void lvr_lock_detach(lvr_lock *l) {
  if (l) lvri_object_detach(&l->handle);
}

void lvr_lock_ref(const lvr_lock *l, lvr_ref *ret_ref) { lvri_object_ref(&l->handle, ret_ref); }

int lvr_lock_send(lvr_lock *l, lvr_ref *ret_ref) { return lvri_object_send(&l->handle, ret_ref); }

enum lvr_lock_kind lvr_lock_kind(const lvr_lock *l) { return recursive(l) ? LVR_RLOCK : LVR_LOCK; }

/* Whether `word` says that the lock can be had: nobody holds it, or somebody dead. */
static bool to_be_had(struct lvri_arena *a, uint64_t word) {
  return lvri_owner_index(word) == 0 || !lvri_owner_alive(a, word);
}

static _Atomic uint32_t *hungry(const struct lvr_lock *l) {
  return &((struct lvr_lock_shm *)(void *)l->handle.object)->lo_hungry;
}

/* Puts our name over `word`, which is to be had, keeping what must be kept and W if `slept`.
 * 0, 1: taken from the dead, -EAGAIN: the word was another. */
static int take_over(struct lvr_lock *l, uint64_t own, uint64_t word, bool slept) {
  uint64_t next = own | (word & LVRI_OWNER_BITS);
  if (slept) next |= LVRI_OWNER_WAITERS;
  if (lvri_owner_index(word) != 0) next |= LVRI_OWNER_ABANDONED;
  uint64_t expected = word;
  if (!lvri_cas_acquire_u64(lvri_lock_word(l), &expected, next)) return -EAGAIN;
  LVR_CRASHPOINT("lock.take.taken");
  lvri_lock_note_taker(l, own);
  if (!(next & LVRI_OWNER_ABANDONED)) return 0;
  lvri_store_relaxed_u32(&l->dead_pid, (uint32_t)lvri_owner_pid(word));
  return 1;
}

/* Sleeps until the lock, taken by a living process as `word` says, may have changed. */
static int sleep_on(struct lvr_lock *l, uint64_t own, uint64_t word, int64_t deadline_ns) {
  lvr_session *s = l->handle.session;
  if (!(word & LVRI_OWNER_WAITERS)) {
    uint64_t expected = word;
    word |= LVRI_OWNER_WAITERS;
    if (!lvri_cas_relaxed_u64(lvri_lock_word(l), &expected, word)) return 0;
    LVR_CRASHPOINT("lock.take.waiting");
  }
  lvr_proc_id watch =
      identity(word) == own ? 0 : lvri_owner_id(&s->arena, word); /* we outlive nothing of ours */
  return lvri_wait(s, futex_half(l), (uint32_t)word, watch, deadline_ns);
}

/* Spins while the lock is in use, now and then; not once we have slept, and not for ever. */
static bool spin_on(struct lvr_lock *l, uint64_t word, unsigned *tries) {
  return ++*tries <= SPIN_TRIES && lvri_spin(futex_half(l), (uint32_t)word);
}

/* Before the next sleep: since when have we slept in vain? */
static void complain(struct lvr_lock *l, int64_t *since_ns) {
  int64_t now_ns = lvri_os_now_ns();
  if (*since_ns == 0) *since_ns = now_ns;
  if (now_ns - *since_ns > HUNGRY_NS) lvri_store_relaxed_u32(hungry(l), 1);
}

static int take_slowly(struct lvr_lock *l, int64_t deadline_ns) {
  lvr_session *s = l->handle.session;
  int64_t since_ns = 0;
  unsigned tries = 0;
  for (;;) {
    uint64_t own = lvri_owner_word(s); /* again each time: a signal handler may have forked */
    if (own == 0) return -ESTALE;
    uint64_t word = lvri_load_relaxed_u64(lvri_lock_word(l));
    if (to_be_had(&s->arena, word)) {
      int got = take_over(l, own, word, since_ns != 0);
      if (got != -EAGAIN) return got;
      continue;
    }
    if (deadline_ns <= 0) return -ETIMEDOUT; /* it is only tried: nobody need wake us */
    if (since_ns == 0 && spin_on(l, word, &tries)) continue;
    complain(l, &since_ns);
    int error = sleep_on(l, own, word, deadline_ns);
    if (error) return error;
  }
}

/* Takes an RLock of this thread's once more; -EAGAIN: it is not this thread's. */
static int retake(struct lvr_lock *l) {
  if (!recursive(l) || !lvr_lock_is_mine(l)) return -EAGAIN;
  return lvri_rlock_retake_fast(l) ? 0 : -EOVERFLOW;
}

int lvr_lock_try(lvr_lock *l) {
  int got = retake(l);
  if (got != -EAGAIN) return got;
  if (lvri_lock_take_fast(l)) return 0;
  for (;;) {
    uint64_t own = lvri_owner_word(l->handle.session);
    if (own == 0) return -ESTALE;
    uint64_t word = lvri_load_relaxed_u64(lvri_lock_word(l));
    if (!to_be_had(&l->handle.session->arena, word)) return -EBUSY;
    got = take_over(l, own, word, false);
    if (got != -EAGAIN) return got;
  }
}

int lvr_lock_acquire_until(lvr_lock *l, int64_t deadline_ns) {
  int got = retake(l);
  if (got != -EAGAIN) return got;
  if (lvri_lock_take_fast(l)) return 0;
  return take_slowly(l, deadline_ns);
}

/* Somebody was woken who has not got the lock for long: he may go first, if he comes. */
static void be_courteous(struct lvr_lock *l) {
  int64_t until_ns = lvri_os_now_ns() + COURTESY_NS;
  lvri_store_relaxed_u32(hungry(l), 0); /* he will complain again if this was in vain */
  while (lvri_owner_index(lvri_load_relaxed_u64(lvri_lock_word(l))) == 0 &&
         lvri_os_now_ns() < until_ns)
    lvri_os_yield();
}

/* Makes the taken lock free, but keeps the mark if it is to, and wakes one.
 * The caller may do so. */
static int drop(struct lvr_lock *l, bool keep_abandoned) {
  uint64_t word = lvri_load_relaxed_u64(lvri_lock_word(l)), next;
  do {
    if (lvri_owner_index(word) == 0) return -EINVAL;
    next = 0;
    if (keep_abandoned && (word & LVRI_OWNER_ABANDONED))
      next = LVRI_OWNER_ABANDONED | (uint64_t)lvri_load_relaxed_u32(&l->dead_pid) << 32;
  } while (!lvri_cas_release_u64(lvri_lock_word(l), &word, next)); /* pairs with take_over() */
  LVR_CRASHPOINT("lock.drop.dropped");
  if (!(word & LVRI_OWNER_WAITERS)) return 0;
  if (lvri_wake(futex_half(l), 1) != 0 && lvri_load_relaxed_u32(hungry(l))) be_courteous(l);
  return 0;
}

/* Releases the lock however often it was taken. */
static int drop_whole(struct lvr_lock *l, bool keep_abandoned) {
  if (lvri_session_stale(l->handle.session)) return -ESTALE;
  if (recursive(l) && !lvr_lock_is_mine(l)) return -EPERM;
  lvri_store_relaxed_u64(&l->thread, 0);
  return drop(l, keep_abandoned);
}

int lvr_lock_release(lvr_lock *l) {
  bool dropped = recursive(l) ? lvri_rlock_drop_fast(l) : lvri_lock_drop_fast(l);
  return dropped ? 0 : drop_whole(l, false);
}

int lvr_lock_release_abandoned(lvr_lock *l) { return drop_whole(l, true); }

int lvr_lock_release_all(lvr_lock *l, uint32_t *ret_count) {
  uint32_t count = recursive(l) ? lvri_load_relaxed_u32(&l->count) : 1;
  int error = drop_whole(l, false);
  if (!error) *ret_count = count;
  return error;
}

int lvr_lock_restore(lvr_lock *l, uint32_t count) {
  int got = lvri_lock_take_fast(l) ? 0 : take_slowly(l, LVR_FOREVER);
  if (got >= 0) lvri_store_relaxed_u32(&l->count, count);
  return got;
}

lvr_proc_id lvr_lock_owner(const lvr_lock *l) {
  return lvri_owner_id(&l->handle.session->arena, lvri_load_relaxed_u64(lvri_lock_word(l)));
}

bool lvr_lock_is_mine(const lvr_lock *l) {
  uint64_t own = lvri_owner_word(l->handle.session);
  return own != 0 && identity(lvri_load_relaxed_u64(lvri_lock_word(l))) == own &&
         lvri_lock_noted_mine(l, own);
}

uint32_t lvr_lock_count(const lvr_lock *l) {
  uint64_t own = lvri_owner_word(l->handle.session);
  if (own == 0 || identity(lvri_load_relaxed_u64(lvri_lock_word(l))) != own) return 0;
  return recursive(l) ? lvri_load_relaxed_u32(&l->count) : 1;
}

bool lvr_lock_abandoned(const lvr_lock *l) {
  uint64_t word = lvri_load_relaxed_u64(lvri_lock_word(l));
  if (word & LVRI_OWNER_ABANDONED) return true;
  return lvri_owner_index(word) != 0 && !lvri_owner_alive(&l->handle.session->arena, word);
}

int32_t lvr_lock_abandoned_pid(const lvr_lock *l) {
  uint64_t word = lvri_load_relaxed_u64(lvri_lock_word(l));
  if (lvri_owner_index(word) == 0) return lvri_owner_pid(word);
  if (!lvri_owner_alive(&l->handle.session->arena, word)) return lvri_owner_pid(word);
  return (word & LVRI_OWNER_ABANDONED) ? (int32_t)lvri_load_relaxed_u32(&l->dead_pid) : 0;
}
