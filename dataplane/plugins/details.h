/* details.h - what few plugins ask of an exchange, or change in it: scripts first of all, then
 * those that rewrite or refuse requests. The rest is in phase.h, whose rules hold here, too: slices
 * live as long as the exchange, what is set is copied.
 */
#ifndef SB_DATAPLANE_PLUGINS_DETAILS_H
#define SB_DATAPLANE_PLUGINS_DETAILS_H

#include "dataplane/plugins/phase.h"

struct sb_lua;

/* The worker's Lua (plugins/lua). Never NULL, but perhaps not made yet. */
struct sb_lua *sb_exchange_lua(struct sb_exchange *x);

unsigned sb_exchange_worker(const struct sb_exchange *x); /* 0, 1 ... */

/* -- the connection -- */

struct sb_str sb_exchange_peer_ip(const struct sb_exchange *x); /* in front of real-ip */
uint16_t sb_exchange_peer_port(const struct sb_exchange *x);
uint16_t sb_exchange_server_port(const struct sb_exchange *x);
/* That clients were told to use, by port_maps. */
uint16_t sb_exchange_forwarded_port(const struct sb_exchange *x);
bool sb_exchange_trusted(const struct sb_exchange *x); /* the peer is among trusted_ips */
bool sb_exchange_trusts(const struct sb_exchange *x, struct sb_str ip);

/* -- the request -- */

struct sb_str sb_exchange_host(const struct sb_exchange *x); /* a name without port, lower case */
/* As received, without query; and the whole target of origin form. */
struct sb_str sb_exchange_raw_path(const struct sb_exchange *x);
struct sb_str sb_exchange_raw_target(const struct sb_exchange *x);
/* What strip_path takes off; "" for nothing. */
struct sb_str sb_exchange_prefix(const struct sb_exchange *x);
struct sb_router_capture;
size_t sb_exchange_captures(const struct sb_exchange *x, struct sb_router_capture *out, size_t max);
/* Calls fn for every header until it says false: the client's, with what plugins made of them. */
void sb_exchange_each_request_header(const struct sb_exchange *x,
                                     bool (*fn)(void *arg, struct sb_str name, struct sb_str value),
                                     void *arg);
/* As they go on now: changed by plugins, else the client's. */
struct sb_str sb_exchange_upstream_method(const struct sb_exchange *x);
/* Of what came so far, decoded. */
uint64_t sb_exchange_body_size(const struct sb_exchange *x);
bool sb_exchange_replaced_body(const struct sb_exchange *x, struct sb_str *body);
/* A variable of nginx's by its name, as access logs know them; p NULL: there is none, or it is
 * empty. In the arena. */
struct sb_str sb_exchange_variable(struct sb_exchange *x, struct sb_str name);

/* -- towards the upstream, in access -- */

void sb_exchange_set_retries(struct sb_exchange *x, int retries);
void sb_exchange_set_timeouts(struct sb_exchange *x, int connect_ms, int write_ms, int read_ms);
void sb_exchange_set_tls_verify(struct sb_exchange *x, bool verify);
void sb_exchange_set_tls_verify_depth(struct sb_exchange *x, int depth);
/* The response's body is collected before header_filter. max: only where the upstream gives it a
 * length of so many bytes at most; SIZE_MAX: whatever it is. Not with a switch of protocols. */
void sb_exchange_buffer_response(struct sb_exchange *x, size_t max);

/* -- the response -- */

int sb_exchange_upstream_status(
    const struct sb_exchange *x); /* of the last try; 0: none answered */
/* Calls fn for every header until it says false: those that the upstream sent; those of the
 * response as it stands now, without what the gateway itself writes into the head. */
void sb_exchange_each_service_header(const struct sb_exchange *x,
                                     bool (*fn)(void *arg, struct sb_str name, struct sb_str value),
                                     void *arg);
void sb_exchange_each_final_header(const struct sb_exchange *x,
                                   bool (*fn)(void *arg, struct sb_str name, struct sb_str value),
                                   void *arg);
/* The body that was collected; false: it was not. */
bool sb_exchange_response_body(const struct sb_exchange *x, struct sb_str *body);
bool sb_exchange_buffers(const struct sb_exchange *x); /* buffer_response(SIZE_MAX) was called */
/* From header_filter: the client gets no answer, its connection is closed. */
void sb_exchange_cut(struct sb_exchange *x);

#endif
