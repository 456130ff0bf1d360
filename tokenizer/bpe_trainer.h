/* tokenizer/bpe_trainer.h - the inside of the BPE trainer, for bpe_train.c (the merge loop), bpe_seed.c and bpe_super.c only.
 *
 * How cells, lists and the heap work is told in bpe_train.c. One thread; errors leave it fit for closing only. */
#ifndef DP_TOKENIZER_BPE_TRAINER_H
#define DP_TOKENIZER_BPE_TRAINER_H

#include "base/arena.h"
#include "tokenizer/bpe_train.h"
#include "tokenizer/bpe_veto.h"
#include "tokenizer/tokenizer_int.h"

#define DP_CELL_WALL UINT32_MAX         /* between words */
#define DP_CELL_INSIDE (UINT32_MAX - 1) /* neither first nor last cell of a token */

struct dp_bpe_pair {
    uint64_t key; /* left << 32 | right */
    int64_t count;
    uint32_t list_len, made; /* made: occurrences of the merge at hand, not in the pool yet */
    size_t list;             /* into pool, behind the stretch's head; 0: none yet */
};

struct dp_bpe_heap_entry {
    int64_t count;
    uint64_t key;
    uint32_t pair;
};

struct dp_bpe_trainer {
    uint32_t *cells;
    uint64_t *freq;       /* by word; 0: a seed token */
    uint32_t *block_word; /* by cell / BLOCK_CELLS: the word of the block's first cell */
    uint8_t *word_off;    /* by cell: words from that one on to its own (a word takes three cells at least) */
    size_t cell_count, word_count;
    struct dp_bpe_pair *pairs;
    size_t pair_count, pair_cap;
    uint32_t *slots; /* pair index + 1; 0 empty */
    size_t slot_mask;
    struct dp_bpe_heap_entry *heap;
    size_t heap_len, heap_cap;
    int64_t heap_floor; /* pairs of lower counts aren't in the heap yet; 0: all are to come */
    uint32_t *pool;
    size_t pool_len, pool_cap;
    struct dp_bpe_found {
        uint32_t pair, cell;
    } * found; /* occurrences made by the merge at hand, in order */
    size_t found_len, found_cap;
    struct dp_bpe_near {
        struct dp_bpe_neighbour {
            uint64_t n; /* how often it stood there */
            uint32_t id, made, pair;
        } * v;
        size_t len, cap;
        uint32_t *of; /* by id: its place in v, if v says so */
    } near[2];        /* tokens left and right of the merge at hand */
    uint32_t *touched; /* pairs with made > 0 */
    size_t touched_len, touched_cap;
    struct dp_span *bytes; /* by id */
    uint32_t *len;         /* by id */
    uint8_t *special;      /* by id */
    uint32_t size, cap;
    uint32_t first_byte, byte_id[256]; /* the 256 bytes' ids begin at first_byte */
    uint32_t *texts;                   /* ids by bytes; 0 empty, else id + 1 */
    size_t text_mask;
    struct dp_arena mem;
    struct dp_merge *merges;
    size_t merge_count, merge_cap;
    const struct dp_tokenizer *base; /* whose vocabulary is the beginning; NULL: bytes are */
    int64_t token_bytes_max, min_count;
    enum dp_split split; /* the tokenizer's */
    struct dp_splitter *splitter;
    struct dp_bpe_veto veto;
    const struct dp_span *seeds; /* laid out behind the words, as words of frequency 0 */
    size_t seed_count;
    uint64_t seed_left; /* merges they still need, when none does for two of them */
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *progress_ctx;
    uint32_t progress_from, progress_to;
};

/* The id of these bytes, a new one unless they are a token; t->size < t->cap then. */
int dp_bpe_trainer_token(struct dp_bpe_trainer *t, struct dp_span bytes, uint32_t *id, struct dp_err *e);
/* The place of a pair in t->pairs. */
int dp_bpe_trainer_pair(struct dp_bpe_trainer *t, uint32_t left, uint32_t right, uint32_t *out, struct dp_err *e);
/* The words of c, then the seeds; with `first` in tokens that its merges give, else in bytes. Nothing is laid out before. */
int dp_bpe_trainer_lay_out(struct dp_bpe_trainer *t, struct dp_bpe_counter *c, const struct dp_tokenizer *first, struct dp_err *e);
/* Forget words and pairs; the vocabulary stays. */
void dp_bpe_trainer_forget(struct dp_bpe_trainer *t);
/* The pair (left, right) now stands at `cell`, n times; after all of a merge, dp_bpe_trainer_settle. */
int dp_bpe_trainer_occurs(struct dp_bpe_trainer *t, uint32_t left, uint32_t right, uint32_t cell, uint64_t n, struct dp_err *e);
int dp_bpe_trainer_settle(struct dp_bpe_trainer *t, struct dp_err *e);
/* Merge a pair wherever it stands. DP_LIMIT when that makes a token and there are `target` already. */
int dp_bpe_trainer_take(struct dp_bpe_trainer *t, uint32_t pair, uint32_t target, struct dp_err *e);
/* Take the most frequent pair until there are `target` tokens, those counted that seeds may need. */
int dp_bpe_trainer_learn(struct dp_bpe_trainer *t, uint32_t target, struct dp_err *e);
/* What was learnt so far. */
int dp_bpe_trainer_tokenizer(struct dp_tokenizer **out, const struct dp_bpe_trainer *t, struct dp_err *e);

/* bpe_seed.c: check the seeds and choose those of this stage: in the first those that its split leaves whole, in the second the others. */
int dp_bpe_trainer_choose(struct dp_bpe_trainer *t, const struct dp_bpe_train_options *o, const struct dp_bpe_counter *c, bool second,
                          struct dp_err *e);
/* Merges for the seeds laid out that aren't tokens yet. DP_CONFIG names what `target` has no room for. */
int dp_bpe_trainer_plant(struct dp_bpe_trainer *t, uint32_t target, struct dp_err *e);
/* bpe_extend.c: instead of bytes, when nothing is learnt yet. */
int dp_bpe_trainer_adopt(struct dp_bpe_trainer *t, const struct dp_tokenizer *base, struct dp_err *e);
/* bpe_super.c: list the pairs of any tokens. */
int dp_bpe_trainer_list(struct dp_bpe_trainer *t, struct dp_err *e);
/* The second stage, on the texts that c sampled, until there are `target` tokens. */
int dp_bpe_trainer_super(struct dp_bpe_trainer *t, const struct dp_bpe_train_options *o, struct dp_bpe_counter *c, uint32_t target,
                         struct dp_err *e);

#endif
