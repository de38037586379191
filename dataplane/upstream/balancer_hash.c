#include "dataplane/upstream/balancer_hash.h"

#include <stdlib.h>

#include "dataplane/http/exchange.h"
#include "dataplane/upstream/xxhash32.h"
#include "shared/uuid.h"
#include "shared/value.h"

enum { ARGS_MAX = 100, CAPTURES_MAX = 32 }; /* arguments: Kong looks at as many */

static const struct {
    const char *name;
    enum sb_hash_source source;
    const char *parameter;
} sources[] = {
    {"consumer", SB_HASH_CONSUMER, NULL},
    {"ip", SB_HASH_IP, NULL},
    {"header", SB_HASH_HEADER, "header"},
    {"cookie", SB_HASH_COOKIE, "cookie"},
    {"path", SB_HASH_PATH, NULL},
    {"query_arg", SB_HASH_ARG, "query_arg"},
    {"uri_capture", SB_HASH_CAPTURE, "uri_capture"},
};

static struct sb_hash_input read_input(struct sb_arena *a, const struct sb_value *entity,
                                       const char *field)
{
    struct sb_str mode = sb_value_str_at(entity, field);
    struct sb_hash_input in = {0};
    char name[64];

    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        if (!sb_str_is(mode, sources[i].name))
            continue;
        in.source = sources[i].source;
        if (in.source == SB_HASH_COOKIE) { /* one cookie for both */
            in.name = sb_arena_str(a, sb_value_str_at(entity, "hash_on_cookie"));
            in.path = sb_arena_str(a, sb_value_str_at(entity, "hash_on_cookie_path"));
        } else if (sources[i].parameter) {
            snprintf(name, sizeof name, "%s_%s", field, sources[i].parameter);
            in.name = sb_arena_str(a, sb_value_str_at(entity, name));
        }
    }
    return in;
}

void sb_hash_inputs_read(struct sb_arena *a, const struct sb_value *upstream,
                         struct sb_hash_inputs *out)
{
    out->on = read_input(a, upstream, "hash_on");
    out->fallback = read_input(a, upstream, "hash_fallback");
}

/* -- where values come from; p NULL: there is none -- */

static struct sb_str cookie_value(const struct sb_exchange *x, struct sb_str name)
{
    for (size_t i = 0; i < x->req.nheaders; i++) {
        struct sb_str rest = x->req.headers[i].value, pair;

        if (x->req.ids[i] != SB_H_COOKIE)
            continue;
        while (sb_str_split(&rest, ';', &pair)) {
            pair = sb_str_trim(pair);
            if (pair.len > name.len && pair.p[name.len] == '=' &&
                sb_str_ieq(sb_str_first(pair, name.len), name))
                return sb_str_from(pair, name.len + 1);
        }
    }
    return (struct sb_str){0};
}

/* A client without the cookie gets one, in place of one of that name that the upstream sets. */
static struct sb_str new_cookie(struct sb_exchange *x, const struct sb_hash_input *in)
{
    struct sb_arena *a = sb_exchange_arena(x);
    struct sb_uuid uuid = sb_uuid_v4();
    struct sb_str path = in->path.len ? in->path : SB_STR("/");
    char text[SB_UUID_TEXT_LEN + 1];

    sb_uuid_format(&uuid, text);
    sb_exchange_set_cookie(x, in->name,
                           sb_arena_printf(a, "%.*s=%s; Path=%.*s; SameSite=Lax; HttpOnly",
                                           SB_ARG(in->name), text, SB_ARG(path)));
    return sb_arena_str(a, sb_str_c(text));
}

static struct sb_str header_values(struct sb_exchange *x, struct sb_str name)
{
    struct sb_str all = {0};

    for (size_t i = 0; i < x->req.nheaders; i++) {
        if (!sb_str_ieq(x->req.headers[i].name, name))
            continue;
        all = all.p ? sb_arena_printf(sb_exchange_arena(x), "%.*s, %.*s", SB_ARG(all),
                                      SB_ARG(x->req.headers[i].value))
                    : x->req.headers[i].value;
    }
    return all;
}

static int by_str(const void *a, const void *b)
{
    const struct sb_str *x = a, *y = b;

    return sb_str_cmp(*x, *y);
}

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Copies only where there is something to decode. */
static struct sb_str decoded(struct sb_arena *a, struct sb_str s)
{
    char *out;
    size_t n = 0;

    if (sb_str_chr(s, '%', 0) < 0 && sb_str_chr(s, '+', 0) < 0)
        return s;
    out = sb_arena_alloc(a, s.len);
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] == '%' && i + 2 < s.len && hex(s.p[i + 1]) >= 0 && hex(s.p[i + 2]) >= 0) {
            out[n++] = (char)(hex(s.p[i + 1]) << 4 | hex(s.p[i + 2]));
            i += 2;
        } else {
            out[n++] = s.p[i] == '+' ? ' ' : s.p[i];
        }
    }
    return sb_str_n(out, n);
}

/* Sorted and joined; an argument without '=' is "true". */
static struct sb_str query_values(struct sb_exchange *x, struct sb_str name)
{
    struct sb_arena *a = sb_exchange_arena(x);
    struct sb_str rest = x->req.has_query ? x->req.query : (struct sb_str){0}, piece;
    struct sb_str found[ARGS_MAX], all = {0};
    size_t n = 0, looked = 0;

    while (looked++ < ARGS_MAX && sb_str_split(&rest, '&', &piece)) {
        ptrdiff_t eq = sb_str_chr(piece, '=', 0);
        struct sb_str key = eq < 0 ? piece : sb_str_first(piece, (size_t)eq);

        if (sb_str_eq(decoded(a, key), name))
            found[n++] = eq < 0 ? SB_STR("true") : decoded(a, sb_str_from(piece, (size_t)eq + 1));
    }
    qsort(found, n, sizeof *found, by_str);
    for (size_t i = 0; i < n; i++)
        all = i ? sb_arena_printf(a, "%.*s,%.*s", SB_ARG(all), SB_ARG(found[i])) : found[i];
    return all;
}

/* By the name of the group, or by its number. */
static struct sb_str capture_value(const struct sb_exchange *x, struct sb_str name)
{
    struct sb_router_capture found[CAPTURES_MAX];
    size_t n = sb_router_captures(&x->match, x->path, found, CAPTURES_MAX);
    int64_t number;

    for (size_t i = 0; i < n; i++)
        if (found[i].name.len && sb_str_eq(found[i].name, name))
            return found[i].value;
    if (sb_str_int(name, &number) && number >= 0 && (uint64_t)number < n)
        return found[number].value;
    return (struct sb_str){0};
}

/* The consumer, else the credential. */
static struct sb_str consumer_value(const struct sb_exchange *x)
{
    const struct sb_consumer *consumer = sb_exchange_consumer(x);
    const struct sb_credential *credential = sb_exchange_credential(x);

    if (consumer && consumer->id.len)
        return consumer->id;
    return credential && credential->id.len ? credential->id : (struct sb_str){0};
}

static struct sb_str value_of(struct sb_exchange *x, const struct sb_hash_input *in)
{
    switch (in->source) {
    case SB_HASH_CONSUMER:
        return consumer_value(x);
    case SB_HASH_IP:
        return x->client_ip;
    case SB_HASH_HEADER:
        return header_values(x, in->name);
    case SB_HASH_COOKIE: {
        struct sb_str value = cookie_value(x, in->name);

        return value.p ? value : new_cookie(x, in);
    }
    case SB_HASH_PATH:
        return x->path;
    case SB_HASH_ARG:
        return query_values(x, in->name);
    case SB_HASH_CAPTURE:
        return capture_value(x, in->name);
    default:
        return (struct sb_str){0};
    }
}

uint32_t sb_hash_of(struct sb_exchange *x, const struct sb_hash_inputs *in)
{
    struct sb_str value = value_of(x, &in->on);

    if (!value.p)
        value = value_of(x, &in->fallback);
    return sb_xxhash32(value.p ? value : SB_STR(""));
}
