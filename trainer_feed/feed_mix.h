/* trainer_feed/feed_mix.h - which domain a global sample is drawn from, and which draw of it that is.
 *
 * A mixture is a list of stages, each from a global sample number on, with a whole-number weight for every domain. Both
 * questions are answered in closed form, without a list and without looking at earlier samples: a stage's samples are
 * dealt out by a tree of two-way splits, each a Beatty sequence,
 *
 *     left(n) = floor((n * A + phase) / M)   of the first n samples go left, A of M being the left side's weight,
 *
 * so that sample n goes left when left(n + 1) > left(n). Hence any M consecutive samples of a stage, M the reduced sum of
 * its weights, hold exactly the weights' shares (whatever their start), every prefix is within log2(domains) + 1 samples of
 * its share, and draws of a domain are numbered in the order of samples. docs/formats/feed_order.md is the specification.
 *
 * Text: stages separated by `;`, each `[START:]NAME=WEIGHT[,NAME=WEIGHT]...`, as "a=0.7,b=0.3; 100000:a=0.2,b=0.8". Weights
 * are decimals with at most 9 digits behind the point, taken exactly; `2e` means 2 epochs of the domain, and a stage has
 * weights or epochs, not both. A domain that a stage doesn't name has weight 0 in it.
 * Limits: 64 domains, 256 stages. Memory: 1 KiB a stage. Thread-safety: read-only once made. */
#ifndef DP_TRAINER_FEED_FEED_MIX_H
#define DP_TRAINER_FEED_FEED_MIX_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DP_FEED_DOMAINS_MAX = 64, DP_FEED_STAGES_MAX = 256 };

struct dp_feed_stage {
    uint64_t start;                        /* first global sample */
    uint64_t sum[DP_FEED_DOMAINS_MAX + 1]; /* of the weights of the domains before */
    uint64_t before[DP_FEED_DOMAINS_MAX];  /* draws of each domain in earlier stages */
};

struct dp_feed_mix {
    size_t domains, stages;
    struct dp_feed_stage *stage;
    uint64_t key;
    uint64_t pass;  /* by epochs: samples until the last stage's epochs are done; else 0 */
    bool by_epochs; /* some weight comes from a domain's size */
};

/* Domains are numbered as names[] has them; rows[d] is what an epoch of each has. Text NULL: one epoch of each. DP_CONFIG
 * names the part of the text. */
int dp_feed_mix_open(struct dp_feed_mix *m, const char *text, const char *const *names, const uint64_t *rows,
                     size_t domains, uint64_t seed, struct dp_err *e);
void dp_feed_mix_release(struct dp_feed_mix *m);
/* The domain of global sample g < 2^62; *draw is the number of its earlier draws. */
size_t dp_feed_mix_at(const struct dp_feed_mix *m, uint64_t g, uint64_t *draw);
/* Draws of domain d among the samples before g. */
uint64_t dp_feed_mix_draws(const struct dp_feed_mix *m, uint64_t g, size_t d);
/* Equal for equal stages and weights. */
uint64_t dp_feed_mix_hash(const struct dp_feed_mix *m);

#endif
