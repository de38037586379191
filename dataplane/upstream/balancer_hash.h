/* balancer_hash.h - what consistent hashing takes from a request (reference/proxy-balancer.md 3):
 * hash_on, else hash_fallback, else the empty string, which is a value like another. */
#ifndef SB_DATAPLANE_UPSTREAM_BALANCER_HASH_H
#define SB_DATAPLANE_UPSTREAM_BALANCER_HASH_H

#include "shared/arena.h"
#include "shared/str.h"

struct sb_exchange;
struct sb_value;

enum sb_hash_source {
    SB_HASH_NONE,
    SB_HASH_CONSUMER,
    SB_HASH_IP,
    SB_HASH_HEADER,
    SB_HASH_COOKIE,
    SB_HASH_PATH,
    SB_HASH_ARG,
    SB_HASH_CAPTURE
};

struct sb_hash_input {
    enum sb_hash_source source;
    struct sb_str name, path; /* path: of the cookie */
};

struct sb_hash_inputs {
    struct sb_hash_input on, fallback;
};

/* From an upstream's row; strings are copied. */
void sb_hash_inputs_read(struct sb_arena *a, const struct sb_value *upstream,
                         struct sb_hash_inputs *out);
/* Once a request: a client without the cookie is given one with the response. */
uint32_t sb_hash_of(struct sb_exchange *x, const struct sb_hash_inputs *in);

#endif
