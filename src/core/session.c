#include "core/session.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crashpoint.h"
#include "core/ledger.h"
#include "core/object.h"
#include "core/repair.h"
#include "core/slots.h"
#include "os/os.h"

/* --- the list of sessions ------------------------------------------------------------------ */

static pthread_mutex_t list_mutex = PTHREAD_MUTEX_INITIALIZER;
static lvr_session *list;

void lvri_sessions_lock(void) { (void)pthread_mutex_lock(&list_mutex); }

void lvri_sessions_unlock(void) { (void)pthread_mutex_unlock(&list_mutex); }

lvr_session *lvri_sessions_first(void) { return list; }

static void list_add(lvr_session *s) {
  lvri_sessions_lock();
  s->next = list;
  list = s;
  lvri_sessions_unlock();
}

static void list_remove_locked(lvr_session *s) {
  for (lvr_session **at = &list; *at; at = &(*at)->next) {
    if (*at != s) continue;
    *at = s->next;
    return;
  }
}

void lvri_session_lock(lvr_session *s) {
  lvri_rank_take(LVRI_RANK_PRIVATE);
  (void)pthread_mutex_lock(&s->mutex);
}

void lvri_session_unlock(lvr_session *s) {
  (void)pthread_mutex_unlock(&s->mutex);
  lvri_rank_give(LVRI_RANK_PRIVATE);
}

/* --- the thread that holds the alive word -------------------------------------------------- */

static pthread_key_t thread_key; /* set in threads that hold one: its destructor lets go */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int once_error;

static void unmap(lvr_session *s) {
  lvri_arena_fini(&s->arena);
  lvri_os_wiped_page_free(s->identity);
  lvri_handles_fini(&s->handles);
  (void)pthread_mutex_destroy(&s->mutex);
  free(s);
}

static bool armed_by_me(const lvr_session *s) {
  return s->identity->armed && pthread_equal(s->identity->armed_by, pthread_self());
}

static void note_armed(lvr_session *s) {
  s->identity->armed = 1;
  s->identity->armed_by = pthread_self();
  lvri_store_relaxed_u32(&s->identity->unarmed, 0);
  (void)pthread_setspecific(thread_key, &list); /* any pointer but NULL */
}

static void let_go(lvr_session *s) {
  _Atomic uint32_t *word = lvri_mutex_word(&s->slot->sl_alive);
  s->identity->armed = 0;
  lvri_mutex_unlock(&s->slot->sl_alive);
  LVR_CRASHPOINT("session.alive.unlocked");
  (void)lvri_os_futex_wake(word, INT_MAX);
}

/* The thread ends, the process goes on, as far as anybody knows: "ask the kernel" is said before
 * the word is let go, so nobody sees a word without an owner and does not know why. Or the process
 * has left already, and the mapping only waited for this. */
static void disarm_locked(lvr_session *s) {
  if (!s->left) {
    lvri_store_release_u32(&s->slot->sl_ask, 1); /* pairs with look() in slots.c */
    LVR_CRASHPOINT("session.alive.ask");
    lvri_store_relaxed_u32(&s->identity->unarmed, 1);
  }
  let_go(s);
}

static void thread_ends(void *unused) {
  (void)unused;
  lvri_sessions_lock();
  for (lvr_session *s = list, *next; s; s = next) {
    next = s->next;
    if (!armed_by_me(s)) continue;
    disarm_locked(s);
    if (!s->left) continue;
    list_remove_locked(s);
    unmap(s);
  }
  lvri_sessions_unlock();
}

static void rearm_locked(lvr_session *s) {
  if (!lvri_load_relaxed_u32(&s->identity->unarmed) || lvri_session_stale(s)) return;
  if (lvri_mutex_trylock(&s->slot->sl_alive) != 0) return;
  LVR_CRASHPOINT("session.alive.rearmed");
  lvri_store_release_u32(&s->slot->sl_ask, 0); /* after the lock: pairs with look() in slots.c */
  note_armed(s);
}

void lvri_session_rearm(lvr_session *s) {
  if (__builtin_expect(!lvri_load_relaxed_u32(&s->identity->unarmed), 1)) return;
  lvri_sessions_lock();
  rearm_locked(s);
  lvri_sessions_unlock();
}

static void set_up_process(void) {
  once_error = -pthread_key_create(&thread_key, thread_ends);
  if (!once_error) once_error = lvri_fork_watch();
}

/* --- who we are ---------------------------------------------------------------------------- */

static void say_who_we_are(lvr_session *s, lvr_proc_id id) {
  s->slot = lvri_slot_of(&s->arena, id);
  note_armed(s);
  lvri_store_relaxed_u64(&s->identity->id, id);
  lvri_store_release_u64(&s->identity->owner_word, lvri_owner_make(id, lvri_os_pid()));
}

int lvri_session_become_fork(lvr_session *s, lvr_proc_id id) {
  int error = lvri_slot_adopt(&s->arena, id);
  if (!error) say_who_we_are(s, id);
  return error;
}

void lvri_session_resign(lvr_session *s, const int32_t *status) {
  lvr_proc_id id = lvri_session_self(s);
  lvri_store_relaxed_u64(&s->identity->owner_word, 0);
  lvri_store_relaxed_u64(&s->identity->id, 0);
  lvri_store_relaxed_u32(&s->identity->unarmed, 0);
  if (status)
    (void)lvri_slot_set_status(&s->arena, id, *status);
  else
    (void)lvri_slot_set_over(&s->arena, id);
  LVR_CRASHPOINT("session.resigned");
  if (armed_by_me(s)) let_go(s);
}

/* A session that nobody is in any more, over the same arena. */
static lvr_session *make_past(const lvr_session *s) {
  static struct lvri_identity nobody;
  lvr_session *past = calloc(1, sizeof(*past));
  if (!past) return NULL;
  past->arena = s->arena;
  past->identity = &nobody;
  (void)pthread_mutex_init(&past->mutex, NULL);
  return past;
}

/* Handles of the time before are handles of the new process too: a spare has those that the zygote
 * made when it imported the program. Where the object is gone they are stale for ever: whoever has
 * them may still ask, and detach. */
static int carry_handles(lvr_session *s, const struct lvri_handles *before) {
  lvr_session *past = NULL;
  for (size_t at = 0; at < before->room; at++) {
    struct lvri_handle *handle = before->records[at].handle;
    int error = handle ? lvri_object_carry(handle) : 0;
    if (error == -ESTALE) {
      if (!past && !(past = make_past(s))) return -ENOMEM;
      handle->session = past;
    } else if (error) {
      return error;
    }
  }
  return 0;
}

/* One entry of the ledger that we found. A gift that was given twice is kept once. */
static int take_entry(lvr_session *s, lvr_proc_id id, uint32_t index) {
  struct lvri_guard *g = lvri_arena_guard(&s->arena);
  lvri_off off = lvri_ledger_entry(&s->arena, s->slot->sl_ledger, index)->le_object;
  if (!off) return 0;
  if (!lvri_handles_find(&s->handles, off)) {
    int error = lvri_handles_reserve(&s->handles);
    if (!error) lvri_handles_add(&s->handles, off)->index = index;
    return error;
  }
  int error = lvri_guard_enter(&s->arena, g);
  if (error) return error;
  lvri_ledger_drop_locked(&s->arena, id, index);
  lvri_object_unref_locked(&s->arena, off);
  lvri_guard_leave(&s->arena, g);
  return 0;
}

static void undo_become(lvr_session *s) {
  lvri_sessions_lock();
  lvri_session_resign(s, NULL);
  lvri_sessions_unlock();
  lvri_handles_fini(&s->handles);
}

int lvri_session_become(lvr_session *s, lvr_proc_id id) {
  int error = lvri_slot_adopt(&s->arena, id);
  if (error) return error;
  struct lvri_handles before = s->handles;
  s->handles = (struct lvri_handles){0};
  lvri_sessions_lock();
  say_who_we_are(s, id);
  lvri_sessions_unlock();
  for (uint32_t i = 0; !error && i < lvri_ledger_len(&s->arena, s->slot->sl_ledger); i++)
    error = take_entry(s, id, i);
  if (!error) error = carry_handles(s, &before);
  lvri_handles_fini(&before);
  if (error) undo_become(s);
  return error;
}

/* --- create, attach, detach ---------------------------------------------------------------- */

static int make_session(lvr_session **ret_s) {
  (void)pthread_once(&once, set_up_process);
  if (once_error) return once_error;
  lvr_session *s = calloc(1, sizeof(*s));
  if (!s) return -ENOMEM;
  void *page;
  int error = lvri_os_wiped_page(&page);
  if (error) {
    free(s);
    return error;
  }
  s->identity = page;
  s->arena.fd = -1;
  (void)pthread_mutex_init(&s->mutex, NULL);
  *ret_s = s;
  return 0;
}

/* A new process that nobody has prepared. */
static int become_new(lvr_session *s) {
  lvr_proc_id id;
  int error = lvri_slot_prepare(&s->arena, 0, LVRI_PROC_FORKING, &id);
  return error ? error : lvri_session_become(s, id);
}

static int finish(lvr_session *s, int error, lvr_session **ret_s) {
  if (error) {
    if (s) unmap(s);
    return error;
  }
  list_add(s);
  *ret_s = s;
  return 0;
}

int lvr_session_create(const struct lvr_session_options *options, lvr_session **ret_s) {
  uint32_t limit = options && options->max_processes ? options->max_processes : LVRI_SLOTS_DEFAULT;
  if (limit >= LVRI_SLOTS_MAX) return -EINVAL;
  lvr_session *s = NULL;
  int error = make_session(&s);
  if (!error) error = lvri_arena_create(options ? options->reserve_bytes : 0, &s->arena);
  if (!error) error = lvri_slots_create(&s->arena, limit);
  if (!error) error = become_new(s);
  return finish(s, error, ret_s);
}

static int map_arena(lvr_session *s, int fd) {
  int error = lvri_arena_attach(fd, &s->arena);
  return !error && !lvri_arena_header(&s->arena)->ah_slots ? -EBADMSG : error;
}

int lvr_session_map(int fd, lvr_session **ret_s) {
  lvr_session *s = NULL;
  int error = make_session(&s);
  if (!error) error = map_arena(s, fd);
  return finish(s, error, ret_s);
}

int lvr_session_attach(int fd, lvr_proc_id as, lvr_session **ret_s) {
  lvr_session *s = NULL;
  int error = make_session(&s);
  if (!error) error = map_arena(s, fd);
  if (!error) error = as ? lvri_session_become(s, as) : become_new(s);
  return finish(s, error, ret_s);
}

void lvr_session_detach(lvr_session *s) {
  if (!s) return;
  lvri_bond_end(s);
  lvr_proc_id id = lvri_session_self(s);
  lvri_sessions_lock();
  bool mine = armed_by_me(s);
  if (id) lvri_session_resign(s, NULL);
  if (id) (void)lvri_slot_repair(&s->arena, id);
  s->left = s->identity->armed && !mine;
  if (!s->left) {
    list_remove_locked(s);
    unmap(s);
  }
  lvri_sessions_unlock();
}

int lvr_session_fd(const lvr_session *s) { return s->arena.fd; }

void lvr_session_uuid(const lvr_session *s, uint8_t ret_uuid[16]) {
  memcpy(ret_uuid, lvri_arena_header(&s->arena)->ah_session, 16);
}
