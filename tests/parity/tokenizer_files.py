#!/usr/bin/env python3
"""What `dpipe train-bpe` writes, loaded by Hugging Face's tokenizers and transformers and by tiktoken: the same ids, the same text back.
The merges are those of Hugging Face's trainer and of rustbpe on the same texts. usage: make parity"""
import base64, json, os, random
from lib import check, dpipe, finish, folder, jsonl, need, same

SPECIALS = ['<|endoftext|>', '<|user|>']


def ids(tokenizer, texts, special='none'):
    rows = dpipe('tokenize', '--tokenizer', tokenizer, '--jsonl', '--special', special, stdin=jsonl({'text': t} for t in texts))
    return [json.loads(r)['ids'] for r in rows.splitlines()]


def each(got, want, texts, what):
    bad = next((i for i in range(len(texts)) if got[i] != want[i]), None)
    check(bad is None and len(got) == len(texts), what + (f': {texts[bad]!r}: dpipe {got[bad]}, reference {want[bad]}' if bad is not None else ''))


def against_hf(d, split, texts):
    file = f'{d}/tokenizer.json'
    t = tokenizers.Tokenizer.from_file(file)
    plain = ids(file, texts)
    t.encode_special_tokens = True
    each(plain, [t.encode(x, add_special_tokens=False).ids for x in texts], texts, f'{split}: ids by tokenizers')
    t.encode_special_tokens = False
    each(ids(file, texts, 'all'), [t.encode(x, add_special_tokens=False).ids for x in texts], texts, f'{split}: ids with special tokens by tokenizers')
    back = [json.loads(r)['text'] for r in dpipe('detokenize', '--tokenizer', file, '--jsonl', stdin=jsonl({'ids': i} for i in plain)).splitlines()]
    each(back, texts, texts, f'{split}: detokenize gives the text back')
    each([t.decode(i, skip_special_tokens=False) for i in plain], texts, texts, f'{split}: tokenizers gives the text back')
    if transformers:
        fast = transformers.PreTrainedTokenizerFast(tokenizer_file=file)
        each(ids(file, texts[:500], 'all'), [fast.encode(x, add_special_tokens=False) for x in texts[:500]], texts[:500], f'{split}: ids by transformers')


def against_tiktoken(d, split, texts):
    if not isinstance(tp.PAT[split], str): return  # tiktoken has no sequences of patterns
    file = f'{d}/tokenizer.tiktoken'
    enc = tiktoken.Encoding(split, pat_str=tp.WHOLE[split], mergeable_ranks=tiktoken.load.load_tiktoken_bpe(file), special_tokens={})
    got = ids(f'{d}/tokenizer.json', texts)
    each(got, [enc.encode_ordinary(x) for x in texts], texts, f'{split}: ids by tiktoken')
    rows = dpipe('tokenize', '--tokenizer', file, '--split', split, '--jsonl', stdin=jsonl({'text': t} for t in texts)).splitlines()
    each([json.loads(r)['ids'] for r in rows], got, texts, f'{split}: .tiktoken and tokenizer.json agree')


def against_trainers(d, split, corpus):
    h = tp.hf_train(corpus, 1200, split, SPECIALS)
    with open(f'{d}/tokenizer.json') as f: model = json.load(f)['model']
    want = json.loads(h.to_str())['model']
    pair = lambda m: tuple(m) if isinstance(m, list) else tuple(m.split(' '))
    same([pair(m) for m in model['merges']], [pair(m) for m in want['merges']], f'{split}: merges of BpeTrainer')
    check(model['vocab'] == want['vocab'], f'{split}: vocabulary of BpeTrainer')


def lossy(file, r):
    """--utf8 replace: the ids of Python's decode(errors='replace')."""
    atoms = [b'a', b' the', 'é'.encode(), '中'.encode(), '😀'.encode(), b'\x80', b'\xff', b'\xc3', b'\xe2\x82', b'\xf0\x9f\x98', b'\xed\xa0\x80', b'\xc0\xaf', b'\xf4\x90', b'\xe0\x9f', b'\n']
    raw = [b''.join(r.choice(atoms) for _ in range(r.randrange(1, 30))) if r.random() < .7 else r.randbytes(r.randrange(1, 60)) for _ in range(3000)]
    rows = dpipe('tokenize', '--tokenizer', file, '--jsonl', '--utf8', 'replace', '--b64-field', 'b', stdin=jsonl({'b': base64.b64encode(x).decode()} for x in raw))
    texts = [x.decode('utf-8', errors='replace') for x in raw]
    each([json.loads(x)['ids'] for x in rows.splitlines()], ids(file, texts), texts, 'bytes replaced as Python replaces them')
    t = tokenizers.Tokenizer.from_file(file)
    each([json.loads(x)['ids'] for x in rows.splitlines()], [t.encode(x, add_special_tokens=False).ids for x in texts], texts, 'bytes replaced: ids by tokenizers')


def main():
    r = random.Random(77)
    texts = [t for t in (tp.random_text(r) for _ in range(3000)) if t]
    texts += ['x<|endoftext|>y', '<|user|><|endoftext|>', '<|endoftext|', 'a <|user|> b\n<|user|>', 'a' * 5000, ' ' * 3000, '9' * 400, '\n' * 600 + ' ' * 600]
    corpus = tp.docs(f'{tp.DATA}/corpus.txt')
    with folder() as w:
        with open(f'{w}/c.jsonl', 'wb') as f: f.write(jsonl({'text': x} for x in corpus))
        for split in tp.SPLITS:
            d = f'{w}/{split}'
            dpipe('train-bpe', '-q', '--vocab-size', 1200, '--split', split, '--special-tokens', ','.join(SPECIALS), '--jsonl', '-o', d, f'{w}/c.jsonl')
            check(os.path.getsize(f'{d}/vocab.json') > 0 and os.path.getsize(f'{d}/merges.txt') > 0, f'{split}: vocab.json and merges.txt')
            by_files = tokenizers.models.BPE.from_file(f'{d}/vocab.json', f'{d}/merges.txt')
            check(by_files is not None, f'{split}: vocab.json and merges.txt load')
            against_trainers(d, split, corpus)
            against_hf(d, split, texts)
            against_tiktoken(d, split, texts)
        lossy(f'{w}/cl100k/tokenizer.json', r)


if need('tokenizers', 'tiktoken', 'tiktoken.load', 'rustbpe'):
    import tiktoken, tiktoken.load, tokenizers
    import tokenizer_parity as tp
    transformers = need('transformers')
    main()
finish()
