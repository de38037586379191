/* Rows to entities and back: what libpq would hand over is made by hand, value by value. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <libpq-fe.h>

#include "schema/row.h"
#include "shared/json.h"

/* -- decoding ---------------------------------------------------------------------------------- */

struct cell {
    const char *entity, *field; /* one column has a value, the others are NULL */
    const char *text;           /* as PostgreSQL sends it */
    const char *expect; /* the member as JSON; NULL: refused; "": absent, as JSON's null is */
};

static const struct cell cells[] = {
    {"services", "name", "a \"b\" \\ c", "\"a \\\"b\\\" \\\\ c\""},
    {"services", "port", "8080", "8080"},
    {"services", "port", "x", NULL},
    {"services", "enabled", "t", "true"},
    {"services", "enabled", "f", "false"},
    {"services", "created_at", "1700000000.999000", "1700000000"},
    {"targets", "created_at", "1485523507.446000", "1485523507.446"},
    {"services", "created_at", "infinity", NULL},
    {"services", "client_certificate", "00000000-0000-4000-8000-000000000001",
     "{\"id\":\"00000000-0000-4000-8000-000000000001\"}"},
    {"services", "tags", "{}", "[]"},
    {"services", "tags", "{a,\"b c\",\"q\\\"\",\"b\\\\s\",\"{}\",\"NULL\",\"\"}",
     "[\"a\",\"b c\",\"q\\\"\",\"b\\\\s\",\"{}\",\"NULL\",\"\"]"},
    {"services", "tags", "{a,NULL}", "[\"a\",null]"},
    {"services", "tags", "{a", NULL},
    {"services", "ca_certificates", "{00000000-0000-4000-8000-000000000001}",
     "[\"00000000-0000-4000-8000-000000000001\"]"},
    {"routes", "sources", "{\"{\\\"ip\\\": \\\"10.0.0.0/8\\\", \\\"port\\\": null}\"}",
     "[{\"ip\":\"10.0.0.0/8\",\"port\":null}]"},
    {"routes", "sources", "{\"{\"}", NULL},
    {"routes", "headers", "{\"x-a\": [\"1\", \"2\"]}", "{\"x-a\":[\"1\",\"2\"]}"},
    {"routes", "headers", "null", ""},
    {"routes", "headers", "{", NULL},
    {"upstreams", "healthchecks", "{\"threshold\": 0.5}", "{\"threshold\":0.5}"},
};

static int columns_of(const struct sb_entity *kind)
{
    int n = (kind->flags & SB_E_TTL) != 0;

    for (const struct sb_field *f = kind->fields; f->name; f++)
        n += !(f->flags & SB_F_TRANSIENT);
    return n;
}

static int column_of(const struct sb_entity *kind, const char *field)
{
    int n = 0;

    for (const struct sb_field *f = kind->fields; f->name; f++) {
        if (strcmp(f->name, field) == 0)
            return n;
        n += !(f->flags & SB_F_TRANSIENT);
    }
    return strcmp(field, "ttl") == 0 ? n : -1;
}

/* A result of one row with one value in it. */
static struct sb_pg_rows one_row(const struct sb_entity *kind, const char *field, const char *text)
{
    PGresult *r = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    struct sb_pg_rows rows = {.result = r, .count = 1, .columns = columns_of(kind), .at = -1};
    PGresAttDesc attributes[64] = {0};
    char name[] = "c", value[512];

    assert_true(rows.columns <= 64);
    for (int i = 0; i < rows.columns; i++)
        attributes[i].name = name;
    assert_true(PQsetResultAttrs(r, rows.columns, attributes));
    for (int i = 0; i < rows.columns; i++)
        assert_true(PQsetvalue(r, 0, i, NULL, -1));
    snprintf(value, sizeof value, "%s", text);
    assert_true(PQsetvalue(r, 0, column_of(kind, field), value, (int)strlen(value)));
    assert_true(sb_pg_next(&rows));
    return rows;
}

static void test_decode(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++) {
        const struct cell *c = &cells[i];
        const struct sb_entity *kind = sb_entity_find(sb_str_c(c->entity));
        struct sb_pg_rows rows = one_row(kind, c->field, c->text);
        struct sb_arena *a = sb_arena_new(0);
        struct sb_value *row = NULL;
        struct sb_err err;
        enum sb_rc rc = sb_row_decode(a, kind, &rows, &row, &err);
        const char *got = rc || !row->count ? "" : sb_json_text(a, sb_get(row, c->field), 0).p;

        if (rc != (c->expect ? SB_OK : SB_INVALID) || (c->expect && strcmp(got, c->expect) != 0))
            fail_msg("%s.%s %s: got %s", c->entity, c->field, c->text, rc ? err.text : got);
        sb_pg_rows_release(&rows);
        sb_arena_free(a);
    }
}

static void test_ttl_is_what_is_left(void **state)
{
    const struct sb_entity *kind = sb_entity_find(SB_STR("keyauth_credentials"));
    struct sb_pg_rows rows = one_row(kind, "ttl", "99.5");
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *row;
    struct sb_err err;

    (void)state;
    assert_int_equal(sb_row_decode(a, kind, &rows, &row, &err), SB_OK);
    assert_true(sb_number(sb_get(row, "ttl")) == 99.5);
    sb_pg_rows_release(&rows);
    sb_arena_free(a);
}

/* -- encoding ---------------------------------------------------------------------------------- */

static const char target[] = "{'created_at':'2017-01-27T13:25:07.446Z','upstream_id':'u',"
                             "'target':'a:1','ws_id':'W','cache_key':'targets:u:a:1::::W'}";

static const struct {
    const char *entity;
    const char *row, *expect; /* ' stands for " */
} encodings[] = {
    {"services", "{'id':'i','name':'n','path':null}", "{'id':'i','name':'n','ws_id':'W'}"},
    {"services", "{'tags':['a','\\\"']}", "{'tags':['a','\\\"'],'ws_id':'W'}"},
    {"services", "{'created_at':1700000000}",
     "{'created_at':'2023-11-14T22:13:20.000Z','ws_id':'W'}"},
    {"targets", "{'created_at':1485523507.446,'upstream':{'id':'u'},'target':'a:1'}", target},
    {"services", "{'client_certificate':{'id':'c'}}", "{'client_certificate_id':'c','ws_id':'W'}"},
    {"services", "{'id':'i','ws_id':'other'}", "{'id':'i','ws_id':'other'}"},
    {"keyauth_credentials", "{'ttl':100}", "{'ws_id':'W','ttl':'2001-09-09T01:48:20.000Z'}"},
    {"keyauth_credentials", "{'key':'k','ttl':0}", "{'key':'k','ws_id':'W'}"},
    {"routes", "{'headers':{'x':['1']}}", "{'headers':{'x':['1']},'ws_id':'W'}"},
    {"routes", "{'sources':[{'ip':'::1'}]}", "{'sources':[{'ip':'::1'}],'ws_id':'W'}"},
    {"ca_certificates", "{'id':'i','cert':'c'}", "{'id':'i','cert':'c'}"},
};

static struct sb_value *json(struct sb_arena *a, const char *text)
{
    char *copy = sb_arena_cstr(a, sb_str_c(text));
    struct sb_value *v = NULL;
    struct sb_err err;

    for (char *p = copy; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    if (sb_json_parse(a, sb_str_c(copy), &v, &err))
        fail_msg("%s: %s", copy, err.text);
    return v;
}

static void test_encode(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof encodings / sizeof *encodings; i++) {
        const struct sb_entity *kind = sb_entity_find(sb_str_c(encodings[i].entity));
        struct sb_arena *a = sb_arena_new(0);
        struct sb_buf b;

        sb_buf_init(&b, 0);
        sb_row_encode(&b, a, kind, json(a, encodings[i].row), SB_STR("W"), 1e9);
        sb_buf_char(&b, 0);
        if (!sb_value_equal(json(a, b.p), json(a, encodings[i].expect)))
            fail_msg("%s %s: got %s", encodings[i].entity, encodings[i].row, b.p);
        sb_buf_release(&b);
        sb_arena_free(a);
    }
}

/* Every column of every table is read, written and replaced under the same name. */
static void test_every_entity_has_its_sql(void **state)
{
    (void)state;
    for (const struct sb_entity *const *kind = sb_entities(); *kind; kind++) {
        struct sb_buf select, columns, assignments;
        struct sb_arena *a = sb_arena_new(0);

        sb_buf_init(&select, 0);
        sb_buf_init(&columns, 0);
        sb_buf_init(&assignments, 0);
        sb_row_select(&select, *kind);
        sb_row_columns(&columns, *kind);
        (void)sb_row_assignments(&assignments, *kind);
        for (const struct sb_field *f = (*kind)->fields; f->name; f++) {
            struct sb_str name = sb_arena_printf(a, "\"%s\"", sb_row_column(a, f));
            bool stored = !(f->flags & SB_F_TRANSIENT);

            assert_int_equal(sb_str_find(sb_buf_get(&select), name, 0) >= 0, stored);
            assert_int_equal(sb_str_find(sb_buf_get(&columns), name, 0) >= 0, stored);
        }
        assert_true(sb_str_find(sb_buf_get(&assignments), SB_STR("\"ws_id\""), 0) < 0);
        sb_buf_release(&select);
        sb_buf_release(&columns);
        sb_buf_release(&assignments);
        sb_arena_free(a);
    }
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_ttl_is_what_is_left),
        cmocka_unit_test(test_encode),
        cmocka_unit_test(test_every_entity_has_its_sql),
    };

    return cmocka_run_group_tests(all, NULL, NULL);
}
