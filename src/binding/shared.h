/* shared.h - what the types of shared objects have in common.
 *
 * Each starts with struct lvri_shared (attributes, weak references) and has one field more, the
 * core's handle, which __init__ or __setstate__ sets, once; it stays until the object is freed,
 * so a thread that waits on it without the GIL needs no reference of its own but the caller's to
 * the object.
 *
 * A pickle is (copyreg.__newobj__, (class,), state); the state is a tuple that begins with a
 * reference: the bytes of an lvr_ref. What keeps the object alive on the way is the passage:
 *
 *   in a parcel   this thread encodes a message: its carrier refers to the object (codec.h)
 *   to a child    a child of ours is being spawned: the object is entered into the child's ledger
 *                 (its Popen has a method give())
 *   alone         anywhere else: it travels with a reference count of its own */
#ifndef LVRI_BINDING_SHARED_H
#define LVRI_BINDING_SHARED_H

#include "binding/state.h"

struct lvri_shared {
  PyObject_HEAD
  PyObject *dict;
  PyObject *weakrefs;
};

/* The slots and the members of every such type. */
extern PyMemberDef lvri_shared_members[];
/* An entry of every table of attributes: vars(), and what subclasses do with it. */
#define LVRI_GETSET_DICT \
  { "__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL }
extern const char lvri_reduce_doc[];
PyObject *lvri_shared_reduce(PyObject *self, PyObject *none);
int lvri_shared_traverse(PyObject *self, visitproc visit, void *arg);
int lvri_shared_clear(PyObject *self);
void lvri_shared_dealloc_begin(PyObject *self);
void lvri_shared_dealloc_end(PyObject *self);

/* "Lock.__init__() was not called"; always NULL. */
PyObject *lvri_raise_uninitialised(PyObject *self);
/* Parses the arguments of a constructor that has none but ctx. -1 with an error. */
int lvri_parse_ctx(PyObject *args, PyObject *kwargs);
/* For a method of so many positional arguments: -1 with an error when it got others. */
int lvri_check_count(const char *method, Py_ssize_t nargs, Py_ssize_t wanted);
/* For __init__: -1 with an error when the object has its handle already. */
int lvri_check_fresh(PyObject *self, const void *handle);

/* The same for __setstate__; and when the state is no tuple. */
int lvri_check_state(PyObject *self, const void *handle, PyObject *state);

/* The class's name without its module; borrowed from the type. */
const char *lvri_class_name(PyObject *self);

/* How an object leaves this process in a pickle; see above. */
struct lvri_passage {
  bool alone;      /* it needs a reference that travels */
  PyObject *popen; /* of the child that it goes to, a new reference; NULL: it goes elsewhere */
};

/* -1 with an error. */
int lvri_passage_begin(struct lvri_passage *passage);
/* What goes into a pickle for ref; tells parcel or child of it. Ends the passage in any case. */
PyObject *lvri_passage_end(struct lvri_passage *passage, const lvr_ref *ref);
int lvri_reference_parse(PyObject *bytes, lvr_ref *ret_ref);
/* The attributes, for the state of a pickle: a dict or None; and back. */
PyObject *lvri_attributes(PyObject *self);
int lvri_attributes_set(PyObject *self, PyObject *attributes);

/* static PyObject *K_reference(lvr_K *handle): what goes into a pickle for it. */
#define LVRI_DEFINE_REFERENCE(KIND)                           \
  static PyObject *KIND##_reference(lvr_##KIND *handle) {     \
    struct lvri_passage passage;                              \
    lvr_ref ref;                                              \
                                                              \
    if (lvri_passage_begin(&passage) < 0) return NULL;        \
    if (passage.alone) {                                      \
      int code = lvr_##KIND##_send(handle, &ref);             \
                                                              \
      if (code < 0) return lvri_raise(code, "send a " #KIND); \
    } else {                                                  \
      lvr_##KIND##_ref(handle, &ref);                         \
    }                                                         \
    return lvri_passage_end(&passage, &ref);                  \
  }

/* static int K_from_reference(PyObject *bytes, lvr_K **ret_handle): and back; -1 with an error. */
#define LVRI_DEFINE_FROM_REFERENCE(KIND)                                         \
  static int KIND##_from_reference(PyObject *bytes, lvr_##KIND **ret_handle) {   \
    lvr_ref ref;                                                                 \
    lvr_session *session = lvri_session();                                       \
                                                                                 \
    if (session == NULL || lvri_reference_parse(bytes, &ref) < 0) return -1;     \
    int code = lvr_##KIND##_attach(session, &ref, ret_handle);                   \
    if (code < 0) (void)lvri_raise(code, "open a " #KIND " that was sent here"); \
    return code < 0 ? -1 : 0;                                                    \
  }

#define LVRI_METHOD(function) ((PyCFunction)(void (*)(void))(function))

#define LVRI_SHARED_FLAGS \
  (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE)

#endif
