/* zygote.c - the zygote: keeps spares in stock, says how its children ended, ends with its maker.
 *
 *   one thread, one loop:
 *       children that are over -> their slots           (SIGCHLD ends the sleep)
 *       the maker is over      -> everybody goes        (its pidfd)
 *       retired, and alone     -> it goes               (SIGCHLD, which the maker sends as well)
 *       too few spares         -> fork one              (the bell, rung by a spare that was born)
 *       none can receive       -> refuse, and rest      (the next request)
 *       too many for a while   -> dismiss one           (the deadline of the sleep)
 *
 * The stock grows by doubling whenever it is found empty,
 * and shrinks by half for each quiet second. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crashpoint.h"
#include "core/process.h"
#include "core/slots.h"
#include "core/zygote.h"
#include "os/os.h"

#define QUIET_NS     INT64_C(1000000000)
#define SIBLING_NS   INT64_C(400000)  /* within which another is asked for, if at all */
#define BURST_NS     INT64_C(3000000) /* which a short life takes */
#define SPARES_MOST  16u
#define BARREN       8u /* spares in a row that died before they waited: no other will live */
#define UNHEARD      8u /* failed receives between two births: no other will do better now */
#define COPIES_BYTES (UINT64_C(4) << 20) /* of memory at most that a spare fetches for itself */

/* A child that is none of the spares any more. */
struct child {
  lvr_proc_id id;
  lvr_proc_id parent;
  int32_t pid;
  bool daemon;
};

struct stock {
  struct lvr_zygote *z;
  const struct lvr_zygote_service *service;
  int bell_fd, maker_fd;
  struct lvri_signals signals;
  uint32_t least, most, wanted;
  bool rehearsed;
  uint32_t stillborn; /* spares in a row that died before they waited */
  uint32_t unheard;   /* spares since the last birth that died of their receive */
  bool rests;         /* who asked was refused: no spare is made until somebody asks */
  int64_t busy_ns;    /* when a spare was last found taken */
  struct child *children;
  size_t n_children, room;
  size_t processors;
};

static struct lvri_card *card_at(const struct stock *k, uint32_t i) {
  return &k->z->desk->zd_cards[i];
}

static uint32_t state_of(const struct lvri_card *card) {
  return lvri_load_acquire_u32(&card->zc_state);
}

static int32_t pid_of(const struct lvri_card *card) {
  return (int32_t)lvri_load_relaxed_u32(&card->zc_pid);
}

static void free_card(struct lvri_card *card) {
  lvri_store_relaxed_u32(&card->zc_pid, 0);
  lvri_store_release_u32(&card->zc_state, LVRI_CARD_FREE);
}

/* --- children ------------------------------------------------------------------------------ */

static int make_room(struct stock *k) {
  if (k->n_children < k->room) return 0;
  size_t room = k->room ? 2 * k->room : 64;
  struct child *grown = realloc(k->children, room * sizeof(*grown));
  if (!grown) return -ENOMEM;
  k->children = grown;
  k->room = room;
  return 0;
}

/* Who the spare of this card has become; false while it is nobody. */
static bool find_child(struct stock *k, const struct lvri_card *card, struct child *ret_child) {
  struct lvr_proc_info info;
  if (state_of(card) != LVRI_CARD_TAKEN) return false;
  lvr_proc_id id = lvri_load_relaxed_u64(&card->zc_child);
  if (lvr_proc_info(k->z->session, id, &info) < 0 || info.pid != pid_of(card)) return false;
  *ret_child = (struct child){.id = id,
                              .parent = info.parent,
                              .pid = info.pid,
                              .daemon = (info.flags & LVR_PROC_DAEMON) != 0};
  return true;
}

/* The card of a spare that was born is free for the next one. True: there was one. */
static bool settle(struct stock *k) {
  size_t before = k->n_children;
  for (uint32_t i = 0; i < LVRI_DESK_CARDS; i++) {
    struct child child;
    if (!find_child(k, card_at(k, i), &child) || make_room(k) < 0) continue;
    k->children[k->n_children++] = child;
    k->busy_ns = lvri_os_now_ns();
    k->stillborn = k->unheard = 0;
    k->rests = false;
    free_card(card_at(k, i));
  }
  return k->n_children > before;
}

static struct child *child_of(const struct stock *k, int32_t pid) {
  for (size_t i = 0; i < k->n_children; i++)
    if (k->children[i].pid == pid) return &k->children[i];
  return NULL;
}

static struct lvri_card *card_of(const struct stock *k, int32_t pid) {
  for (uint32_t i = 0; i < LVRI_DESK_CARDS; i++)
    if (state_of(card_at(k, i)) != LVRI_CARD_FREE && pid_of(card_at(k, i)) == pid)
      return card_at(k, i);
  return NULL;
}

/* Not reaped yet, so their pids are theirs. */
static void end_daemons_of(const struct stock *k, lvr_proc_id parent) {
  for (size_t i = 0; i < k->n_children; i++)
    if (k->children[i].daemon && k->children[i].parent == parent)
      (void)lvri_os_signal(k->children[i].pid, SIGKILL);
}

/* Somebody has died who may have had a message in his hands. */
static void note_loss(struct stock *k) {
  (void)lvri_fetch_add_release_u32(&k->z->desk->zd_lost, 1);
}

/* Unless it has announced. One that died inside its adoption, before the commit, looked like the
 * child while the guard had not taken that back: it was a spare. */
static void bury_child(struct stock *k, struct child *child, int32_t status) {
  struct child was = *child;
  *child = k->children[--k->n_children];
  if (lvr_proc_set_status(k->z->session, was.id, status) == -ESRCH) note_loss(k);
  end_daemons_of(k, was.id);
}

static void note_unheard(struct stock *k, uint32_t code) {
  k->unheard++;
  lvri_store_relaxed_u32(&k->z->desk->zd_unheard, code);
}

/* It is dead: what its card says are its last words. */
static void bury_spare(struct stock *k, struct lvri_card *card) {
  bool waited = lvri_load_relaxed_u32(&card->zc_waits) != 0;
  uint32_t unheard = lvri_load_relaxed_u32(&card->zc_unheard);
  k->stillborn = waited ? 0 : k->stillborn + 1;
  if (unheard) note_unheard(k, unheard);
  free_card(card);
  note_loss(k);
}

/* The status is said before the pid can become somebody else's. */
static void bury(struct stock *k, int32_t pid, int32_t status) {
  (void)settle(k);
  struct child *child = child_of(k, pid);
  struct lvri_card *card = card_of(k, pid);
  if (child) bury_child(k, child, status);
  if (card) bury_spare(k, card);
  LVR_CRASHPOINT("zygote.bury");
  (void)lvri_os_child_reap(pid, &status);
}

static void bury_the_dead(struct stock *k) {
  int32_t pid, status;
  while (lvri_os_child_over(&pid, &status) == 1)
    bury(k, pid, status);
}

/* --- spares -------------------------------------------------------------------------------- */

static uint32_t count(const struct stock *k, enum lvri_card_state state) {
  uint32_t found = 0;
  for (uint32_t i = 0; i < LVRI_DESK_CARDS; i++)
    found += state_of(card_at(k, i)) == state;
  return found;
}

static struct lvri_card *any_card(const struct stock *k, enum lvri_card_state state) {
  for (uint32_t i = 0; i < LVRI_DESK_CARDS; i++)
    if (state_of(card_at(k, i)) == state) return card_at(k, i);
  return NULL;
}

static int32_t plain_fork(void) {
  pid_t pid = fork();
  return pid < 0 ? -errno : (int32_t)pid;
}

static int32_t fork_nobody(const struct stock *k) {
  int error = lvr_proc_fork_next(k->z->session, LVR_PROC_NOBODY);
  if (error) return error;
  return k->service->fork ? k->service->fork(k->service->context) : plain_fork();
}

static void live_as_spare(struct stock *k, struct lvri_card *card, int32_t zygote_pid,
                          struct lvr_birth *ret_birth) {
  struct lvri_spare spare = {.z = k->z,
                             .card = card,
                             .zygote_pid = zygote_pid,
                             .bell_fd = k->bell_fd,
                             .maker_fd = k->maker_fd,
                             .signals = &k->signals};
  free(k->children);
  if (k->service->spare) k->service->spare(k->service->context);
  lvri_spare_live(&spare, ret_birth);
}

/* 0: in the zygote; 1: in a child, at its birth; negative errno. The card says idle before the
 * spare can be born, and nobody but its spare changes it from there. */
static int make_spare(struct stock *k, struct lvri_card *card, struct lvr_birth *ret_birth) {
  int32_t self = lvri_os_pid();
  lvri_store_relaxed_u32(&card->zc_waits, 0);
  lvri_store_relaxed_u32(&card->zc_unheard, 0);
  lvri_store_release_u32(&card->zc_state, LVRI_CARD_IDLE);
  int32_t pid = fork_nobody(k);
  if (pid == 0) {
    live_as_spare(k, card, self, ret_birth);
    return 1;
  }
  if (pid < 0)
    free_card(card);
  else
    lvri_store_relaxed_u32(&card->zc_pid, (uint32_t)pid);
  return pid < 0 ? pid : 0;
}

/* Unless another spare, before, gave birth to it. */
static void withdraw(const struct stock *k, lvr_proc_id child) {
  int born = lvr_proc_withdraw(k->z->session, child);
  (void)born;
}

/* No spare can be made, or none can receive: tell those who ask. 0; or why nobody can be told. */
static int refuse(struct stock *k, int32_t code) {
  struct lvri_request request;
  int fds[LVRI_LINK_FDS];
  unsigned n_fds;

  lvri_store_release_u32(&k->z->desk->zd_refused, (uint32_t)code);
  for (;;) {
    n_fds = 0;
    request.zr_mark = 0;
    int got = lvri_os_link_receive(k->z->serve_fd, &request, sizeof(request), fds, &n_fds, false);
    while (n_fds > 0)
      lvri_os_close(fds[--n_fds]);
    if (request.zr_mark == LVRI_REQUEST_MARK) {
      withdraw(k, request.zr_child);
    } else if (got == 0 || got == -EAGAIN) {
      return 0;
    } else if (got < 0 && got != -EINTR && got != -EMFILE) { /* that one took the message */
      note_unheard(k, (uint32_t)got);
      return got;
    }
  }
}

/* Spares that are forked well die of their receive. A fork takes a thousand times the memory of a
 * receive, so what so many forks in a row had and no receive does not pass in a moment: who asks is
 * refused. Whoever asks later has as many tries again, since it may have passed by then; so the
 * forks are bounded by what is sent. Nobody asks: there is nothing to be told, and a zygote whose
 * own receive would fail as well lives on for its children. */
static int rest(struct stock *k, uint32_t idle) {
  bool asked = lvri_os_is_ready(k->z->serve_fd);
  if (k->rests && asked && idle == 0) {
    k->rests = false;
    k->unheard = 0;
    return 0;
  }
  int error = !k->rests && asked ? refuse(k, -EIO) : 0;
  k->rests = true;
  return error;
}

/* --- the rehearsal ------------------------------------------------------------------------- */

void lvr_zygote_learn(lvr_zygote *z) {
  int found = lvri_os_pages_touched(z->desk->zd_runs, LVRI_DESK_RUNS, COPIES_BYTES);
  if (found > 0) lvri_store_release_u32(&z->desk->zd_n_runs, (uint32_t)found);
}

/* In a child of its own, which is nobody's; only to see what memory a life touches. */
_Noreturn static void live_as_rehearsal(struct stock *k) {
  (void)lvri_os_die_with_parent(SIGKILL);
  k->service->rehearse(k->service->context);
  lvr_zygote_learn(k->z);
  lvri_os_exit(0);
}

static void rehearse(struct stock *k) {
  k->rehearsed = true;
  if (k->service->rehearse && fork_nobody(k) == 0) live_as_rehearsal(k);
}

/* --- the size of the stock ----------------------------------------------------------------- */

static void dismiss_one(const struct stock *k) {
  struct lvri_card *card = any_card(k, LVRI_CARD_IDLE);
  uint32_t idle = LVRI_CARD_IDLE;
  if (card && lvri_cas_acq_rel_u32(&card->zc_state, &idle, LVRI_CARD_LEAVE))
    (void)lvri_os_signal(pid_of(card), SIGURG);
}

/* Again, in case the first nudge came before the spare slept. */
static void nudge_the_dismissed(const struct stock *k) {
  for (uint32_t i = 0; i < LVRI_DESK_CARDS; i++)
    if (state_of(card_at(k, i)) == LVRI_CARD_LEAVE)
      (void)lvri_os_signal(pid_of(card_at(k, i)), SIGURG);
}

static void grow(struct stock *k) { k->wanted = 2 * k->wanted < k->most ? 2 * k->wanted : k->most; }

static bool is_retired(const struct stock *k) {
  return lvri_load_acquire_u32(&k->z->desk->zd_retired) != 0; /* pairs with lvr_zygote_retire() */
}

/* A retired one has a spare for as long as a request waits. */
static void retire(struct stock *k) {
  k->least = k->wanted = lvri_os_is_ready(k->z->serve_fd);
  k->rehearsed = true;
  k->busy_ns = 0; /* what is too many goes now */
}

static bool is_alone(const struct stock *k) {
  return k->n_children == 0 && count(k, LVRI_CARD_FREE) == LVRI_DESK_CARDS;
}

static void shrink(struct stock *k, uint32_t idle) {
  int64_t now_ns = lvri_os_now_ns();
  if (now_ns - k->busy_ns < QUIET_NS) return;
  nudge_the_dismissed(k);
  if (k->wanted > k->least) k->wanted = k->wanted / 2 > k->least ? k->wanted / 2 : k->least;
  for (; idle > k->wanted; idle--)
    dismiss_one(k);
  k->busy_ns = now_ns;
}

/* Whether those who were born and live may have all processors: a fork, and what a spare does
 * before it waits, would be in their way. Those who sleep are counted, too. */
static bool is_crowded(const struct stock *k) {
  size_t living = 0;
  for (size_t i = 0; i < k->n_children && living < k->processors; i++)
    living += lvr_proc_is_alive(k->z->session, k->children[i].id);
  return living >= k->processors;
}

/* When the next spare is to be made. Half of the stock is kept for whoever comes meanwhile. */
static int64_t when_to_refill(const struct stock *k, uint32_t idle, bool crowded) {
  if (idle >= k->wanted || k->rests || !any_card(k, LVRI_CARD_FREE)) return LVRI_FOREVER;
  if (2 * idle < k->wanted) return 0;
  return k->busy_ns + (crowded ? BURST_NS : SIBLING_NS);
}

/* --- the loop ------------------------------------------------------------------------------ */

static void go_to_sleep(const struct stock *k, uint32_t idle, int64_t refill_ns) {
  int fds[] = {k->maker_fd, k->bell_fd, idle == 0 ? k->z->serve_fd : -1};
  bool restless = idle > k->least || k->wanted > k->least || count(k, LVRI_CARD_LEAVE) > 0;
  int64_t deadline_ns = restless ? k->busy_ns + QUIET_NS : LVRI_FOREVER;
  if (refill_ns < deadline_ns) deadline_ns = refill_ns;
  (void)lvri_os_sleep_on(fds, 3, deadline_ns, 0);
  lvri_os_bell_hush(k->bell_fd);
}

/* One spare more if there are too few, else a sleep. 1: in a child; negative: it is of no use. */
static int keep_stock(struct stock *k, struct lvr_birth *ret_birth) {
  bool taken = settle(k);
  uint32_t idle = count(k, LVRI_CARD_IDLE);
  if (taken && idle == 0) grow(k);
  if (is_retired(k)) retire(k);
  shrink(k, idle);
  int error = k->unheard >= UNHEARD ? rest(k, idle) : 0;
  bool crowded = is_crowded(k);
  lvri_store_relaxed_u32(&k->z->desk->zd_crowded, crowded);
  int64_t refill_ns = when_to_refill(k, idle, crowded);
  if (refill_ns <= lvri_os_now_ns()) {
    int made = make_spare(k, any_card(k, LVRI_CARD_FREE), ret_birth);
    if (made >= 0) return made;
    if (idle == 0) error = refuse(k, made);
    refill_ns = LVRI_FOREVER; /* until something has changed */
  }
  if (error) return error;
  if (idle >= k->wanted && !k->rehearsed)
    rehearse(k);
  else
    go_to_sleep(k, idle, refill_ns);
  return 0;
}

/* It may have become another program. */
static void end_if_daemon_of(lvr_session *s, lvr_proc_id id, lvr_proc_id parent) {
  struct lvr_proc_info info;
  if (lvr_proc_info(s, id, &info) < 0 || info.parent != parent) return;
  if (!(info.flags & LVR_PROC_DAEMON) || info.status_known || info.pid == 0) return;
  int sent = lvri_proc_signal(s, id, info.pid, SIGKILL);
  (void)sent; /* it is gone by itself */
}

/* Also those of a zygote that was here before and has died. */
static void end_all_daemons_of(lvr_session *s, lvr_proc_id parent) {
  struct lvri_slot *slot;
  for (uint32_t index = 1; (slot = lvri_slot_at(&s->arena, index)); index++)
    end_if_daemon_of(s, lvri_load_relaxed_u64(&slot->sl_id), parent);
}

static void end_all(struct stock *k) {
  struct lvr_proc_info info;
  (void)settle(k);
  if (lvr_proc_info(k->z->session, k->z->id, &info) == 0) {
    end_daemons_of(k, info.parent);
    end_all_daemons_of(k->z->session, info.parent);
  }
  for (uint32_t i = 0; i < LVRI_DESK_CARDS; i++)
    if (state_of(card_at(k, i)) == LVRI_CARD_IDLE)
      (void)lvri_os_signal(pid_of(card_at(k, i)), SIGKILL);
}

static int serve(struct stock *k, struct lvr_birth *ret_birth) {
  while (k->stillborn < BARREN) {
    bury_the_dead(k);
    if (lvri_os_is_ready(k->maker_fd)) {
      end_all(k);
      free(k->children);
      return 1;
    }
    if (is_retired(k) && is_alone(k) && !lvri_os_is_ready(k->z->serve_fd)) break;
    int part = keep_stock(k, ret_birth);
    if (part > 0) return 0;
    if (part < 0) {
      free(k->children);
      return part;
    }
  }
  free(k->children);
  return k->stillborn < BARREN ? 1 : -ECHILD;
}

/* A maker that is over already has left no such pid, or one that is not our parent. */
static int watch_maker(struct stock *k) {
  k->maker_fd = lvri_os_pidfd_open(k->z->maker);
  if (k->maker_fd == -ESRCH) return 1;
  if (k->maker_fd < 0) return k->maker_fd;
  return lvri_os_parent_pid() == k->z->maker ? 0 : 1;
}

static void take_signals(struct stock *k) {
  lvri_os_signal_set(SIGINT, LVRI_SIGNAL_IGNORE, &k->signals.interrupt);
  lvri_os_signal_set(SIGCHLD, LVRI_SIGNAL_INTERRUPT, &k->signals.child);
  lvri_os_signal_set(SIGURG, LVRI_SIGNAL_INTERRUPT, &k->signals.urgent);
  lvri_os_signals_block(LVRI_SIGNAL_BIT(SIGCHLD));
}

static int prepare_stock(struct stock *k) {
  k->least = k->service->spares_least ? k->service->spares_least : LVRI_SPARES_LEAST;
  k->most = k->service->spares_most ? k->service->spares_most : SPARES_MOST;
  if (k->most > LVRI_DESK_CARDS / 2) k->most = LVRI_DESK_CARDS / 2;
  if (k->least > k->most) k->least = k->most;
  k->wanted = k->least;
  k->processors = (size_t)lvri_os_cpu_count();
  k->busy_ns = lvri_os_now_ns();
  k->bell_fd = lvri_os_bell_create();
  if (k->bell_fd < 0) return k->bell_fd;
  int gone = watch_maker(k);
  if (gone < 0) lvri_os_close(k->bell_fd);
  return gone;
}

int lvr_zygote_serve(lvr_zygote *z, const struct lvr_zygote_service *service,
                     struct lvr_birth *ret_birth) {
  struct stock stock = {.z = z, .service = service};
  int error = lvri_os_link_try(z->serve_fd); /* else one spare after the other would end there */
  if (!error) error = prepare_stock(&stock);
  if (error) return error;
  take_signals(&stock);
  lvri_os_pages_tie();
  lvri_store_relaxed_u32(&z->desk->zd_pid, (uint32_t)lvri_os_pid());
  return serve(&stock, ret_birth);
}
