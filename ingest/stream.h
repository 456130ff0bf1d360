/* ingest/stream.h - a stream of bytes as a sliding window, and what all streams of one source share.
 *
 * A consumer asks for n bytes at hand (dp_stream_need), looks at ptr[0..len), and gives back what it
 * has used (dp_stream_skip). Sources in memory hand out all they have at once, without a copy; decompressors and
 * archive members fill a buffer that grows only to what was asked for.
 *
 * Damage doesn't end a stream: the window stops in front of it with `broken` set (already reported), the consumer
 * closes whatever it was in the middle of, and dp_stream_resume() goes on at the next place that makes sense.
 *
 * Memory: a stream's buffer is at most about twice the largest n asked for, and at least 256 KiB; of a mapped file about 4 MiB are
 * resident beside what is at hand.
 * Thread-safety: one owner. Errors: negative codes only for the environment (memory, I/O). */
#ifndef DP_INGEST_STREAM_H
#define DP_INGEST_STREAM_H

#include "base/err.h"
#include "base/span.h"
#include "ingest/reader.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    DP_PEEK_BYTES = 64 * 1024,         /* what format guessing may look at */
    DP_RATIO_FREE_BYTES = 16 << 20,    /* expansion up to here is never refused */
    DP_STREAM_MARKS = 256,
    DP_STREAM_TRIM = 4 << 20,
};

/* What the streams of one reader share: limits, counters, the damage callback. */
struct dp_ingest_run {
    const struct dp_ingest_options *o;
    const char *name;        /* the source, for messages */
    uint64_t file_bytes;
    uint64_t produced;       /* bytes out of all decompressors and archives, every layer counted */
    uint64_t forgiven;       /* of produced: from members that were refused; doesn't count against ratio_max */
    int refusals;
    uint64_t buffered;       /* bytes of nested archives held in memory now */
    bool refused;            /* a limit of the whole source was hit: every stream ends here */
    struct dp_reader_stats stats;
    dp_damage_fn damage;
    void *damage_ctx;
};

/* Report damage at `offset` of the stream called `where` ("" for the file itself). */
void dp_run_damage(struct dp_ingest_run *run, const char *where, uint64_t offset, enum dp_code code,
                   const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* Count n bytes that came out of a layer; false when the source has used up total_bytes_max or ratio_max (reported once). */
bool dp_run_produced(struct dp_ingest_run *run, const char *where, uint64_t offset, size_t n);
/* A member was refused as a bomb after n bytes: the members behind it shall still be read. After 64 refusals nothing is forgiven any more. */
void dp_run_forgive(struct dp_ingest_run *run, uint64_t n);
/* Count a member of an archive or of a compressed file; false past members_max (reported once). */
bool dp_run_member(struct dp_ingest_run *run, const char *where, uint64_t offset);

struct dp_stream {
    const char *ptr; /* unread bytes at hand */
    size_t len;
    uint64_t offset; /* of ptr in this stream */
    bool eof;        /* nothing follows the window */
    bool broken;     /* damage follows the window */
    bool whole;      /* the window is all of the stream: dp_stream_seek works */
    struct dp_ingest_run *run;
    const char *where; /* outlives the stream */

    /* For the makers of streams. produce() writes up to `room` bytes, sets *got, and sets eof or broken when
     * nothing more comes now; got = 0 with neither asks for room_min bytes of room and another call. */
    int (*produce)(struct dp_stream *s, char *dst, size_t room, size_t *got, struct dp_err *e);
    void (*close)(struct dp_stream *s); /* frees the rest and s itself; may be NULL */
    char *buf;
    size_t cap, room_min;
    struct dp_stream *chain; /* decompressors: the stream under all decompressors below this one */
    uint64_t chain_base;     /* its offset when this stream began */

    /* Decompressors: where members begin, in this stream and in the one below. */
    struct dp_mark {
        uint64_t out, in;
    } mark[DP_STREAM_MARKS];
    int marks;
    const char *base; /* whole: the first byte */
    size_t base_len;
    bool mapped;       /* base is a file's map: dp_stream_trim gives its pages back */
    size_t since_trim; /* bytes skipped since then */
};

/* A stream over bytes that outlive it. */
struct dp_stream *dp_stream_memory(struct dp_ingest_run *run, const void *p, size_t n, const char *where);
/* Have n bytes at hand, or all there are before the end or damage: check len. */
int dp_stream_need(struct dp_stream *s, size_t n, struct dp_err *e);
void dp_stream_skip(struct dp_stream *s, size_t n); /* n <= len */
/* The first place of `what` (n bytes, 1 at least) in the window's [from, end), or NULL. A mapped file's window is all of the file, and pages
 * that were looked at count as our memory: so whoever searches more than a record uses this, which gives them back as it goes. */
const char *dp_stream_find(struct dp_stream *s, size_t from, size_t end, const char *what, size_t n);
/* Drop n bytes, at hand or not; *short_by is what was missing before the end or damage. */
int dp_stream_drop(struct dp_stream *s, uint64_t n, uint64_t *short_by, struct dp_err *e);
static inline void dp_stream_resume(struct dp_stream *s)
{
    s->broken = false;
}
void dp_stream_seek(struct dp_stream *s, uint64_t offset);
void dp_stream_add_mark(struct dp_stream *s, uint64_t out, uint64_t in);
/* The last member that begins at or before `offset`; false for streams without members. */
bool dp_stream_member_at(const struct dp_stream *s, uint64_t offset, struct dp_mark *m);
void dp_stream_release_buffer(struct dp_stream *s);
void dp_stream_close(struct dp_stream *s); /* NULL is fine */

#endif
