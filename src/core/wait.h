/* wait.h - how the core sleeps.
 *
 * Every wait in the core ends here. It sleeps on the word that will change and, where somebody must
 * live for it to change, on that process's alive word, both at once. It never trusts a wake-up:
 * after LVRI_RELOOK_NS at most it returns 0, "look again", and its caller looks. So a wake-up that
 * was lost, because the one who was to send it or the one who got it was killed, costs 50 ms, not
 * a hang. Nothing else depends on that time. */
#ifndef LVRI_CORE_WAIT_H
#define LVRI_CORE_WAIT_H

#include <stdbool.h>
#include <stdint.h>

#include <leveret/object.h>

#include "os/os.h"

#ifndef LVRI_TESTING
#define LVRI_RELOOK_NS INT64_C(50000000)
#else
/* A test that makes it long turns a lost wake-up into a hang. */
extern int64_t lvri_relook_ns;
#define LVRI_RELOOK_NS lvri_relook_ns
#endif

/* Sleeps while *word is expected: until a wake on it, the death of `watch` (0: nobody), the
 * deadline, a signal, or the relook.
 * 0: look again; -ETIMEDOUT: the deadline has passed; -EINTR. Holding no guard. */
int lvri_wait(lvr_session *s, _Atomic uint32_t *word, uint32_t expected, lvr_proc_id watch,
              int64_t deadline_ns);

/* The same on any of up to 128 words; where the kernel cannot (before 5.16) on the first one alone.
 * Nobody is watched but by his words. */
int lvri_wait_any(lvr_session *s, const struct lvri_os_word *words, unsigned count,
                  int64_t deadline_ns);

/* Watches *word for a moment, in the hope that it changes before a sleep would have begun. True: it
 * is not `expected` any more. Adaptive, and never longer than a couple of microseconds; at once
 * false where this process has one processor only, or where spinning has not helped lately. */
bool lvri_spin(lvr_session *s, _Atomic uint32_t *word, uint32_t expected);

/* The same with a patience of so many pauses, some 25 to 45 ns each. */
bool lvri_spin_for(lvr_session *s, _Atomic uint32_t *word, uint32_t expected, unsigned pauses);

/* Wakes at most `count` of those who sleep on word; how many there were. */
int lvri_wake(_Atomic uint32_t *word, int count);

#endif
