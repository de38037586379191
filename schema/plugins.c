#include "schema/plugins.h"

#include "schema/plugin_schemas.h"
#include "schema/validate.h"

const struct sb_subschema *const *sb_plugin_schemas(void)
{
    return sb_plugin_schema_table;
}

static const struct sb_subschema *find(struct sb_str name)
{
    for (const struct sb_subschema *const *s = sb_plugin_schema_table; *s; s++) {
        if (sb_str_is(name, (*s)->name))
            return *s;
    }
    return NULL;
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
