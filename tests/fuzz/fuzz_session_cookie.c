/* Any bytes as a session's cookie: none that this secret did not seal is opened. The second half of
 * the inputs get a header that is sealed, so that what lies behind it is reached, too. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "dataplane/plugins/auth/session_cookie.h"
#include "shared/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sb_arena *a = sb_arena_new(0);
    char *copy = sb_xmalloc(size + SB_SESSION_HEADER_LEN);
    struct sb_session_header h = {.created_s = 5};
    struct sb_session_keys keys;
    struct sb_str cookie = sb_str_n(copy, size);

    sb_session_keys_init(&keys, SB_STR("secret"), false);
    memcpy(copy, data, size);
    if (size && data[0] & 1) {
        h.stored = data[0] & 2;
        h.deflated = data[0] & 4;
        h.payload_len = (uint32_t)(size - 1);
        sb_session_header_write(&keys, &h, copy);
        memcpy(copy + SB_SESSION_HEADER_LEN, data + 1, size - 1);
        cookie.len = SB_SESSION_HEADER_LEN + size - 1;
    }
    if (sb_session_header_read(&keys, cookie, &h))
        sb_assert(!sb_session_open(a, &keys, &h, sb_str_from(cookie, SB_SESSION_HEADER_LEN)));
    free(copy);
    sb_arena_free(a);
    return 0;
}
