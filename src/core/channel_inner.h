/* channel_inner.h - between the files of the channel:
 *
 *   channel.c        putting and getting: records, heads and tails, blocks that change hands
 *   channel_wait.c   bells: who sleeps until there is a message, or room, and who wakes him
 *   channel_chain.c  segments: the next one, the last one's end, what a dead holder of a mutex left
 *   */
#ifndef LVRI_CORE_CHANNEL_INNER_H
#define LVRI_CORE_CHANNEL_INNER_H

#include "base/atomic.h"
#include "core/channel.h"
#include "core/doorbell.h"
#include "core/object.h"
#include "core/session.h"

#define LVRI_RECORD_ALIGN 8u

/* Bytes that a record takes. */
static inline uint32_t lvri_record_bytes(size_t bytes, bool block) {
  size_t all = sizeof(struct lvri_record_header) + (block ? sizeof(uint64_t) : 0) + bytes;
  return (uint32_t)((all + LVRI_RECORD_ALIGN - 1) & ~(size_t)(LVRI_RECORD_ALIGN - 1));
}

static inline uint32_t lvri_channel_pos_of(uint64_t tail_or_head) { return (uint32_t)tail_or_head; }

static inline uint64_t lvri_channel_word(uint32_t count, uint32_t pos) {
  return (uint64_t)count << 32 | pos;
}

static inline struct lvri_segment *lvri_segment_at(const struct lvri_arena *a, lvri_off off) {
  return lvri_at(a, off);
}

static inline struct lvri_record_header *lvri_record_at(struct lvri_segment *segment,
                                                        uint32_t pos) {
  return (struct lvri_record_header *)(void *)((unsigned char *)(segment + 1) + pos);
}

/* The block that travels with a record that has LVRI_RECORD_BLOCK; and its bytes. */
static inline uint64_t *lvri_record_block(struct lvri_record_header *record) {
  return (uint64_t *)(void *)(record + 1);
}

static inline unsigned char *lvri_record_data(struct lvri_record_header *record) {
  size_t behind = record->rc_flags & LVRI_RECORD_BLOCK ? sizeof(uint64_t) : 0;
  return (unsigned char *)(record + 1) + behind;
}

/* Whether the segment is sealed there; see sg_sealed. */
static inline bool lvri_segment_ends_at(const struct lvri_segment *segment, uint32_t pos) {
  return lvri_load_relaxed_u32(&segment->sg_sealed) == pos;
}

/* A record that this library can have written there. */
bool lvri_record_is_sound(const struct lvri_segment *segment, uint32_t pos);

/* Take one of the two mutexes: what a dead holder left is finished then. With patient false only if
 * it is to be had soon: else -EBUSY. 0, -ENOTRECOVERABLE. */
int lvri_channel_lock_put(struct lvri_arena *a, struct lvri_channel_shm *shm, bool patient);
int lvri_channel_lock_get(struct lvri_arena *a, struct lvri_channel_shm *shm, bool patient);
void lvri_channel_unlock(struct lvri_mutex *m);

/* With the put mutex: the put segment is one with room for `bytes` at the tail. 0, -ENOMEM,
 * -ENOTRECOVERABLE. */
int lvri_channel_make_room(struct lvri_arena *a, struct lvri_channel_shm *shm, uint32_t bytes);

/* With the get mutex, when there is a message: the head is where it begins. 0, -ENOTRECOVERABLE. */
int lvri_channel_find_record(struct lvri_arena *a, struct lvri_channel_shm *shm,
                             struct lvri_record_header **ret_record);

/* The head behind one record more; and published. */
uint64_t lvri_channel_head_behind(uint64_t head, const struct lvri_record_header *record);
void lvri_channel_publish_head(struct lvri_channel_shm *shm, uint64_t head, uint32_t units);

/* Try to take something until that is anything but -EAGAIN, and wait between the tries. */
typedef int lvri_channel_try(struct lvri_channel *c, void *context);
int lvri_channel_get_by(struct lvri_channel *c, lvri_channel_try *try_get, void *context,
                        uint32_t mark, int64_t deadline_ns);

/* A look that was due so long ago is nobody's to rely on: who naps or spins was stopped, or finds
 * no processor. Where it is only late the ring that comes of this is one too many. */
#define LVRI_LOOK_LATE_NS 10000000

#ifdef LVRI_TESTING
extern int64_t lvri_nap_ns;
#endif

/* Whether somebody may sleep at a bell: after what he waits for was stored. */
static inline bool lvri_channel_is_awaited(const _Atomic uint32_t *bell) {
  lvri_fence_seq(); /* pairs with the one between arming the bell and looking, in channel_wait.c */
  return (lvri_load_relaxed_u32(bell) & (LVRI_BELL_SLEEPER | LVRI_BELL_SPINNER)) ==
         LVRI_BELL_SLEEPER;
}

/* After a look for messages: whoever polls the channel's descriptor must not be told of what is
 * gone. */
static inline void lvri_channel_looked(struct lvri_channel *c) {
  if (__builtin_expect(lvri_load_acquire_ptr(&c->doorbell) != NULL, 0)) lvri_doorbell_settle(c);
}

#endif
