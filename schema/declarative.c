/* declarative.c - a document becomes rows.
 *
 *     document  {services: [{name: s, routes: [{name: r, plugins: [..]}]}], plugins: [{service:
 * s}]} |      nodes: every entity at any depth, parents before children, each with its id |
 * references: names and ids become {id} v      every node through its entity's schema rows
 * {services: [{id, name, ...}], routes: [{id, service: {id}}, ...]}
 *
 * (I1) All or nothing: rows are handed out only when no entity, name, id or reference is at fault.
 * (I2) Ids follow from the document where names allow it, so that the same text gives the same
 * rows. (I3) Faults of entities are told before clashes between them, and clashes before dangling
 * references: each kind of fault is told for the whole document at once.
 *
 * Facts: reference/declarative-config.md.
 */
#include "schema/declarative.h"

#include <stdlib.h>

#include "schema/document.h"
#include "schema/uri.h"
#include "schema/validate.h"
#include "shared/digest.h"
#include "shared/json.h"
#include "shared/yaml.h"

/* Stands for what a name did not lead to until references are checked. */
static const char nowhere[] = "00000000-0000-0000-0000-000000000000";

/* -- text ------------------------------------------------------------------------------------- */

enum sb_rc sb_declarative_text(struct sb_arena *a, struct sb_str text, const char *name,
                               struct sb_value **doc, struct sb_err *err)
{
    static const char failed[] = "failed parsing declarative configuration";
    bool json = name && sb_str_ends(sb_str_c(name), SB_STR("json"));
    bool yaml = name && (sb_str_ends(sb_str_c(name), SB_STR("yaml")) ||
                         sb_str_ends(sb_str_c(name), SB_STR("yml")));
    struct sb_yaml_problem problem;
    struct sb_value *v = NULL;
    struct sb_err why;

    if (name && !json && !yaml)
        return sb_err_set(err, SB_INVALID, "unknown file type: %s. (Accepted types: json, yaml)",
                          name);
    if (!yaml && sb_json_parse(a, text, &v, &why)) {
        if (json)
            return sb_err_set(err, SB_INVALID, "%s: %s", failed, why.text);
        v = NULL;
    }
    if (!v && sb_yaml_parse_told(a, text, &v, &problem))
        return sb_err_set(err, SB_INVALID, "%s: %zu:%zu: %s", failed, problem.line, problem.column,
                          problem.why);
    if (v->type != SB_V_OBJECT)
        return sb_err_set(err, SB_INVALID, "%s: expected an object", failed);
    *doc = v;
    return SB_OK;
}

/* -- old format versions ---------------------------------------------------------------------- */

static struct sb_value *upgraded_paths(struct sb_arena *a, const struct sb_value *paths)
{
    struct sb_value *out = sb_value_array(a), *path;

    sb_array_each (path, paths)
        sb_array_push(a, out,
                      path->type == SB_V_STR ? sb_value_str(a, sb_path_upgrade(a, path->s)) : path);
    return out;
}

static void upgrade_routes(struct sb_arena *a, struct sb_value *routes)
{
    struct sb_value *route, *paths;

    sb_array_each (route, routes) {
        paths = sb_get(route, "paths");
        if (sb_is(paths, SB_V_ARRAY))
            sb_object_set(a, route, SB_STR("paths"), upgraded_paths(a, paths));
    }
}

/* The document in the ways of 3.0; a copy when that changes something. */
static const struct sb_value *upgraded(struct sb_arena *a, const struct sb_value *doc)
{
    struct sb_str version = sb_value_str_at(doc, "_format_version");
    struct sb_value *copy, *service;

    if (!sb_str_is(version, "1.1") && !sb_str_is(version, "2.1"))
        return doc;
    copy = sb_value_copy(a, doc);
    upgrade_routes(a, sb_get(copy, "routes"));
    sb_array_each (service, sb_get(copy, "services"))
        upgrade_routes(a, sb_get(service, "routes"));
    return copy;
}

/* -- the tree of nodes ------------------------------------------------------------------------ */

static bool is_note(struct sb_str key)
{
    return sb_str_is(key, "_comment") || sb_str_is(key, "_ignore");
}

/* The entity of that name, unless its plugin is not enabled. */
static const struct sb_entity *entity_of(const struct sb_doc *d, struct sb_str key)
{
    const struct sb_entity *kind = sb_entity_find(key);

    if (!kind || sb_str_is(key, "tags"))
        return NULL;
    if (kind->plugin && d->ctx.plugin_enabled &&
        !d->ctx.plugin_enabled(d->ctx.arg, sb_str_c(kind->plugin)))
        return NULL;
    return kind;
}

static const struct sb_field *link_to(const struct sb_entity *child, const struct sb_entity *parent)
{
    for (const struct sb_field *f = child->fields; f->name; f++) {
        if (f->type == SB_T_FOREIGN && strcmp(f->reference, parent->name) == 0)
            return f;
    }
    return NULL;
}

const struct sb_entity *sb_doc_child_kind(const struct sb_doc *d, const struct sb_entity *parent,
                                          struct sb_str key)
{
    const struct sb_field *own = sb_field_find(parent->fields, key);
    const struct sb_entity *kind = entity_of(d, key);

    if (!kind || (own && !(own->flags & SB_F_TRANSIENT)) || !link_to(kind, parent))
        return NULL;
    return kind;
}

static struct sb_doc_list *add_list(struct sb_doc *d, struct sb_doc_list **to, struct sb_str key,
                                    const struct sb_entity *kind, const struct sb_value *items,
                                    struct sb_doc_node *parent);

static void add_children(struct sb_doc *d, struct sb_doc_node *n)
{
    const struct sb_member *m;
    struct sb_value *not_list;

    sb_object_each (m, n->input) {
        const struct sb_entity *kind = sb_doc_child_kind(d, n->kind, m->key);

        if (!kind || m->value->type == SB_V_NULL)
            continue;
        if (m->value->type == SB_V_ARRAY) {
            add_list(d, &n->children, m->key, kind, m->value, n);
        } else if (m->value->type != SB_V_OBJECT || m->value->count) {
            not_list = n->errors ? n->errors : sb_value_object(d->arena);
            sb_errors_field(d->arena, not_list, kind->name, "expected an array");
            n->errors = not_list;
        }
    }
}

static struct sb_doc_node *new_node(struct sb_doc *d, const struct sb_entity *kind,
                                    const struct sb_value *input, struct sb_doc_node *parent)
{
    struct sb_doc_node *n = SB_NEW(d->arena, struct sb_doc_node);

    n->kind = kind;
    n->input = input;
    n->parent = parent;
    n->link = parent ? link_to(kind, parent->kind)->name : NULL;
    if (kind->endpoint_key && input->type == SB_V_OBJECT)
        n->endpoint = sb_value_str_at(input, kind->endpoint_key);
    if (input->type != SB_V_OBJECT)
        n->errors = sb_value_text(d->arena, "expected a record");
    *d->last = n;
    d->last = &n->next;
    return n;
}

static struct sb_doc_list *add_list(struct sb_doc *d, struct sb_doc_list **to, struct sb_str key,
                                    const struct sb_entity *kind, const struct sb_value *items,
                                    struct sb_doc_node *parent)
{
    struct sb_doc_list *l = SB_NEW(d->arena, struct sb_doc_list);

    l->key = key;
    l->count = items->count;
    l->nodes = SB_NEW_N(d->arena, struct sb_doc_node *, items->count);
    while (*to)
        to = &(*to)->next;
    *to = l;
    for (uint32_t i = 0; i < items->count; i++) {
        l->nodes[i] = new_node(d, kind, items->items[i], parent);
        l->nodes[i]->position = i + 1;
        add_children(d, l->nodes[i]);
    }
    return l;
}

static const struct sb_field version = {.type = SB_T_STRING,
                                        .one_of = (const char *const[]){"1.1", "2.1", "3.0", NULL}};

static const char *root_complaint(struct sb_doc *d, struct sb_str key, const struct sb_value *v)
{
    static const struct sb_field text = {.type = SB_T_STRING}, flag = {.type = SB_T_BOOLEAN};
    const struct sb_entity *kind;

    if (sb_str_is(key, "_format_version"))
        return sb_is_nil(v) ? NULL : sb_field_check(&d->ctx, &version, v);
    if (sb_str_is(key, "_transform"))
        return sb_field_check(&d->ctx, &flag, v);
    if (sb_str_is(key, "_comment"))
        return sb_field_check(&d->ctx, &text, v);
    if (sb_str_is(key, "_ignore"))
        return NULL;
    kind = entity_of(d, key);
    if (!kind)
        return "unknown field";
    if (v->type == SB_V_ARRAY)
        add_list(d, &d->lists, key, kind, v, NULL);
    else if (v->type != SB_V_NULL && (v->type != SB_V_OBJECT || v->count))
        return "expected an array";
    return NULL;
}

static void read_root(struct sb_doc *d, const struct sb_value *doc)
{
    const struct sb_member *m;

    sb_object_each (m, doc) {
        const char *why = root_complaint(d, m->key, m->value);

        if (why)
            sb_object_set(d->arena, d->root_errors, m->key, sb_value_text(d->arena, why));
    }
    if (sb_is_nil(sb_get(doc, "_format_version")))
        sb_errors_field(d->arena, d->root_errors, "_format_version", "required field missing");
}

/* -- ids -------------------------------------------------------------------------------------- */

static struct sb_str uuid_text(struct sb_arena *a, const struct sb_uuid *u)
{
    char text[SB_UUID_TEXT_LEN + 1];

    sb_uuid_format(u, text);
    return sb_arena_str(a, sb_str_c(text));
}

/* One part of a composite key; false when it has no stable value. A part that is null or an object
 * adds nothing. */
static bool add_part(struct sb_buf *b, const struct sb_doc_node *n, const char *name)
{
    const struct sb_field *f = sb_field_find(n->kind->fields, sb_str_c(name));
    const struct sb_value *v = sb_get(n->input, name);

    if (f->flags & SB_F_AUTO)
        return false;
    if (sb_is(v, SB_V_STR))
        sb_buf_printf(b, ":%.*s", SB_ARG(v->s));
    else if (!v && n->link && strcmp(n->link, name) == 0)
        sb_buf_printf(b, ":%.*s", SB_ARG(n->parent->id));
    else if (!v && f->flags & SB_F_REQUIRED)
        return false;
    else if (!v)
        sb_buf_char(b, ':');
    return true;
}

static bool composite_key(struct sb_doc *d, const struct sb_doc_node *n, struct sb_str *key)
{
    struct sb_buf b;
    bool ok = true;

    sb_buf_init(&b, 0);
    sb_buf_printf(&b, "%s:*", n->kind->name);
    for (const char *const *part = n->kind->cache_key; ok && *part; part++)
        ok = add_part(&b, n, *part);
    *key = sb_arena_str(d->arena, sb_buf_get(&b));
    sb_buf_release(&b);
    return ok;
}

static struct sb_str computed_id(struct sb_doc *d, const struct sb_doc_node *n)
{
    struct sb_uuid u = sb_uuid_v4();
    struct sb_str key;

    if (n->kind->cache_key) {
        if (composite_key(d, n, &key))
            u = sb_entity_id(n->kind, key);
    } else if (n->endpoint.len) {
        u = sb_entity_id(n->kind, n->endpoint);
    }
    return uuid_text(d->arena, &u);
}

/* Ids of links must at least look like ids: what was written wrong is told where it was written. */
static void give_id(struct sb_doc *d, struct sb_doc_node *n)
{
    const struct sb_value *id = sb_get(n->input, n->kind->primary_key);
    struct sb_uuid u;

    if (!sb_field_find(n->kind->fields, SB_STR("id"))) {
        n->id = sb_is(id, SB_V_STR) ? id->s : SB_STR("");
        n->id_given = true;
    } else if (sb_is_nil(id)) {
        n->id = computed_id(d, n);
    } else {
        n->id_given = true;
        n->id = sb_is(id, SB_V_STR) && sb_uuid_parse(id->s, &u) ? uuid_text(d->arena, &u)
                                                                : sb_str_c(nowhere);
    }
}

static struct sb_str index_key(struct sb_doc *d, const char *entity, struct sb_str text)
{
    return sb_arena_printf(d->arena, "%s:%.*s", entity, SB_ARG(text));
}

static struct sb_doc_node *find_node(struct sb_doc *d, const char *entity, struct sb_str name)
{
    struct sb_str key = index_key(d, entity, name);
    struct sb_doc_node *n = sb_map_get(&d->by_key, key);
    struct sb_uuid u;

    if (!n && sb_uuid_parse(name, &u))
        n = sb_map_get(&d->by_id, index_key(d, entity, uuid_text(d->arena, &u)));
    return n;
}

/* Gives ids and indexes all nodes; where two are of one name or id the first counts. */
static void give_ids(struct sb_doc *d)
{
    for (struct sb_doc_node *n = d->first; n; n = n->next) {
        struct sb_str key;

        if (n->input->type != SB_V_OBJECT)
            continue;
        give_id(d, n);
        key = index_key(d, n->kind->name, n->id);
        if (!sb_map_get(&d->by_id, key))
            sb_map_set(&d->by_id, key, n);
        key = index_key(d, n->kind->name, n->endpoint);
        if (n->endpoint.len && !sb_map_get(&d->by_key, key))
            sb_map_set(&d->by_key, key, n);
    }
}

/* -- entities --------------------------------------------------------------------------------- */

static struct sb_value *reference(struct sb_arena *a, struct sb_str id)
{
    struct sb_value *v = sb_value_object(a);

    sb_object_set(a, v, SB_STR("id"), sb_value_str(a, id));
    return v;
}

/* What the entity's schema gets to see: without children and notes, with id and links. */
static struct sb_value *prepared(struct sb_doc *d, const struct sb_doc_node *n)
{
    struct sb_value *in = sb_value_object(d->arena);
    const struct sb_member *m;

    sb_object_each (m, n->input) {
        const struct sb_field *f = sb_field_find(n->kind->fields, m->key);
        struct sb_value *v = m->value;

        if (is_note(m->key) || sb_doc_child_kind(d, n->kind, m->key))
            continue;
        if (f && f->type == SB_T_FOREIGN && v->type == SB_V_STR) {
            const struct sb_doc_node *to = find_node(d, f->reference, v->s);

            v = reference(d->arena, to ? to->id : sb_str_c(nowhere));
        }
        sb_object_set(d->arena, in, m->key, v);
    }
    if (!n->id_given)
        sb_object_set(d->arena, in, SB_STR("id"), sb_value_str(d->arena, n->id));
    if (n->parent)
        sb_object_set(d->arena, in, sb_str_c(n->link), reference(d->arena, n->parent->id));
    return in;
}

/* Of what selects no subschema nothing else is told, and nothing of what stands within it. */
static bool is_lost(struct sb_doc *d, const struct sb_doc_node *n)
{
    const char *why;

    for (; n; n = n->parent) {
        const struct sb_value *key =
            n->kind->subschema ? sb_get(n->input, n->kind->subschema_key) : NULL;

        if (key && (sb_is_nil(key) || !n->kind->subschema(&d->ctx, key, &why)))
            return true;
    }
    return false;
}

static bool validate_node(struct sb_doc *d, struct sb_doc_node *n)
{
    struct sb_value *errors = n->errors ? n->errors : sb_value_object(d->arena);
    struct sb_kong_error e = {0};
    const struct sb_member *m;

    if (n->input->type != SB_V_OBJECT || is_lost(d, n->parent))
        return false;
    if (sb_entity_build(&d->ctx, n->kind, prepared(d, n), &n->plain, &e)) {
        sb_object_each (m, e.fields)
            sb_object_set(d->arena, errors, m->key, m->value);
    }
    n->errors = errors->count ? errors : NULL;
    return !n->errors;
}

/* Kong looks at a document twice: first as it stands, where what is nested may refer to nothing and
 * what is computed from a foreign field lacks it; when that fails, with all references in their
 * place. Errors are the second look's, and what the first said of references. */
static bool fails_as_it_stands(const struct sb_doc_node *n)
{
    for (const struct sb_field *f = n->kind->fields; n->parent && f->name; f++) {
        if (f->type == SB_T_FOREIGN && !sb_is_nil(sb_get(n->input, f->name)))
            return true;
    }
    for (const struct sb_transform *t = n->kind->transforms; t && t->apply; t++) {
        if (t->needs && strchr(t->needs, '.') && !sb_is_blank(sb_value_at(n->input, t->input)))
            return true;
    }
    return false;
}

static struct sb_value *errors_of(struct sb_doc *d, struct sb_doc_node *n)
{
    if (!n->errors)
        n->errors = sb_value_object(d->arena);
    return n->errors;
}

/* The parent's place is taken by what is no reference. */
static bool denies_parent(const struct sb_doc_node *n, const struct sb_field *f,
                          const struct sb_value *v)
{
    struct sb_uuid id;

    return n->parent && strcmp(f->name, n->link) == 0 && !sb_is_nil(v) && v->type != SB_V_STR &&
           !sb_uuid_parse(sb_value_str_at(v, "id"), &id);
}

/* What is computed from the entity that f refers to is not. */
static void tell_transforms(struct sb_doc *d, struct sb_doc_node *n, const struct sb_field *f)
{
    for (const struct sb_transform *t = n->kind->transforms; t && t->apply; t++) {
        const char *const both[] = {t->input, t->needs, NULL};

        if (t->needs && sb_str_starts(sb_str_c(t->needs), sb_str_c(f->name)) &&
            !sb_is_blank(sb_value_at(n->input, t->input)))
            sb_errors_entity(d->arena, errors_of(d, n),
                             sb_say(&d->ctx, "all or none of these fields must be set: %s",
                                    sb_quoted_list(d->arena, both).p));
    }
}

/* The second look: names that lead nowhere are no keys, and a parent is not denied. */
static bool reference_leads_somewhere(struct sb_doc *d, struct sb_doc_node *n,
                                      const struct sb_field *f)
{
    const struct sb_value *v = sb_get(n->input, f->name);
    bool own = n->parent && strcmp(f->name, n->link) == 0;

    if (sb_is(v, SB_V_NULL) && own && f->flags & SB_F_REQUIRED) {
        sb_errors_field(d->arena, errors_of(d, n), f->name, "required field missing");
        return false;
    }
    if (!sb_is(v, SB_V_STR))
        return !denies_parent(n, f, v);
    if (find_node(d, f->reference, v->s))
        return true;
    if (!sb_get(errors_of(d, n), f->name))
        sb_errors_field(d->arena, n->errors, sb_arena_printf(d->arena, "%s.id", f->name).p,
                        "missing primary key");
    tell_transforms(d, n, f);
    return false;
}

static bool references_lead_somewhere(struct sb_doc *d, struct sb_doc_node *n)
{
    bool ok = true;

    for (const struct sb_field *f = n->kind->fields; f->name && !is_lost(d, n); f++) {
        if (f->type == SB_T_FOREIGN)
            ok = reference_leads_somewhere(d, n, f) && ok;
    }
    return ok;
}

/* The first look: what stands within another entity refers to nothing itself. */
static void tell_nested_references(struct sb_doc *d, struct sb_doc_node *n)
{
    for (const struct sb_field *f = n->kind->fields; n->parent && f->name && !is_lost(d, n); f++) {
        if (f->type == SB_T_FOREIGN && !sb_is_nil(sb_get(n->input, f->name)))
            sb_errors_field(d->arena, errors_of(d, n), f->name, "value must be null");
    }
}

static bool validate_all(struct sb_doc *d)
{
    bool ok = d->root_errors->count == 0, again;

    for (struct sb_doc_node *n = d->first; n; n = n->next)
        ok = validate_node(d, n) && ok;
    again = !ok;
    for (struct sb_doc_node *n = d->first; n && !again; n = n->next)
        again = fails_as_it_stands(n);
    for (struct sb_doc_node *n = d->first; n && again; n = n->next)
        ok = references_lead_somewhere(d, n) && ok;
    for (struct sb_doc_node *n = d->first; n && !ok; n = n->next)
        tell_nested_references(d, n);
    return ok;
}

/* -- among each other ------------------------------------------------------------------------- */

static void add_problem(struct sb_doc *d, struct sb_doc_problem what)
{
    struct sb_doc_problem *p = SB_NEW(d->arena, struct sb_doc_problem);

    *p = what;
    *d->last_problem = p;
    d->last_problem = &p->next;
}

static void taken(struct sb_doc *d, const struct sb_doc_node *n, const char *what,
                  struct sb_str value, int place)
{
    add_problem(d, (struct sb_doc_problem){
                       .node = n,
                       .place = place,
                       .text = sb_say(&d->ctx,
                                      "uniqueness violation: '%s' entity with %s set to '%.*s' "
                                      "already declared",
                                      n->kind->name, what, SB_ARG(value)),
                   });
}

static void check_names_and_ids(struct sb_doc *d)
{
    for (const struct sb_doc_node *n = d->first; n; n = n->next) {
        struct sb_str key = index_key(d, n->kind->name, n->endpoint);
        const struct sb_field *f =
            n->kind->endpoint_key ? sb_field_find(n->kind->fields, sb_str_c(n->kind->endpoint_key))
                                  : NULL;

        if (f && f->flags & SB_F_UNIQUE && n->endpoint.len && sb_map_get(&d->by_key, key) != n)
            taken(d, n, n->kind->endpoint_key, n->endpoint, SB_DOC_BY_POSITION);
        else if (sb_map_get(&d->by_id, index_key(d, n->kind->name, n->id)) != n)
            taken(d, n, "primary key", n->id, SB_DOC_NESTED);
    }
}

static void check_references(struct sb_doc *d)
{
    for (const struct sb_doc_node *n = d->first; n; n = n->next) {
        for (const struct sb_field *f = n->kind->fields; f->name; f++) {
            const struct sb_value *v = sb_get(n->input, f->name);
            struct sb_str name = sb_is(v, SB_V_STR) ? v->s : sb_value_str_at(v, "id");

            if (f->type != SB_T_FOREIGN || sb_is_nil(v) || find_node(d, f->reference, name))
                continue;
            add_problem(d, (struct sb_doc_problem){
                               .node = n,
                               .field = f->name,
                               .place = SB_DOC_LIST_BY_KEY,
                               .text = sb_say(
                                   &d->ctx, "invalid reference '%s: %.*s' (no such entry in '%s')",
                                   f->name, SB_ARG(name), f->reference),
                           });
        }
    }
}

/* Unique fields other than the endpoint key. */
static void check_unique_fields(struct sb_doc *d)
{
    struct sb_map seen = {0};

    for (const struct sb_doc_node *n = d->first; n; n = n->next) {
        for (const struct sb_field *f = n->kind->fields; f->name; f++) {
            struct sb_str v = sb_value_str_at(n->row, f->name), key;

            if (!(f->flags & SB_F_UNIQUE) || v.len == 0 ||
                (n->kind->endpoint_key && strcmp(f->name, n->kind->endpoint_key) == 0))
                continue;
            key = sb_arena_printf(d->arena, "%s.%s:%.*s", n->kind->name, f->name, SB_ARG(v));
            if (sb_map_set(&seen, key, (void *)n))
                taken(d, n, f->name, v, SB_DOC_BY_KEY);
        }
    }
    sb_map_release(&seen);
}

/* -- the whole -------------------------------------------------------------------------------- */

static enum sb_rc load_entities(struct sb_doc *d, struct sb_kong_error *e)
{
    give_ids(d);
    if (!validate_all(d)) {
        sb_doc_refuse_entities(d, e);
        return SB_INVALID;
    }
    for (struct sb_doc_node *n = d->first; n; n = n->next) {
        n->row = sb_value_copy(d->arena, n->plain);
        sb_entity_transform(&d->ctx, n->kind, n->plain, n->row);
    }
    check_names_and_ids(d);
    if (!d->problems)
        check_references(d);
    if (!d->problems)
        check_unique_fields(d);
    if (d->problems)
        sb_doc_refuse_problems(d, e);
    return d->problems ? SB_INVALID : SB_OK;
}

/* What POST /config shows of a node: its fields before transformations, null also where transient.
 */
static struct sb_value *shown_row(struct sb_doc *d, struct sb_doc_node *n)
{
    for (const struct sb_field *f = n->kind->fields; f->name; f++) {
        if (f->flags & SB_F_TRANSIENT && !sb_get(n->plain, f->name))
            sb_object_set(d->arena, n->plain, sb_str_c(f->name), sb_value_null(d->arena));
    }
    return n->plain;
}

/* By entity, in load order. shown: by id, before transformations. */
static struct sb_value *collect(struct sb_doc *d, bool shown)
{
    struct sb_value *out = sb_value_object(d->arena), *of_kind;

    for (const struct sb_entity *const *kind = sb_entities(); *kind; kind++) {
        if (strcmp((*kind)->name, "workspaces") == 0)
            continue;
        of_kind = shown ? sb_value_object(d->arena) : sb_value_array(d->arena);
        for (struct sb_doc_node *n = d->first; n; n = n->next) {
            if (n->kind != *kind)
                continue;
            if (shown)
                sb_object_append(d->arena, of_kind, n->id, shown_row(d, n));
            else
                sb_array_push(d->arena, of_kind, n->row);
        }
        if (of_kind->count)
            sb_object_set(d->arena, out, sb_str_c((*kind)->name), of_kind);
    }
    return out;
}

static void hash_of(struct sb_arena *a, const struct sb_value *doc, struct sb_str text, bool empty,
                    char hash[33])
{
    uint8_t md[SB_MD5_LEN] = {0};

    if (!empty)
        sb_md5(text.len ? text : sb_json_text(a, doc, SB_JSON_SORTED), md);
    memcpy(hash, sb_hex(a, md, sizeof md).p, 32);
    hash[32] = '\0';
}

enum sb_rc sb_declarative_load_shown(struct sb_schema_ctx *ctx, const struct sb_value *doc,
                                     struct sb_str text, struct sb_value **rows,
                                     struct sb_value **shown, char hash[33],
                                     struct sb_kong_error *e)
{
    struct sb_doc d = {.ctx = *ctx, .arena = ctx->arena};
    enum sb_rc rc;

    if (!sb_is(doc, SB_V_OBJECT)) {
        sb_declarative_refused(ctx->arena,
                               "failed parsing declarative configuration: expected an object", e);
        return SB_INVALID;
    }
    d.last = &d.first;
    d.last_problem = &d.problems;
    d.root_errors = sb_value_object(d.arena);
    d.ctx.import = true;
    d.ctx.keep_transforms = !sb_value_bool_at(doc, "_transform", !ctx->keep_transforms);
    doc = upgraded(d.arena, doc);
    read_root(&d, doc);
    rc = load_entities(&d, e);
    if (!rc) {
        *rows = collect(&d, false);
        if (shown)
            *shown = collect(&d, true);
        hash_of(d.arena, doc, text, (*rows)->count == 0, hash);
    }
    sb_map_release(&d.by_id);
    sb_map_release(&d.by_key);
    return rc;
}

enum sb_rc sb_declarative_load(struct sb_schema_ctx *ctx, const struct sb_value *doc,
                               struct sb_str text, struct sb_value **rows, char hash[33],
                               struct sb_kong_error *e)
{
    return sb_declarative_load_shown(ctx, doc, text, rows, NULL, hash, e);
}

/* -- export ----------------------------------------------------------------------------------- */

static struct sb_value *exported(struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                                 const struct sb_value *row)
{
    struct sb_value *out = sb_value_copy(ctx->arena, sb_entity_read_bare(ctx, kind, row));

    for (const struct sb_field *f = kind->fields; f->name; f++) {
        struct sb_value *v = sb_get(out, f->name);

        if (f->flags & SB_F_TRANSIENT)
            sb_object_remove(out, sb_str_c(f->name));
        else if (f->type == SB_T_FOREIGN && sb_is(v, SB_V_OBJECT))
            sb_object_set(ctx->arena, out, sb_str_c(f->name), sb_get(v, "id"));
    }
    return out;
}

struct sb_value *sb_declarative_dump(struct sb_schema_ctx *ctx, const struct sb_value *rows)
{
    struct sb_arena *a = ctx->arena;
    struct sb_value *doc = sb_value_object(a), *row;

    sb_object_set(a, doc, SB_STR("_format_version"), sb_value_text(a, "3.0"));
    sb_object_set(a, doc, SB_STR("_transform"), sb_value_bool(a, false));
    for (const struct sb_entity *const *kind = sb_entities(); *kind; kind++) {
        const struct sb_value *of_kind = sb_get(rows, (*kind)->name);
        struct sb_value *list = sb_value_array(a);

        if ((*kind)->flags & SB_E_NO_EXPORT || strcmp((*kind)->name, "workspaces") == 0)
            continue;
        sb_array_each (row, of_kind)
            sb_array_push(a, list, exported(ctx, *kind, row));
        if (list->count)
            sb_object_set(a, doc, sb_str_c((*kind)->name), list);
    }
    return doc;
}
