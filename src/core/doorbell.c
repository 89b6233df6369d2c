/* Who rings, and when, against who arms:
 *
 *   who puts                                     who polls, having found nothing
 *   takes the put mutex                          empties his socket
 *   looks at the bell: ARMED?                    sets de_armed, ARMED
 *     rings whoever is armed, takes ARMED away   fence
 *   publishes the message                        looks: the put mutex held? then: a message? then:
 *   gives the mutex back                         de_armed or ARMED taken away? rings himself
 *
 * Taking a mutex is a read and a write, so it is a fence: of "the mutex is taken" and "ARMED is
 * set" one is seen by the other side. If the ringer sees ARMED, the socket is readable before
 * there is a message; if the poller sees the mutex taken, his socket stays readable, and he looks
 * again. Wherever the ringer is killed, the socket is readable or nobody ever sees a message of
 * his.
 *
 * The poller looks in this order. A ringer who had the mutex, did not see ARMED, and has given the
 * mutex back when the poller looks at it, has published his message by then. One who saw what was
 * armed before, rang for that, and takes it away when the poller has armed anew, has done so by
 * then as well; and if he has not published anything, because he could not or was killed, the
 * poller is not armed, and nobody will ring him.
 *
 * The death of whoever can put is told by a pidfd. One living holder of the other end is enough,
 * for the end is closed only once all are gone; when he dies the next one is looked for. A holder
 * that gives his handle back and lives on is seen by nobody but himself: so he rings, if he is
 * the one that is watched. If this process can put itself nobody is watched; lvr_pipe_detach()
 * looks again when it gives that handle back. If the end is on its way, in a message or to a
 * process that is not born yet, a timer has us look again.
 *
 * Too often (there is nothing after all):
 *   a ringer is killed before his message is out, or is still at it
 *   a process that is watched is gone, or has given its handle back, and others have the end
 *   another process has got the message, or polls the same end, too
 *   the timer */
#include "core/doorbell.h"

#include <errno.h>
#include <stdlib.h>

#include "base/atomic.h"
#include "base/crashpoint.h"
#include "core/channel_inner.h"
#include "core/holder.h"
#include "core/repair.h"
#include "core/session.h"
#include "core/slots.h"
#include "core/wait.h"
#include "os/os.h"

static struct lvri_arena *arena_of(const struct lvri_channel *c) {
  return &c->handle->session->arena;
}

static struct lvri_doorbells *table_at(struct lvri_arena *a, lvri_off off) {
  return lvri_at(a, off);
}

static struct lvri_doorbell_entry *entry_of(const struct lvri_channel *c,
                                            const struct lvri_doorbell *d) {
  return lvri_at(arena_of(c), d->entry);
}

/* Calls visit for each entry that has an owner; until one returns an error. */
typedef int (*visit_entry)(struct lvri_arena *a, struct lvri_doorbell_entry *entry,
                           lvr_proc_id who);

static int each_entry(struct lvri_arena *a, struct lvri_channel_shm *shm, visit_entry visit,
                      lvr_proc_id who) {
  for (lvri_off at = shm->ch_doorbells; at; at = table_at(a, at)->dt_next) {
    struct lvri_doorbell_entry *entries = table_at(a, at)->dt_entries;
    for (uint32_t i = 0; i < LVRI_DOORBELLS; i++) {
      if (!lvri_load_acquire_u64(&entries[i].de_owner)) continue;
      int error = visit(a, &entries[i], who);
      if (error) return error;
    }
  }
  return 0;
}

/* --- ringing ------------------------------------------------------------------------------- */

/* Nobody is there: the owner is dead, which its slot will tell, or out of reach for ever. */
static int ring_entry(struct lvri_arena *a, struct lvri_doorbell_entry *entry, lvr_proc_id who) {
  (void)who;
  const struct lvri_os_chime chime = {entry->de_name, entry->de_secret};
  if (!lvri_load_acquire_u32(&entry->de_armed)) return 0;
  if (lvri_slot_alive(a, lvri_load_relaxed_u64(&entry->de_owner))) {
    int error = lvri_os_doorbell_ring(&chime);
    if (error && error != -ECONNREFUSED) return error;
  }
  LVR_CRASHPOINT("doorbell.ring.rung");
  lvri_store_release_u32(&entry->de_armed, 0);
  return 0;
}

int lvri_doorbell_ring(struct lvri_arena *a, struct lvri_channel_shm *shm) {
  int error = each_entry(a, shm, ring_entry, 0);
  if (error) return error;
  (void)lvri_fetch_and_acq_rel_u32(&shm->ch_items, ~LVRI_BELL_ARMED);
  LVR_CRASHPOINT("doorbell.ring.done");
  return 0;
}

/* One who cannot be told now (there can be no more processes) is told by the death of this process,
 * which he watches. */
void lvri_doorbell_ring_closed(struct lvri_arena *a, struct lvri_channel_shm *shm) {
  (void)each_entry(a, shm, ring_entry, 0);
}

/* Who is rung may look at once: so he is told by then that he watches nobody. That is not undone
 * with the transaction of one who dies before he rings. Whoever does it again finds 0, and rings:
 * a ring too many for who just waits for the timer. */
static int ring_if_watching(struct lvri_arena *a, struct lvri_doorbell_entry *entry,
                            lvr_proc_id who) {
  const struct lvri_os_chime chime = {entry->de_name, entry->de_secret};
  lvr_proc_id owner = lvri_load_relaxed_u64(&entry->de_owner);
  lvr_proc_id watched = lvri_load_relaxed_u64(&entry->de_watched);
  if (owner == who || (watched && watched != who)) return 0;
  lvri_store_relaxed_u64(&entry->de_watched, 0);
  LVR_CRASHPOINT("doorbell.left.noted");
  if (lvri_slot_alive(a, owner)) (void)lvri_os_doorbell_ring(&chime);
  LVR_CRASHPOINT("doorbell.left.rung");
  return 0;
}

void lvri_doorbell_left_locked(struct lvri_arena *a, struct lvri_channel_shm *shm,
                               lvr_proc_id who) {
  (void)each_entry(a, shm, ring_if_watching, who);
}

/* --- whom to watch ------------------------------------------------------------------------- */

/* The pidfd of a process that was alive once we had it: so it is of no other. -1: none. */
static int open_pidfd(struct lvri_arena *a, lvr_proc_id id) {
  const struct lvri_slot *slot = lvri_slot_of(a, id);
  if (!slot) return -1;
  int fd = lvri_os_pidfd_open((int32_t)lvri_load_relaxed_u32(&slot->sl_pid));
  if (fd >= 0 && lvri_slot_alive(a, id)) return fd;
  lvri_os_close(fd < 0 ? -1 : fd);
  return -1;
}

static void stop_watching(struct lvri_doorbell *d) {
  if (d->pidfd >= 0) lvri_os_pollset_remove(d->set, d->pidfd);
  lvri_os_close(d->pidfd);
  d->pidfd = -1;
  d->watched = 0;
}

/* In the guard, so that a holder who leaves sees that he is watched, or we that he has left. */
static lvr_proc_id choose(struct lvri_channel *c, struct lvri_doorbell *d) {
  struct lvri_arena *a = arena_of(c);
  struct lvri_guard *g = lvri_arena_guard(a);
  if (lvri_guard_enter(a, g) != 0) return d->owner; /* all is lost anyway */
  lvr_proc_id holder = lvri_holder_find_locked(a, c->putters, d->owner);
  lvri_store_relaxed_u64(&entry_of(c, d)->de_watched, holder);
  lvri_guard_leave(a, g);
  return holder;
}

/* Holders that are dead are repaired, till one is found that lives; it may be ourselves. */
static void watch_somebody(struct lvri_channel *c, struct lvri_doorbell *d) {
  stop_watching(d);
  for (unsigned tries = 0; tries < 16 && !lvri_channel_readable(c->shm); tries++) {
    lvr_proc_id holder = choose(c, d);
    if (!holder || holder == d->owner) {
      d->watched = holder;
      break;
    }
    d->pidfd = open_pidfd(arena_of(c), holder);
    if (d->pidfd >= 0 && lvri_os_pollset_add(d->set, d->pidfd) == 0) {
      d->watched = holder;
      break;
    }
    stop_watching(d);
    if (lvri_slot_repair(arena_of(c), holder) != 0) break; /* it lives, and cannot be watched */
  }
  if (!d->watched) lvri_os_timer_set(d->timer, lvri_os_now_ns() + LVRI_RELOOK_NS);
}

static void keep_watch(struct lvri_channel *c, struct lvri_doorbell *d) {
  lvr_proc_id watched = lvri_load_relaxed_u64(&entry_of(c, d)->de_watched);
  lvri_os_timer_set(d->timer, LVRI_FOREVER);
  if (watched && watched == d->watched && lvri_slot_alive(arena_of(c), watched) &&
      (watched != d->owner || lvri_holder_is_self(c->handle->session, c->putters)))
    return;
  if (d->watched && d->watched != d->owner) (void)lvri_slot_repair(arena_of(c), d->watched);
  watch_somebody(c, d);
  LVR_CRASHPOINT("doorbell.watching");
}

/* --- arming -------------------------------------------------------------------------------- */

/* What its last holder did is seen after that, if it is not held. */
static bool is_held(struct lvri_mutex *m) {
  return lvri_load_acquire_u32(lvri_mutex_word(m)) & LVRI_MUTEX_TID;
}

static void ring_own(struct lvri_channel *c, struct lvri_doorbell *d) {
  if (lvri_os_doorbell_ring_own(d->socket, &d->chime) == 0)
    lvri_store_release_u32(&entry_of(c, d)->de_armed, 0);
}

static bool is_armed(struct lvri_channel *c, struct lvri_doorbell *d) {
  return lvri_load_relaxed_u32(&entry_of(c, d)->de_armed) &&
         lvri_load_relaxed_u32(&c->shm->ch_items) & LVRI_BELL_ARMED;
}

/* The order matters: see above. */
static void arm(struct lvri_channel *c, struct lvri_doorbell *d) {
  lvri_store_release_u32(&entry_of(c, d)->de_armed, 1);
  (void)lvri_fetch_or_acq_rel_u32(&c->shm->ch_items, LVRI_BELL_ARMED);
  lvri_fence_seq(); /* pairs with the taking of the put mutex */
  LVR_CRASHPOINT("doorbell.armed");
  bool held = is_held(&c->shm->ch_put_mutex);
  LVR_CRASHPOINT("doorbell.looked");
  if (held || lvri_channel_readable(c->shm) || !is_armed(c, d)) ring_own(c, d);
}

static struct lvri_doorbell *ours(const struct lvri_channel *c) {
  struct lvri_doorbell *d = lvri_load_acquire_ptr(&c->doorbell);
  return d && d->owner == lvri_session_self(c->handle->session) ? d : NULL;
}

void lvri_doorbell_settle(struct lvri_channel *c) {
  struct lvri_doorbell *d = ours(c);
  if (!d || !d->entry) return;
  (void)pthread_mutex_lock(&d->mutex);
  if (!lvri_channel_readable(c->shm)) {
    lvri_os_doorbell_hush(d->socket); /* first: whom we watch may ring from then on */
    if (d->set >= 0) keep_watch(c, d);
    arm(c, d);
  }
  (void)pthread_mutex_unlock(&d->mutex);
}

/* --- registering: with the put mutex and the guard ----------------------------------------- */

static struct lvri_doorbell_entry *find_free(struct lvri_arena *a, lvri_off table) {
  for (; table; table = table_at(a, table)->dt_next) {
    struct lvri_doorbell_entry *entries = table_at(a, table)->dt_entries;
    for (uint32_t i = 0; i < LVRI_DOORBELLS; i++) {
      lvr_proc_id owner = lvri_load_relaxed_u64(&entries[i].de_owner);
      if (!owner || !lvri_slot_alive(a, owner)) return &entries[i];
    }
  }
  return NULL;
}

static int find_entry(struct lvri_arena *a, struct lvri_channel_shm *shm,
                      struct lvri_doorbell_entry **ret_entry) {
  lvri_off off;
  *ret_entry = find_free(a, shm->ch_doorbells);
  if (*ret_entry) return 0;
  int error = lvri_heap_alloc_locked(a, sizeof(struct lvri_doorbells), LVRI_KIND_PART, &off);
  if (error) return error;
  table_at(a, off)->dt_next = shm->ch_doorbells;
  lvri_set64(a, lvri_arena_guard(a), &shm->ch_doorbells, off);
  *ret_entry = table_at(a, off)->dt_entries;
  return 0;
}

static int enter_locked(struct lvri_channel *c, struct lvri_doorbell *d) {
  struct lvri_arena *a = arena_of(c);
  struct lvri_guard *g = lvri_arena_guard(a);
  struct lvri_doorbell_entry *entry;
  int error = find_entry(a, c->shm, &entry);
  if (error) return error;
  lvri_set64(a, g, &entry->de_name, d->chime.name);
  lvri_set64(a, g, &entry->de_secret, d->chime.secret);
  lvri_set32_shared(a, g, &entry->de_armed, 0);
  lvri_set64_shared(a, g, &entry->de_watched, 0);
  lvri_set64_shared(a, g, &entry->de_owner, d->owner);
  d->entry = lvri_off_in(a, entry);
  LVR_CRASHPOINT("doorbell.entered");
  return 0;
}

static int enter(struct lvri_channel *c, struct lvri_doorbell *d) {
  struct lvri_arena *a = arena_of(c);
  struct lvri_guard *g = lvri_arena_guard(a);
  int error = lvri_channel_lock_put(a, c->shm, true);
  if (error) return error;
  error = lvri_guard_enter(a, g);
  if (!error) {
    error = enter_locked(c, d);
    if (error)
      lvri_guard_abort(a, g);
    else
      lvri_guard_leave(a, g);
  }
  lvri_channel_unlock(&c->shm->ch_put_mutex);
  return error;
}

/* --- making and closing -------------------------------------------------------------------- */

/* In a forked child the set is its parent's, too: it is left alone. */
static void close_all(struct lvri_doorbell *d) {
  lvri_os_close(d->set);
  lvri_os_close(d->socket);
  lvri_os_close(d->pidfd);
  lvri_os_close(d->timer);
}

/* A channel that nobody's death can close has no set: its socket is polled itself. */
static int open_set(struct lvri_doorbell *d) {
  int error = 0;
  d->timer = lvri_os_timer_create();
  d->set = d->timer < 0 ? -1 : lvri_os_pollset_create();
  if (d->timer < 0 || d->set < 0) error = d->timer < 0 ? d->timer : d->set;
  if (!error) error = lvri_os_pollset_add(d->set, d->socket);
  if (!error) error = lvri_os_pollset_add(d->set, d->timer);
  d->timer = d->timer < 0 ? -1 : d->timer;
  d->set = d->set < 0 ? -1 : d->set;
  return error;
}

/* The end that can only put: its descriptor is never readable. */
static bool is_mute(const struct lvri_channel *c) {
  return c->getters && c->getters != c->handle->off;
}

static int open_all(struct lvri_channel *c, struct lvri_doorbell *d) {
  d->owner = lvri_session_self(c->handle->session);
  d->socket = lvri_os_doorbell_create(&d->chime);
  int error = d->socket < 0 ? d->socket : 0;
  d->socket = d->socket < 0 ? -1 : d->socket;
  if (!error && c->putters && !is_mute(c)) error = open_set(d);
  return error;
}

static void discard(struct lvri_doorbell *d) {
  if (!d) return;
  close_all(d);
  (void)pthread_mutex_destroy(&d->mutex);
  free(d);
}

static int make(struct lvri_channel *c, struct lvri_doorbell **ret_d) {
  struct lvri_doorbell *d = malloc(sizeof(*d));
  if (!d) return -ENOMEM;
  *d = (struct lvri_doorbell){.socket = -1, .set = -1, .pidfd = -1, .timer = -1};
  (void)pthread_mutex_init(&d->mutex, NULL);
  int error = open_all(c, d);
  if (!error && !is_mute(c)) error = enter(c, d);
  if (error)
    discard(d);
  else
    *ret_d = d;
  return error;
}

/* Who rings meanwhile rings at a door where nobody lives. */
static void close_ours(struct lvri_channel *c, struct lvri_doorbell *d) {
  if (d->entry) lvri_store_release_u64(&entry_of(c, d)->de_owner, 0);
  LVR_CRASHPOINT("doorbell.left");
  if (d->pidfd >= 0) stop_watching(d);
  discard(d);
}

/* Two threads may come at once: one of them throws his away again. */
static struct lvri_doorbell *install(struct lvri_channel *c, struct lvri_doorbell *made) {
  lvri_session_lock(c->handle->session);
  struct lvri_doorbell *d = ours(c), *old = lvri_load_acquire_ptr(&c->doorbell);
  if (!d) lvri_store_release_ptr(&c->doorbell, made);
  lvri_session_unlock(c->handle->session);
  if (d)
    close_ours(c, made);
  else
    discard(old); /* of the process that we were forked from */
  return d ? d : made;
}

int lvri_doorbell_fileno(struct lvri_channel *c, int *ret_fd) {
  struct lvri_doorbell *d = ours(c), *made;
  if (lvri_session_stale(c->handle->session)) return -ESTALE;
  if (!d) {
    int error = make(c, &made);
    if (error) return error;
    d = install(c, made);
    if (d->entry) ring_own(c, d);
    lvri_doorbell_settle(c);
  }
  *ret_fd = d->set >= 0 ? d->set : d->socket;
  return 0;
}

void lvri_doorbell_close(struct lvri_channel *c) {
  struct lvri_doorbell *d = ours(c);
  if (d)
    close_ours(c, d);
  else
    discard(lvri_load_acquire_ptr(&c->doorbell));
  lvri_store_release_ptr(&c->doorbell, NULL);
}

bool lvri_doorbell_drain_locked(struct lvri_arena *a, struct lvri_channel_shm *shm) {
  lvri_off table = shm->ch_doorbells;
  if (!table) return true;
  lvri_set64(a, lvri_arena_guard(a), &shm->ch_doorbells, table_at(a, table)->dt_next);
  lvri_heap_free_locked(a, table);
  return false;
}
