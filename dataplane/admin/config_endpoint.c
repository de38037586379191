/* config_endpoint.c - /config: the whole configuration of a node without a database, out and in
 * (reference/admin-api.md 6, declarative-config.md 6 and 7).
 *
 * A document comes as the JSON body itself (it has _format_version), as text in the field `config`
 * of a JSON or form body, or as the raw YAML or JSON body. Only text has a hash that is known
 * before it is read, so only text can be answered 304.
 */
#include "dataplane/admin/info.h"
#include "schema/declarative.h"
#include "shared/digest.h"
#include "shared/yaml.h"

static bool refuse_with_database(struct sb_call *c)
{
    if (c->node->dbless)
        return false;
    sb_answer_message(c, 400,
                      "this endpoint is only available when Kong is configured to not use a "
                      "database");
    return true;
}

static void get_config(struct sb_call *c)
{
    struct sb_value *rows = sb_config_rows(c->node->parts.config, c->arena);
    struct sb_value *body = sb_value_object(c->arena), *doc;
    struct sb_schema_ctx ctx;
    struct sb_buf text;

    sb_admin_ctx(c, &ctx);
    doc = sb_declarative_dump(&ctx, rows ? rows : sb_value_object(c->arena));
    sb_buf_init(&text, 0);
    sb_yaml_write(&text, doc);
    sb_object_set(c->arena, body, SB_STR("config"),
                  sb_value_str(c->arena, sb_arena_str(c->arena, sb_buf_get(&text))));
    sb_buf_release(&text);
    sb_answer(c, 200, body);
}

/* -- the document ------------------------------------------------------------------------------ */

static bool flag(struct sb_call *c, const char *name, const char *const *words)
{
    const struct sb_arg *arg = sb_call_arg(c, name);

    for (; arg && *words; words++)
        if (sb_str_is(arg->value, *words))
            return true;
    return false;
}

static bool unchanged(struct sb_call *c, struct sb_str text)
{
    struct sb_config_state state;
    uint8_t md5[SB_MD5_LEN];

    sb_md5(text, md5);
    sb_config_version(c->node->parts.config, &state);
    return sb_str_eq(sb_hex(c->arena, md5, sizeof md5), sb_str_c(state.hash));
}

/* why: a whole sentence. */
static void refuse_document(struct sb_call *c, const char *why)
{
    struct sb_kong_error e = {.code = SB_KONG_DECLARATIVE_CONFIG,
                              .fields = sb_value_object(c->arena)};
    struct sb_str text;

    sb_object_set(c->arena, e.fields, SB_STR("error"), sb_value_text(c->arena, why));
    text = sb_kong_lua_text(c->arena, e.fields);
    e.message = sb_arena_printf(c->arena, "declarative config is invalid: %.*s", SB_ARG(text));
    sb_answer_error(c, &e);
}

/* The text of the document, p NULL when the body is the document. */
static struct sb_str text_of(struct sb_call *c)
{
    const struct sb_value *config = sb_get(c->input, "config");

    if (sb_is(config, SB_V_STR))
        return config->s;
    if (!c->content_type.len || sb_str_find(c->content_type, SB_STR("yaml"), 0) >= 0)
        return c->body;
    return (struct sb_str){0};
}

/* False: the call is answered. */
static bool read_document(struct sb_call *c, struct sb_str text, struct sb_value **doc)
{
    struct sb_err err;

    *doc = c->input;
    if (!text.p && c->is_form) {
        refuse_document(c, "failed parsing declarative configuration: expected an object");
        return false;
    }
    if (!text.p)
        return true;
    if (!sb_str_trim(text).len) {
        sb_answer_message(c, 400, "expected a declarative configuration");
        return false;
    }
    if (sb_declarative_text(c->arena, text, NULL, doc, &err)) {
        refuse_document(c, err.text);
        return false;
    }
    return true;
}

/* -- the answer -------------------------------------------------------------------------------- */

/* The row with null for what it lacks. */
static struct sb_value *with_nulls(struct sb_call *c, const struct sb_schema_ctx *ctx,
                                   const struct sb_entity *kind, const struct sb_value *row)
{
    struct sb_value *all = sb_value_object(c->arena), *v;

    for (const struct sb_field *f = kind->fields; f->name; f++) {
        if ((f->flags & SB_F_EXPRESSIONS) && !ctx->expressions)
            continue;
        v = sb_get(row, f->name);
        sb_object_set(c->arena, all, sb_str_c(f->name), v ? v : sb_value_null(c->arena));
    }
    return all;
}

/* {entity: {id: entity}} */
static struct sb_value *by_id(struct sb_call *c, const struct sb_schema_ctx *ctx,
                              const struct sb_value *rows)
{
    struct sb_value *all = sb_value_object(c->arena), *one, *row;
    const struct sb_member *m;

    sb_object_each (m, rows) {
        const struct sb_entity *kind = sb_entity_find(m->key);

        if (!kind || !m->value->count)
            continue;
        one = sb_value_object(c->arena);
        sb_array_each (row, m->value)
            sb_object_set(c->arena, one, sb_value_str_at(row, kind->primary_key),
                          with_nulls(c, ctx, kind, row));
        sb_object_set(c->arena, all, m->key, one);
    }
    return all;
}

static void refuse_content(struct sb_call *c, struct sb_kong_error *e)
{
    static const char *const yes[] = {"true", "1", "on", "yes", NULL};

    if (flag(c, "flatten_errors", yes))
        sb_declarative_flatten(c->arena, e);
    sb_answer_error(c, e);
}

static void post_config(struct sb_call *c)
{
    static const char *const one[] = {"1", NULL};
    struct sb_str text = text_of(c);
    struct sb_value *doc, *rows;
    struct sb_kong_error e = {0};
    struct sb_schema_ctx ctx;
    struct sb_err err;
    char hash[SB_CONFIG_HASH_LEN + 1];

    if (text.p && flag(c, "check_hash", one) && unchanged(c, text)) {
        sb_answer_nothing(c, 304);
        return;
    }
    if (!read_document(c, text, &doc))
        return;
    sb_admin_ctx(c, &ctx);
    if (sb_declarative_load(&ctx, doc, text.p ? text : SB_STR(""), &rows, hash, &e)) {
        refuse_content(c, &e);
        return;
    }
    if (sb_config_load_rows(c->node->parts.config, rows, hash, &err)) {
        sb_answer_message(c, 500, "%s", err.text);
        return;
    }
    sb_answer(c, 201, by_id(c, &ctx, rows));
}

static void config(struct sb_call *c, const struct sb_endpoint *e)
{
    (void)e;
    if (refuse_with_database(c))
        return;
    if (c->method == SB_POST)
        post_config(c);
    else
        get_config(c);
}

const struct sb_endpoint sb_config_endpoints[] = {
    {"/config", SB_GET | SB_POST, config},
    {NULL},
};
