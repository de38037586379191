#include "dataplane/plugins/vault.h"

#include <ctype.h>
#include <stdlib.h>

#include "shared/clock.h"
#include "shared/json.h"
#include "shared/log.h"
#include "shared/map.h"
#include "shared/secret_ref.h"
#include "shared/settings.h"
#include "shared/vec.h"

enum { RESURRECT_MIN_MS = 120000 };

/* A vault entity. */
struct vault {
    struct sb_arena *arena;
    struct sb_str id, prefix;
    struct sb_value *config;
    const struct sb_vault_kind *kind; /* NULL: not built here */
};

/* What a reference came to when it was asked for last. */
struct secret {
    struct sb_str reference; /* behind the struct */
    char *text;
    size_t len;
    bool failed;
    uint64_t asked_of;         /* kind and options */
    int64_t again_ms, good_ms; /* not to be asked before; the last one is good until */
};

struct sb_vaults {
    const struct sb_settings *settings;
    int64_t (*now_ms)(void);
    SB_VEC(const struct sb_vault_kind *) kinds;
    struct sb_map by_id; /* struct vault */
    struct sb_map secrets;
};

/* -- kinds -- */

static enum sb_rc get_env(struct sb_arena *a, const struct sb_vault_question *q, struct sb_str *out)
{
    struct sb_str prefix = sb_value_str_at(q->options, "prefix");
    const char *text = getenv(sb_secret_env_name(a, prefix, q->resource, q->version));

    *out = sb_str_c(text);
    return text ? SB_OK : SB_NOTFOUND;
}

static const struct sb_vault_option env_options[] = {
    {"prefix", false, sb_secret_env_prefix},
    {0},
};

static const struct sb_vault_kind env_kind = {"env", env_options, get_env};

static const struct sb_vault_kind *kind_of(const struct sb_vaults *v, struct sb_str name)
{
    for (size_t i = 0; i < v->kinds.len; i++)
        if (sb_str_is(name, v->kinds.p[i]->name))
            return v->kinds.p[i];
    return NULL;
}

/* The setting vaults: bundled, or env by name; off. */
static bool has_env(const struct sb_settings *settings)
{
    size_t n = 0;
    const struct sb_str *names = settings ? sb_settings_list(settings, "vaults", &n) : NULL;

    for (size_t i = 0; i < n; i++) {
        if (i == 0 && sb_str_is(names[i], "off"))
            return false;
        if (sb_str_is(names[i], "bundled") || sb_str_is(names[i], env_kind.name))
            return true;
    }
    return n == 0;
}

void sb_vaults_add(struct sb_vaults *v, const struct sb_vault_kind *kind)
{
    sb_vec_push(&v->kinds, kind);
}

/* -- entities -- */

static void free_vault(struct vault *vault)
{
    if (vault)
        sb_arena_free(vault->arena);
}

void sb_vaults_put(struct sb_vaults *v, struct sb_str id, const struct sb_value *row)
{
    struct sb_arena *a;
    struct vault *vault;
    struct sb_map_slot *slot;

    free_vault(sb_map_remove(&v->by_id, id));
    sb_map_each (slot, &v->secrets) /* may be another's now */
        ((struct secret *)slot->value)->again_ms = 0;
    if (!row)
        return;
    a = sb_arena_new(512);
    vault = SB_NEW(a, struct vault);
    vault->arena = a;
    vault->id = sb_arena_str(a, id);
    vault->prefix = sb_arena_str(a, sb_value_str_at(row, "prefix"));
    vault->config = sb_value_copy(a, sb_get(row, "config"));
    vault->kind = kind_of(v, sb_value_str_at(row, "name"));
    sb_map_set(&v->by_id, vault->id, vault);
}

/* Few: a search will do. Prefixes are unique; of two that are not, the lower id has it. */
static const struct vault *find(const struct sb_vaults *v, struct sb_str prefix)
{
    const struct vault *found = NULL;
    struct sb_map_slot *slot;

    sb_map_each (slot, &v->by_id) {
        const struct vault *vault = slot->value;

        if (sb_str_eq(vault->prefix, prefix) && (!found || sb_str_cmp(vault->id, found->id) < 0))
            found = vault;
    }
    return found;
}

/* -- questions -- */

/* Nothing but a number, not less than 0; else -1. */
static double number_of(struct sb_arena *a, struct sb_str text)
{
    char *end, *begin = sb_arena_cstr(a, text);
    double n = isdigit((unsigned char)*begin) ? strtod(begin, &end) : -1;

    return n >= 0 && !*end ? n : -1;
}

static struct sb_value *text_option(struct sb_arena *a, const struct sb_vault_option *o,
                                    struct sb_str text)
{
    double n;

    if (!o->number)
        return text.len && (!o->fits || o->fits(text)) ? sb_value_str(a, text) : NULL;
    n = number_of(a, text);
    return n >= 0 ? sb_value_num(a, n) : NULL;
}

static struct sb_value *stored_option(struct sb_arena *a, const struct sb_vault_option *o,
                                      const struct sb_value *v)
{
    if (sb_is(v, SB_V_STR))
        return text_option(a, o, v->s);
    return o->number && sb_is_number(v) && sb_number(v) >= 0 ? sb_value_num(a, sb_number(v)) : NULL;
}

/* Where it comes from: the reference, the entity, the settings. What does not fit does not fall
 * back. */
static struct sb_value *option(const struct sb_vaults *v, struct sb_arena *a,
                               const struct sb_secret_ref *ref, const struct vault *vault,
                               const struct sb_vault_kind *kind, const struct sb_vault_option *o)
{
    struct sb_str text;
    const char *set;

    if (sb_secret_ref_option(a, ref, o->name, &text))
        return text_option(a, o, text);
    if (vault)
        return stored_option(a, o, sb_get(vault->config, o->name));
    if (!v->settings)
        return NULL;
    set = sb_settings_str(v->settings, sb_arena_printf(a, "vault_%s_%s", kind->name, o->name).p);
    return set ? text_option(a, o, sb_str_c(set)) : NULL;
}

/* Who is asked, and what. */
struct asked {
    const struct sb_vault_kind *kind;
    struct sb_vault_question q;
    struct sb_str key;
};

static enum sb_rc prepare(const struct sb_vaults *v, struct sb_arena *a, struct sb_str reference,
                          struct asked *out, struct sb_err *err)
{
    const struct vault *vault = NULL;
    struct sb_secret_ref ref;
    struct sb_value *options;

    if (sb_secret_ref_parse(a, reference, &ref, err))
        return SB_INVALID;
    out->kind = kind_of(v, ref.vault);
    if (!out->kind) {
        vault = find(v, ref.vault);
        out->kind = vault ? vault->kind : NULL;
    }
    if (!out->kind)
        return sb_err_set(err, SB_NOTFOUND, "could not find vault (%.*s)", SB_ARG(ref.vault));
    options = sb_value_object(a);
    for (const struct sb_vault_option *o = out->kind->options; o->name; o++) {
        struct sb_value *value = option(v, a, &ref, vault, out->kind, o);

        if (value)
            sb_object_set(a, options, sb_str_c(o->name), value);
    }
    out->q = (struct sb_vault_question){options, ref.resource, ref.version};
    out->key = ref.key;
    return SB_OK;
}

static enum sb_rc ask(struct sb_arena *a, const struct asked *asked, struct sb_str *out,
                      struct sb_err *err)
{
    static const char words[] = "could not get value from external vault";
    struct sb_err why;
    enum sb_rc rc = asked->kind->get(a, &asked->q, out);

    if (rc)
        return sb_err_set(err, rc, "%s (no value found)", words);
    if (asked->key.len && sb_secret_subfield(a, *out, asked->key, out, &why))
        return sb_err_set(err, SB_NOTFOUND, "%s (could not get subfield value: %s)", words,
                          why.text);
    return SB_OK;
}

enum sb_rc sb_vaults_fetch(const struct sb_vaults *v, struct sb_arena *a, struct sb_str reference,
                           struct sb_str *out, struct sb_err *err)
{
    struct asked asked;
    enum sb_rc rc = prepare(v, a, reference, &asked, err);

    return rc ? rc : ask(a, &asked, out, err);
}

/* -- secrets -- */

static struct secret *secret_of(struct sb_vaults *v, struct sb_str reference)
{
    struct secret *s = sb_map_get(&v->secrets, reference);
    char *text;

    if (s)
        return s;
    s = sb_xcalloc(1, sizeof *s + reference.len + 1);
    text = memcpy(s + 1, reference.p, reference.len);
    s->reference = sb_str_n(text, reference.len);
    sb_map_set(&v->secrets, s->reference, s);
    return s;
}

/* Secrets don't linger in freed memory. */
static void drop_text(struct secret *s)
{
    if (s->text)
        explicit_bzero(s->text, s->len);
    free(s->text);
    s->text = NULL;
    s->len = 0;
}

static bool has_option(const struct sb_vault_kind *kind, const char *name)
{
    for (const struct sb_vault_option *o = kind->options; o->name; o++)
        if (!strcmp(o->name, name))
            return true;
    return false;
}

/* When something that lasts so many seconds is over; def_ms: where it is not given. */
static int64_t over_ms(const struct asked *asked, const char *name, int64_t now_ms, int64_t def_ms)
{
    const struct sb_value *v = sb_get(asked->q.options, name);
    double s = sb_is_number(v) ? sb_number(v) : 0;

    if (!sb_is_number(v))
        return has_option(asked->kind, name) ? def_ms : 0;
    return s < (double)(INT64_MAX / 4000) ? now_ms + (int64_t)(s * 1000) : INT64_MAX;
}

static void set_times(struct secret *s, const struct asked *asked, int64_t now_ms)
{
    s->again_ms = over_ms(asked, "ttl", now_ms, INT64_MAX);
    if (s->again_ms == INT64_MAX) {
        s->good_ms = has_option(asked->kind, "resurrect_ttl") ? INT64_MAX : 0;
        return;
    }
    now_ms = s->again_ms > now_ms ? s->again_ms : now_ms;
    s->good_ms = over_ms(asked, "resurrect_ttl", now_ms, INT64_MAX);
    if (s->good_ms && s->good_ms < now_ms + RESURRECT_MIN_MS)
        s->good_ms = now_ms + RESURRECT_MIN_MS;
}

static uint64_t identity(struct sb_arena *a, const struct asked *asked)
{
    return sb_str_hash(sb_arena_printf(a, "%s %.*s", asked->kind->name,
                                       SB_ARG(sb_json_text(a, asked->q.options, SB_JSON_SORTED))),
                       0);
}

static bool set_text(struct secret *s, struct sb_str now)
{
    bool changed = s->text != NULL;

    if (s->text && sb_str_eq(now, sb_str_n(s->text, s->len)))
        return false;
    drop_text(s);
    s->text = memcpy(sb_xmalloc(now.len + 1), now.len ? now.p : "", now.len);
    s->len = now.len;
    return changed;
}

/* No answer: the last one of the same vault may still do. */
static bool still_good(const struct secret *s, enum sb_rc rc, uint64_t asked_of, int64_t now_ms)
{
    if (!s->text || s->asked_of != asked_of)
        return false;
    return s->good_ms ? now_ms < s->good_ms : rc == SB_UNAVAILABLE;
}

/* Asks for it, if its time is over. True: it is another than before. */
static bool renew(struct sb_vaults *v, struct secret *s)
{
    int64_t now_ms = v->now_ms();
    struct sb_str now = SB_STR("");
    struct asked asked = {0};
    struct sb_arena *a;
    struct sb_err err;
    uint64_t asked_of;
    bool changed = false;
    enum sb_rc rc;

    if (s->text && now_ms < s->again_ms)
        return false;
    a = sb_arena_new(0);
    rc = prepare(v, a, s->reference, &asked, &err);
    asked_of = rc ? 0 : identity(a, &asked);
    if (!rc)
        rc = ask(a, &asked, &now, &err);
    if (rc && !s->failed)
        sb_warn("unable to resolve reference %.*s (%s)", SB_ARG(s->reference), err.text);
    s->failed = rc != SB_OK;
    s->again_ms = 0;
    if (!rc || !still_good(s, rc, asked_of, now_ms)) {
        changed = set_text(s, rc ? SB_STR("") : now);
        s->good_ms = 0;
        if (!rc)
            set_times(s, &asked, now_ms);
        else if (asked_of)
            s->again_ms = over_ms(&asked, "neg_ttl", now_ms, 0);
    }
    s->asked_of = asked_of;
    sb_arena_free(a);
    return changed;
}

struct sb_str sb_vaults_get(struct sb_vaults *v, struct sb_arena *a, struct sb_str reference)
{
    struct secret *s = secret_of(v, reference);

    (void)renew(v, s);
    return sb_arena_str(a, sb_str_n(s->text ? s->text : "", s->len));
}

bool sb_vaults_rotate(struct sb_vaults *v)
{
    struct sb_map_slot *slot;
    bool changed = false;

    sb_map_each (slot, &v->secrets)
        changed |= renew(v, slot->value);
    return changed;
}

/* -- in a record -- */

static bool resolve_value(struct sb_vaults *v, struct sb_arena *a, const struct sb_field *f,
                          struct sb_value *value)
{
    struct sb_member *m;
    struct sb_value *item;
    bool any = false;

    if (f->type == SB_T_RECORD)
        return sb_vaults_resolve(v, a, f->fields, value);
    if (f->elements)
        sb_array_each (item, value)
            any |= resolve_value(v, a, f->elements, item);
    if (f->type == SB_T_MAP && f->values)
        sb_object_each (m, value)
            any |= resolve_value(v, a, f->values, m->value);
    if (!(f->flags & SB_F_REFERENCEABLE) || !sb_is(value, SB_V_STR) || !sb_secret_ref_is(value->s))
        return any;
    value->s = sb_vaults_get(v, a, value->s);
    return true;
}

bool sb_vaults_resolve(struct sb_vaults *v, struct sb_arena *a, const struct sb_field *fields,
                       struct sb_value *record)
{
    bool any = false;

    for (const struct sb_field *f = fields; f && f->name; f++) {
        struct sb_value *value = sb_get(record, f->name);

        if (value)
            any |= resolve_value(v, a, f, value);
    }
    return any;
}

/* -- the whole -- */

struct sb_vaults *sb_vaults_new(const struct sb_settings *settings)
{
    struct sb_vaults *v = sb_xcalloc(1, sizeof *v);

    v->settings = settings;
    v->now_ms = sb_clock_ms;
    if (has_env(settings))
        sb_vaults_add(v, &env_kind);
    return v;
}

void sb_vaults_set_clock(struct sb_vaults *v, int64_t (*now_ms)(void))
{
    v->now_ms = now_ms;
}

void sb_vaults_free(struct sb_vaults *v)
{
    struct sb_map_slot *slot;

    sb_map_each (slot, &v->by_id)
        free_vault(slot->value);
    sb_map_each (slot, &v->secrets) {
        drop_text(slot->value);
        free(slot->value);
    }
    sb_map_release(&v->by_id);
    sb_map_release(&v->secrets);
    sb_vec_release(&v->kinds);
    free(v);
}
