#include "core/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/fault.h"
#include "os/os.h"
#include "testing/test.h"

static void enter(struct lvri_arena *a) { CHECK_INT(lvri_guard_enter(a, lvri_arena_guard(a)), 0); }

static void leave(struct lvri_arena *a) { lvri_guard_leave(a, lvri_arena_guard(a)); }

static lvri_off new_block(struct lvri_arena *a, size_t bytes) {
  lvri_off off = 0;
  enter(a);
  CHECK_INT(lvri_heap_alloc_locked(a, bytes, 1, &off), 0);
  leave(a);
  return off;
}

/* --- making and joining ----------------------------------------------------------------------- */

TEST(a_new_arena_is_valid) {
  struct lvri_arena a;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  if (!TEST_VALGRIND) CHECK_INT(a.mapped_bytes, LVRI_ARENA_RESERVE_BYTES); /* has not got so much */
  CHECK(fcntl(a.fd, F_GETFD) & FD_CLOEXEC);
  CHECK(fcntl(a.fd, F_GET_SEALS) & F_SEAL_SHRINK);
  enter(&a);
  CHECK_INT(lvri_arena_valid(&a), 0);
  leave(&a);
  lvri_arena_fini(&a);
  lvri_arena_fini(&a);
  lvri_arena_fini(NULL);
}

TEST(a_new_arena_takes_little_memory) {
  struct lvri_arena a;
  uint64_t bytes = 0;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  CHECK_INT(lvri_os_shm_used(a.fd, &bytes), 0);
  CHECK(bytes <= 48 << 10);
  lvri_arena_fini(&a);
}

TEST(nothing_is_left_of_it) {
  int before = test_count_fds();
  struct lvri_arena a, b;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  CHECK_INT(lvri_arena_attach(a.fd, &b), 0);
  CHECK_INT(test_count_fds(), before + 2);
  lvri_arena_fini(&b);
  lvri_arena_fini(&a);
  CHECK_INT(test_count_fds(), before);
}

TEST(two_mappings_show_the_same) {
  struct lvri_arena a, b;
  CHECK_INT(lvri_arena_create(LVRI_ARENA_LEAST_BYTES * 16, &a), 0);
  CHECK_INT(lvri_arena_attach(a.fd, &b), 0);
  CHECK(a.base != b.base);
  lvri_off off = new_block(&a, 5 << 20); /* makes it grow */
  memcpy(lvri_at(&a, off), "hare", 5);
  CHECK_STR((char *)lvri_at(&b, off), "hare");
  CHECK(lvri_heap_is_block(&b, off) && lvri_off_in(&b, lvri_at(&b, off)) == off);
  lvri_off other = new_block(&b, 100);
  CHECK(lvri_heap_is_block(&a, other));
  lvri_arena_fini(&a);
  enter(&b);
  CHECK_INT(lvri_arena_valid(&b), 0);
  leave(&b);
  lvri_arena_fini(&b);
}

TEST(sessions_differ) {
  struct lvri_arena a, b;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  CHECK_INT(lvri_arena_create(0, &b), 0);
  CHECK(memcmp(lvri_arena_header(&a)->ah_session, lvri_arena_header(&b)->ah_session, 16) != 0);
  lvri_arena_fini(&a);
  lvri_arena_fini(&b);
}

TEST(serials_are_never_given_twice) {
  struct lvri_arena a;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  enter(&a);
  CHECK_INT(lvri_arena_serial_locked(&a), 1);
  CHECK_INT(lvri_arena_serial_locked(&a), 2);
  leave(&a);
  lvri_arena_fini(&a);
}

TEST(stripes_are_spread) {
  struct lvri_arena a;
  const struct lvri_guard *used[LVRI_ARENA_STRIPES];
  unsigned count = 0;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  for (lvri_off off = 1 << 20; off < (1 << 20) + 512 * 64; off += 64) {
    const struct lvri_guard *g = lvri_arena_stripe(&a, off);
    CHECK(g == lvri_arena_stripe(&a, off));
    unsigned i = 0;
    while (i < count && used[i] != g)
      i++;
    if (i == count) used[count++] = g;
  }
  CHECK(count > LVRI_ARENA_STRIPES * 9 / 10);
  lvri_arena_fini(&a);
}

/* --- what is no arena ------------------------------------------------------------------------- */

/* Attaching to this must fail so, take nothing and touch *ret not at all. */
static void refuse(int fd, int error) {
  unsigned char somewhere;
  struct lvri_arena b = {&somewhere, 77, 5};
  int fds = test_count_fds();
  CHECK_INT(lvri_arena_attach(fd, &b), error);
  CHECK(b.base == &somewhere && b.fd == 77 && b.mapped_bytes == 5);
  CHECK_INT(test_count_fds(), fds);
}

static void refuse_file_of(const void *text, size_t bytes, int error) {
  int fd = memfd_create("foreign", MFD_CLOEXEC);
  CHECK(fd >= 0 && write(fd, text, bytes) == (ssize_t)bytes);
  refuse(fd, error);
  (void)close(fd);
}

TEST(foreign_descriptors_are_refused) {
  int pipes[2];
  static char text[1 << 17];
  CHECK(pipe2(pipes, O_CLOEXEC) == 0);
  refuse(-1, -EBADF);
  refuse(9999, -EBADF);
  refuse(pipes[0], -EBADMSG);
  int null = open("/dev/null", O_RDWR | O_CLOEXEC), dir = open("/", O_RDONLY | O_CLOEXEC);
  refuse(null, -EBADMSG);
  refuse(dir, -EBADMSG);
  refuse_file_of("", 0, -EBADMSG);
  refuse_file_of("#!/bin/sh\n", 10, -EBADMSG);
  refuse_file_of(text, sizeof(text), -EBADMSG);
  memset(text, 0xff, sizeof(text));
  refuse_file_of(text, sizeof(text), -EBADMSG);
}

TEST(a_descriptor_that_cannot_be_written_is_refused) {
  struct lvri_arena a;
  char path[32];
  CHECK_INT(lvri_arena_create(0, &a), 0);
  (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", a.fd);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  refuse(fd, -EBADMSG);
  lvri_arena_fini(&a);
}

static void copy_of(struct lvri_arena *a, size_t bytes, void (*change)(struct lvri_arena_shm *h),
                    int error) {
  unsigned char *text = malloc(bytes);
  CHECK(text != NULL);
  memcpy(text, a->base, bytes);
  if (change) change((struct lvri_arena_shm *)(void *)text);
  refuse_file_of(text, bytes, error);
  free(text);
}

static void other_format(struct lvri_arena_shm *h) { h->ah_format++; }
static void other_layout(struct lvri_arena_shm *h) { h->ah_layout ^= 1; }
static void other_header(struct lvri_arena_shm *h) { h->ah_header_bytes += 64; }
static void huge_reserve(struct lvri_arena_shm *h) { h->ah_reserve_bytes = UINT64_MAX; }
static void odd_reserve(struct lvri_arena_shm *h) { h->ah_reserve_bytes -= 512; }
static void small_reserve(struct lvri_arena_shm *h) { h->ah_reserve_bytes = 65536; }
static void huge_size(struct lvri_arena_shm *h) {
  lvri_store_relaxed_u64(&h->ah_size_bytes, UINT64_MAX);
}
static void huge_heap(struct lvri_arena_shm *h) { h->ah_heap.hp_pages = UINT32_MAX; }
static void lost_table(struct lvri_arena_shm *h) { h->ah_heap.hp_table = 0; }
static void no_magic(struct lvri_arena_shm *h) { lvri_store_relaxed_u64(&h->ah_magic, 0); }

TEST(damaged_and_other_arenas_are_refused) {
  struct lvri_arena a;
  CHECK_INT(lvri_arena_create(LVRI_ARENA_LEAST_BYTES, &a), 0);
  uint64_t all = lvri_load_relaxed_u64(&lvri_arena_header(&a)->ah_size_bytes);
  copy_of(&a, all, other_format, -EPROTO);
  copy_of(&a, all, other_layout, -EPROTO);
  copy_of(&a, all, other_header, -EPROTO);
  copy_of(&a, all, huge_reserve, -EBADMSG);
  copy_of(&a, all, odd_reserve, -EBADMSG);
  copy_of(&a, all, small_reserve, -EBADMSG);
  copy_of(&a, all, huge_size, -EBADMSG);
  copy_of(&a, all, huge_heap, -EBADMSG);
  copy_of(&a, all, lost_table, -EBADMSG);
  copy_of(&a, all, no_magic, -EBADMSG);
  copy_of(&a, 100, NULL, -EBADMSG);
  copy_of(&a, sizeof(struct lvri_arena_shm) - 1, NULL, -EBADMSG);
  copy_of(&a, all - 1, NULL, -EBADMSG);
  lvri_arena_fini(&a);
}

TEST(a_destroyed_arena_is_stale) {
  struct lvri_arena a;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  lvri_arena_destroy(&a);
  refuse(a.fd, -ESTALE);
  (void)new_block(&a, 100); /* who is in goes on */
  lvri_arena_fini(&a);
}

/* --- want ------------------------------------------------------------------------------------- */

/* Each call that can fail does so once; what is made nevertheless is whole. */
static bool create_fails_at(uint64_t nth) {
  struct lvri_arena a = {NULL, -1, 0};
  int fds = test_count_fds();
  lvri_fault_arm(NULL, nth);
  int error = lvri_arena_create(0, &a);
  bool hit = lvri_fault_hits() >= nth;
  lvri_fault_arm(NULL, 0);
  CHECK(error > -4096 && (error == 0) == (a.base != NULL));
  if (!error) (void)new_block(&a, 100);
  lvri_arena_fini(&a);
  CHECK_INT(test_count_fds(), fds);
  return hit;
}

TEST(each_failing_call_of_create_is_a_code) {
  uint64_t nth = 1;
  while (create_fails_at(nth))
    nth++;
  CHECK(nth > 5);
}

static bool attach_fails_at(int fd, uint64_t nth) {
  struct lvri_arena b = {NULL, -1, 0};
  int fds = test_count_fds();
  lvri_fault_arm(NULL, nth);
  int error = lvri_arena_attach(fd, &b);
  bool hit = lvri_fault_hits() >= nth;
  lvri_fault_arm(NULL, 0);
  CHECK((error != 0) == hit && (error == 0) == (b.base != NULL));
  lvri_arena_fini(&b);
  CHECK_INT(test_count_fds(), fds);
  return hit;
}

TEST(each_failing_call_of_attach_is_a_code) {
  struct lvri_arena a;
  uint64_t nth = 1;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  while (attach_fails_at(a.fd, nth))
    nth++;
  CHECK_INT(nth, 3);
  lvri_arena_fini(&a);
}

TEST(odd_sizes_are_refused) {
  struct lvri_arena a;
  CHECK_INT(lvri_arena_create(1, &a), -EINVAL);
  CHECK_INT(lvri_arena_create(LVRI_ARENA_LEAST_BYTES - LVRI_PAGE_BYTES, &a), -EINVAL);
  CHECK_INT(lvri_arena_create(LVRI_ARENA_LEAST_BYTES + 1, &a), -EINVAL);
}

static void limit_address_space(uint64_t bytes) {
  struct rlimit limit = {bytes, bytes};
  if (TEST_ASAN || TEST_TSAN || TEST_VALGRIND) SKIP("what checks us has mapped too much");
  CHECK_INT(setrlimit(RLIMIT_AS, &limit), 0);
}

TEST(little_address_space_makes_a_small_arena) {
  struct lvri_arena a;
  limit_address_space(512 << 20);
  CHECK_INT(lvri_arena_create(0, &a), 0);
  CHECK_INT(a.mapped_bytes, 128 << 20);
  (void)new_block(&a, 8 << 20);
  lvri_arena_fini(&a);
}

TEST(too_little_address_space_is_a_code) {
  struct lvri_arena a;
  limit_address_space(1 << 20);
  CHECK_INT(lvri_arena_create(0, &a), -ENOMEM);
}

TEST(less_address_space_than_its_creator_had_is_a_code) {
  struct lvri_arena a, b;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  limit_address_space(1 << 30);
  CHECK_INT(lvri_arena_attach(a.fd, &b), -ENOMEM);
}

TEST(no_descriptor_is_a_code) {
  struct lvri_arena a, b;
  struct rlimit limit;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = (rlim_t)a.fd + 1;
  CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
  CHECK_INT(lvri_arena_create(0, &b), -EMFILE);
  CHECK_INT(lvri_arena_attach(a.fd, &b), -EMFILE);
}

/* --- who may shrink it ------------------------------------------------------------------------ */

TEST(nobody_can_cut_it_off) {
  struct lvri_arena a;
  CHECK_INT(lvri_arena_create(0, &a), 0);
  CHECK(ftruncate(a.fd, 4096) < 0 && errno == EPERM);
  CHECK(fcntl(a.fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_WRITE) < 0);
  lvri_arena_fini(&a);
}
