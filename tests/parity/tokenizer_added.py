#!/usr/bin/env python3
"""Added tokens with every mix of lstrip, rstrip, single_word, normalized and special, under a normalizer or none: ids equal to those of Hugging
Face's tokenizers on random texts, with special tokens found, with only the others found. usage: make parity
With `freeze`, writes tests/data/tokenizer/added.jsonl instead: what test_tokenizer_files puts into hf.json, and its ids."""
import json, os, random, sys, unicodedata
from lib import check, dpipe, finish, folder, jsonl, need

WORDS = ['ab', 'ab cd', 'x', '<|a|>', '<|a', '|>', ' ', '\n', '  ', 'é', 'e\u0301', '\u1100\u1161', '가', '中', 'foo', 'foo_', '_', '<sp> ', ' lead', '\u00a0', '😀', '1', '²', 'q\u0323\u0307', 'ſ', '<|a|><|b|>', '\u0301', 'the', 'ing', 't']
PIECES = WORDS + [' ', ' ', '\n', '\t', '\u3000', '\u2009', 'a', 'b', 'word', 'xyz', '-', '.', '\u0323', '\u0307', '\u200d', '½', '\u0345', 'Ω', '\u2126', '\uac00\u11a8', '\u11938', '\U00011935\U00011930', '\u08ca\u0301', '_', '\x1c', '\x85', '\r\n']


def text(r):
    return ''.join(r.choice(PIECES) for _ in range(r.randrange(1, 14)))


def tokenizer(r, model, normalizer):
    """The JSON of a tokenizer with random added tokens; half of what is a word of the vocabulary already stays that."""
    t = tokenizers.Tokenizer.from_str(model)
    t.normalizer = normalizer
    # Of words that are normalised to the same, the reference takes either, by the order of a hash table.
    for w in {unicodedata.normalize('NFC', w): w for w in r.sample(WORDS, r.randrange(1, 9))}.values():
        flags = {k: r.random() < .4 for k in ('lstrip', 'rstrip', 'single_word', 'normalized')}
        a = tokenizers.AddedToken(w, **flags)
        t.add_special_tokens([a]) if r.random() < .5 else t.add_tokens([a])
    return t


def compare(file, t, texts, what):
    for policy, plain in (('all', False), ('added', True)):
        t.encode_special_tokens = plain
        rows = dpipe('tokenize', '--tokenizer', file, '--jsonl', '--special', policy, stdin=jsonl({'text': x} for x in texts)).splitlines()
        for x, row in zip(texts, rows):
            try: got, want = json.loads(row)['ids'], t.encode(x, add_special_tokens=False).ids
            except BaseException as e:  # it panics where a token's white space takes more than another's text
                if 'bad split' not in str(e): raise
                continue
            if got != want: return check(False, f'{what}, {policy}: {x!r}: dpipe {got}, reference {want}')
    check(True, what)


def ids(t, x, plain):
    t.encode_special_tokens = plain
    return t.encode(x, add_special_tokens=False).ids


def freeze():
    r = random.Random(5)
    with open(f'{tp.DATA}/hf.json') as f: base = f.read()
    with open(f'{tp.DATA}/added.jsonl', 'w') as out:
        while out.tell() < 40000:
            t = tokenizer(r, base, r.choice([None, tokenizers.normalizers.NFC()]))
            texts = [text(r) for _ in range(16)]
            try: rows = [[x, ids(t, x, False), ids(t, x, True)] for x in texts]
            except BaseException: continue
            j = json.loads(t.to_str())
            head = json.dumps({k: j[k] for k in ('added_tokens', 'normalizer')}, ensure_ascii=False)
            out.write(json.dumps({'head': head, 'texts': rows}, ensure_ascii=False, separators=(',', ':')) + '\n')


def main():
    sys.stderr = os.fdopen(os.dup(2), 'w'); os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # Rust tells of its panics there
    r = random.Random(11)
    base = tp.hf_train(tp.docs(f'{tp.DATA}/corpus.txt'), 600, 'gpt2', []).to_str()
    n = tokenizers.normalizers
    kinds = [None, n.NFC(), n.Sequence([]), n.Sequence([n.NFC(), n.NFC()])]
    with folder() as w:
        for k in range(int(os.environ.get('TOKENIZERS', 60))):
            t = tokenizer(r, base, kinds[k % len(kinds)])
            with open(f'{w}/t.json', 'w') as f: f.write(t.to_str())
            compare(f'{w}/t.json', tokenizers.Tokenizer.from_file(f'{w}/t.json'), [text(r) for _ in range(400)], f'tokenizer {k}')


if need('tokenizers', 'rustbpe', 'tiktoken'):
    import tokenizers
    import tokenizer_parity as tp
    freeze() if sys.argv[1:] == ['freeze'] else main()
finish()
