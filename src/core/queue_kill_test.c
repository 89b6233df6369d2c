/* Producers and consumers of one queue are killed at random: whose put has returned, his message
 * arrives, once, unless its consumer was killed with it in his hands; and the others go on.
 *
 * LVRI_SECONDS says how long each test kills (2), LVRI_SEED what is chosen. */
#include "core/queue_test.h"

enum { LIVES = 8192, PUTS = 4096, SIDE = 2, BATCH = 16, CALM_BOUND = 20000 };

/* A producer begins another life after PUTS messages, so that each message has a byte here. */
struct board {
  _Atomic uint32_t lives;
  _Atomic uint64_t puts; /* of all */
  _Atomic uint64_t gets;
  _Atomic uint32_t returned[LIVES];
  _Atomic uint8_t seen[LIVES][PUTS];
};

struct house {
  lvr_session *s;
  lvr_queue *q;
  struct board *board;
  bool joinable;
  uint64_t seed;
  pid_t pids[2 * SIDE]; /* producers, then consumers */
  uint32_t kills, consumers_killed, late;
  int64_t worst_ns;
};

/* --- who is killed -------------------------------------------------------------------------- */

static void live_and_put(struct house *h, uint32_t life) {
  CHECK(life < LIVES);
  for (uint32_t i = 0; i < PUTS; i++) {
    while (lvr_queue_size(h->q) > CALM_BOUND)
      (void)sched_yield();
    put_note(h->q, life, i);
    lvri_store_release_u32(&h->board->returned[life], i + 1);
    (void)lvri_fetch_add_relaxed_u64(&h->board->puts, 1);
  }
}

static void produce(void *argument) {
  struct house *h = argument;
  for (;;)
    live_and_put(h, lvri_fetch_add_relaxed_u32(&h->board->lives, 1));
}

/* Messages of one life come in order, whoever gets them. */
static void see(struct house *h, struct note n) {
  static uint32_t next[LIVES];
  CHECK(n.from < LIVES && n.number < PUTS && n.number >= next[n.from]);
  next[n.from] = n.number + 1;
  CHECK_INT(atomic_fetch_add(&h->board->seen[n.from][n.number], 1), 0);
  (void)lvri_fetch_add_relaxed_u64(&h->board->gets, 1);
  if (h->joinable) CHECK_INT(lvr_queue_done(h->q), 0);
}

static void see_batch(struct house *h) {
  static unsigned char buf[4 * LVR_MESSAGE_INLINE];
  uint32_t count;
  size_t bytes;
  CHECK_INT(lvr_queue_get_many_until(h->q, buf, sizeof(buf), BATCH, LVR_FOREVER, &count, &bytes),
            0);
  if (count == 0) see(h, get_note(h->q));
  for (size_t at = 0; at < bytes;) {
    uint32_t length;
    memcpy(&length, buf + at, sizeof(length));
    see(h, note_read(buf + at + sizeof(length), length));
    at += sizeof(length) + ((length + 3) & ~UINT32_C(3));
  }
}

static void consume(void *argument) {
  struct house *h = argument;
  for (uint32_t i = 0;; i++) {
    if (i % 4 == 0)
      see_batch(h);
    else
      see(h, get_note(h->q));
  }
}

/* --- who kills ------------------------------------------------------------------------------ */

static void start(struct house *h, uint32_t who) {
  h->pids[who] = test_fork(who < SIDE ? produce : consume, h);
}

/* Both sides are seen to go on, for there is one left on each. */
static void time_the_others(struct house *h) {
  uint64_t puts = lvri_load_relaxed_u64(&h->board->puts),
           gets = lvri_load_relaxed_u64(&h->board->gets);
  int64_t start_ns = lvri_os_now_ns();
  while (lvri_load_relaxed_u64(&h->board->puts) == puts ||
         lvri_load_relaxed_u64(&h->board->gets) == gets)
    (void)lvri_os_sleep_until(in_ns(MS / 10));
  int64_t ns = lvri_os_now_ns() - start_ns;
  if (ns > h->worst_ns) h->worst_ns = ns;
  h->late += ns > 100 * MS * TEST_SLOWNESS;
}

static void kill_one(struct house *h) {
  uint32_t who = test_random(&h->seed) % (2 * SIDE);
  (void)lvri_os_sleep_until(in_ns(test_random(&h->seed) % (4 * MS)));
  test_kill(h->pids[who]);
  h->kills++;
  h->consumers_killed += who >= SIDE;
  time_the_others(h);
  start(h, who);
}

static int64_t seconds(void) {
  const char *given = getenv("LVRI_SECONDS");
  return given ? strtoll(given, NULL, 0) : 2;
}

/* --- the account ---------------------------------------------------------------------------- */

static void read_the_rest(struct house *h) {
  struct note n;
  while (try_get_note(h->q, &n, 0) == 0)
    see(h, n);
}

/* Nothing twice, nothing that was not put; how many are missing. */
static uint32_t count_missing(const struct house *h, uint32_t life) {
  uint32_t missing = 0, returned = h->board->returned[life];
  for (uint32_t i = 0; i < PUTS; i++) {
    CHECK(h->board->seen[life][i] <= (i <= returned));
    missing += i < returned && !h->board->seen[life][i];
  }
  return missing;
}

static void settle_accounts(struct house *h) {
  uint32_t missing = 0, lost = 0, lives = h->board->lives;
  for (uint32_t life = 0; life < lives; life++)
    missing += count_missing(h, life);
  CHECK(missing <= h->consumers_killed * BATCH);
  if (h->joinable) {
    CHECK_INT(lvr_queue_join_until(h->q, 0, &lost), 0);
    CHECK(missing <= lost && lost <= h->consumers_killed * BATCH);
  }
  (void)printf(
      "  %u kills, %llu messages, %u missing, %u lost; others waited %.1f ms at most, %u late\n",
      h->kills, (unsigned long long)h->board->puts, missing, lost, (double)h->worst_ns / 1e6,
      h->late);
  CHECK(h->kills > 20 && h->late <= h->kills / 25 && h->worst_ns < 2 * SEC * TEST_SLOWNESS);
}

/* Children that were killed before they knew who they are: old enough to be given up. */
static void give_up_the_unborn(struct house *h) {
  fixture_age_embryos(h->s);
  check_session(h->s);
}

static void kill_for_a_while(uint32_t bound, uint32_t flags) {
  struct house h = {.s = new_session(), .seed = test_seed(), .joinable = flags};
  uint64_t blocks = fixture_stats(h.s).blocks;
  h.board = test_shared(sizeof(*h.board));
  h.q = new_queue(h.s, bound, flags);
  for (uint32_t i = 0; i < 2 * SIDE; i++)
    start(&h, i);
  for (int64_t end_ns = in_ns(seconds() * SEC); lvri_os_now_ns() < end_ns;)
    kill_one(&h);
  for (uint32_t i = 0; i < 2 * SIDE; i++)
    test_kill(h.pids[i]);
  h.consumers_killed += SIDE;
  check_session(h.s);
  read_the_rest(&h);
  settle_accounts(&h);
  give_up_the_unborn(&h);
  lvr_queue_detach(h.q);
  CHECK_INT(fixture_stats(h.s).blocks, blocks);
}

TEST_WITHIN(survives_kills, 600) {
  if (TEST_TSAN) SKIP("deaths are nothing that TSan could see");
  kill_for_a_while(0, 0);
}

TEST_WITHIN(survives_kills_where_there_is_little_room, 600) {
  if (TEST_TSAN) SKIP("deaths are nothing that TSan could see");
  kill_for_a_while(3, 0);
}

TEST_WITHIN(survives_kills_with_work_to_do, 600) {
  if (TEST_TSAN) SKIP("deaths are nothing that TSan could see");
  kill_for_a_while(100, LVR_QUEUE_JOINABLE);
}

TEST_WITHIN(survives_kills_with_blocks, 600) {
  if (TEST_TSAN) SKIP("deaths are nothing that TSan could see");
  notes_have_blocks = true;
  kill_for_a_while(50, LVR_QUEUE_JOINABLE);
}
