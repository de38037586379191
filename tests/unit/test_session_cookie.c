/* Sessions as cookies: Kong's are read, ours are read again, and nobody else's are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "dataplane/plugins/auth/session_cookie.h"
#include "shared/json.h"

/* Written by Kong 3.9.1, as recorded. */
static const char recorded[] =
    "AQAAsVYXzya6BMgDYObRAg9DAg6EHl_se8p7AMjmUtmvlAkF1wBrAAAAAACHAAADwczL1XxGiMVyUN7TAdrLAAAAbOnq"
    "V2SfequkCLOJ_T87KwSusb32jQPFzPHDTKs46S2bSvRnwsp0Ui6qSrcEBn3PgFp_ISnoBOucDnc8fQ5yQipwQvYWcTdX"
    "Yczzse8E3SclO86urA92NjPFjJ1IvHbFjxtDTNeR01QEXcbpQyscagZqlZJew";

static const char content_text[] =
    "[[[\"0c000000-0000-4000-8000-000000000001\",\"0d000000-0000-4000-8000-000000000001\"],"
    "\"default\",\"alice\"]]";

static void kongs(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_session_keys keys;
    struct sb_session_header h;
    struct sb_value *content;
    char header[SB_SESSION_HEADER_LEN];
    struct sb_str cookie = SB_STR(recorded), changed;

    (void)state;
    sb_session_keys_init(&keys, SB_STR("a-secret-of-the-test"), false);
    assert_true(sb_session_header_read(&keys, cookie, &h));
    assert_int_equal(h.created_s, 1795217157);
    assert_false(h.stored || h.deflated);
    content = sb_session_open(a, &keys, &h, sb_str_from(cookie, SB_SESSION_HEADER_LEN));
    assert_non_null(content);
    assert_string_equal(sb_json_text(a, content, 0).p, content_text);
    sb_session_header_write(&keys, &h, header);
    assert_memory_equal(header, recorded, sizeof header);

    /* any character that is changed spoils it */
    for (size_t i = 0; i + 1 < cookie.len; i++) {
        changed = sb_arena_str(a, cookie);
        *(char *)(uintptr_t)(changed.p + i) = changed.p[i] == 'A' ? 'B' : 'A';
        assert_true(!sb_session_header_read(&keys, changed, &h) ||
                    !sb_session_open(a, &keys, &h, sb_str_from(changed, SB_SESSION_HEADER_LEN)));
    }
    sb_session_keys_init(&keys, SB_STR("another secret"), false);
    assert_false(sb_session_header_read(&keys, cookie, &h));
    sb_arena_free(a);
}

static void round_trip(bool remember, size_t groups)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_session_keys keys, other;
    struct sb_session_header h = {
        .created_s = 1000, .rolling_s = 70000, .idling_s = 61, .stored = true};
    struct sb_session_header got;
    struct sb_value *content = sb_value_array(a), *opened;
    char header[SB_SESSION_HEADER_LEN];
    struct sb_str payload;

    for (size_t i = 0; i < groups; i++)
        sb_array_push(a, content, sb_value_text(a, "some group or other"));
    sb_session_keys_init(&keys, SB_STR("s"), remember);
    sb_session_keys_init(&other, SB_STR("s"), !remember);
    payload = sb_session_seal(a, &keys, &h, content);
    assert_non_null(payload.p);
    assert_int_equal(h.deflated, groups > 100);
    sb_session_header_write(&keys, &h, header);
    assert_true(sb_session_header_read(&keys, sb_str_n(header, sizeof header), &got));
    assert_int_equal(got.rolling_s, 70000);
    assert_int_equal(got.idling_s, 61);
    assert_int_equal(got.payload_len, payload.len);
    assert_true(got.stored);
    opened = sb_session_open(a, &keys, &got, payload);
    assert_true(opened && sb_value_equal(opened, content));
    assert_null(sb_session_open(a, &other, &got, payload));
    sb_arena_free(a);
}

static void ours(void **state)
{
    (void)state;
    round_trip(false, 1);
    round_trip(false, 1000);
    round_trip(true, 1);
}

static void too_long(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_session_keys keys;
    struct sb_session_header h = {0};
    char noise[60000];

    (void)state;
    sb_random(noise, sizeof noise);
    sb_session_keys_init(&keys, SB_STR("s"), false);
    assert_null(sb_session_seal(a, &keys, &h, sb_value_str(a, sb_hex(a, noise, sizeof noise))).p);
    sb_arena_free(a);
}

static void timeouts(void **state)
{
    const struct sb_session_header h = {.created_s = 1000, .rolling_s = 100, .idling_s = 10};
    static const struct {
        struct sb_session_timeouts timeouts;
        int64_t now_s, least_s;
    } rows[] = {
        {{0, 0, 0}, 99999999, INT64_MAX}, {{20, 0, 0}, 1115, 15},  {{20, 0, 0}, 1131, -1},
        {{0, 50, 0}, 1115, 35},           {{0, 0, 200}, 1115, 85}, {{20, 50, 116}, 1115, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(sb_session_left(&h, &rows[i].timeouts, rows[i].now_s).least_s,
                         rows[i].least_s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kongs),
        cmocka_unit_test(ours),
        cmocka_unit_test(too_long),
        cmocka_unit_test(timeouts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
