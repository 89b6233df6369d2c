#include "os/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "os/os.h"

/* Headers may be older than the kernel. */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* An entry of /proc/self/pagemap, one for each page. */
#define ENTRY_PRESENT   (UINT64_C(1) << 63)
#define ENTRY_FILE      (UINT64_C(1) << 61) /* of a file, or shared */
#define ENTRY_EXCLUSIVE (UINT64_C(1) << 56) /* mapped by this process alone */

enum { ENTRIES_AT_ONCE = 512, LINE_BYTES = 512 };
#define MAPPING_MOST_BYTES \
  (UINT64_C(256) << 20) /* larger ones are not a program's, but its data's */

struct walk {
  int pagemap;
  uint64_t page_bytes;
  struct lvri_page_run *runs;
  uint32_t n_runs, room;
  uint64_t left_bytes; /* of copies */
  uint64_t around;     /* the last window of a file that was added */
};

/* The kernel maps so much of a file around a page that is read: fault_around_bytes. */
#define AROUND_BYTES (UINT64_C(64) << 10)

static bool is_next(const struct lvri_page_run *run, uint64_t address, bool written) {
  return run->first + run->bytes == address && run->written == written;
}

static void add_page(struct walk *w, uint64_t address, bool written) {
  struct lvri_page_run *last = w->n_runs ? &w->runs[w->n_runs - 1] : NULL;
  if (written && w->left_bytes < w->page_bytes) return;
  if (written) w->left_bytes -= w->page_bytes;
  if (last && is_next(last, address, written))
    last->bytes += (uint32_t)w->page_bytes;
  else if (w->n_runs < w->room)
    w->runs[w->n_runs++] = (struct lvri_page_run){address, (uint32_t)w->page_bytes, written};
}

/* One page of each window: the others come with it. */
static void add_file_page(struct walk *w, uint64_t address) {
  uint64_t window = address / AROUND_BYTES + 1;
  if (window != w->around) add_page(w, address, false);
  w->around = window;
}

static void look_at_entry(struct walk *w, uint64_t address, uint64_t entry) {
  if (!(entry & ENTRY_PRESENT)) return;
  if (entry & ENTRY_FILE)
    add_file_page(w, address);
  else if (entry & ENTRY_EXCLUSIVE)
    add_page(w, address, true);
}

static void look_at_mapping(struct walk *w, uint64_t from, uint64_t to) {
  uint64_t entries[ENTRIES_AT_ONCE];
  while (from < to) {
    uint64_t count = (to - from) / w->page_bytes;
    if (count > ENTRIES_AT_ONCE) count = ENTRIES_AT_ONCE;
    ssize_t got = pread(w->pagemap, entries, count * sizeof(*entries),
                        (off_t)(from / w->page_bytes * sizeof(*entries)));
    if (got <= 0) return;
    count = (uint64_t)got / sizeof(*entries);
    for (uint64_t i = 0; i < count; i++)
      look_at_entry(w, from + i * w->page_bytes, entries[i]);
    from += count * w->page_bytes;
  }
}

/* "7f00a000-7f00c000 rw-p 00000000 ..." */
static bool parse_range(const char *line, uint64_t *ret_from, uint64_t *ret_to,
                        const char **ret_rights) {
  char *hyphen, *blank;
  uint64_t from = strtoull(line, &hyphen, 16);
  if (hyphen == line || *hyphen != '-') return false;
  uint64_t to = strtoull(hyphen + 1, &blank, 16);
  if (*blank != ' ' || strlen(blank + 1) < strlen("rw-p")) return false;
  *ret_from = from;
  *ret_to = to;
  *ret_rights = blank + 1;
  return true;
}

/* Smaller ones cost a fork more than the faults that they save. */
#define TIED_LEAST_BYTES (UINT64_C(256) << 10)

/* "7f00a000-7f00c000 r-xp 00000000 08:01 1234 /usr/lib/..." */
static bool is_code(const char *line, const char *rights, uint64_t bytes) {
  return strncmp(rights, "r", 1) == 0 && rights[1] == '-' && rights[3] == 'p' &&
         strchr(line, '/') && bytes >= TIED_LEAST_BYTES && bytes <= MAPPING_MOST_BYTES;
}

/* The kernel's own have names like [vdso]. What is tied comes with the fork. */
static void look_at_line(struct walk *w, const char *line) {
  uint64_t from, to;
  const char *rights;
  if (!parse_range(line, &from, &to, &rights)) return;
  if (rights[3] != 'p' || rights[0] != 'r' || strstr(line, "[v")) return;
  if (is_code(line, rights, to - from)) return;
  if (to - from <= MAPPING_MOST_BYTES) look_at_mapping(w, from, to);
}

static int walk_mappings(struct walk *w) {
  char line[LINE_BYTES];
  FILE *maps = fopen("/proc/self/maps", "re");
  if (!maps) return -errno;
  while (fgets(line, sizeof(line), maps))
    look_at_line(w, line);
  (void)fclose(maps);
  return (int)w->n_runs;
}

/* --- what forks copy ----------------------------------------------------------------------- */

/* The same byte again: the page is a copy of our own from now on, with what was in it. */
static void own_one_page(int memory, uint64_t address) {
  char byte;
  if (pread(memory, &byte, 1, (off_t)address) != 1) return;
  ssize_t wrote = pwrite(memory, &byte, 1, (off_t)address);
  (void)wrote; /* where that is forbidden, forks are a little slower */
}

void lvri_os_pages_tie(void) {
  char line[LINE_BYTES];
  uint64_t from, to;
  const char *rights;
  int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
  FILE *maps = memory < 0 ? NULL : fopen("/proc/self/maps", "re");
  while (maps && fgets(line, sizeof(line), maps))
    if (parse_range(line, &from, &to, &rights) && is_code(line, rights, to - from))
      own_one_page(memory, from);
  if (maps) (void)fclose(maps);
  lvri_os_close(memory);
}

/* ------------------------------------------------------------------------------------------- */

int lvri_os_pages_touched(struct lvri_page_run *ret_runs, uint32_t room, uint64_t most_bytes) {
  struct walk walk = {.pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC),
                      .page_bytes = (uint64_t)sysconf(_SC_PAGESIZE),
                      .runs = ret_runs,
                      .room = room,
                      .left_bytes = most_bytes};
  if (walk.pagemap < 0) return -errno;
  int found = walk_mappings(&walk);
  lvri_os_close(walk.pagemap);
  return found;
}

void lvri_os_pages_fetch(const struct lvri_page_run *runs, uint32_t n_runs) {
  for (uint32_t i = 0; i < n_runs; i++) {
    void *first = (void *)(uintptr_t)runs[i].first;
    (void)madvise(first, runs[i].bytes, runs[i].written ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
  }
}
