#include "dataplane/http/h2_fields.h"

struct sb_h2_fields *sb_h2_fields(void)
{
    static _Thread_local void *mine;
    struct sb_h2_fields *fields = sb_thread_memory(&mine, sizeof *fields);

    fields->n = 0;
    fields->full = false;
    return fields;
}

/* A new value each time: a place in the compression's table would only push others out. */
static bool changes_always(struct sb_str name)
{
    return name.len == 17 && sb_str_ieq(name, SB_STR("X-Kong-Request-Id"));
}

void sb_h2_field(struct sb_h2_fields *f, struct sb_str name, struct sb_str value)
{
    union {
        const char *in;
        uint8_t *out;
    } n = {.in = name.p}, v = {.in = value.p};

    if (f->n == SB_H2_FIELDS_MAX) {
        f->full = true;
        return;
    }
    f->nv[f->n++] = (nghttp2_nv){
        .name = n.out,
        .value = v.out,
        .namelen = name.len,
        .valuelen = value.len,
        .flags = changes_always(name) ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE,
    };
}

static bool of_connection(struct sb_str name, bool host)
{
    switch (name.len) {
    case 4:
        return !host && sb_str_ieq(name, SB_STR("host"));
    case 7:
        return sb_str_ieq(name, SB_STR("upgrade"));
    case 10:
        return sb_str_ieq(name, SB_STR("connection")) || sb_str_ieq(name, SB_STR("keep-alive"));
    case 16:
        return sb_str_ieq(name, SB_STR("proxy-connection"));
    case 17:
        return sb_str_ieq(name, SB_STR("transfer-encoding"));
    default:
        return false;
    }
}

void sb_h2_field_lines(struct sb_h2_fields *f, struct sb_str head, bool host)
{
    const char *end = head.p + head.len, *at = memchr(head.p, '\n', head.len);

    while (at && ++at < end) {
        const char *lf = memchr(at, '\n', (size_t)(end - at)), *colon;
        struct sb_str name, value;

        if (!lf)
            return;
        colon = memchr(at, ':', (size_t)(lf - at));
        if (colon) {
            name = sb_str_n(at, (size_t)(colon - at));
            value = sb_str_trim(sb_str_n(colon + 1, (size_t)(lf - colon) - 1));
            if (!of_connection(name, host))
                sb_h2_field(f, name, value);
        }
        at = lf;
    }
}

void sb_h2_field_trailers(struct sb_h2_fields *f, const struct sb_trailers *t)
{
    for (size_t i = 0; i < t->n; i++)
        sb_h2_field(f, t->fields[i].name, t->fields[i].value);
}

struct sb_str sb_h2_flat_head(struct sb_exchange *x, const struct sb_gather *g)
{
    size_t len = 0, at = 0;
    char *flat;

    if (g->head == 1)
        return sb_str_n(g->iov[0].iov_base, g->iov[0].iov_len);
    for (int i = 0; i < g->head; i++)
        len += g->iov[i].iov_len;
    flat = sb_arena_alloc(sb_exchange_arena(x), len);
    for (int i = 0; i < g->head; i++) {
        memcpy(flat + at, g->iov[i].iov_base, g->iov[i].iov_len);
        at += g->iov[i].iov_len;
    }
    return sb_str_n(flat, len);
}
