#include "schema/plugin_json.h"

#include "schema/types.h"
#include "shared/json.h"

enum { DEPTH_MAX = 16 };

static const struct {
    const char *name;
    enum sb_ftype type;
} types[] = {
    {"string", SB_T_STRING},   {"integer", SB_T_INTEGER}, {"number", SB_T_NUMBER},
    {"boolean", SB_T_BOOLEAN}, {"array", SB_T_ARRAY},     {"set", SB_T_SET},
    {"map", SB_T_MAP},         {"record", SB_T_RECORD},
};

struct reader {
    struct sb_arena *a;
    struct sb_err *err;
    int depth;
};

static enum sb_rc read_field(struct reader *r, struct sb_str name, const struct sb_value *v,
                             struct sb_field *f);

static enum sb_rc wrong(struct reader *r, const char *what)
{
    return sb_err_set(r->err, SB_INVALID, "%s", what);
}

/* -- a function per word -- */

static enum sb_rc read_type(struct reader *r, const struct sb_value *v, struct sb_field *f)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (sb_is(v, SB_V_STR) && sb_str_is(v->s, types[i].name)) {
            f->type = types[i].type;
            return SB_OK;
        }
    }
    return wrong(r, "type is not known");
}

static enum sb_rc read_flag(struct reader *r, const struct sb_value *v, struct sb_field *f,
                            unsigned flag)
{
    if (!sb_is(v, SB_V_BOOL))
        return wrong(r, "is not a boolean");
    f->flags = v->b ? f->flags | flag : f->flags & ~flag;
    return SB_OK;
}

static enum sb_rc read_required(struct reader *r, const struct sb_value *v, struct sb_field *f)
{
    return read_flag(r, v, f, SB_F_REQUIRED);
}

static enum sb_rc read_referenceable(struct reader *r, const struct sb_value *v, struct sb_field *f)
{
    return read_flag(r, v, f, SB_F_REFERENCEABLE);
}

static enum sb_rc read_encrypted(struct reader *r, const struct sb_value *v, struct sb_field *f)
{
    return read_flag(r, v, f, SB_F_ENCRYPTED);
}

static enum sb_rc read_default(struct reader *r, const struct sb_value *v, struct sb_field *f)
{
    f->def = sb_json_text(r->a, v, 0).p;
    return SB_OK;
}

static enum sb_rc read_one_of(struct reader *r, const struct sb_value *v, struct sb_field *f)
{
    const struct sb_value *item;
    const char **list;
    size_t n = 0;

    if (!sb_is(v, SB_V_ARRAY))
        return wrong(r, "one_of is not an array");
    list = SB_NEW_N(r->a, const char *, v->count + 1);
    sb_array_each (item, v)
        list[n++] =
            sb_is(item, SB_V_STR) ? sb_arena_cstr(r->a, item->s) : sb_json_text(r->a, item, 0).p;
    f->one_of = list;
    return SB_OK;
}

static enum sb_rc read_between(struct reader *r, const struct sb_value *v, struct sb_field *f)
{
    if (!sb_is(v, SB_V_ARRAY) || v->count != 2 || !sb_is_number(v->items[0]) ||
        !sb_is_number(v->items[1]))
        return wrong(r, "between is not two numbers");
    f->has_between = true;
    f->between_min = sb_number(v->items[0]);
    f->between_max = sb_number(v->items[1]);
    return SB_OK;
}

static enum sb_rc read_gt(struct reader *r, const struct sb_value *v, struct sb_field *f)
{
    if (!sb_is_number(v))
        return wrong(r, "gt is not a number");
    f->has_gt = true;
    f->gt = sb_number(v);
    return SB_OK;
}

static enum sb_rc read_len_min(struct reader *r, const struct sb_value *v, struct sb_field *f)
{
    if (!sb_is(v, SB_V_INT) || v->i < 0 || v->i > UINT32_MAX)
        return wrong(r, "len_min is not a whole number");
    f->has_len_min = true;
    f->len_min = (uint32_t)v->i;
    if (v->i == 0)
        f->flags |= SB_F_LEN_MIN_0;
    return SB_OK;
}

static enum sb_rc read_len_max(struct reader *r, const struct sb_value *v, struct sb_field *f)
{
    if (!sb_is(v, SB_V_INT) || v->i < 0 || v->i > UINT32_MAX)
        return wrong(r, "len_max is not a whole number");
    f->has_len_max = true;
    f->len_max = (uint32_t)v->i;
    return SB_OK;
}

static enum sb_rc read_match(struct reader *r, const struct sb_value *v, struct sb_field *f)
{
    if (!sb_is(v, SB_V_STR))
        return wrong(r, "match is not a string");
    f->match = sb_arena_cstr(r->a, v->s);
    return SB_OK;
}

static enum sb_rc read_inner(struct reader *r, const struct sb_value *v, const struct sb_field **at)
{
    struct sb_field *inner = SB_NEW(r->a, struct sb_field);

    *at = inner;
    return read_field(r, (struct sb_str){0}, v, inner);
}

static enum sb_rc read_elements(struct reader *r, const struct sb_value *v, struct sb_field *f)
{
    return read_inner(r, v, &f->elements);
}

static enum sb_rc read_keys(struct reader *r, const struct sb_value *v, struct sb_field *f)
{
    return read_inner(r, v, &f->keys);
}

static enum sb_rc read_values(struct reader *r, const struct sb_value *v, struct sb_field *f)
{
    return read_inner(r, v, &f->values);
}

static enum sb_rc read_fields(struct reader *r, const struct sb_value *v, struct sb_field *f)
{
    const struct sb_value *item;
    struct sb_field *fields;
    enum sb_rc rc;
    size_t n = 0;

    if (!sb_is(v, SB_V_ARRAY))
        return wrong(r, "fields is not an array");
    fields = SB_NEW_N(r->a, struct sb_field, v->count + 1);
    f->fields = fields;
    sb_array_each (item, v) {
        if (!sb_is(item, SB_V_OBJECT) || item->count != 1)
            return wrong(r, "fields is not an array of objects with one member each");
        if ((rc = read_field(r, item->members[0].key, item->members[0].value, &fields[n++])))
            return rc;
    }
    return SB_OK;
}

static const struct {
    const char *name;
    enum sb_rc (*read)(struct reader *r, const struct sb_value *v, struct sb_field *f);
} words[] = {
    {"type", read_type},           {"required", read_required},
    {"default", read_default},     {"one_of", read_one_of},
    {"between", read_between},     {"gt", read_gt},
    {"len_min", read_len_min},     {"len_max", read_len_max},
    {"match", read_match},         {"referenceable", read_referenceable},
    {"encrypted", read_encrypted}, {"elements", read_elements},
    {"keys", read_keys},           {"values", read_values},
    {"fields", read_fields},
};

static enum sb_rc read_word(struct reader *r, const struct sb_member *m, struct sb_field *f)
{
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (sb_str_is(m->key, words[i].name))
            return words[i].read(r, m->value, f);
    return sb_err_set(r->err, SB_INVALID, "%.*s is not a rule", SB_ARG(m->key));
}

/* What a type can't do without. */
static enum sb_rc complete(struct reader *r, struct sb_field *f)
{
    bool list = f->type == SB_T_ARRAY || f->type == SB_T_SET;

    if (list != (f->elements != NULL))
        return wrong(r, "elements are for arrays and sets");
    if ((f->type == SB_T_MAP) != (f->keys && f->values))
        return wrong(r, "a map has keys and values");
    if ((f->type == SB_T_RECORD) != (f->fields != NULL))
        return wrong(r, "a record has fields");
    return SB_OK;
}

static enum sb_rc read_field(struct reader *r, struct sb_str name, const struct sb_value *v,
                             struct sb_field *f)
{
    const struct sb_member *m;
    enum sb_rc rc = SB_OK;

    if (!sb_get(v, "type") || ++r->depth > DEPTH_MAX)
        return sb_err_set(r->err, SB_INVALID, "field '%.*s' has no type, or is too deep",
                          SB_ARG(name));
    if (name.p)
        f->name = sb_arena_cstr(r->a, name);
    if (sb_str_is(sb_value_str_at(v, "type"), "record"))
        f->flags = sb_value_bool_at(v, "required", true) ? SB_F_REQUIRED : SB_F_OPTIONAL;
    sb_object_each (m, v)
        if ((rc = read_word(r, m, f)))
            break;
    if (!rc)
        rc = complete(r, f);
    if (rc)
        sb_err_at(r->err, "field '%.*s'", SB_ARG(name));
    r->depth--;
    return rc;
}

/* -- the subschema: what `plugins` rows of that name look like -- */

static const char *const http[] = {"grpc", "grpcs", "http", "https", NULL};
static const struct sb_field protocol = {.type = SB_T_STRING, .one_of = http};

static void no_scope(struct sb_field *f, const char *name, const char *reference)
{
    *f = (struct sb_field){.name = name,
                           .type = SB_T_FOREIGN,
                           .reference = reference,
                           .flags = SB_F_CASCADE,
                           .eq = "null"};
}

enum sb_rc sb_plugin_schema_parse(struct sb_arena *a, const char *name, struct sb_str json,
                                  const struct sb_subschema **out, struct sb_err *err)
{
    struct sb_subschema *s = SB_NEW(a, struct sb_subschema);
    struct sb_field *fields = SB_NEW_N(a, struct sb_field, 6), *f = fields;
    struct reader r = {.a = a, .err = err};
    struct sb_value *v;
    enum sb_rc rc = sb_json_parse(a, json, &v, err);

    if (rc)
        return rc;
    if (sb_value_bool_at(v, "no_consumer", false))
        no_scope(f++, "consumer", "consumers");
    if (sb_value_bool_at(v, "no_route", false))
        no_scope(f++, "route", "routes");
    if (sb_value_bool_at(v, "no_service", false))
        no_scope(f++, "service", "services");
    *f++ = (struct sb_field){.name = "protocols",
                             .type = SB_T_SET,
                             .flags = SB_F_REQUIRED,
                             .elements = &protocol,
                             .def = "[\"grpc\",\"grpcs\",\"http\",\"https\"]"};
    *f = (struct sb_field){.name = "config", .type = SB_T_RECORD, .flags = SB_F_REQUIRED};
    if ((rc = read_fields(&r, sb_get(v, "fields"), f)))
        return rc;
    s->name = name;
    s->fields = fields;
    *out = s;
    return SB_OK;
}
