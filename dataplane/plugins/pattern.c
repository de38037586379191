#include "dataplane/plugins/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum { STEPS_MAX = 100000 };

struct sb_pattern {
    pcre2_code *code;
    pcre2_match_context *limits;
};

static void release(void *arg)
{
    struct sb_pattern *p = arg;

    pcre2_code_free(p->code);
    pcre2_match_context_free(p->limits);
}

enum sb_rc sb_pattern_new(struct sb_arena *a, struct sb_str text, bool anchored,
                          const struct sb_pattern **out, struct sb_err *err)
{
    struct sb_pattern *p = SB_NEW(a, struct sb_pattern);
    uint32_t options = anchored ? PCRE2_ANCHORED : 0;
    PCRE2_UCHAR words[128];
    PCRE2_SIZE at;
    int code;

    p->code = pcre2_compile((PCRE2_SPTR)text.p, text.len, options, &code, &at, NULL);
    if (!p->code) {
        pcre2_get_error_message(code, words, sizeof words);
        return sb_err_set(err, SB_INVALID, "%s at %zu", (const char *)words, (size_t)at);
    }
    (void)pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE); /* where it can't be, it is interpreted */
    p->limits = pcre2_match_context_create(NULL);
    pcre2_set_match_limit(p->limits, STEPS_MAX);
    sb_arena_defer(a, release, p);
    *out = p;
    return SB_OK;
}

bool sb_pattern_fits(const struct sb_pattern *p, struct sb_str text)
{
    pcre2_match_data *found = pcre2_match_data_create(1, NULL);
    int rc = pcre2_match(p->code, (PCRE2_SPTR)text.p, text.len, 0, 0, found, p->limits);

    pcre2_match_data_free(found);
    return rc >= 0;
}
