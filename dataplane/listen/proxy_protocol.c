#include "dataplane/listen/proxy_protocol.h"

#include <arpa/inet.h>

static const char signature[12] = {'\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};

enum { V1_MAX = 107, V2_HEAD = 16, V2_LOCAL = 0, V2_PROXY = 1, TLV_HEAD = 3, TLV_CRC32C = 3 };
enum { STREAM = 1, FAMILIES = 4, CRC_LEN = 4 };

static bool is_address(struct sb_str text, int family, char out[INET6_ADDRSTRLEN])
{
    uint8_t addr[16];

    if (text.len >= INET6_ADDRSTRLEN)
        return false;
    memcpy(out, text.p, text.len);
    out[text.len] = '\0';
    return inet_pton(family, out, addr) == 1;
}

static bool is_port(struct sb_str text, uint16_t *out)
{
    unsigned port = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (text.p[i] < '0' || text.p[i] > '9' || text.len > 5)
            return false;
        port = port * 10 + (unsigned)(text.p[i] - '0');
    }
    *out = (uint16_t)port;
    return text.len > 0 && port <= 65535;
}

/* "PROXY TCP4 source destination sport dport\r\n" */
static int parse_v1(struct sb_str in, struct sb_proxy_header *out)
{
    ptrdiff_t end = sb_str_find(in, SB_STR("\r\n"), 0);
    struct sb_str line, word[6];
    char destination[INET6_ADDRSTRLEN];
    struct sb_proxy_header h = {0};
    uint16_t port;
    size_t n = 0;
    int family;

    if (end < 0)
        return in.len < V1_MAX ? 0 : -1;
    if (end > V1_MAX - 2)
        return -1;
    line = sb_str_first(in, (size_t)end);
    while (n < 6 && sb_str_split(&line, ' ', &word[n]))
        n++;
    if (n >= 2 && sb_str_is(word[1], "UNKNOWN"))
        return (int)end + 2;
    if (n != 6 || line.len || (!sb_str_is(word[1], "TCP4") && !sb_str_is(word[1], "TCP6")))
        return -1;
    family = sb_str_is(word[1], "TCP4") ? AF_INET : AF_INET6;
    if (!is_address(word[2], family, h.source) || !is_address(word[3], family, destination) ||
        !is_port(word[4], &h.source_port) || !is_port(word[5], &port))
        return -1;
    *out = h;
    return (int)end + 2;
}

static uint16_t be16(const char *p)
{
    return (uint16_t)((unsigned char)p[0] << 8 | (unsigned char)p[1]);
}

static uint32_t be32(const char *p)
{
    return (uint32_t)be16(p) << 16 | be16(p + 2);
}

/* CRC-32C, a bit at a time: headers are short and few carry one. */
static uint32_t crc32c(uint32_t crc, const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        crc ^= (unsigned char)p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return crc;
}

/* Of the whole header, as if the field itself were zero. */
static bool checksum_holds(struct sb_str header, size_t at)
{
    static const char zero[CRC_LEN];
    uint32_t crc = crc32c(~0u, header.p, at);

    crc = crc32c(crc, zero, sizeof zero);
    crc = crc32c(crc, header.p + at + CRC_LEN, header.len - at - CRC_LEN);
    return ~crc == be32(header.p + at);
}

/* What follows the addresses; false: it is broken. */
static bool attachments_hold(struct sb_str header, size_t at)
{
    while (at < header.len) {
        size_t len;

        if (header.len - at < TLV_HEAD)
            return false;
        len = be16(header.p + at + 1);
        if (header.len - at - TLV_HEAD < len)
            return false;
        if (header.p[at] == TLV_CRC32C &&
            (len != CRC_LEN || !checksum_holds(header, at + TLV_HEAD)))
            return false;
        at += TLV_HEAD + len;
    }
    return true;
}

static int parse_v2(struct sb_str in, struct sb_proxy_header *out)
{
    /* by family: none, IPv4, IPv6, UNIX */
    static const size_t addresses_len[FAMILIES] = {0, 12, 36, 216};
    unsigned command, family, transport;
    size_t len;

    if (in.len < V2_HEAD)
        return 0;
    command = (unsigned char)in.p[12] & 15;
    family = (unsigned char)in.p[13] >> 4;
    transport = (unsigned char)in.p[13] & 15;
    len = be16(in.p + 14);
    if ((unsigned char)in.p[12] >> 4 != 2 || command > V2_PROXY || family >= FAMILIES ||
        V2_HEAD + len > SB_PROXY_HEADER_MAX)
        return -1;
    if (in.len < V2_HEAD + len)
        return 0;
    in = sb_str_first(in, V2_HEAD + len);
    if (command == V2_LOCAL) /* a health check of the proxy's own; the rest is to be skipped */
        return (int)in.len;
    if (len < addresses_len[family] || !attachments_hold(in, V2_HEAD + addresses_len[family]))
        return -1;
    if (transport == STREAM && family == 1) {
        inet_ntop(AF_INET, in.p + V2_HEAD, out->source, sizeof out->source);
        out->source_port = be16(in.p + V2_HEAD + 8);
    } else if (transport == STREAM && family == 2) {
        inet_ntop(AF_INET6, in.p + V2_HEAD, out->source, sizeof out->source);
        out->source_port = be16(in.p + V2_HEAD + 32);
    }
    return (int)in.len;
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
