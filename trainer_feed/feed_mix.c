/* Why not a keyed permutation of a block of samples: within a block draws would come out of order, so an epoch's end, and
 * with it live growth, would have no sample number; and a batch smaller than the block would have a random share. The splits
 * cost one or two divisions a level, nothing beside a row's copy. */
#include "trainer_feed/feed_mix.h"

#include "base/search.h"

#include "base/hash.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLE_MAX (UINT64_C(1) << 62)
__extension__ typedef unsigned __int128 wide; /* GCC's and clang's; the only typedef that saves a word */

enum { FRACTION_DIGITS = 9 };
#define FRACTION_ONE UINT64_C(1000000000)
#define WEIGHT_MAX UINT64_C(1000000)

/* --- text --- */

struct weight {
    uint64_t value; /* times FRACTION_ONE */
    bool epochs, given;
};

struct parser {
    const char *text, *at;
    const char *const *names;
    size_t domains;
    struct dp_err *e;
};

static void blanks(struct parser *p)
{
    while (*p->at == ' ' || *p->at == '\t' || *p->at == '\n') p->at++;
}

static int bad(struct parser *p, const char *at, const char *what)
{
    DP_FAIL(p->e, CONFIG, "feed: mixture \"%.200s\", at character %zu: %s", p->text, (size_t)(at - p->text) + 1, what);
}

static int parse_name(struct parser *p, size_t *d)
{
    const char *from = p->at;
    while (isalnum((unsigned char)*p->at) || *p->at == '_' || *p->at == '-' || *p->at == '.') p->at++;
    size_t n = (size_t)(p->at - from);
    if (!n) return bad(p, from, "a domain's name is expected");
    for (*d = 0; *d < p->domains; ++*d)
        if (strlen(p->names[*d]) == n && memcmp(p->names[*d], from, n) == 0) return DP_OK;
    DP_FAIL(p->e, CONFIG, "feed: mixture names a domain %.*s that there isn't; give it in domains", (int)n, from);
}

static int parse_weight(struct parser *p, struct weight *w)
{
    const char *from = p->at;
    uint64_t whole = 0, part = 0, unit = FRACTION_ONE;
    while (isdigit((unsigned char)*p->at) && whole <= WEIGHT_MAX) whole = whole * 10 + (uint64_t)(*p->at++ - '0');
    bool digits = p->at > from;
    if (*p->at == '.')
        for (p->at++; isdigit((unsigned char)*p->at); p->at++) {
            if (unit == 1) return bad(p, from, "more than 9 digits behind the point");
            unit /= 10;
            part += unit * (uint64_t)(*p->at - '0');
            digits = true;
        }
    if (!digits) return bad(p, from, "a weight is expected, as 0.5, or epochs, as 2e");
    if (whole > WEIGHT_MAX || (whole == WEIGHT_MAX && part)) return bad(p, from, "over 1000000");
    *w = (struct weight){whole * FRACTION_ONE + part, *p->at == 'e', true};
    p->at += w->epochs;
    return DP_OK;
}

static int parse_stage(struct parser *p, uint64_t *start, struct weight *w)
{
    blanks(p);
    const char *from = p->at;
    size_t digits = strspn(p->at, "0123456789");
    *start = 0;
    if (digits && p->at[digits] == ':') {
        for (; *p->at != ':'; p->at++) {
            *start = *start * 10 + (uint64_t)(*p->at - '0');
            if (*start >= SAMPLE_MAX) return bad(p, from, "the sample number is past 2^62");
        }
        p->at++;
    }
    bool any = false, epochs = false;
    for (;;) {
        size_t d = 0;
        blanks(p);
        const char *item = p->at;
        DP_TRY(parse_name(p, &d));
        if (w[d].given) return bad(p, item, "the domain stands twice in this stage");
        blanks(p);
        if (*p->at++ != '=') return bad(p, p->at - 1, "= is expected");
        blanks(p);
        DP_TRY(parse_weight(p, &w[d]));
        if (any && epochs != w[d].epochs)
            return bad(p, item, "a stage has weights or epochs, not both; their ratio would be anyone's guess");
        any = true;
        epochs = w[d].epochs;
        blanks(p);
        if (*p->at != ',') break;
        p->at++;
    }
    return *p->at == ';' || !*p->at ? DP_OK : bad(p, p->at, "a comma, a semicolon or the end is expected");
}

/* --- weights to whole numbers --- */

static wide gcd(wide a, wide b)
{
    while (b) {
        wide r = a % b;
        a = b;
        b = r;
    }
    return a;
}

static int set_weights(struct dp_feed_mix *m, const struct weight *w, const uint64_t *rows, struct dp_err *e)
{
    struct dp_feed_stage *s = &m->stage[m->stages - 1];
    wide value[DP_FEED_DOMAINS_MAX], common = 0, sum = 0, total = 0;
    bool epochs = false;
    for (size_t d = 0; d < m->domains; d++) {
        value[d] = w[d].epochs ? (wide)w[d].value * rows[d] : w[d].value;
        epochs = epochs || w[d].epochs;
        common = gcd(common, value[d]);
        total += value[d];
    }
    if (!common) DP_FAIL(e, CONFIG, "feed: all weights of the stage from sample %" PRIu64 " are 0", s->start);
    for (size_t d = 0; d < m->domains; d++) {
        sum += value[d] / common;
        if (sum >= SAMPLE_MAX)
            DP_FAIL(e, CONFIG, "feed: the epochs of the stage from sample %" PRIu64 " have no small common ratio; use fewer digits",
                    s->start);
        s->sum[d + 1] = (uint64_t)sum;
    }
    m->by_epochs = m->by_epochs || epochs;
    m->pass = epochs ? s->start + (uint64_t)(total / FRACTION_ONE) : 0;
    if (epochs && !m->pass) m->pass = 1;
    return DP_OK;
}

/* --- counting --- */

/* Of n samples of a node of the tree, those that go left; *left: whether the next does. */
static uint64_t split(const struct dp_feed_mix *m, size_t stage, uint64_t n, size_t lo, size_t mid, size_t hi, bool *left)
{
    const struct dp_feed_stage *s = &m->stage[stage];
    uint64_t all = s->sum[hi] - s->sum[lo], part = s->sum[mid] - s->sum[lo], rest, count;
    if (part == 0 || part == all) {
        *left = part != 0;
        return part ? n : 0;
    }
    uint64_t phase = dp_mix64(m->key + (uint64_t)stage * 65536 + lo * 256 + hi) % all;
    if (all < UINT64_C(1) << 31) {
        uint64_t t = n % all * part + phase;
        count = n / all * part + t / all;
        rest = t % all;
    } else {
        wide t = (wide)n * part + phase;
        count = (uint64_t)(t / all);
        rest = (uint64_t)(t % all);
    }
    *left = rest + part >= all;
    return count;
}

static uint64_t stage_draws(const struct dp_feed_mix *m, size_t stage, uint64_t n, size_t d)
{
    size_t lo = 0, hi = m->domains;
    while (hi - lo > 1) {
        size_t mid = (lo + hi) / 2;
        bool left;
        uint64_t k = split(m, stage, n, lo, mid, hi, &left);
        if (d < mid) hi = mid, n = k;
        else lo = mid, n -= k;
    }
    return n;
}

static size_t stage_of(const struct dp_feed_mix *m, uint64_t g)
{
    return dp_last_start(&m->stage->start, m->stages, sizeof *m->stage, g);
}

size_t dp_feed_mix_at(const struct dp_feed_mix *m, uint64_t g, uint64_t *draw)
{
    size_t i = stage_of(m, g), lo = 0, hi = m->domains;
    uint64_t n = g - m->stage[i].start;
    while (hi - lo > 1) {
        size_t mid = (lo + hi) / 2;
        bool left;
        uint64_t k = split(m, i, n, lo, mid, hi, &left);
        if (left) hi = mid, n = k;
        else lo = mid, n -= k;
    }
    *draw = m->stage[i].before[lo] + n;
    return lo;
}

uint64_t dp_feed_mix_draws(const struct dp_feed_mix *m, uint64_t g, size_t d)
{
    size_t i = stage_of(m, g);
    return m->stage[i].before[d] + stage_draws(m, i, g - m->stage[i].start, d);
}

/* --- making --- */

static int add_stage(struct dp_feed_mix *m, uint64_t start, const struct weight *w, const uint64_t *rows, struct dp_err *e)
{
    struct dp_feed_stage *p = realloc(m->stage, (m->stages + 1) * sizeof *p);
    if (!p) DP_FAIL(e, NOMEM, "feed: stages of the mixture");
    m->stage = p;
    p[m->stages++] = (struct dp_feed_stage){.start = start};
    if (m->stages > 1) {
        const struct dp_feed_stage *last = &p[m->stages - 2];
        for (size_t d = 0; d < m->domains; d++)
            p[m->stages - 1].before[d] = last->before[d] + stage_draws(m, m->stages - 2, start - last->start, d);
    }
    return set_weights(m, w, rows, e);
}

static int parse(struct dp_feed_mix *m, struct parser *p, const uint64_t *rows, struct dp_err *e)
{
    for (;; p->at++) {
        struct weight w[DP_FEED_DOMAINS_MAX] = {0};
        const char *from = p->at;
        uint64_t start;
        DP_TRY(parse_stage(p, &start, w));
        if (!m->stages && start) return bad(p, from, "the first stage begins at sample 0");
        if (m->stages && start <= m->stage[m->stages - 1].start) return bad(p, from, "stages begin at rising sample numbers, START:NAME=...");
        if (m->stages == DP_FEED_STAGES_MAX) return bad(p, from, "more than 256 stages");
        DP_TRY(add_stage(m, start, w, rows, e));
        if (!*p->at) return DP_OK;
    }
}

int dp_feed_mix_open(struct dp_feed_mix *m, const char *text, const char *const *names, const uint64_t *rows,
                     size_t domains, uint64_t seed, struct dp_err *e)
{
    *m = (struct dp_feed_mix){.domains = domains, .key = dp_mix64(seed ^ UINT64_C(0x6d69787475726573))};
    DP_ASSERT(domains >= 1 && domains <= DP_FEED_DOMAINS_MAX);
    int rc;
    if (text) {
        struct parser p = {text, text, names, domains, e};
        rc = parse(m, &p, rows, e);
    } else {
        struct weight w[DP_FEED_DOMAINS_MAX];
        for (size_t d = 0; d < domains; d++) w[d] = (struct weight){FRACTION_ONE, true, true};
        rc = add_stage(m, 0, w, rows, e);
    }
    if (rc < 0) dp_feed_mix_release(m);
    return rc;
}

void dp_feed_mix_release(struct dp_feed_mix *m)
{
    free(m->stage);
    *m = (struct dp_feed_mix){0};
}

uint64_t dp_feed_mix_hash(const struct dp_feed_mix *m)
{
    uint64_t h = m->domains;
    for (size_t i = 0; i < m->stages; i++) {
        h = dp_hash64(&m->stage[i].start, sizeof m->stage[i].start, h);
        h = dp_hash64(m->stage[i].sum, (m->domains + 1) * sizeof *m->stage[i].sum, h);
    }
    return h;
}
