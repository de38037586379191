/* request_transformer.c - the request, changed by lists of rules on its way to the upstream
 * (reference/plugins-transform.md).
 *
 *     path -> method -> headers -> body -> query;
 *     of each of the last three: remove, rename, replace (if there), add (if not there), append
 *
 * Headers, a form, a JSON body and a query are all objects while they are changed (transform.h,
 * args.h); what a rule writes is a template. Host is no header here: it can only be replaced. A
 * body that rules are for is read first, so that nothing is changed twice while it comes in.
 */
#include "dataplane/plugins/args.h"
#include "dataplane/plugins/bundled.h"
#include "dataplane/plugins/lua/template.h"
#include "dataplane/plugins/multipart.h"
#include "dataplane/plugins/plugin.h"
#include "dataplane/plugins/transform/request_values.h"
#include "dataplane/plugins/transform/transform.h"
#include "dataplane/router/router.h"
#include "shared/json.h"
#include "shared/log.h"
#include "shared/settings.h"

enum { BODY_MAX = 8 << 20 }; /* more where the setting for buffers allows more */

enum place { HEADERS, BODY, QUERY, PLACES };
static const char *const places[PLACES] = {"headers", "body", "querystring"};

enum kind { OTHER, JSON, MULTIPART, FORM };

/* What is written: a template, or why it is none. Both NULL: nothing. */
struct text {
    const struct sb_lua_template *template;
    const char *broken;
};

struct rule {
    struct sb_str name, lower;
    struct text value;
};

struct rules {
    const struct rule *items;
    size_t count;
};

struct config {
    struct rules rules[PLACES][SB_VERBS];
    bool any[PLACES];
    bool sets_type; /* a rule may be for Content-Type */
    struct text uri;
    struct sb_str method;
    size_t body_max;
};

/* One request. */
struct job {
    struct sb_exchange *x;
    const struct config *c;
    struct sb_arena *arena;
    struct sb_str body;
};

#define each_rule(r, c, place, verb)                                                               \
    for (const struct rule *r = (c)->rules[place][verb].items;                                     \
         r && r < (c)->rules[place][verb].items + (c)->rules[place][verb].count; r++)

/* -- compiling -------------------------------------------------------------------------------- */

/* One that can't be compiled breaks the requests that it is for, as it does in Kong. */
static struct text text_of(struct sb_arena *a, struct sb_str text)
{
    struct text t = {0};
    struct sb_err err;

    if (text.len && sb_lua_template_compile(a, text, &t.template, &err))
        t.broken = sb_arena_cstr(a, sb_str_c(err.text));
    return t;
}

static bool is_there(const struct text *t)
{
    return t->template || t->broken;
}

static struct rules rules_of(struct sb_arena *a, const struct sb_value *list)
{
    struct rule *items;

    if (!sb_is(list, SB_V_ARRAY) || list->count == 0)
        return (struct rules){0};
    items = SB_NEW_N(a, struct rule, list->count);
    for (uint32_t i = 0; i < list->count; i++) {
        struct sb_rule r = sb_rule_of(a, list->items[i]->s);

        items[i] = (struct rule){r.name, sb_arena_lower(a, r.name), text_of(a, r.value)};
    }
    return (struct rules){items, list->count};
}

/* The new name of a header that is renamed may be a template: any. */
static bool may_set_type(const struct config *c)
{
    for (int v = 0; v < SB_VERBS; v++) {
        each_rule(r, c, HEADERS,
                  v) if (v == SB_RENAME || sb_str_is(r->lower, "content-type")) return true;
    }
    return false;
}

static enum sb_rc compile(const struct sb_plugin_source *in, const void **out, struct sb_err *err)
{
    struct config *c = SB_NEW(in->arena, struct config);
    int64_t buffer = sb_settings_size(in->settings, "nginx_http_client_body_buffer_size", 0);

    (void)err;
    for (int v = 0; v < SB_VERBS; v++) {
        for (int p = 0; p < PLACES; p++) {
            c->rules[p][v] =
                rules_of(in->arena, sb_get(sb_get(in->config, sb_verbs[v]), places[p]));
            c->any[p] |= c->rules[p][v].count > 0;
        }
    }
    c->sets_type = may_set_type(c);
    c->uri = text_of(in->arena, sb_value_str_at(in->config, "replace.uri"));
    c->method = sb_arena_str(in->arena, sb_value_str_at(in->config, "http_method"));
    c->body_max = buffer > BODY_MAX ? (size_t)buffer : BODY_MAX;
    *out = c;
    return SB_OK;
}

/* -- path and method -------------------------------------------------------------------------- */

/* SB_INVALID: it broke, which was logged. */
static enum sb_rc render(struct job *j, const struct text *t, struct sb_str *out)
{
    struct sb_err err;
    const char *why = t->broken;

    *out = SB_STR("");
    if (!is_there(t) || (!why && sb_lua_template_render(j->x, t->template, out, &err) == SB_OK))
        return SB_OK;
    sb_error("request-transformer: failed to render a template: %s, request_id: %.*s",
             why ? why : err.text, SB_ARG(sb_exchange_request_id(j->x)));
    return SB_INVALID;
}

static enum sb_rc change_path(struct job *j)
{
    struct sb_str path;
    enum sb_rc rc;
    char *escaped;

    if (!is_there(&j->c->uri))
        return SB_OK;
    rc = render(j, &j->c->uri, &path);
    if (rc)
        return rc;
    if (path.len == 0 || path.p[0] != '/') {
        sb_warn("request-transformer: replace.uri gives \"%.*s\", which does not start with \"/\"",
                SB_ARG(path));
        return SB_INVALID;
    }
    escaped = sb_arena_alloc(j->arena, 3 * path.len);
    sb_exchange_set_upstream_path(j->x, sb_str_n(escaped, sb_path_escape(path, escaped)));
    return SB_OK;
}

static enum kind kind_of(struct sb_str type)
{
    static const struct {
        const char *part;
        enum kind kind;
    } rows[] = {
        {"application/json", JSON},
        {"multipart/form-data", MULTIPART},
        {"application/x-www-form-urlencoded", FORM},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_str part = sb_str_c(rows[i].part);

        for (size_t at = 0; at + part.len <= type.len; at++)
            if (sb_str_ieq(sb_str_n(type.p + at, part.len), part))
                return rows[i].kind;
    }
    return OTHER;
}

static enum kind kind_now(const struct job *j)
{
    return kind_of(sb_exchange_upstream_header(j->x, SB_STR("Content-Type")));
}

static enum sb_rc query_now(struct job *j, struct sb_value **out)
{
    return sb_args_object(j->arena, sb_exchange_upstream_query(j->x), out);
}

/* The fields of a form go to the query, beside what is there. */
static enum sb_rc move_form(struct job *j)
{
    struct sb_value *query, *form, *item;
    const struct sb_member *m;
    enum sb_rc rc = sb_args_object(j->arena, j->body, &form);

    if (!rc)
        rc = query_now(j, &query);
    if (rc || form->count == 0)
        return rc;
    sb_object_each (m, form) {
        if (m->value->type != SB_V_ARRAY)
            sb_args_add(j->arena, query, m->key, m->value);
        sb_array_each (item, m->value)
            sb_args_add(j->arena, query, m->key, item);
    }
    sb_exchange_set_upstream_query(j->x, sb_args_text_sorted(j->arena, query));
    return SB_OK;
}

static bool has_no_body(struct sb_str method)
{
    return sb_str_is(method, "GET") || sb_str_is(method, "HEAD") || sb_str_is(method, "TRACE");
}

static bool is_method(struct sb_str method)
{
    static const char *const known[] = {
        "GET",  "HEAD", "PUT",    "POST",     "DELETE",    "OPTIONS", "MKCOL", "COPY",
        "MOVE", "LOCK", "UNLOCK", "PROPFIND", "PROPPATCH", "PATCH",   "TRACE",
    };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (sb_str_is(method, known[i]))
            return true;
    return false;
}

static enum sb_rc change_method(struct job *j)
{
    struct sb_str method = j->c->method;

    if (method.len == 0)
        return SB_OK;
    if (!is_method(method)) {
        sb_warn("request-transformer: there is no method %.*s", SB_ARG(method));
        return SB_INVALID;
    }
    sb_exchange_set_upstream_method(j->x, method);
    return has_no_body(method) && kind_now(j) == FORM ? move_form(j) : SB_OK;
}

/* -- headers ---------------------------------------------------------------------------------- */

/* All of them as they came, what became of them, and the names that changed, as they are to be
 * spelt. */
struct headers {
    struct sb_value *now, *changed;
};

static void mark(struct job *j, struct headers *h, struct sb_str lower, struct sb_str spelt)
{
    sb_object_set(j->arena, h->changed, lower, sb_value_str(j->arena, spelt));
}

static void rename_header(struct job *j, struct headers *h, const struct rule *r, struct sb_str to)
{
    struct sb_str lower = sb_arena_lower(j->arena, to);

    if (!sb_object_get(h->now, r->lower) || sb_str_eq(r->name, to) || sb_str_is(lower, "host"))
        return;
    (void)sb_member_rename(j->arena, h->now, r->lower, lower);
    mark(j, h, r->lower, r->name);
    mark(j, h, lower, to);
}

static void change_header(struct job *j, struct headers *h, enum sb_verb verb, const struct rule *r,
                          struct sb_str value)
{
    if (sb_str_is(r->lower, "host")) {
        if (verb == SB_REPLACE && value.len)
            sb_exchange_set_upstream_header(j->x, r->lower, value);
    } else if (verb == SB_REMOVE) {
        if (sb_object_remove(h->now, r->lower))
            mark(j, h, r->lower, r->name);
    } else if (verb == SB_RENAME) {
        rename_header(j, h, r, value);
    } else if (sb_member_change(j->arena, h->now, verb, r->lower, sb_value_str(j->arena, value))) {
        mark(j, h, r->lower, r->name);
    }
}

static void write_headers(struct sb_exchange *x, const struct headers *h)
{
    const struct sb_member *m;
    const struct sb_value *item;

    sb_object_each (m, h->changed) {
        const struct sb_value *value = sb_object_get(h->now, m->key);
        struct sb_str name = m->value->s;

        sb_exchange_set_upstream_header(x, name,
                                        sb_is(value, SB_V_STR) ? value->s : (struct sb_str){0});
        sb_array_each (item, value)
            sb_exchange_add_upstream_header(x, name, item->s);
    }
}

static enum sb_rc change_headers(struct job *j)
{
    struct headers h;
    struct sb_str value;
    enum sb_rc rc;

    if (!j->c->any[HEADERS])
        return SB_OK;
    h.now = sb_request_headers(j->x);
    h.changed = sb_value_object(j->arena);
    (void)sb_object_remove(h.now, SB_STR("host"));
    for (int v = 0; v < SB_VERBS; v++) {
        each_rule(r, j->c, HEADERS, v)
        {
            if (v != SB_REMOVE && !is_there(&r->value))
                continue;
            rc = render(j, &r->value, &value);
            if (rc)
                return rc;
            change_header(j, &h, (enum sb_verb)v, r, value);
        }
    }
    write_headers(j->x, &h);
    return SB_OK;
}

/* -- bodies and queries ----------------------------------------------------------------------- */

static bool is_truthy(const struct sb_value *v)
{
    return v && !(sb_is(v, SB_V_BOOL) && !v->b);
}

/* One rule on an object. Removing counts as a change, whether there was something or not. */
static bool change_member(struct job *j, struct sb_value *object, enum sb_verb verb,
                          const struct rule *r, struct sb_str value)
{
    if (verb == SB_REMOVE)
        return (void)sb_object_remove(object, r->name), true;
    if (verb == SB_RENAME)
        return is_truthy(sb_object_get(object, r->name)) &&
               sb_member_rename(j->arena, object, r->name, value);
    return sb_member_change(j->arena, object, verb, r->name, sb_value_str(j->arena, value));
}

/* All rules of a place; what is empty has nothing to remove, rename or replace. */
static enum sb_rc change_object(struct job *j, enum place place, struct sb_value *object,
                                bool is_empty, bool *changed)
{
    struct sb_str value;
    enum sb_rc rc;

    for (int v = is_empty ? SB_ADD : SB_REMOVE; v < SB_VERBS; v++) {
        each_rule(r, j->c, place, v)
        {
            if (v != SB_REMOVE && !is_there(&r->value))
                continue;
            rc = render(j, &r->value, &value);
            if (rc)
                return rc;
            *changed |= change_member(j, object, (enum sb_verb)v, r, value);
        }
    }
    return SB_OK;
}

static enum sb_rc change_query(struct job *j)
{
    struct sb_value *query;
    bool changed = false;
    enum sb_rc rc;

    if (!j->c->any[QUERY])
        return SB_OK;
    rc = query_now(j, &query);
    if (!rc)
        rc = change_object(j, QUERY, query, false, &changed);
    if (!rc)
        sb_exchange_set_upstream_query(j->x, sb_args_text_sorted(j->arena, query));
    return rc;
}

static enum sb_rc change_form(struct job *j, struct sb_str *out, bool *changed)
{
    struct sb_value *form;
    enum sb_rc rc = sb_args_object(j->arena, j->body, &form);

    if (!rc)
        rc = change_object(j, BODY, form, j->body.len == 0, changed);
    if (!rc)
        *out = sb_args_text(j->arena, form);
    return rc;
}

/* What is no object stays as it is. */
static enum sb_rc change_json(struct job *j, struct sb_str *out, bool *changed)
{
    struct sb_value *body = sb_value_object(j->arena);
    enum sb_rc rc;

    if (j->body.len && sb_json_parse(j->arena, j->body, &body, NULL))
        return SB_OK;
    if (!sb_is(body, SB_V_OBJECT))
        return SB_OK;
    rc = change_object(j, BODY, body, j->body.len == 0, changed);
    if (!rc)
        *out = sb_json_text(j->arena, body, SB_JSON_SLASH);
    return rc;
}

/* All parts of the name become plain fields of the new one. */
static bool rename_part(struct job *j, struct sb_form *f, struct sb_str name, struct sb_str to)
{
    size_t n = f->n;
    bool found = false;

    if (sb_str_eq(name, to))
        return false;
    for (size_t i = 0; i < n; i++) {
        struct sb_part old = f->parts[i];

        if (!old.name.p || !sb_str_eq(old.name, name))
            continue;
        if (found)
            sb_form_add(j->arena, f, to, old.value);
        else
            sb_form_set(j->arena, f, to, old.value);
        found = true;
    }
    return sb_form_remove(f, name) > 0;
}

static bool change_part(struct job *j, struct sb_form *f, enum sb_verb verb, const struct rule *r,
                        struct sb_str value)
{
    bool there = sb_form_find(f, r->name) != NULL;

    if (verb == SB_REMOVE)
        return (void)sb_form_remove(f, r->name), true;
    if (verb == SB_RENAME)
        return rename_part(j, f, r->name, value);
    if (there != (verb == SB_REPLACE))
        return false;
    (void)sb_form_remove(f, r->name);
    sb_form_set(j->arena, f, r->name, value);
    return true;
}

/* In an order of its own, and nothing is appended. */
static enum sb_rc change_multipart(struct job *j, struct sb_str *out, bool *changed)
{
    static const enum sb_verb order[] = {SB_RENAME, SB_REMOVE, SB_REPLACE, SB_ADD};
    struct sb_form f;
    struct sb_str value;
    enum sb_rc rc;

    rc = sb_form_parse(j->arena, sb_exchange_upstream_header(j->x, SB_STR("Content-Type")), j->body,
                       &f);
    if (rc)
        return rc == SB_INVALID ? SB_OK : rc;
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        if (j->body.len == 0 && order[i] != SB_ADD)
            continue;
        each_rule(r, j->c, BODY, order[i])
        {
            rc = render(j, &r->value, &value);
            if (rc)
                return rc;
            *changed |= change_part(j, &f, order[i], r, value);
        }
    }
    *out = sb_form_text(j->arena, &f);
    return SB_OK;
}

static enum sb_rc change_body(struct job *j)
{
    struct sb_str text = {0};
    bool changed = false;
    enum sb_rc rc = SB_OK;

    if (!j->c->any[BODY])
        return SB_OK;
    switch (kind_now(j)) {
    case JSON:
        rc = change_json(j, &text, &changed);
        break;
    case MULTIPART:
        rc = change_multipart(j, &text, &changed);
        break;
    case FORM:
        rc = change_form(j, &text, &changed);
        break;
    case OTHER:
        return SB_OK;
    }
    if (!rc && changed)
        sb_exchange_set_upstream_body(j->x, text);
    return rc;
}

/* -- the request ------------------------------------------------------------------------------ */

/* Reads the body where rules may be for it. */
static enum sb_rc read_body(struct job *j)
{
    const struct config *c = j->c;
    enum kind kind = kind_now(j);
    bool moves = has_no_body(c->method) && kind == FORM;

    j->body = SB_STR("");
    if (!moves && !(c->any[BODY] && (kind != OTHER || c->sets_type)))
        return SB_OK;
    return sb_request_body(j->x, c->body_max, &j->body);
}

static enum sb_rc access(struct sb_exchange *x, const void *config)
{
    struct job j = {.x = x, .c = config, .arena = sb_exchange_arena(x)};
    enum sb_rc rc = read_body(&j);

    if (!rc)
        rc = change_path(&j);
    if (!rc)
        rc = change_method(&j);
    if (!rc)
        rc = change_headers(&j);
    if (!rc)
        rc = change_body(&j);
    if (!rc)
        rc = change_query(&j);
    if (rc != SB_TOOLARGE)
        return rc;
    /* Going on unchanged would be a way around the rules. */
    sb_exchange_answer_error(x, 413, SB_STR(""));
    return SB_OK;
}

const struct sb_plugin sb_plugin_request_transformer = {
    .name = "request-transformer",
    .priority = 801,
    .compile = compile,
    .access = access,
};
