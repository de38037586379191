/* client.h - a client's connection: accepts bytes, runs one exchange after the other, or, as an
 * HTTP/2 session (h2_session.h), several at once.
 *
 *   accept -> (PROXY header) -> (TLS handshake) -> idle <-> exchange -> ... -> close
 *                                    \_ ALPN h2 _____\_ preface ____> session -> close
 *
 * Between two requests a client holds no buffer and no exchange. Everything that happens to it or
 * to the upstream side of its exchange ends in sb_client_run(), the only place that frees a client.
 */
#ifndef SB_DATAPLANE_HTTP_CLIENT_H
#define SB_DATAPLANE_HTTP_CLIENT_H

#include <netinet/in.h>
#include <stdint.h>

#include "dataplane/listen/worker.h"

enum sb_client_state { SB_CLIENT_PROXY_HEADER, SB_CLIENT_HANDSHAKE, SB_CLIENT_OPEN };

struct sb_client {
    struct sb_io io; /* first: events find the client by it */
    struct sb_worker *w;
    const struct sb_listener *listener;
    struct sb_client *next, **link;
    enum sb_client_state state;
    bool running, waiting, close;
    struct sb_exchange *x;     /* HTTP/1 */
    struct sb_h2 *h2;          /* NULL: HTTP/1 */
    bool preface;              /* HTTP/2 was begun by prior knowledge */
    uint64_t serial, requests; /* its number in this process, from 1; how many came on it */
    struct sb_timer timer;     /* handshake, header and keep-alive time-outs */
    bool trusted;              /* the peer is in trusted_ips */
    bool relays;               /* and is believed the address of a client behind it */
    uint16_t port, proxy_port;
    uint8_t ip_len, proxy_ip_len;
    char ip[INET6_ADDRSTRLEN], proxy_ip[INET6_ADDRSTRLEN]; /* peer; as the PROXY header has it */
    char local_ip[INET6_ADDRSTRLEN];                       /* "" unless the router may ask for it */
    union {
        struct sb_str sni; /* owned by the TLS session */
        struct {           /* during its handshake */
            struct sb_client *next, **link;
        } half_open;
    };
};

/* Takes an accepted descriptor. */
void sb_client_open(struct sb_worker *w, const struct sb_listener *listener, int fd,
                    const struct sockaddr *peer);
/* Goes on with whatever can go on; may free the client. */
void sb_client_run(struct sb_client *c);
/* The address of ours that it came to, as text; returns the port. */
uint16_t sb_client_local(const struct sb_client *c, char out[INET6_ADDRSTRLEN]);
/* Whether it is between two requests, for the counters. */
void sb_client_set_waiting(struct sb_client *c, bool waiting);
/* Lets busy clients finish with Connection: close and closes idle ones after w->drain_idle_ms; all:
 * cuts everyone off. */
void sb_clients_drain(struct sb_worker *w, bool all);

#endif
