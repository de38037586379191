/* validate.c - from what was sent to a complete, valid entity, and from what is stored to what is
 * read.
 *
 *     input -> shorthands -> autos, defaults -> (PATCH: merge) -> fields -> required -> checks ->
 * transforms
 *
 * The order is Kong's (reference/entities.md, part 2), because its first complaint is the one that
 * people see. A subschema (a plugin's, a protocol's) puts its own fields in the place of the
 * entity's.
 *
 * (I1) Input is never changed: filling makes new containers and shares only scalars.
 * (I2) An entity that leaves here has every field of its table, null where it is unset, and nothing
 * else.
 */
#include "schema/validate.h"

#include <math.h>
#include <stdio.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "shared/clock.h"
#include "shared/digest.h"
#include "shared/json.h"

enum when { INSERT, UPDATE, SELECT };

/* The fields that are in force: the entity's, or those that the subschema has in their place. */
struct scope {
    const struct sb_field *fields;
    const struct sb_subschema *sub;
};

struct pass {
    struct sb_schema_ctx *ctx;
    enum when when;
    bool echo;               /* SELECT: show values under their old names too */
    struct sb_value *errors; /* of shorthands, by their names */
};

const char *sb_say(struct sb_schema_ctx *ctx, const char *fmt, ...)
{
    struct sb_str s;
    va_list ap;

    va_start(ap, fmt);
    s = sb_arena_vprintf(ctx->arena, fmt, ap);
    va_end(ap);
    return s.p;
}

const struct sb_field *sb_field_find(const struct sb_field *fields, struct sb_str name)
{
    for (const struct sb_field *f = fields; f && f->name; f++) {
        if (sb_str_is(name, f->name))
            return f;
    }
    return NULL;
}

static bool exists(const struct sb_schema_ctx *ctx, const struct sb_field *f)
{
    return !(f->flags & SB_F_EXPRESSIONS) || ctx->expressions;
}

static struct sb_fields known_of(const struct scope *s)
{
    return (struct sb_fields){s->fields, s->sub ? s->sub->fields : NULL};
}

static const struct sb_field *resolve(const struct sb_schema_ctx *ctx, const struct scope *s,
                                      struct sb_str name)
{
    const struct sb_field *f = s->sub ? sb_field_find(s->sub->fields, name) : NULL;

    if (!f)
        f = sb_field_find(s->fields, name);
    return f && exists(ctx, f) ? f : NULL;
}

/* Records are there unless they say that they may be null. */
static bool is_required(const struct sb_field *f)
{
    return f->flags & SB_F_REQUIRED || (f->type == SB_T_RECORD && !(f->flags & SB_F_OPTIONAL));
}

/* -- checking values --------------------------------------------------------------------------- */

static struct sb_value *text(struct sb_schema_ctx *ctx, const char *s)
{
    return s ? sb_value_text(ctx->arena, s) : NULL;
}

static bool is_whole(const struct sb_value *v)
{
    return v->type == SB_V_INT || (v->type == SB_V_NUM && v->n == floor(v->n));
}

/* JSON has one kind of empty container less than it has brackets for: [] and {} pass for each
 * other. */
static bool is_list(const struct sb_value *v)
{
    return v->type == SB_V_ARRAY || (v->type == SB_V_OBJECT && v->count == 0);
}

static bool is_table(const struct sb_value *v)
{
    return v->type == SB_V_OBJECT || v->type == SB_V_ARRAY;
}

static const char *wrong_type(const struct sb_field *f, const struct sb_value *v)
{
    switch (f->type) {
    case SB_T_STRING:
        return v->type == SB_V_STR ? NULL : "expected a string";
    case SB_T_INTEGER:
        return is_whole(v) ? NULL : "expected an integer";
    case SB_T_NUMBER:
        return sb_is_number(v) ? NULL : "expected a number";
    case SB_T_BOOLEAN:
        return v->type == SB_V_BOOL ? NULL : "expected a boolean";
    case SB_T_ARRAY:
        return is_list(v) ? NULL : "expected an array";
    case SB_T_SET:
        return is_list(v) ? NULL : "expected a set";
    case SB_T_MAP:
        return is_table(v) ? NULL : "expected a map";
    case SB_T_RECORD:
        return is_table(v) ? NULL : "expected a record";
    case SB_T_FOREIGN:
    case SB_T_JSON:
        return NULL;
    }
    return NULL;
}

/* A scalar as it stands in lists of choices. */
static struct sb_str choice_text(struct sb_schema_ctx *ctx, const struct sb_value *v)
{
    return v->type == SB_V_STR ? v->s : sb_json_text(ctx->arena, v, 0);
}

/* Counters that live in the database are no choice without one. */
static bool is_offered(const struct sb_schema_ctx *ctx, const char *choice)
{
    return !ctx->dbless || strcmp(choice, "cluster") != 0;
}

static bool is_one_of(struct sb_schema_ctx *ctx, const struct sb_value *v, const char *const *list)
{
    struct sb_str s = choice_text(ctx, v);

    for (; *list; list++) {
        if (sb_str_is(s, *list) && is_offered(ctx, *list))
            return true;
    }
    return false;
}

static const char *say_choices(struct sb_schema_ctx *ctx, const char *sentence,
                               const char *const *list)
{
    struct sb_buf b;
    const char *said;

    sb_buf_init(&b, 0);
    for (; *list; list++) {
        if (is_offered(ctx, *list))
            sb_buf_printf(&b, "%s%s", b.len ? ", " : "", *list);
    }
    said = sb_say(ctx, "%s: %.*s", sentence, SB_ARG(sb_buf_get(&b)));
    sb_buf_release(&b);
    return said;
}

static bool pattern_matches(const char *pattern, struct sb_str s)
{
    int code;
    PCRE2_SIZE at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_DOLLAR_ENDONLY,
                                   &code, &at, NULL);
    pcre2_match_data *data;
    int rc;

    sb_assert(re); /* patterns are ours */
    data = pcre2_match_data_create_from_pattern(re, NULL);
    rc = pcre2_match(re, (PCRE2_SPTR)(s.len ? s.p : ""), s.len, 0, 0, data, NULL);
    pcre2_match_data_free(data);
    pcre2_code_free(re);
    return rc >= 0;
}

static const char *wrong_length(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                const struct sb_value *v)
{
    size_t len = v->type == SB_V_STR ? v->s.len : v->count;
    bool sized = v->type == SB_V_STR || v->type == SB_V_ARRAY || v->type == SB_V_OBJECT;
    bool not_empty = f->type == SB_T_STRING && !f->has_len_min && !(f->flags & SB_F_LEN_MIN_0);

    if (!sized)
        return NULL;
    if (f->has_len_eq && len != f->len_eq)
        return sb_say(ctx, "length must be %u", f->len_eq);
    if (f->has_len_min ? len < f->len_min : not_empty && len == 0)
        return sb_say(ctx, "length must be at least %u", f->has_len_min ? f->len_min : 1);
    if (f->has_len_max && len > f->len_max)
        return sb_say(ctx, "length must be at most %u", f->len_max);
    return NULL;
}

static bool list_has(const struct sb_value *v, const char *s)
{
    const struct sb_value *item;

    sb_array_each (item, v) {
        if (item->type == SB_V_STR && sb_str_is(item->s, s))
            return true;
    }
    return false;
}

static const char *wrong_number(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                const struct sb_value *v)
{
    double n;

    if (!sb_is_number(v))
        return NULL;
    n = sb_number(v);
    if (f->has_gt && !(n > f->gt))
        return sb_say(ctx, "value must be greater than %.14g", f->gt);
    if (f->flags & SB_F_TIMESTAMP && !(n > 0))
        return "expected a valid timestamp";
    if (f->has_between && (n < f->between_min || n > f->between_max))
        return sb_say(ctx, "value should be between %.0f and %.0f", f->between_min, f->between_max);
    return NULL;
}

/* The validators of one field in Kong's order; the first that fails speaks. */
static const char *wrong_value(struct sb_schema_ctx *ctx, const struct sb_field *f,
                               const struct sb_value *v)
{
    struct sb_uuid uuid;
    const char *why;

    if (f->eq && !sb_str_is(choice_text(ctx, v), f->eq))
        return f->err ? f->err : sb_say(ctx, "value must be %s", f->eq);
    if (f->not_one_of && is_one_of(ctx, v, f->not_one_of))
        return f->err ? f->err : say_choices(ctx, "must not be one of", f->not_one_of);
    if (f->one_of && !is_one_of(ctx, v, f->one_of))
        return f->err ? f->err : say_choices(ctx, "expected one of", f->one_of);
    why = wrong_number(ctx, f, v);
    if (!why && f->flags & SB_F_UUID && !(v->type == SB_V_STR && sb_uuid_parse(v->s, &uuid)))
        why = "expected a valid UUID";
    if (!why)
        why = wrong_length(ctx, f, v);
    if (!why && f->match && v->type == SB_V_STR && !pattern_matches(f->match, v->s))
        why = sb_say(ctx, "invalid value: %.*s", SB_ARG(v->s));
    if (why)
        return f->err ? f->err : why;
    if (f->contains && !list_has(v, f->contains))
        return sb_say(ctx, "expected to contain: %s", f->contains);
    return f->validate ? f->validate(ctx, f, v) : NULL;
}

static struct sb_value *check_items(struct sb_schema_ctx *ctx, const struct sb_field *elements,
                                    const struct sb_value *v)
{
    struct sb_value *errors = sb_value_array(ctx->arena), *why;

    for (uint32_t i = 0; v->type == SB_V_ARRAY && i < v->count; i++) {
        why = sb_is_nil(v->items[i]) ? text(ctx, "required field missing")
                                     : sb_check_value(ctx, elements, v->items[i]);
        if (!why)
            continue;
        while (errors->count < i)
            sb_array_push(ctx->arena, errors, sb_value_null(ctx->arena));
        sb_array_push(ctx->arena, errors, why);
    }
    return errors->count ? errors : NULL;
}

/* A map tells the first thing that is wrong with it, whether with a key or with a value. */
static struct sb_value *check_map(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                  const struct sb_value *v)
{
    const struct sb_member *m;
    struct sb_value *why = NULL;

    if (v->type == SB_V_ARRAY)
        return v->count && f->keys ? text(ctx, "expected a string") : NULL;
    sb_object_each (m, v) {
        struct sb_value key = {.type = SB_V_STR, .s = m->key};

        if (f->keys)
            why = sb_check_value(ctx, f->keys, &key);
        if (!why && sb_is_nil(m->value))
            why = text(ctx, "required field missing");
        if (!why && f->values)
            why = sb_check_value(ctx, f->values, m->value);
        if (why)
            return why;
    }
    return NULL;
}

/* What was a list, said of a record: a list again, one complaint an item. */
static struct sb_value *as_list(struct sb_arena *a, struct sb_value *errors)
{
    struct sb_value *list = sb_value_array(a);
    const struct sb_member *m;
    int64_t n;

    sb_object_each (m, errors) {
        if (!sb_str_int(m->key, &n) || n != list->count + 1)
            return errors;
        sb_array_push(a, list, m->value);
    }
    return list;
}

static struct sb_value *check_members(struct sb_schema_ctx *ctx, const struct scope *s,
                                      const struct sb_value *v)
{
    struct sb_value *errors = sb_value_object(ctx->arena);
    const struct sb_member *m;

    for (uint32_t i = 0; v->type == SB_V_ARRAY && i < v->count; i++)
        sb_object_set(ctx->arena, errors, sb_arena_printf(ctx->arena, "%u", i + 1),
                      text(ctx, "unknown field"));
    sb_object_each (m, v) {
        const struct sb_field *f = resolve(ctx, s, m->key);
        struct sb_value *why = f ? sb_check_value(ctx, f, m->value) : text(ctx, "unknown field");

        if (why)
            sb_object_set(ctx->arena, errors, m->key, why);
    }
    for (const struct sb_field *f = s->fields; f && f->name; f++) {
        const struct sb_field *now = resolve(ctx, s, sb_str_c(f->name));
        const struct sb_value *member = sb_get(v, f->name);

        if (now && is_required(now) && (member ? sb_is_nil(member) : !ctx->updating))
            sb_object_set(ctx->arena, errors, sb_str_c(now->name),
                          text(ctx, "required field missing"));
    }
    return errors;
}

static struct sb_value *check_record(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                     const struct sb_value *v)
{
    const struct scope s = {f->fields, NULL};
    struct sb_value *errors = check_members(ctx, &s, v);

    sb_run_checks(ctx, known_of(&s), f->checks, v, errors);
    return errors->count ? as_list(ctx->arena, errors) : NULL;
}

static bool select_sub(struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                       const struct sb_value *entity, bool complete, struct scope *s,
                       struct sb_value *errors);

/* A foreign entity that has no good key is looked at as an entity, for what else may be wrong. */
static struct sb_value *check_foreign_fields(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                             const struct sb_value *v)
{
    const struct sb_entity *kind = sb_entity_find(sb_str_c(f->reference));
    struct scope s = {kind ? kind->fields : NULL, NULL};
    struct sb_value *errors = sb_value_object(ctx->arena);
    bool updating = ctx->updating;

    if (!kind || !is_table(v) || !select_sub(ctx, kind, v, true, &s, errors))
        return errors->count ? errors : NULL;
    ctx->updating = true;
    errors = check_members(ctx, &s, v);
    sb_run_checks(ctx, known_of(&s), s.sub ? s.sub->checks : NULL, v, errors);
    ctx->updating = updating;
    return errors->count ? as_list(ctx->arena, errors) : NULL;
}

static struct sb_value *check_foreign(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                      const struct sb_value *v)
{
    static const struct sb_field uuid = {.type = SB_T_STRING, .flags = SB_F_UUID};
    const struct sb_value *id = sb_get(v, "id");
    struct sb_value *why = !id             ? text(ctx, "missing primary key")
                           : sb_is_nil(id) ? text(ctx, "required field missing")
                                           : sb_check_value(ctx, &uuid, id);
    struct sb_value *errors = why ? check_foreign_fields(ctx, f, v) : NULL;

    if (!why || errors)
        return errors;
    errors = sb_value_object(ctx->arena);
    sb_object_set(ctx->arena, errors, SB_STR("id"), why);
    return errors;
}

static struct sb_value *check_children(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                       const struct sb_value *v)
{
    if (f->elements)
        return check_items(ctx, f->elements, v);
    if (f->type == SB_T_MAP)
        return check_map(ctx, f, v);
    if (f->type == SB_T_RECORD && !(f->flags & SB_F_ABSTRACT))
        return check_record(ctx, f, v);
    return f->type == SB_T_FOREIGN ? check_foreign(ctx, f, v) : NULL;
}

struct sb_value *sb_check_value(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                const struct sb_value *v)
{
    bool null_only = f->eq && strcmp(f->eq, "null") == 0;
    struct sb_value *why;

    if (sb_is_nil(v)) {
        if (f->eq && !null_only)
            return text(ctx, f->err ? f->err : sb_say(ctx, "value must be %s", f->eq));
        return is_required(f) ? text(ctx, "required field missing") : NULL;
    }
    if (null_only)
        return text(ctx, f->err ? f->err : "value must be null");
    if (f->flags & SB_F_REFERENCEABLE && sb_is_vault_reference(v))
        return NULL;
    why = text(ctx, wrong_type(f, v));
    if (!why)
        why = check_children(ctx, f, v);
    return why ? why : text(ctx, wrong_value(ctx, f, v));
}

const char *sb_field_check(struct sb_schema_ctx *ctx, const struct sb_field *f,
                           const struct sb_value *v)
{
    const struct sb_value *why = sb_check_value(ctx, f, v);

    if (!why)
        return NULL;
    return sb_arena_cstr(ctx->arena,
                         why->type == SB_V_STR ? why->s : sb_kong_lua_text(ctx->arena, why));
}

/* -- filling in -------------------------------------------------------------------------------- */

static struct sb_value *fill_record(struct pass *p, const struct scope *s,
                                    const struct sb_shorthand *shorthands,
                                    const struct sb_value *input);
static struct sb_value *fill_value(struct pass *p, const struct sb_field *f, struct sb_value *v);

/* A default's text as a value. Most are a word, a number or a plain string: those need no parser.
 */
static struct sb_value *literal(struct sb_arena *a, struct sb_str s)
{
    struct sb_value *v = NULL;
    int64_t i;

    if (sb_str_is(s, "true") || sb_str_is(s, "false"))
        return sb_value_bool(a, s.p[0] == 't');
    if (sb_str_int(s, &i))
        return sb_value_int(a, i);
    if (s.p[0] == '"' && sb_str_chr(s, '\\', 0) < 0)
        return sb_value_str(a, sb_str_n(s.p + 1, s.len - 2));
    sb_assert(sb_json_parse(a, s, &v, NULL) == SB_OK);
    return v;
}

static struct sb_value *default_of(struct pass *p, const struct sb_field *f)
{
    const struct scope s = {f->fields, NULL};

    if (f->def)
        return fill_value(p, f, literal(p->ctx->arena, sb_str_c(f->def)));
    if (f->type == SB_T_RECORD && is_required(f) && !(f->flags & SB_F_ABSTRACT))
        return fill_record(p, &s, f->shorthands, NULL);
    return NULL;
}

struct sb_str sb_random_string(struct sb_arena *a)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    uint8_t bytes[24 + 32];
    char *s;
    struct sb_str coded;

    sb_random(bytes, sizeof bytes);
    coded = sb_base64_encode(a, sb_str_n((char *)bytes, 24));
    s = sb_arena_cstr(a, coded);
    for (size_t i = 0; i < coded.len; i++) {
        if (s[i] == '/' || s[i] == '+')
            s[i] = (char)(letters[bytes[24 + i % 32] % 26] | (s[i] == '+' ? 0x20 : 0));
    }
    return sb_str_n(s, coded.len);
}

static struct sb_value *now_value(struct sb_schema_ctx *ctx, const struct sb_field *f)
{
    double now = ctx->now_s > 0 ? ctx->now_s : sb_wall_s();

    if (f->type == SB_T_INTEGER)
        return sb_value_int(ctx->arena, (int64_t)now);
    return sb_value_num(ctx->arena, floor(now * 1000) / 1000);
}

/* Whether a field is filled by itself here, and with what: NULL when not. */
static struct sb_value *auto_value(struct pass *p, const struct sb_field *f,
                                   const struct sb_value *v)
{
    char uuid[SB_UUID_TEXT_LEN + 1];
    struct sb_uuid u;

    if (!(f->flags & SB_F_AUTO) || p->when == SELECT)
        return NULL;
    if (strcmp(f->name, "updated_at") == 0)
        return p->ctx->import && !sb_is_nil(v) ? NULL : now_value(p->ctx, f);
    if (p->when == UPDATE)
        return NULL;
    if (f->flags & SB_F_TIMESTAMP)
        return sb_is_nil(v) ? now_value(p->ctx, f) : NULL;
    if (f->flags & SB_F_UUID) {
        if (!sb_is_nil(v))
            return NULL;
        u = sb_uuid_v4();
        sb_uuid_format(&u, uuid);
        return sb_value_text(p->ctx->arena, uuid);
    }
    return v ? NULL : sb_value_str(p->ctx->arena, sb_random_string(p->ctx->arena));
}

static bool has_scalar(const struct sb_value *list, const struct sb_value *v)
{
    const struct sb_value *item;

    sb_array_each (item, list) {
        if (sb_value_equal(item, v))
            return true;
    }
    return false;
}

static struct sb_value *fill_list(struct pass *p, const struct sb_field *f, struct sb_value *v)
{
    struct sb_value *out = sb_value_array(p->ctx->arena), *item;

    sb_array_each (item, v) {
        bool scalar = item->type != SB_V_OBJECT && item->type != SB_V_ARRAY;

        if (f->type == SB_T_SET && scalar && has_scalar(out, item))
            continue;
        sb_array_push(p->ctx->arena, out, f->elements ? fill_value(p, f->elements, item) : item);
    }
    return out;
}

static struct sb_value *fill_map(struct pass *p, const struct sb_field *f, struct sb_value *v)
{
    struct sb_value *out = sb_value_object(p->ctx->arena);
    const struct sb_member *m;

    if (v->type == SB_V_ARRAY && v->count)
        return v;
    sb_object_each (m, v)
        sb_object_set(p->ctx->arena, out, m->key,
                      f->values ? fill_value(p, f->values, m->value) : m->value);
    return out;
}

/* The value with all that is inside of it filled; values of a wrong type pass, to be refused later.
 */
static struct sb_value *fill_value(struct pass *p, const struct sb_field *f, struct sb_value *v)
{
    const struct scope s = {f->fields, NULL};

    if (f->type == SB_T_INTEGER && v->type == SB_V_NUM && v->n == floor(v->n) && fabs(v->n) < 9e15)
        return sb_value_int(p->ctx->arena, (int64_t)v->n);
    if (p->when == SELECT && v->type == SB_V_STR && v->s.len == 0 && f->type != SB_T_JSON &&
        !(f->flags & SB_F_LEN_MIN_0) && !(f->has_len_min && f->len_min == 0))
        return sb_value_null(p->ctx->arena);
    if ((f->type == SB_T_ARRAY || f->type == SB_T_SET) && is_list(v))
        return fill_list(p, f, v);
    if (f->type == SB_T_MAP && is_table(v))
        return fill_map(p, f, v);
    if (f->type != SB_T_RECORD || !is_table(v) || f->flags & SB_F_ABSTRACT)
        return v;
    return fill_record(p, &s, f->shorthands, v);
}

/* What a field becomes; NULL: it stays absent. */
static struct sb_value *fill_field(struct pass *p, const struct sb_field *f, struct sb_value *v)
{
    struct sb_value *made = auto_value(p, f, v);

    if (made)
        return made;
    if (!v && p->when == UPDATE)
        return NULL;
    if (p->when == SELECT ? sb_is_nil(v) && (!v || is_required(f)) : !v) {
        if (p->when == SELECT && !is_required(f))
            return sb_value_null(p->ctx->arena);
        made = default_of(p, f);
        if (made || f->flags & SB_F_TRANSIENT || (p->when == INSERT && is_required(f)))
            return made;
        return sb_value_null(p->ctx->arena);
    }
    return v->type == SB_V_NULL ? v : fill_value(p, f, v);
}

static void set_at(struct sb_arena *a, struct sb_value *record, const char *path,
                   struct sb_value *v)
{
    struct sb_str rest = sb_str_c(path), name;
    struct sb_value *next;

    while (sb_str_split(&rest, '.', &name) && rest.p) {
        next = sb_object_get(record, name);
        next = sb_is(next, SB_V_OBJECT) ? sb_value_copy(a, next) : sb_value_object(a);
        sb_object_set(a, record, name, next);
        record = next;
    }
    sb_object_set(a, record, name, v);
}

static void say_mismatch(struct pass *p, const struct sb_shorthand *s, const struct sb_value *old,
                         const struct sb_value *new)
{
    struct sb_arena *a = p->ctx->arena;
    struct sb_str x = choice_text(p->ctx, old), y = choice_text(p->ctx, new);

    sb_object_set(a, p->errors, sb_str_c(s->name),
                  text(p->ctx, sb_say(p->ctx,
                                      "both deprecated and new field are used but their values "
                                      "mismatch: %s = %.*s vs %s = %.*s",
                                      s->name, SB_ARG(x), s->to, SB_ARG(y))));
}

/* Moves what came under an old name to its place in the (shallow copy of the) record. */
static void expand_shorthand(struct pass *p, const struct sb_shorthand *s, struct sb_value *record)
{
    struct sb_value *old = sb_get(record, s->name), *new, *why;

    if (!old)
        return;
    sb_object_remove(record, sb_str_c(s->name));
    if (p->when == SELECT)
        return;
    why = sb_check_value(p->ctx, s->field, old);
    if (why) {
        sb_object_set(p->ctx->arena, p->errors, sb_str_c(s->name), why);
        return;
    }
    if (!s->to)
        return;
    if (s->old && sb_is(old, SB_V_STR) && sb_str_is(old->s, s->old))
        old = text(p->ctx, s->new);
    new = sb_value_at(record, s->to);
    if (sb_is_nil(new) || s->wins)
        set_at(p->ctx->arena, record, s->to, old);
    else if (s->echoed && !sb_is_nil(old) && !sb_value_equal(old, new))
        say_mismatch(p, s, old, new);
}

static struct sb_value *shallow_copy(struct sb_arena *a, const struct sb_value *v)
{
    struct sb_value *copy = sb_value_object(a);
    const struct sb_member *m;

    for (uint32_t i = 0; sb_is(v, SB_V_ARRAY) && i < v->count; i++) /* Lua's way to see a list */
        sb_object_append(a, copy, sb_arena_printf(a, "%u", i + 1), v->items[i]);
    sb_object_each (m, v)
        sb_object_append(a, copy, m->key, m->value);
    return copy;
}

static struct sb_value *fill_record(struct pass *p, const struct scope *s,
                                    const struct sb_shorthand *shorthands,
                                    const struct sb_value *input)
{
    struct sb_arena *a = p->ctx->arena;
    struct sb_value *record = shallow_copy(a, input), *out = sb_value_object(a);
    const struct sb_member *m;

    for (const struct sb_shorthand *h = shorthands; h && h->name; h++)
        expand_shorthand(p, h, record);
    for (const struct sb_field *f = s->fields; f && f->name; f++) {
        const struct sb_field *now = resolve(p->ctx, s, sb_str_c(f->name));
        struct sb_value *v = now ? fill_field(p, now, sb_get(record, now->name)) : NULL;

        if (v)
            sb_object_set(a, out, sb_str_c(f->name), v);
    }
    for (const struct sb_shorthand *h = shorthands; p->echo && h && h->name; h++) {
        const struct sb_value *v = h->echoed && h->to ? sb_value_at(out, h->to) : NULL;

        if (v)
            sb_object_set(a, out, sb_str_c(h->name), (struct sb_value *)v);
    }
    /* What the table does not know stays on writes, to be refused by name. */
    sb_object_each (m, record) {
        if (p->when != SELECT && !resolve(p->ctx, s, m->key))
            sb_object_set(a, out, m->key, m->value);
    }
    return out;
}

/* -- entities ---------------------------------------------------------------------------------- */

static enum sb_rc refuse(struct sb_schema_ctx *ctx, struct sb_value *errors,
                         struct sb_kong_error *e)
{
    sb_kong_error_schema(ctx->arena, e, errors);
    return SB_INVALID;
}

/* Selects the subschema; false with the one error there is then. A key that is missing is told only
 * when complete: before defaults it may still come. */
static bool select_sub(struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                       const struct sb_value *entity, bool complete, struct scope *s,
                       struct sb_value *errors)
{
    const struct sb_value *key;
    const char *why = NULL;

    if (!kind->subschema)
        return true;
    key = sb_get(entity, kind->subschema_key);
    if (sb_is_nil(key)) {
        if (complete)
            sb_errors_field(ctx->arena, errors, kind->subschema_key, "required field missing");
        return !complete;
    }
    s->sub = kind->subschema(ctx, key, &why);
    if (!s->sub && complete)
        sb_errors_field(ctx->arena, errors, kind->subschema_key, why);
    return s->sub || !complete;
}

/* `ttl` is an option, not a field, save in documents, where it is a time. */
static void drop_ttl(struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                     struct sb_value *entity)
{
    if (kind->flags & SB_E_TTL && !ctx->import)
        sb_object_remove(entity, SB_STR("ttl"));
}

/* Whether what a transformation works on was sent as a whole: on an update (base) a need that
 * changes must come with its input, for the stored result was made with another one. */
static bool came_whole(const struct sb_transform *t, const struct sb_value *entity,
                       const struct sb_value *sent, const struct sb_value *base)
{
    const struct sb_value *need = sb_value_at(sent, t->needs);
    bool changed = base && !sb_value_equal(need, sb_value_at(base, t->needs));
    const struct sb_value *from = changed ? sent : entity;

    if (!changed && sb_is_blank(sb_value_at(sent, t->input)))
        return true;
    return sb_is_blank(sb_value_at(from, t->input)) == sb_is_blank(sb_value_at(from, t->needs));
}

static void transform_errors(struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                             const struct sb_value *entity, const struct sb_value *sent,
                             const struct sb_value *base, struct sb_value *errors)
{
    for (const struct sb_transform *t = kind->transforms; t && t->apply; t++) {
        const char *const both[] = {t->input, t->needs, NULL};

        if (!t->needs || came_whole(t, entity, sent, base))
            continue;
        sb_errors_entity(ctx->arena, errors,
                         sb_say(ctx, "all or none of these fields must be set: %s",
                                sb_arena_cstr(ctx->arena, sb_quoted_list(ctx->arena, both))));
    }
}

/* sent: what came for the entity; base: what it is an update of, or NULL. */
static struct sb_value *validate(struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                                 const struct scope *s, const struct sb_value *entity,
                                 const struct sb_value *sent, const struct sb_value *base)
{
    struct sb_value *copy = shallow_copy(ctx->arena, entity), *errors;

    sb_object_remove(copy, SB_STR("updated_at"));
    if (kind->flags & SB_E_TTL)
        sb_object_remove(copy, SB_STR("ttl"));
    errors = check_members(ctx, s, copy);
    sb_run_checks(ctx, (struct sb_fields){kind->fields, NULL}, kind->checks, entity, errors);
    sb_run_checks(ctx, known_of(s), s->sub ? s->sub->checks : NULL, entity, errors);
    transform_errors(ctx, kind, entity, sent, base, errors);
    return errors;
}

static struct sb_value *lower(struct sb_arena *a, struct sb_value *v)
{
    struct sb_uuid u;
    char out[SB_UUID_TEXT_LEN + 1];

    if (!sb_is(v, SB_V_STR) || !sb_uuid_parse(v->s, &u))
        return v;
    sb_uuid_format(&u, out);
    return sb_value_text(a, out);
}

/* Ids as PostgreSQL spells them; of a foreign entity only its id. */
static void tidy(struct sb_schema_ctx *ctx, const struct sb_entity *kind, struct sb_value *entity)
{
    struct sb_arena *a = ctx->arena;

    for (const struct sb_field *f = kind->fields; f->name; f++) {
        struct sb_value *v = sb_get(entity, f->name), *reference;

        if (f->flags & SB_F_UUID && sb_is(v, SB_V_STR))
            sb_object_set(a, entity, sb_str_c(f->name), lower(a, v));
        if (f->type != SB_T_FOREIGN || !sb_is(v, SB_V_OBJECT))
            continue;
        reference = sb_value_object(a);
        sb_object_set(a, reference, SB_STR("id"), lower(a, sb_get(v, "id")));
        sb_object_set(a, entity, sb_str_c(f->name), reference);
    }
}

void sb_entity_transform(struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                         const struct sb_value *sent, struct sb_value *entity)
{
    for (const struct sb_transform *t = kind->transforms; t && t->apply; t++) {
        if ((t->always || !ctx->keep_transforms) && !sb_is_blank(sb_value_at(sent, t->input)))
            t->apply(ctx, entity);
    }
}

enum sb_rc sb_entity_build(struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                           const struct sb_value *input, struct sb_value **out,
                           struct sb_kong_error *e)
{
    struct sb_value *errors = sb_value_object(ctx->arena);
    struct sb_value *sent = shallow_copy(ctx->arena, input), *entity;
    struct pass p = {.ctx = ctx, .when = INSERT, .errors = errors};
    struct scope s = {kind->fields, NULL};

    drop_ttl(ctx, kind, sent);
    if (kind->expand)
        kind->expand(ctx, sent, errors);
    if (errors->count)
        return refuse(ctx, errors, e);
    (void)select_sub(ctx, kind, sent, false, &s, errors);
    entity = fill_record(&p, &s, NULL, sent);
    if (errors->count || !select_sub(ctx, kind, entity, true, &s, errors))
        return refuse(ctx, errors, e);
    errors = validate(ctx, kind, &s, entity, sent, NULL);
    if (errors->count)
        return refuse(ctx, errors, e);
    tidy(ctx, kind, entity);
    *out = entity;
    return SB_OK;
}

enum sb_rc sb_entity_insert(struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                            const struct sb_value *input, struct sb_value **out,
                            struct sb_kong_error *e)
{
    enum sb_rc rc = sb_entity_build(ctx, kind, input, out, e);

    if (!rc)
        sb_entity_transform(ctx, kind, *out, *out);
    return rc;
}

enum sb_rc sb_entity_upsert(struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                            const struct sb_value *input, struct sb_value **out,
                            struct sb_kong_error *e)
{
    return sb_entity_insert(ctx, kind, input, out, e);
}

/* Records merge member by member, everything else is replaced. */
static struct sb_value *merge(struct sb_schema_ctx *ctx, const struct scope *s,
                              const struct sb_value *base, const struct sb_value *patch)
{
    struct sb_value *out = shallow_copy(ctx->arena, base);
    const struct sb_member *m;

    sb_object_each (m, patch) {
        const struct sb_field *f = resolve(ctx, s, m->key);
        struct sb_value *old = sb_object_get(out, m->key), *v = m->value;

        if (f && f->type == SB_T_RECORD && f->fields && sb_is(old, SB_V_OBJECT) &&
            v->type == SB_V_OBJECT)
            v = merge(ctx, &(struct scope){f->fields, NULL}, old, v);
        sb_object_set(ctx->arena, out, m->key, v);
    }
    return out;
}

static struct sb_value *read_entity(struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                                    const struct sb_value *stored, bool echo)
{
    struct pass p = {.ctx = ctx, .when = SELECT, .echo = echo};
    struct sb_value *copy = shallow_copy(ctx->arena, stored), *out, *ttl;
    struct sb_value *ignored = sb_value_object(ctx->arena);
    struct scope s = {kind->fields, NULL};

    if (kind->expand)
        kind->expand(ctx, copy, ignored);
    (void)select_sub(ctx, kind, copy, false, &s, ignored);
    out = fill_record(&p, &s, NULL, copy);
    ttl = sb_get(copy, "ttl");
    if (kind->flags & SB_E_TTL)
        sb_object_set(ctx->arena, out, SB_STR("ttl"), ttl ? ttl : sb_value_null(ctx->arena));
    return out;
}

struct sb_value *sb_entity_read(struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                                const struct sb_value *stored)
{
    return read_entity(ctx, kind, stored, true);
}

struct sb_value *sb_entity_read_bare(struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                                     const struct sb_value *stored)
{
    return read_entity(ctx, kind, stored, false);
}

enum sb_rc sb_entity_update(struct sb_schema_ctx *ctx, const struct sb_entity *kind,
                            const struct sb_value *current, const struct sb_value *patch,
                            struct sb_value **out, struct sb_kong_error *e)
{
    struct sb_value *errors = sb_value_object(ctx->arena);
    struct sb_value *base = read_entity(ctx, kind, current, false);
    struct sb_value *sent = shallow_copy(ctx->arena, patch), *entity;
    struct pass p = {.ctx = ctx, .when = UPDATE, .errors = errors};
    struct scope s = {kind->fields, NULL};

    drop_ttl(ctx, kind, base);
    drop_ttl(ctx, kind, sent);
    sb_object_remove(sent, sb_str_c(kind->primary_key));
    if (kind->expand)
        kind->expand(ctx, sent, errors);
    if (errors->count || !select_sub(ctx, kind, merge(ctx, &s, base, sent), true, &s, errors))
        return refuse(ctx, errors, e);
    sent = fill_record(&p, &s, NULL, sent);
    if (errors->count)
        return refuse(ctx, errors, e);
    entity = merge(ctx, &s, base, sent);
    ctx->updating = true;
    errors = validate(ctx, kind, &s, entity, sent, base);
    ctx->updating = false;
    if (errors->count)
        return refuse(ctx, errors, e);
    tidy(ctx, kind, entity);
    sb_entity_transform(ctx, kind, sent, entity);
    *out = entity;
    return SB_OK;
}

enum sb_rc sb_record_check(struct sb_schema_ctx *ctx, const struct sb_field *fields,
                           const struct sb_value *input, struct sb_value **out,
                           struct sb_value **errors)
{
    const struct scope s = {fields, NULL};
    struct pass p = {.ctx = ctx, .when = INSERT, .errors = sb_value_object(ctx->arena)};
    struct sb_value *record = fill_record(&p, &s, NULL, input);
    struct sb_value *wrong = p.errors->count ? p.errors : check_members(ctx, &s, record);

    if (wrong->count) {
        *errors = wrong;
        return SB_INVALID;
    }
    *out = record;
    return SB_OK;
}
