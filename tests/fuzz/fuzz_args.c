/* Arguments of queries and forms, and references to secrets: slices stay within the input, decoding
 * never grows, and what needs none is not copied. */
#include <stdlib.h>
#include <string.h>

#include "dataplane/plugins/args.h"
#include "shared/err.h"
#include "shared/secret_ref.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_args(struct sb_arena *a, struct sb_str text)
{
    struct sb_str rest = text;
    struct sb_arg arg, found;
    size_t len = 0;

    while (sb_arg_next(a, &rest, &arg)) {
        len += arg.name.len + arg.value.len;
        sb_assert(arg.name.len > 0);
        sb_assert(sb_arg_find(a, text, arg.name, &found) && sb_str_eq(found.name, arg.name));
    }
    sb_assert(len <= text.len);
}

/* What was read, written and read again is the same. */
static void read_all(struct sb_arena *a, struct sb_str text)
{
    struct sb_value *once, *twice;

    if (sb_args_object(a, text, &once))
        return;
    sb_assert(sb_args_object(a, sb_args_text(a, once), &twice) == SB_OK);
    sb_assert(sb_value_equal(once, twice));
    sb_assert(sb_args_object(a, sb_args_text_sorted(a, once), &twice) == SB_OK);
    sb_assert(sb_value_equal(once, twice));
}

static void read_reference(struct sb_arena *a, struct sb_str text)
{
    struct sb_secret_ref ref;
    struct sb_str prefix = SB_STR(""), out;
    struct sb_err err;

    if (!sb_secret_ref_is(text) || sb_secret_ref_parse(a, text, &ref, &err))
        return;
    sb_assert(ref.vault.len + ref.resource.len + ref.key.len <= text.len);
    (void)sb_secret_ref_option(a, &ref, "prefix", &prefix);
    (void)sb_secret_env_prefix(prefix);
    (void)sb_secret_env_name(a, prefix, ref.resource, ref.version);
    (void)!sb_secret_subfield(a, prefix, ref.key, &out, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sb_arena *a = sb_arena_new(0);
    char *buf = sb_xmalloc(size);
    size_t head = size < 512 ? size : 512; /* finding each is quadratic */

    memcpy(buf, data, size);
    read_args(a, sb_str_n(buf, head));
    read_all(a, sb_str_n(buf, size));
    read_reference(a, sb_str_n(buf, size));
    free(buf);
    sb_arena_free(a);
    return 0;
}
