/* Lines of the control socket. */
#include "daemon/request.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dp_request r;
    struct dp_err e = {0};
    int rc = dp_request_parse(&r, dp_span(data, size), &e);
    if (rc < 0 && !e.msg[0]) __builtin_trap(); /* a refusal says why */
    if (rc >= 0 && (r.op >= DP_OP_COUNT || r.limit < 0 || r.limit > DP_PAGE_MAX || r.after < 0 || r.id < 0 || !memchr(r.state, 0, sizeof r.state))) __builtin_trap();
    return 0;
}
