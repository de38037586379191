/* tls_tickets.h - session tickets: sealed with keys that all workers share and that change.
 *
 * A ticket lets its holder resume a session on any worker, and after a reload. Its key is random
 * and never stored; a new one seals after a fifth of ssl_session_timeout, and an old one opens for
 * as long as a ticket that it sealed may live. So a stolen key opens no more than that.
 * ssl_session_ticket_key gives one key for good, for nodes that share a name; who gives it changes
 * it.
 */
#ifndef SB_DATAPLANE_LISTEN_TLS_TICKETS_H
#define SB_DATAPLANE_LISTEN_TLS_TICKETS_H

#include <openssl/ssl.h>
#include <stdint.h>

#include "shared/str.h"

struct sb_tls_tickets;

/* Memory for keys that outlives a process: the master makes it. A descriptor; -1: none can be had.
 */
int sb_tls_tickets_memory(void);
/* Keys are there from now on. Before a context is made; takes the descriptor. */
void sb_tls_tickets_share(int fd);

/* Takes care of the context's tickets; lifetime_s: ssl_session_timeout; given: the bytes of
 * ssl_session_ticket_key, p NULL for none. NULL: they are not 48 or 80. Freed after the context. */
struct sb_tls_tickets *sb_tls_tickets_new(SSL_CTX *ctx, int64_t lifetime_s, struct sb_str given);
void sb_tls_tickets_free(struct sb_tls_tickets *t);

#endif
