#!/usr/bin/env python3
"""Pieces of user patterns, of Sequences of Split and Digits and of script splitting against Hugging Face tokenizers, which runs Oniguruma.
usage: make parity, or splitters.py [SEED [TEXTS]]; splitters.py frozen writes tests/data/tokenizer/splitters.txt (no dpipe code involved)"""
import ctypes as C, json, random, sys
from lib import check, dpipe, finish, folder, jsonl, need

# What users and published files have, and what the two engines read differently. (pattern, whether a user may give it.)
PATTERNS = [
    (r' ?\p{L}+|\d| ?[^\s\p{L}\d]+|\s+', True), (r'\w+|[^\w\s]+', True), (r'\s+', True), (r'[^\s]+', True), (r'\p{Han}|\p{Hiragana}+|[A-Za-z]+', True),
    (r'(?i:the)|(?<=a)b|(?=c)', True), (r'x*', True), (r'\b', True), (r'(?<=[.!?])\s+(?=[A-Z])', True), (r'^.*$', True), (r'$', True), (r'\S+\s*', True),
    (r'(?>\p{N}{1,3})|\p{L}++', True), (r'\p{Lu}?\p{Ll}+|\p{Lu}+(?!\p{Ll})|\W', True), (r'(?:[^\r\n\p{L}\p{N}])?\p{L}+|\R', True), (r'a|b|', True), (r'.', True),
    (r"(?<q>['\"]).*?\k<q>", True), (r'\x{4e00}|\u00e9|\x41', True), (r'[\p{L}\p{M}]+|[^\s\p{L}\p{M}\p{N}]+', True), (r'\D+|\d{2}', True), (r'[[:word:]]+|[[:digit:][:space:]]', True),
    (r'[\w-]+', True), (r'[^\W\d]+', True), (r'\B', True), (r'(?=b)|b', True), (r'a{2}|{', True),
    (r'(?i)straße|ſ', True), (r'\S', True), (r'[\S\n]+', True), (r'[]a]+', True),
    (r' ?[^(\s|[.,!?…。，、।۔،])]+', False), (r'[\p{L}&&[^a-m]]+|[^\p{N}&&[^1]]', False), (r'\p{N}{1,3}+', False), (r'a{,2}', False), (r'\h+', False), (r'(?m:a.)', False),
    (r'[a-c[x-z]&&[^bx]]+', False), (r'[^a&&b]', False),
    (r'[^\r\n\p{L}\p{N}]?+[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+', True),
    (r'[\r\n]', True), (r'\s?\p{L}+', True), (r'\s?\p{P}+', True), (r'[一-龥ࠀ-一가-퟿]+', True),
    (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+", True),
    (r'[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:\'s|\'t|\'re|\'ve|\'m|\'ll|\'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+', False),
]
REGEX, LITERAL, DIGITS, SCRIPTS, KNOWN = 1, 2, 3, 4, 0


class Step(C.Structure):
    _fields_ = [('kind', C.c_int), ('split', C.c_int), ('ptr', C.c_char_p), ('len', C.c_size_t), ('digits', C.c_int), ('join', C.c_int), ('portable', C.c_bool)]


def step(kind, text=None, digits=0, split=0, portable=False, join=0):
    b = text.encode() if text else None
    return Step(kind, split, b, len(b) if b else 0, digits, join, portable)


class Splitter:
    def __init__(self, steps):
        self.l, self.e, s, c = tp.Dpipe().l, tp.Err(), C.c_void_p(), C.c_void_p()
        a = (Step * len(steps))(*steps)
        self.ok = self.l.dp_splitter_open(C.byref(s), a, C.c_size_t(len(steps)), C.byref(self.e)) >= 0
        if not self.ok: return
        assert self.l.dp_cutter_open(C.byref(c), s, C.byref(self.e)) >= 0
        self.c, self.ends = c, (C.c_size_t * 4096)()

    def pieces(self, text):
        b, pos, out = text.encode(), C.c_size_t(0), []
        while True:
            n = self.l.dp_cutter_run(self.c, tp.span(b), C.byref(pos), self.ends, C.c_size_t(64), C.byref(self.e))
            if n < 0: raise ValueError(self.e.msg)
            if n == 0: return out
            out += self.ends[:n]


def hf_ends(pre, text):
    ends, at = [], 0
    for piece, _ in pre.pre_tokenize_str(text):
        at += len(piece.encode()); ends.append(at)
    return ends


def cases():
    P, R, iso = pre_tokenizers, Regex, 'isolated'
    split = lambda p: P.Split(R(p), iso)
    for p, portable in PATTERNS: yield repr(p), [step(REGEX, p, portable=portable)], split(p)
    yield 'Digits(True)', [step(DIGITS, digits=1)], P.Digits(True)
    yield 'Digits(False)', [step(DIGITS, digits=0)], P.Digits(False)
    for n in (2, 3): yield f'digits {n}', [step(DIGITS, digits=n)], split(r'\p{N}{1,%d}' % n)
    for i, s in enumerate(tp.SPLITS):
        yield f'Digits, {s}', [step(DIGITS, digits=1), step(KNOWN, split=i)], P.Sequence([P.Digits(True), tp.hf_split(tp.PAT[s])])
        yield f'{s}, digits', [step(KNOWN, split=i), step(DIGITS, digits=2)], P.Sequence([tp.hf_split(tp.PAT[s]), split(r'\p{N}{1,2}')])
    for p in (r'\s', r' ', r'\s+|x+', r'(?:\r?\n)+(?!\r?\n)', r'x*', r'(?=a)|\p{N}', '.'):
        for j, b in enumerate(('isolated', 'merged_with_previous', 'merged_with_next', 'contiguous')): yield f'{p!r} {b}', [step(REGEX, p, join=j)], P.Split(R(p), b)
    yield 'literal', [step(LITERAL, 'a.')], P.Split('a.', iso)
    cohere, minicpm = r'\d{1,3}(?=(?:\d{3})*\b)', tp.PAT['cl100k'].replace('{1,3}', '+')
    yield 'Cohere2', [step(REGEX, cohere), step(REGEX, tp.PAT['o200k'])], P.Sequence([split(cohere), split(tp.PAT['o200k'])])
    yield 'MiniCPM5', [step(REGEX, r'\p{N}{1,3}'), step(REGEX, minicpm)], P.Sequence([split(r'\p{N}{1,3}'), split(minicpm)])
    yield 'three', [step(DIGITS, digits=1), step(REGEX, r'\s?\p{L}+'), step(REGEX, '.')], P.Sequence([P.Digits(True), split(r'\s?\p{L}+'), split('.')])


def frozen(r):
    """Lines: regex in hex, whether users may give it, then text in hex and ends of pieces."""
    with open(f'{tp.DATA}/splitters.txt', 'w') as f:
        for p, portable in PATTERNS:
            pre = pre_tokenizers.Split(Regex(p), 'isolated')
            found = {}  # texts that the pattern cuts in different ways
            for t in (tp.random_text(r) for _ in range(400)):
                if t: found.setdefault(len(hf_ends(pre, t)), t)
            for t in sorted(found.values())[:8]: f.write(f"{p.encode().hex()} {int(portable)} {t.encode().hex()} {','.join(map(str, hf_ends(pre, t)))}\n")


class Patterns:
    """Random regular expressions in Oniguruma's language. What dpipe refuses or Oniguruma doesn't read is left out by the caller; the two that remain unlike in some
    10,000 are loops over the empty match, and complements in sets inside of (?i)."""
    LITERALS = ['a', 'b', '1', 'é', '中', ' ', 'x', '_', '-', r'\.', r'\-', r'\n', r'\t', "'", 'ſ', 'K', r'\x{e9}', r'\u4e2d', r'\x41', r'\[', '#', '!', '&', ',', '}', ':', '=', '<', '~', '"', '/']
    CLASSES = [r'\w', r'\W', r'\s', r'\S', r'\d', r'\D', r'\p{L}', r'\P{L}', r'\p{^N}', r'\p{Lu}', r'\p{Han}', r'\p{M}', r'\P{Nd}', r'\p{Latin}', '.', r'\R', r'\h', r'\H', r'\v', r'\p{P}', r'\O', r'\N']
    ITEMS = CLASSES[:11] + ['a-z', 'A-C', 'é-中', r'\]', r'\\', '-', 'a', '1', r'\n', ' ', r'\b', '^', '[:digit:]', '[:word:]', '[:^space:]', r'\x{61}', '.', '$', '(', '|', '*', '&', '!', ':', r'\p{Cc}']
    REPEATS = ['*', '+', '?', '*?', '+?', '??', '++', '*+', '?+', '{1,2}', '{2}', '{,2}', '{1,}', '{1,2}+', '{2}+', '{0,2}?', '{a}', '{']
    GROUPS = ['(?:%s)', '(%s)', '(?>%s)', '(?i:%s)', '(?=%s)', '(?!%s)', '(?m:%s)', '(?#c)(?:%s)']
    PLACES = ['^', '$', r'\b', r'\B', r'\A', r'\z', r'\Z', '(?<=a)', '(?<!b)', r'(?<=[\w])']

    def __init__(self, seed): self.r = random.Random(seed)

    def set(self, depth=0):
        items = []
        for i in range(self.r.randrange(1, 4)):
            k = self.r.random()
            items.append(self.set(depth + 1) if k < .12 and depth < 2 else '&&' + self.r.choice(self.ITEMS) if k < .2 and i else self.r.choice(self.ITEMS))
        return '[' + ('^' if self.r.random() < .35 else '') + ''.join(items) + ']'

    def atom(self, depth):
        k = self.r.random()
        if k < .35 or depth > 2: return self.r.choice(self.LITERALS)
        return self.r.choice(self.CLASSES) if k < .6 else self.set() if k < .8 else self.r.choice(self.GROUPS) % self.any(depth + 1)

    def term(self, depth):
        if self.r.random() < .08: return self.r.choice(self.PLACES)
        return self.atom(depth) + (self.r.choice(self.REPEATS) if self.r.random() < .4 else '')

    def any(self, depth=0):
        return '|'.join(''.join(self.term(depth) for _ in range(self.r.randrange(1, 4))) for _ in range(self.r.choice([1, 1, 2, 2, 3])))


def random_patterns(seed, n):
    make, tried = Patterns(seed), 0
    atoms = tp.ATOMS + ['a', 'b', 'ab', '\n', '1', 'é', '中', '_', '-'] * 8
    for _ in range(n):
        p = make.any()
        texts = [''.join(make.r.choice(atoms) for _ in range(make.r.randrange(1, 9))) for _ in range(12)]
        s = Splitter([step(REGEX, p)])
        try: pre = pre_tokenizers.Split(Regex(p), 'isolated')
        except Exception: continue  # Oniguruma doesn't read it
        if not s.ok: continue
        bad = next(((t, s.pieces(t), hf_ends(pre, t)) for t in texts if s.pieces(t) != hf_ends(pre, t)), None)
        tried += 1
        if bad: check(False, f'random pattern {p!r}: {bad[0]!r}: dpipe {bad[1]}, tokenizers {bad[2]}')
    check(tried > n // 2, f'{tried} of {n} random patterns compared')


TRAINED = [['--split-digits', '1'], ['--split', 'cl100k', '--split-digits', '2'], ['--split', 'o200k', '--split-scripts'], ['--split-pattern', r'\s?\w+|[^\w\s]+|\s'],
           ['--split-pattern', r"(?i:'s|'t)|\S+", '--split-digits', '3', '--split-scripts'], ['--split-digits', '1', '--split-scripts', '--tie', 'bytes']]


def trained(texts):
    """What train-bpe writes with splits of one's own: the ids of tokenizers, and of dpipe from the file it wrote."""
    with folder() as w:
        corpus = f'{tp.DATA}/corpus.txt'
        for i, options in enumerate(TRAINED):
            dpipe('train-bpe', '-q', '--vocab-size', 900, *options, '--whole-file', '-o', f'{w}/{i}', corpus)
            h = tokenizers.Tokenizer.from_file(f'{w}/{i}/tokenizer.json')
            h.encode_special_tokens = True
            rows = dpipe('tokenize', '--tokenizer', f'{w}/{i}/tokenizer.json', '--jsonl', stdin=jsonl({'text': t} for t in texts)).splitlines()
            want = [h.encode(t, add_special_tokens=False).ids for t in texts]
            bad = next((k for k, r in enumerate(rows) if json.loads(r)['ids'] != want[k]), None)
            check(bad is None and len(rows) == len(texts), f'ids with {options}' + (f': {texts[bad]!r}: {rows[bad]} {want[bad]}' if bad is not None else ''))


if __name__ == '__main__' and need('tokenizers', 'tiktoken', 'rustbpe'):
    import tokenizer_parity as tp
    import tokenizers
    from tokenizers import Regex, pre_tokenizers
    if sys.argv[1:] == ['frozen']: sys.exit(frozen(random.Random(9)))
    r = random.Random(int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 3)
    texts = [tp.random_text(r) for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 1500)]
    for name, steps, pre in cases():
        s = Splitter(steps)
        if not s.ok:
            check(False, f'{name}: {s.e.msg.decode()}')
            continue
        bad = next(((t, s.pieces(t), hf_ends(pre, t)) for t in texts if s.pieces(t) != hf_ends(pre, t)), None)
        check(bad is None, f'pieces of {name}' + (f': {bad[0]!r}: dpipe {bad[1]}, tokenizers {bad[2]}' if bad else ''))
    random_patterns(6, 1500)
    trained([t for t in texts if t][:1500] + ['слово word 漢字かなABC αβγ', 'a' * 3000, '1234567 ٣٤٥٦'])
finish()
