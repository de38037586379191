#include "shared/vec.h"

void *sb_vec_grow(void *p, size_t *cap, size_t item_len)
{
    *cap = *cap ? *cap * 2 : 8;
    return sb_xrealloc(p, *cap * item_len);
}
