#!/usr/bin/env python3
"""sentencepiece's BPE models of every kind: ids equal to those of its Encode, texts to those of its Decode, on real and random texts and ids.
usage: make parity      With `freeze`: writes tests/data/tokenizer/sp*.model and sp.jsonl, which test_sentencepiece reads."""
import io, json, os, random, sys
from lib import ROOT, check, dpipe, finish, folder, jsonl, need

DATA = os.path.join(ROOT, 'tests/data/tokenizer')
PLAIN = dict(normalization_rule_name='identity', remove_extra_whitespaces=False)
KINDS = {
    'llama': dict(PLAIN, byte_fallback=True, split_digits=True, allow_whitespace_only_pieces=True),
    'mistral': dict(PLAIN, byte_fallback=True, user_defined_symbols=['[INST]', '[/INST]', '▁▁▁', 'ab▁cd', 'é', '[INST'], control_symbols=['<ctl>', '☃']),
    'unknown': dict(PLAIN),
    'nfkc': dict(normalization_rule_name='nfkc'),
    'nmt_nfkc_cf': dict(normalization_rule_name='nmt_nfkc_cf', byte_fallback=True, user_defined_symbols=['№ x', '½']),
    'nmt_nfkc': dict(normalization_rule_name='nmt_nfkc', add_dummy_prefix=False),
    'across': dict(PLAIN, split_by_whitespace=False, split_by_unicode_script=False, split_by_number=False, byte_fallback=True, user_defined_symbols=['e t']),
    'suffix': dict(PLAIN, treat_whitespace_as_suffix=True, byte_fallback=True),
    'bare': dict(PLAIN, add_dummy_prefix=False, byte_fallback=True, unk_surface='<?>'),
    'trimmed': dict(normalization_rule_name='identity', remove_extra_whitespaces=True, byte_fallback=True),
}
ATOMS = ['▁', '▁▁', ' ▁', '[INST]', '[INST', '[/INST]', 'ab cd', 'ab▁cd', '№ x', '½', '<ctl>', '☃', '<s>', '</s>', '<unk>', '<0x41>', 'ﬁ', 'Å', 'A\u030a', '①', '㍿', '\u3000', 'ＡＢＣ', 'x²',
         '\u0308', '가', '\u1100\u1161', 'e t', ' e t', 'é', '\x00', '\u200b', '\ufeff', '\u00ad', 'İ', 'ẞ', '\u2581a', '\x7f', '\x01', '\u0085', '\u00a0']


def train(texts, vocab, **options):
    import sentencepiece as spm
    out = io.BytesIO()
    spm.SentencePieceTrainer.train(sentence_iterator=iter(texts), model_writer=out, vocab_size=vocab, model_type='bpe', minloglevel=2, num_threads=1, **options)
    return out.getvalue()


def text(r):
    if r.random() < .5: return tp.random_text(r)
    return ''.join(r.choice(ATOMS if r.random() < .5 else tp.ATOMS) for _ in range(r.randrange(1, 20)))


def lines(corpus):
    return [x for d in corpus for x in d.split('\n') if x.strip()]


def altered(model, r):
    """Pieces of equal scores, unused ones, characters taken away: what training doesn't make and reading must get right."""
    m = pb.ModelProto(); m.ParseFromString(model)
    kept = [p for p in m.pieces if p.type != 1 or len(p.piece) > 1 or r.random() < .8]
    del m.pieces[:]; m.pieces.extend(kept)
    if r.random() < .7:
        for p in m.pieces:
            if p.type == 1 and r.random() < .3: p.score = float(r.randrange(-40, 3))
    s = sentencepiece.SentencePieceProcessor(model_proto=m.SerializeToString())
    two = {}
    for p in m.pieces:
        if p.type == 1 and len(p.piece) == 2 and r.random() < .3: p.type = 5
    return m.SerializeToString()


def compare(file, model, texts, what, r):
    s = sentencepiece.SentencePieceProcessor(model_proto=model)
    with open(file, 'wb') as f: f.write(model)
    rows = dpipe('tokenize', '--tokenizer', file, '--jsonl', stdin=jsonl({'text': x} for x in texts)).splitlines()
    got, want = [json.loads(x)['ids'] for x in rows], [s.encode(x) for x in texts]
    bad = next((i for i in range(len(texts)) if got[i] != want[i]), None)
    check(bad is None and len(got) == len(texts), f'{what}: ids of {texts[bad or 0]!r}: dpipe {got[bad or 0][:60]}, reference {want[bad or 0][:60]}')
    ids = want + [[r.randrange(s.vocab_size()) for _ in range(r.randrange(1, 9))] for _ in range(1500)] + [[r.randrange(300) for _ in range(r.randrange(1, 9))] for _ in range(1500)]
    rows = dpipe('detokenize', '--tokenizer', file, '--jsonl', stdin=jsonl({'ids': x} for x in ids)).splitlines()
    for x, row in zip(ids, rows):
        if json.loads(row)['text'] != s.decode(x): return check(False, f'{what}: text of {x[:60]}: dpipe {json.loads(row)["text"]!r}, reference {s.decode(x)!r}')
    check(True, what)


def freeze():
    r = random.Random(8)
    corpus = lines(tp.docs(f'{tp.DATA}/corpus.txt'))
    with folder() as w:
        with open(f'{w}/rules.tsv', 'w') as f:  # code points in hex: what becomes what
            f.write('41\t61\n42\t62\nC5\tE5\n41 30A\tE5\n3000\t20\n2460\t31\n338F\t6B 67\nAD\t\nFB01\t66 69\n')
        models = {'sp_bytes': train(corpus, 480, character_coverage=.98, **KINDS['mistral']),
                  'sp_rules': train(corpus, 300, character_coverage=.98, normalization_rule_tsv=f'{w}/rules.tsv', user_defined_symbols=['[INST]', 'ab cd']),
                  'sp_unused': altered(train(corpus, 480, character_coverage=.98, byte_fallback=True, **PLAIN), r)}
    with open(f'{DATA}/sp.jsonl', 'w') as out:
        for name, model in models.items():
            with open(f'{DATA}/{name}.model', 'wb') as f: f.write(model)
            s = sentencepiece.SentencePieceProcessor(model_proto=model)
            texts = [text(r) for _ in range(60)] + ['', ' ', '  a', 'a' * 100, '\ufb01 \u00ad x', corpus[3][:200]]
            rows = [[x, s.encode(x), s.decode(s.encode(x))] for x in texts] + [[None, x, s.decode(x)] for x in ([r.randrange(s.vocab_size()) for _ in range(6)] for _ in range(30))]
            out.write(json.dumps({'model': f'{name}.model', 'rows': rows}, ensure_ascii=False, separators=(',', ':')) + '\n')


def main():
    r = random.Random(4)
    corpus = tp.docs(f'{tp.DATA}/corpus.txt')
    texts = [text(r) for _ in range(3000)] + corpus + lines(corpus)[:500] + ['', ' ', '  ', 'a' * 3000, ' ' * 2000, '中' * 2000, 'ab' * 2000 + ' ' + '9' * 500, '\x00', '▁' * 999]
    with folder() as w:
        for name, options in KINDS.items():
            model = train(lines(corpus), 900, character_coverage=.99, **options)
            compare(f'{w}/m.model', model, texts, name, r)
            for k in range(int(os.environ.get('MODELS', 4))): compare(f'{w}/m.model', altered(model, r), texts[:1500], f'{name}, altered {k}', r)


if need('sentencepiece', 'tiktoken', 'rustbpe', 'tokenizers'):
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as pb
    import tokenizer_parity as tp
    if __name__ == '__main__': freeze() if sys.argv[1:] == ['freeze'] else main()
if __name__ == '__main__': finish()
