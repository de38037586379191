/* tls_stapling.h - OCSP responses stapled to handshakes.
 *
 * On with nginx's directives (ssl_stapling on; ssl_stapling_responder, ssl_trusted_certificate),
 * for every certificate that names a responder and whose issuer is known: from its chain, or from
 * the trusted ones. Nothing of it is on a handshake's way: a handshake takes the response that is
 * there, or goes without one and tells the thread of this module what is missing. That thread asks
 * the responder, verifies what it says, and asks again before it expires; only a good certificate's
 * response is stapled.
 */
#ifndef SB_DATAPLANE_LISTEN_TLS_STAPLING_H
#define SB_DATAPLANE_LISTEN_TLS_STAPLING_H

#include <openssl/ssl.h>

#include "shared/err.h"

struct sb_settings;
struct sb_tls_stapling;

/* *out NULL when stapling is off. New starts the thread, free ends it; after the context. A thread
 * that a slow responder keeps waiting ends later, by itself. */
SB_MUST enum sb_rc sb_tls_stapling_new(SSL_CTX *ctx, const struct sb_settings *s,
                                       struct sb_tls_stapling **out, struct sb_err *err);
void sb_tls_stapling_free(struct sb_tls_stapling *t);

#endif
