/* push.c - see push.h.
 *
 *   cache ──changes──> translate ──> document, less what was refused ──> text and its hash
 *                                                                          |
 *   for each gateway:  took another hash, or came up empty?  ──yes──> POST /config
 *
 * The list of what is refused starts empty with every translation, so that a mended entity is tried
 * again. It only grows between translations, so posting it again and again comes to an end.
 */
#include "controlplane/sync/push.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>

#include "controlplane/sync/problems.h"
#include "controlplane/translate/translate.h"
#include "shared/clock.h"
#include "shared/digest.h"
#include "shared/json.h"
#include "shared/log.h"
#include "shared/map.h"
#include "shared/vec.h"

enum { LOOK_MS = 3000, RETRY_MIN_MS = 200, RETRY_MAX_MS = 10000 };

struct gateway {
    struct sb_push *push;
    const char *url;
    struct sb_http_call *call;
    struct event *timer;
    bool took, troubled;
    uint8_t hash[SB_SHA256_LEN]; /* of what it took */
    uint8_t sent[SB_SHA256_LEN]; /* of what is under way */
    int backoff_ms;
};

struct sb_push {
    struct sb_push_config config;
    struct sb_translator *translator;
    struct sb_problems *problems;
    struct event *run;
    bool warm;
    SB_VEC(struct gateway *) gateways;

    struct sb_arena *arena; /* of the rest */
    struct sb_str text;
    uint8_t hash[SB_SHA256_LEN];
    struct sb_map refused; /* "route\nname" or "route\nid" -> struct refusal */
    struct sb_sync_stats stats;
};

struct refusal {
    struct sb_str object, message;
};

static void gateway_step(struct gateway *g);

/* -- the document ---------------------------------------------------------------------------------
 */

static bool is_refused(const struct sb_push *p, struct sb_arena *a, struct sb_str list,
                       const struct sb_value *entity)
{
    struct sb_str type = sb_str_first(list, list.len - 1); /* "routes": route */
    struct sb_str name = sb_value_str_at(entity, "name"), id = sb_value_str_at(entity, "id");

    if (name.len &&
        sb_map_get(&p->refused, sb_arena_printf(a, "%.*s\n%.*s", SB_ARG(type), SB_ARG(name))))
        return true;
    return id.len &&
           sb_map_get(&p->refused, sb_arena_printf(a, "%.*s\n%.*s", SB_ARG(type), SB_ARG(id)));
}

/* Lists of entities, at the top and nested, without those that are refused. */
static void leave_out_refused(const struct sb_push *p, struct sb_arena *a, struct sb_value *doc)
{
    struct sb_member *m;
    struct sb_value *item;

    sb_object_each (m, doc) {
        struct sb_value *kept;

        if (!sb_is(m->value, SB_V_ARRAY) || m->key.len < 2)
            continue;
        kept = sb_value_array(a);
        sb_array_each (item, m->value) {
            if (is_refused(p, a, m->key, item))
                continue;
            leave_out_refused(p, a, item);
            sb_array_push(a, kept, item);
        }
        m->value = kept;
    }
}

static void make_text(struct sb_push *p)
{
    struct sb_value *doc = sb_translator_document(p->translator, p->arena);

    if (p->refused.count) {
        doc = sb_value_copy(p->arena, doc); /* parts of it are the translator's */
        leave_out_refused(p, p->arena, doc);
    }
    p->text = sb_json_text(p->arena, doc, SB_JSON_SORTED);
    sb_sha256(p->text, p->hash);
}

static void report_all(struct sb_push *p)
{
    struct sb_arena *a = sb_arena_new(0);
    const struct sb_translate_failure *failures;
    size_t n = sb_translator_failures(p->translator, a, &failures);
    struct sb_map_slot *slot;

    sb_problems_begin(p->problems);
    for (size_t i = 0; i < n; i++)
        sb_problems_add(p->problems, failures[i].object, failures[i].message, false);
    sb_map_each (slot, &p->refused) {
        const struct refusal *r = slot->value;

        sb_problems_add(p->problems, r->object, r->message, true);
    }
    sb_problems_end(p->problems);
    sb_arena_free(a);
}

static void on_run(evutil_socket_t fd, short what, void *arg)
{
    struct sb_push *p = arg;
    const struct sb_translated *changes;
    struct gateway **g;

    (void)fd, (void)what;
    if (!p->warm)
        return;
    sb_translator_run(p->translator, &changes);
    p->stats.translations++;
    sb_map_clear(&p->refused);
    sb_arena_free(p->arena);
    p->arena = sb_arena_new(64 << 10);
    make_text(p);
    report_all(p);
    sb_vec_each (g, &p->gateways)
        gateway_step(*g);
}

static void on_object_change(void *arg, const struct sb_kind *kind, const struct sb_value *before,
                             const struct sb_value *after)
{
    struct sb_push *p = arg;

    sb_translator_note(p->translator, kind, before, after);
    event_active(p->run, 0, 0);
}

/* -- refusals -------------------------------------------------------------------------------------
 */

/* "k8s-kind:Ingress" and its companions make "Ingress/ns/name". */
static struct sb_str object_of_tags(struct sb_arena *a, const struct sb_value *tags)
{
    static const struct sb_str prefixes[] = {
        SB_STR_INIT("k8s-kind:"), SB_STR_INIT("k8s-namespace:"), SB_STR_INIT("k8s-name:")};
    struct sb_str parts[3] = {{0}};
    struct sb_value *tag;

    sb_array_each (tag, tags) {
        for (int i = 0; i < 3; i++) {
            if (sb_is(tag, SB_V_STR) && sb_str_starts(tag->s, prefixes[i]))
                parts[i] = sb_str_from(tag->s, prefixes[i].len);
        }
    }
    return sb_arena_printf(a, "%.*s%s%.*s/%.*s", SB_ARG(parts[0]), parts[1].len ? "/" : "",
                           SB_ARG(parts[1]), SB_ARG(parts[2]));
}

static struct sb_str words_of(struct sb_arena *a, const struct sb_value *flattened)
{
    struct sb_str type = sb_value_str_at(flattened, "entity_type"), words = {0};
    struct sb_value *e;

    sb_array_each (e, sb_get(flattened, "errors")) {
        struct sb_str field = sb_value_str_at(e, "field");

        words = sb_arena_printf(a, "%.*s%sinvalid %.*s: %.*s", SB_ARG(words), words.len ? "; " : "",
                                SB_ARG(field.len ? field : type),
                                SB_ARG(sb_value_str_at(e, "message")));
    }
    return words;
}

static bool add_refusal(struct sb_push *p, struct sb_str type, struct sb_str name,
                        struct refusal *refusal)
{
    if (!name.len)
        return false;
    return !sb_map_set(
        &p->refused, sb_arena_printf(p->arena, "%.*s\n%.*s", SB_ARG(type), SB_ARG(name)), refusal);
}

/* Takes what a gateway refused onto the list; false when nothing there was new. */
static bool take_refusals(struct sb_push *p, struct sb_str body)
{
    struct sb_value *answer, *f;
    bool any = false;

    if (sb_json_parse(p->arena, body, &answer, NULL))
        return false;
    sb_array_each (f, sb_get(answer, "flattened_errors")) {
        struct sb_str type = sb_value_str_at(f, "entity_type");
        struct refusal *r = SB_NEW(p->arena, struct refusal);

        r->object = object_of_tags(p->arena, sb_get(f, "entity_tags"));
        r->message = words_of(p->arena, f);
        any |= add_refusal(p, type, sb_value_str_at(f, "entity_name"), r);
        any |= add_refusal(p, type, sb_value_str_at(f, "entity_id"), r);
    }
    return any;
}

/* -- gateways -------------------------------------------------------------------------------------
 */

static void arm(struct gateway *g, int64_t ms)
{
    struct timeval tv = {ms / 1000, ms % 1000 * 1000};

    event_add(g->timer, &tv);
}

static void trouble(struct gateway *g, const char *words)
{
    if (!g->troubled)
        sb_error("gateway %s: %s; trying again", g->url, words);
    g->troubled = true;
    g->took = false;
    g->push->stats.failed_writes++;
    g->backoff_ms = g->backoff_ms ? g->backoff_ms * 2 : RETRY_MIN_MS;
    if (g->backoff_ms > RETRY_MAX_MS)
        g->backoff_ms = RETRY_MAX_MS;
    arm(g, g->backoff_ms);
}

static void start_call(struct gateway *g, const char *method, const char *path, struct sb_str body,
                       void (*on_done)(void *arg, const struct sb_http_result *result))
{
    const struct sb_push_config *c = &g->push->config;
    struct sb_arena *a = sb_arena_new(0);
    const char *headers[] = {"Content-Type: application/json", NULL, NULL};

    if (c->token)
        headers[1] = sb_arena_printf(a, "Kong-Admin-Token: %s", c->token).p;
    g->call = sb_http_start(c->http, &(struct sb_http_request){
                                         .method = method,
                                         .url = sb_arena_printf(a, "%s%s", g->url, path).p,
                                         .headers = headers,
                                         .body = body,
                                         .timeout_ms = c->timeout_ms,
                                         .on_done = on_done,
                                         .arg = g,
                                     });
    sb_arena_free(a);
}

static bool up_to_date(const struct gateway *g)
{
    return g->took && !memcmp(g->hash, g->push->hash, SB_SHA256_LEN);
}

static void tell_when_all_took(struct sb_push *p)
{
    struct gateway **g;

    sb_vec_each (g, &p->gateways) {
        if (!up_to_date(*g))
            return;
    }
    p->config.on_written(p->config.arg, 0);
}

static void on_taken(struct gateway *g)
{
    if (g->troubled)
        sb_notice("gateway %s: works again", g->url);
    g->troubled = false;
    g->backoff_ms = 0;
    g->took = true;
    memcpy(g->hash, g->sent, SB_SHA256_LEN);
    g->push->stats.writes++;
    g->push->stats.last_write_ms = sb_wall_ms();
    if (up_to_date(g))
        tell_when_all_took(g->push);
    gateway_step(g);
}

static void on_posted(void *arg, const struct sb_http_result *result)
{
    struct gateway *g = arg, **other;
    struct sb_push *p = g->push;
    char words[512];

    g->call = NULL;
    if (!result->rc && (result->status / 100 == 2 || result->status == 304)) {
        on_taken(g);
    } else if (!result->rc && result->status == 400 && take_refusals(p, result->body)) {
        make_text(p);
        report_all(p);
        sb_vec_each (other, &p->gateways)
            gateway_step(*other);
    } else if (result->rc) {
        trouble(g, result->error);
    } else {
        snprintf(words, sizeof words, "status %d: %.*s", result->status,
                 SB_ARG(sb_str_first(result->body, 400)));
        trouble(g, words);
    }
}

/* A gateway that came up empty has this hash. */
static const struct sb_str empty_hash = SB_STR_INIT("00000000000000000000000000000000");

static void on_looked(void *arg, const struct sb_http_result *result)
{
    struct gateway *g = arg;
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *status;

    g->call = NULL;
    if (result->rc || result->status != 200 || sb_json_parse(a, result->body, &status, NULL))
        g->took = false;
    else if (sb_str_eq(sb_value_str_at(status, "configuration_hash"), empty_hash))
        g->took = false;
    sb_arena_free(a);
    gateway_step(g);
}

static void gateway_step(struct gateway *g)
{
    struct sb_push *p = g->push;

    if (g->call || !p->text.len || (g->troubled && event_pending(g->timer, EV_TIMEOUT, NULL)))
        return;
    if (up_to_date(g)) {
        arm(g, LOOK_MS);
        return;
    }
    event_del(g->timer);
    memcpy(g->sent, p->hash, SB_SHA256_LEN);
    start_call(g, "POST", "/config?check_hash=1&flatten_errors=1", p->text, on_posted);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct gateway *g = arg;

    (void)fd, (void)what;
    if (!g->call && up_to_date(g))
        start_call(g, "GET", "/status", SB_STR(""), on_looked);
    else
        gateway_step(g);
}

/* -- from outside ---------------------------------------------------------------------------------
 */

struct sb_push *sb_push_start(const struct sb_push_config *config)
{
    struct sb_push *p = sb_xcalloc(1, sizeof *p);

    p->config = *config;
    p->run = event_new(config->base, -1, 0, on_run, p);
    p->problems = sb_problems_new(config->on_failure, config->arg);
    p->translator = sb_translator_new(config->translate, config->objects);
    for (const char *const *url = config->urls; *url; url++) {
        struct gateway *g = sb_xcalloc(1, sizeof *g);

        g->push = p;
        g->url = *url;
        g->timer = event_new(config->base, -1, 0, on_timer, g);
        sb_vec_push(&p->gateways, g);
    }
    sb_objects_listen(config->objects, on_object_change, p);
    return p;
}

void sb_push_stop(struct sb_push *p)
{
    struct gateway **g;

    if (!p)
        return;
    sb_objects_unlisten(p->config.objects, on_object_change, p);
    sb_vec_each (g, &p->gateways) {
        sb_http_cancel((*g)->call);
        event_free((*g)->timer);
        free(*g);
    }
    sb_vec_release(&p->gateways);
    event_free(p->run);
    sb_problems_free(p->problems);
    sb_map_release(&p->refused);
    sb_arena_free(p->arena);
    sb_translator_free(p->translator);
    free(p);
}

void sb_push_warm(struct sb_push *p)
{
    p->warm = true;
    event_active(p->run, 0, 0);
}

bool sb_push_is_broken(const struct sb_push *p, struct sb_str object)
{
    return sb_problems_has(p->problems, object);
}

void sb_push_stats(const struct sb_push *p, struct sb_sync_stats *out)
{
    *out = p->stats;
    out->leading = p->warm;
    out->broken_objects = sb_problems_objects(p->problems);
}
