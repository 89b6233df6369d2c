/* spare.c - a spare: born of the zygote, nobody yet, waiting to be told who it is. */
#include <errno.h>
#include <signal.h>

#include "base/crashpoint.h"
#include "core/zygote.h"
#include "os/os.h"

#define LEISURE_NS INT64_C(1000000) /* whom nobody calls for so long has time */

/* To the card's owner alone: whether it was changed from one of two states. */
static bool change(struct lvri_card *card, uint32_t from, uint32_t to) {
  return lvri_cas_acq_rel_u32(&card->zc_state, &from, to);
}

static bool is_dismissed(const struct lvri_card *card) {
  return lvri_load_acquire_u32(&card->zc_state) == LVRI_CARD_LEAVE;
}

/* It dies with the zygote, which may have died before it could say so. */
static void die_with_zygote(const struct lvri_spare *spare) {
  (void)lvri_os_die_with_parent(SIGKILL);
  if (lvri_os_parent_pid() != spare->zygote_pid) lvri_os_exit(0);
}

static void close_all(struct lvr_birth *birth) {
  while (birth->n_fds > 0)
    lvri_os_close(birth->fds[--birth->n_fds]);
}

/* What a life touches of its memory. It costs more than the faults that it saves, but while nobody
 * waits. */
static void fetch_memory(const struct lvri_desk_shm *desk) {
  uint32_t n_runs = lvri_load_acquire_u32(&desk->zd_n_runs); /* pairs with lvr_zygote_learn() */
  lvri_os_pages_fetch(desk->zd_runs, n_runs);
}

/* Waits until a message may be there, or it has time to fetch memory, and does so. */
static void await_call_or_leisure(struct lvri_spare *spare) {
  uint64_t blocked = LVRI_SIGNAL_BIT(SIGCHLD);
  int ready = lvri_os_sleep_on(&spare->z->serve_fd, 1, spare->leisure_ns, blocked);
  if (ready > 0 || ready == -EINTR) return;
  fetch_memory(spare->z->desk);
  spare->fetched = true;
}

/* One message, or why there is none: -EINTR, -EAGAIN, 0 at the end of all. */
static int receive_once(struct lvri_spare *spare, struct lvri_request *ret_request,
                        struct lvr_birth *ret_birth) {
  ret_request->zr_mark = 0;
  ret_birth->n_fds = 0;
  ret_birth->error = 0;
  if (!spare->fetched) await_call_or_leisure(spare);
  int got = lvri_os_link_receive(spare->z->serve_fd, ret_request, sizeof(*ret_request),
                                 ret_birth->fds, &ret_birth->n_fds, spare->fetched);
  if (got == -EMFILE) ret_birth->error = got;
  return got;
}

/* The next message that makes sense; ends the process when there will be none. */
static void receive(struct lvri_spare *spare, struct lvri_request *ret_request,
                    struct lvr_birth *ret_birth) {
  for (;;) {
    int got = receive_once(spare, ret_request, ret_birth);
    if (ret_request->zr_mark == LVRI_REQUEST_MARK) return;
    close_all(ret_birth);
    if (is_dismissed(spare->card)) lvri_os_exit(0);
    if (got == -EINTR || got == -EAGAIN) continue;
    if (got < 0) lvri_store_relaxed_u32(&spare->card->zc_unheard, (uint32_t)got);
    if (got <= 0) lvri_os_exit(0);
  }
}

static void take_card(struct lvri_card *card, lvr_proc_id child) {
  lvri_store_relaxed_u64(&card->zc_child, child);
  /* Pairs with the zygote's look at its cards. */
  while (!change(card, LVRI_CARD_IDLE, LVRI_CARD_TAKEN) &&
         !change(card, LVRI_CARD_LEAVE, LVRI_CARD_TAKEN)) {
  }
}

/* Told before the adoption, so that the zygote's death cannot end a child. A child that has been
 * born already is none: the zygote may sleep with a spare for a request that waited, and is to look
 * again. Who dies before he rings wakes it by that. */
static bool adopt(const struct lvri_spare *spare, lvr_proc_id child) {
  (void)lvri_os_die_with_parent(0);
  take_card(spare->card, child);
  LVR_CRASHPOINT("spare.taken");
  if (lvr_proc_adopt(spare->z->session, child) == 0) return true;
  (void)change(spare->card, LVRI_CARD_TAKEN, LVRI_CARD_IDLE);
  LVR_CRASHPOINT("spare.declined");
  lvri_os_bell_ring(spare->bell_fd);
  die_with_zygote(spare);
  return false;
}

static void leave_the_stock(const struct lvri_spare *spare, uint64_t blocked) {
  LVR_CRASHPOINT("spare.adopted");
  lvri_os_bell_ring(spare->bell_fd);
  lvri_os_close(spare->bell_fd);
  lvri_os_close(spare->maker_fd);
  lvri_os_close(spare->z->serve_fd);
  spare->z->serve_fd = -1;
  lvri_os_signal_restore(SIGCHLD, &spare->signals->child);
  lvri_os_signal_restore(SIGURG, &spare->signals->urgent);
  lvri_os_signal_restore(SIGINT, &spare->signals->interrupt);
  lvri_os_signals_block(blocked);
}

/* It has come as far as that, and so has its zygote. */
static void report(const struct lvri_spare *spare) {
  lvri_store_relaxed_u32(&spare->card->zc_waits, 1);
  if (!lvri_load_relaxed_u32(&spare->z->desk->zd_ready))
    lvri_store_release_u32(&spare->z->desk->zd_ready, 1);
}

void lvri_spare_live(struct lvri_spare *spare, struct lvr_birth *ret_birth) {
  struct lvri_request request;

  report(spare);
  bool crowded = lvri_load_relaxed_u32(&spare->z->desk->zd_crowded) != 0;
  spare->leisure_ns = lvri_os_now_ns() + (crowded ? LEISURE_NS : 0);
  do {
    die_with_zygote(spare);
    receive(spare, &request, ret_birth);
    if (adopt(spare, request.zr_child)) break;
    close_all(ret_birth);
  } while (true);
  ret_birth->id = request.zr_child;
  leave_the_stock(spare, request.zr_blocked);
}
