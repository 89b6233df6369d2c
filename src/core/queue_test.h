/* queue_test.h - what the tests of queues and channels share: messages that can be told apart. */
#ifndef LVRI_CORE_QUEUE_TEST_H
#define LVRI_CORE_QUEUE_TEST_H

#include <errno.h>
#include <sys/syscall.h>

#include "core/block.h"
#include "core/locking_test.h"
#include "core/queue.h"
#include "testing/fixture.h"

/* Who made a message, and which of his it is. Its length and all its bytes follow from that. */
struct note {
  uint32_t from, number;
};

static inline uint32_t note_mix(struct note n, uint32_t salt) {
  uint32_t x = (n.from + 1) * 0x9e3779b1u ^ (n.number + salt) * 0x85ebca77u;
  x ^= x >> 15;
  x *= 0x2c1b3c6du;
  return x ^ x >> 13;
}

/* Most are short, one in 32 may be as long as fits. */
static inline size_t note_bytes(struct note n) {
  uint32_t r = note_mix(n, 1);
  uint32_t most = r % 32 == 0 ? LVR_MESSAGE_INLINE : 200;
  return sizeof(n) + (r >> 8) % (most - sizeof(n) + 1);
}

static inline size_t note_write(struct note n, unsigned char *to) {
  size_t bytes = note_bytes(n);
  memcpy(to, &n, sizeof(n));
  for (size_t i = sizeof(n); i < bytes; i++)
    to[i] = (unsigned char)(note_mix(n, 2) + i);
  return bytes;
}

/* Whole, and as it was written. */
static inline struct note note_read(const void *data, size_t bytes) {
  unsigned char wanted[LVR_MESSAGE_INLINE];
  struct note n;
  CHECK(bytes >= sizeof(n));
  memcpy(&n, data, sizeof(n));
  CHECK_INT(bytes, note_write(n, wanted));
  CHECK(memcmp(data, wanted, bytes) == 0);
  return n;
}

/* Two of three notes have a block, then: one travels along and holds the same bytes once more; the
 * other is the message, and has a tail of zeros that makes it too long for the channel. */
static bool notes_have_blocks;

enum { NOTE_PLAIN, NOTE_WITH_BLOCK, NOTE_IN_BLOCK };

static inline uint32_t note_form(struct note n) { return notes_have_blocks ? n.number % 3 : 0; }

static inline size_t note_tail(struct note n) {
  return n.number % 4 ? LVR_MESSAGE_INLINE + 1 : LVRI_BLOCK_SMALL_MAX;
}

static inline lvr_block *note_block(lvr_queue *q, struct note n, size_t tail) {
  unsigned char data[LVR_MESSAGE_INLINE];
  size_t bytes = note_write(n, data);
  lvr_block *b;
  CHECK_INT(lvr_block_create(q->handle.session, bytes + tail, LVR_BLOCK_ZEROED, &b), 0);
  memcpy(lvr_block_data(b), data, bytes);
  return b;
}

static inline int try_put_block_note(lvr_queue *q, struct note n, int64_t deadline_ns) {
  bool whole = note_form(n) == NOTE_IN_BLOCK;
  unsigned char data[LVR_MESSAGE_INLINE];
  size_t bytes = whole ? 0 : note_write(n, data);
  lvr_block *b = note_block(q, n, whole ? note_tail(n) : 0);
  int error = lvr_queue_put_block_until(q, data, bytes, b, deadline_ns);
  if (error) lvr_block_detach(b);
  return error;
}

static inline struct note message_read(const struct lvr_message *m) {
  size_t bytes = m->bytes;
  if (m->in_block) {
    struct note n;
    memcpy(&n, m->data, sizeof(n));
    bytes -= note_tail(n);
  }
  struct note n = note_read(m->data, bytes);
  CHECK_INT(m->in_block, note_form(n) == NOTE_IN_BLOCK);
  CHECK_INT(m->block != NULL, note_form(n) != NOTE_PLAIN);
  if (note_form(n) != NOTE_WITH_BLOCK) return n;
  CHECK_INT(lvr_block_bytes(m->block), bytes);
  CHECK(memcmp(lvr_block_data(m->block), m->data, bytes) == 0);
  return n;
}

static inline int try_put_note(lvr_queue *q, uint32_t from, uint32_t number, int64_t deadline_ns) {
  unsigned char data[LVR_MESSAGE_INLINE];
  struct note n = {from, number};
  if (note_form(n) != NOTE_PLAIN) return try_put_block_note(q, n, deadline_ns);
  size_t bytes = note_write(n, data);
  return lvr_queue_put_until(q, data, bytes, deadline_ns);
}

static inline void put_note(lvr_queue *q, uint32_t from, uint32_t number) {
  CHECK_INT(try_put_note(q, from, number, LVR_FOREVER), 0);
}

static inline int try_get_note(lvr_queue *q, struct note *ret_n, int64_t deadline_ns) {
  struct lvr_message m;
  int error = lvr_queue_get_until(q, &m, deadline_ns);
  if (error) return error;
  *ret_n = message_read(&m);
  lvr_message_fini(&m);
  return 0;
}

static inline struct note get_note(lvr_queue *q) {
  struct note n = {0, 0};
  CHECK_INT(try_get_note(q, &n, LVR_FOREVER), 0);
  return n;
}

/* The next one is that one. */
static inline void expect_note(lvr_queue *q, uint32_t from, uint32_t number) {
  struct note n = {0, 0};
  CHECK_INT(try_get_note(q, &n, in_ns(5 * SEC)), 0);
  CHECK_INT(n.from, from);
  CHECK_INT(n.number, number);
}

/* Bytes that can be told from those of another size. */
static inline void put_bytes(lvr_queue *q, size_t bytes) {
  unsigned char data[LVR_MESSAGE_INLINE];
  memset(data, (int)(bytes % 251 + 1), bytes);
  CHECK_INT(lvr_queue_put_until(q, data, bytes, 0), 0);
}

static inline void get_bytes(lvr_queue *q, size_t bytes) {
  struct lvr_message m;
  CHECK_INT(lvr_queue_get_until(q, &m, 0), 0);
  CHECK_INT(m.bytes, bytes);
  CHECK(m.block == NULL && !m.in_block);
  for (size_t i = 0; i < bytes; i++)
    CHECK(((const unsigned char *)m.data)[i] == bytes % 251 + 1);
  lvr_message_fini(&m);
}

static inline void put_empty(lvr_queue *q) { CHECK_INT(lvr_queue_put_until(q, "", 0, 0), 0); }

static inline void expect_empty(lvr_queue *q) {
  struct lvr_message m;
  CHECK_INT(lvr_queue_get_until(q, &m, 0), -ETIMEDOUT);
  CHECK_INT(lvr_queue_size(q), 0);
}

/* From now on a wake-up that was lost is not made up for in time: who waits for it hangs. */
static inline void without_relook(void) { lvri_relook_ns = 1000 * SEC; }

static inline struct lvri_channel_shm *channel_shm(lvr_queue *q) { return q->channel.shm; }

static inline lvr_queue *new_queue(lvr_session *s, uint32_t bound, uint32_t flags) {
  lvr_queue *q;
  CHECK_INT(lvr_queue_create(s, bound, flags, &q), 0);
  return q;
}

#endif
