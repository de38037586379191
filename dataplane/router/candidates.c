/* candidates.c - a rule's paths, grouped as they compete.
 *
 *     paths  /a /bc ~/x /d ~/y      traditional_compatible:  [/a /d] [/bc] [~/x ~/y]
 *                                   traditional:             [/a] [/bc] [~/x] [/d] [~/y]
 *
 * A rule without paths, of a stream, or with an expression is one candidate.
 */
#include "dataplane/router/compile.h"
#include "dataplane/router/expr.h"

static bool is_regex(struct sb_str path)
{
    return path.len && path.p[0] == '~';
}

/* What keeps paths together: their length, or being regexes. */
static size_t group_of(struct sb_str path)
{
    return is_regex(path) ? SIZE_MAX : path.len;
}

static enum sb_rc cand_regexes(struct sb_compiler *c, struct sb_cand *cand)
{
    struct sb_router_regex **out =
        SB_NEW_N(c->rule->arena, struct sb_router_regex *, c->row->paths->count);
    const struct sb_value *path;

    cand->regexes = out;
    sb_array_each (path, c->row->paths) {
        enum sb_rc rc;

        if (!is_regex(path->s))
            continue;
        rc = sb_compile_regex(c, SB_REGEX_PATH, sb_str_from(path->s, 1), &out[cand->nregexes++]);
        if (rc) {
            sb_err_at(c->err, "paths");
            return rc;
        }
    }
    return SB_OK;
}

static void cand_prefixes(struct sb_compiler *c, struct sb_cand *cand, size_t group)
{
    struct sb_str *out = SB_NEW_N(c->rule->arena, struct sb_str, c->row->paths->count);
    const struct sb_value *path;

    cand->prefixes = out;
    sb_array_each (path, c->row->paths) {
        if (group_of(path->s) == group)
            out[cand->nprefixes++] = sb_arena_str(c->rule->arena, path->s);
    }
}

static bool seen_before(const struct sb_value *paths, uint32_t at)
{
    for (uint32_t i = 0; i < at; i++) {
        if (group_of(paths->items[i]->s) == group_of(paths->items[at]->s))
            return true;
    }
    return false;
}

/* Do the paths compete as one? Then the route is not split, and keeps its id for ties. */
static bool one_group(const struct sb_value *paths)
{
    for (uint32_t i = 1; i < paths->count; i++) {
        if (group_of(paths->items[i]->s) != group_of(paths->items[0]->s))
            return false;
    }
    return true;
}

static struct sb_cand *add_cand(struct sb_rule *rule, struct sb_rank rank)
{
    struct sb_cand *cand = &rule->cands[rule->ncands++];

    cand->rule = rule;
    cand->rank = rank;
    return cand;
}

/* One candidate a group; groups in order of appearance. */
static enum sb_rc split_by_paths(struct sb_compiler *c)
{
    const struct sb_value *paths = c->row->paths;
    bool whole = one_group(paths);
    size_t index = 0;

    for (uint32_t i = 0; i < paths->count; i++) {
        struct sb_str path = paths->items[i]->s;
        struct sb_rank rank;
        enum sb_rc rc = SB_OK;

        if (seen_before(paths, i))
            continue;
        rank = sb_rank_compatible(c->row, is_regex(path), is_regex(path) ? 0 : path.len,
                                  whole ? 0 : ++index);
        if (is_regex(path))
            rc = cand_regexes(c, add_cand(c->rule, rank));
        else
            cand_prefixes(c, add_cand(c->rule, rank), group_of(path));
        if (rc)
            return rc;
    }
    return SB_OK;
}

static void cand_prefix(struct sb_compiler *c, struct sb_cand *cand, struct sb_str path)
{
    struct sb_str *out = SB_NEW(c->rule->arena, struct sb_str);

    *out = sb_arena_str(c->rule->arena, path);
    cand->prefixes = out;
    cand->nprefixes = 1;
}

static enum sb_rc cand_regex(struct sb_compiler *c, struct sb_cand *cand, struct sb_str path)
{
    struct sb_router_regex **out = SB_NEW(c->rule->arena, struct sb_router_regex *);
    enum sb_rc rc = sb_compile_regex(c, SB_REGEX_PCRE_PATH, sb_str_from(path, 1), out);

    if (rc) {
        sb_err_at(c->err, "paths");
        return rc;
    }
    cand->regexes = out;
    cand->nregexes = 1;
    return SB_OK;
}

/* The old router: one candidate a path. */
static enum sb_rc split_traditional(struct sb_compiler *c)
{
    const struct sb_value *path;

    sb_array_each (path, c->row->paths) {
        bool re = is_regex(path->s);
        struct sb_rank rank =
            sb_rank_traditional(c->row, re, re ? 0 : path->s.len, c->rule->ncands);
        struct sb_cand *cand = add_cand(c->rule, rank);
        enum sb_rc rc = SB_OK;

        if (re)
            rc = cand_regex(c, cand, path->s);
        else
            cand_prefix(c, cand, path->s);
        if (rc)
            return rc;
    }
    return SB_OK;
}

static enum sb_rc expression(struct sb_compiler *c)
{
    struct sb_rule *rule = c->rule;
    struct sb_cand *cand;
    struct sb_expr *expr;
    enum sb_rc rc = sb_expr_parse(rule->arena, c->row->expression, rule->stream, &expr, c->err);

    if (rc)
        return rc;
    rule->cands = SB_NEW(rule->arena, struct sb_cand);
    rule->uses_path = sb_expr_reads_path(expr);
    cand = add_cand(rule, sb_rank_expression(c->row));
    cand->expr = expr;
    cand->text = sb_arena_str(rule->arena, c->row->expression);
    sb_expr_places(rule->arena, expr, rule->stream, &cand->places, &cand->nplaces);
    return SB_OK;
}

enum sb_rc sb_compile_candidates(struct sb_compiler *c)
{
    bool traditional = c->flavor == SB_ROUTER_TRADITIONAL;
    struct sb_rule *rule = c->rule;
    size_t npaths = c->row->paths ? c->row->paths->count : 0;

    if (c->row->expression.p)
        return expression(c);
    rule->cands = SB_NEW_N(rule->arena, struct sb_cand, npaths ? npaths : 1);
    if (!npaths || c->row->stream) {
        add_cand(rule, traditional      ? sb_rank_traditional(c->row, false, 0, 0)
                       : c->row->stream ? sb_rank_stream(c->row)
                                        : sb_rank_compatible(c->row, false, 0, 0));
    } else {
        enum sb_rc rc = sb_compile_want_strings(c, c->row->paths, "paths");

        rule->uses_path = true;
        return rc ? rc : traditional ? split_traditional(c) : split_by_paths(c);
    }
    return SB_OK;
}
