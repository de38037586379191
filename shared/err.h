/* err.h - one convention for what can fail.
 *
 * A function that can fail returns enum sb_rc (SB_OK is zero), is marked SB_MUST, fills out-params
 * only on success and takes `struct sb_err *err` last where words are needed; err is untouched on
 * success, and may be NULL when the words are not wanted. The callee says what failed, callers add
 * where (sb_err_at), the owner of the unit of work logs it or turns it into an answer: once.
 */
#ifndef SB_SHARED_ERR_H
#define SB_SHARED_ERR_H

#include <stdarg.h>

#define SB_MUST __attribute__((warn_unused_result))

enum sb_rc {
    SB_OK = 0,
    SB_INVALID, /* what was given is wrong */
    SB_NOTFOUND,
    SB_CONFLICT,    /* unique or foreign key, optimistic lock */
    SB_UNAVAILABLE, /* the other side is away; trying again may help */
    SB_TIMEOUT,
    SB_DENIED,   /* not allowed: fenced, forbidden, wrong password */
    SB_TOOLARGE, /* a limit was met */
    SB_IO,       /* the system refused */
    SB_AGAIN,    /* would block */
};

enum { SB_ERR_LEN_MAX = 2048 };

struct sb_err {
    enum sb_rc rc;
    char text[SB_ERR_LEN_MAX];
};

/* Sets the words (longer ones are cut) and returns rc, so that `return sb_err_set(...)` reads. */
enum sb_rc sb_err_set(struct sb_err *err, enum sb_rc rc, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "where: " before the words there are. */
void sb_err_at(struct sb_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

const char *sb_rc_name(enum sb_rc rc);

/* Ours to keep: a broken assertion ends the process with its place and a backtrace. Stays on in
 * production, so keep it cheap. */
#define sb_assert(cond) ((cond) ? (void)0 : sb_bug(#cond, __FILE__, __LINE__, __func__))
void sb_bug(const char *cond, const char *file, int line, const char *func)
    __attribute__((noreturn, cold));

#endif
