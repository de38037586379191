/* translator.h - the translator's inside: what units share, and the building blocks of the kinds.
 *
 *   Ingress ─┐                        ┌─ routes                 a part: one route and what it wants
 *   Ingress ─┼── parts ── service ────┼─ service                a seed: the Kong service it wants
 *   default ─┘   by name              └─ upstream ── targets    a claim: a Secret to serve hosts
 * with └─────── claims ── certificates ── snis
 *
 * A new kind of source is a row in `kinds` (translator.c) and a function that adds parts and
 * claims; services, upstreams, certificates, names and order follow from them.
 */
#ifndef SB_CONTROLPLANE_TRANSLATE_TRANSLATOR_H
#define SB_CONTROLPLANE_TRANSLATE_TRANSLATOR_H

#include "controlplane/translate/entities.h"
#include "controlplane/translate/slots.h"
#include "controlplane/translate/unit.h"
#include "shared/buf.h"
#include "shared/uuid.h"

/* Topics that are no objects. */
#define SLICES_OF      "EndpointSlice of" /* SLICES_OF/ns/service */
#define TOPIC_CA       SB_STR("ca certificates")
#define TOPIC_DEFAULTS SB_STR("default backends")

/* Who comes first: by rank of the kind, then age, then "namespace/name", then place within it. */
struct order {
    int rank;  /* of the kind; services of a later kind replace those of an earlier one */
    bool last; /* default backends come behind rules */
    struct sb_str created; /* RFC 3339; empty: oldest */
    struct sb_str ns, name;
    size_t index;
};
int order_cmp(const struct order *a, const struct order *b);
struct order order_of(struct sb_arena *a, int rank, const struct sb_value *object);

enum port_mode { PORT_NUMBER, PORT_NAME, PORT_IMPLICIT };
struct port_ref {
    enum port_mode mode;
    int64_t number;
    struct sb_str name;
};
/* "80", "http", "implicitPort". */
struct sb_str port_text(struct sb_arena *a, const struct port_ref *port);

/* A Kubernetes Service that serves, directly or through a KongServiceFacade. */
struct backend {
    struct sb_str ns, name; /* of the Service, or of the facade */
    struct sb_str service;  /* the Service's name in any case */
    bool facade;
    struct port_ref port;
    int64_t weight; /* -1: not set */
};

enum { UNSET = -1 };

struct seed {
    struct sb_str name, host;
    const char *protocol, *path;       /* path NULL: none */
    int64_t port, timeout_ms, retries; /* UNSET: left out */
    const struct backend *backends;
    size_t nbackends;
    bool below_gateway;   /* wanted by a route of Gateway API */
    struct sb_str parent; /* "Ingress/ns/name": reported and shown as the origin */
    const struct sb_value *parent_tags;
};

struct part {
    struct part *next;      /* of its source */
    struct sb_arena *arena; /* that it lives in */
    struct order order;
    const struct seed *seed;
    struct sb_str object; /* the route's object */
    struct sb_str route_name;
    struct sb_value *route;         /* without name and id, which depend on who else has the name */
    const struct sb_value *plugins; /* array, or NULL */
    struct sb_str error;            /* not empty: its Kong service cannot be */
    struct unit *service;           /* where it is */
    bool claimed;                   /* has asked for its route name */
};

/* Hosts to be served with a key pair; no hosts for a client certificate. */
struct claim {
    struct claim *next;
    struct sb_arena *arena; /* that it lives in */
    struct order order;
    struct sb_str secret; /* "ns/name" */
    const struct sb_str *hosts;
    size_t nhosts;
    struct sb_str parent; /* who says so */
    struct unit *pair;    /* where it is */
};

/* What a source unit found; its result. */
struct source {
    struct order order;
    size_t nparts, nclaims;
    struct part *parts, **last_part; /* lists */
    struct claim *claims, **last_claim;
    bool has_default; /* it has a default backend that may count */
};

/* A kind of object that is a source. */
struct source_kind {
    const char *kind;
    /* Adds what the object wants; not called when the object is gone. */
    void (*translate)(struct sb_translator *t, struct unit *u, struct source *s,
                      const struct sb_value *object);
};
extern const struct source_kind source_kinds[]; /* in rank order, ended by kind NULL */

struct sb_translator {
    const struct sb_translate_settings *settings;
    const struct sb_objects *objects;
    struct units units;
    struct entities entities;
    struct slots routes;       /* by name, of struct part */
    struct slots certificates; /* by what is in them, of key pair units */
    struct slots snis;         /* by host, of struct claim */
    struct sorted defaults;    /* sources with a default backend, in order */
    struct sb_uuid namespaces[ENTITY_KINDS];
    struct sb_buf name, key; /* that are being looked up */
    bool noted;
};

/* -- parts, claims (source.c) ---------------------------------------------------------------------
 */

extern const struct unit_type source_type, default_type;

/* A new, empty part or claim at the end of the source's list. */
struct part *source_part(struct unit *u, struct source *s);
struct claim *source_claim(struct unit *u, struct source *s);

/* -- services and upstreams (service.c, upstream.c, backends.c)
 * ------------------------------------- */

extern const struct unit_type service_type, client_type, upstream_type;

void part_join(struct sb_translator *t, struct part *part);
void part_leave(struct sb_translator *t, struct part *part);
int part_cmp(const void *a, const void *b);
void route_put(struct sb_translator *t, struct slot *slot);

/* A backend's Service as found, with the annotations that count for it. */
struct served {
    const struct sb_value *service; /* NULL: there is none */
    const struct sb_value *annotations;
};

/* What became of a Kong service; the result of its unit. */
struct outcome {
    const struct seed *seed;     /* NULL: nobody wants it */
    const struct served *served; /* one for each of the seed's backends */
    struct sb_value
        *value; /* of the service, but for the client certificate; NULL: there is none */
    struct sb_value *tags;
    struct sb_str client; /* "ns/name" of the Secret with its client certificate; empty: none */
    struct claim *claims; /* of it */
    const struct sb_str *objects;
    size_t nobjects;
};

/* Says that a service needs the upstream of its seed's host, or does not any more. */
void upstream_join(struct sb_translator *t, struct unit *service, struct sb_str host);
void upstream_leave(struct sb_translator *t, struct unit *service, struct sb_str host);

/* Applies KongIngress, host-header and KongUpstreamPolicy of its Services to an upstream. */
void upstream_overrides(struct sb_translator *t, struct unit *u, const struct outcome *o,
                        struct sb_value *upstream);

/* The Service of a backend; NULL with a failure of the parent. Annotations of a facade lie over it.
 */
struct served backend_find(struct sb_translator *t, struct unit *u, const struct backend *b,
                           struct sb_str parent);
/* The row of the Service's ports that is meant; false with words. An ExternalName has none: its row
 * is made up. */
bool backend_port(struct sb_arena *a, const struct sb_value *service, const struct port_ref *want,
                  const struct sb_value **port, const char **error);
/* Pushes the targets of one backend to the list, where equal ones add their weights up. */
void backend_targets(struct sb_translator *t, struct unit *u, const struct backend *b,
                     const struct served *served, const struct sb_value *port,
                     struct sb_value *targets);

/* -- certificates (certificates.c, ca_certificates.c) ---------------------------------------------
 */

extern const struct unit_type pair_type, ca_certificates_type;

void claim_join(struct sb_translator *t, struct claim *claim);
void claim_leave(struct sb_translator *t, struct claim *claim);
int claim_cmp(const void *a, const void *b);
void sni_put(struct sb_translator *t, struct slot *slot);
int pair_cmp(const void *a, const void *b);
void certificate_put(struct sb_translator *t, struct slot *slot);
/* The id that stands for a Secret's certificate, once all are known; empty: it has none. Reads it.
 */
struct sb_str certificate_id(struct sb_translator *t, struct unit *u, struct sb_str secret);
/* It carries the label of an authority. */
bool is_authority(const struct sb_value *object);

/* -- classes (classes.c) --------------------------------------------------------------------------
 */

bool class_takes_ingress(struct sb_translator *t, struct unit *u, const struct sb_value *ingress);
struct class_parameters {
    bool service_upstream, legacy_regex_detection;
};
struct class_parameters class_parameters(struct sb_translator *t, struct unit *u);

/* -- Ingress (ingress.c, ingress_expression.c, rewrite.c) -----------------------------------------
 */

void ingress_translate(struct sb_translator *t, struct unit *u, struct source *s,
                       const struct sb_value *ingress);
void ingress_default(struct sb_translator *t, struct unit *u, struct source *s,
                     const struct sb_value *ingress);

/* A path of a rule as it is matched: slashes flattened, never empty. */
enum path_type { PATH_IMPLEMENTATION, PATH_PREFIX, PATH_EXACT, PATH_UNKNOWN };
struct ingress_path {
    struct ingress_path *next;
    enum path_type type;
    struct sb_str path;
};
/* Sets expression and priority. */
void ingress_expression(struct sb_arena *a, struct sb_value *route,
                        const struct sb_value *annotations, struct sb_str host,
                        const struct ingress_path *paths);
/* Without slashes at its start; and at its end. */
struct sb_str trim_slashes(struct sb_str path, bool both_ends);
/* The template of konghq.com/rewrite as a request-transformer's replace.uri; false with words. */
bool rewrite_uri(struct sb_arena *a, struct sb_str template, struct sb_str *uri,
                 struct sb_str *error);

/* -- identity (identity.c) ------------------------------------------------------------------------
 */

void identity_init(struct sb_translator *t);
/* The id of an entity of that key; NULL when ids are not to be filled. */
struct sb_value *identity(const struct sb_translator *t, struct sb_arena *a, enum entity_kind kind,
                          struct sb_str key);
struct sb_value *tags_of(struct sb_arena *a, const struct sb_value *object);
struct sb_value *tags_unknown(struct sb_arena *a);
/* "Ingress/shop/web", "IngressClass/kong". */
struct sb_str object_ref(struct sb_arena *a, const struct sb_value *object);
/* What a Secret (decoded) or a ConfigMap holds under a key, in the arena; false: nothing. */
bool object_data(struct sb_arena *a, const struct sb_value *object, const char *key,
                 struct sb_str *out);

#endif
