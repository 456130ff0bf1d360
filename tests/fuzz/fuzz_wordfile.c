/* A counts file or text list of any bytes: an error, or words in order that count up; what is read, written again and read again is the same. */
#include "tokenizer/wordfile.h"

#include "base/fs.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int count(struct dp_bpe_counter *c, int fd, struct dp_err *e)
{
    char path[48];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return dp_wordfile_count(c, path, e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dp_err err;
    struct dp_wordfile_reader *r;
    struct dp_span word;
    enum dp_split split;
    uint64_t n, total = 0;
    int fd = memfd_create("words", MFD_CLOEXEC);
    if (fd < 0 || dp_fs_write_all(fd, data, size, "words", &err) < 0 || lseek(fd, 0, SEEK_SET) != 0) abort();
    int rc = dp_wordfile_open(&r, fd, "words", &err);
    if (rc >= 0) {
        while ((rc = dp_wordfile_next(r, &word, &n, &err)) == DP_OK) {
            if (!word.len || !n) abort();
            total += n;
        }
        if (rc == DP_EOF && dp_wordfile_next(r, &word, &n, &err) != DP_EOF) abort();
        bool has = dp_split_parse(dp_wordfile_split(r), &split, &err) >= 0;
        struct dp_bpe_counter *c;
        if (rc == DP_EOF && has && total < UINT64_MAX / 8) { /* as it is into a counter: nothing is lost */
            if (dp_bpe_counter_open(&c, split, &err) < 0) abort();
            if (count(c, fd, &err) < 0 || dp_bpe_counter_total(c) != total) abort();
            dp_bpe_counter_close(c);
        }
        dp_wordfile_release(r);
    }
    close(fd);
    return 0;
}
