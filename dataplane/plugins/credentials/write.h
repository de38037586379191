/* write.h - writes of plugins under way; for the engine and credentials.c. */
#ifndef SB_DATAPLANE_PLUGINS_CREDENTIALS_WRITE_H
#define SB_DATAPLANE_PLUGINS_CREDENTIALS_WRITE_H

#include "dataplane/plugins/credentials/rows.h"

struct sb_writing;

/* Its exchange ends; the write goes on. */
void sb_writing_leave(struct sb_writing *w);
/* Of a worker that ends. */
void sb_writings_forget(struct sb_writing **first);

/* Keeps rows until the exchange ends; takes the caller's hold. */
void sb_exchange_hold_rows(struct sb_exchange *x, struct sb_rows *rows);

#endif
