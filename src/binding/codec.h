/* codec.h - objects to bytes and back.
 *
 *   lvri_encode()   object -> struct lvri_encoding: a stream in pieces, buffers, references
 *   lvri_decode()   bytes, buffers -> object
 *   parcel.h        the same between an object and what queues and pipes carry
 *
 * What is written directly, what is pickled, and the format: docs/design/codec.md.
 *
 * All of it needs the GIL and may be called again from what it calls (a reducer that puts into
 * another queue). Nothing here waits for, or takes, a lock of the arena's, but for attaching the
 * shared objects that a stream names. */
#ifndef LVRI_BINDING_CODEC_H
#define LVRI_BINDING_CODEC_H

#include "binding/state.h"

#include <leveret/message.h>

/* What a caller has on its stack for small streams. */
#define LVRI_ENCODING_BYTES 1024u
/* A payload of the stream from this size on is not copied into it, but spliced in. */
#define LVRI_SPLICE_BYTES ((size_t)LVR_MESSAGE_INLINE)
/* A buffer of a reducer's from this size on travels by itself. */
#define LVRI_BUFFER_BYTES ((size_t)1024 * 1024)
/* Copies of this size are made without the GIL. */
#define LVRI_LONG_COPY_BYTES ((size_t)1024 * 1024)

/* What a stream says of a buffer. */
#define LVRI_BUFFER_READONLY 1u

/* A piece of somebody's memory, held by a buffer export: at `at` of the stream, or by itself. */
struct lvri_piece {
  size_t at;
  Py_buffer view;
};

struct lvri_pieces {
  struct lvri_piece *items;
  uint32_t count, room;
};

/* An object as bytes. The stream is data[0..bytes) with the splices put in at their places: never
 * read data by itself when there are any. */
struct lvri_encoding {
  unsigned char *data;
  size_t bytes, room;
  unsigned char *memory;      /* the caller's; data is elsewhere when it was too small */
  size_t spliced_bytes;       /* the sum of the splices */
  struct lvri_pieces splices; /* in the order of their places */
  struct lvri_pieces buffers; /* those that travel by themselves, in the pickle's order */
  lvr_ref *refs;              /* of the shared objects that the pickle names */
  uint32_t ref_count, ref_room;
  bool is_fixed;   /* growing fails, without an exception */
  PyObject *keeps; /* the pickler: its memo keeps alive what refs names */
};

/* lvri_encoding_init - begin, with memory of the caller's for a start.
 * Owner:   memory is the caller's and must stay until lvri_encoding_fini(). */
void lvri_encoding_init(struct lvri_encoding *e, unsigned char *memory, size_t bytes);

/* lvri_encoding_fini - give everything back. May run Python code (what held a buffer may end).
 * Twice is fine. An exception that is set stays. */
void lvri_encoding_fini(struct lvri_encoding *e);

/* lvri_encoding_release - give back all but the stream's own bytes. */
void lvri_encoding_release(struct lvri_encoding *e);

/* lvri_encoding_clear - the same, and begin anew with the same memory. */
void lvri_encoding_clear(struct lvri_encoding *e);

/* lvri_encode - write obj, of any type.
 * Owner:   on failure e holds nothing but memory: lvri_encoding_fini().
 * Returns: 0; -1 with the exception: RecursionError, MemoryError, what pickling raised (with a note
 *          that names the object), what a signal handler or a reducer raised. */
LVR_MUST_CHECK int lvri_encode(struct lvri_state *state, PyObject *obj, struct lvri_encoding *e);

/* lvri_encode_small - write obj if that is simple: direct, and within room bytes.
 * Units:   how many bytes were written; 0: it is not simple (or fails): ask lvri_encode().
 * Caller:  any; no Python code runs, no exception is set, nothing is allocated as a rule. */
size_t lvri_encode_small(PyObject *obj, unsigned char *buf, size_t room);

/* lvri_encoding_bytes - of the whole stream. */
static inline size_t lvri_encoding_bytes(const struct lvri_encoding *e) {
  return e->bytes + e->spliced_bytes;
}

/* lvri_encoding_is_plain - nothing travels with the stream, and it lies in e->data in one piece. */
static inline bool lvri_encoding_is_plain(const struct lvri_encoding *e) {
  return (e->splices.count | e->buffers.count | e->ref_count) == 0;
}

/* lvri_encoding_copy - the whole stream, to lvri_encoding_bytes() of memory. Releases the GIL for
 * copies of LVRI_LONG_COPY_BYTES and more. */
void lvri_encoding_copy(const struct lvri_encoding *e, void *to);

/* lvri_copy - memcpy; without the GIL when it takes long. */
void lvri_copy(void *to, const void *from, size_t bytes);

/* lvri_decode - read an object. data may be anything.
 * Units:   buffers: a list, one object with the buffer protocol for each that travelled by itself;
 *          NULL: none.
 * Owner:   data is read only while this runs; nothing points to it afterwards.
 * Returns: a new reference; NULL with the exception: leveret.CorruptMessage (a ValueError) when the
 *          shape is wrong, MemoryError, what unpickling raised. */
PyObject *lvri_decode(struct lvri_state *state, const void *data, size_t bytes, PyObject *buffers);

/* lvri_decode_buffers - how many buffers the stream wants.
 * Units:   *ret_flags: one byte each, LVRI_BUFFER_*; into data.
 * Returns: 0; -1 with CorruptMessage. */
LVR_MUST_CHECK int lvri_decode_buffers(struct lvri_state *state, const void *data, size_t bytes,
                                       uint32_t *ret_count, const unsigned char **ret_flags);

/* lvri_raise_corrupt - CorruptMessage; always -1. */
int lvri_raise_corrupt(struct lvri_state *state, const char *what);

/* --- shared objects in a stream ------------------------------------------------------------ */

/* lvri_packing_carry - while this thread encodes: note that the stream names that object.
 * Returns: 1, noted: it needs no reference that travels; 0: this thread does not encode; -1 with
 *          MemoryError. */
LVR_MUST_CHECK int lvri_packing_carry(const lvr_ref *ref);

/* lvri_packing - whether this thread encodes. */
bool lvri_packing(void);

/* --- between the files of the codec -------------------------------------------------------- */

/* encoding.c. Room for more bytes at the end: the stream's then. NULL with MemoryError. */
unsigned char *lvri_encoding_grow(struct lvri_encoding *e, size_t more);

static inline unsigned char *lvri_encoding_claim(struct lvri_encoding *e, size_t more) {
  if (__builtin_expect(e->room - e->bytes < more, 0)) return lvri_encoding_grow(e, more);
  unsigned char *at = e->data + e->bytes;

  e->bytes += more;
  return at;
}

/* One more piece, whose view is for the caller to fill; NULL with MemoryError. */
struct lvri_piece *lvri_piece_add(struct lvri_pieces *pieces);

/* Put what view holds into the stream: by a copy, or by a splice. The view is taken. */
LVR_MUST_CHECK int lvri_encoding_put_view(struct lvri_encoding *e, Py_buffer *view);

/* The stream names that shared object. -1 with MemoryError. */
LVR_MUST_CHECK int lvri_encoding_refer(struct lvri_encoding *e, const lvr_ref *ref);

/* encode.c. 1; 0: it is not direct; -1 with the exception. */
LVR_MUST_CHECK int lvri_encode_direct(PyObject *obj, struct lvri_encoding *e);

/* pickling.c */
LVR_MUST_CHECK int lvri_encode_pickled(struct lvri_state *state, PyObject *obj,
                                       struct lvri_encoding *e);
PyObject *lvri_decode_pickled(struct lvri_state *state, const unsigned char *data, size_t bytes,
                              PyObject *buffers);

/* buffer.c: a leveret._core.Buffer over the private view of a block, whose handle it takes over,
 * also on failure. */
PyObject *lvri_buffer_new(struct lvri_state *state, lvr_block *block, bool readonly);

#endif
