/* libarchive sees a member as something to extract; we only want its bytes, so the whole wrapper is: hand it the window of
 * the stream below, take names and data. It seeks only in memory. Only the
 * format that the magic names is enabled: less foreign code sees hostile bytes, and opening costs less.
 *
 * Names: tar keeps bytes, zip may be CP437 or UTF-8, 7z and cab are UTF-16. libarchive converts through the locale of the calling thread, so
 * each call that touches names runs under C.UTF-8, and the result doesn't depend on the user's locale. */
#include "ingest/archive_src.h"

#include "ingest/format_guess.h"

#include <archive.h>
#include <archive_entry.h>

#include <locale.h>
#include <stdlib.h>

enum { BLOCK = 256 * 1024, RETRIES_MAX = 1 << 16 };

struct seen {
    uint64_t hash; /* 0: free */
    uint32_t count;
};

struct dp_archive {
    struct archive *la;
    struct archive_entry *entry; /* ours: libarchive doesn't notice when it couldn't get its own */
    struct dp_stream *src;
    struct dp_ingest_run *run;
    struct dp_stream member; /* no buffer between members */
    uint64_t member_begin;   /* bytes handed to libarchive before the block in which the member began */
    uint64_t handed, member_out;
    const void *block;       /* what is left of libarchive's last one, and of the hole before it */
    size_t block_len;
    uint64_t hole, declared; /* declared: the member's size, 0 when unknown */
    size_t lent;             /* bytes of the window that libarchive looks at */
    locale_t utf8;
    struct dp_buf name, where;
    struct seen *seen;
    size_t seen_cap, seen_count;
    uint64_t index;
    const struct format *format;
    struct dp_err err; /* of the read callback */
    bool failed, ended, in_order; /* in_order: a zip is read by its local headers, its directory being damaged */
};

static bool at(struct dp_span s, size_t off, const char *magic, size_t n)
{
    return s.len >= off + n && memcmp(s.ptr + off, magic, n) == 0;
}

/* A cpio header of 16-bit words, in either order: magic 070707, then a name of a sensible length that ends with NUL. */
static bool cpio_binary(struct dp_span s)
{
    const unsigned char *p = (const unsigned char *)s.ptr;
    if (s.len < 28) return false;
    bool little = p[0] == 0xc7 && p[1] == 0x71, big = p[0] == 0x71 && p[1] == 0xc7;
    size_t n = little ? (size_t)(p[20] | p[21] << 8) : (size_t)(p[20] << 8 | p[21]);
    return (little || big) && n > 1 && n <= 4096 && s.len >= 26 + n && !p[26 + n - 1] && !memchr(p + 26, 0, n - 1);
}

/* A zip with something in front of it, a self-extracting one: its end record is the last thing in the file and leads to the directory. */
static bool zip_behind(struct dp_span s)
{
    if (s.len < 22 + 46) return false;
    for (size_t at = s.len - 22, tries = 0; tries < 65536; at--, tries++) {
        const unsigned char *p = (const unsigned char *)s.ptr + at;
        if (p[0] == 'P' && memcmp(p, "PK\5\6", 4) == 0 && at + 22 + (size_t)(p[20] | p[21] << 8) == s.len) {
            size_t directory = (size_t)p[12] | (size_t)p[13] << 8 | (size_t)p[14] << 16 | (size_t)p[15] << 24;
            return directory >= 46 && directory <= at && memcmp(p - directory, "PK\1\2", 4) == 0;
        }
        if (!at) break;
    }
    return false;
}

/* A tar header without "ustar" (v7) is known by its checksum: the sum of its bytes, those of the field taken as blanks. */
static bool tar_checksum(struct dp_span s)
{
    if (s.len < 512 || !s.ptr[0]) return false;
    unsigned long sum = 0, want = 0;
    for (int i = 0; i < 512; i++) sum += i >= 148 && i < 156 ? 32 : (unsigned char)s.ptr[i];
    int i = 148;
    while (i < 156 && s.ptr[i] == ' ') i++;
    if (i == 156 || s.ptr[i] < '0' || s.ptr[i] > '7') return false;
    while (i < 156 && s.ptr[i] >= '0' && s.ptr[i] <= '7') want = want * 8 + (unsigned long)(s.ptr[i++] - '0');
    return sum == want;
}

static const struct format {
    size_t off;
    const char *magic;
    size_t len;
    enum dp_archive_kind kind;
    int (*enable)(struct archive *);
} formats[] = {
#define M(off, magic, kind, name) {off, magic, sizeof magic - 1, DP_ARCHIVE_##kind, archive_read_support_format_##name}
    M(257, "ustar", STREAMED, tar), M(0, "PK\3\4", SEEKING, zip), M(0, "PK\5\6", SEEKING, zip), M(0, "PK00PK\3\4", SEEKING, zip),
    M(0, "7z\xbc\xaf\x27\x1c", SEEKING, 7zip), M(0, "!<arch>\n", STREAMED, ar), M(0, "070701", STREAMED, cpio),
    M(0, "070702", STREAMED, cpio), M(0, "070707", STREAMED, cpio), M(32769, "CD001", SEEKING, iso9660), M(0, "MSCF\0\0\0\0", SEEKING, cab),
    M(2, "-lh", SEEKING, lha), M(0, "Rar!\x1a\7\1\0", SEEKING, rar5), M(0, "Rar!\x1a\7\0", SEEKING, rar), M(0, "xar!", SEEKING, xar),
#undef M
}, v7 = {0, "", 0, DP_ARCHIVE_STREAMED, archive_read_support_format_tar},
  old_cpio = {0, "", 0, DP_ARCHIVE_STREAMED, archive_read_support_format_cpio},
  hidden_zip = {0, "", 0, DP_ARCHIVE_SEEKING, archive_read_support_format_zip};

static const struct format *format_of(struct dp_span s, bool whole)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (!at(s, formats[i].off, formats[i].magic, formats[i].len)) continue;
        if (formats[i].off == 2 && (s.len < 7 || s.ptr[6] != '-')) continue; /* "-lh5-" */
        return &formats[i];
    }
    if (tar_checksum(s)) return &v7;
    if (cpio_binary(s)) return &old_cpio;
    bool program = whole && (dp_looks_binary(s) || at(s, 0, "#!", 2));
    return program && zip_behind(s) ? &hidden_zip : NULL;
}

enum dp_archive_kind dp_archive_sniff(struct dp_span s, bool whole)
{
    const struct format *f = format_of(s, whole);
    return f ? f->kind : DP_ARCHIVE_NONE;
}

/* Length of the valid UTF-8 sequence at p (Unicode, table 3-7), 0 if there is none. */
static size_t utf8_len(const unsigned char *p, size_t n)
{
    if (p[0] < 0x80) return 1;
    size_t k = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || n < k) return 0;
    unsigned lo = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80, hi = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < lo || p[1] > hi) return 0;
    for (size_t i = 2; i < k; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    return k;
}

void dp_clean_name(struct dp_buf *out, struct dp_span name)
{
    const unsigned char *p = (const unsigned char *)name.ptr;
    for (size_t i = 0; i < name.len;) {
        size_t k = utf8_len(p + i, name.len - i);
        bool digit = i + 1 < name.len && p[i + 1] >= '0' && p[i + 1] <= '9';
        if (k == 0 || p[i] < 32 || p[i] == 127 || p[i] == '%' || p[i] == '!' || ((p[i] == '@' || p[i] == '#') && digit)) {
            dp_buf_printf(out, "%%%02X", p[i++]);
        } else {
            dp_buf_add(out, p + i, k);
            i += k;
        }
    }
}

/* --- what libarchive reads from --- */

static la_ssize_t read_block(struct archive *la, void *ctx, const void **block)
{
    struct dp_archive *a = ctx;
    dp_stream_skip(a->src, a->lent);
    a->lent = 0;
    if (!a->src->len && dp_stream_need(a->src, 1, &a->err) < 0) {
        a->failed = true;
        archive_set_error(la, EIO, "cannot read");
        return ARCHIVE_FATAL;
    }
    a->lent = a->src->len < BLOCK ? a->src->len : BLOCK; /* small, so that the expansion ratio can be judged */
    a->handed += a->lent;
    *block = a->src->ptr;
    return (la_ssize_t)a->lent;
}

static la_int64_t skip_block(struct archive *la, void *ctx, la_int64_t n)
{
    struct dp_archive *a = ctx;
    (void)la;
    dp_stream_skip(a->src, a->lent);
    a->lent = 0;
    uint64_t missing = 0;
    if (n <= 0) return 0;
    if (dp_stream_drop(a->src, (uint64_t)n, &missing, &a->err) < 0) {
        a->failed = true;
        return 0; /* the next read fails too */
    }
    a->handed += (uint64_t)n - missing;
    return n - (la_int64_t)missing;
}

static la_int64_t seek_block(struct archive *la, void *ctx, la_int64_t offset, int whence)
{
    struct dp_archive *a = ctx;
    (void)la;
    a->lent = 0;
    int64_t size = (int64_t)a->src->base_len, now = (int64_t)a->src->offset;
    int64_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? now : size, to;
    if (__builtin_add_overflow(base, offset, &to) || to < 0) return ARCHIVE_FATAL;
    if (to > size) to = size;
    dp_stream_seek(a->src, (uint64_t)to);
    return to;
}

/* libarchive tells memory trouble by its message only, in places. */
static bool out_of_memory(struct dp_archive *a)
{
    const char *why = archive_error_string(a->la);
    return archive_errno(a->la) == ENOMEM || (why && (strstr(why, "allocate") || strstr(why, "Can't initialize")));
}

/* The next bytes of a member, as archive_read_data gives them, but what came before an error isn't lost with it, and xar's offsets, which are
 * those of the whole archive (libarchive 3.6), make no holes. */
static la_ssize_t read_data(struct dp_archive *a, char *dst, size_t room)
{
    if (!a->block_len && !a->hole) {
        la_int64_t offset, out = (la_int64_t)(a->member.offset + a->member.len);
        int rc = archive_read_data_block(a->la, &a->block, &a->block_len, &offset);
        if (rc != ARCHIVE_OK) a->block_len = 0; /* a warning too: a wrong checksum is one */
        if (rc == ARCHIVE_EOF) return 0;
        if (rc != ARCHIVE_OK) return rc;
        if (a->format->enable != archive_read_support_format_xar && offset > out) a->hole = (uint64_t)(offset - out);
        if (!a->hole && !a->block_len) return ARCHIVE_RETRY;
    }
    size_t have = a->hole ? (a->hole < room ? (size_t)a->hole : room) : a->block_len < room ? a->block_len : room;
    if (a->hole) {
        memset(dst, 0, have);
        a->hole -= have;
    } else {
        memcpy(dst, a->block, have);
        a->block = (const char *)a->block + have;
        a->block_len -= have;
    }
    return (la_ssize_t)have;
}

/* All bytes that the header promised came before the trouble, in a format that has no checksum to say otherwise: only padding is missing. */
static bool complete(const struct dp_archive *a)
{
    int (*f)(struct archive *) = a->format->enable;
    bool unchecked = f == archive_read_support_format_tar || f == archive_read_support_format_cpio || f == archive_read_support_format_ar;
    return unchecked && a->declared && a->member.offset + a->member.len >= a->declared;
}

static int member_produce(struct dp_stream *s, char *dst, size_t room, size_t *got, struct dp_err *e)
{
    struct dp_archive *a = (struct dp_archive *)((char *)s - offsetof(struct dp_archive, member));
    la_ssize_t n = read_data(a, dst, room);
    *got = 0;
    if (a->failed) {
        *e = a->err;
        return a->err.code;
    }
    if (n == 0) {
        s->eof = true;
    } else if (n == ARCHIVE_RETRY) {
        s->room_min = room;
    } else if (n < 0) {
        if (out_of_memory(a)) DP_FAIL(e, NOMEM, "%s: member %s", a->run->name, s->where);
        const char *why = archive_error_string(a->la);
        dp_run_damage(a->run, s->where, s->offset + s->len, DP_CORRUPT, "member can't be read on: %s", why ? why : "bad data");
        if (n == ARCHIVE_FATAL) a->ended = true;
        s->eof = true;
        s->broken = !complete(a);
    } else {
        a->member_out += (size_t)n;
        if (a->member_out > DP_RATIO_FREE_BYTES && (double)a->member_out > a->run->o->ratio_max * (double)(a->handed - a->member_begin + 1)) {
            dp_run_forgive(a->run, a->member_out - (size_t)n);
            dp_run_damage(a->run, s->where, s->offset, DP_LIMIT,
                          "refused, it expands more than %.0f times (limit ratio_max; raise it if you trust the source)",
                          a->run->o->ratio_max);
            s->eof = s->broken = true;
        } else if (!dp_run_produced(a->run, s->where, s->offset, (size_t)n)) {
            s->eof = s->broken = true;
        } else {
            *got = (size_t)n;
        }
    }
    return DP_OK;
}

static void member_close(struct dp_stream *s)
{
    (void)s; /* part of the archive */
}

/* A new libarchive object at the stream's place; false: no memory. */
static bool set_up(struct dp_archive *a, int (*enable)(struct archive *))
{
    if (a->la) archive_read_free(a->la);
    struct archive *la = a->la = archive_read_new();
    if (!la || enable(la) < ARCHIVE_WARN) return false;
    /* Archives that were simply put one behind the other: all of them. */
    if (enable == archive_read_support_format_tar) archive_read_set_format_option(la, "tar", "read_concatenated_archives", "1");
    int bad = archive_read_set_read_callback(la, read_block) | archive_read_set_callback_data(la, a) | archive_read_set_skip_callback(la, skip_block);
    if (a->src->whole) bad |= archive_read_set_seek_callback(la, seek_block);
    return !bad;
}

int dp_archive_open(struct dp_archive **out, struct dp_stream *source, struct dp_err *e)
{
    struct dp_archive *a = calloc(1, sizeof *a);
    *out = NULL;
    if (!a) DP_FAIL(e, NOMEM, "%s: an archive reader", source->run->name);
    a->src = source;
    a->run = source->run;
    a->member.run = source->run;
    a->member.produce = member_produce;
    a->member.close = member_close;
    a->member.ptr = "";
    dp_buf_init(&a->name, 1 << 20);
    dp_buf_init(&a->where, 4 << 20);
    a->utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0); /* 0 where it doesn't exist: names in the user's locale */
    a->format = format_of(dp_span(source->ptr, source->len), source->whole);
    a->entry = archive_entry_new();
    if (!a->format || !a->entry || !set_up(a, a->format->enable)) {
        dp_archive_close(a);
        DP_FAIL(e, NOMEM, "%s: an archive reader", source->run->name);
    }
    *out = a;
    return DP_OK;
}

void dp_archive_close(struct dp_archive *a)
{
    if (!a) return;
    dp_stream_release_buffer(&a->member);
    if (a->la) archive_read_free(a->la);
    archive_entry_free(a->entry);
    if (a->utf8) freelocale(a->utf8);
    dp_buf_release(&a->name);
    dp_buf_release(&a->where);
    free(a->seen);
    free(a);
}

/* How many members of this name came before, this one included. */
static int count_name(struct dp_archive *a, uint32_t *count, struct dp_err *e)
{
    if ((a->seen_count + 1) * 2 > a->seen_cap) {
        size_t cap = a->seen_cap ? a->seen_cap * 2 : 256;
        struct seen *t = calloc(cap, sizeof *t);
        if (!t) DP_FAIL(e, NOMEM, "%s: names of %zu members", a->run->name, a->seen_count);
        for (size_t i = 0; i < a->seen_cap; i++) {
            if (!a->seen[i].hash) continue;
            size_t k = a->seen[i].hash & (cap - 1);
            while (t[k].hash) k = (k + 1) & (cap - 1);
            t[k] = a->seen[i];
        }
        free(a->seen);
        a->seen = t;
        a->seen_cap = cap;
    }
    uint64_t h = dp_hash64(a->name.ptr, a->name.len, 0);
    if (!h) h = 1;
    size_t k = h & (a->seen_cap - 1);
    while (a->seen[k].hash && a->seen[k].hash != h) k = (k + 1) & (a->seen_cap - 1);
    if (!a->seen[k].hash) a->seen_count++;
    a->seen[k].hash = h;
    *count = ++a->seen[k].count;
    return DP_OK;
}

static int take_name(struct dp_archive *a, struct archive_entry *entry, struct dp_err *e)
{
    const char *raw = archive_entry_pathname(entry);
    if (!raw) raw = archive_entry_pathname_utf8(entry);
    if (!raw && errno == ENOMEM) DP_FAIL(e, NOMEM, "%s: a member's name", a->run->name);
    dp_buf_clear(&a->name);
    if (raw) dp_clean_name(&a->name, dp_span_str(raw));
    else dp_buf_printf(&a->name, "member-%llu", (unsigned long long)a->index); /* a name that no charset explains */
    if (a->name.full) { /* longer than any file system allows; the index keeps it apart */
        dp_buf_clear(&a->name);
        dp_buf_printf(&a->name, "member-%llu", (unsigned long long)a->index);
    }
    uint32_t count = 1;
    DP_TRY(count_name(a, &count, e));
    if (count > 1) dp_buf_printf(&a->name, "#%u", count);
    dp_buf_clear(&a->where);
    if (a->src->where[0]) dp_buf_printf(&a->where, "%s!", a->src->where);
    dp_buf_add_span(&a->where, dp_buf_span(&a->name));
    dp_buf_add_char(&a->where, 0);
    if (dp_buf_check(&a->where, "a member's name", e) < 0 || dp_buf_check(&a->name, "a member's name", e) < 0)
        return e ? (int)e->code : DP_NOMEM;
    return DP_OK;
}

/* Start libarchive: DP_OK, or DP_EMPTY when what it sees is no archive after all (reported). */
static int begin(struct dp_archive *a, struct dp_err *e)
{
    if (archive_read_open1(a->la) >= ARCHIVE_WARN) return DP_OK;
    if (a->failed) {
        if (e) *e = a->err;
        return a->err.code;
    }
    const char *why = archive_error_string(a->la); /* opening only allocates: failing without a word is that */
    if (!why || out_of_memory(a)) DP_FAIL(e, NOMEM, "%s: archive %s", a->run->name, a->src->where);
    dp_run_damage(a->run, a->src->where, 0, DP_CORRUPT, "archive: %s", why);
    a->ended = true;
    return DP_EMPTY;
}

/* The directory at a zip's end is damaged (reported), and nothing was read by it: each member has a header of its own in front of it. */
static int begin_in_order(struct dp_archive *a, struct dp_err *e)
{
    a->in_order = true;
    a->lent = 0;
    a->handed = 0;
    dp_stream_seek(a->src, 0);
    if (!set_up(a, archive_read_support_format_zip_streamable)) DP_FAIL(e, NOMEM, "%s: archive %s", a->run->name, a->src->where);
    return begin(a, e);
}

/* archive_read_next_header2 with its ladder of outcomes: 1 a header, 0 the end. */
static int next_header(struct dp_archive *a, struct dp_err *e)
{
    bool told = false;
    for (int tries = 0; !a->ended && tries < RETRIES_MAX; tries++) {
        errno = 0; /* take_name looks at it: a name lost to lack of memory must not become another name */
        int rc = archive_read_next_header2(a->la, a->entry);
        if (a->failed) {
            if (e) *e = a->err;
            return a->err.code;
        }
        if (rc == ARCHIVE_OK || rc == ARCHIVE_WARN) return 1;
        if (rc == ARCHIVE_EOF) {
            a->ended = true;
            return 0;
        }
        if (out_of_memory(a)) DP_FAIL(e, NOMEM, "%s: archive %s", a->run->name, a->src->where);
        const char *why = archive_error_string(a->la);
        bool again = rc == ARCHIVE_FATAL && a->index == 1 && !a->in_order && a->src->whole && a->format->enable == archive_read_support_format_zip;
        bool sought = a->src->whole && a->format->kind == DP_ARCHIVE_SEEKING; /* libarchive's count is of what it read, wherever that was */
        if (!told)
            dp_run_damage(a->run, a->src->where, sought ? a->src->offset : (uint64_t)archive_filter_bytes(a->la, -1), DP_CORRUPT, "archive: %s; %s", why ? why : "bad data",
                          again ? "reading its members in their order" : rc == ARCHIVE_FATAL ? "the rest of it is not read" : "looking for the next member");
        told = !again;
        if (again) DP_TRY(begin_in_order(a, e));
        else if (rc == ARCHIVE_FATAL) a->ended = true;
    }
    a->ended = true;
    return 0;
}

static int next_member(struct dp_archive *a, struct dp_stream **member, struct dp_span *name, uint64_t *size, struct dp_err *e)
{
    if (a->index == 0) DP_TRY(begin(a, e));
    struct archive_entry *entry = a->entry;
    for (;;) {
        a->index++;
        int rc = next_header(a, e);
        if (rc < 0) return rc;
        if (rc == 0) break;
        mode_t type = archive_entry_filetype(entry); /* 0: an ar or cpio that keeps permissions only */
        if ((type && type != AE_IFREG) || archive_entry_hardlink(entry)) {
            a->run->stats.skipped++;
            if (!dp_run_member(a->run, a->src->where, 0)) break;
            continue;
        }
        DP_TRY(take_name(a, entry, e));
        if (!dp_run_member(a->run, a->src->where, 0)) break;
        if (archive_entry_is_encrypted(entry)) {
            dp_run_damage(a->run, a->where.ptr, 0, DP_CORRUPT, "the member is encrypted and was not read");
            continue;
        }
        struct dp_stream *s = &a->member;
        dp_stream_release_buffer(s);
        s->eof = s->broken = false;
        s->offset = 0;
        s->room_min = 0;
        s->marks = 0;
        s->where = a->where.ptr;
        a->member_out = a->block_len = a->hole = 0;
        a->member_begin = a->handed - a->lent; /* the block at hand may hold all of a small member */
        int64_t declared = archive_entry_size_is_set(entry) ? archive_entry_size(entry) : 0;
        *size = a->declared = declared > 0 ? (uint64_t)declared : 0;
        *member = s;
        *name = dp_buf_span(&a->name);
        return DP_OK;
    }
    return DP_EOF;
}

int dp_archive_next(struct dp_archive *a, struct dp_stream **member, struct dp_span *name, uint64_t *size, struct dp_err *e)
{
    locale_t was = a->utf8 ? uselocale(a->utf8) : (locale_t)0;
    int rc = next_member(a, member, name, size, e);
    if (was) uselocale(was);
    return rc;
}
