/* base/nfc.c - NFC by quick check.
 *
 * A character that is a starter and Quick_Check=Yes never changes and never composes with what stands before it. So text is copied
 * until a character fails that test; the piece from the safe character before it to the next safe one is decomposed, ordered
 * and composed. Ordering is a stable counting sort for long runs of marks: insertion would be quadratic on hostile text. */
#include "base/nfc.h"

#include "base/unicode.h"
#include "base/utf8.h"

#include <stdlib.h>

enum { S_BASE = 0xAC00, L_BASE = 0x1100, V_BASE = 0x1161, T_BASE = 0x11A7, L_COUNT = 19, V_COUNT = 21, T_COUNT = 28,
       S_COUNT = L_COUNT * V_COUNT * T_COUNT, DECOMP_MAX = 4 };

/* Characters with a combining class that Unicode 9 hasn't got. */
static const uint32_t later[][2] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},     {0xC3C, 0xC3C},     {0xD3B, 0xD3C},
    {0xEBA, 0xEBA},     {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},   {0xA82C, 0xA82C},   {0x10D24, 0x10D27},
    {0x10EAB, 0x10EAC}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E},
    {0x11839, 0x1183A}, {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47},
    {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x16FF0, 0x16FF1}, {0x1E130, 0x1E136},
    {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF},
};
enum { LATER_COMPOSED = 0x11938 }; /* the one composition since */

static unsigned class_of(const struct dp_nfc *n, uint32_t c)
{
    unsigned cc = dp_uni_class(c);
    for (size_t i = 0; cc && n->unicode9 && i < sizeof later / sizeof *later && later[i][0] <= c; i++)
        if (c <= later[i][1]) return 0;
    return cc;
}

static const char *slow_char(const char *p, const char *e)
{
    while (p < e) {
        p += dp_utf8_ascii_len(p, (size_t)(e - p));
        while (p < e && (unsigned char)*p >= 0x80) {
            const char *q = p;
            if (dp_uni(dp_utf8_next(&q)) & DP_UNI_NFC_SLOW) return p;
            p = q;
        }
    }
    return e;
}

bool dp_nfc_quick(struct dp_span s)
{
    return slow_char(s.ptr, s.ptr + s.len) == s.ptr + s.len;
}

static size_t decompose(const struct dp_nfc *n, uint32_t c, uint32_t *out)
{
    if (c - S_BASE < S_COUNT) {
        uint32_t s = c - S_BASE, t = s % T_COUNT;
        out[0] = L_BASE + s / (V_COUNT * T_COUNT);
        out[1] = V_BASE + s % (V_COUNT * T_COUNT) / T_COUNT;
        out[2] = T_BASE + t;
        return t ? 3 : 2;
    }
    size_t lo = 0, hi = DP_UNI_DECOMPS;
    if (c == LATER_COMPOSED && n->unicode9) hi = 0;
    while (c >= 0xC0 && lo < hi) {
        size_t mid = (lo + hi) / 2;
        const struct dp_uni_decomp *d = &dp_uni_decomp[mid];
        if (d->cp == c) {
            for (unsigned i = 0; i < d->len; i++) out[i] = dp_uni_pool[d->at + i];
            return d->len;
        }
        if (d->cp < c) lo = mid + 1;
        else hi = mid;
    }
    out[0] = c;
    return 1;
}

static uint32_t compose(const struct dp_nfc *n, uint32_t a, uint32_t b)
{
    if (a - L_BASE < L_COUNT && b - V_BASE < V_COUNT) return S_BASE + ((a - L_BASE) * V_COUNT + b - V_BASE) * T_COUNT;
    if (a - S_BASE < S_COUNT && (a - S_BASE) % T_COUNT == 0 && b - T_BASE - 1 < T_COUNT - 1) return a + b - T_BASE;
    size_t lo = 0, hi = DP_UNI_COMPS;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        const struct dp_uni_comp *c = &dp_uni_comp[mid];
        if (c->first == a && c->second == b) return c->composed == LATER_COMPOSED && n->unicode9 ? 0 : c->composed;
        if (c->first < a || (c->first == a && c->second < b)) lo = mid + 1;
        else hi = mid;
    }
    return 0;
}

/* Order a run of marks by combining class, stably. */
static void order(const struct dp_nfc *nfc, uint32_t *p, size_t n, uint32_t *spare)
{
    if (n <= 24) {
        for (size_t i = 1; i < n; i++) {
            uint32_t c = p[i];
            size_t k = i;
            for (unsigned cc = class_of(nfc, c); k > 0 && class_of(nfc, p[k - 1]) > cc; k--) p[k] = p[k - 1];
            p[k] = c;
        }
        return;
    }
    size_t at[257] = {0};
    for (size_t i = 0; i < n; i++) at[class_of(nfc, p[i]) + 1]++;
    for (int i = 0; i < 256; i++) at[i + 1] += at[i];
    for (size_t i = 0; i < n; i++) spare[at[class_of(nfc, p[i])]++] = p[i];
    memcpy(p, spare, n * sizeof *p);
}

static size_t compose_all(const struct dp_nfc *nfc, uint32_t *p, size_t n)
{
    size_t out = 0, starter = SIZE_MAX;
    unsigned last = 0; /* class of the character kept before, when not the starter itself */
    for (size_t i = 0; i < n; i++) {
        uint32_t c = p[i];
        unsigned cc = class_of(nfc, c);
        bool adjacent = starter != SIZE_MAX && starter + 1 == out;
        if (starter != SIZE_MAX && (adjacent || (last < cc && last))) {
            uint32_t made = compose(nfc, p[starter], c);
            if (made) {
                p[starter] = made;
                continue;
            }
        }
        if (cc == 0) starter = out;
        last = cc;
        p[out++] = c;
    }
    return out;
}

static int slow(struct dp_nfc *n, const char *p, const char *e, struct dp_buf *out)
{
    size_t need = (size_t)(e - p) * 2 + DECOMP_MAX; /* the densest: two bytes to four characters */
    if (need > n->cap) {
        free(n->cp);
        free(n->spare);
        n->cap = 0;
        n->cp = malloc(need * sizeof *n->cp);
        n->spare = malloc(need * sizeof *n->spare);
        if (!n->cp || !n->spare) return DP_NOMEM;
        n->cap = need;
    }
    size_t k = 0, marks = 0;
    while (p < e) k += decompose(n, dp_utf8_next(&p), n->cp + k);
    for (size_t i = 0; i <= k; i++) {
        if (i < k && class_of(n, n->cp[i])) {
            marks++;
            continue;
        }
        if (marks > 1) order(n, n->cp + i - marks, marks, n->spare);
        marks = 0;
    }
    k = compose_all(n, n->cp, k);
    char *to = dp_buf_reserve(out, k * 4);
    if (!to) return DP_OK;
    size_t len = 0;
    for (size_t i = 0; i < k; i++) len += dp_utf8_put(n->cp[i], to + len);
    out->len += len;
    out->ptr[out->len] = 0;
    return DP_OK;
}

int dp_nfc(struct dp_nfc *n, struct dp_span s, struct dp_buf *out)
{
    const char *p = s.ptr, *e = p + s.len;
    while (p < e) {
        const char *q = slow_char(p, e), *from = q;
        if (q == e) {
            dp_buf_add(out, p, (size_t)(e - p));
            break;
        }
        if (from > p) dp_utf8_prev(&from);
        while (q < e) {
            const char *r = q;
            if (!(dp_uni(dp_utf8_next(&r)) & DP_UNI_NFC_SLOW)) break;
            q = r;
        }
        dp_buf_add(out, p, (size_t)(from - p));
        int rc = slow(n, from, q, out);
        if (rc < 0) return rc;
        p = q;
    }
    return DP_OK;
}

void dp_nfc_release(struct dp_nfc *n)
{
    free(n->cp);
    free(n->spare);
    memset(n, 0, sizeof *n);
}
