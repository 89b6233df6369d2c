#include "core/kinds.h"

#include "core/event.h"
#include "core/lock.h"

static const struct lvri_kind_ops lock_kind = {.handle_bytes = sizeof(struct lvr_lock)};
static const struct lvri_kind_ops event_kind = {.handle_bytes = sizeof(struct lvr_event)};

#ifdef LVRI_TESTING
struct lvri_kind_ops lvri_test_kind;
#endif

const struct lvri_kind_ops *const lvri_kinds[LVRI_KIND_LIMIT] = {
    [LVRI_KIND_LOCK] = &lock_kind,
    [LVRI_KIND_RLOCK] = &lock_kind,
    [LVRI_KIND_EVENT] = &event_kind,
#ifdef LVRI_TESTING
    [LVRI_KIND_TEST] = &lvri_test_kind,
#endif
};
