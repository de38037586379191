/* sync.c - see sync.h. What is wanted and what is written, entity by entity.
 *
 *   item   one entity of the translation, or one row of ours that no entity stands for any more
 *
 *            wanted, written, equal ........ nothing to do
 *            wanted, not or else written ... put
 *            written, not wanted ........... drop
 *            refused ....................... nothing, until it or something it may hang on changes
 *
 * (S1) Only the loop touches items. Rows that go to the writer belong to the job from then on.
 * (S2) What is written is what the database told when we took the lead, plus what was committed
 *      since. When a commit's outcome is unknown, the database is asked again.
 * (S3) A follower keeps the hash of what is wanted, not the rows: taking the lead costs one look at
 *      the database, and only rows that differ are made.
 *
 * Leadership:
 *
 *   FOLLOWING  --lead-->  TAKING  --epoch, rows-->  LEADING  --a write failed-->  LOOKING
 *                            |                      ^  |                           |  |
 *                            v                      '--|--------- rows ------------'  |
 *                        FOLLOWING  <------------------'------- fenced, or told ------'
 */
#include "controlplane/sync/sync.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>

#include "controlplane/sync/problems.h"
#include "controlplane/sync/row.h"
#include "controlplane/sync/writer.h"
#include "controlplane/translate/translate.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "shared/map.h"
#include "shared/vec.h"

enum {
    RETRY_MIN_MS = 100,
    RETRY_MAX_MS = 5000,
    ELECT_MS = 1000, /* how often to try for the election's lock */
    ROW_BLOCK_LEN = 1024,
    REFUSED_MS = 30 * 1000, /* what stood in a row's way may be gone */
};

enum state { FOLLOWING, TAKING, LEADING, LOOKING };

struct item {
    const struct sb_entity *kind;
    char *name; /* in sync->items: "routes\nkey"; of a row nobody wants "routes\n\nid" */
    char id[SB_UUID_TEXT_LEN + 1];
    char *owner; /* "Ingress/shop/web": who is to blame; NULL: nobody known */
    bool wanted, written;
    bool in_todo, in_job;
    uint8_t want[SB_ROW_HASH_LEN], wrote[SB_ROW_HASH_LEN];
    double created_at;      /* of the written row */
    struct sb_arena *arena; /* of row */
    struct sb_value *row;   /* to be put */
    char *complaint;        /* why the schema or the database refused it; NULL: it did not */
};

/* What a change in a job will have written. */
struct sent {
    struct item *item;
    bool drop;
    uint8_t hash[SB_ROW_HASH_LEN];
    double created_at;
};

struct sb_sync {
    struct sb_sync_config config;
    struct sb_translator *translator;
    struct sb_writer *writer;
    struct event *run, *retry, *refused_timer;
    enum state state;
    bool warm, should_lead, troubled, complaints_changed;
    bool unannounced; /* something happened since on_written was last called */
    int backoff_ms;
    struct sb_map items; /* by name */
    struct sb_map ids;   /* natural key -> id of rows found in the database */
    struct sb_arena *ids_arena;
    SB_VEC(struct item *) todo;
    struct sb_problems *problems;
    struct sb_arena *scratch; /* of complete() */
    struct sb_sync_stats stats;
};

static void next_step(struct sb_sync *s);

static void arm(struct event *timer, int64_t ms)
{
    struct timeval tv = {ms / 1000, ms % 1000 * 1000};

    event_add(timer, &tv);
}

/* -- items ----------------------------------------------------------------------------------------
 */

static char *copy_text(struct sb_str s)
{
    char *p = sb_xmalloc(s.len + 1);

    memcpy(p, s.p ? s.p : "", s.len);
    p[s.len] = '\0';
    return p;
}

static struct sb_str item_name(struct sb_arena *a, const char *entity, struct sb_str key)
{
    return sb_arena_printf(a, "%s\n%.*s", entity, SB_ARG(key));
}

static struct sb_str orphan_name(struct sb_arena *a, const char *entity, const char *id)
{
    return sb_arena_printf(a, "%s\n\n%s", entity, id);
}

static struct item *item_new(struct sb_sync *s, const struct sb_entity *kind, struct sb_str name,
                             struct sb_str id)
{
    struct item *item = sb_xcalloc(1, sizeof *item);

    item->kind = kind;
    item->name = copy_text(name);
    snprintf(item->id, sizeof item->id, "%.*s", SB_ARG(id));
    sb_map_set(&s->items, sb_str_c(item->name), item);
    return item;
}

static void drop_row(struct item *item)
{
    sb_arena_free(item->arena);
    item->arena = NULL;
    item->row = NULL;
}

static void item_free(struct item *item)
{
    drop_row(item);
    free(item->name);
    free(item->owner);
    free(item->complaint);
    free(item);
}

static void complain(struct sb_sync *s, struct item *item, const char *text)
{
    if (!text && !item->complaint)
        return;
    free(item->complaint);
    item->complaint = text ? copy_text(sb_str_c(text)) : NULL;
    s->complaints_changed = true;
}

static bool is_settled(const struct item *item)
{
    if (item->wanted != item->written)
        return false;
    return !item->wanted || !memcmp(item->want, item->wrote, SB_ROW_HASH_LEN);
}

/* Puts the item where it belongs after it changed: on the list, at rest, or away. */
static void place(struct sb_sync *s, struct item *item)
{
    bool open = !is_settled(item) && !item->complaint && s->state == LEADING;

    if (!open)
        drop_row(item);
    if (open && !item->in_todo) {
        item->in_todo = true;
        sb_vec_push(&s->todo, item);
    }
    if (!item->wanted && !item->written && !item->complaint && !item->in_todo && !item->in_job) {
        sb_map_remove(&s->items, sb_str_c(item->name));
        item_free(item);
    }
}

static void forget_all(struct sb_sync *s)
{
    struct sb_map_slot *slot;

    sb_map_each (slot, &s->items)
        item_free(slot->value);
    sb_map_clear(&s->items);
    sb_vec_clear(&s->todo);
}

/* -- from entities to items -----------------------------------------------------------------------
 */

static struct sb_str find_id(void *arg, struct sb_str entity, struct sb_str key)
{
    struct sb_sync *s = arg;
    struct sb_arena *a = sb_arena_new(0);
    struct sb_str name = sb_arena_printf(a, "%.*s\n%.*s", SB_ARG(entity), SB_ARG(key));
    const struct item *item = sb_map_get(&s->items, name);

    sb_arena_free(a);
    return item ? sb_str_c(item->id) : (struct sb_str){0};
}

/* Under which id an entity is stored: rows that a controller before us wrote keep theirs. */
static struct sb_str choose_id(struct sb_sync *s, struct sb_arena *a, const struct sb_entity *kind,
                               const struct sb_translated *t)
{
    struct sb_str parent = {0}, natural;
    const char *known;

    if (t->parent_entity)
        parent = find_id(s, sb_str_c(t->parent_entity), t->parent);
    natural = sb_row_natural_key(a, kind, t->value, parent);
    known = natural.len ? sb_map_get(&s->ids, natural) : NULL;
    return known ? sb_str_c(known) : sb_row_id(a, kind, t, parent);
}

/* A row of this id that nothing wanted until now becomes the item's. */
static void take_over_orphan(struct sb_sync *s, struct item *item, struct sb_arena *a)
{
    struct item *orphan = sb_map_get(&s->items, orphan_name(a, item->kind->name, item->id));

    if (!orphan || orphan->in_job)
        return;
    item->written = orphan->written;
    item->created_at = orphan->created_at;
    memcpy(item->wrote, orphan->wrote, SB_ROW_HASH_LEN);
    orphan->written = false;
    complain(s, orphan, NULL);
    place(s, orphan);
}

/* Makes the row that is wanted. When the schema refuses it, the last good one stays. Checking makes
 * many times the garbage of the row, and on a first start all rows wait at once: so it is made on
 * scratch, and only the row is kept. */
static void complete(struct sb_sync *s, struct item *item, const struct sb_translated *t)
{
    struct sb_row_ids ids = {.find = find_id, .arg = s};
    struct sb_schema_ctx ctx = {.arena = s->scratch,
                                .expressions = s->config.translate->expression_routes};
    struct sb_str id = sb_str_c(item->id);
    struct sb_value *row;
    struct sb_err err;

    drop_row(item);
    sb_arena_clear(s->scratch);
    if (sb_row_complete(&ctx, item->kind, t, id, s->config.tag, &ids, &row, &err)) {
        complain(s, item, err.text);
        return;
    }
    complain(s, item, NULL);
    sb_row_hash(row, item->want);
    item->wanted = true;
    if (s->state != LEADING)
        return;
    item->arena = sb_arena_new(ROW_BLOCK_LEN);
    item->row = sb_value_copy(item->arena, row);
}

static void entity_wanted(struct sb_sync *s, const struct sb_entity *kind,
                          const struct sb_translated *t)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_str name = item_name(a, t->entity, t->key);
    struct item *item = sb_map_get(&s->items, name);

    if (!item) {
        item = item_new(s, kind, name, choose_id(s, a, kind, t));
        take_over_orphan(s, item, a);
    }
    free(item->owner);
    item->owner = t->nobjects ? copy_text(t->objects[0]) : NULL;
    complete(s, item, t);
    place(s, item);
    sb_arena_free(a);
}

static void entity_gone(struct sb_sync *s, const struct sb_translated *t)
{
    struct sb_arena *a = sb_arena_new(0);
    struct item *item = sb_map_get(&s->items, item_name(a, t->entity, t->key));

    if (item) {
        item->wanted = false;
        complain(s, item, NULL);
        place(s, item);
    }
    sb_arena_free(a);
}

static void entity_changed(struct sb_sync *s, const struct sb_translated *t)
{
    const struct sb_entity *kind = sb_entity_find(sb_str_c(t->entity));

    if (!kind)
        sb_error("%.*s: there is no entity %s", t->nobjects ? (int)t->objects[0].len : 0,
                 t->nobjects ? t->objects[0].p : "", t->entity);
    else if (t->value)
        entity_wanted(s, kind, t);
    else
        entity_gone(s, t);
}

/* Makes the rows of items that are not settled and have none. */
static void fill_rows(struct sb_sync *s)
{
    struct sb_arena *a = sb_arena_new(0);
    const struct sb_translated *t;
    size_t n = sb_translator_entities(s->translator, a, &t);

    for (size_t i = 0; i < n; i++) {
        struct item *item = sb_map_get(&s->items, item_name(a, t[i].entity, t[i].key));

        if (!item || item->row || item->complaint || (item->wanted && is_settled(item)))
            continue;
        complete(s, item, &t[i]);
        place(s, item);
    }
    sb_arena_free(a);
}

/* -- what authors are told ------------------------------------------------------------------------
 */

/* Everything that is wrong now; what was not said before is said. */
static void report_all(struct sb_sync *s)
{
    struct sb_arena *a = sb_arena_new(0);
    const struct sb_translate_failure *failures;
    size_t n = sb_translator_failures(s->translator, a, &failures);
    struct sb_map_slot *slot;

    sb_problems_begin(s->problems);
    for (size_t i = 0; i < n; i++)
        sb_problems_add(s->problems, failures[i].object, failures[i].message, false);
    sb_map_each (slot, &s->items) {
        const struct item *item = slot->value;

        if (item->complaint)
            sb_problems_add(s->problems, sb_str_c(item->owner ? item->owner : item->name),
                            sb_str_c(item->complaint), true);
    }
    sb_problems_end(s->problems);
    s->complaints_changed = false;
    sb_arena_free(a);
}

bool sb_sync_is_broken(const struct sb_sync *s, struct sb_str object)
{
    return sb_problems_has(s->problems, object);
}

static void on_run(evutil_socket_t fd, short what, void *arg)
{
    struct sb_sync *s = arg;
    const struct sb_translated *changes;
    size_t n;

    (void)fd, (void)what;
    if (!s->warm || sb_writer_busy(s->writer))
        return; /* the writer's answer comes here again */
    s->unannounced = true;
    s->stats.translations += sb_translator_pending(s->translator);
    n = sb_translator_run(s->translator, &changes);
    for (size_t i = 0; i < n; i++)
        entity_changed(s, &changes[i]);
    if (sb_translator_failures_changed(s->translator) || s->complaints_changed)
        report_all(s);
    next_step(s);
}

static void on_object_change(void *arg, const struct sb_kind *kind, const struct sb_value *before,
                             const struct sb_value *after)
{
    struct sb_sync *s = arg;

    sb_translator_note(s->translator, kind, before, after);
    event_active(s->run, 0, 0);
}

/* -- jobs -----------------------------------------------------------------------------------------
 */

static void set_state(struct sb_sync *s, enum state state)
{
    s->state = state;
    s->stats.leading = state == LEADING || state == LOOKING;
}

static void free_arena(void *arena)
{
    sb_arena_free(arena);
}

/* The row goes over to the job. */
static void add_change(struct sb_job *job, struct item *item)
{
    struct sent *sent = SB_NEW(job->arena, struct sent);
    double now =
        sb_value_at(item->row, "created_at") ? sb_number(sb_get(item->row, "created_at")) : 0;

    *sent = (struct sent){.item = item, .drop = !item->wanted};
    memcpy(sent->hash, item->want, SB_ROW_HASH_LEN);
    sent->created_at = item->written ? item->created_at : now;
    if (item->wanted && item->written && item->created_at > 0)
        sb_object_set(item->arena, item->row, SB_STR("created_at"),
                      sb_value_int(item->arena, (int64_t)item->created_at));
    if (item->arena)
        sb_arena_defer(job->arena, free_arena, item->arena);
    sb_vec_push(&job->changes, ((struct sb_row_change){
                                   .kind = item->kind,
                                   .id = sb_arena_str(job->arena, sb_str_c(item->id)),
                                   .row = item->wanted ? item->row : NULL,
                                   .fresh = !item->written,
                                   .owner = sent,
                               }));
    item->arena = NULL;
    item->row = NULL;
    item->in_job = true;
}

static void start_write(struct sb_sync *s)
{
    struct sb_job *job = sb_job_new(SB_JOB_WRITE);

    job->epoch = s->stats.epoch;
    for (size_t i = 0; i < s->todo.len; i++) {
        struct item *item = s->todo.p[i];

        item->in_todo = false;
        if (is_settled(item) || item->complaint)
            place(s, item);
        else
            add_change(job, item);
    }
    sb_vec_clear(&s->todo);
    if (job->changes.len)
        sb_writer_give(s->writer, job);
    else
        sb_job_free(job);
}

static void start_job(struct sb_sync *s, enum sb_job_type type)
{
    struct sb_job *job = sb_job_new(type);

    job->epoch = s->stats.epoch;
    sb_writer_give(s->writer, job);
}

/* What there is to do now that something happened. */
static void next_step(struct sb_sync *s)
{
    if (!s->should_lead && s->state != FOLLOWING)
        set_state(s, FOLLOWING);
    if (sb_writer_busy(s->writer) || event_pending(s->retry, EV_TIMEOUT, NULL))
        return;
    if (s->should_lead && s->state == FOLLOWING && s->warm) {
        set_state(s, TAKING);
        start_job(s, SB_JOB_LEAD);
    } else if (s->state == LOOKING) {
        start_job(s, SB_JOB_LOAD);
    } else if (s->state == LEADING && s->todo.len) {
        start_write(s);
    } else if (s->state == LEADING && s->unannounced && !sb_translator_pending(s->translator)) {
        s->unannounced = false;
        s->config.on_written(s->config.arg, s->stats.version);
    }
}

/* -- taking the lead ------------------------------------------------------------------------------
 */

static void remember_ids(struct sb_sync *s, const struct sb_job *job)
{
    const struct sb_found_row *f;

    sb_map_clear(&s->ids);
    sb_arena_free(s->ids_arena);
    s->ids_arena = sb_arena_new(0);
    sb_vec_each (f, &job->found) {
        struct sb_str parent = sb_value_str_at(f->row, "upstream.id");
        struct sb_str natural = sb_row_natural_key(s->ids_arena, f->kind, f->row, parent);

        if (natural.len)
            sb_map_set(&s->ids, natural,
                       sb_arena_cstr(s->ids_arena, sb_value_str_at(f->row, "id")));
    }
}

/* Whether every item has the id that its entity has in the database. */
static bool ids_fit(struct sb_sync *s)
{
    struct sb_arena *a = sb_arena_new(0);
    const struct sb_translated *t;
    size_t n = sb_translator_entities(s->translator, a, &t);
    bool fit = true;

    for (size_t i = 0; i < n && fit; i++) {
        const struct item *item = sb_map_get(&s->items, item_name(a, t[i].entity, t[i].key));

        fit = !item || sb_str_is(choose_id(s, a, item->kind, &t[i]), item->id);
    }
    sb_arena_free(a);
    return fit;
}

/* Parents come first in no list of all entities, so ids of children are right only once their
 * parents are there: kinds in load order. */
static void rebuild_items(struct sb_sync *s)
{
    struct sb_arena *a = sb_arena_new(0);
    const struct sb_translated *t;
    size_t n = sb_translator_entities(s->translator, a, &t);

    forget_all(s);
    for (const struct sb_entity *const *kind = sb_entities(); *kind; kind++) {
        for (size_t i = 0; i < n; i++) {
            if (!strcmp(t[i].entity, (*kind)->name))
                entity_wanted(s, *kind, &t[i]);
        }
    }
    sb_arena_free(a);
}

static void row_found(struct sb_sync *s, const struct sb_found_row *f, const struct sb_map *by_id,
                      struct sb_arena *a)
{
    struct sb_str id = sb_value_str_at(f->row, "id");
    struct item *item = sb_map_get(by_id, item_name(a, f->kind->name, id));
    const struct sb_value *created = sb_get(f->row, "created_at");

    if (!item)
        item = item_new(s, f->kind, orphan_name(a, f->kind->name, sb_arena_cstr(a, id)), id);
    item->written = true;
    item->created_at = sb_is_number(created) ? sb_number(created) : 0;
    sb_row_hash(f->row, item->wrote);
}

/* Rows in the database are what is written; then everything that differs goes on the list. */
static void take_found(struct sb_sync *s, const struct sb_job *job)
{
    struct sb_arena *a = sb_arena_new(0);
    SB_VEC(struct item *) all = {0};
    struct sb_map by_id = {0};
    struct sb_map_slot *slot;
    const struct sb_found_row *f;
    struct item **it;

    remember_ids(s, job);
    sb_vec_clear(&s->todo);
    if (!ids_fit(s))
        rebuild_items(s);
    sb_map_each (slot, &s->items) {
        struct item *item = slot->value;

        item->written = item->in_todo = item->in_job = false;
        sb_map_set(&by_id, item_name(a, item->kind->name, sb_str_c(item->id)), item);
    }
    sb_vec_each (f, &job->found)
        row_found(s, f, &by_id, a);
    sb_map_each (slot, &s->items)
        sb_vec_push(&all, slot->value);
    set_state(s, LEADING);
    fill_rows(s);
    sb_vec_each (it, &all)
        place(s, *it);
    sb_vec_release(&all);
    sb_map_release(&by_id);
    sb_arena_free(a);
}

/* -- answers of the writer ------------------------------------------------------------------------
 */

static void retry_later(struct sb_sync *s, const struct sb_err *err)
{
    if (!s->troubled)
        sb_error("PostgreSQL: %s; trying again", err->text);
    s->troubled = true;
    s->backoff_ms = s->backoff_ms ? s->backoff_ms * 2 : RETRY_MIN_MS;
    if (s->backoff_ms > RETRY_MAX_MS)
        s->backoff_ms = RETRY_MAX_MS;
    arm(s->retry, s->backoff_ms);
}

static void works_again(struct sb_sync *s)
{
    if (s->troubled)
        sb_notice("PostgreSQL: writing again");
    s->troubled = false;
    s->backoff_ms = 0;
}

static void fenced(struct sb_sync *s, const struct sb_err *err)
{
    sb_warn("leadership lost: %s", err->text);
    set_state(s, FOLLOWING);
    if (s->config.elect) {
        arm(s->retry, ELECT_MS);
        return;
    }
    s->should_lead = false;
    s->config.on_fenced(s->config.arg);
}

static void lead_done(struct sb_sync *s, struct sb_job *job)
{
    bool taking = job->type == SB_JOB_LEAD;

    if (job->rc == SB_AGAIN) {
        set_state(s, FOLLOWING);
        arm(s->retry, ELECT_MS);
    } else if (job->rc == SB_DENIED && !taking) {
        fenced(s, &job->err);
    } else if (job->rc) {
        set_state(s, taking ? FOLLOWING : LOOKING);
        retry_later(s, &job->err);
    } else if (s->should_lead) {
        works_again(s);
        s->stats.epoch = job->epoch;
        take_found(s, job);
        sb_notice("writing as epoch %llu: %zu rows of ours found, %zu to change",
                  (unsigned long long)job->epoch, job->found.len, s->todo.len);
        s->stats.version = job->version;
        sb_problems_forget(s->problems);
        report_all(s);
    } else {
        set_state(s, FOLLOWING);
    }
}

/* What was refused may have been in the way of, or waiting for, what was just written. */
static void try_refused_again(struct sb_sync *s)
{
    struct sb_map_slot *slot;
    bool any = false;

    sb_map_each (slot, &s->items) {
        struct item *item = slot->value;

        if (!item->complaint)
            continue;
        free(item->complaint);
        item->complaint = NULL;
        any = true;
        if (!item->wanted && item->written)
            place(s, item);
    }
    if (any)
        fill_rows(s);
}

static void settle(struct sb_sync *s, const struct sb_row_change *c, bool *moved)
{
    const struct sent *sent = c->owner;
    struct item *item = sent->item;

    item->in_job = false;
    if (c->refused) {
        complain(s, item, c->refused);
    } else if (sent->drop) {
        item->written = false;
        s->stats.rows_dropped++;
        *moved = true;
    } else {
        *moved |= !item->written;
        item->written = true;
        item->created_at = sent->created_at;
        memcpy(item->wrote, sent->hash, SB_ROW_HASH_LEN);
        s->stats.rows_put++;
    }
    place(s, item);
}

static void settle_all(struct sb_sync *s, struct sb_job *job)
{
    struct sb_row_change *c;
    bool moved = false;

    s->stats.writes++;
    sb_vec_each (c, &job->changes)
        settle(s, c, &moved);
    if (moved && sb_problems_objects(s->problems))
        try_refused_again(s);
    if (s->complaints_changed)
        report_all(s);
    s->stats.last_write_ms = sb_wall_ms();
    if (job->version)
        s->stats.version = job->version;
}

static void write_done(struct sb_sync *s, struct sb_job *job)
{
    if (!job->rc) {
        works_again(s);
        settle_all(s, job);
        return;
    }
    s->stats.failed_writes++;
    if (job->rc == SB_DENIED) {
        fenced(s, &job->err);
    } else {
        set_state(s, LOOKING);
        retry_later(s, &job->err);
    }
}

static void on_job_done(void *arg, struct sb_job *job)
{
    struct sb_sync *s = arg;

    if (job->type == SB_JOB_WRITE)
        write_done(s, job);
    else
        lead_done(s, job);
    sb_job_free(job);
    event_active(s->run, 0, 0);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    next_step(arg);
}

static void on_refused_timer(evutil_socket_t fd, short what, void *arg)
{
    struct sb_sync *s = arg;

    (void)fd, (void)what;
    arm(s->refused_timer, REFUSED_MS);
    if (s->state != LEADING || sb_writer_busy(s->writer) || !sb_problems_objects(s->problems))
        return;
    try_refused_again(s);
    next_step(s);
}

/* -- from outside ---------------------------------------------------------------------------------
 */

enum sb_rc sb_sync_start(const struct sb_sync_config *config, struct sb_sync **out,
                         struct sb_err *err)
{
    struct sb_sync *s = sb_xcalloc(1, sizeof *s);
    enum sb_rc rc;

    s->config = *config;
    if (!s->config.tag)
        s->config.tag = "managed-by-ingress-controller";
    s->should_lead = config->elect;
    rc = sb_writer_start(&(struct sb_writer_config){.base = config->base,
                                                    .pg = config->pg,
                                                    .tag = s->config.tag,
                                                    .identity = config->identity,
                                                    .elect = config->elect,
                                                    .on_done = on_job_done,
                                                    .arg = s},
                         &s->writer, err);
    if (rc) {
        free(s);
        return rc;
    }
    s->run = event_new(config->base, -1, 0, on_run, s);
    s->retry = event_new(config->base, -1, 0, on_retry, s);
    s->refused_timer = event_new(config->base, -1, 0, on_refused_timer, s);
    arm(s->refused_timer, REFUSED_MS);
    s->scratch = sb_arena_new(16 << 10);
    s->problems = sb_problems_new(config->on_failure, config->arg);
    s->translator = sb_translator_new(config->translate, config->objects);
    sb_objects_listen(config->objects, on_object_change, s);
    *out = s;
    return SB_OK;
}

void sb_sync_stop(struct sb_sync *s)
{
    if (!s)
        return;
    sb_objects_unlisten(s->config.objects, on_object_change, s);
    sb_writer_stop(s->writer);
    forget_all(s);
    sb_map_release(&s->items);
    sb_map_release(&s->ids);
    sb_arena_free(s->ids_arena);
    sb_problems_free(s->problems);
    sb_arena_free(s->scratch);
    sb_vec_release(&s->todo);
    event_free(s->run);
    event_free(s->retry);
    event_free(s->refused_timer);
    sb_translator_free(s->translator);
    free(s);
}

void sb_sync_warm(struct sb_sync *s)
{
    s->warm = true;
    event_active(s->run, 0, 0);
}

void sb_sync_lead(struct sb_sync *s, bool leading)
{
    s->should_lead = leading;
    if (!leading && s->state != FOLLOWING)
        set_state(s, FOLLOWING);
    next_step(s);
}

void sb_sync_stats(const struct sb_sync *s, struct sb_sync_stats *out)
{
    *out = s->stats;
    out->broken_objects = sb_problems_objects(s->problems);
}
