/* log_format.h - what a line of the access log says.
 *
 * Formats are nginx's, because that is what people's settings hold (KONG_NGINX_HTTP_LOG_FORMAT):
 *
 *     log_format NAME [escape=default|json|none] 'text $variable ${variable}' ...;
 *
 * They are compiled once into a list of pieces. A variable that is not in the table
 * (log_variables.c) is refused by name at the start, not written as "-" for ever.
 */
#ifndef SB_DATAPLANE_HTTP_LOG_FORMAT_H
#define SB_DATAPLANE_HTTP_LOG_FORMAT_H

#include <stdbool.h>
#include <stddef.h>

#include "shared/arena.h"
#include "shared/err.h"
#include "shared/str.h"

struct sb_exchange;
struct sb_log_format;

/* What has to be kept for a line beyond what every exchange keeps; bits. */
enum { SB_LOG_WANTS_RESPONSE = 1, SB_LOG_WANTS_LOCAL_IP = 2 };

/* The format of that name: built in ("kong_log_format", which "" stands for; "combined"), or
 * defined in text, which holds what a log_format directive is given, and may be NULL. err says what
 * is wrong with it, for an administrator. */
SB_MUST enum sb_rc sb_log_format_new(struct sb_arena *a, struct sb_str name, const char *text,
                                     const struct sb_log_format **out, struct sb_err *err);
unsigned sb_log_format_wants(const struct sb_log_format *f);
/* A line with its line end into to; its length, never more than max, which is at least 2: what does
 * not fit is left out. */
size_t sb_log_format_write(const struct sb_log_format *f, struct sb_exchange *x, char *to,
                           size_t max);

/* -- for the table of variables -- */

enum sb_log_escape { SB_LOG_ESCAPE_DEFAULT, SB_LOG_ESCAPE_JSON, SB_LOG_ESCAPE_NONE };

struct sb_line {
    char *p, *end;
    enum sb_log_escape escape;
};

/* As it is. */
void sb_line_text(struct sb_line *l, const char *p, size_t len);
/* Escaped as the format wants it; absent is "-", in JSON nothing. */
void sb_line_value(struct sb_line *l, struct sb_str s);
void sb_line_number(struct sb_line *l, uint64_t n);
void sb_line_seconds(struct sb_line *l, int64_t ms); /* 1.234 */

struct sb_log_variable {
    const char *name; /* with a '_' at its end: a family, rest is what follows it */
    void (*put)(struct sb_line *l, struct sb_exchange *x, struct sb_str rest);
    unsigned wants;
    bool header; /* of a family: rest is the name of a header, as sb_http_name_is() takes it */
};

/* Ended by name NULL. */
extern const struct sb_log_variable sb_log_variables[];

#endif
