/* Any bytes as a declarative document: loaded or refused with a body; what is loaded can be
 * exported and loaded again. */
#include <stddef.h>
#include <stdint.h>

#include "schema/declarative.h"
#include "shared/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void refuse(struct sb_arena *a, struct sb_kong_error *e)
{
    (void)sb_declarative_pretty(a, e);
    sb_declarative_flatten(a, e);
    (void)sb_json_text(a, sb_kong_error_body(a, e), 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_schema_ctx ctx = {.arena = a, .expressions = size & 1, .dbless = size & 2};
    struct sb_str text = sb_str_n((const char *)data, size);
    struct sb_value *doc, *rows, *dump;
    struct sb_kong_error e = {0};
    struct sb_err err;
    char hash[33];

    if (!sb_declarative_text(a, text, NULL, &doc, &err)) {
        if (sb_declarative_load(&ctx, doc, text, &rows, hash, &e)) {
            refuse(a, &e);
        } else {
            dump = sb_declarative_dump(&ctx, rows);
            sb_assert(sb_declarative_load(&ctx, dump, SB_STR(""), &rows, hash, &e) == SB_OK);
        }
    }
    sb_arena_free(a);
    return 0;
}
