/* id.c - ids that follow from what an entity is, and the keys under which caches know it. */
#include "schema/entity.h"
#include "shared/buf.h"

struct sb_uuid sb_entity_id(const struct sb_entity *kind, struct sb_str key)
{
    struct sb_uuid ns;

    sb_assert(sb_uuid_parse(SB_STR("fd02801f-0957-4a15-a55a-c8d9606f30b5"), &ns));
    ns = sb_uuid_v5(&ns, sb_str_c(kind->name));
    return sb_uuid_v5(&ns, key);
}

/* A part of a cache key: a foreign field by its id, null as nothing. */
static struct sb_str part(const struct sb_value *entity, const char *field)
{
    const struct sb_value *v = sb_get(entity, field);

    if (sb_is(v, SB_V_OBJECT))
        v = sb_get(v, "id");
    return sb_is(v, SB_V_STR) ? v->s : SB_STR("");
}

/* keys have a key of their own: three parts, no workspace. */
static struct sb_str key_of_keys(struct sb_arena *a, const struct sb_value *entity)
{
    return sb_arena_printf(a, "keys:%.*s:%.*s", SB_ARG(part(entity, "kid")),
                           SB_ARG(part(entity, "set")));
}

struct sb_str sb_entity_cache_key(struct sb_arena *a, const struct sb_entity *kind,
                                  const struct sb_value *entity, struct sb_str ws_id)
{
    struct sb_str parts[5] = {0}, text;
    struct sb_buf b;
    bool empty = true;

    if (!kind->cache_key)
        return SB_STR("");
    if (strcmp(kind->name, "keys") == 0)
        return key_of_keys(a, entity);
    for (int i = 0; i < 5 && kind->cache_key[i]; i++) {
        parts[i] = part(entity, kind->cache_key[i]);
        empty = empty && parts[i].len == 0;
    }
    if (empty)
        parts[0] = part(entity, kind->primary_key);
    sb_buf_init(&b, 0);
    sb_buf_cstr(&b, kind->name);
    for (int i = 0; i < 5; i++)
        sb_buf_printf(&b, ":%.*s", SB_ARG(parts[i]));
    sb_buf_char(&b, ':');
    if (kind->flags & SB_E_WORKSPACE)
        sb_buf_str(&b, ws_id);
    text = sb_arena_str(a, sb_buf_get(&b));
    sb_buf_release(&b);
    return text;
}
