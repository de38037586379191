/* The request parser: no input harms it, and it does not matter in how many pieces a head comes. */
#include <stdlib.h>
#include <string.h>

#include "dataplane/http/parse.h"
#include "shared/arena.h"
#include "shared/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEADERS = 100 };

struct parser {
    struct sb_router_header headers[HEADERS];
    uint8_t ids[HEADERS];
    struct sb_http_head head;
};

static void init(struct parser *p)
{
    p->head = (struct sb_http_head){.headers = p->headers,
                                    .ids = p->ids,
                                    .headers_max = HEADERS,
                                    .line_max = 1024,
                                    .head_max = 4096};
}

static bool inside(struct sb_str s, const char *buf, size_t len)
{
    return s.p == NULL || (s.p >= buf && s.p + s.len <= buf + len);
}

static void check(const struct sb_http_head *h, const char *buf, size_t len)
{
    struct sb_str name;

    sb_assert(h->len <= len);
    sb_assert(inside(h->method, buf, len) && inside(h->path, buf, len) &&
              inside(h->query, buf, len));
    sb_assert(h->path.len > 0 && h->path.p[0] == '/');
    sb_assert(!(h->framing == SB_BODY_CHUNKED && sb_http_has(h, SB_H_CONTENT_LENGTH)));
    sb_assert(h->version < 11 || (h->host.p && sb_http_host_valid(h->host, &name)));
    for (size_t i = 0; i < h->nheaders; i++) {
        sb_assert(inside(h->headers[i].name, buf, len) && h->headers[i].name.len > 0);
        sb_assert(inside(h->headers[i].value, buf, len));
        sb_assert(!memchr(h->headers[i].value.p, '\n', h->headers[i].value.len));
        sb_assert(!memchr(h->headers[i].value.p, '\r', h->headers[i].value.len));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct parser whole, pieces;
    char *buf = sb_xmalloc(size);
    enum sb_http_result a, b = SB_HTTP_MORE;
    size_t step = size ? 1 + data[0] % 7 : 1;

    memcpy(buf, data, size);
    init(&whole);
    init(&pieces);
    a = sb_http_parse_request(&whole.head, buf, size);
    for (size_t n = 0; n <= size && b == SB_HTTP_MORE;
         n = n < size && n + step > size ? size : n + step)
        b = sb_http_parse_request(&pieces.head, buf, n);
    if (a == SB_HTTP_DONE) {
        sb_assert(b == SB_HTTP_DONE && whole.head.len == pieces.head.len &&
                  whole.head.nheaders == pieces.head.nheaders);
        check(&whole.head, buf, size);
    }
    free(buf);
    return 0;
}
