/* ldap_bind.h - simple binds at LDAP servers, for a worker that must not wait for them.
 *
 *     worker  --job-->  queue  -->  thread 1..n   libldap, which blocks
 *        ^                              |
 *        +------ eventfd <-- done ------+
 *
 * A binder belongs to one event loop. Its threads start with the first job; each keeps the
 * connections that it made for a while and binds on them again. What is queued is bounded.
 */
#ifndef SB_DATAPLANE_PLUGINS_AUTH_LDAP_BIND_H
#define SB_DATAPLANE_PLUGINS_AUTH_LDAP_BIND_H

#include <stdbool.h>

#include "shared/err.h"
#include "shared/str.h"

struct event_base;
struct sb_arena;
struct sb_ldap_binder;

enum { SB_LDAP_THREADS = 4, SB_LDAP_QUEUE_MAX = 1000 };

struct sb_ldap_server {
    struct sb_str uri;      /* ldap://host:port or ldaps:// */
    bool start_tls, verify; /* verify: the certificate, by the names of the host */
    struct sb_str ca_file;  /* "": of the system */
    int timeout_ms;         /* of connecting, and of each answer */
    int keepalive_ms;       /* of connections that have nothing to do */
};

struct sb_ldap_binder *sb_ldap_binder_new(struct event_base *loop);
/* Does not wait: what is under way ends by itself, and its done is not called. */
void sb_ldap_binder_free(struct sb_ldap_binder *b);

/* Calls done(arg, rc) on the loop, never from within: SB_OK: name and password are right;
 * SB_DENIED: the server refused them; SB_UNAVAILABLE: there was no answer. Everything is copied.
 * SB_TOOLARGE: too many wait already. */
SB_MUST enum sb_rc sb_ldap_bind(struct sb_ldap_binder *b, const struct sb_ldap_server *server,
                                struct sb_str dn, struct sb_str password,
                                void (*done)(void *arg, enum sb_rc rc), void *arg);

/* An attribute's value as it may stand in a name (RFC 4514), in the arena. */
struct sb_str sb_ldap_escape(struct sb_arena *a, struct sb_str value);

#endif
