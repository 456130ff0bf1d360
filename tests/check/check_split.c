/* The pre-tokenizers at the edges of memory: every length 0-257 of random and adversarial bytes, ending at a guard page and beginning
 * after one, gives the same pieces as the same bytes inside a larger buffer; pieces ask for the same however few are asked for at once.
 * Levels: there is one today (scalar); a level above it adds a row to `levels`. --bench prints MB/s. */
#include "base/cpu.h"
#include "base/hash.h"
#include "tokenizer/split.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { N = 257, ENDS = 512 };

static int failed, passed;

/* All ends, `step` at a time. */
static size_t all_ends(enum dp_split split, const char *p, size_t n, size_t *ends, size_t step)
{
    size_t pos = 0, k, got = 0;
    while ((k = dp_split_run(split, dp_span(p, n), &pos, ends + got, step)) > 0) got += k;
    return got;
}

static const char *const atoms[] = {" ", "\n", "\r\n", "\t", "a", "Z", "the", "THE", "'s", "'ll", "'\xC5\xBF", "1", "1234", "!", "/", "\xC3\xA9",
                                    "\xE4\xB8\xAD", "\xF0\x9F\x98\x80", "\xCC\x81", "\xE3\x80\x80", "\xFF", "\xC3", "\xE4\xB8", "\xF0\x9F\x98",
                                    "\xED\xA0\x80", "\xC2\xA0", "\xC7\x85", "\xCA\xB0"};

static void fill(char *p, size_t n, uint64_t *seed)
{
    int kind = (int)(dp_splitmix64(seed) % 4);
    for (size_t i = 0; i < n;) {
        uint64_t r = dp_splitmix64(seed);
        if (kind == 0) p[i++] = (char)r;
        else if (kind == 1) p[i++] = (char)(r % 95 + 32);
        else {
            const char *a = atoms[r % (kind == 2 ? sizeof atoms / sizeof *atoms : 6)];
            for (; *a && i < n; a++) p[i++] = *a;
        }
    }
}

static void check_length(enum dp_split split, size_t n, char *low, char *high, uint64_t *seed)
{
    static size_t want[ENDS], got[ENDS];
    char inside[N + 64];
    for (int round = 0; round < 24; round++) {
        memset(inside, 'q', sizeof inside);
        fill(inside + 8, n, seed);
        size_t k = all_ends(split, inside + 8, n, want, ENDS);
        memcpy(low, inside + 8, n);       /* begins at a page */
        memcpy(high - n, inside + 8, n);  /* ends at one */
        const char *at[] = {low, high - n, high - n};
        static const size_t step[] = {ENDS, ENDS, 1};
        bool ok = (n == 0) == (k == 0) && (k == 0 || want[k - 1] == n);
        for (size_t i = 0; i < k; i++) ok = ok && want[i] > (i ? want[i - 1] : 0);
        for (int v = 0; v < 3; v++)
            ok = ok && all_ends(split, at[v], n, got, step[v]) == k && memcmp(got, want, k * sizeof *want) == 0;
        if (ok) passed++;
        else {
            failed++;
            fprintf(stderr, "FAIL %s, %zu bytes, round %d\n", dp_split_name(split), n, round);
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
    static const char *const levels[] = {"scalar"};
    for (size_t l = 0; l < sizeof levels / sizeof *levels; l++) {
        struct dp_err e;
        if (dp_cpu_force(levels[l], &e) < 0) continue;
        for (int s = 0; s < DP_SPLIT_COUNT; s++)
            for (size_t n = 0; n <= N; n++) check_length((enum dp_split)s, n, map + page, map + 3 * page, &seed);
        for (int s = 0; s < DP_SPLIT_COUNT && argc > 1 && strcmp(argv[1], "--bench") == 0; s++) bench((enum dp_split)s);
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
