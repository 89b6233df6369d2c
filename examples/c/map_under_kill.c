/* map_under_kill.c - a function over an array, by workers some of which are killed.
 *
 *     cc map_under_kill.c $(pkg-config --cflags --libs leveret) -o map_under_kill &&
 *     ./map_under_kill
 *
 *     main --- which item ---> board ---> workers
 *          <-- its divisors --       <---
 *
 * One item kills whoever works on it, and now and then main kills a worker. Each dead one costs the
 * item that it was at, and that is worked on once more; whatever else it had claimed goes to the
 * others as if it had not. Main hires a new worker in its place, and tells of what was given up. */
#include <leveret/leveret.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORKERS = 3, ITEMS = 20000, POISON = 7777, TRIES = 2, CLAIM = 16, KILL_EVERY = 2500 };

/* A task is the number of an item. */
struct answer {
  uint32_t number;   /* of the task */
  uint32_t divisors; /* how many the item has */
};

static uint32_t input[ITEMS], output[ITEMS];
static bool done[ITEMS];
static uint32_t tries[ITEMS];
static uint32_t *item_of; /* by the number of a task: an item that is tried again has a new one */
static uint32_t numbers, left = ITEMS, given_up, deaths;
static pid_t workers[WORKERS];

static void fail(const char *what, int code) {
  (void)fprintf(stderr, "%s: %s\n", what, strerror(-code));
  exit(1);
}

/* --- a worker -------------------------------------------------------------------------------- */

static uint32_t divisors_of(uint32_t n) {
  uint32_t count = 0;
  for (uint32_t d = 1; d <= n; d++)
    count += n % d == 0;
  return count;
}

static void work_on(lvr_board *board, uint32_t number, uint32_t item) {
  lvr_board_begin(board, number);
  if (item == POISON) (void)raise(SIGKILL);
  struct answer answer = {number, divisors_of(input[item])};
  int error = lvr_board_finish(board, &answer, sizeof(answer), NULL);
  if (error) fail("finish", error);
}

/* Until the board is closed. Tasks lie behind each other, each with its length before it. */
static void work(lvr_board *board) {
  static unsigned char tasks[LVR_MESSAGE_INLINE + sizeof(uint32_t)];
  uint32_t count, first, item;
  size_t bytes;
  for (;;) {
    int error = lvr_board_claim_until(board, tasks, sizeof(tasks), CLAIM, LVR_FOREVER, &count,
                                      &bytes, &first);
    if (error == -EPIPE) return;
    if (error) fail("claim", error);
    for (uint32_t i = 0; i < count; i++) {
      memcpy(&item, tasks + (2 * (size_t)i + 1) * sizeof(uint32_t), sizeof(item));
      work_on(board, first + i, item);
    }
  }
}

/* What fork() copies works at once: the child is a process of the session, with handles of its own.
 * */
static void hire(lvr_board *board, uint32_t row) {
  pid_t pid = fork();
  if (pid < 0) fail("fork", -errno);
  if (pid == 0) {
    int error = lvr_board_enlist(board, row);
    if (error) fail("enlist", error);
    work(board);
    _exit(0);
  }
  workers[row] = pid;
}

/* --- the owner -------------------------------------------------------------------------------- */

static void put(lvr_board *board, uint32_t item) {
  uint32_t number;
  int error = lvr_board_put(board, &item, sizeof(item), NULL, &number);
  if (error) fail("put", error);
  item_of[number] = item;
  numbers++;
}

static void take_results(lvr_board *board) {
  struct lvr_message message;
  struct answer answer;
  while (lvr_board_take_until(board, &message, 0) == 0) {
    memcpy(&answer, message.data, sizeof(answer));
    output[item_of[answer.number]] = answer.divisors;
    done[item_of[answer.number]] = true;
    left--;
  }
}

/* Of what the dead one had: the task that it ran counts as a try. */
static void judge(lvr_board *board, uint32_t number, bool ran) {
  uint32_t item = item_of[number];
  if (done[item]) return;
  if (ran && ++tries[item] == TRIES) {
    (void)printf("item %u killed %d workers, and is given up\n", item, TRIES);
    given_up++;
    left--;
  } else {
    put(board, item);
  }
}

/* First all results, then the row: what has a result is not the dead one's any more. */
static void bury(lvr_board *board, uint32_t row) {
  struct lvr_board_row last;
  int error = lvr_board_settle(board, row);
  if (error) fail("settle", error);
  take_results(board);
  error = lvr_board_bury(board, row, &last);
  if (error) fail("bury", error);
  (void)waitpid(workers[row], NULL, 0);
  deaths++;
  for (uint32_t number = last.first; number != last.first + last.count; number++)
    judge(board, number, last.is_running && last.running == number);
  hire(board, row);
}

/* As somebody else might, at any time. */
static void kill_one(lvr_board *board, uint32_t row) {
  struct lvr_board_row its;
  lvr_board_look(board, row, &its);
  if (its.worker && !lvr_board_is_over(board, row)) (void)kill(workers[row], SIGKILL);
}

static void map(lvr_board *board) {
  uint32_t victim = 0;
  uint32_t next_kill = ITEMS - KILL_EVERY;
  while (left > 0) {
    int error = lvr_board_wait_until(board, LVR_FOREVER);
    if (error) fail("wait", error);
    take_results(board);
    for (uint32_t row = 0; row < WORKERS; row++)
      if (lvr_board_is_over(board, row)) bury(board, row);
    if (left > next_kill) continue;
    kill_one(board, victim++ % WORKERS);
    next_kill = next_kill > KILL_EVERY ? next_kill - KILL_EVERY : 0;
  }
}

/* Once more, the other way round: each number is a divisor of its multiples. */
static bool is_right(void) {
  static uint32_t expected[ITEMS];
  for (uint32_t d = 1; d <= ITEMS; d++)
    for (uint32_t n = d; n <= ITEMS; n += d)
      expected[n - 1]++;
  expected[POISON] = 0;
  return given_up == 1 && memcmp(output, expected, sizeof(expected)) == 0;
}

int main(void) {
  lvr_session *session;
  lvr_board *board;
  int error = lvr_session_create(NULL, &session);
  if (error) fail("session", error);
  error = lvr_board_create(session, WORKERS, &board);
  if (error) fail("board", error);
  item_of = calloc(2 * (size_t)ITEMS, sizeof(*item_of));
  if (!item_of) fail("calloc", -ENOMEM);
  for (uint32_t item = 0; item < ITEMS; item++) {
    input[item] = item + 1;
    put(board, item);
  }

  for (uint32_t row = 0; row < WORKERS; row++)
    hire(board, row);
  map(board);
  lvr_board_close(board);
  while (wait(NULL) > 0) {
  }
  (void)printf("%u items in %u tasks; %u workers died\n", ITEMS, numbers, deaths);
  bool right = is_right();
  lvr_board_detach(board);
  lvr_session_detach(session);
  free(item_of);
  return right ? 0 : 1;
}
