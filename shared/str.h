/* str.h - a string is a pointer and a length, passed by value. It owns nothing: if it must outlive
 * what it points into, copy it (sb_arena_str) and let the copying be seen. Bytes, not characters;
 * NUL is a byte like another. Case folding is ASCII only, as HTTP and DNS want it.
 */
#ifndef SB_SHARED_STR_H
#define SB_SHARED_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct sb_str {
    const char *p;
    size_t len;
};

#define SB_STR(lit) ((struct sb_str){(lit), sizeof(lit) - 1})
#define SB_STR_INIT(lit)                                                                           \
    {                                                                                              \
        (lit), sizeof(lit) - 1                                                                     \
    }
/* printf("%.*s", SB_ARG(s)) */
#define SB_ARG(s) (int)(s).len, (s).p

/* NULL gives the empty string. */
static inline struct sb_str sb_str_c(const char *c)
{
    return (struct sb_str){c, c ? strlen(c) : 0};
}

static inline struct sb_str sb_str_n(const char *p, size_t len)
{
    return (struct sb_str){p, len};
}

static inline bool sb_str_eq(struct sb_str a, struct sb_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

static inline bool sb_str_is(struct sb_str a, const char *lit)
{
    return sb_str_eq(a, sb_str_c(lit));
}

/* From byte `from` (clamped) to the end; the first `len` bytes (clamped). */
static inline struct sb_str sb_str_from(struct sb_str s, size_t from)
{
    if (from > s.len)
        from = s.len;
    return (struct sb_str){s.p + from, s.len - from};
}

static inline struct sb_str sb_str_first(struct sb_str s, size_t len)
{
    return (struct sb_str){s.p, len < s.len ? len : s.len};
}

bool sb_str_ieq(struct sb_str a, struct sb_str b); /* equal but for ASCII case */
int sb_str_cmp(struct sb_str a, struct sb_str b);  /* bytewise; a prefix sorts first */
int sb_str_icmp(struct sb_str a, struct sb_str b);
bool sb_str_starts(struct sb_str s, struct sb_str prefix);
bool sb_str_ends(struct sb_str s, struct sb_str suffix);
struct sb_str sb_str_trim(struct sb_str s); /* without spaces, tabs, CR, LF around */

/* The offset of the first c (or first needle) at or after from; -1 when there is none. */
ptrdiff_t sb_str_chr(struct sb_str s, char c, size_t from);
ptrdiff_t sb_str_rchr(struct sb_str s, char c);
ptrdiff_t sb_str_find(struct sb_str s, struct sb_str needle, size_t from);

/* Cuts the next piece off *rest, up to sep: false when nothing is left. "a,,b" has three pieces,
 * "a," has "a" and "", "" has one, empty; a string with p NULL has none. */
bool sb_str_split(struct sb_str *rest, char sep, struct sb_str *piece);

/* Whole decimal numbers, sign allowed; false for anything else or overflow. */
bool sb_str_int(struct sb_str s, int64_t *out);
bool sb_str_num(struct sb_str s, double *out);

/* FNV-1a, for tables of our own; not against adversaries (maps seed their own). */
uint64_t sb_str_hash(struct sb_str s, uint64_t seed);

#endif
