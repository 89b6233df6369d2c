/* home.h - the session that this process lives in.
 *
 * The core can be in many sessions at once; a program is in one, its home, and all its parts find
 * it here: the interpreters of a process, say, whose objects are for each other. Who needs it first
 * makes or joins it; it is never left, for the end of the process is noticed anyway.
 *
 * A forked child has its parent's, which is its own as well, as a rule. One that was forked by
 * somebody who is to be no relative of it (a server of births) may change it:
 * lvri_home_is_inherited().
 *
 * No lock is held over any of this, so a fork by another thread meets a home or none. */
#ifndef LVRI_CORE_HOME_H
#define LVRI_CORE_HOME_H

#include <stdbool.h>

#include "leveret/session.h"

/* NULL: none yet. */
lvr_session *lvri_home(void);

/* Make it the home. False: there is one, perhaps since a moment ago, and nothing has changed. */
bool lvri_home_settle(lvr_session *s);

/* Whether the home was settled in before this process was forked. */
bool lvri_home_is_inherited(void);

/* There is none any more, if it still is `from`. That session goes on as it is. */
void lvri_home_leave(lvr_session *from);

#endif
