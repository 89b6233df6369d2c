#include "core/home.h"

#include "base/atomic.h"
#include "os/os.h"

/* Of this process alone, and copied by fork.
 *   home      a session. From NULL by compare-and-swap: of two who settle at the same time one does
 *   settler   the pid of who settled: stored while there is no home, by all threads that try, and
 *             they say the same. So who finds a home that this process settled in finds its pid */
static void *_Atomic home;
static _Atomic uint32_t settler;

lvr_session *lvri_home(void) { return lvri_load_acquire_ptr(&home); /* pairs with settle */ }

bool lvri_home_settle(lvr_session *s) {
  void *none = NULL;
  if (lvri_home()) return false;
  lvri_store_relaxed_u32(&settler, (uint32_t)lvri_os_pid()); /* released with the home */
  return lvri_cas_acq_rel_ptr(&home, &none, s);
}

bool lvri_home_is_inherited(void) {
  return lvri_home() && lvri_load_relaxed_u32(&settler) != (uint32_t)lvri_os_pid();
}

void lvri_home_leave(lvr_session *from) {
  void *expected = from;
  (void)lvri_cas_acq_rel_ptr(&home, &expected, NULL);
}
