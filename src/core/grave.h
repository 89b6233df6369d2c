#ifndef LVRI_CORE_GRAVE_H
#define LVRI_CORE_GRAVE_H
#include "core/arena.h"
void lvri_grave_empty(struct lvri_arena *a);
#endif
