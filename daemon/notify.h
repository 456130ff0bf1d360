/* daemon/notify.h - what a service manager is told and gives: sd_notify(3) and sd_listen_fds(3), by hand.
 *
 * One datagram a message to the AF_UNIX address in $NOTIFY_SOCKET ("@name" is abstract). Without the variable every call does
 * nothing. Thread-safety: dp_notify may be called from any thread after dp_notify_init. */
#ifndef DP_DAEMON_NOTIFY_H
#define DP_DAEMON_NOTIFY_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

/* Reads NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID and takes them out of the environment, so that children don't speak for us. */
void dp_notify_init(void);
bool dp_notify_wanted(void);
/* Send one message, printf-like: "READY=1\nSTATUS=...". Lost messages are no error: the manager's time-outs tell. */
void dp_notify(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* RELOADING=1 needs the time of the reload on CLOCK_MONOTONIC, else `systemctl reload` waits in vain. */
void dp_notify_reloading(void);
/* Seconds within which WATCHDOG=1 is wanted; 0: no watchdog. */
double dp_notify_watchdog_s(void);

/* Sockets passed by the manager (LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES). The descriptor called `name`, or the first listening AF_UNIX
 * (unix_socket) or other socket without a name of ours (but for "feed", whose Unix socket is a SOCK_SEQPACKET one); -1 when there is none. Each is given away once, close-on-exec and non-blocking. */
void dp_listen_init(void);
int dp_listen_take(const char *name, bool unix_socket);
/* For tests: parse as if these were the environment's values; returns the number of descriptors, at most 16. */
int dp_listen_parse(const char *pid, const char *fds, const char *names, int64_t self);
/* Where a Unix socket was bound, malloc'ed; NULL when it has no path. */
char *dp_listen_path(int fd);

#endif
