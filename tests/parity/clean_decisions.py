#!/usr/bin/env python3
"""datatrove's own filters against dpipe's rule stages: decisions, reasons, C4's text, words, by tests/parity/clean_parity.c. usage: make parity
Texts: those of tests/data/clean/rules.jsonl and 500 made from their lines (seeded); their frozen decisions are checked against datatrove too.
CLEAN_TEXTS=FILE.jsonl adds documents with a member `text`."""
import contextlib, hashlib, json, os, random, re, subprocess, zlib
from lib import BUILD, ROOT, check, counts, finish, folder, need


def documents():
    with open(f'{ROOT}/tests/data/clean/rules.jsonl') as f: frozen = [json.loads(l) for l in f]
    rows = [(d['id'], d['text'], d) for d in frozen]
    lines, r = [l for d in frozen for l in d['text'].split('\n') if l.strip()], random.Random(9)
    for i in range(500):  # from a line or two, much repeated, to pages of sentences
        pick = r.sample(lines, r.choice([1, 2, 5, 10, 20, 40, 60]))
        text = r.choice(['\n', '\n', '\n\n', ' ']).join(r.choice(pick) if r.random() < .2 else l for l in pick * r.choice([1, 1, 1, 2]))
        rows.append((f'made-{i}', text[:20000], None))
    if os.environ.get('CLEAN_TEXTS'):
        with open(os.environ['CLEAN_TEXTS']) as f: rows += [(f'more-{i}', json.loads(l)['text'], None) for i, l in enumerate(f)]
    return rows


def decide(filters, text):
    out, c4_text = {}, None
    for key, f in filters.items():
        doc = Document(text=text, id='x', metadata={})
        r = f.filter(doc)
        keep, why = (r, None) if not isinstance(r, tuple) else r
        out[key] = ['keep' if keep else 'drop', why]
        if key == 'c4' and keep: c4_text = doc.text
    return out, c4_text


def main():
    filters = {'gopher_rep': f.GopherRepetitionFilter(), 'gopher_qual': f.GopherQualityFilter(), 'c4': f.C4QualityFilter(), 'fineweb': f.FineWebQualityFilter()}
    rows, differ = [], []
    for id_, text, frozen in documents():
        got, c4_text = decide(filters, text)
        if frozen: differ += [(id_, k, v, got[k]) for k, v in frozen['decisions'].items() if v != got[k]]
        words = split_into_words(text, 'eng')
        rows.append({'id': id_, 'text': text, 'decisions': got, 'c4_text_sha16': c4_text is not None and hashlib.sha256(c4_text.encode()).hexdigest()[:16],
                     'm': {'words': len(words), 'words_crc32': zlib.crc32('\x1f'.join(words).encode())}})
    check(not differ, f'tests/data/clean/rules.jsonl has other decisions than datatrove: {differ[:3]}')
    with folder() as d:
        path = f'{d}/decisions.jsonl.zst'
        with zstandard.open(path, 'wt', encoding='utf-8') as o: o.writelines(json.dumps(r, ensure_ascii=False) + '\n' for r in rows)
        r = subprocess.run([f'{BUILD}/tests/parity/clean_parity'], capture_output=True, text=True, env={**os.environ, 'DP_CLEAN_DECISIONS': path})
    print(r.stdout[-4000:], r.stderr[-2000:])
    m = re.search(r'^(\d+) passed, (\d+) failed', r.stdout, re.M)
    counts['passed'] += int(m[1]) if m else 0
    counts['failed'] += int(m[2]) if m else 1
    check(r.returncode == 0, 'clean_parity')


if need('datatrove.pipeline.filters', 'spacy', 'zstandard', 'orjson'):
    import datatrove.pipeline.filters as f, zstandard
    from datatrove.data import Document
    from datatrove.utils.text import split_into_words
    main()
finish()
