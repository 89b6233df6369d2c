/* kinds.h - what the blocks of an arena are, and what each kind of shared object adds to being one.
 *
 * A kind of object has a row in lvri_kinds[], in kinds.c: repair runs in any process, also in
 * one that never made such an object, so the table is complete in each. */
#ifndef LVRI_CORE_KINDS_H
#define LVRI_CORE_KINDS_H

#include <stddef.h>

#include "core/arena.h"
#include "core/owner.h"
#include "leveret/object.h"

struct lvri_handle;

enum lvri_kind {
  LVRI_KIND_NONE,
  /* the session's own blocks */
  LVRI_KIND_ROOT,
  LVRI_KIND_SLOTS,
  LVRI_KIND_LEDGER,
  LVRI_KIND_TASK,
  LVRI_KIND_ZYGOTE,
  LVRI_KIND_PART, /* belongs to an object; its fini_locked() frees it */
  /* objects: each starts with struct lvri_object_shm */
  LVRI_KIND_FIRST_OBJECT = 16,
  LVRI_KIND_LOCK = LVRI_KIND_FIRST_OBJECT,
  LVRI_KIND_RLOCK,
  LVRI_KIND_SEMAPHORE,
  LVRI_KIND_CONDITION,
  LVRI_KIND_EVENT,
  LVRI_KIND_BARRIER,
  LVRI_KIND_BLOCK,
  LVRI_KIND_QUEUE,
  LVRI_KIND_PIPE,
  LVRI_KIND_PIPE_END,
  LVRI_KIND_BOARD,
  LVRI_KIND_TEST, /* of the unit tests */
  LVRI_KIND_LIMIT
};

/* Hooks may be NULL. They get the arena, not a session: the repairer need not have a handle. */
struct lvri_handle;

struct lvri_kind_ops {
  size_t handle_bytes; /* of this kind's handle, struct lvri_handle at its start included */

  /* The last reference is gone: free the blocks that belong to the object, not the object itself.
   * The caller holds the arena's guard. Of a kind that has drain_locked(): once that is through. */
  void (*fini_locked)(struct lvri_arena *a, lvri_off object);

  /* For kinds of which more may hang than one journal holds. The last reference is gone, the object
   * is in the grave: one step, which gives back at most one reference (lvri_object_unref_locked())
   * or frees one block, and changes at most LVRI_DRAIN_RECORDS words besides. True: nothing was
   * left to do, or is now; it may be called again then. The caller holds the arena's guard. */
  bool (*drain_locked)(struct lvri_arena *a, lvri_off object);

  /* Whether drain_locked() has nothing to do, so that an object need not go through the grave:
   * asked when its last reference goes. NULL: always through the grave. In the guard. */
  bool (*is_drained)(struct lvri_arena *a, lvri_off object);

  /* Calls visit for each reference that the object holds, as often as it counts. In the guard. */
  void (*each_reference)(struct lvri_arena *a, lvri_off object,
                         void (*visit)(void *context, lvri_off to), void *context);

  /* A process died with *held units of the object: give them back and set *held to 0, both in one
   * transaction of the object's stripe. *held lies in the dead process's ledger and stays where it
   * is until every stripe has been entered once after the death. No guard is held. 0 or
   * -ENOTRECOVERABLE. */
  int (*give_back)(struct lvri_arena *a, lvri_off object, uint32_t *held);

  /* A process that had a handle of the object is dead: tell those who count on it. Idempotent,
   * since repair may run again. No guard is held. */
  void (*left)(struct lvri_arena *a, lvri_off object, lvr_proc_id who);

  /* A process has given its handle of the object back, or lost it when it left the session or
   * died; others have theirs. The caller holds the arena's guard. */
  void (*left_locked)(struct lvri_arena *a, lvri_off object, lvr_proc_id who);

  /* This process's handle has had its last use and is about to be freed: what is private goes.
   * With the session's mutex held; also in a process without a slot. */
  void (*close)(struct lvri_handle *h);

  /* The equations of the object hold. The caller holds the arena's guard. */
  bool (*valid)(struct lvri_arena *a, lvri_off object);
};

/* By kind; NULL: no kind of object. */
extern const struct lvri_kind_ops *const lvri_kinds[LVRI_KIND_LIMIT];

#ifdef LVRI_TESTING
extern struct lvri_kind_ops lvri_test_kind; /* of LVRI_KIND_TEST: a test's own */
#endif

#endif
