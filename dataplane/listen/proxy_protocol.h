/* proxy_protocol.h - the PROXY header, versions 1 and 2, in front of a connection. */
#ifndef SB_DATAPLANE_LISTEN_PROXY_PROTOCOL_H
#define SB_DATAPLANE_LISTEN_PROXY_PROTOCOL_H

#include <netinet/in.h>
#include <stdint.h>

#include "shared/str.h"

enum { SB_PROXY_HEADER_MAX = 536 };

struct sb_proxy_header {
    char source[INET6_ADDRSTRLEN]; /* "" for LOCAL, UNKNOWN and families without addresses */
    uint16_t source_port;
};

/* The header's length when it is complete, 0 when more bytes are needed, -1 when it is none. */
int sb_proxy_header_parse(struct sb_str in, struct sb_proxy_header *out);

#endif
