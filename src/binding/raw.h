/* raw.h - messages that are bytes as somebody has sent them, and objects taken for such.
 *
 *   few     LVRI_RAW, the bytes
 *   many    LVRI_RAW               and a block, whose payload they are
 *
 * No stream of the codec begins with LVRI_RAW. In the standard library send() is send_bytes() of a
 * pickle, and some programs count on it: so who wants an object unpickles what was sent raw, and
 * who wants bytes has pickled what was not. */
#ifndef LVRI_BINDING_RAW_H
#define LVRI_BINDING_RAW_H

#include "binding/codec.h"

#define LVRI_RAW 0xffu

/* The bytes: in a message, or in what recv() would have returned. */
struct lvri_raw {
  const void *data;
  Py_ssize_t bytes;
  struct lvr_message *message; /* NULL, or whom data belongs to */
  PyObject *pickle;            /* NULL, or whose buffer data is in */
  Py_buffer view;
};

static inline bool lvri_is_raw(const struct lvr_message *m) {
  return !m->in_block && m->bytes > 0 && *(const unsigned char *)m->data == LVRI_RAW;
}

/* The bytes of a message, raw or not, which is taken: but its memory must stay until
 * lvri_raw_fini(). 0; -1 with the exception: then there is nothing to give back. */
LVR_MUST_CHECK int lvri_raw_of(struct lvri_state *state, struct lvr_message *m,
                               struct lvri_raw *ret_raw);
void lvri_raw_fini(struct lvri_raw *raw);

PyObject *lvri_raw_bytes(const struct lvri_raw *raw);

/* The object that a raw message is a pickle of. Consumes the message; NULL with the exception. */
PyObject *lvri_raw_loads(struct lvr_message *m);

#endif
