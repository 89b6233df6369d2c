/* wait.h - how the core sleeps.
 *
 * Every wait in the core ends here. It sleeps on the word that will change and, where somebody must
 * live for it to change, on that process's alive word, both at once. It never trusts a wake-up:
 * after a while, the relook, it returns 0, "look again", and its caller looks. That heals what was
 * never said: who was to wake us was killed before he did, or who was woken for all of us was.
 *
 *   asleep for     sleeps on                               relook
 *   0 to 50 ms     the word, alive words of `watch`        50 ms
 *   longer         the word, the count of births, and      seven times as long as it has slept
 *                  the alive word of every process         before, up to 25.6 s
 *
 * So a wake-up that was lost with a process costs 50 ms at the most: of a wait that is young it is
 * the relook, of an old one that process's death. What the longer relook is for is in wait.c; a
 * wait that cannot be told of all deaths keeps to the shorter. */
#ifndef LVRI_CORE_WAIT_H
#define LVRI_CORE_WAIT_H

#include <stdbool.h>
#include <stdint.h>

#include <leveret/object.h>

#include "os/os.h"

#ifndef LVRI_TESTING
#define LVRI_RELOOK_NS      INT64_C(50000000)
#define LVRI_RELOOK_MOST_NS (512 * LVRI_RELOOK_NS)
#else
/* A test that makes them long turns a lost wake-up into a hang. */
extern int64_t lvri_relook_ns;
extern int64_t lvri_relook_most_ns;
extern int64_t lvri_slept_before_ns; /* by a wait that begins */
#define LVRI_RELOOK_NS      lvri_relook_ns
#define LVRI_RELOOK_MOST_NS lvri_relook_most_ns
#endif

/* Sleeps while *word is expected: until a wake on it, the death of `watch` (0: nobody), the
 * deadline, a signal, or the relook.
 * 0: look again; -ETIMEDOUT: the deadline has passed; -EINTR. Holding no guard. */
int lvri_wait(lvr_session *s, _Atomic uint32_t *word, uint32_t expected, lvr_proc_id watch,
              int64_t deadline_ns);

/* The same, until the death of any of `count` processes. Only the first LVRI_WAIT_WATCH_MOST are
 * slept on. */
#define LVRI_WAIT_WATCH_MOST 127u /* beside the word itself, of what one system call sleeps on */
int lvri_wait_any(lvr_session *s, _Atomic uint32_t *word, uint32_t expected,
                  const lvr_proc_id *watch, unsigned count, int64_t deadline_ns);

/* As lvri_wait(), in a thread that is none of the process's own: it never holds the alive word, and
 * repairs nobody. */
int lvri_wait_aside(lvr_session *s, _Atomic uint32_t *word, uint32_t expected, lvr_proc_id watch,
                    int64_t deadline_ns);

/* Looks at *word for a moment, in the hope that it changes before a sleep would have begun. True:
 * it is not `expected` any more. Adaptive, and never longer than a couple of microseconds; at once
 * false where this process has one processor only, or where spinning has not helped lately. */
bool lvri_spin(const _Atomic uint32_t *word, uint32_t expected);

/* The same with a patience of so many pauses, some 25 to 45 ns each. */
bool lvri_spin_for(const _Atomic uint32_t *word, uint32_t expected, unsigned pauses);

/* Wakes at most `count` of those who sleep on word; how many there were. */
int lvri_wake(_Atomic uint32_t *word, int count);

#endif
