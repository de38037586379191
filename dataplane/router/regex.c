#include "dataplane/router/regex.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "shared/arena.h"
#include "shared/buf.h"
#include "shared/log.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* STEPS_MAX: what one run may cost from one place of the subject; a pattern that backtracks
 * honestly stays far below. A search begins at every place, so a long subject leaves less to each,
 * SEARCH_STEPS in all, but never less than STEPS_MIN. */
enum {
    STEPS_MAX = 200000,
    STEPS_MIN = 128,
    SEARCH_STEPS = 4000000,
    CAPTURES_MAX = 64,
    JIT_STACK_MIN = 32 << 10,
    JIT_STACK_MAX = 512 << 10,
    PATTERN_LEN_MAX = 64 << 10,
};

/* How much of the pattern is literal text. */
enum literal { LITERAL_NO, LITERAL_PREFIX, LITERAL_WHOLE };

struct sb_router_regex {
    pcre2_code *code;
    enum sb_regex_kind kind;
    enum literal literal;
    struct sb_str text, head; /* owned */
    uint32_t groups, tail;    /* tail: the group that we appended, PCRE paths only */
    atomic_flag reported;     /* that it ran into a limit */
};

/* -- a thread's own scratch: made once, so that matching takes no memory ---------------------- */

struct scratch {
    pcre2_match_data *one, *all;
    pcre2_match_context *limits;
    pcre2_jit_stack *stack;
};

static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;
static pthread_key_t scratch_key;

static void scratch_free(void *arg)
{
    struct scratch *s = arg;

    pcre2_match_data_free(s->one);
    pcre2_match_data_free(s->all);
    pcre2_match_context_free(s->limits);
    pcre2_jit_stack_free(s->stack);
    free(s);
}

static void scratch_key_make(void)
{
    sb_assert(pthread_key_create(&scratch_key, scratch_free) == 0);
}

static struct scratch *scratch_get(void)
{
    static _Thread_local struct scratch *mine;

    if (mine)
        return mine;
    pthread_once(&scratch_once, scratch_key_make);
    mine = sb_xcalloc(1, sizeof *mine);
    mine->one = pcre2_match_data_create(2, NULL);
    mine->all = pcre2_match_data_create(CAPTURES_MAX, NULL);
    mine->limits = pcre2_match_context_create(NULL);
    mine->stack = pcre2_jit_stack_create(JIT_STACK_MIN, JIT_STACK_MAX, NULL);
    sb_assert(mine->one && mine->all && mine->limits && mine->stack);
    pcre2_jit_stack_assign(mine->limits, NULL, mine->stack);
    pthread_setspecific(scratch_key, mine);
    return mine;
}

/* -- literal text ----------------------------------------------------------------------------- */

static bool ascii_punct(char c)
{
    return c > ' ' && c < 0x7f &&
           !((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'));
}

/* The offset behind the character class that starts at i; 0 when it nests, which is not followed.
 */
static size_t skip_class(struct sb_str p, size_t i)
{
    i += 1 + (i + 1 < p.len && p.p[i + 1] == '^');
    i += i < p.len && p.p[i] == ']';
    for (; i < p.len && p.p[i] != ']'; i++) {
        if (p.p[i] == '\\') {
            i++;
        } else if (p.p[i] == '[') {
            ptrdiff_t end = sb_str_find(p, SB_STR(":]"), i);

            if (i + 1 >= p.len || p.p[i + 1] != ':' || end < 0)
                return 0;
            i = (size_t)end + 1;
        }
    }
    return i + 1;
}

/* May there be a '|' outside of all groups? Says yes when it can't tell. */
static bool alternates(struct sb_str p)
{
    int depth = 0;

    if (sb_str_chr(p, '|', 0) < 0)
        return false;
    if (sb_str_chr(p, '#', 0) >= 0 || sb_str_find(p, SB_STR("\\Q"), 0) >= 0)
        return true; /* a comment or quoted text may hide what is counted here */
    for (size_t i = 0; i < p.len; i++) {
        if (p.p[i] == '\\') {
            i++;
        } else if (p.p[i] == '[') {
            i = skip_class(p, i);
            if (!i--)
                return true;
        } else if (p.p[i] == '|' && depth <= 0) {
            return true;
        }
        depth += i < p.len && p.p[i] == '(' ? 1 : i < p.len && p.p[i] == ')' ? -1 : 0;
    }
    return false;
}

/* Without its last character, whose UTF-8 may be several bytes. */
static size_t drop_char(const char *p, size_t len)
{
    while (len > 0 && ((unsigned char)p[--len] & 0xC0) == 0x80)
        ;
    return len;
}

/* Writes the text with which every match must begin to out, and says whether that is the whole of
 * the pattern. */
static enum literal literal_head(struct sb_str p, char *out, size_t *len)
{
    size_t i = 0, w = 0;

    *len = 0;
    if (alternates(p))
        return LITERAL_NO;
    while (i < p.len) {
        bool escape = p.p[i] == '\\' && i + 1 < p.len && ascii_punct(p.p[i + 1]) &&
                      p.p[i + 1] != '<' && p.p[i + 1] != '>';

        if (!escape && strchr("\\.^$*+?()[]{}|", p.p[i]))
            break;
        i += escape;
        out[w++] = p.p[i++];
    }
    *len = w;
    if (i == p.len)
        return LITERAL_PREFIX;
    if (p.p[i] == '$' && i + 1 == p.len)
        return LITERAL_WHOLE;
    if (p.p[i] == '*' || p.p[i] == '?' || p.p[i] == '{')
        *len = drop_char(out, w);
    return LITERAL_NO;
}

static void set_head(struct sb_router_regex *re, struct sb_str pattern)
{
    char *out;

    if (re->kind == SB_REGEX_SEARCH) {
        if (!pattern.len || pattern.p[0] != '^' || alternates(pattern))
            return;
        pattern = sb_str_from(pattern, 1);
    } else if (re->kind != SB_REGEX_PATH && re->kind != SB_REGEX_PCRE_PATH) {
        return;
    }
    out = sb_xmalloc(pattern.len);
    re->literal = literal_head(pattern, out, &re->head.len);
    re->head.p = out;
    if (re->kind == SB_REGEX_PCRE_PATH)
        re->literal = LITERAL_NO; /* its '$' takes a newline before the end, its length the tail */
}

/* -- compiling -------------------------------------------------------------------------------- */

static const struct {
    uint32_t options;
    const char *before, *after;
    bool rust, lower, anywhere;
} kinds[] = {
#define RUST (PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF | PCRE2_DOLLAR_ENDONLY)
    [SB_REGEX_PATH] = {RUST, "^", "", .rust = true},
    [SB_REGEX_SEARCH] = {RUST, "", "", .rust = true, .anywhere = true},
    [SB_REGEX_HEADER] = {RUST | PCRE2_CASELESS, "", "", .rust = true, .lower = true,
                         .anywhere = true},
    /* The tail tells what follows the match; a top-level '|' leaves it to the last alternative. */
    [SB_REGEX_PCRE_PATH] = {PCRE2_ANCHORED, "", "(?<sb_tail>.*)"},
    [SB_REGEX_PCRE_HEADER] = {PCRE2_CASELESS, "", "", .anywhere = true},
#undef RUST
};

static void spell(struct sb_buf *b, enum sb_regex_kind kind, struct sb_str pattern)
{
    sb_buf_cstr(b, kinds[kind].before);
    for (size_t i = 0; i < pattern.len; i++) {
        char c = pattern.p[i];

        sb_buf_char(b, kinds[kind].lower && c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
    }
    sb_buf_cstr(b, kinds[kind].after);
}

static enum sb_rc compile_text(struct sb_router_regex *re, struct sb_str text, struct sb_err *err)
{
    PCRE2_SIZE offset;
    PCRE2_UCHAR words[256];
    int code;

    re->code =
        pcre2_compile((PCRE2_SPTR)text.p, text.len, kinds[re->kind].options, &code, &offset, NULL);
    if (!re->code) {
        pcre2_get_error_message(code, words, sizeof words);
        return sb_err_set(err, SB_INVALID, "%s at offset %zu", (const char *)words, offset);
    }
    /* Without JIT (memory, platform) it is interpreted: slower, the same answers. */
    (void)pcre2_jit_compile(re->code, PCRE2_JIT_COMPLETE);
    pcre2_pattern_info(re->code, PCRE2_INFO_CAPTURECOUNT, &re->groups);
    if (re->kind == SB_REGEX_PCRE_PATH) {
        int tail = pcre2_substring_number_from_name(re->code, (PCRE2_SPTR) "sb_tail");

        re->tail = tail > 0 ? (uint32_t)tail : 0;
    }
    return SB_OK;
}

enum sb_rc sb_regex_new(enum sb_regex_kind kind, struct sb_str pattern,
                        struct sb_router_regex **out, struct sb_err *err)
{
    struct sb_router_regex *re;
    struct sb_buf text;
    enum sb_rc rc = SB_OK;

    if (pattern.len > PATTERN_LEN_MAX)
        return sb_err_set(err, SB_INVALID, "regex longer than %d bytes", PATTERN_LEN_MAX);
    sb_buf_init(&text, 0);
    spell(&text, kind, pattern);
    re = sb_xcalloc(1, sizeof *re);
    re->kind = kind;
    re->text = (struct sb_str){sb_xmalloc(pattern.len), pattern.len};
    if (pattern.len)
        memcpy((char *)re->text.p, pattern.p, pattern.len);
    if (kinds[kind].rust)
        rc = sb_regex_check_dialect(sb_buf_get(&text), err);
    if (!rc)
        set_head(re, pattern);
    if (!rc)
        rc = compile_text(re, sb_buf_get(&text), err);
    sb_buf_release(&text);
    if (rc)
        sb_regex_free(re);
    else
        *out = re;
    return rc;
}

void sb_regex_free(struct sb_router_regex *re)
{
    if (!re)
        return;
    pcre2_code_free(re->code);
    free((char *)re->head.p);
    free((char *)re->text.p);
    free(re);
}

struct sb_str sb_regex_text(const struct sb_router_regex *re)
{
    return re->text;
}

struct sb_str sb_regex_head(const struct sb_router_regex *re)
{
    return re->head;
}

/* -- matching --------------------------------------------------------------------------------- */

static uint32_t steps_for(const struct sb_router_regex *re, size_t len)
{
    if (!kinds[re->kind].anywhere || len < SEARCH_STEPS / STEPS_MAX)
        return STEPS_MAX;
    return len < SEARCH_STEPS / STEPS_MIN ? (uint32_t)(SEARCH_STEPS / len) : STEPS_MIN;
}

/* A run that a limit ended is no match; said once a regex, for someone wrote it and wonders. */
static bool run(const struct sb_router_regex *re, struct scratch *s, struct sb_str subject,
                pcre2_match_data *groups)
{
    int code;

    pcre2_set_match_limit(s->limits, steps_for(re, subject.len));
    code = pcre2_match(re->code, (PCRE2_SPTR)(subject.p ? subject.p : ""), subject.len, 0, 0,
                       groups, s->limits);
    if ((code == PCRE2_ERROR_MATCHLIMIT || code == PCRE2_ERROR_JIT_STACKLIMIT) &&
        !atomic_flag_test_and_set(&((struct sb_router_regex *)re)->reported))
        sb_warn("the regex '%.*s' takes too many steps on a text of %zu bytes: it does not match "
                "there; write it without nested repetition",
                SB_ARG(re->text), subject.len);
    return code >= 0;
}

bool sb_regex_match(const struct sb_router_regex *re, struct sb_str subject, size_t *start,
                    size_t *end, unsigned *runs)
{
    struct scratch *s;
    PCRE2_SIZE *ov;

    if (!sb_str_starts(subject, re->head) ||
        (re->literal == LITERAL_WHOLE && subject.len != re->head.len))
        return false;
    *start = 0;
    *end = re->head.len;
    if (re->literal)
        return true;
    ++*runs;
    s = scratch_get();
    if (!run(re, s, subject, re->tail ? s->all : s->one))
        return false;
    ov = pcre2_get_ovector_pointer(re->tail ? s->all : s->one);
    *start = ov[0];
    *end = ov[1];
    /* What the tail took is no part of the match; where it took no part, nothing is. */
    if (re->tail && re->tail < CAPTURES_MAX)
        *end = ov[2 * re->tail] == PCRE2_UNSET ? 0 : ov[2 * re->tail];
    return true;
}

/* The name of group n, or "". */
static struct sb_str group_name(const struct sb_router_regex *re, uint32_t n)
{
    PCRE2_SPTR table;
    uint32_t count, width;

    pcre2_pattern_info(re->code, PCRE2_INFO_NAMECOUNT, &count);
    pcre2_pattern_info(re->code, PCRE2_INFO_NAMEENTRYSIZE, &width);
    pcre2_pattern_info(re->code, PCRE2_INFO_NAMETABLE, &table);
    for (uint32_t i = 0; i < count; i++, table += width) {
        if ((uint32_t)(table[0] << 8 | table[1]) == n)
            return sb_str_c((const char *)table + 2);
    }
    return SB_STR("");
}

size_t sb_router_captures(const struct sb_router_match *m, struct sb_str path,
                          struct sb_router_capture *out, size_t max)
{
    const struct sb_router_regex *re = m->regex;
    struct scratch *s = scratch_get();
    PCRE2_SIZE *ov;
    size_t n = 0;

    if (!re || re->groups - (re->tail != 0) == 0)
        return 0;
    if (!run(re, s, path, s->all))
        return 0;
    ov = pcre2_get_ovector_pointer(s->all);
    for (uint32_t i = 0; i <= re->groups && i < CAPTURES_MAX && n < max; i++) {
        if (i && i == re->tail)
            continue;
        out[n].name = i ? group_name(re, i) : SB_STR("");
        out[n++].value = ov[2 * i] == PCRE2_UNSET
                             ? (struct sb_str){NULL, 0}
                             : sb_str_n(path.p + ov[2 * i], ov[2 * i + 1] - ov[2 * i]);
    }
    return n;
}
