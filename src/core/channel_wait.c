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
 * he spins is his, and wakes nobody else for nothing. Where one process puts (a board's owner) he
 * leaves SLEEPER and sets SPINNER, for which nobody is rung: so who falls asleep in the meantime is
 * not woken either. (He would be by each message, and find that the spinner has it: then he goes
 * back to sleep behind the next spin, for ever.) His spin over, he takes SPINNER away, fences and
 * looks; if he goes away with a message, he looks for another, which sleepers were not rung for. Of
 * two who spin the first to end takes SPINNER away, and what comes may wake one for nothing.
 *
 * Naps. Where one process puts and does so every few microseconds, to wake and to be woken costs
 * more than the messages do. So who gets, and has found his last message soon after he had found
 * none, spins for longer; not on the processor where that message was put, for there the next one
 * cannot be put while he spins. And before he sleeps until he is rung he naps:
 *
 *   napper                                       who puts
 *   takes SLEEPER away, sets NAPPER              stores tail
 *   fence                                        fence
 *   looks: nothing there                         looks at the bell: no SLEEPER, rings nobody
 *   sleeps, for NAP_NS at most
 *   takes NAPPER away, sets SLEEPER              somebody waits for what comes of it (a fence, then
 *   fence                                        NAPPER, and a message there)? rings
 *   looks
 *
 * While NAPPER is set, who leaves his spin to work does not set SLEEPER: the napper does, when his
 * nap is over, before he looks. So nobody sleeps for longer than a nap with a message in front of
 * him that all others are too busy for; and who is asleep is woken once a nap, not once a message.
 * Of two who nap the first to end takes NAPPER away: the other is one more who looks.
 *
 * A napper or spinner that is stopped (SIGSTOP) would be relied on for as long as he is. So he
 * stores when he is to look at the latest before he sets his bit; who puts, or has looked for
 * results in vain, takes it away where that is long over, and rings another one (hurry_source());
 * who waits for results with a message in front of such a one sleeps no longer than until then.
 * What nobody does after it waits until those who sleep look by themselves: as where one is stopped
 * who was just woken, or spins.
 *
 * One that is killed leaves his bit set, and those who sleep are not rung. Who buries him rings all
 * (lvr_board_settle()), and takes it away: they set SLEEPER themselves as they look anew. Until
 * then whoever is awake looks after each message, and the others after the relook, as everywhere
 * where the one who was woken died with that in his hands. */
#include <errno.h>

#include "base/crashpoint.h"
#include "core/channel_inner.h"
#include "core/doorbell.h"
#include "core/holder.h"
#include "core/repair.h"
#include "core/slots.h"
#include "core/wait.h"
#include "os/os.h"

/* Longer than for a lock, which is held for less than an answer takes: a peer that is a Python
 * program needs one to three microseconds to make one. This is some five, still less than it costs
 * two processes to put each other to sleep. docs/design/messages.md has the figures. */
#define SPIN_PAUSES 200u

/* Who has waited for his last message for less than that spins longer, or naps: another one is
 * likely before he were asleep and woken. (Two who are woken in turn wait for two of these: with
 * less they would be woken in turn for ever.) */
#define SOON_NS     70000
#define SOON_PAUSES 1000u
#define NAP_RETRY   64u /* waits without a nap after one that was cut short */

/* So long a message may wait that nobody is in a hurry for. */
#ifdef LVRI_TESTING
int64_t lvri_nap_ns = 100000;
#define NAP_NS lvri_nap_ns
#else
#define NAP_NS 100000
#endif

/* Adds the fence that lvri_channel_is_awaited() pairs with. */
static uint32_t arm(_Atomic uint32_t *bell) {
  uint32_t was = lvri_fetch_or_acq_rel_u32(bell, LVRI_BELL_SLEEPER);
  lvri_fence_seq();
  return was | LVRI_BELL_SLEEPER;
}

uint32_t lvri_channel_arm(struct lvri_channel *c) { return arm(&c->shm->ch_items); }

/* Of who goes away to work, and had the bell: unless it is a napper's now. */
static void arm_for_others(_Atomic uint32_t *bell) {
  uint32_t was = lvri_load_relaxed_u32(bell);
  while (!(was & LVRI_BELL_NAPPER) && !lvri_cas_acq_rel_u32(bell, &was, was | LVRI_BELL_SLEEPER)) {
  }
  lvri_fence_seq();
}

/* Counts a ring, and takes those bits away; what it was before. */
static uint32_t count_ring(_Atomic uint32_t *bell, uint32_t bits) {
  uint32_t was = lvri_load_relaxed_u32(bell);
  while (!lvri_cas_acq_rel_u32(bell, &was, (was + LVRI_BELL_RING) & ~bits)) {
  }
  return was;
}

static void ring(_Atomic uint32_t *bell, int sleepers) {
  uint32_t was = count_ring(bell, LVRI_BELL_SLEEPER);
  LVR_CRASHPOINT("channel.ring.counted");
  if (was & LVRI_BELL_SLEEPER) (void)lvri_wake(bell, sleepers);
  LVR_CRASHPOINT("channel.ring.woken");
}

void lvri_channel_ring_items(struct lvri_channel_shm *shm) { ring(&shm->ch_items, 1); }

/* Nobody relies any more on who has set those BITS. Whoever of the sleepers it is, he looks. */
static void ring_instead(struct lvri_channel_shm *shm, uint32_t bits, uint32_t hurries) {
  _Atomic uint32_t *bell = &shm->ch_items;
  if (!(lvri_load_relaxed_u32(bell) & bits) || lvri_channel_size(shm) == 0) return;
  (void)count_ring(bell, bits | LVRI_BELL_SLEEPER);
  (void)lvri_fetch_add_relaxed_u32(&shm->ch_hurries, hurries);
  LVR_CRASHPOINT("channel.hurry.counted");
  (void)lvri_wake(bell, 1);
}

void lvri_channel_hurry(struct lvri_channel_shm *shm) { ring_instead(shm, LVRI_BELL_NAPPER, 1); }

/* Who was stopped goes on napping, or spinning, for as long as he is, and who puts relies on it:
 * whoever is there finds him late by the clock. A stopped process sleeps nowhere: the signal that
 * stopped it has ended its sleep, so that whoever is rung in its place is another one. Its own
 * look, when it goes on, is one too many. */
static bool has_late_look(const struct lvri_channel_shm *shm) {
  if (!(lvri_load_acquire_u32(&shm->ch_items) & LVRI_BELL_AWAKE)) return false;
  int64_t due_ns = (int64_t)lvri_load_relaxed_u64(&shm->ch_look_ns);
  return lvri_os_coarse_ns() > due_ns + LVRI_LOOK_LATE_NS;
}

/* Who was late, for whatever reason, may nap again. */
void lvri_channel_hurry_source(const struct lvri_channel *c, bool waits) {
  if (!c->source) return;
  if (waits) lvri_channel_hurry(c->source);
  if (has_late_look(c->source)) ring_instead(c->source, LVRI_BELL_AWAKE, 0);
}

/* How long who waits in c may sleep, after lvri_channel_hurry_source(), before somebody who is to
 * take a message from its source may turn out to be late. The clock of has_late_look() is behind by
 * a tick: 10 ms at most. */
static int64_t until_late(const struct lvri_channel *c, int64_t deadline_ns) {
  const struct lvri_channel_shm *source = c->source;
  if (!source || !(lvri_load_acquire_u32(&source->ch_items) & LVRI_BELL_AWAKE)) return deadline_ns;
  if (lvri_channel_size(source) == 0) return deadline_ns;
  int64_t look_ns = (int64_t)lvri_load_relaxed_u64(&source->ch_look_ns);
  int64_t late_ns = look_ns + INT64_C(2) * LVRI_LOOK_LATE_NS;
  return late_ns < deadline_ns ? late_ns : deadline_ns;
}

int lvri_channel_sleep(const struct lvri_channel *c, _Atomic uint32_t *bell, uint32_t armed,
                       const lvr_proc_id *watch, unsigned count, int64_t deadline_ns) {
  int64_t until_ns = until_late(c, deadline_ns);
  int error = lvri_wait_any(c->handle->session, bell, armed, watch, count, until_ns);
  return error == -ETIMEDOUT && until_ns < deadline_ns ? 0 : error;
}

void lvri_channel_note_cpu(struct lvri_channel_shm *shm) {
  lvri_store_relaxed_u32(&shm->ch_put_cpu, lvri_os_cpu());
}

/* Room in bytes may be too little for the one who is woken, and enough for another. */
void lvri_channel_ring_room(struct lvri_channel_shm *shm) {
  ring(&shm->ch_room, shm->ch_most_units ? INT32_MAX : 1);
}

/* Waiting for something at a bell: what is looked at, and what changes with it. */
struct waiting {
  struct lvri_channel *channel;
  _Atomic uint32_t *bell;
  _Atomic uint32_t *count; /* of the other side: what one spins on before a sleep */
  bool (*is_there)(const struct waiting *w);
  const struct lvri_put *put;
  uint32_t mark;
  bool slept;
  bool took_bell; /* we were woken, or have spun: others may sleep, and SLEEPER be taken away */
  bool napped;
  int64_t since_ns;   /* when we found none, of one with a putter; 0: not yet */
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
  int error = lvri_channel_sleep(w->channel, w->bell, armed, &watch, watch != 0, deadline_ns);
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

/* Whether the messages of one process are waited for. */
static bool has_putter(const struct waiting *w) {
  return w->channel->putter && w->bell == &w->channel->shm->ch_items;
}

/* The only one who puts is over. What he has left is nobody's: who slept may have been woken by his
 * death, in front of a message that he told nobody of. */
static bool is_abandoned(const struct waiting *w) {
  const struct lvri_channel *c = w->channel;
  return has_putter(w) && !lvri_slot_alive(&c->handle->session->arena, c->putter);
}

/* Where we put off who puts, none. */
static unsigned patience(const struct waiting *w) {
  if (!has_putter(w)) return SPIN_PAUSES;
  if (lvri_load_relaxed_u32(&w->channel->shm->ch_put_cpu) == lvri_os_cpu()) return 0;
  return w->channel->pace_ns < SOON_NS ? SOON_PAUSES : SPIN_PAUSES;
}

/* A look is due, and others rely on it; it is stored before the bit is set. */
static void note_look(struct lvri_channel_shm *shm, int64_t until_ns) {
  lvri_store_relaxed_u64(&shm->ch_look_ns, (uint64_t)until_ns); /* released with the bell */
}

static void set_spinner(struct waiting *w) {
  note_look(w->channel->shm, w->since_ns + NAP_NS);
  (void)lvri_fetch_or_acq_rel_u32(w->bell, LVRI_BELL_SPINNER);
  w->took_bell = true;
}

static void clear_spinner(struct waiting *w) {
  (void)lvri_fetch_and_acq_rel_u32(w->bell, ~LVRI_BELL_SPINNER);
  lvri_fence_seq();
}

static void take_bell(struct waiting *w) {
  if (!(lvri_load_relaxed_u32(w->bell) & LVRI_BELL_SLEEPER)) return;
  (void)lvri_fetch_and_acq_rel_u32(w->bell, ~LVRI_BELL_SLEEPER);
  w->took_bell = true;
}

/* For a moment before a sleep, in place of those who sleep already. */
static bool spin(struct waiting *w) {
  uint32_t count = lvri_load_relaxed_u32(w->count);
  unsigned pauses = patience(w);
  if (w->is_there(w)) return true;
  if (pauses == 0) return false;
  if (has_putter(w))
    set_spinner(w);
  else
    take_bell(w);
  LVR_CRASHPOINT("channel.wait.spins");
  bool changed = lvri_spin_for(w->count, count, pauses);
  if (has_putter(w))
    clear_spinner(w);
  else if (changed && w->took_bell)
    arm_for_others(w->bell);
  return changed;
}

static uint32_t exchange_bits(_Atomic uint32_t *bell, uint32_t clear, uint32_t set) {
  uint32_t was = lvri_load_relaxed_u32(bell);
  while (!lvri_cas_acq_rel_u32(bell, &was, (was & ~clear) | set)) {
  }
  lvri_fence_seq();
  return (was & ~clear) | set;
}

static bool may_nap(struct waiting *w) {
  struct lvri_channel *c = w->channel;
  if (w->slept || !has_putter(w) || c->pace_ns >= NAP_NS) return false;
  if (c->awake == 0) return true;
  c->awake--;
  return false;
}

/* One message in a nap would have come sooner to one who was rung. Where what comes of each message
 * is waited for, naps only cost. */
static void note_nap(struct waiting *w, uint32_t came, uint32_t hurries) {
  struct lvri_channel *c = w->channel;
  w->slept = w->took_bell = w->napped = true;
  c->pace_ns = came > 1 ? NAP_NS / came : INT64_MAX;
  if (lvri_load_relaxed_u32(&c->shm->ch_hurries) != hurries) c->awake = NAP_RETRY;
}

static int sleep_without_bell(struct waiting *w, uint32_t asleep, int64_t until_ns) {
  return lvri_wait(w->channel->handle->session, w->bell, asleep, w->channel->putter, until_ns);
}

/* Sleeps for a moment without being rung; then looks. 0, -EINTR. */
static int nap(struct waiting *w, int64_t deadline_ns) {
  uint32_t count = lvri_load_relaxed_u32(w->count);
  uint32_t hurries = lvri_load_relaxed_u32(&w->channel->shm->ch_hurries);
  int64_t end_ns = lvri_os_now_ns() + NAP_NS;
  note_look(w->channel->shm, end_ns);
  if (deadline_ns < end_ns) end_ns = deadline_ns;
  uint32_t asleep = exchange_bits(w->bell, LVRI_BELL_SLEEPER, LVRI_BELL_NAPPER);
  int error = 0;
  LVR_CRASHPOINT("channel.nap.noted");
  if (!w->is_there(w) && !is_cancelled(w)) error = sleep_without_bell(w, asleep, end_ns);
  LVR_CRASHPOINT("channel.nap.woken");
  (void)exchange_bits(w->bell, LVRI_BELL_NAPPER, LVRI_BELL_SLEEPER);
  note_nap(w, lvri_load_relaxed_u32(w->count) - count, hurries);
  return error == -ETIMEDOUT ? 0 : error;
}

/* After a try that failed: sleeps, or finds that another try is worth while. 0, -ETIMEDOUT, -EINTR,
 * -ECANCELED, -ESTALE, -EPIPE. */
static int wait_more(struct waiting *w, int64_t deadline_ns) {
  if (lvri_session_stale(w->channel->handle->session)) return -ESTALE;
  if (w->is_there(w)) return 0;
  if (is_abandoned(w)) return -EPIPE;
  if (is_cancelled(w)) return -ECANCELED;
  lvri_channel_hurry_source(w->channel, deadline_ns != 0);
  if (deadline_ns == 0) return -ETIMEDOUT;
  if (has_putter(w) && w->since_ns == 0) w->since_ns = lvri_os_now_ns();
  if (!w->slept && spin(w)) return 0;
  if (may_nap(w)) return nap(w, deadline_ns);
  LVR_CRASHPOINT("channel.wait.looked");
  uint32_t armed = arm(w->bell);
  lvri_channel_hurry_source(w->channel, true); /* behind a fence: see hurry() in board.c */
  if (w->is_there(w)) return 0;
  if (is_cancelled(w)) return -ECANCELED; /* later ones change the bell */
  LVR_CRASHPOINT("channel.wait.armed");
  int error = sleep_at(w, armed, deadline_ns);
  LVR_CRASHPOINT("channel.wait.woken");
  w->slept = w->took_bell = true;
  arm_for_others(w->bell);
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

void lvri_channel_pass_on(struct lvri_channel *c) {
  struct waiting w = for_message(c, 0);
  w.took_bell = true;
  pass_on(&w);
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

/* What a nap has found is for it to say. */
static void note_pace(const struct waiting *w, int error) {
  if (w->since_ns == 0 || w->napped) return;
  w->channel->pace_ns = error ? INT64_MAX : lvri_os_now_ns() - w->since_ns;
}

int lvri_channel_get_by(struct lvri_channel *c, lvri_channel_try *try_get, void *context,
                        uint32_t mark, int64_t deadline_ns) {
  struct waiting w = for_message(c, mark);
  int error;
  do {
    error = try_get(c, context);
    if (error == -EAGAIN) {
      error = wait_more(&w, deadline_ns);
      if (!error) error = is_abandoned(&w) ? -EPIPE : -EAGAIN;
    }
  } while (error == -EAGAIN);
  note_pace(&w, error);
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

bool lvri_channel_spin(struct lvri_channel *c, bool soon) {
  struct waiting w = for_message(c, 0);
  uint32_t count = lvri_load_relaxed_u32(w.count);
  if (is_readable(&w)) return true;
  return lvri_spin_for(w.count, count, soon ? SOON_PAUSES : SPIN_PAUSES) && is_readable(&w);
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

/* No napper or spinner is left then, and everybody has the bell to set. */
static void ring_all(_Atomic uint32_t *bell) {
  (void)count_ring(bell, LVRI_BELL_AWAKE);
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
  if (lvri_session_stale(c->handle->session)) return; /* in its place there may be another's */
  ring_all(&c->shm->ch_items);
  ring_all(&c->shm->ch_room);
}
