/* doorbell.h - descriptors for those who poll a channel. */
#ifndef LVRI_CORE_DOORBELL_H
#define LVRI_CORE_DOORBELL_H
#include "core/channel.h"
/* Writes a byte into each doorbell of the channel that is armed. */
void lvri_doorbell_ring(struct lvri_arena *a, struct lvri_channel_shm *shm);
#endif
