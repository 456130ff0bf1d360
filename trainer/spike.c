#include "trainer/spike.h"

#include "base/ascending.h"

#include <math.h>
#include <stdlib.h>

static double median_of(double *v, int64_t n)
{
    qsort(v, (size_t)n, sizeof *v, dp_ascending_doubles);
    return n % 2 ? v[n / 2] : 0.5 * (v[n / 2 - 1] + v[n / 2]);
}

struct dp_spike_judgement dp_spike_judge(const struct dp_spike *s, double loss)
{
    struct dp_spike_judgement j = {false, (double)NAN, (double)NAN};
    int64_t n = s->count < s->window ? s->count : s->window;
    double v[DP_SPIKE_WINDOW_MAX];
    if (!(s->limit > 0) || n < DP_SPIKE_FIRST) return j;
    for (int64_t i = 0; i < n; i++) v[i] = s->loss[i];
    j.median = median_of(v, n);
    for (int64_t i = 0; i < n; i++) v[i] = fabs(s->loss[i] - j.median);
    j.deviation = fmax(1.4826 * median_of(v, n), 0.005 * fabs(j.median));
    j.spike = loss > j.median + s->limit * j.deviation;
    return j;
}

void dp_spike_add(struct dp_spike *s, double loss)
{
    s->loss[s->count++ % s->window] = loss;
}

void dp_spike_print(const struct dp_spike *s, struct dp_buf *out)
{
    int64_t n = s->count < s->window ? s->count : s->window;
    for (int64_t i = s->count - n; i < s->count; i++)
        dp_buf_printf(out, "%s%a", i > s->count - n ? " " : "", s->loss[i % s->window]);
}

int dp_spike_parse(struct dp_spike *s, struct dp_span text, struct dp_err *e)
{
    struct dp_spike new = {.window = s->window, .limit = s->limit};
    for (size_t at = 0; at < text.len;) {
        char word[40], *end;
        size_t n = 0;
        while (at + n < text.len && text.ptr[at + n] != ' ') n++;
        if (n == 0 || n >= sizeof word) DP_FAIL(e, CORRUPT, "recent losses: no number at byte %zu", at);
        memcpy(word, text.ptr + at, n);
        word[n] = 0;
        double x = strtod(word, &end);
        if (*end || !isfinite(x)) DP_FAIL(e, CORRUPT, "recent losses: \"%s\" is no number", word);
        dp_spike_add(&new, x);
        at += n + 1;
    }
    *s = new;
    return DP_OK;
}
