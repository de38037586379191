/* hostname.c - more than one colon is IPv6, only digits and dots (colons aside) IPv4, else a name.
 */
#include "schema/hostname.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "shared/buf.h"

static enum sb_host_type type_of(struct sb_str s)
{
    size_t colons = 0;
    bool digits = true;

    for (size_t i = 0; i < s.len; i++) {
        colons += s.p[i] == ':';
        digits = digits && (isdigit((unsigned char)s.p[i]) || s.p[i] == '.' || s.p[i] == ':');
    }
    if (colons > 1)
        return SB_HOST_IPV6;
    return digits && s.len > colons ? SB_HOST_IPV4 : SB_HOST_NAME;
}

/* The digits behind the last colon; -1 when there are none, 65536 and above are the caller's to
 * refuse. */
static int trailing_port(struct sb_str s, struct sb_str *before)
{
    ptrdiff_t colon = sb_str_rchr(s, ':');
    long port = 0;

    *before = s;
    if (colon < 0 || (size_t)colon + 1 == s.len)
        return -1;
    for (size_t i = (size_t)colon + 1; i < s.len; i++) {
        if (!isdigit((unsigned char)s.p[i]))
            return -1;
        port = port < 100000 ? port * 10 + (s.p[i] - '0') : port;
    }
    *before = sb_str_first(s, (size_t)colon);
    return (int)port;
}

static bool read_name(struct sb_str s, struct sb_host *out, const char **why)
{
    struct sb_str name, rest, segment;

    *why = "invalid hostname: ";
    out->port = trailing_port(s, &name);
    if (out->port > 65535) {
        *why = "invalid port number";
        return false;
    }
    for (size_t i = 0; i < name.len; i++) {
        char c = name.p[i];

        if (!isalnum((unsigned char)c) && c != '-' && c != '.' && c != '_')
            return false;
    }
    rest = name;
    while (sb_str_split(&rest, '.', &segment)) {
        bool trailing_dot = segment.len == 0 && !rest.p && name.len > 1;

        if ((segment.len == 0 && !trailing_dot) || sb_str_ends(segment, SB_STR("-")))
            return false;
    }
    out->host = name;
    return name.len > 0;
}

static bool read_ipv4(struct sb_arena *a, struct sb_str s, struct sb_host *out, const char **why)
{
    struct sb_str rest, part;
    int n[4] = {0}, count = 0;

    *why = "invalid ipv4 address: ";
    out->port = trailing_port(s, &rest);
    if (sb_str_chr(rest, ':', 0) >= 0)
        return false;
    while (sb_str_split(&rest, '.', &part)) {
        if (count == 4 || part.len < 1 || part.len > 3)
            return false;
        for (size_t i = 0; i < part.len; i++)
            n[count] = n[count] * 10 + (part.p[i] - '0');
        if (n[count++] > 255)
            return false;
    }
    if (count != 4)
        return false;
    if (out->port > 65535) {
        *why = "invalid port number";
        return false;
    }
    out->host = sb_arena_printf(a, "%d.%d.%d.%d", n[0], n[1], n[2], n[3]);
    return true;
}

/* Eight groups of one to four hex digits; "::" stands for as many zero groups as are missing. */
static bool read_groups(struct sb_arena *a, struct sb_str s, struct sb_host *out)
{
    char text[64], full[48];
    unsigned char b[16];
    int n = 0;

    if (s.len >= sizeof text || memchr(s.p, '.', s.len))
        return false;
    memcpy(text, s.p, s.len);
    text[s.len] = '\0';
    if (inet_pton(AF_INET6, text, b) != 1)
        return false;
    for (int i = 0; i < 16; i += 2)
        n +=
            snprintf(full + n, sizeof full - (size_t)n, "%s%02x%02x", i ? ":" : "", b[i], b[i + 1]);
    out->host = sb_arena_printf(a, "[%s]", full);
    return true;
}

static bool read_ipv6(struct sb_arena *a, struct sb_str s, struct sb_host *out, const char **why)
{
    ptrdiff_t close = sb_str_chr(s, ']', 0);
    struct sb_str inside = s, before;

    *why = "invalid ipv6 address: ";
    out->port = -1;
    if (s.len && s.p[0] == '[') {
        if (close < 0)
            return false;
        inside = sb_str_n(s.p + 1, (size_t)close - 1);
        s = sb_str_from(s, (size_t)close + 1);
        if (s.len) {
            out->port = trailing_port(s, &before);
            if (out->port < 0 || before.len)
                return false;
        }
        if (out->port > 65535) {
            *why = "invalid port number";
            return false;
        }
    }
    return read_groups(a, inside, out);
}

bool sb_host_read(struct sb_arena *a, struct sb_str text, struct sb_host *out, const char **why)
{
    out->type = type_of(text);
    switch (out->type) {
    case SB_HOST_IPV6:
        return read_ipv6(a, text, out, why);
    case SB_HOST_IPV4:
        return read_ipv4(a, text, out, why);
    case SB_HOST_NAME:
        return read_name(text, out, why);
    }
    return false;
}

bool sb_ip_valid(struct sb_str text, bool cidr, bool v4_only)
{
    char buf[64];
    unsigned char b[16];
    ptrdiff_t slash = sb_str_chr(text, '/', 0);
    int64_t bits = 0;
    struct sb_str ip = slash < 0 ? text : sb_str_first(text, (size_t)slash);
    bool v6 = sb_str_chr(ip, ':', 0) >= 0;

    if ((slash >= 0 && !cidr) || (v6 && v4_only) || ip.len >= sizeof buf)
        return false;
    if (slash >= 0 && (!sb_str_int(sb_str_from(text, (size_t)slash + 1), &bits) || bits < 0 ||
                       bits > (v6 ? 128 : 32)))
        return false;
    memcpy(buf, ip.p, ip.len);
    buf[ip.len] = '\0';
    return inet_pton(v6 ? AF_INET6 : AF_INET, buf, b) == 1;
}
