#include "schema/plugins.h"

#include "schema/plugin_schemas.h"
#include "schema/validate.h"

enum { ADDED_MAX = 64 };

static const struct sb_subschema *added[ADDED_MAX + 1]; /* ends with NULL */
static size_t nadded;

static const struct sb_subschema *find_in(const struct sb_subschema *const *s, struct sb_str name)
{
    for (; *s; s++) {
        if (sb_str_is(name, (*s)->name))
            return *s;
    }
    return NULL;
}

static const struct sb_subschema *find(struct sb_str name)
{
    const struct sb_subschema *s = find_in(sb_plugin_schema_table, name);

    return s ? s : find_in(added, name);
}

enum sb_rc sb_plugin_schema_add(const struct sb_subschema *schema, struct sb_err *err)
{
    if (find(sb_str_c(schema->name)))
        return sb_err_set(err, SB_CONFLICT, "a plugin '%s' is there already", schema->name);
    if (nadded == ADDED_MAX)
        return sb_err_set(err, SB_TOOLARGE, "more than %d plugins", ADDED_MAX);
    added[nadded++] = schema;
    return SB_OK;
}

const struct sb_subschema *sb_plugin_subschema(struct sb_schema_ctx *ctx,
                                               const struct sb_value *key, const char **why)
{
    struct sb_str name = key->type == SB_V_STR ? key->s : sb_kong_lua_text(ctx->arena, key);
    const struct sb_subschema *s = find(name);

    if (s && (!ctx->plugin_enabled || ctx->plugin_enabled(ctx->arg, name)))
        return s;
    *why = sb_say(ctx, "plugin '%.*s' not enabled; add it to the 'plugins' configuration property",
                  SB_ARG(name));
    return NULL;
}
