/* birth.c - the caller's side of a zygote. */
#include <signal.h>
#include <stdlib.h>

#include "base/crashpoint.h"
#include "core/process.h"
#include "core/wait.h"
#include "core/zygote.h"
#include "os/link.h"
#include "os/os.h"

/* --- the seat ------------------------------------------------------------------------------ */

static int map_desk(struct lvr_zygote *z) {
  void *base;
  uint64_t bytes;
  int error = lvri_os_shm_reserve(z->desk_fd, LVRI_DESK_BYTES, LVRI_DESK_BYTES, &base, &bytes);
  if (!error) z->desk = base;
  return error;
}

static int make_desk(struct lvr_zygote *z) {
  int error = lvri_os_shm_create(&z->desk_fd);
  if (error) return error;
  error = lvri_os_shm_commit(z->desk_fd, 0, LVRI_DESK_BYTES);
  if (error) return error;
  error = map_desk(z);
  if (!error) z->desk->zd_magic = LVRI_DESK_MAGIC;
  return error;
}

/* What this process may not do its zygote may not do either: a seccomp filter stays. */
static int make_link(struct lvr_zygote *z) {
  int ends[2];
  int error = lvri_os_link_create(ends);
  if (error) return error;
  z->call_fd = ends[0];
  z->serve_fd = ends[1];
  return lvri_os_link_try(z->serve_fd);
}

static struct lvr_zygote *new_handle(lvr_session *s) {
  struct lvr_zygote *z = calloc(1, sizeof(*z));
  if (!z) return NULL;
  z->session = s;
  z->call_fd = z->serve_fd = z->desk_fd = z->pidfd = -1;
  return z;
}

int lvr_zygote_create(lvr_session *s, lvr_zygote **ret_z) {
  struct lvr_zygote *z = new_handle(s);
  if (!z) return -ENOMEM;
  z->maker = lvri_os_pid();
  int error = make_link(z);
  if (!error) error = make_desk(z);
  if (!error) error = lvr_proc_prepare(s, 0, &z->id);
  if (error)
    lvr_zygote_free(z);
  else
    *ret_z = z;
  return error;
}

void lvr_zygote_seat(const lvr_zygote *z, struct lvr_zygote_seat *ret_seat) {
  *ret_seat = (struct lvr_zygote_seat){.id = z->id,
                                       .maker = z->maker,
                                       .call_fd = z->call_fd,
                                       .serve_fd = z->serve_fd,
                                       .desk_fd = z->desk_fd};
}

/* Only the zygote and its spares may hold their end: so that it is closed when they are gone. */
int lvr_zygote_seated(lvr_zygote *z, int32_t pid) {
  int pidfd = lvri_os_pidfd_open(pid);
  if (pidfd < 0) return pidfd;
  z->pidfd = pidfd;
  lvri_os_close(z->serve_fd);
  z->serve_fd = -1;
  return 0;
}

int lvr_zygote_open(lvr_session *s, const struct lvr_zygote_seat *seat, lvr_zygote **ret_z) {
  struct lvr_zygote *z = new_handle(s);
  if (!z) return -ENOMEM;
  z->id = seat->id;
  z->maker = seat->maker;
  z->desk_fd = seat->desk_fd;
  int error = map_desk(z);
  if (!error && z->desk->zd_magic != LVRI_DESK_MAGIC) error = -EBADMSG;
  if (error) {
    z->desk_fd = -1;
    lvr_zygote_free(z);
    return error;
  }
  z->call_fd = seat->call_fd;
  z->serve_fd = seat->serve_fd;
  *ret_z = z;
  return 0;
}

/* Unless it has been taken. */
static void withdraw_seat(const struct lvr_zygote *z) {
  int taken = z->id && lvri_os_pid() == z->maker ? lvr_proc_withdraw(z->session, z->id) : 0;
  (void)taken;
}

void lvr_zygote_free(lvr_zygote *z) {
  if (!z) return;
  withdraw_seat(z);
  if (z->desk) lvri_os_shm_unmap(z->desk, LVRI_DESK_BYTES);
  lvri_os_close(z->call_fd);
  lvri_os_close(z->serve_fd);
  lvri_os_close(z->desk_fd);
  lvri_os_close(z->pidfd);
  free(z);
}

/* It sleeps, or is about to: the signal is blocked but while it sleeps. */
int lvr_zygote_retire(lvr_zygote *z) {
  if (z->pidfd < 0 || lvri_os_pid() != z->maker) return -ECHILD;
  lvri_store_release_u32(&z->desk->zd_retired, 1); /* pairs with is_retired() of the zygote */
  return lvri_os_pidfd_signal(z->pidfd, SIGCHLD);
}

/* --- what is known of it ------------------------------------------------------------------- */

lvr_proc_id lvr_zygote_id(const lvr_zygote *z) { return z->id; }

int lvr_zygote_pidfd(const lvr_zygote *z) { return z->pidfd; }

bool lvr_zygote_is_ready(const lvr_zygote *z) {
  return lvri_load_acquire_u32(&z->desk->zd_ready) != 0; /* pairs with report() of a spare */
}

bool lvr_zygote_watches(const lvr_zygote *z) {
  int32_t pid = (int32_t)lvri_load_relaxed_u32(&z->desk->zd_pid);
  return lvri_os_pid() == z->maker || (pid != 0 && lvri_os_parent_pid() == pid);
}

uint32_t lvr_zygote_spares(const lvr_zygote *z) {
  uint32_t idle = 0;
  for (uint32_t i = 0; i < LVRI_DESK_CARDS; i++)
    idle += lvri_load_relaxed_u32(&z->desk->zd_cards[i].zc_state) == LVRI_CARD_IDLE;
  return idle;
}

int32_t lvr_zygote_unheard(const lvr_zygote *z) {
  return -(int32_t)lvri_load_relaxed_u32(&z->desk->zd_unheard);
}

/* Before it has joined the session its slot cannot tell. */
static bool is_gone(const lvr_zygote *z) {
  if (z->pidfd >= 0) return lvri_os_is_ready(z->pidfd);
  return !lvr_proc_is_alive(z->session, z->id);
}

/* --- a birth ------------------------------------------------------------------------------- */

static int send_request(lvr_zygote *z, lvr_proc_id child, const int *fds, uint32_t n_fds,
                        bool wait) {
  struct lvri_request request = {
      .zr_mark = LVRI_REQUEST_MARK, .zr_child = child, .zr_blocked = lvri_os_signals_blocked()};
  return lvri_os_link_send(z->call_fd, &request, sizeof(request), fds, n_fds, wait);
}

/* How many spares were lost is counted before the message can be lost with one. */
int lvr_zygote_send(lvr_zygote *z, lvr_proc_id child, const int *fds, uint32_t n_fds,
                    uint32_t *mark) {
  *mark = lvri_load_acquire_u32(&z->desk->zd_lost); /* pairs with the zygote's count */
  if (is_gone(z)) return -EOWNERDEAD;
  LVR_CRASHPOINT("birth.send");
  int error = send_request(z, child, fds, n_fds, true);
  LVR_CRASHPOINT("birth.sent");
  return error == -EPIPE ? -EOWNERDEAD : error;
}

/* Until the zygote has joined the session nobody's death can be waited for with the birth. */
static lvr_proc_id whom_to_watch(const lvr_zygote *z) {
  return lvr_proc_is_alive(z->session, z->id) ? z->id : 0;
}

static int wait_a_while(lvr_zygote *z, lvr_proc_id child, int64_t deadline_ns, int32_t *ret_pid) {
  int64_t relook_ns = lvri_os_now_ns() + LVRI_RELOOK_NS;
  int64_t until_ns = deadline_ns < relook_ns ? deadline_ns : relook_ns;
  int error = lvri_proc_wait_born_until(z->session, child, whom_to_watch(z), until_ns, ret_pid);
  if (error != -ETIMEDOUT) return error;
  if (is_gone(z)) return -EOWNERDEAD;
  return until_ns == deadline_ns ? -ETIMEDOUT : -EAGAIN;
}

static int why_withdrawn(const lvr_zygote *z) {
  int32_t code = (int32_t)lvri_load_acquire_u32(&z->desk->zd_refused);
  return code ? code : -ESRCH;
}

static void send_if_lost(lvr_zygote *z, lvr_proc_id child, const int *fds, uint32_t n_fds,
                         uint32_t *mark) {
  uint32_t lost = lvri_load_acquire_u32(&z->desk->zd_lost);
  if (lost != *mark && send_request(z, child, fds, n_fds, false) == 0) *mark = lost;
}

int lvr_zygote_wait_until(lvr_zygote *z, lvr_proc_id child, const int *fds, uint32_t n_fds,
                          uint32_t *mark, int64_t deadline_ns, int32_t *ret_pid) {
  for (;;) {
    send_if_lost(z, child, fds, n_fds, mark);
    int error = wait_a_while(z, child, deadline_ns, ret_pid);
    if (error == -ESRCH) return why_withdrawn(z);
    if (error != -EAGAIN) return error;
  }
}
