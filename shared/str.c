#include "shared/str.h"

#include <errno.h>
#include <stdlib.h>

bool sb_str_ieq(struct sb_str a, struct sb_str b)
{
    return a.len == b.len && sb_str_icmp(a, b) == 0;
}

int sb_str_cmp(struct sb_str a, struct sb_str b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int c = n ? memcmp(a.p, b.p, n) : 0;

    return c ? c : (a.len > b.len) - (a.len < b.len);
}

static int lower(char c)
{
    return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : (unsigned char)c;
}

int sb_str_icmp(struct sb_str a, struct sb_str b)
{
    size_t n = a.len < b.len ? a.len : b.len;

    for (size_t i = 0; i < n; i++) {
        int d = lower(a.p[i]) - lower(b.p[i]);

        if (d)
            return d;
    }
    return (a.len > b.len) - (a.len < b.len);
}

bool sb_str_starts(struct sb_str s, struct sb_str prefix)
{
    return s.len >= prefix.len && sb_str_eq(sb_str_first(s, prefix.len), prefix);
}

bool sb_str_ends(struct sb_str s, struct sb_str suffix)
{
    return s.len >= suffix.len && sb_str_eq(sb_str_from(s, s.len - suffix.len), suffix);
}

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct sb_str sb_str_trim(struct sb_str s)
{
    while (s.len && blank(s.p[0]))
        s = sb_str_from(s, 1);
    while (s.len && blank(s.p[s.len - 1]))
        s.len--;
    return s;
}

ptrdiff_t sb_str_chr(struct sb_str s, char c, size_t from)
{
    const char *hit = from < s.len ? memchr(s.p + from, c, s.len - from) : NULL;

    return hit ? hit - s.p : -1;
}

ptrdiff_t sb_str_rchr(struct sb_str s, char c)
{
    const char *hit = s.len ? memrchr(s.p, c, s.len) : NULL;

    return hit ? hit - s.p : -1;
}

ptrdiff_t sb_str_find(struct sb_str s, struct sb_str needle, size_t from)
{
    const char *hit;

    if (from > s.len)
        return -1;
    if (needle.len == 0)
        return (ptrdiff_t)from;
    hit = memmem(s.p + from, s.len - from, needle.p, needle.len);
    return hit ? hit - s.p : -1;
}

bool sb_str_split(struct sb_str *rest, char sep, struct sb_str *piece)
{
    ptrdiff_t at;

    if (!rest->p)
        return false;
    at = sb_str_chr(*rest, sep, 0);
    if (at < 0) {
        *piece = *rest;
        *rest = (struct sb_str){NULL, 0};
        return true;
    }
    *piece = sb_str_first(*rest, (size_t)at);
    *rest = sb_str_from(*rest, (size_t)at + 1);
    return true;
}

enum { NUMBER_LEN_MAX = 64 };

static bool terminated(struct sb_str s, char out[NUMBER_LEN_MAX])
{
    if (s.len == 0 || s.len >= NUMBER_LEN_MAX || blank(s.p[0]) || memchr(s.p, 0, s.len))
        return false;
    memcpy(out, s.p, s.len);
    out[s.len] = '\0';
    return true;
}

bool sb_str_int(struct sb_str s, int64_t *out)
{
    char text[NUMBER_LEN_MAX], *end;
    long long n;

    if (!terminated(s, text))
        return false;
    errno = 0;
    n = strtoll(text, &end, 10);
    if (*end || errno)
        return false;
    *out = n;
    return true;
}

bool sb_str_num(struct sb_str s, double *out)
{
    char text[NUMBER_LEN_MAX], *end;
    double n;

    if (!terminated(s, text))
        return false;
    n = strtod(text, &end);
    if (*end)
        return false;
    *out = n;
    return true;
}

uint64_t sb_str_hash(struct sb_str s, uint64_t seed)
{
    uint64_t h = 14695981039346656037ull ^ seed;

    for (size_t i = 0; i < s.len; i++)
        h = (h ^ (unsigned char)s.p[i]) * 1099511628211ull;
    return h ^ (h >> 29);
}
