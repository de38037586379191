/* explain_command.c - `kong explain METHOD URL`: which route takes a request, and why the others do
 * not. Not one of Kong's verbs: its users ask this of logs and guesses.
 *
 * The entities come from a declarative file or the database and are built by what builds a
 * gateway's own snapshots, so the answer is the one that traffic gets.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "dataplane/config/build.h"
#include "dataplane/config/context.h"
#include "dataplane/config/declared.h"
#include "dataplane/process/job.h"
#include "dataplane/process/verbs.h"

enum { NO_ROUTE = 1, OTHERS_MAX = 20 };

static const char usage[] =
    "Usage: kong explain METHOD URL [OPTIONS]\n\n"
    "Says which route takes the request METHOD URL, and why the others do not: those that fit,\n"
    "too, but rank below, then those that do not fit, best rank first. The entities are those of\n"
    "--config FILE, else of the settings' database or declarative_config. URL begins with http://\n"
    "or https:// (stream routes: tcp://, tls:// or udp://, then the method is -); the port is the\n"
    "one that the client connects to (80, 443). Exits with 0 when a route takes it, else with "
    "1.\n\n"
    "  kong explain --config kong.yml GET https://example.com/cart -H 'X-Version: 2'";

/* -- the request ------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    enum sb_protocol protocol;
    uint16_t port;
    bool tls;
} schemes[] = {
    {"http", SB_PROTO_HTTP, 80, false}, {"https", SB_PROTO_HTTPS, 443, true},
    {"tcp", SB_PROTO_TCP, 0, false},    {"tls", SB_PROTO_TLS, 443, true},
    {"udp", SB_PROTO_UDP, 0, false},
};

struct request {
    struct sb_router_request q;
    struct sb_router_header headers[SB_CLI_TEXTS_MAX];
};

/* The port behind the host, or 0; -1: it is none. */
static int port_of(struct sb_str authority, struct sb_str *name)
{
    ptrdiff_t colon = sb_str_rchr(authority, ':');
    int64_t port;

    *name = authority;
    if (colon < 0 || sb_str_ends(authority, SB_STR("]")))
        return 0;
    *name = sb_str_first(authority, (size_t)colon);
    if (!sb_str_int(sb_str_from(authority, (size_t)colon + 1), &port) || port < 1 || port > 65535)
        return -1;
    return (int)port;
}

static bool is_ip(struct sb_str name)
{
    char text[64];
    unsigned char addr[16];

    if (name.len >= sizeof text)
        return false;
    snprintf(text, sizeof text, "%.*s", SB_ARG(name));
    return text[0] == '[' || inet_pton(AF_INET, text, addr) == 1;
}

/* The text up to one of the stops; the rest, stop included, stays. */
static struct sb_str take_until(struct sb_str *text, const char *stops)
{
    size_t n = 0;
    struct sb_str taken;

    while (n < text->len && !strchr(stops, text->p[n]))
        n++;
    taken = sb_str_first(*text, n);
    *text = sb_str_from(*text, n);
    return taken;
}

/* What is behind "scheme://": the authority as Host has it, the path normalised. */
static bool take_place(struct sb_arena *a, struct sb_str rest, size_t scheme, struct request *r)
{
    struct sb_router_request *q = &r->q;
    struct sb_str name;
    char *path;
    size_t len;
    int port;

    q->scheme = schemes[scheme].protocol;
    q->host = take_until(&rest, "/?#");
    port = port_of(q->host, &name);
    if (port < 0 || name.len == 0)
        return false;
    q->destination_port = port ? (uint16_t)port : schemes[scheme].port;
    q->sni = schemes[scheme].tls && !is_ip(name) ? name : SB_STR("");
    q->path = take_until(&rest, "?#");
    if (!q->path.len)
        q->path = SB_STR("/");
    rest = take_until(&rest, "#");
    q->query = rest.len ? sb_str_from(rest, 1) : SB_STR("");
    path = sb_arena_alloc(a, q->path.len + 1);
    if (sb_path_normalise(q->path, path, &len))
        q->path = sb_str_n(path, len);
    return true;
}

static bool take_url(struct sb_arena *a, const char *text, struct request *r)
{
    struct sb_str rest = sb_str_c(text), scheme = take_until(&rest, ":");

    if (!sb_str_starts(rest, SB_STR("://")))
        return false;
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        if (sb_str_is(scheme, schemes[i].name))
            return take_place(a, sb_str_from(rest, 3), i, r);
    }
    return false;
}

/* "Name: value"; Host takes the place of the URL's. */
static bool take_header(const char *text, struct request *r)
{
    struct sb_str all = sb_str_c(text), name, value;
    ptrdiff_t colon = sb_str_chr(all, ':', 0);

    if (colon < 1)
        return false;
    name = sb_str_first(all, (size_t)colon);
    value = sb_str_trim(sb_str_from(all, (size_t)colon + 1));
    if (sb_str_ieq(name, SB_STR("host")))
        r->q.host = value;
    else
        r->headers[r->q.nheaders++] = (struct sb_router_header){name, value};
    return true;
}

static bool take_request(struct sb_arena *a, const char *method, const char *url,
                         const struct sb_options *o, struct request *r)
{
    *r = (struct request){.q = {.method = sb_str_c(method), .headers = r->headers}};
    if (!take_url(a, url, r)) {
        sb_options_fail("'%s' is no URL of an http, https, tcp, tls or udp service", url);
        return false;
    }
    for (size_t i = 0; i < o->headers.count; i++) {
        if (!take_header(o->headers.items[i], r)) {
            sb_options_fail("-H wants 'NAME: VALUE', got '%s'", o->headers.items[i]);
            return false;
        }
    }
    if (o->sni)
        r->q.sni = sb_str_c(o->sni);
    r->q.source_ip = sb_str_c(o->client_ip ? o->client_ip : "");
    return true;
}

/* -- the answer ------------------------------------------------------------------------------- */

static struct sb_str name_of(struct sb_str name, struct sb_str id)
{
    return name.len ? name : id;
}

static void print_route(const char *word, const struct sb_router_verdict *v)
{
    printf("%-6s %.*s", word, SB_ARG(name_of(v->route->name, v->route->id)));
    if (v->paths.len)
        printf("  (%.*s)", SB_ARG(v->paths));
    if (v->why.len)
        printf("\n         %.*s", SB_ARG(v->why));
    puts("");
}

/* What becomes of the request now. */
static void print_way(struct sb_arena *a, const struct sb_router_match *m,
                      const struct sb_router_request *q)
{
    const struct sb_service *s = m->route->service;
    size_t cap = 3 * (q->path.len + (s ? s->path.len : 0)) + 2, len;
    char *path = sb_arena_alloc(a, cap);

    if (q->scheme == SB_PROTO_HTTP && (m->route->protocols & SB_PROTO_HTTPS) &&
        !(m->route->protocols & SB_PROTO_HTTP)) {
        printf("         answered with %d: the route is for https only\n",
               m->route->https_redirect_status_code ? m->route->https_redirect_status_code : 426);
    } else if (!s) {
        puts("         it has no service: its plugins answer, or 503");
    } else if (!q->path.len || !sb_router_upstream_path(m, q->path, path, cap, &len)) {
        printf("         to service %.*s at %.*s:%u\n", SB_ARG(name_of(s->name, s->id)),
               SB_ARG(s->host), s->port);
    } else {
        printf("         to service %.*s at %.*s:%u, asked for %.*s\n",
               SB_ARG(name_of(s->name, s->id)), SB_ARG(s->host), s->port, (int)len, path);
    }
}

/* Those that fit are all told of; of the others, as many as a screen takes. */
static void print_others(const struct sb_router_verdict *v, size_t n, bool fit, size_t max)
{
    size_t seen = 0;

    for (size_t i = 0; i < n; i++) {
        if (v[i].wins || v[i].fits != fit)
            continue;
        if (seen++ < max)
            print_route(fit ? "below" : "no", &v[i]);
    }
    if (seen > max)
        printf("... and %zu more that do not fit (--all lists them)\n", seen - max);
}

static void print_left_out(struct sb_builder *b, struct sb_arena *a)
{
    const struct sb_value *one, *list = sb_builder_left_out(b, a);

    sb_array_each (one, list)
        printf("%-6s %.*s %.*s\n         %.*s\n", "broken", SB_ARG(sb_value_str_at(one, "entity")),
               SB_ARG(name_of(sb_value_str_at(one, "name"), sb_value_str_at(one, "id"))),
               SB_ARG(sb_value_str_at(one, "reason")));
}

static int explain(struct sb_job *job, const struct sb_value *rows,
                   const struct sb_router_request *q, bool all)
{
    struct sb_builder *b = sb_builder_new(sb_context_flavor(job->settings), job->settings);
    const struct sb_snapshot *snap;
    struct sb_router_verdict *v;
    struct sb_router_match m;
    bool found;
    size_t n;

    sb_model_replace_all(sb_builder_model(b), rows);
    snap = sb_builder_build(b, 1);
    found = sb_router_match(snap->router, q, &m);
    n = sb_router_explain(sb_builder_routes(b), q, job->arena, &v);
    for (size_t i = 0; i < n; i++) {
        if (v[i].wins)
            print_route("wins", &v[i]);
    }
    if (found)
        print_way(job->arena, &m, q);
    else
        puts("none   no Route matched with those values");
    print_others(v, n, true, n);
    print_others(v, n, false, all ? n : OTHERS_MAX);
    print_left_out(b, job->arena);
    sb_builder_free(b);
    return found ? 0 : NO_ROUTE;
}

/* -- where the entities come from ------------------------------------------------------------- */

static struct sb_value *entities(struct sb_job *job, const struct sb_options *o)
{
    struct sb_value *rows = NULL;
    char hash[33];
    struct sb_err err;
    enum sb_rc rc;

    if (o->config)
        return sb_job_load_file(job, o->config);
    if (strcmp(sb_settings_str(job->settings, "database"), "off") != 0) {
        if (!sb_job_connect(job))
            return NULL;
        rc = sb_job_stored_rows(job, &rows, &err);
    } else {
        rc = sb_declared_read(job->settings, job->arena, &rows, hash, &err);
    }
    if (rc == SB_NOTFOUND)
        sb_options_fail("there is no database and no declarative_config: give --config FILE");
    else if (rc)
        sb_options_fail("%s", err.text);
    return rc ? NULL : rows;
}

int sb_verb_explain(int argc, char **argv)
{
    struct sb_value *rows;
    struct sb_options o;
    struct request r;
    struct sb_job job;
    int rest, code = 1;

    if (!sb_options_parse(argc, argv, SB_OPT_CONF | SB_OPT_PREFIX | SB_OPT_REQUEST | SB_OPT_ALL,
                          usage, &o, &rest))
        return 1;
    if (rest != 3)
        return sb_options_fail("expected METHOD URL; see `kong explain --help`");
    sb_job_begin(&job, &o);
    if (job.settings && take_request(job.arena, argv[1], argv[2], &o, &r)) {
        rows = entities(&job, &o);
        code = rows ? explain(&job, rows, &r.q, o.all) : 1;
    }
    sb_job_end(&job);
    return code;
}
