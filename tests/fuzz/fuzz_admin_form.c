/* Any bytes as what the Admin API reads of strangers: a path, a query, a form, a multipart body;
 * what they say is then read by the fields of an entity. */
#include <stddef.h>
#include <stdint.h>

#include "dataplane/admin/form.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct sb_entity *entity_of(uint8_t byte)
{
    const struct sb_entity *const *all = sb_entities();
    size_t n = 0;

    while (all[n])
        n++;
    return all[byte % n];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sb_str text = sb_str_n((const char *)data, size), rest, type;
    struct sb_schema_ctx ctx = {.arena = sb_arena_new(0)};
    struct sb_call c = {.arena = ctx.arena};
    const struct sb_entity *kind;
    struct sb_arg *args;
    size_t n;

    if (size > 1) {
        kind = entity_of(data[0]);
        text = sb_str_from(text, 1);
        (void)!sb_call_split_path(&c, text);
        if (sb_args_parse(c.arena, text, &args, &n))
            sb_form_read(&ctx, kind, sb_form_tree(c.arena, args, n));
        rest = text;
        sb_str_split(&rest, '\n', &type);
        if (rest.p && sb_form_multipart(c.arena, type, rest, &args, &n))
            sb_form_read(&ctx, kind, sb_form_tree(c.arena, args, n));
    }
    sb_arena_free(ctx.arena);
    return 0;
}
