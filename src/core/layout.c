/* layout.c - what two builds must agree on to share an arena.
 *
 * A line for every struct that lies in the arena, in any order that stays the same, and for every
 * option that changes how one is used. A new shared struct gets its line here. This file alone may
 * include headers of modules above the arena. */
#include "base/hash.h"
#include "core/arena.h"
#include "core/barrier.h"
#include "core/block.h"
#include "core/board.h"
#include "core/channel.h"
#include "core/condition.h"
#include "core/doorbell.h"
#include "core/event.h"
#include "core/kinds.h"
#include "core/lock.h"
#include "core/object.h"
#include "core/pipe.h"
#include "core/queue.h"
#include "core/semaphore.h"
#include "core/slots.h"

#define SIZE_OF(type) h = lvri_hash_mix(h, (sizeof(type) << 8) | _Alignof(type))
#define OPTION(value) h = lvri_hash_mix(h, (uint64_t)(value))

uint64_t lvri_arena_layout(void) {
  uint64_t h = 0;

  SIZE_OF(struct lvri_mutex);
  SIZE_OF(struct lvri_guard_record);
  SIZE_OF(struct lvri_arena_guard);
  SIZE_OF(struct lvri_stripe_guard);
  OPTION(LVRI_ARENA_STRIPES);
  SIZE_OF(struct lvri_arena_shm);
  SIZE_OF(struct lvri_heap_shm);
  SIZE_OF(struct lvri_page);
  SIZE_OF(struct lvri_slab);
  OPTION(LVRI_PAGE_SHIFT);
  SIZE_OF(struct lvri_slots);
  SIZE_OF(struct lvri_slot);
  SIZE_OF(struct lvri_ledger);
  SIZE_OF(struct lvri_object_shm);
  SIZE_OF(struct lvr_lock_shm);
  SIZE_OF(struct lvr_semaphore_shm);
  SIZE_OF(struct lvr_event_shm);
  SIZE_OF(struct lvri_waiter);
  SIZE_OF(struct lvri_waiters);
  SIZE_OF(struct lvr_condition_shm);
  SIZE_OF(struct lvr_barrier_shm);
  SIZE_OF(struct lvri_segment);
  SIZE_OF(struct lvri_record_header);
  SIZE_OF(struct lvri_channel_shm);
  SIZE_OF(struct lvr_queue_shm);
  SIZE_OF(struct lvri_row_shm);
  SIZE_OF(struct lvr_board_shm);
  SIZE_OF(struct lvri_pipe_shm);
  SIZE_OF(struct lvri_pipe_end_shm);
  SIZE_OF(struct lvri_doorbell_entry);
  SIZE_OF(struct lvri_doorbells);
  SIZE_OF(struct lvr_block_shm);
  SIZE_OF(struct lvri_block_refs);
  OPTION(LVRI_KIND_LIMIT);
  OPTION(sizeof(void *));
  return h;
}
