/* pipe.h - two channels, or one, and two ends that say who can still use them.
 *
 *   handles of all processes --refs--> first end  --+
 *                                                   +--refs--> pipe: channel 0, to the first end
 *   handles of all processes --refs--> second end --+                channel 1, to the second
 *
 * An end whose last reference goes closes its side of the channels and gives back its reference
 * to the pipe; the pipe goes with the second, and what is in it. */
#ifndef LVRI_CORE_PIPE_H
#define LVRI_CORE_PIPE_H

#include "core/channel.h"
#include "core/object.h"
#include "leveret/pipe.h"

/* pi_ends, pi_duplex    constant, but for the transaction in which the ends are joined to the pipe.
 *            pi_ends[i] means something while that end exists
 * pi_channels[i]    to end i; number 1 only if duplex, else the object ends before it */
struct lvri_pipe_shm {
  struct lvri_object_shm pi_object;
  uint32_t pi_duplex;
  uint32_t pi_reserved0;
  uint64_t pi_ends[2];
  uint64_t pi_reserved1[2];
  struct lvri_channel_shm pi_channels[2];
};
_Static_assert(offsetof(struct lvri_pipe_shm, pi_channels) == 64, "channels are whole lines");

/* pe_pipe, pe_which    constant, but for the transaction in which the end is joined to the pipe;
 *            0 before: an end that never was anything
 *
 * Always: the pipe's references are its ends, and its maker's handle while it is being made.
 *
 * Crash: an end's last reference, the flag in the channels and the end's reference to the pipe go
 * in one transaction. Who waits is woken inside of it, after the store of the flag: a death
 * before the commit takes the flag back, and the one whose handle it was (a dead one's, or this
 * one's who just died) is repaired, which closes the end again; so nobody was told of an end that
 * does not come. */
struct lvri_pipe_end_shm {
  struct lvri_object_shm pe_object;
  uint64_t pe_pipe;
  uint32_t pe_which;
  uint32_t pe_reserved;
};
_Static_assert(sizeof(struct lvri_pipe_end_shm) <= 64, "an end fits the smallest block");

/* A handle of an end. All constant, but for what the channels say of themselves. */
struct lvr_pipe {
  struct lvri_handle handle;
  struct lvri_channel in, out; /* .shm NULL: nothing can be got, or put */
  int64_t glanced_ns;          /* when somebody last looked whether the other side is dead */
};

/* For the binding: the channels of an end, NULL where it has none. */
static inline struct lvri_channel *lvri_pipe_in(struct lvr_pipe *p) {
  return p->in.shm ? &p->in : NULL;
}

static inline struct lvri_channel *lvri_pipe_out(struct lvr_pipe *p) {
  return p->out.shm ? &p->out : NULL;
}

/* After a try that found nothing, by who does not want to wait: whether it is worth another,
 * because somebody was dead whose end is closed now. Seldom does more than to read a clock. */
bool lvri_pipe_glance(struct lvr_pipe *p);

/* For kinds.c. */
bool lvri_pipe_drain_locked(struct lvri_arena *a, lvri_off object);
void lvri_pipe_each(struct lvri_arena *a, lvri_off object,
                    void (*visit)(void *context, lvri_off object), void *context);
bool lvri_pipe_valid(struct lvri_arena *a, lvri_off object);
void lvri_pipe_end_fini_locked(struct lvri_arena *a, lvri_off object);
void lvri_pipe_end_left_locked(struct lvri_arena *a, lvri_off object, lvr_proc_id who);
void lvri_pipe_end_each(struct lvri_arena *a, lvri_off object,
                        void (*visit)(void *context, lvri_off object), void *context);
bool lvri_pipe_end_valid(struct lvri_arena *a, lvri_off object);
void lvri_pipe_end_close(struct lvri_handle *h);

#endif
