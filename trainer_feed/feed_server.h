/* trainer_feed/feed_server.h - serves feeds to other processes (trainer_feed/feed_wire.h): on this machine over a Unix socket and a memory ring each,
 * to other machines over TCP, with or without TLS.
 *
 * A client connects, asks (seq_len, batch, seed, rank, world, start...) and from then on gets finished batches, the same that
 * dp_feed_next would give it. Each client has a thread and a feed of its own; nothing is remembered of it when it is gone, however it went:
 * it knows its sample number and comes back with it. Nothing has a name but the socket, so that after kill -9 that name is all that
 * is left, and the next server takes it over.
 *
 * Access. The Unix socket has mode 0600, and peers other than this user and root are turned away. On TCP a client says a token, compared in
 * constant time before anything else of its request is read, or shows a certificate; an address that other machines reach needs one of
 * the two.
 * Limits: clients_max are served; beside them 16 connections may be about to say what they want, for 10 s each, and a further one pushes out
 * the oldest. A TCP client that gives no sign of life for 30 s, or doesn't read what it gave credit for, is let go.
 * Memory: a client costs its ring or, on TCP, three batches (at most ring_bytes_max; with compression 32 MiB more), and its feed (trainer_feed/feed.h).
 * Threads: one runs dp_feed_server_run; dp_feed_server_stop and the ones that tell may be called from any thread. `open` and `close` of the
 * options are called from the clients' threads, one at a time. */
#ifndef DP_TRAINER_FEED_FEED_SERVER_H
#define DP_TRAINER_FEED_FEED_SERVER_H

#include "trainer_feed/feed.h"

#include <stdatomic.h>

struct dp_feed_server_options {
    const char *addr; /* with a slash: path of a Unix socket, at most 107 bytes; else HOST:PORT, [HOST]:PORT or :PORT (loopback) */
    const char *manifest;
    struct dp_feed_options feed;    /* what a request doesn't say; domains always */
    int clients_max;                /* 0: 64 */
    uint64_t ring_bytes_max;        /* of one client; 0: 256 MiB */
    const atomic_bool *stop;        /* may be NULL: run looks at it at least every 200 ms */
    /* TCP. PEM files; NULL: without. client_ca: who must have signed each client's certificate. */
    const char *token, *cert, *key, *client_ca;
    double dead_seconds; /* of silence of a TCP client, which pings three times as often; 0: 30 */
    int listener; /* over 0: a socket of addr's kind that listens already (socket activation), taken over */
    bool (*admit)(void *ctx, int sock); /* Unix: whether the peer may come in; NULL: this user and root. On the thread of run */
    /* How a feed is opened; NULL: dp_feed_open of the manifest. *own is handed to `close`, after the feed was closed. With a state (NULL: none), of
     * several data sets the one that goes with it should be opened: a feed that refuses to resume from it is refused to the client. */
    int (*open)(void *ctx, struct dp_feed **f, void **own, const struct dp_feed_options *o, const struct dp_feed_state *state, struct dp_err *e);
    void (*close)(void *ctx, void *own);
    void *ctx;
};

struct dp_feed_server;
/* Binds the socket, so that clients may connect from now on. DP_BUSY when another server has it; DP_CONFIG when the name is too long or belongs
 * to something that is no socket, or when anybody could read the feed from elsewhere. Strings in o must outlive the server. */
int dp_feed_server_open(struct dp_feed_server **out, const struct dp_feed_server_options *o, struct dp_err *e);
/* Serves until it is told to stop, and returns when the last client's thread has ended; a client's trouble is that client's alone (told to it, and logged). */
int dp_feed_server_run(struct dp_feed_server *s, struct dp_err *e);
void dp_feed_server_stop(struct dp_feed_server *s);
/* Ends the clients' threads and removes the socket. Not while run runs. NULL is fine. */
void dp_feed_server_close(struct dp_feed_server *s);
int dp_feed_server_clients(const struct dp_feed_server *s); /* connections now */
int dp_feed_server_port(const struct dp_feed_server *s);    /* on TCP, as the system chose it for port 0; else 0 */

struct dp_feed_server_client {
    char peer[64]; /* "192.0.2.1:4711", or "user 1000, pid 4711" */
    int64_t rank, world, batch, seq_len;
    uint64_t sample;    /* first global sample of the next batch to be made */
    uint64_t batches, bytes; /* made; sent over TCP */
    double seconds;     /* since it was accepted */
    double ids_per_s;   /* lately, of seq_len * batch a batch */
};
/* Clients being served; at most n are written, how many there are is returned. */
size_t dp_feed_server_list(struct dp_feed_server *s, struct dp_feed_server_client *out, size_t n);
struct dp_feed_server_totals {
    uint64_t clients, accepted, refused; /* served now; since the start: requests accepted, connections refused or let go for a fault */
    uint64_t batches, ids, bytes;        /* since the start */
};
void dp_feed_server_totals(struct dp_feed_server *s, struct dp_feed_server_totals *out);

/* Whether an address is a Unix socket's path. */
bool dp_feed_addr_is_path(const char *addr);

#endif
