/* kong_error.c - errors as Kong prints them. Tools read these texts, so they are kept byte for
 * byte: the table of codes, the message of a tree of field errors, and keys as Lua tables. */
#include "schema/kong_error.h"

#include <stdlib.h>

#include "shared/buf.h"
#include "shared/json.h"

static const struct {
    enum sb_kong_code code;
    int status;
    const char *name;
} codes[] = {
    {SB_KONG_INVALID_PRIMARY_KEY, 400, "invalid primary key"},
    {SB_KONG_SCHEMA_VIOLATION, 400, "schema violation"},
    {SB_KONG_PRIMARY_KEY_VIOLATION, 400, "primary key violation"},
    {SB_KONG_FOREIGN_KEY_VIOLATION, 400, "foreign key violation"},
    {SB_KONG_UNIQUE_VIOLATION, 409, "unique constraint violation"},
    {SB_KONG_NOT_FOUND, 404, "not found"},
    {SB_KONG_INVALID_OFFSET, 400, "invalid offset"},
    {SB_KONG_DATABASE_ERROR, 500, "database error"},
    {SB_KONG_INVALID_SIZE, 400, "invalid size"},
    {SB_KONG_INVALID_UNIQUE, 400, "invalid unique %s"},
    {SB_KONG_INVALID_OPTIONS, 400, "invalid options"},
    {SB_KONG_OPERATION_UNSUPPORTED, 405, "operation unsupported"},
    {SB_KONG_FOREIGN_KEYS_UNRESOLVED, 400, "foreign keys unresolved"},
    {SB_KONG_DECLARATIVE_CONFIG, 400, "invalid declarative configuration"},
    {SB_KONG_TRANSFORMATION_ERROR, 500, "transformation error"},
    {SB_KONG_REFERENCED_BY_OTHERS, 400, "referenced by others"},
};

static size_t row_of(enum sb_kong_code code)
{
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        if (codes[i].code == code)
            return i;
    }
    sb_bug("a code of the table", __FILE__, __LINE__, __func__);
}

struct sb_str sb_kong_error_name(struct sb_arena *a, const struct sb_kong_error *e)
{
    if (e->code == SB_KONG_INVALID_UNIQUE)
        return sb_arena_printf(a, "invalid unique %.*s", SB_ARG(e->unique_field));
    return sb_str_c(codes[row_of(e->code)].name);
}

int sb_kong_error_status(const struct sb_kong_error *e)
{
    return codes[row_of(e->code)].status;
}

struct sb_value *sb_kong_error_body(struct sb_arena *a, const struct sb_kong_error *e)
{
    struct sb_value *body = sb_value_object(a);
    bool options = e->code == SB_KONG_INVALID_OPTIONS;

    sb_object_set(a, body, SB_STR("code"), sb_value_int(a, e->code));
    sb_object_set(a, body, SB_STR("name"), sb_value_str(a, sb_kong_error_name(a, e)));
    sb_object_set(a, body, SB_STR("message"), sb_value_str(a, e->message));
    if (e->fields)
        sb_object_set(a, body, options ? SB_STR("options") : SB_STR("fields"), e->fields);
    if (e->flattened)
        sb_object_set(a, body, SB_STR("flattened_errors"), e->flattened);
    return body;
}

/* -- Lua tables as text ------------------------------------------------------------------------ */

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c >= '0' && c <= '9');
}

static bool is_identifier(struct sb_str s)
{
    static const char *const reserved[] = {
        "and",      "break",  "do",   "else", "elseif", "end",   "false", "for",
        "function", "goto",   "if",   "in",   "local",  "nil",   "not",   "or",
        "repeat",   "return", "then", "true", "until",  "while",
    };

    if (s.len == 0 || (s.p[0] >= '0' && s.p[0] <= '9'))
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (!is_word(s.p[i]))
            return false;
    }
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++) {
        if (sb_str_is(s, reserved[i]))
            return false;
    }
    return true;
}

/* The most '=' in a long bracket of s (as if ']' followed it); -1: there is none. */
static int long_brackets(struct sb_str s)
{
    int most = -1;

    for (size_t i = 0; i < s.len; i++) {
        size_t j = i + 1;

        if (s.p[i] != '[' && s.p[i] != ']')
            continue;
        while (j < s.len && s.p[j] == '=')
            j++;
        if ((j < s.len ? s.p[j] : ']') == s.p[i] && (int)(j - i - 1) > most)
            most = (int)(j - i - 1);
    }
    return most;
}

static void quote(struct sb_buf *b, struct sb_str s)
{
    int level = long_brackets(s);
    bool has_cr = sb_str_chr(s, '\r', 0) >= 0;

    if ((sb_str_chr(s, '\n', 0) >= 0 || level >= 0) && !has_cr) {
        sb_buf_printf(b, "[%.*s[%s", level + 1, "========", s.len && s.p[0] == '\n' ? "\n" : "");
        sb_buf_str(b, s);
        sb_buf_printf(b, "]%.*s]", level + 1, "========");
        return;
    }
    sb_buf_char(b, '"');
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];

        if (c == '\r')
            sb_buf_cstr(b, "\\r");
        else if (c == '\0')
            sb_buf_cstr(b, "\\000");
        else {
            if (c == '"' || c == '\\' || c == '\n')
                sb_buf_char(b, '\\');
            sb_buf_char(b, c);
        }
    }
    sb_buf_char(b, '"');
}

/* step: columns a level is indented by; 0: all on one line. */
struct lua {
    struct sb_buf b;
    int step;
};

static void lua_value(struct lua *l, const struct sb_value *v, int indent);

static void lua_line(struct lua *l, int indent)
{
    if (l->step)
        sb_buf_printf(&l->b, "\n%*s", indent, "");
}

static void lua_item(struct lua *l, bool *first, int indent)
{
    if (!*first)
        sb_buf_char(&l->b, ',');
    *first = false;
    lua_line(l, indent);
}

static int by_key(const void *x, const void *y)
{
    return sb_str_cmp(((const struct sb_member *)x)->key, ((const struct sb_member *)y)->key);
}

/* A copy of the members, sorted by key. */
static struct sb_member *sorted_members(const struct sb_value *v)
{
    struct sb_member *m = sb_xmalloc((v->count + 1) * sizeof *m);

    if (v->count)
        memcpy(m, v->members, v->count * sizeof *m);
    qsort(m, v->count, sizeof *m, by_key);
    return m;
}

static void lua_key(struct lua *l, struct sb_str key)
{
    if (is_identifier(key)) {
        sb_buf_str(&l->b, key);
        return;
    }
    sb_buf_char(&l->b, '[');
    quote(&l->b, key);
    sb_buf_char(&l->b, ']');
}

/* Is it the nth item of what was a list (schema/validate.c)? */
static bool is_position(struct sb_str key, uint32_t n)
{
    int64_t i;

    return sb_str_int(key, &i) && i == n;
}

static void lua_object(struct lua *l, const struct sb_value *v, int indent, bool *first)
{
    struct sb_member *m = sorted_members(v);

    for (uint32_t i = 0; i < v->count; i++) {
        lua_item(l, first, indent);
        if (!is_position(m[i].key, i + 1)) {
            lua_key(l, m[i].key);
            sb_buf_cstr(&l->b, l->step ? " = " : "=");
        }
        lua_value(l, m[i].value, indent);
    }
    free(m);
}

/* Items up to the first null by position alone, those after it with their number. */
static void lua_array(struct lua *l, const struct sb_value *v, int indent, bool *first)
{
    bool hole = false;

    for (uint32_t i = 0; i < v->count; i++) {
        if (v->items[i]->type == SB_V_NULL) {
            hole = true;
            continue;
        }
        lua_item(l, first, indent);
        if (hole)
            sb_buf_printf(&l->b, l->step ? "[%u] = " : "[%u]=", i + 1);
        lua_value(l, v->items[i], indent);
    }
}

static void lua_value(struct lua *l, const struct sb_value *v, int indent)
{
    bool first = true;

    if (v->type == SB_V_STR) {
        quote(&l->b, v->s);
        return;
    }
    if (v->type != SB_V_ARRAY && v->type != SB_V_OBJECT) {
        sb_json_write(&l->b, v, 0);
        return;
    }
    sb_buf_char(&l->b, '{');
    if (v->type == SB_V_ARRAY)
        lua_array(l, v, indent + l->step, &first);
    else
        lua_object(l, v, indent + l->step, &first);
    lua_line(l, indent);
    sb_buf_char(&l->b, '}');
}

static struct sb_str lua_text(struct sb_arena *a, const struct sb_value *v, int step)
{
    struct lua l = {.step = step};
    struct sb_str text;

    sb_buf_init(&l.b, 0);
    lua_value(&l, v, 0);
    text = sb_arena_str(a, sb_buf_get(&l.b));
    sb_buf_release(&l.b);
    return text;
}

struct sb_str sb_kong_lua_text(struct sb_arena *a, const struct sb_value *v)
{
    return lua_text(a, v, 0);
}

/* -- the message of code 2 --------------------------------------------------------------------- */

struct message {
    struct sb_arena *arena;
    struct sb_buf b;
    int items;
};

static void add_item(struct message *m, struct sb_str path, const struct sb_value *text)
{
    if (m->items++)
        sb_buf_cstr(&m->b, "; ");
    if (path.len)
        sb_buf_printf(&m->b, "%.*s: ", SB_ARG(path));
    sb_buf_str(&m->b, text->type == SB_V_STR ? text->s : lua_text(m->arena, text, 2));
}

static void add_field(struct message *m, struct sb_str name, const struct sb_value *v)
{
    struct sb_member *sub;

    if (v->type == SB_V_ARRAY) {
        for (uint32_t i = 0; i < v->count; i++) {
            if (v->items[i]->type != SB_V_NULL)
                add_item(m, sb_arena_printf(m->arena, "%.*s.%u", SB_ARG(name), i + 1), v->items[i]);
        }
        return;
    }
    if (v->type != SB_V_OBJECT) {
        add_item(m, name, v);
        return;
    }
    sub = sorted_members(v);
    for (uint32_t i = 0; i < v->count; i++)
        add_item(m, sb_arena_printf(m->arena, "%.*s.%.*s", SB_ARG(name), SB_ARG(sub[i].key)),
                 sub[i].value);
    free(sub);
}

void sb_kong_error_schema(struct sb_arena *a, struct sb_kong_error *e, struct sb_value *fields)
{
    struct message m = {.arena = a};
    struct sb_member *sorted = sorted_members(fields);
    struct sb_value *text;

    sb_buf_init(&m.b, 0);
    sb_array_each (text, sb_get(fields, "@entity"))
        add_item(&m, SB_STR(""), text);
    for (uint32_t i = 0; i < fields->count; i++) {
        if (!sb_str_is(sorted[i].key, "@entity"))
            add_field(&m, sorted[i].key, sorted[i].value);
    }
    free(sorted);
    *e = (struct sb_kong_error){.code = SB_KONG_SCHEMA_VIOLATION, .fields = fields};
    if (m.items == 1)
        e->message = sb_arena_printf(a, "schema violation (%.*s)", SB_ARG(sb_buf_get(&m.b)));
    else
        e->message =
            sb_arena_printf(a, "%d schema violations (%.*s)", m.items, SB_ARG(sb_buf_get(&m.b)));
    sb_buf_release(&m.b);
}
