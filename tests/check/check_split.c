/* The pre-tokenizers at every CPU level against the piece-by-piece specification (dp_split_next), at the edges of memory: random and
 * adversarial bytes of every length to 257 and some longer, ending at a guard page and beginning after one; however few pieces are asked for
 * at once. --bench prints MB/s; --seed N and --rounds N search longer. */
#include "base/cpu.h"
#include "base/hash.h"
#include "tokenizer/split.h"
#include "tokenizer/split_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { N = 257, LONG = 3000, ENDS = 4096 };

static int failed, passed;

/* All ends, `step` at a time. */
static size_t all_ends(enum dp_split split, const char *p, size_t n, size_t *ends, size_t step)
{
    size_t pos = 0, k, got = 0;
    while ((k = dp_split_run(split, dp_span(p, n), &pos, ends + got, step)) > 0) got += k;
    return got;
}

static const char *const atoms[] = {" ",
                                    "\n",
                                    "\r\n",
                                    "\t",
                                    "a",
                                    "Z",
                                    "the",
                                    "THE",
                                    "'s",
                                    "'ll",
                                    "'\xC5\xBF",
                                    "1",
                                    "1234",
                                    "!",
                                    "/",
                                    "\xC3\xA9",
                                    "\xE4\xB8\xAD",
                                    "\xF0\x9F\x98\x80",
                                    "\xCC\x81",
                                    "\xE3\x80\x80",
                                    "\xFF",
                                    "\xC3",
                                    "\xE4\xB8",
                                    "\xF0\x9F\x98",
                                    "\xED\xA0\x80",
                                    "\xC2\xA0",
                                    "\xC7\x85",
                                    "\xCA\xB0"};

static const char *const words[] = {"'s", "'S", "'LL", "'re", "'t", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "a", "B", "foo", "Bar", "BAZ", "fooBar", "1", "12", "1234567", "!", "(", "/", "//", "'", "''",
                                    "\xC3\xA9", "\xC3\x89", "\xE4\xB8\xAD", "\xE4\xB8\xAD\xE6\x96\x87", "\xCC\x81", "\xE2\x80\x99", "\xC2\xA0", "\xE3\x80\x80", "\xD9\xA3", "\xF0\x9F\x98\x80", "'\xC5\xBF"};

static void fill(char *p, size_t n, uint64_t *seed)
{
    enum { ATOMS = sizeof atoms / sizeof *atoms, WORDS = sizeof words / sizeof *words };
    int kind = (int)(dp_splitmix64(seed) % 6);
    unsigned few = (unsigned)(dp_splitmix64(seed) % WORDS), span = 1 + (unsigned)(dp_splitmix64(seed) % 8);
    for (size_t i = 0; i < n;) {
        uint64_t r = dp_splitmix64(seed);
        if (kind == 0) p[i++] = (char)r;
        else if (kind == 1) p[i++] = (char)(r % 95 + 32);
        else {
            const char *a = kind == 2 ? atoms[r % ATOMS] : kind == 3 ? atoms[r % 6] : kind == 4 ? words[r % WORDS] : words[(few + r % span) % WORDS];
            for (int k = kind == 5 && r >> 60 == 0 ? 1 + (int)(r >> 32 & 127) : 1; k > 0; k--)
                for (const char *b = a; *b && i < n; b++) p[i++] = *b;
        }
    }
}

/* The specification. */
static size_t want_ends(enum dp_split split, const char *p, size_t n, size_t *ends)
{
    const uint8_t *base = (const uint8_t *)p, *q = base, *end = base + n;
    size_t k = 0;
    while (q < end) {
        q = dp_split_next(split, q, end);
        ends[k++] = (size_t)(q - base);
    }
    return k;
}

static void check_length(enum dp_split split, size_t n, char *low, char *high, int rounds, uint64_t *seed)
{
    static size_t want[ENDS], got[ENDS + 64];
    char inside[LONG + 64];
    for (int round = 0; round < rounds; round++) {
        memset(inside, 'q', sizeof inside);
        uint64_t from = *seed;
        fill(inside + 8, n, seed);
        size_t k = want_ends(split, inside + 8, n, want);
        memcpy(low, inside + 8, n);      /* begins at a page */
        memcpy(high - n, inside + 8, n); /* ends at one */
        const char *at[] = {low, high - n, high - n, high - n};
        static const size_t step[] = {ENDS, ENDS, 1, 70};
        bool ok = (n == 0) == (k == 0) && (k == 0 || want[k - 1] == n);
        for (size_t i = 0; i < k; i++) ok = ok && want[i] > (i ? want[i - 1] : 0);
        for (int v = 0; v < 4; v++) ok = ok && all_ends(split, at[v], n, got, step[v]) == k && memcmp(got, want, k * sizeof *want) == 0;
        if (ok) passed++;
        else {
            failed++;
            size_t i = 0;
            all_ends(split, low, n, got, ENDS);
            while (i < k && got[i] == want[i]) i++;
            fprintf(stderr, "FAIL %s %s, %zu bytes, seed %llu: piece %zu ends at %zu, not %zu\n", dp_cpu_name(dp_cpu()), dp_split_name(split), n, (unsigned long long)from, i, got[i], want[i]);
            for (size_t b = i ? want[i - 1] : 0, to = b + 70 < n ? b + 70 : n; b < to; b++) fprintf(stderr, "%02x%s", (uint8_t)low[b], b + 1 < to ? "" : "\n");
        }
    }
}

static void bench(enum dp_split split)
{
    enum { SIZE = 1 << 22 };
    static size_t ends[ENDS];
    char *p = malloc(SIZE);
    uint64_t seed = 1;
    if (!p) exit(1);
    for (size_t i = 0; i < SIZE;)
        for (size_t w = 2 + dp_splitmix64(&seed) % 7; w-- > 0 && i < SIZE;) p[i++] = w ? (char)('a' + dp_splitmix64(&seed) % 26) : ' ';
    clock_t t = clock();
    size_t pos = 0;
    while (dp_split_run(split, dp_span(p, SIZE), &pos, ends, ENDS) > 0) continue;
    printf("%s %s %.0f MB/s\n", dp_cpu_name(dp_cpu()), dp_split_name(split), SIZE / 1e6 / ((double)(clock() - t) / CLOCKS_PER_SEC));
    free(p);
}

int main(int argc, char **argv)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *map = mmap(NULL, 4 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t seed = 20;
    if (map == MAP_FAILED || mprotect(map + page, 2 * page, PROT_READ | PROT_WRITE) != 0) {
        perror("mmap");
        return 1;
    }
    static const char *const levels[] = {"scalar", "avx2", "avx512"};
    int rounds = 8;
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], "--seed") == 0) seed = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--rounds") == 0) rounds = atoi(argv[i + 1]);
    }
    for (size_t l = 0; l < sizeof levels / sizeof *levels; l++) {
        struct dp_err e;
        if (dp_cpu_force(levels[l], &e) < 0) continue;
        for (int s = 0; s < DP_SPLIT_COUNT; s++)
            for (size_t n = 0; n <= LONG; n += n < N ? 1 : 97) check_length((enum dp_split)s, n, map + page, map + 3 * page, rounds, &seed);
        for (int s = 0; s < DP_SPLIT_COUNT && argc > 1 && strcmp(argv[1], "--bench") == 0; s++) bench((enum dp_split)s);
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
