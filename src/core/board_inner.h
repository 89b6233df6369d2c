/* board_inner.h - between the files of the board:
 *
 *   board.c        the board itself, its tasks and its results: the owner's side
 *   board_wait.c   the owner's waits, for results and for the ends of workers
 *   board_row.c    rows: what a worker does in its own, and what the owner does with them */
#ifndef LVRI_CORE_BOARD_INNER_H
#define LVRI_CORE_BOARD_INNER_H

#include "base/atomic.h"
#include "core/board.h"
#include "core/session.h"

static inline struct lvr_board_shm *lvri_board_shm(const struct lvr_board *b) {
  return (struct lvr_board_shm *)(void *)b->handle.object;
}

static inline struct lvri_arena *lvri_board_arena(const struct lvr_board *b) {
  return &b->handle.session->arena;
}

static inline struct lvri_row_shm *lvri_board_row(const struct lvr_board *b, uint32_t row) {
  return (struct lvri_row_shm *)(void *)(lvri_board_shm(b) + 1) + row;
}

/* Who has the row; 0: nobody, or there is no such row. */
static inline lvr_proc_id lvri_board_worker(const struct lvr_board *b, uint32_t row) {
  if (row >= lvri_board_shm(b)->bo_rows) return 0;
  return lvri_load_acquire_u64(&lvri_board_row(b, row)->ro_worker);
}

/* Threads that wait, or watch, look anew: at which workers there are, too. */
void lvri_board_tell_news(struct lvr_board *b);

#endif
