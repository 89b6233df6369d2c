/* message.h - what queues and pipes carry.
 *
 * A message is some bytes, and perhaps a block that travels with them. Bytes that are too many to
 * lie in the channel itself travel as a block's payload, by themselves: who puts and who gets need
 * not care. */
#ifndef LEVERET_MESSAGE_H
#define LEVERET_MESSAGE_H

#include "block.h"

#ifdef __cplusplus
extern "C" {
#endif

/* So many bytes at most lie in the channel. */
#define LVR_MESSAGE_INLINE 8192u

/* A message that was got. `data` points to `bytes` bytes: into `small`, or into the payload of
 * `block`. The receiver owns the block; lvr_message_fini() gives it back. */
struct lvr_message {
  const void *data;
  size_t bytes;
  lvr_block *block; /* NULL: none */
  bool in_block;    /* data is the block's payload: the bytes were too many for the channel */
  unsigned char small[LVR_MESSAGE_INLINE] __attribute__((aligned(16))); /* for any struct */
};

/* lvr_message_fini - give back what came with it. Twice is fine. */
LVR_API void lvr_message_fini(struct lvr_message *m);

/* A message to be put: bytes, at most LVR_MESSAGE_INLINE of them when there are several. */
struct lvr_slice {
  const void *data;
  size_t bytes;
};

#ifdef __cplusplus
}
#endif

#endif
