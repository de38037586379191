/* compile.h - one stored row into the object that workers use.
 *
 * Rows come from the database as anyone may have written them, so a compiler checks what it needs
 * and says what is wrong (SB_INVALID); columns that are null get the default of their field. What a
 * row refers to is found by the caller. Results live in the arena, which also gives back what is
 * not memory; strings are copied into it.
 */
#ifndef SB_DATAPLANE_CONFIG_COMPILE_H
#define SB_DATAPLANE_CONFIG_COMPILE_H

#include "dataplane/config/snapshot.h"
#include "shared/arena.h"
#include "shared/err.h"
#include "shared/value.h"

SB_MUST enum sb_rc sb_compile_certificate(struct sb_arena *a, const struct sb_value *row,
                                          struct sb_certificate **out, struct sb_err *err);
SB_MUST enum sb_rc sb_compile_ca_certificate(struct sb_arena *a, const struct sb_value *row,
                                             X509 **out, struct sb_err *err);

/* Without client_certificate, ca_store and upstream_slot. */
SB_MUST enum sb_rc sb_compile_service(struct sb_arena *a, const struct sb_value *row,
                                      struct sb_service **out, struct sb_err *err);
/* Whether a service's host is an IP address, so that it can't name an upstream. */
bool sb_host_is_address(struct sb_str host);

/* How the route matches is not looked at; service may be NULL only when the row has none. */
SB_MUST enum sb_rc sb_compile_route(struct sb_arena *a, const struct sb_value *row,
                                    const struct sb_service *service, struct sb_route **out,
                                    struct sb_err *err);

/* A target, with the time that tells which of two with the same name is newer. */
struct sb_compiled_target {
    struct sb_target target;
    double created_s;
};
SB_MUST enum sb_rc sb_compile_target(struct sb_arena *a, const struct sb_value *row,
                                     struct sb_compiled_target **out, struct sb_err *err);

/* targets is sorted in place. Without generation, slot and client_certificate. */
SB_MUST enum sb_rc sb_compile_upstream(struct sb_arena *a, const struct sb_value *row,
                                       const struct sb_compiled_target **targets, size_t ntargets,
                                       struct sb_upstream **out, struct sb_err *err);

#endif
