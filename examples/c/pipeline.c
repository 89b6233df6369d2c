/* pipeline.c - processes in a row, a queue between each and the next; one of them is killed.
 *
 *     cc pipeline.c $(pkg-config --cflags --libs leveret) -o pipeline && ./pipeline
 *
 *     main --- numbers ---> squarers --- squares ---> main
 *
 * Each number is squared by one of the squarers. One of them is killed with a number in its hands:
 * that one is lost, and the queue says so; the other numbers come through, and nobody waits for the
 * dead. */
#include <leveret/leveret.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SQUARERS = 3, NUMBERS = 10000, VICTIM = 1, ITS_LAST = 5 };

static void fail(const char *what, int code) {
  (void)fprintf(stderr, "%s: %s\n", what, strerror(-code));
  exit(1);
}

static lvr_queue *make_queue(lvr_session *session, uint32_t bound, uint32_t flags) {
  lvr_queue *queue;
  int error = lvr_queue_create(session, bound, flags, &queue);
  if (error) fail("queue", error);
  return queue;
}

static void put(lvr_queue *queue, uint64_t number) {
  int error = lvr_queue_put_until(queue, &number, sizeof(number), LVR_FOREVER);
  if (error) fail("put", error);
}

static uint64_t get(lvr_queue *queue) {
  struct lvr_message message;
  uint64_t number;
  int error = lvr_queue_get_until(queue, &message, LVR_FOREVER);
  if (error) fail("get", error);
  memcpy(&number, message.data, sizeof(number));
  lvr_message_fini(&message);
  return number;
}

/* 0 ends it. */
static void square(lvr_queue *numbers, lvr_queue *squares, int who) {
  for (int i = 0;; i++) {
    uint64_t number = get(numbers);
    if (who == VICTIM && i == ITS_LAST) (void)raise(SIGKILL);
    if (number) put(squares, number * number);
    int error = lvr_queue_done(numbers);
    if (error) fail("done", error);
    if (!number) return;
  }
}

/* What fork() copies works at once: the child is a process of the session, with handles of its own.
 * */
static void start_squarers(lvr_queue *numbers, lvr_queue *squares) {
  for (int who = 0; who < SQUARERS; who++) {
    pid_t pid = fork();
    if (pid < 0) fail("fork", -errno);
    if (pid > 0) continue;
    square(numbers, squares, who);
    _exit(0);
  }
}

/* The sum of all squares that there are, and how many. */
static uint64_t add_up(lvr_queue *squares, uint32_t *ret_count) {
  uint64_t sum = 0;
  *ret_count = lvr_queue_size(squares);
  for (uint32_t i = 0; i < *ret_count; i++)
    sum += get(squares);
  return sum;
}

int main(void) {
  lvr_session *session;
  int error = lvr_session_create(NULL, &session);
  if (error) fail("session", error);
  lvr_queue *numbers = make_queue(session, 64, LVR_QUEUE_JOINABLE);
  lvr_queue *squares = make_queue(session, 0, 0);

  start_squarers(numbers, squares);
  for (uint64_t number = 1; number <= NUMBERS; number++)
    put(numbers, number);
  for (int i = 0; i < SQUARERS - 1; i++)
    put(numbers, 0); /* one for each that lives */
  uint32_t lost, count;
  error = lvr_queue_join_until(numbers, LVR_FOREVER, &lost);
  if (error) fail("join", error);
  while (wait(NULL) > 0) {
  }
  uint64_t sum = add_up(squares, &count);
  (void)printf("%u squares of %d, their sum is %llu; lost with its process: %u\n", count, NUMBERS,
               (unsigned long long)sum, lost);
  lvr_queue_detach(numbers);
  lvr_queue_detach(squares);
  lvr_session_detach(session);
  return lost == 1 && count == NUMBERS - 1 ? 0 : 1;
}
