/* daemon/worker_message.h - what broker and worker process say to each other over base/channel.h.
 *
 *   HELLO (options, memory of daemon/unit_watch.h) ->         once; the worker opens its stages, enters the sandbox
 *                                                  <- READY   with what the sandbox is
 *   UNIT (outputs, skip list) ->
 *                                                  <- ASK     for member i
 *   MEMBER (its descriptor and names, or why not) ->
 *                                                  <- PROGRESS, LOG
 *   STOP ->                                                   at most once a unit
 *                                                  <- DONE (counts, digests) or FAILED (code, message)
 *
 * A closed channel ends the worker at once, wherever it is. Strings follow the structs, each ended by NUL. */
#ifndef DP_DAEMON_WORKER_MESSAGE_H
#define DP_DAEMON_WORKER_MESSAGE_H

#include "base/sandbox.h"
#include "daemon/unit_worker.h"

enum dp_worker_kind {
    DP_MSG_HELLO = 1, DP_MSG_UNIT, DP_MSG_MEMBER, DP_MSG_STOP,
    DP_MSG_READY, DP_MSG_ASK, DP_MSG_PROGRESS, DP_MSG_LOG, DP_MSG_DONE, DP_MSG_FAILED,
};

/* Then: name, value, name, value... of every option that differs from nothing ("clean.language.min_score", "0.5"). Descriptor: the watch. */
struct dp_msg_hello {
    int32_t log_debug;
    int32_t unsafe; /* go on where the kernel has no seccomp */
    uint64_t memory_bytes;
    char cpu[16];
};
struct dp_msg_ready {
    int32_t code; /* 0 or why it can't work */
    char msg[480];
    struct dp_sandbox_report sandbox;
};
/* Then: struct dp_skip[skips], struct dp_careful[carefuls]. Descriptors: the outputs that are wanted, in order. */
struct dp_msg_unit {
    uint32_t stages, lanes, skips, carefuls, sign;
    uint32_t out[DP_OUTS];
    uint64_t members;
};
/* Then: name, prefix, digest; or with a negative code the message. Descriptor: the file. */
struct dp_msg_member {
    int32_t code;
};
struct dp_msg_ask {
    uint64_t member;
};
struct dp_msg_progress {
    uint64_t bytes, docs;
};
/* Then: module, message, and what it is about: unit, path, record, "" where that isn't known. */
struct dp_msg_log {
    int64_t offset; /* -1: unknown */
    int32_t level, place; /* whether it is about a place */
};
struct dp_msg_failed {
    int32_t code;
    char msg[480];
};

/* The next NUL-ended string at *at in a message, NULL behind the last. */
static inline const char *dp_msg_string(const char *bytes, size_t len, size_t *at)
{
    const char *end = *at < len ? memchr(bytes + *at, 0, len - *at) : NULL;
    if (!end) return NULL;
    const char *s = bytes + *at;
    *at = (size_t)(end - bytes) + 1;
    return s;
}

#endif
