/* row.h - entities as rows of PostgreSQL, by their field tables (reference/entities.md 2.5).
 *
 *   reading   SELECT <sb_row_select> ...        one column a field, decoded by the field's type:
 *             text[] uuid[] jsonb jsonb[] become values, timestamps become seconds
 *   writing   INSERT ... SELECT <sb_row_columns> FROM jsonb_populate_recordset(NULL::t, $1)
 *             any number of rows in one parameter; the server does the casts
 *
 * A row is what is stored: nulls are left out, foreign fields are {"id": ...}, nothing is filled
 * in.
 */
#ifndef SB_SCHEMA_ROW_H
#define SB_SCHEMA_ROW_H

#include "schema/entity.h"
#include "shared/buf.h"
#include "shared/pg.h"

/* The column of a field: its name, or name_id of a foreign field. Lives as long as the arena. */
const char *sb_row_column(struct sb_arena *a, const struct sb_field *f);

/* Appends the select list that sb_row_decode expects. */
void sb_row_select(struct sb_buf *b, const struct sb_entity *kind);

/* The current row of a result whose first columns are sb_row_select's. SB_INVALID when a value is
 * not of its column's type (which no server sends). */
SB_MUST enum sb_rc sb_row_decode(struct sb_arena *a, const struct sb_entity *kind,
                                 const struct sb_pg_rows *rows, struct sb_value **out,
                                 struct sb_err *err);

/* The same of columns from `first` on, where several entities are joined. */
SB_MUST enum sb_rc sb_row_decode_at(struct sb_arena *a, const struct sb_entity *kind,
                                    const struct sb_pg_rows *rows, int first, struct sb_value **out,
                                    struct sb_err *err);
int sb_row_width(const struct sb_entity *kind); /* how many columns sb_row_select lists */

/* Appends the quoted names of the columns that are written, comma separated: the fields', then
 * ws_id, cache_key and ttl where the entity has them. */
void sb_row_columns(struct sb_buf *b, const struct sb_entity *kind);

/* Appends the SET list of an upsert: all of these columns but id and ws_id. False: it is empty. */
bool sb_row_assignments(struct sb_buf *b, const struct sb_entity *kind);

/* Appends the row as the JSON object that jsonb_populate_recordset takes. A member ws_id of the row
 * wins over the one given. ttl: seconds that are left, from now_s on. */
void sb_row_encode(struct sb_buf *b, struct sb_arena *scratch, const struct sb_entity *kind,
                   const struct sb_value *row, struct sb_str ws_id, double now_s);

/* Whether the entity has a column cache_key (a cache key of two fields or more). */
bool sb_row_has_cache_key(const struct sb_entity *kind);

#endif
