/* A signature file of any bytes: opens with an error, or gives all its records; and its bytes as text go through the shingler. */
#include "dedup/minhash.h"
#include "dedup/sigfile.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct dp_minhash m;
    static struct dp_minhash_scratch scratch;
    static uint32_t slots[DP_MINHASH_SLOTS_MAX];
    struct dp_err err;
    struct dp_sig_params p = {2, 3, 1 + (uint32_t)(size % 7), size & 1, size};
    if (dp_minhash_init(&m, &p, &err) < 0) abort();
    dp_minhash_text(&m, &scratch, dp_span(data, size), slots);

    int fd = memfd_create("sig", MFD_CLOEXEC);
    if (fd < 0 || dp_fs_write_all(fd, data, size, "sig", &err) < 0) abort();
    struct dp_sigfile *s;
    if (dp_sigfile_open_fd(&s, fd, "sig", &err) < 0) return 0;
    char *raw = malloc(dp_sigfile_record_bytes(s));
    if (!raw) abort();
    uint32_t sum = 0;
    for (uint64_t i = 0; i < dp_sigfile_count(s); i++) {
        struct dp_sig_record r;
        if (dp_sigfile_read(s, i, 1, raw, &err) < 0) abort();
        dp_sigfile_decode(s, raw, &r);
        uint32_t n = dp_sigfile_params(s)->bands * dp_sigfile_params(s)->rows;
        for (uint32_t j = 0; r.slots && j < n; j++) sum += r.slots[j];
    }
    __asm__ volatile("" : : "r"(sum)); /* so that no compiler drops the loop */
    free(raw);
    (void)dp_sigfile_verify(s, &err);
    dp_sigfile_close(s);
    return 0;
}
