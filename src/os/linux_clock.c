#include <time.h>

#include "os/os.h"

#define NS_PER_S INT64_C(1000000000)

int64_t lvri_os_now_ns(void) {
  struct timespec now;
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

int lvri_os_sleep_until(int64_t deadline_ns) {
  int64_t when = deadline_ns < 0 ? 0 : deadline_ns;
  struct timespec until = {when / NS_PER_S, when % NS_PER_S};
  return -clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}
