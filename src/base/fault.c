#include "base/fault.h"

#ifdef LVRI_TESTING

#include <stddef.h>
#include <string.h>

#include "base/atomic.h"

static const char *armed_name;
static uint64_t armed_nth;
static _Atomic uint64_t hits;

bool lvri_fault_hit(const char *name) {
  if (armed_name && strcmp(armed_name, name) != 0) return false;
  return lvri_fetch_add_relaxed_u64(&hits, 1) + 1 == armed_nth;
}

void lvri_fault_arm(const char *name, uint64_t nth) {
  armed_name = name;
  armed_nth = nth;
  lvri_store_relaxed_u64(&hits, 0);
}

uint64_t lvri_fault_hits(void) { return lvri_load_relaxed_u64(&hits); }

#else
typedef int lvri_fault_is_empty; /* a translation unit needs a declaration */
#endif
