/* decode.c - libFuzzer against the decoder: any bytes are refused, or read as an object that comes
 * out of the codec as it went in.
 *
 * It is linked into the extension module (meson -Dfuzz=true), which fuzz/decode.py loads into a
 * Python; there libFuzzer's own main loop runs, and calls try_bytes(). Pickles are only looked at,
 * not loaded: what damaged ones call is not ours to say. */
#include "binding/codec.h"

#include <stdlib.h>
#include <string.h>

#include "binding/wire.h"

int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*try_it)(const uint8_t *data, size_t bytes));
__attribute__((visibility("default"))) int lvri_fuzz_decode(PyObject *module, int argc,
                                                            char **argv);

static struct lvri_state *the_state;

static void demand(int is_so) {
  if (is_so) return;
  if (PyErr_Occurred()) PyErr_Print();
  abort();
}

/* A key that is a bytearray, and no memory, are no matter of shape. */
static void check_refusal(void) {
  demand(PyErr_ExceptionMatches(the_state->corrupt_message) ||
         PyErr_ExceptionMatches(PyExc_TypeError) || PyErr_ExceptionMatches(PyExc_MemoryError));
  PyErr_Clear();
}

/* A key that is too deep for it is the only thing that decodes and is not direct. */
static PyObject *encoded(PyObject *obj) {
  struct lvri_encoding e;
  unsigned char memory[16]; /* soon full */
  PyObject *stream = NULL;

  lvri_encoding_init(&e, memory, sizeof(memory));
  int put = lvri_encode_direct(obj, &e);

  if (put > 0) {
    stream = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)lvri_encoding_bytes(&e));
    demand(stream != NULL);
    lvri_encoding_copy(&e, PyBytes_AS_STRING(stream));
  }
  lvri_encoding_fini(&e);
  PyErr_Clear(); /* RecursionError: as deep as pickle goes, and no deeper */
  return stream;
}

/* Encoding, decoding and encoding again comes to the same bytes. */
static void check_object(PyObject *obj) {
  PyObject *one = encoded(obj);

  if (one == NULL) return;
  PyObject *again =
      lvri_decode(the_state, PyBytes_AS_STRING(one), (size_t)PyBytes_GET_SIZE(one), NULL);

  demand(again != NULL);
  PyObject *two = encoded(again);

  demand(two != NULL && PyObject_RichCompareBool(one, two, Py_EQ) == 1);
  Py_DECREF(two);
  Py_DECREF(again);
  Py_DECREF(one);
}

static int is_pickle(const uint8_t *data, size_t bytes) {
  return bytes > 0 && (*data == LVRI_WIRE_PICKLE || *data == LVRI_WIRE_PICKLE_BUFFERS);
}

static void try_flags(const uint8_t *data, size_t bytes) {
  uint32_t count;
  const unsigned char *flags = data;
  unsigned sum = 0;

  if (lvri_decode_buffers(the_state, data, bytes, &count, &flags) < 0) {
    check_refusal();
    return;
  }
  for (uint32_t i = 0; i < count; i++)
    sum += flags[i];
  demand(sum <= 255u * count);
}

static int try_bytes(const uint8_t *data, size_t bytes) {
  if (is_pickle(data, bytes)) {
    try_flags(data, bytes);
    return 0;
  }
  PyObject *obj = lvri_decode(the_state, data, bytes, NULL);

  if (obj == NULL)
    check_refusal();
  else
    check_object(obj);
  Py_XDECREF(obj);
  return 0;
}

int lvri_fuzz_decode(PyObject *module, int argc, char **argv) {
  the_state = lvri_state_of(module);
  return LLVMFuzzerRunDriver(&argc, &argv, try_bytes);
}
