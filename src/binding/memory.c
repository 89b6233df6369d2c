/* memory.c - BufferWrapper: memory of the arena, as Python knows memory.
 *
 * A handle of a block, and the buffer protocol over its payload. ctypes objects, memoryviews and
 * arrays over it hold this object, so the block lives as long as any of them, in any process. */
#include "binding/memory.h"

#include "binding/shared.h"

struct memory_object {
  struct lvri_shared shared;
  lvr_block *block;
};

LVRI_DEFINE_REFERENCE(block)
LVRI_DEFINE_FROM_REFERENCE(block)

static lvr_block *handle_of(PyObject *self) {
  lvr_block *block = ((struct memory_object *)self)->block;

  if (block == NULL) (void)lvri_raise_uninitialised(self);
  return block;
}

bool lvri_memory_holds(PyObject *memory, const void *from, size_t bytes) {
  const lvr_block *block = ((struct memory_object *)memory)->block;

  if (block == NULL) return false;
  uintptr_t begin = (uintptr_t)lvr_block_data(block), at = (uintptr_t)from;
  size_t size = lvr_block_bytes(block);

  return at >= begin && at - begin <= size && bytes <= size - (at - begin);
}

char *lvri_memory_place_of(PyObject *obj, Py_ssize_t *ret_bytes) {
  Py_buffer view;

  if (PyObject_GetBuffer(obj, &view, PyBUF_SIMPLE) < 0) {
    PyErr_Clear();
    return NULL;
  }
  char *place = view.buf;

  *ret_bytes = view.len;
  PyBuffer_Release(&view);
  return place;
}

static PyObject *memory_holds(PyObject *self, PyObject *obj) {
  Py_ssize_t bytes = 0;
  const char *place = lvri_memory_place_of(obj, &bytes);

  return PyBool_FromLong(place != NULL && lvri_memory_holds(self, place, (size_t)bytes));
}

static int memory_init(PyObject *self, PyObject *args, PyObject *kwargs) {
  static char *keywords[] = {"size", NULL};
  struct memory_object *object = (struct memory_object *)self;
  Py_ssize_t size;

  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n:BufferWrapper", keywords, &size) ||
      lvri_check_fresh(self, object->block) < 0)
    return -1;
  if (size < 0) {
    PyErr_Format(PyExc_ValueError, "Size %zd out of range", size);
    return -1;
  }
  lvr_session *session = lvri_session();

  if (session == NULL) return -1;
  int code = lvr_block_create(session, (size_t)size, LVR_BLOCK_ZEROED, &object->block);

  if (code < 0) (void)lvri_raise(code, "make shared memory");
  return code < 0 ? -1 : 0;
}

static void memory_dealloc(PyObject *self) {
  lvri_shared_dealloc_begin(self);
  lvr_block_detach(((struct memory_object *)self)->block);
  lvri_shared_dealloc_end(self);
}

static int memory_getbuffer(PyObject *self, Py_buffer *view, int flags) {
  lvr_block *block = handle_of(self);

  if (block == NULL) return -1;
  return PyBuffer_FillInfo(view, self, lvr_block_data(block), (Py_ssize_t)lvr_block_bytes(block), 0,
                           flags);
}

static PyObject *memory_view(PyObject *self, PyObject *Py_UNUSED(none)) {
  return PyMemoryView_FromObject(self);
}

static PyObject *memory_nbytes(PyObject *self, void *Py_UNUSED(closure)) {
  lvr_block *block = handle_of(self);

  return block == NULL ? NULL : PyLong_FromSize_t(lvr_block_bytes(block));
}

static PyObject *memory_getstate(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_block *block = handle_of(self);
  PyObject *reference = block == NULL ? NULL : block_reference(block);

  return reference == NULL ? NULL : Py_BuildValue("(NN)", reference, lvri_attributes(self));
}

static PyObject *memory_setstate(PyObject *self, PyObject *state) {
  struct memory_object *object = (struct memory_object *)self;
  PyObject *reference, *attributes;

  if (lvri_check_state(self, object->block, state) < 0 ||
      !PyArg_ParseTuple(state, "OO:__setstate__", &reference, &attributes) ||
      block_from_reference(reference, &object->block) < 0 ||
      lvri_attributes_set(self, attributes) < 0)
    return NULL;
  Py_RETURN_NONE;
}

static PyMethodDef memory_methods[] = {
    {"create_memoryview", memory_view, METH_NOARGS,
     "create_memoryview($self, /)\n--\n\nA memoryview of all of it; it keeps the memory."},
    {"holds", memory_holds, METH_O,
     "holds($self, obj, /)\n--\n\nWhether this object with a buffer lies in it."},
    {"__reduce__", lvri_shared_reduce, METH_NOARGS, lvri_reduce_doc},
    {"__getstate__", memory_getstate, METH_NOARGS, NULL},
    {"__setstate__", memory_setstate, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef memory_getset[] = {
    {"nbytes", memory_nbytes, NULL, "How many bytes it has.", NULL},
    LVRI_GETSET_DICT,
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(memory_doc,
             "BufferWrapper(size)\n--\n\n"
             "Memory that processes share: it begins as zeros, and is given back when nothing in "
             "any of them uses it any more.");

static PyType_Slot memory_slots[] = {
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_doc, (void *)memory_doc},
    {Py_tp_init, memory_init},
    {Py_tp_dealloc, memory_dealloc},
    {Py_tp_traverse, lvri_shared_traverse},
    {Py_tp_clear, lvri_shared_clear},
    {Py_tp_members, lvri_shared_members},
    {Py_tp_methods, memory_methods},
    {Py_tp_getset, memory_getset},
    {Py_bf_getbuffer, memory_getbuffer},
    {0, NULL},
};

static PyType_Spec memory_spec = {
    .name = "leveret.heap.BufferWrapper",
    .basicsize = sizeof(struct memory_object),
    .flags = LVRI_SHARED_FLAGS,
    .slots = memory_slots,
};

int lvri_exec_memory(PyObject *module, struct lvri_state *state) {
  return lvri_add_type(module, &memory_spec, NULL, &state->memory_type);
}
