/* channel.h - one direction of messages, inside of an object: a queue has one, a pipe one or two.
 *
 *   put segment                        get segment
 *        |                                  |
 *        v                                  v
 *   [ r r r . . . ] <-- sg_next -- ... <-- [ . r r r | sealed ]        spare: [ ]
 *           ^ tail                           ^ head
 *
 * Who puts holds the put mutex, who gets the get mutex, each for the time of a copy. */
#ifndef LVRI_CORE_CHANNEL_H
#define LVRI_CORE_CHANNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/kinds.h"
#include "core/mutex.h"
#include "leveret/message.h"

struct lvri_handle;

/* Bits of a bell; what is above them counts the rings. */
#define LVRI_BELL_SLEEPER 1u /* somebody may be asleep */
#define LVRI_BELL_ARMED   2u /* a doorbell waits to be rung */
#define LVRI_BELL_NAPPER  4u /* somebody sleeps for a moment only: he is going to look unrung */
#define LVRI_BELL_SPINNER 8u /* somebody spins, and is going to look: sleepers are not rung */
#define LVRI_BELL_RING    16u

/* Who sets one of these is relied on to look. */
#define LVRI_BELL_AWAKE (LVRI_BELL_NAPPER | LVRI_BELL_SPINNER)

/* Bits of ch_closed. */
#define LVRI_CHANNEL_NO_WRITER 1u
#define LVRI_CHANNEL_NO_READER 2u

/* Flags of a channel. */
#define LVRI_CHANNEL_COUNTED 1u /* who gets a message holds a unit of the object: joinable queues */

/* A piece of the chain; its records follow. Under the arena's guard, logged, but where it is new:
 *   sg_next     the segment behind this one; 0: none yet. Set once, together with sg_sealed; read
 *               in the guard
 *   sg_sealed   where its records end; LVRI_SEGMENT_OPEN: not sealed. Read without the guard by who
 *               holds the get mutex when the counts say that there is another message. If that one
 *               is in this segment, no value that he may see, be it rolled back later, is where it
 *               begins; if it is not, it was put after the commit that sealed this segment
 *   sg_room     constant
 *   sg_first    how many messages were put before those of this segment; read in the guard */
struct lvri_segment {
  uint64_t sg_next;
  _Atomic uint32_t sg_sealed;
  uint32_t sg_room;
  uint32_t sg_first;
  uint32_t sg_reserved;
};
_Static_assert(sizeof(struct lvri_segment) == 24, "records are 8-byte aligned");

#define LVRI_SEGMENT_OPEN UINT32_MAX

/* The start of a record; `rc_bytes` bytes follow, and before them, if there is one, the block's
 * offset. rc_units: the channel's ch_put_units behind this record. */
struct lvri_record_header {
  uint16_t rc_bytes;
  uint16_t rc_flags; /* LVRI_RECORD_* */
  uint32_t rc_units;
};
_Static_assert(sizeof(struct lvri_record_header) == 8, "layout");
_Static_assert(LVR_MESSAGE_INLINE <= UINT16_MAX, "rc_bytes");

#define LVRI_RECORD_BLOCK 1u /* a block travels with it */
#define LVRI_RECORD_LONG  2u /* and its payload is the message */
#define LVRI_RECORD_FLAGS 3u

/* "Put": by the holder of ch_put_mutex; "get": of ch_get_mutex.
 *
 *   ch_tail         count << 32 | position in the put segment. Put; one release store publishes
 *                   messages, and is never taken back: a switch of segments logs it, but changes
 *                   the position alone. Others read the count
 *   ch_put_segment  put, under the arena's guard, logged
 *   ch_seen_gets    put: the head's count as last read; behind it, never before it
 *   ch_put_units    put: what was put so far, in units of 64 bytes; stored before the tail, so a
 *                   death may leave it too high by one message until the next one is got. Means
 *                   something if ch_most_units
 *   ch_writer       put: who put last
 *   ch_put_cpu      on which processor somebody put, or is about to; a hint, of a board's tasks
 *   ch_pending, ch_pending_count   put: a block that is neither its sender's any more nor a
 *                   message's for sure, and the tail's count once it is. Set with the loss of the
 *                   sender's reference in one transaction; cleared by one store behind the tail's.
 *                   So who has the guard and sees it, then looks at the tail, knows whose the
 *                   block is
 *   ch_head         count << 32 | position in the get segment. Get; as ch_tail
 *   ch_get_segment  get, under the arena's guard, logged; the first one is set by who puts the
 *                   first message
 *   ch_seen_puts    get: the tail's count as last read
 *   ch_taken        get: 0, or 1 << 32 | the head's count once what was taken in a transaction is
 *                   taken. Set in that transaction, cleared by one store behind the head's
 *   ch_claim        get: where who took last notes it, if he does (core/board.h); 0. Stored
 *                   before the note, which is stored before the head
 *   ch_got_units    get; read by who puts: rc_units of the last record that was got
 *   ch_items, ch_room   bells of who waits for a message, or for room; by anybody, atomically
 *   ch_closed       by the last to leave, under the arena's guard, logged; but of a board's tasks
 *                   by one store, with the put mutex: no put is then between its look here and
 *                   its message, and no death takes it back. Read by anybody
 *   ch_bound, ch_most_units, ch_flags   constant; 0: no bound
 *   ch_spare        a segment that nothing is in; under the arena's guard, logged
 *   ch_doorbells    core/doorbell.h
 *   ch_hurries      how often a nap was cut short, atomically; a hint
 *   ch_look_ns      CLOCK_MONOTONIC: when who began to nap, or to spin, last looks at the latest.
 *                   By him, before he sets the bit for it, with release: who finds that set finds
 *                   this one's look, or a later one's
 *
 * Always: head.count <= tail.count <= head.count + ch_bound (modulo 2^32); from head to tail there
 * is a chain of tail.count - head.count whole records; each block among them has a reference that
 * is the channel's.
 *
 * Crash: put and get change nothing that others rely on but by the one store of tail or head. Who
 * takes a mutex from the dead first enters and leaves the arena's guard, so that a switch of
 * segments is wholly there or not, then finishes the intent: a pending block whose count the tail
 * has reached is a message's, any other is dropped; a head short of ch_taken is moved up to it, for
 * what lies between is in the dead one's ledger. Then a note at ch_claim whose end is not the head
 * is struck out: it was of messages that are still here, or of a claim that was done with. All this
 * can be done again from the start. */
struct lvri_channel_shm {
  _Alignas(64) struct lvri_mutex ch_put_mutex;
  char ch_pad0[48 - sizeof(struct lvri_mutex)];
  _Atomic uint64_t ch_tail;
  uint64_t ch_put_segment;
  uint32_t ch_seen_gets;
  _Atomic uint32_t ch_put_units;
  _Atomic uint64_t ch_writer;
  _Atomic uint64_t ch_pending;
  uint32_t ch_pending_count;
  _Atomic uint32_t ch_put_cpu;
  uint64_t ch_reserved1[4];

  struct lvri_mutex ch_get_mutex;
  char ch_pad1[48 - sizeof(struct lvri_mutex)];
  _Atomic uint64_t ch_head;
  uint64_t ch_get_segment;
  uint32_t ch_seen_puts;
  _Atomic uint32_t ch_got_units;
  _Atomic uint64_t ch_taken;
  uint64_t ch_claim;
  uint64_t ch_reserved2[5];

  _Atomic uint32_t ch_items;
  _Atomic uint32_t ch_room;
  _Atomic uint32_t ch_closed;
  uint32_t ch_bound;
  uint32_t ch_most_units;
  uint32_t ch_flags;
  uint64_t ch_spare;
  uint64_t ch_doorbells;
  _Atomic uint32_t ch_hurries;
  uint32_t ch_reserved3;
  _Atomic uint64_t ch_look_ns;
  uint64_t ch_reserved4;
};
_Static_assert(sizeof(struct lvri_channel_shm) == 320, "two lines for each side, one for both");
_Static_assert(offsetof(struct lvri_channel_shm, ch_get_mutex) == 128, "layout");
_Static_assert(offsetof(struct lvri_channel_shm, ch_items) == 256, "layout");

/* A channel as one process sees it; part of a handle. Of a pipe's, putters and getters are the
 * ends whose holders can put and get: if they all die the channel is closed, so who waits watches
 * them. 0: it is never closed. putter: the only process that puts, of a board's tasks as a worker
 * sees them: with it the channel ends; 0: others may. claim: where this process notes what it
 * takes, first << 32 | count; NULL: nowhere. source: the channel whose messages those here come of,
 * of a board's results; NULL: none. refused: how many messages were put before the one that could
 * not be taken last, for want of memory; with the get mutex. doorbell: core/doorbell.h; NULL as a
 * rule. interrupts: how often its waits were cut short. pace_ns: of one with a putter, how long the
 * last wait for a message took; awake: how many waits more it will not nap in. */
struct lvri_channel {
  struct lvri_handle *handle; /* of the object that it is in, or of an end of it */
  struct lvri_channel_shm *shm, *source;
  lvri_off putters, getters;
  lvr_proc_id putter;
  void *_Atomic doorbell;
  _Atomic uint64_t *claim;
  _Atomic uint32_t interrupts;
  int64_t pace_ns;
  uint32_t awake, refused;
};

static inline uint32_t lvri_channel_count_of(uint64_t tail_or_head) {
  return (uint32_t)(tail_or_head >> 32);
}

/* What is to be put. */
struct lvri_put {
  const void *data;
  size_t bytes;     /* at most LVR_MESSAGE_INLINE */
  lvr_block *block; /* or NULL; with bytes 0: its payload is the message */
};

/* Make a channel in zeroed memory that nobody else can reach yet. bound: messages, 0 none;
 * most_bytes: bytes under way, 0 no limit. 0, -ENOSYS. */
int lvri_channel_init(struct lvri_channel_shm *shm, uint32_t bound, uint64_t most_bytes,
                      uint32_t flags);

/* Put one message if there is room, without waiting for anything but, shortly, the put mutex; with
 * `patient` false not even for that. 0; -EAGAIN no room; -EBUSY somebody has the mutex; -EPIPE
 * nobody can get it, or nobody is to put, any more; -EINVAL, -ENOMEM, -ESTALE, -ENOTRECOVERABLE.
 * Rings. With 0 the block's handle is gone. */
int lvri_channel_try_put(struct lvri_channel *c, const struct lvri_put *put, bool patient);

/* The same, waiting for room. 0; as above, but -ETIMEDOUT in the place of -EAGAIN; -EINTR. */
int lvri_channel_put_until(struct lvri_channel *c, const struct lvri_put *put, int64_t deadline_ns);

/* More bytes than lie in a channel: in a block. */
int lvri_channel_put_long_until(struct lvri_channel *c, const void *data, size_t bytes,
                                int64_t deadline_ns);

/* Several, each without a block; *ret_put says how many, in any case. */
int lvri_channel_put_many_until(struct lvri_channel *c, const struct lvr_slice *messages,
                                uint32_t count, int64_t deadline_ns, uint32_t *ret_put);

/* Take the first message if there is one; `patient` as above. 0; -EAGAIN none; -EPIPE none, and
 * nobody can put one any more; -EBUSY, -ENOMEM, -ESTALE, -ENOTRECOVERABLE. Rings those who wait for
 * room. */
int lvri_channel_try_get(struct lvri_channel *c, struct lvr_message *ret_m, bool patient);

/* The same, waiting for one. 0; as above, but -ETIMEDOUT in the place of -EAGAIN; -EINTR. */
int lvri_channel_get_until(struct lvri_channel *c, struct lvr_message *ret_m, int64_t deadline_ns);

/* Take the first message without its block, which goes, if so many were put before it: for who had
 * no memory to take it with. 0; -ENOENT it is another one, or there is none; -EINVAL it has no
 * block; -ESTALE, -ENOTRECOVERABLE. */
int lvri_channel_try_get_bare(struct lvri_channel *c, uint32_t number, struct lvr_message *ret_m);

/* Messages without blocks, packed as include/leveret/queue.h says; *ret_count 0: the first has a
 * block. */
int lvri_channel_get_many_until(struct lvri_channel *c, void *buf, size_t room, uint32_t most,
                                int64_t deadline_ns, uint32_t *ret_count, size_t *ret_bytes);

/* If the message that so many were put before still waits: the first four bytes of its data, which
 * has as many, become `word`, by one store; `patient` as above. 0; -ENOENT it was got, or never
 * put; -EINVAL, -EBUSY, -ESTALE, -ENOTRECOVERABLE. */
int lvri_channel_overwrite(struct lvri_channel *c, uint32_t number, uint32_t word, bool patient);

/* Spin until there is a message, as a get does before it sleeps: for a moment, or, where one is
 * likely to come soon, for longer than it takes to be woken. Whether there is one. */
bool lvri_channel_spin(struct lvri_channel *c, bool soon);

/* Wait until a get would not find the channel empty and open. 0, -ETIMEDOUT, -EINTR, -ESTALE. */
int lvri_channel_wait_until(struct lvri_channel *c, int64_t deadline_ns);

/* Whoever puts a message from now on wakes who sleeps at the bell of messages, which has the
 * value that is returned. Look once more before you do. */
uint32_t lvri_channel_arm(struct lvri_channel *c);

/* Cut short what this process's threads wait for at the channel, now and not later: they get
 * -ECANCELED. Who wants not to miss it that way takes the mark before he lets others run, and
 * says it to the wait. */
uint32_t lvri_channel_mark(const struct lvri_channel *c);
void lvri_channel_interrupt(struct lvri_channel *c);
int lvri_channel_put_since_until(struct lvri_channel *c, const struct lvri_put *put, uint32_t mark,
                                 int64_t deadline_ns);
int lvri_channel_get_since_until(struct lvri_channel *c, struct lvr_message *ret_m, uint32_t mark,
                                 int64_t deadline_ns);
int lvri_channel_wait_since_until(struct lvri_channel *c, uint32_t mark, int64_t deadline_ns);

/* Puts what lies behind the first *done of the messages, and counts them in *done: so who was
 * interrupted calls it again. */
int lvri_channel_put_many_since_until(struct lvri_channel *c, const struct lvr_slice *messages,
                                      uint32_t count, uint32_t mark, int64_t deadline_ns,
                                      uint32_t *done);
int lvri_channel_get_many_since_until(struct lvri_channel *c, void *buf, size_t room, uint32_t most,
                                      uint32_t mark, int64_t deadline_ns, uint32_t *ret_count,
                                      size_t *ret_bytes);

/* Whether a get would find something: a message, or that nobody can put one any more. */
bool lvri_channel_readable(const struct lvri_channel_shm *shm);

/* Whether there is room for a message, as far as one can tell who does not hold the put mutex. */
bool lvri_channel_has_room(const struct lvri_channel_shm *shm, const struct lvri_put *put);

/* Messages in it. */
uint32_t lvri_channel_size(const struct lvri_channel_shm *shm);

/* For the owner object, with the arena's guard held: nobody can put (get) any more; logged. Then,
 * in the same transaction, everybody who waits is told. */
void lvri_channel_close_locked(struct lvri_arena *a, struct lvri_channel_shm *shm, uint32_t side);
void lvri_channel_ring_closed(struct lvri_arena *a, struct lvri_channel_shm *shm);

/* Wake one who waits for a message, when there is one; or for room: all of them where what is room
 * for one may be too little for another. */
void lvri_channel_ring_items(struct lvri_channel_shm *shm);
void lvri_channel_ring_room(struct lvri_channel_shm *shm);
void lvri_channel_ring_all(struct lvri_channel_shm *shm); /* who wait for a message: look anew */

/* By who puts where messages have a putter: from where; and, when somebody waits for what comes of
 * them, that who naps is to look now. */
void lvri_channel_note_cpu(struct lvri_channel_shm *shm);
void lvri_channel_hurry(struct lvri_channel_shm *shm);

/* The same for the source of c, if there is one: by who has found no message in c, or has put into
 * the source. Who naps there, if somebody waits in c; and who should have looked long ago: he was
 * stopped, perhaps, and may stay so for as long as he likes. */
void lvri_channel_hurry_source(const struct lvri_channel *c, bool waits);

/* After that: sleep as lvri_wait_any() does, but no longer than until somebody who is to take a
 * message there may turn out to be late. */
int lvri_channel_sleep(const struct lvri_channel *c, _Atomic uint32_t *bell, uint32_t armed,
                       const lvr_proc_id *watch, unsigned count, int64_t deadline_ns);

/* Of who was woken at the bell of c's messages, and leaves one where it is: the next is woken. */
void lvri_channel_pass_on(struct lvri_channel *c);

/* One step of emptying a channel that nobody refers to any more; see drain_locked in kinds.h. */
bool lvri_channel_drain_locked(struct lvri_arena *a, struct lvri_channel_shm *shm);

/* Calls visit for each block that the channel has a reference of; in the arena's guard. */
typedef void (*lvri_visit_block)(void *context, lvri_off block);
void lvri_channel_each(struct lvri_arena *a, struct lvri_channel_shm *shm, lvri_visit_block visit,
                       void *context);

/* The equations hold; looked at only as far as nobody is in. The caller holds the arena's guard. */
bool lvri_channel_valid(struct lvri_arena *a, struct lvri_channel_shm *shm);

#endif
