/* tokenizer/tokenizer_abi.h - the tokenizer for programs outside this tree: C and C++ (docs/c-api.md), and by a foreign function interface
 * such as Python's ctypes (python/). This header needs nothing but the C library's.
 *
 * What exists keeps its meaning and its arguments while dp_tokenizer_abi_version() stays what it is; functions may be added. Structs are opaque.
 *
 * Failures: a negative enum dp_code (base/err.h) and a message in msg[0 .. msg_cap), ended by NUL; msg may be NULL. Arrays that a function gives
 * belong to the handle, decoder or stream, and live until the next call on it. Ids are below 2^21. Texts are bytes, UTF-8 or not.
 * Memory: the vocabulary once for all handles of it, the cache of each handle, and what the largest call gave.
 * Thread-safety: a handle, a decoder and a stream are each used by one thread at a time; several handles on one vocabulary
 * (dp_tokenizer_abi_clone) by several threads. */
#ifndef DP_TOKENIZER_TOKENIZER_ABI_H
#define DP_TOKENIZER_TOKENIZER_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { DP_TOKENIZER_ABI_VERSION = 1 };
int dp_tokenizer_abi_version(void); /* of the library */

struct dp_tokenizer_abi;
/* A file or folder of docs/formats/tokenizers.md; split NULL: what the file says. specials 1: the texts of special tokens become their ids; 0: they
 * are ordinary text. cache_bytes: the budget for pretokens that were seen before, which never changes ids; 0: 96 MiB. */
int dp_tokenizer_abi_open(struct dp_tokenizer_abi **out, const char *path, const char *split, int specials, size_t cache_bytes, char *msg,
                          size_t msg_cap);
/* The same from the content of such a file; `name` stands in messages. */
int dp_tokenizer_abi_open_memory(struct dp_tokenizer_abi **out, const char *content, size_t bytes, const char *name, const char *split, int specials,
                                 size_t cache_bytes, char *msg, size_t msg_cap);
/* Another handle on the same vocabulary, for another thread. cache_bytes 0: it shares the cache of h too. Either may be closed first. */
int dp_tokenizer_abi_clone(struct dp_tokenizer_abi **out, const struct dp_tokenizer_abi *h, int specials, size_t cache_bytes, char *msg, size_t msg_cap);
void dp_tokenizer_abi_close(struct dp_tokenizer_abi *h); /* NULL is fine */

/* Text k is text[end[k - 1] .. end[k]), its ids are (*ids)[id_end[k - 1] .. id_end[k]), end[-1] being 0. DP_USAGE when ends fall. */
int dp_tokenizer_abi_encode(struct dp_tokenizer_abi *h, const char *text, const uint64_t *end, size_t n, const uint32_t **ids, uint64_t *id_end,
                            char *msg, size_t msg_cap);
/* The same, and where each id stands in its text: id i in [(*offsets)[2i], (*offsets)[2i + 1]), in bytes, or with chars 1 in characters, where a
 * token that begins or ends inside a character has all of it (tokenizer/offsets.h). */
int dp_tokenizer_abi_encode_offsets(struct dp_tokenizer_abi *h, const char *text, const uint64_t *end, size_t n, int chars, const uint32_t **ids,
                                    uint64_t *id_end, const uint64_t **offsets, char *msg, size_t msg_cap);
/* count[k]: how many ids text k has. */
int dp_tokenizer_abi_count(struct dp_tokenizer_abi *h, const char *text, const uint64_t *end, size_t n, uint64_t *count, char *msg, size_t msg_cap);
/* DP_CORRUPT names the first id that no token has. */
int dp_tokenizer_abi_decode(struct dp_tokenizer_abi *h, const uint32_t *ids, size_t n, const char **text, size_t *bytes, char *msg,
                            size_t msg_cap);

uint32_t dp_tokenizer_abi_size(const struct dp_tokenizer_abi *h); /* highest id + 1: the rows of an embedding */
int64_t dp_tokenizer_abi_eot(const struct dp_tokenizer_abi *h);   /* -1: none */
/* Of a special token, else of an ordinary one; -1: none. */
int64_t dp_tokenizer_abi_id(const struct dp_tokenizer_abi *h, const char *token, size_t bytes);
/* The bytes of an id, which live as long as a handle on the vocabulary; 1: an ordinary token, 2: a special one, 0: no token has this id. */
int dp_tokenizer_abi_token(const struct dp_tokenizer_abi *h, uint32_t id, const char **token, size_t *bytes);
/* Special token k in order of texts, 0 behind the last. */
int dp_tokenizer_abi_special(const struct dp_tokenizer_abi *h, size_t k, const char **text, size_t *bytes, uint32_t *id);
/* What decides ids, as 32 hex digits and NUL: what a manifest and a checkpoint name. */
void dp_tokenizer_abi_digest(const struct dp_tokenizer_abi *h, char hex[33]);

/* Ids to text as they come, never half a character: up to 3 bytes are kept back, and all texts together are the decoding of all ids.
 * keep_bad 0: valid UTF-8, with U+FFFD where Python's errors="replace" has it; 1: the bytes as they are. skip_specials 1: special tokens are left
 * out. Holds the vocabulary: the handle may be closed before it. */
struct dp_tokenizer_abi_decoder;
int dp_tokenizer_abi_decoder_open(struct dp_tokenizer_abi_decoder **out, const struct dp_tokenizer_abi *h, int keep_bad, int skip_specials, char *msg,
                                  size_t msg_cap);
int dp_tokenizer_abi_decoder_push(struct dp_tokenizer_abi_decoder *d, const uint32_t *ids, size_t n, const char **text, size_t *bytes, char *msg,
                                  size_t msg_cap);
/* The ids end: what was kept back. The decoder then takes other ids. */
int dp_tokenizer_abi_decoder_finish(struct dp_tokenizer_abi_decoder *d, const char **text, size_t *bytes, char *msg, size_t msg_cap);
void dp_tokenizer_abi_decoder_close(struct dp_tokenizer_abi_decoder *d); /* NULL is fine */

/* Text in pieces, ids as soon as they are final: all together those of the whole text (tokenizer/encode_stream.h says what is kept back). bytes_max: the most
 * text that may be kept back, past which is DP_LIMIT; 0: 1 GiB. Uses the handle in its calls, and must be closed before it. */
struct dp_tokenizer_abi_stream;
int dp_tokenizer_abi_stream_open(struct dp_tokenizer_abi_stream **out, struct dp_tokenizer_abi *h, size_t bytes_max, char *msg, size_t msg_cap);
int dp_tokenizer_abi_stream_push(struct dp_tokenizer_abi_stream *s, const char *text, size_t bytes, const uint32_t **ids, size_t *n, char *msg,
                                 size_t msg_cap);
/* The text ends: the rest. The stream then takes another text, after a failure too. */
int dp_tokenizer_abi_stream_finish(struct dp_tokenizer_abi_stream *s, const uint32_t **ids, size_t *n, char *msg, size_t msg_cap);
void dp_tokenizer_abi_stream_close(struct dp_tokenizer_abi_stream *s); /* NULL is fine */

#ifdef __cplusplus
}
#endif

#endif
