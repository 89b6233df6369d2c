#include "core/block.h"
#include "core/grave.h"
#include <stdlib.h>
struct lvri_handle *lvri_block_handle(lvr_block *b){ (void)b; abort(); }
lvr_block *lvri_block_of(struct lvri_handle *h){ (void)h; abort(); }
int lvri_object_give_locked(struct lvri_handle *h){ (void)h; abort(); }
void lvri_object_given(struct lvri_handle *h){ (void)h; abort(); }
int lvri_object_taking_prepare(lvr_session *s, lvri_off off, uint32_t kind, struct lvri_taking *t){ (void)s;(void)off;(void)kind;(void)t; abort(); }
int lvri_object_take_locked(struct lvri_taking *t){ (void)t; abort(); }
struct lvri_handle *lvri_object_taken(struct lvri_taking *t){ (void)t; abort(); }
void lvri_object_taking_cancel(struct lvri_taking *t){ (void)t; abort(); }
int lvr_block_create(lvr_session *s, size_t bytes, uint32_t flags, lvr_block **ret_b){ (void)s;(void)bytes;(void)flags;(void)ret_b; return -ENOSYS; }
void lvr_block_detach(lvr_block *b){ if (b) abort(); }
void *lvr_block_data(const lvr_block *b){ (void)b; abort(); }
size_t lvr_block_bytes(const lvr_block *b){ (void)b; abort(); }

int lvr_block_view(lvr_block *b, void **r){(void)b;(void)r; abort();}
int lvr_block_carry(lvr_block *b, const lvr_ref *r){(void)b;(void)r; abort();}
uint32_t lvr_block_carried(const lvr_block *b){(void)b; abort();}
void lvr_block_carried_ref(const lvr_block *b, uint32_t i, lvr_ref *r){(void)b;(void)i;(void)r; abort();}
void lvr_block_ref(const lvr_block *b, lvr_ref *r){(void)b;(void)r; abort();}
int lvr_block_attach(lvr_session *s, const lvr_ref *ref, lvr_block **ret_b){(void)s;(void)ref;(void)ret_b; abort();}
int lvr_block_send(lvr_block *b, lvr_ref *r){(void)b;(void)r; abort();}
