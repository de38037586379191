/* auth_body.h - a field in a request's body: urlencoded form, JSON object or multipart form.
 *
 * Bodies of other types, broken ones and those that are too long have no fields.
 */
#ifndef SB_DATAPLANE_PLUGINS_AUTH_AUTH_BODY_H
#define SB_DATAPLANE_PLUGINS_AUTH_AUTH_BODY_H

#include "dataplane/plugins/phase.h"

struct sb_settings;

/* How often a field is there. OTHER: once, but it is no text (a number in JSON, say). */
enum sb_auth_field { SB_FIELD_ABSENT, SB_FIELD_TEXT, SB_FIELD_OTHER, SB_FIELD_REPEATED };

struct sb_auth_body {
    struct sb_str type, text; /* of Content-Type; "" when there is nothing to look in */
};

/* How long a body may be to be looked at: 1 MiB, or more where bodies may be kept in memory so
 * (nginx_http_client_body_buffer_size). */
size_t sb_auth_body_max(const struct sb_settings *settings);
/* The exchange's body. SB_OK, SB_AGAIN, or as sb_exchange_body() for a client that broke off. */
SB_MUST enum sb_rc sb_auth_body_get(struct sb_exchange *x, size_t max, struct sb_auth_body *out);

enum sb_auth_field sb_auth_body_find(struct sb_arena *a, const struct sb_auth_body *body,
                                     struct sb_str name, struct sb_str *value);
/* The same among the arguments of a query. One without '=' is OTHER. */
enum sb_auth_field sb_auth_query_find(struct sb_arena *a, struct sb_str query, struct sb_str name,
                                      struct sb_str *value);

/* The body without that field, the others written anew, by their names. As it was when it can't be
 * read. */
struct sb_str sb_auth_body_without(struct sb_arena *a, const struct sb_auth_body *body,
                                   struct sb_str name);
/* Arguments without those of one name, the others sorted and escaped, as Kong writes a table. */
struct sb_str sb_auth_args_without(struct sb_arena *a, struct sb_str args, struct sb_str name);
/* The query without that argument, and the others written as browsers write them: "a b" is a+b=. */
struct sb_str sb_auth_query_without(struct sb_arena *a, struct sb_str query, struct sb_str name);

#endif
