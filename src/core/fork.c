/* fork.c - every child of this process is a process of its sessions, whoever calls fork().
 *
 *   before, in the parent    take the private locks; make an embryo with a copy of our ledger
 *   after, in the parent     let go
 *   after, in the child      adopt the embryo; or be nobody, if there was no room for one
 *
 * A fork that fails leaves an embryo that nobody adopts: it is reclaimed by its age, or, if it was
 * prepared by name, by whoever prepared it. */
#include <errno.h>
#include <pthread.h>

#include "base/crashpoint.h"
#include "core/ledger.h"
#include "core/object.h"
#include "core/process.h"
#include "core/repair.h"
#include "core/session.h"
#include "core/slots.h"
#include "leveret/process.h"
#include "os/os.h"

/* Whom this thread's next fork gives birth to, in which session. */
static _Thread_local struct {
  lvr_session *session;
  lvr_proc_id child;
} next_fork;

/* --- naming -------------------------------------------------------------------------------- */

static bool is_our_embryo(lvr_session *s, lvr_proc_id child) {
  const struct lvri_slot *slot = lvri_slot_of(&s->arena, child);
  return slot && slot->sl_parent == lvri_session_self(s) &&
         lvri_load_acquire_u32(&slot->sl_state) == LVRI_SLOT_EMBRYO;
}

int lvr_proc_fork_next(lvr_session *s, lvr_proc_id child) {
  if (lvri_session_stale(s)) return -ESTALE;
  if (child && child != LVR_PROC_NOBODY && !is_our_embryo(s, child)) return -ESRCH;
  next_fork.session = child ? s : NULL;
  next_fork.child = child;
  return 0;
}

/* --- before -------------------------------------------------------------------------------- */

/* Our death must not reclaim it while the kernel is making the process that will adopt it. */
static int note_forking(lvr_session *s, lvr_proc_id child) {
  struct lvri_guard *g = lvri_arena_guard(&s->arena);
  int error = lvri_guard_enter(&s->arena, g);
  if (error) return error;
  struct lvri_slot *slot = lvri_slot_of(&s->arena, child);
  if (slot) {
    uint32_t flags = lvri_load_relaxed_u32(&slot->sl_flags) | LVRI_PROC_FORKING;
    lvri_set32_shared(&s->arena, g, &slot->sl_flags, flags);
    slot->sl_prepared_ns = (uint64_t)lvri_os_now_ns(); /* its age counts from here */
  }
  lvri_guard_leave(&s->arena, g);
  return slot ? 0 : -ESRCH;
}

void lvri_proc_forked(lvr_session *s, lvr_proc_id child, int32_t pid) {
  struct lvri_guard *g = lvri_arena_guard(&s->arena);
  if (lvri_session_stale(s) || !is_our_embryo(s, child) || lvri_guard_enter(&s->arena, g) != 0)
    return;
  if (is_our_embryo(s, child)) {
    struct lvri_slot *slot = lvri_slot_of(&s->arena, child);
    lvri_set64(&s->arena, g, &slot->sl_born_ticks, lvri_os_boot_ticks());
    lvri_set32(&s->arena, g, &slot->sl_forked, (uint32_t)pid);
  }
  LVR_CRASHPOINT("process.forked.noted");
  lvri_guard_leave(&s->arena, g);
}

static int choose_child(lvr_session *s, lvr_proc_id *ret_child) {
  if (next_fork.session != s)
    return lvri_slot_prepare(&s->arena, lvri_session_self(s), LVRI_PROC_FORKING, ret_child);
  if (next_fork.child == LVR_PROC_NOBODY) return -ECHILD;
  *ret_child = next_fork.child;
  int error = note_forking(s, next_fork.child);
  return error ? error : lvri_object_borrow_gifts(s, next_fork.child);
}

static lvr_proc_id make_child(lvr_session *s) {
  lvr_proc_id child = 0;
  int error = choose_child(s, &child);
  if (!error) error = lvri_ledger_copy(&s->arena, lvri_session_self(s), child);
  if (!error) return child;
  if (child && lvri_slot_set_over(&s->arena, child) == 0) (void)lvri_slot_repair(&s->arena, child);
  return 0;
}

static void before(void) {
  lvri_sessions_lock();
  for (lvr_session *s = lvri_sessions_first(); s; s = s->next) {
    (void)pthread_mutex_lock(&s->mutex);
    s->fork_child = lvri_session_stale(s) ? 0 : make_child(s);
    LVR_CRASHPOINT("fork.prepared");
  }
}

/* --- after --------------------------------------------------------------------------------- */

static void after_in_parent(void) {
  for (lvr_session *s = lvri_sessions_first(); s; s = s->next) {
    lvri_object_return_gifts(s);
    (void)pthread_mutex_unlock(&s->mutex);
  }
  next_fork.session = NULL;
  lvri_sessions_unlock();
}

static void after_in_child(void) {
  lvri_rank_forget();
  next_fork.session = NULL;
  for (lvr_session *s = lvri_sessions_first(); s; s = s->next) {
    s->fork_generation++;
    lvri_bond_forget(s);
    if (s->fork_child) (void)lvri_session_become_fork(s, s->fork_child);
    s->fork_child = 0;
    lvri_object_keep_gifts(s);
    (void)pthread_mutex_unlock(&s->mutex);
  }
  lvri_sessions_unlock();
}

int lvri_fork_watch(void) { return -pthread_atfork(before, after_in_parent, after_in_child); }
