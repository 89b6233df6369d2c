/* handles.h - which objects this process refers to: from an object's offset to its ledger entry
 * and, if there is one, its handle. Process-private, under the session's mutex; a fork copies it as
 * it is. */
#ifndef LVRI_CORE_HANDLES_H
#define LVRI_CORE_HANDLES_H

#include <stddef.h>
#include <stdint.h>

#include "base/off.h"

struct lvri_handle;

struct lvri_record {
  lvri_off off; /* 0: empty */
  struct lvri_handle
      *handle;    /* NULL: the ledger has an entry, nobody uses it (a gift, held units) */
  uint32_t index; /* of the ledger entry */
  uint32_t lent;  /* it is there for a child that is about to be forked, and goes after that */
};

/* Open addressing, at most three quarters full. */
struct lvri_handles {
  struct lvri_record *records;
  size_t room; /* a power of two, or 0 */
  size_t count;
};

/* The record for off, or NULL. It is valid until the next add or remove. */
struct lvri_record *lvri_handles_find(const struct lvri_handles *t, lvri_off off);

/* From now on one add cannot fail. 0, -ENOMEM. */
int lvri_handles_reserve(struct lvri_handles *t);

/* A new record for off, which has none; after a reserve. */
struct lvri_record *lvri_handles_add(struct lvri_handles *t, lvri_off off);

void lvri_handles_remove(struct lvri_handles *t, struct lvri_record *record);

/* Forgets all records; the handles are the caller's. */
void lvri_handles_fini(struct lvri_handles *t);

#endif
