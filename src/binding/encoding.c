/* encoding.c - a stream that grows: its memory, and the pieces that are noted and not copied. */
#include "binding/codec.h"

#include <string.h>

/* One by one: zeroing all of it at once takes longer than to encode a number. */
void lvri_encoding_init(struct lvri_encoding *e, unsigned char *memory, size_t bytes) {
  e->data = e->memory = memory;
  e->room = bytes;
  e->bytes = e->spliced_bytes = 0;
  e->splices.items = e->buffers.items = NULL;
  e->splices.count = e->splices.room = 0;
  e->buffers.count = e->buffers.room = 0;
  e->refs = NULL;
  e->ref_count = e->ref_room = 0;
  e->is_fixed = false;
  e->keeps = NULL;
}

/* --- memory -------------------------------------------------------------------------------- */

static unsigned char *move_to_heap(const struct lvri_encoding *e, size_t room) {
  if (e->data != e->memory) return PyMem_RawRealloc(e->data, room);
  unsigned char *data = PyMem_RawMalloc(room);

  if (data != NULL) memcpy(data, e->data, e->bytes);
  return data;
}

unsigned char *lvri_encoding_grow(struct lvri_encoding *e, size_t more) {
  size_t needed = e->bytes + more;
  size_t room = needed + needed / 2 + LVRI_ENCODING_BYTES;
  if (e->is_fixed) return NULL;
  unsigned char *data = more > PY_SSIZE_T_MAX / 4 ? NULL : move_to_heap(e, room);

  if (data == NULL) {
    (void)PyErr_NoMemory();
    return NULL;
  }
  unsigned char *at = data + e->bytes;

  e->data = data;
  e->room = room;
  e->bytes = needed;
  return at;
}

/* An array of items with room for one more; NULL with MemoryError. */
static void *make_room(void *items, uint32_t count, uint32_t *room, size_t item_bytes) {
  if (count < *room) return items;
  uint32_t wider = *room == 0 ? 4 : *room * 2;
  void *moved = wider > UINT32_MAX / 4 ? NULL : PyMem_RawRealloc(items, wider * item_bytes);

  if (moved == NULL)
    (void)PyErr_NoMemory();
  else
    *room = wider;
  return moved;
}

/* --- pieces -------------------------------------------------------------------------------- */

struct lvri_piece *lvri_piece_add(struct lvri_pieces *pieces) {
  void *items = make_room(pieces->items, pieces->count, &pieces->room, sizeof(struct lvri_piece));

  if (items == NULL) return NULL;
  pieces->items = items;
  return &pieces->items[pieces->count++];
}

static void release_pieces(struct lvri_pieces *pieces) {
  struct lvri_pieces gone = *pieces;

  *pieces = (struct lvri_pieces){0};
  for (uint32_t i = 0; i < gone.count; i++)
    PyBuffer_Release(&gone.items[i].view);
  PyMem_RawFree(gone.items);
}

static int splice(struct lvri_encoding *e, Py_buffer *view) {
  struct lvri_piece *piece = lvri_piece_add(&e->splices);

  if (piece == NULL) {
    PyBuffer_Release(view);
    return -1;
  }
  *piece = (struct lvri_piece){.at = e->bytes, .view = *view};
  e->spliced_bytes += (size_t)view->len;
  return 0;
}

int lvri_encoding_put_view(struct lvri_encoding *e, Py_buffer *view) {
  if ((size_t)view->len >= LVRI_SPLICE_BYTES) return splice(e, view);
  unsigned char *at = lvri_encoding_claim(e, (size_t)view->len);

  if (at != NULL) memcpy(at, view->buf, (size_t)view->len);
  PyBuffer_Release(view);
  return at == NULL ? -1 : 0;
}

/* --- putting it together ------------------------------------------------------------------- */

void lvri_copy(void *to, const void *from, size_t bytes) {
  if (bytes < LVRI_LONG_COPY_BYTES) {
    memcpy(to, from, bytes);
    return;
  }
  Py_BEGIN_ALLOW_THREADS
  memcpy(to, from, bytes);
  Py_END_ALLOW_THREADS
}

void lvri_encoding_copy(const struct lvri_encoding *e, void *to) {
  unsigned char *at = to;
  size_t done = 0;

  for (uint32_t i = 0; i < e->splices.count; i++) {
    const struct lvri_piece *piece = &e->splices.items[i];
    size_t before = piece->at - done;

    lvri_copy(at, e->data + done, before);
    lvri_copy(at + before, piece->view.buf, (size_t)piece->view.len);
    at += before + (size_t)piece->view.len;
    done = piece->at;
  }
  lvri_copy(at, e->data + done, e->bytes - done);
}

/* --- the end ------------------------------------------------------------------------------- */

void lvri_encoding_release(struct lvri_encoding *e) {
  e->spliced_bytes = 0;
  e->ref_count = 0;
  release_pieces(&e->splices);
  release_pieces(&e->buffers);
  Py_CLEAR(e->keeps);
}

void lvri_encoding_clear(struct lvri_encoding *e) {
  lvri_encoding_release(e);
  e->bytes = 0;
}

static void free_memory(struct lvri_encoding *e) {
  if (e->data != e->memory) PyMem_RawFree(e->data);
  PyMem_RawFree(e->refs);
  lvri_encoding_init(e, e->memory, 0);
}

void lvri_encoding_fini(struct lvri_encoding *e) {
  if (lvri_encoding_is_plain(e) && e->keeps == NULL) { /* what nearly all are */
    free_memory(e);
    return;
  }
  PyObject *raised = lvri_take_exception();

  lvri_encoding_release(e);
  free_memory(e);
  if (raised != NULL) lvri_put_exception(raised);
}

/* --- references ---------------------------------------------------------------------------- */

int lvri_encoding_refer(struct lvri_encoding *e, const lvr_ref *ref) {
  void *refs = make_room(e->refs, e->ref_count, &e->ref_room, sizeof(*e->refs));

  if (refs == NULL) return -1;
  e->refs = refs;
  e->refs[e->ref_count++] = *ref;
  return 0;
}
