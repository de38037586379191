/* cors.c - tells browsers which pages of others may use the answers (reference/plugins-traffic.md).
 *
 * A preflight is answered here, before anyone is asked who he is; every other response gets the
 * headers on its way out, whoever answers.
 */
#include "dataplane/plugins/bundled.h"
#include "dataplane/plugins/details.h"
#include "dataplane/plugins/pattern.h"
#include "dataplane/plugins/plugin.h"
#include "shared/buf.h"

/* As it is compared: without the port that its scheme has anyway. */
struct origin {
    struct sb_str text, host;
};

/* Of config: a pattern, or text. */
struct allowed {
    const struct sb_pattern *pattern; /* NULL: text */
    bool by_host;                     /* it looks at the host only */
    struct sb_str text;
};

struct config {
    struct sb_str fixed; /* the one origin that is always told; "*": all; "": it depends */
    struct allowed *allowed;
    size_t nallowed;
    bool any;                                         /* "*" is among them */
    struct sb_str methods, headers, exposed, max_age; /* "" : not told */
    bool credentials, private_network, preflight_continue;
};

/* -- origins ---------------------------------------------------------------------------------- */

static bool is_plain(struct sb_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i], lower = (char)(c | 0x20);

        if (!(lower >= 'a' && lower <= 'z') && !(c >= '0' && c <= '9') &&
            (c == '\0' || !strchr(".:/-", c)))
            return false;
    }
    return s.len > 0;
}

/* Scheme, host and port; what has no host stays as it is. */
static struct origin origin_of(struct sb_arena *a, struct sb_str s)
{
    ptrdiff_t colon = sb_str_find(s, SB_STR("://"), 0), at;
    struct origin as_it_is = {s, s};
    struct sb_str scheme, host, port = {0};
    size_t end;

    if (colon <= 0)
        return as_it_is;
    scheme = sb_str_first(s, (size_t)colon);
    host = sb_str_from(s, (size_t)colon + 3);
    for (end = 0; end < host.len && !strchr("/?#", host.p[end]); end++)
        ;
    host.len = end;
    host = sb_str_from(host, (size_t)(sb_str_rchr(host, '@') + 1));
    at = sb_str_rchr(host, ':');
    if (at >= 0 && sb_str_chr(host, ']', (size_t)at) < 0) {
        port = sb_str_from(host, (size_t)at + 1);
        host.len = (size_t)at;
    }
    if (host.len == 0)
        return as_it_is;
    if ((sb_str_is(scheme, "http") && sb_str_is(port, "80")) ||
        (sb_str_is(scheme, "https") && sb_str_is(port, "443")))
        port.len = 0;
    return (struct origin){sb_arena_printf(a, "%.*s://%.*s%s%.*s", SB_ARG(scheme), SB_ARG(host),
                                           port.len ? ":" : "", SB_ARG(port)),
                           host};
}

/* -- compiling -------------------------------------------------------------------------------- */

/* The end counts, and an anchor at the beginning is there anyway. */
static enum sb_rc compile_pattern(struct sb_arena *a, struct sb_str text, struct allowed *out,
                                  struct sb_err *err)
{
    out->by_host = sb_str_chr(text, ':', 0) < 0;
    if (!sb_str_ends(text, SB_STR("$")))
        text = sb_arena_printf(a, "%.*s$", SB_ARG(text));
    if (sb_str_starts(text, SB_STR("^")))
        text = sb_str_from(text, 1);
    return sb_pattern_new(a, text, true, &out->pattern, err);
}

static enum sb_rc compile_origins(struct sb_arena *a, const struct sb_value *list, struct config *c,
                                  struct sb_err *err)
{
    const struct sb_value *item;
    enum sb_rc rc;

    if (!sb_is(list, SB_V_ARRAY) || list->count == 0) {
        c->fixed = SB_STR("*");
        return SB_OK;
    }
    if (list->count == 1 && (sb_str_is(list->items[0]->s, "*") || is_plain(list->items[0]->s))) {
        c->fixed = sb_arena_str(a, list->items[0]->s);
        return SB_OK;
    }
    c->allowed = SB_NEW_N(a, struct allowed, list->count);
    sb_array_each (item, list) {
        struct allowed *o = &c->allowed[c->nallowed];

        if (sb_str_is(item->s, "*")) {
            c->any = true;
            continue;
        }
        c->nallowed++;
        if (is_plain(item->s)) {
            o->text = sb_arena_str(a, origin_of(a, item->s).text);
            continue;
        }
        rc = compile_pattern(a, item->s, o, err);
        if (rc)
            return rc;
    }
    return SB_OK;
}

static struct sb_str joined(struct sb_arena *a, const struct sb_value *list)
{
    const struct sb_value *item;
    struct sb_str text;
    struct sb_buf b;

    sb_buf_init(&b, 0);
    sb_array_each (item, list) {
        if (b.len)
            sb_buf_char(&b, ',');
        sb_buf_str(&b, item->s);
    }
    text = sb_arena_str(a, sb_buf_get(&b));
    sb_buf_release(&b);
    return text;
}

static enum sb_rc compile(const struct sb_plugin_source *in, const void **out, struct sb_err *err)
{
    struct config *c = SB_NEW(in->arena, struct config);
    const struct sb_value *max_age = sb_get(in->config, "max_age");

    c->methods = joined(in->arena, sb_get(in->config, "methods"));
    if (c->methods.len == 0)
        c->methods = SB_STR("GET,HEAD,PUT,PATCH,POST,DELETE,OPTIONS,TRACE,CONNECT");
    c->headers = joined(in->arena, sb_get(in->config, "headers"));
    c->exposed = joined(in->arena, sb_get(in->config, "exposed_headers"));
    if (sb_is_number(max_age))
        c->max_age = sb_arena_printf(in->arena, "%.14g", sb_number(max_age));
    c->credentials = sb_value_bool_at(in->config, "credentials", false);
    c->private_network = sb_value_bool_at(in->config, "private_network", false);
    c->preflight_continue = sb_value_bool_at(in->config, "preflight_continue", false);
    *out = c;
    return compile_origins(in->arena, sb_get(in->config, "origins"), c, err);
}

/* -- headers ---------------------------------------------------------------------------------- */

#define ALLOW "Access-Control-Allow-"

typedef void setter(struct sb_exchange *x, struct sb_str name, struct sb_str value);

static void set(struct sb_exchange *x, const char *name, struct sb_str value)
{
    sb_exchange_set_response_header(x, sb_str_c(name), value);
}

/* What ALLOW Origin says to this origin; p NULL: nothing. */
static struct sb_str allowed_for(struct sb_exchange *x, const struct config *c,
                                 struct sb_str origin)
{
    struct origin o;

    if (c->fixed.len)
        return c->fixed;
    if (origin.len == 0)
        return (struct sb_str){0};
    if (c->any)
        return SB_STR("*");
    o = origin_of(sb_exchange_arena(x), origin);
    for (size_t i = 0; i < c->nallowed; i++) {
        const struct allowed *a = &c->allowed[i];

        if (a->pattern ? sb_pattern_fits(a->pattern, a->by_host ? o.host : o.text)
                       : sb_str_eq(a->text, o.text))
            return o.text;
    }
    return (struct sb_str){0};
}

/* vary: how Vary is told. */
static void tell_origin(struct sb_exchange *x, const struct config *c, setter *vary)
{
    struct sb_str origin = sb_exchange_header(x, SB_STR("Origin"));
    struct sb_str allowed = allowed_for(x, c, origin);
    bool all = sb_str_is(allowed, "*");

    if (!sb_str_is(c->fixed, "*"))
        vary(x, SB_STR("Vary"), SB_STR("Origin"));
    if (c->credentials && all && origin.len) { /* "*" and credentials exclude each other */
        vary(x, SB_STR("Vary"), SB_STR("Origin"));
        allowed = origin;
    }
    set(x, ALLOW "Origin", allowed);
    if (c->credentials && (!all || origin.len))
        set(x, ALLOW "Credentials", SB_STR("true"));
}

static bool is_preflight(struct sb_exchange *x)
{
    return sb_str_is(sb_exchange_upstream_method(x), "OPTIONS") &&
           sb_exchange_header(x, SB_STR("Origin")).len &&
           sb_exchange_header(x, SB_STR("Access-Control-Request-Method")).p;
}

static enum sb_rc run_access(struct sb_exchange *x, const void *config)
{
    const struct config *c = config;
    struct sb_str asked = sb_exchange_header(x, SB_STR("Access-Control-Request-Headers"));

    if (!is_preflight(x))
        return SB_OK;
    *(bool *)sb_exchange_state(x, config, sizeof(bool)) = true; /* the response has all it gets */
    if (c->preflight_continue)
        return SB_OK;
    tell_origin(x, c, sb_exchange_set_response_header);
    set(x, ALLOW "Headers", c->headers.len ? c->headers : asked);
    set(x, ALLOW "Methods", c->methods);
    if (c->max_age.len)
        set(x, "Access-Control-Max-Age", c->max_age);
    if (c->private_network &&
        sb_str_is(sb_exchange_header(x, SB_STR("Access-Control-Request-Private-Network")), "true"))
        set(x, ALLOW "Private-Network", SB_STR("true"));
    sb_exchange_answer(x, 200, SB_STR(""), SB_STR(""), NULL, 0);
    return SB_OK;
}

static enum sb_rc header_filter(struct sb_exchange *x, const void *config)
{
    const struct config *c = config;

    if (*(bool *)sb_exchange_state(x, config, sizeof(bool)))
        return SB_OK;
    tell_origin(x, c, sb_exchange_add_response_header);
    if (c->exposed.len)
        set(x, "Access-Control-Expose-Headers", c->exposed);
    return SB_OK;
}

const struct sb_plugin sb_plugin_cors = {
    .name = "cors",
    .priority = 2000,
    .compile = compile,
    .access = run_access,
    .header_filter = header_filter,
};
