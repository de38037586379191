/* map.h - a hash map from string to pointer.
 *
 * Open addressing, seeded per map against chosen keys. Keys are slices the caller keeps alive as
 * long as the entry; values are the caller's. Walk order is arbitrary but stable between changes.
 */
#ifndef SB_SHARED_MAP_H
#define SB_SHARED_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/str.h"

struct sb_map_slot {
    struct sb_str key; /* p NULL: free */
    void *value;
    uint64_t hash;
};

struct sb_map {
    struct sb_map_slot *slots;
    size_t cap, count;
    uint64_t seed;
};

/* A zeroed struct is an empty map. */
void sb_map_release(struct sb_map *m);
void sb_map_clear(struct sb_map *m);
void *sb_map_get(const struct sb_map *m, struct sb_str key); /* NULL: absent */
/* Sets, and returns the value that was there before (then also the key slice is replaced). */
void *sb_map_set(struct sb_map *m, struct sb_str key, void *value); /* value is not NULL */
void *sb_map_remove(struct sb_map *m, struct sb_str key);           /* what was there, or NULL */

/* struct sb_map_slot *s; the map must not change inside. */
#define sb_map_each(s, m)                                                                          \
    for ((s) = (m)->slots; (s) && (s) < (m)->slots + (m)->cap; (s)++)                              \
        if ((s)->key.p)

#endif
