/* Requests of strangers against a router of every flavor, and their paths through both of their
 * shapes. */
#include <stdint.h>
#include <stdlib.h>

#include "dataplane/router/router.h"
#include "shared/err.h"
#include "shared/json.h"

static const char routes[] =
    "[{\"id\":\"1\",\"hosts\":[\"a.com\",\"*.b.com\",\"c.*\",\"d.com:80\",\"[::1]:80\"],\"paths\":["
    "\"/\"]},"
    "{\"id\":\"2\",\"paths\":[\"/a\",\"/a/b\",\"~/x(\\\\d+|[^/]*)*$\",\"~/"
    "(a+)+$\"],\"strip_path\":true},"
    "{\"id\":\"3\",\"methods\":[\"GET\"],\"headers\":{\"x-y\":[\"~*^(a|aa)+$\"]}},"
    "{\"id\":\"4\",\"snis\":[\"a.com\"],\"protocols\":[\"https\"],\"paths\":[\"/s\"]}]";

static const char expressions[] =
    "[{\"id\":\"5\",\"expression\":\"any(lower(http.headers.x_y)) ~ \\\"^(a|aa)+$\\\" || "
    "http.queries.q == \\\"1\\\" || http.path.segments.1_3 contains \\\"b\\\"\"},"
    "{\"id\":\"6\",\"expression\":\"http.host =^ \\\".com\\\" && lower(http.path) ^= \\\"/b\\\" && "
    "net.src.ip in 10.0.0.0/8\"}]";

enum { FLAVORS = 3 };
static const struct sb_router *routers[FLAVORS];
static struct sb_route route = {.strip_path = true};

static void put_all(struct sb_router_builder *b, struct sb_arena *a, struct sb_str text)
{
    struct sb_value *list, *row;
    struct sb_err err;

    if (sb_json_parse(a, text, &list, &err))
        abort();
    sb_array_each (row, list) {
        if (sb_router_put(b, &(struct sb_router_source){row, &route}, &err))
            abort();
    }
}

static void build_all(void)
{
    for (int flavor = 0; flavor < FLAVORS; flavor++) {
        struct sb_router_builder *b = sb_router_builder_new((enum sb_router_flavor)flavor);
        struct sb_arena *a = sb_arena_new(0);

        put_all(b, a, SB_STR(routes));
        if (flavor == SB_ROUTER_EXPRESSIONS)
            put_all(b, a, SB_STR(expressions));
        routers[flavor] = sb_router_build(b);
        sb_arena_free(a);
        sb_router_builder_free(b);
    }
}

/* host, path, query, SNI and a header's value: lines of the input. */
static void ask(const struct sb_router *r, struct sb_str in, char *path, char *out, size_t cap)
{
    struct sb_str line[5] = {SB_STR_INIT(""), SB_STR_INIT(""), SB_STR_INIT(""), SB_STR_INIT(""),
                             SB_STR_INIT("")};
    struct sb_router_header header = {SB_STR("X-Y"), SB_STR("")};
    struct sb_router_request q = {.method = SB_STR("GET"), .headers = &header, .nheaders = 1};
    struct sb_router_capture captures[4];
    struct sb_router_match m;
    size_t len;

    for (int i = 0; i < 5 && sb_str_split(&in, '\n', &line[i]); i++)
        ;
    q.host = line[0];
    q.path = sb_path_normalise(line[1], path, &len) ? sb_str_n(path, len) : line[1];
    q.query = line[2];
    q.sni = q.source_ip = line[3];
    q.scheme = q.sni.len ? SB_PROTO_HTTPS : SB_PROTO_HTTP;
    header.value = line[4];
    if (!sb_router_match(r, &q, &m))
        return;
    sb_router_captures(&m, q.path, captures, 4);
    if (m.prefix_len > q.path.len || !sb_router_upstream_path(&m, q.path, out, cap, &len))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t cap = size * 3 + 16;
    char *path = malloc(size + 1), *out = malloc(cap);

    if (!routers[0])
        build_all();
    for (int i = 0; i < FLAVORS; i++)
        ask(routers[i], sb_str_n((const char *)data, size), path, out, cap);
    free(path);
    free(out);
    return 0;
}
