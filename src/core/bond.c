/* bond.c - a process that must not outlive another.
 *
 * One small thread waits on the alive word of the other. It is told to end by a word of its own
 * (process-private memory; only futexes on it are used). */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>

#include "core/session.h"
#include "core/slots.h"
#include "core/wait.h"
#include "leveret/process.h"
#include "os/os.h"

enum { STACK_BYTES = 64 * 1024 };

struct lvri_bond {
  lvr_session *session;
  lvr_proc_id parent;
  pthread_t thread;
  _Atomic uint32_t end;
};

static void die(void) { (void)lvri_os_signal(lvri_os_pid(), SIGKILL); }

/* True: the other is over; false: we were told to end. */
static bool outlive(struct lvri_bond *bond) {
  while (!lvri_load_acquire_u32(&bond->end)) { /* pairs with lvri_bond_end() */
    if (!lvri_slot_alive(&bond->session->arena, bond->parent)) return true;
    (void)lvri_wait_aside(bond->session, &bond->end, 0, bond->parent, LVR_FOREVER);
  }
  return false;
}

static void *watch(void *argument) {
  if (outlive(argument)) die();
  return NULL;
}

/* A thread that no signal of the process is ever given to. */
static int start_thread(struct lvri_bond *bond) {
  pthread_attr_t attributes;
  sigset_t all, before;
  int error = pthread_attr_init(&attributes);
  if (error) return -error;
  (void)pthread_attr_setstacksize(&attributes, STACK_BYTES); /* the default will do as well */
  (void)sigfillset(&all);
  (void)pthread_sigmask(SIG_SETMASK, &all, &before);
  error = pthread_create(&bond->thread, &attributes, watch, bond);
  (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  (void)pthread_attr_destroy(&attributes);
  return -error;
}

static int make_bond(lvr_session *s, lvr_proc_id parent) {
  struct lvri_bond *bond = calloc(1, sizeof(*bond));
  if (!bond) return -ENOMEM;
  bond->session = s;
  bond->parent = parent;
  int error = start_thread(bond);
  if (error)
    free(bond);
  else
    s->bond = bond;
  return error;
}

int lvr_proc_die_with(lvr_session *s, lvr_proc_id parent) {
  if (lvri_session_stale(s)) return -ESTALE;
  if (parent == 0) return -ESRCH;
  if (lvri_slot_over(&s->arena, parent)) die();
  lvri_session_lock(s);
  int error;
  if (s->bond)
    error = s->bond->parent == parent ? 0 : -EBUSY;
  else
    error = make_bond(s, parent);
  lvri_session_unlock(s);
  return error;
}

void lvri_bond_end(lvr_session *s) {
  struct lvri_bond *bond = s->bond;
  if (!bond) return;
  lvri_store_release_u32(&bond->end, 1); /* pairs with outlive() */
  (void)lvri_os_futex_wake(&bond->end, INT_MAX);
  (void)pthread_join(bond->thread, NULL);
  free(bond);
  s->bond = NULL;
}

/* The thread has stayed in the parent. */
void lvri_bond_forget(lvr_session *s) {
  free(s->bond);
  s->bond = NULL;
}
