#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void lvri_assert_failed(const char *expression, const char *file, int line) {
  (void)fprintf(stderr, "leveret: %s:%d: expected %s\n", file, line, expression);
  abort();
}
