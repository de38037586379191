/* digest.h - digests and text codings, on OpenSSL. */
#ifndef SB_SHARED_DIGEST_H
#define SB_SHARED_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/arena.h"
#include "shared/str.h"

enum { SB_MD5_LEN = 16, SB_SHA1_LEN = 20, SB_SHA256_LEN = 32 };

void sb_md5(struct sb_str in, uint8_t out[SB_MD5_LEN]);
void sb_sha1(struct sb_str in, uint8_t out[SB_SHA1_LEN]);
void sb_sha256(struct sb_str in, uint8_t out[SB_SHA256_LEN]);

/* Lower-case hex, in the arena. */
struct sb_str sb_hex(struct sb_arena *a, const void *p, size_t len);
/* Standard alphabet; encode pads, decode takes padding or none and skips line ends. */
struct sb_str sb_base64_encode(struct sb_arena *a, struct sb_str in);
bool sb_base64_decode(struct sb_arena *a, struct sb_str in, struct sb_str *out);
/* The URL alphabet ('-' and '_'): encode does not pad, decode ends at padding or does without. */
struct sb_str sb_base64url_encode(struct sb_arena *a, struct sb_str in);
bool sb_base64url_decode(struct sb_arena *a, struct sb_str in, struct sb_str *out);

/* Random bytes fit for secrets. */
void sb_random(void *p, size_t len);

#endif
