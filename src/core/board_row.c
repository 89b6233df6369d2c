#include <errno.h>

#include "base/crashpoint.h"
#include "core/board_inner.h"
#include "core/channel_inner.h"
#include "core/repair.h"
#include "core/slots.h"
#include "os/os.h"

static uint64_t claim_of(uint32_t first, uint32_t count) { return (uint64_t)first << 32 | count; }

static uint32_t first_of(uint64_t claim) { return (uint32_t)(claim >> 32); }

/* --- the owner ------------------------------------------------------------------------------ */

uint32_t lvr_board_rows(const lvr_board *b) { return lvri_board_shm(b)->bo_rows; }

static int check_row(const struct lvr_board *b, uint32_t row) {
  if (lvri_session_stale(b->handle.session)) return -ESTALE;
  return row < lvr_board_rows(b) ? 0 : -EINVAL;
}

/* Without what its worker has finished last, and all before that. */
static uint64_t rest_of(uint64_t claim, uint64_t running) {
  uint32_t done = (uint32_t)running - first_of(claim) + 1;
  if (!(running & LVRI_ROW_OVER) || done == 0 || done > (uint32_t)claim) return claim;
  return claim_of(first_of(claim) + done, (uint32_t)claim - done);
}

void lvr_board_look(const lvr_board *b, uint32_t row, struct lvr_board_row *ret_row) {
  *ret_row = (struct lvr_board_row){.worker = 0};
  if (row >= lvr_board_rows(b)) return;
  const struct lvri_row_shm *shm = lvri_board_row(b, row);
  uint64_t claim = lvri_load_acquire_u64(&shm->ro_claim);
  uint64_t running = lvri_load_acquire_u64(&shm->ro_running);
  claim = rest_of(claim, running);
  *ret_row = (struct lvr_board_row){
      .worker = lvri_load_acquire_u64(&shm->ro_worker),
      .first = (uint32_t)(claim >> 32),
      .count = (uint32_t)claim,
      .running = (uint32_t)running,
      .is_running = running & LVRI_ROW_RUNS,
      .is_doomed = running & LVRI_ROW_DOOMED,
      .since_ns = (int64_t)lvri_load_relaxed_u64(&shm->ro_since_ns),
      .finished = lvri_load_relaxed_u32(&shm->ro_finished),
      .order = lvri_load_relaxed_u64(&shm->ro_order),
  };
}

bool lvr_board_is_over(const lvr_board *b, uint32_t row) {
  lvr_proc_id worker = lvri_board_worker(b, row);
  return worker && !lvri_slot_alive(lvri_board_arena(b), worker);
}

/* Whoever takes a mutex from the dead finishes what that one had begun. */
static int pass_through(struct lvr_board *b) {
  int error = lvri_board_await_claims(b);
  if (error) return error;
  error = lvri_channel_lock_put(lvri_board_arena(b), b->results.shm, true);
  if (!error) lvri_channel_unlock(&b->results.shm->ch_put_mutex);
  return error;
}

int lvr_board_settle(lvr_board *b, uint32_t row) {
  lvr_proc_id worker = lvri_board_worker(b, row);
  if (lvri_session_stale(b->handle.session)) return -ESTALE;
  if (worker && lvri_slot_alive_thoroughly(lvri_board_arena(b), worker)) return -EBUSY;
  int error = pass_through(b);
  lvri_channel_ring_all(b->tasks.shm); /* it may have had the bell: see channel_wait.c */
  return error;
}

static void clear(struct lvri_row_shm *row) {
  lvri_store_relaxed_u64(&row->ro_claim, 0);
  lvri_store_relaxed_u64(&row->ro_running, 0);
  lvri_store_relaxed_u32(&row->ro_finished, 0);
  lvri_store_relaxed_u64(&row->ro_order, 0);
  LVR_CRASHPOINT("board.row.cleared");
  lvri_store_release_u64(&row->ro_worker, 0); /* pairs with the swap in enlist */
}

int lvr_board_bury(lvr_board *b, uint32_t row, struct lvr_board_row *ret_row) {
  if (lvri_session_stale(b->handle.session)) return -ESTALE;
  if (!lvri_board_worker(b, row)) return -EINVAL;
  if (lvri_slot_alive_thoroughly(lvri_board_arena(b), lvri_board_worker(b, row))) return -EBUSY;
  lvr_board_look(b, row, ret_row);
  (void)lvri_slot_repair(lvri_board_arena(b), ret_row->worker);
  clear(lvri_board_row(b, row));
  return 0;
}

/* Against a worker that begins what it has claimed. */
static int cut_claim(struct lvri_row_shm *row, uint32_t *ret_first, uint32_t *ret_count) {
  _Atomic uint64_t *word = &row->ro_claim;
  uint64_t claim = lvri_load_acquire_u64(word), kept;
  do {
    if ((uint32_t)claim <= 1) return -ENOENT;
    kept = claim_of(first_of(claim), 1);
  } while (!lvri_cas_acq_rel_u64(word, &claim, kept));
  LVR_CRASHPOINT("board.claim.revoked");
  *ret_first = first_of(claim) + 1;
  *ret_count = (uint32_t)claim - 1;
  return 0;
}

/* With the mutex: so it is no note of somebody who has not got so far, and may have died there;
 * what such a one noted still waits, and is for others. */
int lvr_board_revoke(lvr_board *b, uint32_t row, uint32_t *ret_first, uint32_t *ret_count) {
  int error = check_row(b, row);
  if (error) return error;
  error = lvri_channel_lock_get(lvri_board_arena(b), b->tasks.shm, true);
  if (error) return error;
  error = cut_claim(lvri_board_row(b, row), ret_first, ret_count);
  lvri_channel_unlock(&b->tasks.shm->ch_get_mutex);
  return error;
}

int lvr_board_doom(lvr_board *b, uint32_t row, uint32_t number) {
  uint64_t running = LVRI_ROW_RUNS | number;
  int error = check_row(b, row);
  if (error) return error;
  _Atomic uint64_t *word = &lvri_board_row(b, row)->ro_running;
  if (!lvri_cas_acq_rel_u64(word, &running, LVRI_ROW_DOOMED | LVRI_ROW_RUNS | number))
    return running & LVRI_ROW_DOOMED && (uint32_t)running == number ? 0 : -ENOENT;
  LVR_CRASHPOINT("board.task.doomed");
  return 0;
}

int lvr_board_order(lvr_board *b, uint32_t row, uint64_t order) {
  int error = check_row(b, row);
  if (error) return error;
  lvri_store_release_u64(&lvri_board_row(b, row)->ro_order, order);
  return 0;
}

/* --- a worker ------------------------------------------------------------------------------- */

static int worker_only(const struct lvr_board *b) {
  if (lvri_session_stale(b->handle.session)) return -ESTALE;
  return lvri_board_is_worker(b) ? 0 : -EINVAL;
}

int lvr_board_enlist(lvr_board *b, uint32_t row) {
  lvr_proc_id self = lvri_session_self(b->handle.session);
  uint64_t nobody = 0;
  if (lvri_session_stale(b->handle.session)) return -ESTALE;
  if (row >= lvri_board_shm(b)->bo_rows || lvri_board_is_worker(b)) return -EINVAL;
  struct lvri_row_shm *shm = lvri_board_row(b, row);
  if (!lvri_cas_acquire_u64(&shm->ro_worker, &nobody, self)) return -EBUSY;
  LVR_CRASHPOINT("board.row.enlisted");
  b->row = shm;
  b->worker = self;
  b->tasks.claim = &shm->ro_claim;
  b->tasks.putter = lvri_board_shm(b)->bo_owner;
  lvri_store_relaxed_u64(&b->running, 0);
  lvri_board_tell_news(b);
  return 0;
}

static uint32_t claimed_first(const struct lvr_board *b) {
  return first_of(lvri_load_relaxed_u64(&b->row->ro_claim));
}

static bool is_doomed(const struct lvr_board *b) {
  return lvri_load_relaxed_u64(&b->row->ro_running) & LVRI_ROW_DOOMED;
}

/* There is nobody to work for where the owner is over, whatever he has left. */
static int may_claim(const struct lvr_board *b) {
  int error = worker_only(b);
  if (error) return error;
  if (is_doomed(b)) return -EPIPE;
  return lvri_slot_alive(lvri_board_arena(b), b->tasks.putter) ? 0 : -EPIPE;
}

int lvr_board_claim_until(lvr_board *b, void *buf, size_t room, uint32_t most, int64_t deadline_ns,
                          uint32_t *ret_count, size_t *ret_bytes, uint32_t *ret_first) {
  int error = may_claim(b);
  if (error) return error;
  error =
      lvri_channel_get_many_until(&b->tasks, buf, room, most, deadline_ns, ret_count, ret_bytes);
  if (!error && *ret_count) *ret_first = claimed_first(b);
  return error;
}

int lvr_board_claim_block_until(lvr_board *b, struct lvr_message *ret_m, int64_t deadline_ns,
                                uint32_t *ret_number) {
  int error = may_claim(b);
  if (!error) error = lvri_channel_get_until(&b->tasks, ret_m, deadline_ns);
  if (!error) *ret_number = claimed_first(b);
  if (error == -ENOMEM) *ret_number = b->tasks.refused;
  return error;
}

int lvr_board_claim_bare(lvr_board *b, uint32_t number, struct lvr_message *ret_m) {
  int error = may_claim(b);
  return error ? error : lvri_channel_try_get_bare(&b->tasks, number, ret_m);
}

/* What is before number is done, and leaves the claim. False: number was taken back. */
static bool advance_claim(struct lvr_board *b, uint32_t number) {
  _Atomic uint64_t *word = &b->row->ro_claim;
  uint64_t claim = lvri_load_relaxed_u64(word), rest;
  do {
    uint32_t done = number - first_of(claim);
    if (done >= (uint32_t)claim) return false;
    if (done == 0) return true; /* the first one stays */
    rest = claim_of(number, (uint32_t)claim - done);
  } while (!lvri_cas_acq_rel_u64(word, &claim, rest));
  LVR_CRASHPOINT("board.claim.advanced");
  return true;
}

/* Who runs nothing cannot be doomed, so that a store will do; but where the last task's result
 * could not be put, that one runs until now. False: it was doomed meanwhile. */
static bool note_begun(struct lvri_row_shm *row, uint32_t number) {
  uint64_t running = lvri_load_relaxed_u64(&row->ro_running) & ~LVRI_ROW_DOOMED;
  lvri_store_relaxed_u64(&row->ro_since_ns, (uint64_t)lvri_os_now_ns());
  if (running & LVRI_ROW_RUNS)
    return lvri_cas_release_u64(&row->ro_running, &running, LVRI_ROW_RUNS | number);
  lvri_store_release_u64(&row->ro_running, LVRI_ROW_RUNS | number);
  return true;
}

/* The first look at the mark keeps a doomed worker's claim as it is. */
int lvr_board_begin(lvr_board *b, uint32_t number) {
  int error = worker_only(b);
  if (error) return error;
  if (is_doomed(b)) return -EPIPE;
  if (!advance_claim(b, number)) return -ECANCELED;
  if (!note_begun(b->row, number)) return -EPIPE;
  LVR_CRASHPOINT("board.task.begun");
  lvri_store_relaxed_u64(&b->running, LVRI_ROW_RUNS | number);
  return 0;
}

/* The owner may doom it at this moment: what he has marked stays. Nobody else ends RUNS. */
static void note_finished(struct lvri_row_shm *row) {
  uint64_t running = lvri_load_relaxed_u64(&row->ro_running);
  lvri_store_relaxed_u32(&row->ro_finished, lvri_load_relaxed_u32(&row->ro_finished) + 1);
  if (running & LVRI_ROW_RUNS)
    (void)lvri_fetch_add_release_u64(&row->ro_running, LVRI_ROW_OVER - LVRI_ROW_RUNS);
  LVR_CRASHPOINT("board.task.over");
}

/* A signal from here on is not for the task, whose code has ended; but a death still is. */
int lvr_board_finish(lvr_board *b, const void *data, size_t bytes, lvr_block *block) {
  struct lvri_put put = {.data = data, .bytes = bytes, .block = block};
  int error = bytes <= LVR_MESSAGE_INLINE ? worker_only(b) : -EINVAL;
  if (error) return error;
  lvri_store_relaxed_u64(&b->running, 0);
  error = lvri_channel_try_put(&b->results, &put, true);
  if (error) return error;
  LVR_CRASHPOINT("board.task.finished");
  note_finished(b->row);
  return 0;
}

int lvr_board_tell(lvr_board *b, const void *data, size_t bytes, lvr_block *block) {
  struct lvri_put put = {.data = data, .bytes = bytes, .block = block};
  int error = bytes <= LVR_MESSAGE_INLINE ? worker_only(b) : -EINVAL;
  return error ? error : lvri_channel_try_put(&b->results, &put, true);
}

uint64_t lvr_board_ordered(const lvr_board *b) {
  return lvri_board_is_worker(b) ? lvri_load_acquire_u64(&b->row->ro_order) : 0;
}

int64_t lvr_board_running(const lvr_board *b) {
  uint64_t running = lvri_board_is_worker(b) ? lvri_load_relaxed_u64(&b->running) : 0;
  return running ? (int64_t)(uint32_t)running : -1;
}
