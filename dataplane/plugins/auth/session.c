/* session.c - a cookie in place of credentials (reference/plugins-auth.md).
 *
 *     access          a valid cookie authenticates; logging out ends it; an old one is renewed
 *     header_filter   who was authenticated otherwise gets a cookie
 *
 * Another plugin must have `anonymous` set, so that it lets pass who is authenticated already. With
 * storage "kong" the cookie holds only the header, the content is a row of `sessions`.
 *
 * Saving always makes a new id: the old cookie of a session that moves on is left to its timeouts,
 * its row to stale_ttl.
 */
#include "dataplane/plugins/auth/session.h"

#include "dataplane/plugins/auth/auth.h"
#include "dataplane/plugins/auth/auth_body.h"
#include "dataplane/plugins/bundled.h"
#include "schema/entity.h"
#include "shared/buf.h"
#include "shared/clock.h"
#include "shared/json.h"

enum { COOKIES_MAX = 9 };

/* -- config -------------------------------------------------------------------------------------
 */

static struct sb_str text_of(const struct sb_plugin_source *in, const char *field)
{
    return sb_arena_str(in->arena, sb_value_str_at(in->config, field));
}

static struct sb_str attributes_of(const struct sb_plugin_source *in)
{
    struct sb_str domain = sb_value_str_at(in->config, "cookie_domain");
    struct sb_str path = sb_value_str_at(in->config, "cookie_path");
    struct sb_str same_site = sb_value_str_at(in->config, "cookie_same_site");
    bool has_domain = domain.len && !sb_str_is(domain, "localhost");
    bool secure = sb_value_bool_at(in->config, "cookie_secure", true);

    return sb_arena_printf(
        in->arena, "%s%.*s; Path=%.*s%s%.*s%s%s", has_domain ? "; Domain=" : "",
        has_domain ? (int)domain.len : 0, domain.p ? domain.p : "",
        SB_ARG(path.len ? path : SB_STR("/")), same_site.len ? "; SameSite=" : "",
        SB_ARG(same_site), secure || sb_str_is(same_site, "None") ? "; Secure" : "",
        sb_value_bool_at(in->config, "cookie_http_only", true) ? "; HttpOnly" : "");
}

static void told_of(const struct sb_plugin_source *in, const char *field,
                    bool told[SB_SESSION_TOLD])
{
    static const char *const names[SB_SESSION_TOLD] = {"id",
                                                       "audience",
                                                       "subject",
                                                       "timeout",
                                                       "idling-timeout",
                                                       "rolling-timeout",
                                                       "absolute-timeout"};
    const struct sb_value *list = sb_get(in->config, field), *item;

    sb_array_each (item, list)
        for (int i = 0; i < SB_SESSION_TOLD; i++)
            told[i] |= sb_str_is(item->s, names[i]);
}

static enum sb_rc compile(const struct sb_plugin_source *in, const void **out, struct sb_err *err)
{
    struct sb_session_config *c = SB_NEW(in->arena, struct sb_session_config);
    struct sb_str secret = sb_value_str_at(in->config, "secret");

    (void)err;
    sb_session_keys_init(&c->session.keys, secret, false);
    sb_session_keys_init(&c->remember.keys, secret, true);
    c->session.name = text_of(in, "cookie_name");
    c->remember.name = text_of(in, "remember_cookie_name");
    c->session.timeouts =
        (struct sb_session_timeouts){sb_value_int_at(in->config, "idling_timeout", 900),
                                     sb_value_int_at(in->config, "rolling_timeout", 3600),
                                     sb_value_int_at(in->config, "absolute_timeout", 86400)};
    c->remember.timeouts = (struct sb_session_timeouts){
        0, sb_value_int_at(in->config, "remember_rolling_timeout", 604800),
        sb_value_int_at(in->config, "remember_absolute_timeout", 2592000)};
    c->remembers = sb_value_bool_at(in->config, "remember", false);
    c->stored = sb_str_is(sb_value_str_at(in->config, "storage"), "kong");
    c->audience = text_of(in, "audience");
    c->attributes = attributes_of(in);
    c->stale_ttl_s = sb_value_int_at(in->config, "stale_ttl", 10);
    told_of(in, "response_headers", c->told_client);
    told_of(in, "request_headers", c->told_upstream);
    c->body_logout = sb_value_bool_at(in->config, "read_body_for_logout", false);
    c->body_max = sb_auth_body_max(in->settings);
    c->logout_methods = sb_value_copy(in->arena, sb_get(in->config, "logout_methods"));
    c->logout_query = text_of(in, "logout_query_arg");
    c->logout_post = text_of(in, "logout_post_arg");
    *out = c;
    return SB_OK;
}

int64_t sb_session_now_s(void)
{
    return sb_wall_ms() / 1000;
}

/* -- reading cookies ----------------------------------------------------------------------------
 */

/* A long session goes on in name2, name3 ... */
struct sb_str sb_session_whole_cookie(struct sb_exchange *x, struct sb_str name)
{
    struct sb_arena *a = sb_exchange_arena(x);
    struct sb_str first = sb_auth_request_cookie(x, name), more, all;
    struct sb_buf b;

    if (!first.p || first.len < SB_SESSION_COOKIE_MAX / 2)
        return first;
    sb_buf_init(&b, SB_SESSION_HEADER_LEN + SB_SESSION_PAYLOAD_MAX);
    sb_buf_str(&b, first);
    for (int i = 2; i <= COOKIES_MAX; i++) {
        more = sb_auth_request_cookie(x, sb_arena_printf(a, "%.*s%d", SB_ARG(name), i));
        if (!more.p)
            break;
        sb_buf_str(&b, more);
    }
    all = sb_arena_str(a, sb_buf_get(&b));
    sb_buf_release(&b);
    return all;
}

/* The payload from the row: a JSON list of one text. */
static enum sb_rc stored_payload(struct sb_exchange *x, struct sb_session_state *s,
                                 struct sb_str *payload)
{
    struct sb_arena *a = sb_exchange_arena(x);
    const struct sb_found *row;
    struct sb_value *list;
    struct sb_str id =
        sb_base64url_encode(a, sb_str_n((const char *)s->header.id, sizeof s->header.id));
    enum sb_rc rc = sb_credential_find(x, SB_SESSION_BY_SESSION_ID, id, &row);

    if (rc)
        return rc;
    if (sb_json_parse(a, sb_value_str_at(row->value, "data"), &list, NULL) ||
        !sb_is(list, SB_V_ARRAY) || !list->count || !sb_is(list->items[0], SB_V_STR))
        return SB_NOTFOUND;
    s->row_id = row->id;
    *payload = list->items[0]->s;
    return SB_OK;
}

/* What was saved for this audience: [data, audience, subject]. */
static const struct sb_value *entry_of(const struct sb_session_config *c,
                                       const struct sb_value *content)
{
    const struct sb_value *entry;

    sb_array_each (entry, content)
        if (sb_is(entry, SB_V_ARRAY) && entry->count >= 2 && sb_is(entry->items[1], SB_V_STR) &&
            sb_str_eq(entry->items[1]->s, c->audience) && sb_is(entry->items[0], SB_V_ARRAY) &&
            entry->items[0]->count >= 2 && sb_is(entry->items[0]->items[0], SB_V_STR) &&
            sb_is(entry->items[0]->items[1], SB_V_STR))
            return entry;
    return NULL;
}

bool sb_session_read_header(struct sb_exchange *x, const struct sb_session_config *c,
                            const struct sb_session_cookie *cookie, struct sb_str *text,
                            struct sb_session_header *out)
{
    *text = sb_session_whole_cookie(x, cookie->name);
    return text->p && sb_session_header_read(&cookie->keys, *text, out) &&
           out->stored == c->stored &&
           sb_session_left(out, &cookie->timeouts, sb_session_now_s()).least_s >= 0;
}

/* SB_NOTFOUND: no such cookie, or one that does not count here. */
static enum sb_rc open_cookie(struct sb_exchange *x, const struct sb_session_config *c,
                              const struct sb_session_cookie *cookie, struct sb_session_state *s)
{
    struct sb_str text, payload;
    const struct sb_value *entry;
    enum sb_rc rc;

    if (!sb_session_read_header(x, c, cookie, &text, &s->header))
        return SB_NOTFOUND;
    s->row_id = SB_STR("");
    payload = sb_str_from(text, SB_SESSION_HEADER_LEN);
    if (s->header.stored && (rc = stored_payload(x, s, &payload)))
        return rc;
    s->content = sb_session_open(sb_exchange_arena(x), &cookie->keys, &s->header, payload);
    s->known = s->content != NULL;
    entry = entry_of(c, s->content);
    if (!entry)
        return SB_NOTFOUND;
    s->subject =
        entry->count >= 3 && sb_is(entry->items[2], SB_V_STR) ? entry->items[2]->s : SB_STR("");
    s->remembered = cookie == &c->remember;
    return SB_OK;
}

static enum sb_rc open_session(struct sb_exchange *x, const struct sb_session_config *c,
                               struct sb_session_state *s)
{
    enum sb_rc rc;

    s->known = false;
    rc = open_cookie(x, c, &c->session, s);
    if (rc == SB_NOTFOUND && !s->known && c->remembers) {
        rc = open_cookie(x, c, &c->remember, s);
        s->known = rc == SB_OK;
    }
    s->open = rc == SB_OK;
    return rc;
}

/* -- ending -------------------------------------------------------------------------------------
 */

static bool has_method(const struct sb_value *list, struct sb_str method)
{
    const struct sb_value *item;

    sb_array_each (item, list)
        if (sb_str_eq(item->s, method))
            return true;
    return false;
}

/* SB_OK: the client wants to log out; SB_NOTFOUND: not. */
static enum sb_rc wants_logout(struct sb_exchange *x, const struct sb_session_config *c)
{
    struct sb_str method = sb_exchange_method(x), value;
    struct sb_arena *a = sb_exchange_arena(x);
    struct sb_auth_body body;
    enum sb_rc rc;

    if (!has_method(c->logout_methods, method))
        return SB_NOTFOUND;
    if (sb_auth_query_find(a, sb_exchange_query(x), c->logout_query, &value) != SB_FIELD_ABSENT)
        return SB_OK;
    if (!c->body_logout || sb_str_is(method, "GET"))
        return SB_NOTFOUND;
    rc = sb_auth_body_get(x, c->body_max, &body);
    if (rc)
        return rc;
    return sb_auth_body_find(a, &body, c->logout_post, &value) != SB_FIELD_ABSENT ? SB_OK
                                                                                  : SB_NOTFOUND;
}

/* Those of other audiences. */
static struct sb_value *others(struct sb_exchange *x, const struct sb_session_config *c,
                               const struct sb_session_state *s)
{
    struct sb_arena *a = sb_exchange_arena(x);
    struct sb_value *all = sb_value_array(a), *other;
    const struct sb_value *mine = entry_of(c, s->content);

    sb_array_each (other, s->content)
        if (other != mine)
            sb_array_push(a, all, other);
    return all;
}

/* The row first: a session whose cookie is gone but whose row lives on is not ended. */
static enum sb_rc destroy(struct sb_exchange *x, const struct sb_session_config *c,
                          struct sb_session_state *s)
{
    static const struct sb_str gone =
        SB_STR_INIT("; Expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0");
    struct sb_session_header header;
    struct sb_str text;
    enum sb_rc rc = SB_OK;

    if (s->row_id.len)
        rc = sb_credential_delete(x, sb_entity_find(SB_STR("sessions")), s->row_id, &s->destroyed);
    if (rc && rc != SB_NOTFOUND)
        return rc;
    sb_session_set_cookie(x, c, c->session.name, SB_STR(""), gone);
    if (c->remembers && sb_session_read_header(x, c, &c->remember, &text, &header))
        sb_session_set_cookie(x, c, c->remember.name, SB_STR(""), gone);
    s->open = s->known = false;
    return SB_OK;
}

/* Of this audience; where the session has others they go on. */
static enum sb_rc end(struct sb_exchange *x, const struct sb_session_config *c,
                      struct sb_session_state *s)
{
    struct sb_value *rest = others(x, c, s);

    if (!rest->count)
        return destroy(x, c, s);
    s->content = rest;
    sb_session_save(x, c, s);
    s->open = s->known = false;
    return SB_OK;
}

/* -- telling ------------------------------------------------------------------------------------
 */

static struct sb_str seconds_text(struct sb_arena *a, int64_t s)
{
    return s == INT64_MAX ? (struct sb_str){0} : sb_arena_printf(a, "%lld", (long long)s);
}

static void tell(struct sb_exchange *x, const struct sb_session_config *c,
                 const struct sb_session_state *s)
{
    static const struct sb_str names[SB_SESSION_TOLD] = {
        SB_STR_INIT("Session-Id"),
        SB_STR_INIT("Session-Audience"),
        SB_STR_INIT("Session-Subject"),
        SB_STR_INIT("Session-Timeout"),
        SB_STR_INIT("Session-Idling-Timeout"),
        SB_STR_INIT("Session-Rolling-Timeout"),
        SB_STR_INIT("Session-Absolute-Timeout"),
    };
    struct sb_arena *a = sb_exchange_arena(x);
    struct sb_session_left left =
        sb_session_left(&s->header, &c->session.timeouts, sb_session_now_s());
    const struct sb_str values[SB_SESSION_TOLD] = {
        sb_base64url_encode(a, sb_str_n((const char *)s->header.id, sizeof s->header.id)),
        c->audience,
        s->subject,
        seconds_text(a, left.least_s),
        seconds_text(a, left.idling_s),
        seconds_text(a, left.rolling_s),
        seconds_text(a, left.absolute_s),
    };

    for (int i = 0; i < SB_SESSION_TOLD; i++) {
        if (c->told_upstream[i])
            sb_auth_header(x, names[i], values[i]);
        if (c->told_client[i] && values[i].len)
            sb_exchange_set_response_header(x, names[i], values[i]);
    }
}

/* The groups of a session, for acl and for the upstream. */
static void tell_groups(struct sb_exchange *x, const struct sb_value *data)
{
    const struct sb_value *list = data->count >= 3 ? data->items[2] : NULL, *item;
    struct sb_arena *a = sb_exchange_arena(x);
    struct sb_str *groups = SB_NEW_N(a, struct sb_str, list ? list->count + 1 : 1), joined = {0};
    size_t n = 0;

    sb_array_each (item, list) {
        if (!sb_is(item, SB_V_STR))
            continue;
        joined = n ? sb_arena_printf(a, "%.*s, %.*s", SB_ARG(joined), SB_ARG(item->s)) : item->s;
        groups[n++] = item->s;
    }
    sb_auth_header(x, SB_STR("X-Authenticated-Groups"), joined);
    if (n)
        sb_exchange_set_groups(x, groups, n);
}

/* -- the phases ---------------------------------------------------------------------------------
 */

static enum sb_rc authenticate(struct sb_exchange *x, const struct sb_session_config *c,
                               struct sb_session_state *s)
{
    const struct sb_value *data = entry_of(c, s->content)->items[0];
    const struct sb_found *consumer;
    enum sb_rc rc = sb_credential_find(x, SB_CONSUMER_BY_ID, data->items[0]->s, &consumer);

    if (rc == SB_NOTFOUND)
        return end(x, c, s);
    if (rc)
        return rc;
    s->credential = (struct sb_credential){
        .id = data->items[1]->s, .consumer_id = data->items[0]->s, .kind = "sessions"};
    sb_session_keep_alive(x, c, s);
    tell(x, c, s);
    sb_auth_identify(x, consumer->consumer, &s->credential, s->credential.id);
    tell_groups(x, data);
    return SB_OK;
}

static enum sb_rc log_out(struct sb_exchange *x, const struct sb_session_config *c,
                          struct sb_session_state *s)
{
    enum sb_rc rc = end(x, c, s);

    if (!rc)
        sb_exchange_answer(x, 200, SB_STR(""), SB_STR(""), NULL, 0);
    return rc;
}

static enum sb_rc access(struct sb_exchange *x, const void *config)
{
    const struct sb_session_config *c = config;
    struct sb_session_state *s = sb_exchange_state(x, &sb_plugin_session, sizeof *s);
    enum sb_rc rc = s->open ? SB_OK : open_session(x, c, s);

    if (rc == SB_NOTFOUND)
        return SB_OK;
    if (!rc) {
        rc = wants_logout(x, c);
        rc = rc == SB_OK ? log_out(x, c, s) : rc == SB_NOTFOUND ? authenticate(x, c, s) : rc;
    }
    if (rc == SB_UNAVAILABLE)
        return sb_exchange_answer_error(x, 503, SB_STR("")), SB_OK;
    return rc;
}

/* Puts who it is in place of what the session had for this audience. */
static void set_entry(struct sb_exchange *x, const struct sb_session_config *c,
                      struct sb_session_state *s, const struct sb_consumer *consumer,
                      struct sb_str credential_id)
{
    struct sb_arena *a = sb_exchange_arena(x);
    struct sb_value *all, *entry = sb_value_array(a), *data = sb_value_array(a), *list;
    size_t n;
    const struct sb_str *groups = sb_exchange_groups(x, &n);

    sb_array_push(a, data, sb_value_str(a, consumer->id));
    sb_array_push(a, data, sb_value_str(a, credential_id));
    if (groups) {
        list = sb_value_array(a);
        for (size_t i = 0; i < n; i++)
            sb_array_push(a, list, sb_value_str(a, groups[i]));
        sb_array_push(a, data, list);
    }
    s->subject = consumer->username.len    ? consumer->username
                 : consumer->custom_id.len ? consumer->custom_id
                                           : consumer->id;
    sb_array_push(a, entry, data);
    sb_array_push(a, entry, sb_value_str(a, c->audience));
    sb_array_push(a, entry, sb_value_str(a, s->subject));
    all = s->known ? others(x, c, s) : sb_value_array(a);
    sb_array_push(a, all, entry);
    s->content = all;
}

static bool is_same(const struct sb_session_config *c, const struct sb_session_state *s,
                    const struct sb_consumer *consumer, struct sb_str credential_id)
{
    const struct sb_value *data = entry_of(c, s->content)->items[0];

    return sb_str_eq(data->items[0]->s, consumer->id) &&
           sb_str_eq(data->items[1]->s, credential_id);
}

static enum sb_rc header_filter(struct sb_exchange *x, const void *config)
{
    const struct sb_session_config *c = config;
    const struct sb_consumer *consumer = sb_exchange_consumer(x);
    const struct sb_credential *credential = sb_exchange_credential(x);
    struct sb_session_state *s;
    struct sb_str id;

    if (!consumer || !credential)
        return SB_OK;
    s = sb_exchange_state(x, &sb_plugin_session, sizeof *s);
    id = credential->id.len ? credential->id : consumer->id;
    if (s->open && is_same(c, s, consumer, id))
        return SB_OK;
    set_entry(x, c, s, consumer, id);
    sb_session_save(x, c, s);
    s->open = s->known = true;
    tell(x, c, s);
    return SB_OK;
}

const struct sb_plugin sb_plugin_session = {
    .name = "session",
    .priority = 1900,
    .compile = compile,
    .access = access,
    .header_filter = header_filter,
};
