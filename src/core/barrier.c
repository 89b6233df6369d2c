#include "core/barrier.h"

#include <limits.h>

#include "base/crashpoint.h"
#include "core/session.h"
#include "core/slots.h"
#include "core/wait.h"

/* A barrier as this process sees it, in its guard or about to enter it. */
struct view {
  struct lvri_arena *a;
  struct lvri_guard *g;
  struct lvr_barrier_shm *shm;
};

static struct view view_at(struct lvri_arena *a, lvri_off object) {
  return (struct view){a, lvri_arena_stripe(a, object), lvri_at(a, object)};
}

static struct view view_of(const lvr_barrier *b) {
  return view_at(&b->handle.session->arena, b->handle.off);
}

int lvr_barrier_attach(lvr_session *s, const lvr_ref *ref, lvr_barrier **ret_b) {
  struct lvri_handle *h;
  int error = lvri_object_attach(s, ref, LVRI_KIND_BARRIER, &h);
  if (!error) *ret_b = (struct lvr_barrier *)(void *)h;
  return error;
}

int lvr_barrier_create(lvr_session *s, uint32_t parties, lvr_barrier **ret_b) {
  struct lvri_handle *h;
  if (parties == 0) return -EINVAL;
  int error = lvri_object_create(s, LVRI_KIND_BARRIER, sizeof(struct lvr_barrier_shm), &h);
  if (error) return error;
  ((struct lvr_barrier_shm *)(void *)h->object)->ba_parties =
      parties; /* nobody else knows it yet */
  *ret_b = (struct lvr_barrier *)(void *)h;
  return 0;
}

void lvr_barrier_detach(lvr_barrier *b) {
  if (b) lvri_object_detach(&b->handle);
}

void lvr_barrier_ref(const lvr_barrier *b, lvr_ref *ret_ref) {
  lvri_object_ref(&b->handle, ret_ref);
}

int lvr_barrier_send(lvr_barrier *b, lvr_ref *ret_ref) {
  return lvri_object_send(&b->handle, ret_ref);
}

/* --- in the guard ------------------------------------------------------------------------ */

static uint32_t state_of(struct view v) { return lvri_load_relaxed_u32(&v.shm->ba_state); }

static void set_state(struct view v, uint32_t state) {
  lvri_set32_shared(v.a, v.g, &v.shm->ba_state, state);
}

static struct lvri_waiter *record_at(struct view v, uint32_t number) {
  return lvri_waiters_at(v.a, &v.shm->ba_waiters, number);
}

static bool queued(struct view v, uint32_t number) {
  return lvri_load_relaxed_u32(&record_at(v, number)->wa_state) == LVRI_WAITER_QUEUED;
}

static void commit(struct view v) { lvri_guard_commit(v.a, v.g); }

/* Carries out the verdict, if there is one, on whoever is still in the queue. */
static void settle(struct view v) {
  uint32_t state = state_of(v);
  if (!(state & LVRI_BARRIER_VERDICT)) return;
  struct lvri_waiters *ws = &v.shm->ba_waiters;
  while (ws->ws_head != 0) {
    lvri_waiters_take_out(v.a, v.g, ws, ws->ws_head,
                          state & LVRI_BARRIER_PASS ? LVRI_WAITER_PASSED : LVRI_WAITER_BROKEN);
    commit(v);
    LVR_CRASHPOINT("barrier.settle.one");
  }
  set_state(v, state & ~LVRI_BARRIER_VERDICT);
  commit(v);
}

/* Verdict on all who are in the queue; how the barrier is afterwards. They are to be woken once the
 * guard is left. */
static void decide(struct view v, uint32_t verdict, uint32_t afterwards) {
  uint32_t generation = lvri_load_relaxed_u32(&v.shm->ba_generation);
  lvri_set32_shared(v.a, v.g, &v.shm->ba_generation, generation + 1);
  lvri_set64(v.a, v.g, &v.shm->ba_leader, 0);
  set_state(v, verdict | afterwards);
  LVR_CRASHPOINT("barrier.decide.before");
  commit(v);
  LVR_CRASHPOINT("barrier.decide.after");
  settle(v);
}

static void break_it(struct view v) { decide(v, LVRI_BARRIER_BREAK, LVRI_BARRIER_BROKEN); }

/* Breaks the barrier if somebody in the queue is dead. */
static bool break_for_the_dead(struct view v) {
  for (uint32_t i = v.shm->ba_waiters.ws_head; i != 0; i = record_at(v, i)->wa_next) {
    if (lvri_slot_alive(v.a, record_at(v, i)->wa_owner)) continue;
    break_it(v);
    return true;
  }
  return false;
}

static int enter_guard(struct view v) {
  int error = lvri_guard_enter(v.a, v.g);
  if (!error) settle(v);
  return error;
}

/* Leaves the guard; wakes whoever sleeps on a generation that is over. */
static void leave_guard(struct view v, uint32_t generation_before) {
  bool over = lvri_load_relaxed_u32(&v.shm->ba_generation) != generation_before;
  lvri_guard_leave(v.a, v.g);
  LVR_CRASHPOINT("barrier.guard.left");
  if (over) (void)lvri_wake(&v.shm->ba_generation, INT_MAX);
}

static uint32_t generation_of(struct view v) {
  return lvri_load_acquire_u32(&v.shm->ba_generation);
}

static void free_record(struct view v, struct lvr_barrier_ticket *t) {
  lvri_waiters_free(v.a, v.g, &v.shm->ba_waiters, t->node);
  commit(v);
  t->node = 0;
}

/* --- arriving ---------------------------------------------------------------------------- */

/* In the guard: joins the queue. 0, 1: the last one, -EPIPE, -EAGAIN: full, wait for the leader. */
static int arrive(struct view v, lvr_barrier *b, lvr_proc_id self, struct lvr_barrier_ticket *t) {
  uint32_t arrived = lvri_load_relaxed_u32(&v.shm->ba_waiters.ws_count), number;
  if (state_of(v) & LVRI_BARRIER_BROKEN) return -EPIPE;
  if (state_of(v) & LVRI_BARRIER_FULL) return -EAGAIN;
  bool last = arrived + 1 == v.shm->ba_parties;
  if (last && break_for_the_dead(v)) return -EPIPE;
  int error = lvri_waiters_join(v.a, v.g, &v.shm->ba_waiters, self, &number);
  if (error) return error;
  if (last) {
    set_state(v, LVRI_BARRIER_FULL);
    lvri_set64(v.a, v.g, &v.shm->ba_leader, self);
  }
  *t = (struct lvr_barrier_ticket){b, number, arrived, generation_of(v), 0};
  LVR_CRASHPOINT("barrier.arrive.before");
  return last;
}

/* In the guard: if the leader is dead, breaks the barrier; else says who he is. */
static lvr_proc_id living_leader(struct view v) {
  if (!(state_of(v) & LVRI_BARRIER_FULL)) return 0;
  if (lvri_slot_alive(v.a, v.shm->ba_leader)) return v.shm->ba_leader;
  break_it(v);
  return 0;
}

int lvr_barrier_enter_until(lvr_barrier *b, int64_t deadline_ns, struct lvr_barrier_ticket *ret_t) {
  struct view v = view_of(b);
  for (;;) {
    lvr_proc_id self = lvri_session_self(b->handle.session);
    if (self == 0) return -ESTALE;
    int error = enter_guard(v);
    if (error) return error;
    uint32_t generation = generation_of(v);
    int arrived = arrive(v, b, self, ret_t);
    if (arrived < 0 && arrived != -EPIPE && arrived != -EAGAIN) {
      lvri_guard_abort(v.a, v.g);
      return arrived;
    }
    lvr_proc_id leader = arrived == -EAGAIN ? living_leader(v) : 0;
    leave_guard(v, generation);
    if (arrived != -EAGAIN) return arrived;
    if (leader == self) leader = 0; /* another thread of ours */
    error = lvri_wait(b->handle.session, &v.shm->ba_generation, generation, leader, deadline_ns);
    if (error) return error;
  }
}

/* --- waiting ----------------------------------------------------------------------------- */

/* In the guard: what has become of t. -EAGAIN: nothing yet. Its record is free otherwise. */
static int outcome(struct view v, struct lvr_barrier_ticket *t) {
  uint32_t state = lvri_load_relaxed_u32(&record_at(v, t->node)->wa_state);
  if (state == LVRI_WAITER_QUEUED) return -EAGAIN;
  free_record(v, t);
  return state == LVRI_WAITER_PASSED ? 0 : -EPIPE;
}

/* In the guard, t being in the queue. Whose death to look out for: the leader's, or that of who
 * came before us; the first one watches the last one. 0: our own, that is nobody's. */
static lvr_proc_id whom_to_watch(struct view v, const struct lvr_barrier_ticket *t,
                                 lvr_proc_id self) {
  lvr_proc_id who = v.shm->ba_leader;
  if (!(state_of(v) & LVRI_BARRIER_FULL)) {
    uint32_t before = record_at(v, t->node)->wa_prev;
    who = record_at(v, before ? before : v.shm->ba_waiters.ws_tail)->wa_owner;
  }
  return who == self ? 0 : who;
}

/* Looks at what has become of t. late: the deadline has passed. 0, -EPIPE, -ETIMEDOUT: over;
 * -EAGAIN: sleep on, with an eye on *ret_watch, and without a limit once the leader is at work
 * (*ret_full). */
static int look(struct lvr_barrier_ticket *t, bool late, lvr_proc_id *ret_watch, bool *ret_full) {
  struct view v = view_of(t->barrier);
  lvr_proc_id self = lvri_session_self(t->barrier->handle.session);
  if (self == 0 || record_at(v, t->node)->wa_owner != self) return -ESTALE; /* a fork's child */
  int error = enter_guard(v);
  if (error) return error;
  uint32_t generation = generation_of(v);
  bool waits = queued(v, t->node) && !break_for_the_dead(v);
  *ret_full = state_of(v) & LVRI_BARRIER_FULL;
  late = late && waits && !*ret_full;
  if (late)
    break_it(v);
  else if (waits)
    *ret_watch = whom_to_watch(v, t, self);
  int result = outcome(v, t);
  leave_guard(v, generation);
  return late ? -ETIMEDOUT : result;
}

int lvr_barrier_wait_until(struct lvr_barrier_ticket *t, int64_t deadline_ns) {
  lvr_session *s = t->barrier->handle.session;
  _Atomic uint32_t *word = &view_of(t->barrier).shm->ba_generation;
  if (t->node == 0) return -EINVAL;
  if (deadline_ns > 0) (void)lvri_spin(word, t->generation);
  for (bool late = false;;) {
    lvr_proc_id watch = 0;
    bool full = false;
    int result = look(t, late, &watch, &full);
    if (result != -EAGAIN) return result;
    result = lvri_wait(s, word, t->generation, watch, full ? LVR_FOREVER : deadline_ns);
    if (result == -EINTR) return result;
    late = result == -ETIMEDOUT;
  }
}

/* --- going on, or not -------------------------------------------------------------------- */

/* In the guard: t is the last one's, and all others wait for it. */
static bool leads(struct view v, const struct lvr_barrier_ticket *t) {
  return queued(v, t->node) && (state_of(v) & LVRI_BARRIER_FULL) &&
         t->index + 1 == v.shm->ba_parties;
}

/* The end of t: opens (or else breaks) the barrier if it is the leader's. */
static int finish(struct lvr_barrier_ticket *t, bool open) {
  struct view v = view_of(t->barrier);
  lvr_proc_id self = lvri_session_self(t->barrier->handle.session);
  if (t->node == 0) return -EINVAL;
  if (self == 0 || record_at(v, t->node)->wa_owner != self) return -ESTALE;
  int error = enter_guard(v);
  if (error) return error;
  uint32_t generation = generation_of(v);
  if (leads(v, t)) {
    if (open)
      decide(v, LVRI_BARRIER_PASS, 0);
    else
      break_it(v);
  }
  int result = outcome(v, t);
  if (result == -EAGAIN) free_record(v, t);
  leave_guard(v, generation);
  return result;
}

int lvr_barrier_open(struct lvr_barrier_ticket *t) {
  int result = finish(t, true);
  return result == -EAGAIN ? -EINVAL : result;
}

void lvr_barrier_leave(struct lvr_barrier_ticket *t) { (void)finish(t, false); }

static int conclude(lvr_barrier *b, uint32_t afterwards) {
  struct view v = view_of(b);
  if (lvri_session_stale(b->handle.session)) return -ESTALE;
  int error = enter_guard(v);
  if (error) return error;
  uint32_t generation = generation_of(v);
  decide(v, LVRI_BARRIER_BREAK, afterwards);
  leave_guard(v, generation);
  return 0;
}

int lvr_barrier_abort(lvr_barrier *b) { return conclude(b, LVRI_BARRIER_BROKEN); }

int lvr_barrier_reset(lvr_barrier *b) { return conclude(b, 0); }

int lvr_barrier_pass_until(lvr_barrier *b, int64_t deadline_ns, uint32_t *ret_index) {
  struct lvr_barrier_ticket t;
  int result = lvr_barrier_enter_until(b, deadline_ns, &t);
  if (result < 0) return result;
  uint32_t index = t.index;
  result = result == 1 ? lvr_barrier_open(&t) : lvr_barrier_wait_until(&t, deadline_ns);
  if (result == -EINTR) lvr_barrier_leave(&t);
  if (!result && ret_index) *ret_index = index;
  return result;
}

uint32_t lvr_barrier_parties(const lvr_barrier *b) { return view_of(b).shm->ba_parties; }

uint32_t lvr_barrier_waiting(const lvr_barrier *b) {
  struct view v = view_of(b);
  if (state_of(v) & LVRI_BARRIER_VERDICT) return 0;
  return lvri_load_relaxed_u32(&v.shm->ba_waiters.ws_count);
}

bool lvr_barrier_broken(const lvr_barrier *b) { return state_of(view_of(b)) & LVRI_BARRIER_BROKEN; }

/* --- the dead ---------------------------------------------------------------------------- */

void lvri_barrier_fini_locked(struct lvri_arena *a, lvri_off object) {
  lvri_waiters_fini_locked(a, &view_at(a, object).shm->ba_waiters);
}

/* First the verdict, then the records: killed in between, the barrier is broken all the same. */
void lvri_barrier_left(struct lvri_arena *a, lvri_off object, lvr_proc_id who) {
  struct view v = view_at(a, object);
  struct lvri_waiters *ws = &v.shm->ba_waiters;
  if (enter_guard(v)) return;
  uint32_t generation = generation_of(v);
  (void)break_for_the_dead(v);
  for (uint32_t i = 1; (i = lvri_waiters_next_used(a, ws, i)) != 0; i++) {
    if (record_at(v, i)->wa_owner != who) continue;
    lvri_waiters_free(a, v.g, ws, i);
    commit(v);
    LVR_CRASHPOINT("barrier.left.freed");
  }
  leave_guard(v, generation);
}

/* All the arrived are in the queue, and whoever is full has a leader. */
bool lvri_barrier_valid(struct lvri_arena *a, lvri_off object) {
  struct view v = view_at(a, object);
  uint32_t arrived = lvri_load_relaxed_u32(&v.shm->ba_waiters.ws_count), state = state_of(v);
  bool full = state & LVRI_BARRIER_FULL;
  if (full != (v.shm->ba_leader != 0)) return false;
  if (full && (state & LVRI_BARRIER_BROKEN)) return false;
  return arrived <= v.shm->ba_parties && lvri_waiters_valid(a, &v.shm->ba_waiters);
}
