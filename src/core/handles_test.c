#include "core/handles.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "testing/test.h"

enum { OBJECTS = 500 };

/* A table and what it must contain. */
struct model {
  struct lvri_handles table;
  bool there[OBJECTS];
};

static lvri_off off_of(size_t i) { return 64 * (lvri_off)(i * i + 1); }

static void flip(struct model *m, size_t i) {
  if (m->there[i]) {
    lvri_handles_remove(&m->table, lvri_handles_find(&m->table, off_of(i)));
  } else {
    CHECK_INT(lvri_handles_reserve(&m->table), 0);
    lvri_handles_add(&m->table, off_of(i))->index = (uint32_t)i;
  }
  m->there[i] = !m->there[i];
}

static void compare(const struct model *m) {
  size_t count = 0;
  for (size_t i = 0; i < OBJECTS; i++) {
    const struct lvri_record *r = lvri_handles_find(&m->table, off_of(i));
    CHECK_INT(r != NULL, m->there[i]);
    if (!r) continue;
    CHECK_INT(r->index, i);
    count++;
  }
  CHECK_INT(m->table.count, count);
}

TEST(finds_what_was_added_and_not_removed) {
  static struct model m;
  uint64_t number = 7;
  for (int step = 0; step < 20000; step++) {
    number = lvri_hash_u64(number + 1);
    flip(&m, number % (step < 10000 ? 40 : OBJECTS));
    if (step % 50 == 0) compare(&m);
  }
  lvri_handles_fini(&m.table);
  CHECK(lvri_handles_find(&m.table, 64) == NULL);
}
