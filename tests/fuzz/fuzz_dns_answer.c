/* Answers of name servers: whatever comes, what is taken is whole and bounded. */
#include <stdlib.h>
#include <string.h>

#include "dataplane/upstream/dns_answer.h"
#include "shared/arena.h"
#include "shared/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct sb_dns_record *r, size_t n)
{
    sb_assert(n <= SB_DNS_RECORDS_MAX);
    for (size_t i = 0; i < n; i++)
        sb_assert(memchr(r[i].name, '\0', sizeof r[i].name));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum sb_dns_type types[] = {SB_DNS_A, SB_DNS_AAAA, SB_DNS_SRV, SB_DNS_CNAME};
    static struct sb_dns_answer out;
    unsigned char *msg = sb_xmalloc(size + 1);

    memcpy(msg, data, size);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (!sb_dns_parse(msg, size, types[i], &out))
            continue;
        check(out.records, out.n);
        check(out.extra, out.nextra);
        sb_assert(memchr(out.alias, '\0', sizeof out.alias));
    }
    free(msg);
    return 0;
}
