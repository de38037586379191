#include "controlplane/translate/expression.h"

#include "shared/buf.h"

static void put_literal(struct sb_buf *b, struct sb_str s)
{
    static const char plain[] = "\\\"\n\r\t", escaped[] = "\\\"nrt";

    sb_buf_char(b, '"');
    for (size_t i = 0; i < s.len; i++) {
        const char *special = memchr(plain, s.p[i], sizeof plain - 1);

        if (special)
            sb_buf_char(b, '\\');
        sb_buf_char(b, special ? escaped[special - plain] : s.p[i]);
    }
    sb_buf_char(b, '"');
}

struct sb_str predicate(struct sb_arena *a, struct sb_str field, const char *op,
                        struct sb_str literal)
{
    struct sb_buf b;
    struct sb_str text;

    sb_buf_init(&b, 0);
    sb_buf_str(&b, field);
    sb_buf_printf(&b, " %s ", op);
    put_literal(&b, literal);
    text = sb_arena_str(a, sb_buf_get(&b));
    sb_buf_release(&b);
    return text;
}

void operand_add(struct sb_arena *a, struct operands *o, struct sb_str operand)
{
    if (!operand.len)
        return;
    if (!o->list)
        o->list = sb_value_array(a);
    sb_array_push(a, o->list, sb_value_str(a, operand));
}

static struct sb_str join(struct sb_arena *a, const struct operands *o, const char *op)
{
    struct sb_buf b;
    struct sb_str text;
    struct sb_value *item;

    if (!o->list)
        return SB_STR("");
    if (o->list->count == 1)
        return o->list->items[0]->s;
    sb_buf_init(&b, 0);
    sb_array_each (item, o->list) {
        if (b.len)
            sb_buf_printf(&b, " %s ", op);
        sb_buf_printf(&b, "(%.*s)", SB_ARG(item->s));
    }
    text = sb_arena_str(a, sb_buf_get(&b));
    sb_buf_release(&b);
    return text;
}

struct sb_str all_of(struct sb_arena *a, const struct operands *o)
{
    return join(a, o, "&&");
}

struct sb_str any_of(struct sb_arena *a, const struct operands *o)
{
    return join(a, o, "||");
}
