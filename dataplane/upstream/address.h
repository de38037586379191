/* address.h - an IP address with a port, from text and to it. */
#ifndef SB_DATAPLANE_UPSTREAM_ADDRESS_H
#define SB_DATAPLANE_UPSTREAM_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/str.h"

union sb_sockaddr {
    struct sockaddr sa;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

enum { SB_ADDRESS_TEXT = INET6_ADDRSTRLEN + 2 };

/* An address as text ("10.0.0.1", "::1", "[::1]"): false when it is none. */
bool sb_address_parse(struct sb_str text, uint16_t port, union sb_sockaddr *out);
/* Without the port, IPv6 in brackets: how Kong names addresses. Returns out, NUL-terminated. */
const char *sb_address_text(const union sb_sockaddr *addr, char out[SB_ADDRESS_TEXT]);
void sb_address_set_port(union sb_sockaddr *addr, uint16_t port);
socklen_t sb_address_len(const union sb_sockaddr *addr);

#endif
