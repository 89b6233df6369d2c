/* parcel.h - an object as what queues and pipes carry, and back.
 *
 *   small         data, bytes          block NULL
 *   large         the block's payload  bytes 0
 *   with buffers, shared objects       either of these; the block (the "carrier") refers to a block
 *                                      for each buffer, in order, and then to each shared object
 *
 * To put:  struct lvri_parcel p;
 *          if (lvri_parcel_pack(state, obj, &p) < 0) return NULL;
 *          code = p.block == NULL ? lvr_queue_put_until(q, p.data, p.bytes, ...)
 *                                 : lvr_queue_put_block_until(q, p.data, p.bytes, p.block, ...);
 *          if (code == 0) p.block = NULL;       (with -EINTR, -ETIMEDOUT it may be put again)
 *          lvri_parcel_fini(&p);
 * To get:  struct lvr_message m; (lvr_queue_get_until(q, &m, ...) has filled it)
 *          return lvri_parcel_unpack(state, &m); */
#ifndef LVRI_BINDING_PARCEL_H
#define LVRI_BINDING_PARCEL_H

#include "binding/codec.h"

struct lvri_parcel {
  const void *data; /* into memory, or the heap; NULL with bytes 0: the block's payload */
  size_t bytes;     /* at most LVR_MESSAGE_INLINE */
  lvr_block *block; /* NULL: none. The caller's, until a put that succeeds has taken it */
  struct lvri_encoding encoding;
  unsigned char memory[LVRI_ENCODING_BYTES];
};

/* lvri_parcel_pack - encode obj, and copy what is large into blocks.
 * Owner:   *p is the caller's: lvri_parcel_fini(). Nothing of obj is referred to any more. On
 *          failure there is nothing to give back.
 * Caller:  has the GIL; holds no lock of the arena's. May run any Python code; releases the GIL for
 *          copies of 1 MiB and more.
 * Locks:   with blocks: the arena's guard, shortly.
 * Crash:   what was made is in the ledger, and repaired.
 * Returns: 0; -1 with the exception: as lvri_encode(), MemoryError and RuntimeError for what the
 *          arena says. */
LVR_MUST_CHECK int lvri_parcel_pack(struct lvri_state *state, PyObject *obj, struct lvri_parcel *p);

/* lvri_parcel_pack_within - the same, but a stream of more than `most` bytes lies in the block: for
 * one that has something in front of it in its message. 0: in any case. */
LVR_MUST_CHECK int lvri_parcel_pack_within(struct lvri_state *state, PyObject *obj,
                                           struct lvri_parcel *p, size_t most);

/* lvri_parcel_fini - give back memory, and the block if it was not put. Twice is fine. An exception
 * that is set stays. */
void lvri_parcel_fini(struct lvri_parcel *p);

/* lvri_parcel_unpack - decode what was got, and give the message back.
 * Owner:   takes what m owns, also on failure: lvr_message_fini() is done.
 * Caller:  has the GIL; holds no lock of the arena's. May run any Python code.
 * Returns: a new reference; NULL with the exception: as lvri_decode(), and for what the arena
 *          says. */
PyObject *lvri_parcel_unpack(struct lvri_state *state, struct lvr_message *m);

/* lvri_parcel_decode - the same for a stream that something lay in front of: in data, or in the
 * payload of the block if there are no bytes. block: NULL if none came. It gives nothing back. */
PyObject *lvri_parcel_decode(struct lvri_state *state, const void *data, size_t bytes,
                             const lvr_block *block);

#endif
