/* annotations.h - reading annotations, in the words of Go where KIC leans on them. */
#ifndef SB_CONTROLPLANE_TRANSLATE_ANNOTATIONS_H
#define SB_CONTROLPLANE_TRANSLATE_ANNOTATIONS_H

#include "shared/value.h"

/* metadata.annotations; NULL when there are none. */
const struct sb_value *annotations_of(const struct sb_value *object);

/* The value of konghq.com/NAME; p NULL when it is absent. */
struct sb_str kong_annotation(const struct sb_value *annotations, const char *name);
/* The same for a full name. */
struct sb_str annotation(const struct sb_value *annotations, const char *name);

/* Pieces between commas, trimmed, empty ones left out. */
struct sb_value *comma_list(struct sb_arena *a, struct sb_str s);

/* strconv.ParseBool; any_case: of the lower-cased text. */
bool go_bool(struct sb_str s, bool any_case, bool *out);

/* {name: [values]} of konghq.com/headers.*, ordered by name; NULL when there are none. */
struct sb_value *header_annotations(struct sb_arena *a, const struct sb_value *annotations);
/* konghq.com/methods, upper-cased; what is no method is still in it. */
struct sb_value *method_annotation(struct sb_arena *a, const struct sb_value *annotations);

/* As Go prints with %q. */
struct sb_str go_quoted(struct sb_arena *a, struct sb_str s);

bool is_method(struct sb_str s);
/* Labels of letters, digits and single dashes inside, between dots. */
bool is_plain_host(struct sb_str s);
/* A plain host, possibly with "*." before or ".*" behind it. */
bool is_host_alias(struct sb_str s);
/* A protocol that routes and services may be given by annotation (udp is not). */
bool is_protocol(struct sb_str s);

/* Applies the annotations of a route's object to its fields, in KIC's order. */
void route_annotations(struct sb_arena *a, struct sb_value *route,
                       const struct sb_value *annotations, bool expressions);
/* Applies those of a Service; false when its protocol is none (what follows is then left undone).
 */
bool service_annotations(struct sb_arena *a, struct sb_value *service,
                         const struct sb_value *annotations);

#endif
