#include "base/cpu.h"

#include <cpuid.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {"scalar", "avx2", "avx512", "avx512bf16"};
static _Atomic int forced = -1;

static uint64_t xcr0(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

enum dp_cpu_level dp_cpu_detected(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return DP_CPU_SCALAR;
    const unsigned need1 = 1u << 12 /* FMA */ | 1u << 20 /* SSE4.2 */ | 1u << 23 /* POPCNT */ | 1u << 27 /* OSXSAVE */ | 1u << 28 /* AVX */;
    if ((c & need1) != need1 || (xcr0() & 6) != 6) return DP_CPU_SCALAR;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return DP_CPU_SCALAR;
    const unsigned avx2 = 1u << 3 /* BMI1 */ | 1u << 5 /* AVX2 */ | 1u << 8 /* BMI2 */;
    if ((b & avx2) != avx2) return DP_CPU_SCALAR;
    const unsigned f512 = 1u << 16 | 1u << 17 /* DQ */ | 1u << 28 /* CD */ | 1u << 30 /* BW */ | 1u << 31 /* VL */;
    const unsigned vbmi = 1u << 1 | 1u << 6 /* VBMI2 */;
    if ((b & f512) != f512 || (c & vbmi) != vbmi || (xcr0() & 0xe6) != 0xe6) return DP_CPU_AVX2;
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a & 1u << 5)) return DP_CPU_AVX512;
    return DP_CPU_AVX512BF16;
}

enum dp_cpu_level dp_cpu(void)
{
    int f = atomic_load_explicit(&forced, memory_order_relaxed);
    if (f < 0) {
        f = (int)dp_cpu_detected();
        atomic_store_explicit(&forced, f, memory_order_relaxed);
    }
    return (enum dp_cpu_level)f;
}

int dp_cpu_force(const char *name, struct dp_err *e)
{
    for (int i = 0; i < 4; i++) {
        if (strcmp(name, names[i]) != 0) continue;
        if (i > (int)dp_cpu_detected())
            DP_FAIL(e, CONFIG, "CPU level %s asked for, but this machine has %s at most", name, names[dp_cpu_detected()]);
        atomic_store(&forced, i);
        return DP_OK;
    }
    DP_FAIL(e, CONFIG, "unknown CPU level \"%s\": use scalar, avx2, avx512 or avx512bf16", name);
}

int dp_cpu_init(struct dp_err *e)
{
    const char *s = getenv("DPIPE_CPU");
    return s && *s ? dp_cpu_force(s, e) : DP_OK;
}

const char *dp_cpu_name(enum dp_cpu_level level)
{
    return names[level];
}

int dp_cpu_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int n = CPU_COUNT(&set);
    return n > 0 ? n : 1;
}
