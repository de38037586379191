/* checks.c - rules about several fields of a record.
 *
 * (I1) Some rules run even when their fields have errors, others are skipped then: the table
 * `kinds` says which. (I2) A rule one of whose fields holds a vault reference, where it may, is
 * skipped: its value is not known here. (I3) A condition, and what must hold then, is the field
 * itself with some of its rules replaced: a value that the field refuses meets no condition.
 */
#include "schema/validate.h"
#include "shared/buf.h"
#include "shared/json.h"

bool sb_is_blank(const struct sb_value *v)
{
    if (sb_is_nil(v))
        return true;
    if (v->type == SB_V_STR)
        return v->s.len == 0;
    return (v->type == SB_V_ARRAY || v->type == SB_V_OBJECT) && v->count == 0;
}

bool sb_is_vault_reference(const struct sb_value *v)
{
    return sb_is(v, SB_V_STR) && sb_str_starts(v->s, SB_STR("{vault://")) &&
           sb_str_ends(v->s, SB_STR("}"));
}

struct sb_str sb_quoted_list(struct sb_arena *a, const char *const *names)
{
    struct sb_buf b;
    struct sb_str text;

    sb_buf_init(&b, 0);
    for (; *names; names++)
        sb_buf_printf(&b, "%s'%s'", b.len ? ", " : "", *names);
    text = sb_arena_str(a, sb_buf_get(&b));
    sb_buf_release(&b);
    return text;
}

void sb_errors_entity(struct sb_arena *a, struct sb_value *errors, const char *text)
{
    struct sb_value *list = sb_get(errors, "@entity");

    if (!list) {
        list = sb_value_array(a);
        sb_object_set(a, errors, SB_STR("@entity"), list);
    }
    sb_array_push(a, list, sb_value_text(a, text));
}

static void set_error(struct sb_arena *a, struct sb_value *errors, const char *path,
                      struct sb_value *why)
{
    struct sb_str rest = sb_str_c(path), name;
    struct sb_value *at = errors, *next;

    while (sb_str_split(&rest, '.', &name)) {
        next = sb_object_get(at, name);
        if (!rest.p) {
            sb_object_set(a, at, sb_arena_str(a, name), why);
            return;
        }
        if (sb_is_nil(next)) {
            next = sb_value_object(a);
            sb_object_set(a, at, sb_arena_str(a, name), next);
        }
        if (next->type != SB_V_OBJECT)
            return;
        at = next;
    }
}

void sb_errors_field(struct sb_arena *a, struct sb_value *errors, const char *path,
                     const char *text)
{
    set_error(a, errors, path, sb_value_text(a, text));
}

/* -- the kinds of checks ----------------------------------------------------------------------- */

struct look {
    struct sb_schema_ctx *ctx;
    struct sb_fields known;
    const struct sb_value *record;
    struct sb_value *errors;
};

static int count_set(const struct look *l, const char *const *names)
{
    int n = 0;

    for (; *names; names++)
        n += !sb_is_blank(sb_value_at(l->record, *names));
    return n;
}

static size_t count_names(const char *const *names)
{
    size_t n = 0;

    while (names[n])
        n++;
    return n;
}

static void complain(const struct look *l, const char *sentence, const char *const *names)
{
    struct sb_str list = sb_quoted_list(l->ctx->arena, names);

    sb_errors_entity(l->ctx->arena, l->errors, sb_say(l->ctx, "%s: %.*s", sentence, SB_ARG(list)));
}

static void at_least_one_of(const struct look *l, const struct sb_entity_check *c)
{
    if (count_set(l, c->fields) == 0)
        complain(l,
                 l->ctx->updating ? "when updating, at least one of these fields must be non-empty"
                                  : "at least one of these fields must be non-empty",
                 c->fields);
}

static void only_one_of(const struct look *l, const struct sb_entity_check *c)
{
    if (count_set(l, c->fields) != 1)
        complain(l, "exactly one of these fields must be non-empty", c->fields);
}

static void distinct(const struct look *l, const struct sb_entity_check *c)
{
    for (const char *const *x = c->fields; *x; x++) {
        for (const char *const *y = x + 1; *y; y++) {
            const struct sb_value *v = sb_value_at(l->record, *x);

            if (!sb_is_blank(v) && sb_value_equal(v, sb_value_at(l->record, *y))) {
                complain(l, "values of these fields must be distinct", c->fields);
                return;
            }
        }
    }
}

static void mutually_required(const struct look *l, const struct sb_entity_check *c)
{
    int n = count_set(l, c->fields);

    if (n != 0 && (size_t)n != count_names(c->fields))
        complain(l, "all or none of these fields must be set", c->fields);
}

static void mutually_exclusive(const struct look *l, const struct sb_entity_check *c)
{
    if (count_set(l, c->fields) > 1)
        complain(l, "only one or none of these fields must be set", c->fields);
}

/* The field at a path; NULL: unknown. */
static const struct sb_field *field_at(const struct look *l, const char *path)
{
    struct sb_str rest = sb_str_c(path), name;
    const struct sb_field *f = NULL;

    for (bool top = true; (top || f) && sb_str_split(&rest, '.', &name); top = false) {
        if (!top)
            f = sb_field_find(f->fields, name);
        else if (!(f = sb_field_find(l->known.first, name)))
            f = sb_field_find(l->known.fields, name);
    }
    return f;
}

/* The field at a path with what match says in place of its own. */
static struct sb_field overlaid(const struct look *l, const char *path,
                                const struct sb_field *match)
{
    const struct sb_field *own = field_at(l, path);
    struct sb_field f = own ? *own : *match;

#define TAKE(what, when) f.what = (when) ? match->what : f.what
    f.flags |= match->flags;
    TAKE(eq, match->eq);
    TAKE(one_of, match->one_of);
    TAKE(not_one_of, match->not_one_of);
    TAKE(has_between, match->has_between);
    TAKE(between_min, match->has_between);
    TAKE(between_max, match->has_between);
    TAKE(has_gt, match->has_gt);
    TAKE(gt, match->has_gt);
    TAKE(has_len_min, match->has_len_min);
    TAKE(len_min, match->has_len_min);
    TAKE(has_len_max, match->has_len_max);
    TAKE(len_max, match->has_len_max);
    TAKE(has_len_eq, match->has_len_eq);
    TAKE(len_eq, match->has_len_eq);
    TAKE(match, match->match);
    TAKE(err, match->err);
    TAKE(contains, match->contains);
    TAKE(validate, match->validate);
    TAKE(elements, match->elements);
#undef TAKE
    return f;
}

static bool fits(const struct look *l, const char *path, const struct sb_field *match)
{
    const struct sb_field f = overlaid(l, path, match);
    const struct sb_value *v = sb_value_at(l->record, path);

    /* An explicit null meets what does not speak of null; a row that has none meets nothing. */
    if (sb_is_nil(v) && l->ctx->updating && !f.eq)
        return false;
    return sb_check_value(l->ctx, &f, v) == NULL;
}

static void conditional(const struct look *l, const struct sb_entity_check *c)
{
    const struct sb_field then = overlaid(l, c->then_field, c->then_match);
    struct sb_arena *a = l->ctx->arena;
    struct sb_value *why;

    if (!fits(l, c->if_field, c->if_match))
        return;
    why = sb_check_value(l->ctx, &then, sb_value_at(l->record, c->then_field));
    if (!why)
        return;
    set_error(a, l->errors, c->then_field, why);
    sb_errors_entity(a, l->errors,
                     c->err
                         ? c->err
                         : sb_say(l->ctx, "failed conditional validation given value of field '%s'",
                                  c->if_field));
}

static void conditional_at_least_one_of(const struct look *l, const struct sb_entity_check *c)
{
    const char *const *names = NULL;
    const char *err = NULL;

    if (fits(l, c->if_field, c->if_match)) {
        names = c->fields;
        err = c->err;
    } else if (c->else_match && fits(l, c->if_field, c->else_match)) {
        names = c->else_fields;
        err = c->else_err;
    }
    if (!names || count_set(l, names))
        return;
    if (err)
        sb_errors_entity(l->ctx->arena, l->errors, err);
    else
        complain(l, "at least one of these fields must be non-empty", names);
}

static void custom(const struct look *l, const struct sb_entity_check *c)
{
    c->custom(l->ctx, l->record, l->errors);
}

static const struct {
    void (*run)(const struct look *l, const struct sb_entity_check *c);
    bool wants_valid;  /* skipped when a field of it has an error */
    bool takes_absent; /* runs when none of its fields is there at all, not even as null */
    bool wants_all;    /* complains about those that are absent */
} kinds[] = {
    [SB_C_AT_LEAST_ONE_OF] = {at_least_one_of, false, true, false},
    [SB_C_ONLY_ONE_OF] = {only_one_of, false, false, true},
    [SB_C_DISTINCT] = {distinct, false, false, true},
    [SB_C_MUTUALLY_REQUIRED] = {mutually_required, true, true, false},
    [SB_C_MUTUALLY_EXCLUSIVE] = {mutually_exclusive, true, true, false},
    [SB_C_CONDITIONAL] = {conditional, false, false, false},
    [SB_C_CONDITIONAL_AT_LEAST_ONE_OF] = {conditional_at_least_one_of, false, true, false},
    [SB_C_CUSTOM] = {custom, true, false, false},
};

static bool any_reference(const struct look *l, const char *const *names)
{
    for (; names && *names; names++) {
        const struct sb_field *f = field_at(l, *names);

        if (f && f->flags & SB_F_REFERENCEABLE &&
            sb_is_vault_reference(sb_value_at(l->record, *names)))
            return true;
    }
    return false;
}

/* Whether there is an error at a path, or at what contains it as a whole. */
static bool has_error(const struct sb_value *errors, const char *path)
{
    struct sb_str rest = sb_str_c(path), name;

    while (errors && errors->type == SB_V_OBJECT && sb_str_split(&rest, '.', &name))
        errors = sb_object_get(errors, name);
    return errors != NULL;
}

/* Kong looks for errors under the whole of a path, where none ever is: its rules about fields
 * within records run whatever these hold. Ours that are functions had better not. */
static bool any_error(const struct look *l, const struct sb_entity_check *c)
{
    for (const char *const *names = c->fields; names && *names; names++) {
        if ((c->kind == SB_C_CUSTOM || !strchr(*names, '.')) && has_error(l->errors, *names))
            return true;
    }
    return false;
}

/* False: the check has nothing to look at, or has said what is missing. */
static bool fields_are_there(const struct look *l, const struct sb_entity_check *c,
                             const char *const *names)
{
    bool any = false, all = true;

    for (const char *const *n = names; *n; n++) {
        any |= sb_value_at(l->record, *n) != NULL;
        all &= sb_value_at(l->record, *n) != NULL;
    }
    if (!any)
        return kinds[c->kind].takes_absent && !l->ctx->updating;
    if (all || !kinds[c->kind].wants_all)
        return true;
    for (const char *const *n = names; *n; n++) {
        if (!sb_value_at(l->record, *n))
            sb_errors_field(l->ctx->arena, l->errors, *n, "field required for entity check");
    }
    return false;
}

static bool should_run(const struct look *l, const struct sb_entity_check *c)
{
    const char *const condition[] = {c->if_field, c->then_field, NULL};
    const char *const *names = c->if_field ? condition : c->fields;
    bool valued = c->if_field && sb_value_at(l->record, c->if_field);

    if (any_reference(l, c->fields) || (c->if_field && any_reference(l, condition)) ||
        (kinds[c->kind].wants_valid && any_error(l, c)) || !fields_are_there(l, c, names))
        return false;
    if (c->kind != SB_C_CONDITIONAL || valued)
        return true;
    sb_errors_field(l->ctx->arena, l->errors, c->if_field, "field required for entity check");
    return false;
}

void sb_run_checks(struct sb_schema_ctx *ctx, struct sb_fields known,
                   const struct sb_entity_check *checks, const struct sb_value *record,
                   struct sb_value *errors)
{
    const struct look l = {ctx, known, record, errors};

    for (const struct sb_entity_check *c = checks; c && c->kind; c++) {
        if (should_run(&l, c))
            kinds[c->kind].run(&l, c);
    }
}
