/* daemon/feed_abi.h - the feed for programs that can't include C headers: opaque handles, plain numbers, text and arrays.
 *
 * python/ loads it by ctypes. What exists keeps its meaning and its arguments while dp_abi_version() stays what it is; functions may
 * be added. A function that can fail returns an enum dp_code (base/err.h), negative for failure, and then writes a message into
 * msg[0 .. msg_cap), always ended by NUL.
 * Options are text, "name=value" lines: the rows of dp_feed_opts (trainer_feed/feed.h), so names and values are those of
 * `dpipe feed` without the dashes. Thread-safety: one thread a handle. */
#ifndef DP_DAEMON_FEED_ABI_H
#define DP_DAEMON_FEED_ABI_H

#include "trainer_feed/feed.h"

enum { DP_ABI_VERSION = 1, DP_FEED_ABI_STATE_BYTES = sizeof(struct dp_feed_state) };
int dp_abi_version(void);
const char *dp_abi_release(void); /* "0.1.0" */

struct dp_feed_abi;
/* One of `manifest` and `workspace`, the other NULL; both NULL when options give domains by files and folders. A workspace gives the
 * manifest that its recipe has now, the recipe's feed section under the options, and the meaning of source:GLOB. */
int dp_feed_abi_open(struct dp_feed_abi **out, const char *manifest, const char *workspace, const char *options, char *msg, size_t msg_cap);
/* The same rows from a server: `address` is what dp_feed_client_open takes, `options` are lines of daemon/feed_connect.h: what is to differ from the
 * server's own, what else is to come (meta), how to be let in; state NULL or bytes 0: from sample `start` on. A server has no single rows, domains'
 * numbers and origins: functions for these say DP_USAGE. */
int dp_feed_abi_connect(struct dp_feed_abi **out, const char *address, const char *options, uint64_t start, const void *state, size_t bytes, char *msg,
                        size_t msg_cap);
void dp_feed_abi_close(struct dp_feed_abi *h); /* NULL is fine */

/* What an open feed is, in this order; returns how many there are, and fills up to n of them. */
enum dp_feed_abi_number {
    DP_FEED_ABI_SEQ_LEN,
    DP_FEED_ABI_BATCH,
    DP_FEED_ABI_RANK,
    DP_FEED_ABI_WORLD,
    DP_FEED_ABI_SAMPLES,
    DP_FEED_ABI_TOKENS,
    DP_FEED_ABI_DOCUMENTS,
    DP_FEED_ABI_VOCAB_SIZE,
    DP_FEED_ABI_EOT,
    DP_FEED_ABI_PAD,
    DP_FEED_ABI_DOMAINS,
    DP_FEED_ABI_SAMPLE, /* the cursor */
    DP_FEED_ABI_NUMBERS
};
size_t dp_feed_abi_numbers(const struct dp_feed_abi *h, int64_t *number, size_t n);
/* Domain d's name, NULL behind the last; numbers are rows, tokens, documents, padding, cut, draws, shards, shards_absent, frames_bad. */
const char *dp_feed_abi_domain(const struct dp_feed_abi *h, size_t d, int64_t *number, size_t n);

/* dp_feed_next_meta: ids is int32 [batch][T + 1], the rest as struct dp_feed_meta has it; what is NULL is not filled. */
int dp_feed_abi_next(struct dp_feed_abi *h, int32_t *ids, int32_t *cu_seqlens, int32_t *segments, int32_t *positions, uint8_t *loss_mask,
                     uint32_t *domain, uint64_t *sample, char *msg, size_t msg_cap);
/* The same, with ids as a trainer's embedding and loss take them: int64 [batch][T] of each. */
int dp_feed_abi_next_pair(struct dp_feed_abi *h, int64_t *inputs, int64_t *targets, int32_t *cu_seqlens, int32_t *segments, int32_t *positions,
                          uint8_t *loss_mask, uint32_t *domain, uint64_t *sample, char *msg, size_t msg_cap);
/* The ids alone, in few arguments, which is what a call costs in Python: int32 [batch][T + 1]; int64 [2][batch][T], inputs and targets. The message of
 * a failure is dp_feed_abi_message's, until the next call of these two. */
int dp_feed_abi_rows(struct dp_feed_abi *h, int32_t *ids);
int dp_feed_abi_pairs(struct dp_feed_abi *h, int64_t *pairs);
const char *dp_feed_abi_message(const struct dp_feed_abi *h);
/* Batches that can be had without waiting for a server; 1 where there is none. */
int64_t dp_feed_abi_ready(const struct dp_feed_abi *h);
/* From any thread: a call that waits for a server ends with DP_STOPPED within 200 ms, as do later ones until it is called with 0. */
void dp_feed_abi_stop(struct dp_feed_abi *h, int stop);
/* ids[0 .. T] of one global sample; the cursor stays. */
int dp_feed_abi_get(const struct dp_feed_abi *h, uint64_t sample, int32_t *ids, char *msg, size_t msg_cap);
/* Move the cursor to a global sample. */
int dp_feed_abi_seek(struct dp_feed_abi *h, uint64_t sample, char *msg, size_t msg_cap);
/* struct dp_feed_state as DP_FEED_ABI_STATE_BYTES bytes, little-endian; dp_feed_resume. */
void dp_feed_abi_state(const struct dp_feed_abi *h, void *state);
int dp_feed_abi_resume(struct dp_feed_abi *h, const void *state, size_t bytes, char *msg, size_t msg_cap);
/* Ask the workspaces (or the server, by a new connection) for their manifests again, then dp_feed_reload: DP_OK something has grown, DP_EMPTY nothing. */
int dp_feed_abi_reload(struct dp_feed_abi *h, char *msg, size_t msg_cap);
/* Where ids[row_token] of a global sample came from, as dp_feed_locate; strings live until the next reload, resume or close.
 * number: shard_number, document, document_token, shard_token, source; hex: the document's id and content hash, 33 bytes each.
 * DP_EMPTY for padding. */
int dp_feed_abi_locate(const struct dp_feed_abi *h, uint64_t sample, uint64_t row_token, const char **shard, const char **domain,
                       int64_t number[5], char *id_hex, char *content_hex, char *msg, size_t msg_cap);

#endif
