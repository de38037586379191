/* call.h - inside admin/: one request to the Admin API or to the status listener, and its answer.
 *
 * Handlers see a call, never a socket: serve.c fills the question, sends what they answered, and
 * frees the arena in which both live.
 */
#ifndef SB_DATAPLANE_ADMIN_CALL_H
#define SB_DATAPLANE_ADMIN_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include "schema/entity.h"
#include "shared/value.h"

struct sb_admin_node;

enum sb_method { /* bits, for what an endpoint takes */
                 SB_GET = 1,
                 SB_HEAD = 2,
                 SB_POST = 4,
                 SB_PUT = 8,
                 SB_PATCH = 16,
                 SB_DELETE = 32,
                 SB_OPTIONS = 64,
                 SB_OTHER = 128,
                 SB_EVERY = 255, /* whatever is asked, the answer is one: OPTIONS and HEAD too */
};

enum { SB_SEGMENTS_MAX = 8, SB_PARAMS_MAX = 4, SB_ARGS_MAX = 1000 };

struct sb_arg {
    struct sb_str name, value;
    bool bare; /* "name" without '=' */
};

struct sb_header {
    const char *name;
    struct sb_str value;
};

struct sb_call {
    struct sb_admin_node *node;
    struct sb_arena *arena;
    int64_t began_us;

    /* the question */
    enum sb_method method;
    struct sb_str raw_path;                  /* as sent, without the query */
    struct sb_str segments[SB_SEGMENTS_MAX]; /* decoded */
    size_t nsegments;
    struct sb_str params[SB_PARAMS_MAX]; /* the segments that stand for {..} of the endpoint */
    struct sb_arg *args;
    size_t nargs;
    struct sb_str content_type, origin, request_headers; /* "" when not sent */
    struct sb_str body;
    bool is_form;           /* the body came as a form: values are text, to be read by type */
    struct sb_value *input; /* what it says; an object */

    /* the answer */
    int status;
    struct sb_value *json; /* NULL: text */
    struct sb_str text;    /* with its content_type; "" for no body */
    const char *answer_type;
    struct sb_header extra[4];
    size_t nextra;
};

/* The first query argument of that name, or NULL. */
const struct sb_arg *sb_call_arg(const struct sb_call *c, const char *name);

/* Splits "/a/b%20c" into decoded segments; false when there are too many. */
bool sb_call_split_path(struct sb_call *c, struct sb_str path);
/* "a=b&c" decoded; false when there are too many. */
bool sb_args_parse(struct sb_arena *a, struct sb_str text, struct sb_arg **out, size_t *n);
/* Percent escapes and, where plus says so, '+'. */
struct sb_str sb_url_decode(struct sb_arena *a, struct sb_str s, bool plus);
struct sb_str sb_url_encode(struct sb_arena *a, struct sb_str s);

void sb_answer(struct sb_call *c, int status, struct sb_value *json);
void sb_answer_text(struct sb_call *c, int status, const char *type, struct sb_str text);
void sb_answer_nothing(struct sb_call *c, int status);
/* {"message": ..} */
void sb_answer_message(struct sb_call *c, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void sb_answer_not_found(struct sb_call *c);
void sb_answer_error(struct sb_call *c, const struct sb_kong_error *e);
void sb_answer_header(struct sb_call *c, const char *name, struct sb_str value);

#endif
