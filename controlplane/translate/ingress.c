/* ingress.c - networking.k8s.io/v1 Ingress (kic-translation.md 3).
 *
 * Paths with the same host, backend and port are one route:
 *
 *     rules:  a.com /x -> web:80   ──> route ns.name.web.a.com.80  paths of /x and /z
 *             a.com /y -> api:80   ──> route ns.name.api.a.com.80
 *             a.com /z -> web:80   ──'
 */
#include <stdlib.h>

#include "controlplane/translate/annotations.h"
#include "controlplane/translate/fields.h"
#include "controlplane/translate/translator.h"

enum { DEFAULT_PORT = 80, DEFAULT_TIMEOUT_MS = 60000, DEFAULT_RETRIES = 5 };

#define FACADE_GROUP "incubator.ingress-controller.konghq.com"
#define FACADE_OFF                                                                                 \
    "KongServiceFacade is not enabled, please set the \"KongServiceFacade\" feature gate to "      \
    "'true' to enable it"

/* An Ingress on its way, and what is the same for all its rules. */
struct ingress {
    struct sb_translator *t;
    struct unit *u;
    struct sb_arena *a;
    struct source *source;
    const struct sb_value *object, *annotations;
    struct sb_str ns, name, ref;
    struct sb_value *tags;
};

/* A backend of a path, and what is named after it. */
struct target {
    struct backend backend;
    struct sb_str port;            /* as names spell it */
    const struct sb_value *facade; /* the object; NULL: a Service */
};

/* The paths of one host and backend. */
struct group {
    struct group *next;
    struct sb_str host;
    struct target target;
    struct ingress_path *paths, **last_path;
};

static struct ingress ingress_of(struct sb_translator *t, struct unit *u, struct source *s,
                                 const struct sb_value *object)
{
    struct sb_arena *a = u->arena;

    return (struct ingress){
        .t = t,
        .u = u,
        .a = a,
        .source = s,
        .object = object,
        .annotations = annotations_of(object),
        .ns = s->order.ns,
        .name = s->order.name,
        .ref = object_ref(a, object),
        .tags = tags_of(a, object),
    };
}

struct sb_str port_text(struct sb_arena *a, const struct port_ref *port)
{
    switch (port->mode) {
    case PORT_NUMBER:
        return sb_arena_printf(a, "%lld", (long long)port->number);
    case PORT_NAME:
        return port->name;
    case PORT_IMPLICIT:
        break;
    }
    return SB_STR("implicitPort");
}

/* -- backends
 * -------------------------------------------------------------------------------------- */

/* Rules and the default backend say the same thing in other words. */
struct words {
    const char *unknown, *missing, *missing_too;
};
static const struct words rule_words = {
    "unknown resource type ",
    "failed to get KongServiceFacade ",
    "",
};
static const struct words default_words = {
    "unsupported resource type ",
    "KongServiceFacade ",
    " could not be fetched",
};

static struct port_ref port_of(struct sb_arena *a, const struct sb_value *port)
{
    struct port_ref ref = {.number = sb_value_int_at(port, "number", 0)};

    ref.name = sb_arena_str(a, sb_value_str_at(port, "name"));
    ref.mode = ref.number ? PORT_NUMBER : ref.name.len ? PORT_NAME : PORT_IMPLICIT;
    return ref;
}

static bool facade_target(const struct ingress *in, const struct sb_value *resource,
                          const struct words *words, struct target *out, struct sb_str *error)
{
    struct sb_str kind = sb_value_str_at(resource, "kind");
    struct sb_str group = sb_value_str_at(resource, "apiGroup");
    struct sb_str name = sb_arena_str(in->a, sb_value_str_at(resource, "name"));

    if (!sb_str_is(kind, "KongServiceFacade") || !sb_str_is(group, FACADE_GROUP)) {
        *error = sb_arena_printf(in->a, "%s%.*s%s%.*s", words->unknown, SB_ARG(group),
                                 sb_get(resource, "apiGroup") ? "/" : "", SB_ARG(kind));
        return false;
    }
    if (!in->t->settings->service_facade) {
        *error = SB_STR(FACADE_OFF);
        return false;
    }
    out->facade = read_object(in->t, in->u, "KongServiceFacade", in->ns, name);
    if (!out->facade) {
        *error = sb_arena_printf(in->a, "%s\"%.*s\"%s: KongServiceFacade %.*s/%.*s not found",
                                 words->missing, SB_ARG(name), words->missing_too, SB_ARG(in->ns),
                                 SB_ARG(name));
        return false;
    }
    out->backend = (struct backend){
        .ns = in->ns,
        .name = name,
        .service = sb_arena_str(in->a, sb_value_str_at(out->facade, "spec.backendRef.name")),
        .facade = true,
        .port = {PORT_NUMBER, sb_value_int_at(out->facade, "spec.backendRef.port", 0)},
        .weight = UNSET,
    };
    return true;
}

static bool target_of(const struct ingress *in, const struct sb_value *backend,
                      const struct words *words, struct target *out, struct sb_str *error)
{
    const struct sb_value *service = sb_get(backend, "service");
    const struct sb_value *resource = sb_get(backend, "resource");

    *out = (struct target){0};
    if (!sb_is_nil(service)) {
        struct sb_str name = sb_arena_str(in->a, sb_value_str_at(service, "name"));

        out->backend = (struct backend){
            .ns = in->ns,
            .name = name,
            .service = name,
            .port = port_of(in->a, sb_get(service, "port")),
            .weight = UNSET,
        };
    } else if (sb_is_nil(resource)) {
        *error = SB_STR("no Service or Resource specified for Ingress path");
        return false;
    } else if (!facade_target(in, resource, words, out, error)) {
        return false;
    }
    out->port = port_text(in->a, &out->backend.port);
    return true;
}

static struct seed *seed_of(const struct ingress *in, const struct target *target, const char *path)
{
    struct seed *seed = SB_NEW(in->a, struct seed);
    const struct backend *b = &target->backend;

    *seed = (struct seed){
        .protocol = "http",
        .path = path,
        .port = DEFAULT_PORT,
        .timeout_ms = DEFAULT_TIMEOUT_MS,
        .retries = DEFAULT_RETRIES,
        .backends = b,
        .nbackends = 1,
        .parent = in->ref,
        .parent_tags = in->tags,
    };
    if (b->facade) {
        seed->name = sb_arena_printf(in->a, "%.*s.%.*s.svc.facade", SB_ARG(b->ns), SB_ARG(b->name));
        seed->host = seed->name;
        seed->parent = object_ref(in->a, target->facade);
        seed->parent_tags = tags_of(in->a, target->facade);
        return seed;
    }
    seed->name = sb_arena_printf(in->a, "%.*s.%.*s.%.*s", SB_ARG(b->ns), SB_ARG(b->name),
                                 SB_ARG(target->port));
    seed->host = sb_arena_printf(in->a, "%.*s.%.*s.%.*s.svc", SB_ARG(b->name), SB_ARG(b->ns),
                                 SB_ARG(target->port));
    return seed;
}

/* -- paths
 * ----------------------------------------------------------------------------------------- */

/* Runs of slashes are one; an empty path is "/". */
static struct sb_str flatten(struct sb_arena *a, struct sb_str path)
{
    char *text = sb_arena_alloc(a, path.len + 1);
    size_t len = 0;

    for (size_t i = 0; i < path.len; i++) {
        if (!(path.p[i] == '/' && len && text[len - 1] == '/'))
            text[len++] = path.p[i];
    }
    return len ? sb_str_n(text, len) : SB_STR("/");
}

struct sb_str trim_slashes(struct sb_str path, bool both_ends)
{
    while (path.len && path.p[0] == '/')
        path = sb_str_from(path, 1);
    while (both_ends && path.len && path.p[path.len - 1] == '/')
        path.len--;
    return path;
}

static enum path_type path_type_of(const struct sb_value *path)
{
    static const struct {
        const char *name;
        enum path_type type;
    } types[] = {
        {"Prefix", PATH_PREFIX},
        {"Exact", PATH_EXACT},
        {"ImplementationSpecific", PATH_IMPLEMENTATION},
    };
    const struct sb_value *type = sb_get(path, "pathType");

    if (sb_is_nil(type))
        return PATH_IMPLEMENTATION;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (sb_is(type, SB_V_STR) && sb_str_is(type->s, types[i].name))
            return types[i].type;
    }
    return PATH_UNKNOWN;
}

/* What Kong 2 took for a regex. */
static bool looks_like_regex(struct sb_str path)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_~/%";

    for (size_t i = 0; i < path.len; i++) {
        if (!memchr(plain, path.p[i], sizeof plain - 1))
            return true;
    }
    return false;
}

/* How a path's author says "regex", as an annotation or by our default. */
struct regex_rule {
    struct sb_str prefix;
    bool legacy;
};

static void push_path(struct sb_arena *a, struct sb_value *paths, const struct regex_rule *rule,
                      struct sb_str path)
{
    if (sb_str_starts(path, rule->prefix)) {
        path = sb_str_from(path, rule->prefix.len);
        path = sb_arena_printf(a, "~%.*s", SB_ARG(path));
    } else if (rule->legacy && path.p[0] != '~' && looks_like_regex(path)) {
        path = sb_arena_printf(a, "~%.*s", SB_ARG(path));
    }
    sb_array_push(a, paths, sb_value_str(a, path));
}

static void push_paths(struct sb_arena *a, struct sb_value *paths, const struct regex_rule *rule,
                       const struct ingress_path *path)
{
    struct sb_str base = trim_slashes(path->path, path->type == PATH_PREFIX);

    switch (path->type) {
    case PATH_IMPLEMENTATION:
        push_path(a, paths, rule, path->path);
        break;
    case PATH_EXACT:
        push_path(a, paths, rule, sb_arena_printf(a, "~/%.*s$", SB_ARG(base)));
        break;
    case PATH_PREFIX:
        if (!base.len) {
            push_path(a, paths, rule, SB_STR("/"));
            break;
        }
        push_path(a, paths, rule, sb_arena_printf(a, "/%.*s/", SB_ARG(base)));
        push_path(a, paths, rule, sb_arena_printf(a, "~/%.*s$", SB_ARG(base)));
        break;
    case PATH_UNKNOWN:
        break;
    }
}

static struct sb_value *paths_of(const struct ingress *in, const struct ingress_path *path)
{
    struct sb_value *paths = sb_value_array(in->a);
    struct sb_str noted = kong_annotation(in->annotations, "regex-prefix");
    struct regex_rule rule = {
        .prefix = noted.p ? noted : SB_STR("/~"),
        .legacy = class_parameters(in->t, in->u).legacy_regex_detection,
    };

    for (; path; path = path->next)
        push_paths(in->a, paths, &rule, path);
    return paths;
}

/* -- routes
 * ---------------------------------------------------------------------------------------- */

static struct sb_value *route_base(const struct ingress *in)
{
    struct sb_value *route = sb_value_object(in->a);

    set_bool(in->a, route, "strip_path", false);
    set_bool(in->a, route, "preserve_host", true);
    set_bool(in->a, route, "request_buffering", true);
    set_bool(in->a, route, "response_buffering", true);
    set_value(in->a, route, "tags", in->tags);
    return route;
}

/* What KIC adds to every route when it goes out. */
static void route_finish(const struct ingress *in, struct sb_value *route)
{
    bool expressions = in->t->settings->expression_routes;

    route_annotations(in->a, route, in->annotations, expressions);
    if (!sb_get(route, "https_redirect_status_code"))
        set_int(in->a, route, "https_redirect_status_code", 426);
    if (!expressions && !sb_get(route, "path_handling"))
        set_text(in->a, route, "path_handling", "v0");
}

static int by_text(const void *a, const void *b)
{
    return sb_str_cmp((*(struct sb_value *const *)a)->s, (*(struct sb_value *const *)b)->s);
}

/* Sorted and unchecked; route_annotations puts a list that is valid back into its written order. */
static void route_protocols(const struct ingress *in, struct sb_value *route)
{
    struct sb_value *protocols = comma_list(in->a, kong_annotation(in->annotations, "protocols"));

    if (!protocols->count)
        return;
    qsort(protocols->items, protocols->count, sizeof *protocols->items, by_text);
    set_value(in->a, route, "protocols", protocols);
}

static struct sb_value *group_route(const struct ingress *in, const struct group *group)
{
    struct sb_value *route = route_base(in), *hosts = sb_value_array(in->a);

    route_protocols(in, route);
    if (in->t->settings->expression_routes) {
        ingress_expression(in->a, route, in->annotations, group->host, group->paths);
    } else {
        set_int(in->a, route, "regex_priority", 0);
        if (group->host.len) {
            sb_array_push(in->a, hosts, sb_value_str(in->a, group->host));
            set_value(in->a, route, "hosts", hosts);
        }
        set_value(in->a, route, "paths", paths_of(in, group->paths));
    }
    route_finish(in, route);
    return route;
}

/* A '*' is not allowed in names. */
static struct sb_str host_in_name(struct sb_arena *a, struct sb_str host)
{
    char *text = sb_arena_cstr(a, host);

    for (size_t i = 0; i < host.len; i++) {
        if (text[i] == '*')
            text[i] = '_';
    }
    return sb_str_n(text, host.len);
}

static struct sb_str group_name(const struct ingress *in, const struct group *group)
{
    struct sb_str host = host_in_name(in->a, group->host);
    const struct backend *b = &group->target.backend;

    if (b->facade)
        return sb_arena_printf(in->a, "%.*s.%.*s.%.*s.%.*s.svc.facade", SB_ARG(in->ns),
                               SB_ARG(in->name), SB_ARG(host), SB_ARG(b->name));
    return sb_arena_printf(in->a, "%.*s.%.*s.%.*s.%.*s.%.*s", SB_ARG(in->ns), SB_ARG(in->name),
                           SB_ARG(b->name), SB_ARG(host), SB_ARG(group->target.port));
}

/* konghq.com/rewrite: a request-transformer inside of the route. */
static void part_rewrite(const struct ingress *in, struct part *part)
{
    struct sb_str template = kong_annotation(in->annotations, "rewrite"), uri;
    struct sb_value *plugin, *config, *replace, *plugins;

    if (!template.p)
        return;
    if (!in->t->settings->rewrite_uris) {
        part->error =
            SB_STR("konghq.com/rewrite annotation not supported when rewrite uris disabled");
        return;
    }
    if (!rewrite_uri(in->a, template.len ? template : SB_STR("/"), &uri, &part->error))
        return;
    replace = sb_value_object(in->a);
    set_str(in->a, replace, "uri", uri);
    config = sb_value_object(in->a);
    set_value(in->a, config, "replace", replace);
    plugin = sb_value_object(in->a);
    set_text(in->a, plugin, "name", "request-transformer");
    set_value(in->a, plugin, "config", config);
    plugins = sb_value_array(in->a);
    sb_array_push(in->a, plugins, plugin);
    part->plugins = plugins;
}

static void group_part(const struct ingress *in, const struct group *group)
{
    struct part *part = source_part(in->u, in->source);

    part->seed = seed_of(in, &group->target, "/");
    part->object = in->ref;
    part->route_name = group_name(in, group);
    part->route = group_route(in, group);
    part_rewrite(in, part);
}

/* -- rules
 * ----------------------------------------------------------------------------------------- */

static bool same_target(const struct target *a, const struct target *b)
{
    return a->backend.facade == b->backend.facade && sb_str_eq(a->backend.name, b->backend.name) &&
           sb_str_eq(a->port, b->port);
}

static struct group *group_of(const struct ingress *in, struct group **groups, struct sb_str host,
                              const struct target *target)
{
    struct group *group;

    for (; *groups; groups = &(*groups)->next) {
        if (sb_str_eq((*groups)->host, host) && same_target(&(*groups)->target, target))
            return *groups;
    }
    *groups = group = SB_NEW(in->a, struct group);
    group->host = host;
    group->target = *target;
    group->last_path = &group->paths;
    return group;
}

static void add_path(const struct ingress *in, struct group **groups, struct sb_str host,
                     const struct sb_value *path)
{
    struct ingress_path *p = SB_NEW(in->a, struct ingress_path);
    struct target target;
    struct sb_str error;
    struct group *group;

    p->path = flatten(in->a, sb_value_str_at(path, "path"));
    p->type = path_type_of(path);
    if (!target_of(in, sb_get(path, "backend"), &rule_words, &target, &error)) {
        struct sb_str quoted = go_quoted(in->a, p->path);

        unit_fail(in->u, in->ref, "failed to get backend for ingress path %.*s: %.*s",
                  SB_ARG(quoted), SB_ARG(error));
        return;
    }
    group = group_of(in, groups, host, &target);
    *group->last_path = p;
    group->last_path = &p->next;
}

static void ingress_rules(const struct ingress *in)
{
    struct group *groups = NULL;
    struct sb_value *rule, *path;

    sb_array_each (rule, sb_value_at(in->object, "spec.rules")) {
        struct sb_str host = sb_arena_str(in->a, sb_value_str_at(rule, "host"));

        sb_array_each (path, sb_value_at(rule, "http.paths"))
            add_path(in, &groups, host, path);
    }
    for (const struct group *group = groups; group; group = group->next)
        group_part(in, group);
}

/* An entry without a Secret or without hosts says nothing. */
static void ingress_tls(const struct ingress *in)
{
    struct sb_value *tls, *host;

    sb_array_each (tls, sb_value_at(in->object, "spec.tls")) {
        const struct sb_value *hosts = sb_get(tls, "hosts");
        struct sb_str secret = sb_value_str_at(tls, "secretName"), *texts;
        struct claim *claim;
        size_t n = 0;

        if (!secret.len || !sb_is(hosts, SB_V_ARRAY) || !hosts->count)
            continue;
        claim = source_claim(in->u, in->source);
        claim->secret = sb_arena_printf(in->a, "%.*s/%.*s", SB_ARG(in->ns), SB_ARG(secret));
        claim->parent = in->ref;
        claim->hosts = texts = SB_NEW_N(in->a, struct sb_str, hosts->count);
        sb_array_each (host, hosts) {
            if (sb_is(host, SB_V_STR))
                texts[n++] = sb_arena_str(in->a, host->s);
        }
        claim->nhosts = n;
    }
}

void ingress_translate(struct sb_translator *t, struct unit *u, struct source *s,
                       const struct sb_value *object)
{
    struct ingress in;

    if (!class_takes_ingress(t, u, object))
        return;
    in = ingress_of(t, u, s, object);
    s->has_default = !sb_is_nil(sb_value_at(object, "spec.defaultBackend"));
    ingress_tls(&in);
    ingress_rules(&in);
}

/* -- the default backend
 * --------------------------------------------------------------------------- */

static struct sb_value *default_route(const struct ingress *in)
{
    struct sb_value *route = route_base(in), *paths;

    if (in->t->settings->expression_routes) {
        set_text(in->a, route, "expression", "http.path ^= \"/\"");
        set_int(in->a, route, "priority", 0);
    } else {
        paths = sb_value_array(in->a);
        sb_array_push(in->a, paths, sb_value_text(in->a, "/"));
        set_value(in->a, route, "paths", paths);
        set_int(in->a, route, "regex_priority", 0);
    }
    route_finish(in, route);
    return route;
}

void ingress_default(struct sb_translator *t, struct unit *u, struct source *s,
                     const struct sb_value *object)
{
    struct ingress in = ingress_of(t, u, s, object);
    struct target *target = SB_NEW(in.a, struct target);
    struct sb_str error;
    struct part *part;

    if (!target_of(&in, sb_value_at(object, "spec.defaultBackend"), &default_words, target,
                   &error)) {
        unit_fail(u, in.ref, "default backend: %.*s", SB_ARG(error));
        return;
    }
    part = source_part(u, s);
    part->seed = seed_of(&in, target, NULL);
    part->object = in.ref;
    part->route_name = sb_arena_printf(in.a, "%.*s.%.*s", SB_ARG(in.ns), SB_ARG(in.name));
    part->route = default_route(&in);
}
