#include "clean/c4_phrases.h"

#include "base/cpu.h"

bool dp_c4_suspect_scalar(const char *p, size_t n)
{
    for (size_t i = 0; i + 2 < n; i++) {
        unsigned a = (unsigned char)p[i] | 32u, b = (unsigned char)p[i + 1] | 32u, c = (unsigned char)p[i + 2] | 32u;
        if (a == 'v' ? b == 'a' && (c == 's' || c == 'c') : a == 'o' ? b == 'k' && c == 'i' : a == 'm' && (b == 's' ? c == ' ' : b == ' ' && c == 'i'))
            return true;
        if (b == (0x84 | 32) && c == 0xAA) return true;
    }
    return false;
}

bool dp_c4_suspect(const char *p, size_t n)
{
#if defined(__x86_64__)
    if (dp_cpu() >= DP_CPU_AVX2) return dp_c4_suspect_avx2(p, n);
#endif
    return dp_c4_suspect_scalar(p, n);
}
