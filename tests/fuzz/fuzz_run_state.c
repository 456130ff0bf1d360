/* What a training run's checkpoint says in text, of any bytes: recent losses, and the place in the data. Refused with an error, or read back as it is printed. */
#include "trainer/source.h"
#include "trainer/spike.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct dp_source *source_of(void)
{
    char path[] = "/tmp/dpipe-fuzz-XXXXXX.u16";
    struct dp_source *s;
    struct dp_err err;
    uint16_t ids[40] = {1, 2, 3};
    int fd = mkstemps(path, 4);
    if (fd < 0 || write(fd, ids, sizeof ids) != (ssize_t)sizeof ids || close(fd) != 0) abort();
    if (dp_source_open_bare(&s, path, 10, 8, DP_DRAW_ORDER, &err) < 0) abort();
    unlink(path);
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct dp_source *source;
    struct dp_err err;
    struct dp_buf text;
    struct dp_spike a = {.window = 20, .limit = 4}, b = a;
    struct dp_span s = dp_span(data, size);
    uint64_t row;
    if (!source) source = source_of();
    dp_buf_init(&text, 1 << 16);
    if (dp_spike_parse(&a, s, &err) >= 0) {
        dp_spike_print(&a, &text);
        if (dp_spike_parse(&b, dp_buf_span(&text), &err) < 0) abort();
        struct dp_spike_judgement x = dp_spike_judge(&a, 1), y = dp_spike_judge(&b, 1);
        if (x.spike != y.spike || (x.median != y.median && !isnan(x.median))) abort();
    } else if (a.count) abort();
    dp_buf_clear(&text);
    if (dp_source_resume(source, s, &row, &err) >= 0) {
        int32_t ids[9];
        if (dp_source_state(source, row, &text, &err) < 0 || dp_source_row(source, row, ids, &err) < 0) abort();
    }
    dp_buf_release(&text);
    return 0;
}
