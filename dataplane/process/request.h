/* request.h - how `kong reload` and `kong restart` speak to a running master: one question a
 * connection to <prefix>/sockets/control, answered when it is done.
 *
 * A signal would do to ask, but not to be told why it failed. Only the node's own user gets in.
 */
#ifndef SB_DATAPLANE_PROCESS_REQUEST_H
#define SB_DATAPLANE_PROCESS_REQUEST_H

#include <stdbool.h>

#include "shared/arena.h"
#include "shared/err.h"

struct sb_request {
    bool restart;     /* else reload */
    const char *conf; /* NULL: none given; absolute */
    const char **env; /* the whole environment of who asks */
};

/* The master's end: listens in the prefix, in place of what an earlier one left behind. */
SB_MUST enum sb_rc sb_request_listen(const char *prefix, int *fd, struct sb_err *err);
/* A question from an accepted connection, into the arena. Waits a moment for all of it, no longer.
 */
SB_MUST enum sb_rc sb_request_read(int fd, struct sb_arena *a, struct sb_request *out);
/* Answers and closes; err NULL: it is done. */
void sb_request_answer(int fd, const char *err);

/* The command's end: asks and waits. SB_UNAVAILABLE: no master listens; else its words. */
SB_MUST enum sb_rc sb_request_ask(const char *prefix, const struct sb_request *q,
                                  struct sb_err *err);

#endif
