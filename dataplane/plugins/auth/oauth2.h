/* oauth2.h - what the files of the oauth2 plugin share. Private to oauth2*.c.
 *
 *     oauth2.c           requests for a resource: whose token is it
 *     oauth2_request.c   requests to the two endpoints: what both check and make
 *     oauth2_authorize.c /oauth2/authorize: codes, and tokens for browsers
 *     oauth2_token.c     /oauth2/token: grants
 *     oauth2_text.c      URIs, scopes, challenges, hashes
 */
#ifndef SB_DATAPLANE_PLUGINS_AUTH_OAUTH2_H
#define SB_DATAPLANE_PLUGINS_AUTH_OAUTH2_H

#include "dataplane/plugins/auth/auth.h"
#include "dataplane/plugins/auth/auth_body.h"

enum sb_oauth2_pkce { SB_PKCE_NONE, SB_PKCE_LAX, SB_PKCE_STRICT };

struct sb_oauth2_config {
    struct sb_auth_config auth;
    struct sb_str plugin_id, provision_key, auth_header_name;
    const struct sb_value *scopes; /* NULL: any, and none is kept */
    bool mandatory_scope, accept_terminated, global, reuse_refresh_token;
    bool code, implicit, client_credentials, password; /* grants that are enabled */
    enum sb_oauth2_pkce pkce;
    int64_t token_expiration_s, refresh_token_ttl_s;
};

/* What a client says in the query or, where its method has one, in the body, which wins. */
struct sb_oauth2_parameters {
    struct sb_arena *arena;
    struct sb_str query;
    struct sb_auth_body body;
};

/* SB_OK, SB_AGAIN, or the client broke off. */
SB_MUST enum sb_rc sb_oauth2_parameters_get(struct sb_exchange *x, size_t body_max,
                                            struct sb_oauth2_parameters *out);
enum sb_auth_field sb_oauth2_parameter(const struct sb_oauth2_parameters *p, const char *name,
                                       struct sb_str *value);
/* The text; p NULL: absent, or no text. */
struct sb_str sb_oauth2_text(const struct sb_oauth2_parameters *p, const char *name);

/* Whether the path is one of the endpoints. */
bool sb_oauth2_is_endpoint(struct sb_str path);
/* Answers the request to it. */
SB_MUST enum sb_rc sb_oauth2_endpoint(struct sb_exchange *x, const struct sb_oauth2_config *c);

/* What must outlive a pause. */
struct sb_oauth2_progress {
    struct sb_write used, made; /* the code or token that was used up; the row that was made */
    struct sb_str fresh;        /* random text in the new row */
    bool secret_fits;           /* known, and dear to find out again */
};

struct sb_oauth2_request {
    struct sb_exchange *x;
    const struct sb_oauth2_config *c;
    struct sb_arena *a;
    struct sb_oauth2_parameters p;
    struct sb_oauth2_progress *progress;
    struct sb_str service_id; /* "" where credentials are global, or there is no service */

    const struct sb_found *client; /* NULL: unknown */
    bool from_header;              /* the client's name and secret */

    /* the answer */
    struct sb_value *body;
    const char *error; /* NULL: all is well */
    struct sb_str description;
    bool unauthorized; /* an error is 401 and not 400 */
};

/* oauth2_request.c: what both endpoints check, and the rows that they make. */
void sb_oauth2_fail(struct sb_oauth2_request *r, const char *error, const char *description);
void sb_oauth2_fail_client(struct sb_oauth2_request *r);
bool sb_oauth2_is_blank(struct sb_str s);
/* What the client said under that name; p NULL: nothing. */
struct sb_str sb_oauth2_said(const struct sb_oauth2_request *r, const char *name);
bool sb_oauth2_text_is(const struct sb_oauth2_request *r, const char *name, const char *value);
/* False: it fails, the error is told. */
bool sb_oauth2_check_https(struct sb_oauth2_request *r);
bool sb_oauth2_check_provision_key(struct sb_oauth2_request *r);
bool sb_oauth2_check_user(struct sb_oauth2_request *r);
bool sb_oauth2_check_scope(struct sb_oauth2_request *r, struct sb_str *scope);
/* Into r->client, NULL where there is none. */
SB_MUST enum sb_rc sb_oauth2_find_client(struct sb_oauth2_request *r, struct sb_str client_id);
/* The URI to go to: the one asked for, or the first that is registered. p NULL: none is. */
struct sb_str sb_oauth2_check_redirect_uri(struct sb_oauth2_request *r);
bool sb_oauth2_is_public(const struct sb_oauth2_request *r);
bool sb_oauth2_needs_challenge(const struct sb_oauth2_request *r);

/* Fields of a row, or of an answer; empty texts are left out. */
void sb_oauth2_put(struct sb_oauth2_request *r, struct sb_value *row, const char *name,
                   struct sb_str value);
void sb_oauth2_put_state(struct sb_oauth2_request *r, struct sb_value *answer); /* as it came */
void sb_oauth2_put_id(struct sb_oauth2_request *r, struct sb_value *row, const char *name,
                      struct sb_str id);
void sb_oauth2_put_int(struct sb_oauth2_request *r, struct sb_value *row, const char *name,
                       int64_t value);
void sb_oauth2_put_ttl(struct sb_oauth2_request *r, struct sb_value *row);
/* The token's row as the client is told of it, into r->body. */
void sb_oauth2_tell_token(struct sb_oauth2_request *r, const struct sb_value *row,
                          struct sb_str refresh_token);
/* A new token, told. As sb_credential_insert(). */
SB_MUST enum sb_rc sb_oauth2_make_token(struct sb_oauth2_request *r, struct sb_str user,
                                        struct sb_str scope, bool refreshable);
struct sb_value *sb_oauth2_error_body(struct sb_oauth2_request *r);

/* The endpoints: SB_OK, and r->body or r->error say what to answer; SB_DENIED with r->error. */
SB_MUST enum sb_rc sb_oauth2_token_endpoint(struct sb_oauth2_request *r); /* oauth2_token.c */
SB_MUST enum sb_rc sb_oauth2_authorization_endpoint(struct sb_oauth2_request *r); /* _authorize.c */

#endif
