/* dns_client.h - questions to name servers, from an event loop, on c-ares. No cache: resolver.h.
 *
 * c-ares knows resolv.conf (servers, search list, ndots, rotate), asks again over TCP what was cut
 * off, and tries the servers in turn. */
#ifndef SB_DATAPLANE_UPSTREAM_DNS_CLIENT_H
#define SB_DATAPLANE_UPSTREAM_DNS_CLIENT_H

#include "dataplane/upstream/dns_answer.h"
#include "shared/err.h"
#include "shared/str.h"

struct event_base;
struct sb_dns;

/* SB_OK: answer, which may be without records; valid during the call. SB_NOTFOUND: no such name.
 * SB_UNAVAILABLE: the servers failed. */
typedef void (*sb_dns_done)(void *arg, enum sb_rc rc, const struct sb_dns_answer *answer);

/* servers: "ip" or "ip:port"; none: resolv.conf's. */
struct sb_dns *sb_dns_new(struct event_base *base, const struct sb_str *servers, size_t n);
/* What is still under way gets no answer. */
void sb_dns_free(struct sb_dns *dns);

/* Asks, and follows CNAMEs. search: resolv.conf's search list applies. done may be called before
 * this returns. */
void sb_dns_ask(struct sb_dns *dns, const char *name, enum sb_dns_type type, bool search,
                sb_dns_done done, void *arg);

#endif
