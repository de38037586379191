/* The copy on disk: what is read is what was committed, whatever happened to the file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "dataplane/config/saved.h"
#include "shared/buf.h"
#include "shared/json.h"
#include "shared/log.h"

static const struct sb_kind_rules no_rules[] = {{0}};
static const struct sb_saved_meta here = {
    .node = "11111111-1111-4111-8111-111111111111", .source = "off", .mark = 1};

static char dir[] = "/tmp/sb-saved-XXXXXX", path[64];

static void on_dirty(void *arg, struct sb_node *node)
{
    (void)arg, (void)node;
}

static struct sb_model *model_new(void)
{
    return sb_model_new(no_rules, on_dirty, NULL);
}

static void put(struct sb_model *m, const char *kind, int id, const char *text)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *row = sb_value_object(a);

    sb_object_set(a, row, SB_STR("id"), sb_value_str(a, sb_arena_printf(a, "id-%d", id)));
    sb_object_set(a, row, SB_STR("text"), sb_value_text(a, text));
    sb_model_put(m, sb_str_c(kind), row, false);
    sb_arena_free(a);
}

static void drop(struct sb_model *m, const char *kind, int id)
{
    char text[16];

    snprintf(text, sizeof text, "id-%d", id);
    sb_model_drop(m, sb_str_c(kind), sb_str_c(text));
}

static bool model_equal(const struct sb_model *a, const struct sb_model *b)
{
    if (sb_model_rows(a) != sb_model_rows(b))
        return false;
    for (const struct sb_node *n = sb_model_first(a); n; n = n->next) {
        const struct sb_node *other = sb_model_find(b, sb_str_c(n->kind->name), n->id);

        if (!other || !sb_str_eq(other->text, n->text))
            return false;
    }
    return true;
}

static void commit(struct sb_saver *s, uint64_t version)
{
    struct sb_saved_meta meta = here;

    meta.version = version;
    sb_saver_commit(s, &meta);
}

static void assert_loads(const struct sb_model *want, uint64_t version)
{
    struct sb_model *m = model_new();
    struct sb_saved_meta meta = here;
    struct sb_err err;

    if (sb_saved_load(path, m, &meta, &err))
        fail_msg("%s", err.text);
    assert_int_equal(meta.version, version);
    assert_true(model_equal(m, want));
    sb_model_free(m);
}

static enum sb_rc load_again(struct sb_saved_meta *meta, struct sb_err *err)
{
    struct sb_model *m = model_new();
    enum sb_rc rc = sb_saved_load(path, m, meta, err);

    if (rc)
        assert_int_equal(sb_model_rows(m), 0);
    sb_model_free(m);
    return rc;
}

static void whole_then_changes(void **state)
{
    struct sb_model *m = model_new();
    struct sb_saver *s;
    struct stat st;

    (void)state;
    for (int i = 0; i < 5000; i++)
        put(m, "routes", i, "first");
    s = sb_saver_start(path, m);
    commit(s, 1);
    assert_true(sb_saver_flush(s));
    assert_loads(m, 1);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    for (int round = 2; round < 40; round++) {
        put(m, "routes", round, "again");
        put(m, "services", round, "new");
        drop(m, "routes", 1000 + round);
        commit(s, (uint64_t)round);
        assert_true(sb_saver_flush(s));
    }
    assert_loads(m, 39);
    sb_saver_stop(s, true);
    assert_loads(m, 39);
    sb_model_free(m);
}

static void changes_during_the_walk(void **state)
{
    struct sb_model *m = model_new();
    struct sb_saver *s = sb_saver_start(path, m);
    char *text = calloc(1, 2001);
    int64_t now = 0;
    uint64_t version = 1;
    int step = 0;

    (void)state;
    memset(text, 'x', 2000);
    for (int i = 0; i < 3000; i++) /* 6 MB: a dozen pieces */
        put(m, "routes", i, text);
    commit(s, version);
    while (sb_saver_tick(s, now += 2000) >= 0) {
        for (int i = 0; i < 60; i++) /* behind, at and before where it is */
            drop(m, "routes", step * 60 + i);
        put(m, "routes", 2999 - step, "changed");
        put(m, "routes", 5000 + step++, "added");
        commit(s, ++version);
        if (step > 200)
            fail_msg("the walk does not end");
    }
    assert_true(step > 3);
    assert_true(sb_saver_flush(s));
    assert_loads(m, version);
    sb_saver_stop(s, true);
    free(text);
    sb_model_free(m);
}

static void grows_and_is_written_anew(void **state)
{
    struct sb_model *m = model_new();
    struct sb_saver *s = sb_saver_start(path, m);
    char *text = calloc(1, 100001);
    struct stat st;
    uint64_t version = 1;

    (void)state;
    memset(text, 'y', 100000);
    for (; version < 60; version++) {
        text[0] = (char)('a' + version % 26);
        put(m, "routes", 1, text);
        commit(s, version);
        assert_true(sb_saver_flush(s));
    }
    assert_loads(m, version - 1);
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size < 2 * 1024 * 1024);
    sb_saver_stop(s, true);
    free(text);
    sb_model_free(m);
}

/* Cut anywhere, or with any byte changed: an older commit or a clear refusal, never another state.
 */
static void damage(void **state)
{
    struct sb_model *v1 = model_new(), *m = model_new();
    struct sb_saver *s = sb_saver_start(path, m);
    struct sb_buf whole;
    enum sb_log_level level = sb_log_get_level();

    (void)state;
    for (int i = 0; i < 3; i++) {
        put(m, "routes", i, "one");
        put(v1, "routes", i, "one");
    }
    commit(s, 1);
    assert_true(sb_saver_flush(s));
    put(m, "routes", 1, "two");
    drop(m, "routes", 2);
    commit(s, 2);
    sb_saver_stop(s, true);
    assert_loads(m, 2);
    sb_buf_init(&whole, 0);
    assert_true(sb_buf_read_file(&whole, path));
    sb_log_set_level(SB_LOG_ERROR);
    for (size_t i = 0; i < whole.len * 2; i++) {
        struct sb_saved_meta meta = here;
        struct sb_err err;
        FILE *f = fopen(path, "w");
        size_t at = i / 2;

        if (i % 2)
            whole.p[at] ^= 0x20;
        fwrite(whole.p, 1, i % 2 ? whole.len : at, f);
        if (i % 2)
            whole.p[at] ^= 0x20;
        fclose(f);
        if (load_again(&meta, &err))
            continue;
        assert_in_range(meta.version, 1, 2);
        assert_loads(meta.version == 1 ? v1 : m, meta.version);
    }
    sb_log_set_level(level);
    sb_buf_release(&whole);
    sb_model_free(v1);
    sb_model_free(m);
}

static void foreign_files_are_refused(void **state)
{
    struct sb_saved_meta other = here;
    struct sb_model *m = model_new();
    struct sb_saver *s = sb_saver_start(path, m);
    struct sb_err err;
    FILE *f;

    (void)state;
    commit(s, 7);
    sb_saver_stop(s, true);
    sb_model_free(m);
    snprintf(other.node, sizeof other.node, "22222222-1111-4111-8111-111111111111");
    assert_int_equal(load_again(&other, &err), SB_INVALID);
    assert_non_null(strstr(err.text, "written by node 11111111-"));
    other = here;
    snprintf(other.source, sizeof other.source, "postgres kong public");
    assert_int_equal(load_again(&other, &err), SB_INVALID);
    assert_non_null(strstr(err.text, "made from 'off'"));
    f = fopen(path, "w");
    fputs("silverback config 9\nanything", f);
    fclose(f);
    other = here;
    assert_int_equal(load_again(&other, &err), SB_INVALID);
    assert_non_null(strstr(err.text, "format"));
    unlink(path);
    assert_int_equal(load_again(&other, &err), SB_NOTFOUND);
}

static void a_disk_that_refuses_does_not_hang(void **state)
{
    struct sb_model *m = model_new();
    struct sb_saver *s;
    enum sb_log_level level = sb_log_get_level();

    (void)state;
    sb_log_set_level(SB_LOG_CRIT);
    s = sb_saver_start("/nonexistent/config.saved", m);
    put(m, "routes", 1, "x");
    commit(s, 1);
    assert_false(sb_saver_flush(s));
    assert_false(sb_saver_flush(s));
    sb_saver_stop(s, true);
    sb_log_set_level(level);
    sb_model_free(m);
}

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/config.saved", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_then_changes),
        cmocka_unit_test(changes_during_the_walk),
        cmocka_unit_test(grows_and_is_written_anew),
        cmocka_unit_test(damage),
        cmocka_unit_test(foreign_files_are_refused),
        cmocka_unit_test(a_disk_that_refuses_does_not_hang),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
