/* dns_answer.h - reads what a name server sent (RFC 1035, 2782, 3596). Strangers' bytes: everything
 * has a limit, names are followed a bounded number of times, nothing is allocated. */
#ifndef SB_DATAPLANE_UPSTREAM_DNS_ANSWER_H
#define SB_DATAPLANE_UPSTREAM_DNS_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dataplane/upstream/address.h"

enum sb_dns_type { SB_DNS_A = 1, SB_DNS_CNAME = 5, SB_DNS_AAAA = 28, SB_DNS_SRV = 33 };

enum { SB_DNS_NAME_MAX = 255, SB_DNS_RECORDS_MAX = 64 };

struct sb_dns_record {
    char name[SB_DNS_NAME_MAX + 1]; /* of SRV: the target; of additional ones: whose address */
    union sb_sockaddr addr;
    uint16_t priority, weight, port;
    uint32_t ttl;
};

struct sb_dns_answer {
    struct sb_dns_record records[SB_DNS_RECORDS_MAX]; /* of the type asked for */
    size_t n;
    struct sb_dns_record extra[SB_DNS_RECORDS_MAX]; /* addresses that came along, with names */
    size_t nextra;
    char alias[SB_DNS_NAME_MAX + 1]; /* where a chain of CNAMEs ends; "" without one */
    uint32_t ttl;                    /* the least of the answer's */
};

/* False: malformed. What is more than fits is left out. Names are lower case, without final dot. */
bool sb_dns_parse(const unsigned char *msg, size_t len, enum sb_dns_type type,
                  struct sb_dns_answer *out);

#endif
