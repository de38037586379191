/* The HTTP/1.x parsers: what is refused with which status, what is understood how, and that it does
 * not matter in how many pieces a message comes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dataplane/http/chunked.h"
#include "dataplane/http/parse.h"
#include "shared/arena.h"

static struct sb_router_header headers[64];
static uint8_t ids[64];

static struct sb_http_head fresh(void)
{
    return (struct sb_http_head){.headers = headers,
                                 .ids = ids,
                                 .headers_max = 64,
                                 .line_max = SB_HTTP_LINE_MAX,
                                 .head_max = SB_HTTP_HEAD_MAX};
}

static const struct {
    const char *text;
    int result;
    const char *path, *query;
    enum sb_http_framing framing;
} requests[] = {
    {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0, "/", "", SB_BODY_NONE},
    {"GET /a/b?c=d HTTP/1.1\r\nHost: a\r\n\r\n", 0, "/a/b", "c=d", SB_BODY_NONE},
    {"GET /a?b?c#d HTTP/1.1\r\nHost: a\r\n\r\n", 0, "/a", "b?c", SB_BODY_NONE},
    {"GET /a#b?c HTTP/1.1\r\nHost: a\r\n\r\n", 0, "/a#b", "", SB_BODY_NONE},
    {"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 0, "/", "", SB_BODY_NONE},
    {"GET / HTTP/1.1\nHost: a\n\n", 0, "/", "", SB_BODY_NONE},
    {"GET / HTTP/1.0\r\n\r\n", 0, "/", "", SB_BODY_NONE},
    {"GET /\r\n", 0, "/", "", SB_BODY_NONE},
    {"GET http://x.test/p?q HTTP/1.1\r\nHost: a\r\n\r\n", 0, "/p", "q", SB_BODY_NONE},
    {"GET http://x.test HTTP/1.1\r\nHost: a\r\n\r\n", 0, "/", "", SB_BODY_NONE},
    {"GET h+t.p-1://[::1]:80/p HTTP/1.1\r\nHost: a\r\n\r\n", 0, "/p", "", SB_BODY_NONE},
    {"GET / HTTP/1.1\r\nHost: a\r\nIf-Match: 1\r\nIf-Range: 1\r\n\r\n", 0, "/", "", SB_BODY_NONE},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n", 0, "/", "", SB_BODY_LENGTH},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 0, "/", "", SB_BODY_NONE},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", 0, "/", "",
     SB_BODY_CHUNKED},
    {"GET / HTTP/1.1\r\nHost: a:xyz\r\n\r\n", 0, "/", "", SB_BODY_NONE},
    {"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 0, "/", "", SB_BODY_NONE},
    {"GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\nx@y: 1\r\n\r\n", 0, "/", "", SB_BODY_NONE},
    {"GET /a/%2e%2e/b HTTP/1.1\r\nHost: a\r\n\r\n", 0, "/a/%2e%2e/b", "", SB_BODY_NONE},
    {"GET /a..b/...?%zz HTTP/1.1\r\nHost: a\r\n\r\n", 0, "/a..b/...", "%zz", SB_BODY_NONE},
    {"VERSION-CONTROL / HTTP/1.9\r\nHost: a\r\n\r\n", 0, "/", "", SB_BODY_NONE},
    /* refused */
    {"GET / HTTP/1.1\r\n\r\n", 400, 0, 0, 0},
    {"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, 0, 0, 0},
    {"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, 0, 0, 0},
    {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, 0, 0, 0},
    {"GET / HTTP/1.1\r\nHost: a\t\r\n\r\n", 400, 0, 0, 0},
    {"GET http://a_b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0, 0, 0},
    {"GET http://a%41/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0, 0, 0},
    {"GET http://a:x/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0, 0, 0},
    {"GET http://[::1]x/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0, 0, 0},
    {"GET 1http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0, 0, 0},
    {"GET / HTTP/1.1\r\nHost: a\r\nIf-Match: 1\r\nif-match: 1\r\n\r\n", 400, 0, 0, 0},
    {"GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nExpect: x\r\n\r\n", 400, 0, 0, 0},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\t\r\n\r\n", 400, 0, 0, 0},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tchunked\r\n\r\n", 501, 0, 0, 0},
    {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, 0, 0, 0},
    {"GET / HTTP/1.1\r\nHost: a..b\r\n\r\n", 400, 0, 0, 0},
    {"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400, 0, 0, 0},
    {"get / HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0, 0, 0},
    {"GET p HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0, 0, 0},
    {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0, 0, 0},
    {"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0, 0, 0},
    {"GET /%0 HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0, 0, 0},
    {"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0, 0, 0},
    {"GET /a/../../x HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0, 0, 0},
    {"GET /%2e%2e/x HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0, 0, 0},
    {"GET /a/..//.. HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0, 0, 0},
    {"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0, 0, 0},
    {"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0, 0, 0},
    {"GET / HTPP/1.1\r\nHost: a\r\n\r\n", 400, 0, 0, 0},
    {"GET / HTTP/1.\r\nHost: a\r\n\r\n", 400, 0, 0, 0},
    {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, 0, 0, 0},
    {"GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400, 0, 0, 0},
    {"GET / HTTP/1.01\r\nHost: a\r\n\r\n", 400, 0, 0, 0},
    {"POST /\r\n", 400, 0, 0, 0},
    {"GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n", 400, 0, 0, 0},
    {"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", 400, 0, 0, 0},
    {"GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n", 400, 0, 0, 0},
    {"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400, 0, 0, 0},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400, 0, 0, 0},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", 400, 0, 0, 0},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400, 0, 0, 0},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n", 400, 0, 0, 0},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 400, 0, 0, 0},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999999\r\n\r\n", 400, 0, 0, 0},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400,
     0, 0, 0},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 400,
     0, 0, 0},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
     400, 0, 0, 0},
    {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, 0, 0, 0},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, 0, 0, 0},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 501, 0, 0, 0},
    {"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, 0, 0, 0},
    {"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", 405, 0, 0, 0},
    {"\x16\x03\x01 hello\r\n\r\n", 400, 0, 0, 0},
};

/* All at once, then a byte at a time: the result is the same. */
static void test_requests(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        size_t len = strlen(requests[i].text);

        for (size_t step = len; step >= 1; step = step > 1 ? 1 : 0) {
            struct sb_http_head h = fresh();
            enum sb_http_result r = SB_HTTP_MORE;

            for (size_t n = step; n <= len && r == SB_HTTP_MORE; n += step)
                r = sb_http_parse_request(&h, requests[i].text, n);
            if ((int)r != requests[i].result)
                fail_msg("%s: %d, not %d", requests[i].text, (int)r, requests[i].result);
            if (r == SB_HTTP_DONE) {
                assert_int_equal(h.len, len);
                assert_true(sb_str_is(h.path, requests[i].path));
                assert_true(sb_str_is(h.query, requests[i].query));
                assert_int_equal(h.framing, requests[i].framing);
            }
        }
    }
}

static void test_nul_is_refused(void **state)
{
    static const char text[] = "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n";
    struct sb_http_head h = fresh();

    (void)state;
    assert_int_equal(sb_http_parse_request(&h, text, sizeof text - 1), 400);
}

static void test_limits(void **state)
{
    size_t len = 50000;
    char *buf = sb_xmalloc(len);
    struct sb_http_head h = fresh();

    (void)state;
    memset(buf, 'a', len);
    memcpy(buf, "GET /", 5);
    assert_int_equal(sb_http_parse_request(&h, buf, 8192), SB_HTTP_MORE);
    assert_int_equal(sb_http_parse_request(&h, buf, 8200), SB_HTTP_URI_TOO_LONG);
    h = fresh();
    memcpy(buf, "GET / HTTP/1.1\r\nX: ", 19);
    assert_int_equal(sb_http_parse_request(&h, buf, 9000), SB_HTTP_HEADER_TOO_LARGE);
    h = fresh();
    for (size_t at = 16; at + 1000 < len; at += 1000)
        memcpy(buf + at, "\r\nX: ", 5);
    memcpy(buf, "GET /aa HTTP/1.1", 16);
    assert_int_equal(sb_http_parse_request(&h, buf, len), SB_HTTP_HEADER_TOO_LARGE);
    free(buf);
}

static void test_headers_of_a_request(void **state)
{
    static const char text[] =
        "GET / HTTP/1.1\r\nHost: a.test:80\r\nX-Sp:   a  b\t \r\nnone\r\nVIA: x\r\n\r\n";
    struct sb_http_head h = fresh();
    struct sb_str name;

    (void)state;
    assert_int_equal(sb_http_parse_request(&h, text, sizeof text - 1), SB_HTTP_DONE);
    assert_int_equal(h.nheaders, 4);
    assert_true(sb_str_is(sb_http_find(&h, SB_STR("x-sp")), "a  b\t"));
    assert_true(sb_str_is(sb_http_get(&h, SB_H_VIA), "x"));
    assert_null(sb_http_get(&h, SB_H_ACCEPT).p);
    assert_true(sb_http_host_valid(h.host, &name));
    assert_true(sb_str_is(name, "a.test"));
    assert_true(sb_http_list_has(SB_STR("deflate;q=0.5, Trailers"), SB_STR("trailers")));
    assert_false(sb_http_list_has(SB_STR("trailersx"), SB_STR("trailers")));
}

static const struct {
    const char *text;
    bool head;
    int result, status;
    enum sb_http_framing framing;
} responses[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", false, 0, 200, SB_BODY_LENGTH},
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", true, 0, 200, SB_BODY_NONE},
    {"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", false, 0, 200, SB_BODY_NONE},
    {"HTTP/1.1 200 OK\nContent-Length: 2\n\n", false, 0, 200, SB_BODY_LENGTH},
    {"HTTP/1.1 204 No\r\n\r\n", false, 0, 204, SB_BODY_NONE},
    {"HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n", false, 0, 304, SB_BODY_NONE},
    {"HTTP/1.0 200 OK\r\n\r\n", false, 0, 200, SB_BODY_EOF},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, 0, 200, SB_BODY_CHUNKED},
    {"HTTP/1.1 200 OK\r\nx.dot~1: 1\r\nContent-Length: 1\r\n\r\n", false, 0, 200, SB_BODY_LENGTH},
    {"hello\r\n\r\n", false, 400, 0, 0},
    {"HTTP/1.1 20 OK\r\n\r\n", false, 400, 0, 0},
    {"HTTP/2.0 200 OK\r\n\r\n", false, 400, 0, 0},
    {"HTTP/1.01 200 OK\r\n\r\n", false, 400, 0, 0},
    {"HTTP/1.1 200 OK\r\n X: 1\r\n\r\n", false, 400, 0, 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", false,
     400, 0, 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n", false, 400, 0, 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n", false, 400, 0, 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", false, 400, 0, 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", false, 400, 0,
     0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", false, 400, 0, 0},
    {"HTTP/1.1 200 OK\r\nX : 2\r\n\r\n", false, 400, 0, 0},
};

static void test_responses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof responses / sizeof *responses; i++) {
        size_t len = strlen(responses[i].text);

        for (size_t step = len; step >= 1; step = step > 1 ? 1 : 0) {
            struct sb_http_head h = fresh();
            enum sb_http_result r = SB_HTTP_MORE;

            for (size_t n = step; n <= len && r == SB_HTTP_MORE; n += step)
                r = sb_http_parse_response(&h, responses[i].text, n, responses[i].head);
            if ((int)r != responses[i].result)
                fail_msg("%s: %d, not %d", responses[i].text, (int)r, responses[i].result);
            if (r == SB_HTTP_DONE) {
                assert_int_equal(h.len, len);
                assert_int_equal(h.status, responses[i].status);
                assert_int_equal(h.framing, responses[i].framing);
            }
        }
    }
}

static const struct {
    const char *in, *data; /* data NULL: refused */
    size_t left;
} chunked[] = {
    {"3\r\nabc\r\n0\r\n\r\n", "abc", 0},
    {"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\n\r\n", "abcde", 0},
    {"00A\r\n0123456789\r\n000\r\n\r\nGET", "0123456789", 3},
    {"0\r\n\r\n", "", 0},
    {"1 \t;a\r\nx\r\n0 \r\n\r\n", "x", 0},
    {"1 1\r\nx\r\n0\r\n\r\n", NULL, 0},
    {"1;a\x01\r\nx\r\n0\r\n\r\n", NULL, 0},
    {"1;a\rb\r\nx\r\n0\r\n\r\n", NULL, 0},
    {"0\r\nX: a\rb\r\n\r\n", NULL, 0},
    {"0\r\nX: \x01\r\n\r\n", NULL, 0},
    {"0x1\r\nx\r\n0\r\n\r\n", NULL, 0},
    {" 1\r\nx\r\n0\r\n\r\n", NULL, 0},
    {"1\r\nx\r\n\r\n0\r\n\r\n", NULL, 0},
    {"zz\r\n", NULL, 0},
    {"\r\n", NULL, 0},
    {"-1\r\n", NULL, 0},
    {"2\r\nabcd\r\n", NULL, 0},
    {"2\nab\r\n", NULL, 0},
    {"2\r\nab\n", NULL, 0},
    {"2\rab", NULL, 0},
    {"11111111111111111\r\n", NULL, 0},
    {"1;a\n\r\n", NULL, 0},
    {"0\r\nX\n\r\n", NULL, 0},
};

static void test_chunked(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof chunked / sizeof *chunked; i++) {
        size_t len = strlen(chunked[i].in);

        for (size_t step = len; step >= 1; step = step > 1 ? 1 : 0) {
            struct sb_chunked d = {0};
            enum sb_chunk_result r = SB_CHUNK_MORE;
            char out[64];
            size_t n = 0, at = 0;

            while (at < len && r == SB_CHUNK_MORE) {
                struct sb_str in = sb_str_n(chunked[i].in + at, step), data;

                while ((r = sb_chunked_next(&d, &in, &data)) == SB_CHUNK_DATA ||
                       r == SB_CHUNK_TRAILER) {
                    memcpy(out + n, data.p, r == SB_CHUNK_DATA ? data.len : 0);
                    n += r == SB_CHUNK_DATA ? data.len : 0;
                }
                at += step - in.len;
            }
            assert_int_equal(r, chunked[i].data ? SB_CHUNK_END : SB_CHUNK_BAD);
            if (chunked[i].data) {
                assert_true(sb_str_is(sb_str_n(out, n), chunked[i].data));
                assert_int_equal(len - at, chunked[i].left);
            }
        }
    }
}

static const struct {
    const char *in, *text; /* text NULL: refused */
    const char *names;     /* of the fields that may go on */
} trailers[] = {
    {"0\r\n\r\n", "", ""},
    {"0\r\nX-A: 1\r\n\r\n", "X-A: 1\n", "X-A "},
    {"0\r\nX-A: 1\r\ngrpc-status:  0 \r\n\r\n", "X-A: 1\ngrpc-status:  0 \n", "X-A grpc-status "},
    {"0\r\nx.y~z: 1\r\nx@y: 2\r\n\r\n", "x.y~z: 1\nx@y: 2\n", "x.y~z "},
    {"0\r\nContent-Length: 5\r\nX: 1\r\nTransfer-Encoding: chunked\r\nHost: b\r\n\r\n",
     "Content-Length: 5\nX: 1\nTransfer-Encoding: chunked\nHost: b\n", "X "},
    {"0\r\nX-Forwarded-For: 1\r\nx_kong_a: 1\r\nX-Consumer-ID: 1\r\nX-Con: 1\r\n\r\n",
     "X-Forwarded-For: 1\nx_kong_a: 1\nX-Consumer-ID: 1\nX-Con: 1\n", "X-Con "},
    {"0\r\n X: 1\r\n\r\n", " X: 1\n", NULL},
    {"0\r\nX : 1\r\n\r\n", "X : 1\n", NULL},
    {"0\r\n: 1\r\n\r\n", ": 1\n", NULL},
    {"0\r\nX: 1\n\r\n", NULL, NULL},
};

/* The decoder hands the section out, whole or byte by byte; the parser says what may go on. */
static void test_trailers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof trailers / sizeof *trailers; i++) {
        size_t len = strlen(trailers[i].in);

        for (size_t step = len; step >= 1; step = step > 1 ? 1 : 0) {
            struct sb_chunked d = {0};
            struct sb_http_head h = fresh();
            enum sb_chunk_result r = SB_CHUNK_MORE;
            char out[256], names[256] = "";
            size_t n = 0;

            for (size_t at = 0; at < len && r == SB_CHUNK_MORE; at += step) {
                struct sb_str in = sb_str_n(trailers[i].in + at, step), data;

                while ((r = sb_chunked_next(&d, &in, &data)) == SB_CHUNK_TRAILER) {
                    memcpy(out + n, data.p, data.len);
                    n += data.len;
                }
            }
            assert_int_equal(r, trailers[i].text ? SB_CHUNK_END : SB_CHUNK_BAD);
            if (!trailers[i].text)
                continue;
            assert_true(sb_str_is(sb_str_n(out, n), trailers[i].text));
            assert_int_equal(sb_http_parse_trailers(&h, out, n),
                             trailers[i].names ? SB_HTTP_DONE : SB_HTTP_BAD);
            for (size_t k = 0; trailers[i].names && k < h.nheaders; k++)
                snprintf(names + strlen(names), sizeof names - strlen(names), "%.*s ",
                         SB_ARG(h.headers[k].name));
            if (trailers[i].names)
                assert_string_equal(names, trailers[i].names);
        }
    }
}

/* The path of http://host lies in the buffer, like everything else: it moves along. */
static void test_rebase(void **state)
{
    static const char text[] = "GET http://x.test HTTP/1.1\r\nHost: a\r\n\r\n";
    struct sb_http_head h = fresh();
    char *first = sb_xmalloc(sizeof text), *second = sb_xmalloc(sizeof text);

    (void)state;
    memcpy(first, text, sizeof text);
    memcpy(second, text, sizeof text);
    assert_int_equal(sb_http_parse_request(&h, first, 30), SB_HTTP_MORE);
    sb_http_rebase(&h, first, second);
    free(first);
    assert_int_equal(sb_http_parse_request(&h, second, sizeof text - 1), SB_HTTP_DONE);
    assert_true(sb_str_is(h.path, "/") && sb_str_is(h.method, "GET"));
    free(second);
}

/* Names that stand for framing where '_' is read as '-' do not travel. */
static void test_names_in_disguise(void **state)
{
    static const char text[] = "GET / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\n"
                               "Transfer-ENCODING_: x\r\nTRANSFER_encoding: chunked\r\n"
                               "X_Forwarded_For: 1\r\n\r\n";
    struct sb_http_head h = fresh();

    (void)state;
    assert_int_equal(sb_http_parse_request(&h, text, sizeof text - 1), SB_HTTP_DONE);
    assert_int_equal(h.nheaders, 3);
    assert_int_equal(h.ids[2], SB_H_X_FORWARDED_SCORED);
    assert_int_equal(h.framing, SB_BODY_NONE);
}

/* Of what a response says twice, the first counts for these. */
static void test_once_in_a_response(void **state)
{
    static const char text[] = "HTTP/1.1 200 OK\r\nETag: a\r\nExpires: b\r\netag: c\r\nX: 1\r\n"
                               "Date: d\r\nX: 2\r\nDate: e\r\nVary: f\r\nVary: g\r\n\r\n";
    struct sb_http_head h = fresh();

    (void)state;
    assert_int_equal(sb_http_parse_response(&h, text, sizeof text - 1, false), SB_HTTP_DONE);
    assert_int_equal(h.nheaders, 7);
    assert_true(sb_str_is(sb_http_find(&h, SB_STR("etag")), "a"));
    assert_true(sb_str_is(sb_http_get(&h, SB_H_DATE), "d"));
}

static void test_suspect_responses(void **state)
{
    static const struct {
        const char *text;
        bool suspect;
    } cases[] = {
        {"HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n", false},
        {"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", true},
        {"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n", true},
        {"HTTP/1.1 100 No\r\nContent-Length: 5\r\n\r\n", true},
        {"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", false},
        {"HTTP/1.0 200 No\r\nTransfer-Encoding: chunked\r\n\r\n", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sb_http_head h = fresh();

        assert_int_equal(sb_http_parse_response(&h, cases[i].text, strlen(cases[i].text), false),
                         SB_HTTP_DONE);
        assert_int_equal(h.suspect, cases[i].suspect);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_nul_is_refused),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_headers_of_a_request),
        cmocka_unit_test(test_responses),
        cmocka_unit_test(test_chunked),
        cmocka_unit_test(test_trailers),
        cmocka_unit_test(test_rebase),
        cmocka_unit_test(test_names_in_disguise),
        cmocka_unit_test(test_once_in_a_response),
        cmocka_unit_test(test_suspect_responses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
