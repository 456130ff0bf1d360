/* ingest/record.h - one record between its reader and the batch. Spans live until the reader's next call. */
#ifndef DP_INGEST_RECORD_H
#define DP_INGEST_RECORD_H

#include "base/batch.h"

struct dp_record {
    struct dp_span text, url, mime, charset;
    struct dp_span meta; /* JSON members without braces */
    enum dp_format format;
    enum dp_drop drop;
    double value, limit;
    uint64_t bytes_in;
    char at[48];         /* "@1234", "@1234+56", or "" */
};

#endif
