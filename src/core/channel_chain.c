#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "base/crashpoint.h"
#include "core/channel_inner.h"
#include "core/doorbell.h"
#include "core/grave.h"
#include "os/os.h"

/* Room in a channel's first segment, its second, ...; a message that is longer gets one that fits.
 * All but the last are sizes of small blocks. The last is a run of pages, which the heap keeps
 * warm. */
static const uint32_t segment_bytes[] = {768, 4288, 16064, LVRI_PAGE_BYTES};

#define SEGMENT_SIZES (sizeof(segment_bytes) / sizeof(*segment_bytes))
#define SPIN_TRIES    100u

/* --- the mutexes --------------------------------------------------------------------------- */

/* What a switch of segments or a hand-over left in the arena's journal is rolled back by whoever
 * enters. */
static int settle(struct lvri_arena *a) {
  struct lvri_guard *g = lvri_arena_guard(a);
  int error = lvri_guard_enter(a, g);
  if (!error) lvri_guard_leave(a, g);
  return error;
}

/* Whether the message that was to carry the pending block is out. */
static bool is_out(const struct lvri_channel_shm *shm, uint64_t tail) {
  return (int32_t)(lvri_channel_count_of(tail) - shm->ch_pending_count) >= 0;
}

static void settle_pending_locked(struct lvri_arena *a, struct lvri_channel_shm *shm) {
  lvri_off block = lvri_load_relaxed_u64(&shm->ch_pending);
  if (!block) return;
  lvri_set64_shared(a, lvri_arena_guard(a), &shm->ch_pending, 0);
  LVR_CRASHPOINT("channel.pending.settled");
  if (!is_out(shm, lvri_load_relaxed_u64(&shm->ch_tail))) lvri_object_unref_locked(a, block);
}

static int finish_put(struct lvri_arena *a, struct lvri_channel_shm *shm) {
  struct lvri_guard *g = lvri_arena_guard(a);
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  settle_pending_locked(a, shm);
  lvri_guard_leave(a, g);
  lvri_grave_empty(a);
  return 0;
}

/* What the dead one had taken in a transaction is his: the head goes behind it. All of it lies in
 * one segment. */
static void finish_taken(struct lvri_arena *a, struct lvri_channel_shm *shm) {
  uint64_t taken = lvri_load_relaxed_u64(&shm->ch_taken);
  if (!taken) return;
  struct lvri_segment *segment = lvri_segment_at(a, shm->ch_get_segment);
  uint64_t head = lvri_load_relaxed_u64(&shm->ch_head);
  uint32_t units = 0;
  while (lvri_channel_count_of(head) != (uint32_t)taken) {
    const struct lvri_record_header *record = lvri_record_at(segment, lvri_channel_pos_of(head));
    head = lvri_channel_head_behind(head, record);
    units = record->rc_units;
  }
  if (head != lvri_load_relaxed_u64(&shm->ch_head)) lvri_channel_publish_head(shm, head, units);
  LVR_CRASHPOINT("channel.taken.finished");
  lvri_store_release_u64(&shm->ch_taken, 0);
}

/* What the dead one noted as taken, and did not take, is not his. A note that ends before the head
 * is of an earlier claim, perhaps a living one's, whose tail was taken back. */
static void strike_claim(struct lvri_arena *a, struct lvri_channel_shm *shm) {
  if (!shm->ch_claim) return;
  _Atomic uint64_t *place = lvri_at(a, shm->ch_claim);
  uint64_t claim = lvri_load_relaxed_u64(place);
  uint32_t end = (uint32_t)(claim >> 32) + (uint32_t)claim;
  uint32_t gets = lvri_channel_count_of(lvri_load_relaxed_u64(&shm->ch_head));
  if ((int32_t)(end - gets) > 0) lvri_store_release_u64(place, 0);
  LVR_CRASHPOINT("channel.claim.struck");
}

static int finish_get(struct lvri_arena *a, struct lvri_channel_shm *shm) {
  int error = settle(a);
  if (error) return error;
  finish_taken(a, shm);
  strike_claim(a, shm);
  return 0;
}

/* Spins for a moment: who holds a mutex is about to give it back, unless he was interrupted. */
static int lock_soon(struct lvri_mutex *m) {
  for (uint32_t i = 0; i < SPIN_TRIES; i++) {
    if ((lvri_load_relaxed_u32(lvri_mutex_word(m)) & LVRI_MUTEX_TID) == 0) {
      int error = lvri_mutex_trylock(m);
      if (error != -EBUSY) return error;
    }
    lvri_cpu_relax();
  }
  return -EBUSY;
}

static int lock(struct lvri_mutex *m, bool patient) {
  lvri_rank_take(LVRI_RANK_CHANNEL);
  int error = lvri_mutex_trylock(m);
  if (error == -EBUSY) error = lock_soon(m);
  if (error == -EBUSY && patient) error = lvri_mutex_lock(m);
  if (error && error != -EOWNERDEAD) lvri_rank_give(LVRI_RANK_CHANNEL);
  return error;
}

/* After -EOWNERDEAD and what had to be finished. */
static int lock_over(struct lvri_mutex *m, int error) {
  if (!error) {
    LVR_CRASHPOINT("channel.takeover.finished");
    lvri_mutex_consistent(m);
    return 0;
  }
  lvri_channel_unlock(m); /* not consistent: from now on nobody gets in */
  return -ENOTRECOVERABLE;
}

int lvri_channel_lock_put(struct lvri_arena *a, struct lvri_channel_shm *shm, bool patient) {
  int error = lock(&shm->ch_put_mutex, patient);
  if (__builtin_expect(error != -EOWNERDEAD, 1)) return error;
  LVR_CRASHPOINT("channel.put.takeover");
  return lock_over(&shm->ch_put_mutex, finish_put(a, shm));
}

int lvri_channel_lock_get(struct lvri_arena *a, struct lvri_channel_shm *shm, bool patient) {
  int error = lock(&shm->ch_get_mutex, patient);
  if (__builtin_expect(error != -EOWNERDEAD, 1)) return error;
  LVR_CRASHPOINT("channel.get.takeover");
  return lock_over(&shm->ch_get_mutex, finish_get(a, shm));
}

void lvri_channel_unlock(struct lvri_mutex *m) {
  lvri_mutex_unlock(m);
  lvri_rank_give(LVRI_RANK_CHANNEL);
}

/* --- switching segments -------------------------------------------------------------------- */

/* The size that comes after the put segment's, or the first that a record of so many bytes fits. */
static uint32_t next_bytes(const struct lvri_segment *old, uint32_t record) {
  uint32_t room = old ? old->sg_room : 0, i = 0;
  while (i + 1 < SEGMENT_SIZES && (segment_bytes[i] - sizeof(struct lvri_segment) <= room ||
                                   segment_bytes[i] - sizeof(struct lvri_segment) < record))
    i++;
  return segment_bytes[i];
}

static int new_segment(struct lvri_arena *a, uint32_t bytes, lvri_off *ret_segment) {
  int error = lvri_heap_alloc_locked(a, bytes, LVRI_KIND_PART, ret_segment);
  if (error) return error;
  *lvri_segment_at(a, *ret_segment) = (struct lvri_segment){
      .sg_sealed = LVRI_SEGMENT_OPEN, .sg_room = bytes - (uint32_t)sizeof(struct lvri_segment)};
  return 0;
}

/* The spare one if it is long enough, else a longer one than there was. A spare one that is shorter
 * than what we ask for now goes: the channel has grown. */
static int take_segment(struct lvri_arena *a, struct lvri_channel_shm *shm, uint32_t record,
                        lvri_off *ret_segment) {
  const struct lvri_segment *old =
      shm->ch_put_segment ? lvri_segment_at(a, shm->ch_put_segment) : NULL;
  lvri_off spare = shm->ch_spare;
  uint32_t bytes = next_bytes(old, record);
  if (spare) {
    lvri_set64(a, lvri_arena_guard(a), &shm->ch_spare, 0);
    uint32_t room = lvri_segment_at(a, spare)->sg_room;
    if (room >= record && room + sizeof(struct lvri_segment) >= bytes) {
      *ret_segment = spare;
      return 0;
    }
    lvri_heap_free_locked(a, spare);
  }
  return new_segment(a, bytes, ret_segment);
}

/* Seals the put segment, if there is one, and makes `segment` the next. */
static void link_segment(struct lvri_arena *a, struct lvri_channel_shm *shm, lvri_off segment) {
  struct lvri_guard *g = lvri_arena_guard(a);
  uint64_t tail = lvri_load_relaxed_u64(&shm->ch_tail);
  lvri_set32(a, g, &lvri_segment_at(a, segment)->sg_first, lvri_channel_count_of(tail));
  if (shm->ch_put_segment) {
    struct lvri_segment *old = lvri_segment_at(a, shm->ch_put_segment);
    lvri_set32_shared(a, g, &old->sg_sealed, lvri_channel_pos_of(tail));
    lvri_set64(a, g, &old->sg_next, segment);
  } else {
    lvri_set64(a, g, &shm->ch_get_segment, segment);
  }
  lvri_set64(a, g, &shm->ch_put_segment, segment);
  lvri_set64_shared(a, g, &shm->ch_tail, lvri_channel_word(lvri_channel_count_of(tail), 0));
}

static int switch_segment(struct lvri_arena *a, struct lvri_channel_shm *shm, uint32_t record) {
  struct lvri_guard *g = lvri_arena_guard(a);
  lvri_off segment;
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  error = take_segment(a, shm, record, &segment);
  if (error) {
    lvri_guard_abort(a, g);
    return error;
  }
  link_segment(a, shm, segment);
  LVR_CRASHPOINT("channel.segment.linked");
  lvri_guard_leave(a, g);
  return 0;
}

int lvri_channel_make_room(struct lvri_arena *a, struct lvri_channel_shm *shm, uint32_t bytes) {
  if (__builtin_expect(shm->ch_put_segment != 0, 1)) {
    uint32_t pos = lvri_channel_pos_of(lvri_load_relaxed_u64(&shm->ch_tail));
    if (__builtin_expect(bytes <= lvri_segment_at(a, shm->ch_put_segment)->sg_room - pos, 1))
      return 0;
  }
  int error = switch_segment(a, shm, bytes);
  return error == -ENOMEM && lvri_heap_squeeze(a) ? switch_segment(a, shm, bytes) : error;
}

/* --- the way of the head ------------------------------------------------------------------- */

bool lvri_record_is_sound(const struct lvri_segment *segment, uint32_t pos) {
  if (pos % LVRI_RECORD_ALIGN || pos + sizeof(struct lvri_record_header) > segment->sg_room)
    return false;
  const struct lvri_record_header *record =
      lvri_record_at((struct lvri_segment *)(uintptr_t)segment, pos);
  bool block = record->rc_flags & LVRI_RECORD_BLOCK;
  return record->rc_flags <= LVRI_RECORD_FLAGS && record->rc_bytes <= LVR_MESSAGE_INLINE &&
         lvri_record_bytes(record->rc_bytes, block) <= segment->sg_room - pos;
}

uint64_t lvri_channel_head_behind(uint64_t head, const struct lvri_record_header *record) {
  uint32_t bytes = lvri_record_bytes(record->rc_bytes, record->rc_flags & LVRI_RECORD_BLOCK);
  return lvri_channel_word(lvri_channel_count_of(head) + 1, lvri_channel_pos_of(head) + bytes);
}

void lvri_channel_publish_head(struct lvri_channel_shm *shm, uint64_t head, uint32_t units) {
  LVR_CRASHPOINT("channel.get.copied");
  lvri_store_release_u64(&shm->ch_head, head); /* pairs with the acquire in has_room() */
  lvri_fence_compiler();
  LVR_CRASHPOINT("channel.get.published");
  if (shm->ch_most_units) lvri_store_release_u32(&shm->ch_got_units, units);
}

/* Puts the segment that is read to its end aside, or frees it if there is a spare one already. */
static void leave_segment(struct lvri_arena *a, struct lvri_channel_shm *shm, lvri_off off) {
  struct lvri_guard *g = lvri_arena_guard(a);
  struct lvri_segment *segment = lvri_segment_at(a, off);
  if (shm->ch_spare) {
    lvri_heap_free_locked(a, off);
    return;
  }
  lvri_set64(a, g, &segment->sg_next, 0);
  lvri_set32_shared(a, g, &segment->sg_sealed, LVRI_SEGMENT_OPEN);
  lvri_set64(a, g, &shm->ch_spare, off);
}

/* From a segment that is read to its end to the next one. */
static void move_on_locked(struct lvri_arena *a, struct lvri_channel_shm *shm) {
  struct lvri_guard *g = lvri_arena_guard(a);
  lvri_off old = shm->ch_get_segment;
  uint32_t count = lvri_channel_count_of(lvri_load_relaxed_u64(&shm->ch_head));
  lvri_set64(a, g, &shm->ch_get_segment, lvri_segment_at(a, old)->sg_next);
  lvri_set64_shared(a, g, &shm->ch_head, lvri_channel_word(count, 0));
  leave_segment(a, shm, old);
}

static int move_on(struct lvri_arena *a, struct lvri_channel_shm *shm) {
  struct lvri_guard *g = lvri_arena_guard(a);
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  move_on_locked(a, shm);
  LVR_CRASHPOINT("channel.segment.left");
  lvri_guard_leave(a, g);
  return 0;
}

static bool at_seal(const struct lvri_segment *segment, uint64_t head) {
  return lvri_segment_ends_at(segment, lvri_channel_pos_of(head));
}

int lvri_channel_find_record(struct lvri_arena *a, struct lvri_channel_shm *shm,
                             struct lvri_record_header **ret_record) {
  uint64_t head = lvri_load_relaxed_u64(&shm->ch_head);
  struct lvri_segment *segment = lvri_segment_at(a, shm->ch_get_segment);
  /* more than once where somebody died, or got no memory, with a new segment and no message */
  while (__builtin_expect(at_seal(segment, head), 0)) {
    int error = move_on(a, shm);
    if (error) return error;
    head = lvri_load_relaxed_u64(&shm->ch_head);
    segment = lvri_segment_at(a, shm->ch_get_segment);
  }
  if (!lvri_record_is_sound(segment, lvri_channel_pos_of(head))) return -ENOTRECOVERABLE;
  *ret_record = lvri_record_at(segment, lvri_channel_pos_of(head));
  return 0;
}

/* --- a message that waits; with the get mutex ------------------------------------------------ */

/* Of head and number, as many messages apart as are in a channel. */
static bool is_before(uint32_t number, uint32_t first) { return (int32_t)(number - first) < 0; }

/* Whether the message still waits. What is read behind the tail's count is published. */
static bool is_waiting(const struct lvri_channel_shm *shm, uint32_t number) {
  uint32_t head = lvri_channel_count_of(lvri_load_relaxed_u64(&shm->ch_head));
  /* pairs with the release in publish_tail() */
  uint32_t tail = lvri_channel_count_of(lvri_load_acquire_u64(&shm->ch_tail));
  return number - head < tail - head;
}

/* The segment that a waiting message lies in, and the head as it was or will be at its start. In
 * the guard: a link that somebody died over is gone. */
static struct lvri_segment *segment_of(struct lvri_arena *a, const struct lvri_channel_shm *shm,
                                       uint32_t number, uint64_t *ret_head) {
  struct lvri_segment *segment = lvri_segment_at(a, shm->ch_get_segment);
  *ret_head = lvri_load_relaxed_u64(&shm->ch_head);
  while (segment->sg_next && !is_before(number, lvri_segment_at(a, segment->sg_next)->sg_first)) {
    segment = lvri_segment_at(a, segment->sg_next);
    *ret_head = lvri_channel_word(segment->sg_first, 0);
  }
  return segment;
}

static int find_waiting(struct lvri_arena *a, const struct lvri_channel_shm *shm, uint32_t number,
                        struct lvri_record_header **ret_record) {
  struct lvri_guard *g = lvri_arena_guard(a);
  uint64_t head;
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  struct lvri_segment *segment = segment_of(a, shm, number, &head);
  lvri_guard_leave(a, g);
  for (;; head = lvri_channel_head_behind(head, *ret_record)) {
    if (!lvri_record_is_sound(segment, lvri_channel_pos_of(head))) return -ENOTRECOVERABLE;
    *ret_record = lvri_record_at(segment, lvri_channel_pos_of(head));
    if (lvri_channel_count_of(head) == number) return 0;
  }
}

static int overwrite(struct lvri_arena *a, struct lvri_channel_shm *shm, uint32_t number,
                     uint32_t word) {
  struct lvri_record_header *record;
  if (!is_waiting(shm, number)) return -ENOENT;
  int error = find_waiting(a, shm, number, &record);
  if (error) return error;
  if (record->rc_bytes < sizeof(word)) return -EINVAL;
  LVR_CRASHPOINT("channel.overwrite.found");
  lvri_store_relaxed_u32((_Atomic uint32_t *)(void *)lvri_record_data(record), word);
  LVR_CRASHPOINT("channel.overwrite.done");
  return 0;
}

int lvri_channel_overwrite(struct lvri_channel *c, uint32_t number, uint32_t word, bool patient) {
  struct lvri_arena *a = &c->handle->session->arena;
  if (lvri_session_stale(c->handle->session)) return -ESTALE;
  int error = lvri_channel_lock_get(a, c->shm, patient);
  if (error) return error;
  error = overwrite(a, c->shm, number, word);
  lvri_channel_unlock(&c->shm->ch_get_mutex);
  return error;
}

/* --- the end of a channel; the caller holds the arena's guard -------------------------------- */

static bool is_empty(const struct lvri_channel_shm *shm) { return lvri_channel_size(shm) == 0; }

static void set_head(struct lvri_arena *a, struct lvri_channel_shm *shm, uint64_t head) {
  lvri_set64_shared(a, lvri_arena_guard(a), &shm->ch_head, head);
}

/* Past all records that carry nothing, to one that does, a seal or the tail: one logged store. */
static struct lvri_record_header *skip_plain(struct lvri_arena *a, struct lvri_channel_shm *shm) {
  struct lvri_segment *segment = lvri_segment_at(a, shm->ch_get_segment);
  uint64_t head = lvri_load_relaxed_u64(&shm->ch_head), tail = lvri_load_relaxed_u64(&shm->ch_tail);
  struct lvri_record_header *record = NULL;
  while (lvri_channel_count_of(head) != lvri_channel_count_of(tail) && !at_seal(segment, head)) {
    record = lvri_record_at(segment, lvri_channel_pos_of(head));
    if (record->rc_flags & LVRI_RECORD_BLOCK) break;
    head = lvri_channel_head_behind(head, record);
    record = NULL;
  }
  set_head(a, shm, head);
  return record;
}

static void drop_part(struct lvri_arena *a, uint64_t *field) {
  if (!*field) return;
  lvri_heap_free_locked(a, *field);
  lvri_set64(a, lvri_arena_guard(a), field, 0);
}

/* The chain's first segment, of one or (the last put died before its message was out) two. */
static void drop_segment(struct lvri_arena *a, struct lvri_channel_shm *shm) {
  lvri_off next = lvri_segment_at(a, shm->ch_get_segment)->sg_next;
  lvri_heap_free_locked(a, shm->ch_get_segment);
  lvri_set64(a, lvri_arena_guard(a), &shm->ch_get_segment, next);
  if (!next) lvri_set64(a, lvri_arena_guard(a), &shm->ch_put_segment, 0);
}

/* Nothing is in it any more: the parts go. One a step, for each may change many words. */
static bool drain_parts(struct lvri_arena *a, struct lvri_channel_shm *shm) {
  if (shm->ch_spare) {
    drop_part(a, &shm->ch_spare);
  } else if (shm->ch_get_segment) {
    drop_segment(a, shm);
  } else {
    return lvri_doorbell_drain_locked(a, shm);
  }
  return false;
}

bool lvri_channel_drain_locked(struct lvri_arena *a, struct lvri_channel_shm *shm) {
  if (lvri_load_relaxed_u64(&shm->ch_pending)) {
    settle_pending_locked(a, shm);
    return false;
  }
  finish_taken(a, shm);
  if (is_empty(shm)) return drain_parts(a, shm);
  struct lvri_record_header *record = skip_plain(a, shm);
  if (record) {
    set_head(a, shm, lvri_channel_head_behind(lvri_load_relaxed_u64(&shm->ch_head), record));
    lvri_object_unref_locked(a, *lvri_record_block(record));
  } else if (!is_empty(shm)) {
    move_on_locked(a, shm);
  }
  return false;
}

/* --- looking; the caller holds the arena's guard --------------------------------------------- */

/* What there is at one moment. Others put and get meanwhile, but for what takes the guard: the
 * segments and the records from head to tail stay as they are. Read in this order, each before the
 * next one changes: an intent is there until the head, or the tail, says the same. */
struct extent {
  uint64_t taken, pending, head, tail;
};

static struct extent extent_of(const struct lvri_channel_shm *shm) {
  struct extent e = {.taken = lvri_load_acquire_u64(&shm->ch_taken),
                     .pending = lvri_load_acquire_u64(&shm->ch_pending)};
  e.head = lvri_load_acquire_u64(&shm->ch_head);
  e.tail = lvri_load_acquire_u64(&shm->ch_tail);
  return e;
}

/* In front of what was taken in a transaction, behind a head that lags: it is his who took it. */
static bool is_taken(const struct extent *e, uint64_t head) {
  return e->taken && (int32_t)(lvri_channel_count_of(head) - (uint32_t)e->taken) < 0;
}

static void visit_block(const struct extent *e, uint64_t head, struct lvri_record_header *record,
                        lvri_visit_block visit, void *context) {
  if (!visit || !(record->rc_flags & LVRI_RECORD_BLOCK) || is_taken(e, head)) return;
  visit(context, *lvri_record_block(record));
}

/* Walks from head to tail. False: the chain is not what it has to be. */
static bool walk(struct lvri_arena *a, const struct lvri_channel_shm *shm, const struct extent *e,
                 lvri_visit_block visit, void *context) {
  uint64_t head = e->head, tail = e->tail;
  lvri_off at = shm->ch_get_segment;
  while (lvri_channel_count_of(head) != lvri_channel_count_of(tail)) {
    if (!at || !lvri_heap_is_block(a, at)) return false;
    struct lvri_segment *segment = lvri_segment_at(a, at);
    if (at_seal(segment, head)) {
      at = segment->sg_next;
      head = lvri_channel_word(lvri_channel_count_of(head), 0);
      continue;
    }
    if (!lvri_record_is_sound(segment, lvri_channel_pos_of(head))) return false;
    struct lvri_record_header *record = lvri_record_at(segment, lvri_channel_pos_of(head));
    visit_block(e, head, record, visit, context);
    head = lvri_channel_head_behind(head, record);
  }
  return true;
}

void lvri_channel_each(struct lvri_arena *a, struct lvri_channel_shm *shm, lvri_visit_block visit,
                       void *context) {
  struct extent e = extent_of(shm);
  if (e.pending && !is_out(shm, e.tail)) visit(context, e.pending);
  (void)walk(a, shm, &e, visit, context);
}

/* Nobody is in, and nobody who died in there is waited for. */
static bool is_quiet(struct lvri_channel_shm *shm) {
  return lvri_load_acquire_u32(lvri_mutex_word(&shm->ch_put_mutex)) == 0 &&
         lvri_load_acquire_u32(lvri_mutex_word(&shm->ch_get_mutex)) == 0;
}

bool lvri_channel_valid(struct lvri_arena *a, struct lvri_channel_shm *shm) {
  uint32_t size = lvri_channel_size(shm);
  if (shm->ch_bound && size > shm->ch_bound) return false;
  if (!is_quiet(shm)) return true;
  struct extent e = extent_of(shm);
  if (e.pending || e.taken) return false;
  if ((shm->ch_put_segment == 0) != (shm->ch_get_segment == 0)) return false;
  if (shm->ch_put_segment && lvri_segment_at(a, shm->ch_put_segment)->sg_next) return false;
  return walk(a, shm, &e, NULL, NULL);
}
