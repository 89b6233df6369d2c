#include "core/process.h"

#include <errno.h>
#include <string.h>

#include "base/crashpoint.h"
#include "core/kinds.h"
#include "core/ledger.h"
#include "core/object.h"
#include "core/repair.h"
#include "core/slots.h"
#include "core/wait.h"
#include "os/link.h"
#include "os/os.h"

static uint32_t state_of(const struct lvri_slot *slot) {
  return lvri_load_acquire_u32(&slot->sl_state);
}

static bool is_embryo(const struct lvri_slot *slot) {
  return slot && state_of(slot) == LVRI_SLOT_EMBRYO;
}

/* An embryo, or why not. */
static int need_embryo(const struct lvri_slot *slot) {
  if (!slot) return -ESRCH;
  if (is_embryo(slot)) return 0;
  return lvri_load_relaxed_u32(&slot->sl_pid) ? -EBUSY : -ESRCH;
}

/* What the guard protects is as it was, or as it shall be. */
static int end_transaction(struct lvri_arena *a, int error) {
  if (error)
    lvri_guard_abort(a, lvri_arena_guard(a));
  else
    lvri_guard_leave(a, lvri_arena_guard(a));
  return error;
}

/* --- before birth -------------------------------------------------------------------------- */

lvr_proc_id lvr_proc_self(const lvr_session *s) { return lvri_session_self(s); }

int lvr_proc_prepare(lvr_session *s, uint32_t flags, lvr_proc_id *ret_id) {
  if (lvri_session_stale(s)) return -ESTALE;
  if (flags & ~(LVR_PROC_WATCHED | LVR_PROC_DAEMON)) return -EINVAL;
  return lvri_slot_prepare(&s->arena, lvri_session_self(s), flags, ret_id);
}

static int give_locked(struct lvri_arena *a, lvr_proc_id child, const lvr_ref *ref) {
  struct lvri_object_shm *object;
  uint32_t index;
  int error = need_embryo(lvri_slot_of(a, child));
  if (!error) error = lvri_object_find_locked(a, ref, &object);
  if (!error) error = lvri_ledger_add_locked(a, child, ref->off, &index);
  if (error) return error;
  lvri_set32(a, lvri_arena_guard(a), &object->ob_refs, object->ob_refs + 1);
  LVR_CRASHPOINT("process.give.entered");
  return 0;
}

int lvr_proc_give(lvr_session *s, lvr_proc_id child, const lvr_ref *object) {
  struct lvri_arena *a = &s->arena;
  if (lvri_session_stale(s)) return -ESTALE;
  int error = lvri_guard_enter(a, lvri_arena_guard(a));
  return error ? error : end_transaction(a, give_locked(a, child, object));
}

int lvr_proc_adopt(lvr_session *s, lvr_proc_id prepared) {
  if (!lvri_session_stale(s)) return -EALREADY;
  return lvri_session_become(s, prepared);
}

/* Its parent does not want to know how it ended. */
static void unwatch_locked(struct lvri_arena *a, struct lvri_slot *slot) {
  uint32_t flags = lvri_load_relaxed_u32(&slot->sl_flags) & ~LVR_PROC_WATCHED;
  lvri_set32_shared(a, lvri_arena_guard(a), &slot->sl_flags, flags);
}

static int withdraw_locked(struct lvri_arena *a, lvr_proc_id id) {
  struct lvri_slot *slot = lvri_slot_of(a, id);
  int error = need_embryo(slot);
  if (error) return error;
  unwatch_locked(a, slot);
  lvri_set32_shared(a, lvri_arena_guard(a), &slot->sl_state, LVRI_SLOT_OVER);
  LVR_CRASHPOINT("process.withdraw.over");
  return 0;
}

int lvr_proc_withdraw(lvr_session *s, lvr_proc_id prepared) {
  struct lvri_arena *a = &s->arena;
  if (lvri_session_stale(s)) return -ESTALE;
  int error = lvri_guard_enter(a, lvri_arena_guard(a));
  if (!error) error = end_transaction(a, withdraw_locked(a, prepared));
  if (error) return error;
  struct lvri_slot *slot = lvri_slot_of(a, prepared);
  if (slot) lvri_slot_tell(slot);
  return lvri_slot_repair(a, prepared);
}

/* --- the payload of a birth ---------------------------------------------------------------- */

/* In front of the bytes: how many. */
struct task {
  uint64_t tk_len;
  uint64_t tk_reserved;
};

static int put_task_locked(struct lvri_arena *a, lvr_proc_id id, const void *bytes, size_t len) {
  struct lvri_slot *slot = lvri_slot_of(a, id);
  lvri_off off;
  if (!is_embryo(slot)) return -ESRCH;
  if (slot->sl_task) return -EBUSY;
  int error = lvri_heap_alloc_locked(a, sizeof(struct task) + len, LVRI_KIND_TASK, &off);
  if (error) return error;
  struct task *task = lvri_at(a, off);
  task->tk_len = len;
  if (len) memcpy(task + 1, bytes, len);
  lvri_set64(a, lvri_arena_guard(a), &slot->sl_task, off);
  LVR_CRASHPOINT("process.task.put");
  return 0;
}

int lvri_proc_put_task(lvr_session *s, lvr_proc_id id, const void *bytes, size_t len) {
  struct lvri_arena *a = &s->arena;
  if (lvri_session_stale(s)) return -ESTALE;
  int error = lvri_guard_enter(a, lvri_arena_guard(a));
  return error ? error : end_transaction(a, put_task_locked(a, id, bytes, len));
}

int lvri_proc_get_task(lvr_session *s, lvr_proc_id id, const void **ret_bytes, size_t *ret_len) {
  const struct lvri_slot *slot = lvri_slot_of(&s->arena, id);
  const struct task *task = slot ? lvri_at(&s->arena, slot->sl_task) : NULL;
  if (!task) return -ENOENT;
  *ret_bytes = task + 1;
  *ret_len = task->tk_len;
  return 0;
}

void lvri_proc_drop_task(lvr_session *s, lvr_proc_id id) {
  struct lvri_arena *a = &s->arena;
  struct lvri_guard *g = lvri_arena_guard(a);
  if (lvri_guard_enter(a, g) != 0) return;
  struct lvri_slot *slot = lvri_slot_of(a, id);
  if (slot && slot->sl_task) {
    lvri_heap_free_locked(a, slot->sl_task);
    lvri_set64(a, g, &slot->sl_task, 0);
    LVR_CRASHPOINT("process.task.dropped");
  }
  lvri_guard_leave(a, g);
}

/* --- the end ------------------------------------------------------------------------------- */

void lvr_proc_announce(lvr_session *s, int32_t status) {
  lvri_sessions_lock();
  if (!lvri_session_stale(s)) lvri_session_resign(s, &status);
  lvri_sessions_unlock();
}

int lvr_proc_set_status(lvr_session *s, lvr_proc_id id, int32_t status) {
  if (lvri_session_stale(s)) return -ESTALE;
  int error = lvri_slot_set_status(&s->arena, id, status);
  if (error && error != -EALREADY) return error;
  int repaired = lvri_slot_repair(&s->arena, id);
  return error ? error : repaired;
}

int lvr_repair(lvr_session *s) {
  if (lvri_session_stale(s)) return -ESTALE;
  for (uint32_t index = 1; index <= lvri_slots_of(&s->arena)->st_count; index++) {
    const struct lvri_slot *slot = lvri_slot_at(&s->arena, index);
    uint32_t state = state_of(slot);
    if (state != LVRI_SLOT_FREE && state != LVRI_SLOT_EMBRYO)
      (void)lvri_slot_alive_thoroughly(&s->arena, lvri_load_acquire_u64(&slot->sl_id));
  }
  return lvri_slots_sweep(&s->arena);
}

static int forget_locked(lvr_session *s, lvr_proc_id id) {
  struct lvri_arena *a = &s->arena;
  struct lvri_slot *slot = lvri_slot_of(a, id);
  if (!slot) return -ESRCH;
  if (slot->sl_parent != lvri_session_self(s)) return -EPERM;
  unwatch_locked(a, slot);
  (void)lvri_slot_free_locked(a, slot);
  LVR_CRASHPOINT("process.forget.unwatched");
  return 0;
}

int lvr_proc_forget(lvr_session *s, lvr_proc_id id) {
  struct lvri_arena *a = &s->arena;
  if (lvri_session_stale(s)) return -ESTALE;
  int error = lvri_guard_enter(a, lvri_arena_guard(a));
  if (!error) error = end_transaction(a, forget_locked(s, id));
  if (error) return error;
  if (lvri_slot_over(a, id)) (void)lvri_slot_repair(a, id);
  return 0;
}

/* --- waiting ------------------------------------------------------------------------------- */

/* One look. 0 and the status; -ENODATA: over, and nobody has said how; -EAGAIN: not over. */
static int look_at_end(const struct lvri_slot *slot, bool over, int32_t *ret_status) {
  if (!over) return -EAGAIN;
  /* pairs with set_status_locked(): the status was there before it was known */
  if (!lvri_load_acquire_u32(&slot->sl_status_known)) return -ENODATA;
  *ret_status = (int32_t)lvri_load_relaxed_u32(&slot->sl_status);
  return 0;
}

/* The slot, if the process may still be waited for: its number of news is read before its state. */
static struct lvri_slot *watch_slot(lvr_session *s, lvr_proc_id id, uint32_t *ret_news) {
  struct lvri_slot *slot = lvri_slot_at(&s->arena, lvri_proc_index(id));
  if (!slot) return NULL;
  *ret_news = lvri_load_acquire_u32(&slot->sl_news); /* pairs with lvri_slot_tell() */
  return lvri_slot_of(&s->arena, id);
}

/* Whom a wait can watch: an embryo has no life that could end. */
static lvr_proc_id mortal(lvr_session *s, lvr_proc_id id) {
  return is_embryo(lvri_slot_of(&s->arena, id)) ? 0 : id;
}

/* The answer. What we have read of the slot was the process's only if it still is. */
static int still(lvr_session *s, lvr_proc_id id, int result) {
  return lvri_slot_of(&s->arena, id) ? result : -ESRCH;
}

int lvr_proc_wait_until(lvr_session *s, lvr_proc_id id, int64_t deadline_ns, int32_t *ret_status) {
  for (;;) {
    uint32_t news;
    int32_t status = 0;
    if (lvri_session_stale(s)) return -ESTALE;
    struct lvri_slot *slot = watch_slot(s, id, &news);
    if (!slot) return -ESRCH;
    int result = look_at_end(slot, lvri_slot_over(&s->arena, id), &status);
    if (result != -EAGAIN) {
      result = still(s, id, result);
      (void)lvri_slot_repair(&s->arena, id);
      if (!result) *ret_status = status;
      return result;
    }
    result = lvri_wait(s, &slot->sl_news, news, mortal(s, id), deadline_ns);
    if (result) return result;
  }
}

int lvr_proc_wait_status_until(lvr_session *s, lvr_proc_id id, lvr_proc_id reaper,
                               int64_t deadline_ns, int32_t *ret_status) {
  for (;;) {
    uint32_t news;
    int32_t status = 0;
    if (lvri_session_stale(s)) return -ESTALE;
    struct lvri_slot *slot = watch_slot(s, id, &news);
    if (!slot) return -ESRCH;
    bool hopeless =
        lvri_slot_over(&s->arena, reaper); /* read first: it may have said it last of all */
    int result = look_at_end(slot, lvri_slot_over(&s->arena, id), &status);
    if (result == 0 || (result == -ENODATA && hopeless)) {
      result = still(s, id, result);
      if (!result) *ret_status = status;
      return result;
    }
    result = lvri_wait(s, &slot->sl_news, news, mortal(s, hopeless ? id : reaper), deadline_ns);
    if (result) return result;
  }
}

/* 0 and the pid; -EAGAIN: an embryo; -ESRCH: it was withdrawn. */
static int look_at_birth(const struct lvri_slot *slot, int32_t *ret_pid) {
  if (is_embryo(slot)) return -EAGAIN;
  uint32_t pid = lvri_load_relaxed_u32(&slot->sl_pid);
  if (!pid) return -ESRCH;
  *ret_pid = (int32_t)pid;
  return 0;
}

/* The same behind the guard: what was seen before it may be the work of one who died without a
 * commit, and is taken back by whoever enters. */
static int confirm_birth(lvr_session *s, lvr_proc_id id, int32_t *ret_pid) {
  struct lvri_guard *g = lvri_arena_guard(&s->arena);
  int error = lvri_guard_enter(&s->arena, g);
  if (error) return error;
  const struct lvri_slot *slot = lvri_slot_of(&s->arena, id);
  int result = slot ? look_at_birth(slot, ret_pid) : -ESRCH;
  lvri_guard_leave(&s->arena, g);
  return result;
}

int lvri_proc_wait_born_until(lvr_session *s, lvr_proc_id id, lvr_proc_id watch,
                              int64_t deadline_ns, int32_t *ret_pid) {
  for (;;) {
    uint32_t news;
    int32_t pid = 0;
    if (lvri_session_stale(s)) return -ESTALE;
    struct lvri_slot *slot = watch_slot(s, id, &news);
    if (!slot) return -ESRCH;
    bool orphan = watch && lvri_slot_over(&s->arena, watch); /* read first */
    int result = look_at_birth(slot, &pid);
    if (result != -EAGAIN) result = confirm_birth(s, id, &pid);
    if (result != -EAGAIN) {
      if (!result) *ret_pid = pid;
      return result;
    }
    if (orphan) return -EOWNERDEAD;
    result = lvri_wait(s, &slot->sl_news, news, mortal(s, watch), deadline_ns);
    if (result) return result;
  }
}

int lvr_proc_wait_born_until(lvr_session *s, lvr_proc_id id, int64_t deadline_ns,
                             int32_t *ret_pid) {
  return lvri_proc_wait_born_until(s, id, 0, deadline_ns, ret_pid);
}

/* --- looking ------------------------------------------------------------------------------- */

bool lvr_proc_is_alive(lvr_session *s, lvr_proc_id id) { return lvri_slot_alive(&s->arena, id); }

/* Dead, but nobody has noticed yet. */
static uint32_t public_state(lvr_session *s, const struct lvri_slot *slot, lvr_proc_id id) {
  uint32_t state = state_of(slot);
  if (state == LVRI_SLOT_RUNNING && !lvri_slot_alive(&s->arena, id)) return LVR_PROC_OVER;
  return state;
}

int lvr_proc_info(lvr_session *s, lvr_proc_id id, struct lvr_proc_info *ret_info) {
  const struct lvri_slot *slot = lvri_slot_of(&s->arena, id);
  if (!slot) return -ESRCH;
  struct lvr_proc_info info = {
      .id = id,
      .parent = slot->sl_parent,
      .born_ticks = slot->sl_born_ticks,
      .state = public_state(s, slot, id),
      .flags = lvri_load_relaxed_u32(&slot->sl_flags) & (LVR_PROC_WATCHED | LVR_PROC_DAEMON),
      .status_known = lvri_load_acquire_u32(&slot->sl_status_known) != 0, /* before the status */
      .pid = (int32_t)lvri_load_relaxed_u32(&slot->sl_pid),
  };
  info.status = (int32_t)lvri_load_relaxed_u32(&slot->sl_status);
  if (still(s, id, 0)) return -ESRCH;
  *ret_info = info;
  return 0;
}

/* --- signals ------------------------------------------------------------------------------- */

/* A pid is given away after its process was reaped,
 * and a process that gets it later started later. */
bool lvri_proc_is_there(lvr_session *s, lvr_proc_id id, int32_t pid) {
  struct lvr_proc_info info;
  if (lvr_proc_info(s, id, &info) < 0) return false;
  if (info.state < LVR_PROC_OVER || lvri_os_is_child(pid)) return true;
  return lvri_os_process_is(pid, info.born_ticks);
}

/* Looked at once there is a descriptor, which is never somebody else's. Without one to spare the
 * pid has to do: it was that process's a moment ago. */
int lvri_proc_signal(lvr_session *s, lvr_proc_id id, int32_t pid, int signo) {
  struct lvr_proc_info info;
  if (pid == 0 && lvr_proc_info(s, id, &info) == 0) pid = info.pid;
  int pidfd = pid == 0 ? -ESRCH : lvri_os_pidfd_open(pid);
  bool no_room = pidfd == -EMFILE || pidfd == -ENFILE;
  int error = -ESRCH;

  if (pidfd < 0 && !no_room) return pidfd;
  if (lvri_proc_is_there(s, id, pid))
    error = no_room ? lvri_os_signal(pid, signo) : lvri_os_pidfd_signal(pidfd, signo);
  lvri_os_close(no_room ? -1 : pidfd);
  return error;
}
