/* special.c - entities whose endpoints go ways of their own (reference/admin-api.md 4).
 *
 *   tags           rows that no one writes: they follow from the tags of everything else
 *   acls           are named by their group below their consumer
 *   consumers      can be asked for by custom_id
 *   plugins        a PATCH that does not say which plugin it is about means the stored one
 *   certificates   say in Kong's full words that an id is not there
 */
#include <stdlib.h>

#include "dataplane/admin/entities.h"
#include "dataplane/admin/form.h"
#include "shared/digest.h"
#include "shared/json.h"

#define WHOLE (SB_GET | SB_PUT | SB_PATCH | SB_DELETE)

static const struct sb_entity *entity(const char *name)
{
    return sb_entity_find(sb_str_c(name));
}

/* Whatever the method: this is no place. */
static void nothing_here(struct sb_call *c, const struct sb_endpoint *e)
{
    (void)e;
    sb_answer_not_found(c);
}

/* -- tags -------------------------------------------------------------------------------------- */

static struct sb_value *tag_row(struct sb_arena *a, const struct sb_store_tag *t)
{
    struct sb_value *row = sb_value_object(a);

    sb_object_set(a, row, SB_STR("tag"), sb_value_str(a, t->tag));
    sb_object_set(a, row, SB_STR("entity_name"), sb_value_str(a, t->table));
    sb_object_set(a, row, SB_STR("entity_id"), sb_value_str(a, t->id));
    return row;
}

/* base64 of ["<entity id>", <place in its list>]; of one tag's list the place is not needed. */
static bool read_tag_offset(struct sb_entities *x, struct sb_str *id, int64_t *place)
{
    const struct sb_arg *arg = sb_call_arg(x->c, "offset");
    struct sb_value *list;
    struct sb_str text;

    if (!arg)
        return true;
    if (sb_base64_decode(x->c->arena, arg->value, &text) &&
        !sb_json_parse(x->c->arena, text, &list, NULL) && sb_is(list, SB_V_ARRAY) && list->count &&
        sb_is(list->items[0], SB_V_STR)) {
        struct sb_uuid u;

        *id = list->items[0]->s;
        if (list->count > 1 && sb_is(list->items[1], SB_V_INT))
            *place = list->items[1]->i;
        if (sb_uuid_parse(*id, &u))
            return true;
    }
    x->e = (struct sb_kong_error){
        .code = SB_KONG_INVALID_OFFSET,
        .message = sb_arena_printf(x->c->arena, "'%.*s' is not a valid offset: bad base64 encoding",
                                   SB_ARG(arg->value))};
    sb_answer_error(x->c, &x->e);
    return false;
}

static struct sb_str tag_offset(struct sb_arena *a, const struct sb_store_tag *last, bool one)
{
    struct sb_value *list = sb_value_array(a);
    struct sb_str token;

    sb_array_push(a, list, sb_value_str(a, last->id));
    if (!one)
        sb_array_push(a, list, sb_value_int(a, last->place));
    token = sb_base64_encode(a, sb_json_text(a, list, 0));
    while (token.len && token.p[token.len - 1] == '=')
        token.len--;
    return token;
}

static void list_tags(struct sb_entities *x, const struct sb_str *tag)
{
    struct sb_str after = SB_STR(""), path = SB_STR("/tags"), offset = SB_STR("");
    struct sb_value *rows = sb_value_array(x->c->arena);
    struct sb_store_tag *found;
    struct sb_err err;
    int64_t place = 0;
    size_t n;
    int size;
    bool more;

    if (!sb_entities_size(x, &size) || !read_tag_offset(x, &after, &place))
        return;
    if (sb_store_tags(x->store, x->c->arena, tag, after, place, size, &found, &n, &more, &err)) {
        x->e = (struct sb_kong_error){.code = SB_KONG_DATABASE_ERROR,
                                      .message = sb_arena_str(x->c->arena, sb_str_c(err.text))};
        sb_entities_ok(x, SB_UNAVAILABLE);
        return;
    }
    for (size_t i = 0; i < n; i++)
        sb_array_push(x->c->arena, rows, tag_row(x->c->arena, &found[i]));
    if (tag)
        path = sb_arena_printf(x->c->arena, "/tags/%.*s", SB_ARG(sb_url_encode(x->c->arena, *tag)));
    if (more)
        offset = tag_offset(x->c->arena, &found[n - 1], tag != NULL);
    sb_entities_page(x->c, rows, path, offset, true);
}

static void tags(struct sb_call *c, const struct sb_endpoint *e)
{
    static const char why[] = "does not support insert/upsert/update/delete operations";
    struct sb_entities x = {0};
    struct sb_value *fields;

    (void)e;
    if (c->method & (SB_GET | SB_HEAD)) {
        if (sb_entities_open(c, &x))
            list_tags(&x, c->nsegments > 1 ? &c->params[0] : NULL);
        return;
    }
    fields = sb_value_object(c->arena);
    sb_object_set(c->arena, fields, SB_STR("tags"), sb_value_text(c->arena, why));
    sb_kong_error_schema(c->arena, &x.e, fields);
    sb_answer_error(c, &x.e);
}

/* -- acls -------------------------------------------------------------------------------------- */

/* By id, or by the group within the consumer; NULL: answered, or, where that is no end, missing. */
static struct sb_value *find_acl(struct sb_entities *x, const struct sb_value *consumer,
                                 struct sb_str text)
{
    struct sb_store_page page = {
        .size = 1000, .parent_field = "consumer", .parent_id = sb_value_str_at(consumer, "id")};
    struct sb_value *rows, *row;
    bool more = true;

    while (more) {
        if (!sb_entities_ok(
                x, sb_store_list(x->store, &x->ctx, entity("acls"), &page, &rows, &more, &x->e)))
            return NULL;
        sb_array_each (row, rows)
            if (sb_str_ieq(sb_value_str_at(row, "id"), text) ||
                sb_str_eq(sb_value_str_at(row, "group"), text))
                return row;
        if (rows->count)
            page.after_id = sb_value_str_at(rows->items[rows->count - 1], "id");
    }
    return NULL;
}

/* PUT by group: that group it shall be, unless another one is sent. */
static void put_acl(struct sb_entities *x, const struct sb_value *consumer,
                    const struct sb_value *found)
{
    struct sb_arena *a = x->c->arena;
    struct sb_value *in = sb_value_copy(a, sb_entities_input(x, entity("acls")));
    struct sb_value *parent = sb_value_object(a);
    struct sb_store_key key = {"id", x->c->params[1]};
    char fresh[SB_UUID_TEXT_LEN + 1];
    struct sb_uuid id = sb_uuid_v4();

    if (!sb_uuid_parse(x->c->params[1], &id)) {
        if (!sb_get(in, "group"))
            sb_object_set(a, in, SB_STR("group"), sb_value_str(a, x->c->params[1]));
        sb_uuid_format(&id, fresh);
        key.value = found ? sb_value_str_at(found, "id") : sb_arena_str(a, sb_str_c(fresh));
    }
    sb_object_set(a, parent, SB_STR("id"), sb_get(consumer, "id"));
    sb_object_set(a, in, SB_STR("consumer"), parent);
    sb_entities_upsert(x, entity("acls"), key, in);
}

static void acl(struct sb_call *c, const struct sb_endpoint *e)
{
    struct sb_store_key key = {"id", {0}};
    struct sb_entities x = {0};
    struct sb_value *consumer, *found;

    (void)e;
    if (!sb_entities_open(c, &x))
        return;
    consumer = sb_entities_find(&x, entity("consumers"), c->params[0]);
    if (!consumer)
        return;
    found = find_acl(&x, consumer, c->params[1]);
    if (c->status)
        return;
    key.value = sb_value_str_at(found, "id");
    if (c->method == SB_PUT)
        put_acl(&x, consumer, found);
    else if (!found)
        sb_answer_not_found(c);
    else if (c->method & (SB_GET | SB_HEAD))
        sb_answer(c, 200, found);
    else if (c->method == SB_DELETE)
        sb_entities_delete(&x, entity("acls"), key);
    else
        sb_entities_update(&x, entity("acls"), key, sb_entities_input(&x, entity("acls")));
}

/* -- consumers, plugins, certificates ---------------------------------------------------------- */

static void consumers(struct sb_call *c, const struct sb_endpoint *e)
{
    const struct sb_arg *custom_id = sb_call_arg(c, "custom_id");
    struct sb_endpoint generic = *e;
    struct sb_entities x = {0};
    struct sb_value *rows, *found = NULL;
    struct sb_store_key key = {"custom_id", {0}};

    generic.kind = entity("consumers");
    if (!custom_id || c->method == SB_POST) {
        sb_entities_collection(c, &generic);
        return;
    }
    if (!custom_id->value.len) {
        sb_answer_message(c, 400, "custom_id must be an unempty string");
        return;
    }
    key.value = custom_id->value;
    if (!sb_entities_open(c, &x) ||
        !sb_entities_ok(&x, sb_store_find(x.store, &x.ctx, generic.kind, key, &found, &x.e)))
        return;
    rows = sb_value_array(c->arena);
    if (found)
        sb_array_push(c->arena, rows, found);
    sb_entities_page(c, rows, SB_STR("/consumers"), SB_STR(""), false);
}

/* A patch of a plugin is read and checked by the plugin's schema: it must say which. */
static void plugin(struct sb_call *c, const struct sb_endpoint *e)
{
    struct sb_endpoint generic = *e;
    struct sb_entities x = {0};
    struct sb_value *stored;

    generic.kind = entity("plugins");
    if (c->method == SB_PATCH && !sb_get(c->input, "name")) {
        if (!sb_entities_open(c, &x))
            return;
        stored = sb_entities_find(&x, generic.kind, c->params[0]);
        if (!stored)
            return;
        sb_object_set(c->arena, c->input, SB_STR("name"), sb_get(stored, "name"));
    }
    sb_entities_entity(c, &generic);
}

/* The name in the URL joins the names in the body; an unknown one makes a certificate. */
static void put_by_sni(struct sb_call *c, const struct sb_endpoint *e)
{
    struct sb_entities x = {0};
    struct sb_store_key key;
    struct sb_value *in, *given, *list = sb_value_array(c->arena), *name;
    enum sb_found found;

    if (!sb_entities_open(c, &x))
        return;
    found = sb_entities_key(&x, e->kind, c->params[0], &key);
    if (found == SB_ANSWERED)
        return;
    in = sb_value_copy(c->arena, sb_entities_input(&x, e->kind));
    given = sb_get(in, "snis");
    if (sb_is(given, SB_V_STR))
        sb_array_push(c->arena, list, given);
    sb_array_each (name, given)
        if (!(sb_is(name, SB_V_STR) && sb_str_eq(name->s, c->params[0])))
            sb_array_push(c->arena, list, name);
    if (!sb_is_nil(given) || found == SB_MISSING) {
        sb_array_push(c->arena, list, sb_value_str(c->arena, c->params[0]));
        sb_object_set(c->arena, in, SB_STR("snis"), list);
    }
    if (found == SB_MISSING) {
        char fresh[SB_UUID_TEXT_LEN + 1];
        struct sb_uuid id = sb_uuid_v4();

        sb_uuid_format(&id, fresh);
        key = (struct sb_store_key){"id", sb_arena_str(c->arena, sb_str_c(fresh))};
    }
    sb_entities_upsert(&x, e->kind, key, in);
}

static void certificate(struct sb_call *c, const struct sb_endpoint *e)
{
    struct sb_endpoint generic = *e;
    struct sb_value *fields;
    struct sb_uuid id;

    generic.kind = entity("certificates");
    if (c->method == SB_PUT && !sb_uuid_parse(c->params[0], &id)) {
        put_by_sni(c, &generic);
        return;
    }
    sb_entities_entity(c, &generic);
    if (c->status != 404 || !sb_uuid_parse(c->params[0], &id) || !(c->method & (SB_GET | SB_HEAD)))
        return;
    fields = sb_value_object(c->arena);
    sb_object_set(c->arena, fields, SB_STR("id"), sb_value_str(c->arena, c->params[0]));
    sb_answer_error(c, &(struct sb_kong_error){
                           .code = SB_KONG_NOT_FOUND,
                           .message = sb_arena_printf(
                               c->arena, "could not find the entity with primary key '%.*s'",
                               SB_ARG(sb_kong_lua_text(c->arena, fields))),
                           .fields = fields});
}

const struct sb_endpoint sb_special_endpoints[] = {
    {"/snis/{snis}/certificate", SB_EVERY, nothing_here},
    {"/consumers/{consumers}/acls/{acls}", WHOLE, acl},
    {"/tags", SB_GET | SB_POST, tags},
    {"/tags/{tags}", SB_GET, tags},
    {"/consumers", SB_GET | SB_POST, consumers},
    {"/plugins/{plugins}", WHOLE, plugin},
    {"/certificates/{certificates}", WHOLE, certificate},
    {NULL},
};
