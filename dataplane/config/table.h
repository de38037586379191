/* table.h - tables that snapshots share in parts: names to objects, and slots to upstreams and
 * chains.
 *
 * A table is an array of shards. A change copies the shard it touches and the array, once per
 * generation; the rest belongs to the tables before and after alike:
 *
 *     table 41  [ a b c d ... ]
 *     table 42  [ a b'c d ... ]      b was copied, a, c and d are the same
 *
 * Readers see const tables and need no lock. Writing is the config thread's; what is replaced goes
 * to the lifetimes.
 */
#ifndef SB_DATAPLANE_CONFIG_TABLE_H
#define SB_DATAPLANE_CONFIG_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "dataplane/config/lifetime.h"
#include "dataplane/config/snapshot.h"
#include "shared/str.h"

/* What the table of SNIs holds. */
struct sb_sni {
    struct sb_str name;
    const struct sb_certificate *certificate;
};

struct sb_table;

/* NULL is an empty table: for readers and as the start of writing. */
const void *sb_table_find(const struct sb_table *t, struct sb_str name);
size_t sb_table_size(const struct sb_table *t);
/* Calls fn for every entry, in no order. */
void sb_table_each(const struct sb_table *t,
                   void (*fn)(void *arg, struct sb_str name, const void *value), void *arg);

/* Sets, replaces or (value NULL) removes an entry of *t, which becomes the table of the generation
 * being built. The name must live as long as any table that has the entry: let it be part of the
 * value. */
void sb_table_set(struct sb_lifetimes *l, struct sb_table **t, struct sb_str name,
                  const void *value);
/* The table is not used from here on. */
void sb_table_drop(struct sb_lifetimes *l, struct sb_table **t);

/* Slots that are being written. */
struct sb_slot_table {
    struct sb_slots now; /* for the snapshot being built */
    uint64_t born;       /* of now.chunks */
    uint64_t *chunk_born;
};

/* Sets a slot, growing the table to it; value NULL empties it. */
void sb_slots_set(struct sb_lifetimes *l, struct sb_slot_table *t, uint32_t slot,
                  const void *value);
void sb_slots_drop(struct sb_lifetimes *l, struct sb_slot_table *t);

#endif
