#!/usr/bin/env python3
"""The numbers of `dpipe tokenizer report` and `compare` counted again in Python, with ids by tiktoken and Hugging Face. usage: make parity"""
import json, math, random, re, unicodedata
from collections import Counter
from lib import DPIPE, check, dpipe, finish, folder, jsonl, need
import subprocess

SPACELESS = ('CJK', 'HIRAGANA', 'KATAKANA', 'HALFWIDTH KATAKANA', 'BOPOMOFO', 'YI SYLLABLE', 'THAI', 'LAO', 'TIBETAN', 'MYANMAR', 'KHMER', 'HANGZHOU', 'IDEOGRAPHIC')


def words(text):
    """(begin, end) in bytes."""
    out, begin, at, alone = [], None, 0, False
    for c in text:
        kind, size = unicodedata.category(c)[0], len(c.encode())
        inside, mark = kind in 'LMN', kind == 'M'
        single = inside and not mark and unicodedata.name(c, '').startswith(SPACELESS)
        if begin is not None and (not inside or (not mark and (alone or single))): out.append((begin, at)); begin = None
        if inside and begin is None: begin, alone = at, single
        at += size
    return out + ([(begin, at)] if begin is not None else [])


def whole_characters(b):
    try: return bool(b.decode()) or True
    except UnicodeDecodeError: return False


def measure(texts, encode, token):
    n, used = Counter(), Counter()
    for t in texts:
        ids, at, ends, w = encode(t), 0, [], words(t)
        for i in ids: at += len(token(i)); ends.append(at)
        begins = [0] + ends[:-1]
        touch = [sum(1 for a, b in zip(begins, ends) if a < e and b > s) for s, e in w]
        n.update(texts=1, bytes=len(t.encode()), chars=len(t), words=len(w), tokens=len(ids), touch=sum(touch), whole=sum(k == 1 for k in touch),
                 single=sum(len(token(i)) == 1 for i in ids), part=sum(not whole_characters(token(i)) for i in ids))
        used.update(ids)
    return n, used


def same_numbers(group, k, n, what):
    t = group['tokenizers'][k]
    for key in 'texts', 'bytes', 'chars', 'words': check(group[key] == n[key], f'{what}: {key} {group[key]}, not {n[key]}')
    check(t['tokens'] == n['tokens'], f'{what}: tokens {t["tokens"]}, not {n["tokens"]}')
    for key, a, b in ('bytes_per_token', 'bytes', 'tokens'), ('chars_per_token', 'chars', 'tokens'), ('fertility', 'touch', 'words'), ('one_token_words', 'whole', 'words'), \
            ('single_byte_tokens', 'single', 'tokens'), ('partial_character_tokens', 'part', 'tokens'):
        check(abs(t[key] - n[a] / n[b]) < 1e-6, f'{what}: {key} {t[key]}, not {n[a] / n[b]}')


def same_use(t, used, size, what):
    total = sum(used.values())
    p = [c / total for c in used.values()]
    check(t['tokens'] == size and t['unused'] == size - len(used), f'{what}: tokens and unused')
    check(abs(t['entropy_bits'] + sum(x * math.log2(x) for x in p)) < 1e-5, f'{what}: entropy')
    check(abs(t['renyi_efficiency'] - math.log2(sum(x ** 2.5 for x in p)) / -1.5 / math.log2(size)) < 1e-5, f'{what}: Renyi efficiency')


def main():
    r = random.Random(11)
    lines = [l for l in open(f'{tp.DATA}/corpus.txt', encoding='utf-8').read().splitlines() if l.strip()][:1500]
    rows = [{'text': t, 'lang': r.choice(['aa', 'bb']), 'source': r.choice('xyz')} for t in lines + [x for x in (tp.random_text(r) for _ in range(1500)) if x]]
    check(len(rows) > 1500, f"{len(rows)} texts")
    # Python 3.11's categories are Unicode 14's: what was assigned later is left out.
    rows = [x for x in rows if all(unicodedata.category(c) != 'Cn' for c in x['text'])]
    enc = tiktoken.Encoding('cl100k', pat_str=tp.PAT['cl100k'], mergeable_ranks=tp.ranks(f'{tp.DATA}/rust.tiktoken'), special_tokens={})
    hf = tokenizers.Tokenizer.from_file(f'{tp.DATA}/hf.json')
    hf.encode_special_tokens = True
    back = {v: k for k, v in tokenizers_bytes().items()}
    token = {i: bytes(back[c] for c in s) for s, i in hf.get_vocab(with_added_tokens=False).items() if all(c in back for c in s)}
    with folder() as w:
        with open(f'{w}/c.jsonl', 'wb') as f: f.write(jsonl(rows))
        subprocess.run(['cp', f'{tp.DATA}/rust.tiktoken', f'{w}/cl100k.tiktoken'], check=True)
        got = json.loads(dpipe('tokenizer', 'report', '-t', f'{tp.DATA}/hf.json', '--baseline', f'cl100k={w}/cl100k.tiktoken', '--jsonl', '--language-field', 'lang', '--domain-field', 'source',
                               '--json', f'{w}/c.jsonl'))
        kinds = [(lambda t: hf.encode(t, add_special_tokens=False).ids, token.__getitem__), (enc.encode_ordinary, enc.decode_single_token_bytes)]
        for k, (encode, bytes_of) in enumerate(kinds):
            n, used = measure([x['text'] for x in rows], encode, bytes_of)
            same_numbers(got['all'], k, n, f'all, tokenizer {k}')
            same_use(got['tokenizers'][k], used, got['tokenizers'][k]['tokens'], f'tokenizer {k}')
            for name, field in ('languages', 'lang'), ('domains', 'source'):
                for g in got[name]: same_numbers(g, k, measure([x['text'] for x in rows if x[field] == g['name']], encode, bytes_of)[0], f'{name} {g["name"]}, tokenizer {k}')
        check(got['tokenizers'][1]['tokens'] == enc.n_vocab, 'tokens of the vocabulary')
        out = subprocess.run([DPIPE, 'tokenizer', 'compare', '--json', '--jsonl', f'{tp.DATA}/hf.json', f'{tp.DATA}/hf.json', '--split', 'gpt2', f'{w}/c.jsonl'], capture_output=True)
        check(out.returncode == 0 and json.loads(out.stdout)['texts_with_other_ids'] == 0, 'compare with itself')
        v = subprocess.run([DPIPE, 'tokenizer', 'compare', '--json', '--split', 'cl100k', f'{tp.DATA}/hf.json', f'{tp.DATA}/rust.tiktoken'], capture_output=True)
        got, a, b = json.loads(v.stdout), set(token.values()), {enc.decode_single_token_bytes(i) for i in range(enc.n_vocab)}
        a = {x for i, x in ((i, x) for i, x in token.items()) if hf.id_to_token(i) not in ('<|endoftext|>',)}
        check((got['common'], got['only_a']['count'], got['only_b']['count']) == (len(a & b), len(a - b), len(b - a)), 'tokens of both, of A, of B')


def tokenizers_bytes():
    """ByteLevel's character for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return {b: chr(b) for b in plain} | {b: chr(256 + k) for k, b in enumerate(x for x in range(256) if x not in plain)}


if need('tokenizers', 'tiktoken', 'numpy'):
    import tiktoken, tokenizers
    import tokenizer_parity as tp
    main()
finish()
