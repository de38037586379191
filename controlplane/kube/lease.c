/* lease.c - leader election by a Lease object.
 *
 *   every retry_ms:  GET ── 404 ──> POST (create it, ours)
 *                     |── held by another, not expired ──> look again later
 *                     '── ours, released or expired ──> PUT with its resourceVersion
 *   PUT or POST: 200 we lead; 409 somebody was faster, look again
 *
 * A leader that holds the answer to its last PUT skips the GET. It counts its deadline from when
 * that PUT was sent: whatever the server believes, we believe it for less long.
 */
#include "controlplane/kube/lease.h"

#include <event2/event.h>
#include <stdlib.h>
#include <time.h>

#include "shared/clock.h"
#include "shared/digest.h"
#include "shared/json.h"
#include "shared/log.h"

enum { DURATION_MS = 15000, RENEW_DEADLINE_MS = 10000, RETRY_MS = 2000, RELEASE_MS = 2000 };

struct sb_lease {
    struct sb_lease_config config;
    struct event *timer, *deadline;
    struct sb_http_call *call;
    bool leading, stopping, troubled;
    int64_t sent_ms; /* when the PUT or POST under way was sent */

    /* The record as last seen. */
    char holder[256], renew_time[64], version[64], acquire_time[64];
    int64_t transitions, seen_ms, duration_ms;
    bool mine_known; /* version is of our own last write: the next needs no GET */

    void (*on_stopped)(void *arg);
    void *stopped_arg;
};

static void step(struct sb_lease *l);

static void arm(struct event *timer, int64_t ms)
{
    struct timeval tv = {ms / 1000, ms % 1000 * 1000};

    event_add(timer, &tv);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct sb_lease *l = arg;

    (void)fd, (void)what;
    if (!l->call)
        step(l);
}

/* Candidates that looked at the same moment would do so for ever: up to a fifth is chance. */
static void again(struct sb_lease *l)
{
    uint32_t chance;

    sb_random(&chance, sizeof chance);
    arm(l->timer, l->config.retry_ms + (int)(chance % (uint32_t)(l->config.retry_ms / 5 + 1)));
}

static void lose(struct sb_lease *l, const char *why)
{
    if (!l->leading)
        return;
    l->leading = l->mine_known = false;
    event_del(l->deadline);
    sb_warn("leadership lost: %s", why);
    l->config.on_lost(l->config.arg);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    lose(arg, "the Lease could not be renewed in time");
}

static void copy_text(char *to, size_t cap, struct sb_str s)
{
    size_t n = s.len < cap ? s.len : cap - 1;

    memcpy(to, s.p ? s.p : "", n);
    to[n] = '\0';
}

/* Expiry counts from when we first saw this renewal, by our clock. */
static void remember(struct sb_lease *l, const struct sb_value *lease)
{
    struct sb_str holder = sb_value_str_at(lease, "spec.holderIdentity");
    struct sb_str renewed = sb_value_str_at(lease, "spec.renewTime");

    if (!sb_str_is(holder, l->holder) || !sb_str_is(renewed, l->renew_time) || !l->seen_ms)
        l->seen_ms = sb_clock_ms();
    copy_text(l->holder, sizeof l->holder, holder);
    copy_text(l->renew_time, sizeof l->renew_time, renewed);
    copy_text(l->acquire_time, sizeof l->acquire_time, sb_value_str_at(lease, "spec.acquireTime"));
    copy_text(l->version, sizeof l->version, sb_value_str_at(lease, "metadata.resourceVersion"));
    l->transitions = sb_value_int_at(lease, "spec.leaseTransitions", 0);
    l->duration_ms = sb_value_int_at(lease, "spec.leaseDurationSeconds", 0) * 1000;
}

static bool is_mine(const struct sb_lease *l)
{
    return !strcmp(l->holder, l->config.identity);
}

static struct sb_value *micro_time(struct sb_arena *a)
{
    int64_t ms = sb_wall_ms();
    time_t s = ms / 1000;
    struct tm tm;
    char text[64];

    gmtime_r(&s, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    return sb_value_str(a, sb_arena_printf(a, "%s.%03d000Z", text, (int)(ms % 1000)));
}

/* The Lease as we want it; released: held by nobody. */
static struct sb_str lease_body(const struct sb_lease *l, struct sb_arena *a, bool released)
{
    struct sb_value *lease = sb_value_object(a), *metadata = sb_value_object(a);
    struct sb_value *spec = sb_value_object(a), *now = micro_time(a);
    bool kept = is_mine(l) && l->acquire_time[0];

    sb_object_set(a, metadata, SB_STR("name"), sb_value_text(a, l->config.name));
    sb_object_set(a, metadata, SB_STR("namespace"), sb_value_text(a, l->config.ns));
    if (l->version[0])
        sb_object_set(a, metadata, SB_STR("resourceVersion"), sb_value_text(a, l->version));
    sb_object_set(a, spec, SB_STR("holderIdentity"),
                  sb_value_text(a, released ? "" : l->config.identity));
    sb_object_set(a, spec, SB_STR("leaseDurationSeconds"),
                  sb_value_int(a, released ? 1 : (l->config.duration_ms + 999) / 1000));
    sb_object_set(a, spec, SB_STR("acquireTime"), kept ? sb_value_text(a, l->acquire_time) : now);
    sb_object_set(a, spec, SB_STR("renewTime"), now);
    sb_object_set(a, spec, SB_STR("leaseTransitions"),
                  sb_value_int(a, l->transitions + (l->version[0] && !is_mine(l) ? 1 : 0)));
    sb_object_set(a, lease, SB_STR("apiVersion"), sb_value_text(a, "coordination.k8s.io/v1"));
    sb_object_set(a, lease, SB_STR("kind"), sb_value_text(a, "Lease"));
    sb_object_set(a, lease, SB_STR("metadata"), metadata);
    sb_object_set(a, lease, SB_STR("spec"), spec);
    return sb_json_text(a, lease, 0);
}

static void request(struct sb_lease *l, const char *method, struct sb_str body, int timeout_ms,
                    void (*on_done)(void *arg, const struct sb_http_result *result))
{
    struct sb_arena *a = sb_arena_new(0);
    bool create = !strcmp(method, "POST");
    struct sb_str path =
        sb_arena_printf(a, "/apis/coordination.k8s.io/v1/namespaces/%s/leases%s%s", l->config.ns,
                        create ? "" : "/", create ? "" : l->config.name);

    l->call = sb_kube_start(l->config.kube, path.p, NULL,
                            &(struct sb_http_request){
                                .method = method,
                                .body = body,
                                .timeout_ms = timeout_ms,
                                .on_done = on_done,
                                .arg = l,
                            });
    sb_arena_free(a);
}

static void finish_stop(struct sb_lease *l)
{
    void (*on_stopped)(void *arg) = l->on_stopped;
    void *arg = l->stopped_arg;

    event_free(l->timer);
    event_free(l->deadline);
    free(l);
    on_stopped(arg);
}

static void won(struct sb_lease *l)
{
    int64_t left = l->sent_ms + l->config.renew_deadline_ms - sb_clock_ms();

    l->mine_known = true;
    arm(l->deadline, left > 0 ? left : 0);
    if (l->leading)
        return;
    l->leading = true;
    sb_notice("leading: %s holds Lease %s/%s", l->config.identity, l->config.ns, l->config.name);
    l->config.on_leading(l->config.arg);
}

static void trouble(struct sb_lease *l, const struct sb_err *err)
{
    if (!l->troubled)
        sb_error("Lease %s/%s: %s", l->config.ns, l->config.name, err->text);
    l->troubled = true;
}

static void on_written(void *arg, const struct sb_http_result *result)
{
    struct sb_lease *l = arg;
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *lease;
    struct sb_err err;
    enum sb_rc rc = sb_kube_result(result, &err);

    l->call = NULL;
    if (!rc)
        rc = sb_json_parse(a, result->body, &lease, &err);
    if (!rc) {
        l->troubled = false;
        remember(l, lease);
        won(l);
    } else {
        l->mine_known = false;
        if (rc != SB_CONFLICT)
            trouble(l, &err);
    }
    sb_arena_free(a);
    if (l->stopping)
        sb_lease_stop(l, l->on_stopped, l->stopped_arg);
    else
        again(l);
}

static void write_lease(struct sb_lease *l, const char *method)
{
    struct sb_arena *a = sb_arena_new(0);

    l->sent_ms = sb_clock_ms();
    request(l, method, lease_body(l, a, false), l->config.renew_deadline_ms / 2, on_written);
    sb_arena_free(a);
}

/* What the record as last seen means for us. */
static void judge(struct sb_lease *l)
{
    bool expired = sb_clock_ms() - l->seen_ms > l->duration_ms;

    if (is_mine(l) || !l->holder[0] || expired) {
        write_lease(l, "PUT");
        return;
    }
    lose(l, "another controller holds the Lease");
    again(l);
}

static void on_read(void *arg, const struct sb_http_result *result)
{
    struct sb_lease *l = arg;
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *lease;
    struct sb_err err;
    enum sb_rc rc = sb_kube_result(result, &err);

    l->call = NULL;
    if (!rc)
        rc = sb_json_parse(a, result->body, &lease, &err);
    if (l->stopping) {
        sb_lease_stop(l, l->on_stopped, l->stopped_arg);
    } else if (!rc) {
        l->troubled = false;
        remember(l, lease);
        judge(l);
    } else if (rc == SB_NOTFOUND) {
        l->version[0] = l->holder[0] = '\0';
        l->transitions = 0;
        write_lease(l, "POST");
    } else {
        trouble(l, &err);
        again(l);
    }
    sb_arena_free(a);
}

static void step(struct sb_lease *l)
{
    if (l->mine_known)
        write_lease(l, "PUT");
    else
        request(l, "GET", SB_STR(""), l->config.renew_deadline_ms / 2, on_read);
}

struct sb_lease *sb_lease_start(const struct sb_lease_config *config)
{
    struct sb_lease *l = sb_xcalloc(1, sizeof *l);

    l->config = *config;
    if (!l->config.duration_ms)
        l->config.duration_ms = DURATION_MS;
    if (!l->config.renew_deadline_ms)
        l->config.renew_deadline_ms = RENEW_DEADLINE_MS;
    if (!l->config.retry_ms)
        l->config.retry_ms = RETRY_MS;
    l->timer = event_new(config->base, -1, 0, on_timer, l);
    l->deadline = event_new(config->base, -1, 0, on_deadline, l);
    step(l);
    return l;
}

static void on_released(void *arg, const struct sb_http_result *result)
{
    struct sb_lease *l = arg;
    struct sb_err err;

    if (sb_kube_result(result, &err))
        sb_warn("Lease %s/%s could not be released: %s", l->config.ns, l->config.name, err.text);
    finish_stop(l);
}

void sb_lease_stop(struct sb_lease *l, void (*done)(void *arg), void *arg)
{
    struct sb_arena *a;

    l->on_stopped = done;
    l->stopped_arg = arg;
    event_del(l->timer);
    event_del(l->deadline);
    if (l->call && !l->stopping) { /* its answer decides whether there is something to release */
        l->stopping = true;
        return;
    }
    if (!l->leading) {
        finish_stop(l);
        return;
    }
    l->leading = false;
    a = sb_arena_new(0);
    request(l, "PUT", lease_body(l, a, true), RELEASE_MS, on_released);
    sb_arena_free(a);
}

bool sb_lease_leading(const struct sb_lease *lease)
{
    return lease->leading;
}
