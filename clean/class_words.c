/* clean/class_words.c - one automaton for all words (Aho and Corasick 1975): every element's class and id is looked at, and a hundred searches of each
 * were a fifth of the extraction. Built at first use; ~1,000 states of 29 symbols. */
#include "clean/class_words.h"

#include "base/err.h"

#include <pthread.h>
#include <stdint.h>

static const char *const furniture[] = {"comment", "sidebar", "side-bar", "footer", "masthead", "breadcrumb", "social", "share", "sharing",
    "related", "recommend", "navbar", "navigation", "menu", "cookie", "newsletter", "subscribe", "advert", "promo", "sponsor", "widget",
    "popup", "modal", "pagination", "pager", "disqus", "respond", "rss", "tags", "byline", "toolbar", "tooltip", "login", "banner",
    "skip-link", "copyright", "author-box", "authorbox", "nav-", "topnav", "subnav", "nextprev", "next-post", "prev-post",
    "jp-relatedposts", "outbrain", "taboola", "most-read", "mostread", "popular", "trending", "print-only", "caption", "credit",
    "download", "feedback", "contact", "date", "meta", "author", "more-", "readmore", "read-more", "see-also", "infobox", "donat", "abo-",
    "paywall", "anzeige", "category", "cat-links", "hinweis", "gallery", "signup", "sign-up", "editsection", NULL};
static const char *const content[] = {"article", "content", "main", "story", "entry", "text", "body", "blog", "post", NULL};
static const char *const article[] = {"entry-content", "post-content", "article-body", "articlebody", "article-content", "articlecontent",
    "post-body", "post_body", "story-body", "storybody", "article__body", "article__content", "post__content", "td-post-content", "content-body",
    "article-text", "articletext", "article_body", "article_text", "entry-text", "blog-content", "post-text", "single-content", "story-content",
    "article_content", "page-content", "news-content", "newstext", NULL};
static const char *const lead[] = {"intro", "lead", "teaser", "chapo", "excerpt", "abstract", "subtitle", "sub-title", "headline", "standfirst", "summary", "perex",
    "epigraph", "short-info", "vorspann", "deck", "lede", "entradilla", "bajada", "subhead", NULL};

enum { STATES_MAX = 1200, SYMBOLS = 29 };
static uint16_t next[STATES_MAX][SYMBOLS];
static uint8_t found[STATES_MAX], symbol[256];
static unsigned states = 1;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void add_words(const char *const *list, enum dp_class_word kind)
{
    for (; *list; list++) {
        unsigned s = 0;
        for (const char *p = *list; *p; p++) {
            uint16_t *to = &next[s][symbol[(unsigned char)*p]];
            DP_ASSERT(symbol[(unsigned char)*p] && states < STATES_MAX);
            if (!*to) *to = (uint16_t)states++;
            s = *to;
        }
        found[s] |= (uint8_t)kind;
    }
}

static void build(void)
{
    static uint16_t fail[STATES_MAX], queue[STATES_MAX];
    unsigned head = 0, tail = 0;
    for (int c = 0; c < 26; c++) symbol['a' + c] = symbol['A' + c] = (uint8_t)(1 + c);
    symbol['-'] = 27;
    symbol['_'] = 28;
    add_words(furniture, DP_CLASS_FURNITURE);
    add_words(content, DP_CLASS_CONTENT);
    add_words(article, DP_CLASS_ARTICLE);
    add_words(lead, DP_CLASS_LEAD);
    for (unsigned c = 0; c < SYMBOLS; c++)
        if (next[0][c]) queue[tail++] = next[0][c];
    while (head < tail) {
        unsigned s = queue[head++];
        found[s] |= found[fail[s]];
        for (unsigned c = 0; c < SYMBOLS; c++) {
            unsigned to = next[s][c], back = next[fail[s]][c];
            if (to) {
                fail[to] = (uint16_t)back;
                queue[tail++] = (uint16_t)to;
            } else next[s][c] = (uint16_t)back;
        }
    }
}

unsigned dp_class_words(struct dp_span name)
{
    pthread_once(&once, build);
    unsigned kinds = 0, s = 0;
    for (size_t i = 0; i < name.len; i++) {
        s = next[s][symbol[(unsigned char)name.ptr[i]]];
        kinds |= found[s];
    }
    return kinds;
}
