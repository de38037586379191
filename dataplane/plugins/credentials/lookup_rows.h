/* lookup_rows.h - what comes with the rows of a look-up. Any thread. */
#ifndef SB_DATAPLANE_PLUGINS_CREDENTIALS_LOOKUP_ROWS_H
#define SB_DATAPLANE_PLUGINS_CREDENTIALS_LOOKUP_ROWS_H

#include "dataplane/plugins/credentials/cache.h"
#include "shared/pg.h"

/* The consumer behind the columns of a row, with one holder; NULL: there is none. Remembered under
 * its id, if the ticket (sb_cache_ask_any) still allows it. */
SB_MUST enum sb_rc sb_lookup_read_consumer(struct sb_cache *cache, struct sb_arena *scratch,
                                           enum sb_lookup by, const struct sb_pg_rows *rows,
                                           const struct sb_cache_ticket *ticket,
                                           struct sb_rows **out, struct sb_err *err);

#endif
