/* memory.c - see memory.h. An index for each kind of look-up, by a keyed hash of the value: as in
 * the cache, comparing tells nothing about the keys that are stored.
 */
#include "dataplane/plugins/credentials/memory.h"

#include <stdlib.h>

#include "shared/clock.h"
#include "shared/digest.h"
#include "shared/map.h"
#include "shared/siphash.h"
#include "shared/vec.h"

/* Rows of a list that is not complete yet. */
struct group {
    struct sb_lookup_key key;
    struct group *next;
    SB_VEC(const struct sb_value *) rows;
};

struct sb_memory {
    struct sb_siphash_key secret;
    struct sb_map index[SB_LOOKUPS]; /* 16 bytes of hash -> struct sb_rows */
    struct sb_arena *scratch;        /* until it is finished */
    struct sb_map groups;
    struct group *first_group;
};

struct sb_memory *sb_memory_new(void)
{
    struct sb_memory *m = sb_xcalloc(1, sizeof *m);

    sb_random(&m->secret, sizeof m->secret);
    m->scratch = sb_arena_new(0);
    return m;
}

void sb_memory_free(struct sb_memory *m)
{
    struct sb_map_slot *slot;

    if (!m)
        return;
    for (int by = 0; by < SB_LOOKUPS; by++) {
        sb_map_each (slot, &m->index[by])
            sb_rows_drop(slot->value);
        sb_map_release(&m->index[by]);
    }
    sb_map_release(&m->groups);
    sb_arena_free(m->scratch);
    free(m);
}

static struct sb_str bytes(const struct sb_lookup_key *key)
{
    return sb_str_n((const char *)key->hash, sizeof key->hash);
}

static void store(struct sb_memory *m, const struct sb_lookup_key *key,
                  const struct sb_row_values *values)
{
    struct sb_rows *rows = sb_rows_build(values, sb_clock_ms());

    rows->key = *key;
    sb_rows_drop(sb_map_set(&m->index[key->by], bytes(&rows->key), rows));
}

static void add_to_group(struct sb_memory *m, const struct sb_lookup_key *key,
                         const struct sb_value *row)
{
    struct group *g = sb_map_get(&m->groups, bytes(key));

    if (!g) {
        g = SB_NEW(m->scratch, struct group);
        g->key = *key;
        g->next = m->first_group;
        m->first_group = g;
        sb_map_set(&m->groups, bytes(&g->key), g);
    }
    sb_vec_push(&g->rows, sb_value_copy(m->scratch, row));
}

/* What the row has in the field by which it is looked up; foreign fields: the id. */
static struct sb_str value_of(const struct sb_value *row, const char *field)
{
    const struct sb_value *v = sb_get(row, field);

    if (sb_is(v, SB_V_OBJECT))
        v = sb_get(v, "id");
    return sb_is(v, SB_V_STR) ? v->s : (struct sb_str){0};
}

void sb_memory_add(struct sb_memory *m, struct sb_str kind, const struct sb_value *row)
{
    for (enum sb_lookup by = 0; by < SB_LOOKUPS; by++) {
        const struct sb_lookup_kind *k = sb_lookup_kind(by);
        struct sb_lookup_key key = {.by = by};
        struct sb_str value;
        char room[37];

        if (!sb_str_is(kind, k->entity))
            continue;
        value = value_of(row, k->field);
        if (!sb_lookup_normalise(by, &value, room))
            continue;
        sb_siphash(&m->secret, by, value, key.hash);
        if (k->list)
            add_to_group(m, &key, row);
        else
            store(m, &key, &(struct sb_row_values){by, &row, 1});
    }
}

void sb_memory_finish(struct sb_memory *m)
{
    for (struct group *g = m->first_group; g; g = g->next) {
        store(m, &g->key, &(struct sb_row_values){g->key.by, g->rows.p, g->rows.len});
        sb_vec_release(&g->rows);
    }
    m->first_group = NULL;
    sb_map_release(&m->groups);
    sb_arena_free(m->scratch);
    m->scratch = NULL;
}

const struct sb_rows *sb_memory_find(const struct sb_memory *m, enum sb_lookup by,
                                     struct sb_str value, int64_t wall_ms)
{
    struct sb_lookup_key key = {.by = by};
    const struct sb_rows *rows;

    if (!m)
        return NULL;
    sb_siphash(&m->secret, by, value, key.hash);
    rows = sb_map_get(&m->index[by], bytes(&key));
    if (!rows || (rows->row[0].expires_ms && rows->row[0].expires_ms <= wall_ms))
        return NULL;
    return rows;
}
