/* function.c - Function: an encoded callable. And the ones that a worker has decoded.
 *
 * A worker decodes a Function once, whatever many tasks it is for; another Function of the same
 * callable is decoded anew. So what a callable keeps in itself lasts for one map() at most, as in
 * the standard library it lasts for one chunk. */
#include "binding/board.h"

#include <string.h>

#include "base/atomic.h"

/* Ids are given by the owner of a board, so those of a process will do; they are never 0, and wrap
 * when nobody has the old ones any more. */
static _Atomic uint32_t last_id;

static uint32_t next_id(void) {
  uint32_t id = lvri_fetch_add_relaxed_u32(&last_id, 1) + 1;

  return id != 0 ? id : next_id();
}

struct lvri_function *lvri_function_of(struct lvri_state *state, PyObject *object) {
  struct lvri_function *f = (struct lvri_function *)object;

  if (!PyObject_TypeCheck(object, state->function_type)) {
    PyErr_Format(PyExc_TypeError, "a task is for a Function, not a %s", Py_TYPE(object)->tp_name);
    return NULL;
  }
  if (f->data == NULL) PyErr_SetString(PyExc_RuntimeError, "Function.__init__() was not called");
  return f->data == NULL ? NULL : f;
}

size_t lvri_task_start(const struct lvri_function *f, enum lvri_task_kind kind, unsigned char *to) {
  struct lvri_task_header head = {(uint16_t)kind, f->is_large, f->bytes, f->id};

  memcpy(to, &head, sizeof(head));
  memcpy(to + sizeof(head), f->data, f->bytes);
  return sizeof(head) + f->bytes;
}

/* --- encoding ------------------------------------------------------------------------------ */

/* The name of the block if there is one, and the stream unless that is in the block. */
static int keep(struct lvri_function *f, const struct lvri_parcel *p) {
  lvr_ref ref;
  size_t name = p->block == NULL ? 0 : sizeof(ref);

  f->data = PyMem_Malloc(name + p->bytes);
  if (f->data == NULL) {
    (void)PyErr_NoMemory();
    return -1;
  }
  if (p->block != NULL) lvr_block_ref(p->block, &ref);
  if (p->block != NULL) memcpy(f->data, &ref, name);
  if (p->bytes > 0) memcpy(f->data + name, p->data, p->bytes);
  f->bytes = (uint32_t)(name + p->bytes);
  f->is_large = p->block != NULL;
  f->id = next_id();
  return 0;
}

static int encode(struct lvri_function *f, struct lvri_state *state, PyObject *callable) {
  struct lvri_parcel p;

  if (lvri_parcel_pack_within(state, callable, &p, LVRI_FUNCTION_BYTES) < 0) return -1;
  int failed = keep(f, &p);

  if (failed == 0) {
    f->block = p.block;
    p.block = NULL;
  }
  lvri_parcel_fini(&p);
  return failed;
}

static int function_init(PyObject *self, PyObject *args, PyObject *kwargs) {
  static char *keywords[] = {"function", NULL};
  struct lvri_function *f = (struct lvri_function *)self;
  struct lvri_state *state = lvri_state_of_type(Py_TYPE(self));
  PyObject *callable;

  if (state == NULL ||
      !PyArg_ParseTupleAndKeywords(args, kwargs, "O:__init__", keywords, &callable) ||
      lvri_check_fresh(self, f->data) < 0)
    return -1;
  return encode(f, state, callable);
}

static void function_dealloc(PyObject *self) {
  struct lvri_function *f = (struct lvri_function *)self;
  PyTypeObject *type = Py_TYPE(self);

  lvr_block_detach(f->block);
  PyMem_Free(f->data);
  type->tp_free(self);
  Py_DECREF(type);
}

/* --- what a worker knows ------------------------------------------------------------------- */

/* The owner lets the block go when nobody waits for the task any more. */
static PyObject *decode_large(struct lvri_state *state, const unsigned char *data, size_t bytes) {
  lvr_session *session = lvri_session();
  lvr_block *block;
  lvr_ref ref;

  if (session == NULL) return NULL;
  memcpy(&ref, data, sizeof(ref));
  int code = lvr_block_attach(session, &ref, &block);

  if (code < 0) return lvri_raise(code, "open the function of a task");
  PyObject *function = lvri_parcel_decode(state, data + sizeof(ref), bytes - sizeof(ref), block);

  lvr_block_detach(block);
  return function;
}

static PyObject *decode(struct lvri_state *state, const struct lvri_task_header *head,
                        const unsigned char *function) {
  if (head->is_large) return decode_large(state, function, head->function_bytes);
  return lvri_decode(state, function, head->function_bytes, NULL);
}

/* Decoding may have run anything, also work(): the place is chosen behind it. */
static PyObject *remember(struct lvri_known *k, const struct lvri_task_header *head,
                          PyObject *function) {
  uint32_t at = k->next;
  PyObject *old = k->entries[at].function;

  k->entries[at] = (struct lvri_known_function){function, head->function, head->is_large != 0};
  k->last = at;
  k->next = (at + 1) % LVRI_KNOWN_MOST;
  Py_XDECREF(old);
  return function;
}

static PyObject *search(struct lvri_known *k, uint32_t id) {
  for (uint32_t at = 0; at < LVRI_KNOWN_MOST; at++) {
    if (k->entries[at].id != id || k->entries[at].function == NULL) continue;
    k->last = at;
    return k->entries[at].function;
  }
  return NULL;
}

PyObject *lvri_known_find(struct lvri_known *k, struct lvri_state *state,
                          const struct lvri_task_header *head, const unsigned char *function) {
  const struct lvri_known_function *last = &k->entries[k->last];

  if (__builtin_expect(last->id == head->function && last->function != NULL, 1))
    return last->function;
  PyObject *known = search(k, head->function);

  if (known != NULL) return known;
  PyObject *decoded = decode(state, head, function);

  return decoded == NULL ? NULL : remember(k, head, decoded);
}

void lvri_known_forget(struct lvri_known *k, bool large_ones_only) {
  for (uint32_t at = 0; at < LVRI_KNOWN_MOST; at++)
    if (k->entries[at].is_large || !large_ones_only) Py_CLEAR(k->entries[at].function);
}

int lvri_known_traverse(struct lvri_known *k, visitproc visit, void *arg) {
  for (uint32_t at = 0; at < LVRI_KNOWN_MOST; at++)
    Py_VISIT(k->entries[at].function);
  return 0;
}

/* --- the type ------------------------------------------------------------------------------ */

PyDoc_STRVAR(function_doc,
             "Function(function)\n--\n\n"
             "A callable as it is sent to workers: encoded once, for any number of tasks.");

static PyType_Slot function_slots[] = {
    {Py_tp_doc, (void *)function_doc},
    {Py_tp_init, function_init},
    {Py_tp_dealloc, function_dealloc},
    {0, NULL},
};

static PyType_Spec function_spec = {
    .name = "leveret._core.Function",
    .basicsize = sizeof(struct lvri_function),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = function_slots,
};

int lvri_exec_function(PyObject *module, struct lvri_state *state) {
  return lvri_add_type(module, &function_spec, NULL, &state->function_type);
}
