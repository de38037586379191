#include "dataplane/plugins/multipart.h"

#include "shared/buf.h"

/* -- reading ---------------------------------------------------------------------------------- */

/* The parameter of a header: boundary=X, name="x". p NULL: it has none. */
static struct sb_str parameter(struct sb_str header, struct sb_str name)
{
    struct sb_str piece;

    while (header.len && sb_str_split(&header, ';', &piece)) {
        piece = sb_str_trim(piece);
        if (piece.len <= name.len || piece.p[name.len] != '=' ||
            !sb_str_ieq(sb_str_first(piece, name.len), name))
            continue;
        piece = sb_str_from(piece, name.len + 1);
        if (piece.len >= 2 && piece.p[0] == '"' && piece.p[piece.len - 1] == '"')
            piece = sb_str_n(piece.p + 1, piece.len - 2);
        return piece;
    }
    return (struct sb_str){0};
}

struct sb_str sb_part_mark(struct sb_arena *a, struct sb_str type)
{
    struct sb_str boundary = parameter(type, SB_STR("boundary"));

    return boundary.len ? sb_arena_printf(a, "--%.*s", SB_ARG(boundary)) : (struct sb_str){0};
}

/* A mark begins its line, and nothing that belongs to it follows. */
static bool is_mark(struct sb_str text, size_t at, size_t len)
{
    struct sb_str behind = sb_str_from(text, at + len);

    return (at == 0 || text.p[at - 1] == '\n') &&
           (behind.len == 0 || (behind.p[0] && strchr("\r\n \t", behind.p[0])) ||
            sb_str_starts(behind, SB_STR("--")));
}

static ptrdiff_t find_mark(struct sb_str text, struct sb_str mark, size_t from)
{
    ptrdiff_t at = sb_str_find(text, mark, from);

    while (at >= 0 && !is_mark(text, (size_t)at, mark.len))
        at = sb_str_find(text, mark, (size_t)at + 1);
    return at;
}

/* From the text of a part: its name, from its head, and what it holds. */
static void read_part(struct sb_part *p)
{
    ptrdiff_t end = sb_str_find(p->text, SB_STR("\r\n\r\n"), 0);
    struct sb_str rest, line, disposition = SB_STR("content-disposition:");

    p->name = (struct sb_str){0};
    rest = sb_str_first(p->text, end < 0 ? 0 : (size_t)end);
    p->value = sb_str_from(p->text, end < 0 ? 0 : (size_t)end + 4);
    while (rest.len && !p->name.p && sb_str_split(&rest, '\n', &line)) {
        line = sb_str_trim(line);
        if (sb_str_ieq(sb_str_first(line, disposition.len), disposition))
            p->name = parameter(line, SB_STR("name"));
    }
}

/* What stands between its boundary's line and the line end before the next. */
static struct sb_str text_of(struct sb_str whole)
{
    struct sb_str text = sb_str_from(whole, (size_t)(sb_str_chr(whole, '\n', 0) + 1));

    if (sb_str_ends(text, SB_STR("\n")))
        text.len--;
    if (sb_str_ends(text, SB_STR("\r")))
        text.len--;
    return text;
}

bool sb_part_next(struct sb_str text, struct sb_str mark, size_t *at, struct sb_part *out,
                  bool *ended)
{
    ptrdiff_t begin = find_mark(text, mark, *at), next;
    size_t head;

    *ended = false;
    if (begin < 0)
        return false;
    head = (size_t)begin + mark.len;
    *ended = sb_str_starts(sb_str_from(text, head), SB_STR("--"));
    if (*ended)
        return false;
    next = find_mark(text, mark, head);
    if (next < 0)
        return false;
    *at = (size_t)next;
    out->whole = sb_str_n(text.p + begin, (size_t)(next - begin));
    out->text = text_of(out->whole);
    read_part(out);
    return true;
}

/* -- a form ----------------------------------------------------------------------------------- */

static struct sb_part *new_part(struct sb_arena *a, struct sb_form *f)
{
    struct sb_part *grown;

    if (f->n == f->cap) {
        f->cap = f->cap ? 2 * f->cap : 16;
        grown = SB_NEW_N(a, struct sb_part, f->cap);
        if (f->n)
            memcpy(grown, f->parts, f->n * sizeof *grown);
        f->parts = grown;
    }
    return &f->parts[f->n++];
}

enum sb_rc sb_form_parse(struct sb_arena *a, struct sb_str type, struct sb_str text,
                         struct sb_form *out)
{
    struct sb_form f = {.mark = sb_part_mark(a, type)};
    struct sb_part part;
    bool ended = text.len == 0;
    size_t at = 0;

    if (!f.mark.p)
        return SB_INVALID;
    while (!ended && f.n <= SB_PARTS_MAX && sb_part_next(text, f.mark, &at, &part, &ended))
        *new_part(a, &f) = part;
    if (f.n > SB_PARTS_MAX)
        return SB_TOOLARGE;
    if (!ended)
        return SB_INVALID;
    *out = f;
    return SB_OK;
}

struct sb_part *sb_form_find(const struct sb_form *f, struct sb_str name)
{
    for (size_t i = f->n; i-- > 0;)
        if (f->parts[i].name.p && sb_str_eq(f->parts[i].name, name))
            return &f->parts[i];
    return NULL;
}

/* What would end the name in its header is escaped, as browsers do it. */
static void write_name(struct sb_buf *b, struct sb_str name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.p[i];

        if (c == '"' || c == '\r' || c == '\n')
            sb_buf_printf(b, "%%%02X", (unsigned)c);
        else
            sb_buf_char(b, c);
    }
}

static struct sb_str kept(struct sb_arena *a, struct sb_buf *b)
{
    struct sb_str text = sb_arena_str(a, sb_buf_get(b));

    sb_buf_release(b);
    return text;
}

static struct sb_part plain_field(struct sb_arena *a, struct sb_str name, struct sb_str value)
{
    struct sb_part part = {.name = name, .value = value};
    struct sb_buf b;

    sb_buf_init(&b, 0);
    sb_buf_cstr(&b, "Content-Disposition: form-data; name=\"");
    write_name(&b, name);
    sb_buf_cstr(&b, "\"\r\n\r\n");
    sb_buf_str(&b, value);
    part.text = kept(a, &b);
    return part;
}

void sb_form_add(struct sb_arena *a, struct sb_form *f, struct sb_str name, struct sb_str value)
{
    struct sb_part part = plain_field(a, name, value);

    *new_part(a, f) = part;
}

void sb_form_set(struct sb_arena *a, struct sb_form *f, struct sb_str name, struct sb_str value)
{
    struct sb_part *part = sb_form_find(f, name);

    if (part)
        *part = plain_field(a, name, value);
    else
        sb_form_add(a, f, name, value);
}

size_t sb_form_remove(struct sb_form *f, struct sb_str name)
{
    size_t left = 0, before = f->n;

    for (size_t i = 0; i < f->n; i++)
        if (!f->parts[i].name.p || !sb_str_eq(f->parts[i].name, name))
            f->parts[left++] = f->parts[i];
    f->n = left;
    return before - left;
}

struct sb_str sb_form_text(struct sb_arena *a, const struct sb_form *f)
{
    struct sb_buf b;

    sb_buf_init(&b, 0);
    for (size_t i = 0; i < f->n; i++) {
        sb_buf_str(&b, f->mark);
        sb_buf_cstr(&b, "\r\n");
        sb_buf_str(&b, f->parts[i].text);
        sb_buf_cstr(&b, "\r\n");
    }
    if (f->n) {
        sb_buf_str(&b, f->mark);
        sb_buf_cstr(&b, "--\r\n");
    }
    return kept(a, &b);
}
