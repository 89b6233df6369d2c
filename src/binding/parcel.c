/* parcel.c - puts a message together from an encoding, and takes it apart. */
#include "binding/parcel.h"

/* --- packing ------------------------------------------------------------------------------- */

static lvr_block *raise_block(int code) {
  (void)lvri_raise(code, "put a message into shared memory");
  return NULL;
}

/* Memory for much is taken from the kernel: without the GIL. */
static lvr_block *make_block(size_t bytes, uint32_t flags) {
  lvr_session *session = lvri_session();
  lvr_block *block;
  int code;

  if (session == NULL) return NULL;
  if (bytes < LVRI_LONG_COPY_BYTES) {
    code = lvr_block_create(session, bytes, flags, &block);
  } else {
    Py_BEGIN_ALLOW_THREADS
    code = lvr_block_create(session, bytes, flags, &block);
    Py_END_ALLOW_THREADS
  }
  return code < 0 ? raise_block(code) : block;
}

static int carry(lvr_block *carrier, const lvr_ref *ref) {
  int code = lvr_block_carry(carrier, ref);

  if (code < 0) (void)raise_block(code);
  return code < 0 ? -1 : 0;
}

static int carry_buffer(lvr_block *carrier, const Py_buffer *view) {
  lvr_block *block = make_block((size_t)view->len, LVR_BLOCK_PAGED);
  lvr_ref ref;

  if (block == NULL) return -1;
  lvri_copy(lvr_block_data(block), view->buf, (size_t)view->len);
  lvr_block_ref(block, &ref);
  int failed = carry(carrier, &ref);

  lvr_block_detach(block);
  return failed;
}

static int carry_all(lvr_block *carrier, const struct lvri_encoding *e) {
  int failed = 0;

  for (uint32_t i = 0; i < e->buffers.count && failed == 0; i++)
    failed = carry_buffer(carrier, &e->buffers.items[i].view);
  for (uint32_t i = 0; i < e->ref_count && failed == 0; i++)
    failed = carry(carrier, &e->refs[i]);
  return failed;
}

/* Into the carrier's payload if it is large; else it stays where it is. */
static void place_stream(struct lvri_parcel *p, size_t bytes, bool is_large) {
  p->data = is_large ? NULL : p->encoding.data;
  p->bytes = is_large ? 0 : bytes;
  if (is_large) lvri_encoding_copy(&p->encoding, lvr_block_data(p->block));
}

static int load_carrier(struct lvri_parcel *p, size_t most) {
  size_t bytes = lvri_encoding_bytes(&p->encoding);
  bool is_large = bytes > most;

  p->block = make_block(is_large ? bytes : 0, 0);
  if (p->block == NULL) return -1;
  place_stream(p, bytes, is_large);
  if (carry_all(p->block, &p->encoding) < 0) return -1;
  lvri_encoding_release(&p->encoding);
  return 0;
}

int lvri_parcel_pack_within(struct lvri_state *state, PyObject *obj, struct lvri_parcel *p,
                            size_t most) {
  struct lvri_encoding *e = &p->encoding;

  p->block = NULL;
  lvri_encoding_init(e, p->memory, sizeof(p->memory));
  int failed = lvri_encode(state, obj, e);

  p->data = e->data;
  p->bytes = e->bytes;
  if (failed == 0 && (!lvri_encoding_is_plain(e) || e->bytes > most))
    failed = load_carrier(p, most);
  else if (failed == 0 && e->keeps != NULL)
    lvri_encoding_release(e);
  if (failed) lvri_parcel_fini(p);
  return failed;
}

int lvri_parcel_pack(struct lvri_state *state, PyObject *obj, struct lvri_parcel *p) {
  return lvri_parcel_pack_within(state, obj, p, LVR_MESSAGE_INLINE);
}

void lvri_parcel_fini(struct lvri_parcel *p) {
  lvr_block_detach(p->block);
  p->block = NULL;
  lvri_encoding_fini(&p->encoding);
}

/* --- unpacking ----------------------------------------------------------------------------- */

/* The buffer that the carrier has at `index`. */
static PyObject *carried_buffer(struct lvri_state *state, const lvr_block *carrier, uint32_t index,
                                bool readonly) {
  lvr_session *session = lvri_session();
  lvr_block *block;
  lvr_ref ref;

  if (session == NULL) return NULL;
  lvr_block_carried_ref(carrier, index, &ref);
  int code = lvr_block_attach(session, &ref, &block);

  if (code < 0) return lvri_raise(code, "open the memory of a message");
  return lvri_buffer_new(state, block, readonly);
}

static PyObject *carried_buffers(struct lvri_state *state, const lvr_block *carrier, uint32_t count,
                                 const unsigned char *flags) {
  PyObject *list = PyList_New(0);

  for (uint32_t i = 0; list != NULL && i < count; i++) {
    PyObject *buffer = carried_buffer(state, carrier, i, (flags[i] & LVRI_BUFFER_READONLY) != 0);

    if (buffer == NULL || PyList_Append(list, buffer) < 0) Py_CLEAR(list);
    Py_XDECREF(buffer);
  }
  return list;
}

static PyObject *decode_carried(struct lvri_state *state, const void *data, size_t bytes,
                                const lvr_block *carrier) {
  uint32_t count;
  const unsigned char *flags;

  if (lvri_decode_buffers(state, data, bytes, &count, &flags) < 0) return NULL;
  if (count == 0) return lvri_decode(state, data, bytes, NULL);
  if (count > lvr_block_carried(carrier)) {
    (void)lvri_raise_corrupt(state, "it has more buffers than came with it");
    return NULL;
  }
  PyObject *buffers = carried_buffers(state, carrier, count, flags);
  PyObject *obj = buffers == NULL ? NULL : lvri_decode(state, data, bytes, buffers);

  Py_XDECREF(buffers);
  return obj;
}

PyObject *lvri_parcel_decode(struct lvri_state *state, const void *data, size_t bytes,
                             const lvr_block *block) {
  if (block == NULL) return lvri_decode(state, data, bytes, NULL);
  if (bytes > 0) return decode_carried(state, data, bytes, block);
  return decode_carried(state, lvr_block_data(block), lvr_block_bytes(block), block);
}

/* CPython's own error for want of memory has no text, and says nothing of the message. */
static void note_that_it_is_gone(void) {
  PyObject *raised = lvri_take_exception();
  PyObject *noted = PyObject_CallMethod(
      raised, "add_note", "s",
      "leveret: the message is gone: its receiver had too little memory left for it (see `ulimit "
      "-v` and the memory limit of the container)");

  if (noted == NULL) PyErr_Clear();
  Py_XDECREF(noted);
  lvri_put_exception(raised);
}

PyObject *lvri_parcel_unpack(struct lvri_state *state, struct lvr_message *m) {
  PyObject *obj = m->block == NULL ? lvri_decode(state, m->data, m->bytes, NULL)
                                   : decode_carried(state, m->data, m->bytes, m->block);

  if (obj == NULL && PyErr_ExceptionMatches(PyExc_MemoryError)) note_that_it_is_gone();
  lvr_message_fini(m);
  return obj;
}
