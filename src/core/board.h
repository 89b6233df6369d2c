/* board.h - two channels and the workers' rows. What is promised: include/leveret/board.h; why it
 * holds: docs/design/board.md. */
#ifndef LVRI_CORE_BOARD_H
#define LVRI_CORE_BOARD_H

#include <pthread.h>

#include "core/channel.h"
#include "core/object.h"
#include "core/session.h"
#include "leveret/board.h"

/* Of ro_running, and of running below, above the number. */
#define LVRI_ROW_RUNS   (UINT64_C(1) << 32)
#define LVRI_ROW_OVER   (UINT64_C(2) << 32)
#define LVRI_ROW_DOOMED (UINT64_C(4) << 32)

/* A worker's row: a line for each, written by its worker, and where it says so by others.
 *   ro_worker    by who enlists, from 0, by compare-and-swap; back to 0 by the owner, who buries it
 *   ro_claim     first << 32 | count: by the worker, who holds the get mutex of the tasks, before
 *                it stores the head; taken back to 0 by whoever gets that mutex from it when it
 *                died between the two. Its front moves when the worker begins a task that is not
 *                the first; its end, when the owner takes back all but the first. Both by
 *                compare-and-swap: who begins a task has it, or it was taken back
 *   ro_running   RUNS | number of what it runs; release, after ro_since_ns: who reads it first,
 *                then when, may take a task for younger than it is, never for older. OVER |
 *                number once its result is put, which is not of the claim for who looks any more.
 *                DOOMED is the owner's, from running by compare-and-swap, and stays: its worker is
 *                doomed. While it runs, so, both write the word, and each by an atomic change of
 *                what is there; at all other times the worker alone does
 *   ro_since_ns  when it began that one
 *   ro_finished  how many results it has put
 *   ro_order     by the owner; read by the worker
 *
 * Doomed: the changes of ro_running have one order. If the owner's comes first, the worker finds
 * the mark when its task ends, and begins no other one; if the end comes first, the owner's fails,
 * and he kills nobody.
 *
 * Crash: who reads the row of a dead worker has held the get mutex since the death, so ro_claim is
 * of tasks that left the channel. Those of it without a result are its; that which ro_running
 * names had begun. */
struct lvri_row_shm {
  _Atomic uint64_t ro_worker;
  _Atomic uint64_t ro_claim;
  _Atomic uint64_t ro_running;
  _Atomic uint64_t ro_since_ns;
  _Atomic uint64_t ro_order;
  _Atomic uint32_t ro_finished;
  uint32_t ro_reserved0;
  uint64_t ro_reserved1[2];
};
_Static_assert(sizeof(struct lvri_row_shm) == 64, "a line");

/* The rows follow.
 *   bo_owner, bo_rows   once, by who made it
 *   bo_news             futex word: counted up by who enlists, and by who interrupts. Who watches
 *                       the workers sleeps at it, so that he looks anew when there is one more; a
 *                       count that a dead one did not make costs him the relook */
struct lvr_board_shm {
  struct lvri_object_shm bo_object;
  lvr_proc_id bo_owner;
  uint32_t bo_rows;
  _Atomic uint32_t bo_news;
  uint64_t bo_reserved1[3];
  struct lvri_channel_shm bo_tasks;
  struct lvri_channel_shm bo_results;
};
_Static_assert(sizeof(struct lvr_board_shm) == 704, "two channels, and rows from a line on");

/* As one process sees it.
 *   row, worker      the row that this process enlisted for, and who it was then: in a forked child
 *                    another one, so it is nobody's worker
 *   running          as ro_running, but 0 from when the task's code has ended: for signal handlers
 *   hasty            the owner's: the last wait for a result was a short one
 *   putting          the owner's: numbers are given in order
 *   told_waiters, told_watchers   how many interrupts there had been (results.interrupts) when one
 *                    of them was last told of one */
struct lvr_board {
  struct lvri_handle handle;
  struct lvri_channel tasks, results;
  struct lvri_row_shm *row;
  lvr_proc_id worker;
  _Atomic uint64_t running;
  pthread_mutex_t putting;
  _Atomic uint32_t told_waiters, told_watchers;
  _Atomic uint32_t hasty;
};

/* Whether this process made the board; whether it has a row. A forked child is neither. */
static inline bool lvri_board_is_owner(const struct lvr_board *b) {
  const struct lvr_board_shm *shm = (const struct lvr_board_shm *)(const void *)b->handle.object;
  return lvri_session_self(b->handle.session) == shm->bo_owner;
}

static inline bool lvri_board_is_worker(const struct lvr_board *b) {
  return b->row && b->worker == lvri_session_self(b->handle.session);
}

/* lvr_board_cancel(), but -EBUSY where somebody has the mutex for more than a moment: it may be a
 * worker that was stopped. The other one waits until it was given back. So who must not wait with a
 * lock of his own in his hands waits without it, and tries again. */
int lvri_board_try_cancel(lvr_board *b, uint32_t number);
int lvri_board_await_claims(lvr_board *b);

/* For kinds.c. */
bool lvri_board_drain_locked(struct lvri_arena *a, lvri_off object);
bool lvri_board_valid(struct lvri_arena *a, lvri_off object);
void lvri_board_each(struct lvri_arena *a, lvri_off object,
                     void (*visit)(void *context, lvri_off to), void *context);
void lvri_board_close(struct lvri_handle *h);

#endif
