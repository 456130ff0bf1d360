/* clean/cld2_shim.cc - see the header. Plain text, no hints: what a document says about itself is wrong too often. */
#include "clean/cld2_shim.h"

#include <stdio.h> // the next header uses FILE without it

#include <cld2/public/compact_lang_det.h>
#include <string.h>

extern "C" void dp_cld2_detect(const char *text, size_t n, char code[16], float *share)
{
    CLD2::Language lang[3];
    int percent[3], bytes = 0;
    bool reliable = false;
    CLD2::DetectLanguageSummary(text, static_cast<int>(n), true, lang, percent, &bytes, &reliable);
    const char *c = CLD2::LanguageCode(lang[0]);
    size_t k = strlen(c) < 15 ? strlen(c) : 15;
    memcpy(code, c, k);
    code[k] = 0;
    *share = static_cast<float>(percent[0]) / 100.0f;
}
