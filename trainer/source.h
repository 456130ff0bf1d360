/* trainer/source.h - where a run's rows come from: a feed over shards, or a bare file of token ids.
 *
 * A row is a function of its number, so a run needs to remember one number only. A bare file is
 * little-endian uint16 (.u16, .bin: what nanoGPT writes) or uint32 (.u32) ids without documents; its
 * rows are drawn by DP_DRAW_ORDER, row r beginning at id r*seq_len, by DP_DRAW_ROWS, at r*(seq_len+1)
 * (what `dpipe feed --dump` cuts), both from the first again behind the last, or by DP_DRAW_HASH, which is the order of the reference curve in ../data/trainer:
 * row r begins at splitmix64's first output from state 2^48 + r, modulo (ids - seq_len - 1).
 * Files are mapped. Thread-safety: dp_source_row only reads. */
#ifndef DP_TRAINER_SOURCE_H
#define DP_TRAINER_SOURCE_H

#include "base/buf.h"
#include "base/err.h"
#include "trainer_feed/feed.h"

enum dp_source_draw { DP_DRAW_ORDER, DP_DRAW_ROWS, DP_DRAW_HASH };

struct dp_source;
/* `documents`: rows mark where documents begin (dp_train_mark), for a trainer that keeps them apart. */
int dp_source_open_feed(struct dp_source **out, const char *manifest, const struct dp_feed_options *o,
                        bool documents, struct dp_err *e);
/* Whether the name is one of a bare file. */
bool dp_source_is_bare(const char *path);
/* DP_CORRUPT when the file is no whole number of ids or too short for a row. Ids are not looked at:
 * the trainer checks each row. */
int dp_source_open_bare(struct dp_source **out, const char *path, uint32_t vocab, int64_t seq_len,
                        int draw, struct dp_err *e);
void dp_source_close(struct dp_source *s); /* NULL is fine */

/* ids[seq_len + 1] of a row, as dp_trainer_step takes them: targets that the packing masks (padding
 * and joints of bestfit, joints of documents that are marked) are ~id. */
int dp_source_row(const struct dp_source *s, uint64_t row, int32_t *ids, struct dp_err *e);
uint64_t dp_source_rows(const struct dp_source *s); /* of an epoch */
uint64_t dp_source_tokens(const struct dp_source *s);
uint32_t dp_source_vocab(const struct dp_source *s);
const char *dp_source_name(const struct dp_source *s);
/* The feed; NULL for a bare file. */
const struct dp_feed *dp_source_feed(const struct dp_source *s);

/* What a checkpoint says of the data and the place in them, as text. */
int dp_source_state(const struct dp_source *s, uint64_t next_row, struct dp_buf *out, struct dp_err *e);
/* Go on where a state says. DP_CONFIG names the difference when the data, or what gives row numbers
 * their meaning, are others; DP_CORRUPT for a text that is no state. */
int dp_source_resume(struct dp_source *s, struct dp_span state, uint64_t *next_row, struct dp_err *e);

/* The documents of a row, for people and JSON: appends [{"shard":..,"document":..,"id":..},...], at most
 * `most`; of a bare file the place of its first id. */
int dp_source_documents(const struct dp_source *s, uint64_t row, size_t most, struct dp_buf *out,
                        struct dp_err *e);

#endif
