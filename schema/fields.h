/* fields.h - inside schema/: every entity's table (fields_core.c, fields_plugins.c). */
#ifndef SB_SCHEMA_FIELDS_H
#define SB_SCHEMA_FIELDS_H

#include "schema/entity.h"

extern const struct sb_entity sb_workspaces, sb_consumers, sb_certificates, sb_services, sb_routes,
    sb_snis, sb_upstreams, sb_targets, sb_plugins, sb_tags, sb_ca_certificates,
    sb_clustering_data_planes, sb_parameters, sb_vaults, sb_key_sets, sb_keys, sb_filter_chains;

extern const struct sb_entity sb_keyauth_credentials, sb_basicauth_credentials,
    sb_hmacauth_credentials, sb_jwt_secrets, sb_acls, sb_oauth2_credentials,
    sb_oauth2_authorization_codes, sb_oauth2_tokens, sb_sessions, sb_acme_storage,
    sb_ratelimiting_metrics;

#endif
