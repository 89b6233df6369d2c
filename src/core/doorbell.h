/* doorbell.h - descriptors for who waits by select(2), epoll or asyncio, and not by a futex.
 *
 *   reader: select() on a set of                             who puts, before the message is out:
 *     a socket        <------- rung through its address -----  sees ARMED in the channel's bell
 *     a pidfd         <------- the kernel: a process that can put has died
 *     a timer                  (now and then, when nobody can be watched)
 *
 * The descriptor is readable exactly while there is a message, or the end, but for what stands
 * under "Too often". A channel that nobody asked for a descriptor pays one load of a line that it
 * reads anyway. Design and argument: docs/design/messages.md, Doorbells. */
#ifndef LVRI_CORE_DOORBELL_H
#define LVRI_CORE_DOORBELL_H

#include <pthread.h>
#include <stdint.h>

#include "core/channel.h"
#include "leveret/object.h"
#include "os/doorbell.h"

#define LVRI_DOORBELLS 8u /* to a table */

/* A process that polls. "Table": under the put mutex and the arena's guard, both, logged; read
 * under either.
 *   de_owner    table; 0: free, stored by the owner without a lock. One that is dead counts as free
 *   de_name, de_secret   table; where the owner's socket is rung
 *   de_watched  by the owner, in the arena's guard, not logged: the process whose death it will
 *               learn of; taken away by that process, or its repairer, in the guard, when it gives
 *               its end back and others have it still. Means something to the living owner alone
 *   de_armed    1: wants to be rung. Set by the owner, then ARMED in the bell; cleared by who
 *               rings, after the ring
 *
 * Always: de_armed, or the owner's socket is readable, or its owner is just looking.
 *
 * Crash: who puts holds the put mutex and rings *before* the store that publishes his message; so
 * a death may leave a ring too many, never a message without one. Who arms looks afterwards, at
 * the channel and at the put mutex: is that held, then somebody may have looked at the bell
 * before it was armed and not have published yet, and the owner rings itself. Closing an end
 * rings inside of the transaction that closes it. Who takes himself out of de_watched and dies
 * before the ring is told of by his death; a repairer who does, by the next one, who rings whom
 * he finds watching nobody. */
struct lvri_doorbell_entry {
  _Atomic uint64_t de_owner;
  uint64_t de_name;
  uint64_t de_secret;
  _Atomic uint64_t de_watched;
  _Atomic uint32_t de_armed;
  uint32_t de_reserved[7];
};
_Static_assert(sizeof(struct lvri_doorbell_entry) == 64, "a line for each owner");

/* Tables are added at the front of the channel's list and stay until the channel goes, so an
 * owner finds its entry by a constant offset. dt_next: written once, before others can reach the
 * table. */
struct lvri_doorbells {
  uint64_t dt_next;
  uint64_t dt_reserved[7];
  struct lvri_doorbell_entry dt_entries[LVRI_DOORBELLS];
};

/* One process's. All but watched is constant until it is closed; mutex: over what is done with
 * it. Of no use in a forked child, which makes its own. */
struct lvri_doorbell {
  pthread_mutex_t mutex;
  lvr_proc_id owner;
  struct lvri_os_chime chime;
  int socket;
  int set;   /* of a pipe, what is polled; of a queue -1, for nobody's death matters */
  int pidfd; /* of `watched`; or -1 */
  int timer; /* or -1 */
  lvr_proc_id watched;
  lvri_off entry; /* 0: of an end that can only put; never rung */
};

/* The descriptor of c's doorbell, made if this process has none. 0, -EMFILE, -ENFILE, -ENOMEM,
 * -ENOBUFS, -ENOSPC, -EPERM, -ESTALE, -ENOTRECOVERABLE. */
int lvri_doorbell_fileno(struct lvri_channel *c, int *ret_fd);

/* After a look at c: if nothing is left, the descriptor is made to say so, the doorbell armed. */
void lvri_doorbell_settle(struct lvri_channel *c);

/* With the last use of c's handle. */
void lvri_doorbell_close(struct lvri_channel *c);

/* With the put mutex, before a message is published, if the bell is ARMED. 0; -EMFILE, ...:
 * somebody could not be told, so there must be no message. */
int lvri_doorbell_ring(struct lvri_arena *a, struct lvri_channel_shm *shm);

/* In the arena's guard, in the transaction that closes the channel, after the store. */
void lvri_doorbell_ring_closed(struct lvri_arena *a, struct lvri_channel_shm *shm);

/* In the arena's guard: process who can put no more; others can. */
void lvri_doorbell_left_locked(struct lvri_arena *a, struct lvri_channel_shm *shm, lvr_proc_id who);

/* One step of freeing the tables; true: there are none. In the arena's guard. */
bool lvri_doorbell_drain_locked(struct lvri_arena *a, struct lvri_channel_shm *shm);

#endif
