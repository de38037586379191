#include "dataplane/plugins/credentials/lookup_rows.h"

#include "schema/row.h"
#include "shared/clock.h"

enum sb_rc sb_lookup_read_consumer(struct sb_cache *cache, struct sb_arena *scratch,
                                   enum sb_lookup by, const struct sb_pg_rows *rows,
                                   const struct sb_cache_ticket *ticket, struct sb_rows **out,
                                   struct sb_err *err)
{
    int first = sb_row_width(sb_lookup_entity(by));
    int64_t now_ms = sb_clock_ms();
    struct sb_lookup_key key;
    struct sb_value *value;
    enum sb_rc rc;

    *out = NULL;
    if (sb_pg_is_null(rows, first))
        return SB_OK;
    rc = sb_row_decode_at(scratch, sb_lookup_entity(SB_CONSUMER_BY_ID), rows, first, &value, err);
    if (rc)
        return rc;
    *out = sb_rows_build(
        &(struct sb_row_values){SB_CONSUMER_BY_ID, (const struct sb_value *[]){value}, 1}, now_ms);
    key = sb_cache_key(cache, SB_CONSUMER_BY_ID, (*out)->row[0].id);
    (*out)->key = key; /* known, whether it is stored or not */
    sb_cache_put_any(cache, &key, ticket, *out, now_ms);
    return SB_OK;
}
