#!/usr/bin/env python3
"""bench/tokenizer_ranks.py - the vocabularies in the npm package tiktoken, as .tiktoken and as tokenizer.json for Hugging Face's readers.
usage: tokenizer_ranks.py ENCODERS_DIR OUT_DIR
A file of the package has lines "! FIRST TOKEN TOKEN ..." in base64. Merges of a token are found by merging its bytes by the ranks below its own."""
import base64, json, os, sys

SUFFIX = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UP, LOW = r'[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]', r'[\p{Ll}\p{Lm}\p{Lo}\p{M}]'
TAIL = r"\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERN = {'gpt2': r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
           'cl100k_base': SUFFIX + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + TAIL,
           'o200k_base': rf"[^\r\n\p{{L}}\p{{N}}]?{UP}*{LOW}+{SUFFIX}?|[^\r\n\p{{L}}\p{{N}}]?{UP}+{LOW}*{SUFFIX}?|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|" + TAIL}


def byte_characters():
    """GPT-2's: printable bytes stand for themselves, the others for U+0100 on."""
    plain = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255]
    other = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + i) for i, b in enumerate(other)}}


def read(path):
    ranks = {}
    for line in json.load(open(path))['bpe_ranks'].splitlines():
        _, first, *tokens = line.split(' ')
        for i, t in enumerate(tokens): ranks[base64.b64decode(t)] = int(first) + i
    return ranks


def pair(ranks, token):
    """The two tokens that `token` is merged of."""
    parts = [token[i:i + 1] for i in range(len(token))]
    while len(parts) > 2:
        best = min((ranks.get(parts[i] + parts[i + 1], 1 << 30), i) for i in range(len(parts) - 1))
        i = best[1]
        parts[i:i + 2] = [parts[i] + parts[i + 1]]
    return parts


def tokenizer_json(name, ranks):
    chars = byte_characters()
    text = lambda t: ''.join(chars[b] for b in t)
    order = sorted(ranks, key=ranks.get)
    level = dict(type='ByteLevel', add_prefix_space=False, trim_offsets=True, use_regex=False)
    split = dict(type='Split', pattern=dict(Regex=PATTERN[name]), behavior='Isolated', invert=False)
    pre = dict(level, use_regex=True) if name == 'gpt2' else dict(type='Sequence', pretokenizers=[split, level])
    model = dict(type='BPE', dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None, fuse_unk=False, byte_fallback=False,
                 ignore_merges=False, vocab={text(t): ranks[t] for t in order}, merges=[[text(p) for p in pair(ranks, t)] for t in order if len(t) > 1])
    return dict(version='1.0', truncation=None, padding=None, added_tokens=[], normalizer=None, pre_tokenizer=pre, post_processor=None,
                decoder=dict(type='ByteLevel', add_prefix_space=True, trim_offsets=True, use_regex=True), model=model)


source, out = sys.argv[1:]
for name in PATTERN:
    ranks = read(os.path.join(source, name + '.json'))
    with open(f'{out}/{name}.tiktoken', 'wb') as f: f.writelines(base64.b64encode(t) + b' %d\n' % r for t, r in sorted(ranks.items(), key=lambda x: x[1]))
    with open(f'{out}/{name}.json', 'w') as f: json.dump(tokenizer_json(name, ranks), f, ensure_ascii=False)
