/* base/cpu.h - which kernels this processor may run.
 *
 * Scalar code is the specification; higher levels must give the same results (bytes, or the bound that a
 * kernel's header states). The level is the highest that processor and system support, lowered by
 * DPIPE_CPU=scalar|avx2|avx512|avx512bf16 or dp_cpu_force(). Thread-safety: force before threads start. */
#ifndef DP_BASE_CPU_H
#define DP_BASE_CPU_H

#include "base/err.h"

enum dp_cpu_level {
    DP_CPU_SCALAR = 0,
    DP_CPU_AVX2,       /* AVX2, FMA, BMI1/2, POPCNT */
    DP_CPU_AVX512,     /* F, BW, DQ, VL, CD, VBMI, VBMI2 (the Ice Lake bundle) */
    DP_CPU_AVX512BF16, /* the same and AVX512_BF16 */
};

/* The level in force. */
enum dp_cpu_level dp_cpu(void);
/* The highest level of this machine, whatever was forced. */
enum dp_cpu_level dp_cpu_detected(void);
/* Lower the level by name; DP_CONFIG for an unknown name, or a level that this machine lacks. */
int dp_cpu_force(const char *name, struct dp_err *e);
/* Read DPIPE_CPU; called once by main. */
int dp_cpu_init(struct dp_err *e);
const char *dp_cpu_name(enum dp_cpu_level level);
/* Processors this process may use (affinity, cgroup quota not counted); at least 1. */
int dp_cpu_count(void);

#endif
