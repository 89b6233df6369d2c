/* queues.c - what messages cost in C. docs/design/messages.md quotes it.
 *
 *     meson setup build -Dbench=true -Dbuildtype=release
 *     meson compile -C build && build/bench/c/bench_queues
 *
 * Medians of ROUNDS rounds, per message. Each round has processes of its own: so many producers, so
 * many consumers, and so many messages of so many bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic.h"
#include "leveret/leveret.h"
#include "os/os.h"

enum { ROUNDS = 7, SMALL = 16, BATCH = 100 };

static lvr_session *session;

/* Shared by the processes of a round. */
static struct shared {
  _Atomic uint32_t ready;
  _Atomic uint32_t go;
} * shared;

struct round {
  uint32_t producers, consumers, messages; /* each producer's */
  size_t bytes;
  uint32_t bound;
  bool batches;
};

static void demand(bool fulfilled, const char *what) {
  if (fulfilled) return;
  (void)fprintf(stderr, "bench: %s failed\n", what);
  exit(1);
}

static int by_value(const void *left, const void *right) {
  double l = *(const double *)left, r = *(const double *)right;
  return (l > r) - (l < r);
}

static void await_go(void) {
  (void)lvri_fetch_add_acq_rel_u32(&shared->ready, 1);
  while (!lvri_load_acquire_u32(&shared->go))
    (void)lvri_os_sleep_until(lvri_os_now_ns() + 100000);
}

static void produce(lvr_queue *q, const struct round *r) {
  unsigned char *data = calloc(1, r->bytes);
  await_go();
  for (uint32_t i = 0; i < r->messages; i++) {
    memcpy(data, &i, sizeof(i));
    demand(lvr_queue_put_until(q, data, r->bytes, LVR_FOREVER) == 0, "put");
  }
  free(data);
}

static void produce_batches(lvr_queue *q, const struct round *r) {
  unsigned char data[SMALL] = {0};
  struct lvr_slice slices[BATCH];
  uint32_t put;
  for (uint32_t i = 0; i < BATCH; i++)
    slices[i] = (struct lvr_slice){data, r->bytes};
  await_go();
  for (uint32_t i = 0; i < r->messages; i += BATCH)
    demand(lvr_queue_put_many_until(q, slices, BATCH, LVR_FOREVER, &put) == 0, "put many");
}

static void consume(lvr_queue *q, const struct round *r) {
  static struct lvr_message m;
  uint64_t sum = 0;
  await_go();
  for (;;) {
    demand(lvr_queue_get_until(q, &m, LVR_FOREVER) == 0, "get");
    bool last = m.bytes == 0;
    for (size_t i = 0; i < m.bytes; i += 64)
      sum += ((const unsigned char *)m.data)[i];
    lvr_message_fini(&m);
    if (last) break;
  }
  (void)r;
  demand(sum != 1, "sum");
}

static void consume_batches(lvr_queue *q, const struct round *r) {
  static unsigned char buf[2 * LVR_MESSAGE_INLINE];
  uint32_t count;
  size_t bytes;
  await_go();
  for (uint64_t got = 0; got < (uint64_t)r->producers * r->messages; got += count)
    demand(lvr_queue_get_many_until(q, buf, sizeof(buf), BATCH, LVR_FOREVER, &count, &bytes) == 0,
           "get many");
}

static void start(lvr_queue *q, const struct round *r, uint32_t count,
                  void (*body)(lvr_queue *q, const struct round *r)) {
  for (uint32_t i = 0; i < count; i++) {
    if (fork() != 0) continue;
    body(q, r);
    lvr_proc_announce(session, 0);
    _exit(0);
  }
}

/* Nanoseconds a message. */
static double run(const struct round *r) {
  lvr_queue *q;
  demand(lvr_queue_create(session, r->bound, 0, &q) == 0, "create");
  lvri_store_release_u32(&shared->ready, 0);
  lvri_store_release_u32(&shared->go, 0);
  start(q, r, r->producers, r->batches ? produce_batches : produce);
  start(q, r, r->consumers, r->batches ? consume_batches : consume);
  while (lvri_load_acquire_u32(&shared->ready) < r->producers + r->consumers)
    (void)lvri_os_sleep_until(lvri_os_now_ns() + 100000);
  int64_t begin_ns = lvri_os_now_ns();
  lvri_store_release_u32(&shared->go, 1);
  for (uint32_t i = 0; i < r->producers; i++)
    (void)wait(NULL);
  for (uint32_t i = 0; i < r->consumers && !r->batches; i++)
    demand(lvr_queue_put_until(q, "", 0, LVR_FOREVER) == 0, "put the end");
  while (wait(NULL) > 0) {
  }
  double ns = (double)(lvri_os_now_ns() - begin_ns);
  lvr_queue_detach(q);
  return ns / r->producers / r->messages;
}

static void measure(const char *what, struct round r) {
  double times[ROUNDS];
  for (unsigned i = 0; i < ROUNDS; i++)
    times[i] = run(&r);
  qsort(times, ROUNDS, sizeof(times[0]), by_value);
  (void)printf("%-52s %10.1f ns   (%.1f to %.1f)\n", what, times[ROUNDS / 2], times[0],
               times[ROUNDS - 1]);
}

/* --- there and back -------------------------------------------------------------------------- */

static void echo(lvr_queue *there, lvr_queue *back, uint32_t count) {
  static struct lvr_message m;
  for (uint32_t i = 0; i < count; i++) {
    demand(lvr_queue_get_until(there, &m, LVR_FOREVER) == 0, "get");
    demand(lvr_queue_put_until(back, m.data, m.bytes, LVR_FOREVER) == 0, "put");
    lvr_message_fini(&m);
  }
}

static void measure_round_trip(uint32_t count) {
  static struct lvr_message m;
  lvr_queue *there, *back;
  double times[ROUNDS];
  demand(lvr_queue_create(session, 0, 0, &there) == 0, "create");
  demand(lvr_queue_create(session, 0, 0, &back) == 0, "create");
  if (fork() == 0) {
    echo(there, back, ROUNDS * count);
    _exit(0);
  }
  for (unsigned i = 0; i < ROUNDS; i++) {
    int64_t begin_ns = lvri_os_now_ns();
    for (uint32_t k = 0; k < count; k++) {
      demand(lvr_queue_put_until(there, &k, sizeof(k), LVR_FOREVER) == 0, "put");
      demand(lvr_queue_get_until(back, &m, LVR_FOREVER) == 0, "get");
    }
    times[i] = (double)(lvri_os_now_ns() - begin_ns) / count;
  }
  (void)wait(NULL);
  qsort(times, ROUNDS, sizeof(times[0]), by_value);
  (void)printf("%-52s %10.1f ns   (%.1f to %.1f)\n", "round trip, 4 bytes", times[ROUNDS / 2],
               times[0], times[ROUNDS - 1]);
  lvr_queue_detach(there);
  lvr_queue_detach(back);
}

/* --- alone -------------------------------------------------------------------------------------
 * */

static void measure_alone(uint32_t count) {
  static struct lvr_message m;
  double times[ROUNDS];
  lvr_queue *q;
  demand(lvr_queue_create(session, 0, 0, &q) == 0, "create");
  for (unsigned i = 0; i < ROUNDS; i++) {
    int64_t begin_ns = lvri_os_now_ns();
    for (uint32_t k = 0; k < count; k++) {
      demand(lvr_queue_put_until(q, &k, sizeof(k), LVR_FOREVER) == 0, "put");
      demand(lvr_queue_get_until(q, &m, LVR_FOREVER) == 0, "get");
    }
    times[i] = (double)(lvri_os_now_ns() - begin_ns) / count;
  }
  qsort(times, ROUNDS, sizeof(times[0]), by_value);
  (void)printf("%-52s %10.1f ns   (%.1f to %.1f)\n", "put and get by oneself, 4 bytes",
               times[ROUNDS / 2], times[0], times[ROUNDS - 1]);
  lvr_queue_detach(q);
}

int main(int argc, char **argv) {
  shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  demand(shared != MAP_FAILED, "mmap");
  demand(lvr_session_create(NULL, &session) == 0, "session");
  bool small_only = argc > 1 && strcmp(argv[1], "small") == 0;
  measure_alone(1000000);
  measure("1 producer, 1 consumer, 8 bytes", (struct round){1, 1, 1000000, 8, 0, false});
  measure("the same, at most 1000 queued", (struct round){1, 1, 1000000, 8, 1000, false});
  measure("the same, in hundreds", (struct round){1, 1, 1000000, 8, 0, true});
  measure("4 producers, 1 consumer, 8 bytes", (struct round){4, 1, 250000, 8, 0, false});
  measure("2 and 2, 64 bytes", (struct round){2, 2, 250000, 64, 0, false});
  measure("16 and 16, 64 bytes", (struct round){16, 16, 20000, 64, 0, false});
  measure("1 and 1, 4 KiB", (struct round){1, 1, 100000, 4096, 0, false});
  if (!small_only) {
    measure("1 and 1, 1 MiB, at most 4", (struct round){1, 1, 500, 1 << 20, 4, false});
    measure("1 and 1, 8 MiB, at most 2", (struct round){1, 1, 50, 8 << 20, 2, false});
  }
  measure_round_trip(50000);
  lvr_session_detach(session);
  return 0;
}
