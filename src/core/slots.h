/* slots.h - the process table.
 *
 *   FREE --prepare--> EMBRYO --adopt--> RUNNING --announce--> OVER --repair--> DEAD --> FREE
 *                        |                 `------- any death ---^ (noticed)
 *                        `--withdraw, or its parent is dead--------> FREE
 *
 * Rows of 256 bytes, 64 to a chunk; a chunk never moves, so a slot is found without a lock. The
 * id of a slot's process is in the slot: whoever comes with an older id finds that it differs. */
#ifndef LVRI_CORE_SLOTS_H
#define LVRI_CORE_SLOTS_H

#include "core/arena.h"
#include "core/guard.h"
#include "core/mutex.h"
#include "core/owner.h"
#include "leveret/process.h"
#include "os/os.h"

#define LVRI_SLOTS_PER_CHUNK 256u
#define LVRI_SLOT_CHUNKS     64u
#define LVRI_SLOTS_MAX       (LVRI_SLOTS_PER_CHUNK * LVRI_SLOT_CHUNKS)
#define LVRI_SLOTS_DEFAULT   8192u
#define LVRI_SLOT_BYTES      256u

/* Flag of an embryo that nobody will withdraw (a fork is under way, or an attach): its parent's
 * death does not reclaim it, its age does. */
#define LVRI_PROC_FORKING  0x100u
#define LVRI_EMBRYO_AGE_NS INT64_C(10000000000)

enum lvri_slot_state {
  LVRI_SLOT_FREE = 0,
  LVRI_SLOT_EMBRYO = LVR_PROC_EMBRYO,
  LVRI_SLOT_RUNNING = LVR_PROC_RUNNING,
  LVRI_SLOT_OVER = LVR_PROC_OVER,
  LVRI_SLOT_DEAD = LVR_PROC_DEAD
};

/* A row. "Guard": the arena's, by logged stores; such words are read without it where it says so.
 *
 *   sl_alive     held from adoption to death by a thread of the process; the kernel marks it when
 *                that thread dies. Its word is read by anybody. Made anew when the slot is prepared
 *                again, at which time nobody alive holds it.
 *   sl_id        guard; read by anybody: changes when the slot is freed, so that older ids fail at
 *                once
 *   sl_state     guard; read by anybody
 *   sl_news      futex word; counted up by anybody after a change that somebody may wait for; not
 *                logged, since a wake-up too many does no harm and one too few is healed by the
 *                relook
 *   sl_ask       1: nobody holds sl_alive although the process may live: ask the kernel. By the
 *                process itself, before the unlock and after the lock; read by anybody
 *   sl_pid, sl_born_ticks, sl_born_ns    guard, at adoption; then constant
 *   sl_status, sl_status_known, sl_flags    guard; sl_status is read by anybody who has read
 *                sl_status_known
 *   sl_parent    guard, at preparation; then constant
 *   sl_ledger    guard; core/ledger.h. Of an embryo its parent changes it, of a running process it
 *                itself, of a dead one its repairer
 *   sl_task      guard; the birth's payload
 *   sl_next      guard; the next in the queue of free slots, 0 at its end
 *   sl_children  guard; slots whose sl_parent this is
 *   sl_prepared_ns    guard, at preparation, and when its fork begins
 *   sl_forked    guard; of a forked embryo, once its parent knows it: the pid of who is to adopt
 *                it. Then sl_born_ticks is when that was noted
 *
 * Always: the state is FREE exactly if the slot is in the queue of free ones; RUNNING implies that
 * sl_alive was locked by the process with sl_pid; OVER and DEAD never become RUNNING again with
 * the same sl_id; DEAD has no ledger and no task.
 *
 * Alive means: sl_id is the id, the state is RUNNING, and the word has an owner (or sl_ask and the
 * kernel say so). All are in one line.
 *
 * Crash: every change of state is one transaction of the guard. Adoption locks sl_alive inside of
 * it: an adopter killed before the commit leaves an embryo whose mutex says "owner died", which the
 * next one takes; killed after it, a RUNNING slot that the kernel marks. An announcer killed
 * between commit and unlock is OVER, and the kernel unlocks. A free slot's mutex is never locked:
 * freeing waits until its word has no owner. */
struct lvri_slot {
  struct lvri_mutex sl_alive;
  char sl_pad0[48 - sizeof(struct lvri_mutex)];
  _Atomic uint64_t sl_id;
  _Atomic uint32_t sl_state;
  _Atomic uint32_t sl_ask;

  _Atomic uint32_t sl_news;
  _Atomic uint32_t sl_status_known;
  _Atomic uint32_t sl_status;
  _Atomic uint32_t sl_pid;
  uint64_t sl_born_ticks;
  uint64_t sl_prepared_ns;
  lvr_proc_id sl_parent;
  lvri_off sl_ledger;
  lvri_off sl_task;
  _Atomic uint32_t sl_flags;
  uint32_t sl_next;
  uint32_t sl_children;
  uint32_t sl_forked;
  uint64_t sl_reserved[15];
};

_Static_assert(sizeof(struct lvri_slot) == LVRI_SLOT_BYTES, "a row");
_Static_assert(offsetof(struct lvri_slot, sl_news) == 64, "what alive means is one line");

/* The process table's root. Slots are numbered from 1; slot 0 of chunk 0 is never used.
 *   st_repair    held by who repairs; whoever gets it from a dead one goes on where that one was
 *   st_limit     constant: how many slots there may be
 *   st_count     guard: how many there are, free ones included
 *   st_head, st_tail, st_free    guard: the queue of free ones (number, 0 none) and its length
 *   st_changes   futex word; counted up in the guard before a process is RUNNING, and before it is
 *                DEAD. Not logged: one too many, of who died there, does no harm. Read by anybody
 *   st_chunks    guard; read by anybody: where 256 slots lie. Once set, for ever */
struct lvri_slots {
  struct lvri_mutex st_repair;
  char st_pad0[48 - sizeof(struct lvri_mutex)];
  uint32_t st_limit;
  uint32_t st_count;
  uint32_t st_head;
  uint32_t st_tail;
  uint32_t st_free;
  _Atomic uint32_t st_changes;
  _Atomic uint64_t st_chunks[LVRI_SLOT_CHUNKS];
};

/* Make the table of a new arena. 0, -ENOMEM. */
int lvri_slots_create(struct lvri_arena *a, uint32_t limit);

struct lvri_slots *lvri_slots_of(const struct lvri_arena *a);

/* Slot number index, whoever's it is; NULL if there is none. */
struct lvri_slot *lvri_slot_at(const struct lvri_arena *a, uint32_t index);

/* The slot of process id; NULL when it has been given away, or never was. */
struct lvri_slot *lvri_slot_of(struct lvri_arena *a, lvr_proc_id id);

/* Make an embryo; it takes the slot that has been free for longest. The table grows only if
 * may_grow. Caller holds the arena's guard, with an empty journal. 0, -EAGAIN (no free slot),
 * -ENOMEM; aborted or not, the guard is still held. */
int lvri_slot_prepare_locked(struct lvri_arena *a, lvr_proc_id parent, uint32_t flags,
                             bool may_grow, lvr_proc_id *ret_id);

/* The same by itself: repairs the dead before it lets the table grow, or says that it is full.
 * 0, -EAGAIN, -ENOMEM, -ENOTRECOVERABLE. */
int lvri_slot_prepare(struct lvri_arena *a, lvr_proc_id parent, uint32_t flags,
                      lvr_proc_id *ret_id);

/* This process is that one from now on: pid, start time, alive word, held by the calling thread.
 * 0, -ESRCH (no embryo any more), -ENOTRECOVERABLE. */
int lvri_slot_adopt(struct lvri_arena *a, lvr_proc_id id);

/* Born and not over. One load as a rule. A death that the kernel reported is seen at once;
 * one that it could not report, by lvri_slot_alive_thoroughly(). */
bool lvri_slot_alive(struct lvri_arena *a, lvr_proc_id id);

/* The same, and asks the kernel whether the pid still is that process: for the relook. */
bool lvri_slot_alive_thoroughly(struct lvri_arena *a, lvr_proc_id id);

/* The word to wait on beside one's own until process id is over: marks it as waited for and gives
 * the value to expect. NULL when it is over. The kernel wakes one waiter only: that one calls
 * lvri_slot_alive(), which wakes the others. */
_Atomic uint32_t *lvri_slot_alive_word(struct lvri_arena *a, lvr_proc_id id,
                                       uint32_t *ret_expected);

/* How often a process was born or buried. */
uint32_t lvri_slots_changes(const struct lvri_arena *a);

/* All that must be slept on so that no death is slept through of another process that was alive
 * when lvri_slots_changes() was `changes`, or is born later: that count (its id is 0), then the
 * alive words of all others, `room` words at most.
 * 0; -EAGAIN: that cannot be had now, for it has changed, or the kernel may tell nobody of a death,
 * or they are too many; -ESRCH: one of them is over, and nobody has repaired it. */
int lvri_slots_watch(struct lvri_arena *a, lvr_proc_id self, uint32_t changes, unsigned room,
                     struct lvri_os_word *ret_words, lvr_proc_id *ret_ids, unsigned *ret_count);

/* A process is about to be DEAD; in the guard. */
void lvri_slots_note_burial(struct lvri_arena *a);

/* --- for session.c, process.c and repair.c ------------------------------------------------ */

/* The process leaves: its state is OVER. 0, -ENOTRECOVERABLE. */
int lvri_slot_set_over(struct lvri_arena *a, lvr_proc_id id);

/* Says the status, if nobody has, and that it is over: 0, -EALREADY, -ESRCH, -ENOTRECOVERABLE. */
int lvri_slot_set_status(struct lvri_arena *a, lvr_proc_id id, int32_t status);

/* Over: announced, left, or dead. An embryo is not. */
bool lvri_slot_over(struct lvri_arena *a, lvr_proc_id id);

/* The slot goes to the end of the queue of free ones if it is DEAD, unwatched, and nobody holds its
 * alive word any more. Caller holds the guard. True: it is free now. */
bool lvri_slot_free_locked(struct lvri_arena *a, struct lvri_slot *slot);

/* Something has changed: who waits for news of this slot looks again. */
void lvri_slot_tell(struct lvri_slot *slot);

/* The number of the slots' equations that do not hold; caller holds the guard. */
int lvri_slots_valid(struct lvri_arena *a);

#endif
