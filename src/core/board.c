#include "core/board.h"

#include <errno.h>

#include "base/assert.h"
#include "base/crashpoint.h"
#include "core/channel_inner.h"
#include "core/repair.h"
#include "core/slots.h"
#include "core/wait.h"
#include "os/os.h"

/* Workers whose deaths one sleep can be woken by; of others the relook tells. */
#define WATCH_MOST 127u

static struct lvr_board_shm *shm_of(const struct lvr_board *b) {
  return (struct lvr_board_shm *)(void *)b->handle.object;
}

static struct lvri_row_shm *rows_of(struct lvr_board_shm *shm) {
  return (struct lvri_row_shm *)(void *)(shm + 1);
}

static struct lvri_arena *arena_of(const struct lvr_board *b) { return &b->handle.session->arena; }

/* --- handles ------------------------------------------------------------------------------- */

static void describe(struct lvr_board *b, struct lvri_handle *h) {
  b->results.handle = b->tasks.handle = h;
  b->results.shm = &shm_of(b)->bo_results;
  b->tasks.shm = &shm_of(b)->bo_tasks;
  (void)pthread_mutex_init(&b->putting, NULL);
}

/* Once: a second attach finds the handle in use. In the mutex, for two threads may attach at once.
 * */
static struct lvr_board *ready(struct lvri_handle *h) {
  struct lvr_board *b = (struct lvr_board *)(void *)h;
  lvri_session_lock(h->session);
  if (!b->tasks.handle) describe(b, h);
  lvri_session_unlock(h->session);
  return b;
}

static int init(struct lvr_board *b, uint32_t rows) {
  struct lvr_board_shm *shm = shm_of(b);
  shm->bo_owner = lvri_session_self(b->handle.session);
  shm->bo_rows = rows;
  int error = lvri_channel_init(&shm->bo_tasks, 0, 0, 0);
  return error ? error : lvri_channel_init(&shm->bo_results, 0, 0, 0);
}

int lvr_board_create(lvr_session *s, uint32_t rows, lvr_board **ret_b) {
  struct lvri_handle *h;
  size_t bytes = sizeof(struct lvr_board_shm) + rows * sizeof(struct lvri_row_shm);
  if (rows == 0 || rows > LVR_BOARD_ROWS_MAX) return -EINVAL;
  int error = lvri_object_create(s, LVRI_KIND_BOARD, bytes, &h);
  if (error) return error;
  error = init(ready(h), rows);
  if (error)
    lvri_object_detach(h);
  else
    *ret_b = ready(h);
  return error;
}

int lvr_board_attach(lvr_session *s, const lvr_ref *ref, lvr_board **ret_b) {
  struct lvri_handle *h;
  int error = lvri_object_attach(s, ref, LVRI_KIND_BOARD, &h);
  if (!error) *ret_b = ready(h);
  return error;
}

void lvr_board_detach(lvr_board *b) {
  if (b) lvri_object_detach(&b->handle);
}

void lvr_board_ref(const lvr_board *b, lvr_ref *ret_ref) { lvri_object_ref(&b->handle, ret_ref); }

int lvr_board_send(lvr_board *b, lvr_ref *ret_ref) { return lvri_object_send(&b->handle, ret_ref); }

/* --- tasks --------------------------------------------------------------------------------- */

static uint32_t next_number(const struct lvr_board *b) {
  return lvri_channel_count_of(lvri_load_relaxed_u64(&b->tasks.shm->ch_tail));
}

static bool is_closed(const struct lvr_board *b) {
  return lvri_load_acquire_u32(&b->tasks.shm->ch_closed) & LVRI_CHANNEL_NO_WRITER;
}

int lvr_board_put(lvr_board *b, const void *data, size_t bytes, lvr_block *block,
                  uint32_t *ret_number) {
  struct lvri_put put = {.data = data, .bytes = bytes, .block = block};
  if (bytes > LVR_MESSAGE_INLINE) return -EINVAL;
  (void)pthread_mutex_lock(&b->putting);
  uint32_t number = next_number(b);
  int error = is_closed(b) ? -EPIPE : lvri_channel_try_put(&b->tasks, &put, true);
  (void)pthread_mutex_unlock(&b->putting);
  if (!error) *ret_number = number;
  return error;
}

int lvr_board_put_many(lvr_board *b, const struct lvr_slice *tasks, uint32_t count,
                       uint32_t *ret_put, uint32_t *ret_first) {
  (void)pthread_mutex_lock(&b->putting);
  *ret_first = next_number(b);
  *ret_put = 0;
  int error =
      is_closed(b) ? -EPIPE : lvri_channel_put_many_until(&b->tasks, tasks, count, 0, ret_put);
  (void)pthread_mutex_unlock(&b->putting);
  return error;
}

/* --- results ------------------------------------------------------------------------------- */

int lvr_board_take_until(lvr_board *b, struct lvr_message *ret_m, int64_t deadline_ns) {
  return lvri_channel_get_until(&b->results, ret_m, deadline_ns);
}

int lvr_board_take_many_until(lvr_board *b, void *buf, size_t room, uint32_t most,
                              int64_t deadline_ns, uint32_t *ret_count, size_t *ret_bytes) {
  return lvri_channel_get_many_until(&b->results, buf, room, most, deadline_ns, ret_count,
                                     ret_bytes);
}

static lvr_proc_id worker_of(const struct lvr_board *b, uint32_t row) {
  return lvri_load_acquire_u64(&rows_of(shm_of(b))[row].ro_worker);
}

bool lvr_board_is_over(const lvr_board *b, uint32_t row) {
  lvr_proc_id worker = row < shm_of(b)->bo_rows ? worker_of(b, row) : 0;
  return worker && !lvri_slot_alive(arena_of(b), worker);
}

/* Those whose deaths a sleep does not tell of are asked after. */
static bool any_over(const struct lvr_board *b) {
  uint32_t seen = 0;
  for (uint32_t row = 0; row < shm_of(b)->bo_rows; row++) {
    lvr_proc_id worker = worker_of(b, row);
    if (!worker) continue;
    bool told = seen++ < WATCH_MOST;
    if (!(told ? lvri_slot_alive : lvri_slot_alive_thoroughly)(arena_of(b), worker)) return true;
  }
  return false;
}

static int sleep_on_all(struct lvr_board *b, uint32_t armed, int64_t deadline_ns) {
  lvr_proc_id workers[WATCH_MOST];
  unsigned count = 0;
  for (uint32_t row = 0; row < shm_of(b)->bo_rows && count < WATCH_MOST; row++)
    if ((workers[count] = worker_of(b, row)) != 0) count++;
  return lvri_wait_any(b->handle.session, &b->results.shm->ch_items, armed, workers, count,
                       deadline_ns);
}

int lvr_board_wait_until(lvr_board *b, int64_t deadline_ns) {
  const struct lvri_channel_shm *results = b->results.shm;
  uint32_t mark = lvri_channel_mark(&b->results);
  for (;;) {
    uint32_t armed = lvri_channel_arm(&b->results);
    if (lvri_session_stale(b->handle.session)) return -ESTALE;
    if (lvri_channel_size(results) != 0 || any_over(b)) return 0;
    if (lvri_channel_mark(&b->results) != mark) return -ECANCELED;
    int error = sleep_on_all(b, armed, deadline_ns);
    if (error) return error;
  }
}

void lvr_board_interrupt(lvr_board *b) { lvri_channel_interrupt(&b->results); }

static void close_tasks(lvr_board *b) {
  struct lvri_arena *a = arena_of(b);
  struct lvri_guard *g = lvri_arena_guard(a);
  if (lvri_guard_enter(a, g) != 0) return;
  lvri_channel_close_locked(a, b->tasks.shm, LVRI_CHANNEL_NO_WRITER);
  lvri_channel_ring_closed(a, b->tasks.shm);
  lvri_guard_leave(a, g);
}

/* Not between a put's look and its task, which all workers might leave behind. In a process that
 * does not put, the mutex says nothing; a forked one's may be held by a thread that it has not. */
void lvr_board_close(lvr_board *b) {
  lvr_proc_id self = lvri_session_self(b->handle.session);
  bool puts = self == shm_of(b)->bo_owner;
  if (lvri_session_stale(b->handle.session)) return;
  if (puts) (void)pthread_mutex_lock(&b->putting);
  close_tasks(b);
  if (puts) (void)pthread_mutex_unlock(&b->putting);
}

uint32_t lvr_board_waiting(const lvr_board *b) { return lvri_channel_size(b->tasks.shm); }

/* --- rows ------------------------------------------------------------------------------------ */

uint32_t lvr_board_rows(const lvr_board *b) { return shm_of(b)->bo_rows; }

void lvr_board_look(const lvr_board *b, uint32_t row, struct lvr_board_row *ret_row) {
  const struct lvri_row_shm *shm = &rows_of(shm_of(b))[row];
  uint64_t claim = lvri_load_acquire_u64(&shm->ro_claim);
  uint64_t running = lvri_load_acquire_u64(&shm->ro_running);
  *ret_row = (struct lvr_board_row){
      .worker = lvri_load_acquire_u64(&shm->ro_worker),
      .first = (uint32_t)(claim >> 32),
      .count = (uint32_t)claim,
      .running = (uint32_t)running,
      .is_running = running >> 32,
      .since_ns = (int64_t)lvri_load_relaxed_u64(&shm->ro_since_ns),
      .finished = lvri_load_relaxed_u32(&shm->ro_finished),
      .order = lvri_load_relaxed_u32(&shm->ro_order),
  };
}

/* Whoever takes a mutex from the dead finishes what that one had begun. */
static int pass_through(struct lvr_board *b) {
  struct lvri_arena *a = arena_of(b);
  int error = lvri_channel_lock_get(a, b->tasks.shm, true);
  if (error) return error;
  lvri_channel_unlock(&b->tasks.shm->ch_get_mutex);
  error = lvri_channel_lock_put(a, b->results.shm, true);
  if (!error) lvri_channel_unlock(&b->results.shm->ch_put_mutex);
  return error;
}

int lvr_board_settle(lvr_board *b, uint32_t row) {
  lvr_proc_id worker = row < shm_of(b)->bo_rows ? worker_of(b, row) : 0;
  if (lvri_session_stale(b->handle.session)) return -ESTALE;
  if (worker && lvri_slot_alive_thoroughly(arena_of(b), worker)) return -EBUSY;
  return pass_through(b);
}

static void clear(struct lvri_row_shm *row) {
  lvri_store_relaxed_u64(&row->ro_claim, 0);
  lvri_store_relaxed_u64(&row->ro_running, 0);
  lvri_store_relaxed_u32(&row->ro_finished, 0);
  lvri_store_relaxed_u32(&row->ro_order, 0);
  LVR_CRASHPOINT("board.row.cleared");
  lvri_store_release_u64(&row->ro_worker, 0); /* pairs with the swap in enlist */
}

int lvr_board_bury(lvr_board *b, uint32_t row, struct lvr_board_row *ret_row) {
  if (lvri_session_stale(b->handle.session)) return -ESTALE;
  if (row >= shm_of(b)->bo_rows || !worker_of(b, row)) return -EINVAL;
  if (lvri_slot_alive_thoroughly(arena_of(b), worker_of(b, row))) return -EBUSY;
  lvr_board_look(b, row, ret_row);
  (void)lvri_slot_repair(arena_of(b), ret_row->worker);
  clear(&rows_of(shm_of(b))[row]);
  return 0;
}

void lvr_board_order(lvr_board *b, uint32_t row, uint32_t order) {
  lvri_store_release_u32(&rows_of(shm_of(b))[row].ro_order, order);
}

/* --- a worker -------------------------------------------------------------------------------- */

int lvr_board_enlist(lvr_board *b, uint32_t row) {
  lvr_proc_id self = lvri_session_self(b->handle.session);
  uint64_t nobody = 0;
  if (lvri_session_stale(b->handle.session)) return -ESTALE;
  if (row >= shm_of(b)->bo_rows || b->row) return -EINVAL;
  struct lvri_row_shm *shm = &rows_of(shm_of(b))[row];
  if (!lvri_cas_acquire_u64(&shm->ro_worker, &nobody, self)) return -EBUSY;
  LVR_CRASHPOINT("board.row.enlisted");
  b->row = shm;
  b->tasks.claim = &shm->ro_claim;
  return 0;
}

static uint32_t claimed_first(const struct lvr_board *b) {
  return (uint32_t)(lvri_load_relaxed_u64(&b->row->ro_claim) >> 32);
}

int lvr_board_claim_until(lvr_board *b, void *buf, size_t room, uint32_t most, int64_t deadline_ns,
                          uint32_t *ret_count, size_t *ret_bytes, uint32_t *ret_first) {
  if (!b->row) return -EINVAL;
  int error =
      lvri_channel_get_many_until(&b->tasks, buf, room, most, deadline_ns, ret_count, ret_bytes);
  if (!error && *ret_count) *ret_first = claimed_first(b);
  return error;
}

int lvr_board_claim_block_until(lvr_board *b, struct lvr_message *ret_m, int64_t deadline_ns,
                                uint32_t *ret_number) {
  if (!b->row) return -EINVAL;
  int error = lvri_channel_get_until(&b->tasks, ret_m, deadline_ns);
  if (!error) *ret_number = claimed_first(b);
  return error;
}

void lvr_board_begin(lvr_board *b, uint32_t number) {
  lvri_store_relaxed_u64(&b->row->ro_since_ns, (uint64_t)lvri_os_now_ns());
  lvri_store_release_u64(&b->row->ro_running, UINT64_C(1) << 32 | number);
  LVR_CRASHPOINT("board.task.begun");
}

int lvr_board_finish(lvr_board *b, const void *data, size_t bytes, lvr_block *block) {
  struct lvri_put put = {.data = data, .bytes = bytes, .block = block};
  if (!b->row || bytes > LVR_MESSAGE_INLINE) return -EINVAL;
  int error = lvri_channel_try_put(&b->results, &put, true);
  if (error) return error;
  LVR_CRASHPOINT("board.task.finished");
  lvri_store_relaxed_u32(&b->row->ro_finished, lvri_load_relaxed_u32(&b->row->ro_finished) + 1);
  return 0;
}

uint32_t lvr_board_ordered(const lvr_board *b) {
  return b->row ? lvri_load_acquire_u32(&b->row->ro_order) : 0;
}

/* --- for kinds.c ------------------------------------------------------------------------------ */

bool lvri_board_drain_locked(struct lvri_arena *a, lvri_off object) {
  struct lvr_board_shm *shm = lvri_at(a, object);
  return lvri_channel_drain_locked(a, &shm->bo_tasks) &&
         lvri_channel_drain_locked(a, &shm->bo_results);
}

void lvri_board_each(struct lvri_arena *a, lvri_off object,
                     void (*visit)(void *context, lvri_off to), void *context) {
  struct lvr_board_shm *shm = lvri_at(a, object);
  lvri_channel_each(a, &shm->bo_tasks, visit, context);
  lvri_channel_each(a, &shm->bo_results, visit, context);
}

void lvri_board_close(struct lvri_handle *h) {
  struct lvr_board *b = (struct lvr_board *)(void *)h;
  if (b->tasks.handle) (void)pthread_mutex_destroy(&b->putting);
}

bool lvri_board_valid(struct lvri_arena *a, lvri_off object) {
  struct lvr_board_shm *shm = lvri_at(a, object);
  return lvri_channel_valid(a, &shm->bo_tasks) && lvri_channel_valid(a, &shm->bo_results);
}
