/* leveret.h - all of libleveret.
 *
 * Above each function stands what is particular about it; err.h says what the codes mean. Where a
 * line is missing, this holds:
 *
 *   Units:   deadline_ns is absolute CLOCK_MONOTONIC; LVR_FOREVER: no limit, the past: try once.
 *   Owner:   arguments stay the caller's; ret_ arguments are written on success only.
 *   Caller:  any thread of an attached process; not a signal handler.
 *   Locks:   the core's own, for moments; nothing is called back.
 *   Fork:    the child has its parent's handles; one without a slot gets -ESTALE.
 *   Crash:   killed at any instruction, all is as before the call or as after it, if need be once
 *            the living have repaired it.
 *   Returns: it cannot fail, or what its first sentence says.
 */
#ifndef LEVERET_LEVERET_H
#define LEVERET_LEVERET_H

#include "barrier.h"
#include "block.h"
#include "board.h"
#include "condition.h"
#include "err.h"
#include "event.h"
#include "lock.h"
#include "message.h"
#include "object.h"
#include "pipe.h"
#include "process.h"
#include "queue.h"
#include "semaphore.h"
#include "session.h"
#include "value.h"
#include "zygote.h"

#endif
