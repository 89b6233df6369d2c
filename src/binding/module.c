/* module.c - the module `leveret._core`: its state and how it is put together.
 *
 * Multi-phase initialisation, so each interpreter has a module of its own; nothing of Python's is
 * shared between them. An interpreter with its own GIL may load it (3.12 and later). A
 * free-threaded build turns its GIL on when it loads us: the claim that it need not waits for a
 * clean run under TSan.
 */
#include "binding/state.h"

struct lvri_state *lvri_state_of(PyObject *module) {
  return PyModule_GetState(module);
}

struct lvri_state *lvri_state_of_type(PyTypeObject *type) {
  PyObject *module = PyType_GetModuleByDef(type, &lvri_module_def);

  return module == NULL ? NULL : PyModule_GetState(module);
}

int lvri_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject *base,
                  PyTypeObject **ret_type) {
  PyObject *type = PyType_FromModuleAndSpec(module, spec, (PyObject *)base);

  if (type == NULL) return -1;
  *ret_type = (PyTypeObject *)type;
  return PyModule_AddType(module, *ret_type);
}

static int (*const lvri_execs[])(PyObject *module, struct lvri_state *state) = {
    lvri_exec_errors,       lvri_exec_session,   lvri_exec_shared,     lvri_exec_semlock,
    lvri_exec_lock,         lvri_exec_semaphore, lvri_exec_condition,  lvri_exec_event,
    lvri_exec_barrier,      lvri_exec_queue,     lvri_exec_connection, lvri_exec_function,
    lvri_exec_batch,        lvri_exec_board,     lvri_exec_birth,      lvri_exec_zygote,
    lvri_exec_codec,        lvri_exec_pickling,  lvri_exec_buffer,     lvri_exec_memory,
    lvri_exec_synchronized, lvri_exec_value,     lvri_exec_array,
};

static int module_exec(PyObject *module) {
  for (size_t i = 0; i < Py_ARRAY_LENGTH(lvri_execs); i++)
    if (lvri_execs[i](module, lvri_state_of(module)) < 0) return -1;
  return 0;
}

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
  struct lvri_state *state = lvri_state_of(module);

#define LVRI_VISIT(type, field) Py_VISIT(state->field);
  LVRI_STATE_OBJECTS(LVRI_VISIT)
#undef LVRI_VISIT
  return 0;
}

static int module_clear(PyObject *module) {
  struct lvri_state *state = lvri_state_of(module);

#define LVRI_CLEAR(type, field) Py_CLEAR(state->field);
  LVRI_STATE_OBJECTS(LVRI_CLEAR)
#undef LVRI_CLEAR
  return 0;
}

static void module_free(void *module) { (void)module_clear(module); }

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

PyDoc_STRVAR(module_doc, "The C side of leveret: locks, sessions and births over libleveret.");

struct PyModuleDef lvri_module_def = {
    PyModuleDef_HEAD_INIT,   .m_name = "leveret._core",
    .m_doc = module_doc,     .m_size = sizeof(struct lvri_state),
    .m_slots = module_slots, .m_traverse = module_traverse,
    .m_clear = module_clear, .m_free = module_free,
};

PyMODINIT_FUNC PyInit__core(void);

PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&lvri_module_def); }
