/* fixture.h - what the tests of sessions, processes and objects begin with. */
#ifndef LVRI_TESTING_FIXTURE_H
#define LVRI_TESTING_FIXTURE_H

#include "base/fault.h"
#include "core/kinds.h"
#include "core/object.h"
#include "core/session.h"
#include "leveret/process.h"

/* A new session. LVRI_KIND_TEST is a kind of 64 bytes and more, with the hooks that lvri_test_kind
 * says. */
lvr_session *fixture_session(void);

/* The same, for few processes. */
lvr_session *fixture_small_session(uint32_t max_processes);

/* A new object of LVRI_KIND_TEST. */
struct lvri_handle *fixture_object(lvr_session *s);

/* An embryo that is watched. */
lvr_proc_id fixture_prepare(lvr_session *s);

struct lvr_session_stats fixture_stats(lvr_session *s);

/* Embryos of forks that a death has interrupted are as old as they need be to go with the next
 * repair. */
void fixture_age_embryos(lvr_session *s);

/* Everything is in order. */
void fixture_check(lvr_session *s);

#endif
