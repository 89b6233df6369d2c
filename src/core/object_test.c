#include "core/object.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "core/slots.h"
#include "leveret/process.h"
#include "testing/fixture.h"
#include "testing/test.h"

static lvr_session *session;

static lvr_ref ref_of(const struct lvri_handle *h) {
  lvr_ref ref;
  lvri_object_ref(h, &ref);
  return ref;
}

static int attach(lvr_session *s, const lvr_ref *ref, struct lvri_handle **ret_h) {
  return lvri_object_attach(s, ref, LVRI_KIND_TEST, ret_h);
}

/* --- one process ----------------------------------------------------------------------------- */

TEST(one_handle_per_object) {
  session = fixture_session();
  struct lvri_handle *h = fixture_object(session), *again;
  lvr_ref ref = ref_of(h);
  CHECK_INT(attach(session, &ref, &again), 0);
  CHECK(again == h);
  CHECK_INT(h->object->ob_refs, 1);
  CHECK_INT(fixture_stats(session).handles, 1);
  lvri_object_detach(again);
  CHECK_INT(fixture_stats(session).objects, 1);
  lvri_object_detach(h);
  CHECK_INT(fixture_stats(session).objects, 0);
  CHECK_INT(attach(session, &ref, &again), -ESTALE);
  lvri_object_detach(NULL);
  fixture_check(session);
}

TEST(a_serial_is_never_used_again) {
  session = fixture_session();
  struct lvri_handle *h = fixture_object(session);
  lvr_ref old = ref_of(h);
  lvri_object_detach(h);
  h = fixture_object(session);
  CHECK_INT(h->off, old.off); /* the same place, but another object */
  CHECK(ref_of(h).serial != old.serial);
  struct lvri_handle *k;
  CHECK_INT(attach(session, &old, &k), -ESTALE);
  lvri_object_detach(h);
  CHECK_INT(attach(session, &old, &k), -ESTALE);
}

static uint64_t random_state = 1;

static uint64_t any_number(void) {
  random_state = lvri_hash_u64(random_state + 0x9e3779b97f4a7c15ULL);
  return random_state;
}

/* Numbers from anywhere: an error each, no crash, nothing changed. */
TEST(references_are_not_trusted) {
  session = fixture_session();
  struct lvri_handle *h = fixture_object(session), *k;
  lvr_ref good = ref_of(h), bad;
  bad = good, bad.kind = LVRI_KIND_LEDGER;
  CHECK_INT(lvri_object_attach(session, &bad, LVRI_KIND_LEDGER, &k), -EINVAL);
  bad = good, bad.kind = 77777;
  CHECK_INT(lvri_object_attach(session, &bad, 77777, &k), -EINVAL);
  CHECK_INT(lvri_object_attach(session, &good, LVRI_KIND_LOCK, &k), -EINVAL);
  bad = good, bad.off += 8;
  CHECK_INT(attach(session, &bad, &k), -ESTALE);
  for (int i = 0; i < 20000; i++) {
    bad = good;
    bad.off = any_number() >> (any_number() % 64);
    bad.serial = any_number() % 4;
    int error =
        bad.off == good.off && bad.serial == good.serial ? -ESTALE : attach(session, &bad, &k);
    CHECK_INT(error, -ESTALE);
    error = lvr_object_unsend(session, &bad);
    CHECK(error == -ESTALE || error == -EINVAL);
  }
  lvr_ref garbage;
  for (size_t i = 0; i < sizeof(garbage); i++)
    ((uint8_t *)&garbage)[i] = (uint8_t)any_number();
  CHECK(attach(session, &garbage, &k) < 0);
  CHECK_INT(h->object->ob_refs, 1);
  fixture_check(session);
}

/* Blocks of the session itself are no objects, whatever the reference says. */
static void try_block(void *context, lvri_off off, size_t bytes, uint32_t kind) {
  lvr_ref *refs = context;
  (void)bytes;
  (void)kind;
  while (refs->off)
    refs++;
  refs->off = off;
}

TEST(blocks_that_are_no_objects) {
  session = fixture_session();
  lvr_ref refs[16];
  struct lvri_handle *k;
  memset(refs, 0, sizeof(refs));
  CHECK_INT(lvri_guard_enter(&session->arena, lvri_arena_guard(&session->arena)), 0);
  lvri_heap_each(&session->arena, try_block, refs);
  lvri_guard_leave(&session->arena, lvri_arena_guard(&session->arena));
  CHECK(refs[0].off && refs[1].off && !refs[15].off);
  for (int i = 0; refs[i].off; i++) {
    lvr_session_uuid(session, refs[i].session);
    refs[i].kind = LVRI_KIND_TEST;
    CHECK_INT(attach(session, &refs[i], &k), -ESTALE);
  }
}

/* --- references that travel ------------------------------------------------------------------ */

TEST(a_message_keeps_its_object) {
  session = fixture_session();
  lvr_session *t;
  struct lvri_handle *h = fixture_object(session), *k, *again;
  lvr_ref ref;
  CHECK_INT(lvr_session_attach(lvr_session_fd(session), 0, &t), 0);
  CHECK_INT(lvri_object_send(h, &ref), 0);
  CHECK_INT(h->object->ob_refs, 2);
  lvri_object_detach(h);
  CHECK_INT(fixture_stats(session).objects, 1);
  CHECK_INT(attach(t, &ref, &k), 0);
  CHECK_INT(k->object->ob_refs, 1); /* it has taken the message's */
  CHECK_INT(lvri_object_send(k, &ref), 0);
  CHECK_INT(attach(t, &ref, &again), 0); /* had one: the message's is given back */
  CHECK_INT(k->object->ob_refs, 1);
  CHECK_INT(attach(session, &ref, &h), 0); /* a second time: a reference of its own */
  CHECK_INT(k->object->ob_refs, 2);
  lvri_object_detach(k);
  lvri_object_detach(again);
  CHECK_INT(h->object->ob_refs, 1);
  fixture_check(session);
}

/* Who attaches by name, or anew, leaves alone what travels to somebody else. */
TEST(a_name_takes_nothing_that_travels) {
  session = fixture_session();
  lvr_session *t;
  struct lvri_handle *h = fixture_object(session), *k, *again;
  lvr_ref name = ref_of(h), message;
  CHECK_INT(lvr_session_attach(lvr_session_fd(session), 0, &t), 0);
  CHECK_INT(lvri_object_send(h, &message), 0);
  CHECK_INT(message.travels, 1);
  CHECK_INT(name.travels, 0);
  CHECK_INT(attach(t, &name, &k), 0);
  CHECK_INT(h->object->ob_travelling, 1);
  CHECK_INT(h->object->ob_refs, 3);
  CHECK_INT(attach(t, &name, &again), 0);
  CHECK_INT(h->object->ob_travelling, 1);
  CHECK_INT(lvr_object_unsend(t, &name), -EINVAL);
  lvri_object_detach(h);
  lvri_object_detach(k);
  lvri_object_detach(again);
  CHECK_INT(fixture_stats(session).objects, 1); /* the message has it still */
  CHECK_INT(attach(t, &message, &k), 0);
  CHECK_INT(k->object->ob_refs, 1);
  CHECK_INT(k->object->ob_travelling, 0);
  fixture_check(session);
}

TEST(a_message_that_was_lost) {
  session = fixture_session();
  struct lvri_handle *h = fixture_object(session);
  lvr_ref ref;
  CHECK_INT(lvri_object_send(h, &ref), 0);
  lvri_object_detach(h);
  CHECK_INT(lvr_object_unsend(session, &ref), 0);
  CHECK_INT(fixture_stats(session).objects, 0);
  CHECK_INT(lvr_object_unsend(session, &ref), -ESTALE);
  h = fixture_object(session);
  ref = ref_of(h);
  CHECK_INT(lvr_object_unsend(session, &ref), -EINVAL);
}

/* Units that are held outlive the handle, if anybody else can see them: the entry gives them back
 * one day. */
TEST(held_units_keep_the_entry) {
  session = fixture_session();
  struct lvri_handle *h = fixture_object(session), *k;
  lvr_ref ref;
  CHECK_INT(lvri_object_send(h, &ref), 0);
  lvri_handle_entry(h)->le_held = 1;
  lvri_object_detach(h);
  CHECK_INT(fixture_stats(session).objects, 1);
  CHECK_INT(fixture_stats(session).handles, 0);
  CHECK_INT(attach(session, &ref, &k), 0);
  CHECK_INT(lvri_handle_entry(k)->le_held, 1);
  lvri_object_detach(k);
  CHECK_INT(fixture_stats(session).objects, 0);
}

/* --- want ------------------------------------------------------------------------------------ */

TEST(want_of_memory_changes_nothing) {
  struct lvr_session_options options = {.reserve_bytes = LVRI_ARENA_LEAST_BYTES};
  struct lvri_handle *h, *last = NULL;
  lvri_test_kind.handle_bytes = sizeof(struct lvri_handle);
  CHECK_INT(lvr_session_create(&options, &session), 0);
  uint64_t blocks = fixture_stats(session).blocks;
  int error;
  uint64_t count = 0;
  while ((error = lvri_object_create(session, LVRI_KIND_TEST, 5000, &h)) == 0) {
    CHECK(++count < 10000);
    if (last) lvri_object_detach(last);
    last = count % 2 ? h : NULL; /* every other one stays */
  }
  CHECK_INT(error, -ENOMEM);
  fixture_check(session);
  struct lvr_session_stats stats = fixture_stats(session);
  CHECK_INT(stats.objects, stats.handles);
  lvr_proc_id id;
  do {
    error = lvr_proc_prepare(session, 0, &id);
  } while (error == 0);
  CHECK(error == -EAGAIN || error == -ENOMEM);
  fixture_check(session);
  CHECK(stats.blocks > blocks);
}

TEST(every_failing_call_of_an_object_is_survived) {
  for (uint64_t nth = 1;; nth++) {
    session = fixture_session();
    struct lvri_handle *h[300];
    int made = 0, error = 0;
    lvri_fault_arm(NULL, nth);
    while (made < 300 && !error) {
      error = lvri_object_create(session, LVRI_KIND_TEST, 3000, &h[made]);
      if (!error) made++;
    }
    bool all = lvri_fault_hits() < nth;
    lvri_fault_arm(NULL, 0);
    test_context("fault %llu", (unsigned long long)nth);
    CHECK_INT(fixture_stats(session).objects, made);
    fixture_check(session);
    while (made > 0)
      lvri_object_detach(h[--made]);
    CHECK_INT(fixture_stats(session).objects, 0);
    lvr_session_detach(session);
    if (all) return;
  }
}

/* --- many ------------------------------------------------------------------------------------ */

/* A model: which of the objects we have, by chance; the table must agree. */
TEST(many_handles_come_and_go) {
  session = fixture_session();
  enum { MANY = 2000 };
  static struct lvri_handle *h[MANY];
  uint64_t have = 0;
  for (int i = 0; i < 60000; i++) {
    size_t at = any_number() % MANY;
    if (h[at]) {
      lvr_ref ref = ref_of(h[at]);
      struct lvri_handle *k;
      CHECK_INT(attach(session, &ref, &k), 0);
      CHECK(k == h[at]);
      lvri_object_detach(k);
      lvri_object_detach(h[at]);
      h[at] = NULL;
      have--;
    } else {
      h[at] = fixture_object(session);
      have++;
    }
    if (i % 10000) continue;
    CHECK_INT(fixture_stats(session).handles, have);
    CHECK_INT(fixture_stats(session).objects, have);
    fixture_check(session);
  }
  for (size_t at = 0; at < MANY; at++)
    lvri_object_detach(h[at]);
  CHECK_INT(fixture_stats(session).objects, 0);
  CHECK_INT(session->slot->sl_ledger, 0);
}

static void use_many(void *argument) {
  const lvr_ref *ref = argument;
  for (int i = 0; i < 2000; i++) {
    struct lvri_handle *h = fixture_object(session), *k;
    CHECK_INT(attach(session, ref, &k), 0);
    lvri_object_detach(h);
    lvri_object_detach(k);
  }
}

TEST(threads_share_handles) {
  session = fixture_session();
  struct lvri_handle *h = fixture_object(session);
  lvr_ref ref = ref_of(h);
  test_threads(4, use_many, &ref);
  CHECK_INT(h->uses, 1);
  CHECK_INT(h->object->ob_refs, 1);
  CHECK_INT(fixture_stats(session).handles, 1);
  fixture_check(session);
}

static void check_children(void *unused) {
  (void)unused;
  CHECK_INT(fixture_stats(session).handles, 3000);
  CHECK_INT(lvri_ledger_len(&session->arena, session->slot->sl_ledger), 3000);
  fixture_check(session);
}

TEST(many_handles_are_inherited) {
  session = fixture_session();
  struct lvri_handle *first = fixture_object(session);
  for (int i = 1; i < 3000; i++)
    (void)fixture_object(session);
  CHECK_INT(test_join(test_fork(check_children, NULL)), 0);
  CHECK_INT(first->object->ob_refs, 2);
  fixture_check(session);
  CHECK_INT(lvr_repair(session), 1);
  CHECK_INT(first->object->ob_refs, 1);
  fixture_check(session);
}

struct gone {
  struct lvri_handle *h;
  lvr_ref *named;
};

static void name_later(void *argument) {
  const struct gone *gone = argument;
  (void)raise(SIGSTOP);
  lvri_object_ref(gone->h, gone->named);
}

/* A child that is none of the session's keeps nothing: in the place there may be another object. */
TEST(what_is_gone_has_its_name_still) {
  session = fixture_session();
  struct gone gone = {fixture_object(session), test_shared(sizeof(lvr_ref))};
  lvr_ref old = ref_of(gone.h);
  CHECK_INT(lvr_proc_fork_next(session, LVR_PROC_NOBODY), 0);
  pid_t pid = test_fork(name_later, &gone);
  test_await_stop(pid);
  lvri_object_detach(gone.h);
  struct lvri_handle *other = fixture_object(session);
  CHECK_INT(other->off, old.off);
  test_continue(pid);
  CHECK_INT(test_join(pid), 0);
  CHECK(gone.named->serial == old.serial);
  lvri_object_detach(other);
}

/* --- the check itself ------------------------------------------------------------------------ */

/* A structure that is out of order is seen. */
TEST(checks_can_fail) {
  session = fixture_session();
  struct lvri_handle *h = fixture_object(session);
  struct lvri_object_shm *object = h->object;
  struct lvri_ledger *ledger = lvri_at(&session->arena, session->slot->sl_ledger);
  struct lvri_slots *table = lvri_slots_of(&session->arena);
  struct {
    uint32_t *field;
  } fields[] = {{&object->ob_refs},
                {&object->ob_travelling},
                {&object->ob_kind},
                {&ledger->lg_used},
                {&ledger->lg_len},
                {&ledger->lg_free},
                {&ledger->lg_chunks},
                {&session->slot->sl_children},
                {&table->st_free},
                {&table->st_head},
                {(uint32_t *)&ledger->lg_first}};
  for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
    test_context("field %zu", i);
    fixture_check(session);
    *fields[i].field += 1;
    CHECK_INT(lvr_session_check(session), -EUCLEAN);
    *fields[i].field -= 1;
  }
  fixture_check(session);
}
