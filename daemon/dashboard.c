/* The dashboard's files and the API's description, in the binary as they are in the folder dashboard/: the assembler takes them in (.incbin), so the web part
 * needs no build step. Make knows that this object depends on them. */
#include "daemon/serve_internal.h"

#include "base/hash.h"

#include <stdio.h>

#define TAKE_IN(symbol, file)                                                                      \
    extern const char symbol[], symbol##_end[];                                                    \
    __asm__(".pushsection .rodata\n.balign 16\n.global " #symbol "\n.hidden " #symbol "\n" #symbol ":\n.incbin \"" file "\"\n"                    \
            ".global " #symbol "_end\n.hidden " #symbol "_end\n" #symbol "_end:\n.byte 0\n.popsection\n")
TAKE_IN(dp_file_index, "daemon/dashboard/index.html");
TAKE_IN(dp_file_style, "daemon/dashboard/dashboard.css");
TAKE_IN(dp_file_script, "daemon/dashboard/dashboard.js");
TAKE_IN(dp_file_icon, "daemon/dashboard/icon.svg");
TAKE_IN(dp_file_openapi, "daemon/dashboard/openapi.json");

/* Nothing but these files: no inline script or style, no other host, no markup made from text. */
const char dp_page_csp[] = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
                           "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const struct dp_page_file *dp_page_file(const char *path)
{
    static struct dp_page_file files[] = {
        {.path = "/", .type = "text/html; charset=utf-8"},
        {.path = "/dashboard.css", .type = "text/css; charset=utf-8"},
        {.path = "/dashboard.js", .type = "text/javascript; charset=utf-8"},
        {.path = "/icon.svg", .type = "image/svg+xml"},
        {.path = "/api/v1/openapi.json", .type = "application/json"},
    };
    enum { FILES = sizeof files / sizeof *files };
    if (!files[0].etag[0]) {
        const char *const from[FILES] = {dp_file_index, dp_file_style, dp_file_script, dp_file_icon, dp_file_openapi};
        const char *const end[FILES] = {dp_file_index_end, dp_file_style_end, dp_file_script_end, dp_file_icon_end, dp_file_openapi_end};
        for (int i = 0; i < FILES; i++) {
            char hex[DP_HEX128];
            files[i].body = dp_span(from[i], (size_t)(end[i] - from[i]));
            dp_hash128_hex(dp_hash128(files[i].body.ptr, files[i].body.len), hex);
            snprintf(files[i].etag, sizeof files[i].etag, "\"%s\"", hex);
        }
    }
    for (int i = 0; i < FILES; i++)
        if (strcmp(files[i].path, path) == 0) return &files[i];
    return NULL;
}
