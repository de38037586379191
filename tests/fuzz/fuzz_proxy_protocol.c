/* PROXY headers: what is taken is never more than what is there. */
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
    free(buf);
    return 0;
}
