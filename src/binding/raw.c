#include "binding/raw.h"
#include "binding/parcel.h"

static void of_message(struct lvr_message *m, struct lvri_raw *ret_raw) {
  bool in_block = m->block != NULL;

  *ret_raw = (struct lvri_raw){
      .data = in_block ? lvr_block_data(m->block) : (const unsigned char *)m->data + 1,
      .bytes = (Py_ssize_t)(in_block ? lvr_block_bytes(m->block) : m->bytes - 1),
      .message = m,
  };
}

/* ForkingPickler.NAME(argument) */
static PyObject *call_pickler(const char *name, PyObject *argument) {
  PyObject *module = PyImport_ImportModule("multiprocessing.reduction");
  PyObject *pickler = module == NULL ? NULL : PyObject_GetAttrString(module, "ForkingPickler");
  PyObject *method = pickler == NULL ? NULL : PyObject_GetAttrString(pickler, name);
  PyObject *result = method == NULL ? NULL : PyObject_CallOneArg(method, argument);

  Py_XDECREF(method);
  Py_XDECREF(pickler);
  Py_XDECREF(module);
  return result;
}

/* The pickle of an object that was sent by send(). Takes the message. */
static int of_object(struct lvri_state *state, struct lvr_message *m, struct lvri_raw *ret_raw) {
  PyObject *obj = lvri_parcel_unpack(state, m);
  PyObject *pickle = obj == NULL ? NULL : call_pickler("dumps", obj);

  Py_XDECREF(obj);
  *ret_raw = (struct lvri_raw){.pickle = pickle};
  if (pickle == NULL || PyObject_GetBuffer(pickle, &ret_raw->view, PyBUF_SIMPLE) < 0) {
    Py_XDECREF(pickle);
    return -1;
  }
  ret_raw->data = ret_raw->view.buf;
  ret_raw->bytes = ret_raw->view.len;
  return 0;
}

int lvri_raw_of(struct lvri_state *state, struct lvr_message *m, struct lvri_raw *ret_raw) {
  if (!lvri_is_raw(m)) return of_object(state, m, ret_raw);
  of_message(m, ret_raw);
  return 0;
}

void lvri_raw_fini(struct lvri_raw *raw) {
  if (raw->message != NULL) lvr_message_fini(raw->message);
  if (raw->pickle == NULL) return;
  PyBuffer_Release(&raw->view);
  Py_DECREF(raw->pickle);
}

PyObject *lvri_raw_bytes(const struct lvri_raw *raw) {
  PyObject *bytes = PyBytes_FromStringAndSize(NULL, raw->bytes);

  if (bytes != NULL) lvri_copy(PyBytes_AS_STRING(bytes), raw->data, (size_t)raw->bytes);
  return bytes;
}

PyObject *lvri_raw_loads(struct lvr_message *m) {
  struct lvri_raw raw;

  of_message(m, &raw);
  PyObject *bytes = lvri_raw_bytes(&raw);
  PyObject *obj = bytes == NULL ? NULL : call_pickler("loads", bytes);

  Py_XDECREF(bytes);
  lvri_raw_fini(&raw);
  return obj;
}
