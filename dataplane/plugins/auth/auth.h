/* auth.h - what the authentication plugins share: the order of things around finding out who it is.
 *
 *     preflight? -> already known, and anonymous set? -> authenticate -+-> identity headers
 *                                                                      +-> refused: anonymous
 * consumer
 *                                                                      +-> refused: the answer
 *
 * That order is here, once; a plugin brings only `authenticate`. Without `anonymous` several
 * plugins are a logical AND, each must succeed and the last decides; with it they are a logical OR
 * (plugins-auth.md, common rules). authenticate may suspend and is then called again from its
 * beginning, so what it does before the last SB_AGAIN must bear repeating.
 */
#ifndef SB_DATAPLANE_PLUGINS_AUTH_AUTH_H
#define SB_DATAPLANE_PLUGINS_AUTH_AUTH_H

#include "dataplane/plugins/credentials/credentials.h"
#include "dataplane/plugins/plugin.h"

/* The part of their configs that is the same: the first member of each. */
struct sb_auth_config {
    struct sb_str anonymous; /* id or username; "": who fails is refused */
    bool skip_preflight;     /* OPTIONS passes untouched */
    bool hide_credentials;
    struct sb_str challenge; /* WWW-Authenticate of refusals */
    size_t body_max;         /* how much of a body is looked at */
};

/* Fills it from a plugin's config; scheme: "Key", to which a realm is added where one is set. */
void sb_auth_compile(const struct sb_plugin_source *in, const char *scheme,
                     struct sb_auth_config *out);

/* What authenticate found out. */
struct sb_auth_result {
    /* SB_OK */
    const struct sb_consumer *consumer;     /* NULL: none belongs to it (ldap-auth) */
    const struct sb_credential *credential; /* never NULL */
    struct sb_str identifier;               /* X-Credential-Identifier; p NULL: none */
    /* SB_DENIED; preset to 401, the status' default message and the config's challenge */
    int status;
    struct sb_str message;
    struct sb_str challenge; /* p NULL: no WWW-Authenticate */
    bool exit;               /* the message as plain JSON, in place of the error format */
    struct sb_str json;      /* p set: all of the body */
    bool final;              /* refused even where there is an anonymous consumer */
};

/* SB_OK, SB_DENIED, SB_AGAIN; SB_UNAVAILABLE becomes a 503, anything else Kong's 500. */
typedef enum sb_rc (*sb_authenticate)(struct sb_exchange *x, const void *config,
                                      struct sb_auth_result *result);

/* The access phase of a plugin whose config begins with struct sb_auth_config. */
SB_MUST enum sb_rc sb_auth_access(struct sb_exchange *x, const void *config,
                                  sb_authenticate authenticate);

/* The first header of that name; where there is none, an underscore in it stands for a hyphen (as
 * with ngx.req.get_headers). p NULL: absent. */
struct sb_str sb_auth_request_header(struct sb_exchange *x, struct sb_str name);
struct sb_str sb_auth_hyphens(struct sb_arena *a, struct sb_str name);
/* The first cookie of that name in all Cookie headers; p NULL: absent. */
struct sb_str sb_auth_request_cookie(struct sb_exchange *x, struct sb_str name);

/* The consumer of a credential that was found, into result; SB_NOTFOUND: it is gone. */
SB_MUST enum sb_rc sb_auth_consumer(struct sb_exchange *x, const struct sb_found *found,
                                    struct sb_auth_result *result);
/* A consumer by id or, where the text is none or no such id exists, by username. */
SB_MUST enum sb_rc sb_auth_consumer_named(struct sb_exchange *x, struct sb_str name,
                                          const struct sb_consumer **out);

/* Sets who it is and the headers that tell the upstream. credential NULL: anonymous. */
void sb_auth_identify(struct sb_exchange *x, const struct sb_consumer *consumer,
                      const struct sb_credential *credential, struct sb_str identifier);
/* The value, or without one (p NULL or "") the removal, of a header to the upstream. */
void sb_auth_header(struct sb_exchange *x, struct sb_str name, struct sb_str value);

#endif
