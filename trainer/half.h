/* trainer/half.h - the 16-bit floating-point formats: IEEE binary16 ("F16") and bfloat16 ("BF16").
 *
 * To 16 bits: round to nearest, ties to even; too large becomes infinity, NaN stays NaN (quiet).
 * From 16 bits: exact. One number at a time: no kernels here. */
#ifndef DP_TRAINER_HALF_H
#define DP_TRAINER_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t dp_float_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float dp_bits_float(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static inline uint16_t dp_to_bf16(float x)
{
    uint32_t u = dp_float_bits(x);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static inline float dp_from_bf16(uint16_t h)
{
    return dp_bits_float((uint32_t)h << 16);
}

static inline uint16_t dp_to_f16(float x)
{
    uint32_t u = dp_float_bits(x), a = u & 0x7fffffff;
    uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    if (a > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x1ff));
    if (a >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* 65520 and more round to infinity */
    if (a < 0x38800000) { /* subnormal there: adding 0.5 leaves the rounded multiple of 2^-24 in the low bits */
        uint32_t sum = dp_float_bits(dp_bits_float(a) + 0.5f);
        return (uint16_t)(sign | (sum - 0x3f000000));
    }
    a += 0xfff + (a >> 13 & 1);
    return (uint16_t)(sign | ((a - 0x38000000) >> 13));
}

static inline float dp_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 0x1f, fraction = h & 0x3ff;
    if (exponent == 0x1f) return dp_bits_float(sign | 0x7f800000 | fraction << 13);
    if (exponent) return dp_bits_float(sign | (exponent + 112) << 23 | fraction << 13);
    float x = (float)fraction * 0x1p-24f;
    return dp_bits_float(sign | dp_float_bits(x));
}

#endif
