/* arena.h - the one memory that all processes of a session map.
 *
 * One memfd, mapped whole by everybody and grown at its end; everything in it is named by its
 * offset. Its first pages are the header below; the heap has the rest. A process may map it more
 * than once, at different addresses. */
#ifndef LVRI_CORE_ARENA_H
#define LVRI_CORE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/off.h"
#include "core/guard.h"
#include "core/heap.h"

#define LVRI_ARENA_MAGIC         UINT64_C(0x0a746572657665ff) /* ff "everet\n": not text */
#define LVRI_ARENA_FORMAT        1U
#define LVRI_ARENA_RESERVE_BYTES (UINT64_C(64) << 30)  /* unless told otherwise */
#define LVRI_ARENA_MOST_BYTES    (UINT64_C(256) << 30) /* an object's place fits into 32 bits */
#define LVRI_ARENA_LEAST_BYTES   (UINT64_C(4) << 20)   /* with less there is no session */
#define LVRI_ARENA_STRIPES       64U
#define LVRI_ARENA_RECORDS       252U /* the guard and its journal fill 4096 bytes */
#define LVRI_STRIPE_RECORDS      28U  /* ... and 512 */

struct lvri_arena_guard {
  struct lvri_guard ag_guard;
  struct lvri_guard_record ag_records[LVRI_ARENA_RECORDS];
};

struct lvri_stripe_guard {
  struct lvri_guard sg_guard;
  struct lvri_guard_record sg_records[LVRI_STRIPE_RECORDS];
};

/* The start of the arena. "Once": by its creator, before anybody else can map it.
 *   ah_magic            last of all by the creator; overwritten by lvri_arena_destroy()
 *   ah_format, ah_layout, ah_session, ah_reserve_bytes    once; constant
 *   ah_size_bytes       by the heap, under the arena's guard, only upwards; not logged, since the
 *                       file never shrinks: at most the length of the file. Read without the guard.
 *   ah_serial           the next object's serial number, from 1; logged, under the arena's guard
 *   ah_slots            the process table's block; once (by the session)
 *   ah_grave            the first of the objects that wait for their end (core/grave.h), in units
 *                       of 64 bytes; logged, under the arena's guard. Read without it: a hint
 *   ah_roots            for modules that need one word of their own; by their rules
 *   ah_heap             core/heap.h
 *   ah_guard            over heap, process table, ledgers, reference counts
 *   ah_stripes          over the objects, by the hash of their offset */
struct lvri_arena_shm {
  _Atomic uint64_t ah_magic;
  uint32_t ah_format;
  uint32_t ah_header_bytes;
  uint64_t ah_layout;
  uint8_t ah_session[16];
  uint64_t ah_reserve_bytes;
  _Atomic uint64_t ah_size_bytes;
  uint64_t ah_serial;
  lvri_off ah_slots;
  _Atomic uint32_t ah_grave;
  uint32_t ah_reserved;
  uint64_t ah_roots[6];
  _Alignas(64) struct lvri_heap_shm ah_heap;
  _Alignas(64) struct lvri_arena_guard ah_guard;
  _Alignas(64) struct lvri_stripe_guard ah_stripes[LVRI_ARENA_STRIPES];
};

/* A mapping of it, in one process. Constant from create or attach to fini. */
struct lvri_arena {
  unsigned char *base;
  int fd;
  uint64_t mapped_bytes;
};

static inline struct lvri_arena_shm *lvri_arena_header(const struct lvri_arena *a) {
  return (struct lvri_arena_shm *)(void *)a->base;
}

/* Where off is in this mapping; NULL for nowhere. */
static inline void *lvri_at(const struct lvri_arena *a, lvri_off off) {
  return lvri_ptr(a->base, off);
}

/* The place of something that lies in this mapping. */
static inline lvri_off lvri_off_in(const struct lvri_arena *a, const void *ptr) {
  return lvri_off_of(a->base, ptr);
}

/* Makes a new arena with a reservation of reserve_bytes (0: LVRI_ARENA_RESERVE_BYTES; at most
 * LVRI_ARENA_MOST_BYTES; less where there is no room for it). 0, -ENOMEM, -EMFILE, -ENFILE, -EINVAL
 * (fewer than LVRI_ARENA_LEAST_BYTES), -ENOSYS, -EPERM. Owner: the caller; lvri_arena_fini(). */
int lvri_arena_create(uint64_t reserve_bytes, struct lvri_arena *ret);

/* Maps the arena in fd, of which it keeps a copy.
 * 0, or
 *   -EBADF, -EMFILE
 *   -EBADMSG  it is not an arena, or it is a damaged one: too short, bad magic, impossible sizes
 *   -EPROTO   an arena of another version or build of this library
 *   -ESTALE   an arena that was destroyed
 *   -ENOMEM   no room for the mapping: the address space is limited (ulimit -v) more than its
 *             creator's was */
int lvri_arena_attach(int fd, struct lvri_arena *ret);

/* Unmaps and closes; what is in it lives on with its other users. NULL and zeroed are nothing. */
void lvri_arena_fini(struct lvri_arena *a);

/* From now on nobody can attach; the attached go on. */
void lvri_arena_destroy(struct lvri_arena *a);

/* Over heap, process table, ledgers, reference counts. */
struct lvri_guard *lvri_arena_guard(struct lvri_arena *a);

/* Over the object at `of`. */
struct lvri_guard *lvri_arena_stripe(struct lvri_arena *a, lvri_off of);

/* Next serial number; the caller holds the arena's guard. */
uint64_t lvri_arena_serial_locked(struct lvri_arena *a);

/* Makes the arena at least to_bytes long (no memory is taken yet); in the guard. -ENOMEM. */
int lvri_arena_grow_locked(struct lvri_arena *a, uint64_t to_bytes);

/* Whether [off, off + bytes) lies in the part of the arena that is in use. */
bool lvri_arena_contains(const struct lvri_arena *a, lvri_off off, uint64_t bytes);

/* A hash of the size of every shared struct and of the options they depend on (layout.c). */
uint64_t lvri_arena_layout(void);

/* Walks header and heap, in the guard. 0, -EUCLEAN. */
int lvri_arena_valid(struct lvri_arena *a);

#endif
