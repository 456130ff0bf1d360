/* daemon/feed_client_abi.h - a served feed for programs that can't include C headers, as daemon/feed_abi.h is for one in the process: the same rules for
 * versions, messages and threads.
 *
 * Options are "name=value" lines: rows of dp_feed_opts (but domains), which are asked of the server, and
 *   start=SAMPLE  slots=N  meta=cu_seqlens,positions,...|all  reconnect=TIME  compress=LEVEL
 *   token_file=FILE  token=TEXT  tls=true  tls_ca=FILE  tls_cert=FILE  tls_key=FILE  tls_host=NAME
 * with the meaning of trainer_feed/feed_client.h. */
#ifndef DP_DAEMON_FEED_CLIENT_ABI_H
#define DP_DAEMON_FEED_CLIENT_ABI_H

#include "trainer_feed/feed_client.h"

struct dp_feed_client_abi;
/* state: DP_FEED_ABI_STATE_BYTES of an earlier run, or NULL; then start isn't read. */
int dp_feed_client_abi_open(struct dp_feed_client_abi **out, const char *addr, const char *options, const void *state, size_t state_bytes, char *msg,
                            size_t msg_cap);
void dp_feed_client_abi_close(struct dp_feed_client_abi *h); /* NULL is fine */

/* In this order; returns how many there are, and fills up to n of them. */
enum dp_feed_client_abi_number {
    DP_FEED_CLIENT_ABI_SEQ_LEN,
    DP_FEED_CLIENT_ABI_BATCH,
    DP_FEED_CLIENT_ABI_RANK,
    DP_FEED_CLIENT_ABI_WORLD,
    DP_FEED_CLIENT_ABI_SAMPLES,
    DP_FEED_CLIENT_ABI_TOKENS,
    DP_FEED_CLIENT_ABI_DOCUMENTS,
    DP_FEED_CLIENT_ABI_VOCAB_SIZE,
    DP_FEED_CLIENT_ABI_EOT,
    DP_FEED_CLIENT_ABI_PAD,
    DP_FEED_CLIENT_ABI_META, /* DP_FEED_META_... that come */
    DP_FEED_CLIENT_ABI_SLOTS,
    DP_FEED_CLIENT_ABI_READY, /* batches that lie finished */
    DP_FEED_CLIENT_ABI_RECONNECTS,
    DP_FEED_CLIENT_ABI_SAMPLE, /* the cursor */
    DP_FEED_CLIENT_ABI_NUMBERS
};
size_t dp_feed_client_abi_numbers(const struct dp_feed_client_abi *h, int64_t *number, size_t n);

/* The next batch, where it lies until the next call: *ids is int32 [batch][T + 1]; array[6] gets cu_seqlens, segments, positions, loss_mask, domain,
 * sample as struct dp_feed_meta has them, NULL what wasn't asked for. first and next: global samples of this step and of the one behind it. */
int dp_feed_client_abi_next(struct dp_feed_client_abi *h, const int32_t **ids, const void **array, uint64_t *first, uint64_t *next, char *msg,
                            size_t msg_cap);
/* The same, with ids as a trainer's embedding and loss take them: int64 [batch][T] of each, the caller's. */
int dp_feed_client_abi_next_pair(struct dp_feed_client_abi *h, int64_t *inputs, int64_t *targets, const void **array, uint64_t *first, uint64_t *next,
                                 char *msg, size_t msg_cap);
/* For a checkpoint: DP_FEED_ABI_STATE_BYTES, behind the batch that was given out last. */
void dp_feed_client_abi_state(const struct dp_feed_client_abi *h, void *state);
/* From any thread: what waits, and every later call, ends with DP_STOPPED within 200 ms. */
void dp_feed_client_abi_stop(struct dp_feed_client_abi *h);

#endif
