/* place.c - the keys of the tree (tree.h) under which a rule is met. */
#include "dataplane/router/expr.h"
#include "shared/buf.h"

struct placer {
    const struct sb_rule *rule;
    void (*fn)(void *arg, struct sb_str key, const struct sb_tree_entry *entry);
    void *arg;
    struct sb_buf key;
    struct sb_tree_entry entry;
};

static void key_host(struct sb_buf *key, const struct sb_rule_host *host)
{
    sb_buf_char(key, host->kind == SB_HOST_PREFIX ? SB_TREE_PREFIX : SB_TREE_HOST);
    if (host->kind == SB_HOST_PREFIX) {
        sb_buf_str(key, host->text);
    } else {
        for (size_t i = host->text.len; i-- > 0;)
            sb_buf_char(key, host->text.p[i]);
    }
    sb_buf_char(key, host->kind == SB_HOST_EXACT ? SB_TREE_EXACT : SB_TREE_WILD);
}

static void place_at(struct placer *p, struct sb_str path)
{
    size_t len = p->key.len;

    sb_buf_str(&p->key, path);
    p->fn(p->arg, sb_buf_get(&p->key), &p->entry);
    p->key.len = len;
}

/* A regex that begins with another one's head is met there already. */
static bool head_covered(const struct sb_cand *cand, size_t at)
{
    for (size_t i = 0; i < cand->nregexes; i++) {
        struct sb_str other = sb_regex_head(cand->regexes[i]),
                      mine = sb_regex_head(cand->regexes[at]);

        if (i != at && sb_str_starts(mine, other) && (i < at || other.len < mine.len))
            return true;
    }
    return false;
}

static void place_paths(struct placer *p)
{
    const struct sb_cand *cand = p->entry.cand;

    for (size_t i = 0; i < cand->nprefixes; i++)
        place_at(p, cand->prefixes[i]);
    for (size_t i = 0; i < cand->nregexes; i++) {
        if (!head_covered(cand, i))
            place_at(p, sb_regex_head(cand->regexes[i]));
    }
    if (!cand->nprefixes && !cand->nregexes)
        place_at(p, SB_STR(""));
}

/* On a stream the destination ports are the path; an element without one takes any. */
static void place_ports(struct placer *p)
{
    const struct sb_rule *rule = p->rule;
    bool any = !rule->ndestinations;

    for (size_t i = 0; i < rule->ndestinations; i++)
        any |= rule->destinations[i].port == SB_ANY_PORT;
    if (any)
        place_at(p, SB_STR(""));
    for (size_t i = 0; !any && i < rule->ndestinations; i++) {
        const char port[] = {(char)(rule->destinations[i].port >> 8),
                             (char)rule->destinations[i].port};

        place_at(p, sb_str_n(port, 2));
    }
}

/* Under the key begun, by path or port. */
static void place_below(struct placer *p)
{
    if (p->rule->stream)
        place_ports(p);
    else
        place_paths(p);
    sb_buf_clear(&p->key);
}

static void place_host(struct placer *p, struct sb_cand *cand, const struct sb_rule_host *host)
{
    p->entry = (struct sb_tree_entry){
        host->port_first ? sb_rank_port_first(cand->rank) : cand->rank, cand, host->port};
    key_host(&p->key, host);
    place_below(p);
}

static void place_section(struct placer *p, struct sb_cand *cand, char section)
{
    p->entry = (struct sb_tree_entry){cand->rank, cand, SB_ANY_PORT};
    sb_buf_char(&p->key, section);
    place_below(p);
}

static void place_expression(struct placer *p, struct sb_cand *cand)
{
    p->entry = (struct sb_tree_entry){cand->rank, cand, SB_ANY_PORT};
    for (size_t i = 0; i < cand->nplaces; i++) {
        if (cand->places[i].section == SB_PLACE_HOST)
            key_host(&p->key, &cand->places[i].host);
        else
            sb_buf_char(&p->key, SB_TREE_ANY);
        place_at(p, cand->places[i].path);
        sb_buf_clear(&p->key);
    }
}

static void place_cand(struct placer *p, struct sb_cand *cand)
{
    const struct sb_rule *rule = p->rule;
    const struct sb_rule_host *list = rule->stream ? rule->snis : rule->hosts;
    size_t n = rule->stream ? rule->nsnis : rule->nhosts;

    if (cand->expr) {
        place_expression(p, cand);
        return;
    }
    for (size_t h = 0; h < n; h++)
        place_host(p, cand, &list[h]);
    if (!n)
        place_section(p, cand, SB_TREE_ANY);
    else if (rule->stream)
        place_section(p, cand, SB_TREE_NO_SNI);
}

void sb_rule_places(const struct sb_rule *rule,
                    void (*fn)(void *arg, struct sb_str key, const struct sb_tree_entry *entry),
                    void *arg)
{
    struct placer p = {.rule = rule, .fn = fn, .arg = arg};

    sb_buf_init(&p.key, 0);
    for (size_t i = 0; i < rule->ncands; i++)
        place_cand(&p, &rule->cands[i]);
    sb_buf_release(&p.key);
}
