/* h2_conn.h - what h2_call.c and h2_upstream.c share. Private to them. */
#ifndef SB_DATAPLANE_UPSTREAM_H2_CONN_H
#define SB_DATAPLANE_UPSTREAM_H2_CONN_H

#include "dataplane/upstream/h2_upstream.h"

struct sb_h2_pool;

struct sb_h2_conn {
    struct sb_io io; /* first: events find the connection by it */
    struct sb_h2_wire wire;
    struct sb_h2_pool *pool;         /* NULL: takes no more calls */
    struct sb_h2_conn *next, **link; /* of the pool */
    struct sb_h2_conn *dirty_next;
    struct sb_h2_conn *all_next, **all_link;
    bool dirty;
    bool connected, dead;
    struct sb_call *first, *ready_first, **ready_last;
    struct sb_call *spent; /* over while frames were collected */
    unsigned ncalls;
    uint64_t requests;
    struct sb_timer timer; /* idle */
};

/* Puts the call on a connection that has room, or a new one. */
bool sb_h2_attach(struct sb_call *c);
/* Takes it off; gone: and gives its memory back. */
void sb_h2_detach(struct sb_call *c, bool gone);
void sb_h2_conn_mark(struct sb_h2_conn *conn);

void sb_calls_release(struct sb_worker *w);
void sb_call_free(struct sb_call *c, struct sb_worker *w);
void sb_call_begin_head(struct sb_call *c);
/* False: more than we take, or nonsense. */
bool sb_call_field(struct sb_call *c, struct sb_str name, struct sb_str value);
void sb_call_data(struct sb_call *c, const void *p, size_t len);

#endif
