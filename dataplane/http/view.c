/* view.c - an exchange as plugins see it (plugins/phase.h, plugins/plugin.h). */
#include "dataplane/http/exchange.h"
#include "dataplane/plugins/plugin.h"
#include "shared/json.h"

/* -- who it is -- */

void sb_exchange_authenticate(struct sb_exchange *x, const struct sb_consumer *consumer,
                              const struct sb_credential *credential)
{
    x->consumer = consumer;
    x->credential = credential;
    x->of_consumer = NULL;
    if (consumer && x->hooks && x->hooks->slots)
        x->of_consumer = sb_snapshot_consumer_plugins(x->hold->snap, consumer->id);
}

const struct sb_consumer *sb_exchange_consumer(const struct sb_exchange *x)
{
    return x->consumer;
}

const struct sb_credential *sb_exchange_credential(const struct sb_exchange *x)
{
    return x->credential;
}

void sb_exchange_set_groups(struct sb_exchange *x, const struct sb_str *groups, size_t n)
{
    x->groups = groups;
    x->ngroups = n;
}

const struct sb_str *sb_exchange_groups(const struct sb_exchange *x, size_t *n)
{
    *n = x->ngroups;
    return x->groups;
}

/* -- the request -- */

void sb_exchange_each_header(const struct sb_exchange *x,
                             bool (*fn)(void *arg, struct sb_str name, struct sb_str value),
                             void *arg)
{
    for (size_t i = 0; i < x->req.nheaders; i++)
        if (!fn(arg, x->req.headers[i].name, x->req.headers[i].value))
            return;
}

struct sb_str sb_exchange_target(const struct sb_exchange *x)
{
    return x->req.target;
}

struct sb_str sb_exchange_http_version(const struct sb_exchange *x)
{
    switch (x->req.version) {
    case 9:
        return SB_STR("0.9");
    case 10:
        return SB_STR("1.0");
    case 20:
        return SB_STR("2.0");
    default:
        return SB_STR("1.1");
    }
}

bool sb_exchange_https(const struct sb_exchange *x)
{
    return x->https;
}

struct sb_str sb_exchange_forwarded_proto(const struct sb_exchange *x)
{
    return sb_request_forwarded_proto(x);
}

struct ssl_st *sb_exchange_tls(const struct sb_exchange *x)
{
    return x->c->io.ssl;
}

struct sb_str sb_exchange_upstream_header(const struct sb_exchange *x, struct sb_str name)
{
    const struct sb_header_change *c = sb_change_find(x->request_changes, name);

    return c ? c->value : sb_http_find(&x->req, name);
}

/* -- answers -- */

/* What nginx has a page for, and of these what Kong's own error page stands in for. */
static bool has_page(int status)
{
    static const short pages[] = {301, 302, 303, 307, 308, 401, 402, 403, 406,
                                  409, 410, 415, 416, 421, 429, 501, 505, 507};

    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++)
        if (pages[i] == status)
            return true;
    return false;
}

static bool has_template(int status)
{
    static const short templates[] = {400, 404, 405, 408, 411, 412, 413,
                                      414, 417, 494, 500, 502, 503, 504};

    for (size_t i = 0; i < sizeof templates / sizeof *templates; i++)
        if (templates[i] == status)
            return true;
    return false;
}

void sb_exchange_answer_status(struct sb_exchange *x, int status)
{
    x->answer = (struct sb_answer){.status = status,
                                   .kind = has_page(status)       ? SB_ANSWER_PAGE
                                           : has_template(status) ? SB_ANSWER_REFUSED
                                                                  : SB_ANSWER_BODY};
}

void sb_exchange_answer_message(struct sb_exchange *x, int status, struct sb_str message)
{
    struct sb_arena *a = sb_exchange_arena(x);
    struct sb_value *body = sb_value_object(a);

    if (message.len)
        sb_object_set(a, body, SB_STR("message"), sb_value_str(a, message));
    sb_exchange_answer(x, status, SB_STR("application/json; charset=utf-8"),
                       sb_json_text(a, body, 0), NULL, 0);
}
