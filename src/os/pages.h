/* pages.h - which pages a process has for itself, and getting them before they are needed.
 *
 * A forked process pays for its memory page by page, a microsecond or three each, when it first
 * touches them. Processes forked from the same one touch the same pages at the same addresses: what
 * one of them has touched, the next can fetch with a few calls before anybody waits for it. */
#ifndef LVRI_OS_PAGES_H
#define LVRI_OS_PAGES_H

#include <stdint.h>

/* Pages that lie side by side. */
struct lvri_page_run {
  uint64_t first; /* address */
  uint32_t bytes;
  uint32_t written; /* 1: the process has a copy of its own; 0: it only reads them */
};

/* Lists the pages that this process has touched of its private memory, at most `room` runs and at
 * most `most_bytes` of copies. How many runs, or a negative errno. */
int lvri_os_pages_touched(struct lvri_page_run *ret_runs, uint32_t room, uint64_t most_bytes);

/* Touches them all at once. What is not there (any more) is passed over. */
void lvri_os_pages_fetch(const struct lvri_page_run *runs, uint32_t n_runs);

/* From now on forks of this process copy where the pages of large libraries are mapped, instead of
 * leaving it to the child to find them again, window by window: for the kernel does so where a
 * mapping has a page of the process's own, and each has one then. Never fails. */
void lvri_os_pages_tie(void);

#endif
