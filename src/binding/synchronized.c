/* synchronized.c - SynchronizedBase: a ctypes object and its lock.
 *
 * Wrappers of structures are Python subclasses of it, made in leveret.sharedctypes, which read and
 * write `_obj` with the lock held; those of numbers and arrays are in value.c and array.c. */
#include "binding/synchronized.h"

#include "binding/memory.h"
#include "binding/semlock.h"

/* The lock */

static int call(PyObject *object, const char *method) {
  PyObject *result = PyObject_CallMethod(object, method, NULL);

  Py_XDECREF(result);
  return result == NULL ? -1 : 0;
}

int lvri_synchronized_take_slowly(struct lvri_synchronized *s) {
  if (s->lock == NULL) {
    (void)lvri_raise_uninitialised((PyObject *)s);
    return -1;
  }
  return s->handle != NULL ? lvri_lock_acquire(s->lock) : call(s->lock, "acquire");
}

int lvri_synchronized_drop_slowly(struct lvri_synchronized *s) {
  PyObject *exception = lvri_take_exception();
  int failed = s->handle != NULL ? lvri_lock_release(s->lock) : call(s->lock, "release");

  if (exception != NULL) lvri_put_exception(exception);
  return failed;
}

PyObject *lvri_synchronized_done(struct lvri_synchronized *s, PyObject *result) {
  if (lvri_synchronized_drop(s) < 0) Py_CLEAR(result);
  return result;
}

PyObject *lvri_synchronized_get(struct lvri_synchronized *s, const char *name) {
  if (lvri_synchronized_take(s) < 0) return NULL;
  return lvri_synchronized_done(s, PyObject_GetAttrString(s->obj, name));
}

int lvri_synchronized_set(struct lvri_synchronized *s, const char *name, PyObject *value) {
  if (value == NULL) {
    PyErr_Format(PyExc_AttributeError, "property '%s' of '%s' object has no deleter", name,
                 lvri_class_name((PyObject *)s));
    return -1;
  }
  if (lvri_synchronized_take(s) < 0) return -1;
  int failed = PyObject_SetAttrString(s->obj, name, value);

  return lvri_synchronized_drop(s) < 0 ? -1 : failed;
}

/* Life */

/* The lock that was given, or a new RLock of the context's; a new reference. */
static PyObject *choose_lock(struct lvri_state *state, PyObject *lock, PyObject *ctx) {
  int given = lock == NULL ? 0 : PyObject_IsTrue(lock);

  if (given < 0) return NULL;
  if (given) return Py_NewRef(lock);
  if (ctx != NULL && ctx != Py_None) return PyObject_CallMethod(ctx, "RLock", NULL);
  return PyObject_CallNoArgs((PyObject *)state->rlock_type);
}

/* Whether it can be acquired and released; -1 with an error, which says what is missing. */
static int check_lock(PyObject *lock) {
  PyObject *acquire = PyObject_GetAttrString(lock, "acquire");
  PyObject *release = acquire == NULL ? NULL : PyObject_GetAttrString(lock, "release");
  int failed = release == NULL ? -1 : 0;

  Py_XDECREF(acquire);
  Py_XDECREF(release);
  return failed;
}

int lvri_synchronized_init(PyObject *self, PyObject *args, PyObject *kwargs) {
  static char *keywords[] = {"obj", "lock", "ctx", NULL};
  struct lvri_synchronized *s = (struct lvri_synchronized *)self;
  struct lvri_state *state = lvri_state_of_type(Py_TYPE(self));
  PyObject *obj, *lock = NULL, *ctx = NULL;

  if (state == NULL ||
      !PyArg_ParseTupleAndKeywords(args, kwargs, "O|OO:__init__", keywords, &obj, &lock, &ctx) ||
      lvri_check_fresh(self, s->obj) < 0)
    return -1;
  lock = choose_lock(state, lock, ctx);
  if (lock == NULL || check_lock(lock) < 0) {
    Py_XDECREF(lock);
    return -1;
  }
  s->obj = Py_NewRef(obj);
  s->lock = lock;
  if (Py_IS_TYPE(lock, state->lock_type) || Py_IS_TYPE(lock, state->rlock_type))
    s->handle = lvri_lock_handle(lock);
  return PyErr_Occurred() ? -1 : 0;
}

/* The memory of ours that `obj` was made over, if it was: borrowed by nobody, or NULL. */
static PyObject *memory_of(struct lvri_state *state, PyObject *obj) {
  PyObject *memory = PyObject_GetAttrString(obj, "_wrapper");

  PyErr_Clear();
  if (memory != NULL && !PyObject_TypeCheck(memory, state->memory_type)) Py_CLEAR(memory);
  return memory;
}

int lvri_synchronized_find_items(struct lvri_synchronized *s, PyObject *type, Py_ssize_t count) {
  struct lvri_state *state = lvri_state_of_type(Py_TYPE(s));
  const struct lvri_item *item = lvri_item_of(type);
  PyObject *memory = state == NULL ? NULL : memory_of(state, s->obj);
  Py_ssize_t bytes = 0;
  char *place = memory == NULL || item == NULL ? NULL : lvri_memory_place_of(s->obj, &bytes);

  if (place != NULL && (uintptr_t)place % item->bytes == 0 && bytes == count * item->bytes &&
      lvri_memory_holds(memory, place, (size_t)bytes)) {
    s->memory = Py_NewRef(memory);
    s->items = place;
    s->count = count;
    s->item = item;
  }
  Py_XDECREF(memory);
  return state == NULL ? -1 : 0;
}

int lvri_synchronized_traverse(PyObject *self, visitproc visit, void *arg) {
  struct lvri_synchronized *s = (struct lvri_synchronized *)self;

  Py_VISIT(s->obj);
  Py_VISIT(s->lock);
  Py_VISIT(s->memory);
  return lvri_shared_traverse(self, visit, arg);
}

int lvri_synchronized_clear(PyObject *self) {
  struct lvri_synchronized *s = (struct lvri_synchronized *)self;

  s->handle = NULL;
  s->item = NULL;
  Py_CLEAR(s->obj);
  Py_CLEAR(s->lock);
  Py_CLEAR(s->memory);
  return lvri_shared_clear(self);
}

void lvri_synchronized_dealloc(PyObject *self) {
  lvri_shared_dealloc_begin(self);
  (void)lvri_synchronized_clear(self);
  lvri_shared_dealloc_end(self);
}

/* Methods */

/* A field that __init__ sets: a new reference. */
static PyObject *field(PyObject *self, PyObject *value) {
  return value == NULL ? lvri_raise_uninitialised(self) : Py_NewRef(value);
}

static PyObject *get_obj(PyObject *self, PyObject *Py_UNUSED(none)) {
  return field(self, ((struct lvri_synchronized *)self)->obj);
}

static PyObject *get_lock(PyObject *self, PyObject *Py_UNUSED(none)) {
  return field(self, ((struct lvri_synchronized *)self)->lock);
}

static PyObject *obj_attribute(PyObject *self, void *Py_UNUSED(closure)) {
  return get_obj(self, NULL);
}

static PyObject *lock_attribute(PyObject *self, void *Py_UNUSED(closure)) {
  return get_lock(self, NULL);
}

/* The method `name` of the lock. */
static PyObject *lock_method(PyObject *self, void *name) {
  PyObject *lock = ((struct lvri_synchronized *)self)->lock;

  return lock == NULL ? lvri_raise_uninitialised(self) : PyObject_GetAttrString(lock, name);
}

static PyObject *enter(PyObject *self, PyObject *Py_UNUSED(none)) {
  struct lvri_synchronized *s = (struct lvri_synchronized *)self;

  if (s->handle == NULL && s->lock != NULL) return PyObject_CallMethod(s->lock, "__enter__", NULL);
  return lvri_synchronized_take(s) < 0 ? NULL : Py_NewRef(Py_True);
}

static PyObject *leave(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
  struct lvri_synchronized *s = (struct lvri_synchronized *)self;

  if (s->lock == NULL) return lvri_raise_uninitialised(self);
  if (s->handle != NULL) return lvri_synchronized_drop(s) < 0 ? NULL : Py_NewRef(Py_None);
  PyObject *exit = PyObject_GetAttrString(s->lock, "__exit__");
  PyObject *result = exit == NULL ? NULL : PyObject_Vectorcall(exit, args, (size_t)nargs, NULL);

  Py_XDECREF(exit);
  return result;
}

static PyObject *reduce(PyObject *self, PyObject *Py_UNUSED(none)) {
  struct lvri_synchronized *s = (struct lvri_synchronized *)self;
  PyObject *module = s->obj == NULL ? lvri_raise_uninitialised(self)
                                    : PyImport_ImportModule("leveret.sharedctypes");
  PyObject *reduced =
      module == NULL ? NULL
                     : PyObject_CallMethod(module, "reduce_synchronized", "OO", s->obj, s->lock);

  Py_XDECREF(module);
  return reduced;
}

static PyObject *repr(PyObject *self) {
  PyObject *obj = ((struct lvri_synchronized *)self)->obj;

  if (obj == NULL) return PyUnicode_FromFormat("<%s wrapper>", lvri_class_name(self));
  return PyUnicode_FromFormat("<%s wrapper for %S>", lvri_class_name(self), obj);
}

static PyMethodDef methods[] = {
    {"get_obj", get_obj, METH_NOARGS, "get_obj($self, /)\n--\n\nThe ctypes object."},
    {"get_lock", get_lock, METH_NOARGS, "get_lock($self, /)\n--\n\nIts lock."},
    {"__enter__", enter, METH_NOARGS, "__enter__($self, /)\n--\n\nAcquire the lock."},
    {"__exit__", LVRI_METHOD(leave), METH_FASTCALL,
     "__exit__($self, /, *args)\n--\n\nRelease the lock."},
    {"__reduce__", reduce, METH_NOARGS, lvri_reduce_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"acquire", lock_method, NULL, "The lock's method.", "acquire"},
    {"release", lock_method, NULL, "The lock's method.", "release"},
    {"_obj", obj_attribute, NULL, "get_obj()", NULL},
    {"_lock", lock_attribute, NULL, "get_lock()", NULL},
    LVRI_GETSET_DICT,
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(doc,
             "SynchronizedBase(obj, lock=None, ctx=None)\n--\n\n"
             "A ctypes object and its lock, by default a new RLock.");

static PyType_Slot slots[] = {
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_doc, (void *)doc},
    {Py_tp_init, lvri_synchronized_init},
    {Py_tp_dealloc, lvri_synchronized_dealloc},
    {Py_tp_traverse, lvri_synchronized_traverse},
    {Py_tp_clear, lvri_synchronized_clear},
    {Py_tp_repr, repr},
    {Py_tp_members, lvri_shared_members},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "leveret.sharedctypes.SynchronizedBase",
    .basicsize = sizeof(struct lvri_synchronized),
    .flags = LVRI_SHARED_FLAGS,
    .slots = slots,
};

int lvri_exec_synchronized(PyObject *module, struct lvri_state *state) {
  return lvri_add_type(module, &spec, NULL, &state->synchronized_base_type);
}
