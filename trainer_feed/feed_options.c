#include "trainer_feed/feed_internal.h"

#include <inttypes.h>

#define OFF(field) offsetof(struct dp_feed_options, field)
const struct dp_opt dp_feed_opts[] = {
    {"seq_len", DP_OPT_INT, OFF(seq_len), "1024", 1, 1 << 24, NULL, "T", "Ids a row is trained on; rows have one more.", 0, 0},
    {"batch", DP_OPT_INT, OFF(batch), "8", 1, 1 << 20, NULL, "N", "Rows of a batch on one rank.", 0, 0},
    {"seed", DP_OPT_INT, OFF(seed), "0", 0, 0, NULL, "N", "Key of the order of samples.", 0, 0},
    {"split", DP_OPT_CHOICE, OFF(split), "train", 0, 0, "train|val|test", "NAME", "Which documents to read.", 0, 0},
    {"val_fraction", DP_OPT_REAL, OFF(val_fraction), "0.01", 0, 1, NULL, "X", "Share of documents kept for validation.", 0, 0},
    {"test_fraction", DP_OPT_REAL, OFF(test_fraction), "0", 0, 1, NULL, "X", "Share of documents kept for a last test.", 0, 0},
    {"rank", DP_OPT_INT, OFF(rank), "0", 0, 1 << 20, NULL, "R", "Number of this process among world.", 0, DP_OPT_NOKEY},
    {"world", DP_OPT_INT, OFF(world), "1", 1, 1 << 20, NULL, "N", "Processes that share each step.", 0, 0},
    {"shuffle", DP_OPT_BOOL, OFF(shuffle), "true", 0, 0, NULL, NULL, "Permute the samples of every epoch.", 0, 0},
    {"pack", DP_OPT_CHOICE, OFF(pack), "concat", 0, 0, "concat|bestfit", "HOW",
     "Rows: cut from the stream of documents, or filled with whole documents where they fit.", 0, 0},
    {"loss_mask", DP_OPT_CHOICE, OFF(loss_mask), "boundaries", 0, 0, "boundaries|padding|nothing", "WHAT",
     "What loss masks leave out: padding and first ids of documents, padding alone, or nothing.", 0, 0},
    {"domains", DP_OPT_LIST, OFF(domains), NULL, 0, 0, NULL, "NAME=FROM,...",
     "Named sets of documents: a manifest file, a workspace folder, or source:GLOB, the files of this workspace that match.", 0, 0},
    {"mixture", DP_OPT_STRING, OFF(mixture), NULL, 0, 0, NULL, "NAME=WEIGHT,...",
     "Shares of the domains, as a=0.7,b=0.3, or epochs, as a=2e,b=1e; with stages: a=0.7,b=0.3; SAMPLE:a=0.2,b=0.8.", 0, 0},
    {"on_bad", DP_OPT_CHOICE, OFF(on_bad), "stop", 0, 0, "stop|skip", "WHAT",
     "At a shard that is missing or fails its checksum: stop, or put other rows in its rows' place.", 0, 0},
    {"check", DP_OPT_BOOL, OFF(check), "false", 0, 0, NULL, NULL, "Test each frame's checksum when it is first read (with skip: always).", 0,
     DP_OPT_NOKEY},
    DP_OPT_END,
};

void dp_feed_options_init(struct dp_feed_options *o)
{
    *o = (struct dp_feed_options){.seq_len = 1024, .batch = 8, .val_fraction = 0.01, .world = 1, .shuffle = true};
}

const char *dp_feed_split_name(int split)
{
    return split == DP_FEED_VAL ? "val" : split == DP_FEED_TEST ? "test" : "train";
}

static int check_range(const char *name, int64_t x, int64_t min, int64_t max, struct dp_err *e)
{
    if (x < min || x > max) DP_FAIL(e, CONFIG, "feed: %s %" PRId64 " is outside %" PRId64 " to %" PRId64, name, x, min, max);
    return DP_OK;
}

int dp_feed_options_check(const struct dp_feed_options *o, struct dp_err *e)
{
    DP_TRY(check_range("seq_len", o->seq_len, 1, 1 << 24, e));
    DP_TRY(check_range("batch", o->batch, 1, 1 << 20, e));
    DP_TRY(check_range("world", o->world, 1, 1 << 20, e));
    if (o->rank < 0 || o->rank >= o->world)
        DP_FAIL(e, CONFIG, "feed: rank %" PRId64 " is outside 0 to %" PRId64 " (world %" PRId64 ")", o->rank, o->world - 1, o->world);
    if (o->split < DP_FEED_TRAIN || o->split > DP_FEED_TEST) DP_FAIL(e, CONFIG, "feed: split %d is neither train, val nor test", o->split);
    if (!(o->val_fraction >= 0 && o->val_fraction <= 1))
        DP_FAIL(e, CONFIG, "feed: val_fraction %g is outside 0 to 1", o->val_fraction);
    if (!(o->test_fraction >= 0 && o->test_fraction <= 1))
        DP_FAIL(e, CONFIG, "feed: test_fraction %g is outside 0 to 1", o->test_fraction);
    if (o->val_fraction + o->test_fraction > 1)
        DP_FAIL(e, CONFIG, "feed: val_fraction %g and test_fraction %g are over 1 together", o->val_fraction, o->test_fraction);
    DP_TRY(check_range("pack", o->pack, DP_FEED_CONCAT, DP_FEED_BESTFIT, e));
    DP_TRY(check_range("loss_mask", o->loss_mask, DP_FEED_MASK_BOUNDARIES, DP_FEED_MASK_NOTHING, e));
    DP_TRY(check_range("on_bad", o->on_bad, DP_FEED_STOP, DP_FEED_SKIP, e));
    if (o->pack == DP_FEED_BESTFIT && o->seq_len > DP_FEED_PACK_LEN_MAX)
        DP_FAIL(e, CONFIG, "feed: seq_len %" PRId64 " is over 1048576, the most that pack bestfit takes", o->seq_len);
    return DP_OK;
}
