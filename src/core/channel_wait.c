/* Who waits at a bell, and who wakes him.
 *
 *   sleeper                                 ringer
 *   sets SLEEPER in the bell                stores tail (or head)
 *   fence                                   fence
 *   looks: nothing there                    looks at the bell: SLEEPER
 *   sleeps while the bell is as it was      counts the bell up, SLEEPER taken away; wakes one
 *
 * By the fences one of the two sees the other's store, so nobody sleeps with a message in front of
 * him that nobody told him of; and whoever is about to sleep when the bell is counted does not.
 *
 * With SLEEPER taken away others may still be asleep. The one who was woken has that in his hands:
 * he sets it again before he looks, and if he leaves something behind that another could have, he
 * wakes the next. If he is killed before, the others look by themselves: see wait.h.
 *
 * Who spins takes SLEEPER away as if he had been woken, with the same duties: so what comes while
 * he watches is his, and wakes nobody else for nothing. */
#include <errno.h>

#include "base/crashpoint.h"
#include "core/channel_inner.h"
#include "core/doorbell.h"
#include "core/holder.h"
#include "core/repair.h"
#include "core/slots.h"
#include "core/wait.h"

/* Longer than for a lock, which is held for less than an answer takes: a peer that is a Python
 * program needs one to three microseconds to make one. This is some five, still less than it costs
 * two processes to put each other to sleep. docs/design/messages.md has the figures. */
#define SPIN_PAUSES 200u

/* Adds the fence that lvri_channel_is_awaited() pairs with. */
static uint32_t arm(_Atomic uint32_t *bell) {
  uint32_t was = lvri_fetch_or_acq_rel_u32(bell, LVRI_BELL_SLEEPER);
  lvri_fence_seq();
  return was | LVRI_BELL_SLEEPER;
}

uint32_t lvri_channel_arm(struct lvri_channel *c) { return arm(&c->shm->ch_items); }

static void ring(_Atomic uint32_t *bell, int sleepers) {
  uint32_t was = lvri_load_relaxed_u32(bell);
  while (!lvri_cas_acq_rel_u32(bell, &was, (was + LVRI_BELL_RING) & ~LVRI_BELL_SLEEPER)) {
  }
  LVR_CRASHPOINT("channel.ring.counted");
  if (was & LVRI_BELL_SLEEPER) (void)lvri_wake(bell, sleepers);
  LVR_CRASHPOINT("channel.ring.woken");
}

void lvri_channel_ring_items(struct lvri_channel_shm *shm) { ring(&shm->ch_items, 1); }

/* Room in bytes may be too little for the one who is woken, and enough for another. */
void lvri_channel_ring_room(struct lvri_channel_shm *shm) {
  ring(&shm->ch_room, shm->ch_most_units ? INT32_MAX : 1);
}

/* Waiting for something at a bell: what is looked at, and what changes with it. */
struct waiting {
  struct lvri_channel *channel;
  _Atomic uint32_t *bell;
  _Atomic uint32_t *count; /* of the other side: what is watched for a moment before a sleep */
  bool (*is_there)(const struct waiting *w);
  const struct lvri_put *put;
  uint32_t mark;
  bool slept;
  bool took_bell;     /* we were woken, or have spun: others may sleep, and SLEEPER be taken away */
  lvr_proc_id holder; /* who has been found to be able to put; 0: not looked for */
};

static bool is_somebody_else(struct lvri_channel *c, lvr_proc_id who) {
  return who && who != lvri_session_self(c->handle->session);
}

/* The process whose death changes what we wait for: who put last, or else, of a pipe, anybody who
 * can put. One is enough, for the end is closed only with the last of them, and when one is dead
 * we look for the next. 0: nobody. Who waits for room has the relook. */
static lvr_proc_id whom_to_watch(struct waiting *w) {
  struct lvri_channel *c = w->channel;
  lvr_session *s = c->handle->session;
  lvr_proc_id writer = lvri_load_relaxed_u64(&c->shm->ch_writer);
  if (w->bell != &c->shm->ch_items) return 0;
  if (c->putter) return is_somebody_else(c, c->putter) ? c->putter : 0;
  if (is_somebody_else(c, writer) && lvri_slot_alive(&s->arena, writer)) return writer;
  if (c->putters && !w->holder) w->holder = lvri_holder_find(s, c->putters);
  return is_somebody_else(c, w->holder) ? w->holder : 0;
}

/* The dead are repaired: the end of a pipe may have been theirs. Who slept in vain while he
 * watched one looks at all: it may have been another's. */
static void look_after(struct waiting *w, lvr_proc_id watched, uint32_t armed) {
  struct lvri_arena *a = &w->channel->handle->session->arena;
  if (watched && !lvri_slot_alive(a, watched)) {
    (void)lvri_slot_repair(a, watched);
    w->holder = 0;
  } else if (watched && lvri_load_relaxed_u32(w->bell) == armed) {
    (void)lvri_slots_sweep(a);
  }
}

static int sleep_at(struct waiting *w, uint32_t armed, int64_t deadline_ns) {
  lvr_proc_id watch = whom_to_watch(w);
  int error = lvri_wait(w->channel->handle->session, w->bell, armed, watch, deadline_ns);
  look_after(w, watch, armed);
  return error;
}

static bool is_readable(const struct waiting *w) { return lvri_channel_readable(w->channel->shm); }

static bool has_room(const struct waiting *w) {
  return lvri_channel_has_room(w->channel->shm, w->put);
}

static _Atomic uint32_t *count_half(_Atomic uint64_t *word) {
  return (_Atomic uint32_t *)(void *)word + 1; /* little-endian */
}

static struct waiting for_message(struct lvri_channel *c, uint32_t mark) {
  return (struct waiting){.channel = c,
                          .mark = mark,
                          .bell = &c->shm->ch_items,
                          .count = count_half(&c->shm->ch_tail),
                          .is_there = is_readable};
}

static struct waiting for_room(struct lvri_channel *c, const struct lvri_put *put, uint32_t mark) {
  return (struct waiting){.channel = c,
                          .mark = mark,
                          .bell = &c->shm->ch_room,
                          .count = count_half(&c->shm->ch_head),
                          .is_there = has_room,
                          .put = put};
}

static bool is_cancelled(const struct waiting *w) {
  return lvri_channel_mark(w->channel) != w->mark;
}

/* The only one who puts is over. What he put is there still: look once more. */
static bool is_abandoned(const struct waiting *w) {
  const struct lvri_channel *c = w->channel;
  return c->putter && w->bell == &c->shm->ch_items &&
         !lvri_slot_alive(&c->handle->session->arena, c->putter);
}

/* Watches for a moment before a sleep, in place of those who sleep already. */
static bool spin(struct waiting *w) {
  uint32_t count = lvri_load_relaxed_u32(w->count);
  if (w->is_there(w)) return true;
  if (lvri_load_relaxed_u32(w->bell) & LVRI_BELL_SLEEPER) {
    (void)lvri_fetch_and_acq_rel_u32(w->bell, ~LVRI_BELL_SLEEPER);
    w->took_bell = true;
  }
  LVR_CRASHPOINT("channel.wait.spins");
  bool changed = lvri_spin_for(w->count, count, SPIN_PAUSES);
  if (changed && w->took_bell) (void)arm(w->bell);
  return changed;
}

/* After a try that failed: sleeps, or finds that another try is worth while. 0, -ETIMEDOUT, -EINTR,
 * -ECANCELED, -ESTALE, -EPIPE. */
static int wait_more(struct waiting *w, int64_t deadline_ns) {
  if (lvri_session_stale(w->channel->handle->session)) return -ESTALE;
  if (w->is_there(w)) return 0;
  if (is_abandoned(w)) return w->is_there(w) ? 0 : -EPIPE;
  if (is_cancelled(w)) return -ECANCELED;
  if (deadline_ns == 0) return -ETIMEDOUT;
  if (!w->slept && spin(w)) return 0;
  LVR_CRASHPOINT("channel.wait.looked");
  uint32_t armed = arm(w->bell);
  if (w->is_there(w)) return 0;
  if (is_cancelled(w)) return -ECANCELED; /* later ones change the bell */
  LVR_CRASHPOINT("channel.wait.armed");
  int error = sleep_at(w, armed, deadline_ns);
  LVR_CRASHPOINT("channel.wait.woken");
  w->slept = w->took_bell = true;
  (void)arm(w->bell);
  return error;
}

/* We were told, perhaps, of something that another can have now. */
static void pass_on(const struct waiting *w) {
  if (!w->took_bell || !w->is_there(w)) return;
  if (!lvri_channel_is_awaited(w->bell)) return;
  if (w->bell == &w->channel->shm->ch_items)
    lvri_channel_ring_items(w->channel->shm);
  else
    lvri_channel_ring_room(w->channel->shm);
}

int lvri_channel_put_since_until(struct lvri_channel *c, const struct lvri_put *put, uint32_t mark,
                                 int64_t deadline_ns) {
  static const struct lvri_put least = {.bytes = 0};
  struct waiting w = for_room(c, put, mark);
  int error;
  do {
    error = lvri_channel_try_put(c, put, true);
    if (error == -EAGAIN) {
      int waited = wait_more(&w, deadline_ns);
      if (waited) error = waited;
    }
  } while (error == -EAGAIN);
  w.put = &least; /* what another may have room for; and our block is the reader's now */
  pass_on(&w);
  return error;
}

int lvri_channel_put_until(struct lvri_channel *c, const struct lvri_put *put,
                           int64_t deadline_ns) {
  return lvri_channel_put_since_until(c, put, lvri_channel_mark(c), deadline_ns);
}

int lvri_channel_get_by(struct lvri_channel *c, lvri_channel_try *try_get, void *context,
                        uint32_t mark, int64_t deadline_ns) {
  struct waiting w = for_message(c, mark);
  int error;
  do {
    error = try_get(c, context);
    if (error == -EAGAIN) {
      int waited = wait_more(&w, deadline_ns);
      if (waited) error = waited;
    }
  } while (error == -EAGAIN);
  pass_on(&w);
  return error;
}

static int try_get_one(struct lvri_channel *c, void *message) {
  return lvri_channel_try_get(c, message, true);
}

int lvri_channel_get_since_until(struct lvri_channel *c, struct lvr_message *ret_m, uint32_t mark,
                                 int64_t deadline_ns) {
  return lvri_channel_get_by(c, try_get_one, ret_m, mark, deadline_ns);
}

int lvri_channel_get_until(struct lvri_channel *c, struct lvr_message *ret_m, int64_t deadline_ns) {
  return lvri_channel_get_since_until(c, ret_m, lvri_channel_mark(c), deadline_ns);
}

bool lvri_channel_spin(struct lvri_channel *c) {
  struct waiting w = for_message(c, 0);
  uint32_t count = lvri_load_relaxed_u32(w.count);
  if (is_readable(&w)) return true;
  return lvri_spin_for(w.count, count, SPIN_PAUSES) && is_readable(&w);
}

int lvri_channel_wait_since_until(struct lvri_channel *c, uint32_t mark, int64_t deadline_ns) {
  struct waiting w = for_message(c, mark);
  int error = 0;
  lvri_channel_looked(c);
  while (!error && !is_readable(&w))
    error = wait_more(&w, deadline_ns);
  pass_on(&w);
  return error;
}

int lvri_channel_wait_until(struct lvri_channel *c, int64_t deadline_ns) {
  return lvri_channel_wait_since_until(c, lvri_channel_mark(c), deadline_ns);
}

/* --- closing --------------------------------------------------------------------------------- */

void lvri_channel_close_locked(struct lvri_arena *a, struct lvri_channel_shm *shm, uint32_t side) {
  uint32_t closed = lvri_load_relaxed_u32(&shm->ch_closed);
  lvri_set32_shared(a, lvri_arena_guard(a), &shm->ch_closed, closed | side);
}

static void ring_all(_Atomic uint32_t *bell) {
  (void)lvri_fetch_add_acq_rel_u32(bell, LVRI_BELL_RING);
  (void)lvri_wake(bell, INT32_MAX);
}

void lvri_channel_ring_all(struct lvri_channel_shm *shm) { ring_all(&shm->ch_items); }

void lvri_channel_ring_closed(struct lvri_arena *a, struct lvri_channel_shm *shm) {
  ring_all(&shm->ch_items);
  ring_all(&shm->ch_room);
  lvri_doorbell_ring_closed(a, shm);
}

uint32_t lvri_channel_mark(const struct lvri_channel *c) {
  return lvri_load_acquire_u32(&c->interrupts);
}

void lvri_channel_interrupt(struct lvri_channel *c) {
  (void)lvri_fetch_add_acq_rel_u32(&c->interrupts, 1);
  ring_all(&c->shm->ch_items);
  ring_all(&c->shm->ch_room);
}
