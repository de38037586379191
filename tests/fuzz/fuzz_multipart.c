/* Forms of parts: slices stay within the input, and a form that was written is read as the same. */
#include <stdlib.h>
#include <string.h>

#include "dataplane/plugins/multipart.h"
#include "shared/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool same(const struct sb_form *a, const struct sb_form *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (!sb_str_eq(a->parts[i].text, b->parts[i].text))
            return false;
    return true;
}

/* The first line is the content type, the rest the body. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sb_arena *a = sb_arena_new(0);
    char *buf = sb_xmalloc(size);
    struct sb_str rest = sb_str_n(buf, size), type = {0};
    struct sb_form once, twice;

    memcpy(buf, data, size);
    (void)sb_str_split(&rest, '\n', &type);
    if (rest.p && sb_form_parse(a, type, rest, &once) == SB_OK) {
        sb_assert(sb_form_parse(a, type, sb_form_text(a, &once), &twice) == SB_OK);
        sb_assert(same(&once, &twice));
        if (once.n && once.parts[0].name.p)
            sb_assert(sb_form_remove(&once, once.parts[0].name) > 0);
    }
    free(buf);
    sb_arena_free(a);
    return 0;
}
