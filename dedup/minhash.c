/* Design. Full MinHash, every shingle into every slot: at 112 slots and 8 or 16 lanes it costs 1.4-3 ns a shingle at every
 * document length. One-permutation hashing with densification is only faster past ~800 shingles and
 * pays ~1 us a document below. 32-bit multiply-add instead of mod 2^61-1: 60x faster, no bias seen (tests/unit/test_minhash.c).
 * The scalar kernels here are the specification. */
#include "dedup/minhash.h"

#include "base/cpu.h"
#include "base/hash.h"

#include <string.h>

void dp_minhash_scalar(uint32_t *slots, const uint32_t *a, const uint32_t *b, size_t k, const uint32_t *x, size_t n)
{
    for (size_t j = 0; j < k; j++) {
        uint32_t m = slots[j];
        for (size_t i = 0; i < n; i++) {
            uint32_t v = a[j] * x[2 * i] + b[j];
            m = v < m ? v : m;
        }
        slots[j] = m;
    }
}

uint32_t dp_agree_scalar(const uint16_t *p, const uint16_t *q, size_t k)
{
    uint32_t n = 0;
    for (size_t j = 0; j < k; j++) n += p[j] == q[j];
    return n;
}

void dp_minhash_dsp_init(struct dp_minhash_dsp *d)
{
    *d = (struct dp_minhash_dsp){dp_minhash_scalar, dp_agree_scalar};
    if (dp_cpu() >= DP_CPU_AVX2) *d = (struct dp_minhash_dsp){dp_minhash_avx2, dp_agree_avx2};
    if (dp_cpu() >= DP_CPU_AVX512) *d = (struct dp_minhash_dsp){dp_minhash_avx512, dp_agree_avx512};
}

int dp_sig_params_check(const struct dp_sig_params *p, struct dp_err *e)
{
    uint64_t slots = (uint64_t)p->bands * p->rows;
    if (slots < 1 || slots > DP_MINHASH_SLOTS_MAX)
        DP_FAIL(e, CONFIG, "%u bands of %u rows are %llu signature slots: 1 to %d are possible", p->bands, p->rows,
                (unsigned long long)slots, DP_MINHASH_SLOTS_MAX);
    if (p->shingle < 1 || p->shingle > DP_SHINGLE_MAX)
        DP_FAIL(e, CONFIG, "a shingle of %u words: 1 to %d are possible", p->shingle, DP_SHINGLE_MAX);
    return DP_OK;
}

int dp_minhash_init(struct dp_minhash *m, const struct dp_sig_params *p, struct dp_err *e)
{
    DP_TRY(dp_sig_params_check(p, e));
    memset(m, 0, sizeof *m);
    m->params = *p;
    m->slots = p->bands * p->rows;
    m->half = (m->slots + 1) / 2;
    dp_minhash_dsp_init(&m->dsp);
    uint64_t state = p->seed;
    for (uint32_t j = 0; j < m->slots; j++) {
        uint64_t r = dp_splitmix64(&state);
        uint32_t side = j >= m->half, at = side ? j - m->half : j;
        m->a[side][at] = (uint32_t)(r >> 32) | 1;
        m->b[side][at] = (uint32_t)r;
    }
    return DP_OK;
}

struct update {
    const struct dp_minhash *m;
    struct dp_minhash_scratch *s;
};

static void update(void *v, const uint64_t *hashes, size_t n)
{
    const struct update *u = v;
    const struct dp_minhash *m = u->m;
    const uint32_t *x = (const uint32_t *)(const void *)hashes; /* low half first: little endian */
    m->dsp.update(u->s->slots[0], m->a[0], m->b[0], m->half, x + 1, n);
    if (m->slots > m->half) m->dsp.update(u->s->slots[1], m->a[1], m->b[1], m->slots - m->half, x, n);
}

uint64_t dp_minhash_text(const struct dp_minhash *m, struct dp_minhash_scratch *s, struct dp_span text, uint32_t *out)
{
    struct update u = {m, s};
    size_t room = (m->half + DP_MINHASH_PAD) * sizeof s->slots[0][0];
    memset(s->slots[0], 0xff, room);
    memset(s->slots[1], 0xff, room);
    uint64_t words = dp_shingle(&s->shingler, text, m->params.shingle, m->params.fold_digits, update, &u);
    if (!words) return 0;
    memcpy(out, s->slots[0], m->half * sizeof *out);
    memcpy(out + m->half, s->slots[1], (m->slots - m->half) * sizeof *out);
    return words;
}

uint64_t dp_minhash_band(const uint32_t *slots, uint32_t rows, uint32_t band)
{
    return dp_hash64(slots + (size_t)band * rows, rows * sizeof *slots, band);
}
