/* response_transformer.c - headers and JSON bodies of responses, changed by lists of rules
 * (reference/plugins-transform.md).
 *
 *     remove, rename, replace (if there), add (if not there), append: in this order
 *
 * Whether a header is there is asked of the response as it came, so that what is removed is not
 * added again. A JSON body is held back until all of it is there, and passes unchanged where it is
 * no JSON after all; other bodies pass as they come. One too large to hold is cut off.
 */
#include "dataplane/plugins/bundled.h"
#include "dataplane/plugins/plugin.h"
#include "dataplane/plugins/transform/transform.h"
#include "shared/buf.h"
#include "shared/json.h"
#include "shared/log.h"

enum { BODY_MAX = 64 << 20 };

enum cast { CAST_STRING, CAST_BOOLEAN, CAST_NUMBER };

struct rule {
    struct sb_str name, value; /* value p NULL: there is none */
    enum cast cast;
};

struct rules {
    const struct rule *items;
    size_t count;
};

struct config {
    struct rules headers[SB_VERBS], json[SB_VERBS];
    bool wants_json;
};

/* -- compiling -------------------------------------------------------------------------------- */

static enum cast cast_of(const struct sb_value *types, uint32_t i)
{
    struct sb_str type = SB_STR("string");

    if (sb_is(types, SB_V_ARRAY) && i < types->count && sb_is(types->items[i], SB_V_STR))
        type = types->items[i]->s;
    return sb_str_is(type, "boolean")  ? CAST_BOOLEAN
           : sb_str_is(type, "number") ? CAST_NUMBER
                                       : CAST_STRING;
}

static struct rules rules_of(struct sb_arena *a, const struct sb_value *lists, const char *name)
{
    const struct sb_value *list = sb_get(lists, name), *types = sb_get(lists, "json_types");
    struct rule *items;

    if (!sb_is(list, SB_V_ARRAY) || list->count == 0)
        return (struct rules){0};
    items = SB_NEW_N(a, struct rule, list->count);
    for (uint32_t i = 0; i < list->count; i++) {
        struct sb_rule r = sb_rule_of(a, list->items[i]->s);

        items[i] = (struct rule){r.name, r.value, cast_of(types, i)};
    }
    return (struct rules){items, list->count};
}

static enum sb_rc compile(const struct sb_plugin_source *in, const void **out, struct sb_err *err)
{
    struct config *c = SB_NEW(in->arena, struct config);

    (void)err;
    for (int v = 0; v < SB_VERBS; v++) {
        const struct sb_value *lists = sb_get(in->config, sb_verbs[v]);

        c->headers[v] = rules_of(in->arena, lists, "headers");
        c->json[v] = rules_of(in->arena, lists, "json");
        c->wants_json |= c->json[v].count > 0;
    }
    *out = c;
    return SB_OK;
}

/* -- headers ---------------------------------------------------------------------------------- */

/* All lines of a header, under another name. */
struct moving {
    struct sb_exchange *x;
    struct sb_str to;
    bool begun;
};

static bool move(void *arg, struct sb_str value)
{
    struct moving *m = arg;

    if (m->begun)
        sb_exchange_add_response_header(m->x, m->to, value);
    else
        sb_exchange_set_response_header(m->x, m->to, value);
    m->begun = true;
    return true;
}

static void apply(struct sb_exchange *x, enum sb_verb verb, const struct rule *r, bool there)
{
    struct moving m = {x, r->value, false};

    switch (verb) {
    case SB_REMOVE:
        sb_exchange_set_response_header(x, r->name, (struct sb_str){0});
        break;
    case SB_RENAME:
        if (!there || !r->value.p)
            break;
        sb_exchange_each_response_header(x, r->name, move, &m);
        if (!sb_str_ieq(r->name, r->value))
            sb_exchange_set_response_header(x, r->name, (struct sb_str){0});
        break;
    case SB_REPLACE:
        if (there && r->value.p)
            sb_exchange_set_response_header(x, r->name, r->value);
        break;
    case SB_ADD:
        if (!there && r->value.p)
            sb_exchange_set_response_header(x, r->name, r->value);
        break;
    default:
        if (r->value.p)
            sb_exchange_add_response_header(x, r->name, r->value);
    }
}

static void change_headers(struct sb_exchange *x, const struct config *c)
{
    size_t total = 0, n = 0;
    bool *there;

    for (int v = 0; v < SB_VERBS; v++)
        total += c->headers[v].count;
    if (total == 0)
        return;
    there = SB_NEW_N(sb_exchange_arena(x), bool, total);
    for (int v = 0; v < SB_VERBS; v++)
        for (size_t i = 0; i < c->headers[v].count; i++)
            there[n++] = sb_exchange_response_header(x, c->headers[v].items[i].name).p != NULL;
    n = 0;
    for (int v = 0; v < SB_VERBS; v++)
        for (size_t i = 0; i < c->headers[v].count; i++)
            apply(x, (enum sb_verb)v, &c->headers[v].items[i], there[n++]);
}

/* application/json or a type that ends in +json, perhaps with parameters; of several, any. */
static bool says_json(struct sb_str types)
{
    struct sb_str type;

    while (sb_str_split(&types, ',', &type)) {
        ptrdiff_t semicolon = sb_str_chr(type, ';', 0);

        type = sb_str_trim(semicolon < 0 ? type : sb_str_first(type, (size_t)semicolon));
        if (sb_str_ieq(type, SB_STR("application/json")) ||
            (type.len > 5 && sb_str_ieq(sb_str_from(type, type.len - 5), SB_STR("+json"))))
            return true;
    }
    return false;
}

/* -- the body --------------------------------------------------------------------------------- */

static struct sb_value *cast(struct sb_arena *a, const struct rule *r)
{
    double number;

    if (r->cast == CAST_BOOLEAN)
        return sb_value_bool(a, sb_str_is(r->value, "true"));
    if (r->cast == CAST_NUMBER)
        return sb_str_num(r->value, &number) ? sb_value_num(a, number) : NULL;
    return sb_value_str(a, r->value);
}

static void change_member(struct sb_arena *a, struct sb_value *body, enum sb_verb verb,
                          const struct rule *r)
{
    struct sb_value *value;

    if (verb == SB_REMOVE)
        (void)sb_object_remove(body, r->name);
    else if (verb == SB_RENAME && r->value.p)
        (void)sb_member_rename(a, body, r->name, r->value);
    else if (r->value.p && (value = cast(a, r)))
        (void)sb_member_change(a, body, verb, r->name, value);
}

/* The changed text; the text itself when it is no JSON object. */
static struct sb_str change_body(struct sb_exchange *x, const struct config *c, struct sb_str text)
{
    struct sb_arena *a = sb_exchange_arena(x);
    struct sb_value *body;
    struct sb_err err;

    if (sb_json_parse(a, text, &body, &err) || !sb_is(body, SB_V_OBJECT)) {
        sb_warn("response-transformer: the body is no JSON object, and stays as it is, "
                "request_id: %.*s",
                SB_ARG(sb_exchange_request_id(x)));
        return text;
    }
    for (int v = 0; v < SB_VERBS; v++)
        for (size_t i = 0; i < c->json[v].count; i++)
            change_member(a, body, (enum sb_verb)v, &c->json[v].items[i]);
    return sb_json_text(a, body, SB_JSON_SLASH);
}

static void release(void *arg)
{
    sb_buf_release(arg);
}

static enum sb_rc header_filter(struct sb_exchange *x, const void *config)
{
    const struct config *c = config;
    struct sb_buf *held;

    change_headers(x, c);
    if (!c->wants_json || !says_json(sb_exchange_response_header(x, SB_STR("Content-Type")))) {
        sb_exchange_leave_body(x, config);
        return SB_OK;
    }
    held = sb_exchange_state(x, config, sizeof *held);
    sb_buf_init(held, BODY_MAX);
    sb_arena_defer(sb_exchange_arena(x), release, held);
    return SB_OK;
}

static enum sb_rc body_filter(struct sb_exchange *x, const void *config, struct sb_chunk *chunk)
{
    struct sb_buf *held = sb_exchange_state(x, config, sizeof *held);

    if (held->max == 0) /* another plugin ended the header filters before it was our turn */
        return SB_OK;
    sb_buf_str(held, chunk->data);
    if (held->full) {
        sb_warn("response-transformer: a body is longer than %d bytes, request_id: %.*s", BODY_MAX,
                SB_ARG(sb_exchange_request_id(x)));
        return SB_TOOLARGE;
    }
    chunk->data = (struct sb_str){0};
    if (chunk->last && held->len)
        chunk->data = change_body(x, config, sb_buf_get(held));
    return SB_OK;
}

const struct sb_plugin sb_plugin_response_transformer = {
    .name = "response-transformer",
    .priority = 800,
    .compile = compile,
    .header_filter = header_filter,
    .body_filter = body_filter,
};
