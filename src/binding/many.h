/* many.h - put_many() and get_many(), of queues and of pipes' ends.
 *
 *   put_many   encode (no lock)  ->  packed: short streams, up to 1024  ->  one call of the core
 *   get_many   one call of the core  ->  packed, as include/leveret/queue.h says  ->  decode (no
 *              lock)
 *
 * What is long, or travels with a block, goes by itself, in its turn.
 *
 * An exception about one of several messages that were got together is owed: who gets next raises
 * it, whether he gets one or many. Between two messages any Python code may run: also some that
 * closes what they are put into or got from, so whoever is called here looks. */
#ifndef LVRI_BINDING_MANY_H
#define LVRI_BINDING_MANY_H

#include "binding/codec.h"

#define LVRI_PACKED_BYTES ((size_t)32768)

/* Where to put; of `self`. Both wait, and return 0 or a code, LVRI_RAISED with the exception.
 *   put_some   the slices behind the first *done; counts them in *done, in any case
 *   put_one    an object that is not simple, or not short */
struct lvri_sink {
  int (*put_some)(PyObject *self, const struct lvr_slice *slices, uint32_t count,
                  int64_t deadline_ns, uint32_t *done);
  int (*put_one)(PyObject *self, PyObject *obj, int64_t deadline_ns);
};

/* Where to get from.
 *   get_some   waits; at most so many messages into LVRI_PACKED_BYTES of memory; *ret_count 0: the
 *              first one has a block
 *   get_one    waits; the first message, which has a block, or had
 *   unpack     consumes the message; NULL with the exception
 *   size       how many messages are there */
struct lvri_source {
  int (*get_some)(PyObject *self, void *buf, uint32_t most, int64_t deadline_ns,
                  uint32_t *ret_count);
  int (*get_one)(PyObject *self, struct lvr_message *ret_m, int64_t deadline_ns);
  PyObject *(*unpack)(struct lvri_state *state, struct lvr_message *m);
  uint32_t (*size)(PyObject *self);
};

/* Put every object of iterable. *ret_done: how many were put, in any case. When it stops at one,
 * those before it were put, unless a signal handler raised. 0 or a code. */
LVR_MUST_CHECK int lvri_put_many(const struct lvri_sink *sink, PyObject *self, PyObject *iterable,
                                 int64_t deadline_ns, Py_ssize_t *ret_done);

/* max=None, timeout=None. -1 with an error. */
int lvri_parse_get_many(PyObject *args, PyObject *kwargs, Py_ssize_t *ret_most,
                        int64_t *ret_deadline_ns);

/* Wait for an object; it, and those that are there by then, into a new list. *owed as below. 0 or a
 * code: then nothing was got, or an exception that is owed is raised. */
LVR_MUST_CHECK int lvri_get_many(const struct lvri_source *source, PyObject *self, PyObject **owed,
                                 Py_ssize_t most, int64_t deadline_ns, PyObject **ret_list);

/* *owed: NULL, or a list of exceptions. Raise the first of them; always LVRI_RAISED. */
int lvri_raise_owed(PyObject **owed);

/* queue.Full or queue.Empty; always NULL. */
PyObject *lvri_raise_queue_error(const char *name);

#endif
