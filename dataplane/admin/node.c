/* node.c - from a call to its endpoint, and to the store behind it.
 *
 * In Kong's order: content type (415), path (404), OPTIONS, method (405), body (400), handler. The
 * pattern with the fewest parameters wins: /plugins/enabled is no plugin of that name.
 */
#include "dataplane/admin/node.h"

#include <stdlib.h>

#include "dataplane/admin/form.h"
#include "dataplane/config/context.h"
#include "shared/clock.h"
#include "shared/json.h"
#include "shared/log.h"

enum { TRUST_MS = 1000 }; /* a session that worked so lately is taken to work still */

/* -- the store --------------------------------------------------------------------------------- */

void sb_admin_drop_store(struct sb_admin_node *n)
{
    sb_store_free(n->store);
    n->store = NULL;
    sb_pg_free(n->pg);
    n->pg = NULL;
}

void sb_admin_close(struct sb_admin_node *n)
{
    sb_admin_drop_store(n);
}

static bool session_works(struct sb_admin_node *n)
{
    struct sb_err err;

    if (!n->store || !sb_pg_alive(n->pg))
        return false;
    return sb_clock_ms() - n->used_ms < TRUST_MS || !sb_pg_exec(n->pg, "SELECT 1", &err);
}

static enum sb_rc connect(struct sb_admin_node *n, struct sb_err *err)
{
    struct sb_pg_config config = {0};
    enum sb_rc rc;

    sb_settings_pg(n->parts.settings, false, &config);
    rc = sb_pg_connect(&config, &n->pg, err);
    return rc ? rc : sb_store_pg(n->pg, &n->store, err);
}

/* Rows that are served, put into a store that can be asked. */
static enum sb_rc load_rows(struct sb_admin_node *n, struct sb_arena *a, struct sb_err *err)
{
    struct sb_value *rows = sb_config_rows(n->parts.config, a);
    struct sb_store *store = sb_store_memory();
    struct sb_member *m;
    enum sb_rc rc = SB_OK;

    sb_object_each (m, rows) {
        const struct sb_entity *kind = sb_entity_find(m->key);

        if (!rc && kind)
            rc = sb_store_put_rows(store, a, kind, m->value, NULL, err);
    }
    if (rc) {
        sb_store_free(store);
        return rc;
    }
    sb_store_set_read_only(store, true);
    sb_store_free(n->store);
    n->store = store;
    return SB_OK;
}

static enum sb_rc refresh(struct sb_admin_node *n, struct sb_err *err)
{
    struct sb_config_state state;
    struct sb_arena *a;
    enum sb_rc rc;

    sb_config_version(n->parts.config, &state);
    if (n->store && n->loaded == state.served)
        return SB_OK;
    a = sb_arena_new(1 << 20);
    rc = load_rows(n, a, err);
    sb_arena_free(a);
    if (!rc)
        n->loaded = state.served;
    return rc;
}

struct sb_store *sb_admin_store(struct sb_call *c)
{
    struct sb_admin_node *n = c->node;
    struct sb_err err;
    enum sb_rc rc = SB_OK;

    if (n->dbless) {
        rc = refresh(n, &err);
    } else if (!session_works(n)) {
        sb_admin_drop_store(n);
        rc = connect(n, &err);
    }
    n->used_ms = sb_clock_ms();
    if (!rc)
        return n->store;
    if (!n->dbless)
        sb_admin_drop_store(n);
    sb_error("admin: %s", err.text);
    sb_answer_message(c, 500, "An unexpected error occurred");
    return NULL;
}

void sb_admin_wrote(struct sb_call *c)
{
    uint64_t version = sb_store_version(c->node->store);

    sb_config_wake(c->node->parts.config);
    if (version)
        sb_answer_header(c, "X-Silverback-Version",
                         sb_arena_printf(c->arena, "%llu", (unsigned long long)version));
}

/* -- checks ------------------------------------------------------------------------------------ */

bool sb_admin_plugin_enabled(const struct sb_admin_node *n, struct sb_str name)
{
    return sb_context_plugin_enabled(n->parts.settings, name);
}

void sb_admin_ctx(struct sb_call *c, struct sb_schema_ctx *ctx)
{
    *ctx = sb_context(c->node->parts.settings, c->arena);
}

/* -- the body ---------------------------------------------------------------------------------- */

static bool has_body_method(const struct sb_call *c)
{
    return c->method & (SB_POST | SB_PUT | SB_PATCH);
}

static bool is_yaml(struct sb_str type)
{
    return sb_str_starts(type, SB_STR("application/yaml")) ||
           sb_str_starts(type, SB_STR("text/yaml"));
}

static bool type_understood(const struct sb_call *c)
{
    struct sb_str type = c->content_type;

    if (!type.len)
        return c->body.len == 0;
    return sb_str_starts(type, SB_STR("application/json")) ||
           sb_str_starts(type, SB_STR("multipart/form-data")) ||
           sb_str_starts(type, SB_STR("application/x-www-form-urlencoded")) ||
           (is_yaml(type) && c->nsegments == 1 && sb_str_is(c->segments[0], "config"));
}

static void answer_unsupported(struct sb_call *c)
{
    sb_answer_text(c, 415, "text/html",
                   SB_STR("<html>\r\n<head><title>415 Unsupported Media Type</title></head>\r\n"
                          "<body>\r\n<center><h1>415 Unsupported Media Type</h1></center>\r\n"
                          "</body>\r\n</html>\r\n"));
}

static bool read_form(struct sb_call *c)
{
    struct sb_arg *args;
    size_t n;
    bool ok = sb_str_starts(c->content_type, SB_STR("multipart/"))
                  ? sb_form_multipart(c->arena, c->content_type, c->body, &args, &n)
                  : sb_args_parse(c->arena, c->body, &args, &n);

    if (!ok) {
        sb_answer_message(c, 400, "Too many arguments");
        return false;
    }
    c->is_form = true;
    c->input = sb_form_tree(c->arena, args, n);
    return true;
}

/* What the body says, as an object; false when the call has its answer. */
static bool read_body(struct sb_call *c)
{
    c->input = sb_value_object(c->arena);
    if (!c->content_type.len || is_yaml(c->content_type))
        return true;
    if (sb_str_find(c->content_type, SB_STR("application/json"), 0) < 0)
        return read_form(c);
    if (sb_json_parse(c->arena, c->body, &c->input, NULL) ||
        (c->input->type != SB_V_OBJECT && !(c->input->type == SB_V_ARRAY && !c->input->count))) {
        sb_answer_message(c, 400, "Cannot parse JSON body");
        return false;
    }
    if (c->input->type == SB_V_ARRAY) /* [] is as empty as {} */
        c->input = sb_value_object(c->arena);
    return true;
}

/* -- the endpoint ------------------------------------------------------------------------------ */

/* The number of parameters when the pattern fits, -1 when not. */
static int match(const struct sb_call *c, const char *pattern, struct sb_str *params)
{
    struct sb_str rest = sb_str_from(sb_str_c(pattern), 1), piece;
    size_t at = 0;
    int n = 0;

    if (!rest.len)
        return c->nsegments == 0 ? 0 : -1;
    while (sb_str_split(&rest, '/', &piece)) {
        if (at == c->nsegments)
            return -1;
        if (piece.p[0] == '{' && c->segments[at].len)
            params[n++] = c->segments[at];
        else if (!sb_str_eq(piece, c->segments[at]))
            return -1;
        at++;
    }
    return at == c->nsegments ? n : -1;
}

static const struct sb_endpoint *find_endpoint(struct sb_call *c)
{
    const struct sb_endpoint *best = NULL;
    struct sb_str params[SB_PARAMS_MAX];
    int fewest = SB_PARAMS_MAX + 1;

    for (const struct sb_endpoint *e = c->node->endpoints; e->pattern; e++) {
        int n = match(c, e->pattern, params);

        if (n < 0 || n >= fewest)
            continue;
        best = e;
        fewest = n;
        memcpy(c->params, params, sizeof params);
    }
    return best;
}

static void answer_options(struct sb_call *c, unsigned methods)
{
    static const struct {
        unsigned bit;
        const char *name;
    } names[] = {
        /* by name */
        {SB_DELETE, "DELETE"}, {SB_GET, "GET"},   {SB_HEAD, "HEAD"}, {SB_OPTIONS, "OPTIONS"},
        {SB_PATCH, "PATCH"},   {SB_POST, "POST"}, {SB_PUT, "PUT"},
    };
    struct sb_str list = SB_STR("");

    methods |= SB_OPTIONS | (methods & SB_GET ? SB_HEAD : 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (methods & names[i].bit)
            list = sb_arena_printf(c->arena, "%.*s%s%s", SB_ARG(list), list.len ? ", " : "",
                                   names[i].name);
    sb_answer_nothing(c, 204);
    sb_answer_header(c, "Allow", list);
    sb_answer_header(c, "Access-Control-Allow-Methods", list);
    sb_answer_header(c, "Access-Control-Allow-Headers",
                     c->request_headers.len ? c->request_headers : SB_STR("Content-Type"));
}

void sb_admin_answer(struct sb_call *c)
{
    const struct sb_endpoint *e;
    unsigned method = c->method == SB_HEAD ? SB_GET : c->method;

    if (has_body_method(c) && !type_understood(c)) {
        answer_unsupported(c);
        return;
    }
    e = find_endpoint(c);
    if (!e)
        sb_answer_not_found(c);
    else if (e->methods == SB_EVERY)
        e->handle(c, e);
    else if (method == SB_OPTIONS)
        answer_options(c, e->methods);
    else if (c->method == SB_HEAD && !(e->methods & SB_GET))
        sb_answer_nothing(c, 200);
    else if (!(e->methods & method))
        sb_answer_message(c, 405, "Method not allowed");
    else if (!has_body_method(c) || read_body(c))
        e->handle(c, e);
}
