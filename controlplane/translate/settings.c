#include <stddef.h>

#include "controlplane/translate/translate.h"

struct option {
    const char *name;
    size_t at;
    enum sb_vtype type;
};

#define AT(field) offsetof(struct sb_translate_settings, field)

static const struct option flags[] = {
    {"ExpressionRoutes", AT(expression_routes), SB_V_BOOL},
    {"FillIDs", AT(fill_ids), SB_V_BOOL},
    {"KongServiceFacade", AT(service_facade), SB_V_BOOL},
    {"RewriteURIs", AT(rewrite_uris), SB_V_BOOL},
    {"CombinedServicesFromDifferentHTTPRoutes", AT(combined_services), SB_V_BOOL},
    {"SupportRedirectPlugin", AT(redirect_plugin), SB_V_BOOL},
    {"EnterpriseEdition", AT(enterprise), SB_V_BOOL},
    {"KongCustomEntity", AT(custom_entity), SB_V_BOOL},
    {0},
};

static const struct option options[] = {
    {"cluster_domain", AT(cluster_domain), SB_V_STR},
    {"drain_support", AT(drain_support), SB_V_BOOL},
    {"kong_version", AT(kong_version), SB_V_STR},
    {"workspace", AT(workspace), SB_V_STR},
    {"gateway_controller_name", AT(gateway_controller_name), SB_V_STR},
    {"ingress_class", AT(ingress_class), SB_V_STR},
    {0},
};

static const struct {
    const char *name;
    const struct option *options;
} groups[] = {
    {"feature_flags", flags},
    {"options", options},
};

void sb_translate_settings_init(struct sb_translate_settings *s)
{
    *s = (struct sb_translate_settings){
        .fill_ids = true,
        .custom_entity = true,
        .cluster_domain = "",
        .kong_version = "3.9.1",
        .workspace = "",
        .ingress_class = "kong",
        .gateway_controller_name = "",
    };
}

static enum sb_rc read_option(struct sb_translate_settings *s, struct sb_arena *arena,
                              const struct option *list, const struct sb_member *m,
                              struct sb_err *err)
{
    while (list->name && !sb_str_is(m->key, list->name))
        list++;
    if (!list->name)
        return sb_err_set(err, SB_INVALID, "%.*s: unknown", SB_ARG(m->key));
    if (m->value->type != list->type)
        return sb_err_set(err, SB_INVALID, "%s: must be %s", list->name,
                          list->type == SB_V_BOOL ? "true or false" : "a text");
    if (list->type == SB_V_BOOL)
        *(bool *)((char *)s + list->at) = m->value->b;
    else
        *(const char **)((char *)s + list->at) = sb_arena_cstr(arena, m->value->s);
    return SB_OK;
}

enum sb_rc sb_translate_settings_read(struct sb_translate_settings *s, struct sb_arena *arena,
                                      const struct sb_value *doc, struct sb_err *err)
{
    const struct sb_member *group, *m;

    sb_object_each (group, doc) {
        const struct option *list = NULL;

        for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
            if (sb_str_is(group->key, groups[i].name))
                list = groups[i].options;
        }
        if (!list)
            return sb_err_set(err, SB_INVALID, "%.*s: unknown", SB_ARG(group->key));
        sb_object_each (m, group->value) {
            enum sb_rc rc = read_option(s, arena, list, m, err);

            if (rc) {
                sb_err_at(err, "%.*s", SB_ARG(group->key));
                return rc;
            }
        }
    }
    return SB_OK;
}
