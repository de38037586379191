/* buf.h - a byte buffer that grows, born with its limit.
 *
 * (I1) len <= cap and len <= max. (I2) Once an append would pass max, the buffer turns `full`,
 * keeps what it has and refuses more: writers append freely and look at `full` once, at the end.
 */
#ifndef SB_SHARED_BUF_H
#define SB_SHARED_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "shared/arena.h"
#include "shared/str.h"

struct sb_buf {
    char *p;
    size_t len, cap, max;
    bool full;
};

/* max: the most bytes it may hold; 0 means 1 GiB. Owns heap memory until release. */
void sb_buf_init(struct sb_buf *b, size_t max);
void sb_buf_release(struct sb_buf *b);
void sb_buf_clear(struct sb_buf *b); /* empties, keeps the memory */

/* Room for more bytes at the end (p + len), or NULL when that would pass max. */
char *sb_buf_reserve(struct sb_buf *b, size_t more);
void sb_buf_add(struct sb_buf *b, const void *p, size_t len);
void sb_buf_str(struct sb_buf *b, struct sb_str s);
void sb_buf_cstr(struct sb_buf *b, const char *s);
void sb_buf_char(struct sb_buf *b, char c);
void sb_buf_printf(struct sb_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sb_buf_vprintf(struct sb_buf *b, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));

/* The content; valid until the buffer changes. */
static inline struct sb_str sb_buf_get(const struct sb_buf *b)
{
    return (struct sb_str){b->p ? b->p : "", b->len};
}

/* Reads a whole file; false with errno when it cannot be read or is larger than max. */
bool sb_buf_read_file(struct sb_buf *b, const char *path);

#endif
