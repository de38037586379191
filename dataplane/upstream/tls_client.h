/* tls_client.h - TLS towards upstreams: one SSL_CTX for each set of properties that services ask
 * for (verification, depth, CA set, client certificate). Certificates are identified by what is in
 * them, not by where they lie, so that a replaced one never shares a connection with the old.
 *
 * nginx's directives for what services do not say, injected as nginx_proxy_proxy_ssl_NAME: verify,
 * trusted_certificate, verify_depth, protocols, ciphers, session_reuse. lua_ssl_trusted_certificate
 * has no part in proxying (proxy-balancer.md 10).
 *
 * Sessions are resumed where the address, the name and all properties are the same.
 */
#ifndef SB_DATAPLANE_UPSTREAM_TLS_CLIENT_H
#define SB_DATAPLANE_UPSTREAM_TLS_CLIENT_H

#include <openssl/ssl.h>

#include "dataplane/config/snapshot.h"
#include "shared/settings.h"

struct sb_tls_client;
struct sb_tls_clients;
union sb_sockaddr;

struct sb_tls_clients *sb_tls_clients_new(const struct sb_settings *settings);
void sb_tls_clients_free(struct sb_tls_clients *t);

/* upstream may be NULL. NULL: OpenSSL refused (logged). */
struct sb_tls_client *sb_tls_client_for(struct sb_tls_clients *t, const struct sb_service *s,
                                        const struct sb_upstream *upstream);
/* Equal for equal properties only. */
struct sb_str sb_tls_client_key(const struct sb_tls_client *c);
/* A session that will connect to addr; name: the upstream's, a host name (sent as SNI) or an
 * address (not sent). Where it is verified, its certificate must be for that name. The caller owns
 * it, and frees it before the clients. */
SSL *sb_tls_client_session(struct sb_tls_client *c, struct sb_str name,
                           const union sb_sockaddr *addr);
/* What is wrong with the upstream's certificate; NULL: nothing that we know of. */
const char *sb_tls_client_trouble(const SSL *ssl);

#endif
