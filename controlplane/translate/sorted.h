/* sorted.h - a list of pointers in an order of the caller's, on the heap. */
#ifndef SB_CONTROLPLANE_TRANSLATE_SORTED_H
#define SB_CONTROLPLANE_TRANSLATE_SORTED_H

#include <stddef.h>

#include "shared/err.h"
#include "shared/vec.h"

struct sorted {
    void **p;
    size_t len, cap;
};

typedef int sorted_cmp(const void *a, const void *b);

/* The first that is not before `who`. */
static inline size_t sorted_place(const struct sorted *list, const void *who, sorted_cmp *cmp)
{
    size_t low = 0, high = list->len;

    while (low < high) {
        size_t mid = (low + high) / 2;

        if (cmp(list->p[mid], who) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static inline void sorted_insert(struct sorted *list, void *who, sorted_cmp *cmp)
{
    size_t at = sorted_place(list, who, cmp);

    sb_vec_push(list, who);
    memmove(list->p + at + 1, list->p + at, (list->len - 1 - at) * sizeof *list->p);
    list->p[at] = who;
}

/* It is there, and alone in its place. */
static inline void sorted_remove(struct sorted *list, const void *who, sorted_cmp *cmp)
{
    size_t at = sorted_place(list, who, cmp);

    sb_assert(at < list->len && list->p[at] == who);
    list->len--;
    memmove(list->p + at, list->p + at + 1, (list->len - at) * sizeof *list->p);
}

#endif
