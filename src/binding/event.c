/* event.c - Event: a flag that processes wait for. */
#include "binding/shared.h"

struct event_object {
  struct lvri_shared shared;
  lvr_event *event;
};

LVRI_DEFINE_REFERENCE(event)
LVRI_DEFINE_FROM_REFERENCE(event)

static lvr_event *handle_of(PyObject *self) {
  lvr_event *event = ((struct event_object *)self)->event;

  if (event == NULL) (void)lvri_raise_uninitialised(self);
  return event;
}

static PyObject *event_is_set(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_event *event = handle_of(self);

  return event == NULL ? NULL : PyBool_FromLong(lvr_event_is_set(event));
}

static PyObject *event_set(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_event *event = handle_of(self);

  if (event == NULL) return NULL;
  lvr_event_set(event);
  Py_RETURN_NONE;
}

static PyObject *event_clear(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_event *event = handle_of(self);

  if (event == NULL) return NULL;
  lvr_event_clear(event);
  Py_RETURN_NONE;
}

/* A set() that is cleared again while a signal handler of ours runs counts: so the mark. */
static int wait_until(lvr_event *event, int64_t deadline_ns) {
  uint32_t mark = lvr_event_mark(event);
  int code;

  if (lvr_event_is_set(event)) return 0;
  LVRI_WAIT_UNTIL(code, deadline_ns, lvr_event_wait_since_until(event, mark, until_ns));
  return code;
}

static PyObject *event_wait(PyObject *self, PyObject *args, PyObject *kwargs) {
  static char *keywords[] = {"timeout", NULL};
  PyObject *timeout = Py_None;
  lvr_event *event = handle_of(self);
  int64_t deadline_ns;

  if (event == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "|O:wait", keywords, &timeout) ||
      lvri_deadline_of(timeout, &deadline_ns) < 0)
    return NULL;
  int code = wait_until(event, deadline_ns);

  if (code == 0) Py_RETURN_TRUE;
  if (code == -ETIMEDOUT) Py_RETURN_FALSE;
  return code == LVRI_RAISED ? NULL : lvri_raise(code, "wait for an event");
}

static PyObject *event_repr(PyObject *self) {
  lvr_event *event = handle_of(self);
  PyObject *name = event == NULL ? NULL : PyType_GetQualName(Py_TYPE(self));

  if (name == NULL) return NULL;
  PyObject *repr =
      PyUnicode_FromFormat("<%U at %p %s>", name, self, lvr_event_is_set(event) ? "set" : "unset");

  Py_DECREF(name);
  return repr;
}

/* Life */

static int event_init(PyObject *self, PyObject *args, PyObject *kwargs) {
  struct event_object *object = (struct event_object *)self;
  lvr_session *session;

  if (lvri_parse_ctx(args, kwargs) < 0 || lvri_check_fresh(self, object->event) < 0 ||
      (session = lvri_session()) == NULL)
    return -1;
  int code = lvr_event_create(session, &object->event);

  if (code < 0) (void)lvri_raise(code, "make an event");
  return code < 0 ? -1 : 0;
}

static void event_dealloc(PyObject *self) {
  lvri_shared_dealloc_begin(self);
  lvr_event_detach(((struct event_object *)self)->event);
  lvri_shared_dealloc_end(self);
}

static PyObject *event_getstate(PyObject *self, PyObject *Py_UNUSED(none)) {
  lvr_event *event = handle_of(self);
  PyObject *reference = event == NULL ? NULL : event_reference(event);

  return reference == NULL ? NULL : Py_BuildValue("(NN)", reference, lvri_attributes(self));
}

static PyObject *event_setstate(PyObject *self, PyObject *state) {
  struct event_object *object = (struct event_object *)self;
  PyObject *reference, *attributes;

  if (lvri_check_state(self, object->event, state) < 0 ||
      !PyArg_ParseTuple(state, "OO:__setstate__", &reference, &attributes) ||
      event_from_reference(reference, &object->event) < 0 ||
      lvri_attributes_set(self, attributes) < 0)
    return NULL;
  Py_RETURN_NONE;
}

static PyMethodDef event_methods[] = {
    {"is_set", event_is_set, METH_NOARGS, "is_set($self, /)\n--\n\nWhether the flag is set."},
    {"set", event_set, METH_NOARGS, "set($self, /)\n--\n\nSet the flag; wake all who wait."},
    {"clear", event_clear, METH_NOARGS, "clear($self, /)\n--\n\nTake the flag back."},
    {"wait", LVRI_METHOD(event_wait), METH_VARARGS | METH_KEYWORDS,
     "wait($self, /, timeout=None)\n--\n\n"
     "Wait until the flag is set; False if it is not after timeout seconds."},
    {"__reduce__", lvri_shared_reduce, METH_NOARGS, lvri_reduce_doc},
    {"__getstate__", event_getstate, METH_NOARGS, NULL},
    {"__setstate__", event_setstate, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(event_doc,
             "Event(*, ctx=None)\n--\n\nA flag that processes and threads wait for; not set.");

static PyGetSetDef event_getset[] = {
    LVRI_GETSET_DICT,
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot event_slots[] = {
    {Py_tp_doc, (void *)event_doc},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, event_init},
    {Py_tp_dealloc, event_dealloc},
    {Py_tp_traverse, lvri_shared_traverse},
    {Py_tp_clear, lvri_shared_clear},
    {Py_tp_repr, event_repr},
    {Py_tp_members, lvri_shared_members},
    {Py_tp_methods, event_methods},
    {Py_tp_getset, event_getset},
    {0, NULL},
};

static PyType_Spec event_spec = {
    .name = "leveret.synchronize.Event",
    .basicsize = sizeof(struct event_object),
    .flags = LVRI_SHARED_FLAGS,
    .slots = event_slots,
};

int lvri_exec_event(PyObject *module, struct lvri_state *state) {
  return lvri_add_type(module, &event_spec, NULL, &state->event_type);
}
