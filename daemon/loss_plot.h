/* daemon/loss_plot.h - a training run's loss as a picture: for the terminal, and as SVG. */
#ifndef DP_DAEMON_LOSS_PLOT_H
#define DP_DAEMON_LOSS_PLOT_H

#include "base/buf.h"
#include "base/err.h"

/* Points of a loss log, JSON lines with "step", "loss" and sometimes "val_loss". Fields are 0-length when there are none. */
struct dp_loss_log {
    size_t n, n_val;
    double *step, *loss;         /* [n] */
    double *val_step, *val_loss; /* [n_val] */
};
int dp_loss_log_parse(struct dp_loss_log *l, struct dp_span text, const char *name, struct dp_err *e);
void dp_loss_log_release(struct dp_loss_log *l);

/* `columns` x `rows` characters with axes. ASCII only when `ascii`. */
void dp_loss_plot_text(const struct dp_loss_log *l, int columns, int rows, bool ascii, struct dp_buf *out);
/* A self-contained picture, 720 x 400; readable on light and dark. */
void dp_loss_plot_svg(const struct dp_loss_log *l, const char *title, struct dp_buf *out);

#endif
