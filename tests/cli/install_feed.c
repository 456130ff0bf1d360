/* A user's program: only the installed headers, linked with the installed library. usage: install_feed MANIFEST
 * Writes the first two batches of 4 rows of 17 ids to standard output. */
#include "trainer_feed/feed.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    struct dp_feed_options o;
    struct dp_feed *f;
    struct dp_err err;
    int32_t rows[4][17];
    if (argc != 2) return 64;
    dp_feed_options_init(&o);
    o.seq_len = 16;
    o.batch = 4;
    if (dp_feed_open(&f, argv[1], &o, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    for (int step = 0; step < 2; step++)
        if (dp_feed_next(f, rows[0], &err) < 0 || fwrite(rows, sizeof rows, 1, stdout) != 1) return 1;
    dp_feed_close(f);
    return 0;
}
