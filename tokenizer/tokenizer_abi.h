/* tokenizer/tokenizer_abi.h - a tokenizer with its encoder for programs that can't include C headers (python/, by ctypes).
 *
 * Arrays that a function gives belong to the handle and live until its next call. Failures: a negative enum dp_code (base/err.h)
 * and a message in msg[0 .. msg_cap), ended by NUL. Memory: the vocabulary, the encoder's cache, and what the largest call gave.
 * Thread-safety: one thread a handle. The same promise as daemon/feed_abi.h. */
#ifndef DP_TOKENIZER_TOKENIZER_ABI_H
#define DP_TOKENIZER_TOKENIZER_ABI_H

#include <stddef.h>
#include <stdint.h>

struct dp_tokenizer_abi;
/* A tokenizer.json or .tiktoken file; split NULL: what the file says. specials 1: the texts of special tokens become their ids; 0: they
 * are ordinary text. cache_bytes 0: 24 MiB. */
int dp_tokenizer_abi_open(struct dp_tokenizer_abi **out, const char *path, const char *split, int specials, size_t cache_bytes, char *msg,
                          size_t msg_cap);
void dp_tokenizer_abi_close(struct dp_tokenizer_abi *h); /* NULL is fine */

/* Text k is text[end[k - 1] .. end[k]), its ids are (*ids)[id_end[k - 1] .. id_end[k]), end[-1] being 0. DP_USAGE when ends fall. */
int dp_tokenizer_abi_encode(struct dp_tokenizer_abi *h, const char *text, const uint64_t *end, size_t n, const uint32_t **ids, uint64_t *id_end,
                            char *msg, size_t msg_cap);
/* DP_CORRUPT names the first id that no token has. */
int dp_tokenizer_abi_decode(struct dp_tokenizer_abi *h, const uint32_t *ids, size_t n, const char **text, size_t *bytes, char *msg,
                            size_t msg_cap);

uint32_t dp_tokenizer_abi_size(const struct dp_tokenizer_abi *h); /* highest id + 1 */
int64_t dp_tokenizer_abi_eot(const struct dp_tokenizer_abi *h);   /* -1: none */
/* Of a special token, else of an ordinary one; -1: none. */
int64_t dp_tokenizer_abi_id(const struct dp_tokenizer_abi *h, const char *token, size_t bytes);
/* Special token k in order of texts, 0 behind the last. */
int dp_tokenizer_abi_special(const struct dp_tokenizer_abi *h, size_t k, const char **text, size_t *bytes, uint32_t *id);
/* What decides ids, as 32 hex digits and NUL: what a manifest and a checkpoint name. */
void dp_tokenizer_abi_digest(const struct dp_tokenizer_abi *h, char hex[33]);

#endif
