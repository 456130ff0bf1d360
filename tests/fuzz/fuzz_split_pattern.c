/* A user's pattern and a text, parted by the first zero byte; the byte before them all says dialect, join, digits and scripts. Whatever compiles cuts a
 * text into pieces that add up to it, the same for any number asked for at once, or gives up; and comes back from its own description. */
#include "tokenizer/splitter.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TEXT_MAX = 1024, PATTERN_MAX = 512 };

static int cut(struct dp_splitter *s, struct dp_span text, size_t *ends, size_t max)
{
    struct dp_cutter *c;
    struct dp_err e;
    size_t pos = 0;
    int n, got = 0;
    if (dp_cutter_open(&c, s, &e) < 0) abort();
    while ((n = dp_cutter_run(c, text, &pos, ends + got, max, &e)) > 0) got += n;
    dp_cutter_close(c);
    if (n < 0 && n != DP_LIMIT) abort();
    return n < 0 ? n : got;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static size_t one[TEXT_MAX + 64], many[TEXT_MAX + 64];
    const uint8_t *end = size > 1 ? memchr(data + 1, 0, size - 1) : NULL;
    struct dp_splitter *s;
    struct dp_err e;
    if (!end || end - data > PATTERN_MAX || (size_t)(data + size - end) > TEXT_MAX) return 0;
    struct dp_span pattern = dp_span(data + 1, (size_t)(end - data - 1)), text = dp_span(end + 1, (size_t)(data + size - end - 1));
    struct dp_split_step step[3] = {{.kind = DP_CUT_DIGITS, .digits = data[0] >> 3 & 3},
                                    {.kind = data[0] & 64 ? DP_CUT_LITERAL : DP_CUT_REGEX, .text = pattern, .portable = data[0] & 1, .join = data[0] >> 1 & 3},
                                    {.kind = DP_CUT_SCRIPTS}};
    bool digits = data[0] & 32, scripts = data[0] & 128;
    int rc = dp_splitter_open(&s, step + !digits, 1u + digits + scripts, &e);
    if (rc < 0) {
        if (rc != DP_CONFIG || !*e.msg) abort();
        return 0;
    }
    int n = cut(s, text, one, 1), k = cut(s, text, many, 64);
    if ((n < 0) != (k < 0) && n != DP_LIMIT && k != DP_LIMIT) abort(); /* the clock may stop one of them */
    if (n >= 0 && k >= 0) {
        if (n != k || (n == 0) != (text.len == 0) || (n && one[n - 1] != text.len) || (n && memcmp(one, many, (size_t)n * sizeof *one) != 0)) abort();
        for (int i = 0; i < n; i++)
            if (one[i] <= (i ? one[i - 1] : 0)) abort();
    }
    dp_splitter_close(s);
    return 0;
}
