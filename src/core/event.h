/* event.h - a flag, a number that tells one set() from the next, and a hint whether anybody sleeps,
 * in one word. */
#ifndef LVRI_CORE_EVENT_H
#define LVRI_CORE_EVENT_H

#include "core/object.h"
#include "leveret/event.h"

#define LVRI_EVENT_SET     1u
#define LVRI_EVENT_WAITERS 2u
#define LVRI_EVENT_ONCE \
  4u /* the rest counts the sets: 30 bits, so 2^30 of them must not fit between two looks */

/* ev_word: by anybody, by compare-and-swap; the futex word. WAITERS is there whenever somebody
 * sleeps, and is taken back by who sets.
 * Crash: each change is one store. Who dies after having set the flag and before having woken
 * anybody leaves the sleepers to their relook. */
struct lvr_event_shm {
  struct lvri_object_shm ev_object;
  _Atomic uint32_t ev_word;
};
_Static_assert(sizeof(struct lvr_event_shm) <= 64, "an event fits the smallest block");

struct lvr_event {
  struct lvri_handle handle;
};

#endif
