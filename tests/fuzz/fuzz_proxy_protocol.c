/* PROXY headers: what is taken is never more than what is there, and what is taken when all of it
 * is there was waited for before. */
#include <stdlib.h>
#include <string.h>

#include "dataplane/listen/proxy_protocol.h"
#include "shared/arena.h"
#include "shared/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *buf = sb_xmalloc(size);
    struct sb_proxy_header h;
    int used;

    memcpy(buf, data, size);
    used = sb_proxy_header_parse(sb_str_n(buf, size), &h);
    sb_assert(used >= -1 && used <= (int)size);
    sb_assert(memchr(h.source, '\0', sizeof h.source));
    for (int n = 0; used > 0 && n < used; n++) {
        struct sb_proxy_header part;

        sb_assert(sb_proxy_header_parse(sb_str_n(buf, (size_t)n), &part) == 0);
    }
    free(buf);
    return 0;
}
