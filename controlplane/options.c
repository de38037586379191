/* options.c - see options.h. */
#include "controlplane/options.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "shared/log.h"
#include "shared/vec.h"

enum type { TEXT, BOOL, LIST, NUMBER, SECONDS, DURATION };

enum { NOWHERE = -1 }; /* accepted, means nothing here */

struct option {
    const char *name;
    enum type type;
    const char *def; /* as it would be written; NULL: unset */
    long at;         /* offset in struct sb_options */
    const char *help;
    const char *choices; /* "a, b"; NULL: any */
};

#define AT(field) (long)offsetof(struct sb_options, field)
#define FLAG(name, type, def, field, help)                                                         \
    {                                                                                              \
        name, type, def, AT(field), help, NULL                                                     \
    }
#define CHOICE(name, def, field, choices, help)                                                    \
    {                                                                                              \
        name, TEXT, def, AT(field), help, choices                                                  \
    }
#define MOOT(name, type, why)                                                                      \
    {                                                                                              \
        name, type, NULL, NOWHERE, why, NULL                                                       \
    }

static const struct option options[] = {
    FLAG("manifests", TEXT, NULL, manifests,
         "read objects from this file or directory (and follow it) instead of an API server"),
    FLAG("kubeconfig", TEXT, NULL, kubeconfig,
         "kubeconfig file; else $KUBECONFIG, the Pod's service account, ~/.kube/config"),
    FLAG("apiserver-host", TEXT, NULL, apiserver_host,
         "URL of the API server, in place of the one found"),
    FLAG("watch-namespace", LIST, NULL, watch_namespaces, "namespaces to watch; none: all"),
    FLAG("cache-sync-timeout", DURATION, "2m", cache_sync_timeout_ms,
         "say so when the first listing of all objects takes longer"),
    FLAG("ingress-class", TEXT, "kong", ingress_class, "the class of objects that are ours"),
    FLAG("gateway-api-controller-name", TEXT, "konghq.com/kic-gateway-controller",
         gateway_controller_name, "the controller's name in GatewayClasses"),
    FLAG("cluster-domain", TEXT, NULL, cluster_domain, "suffix of Services' host names"),
    FLAG("enable-drain-support", BOOL, "false", drain_support,
         "keep terminating endpoints, with weight 0"),
    FLAG("combined-services-from-different-httproutes", BOOL, "false", combined_services,
         "share a service between HTTPRoutes with equal backends"),
    FLAG("feature-gates", LIST, NULL, feature_gates,
         "Name=true or Name=false, several with commas"),
    FLAG("kong-admin-filter-tag", LIST, "managed-by-ingress-controller", filter_tags,
         "the tag of entities that are ours"),
    FLAG("kong-workspace", TEXT, NULL, workspace, "workspace; goes into ids"),
    FLAG("kong-admin-url", LIST, "http://localhost:8001", admin_urls,
         "Admin APIs of the gateways, without a database"),
    FLAG("kong-admin-token", TEXT, NULL, admin_token, "Kong-Admin-Token header"),
    FLAG("kong-admin-token-file", TEXT, NULL, admin_token_file, "the same, from a file"),
    FLAG("proxy-timeout-seconds", SECONDS, "30", proxy_timeout_ms,
         "time for one push to a gateway"),
    FLAG("election-id", TEXT, "5b374a9e.konghq.com", election_id, "name of the Lease"),
    FLAG("election-namespace", TEXT, NULL, election_namespace, "its namespace; none: our own"),
    CHOICE("force-leader-election", NULL, force_leader_election, "enabled, disabled",
           "elect a leader whatever the mode, or don't"),
    FLAG("update-status", BOOL, "true", update_status, "write the status of objects"),
    FLAG("publish-service", LIST, NULL, publish_services,
         "namespace/name of the proxy's Service, whose addresses go into the status"),
    FLAG("publish-status-address", LIST, NULL, publish_addresses,
         "addresses in place of the Service's"),
    FLAG("emit-kubernetes-events", BOOL, "true", emit_events, "tell authors of problems by Events"),
    CHOICE("log-level", "info", log_level, "trace, debug, info, error", "how much to log"),
    FLAG("health-probe-bind-address", TEXT, ":10254", health_bind, "/healthz and /readyz; 0: none"),
    FLAG("metrics-bind-address", TEXT, ":10255", metrics_bind, "/metrics; 0: none"),
    FLAG("term-delay", DURATION, "0s", term_delay_ms, "wait after SIGTERM before stopping"),

    MOOT("kong-admin-init-retries", NUMBER, "no effect: gateways are not needed to start"),
    MOOT("kong-admin-init-retry-delay", DURATION, "no effect: gateways are not needed to start"),
    MOOT("kong-admin-concurrency", NUMBER, "no effect: changes go out in one transaction"),
    MOOT("proxy-sync-seconds", SECONDS, "no effect: changes go out when they happen"),
    MOOT("init-cache-sync-duration", DURATION, "no effect: the first write waits for all lists"),
    MOOT("enable-reverse-sync", BOOL, "no effect: see proxy-sync-seconds"),
    MOOT("sync-period", DURATION, "no effect: nothing is read again without a reason"),
    MOOT("apiserver-qps", NUMBER, "no effect: reading is by watch, writing only on change"),
    MOOT("apiserver-burst", NUMBER, "no effect: see apiserver-qps"),
    MOOT("update-status-queue-buffer-size", NUMBER, "no effect: there is no such queue"),
    MOOT("log-format", TEXT, "no effect: lines are as the gateway's error log"),
    MOOT("metrics-access-filter", TEXT, "no effect: metrics are open to who reaches the port"),
    MOOT("anonymous-reports", BOOL, "no effect: nothing is ever reported"),
    MOOT("profiling", BOOL, "no effect: use perf"),
    MOOT("gateway-discovery-dns-strategy", TEXT, "no effect, as in the ingress controller 3"),
    {0},
};

struct loading {
    struct sb_arena *arena;
    struct sb_options *out;
    struct sb_buf *problems;
};

static void problem(struct loading *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void problem(struct loading *l, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    sb_buf_vprintf(l->problems, fmt, ap);
    va_end(ap);
    sb_buf_char(l->problems, '\n');
}

/* -- values ---------------------------------------------------------------------------------------
 */

static bool parse_bool(struct sb_str s, bool *out)
{
    static const char *const yes[] = {"true", "1", "t", "T", "TRUE", "True"};
    static const char *const no[] = {"false", "0", "f", "F", "FALSE", "False"};

    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
        if (sb_str_is(s, yes[i]) || sb_str_is(s, no[i])) {
            *out = sb_str_is(s, yes[i]);
            return true;
        }
    }
    return false;
}

/* Go's durations: "1h30m", "2.5s", "100ms", "0". */
static bool parse_duration(struct sb_str s, int64_t *ms)
{
    static const struct {
        const char *name;
        double ms;
    } units[] = {{"ms", 1},      {"us", 0.001}, {"ns", 0.000001},
                 {"h", 3600000}, {"m", 60000},  {"s", 1000}};
    double total = 0;
    bool any = false;

    if (sb_str_is(s, "0"))
        return *ms = 0, true;
    while (s.len) {
        size_t digits = 0, u;
        double n;

        while (digits < s.len && (isdigit((unsigned char)s.p[digits]) || s.p[digits] == '.'))
            digits++;
        if (!digits || !sb_str_num(sb_str_first(s, digits), &n))
            return false;
        s = sb_str_from(s, digits);
        for (u = 0; u < 6 && !sb_str_starts(s, sb_str_c(units[u].name)); u++)
            ;
        if (u == 6)
            return false;
        total += n * units[u].ms;
        s = sb_str_from(s, strlen(units[u].name));
        any = true;
    }
    *ms = (int64_t)total;
    return any;
}

static const char *const *parse_list(struct sb_arena *a, struct sb_str s)
{
    SB_VEC(const char *) items = {0};
    const char **list;
    struct sb_str item;

    while (sb_str_split(&s, ',', &item)) {
        item = sb_str_trim(item);
        if (item.len)
            sb_vec_push(&items, sb_arena_cstr(a, item));
    }
    list = sb_arena_zero(a, (items.len + 1) * sizeof *list);
    if (items.len)
        memcpy(list, items.p, items.len * sizeof *list);
    sb_vec_release(&items);
    return list;
}

static bool is_choice(const struct option *o, struct sb_str value)
{
    struct sb_str rest = sb_str_c(o->choices), choice;

    while (o->choices && sb_str_split(&rest, ',', &choice)) {
        if (sb_str_eq(sb_str_trim(choice), value))
            return true;
    }
    return !o->choices;
}

static const char *const expected[] = {
    [BOOL] = "true or false",
    [NUMBER] = "a number",
    [SECONDS] = "seconds, such as 3 or 0.5",
    [DURATION] = "a duration, such as 10s, 500ms or 1m30s",
};

/* from: "--name" or "CONTROLLER_NAME", for messages. */
static void set_value(struct loading *l, const struct option *o, struct sb_str value,
                      const char *from)
{
    union {
        bool b;
        int64_t ms;
        double n;
    } v;
    void *to = o->at == NOWHERE ? NULL : (char *)l->out + o->at;
    bool ok = true;

    switch (o->type) {
    case TEXT:
        if (!is_choice(o, value))
            problem(l, "%s: \"%.*s\" is not one of %s", from, SB_ARG(value), o->choices);
        else if (to)
            *(const char **)to = value.len ? sb_arena_cstr(l->arena, value) : NULL;
        return;
    case LIST:
        if (to)
            *(const char *const **)to = parse_list(l->arena, value);
        return;
    case BOOL:
        ok = parse_bool(value, &v.b);
        if (ok && to)
            *(bool *)to = v.b;
        break;
    case NUMBER:
        ok = sb_str_num(value, &v.n);
        break;
    case SECONDS:
        ok = sb_str_num(value, &v.n) && v.n >= 0 && v.n < 1e9;
        if (ok && to)
            *(int64_t *)to = (int64_t)(v.n * 1000);
        break;
    case DURATION:
        ok = parse_duration(value, &v.ms);
        if (ok && to)
            *(int64_t *)to = v.ms;
        break;
    }
    if (!ok)
        problem(l, "%s: \"%.*s\" is not %s", from, SB_ARG(value), expected[o->type]);
}

/* -- where values come from -----------------------------------------------------------------------
 */

/* Toggles of single controllers: all run, and cost nothing where their kinds are absent. */
static const struct option toggle = {"enable-controller-", BOOL, NULL, NOWHERE, NULL, NULL};

static const struct option *find_option(struct sb_str name)
{
    for (const struct option *o = options; o->name; o++) {
        if (sb_str_is(name, o->name))
            return o;
    }
    return sb_str_starts(name, sb_str_c(toggle.name)) ? &toggle : NULL;
}

static const char *env_name(struct sb_arena *a, const char *name)
{
    char *text = sb_arena_cstr(a, sb_arena_printf(a, "CONTROLLER_%s", name));

    for (char *p = text; *p; p++)
        *p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
    return text;
}

static void take_env(struct loading *l, const char *const *env)
{
    for (const struct option *o = options; o->name; o++) {
        const char *name = env_name(l->arena, o->name);
        size_t len = strlen(name);

        for (const char *const *e = env; e && *e; e++) {
            if (!strncmp(*e, name, len) && (*e)[len] == '=')
                set_value(l, o, sb_str_c(*e + len + 1), name);
        }
    }
}

static bool is_env_name(struct sb_arena *a, struct sb_str name)
{
    for (const struct option *o = options; o->name; o++) {
        if (sb_str_is(name, env_name(a, o->name)))
            return true;
    }
    return sb_str_starts(name, SB_STR("CONTROLLER_ENABLE_CONTROLLER_"));
}

static const char *nearest(struct sb_str name)
{
    const struct option *best = NULL;
    size_t best_len = 3; /* fewer letters in common are chance */

    for (const struct option *o = options; o->name; o++) {
        size_t n = 0;

        while (n < name.len && o->name[n] == name.p[n])
            n++;
        if (n > best_len) {
            best = o;
            best_len = n;
        }
    }
    return best ? best->name : NULL;
}

/* Kubernetes adds variables of its own for a Service named "controller": only what resembles a flag
 * is worth a word. */
static void warn_unknown(struct loading *l, const char *const *env)
{
    for (const char *const *e = env; e && *e; e++) {
        struct sb_str rest = sb_str_c(*e), name;
        const char *near;
        char *flag;

        sb_str_split(&rest, '=', &name);
        if (!sb_str_starts(name, SB_STR("CONTROLLER_")) || is_env_name(l->arena, name))
            continue;
        flag = sb_arena_cstr(l->arena, sb_str_from(name, strlen("CONTROLLER_")));
        for (char *p = flag; *p; p++)
            *p = *p == '_' ? '-' : (char)tolower((unsigned char)*p);
        near = nearest(sb_str_c(flag));
        if (near)
            sb_warn("%.*s: unknown, and ignored; did you mean %s?", SB_ARG(name),
                    env_name(l->arena, near));
    }
}

/* One argument; returns how many it took. */
static int take_argument(struct loading *l, int left, char **argv)
{
    struct sb_str rest = sb_str_c(argv[0]), name, value = {0};
    const struct option *o;
    const char *near;
    int took = 1;

    if (!sb_str_starts(rest, SB_STR("--"))) {
        problem(l, "\"%s\": flags start with --", argv[0]);
        return 1;
    }
    rest = sb_str_from(rest, 2);
    sb_str_split(&rest, '=', &name);
    value = rest;
    o = find_option(name);
    if (!o) {
        near = nearest(name);
        problem(l, "--%.*s: unknown flag%s%s", SB_ARG(name), near ? "; did you mean --" : "",
                near ? near : " (see --help)");
        return 1;
    }
    if (!value.p && o->type == BOOL) {
        value = SB_STR("true");
    } else if (!value.p && left > 1) {
        value = sb_str_c(argv[1]);
        took = 2;
    } else if (!value.p) {
        problem(l, "--%.*s: needs a value", SB_ARG(name));
        return 1;
    }
    set_value(l, o, value, sb_arena_printf(l->arena, "--%.*s", SB_ARG(name)).p);
    return took;
}

/* -- what must hold between them ------------------------------------------------------------------
 */

static void check_services(struct loading *l)
{
    for (const char *const *s = l->out->publish_services; s && *s; s++) {
        const char *slash = strchr(*s, '/');

        if (!slash || slash == *s || !slash[1])
            problem(l, "--publish-service: \"%s\" is not namespace/name", *s);
    }
}

static void check_bind(struct loading *l, const char *flag, const char *address)
{
    const char *colon = address ? strrchr(address, ':') : NULL;
    int64_t port;

    if (!address || !strcmp(address, "0"))
        return;
    if (!colon || !sb_str_int(sb_str_c(colon + 1), &port) || port < 0 || port > 65535)
        problem(l, "--%s: \"%s\" is not host:port or :port", flag, address);
}

static void check(struct loading *l)
{
    const struct sb_options *o = l->out;

    check_services(l);
    check_bind(l, "health-probe-bind-address", o->health_bind);
    check_bind(l, "metrics-bind-address", o->metrics_bind);
    if (o->admin_token && o->admin_token_file)
        problem(l, "both admin token and admin token file specified, only one allowed");
    if (o->filter_tags && (!o->filter_tags[0] || o->filter_tags[1]))
        problem(l, "--kong-admin-filter-tag: exactly one tag is needed");
    if (o->manifests && (o->kubeconfig || o->apiserver_host))
        problem(l, "--manifests: objects come from files or from an API server (--kubeconfig, "
                   "--apiserver-host), not from both");
}

enum sb_rc sb_options_load(struct sb_arena *a, int argc, char **argv, const char *const *env,
                           struct sb_options *out, struct sb_buf *problems)
{
    struct sb_options loaded = {0};
    struct loading l = {.arena = a, .out = &loaded, .problems = problems};

    for (const struct option *o = options; o->name; o++) {
        if (o->def)
            set_value(&l, o, sb_str_c(o->def), o->name);
    }
    take_env(&l, env);
    warn_unknown(&l, env);
    for (int i = 1; i < argc;) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            loaded.help = true, i++;
        else if (!strcmp(argv[i], "version") || !strcmp(argv[i], "--version"))
            loaded.version = true, i++;
        else
            i += take_argument(&l, argc - i, argv + i);
    }
    check(&l);
    if (problems->len && !loaded.help)
        return SB_INVALID;
    *out = loaded;
    return SB_OK;
}

void sb_options_help(struct sb_buf *out)
{
    for (const struct option *o = options; o->name; o++) {
        sb_buf_printf(out, "  --%-46s %s", o->name, o->help);
        if (o->choices)
            sb_buf_printf(out, " (%s)", o->choices);
        if (o->def)
            sb_buf_printf(out, " [%s]", o->def);
        sb_buf_char(out, '\n');
    }
    sb_buf_printf(out, "  --%-46s %s\n", "enable-controller-*",
                  "no effect: all controllers run, and cost nothing where their kinds are absent");
}
