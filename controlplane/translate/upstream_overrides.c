/* upstream_overrides.c - what Services say about the upstream they are behind: KongIngress (its
 * last remains), konghq.com/host-header, KongUpstreamPolicy; the later wins.
 *
 * Both resources hold the fields of an upstream, one under Kong's names and one under its own: one
 * table for both.
 */
#include <stdio.h>

#include "controlplane/translate/annotations.h"
#include "controlplane/translate/fields.h"
#include "controlplane/translate/translator.h"

struct field {
    const char *kong;   /* the upstream's; of a KongIngress, below `upstream` */
    const char *policy; /* of a KongUpstreamPolicy, below `spec`; NULL: not by copying */
};

static const struct field fields[] = {
    {"algorithm", "algorithm"},
    {"slots", "slots"},
    {"host_header", NULL},
    {"hash_on", NULL},
    {"hash_on_header", "hashOn.header"},
    {"hash_on_cookie", "hashOn.cookie"},
    {"hash_on_cookie_path", "hashOn.cookiePath"},
    {"hash_on_query_arg", "hashOn.queryArg"},
    {"hash_on_uri_capture", "hashOn.uriCapture"},
    {"hash_fallback", NULL},
    {"hash_fallback_header", "hashOnFallback.header"},
    {"hash_fallback_query_arg", "hashOnFallback.queryArg"},
    {"hash_fallback_uri_capture", "hashOnFallback.uriCapture"},
    {"sticky_sessions_cookie", "stickySessions.cookie"},
    {"sticky_sessions_cookie_path", "stickySessions.cookiePath"},
    {"healthchecks", NULL},
};

/* healthchecks are replaced as a whole. */
static const struct field healthchecks[] = {
    {"threshold", "threshold"},
    {"active.type", "active.type"},
    {"active.concurrency", "active.concurrency"},
    {"active.timeout", "active.timeout"},
    {"active.http_path", "active.httpPath"},
    {"active.https_sni", "active.httpsSni"},
    {"active.https_verify_certificate", "active.httpsVerifyCertificate"},
    {"active.headers", "active.headers"},
    {"active.healthy.http_statuses", "active.healthy.httpStatuses"},
    {"active.healthy.interval", "active.healthy.interval"},
    {"active.healthy.successes", "active.healthy.successes"},
    {"active.unhealthy.http_failures", "active.unhealthy.httpFailures"},
    {"active.unhealthy.http_statuses", "active.unhealthy.httpStatuses"},
    {"active.unhealthy.tcp_failures", "active.unhealthy.tcpFailures"},
    {"active.unhealthy.timeouts", "active.unhealthy.timeouts"},
    {"active.unhealthy.interval", "active.unhealthy.interval"},
    {"passive.type", "passive.type"},
    {"passive.healthy.http_statuses", "passive.healthy.httpStatuses"},
    {"passive.healthy.interval", "passive.healthy.interval"},
    {"passive.healthy.successes", "passive.healthy.successes"},
    {"passive.unhealthy.http_failures", "passive.unhealthy.httpFailures"},
    {"passive.unhealthy.http_statuses", "passive.unhealthy.httpStatuses"},
    {"passive.unhealthy.tcp_failures", "passive.unhealthy.tcpFailures"},
    {"passive.unhealthy.timeouts", "passive.unhealthy.timeouts"},
    {"passive.unhealthy.interval", "passive.unhealthy.interval"},
};

#define LEN(table) (sizeof(table) / sizeof *(table))

/* Sets a member of members, making those on the way. */
static void set_at(struct sb_arena *a, struct sb_value *object, const char *path,
                   struct sb_value *v)
{
    struct sb_str rest = sb_str_c(path), name;

    while (sb_str_split(&rest, '.', &name) && rest.p) {
        struct sb_value *inner = sb_object_get(object, name);

        if (!inner) {
            inner = sb_value_object(a);
            sb_object_set(a, object, name, inner);
        }
        object = inner;
    }
    sb_object_set(a, object, name, v);
}

static void copy_fields(struct sb_arena *a, const struct field *table, size_t n, bool policy,
                        const struct sb_value *from, struct sb_value *to)
{
    for (size_t i = 0; i < n; i++) {
        const char *path = policy ? table[i].policy : table[i].kong;
        const struct sb_value *v = path ? sb_value_at(from, path) : NULL;

        if (!sb_is_nil(v))
            set_at(a, to, table[i].kong, sb_value_copy(a, v));
    }
}

/* A failure of each of the Services. */
static void blame_services(struct unit *u, const struct outcome *o, struct sb_str words)
{
    for (size_t i = 0; i < o->seed->nbackends; i++) {
        if (o->served[i].service)
            unit_fail(u, object_ref(u->arena, o->served[i].service), "%.*s", SB_ARG(words));
    }
}

/* -- KongIngress
 * ----------------------------------------------------------------------------------- */

/* The first that any of the Services names; validation sees to it that they agree. Ignored below a
 * Gateway. */
static void kong_ingress(struct sb_translator *t, struct unit *u, const struct outcome *o,
                         struct sb_value *upstream)
{
    for (size_t i = 0; i < o->seed->nbackends; i++) {
        struct sb_str name = kong_annotation(o->served[i].annotations, "override");
        const struct sb_value *object;

        if (!name.len)
            continue;
        object = read_object(t, u, "KongIngress", sb_object_ns(o->served[i].service), name);
        if (object)
            copy_fields(u->arena, fields, LEN(fields), false, sb_get(object, "upstream"), upstream);
        else
            blame_services(u, o,
                           sb_arena_printf(u->arena,
                                           "failed to get KongIngress: KongIngress %.*s not found",
                                           SB_ARG(name)));
        return;
    }
}

/* -- KongUpstreamPolicy
 * ---------------------------------------------------------------------------- */

/* What a hash is of, as Kong names it. */
static const char *hash_kind(const struct sb_value *hash, struct sb_str *input)
{
    static const struct field kinds[] = {
        {"header", "header"},
        {"cookie", "cookie"},
        {"query_arg", "queryArg"},
        {"uri_capture", "uriCapture"},
    };

    *input = sb_value_str_at(hash, "input");
    if (input->len)
        return NULL;
    for (size_t i = 0; i < LEN(kinds); i++) {
        if (!sb_is_nil(sb_get(hash, kinds[i].policy)))
            return kinds[i].kong;
    }
    return NULL;
}

static void set_hash(struct sb_arena *a, struct sb_value *upstream, const char *field,
                     const struct sb_value *hash)
{
    struct sb_str input;
    const char *kind = hash_kind(hash, &input);

    if (kind)
        set_text(a, upstream, field, kind);
    else if (input.len)
        set_str(a, upstream, field, sb_arena_str(a, input));
}

static void apply_policy(struct sb_arena *a, const struct sb_value *spec, struct sb_value *upstream)
{
    const struct sb_value *checks = sb_get(spec, "healthchecks");
    struct sb_value *into;

    copy_fields(a, fields, LEN(fields), true, spec, upstream);
    set_hash(a, upstream, "hash_on", sb_get(spec, "hashOn"));
    set_hash(a, upstream, "hash_fallback", sb_get(spec, "hashOnFallback"));
    if (sb_is_nil(checks))
        return;
    into = sb_value_object(a);
    copy_fields(a, healthchecks, LEN(healthchecks), true, checks, into);
    set_value(a, upstream, "healthchecks", into);
}

/* Sticky sessions are known from 3.11 on. */
static bool knows_sticky_sessions(const char *kong_version)
{
    int major = 0, minor = 0;

    return sscanf(kong_version, "%d.%d", &major, &minor) == 2 &&
           (major > 3 || (major == 3 && minor >= 11));
}

static void policy(struct sb_translator *t, struct unit *u, const struct sb_value *service,
                   const struct outcome *o, struct sb_str name, struct sb_value *upstream)
{
    struct sb_str ns = sb_object_ns(service);
    const struct sb_value *object = read_object(t, u, "KongUpstreamPolicy", ns, name);
    const struct sb_value *spec = sb_get(object, "spec");
    struct sb_arena *a = u->arena;
    struct sb_str words = {0};

    if (!object)
        words = sb_arena_printf(
            a, "failed fetching KongUpstreamPolicy: KongUpstreamPolicy %.*s/%.*s not found",
            SB_ARG(ns), SB_ARG(name));
    else if (sb_str_is(sb_value_str_at(spec, "algorithm"), "sticky-sessions") &&
             !knows_sticky_sessions(t->settings->kong_version))
        words = sb_arena_printf(a,
                                "sticky sessions algorithm specified in KongUpstreamPolicy '%.*s' "
                                "is not supported with Kong Gateway versions < 3.11.0",
                                SB_ARG(name));
    if (words.len)
        blame_services(u, o, words);
    else
        apply_policy(a, spec, upstream);
}

/* All Services say the same, or the service would not be (service.c). */
static void upstream_policy(struct sb_translator *t, struct unit *u, const struct outcome *o,
                            struct sb_value *upstream)
{
    for (size_t i = 0; i < o->seed->nbackends; i++) {
        struct sb_str name = kong_annotation(o->served[i].annotations, "upstream-policy");

        if (name.p) {
            policy(t, u, o->served[i].service, o, name, upstream);
            return;
        }
    }
}

void upstream_overrides(struct sb_translator *t, struct unit *u, const struct outcome *o,
                        struct sb_value *upstream)
{
    if (!o->seed->below_gateway)
        kong_ingress(t, u, o, upstream);
    for (size_t i = 0; i < o->seed->nbackends; i++) {
        struct sb_str header = kong_annotation(o->served[i].annotations, "host-header");

        if (header.len)
            set_str(u->arena, upstream, "host_header", sb_arena_str(u->arena, header));
    }
    upstream_policy(t, u, o, upstream);
}
