/* object.h - what all shared objects have in common: a serial number, a kind, references.
 *
 *   process ---- handle (private, counted) ---- ledger entry (arena, one) ----> object (arena)
 *   message ---- lvr_ref and a reference that travels ------------------------> object
 *   object ----- a reference of its kind's own (each_reference()) ------------> object
 *
 *   refs = ledger entries of all processes that name it + references that travel
 *          + references that objects hold
 *
 * One handle per process and object: a second create or attach counts the first one up. */
#ifndef LVRI_CORE_OBJECT_H
#define LVRI_CORE_OBJECT_H

#include "core/kinds.h"
#include "core/ledger.h"
#include "leveret/object.h"

struct lvri_object_shm {
  uint64_t ob_serial;     /* never used twice in a session; 0 never; written at creation */
  uint32_t ob_kind;       /* enum lvri_kind; written at creation */
  uint32_t ob_refs;       /* arena's guard */
  uint32_t ob_travelling; /* of these, in messages; arena's guard */
  uint32_t ob_next;       /* the one behind it in the grave (grave.h); arena's guard */
};

_Static_assert(sizeof(struct lvri_object_shm) == 24, "object header");

struct lvri_handle {
  lvr_session *session;
  struct lvri_object_shm *object; /* in this process's mapping */
  lvri_off off;
  uint64_t serial; /* of the object; another one may be in its place when we are not looking */
  uint32_t kind;
  uint32_t index; /* of the ledger entry, in this process's ledger and in its forked children's */
  uint32_t uses;  /* under the session's mutex */
  uint32_t spare;
};

/* Make an object of bytes (header included), zeroed behind its header. The block is found by
 * h->object. 0, -ENOMEM, -ESTALE, -ENOTRECOVERABLE. */
int lvri_object_create(lvr_session *s, uint32_t kind, size_t bytes,
                       struct lvri_handle **ret_handle);

/* The same for kinds of which more is to be done in the same transaction.
 *   bare          the block holds anything behind the object header
 *   init_locked   called with the header written and the guard held; an error undoes everything */
struct lvri_making {
  uint32_t kind;
  size_t bytes;
  bool bare;
  int (*init_locked)(struct lvri_arena *a, lvri_off object, void *context);
  void *context;
};
int lvri_object_make(lvr_session *s, const struct lvri_making *m, struct lvri_handle **ret_handle);

/* A handle of what ref names, which takes over the reference that travels with ref, if one does.
 * 0, -EXDEV other session, -EINVAL another kind, -ESTALE gone (or this
 * process is), -ENOMEM, -ENOTRECOVERABLE. */
int lvri_object_attach(lvr_session *s, const lvr_ref *ref, uint32_t kind,
                       struct lvri_handle **ret_handle);

/* Give one use of the handle back; with the last one it is gone. NULL is fine. In a process without
 * a slot only the memory is freed. */
void lvri_object_detach(struct lvri_handle *h);

/* Names the object, also where it is gone: its place may be another's by then. */
void lvri_object_ref(const struct lvri_handle *h, lvr_ref *ret_ref);

/* Names it and takes a reference that travels. 0, -EOVERFLOW, -ESTALE, -ENOTRECOVERABLE. */
int lvri_object_send(struct lvri_handle *h, lvr_ref *ret_ref);

/* This process's ledger entry for the object, which stays as long as the handle, and as long as
 * units are held: le_held is changed by the kind alone, by logged stores
 * under the object's stripe. NULL in a process without a slot. */
struct lvri_ledger_entry *lvri_handle_entry(const struct lvri_handle *h);

/* A handle that this process was forked with while it was nobody: enter it into the ledger that it
 * has now. With the session's mutex held, or before anybody else has the session. 0, -ESTALE: the
 * object is gone; -ENOMEM, -ENOTRECOVERABLE. */
int lvri_object_carry(struct lvri_handle *h);

/* --- references that change hands ---------------------------------------------------------
 *
 * Between a process and a word of the arena (a channel's), without a moment in which nobody has the
 * reference: it is the caller's transaction, in the arena's guard, that moves it.
 *
 *   give   lvri_session_lock(); enter; h's ledger entry out, offset into the word; leave;
 *          lvri_object_given(); lvri_session_unlock()
 *   take   lvri_session_lock(); lvri_object_take_begin(); enter; word cleared, entry in; leave;
 *          lvri_object_taken(); lvri_session_unlock()
 *
 * Crash: killed before the commit, it is as it was; behind it, the word has the reference, or the
 * dead process's ledger, which is repaired. What is private died with the process. */

/* Strikes out this process's entry for h's object; the reference is from now on the word's that the
 * caller sets in the same transaction. At least LVRI_LEDGER_LEAVES records are left in the journal.
 * 0; nothing was changed: -EINVAL (the handle has other users, or units are held), -ESTALE. */
int lvri_object_give_locked(struct lvri_handle *h);

/* Behind the commit: forgets the handle, which is freed. */
void lvri_object_given(struct lvri_handle *h);

struct lvri_taking {
  lvr_session *session;
  struct lvri_handle *spare;
  lvri_off off;
  uint32_t index;
};

/* Before the guard is entered: everything that could fail later but the arena's own memory. What
 * was begun is ended by lvri_object_taken() or lvri_object_untaken(). 0, -ENOMEM, -ESTALE. */
int lvri_object_take_begin(lvr_session *s, uint32_t kind, struct lvri_taking *ret_t);

/* The word's reference to the object becomes this process's: an entry in its ledger, or, if that
 * has one already, a reference less. The caller clears the word. The journal needs room for
 * LVRI_TAKE_RECORDS. 0; -ENOMEM, -ESRCH: abort. */
int lvri_object_take_locked(struct lvri_taking *t, lvri_off object);

#define LVRI_TAKE_RECORDS (2u * LVRI_HEAP_RECORDS + 8u)

/* Behind the commit: the handle. */
struct lvri_handle *lvri_object_taken(struct lvri_taking *t);

/* Instead, where nothing was taken. */
void lvri_object_untaken(struct lvri_taking *t);

/* --- for repair.c and process.c ----------------------------------------------------------- */

/* One reference less. With its last one the object is freed, or put into the grave: then whoever
 * called this calls lvri_grave_empty(), when he has left the guard. The caller holds the arena's
 * guard and has room for LVRI_UNREF_RECORDS. */
void lvri_object_unref_locked(struct lvri_arena *a, lvri_off off);

#define LVRI_UNREF_RECORDS 180u

/* The object that ref names, which may be anything: with the guard held. 0, -EXDEV, -EINVAL,
 * -ESTALE (also for what is in the grave). */
int lvri_object_find_locked(struct lvri_arena *a, const lvr_ref *ref,
                            struct lvri_object_shm **ret_object);

/* Gifts to a child that will be forked: our ledger holds them for the moment of the fork, so that
 * the child's can be a copy of it. Returned: taken out again, in the parent; kept: the child's own.
 * With the session's mutex held. */
int lvri_object_borrow_gifts(lvr_session *s, lvr_proc_id child);
void lvri_object_return_gifts(lvr_session *s);
void lvri_object_keep_gifts(lvr_session *s);

#endif
