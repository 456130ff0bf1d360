/* The feed over TCP: what comes is what dp_feed_next_meta gives, whatever is cut, garbled, silent or unwanted on the way. */
#include "base/clock.h"
#include "base/log.h"
#include "base/tcp.h"
#include "tests/unit/feed_here.h"
#include "trainer_feed/feed_client.h"
#include "trainer_feed/feed_conn.h"
#include "trainer_feed/feed_server.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

/* --- a server in this process --- */

static int here_open(struct here *h, const struct data *d, struct dp_feed_server_options o)
{
    if (!o.addr) o.addr = "127.0.0.1:0";
    o.manifest = d->path;
    dp_feed_options_init(&o.feed);
    o.feed.val_fraction = 0.1;
    DP_TRY(dp_feed_server_open(&h->s, &o, &err));
    if (dp_feed_server_port(h->s)) snprintf(h->addr, sizeof h->addr, "127.0.0.1:%d", dp_feed_server_port(h->s));
    else snprintf(h->addr, sizeof h->addr, "%s", o.addr);
    return pthread_create(&h->thread, NULL, run_here, h->s) ? DP_NOMEM : DP_OK;
}
static char text[200];
static struct dp_feed_client_options want(const char *addr, int rank, int world, int pack)
{
    snprintf(text, sizeof text, "seq_len=%d\nbatch=%d\nseed=7\nrank=%d\nworld=%d\npack=%s\n", T, B, rank, world, pack ? "bestfit" : "concat");
    return (struct dp_feed_client_options){.addr = addr, .wants = text};
}

struct arrays {
    int32_t ids[IDS], cu[IDS], segments[B], positions[B * T];
    uint8_t mask[B * T];
    uint32_t domain[B];
    uint64_t sample[B];
};
/* The next batch of both is the same; its number, -1 when it isn't. */
static bool agree(struct dp_feed_client *c, struct dp_feed *f, struct dp_err *e)
{
    static _Thread_local struct arrays w;
    struct dp_feed_batch b;
    struct dp_feed_state s;
    const struct dp_feed_meta m = {w.cu, w.segments, w.positions, w.mask, w.domain, w.sample};
    dp_feed_state(f, &s);
    if (dp_feed_client_next(c, &b, e) < 0 || dp_feed_next_meta(f, w.ids, &m, e) < 0) return false;
#define SAME(have, want) (!(have) || memcmp((have), (want), sizeof(want)) == 0)
    return b.sample == s.sample && SAME(b.ids, w.ids) && SAME(b.meta.cu_seqlens, w.cu) && SAME(b.meta.segments, w.segments) &&
           SAME(b.meta.positions, w.positions) && SAME(b.meta.loss_mask, w.mask) && SAME(b.meta.domain, w.domain) && SAME(b.meta.sample, w.sample);
}

/* --- batches --- */

TEST(batches_and_masks_are_the_feeds)
{
    static const unsigned metas[] = {0, DP_FEED_META_ALL, DP_FEED_META_POSITIONS, DP_FEED_META_LOSS_MASK | DP_FEED_META_SAMPLE,
                                     DP_FEED_META_SEGMENTS | DP_FEED_META_DOMAIN, DP_FEED_META_CU_SEQLENS};
    for (int wide = 0; wide < 2; wide++)
        for (int ring = 0; ring < 2; ring++) {
            struct data d;
            struct here h;
            char path[600];
            REQUIRE_OK(data_make(&d, wide ? 200019 : 50257, 0, 3, 60, 40, 71, &err));
            snprintf(path, sizeof path, "%s/s", d.dir);
            int before = descriptors();
            REQUIRE_OK(here_open(&h, &d, (struct dp_feed_server_options){.addr = ring ? path : NULL}));
            for (int i = 0; i < 24; i++) {
                struct dp_feed_client_options o = want(ring ? path : h.addr, i % 4, 4, i / 2 % 2);
                struct dp_feed *f = beside(&d, i % 4, 4, i / 2 % 2, 24);
                struct dp_feed_client *c;
                struct dp_feed_client_info info;
                o.meta = metas[i % 6];
                o.compress = i % 3 ? i % 3 * 2 - 1 : 0;
                o.start = 24;
                o.slots = (uint64_t)(i % 5);
                REQUIRE_OK(dp_feed_client_open(&c, &o, &err));
                dp_feed_client_info(c, &info);
                CHECK_INT(info.meta, o.meta);
                int k = 0;
                while (k < 60 && agree(c, f, &err)) k++;
                if (k < 60) DP_TEST_FAIL("client %d (ring %d, wide %d), batch %d: %s", i, ring, wide, k, err.msg);
                dp_feed_client_close(c);
                dp_feed_close(f);
            }
            CHECK(all_gone(&h, 10000));
            here_close(&h);
            CHECK_INT(descriptors(), before);
            data_release(&d);
        }
}

TEST(a_client_goes_on_from_its_state)
{
    struct data d;
    struct here h;
    struct dp_feed_client *c;
    struct dp_feed_state s;
    REQUIRE_OK(data_make(&d, 300, 0, 1, 60, 100, 72, &err));
    REQUIRE_OK(here_open(&h, &d, (struct dp_feed_server_options){0}));
    struct dp_feed_client_options o = want(h.addr, 0, 1, 1);
    struct dp_feed *f = beside(&d, 0, 1, 1, 0);
    REQUIRE_OK(dp_feed_client_open(&c, &o, &err));
    for (int k = 0; k < 20; k++) REQUIRE(agree(c, f, &err));
    dp_feed_client_state(c, &s);
    CHECK_INT(s.sample, 20 * B);
    dp_feed_client_close(c);
    o.state = &s;
    REQUIRE_OK(dp_feed_client_open(&c, &o, &err));
    for (int k = 0; k < 20; k++) REQUIRE(agree(c, f, &err));
    dp_feed_client_close(c);
    s.manifest.hi++;
    dp_log_init(DP_LOG_ERROR, DP_LOG_TEXT);
    CHECK_INT(dp_feed_client_open(&c, &o, &err), DP_CONFIG);
    struct dp_feed_server_totals t;
    CHECK(all_gone(&h, 10000));
    dp_feed_server_totals(h.s, &t);
    CHECK(t.accepted == 2 && t.refused == 1 && t.batches >= 40 && t.ids == t.batches * B * T && t.bytes > t.batches * IDS * 2);
    dp_feed_close(f);
    here_close(&h);
    dp_log_init(DP_LOG_INFO, DP_LOG_AUTO);
    data_release(&d);
}

/* --- frames, by hand --- */

static int dial(const char *addr)
{
    int fd = dp_tcp_connect(addr, "test", 5000, NULL, &err);
    if (fd < 0) abort();
    return fd;
}
/* The next frame within some seconds. */
static int hear(struct dp_feed_conn *c, struct dp_feed_frame *f)
{
    for (int i = 0; i < 500; i++) {
        int rc = dp_feed_conn_flush(c, &err);
        if (rc >= 0) rc = dp_feed_conn_receive(c, f, &err);
        if (rc != DP_EMPTY) return rc;
        dp_feed_conn_wait(c, NULL, 0, 20, &err);
    }
    return DP_EMPTY;
}
static int ask(struct dp_feed_conn *c, const char *addr, const char *what, struct dp_feed_frame *f)
{
    if (dp_feed_conn_open(c, dial(addr), NULL, NULL, &err) < 0) abort();
    DP_TRY(dp_feed_conn_say(c, DP_FEED_ASK, 0, dp_span_str(what), &err));
    int rc = hear(c, f);
    if (rc == DP_OK && f->kind == DP_FEED_REFUSE) return dp_feed_refuse_parse(f->payload, &err);
    return rc;
}

TEST(credit_is_all_that_is_sent)
{
    struct data d;
    struct here h;
    struct dp_feed_conn c;
    struct dp_feed_frame f;
    REQUIRE_OK(data_make(&d, 300, 0, 1, 60, 100, 73, &err));
    REQUIRE_OK(here_open(&h, &d, (struct dp_feed_server_options){0}));
    REQUIRE_OK(ask(&c, h.addr, "wire=2\nseq_len=16\nbatch=3\nstart=6", &f));
    CHECK_INT(f.kind, DP_FEED_ACCEPT);
    uint64_t granted = 0;
    for (uint64_t k = 0; granted < 40; k++) {
        granted += k % 4;
        REQUIRE_OK(dp_feed_conn_say(&c, DP_FEED_CREDIT, granted, dp_span("", 0), &err));
        for (uint64_t i = granted - k % 4; i < granted; i++) {
            REQUIRE(hear(&c, &f) == DP_OK && f.kind == DP_FEED_BATCH);
            CHECK_INT(f.arg, 6 + 3 * i);
        }
        REQUIRE_OK(dp_feed_conn_say(&c, DP_FEED_PING, k, dp_span("", 0), &err)); /* answered at once: so no batch was under way */
        REQUIRE(hear(&c, &f) == DP_OK && f.kind == DP_FEED_PONG && f.arg == k);
    }
    struct dp_feed_server_client who;
    REQUIRE(dp_feed_server_list(h.s, &who, 1) == 1);
    CHECK(who.batches == granted && who.sample == 6 + 3 * granted && who.batch == 3 && who.seq_len == 16 && strstr(who.peer, "127.0.0.1:"));
    dp_log_init(DP_LOG_ERROR, DP_LOG_TEXT);
    REQUIRE_OK(dp_feed_conn_say(&c, DP_FEED_CREDIT, granted - 1, dp_span("", 0), &err)); /* less than before */
    REQUIRE(hear(&c, &f) == DP_OK && f.kind == DP_FEED_REFUSE);
    CHECK_INT(hear(&c, &f), DP_EOF);
    dp_feed_conn_close(&c);
    REQUIRE_OK(ask(&c, h.addr, "wire=2\nseq_len=16", &f));
    REQUIRE_OK(dp_feed_conn_say(&c, DP_FEED_CREDIT, 1 << 20, dp_span("", 0), &err));
    REQUIRE(hear(&c, &f) == DP_OK && f.kind == DP_FEED_REFUSE);
    dp_feed_conn_close(&c);
    CHECK(all_gone(&h, 10000));
    here_close(&h);
    dp_log_init(DP_LOG_INFO, DP_LOG_AUTO);
    data_release(&d);
}

TEST(what_is_no_request_is_refused)
{
    static const struct {
        const char *text, *says;
        int code;
    } t[] = {
        {"seq_len=16", "version 1", DP_USAGE},
        {"wire=3\nseq_len=16", "version 3", DP_USAGE},
        {"wire=2\nseq_len=0", "seq_len", DP_USAGE},
        {"wire=2\nseq_len=16777216\nbatch=1024", "limit of a ring", DP_LIMIT},
        {"wire=2\ndomains=x=/etc/passwd", "server's business", DP_USAGE},
        {"wire=2\nmeta=all\nmeta=all", "twice", DP_USAGE},
        {"wire=2\nmeta=everything", "everything", DP_USAGE},
        {"wire=2\ncompress=99", "compress", DP_USAGE},
    };
    struct data d;
    struct here h;
    struct dp_feed_conn c;
    struct dp_feed_frame f;
    REQUIRE_OK(data_make(&d, 300, 0, 1, 60, 100, 74, &err));
    REQUIRE_OK(here_open(&h, &d, (struct dp_feed_server_options){.ring_bytes_max = 1 << 20}));
    dp_log_init(DP_LOG_ERROR, DP_LOG_TEXT);
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        int code = ask(&c, h.addr, t[i].text, &f);
        if (code != t[i].code || !strstr(err.msg, t[i].says)) DP_TEST_FAIL("%s: %d: %s", t[i].text, code, err.msg);
        CHECK_INT(hear(&c, &f), DP_EOF);
        dp_feed_conn_close(&c);
    }
    static const char http[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    uint64_t x = 9;
    for (int i = 0; i < 200; i++) { /* and bytes of any kind: each connection ends, nothing else does */
        char junk[100];
        int fd = dial(h.addr);
        size_t n = i ? dp_splitmix64(&x) % sizeof junk : sizeof http - 1;
        for (size_t k = 0; k < n; k++) junk[k] = i ? (char)dp_splitmix64(&x) : http[k];
        if (i % 2 && n > 4) memcpy(junk, "dpP2", 4);
        CHECK(send(fd, junk, n, MSG_NOSIGNAL) == (ssize_t)n);
        shutdown(fd, SHUT_WR);
        struct pollfd p = {fd, POLLIN, 0};
        char rest[1000];
        ssize_t got;
        do got = poll(&p, 1, 5000) == 1 ? recv(fd, rest, sizeof rest, 0) : -2;
        while (got > 0);
        CHECK(got != -2);
        close(fd);
    }
    CHECK(all_gone(&h, 10000));
    struct dp_feed_client_options o = {.addr = h.addr, .wants = "seq_len=16\nbatch=64\n", .slots = 1024}; /* 2 MB, but of the client's memory */
    struct dp_feed_client *client;
    REQUIRE_OK(dp_feed_client_open(&client, &o, &err));
    dp_feed_client_close(client);
    here_close(&h);
    dp_log_init(DP_LOG_INFO, DP_LOG_AUTO);
    data_release(&d);
}

TEST(a_damaged_frame_is_none)
{
    struct dp_feed_shape s;
    struct dp_feed_frame f;
    char frame[512], copy[512];
    dp_feed_shape_init(&s, 8, 2, 300, DP_FEED_META_ALL);
    uint16_t ids[18];
    for (int i = 0; i < 18; i++) ids[i] = (uint16_t)(i * 16);
    int32_t cu[18] = {0, 3, 8, 8, 8, 8, 8, 8, 8, 0, 1, 2, 8, 8, 8, 8, 8, 8}, segments[2] = {2, 3};
    uint8_t mask[16] = {1, 1, 0, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 0};
    uint32_t domain[2] = {0, 1};
    const struct dp_feed_meta m = {.cu_seqlens = cu, .segments = segments, .loss_mask = mask, .domain = domain};
    struct dp_feed_slot head = {100, 108};
    memcpy(frame + 32 + DP_FEED_BATCH_IDS, ids, sizeof ids);
    size_t n = dp_feed_batch_encode(&s, &head, &m, frame + 32);
    REQUIRE(n <= dp_feed_batch_bytes_max(&s));
    f = (struct dp_feed_frame){.kind = DP_FEED_BATCH, .arg = 100, .raw_bytes = (uint32_t)n, .payload = dp_span(frame + 32, n)};
    dp_feed_frame_head(frame, &f);
    n += 32;
    for (size_t k = 0; k < n; k++) CHECK_INT(dp_feed_frame_parse(frame, k, 4096, &f, &err), DP_EMPTY);
    CHECK_INT(dp_feed_frame_parse(frame, n, 16, &f, &err), DP_CORRUPT); /* over the limit */
    for (size_t bit = 0; bit < n * 8; bit++) {
        memcpy(copy, frame, n);
        copy[bit / 8] = (char)(copy[bit / 8] ^ 1 << bit % 8);
        CHECK_INT(dp_feed_frame_parse(copy, n, 4096, &f, &err), DP_CORRUPT);
    }
    REQUIRE_OK(dp_feed_frame_parse(frame, n, 4096, &f, &err));
    struct dp_feed_accept a = {.seq_len = 8, .batch = 2, .rank = 2, .world = 4, .vocab_size = 300};
    struct dp_feed_widen w;
    dp_feed_widen_init(&w);
    char *slot = aligned_alloc(64, (size_t)s.slot_bytes);
    struct dp_feed_meta got;
    REQUIRE_OK(dp_feed_batch_decode(&s, &a, &w, f.payload, slot, &err));
    dp_feed_shape_meta(&s, slot, &got);
    CHECK(memcmp(slot + DP_FEED_SLOT_HEAD, ids, sizeof ids) == 0 && memcmp(got.cu_seqlens, cu, sizeof cu) == 0 && memcmp(got.loss_mask, mask, sizeof mask) == 0);
    CHECK(got.sample[1] == 105 && got.positions[3] == 0 && got.positions[7] == 4 && got.domain[1] == 1 && got.segments[1] == 3);
    a.vocab_size = 272; /* the largest id there is */
    CHECK_INT(dp_feed_batch_decode(&s, &a, &w, f.payload, slot, &err), DP_CORRUPT);
    a.vocab_size = 300;
    for (size_t k = 0; k < f.payload.len; k++) CHECK_INT(dp_feed_batch_decode(&s, &a, &w, dp_span(f.payload.ptr, k), slot, &err), DP_CORRUPT);
    free(slot);
}

/* --- who is let in --- */

TEST(a_token_is_wanted)
{
    struct data d;
    struct here h;
    struct dp_feed_client *c;
    struct dp_feed_server *s;
    REQUIRE_OK(data_make(&d, 300, 0, 1, 60, 100, 75, &err));
    struct dp_feed_server_options open = {.addr = "*:0", .manifest = d.path};
    dp_feed_options_init(&open.feed);
    CHECK_INT(dp_feed_server_open(&s, &open, &err), DP_CONFIG); /* anybody could read it */
    CHECK(strstr(err.msg, "token"));
    open.addr = "nonsense:99999";
    CHECK_INT(dp_feed_server_open(&s, &open, &err), DP_CONFIG);
    REQUIRE_OK(here_open(&h, &d, (struct dp_feed_server_options){.token = "correct-horse-battery"}));
    dp_log_init(DP_LOG_ERROR, DP_LOG_TEXT);
    static const char *const said[] = {NULL, "wrong-horse-battery", "correct-horse-batter", "correct-horse-batteryy", ""};
    struct dp_feed_client_options o = want(h.addr, 0, 1, 0);
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        o.token = said[i];
        CHECK_INT(dp_feed_client_open(&c, &o, &err), DP_CONFIG);
        CHECK(strstr(err.msg, "token"));
    }
    struct dp_feed_conn conn;
    struct dp_feed_frame f;
    CHECK_INT(ask(&conn, h.addr, "nonsense\nwire=7", &f), DP_CONFIG); /* nothing else is told to who has none */
    dp_feed_conn_close(&conn);
    o.token = "correct-horse-battery";
    REQUIRE_OK(dp_feed_client_open(&c, &o, &err));
    dp_feed_client_close(c);
    CHECK(all_gone(&h, 10000));
    here_close(&h);
    dp_log_init(DP_LOG_INFO, DP_LOG_AUTO);
    data_release(&d);
}

/* A certificate for `name` (and 127.0.0.1), signed by `by` or itself; files NAME.pem and NAME.key in dir. */
struct signer {
    X509 *cert;
    EVP_PKEY *key;
};
static void make_cert(struct signer *out, const struct signer *by, const char *dir, const char *file, const char *alt, bool ca)
{
    static long serial = 1;
    X509 *x = X509_new();
    EVP_PKEY *k = EVP_EC_gen("P-256");
    X509_NAME *name = X509_NAME_new();
    X509V3_CTX ctx;
    char path[700];
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), serial++);
    X509_gmtime_adj(X509_getm_notBefore(x), -60);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, k);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)file, -1, -1, 0);
    X509_set_subject_name(x, name);
    X509_set_issuer_name(x, by ? X509_get_subject_name(by->cert) : name);
    X509V3_set_ctx(&ctx, by ? by->cert : x, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, NID_basic_constraints, ca ? "critical,CA:TRUE" : "CA:FALSE");
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
    if (alt) {
        e = X509V3_EXT_conf_nid(NULL, &ctx, NID_subject_alt_name, alt);
        X509_add_ext(x, e, -1);
        X509_EXTENSION_free(e);
    }
    X509_sign(x, by ? by->key : k, EVP_sha256());
    snprintf(path, sizeof path, "%s/%s.pem", dir, file);
    FILE *f = fopen(path, "w");
    if (!f || !PEM_write_X509(f, x)) abort();
    fclose(f);
    snprintf(path, sizeof path, "%s/%s.key", dir, file);
    f = fopen(path, "w");
    if (!f || !PEM_write_PrivateKey(f, k, NULL, NULL, 0, NULL, NULL)) abort();
    fclose(f);
    X509_NAME_free(name);
    *out = (struct signer){x, k};
}

/* Files NAME.pem and NAME.key of two authorities, and of whom they signed. */
enum { CA, OTHER, SERVER, CLIENT, STRANGER, CERTS };
static char *pem[CERTS], *key[CERTS];
static void make_certs(const struct data *d)
{
    static const char *const name[] = {"ca", "other", "server", "client", "stranger"};
    struct signer made[CERTS];
    for (int i = 0; i < CERTS; i++) {
        char file[40];
        make_cert(&made[i], i < SERVER ? NULL : i == STRANGER ? &made[OTHER] : &made[CA], d->dir, name[i],
                  i == SERVER ? "IP:127.0.0.1,DNS:feed.example" : NULL, i < SERVER);
        snprintf(file, sizeof file, "%s.pem", name[i]);
        pem[i] = dp_fs_join(d->dir, file);
        snprintf(file, sizeof file, "%s.key", name[i]);
        key[i] = dp_fs_join(d->dir, file);
    }
    for (int i = 0; i < CERTS; i++) {
        X509_free(made[i].cert);
        EVP_PKEY_free(made[i].key);
    }
}
static void remove_certs(void)
{
    for (int i = 0; i < CERTS; i++) {
        unlink(pem[i]);
        unlink(key[i]);
        free(pem[i]);
        free(key[i]);
    }
}

TEST(tls_tells_both_sides_whom_they_speak_to)
{
    struct data d;
    struct here h, plain, strict;
    struct dp_feed_client *c;
    static const char token[] = "correct-horse-battery";
    REQUIRE_OK(data_make(&d, 50257, 0, 1, 60, 100, 76, &err));
    make_certs(&d);
    int before = descriptors();
    REQUIRE_OK(here_open(&h, &d, (struct dp_feed_server_options){.cert = pem[SERVER], .key = key[SERVER], .token = token}));
    REQUIRE_OK(here_open(&strict, &d, (struct dp_feed_server_options){.cert = pem[SERVER], .key = key[SERVER], .client_ca = pem[CA]}));
    REQUIRE_OK(here_open(&plain, &d, (struct dp_feed_server_options){0}));
    dp_log_init(DP_LOG_ERROR, DP_LOG_TEXT);
    const struct {
        const char *addr, *ca, *cert, *key, *host, *token;
        bool tls;
        int rc;
    } t[] = {
        {h.addr, pem[CA], NULL, NULL, NULL, token, true, DP_OK},
        {h.addr, pem[CA], NULL, NULL, "feed.example", token, true, DP_OK},
        {h.addr, pem[CA], NULL, NULL, NULL, "wrong-horse-battery!", true, DP_CONFIG},
        {h.addr, pem[CA], NULL, NULL, "feed.elsewhere", token, true, DP_CONFIG},
        {h.addr, pem[CA], NULL, NULL, "127.0.0.2", token, true, DP_CONFIG},
        {h.addr, pem[OTHER], NULL, NULL, NULL, token, true, DP_CONFIG},
        {h.addr, NULL, NULL, NULL, NULL, token, true, DP_CONFIG}, /* not one that the system trusts */
        {h.addr, NULL, NULL, NULL, NULL, token, false, DP_CORRUPT}, /* plain text to TLS: answered by an alert, or hung up on */
        {plain.addr, pem[CA], NULL, NULL, NULL, NULL, true, DP_CONFIG},
        {strict.addr, pem[CA], pem[CLIENT], key[CLIENT], NULL, NULL, true, DP_OK},
        {strict.addr, pem[CA], pem[STRANGER], key[STRANGER], NULL, NULL, true, DP_CONFIG},
        {strict.addr, pem[CA], NULL, NULL, NULL, NULL, true, DP_CONFIG},
        {strict.addr, pem[CA], pem[CLIENT], key[STRANGER], NULL, NULL, true, DP_CONFIG},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct dp_feed_client_options o = want(t[i].addr, 0, 1, 1);
        o.ca = t[i].ca, o.cert = t[i].cert, o.key = t[i].key, o.host = t[i].host, o.token = t[i].token, o.tls = t[i].tls;
        o.meta = DP_FEED_META_ALL;
        int rc = dp_feed_client_open(&c, &o, &err);
        bool good = rc == t[i].rc || (rc == DP_NOTFOUND && t[i].rc == DP_CORRUPT);
        if (!good || (rc < 0 && !err.msg[0])) DP_TEST_FAIL("case %zu: %d, not %d: %s", i, rc, t[i].rc, err.msg);
        if (rc < 0) continue;
        struct dp_feed *f = beside(&d, 0, 1, 1, 0);
        int k = 0;
        while (k < 300 && agree(c, f, &err)) k++;
        if (k < 300) DP_TEST_FAIL("case %zu, batch %d: %s", i, k, err.msg);
        dp_feed_client_close(c);
        dp_feed_close(f);
    }
    CHECK(all_gone(&h, 10000) && all_gone(&strict, 10000) && all_gone(&plain, 10000));
    here_close(&h);
    here_close(&strict);
    here_close(&plain);
    CHECK_INT(descriptors(), before);
    dp_log_init(DP_LOG_INFO, DP_LOG_AUTO);
    remove_certs();
    data_release(&d);
}

/* --- a bad line between client and server --- */

/* Forwards connections one after the other; the k-th for as many bytes, up and down, as it is told, then cuts it. */
struct line {
    int listener;
    char addr[64];
    const char *to;
    long up, down;  /* of the first connection; < 0: without end */
    uint64_t seed;  /* not 0: of every connection, at random up to down */
    atomic_int cuts, quit;
    pthread_t thread;
};
static bool move(int from, int to, long *left)
{
    char some[256];
    ssize_t n = recv(from, some, *left >= 0 && *left < (long)sizeof some ? (size_t)*left : sizeof some, 0);
    if (n <= 0 || send(to, some, (size_t)n, MSG_NOSIGNAL) != n) return false;
    if (*left >= 0) *left -= n;
    return *left != 0;
}
static void *run_line(void *arg)
{
    struct line *l = arg;
    for (int i = 0;; i++) {
        struct pollfd p[3] = {{l->listener, POLLIN, 0}};
        while (poll(p, 1, 2) == 0)
            if (atomic_load(&l->quit)) return NULL;
        int a = accept(l->listener, NULL, NULL), b = dial(l->to);
        long up = i && !l->seed ? -1 : l->up, down = i && !l->seed ? -1 : l->down;
        if (l->seed) down = 700 + (long)(dp_splitmix64(&l->seed) % (uint64_t)l->down);
        fcntl(b, F_SETFL, 0);
        bool on = up != 0 && down != 0;
        while (on && !atomic_load(&l->quit)) {
            p[0] = (struct pollfd){a, POLLIN, 0};
            p[1] = (struct pollfd){b, POLLIN, 0};
            if (poll(p, 2, 2) <= 0) continue;
            if (p[0].revents) on = move(a, b, &up);
            if (on && p[1].revents) on = move(b, a, &down);
        }
        struct linger hard = {1, 0};
        if (i % 2) setsockopt(a, SOL_SOCKET, SO_LINGER, &hard, sizeof hard); /* a reset */
        close(a);
        close(b);
        atomic_fetch_add(&l->cuts, 1);
    }
}
static void line_open(struct line *l, const char *to)
{
    bool loopback;
    struct sockaddr_in a;
    socklen_t n = sizeof a;
    l->to = to;
    l->listener = dp_tcp_listen("127.0.0.1:0", "test", &loopback, &err);
    if (l->listener < 0 || getsockname(l->listener, (struct sockaddr *)&a, &n) != 0) abort();
    snprintf(l->addr, sizeof l->addr, "127.0.0.1:%d", ntohs(a.sin_port));
    pthread_create(&l->thread, NULL, run_line, l);
}
static void line_close(struct line *l)
{
    atomic_store(&l->quit, 1);
    pthread_join(l->thread, NULL);
    close(l->listener);
}

/* Whatever the byte after which a connection breaks: opening fails and says so, or the batches come, each once. */
TEST(a_connection_cut_at_every_byte)
{
    enum { BATCHES = 5 };
    struct data d;
    struct here h;
    int opened = 0, failed = 0;
    REQUIRE_OK(data_make(&d, 300, 0, 1, 60, 100, 77, &err));
    REQUIRE_OK(here_open(&h, &d, (struct dp_feed_server_options){0}));
    dp_log_init(DP_LOG_ERROR, DP_LOG_TEXT);
    struct dp_feed *f = beside(&d, 0, 1, 0, 0);
    struct dp_feed_state start;
    dp_feed_state(f, &start);
    for (int way = 0; way < 2; way++)
        for (long at = 0; at < (way ? 1500 : 300); at += at < 40 || at % 97 > 90 ? 1 : 3) {
            struct line l = {.up = way ? -1 : at, .down = way ? at : -1};
            struct dp_feed_client *c;
            line_open(&l, h.addr);
            struct dp_feed_client_options o = want(l.addr, 0, 1, 0);
            o.reconnect_seconds = 20;
            o.slots = 2;
            int rc = dp_feed_client_open(&c, &o, &err), k = 0;
            opened += rc >= 0;
            failed += rc < 0;
            if (rc < 0 && rc != DP_NOTFOUND) DP_TEST_FAIL("cut at %ld (%d): %d: %s", at, way, rc, err.msg);
            dp_feed_resume(f, &start, &err);
            while (rc >= 0 && k < BATCHES && agree(c, f, &err)) k++;
            if (rc >= 0 && k < BATCHES) DP_TEST_FAIL("cut at %ld (%d): batch %d: %s", at, way, k, err.msg);
            dp_feed_client_close(c);
            line_close(&l);
        }
    CHECK(opened > 100 && failed > 100);
    CHECK(all_gone(&h, 10000));
    dp_feed_close(f);
    here_close(&h);
    dp_log_init(DP_LOG_INFO, DP_LOG_AUTO);
    data_release(&d);
}

TEST(a_line_that_breaks_again_and_again)
{
    struct data d;
    struct here h;
    REQUIRE_OK(data_make(&d, 50257, 0, 1, 60, 100, 78, &err));
    REQUIRE_OK(here_open(&h, &d, (struct dp_feed_server_options){0}));
    dp_log_init(DP_LOG_ERROR, DP_LOG_TEXT);
    struct line l = {.up = -1, .down = 6000, .seed = 4};
    struct dp_feed *f = beside(&d, 1, 2, 1, 0);
    struct dp_feed_client *c = NULL;
    struct dp_feed_client_info info = {0};
    line_open(&l, h.addr);
    struct dp_feed_client_options o = want(l.addr, 1, 2, 1);
    o.reconnect_seconds = 20;
    o.meta = DP_FEED_META_ALL;
    o.compress = 1;
    int rc = DP_NOTFOUND, k = 0;
    for (int i = 0; i < 100 && rc == DP_NOTFOUND; i++) rc = dp_feed_client_open(&c, &o, &err);
    CHECK_OK(rc);
    while (rc >= 0 && k < 600 && agree(c, f, &err)) k++;
    if (k < 600) DP_TEST_FAIL("batch %d: %s", k, err.msg);
    if (c) dp_feed_client_info(c, &info);
    CHECK(info.reconnects > 20);
    dp_feed_client_close(c);
    line_close(&l);
    CHECK(all_gone(&h, 10000));
    dp_feed_close(f);
    here_close(&h);
    dp_log_init(DP_LOG_INFO, DP_LOG_AUTO);
    data_release(&d);
}

/* --- silence --- */

TEST(who_gives_no_sign_of_life_is_let_go)
{
    struct data d;
    struct here h;
    struct dp_feed_conn c, full;
    struct dp_feed_frame f;
    struct dp_feed_client *idle, *lost;
    REQUIRE_OK(data_make(&d, 50257, 0, 1, 60, 400, 79, &err));
    REQUIRE_OK(here_open(&h, &d, (struct dp_feed_server_options){.dead_seconds = 0.6}));
    dp_log_init(DP_LOG_ERROR, DP_LOG_TEXT);
    struct dp_feed_client_options o = want(h.addr, 0, 1, 0);
    struct dp_feed *beside_it = beside(&d, 0, 1, 0, 0);
    o.dead_seconds = 0.6;
    REQUIRE_OK(dp_feed_client_open(&idle, &o, &err)); /* computes all the while: its thread answers */
    REQUIRE(agree(idle, beside_it, &err));
    REQUIRE_OK(ask(&c, h.addr, "wire=2\nseq_len=16", &f)); /* silent, as a machine without power */
    REQUIRE_OK(ask(&full, h.addr, "wire=2\nseq_len=512\nbatch=4096\n", &f)); /* grants credit, and doesn't read */
    REQUIRE_OK(dp_feed_conn_say(&full, DP_FEED_CREDIT, 1000, dp_span("", 0), &err));
    for (int i = 0; i < 40; i++) { /* but says that it lives */
        dp_feed_conn_say(&full, DP_FEED_PING, 0, dp_span("", 0), &err);
        dp_feed_conn_flush(&full, &err);
        nap(50000);
    }
    CHECK_INT(dp_feed_server_clients(h.s), 1);
    for (int k = 0; k < 50; k++) REQUIRE(agree(idle, beside_it, &err));
    struct dp_feed_client_info info;
    dp_feed_client_info(idle, &info);
    CHECK_INT(info.reconnects, 0);
    dp_feed_conn_close(&c);
    dp_feed_conn_close(&full);
    dp_feed_client_close(idle);
    /* A server that is there, and silent: one that accepts for nobody. */
    bool loopback;
    struct sockaddr_in a;
    socklen_t n = sizeof a;
    int listener = dp_tcp_listen("127.0.0.1:0", "test", &loopback, &err);
    REQUIRE(listener >= 0 && getsockname(listener, (struct sockaddr *)&a, &n) == 0);
    atomic_bool stop = true;
    char addr[64];
    snprintf(addr, sizeof addr, "127.0.0.1:%d", ntohs(a.sin_port));
    o.addr = addr;
    o.stop = &stop;
    CHECK_INT(dp_feed_client_open(&lost, &o, &err), DP_STOPPED);
    close(listener);
    CHECK(all_gone(&h, 10000));
    dp_feed_close(beside_it);
    here_close(&h);
    dp_log_init(DP_LOG_INFO, DP_LOG_AUTO);
    data_release(&d);
}

/* A server that is away for longer than the client looks for it: the call fails, and another one looks again. */
TEST(another_call_looks_again)
{
    struct data d;
    struct here h;
    struct dp_feed_client *c;
    struct dp_feed_batch b;
    REQUIRE_OK(data_make(&d, 300, 0, 1, 60, 100, 81, &err));
    for (int ring = 0; ring < 2; ring++) {
        char path[600], addr[64];
        snprintf(path, sizeof path, "%s/s", d.dir);
        REQUIRE_OK(here_open(&h, &d, (struct dp_feed_server_options){.addr = ring ? path : NULL}));
        dp_log_init(DP_LOG_ERROR, DP_LOG_TEXT);
        struct dp_feed_client_options o = want(ring ? path : h.addr, 0, 1, 0);
        struct dp_feed *f = beside(&d, 0, 1, 0, 0);
        o.reconnect_seconds = 0.2;
        o.slots = 2;
        REQUIRE_OK(dp_feed_client_open(&c, &o, &err));
        snprintf(addr, sizeof addr, "%s", h.addr);
        REQUIRE(agree(c, f, &err));
        here_close(&h);
        int rc = DP_OK, k = 0;
        for (; k < 5 && rc >= 0; k++) {
            dp_feed_next(f, (int32_t[IDS]){0}, &err);
            rc = dp_feed_client_next(c, &b, &err);
        }
        CHECK(rc == DP_NOTFOUND && k <= 3); /* what lay finished, and then */
        CHECK_INT(dp_feed_client_next(c, &b, &err), DP_NOTFOUND);
        REQUIRE_OK(here_open(&h, &d, (struct dp_feed_server_options){.addr = ring ? path : addr}));
        struct dp_feed_state s;
        dp_feed_client_state(c, &s);
        REQUIRE_OK(dp_feed_resume(f, &s, &err));
        for (k = 0; k < 10; k++) REQUIRE(agree(c, f, &err));
        dp_feed_client_close(c);
        CHECK(all_gone(&h, 10000));
        dp_feed_close(f);
        here_close(&h);
        dp_log_init(DP_LOG_INFO, DP_LOG_AUTO);
    }
    data_release(&d);
}

/* Connections that say nothing don't keep out who has something to say. */
TEST(silent_connections_push_each_other_out)
{
    enum { SILENT = 60 };
    struct data d;
    struct here h;
    int fd[SILENT];
    struct dp_feed_client *c[3];
    REQUIRE_OK(data_make(&d, 300, 0, 1, 60, 100, 80, &err));
    REQUIRE_OK(here_open(&h, &d, (struct dp_feed_server_options){.clients_max = 2}));
    dp_log_init(DP_LOG_ERROR, DP_LOG_TEXT);
    struct dp_feed_client_options o = want(h.addr, 0, 1, 0);
    struct dp_feed *f = beside(&d, 0, 1, 0, 0);
    for (int i = 0; i < SILENT; i++) fd[i] = dial(h.addr);
    double t = dp_now();
    for (int i = 0; i < 2; i++) REQUIRE_OK(dp_feed_client_open(&c[i], &o, &err));
    CHECK_INT(dp_feed_client_open(&c[2], &o, &err), DP_BUSY);
    for (int k = 0; k < 20; k++) REQUIRE(agree(c[0], f, &err));
    CHECK(dp_now() - t < 5);
    for (int i = 0; i < SILENT; i++) close(fd[i]);
    for (int i = 0; i < 2; i++) dp_feed_client_close(c[i]);
    CHECK(all_gone(&h, 10000));
    dp_feed_close(f);
    here_close(&h);
    dp_log_init(DP_LOG_INFO, DP_LOG_AUTO);
    data_release(&d);
}

/* A shard that fails under a client: every batch before the bad one, then what and where, once. */
TEST(a_bad_frame_is_told_behind_the_good_batches)
{
    struct data d;
    struct here h;
    struct dp_feed_client *c;
    struct dp_feed_batch b;
    REQUIRE_OK(data_make(&d, 200019, 0, 1, 400, 400, 95, &err));
    data_flip(d.dir, "part-000.bin", (65536ull + 600) * 32 + 31);
    REQUIRE_OK(here_open(&h, &d, (struct dp_feed_server_options){0}));
    dp_log_init(DP_LOG_ERROR, DP_LOG_TEXT);
    struct dp_feed_client_options co = {.addr = h.addr, .wants = "seq_len=500\nbatch=1\nval_fraction=0\nshuffle=false\n", .reconnect_seconds = 5};
    REQUIRE_OK(dp_feed_client_open(&c, &co, &err));
    int rc = DP_OK, n = 0;
    while (rc >= 0 && n < 1000) rc = dp_feed_client_next(c, &b, &err), n += rc >= 0;
    CHECK(rc == DP_CORRUPT && n > 100 && strstr(err.msg, "part-000.bin: frame 1"));
    CHECK_INT(b.next, n);
    dp_feed_client_close(c);
    CHECK(all_gone(&h, 10000));
    here_close(&h);
    dp_log_init(DP_LOG_INFO, DP_LOG_AUTO);
    data_release(&d);
}
