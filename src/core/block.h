#ifndef LVRI_CORE_BLOCK_H
#define LVRI_CORE_BLOCK_H
#include "core/object.h"
#include "leveret/block.h"
struct lvri_handle *lvri_block_handle(lvr_block *b);
lvr_block *lvri_block_of(struct lvri_handle *h);
struct lvri_taking { int x; };
int lvri_object_give_locked(struct lvri_handle *h);
void lvri_object_given(struct lvri_handle *h);
int lvri_object_taking_prepare(lvr_session *s, lvri_off off, uint32_t kind, struct lvri_taking *t);
int lvri_object_take_locked(struct lvri_taking *t);
struct lvri_handle *lvri_object_taken(struct lvri_taking *t);
void lvri_object_taking_cancel(struct lvri_taking *t);
#endif
