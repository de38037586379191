/* client.h - talking to a Kubernetes API server.
 *
 * Where it is and who we are comes from a kubeconfig file (the current context: server,
 * certificate-authority(-data), tls-server-name, insecure-skip-tls-verify;
 * client-certificate(-data), client-key(-data), token, tokenFile) or from inside a Pod
 * (KUBERNETES_SERVICE_HOST and _PORT, the mounted service account). Files named by either are read
 * again when they change, so rotated tokens and certificates need no restart.
 */
#ifndef SB_CONTROLPLANE_KUBE_CLIENT_H
#define SB_CONTROLPLANE_KUBE_CLIENT_H

#include "shared/arena.h"
#include "shared/err.h"
#include "shared/http_client.h"
#include "shared/value.h"

/* Where the server is and how to greet it. Texts are NULL where unset. */
struct sb_kube_config {
    const char *server;     /* "https://host:port", no slash at the end */
    const char *connect_to; /* "host:port" where server says another name (tls-server-name) */
    const char *ns;         /* our own namespace; "default" when nothing says */
    const char *origin;     /* where this was read from, for messages */
    const char *token, *token_file;
    const char *ca_file, *cert_file, *key_file;
    struct sb_str ca, cert, key; /* PEM given inline */
    bool skip_verify;
};

/* Reads the current context. Errors name the file and the field. */
SB_MUST enum sb_rc sb_kube_config_file(struct sb_arena *a, const char *path,
                                       struct sb_kube_config *out, struct sb_err *err);
/* In a Pod. dir: NULL for /var/run/secrets/kubernetes.io/serviceaccount. SB_NOTFOUND outside. */
SB_MUST enum sb_rc sb_kube_config_pod(struct sb_arena *a, const char *dir,
                                      struct sb_kube_config *out, struct sb_err *err);
/* path when given, else $KUBECONFIG, else the Pod's, else ~/.kube/config. */
SB_MUST enum sb_rc sb_kube_config_find(struct sb_arena *a, const char *path,
                                       struct sb_kube_config *out, struct sb_err *err);

struct sb_kube;

/* The config and its texts must live as long. Fails when a named file cannot be read. */
SB_MUST enum sb_rc sb_kube_new(struct sb_http *http, const struct sb_kube_config *config,
                               struct sb_kube **out, struct sb_err *err);
void sb_kube_free(struct sb_kube *kube);
const char *sb_kube_server(const struct sb_kube *kube);

/* A request to path ("/api/v1/..."), answered to request->on_done; of `request`, method, body,
 * timeouts and callbacks are used. content_type: NULL for application/json. */
struct sb_http_call *sb_kube_start(struct sb_kube *kube, const char *path, const char *content_type,
                                   const struct sb_http_request *request);

/* What a failed answer says: the Status message of the body, or the transport's words. SB_OK for
 * 2xx, SB_DENIED 401 and 403, SB_NOTFOUND 404, SB_CONFLICT 409, SB_UNAVAILABLE for the rest. */
enum sb_rc sb_kube_result(const struct sb_http_result *result, struct sb_err *err);

#endif
