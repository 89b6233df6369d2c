#include "core/block.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/crashpoint.h"
#include "core/lock.h"
#include "os/memory.h"
#include "testing/crash.h"
#include "testing/fixture.h"
#include "testing/test.h"

static lvr_session *session;

static lvr_block *new_block(size_t bytes, uint32_t flags) {
  lvr_block *b;
  CHECK_INT(lvr_block_create(session, bytes, flags, &b), 0);
  return b;
}

static lvr_lock *new_lock(void) {
  lvr_lock *l;
  CHECK_INT(lvr_lock_create(session, LVR_LOCK, &l), 0);
  return l;
}

static void carry_lock(lvr_block *b, lvr_lock *l) {
  lvr_ref ref;
  lvr_lock_ref(l, &ref);
  CHECK_INT(lvr_block_carry(b, &ref), 0);
}

/* Carried, and nobody's else. */
static void carry_new_lock(lvr_block *b) {
  lvr_lock *l = new_lock();
  carry_lock(b, l);
  lvr_lock_detach(l);
}

static bool is_filled_with(const void *at, size_t bytes, unsigned char with) {
  const unsigned char *p = at;
  return bytes == 0 || (p[0] == with && memcmp(p, p + 1, bytes - 1) == 0);
}

static uint64_t objects(void) { return fixture_stats(session).objects; }

/* --- the payload ----------------------------------------------------------------------------- */

static void check_size(size_t bytes, uint32_t flags) {
  test_context("%zu bytes, flags %u", bytes, flags);
  lvr_block *b = new_block(bytes, flags);
  unsigned char *data = lvr_block_data(b);
  bool paged = bytes > 32000 || (flags & LVR_BLOCK_PAGED);
  CHECK_INT((uintptr_t)data % (paged ? 4096 : 64), 0);
  CHECK_INT(lvr_block_bytes(b), bytes);
  CHECK_INT(lvr_block_carried(b), 0);
  if (flags & LVR_BLOCK_ZEROED) CHECK(is_filled_with(data, bytes, 0));
  memset(data, 0xa5, bytes); /* for the next one to find */
  fixture_check(session);
  lvr_block_detach(b);
}

TEST(payloads_of_all_sizes) {
  session = fixture_session();
  uint64_t blocks = fixture_stats(session).blocks;
  static const size_t sizes[] = {0,     1,     63,    64,    65,    1000,    31999,  32000,
                                 32001, 32192, 65535, 65536, 65537, 1 << 20, 5000000};
  for (unsigned round = 0; round < 3; round++)
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
      for (uint32_t flags = 0; flags < 4; flags++)
        check_size(sizes[i], flags);
  CHECK_INT(objects(), 0);
  CHECK_INT(fixture_stats(session).blocks, blocks);
  lvr_block *b;
  CHECK_INT(lvr_block_create(session, 1, 4, &b), -EINVAL);
  lvr_block_detach(NULL);
}

TEST(all_see_the_same_bytes) {
  session = fixture_session();
  lvr_session *t;
  lvr_ref ref;
  lvr_block *a = new_block(100000, 0), *b;
  CHECK_INT(lvr_session_attach(lvr_session_fd(session), 0, &t), 0);
  memset(lvr_block_data(a), 1, 100000);
  lvr_block_ref(a, &ref);
  CHECK_INT(lvr_block_attach(t, &ref, &b), 0);
  CHECK(lvr_block_data(b) != lvr_block_data(a));
  CHECK(is_filled_with(lvr_block_data(b), lvr_block_bytes(b), 1));
  memset(lvr_block_data(b), 2, 100000);
  CHECK(is_filled_with(lvr_block_data(a), lvr_block_bytes(a), 2));
  lvr_block_detach(a);
  CHECK_INT(objects(), 1);
  lvr_block_detach(b);
  CHECK_INT(objects(), 0);
  CHECK_INT(lvr_block_attach(t, &ref, &b), -ESTALE);
  lvr_session_detach(t);
}

TEST(only_a_block_is_one) {
  session = fixture_session();
  lvr_block *b;
  lvr_ref ref;
  lvr_lock *l = new_lock();
  lvr_lock_ref(l, &ref);
  CHECK_INT(lvr_block_attach(session, &ref, &b), -EINVAL);
  ref.kind = LVRI_KIND_BLOCK;
  CHECK_INT(lvr_block_attach(session, &ref, &b), -ESTALE);
  ref.session[3]++;
  CHECK_INT(lvr_block_attach(session, &ref, &b), -EXDEV);
}

/* --- views ----------------------------------------------------------------------------------- */

static bool is_mapped(void *at) {
  return msync((void *)((uintptr_t)at & ~UINT64_C(4095)), 1, MS_ASYNC) == 0;
}

TEST(a_view_is_ones_own) {
  session = fixture_session();
  lvr_block *b = new_block(200000, LVR_BLOCK_ZEROED);
  void *view, *again;
  unsigned char *data = lvr_block_data(b);
  memset(data, 7, 200000);
  CHECK_INT(lvr_block_view(b, &view), 0);
  CHECK_INT((uintptr_t)view % 4096, 0);
  CHECK(is_filled_with(view, 200000, 7));
  memset(view, 8, 100000);
  CHECK(is_filled_with(data, 200000, 7));
  CHECK_INT(lvr_block_view(b, &again), 0);
  CHECK(again == view);
  CHECK(is_filled_with(view, 100000, 8));
  lvr_block_detach(b);
  CHECK(!is_mapped(view));
  CHECK_INT(objects(), 0);
}

TEST(small_ones_have_a_view_if_they_are_paged) {
  session = fixture_session();
  lvr_block *small = new_block(100, 0), *paged = new_block(100, LVR_BLOCK_PAGED),
            *nothing = new_block(0, LVR_BLOCK_PAGED);
  void *view;
  CHECK_INT(lvr_block_view(small, &view), -EINVAL);
  memset(lvr_block_data(paged), 3, 100);
  CHECK_INT(lvr_block_view(paged, &view), 0);
  CHECK(is_filled_with(view, 100, 3));
  CHECK_INT(lvr_block_view(nothing, &view), 0);
  lvr_block_detach(small);
  lvr_block_detach(paged);
  lvr_block_detach(nothing);
  fixture_check(session);
}

TEST(a_view_lasts_as_long_as_a_use) {
  session = fixture_session();
  lvr_block *b = new_block(100000, 0), *again;
  lvr_ref ref;
  void *view;
  CHECK_INT(lvr_block_view(b, &view), 0);
  lvr_block_ref(b, &ref);
  CHECK_INT(lvr_block_attach(session, &ref, &again), 0);
  lvr_block_detach(b);
  CHECK(is_mapped(view));
  lvr_block_detach(again);
  CHECK(!is_mapped(view));
}

static void *views[8];
static _Atomic uint32_t n_views;

static void look(void *argument) {
  lvr_block *b = argument;
  CHECK_INT(lvr_block_view(b, &views[lvri_fetch_add_relaxed_u32(&n_views, 1)]), 0);
}

TEST(threads_share_a_view) {
  session = fixture_session();
  lvr_block *b = new_block(1 << 20, 0);
  test_threads(8, look, b);
  for (int i = 1; i < 8; i++)
    CHECK(views[i] == views[0]);
  lvr_block_detach(b);
}

struct viewed {
  lvr_block *b;
  unsigned char *view;
  int go[2];
};

/* It has what was written before the fork, writes for itself, and keeps its run. */
static void use_inherited_view(void *argument) {
  struct viewed *v = argument;
  void *view;
  char c;
  CHECK_INT(lvr_block_view(v->b, &view), 0);
  CHECK(view == v->view);
  CHECK(is_filled_with(v->view, 1000, 2) && is_filled_with(v->view + 4096, 60000, 1));
  memset(v->view, 3, 2000);
  CHECK_INT(read(v->go[0], &c, 1), 1); /* the parent has detached, and made another one */
  CHECK(is_filled_with(v->view, 2000, 3) && is_filled_with(v->view + 4096, 60000, 1));
  lvr_block_detach(v->b);
  CHECK(!is_mapped(view));
}

TEST(a_forked_child_has_a_view_of_its_own) {
  session = fixture_session();
  struct viewed v = {.b = new_block(100000, 0)};
  void *view;
  memset(lvr_block_data(v.b), 1, 100000);
  CHECK_INT(lvr_block_view(v.b, &view), 0);
  v.view = view;
  memset(view, 2, 1000);
  CHECK_INT(pipe(v.go), 0);
  pid_t pid = test_fork(use_inherited_view, &v);
  lvr_block_detach(v.b);
  CHECK_INT(objects(), 1);
  for (int i = 0; i < 10; i++)
    memset(lvr_block_data(new_block(100000, 0)), 0xee, 100000);
  CHECK_INT(write(v.go[1], "", 1), 1);
  CHECK_INT(test_join(pid), 0);
  CHECK(lvr_repair(session) >= 0);
  CHECK_INT(objects(), 10);
}

/* --- what it carries ------------------------------------------------------------------------- */

TEST(what_is_carried_is_there) {
  session = fixture_session();
  enum { MANY = 1000 };
  static lvr_ref refs[MANY];
  lvr_block *b = new_block(10, 0);
  uint64_t blocks = fixture_stats(session).blocks;
  for (uint32_t i = 0; i < MANY; i++) {
    lvr_lock *l = new_lock();
    lvr_lock_ref(l, &refs[i]);
    CHECK_INT(lvr_block_carry(b, &refs[i]), 0);
    lvr_lock_detach(l);
  }
  CHECK_INT(lvr_block_carried(b), MANY);
  CHECK_INT(objects(), 1 + MANY);
  fixture_check(session);
  for (uint32_t i = 0; i < MANY; i++) {
    lvr_ref ref;
    lvr_lock *l;
    lvr_block_carried_ref(b, i, &ref);
    CHECK(memcmp(&ref, &refs[i], sizeof(ref)) == 0);
    CHECK_INT(lvr_lock_attach(session, &ref, &l), 0);
    CHECK_INT(l->handle.object->ob_refs, 2);
    if (i) lvr_lock_detach(l); /* the first one is kept */
  }
  lvr_block_detach(b);
  CHECK_INT(objects(), 1);
  CHECK_INT(fixture_stats(session).blocks, blocks);
  fixture_check(session);
}

TEST(what_cannot_be_carried) {
  session = fixture_session();
  lvr_block *b = new_block(10, 0);
  lvr_lock *l = new_lock();
  lvr_ref self, ref, bad;
  lvr_block_ref(b, &self);
  lvr_lock_ref(l, &ref);
  CHECK_INT(lvr_block_carry(b, &self), -EINVAL);
  bad = ref, bad.serial++;
  CHECK_INT(lvr_block_carry(b, &bad), -ESTALE);
  bad = ref, bad.kind = 999;
  CHECK_INT(lvr_block_carry(b, &bad), -EINVAL);
  bad = ref, bad.session[0]++;
  CHECK_INT(lvr_block_carry(b, &bad), -EXDEV);
  l->handle.object->ob_refs = UINT32_MAX;
  CHECK_INT(lvr_block_carry(b, &ref), -EOVERFLOW);
  l->handle.object->ob_refs = 1;
  CHECK_INT(lvr_block_carried(b), 0);
  fixture_check(session);
}

TEST_WITHIN(a_million_are_carried, 60) {
  session = fixture_session();
  enum { MANY = 1000000 };
  lvr_block *b = new_block(10, 0);
  lvr_lock *l = new_lock();
  uint64_t blocks = fixture_stats(session).blocks;
  for (int i = 0; i < MANY; i++)
    carry_lock(b, l);
  CHECK_INT(l->handle.object->ob_refs, 1 + MANY);
  fixture_check(session);
  lvr_block_detach(b);
  CHECK_INT(l->handle.object->ob_refs, 1);
  CHECK_INT(fixture_stats(session).blocks, blocks - 1);
  fixture_check(session);
}

/* A message with blocks that carry blocks, whoever has it. */
TEST(a_message_carries_everything) {
  session = fixture_session();
  lvr_session *t;
  lvr_ref ref, name;
  lvr_block *outer = new_block(10, 0), *inner = new_block(1 << 20, 0), *got;
  lvr_lock *l = new_lock();
  CHECK_INT(lvr_session_attach(lvr_session_fd(session), 0, &t), 0);
  memset(lvr_block_data(inner), 5, 1 << 20);
  lvr_block_ref(inner, &name);
  carry_lock(inner, l);
  CHECK_INT(lvr_block_carry(outer, &name), 0);
  CHECK_INT(lvr_block_send(outer, &ref), 0);
  lvr_block_detach(outer);
  lvr_block_detach(inner);
  lvr_lock_detach(l);
  CHECK_INT(objects(), 3);
  fixture_check(session);
  CHECK_INT(lvr_block_attach(t, &ref, &outer), 0);
  lvr_block_carried_ref(outer, 0, &name);
  CHECK_INT(lvr_block_attach(t, &name, &got), 0);
  CHECK(is_filled_with(lvr_block_data(got), 1 << 20, 5));
  lvr_block_detach(outer);
  CHECK_INT(objects(), 2);
  lvr_block_detach(got);
  CHECK_INT(objects(), 0);
  fixture_check(session);
}

/* --- from hand to hand ----------------------------------------------------------------------- */

/* An object of the test's kind with a word that holds a block's reference, as a channel has. */
struct word {
  struct lvri_object_shm wo_object;
  lvri_off wo_block;
};

static struct word *word_of(const struct lvri_handle *h) {
  return (struct word *)(void *)h->object;
}

static void word_each(struct lvri_arena *a, lvri_off off, void (*visit)(void *, lvri_off),
                      void *context) {
  const struct word *word = lvri_at(a, off);
  if (word->wo_block) visit(context, word->wo_block);
}

static bool word_drain(struct lvri_arena *a, lvri_off off) {
  struct word *word = lvri_at(a, off);
  lvri_off block = word->wo_block;
  if (!block) return true;
  lvri_set64(a, lvri_arena_guard(a), &word->wo_block, 0);
  lvri_object_unref_locked(a, block);
  return true;
}

static struct lvri_handle *new_word(void) {
  struct lvri_handle *h;
  session = fixture_session();
  lvri_test_kind.each_reference = word_each;
  lvri_test_kind.drain_locked = word_drain;
  CHECK_INT(lvri_object_create(session, LVRI_KIND_TEST, sizeof(struct word), &h), 0);
  return h;
}

/* As a channel does it. */
static int give(const struct lvri_handle *h, lvr_block *b) {
  struct lvri_arena *a = &h->session->arena;
  struct lvri_guard *g = lvri_arena_guard(a);
  lvri_off off = b->handle.off;
  lvri_session_lock(h->session);
  CHECK_INT(lvri_guard_enter(a, g), 0);
  int error = lvri_block_give_locked(b);
  if (error) {
    lvri_guard_abort(a, g);
  } else {
    lvri_set64(a, g, &word_of(h)->wo_block, off);
    lvri_guard_leave(a, g);
    lvri_block_given(b);
  }
  lvri_session_unlock(h->session);
  return error;
}

static int take(const struct lvri_handle *h, lvr_block **ret_b) {
  struct lvri_arena *a = &h->session->arena;
  struct lvri_guard *g = lvri_arena_guard(a);
  struct lvri_taking t;
  lvri_session_lock(h->session);
  int error = lvri_block_take_begin(h->session, &t);
  if (!error) {
    CHECK_INT(lvri_guard_enter(a, g), 0);
    error = lvri_block_take_locked(&t, word_of(h)->wo_block);
    if (error) {
      lvri_guard_abort(a, g);
      lvri_block_untaken(&t);
    } else {
      lvri_set64(a, g, &word_of(h)->wo_block, 0);
      lvri_guard_leave(a, g);
      *ret_b = lvri_block_taken(&t);
    }
  }
  lvri_session_unlock(h->session);
  return error;
}

TEST(a_block_goes_from_hand_to_hand) {
  struct lvri_handle *h = new_word();
  lvr_block *b = new_block(100000, 0);
  void *view;
  uint32_t handles = fixture_stats(session).handles;
  carry_new_lock(b);
  memset(lvr_block_data(b), 9, 100000);
  CHECK_INT(lvr_block_view(b, &view), 0);
  CHECK_INT(give(h, b), 0);
  CHECK(!is_mapped(view));
  CHECK_INT(fixture_stats(session).handles, handles - 1);
  CHECK_INT(objects(), 3);
  fixture_check(session);
  CHECK_INT(take(h, &b), 0);
  CHECK_INT(b->handle.object->ob_refs, 1);
  CHECK(is_filled_with(lvr_block_data(b), 100000, 9));
  CHECK_INT(lvr_block_carried(b), 1);
  CHECK_INT(fixture_stats(session).handles, handles);
  fixture_check(session);
  lvr_block_detach(b);
  CHECK_INT(objects(), 1);
}

TEST(what_others_use_is_not_given) {
  struct lvri_handle *h = new_word();
  lvr_block *b = new_block(10, 0), *again;
  lvr_ref ref;
  lvr_block_ref(b, &ref);
  CHECK_INT(lvr_block_attach(session, &ref, &again), 0);
  CHECK_INT(give(h, b), -EINVAL);
  lvr_block_detach(again);
  lvri_handle_entry(&b->handle)->le_held = 1;
  CHECK_INT(give(h, b), -EINVAL);
  lvri_handle_entry(&b->handle)->le_held = 0;
  fixture_check(session);
  CHECK_INT(give(h, b), 0);
  lvri_object_detach(h); /* the word's reference goes with it */
  CHECK_INT(objects(), 0);
  fixture_check(session);
}

/* What is taken by who has it already is the handle that he has, or the entry that he has. */
TEST(taking_what_one_has) {
  struct lvri_handle *h = new_word();
  lvr_block *b = new_block(10, 0), *mine, *got;
  lvr_ref ref;
  lvr_block_ref(b, &ref);
  lvr_session *t;
  CHECK_INT(lvr_session_attach(lvr_session_fd(session), 0, &t), 0);
  CHECK_INT(lvr_block_attach(t, &ref, &mine), 0);
  CHECK_INT(mine->handle.object->ob_refs, 2);
  CHECK_INT(give(h, b), 0);
  CHECK_INT(lvr_block_attach(session, &ref, &b), 0);
  CHECK_INT(b->handle.object->ob_refs, 3);
  CHECK_INT(take(h, &got), 0);
  CHECK(got == b);
  CHECK_INT(b->handle.object->ob_refs, 2);
  fixture_check(session);
  lvr_block_detach(b);
  CHECK_INT(give(h, got), 0);
  CHECK_INT(lvr_block_attach(session, &ref, &b), 0);
  lvri_handle_entry(&b->handle)->le_held = 1;
  lvr_block_detach(b); /* the entry stays */
  CHECK_INT(take(h, &got), 0);
  CHECK_INT(lvri_handle_entry(&got->handle)->le_held, 1);
  lvri_handle_entry(&got->handle)->le_held = 0;
  CHECK_INT(got->handle.object->ob_refs, 2);
  lvr_block_detach(got);
  lvr_block_detach(mine);
  CHECK_INT(objects(), 1);
  lvr_session_detach(t);
  fixture_check(session);
}

TEST(taking_fails_cleanly) {
  struct lvri_handle *h = new_word();
  lvr_block *b = new_block(10, 0);
  struct lvri_taking t;
  CHECK_INT(give(h, b), 0);
  lvri_session_lock(session);
  CHECK_INT(lvri_block_take_begin(session, &t), 0);
  lvri_block_untaken(&t);
  lvri_session_unlock(session);
  fixture_check(session);
  CHECK_INT(take(h, &b), 0);
  CHECK_INT(give(h, b), 0);
  lvr_proc_announce(session, 0);
  CHECK_INT(take(h, &b), -ESTALE);
}

/* --- want of memory -------------------------------------------------------------------------- */

TEST(each_failing_call_leaves_everything_as_it_was) {
  static const size_t sizes[] = {100, 32000, 100000, 3 << 20};
  for (size_t i = 0; i < 4; i++) {
    for (uint64_t nth = 1, hits = 1; hits >= nth; nth++) {
      lvr_block *b = NULL;
      session = fixture_session();
      struct lvr_session_stats before = fixture_stats(session);
      lvri_fault_arm(NULL, nth);
      int error = lvr_block_create(session, sizes[i], LVR_BLOCK_ZEROED, &b);
      hits = lvri_fault_hits();
      lvri_fault_arm(NULL, 0);
      test_context("%zu bytes, fault %llu", sizes[i], (unsigned long long)nth);
      CHECK(error == 0 || error == -ENOMEM);
      CHECK((error != 0) == (b == NULL));
      fixture_check(session);
      if (error) CHECK_INT(fixture_stats(session).bytes, before.bytes);
      CHECK_INT(objects(), !error);
      CHECK_INT(lvr_block_create(session, sizes[i], LVR_BLOCK_ZEROED, &b), 0);
      CHECK(is_filled_with(lvr_block_data(b), sizes[i], 0));
      lvr_session_detach(session);
    }
  }
}

TEST(no_address_for_a_view) {
  session = fixture_session();
  lvr_block *b = new_block(1 << 20, 0);
  void *view;
  lvri_fault_arm("os.shm.view", 1);
  CHECK_INT(lvr_block_view(b, &view), -ENOMEM);
  lvri_fault_arm(NULL, 0);
  CHECK_INT(lvr_block_view(b, &view), 0);
}

TEST(no_memory_to_carry_more) {
  session = fixture_session();
  lvr_block *b = new_block(10, 0);
  lvr_lock *l = new_lock();
  lvr_ref ref;
  uint64_t failures = 0;
  lvr_lock_ref(l, &ref);
  for (uint32_t i = 0; i < 200000; i++) {
    lvri_fault_arm("os.shm.commit", 1);
    int error = lvr_block_carry(b, &ref);
    lvri_fault_arm(NULL, 0);
    CHECK(error == 0 || error == -ENOMEM);
    if (!error) continue;
    failures++;
    CHECK_INT(lvr_block_carried(b), i);
    fixture_check(session);
    CHECK_INT(lvr_block_carry(b, &ref), 0);
  }
  CHECK(failures > 4);
  CHECK_INT(lvr_block_carried(b), 200000);
}

TEST_WITHIN(a_gigabyte, 60) {
  session = fixture_session();
  if (TEST_ASAN || TEST_TSAN || lvri_memory_available() < UINT64_C(3) << 30) SKIP("no memory");
  uint64_t before = fixture_stats(session).committed_bytes;
  lvr_block *b = new_block(1 << 30, LVR_BLOCK_ZEROED);
  unsigned char *data = lvr_block_data(b);
  CHECK(fixture_stats(session).committed_bytes >= before + (1 << 30));
  CHECK(data[0] == 0 && data[(1 << 30) - 1] == 0);
  data[(1 << 30) - 1] = 1;
  lvr_block_detach(b);
  CHECK(fixture_stats(session).committed_bytes < before + (1 << 20));
  fixture_check(session);
}

TEST(more_than_there_is) {
  session = fixture_session();
  lvr_block *b = NULL;
  struct lvr_session_stats before = fixture_stats(session);
  static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 63, SIZE_MAX - 65536, (size_t)1 << 48,
                                 (size_t)60 << 30};
  for (size_t i = 0; i < 5; i++) {
    if (sizes[i] < lvri_memory_available()) continue;
    CHECK_INT(lvr_block_create(session, sizes[i], 0, &b), -ENOMEM);
    CHECK(!b);
    struct lvr_session_stats after = fixture_stats(session);
    CHECK_INT(after.bytes, before.bytes);
    CHECK(after.committed_bytes < before.committed_bytes + (1 << 20));
    fixture_check(session);
  }
}

TEST(a_full_arena_is_as_before) {
  struct lvr_session_options options = {.reserve_bytes = LVRI_ARENA_LEAST_BYTES};
  static lvr_block *b[2000];
  unsigned n = 0;
  int error;
  CHECK_INT(lvr_session_create(&options, &session), 0);
  while ((error = lvr_block_create(session, 50000 + n, 0, &b[n])) == 0)
    n++;
  CHECK_INT(error, -ENOMEM);
  CHECK(n > 40);
  CHECK_INT(objects(), n);
  fixture_check(session);
  for (unsigned i = 0; i < n; i++)
    lvr_block_detach(b[i]);
  CHECK_INT(lvr_block_create(session, 3 << 20, 0, &b[0]), 0);
  fixture_check(session);
}

/* --- deaths ---------------------------------------------------------------------------------- */

struct state {
  struct lvri_handle *word;
  lvr_lock *lock;
  uint64_t blocks;
};

static void set_up(void *argument) {
  struct state *state = argument;
  state->word = new_word();
  state->lock = new_lock();
  state->blocks = fixture_stats(session).blocks;
}

static void repair(void *argument) {
  (void)argument;
  CHECK(lvr_repair(session) >= 0);
}

static void check_nothing_left(void *argument, bool done) {
  struct state *state = argument;
  (void)done;
  fixture_check(session);
  CHECK_INT(objects(), 2);
  CHECK_INT(state->lock->handle.object->ob_refs, 1);
  CHECK_INT(fixture_stats(session).blocks, state->blocks);
}

static void tear_down(void *argument) {
  (void)argument;
  lvr_session_detach(session);
}

static void use_blocks(void *argument) {
  struct state *state = argument;
  lvr_block *small = new_block(100, LVR_BLOCK_ZEROED), *large = new_block(100000, 0);
  lvr_ref name;
  void *view;
  lvr_block_ref(small, &name);
  carry_lock(small, state->lock);
  for (int i = 0; i < 16; i++) /* the table, and one chunk */
    carry_lock(large, state->lock);
  CHECK_INT(lvr_block_carry(large, &name), 0);
  lvr_block_detach(small);
  CHECK_INT(lvr_block_view(large, &view), 0);
  lvr_block_detach(large);
  (void)new_block(80000, LVR_BLOCK_ZEROED);
}

static const struct crash_scenario using = {"blocks", sizeof(struct state), set_up,   use_blocks,
                                            repair,   check_nothing_left,   tear_down};

TEST_WITHIN(whoever_dies_with_blocks_leaves_nothing, 120) {
  (void)crash_run(&using);
  CHECK_INT(crash_unvisited("block."), 0);
}

TEST_WITHIN(whoever_dies_repairing_them_leaves_nothing, 120) {
  (void)crash_run_repairer(&using, 211);
}

/* The child puts one into the word, takes it out again, and puts it in: with its lock. */
static void pass_on(void *argument) {
  struct state *state = argument;
  lvr_block *b = new_block(40000, 0);
  carry_lock(b, state->lock);
  memset(lvr_block_data(b), 6, 40000);
  CHECK_INT(give(state->word, b), 0);
  CHECK_INT(take(state->word, &b), 0);
  CHECK_INT(give(state->word, b), 0);
}

/* The word has it, whole, or nobody has. */
static void check_passed(void *argument, bool done) {
  struct state *state = argument;
  bool there = word_of(state->word)->wo_block != 0;
  CHECK(there || !done);
  fixture_check(session);
  CHECK_INT(objects(), 2 + there);
  CHECK_INT(state->lock->handle.object->ob_refs, 1 + there);
  if (there) {
    lvr_block *b;
    CHECK_INT(take(state->word, &b), 0);
    CHECK(is_filled_with(lvr_block_data(b), 40000, 6));
    fixture_check(session);
    lvr_block_detach(b);
  }
  check_nothing_left(argument, done);
}

static const struct crash_scenario passing = {
    "hand to hand", sizeof(struct state), set_up, pass_on, repair, check_passed, tear_down};

TEST_WITHIN(whoever_dies_passing_one_on_has_it_or_has_not, 120) {
  (void)crash_run(&passing);
  (void)crash_run_repairer(&passing, 97);
  CHECK_INT(crash_unvisited("object.give") + crash_unvisited("object.take"), 0);
}

/* --- the check can say no -------------------------------------------------------------------- */

TEST(damage_is_seen) {
  session = fixture_session();
  lvr_block *b = new_block(10, 0), *large = new_block(100000, 0);
  for (int i = 0; i < 20; i++)
    carry_new_lock(b);
  struct lvr_block_shm *shm = (struct lvr_block_shm *)(void *)b->handle.object;
  struct lvr_block_shm *run = (struct lvr_block_shm *)(void *)large->handle.object;
  struct lvri_block_refs *refs = lvri_at(&session->arena, shm->bl_refs);
  uint32_t *fields[] = {
      (uint32_t *)(void *)&shm->bl_count,    (uint32_t *)(void *)&shm->bl_refs,
      (uint32_t *)(void *)&run->bl_run,      (uint32_t *)(void *)&run->bl_count,
      (uint32_t *)(void *)&run->bl_refs,     &refs->br_chunks,
      (uint32_t *)(void *)refs->br_chunk,    (uint32_t *)(void *)&refs->br_chunk[1],
      (uint32_t *)(void *)&refs->br_chunk[2]};
  fixture_check(session);
  for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
    test_context("field %zu", i);
    *fields[i] += 64;
    CHECK_INT(lvr_session_check(session), -EUCLEAN);
    *fields[i] -= 64;
    fixture_check(session);
  }
  shm->bl_bytes += 100;
  CHECK_INT(lvr_session_check(session), -EUCLEAN);
}
