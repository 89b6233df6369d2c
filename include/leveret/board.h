/* board.h - tasks from one process to many workers, and results back.
 *
 *   owner                        the board                    workers, each with a row
 *   lvr_board_put()       --->   tasks: 0 1 2 3 ...    --->   lvr_board_claim_until()
 *   lvr_board_look()      <---   row: claim, running   <---   lvr_board_begin()
 *   lvr_board_take_until()<---   results               <---   lvr_board_finish()
 *
 * A task is a message, known by its number: how many were put before it. The states of a task, and
 * who moves it on:
 *
 *   waiting    in the board's tasks               a worker, by claiming it; the owner, by
 *                                                 lvr_board_cancel()
 *   cancelled  in the board's tasks               nobody: who claims it passes it over
 *   claimed    in a row's claim                   that worker, by lvr_board_begin(); the owner, by
 *                                                 lvr_board_revoke(), who may put it again: another
 *                                                 task, with a number of its own
 *   running    in a row's claim, and its running  that worker, by lvr_board_finish()
 *   finished   its result is in the board         the owner, by taking the result
 *   orphaned   claimed, its worker is over, and   the owner: lvr_board_bury() tells which
 *              there is no result                 these are, and which of them was running
 *
 * A task is finished exactly if its result was put. Who dies, at any instruction, leaves each task
 * in one of these states; nobody waits for the dead. */
#ifndef LEVERET_BOARD_H
#define LEVERET_BOARD_H

#include "message.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lvr_board lvr_board;

#define LVR_BOARD_ROWS_MAX 4096u

/* What a worker does. Numbers are of tasks; claimed and not finished are [first, first + count). */
struct lvr_board_row {
  lvr_proc_id worker; /* 0: nobody has the row */
  uint32_t first, count;
  uint32_t running;  /* means something if is_running */
  bool is_running;   /* until its result is put */
  bool is_doomed;    /* for that one, which it runs or has run: it begins no other */
  int64_t since_ns;  /* CLOCK_MONOTONIC: when it began that one, or one that it began since */
  uint32_t finished; /* how many results it has put */
  uint64_t order;    /* what lvr_board_order() said last */
};

/* lvr_board_create - make a board with rows for so many workers.
 * Units:   rows 1..LVR_BOARD_ROWS_MAX, numbered from 0.
 * Owner:   *ret_b is the caller's until lvr_board_detach(). The process that calls is the board's
 *          owner: it alone puts and cancels tasks, and others are told -EPERM. It alone is to take
 *          results, and to settle, bury, revoke, doom and order: that is for the caller to see to.
 *          (To wait, watch and look harms nobody, and who has the board may close it.)
 * Caller:  any thread of an attached process; not a signal handler.
 * Locks:   the arena's guard, shortly.   Fork: -ESTALE in a child without a slot.
 * Crash:   killed at any instruction there is a board, which goes when the process is repaired, or
 *          there is none.
 * Returns: 0, -EINVAL, -ENOMEM, -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_board_create(lvr_session *s, uint32_t rows, lvr_board **ret_b);

/* lvr_board_attach - a handle of the board that ref names.
 * Caller:  any thread of an attached process; not a signal handler.
 * Locks:   the arena's guard, shortly.   Fork: -ESTALE in a child without a slot.
 * Crash:   killed at any instruction it has a reference, which whoever repairs it gives back, or
 *          none; one that travels is still under way then.
 * Returns: 0, -ESTALE (it is gone), -EXDEV, -EINVAL (ref names no board), -ENOMEM,
 *          -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_board_attach(lvr_session *s, const lvr_ref *ref, lvr_board **ret_b);

/* lvr_board_detach - give the handle back. NULL is fine. A worker keeps its row until it is over,
 * and buried. The board goes with the last reference to it, and what is in it.
 * Caller:  any thread of the process that has it; where it is the last of as many as it was made or
 *          attached, no other call with it may be under way; not a signal handler.
 * Locks:   the arena's guard, shortly; where the board goes, once for each part of it.   Fork: in a
 *          child without a slot it frees private memory alone.
 * Crash:   killed at any instruction the reference is given back, or whoever repairs the process
 *          does that; what is left of a board that goes is freed by who frees, or repairs, next. */
LVR_API void lvr_board_detach(lvr_board *b);

/* lvr_board_ref, lvr_board_send - its name; as those of a lock.
 * Caller:  any thread of the process that has the handle; lvr_board_send(): not a signal handler.
 * Locks:   none; lvr_board_send(): the arena's guard, shortly.   Fork: lvr_board_send() gives
 *          -ESTALE in a child without a slot.
 * Crash:   killed in lvr_board_send() the board is as it was, or has a reference that travels and
 *          that nobody has the name of: nobody repairs that, and it stays until the session ends.
 * Returns: 0, -EOVERFLOW, -ESTALE, -ENOTRECOVERABLE. */
LVR_API void lvr_board_ref(const lvr_board *b, lvr_ref *ret_ref);
LVR_API LVR_MUST_CHECK int lvr_board_send(lvr_board *b, lvr_ref *ret_ref);

/* --- the owner ------------------------------------------------------------------------------- */

/* lvr_board_put - add a task; there is always room.
 * Units:   bytes 4..LVR_MESSAGE_INLINE, the first four not LVR_BOARD_CANCELLED; block: travels with
 *          it, or NULL; *ret_number is its number.
 * Owner:   with 0 the block's handle is gone.
 * Caller:  any thread of the owner; not a signal handler.   Fork: -EPERM in its child, which waits
 *          for nothing; -ESTALE in one without a slot.
 * Locks:   a mutex of this handle's, which those threads share that put; in it the put mutex of
 *          the tasks, which nobody else takes but to close the board; and with a block, or to
 *          switch segments, the arena's guard.
 * Crash:   killed at any instruction the task is there or it is not; a block that was on its way is
 *          dropped with the board then.
 * Returns: 0, -EPIPE (closed), -EPERM (not the owner), -EINVAL, -ENOMEM, -ESTALE,
 *          -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_board_put(lvr_board *b, const void *data, size_t bytes,
                                         lvr_block *block, uint32_t *ret_number);

/* lvr_board_put_many - add tasks without blocks, with numbers from *ret_first on.
 * Caller:  as lvr_board_put().
 * Locks:   as there, for all of the tasks at once.
 * Crash:   killed at any instruction the first so many of them are there, each whole.
 * Returns: as above; *ret_put were added in any case: none with -EINVAL. */
LVR_API LVR_MUST_CHECK int lvr_board_put_many(lvr_board *b, const struct lvr_slice *tasks,
                                              uint32_t count, uint32_t *ret_put,
                                              uint32_t *ret_first);

/* lvr_board_take_until - take a result, waiting for one; the arguments are those of a queue's get.
 * It waits as lvr_board_wait_until() does, but not for several, and goes on where a worker is over.
 * Caller:  any thread of the owner; not a signal handler.   Fork: -ESTALE in a child without a
 *          slot; one that has a slot would take what is its parent's.
 * Locks:   the get mutex of the results, for the time of a copy; with a block, or at the end of a
 *          segment, the arena's guard. It sleeps without them; woken by a death, or after 50 ms, it
 *          may take the guard to repair.
 * Crash:   killed at any instruction the result is there or it was taken; it was the owner, and
 *          nobody is left to take others.
 * Returns: as lvr_queue_get_until(); -ECANCELED (lvr_board_interrupt(), meanwhile). */
LVR_API LVR_MUST_CHECK int lvr_board_take_until(lvr_board *b, struct lvr_message *ret_m,
                                                int64_t deadline_ns);

/* lvr_board_take_many_until - the same for several, as lvr_queue_get_many_until().
 * Caller:  as lvr_board_take_until().
 * Locks:   as there.
 * Crash:   killed at any instruction all of them are there, or all were taken.
 * Returns: as that, -EINVAL (too little room). */
LVR_API LVR_MUST_CHECK int lvr_board_take_many_until(lvr_board *b, void *buf, size_t room,
                                                     uint32_t most, int64_t deadline_ns,
                                                     uint32_t *ret_count, size_t *ret_bytes);

/* lvr_board_cancel - a task that nobody has claimed is not to be run: whoever claims it finds
 * LVR_BOARD_CANCELLED in its first four bytes, and finishes nothing. It keeps its number: the owner
 * must have struck that from what it waits for before any of its threads judges a buried row.
 * Caller:  any thread of the owner; not a signal handler.
 * Locks:   the get mutex of the tasks, and the arena's guard in it, for some 4 us where 100 000
 *          tasks wait. A worker that was stopped with one of them holds it up for as long.
 * Crash:   killed at any instruction the task is cancelled or it is not.
 * Returns: 0; -ENOENT: it was claimed, or never put; -EPERM, -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_board_cancel(lvr_board *b, uint32_t number);

#define LVR_BOARD_CANCELLED UINT32_MAX

/* lvr_board_wait_until - wait until there is a result, or a worker is over that is not buried yet.
 * Where results come every few microseconds, and more tasks wait than there are rows, it is for
 * several: some 0.1 ms.
 * Caller:  any thread of any process that has the board; not a signal handler.
 * Locks:   none while it looks and sleeps; woken by a death, or after 50 ms, it may take the
 *          arena's guard to repair.   Fork: -ESTALE in a child without a slot.
 * Crash:   it leaves no more than marks at the bells; who was to be woken by it, or was not because
 *          it was, looks by himself within 50 ms.
 * Returns: 0, -ETIMEDOUT, -EINTR, -ECANCELED (lvr_board_interrupt()), -ESTALE. */
LVR_API LVR_MUST_CHECK int lvr_board_wait_until(lvr_board *b, int64_t deadline_ns);

/* lvr_board_watch_until - the same, but only until a worker is over. Several threads may wait, and
 * watch, at once.
 * Caller:  as lvr_board_wait_until().
 * Locks:   as there.
 * Crash:   it leaves nothing. The kernel tells one of those who sleep of a death, and that one the
 *          others; where he is killed before, they look by themselves within 50 ms.
 * Returns: as lvr_board_wait_until(). */
LVR_API LVR_MUST_CHECK int lvr_board_watch_until(lvr_board *b, int64_t deadline_ns);

/* lvr_board_interrupt - all threads of this process that wait, and all that watch, get -ECANCELED;
 * where there is none, the next one to come does.
 * Caller:  any thread of any process that has the board.   Fork: nothing in a child without a slot,
 *          where all waits say -ESTALE.
 * Locks:   none.
 * Crash:   others are left with no more than having been woken for nothing. */
LVR_API void lvr_board_interrupt(lvr_board *b);

/* lvr_board_close - no task will be added any more: workers that find none get -EPIPE. A put
 * that is under way, in whatever process, comes before it or gets that, too.
 * Caller:  any thread of any process that has the board; not a signal handler.   Fork: a child
 *          without a slot closes nothing.
 * Locks:   the mutex of those who put, shortly.
 * Crash:   killed at any instruction the board is closed or it is not. */
LVR_API void lvr_board_close(lvr_board *b);

/* lvr_board_waiting - tasks that nobody has claimed; old news at once.
 * Caller:  any thread of any process that has the board.
 * Locks:   none.
 * Crash:   it changes nothing. */
LVR_API uint32_t lvr_board_waiting(const lvr_board *b);

/* lvr_board_rows - how many there are; lvr_board_look - what is in one, which is nobody's if there
 * is no such row; old news at once.
 * Caller:  any thread of any process that has the board.
 * Locks:   none.
 * Crash:   they change nothing. */
LVR_API uint32_t lvr_board_rows(const lvr_board *b);
LVR_API void lvr_board_look(const lvr_board *b, uint32_t row, struct lvr_board_row *ret_row);

/* lvr_board_is_over - whether a row's worker is over and has to be buried.
 * Caller:  any thread of any process that has the board.
 * Locks:   none.
 * Crash:   who finds a death that others sleep on wakes them; killed before that, they look by
 *          themselves within 50 ms. */
LVR_API bool lvr_board_is_over(const lvr_board *b, uint32_t row);

/* lvr_board_settle - before a row is buried: what its worker had under way when it died is done or
 * undone. All results that it has put are there to be taken now: take them, then bury it.
 * Caller:  any thread of the owner; not a signal handler.
 * Locks:   the mutex of those who claim, then that of those who put results; in each, if it was a
 *          dead one's, the arena's guard. A worker that was stopped with one of them holds it up
 *          for as long.
 * Crash:   all of it can be done again.
 * Returns: 0, -EBUSY (it lives), -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_board_settle(lvr_board *b, uint32_t row);

/* lvr_board_bury - free the row of a worker that is over, and say what was in it: the tasks of its
 * claim that no result was taken for are orphaned.
 * Caller:  any thread of the owner, one for a row; not a signal handler.
 * Locks:   that of who repairs, and the arena's guard, to repair the worker.
 * Crash:   killed before its end the row is still to be buried, and may be empty by then.
 * Returns: 0, -EBUSY (it lives), -EINVAL (nobody has the row), -ESTALE. */
LVR_API LVR_MUST_CHECK int lvr_board_bury(lvr_board *b, uint32_t row,
                                          struct lvr_board_row *ret_row);

/* lvr_board_revoke - take back what a worker has claimed and not begun, but for the first: a task
 * that takes long should hold up nobody. The numbers [*ret_first, *ret_first + *ret_count) will not
 * be run; the owner may put those tasks again.
 * Caller:  any thread of the owner; not a signal handler.
 * Locks:   the mutex of those who claim. A worker that was stopped with it holds it up for as long.
 * Crash:   killed at any instruction the claim is as it was, or without them.
 * Returns: 0, -ENOENT (there is nothing to take back), -EINVAL (no such row), -ESTALE,
 *          -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_board_revoke(lvr_board *b, uint32_t row, uint32_t *ret_first,
                                            uint32_t *ret_count);

/* lvr_board_doom - a worker is to be killed for a task: it begins no other one any more, so that
 * whoever kills it afterwards kills it for that task, or after it, and for nothing else that began.
 * A worker that is quicker than the signal is told -EPIPE, and leaves; either way its row is to be
 * buried. What it had claimed and not begun is orphaned.
 * Caller:  any thread of the owner.
 * Locks:   none: it is one swap.
 * Crash:   killed at any instruction the worker is doomed or it is not. To doom it again changes
 *          nothing: who cannot tell whether he has does it once more, and then kills.
 * Returns: 0: kill it, if it lives; -ENOENT: it does not run that task, or not any more: nobody is
 *          to be killed; -EINVAL (no such row), -ESTALE. */
LVR_API LVR_MUST_CHECK int lvr_board_doom(lvr_board *b, uint32_t row, uint32_t number);

/* lvr_board_order - tell the worker of a row something, which it finds by lvr_board_ordered();
 * 0: nothing. The last word counts; one for a row that nobody has is the next worker's.
 * Caller:  any thread of the owner.
 * Locks:   none: it is one store.
 * Crash:   killed at any instruction it is said or it is not.
 * Returns: 0, -EINVAL (no such row), -ESTALE. */
LVR_API LVR_MUST_CHECK int lvr_board_order(lvr_board *b, uint32_t row, uint64_t order);

/* --- a worker; a forked child of one is none, until it enlists ------------------------------- */

/* lvr_board_enlist - this process is the worker of that row, which nobody has.
 * Caller:  one thread of an attached process, before others use this handle for a worker's work.
 * Locks:   none.   Fork: -ESTALE in a child without a slot; one with a slot may enlist itself.
 * Crash:   killed at any instruction nobody has the row, or a worker that is over, to be buried;
 *          an owner who sleeps may hear of that 50 ms late.
 * Returns: 0, -EBUSY (somebody has it), -EINVAL (no such row, or this handle has one), -ESTALE. */
LVR_API LVR_MUST_CHECK int lvr_board_enlist(lvr_board *b, uint32_t row);

/* lvr_board_claim_until - take the next task, and as many more as are there, are wanted and fit;
 * waiting for one. The last claim's tasks are finished.
 * Units:   as lvr_queue_get_many_until(); *ret_first is the first one's number. *ret_count 0: the
 *          first one has a block; lvr_board_claim_block_until() takes it, and says its number also
 *          where there was no memory to do so.
 * Caller:  one thread of a worker; not a signal handler.   Fork: -EINVAL in its child, -ESTALE in
 *          one without a slot.
 * Locks:   the get mutex of the tasks, for the time of a copy; with a block, or at the end of a
 *          segment, the arena's guard. Another worker that was stopped with one of them holds it
 *          up for as long, whatever the deadline. It sleeps without them; woken by a death, or
 *          after 50 ms, it may take the guard to repair.
 * Crash:   killed at any instruction the tasks are waiting, or they are this row's: whoever has the
 *          get mutex next sees to that, at the latest lvr_board_settle().
 * Returns: as that, -EPIPE (none, and closed; or the owner is over; or this worker is doomed),
 *          -EINVAL (no row). */
LVR_API LVR_MUST_CHECK int lvr_board_claim_until(lvr_board *b, void *buf, size_t room,
                                                 uint32_t most, int64_t deadline_ns,
                                                 uint32_t *ret_count, size_t *ret_bytes,
                                                 uint32_t *ret_first);
LVR_API LVR_MUST_CHECK int lvr_board_claim_block_until(lvr_board *b, struct lvr_message *ret_m,
                                                       int64_t deadline_ns, uint32_t *ret_number);

/* lvr_board_claim_bare - take the task of that number, if it is the next one, without its block,
 * which goes: for who was told -ENOMEM, and that number, by lvr_board_claim_block_until(). So the
 * task can be begun, and answered that it cannot be run; no other one is.
 * Owner:   *ret_m is the caller's, and holds nothing.
 * Caller:  that thread; not a signal handler.
 * Locks:   the get mutex of the tasks, and the arena's guard in it; as above.
 * Crash:   killed at any instruction the task is waiting, or it is this row's; as above.
 * Returns: 0, -ENOENT (it is not the next one: somebody has claimed it, or it was never put),
 *          -EPIPE (the owner is over; or this worker is doomed), -EINVAL (no row; or the task has
 *          no block), -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_board_claim_bare(lvr_board *b, uint32_t number,
                                                struct lvr_message *ret_m);

/* lvr_board_begin - the worker runs that task of its claim from now on; those before it are done
 * with.
 * Caller:  the thread that claims.   Fork: -EINVAL in its child.
 * Locks:   none.
 * Crash:   killed at any instruction the row says that it runs, or the task had not begun.
 * Returns: 0, -ECANCELED (the owner took it back, and all behind it), -EPIPE (the owner ends this
 *          worker, lvr_board_doom(): it is to leave what it has claimed, and to end), -EINVAL (no
 *          worker), -ESTALE. */
LVR_API LVR_MUST_CHECK int lvr_board_begin(lvr_board *b, uint32_t number);

/* lvr_board_finish - put the result of the task that runs; there is always room. Where the owner is
 * over nobody takes it, and it is 0 all the same.
 * Units:   bytes 0..LVR_MESSAGE_INLINE; what is in data is between worker and owner; it should say
 *          the number. block: travels with it, or NULL.
 * Owner:   with 0 the block's handle is gone.
 * Caller:  the thread that claims.   Fork: -EINVAL in its child.
 * Locks:   the put mutex of the results, for the time of a copy; with a block, or to switch
 *          segments, the arena's guard. Another worker that was stopped with one of them holds it
 *          up for as long.
 * Crash:   killed at any instruction the result is there, whole, or it is not, and the task is
 *          orphaned. The row may say that it runs though the result is there: who buries takes
 *          results first. A block that was on its way is dropped by who puts, or settles, next.
 * Returns: 0, -EINVAL, -ENOMEM, -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_board_finish(lvr_board *b, const void *data, size_t bytes,
                                            lvr_block *block);

/* lvr_board_tell - put what is no task's result among the results: what a worker has to say of
 * itself.
 * Caller:  any thread of a worker; not a signal handler.   Fork: -EINVAL in its child.
 * Locks:   as lvr_board_finish().
 * Crash:   killed at any instruction it is there, whole, or it is not.
 * Returns: as lvr_board_finish(). */
LVR_API LVR_MUST_CHECK int lvr_board_tell(lvr_board *b, const void *data, size_t bytes,
                                          lvr_block *block);

/* lvr_board_ordered - what the owner told this row last; 0: nothing, or it is no worker.
 * Caller:  any thread of the process that enlisted, also a signal handler.   Fork: 0 in its child.
 * Locks:   none.
 * Crash:   it changes nothing. */
LVR_API uint64_t lvr_board_ordered(const lvr_board *b);

/* lvr_board_running - the number of the task that this worker runs; -1: none, for it has not begun
 * one since it put, or was about to put, the last result; or it is no worker.
 * Caller:  any thread of the process that enlisted, also a signal handler.   Fork: -1 in its child.
 * Locks:   none.
 * Crash:   it changes nothing. */
LVR_API int64_t lvr_board_running(const lvr_board *b);

#ifdef __cplusplus
}
#endif

#endif
