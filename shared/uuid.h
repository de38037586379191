/* uuid.h - RFC 4122 UUIDs: text form, random (v4) and name-based (v5). */
#ifndef SB_SHARED_UUID_H
#define SB_SHARED_UUID_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/str.h"

enum { SB_UUID_TEXT_LEN = 36 };

struct sb_uuid {
    uint8_t b[16];
};

/* 8-4-4-4-12 hex in any case, any version bits (as Kong takes them). */
bool sb_uuid_parse(struct sb_str s, struct sb_uuid *out);
/* Writes 36 lower-case characters and a NUL. */
void sb_uuid_format(const struct sb_uuid *u, char out[SB_UUID_TEXT_LEN + 1]);
struct sb_uuid sb_uuid_v4(void);
struct sb_uuid sb_uuid_v5(const struct sb_uuid *ns, struct sb_str name);

static inline bool sb_uuid_eq(const struct sb_uuid *a, const struct sb_uuid *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}

#endif
