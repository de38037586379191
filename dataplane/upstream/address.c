#include "dataplane/upstream/address.h"

#include <arpa/inet.h>
#include <stdio.h>

bool sb_address_parse(struct sb_str text, uint16_t port, union sb_sockaddr *out)
{
    char addr[INET6_ADDRSTRLEN + 1];

    if (text.len > 2 && text.p[0] == '[' && text.p[text.len - 1] == ']')
        text = sb_str_n(text.p + 1, text.len - 2);
    if (text.len == 0 || text.len >= sizeof addr)
        return false;
    memcpy(addr, text.p, text.len);
    addr[text.len] = '\0';
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, addr, &out->in.sin_addr) == 1) {
        out->in.sin_family = AF_INET;
        out->in.sin_port = htons(port);
        return true;
    }
    out->in6.sin6_family = AF_INET6;
    out->in6.sin6_port = htons(port);
    return inet_pton(AF_INET6, addr, &out->in6.sin6_addr) == 1;
}

const char *sb_address_text(const union sb_sockaddr *addr, char out[SB_ADDRESS_TEXT])
{
    char text[INET6_ADDRSTRLEN];
    bool v6 = addr->sa.sa_family == AF_INET6;
    const void *bytes = v6 ? (const void *)&addr->in6.sin6_addr : (const void *)&addr->in.sin_addr;

    inet_ntop(addr->sa.sa_family, bytes, text, sizeof text);
    snprintf(out, SB_ADDRESS_TEXT, v6 ? "[%s]" : "%s", text);
    return out;
}

void sb_address_set_port(union sb_sockaddr *addr, uint16_t port)
{
    if (addr->sa.sa_family == AF_INET)
        addr->in.sin_port = htons(port);
    else
        addr->in6.sin6_port = htons(port);
}

socklen_t sb_address_len(const union sb_sockaddr *addr)
{
    return addr->sa.sa_family == AF_INET ? sizeof addr->in : sizeof addr->in6;
}
