/* Heads of HTTP requests. */
#include "daemon/http_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct dp_http_head h;
    int status = dp_http_head_parse(&h, dp_span(data, size));
    if (status == 0) {
        if (h.path[0] != '/' || h.params > DP_HTTP_PARAMS || !memchr(h.path, 0, sizeof h.path) || !memchr(h.host, 0, sizeof h.host)) __builtin_trap();
        if (size < 4 || memcmp(data + size - 4, "\r\n\r\n", 4) != 0) __builtin_trap();
        for (const char *c = h.path; *c; c++)
            if ((unsigned char)*c < 0x20) __builtin_trap();
    } else if (status < 400 || status > 505) __builtin_trap();
    return 0;
}
