#include "daemon/loss_plot.h"

#include "base/json.h"

#include <math.h>
#include <stdlib.h>

static int push(double **v, size_t n, double x)
{
    if ((n & (n - 1)) == 0) { /* grows at powers of two */
        double *p = realloc(*v, (n ? n * 2 : 1) * sizeof *p);
        if (!p) return DP_NOMEM;
        *v = p;
    }
    (*v)[n] = x;
    return DP_OK;
}

static int add_point(struct dp_loss_log *l, double step, const struct dp_json_field *loss, const struct dp_json_field *val)
{
    if (loss->raw.len) {
        if (push(&l->step, l->n, step) < 0 || push(&l->loss, l->n, strtod(loss->raw.ptr, NULL)) < 0) return DP_NOMEM;
        l->n++;
    }
    if (val->raw.len) {
        if (push(&l->val_step, l->n_val, step) < 0 || push(&l->val_loss, l->n_val, strtod(val->raw.ptr, NULL)) < 0) return DP_NOMEM;
        l->n_val++;
    }
    return DP_OK;
}

int dp_loss_log_parse(struct dp_loss_log *l, struct dp_span text, const char *name, struct dp_err *e)
{
    struct dp_arena mem;
    int rc = DP_OK;
    *l = (struct dp_loss_log){0};
    dp_arena_init(&mem, 1 << 20);
    const char *p = text.ptr, *end = p + text.len;
    for (size_t line = 1; rc >= 0 && p < end; line++) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        struct dp_span s = dp_span(p, (size_t)((nl ? nl : end) - p));
        struct dp_json_field f[3] = {{.key = "step"}, {.key = "loss"}, {.key = "val_loss"}};
        p = nl ? nl + 1 : end;
        if (!s.len) continue;
        rc = dp_json_fields(s, f, 3, &mem, e);
        if (rc >= 0 && !f[0].raw.len) rc = dp_err_set(e, DP_CORRUPT, 0, __FILE__, __LINE__, "no \"step\"");
        if (rc < 0) dp_err_prefix(e, "%s line %zu", name, line);
        else if (add_point(l, strtod(f[0].raw.ptr, NULL), &f[1], &f[2]) < 0) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", name);
        dp_arena_reset(&mem);
    }
    dp_arena_release(&mem);
    if (rc < 0) dp_loss_log_release(l);
    return rc;
}

void dp_loss_log_release(struct dp_loss_log *l)
{
    free(l->step);
    free(l->loss);
    free(l->val_step);
    free(l->val_loss);
    *l = (struct dp_loss_log){0};
}

struct frame {
    double x0, x1, y0, y1;
};

static struct frame frame_of(const struct dp_loss_log *l)
{
    struct frame f = {0, 1, INFINITY, -INFINITY};
    for (size_t i = 0; i < l->n + l->n_val; i++) {
        double x = i < l->n ? l->step[i] : l->val_step[i - l->n], y = i < l->n ? l->loss[i] : l->val_loss[i - l->n];
        f.x1 = fmax(f.x1, x);
        f.y0 = fmin(f.y0, y);
        f.y1 = fmax(f.y1, y);
    }
    if (!(f.y1 > f.y0)) f = (struct frame){f.x0, f.x1, isfinite(f.y0) ? f.y0 - 0.5 : 0, isfinite(f.y0) ? f.y0 + 0.5 : 1};
    f.y0 = floor(f.y0 * 2) / 2;
    f.y1 = ceil(f.y1 * 2) / 2;
    return f;
}

/* One column a share of the steps: the mean of its losses. NAN where no step falls. */
static double column_mean(const struct dp_loss_log *l, const struct frame *f, int c, int columns)
{
    double a = f->x0 + (f->x1 - f->x0) * c / columns, b = f->x0 + (f->x1 - f->x0) * (c + 1) / columns, sum = 0;
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++)
        if (l->step[i] >= a && (l->step[i] < b || (c + 1 == columns && l->step[i] <= b))) sum += l->loss[i], n++;
    return n ? sum / (double)n : NAN;
}

void dp_loss_plot_text(const struct dp_loss_log *l, int columns, int rows, bool ascii, struct dp_buf *out)
{
    struct frame f = frame_of(l);
    if (columns > 400) columns = 400;
    double y[400];
    for (int c = 0; c < columns; c++) y[c] = column_mean(l, &f, c, columns);
    for (int r = 0; r < rows; r++) {
        double top = f.y1 - (f.y1 - f.y0) * r / rows, bottom = f.y1 - (f.y1 - f.y0) * (r + 1) / rows;
        if (r % 4 == 0) dp_buf_printf(out, "%7.2f %s", top, ascii ? "|" : "\xe2\x94\xa4");
        else dp_buf_printf(out, "        %s", ascii ? "|" : "\xe2\x94\x82");
        for (int c = 0; c < columns; c++) {
            bool here = y[c] <= top && (y[c] > bottom || (r + 1 == rows && y[c] >= bottom));
            bool val = false;
            for (size_t i = 0; i < l->n_val; i++)
                val = val || ((int)((l->val_step[i] - f.x0) / (f.x1 - f.x0) * (columns - 1)) == c && l->val_loss[i] <= top && l->val_loss[i] > bottom);
            dp_buf_add_str(out, val ? (ascii ? "o" : "\xe2\x97\x8b") : here ? (ascii ? "*" : (y[c] > (top + bottom) / 2 ? "\xe2\x96\x80" : "\xe2\x96\x84")) : " ");
        }
        dp_buf_add_char(out, '\n');
    }
    dp_buf_printf(out, "%7.2f %s", f.y0, ascii ? "+" : "\xe2\x94\xbc");
    for (int c = 0; c < columns; c++) dp_buf_add_str(out, ascii ? "-" : "\xe2\x94\x80");
    dp_buf_printf(out, "\n        step 0%*s%.0f%s\n", columns > 16 ? columns - 8 : 1, "", f.x1, l->n_val ? "   (o: validation)" : "");
}

static void polyline(const double *x, const double *y, size_t n, const struct frame *f, const char *style, struct dp_buf *out)
{
    dp_buf_printf(out, "<polyline fill=\"none\" %s points=\"", style);
    size_t every = n > 1400 ? n / 700 : 1; /* more points than pixels help nobody */
    for (size_t i = 0; i < n; i += every)
        dp_buf_printf(out, "%.1f,%.1f ", 60 + 640 * (x[i] - f->x0) / (f->x1 - f->x0), 360 - 310 * (y[i] - f->y0) / (f->y1 - f->y0));
    dp_buf_add_str(out, "\"/>\n");
}

void dp_loss_plot_svg(const struct dp_loss_log *l, const char *title, struct dp_buf *out)
{
    struct frame f = frame_of(l);
    dp_buf_add_str(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 400\" font-family=\"sans-serif\" font-size=\"12\">\n"
                        "<style>text{fill:#555}.g{stroke:#8884}@media(prefers-color-scheme:dark){text{fill:#bbb}}</style>\n");
    dp_buf_printf(out, "<text x=\"60\" y=\"24\" font-size=\"14\">%s</text>\n", title);
    for (int i = 0; i <= 5; i++) {
        double y = f.y0 + (f.y1 - f.y0) * i / 5, py = 360 - 62.0 * i, x = f.x0 + (f.x1 - f.x0) * i / 5, px = 60 + 128.0 * i;
        dp_buf_printf(out, "<line class=\"g\" x1=\"60\" x2=\"700\" y1=\"%.0f\" y2=\"%.0f\"/><text x=\"52\" y=\"%.0f\" text-anchor=\"end\">%.2f</text>"
                           "<text x=\"%.0f\" y=\"378\" text-anchor=\"middle\">%.0f</text>\n", py, py, py + 4, y, px, x);
    }
    polyline(l->step, l->loss, l->n, &f, "stroke=\"#2a78d6\" stroke-width=\"1.5\"", out);
    if (l->n_val) {
        polyline(l->val_step, l->val_loss, l->n_val, &f, "stroke=\"#d6622a\" stroke-width=\"2\"", out);
        dp_buf_add_str(out, "<text x=\"700\" y=\"24\" text-anchor=\"end\"><tspan fill=\"#2a78d6\">training</tspan> <tspan fill=\"#d6622a\">validation</tspan></text>\n");
    }
    dp_buf_add_str(out, "<text x=\"380\" y=\"396\" text-anchor=\"middle\">step</text>\n</svg>\n");
}
