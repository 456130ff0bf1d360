/* tokenizer/tokenizer_int.h - the inside of struct dp_tokenizer, for tokenizer/ only.
 *
 * Pair table: one u64 a slot, left << 42 | right << 21 | rank, open addressing, at most half full; PAIR_EMPTY where none.
 * rank is the place in the list of merges (kind merges), or the id itself (kind ranks, several pairs may share it);
 * merge_id[] gives what a rank becomes, NULL where rank is id. Most questions are about pairs that don't merge, so a bit for each hash of
 * a pair that does (DP_PAIR_FILTER_BITS, small enough for the processor's second-level cache) is asked first; what two bytes become has a table of its own. */
#ifndef DP_TOKENIZER_TOKENIZER_INT_H
#define DP_TOKENIZER_TOKENIZER_INT_H

#include "base/span.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/word_hash.h"

#include <stdint.h>

#define DP_PAIR_EMPTY UINT64_MAX
#define DP_NO_ID UINT32_MAX

struct dp_merge {
    uint32_t left, right, id;
};

/* A token's bytes in one place, for decoding; len 0: no token has the id, DP_LONG_BYTES: see bytes. */
enum { DP_SHORT_BYTES = 15, DP_LONG_BYTES = 255 };
struct dp_short_bytes {
    char text[DP_SHORT_BYTES];
    uint8_t len;
};
struct dp_units;

/* Members of tokenizer.json that decide no ids here; they are only kept. */
enum { DP_KEPT_TRUNCATION, DP_KEPT_PADDING, DP_KEPT_POST_PROCESSOR, DP_KEPT_DECODER, DP_KEPT_UNK_TOKEN, DP_KEPT_ANY,
       /* Of a sentencepiece model (sp_json.c), which has them in its own way too. */
       DP_KEPT_NORMALIZER = DP_KEPT_ANY, DP_KEPT_PRE_TOKENIZER, DP_KEPT_FUSE_UNK, DP_KEPT_COUNT };
extern const char *const dp_kept_names[DP_KEPT_COUNT];

/* Added tokens to be found in text. */
struct dp_added_set {
    struct dp_pattern {
        struct dp_span text;
        uint32_t special; /* in specials[] */
    } *pattern; /* sorted by text */
    size_t count;
    uint8_t first[256]; /* bytes that begin one */
    uint8_t only;       /* the byte that begins all; 0: several do, or a NUL */
};

struct dp_sp;
struct dp_tokenizer {
    enum dp_split split;
    struct dp_splitter *splitter; /* NULL: split alone */
    enum dp_normal normal;
    bool ignore_merges, ranks;
    uint32_t size, tokens;
    uint32_t byte_id[256];
    struct dp_span *bytes; /* by id, into text */
    struct dp_short_bytes *short_bytes; /* by id */
    uint8_t *is_special;   /* by id: 1 for what merging can't give, 2 when the model's vocabulary hasn't got it */
    char *text;
    uint32_t *by_bytes; /* open addressing of ids, below 11 bits of the text's hash; DP_NO_ID where empty */
    size_t by_bytes_mask;
    struct dp_merge *merges;
    uint32_t merge_count;
    uint32_t *merge_id;
    uint64_t *pairs;
    size_t pair_mask;
    uint64_t *pair_filter;
    uint32_t *byte_pairs; /* rank of [left byte << 8 | right byte] */
    struct dp_special *specials; /* sorted by text */
    size_t special_count;
    size_t special_bytes_max;
    struct dp_units *units; /* of SuperBPE (encode_units.h); NULL: none */
    struct dp_added_set added[2]; /* those to be found in the text as it is, and those in normalised text */
    struct dp_sp *sp; /* a sentencepiece model does the work (tokenizer/sp.h); NULL: bytes and merges do */
    int64_t eot;
    char *normal_text;            /* of added[1], where it isn't that of specials[] */
    char *kept[DP_KEPT_COUNT];    /* JSON, as it was read; NULL: none */
    struct dp_hash128 digest;
};

enum { DP_PAIR_FILTER_BITS = 21 };

static inline uint64_t dp_pair_hash(uint64_t key)
{
    uint64_t h = key * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 32;
}

static inline bool dp_pair_may_merge(const struct dp_tokenizer *t, uint64_t hash)
{
    uint64_t bit = hash >> (64 - DP_PAIR_FILTER_BITS);
    return t->pair_filter[bit >> 6] >> (bit & 63) & 1;
}

/* Of a pair that the filter lets through: left << 21 | right. */
static inline uint32_t dp_pair_rank_of(const struct dp_tokenizer *t, uint64_t key)
{
    for (size_t at = dp_pair_hash(key) & t->pair_mask;; at = (at + 1) & t->pair_mask) {
        uint64_t s = t->pairs[at];
        if (s >> 21 == key) return (uint32_t)s & (DP_TOKENIZER_IDS_MAX - 1);
        if (s == DP_PAIR_EMPTY) return DP_NO_ID;
    }
}

/* DP_NO_ID when the two don't merge. */
static inline uint32_t dp_pair_rank(const struct dp_tokenizer *t, uint32_t left, uint32_t right)
{
    uint64_t key = (uint64_t)left << 21 | right, h = dp_pair_hash(key);
    if (!dp_pair_may_merge(t, h)) return DP_NO_ID;
    return dp_pair_rank_of(t, key);
}

/* The first of two steps: the key for dp_pair_rank_of, whose line is being fetched; UINT64_MAX: they don't merge. */
static inline uint64_t dp_pair_ask(const struct dp_tokenizer *t, uint32_t left, uint32_t right)
{
    uint64_t key = (uint64_t)left << 21 | right, h = dp_pair_hash(key);
    if (!dp_pair_may_merge(t, h)) return UINT64_MAX;
    __builtin_prefetch(&t->pairs[h & t->pair_mask]);
    return key;
}

static inline uint32_t dp_rank_id(const struct dp_tokenizer *t, uint32_t rank)
{
    return t->merge_id ? t->merge_id[rank] : rank;
}

/* Fetch what dp_tokenizer_id will read first. */
static inline void dp_tokenizer_prefetch(const struct dp_tokenizer *t, struct dp_span bytes)
{
    __builtin_prefetch(&t->by_bytes[dp_word_hash(bytes.ptr, bytes.len) & t->by_bytes_mask]);
}

/* What a reader or the trainer hands to dp_tokenizer_build, which copies all of it. */
struct dp_tokenizer_parts {
    enum dp_split split;
    struct dp_splitter *splitter; /* instead of split when not NULL; the tokenizer becomes an owner more */
    enum dp_normal normal;
    struct dp_sp *sp; /* taken over when building succeeds */
    int64_t eot;      /* with sp: its end of text, -1: none */
    struct dp_span kept[DP_KEPT_COUNT]; /* JSON to be written again; ptr NULL: none */
    bool ignore_merges;
    bool ranks; /* merges are derived: any two tokens whose bytes are a token */
    uint32_t size;
    const struct dp_span *bytes;   /* by id, size of them; ptr NULL where there is none */
    const struct dp_merge *merges; /* in order of rank; not for ranks */
    size_t merge_count;
    const struct dp_special *specials; /* their bytes are taken from here; bytes[id] may be NULL or the same */
    size_t special_count;
};
/* Of a sentencepiece model: bytes[i] is what piece i stands for within text, and may be that of another too; split, ranks and merges aren't used.
 * DP_CORRUPT, with `name`, for: a byte that is no token, two ids of the same bytes, a pair listed twice, ids out of range. */
int dp_tokenizer_build(struct dp_tokenizer **out, const struct dp_tokenizer_parts *p, const char *name, struct dp_err *e);

/* What would build t again; the parts stay t's. */
struct dp_tokenizer_parts dp_tokenizer_parts_of(const struct dp_tokenizer *t);

/* The code point that ByteLevel writes for a byte, and back (-1: not one of them). */
uint32_t dp_byte_level_char(unsigned byte);
int dp_byte_level_byte(uint32_t cp);
void dp_byte_level_write(struct dp_buf *out, struct dp_span bytes);
/* The byte that is the i-th in the order of the ByteLevel characters. */
unsigned dp_byte_level_order(unsigned i);

/* vocab.json and merges.txt, with what was found beside them; or lists of tokens and merges. */
struct dp_vocab_files {
    const struct dp_json *vocab; /* {"token": id}; NULL: tokens and merge have it */
    struct dp_span merges;
    const struct dp_span *tokens; /* by id; ptr NULL: none */
    uint32_t token_count;
    const struct dp_span *merge; /* "a b" */
    size_t merge_count;
    bool ignore_merges;
    const char *vocab_name, *merges_name; /* for messages */
    enum dp_split split;
    struct dp_splitter *splitter; /* instead of split when not NULL; stays the caller's */
    enum dp_normal normal;
    const struct dp_special *specials; /* ids may be in the vocabulary too */
    size_t special_count;
};
/* Calls write for each merge in order; of ranks, for one a token: docs in tokenizer_hf.c. */
int dp_tokenizer_each_merge(const struct dp_tokenizer *t, void (*write)(void *ctx, uint32_t left, uint32_t right), void *ctx, struct dp_err *e);
struct dp_json;
/* enum dp_added_flag of an added token's members; `special` where it doesn't say. */
unsigned dp_added_flags(const struct dp_json *a, bool special);
/* DP_CONFIG for a member that is there, and not null, false, 0 or "". */
int dp_hf_must_be_off(const struct dp_json *o, const char *key, const char *file, struct dp_err *e);
/* Keep a member as JSON in parts, whose bytes are in *mem, which is the caller's to release. */
int dp_hf_keep(struct dp_tokenizer_parts *parts, struct dp_buf *mem, int which, const struct dp_json *v, struct dp_err *e);
int dp_tokenizer_load_vocab(struct dp_tokenizer **out, const struct dp_vocab_files *f, struct dp_err *e);
int dp_tokenizer_load_hf(struct dp_tokenizer **out, struct dp_span content, const char *name, const char *split, struct dp_err *e);
int dp_tokenizer_load_gguf(struct dp_tokenizer **out, struct dp_span content, const char *name, const char *split, struct dp_err *e);
int dp_tokenizer_load_tiktoken(struct dp_tokenizer **out, struct dp_span content, const char *name, const char *split, struct dp_err *e);

#endif
