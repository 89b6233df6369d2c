#include "core/event.h"

#include <limits.h>

#include "base/crashpoint.h"
#include "core/session.h"
#include "core/wait.h"

static _Atomic uint32_t *word_of(const lvr_event *e) {
  return &((struct lvr_event_shm *)(void *)e->handle.object)->ev_word;
}

int lvr_event_create(lvr_session *s, lvr_event **ret_e) {
  struct lvri_handle *h;
  int error = lvri_object_create(s, LVRI_KIND_EVENT, sizeof(struct lvr_event_shm), &h);
  if (!error) *ret_e = (struct lvr_event *)(void *)h;
  return error;
}

int lvr_event_attach(lvr_session *s, const lvr_ref *ref, lvr_event **ret_e) {
  struct lvri_handle *h;
  int error = lvri_object_attach(s, ref, LVRI_KIND_EVENT, &h);
  if (!error) *ret_e = (struct lvr_event *)(void *)h;
  return error;
}

void lvr_event_detach(lvr_event *e) {
  if (e) lvri_object_detach(&e->handle);
}

void lvr_event_ref(const lvr_event *e, lvr_ref *ret_ref) { lvri_object_ref(&e->handle, ret_ref); }

int lvr_event_send(lvr_event *e, lvr_ref *ret_ref) { return lvri_object_send(&e->handle, ret_ref); }

void lvr_event_set(lvr_event *e) {
  uint32_t word = lvri_load_relaxed_u32(word_of(e)), next;
  do {
    if (word & LVRI_EVENT_SET)
      next = word; /* the swap publishes what we wrote before, all the same */
    else
      next = ((word & ~LVRI_EVENT_WAITERS) | LVRI_EVENT_SET) + LVRI_EVENT_ONCE;
  } while (!lvri_cas_release_u32(word_of(e), &word, next)); /* pairs with is_set() and the wait */
  LVR_CRASHPOINT("event.set.set");
  if (word & LVRI_EVENT_WAITERS) (void)lvri_wake(word_of(e), INT_MAX);
}

void lvr_event_clear(lvr_event *e) { lvri_fetch_and_relaxed_u32(word_of(e), ~LVRI_EVENT_SET); }

bool lvr_event_is_set(const lvr_event *e) {
  return lvri_load_acquire_u32(word_of(e)) & LVRI_EVENT_SET; /* pairs with set() */
}

uint32_t lvr_event_mark(const lvr_event *e) {
  return lvri_load_acquire_u32(word_of(e)) / LVRI_EVENT_ONCE;
}

/* Sleeps while the event is not set, as `word` says. */
static int sleep_on(lvr_event *e, uint32_t word, int64_t deadline_ns) {
  if (!(word & LVRI_EVENT_WAITERS)) {
    uint32_t expected = word;
    word |= LVRI_EVENT_WAITERS;
    if (!lvri_cas_relaxed_u32(word_of(e), &expected, word)) return 0;
    LVR_CRASHPOINT("event.wait.waiting");
  }
  return lvri_wait(e->handle.session, word_of(e), word, 0, deadline_ns);
}

int lvr_event_wait_since_until(lvr_event *e, uint32_t mark, int64_t deadline_ns) {
  for (bool spun = false;;) {
    uint32_t word = lvri_load_acquire_u32(word_of(e)); /* pairs with set() */
    if ((word & LVRI_EVENT_SET) || word / LVRI_EVENT_ONCE != mark) return 0;
    if (lvri_session_stale(e->handle.session)) return -ESTALE;
    if (deadline_ns <= 0) return -ETIMEDOUT; /* only a look: nobody need wake us */
    if (!spun) {
      spun = true;
      if (lvri_spin(word_of(e), word)) continue;
    }
    int error = sleep_on(e, word, deadline_ns);
    if (error) return error;
  }
}

int lvr_event_wait_until(lvr_event *e, int64_t deadline_ns) {
  return lvr_event_wait_since_until(e, lvr_event_mark(e), deadline_ns);
}
