#include "tokenizer/token_meter.h"

#include "tokenizer/split_int.h"
#include "tokenizer/tokenizer_int.h"

#include <math.h>
#include <stdlib.h>

/* Scripts without spaces between words, as ranges that have no other script's letters; ascending. */
static const struct {
    int32_t from, to;
} spaceless[] = {
    {0x0E00, 0x0FFF},   /* Thai, Lao, Tibetan */
    {0x1000, 0x109F},   /* Myanmar */
    {0x1780, 0x17FF},   /* Khmer */
    {0x19E0, 0x19FF},   /* Khmer symbols */
    {0x2E80, 0x2FDF},   /* radicals */
    {0x3005, 0x3007},   /* iteration marks */
    {0x3021, 0x3029},   /* Hangzhou numerals */
    {0x3031, 0x312F},   /* Hiragana, Katakana, Bopomofo */
    {0x31A0, 0x31FF},   /* Bopomofo, Katakana */
    {0x3400, 0x4DBF},   {0x4E00, 0xA4CF}, /* Han, Yi */
    {0xA9E0, 0xA9FF},   {0xAA60, 0xAA7F}, /* Myanmar */
    {0xF900, 0xFAFF},   /* Han */
    {0xFF66, 0xFF9F},   /* Katakana of half width */
    {0x116D0, 0x116FF}, /* Myanmar */
    {0x1AFF0, 0x1B16F}, /* Kana */
    {0x20000, 0x3FFFF}, /* Han */
};

static bool is_spaceless(int32_t cp)
{
    if (cp < spaceless[0].from) return false;
    for (size_t i = 0; i < sizeof spaceless / sizeof *spaceless; i++)
        if (cp <= spaceless[i].to) return cp >= spaceless[i].from;
    return false;
}

static int add_word(struct dp_text_words *w, size_t begin, size_t end, struct dp_err *e)
{
    if (w->n == w->cap) {
        size_t cap = w->cap * 2 + 256;
        struct dp_offset *p = realloc(w->word, cap * sizeof *p);
        if (!p) DP_FAIL(e, NOMEM, "%zu words", cap);
        w->word = p;
        w->cap = cap;
    }
    w->word[w->n++] = (struct dp_offset){begin, end};
    return DP_OK;
}

int dp_text_words(struct dp_text_words *w, struct dp_span text, struct dp_err *e)
{
    const uint8_t *base = (const uint8_t *)text.ptr, *end = base + text.len, *p = base, *begin = NULL;
    bool alone = false; /* the word is a letter of a spaceless script: only marks go on with it */
    w->n = w->chars = 0;
    w->bytes = text.len;
    while (p < end) {
        int len = 1;
        int32_t cp = *p;
        unsigned c = dp_split_ascii[*p];
        if (!c) {
            dp_split_decode(p, end, &cp);
            c = dp_split_wide_class(p, end, &len);
        }
        bool mark = c == C_MARK, in = (c & (C_LETTER | C_NUMBER)) || mark, single = in && !mark && is_spaceless(cp);
        if (begin && (!in || (!mark && (alone || single)))) {
            DP_TRY(add_word(w, (size_t)(begin - base), (size_t)(p - base), e));
            begin = NULL;
        }
        if (in && !begin) begin = p, alone = single;
        p += len;
        w->chars++;
    }
    return begin ? add_word(w, (size_t)(begin - base), text.len, e) : DP_OK;
}

void dp_token_count_add(struct dp_token_count *to, const struct dp_token_count *more)
{
    to->tokens += more->tokens;
    to->words += more->words;
    to->word_tokens += more->word_tokens;
    to->whole_words += more->whole_words;
    to->byte_tokens += more->byte_tokens;
    to->part_tokens += more->part_tokens;
}

struct dp_token_meter {
    const struct dp_tokenizer *t;
    uint8_t *part; /* by id: isn't whole characters */
};

static bool is_part(struct dp_span b)
{
    const uint8_t *p = (const uint8_t *)b.ptr, *end = p + b.len;
    while (p < end) {
        int32_t cp = *p;
        p += *p < 0x80 ? 1 : dp_split_decode(p, end, &cp);
        if (cp < 0) return true;
    }
    return false;
}

int dp_token_meter_open(struct dp_token_meter **out, const struct dp_tokenizer *t, struct dp_err *e)
{
    struct dp_token_meter *m = *out = calloc(1, sizeof *m);
    if (m) m->part = calloc((size_t)t->size + 1, 1);
    if (!m || !m->part) {
        free(m);
        *out = NULL;
        DP_FAIL(e, NOMEM, "a meter of %u tokens", t->size);
    }
    m->t = t;
    for (uint32_t i = 0; i < t->size; i++) m->part[i] = t->bytes[i].ptr && is_part(t->bytes[i]);
    return DP_OK;
}

void dp_token_meter_close(struct dp_token_meter *m)
{
    if (!m) return;
    free(m->part);
    free(m);
}

size_t dp_token_blank(const struct dp_tokenizer *t, size_t text_bytes, const uint32_t *ids, size_t n)
{
    size_t bytes = 0;
    if (!dp_tokenizer_is_sp(t)) return 0;
    for (size_t i = 0; i < n; i++) bytes += t->bytes[ids[i]].len;
    return bytes == text_bytes + 1;
}

void dp_token_meter_add(const struct dp_token_meter *m, const struct dp_text_words *w, const uint32_t *ids, size_t n, struct dp_token_count *to,
                        uint64_t *used)
{
    size_t at = 0, k = 0; /* bytes before the token; the first word that ends behind it */
    uint64_t touching = 0; /* tokens that have a byte of word k so far */
    size_t first = dp_token_blank(m->t, w->bytes, ids, n);
    to->tokens += n;
    to->words += w->n;
    for (size_t i = 0; i < n; i++) {
        size_t len = m->t->bytes[ids[i]].len, end = at + len;
        to->byte_tokens += len == 1;
        to->part_tokens += m->part[ids[i]];
        if (used) used[ids[i]]++;
        for (; k < w->n && w->word[k].begin + first < end; k++) {
            touching++;
            if (w->word[k].end + first > end) break;
            to->word_tokens += touching;
            to->whole_words += touching == 1;
            touching = 0;
        }
        at = end;
    }
}

bool dp_token_is_ordinary(const struct dp_tokenizer *t, uint32_t id)
{
    return id < t->size && t->bytes[id].ptr && !t->is_special[id];
}

void dp_vocabulary_use(const struct dp_tokenizer *t, const uint64_t *used, struct dp_vocabulary_use *out)
{
    const double order = 2.5;
    double total = 0, sum = 0;
    *out = (struct dp_vocabulary_use){0};
    for (uint32_t i = 0; i < t->size; i++) {
        if (!dp_token_is_ordinary(t, i)) continue;
        out->tokens++;
        out->unused += !used[i];
        total += (double)used[i];
    }
    if (total == 0) return;
    for (uint32_t i = 0; i < t->size; i++) {
        if (!dp_token_is_ordinary(t, i) || !used[i]) continue;
        double p = (double)used[i] / total;
        out->entropy -= p * log2(p);
        sum += pow(p, order);
    }
    double most = log2((double)out->tokens); /* 256 tokens at least */
    out->efficiency = out->entropy / most;
    out->renyi_efficiency = log2(sum) / (1 - order) / most;
}
