#include <errno.h>

#include "base/crashpoint.h"
#include "core/board_inner.h"
#include "core/channel_inner.h"

#define TASK_BYTES_MIN 4u /* what lvr_board_cancel() writes */

/* --- handles ------------------------------------------------------------------------------- */

static void describe(struct lvr_board *b, struct lvri_handle *h) {
  b->results.handle = b->tasks.handle = h;
  b->results.shm = &lvri_board_shm(b)->bo_results;
  b->tasks.shm = b->results.source = &lvri_board_shm(b)->bo_tasks;
  b->tasks.pace_ns = INT64_MAX;
  (void)pthread_mutex_init(&b->putting, NULL);
}

/* Once: a second attach finds the handle in use. In the mutex: two threads may attach at once. */
static struct lvr_board *ready(struct lvri_handle *h) {
  struct lvr_board *b = (struct lvr_board *)(void *)h;
  lvri_session_lock(h->session);
  if (!b->tasks.handle) describe(b, h);
  lvri_session_unlock(h->session);
  return b;
}

static int init(struct lvr_board *b, uint32_t rows) {
  struct lvr_board_shm *shm = lvri_board_shm(b);
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

/* In a forked child a thread that it has not may hold the mutex. */
static int owner_only(const struct lvr_board *b) {
  if (lvri_session_stale(b->handle.session)) return -ESTALE;
  return lvri_board_is_owner(b) ? 0 : -EPERM;
}

static bool is_task(size_t bytes) { return bytes >= TASK_BYTES_MIN && bytes <= LVR_MESSAGE_INLINE; }

static bool are_tasks(const struct lvr_slice *tasks, uint32_t count) {
  for (uint32_t i = 0; i < count; i++)
    if (!is_task(tasks[i].bytes)) return false;
  return true;
}

/* Tasks were put, behind a fence: where somebody sleeps until there are results no worker naps. Who
 * begins to sleep after that, to wait for results or to take them, sees the tasks, and does the
 * same. */
static void hurry(lvr_board *b) {
  bool waits = lvri_load_relaxed_u32(&b->results.shm->ch_items) & LVRI_BELL_SLEEPER;
  lvri_channel_hurry_source(&b->results, waits);
}

int lvr_board_put(lvr_board *b, const void *data, size_t bytes, lvr_block *block,
                  uint32_t *ret_number) {
  struct lvri_put put = {.data = data, .bytes = bytes, .block = block};
  int error = is_task(bytes) ? owner_only(b) : -EINVAL;
  if (error) return error;
  (void)pthread_mutex_lock(&b->putting);
  uint32_t number = next_number(b);
  lvri_channel_note_cpu(b->tasks.shm);
  error = lvri_channel_try_put(&b->tasks, &put, true);
  (void)pthread_mutex_unlock(&b->putting);
  if (error) return error;
  hurry(b);
  *ret_number = number;
  return 0;
}

int lvr_board_put_many(lvr_board *b, const struct lvr_slice *tasks, uint32_t count,
                       uint32_t *ret_put, uint32_t *ret_first) {
  int error = are_tasks(tasks, count) ? owner_only(b) : -EINVAL;
  *ret_put = 0;
  if (error) return error;
  (void)pthread_mutex_lock(&b->putting);
  *ret_first = next_number(b);
  lvri_channel_note_cpu(b->tasks.shm);
  error = lvri_channel_put_many_until(&b->tasks, tasks, count, 0, ret_put);
  (void)pthread_mutex_unlock(&b->putting);
  if (*ret_put) hurry(b);
  return error;
}

int lvr_board_cancel(lvr_board *b, uint32_t number) {
  int error = owner_only(b);
  return error ? error : lvri_channel_overwrite(&b->tasks, number, LVR_BOARD_CANCELLED, true);
}

int lvri_board_try_cancel(lvr_board *b, uint32_t number) {
  int error = owner_only(b);
  return error ? error : lvri_channel_overwrite(&b->tasks, number, LVR_BOARD_CANCELLED, false);
}

int lvri_board_await_claims(lvr_board *b) {
  int error = lvri_channel_lock_get(lvri_board_arena(b), b->tasks.shm, true);
  if (!error) lvri_channel_unlock(&b->tasks.shm->ch_get_mutex);
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

/* --- closing, looking ----------------------------------------------------------------------- */

/* With the put mutex: not between a put's look and its task, which all workers might leave behind.
 * Where it is lost for good nobody puts any more. By one store that nobody takes back: a worker
 * that has seen it has left. Who is killed behind it wakes by his death those who sleep. */
void lvr_board_close(lvr_board *b) {
  struct lvri_channel_shm *shm = b->tasks.shm;
  if (lvri_session_stale(b->handle.session)) return;
  int error = lvri_channel_lock_put(lvri_board_arena(b), shm, true);
  (void)lvri_fetch_or_release_u32(&shm->ch_closed, LVRI_CHANNEL_NO_WRITER);
  LVR_CRASHPOINT("board.tasks.closed");
  if (!error) lvri_channel_unlock(&shm->ch_put_mutex);
  lvri_channel_ring_all(shm);
}

uint32_t lvr_board_waiting(const lvr_board *b) { return lvri_channel_size(b->tasks.shm); }

/* --- for kinds.c ---------------------------------------------------------------------------- */

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
