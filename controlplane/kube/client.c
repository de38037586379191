/* client.c - requests to an API server with who we are put on them.
 *
 * Files (token, CA, client certificate) are looked at before each request and read again when they
 * changed, for kubelet and cert-manager rotate them in place. One that turned unreadable keeps its
 * last content: a rotation may be under way.
 */
#include "controlplane/kube/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "shared/buf.h"
#include "shared/json.h"
#include "shared/log.h"

enum { FILE_MAX = 1 << 20, MESSAGE_MAX = 512 };

struct watched_file {
    const char *path; /* NULL: not used */
    struct sb_buf content;
    struct timespec mtime;
    ino_t inode;
    bool failing;
};

enum { TOKEN, CA, CERT, KEY, FILES };

/* As a kubeconfig calls them. */
static const char *const fields[FILES] = {
    "user.tokenFile",
    "cluster.certificate-authority",
    "user.client-certificate",
    "user.client-key",
};

struct sb_kube {
    struct sb_http *http;
    const struct sb_kube_config *config;
    struct watched_file files[FILES];
};

/* False with errno when it cannot be read; the old content stays. */
static bool refresh(struct watched_file *f)
{
    struct sb_buf fresh;
    struct stat st;

    if (!f->path)
        return true;
    if (stat(f->path, &st))
        return false;
    if (f->content.len && st.st_ino == f->inode && st.st_mtim.tv_sec == f->mtime.tv_sec &&
        st.st_mtim.tv_nsec == f->mtime.tv_nsec)
        return true;
    sb_buf_init(&fresh, FILE_MAX);
    errno = ENODATA; /* of an empty one */
    if (!sb_buf_read_file(&fresh, f->path) || !fresh.len) {
        int saved = errno;

        sb_buf_release(&fresh);
        errno = saved;
        return false;
    }
    sb_buf_release(&f->content);
    f->content = fresh;
    f->mtime = st.st_mtim;
    f->inode = st.st_ino;
    return true;
}

static void refresh_all(struct sb_kube *kube)
{
    for (int i = 0; i < FILES; i++) {
        struct watched_file *f = &kube->files[i];
        bool failing = !refresh(f);

        if (failing && !f->failing)
            sb_warn("%s cannot be read, its last content is used: %m", f->path);
        f->failing = failing;
    }
}

enum sb_rc sb_kube_new(struct sb_http *http, const struct sb_kube_config *config,
                       struct sb_kube **out, struct sb_err *err)
{
    struct sb_kube *kube = sb_xcalloc(1, sizeof *kube);

    kube->http = http;
    kube->config = config;
    kube->files[TOKEN].path = config->token ? NULL : config->token_file;
    kube->files[CA].path = config->ca.len ? NULL : config->ca_file;
    kube->files[CERT].path = config->cert.len ? NULL : config->cert_file;
    kube->files[KEY].path = config->key.len ? NULL : config->key_file;
    for (int i = 0; i < FILES; i++) {
        if (refresh(&kube->files[i]))
            continue;
        sb_err_set(err, SB_IO, "%s: %s names %s, which cannot be read: %m", config->origin,
                   fields[i], kube->files[i].path);
        sb_kube_free(kube);
        return SB_IO;
    }
    *out = kube;
    return SB_OK;
}

void sb_kube_free(struct sb_kube *kube)
{
    if (!kube)
        return;
    for (int i = 0; i < FILES; i++)
        sb_buf_release(&kube->files[i].content);
    free(kube);
}

const char *sb_kube_server(const struct sb_kube *kube)
{
    return kube->config->server;
}

static struct sb_str file_or(const struct watched_file *f, struct sb_str inline_text)
{
    return f->path ? sb_buf_get(&f->content) : inline_text;
}

struct sb_http_call *sb_kube_start(struct sb_kube *kube, const char *path, const char *content_type,
                                   const struct sb_http_request *request)
{
    const struct sb_kube_config *c = kube->config;
    struct sb_arena *arena = sb_arena_new(0);
    struct sb_http_request r = *request;
    const char *headers[5] = {"Accept: application/json", "User-Agent: silverback-controlplane"};
    struct sb_http_tls tls;
    struct sb_http_call *call;
    struct sb_str token;
    int n = 2;

    refresh_all(kube);
    tls = (struct sb_http_tls){
        .ca = file_or(&kube->files[CA], c->ca),
        .cert = file_or(&kube->files[CERT], c->cert),
        .key = file_or(&kube->files[KEY], c->key),
        .skip_verify = c->skip_verify,
    };
    token = sb_str_trim(file_or(&kube->files[TOKEN], sb_str_c(c->token)));
    if (token.len)
        headers[n++] = sb_arena_printf(arena, "Authorization: Bearer %.*s", SB_ARG(token)).p;
    if (r.body.len)
        headers[n++] = sb_arena_printf(arena, "Content-Type: %s",
                                       content_type ? content_type : "application/json")
                           .p;
    r.url = sb_arena_printf(arena, "%s%s", c->server, path).p;
    r.connect_to = c->connect_to;
    r.headers = headers;
    r.tls = &tls;
    call = sb_http_start(kube->http, &r);
    sb_arena_free(arena);
    return call;
}

static enum sb_rc rc_of_status(int status)
{
    switch (status) {
    case 401:
    case 403:
        return SB_DENIED;
    case 404:
        return SB_NOTFOUND;
    case 409:
        return SB_CONFLICT;
    case 400:
    case 422:
        return SB_INVALID;
    default:
        return SB_UNAVAILABLE;
    }
}

enum sb_rc sb_kube_result(const struct sb_http_result *result, struct sb_err *err)
{
    struct sb_arena *arena;
    struct sb_value *status;
    struct sb_str message = {0};
    enum sb_rc rc;

    if (result->rc)
        return sb_err_set(err, result->rc, "%s", result->error);
    if (result->status >= 200 && result->status < 300)
        return SB_OK;
    arena = sb_arena_new(0);
    if (!sb_json_parse(arena, result->body, &status, NULL))
        message = sb_value_str_at(status, "message");
    if (!message.len)
        message = sb_str_trim(result->body);
    rc = sb_err_set(err, rc_of_status(result->status), "status %d: %.*s", result->status,
                    SB_ARG(sb_str_first(message, MESSAGE_MAX)));
    sb_arena_free(arena);
    return rc;
}
