/* One table of steps, for every kind of store: in memory here, and on PostgreSQL when SB_TEST_PG
 * names a migrated database ("host=.. port=.. user=.. password=.. database=.."), which is how
 * tests/system/test_admin_store.py runs this program again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "schema/store.h"
#include "shared/json.h"

#define ID(n) "00000000-0000-4000-8000-00000000000" #n

/* expect: "" fine; JSON: fine, and what is made has these members; "N text": error N, that message;
 * a number alone: so many rows. */
struct step {
    const char *op, *entity, *key, *input, *expect;
};

struct test {
    const char *name;
    struct step steps[16];
};

static const struct test tests[] = {
    {"a row comes back with defaults, nulls and times",
     {{"insert", "services", NULL, "{'id':'" ID(1) "','name':'s','host':'a.test','tags':['x','y']}",
       "{'id':'" ID(
           1) "','name':'s','host':'a.test','port':80,'path':null,'tags':['x','y'],'retries':5}"},
      {"find", "services", "name=s", NULL,
       "{'id':'" ID(
           1) "','port':80,'client_certificate':null,'enabled':true,'ca_certificates':null}"},
      {"find", "services", "id=" ID(1), NULL, "{'name':'s','tags':['x','y']}"},
      {"find", "services", "name=t", NULL, "null"}}},
    {"ids are the same in any case",
     {{"insert", "services", NULL, "{'id':'00000000-0000-4000-8000-00000000000A','host':'a.test'}",
       "{'id':'00000000-0000-4000-8000-00000000000a'}"},
      {"find", "services", "id=00000000-0000-4000-8000-00000000000A", NULL, "{'host':'a.test'}"},
      {"insert", "routes", NULL,
       "{'paths':['/'],'service':{'id':'00000000-0000-4000-8000-00000000000A'}}",
       "{'service':{'id':'00000000-0000-4000-8000-00000000000a'}}"}}},
    {"bad keys",
     {{"find", "services", "id=x", NULL, "1 invalid primary key: '{id=\"expected a valid UUID\"}'"},
      {"find", "services", "name=a b", NULL,
       "10 invalid value 'a b': the only accepted ascii characters are alphanumerics or ., -, _, "
       "and "
       "~"},
      {"update", "services", "id=" ID(1), "{}",
       "6 could not find the entity with primary key '{id=\"" ID(1) "\"}'"},
      {"update", "services", "name=x", "{}", "6 could not find the entity with '{name=\"x\"}'"},
      {"delete", "services", "name=x", NULL, ""}}},
    {"unique and primary keys",
     {{"insert", "services", NULL, "{'id':'" ID(1) "','name':'s','host':'a.test'}", ""},
      {"insert", "services", NULL, "{'name':'s','host':'a.test'}",
       "5 UNIQUE violation detected on '{name=\"s\"}'"},
      {"insert", "services", NULL, "{'id':'" ID(1) "','name':'t','host':'a.test'}",
       "3 primary key violation on key '{id=\"" ID(1) "\"}'"},
      {"insert", "services", NULL, "{'id':'" ID(2) "','name':'t','host':'a.test'}", ""},
      {"update", "services", "name=t", "{'name':'s'}",
       "5 UNIQUE violation detected on '{name=\"s\"}'"},
      {"insert", "services", NULL, "{'host':'a.test'}", ""},
      {"insert", "services", NULL, "{'host':'a.test'}", ""},
      {"list", "services", NULL, "{}", "4"}}},
    {"foreign keys by id and by name",
     {{"insert", "services", NULL, "{'id':'" ID(1) "','name':'s','host':'a.test'}", ""},
      {"insert", "routes", NULL, "{'paths':['/'],'service':{'id':'" ID(9) "'}}",
       "4 the foreign key '{id=\"" ID(9) "\"}' does not reference an existing 'services' entity."},
      {"insert", "routes", NULL, "{'paths':['/'],'service':{'name':'s'}}",
       "{'service':{'id':'" ID(1) "'}}"},
      {"insert", "routes", NULL, "{'paths':['/'],'service':{'name':'zz'}}",
       "13 foreign key unresolved (service.name: the foreign key cannot be resolved with "
       "'{name=\"zz\"}' for an existing 'services' entity)"},
      {"insert", "routes", NULL, "{'paths':['/'],'service':'s'}",
       "2 schema violation (service.id: missing primary key)"},
      {"delete", "services", "name=s", NULL,
       "4 an existing 'routes' entity references this 'services' entity"}}},
    {"deleting takes along what hangs on it",
     {{"insert", "upstreams", NULL, "{'id':'" ID(1) "','name':'u.test'}", ""},
      {"insert", "targets", NULL, "{'target':'10.0.0.1:80','upstream':{'name':'u.test'}}", ""},
      {"insert", "consumers", NULL, "{'id':'" ID(2) "','username':'c'}", ""},
      {"insert", "keyauth_credentials", NULL, "{'key':'k','consumer':{'username':'c'}}", ""},
      {"insert", "plugins", NULL, "{'name':'request-termination','consumer':{'id':'" ID(2) "'}}",
       ""},
      {"delete", "upstreams", "name=u.test", NULL, ""},
      {"list", "targets", NULL, "{}", "0"},
      {"delete", "consumers", "id=" ID(2), NULL, ""},
      {"list", "keyauth_credentials", NULL, "{}", "0"},
      {"list", "plugins", NULL, "{}", "0"}}},
    {"the cache key is unique",
     {{"insert", "upstreams", NULL, "{'id':'" ID(1) "','name':'u.test'}", ""},
      {"insert", "targets", NULL, "{'target':'10.0.0.1:80','upstream':{'id':'" ID(1) "'}}",
       "{'weight':100}"},
      {"insert", "targets", NULL, "{'target':'010.0.0.1:80','upstream':{'id':'" ID(1) "'}}",
       "5 UNIQUE violation detected on '{target=\"10.0.0.1:80\",upstream={id=\"" ID(1) "\"}}'"},
      {"insert", "targets", NULL, "{'target':'::1','upstream':{'id':'" ID(1) "'}}",
       "{'target':'[0000:0000:0000:0000:0000:0000:0000:0001]:8000'}"},
      {"insert", "targets", NULL, "{'target':'a b','upstream':{'id':'" ID(1) "'}}",
       "2 schema violation (target: Invalid target; not a valid hostname or ip address)"},
      {"insert", "plugins", NULL, "{'name':'request-termination'}", ""},
      {"insert", "plugins", NULL, "{'name':'request-termination'}",
       "5 UNIQUE violation detected on "
       "'{consumer=null,name=\"request-termination\",route=null,service=null}'"}}},
    {"columns that want a value",
     {{"insert", "upstreams", NULL, "{'id':'" ID(1) "','name':'u.test','slots':null}",
       "3 primary key violation on key '{id=\"" ID(1) "\"}'"}}},
    {"patch merges, put replaces",
     {{"insert", "services", NULL,
       "{'id':'" ID(1) "','name':'s','host':'a.test','port':81,'tags':['a']}", ""},
      {"update", "services", "name=s", "{'path':'/p','id':'" ID(7) "'}",
       "{'id':'" ID(1) "','port':81,'path':'/p','tags':['a']}"},
      {"upsert", "services", "name=s", "{'host':'b.test','id':'" ID(7) "','name':'other'}",
       "{'id':'" ID(1) "','name':'s','port':80,'path':null,'tags':null}"},
      {"upsert", "services", "name=new", "{'host':'b.test','id':'" ID(7) "'}",
       "{'id':'" ID(7) "','name':'new'}"},
      {"upsert", "services", "id=" ID(8), "{'host':'b.test','name':'s'}",
       "5 UNIQUE violation detected on '{name=\"s\"}'"},
      {"upsert", "services", "id=" ID(8), "{}",
       "2 schema violation (host: required field missing)"},
      {"list", "services", NULL, "{}", "2"}}},
    {"put by name where the tables have no constraint for it",
     {{"upsert", "key_sets", "name=ks", "{'id':'" ID(1) "'}", "{'id':'" ID(1) "'}"},
      {"upsert", "key_sets", "name=ks", "{'tags':['t']}", "{'id':'" ID(1) "','tags':['t']}"}}},
    {"records and lists of records",
     {{"insert", "routes", NULL,
       "{'id':'" ID(1) "','protocols':['tcp'],'sources':[{'ip':'10.0.0.0/8'},{'port':80}],"
                       "'snis':null,'tags':['a,b'],'headers':null}",
       "2 schema violation (tags.1: invalid tag 'a,b': expected printable ascii (except `,` and "
       "`/`) "
       "or valid utf-8 sequences)"},
      {"insert", "routes", NULL,
       "{'id':'" ID(1) "','protocols':['tcp'],'sources':[{'ip':'10.0.0.0/8'},{'port':80}],"
                       "'tags':['q\\\"','b\\\\s','{}','null','']}",
       "2 schema violation (tags.5: length must be at least 1)"},
      {"insert", "routes", NULL,
       "{'id':'" ID(1) "','protocols':['tcp'],'sources':[{'ip':'10.0.0.0/8'},{'port':80}],"
                       "'tags':['q\\\"','b\\\\s','{}','null']}",
       "{'tags':['q\\\"','b\\\\s','{}','null']}"},
      {"find", "routes", "id=" ID(1), NULL,
       "{'sources':[{'ip':'10.0.0.0/8','port':null},{'ip':null,'port':80}],"
       "'tags':['q\\\"','b\\\\s','{}','null'],'destinations':null}"},
      {"insert", "routes", NULL, "{'id':'" ID(2) "','headers':{'x-a':['1','2']},'methods':[]}",
       "{'headers':{'x-a':['1','2']},'methods':[]}"},
      {"find", "routes", "id=" ID(2), NULL, "{'headers':{'x-a':['1','2']},'methods':[]}"},
      {"insert", "upstreams", NULL, "{'name':'u.test','healthchecks':{'active':{'timeout':0.5}}}",
       ""},
      {"update", "upstreams", "name=u.test", "{'healthchecks':{'active':{'concurrency':3}}}", ""},
      {"find", "upstreams", "name=u.test", NULL, "{'slots':10000}"}}},
    {"pages, in order of id",
     {{"insert", "consumers", NULL, "{'id':'" ID(3) "','username':'c3','tags':['b']}", ""},
      {"insert", "consumers", NULL, "{'id':'" ID(1) "','username':'c1','tags':['a','b']}", ""},
      {"insert", "consumers", NULL, "{'id':'" ID(2) "','username':'c2','tags':['a']}", ""},
      {"insert", "consumers", NULL, "{'id':'" ID(4) "','username':'c4'}", ""},
      {"list", "consumers", NULL, "{'size':3}", "3+ " ID(1)},
      {"list", "consumers", NULL, "{'size':3,'after':'" ID(3) "'}", "1 " ID(4)},
      {"list", "consumers", NULL, "{'size':4}", "4"},
      {"list", "consumers", NULL, "{'tags':['a','b']}", "1 " ID(1)},
      {"list", "consumers", NULL, "{'tags':['a','b'],'any':true}", "3 " ID(1)},
      {"list", "consumers", NULL, "{'tags':['b'],'size':1}", "1+ " ID(1)}}},
    {"children of one parent",
     {{"insert", "services", NULL, "{'id':'" ID(1) "','host':'a.test'}", ""},
      {"insert", "services", NULL, "{'id':'" ID(2) "','host':'b.test'}", ""},
      {"insert", "routes", NULL, "{'id':'" ID(3) "','paths':['/'],'service':{'id':'" ID(1) "'}}",
       ""},
      {"insert", "routes", NULL, "{'id':'" ID(4) "','paths':['/'],'service':{'id':'" ID(2) "'}}",
       ""},
      {"insert", "routes", NULL, "{'id':'" ID(5) "','paths':['/']}", ""},
      {"list", "routes", NULL, "{'parent':'service','parent_id':'" ID(1) "'}", "1 " ID(3)},
      {"list", "routes", NULL, "{'parent':'service','parent_id':'" ID(2) "'}", "1 " ID(4)}}},
    {"ttl",
     {{"insert", "consumers", NULL, "{'username':'c'}", ""},
      {"insert", "keyauth_credentials", NULL, "{'key':'k','consumer':{'username':'c'},'ttl':100}",
       "{'ttl':99}"},
      {"find", "keyauth_credentials", "key=k", NULL, "{'ttl':99}"},
      {"update", "keyauth_credentials", "key=k", "{'tags':['x']}", "{'ttl':99,'tags':['x']}"},
      {"update", "keyauth_credentials", "key=k", "{'ttl':0}", "{'key':'k'}"},
      {"insert", "keyauth_credentials", NULL, "{'key':'l','consumer':{'username':'c'},'ttl':-1}",
       "11 invalid option (ttl: must be an integer between 0 and 100000000)"}}},
    {"plugins share a protocol with what they are on",
     {{"insert", "services", NULL, "{'id':'" ID(1) "','name':'s','host':'a.test'}", ""},
      {"insert", "routes", NULL,
       "{'id':'" ID(2) "','name':'r','protocols':['tcp'],'snis':null,'sources':[{'port':1}],"
                       "'service':{'id':'" ID(1) "'}}",
       ""},
      {"insert", "plugins", NULL,
       "{'name':'ip-restriction','config':{'allow':['10.0.0.1']},'protocols':['http'],"
       "'route':{'name':'r'}}",
       "2 schema violation (protocols: must match the associated route's protocols)"},
      {"insert", "plugins", NULL,
       "{'name':'ip-restriction','config':{'allow':['10.0.0.1']},'protocols':['http'],"
       "'service':{'name':'s'}}",
       "2 schema violation (protocols: must match the protocols of at least one route pointing to "
       "this Plugin's service)"},
      {"insert", "plugins", NULL,
       "{'name':'ip-restriction','config':{'allow':['10.0.0.1']},'protocols':['tcp'],"
       "'service':{'name':'s'}}",
       ""}}},
    {"certificates and their snis",
     {{"insert", "certificates", NULL,
       "{'id':'" ID(
           1) "','cert':'{vault://env/c}','key':'{vault://env/k}','snis':['b.test','a.test']}",
       "{'snis':['a.test','b.test']}"},
      {"list", "snis", NULL, "{'parent':'certificate','parent_id':'" ID(1) "'}", "2"},
      {"insert", "certificates", NULL,
       "{'cert':'{vault://env/c}','key':'{vault://env/k}','snis':['a.test']}",
       "2 schema violation (snis: a.test already associated with existing certificate '" ID(
           1) "')"},
      {"insert", "certificates", NULL,
       "{'cert':'{vault://env/c}','key':'{vault://env/k}','snis':['x.test','x.test']}",
       "2 schema violation (snis: x.test is duplicated)"},
      {"update", "certificates", "id=" ID(1), "{'tags':['t']}",
       "{'snis':['a.test','b.test'],'tags':['t']}"},
      {"update", "certificates", "id=" ID(1), "{'snis':['b.test','c.test']}",
       "{'snis':['b.test','c.test'],'tags':['t']}"},
      {"insert", "services", NULL,
       "{'name':'s','protocol':'https','host':'a.test','client_certificate':{'id':'" ID(1) "'}}",
       ""},
      {"delete", "certificates", "id=" ID(1), NULL,
       "4 an existing 'services' entity references this 'certificates' entity"},
      {"find", "certificates", "id=" ID(1), NULL, "{'snis':['b.test','c.test']}"},
      {"delete", "services", "name=s", NULL, ""},
      {"delete", "certificates", "id=" ID(1), NULL, ""},
      {"list", "snis", NULL, "{}", "0"}}},
    {"rows as they are: put, replaced, read, dropped",
     {{"put", "services", NULL,
       "[{'id':'" ID(
           1) "','name':'a','host':'h','port':1,'created_at':1700000000},"
              "{'id':'" ID(2) "','name':'b','host':'h','tags':['t'],'ca_certificates':['" ID(
                  7) "']}]",
       ""},
      {"rows", "services", NULL, NULL, "2"},
      {"rows", "services", NULL, "['" ID(2) "']",
       "{'id':'" ID(2) "','name':'b','host':'h','tags':['t'],'ca_certificates':['" ID(7) "']}"},
      {"put", "services", NULL, "[{'id':'" ID(2) "','name':'c','host':'i'}]", ""},
      {"rows", "services", NULL, "['" ID(2) "']", "{'id':'" ID(2) "','name':'c','host':'i'}"},
      {"put", "targets", NULL, "[]", ""},
      {"drop", "services", NULL, "['" ID(1) "','" ID(9) "']", ""},
      {"rows", "services", NULL, NULL, "1"}}},
    {"a refused row is named, and none of its batch stays",
     {{"put", "services", NULL, "[{'id':'" ID(1) "','name':'a','host':'h'}]", ""},
      {"put", "services", NULL,
       "[{'id':'" ID(2) "','name':'b','host':'h'},{'id':'" ID(3) "','name':'a','host':'h'},"
                                                                 "{'id':'" ID(
                                                                     4) "','name':'b','host':'h'}]",
       "1: UNIQUE violation detected on '{name=\"a\"}'"},
      {"rows", "services", NULL, NULL, "1"},
      {"put", "routes", NULL,
       "[{'id':'" ID(5) "','service':{'id':'" ID(1) "'}},{'id':'" ID(
           6) "'},"
              "{'id':'" ID(7) "','service':{'id':'" ID(8) "'}}]",
       "2: the foreign key '{id=\"" ID(8) "\"}' does not reference an existing 'services' entity."},
      {"rows", "routes", NULL, NULL, "0"},
      {"put", "routes", NULL, "[{'id':'" ID(5) "','service':{'id':'" ID(1) "'}}]", ""},
      {"drop", "services", NULL, "['" ID(9) "','" ID(1) "']",
       "1: an existing 'routes' entity references this 'services' entity"},
      {"rows", "services", NULL, NULL, "1"}}},
    {"a transaction that is rolled back leaves nothing, a refused call only itself",
     {{"insert", "services", NULL, "{'id':'" ID(1) "','name':'a','host':'h'}", ""},
      {"begin", "", NULL, NULL, ""},
      {"put", "services", NULL, "[{'id':'" ID(2) "','name':'b','host':'h'}]", ""},
      {"drop", "services", NULL, "['" ID(1) "']", ""},
      {"put", "services", NULL, "[{'id':'" ID(3) "','name':'b','host':'h'}]",
       "0: UNIQUE violation detected on '{name=\"b\"}'"},
      {"rows", "services", NULL, NULL, "1"},
      {"rollback", "", NULL, NULL, ""},
      {"find", "services", "name=a", NULL, "{'id':'" ID(1) "'}"},
      {"rows", "services", NULL, NULL, "1"},
      {"begin", "", NULL, NULL, ""},
      {"put", "services", NULL, "[{'id':'" ID(2) "','name':'b','host':'h'}]", ""},
      {"put", "services", NULL, "[{'id':'" ID(3) "','name':'b','host':'h'}]",
       "0: UNIQUE violation detected on '{name=\"b\"}'"},
      {"commit", "", NULL, NULL, ""},
      {"rows", "services", NULL, NULL, "2"}}},
};

/* -- the machine ------------------------------------------------------------------------------- */

struct fixture {
    struct sb_arena *a;
    struct sb_pg *pg;
    struct sb_store *store;
    struct sb_schema_ctx ctx;
    const char *test;
    int step;
};

static void wrong(const struct fixture *f, const char *got, const char *expected)
{
    fail_msg("\n  %s, step %d\n  got      %s\n  expected %s", f->test, f->step + 1, got, expected);
}

/* ' stands for " in the table. */
static struct sb_value *json(const struct fixture *f, const char *text)
{
    char *copy = sb_arena_cstr(f->a, sb_str_c(text));
    struct sb_value *v = NULL;
    struct sb_err err;

    for (char *p = copy; *p; p++)
        if (*p == '\'')
            *p = '"';
    if (sb_json_parse(f->a, sb_str_c(copy), &v, &err))
        wrong(f, err.text, copy);
    return v;
}

static bool has_members(const struct sb_value *got, const struct sb_value *want)
{
    const struct sb_member *m;

    sb_object_each (m, want)
        if (!sb_value_equal(sb_object_get(got, m->key), m->value))
            return false;
    return true;
}

static void expect_result(const struct fixture *f, const struct sb_value *got, const char *expect)
{
    struct sb_value *want;

    if (!*expect)
        return;
    want = json(f, expect);
    if (want->type == SB_V_NULL ? got != NULL : !got || !has_members(got, want))
        wrong(f, sb_json_text(f->a, got, 0).p, expect);
}

static void expect_error(const struct fixture *f, const struct sb_kong_error *e, const char *expect)
{
    const char *got = sb_arena_printf(f->a, "%d %.*s", e->code, SB_ARG(e->message)).p;

    if (strcmp(got, expect) != 0)
        wrong(f, got, expect);
}

static struct sb_store_key key_of(const struct fixture *f, const char *text)
{
    struct sb_str s = sb_str_c(text);
    ptrdiff_t eq = sb_str_chr(s, '=', 0);

    return (struct sb_store_key){sb_arena_cstr(f->a, sb_str_first(s, (size_t)eq)),
                                 sb_str_from(s, (size_t)eq + 1)};
}

/* "3+ id": three rows, more behind them, the first has this id. */
static void list(struct fixture *f, const struct sb_entity *kind, const struct step *s)
{
    struct sb_value *in = json(f, s->input), *tags = sb_get(in, "tags"), *rows, *tag;
    struct sb_store_page page = {.size = (int)sb_value_int_at(in, "size", 0),
                                 .after_id = sb_value_str_at(in, "after"),
                                 .tags_any = sb_value_bool_at(in, "any", false),
                                 .parent_id = sb_value_str_at(in, "parent_id")};
    struct sb_str names[8], parent = sb_value_str_at(in, "parent");
    struct sb_kong_error e = {0};
    const char *got;
    bool more;

    sb_array_each (tag, tags)
        names[page.ntags++] = tag->s;
    page.tags = names;
    page.parent_field = parent.len ? sb_arena_cstr(f->a, parent) : NULL;
    if (sb_store_list(f->store, &f->ctx, kind, &page, &rows, &more, &e)) {
        expect_error(f, &e, s->expect);
        return;
    }
    got = sb_arena_printf(f->a, "%u%s", rows->count, more ? "+" : "").p;
    if (strchr(s->expect, ' ') && rows->count)
        got =
            sb_arena_printf(f->a, "%s %.*s", got, SB_ARG(sb_value_str_at(rows->items[0], "id"))).p;
    if (strcmp(got, s->expect) != 0)
        wrong(f, got, s->expect);
}

static void rows(struct fixture *f, const struct sb_entity *kind, const struct step *s)
{
    struct sb_value *got, *list_of_ids = s->input ? json(f, s->input) : NULL, *id;
    struct sb_str ids[8];
    struct sb_err err;
    size_t n = 0;
    int64_t want;

    sb_array_each (id, list_of_ids)
        ids[n++] = id->s;
    if (sb_store_rows(f->store, f->a, kind, s->input ? ids : NULL, n, &got, &err))
        wrong(f, err.text, s->expect);
    if (sb_str_int(sb_str_c(s->expect), &want)) {
        if (got->count != want)
            wrong(f, sb_json_text(f->a, got, 0).p, s->expect);
    } else if (got->count != 1 || !sb_value_equal(got->items[0], json(f, s->expect))) {
        wrong(f, sb_json_text(f->a, got, 0).p, s->expect);
    }
}

static void batch(struct fixture *f, const struct sb_entity *kind, const struct step *s)
{
    struct sb_value *in = json(f, s->input), *id;
    size_t refused = 99, n = 0;
    struct sb_str ids[8];
    struct sb_err err;
    const char *got = "";
    enum sb_rc rc;

    if (strcmp(s->op, "put") == 0) {
        rc = sb_store_put_rows(f->store, f->a, kind, in, &refused, &err);
    } else {
        sb_array_each (id, in)
            ids[n++] = id->s;
        rc = sb_store_drop_rows(f->store, f->a, kind, ids, n, &refused, &err);
    }
    if (rc)
        got = sb_arena_printf(f->a, "%zu: %s", refused, err.text).p;
    if (strcmp(got, s->expect) != 0)
        wrong(f, got, s->expect);
}

static void entity(struct fixture *f, const struct sb_entity *kind, const struct step *s)
{
    struct sb_store_key key = s->key ? key_of(f, s->key) : (struct sb_store_key){0};
    struct sb_value *in = s->input ? json(f, s->input) : NULL, *out = NULL;
    struct sb_kong_error e = {0};
    enum sb_rc rc;

    if (strcmp(s->op, "insert") == 0)
        rc = sb_store_insert(f->store, &f->ctx, kind, in, &out, &e);
    else if (strcmp(s->op, "upsert") == 0)
        rc = sb_store_upsert(f->store, &f->ctx, kind, key, in, &out, &e);
    else if (strcmp(s->op, "update") == 0)
        rc = sb_store_update(f->store, &f->ctx, kind, key, in, &out, &e);
    else if (strcmp(s->op, "delete") == 0)
        rc = sb_store_delete(f->store, &f->ctx, kind, key, &e);
    else
        rc = sb_store_find(f->store, &f->ctx, kind, key, &out, &e);
    if (rc)
        expect_error(f, &e, s->expect);
    else
        expect_result(f, out, s->expect);
}

static void run_step(struct fixture *f, const struct step *s)
{
    const struct sb_entity *kind = sb_entity_find(sb_str_c(s->entity));
    struct sb_err err;

    if (strcmp(s->op, "begin") == 0)
        assert_int_equal(sb_store_begin(f->store, &err), SB_OK);
    else if (strcmp(s->op, "commit") == 0)
        assert_int_equal(sb_store_commit(f->store, &err), SB_OK);
    else if (strcmp(s->op, "rollback") == 0)
        sb_store_rollback(f->store);
    else if (strcmp(s->op, "list") == 0)
        list(f, kind, s);
    else if (strcmp(s->op, "rows") == 0)
        rows(f, kind, s);
    else if (strcmp(s->op, "put") == 0 || strcmp(s->op, "drop") == 0)
        batch(f, kind, s);
    else
        entity(f, kind, s);
}

/* -- both stores ------------------------------------------------------------------------------- */

static void clear_database(struct sb_pg *pg)
{
    struct sb_err err;

    if (sb_pg_exec(
            pg,
            "TRUNCATE consumers, certificates, services, routes, snis, upstreams, targets, "
            "plugins, ca_certificates, sm_vaults, key_sets, keys, keyauth_credentials CASCADE",
            &err))
        fail_msg("%s", err.text);
}

static void run_all(struct sb_pg *pg)
{
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        struct fixture f = {.a = sb_arena_new(0), .pg = pg, .test = tests[i].name};
        struct sb_err err;

        f.ctx.arena = f.a;
        if (pg) {
            clear_database(pg);
            assert_int_equal(sb_store_pg(pg, &f.store, &err), SB_OK);
        } else {
            f.store = sb_store_memory();
        }
        for (f.step = 0; f.step < 16 && tests[i].steps[f.step].op; f.step++)
            run_step(&f, &tests[i].steps[f.step]);
        sb_store_free(f.store);
        sb_arena_free(f.a);
    }
}

static void test_memory(void **state)
{
    (void)state;
    run_all(NULL);
}

static const char *word(struct sb_arena *a, const char *all, const char *name)
{
    struct sb_str rest = sb_str_c(all), item;

    while (sb_str_split(&rest, ' ', &item)) {
        ptrdiff_t eq = sb_str_chr(item, '=', 0);

        if (eq > 0 && sb_str_is(sb_str_first(item, (size_t)eq), name))
            return sb_arena_cstr(a, sb_str_from(item, (size_t)eq + 1));
    }
    return NULL;
}

static void test_postgres(void **state)
{
    const char *where = getenv("SB_TEST_PG");
    struct sb_arena *a = sb_arena_new(0);
    struct sb_pg_config config = {.timeout_ms = 5000};
    struct sb_pg *pg = NULL;
    struct sb_err err;
    int64_t port = 0;

    (void)state;
    if (!where) {
        sb_arena_free(a);
        skip();
    }
    config.host = word(a, where, "host");
    config.user = word(a, where, "user");
    config.password = word(a, where, "password");
    config.database = word(a, where, "database");
    assert_true(sb_str_int(sb_str_c(word(a, where, "port")), &port));
    config.port = (int)port;
    if (sb_pg_connect(&config, &pg, &err))
        fail_msg("%s", err.text);
    run_all(pg);
    sb_pg_free(pg);
    sb_arena_free(a);
}

static void test_read_only(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    struct fixture f = {.a = a, .store = sb_store_memory(), .test = "read only"};
    static const struct step steps[] = {
        {"put", "services", NULL, "[{'id':'" ID(1) "','name':'s','host':'h'}]", ""},
        {"insert", "services", NULL, "{}", "2 schema violation (host: required field missing)"},
        {"insert", "services", NULL, "{'host':'h'}",
         "12 cannot create 'services' entities when not using a database"},
        {"update", "services", "name=s", "{'port':1}",
         "12 cannot update 'services' entities by 'name' when not using a database"},
        {"update", "services", "id=" ID(1), "{'port':1}",
         "12 cannot update 'services' entities when not using a database"},
        {"upsert", "services", "id=" ID(2), "{'host':'h'}",
         "12 cannot create or update 'services' entities when not using a database"},
        {"delete", "services", "id=" ID(1), NULL,
         "12 cannot remove 'services' entities when not using a database"},
        {"delete", "services", "id=" ID(2), NULL, ""},
        {"rows", "services", NULL, NULL, "1"},
    };

    (void)state;
    f.ctx.arena = a;
    sb_store_set_read_only(f.store, true);
    for (f.step = 0; f.step < (int)(sizeof steps / sizeof *steps); f.step++)
        run_step(&f, &steps[f.step]);
    sb_store_free(f.store);
    sb_arena_free(a);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_read_only),
        cmocka_unit_test(test_postgres),
    };

    return cmocka_run_group_tests(all, NULL, NULL);
}
