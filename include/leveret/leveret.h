/* leveret.h - all of libleveret. */
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
