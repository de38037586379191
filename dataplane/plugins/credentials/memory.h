/* memory.h - consumers and credentials of a node without a database: whole, indexed, immutable.
 *
 * Made by the config thread from the rows of a declarative configuration, and part of the snapshot
 * that is made of the same rows.
 */
#ifndef SB_DATAPLANE_PLUGINS_CREDENTIALS_MEMORY_H
#define SB_DATAPLANE_PLUGINS_CREDENTIALS_MEMORY_H

#include "dataplane/plugins/credentials/rows.h"

struct sb_memory;

struct sb_memory *sb_memory_new(void);
void sb_memory_free(struct sb_memory *m);

/* A row of any kind; those that nobody looks up are ignored. Copied. A "ttl" counts from now. */
void sb_memory_add(struct sb_memory *m, struct sb_str kind, const struct sb_value *row);
/* No more rows: from here on it may be read by many. */
void sb_memory_finish(struct sb_memory *m);

/* NULL: none, or not any more. m may be NULL. value: as sb_lookup_normalise leaves it. */
const struct sb_rows *sb_memory_find(const struct sb_memory *m, enum sb_lookup by,
                                     struct sb_str value, int64_t wall_ms);

#endif
