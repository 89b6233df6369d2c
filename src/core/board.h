/* board.h - two channels and the workers' rows. What is promised: include/leveret/board.h; why it
 * holds: docs/design/board.md. */
#ifndef LVRI_CORE_BOARD_H
#define LVRI_CORE_BOARD_H

#include <pthread.h>

#include "core/channel.h"
#include "core/object.h"
#include "leveret/board.h"

/* A worker's row: a line for each, written by its worker, but for ro_order.
 *   ro_worker    by who enlists, from 0, by compare-and-swap; back to 0 by the owner, who buries it
 *   ro_claim     first << 32 | count: by the worker, who holds the get mutex of the tasks, before
 *                it stores the head; taken back to 0 by whoever gets that mutex from it when it
 *                died between the two
 *   ro_running   1 << 32 | number of what it runs, or ran last; release, after ro_since_ns
 *   ro_since_ns  when it began that one
 *   ro_finished  how many results it has put
 *   ro_order     by the owner; read by the worker
 *
 * Crash: who reads the row of a dead worker has held the get mutex since the death, so ro_claim is
 * of tasks that left the channel. Those of it without a result are its; that which ro_running
 * names had begun. */
struct lvri_row_shm {
  _Atomic uint64_t ro_worker;
  _Atomic uint64_t ro_claim;
  _Atomic uint64_t ro_running;
  _Atomic uint64_t ro_since_ns;
  _Atomic uint32_t ro_finished;
  _Atomic uint32_t ro_order;
  uint64_t ro_reserved[3];
};
_Static_assert(sizeof(struct lvri_row_shm) == 64, "a line");

/* The rows follow. bo_owner, bo_rows: once, by who made it. */
struct lvr_board_shm {
  struct lvri_object_shm bo_object;
  lvr_proc_id bo_owner;
  uint32_t bo_rows;
  uint32_t bo_reserved0;
  uint64_t bo_reserved1[3];
  struct lvri_channel_shm bo_tasks;
  struct lvri_channel_shm bo_results;
};
_Static_assert(sizeof(struct lvr_board_shm) == 704, "two channels, and rows from a line on");

struct lvr_board {
  struct lvri_handle handle;
  struct lvri_channel tasks, results;
  struct lvri_row_shm *row; /* this process's, if it is a worker; NULL */
  pthread_mutex_t putting;  /* the owner's: numbers are given in order */
};

/* For kinds.c. */
bool lvri_board_drain_locked(struct lvri_arena *a, lvri_off object);
bool lvri_board_valid(struct lvri_arena *a, lvri_off object);
void lvri_board_each(struct lvri_arena *a, lvri_off object,
                     void (*visit)(void *context, lvri_off to), void *context);
void lvri_board_close(struct lvri_handle *h);

#endif
