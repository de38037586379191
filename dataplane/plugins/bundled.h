/* bundled.h - the plugins that are built in, one file each; the table is in registry.c. */
#ifndef SB_DATAPLANE_PLUGINS_BUNDLED_H
#define SB_DATAPLANE_PLUGINS_BUNDLED_H

struct sb_plugin;

extern const struct sb_plugin sb_plugin_acl;
extern const struct sb_plugin sb_plugin_basic_auth;
extern const struct sb_plugin sb_plugin_bot_detection;
extern const struct sb_plugin sb_plugin_correlation_id;
extern const struct sb_plugin sb_plugin_cors;
extern const struct sb_plugin sb_plugin_hmac_auth;
extern const struct sb_plugin sb_plugin_ip_restriction;
extern const struct sb_plugin sb_plugin_jwt;
extern const struct sb_plugin sb_plugin_key_auth;
extern const struct sb_plugin sb_plugin_ldap_auth;
extern const struct sb_plugin sb_plugin_oauth2;
extern const struct sb_plugin sb_plugin_post_function;
extern const struct sb_plugin sb_plugin_pre_function;
extern const struct sb_plugin sb_plugin_rate_limiting;
extern const struct sb_plugin sb_plugin_redirect;
extern const struct sb_plugin sb_plugin_request_size_limiting;
extern const struct sb_plugin sb_plugin_request_termination;
extern const struct sb_plugin sb_plugin_request_transformer;
extern const struct sb_plugin sb_plugin_response_ratelimiting;
extern const struct sb_plugin sb_plugin_response_transformer;
extern const struct sb_plugin sb_plugin_session;

#endif
