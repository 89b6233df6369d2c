#include "core/kinds.h"

#include "core/barrier.h"
#include "core/block.h"
#include "core/board.h"
#include "core/condition.h"
#include "core/event.h"
#include "core/lock.h"
#include "core/pipe.h"
#include "core/queue.h"
#include "core/semaphore.h"

static const struct lvri_kind_ops lock_kind = {.handle_bytes = sizeof(struct lvr_lock)};
static const struct lvri_kind_ops event_kind = {.handle_bytes = sizeof(struct lvr_event)};
static const struct lvri_kind_ops semaphore_kind = {
    .handle_bytes = sizeof(struct lvr_semaphore),
    .give_back = lvri_semaphore_give_back,
    .valid = lvri_semaphore_valid,
};
static const struct lvri_kind_ops condition_kind = {
    .handle_bytes = sizeof(struct lvr_condition),
    .fini_locked = lvri_condition_fini_locked,
    .left = lvri_condition_left,
    .valid = lvri_condition_valid,
};
static const struct lvri_kind_ops barrier_kind = {
    .handle_bytes = sizeof(struct lvr_barrier),
    .fini_locked = lvri_barrier_fini_locked,
    .left = lvri_barrier_left,
    .valid = lvri_barrier_valid,
};

static const struct lvri_kind_ops queue_kind = {
    .handle_bytes = sizeof(struct lvr_queue),
    .drain_locked = lvri_queue_drain_locked,
    .each_reference = lvri_queue_each_reference,
    .give_back = lvri_queue_give_back,
    .close = lvri_queue_close,
    .valid = lvri_queue_valid,
};
static const struct lvri_kind_ops pipe_kind = {
    .handle_bytes = sizeof(struct lvri_handle),
    .drain_locked = lvri_pipe_drain_locked,
    .each_reference = lvri_pipe_each,
    .valid = lvri_pipe_valid,
};
static const struct lvri_kind_ops pipe_end_kind = {
    .handle_bytes = sizeof(struct lvr_pipe),
    .fini_locked = lvri_pipe_end_fini_locked,
    .each_reference = lvri_pipe_end_each,
    .left_locked = lvri_pipe_end_left_locked,
    .close = lvri_pipe_end_close,
    .valid = lvri_pipe_end_valid,
};
static const struct lvri_kind_ops board_kind = {
    .handle_bytes = sizeof(struct lvr_board),
    .drain_locked = lvri_board_drain_locked,
    .each_reference = lvri_board_each,
    .close = lvri_board_close,
    .valid = lvri_board_valid,
};
static const struct lvri_kind_ops block_kind = {
    .handle_bytes = sizeof(struct lvr_block),
    .close = lvri_block_close,
    .fini_locked = lvri_block_fini_locked,
    .drain_locked = lvri_block_drain_locked,
    .is_drained = lvri_block_is_drained,
    .each_reference = lvri_block_each_reference,
    .valid = lvri_block_valid,
};

#ifdef LVRI_TESTING
struct lvri_kind_ops lvri_test_kind;
#endif

const struct lvri_kind_ops *const lvri_kinds[LVRI_KIND_LIMIT] = {
    [LVRI_KIND_LOCK] = &lock_kind,           [LVRI_KIND_RLOCK] = &lock_kind,
    [LVRI_KIND_SEMAPHORE] = &semaphore_kind, [LVRI_KIND_CONDITION] = &condition_kind,
    [LVRI_KIND_EVENT] = &event_kind,         [LVRI_KIND_BARRIER] = &barrier_kind,
    [LVRI_KIND_BLOCK] = &block_kind,         [LVRI_KIND_QUEUE] = &queue_kind,
    [LVRI_KIND_PIPE] = &pipe_kind,           [LVRI_KIND_PIPE_END] = &pipe_end_kind,
    [LVRI_KIND_BOARD] = &board_kind,
#ifdef LVRI_TESTING
    [LVRI_KIND_TEST] = &lvri_test_kind,
#endif
};
