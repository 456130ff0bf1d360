#!/usr/bin/env python3
"""tokenizer.json with byte_fallback, as transformers makes it of sentencepiece models: ids and texts equal to those of Hugging Face's tokenizers, in every form that is read.
usage: make parity      With `freeze`: writes tests/data/tokenizer/spj_*.json and spj.jsonl, which test_sentencepiece reads."""
import json, os, random, sys
from lib import ROOT, check, dpipe, finish, folder, jsonl, need

DATA = os.path.join(ROOT, 'tests/data/tokenizer')
REPLACE = {'type': 'Replace', 'pattern': {'String': ' '}, 'content': '▁'}
DECODERS = [{'type': 'Replace', 'pattern': {'String': '▁'}, 'content': ' '}, {'type': 'ByteFallback'}, {'type': 'Fuse'}]
STRIP = {'type': 'Strip', 'content': ' ', 'start': 1, 'stop': 0}
FORMS = {  # normalizer, pre_tokenizer, whether decoding strips
    'prepend': ({'type': 'Sequence', 'normalizers': [{'type': 'Prepend', 'prepend': '▁'}, REPLACE]}, None, True),
    'replace': (REPLACE, None, False),
    'always': (None, {'type': 'Metaspace', 'replacement': '▁', 'prepend_scheme': 'always', 'split': False}, True),
    'first': (None, {'type': 'Metaspace', 'replacement': '▁', 'prepend_scheme': 'first', 'split': False}, True),
    'never': (None, {'type': 'Metaspace', 'replacement': '▁', 'prepend_scheme': 'never', 'split': False}, False),
}
ATOMS = ['▁', '▁▁', ' ▁', ' ', '  ', '<s>', '</s>', '<unk>', '<0x41>', '<pad>', '[INST]', ' [INST] ', 'aaaa', 'aaa', '----', '\n', 'é', '\x00', '中文', '😀', 'ſ', '\u0308']


def learn(corpus, vocab, ways):
    """A vocabulary and merges: <unk> <s> </s>, 256 bytes, characters, what the trainer learns. ways: all ways to make each piece, as converters list them."""
    t = tokenizers.Tokenizer(models.BPE(unk_token='<unk>'))
    t.normalizer = tokenizers.normalizers.Replace(' ', '▁')
    t.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex('[▁]*[^▁]{0,9}'), 'isolated')
    t.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=vocab, limit_alphabet=90, special_tokens=['<unk>', '<s>', '</s>'], show_progress=False))
    model = json.loads(t.to_str())['model']
    learnt = sorted(model['vocab'], key=model['vocab'].get)
    names = learnt[:3] + ['<0x%02X>' % b for b in range(256)] + learnt[3:]
    ids = {x: i for i, x in enumerate(names)}
    merges = [tuple(m) for m in model['merges']]
    if ways: merges = [(x[:k], x[k:]) for x in learnt[3:] for k in range(len(x) - 1, 0, -1) if x[:k] in ids and x[k:] in ids]
    return ids, merges


def build(form, ids, merges, old, added=()):
    normalizer, pre, strip = FORMS[form]
    flags = {'single_word': False, 'lstrip': False, 'rstrip': False, 'normalized': False, 'special': True}
    return json.dumps({'version': '1.0', 'truncation': None, 'padding': None,
                       'added_tokens': [{'id': ids[x], 'content': x, **flags} for x in ('<unk>', '<s>', '</s>')] + [{'id': len(ids) + i, 'content': x, **flags, **f} for i, (x, f) in enumerate(added)],
                       'normalizer': normalizer, 'pre_tokenizer': pre, 'post_processor': None, 'decoder': {'type': 'Sequence', 'decoders': DECODERS + [STRIP] * strip},
                       'model': {'type': 'BPE', 'dropout': None, 'unk_token': '<unk>', 'continuing_subword_prefix': None, 'end_of_word_suffix': None, 'fuse_unk': True, 'byte_fallback': True,
                                 'ignore_merges': False, 'vocab': ids, 'merges': [' '.join(m) if old else list(m) for m in merges]}}, ensure_ascii=False)


def text(r):
    return ''.join(r.choice(ATOMS) if r.random() < .6 else tp.random_text(r) for _ in range(r.randrange(1, 8)))


def compare(path, file, texts, what):
    h = tokenizers.Tokenizer.from_str(file)
    with open(path, 'w') as f: f.write(file)
    for special in 'all', 'none':
        h.encode_special_tokens = special == 'none'
        want = [h.encode(x, add_special_tokens=False).ids for x in texts]
        got = [json.loads(x)['ids'] for x in dpipe('tokenize', '--tokenizer', path, '--special', special, '--jsonl', stdin=jsonl({'text': x} for x in texts)).splitlines()]
        bad = next((i for i in range(len(texts)) if got[i] != want[i]), None)
        check(bad is None and len(got) == len(texts), f'{what}, special {special}: ids of {texts[bad or 0]!r}: dpipe {got[bad or 0][:60]}, reference {want[bad or 0][:60]}')
        rows = dpipe('detokenize', '--tokenizer', path, '--jsonl', stdin=jsonl({'ids': x} for x in want)).splitlines()
        bad = next((i for i in range(len(texts)) if json.loads(rows[i])['text'] != h.decode(want[i], skip_special_tokens=False)), None)
        check(bad is None, f'{what}, special {special}: text of {want[bad or 0][:60]}: dpipe {json.loads(rows[bad or 0])["text"]!r}, reference {h.decode(want[bad or 0], skip_special_tokens=False)!r}')
    dpipe('tokenizer', 'convert', path, '-o', path + '.out.json')
    check(tokenizers.Tokenizer.from_file(path + '.out.json').to_str() == tokenizers.Tokenizer.from_str(file).to_str(), f'{what}: written again it is another')


def corpus_lines():
    return [x for d in tp.docs(f'{tp.DATA}/corpus.txt') for x in d.split('\n') if x.strip()] + ['aaaaaaaa aaaa aaa', '    indented    ', '-------- ----', '        x'] * 40


def freeze():
    r = random.Random(3)
    with open(f'{DATA}/spj.jsonl', 'w') as out:
        for form in 'prepend', 'first':
            ids, merges = learn(corpus_lines(), 260, True)
            file = build(form, ids, merges, form == 'prepend', [('[INST]', {})])
            with open(f'{DATA}/spj_{form}.json', 'w') as f: f.write(file)
            h = tokenizers.Tokenizer.from_str(file)
            texts = [text(r) for _ in range(60)] + ['', ' ', '  a', '▁a', 'a' * 100, '</s>a b', 'x</s> y', '<unk>', ' ' * 33 + 'b']
            rows = [[x, i, h.decode(i, skip_special_tokens=False)] for x in texts for i in [h.encode(x, add_special_tokens=False).ids]]
            out.write(json.dumps({'model': f'spj_{form}.json', 'rows': rows}, ensure_ascii=False, separators=(',', ':')) + '\n')


def main():
    r = random.Random(5)
    corpus = corpus_lines()
    texts = [text(r) for _ in range(2500)] + corpus[:400] + ['', ' ', '  ', 'a' * 3000, ' ' * 2000, '中' * 2000, '\x00', '▁' * 999, '</s>', '</s> a', 'a</s>b', ' a', '-' * 77]
    with folder() as w:
        for k, form in enumerate(FORMS):
            for ways in False, True:
                added = [('[INST]', {}), ('<pad>', {'special': True, 'rstrip': True}), ('☃', {'lstrip': True})] + ([('naïve', {'normalized': True})] if not FORMS[form][0] else [])
                compare(f'{w}/t.json', build(form, *learn(corpus, 900, ways), k % 2 == 0, added), texts, f'{form}, {"all ways" if ways else "one way"}')


got = need('tokenizers', 'tiktoken', 'rustbpe')
if got:
    import tokenizers
    from tokenizers import models, trainers
    import tokenizer_parity as tp
    if __name__ == '__main__': freeze() if sys.argv[1:] == ['freeze'] else main()
if __name__ == '__main__': finish()
