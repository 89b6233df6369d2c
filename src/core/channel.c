#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "base/crashpoint.h"
#include "core/block.h"
#include "core/channel_inner.h"
#include "core/doorbell.h"
#include "core/grave.h"

#define UNIT_BYTES 64u /* of ch_put_units */

static struct lvri_arena *arena_of(const struct lvri_channel *c) {
  return &c->handle->session->arena;
}

int lvri_channel_init(struct lvri_channel_shm *shm, uint32_t bound, uint64_t most_bytes,
                      uint32_t flags) {
  shm->ch_bound = bound;
  shm->ch_most_units = (uint32_t)(most_bytes / UNIT_BYTES);
  shm->ch_flags = flags;
  int error = lvri_mutex_init(&shm->ch_put_mutex);
  return error ? error : lvri_mutex_init(&shm->ch_get_mutex);
}

/* --- looking ------------------------------------------------------------------------------- */

/* As it was when the tail was read: the head was the same before and after that. */
uint32_t lvri_channel_size(const struct lvri_channel_shm *shm) {
  uint32_t head = lvri_channel_count_of(lvri_load_acquire_u64(&shm->ch_head));
  for (;;) {
    uint32_t tail = lvri_channel_count_of(lvri_load_acquire_u64(&shm->ch_tail));
    uint32_t again = lvri_channel_count_of(lvri_load_acquire_u64(&shm->ch_head));
    if (again == head) return tail - head;
    head = again;
  }
}

static bool is_closed(const struct lvri_channel_shm *shm, uint32_t side) {
  return lvri_load_acquire_u32(&shm->ch_closed) & side;
}

bool lvri_channel_readable(const struct lvri_channel_shm *shm) {
  return lvri_channel_size(shm) != 0 || is_closed(shm, LVRI_CHANNEL_NO_WRITER);
}

/* --- room; with the put mutex ---------------------------------------------------------------- */

/* The bound holds for what others have got by now; what we remember of that is looked up again only
 * when it says no. */
static bool has_place(struct lvri_channel_shm *shm) {
  if (!shm->ch_bound) return true;
  uint32_t puts = lvri_channel_count_of(lvri_load_relaxed_u64(&shm->ch_tail));
  if (__builtin_expect(puts - shm->ch_seen_gets < shm->ch_bound, 1)) return true;
  shm->ch_seen_gets = lvri_channel_count_of(lvri_load_acquire_u64(&shm->ch_head));
  return puts - shm->ch_seen_gets < shm->ch_bound;
}

static uint32_t units_of(const struct lvri_put *put) {
  size_t bytes = put->bytes;
  if (put->block) bytes += lvr_block_bytes(put->block);
  return (uint32_t)(bytes / UNIT_BYTES) + 1;
}

/* One message always has room, however long it is. */
static bool has_units(const struct lvri_channel_shm *shm, const struct lvri_put *put) {
  if (!shm->ch_most_units) return true;
  uint32_t used =
      lvri_load_relaxed_u32(&shm->ch_put_units) - lvri_load_acquire_u32(&shm->ch_got_units);
  return used + units_of(put) <= shm->ch_most_units || lvri_channel_size(shm) == 0;
}

bool lvri_channel_has_room(const struct lvri_channel_shm *shm, const struct lvri_put *put) {
  if (is_closed(shm, LVRI_CHANNEL_NO_READER)) return true; /* for an error */
  if (shm->ch_bound && lvri_channel_size(shm) >= shm->ch_bound) return false;
  return has_units(shm, put);
}

/* --- putting; with the put mutex ------------------------------------------------------------- */

/* The block leaves its sender's ledger and becomes pending, in one transaction. With the session's
 * mutex; with 0 the handle is gone. */
static int give_block_held(struct lvri_channel *c, lvr_block *block) {
  struct lvri_arena *a = arena_of(c);
  struct lvri_guard *g = lvri_arena_guard(a);
  struct lvri_channel_shm *shm = c->shm;
  uint32_t puts = lvri_channel_count_of(lvri_load_relaxed_u64(&shm->ch_tail));
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  error = lvri_block_give_locked(block);
  if (error) {
    lvri_guard_abort(a, g);
    return error;
  }
  lvri_set32(a, g, &shm->ch_pending_count, puts + 1);
  lvri_set64_shared(a, g, &shm->ch_pending, block->handle.off);
  LVR_CRASHPOINT("channel.put.pending");
  lvri_guard_leave(a, g);
  lvri_block_given(block);
  return 0;
}

static int give_block(struct lvri_channel *c, lvr_block *block) {
  lvri_session_lock(c->handle->session);
  int error = give_block_held(c, block);
  lvri_session_unlock(c->handle->session);
  return error;
}

static void note_units(struct lvri_channel_shm *shm, uint32_t units) {
  uint32_t before = lvri_load_relaxed_u32(&shm->ch_put_units);
  lvri_store_relaxed_u32(&shm->ch_put_units, before + units);
}

static void write_record(struct lvri_channel_shm *shm, struct lvri_record_header *record,
                         const struct lvri_put *put) {
  record->rc_bytes = (uint16_t)put->bytes;
  record->rc_flags = 0;
  record->rc_units = lvri_load_relaxed_u32(&shm->ch_put_units);
  if (put->block) {
    record->rc_flags = LVRI_RECORD_BLOCK | (put->bytes ? 0 : LVRI_RECORD_LONG);
    *lvri_record_block(record) = lvri_load_relaxed_u64(&shm->ch_pending);
  }
  if (put->bytes) memcpy(lvri_record_data(record), put->data, put->bytes);
}

static void publish_tail(struct lvri_channel *c, uint32_t bytes) {
  struct lvri_channel_shm *shm = c->shm;
  uint64_t tail = lvri_load_relaxed_u64(&shm->ch_tail);
  uint64_t behind =
      lvri_channel_word(lvri_channel_count_of(tail) + 1, lvri_channel_pos_of(tail) + bytes);
  lvr_proc_id self = lvri_session_self(c->handle->session);
  if (lvri_load_relaxed_u64(&shm->ch_writer) != self) lvri_store_relaxed_u64(&shm->ch_writer, self);
  LVR_CRASHPOINT("channel.put.written");
  lvri_store_release_u64(&shm->ch_tail, behind); /* pairs with the acquire in is_there() */
  lvri_fence_compiler();
  LVR_CRASHPOINT("channel.put.published");
}

/* Before there is a message: see core/doorbell.c. */
static int ring_doorbells(struct lvri_channel *c) {
  lvri_fence_seq_behind_rmw(); /* the mutex: pairs with arming, in doorbell.c */
  if (__builtin_expect(!(lvri_load_relaxed_u32(&c->shm->ch_items) & LVRI_BELL_ARMED), 1)) return 0;
  return lvri_doorbell_ring(arena_of(c), c->shm);
}

/* 0, or why not: then nothing has changed. */
static int put_locked(struct lvri_channel *c, const struct lvri_put *put) {
  struct lvri_channel_shm *shm = c->shm;
  struct lvri_arena *a = arena_of(c);
  uint32_t bytes = lvri_record_bytes(put->bytes, put->block != NULL);
  if (__builtin_expect(is_closed(shm, LVRI_CHANNEL_NO_READER | LVRI_CHANNEL_NO_WRITER), 0))
    return -EPIPE;
  LVR_CRASHPOINT("channel.put.looked");
  if (!has_place(shm) || !has_units(shm, put)) return -EAGAIN;
  uint32_t units = shm->ch_most_units ? units_of(put) : 0; /* soon the block is not ours any more */
  int error = lvri_channel_make_room(a, shm, bytes);
  if (!error) error = ring_doorbells(c);
  if (!error && put->block) error = give_block(c, put->block);
  if (__builtin_expect(error != 0, 0)) return error;
  if (units) note_units(shm, units);
  uint32_t pos = lvri_channel_pos_of(lvri_load_relaxed_u64(&shm->ch_tail));
  write_record(shm, lvri_record_at(lvri_segment_at(a, shm->ch_put_segment), pos), put);
  publish_tail(c, bytes);
  if (put->block) lvri_store_release_u64(&shm->ch_pending, 0);
  LVR_CRASHPOINT("channel.put.done");
  return 0;
}

static void ring_items(struct lvri_channel *c) {
  if (__builtin_expect(lvri_channel_is_awaited(&c->shm->ch_items), 0))
    lvri_channel_ring_items(c->shm);
}

int lvri_channel_try_put(struct lvri_channel *c, const struct lvri_put *put, bool patient) {
  if (__builtin_expect(lvri_session_stale(c->handle->session), 0)) return -ESTALE;
  LVRI_ASSERT(put->bytes <= LVR_MESSAGE_INLINE);
  int error = lvri_channel_lock_put(arena_of(c), c->shm, patient);
  if (__builtin_expect(error != 0, 0)) return error;
  error = put_locked(c, put);
  lvri_channel_unlock(&c->shm->ch_put_mutex);
  if (__builtin_expect(error != 0, 0)) return error;
  ring_items(c);
  return 0;
}

/* As many as there is room for. 0: all. */
static int put_some(struct lvri_channel *c, const struct lvr_slice *messages, uint32_t count,
                    uint32_t *done) {
  int error = lvri_channel_lock_put(arena_of(c), c->shm, true);
  if (error) return error;
  for (; !error && *done < count; *done += !error) {
    struct lvri_put put = {.data = messages[*done].data, .bytes = messages[*done].bytes};
    error = put.bytes > LVR_MESSAGE_INLINE ? -EINVAL : put_locked(c, &put);
  }
  lvri_channel_unlock(&c->shm->ch_put_mutex);
  ring_items(c);
  return error;
}

int lvri_channel_put_many_since_until(struct lvri_channel *c, const struct lvr_slice *messages,
                                      uint32_t count, uint32_t mark, int64_t deadline_ns,
                                      uint32_t *done) {
  int error = lvri_session_stale(c->handle->session) ? -ESTALE : 0;
  while (!error && *done < count) {
    error = put_some(c, messages, count, done);
    if (error != -EAGAIN) continue;
    struct lvri_put put = {.data = messages[*done].data, .bytes = messages[*done].bytes};
    error = lvri_channel_put_since_until(c, &put, mark, deadline_ns);
    if (!error) ++*done;
  }
  return error;
}

int lvri_channel_put_many_until(struct lvri_channel *c, const struct lvr_slice *messages,
                                uint32_t count, int64_t deadline_ns, uint32_t *ret_put) {
  *ret_put = 0;
  return lvri_channel_put_many_since_until(c, messages, count, lvri_channel_mark(c), deadline_ns,
                                           ret_put);
}

int lvri_channel_put_long_until(struct lvri_channel *c, const void *data, size_t bytes,
                                int64_t deadline_ns) {
  lvr_block *block;
  int error = lvr_block_create(c->handle->session, bytes, 0, &block);
  if (error) return error;
  memcpy(lvr_block_data(block), data, bytes);
  struct lvri_put put = {.data = "", .block = block};
  error = lvri_channel_put_until(c, &put, deadline_ns);
  if (error) lvr_block_detach(block);
  return error;
}

void lvr_message_fini(struct lvr_message *m) {
  lvr_block_detach(m->block);
  m->block = NULL;
}

/* --- getting; with the get mutex ------------------------------------------------------------- */

/* Whether there is a message; the tail is looked up only when all that we know of were got. */
static bool is_there(struct lvri_channel_shm *shm) {
  uint32_t gets = lvri_channel_count_of(lvri_load_relaxed_u64(&shm->ch_head));
  if (__builtin_expect(gets != shm->ch_seen_puts, 1)) return true;
  /* pairs with the release in publish_tail() */
  shm->ch_seen_puts = lvri_channel_count_of(lvri_load_acquire_u64(&shm->ch_tail));
  return gets != shm->ch_seen_puts;
}

/* What is about to be taken is ours from the store of the head on: whoever buries us finds it. */
static void note_claim(struct lvri_channel *c, uint32_t count) {
  if (__builtin_expect(!c->claim, 1)) return;
  uint32_t first = lvri_channel_count_of(lvri_load_relaxed_u64(&c->shm->ch_head));
  c->shm->ch_claim = lvri_off_in(arena_of(c), c->claim);
  lvri_fence_compiler();
  LVR_CRASHPOINT("channel.claim.placed");
  lvri_store_release_u64(c->claim, (uint64_t)first << 32 | count);
  LVR_CRASHPOINT("channel.claim.noted");
}

/* They were not to be had after all. */
static void strike_note(struct lvri_channel *c) {
  c->refused = lvri_channel_count_of(lvri_load_relaxed_u64(&c->shm->ch_head));
  if (c->claim) lvri_store_release_u64(c->claim, 0);
}

/* In a transaction: `count` more messages are this process's to call done, and the head will be
 * behind them. */
static void note_taken(struct lvri_channel *c, uint64_t head, uint32_t count) {
  struct lvri_arena *a = arena_of(c);
  struct lvri_guard *g = lvri_arena_guard(a);
  struct lvri_ledger_entry *entry = lvri_handle_entry(c->handle);
  if (c->shm->ch_flags & LVRI_CHANNEL_COUNTED)
    lvri_set32(a, g, &entry->le_held, entry->le_held + count);
  lvri_set64_shared(a, g, &c->shm->ch_taken, UINT64_C(1) << 32 | lvri_channel_count_of(head));
  LVR_CRASHPOINT("channel.get.taken");
}

/* Publishes a head that was noted as taken. */
static void publish_taken(struct lvri_channel_shm *shm, uint64_t head, uint32_t units) {
  lvri_channel_publish_head(shm, head, units);
  lvri_store_release_u64(&shm->ch_taken, 0);
  LVR_CRASHPOINT("channel.get.done");
}

/* The block goes from the record into our ledger. With the session's mutex. */
static int take_block_held(struct lvri_channel *c, lvri_off block, uint64_t head,
                           lvr_block **ret_block) {
  struct lvri_arena *a = arena_of(c);
  struct lvri_guard *g = lvri_arena_guard(a);
  struct lvri_taking taking;
  int error = lvri_block_take_begin(c->handle->session, &taking);
  if (error) return error;
  error = lvri_guard_enter(a, g);
  if (error) goto untaken;
  error = lvri_block_take_locked(&taking, block);
  if (error) {
    lvri_guard_abort(a, g);
    goto untaken;
  }
  note_taken(c, head, 1);
  lvri_guard_leave(a, g);
  *ret_block = lvri_block_taken(&taking);
  return 0;
untaken:
  lvri_block_untaken(&taking);
  return error;
}

static int take_block(struct lvri_channel *c, struct lvri_record_header *record, uint64_t head,
                      struct lvr_message *ret_m) {
  lvr_block *block;
  lvri_session_lock(c->handle->session);
  lvri_off off = *lvri_record_block(record);
  int error = take_block_held(c, off, head, &block);
  if (error == -ENOMEM && lvri_heap_squeeze(arena_of(c)))
    error = take_block_held(c, off, head, &block);
  lvri_session_unlock(c->handle->session);
  if (error) return error;
  ret_m->block = block;
  ret_m->in_block = record->rc_flags & LVRI_RECORD_LONG;
  if (ret_m->in_block) {
    ret_m->data = lvr_block_data(block);
    ret_m->bytes = lvr_block_bytes(block);
  }
  return 0;
}

static int take_counted(struct lvri_channel *c, uint64_t head, uint32_t count) {
  struct lvri_arena *a = arena_of(c);
  struct lvri_guard *g = lvri_arena_guard(a);
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  note_taken(c, head, count);
  lvri_guard_leave(a, g);
  return 0;
}

static inline void copy_out(struct lvri_record_header *record, struct lvr_message *ret_m) {
  ret_m->bytes = record->rc_bytes;
  ret_m->data = ret_m->small;
  ret_m->block = NULL;
  ret_m->in_block = false;
  memcpy(ret_m->small, lvri_record_data(record), record->rc_bytes);
}

/* Copies the record out, takes what travels with it, moves the head. */
static int take(struct lvri_channel *c, struct lvri_record_header *record,
                struct lvr_message *ret_m) {
  struct lvri_channel_shm *shm = c->shm;
  uint64_t head = lvri_channel_head_behind(lvri_load_relaxed_u64(&shm->ch_head), record);
  uint32_t units = record->rc_units;
  bool plain = !(record->rc_flags & LVRI_RECORD_BLOCK) && !(shm->ch_flags & LVRI_CHANNEL_COUNTED);
  copy_out(record, ret_m);
  note_claim(c, 1);
  if (__builtin_expect(plain, 1)) {
    lvri_channel_publish_head(shm, head, units);
    return 0;
  }
  int error = record->rc_flags & LVRI_RECORD_BLOCK ? take_block(c, record, head, ret_m)
                                                   : take_counted(c, head, 1);
  if (error)
    strike_note(c);
  else
    publish_taken(shm, head, units);
  return error;
}

/* 0, or why not: then nothing has changed. What can still be got can be got when all writers are
 * gone. */
static int get_locked(struct lvri_channel *c, struct lvr_message *ret_m) {
  struct lvri_record_header *record;
  bool closed = is_closed(c->shm, LVRI_CHANNEL_NO_WRITER);
  if (!is_there(c->shm)) return closed ? -EPIPE : -EAGAIN;
  int error = lvri_channel_find_record(arena_of(c), c->shm, &record);
  return error ? error : take(c, record, ret_m);
}

static void ring_room(struct lvri_channel *c) {
  if (!c->shm->ch_bound && !c->shm->ch_most_units) return;
  if (__builtin_expect(lvri_channel_is_awaited(&c->shm->ch_room), 0))
    lvri_channel_ring_room(c->shm);
}

int lvri_channel_try_get(struct lvri_channel *c, struct lvr_message *ret_m, bool patient) {
  if (__builtin_expect(lvri_session_stale(c->handle->session), 0)) return -ESTALE;
  int error = lvri_channel_lock_get(arena_of(c), c->shm, patient);
  if (__builtin_expect(error != 0, 0)) return error;
  error = get_locked(c, ret_m);
  lvri_channel_unlock(&c->shm->ch_get_mutex);
  lvri_channel_looked(c);
  if (__builtin_expect(error != 0, 0)) return error;
  ring_room(c);
  return 0;
}

/* The reference that the record is goes, in one transaction with the note that the message is
 * taken: who is killed behind it has the head moved by the next one, who finds no block there. */
static int take_without_block(struct lvri_channel *c, struct lvri_record_header *record) {
  struct lvri_channel_shm *shm = c->shm;
  struct lvri_arena *a = arena_of(c);
  uint64_t head = lvri_channel_head_behind(lvri_load_relaxed_u64(&shm->ch_head), record);
  uint32_t units = record->rc_units;
  note_claim(c, 1);
  int error = lvri_guard_enter(a, lvri_arena_guard(a));
  if (error) {
    strike_note(c);
    return error;
  }
  lvri_object_unref_locked(a, *lvri_record_block(record));
  note_taken(c, head, 1);
  lvri_guard_leave(a, lvri_arena_guard(a));
  publish_taken(shm, head, units);
  return 0;
}

static int get_bare_locked(struct lvri_channel *c, uint32_t number, struct lvr_message *ret_m) {
  struct lvri_record_header *record;
  uint32_t first = lvri_channel_count_of(lvri_load_relaxed_u64(&c->shm->ch_head));
  if (!is_there(c->shm) || first != number) return -ENOENT;
  int error = lvri_channel_find_record(arena_of(c), c->shm, &record);
  if (error) return error;
  if (!(record->rc_flags & LVRI_RECORD_BLOCK)) return -EINVAL;
  copy_out(record, ret_m);
  return take_without_block(c, record);
}

int lvri_channel_try_get_bare(struct lvri_channel *c, uint32_t number, struct lvr_message *ret_m) {
  if (lvri_session_stale(c->handle->session)) return -ESTALE;
  int error = lvri_channel_lock_get(arena_of(c), c->shm, true);
  if (error) return error;
  error = get_bare_locked(c, number, ret_m);
  lvri_channel_unlock(&c->shm->ch_get_mutex);
  lvri_channel_looked(c);
  if (error) return error;
  lvri_grave_empty(arena_of(c));
  ring_room(c);
  return 0;
}

/* --- getting many -------------------------------------------------------------------------- */

/* A batch of records of one segment, packed into a buffer. */
struct batch {
  unsigned char *buf;
  size_t room, used;
  uint32_t most, count, units;
  uint64_t head;
};

/* Of so many bytes, in the buffer. */
static size_t packed_bytes(uint32_t bytes) {
  return sizeof(uint32_t) + (((size_t)bytes + 3) & ~(size_t)3);
}

static void pack(struct batch *b, struct lvri_record_header *record) {
  uint32_t bytes = record->rc_bytes;
  memcpy(b->buf + b->used, &bytes, sizeof(bytes));
  memcpy(b->buf + b->used + sizeof(bytes), lvri_record_data(record), bytes);
  b->used += packed_bytes(bytes);
  b->head = lvri_channel_head_behind(b->head, record);
  b->units = record->rc_units;
  b->count++;
}

/* The next record of the batch's segment; NULL where the batch ends. */
static struct lvri_record_header *next_of(struct lvri_channel *c, const struct batch *b) {
  struct lvri_segment *segment = lvri_segment_at(arena_of(c), c->shm->ch_get_segment);
  uint32_t pos = lvri_channel_pos_of(b->head);
  if (b->count == b->most || lvri_channel_count_of(b->head) == c->shm->ch_seen_puts) return NULL;
  if (lvri_segment_ends_at(segment, pos)) return NULL;
  if (!lvri_record_is_sound(segment, pos)) return NULL;
  struct lvri_record_header *record = lvri_record_at(segment, pos);
  bool fits = b->used + packed_bytes(record->rc_bytes) <= b->room;
  return fits && !(record->rc_flags & LVRI_RECORD_BLOCK) ? record : NULL;
}

static int get_batch(struct lvri_channel *c, struct batch *b) {
  struct lvri_record_header *record;
  struct lvri_channel_shm *shm = c->shm;
  bool closed = is_closed(shm, LVRI_CHANNEL_NO_WRITER),
       counted = shm->ch_flags & LVRI_CHANNEL_COUNTED;
  if (!is_there(shm)) return closed ? -EPIPE : -EAGAIN;
  int error = lvri_channel_find_record(arena_of(c), shm, &record);
  if (error) return error;
  b->head = lvri_load_relaxed_u64(&shm->ch_head);
  while ((record = next_of(c, b)))
    pack(b, record);
  if (b->count == 0) return 0;
  note_claim(c, b->count);
  if (counted) error = take_counted(c, b->head, b->count);
  if (error) {
    strike_note(c);
    return error;
  }
  if (counted)
    publish_taken(shm, b->head, b->units);
  else
    lvri_channel_publish_head(shm, b->head, b->units);
  return 0;
}

static int try_get_many(struct lvri_channel *c, void *batch) {
  struct batch *b = batch;
  if (lvri_session_stale(c->handle->session)) return -ESTALE;
  int error = lvri_channel_lock_get(arena_of(c), c->shm, true);
  if (error) return error;
  error = get_batch(c, b);
  lvri_channel_unlock(&c->shm->ch_get_mutex);
  lvri_channel_looked(c);
  if (!error) ring_room(c);
  return error;
}

int lvri_channel_get_many_since_until(struct lvri_channel *c, void *buf, size_t room, uint32_t most,
                                      uint32_t mark, int64_t deadline_ns, uint32_t *ret_count,
                                      size_t *ret_bytes) {
  if (room < LVR_MESSAGE_INLINE + sizeof(uint32_t) || most == 0) return -EINVAL;
  struct batch b = {.buf = buf, .room = room, .most = most};
  int error = lvri_channel_get_by(c, try_get_many, &b, mark, deadline_ns);
  if (error) return error;
  *ret_count = b.count;
  *ret_bytes = b.used;
  return 0;
}

int lvri_channel_get_many_until(struct lvri_channel *c, void *buf, size_t room, uint32_t most,
                                int64_t deadline_ns, uint32_t *ret_count, size_t *ret_bytes) {
  return lvri_channel_get_many_since_until(c, buf, room, most, lvri_channel_mark(c), deadline_ns,
                                           ret_count, ret_bytes);
}
