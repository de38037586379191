/* parse.c - a line at a time.
 *
 * A head is a first line and header lines, up to an empty one. next_line() finds the end of a line
 * with memchr and remembers how far it looked, so that a head that comes byte by byte is scanned
 * once. Everything else works on whole lines:
 *
 *     GET /a?b HTTP/1.1 CRLF      request_line() or status_line()
 *     Name: value CRLF            header_line(), then what its name calls for (note_header)
 *     CRLF                        finish_request() or finish_response(): framing
 *
 * Headers are checked in the order in which they came, because a refused request is answered by the
 * Accept header if that came before the fault.
 */
#include "dataplane/http/parse.h"

#include <string.h>

enum { NAME_BAD, NAME_OK, NAME_SCORE, NAME_TOKEN, NAME_ODD };

/* Bytes of header names: letters, digits, '-' and '_' are fine. The others that a token may have
 * are left out of requests, as Kong does, and pass in responses and trailers. What no token has is
 * left out everywhere; controls and space are refused. ':' ends the name. */
static int name_class(unsigned char c)
{
    static const uint8_t classes[256] = {
        ['!'] = NAME_TOKEN,       ['"'] = NAME_ODD,        ['#' ... '\''] = NAME_TOKEN,
        ['('] = NAME_ODD,         [')'] = NAME_ODD,        ['*'] = NAME_TOKEN,
        ['+'] = NAME_TOKEN,       [','] = NAME_ODD,        ['-'] = NAME_OK,
        ['.'] = NAME_TOKEN,       ['/'] = NAME_ODD,        ['0' ... '9'] = NAME_OK,
        [';' ... '@'] = NAME_ODD, ['A' ... 'Z'] = NAME_OK, ['[' ... ']'] = NAME_ODD,
        ['^'] = NAME_TOKEN,       ['_'] = NAME_SCORE,      ['`'] = NAME_TOKEN,
        ['a' ... 'z'] = NAME_OK,  ['{'] = NAME_ODD,        ['|'] = NAME_TOKEN,
        ['}'] = NAME_ODD,         ['~'] = NAME_TOKEN,      [0x80 ... 0xff] = NAME_ODD,
    };

    return classes[c];
}

void sb_http_head_reset(struct sb_http_head *h)
{
    *h = (struct sb_http_head){.headers = h->headers,
                               .ids = h->ids,
                               .headers_max = h->headers_max,
                               .line_max = h->line_max,
                               .head_max = h->head_max};
}

static void move(struct sb_str *s, const char *from, const char *to)
{
    if (s->p)
        s->p = to + (s->p - from);
}

void sb_http_rebase(struct sb_http_head *h, const char *from, const char *to)
{
    struct sb_str *const slices[] = {&h->method,    &h->target, &h->path,  &h->query,
                                     &h->authority, &h->host,   &h->reason};

    for (size_t i = 0; i < sizeof slices / sizeof *slices; i++)
        move(slices[i], from, to);
    for (size_t i = 0; i < h->nheaders; i++) {
        move(&h->headers[i].name, from, to);
        move(&h->headers[i].value, from, to);
    }
}

/* -- lines -- */

/* The line at h->at without its end, and h->at behind it. False: not all there yet. */
static bool next_line(struct sb_http_head *h, const char *buf, size_t len, struct sb_str *line)
{
    const char *lf = h->scan < len ? memchr(buf + h->scan, '\n', len - h->scan) : NULL;
    size_t end;

    if (!lf) {
        h->scan = len;
        return false;
    }
    end = (size_t)(lf - buf);
    *line = sb_str_n(buf + h->at, end - h->at);
    if (line->len && lf[-1] == '\r')
        line->len--;
    h->at = h->scan = end + 1;
    return true;
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

static unsigned hex_value(char c)
{
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a') + 10;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

/* What a scheme may have behind its first letter, besides letters. */
static bool is_scheme(char c)
{
    return is_digit(c) || c == '+' || c == '-' || c == '.';
}

/* -- the request target -- */

/* The byte at *i, percent-decoded; false for a triplet that is none, or for %00. */
static bool decode(struct sb_str path, size_t *i, char *c)
{
    *c = path.p[*i];
    if (*c != '%') {
        *i += 1;
        return true;
    }
    if (*i + 2 >= path.len || !is_hex(path.p[*i + 1]) || !is_hex(path.p[*i + 2]))
        return false;
    *c = (char)(hex_value(path.p[*i + 1]) << 4 | hex_value(path.p[*i + 2]));
    *i += 3;
    return *c != '\0';
}

/* Whether triplets are well-formed and no "..", plain or encoded, climbs above the root. */
static bool path_sound(struct sb_str path)
{
    size_t i = 0, depth = 0, dots = 0, others = 0;
    char c;

    if (!memchr(path.p, '%', path.len) && sb_str_find(path, SB_STR(".."), 0) < 0)
        return true;
    for (bool more = true; more;) {
        more = i < path.len;
        if (more && !decode(path, &i, &c))
            return false;
        if (!more || c == '/') {
            if (!others && dots == 2 && depth-- == 0)
                return false;
            depth += others || dots > 2;
            dots = others = 0;
        } else if (c == '.') {
            dots++;
        } else {
            others++;
        }
    }
    return true;
}

/* host[:port] of an absolute-form target: stricter than Host, as nginx has it. */
static bool authority_sound(struct sb_str s)
{
    size_t i = 0;

    if (s.len && s.p[0] == '[') {
        while (i < s.len && s.p[i] != ']')
            i++;
        i++;
    } else {
        while (i < s.len &&
               (is_letter(s.p[i]) || is_digit(s.p[i]) || s.p[i] == '.' || s.p[i] == '-'))
            i++;
    }
    if (i < s.len && s.p[i++] != ':')
        return false;
    while (i < s.len && is_digit(s.p[i]))
        i++;
    return i >= s.len;
}

/* scheme://authority before the path of an absolute-form target. Cuts it off *rest. */
static bool take_authority(struct sb_str *rest, struct sb_str *authority)
{
    size_t i = 0, start;
    struct sb_str name;

    while (i < rest->len && (is_letter(rest->p[i]) || (i && is_scheme(rest->p[i]))))
        i++;
    if (i == 0 || !sb_str_starts(sb_str_from(*rest, i), SB_STR("://")))
        return false;
    start = i += 3;
    while (i < rest->len && rest->p[i] != '/' && rest->p[i] != '?' && rest->p[i] != '#')
        i++;
    *authority = sb_str_n(rest->p + start, i - start);
    *rest = sb_str_from(*rest, i);
    return authority_sound(*authority) && sb_http_host_valid(*authority, &name);
}

static enum sb_http_result split_target(struct sb_http_head *h)
{
    struct sb_str rest = h->target;
    ptrdiff_t mark, hash;

    for (size_t i = 0; i < rest.len; i++)
        if ((unsigned char)rest.p[i] < 0x21 || rest.p[i] == 0x7f)
            return SB_HTTP_BAD;
    if (rest.len && rest.p[0] != '/' && !take_authority(&rest, &h->authority))
        return SB_HTTP_BAD;
    mark = sb_str_chr(rest, '?', 0);
    hash = sb_str_chr(rest, '#', 0);
    h->path = mark < 0 ? rest : sb_str_first(rest, (size_t)mark);
    if (mark >= 0 && (hash < 0 || hash > mark)) {
        h->has_query = true;
        h->query = sb_str_from(rest, (size_t)mark + 1);
        if (hash > mark)
            h->query.len = (size_t)(hash - mark) - 1;
    }
    if (h->path.len == 0 && h->authority.p)
        h->path =
            sb_str_n(h->authority.p - 1, 1); /* http://host, http://host?q: the slash before */
    if (h->path.len == 0 || h->path.p[0] != '/' || !path_sound(h->path))
        return SB_HTTP_BAD;
    return SB_HTTP_DONE;
}

/* -- first lines -- */

/* "HTTP/1.1" to 11. 0: not of that form; -1: a major version that is not ours. */
static int version_of(struct sb_str s)
{
    if (s.len < 8 || !sb_str_starts(s, SB_STR("HTTP/")) || s.p[5] < '1' || s.p[5] > '9')
        return 0;
    if (s.p[6] != '.')
        return is_digit(s.p[6]) ? -1 : 0;
    if (s.len > 8 || !is_digit(s.p[7]))
        return 0;
    return s.p[5] == '1' ? 10 + (s.p[7] - '0') : -1;
}

static struct sb_str cut_word(struct sb_str *line)
{
    ptrdiff_t space = sb_str_chr(*line, ' ', 0);
    size_t end = space < 0 ? line->len : (size_t)space;
    struct sb_str word = sb_str_first(*line, end);

    while (end < line->len && line->p[end] == ' ')
        end++;
    *line = sb_str_from(*line, end);
    return word;
}

static bool method_sound(struct sb_str method)
{
    for (size_t i = 0; i < method.len; i++) {
        char c = method.p[i];

        if ((c < 'A' || c > 'Z') && c != '-' && c != '_')
            return false;
    }
    return method.len > 0;
}

static enum sb_http_result request_line(struct sb_http_head *h, struct sb_str line)
{
    struct sb_str version;

    h->method = cut_word(&line);
    if (!method_sound(h->method))
        return SB_HTTP_BAD;
    h->target = cut_word(&line);
    version = cut_word(&line);
    if (line.len)
        return SB_HTTP_BAD;
    h->version = version.len ? version_of(version) : 9;
    if (h->version == 0)
        return SB_HTTP_BAD;
    if (h->version < 0)
        return SB_HTTP_VERSION;
    if (h->target.len == 0)
        return SB_HTTP_BAD;
    if (h->version == 9 && !sb_str_is(h->method, "GET"))
        return SB_HTTP_BAD;
    return split_target(h);
}

static enum sb_http_result status_line(struct sb_http_head *h, struct sb_str line)
{
    struct sb_str word = cut_word(&line);

    h->version = version_of(word);
    if (h->version <= 0)
        return SB_HTTP_BAD;
    word = cut_word(&line);
    if (word.len != 3 || !is_digit(word.p[0]) || !is_digit(word.p[1]) || !is_digit(word.p[2]))
        return SB_HTTP_BAD;
    h->status = (word.p[0] - '0') * 100 + (word.p[1] - '0') * 10 + (word.p[2] - '0');
    for (size_t i = 0; i < line.len; i++)
        if (line.p[i] == '\0' || line.p[i] == '\r')
            return SB_HTTP_BAD;
    h->reason = line;
    return h->status < 100 ? SB_HTTP_BAD : SB_HTTP_DONE;
}

/* -- header lines -- */

/* Tabs are part of a value, as nginx sees it: a length or a Host with one is refused. */
static struct sb_str trim_spaces(struct sb_str s)
{
    while (s.len && s.p[0] == ' ')
        s = sb_str_from(s, 1);
    while (s.len && s.p[s.len - 1] == ' ')
        s.len--;
    return s;
}

static enum sb_http_result keep_header(struct sb_http_head *h, struct sb_str name,
                                       struct sb_str value)
{
    if (h->nheaders == h->headers_max)
        return SB_HTTP_HEADER_TOO_LARGE;
    h->headers[h->nheaders] = (struct sb_router_header){name, value};
    h->ids[h->nheaders++] = (uint8_t)sb_http_name(name);
    return SB_HTTP_DONE;
}

/* Content_Length and its like: read as Content-Length by what thinks in CGI variables. */
static bool frames_in_disguise(struct sb_str name)
{
    return sb_http_name_is(name, SB_STR("content-length")) ||
           sb_http_name_is(name, SB_STR("transfer-encoding"));
}

/* Adds a line's header, unless a byte of its name is of a class above `keep`. A name without colon
 * is a header with an empty value, as Kong has it. */
static enum sb_http_result header_line(struct sb_http_head *h, struct sb_str line, int keep)
{
    size_t i = 0;
    int worst = NAME_OK;
    struct sb_str name, value;

    for (; i < line.len && line.p[i] != ':'; i++) {
        int class = name_class((unsigned char)line.p[i]);

        if (class == NAME_BAD)
            return SB_HTTP_BAD;
        if (class > worst)
            worst = class;
    }
    if (i == 0)
        return SB_HTTP_BAD;
    name = sb_str_first(line, i);
    value = trim_spaces(sb_str_from(line, i + 1));
    if (memchr(value.p, '\0', value.len) || memchr(value.p, '\r', value.len))
        return SB_HTTP_BAD;
    if (worst > keep || (worst >= NAME_SCORE && frames_in_disguise(name)))
        return SB_HTTP_DONE;
    return keep_header(h, name, value);
}

static bool content_length(struct sb_http_head *h, struct sb_str value)
{
    uint64_t n = 0;

    if (value.len == 0 || value.len > 19)
        return false;
    for (size_t i = 0; i < value.len; i++) {
        if (!is_digit(value.p[i]))
            return false;
        n = n * 10 + (uint64_t)(value.p[i] - '0');
    }
    if (n > INT64_MAX)
        return false;
    h->content_length = n;
    return true;
}

/* What a byte of a host is; most are nothing in particular. */
enum { HOST_BAD = 1, HOST_DOT, HOST_COLON, HOST_CLOSES };

static const unsigned char host_bytes[256] = {
    [0x00 ... 0x20] = HOST_BAD, [0x7f] = HOST_BAD,   ['/'] = HOST_BAD,  ['?'] = HOST_BAD,
    ['#'] = HOST_BAD,           ['@'] = HOST_BAD,    ['\\'] = HOST_BAD, ['.'] = HOST_DOT,
    [':'] = HOST_COLON,         [']'] = HOST_CLOSES,
};

bool sb_http_host_valid(struct sb_str host, struct sb_str *name)
{
    size_t end = host.len;
    bool literal = host.len && host.p[0] == '[';

    for (size_t i = 0; i < host.len; i++) {
        unsigned char kind = host_bytes[(unsigned char)host.p[i]];

        if (!kind)
            continue;
        if (kind == HOST_BAD || (kind == HOST_DOT && i && host.p[i - 1] == '.'))
            return false;
        if (kind == HOST_CLOSES)
            literal = false;
        if (kind == HOST_COLON && !literal && end == host.len)
            end = i;
    }
    *name = sb_str_first(host, end);
    if (name->len > 1 && name->p[name->len - 1] == '.')
        name->len--;
    return name->len > 0 && !literal && !sb_str_is(*name, ".");
}

/* Whether a line before the last has its name, where several names share an id. */
static bool repeats(const struct sb_http_head *h)
{
    size_t last = h->nheaders - 1;

    for (size_t i = 0; i < last; i++)
        if (h->ids[i] == h->ids[last] && sb_str_ieq(h->headers[i].name, h->headers[last].name))
            return true;
    return false;
}

/* What the last header's name calls for, as soon as it is seen. */
static enum sb_http_result note_request_header(struct sb_http_head *h)
{
    enum sb_http_name id = h->ids[h->nheaders - 1];
    struct sb_str value = h->headers[h->nheaders - 1].value, name;
    bool again = sb_http_has(h, id);

    h->seen |= UINT64_C(1) << id;
    switch (id) {
    case SB_H_HOST:
        h->host = value;
        return again || !sb_http_host_valid(value, &name) ? SB_HTTP_BAD : SB_HTTP_DONE;
    case SB_H_CONTENT_LENGTH:
        return again || !content_length(h, value) ? SB_HTTP_BAD : SB_HTTP_DONE;
    case SB_H_TRANSFER_ENCODING:
    case SB_H_EXPECT:
    case SB_H_AUTHORIZATION: /* who asks must not depend on which of them is read */
        return again ? SB_HTTP_BAD : SB_HTTP_DONE;
    case SB_H_ONCE_ASKED:
        return again && repeats(h) ? SB_HTTP_BAD : SB_HTTP_DONE;
    default:
        return SB_HTTP_DONE;
    }
}

static enum sb_http_result finish_request(struct sb_http_head *h)
{
    bool length = sb_http_has(h, SB_H_CONTENT_LENGTH);

    if (h->version >= 11 && !h->host.p)
        return SB_HTTP_BAD;
    if (sb_http_has(h, SB_H_TRANSFER_ENCODING)) {
        if (h->version < 11)
            return SB_HTTP_BAD;
        if (!sb_str_ieq(sb_http_get(h, SB_H_TRANSFER_ENCODING), SB_STR("chunked")))
            return SB_HTTP_NOT_IMPLEMENTED;
        if (length)
            return SB_HTTP_BAD;
        h->framing = SB_BODY_CHUNKED;
    } else if (length && h->content_length) {
        h->framing = SB_BODY_LENGTH;
    }
    if (sb_str_is(h->method, "TRACE") || sb_str_is(h->method, "CONNECT"))
        return SB_HTTP_NOT_ALLOWED;
    return SB_HTTP_DONE;
}

/* Of several such lines nginx, and so Kong, passes on the first. */
static enum sb_http_result note_response_header(struct sb_http_head *h)
{
    static const uint64_t once = UINT64_C(1) << SB_H_ONCE_ANSWERED | UINT64_C(1) << SB_H_DATE |
                                 UINT64_C(1) << SB_H_SERVER | UINT64_C(1) << SB_H_CONTENT_TYPE;
    enum sb_http_name id = h->ids[h->nheaders - 1];
    struct sb_str value = h->headers[h->nheaders - 1].value;
    bool again = sb_http_has(h, id);

    h->seen |= UINT64_C(1) << id;
    if (id == SB_H_CONTENT_LENGTH && (again || !content_length(h, value)))
        return SB_HTTP_BAD;
    if (id == SB_H_TRANSFER_ENCODING && (again || !sb_str_ieq(value, SB_STR("chunked"))))
        return SB_HTTP_BAD;
    if (again && (once >> id & 1) && repeats(h))
        h->nheaders--;
    return SB_HTTP_DONE;
}

static enum sb_http_result finish_response(struct sb_http_head *h, bool head_request)
{
    bool chunked = sb_http_has(h, SB_H_TRANSFER_ENCODING);

    if (chunked && sb_http_has(h, SB_H_CONTENT_LENGTH))
        return SB_HTTP_BAD;
    h->suspect = h->status < 200 || h->status == 204 ? chunked || h->content_length
                                                     : chunked && h->version < 11;
    if (head_request || h->status < 200 || h->status == 204 || h->status == 304)
        h->framing = SB_BODY_NONE;
    else if (chunked)
        h->framing = SB_BODY_CHUNKED;
    else if (sb_http_has(h, SB_H_CONTENT_LENGTH))
        h->framing = h->content_length ? SB_BODY_LENGTH : SB_BODY_NONE;
    else
        h->framing = SB_BODY_EOF;
    return SB_HTTP_DONE;
}

/* -- heads -- */

static enum sb_http_result too_long(const struct sb_http_head *h, size_t at)
{
    if (at - h->at > h->line_max)
        return h->started ? SB_HTTP_HEADER_TOO_LARGE : SB_HTTP_URI_TOO_LONG;
    return at > h->head_max ? SB_HTTP_HEADER_TOO_LARGE : SB_HTTP_MORE;
}

enum sb_http_result sb_http_parse_request(struct sb_http_head *h, const char *buf, size_t len)
{
    struct sb_str line;
    enum sb_http_result r;
    size_t start = h->at, before;

    while (start = h->at, next_line(h, buf, len, &line)) {
        if (line.len > h->line_max)
            return h->started ? SB_HTTP_HEADER_TOO_LARGE : SB_HTTP_URI_TOO_LONG;
        if (h->at > h->head_max)
            return SB_HTTP_HEADER_TOO_LARGE;
        if (!h->started) {
            if (line.len == 0) /* empty lines in front of a request are skipped */
                continue;
            r = request_line(h, line);
            h->started = true;
            h->lines = h->len = h->at;
            if (r || h->version == 9)
                return r;
            continue;
        }
        if (line.len == 0) {
            h->len = h->at;
            return finish_request(h);
        }
        before = h->nheaders;
        r = header_line(h, line, NAME_SCORE);
        if (!r && h->nheaders > before)
            r = note_request_header(h);
        if (r)
            return r;
    }
    return too_long(h, start > len ? start : len);
}

enum sb_http_result sb_http_parse_response(struct sb_http_head *h, const char *buf, size_t len,
                                           bool head_request)
{
    struct sb_str line;
    enum sb_http_result r;
    size_t before;

    while (next_line(h, buf, len, &line)) {
        if (h->at > h->head_max)
            return SB_HTTP_HEADER_TOO_LARGE;
        if (!h->started) {
            r = status_line(h, line);
            h->started = true;
        } else if (line.len == 0) {
            h->len = h->at;
            return finish_response(h, head_request);
        } else {
            before = h->nheaders;
            r = header_line(h, line, NAME_TOKEN);
            if (!r && h->nheaders > before)
                r = note_response_header(h);
        }
        if (r)
            return r;
    }
    /* What does not begin like a response is refused before its first line ends. */
    if (!h->started && memcmp(buf, "HTTP/", len < 5 ? len : 5) != 0)
        return SB_HTTP_BAD;
    return len > h->head_max ? SB_HTTP_HEADER_TOO_LARGE : SB_HTTP_MORE;
}

/* -- trailers -- */

enum sb_http_result sb_http_parse_trailers(struct sb_http_head *h, const char *buf, size_t len)
{
    struct sb_str line;
    enum sb_http_result r;
    size_t before;

    while (next_line(h, buf, len, &line)) {
        before = h->nheaders;
        r = header_line(h, line, NAME_TOKEN);
        if (r)
            return r;
        if (h->nheaders > before && !sb_http_may_trail(h->headers[before].name))
            h->nheaders = before;
    }
    h->len = h->at;
    return h->at == len ? SB_HTTP_DONE : SB_HTTP_BAD;
}

/* -- heads that come in fields -- */

enum sb_http_result sb_http_set_target(struct sb_http_head *h, struct sb_str method,
                                       struct sb_str target)
{
    h->started = true;
    h->method = method;
    h->target = target;
    if (!method_sound(method))
        return SB_HTTP_BAD;
    if (sb_str_is(method, "TRACE") || sb_str_is(method, "CONNECT"))
        return SB_HTTP_NOT_ALLOWED;
    return target.len ? split_target(h) : SB_HTTP_BAD;
}

enum sb_http_result sb_http_add_field(struct sb_http_head *h, struct sb_str name,
                                      struct sb_str value, bool request)
{
    int worst = NAME_OK;
    enum sb_http_result r;

    for (size_t i = 0; i < name.len; i++) {
        int class = name_class((unsigned char)name.p[i]);

        if (class == NAME_BAD || name.p[i] == ':')
            return SB_HTTP_BAD;
        worst = class > worst ? class : worst;
    }
    if (request && worst >= NAME_SCORE && (worst > NAME_SCORE || frames_in_disguise(name)))
        return SB_HTTP_DONE;
    r = keep_header(h, name, value);
    if (r)
        return r;
    return request ? note_request_header(h) : note_response_header(h);
}
