/* zygote.h - what callers, a zygote and its spares share, and how the three files divide the work.
 *
 *   birth.c   the caller's side: makes the seat, sends, waits
 *   zygote.c  the zygote: keeps spares in stock, reaps, ends with its maker
 *   spare.c   a spare: waits for a message, becomes a child */
#ifndef LVRI_CORE_ZYGOTE_H
#define LVRI_CORE_ZYGOTE_H

#include <stdint.h>

#include "core/session.h"
#include "leveret/zygote.h"
#include "os/link.h"
#include "os/pages.h"

#define LVRI_DESK_MAGIC   UINT32_C(0x6b736564) /* "desk" */
#define LVRI_DESK_CARDS   64u
#define LVRI_SPARES_LEAST 4u /* two for a burst, two for who comes meanwhile */
#define LVRI_DESK_RUNS    896u
#define LVRI_DESK_BYTES   16384u
#define LVRI_REQUEST_MARK UINT32_C(0x65726f62) /* "bore" */

enum lvri_card_state {
  LVRI_CARD_FREE,
  LVRI_CARD_IDLE,  /* its spare waits */
  LVRI_CARD_LEAVE, /* the zygote has no use for it: it ends unless it has a message already */
  LVRI_CARD_TAKEN, /* its spare has a message, and adopts or has adopted zc_child */
};

/* One spare's.
 *   zc_state   FREE->IDLE and any->FREE by the zygote, IDLE<->LEAVE by the zygote,
 *              IDLE|LEAVE->TAKEN and back to IDLE by the spare: compare-and-swap
 *   zc_pid     by the zygote, once its fork has told it; 0 until then
 *   zc_child   by the spare, before TAKEN: whoever reads TAKEN reads it
 *   zc_waits   0 by the zygote, before its fork; 1 by the spare,
 *              once it has come as far as waiting
 *   zc_unheard 0 by the zygote, before its fork; by the spare, of what its receive failed,
 *              before it ends of that: a negative errno */
struct lvri_card {
  _Atomic uint32_t zc_state;
  _Atomic uint32_t zc_pid;
  _Atomic uint64_t zc_child;
  _Atomic uint32_t zc_waits;
  _Atomic uint32_t zc_unheard;
};
_Static_assert(sizeof(struct lvri_card) == 24, "layout");

/* The memory of one zygote and its callers: a file of its own, not in the arena,
 * so that it goes with them.
 *   zd_magic     once, by the maker
 *   zd_ready     0 to 1, by any spare that waits: the zygote has proved that it can give birth
 *   zd_pid       once, by the zygote, before its first fork
 *   zd_lost      by the zygote: how many spares died that may have had a message. A caller that
 *                finds it changed sends again
 *   zd_refused   by the zygote: why the last fork failed, before it withdraws the child that asked
 *   zd_unheard   by the zygote: of what a receive failed last, its own or a spare's; before it
 *                refuses or ends for that
 *   zd_cards     above
 *   zd_retired   0 to 1, by a caller: no more is wanted of it than its children do
 *   zd_crowded   by the zygote: its children may have all processors
 *   zd_n_runs    once, by the rehearsal, behind zd_runs: whoever reads how many reads them
 *   zd_runs      memory that a life touches, for spares to fetch beforehand
 * Crash: every field is one store by one writer. A zygote that dies leaves it to nobody; a spare
 * that dies is found by the zygote through its pid, whatever its card says. */
struct lvri_desk_shm {
  uint32_t zd_magic;
  _Atomic uint32_t zd_ready;
  _Atomic uint32_t zd_pid;
  _Atomic uint32_t zd_lost;
  _Atomic uint32_t zd_refused; /* a negative errno */
  _Atomic uint32_t zd_n_runs;
  _Atomic uint32_t zd_retired;
  _Atomic uint32_t zd_unheard; /* a negative errno */
  _Atomic uint32_t zd_crowded;
  uint32_t zd_pad[7];
  struct lvri_card zd_cards[LVRI_DESK_CARDS];
  struct lvri_page_run zd_runs[LVRI_DESK_RUNS];
};
_Static_assert(sizeof(struct lvri_desk_shm) <= LVRI_DESK_BYTES, "layout");

/* What is sent. */
struct lvri_request {
  uint32_t zr_mark;
  uint32_t zr_reserved;
  uint64_t zr_child;
  uint64_t zr_blocked; /* signals that the caller blocks: the child does, too */
};

struct lvr_zygote {
  lvr_session *session;
  struct lvri_desk_shm *desk;
  lvr_proc_id id;
  int32_t maker; /* pid */
  int call_fd, serve_fd, desk_fd;
  int pidfd; /* of the zygote, in its maker and the maker's children; -1: look at its slot */
};

/* What was done about the zygote's signals before it served. */
struct lvri_signals {
  struct lvri_signal_was interrupt, child, urgent;
};

/* What a spare has from its zygote. */
struct lvri_spare {
  struct lvr_zygote *z;
  struct lvri_card *card;
  int32_t zygote_pid;
  int bell_fd;                        /* to be rung once it is born */
  int maker_fd;                       /* to be closed */
  const struct lvri_signals *signals; /* to be restored */
  int64_t leisure_ns;                 /* when it has time to fetch memory */
  bool fetched;
};

/* Waits for a message and becomes the child that it names. Returns once, in that child. */
void lvri_spare_live(struct lvri_spare *spare, struct lvr_birth *ret_birth);

#endif
