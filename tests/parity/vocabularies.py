#!/usr/bin/env python3
"""What `train-bpe --super-from`, `--seed-tokens`, `tokenizer nest|prune` and `train-bpe --extend` write, loaded by Hugging Face's tokenizers: the same ids; seeds are one
token; a pruned vocabulary gives the mapped ids to texts without pruned tokens. usage: make parity; vocabularies.py FILE for another corpus than
tests/data/tokenizer/corpus.txt"""
import json, random, sys
from lib import check, dpipe, finish, folder, jsonl, need


def ids(tokenizer, texts):
    rows = dpipe('tokenize', '--tokenizer', tokenizer, '--jsonl', '--special', 'none', stdin=jsonl({'text': t} for t in texts))
    return [json.loads(r)['ids'] for r in rows.splitlines()]


def as_hf(file, texts, what):
    t = tokenizers.Tokenizer.from_file(file)
    t.encode_special_tokens = True
    got, want = ids(file, texts), [e.ids for e in t.encode_batch(texts, add_special_tokens=False)]
    bad = next((i for i in range(len(texts)) if got[i] != want[i]), None)
    check(bad is None, f'{what}: ids by tokenizers' + (f': {texts[bad][:80]!r}' if bad is not None else ''))
    return got


def pruned(w, file, corpus, texts, what, *how):
    dpipe('tokenizer', 'prune', '-q', file, *how, '-o', f'{w}/pruned')
    new = f'{w}/pruned/tokenizer.json'
    with open(f'{w}/pruned/id_map.json') as f: m = json.load(f)
    with open(f'{w}/pruned/id_map.bin', 'rb') as f: raw = f.read()
    check([int.from_bytes(raw[i:i + 4], 'little', signed=True) for i in range(0, len(raw), 4)] == m['map'], f'{what}: id_map.bin is id_map.json')
    kept = [i for i in m['map'] if i >= 0]
    check(kept == list(range(m['new'])) and len(m['map']) == m['old'], f'{what}: new ids are 0 1 2 ...')
    old, got = ids(file, texts), as_hf(new, texts, what)
    whole = [i for i in range(len(texts)) if all(m['map'][x] >= 0 for x in old[i])]
    check(0 < len(whole) < len(texts), f'{what}: {len(whole)} of {len(texts)} texts have no pruned token')
    check(all([m['map'][x] for x in old[i]] == got[i] for i in whole), f'{what}: their ids are the mapped ones')
    return m['new']


def main():
    r = random.Random(78)
    path = sys.argv[1] if len(sys.argv) > 1 else f'{tp.DATA}/corpus.txt'
    with open(path, encoding='utf-8', errors='replace', newline='') as f: corpus = f.read(4_000_000)
    large = len(corpus) > 1_000_000
    size, start = (16000, 12000) if large else (1100, 700)
    texts = [t for t in (tp.random_text(r) for _ in range(1500)) if t] + [corpus[i:i + k] for i in range(0, len(corpus), len(corpus) // 400) for k in (40, 3000)]
    texts += ['a' * 5000, ' ' * 3000, '9' * 400, '\n' * 600 + ' ' * 600, ', and of the' * 800]
    seeds = [' photosynthesis', 'Donaudampfschifffahrt', '✓✓', 'é', ' of the', ', and the']
    with folder() as w:
        with open(f'{w}/c.txt', 'w', encoding='utf-8', newline='') as f: f.write(corpus)
        with open(f'{w}/seeds', 'w', encoding='utf-8') as f: f.write(''.join(json.dumps(s) + '\n' for s in seeds) + 'base64://///v8=\n')
        train = lambda out, n, *more: dpipe('train-bpe', '-q', '--vocab-size', n, '-o', f'{w}/{out}', *more, f'{w}/c.txt')
        for tie in 'hf', 'bytes':
            for split in 'gpt2', 'o200k':
                what = f'{split}, {tie}'
                train('super', size, '--split', split, '--tie', tie, '--super-from', start, '--seed-tokens', f'{w}/seeds')
                file = f'{w}/super/tokenizer.json'
                as_hf(file, texts, f'{what}: SuperBPE with seeds')
                check([len(x) for x in ids(file, seeds)] == [1] * len(seeds), f'{what}: seeds are one token')
                train('plain', size, '--split', split, '--tie', tie)
                train('small', start, '--split', split, '--tie', tie)
                dpipe('tokenizer', 'nest', '-q', f'{w}/plain/tokenizer.json', '--vocab-size', start, '-o', f'{w}/nested.json')
                with open(f'{w}/nested.json', 'rb') as f, open(f'{w}/small/tokenizer.json', 'rb') as g: check(f.read() == g.read(), f'{what}: nested is trained')
                for how in ([], ['--super']):
                    dpipe('train-bpe', '-q', '--extend', f'{w}/small/tokenizer.json', '--vocab-size', size, *how, '-o', f'{w}/more', f'{w}/c.txt')
                    as_hf(f'{w}/more/tokenizer.json', texts, f'{what}: extended {how}')
                n = sum(map(len, as_hf(f'{w}/plain/tokenizer.json', texts, what)))
                k = sum(map(len, ids(file, texts)))
                print(f'{what}: {n} ids, {k} with --super-from {start}')
                for kind in 'plain', 'super':
                    new = pruned(w, f'{w}/{kind}/tokenizer.json', corpus, texts, f'{what}: pruned {kind}', f'{w}/c.txt', '--vocab-size', start)
                    check(new == start, f'{what}: {new} tokens')
                with open(f'{w}/keep', 'w') as f: f.write(' '.join(map(str, r.sample(range(257, size), start // 2))))
                pruned(w, f'{w}/plain/tokenizer.json', corpus, texts, f'{what}: kept', '--keep', f'{w}/keep')


if need('tokenizers', 'tiktoken', 'rustbpe'):
    import tokenizers
    import tokenizer_parity as tp
    main()
finish()
