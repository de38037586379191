/* path.c - the two shapes of a path: what routes are matched against, and what the upstream gets.
 *
 *     request   /a%2Fb/%63/../d//e?q   the client's bytes
 *     matched   /a%2Fb/d/e             normalised: decoded but for reserved bytes, no dots, no "//"
 *     upstream  /srv/d/e               the matched prefix taken off, the service's path put before
 *
 * Most paths are their own normal form: look first, copy only when there is something to do. Both
 * ways take one pass; popping a segment walks back over bytes that were written once, so a path of
 * 64 KiB made of dots is no dearer than another.
 */
#include "dataplane/router/router.h"

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The byte that a valid triplet at i stands for; -1 when there is none. */
static int triplet(struct sb_str s, size_t i)
{
    int hi, lo;

    if (s.len - i < 3)
        return -1;
    hi = hex_digit(s.p[i + 1]);
    lo = hex_digit(s.p[i + 2]);
    return hi < 0 || lo < 0 ? -1 : hi << 4 | lo;
}

/* Decoding these would change what the path means (RFC 3986, 2.2, and '%' itself). */
static bool reserved(int byte)
{
    return byte && strchr("!*'();:@&=+$,/?%#[]", byte);
}

static bool lower_hex(char c)
{
    return c >= 'a' && c <= 'f';
}

/* Is the segment that starts at i "." or ".."? */
static bool dot_segment(struct sb_str s, size_t i)
{
    size_t dots = 0;

    while (i + dots < s.len && s.p[i + dots] == '.' && dots < 3)
        dots++;
    return (dots == 1 || dots == 2) && (i + dots == s.len || s.p[i + dots] == '/');
}

static bool slashes_normal(struct sb_str s)
{
    if (dot_segment(s, 0))
        return false;
    for (size_t i = 0; i + 1 < s.len; i++) {
        if (s.p[i] == '/' && (s.p[i + 1] == '/' || (s.p[i + 1] == '.' && dot_segment(s, i + 1))))
            return false;
    }
    return true;
}

static bool percents_normal(struct sb_str s)
{
    for (ptrdiff_t i = 0; (i = sb_str_chr(s, '%', (size_t)i)) >= 0; i++) {
        int byte = triplet(s, (size_t)i);

        if (byte >= 0 && (!reserved(byte) || lower_hex(s.p[i + 1]) || lower_hex(s.p[i + 2])))
            return false;
    }
    return true;
}

static size_t decode(struct sb_str s, char *out)
{
    static const char upper[] = "0123456789ABCDEF";
    size_t w = 0;

    for (size_t i = 0; i < s.len; i++) {
        int byte = s.p[i] == '%' ? triplet(s, i) : -1;

        if (byte < 0) {
            out[w++] = s.p[i];
            continue;
        }
        i += 2;
        if (reserved(byte)) {
            out[w++] = '%';
            out[w++] = upper[byte >> 4];
            out[w++] = upper[byte & 15];
        } else {
            out[w++] = (char)byte;
        }
    }
    return w;
}

/* The length of what is written without its last segment. */
static size_t pop_segment(const char *out, size_t w)
{
    while (w > 0 && out[--w] != '/')
        ;
    return w;
}

/* RFC 3986 5.2.4 in place, with "//" read as "/" at the place where it stands: /a//../b is /b. */
static size_t remove_dots(char *p, size_t len)
{
    struct sb_str s = {p, len};
    size_t r = 0, w = 0;

    while (dot_segment(s, r)) { /* only in a path without leading slash */
        ptrdiff_t slash = sb_str_chr(s, '/', r);

        r = slash < 0 ? len : (size_t)slash + 1;
    }
    while (r < len) {
        bool slash = p[r] == '/';

        if (slash && r + 1 < len && p[r + 1] == '/') {
            r++;
        } else if (slash && dot_segment(s, r + 1)) {
            size_t dots = r + 2 < len && p[r + 2] == '.' ? 2 : 1;

            if (dots == 2)
                w = pop_segment(p, w);
            r += 1 + dots;
            if (r == len)
                p[w++] = '/';
        } else {
            do
                p[w++] = p[r++];
            while (r < len && p[r] != '/');
        }
    }
    return w;
}

bool sb_path_normalise(struct sb_str path, char *out, size_t *len)
{
    if (percents_normal(path) && slashes_normal(path))
        return false;
    *len = decode(path, out);
    if (!slashes_normal((struct sb_str){out, *len}))
        *len = remove_dots(out, *len);
    out[*len] = '\0';
    return true;
}

/* -- the upstream's path ---------------------------------------------------------------------- */

struct writer {
    char *p;
    size_t len, cap;
    bool full;
};

static bool needs_escape(unsigned char c)
{
    return !((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             (c && strchr("!#$&'()*+,/:;=?@[]-._~%", c)));
}

static void put(struct writer *w, struct sb_str s)
{
    static const char upper[] = "0123456789ABCDEF";

    for (size_t i = 0; i < s.len && !w->full; i++) {
        unsigned char c = (unsigned char)s.p[i];
        size_t need = needs_escape(c) ? 3 : 1;

        if (w->cap - w->len < need) {
            w->full = true;
        } else if (need == 1) {
            w->p[w->len++] = (char)c;
        } else {
            w->p[w->len++] = '%';
            w->p[w->len++] = upper[c >> 4];
            w->p[w->len++] = upper[c & 15];
        }
    }
}

size_t sb_path_escape(struct sb_str path, char *out)
{
    struct writer w = {.p = out, .cap = 3 * path.len};

    put(&w, path);
    return w.len;
}

static bool ends_with_slash(struct sb_str s)
{
    return s.len && s.p[s.len - 1] == '/';
}

static bool starts_with_slash(struct sb_str s)
{
    return s.len && s.p[0] == '/';
}

static struct sb_str without_first(struct sb_str s)
{
    return sb_str_from(s, starts_with_slash(s));
}

static struct sb_str without_last(struct sb_str s)
{
    return sb_str_first(s, s.len - ends_with_slash(s));
}

/* What follows the matched prefix. Taking that off may leave a dot segment in front (/rt of
 * /rt../x), which must not climb. */
static struct sb_str remainder_of(struct sb_str path, size_t prefix_len)
{
    struct sb_str rest = sb_str_from(path, prefix_len);

    if (sb_str_eq(rest, SB_STR(".")) || sb_str_eq(rest, SB_STR("..")))
        return sb_str_from(rest, rest.len);
    if (sb_str_starts(rest, SB_STR("./")))
        return sb_str_from(rest, 2);
    return sb_str_from(rest, sb_str_starts(rest, SB_STR("../")) ? 3 : 0);
}

/* v1: the two put together, a slash in the middle once. */
static void join_v1(struct writer *w, struct sb_str service, struct sb_str rest)
{
    put(w, service);
    put(w, ends_with_slash(service) ? without_first(rest) : rest);
}

/* v0: the two are whole segments; a trailing slash is the request's to say. */
static void join_v0(struct writer *w, struct sb_str service, struct sb_str rest, struct sb_str path)
{
    bool root = sb_str_eq(service, SB_STR("/"));

    if (rest.len) {
        put(w, without_last(service));
        put(w, SB_STR("/"));
        put(w, without_first(rest));
    } else if (ends_with_slash(service)) {
        put(w, root || ends_with_slash(path) ? service : without_last(service));
    } else {
        put(w, service);
        put(w, path.len > 1 && ends_with_slash(path) ? SB_STR("/") : SB_STR(""));
    }
}

static void keep_v0(struct writer *w, struct sb_str service, struct sb_str path)
{
    put(w, without_last(service));
    put(w, ends_with_slash(service) || !sb_str_eq(path, SB_STR("/")) ? path : SB_STR(""));
}

bool sb_router_upstream_path(const struct sb_router_match *m, struct sb_str path, char *out,
                             size_t cap, size_t *len)
{
    const struct sb_service *service = m->route->service;
    struct sb_str base = service && service->path.len ? service->path : SB_STR("/");
    bool strip = m->route->strip_path && m->prefix_len > 0;
    struct writer w = {.p = out, .cap = cap};

    if (m->path_handling_v1)
        join_v1(&w, base, strip ? remainder_of(path, m->prefix_len) : without_first(path));
    else if (strip)
        join_v0(&w, base, remainder_of(path, m->prefix_len), path);
    else
        keep_v0(&w, base, path);
    *len = w.len;
    return !w.full;
}
