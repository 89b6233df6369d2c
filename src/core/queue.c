#include "core/queue.h"

#include <errno.h>

#include "base/crashpoint.h"
#include "core/block.h"
#include "core/doorbell.h"
#include "core/session.h"
#include "core/wait.h"
#include "os/os.h"

static struct lvr_queue_shm *shm_of(const struct lvr_queue *q) {
  return (struct lvr_queue_shm *)(void *)q->handle.object;
}

/* Once: a second attach finds the handle in use. In the mutex: two threads may attach at once. */
static struct lvr_queue *ready(struct lvri_handle *h) {
  struct lvr_queue *q = (struct lvr_queue *)(void *)h;
  lvri_session_lock(h->session);
  if (!q->channel.handle) {
    q->channel.handle = h;
    q->channel.shm = &shm_of(q)->qu_channel;
  }
  lvri_session_unlock(h->session);
  return q;
}

int lvr_queue_create(lvr_session *s, uint32_t bound, uint32_t flags, lvr_queue **ret_q) {
  struct lvri_handle *h;
  if (bound > INT32_MAX || flags > LVR_QUEUE_JOINABLE) return -EINVAL;
  int error = lvri_object_create(s, LVRI_KIND_QUEUE, sizeof(struct lvr_queue_shm), &h);
  if (error) return error;
  struct lvr_queue *q = ready(h);
  error = lvri_channel_init(q->channel.shm, bound, 0,
                            flags & LVR_QUEUE_JOINABLE ? LVRI_CHANNEL_COUNTED : 0);
  if (error)
    lvri_object_detach(h);
  else
    *ret_q = q;
  return error;
}

int lvr_queue_attach(lvr_session *s, const lvr_ref *ref, lvr_queue **ret_q) {
  struct lvri_handle *h;
  int error = lvri_object_attach(s, ref, LVRI_KIND_QUEUE, &h);
  if (!error) *ret_q = ready(h);
  return error;
}

void lvr_queue_detach(lvr_queue *q) {
  if (q) lvri_object_detach(&q->handle);
}

void lvr_queue_ref(const lvr_queue *q, lvr_ref *ret_ref) { lvri_object_ref(&q->handle, ret_ref); }

int lvr_queue_send(lvr_queue *q, lvr_ref *ret_ref) { return lvri_object_send(&q->handle, ret_ref); }

/* --- messages -------------------------------------------------------------------------------- */

int lvr_queue_put_until(lvr_queue *q, const void *data, size_t bytes, int64_t deadline_ns) {
  if (bytes > LVR_MESSAGE_INLINE)
    return lvri_channel_put_long_until(&q->channel, data, bytes, deadline_ns);
  struct lvri_put put = {.data = data, .bytes = bytes};
  return lvri_channel_put_until(&q->channel, &put, deadline_ns);
}

int lvr_queue_put_block_until(lvr_queue *q, const void *data, size_t bytes, lvr_block *block,
                              int64_t deadline_ns) {
  if (bytes > LVR_MESSAGE_INLINE) return -EINVAL;
  struct lvri_put put = {.data = data, .bytes = bytes, .block = block};
  return lvri_channel_put_until(&q->channel, &put, deadline_ns);
}

int lvr_queue_put_many_until(lvr_queue *q, const struct lvr_slice *messages, uint32_t count,
                             int64_t deadline_ns, uint32_t *ret_put) {
  return lvri_channel_put_many_until(&q->channel, messages, count, deadline_ns, ret_put);
}

int lvr_queue_get_until(lvr_queue *q, struct lvr_message *ret_m, int64_t deadline_ns) {
  return lvri_channel_get_until(&q->channel, ret_m, deadline_ns);
}

int lvr_queue_get_many_until(lvr_queue *q, void *buf, size_t room, uint32_t most,
                             int64_t deadline_ns, uint32_t *ret_count, size_t *ret_bytes) {
  return lvri_channel_get_many_until(&q->channel, buf, room, most, deadline_ns, ret_count,
                                     ret_bytes);
}

int lvr_queue_wait_until(lvr_queue *q, int64_t deadline_ns) {
  return lvri_channel_wait_until(&q->channel, deadline_ns);
}

uint32_t lvr_queue_size(const lvr_queue *q) { return lvri_channel_size(q->channel.shm); }

uint32_t lvr_queue_bound(const lvr_queue *q) { return q->channel.shm->ch_bound; }

int lvr_queue_fileno(lvr_queue *q, int *ret_fd) {
  return lvri_doorbell_fileno(&q->channel, ret_fd);
}

void lvri_queue_close(struct lvri_handle *h) {
  lvri_doorbell_close(&((struct lvr_queue *)(void *)h)->channel);
}

/* --- what is done ---------------------------------------------------------------------------- */

static bool is_joinable(const struct lvr_queue_shm *shm) {
  return shm->qu_channel.ch_flags & LVRI_CHANNEL_COUNTED;
}

static uint32_t unfinished(const struct lvr_queue_shm *shm) {
  uint32_t done = lvri_load_acquire_u32(&shm->qu_done);
  return lvri_channel_count_of(lvri_load_acquire_u64(&shm->qu_channel.ch_tail)) - done;
}

uint32_t lvr_queue_unfinished(const lvr_queue *q) {
  return is_joinable(shm_of(q)) ? unfinished(shm_of(q)) : 0;
}

static void tell_joiners(struct lvr_queue_shm *shm) {
  if (unfinished(shm) != 0) return;
  (void)lvri_fetch_add_acq_rel_u32(&shm->qu_joined, 1);
  LVR_CRASHPOINT("queue.joined.counted");
  (void)lvri_wake(&shm->qu_joined, INT32_MAX);
}

static void add_locked(struct lvri_arena *a, _Atomic uint32_t *count, uint32_t more) {
  lvri_set32_shared(a, lvri_arena_guard(a), count, lvri_load_relaxed_u32(count) + more);
}

/* One off our books; or nobody knows whose. */
static void done_locked(struct lvr_queue *q) {
  struct lvri_arena *a = &q->handle.session->arena;
  struct lvri_guard *g = lvri_arena_guard(a);
  struct lvri_ledger_entry *entry = lvri_handle_entry(&q->handle);
  if (entry->le_held)
    lvri_set32(a, g, &entry->le_held, entry->le_held - 1);
  else
    lvri_set32(a, g, &shm_of(q)->qu_strange, shm_of(q)->qu_strange + 1);
  add_locked(a, &shm_of(q)->qu_done, 1);
  LVR_CRASHPOINT("queue.done.counted");
}

int lvr_queue_done(lvr_queue *q) {
  struct lvri_arena *a = &q->handle.session->arena;
  struct lvri_guard *g = lvri_arena_guard(a);
  if (!is_joinable(shm_of(q))) return -EINVAL;
  if (lvri_session_stale(q->handle.session)) return -ESTALE;
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  bool any = unfinished(shm_of(q)) != 0;
  if (any) done_locked(q);
  lvri_guard_leave(a, g);
  if (!any) return -EINVAL;
  tell_joiners(shm_of(q));
  return 0;
}

/* Whether all is done, and what was lost that no join of this handle has told of; in the guard, for
 * a count that is read outside may be rolled back. 0, -EAGAIN: not all is, -ENOTRECOVERABLE. */
static int take_stock(struct lvr_queue *q, uint32_t *ret_lost) {
  struct lvri_arena *a = &q->handle.session->arena;
  struct lvri_guard *g = lvri_arena_guard(a);
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  if (unfinished(shm_of(q)) == 0) {
    uint32_t lost = lvri_load_relaxed_u32(&shm_of(q)->qu_lost);
    *ret_lost = lost - q->told_lost;
    q->told_lost = lost;
  } else {
    error = -EAGAIN;
  }
  lvri_guard_leave(a, g);
  return error;
}

int lvr_queue_join_until(lvr_queue *q, int64_t deadline_ns, uint32_t *ret_lost) {
  struct lvr_queue_shm *shm = shm_of(q);
  if (!is_joinable(shm)) return -EINVAL;
  uint32_t lost = 0;
  int error = -EAGAIN;
  while (error == -EAGAIN) {
    uint32_t joined = lvri_load_acquire_u32(&shm->qu_joined);
    if (lvri_session_stale(q->handle.session)) return -ESTALE;
    if (unfinished(shm) == 0) error = take_stock(q, &lost);
    if (error != -EAGAIN) break;
    int waited = lvri_wait(q->handle.session, &shm->qu_joined, joined, 0, deadline_ns);
    if (waited) error = waited;
  }
  if (!error && ret_lost) *ret_lost = lost;
  return error;
}

/* --- for kinds.c ----------------------------------------------------------------------------- */

/* A receiver is dead: what it had not called done is lost, but for what others called done in its
 * place. */
int lvri_queue_give_back(struct lvri_arena *a, lvri_off object, uint32_t *held) {
  struct lvr_queue_shm *shm = lvri_at(a, object);
  struct lvri_guard *g = lvri_arena_guard(a);
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  uint32_t strange = *held < shm->qu_strange ? *held : shm->qu_strange;
  lvri_set32(a, g, &shm->qu_strange, shm->qu_strange - strange);
  add_locked(a, &shm->qu_done, *held - strange);
  add_locked(a, &shm->qu_lost, *held - strange);
  lvri_set32(a, g, held, 0);
  LVR_CRASHPOINT("queue.lost.counted");
  lvri_guard_leave(a, g);
  tell_joiners(shm);
  return 0;
}

bool lvri_queue_drain_locked(struct lvri_arena *a, lvri_off object) {
  struct lvr_queue_shm *shm = lvri_at(a, object);
  return lvri_channel_drain_locked(a, &shm->qu_channel);
}

void lvri_queue_each_reference(struct lvri_arena *a, lvri_off object,
                               void (*visit)(void *context, lvri_off to), void *context) {
  struct lvr_queue_shm *shm = lvri_at(a, object);
  lvri_channel_each(a, &shm->qu_channel, visit, context);
}

bool lvri_queue_valid(struct lvri_arena *a, lvri_off object) {
  struct lvr_queue_shm *shm = lvri_at(a, object);
  return lvri_channel_valid(a, &shm->qu_channel);
}
