/* clean/class_words.h - what the makers of a page call its parts, as class and id say it. */
#ifndef DP_CLEAN_CLASS_WORDS_H
#define DP_CLEAN_CLASS_WORDS_H

#include "base/span.h"

enum dp_class_word {
    DP_CLASS_FURNITURE = 1, /* "sidebar", "nav-", "cookie" ... */
    DP_CLASS_CONTENT = 2,   /* "content", "post" ... */
    DP_CLASS_ARTICLE = 4,   /* "entry-content", "article-body" ... */
    DP_CLASS_LEAD = 8,      /* "intro", "teaser", "excerpt" ...: the paragraph between headline and text */
};
/* The kinds of words that stand anywhere in a class or id, whatever their case. Linear; thread-safe. */
unsigned dp_class_words(struct dp_span name);

#endif
