/* memory.h - what linux_memory.c tells linux_shm.c, and its test. */
#ifndef LVRI_OS_MEMORY_H
#define LVRI_OS_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

/* A file's memory is taken in steps of at most this. */
#define LVRI_MEMORY_STEP_BYTES (UINT64_C(16) << 20)

/* Memory that can still be had, in bytes: of the machine (swap included), and in every control
 * group that this process is in. UINT64_MAX where nobody tells. */
uint64_t lvri_memory_available(void);

/* Whether `bytes` more may be taken: true as a rule without a look, after a look for the larger
 * and for one in many of the smaller. */
bool lvri_memory_may_take(uint64_t bytes);

#ifdef LVRI_TESTING
/* From now on /proc and /sys are looked for in this folder ("": the real ones), by the very next
 * call. */
void lvri_memory_look_in(const char *folder);
#endif

#endif
