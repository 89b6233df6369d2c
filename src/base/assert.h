/* assert.h - LVRI_ASSERT: for our own bugs, never for what the world does to us.
 *
 * On where LVRI_DEBUG is defined to 1 (debug and testing builds); elsewhere the expression is
 * compiled, so that it cannot rot, and not evaluated. */
#ifndef LVRI_BASE_ASSERT_H
#define LVRI_BASE_ASSERT_H

#ifndef LVRI_DEBUG
#ifdef LVRI_TESTING
#define LVRI_DEBUG 1
#else
#define LVRI_DEBUG 0
#endif
#endif

/* Says what was expected and where, then aborts. */
_Noreturn void lvri_assert_failed(const char *expression, const char *file, int line);

#define LVRI_ASSERT(expression)                                                           \
  do {                                                                                    \
    if (LVRI_DEBUG && !(expression)) lvri_assert_failed(#expression, __FILE__, __LINE__); \
  } while (0)

#endif
