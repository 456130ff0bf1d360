#!/usr/bin/env python3
"""bench/pipeline.sh's road as datatrove's users build it, in one process; CPU seconds of each pass as JSON lines.

usage: pipeline_datatrove.py PAGES.warc.gz OUT_FOLDER TOKENIZER_JSON     (datatrove, trafilatura, spacy: tools/venv.sh installs them)

Passes: WARC > Trafilatura > Gopher repetition > Gopher quality > C4 > FineWeb > JSONL; MinHash 14 x 8 over 5-grams in datatrove's four
passes; tokenizing with Hugging Face's tokenizers into a flat file. What a filter drops is written aside and gone, as in dpipe. `blocks`
is datatrove's own clock (wall seconds) inside a pass.

Where the two roads differ: dpipe labels the language, brings text into NFC, takes out exact
duplicates, compares near duplicates by their signatures instead of joining all that share a band, and writes a document index,
checksums and where each document came from. datatrove's Gopher filters take every text for English and so drop translated pages, which
dpipe keeps, deduplicates and tokenizes. datatrove's MinHash splits words with spaCy, dpipe's with its own rules. Main
text is Trafilatura's on the one side, clean/main_text.c's on the other."""
import glob, gzip, json, os, resource, shutil, sys, time

from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.readers import JsonlReader, WarcReader
from datatrove.pipeline.writers import JsonlWriter
import numpy as np
from tokenizers import Tokenizer


def cpu():
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(r.ru_utime + r.ru_stime for r in both)


class Pass:
    """Times what stands in a `with`, and prints it; a failed pass prints nothing."""

    def __init__(self, name):
        self.line = {'stage': name}

    def __enter__(self):
        self.cpu, self.wall = cpu(), time.time()
        return self.line

    def __exit__(self, kind, value, trace):
        self.line.update(cpu_s=round(cpu() - self.cpu, 2), wall_s=round(time.time() - self.wall, 2))
        if kind is None:
            print(json.dumps(self.line), flush=True)


def run(name, out, steps, tasks=1):
    with Pass(name) as line:
        stats = LocalPipelineExecutor(steps, tasks=tasks, workers=1, logging_dir=f'{out}/log/{name}').run()
        if tasks == 1:
            line['blocks'] = {s.name.encode('ascii', 'ignore').decode().strip(' -'): round(s.time_stats.total, 2) for s in stats.stats}
            counts = [s.stats['forwarded'].total for s in stats.stats if 'forwarded' in s.stats]
            line.update({'documents': counts[-1]} if counts else {})


def tokenize(out, file):
    tokenizer = Tokenizer.from_file(file)
    with Pass('tokenize') as line, open(f'{out}/tokens.bin', 'wb') as o:
        line['tokens'] = 0
        for name in sorted(glob.glob(f'{out}/kept/*.jsonl.gz')):
            with gzip.open(name) as f:
                for row in f:
                    ids = np.array(tokenizer.encode(json.loads(row)['text'], add_special_tokens=False).ids, dtype=np.uint16 if
                                   tokenizer.get_vocab_size() <= 65536 else np.uint32)
                    o.write(ids.tobytes())
                    line['tokens'] += len(ids)


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    pages, out, tokenizer = map(os.path.abspath, sys.argv[1:])
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    filters = (GopherRepetitionFilter, GopherQualityFilter, C4QualityFilter, FineWebQualityFilter)
    run('extract+filter', out,
        [WarcReader(os.path.dirname(pages), glob_pattern=os.path.basename(pages)), Trafilatura(favour_precision=True, timeout=10)]
        + [f(exclusion_writer=JsonlWriter(f'{out}/dropped/{f.__name__}')) for f in filters] + [JsonlWriter(f'{out}/docs')])
    c = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
    run('minhash-signature', out, [JsonlReader(f'{out}/docs'), MinhashDedupSignature(f'{out}/sig', config=c, language='eng')])
    run('minhash-buckets', out, [MinhashDedupBuckets(f'{out}/sig', f'{out}/buckets', config=c)], tasks=14)
    run('minhash-cluster', out, [MinhashDedupCluster(f'{out}/buckets', f'{out}/remove', config=c)])
    run('minhash-filter', out, [JsonlReader(f'{out}/docs'), MinhashDedupFilter(f'{out}/remove'), JsonlWriter(f'{out}/kept')])
    tokenize(out, tokenizer)
    with Pass('whole') as line:
        line.update(peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)


main()
