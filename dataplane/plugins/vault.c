#include "dataplane/plugins/vault.h"

#include <stdlib.h>

#include "shared/json.h"
#include "shared/log.h"
#include "shared/map.h"
#include "shared/secret_ref.h"
#include "shared/settings.h"

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
};

struct sb_vaults {
    const struct sb_settings *settings;
    struct sb_map by_id; /* struct vault */
    struct sb_map secrets;
};

/* -- kinds -- */

static enum sb_rc get_env(struct sb_arena *a, const struct sb_value *config, struct sb_str prefix,
                          struct sb_str resource, struct sb_str *out)
{
    const char *text = getenv(sb_secret_env_name(a, prefix, resource));

    (void)config;
    *out = sb_str_c(text);
    return text ? SB_OK : SB_NOTFOUND;
}

static const struct sb_vault_kind kinds[] = {
    {"env", "vault_env_prefix", get_env},
};

static const struct sb_vault_kind *kind_of(struct sb_str name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (sb_str_is(name, kinds[i].name))
            return &kinds[i];
    return NULL;
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

    free_vault(sb_map_remove(&v->by_id, id));
    if (!row)
        return;
    a = sb_arena_new(512);
    vault = SB_NEW(a, struct vault);
    vault->arena = a;
    vault->id = sb_arena_str(a, id);
    vault->prefix = sb_arena_str(a, sb_value_str_at(row, "prefix"));
    vault->config = sb_value_copy(a, sb_get(row, "config"));
    vault->kind = kind_of(sb_value_str_at(row, "name"));
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

/* -- secrets -- */

static struct sb_str prefix_of(const struct sb_vaults *v, const struct sb_secret_ref *ref,
                               const struct sb_vault_kind *kind, const struct sb_value *config)
{
    struct sb_str prefix = sb_value_str_at(config, "prefix");

    if (ref->has_prefix)
        return ref->prefix;
    if (!prefix.len && v->settings)
        prefix = sb_str_c(sb_settings_str(v->settings, kind->prefix_setting));
    return prefix;
}

enum sb_rc sb_vaults_fetch(const struct sb_vaults *v, struct sb_arena *a, struct sb_str reference,
                           struct sb_str *out, struct sb_err *err)
{
    const struct sb_vault_kind *kind;
    const struct sb_value *config = NULL;
    const struct vault *vault;
    struct sb_secret_ref ref;
    enum sb_rc rc;

    if (!sb_secret_ref_parse(reference, &ref))
        return sb_err_set(err, SB_INVALID, "the reference names no secret");
    vault = find(v, ref.vault);
    kind = vault ? vault->kind : kind_of(ref.vault);
    if (!kind)
        return sb_err_set(err, SB_NOTFOUND, "there is no vault '%.*s'", SB_ARG(ref.vault));
    if (vault)
        config = vault->config;
    rc = kind->get(a, config, prefix_of(v, &ref, kind, config), ref.resource, out);
    if (rc)
        return sb_err_set(err, rc, "unable to load value (%.*s) from vault (%.*s): not found",
                          SB_ARG(ref.resource), SB_ARG(ref.vault));
    if (ref.key.len && !sb_secret_subfield(a, *out, ref.key, out))
        return sb_err_set(err, SB_NOTFOUND, "subfield %.*s not found in JSON secret",
                          SB_ARG(ref.key));
    return SB_OK;
}

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

/* Asks for it. True: it is another than before. */
static bool renew(struct sb_vaults *v, struct secret *s)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_str now = SB_STR("");
    struct sb_err err;
    enum sb_rc rc = sb_vaults_fetch(v, a, s->reference, &now, &err);
    bool changed = false;

    if (rc && !s->failed)
        sb_error("vault: could not dereference %.*s: %s", SB_ARG(s->reference), err.text);
    s->failed = rc != SB_OK;
    if (rc)
        now = SB_STR("");
    if (rc != SB_UNAVAILABLE && (!s->text || !sb_str_eq(now, sb_str_n(s->text, s->len)))) {
        changed = s->text != NULL;
        drop_text(s);
        s->text = memcpy(sb_xmalloc(now.len + 1), now.len ? now.p : "", now.len);
        s->len = now.len;
    }
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
    return v;
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
    free(v);
}
