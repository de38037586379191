#include "dataplane/upstream/dns_answer.h"

#include <string.h>

enum { HEADER_LEN = 12, JUMPS_MAX = 32, TTL_MAX = 7 * 24 * 3600, CLASS_IN = 1 };

struct reader {
    const unsigned char *msg;
    size_t len, at;
    bool bad;
};

static unsigned take16(struct reader *r)
{
    unsigned v;

    if (r->bad || r->len - r->at < 2) {
        r->bad = true;
        return 0;
    }
    v = (unsigned)r->msg[r->at] << 8 | r->msg[r->at + 1];
    r->at += 2;
    return v;
}

static uint32_t take32(struct reader *r)
{
    uint32_t high = take16(r);

    return high << 16 | take16(r);
}

/* What a label may hold to be told apart in text. */
static bool put_label(char out[SB_DNS_NAME_MAX + 1], size_t *n, const unsigned char *label,
                      size_t len)
{
    if (*n + len + 1 > SB_DNS_NAME_MAX)
        return false;
    if (*n)
        out[(*n)++] = '.';
    for (size_t i = 0; i < len; i++) {
        if (label[i] <= ' ' || label[i] == '.' || label[i] >= 127)
            return false;
        out[(*n)++] = label[i] >= 'A' && label[i] <= 'Z' ? (char)(label[i] | 0x20) : (char)label[i];
    }
    return true;
}

/* A name, compressed or not. The reader goes on behind it. */
static void take_name(struct reader *r, char out[SB_DNS_NAME_MAX + 1])
{
    size_t at = r->at, n = 0;
    unsigned jumps = 0;
    bool jumped = false;

    while (!r->bad) {
        unsigned len;

        if (at >= r->len)
            break;
        len = r->msg[at++];
        if (len == 0) {
            out[n] = '\0';
            if (!jumped)
                r->at = at;
            return;
        }
        if (len >= 0xC0) {
            if (at >= r->len || jumps++ >= JUMPS_MAX)
                break;
            if (!jumped)
                r->at = at + 1;
            jumped = true;
            at = (size_t)(len & 0x3F) << 8 | r->msg[at];
            continue;
        }
        if (len > 63 || len > r->len - at || !put_label(out, &n, r->msg + at, len))
            break;
        at += len;
    }
    out[0] = '\0';
    r->bad = true;
}

static bool take_address(struct reader *r, unsigned type, size_t len, union sb_sockaddr *out)
{
    memset(out, 0, sizeof *out);
    if (type == SB_DNS_A && len == 4) {
        out->in.sin_family = AF_INET;
        memcpy(&out->in.sin_addr, r->msg + r->at, 4);
        return true;
    }
    if (type == SB_DNS_AAAA && len == 16) {
        out->in6.sin6_family = AF_INET6;
        memcpy(&out->in6.sin6_addr, r->msg + r->at, 16);
        return true;
    }
    return false;
}

static void take_srv(struct reader *r, struct sb_dns_record *to)
{
    to->priority = (uint16_t)take16(r);
    to->weight = (uint16_t)take16(r);
    to->port = (uint16_t)take16(r);
    take_name(r, to->name);
}

/* One record; extra: of the additional section. */
static void take_record(struct reader *r, enum sb_dns_type asked, bool extra,
                        struct sb_dns_answer *out)
{
    struct sb_dns_record found = {0};
    unsigned type, class;
    size_t len, end;

    take_name(r, found.name);
    type = take16(r);
    class = take16(r);
    found.ttl = take32(r);
    len = take16(r);
    if (r->bad || len > r->len - r->at) {
        r->bad = true;
        return;
    }
    end = r->at + len;
    if (found.ttl > TTL_MAX)
        found.ttl = found.ttl >> 31 ? 0 : TTL_MAX; /* RFC 2181: a set top bit is 0 */
    if (class != CLASS_IN) {
        r->at = end;
        return;
    }
    if (extra) {
        if (out->nextra < SB_DNS_RECORDS_MAX && take_address(r, type, len, &found.addr))
            out->extra[out->nextra++] = found;
    } else if (type == SB_DNS_CNAME) {
        take_name(r, out->alias);
        if (found.ttl < out->ttl)
            out->ttl = found.ttl;
    } else if (type == asked && out->n < SB_DNS_RECORDS_MAX) {
        bool good = type == SB_DNS_SRV || take_address(r, type, len, &found.addr);

        if (type == SB_DNS_SRV)
            take_srv(r, &found);
        if (good && found.ttl < out->ttl)
            out->ttl = found.ttl;
        if (good && !r->bad)
            out->records[out->n++] = found;
    }
    r->at = end;
}

bool sb_dns_parse(const unsigned char *msg, size_t len, enum sb_dns_type type,
                  struct sb_dns_answer *out)
{
    struct reader r = {.msg = msg, .len = len, .at = 4};
    unsigned questions, answers, authority, additional;
    char name[SB_DNS_NAME_MAX + 1];

    out->n = out->nextra = 0;
    out->alias[0] = '\0';
    out->ttl = UINT32_MAX;
    if (len < HEADER_LEN)
        return false;
    questions = take16(&r);
    answers = take16(&r);
    authority = take16(&r);
    additional = take16(&r);
    while (questions-- && !r.bad) {
        take_name(&r, name);
        (void)take32(&r);
    }
    while (answers-- && !r.bad)
        take_record(&r, type, false, out);
    if (r.bad)
        return false;
    while (authority-- && !r.bad) /* of no interest, but in the way */
        take_record(&r, SB_DNS_CNAME, true, out);
    out->nextra = 0;
    while (additional-- && !r.bad)
        take_record(&r, type, true, out);
    if (r.bad) /* the answer itself was whole */
        out->nextra = 0;
    return true;
}
