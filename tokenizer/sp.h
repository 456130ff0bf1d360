/* tokenizer/sp.h - sentencepiece's BPE models: what is read, and what encodes and decodes; for tokenizer/ only.
 *
 * Another kind of vocabulary than byte-level BPE: symbols are characters, two neighbours merge when their text together is a piece, the
 * piece of the highest score first, the leftmost of equals. Ids are those of sentencepiece's Encode (0.2.3), decoded text that of its Decode.
 *
 * Text is normalised first (the model's precompiled rules, white space, a dummy prefix), spaces being U+2581. It may be cut between two
 * characters that stand together in no piece: no merge reaches over such a place. So words are what lies between those cuts, and
 * the encoder's cache works for them as for pretokens; a bit for each hash of two neighbours tells, and a wrong "may be" only costs a cut.
 *
 * Immutable once made. */
#ifndef DP_TOKENIZER_SP_H
#define DP_TOKENIZER_SP_H

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"
#include "tokenizer/tokenizer_int.h"

#include <stdbool.h>
#include <stdint.h>

enum dp_sp_prefix { DP_SP_PREFIX_NONE, DP_SP_PREFIX_ALWAYS, DP_SP_PREFIX_FIRST /* not behind an added token */ };
enum dp_sp_type { DP_SP_NORMAL = 1, DP_SP_UNKNOWN, DP_SP_CONTROL, DP_SP_USER_DEFINED, DP_SP_UNUSED, DP_SP_BYTE };
/* What sentencepiece's Normalizer goes by. */
struct dp_sp_rules {
    bool add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces, whitespace_as_suffix;
    struct dp_span charsmap;     /* a double array of rules and their texts; empty: none */
};
/* The fields of a model; texts belong to whoever fills it in. */
struct dp_sp_fields {
    struct dp_sp_piece {
        struct dp_span text;
        float score;
        uint8_t type; /* enum dp_sp_type */
    } *piece; /* by id */
    uint32_t count;
    struct dp_sp_rules rules;
    bool byte_fallback;
    int64_t bos, eos, pad;    /* -1: none */
    struct dp_span unk_surface; /* what the unknown piece decodes to */
    /* As tokenizer.json has such a model (tokenizer/sp_json.c): these merges in their order, not those that scores give; all pieces are text when
     * decoded. NULL: scores. */
    const struct dp_merge *merges;
    uint32_t merge_count;
    bool strip;                /* with merges: decoding leaves out a space that a text begins with */
    enum dp_sp_prefix prefix; /* with merges: Metaspace's space before a text that begins with none */
};

struct dp_sp {
    struct dp_sp_fields f; /* into text */
    char *text;
    uint32_t unk;
    uint32_t byte_id[256];
    uint32_t *slots; /* symbols by text: pieces, and characters of pieces that are none themselves; open addressing */
    size_t slot_mask;
    struct dp_span *symbol; /* texts by symbol: count pieces, then those characters */
    uint32_t *out;          /* by symbol: its id */
    uint32_t symbols;
    uint32_t ascii[128]; /* symbols of one byte */
    uint32_t *rank;      /* by piece: place of its score, the highest first; with merges by these: their places */
    uint64_t *pairs;     /* left << 42 | right << 21 | piece, or with merges the merge */
    size_t pair_mask;
    struct dp_added_set user; /* user-defined pieces, which are found in text as they stand; `special` is the id */
    uint32_t *unused_at;      /* by piece, for unused ones: where in unused_ids their ids are, the number first; NULL: none is unused */
    uint32_t *unused_ids;
    uint64_t *beside; /* a bit for each hash of two characters beside each other in a piece */
};
enum { DP_SP_BESIDE_BITS = 21 };
#define DP_SP_SPACE "\xE2\x96\x81"

static inline uint64_t dp_sp_beside_bit(uint32_t before, uint32_t c)
{
    return dp_word_mix(before, c) >> (64 - DP_SP_BESIDE_BITS);
}

/* Copies the fields. DP_CORRUPT or DP_CONFIG with `name` for what sentencepiece refuses, or what isn't supported. */
int dp_sp_open(struct dp_sp **out, const struct dp_sp_fields *f, const char *name, struct dp_err *e);
void dp_sp_close(struct dp_sp *s);

/* Append what decides ids and text to out, the same for equal models. */
void dp_sp_digest(const struct dp_sp *s, struct dp_buf *out);

/* Whether Metaspace sets a space before the text; `first`: the whole text begins with it. */
bool dp_sp_wants_space(const struct dp_sp *s, struct dp_span text, bool first);
/* Append the normalised text to out. */
int dp_sp_normalise(const struct dp_sp *s, struct dp_span text, struct dp_buf *out, struct dp_err *e);
/* Ends of words of normalised text, as dp_split_run gives those of pieces. */
size_t dp_sp_run(const struct dp_sp *s, struct dp_span text, size_t *pos, size_t *ends, size_t max);
struct dp_merge_scratch;
/* The ids of a word; at most one a byte. Runs of the unknown id are one within the word only. */
int dp_sp_merge(const struct dp_sp *s, struct dp_merge_scratch *scratch, struct dp_span word, uint32_t *ids, size_t *n, struct dp_err *e);
/* The beginning of a decoded text, whose space goes. All zero: nothing was decoded yet. */
struct dp_sp_start {
    bool over, took_space;
};
/* Append the text of a piece that is no byte; `empty` when the text has nothing so far. */
void dp_sp_put_piece(const struct dp_sp *s, uint32_t id, struct dp_sp_start *start, bool empty, struct dp_buf *out);
/* ids must be below f.count. Appends to out. */
void dp_sp_decode(const struct dp_sp *s, const uint32_t *ids, size_t n, struct dp_buf *out);

/* A tokenizer of these fields. `parts` has the special tokens, eot and what is kept; NULL: control pieces and the unknown one are special, eos is eot. */
int dp_sp_tokenizer_of(struct dp_tokenizer **out, const struct dp_sp_fields *f, const struct dp_tokenizer_parts *parts, const char *name, struct dp_err *e);
int dp_sp_tokenizer(struct dp_tokenizer **out, const struct dp_sp_fields *f, const char *name, struct dp_err *e);
/* The file: ModelProto in protobuf. */
struct dp_json;
/* tokenizer.json of such a model: whether it is one, and reading it. */
bool dp_sp_json_is(const struct dp_json *root);
int dp_tokenizer_load_sp_json(struct dp_tokenizer **out, const struct dp_json *root, const char *name, const char *split, struct dp_err *e);
int dp_tokenizer_load_sp(struct dp_tokenizer **out, struct dp_span content, const char *name, const char *split, struct dp_err *e);

#endif
