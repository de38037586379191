/* request_values.h - parts of a request as values: for who changes them or tells them. They live in
 * the exchange's arena. */
#ifndef SB_DATAPLANE_PLUGINS_REQUEST_VALUES_H
#define SB_DATAPLANE_PLUGINS_REQUEST_VALUES_H

#include "dataplane/plugins/phase.h"
#include "shared/value.h"

/* The headers as they stand now: {lower-case name: text, or the list of its lines' texts}. */
struct sb_value *sb_request_headers(struct sb_exchange *x);

#endif
