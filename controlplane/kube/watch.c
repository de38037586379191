/* watch.c - list, then watch, for each kind (and each namespace, when only some are watched).
 *
 * One follower is one such pair; it has at most one call or one timer at a time:
 *
 *   state       leaves by                                   to
 *   LISTING     last page                                   WATCHING
 *               a page with `continue`                      LISTING, next page
 *               410 for a continue token                    LISTING, from the first page
 *   WATCHING    end of the stream                           WATCHING, from the last version
 *               410, an event that makes no sense           LISTING
 *   any         a failure                                   WAITING, then where it was
 *
 * (W1) What the list did not contain is removed from the cache only after its last page.
 * (W2) A version is remembered only after its event was applied.
 */
#include "controlplane/kube/watch.h"

#include <event2/event.h>
#include <stdlib.h>

#include "shared/clock.h"
#include "shared/digest.h"
#include "shared/json.h"
#include "shared/log.h"
#include "shared/map.h"
#include "shared/vec.h"

enum {
    PAGE_LEN = 500,
    LIST_TIMEOUT_MS = 60 * 1000,
    WATCH_MIN_S = 300, /* a watch is asked to end after 5 to 10 minutes, so that tokens rotate */
    WATCH_GRACE_S = 30,
    WATCH_LIVED_MS = 1000, /* a watch that lived so long and ended is taken up again at once */
    BACKOFF_MIN_MS = 200,
    BACKOFF_MAX_MS = 30 * 1000,
    MISSING_MS = 30 * 1000,
    GONE = 410,
};

enum state { LISTING, WATCHING };

struct follower {
    struct sb_watch *watch;
    const struct sb_kind *kind;
    const char *ns; /* NULL: all */
    enum state state;
    struct sb_http_call *call;
    struct event *timer;
    int backoff_ms;
    int64_t started_ms;
    bool synced, troubled, relist;
    char version[64], *continue_token;
    struct sb_arena *seen_arena; /* while listing: keys of what was listed */
    struct sb_map seen;
    struct sb_watch_lines *lines;
};

struct sb_watch {
    struct sb_watch_config config;
    SB_VEC(struct follower *) followers;
    size_t unsynced;
};

static void start(struct follower *f);

/* -- waiting --------------------------------------------------------------------------------------
 */

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    start(arg);
}

static void start_in(struct follower *f, int64_t ms)
{
    struct timeval tv = {ms / 1000, ms % 1000 * 1000};

    event_add(f->timer, &tv);
}

/* Half of it fixed, half of it chance: clients that lost a server together don't return together.
 */
static void start_after_backoff(struct follower *f, int at_least_ms)
{
    uint32_t chance;
    int64_t ms;

    f->backoff_ms = f->backoff_ms ? f->backoff_ms * 2 : BACKOFF_MIN_MS;
    if (f->backoff_ms > BACKOFF_MAX_MS)
        f->backoff_ms = BACKOFF_MAX_MS;
    sb_random(&chance, sizeof chance);
    ms = f->backoff_ms / 2 + (int)(chance % (uint32_t)(f->backoff_ms / 2));
    start_in(f, ms > at_least_ms ? ms : at_least_ms);
}

static void synced(struct follower *f)
{
    if (f->synced)
        return;
    f->synced = true;
    if (--f->watch->unsynced == 0 && f->watch->config.on_synced)
        f->watch->config.on_synced(f->watch->config.arg);
}

/* Said once until it works again: a server that is away would fill the log. */
static void trouble(struct follower *f, const char *verb, const struct sb_err *err)
{
    if (!f->troubled)
        sb_error("cannot %s %s%s%s at %s: %s", verb, f->kind->resource, f->ns ? " of " : "",
                 f->ns ? f->ns : "", sb_kube_server(f->watch->config.kube), err->text);
    f->troubled = true;
}

static void works_again(struct follower *f)
{
    if (f->troubled)
        sb_notice("%s%s%s: followed again", f->kind->resource, f->ns ? " of " : "",
                  f->ns ? f->ns : "");
    f->troubled = false;
    f->backoff_ms = 0;
}

/* -- objects --------------------------------------------------------------------------------------
 */

static bool apply(struct follower *f, const struct sb_value *object)
{
    if (!sb_object_name(object).len)
        return false;
    sb_objects_put(f->watch->config.objects, f->kind, object);
    return true;
}

static void see(struct follower *f, const struct sb_value *object)
{
    struct sb_str key = sb_arena_printf(f->seen_arena, "%.*s/%.*s", SB_ARG(sb_object_ns(object)),
                                        SB_ARG(sb_object_name(object)));

    sb_map_set(&f->seen, key, f);
}

static void forget_seen(struct follower *f)
{
    sb_map_release(&f->seen);
    f->seen = (struct sb_map){0};
    sb_arena_free(f->seen_arena);
    f->seen_arena = NULL;
}

/* Removes what a complete list did not contain. */
static void remove_unseen(struct follower *f)
{
    struct sb_objects *objects = f->watch->config.objects;
    struct sb_arena *arena = sb_arena_new(0);
    const struct sb_value *const *list;
    size_t n = sb_objects_list(objects, f->kind->kind, arena, &list);

    for (size_t i = 0; i < n; i++) {
        struct sb_str ns = sb_arena_str(arena, sb_object_ns(list[i]));
        struct sb_str name = sb_arena_str(arena, sb_object_name(list[i]));
        struct sb_str key = sb_arena_printf(arena, "%.*s/%.*s", SB_ARG(ns), SB_ARG(name));

        if ((!f->ns || sb_str_is(ns, f->ns)) && !sb_map_get(&f->seen, key))
            sb_objects_remove(objects, f->kind, ns, name);
    }
    sb_arena_free(arena);
}

static void set_version(struct follower *f, struct sb_str version)
{
    if (version.len && version.len < sizeof f->version) {
        memcpy(f->version, version.p, version.len);
        f->version[version.len] = '\0';
    }
}

/* -- listing --------------------------------------------------------------------------------------
 */

static struct sb_str resource_path(struct follower *f, struct sb_arena *a)
{
    const struct sb_kind *k = f->kind;
    struct sb_str path = k->group[0] ? sb_arena_printf(a, "/apis/%s/%s", k->group, k->version)
                                     : sb_arena_printf(a, "/api/%s", k->version);

    if (f->ns)
        path = sb_arena_printf(a, "%.*s/namespaces/%s", SB_ARG(path), f->ns);
    path = sb_arena_printf(a, "%.*s/%s?", SB_ARG(path), k->resource);
    if (k->selector)
        path = sb_arena_printf(a, "%.*sfieldSelector=%s&", SB_ARG(path), k->selector);
    return path;
}

static void list_done(struct follower *f)
{
    remove_unseen(f);
    forget_seen(f);
    works_again(f);
    sb_debug("%s: %zu known at version %s", f->kind->resource,
             sb_objects_count(f->watch->config.objects, f->kind->kind), f->version);
    f->state = WATCHING;
    synced(f);
    start(f);
}

static void apply_page(struct follower *f, struct sb_str body)
{
    struct sb_arena *arena = sb_arena_new(64 << 10);
    struct sb_value *page, *item;
    struct sb_str token;
    struct sb_err err;

    free(f->continue_token);
    f->continue_token = NULL;
    if (sb_json_parse(arena, body, &page, &err)) {
        trouble(f, "list", &err);
        start_after_backoff(f, 0);
    } else {
        sb_array_each (item, sb_get(page, "items")) {
            if (apply(f, item))
                see(f, item);
        }
        set_version(f, sb_value_str_at(page, "metadata.resourceVersion"));
        token = sb_value_str_at(page, "metadata.continue");
        if (token.len) {
            f->continue_token = sb_xcalloc(1, token.len + 1);
            memcpy(f->continue_token, token.p, token.len);
            start(f);
        } else {
            list_done(f);
        }
    }
    sb_arena_free(arena);
}

/* The server does not know the kind: there are no objects of it, and nothing to wait for. */
static void kind_missing(struct follower *f)
{
    forget_seen(f);
    f->seen_arena = sb_arena_new(0);
    remove_unseen(f);
    forget_seen(f);
    synced(f);
    start_in(f, MISSING_MS);
}

static void on_list(void *arg, const struct sb_http_result *result)
{
    struct follower *f = arg;
    struct sb_err err;
    enum sb_rc rc = sb_kube_result(result, &err);

    f->call = NULL;
    if (!rc) {
        apply_page(f, result->body);
    } else if (result->status == GONE && f->continue_token) {
        free(f->continue_token);
        f->continue_token = NULL;
        start(f);
    } else if (f->kind->optional && (rc == SB_NOTFOUND || rc == SB_DENIED)) {
        kind_missing(f);
    } else {
        trouble(f, "list", &err);
        start_after_backoff(f, result->retry_after_s * 1000);
    }
}

/* Continue tokens are base64 without padding, or JSON in it; what URLs don't take is escaped. */
static struct sb_str escaped(struct sb_arena *a, const char *text)
{
    struct sb_buf b;
    struct sb_str out;

    sb_buf_init(&b, 0);
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        bool plain = (*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') ||
                     (*p >= 'A' && *p <= 'Z') || strchr("-_.~", *p);

        sb_buf_printf(&b, plain ? "%c" : "%%%02X", *p);
    }
    out = sb_arena_str(a, sb_buf_get(&b));
    sb_buf_release(&b);
    return out;
}

static void start_list(struct follower *f)
{
    struct sb_arena *arena = sb_arena_new(0);
    struct sb_str path = resource_path(f, arena);

    if (!f->continue_token) {
        forget_seen(f);
        f->seen_arena = sb_arena_new(0);
    }
    path = sb_arena_printf(arena, "%.*slimit=%d", SB_ARG(path), PAGE_LEN);
    if (f->continue_token)
        path = sb_arena_printf(arena, "%.*s&continue=%.*s", SB_ARG(path),
                               SB_ARG(escaped(arena, f->continue_token)));
    f->call = sb_kube_start(f->watch->config.kube, path.p, NULL,
                            &(struct sb_http_request){
                                .method = "GET",
                                .timeout_ms = LIST_TIMEOUT_MS,
                                .body_max = 512u << 20,
                                .on_done = on_list,
                                .arg = f,
                            });
    sb_arena_free(arena);
}

/* -- watching -------------------------------------------------------------------------------------
 */

static bool on_error_event(struct follower *f, const struct sb_value *status)
{
    struct sb_str message = sb_value_str_at(status, "message");

    f->relist = true;
    if (sb_value_int_at(status, "code", 0) != GONE)
        sb_warn("watch of %s: %.*s; listing anew", f->kind->resource, SB_ARG(message));
    return false;
}

static bool apply_event(struct follower *f, struct sb_str type, const struct sb_value *object)
{
    if (sb_str_is(type, "ERROR"))
        return on_error_event(f, object);
    if (sb_str_is(type, "DELETED"))
        sb_objects_remove(f->watch->config.objects, f->kind, sb_object_ns(object),
                          sb_object_name(object));
    else if (sb_str_is(type, "ADDED") || sb_str_is(type, "MODIFIED"))
        f->relist = !apply(f, object);
    if (!f->relist)
        set_version(f, sb_value_str_at(object, "metadata.resourceVersion"));
    return !f->relist;
}

static bool on_event_line(void *arg, struct sb_str line)
{
    struct follower *f = arg;
    struct sb_arena *arena = sb_arena_new(0);
    struct sb_value *event;
    struct sb_err err;
    bool more = false;

    if (sb_json_parse(arena, line, &event, &err)) {
        sb_warn("watch of %s: %s; listing anew", f->kind->resource, err.text);
        f->relist = true;
    } else {
        works_again(f);
        more = apply_event(f, sb_value_str_at(event, "type"), sb_get(event, "object"));
    }
    sb_arena_free(arena);
    return more;
}

static bool on_watch_bytes(void *arg, struct sb_str bytes)
{
    struct follower *f = arg;
    bool more = sb_watch_lines_feed(f->lines, bytes);

    f->relist |= !more;
    return more;
}

static void start_watch(struct follower *f);

static void on_watch_end(void *arg, const struct sb_http_result *result)
{
    struct follower *f = arg;
    struct sb_err err;
    enum sb_rc rc = sb_kube_result(result, &err);

    f->call = NULL;
    sb_watch_lines_free(f->lines);
    f->lines = NULL;
    if (f->relist || result->status == GONE || rc == SB_NOTFOUND || rc == SB_INVALID) {
        f->state = LISTING;
        f->relist = false;
        start_after_backoff(f, 0);
    } else if (rc && rc != SB_TIMEOUT) {
        /* A stream cut off is what a restarting server looks like: worth words only if it lasts. */
        if (f->backoff_ms)
            trouble(f, "watch", &err);
        start_after_backoff(f, result->retry_after_s * 1000);
    } else if (sb_clock_ms() - f->started_ms > WATCH_LIVED_MS) {
        start_watch(f);
    } else {
        start_after_backoff(f, 0);
    }
}

static void start_watch(struct follower *f)
{
    struct sb_arena *arena = sb_arena_new(0);
    uint32_t chance;
    int seconds;

    sb_random(&chance, sizeof chance);
    seconds = WATCH_MIN_S + (int)(chance % WATCH_MIN_S);
    f->started_ms = sb_clock_ms();
    f->lines = sb_watch_lines_new(on_event_line, f);
    f->call = sb_kube_start(
        f->watch->config.kube,
        sb_arena_printf(arena,
                        "%.*swatch=1&allowWatchBookmarks=true&resourceVersion=%s&timeoutSeconds=%d",
                        SB_ARG(resource_path(f, arena)), f->version, seconds)
            .p,
        NULL,
        &(struct sb_http_request){
            .method = "GET",
            .timeout_ms = (seconds + WATCH_GRACE_S) * 1000,
            .on_body = on_watch_bytes,
            .on_done = on_watch_end,
            .arg = f,
        });
    sb_arena_free(arena);
}

static void start(struct follower *f)
{
    if (f->state == LISTING)
        start_list(f);
    else
        start_watch(f);
}

/* -- all of them ----------------------------------------------------------------------------------
 */

static void follow(struct sb_watch *w, const struct sb_kind *kind, const char *ns)
{
    struct follower *f = sb_xcalloc(1, sizeof *f);

    f->watch = w;
    f->kind = kind;
    f->ns = ns;
    f->timer = event_new(w->config.base, -1, 0, on_timer, f);
    sb_vec_push(&w->followers, f);
    w->unsynced++;
}

struct sb_watch *sb_watch_start(const struct sb_watch_config *config)
{
    struct sb_watch *w = sb_xcalloc(1, sizeof *w);
    bool all = !config->namespaces || !config->namespaces[0];
    struct follower **f;

    w->config = *config;
    for (const struct sb_kind *k = sb_kinds; k->kind; k++) {
        if (config->wanted && !config->wanted(config->arg, k))
            continue;
        if (all || !k->namespaced) {
            follow(w, k, NULL);
            continue;
        }
        for (const char *const *ns = config->namespaces; *ns; ns++)
            follow(w, k, *ns);
    }
    sb_vec_each (f, &w->followers)
        start(*f);
    return w;
}

void sb_watch_stop(struct sb_watch *w)
{
    struct follower **f;

    if (!w)
        return;
    sb_vec_each (f, &w->followers) {
        sb_http_cancel((*f)->call);
        event_free((*f)->timer);
        sb_watch_lines_free((*f)->lines);
        forget_seen(*f);
        free((*f)->continue_token);
        free(*f);
    }
    sb_vec_release(&w->followers);
    free(w);
}
