/* Bytes of a counts file: docs/formats/words.md. Words are written as what differs from the word before: half the size, and sorted words
 * make that one comparison. The digest stands at the end, so that a file can be written to a pipe's pace and read in one pass; whoever
 * reads learns that it is damaged before he uses what he counted. */
#include "tokenizer/wordfile.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/progress.h"
#include "tokenizer/word_runs.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char magic[8] = {'d', 'p', 'w', 'o', 'r', 'd', 's', '1'};
static const char list_magic[] = "#dpipe-words 1 ";
enum { BLOCK = 256 * 1024, VARINT_MAX = 10, WORD_MAX = INT32_MAX, SPLIT_BYTES_MAX = 1 << 20, TAIL = 8 + 8 + 64, LOOK_EVERY = 1 << 16 };

/* --- writing --- */

struct dp_wordfile_writer {
    char *path, *part;
    bool text;
    struct dp_out *out;
    struct dp_sha256 *sha;
    struct dp_buf buf, last;
    uint64_t words, total;
};

static void put_u64(struct dp_buf *b, uint64_t v)
{
    unsigned char c[8];
    for (int i = 0; i < 8; i++) c[i] = (unsigned char)(v >> (8 * i));
    dp_buf_add(b, c, 8);
}

static void put_escaped(struct dp_buf *b, struct dp_span word)
{
    for (size_t i = 0; i < word.len; i++) {
        unsigned char c = (unsigned char)word.ptr[i];
        if (c == '\\') dp_buf_add_str(b, "\\\\");
        else if (c == '\n') dp_buf_add_str(b, "\\n");
        else if (c == '\t') dp_buf_add_str(b, "\\t");
        else if (c == '\r') dp_buf_add_str(b, "\\r");
        else if (c < 32 || c == 127) dp_buf_printf(b, "\\x%02x", c);
        else dp_buf_add_char(b, (char)c);
    }
}

static int flush(struct dp_wordfile_writer *w, struct dp_err *e)
{
    DP_TRY(dp_buf_check(&w->buf, "counted words", e));
    dp_sha256_add(w->sha, w->buf.ptr, w->buf.len);
    DP_TRY(dp_out_add(w->out, w->buf.ptr, w->buf.len, e));
    dp_buf_clear(&w->buf);
    return DP_OK;
}

static int open_writer(struct dp_wordfile_writer *w, const char *path, struct dp_span split, struct dp_err *e)
{
    size_t n = strlen(path);
    dp_buf_init(&w->buf, UINT32_MAX);
    dp_buf_init(&w->last, WORD_MAX);
    w->path = strdup(path);
    w->part = malloc(n + 6);
    if (!w->path || !w->part) DP_FAIL(e, NOMEM, "%s", path);
    snprintf(w->part, n + 6, "%s.part", path);
    unlink(w->part);
    DP_TRY(dp_sha256_open(&w->sha, e));
    DP_TRY(dp_out_open(&w->out, w->part, false, e));
    DP_ASSERT(split.len && split.len <= SPLIT_BYTES_MAX);
    if (w->text) {
        dp_buf_add_str(&w->buf, list_magic);
        put_escaped(&w->buf, split);
        dp_buf_add_char(&w->buf, '\n');
    } else {
        uint32_t len = (uint32_t)split.len;
        unsigned char size[4] = {(unsigned char)len, (unsigned char)(len >> 8), (unsigned char)(len >> 16), (unsigned char)(len >> 24)};
        dp_buf_add(&w->buf, magic, sizeof magic);
        dp_buf_add(&w->buf, size, 4);
        dp_buf_add_span(&w->buf, split);
    }
    return DP_OK;
}

int dp_wordfile_create(struct dp_wordfile_writer **out, const char *path, struct dp_span split, bool text, struct dp_err *e)
{
    struct dp_wordfile_writer *w = calloc(1, sizeof *w);
    *out = NULL;
    if (!w) DP_FAIL(e, NOMEM, "%s", path);
    w->text = text;
    int rc = open_writer(w, path, split, e);
    if (rc < 0) dp_wordfile_close(w);
    else *out = w;
    return rc;
}

int dp_wordfile_add(struct dp_wordfile_writer *w, struct dp_span word, uint64_t count, struct dp_err *e)
{
    DP_ASSERT(word.len && count);
    if (w->text) {
        put_escaped(&w->buf, word);
        dp_buf_printf(&w->buf, "\t%llu\n", (unsigned long long)count);
    } else {
        size_t max = word.len < w->last.len ? word.len : w->last.len, same = 0;
        while (same < max && word.ptr[same] == w->last.ptr[same]) same++;
        dp_buf_add_varint(&w->buf, same);
        dp_buf_add_varint(&w->buf, word.len - same);
        dp_buf_add_varint(&w->buf, count);
        dp_buf_add(&w->buf, word.ptr + same, word.len - same);
        w->last.len = same;
        dp_buf_add(&w->last, word.ptr + same, word.len - same);
        DP_TRY(dp_buf_check(&w->last, "a word", e));
    }
    w->words++;
    w->total += count;
    return w->buf.len >= BLOCK || w->buf.full ? flush(w, e) : DP_OK;
}

int dp_wordfile_finish(struct dp_wordfile_writer *w, struct dp_err *e)
{
    if (!w->text) {
        char hex[DP_HEX256];
        dp_buf_add_varint(&w->buf, 0);
        dp_buf_add_varint(&w->buf, 0);
        put_u64(&w->buf, w->words);
        put_u64(&w->buf, w->total);
        DP_TRY(flush(w, e));
        dp_sha256_finish(w->sha, hex);
        w->sha = NULL;
        DP_TRY(dp_out_add(w->out, hex, 64, e));
    } else DP_TRY(flush(w, e));
    DP_TRY(dp_out_finish(w->out, NULL, e));
    DP_TRY(dp_fs_publish(dp_out_descriptor(w->out), w->part, w->path, e));
    free(w->part);
    w->part = NULL;
    return DP_OK;
}

void dp_wordfile_close(struct dp_wordfile_writer *w)
{
    if (!w) return;
    if (w->out) dp_out_close(w->out);
    if (w->part && w->out) unlink(w->part);
    dp_sha256_close(w->sha);
    dp_buf_release(&w->buf);
    dp_buf_release(&w->last);
    free(w->path);
    free(w->part);
    free(w);
}

/* --- reading --- */

struct dp_wordfile_reader {
    int fd;
    char *name;
    char *buf;
    size_t pos, fill, cap;
    uint64_t offset; /* of buf in the file */
    bool at_end, text, escaped, ended;
    struct dp_buf split; /* "": a list of texts */
    struct dp_sha256 *sha;
    size_t hashed; /* bytes of buf that sha has */
    struct dp_buf word;
    uint64_t words, total;
};

static unsigned long long place(const struct dp_wordfile_reader *r)
{
    return r->offset + r->pos;
}

/* What is before pos is part of the digest. */
static void hash_up(struct dp_wordfile_reader *r)
{
    if (r->sha && r->pos > r->hashed) dp_sha256_add(r->sha, r->buf + r->hashed, r->pos - r->hashed);
    r->hashed = r->pos;
}

/* Have n bytes at hand, or all there are. */
static int need(struct dp_wordfile_reader *r, size_t n, struct dp_err *e)
{
    if (r->fill - r->pos >= n || r->at_end) return DP_OK;
    hash_up(r);
    memmove(r->buf, r->buf + r->pos, r->fill - r->pos);
    r->offset += r->pos;
    r->fill -= r->pos;
    r->pos = r->hashed = 0;
    if (n > r->cap) {
        size_t cap = n > 2 * r->cap ? n : 2 * r->cap;
        char *b = realloc(r->buf, cap);
        if (!b) DP_FAIL(e, NOMEM, "%s: a word of %zu bytes", r->name, n);
        r->buf = b;
        r->cap = cap;
    }
    while (r->fill < n) {
        ssize_t got = read(r->fd, r->buf + r->fill, r->cap - r->fill);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) DP_FAIL_SYS(e, "%s: cannot read", r->name);
        if (got == 0) {
            r->at_end = true;
            break;
        }
        r->fill += (size_t)got;
    }
    return dp_progress_go_on(e);
}

static int cut_short(const struct dp_wordfile_reader *r, struct dp_err *e)
{
    DP_FAIL(e, CORRUPT, "%s: cut short at byte %llu", r->name, (unsigned long long)(r->offset + r->fill));
}

static int get_varint(struct dp_wordfile_reader *r, uint64_t *v, struct dp_err *e)
{
    unsigned long long at = place(r);
    *v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (r->pos == r->fill) return cut_short(r, e);
        unsigned char b = (unsigned char)r->buf[r->pos++];
        if (shift == 63 && b > 1) break;
        *v |= (uint64_t)(b & 127) << shift;
        if (b < 128) return DP_OK;
    }
    DP_FAIL(e, CORRUPT, "%s: no number at byte %llu", r->name, at);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int unescape(struct dp_wordfile_reader *r, struct dp_span s, struct dp_err *e)
{
    dp_buf_clear(&r->word);
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i], k = i + 1 < s.len ? s.ptr[i + 1] : 0;
        if (c != '\\') {
            dp_buf_add_char(&r->word, c);
            continue;
        }
        int hi = k == 'x' && i + 3 < s.len ? hex_digit(s.ptr[i + 2]) : -1, lo = hi >= 0 ? hex_digit(s.ptr[i + 3]) : -1;
        if (lo >= 0) {
            dp_buf_add_char(&r->word, (char)(hi << 4 | lo));
            i += 3;
            continue;
        }
        const char *from = "\\ntr", *at = k ? strchr(from, k) : NULL;
        if (!at) DP_FAIL(e, CORRUPT, "%s: byte %llu: a backslash that begins no escape", r->name, place(r));
        dp_buf_add_char(&r->word, "\\\n\t\r"[at - from]);
        i++;
    }
    return dp_buf_check(&r->word, "a word", e);
}

/* A line, without its newline; false at the end. */
static int next_line(struct dp_wordfile_reader *r, struct dp_span *line, struct dp_err *e)
{
    size_t seen = 0;
    for (;;) {
        const char *from = r->buf + r->pos, *nl = memchr(from + seen, '\n', r->fill - r->pos - seen);
        size_t n = nl ? (size_t)(nl - from) : r->fill - r->pos;
        if (nl || (r->at_end && n)) {
            *line = dp_span(from, n);
            return DP_OK;
        }
        if (r->at_end) return DP_EOF;
        if (n > WORD_MAX) DP_FAIL(e, LIMIT, "%s: the line at byte %llu has more than 2 GiB", r->name, place(r));
        seen = n;
        DP_TRY(need(r, n + BLOCK / 2, e));
    }
}

static int read_head(struct dp_wordfile_reader *r, struct dp_err *e)
{
    DP_TRY(need(r, sizeof magic + 4, e));
    if (r->fill < sizeof magic + 4 || memcmp(r->buf, magic, sizeof magic) != 0) {
        r->text = true;
        size_t n = sizeof list_magic - 1;
        struct dp_span line = {NULL, 0};
        DP_TRY(need(r, n, e));
        if (r->fill < n || memcmp(r->buf, list_magic, n) != 0) return DP_OK;
        int rc = next_line(r, &line, e);
        if (rc != DP_OK || line.len == n || line.len > SPLIT_BYTES_MAX) return rc < 0 ? rc : cut_short(r, e);
        DP_TRY(unescape(r, dp_span(line.ptr + n, line.len - n), e));
        dp_buf_add_span(&r->split, dp_buf_span(&r->word));
        r->pos += line.len + (r->pos + line.len < r->fill);
        r->escaped = true;
        return dp_buf_check(&r->split, "the name of a split", e);
    }
    DP_TRY(dp_sha256_open(&r->sha, e));
    const unsigned char *b = (const unsigned char *)r->buf + sizeof magic;
    size_t n = b[0] | (size_t)b[1] << 8 | (size_t)b[2] << 16 | (size_t)b[3] << 24;
    if (!n || n > SPLIT_BYTES_MAX) DP_FAIL(e, CORRUPT, "%s: the split's name has %zu bytes", r->name, n);
    r->pos = sizeof magic + 4;
    DP_TRY(need(r, n, e));
    if (r->fill - r->pos < n) return cut_short(r, e);
    dp_buf_add(&r->split, r->buf + r->pos, n);
    r->pos += n;
    return dp_buf_check(&r->split, "the name of a split", e);
}

int dp_wordfile_open(struct dp_wordfile_reader **out, int fd, const char *name, struct dp_err *e)
{
    struct dp_wordfile_reader *r = calloc(1, sizeof *r);
    *out = NULL;
    if (r) {
        r->fd = fd;
        r->cap = BLOCK;
        r->buf = malloc(r->cap);
        r->name = strdup(name);
        dp_buf_init(&r->word, WORD_MAX);
        dp_buf_init(&r->split, SPLIT_BYTES_MAX);
    }
    if (!r || !r->buf || !r->name) {
        dp_wordfile_release(r);
        DP_FAIL(e, NOMEM, "%s", name);
    }
    int rc = read_head(r, e);
    if (rc < 0) dp_wordfile_release(r);
    else *out = r;
    return rc;
}

struct dp_span dp_wordfile_split(const struct dp_wordfile_reader *r)
{
    return dp_buf_span(&r->split);
}

void dp_wordfile_release(struct dp_wordfile_reader *r)
{
    if (!r) return;
    dp_sha256_close(r->sha);
    dp_buf_release(&r->word);
    dp_buf_release(&r->split);
    free(r->name);
    free(r->buf);
    free(r);
}

static int read_tail(struct dp_wordfile_reader *r, struct dp_err *e)
{
    char hex[DP_HEX256];
    uint64_t v[2] = {0, 0};
    DP_TRY(need(r, TAIL + 1, e));
    if (r->fill - r->pos < TAIL) return cut_short(r, e);
    for (int i = 0; i < 16; i++) v[i / 8] |= (uint64_t)(unsigned char)r->buf[r->pos++] << (i % 8 * 8);
    hash_up(r);
    dp_sha256_finish(r->sha, hex);
    r->sha = NULL;
    if (memcmp(hex, r->buf + r->pos, 64) != 0) DP_FAIL(e, CORRUPT, "%s: its digest says that it is damaged; count again", r->name);
    r->pos += 64;
    if (r->fill != r->pos) DP_FAIL(e, CORRUPT, "%s: something follows its end at byte %llu", r->name, place(r));
    if (v[0] != r->words || v[1] != r->total)
        DP_FAIL(e, CORRUPT, "%s: %llu words counted %llu times, its end says %llu and %llu", r->name, (unsigned long long)r->words,
                (unsigned long long)r->total, (unsigned long long)v[0], (unsigned long long)v[1]);
    r->ended = true;
    return DP_EOF;
}

static int next_counted(struct dp_wordfile_reader *r, struct dp_span *word, uint64_t *count, struct dp_err *e)
{
    uint64_t same, n;
    DP_TRY(need(r, 3 * VARINT_MAX, e));
    unsigned long long at = place(r);
    DP_TRY(get_varint(r, &same, e));
    DP_TRY(get_varint(r, &n, e));
    if (!same && !n) return read_tail(r, e);
    DP_TRY(get_varint(r, count, e));
    if (same > r->word.len || n > WORD_MAX - same || !n || !*count || *count > UINT64_MAX / 4 - r->total)
        DP_FAIL(e, CORRUPT, "%s: no word and count at byte %llu", r->name, at);
    DP_TRY(need(r, (size_t)n, e));
    if (r->fill - r->pos < n) return cut_short(r, e);
    const unsigned char *rest = (const unsigned char *)r->buf + r->pos;
    /* It comes behind the word before: it is longer than that one, or differs upwards. */
    if (same < r->word.len && rest[0] <= (unsigned char)r->word.ptr[same]) DP_FAIL(e, CORRUPT, "%s: the word at byte %llu is out of order", r->name, at);
    r->word.len = (size_t)same;
    dp_buf_add(&r->word, rest, (size_t)n);
    DP_TRY(dp_buf_check(&r->word, "a word", e));
    r->pos += (size_t)n;
    r->words++;
    r->total += *count;
    *word = dp_buf_span(&r->word);
    return DP_OK;
}

static int next_listed(struct dp_wordfile_reader *r, struct dp_span *word, uint64_t *count, struct dp_err *e)
{
    struct dp_span line = {NULL, 0};
    for (;;) {
        int rc = next_line(r, &line, e);
        if (rc != DP_OK) return rc;
        size_t used = line.len + (r->pos + line.len < r->fill);
        if (line.len && line.ptr[line.len - 1] == '\r') line.len--;
        const char *tab = line.len ? memrchr(line.ptr, '\t', line.len) : NULL;
        uint64_t n = 0;
        const char *p = tab ? tab + 1 : NULL, *end = line.ptr + line.len;
        bool good = tab && p < end;
        for (; good && p < end; p++) {
            good = *p >= '0' && *p <= '9' && n < UINT64_MAX / 64;
            n = n * 10 + (uint64_t)(*p - '0');
        }
        if (line.len && !good) DP_FAIL(e, CORRUPT, "%s: the line at byte %llu isn't TEXT<TAB>COUNT", r->name, place(r));
        if (good && r->escaped) DP_TRY(unescape(r, dp_span(line.ptr, (size_t)(tab - line.ptr)), e));
        *word = !good ? dp_span("", 0) : r->escaped ? dp_buf_span(&r->word) : dp_span(line.ptr, (size_t)(tab - line.ptr));
        *count = n;
        r->pos += used;
        if (good && word->len && n) return DP_OK;
    }
}

int dp_wordfile_next(struct dp_wordfile_reader *r, struct dp_span *word, uint64_t *count, struct dp_err *e)
{
    if (r->ended) return DP_EOF;
    return r->text ? next_listed(r, word, count, e) : next_counted(r, word, count, e);
}

/* --- with counters --- */

static int add_all(struct dp_bpe_counter *c, struct dp_wordfile_reader *r, const char *name, struct dp_err *e)
{
    struct dp_span word, split = dp_wordfile_split(r), want = dp_bpe_counter_split_text(c);
    uint64_t n;
    int rc;
    bool words = split.len > 0;
    if (words && !dp_span_eq(split, want))
        DP_FAIL(e, CONFIG, "%s: its words were split by %.*s, not by %.*s: count with that split, or train with this one", name, DP_SPAN_FMT(split), DP_SPAN_FMT(want));
    while ((rc = dp_wordfile_next(r, &word, &n, e)) == DP_OK) {
        if (words) DP_TRY(dp_bpe_counter_add_word(c, word, n, e));
        else DP_TRY(dp_bpe_counter_add_times(c, word, n, e));
    }
    return rc < 0 ? rc : DP_OK;
}

int dp_wordfile_count(struct dp_bpe_counter *c, const char *path, struct dp_err *e)
{
    struct dp_wordfile_reader *r = NULL;
    bool std = strcmp(path, "-") == 0;
    int fd = std ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) DP_FAIL_SYS(e, "%s: cannot open", path);
    int rc = dp_wordfile_open(&r, fd, std ? "standard input" : path, e);
    if (rc >= 0) rc = add_all(c, r, path, e);
    dp_wordfile_release(r);
    if (!std) close(fd);
    return rc;
}

static int save_word(void *ctx, struct dp_span word, uint64_t count, struct dp_err *e)
{
    return dp_wordfile_add(ctx, word, count, e);
}

int dp_wordfile_save(struct dp_bpe_counter *c, const char *path, bool text, struct dp_err *e)
{
    struct dp_wordfile_writer *w;
    DP_TRY(dp_wordfile_create(&w, path, dp_bpe_counter_split_text(c), text, e));
    int rc = dp_bpe_counter_each(c, save_word, w, e);
    if (rc >= 0) rc = dp_wordfile_finish(w, e);
    dp_wordfile_close(w);
    return rc;
}

struct source {
    int fd;
    struct dp_wordfile_reader *r;
    struct dp_span word;
    uint64_t count, head;
    bool done;
};

static int advance(struct source *s, struct dp_err *e)
{
    int rc = dp_wordfile_next(s->r, &s->word, &s->count, e);
    s->done = rc == DP_EOF;
    s->head = s->done ? UINT64_MAX : dp_word_head(s->word);
    return rc < 0 ? rc : DP_OK;
}

static bool before(const struct source *a, const struct source *b)
{
    if (b->done) return !a->done;
    return !a->done && (a->head != b->head ? a->head < b->head : dp_word_order(a->word, b->word) < 0);
}

static int merge_sources(struct source *s, size_t n, struct dp_wordfile_writer *w, struct dp_err *e)
{
    for (;;) {
        struct source *least = s;
        uint64_t count = 0;
        for (size_t i = 1; i < n; i++)
            if (before(&s[i], least)) least = &s[i];
        if (least->done) return DP_OK;
        for (size_t i = 0; i < n; i++)
            if (!s[i].done && s[i].head == least->head && dp_span_eq(s[i].word, least->word)) count += s[i].count;
        DP_TRY(dp_wordfile_add(w, least->word, count, e));
        /* The least one last: the others are compared with it. */
        for (size_t i = 0; i < n; i++)
            if (&s[i] != least && !s[i].done && s[i].head == least->head && dp_span_eq(s[i].word, least->word)) DP_TRY(advance(&s[i], e));
        DP_TRY(advance(least, e));
    }
}

int dp_wordfile_merge(const char *const *paths, size_t n, const char *path, struct dp_err *e)
{
    struct source *s = calloc(n, sizeof *s);
    struct dp_wordfile_writer *w = NULL;
    size_t open_files = 0;
    int rc = DP_OK;
    if (!s) DP_FAIL(e, NOMEM, "%s", path);
    for (; open_files < n; open_files++) {
        struct source *k = &s[open_files];
        k->fd = open(paths[open_files], O_RDONLY | O_CLOEXEC);
        if (k->fd < 0) DP_GOTO_SYS(e, "%s: cannot open", paths[open_files]);
        rc = dp_wordfile_open(&k->r, k->fd, paths[open_files], e);
        if (rc < 0) close(k->fd);
        DP_TRY_OUT(rc);
        if (k->r->text || !dp_span_eq(dp_wordfile_split(k->r), dp_wordfile_split(s[0].r))) {
            open_files++;
            DP_GOTO(e, CONFIG, "%s: not a counts file of the same split", paths[open_files - 1]);
        }
    }
    for (size_t i = 0; i < n; i++) DP_TRY_OUT(advance(&s[i], e));
    DP_TRY_OUT(dp_wordfile_create(&w, path, dp_wordfile_split(s[0].r), false, e));
    DP_TRY_OUT(merge_sources(s, n, w, e));
    DP_TRY_OUT(dp_wordfile_finish(w, e));
out:
    dp_wordfile_close(w);
    for (size_t i = 0; i < open_files; i++) {
        dp_wordfile_release(s[i].r);
        close(s[i].fd);
    }
    free(s);
    return rc;
}
