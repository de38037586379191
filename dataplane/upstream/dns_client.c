#include "dataplane/upstream/dns_client.h"

#include <ares.h>
#include <event2/event.h>
#include <stdlib.h>

#include "shared/arena.h"
#include "shared/buf.h"
#include "shared/log.h"

/* c-ares doubles the time-out from try to try: 14 s in all. */
enum { TIMEOUT_S = 2, TRIES = 3, CNAMES_MAX = 8, RESOLV_CONF_MAX = 64 << 10, CLASS_IN = 1 };

/* A socket of c-ares'. */
struct watched {
    struct watched *next;
    int fd;
    struct event *event;
};

struct sb_dns {
    struct event_base *base;
    ares_channel channel;
    struct event *timer;
    struct watched *watched;
};

struct question {
    struct sb_dns *dns;
    enum sb_dns_type type;
    unsigned cnames;
    sb_dns_done done;
    void *arg;
};

/* -- the loop -- */

static void set_timer(struct sb_dns *dns)
{
    struct timeval room, *t = ares_timeout(dns->channel, NULL, &room);

    if (t)
        event_add(dns->timer, t);
    else
        event_del(dns->timer);
}

static void on_socket(evutil_socket_t fd, short what, void *arg)
{
    struct sb_dns *dns = arg;

    ares_process_fd(dns->channel, what & EV_READ ? fd : ARES_SOCKET_BAD,
                    what & EV_WRITE ? fd : ARES_SOCKET_BAD);
    set_timer(dns);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct sb_dns *dns = arg;

    (void)fd, (void)what;
    ares_process_fd(dns->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    set_timer(dns);
}

static void forget_socket(struct sb_dns *dns, int fd)
{
    for (struct watched **at = &dns->watched; *at; at = &(*at)->next) {
        struct watched *w = *at;

        if (w->fd != fd)
            continue;
        *at = w->next;
        event_free(w->event);
        free(w);
        return;
    }
}

static void want_socket(void *arg, ares_socket_t fd, int readable, int writable)
{
    struct sb_dns *dns = arg;
    struct watched *w;

    forget_socket(dns, fd);
    if (!readable && !writable)
        return;
    w = sb_xcalloc(1, sizeof *w);
    w->fd = fd;
    w->event = event_new(dns->base, fd,
                         (short)((readable ? EV_READ : 0) | (writable ? EV_WRITE : 0) | EV_PERSIST),
                         on_socket, dns);
    event_add(w->event, NULL);
    w->next = dns->watched;
    dns->watched = w;
}

/* -- starting -- */

/* "options timeout:2 attempts:3": what c-ares is told here, it does not read there. */
static void read_options(struct ares_options *o)
{
    struct sb_str rest, line, word;
    struct sb_buf file;
    int64_t n;

    sb_buf_init(&file, RESOLV_CONF_MAX);
    rest = sb_buf_read_file(&file, "/etc/resolv.conf") ? sb_buf_get(&file) : (struct sb_str){0};
    while (sb_str_split(&rest, '\n', &line)) {
        if (!sb_str_starts(line, SB_STR("options ")))
            continue;
        while (sb_str_split(&line, ' ', &word)) {
            word = sb_str_trim(word);
            if (sb_str_starts(word, SB_STR("timeout:")) && sb_str_int(sb_str_from(word, 8), &n) &&
                n > 0 && n <= 30)
                o->timeout = (int)n * 1000;
            if (sb_str_starts(word, SB_STR("attempts:")) && sb_str_int(sb_str_from(word, 9), &n) &&
                n > 0 && n <= 10)
                o->tries = (int)n;
        }
    }
    sb_buf_release(&file);
}

static void set_servers(struct sb_dns *dns, const struct sb_str *servers, size_t n)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_str all = SB_STR("");

    for (size_t i = 0; i < n; i++)
        all = sb_arena_printf(a, "%.*s%s%.*s", SB_ARG(all), i ? "," : "", SB_ARG(servers[i]));
    if (n && ares_set_servers_ports_csv(dns->channel, all.p))
        sb_warn("dns_resolver: cannot use %s", all.p);
    sb_arena_free(a);
}

struct sb_dns *sb_dns_new(struct event_base *base, const struct sb_str *servers, size_t n)
{
    struct sb_dns *dns = sb_xcalloc(1, sizeof *dns);
    struct ares_options o = {.timeout = TIMEOUT_S * 1000,
                             .tries = TRIES,
                             .sock_state_cb = want_socket,
                             .sock_state_cb_data = dns};

    dns->base = base;
    dns->timer = event_new(base, -1, 0, on_timer, dns);
    read_options(&o);
    ares_library_init(ARES_LIB_INIT_ALL);
    if (ares_init_options(&dns->channel, &o,
                          ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB))
        sb_assert(!"c-ares starts");
    set_servers(dns, servers, n);
    return dns;
}

void sb_dns_free(struct sb_dns *dns)
{
    if (!dns)
        return;
    ares_destroy(dns->channel);
    while (dns->watched)
        forget_socket(dns, dns->watched->fd);
    event_free(dns->timer);
    ares_library_cleanup();
    free(dns);
}

/* -- asking -- */

static void finish(struct question *q, enum sb_rc rc, const struct sb_dns_answer *answer)
{
    struct question done = *q;

    free(q);
    done.done(done.arg, rc, answer);
}

static void on_answer(void *arg, int status, int timeouts, unsigned char *msg, int len)
{
    struct question *q = arg;
    struct sb_dns_answer answer = {0};

    (void)timeouts;
    switch (status) {
    case ARES_EDESTRUCTION:
    case ARES_ECANCELLED:
        free(q);
        return;
    case ARES_SUCCESS:
        if (!sb_dns_parse(msg, (size_t)len, q->type, &answer)) {
            finish(q, SB_UNAVAILABLE, NULL);
        } else if (answer.n == 0 && answer.alias[0] && q->cnames++ < CNAMES_MAX) {
            ares_query(q->dns->channel, answer.alias, CLASS_IN, q->type, on_answer, q);
            set_timer(q->dns);
        } else {
            finish(q, SB_OK, &answer);
        }
        return;
    case ARES_ENODATA:
        finish(q, SB_OK, &answer);
        return;
    case ARES_ENOTFOUND:
    case ARES_EBADNAME:
        finish(q, SB_NOTFOUND, NULL);
        return;
    default:
        finish(q, SB_UNAVAILABLE, NULL);
    }
}

void sb_dns_ask(struct sb_dns *dns, const char *name, enum sb_dns_type type, bool search,
                sb_dns_done done, void *arg)
{
    struct question *q = sb_xcalloc(1, sizeof *q);

    *q = (struct question){.dns = dns, .type = type, .done = done, .arg = arg};
    if (search)
        ares_search(dns->channel, name, CLASS_IN, (int)type, on_answer, q);
    else
        ares_query(dns->channel, name, CLASS_IN, (int)type, on_answer, q);
    set_timer(dns);
}
