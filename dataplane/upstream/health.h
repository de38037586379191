/* health.h - which addresses of targets are fit for traffic: one state for all of the node.
 *
 * Workers report what became of requests (passive checks), the checker what became of its probes
 * (active checks, health_checker.h), the Admin API what people say. All three meet here:
 *
 *     upstream "a.up"   generation        moves after every change of a state below
 *        10.0.0.1:80    state, 64 bits    fit or not, and four counters: one compare-and-swap
 *        10.0.0.2:80    state
 *
 * The request path takes no lock: a pick reads one generation, a result that counts is one
 * compare-and-swap, one that doesn't is one load. Finding or making a record takes the registry's
 * mutex; that is done when rings are built, by the checker, and for the Admin API.
 *
 * Rules: reference/proxy-balancer.md 6. Any thread may call anything here.
 */
#ifndef SB_DATAPLANE_UPSTREAM_HEALTH_H
#define SB_DATAPLANE_UPSTREAM_HEALTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dataplane/upstream/address.h"
#include "shared/arena.h"
#include "shared/str.h"

struct sb_health;
struct sb_health_address;
struct sb_health_upstream;
struct sb_value;

enum sb_health_report {
    SB_HEALTH_SUCCESS,
    SB_HEALTH_HTTP_FAILURE,
    SB_HEALTH_TCP_FAILURE,
    SB_HEALTH_TIMEOUT,
    SB_HEALTH_REPORTS,
};

/* How many in a row make a difference, by enum sb_health_report; 0: such reports don't count. */
struct sb_health_limits {
    uint8_t limit[SB_HEALTH_REPORTS];
    uint64_t good[16], bad[16]; /* bits of HTTP statuses 0..1023 */
};

enum sb_health_type { SB_CHECK_HTTP, SB_CHECK_HTTPS, SB_CHECK_GRPC, SB_CHECK_GRPCS, SB_CHECK_TCP };

/* An upstream's `healthchecks`, read once. Strings live in the arena. */
struct sb_health_checks {
    bool on;          /* any check is switched on */
    double threshold; /* percent of the weight that must be available, and more */
    struct sb_health_limits passive, active;
    enum sb_health_type type;
    int64_t healthy_ms, unhealthy_ms; /* between probes of what is so; 0: none */
    int timeout_ms, concurrency;
    struct sb_str http_path, https_sni; /* sni "": host_header, else the target's name */
    bool https_verify;
    const char *const *headers; /* "Name: value", ended by NULL */
};

void sb_health_checks_read(struct sb_arena *a, const struct sb_value *upstream,
                           struct sb_health_checks *out);

/* The circuit breaker: whether enough of the weight is available. */
bool sb_health_enough(const struct sb_health_checks *c, uint64_t total, uint64_t unavailable);

struct sb_health *sb_health_new(void);
/* After everyone has left and closed. */
void sb_health_free(struct sb_health *h);

/* An upstream's record, by name; sb_health_close() it. */
struct sb_health_upstream *sb_health_open(struct sb_health *h, struct sb_str name);
void sb_health_close(struct sb_health_upstream *u);
/* Read it before the states that are then remembered: what changes later is told by another one. */
uint64_t sb_health_generation(const struct sb_health_upstream *u);

/* An address of a target ("host:port", as stored). The same record for the same three as long as
 * anyone has it; a new one is fit. sb_health_leave() it. */
struct sb_health_address *sb_health_enter(struct sb_health_upstream *u, struct sb_str target,
                                          const union sb_sockaddr *addr);
void sb_health_leave(struct sb_health_address *a);
/* The target is no more: whoever enters it again gets a new record. Leaves, too. */
void sb_health_retire(struct sb_health_address *a);

bool sb_health_is_down(const struct sb_health_address *a);
const union sb_sockaddr *sb_health_sockaddr(const struct sb_health_address *a);
struct sb_str sb_health_target(const struct sb_health_address *a);
void sb_health_report(struct sb_health_address *a, const struct sb_health_limits *l,
                      enum sb_health_report what);
/* By the lists of statuses; what is in neither doesn't count. */
void sb_health_report_status(struct sb_health_address *a, const struct sb_health_limits *l,
                             int status);

/* What people say holds until reports say otherwise. addr NULL: all addresses of the target.
 * Returns how many there were. */
size_t sb_health_force(struct sb_health_upstream *u, struct sb_str target,
                       const union sb_sockaddr *addr, bool fit);

/* Every address that someone has, entered once more each; the caller leaves them and frees *out. */
size_t sb_health_all(struct sb_health_upstream *u, struct sb_health_address ***out);

#endif
