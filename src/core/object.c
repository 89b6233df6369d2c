#include "core/object.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crashpoint.h"
#include "core/grave.h"
#include "core/session.h"
#include "core/slots.h"

/* --- references; the caller holds the arena's guard ---------------------------------------- */

static void set_refs(struct lvri_arena *a, struct lvri_object_shm *object, uint32_t refs) {
  lvri_set32(a, lvri_arena_guard(a), &object->ob_refs, refs);
}

static void set_travelling(struct lvri_arena *a, struct lvri_object_shm *object, uint32_t count) {
  lvri_set32(a, lvri_arena_guard(a), &object->ob_travelling, count);
}

void lvri_object_unref_locked(struct lvri_arena *a, lvri_off off) {
  struct lvri_object_shm *object = lvri_at(a, off);
  LVRI_ASSERT(object->ob_refs > 0);
  set_refs(a, object, object->ob_refs - 1);
  if (object->ob_refs > 0) return;
  const struct lvri_kind_ops *ops = lvri_kinds[object->ob_kind];
  if (ops && ops->drain_locked && !(ops->is_drained && ops->is_drained(a, off))) {
    lvri_grave_put_locked(a, off);
    return;
  }
  if (ops && ops->fini_locked) ops->fini_locked(a, off);
  lvri_heap_free_locked(a, off);
}

static bool is_object_kind(uint32_t kind) {
  return kind < LVRI_KIND_LIMIT && lvri_kinds[kind] != NULL;
}

int lvri_object_find_locked(struct lvri_arena *a, const lvr_ref *ref,
                            struct lvri_object_shm **ret_object) {
  if (memcmp(ref->session, lvri_arena_header(a)->ah_session, sizeof(ref->session)) != 0)
    return -EXDEV;
  if (!is_object_kind(ref->kind)) return -EINVAL;
  if (!lvri_heap_is_block(a, ref->off) || lvri_heap_kind(a, ref->off) != ref->kind) return -ESTALE;
  struct lvri_object_shm *object = lvri_at(a, ref->off);
  if (object->ob_serial != ref->serial || object->ob_refs == 0) return -ESTALE;
  *ret_object = object;
  return 0;
}

/* The reference of a new entry: the one that travels with ref, or a new one. */
static void take_reference(struct lvri_arena *a, struct lvri_object_shm *object,
                           const lvr_ref *ref) {
  if (ref->travels && object->ob_travelling > 0)
    set_travelling(a, object, object->ob_travelling - 1);
  else
    set_refs(a, object, object->ob_refs + 1);
}

/* One that travelled to somebody who had one already. */
static void absorb_reference(struct lvri_arena *a, struct lvri_object_shm *object) {
  if (object->ob_travelling == 0) return;
  set_travelling(a, object, object->ob_travelling - 1);
  set_refs(a, object, object->ob_refs - 1);
}

/* --- handles; the caller holds the session's mutex ----------------------------------------- */

static struct lvri_handle *make_handle(lvr_session *s, uint32_t kind) {
  struct lvri_handle *h = calloc(1, lvri_kinds[kind]->handle_bytes);
  if (!h) return NULL;
  h->session = s;
  h->kind = kind;
  h->uses = 1;
  return h;
}

/* Before its entry goes; with the session's mutex. */
static void close_handle(struct lvri_handle *h) {
  if (lvri_kinds[h->kind]->close) lvri_kinds[h->kind]->close(h);
}

static void point(struct lvri_handle *h, lvri_off off, uint32_t index) {
  h->object = lvri_at(&h->session->arena, off);
  h->off = off;
  h->serial = h->object->ob_serial;
  h->index = index;
}

static void record(lvr_session *s, struct lvri_handle *h) {
  struct lvri_record *r = lvri_handles_add(&s->handles, h->off);
  r->handle = h;
  r->index = h->index;
}

/* --- create -------------------------------------------------------------------------------- */

static int create_locked(lvr_session *s, const struct lvri_making *m, lvri_off *ret_off,
                         uint32_t *ret_index) {
  struct lvri_arena *a = &s->arena;
  int error = m->bare ? lvri_heap_alloc_bare_locked(a, m->bytes, m->kind, ret_off)
                      : lvri_heap_alloc_locked(a, m->bytes, m->kind, ret_off);
  if (error) return error;
  /* nobody can reach it yet: no need to log */
  struct lvri_object_shm *object = lvri_at(a, *ret_off);
  *object = (struct lvri_object_shm){
      .ob_serial = lvri_arena_serial_locked(a), .ob_kind = m->kind, .ob_refs = 1};
  if (m->init_locked) error = m->init_locked(a, *ret_off, m->context);
  if (error) return error;
  return lvri_ledger_add_locked(a, lvri_session_self(s), *ret_off, ret_index);
}

static int try_create(lvr_session *s, struct lvri_handle *h, const struct lvri_making *m) {
  struct lvri_arena *a = &s->arena;
  struct lvri_guard *g = lvri_arena_guard(a);
  lvri_off off;
  uint32_t index;
  int error = lvri_handles_reserve(&s->handles);
  if (!error) error = lvri_guard_enter(a, g);
  if (error) return error;
  error = create_locked(s, m, &off, &index);
  if (error) {
    lvri_guard_abort(a, g);
    return error;
  }
  LVR_CRASHPOINT("object.create.entered");
  lvri_guard_leave(a, g);
  point(h, off, index);
  record(s, h);
  return 0;
}

static int create(lvr_session *s, struct lvri_handle *h, const struct lvri_making *m) {
  int error = try_create(s, h, m);
  return error == -ENOMEM && lvri_heap_squeeze(&s->arena) ? try_create(s, h, m) : error;
}

int lvri_object_make(lvr_session *s, const struct lvri_making *m, struct lvri_handle **ret_handle) {
  LVRI_ASSERT(is_object_kind(m->kind) && m->bytes >= sizeof(struct lvri_object_shm));
  struct lvri_handle *h = make_handle(s, m->kind);
  if (!h) return -ENOMEM;
  lvri_session_lock(s);
  int error = lvri_session_stale(s) ? -ESTALE : create(s, h, m);
  lvri_session_unlock(s);
  if (error)
    free(h);
  else
    *ret_handle = h;
  return error;
}

int lvri_object_create(lvr_session *s, uint32_t kind, size_t bytes,
                       struct lvri_handle **ret_handle) {
  struct lvri_making making = {.kind = kind, .bytes = bytes};
  return lvri_object_make(s, &making, ret_handle);
}

/* --- attach -------------------------------------------------------------------------------- */

/* Our ledger has it, so it stays where it is: but is it the one that ref means? */
static int check_ours(lvr_session *s, const lvr_ref *ref) {
  const struct lvri_object_shm *object = lvri_at(&s->arena, ref->off);
  return object->ob_serial == ref->serial && object->ob_kind == ref->kind ? 0 : -ESTALE;
}

static int absorb(lvr_session *s, const lvr_ref *ref) {
  struct lvri_arena *a = &s->arena;
  struct lvri_guard *g = lvri_arena_guard(a);
  struct lvri_object_shm *object = lvri_at(a, ref->off);
  if (!ref->travels) return 0;
  /* what travels to us was counted before it was sent */
  if (lvri_load_relaxed_u32((_Atomic uint32_t *)&object->ob_travelling) == 0) return 0;
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  absorb_reference(a, object);
  LVR_CRASHPOINT("object.attach.absorbed");
  lvri_guard_leave(a, g);
  return 0;
}

static int attach_ours(lvr_session *s, const lvr_ref *ref, struct lvri_record *r,
                       struct lvri_handle **ret_handle) {
  int error = check_ours(s, ref);
  if (error) return error;
  struct lvri_handle *h = r->handle ? r->handle : make_handle(s, ref->kind);
  if (!h) return -ENOMEM;
  error = absorb(s, ref);
  if (error) {
    if (!r->handle) free(h);
    return error;
  }
  if (r->handle) {
    h->uses++;
  } else {
    point(h, ref->off, r->index);
    r->handle = h;
  }
  *ret_handle = h;
  return 0;
}

static int try_enter_object(lvr_session *s, const lvr_ref *ref, uint32_t *ret_index) {
  struct lvri_arena *a = &s->arena;
  struct lvri_guard *g = lvri_arena_guard(a);
  struct lvri_object_shm *object;
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  error = lvri_object_find_locked(a, ref, &object);
  if (!error) error = lvri_ledger_add_locked(a, lvri_session_self(s), ref->off, ret_index);
  if (error) {
    lvri_guard_abort(a, g);
    return error;
  }
  take_reference(a, object, ref);
  LVR_CRASHPOINT("object.attach.entered");
  lvri_guard_leave(a, g);
  return 0;
}

static int enter_object(lvr_session *s, const lvr_ref *ref, uint32_t *ret_index) {
  int error = try_enter_object(s, ref, ret_index);
  if (error != -ENOMEM || !lvri_heap_squeeze(&s->arena)) return error;
  return try_enter_object(s, ref, ret_index);
}

static int attach_new(lvr_session *s, const lvr_ref *ref, struct lvri_handle **ret_handle) {
  uint32_t index;
  struct lvri_handle *h = make_handle(s, ref->kind);
  int error = h ? lvri_handles_reserve(&s->handles) : -ENOMEM;
  if (!error) error = enter_object(s, ref, &index);
  if (error) {
    free(h);
    return error;
  }
  point(h, ref->off, index);
  record(s, h);
  *ret_handle = h;
  return 0;
}

int lvri_object_carry(struct lvri_handle *h) {
  lvr_session *s = h->session;
  lvr_ref ref = {.off = h->off, .serial = h->serial, .kind = h->kind};
  lvr_session_uuid(s, ref.session);
  struct lvri_record *r = lvri_handles_find(&s->handles, h->off);
  if (r) { /* a gift of the same object */
    int error = check_ours(s, &ref);
    if (error) return error;
    h->index = r->index;
    r->handle = h;
    return 0;
  }
  int error = lvri_handles_reserve(&s->handles);
  if (!error) error = enter_object(s, &ref, &h->index);
  if (!error) record(s, h);
  return error;
}

int lvri_object_attach(lvr_session *s, const lvr_ref *ref, uint32_t kind,
                       struct lvri_handle **ret_handle) {
  if (ref->kind != kind || !is_object_kind(kind)) return -EINVAL;
  if (memcmp(ref->session, lvri_arena_header(&s->arena)->ah_session, sizeof(ref->session)) != 0)
    return -EXDEV;
  lvri_session_lock(s);
  struct lvri_record *r = lvri_handles_find(&s->handles, ref->off);
  int error;
  if (lvri_session_stale(s))
    error = -ESTALE;
  else
    error = r ? attach_ours(s, ref, r, ret_handle) : attach_new(s, ref, ret_handle);
  lvri_session_unlock(s);
  return error;
}

/* --- detach -------------------------------------------------------------------------------- */

/* Whether others refer to an object of which we hold units: then our entry is what gives them back
 * when this process ends, for another handle of ours may do so before. */
static bool owes_units(lvr_session *s, const struct lvri_record *r) {
  const struct lvri_object_shm *object = lvri_at(&s->arena, r->off);
  return lvri_ledger_entry(&s->arena, s->slot->sl_ledger, r->index)->le_held && object->ob_refs > 1;
}

/* 0; -EBUSY: the entry has to stay. */
static int strike_out(lvr_session *s, const struct lvri_record *r) {
  struct lvri_arena *a = &s->arena;
  struct lvri_guard *g = lvri_arena_guard(a);
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  if (owes_units(s, r)) {
    lvri_guard_leave(a, g);
    return -EBUSY;
  }
  const struct lvri_object_shm *object = lvri_at(a, r->off);
  const struct lvri_kind_ops *ops = lvri_kinds[object->ob_kind];
  bool others = object->ob_refs > 1;
  lvri_object_unref_locked(a, r->off);
  if (others && ops->left_locked) ops->left_locked(a, r->off, lvri_session_self(s));
  LVR_CRASHPOINT("object.detach.unreferenced");
  lvri_ledger_drop_locked(a, lvri_session_self(s), r->index);
  LVR_CRASHPOINT("object.detach.struck");
  lvri_guard_leave(a, g);
  return 0;
}

static void drop(lvr_session *s, struct lvri_record *r) {
  r->handle = NULL;
  if (lvri_session_stale(s) || strike_out(s, r) == 0) lvri_handles_remove(&s->handles, r);
}

void lvri_object_detach(struct lvri_handle *h) {
  if (!h) return;
  lvr_session *s = h->session;
  lvri_session_lock(s);
  bool last = --h->uses == 0;
  if (last) close_handle(h);
  struct lvri_record *r = last ? lvri_handles_find(&s->handles, h->off) : NULL;
  if (r && r->handle == h) drop(s, r);
  lvri_session_unlock(s);
  if (last && !lvri_session_stale(s)) lvri_grave_empty(&s->arena);
  if (last) free(h);
}

/* --- references that travel ---------------------------------------------------------------- */

void lvri_object_ref(const struct lvri_handle *h, lvr_ref *ret_ref) {
  *ret_ref = (lvr_ref){.off = h->off, .serial = h->serial, .kind = h->kind};
  lvr_session_uuid(h->session, ret_ref->session);
}

int lvri_object_send(struct lvri_handle *h, lvr_ref *ret_ref) {
  struct lvri_arena *a = &h->session->arena;
  struct lvri_guard *g = lvri_arena_guard(a);
  if (lvri_session_stale(h->session)) return -ESTALE;
  int error = lvri_guard_enter(a, g);
  if (error) return error;
  if (h->object->ob_refs == UINT32_MAX) {
    lvri_guard_abort(a, g);
    return -EOVERFLOW;
  }
  set_refs(a, h->object, h->object->ob_refs + 1);
  set_travelling(a, h->object, h->object->ob_travelling + 1);
  LVR_CRASHPOINT("object.send.counted");
  lvri_guard_leave(a, g);
  lvri_object_ref(h, ret_ref);
  ret_ref->travels = 1;
  return 0;
}

static int unsend_locked(struct lvri_arena *a, const lvr_ref *ref) {
  struct lvri_object_shm *object;
  int error = lvri_object_find_locked(a, ref, &object);
  if (error) return error;
  if (!ref->travels || object->ob_travelling == 0) return -EINVAL;
  set_travelling(a, object, object->ob_travelling - 1);
  lvri_object_unref_locked(a, ref->off);
  return 0;
}

int lvr_object_unsend(lvr_session *s, const lvr_ref *ref) {
  struct lvri_guard *g = lvri_arena_guard(&s->arena);
  if (lvri_session_stale(s)) return -ESTALE;
  int error = lvri_guard_enter(&s->arena, g);
  if (error) return error;
  error = unsend_locked(&s->arena, ref);
  if (error)
    lvri_guard_abort(&s->arena, g);
  else
    lvri_guard_leave(&s->arena, g);
  lvri_grave_empty(&s->arena);
  return error;
}

/* --- references that change hands ---------------------------------------------------------- */

int lvri_object_give_locked(struct lvri_handle *h) {
  lvr_session *s = h->session;
  if (lvri_session_stale(s)) return -ESTALE;
  if (h->uses != 1 || lvri_handle_entry(h)->le_held) return -EINVAL;
  lvri_ledger_drop_locked(&s->arena, lvri_session_self(s), h->index);
  LVR_CRASHPOINT("object.give.struck");
  return 0;
}

void lvri_object_given(struct lvri_handle *h) {
  close_handle(h);
  lvri_handles_remove(&h->session->handles, lvri_handles_find(&h->session->handles, h->off));
  free(h);
}

int lvri_object_take_begin(lvr_session *s, uint32_t kind, struct lvri_taking *ret_t) {
  if (lvri_session_stale(s)) return -ESTALE;
  struct lvri_handle *spare = make_handle(s, kind);
  int error = spare ? lvri_handles_reserve(&s->handles) : -ENOMEM;
  if (error)
    free(spare);
  else
    *ret_t = (struct lvri_taking){.session = s, .spare = spare};
  return error;
}

int lvri_object_take_locked(struct lvri_taking *t, lvri_off object) {
  lvr_session *s = t->session;
  struct lvri_object_shm *shm = lvri_at(&s->arena, object);
  const struct lvri_record *r = lvri_handles_find(&s->handles, object);
  LVRI_ASSERT(shm->ob_kind == t->spare->kind && shm->ob_refs > (r != NULL));
  int error = 0;
  if (r)
    set_refs(&s->arena, shm, shm->ob_refs - 1);
  else
    error = lvri_ledger_add_locked(&s->arena, lvri_session_self(s), object, &t->index);
  if (error) return error;
  t->off = object;
  LVR_CRASHPOINT("object.take.entered");
  return 0;
}

struct lvri_handle *lvri_object_taken(struct lvri_taking *t) {
  struct lvri_handle *h = t->spare;
  struct lvri_record *r = lvri_handles_find(&t->session->handles, t->off);
  if (r && r->handle) {
    r->handle->uses++;
    free(h);
    return r->handle;
  }
  point(h, t->off, r ? r->index : t->index);
  if (r)
    r->handle = h;
  else
    record(t->session, h);
  return h;
}

void lvri_object_untaken(struct lvri_taking *t) { free(t->spare); }

struct lvri_ledger_entry *lvri_handle_entry(const struct lvri_handle *h) {
  lvr_session *s = h->session;
  if (lvri_session_stale(s)) return NULL;
  return lvri_ledger_entry(&s->arena, s->slot->sl_ledger, h->index);
}

/* --- gifts to a child that will be forked -------------------------------------------------- */

/* One gift out of the child's ledger, into ours unless it is there; one transaction. */
static int borrow(lvr_session *s, lvr_proc_id child, uint32_t index, lvri_off off) {
  struct lvri_arena *a = &s->arena;
  struct lvri_guard *g = lvri_arena_guard(a);
  bool ours = lvri_handles_find(&s->handles, off) != NULL;
  uint32_t at = 0;
  int error = lvri_handles_reserve(&s->handles);
  if (!error) error = lvri_guard_enter(a, g);
  if (error) return error;
  if (!ours) error = lvri_ledger_add_locked(a, lvri_session_self(s), off, &at);
  if (error) {
    lvri_guard_abort(a, g);
    return error;
  }
  lvri_ledger_drop_locked(a, child, index);
  if (ours) lvri_object_unref_locked(a, off);
  LVR_CRASHPOINT("object.gift.borrowed");
  lvri_guard_leave(a, g);
  if (ours) return 0;
  struct lvri_record *r = lvri_handles_add(&s->handles, off);
  r->index = at;
  r->lent = 1;
  s->lent++;
  return 0;
}

/* From the last to the first: the ledger goes with its last entry. */
int lvri_object_borrow_gifts(lvr_session *s, lvr_proc_id child) {
  struct lvri_slot *slot = lvri_slot_of(&s->arena, child);
  if (!slot) return -ESRCH;
  for (uint32_t i = lvri_ledger_len(&s->arena, slot->sl_ledger); i-- > 0 && slot->sl_ledger;) {
    lvri_off off = lvri_ledger_entry(&s->arena, slot->sl_ledger, i)->le_object;
    int error = off ? borrow(s, child, i, off) : 0;
    if (error) return error;
  }
  return 0;
}

/* The next record that is lent; removing one moves others, so each search starts anew. */
static struct lvri_record *find_lent(const lvr_session *s) {
  for (size_t at = 0; at < s->handles.room; at++)
    if (s->handles.records[at].lent) return &s->handles.records[at];
  return NULL;
}

void lvri_object_return_gifts(lvr_session *s) {
  if (!s->lent) return;
  for (; s->lent > 0; s->lent--) {
    struct lvri_record *r = find_lent(s);
    r->lent = 0;
    if (strike_out(s, r) == 0) lvri_handles_remove(&s->handles, r);
  }
  lvri_grave_empty(&s->arena);
}

void lvri_object_keep_gifts(lvr_session *s) {
  for (; s->lent > 0; s->lent--)
    find_lent(s)->lent = 0;
}
