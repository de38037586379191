/* serve.h - inside admin/: a thread that answers HTTP on the addresses of one setting.
 *
 * libevent's evhttp does the protocol: HTTP/1.1, kept alive, with limits on heads and bodies; TLS
 * on `ssl` addresses. One request at a time runs through `answer`, which may block: what must not
 * wait for it has a thread of its own.
 */
#ifndef SB_DATAPLANE_ADMIN_SERVE_H
#define SB_DATAPLANE_ADMIN_SERVE_H

#include "dataplane/admin/call.h"
#include "shared/err.h"

struct sb_settings;
struct sb_serve;

struct sb_serve_config {
    const struct sb_settings *settings;
    const char *listen; /* the setting: "admin_listen" */
    const char *tls;    /* prefix of the pair's settings: "admin_ssl" gives admin_ssl_cert ... */
    const char *access_log; /* the setting: "admin_access_log" */
    size_t body_max;
    /* Answers the call; called on the thread. */
    void (*answer)(struct sb_call *c);
    void (*tick)(struct sb_admin_node *node);  /* once a second, on the thread; may be NULL */
    void (*close)(struct sb_admin_node *node); /* after the last call, on the thread; may be NULL */
    struct sb_admin_node *node;
    bool credentials; /* Access-Control-Allow-Credentials, as the Admin API sends */
};

/* Opens the listeners: connections wait in the kernel. *out NULL when the setting says off. The
 * config is copied. */
SB_MUST enum sb_rc sb_serve_start(const struct sb_serve_config *config, struct sb_serve **out,
                                  struct sb_err *err);
/* Starts the thread: connections are answered. NULL is nothing to do. */
void sb_serve_open(struct sb_serve *s);
/* The access log's file is opened anew. NULL is nothing to do. */
void sb_serve_reopen_log(struct sb_serve *s);
/* Ends the thread after the call under way; gently: and after those that arrive within a moment.
 * NULL is nothing to do. */
void sb_serve_stop(struct sb_serve *s, bool gently);

#endif
