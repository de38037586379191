/* config.c - where the API server is and who we are: kubeconfig and the Pod's own files.
 *
 * Every complaint names the file and the field, for half-written kubeconfigs are common: tools
 * write them piece by piece.
 */
#include "controlplane/kube/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "shared/digest.h"
#include "shared/yaml.h"

enum { FILE_MAX = 1 << 20 };

#define POD_DIR "/var/run/secrets/kubernetes.io/serviceaccount"

struct loader {
    struct sb_arena *arena;
    const char *path;
    struct sb_value *doc;
    struct sb_err *err;
};

static enum sb_rc read_text(struct sb_arena *a, const char *path, struct sb_str *out)
{
    struct sb_buf buf;
    bool ok;

    sb_buf_init(&buf, FILE_MAX);
    ok = sb_buf_read_file(&buf, path);
    if (ok)
        *out = sb_arena_str(a, sb_buf_get(&buf));
    sb_buf_release(&buf);
    return ok ? SB_OK : SB_IO;
}

/* The body of the named item of a list: contexts[name=x].context. */
static enum sb_rc named(struct loader *l, const char *list, struct sb_str name, const char *member,
                        struct sb_value **out)
{
    struct sb_value *item;

    if (!sb_is_nil(sb_get(l->doc, list)) && !sb_is(sb_get(l->doc, list), SB_V_ARRAY))
        return sb_err_set(l->err, SB_INVALID, "kubeconfig %s: \"%s\" is not a list", l->path, list);
    sb_array_each (item, sb_get(l->doc, list)) {
        if (!sb_str_eq(sb_value_str_at(item, "name"), name))
            continue;
        *out = sb_get(item, member);
        if (sb_is(*out, SB_V_OBJECT))
            return SB_OK;
        return sb_err_set(l->err, SB_INVALID, "kubeconfig %s: %s \"%.*s\" has no field \"%s\"",
                          l->path, list, SB_ARG(name), member);
    }
    return sb_err_set(l->err, SB_INVALID, "kubeconfig %s: no entry named \"%.*s\" in \"%s\"",
                      l->path, SB_ARG(name), list);
}

/* The members of a cluster or user that are read; what has another kind of value would count as
 * absent. */
static enum sb_rc check_texts(struct loader *l, const struct sb_value *v, const char *where)
{
    static const char *const texts[] = {
        "server",
        "certificate-authority",
        "certificate-authority-data",
        "token",
        "tokenFile",
        "client-certificate",
        "client-key",
        "client-certificate-data",
        "client-key-data",
    };

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const struct sb_value *member = sb_get(v, texts[i]);

        if (!sb_is_nil(member) && !sb_is(member, SB_V_STR))
            return sb_err_set(l->err, SB_INVALID, "kubeconfig %s: %s.%s is not a string", l->path,
                              where, texts[i]);
    }
    return SB_OK;
}

static const char *text_at(struct loader *l, const struct sb_value *v, const char *field)
{
    const struct sb_value *text = sb_get(v, field);

    return sb_is(text, SB_V_STR) && text->s.len ? sb_arena_cstr(l->arena, text->s) : NULL;
}

/* Paths in a kubeconfig are relative to it. */
static const char *path_at(struct loader *l, const struct sb_value *v, const char *field)
{
    const char *path = text_at(l, v, field);
    const char *slash = strrchr(l->path, '/');

    if (!path || path[0] == '/' || !slash)
        return path;
    return sb_arena_printf(l->arena, "%.*s/%s", (int)(slash - l->path), l->path, path).p;
}

static enum sb_rc pem_at(struct loader *l, const struct sb_value *v, const char *where,
                         const char *field, struct sb_str *out)
{
    const char *text = text_at(l, v, field);

    if (!text)
        return SB_OK;
    if (!sb_base64_decode(l->arena, sb_str_c(text), out))
        return sb_err_set(l->err, SB_INVALID, "kubeconfig %s: %s.%s is not base64", l->path, where,
                          field);
    if (sb_str_find(*out, SB_STR("-----BEGIN"), 0) < 0 ||
        sb_str_find(*out, SB_STR("-----END"), 0) < 0)
        return sb_err_set(l->err, SB_INVALID, "kubeconfig %s: %s.%s holds no PEM from BEGIN to END",
                          l->path, where, field);
    return SB_OK;
}

/* The certificate is for another name than the server's address: the URL gets that name, and the
 * address is where to connect. */
static void use_server_name(struct loader *l, const char *name, struct sb_kube_config *out)
{
    struct sb_str server = sb_str_c(out->server), scheme, authority, path;
    ptrdiff_t colon;

    scheme = sb_str_first(server, (size_t)sb_str_find(server, SB_STR("://"), 0) + 3);
    path = sb_str_from(server, scheme.len);
    sb_str_split(&path, '/', &authority);
    colon = sb_str_rchr(authority, ':');
    if (colon < 0 || sb_str_rchr(authority, ']') > colon) {
        authority = sb_arena_printf(l->arena, "%.*s:%s", SB_ARG(authority),
                                    sb_str_starts(scheme, SB_STR("https")) ? "443" : "80");
        colon = sb_str_rchr(authority, ':');
    }
    out->connect_to = sb_arena_cstr(l->arena, authority);
    out->server = sb_arena_printf(l->arena, "%.*s%s%.*s%s%.*s", SB_ARG(scheme), name,
                                  SB_ARG(sb_str_from(authority, (size_t)colon)), path.p ? "/" : "",
                                  SB_ARG(path))
                      .p;
}

static enum sb_rc read_cluster(struct loader *l, const struct sb_value *cluster,
                               struct sb_kube_config *out)
{
    struct sb_str server = sb_value_str_at(cluster, "server");
    enum sb_rc rc = check_texts(l, cluster, "cluster");

    if (rc)
        return rc;
    if (!server.len)
        return sb_err_set(l->err, SB_INVALID, "kubeconfig %s: cluster.server is missing", l->path);
    if (!sb_str_starts(server, SB_STR("https://")) && !sb_str_starts(server, SB_STR("http://")))
        return sb_err_set(l->err, SB_INVALID,
                          "kubeconfig %s: cluster.server \"%.*s\" is not an http(s) URL", l->path,
                          SB_ARG(server));
    while (server.len && server.p[server.len - 1] == '/')
        server.len--;
    out->server = sb_arena_cstr(l->arena, server);
    if (text_at(l, cluster, "tls-server-name"))
        use_server_name(l, text_at(l, cluster, "tls-server-name"), out);
    out->ca_file = path_at(l, cluster, "certificate-authority");
    out->skip_verify = sb_value_bool_at(cluster, "insecure-skip-tls-verify", false);
    return pem_at(l, cluster, "cluster", "certificate-authority-data", &out->ca);
}

static enum sb_rc read_user(struct loader *l, const struct sb_value *user,
                            struct sb_kube_config *out)
{
    enum sb_rc rc = check_texts(l, user, "user");

    if (rc)
        return rc;
    if (sb_is(sb_get(user, "exec"), SB_V_OBJECT) ||
        sb_is(sb_get(user, "auth-provider"), SB_V_OBJECT))
        return sb_err_set(
            l->err, SB_INVALID,
            "kubeconfig %s: user.exec and user.auth-provider run other programs, which "
            "is not supported: use token, tokenFile or a client certificate",
            l->path);
    out->token = text_at(l, user, "token");
    out->token_file = path_at(l, user, "tokenFile");
    out->cert_file = path_at(l, user, "client-certificate");
    out->key_file = path_at(l, user, "client-key");
    rc = pem_at(l, user, "user", "client-certificate-data", &out->cert);
    if (!rc)
        rc = pem_at(l, user, "user", "client-key-data", &out->key);
    if (!rc && (out->cert.len || out->cert_file) != (out->key.len || out->key_file))
        rc = sb_err_set(
            l->err, SB_INVALID,
            "kubeconfig %s: user.client-certificate and user.client-key need each other", l->path);
    return rc;
}

static enum sb_rc read_context(struct loader *l, struct sb_kube_config *out)
{
    struct sb_str current = sb_value_str_at(l->doc, "current-context"), name;
    struct sb_value *context, *cluster, *user;
    enum sb_rc rc;

    if (!current.len)
        return sb_err_set(l->err, SB_INVALID, "kubeconfig %s: current-context is missing", l->path);
    rc = named(l, "contexts", current, "context", &context);
    if (rc)
        return rc;
    name = sb_value_str_at(context, "cluster");
    if (!name.len)
        return sb_err_set(l->err, SB_INVALID, "kubeconfig %s: context \"%.*s\" has no cluster",
                          l->path, SB_ARG(current));
    rc = named(l, "clusters", name, "cluster", &cluster);
    if (!rc)
        rc = read_cluster(l, cluster, out);
    name = sb_value_str_at(context, "user");
    if (!rc && name.len) {
        rc = named(l, "users", name, "user", &user);
        if (!rc)
            rc = read_user(l, user, out);
    }
    out->ns = text_at(l, context, "namespace");
    if (!out->ns)
        out->ns = "default";
    return rc;
}

enum sb_rc sb_kube_config_file(struct sb_arena *a, const char *path, struct sb_kube_config *out,
                               struct sb_err *err)
{
    struct loader l = {.arena = a, .path = path, .err = err};
    struct sb_kube_config config = {
        .origin = sb_arena_printf(a, "kubeconfig %s", path).p,
    };
    struct sb_str text;
    enum sb_rc rc;

    if (read_text(a, path, &text))
        return sb_err_set(err, SB_IO, "kubeconfig %s: cannot be read: %m", path);
    rc = sb_yaml_parse(a, text, &l.doc, err);
    if (rc) {
        sb_err_at(err, "kubeconfig %s", path);
        return rc;
    }
    if (!sb_is(l.doc, SB_V_OBJECT))
        return sb_err_set(err, SB_INVALID, "kubeconfig %s: is %s, not a kubeconfig", path,
                          sb_is_nil(l.doc) ? "empty" : "plain text");
    rc = read_context(&l, &config);
    if (!rc)
        *out = config;
    return rc;
}

enum sb_rc sb_kube_config_pod(struct sb_arena *a, const char *dir, struct sb_kube_config *out,
                              struct sb_err *err)
{
    const char *host = getenv("KUBERNETES_SERVICE_HOST"), *port = getenv("KUBERNETES_SERVICE_PORT");
    struct sb_kube_config config = {.origin = "the Pod's service account"};
    struct sb_str ns;
    bool v6;

    if (!host || !*host || !port || !*port)
        return sb_err_set(err, SB_NOTFOUND, "not in a Pod: KUBERNETES_SERVICE_HOST is not set");
    if (!dir)
        dir = POD_DIR;
    v6 = strchr(host, ':') != NULL;
    config.server =
        sb_arena_printf(a, "https://%s%s%s:%s", v6 ? "[" : "", host, v6 ? "]" : "", port).p;
    config.token_file = sb_arena_printf(a, "%s/token", dir).p;
    config.ca_file = sb_arena_printf(a, "%s/ca.crt", dir).p;
    if (read_text(a, sb_arena_printf(a, "%s/namespace", dir).p, &ns))
        return sb_err_set(err, SB_IO, "%s/namespace: cannot be read: %m", dir);
    config.ns = sb_arena_cstr(a, sb_str_trim(ns));
    *out = config;
    return SB_OK;
}

enum sb_rc sb_kube_config_find(struct sb_arena *a, const char *path, struct sb_kube_config *out,
                               struct sb_err *err)
{
    const char *home = getenv("HOME"), *env = getenv("KUBECONFIG");
    struct stat st;
    enum sb_rc rc;

    if (!path && env && *env)
        path = env;
    if (path)
        return sb_kube_config_file(a, path, out, err);
    rc = sb_kube_config_pod(a, NULL, out, err);
    if (rc != SB_NOTFOUND)
        return rc;
    path = sb_arena_printf(a, "%s/.kube/config", home ? home : "").p;
    if (stat(path, &st))
        return sb_err_set(
            err, SB_NOTFOUND,
            "no Kubernetes API server: not in a Pod, and no --kubeconfig, KUBECONFIG or "
            "%s (give --manifests DIR to do without)",
            path);
    return sb_kube_config_file(a, path, out, err);
}
