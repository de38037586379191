/* tls_client.h - TLS towards upstreams: one SSL_CTX for each set of properties that services ask
 * for (verification, depth, CA set, client certificate). Certificates are identified by what is in
 * them, not by where they lie, so that a replaced one never shares a connection with the old. */
#ifndef SB_DATAPLANE_UPSTREAM_TLS_CLIENT_H
#define SB_DATAPLANE_UPSTREAM_TLS_CLIENT_H

#include <openssl/ssl.h>

#include "dataplane/config/snapshot.h"
#include "shared/settings.h"

struct sb_tls_client;
struct sb_tls_clients;

struct sb_tls_clients *sb_tls_clients_new(const struct sb_settings *settings);
void sb_tls_clients_free(struct sb_tls_clients *t);

/* upstream may be NULL. NULL: OpenSSL refused (logged). */
struct sb_tls_client *sb_tls_client_for(struct sb_tls_clients *t, const struct sb_service *s,
                                        const struct sb_upstream *upstream);
/* Equal for equal properties only. */
struct sb_str sb_tls_client_key(const struct sb_tls_client *c);
/* A session that will connect; sni "" sends none. The caller owns it. */
SSL *sb_tls_client_session(struct sb_tls_client *c, struct sb_str sni);

#endif
