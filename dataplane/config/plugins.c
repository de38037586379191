#include "dataplane/config/plugins.h"

#include <limits.h>
#include <stdlib.h>

#include "dataplane/config/context.h"
#include "dataplane/plugins/known.h"
#include "dataplane/plugins/vault.h"
#include "schema/plugins.h"
#include "shared/map.h"

struct sb_plugin_compiler {
    const struct sb_settings *settings;
    struct sb_vaults *vaults;
    struct sb_map stand_ins; /* struct sb_plugin, by name: of plugins that are not here */
};

struct sb_plugin_compiler *sb_plugin_compiler_new(const struct sb_settings *settings,
                                                  struct sb_vaults *vaults)
{
    struct sb_plugin_compiler *c = sb_xcalloc(1, sizeof *c);

    c->settings = settings;
    c->vaults = vaults;
    return c;
}

void sb_plugin_compiler_free(struct sb_plugin_compiler *c)
{
    struct sb_map_slot *slot;

    sb_map_each (slot, &c->stand_ins)
        free(slot->value);
    sb_map_release(&c->stand_ins);
    free(c);
}

/* Runs in the plugin's place in the order; of a plugin that no one knows, before all others. */
static const struct sb_plugin *stand_in(struct sb_plugin_compiler *c, struct sb_str name)
{
    const struct sb_known_plugin *known = sb_plugin_known(name);
    struct sb_plugin *p = sb_map_get(&c->stand_ins, name);
    char *text;

    if (p)
        return p;
    p = sb_xcalloc(1, sizeof *p + name.len + 1);
    text = memcpy((char *)(p + 1), name.p ? name.p : "", name.len);
    p->name = text;
    p->priority = known ? known->priority : INT_MAX;
    sb_map_set(&c->stand_ins, sb_str_n(text, name.len), p);
    return p;
}

static bool for_http(const struct sb_value *row)
{
    static const char *const http[] = {"http", "https", "grpc", "grpcs"};
    const struct sb_value *list = sb_get(row, "protocols"), *item;

    if (!sb_is(list, SB_V_ARRAY)) /* null: the plugin's defaults, which are for HTTP */
        return true;
    sb_array_each (item, list)
        for (size_t i = 0; i < sizeof http / sizeof *http; i++)
            if (sb_is(item, SB_V_STR) && sb_str_is(item->s, http[i]))
                return true;
    return false;
}

static struct sb_plugin_instance *new_instance(struct sb_arena *a, const struct sb_value *row)
{
    struct sb_plugin_instance *in = SB_NEW(a, struct sb_plugin_instance);

    in->id = sb_arena_str(a, sb_value_str_at(row, "id"));
    in->instance_name = sb_arena_str(a, sb_value_str_at(row, "instance_name"));
    in->route_id = sb_arena_str(a, sb_value_str_at(row, "route.id"));
    in->service_id = sb_arena_str(a, sb_value_str_at(row, "service.id"));
    in->consumer_id = sb_arena_str(a, sb_value_str_at(row, "consumer.id"));
    return in;
}

/* The config's fields; NULL: no schema is known by that name. */
static const struct sb_field *config_fields(struct sb_schema_ctx *ctx, const struct sb_value *name)
{
    const char *why;
    const struct sb_subschema *s = name ? sb_plugin_subschema(ctx, name, &why) : NULL;
    const struct sb_field *f = s ? sb_field_find(s->fields, SB_STR("config")) : NULL;

    return f ? f->fields : NULL;
}

static enum sb_rc compile_config(struct sb_plugin_compiler *c, struct sb_arena *a,
                                 struct sb_arena *scratch, const struct sb_value *row,
                                 struct sb_plugin_instance *in, bool *secret, struct sb_err *err)
{
    struct sb_schema_ctx ctx = {.arena = scratch};
    const struct sb_value *whole = sb_entity_read(&ctx, sb_entity_find(SB_STR("plugins")), row);
    struct sb_plugin_source source = {
        .config = sb_get(whole, "config"), .instance = in, .settings = c->settings, .arena = a};
    enum sb_rc rc = SB_OK;

    *secret = sb_vaults_resolve(c->vaults, scratch, config_fields(&ctx, sb_get(row, "name")),
                                sb_get(whole, "config"));
    if (in->plugin->compile)
        rc = in->plugin->compile(&source, &in->config, err);
    else
        in->config = sb_value_copy(a, source.config);
    if (!rc && in->plugin->whole_response)
        in->whole_response = in->plugin->whole_response(in->config);
    return rc;
}

/* Without an instance for what only watches. */
static enum sb_rc refuse(struct sb_plugin_compiler *c, struct sb_str name,
                         struct sb_plugin_instance *in, struct sb_plugin_instance **out)
{
    const struct sb_known_plugin *known = sb_plugin_known(name);

    in->refused = true;
    if (!in->plugin)
        in->plugin = stand_in(c, name);
    *out = known && known->watches ? NULL : in;
    return SB_INVALID;
}

static const char *consequence(struct sb_str name)
{
    const struct sb_known_plugin *known = sb_plugin_known(name);

    return known && known->watches ? "requests go on without it"
                                   : "requests that it is for are answered with 503";
}

enum sb_rc sb_compile_plugin(struct sb_plugin_compiler *c, struct sb_arena *a,
                             struct sb_arena *scratch, const struct sb_value *row,
                             struct sb_plugin_instance **out, bool *secret, struct sb_err *err)
{
    struct sb_str name = sb_value_str_at(row, "name");
    struct sb_plugin_instance *in = new_instance(a, row);

    *out = NULL;
    *secret = false;
    if (!sb_value_bool_at(row, "enabled", true) || !for_http(row))
        return SB_OK;
    in->plugin = sb_plugin_find(name);
    if (c->settings && !sb_context_plugin_enabled(c->settings, name))
        sb_err_set(err, SB_INVALID, "it is not among the plugins that the setting plugins enables");
    else if (!in->plugin)
        sb_err_set(err, SB_INVALID, "this gateway has no plugin '%.*s' yet", SB_ARG(name));
    else if (!compile_config(c, a, scratch, row, in, secret, err)) {
        *out = in;
        return SB_OK;
    }
    sb_err_at(err, "%s", consequence(name));
    return refuse(c, name, in, out);
}
