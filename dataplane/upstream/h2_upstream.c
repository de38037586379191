/* h2_upstream.c - connections that calls share, and nghttp2's side of them.
 *
 * As with clients (h2_session.c), exchanges never run inside nghttp2's callbacks: a callback puts
 * the call on its connection's ready list, which is run when nghttp2 has returned. A connection
 * that broke stays until its last call was told.
 */
#include "dataplane/upstream/h2_upstream.h"

#include <errno.h>
#include <stdlib.h>

#include "dataplane/http/downstream.h"
#include "dataplane/upstream/h2_conn.h"
#include "dataplane/upstream/tls_client.h"
#include "dataplane/upstream/upstream.h"
#include "shared/map.h"

enum {
    CALLS_MAX = 128, /* of a connection, whatever the peer allows */
    CONNECTION_WINDOW = CALLS_MAX * SB_CALL_WINDOW,
    READ_LEN = 64 * 1024,
    ROUNDS_MAX = 16,
};

struct sb_h2_pool {
    struct sb_str key; /* behind the struct */
    struct sb_h2_pools *pools;
    struct sb_h2_conn *first;
    uint32_t calls_max; /* of a connection, as its peer said last */
    char text[];
};

struct sb_h2_pools {
    struct sb_worker *w;
    struct sb_map by_key;
    struct sb_h2_conn *dirty;
    struct sb_h2_conn *all;
};

static struct sb_h2_pools *pools_of(const struct sb_worker *w)
{
    return sb_upstreams_h2(w->upstreams);
}

/* -- a connection's place -- */

void sb_h2_conn_mark(struct sb_h2_conn *conn)
{
    struct sb_h2_pools *pools = pools_of(conn->wire.w);

    if (conn->dirty)
        return;
    conn->dirty = true;
    conn->dirty_next = pools->dirty;
    pools->dirty = conn;
}

static void unmark(struct sb_h2_conn *conn)
{
    struct sb_h2_conn **p = &pools_of(conn->wire.w)->dirty;

    while (*p && *p != conn)
        p = &(*p)->dirty_next;
    if (*p)
        *p = conn->dirty_next;
    conn->dirty = false;
}

static void leave_pool(struct sb_h2_conn *conn)
{
    struct sb_h2_pool *p = conn->pool;

    if (!p)
        return;
    *conn->link = conn->next;
    if (conn->next)
        conn->next->link = conn->link;
    conn->pool = NULL;
    if (p->first)
        return;
    sb_map_remove(&p->pools->by_key, p->key);
    free(p);
}

static void free_conn(struct sb_h2_conn *conn)
{
    struct sb_worker *w = conn->wire.w;

    while (conn->first) /* cancelled, and the peer did not hear of it */
        sb_h2_detach(conn->first, true);
    leave_pool(conn);
    unmark(conn);
    *conn->all_link = conn->all_next;
    if (conn->all_next)
        conn->all_next->all_link = conn->all_link;
    sb_timer_remove(&conn->timer, &w->wheel);
    nghttp2_session_del(conn->wire.session);
    sb_io_close(&conn->io);
    free(conn);
}

/* -- calls that have news -- */

static void make_ready(struct sb_call *c)
{
    struct sb_h2_conn *conn = c->conn;

    if (c->ready)
        return;
    c->ready = true;
    c->ready_next = NULL;
    *conn->ready_last = c;
    conn->ready_last = &c->ready_next;
    sb_h2_conn_mark(conn);
}

static void run_ready(struct sb_h2_conn *conn)
{
    struct sb_call *c;

    while ((c = conn->ready_first)) {
        conn->ready_first = c->ready_next;
        if (!conn->ready_first)
            conn->ready_last = &conn->ready_first;
        c->ready = false;
        if (c->x)
            sb_down_wake(c->x);
    }
}

static void forget_ready(struct sb_call *c)
{
    struct sb_h2_conn *conn = c->conn;
    struct sb_call **p = &conn->ready_first;

    while (*p && *p != c)
        p = &(*p)->ready_next;
    if (*p)
        *p = c->ready_next;
    if (conn->ready_last == &c->ready_next)
        conn->ready_last = p;
    c->ready = false;
}

void sb_h2_detach(struct sb_call *c, bool gone)
{
    struct sb_h2_conn *conn = c->conn;

    if (c->ready)
        forget_ready(c);
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    c->conn = NULL;
    conn->ncalls--;
    sb_h2_conn_mark(conn);
    if (!gone)
        return;
    if (conn->wire.g) {
        c->next = conn->spent;
        conn->spent = c;
        return;
    }
    sb_call_free(c, conn->wire.w);
}

static void on_sent(void *arg)
{
    struct sb_h2_conn *conn = arg;
    struct sb_call *c;

    while ((c = conn->spent)) {
        conn->spent = c->next;
        sb_call_free(c, conn->wire.w);
    }
}

/* A call's stream is no more. */
static void close_call(struct sb_call *c, uint32_t error, bool refused)
{
    size_t unread = sb_h2_bytes_left(&c->in);

    if (c->closed)
        return;
    c->closed = true;
    c->error = error;
    c->refused = refused;
    if (unread && !c->conn->dead)
        nghttp2_session_consume_connection(c->conn->wire.session, unread);
    if (c->x)
        make_ready(c);
    else
        sb_h2_detach(c, true);
}

/* The connection broke: what never left may go elsewhere. */
static void die(struct sb_h2_conn *conn)
{
    if (conn->dead)
        return;
    conn->dead = true;
    leave_pool(conn);
    for (struct sb_call *c = conn->first, *next; c; c = next) {
        next = c->next;
        close_call(c, NGHTTP2_INTERNAL_ERROR, conn->connected && !c->head_sent);
    }
    sb_h2_conn_mark(conn);
}

/* -- what nghttp2 calls -- */

static struct sb_call *call_of(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct sb_call *c = call_of(session, frame->hd.stream_id);

    (void)arg;
    if (c && c->x && !c->head_done)
        sb_call_begin_head(c);
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *arg)
{
    struct sb_call *c = call_of(session, frame->hd.stream_id);

    (void)flags;
    (void)arg;
    if (!c || !c->x)
        return 0;
    return sb_call_field(c, sb_str_n((const char *)name, name_len),
                         sb_str_n((const char *)value, value_len))
               ? 0
               : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                         size_t len, void *arg)
{
    struct sb_call *c = call_of(session, id);

    (void)flags;
    (void)arg;
    if (c && c->x) {
        sb_call_data(c, data, len);
        make_ready(c);
    } else {
        nghttp2_session_consume(session, id, len);
    }
    return 0;
}

static uint32_t calls_max(nghttp2_session *session)
{
    uint32_t max =
        nghttp2_session_get_remote_settings(session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);

    return max < CALLS_MAX ? max : CALLS_MAX;
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct sb_h2_conn *conn = arg;
    struct sb_call *c;

    if (frame->hd.type == NGHTTP2_GOAWAY)
        leave_pool(conn);
    if (frame->hd.type == NGHTTP2_SETTINGS && conn->pool)
        conn->pool->calls_max = calls_max(session);
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
        return 0;
    c = call_of(session, frame->hd.stream_id);
    if (!c || !c->x)
        return 0;
    if (frame->hd.type == NGHTTP2_HEADERS && c->x->resp.status >= 200)
        c->head_done = true;
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
        c->in_ended = true;
    make_ready(c);
    return 0;
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct sb_call *c;

    (void)arg;
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
        return 0;
    c = call_of(session, frame->hd.stream_id);
    if (!c)
        return 0;
    c->head_sent = true;
    if (c->x && frame->hd.type == NGHTTP2_DATA)
        make_ready(c); /* there is room for more, or nothing left but the answer to wait for */
    return 0;
}

/* The peer said GOAWAY before the request could leave. */
static int on_frame_not_send(nghttp2_session *session, const nghttp2_frame *frame, int e, void *arg)
{
    struct sb_h2_conn *conn = arg;

    (void)session;
    (void)e;
    if (frame->hd.type != NGHTTP2_HEADERS)
        return 0;
    for (struct sb_call *c = conn->first; c; c = c->next)
        if (c->id == frame->hd.stream_id) {
            close_call(c, NGHTTP2_REFUSED_STREAM, true);
            break;
        }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
    struct sb_call *c = call_of(session, id);

    (void)arg;
    if (c)
        close_call(c, code, code == NGHTTP2_REFUSED_STREAM);
    return 0;
}

static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                        size_t len, nghttp2_data_source *source, void *arg)
{
    struct sb_h2_conn *conn = arg;
    struct sb_call *c = source->ptr;

    (void)session;
    (void)frame;
    return sb_h2_wire_data(&conn->wire, head, &c->out, len);
}

static nghttp2_session *new_session(struct sb_h2_conn *conn)
{
    nghttp2_session_callbacks *cb;
    nghttp2_session *session;
    nghttp2_option *option;

    sb_assert(nghttp2_session_callbacks_new(&cb) == 0 && nghttp2_option_new(&option) == 0);
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data_chunk);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(cb, on_frame_not_send);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    nghttp2_session_callbacks_set_send_data_callback(cb, on_send_data);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);
    sb_assert(nghttp2_session_client_new3(&session, cb, conn, option, sb_h2_memory()) == 0);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(cb);
    return session;
}

/* -- connecting -- */

static void begin_session(struct sb_h2_conn *conn)
{
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, SB_CALL_WINDOW},
    };

    conn->connected = true;
    nghttp2_submit_settings(conn->wire.session, NGHTTP2_FLAG_NONE, settings,
                            sizeof settings / sizeof *settings);
    nghttp2_session_set_local_window_size(conn->wire.session, NGHTTP2_FLAG_NONE, 0,
                                          CONNECTION_WINDOW);
    for (struct sb_call *c = conn->first; c; c = c->next)
        make_ready(c);
    sb_h2_conn_mark(conn);
}

static void go_on_connecting(struct sb_h2_conn *conn)
{
    struct sb_io *io = &conn->io;
    int e = 0;
    socklen_t len = sizeof e;

    if (io->hup || io->failed) {
        die(conn);
        return;
    }
    if (!io->writable)
        return;
    if (io->ssl) {
        enum sb_rc rc = sb_io_handshake(io);

        if (rc == SB_OK)
            begin_session(conn);
        else if (rc != SB_AGAIN)
            die(conn);
        return;
    }
    if (getsockopt(io->fd, SOL_SOCKET, SO_ERROR, &e, &len) || e)
        die(conn);
    else
        begin_session(conn);
}

/* -- running -- */

static void receive(struct sb_h2_conn *conn)
{
    size_t n;

    while (!conn->dead && sb_io_can_read(&conn->io)) {
        char *buf = conn->wire.w->big;
        union {
            const char *in;
            const uint8_t *out;
        } data = {.in = buf};
        enum sb_rc rc = sb_io_read(&conn->io, buf, READ_LEN, &n);

        if (rc == SB_AGAIN)
            return;
        if (rc || nghttp2_session_mem_recv(conn->wire.session, data.out, n) < 0)
            die(conn);
        run_ready(conn);
    }
    if (conn->io.failed || conn->io.eof)
        die(conn);
}

static bool is_over(const struct sb_h2_conn *conn)
{
    return !nghttp2_session_want_read(conn->wire.session) &&
           !nghttp2_session_want_write(conn->wire.session);
}

/* Frees what nobody uses any more. */
static void settle(struct sb_h2_conn *conn)
{
    const struct sb_proxy_options *o = conn->wire.w->o;

    if (conn->ncalls) {
        sb_timer_off(&conn->timer);
        return;
    }
    if (conn->dead || !conn->pool || o->pool_size == 0) {
        free_conn(conn);
        return;
    }
    if (o->pool_idle_ms)
        sb_timer_set(&conn->wire.w->wheel, &conn->timer, sb_now_ms(conn->wire.w) + o->pool_idle_ms);
}

static void flush(struct sb_h2_conn *conn)
{
    int rounds = 0;

    do {
        run_ready(conn);
        if (conn->connected && !conn->dead &&
            (!sb_h2_wire_send(&conn->wire, on_sent, conn) || is_over(conn)))
            die(conn);
    } while (conn->ready_first && ++rounds < ROUNDS_MAX);
    conn->dirty = false;
    if (conn->ready_first)
        sb_h2_conn_mark(conn);
    else
        settle(conn);
}

bool sb_h2_pools_flush(struct sb_worker *w)
{
    struct sb_h2_pools *pools = pools_of(w);
    struct sb_h2_conn *conn;

    while ((conn = pools->dirty)) {
        pools->dirty = conn->dirty_next;
        flush(conn);
    }
    return w->dirty_h2 != NULL;
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    struct sb_h2_conn *conn = arg;

    (void)fd;
    sb_io_note(&conn->io, what);
    sb_h2_conn_mark(conn);
    if (!conn->connected)
        go_on_connecting(conn);
    if (!conn->connected || conn->dead)
        return;
    if (sb_io_flush(&conn->io))
        die(conn);
    receive(conn);
}

static void on_idle_timer(struct sb_timer *t)
{
    struct sb_h2_conn *conn = (struct sb_h2_conn *)((char *)t - offsetof(struct sb_h2_conn, timer));

    if (conn->ncalls)
        return;
    leave_pool(conn);
    nghttp2_session_terminate_session(conn->wire.session, NGHTTP2_NO_ERROR);
    sb_h2_conn_mark(conn);
}

/* -- attaching -- */

static struct sb_h2_pool *pool_for(struct sb_h2_pools *pools, const struct sb_upstream_key *k)
{
    struct sb_str key = sb_str_n(k->text, k->len);
    struct sb_h2_pool *p = sb_map_get(&pools->by_key, key);

    if (p)
        return p;
    p = sb_xcalloc(1, sizeof *p + k->len);
    p->pools = pools;
    p->calls_max = CALLS_MAX;
    memcpy(p->text, k->text, k->len);
    p->key = sb_str_n(p->text, k->len);
    sb_map_set(&pools->by_key, p->key, p);
    return p;
}

static struct sb_h2_conn *connect_new(struct sb_exchange *x, const struct sb_upstream_key *k)
{
    struct sb_worker *w = x->w;
    int fd = sb_upstream_dial(&x->pick.addr);
    struct sb_h2_conn *conn;
    struct sb_h2_pool *p;

    if (fd < 0)
        return NULL;
    conn = sb_xcalloc(1, sizeof *conn);
    if (sb_io_open(&conn->io, w, fd, on_event, conn)) {
        free(conn);
        return NULL;
    }
    conn->io.writable = false;
    conn->ready_last = &conn->ready_first;
    conn->wire = (struct sb_h2_wire){.w = w, .io = &conn->io, .session = new_session(conn)};
    sb_timer_init(&conn->timer, on_idle_timer);
    if (k->tls) {
        SSL *ssl = sb_tls_client_session(k->tls, sb_upstream_sni(x), &x->pick.addr);

        SSL_set_alpn_protos(ssl, (const unsigned char *)"\x02h2", 3);
        sb_io_set_ssl(&conn->io, ssl);
    }
    p = pool_for(pools_of(w), k);
    conn->pool = p;
    conn->link = &p->first;
    conn->next = p->first;
    if (conn->next)
        conn->next->link = &conn->next;
    p->first = conn;
    conn->all_link = &pools_of(w)->all;
    conn->all_next = *conn->all_link;
    if (conn->all_next)
        conn->all_next->all_link = &conn->all_next;
    *conn->all_link = conn;
    sb_count(&w->stats.upstream_connects, 1);
    return conn;
}

static struct sb_h2_conn *find_room(struct sb_h2_pools *pools, const struct sb_upstream_key *k)
{
    struct sb_h2_pool *p = sb_map_get(&pools->by_key, sb_str_n(k->text, k->len));

    for (struct sb_h2_conn *conn = p ? p->first : NULL; conn; conn = conn->next)
        if (!conn->dead && !conn->io.hup && conn->ncalls < p->calls_max)
            return conn;
    return NULL;
}

bool sb_h2_attach(struct sb_call *c)
{
    struct sb_worker *w = c->x->w;
    struct sb_upstream_key k;
    struct sb_h2_conn *conn;

    if (!sb_upstream_key(c->x, &k))
        return false;
    conn = find_room(pools_of(w), &k);
    if (conn) {
        sb_count(&w->stats.upstream_reuses, 1);
    } else {
        conn = connect_new(c->x, &k);
    }
    if (!conn)
        return false;
    c->conn = conn;
    c->link = &conn->first;
    c->next = conn->first;
    if (c->next)
        c->next->link = &c->next;
    conn->first = c;
    conn->ncalls++;
    sb_timer_off(&conn->timer);
    if (++conn->requests >= w->o->pool_requests && w->o->pool_requests)
        leave_pool(conn);
    return true;
}

bool sb_call_connected(const struct sb_call *c)
{
    return c->conn->connected && !c->closed;
}

/* -- all of them -- */

struct sb_h2_pools *sb_h2_pools_new(struct sb_worker *w)
{
    struct sb_h2_pools *pools = sb_xcalloc(1, sizeof *pools);

    pools->w = w;
    return pools;
}

void sb_h2_pools_free(struct sb_h2_pools *pools)
{
    while (pools->all)
        free_conn(pools->all);
    sb_map_release(&pools->by_key);
    sb_calls_release(pools->w);
    free(pools);
}
