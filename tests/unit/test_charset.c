/* Labels, the prescan, decoding and guessing. */
#include "base/fs.h"
#include "base/utf8.h"
#include "clean/charset.h"
#include "tests/test.h"

#include <iconv.h>

TEST(labels)
{
    static const char *const t[][2] = {{"iso-8859-1", "windows-1252"}, {" UTF8 ", "utf-8"}, {"latin1", "windows-1252"}, {"gbk", "gb18030"},
                                       {"iso-8859-9", "windows-1254"}, {"ks_c_5601-1987", "euc-kr"}, {"x-sjis", "shift_jis"}, {"nonsense", NULL}, {"", NULL}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        const struct dp_charset *c = dp_charset_find(dp_span_str(t[i][0]));
        if (t[i][1]) CHECK_STR(c ? c->name : NULL, t[i][1]);
        else CHECK(c == NULL);
    }
}

TEST(prescan)
{
    static const char *const t[][2] = {
        {"<meta charset=koi8-r>", "koi8-r"}, {"<META HTTP-EQUIV='Content-Type' content='text/html; charset=EUC-JP'>", "euc-jp"},
        {"<meta content='text/html; charset=euc-jp'>", NULL}, {"<!-- <meta charset=big5> --><meta charset='big5'>", "big5"},
        {"<meta charset=utf-16>", "utf-8"}, {"<metacharset=big5>", NULL}, {"<meta charset=big5", NULL}, {"<a title='<meta charset=big5>'>", NULL},
        {"<?xml version='1.0' encoding='windows-1251'?>", "windows-1251"}, {"<!doctype html><p x><meta a=b charset = \"sjis\" >", "shift_jis"}, {"<", NULL}, {"", NULL}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        const struct dp_charset *c = dp_charset_prescan(dp_span_str(t[i][0]));
        if (t[i][1]) CHECK_STR(c ? c->name : "(none)", t[i][1]);
        else CHECK(c == NULL);
    }
}

/* html5lib's cases: "#data\n", a page, "#encoding\n", what the prescan finds, or windows-1252. */
static void prescan_file(const char *path, int *cases)
{
    struct dp_err err;
    struct dp_buf f;
    dp_buf_init(&f, 1 << 20);
    REQUIRE_OK(dp_fs_read(path, &f, &err));
    for (const char *p = f.ptr, *end = p + f.len; (p = memmem(p, (size_t)(end - p), "#data\n", 6)) != NULL; ++*cases) {
        const char *page = p + 6, *q = memmem(page, (size_t)(end - page), "\n#encoding\n", 11);
        REQUIRE(q);
        const char *name = q + 11, *line = memchr(name, '\n', (size_t)(end - name));
        const struct dp_charset *want = dp_charset_find(dp_span(name, (size_t)((line ? line : end) - name)));
        const struct dp_charset *got = dp_charset_prescan(dp_span(page, (size_t)(q - page)));
        if (!got) got = dp_charset_find(dp_span_str("windows-1252"));
        if (memcmp(page, "\xEF\xBB\xBF", 3) == 0) got = dp_charset_find(dp_span_str("utf-8")); /* the mark decides before a prescan */
        if (got != want) DP_TEST_FAIL("%s: %s, not %s: %.*s", path, got->name, want ? want->name : "?", (int)(q - page > 300 ? 300 : q - page), page);
        p = name;
    }
    dp_buf_release(&f);
}

TEST(html5lib_prescan)
{
    int cases = 0;
    prescan_file("tests/data/html5lib/encoding/tests1.dat", &cases);
    prescan_file("tests/data/html5lib/encoding/tests2.dat", &cases);
    prescan_file("tests/data/html5lib/encoding/test-yahoo-jp.dat", &cases);
    CHECK_INT(cases, 82);
}

/* utf8 converted to `to` by iconv, then decoded with what is declared. */
static void round_trip(const char *utf8, const char *to, const char *declared, const char *want)
{
    char coded[2048], *in = (char *)(uintptr_t)utf8, *o = coded;
    size_t left = strlen(utf8), room = sizeof coded;
    iconv_t cd = iconv_open(to, "UTF-8");
    REQUIRE(cd != (iconv_t)-1);
    REQUIRE(iconv(cd, &in, &left, &o, &room) != (size_t)-1);
    iconv_close(cd);
    struct dp_iconv ic = {0};
    struct dp_err err;
    struct dp_buf out, scratch;
    struct dp_charset_result r;
    dp_buf_init(&out, 1 << 16);
    dp_buf_init(&scratch, 1 << 16);
    REQUIRE_OK(dp_charset_decode(&ic, dp_span(coded, sizeof coded - room), dp_span_str(declared), true, &out, &scratch, &r, &err));
    CHECK_STR(r.charset->name, want);
    CHECK_SPAN(r.text, utf8);
    CHECK_INT(r.replaced, 0);
    dp_iconv_release(&ic);
    dp_buf_release(&out);
    dp_buf_release(&scratch);
}

TEST(decodes_and_guesses)
{
    static const char ru[] = "Комитет соберётся в четверг, чтобы обсудить бюджет, и каждый желающий может прийти на заседание.";
    static const char ja[] = "委員会は木曜日に予算について話し合うために集まります。興味のある方は誰でも参加できます。";
    static const char fr[] = "Le comité se réunira jeudi pour étudier le budget, et chacun pourra être présent à la séance où l’on décidera.";
    static const char zh[] = "委员会将于星期四开会讨论预算问题，有兴趣的人都可以参加这次会议，请准时到场。";
    static const char ko[] = "위원회는 목요일에 예산을 논의하기 위해 모이며 관심 있는 사람은 누구나 회의에 참석할 수 있습니다.";
    static const char el[] = "Η επιτροπή θα συνεδριάσει την Πέμπτη για να συζητήσει τον προϋπολογισμό και όλοι μπορούν να παρευρεθούν.";
    round_trip(ru, "CP1251", "", "windows-1251");
    round_trip(ru, "KOI8-R", "", "koi8-r");
    round_trip(ru, "KOI8-R", "koi8-r", "koi8-r");
    round_trip(ja, "CP932", "", "shift_jis");
    round_trip(ja, "EUC-JP", "", "euc-jp");
    round_trip("Price: 5 € — for the members, наш клуб", "UTF-16LE", "", "utf-16le");
    round_trip("Price: 5 € — for the members, наш клуб", "UTF-16BE", "", "utf-16be");
    round_trip(fr, "CP1252", "", "windows-1252");
    round_trip(fr, "CP1252", "utf-8", "windows-1252");
    round_trip(fr, "UTF-8", "iso-8859-1", "utf-8");
    round_trip(zh, "GB18030", "", "gb18030");
    round_trip(ko, "UHC", "", "euc-kr");
    round_trip(el, "CP1253", "", "windows-1253");
}
