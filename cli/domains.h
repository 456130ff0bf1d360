/* cli/domains.h - how much of each domain of a corpus is there and is taken.
 *
 * A text has a number, which its content and its place in its file give (dp_text_number): whether it is taken depends on that, on the seed and on
 * its domain's limit, and on nothing else. So a sample is the same for any order of files and any number of threads.
 * Memory: 32 KiB a domain while sizes are measured. Thread-safety: one owner. */
#ifndef DP_CLI_DOMAINS_H
#define DP_CLI_DOMAINS_H

#include "base/err.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

enum { DP_DOMAINS_MAX = 1024, DP_DOMAIN_NAME_MAX = 128, DP_DOMAIN_BUCKETS = 4096 };

struct dp_domain {
    char name[DP_DOMAIN_NAME_MAX];
    size_t name_len;
    uint64_t hash;
    uint64_t texts, bytes, taken_texts, taken_bytes;
    uint64_t limit;  /* texts with a lower number are taken; UINT64_MAX: all */
    double share;    /* of the mixture; 0: not in it */
    uint64_t *sizes; /* bytes by the number's upper bits, while they are measured */
};
struct dp_domains {
    struct dp_domain *v;
    size_t n, cap, last;
    uint16_t *map; /* index + 1 by hash */
    uint64_t limit; /* of a domain that isn't there yet */
};

void dp_domains_release(struct dp_domains *d);
/* The domain of this name (longer ones are cut), a new one where there is none; DP_LIMIT past DP_DOMAINS_MAX. */
int dp_domains_get(struct dp_domains *d, struct dp_span name, struct dp_domain **out, struct dp_err *e);
/* "web=0.7,code=0.3": sets shares, which are weights: their sum is free. DP_USAGE unless all are positive and named once. */
int dp_domains_mixture(struct dp_domains *d, const char *mixture, struct dp_err *e);
/* Add the counts and sizes of `from`. */
int dp_domains_add(struct dp_domains *d, const struct dp_domains *from, struct dp_err *e);
/* Names, shares and limits, without counts. */
int dp_domains_copy(struct dp_domains *to, const struct dp_domains *from, struct dp_err *e);
/* From measured sizes: limits so that bytes_max are taken in all (0: as many as the mixture allows), by the mixture or, without one, the same part of
 * every domain. A domain that has less than its share gives all; *short_of (may be NULL) is then its name. */
int dp_domains_limit(struct dp_domains *d, uint64_t bytes_max, bool mixture, const char **short_of, struct dp_err *e);
/* Every domain, now and later: this part of its texts. */
void dp_domains_fraction(struct dp_domains *d, double fraction);
void dp_domains_sort(struct dp_domains *d); /* by name; references from before are void */

/* "domains" of the report and of saved states. */
void dp_domains_json(const struct dp_domains *d, bool limits, struct dp_jsonw *w);
int dp_domains_restore(struct dp_domains *d, const struct dp_json *v, struct dp_err *e);

static inline uint64_t dp_text_number(struct dp_span text, uint64_t offset, uint64_t seed)
{
    return dp_hash64(text.ptr, text.len, dp_mix64(seed + UINT64_C(0x9e3779b97f4a7c15)) ^ dp_mix64(offset));
}

#endif
