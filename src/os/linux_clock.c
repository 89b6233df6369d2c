#include <time.h>

#include "os/os.h"

#define NS_PER_S INT64_C(1000000000)

static int64_t read_clock(clockid_t clock) {
  struct timespec now;
  (void)clock_gettime(clock, &now);
  return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

int64_t lvri_os_now_ns(void) { return read_clock(CLOCK_MONOTONIC); }

int64_t lvri_os_coarse_ns(void) { return read_clock(CLOCK_MONOTONIC_COARSE); }

int lvri_os_sleep_until(int64_t deadline_ns) {
  int64_t when = deadline_ns < 0 ? 0 : deadline_ns;
  struct timespec until = {when / NS_PER_S, when % NS_PER_S};
  return -clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}
