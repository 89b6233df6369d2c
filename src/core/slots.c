#include "core/slots.h"

#include <errno.h>
#include <limits.h>

#include "base/assert.h"
#include "base/atomic.h"
#include "base/crashpoint.h"
#include "core/kinds.h"
#include "core/repair.h"
#include "os/os.h"

/* --- finding ------------------------------------------------------------------------------- */

struct lvri_slots *lvri_slots_of(const struct lvri_arena *a) {
  return lvri_at(a, lvri_arena_header(a)->ah_slots);
}

struct lvri_slot *lvri_slot_at(const struct lvri_arena *a, uint32_t index) {
  if (index == 0 || index >= LVRI_SLOTS_MAX) return NULL;
  const struct lvri_slots *table = lvri_slots_of(a);
  /* pairs with grow_locked(): the rows are filled before the chunk is seen */
  lvri_off chunk = lvri_load_acquire_u64(&table->st_chunks[index / LVRI_SLOTS_PER_CHUNK]);
  struct lvri_slot *rows = lvri_at(a, chunk);
  return rows ? &rows[index % LVRI_SLOTS_PER_CHUNK] : NULL;
}

/* A table that has been grown, then rolled back, may have rows that are not slots yet: their id is
 * that of nobody's process all the same. */
struct lvri_slot *lvri_slot_of(struct lvri_arena *a, lvr_proc_id id) {
  struct lvri_slot *slot = lvri_slot_at(a, lvri_proc_index(id));
  if (!slot || id == 0 || lvri_load_acquire_u64(&slot->sl_id) != id) return NULL;
  /* pairs with lvri_slot_prepare_locked(); a free slot's id is that of its next process */
  return lvri_load_acquire_u32(&slot->sl_state) == LVRI_SLOT_FREE ? NULL : slot;
}

lvr_proc_id lvri_owner_id(struct lvri_arena *a, uint64_t word) {
  struct lvri_slot *slot = lvri_slot_at(a, lvri_owner_index(word));
  if (!slot) return 0;
  lvr_proc_id id = lvri_load_acquire_u64(&slot->sl_id);
  uint32_t generation = (uint32_t)(lvri_proc_generation(id) & 0xffffff);
  return generation == lvri_owner_generation(word) ? id : 0;
}

bool lvri_owner_alive(struct lvri_arena *a, uint64_t word) {
  lvr_proc_id id = lvri_owner_id(a, word);
  return id != 0 && lvri_slot_alive(a, id);
}

/* --- the table ----------------------------------------------------------------------------- */

int lvri_slots_create(struct lvri_arena *a, uint32_t limit) {
  struct lvri_guard *g = lvri_arena_guard(a);
  lvri_off off;
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  error = lvri_heap_alloc_locked(a, sizeof(struct lvri_slots), LVRI_KIND_ROOT, &off);
  struct lvri_slots *table = error ? NULL : lvri_at(a, off);
  if (!error) error = lvri_mutex_init(&table->st_repair);
  if (error) {
    lvri_guard_abort(a, g);
    return error;
  }
  table->st_limit = limit;
  lvri_set64(a, g, &lvri_arena_header(a)->ah_slots, off);
  lvri_guard_leave(a, g);
  return 0;
}

/* Rows first to last, not in reach of anybody yet, become a queue of their own. */
static void fill_rows(struct lvri_slot *rows, uint32_t first, uint32_t last) {
  for (uint32_t index = first; index <= last; index++) {
    struct lvri_slot *slot = &rows[index % LVRI_SLOTS_PER_CHUNK];
    lvri_store_relaxed_u64(&slot->sl_id, lvri_proc_id_of(1, index));
    slot->sl_next = index < last ? index + 1 : 0;
  }
}

/* The queue is empty: append a chunk of fresh slots. */
static int grow_locked(struct lvri_arena *a, struct lvri_guard *g) {
  struct lvri_slots *table = lvri_slots_of(a);
  uint32_t first = table->st_count + 1, chunk = first / LVRI_SLOTS_PER_CHUNK;
  uint32_t last = (chunk + 1) * LVRI_SLOTS_PER_CHUNK - 1;
  if (last > table->st_limit) last = table->st_limit;
  if (first > last) return -EAGAIN;
  lvri_off off;
  size_t bytes = sizeof(struct lvri_slot) * LVRI_SLOTS_PER_CHUNK;
  int error = lvri_heap_alloc_locked(a, bytes, LVRI_KIND_SLOTS, &off);
  if (error) return error;
  fill_rows(lvri_at(a, off), first, last);
  LVR_CRASHPOINT("slots.grow.filled");
  lvri_set64_shared(a, g, &table->st_chunks[chunk], off);
  lvri_set32(a, g, &table->st_count, last);
  lvri_set32(a, g, &table->st_head, first);
  lvri_set32(a, g, &table->st_tail, last);
  lvri_set32(a, g, &table->st_free, last - first + 1);
  return 0;
}

/* The slot that has been free for longest; it must be there. */
static struct lvri_slot *pop_locked(struct lvri_arena *a, struct lvri_guard *g) {
  struct lvri_slots *table = lvri_slots_of(a);
  struct lvri_slot *slot = lvri_slot_at(a, table->st_head);
  lvri_set32(a, g, &table->st_head, slot->sl_next);
  if (slot->sl_next == 0) lvri_set32(a, g, &table->st_tail, 0);
  lvri_set32(a, g, &table->st_free, table->st_free - 1);
  return slot;
}

static void append_locked(struct lvri_arena *a, struct lvri_guard *g, struct lvri_slot *slot,
                          uint32_t index) {
  struct lvri_slots *table = lvri_slots_of(a);
  lvri_set32(a, g, &slot->sl_next, 0);
  if (table->st_tail)
    lvri_set32(a, g, &lvri_slot_at(a, table->st_tail)->sl_next, index);
  else
    lvri_set32(a, g, &table->st_head, index);
  lvri_set32(a, g, &table->st_tail, index);
  lvri_set32(a, g, &table->st_free, table->st_free + 1);
}

/* --- birth --------------------------------------------------------------------------------- */

/* In a free slot nothing means anything but id, state and queue: no need to log. */
static int clean_slot(struct lvri_slot *slot, lvr_proc_id parent, uint32_t flags) {
  lvri_store_relaxed_u32(&slot->sl_ask, 0);
  lvri_store_relaxed_u32(&slot->sl_status_known, 0);
  lvri_store_relaxed_u32(&slot->sl_status, 0);
  lvri_store_relaxed_u32(&slot->sl_pid, 0);
  lvri_store_relaxed_u32(&slot->sl_flags, flags);
  slot->sl_born_ticks = 0;
  slot->sl_prepared_ns = (uint64_t)lvri_os_now_ns();
  slot->sl_parent = parent;
  slot->sl_ledger = slot->sl_task = 0;
  slot->sl_children = slot->sl_forked = 0;
  return lvri_mutex_init(&slot->sl_alive);
}

int lvri_slot_prepare_locked(struct lvri_arena *a, lvr_proc_id parent, uint32_t flags,
                             bool may_grow, lvr_proc_id *ret_id) {
  struct lvri_guard *g = lvri_arena_guard(a);
  if (!lvri_slots_of(a)->st_head) {
    int error = may_grow ? grow_locked(a, g) : -EAGAIN;
    if (error) return error;
  }
  struct lvri_slot *slot = pop_locked(a, g), *maker = lvri_slot_of(a, parent);
  int error = clean_slot(slot, parent, flags);
  if (error) return error;
  if (maker) lvri_set32(a, g, &maker->sl_children, maker->sl_children + 1);
  lvri_set32_shared(a, g, &slot->sl_state, LVRI_SLOT_EMBRYO);
  *ret_id = lvri_load_relaxed_u64(&slot->sl_id);
  return 0;
}

static int prepare_once(struct lvri_arena *a, lvr_proc_id parent, uint32_t flags, bool may_grow,
                        lvr_proc_id *ret_id) {
  struct lvri_guard *g = lvri_arena_guard(a);
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  error = lvri_slot_prepare_locked(a, parent, flags, may_grow, ret_id);
  if (error)
    lvri_guard_abort(a, g);
  else
    lvri_guard_leave(a, g);
  return error;
}

int lvri_slot_prepare(struct lvri_arena *a, lvr_proc_id parent, uint32_t flags,
                      lvr_proc_id *ret_id) {
  int error = prepare_once(a, parent, flags, false, ret_id);
  if (error != -EAGAIN) return error;
  if (lvri_slots_of(a)->st_count > 0) {
    int repaired = lvri_slots_sweep(a);
    if (repaired < 0) return repaired;
  }
  return prepare_once(a, parent, flags, true, ret_id);
}

/* Take the embryo's alive word, whatever an earlier adopter that died in here has left of it. */
static int arm(struct lvri_slot *slot) {
  int error = lvri_mutex_trylock(&slot->sl_alive);
  if (error == -EOWNERDEAD) lvri_mutex_consistent(&slot->sl_alive);
  return error == -EOWNERDEAD ? 0 : error;
}

/* While we have the guard nobody can be born or buried: who is about to watch everybody finds the
 * count changed, or the embryo that we still are; who sleeps is woken. */
static void announce_birth(struct lvri_arena *a) {
  struct lvri_slots *table = lvri_slots_of(a);
  lvri_fetch_add_release_u32(&table->st_changes, 1); /* pairs with lvri_slots_changes() */
  (void)lvri_os_futex_wake(&table->st_changes, INT_MAX);
}

static int adopt_locked(struct lvri_arena *a, struct lvri_guard *g, lvr_proc_id id) {
  struct lvri_slot *slot = lvri_slot_of(a, id);
  if (!slot || lvri_load_relaxed_u32(&slot->sl_state) != LVRI_SLOT_EMBRYO) return -ESRCH;
  int error = arm(slot);
  if (error) return error == -EBUSY ? -ESRCH : error;
  LVR_CRASHPOINT("slots.adopt.armed");
  announce_birth(a);
  LVR_CRASHPOINT("slots.adopt.announced");
  lvri_set32_shared(a, g, &slot->sl_pid, (uint32_t)lvri_os_pid());
  slot->sl_born_ticks = lvri_os_boot_ticks();
  lvri_set32_shared(a, g, &slot->sl_state, LVRI_SLOT_RUNNING);
  return 0;
}

int lvri_slot_adopt(struct lvri_arena *a, lvr_proc_id id) {
  struct lvri_guard *g = lvri_arena_guard(a);
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  error = adopt_locked(a, g, id);
  if (error) {
    lvri_guard_abort(a, g);
    return error;
  }
  lvri_guard_leave(a, g);
  LVR_CRASHPOINT("slots.adopt.born");
  lvri_slot_tell(lvri_slot_of(a, id));
  return 0;
}

/* --- life ---------------------------------------------------------------------------------- */

static bool kernel_knows(const struct lvri_slot *slot) {
  return lvri_os_process_is((int32_t)lvri_load_relaxed_u32(&slot->sl_pid), slot->sl_born_ticks);
}

/* The kernel woke one of those who wait for a death: that one wakes the others. */
static void pass_on(_Atomic uint32_t *word, uint32_t seen) {
  if (seen & LVRI_MUTEX_TID || !(seen & LVRI_MUTEX_WAITERS)) return;
  if (lvri_cas_relaxed_u32(word, &seen, seen & ~LVRI_MUTEX_WAITERS))
    (void)lvri_os_futex_wake(word, INT_MAX);
}

/* Gives in *ret_word what was seen in the alive word. An owner there and RUNNING: one look is
 * enough. No owner: either the process is just arming anew (the word changes, look again), or it
 * has said "ask the kernel" before it let go, or it is dead. */
static bool look(struct lvri_slot *slot, lvr_proc_id id, uint32_t *ret_word) {
  _Atomic uint32_t *word = lvri_mutex_word(&slot->sl_alive);
  for (;;) {
    uint32_t seen = lvri_load_acquire_u32(word); /* pairs with the C library's unlock */
    *ret_word = seen;
    if (lvri_load_acquire_u64(&slot->sl_id) != id) return false;
    bool runs = lvri_load_acquire_u32(&slot->sl_state) == LVRI_SLOT_RUNNING;
    if (__builtin_expect((seen & LVRI_MUTEX_TID) != 0, 1)) return runs;
    uint32_t ask = lvri_load_acquire_u32(&slot->sl_ask);
    if (lvri_load_acquire_u32(word) != seen) continue;
    if (ask && runs) return kernel_knows(slot);
    pass_on(word, seen);
    return false;
  }
}

bool lvri_slot_alive(struct lvri_arena *a, lvr_proc_id id) {
  uint32_t seen;
  struct lvri_slot *slot = lvri_slot_at(a, lvri_proc_index(id));
  return slot && look(slot, id, &seen);
}

_Atomic uint32_t *lvri_slot_alive_word(struct lvri_arena *a, lvr_proc_id id,
                                       uint32_t *ret_expected) {
  struct lvri_slot *slot = lvri_slot_at(a, lvri_proc_index(id));
  uint32_t seen;
  while (slot && look(slot, id, &seen)) {
    _Atomic uint32_t *word = lvri_mutex_word(&slot->sl_alive);
    uint32_t wanted = seen & LVRI_MUTEX_TID ? seen | LVRI_MUTEX_WAITERS : seen;
    if (wanted != seen && !lvri_cas_relaxed_u32(word, &seen, wanted)) continue;
    *ret_expected = wanted;
    return word;
  }
  return NULL;
}

/* The kernel has not marked the word, and never will: do it as the kernel would have. In the guard,
 * for there the slot cannot become somebody else's, whose thread might have the same number. */
static void bury(struct lvri_arena *a, struct lvri_slot *slot, lvr_proc_id id, uint32_t seen) {
  struct lvri_guard *g = lvri_arena_guard(a);
  if (lvri_guard_enter(a, g) != 0) return;
  _Atomic uint32_t *word = lvri_mutex_word(&slot->sl_alive);
  bool same = lvri_load_relaxed_u64(&slot->sl_id) == id;
  if (same && lvri_cas_acq_rel_u32(word, &seen, LVRI_MUTEX_OWNER_DIED))
    (void)lvri_os_futex_wake(word, INT_MAX);
  lvri_guard_leave(a, g);
}

/* The thread that holds the word is there. One that is not the main thread may have gone by
 * exec(): it has another number since, and the kernel did not find the word to be its own. */
static bool holder_exists(const struct lvri_slot *slot, uint32_t seen) {
  int32_t tid = (int32_t)(seen & LVRI_MUTEX_TID);
  return tid == (int32_t)lvri_load_relaxed_u32(&slot->sl_pid) || lvri_os_thread_exists(tid);
}

bool lvri_slot_alive_thoroughly(struct lvri_arena *a, lvr_proc_id id) {
  struct lvri_slot *slot = lvri_slot_of(a, id);
  uint32_t seen;
  if (!slot) return false;
  bool alive = look(slot, id, &seen);
  if (!(seen & LVRI_MUTEX_TID) || (kernel_knows(slot) && holder_exists(slot, seen))) return alive;
  bury(a, slot, id, seen);
  return look(slot, id, &seen);
}

/* --- everybody ----------------------------------------------------------------------------- */

/* The kernel tells of a death for sure if the main thread holds the word: another one may leave by
 * exec(), see holder_exists(). Where a thread has ended nobody holds it, nor an embryo's. Who is
 * over must be repaired first. */
static int watch(struct lvri_arena *a, const struct lvri_slot *slot, lvr_proc_id id,
                 struct lvri_os_word *ret_word) {
  if (lvri_load_acquire_u32(&slot->sl_state) == LVRI_SLOT_EMBRYO) return -EAGAIN;
  ret_word->word = lvri_slot_alive_word(a, id, &ret_word->expected);
  if (!ret_word->word) return -ESRCH;
  uint32_t holder = ret_word->expected & LVRI_MUTEX_TID;
  return holder == lvri_load_relaxed_u32(&slot->sl_pid) ? 0 : -EAGAIN;
}

uint32_t lvri_slots_changes(const struct lvri_arena *a) {
  /* pairs with announce_birth() and lvri_slots_note_burial() */
  return lvri_load_acquire_u32(&lvri_slots_of(a)->st_changes);
}

/* Who was RUNNING when the count was `changes` is here, or has been buried, and that was counted;
 * who was an embryo then is here as one, or its birth was counted; and who is born while we look,
 * or sleep, changes the word that is slept on. */
int lvri_slots_watch(struct lvri_arena *a, lvr_proc_id self, uint32_t changes, unsigned room,
                     struct lvri_os_word *ret_words, lvr_proc_id *ret_ids, unsigned *ret_count) {
  const struct lvri_slots *table = lvri_slots_of(a);
  unsigned count = 1;
  ret_words[0] = (struct lvri_os_word){&table->st_changes, changes};
  ret_ids[0] = 0;
  for (uint32_t index = 1; index <= table->st_count; index++) {
    const struct lvri_slot *slot = lvri_slot_at(a, index);
    lvr_proc_id id = lvri_load_acquire_u64(&slot->sl_id);
    uint32_t state = lvri_load_acquire_u32(&slot->sl_state);
    if (id == self || state == LVRI_SLOT_FREE || state == LVRI_SLOT_DEAD) continue;
    int error = count < room ? watch(a, slot, id, &ret_words[count]) : -EAGAIN;
    if (error) return error;
    ret_ids[count++] = id;
  }
  *ret_count = count;
  return lvri_slots_changes(a) == changes ? 0 : -EAGAIN;
}

/* Nobody need be woken: who watches everybody has been by the death. */
void lvri_slots_note_burial(struct lvri_arena *a) {
  lvri_fetch_add_release_u32(&lvri_slots_of(a)->st_changes,
                             1); /* pairs with lvri_slots_changes() */
}

/* --- death --------------------------------------------------------------------------------- */

void lvri_slot_tell(struct lvri_slot *slot) {
  lvri_fetch_add_release_u32(&slot->sl_news, 1); /* pairs with the acquire of who waits */
  LVR_CRASHPOINT("slots.tell.counted");
  (void)lvri_os_futex_wake(&slot->sl_news, INT_MAX);
}

bool lvri_slot_over(struct lvri_arena *a, lvr_proc_id id) {
  struct lvri_slot *slot = lvri_slot_of(a, id);
  if (!slot) return true;
  return lvri_load_acquire_u32(&slot->sl_state) != LVRI_SLOT_EMBRYO && !lvri_slot_alive(a, id);
}

static void set_over_locked(struct lvri_arena *a, struct lvri_guard *g, struct lvri_slot *slot) {
  uint32_t state = lvri_load_relaxed_u32(&slot->sl_state);
  if (state == LVRI_SLOT_EMBRYO || state == LVRI_SLOT_RUNNING)
    lvri_set32_shared(a, g, &slot->sl_state, LVRI_SLOT_OVER);
}

int lvri_slot_set_over(struct lvri_arena *a, lvr_proc_id id) {
  struct lvri_guard *g = lvri_arena_guard(a);
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  struct lvri_slot *slot = lvri_slot_of(a, id);
  if (slot) set_over_locked(a, g, slot);
  lvri_guard_leave(a, g);
  if (slot) lvri_slot_tell(slot);
  return 0;
}

static int set_status_locked(struct lvri_arena *a, struct lvri_guard *g, struct lvri_slot *slot,
                             int32_t status) {
  if (!slot || lvri_load_relaxed_u32(&slot->sl_state) == LVRI_SLOT_EMBRYO) return -ESRCH;
  int error = lvri_load_relaxed_u32(&slot->sl_status_known) ? -EALREADY : 0;
  if (!error) {
    lvri_set32_shared(a, g, &slot->sl_status, (uint32_t)status);
    lvri_set32_shared(a, g, &slot->sl_status_known, 1);
  }
  set_over_locked(a, g, slot);
  return error;
}

int lvri_slot_set_status(struct lvri_arena *a, lvr_proc_id id, int32_t status) {
  struct lvri_guard *g = lvri_arena_guard(a);
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  struct lvri_slot *slot = lvri_slot_of(a, id);
  error = set_status_locked(a, g, slot, status);
  lvri_guard_leave(a, g);
  if (!error) lvri_slot_tell(slot);
  return error;
}

bool lvri_slot_free_locked(struct lvri_arena *a, struct lvri_slot *slot) {
  struct lvri_guard *g = lvri_arena_guard(a);
  if (lvri_load_relaxed_u32(&slot->sl_state) != LVRI_SLOT_DEAD) return false;
  if (lvri_load_relaxed_u32(&slot->sl_flags) & LVR_PROC_WATCHED) return false;
  /* pairs with the C library's unlock: the last that a process does here */
  if (lvri_load_acquire_u32(lvri_mutex_word(&slot->sl_alive)) & LVRI_MUTEX_TID) return false;
  lvr_proc_id id = lvri_load_relaxed_u64(&slot->sl_id);
  struct lvri_slot *maker = lvri_slot_of(a, slot->sl_parent);
  if (maker) lvri_set32(a, g, &maker->sl_children, maker->sl_children - 1);
  lvri_set32_shared(a, g, &slot->sl_state, LVRI_SLOT_FREE);
  lvri_set64_shared(a, g, &slot->sl_id, id + (UINT64_C(1) << 16));
  append_locked(a, g, slot, lvri_proc_index(id));
  return true;
}

/* --- checks -------------------------------------------------------------------------------- */

static bool slot_valid(struct lvri_slot *slot, uint32_t index) {
  uint32_t state = lvri_load_relaxed_u32(&slot->sl_state);
  if (state > LVRI_SLOT_DEAD) return false;
  if (lvri_proc_index(lvri_load_relaxed_u64(&slot->sl_id)) != index) return false;
  if (state == LVRI_SLOT_RUNNING && lvri_load_relaxed_u32(&slot->sl_pid) == 0) return false;
  return state != LVRI_SLOT_DEAD || (slot->sl_ledger == 0 && slot->sl_task == 0);
}

static uint32_t children_of(struct lvri_arena *a, lvr_proc_id parent) {
  uint32_t count = 0;
  for (uint32_t index = 1; index <= lvri_slots_of(a)->st_count; index++) {
    struct lvri_slot *slot = lvri_slot_at(a, index);
    if (lvri_load_relaxed_u32(&slot->sl_state) != LVRI_SLOT_FREE && slot->sl_parent == parent)
      count++;
  }
  return count;
}

/* Queue and states agree: as many FREE slots as the queue is long, and each in it is FREE. */
static bool queue_valid(struct lvri_arena *a, uint32_t free_slots) {
  const struct lvri_slots *table = lvri_slots_of(a);
  uint32_t length = 0, last = 0;
  for (uint32_t at = table->st_head; at; at = lvri_slot_at(a, at)->sl_next) {
    if (at > table->st_count || ++length > table->st_count) return false;
    if (lvri_load_relaxed_u32(&lvri_slot_at(a, at)->sl_state) != LVRI_SLOT_FREE) return false;
    last = at;
  }
  return length == table->st_free && length == free_slots && last == table->st_tail;
}

int lvri_slots_valid(struct lvri_arena *a) {
  const struct lvri_slots *table = lvri_slots_of(a);
  uint32_t free_slots = 0;
  if (table->st_count > table->st_limit) return -EUCLEAN;
  for (uint32_t index = 1; index <= table->st_count; index++) {
    struct lvri_slot *slot = lvri_slot_at(a, index);
    if (!slot || !slot_valid(slot, index)) return -EUCLEAN;
    if (lvri_load_relaxed_u32(&slot->sl_state) == LVRI_SLOT_FREE) {
      free_slots++;
      continue;
    }
    lvr_proc_id id = lvri_load_relaxed_u64(&slot->sl_id);
    if (slot->sl_children != children_of(a, id)) return -EUCLEAN;
  }
  return queue_valid(a, free_slots) ? 0 : -EUCLEAN;
}
