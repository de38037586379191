/* error_body.h - the text of an error, in the format that the client accepts. */
#ifndef SB_DATAPLANE_HTTP_ERROR_BODY_H
#define SB_DATAPLANE_HTTP_ERROR_BODY_H

#include "dataplane/http/gather.h"
#include "dataplane/http/steps.h"

/* Adds the body of x->answer, which is an error, to g; the message is put where the format has it.
 * Returns its Content-Type, empty for none. */
struct sb_str sb_error_body(const struct sb_exchange *x, struct sb_str message,
                            struct sb_gather *g);

#endif
