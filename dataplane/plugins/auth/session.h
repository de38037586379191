/* session.h - what the files of the session plugin share. Private to session*.c.
 *
 *     session.c         the phases: who it is, logging out, telling
 *     session_save.c    writing cookies and rows
 *     session_cookie.c  the cookie's format
 */
#ifndef SB_DATAPLANE_PLUGINS_AUTH_SESSION_H
#define SB_DATAPLANE_PLUGINS_AUTH_SESSION_H

#include "dataplane/plugins/credentials/credentials.h"
#include "dataplane/plugins/phase.h"
#include "dataplane/plugins/auth/session_cookie.h"
#include "shared/value.h"

enum { SB_SESSION_COOKIE_MAX = 4096 };

/* One of the two cookies: of the session, and the persistent one that starts sessions again. */
struct sb_session_cookie {
    struct sb_str name;
    struct sb_session_keys keys;
    struct sb_session_timeouts timeouts;
};

enum { SB_SESSION_TOLD = 7 }; /* what can be told of a session */

struct sb_session_config {
    struct sb_session_cookie session, remember;
    bool remembers, stored;
    struct sb_str audience;
    struct sb_str attributes; /* "; Path=/; SameSite=Strict..." */
    int64_t stale_ttl_s;
    size_t body_max;
    bool told_client[SB_SESSION_TOLD], told_upstream[SB_SESSION_TOLD];
    bool body_logout;
    const struct sb_value *logout_methods; /* list of texts */
    struct sb_str logout_query, logout_post;
};

/* What access found, for header_filter. */
struct sb_session_state {
    bool open;
    bool known;      /* a session, though maybe only of other audiences: content and header count */
    bool remembered; /* by the persistent cookie, not by the session's */
    struct sb_session_header header;
    struct sb_value *content; /* of all audiences */
    struct sb_str row_id;     /* "": not in the database */
    struct sb_str subject;
    struct sb_write destroyed;
    struct sb_credential credential;
};

int64_t sb_session_now_s(void);
/* The cookie as the client sent it, put together where it is a long one; p NULL: none. */
struct sb_str sb_session_whole_cookie(struct sb_exchange *x, struct sb_str name);
/* Whether there is a cookie that counts by its header. */
bool sb_session_read_header(struct sb_exchange *x, const struct sb_session_config *c,
                            const struct sb_session_cookie *cookie, struct sb_str *text,
                            struct sb_session_header *out);

/* Set-Cookie, as many as it takes, with more behind the attributes. */
void sb_session_set_cookie(struct sb_exchange *x, const struct sb_session_config *c,
                           struct sb_str name, struct sb_str value, struct sb_str more);
/* Seals the content anew and sends it to the client, who will remember it if that is configured. */
void sb_session_save(struct sb_exchange *x, const struct sb_session_config *c,
                     struct sb_session_state *s);
/* Begins anew what was remembered, renews an old session, tells an idle one's cookie that it was
 * used. */
void sb_session_keep_alive(struct sb_exchange *x, const struct sb_session_config *c,
                           struct sb_session_state *s);

#endif
