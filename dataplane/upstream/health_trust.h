/* health_trust.h - inside upstream/: whom https probes trust, and what they show of themselves. */
#ifndef SB_DATAPLANE_UPSTREAM_HEALTH_TRUST_H
#define SB_DATAPLANE_UPSTREAM_HEALTH_TRUST_H

#include "dataplane/config/snapshot.h"
#include "shared/arena.h"
#include "shared/http_client.h"

struct sb_settings;

/* lua_ssl_trusted_certificate, and the certificate of client_ssl. */
void sb_health_trust_read(struct sb_arena *a, const struct sb_settings *s, struct sb_http_tls *out);
/* Shows another certificate instead; NULL changes nothing. */
void sb_health_trust_show(struct sb_arena *a, const struct sb_certificate *cert,
                          struct sb_http_tls *tls);

#endif
