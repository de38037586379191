/* exchange.h - one request and its response. Private to the engine; plugins see plugins/phase.h.
 *
 * States are listed once, in the table of exchange.c; sb_exchange_run() is the only function that
 * changes them. A state's step is called when it is entered and whenever something happened, and
 * says what comes next:
 *
 *   HEAD -> REWRITE -> ROUTE -> ACCESS -> PICK -> BODY -> CONNECT -> REPLY -> (COLLECT) ->
 *                                         ^____(next try)____|________|
 *   FILTER -> FORWARD -> DONE
 *             TUNNEL
 *   from nearly everywhere: ANSWER (our own response) -> DRAIN -> DONE
 */
#ifndef SB_DATAPLANE_HTTP_EXCHANGE_H
#define SB_DATAPLANE_HTTP_EXCHANGE_H

#include "dataplane/http/chunked.h"
#include "dataplane/http/client.h"
#include "dataplane/http/gather.h"
#include "dataplane/http/parse.h"
#include "dataplane/http/spool.h"
#include "dataplane/http/trailers.h"
#include "dataplane/listen/timer.h"
#include "dataplane/plugins/credentials/asking.h"
#include "dataplane/plugins/phase.h"
#include "dataplane/router/router.h"
#include "dataplane/upstream/upstream.h"

enum sb_xstate {
    SB_X_HEAD,    /* the request's head comes in */
    SB_X_REWRITE, /* global hooks */
    SB_X_ROUTE,
    SB_X_ACCESS,  /* the route's hooks */
    SB_X_PICK,    /* a target, perhaps after a name was resolved */
    SB_X_BODY,    /* the request's body comes in, where it is buffered */
    SB_X_CONNECT, /* TCP and TLS */
    SB_X_REPLY,   /* request sent or being sent; the response's head is awaited */
    SB_X_COLLECT, /* all of the response's body comes in, where plugins want it in one piece */
    SB_X_FILTER,  /* header_filter hooks */
    SB_X_FORWARD, /* the response's body passes through */
    SB_X_TUNNEL,  /* bytes both ways, after 101 */
    SB_X_ANSWER,  /* a response of our own goes out */
    SB_X_DRAIN,   /* the rest of the request is thrown away, so that the client sees the answer */
    SB_X_DONE,
    SB_X_STATES,
    SB_X_WAIT, /* not a state: a step's word for "call me when something happened" */
};

/* How Server and Via call us. */
#define SB_PRODUCT "silverback/" SB_VERSION

enum {
    SB_X_IN_LEN = 4096,
    SB_X_HEADERS = 64,
    SB_X_HEADERS_MAX = 1000,
    SB_X_SLOTS = 16,
    SB_DRAIN_MAX = 4 << 20, /* bytes of an unwanted body that we read to keep a connection */
};

/* A header to set or, with value.p NULL, to remove; add: beside others of its name. */
struct sb_header_change {
    struct sb_header_change *next;
    bool add;
    struct sb_str name, value;
    struct sb_str cookie; /* of Set-Cookie: the upstream's cookie of that name goes; "" */
};

/* What plugins put in place of the client's words. p NULL: as it came. */
struct sb_upstream_changes {
    struct sb_str method, path, query, host;
    struct sb_str body;
    bool replaces_body;
};

/* The request as a hook found it, before it changed anything: when it is called again after a pause
 * it finds the same. by: whose this is, as x->hook stands while it runs. */
struct sb_found_request {
    const struct sb_hook *by;
    struct sb_header_change *changes;
    struct sb_str host, query;
};

/* The request's body on its way: unread bytes lie in x->rest or in the socket. */
struct sb_request_body {
    struct sb_chunked chunked;
    uint64_t left;     /* of Content-Length */
    uint64_t received; /* decoded bytes */
    bool complete;
    bool stream;    /* goes on as it comes; else all of it is stored first */
    bool continued; /* 100 Continue was sent, or nobody asked for it */
    char *mem;      /* stored bytes: a slice of rest, or owned */
    size_t mem_len, mem_cap;
    bool mem_owned;
    int fd; /* temporary file behind mem; -1: none */
    uint64_t file_len;
    uint64_t sent;  /* to this try's upstream */
    bool last_sent; /* streamed or chunked: the end, too */
    struct sb_trailers trailers;
};

enum sb_answer_kind {
    SB_ANSWER_BODY,    /* type and body as they are */
    SB_ANSWER_ERROR,   /* message, in the format that Accept asks for, else JSON */
    SB_ANSWER_REFUSED, /* the same as nginx does it: else by Content-Type, else error_default_type
                        */
    SB_ANSWER_PAGE,    /* nginx's small HTML page; message: a second line */
};

struct sb_answer {
    int status;
    enum sb_answer_kind kind;
    bool keeps; /* the upstream's head: a header filter replaces the body only */
    struct sb_str type, body, message;
    struct sb_header_change *headers;
};

struct sb_exchange {
    void *free_list; /* first: the pool's link; up to `cleared` it is zeroed for each exchange */
    enum sb_xstate state;
    struct sb_client *c;
    struct sb_stream *stream; /* HTTP/2: its stream; NULL: it has the connection for itself */
    struct sb_worker *w;
    struct sb_hold *hold;
    int64_t start_us;

    /* The request */
    struct sb_http_head req;
    char *in; /* received bytes: inline_in, or heap when they are more */
    size_t in_len, in_cap;
    struct sb_str rest; /* received, not used yet: body and pipelined requests */
    char *over;         /* memory of rest where it is not in's */
    struct sb_str path; /* normalised */
    struct sb_str host; /* name of the request's authority, "kong" when there is none */
    char id[32];        /* request id */
    bool keep_alive, websocket, head_method, https;
    struct sb_str client_ip; /* after real-ip */
    struct sb_request_body body;
    struct sb_header_change *request_changes, *response_changes;
    struct sb_upstream_changes up;
    struct sb_found_request found;
    bool body_wanted;             /* a suspended hook waits for it */
    enum sb_rc body_lost;         /* why it can't have it */
    struct sb_hook_state *states; /* of hooks that keep something */
    struct sb_left_body *left;    /* body filters that have nothing to do */

    /* The route */
    struct sb_router_match match;
    const struct sb_route *route;
    const struct sb_service *service;
    const struct sb_upstream *upstream; /* NULL: the service's host is a name or an address */
    const struct sb_hooks *hooks;
    const struct sb_hook *hook; /* the next to run */
    const struct sb_consumer_plugins *of_consumer;
    const struct sb_plugin_instance **chosen; /* for each slot; NULL: before access */
    bool filtered;                            /* the header filters have run */
    int64_t gone_ms; /* when a client that closed its side is given up; 0: it did not */
    bool hooks_begun, suspended, timed_out, refused, empty;
    bool cut;                               /* the client gets no answer */
    size_t buffer_max;                      /* collect a response of so many bytes at most */
    const struct sb_consumer *consumer;     /* NULL: not known who it is */
    const struct sb_credential *credential; /* NULL: the same */
    const struct sb_str *groups;
    size_t ngroups;
    struct sb_asking asking; /* of consumers and credentials */

    /* The upstream */
    struct sb_upconn *u;
    struct sb_call *call; /* in the place of u where the upstream speaks HTTP/2 */
    unsigned refusals;    /* of calls that nobody processed */
    struct sb_pick pick;
    unsigned tries, reused_tries, interims;
    bool sent_any;  /* some of the request reached this try's socket */
    int64_t try_us; /* end of the last pick; 0: never got so far */
    int64_t first_try_us;
    int upstream_status;

    /* The response */
    struct sb_http_head resp;
    char *resp_buf; /* the response's head while it is incomplete or hooks look at it */
    size_t resp_len, resp_cap;
    struct sb_str resp_rest; /* upstream bytes not forwarded yet */
    struct sb_chunked resp_chunked;
    struct sb_trailers resp_trailers; /* complete when ended; HTTP/1 clients got their text */
    uint64_t resp_left;
    int64_t first_byte_us;
    bool chunk_out, ended, head_sent, resp_reusable;
    bool spooling;          /* may be read faster than the client takes it */
    bool collected;         /* resp_rest is all of its body, decoded */
    struct sb_spool *spool; /* what waits for the client; NULL: it keeps up */
    char *whole;            /* the memory of a collected body */
    size_t whole_len, whole_cap;
    size_t stalled_len; /* bytes that waited when it was looked at last */
    int64_t stalled_ms; /* since when they are as many */
    size_t read_len, drained;
    int status;
    uint64_t body_sent;
    uint32_t resp_head_sent; /* bytes */
    struct sb_answer answer;

    char cleared[1];

    struct sb_timer timer;  /* hangs where it hung last */
    struct sb_arena *arena; /* made when first needed; empty between exchanges */
    const struct sb_plugin_instance *chosen_room[SB_X_SLOTS];
    struct sb_kept kept[SB_KEPT_ROOM]; /* asking.nkept of them */
    char path_room[1024];              /* for normalised paths that fit */
    char host_room[256];
    char ip_room[46]; /* of client_ip, where a header tells it */
    uint8_t ids_room[SB_X_HEADERS];
    struct sb_router_header headers_room[SB_X_HEADERS];
    char inline_in[SB_X_IN_LEN];
};

/* Begins an exchange on the client's connection with bytes that are already there. */
struct sb_exchange *sb_exchange_begin(struct sb_client *c, struct sb_str received);
/* Runs steps until one waits; true when the exchange is DONE. */
bool sb_exchange_run(struct sb_exchange *x);
/* Logs, lets go of everything and gives the memory back. Bytes behind the request are copied to
 * received (room for SB_BIG_LEN), their number returned. */
size_t sb_exchange_end(struct sb_exchange *x, char *received);
void sb_exchanges_release(struct sb_worker *w);
const struct sb_hooks *sb_exchange_hooks(const struct sb_exchange *x); /* NULL: none */

/* request.c: the head that goes to the upstream. */
void sb_request_prepare(struct sb_exchange *x); /* once the head is parsed: host, addresses, id */
bool sb_request_build(struct sb_exchange *x, struct sb_gather *g);
/* X-Forwarded-Proto, -Host as far as the peer is trusted with them. */
struct sb_str sb_request_forwarded_proto(const struct sb_exchange *x);
struct sb_str sb_request_forwarded_host(const struct sb_exchange *x);

/* body.c: the request's body. */
void sb_body_init(struct sb_exchange *x);
void sb_body_release(struct sb_exchange *x);
void sb_body_continue(struct sb_exchange *x); /* 100 Continue */
/* Decoded pieces of what is there, by reference, valid until the next call. SB_OK, SB_AGAIN,
 * SB_INVALID (bad coding), SB_TOOLARGE, SB_IO (the client is gone). */
SB_MUST enum sb_rc sb_body_read(struct sb_exchange *x, struct iovec *iov, int max, int *n);
/* Stores all of it: SB_OK when complete. */
SB_MUST enum sb_rc sb_body_store(struct sb_exchange *x);
/* Of a stored body: x->up.body in its place. */
void sb_body_replace(struct sb_exchange *x);
/* Of a stored body: reads what lies in its file. SB_IO. */
SB_MUST enum sb_rc sb_body_read_file(const struct sb_exchange *x, char *out);
/* Whether it goes on with trailers, and so in chunks. A stored body does where Trailer announced
 * them: else it gets a length, as Kong does it, and they stay behind. */
bool sb_body_trails(const struct sb_exchange *x);
/* Appends what goes out with the head. */
void sb_body_gather(struct sb_exchange *x, struct sb_gather *g);
/* Sends more of it while the upstream takes it. SB_OK: all sent; SB_AGAIN; SB_UNAVAILABLE: the
 * upstream broke; else as sb_body_read. */
SB_MUST enum sb_rc sb_body_pump(struct sb_exchange *x);

/* response.c: heads and bodies to the client. */
void sb_response_begin(struct sb_exchange *x); /* the upstream's head is parsed */
void sb_response_frame(struct sb_exchange *x); /* how the body goes to the client */
void sb_response_head(struct sb_exchange *x, struct sb_gather *g);
/* The head of an interim answer, as it goes to the client. */
void sb_response_interim(struct sb_exchange *x, struct sb_gather *g);
/* Takes the body bytes at the front of *raw and adds them, framed for the client. False: the
 * upstream broke its framing. Sets x->ended at the end of the body; stops early when g is full. */
bool sb_response_body(struct sb_exchange *x, struct sb_str *raw, struct sb_gather *g);
/* Head and body of a collected response. False: a body filter broke, or the head does not fit. */
bool sb_response_collected(struct sb_exchange *x, struct sb_gather *g);
void sb_response_eof(struct sb_exchange *x,
                     struct sb_gather *g); /* a body that ends so has ended */
/* What stays of the upstream's head, as plugins changed it, with what the gateway writes itself,
 * where a header filter put a body of its own in place of the upstream's. */
void sb_response_kept(struct sb_exchange *x, struct sb_gather *g);
/* Parts that answers share. */
void sb_response_type(const struct sb_exchange *x, struct sb_str type, struct sb_gather *g);
bool sb_response_filter(struct sb_exchange *x, struct sb_chunk *c); /* the body filters, if any */
void sb_response_tokens(struct sb_exchange *x, struct sb_str via, struct sb_gather *g);
void sb_response_connection(struct sb_exchange *x, struct sb_gather *g);
/* Whether a header of that name is the gateway's to write, also where a plugin sets one. */
bool sb_response_owns(const struct sb_exchange *x, struct sb_str name);

/* view.c: the exchange's own copy of its service, to change; where there is none, of nothing. */
struct sb_service *sb_exchange_own_service(struct sb_exchange *x);

/* debug.c: what happened, for who may ask. */
void sb_debug_headers(struct sb_exchange *x, struct sb_gather *g);

/* answer.c: responses of our own. */
/* The whole of x->answer, with x->status. False: it does not fit, or a body filter broke. */
bool sb_answer_gather(struct sb_exchange *x, struct sb_gather *g);
struct sb_str sb_status_text(int status);

/* changes.c: headers that plugins change. */
/* A header that stays until the exchange ends. */
void sb_exchange_add_change(struct sb_exchange *x, struct sb_header_change **list,
                            struct sb_str name, struct sb_str value);
/* Sets a cookie, beside others and in place of the upstream's of that name. value: with the name.
 */
void sb_exchange_set_cookie(struct sb_exchange *x, struct sb_str name, struct sb_str value);
/* Whether the header of the upstream's response stays out of ours. */
bool sb_change_replaces(const struct sb_header_change *list, struct sb_str name,
                        struct sb_str value);
/* What replaces headers of that name; NULL: nothing does. */
/* Before the running hook changes what it found of the request. */
void sb_exchange_keep_found(struct sb_exchange *x);
const struct sb_header_change *sb_change_find(const struct sb_header_change *list,
                                              struct sb_str name);

#endif
