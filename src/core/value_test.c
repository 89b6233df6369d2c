/* Numbers that several processes change at once, and items that are never torn. */
#include "core/value.h"

#include "core/locking_test.h"

enum { COUNTERS = 4, ROUNDS = 20000 };

struct fixture {
  lvr_session *s;
  lvr_block *b;
};

static struct fixture new_fixture(size_t bytes) {
  struct fixture f = {.s = new_session()};
  CHECK_INT(lvr_block_create(f.s, bytes, LVR_BLOCK_ZEROED, &f.b), 0);
  return f;
}

static void run_in_all(void (*body)(void *block), lvr_block *b) {
  pid_t pids[COUNTERS];
  for (int i = 0; i < COUNTERS; i++)
    pids[i] = test_fork(body, b);
  for (int i = 0; i < COUNTERS; i++)
    CHECK_INT(test_join(pids[i]), 0);
}

TEST(is_a_number_of_32_bits) {
  struct fixture f = new_fixture(sizeof(uint32_t));
  uint32_t *v = lvr_block_data(f.b), expected = 7;
  CHECK_INT(lvr_value_load_u32(v), 0);
  CHECK_INT(lvr_value_fetch_add_u32(v, UINT32_MAX), 0);
  CHECK_INT(lvr_value_fetch_add_u32(v, 2), UINT32_MAX);
  CHECK_INT(lvr_value_exchange_u32(v, 5), 1);
  CHECK(!lvr_value_compare_exchange_u32(v, &expected, 9));
  CHECK_INT(expected, 5);
  CHECK(lvr_value_compare_exchange_u32(v, &expected, 9));
  CHECK_INT(lvr_value_load_u32(v), 9);
  lvr_value_store_u32(v, 1);
  CHECK_INT(lvr_value_load_u32(v), 1);
}

TEST(is_a_number_of_64_bits) {
  struct fixture f = new_fixture(sizeof(uint64_t));
  uint64_t *v = lvr_block_data(f.b), expected = 7;
  CHECK(lvr_value_fetch_add_u64(v, UINT64_MAX) == 0);
  CHECK(lvr_value_fetch_add_u64(v, 2) == UINT64_MAX);
  CHECK(lvr_value_exchange_u64(v, UINT64_MAX - 1) == 1);
  CHECK(!lvr_value_compare_exchange_u64(v, &expected, 9));
  CHECK(expected == UINT64_MAX - 1);
  CHECK(lvr_value_compare_exchange_u64(v, &expected, 9));
  lvr_value_store_u64(v, lvr_value_load_u64(v) + 1);
  CHECK(lvr_value_load_u64(v) == 10);
}

/* One counter by adding, its neighbour by comparing: nothing that anybody does is lost. */
static void count_both_ways(void *argument) {
  uint64_t *v = lvr_block_data(argument);
  for (int i = 0; i < ROUNDS; i++) {
    (void)lvr_value_fetch_add_u64(&v[0], 1);
    uint64_t seen = lvr_value_load_u64(&v[1]);
    while (!lvr_value_compare_exchange_u64(&v[1], &seen, seen + 1)) {
    }
  }
}

TEST(nothing_is_lost) {
  struct fixture f = new_fixture(2 * sizeof(uint64_t));
  run_in_all(count_both_ways, f.b);
  uint64_t *v = lvr_block_data(f.b);
  CHECK_INT(v[0], COUNTERS * ROUNDS);
  CHECK_INT(v[1], COUNTERS * ROUNDS);
}

/* Two items, all of whose bytes are the same, whoever wrote them. */
static bool is_whole(const unsigned char *item, size_t bytes) {
  for (size_t i = 1; i < bytes; i++)
    if (item[i] != item[0]) return false;
  return true;
}

static void write_and_read(void *argument) {
  unsigned char *items = lvr_block_data(argument), bytes[16];
  for (int i = 0; i < ROUNDS; i++)
    for (size_t size = 2; size <= 8; size *= 2) {
      memset(bytes, i + (int)getpid(), sizeof(bytes));
      lvri_value_scatter(items + 16 * size, 1, 2, size, bytes);
      lvri_value_gather(items + 16 * size, 1, 2, size, bytes);
      CHECK(is_whole(bytes, size) && is_whole(bytes + size, size));
      lvri_value_store(items + 16 * size, size, bytes);
      lvri_value_load(items + 16 * size, size, bytes);
      CHECK(is_whole(bytes, size));
    }
}

TEST(an_item_is_never_torn) {
  struct fixture f = new_fixture(256);
  run_in_all(write_and_read, f.b);
}

TEST(items_of_all_sizes_any_way_round) {
  struct fixture f = new_fixture(64);
  for (size_t size = 1; size <= 8; size *= 2) {
    unsigned char *shared = lvr_block_data(f.b), in[3 * 8], out[3 * 8];
    test_context("size %zu", size);
    for (size_t i = 0; i < sizeof(in); i++)
      in[i] = (unsigned char)(i + 1);
    lvri_value_scatter(shared + 4 * size, -2, 3, size, in); /* at 4, 2, 0 */
    lvri_value_gather(shared, 2, 3, size, out);
    for (size_t i = 0; i < 3; i++)
      CHECK(memcmp(out + i * size, in + (2 - i) * size, size) == 0);
    for (size_t i = 0; i < size; i++)
      CHECK_INT(shared[size + i], 0); /* between them nothing was touched */
    lvri_value_store(shared + size, size, in);
    lvri_value_load(shared + size, size, out);
    CHECK(memcmp(out, in, size) == 0);
    memset(shared, 0, 64);
  }
}
