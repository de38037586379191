/* Translating only what a change affects gives what translating everything would: objects are put,
 * changed and removed at random, and after each round the document, the failures and the entities
 * told of one long-lived translator are compared with those of a fresh one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "controlplane/translate/translate.h"
#include "shared/digest.h"
#include "shared/json.h"
#include "shared/map.h"
#include "shared/yaml.h"

enum { HISTORIES = 6, ROUNDS = 100, CHANGES_MAX = 6, NAMES = 4 };

/* -- random objects -------------------------------------------------------------------------------
 */

static unsigned seed;

static unsigned pick(unsigned n)
{
    seed = seed * 1103515245u + 12345u;
    return (seed >> 16) % n;
}

static const char *one_of(const char *const *list)
{
    unsigned n = 0;

    while (list[n])
        n++;
    return list[pick(n)];
}
#define ONE_OF(...) one_of((const char *const[]){__VA_ARGS__, NULL})

static void metadata(struct sb_buf *b, const char *ns, const char *name, const char *more)
{
    sb_buf_printf(b,
                  "metadata:\n  namespace: %s\n  name: %s\n  uid: 00000000-0000-4000-8000-"
                  "%012x\n  creationTimestamp: '2024-01-0%uT00:00:00Z'\n%s",
                  ns, name, pick(1000), 1 + pick(3), more);
}

static void ingress(struct sb_buf *b, const char *ns, const char *name)
{
    static const char *const notes[] = {
        "",
        "  annotations: {konghq.com/strip-path: 'true'}\n",
        "  annotations: {konghq.com/rewrite: /x}\n",
        "  annotations: {kubernetes.io/ingress.class: other}\n",
        "  annotations: {konghq.com/tags: 'a,b', konghq.com/methods: get}\n",
        NULL,
    };
    unsigned rules = 1 + pick(3);

    sb_buf_cstr(b, "apiVersion: networking.k8s.io/v1\nkind: Ingress\n");
    metadata(b, ns, name, one_of(notes));
    sb_buf_printf(b, "spec:\n%s",
                  ONE_OF("  ingressClassName: kong\n", "  ingressClassName: kong\n",
                         "  ingressClassName: kong\n", ""));
    if (!pick(3))
        sb_buf_printf(b, "  defaultBackend: {service: {name: s%u, port: {number: 80}}}\n",
                      pick(NAMES));
    if (!pick(2))
        sb_buf_printf(b, "  tls:\n  - {secretName: t%u, hosts: [%s, %s]}\n", pick(3),
                      ONE_OF("a.com", "b.com"), ONE_OF("c.com", "d.com"));
    sb_buf_cstr(b, "  rules:\n");
    for (unsigned i = 0; i < rules; i++)
        sb_buf_printf(b,
                      "  - host: %s\n    http:\n      paths:\n      - {path: %s, pathType: %s, "
                      "backend: {service: {name: s%u, port: {%s}}}}\n",
                      ONE_OF("a.com", "b.a.com", "'*.x.com'", "s1.a.com"), ONE_OF("/", "/a", "/b/"),
                      ONE_OF("Prefix", "Exact", "ImplementationSpecific"), pick(NAMES),
                      ONE_OF("number: 80", "number: 81", "name: http"));
}

static void service(struct sb_buf *b, const char *ns, const char *name)
{
    static const char *const notes[] = {
        "",
        "  annotations: {konghq.com/protocol: https, konghq.com/client-cert: t1}\n",
        "  annotations: {konghq.com/protocol: nonsense}\n",
        "  annotations: {ingress.kubernetes.io/service-upstream: 'true'}\n",
        "  annotations: {konghq.com/protocol: https, konghq.com/tls-verify: 'true', "
        "konghq.com/ca-certificates-secrets: t2}\n",
        "  annotations: {konghq.com/host-header: h.com, konghq.com/retries: '3'}\n",
        NULL,
    };

    sb_buf_cstr(b, "apiVersion: v1\nkind: Service\n");
    metadata(b, ns, name, one_of(notes));
    sb_buf_printf(b, "spec:\n  ports:\n  - {name: http, port: %u, protocol: TCP}\n", 80 + pick(2));
}

static void slice(struct sb_buf *b, const char *ns, const char *name)
{
    char label[80];

    snprintf(label, sizeof label, "  labels: {kubernetes.io/service-name: s%u}\n", pick(NAMES));
    sb_buf_cstr(b, "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n");
    metadata(b, ns, name, label);
    sb_buf_printf(b,
                  "addressType: IPv4\nendpoints:\n- {addresses: [10.0.0.%u], conditions: {ready: "
                  "%s}}\n- {addresses: [10.0.1.%u]}\nports: [{name: http, port: 8080, protocol: "
                  "TCP}]\n",
                  pick(9), ONE_OF("true", "false"), pick(9));
}

/* -- key pairs ------------------------------------------------------------------------------------
 */

enum { PAIRS = 2 };
static char *pairs[PAIRS]; /* as lines of a Secret's data */

static void add_pem(struct sb_buf *b, const char *key, BIO *bio)
{
    struct sb_arena *a = sb_arena_new(0);
    char *p;
    long len = BIO_get_mem_data(bio, &p);

    sb_buf_printf(b, "  %s: %.*s\n", key, SB_ARG(sb_base64_encode(a, sb_str_n(p, (size_t)len))));
    sb_arena_free(a);
    BIO_free(bio);
}

static char *make_pair(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    BIO *cert_text = BIO_new(BIO_s_mem()), *key_text = BIO_new(BIO_s_mem());
    X509 *cert = X509_new();
    struct sb_buf b;

    X509_gmtime_adj(X509_getm_notBefore(cert), 0);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    PEM_write_bio_X509(cert_text, cert);
    PEM_write_bio_PrivateKey(key_text, key, NULL, NULL, 0, NULL, NULL);
    sb_buf_init(&b, 0);
    add_pem(&b, "tls.crt", cert_text);
    add_pem(&b, "tls.key", key_text);
    sb_buf_char(&b, 0);
    X509_free(cert);
    EVP_PKEY_free(key);
    return b.p;
}

static int make_pairs(void **state)
{
    (void)state;
    for (int i = 0; i < PAIRS; i++)
        pairs[i] = make_pair();
    return 0;
}

static int free_pairs(void **state)
{
    (void)state;
    for (int i = 0; i < PAIRS; i++)
        free(pairs[i]);
    return 0;
}

static void secret(struct sb_buf *b, const char *ns, const char *name)
{
    sb_buf_cstr(b, "apiVersion: v1\nkind: Secret\n");
    metadata(b, ns, name, pick(3) ? "" : "  labels: {konghq.com/ca-cert: 'true'}\n");
    sb_buf_printf(b, "data:\n%s%s", pick(2) ? "  id: YQ==\n" : "",
                  pick(4) ? pairs[pick(PAIRS)] : "  tls.crt: eA==\n");
}

static void ingress_class(struct sb_buf *b, const char *ns, const char *name)
{
    (void)ns;
    (void)name;
    sb_buf_printf(b,
                  "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata:\n  name: kong\n"
                  "  annotations: {ingressclass.kubernetes.io/is-default-class: '%s'}\n",
                  ONE_OF("true", "false"));
}

static const struct {
    const char *kind, *api_version, *prefix;
    bool namespaced;
    void (*write)(struct sb_buf *b, const char *ns, const char *name);
} makers[] = {
    {"Ingress", "networking.k8s.io/v1", "i", true, ingress},
    {"Ingress", "networking.k8s.io/v1", "i.s", true, ingress},
    {"Service", "v1", "s", true, service},
    {"EndpointSlice", "discovery.k8s.io/v1", "e", true, slice},
    {"Secret", "v1", "t", true, secret},
    {"IngressClass", "networking.k8s.io/v1", "kong", false, ingress_class},
};

static void change(struct sb_objects *objects)
{
    unsigned m = pick(sizeof makers / sizeof *makers);
    const struct sb_kind *kind =
        sb_kind_find(sb_str_c(makers[m].kind), sb_str_c(makers[m].api_version));
    const char *ns = makers[m].namespaced ? ONE_OF("n", "n-a") : "";
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *object;
    struct sb_buf text;
    char name[32];

    assert_non_null(kind);
    if (makers[m].namespaced)
        snprintf(name, sizeof name, "%s%u", makers[m].prefix, pick(NAMES));
    else
        snprintf(name, sizeof name, "%s", makers[m].prefix);
    sb_buf_init(&text, 0);
    if (!pick(3)) {
        sb_objects_remove(objects, kind, sb_str_c(ns), sb_str_c(name));
    } else {
        makers[m].write(&text, ns, name);
        assert_int_equal(sb_yaml_parse(a, sb_buf_get(&text), &object, NULL), SB_OK);
        sb_objects_put(objects, kind, object);
    }
    sb_buf_release(&text);
    sb_arena_free(a);
}

/* -- comparing ------------------------------------------------------------------------------------
 */

/* Says where two texts part. */
static void assert_same_text(const char *x, const char *y)
{
    size_t at = 0, line = 0;

    for (; x[at] && x[at] == y[at]; at++)
        line = x[at] == '\n' ? at + 1 : line;
    if (x[at] != y[at])
        print_error("again: ...%.400s\n\nanew: ...%.400s\n", x + line, y + line);
    assert_int_equal(x[at], y[at]);
}

static void same_text(const struct sb_translator *t, const struct sb_translator *fresh,
                      struct sb_arena *a)
{
    struct sb_buf x, y;

    sb_buf_init(&x, 0);
    sb_buf_init(&y, 0);
    sb_yaml_write(&x, sb_translator_document(t, a));
    sb_yaml_write(&y, sb_translator_document(fresh, a));
    assert_same_text(sb_arena_cstr(a, sb_buf_get(&x)), sb_arena_cstr(a, sb_buf_get(&y)));
    sb_buf_release(&x);
    sb_buf_release(&y);
}

static void same_failures(const struct sb_translator *t, const struct sb_translator *fresh,
                          struct sb_arena *a)
{
    const struct sb_translate_failure *x, *y;
    size_t n = sb_translator_failures(t, a, &x);

    assert_int_equal(n, sb_translator_failures(fresh, a, &y));
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(sb_arena_cstr(a, x[i].object), sb_arena_cstr(a, y[i].object));
        assert_string_equal(sb_arena_cstr(a, x[i].message), sb_arena_cstr(a, y[i].message));
    }
}

/* What a reader of the changes holds: "entity key" -> its text. */
static void follow(struct sb_map *mirror, struct sb_arena *keep,
                   const struct sb_translated *changes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct sb_str key =
            sb_arena_printf(keep, "%s %.*s", changes[i].entity, SB_ARG(changes[i].key));
        struct sb_str *text = SB_NEW(keep, struct sb_str);

        if (!changes[i].value) {
            assert_non_null(sb_map_remove(mirror, key));
            continue;
        }
        *text = sb_arena_printf(keep, "%s %.*s %.*s",
                                changes[i].parent_entity ? changes[i].parent_entity : "",
                                SB_ARG(changes[i].parent),
                                SB_ARG(sb_json_text(keep, changes[i].value, SB_JSON_SORTED)));
        sb_map_set(mirror, key, text);
    }
}

static void same_entities(const struct sb_map *mirror, const struct sb_translator *fresh,
                          struct sb_arena *a)
{
    const struct sb_translated *all;
    size_t n = sb_translator_entities(fresh, a, &all);
    struct sb_map want = {0};
    struct sb_map_slot *slot;

    follow(&want, a, all, n);
    assert_int_equal(mirror->count, want.count);
    sb_map_each (slot, &want) {
        const struct sb_str *held = sb_map_get(mirror, slot->key);

        assert_non_null(held);
        assert_true(sb_str_eq(*held, *(struct sb_str *)slot->value));
    }
    sb_map_release(&want);
}

static void history(unsigned number)
{
    struct sb_translate_settings settings;
    struct sb_objects *objects = sb_objects_new();
    struct sb_arena *keep = sb_arena_new(0);
    const struct sb_translated *changes;
    struct sb_map mirror = {0};
    struct sb_translator *t;

    seed = number;
    sb_translate_settings_init(&settings);
    settings.rewrite_uris = number % 2;
    t = sb_translator_new(&settings, objects);
    sb_objects_listen(objects, sb_translator_note, t);
    for (int round = 0; round < ROUNDS; round++) {
        struct sb_arena *a = sb_arena_new(0);
        struct sb_translator *fresh;
        size_t n;

        for (unsigned i = 1 + pick(CHANGES_MAX); i; i--)
            change(objects);
        n = sb_translator_run(t, &changes);
        assert_false(sb_translator_pending(t));
        follow(&mirror, keep, changes, n);
        fresh = sb_translator_new(&settings, objects);
        sb_translator_run(fresh, &changes);
        same_text(t, fresh, a);
        same_failures(t, fresh, a);
        same_entities(&mirror, fresh, a);
        sb_translator_free(fresh);
        sb_arena_free(a);
    }
    sb_map_release(&mirror);
    sb_translator_free(t);
    sb_objects_free(objects);
    sb_arena_free(keep);
}

static void again_is_anew(void **state)
{
    (void)state;
    for (unsigned i = 1; i <= HISTORIES; i++)
        history(i);
}

static void nothing_is_no_change(void **state)
{
    struct sb_translate_settings settings;
    struct sb_objects *objects = sb_objects_new();
    const struct sb_translated *changes;
    struct sb_translator *t;

    (void)state;
    seed = 7;
    sb_translate_settings_init(&settings);
    for (int i = 0; i < 60; i++)
        change(objects);
    t = sb_translator_new(&settings, objects);
    assert_true(sb_translator_run(t, &changes) > 0);
    assert_int_equal(sb_translator_run(t, &changes), 0);
    assert_false(sb_translator_failures_changed(t));
    sb_translator_free(t);
    sb_objects_free(objects);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(again_is_anew),
        cmocka_unit_test(nothing_is_no_change),
    };

    return cmocka_run_group_tests(tests, make_pairs, free_pairs);
}
