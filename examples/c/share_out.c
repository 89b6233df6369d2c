/* share_out.c - several processes share out work by a counter, without a lock, and one is killed.
 *
 *     cc share_out.c $(pkg-config --cflags --libs leveret) -o share_out && ./share_out
 *
 * Each takes the number of the next piece by one fetch_add, does it and takes the next: no piece is
 * taken twice, and nobody waits for anybody. The one that is killed takes the piece that it was at
 * with it, and no more than that. */
#include <leveret/leveret.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORKERS = 4, PIECES = 2000000, VICTIM = 2, ITS_LAST = 100 };

/* In a block, which begins as zeros. */
struct shared {
  uint64_t next;         /* piece that nobody has taken yet */
  uint32_t done[PIECES]; /* how often each was done */
};

static void fail(const char *what, int code) {
  (void)fprintf(stderr, "%s: %s\n", what, strerror(-code));
  exit(1);
}

static void work(struct shared *shared, int who) {
  uint64_t piece;
  for (int taken = 0; (piece = lvr_value_fetch_add_u64(&shared->next, 1)) < PIECES; taken++) {
    if (who == VICTIM && taken == ITS_LAST) (void)raise(SIGKILL);
    (void)lvr_value_fetch_add_u32(&shared->done[piece], 1);
  }
}

static void start_workers(struct shared *shared) {
  for (int who = 0; who < WORKERS; who++) {
    pid_t pid = fork();
    if (pid < 0) fail("fork", -errno);
    if (pid > 0) continue;
    work(shared, who);
    _exit(0);
  }
}

static int killed(void) {
  int count = 0, status;
  while (wait(&status) > 0)
    count += WIFSIGNALED(status);
  return count;
}

/* How many pieces were done so often. */
static int done(const struct shared *shared, uint32_t times) {
  int count = 0;
  for (int piece = 0; piece < PIECES; piece++)
    count += shared->done[piece] == times;
  return count;
}

int main(void) {
  lvr_session *session;
  lvr_block *block;
  int error = lvr_session_create(NULL, &session);
  if (error) fail("session", error);
  error = lvr_block_create(session, sizeof(struct shared), LVR_BLOCK_ZEROED, &block);
  if (error) fail("block", error);
  struct shared *shared = lvr_block_data(block);

  start_workers(shared);
  int victims = killed(), once = done(shared, 1), never = done(shared, 0);
  (void)printf("%d of %d pieces done once, %d never; %d killed\n", once, PIECES, never, victims);
  lvr_block_detach(block);
  lvr_session_detach(session);
  return once + never == PIECES && never == victims ? 0 : 1;
}
