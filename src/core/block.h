/* block.h - what a block is in the arena, and how one changes hands. */
#ifndef LVRI_CORE_BLOCK_H
#define LVRI_CORE_BLOCK_H

#include "core/object.h"
#include "core/session.h"
#include "leveret/block.h"

#define LVRI_BLOCK_SMALL_MAX 32000u /* payloads that lie behind the object */
#define LVRI_BLOCK_FIRST     14u    /* references in the table itself */
#define LVRI_BLOCK_CHUNKS    18u    /* chunk k has LVRI_BLOCK_FIRST << k: 3.6 million in all */

/* A block; a small payload follows.
 *   bl_bytes   of the payload; constant
 *   bl_run     where a larger payload lies, a heap block of its own; 0: behind this. Constant
 *   bl_refs    struct lvri_block_refs, once something is carried; arena's guard, logged
 *   bl_count   objects carried; arena's guard, logged. Read without it by who is the only one to
 *              change it, or got the block from him
 * The payload is its users' own.
 *
 * Crash: object, run and ledger entry come by one commit. Memory for the run is taken behind that,
 * by its maker alone: killed meanwhile, his ledger has it. What is carried changes together with
 * the references of the object that is. */
struct lvr_block_shm {
  struct lvri_object_shm bl_object;
  uint64_t bl_bytes;
  lvri_off bl_run;
  lvri_off bl_refs;
  _Atomic uint32_t bl_count;
  uint32_t bl_reserved[3];
};
_Static_assert(sizeof(struct lvr_block_shm) == 64, "the payload is aligned");

/* The objects that a block carries, in the order in which they came: their offsets. All by the
 * owner of the arena's guard, logged, but for entries at bl_count and above, which mean nothing.
 *   br_chunks  chunks that exist, number 0 not counted
 *   br_chunk   where they are; [0] is br_first and stays 0
 * Entries never move. Each below bl_count is one reference to the object there. */
struct lvri_block_refs {
  uint32_t br_chunks;
  uint32_t br_reserved;
  lvri_off br_chunk[LVRI_BLOCK_CHUNKS];
  lvri_off br_first[LVRI_BLOCK_FIRST];
};
_Static_assert(sizeof(struct lvri_block_refs) <= 384, "a size that the heap has");

/* view, view_bytes: address and length of the private mapping, 0 none; under the session's mutex,
 * but that a view, once there, stays as long as the handle. */
struct lvr_block {
  struct lvri_handle handle;
  _Atomic uint64_t view;
  size_t view_bytes;
};

/* --- for a channel: see object.h, "references that change hands" --------------------------- */

/* A block of this process that nobody else here uses; its view goes, too. */
static inline int lvri_block_give_locked(struct lvr_block *b) {
  return lvri_object_give_locked(&b->handle);
}

static inline void lvri_block_given(struct lvr_block *b) { lvri_object_given(&b->handle); }

static inline int lvri_block_take_begin(lvr_session *s, struct lvri_taking *ret_t) {
  return lvri_object_take_begin(s, LVRI_KIND_BLOCK, ret_t);
}

static inline int lvri_block_take_locked(struct lvri_taking *t, lvri_off block) {
  return lvri_object_take_locked(t, block);
}

static inline struct lvr_block *lvri_block_taken(struct lvri_taking *t) {
  return (struct lvr_block *)(void *)lvri_object_taken(t);
}

static inline void lvri_block_untaken(struct lvri_taking *t) { lvri_object_untaken(t); }

/* --- for kinds.c --------------------------------------------------------------------------- */

void lvri_block_close(struct lvri_handle *h);
void lvri_block_fini_locked(struct lvri_arena *a, lvri_off object);
bool lvri_block_drain_locked(struct lvri_arena *a, lvri_off object);
bool lvri_block_is_drained(struct lvri_arena *a, lvri_off object);
void lvri_block_each_reference(struct lvri_arena *a, lvri_off object,
                               void (*visit)(void *context, lvri_off to), void *context);
bool lvri_block_valid(struct lvri_arena *a, lvri_off object);

#endif
