/* board_test.h - what the tests of the board share: tasks that say a number, and workers that
 * square it. */
#ifndef LVRI_CORE_BOARD_TEST_H
#define LVRI_CORE_BOARD_TEST_H

#include <errno.h>
#include <string.h>

#include "core/board_inner.h"
#include "core/locking_test.h"
#include "testing/fixture.h"

enum { ROWS = 4 };

/* A task says a number to be squared; a result, which task it was, and the square. */
struct answer {
  uint32_t number, square;
};

static inline lvr_board *new_board(lvr_session *s) {
  lvr_board *b;
  CHECK_INT(lvr_board_create(s, ROWS, &b), 0);
  return b;
}

static inline void put_tasks(lvr_board *b, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    uint32_t number;
    CHECK_INT(lvr_board_put(b, &i, sizeof(i), NULL, &number), 0);
    CHECK_INT(number, i);
  }
}

static int64_t task_ns; /* how long a task takes, at least */

/* False: it was taken back, or the worker is doomed. */
static inline bool work_on(lvr_board *b, uint32_t number, uint32_t task) {
  int error = lvr_board_begin(b, number);
  if (error == -ECANCELED || error == -EPIPE) return false;
  CHECK_INT(error, 0);
  for (int64_t end_ns = in_ns(task_ns); task_ns && lvri_os_now_ns() < end_ns;)
    lvri_cpu_relax();
  struct answer a = {number, task * task};
  CHECK_INT(lvr_board_finish(b, &a, sizeof(a), NULL), 0);
  return true;
}

/* One claim, of up to `most`. 0, or why there was none. */
static inline int work_some(lvr_board *b, uint32_t most, int64_t deadline_ns) {
  unsigned char buf[2 * LVR_MESSAGE_INLINE];
  uint32_t count, first;
  size_t bytes;
  int error = lvr_board_claim_until(b, buf, sizeof(buf), most, deadline_ns, &count, &bytes, &first);
  for (uint32_t i = 0; !error && i < count; i++) {
    uint32_t task;
    memcpy(&task, buf + (size_t)i * 8 + 4, sizeof(task));
    if (task != LVR_BOARD_CANCELLED && !work_on(b, first + i, task)) break;
  }
  return error;
}

struct crew {
  lvr_session *s;
  lvr_board *b;
  uint32_t row;
};

static inline void sleep_for_ever(void *argument) {
  struct crew *c = argument;
  CHECK_INT(lvr_board_enlist(c->b, c->row), 0);
  (void)work_some(c->b, 1, LVR_FOREVER);
}

#endif
