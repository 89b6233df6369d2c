#include "core/block.h"

#include <string.h>

#include "base/atomic.h"
#include "base/crashpoint.h"
#include "core/heap.h"
#include "os/os.h"

#define LOOK_BYTES ((size_t)64 << 20) /* a look is cheap beside as much memory */

static struct lvr_block_shm *shm_of(const struct lvr_block *b) {
  return (struct lvr_block_shm *)(void *)b->handle.object;
}

static struct lvri_arena *arena_of(const struct lvr_block *b) { return &b->handle.session->arena; }

/* --- create, attach, detach ---------------------------------------------------------------- */

/* What is wanted. */
struct wish {
  size_t bytes;
  bool run;
};

/* Nobody can reach the object yet: no need to log. */
static int init_locked(struct lvri_arena *a, lvri_off object, void *context) {
  const struct wish *wish = context;
  struct lvr_block_shm *shm = lvri_at(a, object);
  shm->bl_bytes = wish->bytes;
  shm->bl_run = 0;
  shm->bl_refs = 0;
  lvri_store_relaxed_u32(&shm->bl_count, 0);
  if (!wish->run) return 0;
  size_t bytes = wish->bytes > LVRI_HEAP_SMALL_MAX ? wish->bytes : LVRI_PAGE_BYTES;
  return lvri_heap_alloc_bare_locked(a, bytes, LVRI_KIND_PART, &shm->bl_run);
}

/* It is in our ledger, and nobody else knows of it. */
static int fill(struct lvr_block *b, bool zeros) {
  struct lvr_block_shm *shm = shm_of(b);
  if (shm->bl_run) return lvri_heap_fill(arena_of(b), shm->bl_run, zeros);
  if (zeros) memset(shm + 1, 0, shm->bl_bytes);
  return 0;
}

/* The arena is not to grow for what cannot be had. */
static int look_for(struct lvri_arena *a, size_t bytes) {
  if (bytes < LOOK_BYTES) return 0;
  int error = lvri_os_shm_may_commit(bytes);
  return error && lvri_heap_squeeze(a) ? lvri_os_shm_may_commit(bytes) : error;
}

int lvr_block_create(lvr_session *s, size_t bytes, uint32_t flags, lvr_block **ret_b) {
  if (flags & ~(LVR_BLOCK_ZEROED | LVR_BLOCK_PAGED)) return -EINVAL;
  if (lvri_session_stale(s)) return -ESTALE;
  struct wish wish = {bytes, (flags & LVR_BLOCK_PAGED) || bytes > LVRI_BLOCK_SMALL_MAX};
  struct lvri_making making = {
      .kind = LVRI_KIND_BLOCK,
      .bytes = sizeof(struct lvr_block_shm) + (wish.run ? 0 : bytes),
      .bare = true,
      .init_locked = init_locked,
      .context = &wish,
  };
  struct lvri_handle *h;
  int error = look_for(&s->arena, bytes);
  if (!error) error = lvri_object_make(s, &making, &h);
  if (error) return error;
  LVR_CRASHPOINT("block.create.made");
  struct lvr_block *b = (struct lvr_block *)(void *)h;
  error = fill(b, flags & LVR_BLOCK_ZEROED);
  if (error)
    lvr_block_detach(b);
  else
    *ret_b = b;
  return error;
}

int lvr_block_attach(lvr_session *s, const lvr_ref *ref, lvr_block **ret_b) {
  struct lvri_handle *h;
  int error = lvri_object_attach(s, ref, LVRI_KIND_BLOCK, &h);
  if (!error) *ret_b = (struct lvr_block *)(void *)h;
  return error;
}

void lvr_block_detach(lvr_block *b) {
  if (b) lvri_object_detach(&b->handle);
}

void lvr_block_ref(const lvr_block *b, lvr_ref *ret_ref) { lvri_object_ref(&b->handle, ret_ref); }

int lvr_block_send(lvr_block *b, lvr_ref *ret_ref) { return lvri_object_send(&b->handle, ret_ref); }

/* --- the payload --------------------------------------------------------------------------- */

void *lvr_block_data(const lvr_block *b) {
  struct lvr_block_shm *shm = shm_of(b);
  return shm->bl_run ? lvri_at(arena_of(b), shm->bl_run) : shm + 1;
}

size_t lvr_block_bytes(const lvr_block *b) { return shm_of(b)->bl_bytes; }

/* In the mutex, so that two threads do not make one each, and a fork does not come between. */
static int make_view(struct lvr_block *b) {
  const struct lvr_block_shm *shm = shm_of(b);
  size_t bytes = shm->bl_bytes ? shm->bl_bytes : 1; /* a mapping of nothing would be none */
  void *view;
  if (lvri_session_stale(b->handle.session)) return -ESTALE;
  if (lvri_load_relaxed_u64(&b->view)) return 0; /* somebody else was faster */
  int error = lvri_os_shm_view(arena_of(b)->fd, shm->bl_run, bytes, &view);
  if (error) return -ENOMEM;
  b->view_bytes = bytes;
  lvri_store_release_u64(&b->view, (uint64_t)(uintptr_t)view); /* pairs with lvr_block_view() */
  return 0;
}

int lvr_block_view(lvr_block *b, void **ret_view) {
  if (!shm_of(b)->bl_run) return -EINVAL;
  if (!lvri_load_acquire_u64(&b->view)) { /* pairs with make_view() */
    lvri_session_lock(b->handle.session);
    int error = make_view(b);
    lvri_session_unlock(b->handle.session);
    if (error) return error;
  }
  *ret_view = (void *)(uintptr_t)lvri_load_acquire_u64(&b->view);
  return 0;
}

void lvri_block_close(struct lvri_handle *h) {
  struct lvr_block *b = (struct lvr_block *)(void *)h;
  uint64_t view = lvri_load_relaxed_u64(&b->view); /* the object may be gone already */
  if (view) lvri_os_shm_unmap((void *)(uintptr_t)view, b->view_bytes);
}

/* --- what it carries ----------------------------------------------------------------------- */

/* Chunk k begins at entry FIRST * (2^k - 1). */
static uint32_t chunk_of(uint32_t index) {
  return 31U - (uint32_t)__builtin_clz(index / LVRI_BLOCK_FIRST + 1);
}

static uint32_t begin_of(uint32_t chunk) { return LVRI_BLOCK_FIRST * ((1U << chunk) - 1); }

static lvri_off *entry_at(struct lvri_arena *a, const struct lvr_block_shm *shm, uint32_t index) {
  struct lvri_block_refs *refs = lvri_at(a, shm->bl_refs);
  uint32_t chunk = chunk_of(index);
  lvri_off *entries = chunk ? lvri_at(a, refs->br_chunk[chunk]) : refs->br_first;
  return &entries[index - begin_of(chunk)];
}

static int need_refs(struct lvri_arena *a, struct lvr_block_shm *shm) {
  lvri_off off;
  if (shm->bl_refs) return 0;
  int error = lvri_heap_alloc_locked(a, sizeof(struct lvri_block_refs), LVRI_KIND_PART, &off);
  if (!error) lvri_set64(a, lvri_arena_guard(a), &shm->bl_refs, off);
  return error;
}

/* There is room for entry number index, the first that was never used. */
static int need_entry(struct lvri_arena *a, struct lvr_block_shm *shm, uint32_t index) {
  struct lvri_guard *g = lvri_arena_guard(a);
  int error = need_refs(a, shm);
  if (error) return error;
  struct lvri_block_refs *refs = lvri_at(a, shm->bl_refs);
  uint32_t chunk = chunk_of(index);
  lvri_off off;
  if (chunk <= refs->br_chunks) return 0;
  if (chunk >= LVRI_BLOCK_CHUNKS) return -EOVERFLOW;
  error =
      lvri_heap_alloc_locked(a, sizeof(lvri_off) * LVRI_BLOCK_FIRST << chunk, LVRI_KIND_PART, &off);
  if (error) return error;
  lvri_set64(a, g, &refs->br_chunk[chunk], off);
  lvri_set32(a, g, &refs->br_chunks, chunk);
  return 0;
}

static int carry_locked(struct lvr_block *b, const lvr_ref *ref) {
  struct lvri_arena *a = arena_of(b);
  struct lvri_guard *g = lvri_arena_guard(a);
  struct lvr_block_shm *shm = shm_of(b);
  struct lvri_object_shm *object;
  uint32_t count = lvri_load_relaxed_u32(&shm->bl_count);
  int error = lvri_object_find_locked(a, ref, &object);
  if (!error && object == b->handle.object) error = -EINVAL;
  if (!error && object->ob_refs == UINT32_MAX) error = -EOVERFLOW;
  if (!error) error = need_entry(a, shm, count);
  if (error) return error;
  *entry_at(a, shm, count) = ref->off; /* nobody reads it yet */
  lvri_set32_shared(a, g, &shm->bl_count, count + 1);
  lvri_set32(a, g, &object->ob_refs, object->ob_refs + 1);
  LVR_CRASHPOINT("block.carry.counted");
  return 0;
}

static int try_carry(lvr_block *b, const lvr_ref *ref) {
  struct lvri_arena *a = arena_of(b);
  struct lvri_guard *g = lvri_arena_guard(a);
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  error = carry_locked(b, ref);
  if (error)
    lvri_guard_abort(a, g);
  else
    lvri_guard_leave(a, g);
  return error;
}

int lvr_block_carry(lvr_block *b, const lvr_ref *ref) {
  if (lvri_session_stale(b->handle.session)) return -ESTALE;
  int error = try_carry(b, ref);
  return error == -ENOMEM && lvri_heap_squeeze(arena_of(b)) ? try_carry(b, ref) : error;
}

uint32_t lvr_block_carried(const lvr_block *b) {
  return lvri_load_acquire_u32(&shm_of(b)->bl_count); /* pairs with carry_locked() */
}

/* The object stays where it is, for it is carried. */
void lvr_block_carried_ref(const lvr_block *b, uint32_t index, lvr_ref *ret_ref) {
  struct lvri_arena *a = arena_of(b);
  lvri_off off = *entry_at(a, shm_of(b), index);
  const struct lvri_object_shm *object = lvri_at(a, off);
  *ret_ref = (lvr_ref){.off = off, .serial = object->ob_serial, .kind = object->ob_kind};
  lvr_session_uuid(b->handle.session, ret_ref->session);
}

/* --- the end ------------------------------------------------------------------------------- */

bool lvri_block_is_drained(struct lvri_arena *a, lvri_off object) {
  const struct lvr_block_shm *shm = lvri_at(a, object);
  return !shm->bl_refs;
}

/* Without references: chunk by chunk, then the table. */
static bool free_table(struct lvri_arena *a, struct lvr_block_shm *shm) {
  struct lvri_guard *g = lvri_arena_guard(a);
  struct lvri_block_refs *refs = lvri_at(a, shm->bl_refs);
  uint32_t chunk = refs->br_chunks;
  if (!chunk) {
    lvri_heap_free_locked(a, shm->bl_refs);
    lvri_set64(a, g, &shm->bl_refs, 0);
    return true;
  }
  lvri_heap_free_locked(a, refs->br_chunk[chunk]);
  lvri_set64(a, g, &refs->br_chunk[chunk], 0);
  lvri_set32(a, g, &refs->br_chunks, chunk - 1);
  return false;
}

bool lvri_block_drain_locked(struct lvri_arena *a, lvri_off object) {
  struct lvr_block_shm *shm = lvri_at(a, object);
  uint32_t count = lvri_load_relaxed_u32(&shm->bl_count);
  if (!shm->bl_refs) return true;
  if (!count) return free_table(a, shm);
  lvri_set32_shared(a, lvri_arena_guard(a), &shm->bl_count, count - 1);
  LVR_CRASHPOINT("block.drain.counted");
  lvri_object_unref_locked(a, *entry_at(a, shm, count - 1));
  return false;
}

void lvri_block_fini_locked(struct lvri_arena *a, lvri_off object) {
  const struct lvr_block_shm *shm = lvri_at(a, object);
  if (shm->bl_run) lvri_heap_free_locked(a, shm->bl_run);
}

/* --- checks -------------------------------------------------------------------------------- */

void lvri_block_each_reference(struct lvri_arena *a, lvri_off object,
                               void (*visit)(void *context, lvri_off to), void *context) {
  const struct lvr_block_shm *shm = lvri_at(a, object);
  uint32_t count = lvri_load_relaxed_u32(&shm->bl_count);
  for (uint32_t i = 0; i < count; i++)
    visit(context, *entry_at(a, shm, i));
}

static bool is_part(struct lvri_arena *a, lvri_off off, uint64_t bytes) {
  return lvri_heap_is_block(a, off) && lvri_heap_kind(a, off) == LVRI_KIND_PART &&
         lvri_heap_size(a, off) >= bytes;
}

static bool refs_valid(struct lvri_arena *a, const struct lvr_block_shm *shm) {
  uint32_t count = lvri_load_relaxed_u32(&shm->bl_count);
  if (!shm->bl_refs) return count == 0;
  if (!is_part(a, shm->bl_refs, sizeof(struct lvri_block_refs))) return false;
  const struct lvri_block_refs *refs = lvri_at(a, shm->bl_refs);
  if (refs->br_chunks >= LVRI_BLOCK_CHUNKS || count > begin_of(refs->br_chunks + 1)) return false;
  for (uint32_t k = 0; k < LVRI_BLOCK_CHUNKS; k++) {
    uint64_t bytes = sizeof(lvri_off) * LVRI_BLOCK_FIRST << k;
    bool there = k > 0 && k <= refs->br_chunks;
    if (there ? !is_part(a, refs->br_chunk[k], bytes) : refs->br_chunk[k] != 0) return false;
  }
  return true;
}

bool lvri_block_valid(struct lvri_arena *a, lvri_off object) {
  const struct lvr_block_shm *shm = lvri_at(a, object);
  if (shm->bl_run ? !is_part(a, shm->bl_run, shm->bl_bytes)
                  : lvri_heap_size(a, object) - sizeof(*shm) < shm->bl_bytes)
    return false;
  return refs_valid(a, shm);
}
