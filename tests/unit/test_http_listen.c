/* What stands before HTTP: the listen grammar, trusted addresses, the PROXY header. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <arpa/inet.h>
#include <cmocka.h>

#include "dataplane/listen/options.h"
#include "dataplane/listen/proxy_protocol.h"

static const struct {
    const char *text;
    bool good;
    uint16_t port;
    bool ssl, http2, proxy;
    int backlog;
} listens[] = {
    {"127.0.0.1:80", true, 80, false, false, false, 511},
    {"0.0.0.0:8443 http2 ssl reuseport backlog=16384", true, 8443, true, true, false, 16384},
    {"[::]:8000 ipv6only=off", true, 8000, false, false, false, 511},
    {"127.0.0.1:80 proxy_protocol bind deferred so_keepalive=on", true, 80, false, false, true,
     511},
    {"127.0.0.1:80 so_keepalive=30m::10", true, 80, false, false, false, 511},
    {"127.0.0.1", false},
    {"127.0.0.1:", false},
    {"127.0.0.1:x", false},
    {"127.0.0.1:65536", false},
    {":80", false},
    {"", false},
    {"127.0.0.1:80 udp", false},
    {"127.0.0.1:80 backlog=0", false},
    {"127.0.0.1:80 so_keepalive=1", false},
    {"127.0.0.1:80 SSL", false},
};

static void test_listen(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_listen *out;
    struct sb_err err;
    size_t n;

    (void)state;
    for (size_t i = 0; i < sizeof listens / sizeof *listens; i++) {
        struct sb_str item = sb_str_c(listens[i].text);
        enum sb_rc rc = sb_listen_parse(a, "proxy_listen", &item, 1, &out, &n, &err);

        assert_int_equal(rc, listens[i].good ? SB_OK : SB_INVALID);
        if (rc)
            continue;
        assert_int_equal(n, 1);
        assert_int_equal(out[0].port, listens[i].port);
        assert_int_equal(out[0].ssl, listens[i].ssl);
        assert_int_equal(out[0].http2, listens[i].http2);
        assert_int_equal(out[0].proxy_protocol, listens[i].proxy);
        assert_int_equal(out[0].backlog, listens[i].backlog);
    }
    assert_int_equal(sb_listen_parse(a, "proxy_listen", &SB_STR("off"), 1, &out, &n, &err), SB_OK);
    assert_int_equal(n, 0);
    sb_arena_free(a);
}

static const struct {
    const char *cidr, *address;
    bool inside;
} cidrs[] = {
    {"10.0.0.0/8", "10.255.0.1", true},
    {"10.0.0.0/8", "11.0.0.1", false},
    {"10.1.2.3", "10.1.2.3", true},
    {"10.1.2.3", "10.1.2.4", false},
    {"192.168.0.0/23", "192.168.1.9", true},
    {"192.168.0.0/23", "192.168.2.9", false},
    {"0.0.0.0/0", "1.2.3.4", true},
    {"0.0.0.0/0", "::1", false},
    {"::/0", "::1", true},
    {"2001:db8::/33", "2001:db8:7fff::1", true},
    {"2001:db8::/33", "2001:db8:8000::1", false},
};

static void test_cidr(void **state)
{
    struct sb_cidr c;

    (void)state;
    for (size_t i = 0; i < sizeof cidrs / sizeof *cidrs; i++) {
        union {
            struct sockaddr sa;
            struct sockaddr_in in;
            struct sockaddr_in6 in6;
        } a = {0};

        assert_true(sb_cidr_parse(sb_str_c(cidrs[i].cidr), &c));
        if (inet_pton(AF_INET, cidrs[i].address, &a.in.sin_addr) == 1) {
            a.sa.sa_family = AF_INET;
        } else {
            assert_int_equal(inet_pton(AF_INET6, cidrs[i].address, &a.in6.sin6_addr), 1);
            a.sa.sa_family = AF_INET6;
        }
        assert_int_equal(sb_cidr_has(&c, 1, &a.sa), cidrs[i].inside);
    }
    assert_false(sb_cidr_parse(SB_STR("10.0.0.0/33"), &c));
    assert_false(sb_cidr_parse(SB_STR("10.0.0"), &c));
    assert_false(sb_cidr_parse(SB_STR("a.test"), &c));
    assert_false(sb_cidr_parse(SB_STR("::/129"), &c));
}

#define V2  "\r\n\r\n\0\r\nQUIT\n"
#define CRC "\307\336\104\110" /* CRC-32C of the header it stands in */

static const struct {
    struct sb_str in;
    int used;
    const char *source;
    uint16_t port;
} proxies[] = {
    {SB_STR_INIT("PROXY TCP4 1.2.3.4 5.6.7.8 90 80\r\nGET"), 34, "1.2.3.4", 90},
    {SB_STR_INIT("PROXY TCP6 ::1 ::2 90 80\r\n"), 26, "::1", 90},
    {SB_STR_INIT("PROXY UNKNOWN\r\n"), 15, "", 0},
    {SB_STR_INIT("PROXY UNKNOWN whatever it says\r\n"), 32, "", 0},
    {SB_STR_INIT(V2 "\x21\x11\0\x0c\1\2\3\4\5\6\7\x08\0\x5a\0\x50X"), 28, "1.2.3.4", 90},
    {SB_STR_INIT(V2 "\x20\0\0\0"), 16, "", 0},
    /* LOCAL: whatever follows is skipped */
    {SB_STR_INIT(V2 "\x20\x11\0\x03\1\2\3"), 19, "", 0},
    /* attachments: ALPN, a no-op; a checksum that holds */
    {SB_STR_INIT(V2 "\x21\x11\0\x13\1\2\3\4\5\6\7\x08\0\x5a\0\x50\1\0\1h\4\0\0"), 35, "1.2.3.4",
     90},
    {SB_STR_INIT(V2 "\x21\x11\0\x13\1\2\3\4\5\6\7\x08\0\x5a\0\x50\3\0\4" CRC), 35, "1.2.3.4", 90},
    /* a datagram's addresses, and none at all */
    {SB_STR_INIT(V2 "\x21\x12\0\x0c\1\2\3\4\5\6\7\x08\0\x5a\0\x50"), 28, "", 0},
    {SB_STR_INIT(V2 "\x21\0\0\0"), 16, "", 0},
    {SB_STR_INIT(""), 0},
    {SB_STR_INIT("PROX"), 0},
    {SB_STR_INIT("PROXY TCP4 1.2.3.4"), 0},
    {SB_STR_INIT("\r\n\r\n"), 0},
    {SB_STR_INIT(V2 "\x21\x11\0\x0c\1\2"), 0},
    {SB_STR_INIT("GET / HTTP/1.1\r\n"), -1},
    {SB_STR_INIT("PROXY TCP4 ::1 ::2 90 80\r\n"), -1},
    {SB_STR_INIT("PROXY TCP4 1.2.3.4 5.6.7.8 90000 80\r\n"), -1},
    {SB_STR_INIT("PROXY TCP4 1.2.3.4 5.6.7.8 90\r\n"), -1},
    {SB_STR_INIT("PROXY TCP4 1.2.3.4 5.6.7.8 90 80 1\r\n"), -1},
    {SB_STR_INIT("PROXY TCP4 1.2.3.4 nowhere 90 80\r\n"), -1},
    {SB_STR_INIT("PROXY TCP4 1.2.3.4 5.6.7.8 +90 80\r\n"), -1},
    {SB_STR_INIT("PROXY TCP4 1.2.3.4 5.6.7.8 90 \r\n"), -1},
    {SB_STR_INIT(V2 "\x11\x11\0\x0c\1\2"), -1}, /* version 1 */
    {SB_STR_INIT(V2 "\x22\x11\0\0"), -1},       /* neither LOCAL nor PROXY */
    {SB_STR_INIT(V2 "\x21\x41\0\0"), -1},       /* no such family */
    {SB_STR_INIT(V2 "\x21\x11\0\4\1\2\3\4"), -1},
    {SB_STR_INIT(V2 "\x21\x11\0\x0e\1\2\3\4\5\6\7\x08\0\x5a\0\x50\4\0"), -1},
    {SB_STR_INIT(V2 "\x21\x11\0\x10\1\2\3\4\5\6\7\x08\0\x5a\0\x50\4\0\2x"), -1},
    {SB_STR_INIT(V2 "\x21\x11\0\x13\1\2\3\4\5\6\7\x08\0\x5a\0\x50\3\0\4\1\2\3\4"), -1},
    {SB_STR_INIT(V2 "\x21\x11\xff\xff\1\2"), -1},
};

static void test_proxy_header(void **state)
{
    struct sb_proxy_header h;

    (void)state;
    for (size_t i = 0; i < sizeof proxies / sizeof *proxies; i++) {
        assert_int_equal(sb_proxy_header_parse(proxies[i].in, &h), proxies[i].used);
        if (proxies[i].used > 0) {
            assert_string_equal(h.source, proxies[i].source);
            assert_int_equal(h.source_port, proxies[i].port);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_listen),
        cmocka_unit_test(test_cidr),
        cmocka_unit_test(test_proxy_header),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
