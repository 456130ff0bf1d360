/* base/hash.h - the hashes dpipe puts into files, and what each is for.
 *
 * XXH3-128/-64 (xxHash 0.8 specification): document ids, content hashes, keys. Not against an adversary.
 * SHA-256 (FIPS 180-4, OpenSSL): digests of sources and artifacts.
 * CRC-32C (RFC 3720 polynomial 0x1EDC6F41, reflected): frames of token shards.
 * All give the same result on every machine and CPU level. Thread-safety: pure. */
#ifndef DP_BASE_HASH_H
#define DP_BASE_HASH_H

#include "base/err.h"
#include "base/span.h"

#include <stdint.h>

struct dp_hash128 {
    uint64_t lo, hi;
};
enum { DP_HEX128 = 33, DP_HEX256 = 65 }; /* room for the hex text and its NUL */

struct dp_hash128 dp_hash128(const void *p, size_t n);
/* The same of bytes that come in parts. */
struct dp_hasher; /* one owner */
int dp_hasher_open(struct dp_hasher **out, struct dp_err *e);
void dp_hasher_add(struct dp_hasher *h, const void *p, size_t n);
struct dp_hash128 dp_hasher_finish(struct dp_hasher *h); /* and begin anew */
void dp_hasher_close(struct dp_hasher *h);
uint64_t dp_hash64(const void *p, size_t n, uint64_t seed);
static inline int dp_hash128_eq(struct dp_hash128 a, struct dp_hash128 b)
{
    return a.lo == b.lo && a.hi == b.hi;
}
/* 32 hex digits, high half first, as xxhsum -H2 prints it. */
void dp_hash128_hex(struct dp_hash128 h, char out[DP_HEX128]);
/* DP_CORRUPT unless s is exactly 32 hex digits. */
int dp_hash128_parse(struct dp_span s, struct dp_hash128 *out, struct dp_err *e);

struct dp_sha256; /* streaming; one owner */
int dp_sha256_open(struct dp_sha256 **out, struct dp_err *e);
void dp_sha256_add(struct dp_sha256 *s, const void *p, size_t n);
/* Writes 64 hex digits and frees s. */
void dp_sha256_finish(struct dp_sha256 *s, char hex[DP_HEX256]);
void dp_sha256_close(struct dp_sha256 *s);
int dp_sha256_span(struct dp_span s, char hex[DP_HEX256], struct dp_err *e);

/* crc = dp_crc32c(0, p, n); goes on with dp_crc32c(crc, more, m). */
uint32_t dp_crc32c(uint32_t crc, const void *p, size_t n);

/* splitmix64 (Steele, Lea, Flood 2014): the next state and a well-mixed 64-bit value. */
static inline uint64_t dp_splitmix64(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}
/* Its output function alone, as a bijective mixer. */
static inline uint64_t dp_mix64(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

#endif
