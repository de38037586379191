/* identity.c - who an entity is, and where it comes from. */
#include "controlplane/translate/annotations.h"
#include "controlplane/translate/translator.h"
#include "shared/digest.h"

/* The names below which KIC derives ids; entities without one get no id of ours. */
static const char *const plural[ENTITY_KINDS] = {
    [E_SERVICES] = "services",
    [E_ROUTES] = "routes",
    [E_PLUGINS] = "plugins",
};

void identity_init(struct sb_translator *t)
{
    static const struct sb_str root_text = SB_STR_INIT("fd02801f-0957-4a15-a55a-c8d9606f30b5");
    struct sb_uuid root;

    sb_assert(sb_uuid_parse(root_text, &root));
    for (size_t i = 0; i < ENTITY_KINDS; i++) {
        if (plural[i])
            t->namespaces[i] = sb_uuid_v5(&root, sb_str_c(plural[i]));
    }
}

struct sb_value *identity(const struct sb_translator *t, struct sb_arena *a, enum entity_kind kind,
                          struct sb_str key)
{
    char *text;
    struct sb_uuid id;

    if (!t->settings->fill_ids || !plural[kind])
        return NULL;
    if (t->settings->workspace[0])
        key = sb_arena_printf(a, "%s/%.*s", t->settings->workspace, SB_ARG(key));
    id = sb_uuid_v5(&t->namespaces[kind], key);
    text = sb_arena_alloc(a, SB_UUID_TEXT_LEN + 1);
    sb_uuid_format(&id, text);
    return sb_value_str(a, sb_str_n(text, SB_UUID_TEXT_LEN));
}

/* -- tags
 * ------------------------------------------------------------------------------------------ */

static void tag(struct sb_arena *a, struct sb_value *tags, const char *what, struct sb_str value)
{
    if (value.len)
        sb_array_push(a, tags, sb_value_str(a, sb_arena_printf(a, "%s:%.*s", what, SB_ARG(value))));
}

/* Those of konghq.com/tags, each once. */
static void user_tags(struct sb_arena *a, struct sb_value *tags, const struct sb_value *object)
{
    struct sb_value *list = comma_list(a, kong_annotation(annotations_of(object), "tags"));
    uint32_t first = tags->count;
    struct sb_value *item;

    sb_array_each (item, list) {
        bool seen = false;

        for (uint32_t i = first; i < tags->count; i++)
            seen = seen || sb_str_eq(tags->items[i]->s, item->s);
        if (!seen)
            sb_array_push(a, tags, item);
    }
}

struct sb_value *tags_of(struct sb_arena *a, const struct sb_value *object)
{
    struct sb_value *tags = sb_value_array(a);
    struct sb_str version = sb_value_str_at(object, "apiVersion");
    ptrdiff_t slash = sb_str_chr(version, '/', 0);

    tag(a, tags, "k8s-name", sb_object_name(object));
    tag(a, tags, "k8s-namespace", sb_object_ns(object));
    tag(a, tags, "k8s-kind", sb_value_str_at(object, "kind"));
    tag(a, tags, "k8s-uid", sb_value_str_at(object, "metadata.uid"));
    tag(a, tags, "k8s-group", sb_str_first(version, slash < 0 ? 0 : (size_t)slash));
    tag(a, tags, "k8s-version", sb_str_from(version, (size_t)(slash + 1)));
    user_tags(a, tags, object);
    return tags;
}

struct sb_value *tags_unknown(struct sb_arena *a)
{
    struct sb_value *tags = sb_value_array(a);

    tag(a, tags, "k8s-name", SB_STR("UNKNOWN"));
    tag(a, tags, "k8s-namespace", SB_STR("UNKNOWN"));
    tag(a, tags, "k8s-kind", SB_STR("Service"));
    tag(a, tags, "k8s-uid", SB_STR("00000000-0000-0000-0000-000000000000"));
    tag(a, tags, "k8s-group", SB_STR("core"));
    tag(a, tags, "k8s-version", SB_STR("v1"));
    return tags;
}

struct sb_str object_ref(struct sb_arena *a, const struct sb_value *object)
{
    struct sb_str kind = sb_value_str_at(object, "kind"), ns = sb_object_ns(object);
    struct sb_str name = sb_object_name(object);

    if (!ns.len)
        return sb_arena_printf(a, "%.*s/%.*s", SB_ARG(kind), SB_ARG(name));
    return sb_arena_printf(a, "%.*s/%.*s/%.*s", SB_ARG(kind), SB_ARG(ns), SB_ARG(name));
}

bool object_data(struct sb_arena *a, const struct sb_value *object, const char *key,
                 struct sb_str *out)
{
    const struct sb_value *v = sb_get(sb_get(object, "data"), key);

    if (!sb_is(v, SB_V_STR))
        return false;
    if (sb_str_is(sb_value_str_at(object, "kind"), "Secret"))
        return sb_base64_decode(a, v->s, out);
    *out = sb_arena_str(a, v->s);
    return true;
}
