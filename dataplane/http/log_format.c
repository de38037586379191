#include "dataplane/http/log_format.h"

#include <stdint.h>
#include <string.h>

#include "shared/buf.h"

struct piece {
    const struct sb_log_variable *variable; /* NULL: text */
    struct sb_str text;                     /* or what a family's variable is called behind it */
};

struct sb_log_format {
    struct piece *pieces;
    size_t n;
    enum sb_log_escape escape;
    unsigned wants;
};

enum { FORMAT_LEN_MAX = 64 << 10 };

static const char builtin[] =
    "combined '$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent "
    "\"$http_referer\" \"$http_user_agent\"';"
    "kong_log_format '$remote_addr - $remote_user [$time_local] \"$request\" $status "
    "$body_bytes_sent \"$http_referer\" \"$http_user_agent\" kong_request_id: "
    "\"$kong_request_id\"';";

/* -- a directive's words ----------------------------------------------------------------------- */

enum word { WORD, END_OF_DIRECTIVE, END_OF_TEXT, UNTERMINATED };

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static char escaped(char c)
{
    return c == 't' ? '\t' : c == 'r' ? '\r' : c == 'n' ? '\n' : c;
}

/* What stands in quotes, from behind the first: a backslash stands before quotes and t, r, n. */
static enum word quoted_word(struct sb_str *rest, char quote, struct sb_buf *out)
{
    while (rest->len && rest->p[0] != quote) {
        char c = rest->p[0];

        if (c == '\\' && rest->len > 1 && strchr("\"'\\trn", rest->p[1])) {
            *rest = sb_str_from(*rest, 1);
            c = escaped(rest->p[0]);
        }
        sb_buf_char(out, c);
        *rest = sb_str_from(*rest, 1);
    }
    if (!rest->len)
        return UNTERMINATED;
    *rest = sb_str_from(*rest, 1);
    return WORD;
}

static enum word next_word(struct sb_str *rest, struct sb_buf *out)
{
    char c;

    sb_buf_clear(out);
    while (rest->len && is_space(rest->p[0]))
        *rest = sb_str_from(*rest, 1);
    if (!rest->len)
        return END_OF_TEXT;
    c = rest->p[0];
    if (c == ';' || c == '"' || c == '\'')
        *rest = sb_str_from(*rest, 1);
    if (c == ';')
        return END_OF_DIRECTIVE;
    if (c == '"' || c == '\'')
        return quoted_word(rest, c, out);
    while (rest->len && !is_space(rest->p[0]) && rest->p[0] != ';') {
        sb_buf_char(out, rest->p[0]);
        *rest = sb_str_from(*rest, 1);
    }
    return WORD;
}

/* -- compiling --------------------------------------------------------------------------------- */

static const struct sb_log_variable *find_variable(struct sb_str name, struct sb_str *rest)
{
    for (const struct sb_log_variable *v = sb_log_variables; v->name; v++) {
        struct sb_str known = sb_str_c(v->name);
        bool family = known.p[known.len - 1] == '_';

        if (family ? name.len > known.len && sb_str_starts(name, known) : sb_str_eq(name, known)) {
            *rest = sb_str_from(name, known.len);
            return v;
        }
    }
    return NULL;
}

/* The length of the name at the front of s. */
static size_t name_len(struct sb_str s)
{
    size_t n = 0;

    while (n < s.len && ((s.p[n] >= 'a' && s.p[n] <= 'z') || (s.p[n] >= 'A' && s.p[n] <= 'Z') ||
                         (s.p[n] >= '0' && s.p[n] <= '9') || s.p[n] == '_'))
        n++;
    return n;
}

/* user_agent is User-Agent, which sb_http_name_is() wants as user-agent. */
static struct sb_str header_name(struct sb_arena *a, struct sb_str rest)
{
    char *name = sb_arena_cstr(a, rest);

    for (size_t i = 0; i < rest.len; i++)
        name[i] = name[i] == '_' ? '-' : (char)(name[i] | (name[i] >= 'A' && name[i] <= 'Z') << 5);
    return sb_str_n(name, rest.len);
}

/* The variable at the front of *s, behind its '$'. */
static enum sb_rc add_variable(struct sb_arena *a, struct sb_log_format *f, struct sb_str *s,
                               struct sb_err *err)
{
    bool braced = s->len && s->p[0] == '{';
    struct sb_str name = braced ? sb_str_from(*s, 1) : *s, rest;
    const struct sb_log_variable *v;

    name = sb_str_first(name, name_len(name));
    *s = sb_str_from(*s, name.len + braced);
    if (name.len == 0 || (braced && (!s->len || s->p[0] != '}')))
        return sb_err_set(err, SB_INVALID, "a '$' without the name of a variable");
    *s = sb_str_from(*s, braced);
    v = find_variable(name, &rest);
    if (!v)
        return sb_err_set(err, SB_INVALID, "unknown \"%.*s\" variable", SB_ARG(name));
    rest = sb_str_c(sb_arena_cstr(a, rest));
    f->pieces[f->n++] = (struct piece){v, v->header ? header_name(a, rest) : rest};
    f->wants |= v->wants;
    return SB_OK;
}

static enum sb_rc compile(struct sb_arena *a, struct sb_log_format *f, struct sb_str s,
                          struct sb_err *err)
{
    size_t most = 2;

    for (size_t i = 0; i < s.len; i++)
        most += s.p[i] == '$' ? 2 : 0;
    f->pieces = SB_NEW_N(a, struct piece, most);
    while (s.len) {
        ptrdiff_t dollar = sb_str_chr(s, '$', 0);
        struct sb_str text = dollar < 0 ? s : sb_str_first(s, (size_t)dollar);
        enum sb_rc rc;

        if (text.len)
            f->pieces[f->n++] = (struct piece){NULL, sb_arena_str(a, text)};
        s = sb_str_from(s, text.len);
        if (!s.len)
            break;
        s = sb_str_from(s, 1);
        rc = add_variable(a, f, &s, err);
        if (rc)
            return rc;
    }
    return SB_OK;
}

static bool read_escape(struct sb_str word, enum sb_log_escape *out)
{
    static const char *const names[] = {"escape=default", "escape=json", "escape=none"};

    for (size_t i = 0; i < 3; i++) {
        if (sb_str_is(word, names[i])) {
            *out = (enum sb_log_escape)i;
            return true;
        }
    }
    return false;
}

/* -- finding ----------------------------------------------------------------------------------- */

/* The rest of a definition, behind its name: its pieces, one behind the other, in out. */
static enum word read_definition(struct sb_str *rest, struct sb_buf *out,
                                 enum sb_log_escape *escape)
{
    struct sb_buf word;
    enum word kind;
    bool first = true;

    sb_buf_init(&word, FORMAT_LEN_MAX);
    sb_buf_clear(out);
    *escape = SB_LOG_ESCAPE_DEFAULT;
    while ((kind = next_word(rest, &word)) == WORD) {
        if (!first || !read_escape(sb_buf_get(&word), escape))
            sb_buf_str(out, sb_buf_get(&word));
        first = false;
    }
    sb_buf_release(&word);
    return kind;
}

/* text: definitions ended by ';', each but the first perhaps begun by "log_format". SB_NOTFOUND:
 * none has that name. */
static enum sb_rc define(struct sb_arena *a, struct sb_str name, struct sb_str text,
                         struct sb_log_format *f, struct sb_err *err)
{
    struct sb_buf word, pieces;
    enum sb_rc rc = SB_NOTFOUND;

    sb_buf_init(&word, FORMAT_LEN_MAX);
    sb_buf_init(&pieces, FORMAT_LEN_MAX);
    while (rc == SB_NOTFOUND && next_word(&text, &word) == WORD) {
        bool named;

        if (sb_str_is(sb_buf_get(&word), "log_format"))
            (void)next_word(&text, &word);
        named = sb_str_eq(sb_buf_get(&word), name);
        if (read_definition(&text, &pieces, &f->escape) == UNTERMINATED)
            rc = sb_err_set(err, SB_INVALID, "a quote that does not end");
        else if (named)
            rc = compile(a, f, sb_buf_get(&pieces), err);
    }
    sb_buf_release(&word);
    sb_buf_release(&pieces);
    return rc;
}

enum sb_rc sb_log_format_new(struct sb_arena *a, struct sb_str name, const char *text,
                             const struct sb_log_format **out, struct sb_err *err)
{
    struct sb_log_format *f = SB_NEW(a, struct sb_log_format);
    enum sb_rc rc = SB_NOTFOUND;

    if (name.len == 0)
        name = SB_STR("kong_log_format");
    if (text)
        rc = define(a, name, sb_str_c(text), f, err);
    if (rc == SB_NOTFOUND)
        rc = define(a, name, sb_str_c(builtin), f, err);
    if (rc == SB_NOTFOUND)
        return sb_err_set(err, SB_INVALID, "unknown log format \"%.*s\"", SB_ARG(name));
    if (rc)
        sb_err_at(err, "log format \"%.*s\"", SB_ARG(name));
    else
        *out = f;
    return rc;
}

unsigned sb_log_format_wants(const struct sb_log_format *f)
{
    return f->wants;
}

/* -- lines ------------------------------------------------------------------------------------- */

void sb_line_text(struct sb_line *l, const char *p, size_t len)
{
    if (len > (size_t)(l->end - l->p))
        len = (size_t)(l->end - l->p);
    memcpy(l->p, p, len);
    l->p += len;
}

/* What could break a line or a quoted field becomes \xHH. */
static void escape_default(struct sb_line *l, unsigned char c)
{
    const char hex[4] = {'\\', 'x', "0123456789ABCDEF"[c >> 4], "0123456789ABCDEF"[c & 15]};

    sb_line_text(l, hex, sizeof hex);
}

static void escape_json(struct sb_line *l, unsigned char c)
{
    static const char letters[] = "\"\"\\\\\nn\rr\tt\bb\ff";
    char hex[6] = {'\\', 'u', '0', '0', "0123456789ABCDEF"[c >> 4], "0123456789ABCDEF"[c & 15]};

    for (size_t i = 0; i + 1 < sizeof letters; i += 2) {
        if ((unsigned char)letters[i] == c) {
            hex[1] = letters[i + 1];
            sb_line_text(l, hex, 2);
            return;
        }
    }
    sb_line_text(l, hex, sizeof hex);
}

void sb_line_value(struct sb_line *l, struct sb_str s)
{
    size_t from = 0;

    if (s.len == 0 && l->escape == SB_LOG_ESCAPE_DEFAULT)
        sb_line_text(l, "-", 1);
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool plain =
            c >= 0x20 && c != '"' && c != '\\' && (c < 0x7f || l->escape == SB_LOG_ESCAPE_JSON);

        if (plain || l->escape == SB_LOG_ESCAPE_NONE)
            continue;
        sb_line_text(l, s.p + from, i - from);
        from = i + 1;
        if (l->escape == SB_LOG_ESCAPE_JSON)
            escape_json(l, c);
        else
            escape_default(l, c);
    }
    if (s.len > from)
        sb_line_text(l, s.p + from, s.len - from);
}

void sb_line_number(struct sb_line *l, uint64_t n)
{
    char digits[20];
    size_t i = sizeof digits;

    do
        digits[--i] = (char)('0' + n % 10);
    while (n /= 10);
    sb_line_text(l, digits + i, sizeof digits - i);
}

void sb_line_seconds(struct sb_line *l, int64_t ms)
{
    char thousandths[4] = {'.'};

    if (ms < 0)
        ms = 0;
    for (int i = 3, rest = (int)(ms % 1000); i > 0; i--, rest /= 10)
        thousandths[i] = (char)('0' + rest % 10);
    sb_line_number(l, (uint64_t)ms / 1000);
    sb_line_text(l, thousandths, sizeof thousandths);
}

size_t sb_log_format_write(const struct sb_log_format *f, struct sb_exchange *x, char *to,
                           size_t max)
{
    struct sb_line l = {to, to + max - 1, f->escape};

    for (size_t i = 0; i < f->n; i++) {
        const struct piece *piece = &f->pieces[i];

        if (piece->variable)
            piece->variable->put(&l, x, piece->text);
        else
            sb_line_text(&l, piece->text.p, piece->text.len);
    }
    *l.p++ = '\n';
    return (size_t)(l.p - to);
}
