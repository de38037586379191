#include "dataplane/admin/journal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dataplane/http/log_writer.h"
#include "shared/buf.h"
#include "shared/settings.h"

enum { FIELD_LEN_MAX = 4096 };

struct sb_journal {
    struct sb_arena *arena; /* of the target, which outlives the writer */
    struct sb_log_writer *writer;
};

enum sb_rc sb_journal_open(const struct sb_settings *settings, const char *setting,
                           struct sb_journal **out, struct sb_err *err)
{
    const char *text = sb_settings_str(settings, setting);
    struct sb_str rest = sb_str_c(text ? text : "off"), where;
    struct sb_log_target *target;
    struct sb_journal *j;
    enum sb_rc rc;

    *out = NULL;
    if (!sb_str_split(&rest, ' ', &where) || where.len == 0 || sb_str_is(where, "off"))
        return SB_OK;
    j = sb_xcalloc(1, sizeof *j);
    j->arena = sb_arena_new(0);
    if (!sb_str_starts(where, SB_STR("syslog:")))
        where = sb_settings_path(settings, j->arena, sb_arena_cstr(j->arena, where));
    rc = sb_log_target_parse(j->arena, where, &target, err);
    if (!rc)
        rc = sb_log_writer_new(target, &j->writer, err);
    if (rc) {
        sb_err_at(err, "%s", setting);
        sb_journal_close(j);
        return rc;
    }
    *out = j;
    return SB_OK;
}

/* As nginx escapes: what could end a field or a line goes in as \xHH. */
static void put(struct sb_buf *b, struct sb_str s)
{
    s = sb_str_first(s, s.len < FIELD_LEN_MAX ? s.len : FIELD_LEN_MAX);
    if (s.len == 0)
        sb_buf_char(b, '-');
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c < 0x20 || c > 0x7e || c == '"' || c == '\\')
            sb_buf_printf(b, "\\x%02X", c);
        else
            sb_buf_char(b, (char)c);
    }
}

static void compose(struct sb_buf *b, const struct sb_journal_entry *e)
{
    time_t now = time(NULL);
    char at[40];
    struct tm tm;

    localtime_r(&now, &tm);
    strftime(at, sizeof at, "%d/%b/%Y:%H:%M:%S %z", &tm);
    sb_buf_printf(b, "%s - - [%s] \"%s ", e->peer, at, e->method);
    put(b, sb_str_c(e->target));
    sb_buf_printf(b, " %s\" %d %zu \"", e->version, e->status, e->len);
    put(b, e->referer);
    sb_buf_cstr(b, "\" \"");
    put(b, e->agent);
    sb_buf_cstr(b, "\"\n");
}

void sb_journal_add(struct sb_journal *j, const struct sb_journal_entry *e)
{
    struct sb_log_block *block;
    struct sb_buf line;

    if (!j)
        return;
    sb_buf_init(&line, SB_LOG_BLOCK_LEN);
    compose(&line, e);
    block = sb_xmalloc(sizeof *block);
    block->next = NULL;
    block->lines = 1;
    block->len = line.len;
    memcpy(block->data, line.p, line.len);
    sb_log_writer_take(j->writer, block);
    sb_buf_release(&line);
}

void sb_journal_reopen(struct sb_journal *j)
{
    if (j)
        sb_log_writer_reopen(j->writer);
}

void sb_journal_close(struct sb_journal *j)
{
    if (!j)
        return;
    sb_log_writer_free(j->writer);
    sb_arena_free(j->arena);
    free(j);
}
