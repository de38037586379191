/* Values that strangers bring: which of them a row can have. The C library's idea of UTF-8 is
 * asked, too: what we let pass must be text for the database, or every such key would cost an error
 * there.
 */
#include <iconv.h>
#include <stdlib.h>

#include "dataplane/plugins/credentials/lookup_kinds.h"
#include "shared/uuid.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_utf8(const uint8_t *data, size_t size)
{
    iconv_t to = iconv_open("UTF-32LE", "UTF-8");
    char *in = (char *)data, *out = sb_xmalloc(4 * size + 4), *at = out;
    size_t left = size, room = 4 * size + 4;
    bool ok = iconv(to, &in, &left, &at, &room) != (size_t)-1 && !memchr(data, 0, size);

    free(out);
    iconv_close(to);
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sb_str text = sb_str_n((const char *)data, size), id = text;
    bool fits = size <= SB_LOOKUP_VALUE_MAX;
    struct sb_uuid uuid;
    char room[37];

    sb_assert(sb_lookup_normalise(SB_KEYAUTH_BY_KEY, &text, room) == (fits && is_utf8(data, size)));
    sb_assert(text.p == (const char *)data && text.len == size);
    if (sb_lookup_normalise(SB_CONSUMER_BY_ID, &id, room))
        sb_assert(sb_uuid_parse(id, &uuid) && id.len == SB_UUID_TEXT_LEN);
    return 0;
}
