/* tls.h - inside admin/: the certificates of the Admin API's and the status listener's `ssl`
 * addresses. */
#ifndef SB_DATAPLANE_ADMIN_TLS_H
#define SB_DATAPLANE_ADMIN_TLS_H

#include <openssl/ssl.h>

#include "dataplane/listen/tls_verify.h"
#include "shared/err.h"

struct sb_settings;

/* The pair of <prefix>_cert and <prefix>_cert_key (the first of each), where unset the pair kept
 * under the working directory as ssl/<file>-default.{crt,key}: made there, self-signed, when
 * missing. The caller frees the context. err names the setting. wants: whether clients need a
 * certificate (nginx_admin_ssl_verify_client and its sisters, for prefix "admin_ssl"). */
SB_MUST enum sb_rc sb_admin_tls(const struct sb_settings *settings, const char *prefix,
                                SSL_CTX **out, enum sb_tls_wants *wants, struct sb_err *err);

#endif
