/* The controller's view of Kubernetes: cache, kubeconfig, manifests, the stream of a watch. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>

#include "controlplane/kube/client.h"
#include "controlplane/kube/manifests.h"
#include "controlplane/kube/objects.h"
#include "controlplane/kube/watch.h"
#include "shared/buf.h"
#include "shared/clock.h"
#include "shared/json.h"
#include "shared/yaml.h"

static struct sb_value *parse(struct sb_arena *a, const char *yaml)
{
    struct sb_value *v;
    struct sb_err err = {0};

    if (sb_yaml_parse(a, sb_str_c(yaml), &v, &err))
        fail_msg("%s", err.text);
    return v;
}

static bool put(struct sb_objects *o, const char *yaml)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *v = parse(a, yaml);
    const struct sb_kind *kind =
        sb_kind_find(sb_value_str_at(v, "kind"), sb_value_str_at(v, "apiVersion"));
    bool changed;

    assert_non_null(kind);
    changed = sb_objects_put(o, kind, v);
    sb_arena_free(a);
    return changed;
}

/* -- the cache ------------------------------------------------------------------------------------
 */

static void kinds_are_found_by_group_and_version(void **state)
{
    static const struct {
        const char *kind, *api_version;
        bool found;
    } rows[] = {{"Ingress", "networking.k8s.io/v1", true},
                {"Ingress", "networking.k8s.io/v1beta1", false},
                {"Ingress", "networking.k8s.io", false},
                {"Ingress", "v1", false},
                {"Service", "v1", true},
                {"Service", "serving.knative.dev/v1", false},
                {"Service", "", false}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(sb_kind_find(sb_str_c(rows[i].kind), sb_str_c(rows[i].api_version)) !=
                             NULL,
                         rows[i].found);
}

static void only_what_is_needed_is_kept(void **state)
{
    static const struct {
        const char *name, *given, *kept;
    } rows[] = {
        {"service",
         "{apiVersion: v1, kind: Service, metadata: {name: a, namespace: b, resourceVersion: '7', "
         "managedFields: [{x: 1}], generation: 3, labels: {l: m}, annotations: {c: d, "
         "kubectl.kubernetes.io/last-applied-configuration: big}}, spec: {ports: [{port: 80}], "
         "selector: {x: y}, clusterIP: 1.2.3.4, sessionAffinity: None}, status: {loadBalancer: {}, "
         "conditions: []}}",
         "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"annotations\":{\"c\":\"d\"},"
         "\"labels\":{\"l\":\"m\"},\"name\":\"a\",\"namespace\":\"b\"},\"spec\":{\"clusterIP\":\"1."
         "2.3.4\","
         "\"ports\":[{\"port\":80}]},\"status\":{\"loadBalancer\":{}}}"},
        {"slice, through arrays",
         "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a, namespace: "
         "b}, "
         "addressType: IPv4, ports: [{port: 1}], endpoints: [{addresses: [10.0.0.1], nodeName: n, "
         "conditions: {ready: true}}, {addresses: [10.0.0.2], targetRef: {kind: Pod}}]}",
         "{\"addressType\":\"IPv4\",\"apiVersion\":\"discovery.k8s.io/v1\",\"endpoints\":[{"
         "\"addresses\":[\"10.0.0.1\"],\"conditions\":{\"ready\":true}},{\"addresses\":[\"10.0.0."
         "2\"]}],"
         "\"kind\":\"EndpointSlice\",\"metadata\":{\"name\":\"a\",\"namespace\":\"b\"},"
         "\"ports\":[{\"port\":1}]}"},
        {"namespace",
         "{apiVersion: v1, kind: Namespace, metadata: {name: a}, spec: {finalizers: [k]}}",
         "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"a\"}}"},
    };
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_objects *o = sb_objects_new();
        struct sb_value *v = parse(a, rows[i].given);
        struct sb_str text;

        assert_true(put(o, rows[i].given));
        text = sb_json_text(a,
                            sb_objects_get(o, sb_arena_cstr(a, sb_value_str_at(v, "kind")),
                                           sb_object_ns(v), sb_object_name(v)),
                            SB_JSON_SORTED);
        assert_string_equal(text.p, rows[i].kept);
        sb_objects_free(o);
    }
    sb_arena_free(a);
}

static void what_nobody_sees_is_no_change(void **state)
{
    struct sb_objects *o = sb_objects_new();

    (void)state;
    assert_true(put(o, "{apiVersion: v1, kind: Secret, metadata: {name: a, namespace: b, "
                       "resourceVersion: '1'}, data: {x: eA==}}"));
    assert_false(put(o, "{apiVersion: v1, kind: Secret, metadata: {name: a, namespace: b, "
                        "resourceVersion: '2', managedFields: []}, data: {x: eA==}}"));
    assert_true(put(o, "{apiVersion: v1, kind: Secret, metadata: {name: a, namespace: b}, "
                       "data: {x: eQ==}}"));
    assert_true(sb_objects_remove(o, sb_kind_find(SB_STR("Secret"), SB_STR("v1")), SB_STR("b"),
                                  SB_STR("a")));
    assert_false(sb_objects_remove(o, sb_kind_find(SB_STR("Secret"), SB_STR("v1")), SB_STR("b"),
                                   SB_STR("a")));
    sb_objects_free(o);
}

static void lists_are_sorted(void **state)
{
    static const char *const names[][2] = {{"b", "a"}, {"a", "z"}, {"a-b", "c"}, {"a", "b"}};
    static const char *const sorted[][2] = {{"a", "b"}, {"a", "z"}, {"a-b", "c"}, {"b", "a"}};
    struct sb_objects *o = sb_objects_new();
    struct sb_arena *a = sb_arena_new(0);
    const struct sb_value *const *list;

    (void)state;
    for (size_t i = 0; i < 4; i++)
        put(o, sb_arena_printf(
                   a, "{apiVersion: v1, kind: Service, metadata: {namespace: %s, name: %s}}",
                   names[i][0], names[i][1])
                   .p);
    assert_int_equal(sb_objects_list(o, "Service", a, &list), 4);
    for (size_t i = 0; i < 4; i++) {
        assert_true(sb_str_is(sb_object_ns(list[i]), sorted[i][0]));
        assert_true(sb_str_is(sb_object_name(list[i]), sorted[i][1]));
    }
    assert_int_equal(sb_objects_list(o, "Ingress", a, &list), 0);
    sb_arena_free(a);
    sb_objects_free(o);
}

static size_t refs(struct sb_objects *o, enum sb_objects_ref ref, const char *name)
{
    struct sb_arena *a = sb_arena_new(0);
    const struct sb_value *const *list;
    size_t n = sb_objects_refs(o, ref, SB_STR("ns"), sb_str_c(name), a, &list);

    sb_arena_free(a);
    return n;
}

static void references_follow_changes(void **state)
{
    struct sb_objects *o = sb_objects_new();

    (void)state;
    put(o, "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: i, namespace: ns}, "
           "spec: {defaultBackend: {service: {name: d}}, tls: [{secretName: t}], rules: [{http: "
           "{paths: "
           "[{backend: {service: {name: s}}}, {backend: {service: {name: s}}}]}}]}}");
    put(o, "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: j, namespace: ns}, "
           "spec: {rules: [{http: {paths: [{backend: {service: {name: s}}}]}}]}}");
    put(o,
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: e, namespace: ns, "
        "labels: {kubernetes.io/service-name: s}}}");
    assert_int_equal(refs(o, SB_REF_INGRESSES_OF_SERVICE, "s"), 2);
    assert_int_equal(refs(o, SB_REF_INGRESSES_OF_SERVICE, "d"), 1);
    assert_int_equal(refs(o, SB_REF_INGRESSES_OF_SECRET, "t"), 1);
    assert_int_equal(refs(o, SB_REF_SLICES_OF_SERVICE, "s"), 1);
    put(o, "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: i, namespace: ns}, "
           "spec: {rules: [{http: {paths: [{backend: {service: {name: u}}}]}}]}}");
    assert_int_equal(refs(o, SB_REF_INGRESSES_OF_SERVICE, "s"), 1);
    assert_int_equal(refs(o, SB_REF_INGRESSES_OF_SERVICE, "u"), 1);
    assert_int_equal(refs(o, SB_REF_INGRESSES_OF_SECRET, "t"), 0);
    sb_objects_free(o);
}

/* -- kubeconfig -----------------------------------------------------------------------------------
 */

static char *temp_dir(struct sb_arena *a)
{
    char *dir = sb_arena_cstr(a, SB_STR("/tmp/sb-kube-XXXXXX"));

    assert_non_null(mkdtemp(dir));
    return dir;
}

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[512];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void remove_tree(const char *dir)
{
    char command[600];

    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
}

#define CONTEXT "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n"

static void kubeconfig_says_what_is_wrong(void **state)
{
    static const struct {
        const char *text, *words; /* NULL: fine */
    } rows[] = {
        {"", "is empty"},
        {"just words", "not a kubeconfig"},
        {"a: [", "line"},
        {"apiVersion: v1\n", "current-context is missing"},
        {"current-context: c\n", "no entry named \"c\" in \"contexts\""},
        {"current-context: c\ncontexts: [{name: c}]\n", "contexts \"c\" has no field \"context\""},
        {"current-context: c\ncontexts: [{name: c, context: {user: u}}]\n", "\"c\" has no cluster"},
        {CONTEXT, "no entry named \"k\" in \"clusters\""},
        {CONTEXT "clusters: [{name: k, cluster: {}}]\n", "cluster.server is missing"},
        {CONTEXT "clusters: [{name: k, cluster: {server: 'ftp://x'}}]\n", "not an http(s) URL"},
        {CONTEXT "clusters: [{name: k, cluster: {server: 'https://x'}}]\n",
         "no entry named \"u\" in \"users\""},
        {CONTEXT "clusters: [{name: k, cluster: {server: 'https://x', certificate-authority-data: "
                 "'%%'}}]\nusers: [{name: u, user: {}}]\n",
         "cluster.certificate-authority-data is not base64"},
        {CONTEXT "clusters: [{name: k, cluster: {server: 'https://x', certificate-authority-data: "
                 "aGFsbG8=}}]\nusers: [{name: u, user: {}}]\n",
         "cluster.certificate-authority-data holds no PEM"},
        {CONTEXT "clusters: [{name: k, cluster: {server: 'https://x'}}]\nusers: [{name: u, user: "
                 "{client-certificate: a}}]\n",
         "need each other"},
        {CONTEXT "clusters: [{name: k, cluster: {server: 'https://x'}}]\nusers: [{name: u, user: "
                 "{exec: {command: aws}}}]\n",
         "user.exec"},
        {CONTEXT "clusters: [{name: k, cluster: {server: 'https://x/'}}]\nusers: [{name: u, user: "
                 "{token: t}}]\n",
         NULL},
    };
    struct sb_arena *a = sb_arena_new(0);
    char *dir = temp_dir(a);
    const char *path = sb_arena_printf(a, "%s/config", dir).p;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_kube_config config = {0};
        struct sb_err err = {0};
        enum sb_rc rc;

        write_file(dir, "config", rows[i].text);
        rc = sb_kube_config_file(a, path, &config, &err);
        if (!rows[i].words) {
            assert_int_equal(rc, SB_OK);
            assert_string_equal(config.server, "https://x");
            assert_string_equal(config.token, "t");
            assert_string_equal(config.ns, "default");
            continue;
        }
        assert_int_not_equal(rc, SB_OK);
        if (!strstr(err.text, rows[i].words) || !strstr(err.text, path))
            fail_msg("\"%s\" does not say \"%s\"", err.text, rows[i].words);
    }
    remove_tree(dir);
    sb_arena_free(a);
}

static void kubeconfig_paths_are_relative_to_it(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    char *dir = temp_dir(a);
    struct sb_kube_config config = {0};
    struct sb_err err = {0};

    (void)state;
    write_file(dir, "config",
               CONTEXT "clusters: [{name: k, cluster: {server: 'https://x', certificate-authority: "
                       "pki/ca.crt}}]\nusers: [{name: u, user: {tokenFile: /t}}]\n");
    assert_int_equal(sb_kube_config_file(a, sb_arena_printf(a, "%s/config", dir).p, &config, &err),
                     SB_OK);
    assert_string_equal(config.ca_file, sb_arena_printf(a, "%s/pki/ca.crt", dir).p);
    assert_string_equal(config.token_file, "/t");
    remove_tree(dir);
    sb_arena_free(a);
}

static void the_servers_name_may_be_another(void **state)
{
    static const struct {
        const char *server, *url, *connect_to;
    } rows[] = {
        {"https://10.0.0.1:6443", "https://kube:6443", "10.0.0.1:6443"},
        {"https://10.0.0.1", "https://kube:443", "10.0.0.1:443"},
        {"https://[fd00::1]", "https://kube:443", "[fd00::1]:443"},
        {"https://host:1/k8s/c1/", "https://kube:1/k8s/c1", "host:1"},
    };
    struct sb_arena *a = sb_arena_new(0);
    char *dir = temp_dir(a);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_kube_config config = {0};
        struct sb_err err = {0};

        write_file(dir, "config",
                   sb_arena_printf(a,
                                   CONTEXT
                                   "clusters: [{name: k, cluster: {server: '%s', "
                                   "tls-server-name: kube}}]\nusers: [{name: u, user: {}}]\n",
                                   rows[i].server)
                       .p);
        if (sb_kube_config_file(a, sb_arena_printf(a, "%s/config", dir).p, &config, &err))
            fail_msg("%s", err.text);
        assert_string_equal(config.server, rows[i].url);
        assert_string_equal(config.connect_to, rows[i].connect_to);
    }
    remove_tree(dir);
    sb_arena_free(a);
}

/* -- the stream of a watch ------------------------------------------------------------------------
 */

static bool collect(void *arg, struct sb_str line)
{
    sb_buf_printf(arg, "[%.*s]", SB_ARG(line));
    return !sb_str_is(line, "stop");
}

/* However the bytes are cut, the lines are the same. */
static void lines_of_any_pieces(void **state)
{
    static const struct sb_str text = SB_STR_INIT("{\"a\":1}\n\n{\"b\":2}\r\nlong long\nx\n");

    (void)state;
    for (size_t piece = 1; piece <= text.len; piece++) {
        struct sb_buf out;
        struct sb_watch_lines *lines;

        sb_buf_init(&out, 0);
        lines = sb_watch_lines_new(collect, &out);
        for (size_t at = 0; at < text.len; at += piece)
            assert_true(sb_watch_lines_feed(lines, sb_str_first(sb_str_from(text, at), piece)));
        sb_buf_char(&out, '\0');
        assert_string_equal(out.p, "[{\"a\":1}][{\"b\":2}][long long][x]");
        sb_watch_lines_free(lines);
        sb_buf_release(&out);
    }
}

static void lines_end_when_told_and_when_too_long(void **state)
{
    struct sb_buf out;
    struct sb_watch_lines *lines;
    char *big = sb_xcalloc(1, 1 << 20);
    bool more = true;
    int pieces = 0;

    (void)state;
    sb_buf_init(&out, 0);
    lines = sb_watch_lines_new(collect, &out);
    assert_false(sb_watch_lines_feed(lines, SB_STR("a\nstop\nb\n")));
    assert_true(sb_str_is(sb_buf_get(&out), "[a][stop]"));
    sb_watch_lines_free(lines);

    lines = sb_watch_lines_new(collect, &out);
    memset(big, 'x', 1 << 20);
    while (more && pieces < 64)
        more = sb_watch_lines_feed(lines, sb_str_n(big, 1 << 20)), pieces++;
    assert_int_equal(pieces, 9);
    sb_watch_lines_free(lines);
    sb_buf_release(&out);
    free(big);
}

/* -- manifests ------------------------------------------------------------------------------------
 */

#define SERVICE(name, ip)                                                                          \
    "apiVersion: v1\nkind: Service\nmetadata: {name: " name "}\nspec: {clusterIP: " ip "}\n"

static struct sb_str service_ip(const struct sb_objects *o, const char *name)
{
    return sb_value_str_at(sb_objects_get(o, "Service", SB_STR("default"), sb_str_c(name)),
                           "spec.clusterIP");
}

static void manifests_fill_in_what_a_server_would(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_objects *o = sb_objects_new();
    char *dir = temp_dir(a);
    const struct sb_value *secret;
    int broken = -1;

    (void)state;
    write_file(dir, "a.yaml",
               "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {k: v}\n");
    write_file(dir, "b.json",
               "{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{\"apiVersion\":\"v1\","
               "\"kind\":\"Namespace\",\"metadata\":{\"name\":\"n\"}}]}");
    write_file(dir, "c.txt", "not: read");
    assert_int_equal(sb_manifests_load(dir, false, o, &broken, NULL), SB_OK);
    assert_int_equal(broken, 0);
    secret = sb_objects_get(o, "Secret", SB_STR("default"), SB_STR("s"));
    assert_true(sb_str_is(sb_value_str_at(secret, "data.k"), "dg=="));
    assert_int_equal(sb_value_str_at(secret, "metadata.uid").len, 36);
    assert_non_null(sb_objects_get(o, "Namespace", SB_STR(""), SB_STR("n")));
    sb_objects_free(o);
    remove_tree(dir);
    sb_arena_free(a);
}

static void a_broken_document_takes_no_other_along(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_objects *o = sb_objects_new();
    char *dir = temp_dir(a);
    int broken = -1;

    (void)state;
    write_file(
        dir, "a.yml",
        "# nothing but words\n---\n" SERVICE(
            "one", "1.1.1.1") "---\na: [\n---\nkind: Service\n"
                              "---\napiVersion: v1\nkind: Service\nmetadata: {}\n--- # and one "
                              "more\n" SERVICE("two", "2.2.2.2") "---\napiVersion: apps/v1\nkind: "
                                                                 "Deployment\n---\n- a list\n");
    assert_int_equal(sb_manifests_load(dir, false, o, &broken, NULL), SB_OK);
    assert_int_equal(broken, 4);
    assert_true(sb_str_is(service_ip(o, "one"), "1.1.1.1"));
    assert_true(sb_str_is(service_ip(o, "two"), "2.2.2.2"));
    sb_objects_free(o);
    remove_tree(dir);
    sb_arena_free(a);
}

struct following {
    struct event_base *base;
    struct sb_objects *o;
    struct sb_manifests *m;
    char *dir;
};

/* Runs the loop until the service has this address (empty: is gone), at most 5 seconds. */
static void expect(struct following *f, const char *name, const char *ip)
{
    int64_t until = sb_clock_ms() + 5000;

    while (!sb_str_is(service_ip(f->o, name), ip)) {
        if (sb_clock_ms() > until)
            fail_msg("service %s did not become \"%s\"", name, ip);
        event_base_loop(f->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
        usleep(1000);
    }
}

static void sh(struct following *f, const char *command)
{
    char text[1024];

    snprintf(text, sizeof text, "cd '%s' && %s", f->dir, command);
    assert_int_equal(system(text), 0);
}

static void manifests_follow_changes(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    struct following f = {.base = event_base_new(), .o = sb_objects_new(), .dir = temp_dir(a)};

    (void)state;
    write_file(f.dir, "a.yaml", SERVICE("one", "1.1.1.1"));
    assert_int_equal(sb_manifests_start(f.base, f.dir, f.o, &f.m, NULL), SB_OK);
    expect(&f, "one", "1.1.1.1");

    write_file(f.dir, "a.yaml", SERVICE("one", "1.1.1.2")); /* written in place */
    expect(&f, "one", "1.1.1.2");
    write_file(f.dir, "new", SERVICE("one", "1.1.1.3")); /* renamed over */
    sh(&f, "mv new a.yaml");
    expect(&f, "one", "1.1.1.3");
    sh(&f, "mkdir -p x/y"); /* in a directory that is new */
    write_file(f.dir, "x/y/b.yaml", SERVICE("two", "2.2.2.2"));
    expect(&f, "two", "2.2.2.2");
    write_file(f.dir, "x/y/b.yaml", SERVICE("two", "2.2.2.3"));
    expect(&f, "two", "2.2.2.3");

    write_file(f.dir, "a.yaml", SERVICE("one", "1.1.1.4") "---\n" SERVICE("three", "3.3.3.3"));
    expect(&f, "three", "3.3.3.3");
    write_file(f.dir, "a.yaml", "broken: [\n---\n" SERVICE("three", "3.3.3.4"));
    expect(&f, "three", "3.3.3.4");
    assert_true(sb_str_is(service_ip(f.o, "one"), "1.1.1.4")); /* stays */
    write_file(f.dir, "a.yaml", SERVICE("three", "3.3.3.4"));
    expect(&f, "one", "");

    sh(&f, "mv x z"); /* a directory moved, and one removed */
    write_file(f.dir, "z/y/b.yaml", SERVICE("two", "2.2.2.4"));
    expect(&f, "two", "2.2.2.4");
    sh(&f, "rm -r z");
    expect(&f, "two", "");
    sh(&f, "rm a.yaml");
    expect(&f, "three", "");

    sb_manifests_stop(f.m);
    sb_objects_free(f.o);
    event_base_free(f.base);
    remove_tree(f.dir);
    sb_arena_free(a);
}

/* Vim: the old file is moved away, the new one written, the old one deleted. */
static void an_editor_removes_nothing(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    struct following f = {.base = event_base_new(), .o = sb_objects_new(), .dir = temp_dir(a)};

    (void)state;
    write_file(f.dir, "a.yaml", SERVICE("one", "1.1.1.1"));
    assert_int_equal(sb_manifests_start(f.base, f.dir, f.o, &f.m, NULL), SB_OK);
    sh(&f, "mv a.yaml a.yaml~");
    event_base_loop(f.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    assert_true(sb_str_is(service_ip(f.o, "one"), "1.1.1.1"));
    write_file(f.dir, "a.yaml", SERVICE("one", "1.1.1.2"));
    expect(&f, "one", "1.1.1.2");
    sh(&f, "rm a.yaml~");

    write_file(f.dir, "b.yaml", SERVICE("one", "1.1.1.5")); /* the same object in two files */
    expect(&f, "one", "1.1.1.5");
    sh(&f, "rm b.yaml");
    expect(&f, "one", "1.1.1.2");

    sb_manifests_stop(f.m);
    sb_objects_free(f.o);
    event_base_free(f.base);
    remove_tree(f.dir);
    sb_arena_free(a);
}

/* A volume that is not mounted for a moment must not take every route away. */
static void a_missing_root_changes_nothing(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    struct following f = {.base = event_base_new(), .o = sb_objects_new(), .dir = temp_dir(a)};
    char *root = sb_arena_cstr(a, sb_arena_printf(a, "%s/root", f.dir));

    (void)state;
    sh(&f, "mkdir root");
    write_file(root, "a.yaml", SERVICE("one", "1.1.1.1"));
    write_file(root, "b.yaml", SERVICE("two", "2.2.2.2"));
    assert_int_equal(sb_manifests_start(f.base, root, f.o, &f.m, NULL), SB_OK);
    sh(&f, "mv root away");
    for (int64_t until = sb_clock_ms() + 700; sb_clock_ms() < until; usleep(1000))
        event_base_loop(f.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    assert_true(sb_str_is(service_ip(f.o, "one"), "1.1.1.1"));
    sh(&f, "rm away/b.yaml && mv away root");
    expect(&f, "two", "");
    write_file(root, "a.yaml", SERVICE("one", "1.1.1.2"));
    expect(&f, "one", "1.1.1.2");
    sb_manifests_stop(f.m);
    sb_objects_free(f.o);
    event_base_free(f.base);
    remove_tree(f.dir);
    sb_arena_free(a);
}

/* As Kubernetes mounts a ConfigMap: links through a directory that is swapped. */
static void mounted_volumes_are_followed(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    struct following f = {.base = event_base_new(), .o = sb_objects_new(), .dir = temp_dir(a)};

    (void)state;
    sh(&f, "mkdir ..1 ..2 && ln -s ..1 ..data && ln -s ..data/a.yaml a.yaml");
    write_file(f.dir, "..1/a.yaml", SERVICE("one", "1.1.1.1"));
    write_file(f.dir, "..2/a.yaml", SERVICE("one", "1.1.1.22"));
    assert_int_equal(sb_manifests_start(f.base, f.dir, f.o, &f.m, NULL), SB_OK);
    expect(&f, "one", "1.1.1.1");
    sh(&f, "ln -s ..2 ..tmp && mv -T ..tmp ..data");
    expect(&f, "one", "1.1.1.22");
    sb_manifests_stop(f.m);
    sb_objects_free(f.o);
    event_base_free(f.base);
    remove_tree(f.dir);
    sb_arena_free(a);
}

static void a_single_file_is_followed(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    struct following f = {.base = event_base_new(), .o = sb_objects_new(), .dir = temp_dir(a)};

    (void)state;
    write_file(f.dir, "a.yaml", SERVICE("one", "1.1.1.1"));
    write_file(f.dir, "b.yaml", SERVICE("two", "2.2.2.2"));
    assert_int_equal(
        sb_manifests_start(f.base, sb_arena_printf(a, "%s/a.yaml", f.dir).p, f.o, &f.m, NULL),
        SB_OK);
    write_file(f.dir, "b.yaml", SERVICE("two", "2.2.2.3"));
    write_file(f.dir, "new", SERVICE("one", "1.1.1.2"));
    sh(&f, "mv new a.yaml");
    expect(&f, "one", "1.1.1.2");
    assert_int_equal(service_ip(f.o, "two").len, 0);
    sb_manifests_stop(f.m);
    sb_objects_free(f.o);
    event_base_free(f.base);
    remove_tree(f.dir);
    sb_arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_are_found_by_group_and_version),
        cmocka_unit_test(only_what_is_needed_is_kept),
        cmocka_unit_test(what_nobody_sees_is_no_change),
        cmocka_unit_test(lists_are_sorted),
        cmocka_unit_test(references_follow_changes),
        cmocka_unit_test(kubeconfig_says_what_is_wrong),
        cmocka_unit_test(kubeconfig_paths_are_relative_to_it),
        cmocka_unit_test(the_servers_name_may_be_another),
        cmocka_unit_test(lines_of_any_pieces),
        cmocka_unit_test(lines_end_when_told_and_when_too_long),
        cmocka_unit_test(manifests_fill_in_what_a_server_would),
        cmocka_unit_test(a_broken_document_takes_no_other_along),
        cmocka_unit_test(manifests_follow_changes),
        cmocka_unit_test(an_editor_removes_nothing),
        cmocka_unit_test(a_missing_root_changes_nothing),
        cmocka_unit_test(mounted_volumes_are_followed),
        cmocka_unit_test(a_single_file_is_followed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
