/* session.h - what a process keeps about a session that it is part of.
 *
 * A process is one of a session while its identity says who it is. The identity lies in a page that
 * the kernel empties in the child of any fork, so a child that was given no slot is nobody, and
 * every call says
 * -ESTALE; one that was given a slot is told by the fork handler who it is. */
#ifndef LVRI_CORE_SESSION_H
#define LVRI_CORE_SESSION_H

#include <pthread.h>

#include "base/atomic.h"
#include "core/arena.h"
#include "core/handles.h"
#include "core/owner.h"
#include "leveret/session.h"

struct lvri_slot;
struct lvri_bond;

/* Zeros in the child of a fork.
 *   owner_word, id   who this process is: written at adoption, fork and end; read by any of its
 *                    threads
 *   armed, armed_by  which thread holds the alive word, if one does; under the mutex of the list of
 *                    sessions
 *   unarmed          1: the thread that did has ended; written with these, read by any thread */
struct lvri_identity {
  _Atomic uint64_t owner_word; /* 0: nobody */
  _Atomic uint64_t id;
  _Atomic uint32_t unarmed;
  uint32_t armed;
  pthread_t armed_by;
};

struct lvr_session {
  struct lvri_arena arena;
  struct lvri_identity *identity;
  struct lvri_slot *slot;      /* ours; means something unless stale */
  uint64_t fork_generation;    /* how many forks this process's memory has come through */
  pthread_mutex_t mutex;       /* over handles, and over what this process enters in its ledger */
  struct lvri_handles handles; /* under mutex */
  uint32_t lent;               /* records with `lent` set; under mutex */
  struct lvri_bond *bond;      /* of bond.c; under mutex */
  lvr_proc_id fork_child;      /* between the fork handlers: who is about to be born */
  bool left;                /* detached by another thread than the one that holds the alive word */
  struct lvr_session *next; /* in this process's list */
};

/* What this process writes into a lock that it takes: one load. 0: it is stale, say -ESTALE. */
static inline uint64_t lvri_owner_word(const lvr_session *s) {
  return lvri_load_relaxed_u64(&s->identity->owner_word);
}

static inline bool lvri_session_stale(const lvr_session *s) { return lvri_owner_word(s) == 0; }

static inline lvr_proc_id lvri_session_self(const lvr_session *s) {
  return lvri_load_relaxed_u64(&s->identity->id);
}

/* If the thread that held our alive word has ended, the calling thread holds it from now on. One
 * load as a rule; called where a process is about to sleep. */
void lvri_session_rearm(lvr_session *s);

/* --- for process.c, object.c, fork.c ------------------------------------------------------ */

/* This thread takes, or gives back, the session's mutex. */
void lvri_session_lock(lvr_session *s);
void lvri_session_unlock(lvr_session *s);

/* Be that embryo: adopt it, take its ledger for ours, say who we are. Handles that were there come
 * along; where the object is gone they are stale for ever. 0, -ESRCH, -ENOMEM, -ENOTRECOVERABLE. */
int lvri_session_become(lvr_session *s, lvr_proc_id id);

/* Nobody from now on: the slot is OVER, with that status if there is one; the alive word is let go,
 * if this thread holds it, and who waits for it is woken. With the list's mutex held. */
void lvri_session_resign(lvr_session *s, const int32_t *status);

/* fork.c: every fork() of this process is seen from now on. 0, -ENOMEM. */
int lvri_fork_watch(void);

/* In the child of a fork: it is the child that was prepared, whose ledger is like ours. 0 or an
 * error: stale. */
int lvri_session_become_fork(lvr_session *s, lvr_proc_id id);

/* The list of this process's sessions, with its mutex held. */
void lvri_sessions_lock(void);
void lvri_sessions_unlock(void);
lvr_session *lvri_sessions_first(void);

/* bond.c: end the thread of lvr_proc_die_with(), if there is one; after a fork, forget it. */
void lvri_bond_end(lvr_session *s);
void lvri_bond_forget(lvr_session *s);

#endif
