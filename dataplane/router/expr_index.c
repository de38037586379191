/* expr_index.c - where in the tree an expression is met.
 *
 * A predicate with a constant names a place: http.host == "a.com" a host, http.path ^= "/x" a
 * prefix, a regex its literal head. && narrows (both sides' places hold at once), || widens (either
 * side's), and whatever else there is says nothing: any host, any path. The places are a condition
 * that is necessary, never sufficient; the expression itself is evaluated behind it. So when in
 * doubt, wider.
 *
 * (I1) If the expression holds for a request, the request's walk meets one of the places.
 */
#include "dataplane/router/expr.h"

/* More places than this are not worth their memory: the wider side is taken. */
enum { PLACES_MAX = 256 };

struct places {
    struct sb_place *p;
    size_t n;
};

static struct places one(struct sb_arena *a, struct sb_place place)
{
    struct places out = {SB_NEW(a, struct sb_place), 1};

    *out.p = place;
    return out;
}

static struct places anywhere(struct sb_arena *a)
{
    return one(a, (struct sb_place){.section = SB_PLACE_ANY});
}

static struct places path_place(struct sb_arena *a, struct sb_str path)
{
    return one(a, (struct sb_place){.section = SB_PLACE_ANY, .path = path});
}

/* The tree's wildcards begin or end with a dot: what a pattern has beyond is left to the
 * expression. */
static struct places host_place(struct sb_arena *a, enum sb_host_kind kind, struct sb_str text)
{
    ptrdiff_t dot = kind == SB_HOST_SUFFIX ? sb_str_chr(text, '.', 0) : sb_str_rchr(text, '.');

    if (kind != SB_HOST_EXACT) {
        if (dot < 0)
            return anywhere(a);
        text = kind == SB_HOST_SUFFIX ? sb_str_from(text, (size_t)dot)
                                      : sb_str_first(text, (size_t)dot + 1);
    }
    for (size_t i = 0; i < text.len; i++) {
        if ((unsigned char)text.p[i] <= ' ') /* the tree's marks; no host has them */
            return anywhere(a);
    }
    return one(a, (struct sb_place){
                      .section = SB_PLACE_HOST,
                      .host = {.text = text, .kind = kind, .port = SB_ANY_PORT},
                  });
}

static struct places host_predicate(struct sb_arena *a, const struct sb_expr *e)
{
    switch (e->op) {
    case SB_OP_EQUAL:
        return host_place(a, SB_HOST_EXACT, e->value.str);
    case SB_OP_SUFFIX:
        return host_place(a, SB_HOST_SUFFIX, e->value.str);
    case SB_OP_PREFIX:
        return host_place(a, SB_HOST_PREFIX, e->value.str);
    default:
        return anywhere(a);
    }
}

static struct places path_predicate(struct sb_arena *a, const struct sb_expr *e)
{
    switch (e->op) {
    case SB_OP_EQUAL:
    case SB_OP_PREFIX:
        return path_place(a, e->value.str);
    case SB_OP_REGEX:
        return path_place(a, sb_regex_head(e->value.regex));
    default:
        return anywhere(a);
    }
}

static struct places port_predicate(struct sb_arena *a, const struct sb_expr *e)
{
    const char port[] = {(char)(e->value.i >> 8), (char)e->value.i};

    if (e->op != SB_OP_EQUAL || e->value.i < 0 || e->value.i > UINT16_MAX)
        return anywhere(a);
    return path_place(a, sb_arena_str(a, sb_str_n(port, sizeof port)));
}

static struct places predicate_places(struct sb_arena *a, const struct sb_expr *e, bool stream)
{
    if (e->lower)
        return anywhere(a);
    if (e->field == (stream ? SB_FIELD_SNI : SB_FIELD_HOST))
        return host_predicate(a, e);
    if (stream && e->field == SB_FIELD_DST_PORT)
        return port_predicate(a, e);
    return e->field == SB_FIELD_PATH ? path_predicate(a, e) : anywhere(a);
}

static bool covers(const struct sb_place *wide, const struct sb_place *place)
{
    if (!sb_str_starts(place->path, wide->path))
        return false;
    if (wide->section == SB_PLACE_ANY)
        return true;
    return place->section == SB_PLACE_HOST && wide->host.kind == place->host.kind &&
           sb_str_eq(wide->host.text, place->host.text);
}

/* Adds a place unless one there covers it; those that it covers go. */
static void add(struct places *out, struct sb_place place)
{
    size_t kept = 0;

    for (size_t i = 0; i < out->n; i++) {
        if (covers(&out->p[i], &place))
            return;
    }
    for (size_t i = 0; i < out->n; i++) {
        if (!covers(&place, &out->p[i]))
            out->p[kept++] = out->p[i];
    }
    out->p[kept++] = place;
    out->n = kept;
}

static struct places either(struct sb_arena *a, struct places x, struct places y)
{
    struct places out = {SB_NEW_N(a, struct sb_place, x.n + y.n), 0};

    if (x.n + y.n > PLACES_MAX)
        return anywhere(a);
    for (size_t i = 0; i < x.n; i++)
        add(&out, x.p[i]);
    for (size_t i = 0; i < y.n; i++)
        add(&out, y.p[i]);
    return out;
}

/* Both hold: the host of whichever has one, the longer path. Where they contradict each other
 * either is right, for nothing will be found there. */
static struct sb_place narrower(const struct sb_place *x, const struct sb_place *y)
{
    struct sb_place out = x->section == SB_PLACE_HOST ? *x : *y;

    out.path = x->path.len > y->path.len ? x->path : y->path;
    return out;
}

static bool says_nothing(struct places x)
{
    return x.n == 1 && x.p->section == SB_PLACE_ANY && !x.p->path.len;
}

static struct places both(struct sb_arena *a, struct places x, struct places y)
{
    struct places out;

    if (says_nothing(y) || (x.n * y.n > PLACES_MAX && !says_nothing(x)))
        return x;
    out = (struct places){SB_NEW_N(a, struct sb_place, x.n * y.n), 0};
    for (size_t i = 0; i < x.n; i++) {
        for (size_t k = 0; k < y.n; k++)
            add(&out, narrower(&x.p[i], &y.p[k]));
    }
    return out;
}

static struct places places_of(struct sb_arena *a, const struct sb_expr *e, bool stream)
{
    struct places out;

    if (e->kind == SB_EXPR_PREDICATE)
        return predicate_places(a, e, stream);
    if (e->kind == SB_EXPR_NOT)
        return anywhere(a);
    out = places_of(a, e->items[0], stream);
    for (size_t i = 1; i < e->nitems; i++) {
        struct places more = places_of(a, e->items[i], stream);

        out = e->kind == SB_EXPR_AND ? both(a, out, more) : either(a, out, more);
    }
    return out;
}

void sb_expr_places(struct sb_arena *a, const struct sb_expr *e, bool stream,
                    const struct sb_place **out, size_t *n)
{
    struct sb_arena *scratch = sb_arena_new(0);
    struct places found = places_of(scratch, e, stream);
    struct sb_place *kept = SB_NEW_N(a, struct sb_place, found.n);

    for (size_t i = 0; i < found.n; i++) {
        kept[i] = found.p[i];
        kept[i].path = sb_arena_str(a, found.p[i].path);
    }
    *out = kept;
    *n = found.n;
    sb_arena_free(scratch);
}
