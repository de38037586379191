/* settings.c - three layers, resolved into one slot per property.
 *
 *     rows:   sb_kong_settings[]           known properties, one slot each, same order
 *     extra:  nginx_http_x, vault_y, ...   families that Kong passes on by name
 *
 * A slot keeps the text as written (for .kong_env), the resolved text, and where it came from (for
 * messages). Everything lives in the arena of the settings.
 */
#include "shared/settings.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "shared/json.h"
#include "shared/kong_directives.h"
#include "shared/map.h"
#include "shared/secret_ref.h"
#include "shared/uuid.h"
#include "shared/value.h"
#include "shared/vec.h"

enum { CONF_LEN_MAX = 1 << 20, NAME_LEN_MAX = 128 };

struct slot {
    const struct sb_setting *row; /* NULL: of a family */
    struct sb_str name;
    struct sb_str raw;  /* as written */
    struct sb_str text; /* references resolved */
    const char *from;   /* "KONG_X", "kong.conf:12"; NULL: the default */
    bool set;
    struct sb_str *items; /* of a list */
    size_t nitems;
};

struct sb_settings {
    struct sb_arena *arena;
    struct sb_map by_name; /* of struct slot */
    SB_VEC(struct slot *) slots;
    const char *prefix;
};

struct loader {
    struct sb_settings *s;
    struct sb_buf *problems, *warnings;
    const char *const *env;
    bool failed;
};

static const char *const families[] = {
    "nginx_main_",      "nginx_events_", "nginx_http_",   "nginx_proxy_",  "nginx_location_",
    "nginx_upstream_",  "nginx_admin_",  "nginx_status_", "nginx_stream_", "nginx_sproxy_",
    "nginx_supstream_", "nginx_wasm_",   "pluginserver_", "vault_",
};

static void problem(struct loader *l, const struct slot *slot, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void problem(struct loader *l, const struct slot *slot, const char *fmt, ...)
{
    va_list ap;

    l->failed = true;
    va_start(ap, fmt);
    sb_buf_vprintf(l->problems, fmt, ap);
    va_end(ap);
    if (slot && slot->from)
        sb_buf_printf(l->problems, " (%s)", slot->from);
    sb_buf_char(l->problems, '\n');
}

static struct slot *slot_of(const struct sb_settings *s, const char *name)
{
    return sb_map_get(&s->by_name, sb_str_c(name));
}

static struct slot *new_slot(struct sb_settings *s, const struct sb_setting *row,
                             struct sb_str name)
{
    struct slot *slot = SB_NEW(s->arena, struct slot);

    slot->row = row;
    slot->name = sb_arena_str(s->arena, name);
    sb_map_set(&s->by_name, slot->name, slot);
    sb_vec_push(&s->slots, slot);
    return slot;
}

static bool in_family(struct sb_str name)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        if (sb_str_starts(name, sb_str_c(families[i])))
            return true;
    }
    return false;
}

/* -- names that nobody knows ------------------------------------------------------------------ */

/* Edit distance, for names of bounded length. */
static size_t distance(struct sb_str a, struct sb_str b)
{
    size_t row[NAME_LEN_MAX + 1];

    for (size_t j = 0; j <= b.len; j++)
        row[j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t above = row[j], best = diagonal + (a.p[i - 1] != b.p[j - 1]);

            if (above + 1 < best)
                best = above + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = above;
            row[j] = best;
        }
    }
    return row[b.len];
}

static void warn_unknown(struct loader *l, struct sb_str name, const char *from)
{
    const char *nearest = NULL;
    size_t best = name.len / 3 + 1;

    for (const struct sb_setting *row = sb_kong_settings; row->name && name.len < NAME_LEN_MAX;
         row++) {
        size_t d = distance(name, sb_str_c(row->name));

        if (d < best) {
            best = d;
            nearest = row->name;
        }
    }
    sb_buf_printf(l->warnings, "unknown setting '%.*s' (%s) is ignored", SB_ARG(name), from);
    if (nearest)
        sb_buf_printf(l->warnings, "; did you mean '%s'?", nearest);
    sb_buf_char(l->warnings, '\n');
}

static void assign(struct loader *l, struct sb_str name, struct sb_str value, const char *from)
{
    struct slot *slot = sb_map_get(&l->s->by_name, name);

    if (!slot && !in_family(name)) {
        warn_unknown(l, name, from);
        return;
    }
    if (!slot && !sb_directive_known(name))
        sb_buf_printf(l->warnings, "nginx directive '%.*s' (%s) has no effect here\n", SB_ARG(name),
                      from);
    if (!slot)
        slot = new_slot(l->s, NULL, name);
    slot->raw = slot->text = sb_arena_str(l->s->arena, value);
    slot->from = from;
    slot->set = true;
}

/* -- kong.conf -------------------------------------------------------------------------------- */

/* Without a comment at the end; "\#" is a literal '#'. */
static struct sb_str without_comment(struct sb_arena *a, struct sb_str v)
{
    char *out = sb_arena_cstr(a, v);
    size_t n = 0;

    for (size_t i = 0; i < v.len; i++) {
        if (v.p[i] == '\\' && i + 1 < v.len && v.p[i + 1] == '#')
            i++;
        else if (v.p[i] == '#' && (i == 0 || v.p[i - 1] == ' ' || v.p[i - 1] == '\t'))
            break;
        out[n++] = v.p[i];
    }
    return sb_str_trim(sb_str_n(out, n));
}

static void conf_line(struct loader *l, struct sb_str line, const char *path, int number)
{
    struct sb_arena *a = l->s->arena;
    ptrdiff_t eq = sb_str_chr(line, '=', 0);
    struct sb_str name;
    char *fixed;

    line = sb_str_trim(line);
    if (line.len == 0 || line.p[0] == '#' || line.p[0] == '[')
        return;
    eq = sb_str_chr(line, '=', 0);
    if (eq < 0) {
        sb_buf_printf(l->warnings, "%s:%d: a line without '=' is ignored\n", path, number);
        return;
    }
    name = sb_str_trim(sb_str_first(line, (size_t)eq));
    fixed = sb_arena_cstr(a, name);
    for (size_t i = 0; i < name.len; i++) {
        if (fixed[i] == '-')
            fixed[i] = '_';
    }
    assign(l, sb_str_n(fixed, name.len), without_comment(a, sb_str_from(line, (size_t)eq + 1)),
           sb_arena_printf(a, "%s:%d", path, number).p);
}

static void conf_text(struct loader *l, struct sb_str text, const char *path)
{
    struct sb_buf joined;
    struct sb_str line;
    int number = 0, first = 0;

    sb_buf_init(&joined, 0);
    while (sb_str_split(&text, '\n', &line)) {
        struct sb_str trimmed = sb_str_trim(line);

        number++;
        if (joined.len == 0)
            first = number;
        if (sb_str_ends(trimmed, SB_STR("\\")) && !sb_str_starts(trimmed, SB_STR("#"))) {
            sb_buf_str(&joined, sb_str_first(trimmed, trimmed.len - 1));
            continue;
        }
        sb_buf_str(&joined, trimmed);
        conf_line(l, sb_buf_get(&joined), path, first);
        sb_buf_clear(&joined);
    }
    sb_buf_release(&joined);
}

static void read_conf(struct loader *l, const char *path)
{
    struct sb_buf text;

    sb_buf_init(&text, CONF_LEN_MAX);
    if (sb_buf_read_file(&text, path))
        conf_text(l, sb_buf_get(&text), path);
    else if (errno == ENOENT)
        problem(l, NULL, "no file at: %s", path);
    else
        problem(l, NULL, "the configuration file %s cannot be read: %s", path, strerror(errno));
    sb_buf_release(&text);
}

static void conf_file(struct loader *l, const char *path)
{
    static const char *const places[] = {"/etc/kong/kong.conf", "/etc/kong.conf"};

    for (size_t i = 0; !path && i < sizeof places / sizeof *places; i++) {
        if (access(places[i], F_OK) == 0)
            path = places[i];
    }
    if (path)
        read_conf(l, path);
}

/* -- the environment -------------------------------------------------------------------------- */

static struct sb_str lower(struct sb_arena *a, struct sb_str s)
{
    char *p = sb_arena_cstr(a, s);

    for (size_t i = 0; i < s.len; i++) {
        if (p[i] >= 'A' && p[i] <= 'Z')
            p[i] = (char)(p[i] + ('a' - 'A'));
    }
    return sb_str_n(p, s.len);
}

static const char *env_get(const char *const *env, struct sb_str name)
{
    for (; env && *env; env++) {
        if (strncmp(*env, name.p, name.len) == 0 && (*env)[name.len] == '=')
            return *env + name.len + 1;
    }
    return NULL;
}

/* KONG_X_FILE=/path: the file's content is the value of x, as in Kong's container image. */
static bool env_from_file(struct loader *l, struct sb_str name, struct sb_str var, const char *path)
{
    struct sb_str base = sb_str_first(name, name.len - strlen("_file"));
    struct sb_str base_var = sb_str_first(var, var.len - strlen("_FILE"));
    struct slot *slot = sb_map_get(&l->s->by_name, base);
    struct sb_buf text;

    if (!slot || !slot->row)
        return false;
    if (env_get(l->env, base_var)) {
        problem(l, NULL, "both %.*s and %.*s are set (but are exclusive)", SB_ARG(base_var),
                SB_ARG(var));
        return true;
    }
    sb_buf_init(&text, CONF_LEN_MAX);
    if (sb_buf_read_file(&text, path))
        assign(l, base, sb_str_trim(sb_buf_get(&text)), sb_arena_str(l->s->arena, var).p);
    else
        problem(l, NULL, "%.*s: %s cannot be read: %s", SB_ARG(var), path, strerror(errno));
    sb_buf_release(&text);
    return true;
}

/* Variables that begin with prefix: "KONG_". */
static void environment(struct loader *l, const char *prefix)
{
    for (const char *const *e = l->env; e && *e; e++) {
        struct sb_str entry = sb_str_c(*e), var, name;
        ptrdiff_t eq = sb_str_chr(entry, '=', 0);

        if (eq < 0 || !sb_str_starts(entry, sb_str_c(prefix)))
            continue;
        var = sb_str_first(entry, (size_t)eq);
        name = lower(l->s->arena, sb_str_from(var, strlen(prefix)));
        if (sb_str_ends(name, SB_STR("_file")) && !sb_map_get(&l->s->by_name, name) &&
            env_from_file(l, name, var, *e + eq + 1))
            continue;
        assign(l, name, sb_str_from(entry, (size_t)eq + 1), sb_arena_str(l->s->arena, var).p);
    }
}

/* -- references ------------------------------------------------------------------------------- */

static enum sb_rc dereference(struct loader *l, struct sb_str text, struct sb_str *out,
                              struct sb_err *err)
{
    struct sb_arena *a = l->s->arena;
    struct slot *def = slot_of(l->s, "vault_env_prefix");
    struct sb_str prefix = def && def->set ? def->text : SB_STR("");
    struct sb_secret_ref ref;
    struct sb_err why;
    const char *found;

    if (sb_secret_ref_parse(a, text, &ref, err))
        return SB_INVALID;
    if (!sb_str_is(ref.vault, "env"))
        return sb_err_set(err, SB_INVALID, "could not find vault (%.*s)", SB_ARG(ref.vault));
    (void)sb_secret_ref_option(a, &ref, "prefix", &prefix);
    if (!sb_secret_env_prefix(prefix))
        prefix = SB_STR("");
    found = env_get(l->env, sb_str_c(sb_secret_env_name(a, prefix, ref.resource, ref.version)));
    if (!found)
        return sb_err_set(err, SB_NOTFOUND,
                          "could not get value from external vault (no value found)");
    *out = sb_str_c(found);
    if (ref.key.len && sb_secret_subfield(a, *out, ref.key, out, &why))
        return sb_err_set(err, SB_NOTFOUND,
                          "could not get value from external vault (could not get subfield value: "
                          "%s)",
                          why.text);
    return SB_OK;
}

static void resolve(struct loader *l, struct slot *slot, struct sb_str *value, size_t item)
{
    struct sb_err why;

    if (!sb_secret_ref_is(*value) || !dereference(l, *value, value, &why))
        return;
    if (item)
        problem(l, slot, "failed to dereference '%.*s': %s for config option '%.*s[%zu]'",
                SB_ARG(*value), why.text, SB_ARG(slot->name), item);
    else
        problem(l, slot, "failed to dereference '%.*s': %s for config option '%.*s'",
                SB_ARG(*value), why.text, SB_ARG(slot->name));
}

/* -- checks ----------------------------------------------------------------------------------- */

static bool size_of(struct sb_str text, int64_t *out)
{
    static const struct {
        char unit;
        int shift;
    } units[] = {{'k', 10}, {'K', 10}, {'m', 20}, {'M', 20}, {'g', 30}, {'G', 30}};
    int shift = 0;

    for (size_t i = 0; text.len && i < sizeof units / sizeof *units; i++) {
        if (text.p[text.len - 1] == units[i].unit) {
            shift = units[i].shift;
            text.len--;
            break;
        }
    }
    if (!sb_str_int(text, out) || *out < 0 || *out > INT64_MAX >> 30)
        return false;
    *out <<= shift;
    return true;
}

static bool time_of(struct sb_str text, int64_t *out_ms)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    int64_t factor = 1000, n;

    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (sb_str_ends(text, sb_str_c(units[i].unit))) {
            factor = units[i].ms;
            text.len -= strlen(units[i].unit);
            break;
        }
    }
    if (!sb_str_int(text, &n) || n < 0 || n > INT64_MAX / 86400000)
        return false;
    *out_ms = n * factor;
    return true;
}

/* Decimal, hexadecimal or exponent, as Lua's tonumber reads it. */
static bool number_of(struct sb_str text, double *out)
{
    return sb_str_num(sb_str_trim(text), out) && isfinite(*out);
}

static void check_number(struct loader *l, struct slot *slot)
{
    const struct sb_setting *row = slot->row;
    const char *name = row->name;
    double n;

    if (!number_of(slot->text, &n)) {
        problem(l, slot, "%s is not a number: '%.*s'", name, SB_ARG(slot->text));
        return;
    }
    if (row->ranged && (n < row->min || n > row->max))
        problem(l, slot, "%s %s", name, row->range_text);
    else if (row->whole && n != floor(n))
        problem(l, slot, "%s must be an integer%s", name,
                strstr(row->range_text, " between ") ? strstr(row->range_text, " between ")
                                                     : " greater than 0");
}

static void check_enum(struct loader *l, struct slot *slot)
{
    struct sb_str rest = sb_str_c(slot->row->choices), choice;

    while (sb_str_split(&rest, ',', &choice)) {
        if (sb_str_eq(sb_str_trim(choice), slot->text))
            return;
    }
    problem(l, slot, "%s has an invalid value: '%.*s' (%s)", slot->row->name, SB_ARG(slot->text),
            slot->row->choices);
}

static void check_bool(struct loader *l, struct slot *slot)
{
    static const char *const words[] = {"on", "off", "true", "false"};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (sb_str_is(slot->text, words[i]))
            return;
    }
    sb_buf_printf(l->warnings, "%s: '%.*s' counts as off; say on or off (%s)\n", slot->row->name,
                  SB_ARG(slot->text), slot->from);
}

static void split_list(struct loader *l, struct slot *slot)
{
    struct sb_str rest = slot->text, item;
    SB_VEC(struct sb_str) items = {0};

    while (sb_str_split(&rest, ',', &item)) {
        item = sb_str_trim(item);
        resolve(l, slot, &item, items.len + 1);
        sb_vec_push(&items, sb_arena_str(l->s->arena, item));
    }
    slot->nitems = items.len;
    slot->items = SB_NEW_N(l->s->arena, struct sb_str, items.len);
    if (items.len)
        memcpy(slot->items, items.p, items.len * sizeof *items.p);
    sb_vec_release(&items);
}

/* The shape only: names are resolved, and flags' values read, by who listens. */
static bool is_listen(struct sb_str item)
{
    static const char *const flags[] = {"ssl",      "http2",     "proxy_protocol",
                                        "deferred", "bind",      "reuseport",
                                        "backlog=", "ipv6only=", "so_keepalive="};
    struct sb_str word, rest;
    ptrdiff_t colon;
    int64_t port;

    sb_str_split(&item, ' ', &word);
    colon = sb_str_rchr(word, ':');
    if (colon <= 0 || !sb_str_int(sb_str_from(word, (size_t)colon + 1), &port) || port < 0 ||
        port > 65535)
        return false;
    while (sb_str_split(&item, ' ', &word)) {
        ptrdiff_t equals = sb_str_chr(word, '=', 0);
        bool known = !word.len;

        rest = equals < 0 ? word : sb_str_first(word, (size_t)equals + 1);
        for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
            known |= sb_str_is(rest, flags[i]);
        if (!known)
            return false;
    }
    return true;
}

static void check_listen(struct loader *l, struct slot *slot)
{
    if (slot->nitems && sb_str_is(slot->items[0], "off"))
        return;
    for (size_t i = 0; i < slot->nitems; i++) {
        if (!is_listen(slot->items[i])) {
            problem(l, slot, SB_LISTEN_GRAMMAR ", not '%.*s'", slot->row->name,
                    SB_ARG(slot->items[i]));
            return;
        }
    }
}

static bool listens(const struct sb_setting *row)
{
    return !strcmp(row->name, "proxy_listen") || !strcmp(row->name, "admin_listen") ||
           !strcmp(row->name, "status_listen");
}

static void check(struct loader *l, struct slot *slot)
{
    if (!slot->set || !slot->row)
        return;
    if (slot->row->type == SB_S_LIST) {
        if (slot->text.len)
            split_list(l, slot);
        if (listens(slot->row))
            check_listen(l, slot);
        return;
    }
    resolve(l, slot, &slot->text, 0);
    if (slot->row->type == SB_S_ENUM && slot->text.len == 0)
        problem(l, slot, "%s has an invalid value: 'nil' (%s)", slot->row->name,
                slot->row->choices);
    else if (slot->text.len == 0)
        return;
    else if (slot->row->type == SB_S_NUMBER)
        check_number(l, slot);
    else if (slot->row->type == SB_S_ENUM)
        check_enum(l, slot);
    else if (slot->row->type == SB_S_BOOL)
        check_bool(l, slot);
}

/* What no single row can say. */
static void check_together(struct loader *l)
{
    const struct sb_settings *s = l->s;
    struct slot *database = slot_of(s, "database"), *role = slot_of(s, "role");
    struct slot *node_id = slot_of(s, "node_id");
    struct sb_uuid id;

    if (sb_str_is(database->text, "cassandra"))
        problem(l, database,
                "Cassandra as a datastore for Kong is not supported in versions 3.4 and "
                "above. Please use Postgres.");
    if (!sb_str_is(role->text, "traditional"))
        problem(l, role,
                "role '%.*s' (hybrid mode) is not served: use 'traditional' with a database, "
                "or database = off",
                SB_ARG(role->text));
    if (node_id->set && node_id->text.len && !sb_uuid_parse(node_id->text, &id))
        problem(l, node_id, "node_id must be a valid UUID");
}

/* -- loading ---------------------------------------------------------------------------------- */

static void defaults(struct sb_settings *s)
{
    for (const struct sb_setting *row = sb_kong_settings; row->name; row++) {
        struct slot *slot = new_slot(s, row, sb_str_c(row->name));

        if (row->def) {
            slot->raw = slot->text = sb_str_c(row->def);
            slot->set = true;
        }
    }
}

static void follow_aliases(struct loader *l)
{
    for (size_t i = 0; i < l->s->slots.len; i++) {
        struct slot *old = l->s->slots.p[i], *full;

        if (!old->row || !old->row->alias_of || !old->set)
            continue;
        full = slot_of(l->s, old->row->alias_of);
        if (!full->from) {
            full->raw = old->raw;
            full->text = old->text;
            full->from = old->from;
            full->set = true;
        }
    }
}

enum sb_rc sb_settings_load(const struct sb_settings_source *source, struct sb_settings **out,
                            struct sb_buf *problems, struct sb_buf *warnings)
{
    struct sb_settings *s = sb_xcalloc(1, sizeof *s);
    struct loader l = {.s = s, .problems = problems, .warnings = warnings, .env = source->env};

    s->arena = sb_arena_new(0);
    defaults(s);
    conf_file(&l, source->conf);
    environment(&l, "KONG_");
    if (source->reload_conf)
        read_conf(&l, source->reload_conf);
    environment(&l, SB_RELOAD_ENV "KONG_");
    if (source->prefix)
        assign(&l, SB_STR("prefix"), sb_str_c(source->prefix), "--prefix");
    if (source->db_timeout_s > 0)
        assign(&l, SB_STR("pg_timeout"),
               sb_arena_printf(s->arena, "%.0f", source->db_timeout_s * 1000), "--db-timeout");
    follow_aliases(&l);
    for (size_t i = 0; i < s->slots.len; i++)
        check(&l, s->slots.p[i]);
    check_together(&l);
    if (l.failed) {
        sb_settings_free(s);
        return SB_INVALID;
    }
    s->prefix = sb_settings_str(s, "prefix");
    if (!s->prefix)
        s->prefix = "/usr/local/kong/";
    *out = s;
    return SB_OK;
}

void sb_settings_free(struct sb_settings *s)
{
    if (!s)
        return;
    sb_map_release(&s->by_name);
    sb_vec_release(&s->slots);
    sb_arena_free(s->arena);
    free(s);
}

/* -- reading ---------------------------------------------------------------------------------- */

const char *sb_settings_str(const struct sb_settings *s, const char *name)
{
    struct slot *slot = slot_of(s, name);

    return slot && slot->set && slot->text.len ? slot->text.p : NULL;
}

const char *sb_settings_directive(const struct sb_settings *s, const char *directive)
{
    static const char *const inner_first[] = {"location", "proxy", "http"};
    char name[NAME_LEN_MAX];

    for (size_t i = 0; i < sizeof inner_first / sizeof *inner_first; i++) {
        struct slot *slot;

        snprintf(name, sizeof name, "nginx_%s_%s", inner_first[i], directive);
        slot = slot_of(s, name);
        if (slot && slot->set && slot->text.len)
            return slot->name.p;
    }
    return "";
}

double sb_settings_num(const struct sb_settings *s, const char *name, double def)
{
    const char *text = sb_settings_str(s, name);
    double n;

    return text && number_of(sb_str_c(text), &n) ? n : def;
}

int64_t sb_settings_int(const struct sb_settings *s, const char *name, int64_t def)
{
    return (int64_t)sb_settings_num(s, name, (double)def);
}

bool sb_settings_bool(const struct sb_settings *s, const char *name)
{
    struct slot *slot = slot_of(s, name);

    sb_assert(slot && slot->row);
    return sb_str_is(slot->text, "on") ||
           (slot->row->type == SB_S_BOOL && sb_str_is(slot->text, "true"));
}

const struct sb_str *sb_settings_list(const struct sb_settings *s, const char *name, size_t *n)
{
    struct slot *slot = slot_of(s, name);

    *n = slot ? slot->nitems : 0;
    return slot ? slot->items : NULL;
}

int64_t sb_settings_size(const struct sb_settings *s, const char *name, int64_t def)
{
    const char *text = sb_settings_str(s, name);
    int64_t n;

    return text && size_of(sb_str_c(text), &n) ? n : def;
}

int64_t sb_settings_time_ms(const struct sb_settings *s, const char *name, int64_t def)
{
    const char *text = sb_settings_str(s, name);
    int64_t n;

    return text && time_of(sb_str_c(text), &n) ? n : def;
}

const char *sb_settings_prefix(const struct sb_settings *s)
{
    return s->prefix;
}

struct sb_str sb_settings_path(const struct sb_settings *s, struct sb_arena *a, const char *path)
{
    size_t n = strlen(s->prefix);

    if (path[0] == '/')
        return sb_arena_str(a, sb_str_c(path));
    return sb_arena_printf(a, "%s%s%s", s->prefix, n && s->prefix[n - 1] == '/' ? "" : "/", path);
}

/* A pg_ro_* setting falls back to its pg_* sister. */
static const char *pg_str(const struct sb_settings *s, bool ro, const char *what)
{
    char name[NAME_LEN_MAX];
    const char *v;

    snprintf(name, sizeof name, "pg_ro_%s", what);
    v = ro ? sb_settings_str(s, name) : NULL;
    snprintf(name, sizeof name, "pg_%s", what);
    return v ? v : sb_settings_str(s, name);
}

static bool pg_on(const struct sb_settings *s, bool ro, const char *what)
{
    const char *v = pg_str(s, ro, what);

    return v && (strcmp(v, "on") == 0 || strcmp(v, "true") == 0);
}

bool sb_settings_pg(const struct sb_settings *s, bool ro, struct sb_pg_config *out)
{
    const char *port = pg_str(s, ro, "port"), *timeout = pg_str(s, ro, "timeout");
    double n;

    if (ro && !sb_settings_str(s, "pg_ro_host"))
        return false;
    *out = (struct sb_pg_config){
        .host = pg_str(s, ro, "host"),
        .port = port && number_of(sb_str_c(port), &n) ? (int)n : 5432,
        .user = pg_str(s, ro, "user"),
        .password = pg_str(s, ro, "password"),
        .database = pg_str(s, ro, "database"),
        .schema = pg_str(s, ro, "schema"),
        .timeout_ms = timeout && number_of(sb_str_c(timeout), &n) ? (int)n : 5000,
        .ssl = pg_on(s, ro, "ssl"),
        .ssl_required = pg_on(s, ro, "ssl_required"),
        .ssl_verify = pg_on(s, ro, "ssl_verify"),
        .ssl_version = pg_str(s, ro, "ssl_version"),
        .ssl_cert = pg_str(s, ro, "ssl_cert"),
        .ssl_key = pg_str(s, ro, "ssl_cert_key"),
        .ssl_ca = sb_settings_str(s, "lua_ssl_trusted_certificate"),
        .read_only = ro,
    };
    return true;
}

void sb_settings_dump(const struct sb_settings *s, struct sb_buf *out)
{
    for (size_t i = 0; i < s->slots.len; i++) {
        const struct slot *slot = s->slots.p[i];

        if (!slot->from)
            continue;
        sb_buf_printf(out, "%.*s = ", SB_ARG(slot->name));
        for (size_t j = 0; j < slot->raw.len; j++) {
            if (slot->raw.p[j] == '#')
                sb_buf_char(out, '\\');
            sb_buf_cstr(out, slot->raw.p[j] == '\n' ? "\\\n" : (char[]){slot->raw.p[j], '\0'});
        }
        sb_buf_char(out, '\n');
    }
}

static bool secret(struct sb_str name)
{
    static const char *const words[] = {"password", "_cert_key", "ssl_cert_key", "token",
                                        "declarative_config_string"};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (sb_str_find(name, sb_str_c(words[i]), 0) >= 0)
            return true;
    }
    return false;
}

static struct sb_value *slot_json(const struct slot *slot, struct sb_arena *a)
{
    struct sb_value *list;
    double n;

    if (secret(slot->name))
        return sb_value_text(a, "******");
    switch (slot->row ? slot->row->type : SB_S_STRING) {
    case SB_S_NUMBER:
        return number_of(slot->text, &n) ? sb_value_num(a, n) : sb_value_null(a);
    case SB_S_BOOL:
        return sb_value_bool(a, sb_str_is(slot->text, "on") || sb_str_is(slot->text, "true"));
    case SB_S_LIST:
        list = sb_value_array(a);
        for (size_t i = 0; i < slot->nitems; i++)
            sb_array_push(a, list, sb_value_str(a, slot->items[i]));
        return list;
    default:
        return sb_value_str(a, slot->text);
    }
}

struct sb_value *sb_settings_json(const struct sb_settings *s, struct sb_arena *a)
{
    struct sb_value *all = sb_value_object(a);

    for (size_t i = 0; i < s->slots.len; i++) {
        const struct slot *slot = s->slots.p[i];

        if (slot->set && slot->text.len)
            sb_object_set(a, all, slot->name, slot_json(slot, a));
    }
    return all;
}
