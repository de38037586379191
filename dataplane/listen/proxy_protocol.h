/* proxy_protocol.h - the PROXY header, versions 1 and 2, in front of a connection
 * (haproxy: doc/proxy-protocol.txt).
 *
 * Of version 2's attachments (TLVs) only the checksum is looked at: where there is one it must be
 * right. Connections of the proxy's own (LOCAL), sockets without addresses (UNKNOWN, UNIX) and
 * datagrams tell no source: the peer's own address stands.
 */
#ifndef SB_DATAPLANE_LISTEN_PROXY_PROTOCOL_H
#define SB_DATAPLANE_LISTEN_PROXY_PROTOCOL_H

#include <netinet/in.h>
#include <stdint.h>

#include "shared/str.h"

enum { SB_PROXY_HEADER_MAX = 4096 };

struct sb_proxy_header {
    char source[INET6_ADDRSTRLEN]; /* "" for LOCAL, UNKNOWN and families without addresses */
    uint16_t source_port;
};

/* The header's length when it is complete, 0 when more bytes are needed, -1 when it is none. */
int sb_proxy_header_parse(struct sb_str in, struct sb_proxy_header *out);

#endif
