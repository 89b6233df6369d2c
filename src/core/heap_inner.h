/* heap_inner.h - what heap.c shows to heap_check.c, and to nobody else. */
#ifndef LVRI_CORE_HEAP_INNER_H
#define LVRI_CORE_HEAP_INNER_H

#include "core/heap.h"

/* Row of the page table. */
struct lvri_page *lvri_heap_page(const struct lvri_arena *a, uint32_t number);

/* Of a size class: what its blocks hold, and how many a slab has. */
uint32_t lvri_heap_class_bytes(uint32_t class_number);
uint32_t lvri_heap_blocks_in(uint32_t class_number);

/* Where a slab's block lies. */
lvri_off lvri_heap_block_off(uint32_t number, uint32_t class_number, uint32_t index);

#endif
