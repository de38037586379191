#include "dataplane/plugins/credentials/rows.h"

#include <malloc.h>
#include <stdlib.h>

#include "shared/clock.h"

/* A block is filled twice: the first time with base NULL, to learn how long it must be. */
struct block {
    char *base;
    size_t len;
};

static void *room(struct block *b, size_t len)
{
    size_t at = (b->len + 7) & ~(size_t)7;

    b->len = at + len;
    return b->base ? b->base + at : NULL;
}

static struct sb_str put_str(struct block *b, struct sb_str s)
{
    char *p = b->base ? b->base + b->len : NULL;

    b->len += s.len + 1;
    if (!p)
        return s;
    if (s.len)
        memcpy(p, s.p, s.len);
    p[s.len] = 0;
    return sb_str_n(p, s.len);
}

static bool is_ttl(const struct sb_member *m, bool top)
{
    return top && sb_str_is(m->key, "ttl");
}

static void put_value(struct block *b, struct sb_value *to, const struct sb_value *v, bool top);

static struct sb_value *new_value(struct block *b, const struct sb_value *v, bool top)
{
    struct sb_value *to = room(b, sizeof *to);

    put_value(b, to, v, top);
    return to;
}

static void put_members(struct block *b, struct sb_value *to, const struct sb_value *v, bool top)
{
    struct sb_member *members = room(b, sizeof *members * v->count);
    uint32_t n = 0;

    for (uint32_t i = 0; i < v->count; i++) {
        const struct sb_member *m = &v->members[i];
        struct sb_member copy;

        if (is_ttl(m, top))
            continue;
        copy.key = put_str(b, m->key);
        copy.value = new_value(b, m->value, false);
        if (members)
            members[n++] = copy;
    }
    if (!to)
        return;
    to->members = members;
    to->count = to->cap = n;
}

static void put_items(struct block *b, struct sb_value *to, const struct sb_value *v)
{
    struct sb_value **items = room(b, sizeof *items * v->count);

    for (uint32_t i = 0; i < v->count; i++) {
        struct sb_value *item = new_value(b, v->items[i], false);

        if (items)
            items[i] = item;
    }
    if (!to)
        return;
    to->items = items;
    to->cap = to->count;
}

static void put_value(struct block *b, struct sb_value *to, const struct sb_value *v, bool top)
{
    struct sb_str s;

    if (to)
        *to = *v;
    switch (v->type) {
    case SB_V_STR:
        s = put_str(b, v->s);
        if (to)
            to->s = s;
        break;
    case SB_V_ARRAY:
        put_items(b, to, v);
        break;
    case SB_V_OBJECT:
        put_members(b, to, v, top);
        break;
    default:
        break;
    }
}

static int64_t expiry_ms(const struct sb_value *row, int64_t now_ms)
{
    const struct sb_value *ttl = sb_get(row, "ttl");

    return sb_is_number(ttl) ? now_ms + (int64_t)(sb_number(ttl) * 1000) : INT64_MAX;
}

static void fill_consumer(struct block *b, struct sb_found *found, const struct sb_value *v)
{
    struct sb_consumer *c = room(b, sizeof *c);

    if (!found)
        return;
    memset(c, 0, sizeof *c);
    c->id = found->id;
    c->username = sb_value_str_at(v, "username");
    c->custom_id = sb_value_str_at(v, "custom_id");
    found->consumer = c;
}

static void fill_credential(struct block *b, struct sb_found *found)
{
    struct sb_credential *c = room(b, sizeof *c);

    if (!found)
        return;
    memset(c, 0, sizeof *c);
    c->id = found->id;
    c->consumer_id = found->consumer_id;
    c->row = found;
    c->kind = found->kind->name;
    found->credential = c;
}

static void put_row(struct block *b, struct sb_found *found, const struct sb_entity *kind,
                    const struct sb_value *row, int64_t now_ms)
{
    struct sb_value *v = new_value(b, row, true);
    int64_t expires_ms = expiry_ms(row, now_ms);

    if (found) {
        *found = (struct sb_found){.kind = kind,
                                   .id = sb_value_str_at(v, "id"),
                                   .consumer_id = sb_value_str_at(v, "consumer.id"),
                                   .value = v};
        if (expires_ms != INT64_MAX)
            found->expires_ms = sb_wall_ms() + expires_ms - now_ms;
    }
    if (kind == sb_lookup_entity(SB_CONSUMER_BY_ID))
        fill_consumer(b, found, v);
    else
        fill_credential(b, found);
}

static void put_rows(struct block *b, const struct sb_row_values *values, int64_t now_ms)
{
    struct sb_rows *rows = room(b, sizeof *rows + sizeof rows->row[0] * values->n);
    const struct sb_entity *kind = sb_lookup_entity(values->by);

    for (size_t i = 0; i < values->n; i++)
        put_row(b, rows ? &rows->row[i] : NULL, kind, values->values[i], now_ms);
}

struct sb_rows *sb_rows_build(const struct sb_row_values *values, int64_t now_ms)
{
    struct block b = {0};
    struct sb_rows *rows;

    put_rows(&b, values, now_ms);
    rows = sb_xmalloc(b.len);
    b = (struct block){.base = (char *)rows};
    memset(rows, 0, sizeof *rows);
    put_rows(&b, values, now_ms);
    atomic_init(&rows->holders, 1);
    rows->size = malloc_usable_size(rows) + sizeof(size_t);
    rows->n = values->n;
    rows->key.by = values->by;
    rows->stale_ms = rows->expires_ms = INT64_MAX;
    for (size_t i = 0; i < values->n; i++) {
        int64_t expires_ms = expiry_ms(values->values[i], now_ms);

        if (expires_ms < rows->expires_ms)
            rows->expires_ms = expires_ms;
    }
    return rows;
}

void sb_rows_drop(struct sb_rows *rows)
{
    if (rows && atomic_fetch_sub_explicit(&rows->holders, 1, memory_order_acq_rel) == 1)
        free(rows);
}
