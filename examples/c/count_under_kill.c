/* count_under_kill.c - several processes count under one lock while one of them is killed.
 *
 *     cc count_under_kill.c $(pkg-config --cflags --libs leveret) -o count_under_kill &&
 *     ./count_under_kill
 *
 * Each adds to two numbers that have to agree, one after the other, with the lock held. The one
 * that is killed dies between the two, holding the lock. With a semaphore that would be the end for
 * the others; here the next one gets the lock, is told that its last holder died, makes the numbers
 * agree again, and all go on. */
#include <leveret/leveret.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { COUNTERS = 4, ROUNDS = 100000, VICTIM = 2, ITS_LAST = 5000 };

static struct shared {
  long ones;   /* under the lock */
  long twos;   /* twice as many */
  long mended; /* how often they did not agree */
} * shared;

static void fail(const char *what, int code) {
  (void)fprintf(stderr, "%s: %s\n", what, strerror(-code));
  exit(1);
}

/* Takes the lock; if its last holder died, mends what that one left half done. */
static void take(lvr_lock *lock) {
  int got = lvr_lock_acquire_until(lock, LVR_FOREVER);
  if (got < 0) fail("acquire", got);
  if (got == 0) return;
  (void)printf("process %d: %d died with the lock, at %ld and %ld\n", (int)getpid(),
               (int)lvr_lock_abandoned_pid(lock), shared->ones, shared->twos);
  shared->twos = 2 * shared->ones;
  shared->mended++;
}

static void count(lvr_lock *lock, int who) {
  for (int i = 0; i < ROUNDS; i++) {
    take(lock);
    shared->ones += 1;
    if (who == VICTIM && i == ITS_LAST) (void)raise(SIGKILL);
    shared->twos += 2;
    int error = lvr_lock_release(lock);
    if (error) fail("release", error);
  }
}

/* What fork() copies works at once: the child is a process of the session, with handles of its own.
 * */
static void start_counters(lvr_lock *lock) {
  for (int who = 0; who < COUNTERS; who++) {
    pid_t pid = fork();
    if (pid < 0) fail("fork", -errno);
    if (pid > 0) continue;
    count(lock, who);
    (void)fflush(stdout);
    _exit(0);
  }
}

static void wait_for_all(void) {
  int status;
  for (pid_t pid; (pid = wait(&status)) > 0;)
    if (WIFSIGNALED(status)) (void)printf("process %d: killed\n", (int)pid);
}

int main(void) {
  lvr_session *session;
  lvr_lock *lock;
  shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) fail("mmap", -errno);
  int error = lvr_session_create(NULL, &session);
  if (error) fail("session", error);
  error = lvr_lock_create(session, LVR_LOCK, &lock);
  if (error) fail("lock", error);

  start_counters(lock);
  wait_for_all();

  take(lock); /* the victim may have been the last one */
  long expected = (long)(COUNTERS - 1) * ROUNDS + ITS_LAST + 1;
  (void)printf("counted %ld of %ld, and %ld of %ld; mended %ld\n", shared->ones, expected,
               shared->twos, 2 * expected, shared->mended);
  bool right = shared->ones == expected && shared->twos == 2 * expected && shared->mended == 1;
  error = lvr_lock_release(lock);
  if (error) fail("release", error);
  lvr_lock_detach(lock);
  lvr_session_detach(session);
  return right ? 0 : 1;
}
