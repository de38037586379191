/* entities.c - all entities, found by name, by path and by table. */
#include "schema/fields.h"

/* Parents before their children, as rows are loaded. */
static const struct sb_entity *const all[] = {
    &sb_workspaces,
    &sb_consumers,
    &sb_certificates,
    &sb_services,
    &sb_routes,
    &sb_snis,
    &sb_upstreams,
    &sb_targets,
    &sb_plugins,
    &sb_tags,
    &sb_ca_certificates,
    &sb_clustering_data_planes,
    &sb_parameters,
    &sb_vaults,
    &sb_key_sets,
    &sb_keys,
    &sb_filter_chains,
    &sb_acls,
    &sb_acme_storage,
    &sb_basicauth_credentials,
    &sb_hmacauth_credentials,
    &sb_jwt_secrets,
    &sb_keyauth_credentials,
    &sb_oauth2_credentials,
    &sb_oauth2_authorization_codes,
    &sb_oauth2_tokens,
    &sb_ratelimiting_metrics,
    &sb_sessions,
    NULL,
};

const struct sb_entity *const *sb_entities(void)
{
    return all;
}

const struct sb_entity *sb_entity_find(struct sb_str name)
{
    for (const struct sb_entity *const *e = all; *e; e++) {
        if (sb_str_is(name, (*e)->name))
            return *e;
    }
    return NULL;
}

const struct sb_entity *sb_entity_by_path(struct sb_str path)
{
    for (const struct sb_entity *const *e = all; *e; e++) {
        if (sb_str_is(path, (*e)->path))
            return *e;
    }
    return NULL;
}

const struct sb_entity *sb_entity_by_table(struct sb_str table)
{
    for (const struct sb_entity *const *e = all; *e; e++) {
        if (sb_str_is(table, (*e)->table))
            return *e;
    }
    return NULL;
}
