/* Any bytes as a signature header over a request of any bytes: a signature made up is never good,
 * and a good Digest header is one byte of the body away from a bad one. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "dataplane/plugins/auth/hmac_signature.h"
#include "shared/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct sb_str header(void *arg, struct sb_str name)
{
    const struct sb_str *value = arg;

    return name.len > 3 ? *value : (struct sb_str){0};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = sb_xmalloc(size);
    struct sb_str rest = sb_str_n(copy, size), line, value;
    struct sb_hmac_words w;

    memcpy(copy, data, size);
    if (sb_str_split(&rest, '\n', &line) && sb_auth_hmac(line, &w)) {
        const struct sb_hmac_subject s = {.method = SB_STR("GET"),
                                          .target = sb_str_first(rest, 100),
                                          .version = SB_STR("1.1"),
                                          .header = header,
                                          .arg = &value};

        value = sb_str_first(rest, 1000);
        if (sb_hmac_matches(&w, SB_STR("a secret"), &s))
            sb_assert(sb_hmac_known(w.algorithm));
    }
    if (sb_hmac_digest_matches(line, rest))
        sb_assert(!sb_hmac_digest_matches(line, sb_str_n(copy, size)));
    free(copy);
    return 0;
}
