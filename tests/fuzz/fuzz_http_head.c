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
        if (!memchr(h.origin, 0, sizeof h.origin) || !memchr(h.fetch_site, 0, sizeof h.fetch_site) || !memchr(h.if_none_match, 0, sizeof h.if_none_match) ||
            !memchr(h.last_event, 0, sizeof h.last_event) || !memchr(h.accept, 0, sizeof h.accept) || !memchr(h.authorization, 0, sizeof h.authorization))
            __builtin_trap();
        for (const char *c = h.path; *c; c++)
            if ((unsigned char)*c < 0x20) __builtin_trap();
    } else if (status < 400 || status > 505) __builtin_trap();
    return 0;
}
