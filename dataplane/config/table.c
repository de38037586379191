/* table.c - 256 shards of entries sorted by hash; slots in chunks of 128.
 *
 * Written once per generation, a shard is copied; written again in the same one, it is changed in
 * place, so that a first load does not copy what no one has seen yet. With 100,000 names a shard
 * has 400 entries: a change moves some 25 KB, a look-up takes nine steps.
 */
#include "dataplane/config/table.h"

#include <stdlib.h>

#include "shared/arena.h"
#include "shared/err.h"

enum { SHARDS = 256, SLOTS = 1 << SB_SLOT_BITS };

struct entry {
    uint64_t hash;
    struct sb_str name;
    const void *value;
};

struct shard {
    uint64_t born;
    uint32_t count, cap;
    struct entry entries[];
};

struct sb_table {
    uint64_t born;
    size_t count;
    struct shard *shards[SHARDS];
};

/* -- names -- */

static uint64_t hash_of(struct sb_str name)
{
    return sb_str_hash(name, 0);
}

static struct shard *shard_of(const struct sb_table *t, uint64_t hash)
{
    return t->shards[hash % SHARDS];
}

/* The first entry whose hash is not below. */
static uint32_t lower_bound(const struct shard *s, uint64_t hash)
{
    uint32_t from = 0, to = s->count;

    while (from < to) {
        uint32_t mid = from + (to - from) / 2;

        if (s->entries[mid].hash < hash)
            from = mid + 1;
        else
            to = mid;
    }
    return from;
}

/* The entry's place, and whether it is there; else where it belongs. */
static uint32_t place_of(const struct shard *s, uint64_t hash, struct sb_str name, bool *there)
{
    uint32_t at = lower_bound(s, hash);

    for (; at < s->count && s->entries[at].hash == hash; at++) {
        if (sb_str_eq(s->entries[at].name, name)) {
            *there = true;
            return at;
        }
    }
    *there = false;
    return at;
}

const void *sb_table_find(const struct sb_table *t, struct sb_str name)
{
    uint64_t hash = hash_of(name);
    const struct shard *s = t ? shard_of(t, hash) : NULL;
    bool there = false;
    uint32_t at = s ? place_of(s, hash, name, &there) : 0;

    return there ? s->entries[at].value : NULL;
}

size_t sb_table_size(const struct sb_table *t)
{
    return t ? t->count : 0;
}

void sb_table_each(const struct sb_table *t,
                   void (*fn)(void *arg, struct sb_str name, const void *value), void *arg)
{
    for (size_t i = 0; t && i < SHARDS; i++) {
        const struct shard *s = t->shards[i];

        for (uint32_t at = 0; s && at < s->count; at++)
            fn(arg, s->entries[at].name, s->entries[at].value);
    }
}

/* The table, ours to change. */
static struct sb_table *own_table(struct sb_lifetimes *l, struct sb_table **t)
{
    struct sb_table *copy, *old = *t;

    if (old && old->born == sb_lifetimes_now(l))
        return old;
    copy = sb_xcalloc(1, sizeof *copy);
    if (old) {
        *copy = *old;
        sb_lifetimes_drop(l, old->born, free, old);
    }
    copy->born = sb_lifetimes_now(l);
    return *t = copy;
}

/* The shard, ours to change, with room for one more. */
static struct shard *own_shard(struct sb_lifetimes *l, struct shard **at)
{
    struct shard *s = *at, *copy;
    uint32_t count = s ? s->count : 0, cap;

    if (s && s->born == sb_lifetimes_now(l) && count < s->cap)
        return s;
    cap = s && s->born == sb_lifetimes_now(l) ? count * 2 : count + 1;
    copy = sb_xmalloc(sizeof *copy + cap * sizeof copy->entries[0]);
    *copy = (struct shard){.born = sb_lifetimes_now(l), .count = count, .cap = cap};
    if (s) {
        memcpy(copy->entries, s->entries, count * sizeof s->entries[0]);
        sb_lifetimes_drop(l, s->born, free, s);
    }
    return *at = copy;
}

void sb_table_set(struct sb_lifetimes *l, struct sb_table **t, struct sb_str name,
                  const void *value)
{
    uint64_t hash = hash_of(name);
    struct sb_table *table;
    struct shard *s;
    uint32_t at;
    bool there;

    if (!value && !sb_table_find(*t, name))
        return;
    table = own_table(l, t);
    s = own_shard(l, &table->shards[hash % SHARDS]);
    at = place_of(s, hash, name, &there);
    if (value && !there) {
        memmove(s->entries + at + 1, s->entries + at, (s->count - at) * sizeof *s->entries);
        s->count++;
        table->count++;
    }
    if (value) {
        s->entries[at] = (struct entry){hash, name, value};
        return;
    }
    s->count--;
    table->count--;
    memmove(s->entries + at, s->entries + at + 1, (s->count - at) * sizeof *s->entries);
}

void sb_table_drop(struct sb_lifetimes *l, struct sb_table **t)
{
    struct sb_table *table = *t;

    for (size_t i = 0; table && i < SHARDS; i++) {
        if (table->shards[i])
            sb_lifetimes_drop(l, table->shards[i]->born, free, table->shards[i]);
    }
    if (table)
        sb_lifetimes_drop(l, table->born, free, table);
    *t = NULL;
}

/* -- slots -- */

/* const to readers; freeing is ours. */
static void free_slots(void *p)
{
    free(p);
}

static uint32_t chunks_of(uint32_t count)
{
    return (count + SLOTS - 1) >> SB_SLOT_BITS;
}

/* The array of chunks, ours to change, for at least count slots. */
static const void *const **own_chunks(struct sb_lifetimes *l, struct sb_slot_table *t,
                                      uint32_t count)
{
    uint32_t have = chunks_of(t->now.count), want = chunks_of(count);
    const void *const **chunks = (const void *const **)t->now.chunks;

    if (want < have)
        want = have;
    if (!chunks || t->born != sb_lifetimes_now(l) || want > have) {
        const void *const **copy = sb_xcalloc(want, sizeof *copy);

        if (chunks) {
            memcpy(copy, chunks, have * sizeof *copy);
            sb_lifetimes_drop(l, t->born, free_slots, chunks);
        }
        t->chunk_born = sb_xrealloc(t->chunk_born, want * sizeof *t->chunk_born);
        t->born = sb_lifetimes_now(l);
        t->now.chunks = chunks = copy;
    }
    for (; have < want; have++) {
        chunks[have] = sb_xcalloc(SLOTS, sizeof **chunks);
        t->chunk_born[have] = t->born;
    }
    t->now.count = want << SB_SLOT_BITS;
    return chunks;
}

void sb_slots_set(struct sb_lifetimes *l, struct sb_slot_table *t, uint32_t slot, const void *value)
{
    const void *const **chunks = own_chunks(l, t, slot + 1);
    const void **chunk;
    uint32_t at = slot >> SB_SLOT_BITS;

    if (t->chunk_born[at] == sb_lifetimes_now(l)) {
        chunk = (const void **)chunks[at];
    } else {
        chunk = sb_xmalloc(SLOTS * sizeof *chunk);
        memcpy(chunk, chunks[at], SLOTS * sizeof *chunk);
        sb_lifetimes_drop(l, t->chunk_born[at], free_slots, (void *)chunks[at]);
        chunks[at] = chunk;
        t->chunk_born[at] = sb_lifetimes_now(l);
    }
    chunk[slot & (SLOTS - 1)] = value;
}

void sb_slots_drop(struct sb_lifetimes *l, struct sb_slot_table *t)
{
    for (uint32_t i = 0; i < chunks_of(t->now.count); i++)
        sb_lifetimes_drop(l, t->chunk_born[i], free_slots, (void *)t->now.chunks[i]);
    if (t->now.chunks)
        sb_lifetimes_drop(l, t->born, free_slots, (void *)t->now.chunks);
    free(t->chunk_born);
    *t = (struct sb_slot_table){0};
}
