/* Objects of any shape: translation neither crashes nor forgets. What is left when half of them are
 * gone again equals a translation of that half from scratch. */
#include "controlplane/translate/translate.h"
#include "shared/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct sb_kind *kind_of(const struct sb_value *object)
{
    return sb_kind_find(sb_value_str_at(object, "kind"), sb_value_str_at(object, "apiVersion"));
}

static void put_all(struct sb_objects *objects, const struct sb_value *docs)
{
    struct sb_value *object;

    sb_array_each (object, docs) {
        const struct sb_kind *kind = kind_of(object);

        if (kind && sb_object_name(object).len)
            sb_objects_put(objects, kind, object);
    }
}

static void remove_half(struct sb_objects *objects, const struct sb_value *docs)
{
    for (uint32_t i = 0; i < docs->count; i += 2) {
        const struct sb_value *object = docs->items[i];
        const struct sb_kind *kind = kind_of(object);

        if (kind && sb_object_name(object).len)
            sb_objects_remove(objects, kind, sb_object_ns(object), sb_object_name(object));
    }
}

static void compare(const struct sb_translator *t, const struct sb_translator *fresh)
{
    struct sb_arena *a = sb_arena_new(0);

    sb_assert(sb_value_equal(sb_translator_document(t, a), sb_translator_document(fresh, a)));
    sb_arena_free(a);
}

static void translate(const struct sb_value *docs, bool expressions)
{
    struct sb_translate_settings settings;
    struct sb_objects *objects = sb_objects_new();
    const struct sb_translated *changes;
    struct sb_translator *t, *fresh;

    sb_translate_settings_init(&settings);
    settings.expression_routes = expressions;
    settings.rewrite_uris = settings.service_facade = true;
    t = sb_translator_new(&settings, objects);
    sb_objects_listen(objects, sb_translator_note, t);
    put_all(objects, docs);
    sb_translator_run(t, &changes);
    remove_half(objects, docs);
    sb_translator_run(t, &changes);
    fresh = sb_translator_new(&settings, objects);
    sb_translator_run(fresh, &changes);
    compare(t, fresh);
    sb_translator_free(fresh);
    sb_translator_free(t);
    sb_objects_free(objects);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *docs;

    if (!sb_yaml_parse_all(a, sb_str_n((const char *)data, size), &docs, NULL)) {
        translate(docs, false);
        translate(docs, true);
    }
    sb_arena_free(a);
    return 0;
}
