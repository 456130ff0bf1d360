/* The head of recent pretokens: each level finds what was put in, by its exact bytes and length, and lists the rest in order. */
#include "tests/test.h"

#include "base/cpu.h"
#include "base/hash.h"
#include "tokenizer/pretoken_head.h"

#include <stdlib.h>

enum { ENTRIES = 64, PIECES = 512, LONG = 300 };
#define MASK ((ENTRIES - 1) * sizeof(struct dp_head_entry))

/* What the header says, without its tricks. */
static size_t find_plainly(const struct dp_head_entry *head, const char *text, const size_t *begins, size_t n, uint32_t *ids, uint32_t *ids_n,
                           struct dp_head_miss *misses)
{
    size_t missing = 0;
    *ids_n = 0;
    for (size_t i = 0; i < n; i++) {
        size_t len = begins[i + 1] - begins[i];
        uint64_t key = 0;
        memcpy(&key, text + begins[i], len < DP_HEAD_BYTES ? len : DP_HEAD_BYTES);
        const struct dp_head_entry *e = &head[dp_head_place(key, MASK) / sizeof *head];
        if (e->key == key && (e->ids >> 24 & 0xff) == len) {
            uint32_t count = (uint32_t)(e->ids >> 58);
            for (uint32_t k = 0; k < count; k++) ids[(*ids_n)++] = (uint32_t)(e->ids >> 32 * k) & DP_HEAD_ID;
        } else misses[missing++] = (struct dp_head_miss){(uint32_t)i, *ids_n * 4};
    }
    misses[missing] = (struct dp_head_miss){(uint32_t)n, *ids_n * 4};
    return missing;
}

TEST(levels_find_the_same)
{
    dp_head_find_fn *levels[] = {dp_head_find_scalar, dp_cpu_detected() >= DP_CPU_AVX2 ? dp_head_find_avx2 : dp_head_find_scalar};
    static char text[PIECES * LONG + 16];
    static size_t begins[PIECES + 1];
    static uint32_t want[2 * PIECES + 2], got[2 * PIECES + 2];
    static struct dp_head_miss want_misses[PIECES + 1], got_misses[PIECES + 1];
    uint64_t state = 7;
    size_t hits = 0;
    for (int round = 0; round < 300; round++) {
        struct dp_head_entry head[ENTRIES] = {{0}};
        for (size_t i = 0; i < PIECES; i++) {
            uint64_t r = dp_splitmix64(&state);
            size_t len = r % 16 ? 1 + (r >> 8) % 10 : 250 + (r >> 8) % (LONG - 250); /* 256 and 257 too: their lower byte is that of a short one */
            begins[i + 1] = begins[i] + len;
            for (size_t k = 0; k < len; k++) text[begins[i] + k] = (char)(dp_splitmix64(&state) % 3); /* NULs: "a" is not "a\0" */
            if ((r >> 20) % 3 || len > DP_HEAD_BYTES) continue;
            uint64_t key = 0, count = 1 + (r >> 30) % 2;
            memcpy(&key, text + begins[i], len);
            head[dp_head_place(key, MASK) / sizeof *head] =
                (struct dp_head_entry){key, (r >> 40) % DP_HEAD_ID | len << 24 | ((uint64_t)(i % 1000) << 32) * (count - 1) | count << 58};
        }
        uint32_t ids_n;
        size_t n = find_plainly(head, text, begins, PIECES, want, &ids_n, want_misses);
        hits += PIECES - n;
        for (size_t l = 0; l < sizeof levels / sizeof *levels; l++) {
            CHECK(levels[l](head, MASK, text, begins, PIECES, got, got_misses) == n);
            CHECK(memcmp(got_misses, want_misses, (n + 1) * sizeof *got_misses) == 0);
            for (uint32_t i = 0; i < ids_n; i++) CHECK((got[i] & DP_HEAD_ID) == want[i]);
        }
    }
    CHECK(hits > 10000);
}
