/* The response parser: no input harms it, and framing is never ambiguous. */
#include <stdlib.h>
#include <string.h>

#include "dataplane/http/parse.h"
#include "shared/arena.h"
#include "shared/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEADERS = 100 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sb_router_header headers[HEADERS];
    static uint8_t ids[HEADERS];
    struct sb_http_head h = {
        .headers = headers, .ids = ids, .headers_max = HEADERS, .line_max = 4096, .head_max = 4096};
    char *buf = sb_xmalloc(size);
    bool head_request = size && (data[size - 1] & 1);

    memcpy(buf, data, size);
    if (sb_http_parse_response(&h, buf, size, head_request) == SB_HTTP_DONE) {
        sb_assert(h.len <= size && h.status >= 100 && h.status <= 999);
        sb_assert(
            !(sb_http_has(&h, SB_H_CONTENT_LENGTH) && sb_http_has(&h, SB_H_TRANSFER_ENCODING)));
        sb_assert(!head_request || h.framing == SB_BODY_NONE);
        for (size_t i = 0; i < h.nheaders; i++)
            sb_assert(h.headers[i].name.p >= buf &&
                      h.headers[i].value.p + h.headers[i].value.len <= buf + size);
    }
    free(buf);
    return 0;
}
