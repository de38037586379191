/* session_cookie.h - the sealed state of a session: Kong's wire format (plugins-auth.md), so that
 * cookies and rows written by either are read by both. Nothing here touches an exchange.
 *
 *     cookie   [ header, 82 bytes as 110 characters ][ payload, when it is not in the database ]
 *     payload  base64url(AES-256-GCM(key of this id, content)), the header as additional data
 *     content  JSON: [[[consumer, credential, [group ...]], audience, subject], ...]
 *
 * The header carries its own MAC, so that touching a session costs no decryption. Keys are derived
 * from the secret and the session's random id, which is new with every save.
 */
#ifndef SB_DATAPLANE_PLUGINS_AUTH_SESSION_COOKIE_H
#define SB_DATAPLANE_PLUGINS_AUTH_SESSION_COOKIE_H

#include "shared/arena.h"
#include "shared/digest.h"
#include "shared/value.h"

enum {
    SB_SESSION_ID_LEN = 32,
    SB_SESSION_HEADER_LEN = 110, /* as text */
    SB_SESSION_PAYLOAD_MAX = 9 * 4096,
    SB_SESSION_CONTENT_MAX = 256 * 1024, /* inflated */
};

struct sb_session_keys {
    uint8_t ikm[SB_SHA256_LEN];
    bool remember; /* of a persistent cookie: the key is stretched, 10,000 rounds */
};

struct sb_session_header {
    uint8_t id[SB_SESSION_ID_LEN];
    bool stored;          /* the payload is in the database */
    bool deflated;        /* the content */
    int64_t created_s;    /* since 1970 */
    int64_t rolling_s;    /* from created to the last save */
    int64_t idling_s;     /* from the last save to the last touch */
    uint32_t payload_len; /* as text */
    uint8_t tag[16];
    uint8_t sealed[47]; /* what tag and payload belong to: the header's first bytes as read */
};

/* In seconds; 0: never. */
struct sb_session_timeouts {
    int64_t idling_s, rolling_s, absolute_s;
};

void sb_session_keys_init(struct sb_session_keys *keys, struct sb_str secret, bool remember);

/* Reads the header at the front of a cookie; false when it is none, or not ours. */
bool sb_session_header_read(const struct sb_session_keys *keys, struct sb_str cookie,
                            struct sb_session_header *out);
/* Its text, without a NUL. For a header that was read or sealed. */
void sb_session_header_write(const struct sb_session_keys *keys,
                             const struct sb_session_header *header,
                             char out[SB_SESSION_HEADER_LEN]);

/* The content behind a header; NULL: it was tampered with, or is none. */
struct sb_value *sb_session_open(struct sb_arena *a, const struct sb_session_keys *keys,
                                 const struct sb_session_header *header, struct sb_str payload);
/* Gives the header a new id and seals the content; p NULL: it is too much for cookies. */
struct sb_str sb_session_seal(struct sb_arena *a, const struct sb_session_keys *keys,
                              struct sb_session_header *header, const struct sb_value *content);

/* Seconds until the session is over by each of the timeouts and, the least, at all; INT64_MAX where
 * never. */
struct sb_session_left {
    int64_t idling_s, rolling_s, absolute_s, least_s;
};
struct sb_session_left sb_session_left(const struct sb_session_header *header,
                                       const struct sb_session_timeouts *timeouts, int64_t now_s);

#endif
