/* trainer/safetensors.h - read and write the safetensors format (huggingface/safetensors, "Format"
 * in its README).
 *
 * File: u64 little-endian header length, JSON header {"name": {"dtype","shape","data_offsets"},
 * "__metadata__": {string: string}}, data. The reader trusts nothing: header <= 100 MiB, known
 * dtypes, sizes that agree with shapes, and offsets that cover the data exactly, without overlap,
 * hole or tail (as the reference implementation demands). The writer's bytes depend only on its
 * arguments, in their order. Memory: the file is mapped; a table of tensors. Data may be unaligned:
 * copy it out. Thread-safety: reading is pure after open. */
#ifndef DP_TRAINER_SAFETENSORS_H
#define DP_TRAINER_SAFETENSORS_H

#include "base/err.h"
#include "base/span.h"

#include <stdint.h>

enum { DP_SAFETENSORS_DIMS = 8 };
enum { DP_SAFETENSORS_HEADER_MAX = 100 << 20 };

struct dp_safetensor {
    const char *name;  /* NUL-terminated */
    const char *dtype; /* "F32", "I32", ... */
    int dims;
    int64_t shape[DP_SAFETENSORS_DIMS];
    uint64_t elements, begin, end; /* bytes in the data section */
    const char *data;
};
struct dp_safetensors;

/* DP_CORRUPT says what is wrong with which tensor of which file. */
int dp_safetensors_open(struct dp_safetensors **out, const char *path, struct dp_err *e);
/* The same on bytes that outlive it; `name` stands for the path in messages. */
int dp_safetensors_parse(struct dp_safetensors **out, struct dp_span bytes, const char *name,
                         struct dp_err *e);
void dp_safetensors_close(struct dp_safetensors *s);
const char *dp_safetensors_path(const struct dp_safetensors *s);
size_t dp_safetensors_count(const struct dp_safetensors *s);
const struct dp_safetensor *dp_safetensors_at(const struct dp_safetensors *s,
                                              size_t i); /* by position in the data */
const struct dp_safetensor *dp_safetensors_find(const struct dp_safetensors *s,
                                                const char *name); /* NULL: none */
struct dp_span dp_safetensors_meta(const struct dp_safetensors *s,
                                   const char *key);                /* ptr NULL: none */
struct dp_span dp_safetensors_data(const struct dp_safetensors *s); /* the whole data section */

struct dp_safetensors_item {
    const char *name, *dtype; /* dtype one that the reader knows */
    int dims;
    int64_t shape[DP_SAFETENSORS_DIMS];
    const void *data;
};
struct dp_safetensors_kv {
    const char *key, *value;
};
/* The same piece by piece: the items' `data` aren't looked at, their bytes follow by dp_safetensors_add in the
 * order of the items. Close removes the file unless it was finished; finish fsyncs, and more or fewer bytes
 * than the items have are a bug. `items` must live until close. */
struct dp_safetensors_writer;
int dp_safetensors_create(struct dp_safetensors_writer **out, const char *path,
                          const struct dp_safetensors_item *items, size_t count,
                          const struct dp_safetensors_kv *meta, size_t meta_count, struct dp_err *e);
int dp_safetensors_add(struct dp_safetensors_writer *w, const void *p, size_t n, struct dp_err *e);
int dp_safetensors_finish(struct dp_safetensors_writer *w, struct dp_err *e);
void dp_safetensors_writer_close(struct dp_safetensors_writer *w);

/* Create `path` (it must not exist), write, fsync. On failure the file is removed. Data begin at a
 * multiple of 64 bytes. */
int dp_safetensors_write(const char *path, const struct dp_safetensors_item *items, size_t count,
                         const struct dp_safetensors_kv *meta, size_t meta_count, struct dp_err *e);

#endif
