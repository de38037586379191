/* dialect.c - is this a pattern of the `regex` crate?
 *
 * PCRE2 understands nearly all of it and a good deal more. The more is what must be refused: a
 * route that Kong refuses must not go live here, and look-around or back-references are what makes
 * patterns expensive. So this reads a pattern as the crate does and says what the crate would say,
 * with the place marked:
 *
 *     regex parse error:
 *         ^/a(?!b)
 *            ^^^
 *     error: look-around, including look-ahead and look-behind, is not supported
 *
 * What it accepts and PCRE2 reads otherwise is refused too, in words of our own: classes within
 * classes, the flags R and u.
 */
#include "dataplane/router/regex.h"
#include "shared/buf.h"

enum { DEPTH_MAX = 250 }; /* the crate's nest_limit */

struct scan {
    struct sb_str p;
    size_t i;
    size_t open[DEPTH_MAX]; /* where the groups around us begin */
    size_t depth;
    bool atom; /* there is something to repeat */
    struct sb_err *err;
};

static enum sb_rc refuse(struct scan *s, size_t from, size_t to, const char *words)
{
    struct sb_buf b;
    struct sb_str text;

    sb_buf_init(&b, SB_ERR_LEN_MAX);
    sb_buf_printf(&b, "regex parse error:\n    %.*s\n    ", SB_ARG(s->p));
    for (size_t i = 0; i < from && i < s->p.len; i++) {
        if (((unsigned char)s->p.p[i] & 0xC0) != 0x80)
            sb_buf_char(&b, ' ');
    }
    for (size_t i = from; i < to || i == from; i++)
        sb_buf_char(&b, '^');
    sb_buf_printf(&b, "\nerror: %s", words);
    text = sb_buf_get(&b);
    sb_err_set(s->err, SB_INVALID, "%.*s", SB_ARG(text));
    sb_buf_release(&b);
    return SB_INVALID;
}

static char peek(const struct scan *s, size_t ahead)
{
    return s->i + ahead < s->p.len ? s->p.p[s->i + ahead] : '\0';
}

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool hex(char c)
{
    return digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* \x41 \x{41} \u0041 \U00000041: i is at the letter. */
static enum sb_rc hex_escape(struct scan *s)
{
    size_t start = s->i - 1, want = peek(s, 0) == 'x' ? 2 : peek(s, 0) == 'u' ? 4 : 8, n = 0;

    s->i++;
    if (peek(s, 0) == '{') {
        for (s->i++; hex(peek(s, 0)); s->i++)
            n++;
        if (peek(s, 0) != '}' || !n)
            return refuse(s, start, s->i,
                          n ? "invalid hexadecimal digit" : "hexadecimal literal empty");
        s->i++;
        return SB_OK;
    }
    for (; n < want && hex(peek(s, 0)); n++)
        s->i++;
    if (n < want)
        return refuse(s, s->i, s->i + 1,
                      s->i < s->p.len ? "invalid hexadecimal digit"
                                      : "incomplete escape sequence, reached end of pattern "
                                        "prematurely");
    return SB_OK;
}

/* \pL, \p{Greek}: i is at the letter. Which names there are PCRE2 will say. */
static enum sb_rc property(struct scan *s)
{
    size_t start = s->i - 1;

    s->i += 2;
    if (s->i > s->p.len)
        return refuse(s, start, s->p.len,
                      "incomplete escape sequence, reached end of pattern prematurely");
    if (s->p.p[s->i - 1] == '{') {
        ptrdiff_t end = sb_str_chr(s->p, '}', s->i);

        if (end < 0)
            return refuse(s, start, s->p.len, "Unicode property not found");
        s->i = (size_t)end + 1;
    }
    return SB_OK;
}

/* i is at the backslash; behind the escape after. */
static enum sb_rc escape(struct scan *s, bool in_class)
{
    char c = peek(s, 1);
    size_t start = s->i;

    if (start + 1 >= s->p.len)
        return refuse(s, start, start + 1,
                      "incomplete escape sequence, reached end of pattern prematurely");
    s->i++;
    if (digit(c))
        return refuse(s, start, start + 2, "backreferences are not supported");
    if (c == 'x' || c == 'u' || c == 'U')
        return hex_escape(s);
    if (c == 'p' || c == 'P')
        return property(s);
    s->i++;
    if (strchr("aftnrvdDsSwW", c) || (!in_class && strchr("AzbB", c)))
        return SB_OK;
    if (alpha(c) || (unsigned char)c >= 0x80 || c == '<' || c == '>')
        return refuse(s, start, start + 2,
                      in_class && strchr("AzbB", c)
                          ? "invalid escape sequence found in character class"
                          : "unrecognized escape sequence");
    return SB_OK;
}

/* One character of a class, for ranges: its byte, or -1 where it is none or beyond ASCII. */
static enum sb_rc class_item(struct scan *s, int *ch)
{
    char c = peek(s, 0);

    *ch = -1;
    if (c == '\\') {
        char next = peek(s, 1);

        if (next && !alpha(next) && !digit(next))
            *ch = next;
        return escape(s, true);
    }
    s->i++;
    if ((unsigned char)c < 0x80)
        *ch = c;
    return SB_OK;
}

static bool set_operator(const struct scan *s)
{
    char c = peek(s, 0);

    return (c == '&' || c == '-' || c == '~') && peek(s, 1) == c;
}

static enum sb_rc class_piece(struct scan *s, size_t open)
{
    int from, to;
    size_t start = s->i;
    enum sb_rc rc;

    if (peek(s, 0) == '[' && peek(s, 1) == ':') {
        ptrdiff_t end = sb_str_find(s->p, SB_STR(":]"), s->i + 2);

        if (end >= 0) {
            s->i = (size_t)end + 2;
            return SB_OK;
        }
    }
    if (peek(s, 0) == '[' || set_operator(s))
        return refuse(s, s->i, s->i + 1, "character classes within classes are not supported");
    rc = class_item(s, &from);
    if (rc || peek(s, 0) != '-' || peek(s, 1) == ']' || peek(s, 1) == '-' || s->i + 1 >= s->p.len)
        return rc;
    s->i++;
    if (s->i >= s->p.len)
        return refuse(s, open, open + 1, "unclosed character class");
    rc = class_item(s, &to);
    if (!rc && from >= 0 && to >= 0 && from > to)
        return refuse(s, start, s->i,
                      "invalid character class range, the start must be <= the end");
    return rc;
}

static enum sb_rc class_(struct scan *s)
{
    size_t open = s->i;
    bool first = true;

    s->i += 1 + (peek(s, 1) == '^');
    for (; s->i < s->p.len; first = false) {
        enum sb_rc rc;

        if (peek(s, 0) == ']' && !first) {
            s->i++;
            s->atom = true;
            return SB_OK;
        }
        if (peek(s, 0) == ']' || (first && peek(s, 0) == '-')) {
            s->i++;
            continue;
        }
        rc = class_piece(s, open);
        if (rc)
            return rc;
    }
    return refuse(s, open, open + 1, "unclosed character class");
}

/* (?<name>: i is behind '<'. */
static enum sb_rc group_name(struct scan *s)
{
    size_t start = s->i;

    for (; s->i < s->p.len && peek(s, 0) != '>'; s->i++) {
        char c = peek(s, 0);

        if (!(alpha(c) || c == '_' || (unsigned char)c >= 0x80 ||
              (s->i > start && (digit(c) || c == '.' || c == '[' || c == ']'))))
            return refuse(s, s->i, s->i + 1, "invalid capture group character");
    }
    if (s->i >= s->p.len)
        return refuse(s, start, start + 1, "unclosed capture group name");
    if (s->i == start)
        return refuse(s, start, start + 1, "empty capture group name");
    s->i++;
    return SB_OK;
}

/* (?i) (?i-m:...): i is behind '?'. *group: a group opens. */
static enum sb_rc flags(struct scan *s, bool *group)
{
    bool negated = false;
    size_t start = s->i, minus = 0;

    for (; s->i < s->p.len; s->i++) {
        char c = peek(s, 0);

        if (c == ':' || c == ')') {
            if (negated && minus + 1 == s->i)
                return refuse(s, minus, minus + 1, "dangling flag negation operator");
            if (c == ')' && s->i == start)
                return refuse(s, start - 1, start, "repetition operator missing expression");
            *group = c == ':';
            s->i++;
            return SB_OK;
        }
        if (c == '-') {
            if (negated)
                return refuse(s, s->i, s->i + 1, "flag negation operator repeated");
            negated = true;
            minus = s->i;
        } else if (c == 'R' || c == 'u') {
            return refuse(s, s->i, s->i + 1, "flags R and u are not supported");
        } else if (!strchr("imsUx", c)) {
            return refuse(s, s->i, s->i + 1, "unrecognized flag");
        } else if (s->i > start && memchr(s->p.p + start, c, s->i - start)) {
            return refuse(s, s->i, s->i + 1, "duplicate flag");
        }
    }
    return refuse(s, s->i, s->i + 1, "unexpected end of flags");
}

static enum sb_rc group_open(struct scan *s)
{
    size_t start = s->i;
    enum sb_rc rc = SB_OK;
    bool group = true;

    s->i++;
    if (peek(s, 0) == '?') {
        bool behind = peek(s, 1) == '<' && (peek(s, 2) == '=' || peek(s, 2) == '!');

        if (behind || peek(s, 1) == '=' || peek(s, 1) == '!')
            return refuse(s, start, start + (behind ? 4 : 3),
                          "look-around, including look-ahead and look-behind, is not supported");
        s->i++;
        if (peek(s, 0) == '<' || (peek(s, 0) == 'P' && peek(s, 1) == '<')) {
            s->i += peek(s, 0) == 'P' ? 2 : 1;
            rc = group_name(s);
        } else {
            rc = flags(s, &group);
        }
    }
    if (rc || !group)
        return rc;
    if (s->depth == DEPTH_MAX)
        return refuse(s, start, start + 1, "exceeds the nesting limit");
    s->open[s->depth++] = start;
    s->atom = false;
    return SB_OK;
}

static enum sb_rc group_close(struct scan *s)
{
    if (!s->depth)
        return refuse(s, s->i, s->i + 1, "unopened group");
    s->depth--;
    s->i++;
    s->atom = true;
    return SB_OK;
}

static bool number(struct scan *s, long *out)
{
    long n = 0;
    bool any = false;

    for (; digit(peek(s, 0)); s->i++) {
        any = true;
        n = n < 1000000 ? n * 10 + (peek(s, 0) - '0') : n;
    }
    *out = n;
    return any;
}

/* {2} {2,} {2,3}; lazy or not. */
static enum sb_rc counted(struct scan *s)
{
    size_t start = s->i;
    long from, to;

    s->i++;
    if (s->i >= s->p.len)
        return refuse(s, start, s->i, "unclosed counted repetition");
    if (!number(s, &from))
        return refuse(s, s->i, s->i + 1, "repetition quantifier expects a valid decimal");
    to = from;
    if (peek(s, 0) == ',') {
        s->i++;
        if (peek(s, 0) != '}' && !number(s, &to))
            return refuse(s, s->i, s->i + 1,
                          s->i < s->p.len ? "repetition quantifier expects a valid decimal"
                                          : "unclosed counted repetition");
    }
    if (peek(s, 0) != '}')
        return refuse(s, start, s->i, "unclosed counted repetition");
    s->i++;
    if (to < from)
        return refuse(s, start, s->i,
                      "invalid repetition count range, the start must be <= the end");
    return SB_OK;
}

static enum sb_rc repetition(struct scan *s)
{
    enum sb_rc rc = SB_OK;

    if (!s->atom)
        return refuse(s, s->i, s->i + 1, "repetition operator missing expression");
    if (peek(s, 0) == '{')
        rc = counted(s);
    else
        s->i++;
    if (rc)
        return rc;
    s->i += peek(s, 0) == '?';
    if (peek(s, 0) == '+')
        return refuse(s, s->i, s->i + 1, "possessive quantifiers are not supported");
    return SB_OK;
}

static enum sb_rc piece(struct scan *s)
{
    enum sb_rc rc;

    switch (peek(s, 0)) {
    case '(':
        return group_open(s);
    case ')':
        return group_close(s);
    case '[':
        return class_(s);
    case '|':
        s->i++;
        s->atom = false;
        return SB_OK;
    case '*':
    case '+':
    case '?':
    case '{':
        return repetition(s);
    case '\\':
        rc = escape(s, false);
        s->atom = true;
        return rc;
    default:
        s->i++;
        s->atom = true;
        return SB_OK;
    }
}

enum sb_rc sb_regex_check_dialect(struct sb_str pattern, struct sb_err *err)
{
    struct scan s = {.p = pattern, .err = err};

    while (s.i < s.p.len) {
        enum sb_rc rc = piece(&s);

        if (rc)
            return rc;
    }
    if (s.depth)
        return refuse(&s, s.open[s.depth - 1], s.open[s.depth - 1] + 1, "unclosed group");
    return SB_OK;
}
