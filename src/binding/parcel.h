/* parcel.h - temporary */
#ifndef LVRI_BINDING_PARCEL_H
#define LVRI_BINDING_PARCEL_H
#include "binding/codec.h"
struct lvri_parcel { const void *data; size_t bytes; lvr_block *block; struct lvri_encoding e; };
static inline int lvri_parcel_pack(struct lvri_state *state, PyObject *obj, struct lvri_parcel *p) {
  lvri_encoding_init(&p->e, NULL, 0);
  p->block = NULL;
  if (lvri_encode(state, obj, &p->e) < 0) { lvri_encoding_fini(&p->e); return -1; }
  p->data = p->e.data; p->bytes = p->e.bytes;
  if (!lvri_encoding_is_plain(&p->e) || p->bytes > LVR_MESSAGE_INLINE) { PyErr_SetString(PyExc_NotImplementedError, "blocks"); lvri_encoding_fini(&p->e); return -1; }
  return 0;
}
static inline void lvri_parcel_fini(struct lvri_parcel *p) { lvri_encoding_fini(&p->e); }
static inline PyObject *lvri_parcel_unpack(struct lvri_state *state, struct lvr_message *m) { return lvri_decode(state, m->data, m->bytes, NULL); }
#endif
