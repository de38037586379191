/* The builder: whatever the order of changes, the snapshot is the one that a fresh build gives; old
 * snapshots stay what they were; broken entities take nobody with them; a change costs what it
 * touches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <cmocka.h>

#include "dataplane/config/build.h"
#include "shared/buf.h"
#include "shared/json.h"
#include "shared/log.h"

enum { CERTS = 4, POOL = 8, HOSTS = 6 };

static char *certs[CERTS], *keys[CERTS];

/* -- real certificates -- */

static char *text_of(BIO *bio)
{
    char *p, *copy;
    long len = BIO_get_mem_data(bio, &p);

    copy = calloc(1, (size_t)len + 1);
    memcpy(copy, p, (size_t)len);
    BIO_free(bio);
    return copy;
}

static int make_certificates(void **state)
{
    (void)state;
    sb_log_set_level(SB_LOG_ERROR);
    for (int i = 0; i < CERTS; i++) {
        EVP_PKEY *key = EVP_EC_gen("P-256");
        X509 *x = X509_new();
        BIO *cert = BIO_new(BIO_s_mem()), *pem = BIO_new(BIO_s_mem());

        X509_set_version(x, 2);
        ASN1_INTEGER_set(X509_get_serialNumber(x), i + 1);
        X509_gmtime_adj(X509_getm_notBefore(x), 0);
        X509_gmtime_adj(X509_getm_notAfter(x), 3600);
        X509_set_pubkey(x, key);
        X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                                   (const unsigned char *)"test", -1, -1, 0);
        X509_set_issuer_name(x, X509_get_subject_name(x));
        X509_sign(x, key, EVP_sha256());
        PEM_write_bio_X509(cert, x);
        PEM_write_bio_PrivateKey(pem, key, NULL, NULL, 0, NULL, NULL);
        certs[i] = text_of(cert);
        keys[i] = text_of(pem);
        X509_free(x);
        EVP_PKEY_free(key);
    }
    return 0;
}

static int free_certificates(void **state)
{
    (void)state;
    for (int i = 0; i < CERTS; i++) {
        free(certs[i]);
        free(keys[i]);
    }
    return 0;
}

/* -- rows -- */

/* A row from JSON with ' for ", and %c %k for certificate and key number n. */
static struct sb_value *row_of(struct sb_arena *a, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static struct sb_value *row_of(struct sb_arena *a, const char *fmt, ...)
{
    struct sb_value *row = NULL;
    struct sb_str text;
    struct sb_err err;
    va_list ap;

    va_start(ap, fmt);
    text = sb_arena_vprintf(a, fmt, ap);
    va_end(ap);
    for (size_t i = 0; i < text.len; i++) {
        if (text.p[i] == '\'')
            ((char *)text.p)[i] = '"';
    }
    if (sb_json_parse(a, text, &row, &err))
        fail_msg("%s: %s", text.p, err.text);
    return row;
}

static struct sb_value *certificate_row(struct sb_arena *a, const char *id, int cert, int key)
{
    struct sb_value *row = row_of(a, "{'id':'%s'}", id);

    sb_object_set(a, row, SB_STR("cert"), sb_value_text(a, cert < CERTS ? certs[cert] : "nothing"));
    sb_object_set(a, row, SB_STR("key"), sb_value_text(a, key < CERTS ? keys[key] : "nothing"));
    return row;
}

/* -- what a snapshot shows, as text -- */

static const char *const names[] = {"a.test", "b.test", "c.test", "*.a.test", "*", "B.Test"};

static void show_certificate(struct sb_buf *out, const struct sb_certificate *c)
{
    sb_buf_printf(out, " %s/%ld", c ? c->id.p : "-",
                  c ? ASN1_INTEGER_get(X509_get0_serialNumber(c->cert)) : 0L);
}

static void show_upstream(struct sb_buf *out, const struct sb_upstream *u)
{
    if (!u) {
        sb_buf_cstr(out, " -");
        return;
    }
    sb_buf_printf(out, " %s %s algorithm %d slots %d host %s", u->id.p, u->name.p, u->algorithm,
                  u->slots, u->host_header.p);
    show_certificate(out, u->client_certificate);
    for (size_t i = 0; i < u->ntargets; i++)
        sb_buf_printf(out, " [%s %s:%d w%d]", u->targets[i].target.p, u->targets[i].host.p,
                      u->targets[i].port, u->targets[i].weight);
}

static void show_route(struct sb_buf *out, const struct sb_snapshot *snap, const struct sb_route *r)
{
    const struct sb_service *s = r->service;

    sb_buf_printf(out, " %s %s strip %d protocols %x %s", r->id.p, r->name.p, r->strip_path,
                  r->protocols, r->row);
    if (!s)
        return;
    sb_buf_printf(out, " -> %s %s:%d%s retries %d cas %zu %d %s", s->id.p, s->host.p, s->port,
                  s->path.p, s->retries, s->nca_certificates, s->ca_store != NULL, s->row);
    if (s->ca_store)
        sb_buf_printf(out, " of %d", sk_X509_OBJECT_num(X509_STORE_get0_objects(s->ca_store)));
    show_certificate(out, s->client_certificate);
    show_upstream(out, sb_service_upstream(snap, s));
}

static void show(struct sb_buf *out, const struct sb_snapshot *snap)
{
    static const char *const paths[] = {"/", "/a", "/b/c"};

    sb_buf_printf(out, "version %llu, %zu routes\n", (unsigned long long)snap->version,
                  sb_router_size(snap->router));
    for (int h = 0; h < HOSTS; h++) {
        for (size_t p = 0; p < 3; p++) {
            char host[32];
            struct sb_router_match match = {0};
            struct sb_router_request q = {
                .method = SB_STR("GET"), .scheme = SB_PROTO_HTTP, .path = sb_str_c(paths[p])};

            snprintf(host, sizeof host, "h%d.test", h);
            q.host = sb_str_c(host);
            sb_buf_printf(out, "%s%s:", host, paths[p]);
            if (sb_router_match(snap->router, &q, &match))
                show_route(out, snap, match.route);
            sb_buf_char(out, '\n');
        }
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        sb_buf_printf(out, "tls %s:", names[i]);
        show_certificate(out, sb_snapshot_certificate(snap, sb_str_c(names[i])));
        sb_buf_cstr(out, "\nupstream:");
        show_upstream(out, sb_snapshot_upstream(snap, sb_str_c(names[i])));
        sb_buf_char(out, '\n');
    }
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void show_left_out(struct sb_buf *out, const struct sb_builder *b)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *list = sb_builder_left_out(b, a), *one;
    const char *lines[256];
    size_t n = 0;

    assert_int_equal(list->count, sb_builder_left_out_count(b));
    sb_array_each (one, list)
        lines[n++] = sb_json_text(a, one, 0).p;
    qsort(lines, n, sizeof *lines, by_text);
    for (size_t i = 0; i < n; i++)
        sb_buf_printf(out, "left out %s\n", lines[i]);
    sb_arena_free(a);
}

/* -- random changes -- */

static unsigned long long seed;

static unsigned rnd(unsigned n)
{
    seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
    return (unsigned)(seed >> 33) % n;
}

static const char *id_of(struct sb_arena *a, const char *kind, unsigned n)
{
    return sb_arena_printf(a, "%s-%u", kind, n).p;
}

static struct sb_value *random_row(struct sb_arena *a, const char *kind, const char *id)
{
    static const char *const upstream_names[] = {"a.test", "b.test", "c.test"};
    static const char *const hosts[] = {"a.test", "b.test", "c.test", "10.0.0.1", "::1", ""};
    static const char *const targets[] = {"10.0.0.1:80", "10.0.0.2", "[::1]:90", "x.test:1", "]"};
    static const char *const paths[] = {"/", "/a", "/b", "~/b/.", "~/("};

    if (strcmp(kind, "certificates") == 0) {
        unsigned cert = rnd(CERTS + 1);

        return certificate_row(a, id, (int)cert, (int)(rnd(5) ? cert : rnd(CERTS)));
    }
    if (strcmp(kind, "ca_certificates") == 0) {
        struct sb_value *row = row_of(a, "{'id':'%s'}", id);
        unsigned cert = rnd(CERTS + 1);

        sb_object_set(a, row, SB_STR("cert"),
                      sb_value_text(a, cert < CERTS ? certs[cert] : "nothing"));
        return row;
    }
    if (strcmp(kind, "snis") == 0)
        return row_of(a, "{'id':'%s','name':'%s','certificate':{'id':'certificates-%u'}}", id,
                      names[rnd(6)], rnd(POOL));
    if (strcmp(kind, "upstreams") == 0)
        return row_of(a,
                      "{'id':'%s','name':'%s','algorithm':'%s','slots':%u,"
                      "'client_certificate':{'id':'certificates-%u'}}",
                      id, upstream_names[rnd(3)], rnd(8) ? "round-robin" : "guessing", 10 + rnd(3),
                      rnd(POOL * 2));
    if (strcmp(kind, "targets") == 0)
        return row_of(a,
                      "{'id':'%s','upstream':{'id':'upstreams-%u'},'target':'%s','weight':%u,"
                      "'created_at':%u}",
                      id, rnd(POOL), targets[rnd(5)], rnd(3) * 10, rnd(3));
    if (strcmp(kind, "services") == 0)
        return row_of(a,
                      "{'id':'%s','host':'%s','protocol':'http','port':%u,'enabled':%s,"
                      "'retries':%u,'client_certificate':%s,'ca_certificates':[%s]}",
                      id, hosts[rnd(6)], rnd(70000), rnd(6) ? "true" : "false", rnd(9),
                      rnd(2) ? "null" : "{'id':'certificates-1'}",
                      rnd(2) ? "" : "'ca_certificates-1','ca_certificates-2','ca_certificates-1'");
    return row_of(a,
                  "{'id':'%s','name':'n-%s','protocols':['http','https'],'hosts':['h%u.test'],"
                  "'paths':['%s'],'service':%s,'created_at':%u,'updated_at':%u}",
                  id, id, rnd(HOSTS), paths[rnd(5)],
                  rnd(8) ? sb_arena_printf(a, "{'id':'services-%u'}", rnd(POOL)).p : "null", rnd(3),
                  rnd(100));
}

static void random_change(struct sb_model *m)
{
    static const char *const kinds[] = {"certificates", "ca_certificates", "snis",
                                        "upstreams",    "targets",         "targets",
                                        "services",     "routes",          "routes"};
    struct sb_arena *a = sb_arena_new(0);
    const char *kind = kinds[rnd(9)];
    const char *id = id_of(a, kind, rnd(POOL));

    if (rnd(4) == 0)
        sb_model_drop(m, sb_str_c(kind), sb_str_c(id));
    else
        sb_model_put(m, sb_str_c(kind), random_row(a, kind, id), false);
    sb_arena_free(a);
}

/* What a builder shows that reads the same rows at once, in another order. */
static void show_fresh(struct sb_buf *out, struct sb_builder *b, uint64_t version)
{
    struct sb_builder *fresh = sb_builder_new(SB_ROUTER_TRADITIONAL_COMPATIBLE, NULL);
    const struct sb_node *rows[POOL * 10];
    size_t n = 0;

    for (const struct sb_node *node = sb_model_first(sb_builder_model(b)); node; node = node->next)
        rows[n++] = node;
    for (; n; n--) {
        unsigned at = rnd((unsigned)n);

        assert_true(sb_model_put_text(sb_builder_model(fresh), sb_str_c(rows[at]->kind->name),
                                      rows[at]->text));
        rows[at] = rows[n - 1];
    }
    show(out, sb_builder_build(fresh, version));
    show_left_out(out, fresh);
    sb_builder_free(fresh);
}

struct held {
    const struct sb_snapshot *snap;
    struct sb_buf text;
};

/* It shows what it did when it was made; then it goes. */
static void give_back(struct sb_builder *b, struct held *h)
{
    struct sb_buf now;

    sb_buf_init(&now, 0);
    show(&now, h->snap);
    if (!sb_str_eq(sb_buf_get(&now), sb_buf_get(&h->text)))
        fail_msg("was:\n%.*s\nis:\n%.*s", SB_ARG(sb_buf_get(&h->text)), SB_ARG(sb_buf_get(&now)));
    sb_buf_release(&now);
    sb_buf_release(&h->text);
    sb_builder_retire(b, h->snap);
}

static void run_sequence(unsigned long long with_seed, int builds)
{
    struct sb_builder *b = sb_builder_new(SB_ROUTER_TRADITIONAL_COMPATIBLE, NULL);
    struct held held[6];
    size_t nheld = 0;

    seed = with_seed;
    for (int i = 1; i <= builds; i++) {
        struct sb_buf want, got;

        for (unsigned n = rnd(10) + 1; n; n--)
            random_change(sb_builder_model(b));
        sb_buf_init(&want, 0);
        sb_buf_init(&got, 0);
        if (nheld == 6) {
            unsigned at = rnd(6);

            give_back(b, &held[at]);
            held[at] = held[--nheld];
        }
        held[nheld].snap = sb_builder_build(b, (uint64_t)i);
        sb_buf_init(&held[nheld].text, 0);
        show(&held[nheld].text, held[nheld].snap);
        sb_buf_str(&got, sb_buf_get(&held[nheld++].text));
        show_left_out(&got, b);
        show_fresh(&want, b, (uint64_t)i);
        if (!sb_str_eq(sb_buf_get(&want), sb_buf_get(&got)))
            fail_msg("seed %llu, build %d:\n%.*s\nbut fresh:\n%.*s", with_seed, i,
                     SB_ARG(sb_buf_get(&got)), SB_ARG(sb_buf_get(&want)));
        sb_buf_release(&want);
        sb_buf_release(&got);
    }
    while (nheld > 1) {
        unsigned at = held[0].snap->version == (uint64_t)builds; /* the newest goes last */

        give_back(b, &held[at]);
        held[at] = held[--nheld];
    }
    assert_int_equal(sb_builder_waiting(b), 0); /* it reaches nothing that was dropped */
    give_back(b, &held[0]);
    assert_int_equal(sb_builder_held(b), 0);
    sb_builder_free(b);
}

static void any_order_gives_the_same(void **state)
{
    (void)state;
    for (unsigned long long s = 1; s <= 6; s++)
        run_sequence(s, 40);
}

/* -- by hand -- */

static void put(struct sb_builder *b, const char *kind, const char *json)
{
    struct sb_arena *a = sb_arena_new(0);

    sb_model_put(sb_builder_model(b), sb_str_c(kind), row_of(a, "%s", json), false);
    sb_arena_free(a);
}

static bool answers(const struct sb_snapshot *snap, const char *host)
{
    struct sb_router_match match;
    struct sb_router_request q = {.method = SB_STR("GET"),
                                  .scheme = SB_PROTO_HTTP,
                                  .path = SB_STR("/"),
                                  .host = sb_str_c(host)};

    return sb_router_match(snap->router, &q, &match);
}

/* The only trouble there is; "" when there is none. */
static const char *trouble(const struct sb_builder *b)
{
    static char text[300];
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *list = sb_builder_left_out(b, a);

    assert_true(list->count <= 1);
    snprintf(text, sizeof text, "%.*s",
             SB_ARG(list->count ? sb_value_str_at(list->items[0], "reason") : SB_STR("")));
    sb_arena_free(a);
    return text;
}

static void broken_ones_come_alive(void **state)
{
    struct sb_builder *b = sb_builder_new(SB_ROUTER_TRADITIONAL_COMPATIBLE, NULL);
    const struct sb_snapshot *snap;

    (void)state;
    put(b, "routes", "{'id':'r1','hosts':['a'],'protocols':['http'],'service':{'id':'s1'}}");
    put(b, "routes", "{'id':'r2','hosts':['b'],'protocols':['http']}");
    snap = sb_builder_build(b, 1);
    assert_false(answers(snap, "a"));
    assert_true(answers(snap, "b"));
    assert_string_equal(trouble(b), "its service s1 is missing or left out");

    put(b, "services", "{'id':'s1','host':'x'}");
    snap = sb_builder_build(b, 2);
    assert_true(answers(snap, "a"));
    assert_string_equal(trouble(b), "");

    put(b, "services", "{'id':'s1','host':'x','enabled':false}");
    snap = sb_builder_build(b, 3);
    assert_false(answers(snap, "a"));
    assert_string_equal(trouble(b), "");

    put(b, "services", "{'id':'s1','host':'x','port':123456}");
    put(b, "routes", "{'id':'r2','hosts':['b'],'protocols':['http'],'paths':['~/(']}");
    snap = sb_builder_build(b, 4);
    assert_int_equal(sb_builder_left_out_count(b), 3);
    assert_false(answers(snap, "b"));

    put(b, "routes", "{'id':'r2','hosts':['b'],'protocols':['http'],'paths':['~/']}");
    put(b, "services", "{'id':'s1','host':'x','port':80}");
    snap = sb_builder_build(b, 5);
    assert_true(answers(snap, "a") && answers(snap, "b"));
    assert_string_equal(trouble(b), "");
    sb_builder_free(b);
}

/* A pair that fits is served under its names and as a CA; one that does not is left out alone. */
static void certificates_are_served(void **state)
{
    struct sb_builder *b = sb_builder_new(SB_ROUTER_TRADITIONAL_COMPATIBLE, NULL);
    struct sb_arena *a = sb_arena_new(0);
    const struct sb_certificate *c;
    const struct sb_snapshot *snap;

    (void)state;
    sb_model_put(sb_builder_model(b), SB_STR("certificates"), certificate_row(a, "c1", 0, 0),
                 false);
    put(b, "snis", "{'id':'n1','name':'a.test','certificate':{'id':'c1'}}");
    put(b, "snis", "{'id':'n2','name':'*.a.test','certificate':{'id':'c1'}}");
    snap = sb_builder_build(b, 1);
    assert_string_equal(trouble(b), "");
    c = sb_snapshot_certificate(snap, SB_STR("a.test"));
    assert_true(c && c->cert && c->key);
    assert_ptr_equal(sb_snapshot_certificate(snap, SB_STR("x.a.test")), c);
    assert_null(sb_snapshot_certificate(snap, SB_STR("b.test")));
    sb_arena_free(a);
    sb_builder_free(b);
}

/* Certificates whose texts are secrets elsewhere: looked up, and again when these rotate. */
static void certificates_by_reference(void **state)
{
    struct sb_builder *b = sb_builder_new(SB_ROUTER_TRADITIONAL_COMPATIBLE, NULL);
    const struct sb_certificate *c;

    (void)state;
    put(b, "certificates",
        "{'id':'c1','cert':'{vault://env/tls-cert}','key':'{vault://env/tls-key}'}");
    put(b, "snis", "{'id':'n1','name':'a.test','certificate':{'id':'c1'}}");
    assert_null(sb_snapshot_certificate(sb_builder_build(b, 1), SB_STR("a.test")));
    assert_int_equal(sb_builder_left_out_count(b), 2);
    for (int i = 0; i < 2; i++) {
        setenv("TLS_CERT", certs[i], 1);
        setenv("TLS_KEY", keys[i], 1);
        assert_true(sb_builder_rotate(b));
        c = sb_snapshot_certificate(sb_builder_build(b, 2), SB_STR("a.test"));
        assert_non_null(c);
        assert_int_equal(ASN1_INTEGER_get(X509_get0_serialNumber(c->cert)), i + 1);
        assert_int_equal(sb_builder_left_out_count(b), 0);
    }
    assert_false(sb_builder_rotate(b));
    sb_builder_free(b);
}

static void targets_are_read(void **state)
{
    static const struct {
        const char *target, *host;
        int port; /* -1: refused */
    } cases[] = {
        {"10.0.0.1:81", "10.0.0.1", 81},
        {"10.0.0.1", "10.0.0.1", 8000},
        {"name.test:0", "name.test", 0},
        {"[::1]:81", "::1", 81},
        {"[::1]", "::1", 8000},
        {"::1", "::1", 8000},
        {"a:65535", "a", 65535},
        {"a:65536", "", -1},
        {"a:", "", -1},
        {":80", "", -1},
        {"a:x", "", -1},
        {"", "", -1},
        {"[]:80", "", -1},
        {"[::1]x", "", -1},
        {"[::1]:", "", -1},
        {"[::1", "", -1},
        {"a:-1", "", -1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sb_builder *b = sb_builder_new(SB_ROUTER_TRADITIONAL_COMPATIBLE, NULL);
        struct sb_arena *a = sb_arena_new(0);
        const struct sb_upstream *u;

        put(b, "upstreams", "{'id':'u','name':'u'}");
        put(b, "targets",
            sb_arena_printf(a, "{'id':'t','upstream':{'id':'u'},'target':'%s'}", cases[i].target)
                .p);
        u = sb_snapshot_upstream(sb_builder_build(b, 1), SB_STR("u"));
        if (u->ntargets != (cases[i].port >= 0))
            fail_msg("'%s': %zu targets", cases[i].target, u->ntargets);
        if (u->ntargets) {
            assert_string_equal(u->targets[0].host.p, cases[i].host);
            assert_int_equal(u->targets[0].port, cases[i].port);
            assert_int_equal(u->targets[0].weight, 100);
        }
        sb_arena_free(a);
        sb_builder_free(b);
    }
}

/* -- what a change costs -- */

enum { ROUTES = 20000 };

static const struct sb_snapshot *build_after(struct sb_builder *b, const char *kind,
                                             const char *json)
{
    put(b, kind, json);
    return sb_builder_build(b, 2);
}

static void a_change_costs_what_it_touches(void **state)
{
    struct sb_builder *b = sb_builder_new(SB_ROUTER_TRADITIONAL_COMPATIBLE, NULL);
    struct sb_arena *a = sb_arena_new(0);
    const struct sb_snapshot *snap;

    (void)state;
    for (int i = 0; i < ROUTES; i++) {
        put(b, "services", sb_arena_printf(a, "{'id':'s%d','host':'u%d.test'}", i, i).p);
        put(b, "upstreams", sb_arena_printf(a, "{'id':'u%d','name':'u%d.test'}", i, i).p);
        put(b, "targets",
            sb_arena_printf(a,
                            "{'id':'t%d','upstream':{'id':'u%d'},"
                            "'target':'10.0.0.1:80'}",
                            i, i)
                .p);
        put(b, "routes",
            sb_arena_printf(a,
                            "{'id':'r%d','hosts':['h%d'],'protocols':['http'],"
                            "'service':{'id':'s%d'}}",
                            i, i, i)
                .p);
        sb_arena_clear(a);
    }
    snap = sb_builder_build(b, 1);
    assert_int_equal(sb_builder_compiled(b), 4 * ROUTES);
    assert_int_equal(sb_router_size(snap->router), ROUTES);
    assert_true(answers(snap, "h19999"));

    snap = build_after(b, "routes", "{'id':'r7','hosts':['h7'],'protocols':['http']}");
    assert_int_equal(sb_builder_compiled(b), 1);
    snap = build_after(b, "targets", "{'id':'t8','upstream':{'id':'u8'},'target':'10.0.0.2:80'}");
    assert_int_equal(sb_builder_compiled(b), 2); /* and its upstream */
    snap = build_after(b, "upstreams", "{'id':'new','name':'new.test'}");
    assert_int_equal(sb_builder_compiled(b), 1);
    snap = build_after(b, "services", "{'id':'s9','host':'new.test'}");
    assert_int_equal(sb_builder_compiled(b), 2); /* and its route */
    snap = build_after(b, "services", "{'id':'s9','host':'new.test','updated_at':5}");
    assert_int_equal(sb_builder_compiled(b), 2); /* both show when */
    snap = build_after(b, "services", "{'id':'s9','host':'new.test','updated_at':5}");
    assert_int_equal(sb_builder_compiled(b), 0);
    (void)snap;
    sb_arena_free(a);
    sb_builder_free(b);
}

/* A document that is posted again has new timestamps and nothing else. */
static void equal_documents_change_nothing(void **state)
{
    struct sb_builder *b = sb_builder_new(SB_ROUTER_TRADITIONAL_COMPATIBLE, NULL);
    struct sb_model *m = sb_builder_model(b);
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    for (int round = 0; round < 3; round++) {
        sb_model_replace_begin(m);
        for (int i = 0; i < 50; i++) {
            struct sb_value *row =
                row_of(a, "{'id':'s%d','host':'h','created_at':%d,'updated_at':%d}", i, 100 + round,
                       100 + round);

            if (round < 2 || i != 7)
                sb_model_put(m, SB_STR("services"), row, true);
        }
        sb_model_replace_end(m, NULL);
        sb_builder_build(b, 1);
        assert_int_equal(sb_builder_compiled(b), round == 0 ? 50 : round == 1 ? 0 : 1);
    }
    assert_int_equal(sb_model_rows(m), 49);
    sb_arena_free(a);
    sb_builder_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_order_gives_the_same),
        cmocka_unit_test(broken_ones_come_alive),
        cmocka_unit_test(certificates_are_served),
        cmocka_unit_test(certificates_by_reference),
        cmocka_unit_test(targets_are_read),
        cmocka_unit_test(a_change_costs_what_it_touches),
        cmocka_unit_test(equal_documents_change_nothing),
    };

    return cmocka_run_group_tests(tests, make_certificates, free_certificates);
}
