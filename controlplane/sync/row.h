/* row.h - a translated entity made into the row that is stored: numbered, tagged, linked to its
 * parent, completed and checked by its schema.
 */
#ifndef SB_CONTROLPLANE_SYNC_ROW_H
#define SB_CONTROLPLANE_SYNC_ROW_H

#include "controlplane/translate/translate.h"
#include "schema/entity.h"

enum { SB_ROW_HASH_LEN = 16 };

/* Where the ids of other entities come from: by entity and key (as in struct sb_translated). Empty
 * when there is none. */
struct sb_row_ids {
    struct sb_str (*find)(void *arg, struct sb_str entity, struct sb_str key);
    void *arg;
};

/* By what an entity is known when its id is not: "upstreams:name", "targets:upstream id:target".
 * Empty when only the id tells. parent_id: empty when it has none. */
struct sb_str sb_row_natural_key(struct sb_arena *a, const struct sb_entity *kind,
                                 const struct sb_value *value, struct sb_str parent_id);

/* The id that the translation gave, or Kong's for declarative entities (made from the natural key).
 */
struct sb_str sb_row_id(struct sb_arena *a, const struct sb_entity *kind,
                        const struct sb_translated *t, struct sb_str parent_id);

/* The complete row. SB_INVALID: the schema refuses it; err says "invalid <field>: <why>" for each.
 */
SB_MUST enum sb_rc sb_row_complete(struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                                   const struct sb_translated *t, struct sb_str id, const char *tag,
                                   const struct sb_row_ids *ids, struct sb_value **row,
                                   struct sb_err *err);

/* Equal for rows that say the same: times, workspace and what is null do not count. */
void sb_row_hash(const struct sb_value *row, uint8_t out[SB_ROW_HASH_LEN]);

#endif
