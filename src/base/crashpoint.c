#include "base/crashpoint.h"

#ifdef LVRI_TESTING

#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic.h"

/* Bounds of the section, made by the linker. */
extern struct lvri_crashpoint lvri_first_point __asm__("__start_lvri_crashpoints")
    __attribute__((weak, visibility("hidden")));
extern struct lvri_crashpoint lvri_end_point __asm__("__stop_lvri_crashpoints")
    __attribute__((weak, visibility("hidden")));

static struct {
  _Atomic uint32_t mode;
  const char *name;
  uint64_t nth;
  _Atomic uint64_t hits;
  char *report;
} armed;

static void report(const char *name) {
  if (armed.report) (void)snprintf(armed.report, 64, "%s", name);
}

void lvri_crashpoint_hit(const struct lvri_crashpoint *point) {
  uint32_t mode = lvri_load_acquire_u32(&armed.mode); /* pairs with lvri_crashpoint_arm() */
  if (mode == LVRI_CRASH_OFF) return;
  if (armed.name && strcmp(armed.name, point->cp_name) != 0) return;
  uint64_t hit = lvri_fetch_add_acq_rel_u64(&armed.hits, 1) + 1;
  if (mode == LVRI_CRASH_COUNT || hit != armed.nth) return;
  report(point->cp_name);
  (void)kill(getpid(), mode == LVRI_CRASH_KILL ? SIGKILL : SIGSTOP);
}

void lvri_crashpoint_arm(enum lvri_crash_mode mode, const char *name, uint64_t nth) {
  lvri_store_release_u32(&armed.mode, LVRI_CRASH_OFF);
  armed.name = name;
  armed.nth = nth;
  lvri_store_relaxed_u64(&armed.hits, 0);
  lvri_store_release_u32(&armed.mode, mode);
}

uint64_t lvri_crashpoint_hits(void) { return lvri_load_relaxed_u64(&armed.hits); }

void lvri_crashpoint_report_to(char *shared_name) { armed.report = shared_name; }

void lvri_crashpoint_each(void (*visit)(const struct lvri_crashpoint *point, void *context),
                          void *context) {
  for (const struct lvri_crashpoint *p = &lvri_first_point; p < &lvri_end_point; p++)
    visit(p, context);
}

#else
typedef int lvri_crashpoint_is_empty; /* a translation unit needs a declaration */
#endif
