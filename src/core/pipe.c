#include "core/pipe.h"

#include <errno.h>

#include "base/assert.h"
#include "base/crashpoint.h"
#include "core/channel_inner.h"
#include "core/doorbell.h"
#include "core/holder.h"
#include "core/repair.h"
#include "core/session.h"
#include "core/slots.h"
#include "core/wait.h"
#include "os/os.h"

#define SIMPLEX_BYTES offsetof(struct lvri_pipe_shm, pi_channels[1])

static struct lvri_pipe_end_shm *end_of(const struct lvr_pipe *p) {
  return (struct lvri_pipe_end_shm *)(void *)p->handle.object;
}

/* The channel that an end reads, or writes; NULL: none. */
static struct lvri_channel_shm *in_of(struct lvri_pipe_shm *pipe, uint32_t which) {
  return which == 0 || pipe->pi_duplex ? &pipe->pi_channels[which] : NULL;
}

static struct lvri_channel_shm *out_of(struct lvri_pipe_shm *pipe, uint32_t which) {
  return in_of(pipe, 1 - which);
}

/* --- handles ------------------------------------------------------------------------------- */

/* Once: a second attach finds the handle in use. In the session's mutex, for two threads may attach
 * at once. */
static void describe(struct lvri_channel *c, struct lvri_handle *h, struct lvri_channel_shm *shm,
                     lvri_off putters, lvri_off getters) {
  c->handle = h;
  c->shm = shm;
  c->putters = putters;
  c->getters = getters;
}

static struct lvr_pipe *ready(struct lvri_handle *h) {
  struct lvr_pipe *p = (struct lvr_pipe *)(void *)h;
  struct lvri_pipe_shm *pipe = lvri_at(&h->session->arena, end_of(p)->pe_pipe);
  uint32_t which = end_of(p)->pe_which;
  lvri_off other = pipe->pi_ends[1 - which];
  lvri_session_lock(h->session);
  if (!p->in.handle) describe(&p->in, h, in_of(pipe, which), other, h->off);
  if (!p->out.handle) describe(&p->out, h, out_of(pipe, which), h->off, other);
  lvri_session_unlock(h->session);
  return p;
}

int lvr_pipe_attach(lvr_session *s, const lvr_ref *ref, lvr_pipe **ret_p) {
  struct lvri_handle *h;
  int error = lvri_object_attach(s, ref, LVRI_KIND_PIPE_END, &h);
  if (!error) *ret_p = ready(h);
  return error;
}

void lvr_pipe_ref(const lvr_pipe *p, lvr_ref *ret_ref) { lvri_object_ref(&p->handle, ret_ref); }

int lvr_pipe_send(lvr_pipe *p, lvr_ref *ret_ref) { return lvri_object_send(&p->handle, ret_ref); }

bool lvr_pipe_readable(const lvr_pipe *p) { return p->in.shm != NULL; }

bool lvr_pipe_writable(const lvr_pipe *p) { return p->out.shm != NULL; }

/* This process's handle of the other end, if it polls that: nobody but we can tell it that it is
 * not this process any more whose death it need not fear. One more use; NULL: no such. */
static struct lvr_pipe *polled_other_end(lvr_session *s, lvri_off other) {
  struct lvr_pipe *p = NULL;
  lvri_session_lock(s);
  struct lvri_record *r = lvri_handles_find(&s->handles, other);
  if (r && r->handle && r->handle->kind == LVRI_KIND_PIPE_END) {
    struct lvr_pipe *found = (struct lvr_pipe *)(void *)r->handle;
    if (lvri_load_acquire_ptr(&found->in.doorbell)) {
      p = found;
      p->handle.uses++;
    }
  }
  lvri_session_unlock(s);
  return p;
}

void lvr_pipe_detach(lvr_pipe *p) {
  if (!p) return;
  lvr_session *s = p->handle.session;
  lvri_off getters = p->out.getters;
  lvri_object_detach(&p->handle);
  struct lvr_pipe *other = polled_other_end(s, getters); /* who polls later sees that we left */
  if (!other) return;
  lvri_doorbell_settle(&other->in);
  lvri_object_detach(&other->handle);
}

/* --- create -------------------------------------------------------------------------------- */

static void join_locked(struct lvri_arena *a, struct lvri_handle *pipe,
                        struct lvri_handle *const ends[2]) {
  struct lvri_guard *g = lvri_arena_guard(a);
  struct lvri_pipe_shm *shm = (struct lvri_pipe_shm *)(void *)pipe->object;
  for (uint32_t which = 0; which < 2; which++) {
    struct lvri_pipe_end_shm *end = (struct lvri_pipe_end_shm *)(void *)ends[which]->object;
    lvri_set64(a, g, &end->pe_pipe, pipe->off);
    lvri_set32(a, g, &end->pe_which, which);
    lvri_set64(a, g, &shm->pi_ends[which], ends[which]->off);
  }
  lvri_set32(a, g, &pipe->object->ob_refs, pipe->object->ob_refs + 2);
  LVR_CRASHPOINT("pipe.create.joined");
}

static int join(struct lvri_handle *pipe, struct lvri_handle *const ends[2]) {
  struct lvri_arena *a = &pipe->session->arena;
  int error = lvri_guard_enter(a, lvri_arena_guard(a));
  if (error) return error;
  join_locked(a, pipe, ends);
  lvri_guard_leave(a, lvri_arena_guard(a));
  return 0;
}

static int create_pipe(lvr_session *s, bool duplex, struct lvri_handle **ret_pipe) {
  size_t bytes = duplex ? sizeof(struct lvri_pipe_shm) : SIMPLEX_BYTES;
  int error = lvri_object_create(s, LVRI_KIND_PIPE, bytes, ret_pipe);
  if (error) return error;
  struct lvri_pipe_shm *shm = (struct lvri_pipe_shm *)(void *)(*ret_pipe)->object;
  shm->pi_duplex = duplex;
  for (uint32_t i = 0; !error && i <= duplex; i++)
    error = lvri_channel_init(&shm->pi_channels[i], 0, LVR_PIPE_ROOM, 0);
  return error;
}

/* Killed anywhere: what it has made is in its ledger, and an end without a pipe is nothing. */
int lvr_pipe_create(lvr_session *s, bool duplex, lvr_pipe **ret_first, lvr_pipe **ret_second) {
  struct lvri_handle *pipe = NULL, *ends[2] = {NULL, NULL};
  int error = create_pipe(s, duplex, &pipe);
  for (int i = 0; !error && i < 2; i++)
    error = lvri_object_create(s, LVRI_KIND_PIPE_END, sizeof(struct lvri_pipe_end_shm), &ends[i]);
  if (!error) error = join(pipe, ends);
  lvri_object_detach(pipe);
  if (error) {
    lvri_object_detach(ends[0]);
    lvri_object_detach(ends[1]);
    return error;
  }
  *ret_first = ready(ends[0]);
  *ret_second = ready(ends[1]);
  return 0;
}

/* --- messages ------------------------------------------------------------------------------ */

int lvr_pipe_put_until(lvr_pipe *p, const void *data, size_t bytes, int64_t deadline_ns) {
  if (!p->out.shm) return -EINVAL;
  if (bytes > LVR_MESSAGE_INLINE)
    return lvri_channel_put_long_until(&p->out, data, bytes, deadline_ns);
  struct lvri_put put = {.data = data, .bytes = bytes};
  return lvri_channel_put_until(&p->out, &put, deadline_ns);
}

int lvr_pipe_put_block_until(lvr_pipe *p, const void *data, size_t bytes, lvr_block *block,
                             int64_t deadline_ns) {
  if (!p->out.shm || bytes > LVR_MESSAGE_INLINE) return -EINVAL;
  struct lvri_put put = {.data = data, .bytes = bytes, .block = block};
  return lvri_channel_put_until(&p->out, &put, deadline_ns);
}

int lvr_pipe_put_many_until(lvr_pipe *p, const struct lvr_slice *messages, uint32_t count,
                            int64_t deadline_ns, uint32_t *ret_put) {
  *ret_put = 0;
  if (!p->out.shm) return -EINVAL;
  return lvri_channel_put_many_until(&p->out, messages, count, deadline_ns, ret_put);
}

/* Who waits watches somebody who can put. Who does not want to wait at all, and comes again and
 * again, would never learn that all of them are dead. */
bool lvri_pipe_glance(struct lvr_pipe *p) {
  lvr_session *s = p->handle.session;
  lvr_proc_id writer = lvri_load_relaxed_u64(&p->in.shm->ch_writer);
  int64_t now_ns = lvri_os_now_ns();
  if (writer && !lvri_slot_alive(&s->arena, writer) && lvri_slot_of(&s->arena, writer))
    (void)lvri_slot_repair(&s->arena, writer);
  else if (now_ns - p->glanced_ns > LVRI_RELOOK_NS)
    (void)lvri_slots_sweep(&s->arena);
  else
    return false;
  p->glanced_ns = now_ns;
  return lvri_channel_readable(p->in.shm);
}

int lvr_pipe_get_until(lvr_pipe *p, struct lvr_message *ret_m, int64_t deadline_ns) {
  if (!p->in.shm) return -EINVAL;
  int error = lvri_channel_get_until(&p->in, ret_m, deadline_ns);
  if (error == -ETIMEDOUT && lvri_pipe_glance(p)) error = lvri_channel_get_until(&p->in, ret_m, 0);
  return error;
}

int lvr_pipe_get_many_until(lvr_pipe *p, void *buf, size_t room, uint32_t most, int64_t deadline_ns,
                            uint32_t *ret_count, size_t *ret_bytes) {
  struct lvri_channel *in = &p->in;
  if (!in->shm) return -EINVAL;
  int error = lvri_channel_get_many_until(in, buf, room, most, deadline_ns, ret_count, ret_bytes);
  if (error == -ETIMEDOUT && lvri_pipe_glance(p))
    error = lvri_channel_get_many_until(in, buf, room, most, 0, ret_count, ret_bytes);
  return error;
}

int lvr_pipe_wait_until(lvr_pipe *p, int64_t deadline_ns) {
  if (!p->in.shm) return -EINVAL;
  int error = lvri_channel_wait_until(&p->in, deadline_ns);
  return error == -ETIMEDOUT && lvri_pipe_glance(p) ? 0 : error;
}

int lvr_pipe_fileno(lvr_pipe *p, int *ret_fd) {
  return lvri_doorbell_fileno(p->in.shm ? &p->in : &p->out, ret_fd);
}

/* --- for kinds.c --------------------------------------------------------------------------- */

bool lvri_pipe_drain_locked(struct lvri_arena *a, lvri_off object) {
  struct lvri_pipe_shm *pipe = lvri_at(a, object);
  if (!lvri_channel_drain_locked(a, &pipe->pi_channels[0])) return false;
  return !pipe->pi_duplex || lvri_channel_drain_locked(a, &pipe->pi_channels[1]);
}

void lvri_pipe_each(struct lvri_arena *a, lvri_off object,
                    void (*visit)(void *context, lvri_off object), void *context) {
  struct lvri_pipe_shm *pipe = lvri_at(a, object);
  lvri_channel_each(a, &pipe->pi_channels[0], visit, context);
  if (pipe->pi_duplex) lvri_channel_each(a, &pipe->pi_channels[1], visit, context);
}

bool lvri_pipe_valid(struct lvri_arena *a, lvri_off object) {
  struct lvri_pipe_shm *pipe = lvri_at(a, object);
  return pipe->pi_duplex <= 1 && lvri_channel_valid(a, &pipe->pi_channels[0]) &&
         (!pipe->pi_duplex || lvri_channel_valid(a, &pipe->pi_channels[1]));
}

static void close_side(struct lvri_arena *a, struct lvri_channel_shm *channel, uint32_t side) {
  if (!channel) return;
  lvri_channel_close_locked(a, channel, side);
  LVR_CRASHPOINT("pipe.close.closed");
  lvri_channel_ring_closed(a, channel);
  LVR_CRASHPOINT("pipe.close.rung");
}

void lvri_pipe_end_fini_locked(struct lvri_arena *a, lvri_off object) {
  const struct lvri_pipe_end_shm *end = lvri_at(a, object);
  if (!end->pe_pipe) return;
  struct lvri_pipe_shm *pipe = lvri_at(a, end->pe_pipe);
  close_side(a, out_of(pipe, end->pe_which), LVRI_CHANNEL_NO_WRITER);
  close_side(a, in_of(pipe, end->pe_which), LVRI_CHANNEL_NO_READER);
  lvri_object_unref_locked(a, end->pe_pipe);
}

void lvri_pipe_end_left_locked(struct lvri_arena *a, lvri_off object, lvr_proc_id who) {
  const struct lvri_pipe_end_shm *end = lvri_at(a, object);
  if (!end->pe_pipe) return;
  struct lvri_channel_shm *channel = out_of(lvri_at(a, end->pe_pipe), end->pe_which);
  if (channel && channel->ch_doorbells) lvri_doorbell_left_locked(a, channel, who);
}

void lvri_pipe_end_each(struct lvri_arena *a, lvri_off object,
                        void (*visit)(void *context, lvri_off object), void *context) {
  const struct lvri_pipe_end_shm *end = lvri_at(a, object);
  if (end->pe_pipe) visit(context, end->pe_pipe);
}

bool lvri_pipe_end_valid(struct lvri_arena *a, lvri_off object) {
  const struct lvri_pipe_end_shm *end = lvri_at(a, object);
  if (!end->pe_pipe) return true;
  if (end->pe_which > 1 || !lvri_heap_is_block(a, end->pe_pipe) ||
      lvri_heap_kind(a, end->pe_pipe) != LVRI_KIND_PIPE)
    return false;
  struct lvri_pipe_shm *pipe = lvri_at(a, end->pe_pipe);
  return pipe->pi_ends[end->pe_which] == object;
}

void lvri_pipe_end_close(struct lvri_handle *h) {
  struct lvr_pipe *p = (struct lvr_pipe *)(void *)h;
  lvri_doorbell_close(&p->in);
  lvri_doorbell_close(&p->out);
}
