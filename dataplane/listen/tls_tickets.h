/* tls_tickets.h - session tickets: sealed with keys that all workers share and that change.
 *
 * A ticket lets its holder resume a session on any worker. Its key is random, made in the process
 * and never stored; a new one seals after a fifth of ssl_session_timeout, and an old one opens for
 * as long as a ticket that it sealed may live. So a stolen key opens no more than that.
 */
#ifndef SB_DATAPLANE_LISTEN_TLS_TICKETS_H
#define SB_DATAPLANE_LISTEN_TLS_TICKETS_H

#include <openssl/ssl.h>
#include <stdint.h>

struct sb_tls_tickets;

/* Takes care of the context's tickets; lifetime_s: ssl_session_timeout. Freed
 * after the context. */
struct sb_tls_tickets *sb_tls_tickets_new(SSL_CTX *ctx, int64_t lifetime_s);
void sb_tls_tickets_free(struct sb_tls_tickets *t);

#endif
