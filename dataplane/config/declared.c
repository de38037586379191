#include "dataplane/config/declared.h"

#include <errno.h>

#include "dataplane/config/context.h"
#include "schema/declarative.h"
#include "shared/buf.h"

enum { DOCUMENT_LEN_MAX = 1 << 30 };

struct document {
    const char *file; /* NULL: a string */
    struct sb_str text;
};

/* Refused, in the words that Kong starts with. */
static enum sb_rc refuse(const struct document *d, struct sb_str why, struct sb_err *err)
{
    if (d->file)
        return sb_err_set(err, SB_INVALID, "error parsing declarative config file %s:\n%.*s",
                          d->file, SB_ARG(why));
    return sb_err_set(err, SB_INVALID, "error parsing declarative string %.*s:\n%.*s",
                      (int)(d->text.len < 200 ? d->text.len : 200), d->text.p, SB_ARG(why));
}

static enum sb_rc load(const struct sb_settings *settings, struct sb_arena *a,
                       const struct document *d, struct sb_value **rows, char hash[33],
                       struct sb_err *err)
{
    struct sb_schema_ctx ctx = sb_context(settings, a);
    struct sb_kong_error refused = {0};
    struct sb_value *doc = NULL;
    struct sb_err parse;

    if (sb_declarative_text(a, d->text, d->file, &doc, &parse))
        return refuse(d, sb_str_c(parse.text), err);
    if (sb_declarative_load(&ctx, doc, d->text, rows, hash, &refused))
        return refuse(d, sb_declarative_pretty(a, &refused), err);
    return SB_OK;
}

enum sb_rc sb_declared_read(const struct sb_settings *settings, struct sb_arena *a,
                            struct sb_value **rows, char hash[33], struct sb_err *err)
{
    const char *string = sb_settings_str(settings, "declarative_config_string");
    struct document d = {.file = sb_settings_str(settings, "declarative_config")};
    struct sb_buf text;
    enum sb_rc rc;

    if (!d.file && !string)
        return SB_NOTFOUND;
    sb_buf_init(&text, DOCUMENT_LEN_MAX);
    if (d.file && !sb_buf_read_file(&text, d.file)) {
        rc = refuse(&d, sb_str_c(strerror(errno)), err);
    } else {
        d.text = d.file ? sb_buf_get(&text) : sb_str_c(string);
        rc = load(settings, a, &d, rows, hash, err);
    }
    sb_buf_release(&text);
    return rc;
}
