/* What a feed server's client may ask for, and what a client's server may answer: text from the other process. A request is refused with a
 * reason, or lies within every limit; an answer is refused, or says again what it said. */
#include "trainer_feed/feed_wire.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char mixture[] = "a=1,b=2";
    struct dp_feed_options defaults;
    struct dp_feed_ask ask;
    struct dp_feed_accept accept, again;
    struct dp_err err = {0};
    dp_feed_options_init(&defaults);
    defaults.mixture = mixture;
    int rc = dp_feed_ask_parse(&ask, &defaults, dp_span(data, size), &err);
    if (rc < 0 && (!err.msg[0] || ask.feed.mixture)) abort();
    if (rc >= 0) {
        const struct dp_feed_options *o = &ask.feed;
        if (o->seq_len < 1 || o->seq_len > 1 << 24 || o->batch < 1 || o->batch > 1 << 20 || o->rank < 0 || o->rank >= o->world) abort();
        if (o->domains || ask.start >> 62 || ask.slots > DP_FEED_SLOTS_MAX || !(o->val_fraction + o->test_fraction <= 1)) abort();
        dp_feed_ask_release(&ask);
    }
    if (dp_feed_accept_parse(&accept, dp_span(data, size), &err) >= 0) {
        struct dp_buf b;
        dp_buf_init(&b, 1 << 16);
        dp_feed_accept_print(&accept, &b);
        if (dp_feed_accept_parse(&again, dp_buf_span(&b), &err) < 0 || memcmp(&accept, &again, sizeof again) != 0) abort();
        dp_buf_release(&b);
    }
    if (dp_feed_refuse_parse(dp_span(data, size), &err) >= 0 || !memchr(err.msg, 0, sizeof err.msg)) abort();
    return 0;
}
