/* base/nfc.h - Unicode normalisation form C (UAX #15), Unicode version of base/unicode.h.
 *
 * Text must be valid UTF-8. Linear time; scratch belongs to the caller and is reused.
 * `unicode9` gives the NFC of Unicode 9, which Hugging Face's tokenizers apply: later characters never reorder or compose. */
#ifndef DP_BASE_NFC_H
#define DP_BASE_NFC_H

#include "base/buf.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

struct dp_nfc {
    uint32_t *cp, *spare;
    size_t cap;
    bool unicode9;
};
/* Append the NFC form of s to out. DP_OK or DP_NOMEM; out->full tells of its own limit. */
int dp_nfc(struct dp_nfc *n, struct dp_span s, struct dp_buf *out);
/* True when the quick check says that s is NFC already; false when it doesn't know. */
bool dp_nfc_quick(struct dp_span s);
void dp_nfc_release(struct dp_nfc *n);

#endif
