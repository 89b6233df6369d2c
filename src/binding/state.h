/* state.h - what the files of the binding share.
 *
 * The module `leveret._core` keeps everything of Python's in its module state, one per
 * interpreter: no static object, no static type. The list LVRI_STATE_OBJECTS is the state's only
 * description; the struct, traverse and clear are made from it, in this order.
 *
 * Each file that adds types or functions to the module has one function lvri_exec_X(module,
 * state), which module.c calls once per interpreter, in the order of lvri_execs[] there.
 *
 * Each file includes this one first, and Python.h is the first thing here: it says to the
 * system's headers what they are to offer.
 *
 * What belongs to the process and not to an interpreter is the session alone; session.c keeps it.
 */
#ifndef LVRI_BINDING_STATE_H
#define LVRI_BINDING_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h> /* PyMemberDef is there up to 3.11 */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include <leveret/leveret.h>

/* X(C type, field) */
#define LVRI_STATE_OBJECTS(X)               \
  X(PyTypeObject, semlock_type)             \
  X(PyTypeObject, lock_type)                \
  X(PyTypeObject, rlock_type)               \
  X(PyTypeObject, semaphore_type)           \
  X(PyTypeObject, bounded_semaphore_type)   \
  X(PyTypeObject, condition_type)           \
  X(PyTypeObject, event_type)               \
  X(PyTypeObject, barrier_type)             \
  X(PyTypeObject, queue_type)               \
  X(PyTypeObject, joinable_queue_type)      \
  X(PyTypeObject, connection_type)          \
  X(PyTypeObject, function_type)            \
  X(PyTypeObject, batch_type)               \
  X(PyTypeObject, board_type)               \
  X(PyTypeObject, row_type)                 \
  X(PyTypeObject, zygote_type)              \
  X(PyTypeObject, sink_type)                \
  X(PyTypeObject, buffer_type)              \
  X(PyTypeObject, memory_type)              \
  X(PyTypeObject, synchronized_base_type)   \
  X(PyTypeObject, synchronized_type)        \
  X(PyTypeObject, synchronized_array_type)  \
  X(PyTypeObject, synchronized_string_type) \
  X(PyObject, abandoned_lock_warning)       \
  X(PyObject, lost_task_warning)            \
  X(PyObject, corrupt_message)              \
  X(PyObject, newobj)                       \
  X(PyObject, pickler)                      \
  X(PyObject, loads)                        \
  X(PyObject, loads_names)                  \
  X(PyObject, forking_pickler)              \
  X(PyObject, contexts)                     \
  X(PyObject, reducers)                     \
  X(PyObject, base_reducers)                \
  X(PyObject, more_reducers)                \
  X(PyObject, protocol)                     \
  X(PyObject, name_base)                    \
  X(PyObject, name_more)                    \
  X(PyObject, name_table)                   \
  X(PyObject, name_reduction)               \
  X(PyObject, name_class)                   \
  X(PyObject, name_dump)                    \
  X(PyObject, name_release)                 \
  X(PyObject, name_clear)

struct lvri_state {
#define LVRI_FIELD(type, field) type *field;
  LVRI_STATE_OBJECTS(LVRI_FIELD)
#undef LVRI_FIELD
};

/* module.c */
extern struct PyModuleDef lvri_module_def;
struct lvri_state *lvri_state_of(PyObject *module);
struct lvri_state *lvri_state_of_type(
    PyTypeObject *type); /* any subclass of one of ours; NULL with an error */
int lvri_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject *base, PyTypeObject **ret_type);

/* errors.c: the one table from codes to exceptions. `doing` says what was tried, for a person:
 * "create a lock". Always NULL, with the exception set. An exception that is set already stays. */
PyObject *lvri_raise(int code, const char *doing);
int lvri_raise_os(int number, const char *text); /* OSError(number, text); always -1 */
/* The exception that is set (NULL: none), which is then not set any more; and back, stolen. */
PyObject *lvri_take_exception(void);
void lvri_put_exception(PyObject *exception);
/* Of a MemoryError: empties the frames that it came through, but for those that run. What has used
 * up the memory may be theirs, and to say what has happened takes some; this takes none. */
void lvri_let_go(const struct lvri_state *state, PyObject *raised);

/* session.c: the one session of this process. */
lvr_session *lvri_session(void); /* core/home.h's, made when first needed; NULL with an error */

/* deadline.c: a timeout of Python's, in seconds or None, to an absolute deadline. Negative is
 * "try once"; -1 with an error when it is no number. */
int lvri_deadline_of(PyObject *timeout, int64_t *ret_deadline_ns);
int64_t lvri_deadline_in(double seconds);
double lvri_seconds_left(int64_t deadline_ns);

#define LVRI_TRY_ONCE ((int64_t)0) /* a deadline that is over: try once */

/* Waits with the GIL released until CALL is over or a signal handler raised: then code is
 * LVRI_RAISED and the exception is set. CALL is evaluated without the GIL, again after each
 * handler that returned. */
#define LVRI_WAIT(code, CALL)                        \
  for ((code) = -EINTR; lvri_wait_again(&(code));) { \
    Py_BEGIN_ALLOW_THREADS(code)                     \
    = (CALL);                                        \
    Py_END_ALLOW_THREADS                             \
  }

/* The same for a CALL that may be cut short by a deadline and begun again: it waits until
 * `until_ns`, which is deadline_ns, or earlier so that a signal that came just before the sleep
 * is not overlooked for long. */
#define LVRI_WAIT_UNTIL(code, deadline_ns, CALL) LVRI_WAIT_SLICED(code, deadline_ns, 1, CALL)

/* The same in slices `aging` times as long as all before them. */
#define LVRI_WAIT_SLICED(code, deadline_ns, aging, CALL)                     \
  for (int64_t began_ns = ((code) = -EINTR, 0); lvri_wait_again(&(code));) { \
    const int64_t until_ns = lvri_wait_slice(&began_ns, deadline_ns, aging); \
    Py_BEGIN_ALLOW_THREADS(code)                                             \
    = (CALL);                                                                \
    Py_END_ALLOW_THREADS                                                     \
    if ((code) == -ETIMEDOUT && until_ns != (deadline_ns)) (code) = -EINTR;  \
  }

#define LVRI_RAISED (-0x10000)
bool lvri_wait_again(int *code);
/* *began_ns: 0 at first */
int64_t lvri_wait_slice(int64_t *began_ns, int64_t deadline_ns, int64_t aging);

int lvri_exec_errors(PyObject *module, struct lvri_state *state);
int lvri_exec_session(PyObject *module, struct lvri_state *state);
int lvri_exec_shared(PyObject *module, struct lvri_state *state);
int lvri_exec_semlock(PyObject *module, struct lvri_state *state);
int lvri_exec_lock(PyObject *module, struct lvri_state *state);
int lvri_exec_semaphore(PyObject *module, struct lvri_state *state);
int lvri_exec_condition(PyObject *module, struct lvri_state *state);
int lvri_exec_event(PyObject *module, struct lvri_state *state);
int lvri_exec_barrier(PyObject *module, struct lvri_state *state);
int lvri_exec_queue(PyObject *module, struct lvri_state *state);
int lvri_exec_connection(PyObject *module, struct lvri_state *state);
int lvri_exec_function(PyObject *module, struct lvri_state *state);
int lvri_exec_batch(PyObject *module, struct lvri_state *state);
int lvri_exec_board(PyObject *module, struct lvri_state *state);
int lvri_exec_birth(PyObject *module, struct lvri_state *state);
int lvri_exec_zygote(PyObject *module, struct lvri_state *state);
int lvri_exec_codec(PyObject *module, struct lvri_state *state);
int lvri_exec_buffer(PyObject *module, struct lvri_state *state);
int lvri_exec_pickling(PyObject *module, struct lvri_state *state);
int lvri_exec_memory(PyObject *module, struct lvri_state *state);
int lvri_exec_synchronized(PyObject *module, struct lvri_state *state);
int lvri_exec_value(PyObject *module, struct lvri_state *state);
int lvri_exec_array(PyObject *module, struct lvri_state *state);

#endif
