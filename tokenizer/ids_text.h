/* tokenizer/ids_text.h - lists of ids as JSON has them, fast: 1,2,3.
 *
 * Thread-safety: a printer is read-only once open. */
#ifndef DP_TOKENIZER_IDS_TEXT_H
#define DP_TOKENIZER_IDS_TEXT_H

#include "tokenizer/encode.h"

/* 8 bytes for each id of a vocabulary, up to 8 MB. */
struct dp_ids_printer {
    uint64_t *digits; /* of each id below 10^6: its decimal text and a comma in the low bytes, how many in the top one */
    uint32_t count;
};
int dp_ids_printer_open(struct dp_ids_printer *p, uint32_t vocab_size, struct dp_err *e);
void dp_ids_printer_close(struct dp_ids_printer *p);
/* Append the ids with commas between. */
void dp_ids_print(const struct dp_ids_printer *p, const uint32_t *ids, size_t n, struct dp_buf *out);

/* All of `list` is one JSON array of whole numbers from 0 to 2^31 - 1, without exponent or point: *ids becomes them. DP_CORRUPT says which isn't. */
int dp_ids_parse(struct dp_span list, struct dp_ids *ids, struct dp_err *e);

#endif
