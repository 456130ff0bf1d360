#!/usr/bin/env python3
"""What `dpipe tokenizer convert` writes, loaded by tokenizers, transformers (AutoTokenizer, of both kinds of folder), tiktoken and gguf: the same ids
as before; and what transformers writes, read by dpipe. llama.cpp is asked where llama-cpp-python is installed. usage: make parity"""
import json, os, random
from lib import check, dpipe, finish, folder, jsonl, need, same, skip

EXTRA = [('<|user|>', dict(special=True)), ('<w>', dict(special=False, normalized=False)), ('<l>', dict(special=True, lstrip=True)), ('<r>', dict(special=False, rstrip=True, normalized=False))]


def ids(file, texts, *more):
    rows = dpipe('tokenize', '--tokenizer', file, '--jsonl', '--special', 'all', *more, stdin=jsonl({'text': t} for t in texts))
    return [json.loads(r)['ids'] for r in rows.splitlines()]


def each(got, want, texts, what):
    bad = next((i for i in range(len(texts)) if got[i] != want[i]), None)
    check(bad is None and len(got) == len(texts), what + (f': {texts[bad]!r}: {got[bad]}, wanted {want[bad]}' if bad is not None else ''))


def info(file, *more): return json.loads(dpipe('tokenizer', 'info', file, *more))


def make(path, split, normalizer, extra):
    t = tp.hf_train(tp.docs(f'{tp.DATA}/corpus.txt'), 900, split)
    t.normalizer = normalizer
    for w, flags in extra: t.add_tokens([tokenizers.AddedToken(w, **flags)])
    t.post_processor = tokenizers.processors.TemplateProcessing(single='<|endoftext|> $A', special_tokens=[('<|endoftext|>', 0)])
    t.save(path)


def by_hf(w, file, texts, want, split):
    dpipe('tokenizer', 'convert', file, '-o', f'{w}/hf/', '--to', 'hf')
    t = tokenizers.Tokenizer.from_file(f'{w}/hf/tokenizer.json')
    each([t.encode(x, add_special_tokens=False).ids for x in texts], want, texts, f'{split}: tokenizers')
    a, b = json.load(open(file)), json.load(open(f'{w}/hf/tokenizer.json'))
    for k in a:
        if k not in ('model', 'pre_tokenizer'): same(json.dumps(b[k], sort_keys=True), json.dumps(a[k], sort_keys=True), f'{split}: {k} as it was')
    same(b['model']['vocab'], a['model']['vocab'], f'{split}: vocab as it was')
    auto = transformers.AutoTokenizer.from_pretrained(f'{w}/hf')
    each([auto.encode(x, add_special_tokens=False) for x in texts], want, texts, f'{split}: AutoTokenizer of tokenizer.json')
    check(auto.eos_token == '<|endoftext|>' and auto.eos_token_id == 0, f'{split}: eos_token {auto.eos_token} {auto.eos_token_id}')
    auto.save_pretrained(f'{w}/again')
    each(ids(f'{w}/again', texts), want, texts, f"{split}: dpipe of transformers' folder")


def by_vocab(w, file, texts, want, split):
    dpipe('tokenizer', 'convert', file, '-o', f'{w}/v', '--to', 'vocab')
    each(ids(f'{w}/v', texts), want, texts, f'{split}: vocab.json and merges.txt by dpipe')
    each(ids(f'{w}/v/merges.txt', texts), want, texts, f'{split}: merges.txt by dpipe')
    auto = transformers.AutoTokenizer.from_pretrained(f'{w}/v')
    each([auto.encode(x, add_special_tokens=False) for x in texts], want, texts, f'{split}: AutoTokenizer of vocab.json ({type(auto).__name__})')


def by_gguf(w, file, texts, want, split):
    dpipe('tokenizer', 'convert', file, '-o', f'{w}/t.gguf')
    r = gguf.GGUFReader(f'{w}/t.gguf')
    get = lambda k: r.fields[f'tokenizer.ggml.{k}'].contents()
    model = json.load(open(file))
    vocab = {**model['model']['vocab'], **{a['content']: a['id'] for a in model['added_tokens']}}
    same(get('tokens'), sorted(vocab, key=vocab.get), f'{split}: tokens of GGUF')
    same(get('merges'), [' '.join(m) for m in model['model']['merges']], f'{split}: merges of GGUF')
    check(get('eos_token_id') == 0 and get('model') == 'gpt2', f'{split}: GGUF')
    each(ids(f'{w}/t.gguf', texts), want, texts, f'{split}: GGUF by dpipe')
    if llama_cpp:
        # what it does with added tokens in text is its own; so texts without these
        l = llama_cpp.Llama(f'{w}/t.gguf', vocab_only=True, verbose=False)
        plain = [(x, y) for x, y in zip(texts, want) if x.isascii() and '<' not in x and '\0' not in x]
        each([l.tokenize(x.encode(), add_bos=False, special=False) for x, _ in plain], [y for _, y in plain], [x for x, _ in plain], f'{split}: llama.cpp')


def by_tiktoken(w, file, texts, split):  # not of superbpe, whose pattern leaves gaps, which tiktoken drops
    dpipe('tokenizer', 'convert', file, '-o', f'{w}/t.tiktoken')
    enc = tiktoken.Encoding(split, pat_str=tp.PAT[split], mergeable_ranks=tiktoken.load.load_tiktoken_bpe(f'{w}/t.tiktoken'), special_tokens={})
    plain = [json.loads(r)['ids'] for r in dpipe('tokenize', '--tokenizer', file, '--jsonl', stdin=jsonl({'text': t} for t in texts)).splitlines()]
    each([enc.encode_ordinary(x) for x in texts], plain, texts, f'{split}: tiktoken')


def by_sentencepiece(w):
    for name, options in sp.KINDS.items():
        if name == 'suffix': continue
        with open(f'{w}/s.model', 'wb') as f: f.write(sp.train(sp.lines(tp.docs(f'{tp.DATA}/corpus.txt')), 900, character_coverage=.99, **{k: v for k, v in options.items() if k != 'unk_surface'}))
        dpipe('tokenizer', 'convert', f'{w}/s.model', '-o', f'{w}/s.gguf')
        dpipe('tokenizer', 'convert', f'{w}/s.gguf', '-o', f'{w}/back.model')
        same(info(f'{w}/s.gguf')['digest'], info(f'{w}/s.model')['digest'], f'{name}: .model, GGUF')
        same(info(f'{w}/back.model')['digest'], info(f'{w}/s.model')['digest'], f'{name}: .model, GGUF, .model')
        a, b = (sentencepiece.SentencePieceProcessor(model_file=f'{w}/{x}.model') for x in ('s', 'back'))
        r = random.Random(name)
        texts = [sp.text(r) for _ in range(500)]
        same([b.encode(x) for x in texts], [a.encode(x) for x in texts], f'{name}: sentencepiece of the written .model')
        field = gguf.GGUFReader(f'{w}/s.gguf').fields
        same(field['tokenizer.ggml.tokens'].contents(), [a.id_to_piece(i) for i in range(a.vocab_size())], f'{name}: tokens of GGUF')
        same(field['tokenizer.ggml.scores'].contents(), [a.get_score(i) for i in range(a.vocab_size())], f'{name}: scores of GGUF')


def main():
    r = random.Random(13)
    texts = [t for t in (tp.random_text(r) for _ in range(600)) if t]
    texts += [r.choice(['', ' ', 'a']).join(r.choice(['<|endoftext|>', '<|user|>', '<w>', ' <l> ', ' <r> ', 'e\u0301', 'word', '\n']) for _ in range(6)) for _ in range(200)]
    nfc = tokenizers.normalizers.NFC()
    with folder() as top:
        for split in tp.SPLITS:
            w = os.path.join(top, split); os.mkdir(w)
            file = f'{w}/t.json'
            make(file, split, nfc if split == 'qwen2' else None, EXTRA)
            want = ids(file, texts)
            by_hf(w, file, texts, want, split)
            if split in ('gpt2', 'qwen2'): by_vocab(w, file, texts, want, split)
            make(file, split, None, EXTRA[:2])
            if split != 'superbpe': by_gguf(w, file, texts, ids(file, texts), split)
            if isinstance(tp.PAT[split], str) and split != 'superbpe': by_tiktoken(w, file, texts, split)
        by_sentencepiece(top)


if need('tokenizers', 'transformers', 'tiktoken', 'tiktoken.load', 'rustbpe', 'sentencepiece', 'gguf'):
    import gguf, sentencepiece, tiktoken, tiktoken.load, tokenizers, transformers
    import tokenizer_parity as tp
    import tokenizer_sentencepiece as sp
    try: import llama_cpp
    except ImportError: llama_cpp = skip('llama_cpp: not installed')
    main()
finish()
