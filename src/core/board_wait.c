#include <errno.h>

#include "core/board_inner.h"
#include "core/channel.h"
#include "core/slots.h"
#include "core/wait.h"
#include "os/os.h"

/* A rest, from results to results: half of it is the kernel's slack, as a rule. */
#define REST_NS 50000

/* A wait for a result is short if no more than a wake and the way back are in it. */
#define HASTE_NS 60000

/* A thread that waits for results and deaths, or watches for deaths alone. It sleeps at the bell of
 * the results, or at the board's news. The value there is taken before it looks: what comes after
 * changes it. */
struct sleeper {
  struct lvr_board *board;
  bool for_results;
  _Atomic uint32_t *bell;
  uint32_t seen;
};

static struct sleeper sleeper_of(struct lvr_board *b, bool for_results) {
  struct sleeper w = {.board = b, .for_results = for_results};
  w.bell = for_results ? &b->results.shm->ch_items : &lvri_board_shm(b)->bo_news;
  w.seen = for_results ? lvri_channel_arm(&b->results) : lvri_load_acquire_u32(w.bell);
  return w;
}

/* Nothing rang: it was a death, or the relook. */
static bool woke_by_itself(const struct sleeper *w) {
  return lvri_load_relaxed_u32(w->bell) == w->seen;
}

static bool any_over(const struct lvr_board *b, bool (*alive)(struct lvri_arena *a, lvr_proc_id)) {
  for (uint32_t row = 0; row < lvri_board_shm(b)->bo_rows; row++) {
    lvr_proc_id worker = lvri_board_worker(b, row);
    if (worker && !alive(lvri_board_arena(b), worker)) return true;
  }
  return false;
}

/* One load a worker. */
static bool is_there(const struct sleeper *w) {
  if (w->for_results && lvri_channel_size(w->board->results.shm) != 0) return true;
  return any_over(w->board, lvri_slot_alive);
}

/* Of the deaths of more workers than that the relook tells. */
static int sleep_on_all(const struct sleeper *w, int64_t deadline_ns) {
  const struct lvr_board *b = w->board;
  lvr_proc_id workers[LVRI_WAIT_WATCH_MOST];
  unsigned count = 0;
  for (uint32_t row = 0; row < lvri_board_shm(b)->bo_rows && count < LVRI_WAIT_WATCH_MOST; row++)
    if ((workers[count] = lvri_board_worker(b, row)) != 0) count++;
  if (w->for_results)
    return lvri_channel_sleep(&b->results, w->bell, w->seen, workers, count, deadline_ns);
  return lvri_wait_any(b->handle.session, w->bell, w->seen, workers, count, deadline_ns);
}

/* No worker needs the owner for as long as more tasks wait than each of them could take now. */
static bool has_time(const struct lvr_board *b) {
  return lvri_load_relaxed_u32(&b->hasty) && lvr_board_waiting(b) > lvri_board_shm(b)->bo_rows;
}

/* Where results come every few microseconds, whoever sleeps at the bell is woken for each of them,
 * and takes a processor from a worker for that. While no worker needs him he rests for a moment
 * without the bell, and finds many. 0: there are some; -EAGAIN: there are none, or it is no
 * time to rest; -EINTR. What else he waits for, he looks at behind the rest. */
static int rest(struct lvr_board *b, int64_t deadline_ns) {
  if (!has_time(b)) return -EAGAIN;
  int64_t until_ns = lvri_os_now_ns() + REST_NS;
  if (until_ns > deadline_ns) return -EAGAIN;
  int error = lvri_os_sleep_until(until_ns);
  if (lvri_channel_size(b->results.shm) != 0) return 0;
  lvri_store_relaxed_u32(&b->hasty, 0);
  return error ? error : -EAGAIN;
}

/* The next one is told of later interrupts only; who waits now has his own mark. */
static int cancelled(const struct lvr_board *b, _Atomic uint32_t *told) {
  lvri_store_relaxed_u32(told, lvri_channel_mark(&b->results));
  return -ECANCELED;
}

/* The ring that a result makes wakes one, for whom it may not be: it stays there for the others. */
static int found(const struct sleeper *w, bool slept) {
  if (slept && w->for_results) lvri_channel_pass_on(&w->board->results);
  return 0;
}

/* After a sleep that nobody ended it asks the kernel, which may have told nobody of a death. */
static int wait_for(struct lvr_board *b, bool for_results, _Atomic uint32_t *told,
                    int64_t deadline_ns) {
  uint32_t mark = lvri_load_relaxed_u32(told);
  for (bool slept = false;; slept = true) {
    struct sleeper w = sleeper_of(b, for_results);
    if (for_results) /* behind a fence: see hurry() in board.c */
      lvri_channel_hurry_source(&b->results, deadline_ns != 0);
    if (is_there(&w)) return found(&w, slept);
    if (lvri_channel_mark(&b->results) != mark) return cancelled(b, told);
    if (deadline_ns == 0) return -ETIMEDOUT;
    int error = sleep_on_all(&w, deadline_ns);
    if (error == -EINTR) return error;
    if (woke_by_itself(&w) && any_over(b, lvri_slot_alive_thoroughly)) return found(&w, true);
    if (error) return error;
  }
}

/* An interruption tells nothing of how long it would have been. */
static void note_haste(struct lvr_board *b, int error, int64_t since_ns) {
  bool was_short = lvri_os_now_ns() - since_ns < HASTE_NS;
  if (error == 0 || error == -ETIMEDOUT) lvri_store_relaxed_u32(&b->hasty, !error && was_short);
}

/* After a short wait the next one is likely to be short: it is spun through, for then neither
 * side of a call has to be woken. */
static int spin_and_wait(struct lvr_board *b, int64_t deadline_ns) {
  int64_t since_ns = lvri_os_now_ns();
  bool hasty = lvri_load_relaxed_u32(&b->hasty) != 0;
  int error = 0;
  if (!lvri_channel_spin(&b->results, hasty))
    error = wait_for(b, true, &b->told_waiters, deadline_ns);
  note_haste(b, error, since_ns);
  return error;
}

int lvr_board_wait_until(lvr_board *b, int64_t deadline_ns) {
  if (lvri_session_stale(b->handle.session)) return -ESTALE;
  if (lvri_channel_size(b->results.shm) != 0) return 0;
  if (deadline_ns == 0) return wait_for(b, true, &b->told_waiters, 0);
  int error = rest(b, deadline_ns);
  if (error != -EAGAIN) return error;
  lvri_channel_hurry_source(&b->results, true);
  return spin_and_wait(b, deadline_ns);
}

int lvr_board_watch_until(lvr_board *b, int64_t deadline_ns) {
  if (lvri_session_stale(b->handle.session)) return -ESTALE;
  return wait_for(b, false, &b->told_watchers, deadline_ns);
}

static void tell_watchers(struct lvr_board *b) {
  (void)lvri_fetch_add_acq_rel_u32(&lvri_board_shm(b)->bo_news, 1);
  (void)lvri_wake(&lvri_board_shm(b)->bo_news, INT32_MAX);
}

/* Who sleeps looks anew, at which workers there are, too. */
void lvri_board_tell_news(struct lvr_board *b) {
  lvri_channel_ring_all(b->results.shm);
  tell_watchers(b);
}

void lvr_board_interrupt(lvr_board *b) {
  lvri_channel_interrupt(&b->results);
  if (!lvri_session_stale(b->handle.session)) tell_watchers(b);
}
