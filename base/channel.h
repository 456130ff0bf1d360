/* base/channel.h - messages between a broker and a worker process, with descriptors (SCM_RIGHTS).
 *
 * A SOCK_SEQPACKET pair keeps message bounds and says when the other side is gone. A message is a header (magic, kind, length) and up
 * to DP_CHANNEL_BYTES_MAX bytes, with up to DP_CHANNEL_FDS_MAX descriptors; anything else (short, long, another magic, more descriptors) is
 * DP_CORRUPT: the other side may be hostile, and what it sent is closed. Received descriptors are close-on-exec and the receiver's.
 * Both sides are the same program on the same machine, so payloads may be structs; the receiver checks their size and contents.
 *
 * Thread-safety: one thread may receive while another sends; two threads that send (or receive) must agree among themselves. */
#ifndef DP_BASE_CHANNEL_H
#define DP_BASE_CHANNEL_H

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

enum { DP_CHANNEL_BYTES_MAX = 64 << 10, DP_CHANNEL_FDS_MAX = 8 };

struct dp_message {
    uint32_t kind;
    uint32_t len;
    int fds, fd[DP_CHANNEL_FDS_MAX];
    _Alignas(16) char bytes[DP_CHANNEL_BYTES_MAX + 1]; /* bytes[len] is NUL */
};

/* Both ends close-on-exec. */
int dp_channel_pair(int fd[2], struct dp_err *e);
/* Waits up to timeout_ms (-1: for ever) for room: DP_BUSY when there was none, DP_EOF when the other side is gone. Descriptors stay the caller's. */
int dp_channel_send(int fd, uint32_t kind, const void *bytes, size_t len, const int *fds, int nfds, int timeout_ms, struct dp_err *e);
/* DP_OK with a message, DP_EMPTY after timeout_ms without one, DP_EOF when the other side is gone, DP_CORRUPT for what is no message. */
int dp_channel_receive(int fd, struct dp_message *m, int timeout_ms, struct dp_err *e);
/* Close the descriptors that nobody took (a taken one is set to -1). */
void dp_message_close(struct dp_message *m);

#endif
