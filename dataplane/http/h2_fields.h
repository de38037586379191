/* h2_fields.h - heads between HTTP/1's text and HTTP/2's fields.
 *
 * Heads are written in one place each (response.c, answer.c, request.c), as HTTP/1 text in a
 * gather; towards HTTP/2 the lines are taken apart again, which costs a pass over bytes that are
 * still in the cache. Connection-specific lines (RFC 9113 8.2.2) stay behind.
 */
#ifndef SB_DATAPLANE_HTTP_H2_FIELDS_H
#define SB_DATAPLANE_HTTP_H2_FIELDS_H

#include <nghttp2/nghttp2.h>

#include "dataplane/http/exchange.h"

enum { SB_H2_FIELDS_MAX = 2200 };

struct sb_h2_fields {
    size_t n;
    bool full;
    nghttp2_nv nv[SB_H2_FIELDS_MAX]; /* slices: nghttp2 copies them when they are submitted */
};

/* This thread's, emptied. */
struct sb_h2_fields *sb_h2_fields(void);
void sb_h2_field(struct sb_h2_fields *f, struct sb_str name, struct sb_str value);
/* The lines of a head, first line and connection-specific ones left out. host: whether Host stays,
 * too. */
void sb_h2_field_lines(struct sb_h2_fields *f, struct sb_str head, bool host);
void sb_h2_field_trailers(struct sb_h2_fields *f, const struct sb_trailers *t);
/* The head of a gather in one piece; in the exchange's arena where it is in several. */
struct sb_str sb_h2_flat_head(struct sb_exchange *x, const struct sb_gather *g);

#endif
