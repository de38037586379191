#include "shared/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { FIRST_CAP = 256 };

void sb_buf_init(struct sb_buf *b, size_t max)
{
    *b = (struct sb_buf){.max = max ? max : (size_t)1 << 30};
}

void sb_buf_release(struct sb_buf *b)
{
    free(b->p);
    *b = (struct sb_buf){.max = b->max};
}

void sb_buf_clear(struct sb_buf *b)
{
    b->len = 0;
    b->full = false;
}

char *sb_buf_reserve(struct sb_buf *b, size_t more)
{
    size_t cap = b->cap ? b->cap : FIRST_CAP;

    if (b->full || more > b->max - b->len) {
        b->full = true;
        return NULL;
    }
    if (b->cap - b->len >= more && b->p)
        return b->p + b->len;
    while (cap - b->len < more)
        cap *= 2;
    if (cap > b->max)
        cap = b->max;
    b->p = sb_xrealloc(b->p, cap);
    b->cap = cap;
    return b->p + b->len;
}

void sb_buf_add(struct sb_buf *b, const void *p, size_t len)
{
    char *to = sb_buf_reserve(b, len);

    if (!to || len == 0)
        return;
    memcpy(to, p, len);
    b->len += len;
}

void sb_buf_str(struct sb_buf *b, struct sb_str s)
{
    sb_buf_add(b, s.p, s.len);
}

void sb_buf_cstr(struct sb_buf *b, const char *s)
{
    sb_buf_add(b, s, strlen(s));
}

void sb_buf_char(struct sb_buf *b, char c)
{
    sb_buf_add(b, &c, 1);
}

void sb_buf_vprintf(struct sb_buf *b, const char *fmt, va_list ap)
{
    va_list again;
    char *to;
    int n;

    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, ap);
    to = n >= 0 ? sb_buf_reserve(b, (size_t)n + 1) : NULL;
    if (to) {
        vsnprintf(to, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

void sb_buf_printf(struct sb_buf *b, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    sb_buf_vprintf(b, fmt, ap);
    va_end(ap);
}

static bool read_all(struct sb_buf *b, int fd)
{
    for (;;) {
        char *to = sb_buf_reserve(b, 1);
        ssize_t n;

        if (!to) {
            errno = EFBIG;
            return false;
        }
        n = read(fd, to, b->cap - b->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0;
        b->len += (size_t)n;
    }
}

bool sb_buf_read_file(struct sb_buf *b, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool ok;
    int saved;

    if (fd < 0)
        return false;
    ok = read_all(b, fd);
    saved = errno;
    close(fd);
    errno = saved;
    return ok;
}
