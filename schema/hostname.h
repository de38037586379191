/* hostname.h - names and addresses as Kong reads and spells them. */
#ifndef SB_SCHEMA_HOSTNAME_H
#define SB_SCHEMA_HOSTNAME_H

#include <stdbool.h>

#include "shared/arena.h"
#include "shared/str.h"

enum sb_host_type { SB_HOST_NAME, SB_HOST_IPV4, SB_HOST_IPV6 };

struct sb_host {
    enum sb_host_type type;
    struct sb_str host; /* IPv4 without leading zeros, IPv6 expanded, lower case, in brackets */
    int port;           /* -1: none given */
};

/* Reads host[:port]. False when it is none; *why is then what is wrong ("invalid hostname: ",
 * "invalid ipv4 address: ", "invalid ipv6 address: " to be followed by the text, or the whole of
 * "invalid port number"). */
bool sb_host_read(struct sb_arena *a, struct sb_str text, struct sb_host *out, const char **why);

/* IPv4 or IPv6, with /bits when cidr. */
bool sb_ip_valid(struct sb_str text, bool cidr, bool v4_only);

#endif
