#include "core/condition.h"

#include "base/crashpoint.h"
#include "core/session.h"
#include "core/slots.h"
#include "core/wait.h"

#define BATCH 16u /* waiters that are notified before the guard is left and they are woken */

static struct lvri_waiters *waiters_of(const lvr_condition *c) {
  return &((struct lvr_condition_shm *)(void *)c->handle.object)->co_waiters;
}

static struct lvri_arena *arena_of(const lvr_condition *c) { return &c->handle.session->arena; }

static struct lvri_guard *guard_of(const lvr_condition *c) {
  return lvri_arena_stripe(arena_of(c), c->handle.off);
}

int lvr_condition_create(lvr_session *s, lvr_condition **ret_c) {
  struct lvri_handle *h;
  int error = lvri_object_create(s, LVRI_KIND_CONDITION, sizeof(struct lvr_condition_shm), &h);
  if (!error) *ret_c = (struct lvr_condition *)(void *)h;
  return error;
}

int lvr_condition_attach(lvr_session *s, const lvr_ref *ref, lvr_condition **ret_c) {
  struct lvri_handle *h;
  int error = lvri_object_attach(s, ref, LVRI_KIND_CONDITION, &h);
  if (!error) *ret_c = (struct lvr_condition *)(void *)h;
  return error;
}

void lvr_condition_detach(lvr_condition *c) {
  if (c) lvri_object_detach(&c->handle);
}

void lvr_condition_ref(const lvr_condition *c, lvr_ref *ret_ref) {
  lvri_object_ref(&c->handle, ret_ref);
}

int lvr_condition_send(lvr_condition *c, lvr_ref *ret_ref) {
  return lvri_object_send(&c->handle, ret_ref);
}

uint32_t lvr_condition_waiting(const lvr_condition *c) {
  return lvri_load_acquire_u32(&waiters_of(c)->ws_count);
}

/* --- waiting ----------------------------------------------------------------------------- */

static int join(lvr_condition *c, uint32_t *ret_number) {
  struct lvri_arena *a = arena_of(c);
  struct lvri_guard *g = guard_of(c);
  lvr_proc_id self = lvri_session_self(c->handle.session);
  if (self == 0) return -ESTALE;
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  error = lvri_waiters_join(a, g, waiters_of(c), self, ret_number);
  LVR_CRASHPOINT("condition.join.before");
  if (error)
    lvri_guard_abort(a, g);
  else
    lvri_guard_leave(a, g);
  LVR_CRASHPOINT("condition.join.after");
  return error;
}

/* Our record; NULL in a child that was forked while we slept, say by a signal handler: it does not
 * wait. */
static struct lvri_waiter *record_of(const struct lvr_condition_wait *w) {
  lvr_condition *c = w->condition;
  struct lvri_waiter *record = lvri_waiters_at(arena_of(c), waiters_of(c), w->node);
  return record->wa_owner == lvri_session_self(c->handle.session) ? record : NULL;
}

/* Leaves the queue. 0: notified, -ETIMEDOUT: not. */
static int leave(struct lvr_condition_wait *w) {
  lvr_condition *c = w->condition;
  struct lvri_arena *a = arena_of(c);
  struct lvri_guard *g = guard_of(c);
  struct lvri_waiter *record = record_of(w);
  if (!record) return -ESTALE;
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  bool queued = lvri_load_relaxed_u32(&record->wa_state) == LVRI_WAITER_QUEUED;
  lvri_waiters_free(a, g, waiters_of(c), w->node);
  LVR_CRASHPOINT("condition.leave.before");
  lvri_guard_leave(a, g);
  return queued && !w->notified ? -ETIMEDOUT : 0;
}

int lvr_condition_wait_begin(lvr_condition *c, lvr_lock *l, struct lvr_condition_wait *ret_w) {
  struct lvr_condition_wait w = {.condition = c, .lock = l};
  int error = join(c, &w.node);
  if (error) return error;
  error = lvr_lock_release_all(l, &w.count);
  LVR_CRASHPOINT("condition.begin.released");
  if (error)
    (void)leave(&w); /* the lock was not held: the wait never was */
  else
    *ret_w = w;
  return error;
}

int lvr_condition_wait_sleep(struct lvr_condition_wait *w, int64_t deadline_ns) {
  lvr_session *s = w->condition->handle.session;
  for (;;) {
    struct lvri_waiter *record = record_of(w);
    if (!record) return -ESTALE;
    if (lvri_load_acquire_u32(&record->wa_state) != LVRI_WAITER_QUEUED) break;
    int error = lvri_wait(s, &record->wa_state, LVRI_WAITER_QUEUED, 0, deadline_ns);
    if (error) return error;
  }
  w->notified = 1; /* even if the notifier was killed before he committed that */
  return 0;
}

int lvr_condition_wait_end(struct lvr_condition_wait *w) {
  if (w->node == 0) return -EINVAL;
  int error = leave(w);
  w->node = 0;
  return error;
}

int lvr_condition_retake(struct lvr_condition_wait *w) {
  return lvr_lock_restore(w->lock, w->count);
}

int lvr_condition_wait_until(lvr_condition *c, lvr_lock *l, int64_t deadline_ns) {
  struct lvr_condition_wait w;
  int error = lvr_condition_wait_begin(c, l, &w);
  if (error) return error;
  int slept = lvr_condition_wait_sleep(&w, deadline_ns);
  int left = lvr_condition_wait_end(&w), taken;
  do
    taken = lvr_condition_retake(&w);
  while (taken == -EINTR);
  if (taken < 0) return taken;
  return left == -ETIMEDOUT ? slept : left;
}

/* --- notifying --------------------------------------------------------------------------- */

struct batch {
  uint32_t count;
  _Atomic uint32_t *words[BATCH];
};

/* Notifies the first in the queue, or strikes him out if he is dead. */
static void notify_first(struct lvri_arena *a, struct lvri_guard *g, struct lvri_waiters *ws,
                         struct batch *batch) {
  struct lvri_waiter *w = lvri_waiters_at(a, ws, ws->ws_head);
  if (lvri_slot_alive(a, w->wa_owner)) {
    lvri_waiters_take_out(a, g, ws, ws->ws_head, LVRI_WAITER_PASSED);
    batch->words[batch->count++] = &w->wa_state;
  } else {
    lvri_waiters_free(a, g, ws, ws->ws_head);
  }
  LVR_CRASHPOINT("condition.notify.before");
  lvri_guard_commit(a, g);
  LVR_CRASHPOINT("condition.notify.after");
}

static int notify_batch(lvr_condition *c, uint32_t count, struct batch *batch) {
  struct lvri_arena *a = arena_of(c);
  struct lvri_guard *g = guard_of(c);
  struct lvri_waiters *ws = waiters_of(c);
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  while (batch->count < count && batch->count < BATCH && ws->ws_head != 0)
    notify_first(a, g, ws, batch);
  lvri_guard_leave(a, g);
  LVR_CRASHPOINT("condition.notify.left");
  for (uint32_t i = 0; i < batch->count; i++)
    (void)lvri_wake(batch->words[i], 1);
  return 0;
}

int lvr_condition_notify(lvr_condition *c, uint32_t count, uint32_t *ret_woken) {
  uint32_t woken = 0;
  if (lvri_session_stale(c->handle.session)) return -ESTALE;
  /* Who waits joined the queue before he released the lock that our caller holds: we see him. */
  while (woken < count && lvr_condition_waiting(c) != 0) {
    struct batch batch = {0};
    int error = notify_batch(c, count - woken, &batch);
    if (error) return error;
    woken += batch.count;
  }
  if (ret_woken) *ret_woken = woken;
  return 0;
}

/* --- the dead ---------------------------------------------------------------------------- */

static struct lvri_waiters *waiters_at(struct lvri_arena *a, lvri_off object) {
  struct lvr_condition_shm *shm = lvri_at(a, object);
  return &shm->co_waiters;
}

void lvri_condition_fini_locked(struct lvri_arena *a, lvri_off object) {
  lvri_waiters_fini_locked(a, waiters_at(a, object));
}

void lvri_condition_left(struct lvri_arena *a, lvri_off object, lvr_proc_id who) {
  struct lvri_guard *g = lvri_arena_stripe(a, object);
  struct lvri_waiters *ws = waiters_at(a, object);
  if (lvri_guard_enter(a, g)) return;
  for (uint32_t i = 1; (i = lvri_waiters_next_used(a, ws, i)) != 0; i++) {
    if (lvri_waiters_at(a, ws, i)->wa_owner != who) continue;
    lvri_waiters_free(a, g, ws, i);
    lvri_guard_commit(a, g);
    LVR_CRASHPOINT("condition.left.freed");
  }
  lvri_guard_leave(a, g);
}

bool lvri_condition_valid(struct lvri_arena *a, lvri_off object) {
  return lvri_waiters_valid(a, waiters_at(a, object));
}
