/* base/ascending.h - orders for qsort(). */
#ifndef DP_BASE_ASCENDING_H
#define DP_BASE_ASCENDING_H

/* Of doubles, none of them NaN. */
static inline int dp_ascending_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

#endif
