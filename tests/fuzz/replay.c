/* tests/fuzz/replay.c - run a fuzz target over files, without libFuzzer: each corpus is thus an ordinary test.
 * usage: fuzz_X FILE|FOLDER...   (folders one level deep). Each input also runs truncated and with flipped bytes. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int done;

/* From an exact-size heap block, so that AddressSanitizer sees one byte too far. */
static void one(const uint8_t *data, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);
    if (!copy) abort();
    if (n) memcpy(copy, data, n);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

static void run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        exit(1);
    }
    static uint8_t buf[1 << 20];
    size_t n = fread(buf, 1, sizeof buf, f);
    fclose(f);
    one(buf, n);
    for (size_t k = 1; k <= 8 && n; k++) one(buf, n * k / 9);
    uint64_t x = n * 0x9e3779b97f4a7c15u + 1;
    for (int k = 0; k < 32 && n; k++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        size_t at = (size_t)(x >> 33) % n;
        uint8_t was = buf[at];
        buf[at] = (uint8_t)(x >> 20);
        one(buf, n);
        buf[at] = was;
    }
    done++;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        struct stat st;
        if (stat(argv[i], &st) != 0) continue;
        if (!S_ISDIR(st.st_mode)) {
            run_file(argv[i]);
            continue;
        }
        struct dirent **list;
        int n = scandir(argv[i], &list, NULL, alphasort);
        for (int k = 0; k < n; k++) {
            char path[4096];
            snprintf(path, sizeof path, "%s/%s", argv[i], list[k]->d_name);
            if (list[k]->d_name[0] != '.' && stat(path, &st) == 0 && S_ISREG(st.st_mode)) run_file(path);
            free(list[k]);
        }
        if (n >= 0) free(list);
    }
    printf("%d passed, 0 failed\n", done);
    return 0;
}
