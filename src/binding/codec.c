/* codec.c - the codec as Python sees it: for tests, benchmarks and leveret.reduction. */
#include "binding/codec.h"

#include <string.h>

#include "binding/parcel.h"

/* --- encoding ------------------------------------------------------------------------------ */

static PyObject *whole_stream(const struct lvri_encoding *e) {
  PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)lvri_encoding_bytes(e));

  if (bytes != NULL) lvri_encoding_copy(e, PyBytes_AS_STRING(bytes));
  return bytes;
}

/* A buffer as an object that holds it: read-only if the sender's is. */
static PyObject *copied_buffer(const Py_buffer *view) {
  if (view->readonly) return PyBytes_FromStringAndSize(view->buf, view->len);
  return PyByteArray_FromStringAndSize(view->buf, view->len);
}

static PyObject *copied_buffers(const struct lvri_encoding *e) {
  PyObject *list = PyList_New(e->buffers.count);

  for (uint32_t i = 0; list != NULL && i < e->buffers.count; i++) {
    PyObject *buffer = copied_buffer(&e->buffers.items[i].view);

    if (buffer == NULL)
      Py_CLEAR(list);
    else
      PyList_SET_ITEM(list, i, buffer);
  }
  return list;
}

static PyObject *copied_refs(const struct lvri_encoding *e) {
  PyObject *list = PyList_New(e->ref_count);

  for (uint32_t i = 0; list != NULL && i < e->ref_count; i++) {
    PyObject *ref = PyBytes_FromStringAndSize((const char *)&e->refs[i], sizeof(*e->refs));

    if (ref == NULL)
      Py_CLEAR(list);
    else
      PyList_SET_ITEM(list, i, ref);
  }
  return list;
}

static PyObject *as_tuple(const struct lvri_encoding *e) {
  PyObject *stream = whole_stream(e);
  PyObject *buffers = stream == NULL ? NULL : copied_buffers(e);
  PyObject *refs = buffers == NULL ? NULL : copied_refs(e);

  if (refs != NULL) return Py_BuildValue("(NNN)", stream, buffers, refs);
  Py_XDECREF(stream);
  Py_XDECREF(buffers);
  return NULL;
}

PyDoc_STRVAR(encode_doc,
             "encode($module, obj, /)\n--\n\n"
             "The object as (stream, [buffers], [references]); all of it copied.\n\n"
             "A reference does not keep its object alive: in a message the carrier does.");

static PyObject *codec_encode(PyObject *module, PyObject *obj) {
  unsigned char memory[LVRI_ENCODING_BYTES];
  struct lvri_encoding e;

  lvri_encoding_init(&e, memory, sizeof(memory));
  int failed = lvri_encode(lvri_state_of(module), obj, &e);
  PyObject *tuple = failed ? NULL : as_tuple(&e);

  lvri_encoding_fini(&e);
  return tuple;
}

PyDoc_STRVAR(encode_small_doc,
             "encode_small($module, obj, room, /)\n--\n\n"
             "The stream of a direct object if it has at most room bytes (up to 1024); else None.");

static PyObject *codec_encode_small(PyObject *Py_UNUSED(module), PyObject *args) {
  unsigned char memory[LVRI_ENCODING_BYTES];
  PyObject *obj;
  Py_ssize_t room;

  if (!PyArg_ParseTuple(args, "On:encode_small", &obj, &room)) return NULL;
  if (room < 0 || (size_t)room > sizeof(memory)) {
    PyErr_SetString(PyExc_ValueError, "room is 0 to 1024");
    return NULL;
  }
  size_t bytes = lvri_encode_small(obj, memory, (size_t)room);

  if (bytes == 0) Py_RETURN_NONE;
  return PyBytes_FromStringAndSize((const char *)memory, (Py_ssize_t)bytes);
}

/* --- decoding ------------------------------------------------------------------------------ */

PyDoc_STRVAR(
    decode_doc,
    "decode($module, stream, buffers=[], /)\n--\n\n"
    "The object that encode() made the stream of. CorruptMessage if it made none like it.");

static PyObject *codec_decode(PyObject *module, PyObject *args) {
  Py_buffer stream;
  PyObject *buffers = NULL;

  if (!PyArg_ParseTuple(args, "y*|O!:decode", &stream, &PyList_Type, &buffers)) return NULL;
  PyObject *obj = lvri_decode(lvri_state_of(module), stream.buf, (size_t)stream.len, buffers);

  PyBuffer_Release(&stream);
  return obj;
}

/* --- through a message --------------------------------------------------------------------- */

/* As if the parcel had gone through a queue. */
static void deliver(struct lvri_parcel *p, struct lvr_message *m) {
  m->block = p->block;
  m->in_block = p->bytes == 0;
  m->data = m->in_block ? lvr_block_data(p->block) : m->small;
  m->bytes = m->in_block ? lvr_block_bytes(p->block) : p->bytes;
  if (!m->in_block) memcpy(m->small, p->data, p->bytes);
  p->block = NULL;
}

PyDoc_STRVAR(relay_doc,
             "relay($module, obj, /)\n--\n\n"
             "The object as a queue within this process would hand it on.");

static PyObject *codec_relay(PyObject *module, PyObject *obj) {
  struct lvri_parcel p;
  struct lvr_message m;

  if (lvri_parcel_pack(lvri_state_of(module), obj, &p) < 0) return NULL;
  deliver(&p, &m);
  lvri_parcel_fini(&p);
  return lvri_parcel_unpack(lvri_state_of(module), &m);
}

/* --- measuring ----------------------------------------------------------------------------- */

static PyObject *recode_once(struct lvri_state *state, PyObject *obj) {
  unsigned char memory[LVRI_ENCODING_BYTES];
  struct lvri_encoding e;
  PyObject *decoded = NULL;

  lvri_encoding_init(&e, memory, sizeof(memory));
  if (lvri_encode(state, obj, &e) == 0) {
    if (lvri_encoding_is_plain(&e))
      decoded = lvri_decode(state, e.data, e.bytes, NULL);
    else
      PyErr_SetString(PyExc_ValueError, "it does not lie in one piece");
  }
  lvri_encoding_fini(&e);
  return decoded;
}

PyDoc_STRVAR(recode_doc,
             "recode($module, obj, times=1, /)\n--\n\n"
             "Encode and decode an object that many times, for benchmarks; the last result.");

static PyObject *codec_recode(PyObject *module, PyObject *args) {
  PyObject *obj, *decoded = NULL;
  Py_ssize_t times = 1;

  if (!PyArg_ParseTuple(args, "O|n:recode", &obj, &times)) return NULL;
  do {
    Py_XSETREF(decoded, recode_once(lvri_state_of(module), obj));
  } while (decoded != NULL && --times > 0);
  return decoded;
}

/* --- the module ---------------------------------------------------------------------------- */

static PyMethodDef codec_functions[] = {
    {"encode", codec_encode, METH_O, encode_doc},
    {"encode_small", codec_encode_small, METH_VARARGS, encode_small_doc},
    {"decode", codec_decode, METH_VARARGS, decode_doc},
    {"relay", codec_relay, METH_O, relay_doc},
    {"recode", codec_recode, METH_VARARGS, recode_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(corrupt_doc,
             "The bytes of a message do not have the shape of one.\n\n"
             "Something else wrote them, or wrote over them.");

int lvri_exec_codec(PyObject *module, struct lvri_state *state) {
  state->corrupt_message =
      PyErr_NewExceptionWithDoc("leveret.CorruptMessage", corrupt_doc, PyExc_ValueError, NULL);
  if (state->corrupt_message == NULL ||
      PyModule_AddObjectRef(module, "CorruptMessage", state->corrupt_message) < 0 ||
      PyModule_AddIntConstant(module, "SPLICE_BYTES", (long)LVRI_SPLICE_BYTES) < 0 ||
      PyModule_AddIntConstant(module, "BUFFER_BYTES", (long)LVRI_BUFFER_BYTES) < 0)
    return -1;
  return PyModule_AddFunctions(module, codec_functions);
}
