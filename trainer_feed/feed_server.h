/* trainer_feed/feed_server.h - serves feeds to other processes over a Unix socket and a memory ring each (trainer_feed/feed_wire.h).
 *
 * A client connects, asks (seq_len, batch, seed, rank, world, start...) and from then on finds finished batches in its ring, the same that
 * dp_feed_next would give it. Each client has a thread and a feed of its own; nothing is remembered of it when it is gone, however it went:
 * it knows its sample number and comes back with it. Nothing has a name but the socket, so that after kill -9 that name is all that
 * is left, and the next server takes it over.
 *
 * Access: the socket has mode 0600, and peers other than this user and root are turned away.
 * Memory: a client costs its ring (at most ring_bytes_max) and its feed (trainer_feed/feed.h).
 * Threads: one runs dp_feed_server_run; dp_feed_server_stop may be called from any thread. `open` and `close` of the options are called from
 * the clients' threads, one at a time. */
#ifndef DP_TRAINER_FEED_FEED_SERVER_H
#define DP_TRAINER_FEED_FEED_SERVER_H

#include "trainer_feed/feed.h"

#include <stdatomic.h>

struct dp_feed_server_options {
    const char *path; /* of the socket, at most 107 bytes */
    const char *manifest;
    struct dp_feed_options feed;    /* what a request doesn't say; domains always */
    int clients_max;                /* 0: 64 */
    uint64_t ring_bytes_max;        /* of one client; 0: 256 MiB */
    const atomic_bool *stop;        /* may be NULL: run looks at it at least every 200 ms */
    /* How a feed is opened; NULL: dp_feed_open of the manifest. *own is handed to `close`, after the feed was closed. */
    int (*open)(void *ctx, struct dp_feed **f, void **own, const struct dp_feed_options *o, struct dp_err *e);
    void (*close)(void *ctx, void *own);
    void *ctx;
};

struct dp_feed_server;
/* Binds the socket, so that clients may connect from now on. DP_BUSY when another server has it; DP_CONFIG when the name is too long or belongs
 * to something that is no socket. Strings in o must outlive the server. */
int dp_feed_server_open(struct dp_feed_server **out, const struct dp_feed_server_options *o, struct dp_err *e);
/* Serves until it is told to stop; a client's trouble is that client's alone (told to it, and logged). */
int dp_feed_server_run(struct dp_feed_server *s, struct dp_err *e);
void dp_feed_server_stop(struct dp_feed_server *s);
/* Ends the clients' threads and removes the socket. Not while run runs. NULL is fine. */
void dp_feed_server_close(struct dp_feed_server *s);
int dp_feed_server_clients(const struct dp_feed_server *s); /* being served now */

#endif
