/* memory.h - what Synchronized must know of BufferWrapper. */
#ifndef LVRI_BINDING_MEMORY_H
#define LVRI_BINDING_MEMORY_H

#include "binding/state.h"

/* Where an object with a buffer lies, which is an address for as long as the object does not move
 * it; NULL, without an error, if it does not say. */
char *lvri_memory_place_of(PyObject *obj, Py_ssize_t *ret_bytes);
/* Whether these bytes lie in this memory, which is an object of state->memory_type. */
bool lvri_memory_holds(PyObject *memory, const void *from, size_t bytes);

#endif
