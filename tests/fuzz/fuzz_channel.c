/* What a worker process that was taken over may send: datagrams of any bytes, received as messages. Each is one message or DP_CORRUPT, and the
 * channel goes on behind it. Input: a length byte pair, that many bytes, and so on. */
#include "base/channel.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct dp_message m;
    struct dp_err err;
    int fd[2];
    if (dp_channel_pair(fd, &err) < 0) abort();
    for (size_t at = 0; at + 2 <= size;) {
        size_t n = data[at] | (size_t)data[at + 1] << 8;
        at += 2;
        if (n > size - at) n = size - at;
        if (n == 0) break; /* an empty datagram looks like the end */
        if (send(fd[0], data + at, n, 0) != (ssize_t)n) abort();
        int rc = dp_channel_receive(fd[1], &m, 1000, &err);
        if (rc == DP_OK ? m.len + 16 != n || m.fds || m.bytes[m.len] : rc != DP_CORRUPT) abort();
        at += n;
    }
    if (dp_channel_send(fd[0], 7, "end", 3, NULL, 0, 1000, &err) != DP_OK) abort();
    if (dp_channel_receive(fd[1], &m, 1000, &err) != DP_OK || m.kind != 7 || strcmp(m.bytes, "end") != 0) abort();
    close(fd[0]);
    close(fd[1]);
    return 0;
}
