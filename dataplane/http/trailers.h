/* trailers.h - fields behind a body: gathered while they come, checked, and passed on.
 *
 * From HTTP/1 the section comes in pieces and is parsed at its end; from HTTP/2 and gRPC it comes
 * as fields. What may not stand in trailers (RFC 9110 6.5.1, and what the gateway vouches for) is
 * left out. Memory is the arena's. Limits: SB_CHUNK_OVERHEAD_MAX bytes, SB_TRAILERS_MAX fields.
 */
#ifndef SB_DATAPLANE_HTTP_TRAILERS_H
#define SB_DATAPLANE_HTTP_TRAILERS_H

#include "dataplane/http/parse.h"
#include "shared/arena.h"

enum { SB_TRAILERS_MAX = 100 };

struct sb_trailers {
    char *raw; /* the section so far */
    size_t len, cap;
    struct sb_router_header *fields; /* what goes on */
    size_t n;
};

/* A piece of the section, as sb_chunked_next() hands it out. */
void sb_trailers_add(struct sb_arena *a, struct sb_trailers *t, struct sb_str piece);
/* The section is complete; without one, all is well. False: malformed, or too many. */
SB_MUST bool sb_trailers_end(struct sb_arena *a, struct sb_trailers *t);
/* One field, copied, if it may go on. False: too many. */
SB_MUST bool sb_trailers_put(struct sb_arena *a, struct sb_trailers *t, struct sb_str name,
                             struct sb_str value);
/* "Name: value CRLF" of each. */
struct sb_str sb_trailers_text(struct sb_arena *a, const struct sb_trailers *t);

#endif
