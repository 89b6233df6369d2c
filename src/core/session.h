/* session.h - what a process keeps about a session that it is part of. */
#ifndef LVRI_CORE_SESSION_H
#define LVRI_CORE_SESSION_H

#include <pthread.h>

#include "base/atomic.h"
#include "core/arena.h"
#include "core/owner.h"
#include "leveret/session.h"

struct lvri_handle;
struct lvri_slot;

/* Who this process is. Lies in a page that the kernel empties in the child of a fork, whoever forked
 * and however: a child that has not been given a slot reads zeros, and is stale. */
struct lvri_identity {
  _Atomic uint64_t owner_word; /* 0: no process of the session */
  _Atomic uint64_t id;
};

struct lvr_session {
  struct lvri_arena arena;
  struct lvri_identity *identity;
  struct lvri_slot *slot;   /* ours; meaningful unless stale */
  uint64_t fork_generation; /* counts the forks that this process's memory has come through */
  struct lvri_session_private *private_; /* of session.c and object.c */
};

/* What this process writes into a lock that it takes: one load. 0: it is stale, say -ESTALE. */
static inline uint64_t lvri_owner_word(const lvr_session *s) {
  return lvri_load_relaxed_u64(&s->identity->owner_word);
}

static inline bool lvri_session_stale(const lvr_session *s) { return lvri_owner_word(s) == 0; }

/* If the thread that held our alive word has ended, the calling thread holds it from now on. One load
 * as a rule; called where a process is about to sleep. */
void lvri_session_rearm(lvr_session *s);

#endif
