/* events.c - see events.h. */
#include "controlplane/status/events.h"

#include <stdlib.h>
#include <time.h>

#include "shared/digest.h"
#include "shared/json.h"
#include "shared/log.h"

enum {
    IN_FLIGHT_MAX = 4,
    QUEUE_MAX = 1000,
    TIMEOUT_MS = 10 * 1000,
    MESSAGE_MAX = 1024,
    NAME_MAX_LEN = 200
};

struct note {
    struct note *next;
    struct sb_events *events;
    struct sb_arena *arena; /* of the rest */
    struct sb_str path, body;
    struct sb_http_call *call;
};

struct sb_events {
    struct sb_kube *kube;
    const struct sb_objects *objects;
    const char *identity;
    struct note *first, **last; /* waiting */
    struct note *sent;
    size_t waiting, in_flight;
    bool troubled;
};

static void send_waiting(struct sb_events *ev);

static void note_free(struct note *n)
{
    sb_arena_free(n->arena);
    free(n);
}

static void on_sent(void *arg, const struct sb_http_result *result)
{
    struct note *n = arg, **link;
    struct sb_events *ev = n->events;
    struct sb_err err;

    if (sb_kube_result(result, &err) && !ev->troubled) {
        sb_warn("Events cannot be written: %s", err.text);
        ev->troubled = true;
    }
    for (link = &ev->sent; *link != n; link = &(*link)->next)
        ;
    *link = n->next;
    ev->in_flight--;
    note_free(n);
    send_waiting(ev);
}

static void send_waiting(struct sb_events *ev)
{
    while (ev->first && ev->in_flight < IN_FLIGHT_MAX) {
        struct note *n = ev->first;

        ev->first = n->next;
        if (!ev->first)
            ev->last = &ev->first;
        ev->waiting--;
        n->next = ev->sent;
        ev->sent = n;
        ev->in_flight++;
        n->call = sb_kube_start(ev->kube, n->path.p, NULL,
                                &(struct sb_http_request){
                                    .method = "POST",
                                    .body = n->body,
                                    .timeout_ms = TIMEOUT_MS,
                                    .on_done = on_sent,
                                    .arg = n,
                                });
    }
}

static void set_text(struct sb_arena *a, struct sb_value *object, const char *key,
                     struct sb_str text)
{
    sb_object_set(a, object, sb_str_c(key), sb_value_str(a, text));
}

static struct sb_value *involved(struct sb_arena *a, const struct sb_value *object)
{
    struct sb_value *v = sb_value_object(a);

    set_text(a, v, "apiVersion", sb_value_str_at(object, "apiVersion"));
    set_text(a, v, "kind", sb_value_str_at(object, "kind"));
    set_text(a, v, "name", sb_object_name(object));
    if (sb_object_ns(object).len)
        set_text(a, v, "namespace", sb_object_ns(object));
    set_text(a, v, "uid", sb_value_str_at(object, "metadata.uid"));
    return v;
}

static struct sb_value *event_metadata(const struct sb_events *ev, struct sb_arena *a,
                                       struct sb_str ns, const struct sb_value *object)
{
    struct sb_value *metadata = sb_value_object(a), *annotations = sb_value_object(a);
    struct sb_str name = sb_str_first(sb_object_name(object), NAME_MAX_LEN);
    uint8_t chance[8];

    sb_random(chance, sizeof chance);
    set_text(a, metadata, "namespace", ns);
    set_text(
        a, metadata, "name",
        sb_arena_printf(a, "%.*s.%.*s", SB_ARG(name), SB_ARG(sb_hex(a, chance, sizeof chance))));
    set_text(a, annotations, "konghq.com/instance-id", sb_str_c(ev->identity));
    sb_object_set(a, metadata, SB_STR("annotations"), annotations);
    return metadata;
}

static struct sb_str now_text(struct sb_arena *a)
{
    time_t now = time(NULL);
    struct tm tm;
    char text[32];

    gmtime_r(&now, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return sb_arena_str(a, sb_str_c(text));
}

static struct sb_str event_body(const struct sb_events *ev, struct sb_arena *a, struct sb_str ns,
                                const struct sb_value *object, const char *reason,
                                struct sb_str message)
{
    struct sb_value *event = sb_value_object(a), *source = sb_value_object(a);

    set_text(a, source, "component", SB_STR("kong-client"));
    sb_object_set(a, event, SB_STR("metadata"), event_metadata(ev, a, ns, object));
    sb_object_set(a, event, SB_STR("involvedObject"), involved(a, object));
    sb_object_set(a, event, SB_STR("source"), source);
    set_text(a, event, "type", SB_STR("Warning"));
    set_text(a, event, "reason", sb_str_c(reason));
    set_text(a, event, "message", sb_str_first(message, MESSAGE_MAX));
    set_text(a, event, "firstTimestamp", now_text(a));
    set_text(a, event, "lastTimestamp", now_text(a));
    sb_object_set(a, event, SB_STR("count"), sb_value_int(a, 1));
    return sb_json_text(a, event, 0);
}

void sb_events_warn(struct sb_events *ev, struct sb_str object, const char *reason,
                    struct sb_str message)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_str name = object, kind, ns = {0};
    const struct sb_value *found;
    struct note *n;

    sb_str_split(&name, '/', &kind);
    if (sb_str_chr(name, '/', 0) >= 0)
        sb_str_split(&name, '/', &ns);
    found = sb_objects_get(ev->objects, sb_arena_cstr(a, kind), ns, name);
    if (!found || ev->waiting >= QUEUE_MAX) {
        sb_arena_free(a);
        return;
    }
    if (!ns.len) /* Events on cluster-wide objects live there */
        ns = SB_STR("default");
    n = sb_xcalloc(1, sizeof *n);
    n->events = ev;
    n->arena = a;
    n->path = sb_arena_printf(a, "/api/v1/namespaces/%.*s/events", SB_ARG(ns));
    n->body = event_body(ev, a, ns, found, reason, message);
    *ev->last = n;
    ev->last = &n->next;
    ev->waiting++;
    send_waiting(ev);
}

struct sb_events *sb_events_new(struct sb_kube *kube, const struct sb_objects *objects,
                                const char *identity)
{
    struct sb_events *ev = sb_xcalloc(1, sizeof *ev);

    ev->kube = kube;
    ev->objects = objects;
    ev->identity = identity;
    ev->last = &ev->first;
    return ev;
}

void sb_events_free(struct sb_events *ev)
{
    struct note *n, *next;

    if (!ev)
        return;
    for (n = ev->first; n; n = next) {
        next = n->next;
        note_free(n);
    }
    for (n = ev->sent; n; n = next) {
        next = n->next;
        sb_http_cancel(n->call);
        note_free(n);
    }
    free(ev);
}
