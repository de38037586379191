/* tls_verify.h - certificates of clients: asked for, checked, shown.
 *
 * Kong has no entity for them: nginx's directives, injected by setting, say who must have one
 * (ssl_verify_client, ssl_client_certificate, ssl_trusted_certificate, ssl_verify_depth, ssl_crl,
 * each as nginx_FAMILY_NAME); plugins look at the connection's SSL (sb_exchange_tls()). As with
 * nginx a handshake does not fail over a certificate: requests are refused, so that the client is
 * told why.
 */
#ifndef SB_DATAPLANE_LISTEN_TLS_VERIFY_H
#define SB_DATAPLANE_LISTEN_TLS_VERIFY_H

#include <openssl/ssl.h>

#include "shared/err.h"

struct sb_settings;

enum sb_tls_wants {
    SB_TLS_WANTS_NONE,
    SB_TLS_WANTS_OPTIONAL,       /* a certificate that is there must be good */
    SB_TLS_WANTS_OPTIONAL_NO_CA, /* whoever signed it */
    SB_TLS_WANTS_ON,
};

/* family: as sb_tls_directive(). */
SB_MUST enum sb_rc sb_tls_verify_setup(SSL_CTX *ctx, const struct sb_settings *s,
                                       const char *family, enum sb_tls_wants *wants,
                                       struct sb_err *err);

/* What nginx would tell this client in place of an answer to its request; NULL: all is well. */
const char *sb_tls_verify_refusal(const SSL *ssl, enum sb_tls_wants wants);

#endif
