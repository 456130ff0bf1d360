#!/usr/bin/env python3
"""Document files read by others: python-zstandard, fsspec, datatrove's JsonlReader. usage: make parity"""
import io, json, os
from lib import check, dpipe, finish, folder, need, same, store, workspace


def main():
    with folder() as w:
        workspace(w, 'clean:\n  c4: {enabled: false}\n  gopher_repetition: {enabled: false}\n  gopher_quality: {words_min: 0}\n', documents=1500)
        dpipe('run', '-q', '-w', w, '--until', 'clean')
        path, = store(w, 'docs-')
        own = [json.loads(l) for l in dpipe('inspect', '-w', w, '--kept', '--json', '-n', 0).splitlines()]
        check(len(own) == 1500, f'{len(own)} documents kept')
        def shown(rows):  # what `dpipe inspect` prints of a document
            return [{k: r.get(k) for k in o} for r, o in zip(rows, own)] + rows[len(own):]
        if z := need('zstandard'):
            with open(path, 'rb') as f: packed = f.read()
            check(packed.count(b'\x28\xb5\x2f\xfd') > 2, 'the file has several frames')
            with z.open(path, 'rt', encoding='utf-8') as f: full = [json.loads(l) for l in f]
            same(shown(full), own, 'zstandard.open')
            with open(path, 'rb') as f: rows = [json.loads(l) for l in io.TextIOWrapper(z.ZstdDecompressor().stream_reader(f), 'utf-8')]
            same(rows, full, 'zstandard stream_reader')
            drops, = store(w, 'drops-')
            with z.open(drops, 'rt', encoding='utf-8') as f: same([json.loads(l) for l in f], [], 'an empty drop log')
        if fs := need('fsspec'):
            with fs.open(path, 'rt', compression='infer', encoding='utf-8') as f: same(shown([json.loads(l) for l in f]), own, 'fsspec')
        if readers := need('datatrove.pipeline.readers'):
            got = list(readers.JsonlReader(os.path.dirname(path), glob_pattern=os.path.basename(path)).run())
            same([d.text for d in got], [d['text'] for d in own], 'datatrove: texts')
            same([d.id for d in got], [d['id'] for d in own], 'datatrove: ids')
            same([{k: d.metadata.get(k) for k in o if k not in ('id', 'text')} for d, o in zip(got, own)],
                 [{k: v for k, v in o.items() if k not in ('id', 'text')} for o in own], 'datatrove: metadata')


main()
finish()
