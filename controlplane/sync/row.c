/* row.c - see row.h. Rules of ids: reference/declarative-config.md 5; of tags:
 * kic-translation.md 1.2.
 */
#include "controlplane/sync/row.h"

#include <stdio.h>

#include "shared/buf.h"
#include "shared/digest.h"
#include "shared/json.h"

/* -- identity -------------------------------------------------------------------------------------
 */

struct sb_str sb_row_natural_key(struct sb_arena *a, const struct sb_entity *kind,
                                 const struct sb_value *value, struct sb_str parent_id)
{
    const struct sb_value *endpoint;

    if (!strcmp(kind->name, "targets"))
        return sb_arena_printf(a, "targets:%.*s:%.*s", SB_ARG(parent_id),
                               SB_ARG(sb_value_str_at(value, "target")));
    endpoint = kind->endpoint_key ? sb_get(value, kind->endpoint_key) : NULL;
    if (!sb_is(endpoint, SB_V_STR) || !strcmp(kind->name, "plugins"))
        return (struct sb_str){0};
    return sb_arena_printf(a, "%s:%.*s", kind->name, SB_ARG(endpoint->s));
}

/* The key from which Kong makes the id of an entity that has none. */
static struct sb_str declarative_key(struct sb_arena *a, const struct sb_entity *kind,
                                     const struct sb_translated *t, struct sb_str parent_id)
{
    const struct sb_value *endpoint =
        kind->endpoint_key ? sb_get(t->value, kind->endpoint_key) : NULL;

    if (!strcmp(kind->name, "targets"))
        return sb_arena_printf(a, "targets:*:%.*s:%.*s", SB_ARG(parent_id),
                               SB_ARG(sb_value_str_at(t->value, "target")));
    if (sb_is(endpoint, SB_V_STR) && strcmp(kind->name, "plugins"))
        return endpoint->s;
    /* The translation's key is as stable, and unique in its entity. */
    return sb_arena_printf(a, "%s:*:%.*s:%.*s", kind->name, SB_ARG(parent_id), SB_ARG(t->key));
}

struct sb_str sb_row_id(struct sb_arena *a, const struct sb_entity *kind,
                        const struct sb_translated *t, struct sb_str parent_id)
{
    struct sb_str id = sb_value_str_at(t->value, "id");
    char text[SB_UUID_TEXT_LEN + 1];
    struct sb_uuid uuid;

    if (id.len)
        return sb_arena_str(a, id);
    uuid = sb_entity_id(kind, declarative_key(a, kind, t, parent_id));
    sb_uuid_format(&uuid, text);
    return sb_arena_str(a, sb_str_c(text));
}

/* -- completing -----------------------------------------------------------------------------------
 */

static const struct sb_field *foreign_to(const struct sb_entity *kind, const char *entity)
{
    for (const struct sb_field *f = kind->fields; entity && f->name; f++) {
        if (f->type == SB_T_FOREIGN && !strcmp(f->reference, entity))
            return f;
    }
    return NULL;
}

static struct sb_value *reference(struct sb_arena *a, struct sb_str id)
{
    struct sb_value *v = sb_value_object(a);

    sb_object_set(a, v, SB_STR("id"), sb_value_str(a, id));
    return v;
}

static struct sb_str find_id(const struct sb_row_ids *ids, const char *entity, struct sb_str key)
{
    return ids->find(ids->arg, sb_str_c(entity), key);
}

/* References are names or ids in the declarative format; rows have {"id": ...}. */
static void link_references(struct sb_arena *a, const struct sb_entity *kind,
                            struct sb_value *input, const struct sb_row_ids *ids)
{
    for (const struct sb_field *f = kind->fields; f->name; f++) {
        const struct sb_value *v = f->type == SB_T_FOREIGN ? sb_get(input, f->name) : NULL;
        struct sb_str id;

        if (!sb_is(v, SB_V_STR))
            continue;
        id = find_id(ids, f->reference, v->s);
        sb_object_set(a, input, sb_str_c(f->name), reference(a, id.len ? id : v->s));
    }
}

static void add_tag(struct sb_arena *a, const struct sb_entity *kind, struct sb_value *input,
                    const char *tag)
{
    struct sb_value *tags, *t;

    if (!sb_field_find(kind->fields, SB_STR("tags")))
        return;
    tags = sb_value_array(a);
    sb_array_each (t, sb_get(input, "tags"))
        sb_array_push(a, tags, t);
    sb_array_push(a, tags, sb_value_text(a, tag));
    sb_object_set(a, input, SB_STR("tags"), tags);
}

/* Field errors, one sentence each, in the ingress controller's words. */
static void explain(struct sb_buf *b, struct sb_str path, const struct sb_value *errors)
{
    struct sb_member *m;
    struct sb_value *item;

    if (sb_is(errors, SB_V_STR)) {
        sb_buf_printf(b, "%sinvalid %.*s: %.*s", b->len ? "; " : "", SB_ARG(path),
                      SB_ARG(errors->s));
        return;
    }
    sb_array_each (item, errors)
        explain(b, path, item);
    sb_object_each (m, errors) {
        char text[256];
        int len = snprintf(text, sizeof text, "%.*s%s%.*s", SB_ARG(path), path.len ? "." : "",
                           SB_ARG(m->key));

        explain(b, sb_str_n(text, len < (int)sizeof text ? (size_t)len : sizeof text - 1),
                m->value);
    }
}

static enum sb_rc refusal(const struct sb_kong_error *e, const struct sb_entity *kind,
                          struct sb_err *err)
{
    struct sb_buf b;
    enum sb_rc rc;

    sb_buf_init(&b, SB_ERR_LEN_MAX);
    explain(&b, sb_str_c(kind->singular), e->fields);
    if (!b.len)
        sb_buf_printf(&b, "invalid %s: %.*s", kind->singular, SB_ARG(e->message));
    rc = sb_err_set(err, SB_INVALID, "%.*s", SB_ARG(sb_buf_get(&b)));
    sb_buf_release(&b);
    return rc;
}

enum sb_rc sb_row_complete(struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                           const struct sb_translated *t, struct sb_str id, const char *tag,
                           const struct sb_row_ids *ids, struct sb_value **row, struct sb_err *err)
{
    const struct sb_field *parent = foreign_to(kind, t->parent_entity);
    struct sb_value *input = sb_value_copy(ctx->arena, t->value);
    struct sb_kong_error e = {0};

    sb_object_set(ctx->arena, input, SB_STR("id"), sb_value_str(ctx->arena, id));
    if (parent && sb_is_nil(sb_get(input, parent->name)))
        sb_object_set(ctx->arena, input, sb_str_c(parent->name),
                      reference(ctx->arena, find_id(ids, t->parent_entity, t->parent)));
    link_references(ctx->arena, kind, input, ids);
    add_tag(ctx->arena, kind, input, tag);
    if (sb_entity_insert(ctx, kind, input, row, &e))
        return refusal(&e, kind, err);
    return SB_OK;
}

/* -- comparing ------------------------------------------------------------------------------------
 */

static const char *const not_compared[] = {"created_at", "updated_at", "ws_id", "cache_key", NULL};

static bool is_compared(struct sb_str key)
{
    for (const char *const *n = not_compared; *n; n++) {
        if (sb_str_is(key, *n))
            return false;
    }
    return true;
}

static struct sb_value *without_nulls(struct sb_arena *a, const struct sb_value *v)
{
    struct sb_value *out, *item;
    struct sb_member *m;

    if (sb_is(v, SB_V_ARRAY)) {
        out = sb_value_array(a);
        sb_array_each (item, v)
            sb_array_push(a, out, without_nulls(a, item));
        return out;
    }
    if (!sb_is(v, SB_V_OBJECT))
        return (struct sb_value *)v;
    out = sb_value_object(a);
    sb_object_each (m, v) {
        if (!sb_is_nil(m->value))
            sb_object_set(a, out, m->key, without_nulls(a, m->value));
    }
    return out;
}

void sb_row_hash(const struct sb_value *row, uint8_t out[SB_ROW_HASH_LEN])
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *compared = sb_value_object(a);
    uint8_t digest[SB_SHA256_LEN];
    struct sb_member *m;

    sb_object_each (m, row) {
        if (is_compared(m->key) && !sb_is_nil(m->value))
            sb_object_set(a, compared, m->key, without_nulls(a, m->value));
    }
    sb_sha256(sb_json_text(a, compared, SB_JSON_SORTED), digest);
    memcpy(out, digest, SB_ROW_HASH_LEN);
    sb_arena_free(a);
}
