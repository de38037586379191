/* tls.h - TLS towards clients: certificates by SNI, versions and ciphers, sessions.
 *
 * One SSL_CTX for all workers, immutable after start. The certificate is chosen in the handshake:
 * the snapshot's by SNI, else the default pairs of ssl_cert / ssl_cert_key, else the self-signed
 * ones generated into <prefix>/ssl (configuration.md, TLS). Sessions are resumed on any worker: by
 * ticket (tls_tickets.h), or, for clients that take none and where ssl_session_tickets is off, by
 * id from a cache of ssl_session_cache_size. Clients can't renegotiate.
 *
 * Around it: tls_files.h what settings name, tls_verify.h certificates of clients, tls_stapling.h.
 */
#ifndef SB_DATAPLANE_LISTEN_TLS_H
#define SB_DATAPLANE_LISTEN_TLS_H

#include <openssl/ssl.h>
#include <stdbool.h>

#include "shared/arena.h"
#include "shared/err.h"

struct sb_client;
struct sb_settings;
struct sb_tls;

/* http2: offers h2 in front of http/1.1 to clients that speak ALPN. */
SB_MUST enum sb_rc sb_tls_new(const struct sb_settings *settings, bool http2, struct sb_tls **out,
                              struct sb_err *err);
void sb_tls_free(struct sb_tls *tls);

/* What ALPN settled on, once the handshake is done. False: HTTP/1.1, or the client spoke no ALPN.
 */
bool sb_tls_chose_h2(const SSL *ssl);

/* What is wrong with the client's certificate or the lack of one, in nginx's words; NULL: nothing.
 * Looked at for each request. */
const char *sb_tls_refusal(const struct sb_tls *tls, const SSL *ssl);

/* A session for an accepted connection; the caller owns it. NULL: out of memory. */
SSL *sb_tls_accept(struct sb_tls *tls, struct sb_client *c);

#endif
