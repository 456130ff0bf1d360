#!/usr/bin/env python3
"""Where tokens stand: `dpipe tokenize --offsets` against Hugging Face's offsets (ByteLevel, trim_offsets=false, in characters) and tiktoken's
decode_with_offsets; text and ids that come in pieces, by the Python package, against both decoders. usage: make parity"""
import json, os, random, sys, unicodedata
from lib import ROOT, check, dpipe, finish, folder, jsonl, need

sys.path.insert(0, os.path.join(ROOT, 'python'))
os.environ.setdefault('DPIPE_LIBRARY', os.path.join(os.environ.get('BUILD', os.path.join(ROOT, 'build/release')), 'libdpipe.so'))


def rows(tokenizer, texts, *more):
    return [json.loads(r) for r in dpipe('tokenize', '--tokenizer', tokenizer, '--jsonl', *more, stdin=jsonl({'text': t} for t in texts)).splitlines()]


def each(got, want, texts, what):
    bad = next((i for i in range(len(texts)) if got[i] != want[i]), None)
    check(bad is None and len(got) == len(texts), what + (f': {texts[bad]!r}: dpipe {got[bad]}, reference {want[bad]}' if bad is not None else ''))


def with_splits(texts):
    file = f'{tp.DATA}/hf.json'
    base = json.load(open(file))
    for split in tp.SPLITS:
        level = {'type': 'ByteLevel', 'add_prefix_space': False, 'trim_offsets': False, 'use_regex': False}
        patterns = [tp.PAT[split]] if isinstance(tp.PAT[split], str) else tp.PAT[split]
        base['pre_tokenizer'] = {'type': 'Sequence', 'pretokenizers': [
            *({'type': 'Split', 'pattern': {'Regex': p}, 'behavior': 'Isolated', 'invert': False} for p in patterns), level]}
        base['post_processor'] = {'type': 'ByteLevel', 'add_prefix_space': True, 'trim_offsets': False, 'use_regex': True}
        hf = tokenizers.Tokenizer.from_str(json.dumps(base))
        for special in 'none', 'all':
            hf.encode_special_tokens = special == 'none'
            want = [hf.encode(t, add_special_tokens=False) for t in texts]
            got = rows(file, texts, '--split', split, '--offsets', 'chars', '--special', special)
            each([r['ids'] for r in got], [w.ids for w in want], texts, f'{split}, special {special}: ids')
            each([[tuple(o) for o in r['offsets']] for r in got], [w.offsets for w in want], texts, f'{split}, special {special}: offsets of tokenizers')
        if len(patterns) > 1: continue  # tiktoken has no sequences of patterns
        enc = tiktoken.Encoding(split, pat_str=tp.WHOLE[split], mergeable_ranks=tp.ranks(f'{tp.DATA}/rust.tiktoken'), special_tokens={})
        got = rows(f'{tp.DATA}/rust.tiktoken', texts, '--split', split, '--offsets', 'chars')
        want = [enc.decode_with_offsets(r['ids']) for r in got]
        each([w[0] for w in want], texts, texts, f'{split}: texts of tiktoken')
        each([[o[0] for o in r['offsets']] for r in got], [w[1] for w in want], texts, f'{split}: begins of tiktoken')
        each([[o[1] for o in r['offsets']] for r in rows(f'{tp.DATA}/rust.tiktoken', texts, '--split', split, '--offsets', 'bytes')],
             [[sum(map(len, enc.decode_tokens_bytes(r['ids'][:k + 1]))) for k in range(len(r['ids']))] for r in got], texts, f'{split}: ends in bytes')


def with_added(texts, r):
    """Added tokens that take white space or want no word beside them; a normalizer where it changes nothing."""
    flags = {'<l>': {'lstrip': True}, '<r>': {'rstrip': True}, '<b>': {'lstrip': True, 'rstrip': True}, 'word': {'single_word': True}}
    d = json.load(open(f'{tp.DATA}/hf.json'))
    top = max(d['model']['vocab'].values()) + 1
    d['added_tokens'] += [{'id': top + k, 'content': c, 'single_word': False, 'lstrip': False, 'rstrip': False, 'normalized': False, 'special': True} | f for k, (c, f) in enumerate(flags.items())]
    d['pre_tokenizer']['trim_offsets'] = False
    if d.get('post_processor'): d['post_processor']['trim_offsets'] = False
    d['normalizer'] = {'type': 'NFC'}
    texts = [unicodedata.normalize('NFC', ''.join(r.choice([t[:20], ' ', '  \n', *flags]) for _ in range(r.randrange(1, 6)))) for t in texts]
    with folder() as w:
        with open(f'{w}/t.json', 'w') as f: json.dump(d, f)
        hf = tokenizers.Tokenizer.from_file(f'{w}/t.json')
        got, want, kept = rows(f'{w}/t.json', texts, '--offsets', 'chars', '--special', 'all'), [], []
        for k, t in enumerate(texts):
            try: want.append(hf.encode(t, add_special_tokens=False)); kept.append(k)
            except BaseException as e:  # it panics where two tokens take the same white space
                if 'Panic' not in type(e).__name__: raise
        check(len(kept) > len(texts) * 0.9, f'{len(kept)} of {len(texts)} texts')
        each([got[k]['ids'] for k in kept], [x.ids for x in want], [texts[k] for k in kept], 'added tokens: ids')
        each([[tuple(o) for o in got[k]['offsets']] for k in kept], [x.offsets for x in want], [texts[k] for k in kept], 'added tokens: offsets of tokenizers')


def in_pieces(texts, r):
    import dpipe as package
    t = package.Tokenizer(f'{tp.DATA}/hf.json')
    hf = tokenizers.Tokenizer.from_file(f'{tp.DATA}/hf.json')
    pushed, shown, stepped, odd = [], [], [], []
    decode, encode = t.decode_stream(), t.encode_stream()
    for x in texts:
        raw, ids = x.encode(), t.encode(x).tolist()
        cuts = sorted(r.randrange(len(raw) + 1) for _ in range(r.randrange(4)))
        pushed.append([int(i) for a, b in zip([0] + cuts, cuts + [len(raw)]) for i in encode.push(raw[a:b])] + encode.finish().tolist())
        shown.append(''.join(decode.push(i) for i in ids) + decode.finish())
        part = ids[r.randrange(len(ids)):]  # from inside a character, maybe
        odd.append((''.join(decode.push(i) for i in part) + decode.finish(), hf.decode(part, skip_special_tokens=False)))
    each(pushed, [hf.encode(x, add_special_tokens=False).ids if '<|' not in x else t.encode(x).tolist() for x in texts], texts, 'text in pieces')
    each(shown, texts, texts, 'ids one by one')
    each([a for a, _ in odd], [b for _, b in odd], texts, 'half characters as tokenizers decodes them')


if need('tokenizers', 'tiktoken', 'numpy'):
    import tiktoken, tokenizers
    import tokenizer_parity as tp
    r = random.Random(5)
    texts = [t for t in (tp.random_text(r) for _ in range(3000)) if t] + ['x<|endoftext|>é', 'é' * 300, '👩\u200d👩\u200d👧' * 9, 'a' * 3000]
    with_splits(texts)
    with_added(texts, r)
    in_pieces(texts, r)
finish()
