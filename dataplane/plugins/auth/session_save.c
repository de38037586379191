/* session_save.c - cookies and rows that keep a session (reference/plugins-auth.md). */
#include "dataplane/plugins/auth/session.h"

#include <time.h>

#include "schema/entity.h"
#include "shared/json.h"
#include "shared/log.h"

enum { TOUCH_AFTER_S = 60, RENEW_PERCENT = 75 };
enum { AGE_MAX_S = 400 * 24 * 3600 }; /* of a persistent cookie */

/* -- writing cookies ----------------------------------------------------------------------------
 */

/* How long a persistent cookie that began then is kept. */
static struct sb_str persistence(struct sb_exchange *x, const struct sb_session_cookie *cookie,
                                 int64_t created_s)
{
    int64_t rolling = cookie->timeouts.rolling_s;
    int64_t age = rolling > 0 && rolling < AGE_MAX_S ? rolling : AGE_MAX_S;
    time_t until = (time_t)(created_s + age);
    struct tm tm;
    char date[40];

    gmtime_r(&until, &tm);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    return sb_arena_printf(sb_exchange_arena(x), "; Expires=%s; Max-Age=%lld", date,
                           (long long)age);
}

void sb_session_set_cookie(struct sb_exchange *x, const struct sb_session_config *c,
                           struct sb_str name, struct sb_str value, struct sb_str more)
{
    struct sb_arena *a = sb_exchange_arena(x);
    size_t room = SB_SESSION_COOKIE_MAX - name.len - 1;

    for (int i = 1; i == 1 || value.len; i++) {
        struct sb_str part = sb_str_first(value, room);
        struct sb_str number = i == 1 ? SB_STR("") : sb_arena_printf(a, "%d", i);

        sb_exchange_add_response_header(x, SB_STR("Set-Cookie"),
                                        sb_arena_printf(a, "%.*s%.*s=%.*s%.*s%.*s", SB_ARG(name),
                                                        SB_ARG(number), SB_ARG(part),
                                                        SB_ARG(c->attributes), SB_ARG(more)));
        value = sb_str_from(value, part.len);
        room = SB_SESSION_COOKIE_MAX - name.len - 2;
    }
}

static struct sb_str header_text(struct sb_exchange *x, const struct sb_session_cookie *cookie,
                                 const struct sb_session_header *header)
{
    char *text = sb_arena_alloc(sb_exchange_arena(x), SB_SESSION_HEADER_LEN);

    sb_session_header_write(&cookie->keys, header, text);
    return sb_str_n(text, SB_SESSION_HEADER_LEN);
}

/* -- the database -------------------------------------------------------------------------------
 */

static void put(struct sb_arena *a, struct sb_value *row, const char *field, struct sb_value *v)
{
    sb_object_set(a, row, sb_str_c(field), v);
}

static void put_lifetime(struct sb_arena *a, struct sb_value *row, int64_t seconds)
{
    if (seconds <= 0)
        return;
    put(a, row, "ttl", sb_value_int(a, seconds));
    put(a, row, "expires", sb_value_int(a, sb_session_now_s() + seconds));
}

/* Nobody waits: the row is there before the client can have the cookie and come again, save when
 * the database is slow; a lost row costs a login. */
static void store(struct sb_exchange *x, const struct sb_session_cookie *cookie,
                  const struct sb_session_header *header, struct sb_str payload)
{
    struct sb_arena *a = sb_exchange_arena(x);
    struct sb_value *row = sb_value_object(a), *data = sb_value_array(a);
    struct sb_str id =
        sb_base64url_encode(a, sb_str_n((const char *)header->id, sizeof header->id));

    sb_array_push(a, data, sb_value_str(a, payload));
    put(a, row, "session_id", sb_value_str(a, id));
    put(a, row, "data", sb_value_str(a, sb_json_text(a, data, 0)));
    put_lifetime(a, row, cookie->timeouts.rolling_s);
    (void)!sb_credential_insert(x, sb_entity_find(SB_STR("sessions")), row, NULL);
}

/* The row of a cookie that was replaced: late requests may still use it for a while. */
static void retire(struct sb_exchange *x, const struct sb_session_config *c,
                   const struct sb_session_state *s)
{
    struct sb_arena *a = sb_exchange_arena(x);
    const struct sb_entity *sessions = sb_entity_find(SB_STR("sessions"));
    struct sb_value *patch = sb_value_object(a);

    if (!s->row_id.len)
        return;
    put_lifetime(a, patch, c->stale_ttl_s);
    if (s->remembered || !patch->count)
        (void)!sb_credential_delete(x, sessions, s->row_id, NULL);
    else
        (void)!sb_credential_update(x, sessions, s->row_id, patch, NULL);
}

/* -- saving -------------------------------------------------------------------------------------
 */

/* Seals the content anew and sends it to the client. */
static void save_cookie(struct sb_exchange *x, const struct sb_session_config *c,
                        const struct sb_session_cookie *cookie, struct sb_session_header *header,
                        const struct sb_value *content)
{
    struct sb_arena *a = sb_exchange_arena(x);
    struct sb_str payload, text, more = {0};

    header->stored = c->stored;
    payload = sb_session_seal(a, &cookie->keys, header, content);
    if (!payload.p) {
        sb_warn("a session is too long for cookies and not kept");
        return;
    }
    text = header_text(x, cookie, header);
    if (c->stored)
        store(x, cookie, header, payload);
    else
        text = sb_arena_printf(a, "%.*s%.*s", SB_ARG(text), SB_ARG(payload));
    if (cookie == &c->remember)
        more = persistence(x, cookie, header->created_s);
    sb_session_set_cookie(x, c, cookie->name, text, more);
}

static void save_session(struct sb_exchange *x, const struct sb_session_config *c,
                         struct sb_session_state *s)
{
    int64_t now = sb_session_now_s();

    if (!s->known || s->remembered) /* it begins; else it goes on */
        s->header.created_s = now;
    s->header.rolling_s = now - s->header.created_s;
    s->header.idling_s = 0;
    save_cookie(x, c, &c->session, &s->header, s->content);
}

static void save_persistent(struct sb_exchange *x, const struct sb_session_config *c,
                            struct sb_session_state *s, int64_t created_s)
{
    struct sb_session_header header = {.created_s = created_s,
                                       .rolling_s = sb_session_now_s() - created_s};

    save_cookie(x, c, &c->remember, &header, s->content);
}

void sb_session_save(struct sb_exchange *x, const struct sb_session_config *c,
                     struct sb_session_state *s)
{
    struct sb_session_header old;
    struct sb_str text;

    retire(x, c, s);
    if (s->remembered) {
        save_persistent(x, c, s, s->header.created_s);
        save_session(x, c, s);
        s->remembered = false;
        return;
    }
    save_session(x, c, s);
    if (c->remembers)
        save_persistent(x, c, s,
                        sb_session_read_header(x, c, &c->remember, &text, &old)
                            ? old.created_s
                            : sb_session_now_s());
}

void sb_session_keep_alive(struct sb_exchange *x, const struct sb_session_config *c,
                           struct sb_session_state *s)
{
    int64_t rolling = c->session.timeouts.rolling_s, now = sb_session_now_s();
    int64_t saved = s->header.created_s + s->header.rolling_s;
    struct sb_str text;

    if (s->remembered) {
        sb_session_save(x, c, s);
        return;
    }
    if (rolling > 0 && now - saved > rolling * RENEW_PERCENT / 100) {
        retire(x, c, s);
        save_session(x, c, s);
        return;
    }
    if (c->session.timeouts.idling_s <= 0 || now - saved - s->header.idling_s <= TOUCH_AFTER_S)
        return;
    s->header.idling_s = now - saved;
    text = sb_session_whole_cookie(x, c->session.name);
    sb_session_set_cookie(x, c, c->session.name,
                          sb_arena_printf(sb_exchange_arena(x), "%.*s%.*s",
                                          SB_ARG(header_text(x, &c->session, &s->header)),
                                          SB_ARG(sb_str_from(text, SB_SESSION_HEADER_LEN))),
                          (struct sb_str){0});
}
