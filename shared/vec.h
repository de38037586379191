/* vec.h - a growing array of pointers or small structs, on the heap.
 *
 *     struct { struct sb_route **p; size_t len, cap; } routes = {0};    or SB_VEC(struct sb_route
 * *) routes sb_vec_push(&routes, route); sb_vec_release(&routes);
 */
#ifndef SB_SHARED_VEC_H
#define SB_SHARED_VEC_H

#include <stddef.h>

#include "shared/arena.h"

#define SB_VEC(type)                                                                               \
    struct {                                                                                       \
        type *p;                                                                                   \
        size_t len, cap;                                                                           \
    }

#define sb_vec_push(v, item)                                                                       \
    (((v)->len == (v)->cap ? (void)((v)->p = sb_vec_grow((v)->p, &(v)->cap, sizeof *(v)->p))       \
                           : (void)0),                                                             \
     (v)->p[(v)->len++] = (item))
#define sb_vec_clear(v)    ((void)((v)->len = 0))
#define sb_vec_release(v)  (free((v)->p), (v)->p = NULL, (void)((v)->len = (v)->cap = 0))
#define sb_vec_each(it, v) for ((it) = (v)->p; (it) && (it) < (v)->p + (v)->len; (it)++)

/* Doubles; never fails. */
void *sb_vec_grow(void *p, size_t *cap, size_t item_len);

#endif
