/* deadline.c - from Python's timeouts to the core's deadlines, and waits that signals interrupt.
 *
 * The core knows absolute deadlines on CLOCK_MONOTONIC alone; so a wait that a signal interrupts
 * simply goes on with the same one. A timeout beyond the clock's range (292 years) is no limit.
 *
 * A signal that arrives after the last look for signals and before the sleep interrupts nothing,
 * and its handler would wait for as long as we do. (The standard library has that gap, too; no wait
 * closes it whose word is not one that the interpreter's handler writes.) So the main thread, which
 * runs the handlers, sleeps in slices and looks after each: a slice as long as all before it, from
 * SLICE_LEAST_NS up to SLICE_MOST_NS. Hence
 *
 *   a signal that comes during a slice ends it; the kernel knows of it before it sleeps
 *   one that comes in the gap, a microsecond before each slice, has its handler run after the slice
 *   at the latest: later by no more than the wait has lasted already (or 0.1 s), nor by 3.2 s
 *   a wait of ten seconds has nine such gaps, one of an hour 1 130
 *
 * A worker without a task has nothing to end for a signal: its slices are longer (work.c).
 */
#include "binding/state.h"

#include <math.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S       1000000000
#define SLICE_LEAST_NS (NS_PER_S / 10)
#define SLICE_MOST_NS  (32 * (int64_t)SLICE_LEAST_NS)

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

/* --- slices -------------------------------------------------------------------------------- */

/* Whether a thread is its process's main thread, asked of the kernel once. In the child of a fork
 * the only thread there is becomes it. A child that is made behind the C library's back does not
 * hear of that; but then the interpreter does not run handlers in that thread either. */
enum role { NOT_ASKED, MAIN, OTHER };

static _Thread_local enum role role;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool hears_of_forks;

static void become_main(void) { role = MAIN; }

static void hear_of_forks(void) { hears_of_forks = pthread_atfork(NULL, NULL, become_main) == 0; }

static enum role ask(void) {
  enum role now = gettid() == getpid() ? MAIN : OTHER;

  (void)pthread_once(&once, hear_of_forks);
  if (hears_of_forks) role = now;
  return now;
}

static bool is_main_thread(void) { return (role == NOT_ASKED ? ask() : role) == MAIN; }

int64_t lvri_wait_slice(int64_t *began_ns, int64_t deadline_ns, int64_t aging) {
  if (deadline_ns == LVRI_TRY_ONCE || !is_main_thread()) return deadline_ns;
  int64_t at_ns = now_ns();

  if (*began_ns == 0) *began_ns = at_ns;
  int64_t slice_ns = aging * (at_ns - *began_ns);

  if (slice_ns < SLICE_LEAST_NS) slice_ns = SLICE_LEAST_NS;
  if (slice_ns > aging * SLICE_MOST_NS) slice_ns = aging * SLICE_MOST_NS;
  return deadline_ns - at_ns > slice_ns ? at_ns + slice_ns : deadline_ns;
}

bool lvri_wait_again(int *code) {
  if (*code != -EINTR) return false;
  if (PyErr_CheckSignals() == 0) return true;
  *code = LVRI_RAISED;
  return false;
}
