/* request_values.h - parts of a request as values: for who changes them or tells them. As they
 * stand now, which is what plugins before made of them; in the exchange's arena. */
#ifndef SB_DATAPLANE_PLUGINS_TRANSFORM_REQUEST_VALUES_H
#define SB_DATAPLANE_PLUGINS_TRANSFORM_REQUEST_VALUES_H

#include "dataplane/plugins/phase.h"
#include "shared/value.h"

/* {lower-case name: text, or the list of its lines' texts}. */
struct sb_value *sb_request_headers(struct sb_exchange *x);

/* The body, as sb_exchange_body() gives it. */
SB_MUST enum sb_rc sb_request_body(struct sb_exchange *x, size_t max, struct sb_str *out);
/* What a body of the request's Content-Type says: an urlencoded form, a multipart form or JSON, as
 * object or list. NULL: it is nothing of these. */
struct sb_value *sb_request_body_value(struct sb_exchange *x, struct sb_str body);

/* {named: {}, unnamed: []}: what the groups of the route's path matched. */
struct sb_value *sb_request_captures(struct sb_exchange *x);

#endif
