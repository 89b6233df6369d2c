/* block.h - memory of the arena that is an object: a payload, and references that it carries.
 *
 * What travels with a message is a block; so is the memory of shared values and arrays. Its payload
 * is shared: all who have a handle see the same bytes. A *view* of it is private: what its owner
 * writes, nobody else sees.
 *
 * While a block exists, so does every object that it carries. */
#ifndef LEVERET_BLOCK_H
#define LEVERET_BLOCK_H

#include "object.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lvr_block lvr_block;

#define LVR_BLOCK_ZEROED 1u /* the payload begins as zeros; else as anything */
#define LVR_BLOCK_PAGED  2u /* the payload begins at a page, however small: it can be viewed */

/* lvr_block_create - make a block whose payload has `bytes`.
 * Units:   bytes from 0; payload 64-byte aligned, page aligned if LVR_BLOCK_PAGED or larger than
 *          32 000 bytes. flags: LVR_BLOCK_*.
 * Owner:   *ret_b is the caller's until lvr_block_detach(); the block lives as long as anything
 *          refers to it.
 * Caller:  any thread of an attached process; not a signal handler.
 * Locks:   the arena's guard, shortly: memory is taken outside of it.
 * Fork:    -ESTALE in a child without a slot.
 * Crash:   killed at any instruction there is a block in the ledger, which is repaired, or none.
 * Returns: 0, -EINVAL (flags), -ENOMEM, -ESTALE, -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_block_create(lvr_session *s, size_t bytes, uint32_t flags,
                                            lvr_block **ret_b);

/* lvr_block_attach - a handle of the block that ref names.
 * Returns: 0, -ESTALE (it is gone), -EXDEV, -EINVAL (ref names no block), -ENOMEM,
 *          -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_block_attach(lvr_session *s, const lvr_ref *ref, lvr_block **ret_b);

/* lvr_block_detach - give the handle back; with its last use its view goes, too. NULL is fine. */
LVR_API void lvr_block_detach(lvr_block *b);

/* lvr_block_ref, lvr_block_send - its name; as those of a lock. */
LVR_API void lvr_block_ref(const lvr_block *b, lvr_ref *ret_ref);
LVR_API LVR_MUST_CHECK int lvr_block_send(lvr_block *b, lvr_ref *ret_ref);

/* lvr_block_data, lvr_block_bytes - the shared payload in this process's mapping, and its size. */
LVR_API void *lvr_block_data(const lvr_block *b);
LVR_API size_t lvr_block_bytes(const lvr_block *b);

/* lvr_block_view - a private mapping of the payload, copy on write: as if the block had been
 * copied. Made once for a handle; the same one is returned after that.
 * Units:   *ret_view: lvr_block_bytes(), from a page on.
 * Owner:   the handle's: unmapped with it. A forked child has its own, with what was written.
 * Caller:  who knows that nobody writes to the shared payload any more.
 * Returns: 0, -EINVAL (neither LVR_BLOCK_PAGED nor large), -ENOMEM, -ESTALE. */
LVR_API LVR_MUST_CHECK int lvr_block_view(lvr_block *b, void **ret_view);

/* lvr_block_carry - the block refers to the object that ref names, from now on and as long as it
 * exists itself.
 * Caller:  has a handle of that object; is the only one who changes what the block carries. Blocks
 *          that carry one another in a circle never go.
 * Locks:   the arena's guard.
 * Crash:   killed at any instruction the block carries it or it does not.
 * Returns: 0, -ENOMEM, -ESTALE (no such object), -EINVAL (ref names no object, or the block
 *          itself), -EXDEV, -EOVERFLOW (more than 3.6 million), -ENOTRECOVERABLE. */
LVR_API LVR_MUST_CHECK int lvr_block_carry(lvr_block *b, const lvr_ref *ref);

/* lvr_block_carried - how many objects it carries; lvr_block_carried_ref - the name of the one at
 * `index`, below that. */
LVR_API uint32_t lvr_block_carried(const lvr_block *b);
LVR_API void lvr_block_carried_ref(const lvr_block *b, uint32_t index, lvr_ref *ret_ref);

#ifdef __cplusplus
}
#endif

#endif
