/* cli/report_svg.c - horizontal bars: for each group one a tokenizer. Charts of languages and domains, each with bytes per token and tokens per word.
 *
 * A file by itself: no script, no font or picture from elsewhere, colours for light and dark. All that comes from files goes through add_text. */
#include "cli/token_report.h"

#include "base/utf8.h"

#include <math.h>

enum { WIDTH = 860, LEFT = 190, RIGHT = 80, BAR = 13, GAP = 9, GROUPS_SHOWN = 16 };

/* XML 1.0's characters: others, and bytes that are none, become U+FFFD. */
static void add_text(struct dp_buf *out, struct dp_span s, size_t chars_max)
{
    const char *p = s.ptr, *end = s.ptr + s.len;
    size_t chars = 0;
    for (; p < end && chars < chars_max; chars++) {
        size_t size = dp_utf8_size((unsigned char)*p);
        if (size > (size_t)(end - p) || dp_utf8_valid_len(p, size) != size) {
            dp_buf_add_str(out, "\xEF\xBF\xBD");
            p++;
            continue;
        }
        const char *q = p;
        uint32_t cp = dp_utf8_next(&q);
        if (cp == '<') dp_buf_add_str(out, "&lt;");
        else if (cp == '>') dp_buf_add_str(out, "&gt;");
        else if (cp == '&') dp_buf_add_str(out, "&amp;");
        else if (cp == '"') dp_buf_add_str(out, "&quot;");
        else if (cp == '\'') dp_buf_add_str(out, "&#39;");
        else if (cp < 0x20 || (cp >= 0x7F && cp < 0xA0) || (cp >= 0xFFFE && cp <= 0xFFFF)) dp_buf_add_str(out, "\xEF\xBF\xBD");
        else dp_buf_add(out, p, size);
        p = q;
    }
    if (p < end) dp_buf_add_str(out, "\xE2\x80\xA6");
}

typedef double (*rate_fn)(const struct dp_survey_group *g, size_t tokenizer);

static double bytes_per_token(const struct dp_survey_group *g, size_t t)
{
    return dp_token_rates(g, t).bytes_per_token;
}

static double fertility(const struct dp_survey_group *g, size_t t)
{
    return dp_token_rates(g, t).fertility;
}

/* 1, 2 or 5 times a power of ten, so that there are four to ten lines. */
static double step_of(double top)
{
    double p = pow(10, floor(log10(top))), m = top / p;
    return m < 2 ? p / 5 : m < 5 ? p / 2 : p;
}

static double chart_height(const struct dp_survey *s, size_t groups)
{
    return 64 + (double)groups * ((double)s->tokenizers * BAR + GAP);
}

static void bars(const struct dp_survey *s, const struct dp_survey_group *g, double y, double top, rate_fn rate, struct dp_buf *out)
{
    double scale = (WIDTH - LEFT - RIGHT) / top;
    dp_buf_printf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", LEFT - 8, y + (double)s->tokenizers * BAR / 2 + 4);
    add_text(out, g->name.ptr ? g->name : dp_span_str("all"), 26);
    dp_buf_add_str(out, "</text>\n");
    for (size_t t = 0; t < s->tokenizers; t++) {
        double v = rate(g, t), w = isnan(v) ? 0 : v * scale;
        dp_buf_printf(out, "<rect class=\"c%zu\" x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" rx=\"2\"><title>", t, LEFT, y + (double)t * BAR, w, BAR - 2);
        add_text(out, dp_span_str(s->tokenizer[t].name), 200);
        dp_buf_add_str(out, ", ");
        add_text(out, g->name.ptr ? g->name : dp_span_str("all"), 200);
        dp_buf_printf(out, ": %.3f</title></rect><text class=\"v\" x=\"%.1f\" y=\"%.1f\">", v, LEFT + w + 5, y + (double)t * BAR + 9);
        if (isnan(v)) dp_buf_add_str(out, "\xE2\x80\x93</text>\n");
        else dp_buf_printf(out, "%.2f</text>\n", v);
    }
}

static void chart(const struct dp_survey *s, const struct dp_survey_groups *groups, size_t n, double y, const char *title, rate_fn rate, struct dp_buf *out)
{
    double top = 0, height = chart_height(s, n + 1);
    for (size_t g = 0; g <= n; g++)
        for (size_t t = 0; t < s->tokenizers; t++) {
            double v = rate(g ? &groups->group[g - 1] : &s->all, t);
            if (v > top) top = v;
        }
    if (top <= 0) top = 1;
    double step = step_of(top), scale = (WIDTH - LEFT - RIGHT) / top;
    dp_buf_printf(out, "<text class=\"h\" x=\"16\" y=\"%.1f\">%s%s</text>\n", y + 18, title, n < groups->n ? ": the largest" : "");
    for (int i = 0; i * step <= top * 1.0001; i++)
        dp_buf_printf(out, "<line class=\"g\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/><text class=\"v\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%g</text>\n",
                      LEFT + i * step * scale, LEFT + i * step * scale, y + 30, y + height - 28, LEFT + i * step * scale, y + height - 16, i * step);
    for (size_t g = 0; g <= n; g++)
        bars(s, g ? &groups->group[g - 1] : &s->all, y + 34 + (double)g * ((double)s->tokenizers * BAR + GAP), top, rate, out);
}

static void legend(const struct dp_survey *s, struct dp_buf *out)
{
    double x = 16;
    for (size_t t = 0; t < s->tokenizers; t++) {
        struct dp_span name = dp_span_str(s->tokenizer[t].name);
        dp_buf_printf(out, "<rect class=\"c%zu\" x=\"%.1f\" y=\"40\" width=\"11\" height=\"11\" rx=\"2\"/><text x=\"%.1f\" y=\"50\">", t, x, x + 16);
        add_text(out, name, 20);
        dp_buf_add_str(out, "</text>\n");
        x += 34 + 7.2 * (double)(name.len < 20 ? name.len : 20);
    }
}

void dp_report_svg(const struct dp_survey *s, struct dp_buf *out)
{
    static const char *const titles[DP_SURVEY_KINDS][2] = {{"Bytes per token, by language (longer: fewer tokens)", "Tokens per word, by language (shorter: words less cut)"},
                                                           {"Bytes per token, by domain (longer: fewer tokens)", "Tokens per word, by domain (shorter: words less cut)"}};
    double height = 66, y = height;
    size_t shown[DP_SURVEY_KINDS];
    for (int k = 0; k < DP_SURVEY_KINDS; k++) {
        shown[k] = s->by[k].n < GROUPS_SHOWN ? s->by[k].n : GROUPS_SHOWN;
        if (shown[k] || (k == 0 && !s->by[1].n)) height += 2 * chart_height(s, shown[k] + 1);
    }
    dp_buf_printf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %.0f\" width=\"%d\" height=\"%.0f\" role=\"img\" "
                       "font-family=\"system-ui,sans-serif\" font-size=\"12\">\n", WIDTH, height, WIDTH, height);
    dp_buf_add_str(out, "<style>svg{background:#fff}text{fill:#333}.h{font-size:14px;font-weight:600}.v{font-size:10px;fill:#666}.g{stroke:#8883}\n"
                        ".c0{fill:#2a78d6}.c1{fill:#d6622a}.c2{fill:#3a9a55}.c3{fill:#9457b8}.c4{fill:#b8890b}.c5{fill:#c23b6b}.c6{fill:#2d9aa3}.c7{fill:#7a7a7a}\n"
                        "@media(prefers-color-scheme:dark){svg{background:#16181c}text{fill:#ddd}.v{fill:#aaa}.c0{fill:#5b9df0}.c1{fill:#f08a55}.c2{fill:#5fc47c}"
                        ".c3{fill:#bb86db}.c4{fill:#dfb03a}.c5{fill:#e8709b}.c6{fill:#56c3cc}.c7{fill:#a5a5a5}}</style>\n");
    dp_buf_add_str(out, "<title>Tokenizer report</title>\n<text class=\"h\" x=\"16\" y=\"24\" style=\"font-size:16px\">");
    add_text(out, dp_span_str(s->tokenizer[0].name), 60);
    dp_buf_printf(out, ": %llu texts, %.1f MB</text>\n", (unsigned long long)s->all.texts, (double)s->all.bytes / 1e6);
    legend(s, out);
    for (int k = 0; k < DP_SURVEY_KINDS; k++) {
        if (!shown[k] && (k == 1 || s->by[1].n)) continue;
        for (int c = 0; c < 2; c++, y += chart_height(s, shown[k] + 1)) chart(s, &s->by[k], shown[k], y, titles[k][c], c ? fertility : bytes_per_token, out);
    }
    dp_buf_add_str(out, "</svg>\n");
}
