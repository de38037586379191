/* store_special.c - entities whose writes touch more than their own row.
 *
 *   certificates     the list `snis` is rows of the table snis; deleting takes them along
 *   targets          are spelled in one way: host:port
 *   plugins          must share a protocol with their route, or with a route of their service
 *   ca_certificates  are not deleted while a service trusts them
 *
 * Rules of reference/entities.md, part 1. Unlike Kong's, all of it is one transaction: a
 * certificate that cannot be deleted keeps its SNIs.
 */
#include "schema/hostname.h"
#include "schema/store_ops.h"

/* Code 2 about one field. */
static enum sb_rc refuse_field(struct sb_store_write *w, const char *field, struct sb_str text)
{
    struct sb_value *fields = sb_value_object(w->ctx->arena);

    sb_object_set(w->ctx->arena, fields, sb_str_c(field), sb_value_str(w->ctx->arena, text));
    sb_kong_error_schema(w->ctx->arena, w->e, fields);
    return SB_INVALID;
}

static struct sb_str id_of(const struct sb_value *row)
{
    return sb_value_str_at(row, "id");
}

/* All rows of a kind whose foreign field is id. */
static enum sb_rc children(struct sb_store *s, struct sb_schema_ctx *ctx, const char *entity,
                           const char *field, struct sb_str id, struct sb_value **out,
                           struct sb_kong_error *e)
{
    struct sb_store_page page = {.size = 1000, .parent_field = field, .parent_id = id};
    const struct sb_entity *kind = sb_entity_find(sb_str_c(entity));
    struct sb_value *all = sb_value_array(ctx->arena), *rows, *row;
    bool more = true;
    struct sb_err err;

    while (more) {
        enum sb_rc rc = s->ops->page(s, ctx->arena, kind, &page, &rows, &more, &err);

        if (rc)
            return sb_store_failed(ctx, rc, &err, e);
        sb_array_each (row, rows)
            sb_array_push(ctx->arena, all, row);
        if (rows->count)
            page.after_id = id_of(rows->items[rows->count - 1]);
    }
    *out = all;
    return SB_OK;
}

/* -- certificates ------------------------------------------------------------------------------ */

static const struct sb_entity *snis(void)
{
    return sb_entity_find(SB_STR("snis"));
}

/* One name of the list: valid, only once in it, and not another certificate's. */
static enum sb_rc check_sni(struct sb_store_write *w, const struct sb_value *list, uint32_t at)
{
    const struct sb_field *name = sb_field_find(snis()->fields, SB_STR("name"));
    struct sb_arena *a = w->ctx->arena;
    struct sb_value *v = list->items[at], *row = NULL;
    const char *why = sb_field_check(w->ctx, name, v);
    struct sb_str owner;
    struct sb_err err;
    enum sb_rc rc;

    if (why) {
        *w->e = (struct sb_kong_error){.code = SB_KONG_INVALID_UNIQUE,
                                       .message = sb_str_c(why),
                                       .unique_field = SB_STR("name")};
        return SB_INVALID;
    }
    for (uint32_t i = 0; i < at; i++)
        if (sb_value_equal(list->items[i], v))
            return refuse_field(w, "snis", sb_arena_printf(a, "%.*s is duplicated", SB_ARG(v->s)));
    rc = w->store->ops->find(w->store, a, snis(), name, v->s, &row, &err);
    if (rc)
        return sb_store_failed(w->ctx, rc, &err, w->e);
    owner = sb_value_str_at(row, "certificate.id");
    if (row && !(w->stored && sb_str_eq(owner, id_of(w->stored))))
        return refuse_field(
            w, "snis",
            sb_arena_printf(a, "%.*s already associated with existing certificate '%.*s'",
                            SB_ARG(v->s), SB_ARG(owner)));
    return SB_OK;
}

/* Takes the list out of the input: w->own is what the names shall be, NULL to leave them alone. */
static enum sb_rc take_snis(struct sb_store_write *w)
{
    struct sb_arena *a = w->ctx->arena;
    struct sb_value *given = sb_get(w->input, "snis"), *list = sb_value_array(a);
    enum sb_rc rc = SB_OK;

    if (!given && w->op == SB_STORE_UPDATE)
        return SB_OK;
    if (sb_is(given, SB_V_STR))
        sb_array_push(a, list, given);
    else if (sb_is(given, SB_V_ARRAY))
        list = given;
    else if (!sb_is_nil(given))
        return SB_OK; /* the field's own check has words for it */
    for (uint32_t i = 0; !rc && i < list->count; i++)
        rc = check_sni(w, list, i);
    if (rc)
        return rc;
    sb_object_remove(w->input, SB_STR("snis"));
    w->own = list;
    return SB_OK;
}

static bool has_name(const struct sb_value *list, struct sb_str name)
{
    const struct sb_value *v;

    sb_array_each (v, list)
        if (sb_is(v, SB_V_STR) && sb_str_eq(v->s, name))
            return true;
    return false;
}

static enum sb_rc drop_snis(struct sb_store_write *w, const struct sb_value *rows,
                            const struct sb_value *keep)
{
    struct sb_str *ids = SB_NEW_N(w->ctx->arena, struct sb_str, rows->count + 1);
    struct sb_refusal why = {0};
    const struct sb_value *row;
    struct sb_err err;
    enum sb_rc rc;
    size_t n = 0;

    sb_array_each (row, rows)
        if (!has_name(keep, sb_value_str_at(row, "name")))
            ids[n++] = id_of(row);
    if (!n)
        return SB_OK;
    rc = w->store->ops->drop(w->store, w->ctx->arena, snis(), ids, n, &why, &err);
    return rc ? sb_store_failed(w->ctx, rc, &err, w->e) : SB_OK;
}

static enum sb_rc add_sni(struct sb_store_write *w, struct sb_value *name)
{
    struct sb_arena *a = w->ctx->arena;
    struct sb_value *input = sb_value_object(a), *parent = sb_value_object(a), *made;

    sb_object_set(a, parent, SB_STR("id"), sb_get(w->row, "id"));
    sb_object_set(a, input, SB_STR("name"), name);
    sb_object_set(a, input, SB_STR("certificate"), parent);
    return sb_store_insert(w->store, w->ctx, snis(), input, &made, w->e);
}

/* The rows of snis become what the list says. */
static enum sb_rc write_snis(struct sb_store_write *w)
{
    struct sb_value *list = w->own, *rows, *name, *names;
    enum sb_rc rc;

    if (!list)
        return SB_OK;
    rc = children(w->store, w->ctx, "snis", "certificate", id_of(w->row), &rows, w->e);
    if (!rc)
        rc = drop_snis(w, rows, list);
    if (rc)
        return rc;
    names = sb_value_array(w->ctx->arena);
    sb_array_each (name, rows)
        sb_array_push(w->ctx->arena, names, sb_get(name, "name"));
    sb_array_each (name, list)
        if (!rc && !has_name(names, name->s))
            rc = add_sni(w, name);
    return rc;
}

static enum sb_rc delete_snis(struct sb_store_write *w)
{
    struct sb_value *rows;
    enum sb_rc rc =
        children(w->store, w->ctx, "snis", "certificate", id_of(w->stored), &rows, w->e);

    return rc ? rc : drop_snis(w, rows, NULL);
}

static void sort_strings(struct sb_value *list)
{
    for (uint32_t i = 1; i < list->count; i++)
        for (uint32_t j = i; j && sb_value_cmp(list->items[j - 1], list->items[j]) > 0; j--) {
            struct sb_value *swap = list->items[j];

            list->items[j] = list->items[j - 1];
            list->items[j - 1] = swap;
        }
}

static enum sb_rc show_snis(struct sb_store *s, struct sb_schema_ctx *ctx, struct sb_value *entity,
                            struct sb_kong_error *e)
{
    struct sb_value *names = sb_value_array(ctx->arena), *rows, *row;
    enum sb_rc rc = children(s, ctx, "snis", "certificate", id_of(entity), &rows, e);

    if (rc)
        return rc;
    sb_array_each (row, rows)
        sb_array_push(ctx->arena, names, sb_get(row, "name"));
    sort_strings(names);
    sb_object_set(ctx->arena, entity, SB_STR("snis"), names);
    return SB_OK;
}

/* -- targets ----------------------------------------------------------------------------------- */

/* "::1" becomes "[0000:...:0001]:8000". */
static enum sb_rc spell_target(struct sb_store_write *w)
{
    struct sb_value *target = sb_get(w->input, "target");
    struct sb_arena *a = w->ctx->arena;
    struct sb_host host;
    const char *why;

    if (!sb_is(target, SB_V_STR))
        return SB_OK;
    if (!sb_host_read(a, target->s, &host, &why)) {
        if (w->op != SB_STORE_INSERT)
            return SB_OK; /* the field's check has other words */
        return refuse_field(w, "target",
                            SB_STR("Invalid target; not a valid hostname or ip address"));
    }
    sb_object_set(a, w->input, SB_STR("target"),
                  sb_value_str(a, sb_arena_printf(a, "%.*s:%d", SB_ARG(host.host),
                                                  host.port < 0 ? 8000 : host.port)));
    return SB_OK;
}

/* -- plugins ----------------------------------------------------------------------------------- */

static bool share_an_item(const struct sb_value *a, const struct sb_value *b)
{
    const struct sb_value *x;

    sb_array_each (x, a)
        if (sb_is(x, SB_V_STR) && has_name(b, x->s))
            return true;
    return false;
}

/* What the write leaves in a field: sent, else stored. */
static const struct sb_value *resulting(const struct sb_store_write *w, const char *field)
{
    const struct sb_value *v = sb_get(w->input, field);

    return v || w->op != SB_STORE_UPDATE ? v : sb_get(w->stored, field);
}

static enum sb_rc check_route_protocols(struct sb_store_write *w, const struct sb_value *protocols,
                                        struct sb_str route_id)
{
    const struct sb_entity *routes = sb_entity_find(SB_STR("routes"));
    struct sb_value *route = NULL;
    struct sb_err err;
    enum sb_rc rc =
        w->store->ops->find(w->store, w->ctx->arena, routes,
                            sb_field_find(routes->fields, SB_STR("id")), route_id, &route, &err);

    if (rc)
        return sb_store_failed(w->ctx, rc, &err, w->e);
    if (!route || share_an_item(protocols, sb_get(route, "protocols")))
        return SB_OK;
    return refuse_field(w, "protocols", SB_STR("must match the associated route's protocols"));
}

static enum sb_rc check_service_protocols(struct sb_store_write *w,
                                          const struct sb_value *protocols,
                                          struct sb_str service_id)
{
    struct sb_value *routes, *route;
    enum sb_rc rc = children(w->store, w->ctx, "routes", "service", service_id, &routes, w->e);

    if (rc || !routes->count)
        return rc;
    sb_array_each (route, routes)
        if (share_an_item(protocols, sb_get(route, "protocols")))
            return SB_OK;
    return refuse_field(
        w, "protocols",
        SB_STR("must match the protocols of at least one route pointing to this Plugin's service"));
}

static enum sb_rc check_plugin_protocols(struct sb_store_write *w)
{
    const struct sb_value *protocols = resulting(w, "protocols");
    struct sb_str route, service;
    struct sb_uuid id;
    enum sb_rc rc = SB_OK;

    if (!sb_is(protocols, SB_V_ARRAY))
        return SB_OK;
    if (w->op == SB_STORE_UPDATE && !sb_get(w->input, "protocols") && !sb_get(w->input, "route") &&
        !sb_get(w->input, "service"))
        return SB_OK;
    route = sb_value_str_at(resulting(w, "route"), "id");
    service = sb_value_str_at(resulting(w, "service"), "id");
    if (sb_uuid_parse(route, &id))
        rc = check_route_protocols(w, protocols, route);
    if (!rc && sb_uuid_parse(service, &id))
        rc = check_service_protocols(w, protocols, service);
    return rc;
}

/* -- ca_certificates --------------------------------------------------------------------------- */

static enum sb_rc check_ca_unused(struct sb_store_write *w)
{
    struct sb_store_page page = {.size = 1000};
    const struct sb_entity *services = sb_entity_find(SB_STR("services"));
    struct sb_str id = id_of(w->stored);
    struct sb_value *rows, *row;
    struct sb_err err;
    bool more = true;

    while (more) {
        enum sb_rc rc =
            w->store->ops->page(w->store, w->ctx->arena, services, &page, &rows, &more, &err);

        if (rc)
            return sb_store_failed(w->ctx, rc, &err, w->e);
        sb_array_each (row, rows) {
            if (!has_name(sb_get(row, "ca_certificates"), id))
                continue;
            *w->e = (struct sb_kong_error){
                .code = SB_KONG_REFERENCED_BY_OTHERS,
                .message = sb_arena_printf(
                    w->ctx->arena,
                    "ca certificate %.*s is still referenced by services (id = %.*s)", SB_ARG(id),
                    SB_ARG(id_of(row)))};
            return SB_CONFLICT;
        }
        if (rows->count)
            page.after_id = id_of(rows->items[rows->count - 1]);
    }
    return SB_OK;
}

static const struct sb_store_special specials[] = {
    {.entity = "certificates",
     .before_check = take_snis,
     .after_write = write_snis,
     .before_delete = delete_snis,
     .shown = show_snis},
    {.entity = "targets", .before_check = spell_target},
    {.entity = "plugins", .before_check = check_plugin_protocols},
    {.entity = "ca_certificates", .before_delete = check_ca_unused},
};

const struct sb_store_special *sb_store_special(const struct sb_entity *kind)
{
    for (size_t i = 0; i < sizeof specials / sizeof *specials; i++)
        if (strcmp(kind->name, specials[i].entity) == 0)
            return &specials[i];
    return NULL;
}
