/* map.c - linear probing at most 3/4 full; removal moves later entries back, so there are no
 * tombstones and a look-up ends at the first free slot.
 */
#include "shared/map.h"

#include <stdlib.h>

#include "shared/arena.h"
#include "shared/digest.h"
#include "shared/err.h"

enum { FIRST_CAP = 16 };

void sb_map_release(struct sb_map *m)
{
    free(m->slots);
    *m = (struct sb_map){0};
}

void sb_map_clear(struct sb_map *m)
{
    for (size_t i = 0; i < m->cap; i++)
        m->slots[i] = (struct sb_map_slot){0};
    m->count = 0;
}

/* The slot that holds the key, or the free one where it belongs. */
static struct sb_map_slot *slot_of(const struct sb_map *m, struct sb_str key, uint64_t hash)
{
    size_t i = hash & (m->cap - 1);

    while (m->slots[i].key.p && !(m->slots[i].hash == hash && sb_str_eq(m->slots[i].key, key)))
        i = (i + 1) & (m->cap - 1);
    return &m->slots[i];
}

static void grow(struct sb_map *m)
{
    struct sb_map old = *m;

    if (!m->cap)
        sb_random(&m->seed, sizeof m->seed);
    m->cap = old.cap ? old.cap * 2 : FIRST_CAP;
    m->slots = sb_xcalloc(m->cap, sizeof *m->slots);
    for (size_t i = 0; i < old.cap; i++) {
        if (old.slots[i].key.p)
            *slot_of(m, old.slots[i].key, old.slots[i].hash) = old.slots[i];
    }
    free(old.slots);
}

void *sb_map_get(const struct sb_map *m, struct sb_str key)
{
    return m->count ? slot_of(m, key, sb_str_hash(key, m->seed))->value : NULL;
}

void *sb_map_set(struct sb_map *m, struct sb_str key, void *value)
{
    struct sb_map_slot *slot;
    uint64_t hash;
    void *old;

    sb_assert(value);
    if ((m->count + 1) * 4 > m->cap * 3)
        grow(m);
    hash = sb_str_hash(key, m->seed);
    slot = slot_of(m, key, hash);
    old = slot->key.p ? slot->value : NULL;
    m->count += !slot->key.p;
    *slot = (struct sb_map_slot){{key.p ? key.p : "", key.len}, value, hash};
    return old;
}

void *sb_map_remove(struct sb_map *m, struct sb_str key)
{
    struct sb_map_slot *hole;
    void *old;

    if (!m->count)
        return NULL;
    hole = slot_of(m, key, sb_str_hash(key, m->seed));
    if (!hole->key.p)
        return NULL;
    old = hole->value;
    m->count--;
    for (size_t i = (size_t)(hole - m->slots);;) {
        size_t home;

        i = (i + 1) & (m->cap - 1);
        if (!m->slots[i].key.p)
            break;
        home = m->slots[i].hash & (m->cap - 1);
        /* Entry i may move back when its home is not between the hole and itself. */
        if (((i - home) & (m->cap - 1)) >= ((i - (size_t)(hole - m->slots)) & (m->cap - 1))) {
            *hole = m->slots[i];
            hole = &m->slots[i];
        }
    }
    *hole = (struct sb_map_slot){0};
    return old;
}
