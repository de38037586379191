/* lookups.h - what consumers and credentials cost, for the status listener. */
#ifndef SB_DATAPLANE_ADMIN_LOOKUPS_H
#define SB_DATAPLANE_ADMIN_LOOKUPS_H

#include "dataplane/listen/workers.h"
#include "shared/buf.h"

/* Adds metrics as Prometheus reads them; nothing without a database. */
void sb_admin_add_lookups(struct sb_buf *b, const struct sb_workers *workers);

#endif
