#include "dataplane/config/context.h"

#include "dataplane/plugins/known.h"
#include "shared/settings.h"

enum sb_router_flavor sb_context_flavor(const struct sb_settings *s)
{
    struct sb_str text = sb_str_c(sb_settings_str(s, "router_flavor"));

    if (sb_str_is(text, "expressions"))
        return SB_ROUTER_EXPRESSIONS;
    return sb_str_is(text, "traditional") ? SB_ROUTER_TRADITIONAL
                                          : SB_ROUTER_TRADITIONAL_COMPATIBLE;
}

bool sb_context_plugin_enabled(const struct sb_settings *s, struct sb_str name)
{
    size_t count;
    const struct sb_str *items = sb_settings_list(s, "plugins", &count);

    for (size_t i = 0; i < count; i++) {
        if (sb_str_eq(items[i], name) || (sb_str_is(items[i], "bundled") && sb_plugin_known(name)))
            return true;
    }
    return false;
}

static bool plugin_enabled(void *arg, struct sb_str name)
{
    return sb_context_plugin_enabled(arg, name);
}

static bool route_compiles(void *arg, const struct sb_value *route, struct sb_err *err)
{
    enum sb_router_flavor flavor = sb_context_flavor(arg);

    return sb_router_route_compiles(&flavor, route, err);
}

struct sb_schema_ctx sb_context(const struct sb_settings *s, struct sb_arena *arena)
{
    enum sb_router_flavor flavor = sb_context_flavor(s);
    const char *database = sb_settings_str(s, "database");

    return (struct sb_schema_ctx){
        .arena = arena,
        .dbless = database && strcmp(database, "off") == 0,
        .expressions = flavor == SB_ROUTER_EXPRESSIONS,
        .traditional = flavor == SB_ROUTER_TRADITIONAL,
        .plugin_enabled = plugin_enabled,
        .route_compiles = route_compiles,
        .arg = (void *)s, /* only read */
    };
}
