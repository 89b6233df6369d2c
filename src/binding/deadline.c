/* deadline.c - from Python's timeouts to the core's deadlines, and waits that signals interrupt.
 *
 * The core knows absolute deadlines on CLOCK_MONOTONIC alone; so a wait that a signal interrupts
 * simply goes on with the same one. A timeout beyond the clock's range (292 years) is no limit.
 *
 * A signal that arrives after the last look for signals and before the sleep interrupts nothing,
 * and its handler would wait for as long as we do. So the main thread, which runs the handlers,
 * sleeps for SLICE_NS at a time and looks. */
#include "binding/state.h"

#include <math.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000
#define SLICE_NS (NS_PER_S / 10)

static int64_t now_ns(void) {
  struct timespec now;

  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

int64_t lvri_deadline_in(double seconds) {
  const double limit_s = (double)(INT64_MAX / NS_PER_S / 2);

  if (!(seconds > 0.0)) return LVRI_TRY_ONCE;
  if (seconds >= limit_s) return LVR_FOREVER;
  return now_ns() + (int64_t)(seconds * NS_PER_S);
}

double lvri_seconds_left(int64_t deadline_ns) {
  return (double)(deadline_ns - now_ns()) / NS_PER_S;
}

int lvri_deadline_of(PyObject *timeout, int64_t *ret_deadline_ns) {
  if (timeout == NULL || timeout == Py_None) {
    *ret_deadline_ns = LVR_FOREVER;
    return 0;
  }
  double seconds = PyFloat_AsDouble(timeout);

  if (seconds == -1.0 && PyErr_Occurred()) return -1;
  if (isnan(seconds)) {
    PyErr_SetString(PyExc_ValueError, "timeout must be a number of seconds or None, not NaN");
    return -1;
  }
  *ret_deadline_ns = lvri_deadline_in(seconds);
  return 0;
}

int64_t lvri_wait_slice(int64_t deadline_ns) {
  if (gettid() != getpid()) return deadline_ns;
  int64_t slice_ns = now_ns() + SLICE_NS;

  return slice_ns < deadline_ns ? slice_ns : deadline_ns;
}

bool lvri_wait_again(int *code) {
  if (*code != -EINTR) return false;
  if (PyErr_CheckSignals() == 0) return true;
  *code = LVRI_RAISED;
  return false;
}
