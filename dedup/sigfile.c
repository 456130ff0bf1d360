/* Design. Fixed records make row i of the document file record i here, without an index; so the keep file speaks
 * of rows. Count and checksum stand in a footer since writers stream (and may be hashed while they do). All numbers are
 * little endian, as is every machine this runs on: fields are copied with memcpy. */
#include "dedup/sigfile.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "signature files are little endian");

static const char magic[8] = "DPIPESIG", end_magic[8] = "DPSIGEND";

struct header {
    char magic[8];
    uint32_t version, header_bytes, bands, rows, shingle, fold_digits;
    uint64_t seed, normaliser;
    uint32_t record_bytes, reserved[2];
    uint32_t crc; /* of the 60 bytes before */
};
_Static_assert(sizeof(struct header) == DP_SIGFILE_HEADER, "header layout");

struct footer {
    char magic[8];
    uint64_t count;
    uint32_t records_crc, reserved[2];
    uint32_t crc; /* of the 28 bytes before */
};
_Static_assert(sizeof(struct footer) == DP_SIGFILE_FOOTER, "footer layout");

struct record {
    uint64_t hash_lo, hash_hi;
    uint32_t length;
    float score;
    uint32_t flags; /* 1: has a signature */
    uint32_t reserved;
};
_Static_assert(sizeof(struct record) == DP_SIGFILE_FIXED, "record layout");

struct dp_sigfile_writer {
    struct dp_out *out;
    struct dp_sig_params params;
    uint64_t count;
    uint32_t crc, record_bytes;
    uint32_t raw[DP_SIGFILE_FIXED / 4 + DP_MINHASH_SLOTS_MAX];
};

int dp_sigfile_writer_open(struct dp_sigfile_writer **out, struct dp_out *o, const struct dp_sig_params *p, struct dp_err *e)
{
    *out = NULL;
    DP_TRY(dp_sig_params_check(p, e));
    struct dp_sigfile_writer *w = calloc(1, sizeof *w);
    if (!w) DP_FAIL(e, NOMEM, "signature file writer");
    w->out = o;
    w->params = *p;
    w->record_bytes = DP_SIGFILE_FIXED + 4 * p->bands * p->rows;
    struct header h = {.version = DP_SIGFILE_VERSION, .header_bytes = sizeof h, .bands = p->bands, .rows = p->rows,
                       .shingle = p->shingle, .fold_digits = p->fold_digits, .seed = p->seed,
                       .normaliser = DP_SHINGLE_NORMALISER, .record_bytes = w->record_bytes};
    memcpy(h.magic, magic, sizeof magic);
    h.crc = dp_crc32c(0, &h, offsetof(struct header, crc));
    int rc = dp_out_add(o, &h, sizeof h, e);
    if (rc < 0) {
        free(w);
        return rc;
    }
    *out = w;
    return DP_OK;
}

int dp_sigfile_writer_add(struct dp_sigfile_writer *w, const struct dp_sig_record *r, struct dp_err *e)
{
    if (w->count >= UINT32_MAX - 1) DP_FAIL(e, LIMIT, "a signature file has 2^32 - 2 records at most: split its document file");
    struct record f = {.hash_lo = r->hash.lo, .hash_hi = r->hash.hi, .length = r->length, .score = r->score, .flags = r->slots != NULL};
    size_t bytes = w->record_bytes - sizeof f;
    memcpy(w->raw, &f, sizeof f);
    if (r->slots) memcpy(w->raw + sizeof f / 4, r->slots, bytes);
    else memset(w->raw + sizeof f / 4, 0, bytes);
    DP_TRY(dp_out_add(w->out, w->raw, w->record_bytes, e));
    w->crc = dp_crc32c(w->crc, w->raw, w->record_bytes);
    w->count++;
    return DP_OK;
}

int dp_sigfile_writer_finish(struct dp_sigfile_writer *w, struct dp_err *e)
{
    struct footer f = {.count = w->count, .records_crc = w->crc};
    memcpy(f.magic, end_magic, sizeof end_magic);
    f.crc = dp_crc32c(0, &f, offsetof(struct footer, crc));
    return dp_out_add(w->out, &f, sizeof f, e);
}

void dp_sigfile_writer_close(struct dp_sigfile_writer *w)
{
    free(w);
}

struct dp_sigfile {
    int fd;
    char *name;
    struct dp_sig_params params;
    uint64_t count;
    uint32_t record_bytes, crc;
};

static int read_at(const struct dp_sigfile *s, uint64_t off, void *p, size_t n, struct dp_err *e)
{
    size_t got;
    DP_TRY(dp_fs_pread_all(s->fd, p, n, off, &got, s->name, e));
    if (got != n)
        DP_FAIL(e, CORRUPT, "%s: ends at byte %llu, inside of what should be %zu bytes: make the signatures again", s->name,
                (unsigned long long)(off + got), n);
    return DP_OK;
}

static int check_header(struct dp_sigfile *s, const struct header *h, struct dp_err *e)
{
    if (memcmp(h->magic, magic, sizeof magic) != 0) DP_FAIL(e, CORRUPT, "%s: no signature file (magic at byte 0)", s->name);
    if (dp_crc32c(0, h, offsetof(struct header, crc)) != h->crc)
        DP_FAIL(e, CORRUPT, "%s: the checksum of the header (bytes 0-63) is wrong: make the signatures again", s->name);
    if (h->version != DP_SIGFILE_VERSION || h->header_bytes != sizeof *h)
        DP_FAIL(e, CONFIG, "%s: signature file version %u, this dpipe reads %d: make the signatures again", s->name, h->version,
                DP_SIGFILE_VERSION);
    if (h->normaliser != DP_SHINGLE_NORMALISER)
        DP_FAIL(e, CONFIG, "%s: words were cut by rules %016llx, this dpipe has %016llx: make the signatures again", s->name,
                (unsigned long long)h->normaliser, (unsigned long long)DP_SHINGLE_NORMALISER);
    if (h->fold_digits > 1) DP_FAIL(e, CORRUPT, "%s: fold_digits is %u at byte 28", s->name, h->fold_digits);
    s->params = (struct dp_sig_params){h->bands, h->rows, h->shingle, h->fold_digits != 0, h->seed};
    if (dp_sig_params_check(&s->params, e) < 0) return dp_err_prefix(e, "%s", s->name);
    s->record_bytes = DP_SIGFILE_FIXED + 4 * h->bands * h->rows;
    if (h->record_bytes != s->record_bytes)
        DP_FAIL(e, CORRUPT, "%s: records of %u bytes at byte 48, not %u", s->name, h->record_bytes, s->record_bytes);
    return DP_OK;
}

static int check_footer(struct dp_sigfile *s, uint64_t size, struct dp_err *e)
{
    struct footer f;
    uint64_t off = size - sizeof f, records = off - sizeof(struct header);
    DP_TRY(read_at(s, off, &f, sizeof f, e));
    if (memcmp(f.magic, end_magic, sizeof end_magic) != 0 || dp_crc32c(0, &f, offsetof(struct footer, crc)) != f.crc)
        DP_FAIL(e, CORRUPT, "%s: no footer at byte %llu: the file is cut short or was never finished; make the signatures again",
                s->name, (unsigned long long)off);
    if (records % s->record_bytes || records / s->record_bytes != f.count || f.count > UINT32_MAX - 1)
        DP_FAIL(e, CORRUPT, "%s: %llu bytes of records of %u bytes, but the footer counts %llu records", s->name,
                (unsigned long long)records, s->record_bytes, (unsigned long long)f.count);
    s->count = f.count;
    s->crc = f.records_crc;
    return DP_OK;
}

int dp_sigfile_open_fd(struct dp_sigfile **out, int fd, const char *name, struct dp_err *e)
{
    struct header h;
    struct stat st;
    int rc = DP_OK;
    *out = NULL;
    struct dp_sigfile *s = calloc(1, sizeof *s);
    if (!s) {
        close(fd);
        DP_FAIL(e, NOMEM, "%s: signature file reader", name);
    }
    s->fd = fd;
    s->name = strdup(name);
    if (!s->name) DP_GOTO(e, NOMEM, "%s: signature file reader", name);
    if (fstat(fd, &st) != 0) DP_GOTO_SYS(e, "%s: stat", name);
    if (!S_ISREG(st.st_mode)) DP_GOTO(e, USAGE, "%s is not a regular file", name);
    if (st.st_size < DP_SIGFILE_HEADER + DP_SIGFILE_FOOTER)
        DP_GOTO(e, CORRUPT, "%s: %lld bytes are too few for a signature file (96 at least)", name, (long long)st.st_size);
    DP_TRY_OUT(read_at(s, 0, &h, sizeof h, e));
    DP_TRY_OUT(check_header(s, &h, e));
    DP_TRY_OUT(check_footer(s, (uint64_t)st.st_size, e));
    *out = s;
    return DP_OK;
out:
    dp_sigfile_close(s);
    return rc;
}

int dp_sigfile_open(struct dp_sigfile **s, const char *path, struct dp_err *e)
{
    *s = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) DP_FAIL_SYS(e, "%s: cannot open signature file", path);
    return dp_sigfile_open_fd(s, fd, path, e);
}

void dp_sigfile_close(struct dp_sigfile *s)
{
    if (!s) return;
    close(s->fd);
    free(s->name);
    free(s);
}

const struct dp_sig_params *dp_sigfile_params(const struct dp_sigfile *s)
{
    return &s->params;
}
uint64_t dp_sigfile_count(const struct dp_sigfile *s)
{
    return s->count;
}
uint32_t dp_sigfile_record_bytes(const struct dp_sigfile *s)
{
    return s->record_bytes;
}
uint32_t dp_sigfile_crc(const struct dp_sigfile *s)
{
    return s->crc;
}

int dp_sigfile_read(const struct dp_sigfile *s, uint64_t first, size_t n, void *buf, struct dp_err *e)
{
    DP_ASSERT(first <= s->count && n <= s->count - first);
    return read_at(s, DP_SIGFILE_HEADER + first * s->record_bytes, buf, n * s->record_bytes, e);
}

void dp_sigfile_decode(const struct dp_sigfile *s, const void *raw, struct dp_sig_record *r)
{
    struct record f;
    (void)s;
    memcpy(&f, raw, sizeof f);
    *r = (struct dp_sig_record){.hash = {.lo = f.hash_lo, .hi = f.hash_hi}, .length = f.length, .score = f.score,
                                .slots = f.flags & 1 ? (const uint32_t *)raw + sizeof f / 4 : NULL};
}

int dp_sigfile_verify(const struct dp_sigfile *s, struct dp_err *e)
{
    enum { BLOCK = 256 };
    uint32_t crc = 0;
    int rc = DP_OK;
    char *buf = malloc((size_t)BLOCK * s->record_bytes);
    if (!buf) DP_FAIL(e, NOMEM, "%s: reader", s->name);
    for (uint64_t i = 0; i < s->count; i += BLOCK) {
        size_t n = s->count - i < BLOCK ? (size_t)(s->count - i) : BLOCK;
        DP_TRY_OUT(dp_sigfile_read(s, i, n, buf, e));
        crc = dp_crc32c(crc, buf, n * s->record_bytes);
    }
    if (crc != s->crc) DP_GOTO(e, CORRUPT, "%s: the checksum of the records is wrong: make the signatures again", s->name);
out:
    free(buf);
    return rc;
}
