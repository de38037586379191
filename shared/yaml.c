/* yaml.c - YAML text to and from values.
 *
 * Reading composes libyaml's events into a tree, with a limit before every step that a stranger can
 * repeat: depth, and the number of nodes after aliases are expanded.
 *
 * (I1) An alias is a deep copy, so that two places of a tree never share a node; the copies count
 *      towards the limit, which is what stops an alias bomb.
 * (I2) Members of large mappings are found through an index: reading stays linear in the text.
 * (I3) An anchor is known only once its node is complete: no node contains itself.
 *
 * Writing feeds libyaml's emitter, of which Go's is a port: only the order of keys and the choice
 * of the style of strings are left to do here.
 */
#include "shared/yaml.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#include "shared/map.h"
#include "shared/vec.h"

enum {
    DEPTH_MAX = 128,
    NODES_MAX = 1000000,
    INDEX_FROM = 16, /* members, from which a mapping gets an index */
};

/* -- scalars ----------------------------------------------------------------------------------- */

enum plain { PLAIN_STR, PLAIN_NULL, PLAIN_BOOL, PLAIN_INT, PLAIN_NUM };

static bool one_of(struct sb_str s, const char *const *list)
{
    for (; *list; list++) {
        if (sb_str_is(s, *list))
            return true;
    }
    return false;
}

static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
static const char *const trues[] = {"true", "True", "TRUE", NULL};
static const char *const falses[] = {"false", "False", "FALSE", NULL};
/* Booleans, infinities and merge keys for some readers: read as strings here, but never written
 * without quotes. */
static const char *const quoted_words[] = {
    "y",    "Y",    "yes",   "Yes",   "YES",   "on",    "On",    "ON",    "n",    "N",
    "no",   "No",   "NO",    "off",   "Off",   "OFF",   ".nan",  ".NaN",  ".NAN", ".inf",
    ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF", "<<",   NULL};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The text without underscores, as both readers take numbers; NULL when it is too long for one. */
static const char *without_underscores(struct sb_str s, char out[72])
{
    size_t n = 0;

    if (s.len > 70)
        return NULL;
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] != '_')
            out[n++] = s.p[i];
    }
    out[n] = '\0';
    return out;
}

static bool all_digits(const char *p, int base)
{
    if (!*p)
        return false;
    for (; *p; p++) {
        int d = is_digit(*p)             ? *p - '0'
                : *p >= 'a' && *p <= 'f' ? *p - 'a' + 10
                : *p >= 'A' && *p <= 'F' ? *p - 'A' + 10
                                         : 99;

        if (d >= base)
            return false;
    }
    return true;
}

/* Decimal, 0x, 0o and 0 octal, 0b; with a sign. Beyond 64 bits: not an integer. */
static bool integer(const char *p, int64_t *out)
{
    bool negative = *p == '-';
    const char *digits = p + (*p == '-' || *p == '+');
    int base = 10;
    unsigned long long n;
    char *end;

    if (digits[0] == '0' && digits[1]) {
        base = digits[1] == 'x' || digits[1] == 'X'   ? 16
               : digits[1] == 'b' || digits[1] == 'B' ? 2
                                                      : 8;
        digits += base != 8 || digits[1] == 'o' || digits[1] == 'O' ? 2 : 1;
    }
    if (!all_digits(digits, base))
        return false;
    errno = 0;
    n = strtoull(digits, &end, base);
    if (errno || *end || n > (unsigned long long)INT64_MAX + negative)
        return false;
    *out = negative ? (int64_t)(0 - n) : (int64_t)n;
    return true;
}

/* [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)? */
static bool number(const char *p, double *out)
{
    const char *s = p + (*p == '-' || *p == '+'), *digits = s;
    size_t whole, frac = 0;
    char *end;

    while (is_digit(*s))
        s++;
    whole = (size_t)(s - digits);
    if (*s == '.') {
        for (s++; is_digit(*s); s++)
            frac++;
    }
    if (whole + frac == 0)
        return false;
    if (*s == 'e' || *s == 'E') {
        s++;
        s += *s == '-' || *s == '+';
        if (!is_digit(*s))
            return false;
        while (is_digit(*s))
            s++;
    }
    *out = strtod(p, &end);
    return *s == '\0' && isfinite(*out);
}

/* What a plain scalar is; *v is filled for ints, numbers and booleans. */
static enum plain resolve(struct sb_str s, struct sb_value *v)
{
    char text[72];
    const char *p;

    if (one_of(s, nulls))
        return PLAIN_NULL;
    if (one_of(s, trues) || one_of(s, falses)) {
        v->b = s.p[0] == 't' || s.p[0] == 'T';
        return PLAIN_BOOL;
    }
    if (!is_digit(s.p[0]) && s.p[0] != '-' && s.p[0] != '+' && s.p[0] != '.')
        return PLAIN_STR;
    p = without_underscores(s, text);
    if (!p)
        return PLAIN_STR;
    if (integer(p, &v->i))
        return PLAIN_INT;
    return number(p, &v->n) ? PLAIN_NUM : PLAIN_STR;
}

/* -- reading ----------------------------------------------------------------------------------- */

struct reader {
    yaml_parser_t parser;
    struct sb_arena *arena;
    struct sb_map anchors; /* name to struct sb_value * */
    uint32_t nodes;
    int document; /* from 1 */
    struct sb_err *err;
    struct sb_yaml_problem problem;
};

static enum sb_rc fail(struct reader *r, yaml_mark_t at, enum sb_rc rc, const char *why)
{
    snprintf(r->problem.why, sizeof r->problem.why, "%s", why);
    return sb_err_set(r->err, rc, "invalid YAML in document %d at line %zu, column %zu: %s",
                      r->document, at.line + 1, at.column + 1, why);
}

static enum sb_rc next(struct reader *r, yaml_event_t *ev)
{
    const char *problem;

    if (yaml_parser_parse(&r->parser, ev)) {
        r->problem.line = ev->start_mark.line + 1;
        r->problem.column = ev->start_mark.column + 1;
        return SB_OK;
    }
    problem = r->parser.problem ? r->parser.problem : "not readable";
    snprintf(r->problem.why, sizeof r->problem.why, "%s", problem);
    if (r->parser.error == YAML_READER_ERROR)
        return sb_err_set(r->err, SB_INVALID, "invalid YAML in document %d at byte %zu: %s",
                          r->document, r->parser.problem_offset, problem);
    return fail(r, r->parser.problem_mark, SB_INVALID, problem);
}

static enum sb_rc count_nodes(struct reader *r, const struct sb_value *v, yaml_mark_t at)
{
    const struct sb_value *item;
    const struct sb_member *m;

    if (r->nodes++ >= NODES_MAX)
        return fail(r, at, SB_TOOLARGE, "the document has more than one million nodes");
    sb_array_each (item, v) {
        if (count_nodes(r, item, at))
            return SB_TOOLARGE;
    }
    sb_object_each (m, v) {
        if (count_nodes(r, m->value, at))
            return SB_TOOLARGE;
    }
    return SB_OK;
}

static size_t height(const struct sb_value *v)
{
    const struct sb_value *item;
    const struct sb_member *m;
    size_t max = 0, h;

    sb_array_each (item, v) {
        h = height(item);
        max = h > max ? h : max;
    }
    sb_object_each (m, v) {
        h = height(m->value);
        max = h > max ? h : max;
    }
    return max + 1;
}

static struct sb_str tag_of(const yaml_event_t *ev)
{
    return sb_str_c((const char *)ev->data.scalar.tag);
}

static enum sb_rc read_scalar(struct reader *r, const yaml_event_t *ev, struct sb_value **out)
{
    struct sb_str s = sb_str_n((const char *)ev->data.scalar.value, ev->data.scalar.length);
    struct sb_str tag = tag_of(ev);
    struct sb_value *v = sb_value_null(r->arena);
    enum plain kind = PLAIN_STR;

    if (sb_str_starts(tag, SB_STR("tag:yaml.org,2002:"))) {
        if (!sb_str_ends(tag, SB_STR(":str")) && !sb_str_ends(tag, SB_STR(":binary")))
            kind = resolve(s, v);
    } else if (ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && tag.len == 0) {
        kind = resolve(s, v);
    }
    v->type = kind == PLAIN_NULL   ? SB_V_NULL
              : kind == PLAIN_BOOL ? SB_V_BOOL
              : kind == PLAIN_INT  ? SB_V_INT
              : kind == PLAIN_NUM  ? SB_V_NUM
                                   : SB_V_STR;
    if (v->type == SB_V_STR)
        v->s = sb_arena_str(r->arena, s);
    *out = v;
    return SB_OK;
}

static enum sb_rc read_alias(struct reader *r, const yaml_event_t *ev, int depth,
                             struct sb_value **out)
{
    const struct sb_value *v =
        sb_map_get(&r->anchors, sb_str_c((const char *)ev->data.alias.anchor));

    if (!v)
        return fail(r, ev->start_mark, SB_INVALID, "an alias without its anchor");
    if (count_nodes(r, v, ev->start_mark))
        return SB_TOOLARGE;
    if ((size_t)depth + height(v) > DEPTH_MAX + 1)
        return fail(r, ev->start_mark, SB_TOOLARGE, "more than 128 levels");
    *out = sb_value_copy(r->arena, v);
    return SB_OK;
}

/* A mapping being read: its members, and from INDEX_FROM on an index of them. */
struct mapping {
    struct sb_value *object;
    struct sb_map index; /* key to its number + 1 */
    SB_VEC(struct sb_value *) merges;
};

static struct sb_member *mapping_find(struct mapping *m, struct sb_str key)
{
    struct sb_member *each;
    uintptr_t n;

    if (m->object->count > INDEX_FROM) {
        n = (uintptr_t)sb_map_get(&m->index, key);
        return n ? &m->object->members[n - 1] : NULL;
    }
    sb_object_each (each, m->object) {
        if (sb_str_eq(each->key, key))
            return each;
    }
    return NULL;
}

static void mapping_add(struct reader *r, struct mapping *m, struct sb_str key, struct sb_value *v)
{
    struct sb_value *o = m->object;

    sb_object_append(r->arena, o, key, v);
    if (o->count == INDEX_FROM + 1) {
        for (uintptr_t i = 0; i < o->count; i++)
            sb_map_set(&m->index, o->members[i].key, (void *)(i + 1));
    } else if (o->count > INDEX_FROM) {
        sb_map_set(&m->index, key, (void *)(uintptr_t)o->count);
    }
}

static enum sb_rc read_node(struct reader *r, const yaml_event_t *ev, int depth,
                            struct sb_value **out);

/* Members of merged mappings that are not there yet; earlier ones win. */
static enum sb_rc merge(struct reader *r, struct mapping *m, const struct sb_value *from,
                        yaml_mark_t at, int depth)
{
    const struct sb_value *item;
    const struct sb_member *each;

    if (depth > 1 || (!sb_is(from, SB_V_OBJECT) && !sb_is(from, SB_V_ARRAY)))
        return fail(r, at, SB_INVALID, "a merge key takes a mapping or a list of mappings");
    sb_array_each (item, from) {
        if (merge(r, m, item, at, depth + 1))
            return SB_INVALID;
    }
    sb_object_each (each, from) {
        if (!mapping_find(m, each->key))
            mapping_add(r, m, each->key, each->value);
    }
    return SB_OK;
}

static enum sb_rc read_key(struct reader *r, const yaml_event_t *ev, struct sb_str *key)
{
    const struct sb_value *v = NULL;

    if (ev->type == YAML_ALIAS_EVENT)
        v = sb_map_get(&r->anchors, sb_str_c((const char *)ev->data.alias.anchor));
    if (sb_is(v, SB_V_STR)) {
        *key = v->s;
        return SB_OK;
    }
    if (ev->type != YAML_SCALAR_EVENT)
        return fail(r, ev->start_mark, SB_INVALID, "a key that is not a scalar");
    *key = sb_arena_str(r->arena,
                        sb_str_n((const char *)ev->data.scalar.value, ev->data.scalar.length));
    return SB_OK;
}

static bool is_merge_key(const yaml_event_t *ev, struct sb_str key)
{
    return ev->type == YAML_SCALAR_EVENT && ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           sb_str_is(key, "<<");
}

/* One member, whose key has been read; frees nothing. */
static enum sb_rc read_member(struct reader *r, struct mapping *m, const yaml_event_t *key_ev,
                              int depth)
{
    struct sb_member *there;
    struct sb_str key;
    struct sb_value *v = NULL;
    yaml_event_t ev;
    enum sb_rc rc = read_key(r, key_ev, &key);

    if (rc)
        return rc;
    rc = next(r, &ev);
    if (rc)
        return rc;
    rc = read_node(r, &ev, depth + 1, &v);
    yaml_event_delete(&ev);
    if (rc)
        return rc;
    if (is_merge_key(key_ev, key)) {
        sb_vec_push(&m->merges, v);
        return SB_OK;
    }
    there = mapping_find(m, key);
    if (there)
        there->value = v;
    else
        mapping_add(r, m, key, v);
    return SB_OK;
}

static enum sb_rc read_mapping(struct reader *r, yaml_mark_t at, int depth, struct sb_value **out)
{
    struct mapping m = {.object = sb_value_object(r->arena)};
    enum sb_rc rc;
    bool more = true;

    do {
        yaml_event_t ev;

        rc = next(r, &ev);
        if (rc)
            break;
        more = ev.type != YAML_MAPPING_END_EVENT;
        if (more)
            rc = read_member(r, &m, &ev, depth);
        yaml_event_delete(&ev);
    } while (!rc && more);
    for (size_t i = 0; !rc && i < m.merges.len; i++)
        rc = merge(r, &m, m.merges.p[i], at, 0);
    sb_vec_release(&m.merges);
    sb_map_release(&m.index);
    *out = m.object;
    return rc;
}

static enum sb_rc read_sequence(struct reader *r, int depth, struct sb_value **out)
{
    struct sb_value *array = sb_value_array(r->arena), *v = NULL;
    enum sb_rc rc;
    bool more = true;

    do {
        yaml_event_t ev;

        rc = next(r, &ev);
        if (rc)
            return rc;
        more = ev.type != YAML_SEQUENCE_END_EVENT;
        if (more)
            rc = read_node(r, &ev, depth + 1, &v);
        yaml_event_delete(&ev);
        if (rc)
            return rc;
        if (more)
            sb_array_push(r->arena, array, v);
    } while (more);
    *out = array;
    return SB_OK;
}

static void remember(struct reader *r, const yaml_char_t *anchor, struct sb_value *v)
{
    if (anchor)
        sb_map_set(&r->anchors, sb_arena_str(r->arena, sb_str_c((const char *)anchor)), v);
}

static enum sb_rc read_node(struct reader *r, const yaml_event_t *ev, int depth,
                            struct sb_value **out)
{
    const yaml_char_t *anchor = NULL;
    enum sb_rc rc;

    if (depth > DEPTH_MAX)
        return fail(r, ev->start_mark, SB_TOOLARGE, "more than 128 levels");
    if (ev->type == YAML_ALIAS_EVENT)
        return read_alias(r, ev, depth, out);
    if (r->nodes++ >= NODES_MAX)
        return fail(r, ev->start_mark, SB_TOOLARGE, "the document has more than one million nodes");
    switch (ev->type) {
    case YAML_SCALAR_EVENT:
        anchor = ev->data.scalar.anchor;
        rc = read_scalar(r, ev, out);
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = ev->data.sequence_start.anchor;
        rc = read_sequence(r, depth, out);
        break;
    default:
        sb_assert(ev->type == YAML_MAPPING_START_EVENT);
        anchor = ev->data.mapping_start.anchor;
        rc = read_mapping(r, ev->start_mark, depth, out);
    }
    if (!rc)
        remember(r, anchor, *out);
    return rc;
}

/* The next document; *out NULL at the end of the stream. An empty document is a null scalar. */
static enum sb_rc read_document(struct reader *r, struct sb_value **out)
{
    yaml_event_t ev;
    enum sb_rc rc;
    yaml_event_type_t type = YAML_NO_EVENT;

    *out = NULL;
    while (type != YAML_DOCUMENT_START_EVENT) {
        rc = next(r, &ev);
        if (rc)
            return rc;
        type = ev.type;
        yaml_event_delete(&ev);
        if (type == YAML_STREAM_END_EVENT)
            return SB_OK;
    }
    rc = next(r, &ev);
    if (rc)
        return rc;
    sb_map_clear(&r->anchors);
    r->nodes = 0;
    rc = read_node(r, &ev, 1, out);
    yaml_event_delete(&ev);
    r->document++;
    return rc;
}

static void reader_init(struct reader *r, struct sb_arena *a, struct sb_str text,
                        struct sb_err *err)
{
    *r = (struct reader){.arena = a, .err = err, .document = 1};
    if (!yaml_parser_initialize(&r->parser))
        abort(); /* no memory */
    yaml_parser_set_input_string(&r->parser, (const unsigned char *)(text.p ? text.p : ""),
                                 text.len);
}

static void reader_release(struct reader *r)
{
    yaml_parser_delete(&r->parser);
    sb_map_release(&r->anchors);
}

enum sb_rc sb_yaml_parse_all(struct sb_arena *a, struct sb_str text, struct sb_value **array,
                             struct sb_err *err)
{
    struct sb_value *all = sb_value_array(a), *doc;
    struct reader r;
    enum sb_rc rc;

    reader_init(&r, a, text, err);
    do {
        rc = read_document(&r, &doc);
        if (!rc && !sb_is_nil(doc))
            sb_array_push(a, all, doc);
    } while (!rc && doc);
    reader_release(&r);
    if (!rc)
        *array = all;
    return rc;
}

static enum sb_rc parse_first(struct reader *r, struct sb_value **out)
{
    struct sb_value *doc = NULL;
    enum sb_rc rc = read_document(r, &doc);

    reader_release(r);
    if (!rc)
        *out = doc ? doc : sb_value_null(r->arena);
    return rc;
}

enum sb_rc sb_yaml_parse(struct sb_arena *a, struct sb_str text, struct sb_value **out,
                         struct sb_err *err)
{
    struct reader r;

    reader_init(&r, a, text, err);
    return parse_first(&r, out);
}

enum sb_rc sb_yaml_parse_told(struct sb_arena *a, struct sb_str text, struct sb_value **out,
                              struct sb_yaml_problem *problem)
{
    struct reader r;
    enum sb_rc rc;

    reader_init(&r, a, text, NULL);
    rc = parse_first(&r, out);
    if (rc)
        *problem = r.problem;
    return rc;
}

/* -- writing ----------------------------------------------------------------------------------- */

static bool is_letter(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80;
}

/* The number that starts at from, and its end. */
static uint64_t digits_at(struct sb_str s, size_t from, uint64_t n, size_t *end)
{
    for (; from < s.len && is_digit(s.p[from]); from++)
        n = n * 10 + (uint64_t)(s.p[from] - '0');
    *end = from;
    return n;
}

/* The order of two keys that differ first at byte i: letters after everything else, digits as the
 * numbers they are part of. */
static int cmp_from(struct sb_str a, struct sb_str b, size_t i)
{
    unsigned char ac = (unsigned char)a.p[i], bc = (unsigned char)b.p[i];
    uint64_t an = 0, bn;
    size_t ai, bi;

    if (is_letter(ac) || is_letter(bc))
        return is_letter(ac) && is_letter(bc) ? ac - bc : is_letter(bc) ? -1 : 1;
    if (ac == '0' || bc == '0') {
        for (size_t j = i; j-- > 0 && is_digit(a.p[j]);) {
            if (a.p[j] != '0') {
                an = 1;
                break;
            }
        }
    }
    bn = digits_at(b, i, an, &bi);
    an = digits_at(a, i, an, &ai);
    if (an != bn)
        return an < bn ? -1 : 1;
    if (ai != bi)
        return ai < bi ? -1 : 1;
    return ac - bc;
}

static int by_key(const void *x, const void *y)
{
    struct sb_str a = ((const struct sb_member *)x)->key, b = ((const struct sb_member *)y)->key;

    for (size_t i = 0; i < a.len && i < b.len; i++) {
        if (a.p[i] != b.p[i])
            return cmp_from(a, b, i);
    }
    return a.len < b.len ? -1 : a.len > b.len;
}

/* [-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)? - a number to base 60 for YAML 1.1 readers. */
static bool is_base60(struct sb_str s)
{
    size_t i = s.len && (s.p[0] == '-' || s.p[0] == '+'), parts = 0;

    if (i >= s.len || !is_digit(s.p[i]))
        return false;
    while (i < s.len && (is_digit(s.p[i]) || s.p[i] == '_'))
        i++;
    while (i + 1 < s.len && s.p[i] == ':' && is_digit(s.p[i + 1])) {
        i += s.p[i + 1] <= '5' && i + 2 < s.len && is_digit(s.p[i + 2]) ? 3 : 2;
        parts++;
    }
    if (parts && i < s.len && s.p[i] == '.') {
        for (i++; i < s.len && (is_digit(s.p[i]) || s.p[i] == '_');)
            i++;
    }
    return parts && i == s.len;
}

/* yyyy-m-d, alone or with a time behind it. */
static bool is_timestamp(struct sb_str s)
{
    size_t i = 0, n[3] = {0};

    for (int part = 0; part < 3; part++) {
        while (i < s.len && is_digit(s.p[i]) && n[part] < 5) {
            i++;
            n[part]++;
        }
        if (part < 2 && (i >= s.len || s.p[i++] != '-'))
            return false;
    }
    if (n[0] != 4 || !n[1] || n[1] > 2 || !n[2] || n[2] > 2)
        return false;
    if (i == s.len)
        return true;
    return (s.p[i] == 'T' || s.p[i] == 't' || s.p[i] == ' ') && i + 1 < s.len &&
           is_digit(s.p[i + 1]) && sb_str_chr(s, ':', i) > 0;
}

static bool reads_as_string(struct sb_str s)
{
    struct sb_value v;

    return resolve(s, &v) == PLAIN_STR && !one_of(s, quoted_words) && !is_base60(s) &&
           !is_timestamp(s);
}

static int append(void *arg, unsigned char *p, size_t len)
{
    sb_buf_add(arg, p, len);
    return 1;
}

static void emit(yaml_emitter_t *em, yaml_event_t *ev)
{
    /* Fails only without memory, or when the events are out of order. */
    sb_assert(yaml_emitter_emit(em, ev));
}

static void emit_text(yaml_emitter_t *em, struct sb_str s, yaml_scalar_style_t style)
{
    yaml_event_t ev;

    sb_assert(yaml_scalar_event_initialize(&ev, NULL, NULL, (const yaml_char_t *)(s.p ? s.p : ""),
                                           (int)s.len, 1, 1, style));
    emit(em, &ev);
}

static bool is_utf8(struct sb_str s)
{
    for (size_t i = 0; i < s.len;) {
        unsigned char c = (unsigned char)s.p[i];
        size_t n = c < 0x80 ? 1 : c >= 0xf0 && c < 0xf5 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 0;

        if (n == 0 || c >= 0xf5 || i + n > s.len)
            return false;
        for (size_t k = 1; k < n; k++) {
            if (((unsigned char)s.p[i + k] & 0xc0) != 0x80)
                return false;
        }
        i += n;
    }
    return true;
}

static void emit_str(yaml_emitter_t *em, struct sb_str s)
{
    char *fixed = NULL;

    /* libyaml refuses what is not UTF-8; such bytes become '?', as nothing better can be written.
     */
    if (!is_utf8(s)) {
        fixed = sb_xmalloc(s.len);
        for (size_t i = 0; i < s.len; i++)
            fixed[i] = (unsigned char)s.p[i] < 0x80 ? s.p[i] : '?';
        s.p = fixed;
    }
    if (sb_str_chr(s, '\n', 0) >= 0)
        emit_text(em, s, YAML_LITERAL_SCALAR_STYLE);
    else if (reads_as_string(s))
        emit_text(em, s, YAML_PLAIN_SCALAR_STYLE);
    else
        emit_text(em, s, YAML_DOUBLE_QUOTED_SCALAR_STYLE);
    free(fixed);
}

static void emit_num(yaml_emitter_t *em, double n)
{
    char text[40];

    /* The shortest of them that reads back as n. */
    for (int precision = 1; precision <= 17; precision++) {
        snprintf(text, sizeof text, "%.*g", precision, n);
        if (strtod(text, NULL) == n)
            break;
    }
    emit_text(em, sb_str_c(text), YAML_PLAIN_SCALAR_STYLE);
}

static void emit_value(yaml_emitter_t *em, const struct sb_value *v);

static void emit_object(yaml_emitter_t *em, const struct sb_value *v)
{
    struct sb_member *sorted = sb_xmalloc((v->count + 1) * sizeof *sorted);
    yaml_event_t ev;

    if (v->count)
        memcpy(sorted, v->members, v->count * sizeof *sorted);
    qsort(sorted, v->count, sizeof *sorted, by_key);
    yaml_mapping_start_event_initialize(&ev, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE);
    emit(em, &ev);
    for (uint32_t i = 0; i < v->count; i++) {
        emit_str(em, sorted[i].key);
        emit_value(em, sorted[i].value);
    }
    yaml_mapping_end_event_initialize(&ev);
    emit(em, &ev);
    free(sorted);
}

static void emit_array(yaml_emitter_t *em, const struct sb_value *v)
{
    yaml_event_t ev;

    yaml_sequence_start_event_initialize(&ev, NULL, NULL, 1, YAML_BLOCK_SEQUENCE_STYLE);
    emit(em, &ev);
    for (uint32_t i = 0; i < v->count; i++)
        emit_value(em, v->items[i]);
    yaml_sequence_end_event_initialize(&ev);
    emit(em, &ev);
}

static void emit_value(yaml_emitter_t *em, const struct sb_value *v)
{
    char text[24];

    switch (v ? v->type : SB_V_NULL) {
    case SB_V_NULL:
        emit_text(em, SB_STR("null"), YAML_PLAIN_SCALAR_STYLE);
        break;
    case SB_V_BOOL:
        emit_text(em, sb_str_c(v->b ? "true" : "false"), YAML_PLAIN_SCALAR_STYLE);
        break;
    case SB_V_INT:
        snprintf(text, sizeof text, "%lld", (long long)v->i);
        emit_text(em, sb_str_c(text), YAML_PLAIN_SCALAR_STYLE);
        break;
    case SB_V_NUM:
        emit_num(em, v->n);
        break;
    case SB_V_STR:
        emit_str(em, v->s);
        break;
    case SB_V_ARRAY:
        emit_array(em, v);
        break;
    case SB_V_OBJECT:
        emit_object(em, v);
        break;
    }
}

void sb_yaml_write(struct sb_buf *b, const struct sb_value *v)
{
    yaml_emitter_t em;
    yaml_event_t ev;

    sb_assert(yaml_emitter_initialize(&em));
    yaml_emitter_set_output(&em, append, b);
    yaml_emitter_set_unicode(&em, 1);
    yaml_emitter_set_width(&em, -1);
    yaml_stream_start_event_initialize(&ev, YAML_UTF8_ENCODING);
    emit(&em, &ev);
    yaml_document_start_event_initialize(&ev, NULL, NULL, NULL, 1);
    emit(&em, &ev);
    emit_value(&em, v);
    em.open_ended = 0; /* Go writes no "..." behind a trailing |+ block */
    yaml_document_end_event_initialize(&ev, 1);
    emit(&em, &ev);
    yaml_stream_end_event_initialize(&ev);
    emit(&em, &ev);
    yaml_emitter_delete(&em);
}
