#include "base/hash.h"

#include "base/cpu.h"

#include <openssl/evp.h>
#include <pthread.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <stdlib.h>

struct dp_hash128 dp_hash128(const void *p, size_t n)
{
    XXH128_hash_t h = XXH3_128bits(n ? p : "", n);
    return (struct dp_hash128){h.low64, h.high64};
}

struct dp_hasher {
    _Alignas(64) XXH3_state_t state;
};

int dp_hasher_open(struct dp_hasher **out, struct dp_err *e)
{
    *out = aligned_alloc(64, sizeof **out);
    if (!*out) DP_FAIL(e, NOMEM, "a hash");
    XXH3_128bits_reset(&(*out)->state);
    return DP_OK;
}

void dp_hasher_add(struct dp_hasher *h, const void *p, size_t n)
{
    if (n) XXH3_128bits_update(&h->state, p, n);
}

struct dp_hash128 dp_hasher_finish(struct dp_hasher *h)
{
    XXH128_hash_t v = XXH3_128bits_digest(&h->state);
    XXH3_128bits_reset(&h->state);
    return (struct dp_hash128){v.low64, v.high64};
}

void dp_hasher_close(struct dp_hasher *h)
{
    free(h);
}

uint64_t dp_hash64(const void *p, size_t n, uint64_t seed)
{
    return XXH3_64bits_withSeed(n ? p : "", n, seed);
}

static void hex_of(const unsigned char *p, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    out[2 * n] = 0;
}

void dp_hash128_hex(struct dp_hash128 h, char out[DP_HEX128])
{
    unsigned char b[16];
    for (int i = 0; i < 8; i++) {
        b[i] = (unsigned char)(h.hi >> (56 - 8 * i));
        b[8 + i] = (unsigned char)(h.lo >> (56 - 8 * i));
    }
    hex_of(b, sizeof b, out);
}

int dp_hash128_parse(struct dp_span s, struct dp_hash128 *out, struct dp_err *e)
{
    uint64_t v[2] = {0, 0};
    if (s.len != 32) DP_FAIL(e, CORRUPT, "an id has 32 hex digits, this has %zu characters", s.len);
    for (int i = 0; i < 32; i++) {
        char c = s.ptr[i];
        int d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (d < 0) DP_FAIL(e, CORRUPT, "an id has hex digits only, not byte 0x%02x", (unsigned char)c);
        v[i / 16] = v[i / 16] << 4 | (uint64_t)d;
    }
    *out = (struct dp_hash128){.hi = v[0], .lo = v[1]};
    return DP_OK;
}

struct dp_sha256 {
    EVP_MD_CTX *md;
};

int dp_sha256_open(struct dp_sha256 **out, struct dp_err *e)
{
    struct dp_sha256 *s = malloc(sizeof *s);
    *out = NULL;
    if (!s) DP_FAIL(e, NOMEM, "SHA-256");
    s->md = EVP_MD_CTX_new();
    if (!s->md || EVP_DigestInit_ex(s->md, EVP_sha256(), NULL) != 1) {
        dp_sha256_close(s);
        DP_FAIL(e, NOMEM, "SHA-256: OpenSSL gave no context");
    }
    *out = s;
    return DP_OK;
}

void dp_sha256_add(struct dp_sha256 *s, const void *p, size_t n)
{
    if (n) DP_ASSERT(EVP_DigestUpdate(s->md, p, n) == 1);
}

void dp_sha256_finish(struct dp_sha256 *s, char hex[DP_HEX256])
{
    unsigned char d[32];
    unsigned n = 0;
    DP_ASSERT(EVP_DigestFinal_ex(s->md, d, &n) == 1 && n == sizeof d);
    hex_of(d, n, hex);
    dp_sha256_close(s);
}

void dp_sha256_close(struct dp_sha256 *s)
{
    if (!s) return;
    EVP_MD_CTX_free(s->md);
    free(s);
}

int dp_sha256_span(struct dp_span sp, char hex[DP_HEX256], struct dp_err *e)
{
    struct dp_sha256 *s;
    DP_TRY(dp_sha256_open(&s, e));
    dp_sha256_add(s, sp.ptr, sp.len);
    dp_sha256_finish(s, hex);
    return DP_OK;
}

/* Slicing by 8; the SSE4.2 instruction where there is one (every level above scalar has it). */
static uint32_t crc_table[8][256];

__attribute__((constructor)) static void crc_init(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? c >> 1 ^ 0x82F63B78u : c >> 1;
        crc_table[0][i] = c;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int t = 1; t < 8; t++)
            crc_table[t][i] = crc_table[t - 1][i] >> 8 ^ crc_table[0][crc_table[t - 1][i] & 255];
}

static uint32_t crc_scalar(uint32_t c, const unsigned char *p, size_t n)
{
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        v ^= c;
        c = crc_table[7][v & 255] ^ crc_table[6][v >> 8 & 255] ^ crc_table[5][v >> 16 & 255] ^ crc_table[4][v >> 24 & 255] ^
            crc_table[3][v >> 32 & 255] ^ crc_table[2][v >> 40 & 255] ^ crc_table[1][v >> 48 & 255] ^ crc_table[0][v >> 56];
    }
    while (n--) c = c >> 8 ^ crc_table[0][(c ^ *p++) & 255];
    return c;
}

/* One chain of crc32 instructions waits three cycles for each; four beside each other don't. A checksum is linear, so that of four lanes on end is
 * their sum when each is moved on by the zeros that stand for what is behind it: crc_shift moves by one lane. */
enum { CRC_LANE = 1024 };
static uint32_t crc_shift_table[4][256];

static inline uint64_t word(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

__attribute__((target("sse4.2"))) static void crc_shift_init(void)
{
    for (uint32_t k = 0; k < 4; k++)
        for (uint32_t i = 0; i < 256; i++) {
            uint64_t c = i << 8 * k;
            for (int z = 0; z < CRC_LANE; z += 8) c = __builtin_ia32_crc32di(c, 0);
            crc_shift_table[k][i] = (uint32_t)c;
        }
}

static uint32_t crc_shift(uint64_t c)
{
    return crc_shift_table[0][c & 255] ^ crc_shift_table[1][c >> 8 & 255] ^ crc_shift_table[2][c >> 16 & 255] ^ crc_shift_table[3][c >> 24 & 255];
}

__attribute__((target("sse4.2"))) static uint32_t crc_sse42(uint32_t c, const unsigned char *p, size_t n)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    uint64_t c64 = c;
    if (n >= 4 * CRC_LANE) pthread_once(&once, crc_shift_init);
    for (; n >= 4 * CRC_LANE; p += 4 * CRC_LANE, n -= 4 * CRC_LANE) {
        uint64_t l1 = 0, l2 = 0, l3 = 0;
        for (size_t i = 0; i < CRC_LANE; i += 8) {
            c64 = __builtin_ia32_crc32di(c64, word(p + i));
            l1 = __builtin_ia32_crc32di(l1, word(p + CRC_LANE + i));
            l2 = __builtin_ia32_crc32di(l2, word(p + 2 * CRC_LANE + i));
            l3 = __builtin_ia32_crc32di(l3, word(p + 3 * CRC_LANE + i));
        }
        c64 = crc_shift(crc_shift(crc_shift(c64) ^ l1) ^ l2) ^ l3;
    }
    for (; n >= 8; p += 8, n -= 8) c64 = __builtin_ia32_crc32di(c64, word(p));
    c = (uint32_t)c64;
    while (n--) c = __builtin_ia32_crc32qi(c, *p++);
    return c;
}

uint32_t dp_crc32c(uint32_t crc, const void *p, size_t n)
{
    return ~(dp_cpu() >= DP_CPU_AVX2 ? crc_sse42(~crc, p, n) : crc_scalar(~crc, p, n));
}
