/* schemas.c - GET /schemas/...: what an entity or a plugin's config is, for tools that fill in
 * defaults and draw forms (decK, the GUI). Drawn from the field tables, in the form in which Kong
 * shows its own:
 *
 *     {"fields": [{"name": {"type": "string", "required": true, ...}}, ...],
 *      "entity_checks": [{"at_least_one_of": [...]}, ...]}
 *
 * Two things of Kong's form are not there: the prose of `description`, and `match`, for our
 * patterns are regular expressions where Kong's are Lua's.
 */
#include "dataplane/admin/node.h"
#include "schema/plugins.h"
#include "shared/json.h"

struct painter {
    struct sb_arena *a;
    bool expressions; /* else fields with SB_F_EXPRESSIONS are left out */
};

static void set(const struct painter *p, struct sb_value *to, const char *key, struct sb_value *v)
{
    sb_object_set(p->a, to, sb_str_c(key), v);
}

static void set_true(const struct painter *p, struct sb_value *to, const char *key, bool on)
{
    if (on)
        set(p, to, key, sb_value_bool(p->a, true));
}

/* JSON text of a table. */
static struct sb_value *parsed(const struct painter *p, const char *json)
{
    struct sb_value *v = NULL;

    sb_assert(sb_json_parse(p->a, sb_str_c(json), &v, NULL) == SB_OK);
    return v;
}

/* "null", "true", or a text as it is. */
static struct sb_value *equal_to(const struct painter *p, const char *text)
{
    struct sb_value *v;

    if (sb_json_parse(p->a, sb_str_c(text), &v, NULL) == SB_OK)
        return v;
    return sb_value_text(p->a, text);
}

static struct sb_value *number(const struct painter *p, double n)
{
    return n == (double)(int64_t)n ? sb_value_int(p->a, (int64_t)n) : sb_value_num(p->a, n);
}

static struct sb_value *texts(const struct painter *p, const char *const *list, bool numbers)
{
    struct sb_value *array = sb_value_array(p->a);
    int64_t n;

    for (; list && *list; list++)
        sb_array_push(p->a, array,
                      numbers && sb_str_int(sb_str_c(*list), &n) ? sb_value_int(p->a, n)
                                                                 : sb_value_text(p->a, *list));
    return array;
}

/* -- fields ------------------------------------------------------------------------------------ */

static struct sb_value *paint_field(const struct painter *p, const struct sb_field *f);
static struct sb_value *paint_checks(const struct painter *p, const struct sb_entity_check *c);

static struct sb_value *paint_fields(const struct painter *p, const struct sb_field *fields)
{
    struct sb_value *list = sb_value_array(p->a), *one;

    for (; fields && fields->name; fields++) {
        if ((fields->flags & SB_F_EXPRESSIONS) && !p->expressions)
            continue;
        one = sb_value_object(p->a);
        set(p, one, fields->name, paint_field(p, fields));
        sb_array_push(p->a, list, one);
    }
    return list;
}

static struct sb_value *paint_shorthands(const struct painter *p, const struct sb_shorthand *s)
{
    struct sb_value *list = sb_value_array(p->a), *one;

    for (; s->name; s++) {
        one = sb_value_object(p->a);
        set(p, one, s->name, paint_field(p, s->field));
        sb_array_push(p->a, list, one);
    }
    return list;
}

static void paint_flags(const struct painter *p, struct sb_value *to, const struct sb_field *f)
{
    static const struct {
        unsigned flag;
        const char *key;
    } rows[] = {
        {SB_F_REQUIRED, "required"},
        {SB_F_UNIQUE | SB_F_UNIQUE_GLOBAL, "unique"},
        {SB_F_UNIQUE_GLOBAL, "unique_across_ws"},
        {SB_F_AUTO, "auto"},
        {SB_F_UUID, "uuid"},
        {SB_F_TIMESTAMP, "timestamp"},
        {SB_F_REFERENCEABLE, "referenceable"},
        {SB_F_ENCRYPTED, "encrypted"},
        {SB_F_TRANSIENT, "transient"},
        {SB_F_ABSTRACT, "abstract"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        set_true(p, to, rows[i].key, f->flags & rows[i].flag);
    if ((f->flags & SB_F_CASCADE) && !f->eq)
        set(p, to, "on_delete", sb_value_text(p->a, "cascade"));
}

static void paint_limits(const struct painter *p, struct sb_value *to, const struct sb_field *f)
{
    struct sb_value *between;
    bool numbers = f->type == SB_T_INTEGER || f->type == SB_T_NUMBER;

    if (f->has_between) {
        between = sb_value_array(p->a);
        sb_array_push(p->a, between, number(p, f->between_min));
        sb_array_push(p->a, between, number(p, f->between_max));
        set(p, to, "between", between);
    }
    if (f->has_gt)
        set(p, to, "gt", number(p, f->gt));
    if (f->has_len_min || (f->flags & SB_F_LEN_MIN_0))
        set(p, to, "len_min", sb_value_int(p->a, f->has_len_min ? f->len_min : 0));
    if (f->has_len_max)
        set(p, to, "len_max", sb_value_int(p->a, f->len_max));
    if (f->has_len_eq)
        set(p, to, "len_eq", sb_value_int(p->a, f->len_eq));
    if (f->one_of)
        set(p, to, "one_of", texts(p, f->one_of, numbers));
    if (f->not_one_of)
        set(p, to, "not_one_of", texts(p, f->not_one_of, numbers));
    if (f->contains)
        set(p, to, "contains", sb_value_text(p->a, f->contains));
}

static void paint_parts(const struct painter *p, struct sb_value *to, const struct sb_field *f)
{
    if (f->elements)
        set(p, to, "elements", paint_field(p, f->elements));
    if (f->keys)
        set(p, to, "keys", paint_field(p, f->keys));
    if (f->values)
        set(p, to, "values", paint_field(p, f->values));
    if (f->type == SB_T_RECORD && !(f->flags & SB_F_ABSTRACT))
        set(p, to, "fields", paint_fields(p, f->fields));
    if (f->checks && f->checks->kind)
        set(p, to, "entity_checks", paint_checks(p, f->checks));
    if (f->shorthands && f->shorthands->name)
        set(p, to, "shorthand_fields", paint_shorthands(p, f->shorthands));
}

/* What conditions compare with: the demands alone, without a type. */
static struct sb_value *paint_demands(const struct painter *p, const struct sb_field *f)
{
    struct sb_value *v = sb_value_object(p->a);

    if (f->eq)
        set(p, v, "eq", equal_to(p, f->eq));
    paint_flags(p, v, f);
    paint_limits(p, v, f);
    if (f->elements)
        set(p, v, "elements", paint_field(p, f->elements));
    return v;
}

static struct sb_value *paint_field(const struct painter *p, const struct sb_field *f)
{
    static const char *const types[] = {
        [SB_T_STRING] = "string",   [SB_T_INTEGER] = "integer", [SB_T_NUMBER] = "number",
        [SB_T_BOOLEAN] = "boolean", [SB_T_ARRAY] = "array",     [SB_T_SET] = "set",
        [SB_T_MAP] = "map",         [SB_T_RECORD] = "record",   [SB_T_FOREIGN] = "foreign",
        [SB_T_JSON] = "json",
    };
    struct sb_value *v = paint_demands(p, f);

    set(p, v, "type", sb_value_text(p->a, types[f->type]));
    if (f->reference)
        set(p, v, "reference", sb_value_text(p->a, f->reference));
    if (f->def)
        set(p, v, "default", parsed(p, f->def));
    paint_parts(p, v, f);
    return v;
}

/* -- checks ------------------------------------------------------------------------------------ */

static struct sb_value *paint_condition(const struct painter *p, const struct sb_entity_check *c)
{
    bool any = c->kind == SB_C_CONDITIONAL_AT_LEAST_ONE_OF;
    struct sb_value *v = sb_value_object(p->a);

    set(p, v, "if_field", sb_value_text(p->a, c->if_field));
    set(p, v, "if_match", paint_demands(p, c->if_match));
    if (any)
        set(p, v, "then_at_least_one_of", texts(p, c->fields, false));
    else
        set(p, v, "then_field", sb_value_text(p->a, c->then_field));
    if (c->then_match)
        set(p, v, "then_match", paint_demands(p, c->then_match));
    if (c->err)
        set(p, v, "then_err", sb_value_text(p->a, c->err));
    if (c->else_match)
        set(p, v, "else_match", paint_demands(p, c->else_match));
    if (c->else_fields)
        set(p, v, "else_then_at_least_one_of", texts(p, c->else_fields, false));
    if (c->else_err)
        set(p, v, "else_then_err", sb_value_text(p->a, c->else_err));
    return v;
}

static struct sb_value *paint_check(const struct painter *p, const struct sb_entity_check *c)
{
    static const char *const names[] = {
        [SB_C_AT_LEAST_ONE_OF] = "at_least_one_of",
        [SB_C_ONLY_ONE_OF] = "only_one_of",
        [SB_C_DISTINCT] = "distinct",
        [SB_C_MUTUALLY_REQUIRED] = "mutually_required",
        [SB_C_MUTUALLY_EXCLUSIVE] = "mutually_exclusive",
        [SB_C_CONDITIONAL] = "conditional",
        [SB_C_CONDITIONAL_AT_LEAST_ONE_OF] = "conditional_at_least_one_of",
        [SB_C_CUSTOM] = "custom_entity_check",
    };
    struct sb_value *one = sb_value_object(p->a), *custom;

    switch (c->kind) {
    case SB_C_CONDITIONAL:
    case SB_C_CONDITIONAL_AT_LEAST_ONE_OF:
        set(p, one, names[c->kind], paint_condition(p, c));
        break;
    case SB_C_CUSTOM:
        custom = sb_value_object(p->a);
        set(p, custom, "field_sources", texts(p, c->fields, false));
        set(p, one, names[c->kind], custom);
        break;
    default:
        set(p, one, names[c->kind], texts(p, c->fields, false));
        break;
    }
    return one;
}

static struct sb_value *paint_checks(const struct painter *p, const struct sb_entity_check *c)
{
    struct sb_value *list = sb_value_array(p->a);

    for (; c && c->kind; c++)
        sb_array_push(p->a, list, paint_check(p, c));
    return list;
}

static void answer_schema(struct sb_call *c, const struct sb_field *fields,
                          const struct sb_entity_check *checks)
{
    struct painter p = {.a = c->arena};
    struct sb_value *body = sb_value_object(c->arena);
    struct sb_schema_ctx ctx;

    sb_admin_ctx(c, &ctx);
    p.expressions = ctx.expressions;
    set(&p, body, "fields", paint_fields(&p, fields));
    set(&p, body, "entity_checks", paint_checks(&p, checks));
    sb_answer(c, 200, body);
}

/* -- the endpoints ----------------------------------------------------------------------------- */

static const struct sb_entity *find_entity(struct sb_call *c)
{
    struct sb_str name = c->segments[1]; /* /schemas/NAME ... */
    const struct sb_entity *kind = sb_entity_find(name);

    if (!kind)
        sb_answer_message(c, 404, "No entity named '%.*s'", SB_ARG(name));
    return kind;
}

static void get_schema(struct sb_call *c, const struct sb_endpoint *e)
{
    const struct sb_entity *kind = find_entity(c);

    (void)e;
    if (kind)
        answer_schema(c, kind->fields, kind->checks);
}

/* Of a kind of plugins or vaults. */
static const struct sb_subschema *find_subschema(struct sb_call *c, const char *entity,
                                                 const char *called)
{
    const struct sb_entity *kind = sb_entity_find(sb_str_c(entity));
    const struct sb_subschema *s;
    struct sb_schema_ctx ctx;
    const char *why;

    sb_admin_ctx(c, &ctx);
    s = kind->subschema(&ctx, sb_value_str(c->arena, c->params[0]), &why);
    if (!s)
        sb_answer_message(c, 404, "No %s named '%.*s'", called, SB_ARG(c->params[0]));
    return s;
}

static void get_plugin_schema(struct sb_call *c, const struct sb_endpoint *e)
{
    const struct sb_subschema *s = find_subschema(c, "plugins", "plugin");

    (void)e;
    if (s)
        answer_schema(c, s->fields, s->checks);
}

static void get_vault_schema(struct sb_call *c, const struct sb_endpoint *e)
{
    const struct sb_subschema *s = find_subschema(c, "vaults", "vault");

    (void)e;
    if (s)
        answer_schema(c, s->fields, s->checks);
}

/* The config alone, as it was asked for before /schemas was there. */
static void get_plugin_config(struct sb_call *c, const struct sb_endpoint *e)
{
    const struct sb_subschema *s = find_subschema(c, "plugins", "plugin");
    const struct sb_field *config = s ? sb_field_find(s->fields, SB_STR("config")) : NULL;

    (void)e;
    if (s)
        answer_schema(c, config ? config->fields : NULL, config ? config->checks : NULL);
}

static void post_validate(struct sb_call *c, const struct sb_endpoint *e)
{
    const struct sb_entity *kind = find_entity(c);
    struct sb_kong_error error = {0};
    struct sb_schema_ctx ctx;
    struct sb_value *valid;

    (void)e;
    if (!kind)
        return;
    sb_admin_ctx(c, &ctx);
    if (sb_entity_insert(&ctx, kind, c->input, &valid, &error))
        sb_answer_error(c, &error);
    else
        sb_answer_message(c, 200, "schema validation successful");
}

const struct sb_endpoint sb_schema_endpoints[] = {
    {"/schemas/{entity}", SB_GET, get_schema},
    {"/schemas/{entity}/validate", SB_POST, post_validate},
    {"/schemas/plugins/validate", SB_POST, post_validate},
    {"/schemas/vaults/validate", SB_POST, post_validate},
    {"/schemas/plugins/{name}", SB_GET, get_plugin_schema},
    {"/schemas/vaults/{name}", SB_GET, get_vault_schema},
    {"/plugins/schema/{name}", SB_GET, get_plugin_config},
    {0},
};
