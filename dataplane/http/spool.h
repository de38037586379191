/* spool.h - a response on its way to a client that reads slower than its upstream answers.
 *
 *     upstream -> (memory, then a temporary file) -> what the client's socket takes
 *
 * Begins where the socket would block, so a client that keeps up never has one, and goes when it is
 * empty. What is in it is framed for the client. Memory: proxy_buffers; file: up to
 * proxy_max_temp_file_size. Full, the upstream has to wait. Private to the engine.
 */
#ifndef SB_DATAPLANE_HTTP_SPOOL_H
#define SB_DATAPLANE_HTTP_SPOOL_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/err.h"

struct sb_exchange;
struct sb_gather;
struct sb_spool;
struct sb_worker;

/* Whether the exchange may read on although its client is busy. */
bool sb_spool_room(const struct sb_exchange *x);
/* Appends a message's pieces. SB_IO: the file takes no more, and what came is lost. */
SB_MUST enum sb_rc sb_spool_add(struct sb_exchange *x, const struct sb_gather *g);
/* Sends what the client takes. SB_OK: nothing is left, and x->spool NULL; SB_AGAIN: the client is
 * busy; SB_IO: it is gone, or the file is. */
SB_MUST enum sb_rc sb_spool_drain(struct sb_exchange *x);
void sb_spool_release(struct sb_exchange *x);

/* A file without a name, in the prefix or else in /tmp; -1, and logged, when there is none. what:
 * whose body, for the message. May block as disks do. */
int sb_temporary_file(const struct sb_worker *w, const char *what);

#endif
