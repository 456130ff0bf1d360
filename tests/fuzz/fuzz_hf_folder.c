/* Arbitrary bytes as a Hugging Face folder: two bytes with the length of config.json, two with that of model.safetensors.index.json (0: none), both
 * texts, and a safetensors file, a.safetensors where there is an index. What is accepted must have finite weights, and be written as a config that
 * is read as the same. */
#include "trainer/hf_config.h"
#include "trainer/weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[512];

static void clean_up(void)
{
    static const char *const names[] = {"config.json", "model.safetensors.index.json", "model.safetensors", "a.safetensors"};
    char path[600];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
}

static void put(const char *name, const uint8_t *p, size_t n)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(p, 1, n, f) != n || fclose(f) != 0) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dp_err err = {0};
    struct dp_weights w;
    if (size < 4) return 0;
    size_t config = data[0] | (size_t)data[1] << 8, index = data[2] | (size_t)data[3] << 8;
    data += 4, size -= 4;
    if (config > size) config = size;
    if (index > size - config) index = size - config;
    snprintf(dir, sizeof dir, "%s/dpipe-fuzz-hf-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(dir)) abort();
    put("config.json", data, config);
    if (index) put("model.safetensors.index.json", data + config, index);
    put(index ? "a.safetensors" : "model.safetensors", data + config + index, size - config - index);
    if (dp_weights_open(&w, dir, &err) >= 0) {
        for (uint64_t i = 0; i < w.layout.floats; i++)
            if (!isfinite(w.p[i])) abort();
        struct dp_buf b;
        struct dp_model_config c;
        dp_buf_init(&b, 1 << 16);
        if (dp_hf_config_write(&w.c, "float32", 0, &b, &err) < 0 || dp_hf_config_parse(dp_buf_span(&b), "written", &c, &err) < 0) abort();
        if (c.layers != w.c.layers || c.head_dim != w.c.head_dim || c.norm_eps != w.c.norm_eps || c.rope_theta != w.c.rope_theta) abort();
        dp_buf_release(&b);
        dp_weights_close(&w);
    }
    clean_up();
    return 0;
}
