/* trainer_feed/feed_serving.h - a server and one of its clients; for feed_server.c, feed_serve_ring.c and feed_serve_tcp.c alone. */
#ifndef DP_TRAINER_FEED_FEED_SERVING_H
#define DP_TRAINER_FEED_FEED_SERVING_H

#include "base/channel.h"
#include "trainer_feed/feed_conn.h"
#include "trainer_feed/feed_ring.h"
#include "trainer_feed/feed_server.h"

#include <pthread.h>
#include <sys/un.h>

enum { DP_FEED_HEAR_SECONDS = 10, DP_FEED_TICK_MS = 200 };

struct dp_feed_serving {
    struct dp_feed_server *s;
    pthread_t thread;
    atomic_bool done, asked, serving; /* over; its request has come; it is being served, so that the rest may be told */
    char peer[64];
    struct dp_feed *feed;
    void *own;
    bool opened;
    struct dp_feed_accept a;
    struct dp_feed_shape shape;
    uint64_t made;
    _Atomic uint64_t told_made, told_bytes;
    double came; /* monotonic */
    double since, rate_at; /* when it was accepted, when its rate was last taken */
    uint64_t rate_made;
    double rate;
    int sock, ring_fd, batch_fd, room_fd; /* Unix; -1: none */
    struct dp_feed_ring *ring;
    uint64_t ring_bytes, taken;
    struct dp_feed_patience patience;
    struct dp_feed_neighbour neighbour;
    struct dp_feed_conn conn; /* TCP */
    uint64_t credit;
    struct dp_message m;
};

struct dp_feed_server {
    struct dp_feed_server_options o;
    bool tcp;
    struct dp_tls *tls;
    struct sockaddr_un name;
    dev_t dev; /* of the socket's name, to remove no other's */
    ino_t ino;
    int listener, stop_fd, slots;
    atomic_bool stopping;
    atomic_int count;
    pthread_mutex_t opening, list; /* `open` and `close`; `client` */
    bool mutex;
    struct dp_feed_serving **client; /* [slots] */
    _Atomic uint64_t accepted, refused, batches, ids, bytes;
};

static inline bool dp_feed_stopping(const struct dp_feed_server *s)
{
    return atomic_load_explicit(&s->stopping, memory_order_relaxed);
}

/* feed_server.c, for both: from a request's text to an open feed and what is to be answered. */
int dp_feed_serving_accept(struct dp_feed_serving *c, struct dp_span text, uint64_t *slots, struct dp_err *e);
/* A batch was made. */
void dp_feed_serving_count(struct dp_feed_serving *c);

/* Serve one client from its request to its end: DP_EOF when it went or we are to stop; else why it is refused, told to it. */
int dp_feed_serve_ring(struct dp_feed_serving *c, struct dp_err *e);
int dp_feed_serve_tcp(struct dp_feed_serving *c, struct dp_err *e);
void dp_feed_serving_refuse(int sock, const struct dp_err *e);

#endif
