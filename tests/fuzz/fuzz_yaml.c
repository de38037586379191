/* Any bytes as YAML: what is read is written, read again, and is the same. */
#include <stddef.h>
#include <stdint.h>

#include "shared/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *all, *again;
    struct sb_err err;
    struct sb_buf b;

    sb_buf_init(&b, 0);
    if (!sb_yaml_parse_all(a, sb_str_n((const char *)data, size), &all, &err)) {
        sb_yaml_write(&b, all);
        sb_assert(sb_yaml_parse(a, sb_buf_get(&b), &again, &err) == SB_OK);
        sb_assert(sb_value_equal(all, again));
    }
    sb_buf_release(&b);
    sb_arena_free(a);
    return 0;
}
