/* trainer_feed/feed_internal.h - what an open feed is made of; for feed.c, feed_row.c and feed_meta.c alone. */
#ifndef DP_TRAINER_FEED_FEED_INTERNAL_H
#define DP_TRAINER_FEED_FEED_INTERNAL_H

#include "trainer_feed/feed.h"
#include "trainer_feed/feed_docs.h"
#include "trainer_feed/feed_index.h"
#include "trainer_feed/feed_mix.h"
#include "trainer_feed/feed_order.h"
#include "trainer_feed/feed_pack.h"
#include "trainer_feed/feed_widen.h"

#define DP_FEED_SAMPLE_MAX (UINT64_C(1) << 62)

/* The rows that a prefix of a manifest gives. */
struct dp_feed_layout {
    struct dp_manifest *m;
    struct dp_feed_docs docs;
    bool packed;
    struct dp_feed_index ix;  /* concat */
    struct dp_feed_pack pack; /* bestfit */
    uint64_t rows;
};

struct dp_feed_source {
    char *name, *path;
    struct dp_feed_select select;
    uint64_t seed;
    struct dp_feed_layout *old; /* of epochs before turn_epoch; NULL: there were none, or none is known any more */
    struct dp_feed_layout *now;
    uint64_t turn_draw, turn_epoch; /* where `now` begins */
};

/* The permutation of an epoch; its key schedule is redone only when the epoch changes. */
struct dp_feed_epoch {
    const struct dp_feed_layout *layout;
    uint64_t epoch;
    struct dp_feed_order order;
};

struct dp_feed {
    struct dp_feed_options o; /* strings NULL */
    size_t domains;
    struct dp_feed_source *domain; /* ascending names */
    char *mixture;
    struct dp_feed_mix mix; /* of more than one domain */
    struct dp_shard_meta meta;
    struct dp_feed_widen widen;
    struct dp_feed_epoch *epoch; /* [domains]: the cursor's */
    uint64_t cursor, floor;
    int32_t pad;
};

/* A sample's row, and the piece of it that is at hand. */
struct dp_feed_row {
    const struct dp_feed_layout *layout;
    size_t domain;
    uint64_t epoch, index, row; /* row: p(index) */
    uint64_t pos, left;         /* concat: in the stream; ids from this piece on */
    struct dp_feed_pieces piece;
};
/* `cache` [domains] may be NULL. */
int dp_feed_row_find(const struct dp_feed *f, uint64_t sample, struct dp_feed_epoch *cache, struct dp_feed_row *r, struct dp_err *e);
/* To the first piece, and to the next; false behind the last. */
void dp_feed_row_begin(const struct dp_feed *f, struct dp_feed_row *r);
bool dp_feed_row_next(const struct dp_feed *f, struct dp_feed_row *r);
/* All of it, from dp_feed_row_begin, as int32 (width 4) or uint16 (width 2). With skip, *r may become another row. */
int dp_feed_row_copy(const struct dp_feed *f, struct dp_feed_row *r, void *ids, size_t width, struct dp_err *e);
/* That *r is readable, or another row is found that is: what dp_feed_row_copy does, without the copy. */
int dp_feed_row_settle(const struct dp_feed *f, struct dp_feed_row *r, struct dp_err *e);

/* dp_feed_next_meta; ids or m may be NULL. Width 4: ids are int32; width 2: uint16, as shards of dtype u16 have them, so that who sends them
 * elsewhere moves half the bytes. */
int dp_feed_rows(struct dp_feed *f, void *ids, size_t width, const struct dp_feed_meta *m, struct dp_err *e);

/* feed_meta.c: of a row that was copied or settled, which is global sample `sample` and the b-th of the batch. */
void dp_feed_row_meta(const struct dp_feed *f, uint64_t sample, struct dp_feed_row *r, const struct dp_feed_meta *out, uint64_t b);

/* feed_options.c */
int dp_feed_options_check(const struct dp_feed_options *o, struct dp_err *e);
const char *dp_feed_split_name(int split);

#endif
