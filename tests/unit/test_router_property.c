/* The compiled router against an obvious one: all routes, one after the other, by the written
 * rules.
 *
 * Random sets of routes change step by step, so that shared trees and versions are part of what is
 * tested; random requests are drawn from the same few hosts, paths and headers, so that many routes
 * match and precedence decides. ROUTER_CHECKS sets the number of requests (200,000), ROUTER_SEED
 * where to begin; a difference prints both. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <regex.h>

#include "router_util.h"
#include "shared/uuid.h"

enum { SLOTS = 24, LIST_MAX = 3, CHECKS = 200000, REQUESTS = 20 };

static const char *const hosts[] = {"a.com", "x.a.com", "*.a.com",  "*.x.a.com",  "a.*",
                                    "x.*",   "b.com",   "a.com:80", "*.a.com:81", "b.com:8000"};
static const char *const paths[] = {
    "/",    "/a",        "/a/",       "/a/b",     "/ab",    "/b",    "/a/b/c", "~/a",
    "~/a$", "~/a[0-9]+", "~/(a|b)/c", "~/[ab]+$", "~/a|/b", "~/a/b", "~/a?b",  "~/b$"};
static const char *const methods[] = {"GET", "POST", "FOO"};
static const char *const snis[] = {"a.com", "*.a.com", "b.*", "b.com"};
static const char *const header_names[] = {"x", "y-z"};
static const char *const header_values[] = {"1", "2", "A1", "~*^a", "~*b$"};
static const int64_t regex_priorities[] = {0, 0, 0, 1, 2, 5, 1024, 4096, 8192, -1};

static const char *const ask_hosts[] = {"a.com",    "x.a.com",    "y.x.a.com", "b.com",
                                        "a.com:80", "q.a.com:81", "",          "A.com",
                                        "b.com:1",  "x.org",      "a.org",     "b.com:8000"};
static const char *const ask_paths[] = {"/",      "/a",   "/ab",  "/a/b", "/a/bc",    "/b",  "/a1",
                                        "/a12/x", "/b/c", "/aab", "/x/b", "/a/b/c/d", "/b/", "/c"};
static const char *const ask_values[] = {"1", "2", "a1", "ab", "xB", ""};
static const char *const ask_snis[] = {"a.com", "x.a.com", "b.org", "c.com", ""};

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* A route as drawn: indexes into the lists above. */
struct drawn {
    bool used;
    char id[SB_UUID_TEXT_LEN + 1];
    size_t hosts[LIST_MAX], paths[LIST_MAX], snis[LIST_MAX], values[2][LIST_MAX];
    size_t nhosts, npaths, nsnis, nvalues[2];
    unsigned methods; /* bits */
    int64_t regex_priority, created_at;
    struct sb_arena *arena;
    struct sb_route *route;
};

static uint64_t seed;
static enum sb_router_flavor flavor;
static regex_t compiled_paths[COUNT(paths)], compiled_values[COUNT(header_values)];

static size_t pick(size_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (size_t)(seed >> 11) % n;
}

static bool chance(size_t percent)
{
    return pick(100) < percent;
}

static size_t pick_list(size_t out[LIST_MAX], size_t of, size_t percent)
{
    size_t n = chance(percent) ? 1 + (chance(40) ? pick(LIST_MAX) : 0) : 0;

    for (size_t i = 0; i < n; i++)
        out[i] = pick(of);
    return n;
}

/* -- routes ----------------------------------------------------------------------------------- */

static struct sb_value *list_of(struct sb_arena *a, const char *const *names, const size_t *at,
                                size_t n)
{
    struct sb_value *list = sb_value_array(a);

    for (size_t i = 0; i < n; i++)
        sb_array_push(a, list, sb_value_text(a, names[at[i]]));
    return list;
}

static struct sb_value *row_of(struct drawn *d)
{
    struct sb_arena *a = d->arena;
    struct sb_value *row = sb_value_object(a), *list = sb_value_array(a), *map = sb_value_object(a);

    sb_object_set(a, row, SB_STR("id"), sb_value_text(a, d->id));
    sb_object_set(a, row, SB_STR("name"), sb_value_text(a, d->id));
    if (d->nhosts) /* a list that is given, but empty, ranks otherwise */
        sb_object_set(a, row, SB_STR("hosts"), list_of(a, hosts, d->hosts, d->nhosts));
    sb_object_set(a, row, SB_STR("paths"), list_of(a, paths, d->paths, d->npaths));
    sb_object_set(a, row, SB_STR("snis"), list_of(a, snis, d->snis, d->nsnis));
    for (size_t i = 0; i < COUNT(methods); i++) {
        if (d->methods & 1u << i)
            sb_array_push(a, list, sb_value_text(a, methods[i]));
    }
    sb_object_set(a, row, SB_STR("methods"), list);
    for (size_t i = 0; i < COUNT(header_names); i++) {
        if (d->nvalues[i])
            sb_object_set(a, map, sb_str_c(header_names[i]),
                          list_of(a, header_values, d->values[i], d->nvalues[i]));
    }
    sb_object_set(a, row, SB_STR("headers"), map);
    sb_object_set(a, row, SB_STR("regex_priority"), sb_value_int(a, d->regex_priority));
    sb_object_set(a, row, SB_STR("created_at"), sb_value_int(a, d->created_at));
    return row;
}

static void draw(struct drawn *d)
{
    bool again = d->used && chance(50); /* the same id: a change */

    sb_arena_free(d->arena);
    if (!again)
        snprintf(d->id, sizeof d->id, "%08zx-0000-4000-8000-%012zx", pick(1u << 31),
                 pick(1u << 31));
    d->used = true;
    d->arena = sb_arena_new(0);
    do {
        d->nhosts = pick_list(d->hosts, COUNT(hosts), 55);
        d->npaths = pick_list(d->paths, COUNT(paths), 75);
        d->nsnis = pick_list(d->snis, COUNT(snis), 15);
        d->methods = chance(35) ? (unsigned)pick(1u << COUNT(methods)) : 0;
        d->nvalues[0] = pick_list(d->values[0], COUNT(header_values), 20);
        d->nvalues[1] = pick_list(d->values[1], COUNT(header_values), 10);
    } while (!d->nhosts && !d->npaths && !d->nsnis && !d->methods && !d->nvalues[0] &&
             !d->nvalues[1]);
    for (size_t i = 0; i < d->nsnis && flavor == SB_ROUTER_TRADITIONAL; i++)
        d->snis[i] = strchr(snis[d->snis[i]], '*') ? 0 : d->snis[i];
    d->regex_priority = regex_priorities[pick(COUNT(regex_priorities))];
    d->created_at = (int64_t)pick(6);
}

/* -- requests --------------------------------------------------------------------------------- */

struct ask {
    struct sb_router_request q;
    struct sb_router_header headers[2];
};

static void draw_request(struct ask *ask)
{
    bool https = chance(40);

    *ask = (struct ask){0};
    ask->q = (struct sb_router_request){
        .method = sb_str_c(methods[pick(COUNT(methods))]),
        .scheme = https ? SB_PROTO_HTTPS : SB_PROTO_HTTP,
        .host = sb_str_c(ask_hosts[pick(COUNT(ask_hosts))]),
        .path = sb_str_c(ask_paths[pick(COUNT(ask_paths))]),
        .sni = sb_str_c(https ? ask_snis[pick(COUNT(ask_snis))] : ""),
        .headers = ask->headers,
        .destination_port = 8000,
    };
    ask->q.nheaders = pick(3);
    for (size_t i = 0; i < ask->q.nheaders; i++) {
        static const char *const names[] = {"X", "y-z", "y_z", "Y-Z"};

        ask->headers[i].name = sb_str_c(names[pick(COUNT(names))]);
        ask->headers[i].value = sb_str_c(ask_values[pick(COUNT(ask_values))]);
    }
}

/* -- the obvious router ----------------------------------------------------------------------- */

/* What competes, and what it leaves behind. */
struct contender {
    const struct drawn *d;
    uint64_t rank[10]; /* compared from the left, the greater wins */
    size_t prefix_len;
};

static void consider(struct contender *best, const struct contender *c)
{
    for (size_t i = 0; best->d && i < COUNT(c->rank); i++) {
        if (c->rank[i] != best->rank[i]) {
            if (c->rank[i] < best->rank[i])
                return;
            break;
        }
    }
    *best = *c;
}

static bool obvious_pattern(const char *pattern, struct sb_str name)
{
    size_t len = strlen(pattern);

    if (pattern[0] == '*')
        return sb_str_ends(name, sb_str_c(pattern + 1));
    if (pattern[len - 1] == '*')
        return sb_str_starts(name, sb_str_n(pattern, len - 1));
    return sb_str_is(name, pattern);
}

/* "name:port": the name's length, and the port or 0. */
static size_t obvious_port(const char *host, unsigned *port)
{
    const char *colon = strchr(host, ':');

    *port = colon ? (unsigned)atoi(colon + 1) : 0;
    return colon ? (size_t)(colon - host) : strlen(host);
}

static bool obvious_host(const char *pattern, const char *asked)
{
    char name[64];
    unsigned want, have;
    size_t len = obvious_port(asked, &have);

    snprintf(name, sizeof name, "%.*s", (int)obvious_port(pattern, &want), pattern);
    if (!have)
        have = 8000;
    return *asked && obvious_pattern(name, sb_str_n(asked, len)) && (!want || want == have);
}

static bool obvious_hosts(const struct drawn *d, const struct ask *ask)
{
    for (size_t i = 0; i < d->nhosts; i++) {
        if (obvious_host(hosts[d->hosts[i]], ask->q.host.p))
            return true;
    }
    return d->nhosts == 0;
}

static bool obvious_method(const struct drawn *d, const struct ask *ask)
{
    for (size_t i = 0; i < COUNT(methods); i++) {
        if (d->methods & 1u << i && sb_str_is(ask->q.method, methods[i]))
            return true;
    }
    return d->methods == 0;
}

static bool obvious_sni(const struct drawn *d, const struct ask *ask)
{
    for (size_t i = 0; i < d->nsnis; i++) {
        if (ask->q.sni.len && obvious_pattern(snis[d->snis[i]], ask->q.sni))
            return true;
    }
    return d->nsnis == 0 || ask->q.scheme == SB_PROTO_HTTP;
}

static bool obvious_value(size_t value, struct sb_str have, bool regex)
{
    const char *want = header_values[value];

    return !regex || strncmp(want, "~*", 2) ? sb_str_ieq(sb_str_c(want), have)
                                            : !regexec(&compiled_values[value], have.p, 0, NULL, 0);
}

static bool obvious_name(size_t which, const char *name)
{
    return which == 0                 ? !strcasecmp(name, "x")
           : !strcasecmp(name, "y-z") ? true
                                      : flavor != SB_ROUTER_TRADITIONAL && !strcmp(name, "y_z");
}

static bool obvious_header(const struct drawn *d, size_t which, const struct ask *ask)
{
    bool regex = flavor != SB_ROUTER_TRADITIONAL || d->nvalues[which] == 1;

    for (size_t h = 0; h < ask->q.nheaders; h++) {
        if (!obvious_name(which, ask->headers[h].name.p))
            continue;
        for (size_t i = 0; i < d->nvalues[which]; i++) {
            if (obvious_value(d->values[which][i], ask->headers[h].value, regex))
                return true;
        }
    }
    return d->nvalues[which] == 0;
}

/* -1: no match; else how much of the path it covers. */
static int obvious_path(size_t path, const struct ask *ask)
{
    regmatch_t m;

    if (flavor == SB_ROUTER_TRADITIONAL &&
        !strcmp(paths[path], "~/a|/b")) /* the tail is the last's */
        return ask->q.path.p[1] == 'a' ? 0 : ask->q.path.p[1] == 'b' ? 2 : -1;
    if (paths[path][0] != '~')
        return sb_str_starts(ask->q.path, sb_str_c(paths[path])) ? (int)strlen(paths[path]) : -1;
    return regexec(&compiled_paths[path], ask->q.path.p, 1, &m, 0) ? -1 : (int)(m.rm_eo - m.rm_so);
}

static void uuid_rank(const char *text, uint64_t out[2])
{
    struct sb_uuid u;

    assert_true(sb_uuid_parse(sb_str_c(text), &u));
    out[0] = out[1] = 0;
    for (int i = 0; i < 16; i++)
        out[i / 8] = out[i / 8] << 8 | u.b[i];
}

/* Kong's number as traffic sees it, field by field. */
static uint64_t obvious_priority(const struct drawn *d, bool regex, size_t len)
{
    unsigned kinds =
        !!d->nhosts + !!d->npaths + !!d->nsnis + !!d->methods + (d->nvalues[0] || d->nvalues[1]);
    uint64_t headers = (uint64_t)(!!d->nvalues[0] + !!d->nvalues[1]) << 20;
    uint32_t w = kinds << 29, p = regex ? (uint32_t)d->regex_priority << 19 : 0;
    bool plain = d->nhosts > 0;
    uint64_t sum = headers | len;

    for (size_t i = 0; i < d->nhosts; i++)
        plain &= !strchr(hosts[d->hosts[i]], '*');
    if (!plain && !regex)
        return w >> 31 ? 1ULL << 63 : sum | w;
    sum |= w >> 31 ? 1ULL << 63 : w;
    sum |= p >> 31 ? 1ULL << 63 : p;
    return sum | (uint64_t)plain << 60 | (uint64_t)regex << 51;
}

/* The paths that compete together with path number `at`: its length, or all regexes. */
static size_t group_of(size_t path)
{
    return paths[path][0] == '~' ? 0 : strlen(paths[path]);
}

static void compatible_group(struct contender *best, const struct drawn *d, const struct ask *ask,
                             size_t group, size_t index)
{
    static const struct sb_uuid parts = {{0x7f, 0x14, 0x5b, 0xf9, 0x0d, 0xce, 0x4f, 0x91, 0x98,
                                          0xeb, 0xde, 0xbb, 0xce, 0x4b, 0x9f, 0x6b}};
    struct contender c = {.d = d};
    char name[64], id[SB_UUID_TEXT_LEN + 1];
    bool split = false;
    int len = -1;

    for (size_t i = 0; i < d->npaths && len < 0; i++) {
        if (group_of(d->paths[i]) == group)
            len = obvious_path(d->paths[i], ask);
    }
    if (len < 0)
        return;
    for (size_t i = 0; i < d->npaths; i++)
        split |= group_of(d->paths[i]) != group;
    snprintf(name, sizeof name, "%s#%zu", d->id, index);
    if (split) {
        struct sb_uuid part = sb_uuid_v5(&parts, sb_str_c(name));

        sb_uuid_format(&part, id);
    } else {
        strcpy(id, d->id);
    }
    c.prefix_len = (size_t)len;
    c.rank[0] = obvious_priority(d, group == 0, group);
    uuid_rank(id, c.rank + 1);
    consider(best, &c);
}

static void compatible_route(struct contender *best, const struct drawn *d, const struct ask *ask)
{
    size_t index = 0;

    if (!obvious_hosts(d, ask) || !obvious_method(d, ask) || !obvious_sni(d, ask) ||
        !obvious_header(d, 0, ask) || !obvious_header(d, 1, ask))
        return;
    if (!d->npaths) {
        struct contender c = {.d = d, .rank = {obvious_priority(d, false, 0)}};

        uuid_rank(d->id, c.rank + 1);
        consider(best, &c);
    }
    for (size_t i = 0; i < d->npaths; i++) {
        bool seen = false;

        for (size_t k = 0; k < i; k++)
            seen |= group_of(d->paths[k]) == group_of(d->paths[i]);
        if (!seen)
            compatible_group(best, d, ask, group_of(d->paths[i]), ++index);
    }
}

/* -- the same for the old router -------------------------------------------------------------- */

enum { NO, YES, PORT_FIRST };

static int traditional_host(const char *pattern, const struct ask *ask)
{
    char name[64];
    unsigned want, have;
    size_t len = obvious_port(ask->q.host.p, &have), name_len = obvious_port(pattern, &want);

    snprintf(name, sizeof name, "%.*s", (int)name_len, pattern);
    if (!strchr(pattern, '*'))
        return sb_str_is(ask->q.host, pattern) && want                      ? PORT_FIRST
               : sb_str_eq(sb_str_c(pattern), sb_str_n(ask->q.host.p, len)) ? YES
                                                                            : NO;
    if (!have)
        have = ask->q.scheme == SB_PROTO_HTTPS ? 443 : 80;
    return len && obvious_pattern(name, sb_str_n(ask->q.host.p, len)) && (!want || want == have);
}

static int traditional_hosts(const struct drawn *d, const struct ask *ask)
{
    int best = d->nhosts ? NO : YES;

    for (size_t i = 0; i < d->nhosts; i++) {
        int fits = traditional_host(hosts[d->hosts[i]], ask);

        best = fits > best ? fits : best;
    }
    return best;
}

static unsigned category_of(const struct drawn *d)
{
    return (d->nhosts ? 0x40 : 0) | (d->nvalues[0] || d->nvalues[1] ? 0x20 : 0) |
           (d->npaths ? 0x10 : 0) | (d->methods ? 0x08 : 0) | (d->nsnis ? 0x04 : 0);
}

/* What the request can satisfy of a route that its host and path lead to. */
static unsigned traditional_hits(const struct drawn *d, const struct ask *ask)
{
    unsigned hit = category_of(d) & 0x50;
    bool path = d->npaths == 0;

    for (size_t i = 0; i < d->npaths; i++)
        path |= obvious_path(d->paths[i], ask) >= 0;
    if (!path || !traditional_hosts(d, ask))
        return 0;
    if (d->methods && obvious_method(d, ask))
        hit |= 0x08;
    for (size_t which = 0; which < 2; which++) {
        for (size_t h = 0; h < ask->q.nheaders && d->nvalues[which]; h++)
            hit |= obvious_name(which, ask->headers[h].name.p) ? 0x20 : 0;
    }
    return hit;
}

/* Is a route with SNIs looked at on a connection without TLS? */
static bool traditional_waiver(const struct drawn *d, const struct drawn slots[SLOTS],
                               const struct ask *ask)
{
    unsigned hit = 0, rest = category_of(d) & ~0x04u;
    bool there = false;

    if (ask->q.scheme == SB_PROTO_HTTPS || !d->nsnis)
        return true;
    for (size_t i = 0; i < SLOTS; i++) {
        if (slots[i].used) {
            hit |= traditional_hits(&slots[i], ask);
            there |= category_of(&slots[i]) == rest;
        }
    }
    return (hit & ~rest) || (rest && !there);
}

static void traditional_contend(struct contender *best, const struct drawn *d, int host, bool regex,
                                size_t length, size_t covered, size_t index)
{
    unsigned sub = regex, category = category_of(d);
    struct contender c = {.d = d, .prefix_len = covered};
    uint64_t id[2];
    bool plain = d->nhosts > 0;

    for (size_t i = 0; i < d->nhosts; i++) {
        bool wild = strchr(hosts[d->hosts[i]], '*');

        plain &= !wild;
        sub |= wild && strchr(hosts[d->hosts[i]], ':') ? 4 : 0;
    }
    uuid_rank(d->id, id);
    c.rank[0] = (uint64_t)__builtin_popcount(category);
    c.rank[1] = category;
    c.rank[2] = host == PORT_FIRST;
    c.rank[3] = sub | (plain ? 2 : 0);
    c.rank[4] = (uint64_t)(!!d->nvalues[0] + !!d->nvalues[1]);
    c.rank[5] = regex ? (uint64_t)(d->regex_priority + 100) : 0;
    c.rank[6] = length;
    c.rank[7] = 100 - (uint64_t)d->created_at;
    c.rank[8] = id[1] << 10; /* the end of it */
    c.rank[9] = 100 - index;
    consider(best, &c);
}

static void traditional_route(struct contender *best, const struct drawn *d,
                              const struct drawn slots[SLOTS], const struct ask *ask)
{
    int host = traditional_hosts(d, ask);

    if (!host || !obvious_method(d, ask) || !obvious_sni(d, ask) || !obvious_header(d, 0, ask) ||
        !obvious_header(d, 1, ask) || !traditional_waiver(d, slots, ask))
        return;
    if (!d->npaths)
        traditional_contend(best, d, host, false, 0, 0, 0);
    for (size_t i = 0; i < d->npaths; i++) {
        int covered = obvious_path(d->paths[i], ask);

        if (covered >= 0)
            traditional_contend(best, d, host, group_of(d->paths[i]) == 0, group_of(d->paths[i]),
                                (size_t)covered, i);
    }
}

/* -- the comparison --------------------------------------------------------------------------- */

/* The explanation names the same winner, finds every condition that fits, and no higher rank. */
static void explain(struct sb_router_builder *b, const struct ask *ask)
{
    struct sb_arena *a = sb_arena_new(0);
    const struct sb_router *r = sb_router_build(b);
    struct sb_router_verdict *v;
    struct sb_router_match m;
    bool found = sb_router_match(r, &ask->q, &m);
    size_t n = sb_router_explain(b, &ask->q, a, &v), wins = 0;

    for (size_t i = 0; i < n; i++) {
        wins += v[i].wins;
        assert_true(!v[i].wins || (found && v[i].route == m.route));
        assert_true(v[i].wins == (v[i].why.len == 0));
        if (v[i].fits && !wins && !sb_str_starts(v[i].why, SB_STR("snis: ")))
            fail_msg("%s fits and ranks above: %.*s", v[i].route->id.p, SB_ARG(v[i].why));
    }
    assert_int_equal(wins, found);
    sb_router_drop(b, r);
    sb_arena_free(a);
}

static void compare(const struct sb_router *r, const struct drawn slots[SLOTS],
                    const struct ask *ask)
{
    struct contender best = {0};
    struct sb_router_match m;
    bool found = sb_router_match(r, &ask->q, &m);

    for (size_t i = 0; i < SLOTS; i++) {
        if (slots[i].used && flavor == SB_ROUTER_TRADITIONAL)
            traditional_route(&best, &slots[i], slots, ask);
        else if (slots[i].used)
            compatible_route(&best, &slots[i], ask);
    }
    if (found != (best.d != NULL) || (found && m.route != best.d->route) ||
        (found && m.prefix_len != best.prefix_len))
        fail_msg("%.*s %.*s%.*s sni '%.*s': router %s (%zu), obvious %s (%zu)",
                 SB_ARG(ask->q.method), SB_ARG(ask->q.host), SB_ARG(ask->q.path),
                 SB_ARG(ask->q.sni), found ? m.route->id.p : "none", found ? m.prefix_len : 0,
                 best.d ? best.d->id : "none", best.prefix_len);
}

static void change(struct sb_router_builder *b, struct drawn *d)
{
    char old[sizeof d->id];
    bool had = d->used;

    strcpy(old, d->id);
    if (had && chance(20)) {
        d->used = false;
    } else {
        struct sb_value *row;
        struct sb_err err;

        draw(d);
        row = row_of(d);
        d->route = make_route(d->arena, row);
        if (sb_router_put(b, &(struct sb_router_source){row, d->route}, &err))
            fail_msg("%s", err.text);
    }
    if (had && (!d->used || strcmp(old, d->id)))
        sb_router_remove(b, sb_str_c(old));
}

static long from_env(const char *name, long def)
{
    const char *text = getenv(name);

    return text ? atol(text) : def;
}

static void compile_pools(void)
{
    for (size_t i = 0; i < COUNT(paths); i++) {
        char text[64];

        snprintf(text, sizeof text, "^%s", paths[i] + 1);
        assert_int_equal(regcomp(&compiled_paths[i], text, REG_EXTENDED), 0);
    }
    for (size_t i = 0; i < COUNT(header_values); i++)
        assert_int_equal(regcomp(&compiled_values[i],
                                 header_values[i] + (strncmp(header_values[i], "~*", 2) ? 0 : 2),
                                 REG_EXTENDED | REG_ICASE | REG_NOSUB),
                         0);
}

static void free_pools(void)
{
    for (size_t i = 0; i < COUNT(paths); i++)
        regfree(&compiled_paths[i]);
    for (size_t i = 0; i < COUNT(header_values); i++)
        regfree(&compiled_values[i]);
}

static void check_flavor(enum sb_router_flavor of)
{
    struct sb_router_builder *b = sb_router_builder_new(of);
    static struct drawn slots[SLOTS];
    const struct sb_router *before = NULL;
    long checks = from_env("ROUTER_CHECKS", CHECKS);

    seed = (uint64_t)from_env("ROUTER_SEED", 1) * 0x9E3779B97F4A7C15u;
    flavor = of;
    memset(slots, 0, sizeof slots);
    compile_pools();
    for (long n = 0; n < checks; n += REQUESTS) {
        const struct sb_router *r;

        for (size_t i = 1 + pick(4); i > 0; i--)
            change(b, &slots[pick(SLOTS)]);
        r = sb_router_build(b);
        for (int i = 0; i < REQUESTS; i++) {
            struct ask ask;

            draw_request(&ask);
            compare(r, slots, &ask);
        }
        if (n % (REQUESTS * 10) == 0) {
            struct ask ask;

            draw_request(&ask);
            explain(b, &ask);
        }
        sb_router_drop(b, before); /* a version lives on while the next is made */
        before = r;
    }
    sb_router_drop(b, before);
    sb_router_builder_free(b);
    for (size_t i = 0; i < SLOTS; i++)
        sb_arena_free(slots[i].arena);
    free_pools();
}

static void traditional_compatible(void **state)
{
    (void)state;
    check_flavor(SB_ROUTER_TRADITIONAL_COMPATIBLE);
}

static void traditional(void **state)
{
    (void)state;
    check_flavor(SB_ROUTER_TRADITIONAL);
}

/* Routes with attributes compete there by the same rules. */
static void expressions(void **state)
{
    (void)state;
    check_flavor(SB_ROUTER_EXPRESSIONS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(traditional_compatible),
        cmocka_unit_test(traditional),
        cmocka_unit_test(expressions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
