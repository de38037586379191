/* priority.c - which of several matching routes wins.
 *
 * Kong ranks by a number of 64 bits, meant to be
 *
 *     61..63  how many kinds of attributes are set      52..59  how many headers
 *     60      hosts, and none of them a wildcard        51      regex paths
 *                                                       19..50  regex_priority
 *                                                        0..18  length of the prefix
 *
 * but computed with shifts of 32 bits: three fields land where the shift count modulo 32 puts them,
 * and an intermediate result that comes out negative becomes 1 << 63 when the fields are put
 * together. What traffic sees is the result, so that is what is computed here, field by field:
 *
 *     attributes  int32(w << 29)     headers  h << 20     regex_priority  int32(p << 19)
 *
 * (I1) Four attributes and more are alike, and above all others.
 * (I2) With neither plain hosts nor a regex all is one 32 bit number: a negative one loses
 *      everything, length and headers included.
 *
 * Equal numbers: the higher UUID first, and a candidate of a split route has one of its own.
 *
 * The flavor traditional compares in words: more kinds of attributes, then which kinds; wildcard
 * hosts with a port, plain hosts only, regex; more headers; for a regex its regex_priority, else
 * the longer prefix; the older route. Its rank is those fields in a row.
 */
#include "dataplane/router/rule.h"
#include "shared/uuid.h"

enum { HEADERS_MAX = 255, LENGTH_MASK = 0x7FFFF };

static const uint64_t plain_hosts_bit = 1ULL << 60, regex_bit = 1ULL << 51;

static int32_t shift32(int64_t n, unsigned by)
{
    return (int32_t)((uint32_t)n << by);
}

static uint64_t widen(int32_t n)
{
    return n < 0 ? 1ULL << 63 : (uint64_t)n;
}

static bool has(const struct sb_value *v)
{
    return v && v->count > 0;
}

static bool plain_hosts_only(const struct sb_value *hosts)
{
    const struct sb_value *host;

    sb_array_each (host, hosts) {
        if (sb_str_chr(host->s, '*', 0) >= 0)
            return false;
    }
    return has(hosts);
}

unsigned sb_rank_category(const struct sb_rule_row *row)
{
    return (has(row->destinations) ? SB_KIND_DST : 0) | (has(row->sources) ? SB_KIND_SRC : 0) |
           (has(row->snis) ? SB_KIND_SNI : 0) | (has(row->methods) ? SB_KIND_METHOD : 0) |
           (has(row->paths) ? SB_KIND_PATH : 0) | (has(row->headers) ? SB_KIND_HEADER : 0) |
           (has(row->hosts) ? SB_KIND_HOST : 0);
}

static uint32_t headers_capped(const struct sb_rule_row *row)
{
    uint32_t n = has(row->headers) ? row->headers->count : 0;

    return n < HEADERS_MAX ? n : HEADERS_MAX;
}

static uint64_t compatible(const struct sb_rule_row *row, bool regex, size_t length)
{
    bool plain = row->no_hosts || plain_hosts_only(row->hosts);
    int32_t w, h, p, l = (int32_t)(length & LENGTH_MASK);

    w = shift32(__builtin_popcount(row->category), 29);
    h = shift32(headers_capped(row), 20);
    p = regex ? shift32(row->regex_priority, 19) : 0;
    if (!plain && !regex)
        return widen(w | h | p | l);
    return widen(w) | widen(h) | widen(p) | (uint64_t)l | (plain ? plain_hosts_bit : 0) |
           (regex ? regex_bit : 0);
}

static uint64_t big_endian(const uint8_t b[8])
{
    uint64_t n = 0;

    for (int i = 0; i < 8; i++)
        n = n << 8 | b[i];
    return n;
}

/* The id that breaks ties: the route's own, or the one made for a part of it. */
static struct sb_rank with_id(uint64_t hi, struct sb_str id, size_t index)
{
    static const struct sb_uuid parts = {{0x7f, 0x14, 0x5b, 0xf9, 0x0d, 0xce, 0x4f, 0x91, 0x98,
                                          0xeb, 0xde, 0xbb, 0xce, 0x4b, 0x9f, 0x6b}};
    struct sb_uuid uuid = {0};

    if (index) {
        char name[128];
        int len = snprintf(name, sizeof name, "%.*s#%zu", SB_ARG(sb_str_first(id, 64)), index);

        uuid = sb_uuid_v5(&parts, sb_str_n(name, (size_t)len));
    } else if (!sb_uuid_parse(id, &uuid)) {
        memcpy(uuid.b, id.p, id.len < sizeof uuid.b ? id.len : sizeof uuid.b);
    }
    return (struct sb_rank){hi, big_endian(uuid.b), big_endian(uuid.b + 8)};
}

struct sb_rank sb_rank_compatible(const struct sb_rule_row *row, bool regex, size_t length,
                                  size_t index)
{
    return with_id(compatible(row, regex, length), row->id, index);
}

/* Exact address 8, port 4, range 1, put together over the elements. */
static uint64_t nets_weight(const struct sb_value *nets)
{
    const struct sb_value *net;
    uint64_t weight = 0;

    sb_array_each (net, nets) {
        struct sb_str ip = sb_value_str_at(net, "ip");

        if (ip.len)
            weight |= sb_str_chr(ip, '/', 0) >= 0 ? 1 : 8;
        if (!sb_is_nil(sb_get(net, "port")))
            weight |= 4;
    }
    return weight;
}

struct sb_rank sb_rank_stream(const struct sb_rule_row *row)
{
    bool top = has(row->snis) || (has(row->sources) && has(row->destinations));
    uint64_t hi =
        (uint64_t)top << 61 | nets_weight(row->sources) << 4 | nets_weight(row->destinations);

    return with_id(hi, row->id, 0);
}

/* Above every translated route. */
struct sb_rank sb_rank_expression(const struct sb_rule_row *row)
{
    return with_id(0xFFULL << 56 | (uint64_t)row->priority, row->id, 0);
}

/* -- traditional ------------------------------------------------------------------------------ */

enum { WILDCARD_PORT = 4, PLAIN_HOSTS = 2, REGEX_PATH = 1 };

static const uint64_t port_first_bit = 1ULL << 53;

static unsigned submatch_weight(const struct sb_rule_row *row, bool regex)
{
    unsigned weight = (regex ? REGEX_PATH : 0) | (plain_hosts_only(row->hosts) ? PLAIN_HOSTS : 0);
    const struct sb_value *host;

    sb_array_each (host, row->hosts) {
        int32_t port;

        sb_rule_split_host(SB_ROUTER_TRADITIONAL, host->s, &port);
        if (sb_str_chr(host->s, '*', 0) >= 0 && port != SB_ANY_PORT)
            weight |= WILDCARD_PORT;
    }
    return weight;
}

enum { INDEX_BITS = 10, INDEX_MAX = (1 << INDEX_BITS) - 1 };

struct sb_rank sb_rank_traditional(const struct sb_rule_row *row, bool regex, size_t length,
                                   size_t index)
{
    struct sb_rank rank = with_id(0, row->id, 0);
    uint64_t regex_priority = regex ? (uint32_t)row->regex_priority ^ 1u << 31 : 0;
    uint64_t age = ~(uint64_t)row->created_at & ((1ULL << 40) - 1);

    rank.hi = (uint64_t)__builtin_popcount(row->category) << 61 | (uint64_t)row->category << 54 |
              (uint64_t)submatch_weight(row, regex) << 50 | (uint64_t)headers_capped(row) << 42 |
              regex_priority << 10;
    rank.tie = rank.tie << INDEX_BITS | (INDEX_MAX - (index < INDEX_MAX ? index : INDEX_MAX));
    rank.lo = (uint64_t)(length < (1u << 24) ? length : (1u << 24) - 1) << 40 | age;
    return rank;
}

struct sb_rank sb_rank_port_first(struct sb_rank rank)
{
    rank.hi |= port_first_bit;
    return rank;
}
