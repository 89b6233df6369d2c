/* crashpoint.h - places where a test may kill the process.
 *
 * LVR_CRASHPOINT("module.step.moment") stands at every store that publishes something. It is
 * nothing unless LVRI_TESTING is defined. In a testing build each point registers itself in a
 * linker section (so all can be listed), and counts its hits once the process is armed; at the
 * chosen hit the process kills itself with SIGKILL (no handler, no clean-up: a real death) or
 * stops itself with SIGSTOP (to let another go past it). Arming is process-private: a child
 * forked from an armed process inherits the arming and its counts. src/testing/crash.h drives
 * this; tests seldom call it themselves. */
#ifndef LVRI_BASE_CRASHPOINT_H
#define LVRI_BASE_CRASHPOINT_H

#ifndef LVRI_TESTING

#define LVR_CRASHPOINT(name) ((void)0)

#else

#include <stdint.h>

struct lvri_crashpoint {
  const char *cp_name;
  const char *cp_file;
  uint64_t cp_line;
  uint64_t cp_pad; /* 32 bytes each, so that the section is a plain array */
};

enum lvri_crash_mode {
  LVRI_CRASH_OFF,
  LVRI_CRASH_COUNT, /* count hits only */
  LVRI_CRASH_KILL,  /* SIGKILL at the nth hit */
  LVRI_CRASH_STOP,  /* SIGSTOP at the nth hit, then on */
};

#define LVR_CRASHPOINT(name)                                                              \
  do {                                                                                    \
    static struct lvri_crashpoint lvri_here __attribute__((                               \
        section("lvri_crashpoints"), used, aligned(32))) = {name, __FILE__, __LINE__, 0}; \
    lvri_crashpoint_hit(&lvri_here);                                                      \
  } while (0)

/* Called by the macro. */
void lvri_crashpoint_hit(const struct lvri_crashpoint *point);

/* From now on count the hits of the points called name (NULL: of all points), and at the nth
 * (from 1) do what mode says. */
void lvri_crashpoint_arm(enum lvri_crash_mode mode, const char *name, uint64_t nth);

/* Hits counted since the last arming. */
uint64_t lvri_crashpoint_hits(void);

/* Where to write the name of the point at which this process is about to die: at least 64 bytes,
 * in memory that the watching process shares. NULL: nowhere. */
void lvri_crashpoint_report_to(char *shared_name);

/* Calls visit for each point linked into this program. */
void lvri_crashpoint_each(void (*visit)(const struct lvri_crashpoint *point, void *context),
                          void *context);

#endif
#endif
