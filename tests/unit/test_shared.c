/* The ground floor: strings, arenas, maps, values, JSON, UUIDs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "shared/digest.h"
#include "shared/json.h"
#include "shared/map.h"
#include "shared/uuid.h"

static void splits(void **state)
{
    static const struct {
        const char *text, *joined;
    } rows[] = {
        {"a,b", "[a][b]"}, {"a,,b", "[a][][b]"}, {"a,", "[a][]"}, {"", "[]"}, {",", "[][]"}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_str rest = sb_str_c(rows[i].text), piece;
        struct sb_buf b;

        sb_buf_init(&b, 0);
        while (sb_str_split(&rest, ',', &piece))
            sb_buf_printf(&b, "[%.*s]", SB_ARG(piece));
        sb_buf_char(&b, '\0');
        assert_string_equal(b.p, rows[i].joined);
        sb_buf_release(&b);
    }
}

static void maps_survive_removal(void **state)
{
    struct sb_map m = {0};
    char keys[1000][8];

    (void)state;
    for (int i = 0; i < 1000; i++) {
        snprintf(keys[i], sizeof keys[i], "k%d", i);
        sb_map_set(&m, sb_str_c(keys[i]), keys[i]);
    }
    for (int i = 0; i < 1000; i += 3)
        assert_ptr_equal(sb_map_remove(&m, sb_str_c(keys[i])), keys[i]);
    for (int i = 0; i < 1000; i++)
        assert_ptr_equal(sb_map_get(&m, sb_str_c(keys[i])), i % 3 ? keys[i] : NULL);
    sb_map_release(&m);
}

static void json_round_trips(void **state)
{
    static const char *const texts[] = {
        "{\"a\":[1,2.5,-3,null,true,\"x\\\"\\n\\u0001\"],\"b\":{},\"c\":[]}",
        "12",
        "\"\"",
        "[[[]]]",
    };
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct sb_value *v;

        assert_int_equal(sb_json_parse(a, sb_str_c(texts[i]), &v, NULL), SB_OK);
        assert_string_equal(sb_json_text(a, v, 0).p, texts[i]);
    }
    sb_arena_free(a);
}

static void json_refuses(void **state)
{
    static const char *const texts[] = {"", "{", "[1,]", "{} x", "{\"a\" 1}", "nul", "'a'"};
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct sb_value *v;
        struct sb_err err;

        assert_int_equal(sb_json_parse(a, sb_str_c(texts[i]), &v, &err), SB_INVALID);
    }
    sb_arena_free(a);
}

static void uuid_v5_is_kongs(void **state)
{
    struct sb_uuid root, ns, id;
    char text[SB_UUID_TEXT_LEN + 1];

    (void)state;
    assert_true(sb_uuid_parse(SB_STR("fd02801f-0957-4a15-a55a-c8d9606f30b5"), &root));
    ns = sb_uuid_v5(&root, SB_STR("services"));
    id = sb_uuid_v5(&ns, SB_STR("my-service"));
    sb_uuid_format(&id, text);
    assert_string_equal(text, "0855b320-0dd2-547d-891d-601e9b38647f");
}

static void base64_both_ways(void **state)
{
    static const char *const texts[] = {"", "a", "ab", "abc", "abcd"};
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct sb_str back;

        assert_true(sb_base64_decode(a, sb_base64_encode(a, sb_str_c(texts[i])), &back));
        assert_string_equal(back.p, texts[i]);
    }
    sb_arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(splits),           cmocka_unit_test(maps_survive_removal),
        cmocka_unit_test(json_round_trips), cmocka_unit_test(json_refuses),
        cmocka_unit_test(uuid_v5_is_kongs), cmocka_unit_test(base64_both_ways),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
