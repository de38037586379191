#include "dataplane/http/access_log.h"

#include <stdlib.h>

#include "dataplane/http/exchange.h"

enum { FLUSH_MS = 100, LINE_LEN_MAX = 16 << 10 };

struct sb_access_log {
    struct sb_worker *w;
    const struct sb_log_format *format;
    struct sb_log_writer *writer;
    struct sb_log_block *block; /* NULL: nothing yet */
    struct sb_timer timer;
};

/* Words behind the format: we collect lines and write them in one go anyway. */
static enum sb_rc check_rest(struct sb_str rest, struct sb_err *err)
{
    struct sb_str word;

    while (sb_str_split(&rest, ' ', &word))
        if (word.len && !sb_str_starts(word, SB_STR("buffer=")) &&
            !sb_str_starts(word, SB_STR("flush=")))
            return sb_err_set(err, SB_INVALID, "\"%.*s\" is not supported here", SB_ARG(word));
    return SB_OK;
}

static enum sb_rc load(struct sb_arena *a, const struct sb_settings *s, struct sb_str text,
                       struct sb_access_options *out, struct sb_err *err)
{
    struct sb_str where = {0}, name = {0};
    enum sb_rc rc;

    while (where.len == 0 && sb_str_split(&text, ' ', &where))
        ;
    if (where.len == 0 || sb_str_is(where, "off"))
        return SB_OK;
    while (name.len == 0 && sb_str_split(&text, ' ', &name))
        ;
    if (!sb_str_starts(where, SB_STR("syslog:")))
        where = sb_settings_path(s, a, sb_arena_cstr(a, where));
    rc = sb_log_target_parse(a, where, &out->target, err);
    if (!rc)
        rc = sb_log_format_new(a, name, sb_settings_str(s, "nginx_http_log_format"), &out->format,
                               err);
    return rc ? rc : check_rest(text, err);
}

enum sb_rc sb_access_options_load(struct sb_arena *a, const struct sb_settings *s,
                                  struct sb_access_options *out, struct sb_err *err)
{
    const char *text = sb_settings_str(s, "proxy_access_log");
    enum sb_rc rc;

    *out = (struct sb_access_options){0};
    rc = load(a, s, sb_str_c(text ? text : ""), out, err);
    if (rc)
        sb_err_at(err, "proxy_access_log");
    return rc;
}

/* -- a worker's side --------------------------------------------------------------------------- */

static void hand_over(struct sb_access_log *log)
{
    struct sb_log_block *b = log->block;

    log->block = NULL;
    if (b)
        sb_log_writer_take(log->writer, b);
}

static void on_timer(struct sb_timer *t)
{
    hand_over((struct sb_access_log *)((char *)t - offsetof(struct sb_access_log, timer)));
}

struct sb_access_log *sb_access_log_new(struct sb_worker *w, const struct sb_log_format *format,
                                        struct sb_log_writer *writer)
{
    struct sb_access_log *log = sb_xcalloc(1, sizeof *log);

    *log = (struct sb_access_log){.w = w, .format = format, .writer = writer};
    sb_timer_init(&log->timer, on_timer);
    return log;
}

void sb_access_log_free(struct sb_access_log *log)
{
    if (!log)
        return;
    hand_over(log);
    sb_timer_remove(&log->timer, &log->w->wheel);
    free(log);
}

static void new_block(struct sb_access_log *log)
{
    log->block = sb_xmalloc(sizeof *log->block);
    log->block->len = log->block->lines = 0;
    sb_timer_set(&log->w->wheel, &log->timer, sb_now_ms(log->w) + FLUSH_MS);
}

void sb_access_log_add(struct sb_access_log *log, struct sb_exchange *x)
{
    struct sb_log_block *b;

    if (log->block && SB_LOG_BLOCK_LEN - log->block->len < LINE_LEN_MAX)
        hand_over(log);
    if (!log->block)
        new_block(log);
    b = log->block;
    b->len += sb_log_format_write(log->format, x, b->data + b->len, LINE_LEN_MAX);
    b->lines++;
}
