/* snapshot.h - what a worker serves from: the compiled, immutable form of the entities.
 *
 * Built by the config thread, read by workers, never changed, only replaced. A snapshot shares the
 * objects that a change did not touch with its predecessor:
 *
 *     snapshot 41  --+--> router shards, routes, services, upstreams, certificates
 *     snapshot 42  --+         (each lives as long as the last snapshot that can reach it)
 *
 * Only the config thread knows which: a worker takes and leaves whole snapshots, by messages (one a
 * change, none a request); an exchange keeps the snapshot it began with by its worker's own,
 * unlocked count. Strings are NUL-terminated behind their length.
 *
 * A route points to its service, but a service names its upstream by a slot that is looked up in
 * the snapshot: targets come and go with every Pod, and must not make services and routes anew. So
 * does a route name its chain of plugins.
 */
#ifndef SB_DATAPLANE_CONFIG_SNAPSHOT_H
#define SB_DATAPLANE_CONFIG_SNAPSHOT_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/str.h"
#include "shared/uuid.h"

struct sb_consumer_plugins; /* dataplane/plugins/chain.h */
struct sb_hooks;            /* dataplane/plugins/phase.h */
struct sb_memory;           /* dataplane/plugins/credentials/memory.h */
struct sb_router;
struct sb_upstream;

enum sb_protocol { /* bits, for sets */
                   SB_PROTO_HTTP = 1 << 0,
                   SB_PROTO_HTTPS = 1 << 1,
                   SB_PROTO_GRPC = 1 << 2,
                   SB_PROTO_GRPCS = 1 << 3,
                   SB_PROTO_TCP = 1 << 4,
                   SB_PROTO_TLS = 1 << 5,
                   SB_PROTO_TLS_PASSTHROUGH = 1 << 6,
                   SB_PROTO_UDP = 1 << 7,
};

/* A certificate ready for use. One SSL_CTX carries both pairs (RSA and ECDSA) where there are two.
 */
struct sb_certificate {
    struct sb_str id;
    X509 *cert, *cert_alt;
    STACK_OF(X509) * chain, *chain_alt;
    EVP_PKEY *key, *key_alt;
};

/* A service as the proxy needs it. */
struct sb_service {
    struct sb_str id, name;
    enum sb_protocol protocol;
    struct sb_str host; /* a name, an address, or the name of an upstream */
    uint16_t port;
    struct sb_str path; /* "" when null */
    int connect_timeout_ms, write_timeout_ms, read_timeout_ms;
    int retries;
    bool enabled;
    int8_t tls_verify;                               /* -1: unset */
    int tls_verify_depth;                            /* -1: unset */
    const struct sb_certificate *client_certificate; /* NULL: none */
    const struct sb_str *ca_certificates;            /* ids */
    size_t nca_certificates;
    X509_STORE *ca_store;   /* made of them; NULL: the system's */
    uint32_t upstream_slot; /* sb_service_upstream(); 0: host is an address */
    const char *row;        /* as stored: JSON, without nulls */
};

/* What a request needs of its route once it is matched. How it matches is the router's. */
struct sb_route {
    struct sb_str id, name;
    unsigned protocols; /* enum sb_protocol bits */
    int https_redirect_status_code;
    bool strip_path, preserve_host;
    bool request_buffering, response_buffering;
    bool path_handling_v1;
    const struct sb_service *service; /* NULL: serviceless */
    uint32_t chain;                   /* of plugins: sb_route_hooks() */
    const char *row;                  /* as stored: JSON, without nulls */
};

/* An upstream's description; the ring and the health live per worker in dataplane/upstream, rebuilt
 * when `generation` differs from what the worker built from. An object that is the same in the next
 * snapshot is the same pointer there. */
struct sb_target {
    struct sb_str id, target; /* target: normalised host:port */
    struct sb_str host;
    uint16_t port;
    int weight;
};

enum sb_algorithm {
    SB_ALGO_ROUND_ROBIN,
    SB_ALGO_CONSISTENT_HASHING,
    SB_ALGO_LEAST_CONNECTIONS,
    SB_ALGO_LATENCY
};

struct sb_upstream {
    struct sb_str id, name;
    uint64_t generation; /* differs after every change of the upstream or its targets, and between
                            upstreams: no two objects ever have the same */
    uint32_t slot;       /* 1.., dense; an upstream that is removed leaves its slot to others */
    enum sb_algorithm algorithm;
    int slots;
    struct sb_str host_header; /* "" when null */
    bool use_srv_name;
    const struct sb_certificate *client_certificate;
    const struct sb_target *targets; /* newest of each name, weight 0 included */
    size_t ntargets;
    const struct sb_value *entity; /* the whole row: hash_on*, healthchecks */
};

/* Tables that share their untouched parts with those of the snapshot before (table.h). */
struct sb_table;
struct sb_slots {
    uint32_t count; /* slots that exist: 0..count-1 */
    const void *const *const *chunks;
};

enum { SB_SLOT_BITS = 7 }; /* slots in a chunk: 128 */

struct sb_snapshot {
    uint64_t version; /* of the configuration; not unique among snapshots */
    const struct sb_router *router;
    const struct sb_table *snis;           /* sb_snapshot_certificate() */
    const struct sb_table *upstream_names; /* sb_snapshot_upstream() */
    struct sb_slots upstreams;             /* sb_service_upstream() */
    struct sb_slots chains;                /* sb_route_hooks() */
    const struct sb_hooks *hooks;          /* of plugins for everything; NULL: none */
    const struct sb_table *consumers;      /* sb_snapshot_consumer_plugins() */
    const struct sb_memory *credentials;   /* without a database: all there are; else NULL */
    char workspace[SB_UUID_TEXT_LEN + 1];  /* the default one's id */
};

/* The certificate for a server name (lower case; "" when the client sent none): exact, then
 * "*.rest" (names of three labels and more), then "first.*", then "*"; NULL: none of them, use the
 * default pair of the settings. A client that sent no name always gets NULL. */
const struct sb_certificate *sb_snapshot_certificate(const struct sb_snapshot *snap,
                                                     struct sb_str name);
/* By name, for the Admin API and for plugins. NULL: none. */
const struct sb_upstream *sb_snapshot_upstream(const struct sb_snapshot *snap, struct sb_str name);

/* The plugins that are scoped to a consumer. NULL: none. */
const struct sb_consumer_plugins *sb_snapshot_consumer_plugins(const struct sb_snapshot *snap,
                                                               struct sb_str consumer_id);

static inline const void *sb_slot_get(const struct sb_slots *s, uint32_t slot)
{
    if (slot >= s->count) /* never for what belongs to this snapshot; cheap to be sure */
        return NULL;
    return s->chunks[slot >> SB_SLOT_BITS][slot & ((1u << SB_SLOT_BITS) - 1)];
}

/* The upstream that the service's host names. NULL: none, the host is a name or an address. */
static inline const struct sb_upstream *sb_service_upstream(const struct sb_snapshot *snap,
                                                            const struct sb_service *service)
{
    return sb_slot_get(&snap->upstreams, service->upstream_slot);
}

/* What the plugins do to the route's requests. NULL: nothing. */
static inline const struct sb_hooks *sb_route_hooks(const struct sb_snapshot *snap,
                                                    const struct sb_route *route)
{
    return sb_slot_get(&snap->chains, route->chain);
}

#endif
