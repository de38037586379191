/* entities.c - the endpoints that every entity has (reference/admin-api.md 2), from its table
 * alone.
 *
 *   /U                     list, create
 *   /U/{e}                 read, put, patch, delete
 *   /U/{e}/f               the same of the one that field f refers to
 *   /P/{p}/N               list, create below a parent: f of what is made is p
 *   /P/{p}/N/{e}           ... and of what is there f must be p
 *
 * U is the entity's path, f each of its foreign fields, P the path of what f refers to, N the
 * entity's name below a parent. {e} is an id or, when it does not look like one, the endpoint key.
 */
#include "dataplane/admin/entities.h"

#include <stdlib.h>

#include "dataplane/admin/form.h"
#include "shared/digest.h"
#include "shared/json.h"
#include "shared/uuid.h"
#include "shared/vec.h"

enum { SIZE_DEFAULT = 100, SIZE_MAX_PAGE = 1000, TAGS_MAX = 5 };

/* -- what most handlers do --------------------------------------------------------------------- */

bool sb_entities_open(struct sb_call *c, struct sb_entities *x)
{
    x->c = c;
    x->store = sb_admin_store(c);
    sb_admin_ctx(c, &x->ctx);
    return x->store != NULL;
}

/* False when rc is a failure: then the call has its answer. */
bool sb_entities_ok(struct sb_entities *x, enum sb_rc rc)
{
    if (!rc)
        return true;
    if (x->e.code == SB_KONG_DATABASE_ERROR && !x->c->node->dbless)
        sb_admin_drop_store(x->c->node);
    sb_answer_error(x->c, &x->e);
    return false;
}

/* What was sent, with the texts of a form read by type. */
const struct sb_value *sb_entities_input(struct sb_entities *x, const struct sb_entity *kind)
{
    if (x->c->is_form)
        return sb_form_read(&x->ctx, kind, x->c->input);
    return x->c->input;
}

static struct sb_value *reference(struct sb_arena *a, struct sb_str id)
{
    struct sb_value *v = sb_value_object(a);

    sb_object_set(a, v, SB_STR("id"), sb_value_str(a, id));
    return v;
}

static struct sb_str id_of(const struct sb_value *entity)
{
    return sb_value_str_at(entity, "id");
}

static bool is_uuid(struct sb_str s)
{
    struct sb_uuid u;

    return sb_uuid_parse(s, &u);
}

/* By the name of an SNI. */
static enum sb_found certificate_key(struct sb_entities *x, struct sb_str text,
                                     struct sb_store_key *key)
{
    struct sb_store_key by_name = {"name", text};
    struct sb_value *sni = NULL;

    if (!sb_entities_ok(x, sb_store_find(x->store, &x->ctx, sb_entity_find(SB_STR("snis")), by_name,
                                         &sni, &x->e)))
        return SB_ANSWERED;
    if (!sni)
        return SB_MISSING;
    *key = (struct sb_store_key){"id", sb_value_str_at(sni, "certificate.id")};
    return SB_FOUND;
}

enum sb_found sb_entities_key(struct sb_entities *x, const struct sb_entity *kind,
                              struct sb_str text, struct sb_store_key *key)
{
    *key = (struct sb_store_key){kind->primary_key, text};
    if (is_uuid(text))
        return SB_FOUND;
    if (strcmp(kind->name, "certificates") == 0)
        return certificate_key(x, text, key);
    if (kind->endpoint_key)
        key->field = kind->endpoint_key;
    return SB_FOUND;
}

static void answer_missing(struct sb_call *c, const struct sb_entity *kind)
{
    if (strcmp(kind->name, "certificates") == 0)
        sb_answer_message(c, 404, "SNI not found");
    else
        sb_answer_not_found(c);
}

/* The key of a parameter, which must name something that can be named. */
static bool key_or_answer(struct sb_entities *x, const struct sb_entity *kind, struct sb_str text,
                          struct sb_store_key *key)
{
    enum sb_found found = sb_entities_key(x, kind, text, key);

    if (found == SB_MISSING)
        answer_missing(x->c, kind);
    return found == SB_FOUND;
}

struct sb_value *sb_entities_find(struct sb_entities *x, const struct sb_entity *kind,
                                  struct sb_str text)
{
    struct sb_value *entity = NULL;
    struct sb_store_key key;

    if (!key_or_answer(x, kind, text, &key))
        return NULL;
    if (!sb_entities_ok(x, sb_store_find(x->store, &x->ctx, kind, key, &entity, &x->e)))
        return NULL;
    if (!entity)
        sb_answer_not_found(x->c);
    return entity;
}

static void answer_written(struct sb_entities *x, enum sb_rc rc, int status,
                           struct sb_value *entity)
{
    if (!sb_entities_ok(x, rc))
        return;
    if (entity)
        sb_answer(x->c, status, entity);
    else
        sb_answer_nothing(x->c, status);
    sb_admin_wrote(x->c);
}

/* -- pages ------------------------------------------------------------------------------------- */

static bool refuse_option(struct sb_entities *x, enum sb_kong_code code, struct sb_str message,
                          struct sb_value *fields)
{
    x->e = (struct sb_kong_error){.code = code, .message = message, .fields = fields};
    sb_answer_error(x->c, &x->e);
    return false;
}

static bool refuse_tags(struct sb_entities *x, const char *why)
{
    struct sb_arena *a = x->c->arena;
    struct sb_value *options = sb_value_object(a);

    sb_object_set(a, options, SB_STR("tags"), sb_value_text(a, why));
    return refuse_option(x, SB_KONG_INVALID_OPTIONS,
                         sb_arena_printf(a, "invalid option (tags: %s)", why), options);
}

bool sb_entities_size(struct sb_entities *x, int *size)
{
    const struct sb_arg *arg = sb_call_arg(x->c, "size");
    double n;

    *size = SIZE_DEFAULT;
    if (!arg)
        return true;
    if (!sb_str_num(arg->value, &n))
        return refuse_option(x, SB_KONG_INVALID_SIZE, SB_STR("size must be a number"), NULL);
    if (!(n >= 1 && n <= SIZE_MAX_PAGE) || n != (int)n)
        return refuse_option(x, SB_KONG_INVALID_SIZE,
                             SB_STR("size must be an integer between 1 and 1000"), NULL);
    *size = (int)n;
    return true;
}

static bool refuse_offset(struct sb_entities *x, struct sb_str given, const char *why)
{
    return refuse_option(
        x, SB_KONG_INVALID_OFFSET,
        sb_arena_printf(x->c->arena, "'%.*s' is not a valid offset: %s", SB_ARG(given), why), NULL);
}

/* base64 of ["<the last id>"]. */
static bool read_offset(struct sb_entities *x, struct sb_str *after)
{
    const struct sb_arg *arg = sb_call_arg(x->c, "offset");
    struct sb_value *list;
    struct sb_str text;

    if (!arg)
        return true;
    if (!sb_base64_decode(x->c->arena, arg->value, &text))
        return refuse_offset(x, arg->value, "bad base64 encoding");
    if (sb_json_parse(x->c->arena, text, &list, NULL))
        return refuse_offset(x, arg->value, "bad json encoding");
    if (!sb_is(list, SB_V_ARRAY) || !list->count || !sb_is(list->items[0], SB_V_STR) ||
        !is_uuid(list->items[0]->s))
        return refuse_offset(x, arg->value, "it names no row");
    *after = list->items[0]->s;
    return true;
}

static bool tag_is_legal(struct sb_str tag)
{
    for (size_t i = 0; i < tag.len; i++)
        if ((unsigned char)tag.p[i] < 0x20 || tag.p[i] == 0x7f)
            return false;
    return tag.len > 0;
}

/* "a,b" all of them, "a/b" any. */
static bool read_tags(struct sb_entities *x, const struct sb_entity *kind,
                      struct sb_store_page *page)
{
    const struct sb_arg *arg = sb_call_arg(x->c, "tags");
    struct sb_str *tags = SB_NEW_N(x->c->arena, struct sb_str, TAGS_MAX), rest, tag;
    char separator;

    if (!arg)
        return true;
    if (!sb_field_find(kind->fields, SB_STR("tags")))
        return refuse_tags(x,
                           sb_arena_printf(x->c->arena, "cannot be used with '%s'", kind->name).p);
    if (!arg->value.len)
        return refuse_tags(x, "cannot be null");
    page->tags_any = sb_str_chr(arg->value, '/', 0) >= 0;
    separator = page->tags_any ? '/' : ',';
    if (page->tags_any && sb_str_chr(arg->value, ',', 0) >= 0)
        return refuse_tags(x, "invalid filter syntax");
    rest = arg->value;
    while (sb_str_split(&rest, separator, &tag)) {
        if (!tag_is_legal(tag) && !(page->ntags && !tag.len && !rest.len)) /* "a," may end so */
            return refuse_tags(x, "invalid filter syntax");
        if (page->ntags == TAGS_MAX)
            return refuse_tags(x, "cannot query more than 5 tags");
        tags[page->ntags++] = tag;
    }
    page->tags = tags;
    return true;
}

/* path?offset=..&tags=..&size=.., the latter two when they were asked for and repeat says so. */
static struct sb_value *next_url(struct sb_call *c, struct sb_str path, struct sb_str offset,
                                 bool repeat)
{
    const struct sb_arg *tags = repeat ? sb_call_arg(c, "tags") : NULL;
    const struct sb_arg *size = repeat ? sb_call_arg(c, "size") : NULL;
    struct sb_str url;

    url = sb_arena_printf(c->arena, "%.*s?offset=%.*s", SB_ARG(path),
                          SB_ARG(sb_url_encode(c->arena, offset)));
    if (tags)
        url = sb_arena_printf(c->arena, "%.*s&tags=%.*s", SB_ARG(url),
                              SB_ARG(sb_url_encode(c->arena, tags->value)));
    if (size)
        url = sb_arena_printf(c->arena, "%.*s&size=%.*s", SB_ARG(url), SB_ARG(size->value));
    return sb_value_str(c->arena, url);
}

void sb_entities_page(struct sb_call *c, struct sb_value *rows, struct sb_str path,
                      struct sb_str offset, bool repeat)
{
    struct sb_value *body = sb_value_object(c->arena);

    sb_object_set(c->arena, body, SB_STR("data"), rows);
    sb_object_set(c->arena, body, SB_STR("next"),
                  offset.len ? next_url(c, path, offset, repeat) : sb_value_null(c->arena));
    if (offset.len)
        sb_object_set(c->arena, body, SB_STR("offset"), sb_value_str(c->arena, offset));
    sb_answer(c, 200, body);
}

/* The token that stands for "behind this row": base64, unpadded. */
static struct sb_str offset_after(struct sb_arena *a, const struct sb_entity *kind,
                                  const struct sb_value *row)
{
    struct sb_value *list = sb_value_array(a);
    struct sb_str token;

    sb_array_push(a, list, sb_get(row, kind->primary_key));
    token = sb_base64_encode(a, sb_json_text(a, list, 0));
    while (token.len && token.p[token.len - 1] == '=')
        token.len--;
    return token;
}

/* parent: the one whose children are listed, or NULL. */
static void list(struct sb_entities *x, const struct sb_endpoint *e, const struct sb_value *parent,
                 struct sb_str path)
{
    struct sb_store_page page = {0};
    struct sb_str offset = SB_STR("");
    struct sb_value *rows;
    bool more;

    if (!sb_entities_size(x, &page.size) || !read_offset(x, &page.after_id) ||
        !read_tags(x, e->kind, &page))
        return;
    if (parent) { /* Kong looks at the tags and does not use them */
        page.ntags = 0;
        page.parent_field = e->foreign->name;
        page.parent_id = id_of(parent);
    }
    if (!sb_entities_ok(x, sb_store_list(x->store, &x->ctx, e->kind, &page, &rows, &more, &x->e)))
        return;
    if (more)
        offset = offset_after(x->c->arena, e->kind, rows->items[rows->count - 1]);
    sb_entities_page(x->c, rows, path, offset, !parent);
}

/* -- /U and /U/{e} ----------------------------------------------------------------------------- */

static void insert(struct sb_entities *x, const struct sb_entity *kind, const struct sb_value *in)
{
    struct sb_value *made = NULL;
    enum sb_rc rc = sb_store_insert(x->store, &x->ctx, kind, in, &made, &x->e);

    answer_written(x, rc, 201, made);
}

void sb_entities_collection(struct sb_call *c, const struct sb_endpoint *e)
{
    struct sb_entities x = {0};

    if (!sb_entities_open(c, &x))
        return;
    if (c->method == SB_POST)
        insert(&x, e->kind, sb_entities_input(&x, e->kind));
    else
        list(&x, e, NULL, sb_arena_printf(c->arena, "/%s", e->kind->path));
}

void sb_entities_upsert(struct sb_entities *x, const struct sb_entity *kind,
                        struct sb_store_key key, const struct sb_value *in)
{
    struct sb_value *made = NULL;
    enum sb_rc rc = sb_store_upsert(x->store, &x->ctx, kind, key, in, &made, &x->e);

    answer_written(x, rc, 200, made);
}

void sb_entities_update(struct sb_entities *x, const struct sb_entity *kind,
                        struct sb_store_key key, const struct sb_value *in)
{
    struct sb_value *made = NULL;
    enum sb_rc rc = sb_store_update(x->store, &x->ctx, kind, key, in, &made, &x->e);

    answer_written(x, rc, 200, made);
}

void sb_entities_delete(struct sb_entities *x, const struct sb_entity *kind,
                        struct sb_store_key key)
{
    answer_written(x, sb_store_delete(x->store, &x->ctx, kind, key, &x->e), 204, NULL);
}

void sb_entities_entity(struct sb_call *c, const struct sb_endpoint *e)
{
    struct sb_entities x = {0};
    struct sb_store_key key;
    struct sb_value *entity;

    if (!sb_entities_open(c, &x))
        return;
    if (c->method & (SB_GET | SB_HEAD)) {
        entity = sb_entities_find(&x, e->kind, c->params[0]);
        if (entity)
            sb_answer(c, 200, entity);
        return;
    }
    if (!key_or_answer(&x, e->kind, c->params[0], &key))
        return;
    if (c->method == SB_PUT)
        sb_entities_upsert(&x, e->kind, key, sb_entities_input(&x, e->kind));
    else if (c->method == SB_PATCH)
        sb_entities_update(&x, e->kind, key, sb_entities_input(&x, e->kind));
    else
        sb_entities_delete(&x, e->kind, key);
}

/* -- /U/{e}/f ---------------------------------------------------------------------------------- */

/* Seen from a child, what is not in the row is not shown. */
static void hide_transient(struct sb_arena *a, const struct sb_entity *kind,
                           struct sb_value *entity)
{
    for (const struct sb_field *f = kind->fields; f->name; f++)
        if (f->flags & SB_F_TRANSIENT)
            sb_object_set(a, entity, sb_str_c(f->name), sb_value_null(a));
}

static void show_referred(struct sb_entities *x, const struct sb_entity *kind, struct sb_str id)
{
    struct sb_value *entity = sb_entities_find(x, kind, id);

    if (!entity)
        return;
    hide_transient(x->c->arena, kind, entity);
    sb_answer(x->c, 200, entity);
}

/* Makes what the field shall refer to, and lets it. */
static void attach(struct sb_entities *x, const struct sb_endpoint *e, const struct sb_value *child)
{
    struct sb_value *made = NULL, *patch = sb_value_object(x->c->arena), *changed;
    struct sb_store_key key = {"id", id_of(child)};
    struct sb_err err;
    enum sb_rc rc;

    if (sb_store_begin(x->store, &err)) {
        sb_answer_message(x->c, 500, "An unexpected error occurred");
        return;
    }
    rc = sb_store_insert(x->store, &x->ctx, e->parent, sb_entities_input(x, e->parent), &made,
                         &x->e);
    if (!rc) {
        sb_object_set(x->c->arena, patch, sb_str_c(e->foreign->name),
                      reference(x->c->arena, id_of(made)));
        rc = sb_store_update(x->store, &x->ctx, e->kind, key, patch, &changed, &x->e);
    }
    if (rc) {
        sb_store_rollback(x->store);
    } else if (sb_store_commit(x->store, &err)) {
        rc = SB_UNAVAILABLE;
        x->e = (struct sb_kong_error){.code = SB_KONG_DATABASE_ERROR,
                                      .message = sb_arena_str(x->c->arena, sb_str_c(err.text))};
    }
    answer_written(x, rc, 200, made);
}

/* e->kind is the child, e->parent what its field refers to. */
static void referred(struct sb_call *c, const struct sb_endpoint *e)
{
    struct sb_store_key key = {"id", {0}};
    struct sb_entities x = {0};
    struct sb_value *child;

    if (!sb_entities_open(c, &x))
        return;
    child = sb_entities_find(&x, e->kind, c->params[0]);
    if (!child)
        return;
    key.value = id_of(sb_get(child, e->foreign->name));
    if (!key.value.len && c->method == SB_PUT)
        attach(&x, e, child);
    else if (!key.value.len)
        sb_answer_not_found(c);
    else if (c->method & (SB_GET | SB_HEAD))
        show_referred(&x, e->parent, key.value);
    else if (c->method == SB_PUT)
        sb_entities_upsert(&x, e->parent, key, sb_entities_input(&x, e->parent));
    else if (c->method == SB_PATCH)
        sb_entities_update(&x, e->parent, key, sb_entities_input(&x, e->parent));
    else
        sb_answer_message(c, 405, "Method not allowed");
}

/* -- /P/{p}/N and /P/{p}/N/{e} ----------------------------------------------------------------- */

/* What was sent, belonging to the parent. */
static struct sb_value *input_below(struct sb_entities *x, const struct sb_endpoint *e,
                                    const struct sb_value *parent)
{
    struct sb_arena *a = x->c->arena;
    struct sb_value *in = sb_value_copy(a, sb_entities_input(x, e->kind));

    sb_object_set(a, in, sb_str_c(e->foreign->name), reference(a, id_of(parent)));
    return in;
}

void sb_entities_nested(struct sb_call *c, const struct sb_endpoint *e)
{
    struct sb_entities x = {0};
    struct sb_value *parent;

    if (!sb_entities_open(c, &x))
        return;
    parent = sb_entities_find(&x, e->parent, c->params[0]);
    if (!parent)
        return;
    if (c->method == SB_POST)
        insert(&x, e->kind, input_below(&x, e, parent));
    else
        list(&x, e, parent,
             sb_arena_printf(c->arena, "/%s/%.*s/%.*s", e->parent->path,
                             SB_ARG(sb_url_encode(c->arena, c->params[0])),
                             SB_ARG(c->segments[2])));
}

struct sb_value *sb_entities_child(struct sb_entities *x, const struct sb_endpoint *e,
                                   const struct sb_value *parent, struct sb_str text)
{
    struct sb_value *child;

    if (!e->kind->endpoint_key && !is_uuid(text)) {
        sb_answer_not_found(x->c);
        return NULL;
    }
    child = sb_entities_find(x, e->kind, text);
    if (child && !sb_str_eq(id_of(sb_get(child, e->foreign->name)), id_of(parent))) {
        sb_answer_not_found(x->c);
        return NULL;
    }
    return child;
}

/* A patch says whose it is too: some checks need to know (basic-auth's hash). */
static const struct sb_value *patch_below(struct sb_entities *x, const struct sb_endpoint *e,
                                          const struct sb_value *parent)
{
    const struct sb_value *in = sb_entities_input(x, e->kind);

    return sb_get(in, e->foreign->name) ? in : input_below(x, e, parent);
}

void sb_entities_nested_entity(struct sb_call *c, const struct sb_endpoint *e)
{
    struct sb_entities x = {0};
    struct sb_value *parent, *child;
    struct sb_store_key key = {"id", {0}};

    if (!sb_entities_open(c, &x))
        return;
    parent = sb_entities_find(&x, e->parent, c->params[0]);
    if (!parent)
        return;
    if (c->method == SB_PUT) {
        if (key_or_answer(&x, e->kind, c->params[1], &key))
            sb_entities_upsert(&x, e->kind, key, input_below(&x, e, parent));
        return;
    }
    child = sb_entities_child(&x, e, parent, c->params[1]);
    if (!child)
        return;
    key.value = id_of(child);
    if (c->method & (SB_GET | SB_HEAD))
        sb_answer(c, 200, child);
    else if (c->method == SB_PATCH)
        sb_entities_update(&x, e->kind, key, patch_below(&x, e, parent));
    else
        sb_entities_delete(&x, e->kind, key);
}

/* -- from tables to patterns ------------------------------------------------------------------- */

typedef SB_VEC(struct sb_endpoint) endpoints_t;

#define WHOLE (SB_GET | SB_PUT | SB_PATCH | SB_DELETE)

/* Below a parent credentials are called as their plugin is. */
static const char *nested_name(const struct sb_entity *kind)
{
    static const char *const names[][2] = {
        {"keyauth_credentials", "key-auth"},
        {"basicauth_credentials", "basic-auth"},
        {"hmacauth_credentials", "hmac-auth"},
        {"jwt_secrets", "jwt"},
    };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(kind->name, names[i][0]) == 0)
            return names[i][1];
    return kind->path;
}

static bool known(const endpoints_t *list, const char *pattern)
{
    for (size_t i = 0; i < list->len; i++)
        if (strcmp(list->p[i].pattern, pattern) == 0)
            return true;
    return false;
}

/* Unless a table has it already. */
static void add(endpoints_t *list, struct sb_endpoint e, struct sb_str pattern)
{
    e.pattern = pattern.p;
    if (!known(list, e.pattern))
        sb_vec_push(list, e);
}

static void add_foreign(endpoints_t *list, struct sb_arena *a, const struct sb_entity *kind,
                        const struct sb_field *f)
{
    const struct sb_entity *p = sb_entity_find(sb_str_c(f->reference));
    struct sb_endpoint e = {.kind = kind, .parent = p, .foreign = f};

    if (!p || (p->flags & SB_E_NO_API))
        return;
    e.methods = WHOLE;
    e.handle = referred;
    add(list, e, sb_arena_printf(a, "/%s/{%s}/%s", kind->path, kind->name, f->name));
    e.handle = sb_entities_nested_entity;
    add(list, e,
        sb_arena_printf(a, "/%s/{%s}/%s/{%s}", p->path, p->name, nested_name(kind), kind->name));
    e.methods = SB_GET | SB_POST;
    e.handle = sb_entities_nested;
    add(list, e, sb_arena_printf(a, "/%s/{%s}/%s", p->path, p->name, nested_name(kind)));
}

static void add_entity(endpoints_t *list, struct sb_arena *a, const struct sb_entity *kind)
{
    struct sb_endpoint e = {.kind = kind};

    e.methods = SB_GET | SB_POST;
    e.handle = sb_entities_collection;
    add(list, e, sb_arena_printf(a, "/%s", kind->path));
    e.methods = WHOLE;
    e.handle = sb_entities_entity;
    add(list, e, sb_arena_printf(a, "/%s/{%s}", kind->path, kind->name));
    for (const struct sb_field *f = kind->fields; f->name; f++)
        if (f->type == SB_T_FOREIGN)
            add_foreign(list, a, kind, f);
}

/* The rows of hand-written tables know their entities by the words of their patterns. */
static void add_table(endpoints_t *list, const struct sb_endpoint *table)
{
    for (; table->pattern; table++)
        sb_vec_push(list, *table);
}

static const struct sb_endpoint *finish(struct sb_arena *a, endpoints_t *list)
{
    struct sb_endpoint *out = SB_NEW_N(a, struct sb_endpoint, list->len + 1);

    memcpy(out, list->p, sizeof *out * list->len);
    sb_vec_release(list);
    return out;
}

const struct sb_endpoint *sb_entity_endpoints(struct sb_arena *a, const struct sb_admin_node *node)
{
    endpoints_t list = {0};

    add_table(&list, sb_info_endpoints);
    add_table(&list, sb_schema_endpoints);
    add_table(&list, sb_config_endpoints);
    add_table(&list, sb_special_endpoints);
    add_table(&list, sb_target_endpoints);
    for (const struct sb_entity *const *kind = sb_entities(); *kind; kind++)
        if (!((*kind)->flags & SB_E_NO_API) && (*kind)->path &&
            (!(*kind)->plugin || sb_admin_plugin_enabled(node, sb_str_c((*kind)->plugin))))
            add_entity(&list, a, *kind);
    return finish(a, &list);
}

const struct sb_endpoint *sb_status_listener_endpoints(struct sb_arena *a,
                                                       const struct sb_admin_node *node)
{
    endpoints_t list = {0};

    add_table(&list, sb_status_endpoints);
    if (node->dbless)
        add_table(&list, sb_status_target_endpoints);
    return finish(a, &list);
}
