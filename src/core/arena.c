#include "core/arena.h"

#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "base/atomic.h"
#include "base/crashpoint.h"
#include "base/hash.h"
#include "os/os.h"

/* What lvri_arena_destroy() leaves instead of the magic. */
#define MAGIC_OF_THE_DEAD (~LVRI_ARENA_MAGIC)

_Static_assert(sizeof(struct lvri_arena_shm) <= LVRI_PAGE_BYTES, "the header has one page");
_Static_assert(sizeof(struct lvri_arena_guard) == 4096, "records follow");
_Static_assert(sizeof(struct lvri_stripe_guard) == 512, "records follow");

/* --- making one ------------------------------------------------------------------------------- */

static int init_guards(struct lvri_arena_shm *header) {
  int error = lvri_guard_init(&header->ah_guard.ag_guard, LVRI_RANK_ARENA, LVRI_ARENA_RECORDS);
  for (uint32_t i = 0; i < LVRI_ARENA_STRIPES && !error; i++)
    error = lvri_guard_init(&header->ah_stripes[i].sg_guard, LVRI_RANK_STRIPE, LVRI_STRIPE_RECORDS);
  return error;
}

/* The magic comes last: what dies before is no arena. */
static int init_header(struct lvri_arena *a) {
  struct lvri_arena_shm *header = lvri_arena_header(a);
  header->ah_format = LVRI_ARENA_FORMAT;
  header->ah_header_bytes = sizeof(*header);
  header->ah_layout = lvri_arena_layout();
  header->ah_reserve_bytes = a->mapped_bytes;
  header->ah_serial = 1;
  int error = lvri_os_random(header->ah_session, sizeof(header->ah_session));
  if (!error) error = init_guards(header);
  if (!error) error = lvri_heap_init(a);
  if (!error) lvri_store_release_u64(&header->ah_magic, LVRI_ARENA_MAGIC);
  return error;
}

int lvri_arena_create(uint64_t reserve_bytes, struct lvri_arena *ret) {
  struct lvri_arena a = {NULL, -1, 0};
  void *base = NULL;
  if (!reserve_bytes) reserve_bytes = LVRI_ARENA_RESERVE_BYTES;
  if (reserve_bytes > LVRI_ARENA_MOST_BYTES) reserve_bytes = LVRI_ARENA_MOST_BYTES;
  if (reserve_bytes < LVRI_ARENA_LEAST_BYTES || reserve_bytes % LVRI_PAGE_BYTES) return -EINVAL;
  int error = lvri_os_shm_create(&a.fd);
  if (!error)
    error =
        lvri_os_shm_reserve(a.fd, reserve_bytes, LVRI_ARENA_LEAST_BYTES, &base, &a.mapped_bytes);
  a.base = base;
  if (!error) error = lvri_os_shm_commit(a.fd, 0, sizeof(struct lvri_arena_shm));
  if (!error) error = init_header(&a);
  if (error)
    lvri_arena_fini(&a);
  else
    *ret = a;
  return error;
}

/* --- joining one ------------------------------------------------------------------------------ */

static bool sizes_are_sound(const struct lvri_arena_shm *header, uint64_t file_bytes) {
  uint64_t size = lvri_load_acquire_u64(&header->ah_size_bytes); /* pairs with the growth's store */
  uint64_t used = (uint64_t)header->ah_heap.hp_pages << LVRI_PAGE_SHIFT;
  return header->ah_reserve_bytes >= LVRI_ARENA_LEAST_BYTES &&
         header->ah_reserve_bytes <= LVRI_ARENA_MOST_BYTES &&
         header->ah_reserve_bytes % LVRI_PAGE_BYTES == 0 && size <= header->ah_reserve_bytes &&
         size <= file_bytes && used <= size && header->ah_heap.hp_table == LVRI_PAGE_BYTES &&
         header->ah_heap.hp_first <= header->ah_heap.hp_pages;
}

static int check_header(const struct lvri_arena_shm *header, uint64_t file_bytes) {
  uint64_t magic = lvri_load_acquire_u64(&header->ah_magic); /* pairs with init_header() */
  if (magic == MAGIC_OF_THE_DEAD) return -ESTALE;
  if (magic != LVRI_ARENA_MAGIC) return -EBADMSG;
  if (header->ah_format != LVRI_ARENA_FORMAT || header->ah_header_bytes != sizeof(*header) ||
      header->ah_layout != lvri_arena_layout())
    return -EPROTO;
  return sizes_are_sound(header, file_bytes) ? 0 : -EBADMSG;
}

/* How large a mapping the arena in fd wants; told from a copy of its header's first part, for
 * nothing is mapped that is not an arena. */
static int read_header(int fd, uint64_t *ret_reserve_bytes) {
  struct lvri_arena_shm header;
  uint64_t file_bytes = 0;
  int error = lvri_os_shm_size(fd, &file_bytes);
  if (error) return error == -EBADF ? error : -EBADMSG;
  if (file_bytes < sizeof(header)) return -EBADMSG;
  error = lvri_os_shm_read(fd, 0, &header, offsetof(struct lvri_arena_shm, ah_guard));
  if (!error)
    error = check_header(&header, file_bytes);
  else
    error = -EBADMSG;
  if (!error) *ret_reserve_bytes = header.ah_reserve_bytes;
  return error;
}

int lvri_arena_attach(int fd, struct lvri_arena *ret) {
  struct lvri_arena a = {NULL, -1, 0};
  uint64_t reserve_bytes = 0;
  void *base = NULL;
  int error = read_header(fd, &reserve_bytes);
  if (error) return error;
  a.fd = lvri_os_dup(fd);
  if (a.fd < 0) return a.fd;
  error = lvri_os_shm_reserve(a.fd, reserve_bytes, reserve_bytes, &base, &a.mapped_bytes);
  a.base = base;
  if (error)
    lvri_arena_fini(&a);
  else
    *ret = a;
  return error == -EACCES || error == -ENODEV ? -EBADMSG : error;
}

/* --- leaving one ------------------------------------------------------------------------------ */

void lvri_arena_fini(struct lvri_arena *a) {
  if (!a) return;
  if (a->base) lvri_os_shm_unmap(a->base, a->mapped_bytes);
  if (a->fd > 0)
    lvri_os_close(a->fd); /* 0 is a zeroed struct: lvri_os_shm_create() never gives it */
  *a = (struct lvri_arena){NULL, -1, 0};
}

void lvri_arena_destroy(struct lvri_arena *a) {
  lvri_store_release_u64(&lvri_arena_header(a)->ah_magic, MAGIC_OF_THE_DEAD);
}

/* --- its parts -------------------------------------------------------------------------------- */

struct lvri_guard *lvri_arena_guard(struct lvri_arena *a) {
  return &lvri_arena_header(a)->ah_guard.ag_guard;
}

struct lvri_guard *lvri_arena_stripe(struct lvri_arena *a, lvri_off of) {
  return &lvri_arena_header(a)->ah_stripes[lvri_hash_u64(of) % LVRI_ARENA_STRIPES].sg_guard;
}

uint64_t lvri_arena_serial_locked(struct lvri_arena *a) {
  struct lvri_arena_shm *header = lvri_arena_header(a);
  uint64_t serial = header->ah_serial;
  lvri_set64(a, lvri_arena_guard(a), &header->ah_serial, serial + 1);
  return serial;
}

/* The size is not logged: the file cannot shrink again, and may well be longer than what the heap
 * knows of. */
int lvri_arena_grow_locked(struct lvri_arena *a, uint64_t to_bytes) {
  struct lvri_arena_shm *header = lvri_arena_header(a);
  if (to_bytes > a->mapped_bytes) return -ENOMEM;
  if (to_bytes <= lvri_load_relaxed_u64(&header->ah_size_bytes)) return 0;
  int error = lvri_os_shm_extend(a->fd, to_bytes);
  if (error) return error;
  LVR_CRASHPOINT("arena.grow.extended");
  lvri_store_release_u64(&header->ah_size_bytes, to_bytes); /* pairs with lvri_arena_contains() */
  LVR_CRASHPOINT("arena.grow.published");
  return 0;
}

bool lvri_arena_contains(const struct lvri_arena *a, lvri_off off, uint64_t bytes) {
  uint64_t size = lvri_load_acquire_u64(&lvri_arena_header(a)->ah_size_bytes);
  if (size > a->mapped_bytes) size = a->mapped_bytes;
  return off != 0 && off <= size && bytes <= size - off;
}

int lvri_arena_valid(struct lvri_arena *a) {
  const struct lvri_arena_shm *header = lvri_arena_header(a);
  uint64_t file_bytes = 0;
  int error = lvri_os_shm_size(a->fd, &file_bytes);
  if (!error) error = check_header(header, file_bytes);
  if (!error) error = lvri_guard_valid(a, lvri_arena_guard(a));
  if (error) return -EUCLEAN;
  return lvri_heap_valid(a);
}
