/* pipe_test.h - what the tests of pipes share: a pipe of numbers, and those who come to an end. */
#ifndef LVRI_CORE_PIPE_TEST_H
#define LVRI_CORE_PIPE_TEST_H

#include <poll.h>

#include "core/locking_test.h"
#include "core/pipe.h"

struct fixture {
  lvr_session *s;
  lvr_pipe *first, *second;
  _Atomic uint32_t *step;
  lvr_ref *ref; /* shared, too */
};

static inline struct fixture pipe_of(bool duplex) {
  struct fixture f = {.s = new_session(), .step = test_shared(4 * sizeof(uint32_t))};
  f.ref = test_shared(sizeof(*f.ref));
  CHECK_INT(lvr_pipe_create(f.s, duplex, &f.first, &f.second), 0);
  return f;
}

static inline void leave(struct fixture *f) {
  lvr_pipe_detach(f->first);
  lvr_pipe_detach(f->second);
  check_session(f->s);
  struct lvr_session_stats stats;
  CHECK_INT(lvr_session_stats(f->s, &stats), 0);
  CHECK_INT(stats.objects, 0);
  lvr_session_detach(f->s);
}

static inline void put(lvr_pipe *p, uint32_t value) {
  CHECK_INT(lvr_pipe_put_until(p, &value, sizeof(value), in_ns(10 * SEC)), 0);
}

static inline int try_get(lvr_pipe *p, uint32_t *ret_value) {
  struct lvr_message m;
  int error = lvr_pipe_get_until(p, &m, 0);
  if (error) return error;
  CHECK_INT(m.bytes, sizeof(*ret_value));
  memcpy(ret_value, m.data, sizeof(*ret_value));
  lvr_message_fini(&m);
  return 0;
}

static inline uint32_t get(lvr_pipe *p) {
  struct lvr_message m;
  uint32_t value;
  CHECK_INT(lvr_pipe_get_until(p, &m, in_ns(10 * SEC)), 0);
  CHECK_INT(m.bytes, sizeof(value));
  memcpy(&value, m.data, sizeof(value));
  lvr_message_fini(&m);
  return value;
}

static inline void check_end(lvr_pipe *p) {
  struct lvr_message m;
  CHECK_INT(lvr_pipe_get_until(p, &m, in_ns(10 * SEC)), -EPIPE);
  CHECK_INT(lvr_pipe_wait_until(p, 0), 0);
}

static inline bool polls(int fd) {
  struct pollfd entry = {.fd = fd, .events = POLLIN};
  return poll(&entry, 1, 0) == 1;
}

static inline bool polls_within(int fd, int ms) {
  struct pollfd entry = {.fd = fd, .events = POLLIN};
  return poll(&entry, 1, ms) == 1;
}

static inline int fileno_of(lvr_pipe *p) {
  int fd;
  CHECK_INT(lvr_pipe_fileno(p, &fd), 0);
  return fd;
}

/* Somebody who has the second end, and loses it. */
struct ending {
  struct fixture *f;
  bool writes;
  int how; /* a signal; 0: by exit; -1: gives the end back, and lives on */
};

static inline void come_to_an_end(void *argument) {
  struct ending *e = argument;
  lvr_pipe_detach(e->f->first);
  if (e->writes) put(e->f->second, 1);
  lvri_store_release_u32(e->f->step, 1);
  await_u32(e->f->step, 2);
  if (e->how < 0) {
    lvr_pipe_detach(e->f->second);
    await_u32(e->f->step, 3);
  }
  if (e->how > 0) (void)raise(e->how);
}

#endif
