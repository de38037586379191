#include "dataplane/listen/proxy_protocol.h"

#include <arpa/inet.h>

static const char signature[12] = {'\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};

enum { V1_MAX = 107, V2_HEAD = 16 };

static bool take_address(struct sb_str text, int family, struct sb_proxy_header *out)
{
    uint8_t addr[16];

    if (text.len >= sizeof out->source)
        return false;
    memcpy(out->source, text.p, text.len);
    out->source[text.len] = '\0';
    return inet_pton(family, out->source, addr) == 1;
}

/* "PROXY TCP4 source destination sport dport\r\n" */
static int parse_v1(struct sb_str in, struct sb_proxy_header *out)
{
    ptrdiff_t end = sb_str_find(in, SB_STR("\r\n"), 0);
    struct sb_str line, word[6];
    size_t n = 0;
    int64_t port;

    if (end < 0)
        return in.len < V1_MAX ? 0 : -1;
    if (end > V1_MAX - 2)
        return -1;
    line = sb_str_first(in, (size_t)end);
    while (n < 6 && sb_str_split(&line, ' ', &word[n]))
        n++;
    if (n >= 2 && sb_str_is(word[1], "UNKNOWN"))
        return (int)end + 2;
    if (n != 6 || line.len || (!sb_str_is(word[1], "TCP4") && !sb_str_is(word[1], "TCP6")) ||
        !take_address(word[2], sb_str_is(word[1], "TCP4") ? AF_INET : AF_INET6, out) ||
        !sb_str_int(word[4], &port) || port < 0 || port > 65535)
        return -1;
    out->source_port = (uint16_t)port;
    return (int)end + 2;
}

static uint16_t be16(const char *p)
{
    return (uint16_t)((unsigned char)p[0] << 8 | (unsigned char)p[1]);
}

static int parse_v2(struct sb_str in, struct sb_proxy_header *out)
{
    size_t len;
    unsigned family;

    if (in.len < V2_HEAD)
        return 0;
    len = be16(in.p + 14);
    family = (unsigned char)in.p[13] >> 4;
    if ((unsigned char)in.p[12] >> 4 != 2 || V2_HEAD + len > SB_PROXY_HEADER_MAX)
        return -1;
    if (in.len < V2_HEAD + len)
        return 0;
    if (((unsigned char)in.p[12] & 15) == 0)
        return (int)(V2_HEAD + len); /* LOCAL: a health check of the proxy's own */
    if (family == 1 && len >= 12) {
        inet_ntop(AF_INET, in.p + V2_HEAD, out->source, sizeof out->source);
        out->source_port = be16(in.p + V2_HEAD + 8);
    } else if (family == 2 && len >= 36) {
        inet_ntop(AF_INET6, in.p + V2_HEAD, out->source, sizeof out->source);
        out->source_port = be16(in.p + V2_HEAD + 32);
    }
    return (int)(V2_HEAD + len);
}

int sb_proxy_header_parse(struct sb_str in, struct sb_proxy_header *out)
{
    size_t n = in.len < sizeof signature ? in.len : sizeof signature;

    *out = (struct sb_proxy_header){0};
    if (n && memcmp(in.p, signature, n) == 0)
        return n < sizeof signature ? 0 : parse_v2(in, out);
    n = in.len < 6 ? in.len : 6;
    if (memcmp(in.p, "PROXY ", n) == 0)
        return n < 6 ? 0 : parse_v1(in, out);
    return -1;
}
