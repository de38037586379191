/* tls_files.h - what the TLS settings name: PEM texts and files, DH groups, the default pairs.
 *
 * Each text is a path (relative to the prefix), PEM, or base64 of PEM (configuration.md, TLS). Only
 * used while starting; everything may read files.
 */
#ifndef SB_DATAPLANE_LISTEN_TLS_FILES_H
#define SB_DATAPLANE_LISTEN_TLS_FILES_H

#include <openssl/ssl.h>
#include <stdbool.h>

#include "shared/arena.h"
#include "shared/err.h"

struct sb_settings;

/* The PEM text that a setting means; false: it can't be read, or is none. */
SB_MUST bool sb_tls_load_pem(const struct sb_settings *s, struct sb_arena *a, struct sb_str text,
                             struct sb_str *out);
/* All certificates of a PEM text or file, at least one; the caller frees them. NULL: none. */
STACK_OF(X509) * sb_tls_load_bundle(const struct sb_settings *s, const char *text);

/* An injected nginx directive of a family ("proxy", "admin"): nginx_FAMILY_NAME, else
 * nginx_http_NAME; NULL: neither is set. */
const char *sb_tls_directive(const struct sb_settings *s, const char *family, const char *name);

/* "TLSv1.2 TLSv1.3": the lowest and the highest of them, 0 for none. False where a word is none;
 * *bad: the last such. */
bool sb_tls_versions(struct sb_str list, int *min, int *max, struct sb_str *bad);

/* ssl_dhparam: a group's name (ffdhe2048), or parameters. */
SB_MUST enum sb_rc sb_tls_set_dh(SSL_CTX *ctx, const struct sb_settings *s, const char *text,
                                 struct sb_err *err);
/* ssl_cert and ssl_cert_key; where unset, the self-signed pairs of <prefix>/ssl, made when missing.
 */
SB_MUST enum sb_rc sb_tls_set_default_pairs(SSL_CTX *ctx, const struct sb_settings *s,
                                            struct sb_err *err);

#endif
