/* error_body.c - in which format an error is told.
 *
 * Kong has two ways to an error. Its own (SB_ANSWER_ERROR) look at all lines of Accept, and are
 * JSON without any. Those that begin in nginx (SB_ANSWER_REFUSED) look at the first line, then at
 * the request's own Content-Type, then at error_default_type; and where that text is for gRPC, on a
 * connection that is not, they are a bare {"message": ...}.
 */
#include "dataplane/http/error_body.h"

#include <string.h>

static const struct {
    const char *type, *before, *between, *after;
} formats[SB_FORMATS] = {
    [SB_FORMAT_JSON] = {"application/json; charset=utf-8", "{\n  \"message\":\"",
                        "\",\n  \"request_id\":\"", "\"\n}"},
    [SB_FORMAT_PLAIN] = {"text/plain; charset=utf-8", "", "\nrequest_id: ", "\n"},
    [SB_FORMAT_HTML] =
        {"text/html; charset=utf-8",
         "<!doctype html>\n<html>\n  <head>\n    <meta charset=\"utf-8\">\n"
         "    <title>Error</title>\n  </head>\n  <body>\n    <h1>Error</h1>\n    <p>",
         ".</p>\n    <p>request_id: ", "</p>\n  </body>\n</html>\n"},
    [SB_FORMAT_XML] = {"application/xml; charset=utf-8",
                       "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>\n  <message>",
                       "</message>\n  <requestid>", "</requestid>\n</error>\n"},
};

/* -- Accept -- */

enum { EMPTY = SB_FORMATS }; /* for those who accept application/grpc: no body, no type */

/* What is none of these, in these letters, is told in JSON. */
static int format_of_type(struct sb_str type)
{
    static const struct {
        const char *type;
        int format;
    } types[] = {
        {"text/plain", SB_FORMAT_PLAIN},    {"text/html", SB_FORMAT_HTML},
        {"application/xml", SB_FORMAT_XML}, {"text/*", SB_FORMAT_PLAIN},
        {"application/grpc", EMPTY},
    };

    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (sb_str_is(type, types[i].type))
            return types[i].format;
    return SB_FORMAT_JSON;
}

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

/* A name of two characters or more, or one of none at all: 0. */
static size_t name_len(struct sb_str s)
{
    size_t n = 0;

    while (n < s.len && (is_alnum(s.p[n]) || (n && s.p[n] && strchr("-!#$&^_+.", s.p[n]))))
        n++;
    return n > 1 ? n : 0;
}

static size_t half_len(struct sb_str s)
{
    return s.len && s.p[0] == '*' ? 1 : name_len(s);
}

/* The media type that s begins with; its length, 0: none. */
static size_t type_len(struct sb_str s)
{
    size_t left = half_len(s), right;

    if (!left || left >= s.len || s.p[left] != '/')
        return 0;
    right = half_len(sb_str_from(s, left + 1));
    return right ? left + 1 + right : 0;
}

static size_t blanks(struct sb_str s)
{
    size_t n = 0;

    while (n < s.len && (s.p[n] == ' ' || s.p[n] == '\t'))
        n++;
    return n;
}

/* "0.125" in thousandths, at most three decimals; *len: how much of s that is, 0: no quality. */
static int thousandths(struct sb_str s, size_t *len)
{
    int q, scale = 100;
    size_t i = 1;

    *len = 0;
    if (s.len == 0 || (s.p[0] != '0' && s.p[0] != '1'))
        return 0;
    q = s.p[0] == '1' ? 1000 : 0;
    if (i < s.len && s.p[i] == '.')
        for (i++; i < s.len && i < 5 && s.p[i] >= '0' && s.p[i] <= (q == 1000 ? '0' : '9'); i++) {
            if (q != 1000)
                q += (s.p[i] - '0') * scale;
            scale /= 10;
        }
    *len = i;
    return q;
}

/* Parameters up to the first that is none; the last q of them. */
static int quality(struct sb_str s)
{
    int q = 1000, found;
    size_t n;

    for (;;) {
        s = sb_str_from(s, blanks(s));
        if (s.len == 0 || s.p[0] != ';')
            return q;
        s = sb_str_from(s, 1);
        s = sb_str_from(s, blanks(s));
        if (s.len > 2 && (s.p[0] | 0x20) == 'q' && s.p[1] == '=') {
            found = thousandths(sb_str_from(s, 2), &n);
            if (!n)
                return q;
            q = found;
            s = sb_str_from(s, 2 + n);
            continue;
        }
        n = name_len(s);
        if (!n)
            return q;
        s = sb_str_from(s, n);
        if (s.len && s.p[0] == '=')
            s = sb_str_from(
                s, (size_t)(sb_str_chr(s, ';', 0) < 0 ? (ptrdiff_t)s.len : sb_str_chr(s, ';', 0)));
    }
}

/* The first of the best: strictly greater q wins. */
static void weigh(struct sb_str accept, int *best, int *best_q)
{
    struct sb_str item;

    while (sb_str_split(&accept, ',', &item)) {
        size_t len;
        int q;

        item = sb_str_trim(item);
        len = type_len(item);
        q = len ? quality(sb_str_from(item, len)) : 0;
        if (q > *best_q) {
            *best = format_of_type(sb_str_first(item, len));
            *best_q = q;
        }
    }
}

static int format_of(const struct sb_exchange *x)
{
    int best = SB_FORMAT_JSON, best_q = 0;

    for (size_t i = 0; i < x->req.nheaders; i++)
        if (x->req.ids[i] == SB_H_ACCEPT)
            weigh(x->req.headers[i].value, &best, &best_q);
    return best;
}

/* -- bodies -- */

/* A template of the user's: two %s, for message and request id; %% is a percent sign. */
static void from_template(struct sb_str t, struct sb_str message, struct sb_str id,
                          struct sb_gather *g)
{
    const struct sb_str values[] = {message, id};
    size_t used = 0;
    ptrdiff_t at;

    while ((at = sb_str_chr(t, '%', 0)) >= 0 && (size_t)at + 1 < t.len) {
        char c = t.p[at + 1];

        sb_gather_str(g, sb_str_first(t, (size_t)at));
        if (c == 's' && used < 2)
            sb_gather_str(g, values[used++]);
        else
            sb_gather_add(g, t.p + at, c == '%' ? 1 : 2);
        t = sb_str_from(t, (size_t)at + 2);
    }
    sb_gather_str(g, t);
}

/* Messages go into JSON and markup: what could end a string or a tag there is written safely. */
static void escape(struct sb_gather *g, int format, struct sb_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];

        if (format == SB_FORMAT_JSON && (c == '"' || c == '\\')) {
            sb_gather_lit(g, "\\");
            sb_gather_add(g, &c, 1);
        } else if (format == SB_FORMAT_JSON && (unsigned char)c < 0x20) {
            sb_gather_lit(g, " ");
        } else if (format != SB_FORMAT_JSON && format != SB_FORMAT_PLAIN && c == '<') {
            sb_gather_lit(g, "&lt;");
        } else if (format != SB_FORMAT_JSON && format != SB_FORMAT_PLAIN && c == '&') {
            sb_gather_lit(g, "&amp;");
        } else {
            sb_gather_add(g, &c, 1);
        }
    }
}

static struct sb_str told_in(const struct sb_exchange *x, int format, struct sb_str message,
                             struct sb_gather *g)
{
    struct sb_str id = sb_str_n(x->id, sizeof x->id);

    if (format == EMPTY)
        return SB_STR("");
    if (x->w->o->error_template[format].p) {
        from_template(x->w->o->error_template[format], message, id, g);
    } else {
        sb_gather_str(g, sb_str_c(formats[format].before));
        escape(g, format, message);
        sb_gather_str(g, sb_str_c(formats[format].between));
        sb_gather_str(g, id);
        sb_gather_str(g, sb_str_c(formats[format].after));
    }
    return sb_str_c(formats[format].type);
}

static struct sb_str refused(const struct sb_exchange *x, struct sb_str message,
                             struct sb_gather *g)
{
    struct sb_str accept = sb_http_get(&x->req, SB_H_ACCEPT);
    int format = SB_FORMAT_JSON, q = 0;

    if (!accept.p)
        accept = sb_http_get(&x->req, SB_H_CONTENT_TYPE);
    if (!accept.p)
        return told_in(x, x->w->o->error_default, message, g);
    if (!sb_str_starts(accept, SB_STR("application/grpc"))) {
        weigh(accept, &format, &q);
        return told_in(x, format, message, g);
    }
    sb_gather_lit(g, "{\"message\":\"");
    escape(g, SB_FORMAT_JSON, message);
    sb_gather_lit(g, "\"}");
    return sb_str_c(formats[SB_FORMAT_JSON].type);
}

struct sb_str sb_error_body(const struct sb_exchange *x, struct sb_str message, struct sb_gather *g)
{
    if (x->answer.kind == SB_ANSWER_REFUSED)
        return refused(x, message, g);
    return told_in(x, format_of(x), message, g);
}
