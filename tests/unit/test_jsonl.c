/* JSONL: lines to rows, metadata, damage. */
#include "base/batch.h"
#include "base/buf.h"
#include "ingest/reader.h"
#include "tests/test.h"

static struct dp_err err;

static void on_damage(void *ctx, const struct dp_damage *d)
{
    dp_buf_printf(ctx, "!%" PRIu64 "\n", d->offset);
}

static char *rows(struct dp_span bytes, uint64_t doc_bytes_max)
{
    struct dp_ingest_options o = {0};
    struct dp_buf t, damage; /* damage goes behind the rows */
    struct dp_batch b;
    struct dp_reader *r = NULL;
    dp_buf_init(&damage, 1 << 24);
    dp_buf_init(&t, 1 << 24);
    dp_buf_add_str(&t, "");
    CHECK_OK(dp_opt_defaults(dp_ingest_opts, &o, &err));
    if (doc_bytes_max) o.doc_bytes_max = doc_bytes_max;
    CHECK_OK(dp_batch_init(&b, 50, 64 << 20, &err));
    int rc = dp_reader_open_span(&r, &o, bytes, "x.jsonl", "", "d", on_damage, &damage, &err);
    while (rc == DP_OK && (rc = dp_reader_next(r, &b, &err)) == DP_OK)
        for (uint32_t i = 0; i < b.count; i++) {
            dp_buf_printf(&t, "%.*s %s [", DP_SPAN_FMT(b.pos[i]), dp_drop_name(b.drop[i]));
            dp_buf_add_span(&t, b.text[i]);
            dp_buf_printf(&t, "] %.*s {%.*s}\n", DP_SPAN_FMT(b.url[i]), DP_SPAN_FMT(b.meta[i]));
        }
    CHECK_INT(rc, DP_EOF);
    dp_reader_close(r);
    dp_batch_release(&b);
    dp_opt_release(dp_ingest_opts, &o);
    dp_buf_add_span(&t, dp_buf_span(&damage));
    dp_buf_release(&damage);
    return t.ptr;
}

TEST(lines)
{
    static const struct {
        const char *in, *want;
    } cases[] = {
        {"{\"text\":\"a\"}\n{\"text\":\"b\"}", "@0 kept [a]  {}\n@13 kept [b]  {}\n"},
        {"\xef\xbb\xbf{\"text\":\"a\"}\r\n\r\n \n{\"text\":\"b\"}\r\n", "@3 kept [a]  {}\n@21 kept [b]  {}\n"},
        {"{\"text\":\"\\u00e9\\n\\\"\",\"url\":\"http:\\/\\/x\"}\n", "@0 kept [\xc3\xa9\n\"] http://x {}\n"},
        {"{ \"id\" : 7 , \"n\" : -1.5e3 , \"text\" : \"a\" , \"l\":[1,\"]\"], \"o\":{\"x\":{}} , \"t\":true, \"meta\" : { \"k\":\"}\\\"\" } , \"z\":null}\n",
         "@0 kept [a]  {\"id\":7,\"n\":-1.5e3,\"t\":true,\"k\":\"}\\\"\",\"z\":null}\n"},
        {"{\"text\":\"a\",\"meta\":{ }}\n", "@0 kept [a]  {}\n"},
        {"{\"text\":\"\"}\n{\"text\":null}\n", "@0 empty []  {}\n@12 empty []  {}\n"},
        {"{\"text\":5}\n{\"x\":\"a\"}\nnonsense\n{\"text\":\"a\"\n[1]\n{\"text\":\"ok\"}\n", "@46 kept [ok]  {}\n!0\n!11\n!21\n!30\n!42\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *got = rows(dp_span_str(cases[i].in), 0);
        CHECK_STR(got, cases[i].want);
        free(got);
    }
}

TEST(long_lines_are_dropped_and_the_rest_read)
{
    struct dp_buf b;
    dp_buf_init(&b, 1 << 20);
    dp_buf_add_str(&b, "{\"text\":\"a\"}\n{\"text\":\"");
    for (int i = 0; i < 5000; i++) dp_buf_add_char(&b, 'x');
    dp_buf_add_str(&b, "\"}\n{\"text\":\"b\"}\n");
    char *got = rows(dp_buf_span(&b), 2000);
    CHECK_STR(got, "@0 kept [a]  {}\n@13 too_large []  {}\n@5025 kept [b]  {}\n");
    free(got);
    dp_buf_release(&b);
}

TEST(huge_members_stay_out_of_meta)
{
    struct dp_buf b;
    dp_buf_init(&b, 1 << 20);
    dp_buf_add_str(&b, "{\"huge\":\"");
    for (int i = 0; i < 100000; i++) dp_buf_add_char(&b, 'x');
    dp_buf_add_str(&b, "\",\"n\":1,\"text\":\"a\"}\n");
    char *got = rows(dp_buf_span(&b), 0);
    CHECK_STR(got, "@0 kept [a]  {\"n\":1}\n");
    free(got);
    dp_buf_release(&b);
}
