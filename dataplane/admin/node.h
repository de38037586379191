/* node.h - inside admin/: what the handlers of a listener share. */
#ifndef SB_DATAPLANE_ADMIN_NODE_H
#define SB_DATAPLANE_ADMIN_NODE_H

#include <stdatomic.h>

#include "dataplane/admin/admin.h"
#include "dataplane/admin/call.h"
#include "dataplane/config/config.h"
#include "schema/store.h"
#include "shared/log.h"
#include "shared/settings.h"

struct sb_endpoint;

struct sb_admin_node {
    struct sb_admin_parts parts;
    atomic_bool *draining;
    bool dbless;
    const struct sb_endpoint *endpoints; /* ended by pattern NULL */

    /* The admin thread's alone. */
    struct sb_store *store; /* NULL until it is first needed */
    struct sb_pg *pg;       /* with a database */
    int64_t used_ms;        /* when the session was last known to work */
    uint64_t loaded;        /* without one: which publication the store holds */
};

/* One URL pattern: "/services/{services}/routes". */
struct sb_endpoint {
    const char *pattern;
    unsigned methods; /* enum sb_method bits; OPTIONS comes by itself, HEAD with GET */
    void (*handle)(struct sb_call *c, const struct sb_endpoint *e);
    const struct sb_entity *kind;   /* the entities it is about */
    const struct sb_entity *parent; /* of nested ones: what the first parameter names */
    const struct sb_field *foreign; /* ... and the field of kind that refers to it */
};

/* The store, connected or up to date; NULL when the database does not answer: then the call has its
 * answer. */
struct sb_store *sb_admin_store(struct sb_call *c);
/* The session may be broken: have another next time. */
void sb_admin_drop_store(struct sb_admin_node *n);
void sb_admin_close(struct sb_admin_node *n);

/* The context for checks, with the node's plugins and router flavour. */
void sb_admin_ctx(struct sb_call *c, struct sb_schema_ctx *ctx);
bool sb_admin_plugin_enabled(const struct sb_admin_node *n, struct sb_str name);

/* A write went through: the same node serves it at once, and the answer says its version. */
void sb_admin_wrote(struct sb_call *c);

/* Finds the endpoint and answers the call. */
void sb_admin_answer(struct sb_call *c);

/* Tables of endpoints, each ended by pattern NULL. */
extern const struct sb_endpoint sb_info_endpoints[];    /* /, /status, /cache ... */
extern const struct sb_endpoint sb_schema_endpoints[];  /* /schemas */
extern const struct sb_endpoint sb_config_endpoints[];  /* /config */
extern const struct sb_endpoint sb_special_endpoints[]; /* of entities with ways of their own */
extern const struct sb_endpoint sb_target_endpoints[];  /* targets and their health */
extern const struct sb_endpoint sb_status_endpoints[];  /* of the status listener */
extern const struct sb_endpoint sb_status_target_endpoints[]; /* ... without a database */

/* All endpoints of the Admin API: the tables above, and what the field tables give. */
const struct sb_endpoint *sb_entity_endpoints(struct sb_arena *a, const struct sb_admin_node *node);
/* Those of the status listener. */
const struct sb_endpoint *sb_status_listener_endpoints(struct sb_arena *a,
                                                       const struct sb_admin_node *node);

#endif
