/* fault.h - making a fallible call fail once.
 *
 * LVRI_FAULT("os.shm.commit", -ENOMEM) at the head of such a call returns that code from it, in
 * a testing build, when the armed hit comes. Nothing elsewhere. */
#ifndef LVRI_BASE_FAULT_H
#define LVRI_BASE_FAULT_H

#ifndef LVRI_TESTING

#define LVRI_FAULT(name, code) ((void)0)

#else

#include <stdbool.h>
#include <stdint.h>

#define LVRI_FAULT(name, code)               \
  do {                                       \
    if (lvri_fault_hit(name)) return (code); \
  } while (0)

/* Called by the macro. */
bool lvri_fault_hit(const char *name);

/* From now on the nth (from 1) call called name (NULL: of any name) fails, once. nth 0: none. */
void lvri_fault_arm(const char *name, uint64_t nth);

/* Fallible calls counted since the last arming. */
uint64_t lvri_fault_hits(void);

#endif
#endif
