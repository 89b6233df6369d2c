/* buffer.c - the memory of an object that came in a message: leveret._core.Buffer.
 *
 * It holds a handle of a block and exports the block's private view: copy on write, so that neither
 * the sender nor a child that is forked later sees what is written. The view is there as long as
 * the handle, and every export keeps the Buffer; so memory is never taken from under anybody.
 *
 * A Buffer that is pickled itself becomes bytes or a bytearray for its receiver. */
#include "binding/codec.h"

struct buffer {
  PyObject_HEAD
  lvr_block *block;
  void *view;
  Py_ssize_t bytes;
  bool readonly;
};

PyObject *lvri_buffer_new(struct lvri_state *state, lvr_block *block, bool readonly) {
  void *view;
  int code = lvr_block_view(block, &view);
  struct buffer *self = code < 0 ? NULL : PyObject_New(struct buffer, state->buffer_type);

  if (self == NULL) {
    lvr_block_detach(block);
    return lvri_raise(code, "map the memory of a message");
  }
  self->block = block;
  self->view = view;
  self->bytes = (Py_ssize_t)lvr_block_bytes(block);
  self->readonly = readonly;
  return (PyObject *)self;
}

static void buffer_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);

  lvr_block_detach(((struct buffer *)self)->block);
  type->tp_free(self);
  Py_DECREF(type);
}

static int buffer_export(PyObject *self, Py_buffer *view, int flags) {
  const struct buffer *buffer = (const struct buffer *)self;

  return PyBuffer_FillInfo(view, self, buffer->view, buffer->bytes, buffer->readonly, flags);
}

static Py_ssize_t buffer_length(PyObject *self) { return ((struct buffer *)self)->bytes; }

static PyObject *buffer_repr(PyObject *self) {
  const struct buffer *buffer = (const struct buffer *)self;

  return PyUnicode_FromFormat("<leveret buffer of %zd bytes%s>", buffer->bytes,
                              buffer->readonly ? ", read-only" : "");
}

static PyObject *buffer_reduce(PyObject *self, PyObject *Py_UNUSED(protocol)) {
  bool readonly = ((struct buffer *)self)->readonly;
  PyObject *type = (PyObject *)(readonly ? &PyBytes_Type : &PyByteArray_Type);
  PyObject *memory = PyObject_CallOneArg(type, self);

  return memory == NULL ? NULL : Py_BuildValue("(O(N))", type, memory);
}

static PyMethodDef buffer_methods[] = {
    {"__reduce_ex__", buffer_reduce, METH_O, "For pickle: as bytes or a bytearray."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot buffer_slots[] = {
    {Py_tp_doc, (void *)"The memory of an object that came in a message."},
    {Py_tp_dealloc, buffer_dealloc},
    {Py_tp_repr, buffer_repr},
    {Py_tp_methods, buffer_methods},
    {Py_bf_getbuffer, buffer_export},
    {Py_sq_length, buffer_length},
    {0, NULL},
};

static PyType_Spec buffer_spec = {
    .name = "leveret._core.Buffer",
    .basicsize = sizeof(struct buffer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = buffer_slots,
};

int lvri_exec_buffer(PyObject *module, struct lvri_state *state) {
  PyObject *type = PyType_FromModuleAndSpec(module, &buffer_spec, NULL);

  state->buffer_type = (PyTypeObject *)type;
  return type == NULL ? -1 : 0;
}
