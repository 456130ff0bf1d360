#!/usr/bin/env python3
"""Compare dpipe's tokenizer with tiktoken, Hugging Face tokenizers and rustbpe, through libdpipe.so.

  tokenizer_parity.py                            what needs no vocabulary of others: pieces of random texts, merges and ids on tests/data (make parity)
  tokenizer_parity.py frozen                     write tests/data/tokenizer/ (what the unit tests compare with; no dpipe code involved)
  tokenizer_parity.py cases VOCABS [N] [SEED]    N random adversarial texts: pieces against HF's regex engine, ids against tiktoken and HF
  tokenizer_parity.py judge VOCABS [S] [SEED] [ENC]  adversarial texts for S seconds an encoding through the program's contract at every CPU level (DPIPE names it), against
                                                 tiktoken and HF, specials as text and as ids, and back
  tokenizer_parity.py whole VOCABS FILE [ENC]    a file in 64 KB documents through the program's contract, against tiktoken
  tokenizer_parity.py learn [S] [SEED] [FILE...] small corpora (random ones, and slices of the files) for S seconds: dpipe train-bpe in both tie modes against HF and rustbpe,
                                                 and the files it writes in HF and tiktoken
  tokenizer_parity.py text VOCABS FILE           ids of a file in 64 KB documents against tiktoken (and HF for its first 4 MB)
  tokenizer_parity.py train FILE VOCAB           merges against HF (hf) and rustbpe (bytes), then ids of the trained one against HF
VOCABS is a folder with {gpt2,cl100k_base,o200k_base}.{tiktoken,json}; pip packages: tokenizers tiktoken rustbpe. Needs `make` (build/release/libdpipe.so);
DPIPE_LIB names another. Exit status 1 at the first difference, 77 when a package or the library is missing."""
import base64, ctypes as C, json, os, random, re, subprocess, sys, tempfile, time

try:
    import rustbpe, tiktoken
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers, decoders
except ImportError as e:
    print('skip tokenizer_parity:', e); print('0 passed, 0 failed, 1 skipped'); sys.exit(0 if len(sys.argv) == 1 else 77)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DATA = os.path.join(ROOT, 'tests/data/tokenizer')
SPLITS = ['gpt2', 'cl100k', 'o200k', 'qwen2', 'qwen3.5', 'tekken', 'superbpe', 'deepseek-v3']  # in the order of enum dp_split
TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SUF = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UP, LOW = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
PAT = {'gpt2': r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
       'cl100k': SUF + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + TAIL,
       'o200k': rf"[^\r\n\p{{L}}\p{{N}}]?{UP}*{LOW}+{SUF}?|[^\r\n\p{{L}}\p{{N}}]?{UP}+{LOW}*{SUF}?|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
       'qwen2': SUF + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + TAIL,
       'qwen3.5': SUF + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
       'tekken': rf"[^\r\n\p{{L}}\p{{N}}]?{UP}*{LOW}+|[^\r\n\p{{L}}\p{{N}}]?{UP}+{LOW}*|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
       'deepseek-v3': [r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
                       r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""],
       'superbpe': r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]{2,}[\r\n/]*| +(?!\S)"}
# Other spellings: each must cut as the one above (a tokenizer.json that has one gets the scanner).
SPELT = [('gpt2', r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"), ('gpt2', r"'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"),
         ('gpt2', r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"),
         ('cl100k', r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"),
         ('qwen2', r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"),
         ('qwen3.5', PAT['qwen3.5'].replace(r'\r', '\r').replace(r'\n', '\n'))]
# What lies between two matches is a piece in Hugging Face's Split; rustbpe and tiktoken drop it, so there the pattern takes it as its last alternative.
WHOLE = {k: p + rf'|(?:(?!{p})[\s\S])+' if k == 'superbpe' else p for k, p in PAT.items()}

# ---- texts ----
ATOMS = ([' ', '  ', '   ', '\n', '\n\n', '\r\n', '\r', '\t', '\v', '\f', '\x1c', '\x1f', '\u0085', '\u00a0', '\u1680', '\u180e', '\u2003', '\u200b',
          '\u2028', '\u2029', '\u202f', '\u205f', '\u3000', '\ufeff', '\u2060'] * 3
         + ["'", "''", "'s", "'S", "'ſ", "'t", "'re", "'RE", "'rE", "'ve", "'vE", "'ll", "'LL", "'l", "'d", "'m", "'r", "'v", "’s", "`s"] * 2
         + list('aAzZbsSſ') + ['the', 'The', 'THE', 'don', 'camelCase', 'HTMLParser', 'iPhone', 'ABCdef', 'x' * 20]
         + ['1', '12', '123', '1234', '12345678', '٣', '५', '½', 'Ⅷ', '²', '①', '〇', '𝟘', '𐄇', '፲']
         + list('.,;!?/\\-_=+#@*()[]{}<>|~$€%^&"') + ['//', '/\n', '!\n/', '...', '---', '{\n', '});\n\n', '/*', '*/', '!\r\n', '?/\r/']
         + ['é', 'e\u0301', 'É', 'ß', 'ẞ', 'ñ', 'ø', 'ǅ', 'ǲ', 'ᾈ', 'ʰ', 'ˇ', 'ⁿ', 'ª', 'Ω', 'я', 'Я', 'Привет', 'ЁЖ', 'İ', 'ı', 'K']
         + ['中', '日本語', 'ひらがな', 'カタカナ', '한국어', '한', 'ไทย', 'ภาษา', 'हिन्दी', 'क्', 'שלום', 'עִבְרִית', 'العربية', 'مُ', 'ქართული', 'Ⴀ', 'Ა', 'ა']
         + ['\u0301', '\u0327\u0308', '\u20dd', '\u093f', '\u0903', '\ufe0f', '\U000e0100', '\u1ab0', '\u0345']
         + ['😀', '👩\u200d👩\u200d👧', '🇩🇪', '❤️', '👍🏽', '\u200d', '©', '™', '°', '→', '∑', '─', '\u00ad', '\x00', '\x7f', '\x80', '\ue000', '\U0010ffff', '\ufffd']
         + ['\U00031350', '\U0002ebf0', '\u1c89', '\u1c8a', '\U0001e4d0', '\U00010d40', '\U000105c0', '\ua7cb', '\ua7da', '\U00016d40', '\U0001d400', '\U0001d4b6', '\U00010400', '\U00010428', '\u0378'])


def random_text(r):
    k = r.choice([1, 2, 2, 3, 3, 4, 5, 6, 8, 12, 20])
    if r.random() < .15:  # few atoms, much repeated: runs and their ends
        few = r.sample(ATOMS, 2)
        return ''.join(r.choice(few) for _ in range(k * 2))
    if r.random() < .1:
        return ''.join(chr(c) for c in (r.choice([r.randrange(0x3000), r.randrange(0xd800), r.randrange(0x10000, 0x32400)]) for _ in range(k))
                       if not 0xd800 <= c < 0xe000 and c not in UNICODE_17)
    return ''.join(r.choice(ATOMS) for _ in range(k))


UNICODE_17 = set()  # code points whose class differs between the engines and Unicode 16 would go here; none is known

# ---- references ----
ENC = {'gpt2': 'gpt2', 'cl100k_base': 'cl100k', 'o200k_base': 'o200k'}


def hf_split(pattern):
    each = [pre_tokenizers.Split(Regex(p), 'isolated') for p in ([pattern] if isinstance(pattern, str) else pattern)]
    return each[0] if len(each) == 1 else pre_tokenizers.Sequence(each)


def hf_pieces(split, text, _cache={}):
    if split not in _cache: _cache[split] = hf_split(PAT.get(split, split))
    ends, at = [], 0
    for piece, _ in _cache[split].pre_tokenize_str(text):
        at += len(piece.encode()); ends.append(at)
    assert at == len(text.encode())
    return ends


def ranks(path):
    return {base64.b64decode(a): int(b) for a, b in (l.split() for l in open(path, 'rb'))}


def tik(folder, enc):
    from tiktoken_ext import openai_public as op
    op.load_tiktoken_bpe = lambda *a, **k: ranks(f'{folder}/{enc}.tiktoken')
    return tiktoken.Encoding(**op.ENCODING_CONSTRUCTORS['r50k_base' if enc == 'gpt2' else enc]())


def hf_train(texts, vocab, split, specials=('<|endoftext|>',)):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = (pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True) if split == 'gpt2' else pre_tokenizers.Sequence(
        [hf_split(PAT[split]), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]))
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocab, min_frequency=0, special_tokens=list(specials), show_progress=False,
                                                     initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return t


def hf_merges(t):
    d = json.loads(t.to_str())
    v = d['model']['vocab']
    return [(v[a], v[b], v[a + b]) for a, b in (m if isinstance(m, list) else m.split(' ') for m in d['model']['merges'])]

# ---- dpipe ----
class Span(C.Structure): _fields_ = [('ptr', C.c_char_p), ('len', C.c_size_t)]
class Err(C.Structure): _fields_ = [('code', C.c_int), ('sys', C.c_int), ('line', C.c_int), ('file', C.c_char_p), ('msg', C.c_char * 480)]
class Ids(C.Structure): _fields_ = [('ptr', C.POINTER(C.c_uint32)), ('len', C.c_size_t), ('cap', C.c_size_t)]
class Opts(C.Structure): _fields_ = [('vocab_size', C.c_int64), ('split', C.c_int), ('tie', C.c_int), ('special_tokens', C.c_char_p),
                                     ('min_count', C.c_int64), ('token_bytes_max', C.c_int64), ('rest', C.c_char * 256)]  # rest: options that are off when zero


def span(b): return Span(b, len(b))


class Dpipe:
    def __init__(self):
        path = os.environ.get('DPIPE_LIB', os.path.join(ROOT, 'build/release/libdpipe.so'))
        if not os.path.exists(path): print('skipped: no', path); sys.exit(77)
        self.l, self.e = C.CDLL(path), Err()

    def call(self, name, *a):
        rc = getattr(self.l, name)(*a, C.byref(self.e))
        if rc < 0: raise RuntimeError(f'{name}: {self.e.msg.decode()}')

    def pieces(self, split, b):
        ends, pos, out = (C.c_size_t * 7)(), C.c_size_t(0), []
        self.l.dp_split_run.restype = C.c_size_t
        while n := self.l.dp_split_run(SPLITS.index(split), span(b), C.byref(pos), ends, C.c_size_t(7)): out += ends[:n]
        return out

    def load(self, path, split=None):
        t = C.c_void_p()
        self.call('dp_tokenizer_load_file', C.byref(t), path.encode(), split.encode() if split else None)
        return t

    def encoder(self, t):
        c = C.c_void_p()
        self.call('dp_encoder_open', C.byref(c), t, C.c_size_t(0), 0)
        return c

    def encode(self, c, b):
        ids = Ids()
        self.call('dp_encode', c, span(b), C.byref(ids))
        out = ids.ptr[:ids.len] if ids.len else []
        self.l.dp_ids_release(C.byref(ids))
        return out

    def train(self, texts, vocab, split, tie, specials=b'<|endoftext|>'):
        c, t = C.c_void_p(), C.c_void_p()
        self.call('dp_bpe_counter_open', C.byref(c), SPLITS.index(split))
        for x in texts: self.call('dp_bpe_counter_add', c, span(x.encode()))
        o = Opts(vocab, SPLITS.index(split), tie, specials, 1, 0)
        self.call('dp_bpe_train', C.byref(t), C.byref(o), c, None, None)
        self.l.dp_bpe_counter_close(c)
        return t

    def merges(self, t):
        a, b, d, out = C.c_uint32(), C.c_uint32(), C.c_uint32(), []
        for i in range(self.l.dp_tokenizer_merges(t)):
            self.l.dp_tokenizer_merge(t, i, C.byref(a), C.byref(b), C.byref(d)); out.append((a.value, b.value, d.value))
        return out


def same(what, got, want):
    if got == want: return
    k = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
    print(f'DIFFERENT {what}: at {k}: dpipe {got[k:k+5]} reference {want[k:k+5]} (lengths {len(got)} {len(want)})'); sys.exit(1)

# ---- commands ----
def pieces(texts):
    d = Dpipe()
    for s in SPLITS:
        for x in texts: same(f'{s} pieces of {x!r}', d.pieces(s, x.encode()), hf_pieces(s, x))
        print(f'{len(texts)} texts: pieces of {s} equal HF')
    for s, pattern in SPELT:
        for x in texts: same(f'{s} pieces of {x!r} by {pattern!r}', d.pieces(s, x.encode()), hf_pieces(pattern, x))


def cases(folder, n, seed):
    d, r = Dpipe(), random.Random(seed)
    texts = [random_text(r) for _ in range(n)]
    pieces(texts)
    for enc in ENC:
        t, h = tik(folder, enc), Tokenizer.from_file(f'{folder}/{enc}.json')
        c, cj = d.encoder(d.load(f'{folder}/{enc}.tiktoken')), d.encoder(d.load(f'{folder}/{enc}.json'))
        for x in texts:
            same(f'{enc} ids of {x!r} (.tiktoken, tiktoken)', d.encode(c, x.encode()), t.encode_ordinary(x))
            same(f'{enc} ids of {x!r} (tokenizer.json, HF)', d.encode(cj, x.encode()), h.encode(x, add_special_tokens=False).ids)
        for x in ('a' * 100000, ' ' * 99999, 'ab' * 3000, '中' * 5000, '=' * 7777, 'aA' * 4000, '\n' * 5000 + ' ' * 5000, '9' * 1000, '\t x' * 999):
            same(f'{enc} ids of a long text', d.encode(c, x.encode()), t.encode_ordinary(x))
        print(f'{n} texts: ids of {enc} equal tiktoken and HF')


def docs(path):
    b, i, out = open(path, 'rb').read(), 0, []
    while i < len(b):
        j = b.find(b'\n', i + 65536); j = len(b) if j < 0 else j + 1
        out.append(b[i:j].decode('utf-8', 'replace')); i = j
    return out


def text(folder, path):
    d, D = Dpipe(), docs(path)
    for enc in ENC:
        t, h, n = tik(folder, enc), Tokenizer.from_file(f'{folder}/{enc}.json'), 0
        c, cj = d.encoder(d.load(f'{folder}/{enc}.tiktoken')), d.encoder(d.load(f'{folder}/{enc}.json'))
        for i, x in enumerate(D):
            got = d.encode(c, x.encode()); n += len(got)
            same(f'{enc} document {i}', got, t.encode_ordinary(x))
            if i < 64: same(f'{enc} document {i} (HF)', d.encode(cj, x.encode()), h.encode(x, add_special_tokens=False).ids)
        print(f'{enc}: {n} ids of {len(D)} documents equal tiktoken (first 64: HF too)')


def train(path, vocab):
    d, D = Dpipe(), docs(path)
    for split in ('gpt2', 'o200k'):
        h = hf_train(D, vocab, split)
        t0 = time.process_time(); t = d.train(D, vocab, split, 0); t1 = time.process_time()
        same(f'{split} merges (HF)', d.merges(t), hf_merges(h))
        c = d.encoder(t)
        for i, x in enumerate(D[:64]): same(f'{split} ids of document {i}', d.encode(c, x.encode()), h.encode(x, add_special_tokens=False).ids)
        print(f'{split}: {len(d.merges(t))} merges equal HF, ids of {min(64, len(D))} documents too; dpipe {t1 - t0:.2f} cpu s')
    for split in ('gpt2', 'cl100k'):
        r = rustbpe.Tokenizer(); r.train_from_iterator(iter(D), vocab, pattern=WHOLE[split])
        t = d.train(D, vocab, split, 1, b'')
        want = sorted(((bytes(b), i) for b, i in r.get_mergeable_ranks()), key=lambda x: x[1])
        d.l.dp_tokenizer_bytes.restype = Span
        got = [(C.string_at(s.ptr, s.len) if False else C.string_at(C.cast(C.byref(s), C.POINTER(C.c_void_p))[0], s.len), i)
               for i in range(d.l.dp_tokenizer_size(t)) for s in [d.l.dp_tokenizer_bytes(t, i)]]
        same(f'{split} ranks (rustbpe)', got, want)
        print(f'{split}: {len(want)} ranks equal rustbpe')


# ---- the judge: through the program, as scripts of others call it ----
DPIPE = os.environ.get('DPIPE', os.path.join(ROOT, 'build/release/dpipe'))
LEVELS = ['scalar', 'avx2', 'avx512']
SPACES = [chr(c) for c in (9, 10, 11, 12, 13, 32, 0x85, 0xa0, 0x1680, *range(0x2000, 0x200b), 0x2028, 0x2029, 0x202f, 0x205f, 0x3000)]
NO_SPACES = ['\u180e', '\u200b', '\u200c', '\u200d', '\u2060', '\ufeff', '\x1c', '\x1d', '\x1e', '\x1f', '\x00', '\x7f', '\u2800', '\u3164']
CONTRACTIONS = ["'" + x for y in ('s', 't', 'm', 'd', 'll', 've', 're') for x in {a + b for a in (y[0], y[0].upper(), '\u017f') for b in ([y[1], y[1].upper(), '\u017f', ''] if y[1:] else [''])}]
SPECIALS = ['<|endoftext|>', '<|fim_prefix|>', '<|fim_middle|>', '<|fim_suffix|>', '<|endofprompt|>', '<|im_start|>', '<|endoftext|', '|endoftext|>', '<|endof', '<|', '|>', '<|endoftext |>', '<|ENDOFTEXT|>']
EMOJI = ['👩\u200d👩\u200d👧\u200d👦', '🏳️\u200d🌈', '👍🏽', '🇩🇪🇫🇷🇺', '❤️\u200d🔥', '1️⃣', '#️⃣', '🏴󠁧󠁢󠁥󠁮󠁧󠁿', '🫠', '🫨', '🫩', '🪾']
SCRIPTS = ['今日は世界', '日本語テキスト、です。', 'ｶﾀｶﾅ', '한국어 텍스트', '\u1112\u1161\u11ab\u1100\u1173\u11af', 'ภาษาไทยไม่มีช่องว่าง', 'العَرَبِيَّةُ', 'مرحبا بالعالم', 'हिन्दी क्षत्रिय', 'தமிழ்', 'বাংলা', 'עִבְרִית', 'ἀρχῇ ἦν', 'Ǆǅǆ', 'ﬁﬂ',
           'ÀÉÎõü', 'ИнтерНет', 'ᎣᏏᏲ', 'ꭰꮳ', 'ⵜⴰⵎⴰⵣⵉⵖⵜ', '𝕳𝖊𝖑𝖑𝖔', '𝟏𝟐𝟑𝟒', '𐐀𐐨', '𞤀𞤢', 'ꙀꙁꙂ', 'ⰀⰰⰁ', '٠١٢٣٤٥', '೧೨೩', 'ⅠⅡⅢⅳ', '㊀㊁', '½⅓¼', 'ªº', 'ʰʷˠ', '々〆〇', 'ーー', 'ﾞﾟ', 'ㄅㄆㄇ', 'ꀀꀁ', '᠀ᠮᠣᠩᠭᠣᠯ', 'ལྷ་ས', 'မြန်မာ', 'ខ្មែរ']


def code_points():
    return [c for c in range(0x110000) if not 0xd800 <= c < 0xe000]


def one_of_each(r):
    """Every code point beside letters, digits, spaces, apostrophes, newlines and itself; plain, and past the first window."""
    for cp in code_points():
        c = chr(cp)
        mixed = f"{c}a{c}B{c} {c} A{c}1{c}2 {c}'{c}'s{c}'LL\n{c}\r\n {c}!{c}/{c}{c}"
        yield mixed
        if cp % 16 == 0: yield c
        if cp % 8 == r.randrange(8): yield 'w' * r.randrange(64) + mixed + ' tail of plain words, to fill up a whole window of 64 bytes and more' + mixed


def runs(r):
    """Long runs of one or two things, of lengths about the limits in the code."""
    edges = [1, 2, 3, 4, 7, 8, 14, 15, 16, 17, 31, 32, 33, 47, 48, 49, 50, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 1023, 1024, 1025, 4095, 4097]
    things = (SPACES + NO_SPACES + list('aAzZ09.,\'"/-_=<|') + ['ab', 'aB', 'é', 'e\u0301', '\u0301', 'ß', 'ǅ', 'ʰ', '中', 'ひ', 'ไ', 'क्', '한', 'ａ', '𝕳', '٣', '½', '😀', '\U0010ffff', '\ue000', '\u0378', "'s", "'\u017f", "n't", '\r\n', ' \n', '\n ', ' \t',
               '\t\n', ' a', 'a ', '1a', 'a1', '/\n', '!\n', '\n/', ' /', "' ", " '", '\u200d😀', '\u3000\n', '\u2028 ', 'the', ' the', 'xyzzyq', 'aaaab', '0123456789', '<|endoftext|>'])
    ends = ['', ' ', '\n', 'a', 'A', '1', '.', '/', "'", '\u0301', '中', ' \n', '\n ', "'s", '\u3000', '\u00a0x']
    for t in things:
        for n in edges:
            yield t * n + r.choice(ends)
            yield r.choice(ends) + t * n + r.choice(ends)
    for t in things:
        u = r.choice(things)
        for n in r.sample(edges, 6): yield r.choice(ends) + t * n + u * r.choice(edges[:20]) + r.choice(ends)


def pairs(r):
    """All pairs and triples of representatives of every class."""
    reps = SPACES + NO_SPACES[:4] + ['a', 'A', 'é', 'É', 'ǅ', 'ʰ', '中', 'ª', '\u0301', '\u0903', '\u20dd', '1', '٣', '½', 'Ⅷ', '.', "'", '/', '_', '$', '€', '😀', '\u200d', '\x00', '\ue000', '\u0378', '\U0010ffff', 's', 'S', '\u017f', 'l', 've', 'RE', '<|', '<|endoftext|>']
    for a in reps:
        for b in reps:
            yield a + b
            yield ' '.join(a + b + c for c in reps)
            yield ''.join(a + b + c for c in reps)


def soup(r):
    """Random texts of everything, of all lengths, at all places within windows."""
    every = [ATOMS, SPACES, NO_SPACES, CONTRACTIONS, SPECIALS, EMOJI, SCRIPTS, list('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'), list('0123456789'), ['the', ' the', ' of', 'ing', ' function', 'return', '    ', '\n    ', '();\n', '://']]
    while True:
        k = r.random()
        if k < .3: yield random_text(r)
        elif k < .6:
            kinds = r.sample(every, r.randrange(1, 4))
            yield ''.join(r.choice(r.choice(kinds)) for _ in range(r.choice([3, 8, 15, 30, 60, 120])))
        elif k < .75:
            few = [r.choice(r.choice(every)) for _ in range(r.randrange(2, 5))]
            yield ''.join(r.choice(few) for _ in range(r.choice([10, 40, 80, 200])))
        elif k < .85:
            lo = r.randrange(0, 0x33000); few = [c for c in range(lo, lo + r.choice([16, 256, 4096])) if not 0xd800 <= c < 0xe000 and c < 0x110000]
            yield ''.join(chr(r.choice(few)) + (r.choice(' \n\'1aA') if r.random() < .2 else '') for _ in range(r.randrange(1, 100))) if few else ''
        elif k < .95:
            few = r.choice(every)  # a filler, so that what follows lies anywhere in a window
            yield r.choice(['x', ' ', '\n', '.', '1', 'é', '中', 'word ']) * r.randrange(0, 80) + ''.join(r.choice(few) for _ in range(r.randrange(1, 30)))
        else:
            base = ''.join(r.choice(r.choice(every)) for _ in range(30))
            yield base[:r.randrange(len(base) + 1)] + r.choice(r.choice(every)) + base[r.randrange(len(base) + 1):]


def big(r):
    for n in (65535, 65537, 100000):
        for t in ['a', 'A', ' ', '\n', '\t', '9', 'ab', '=', '中', 'é', '\u0301', 'e\u0301', ' \n', '\r\n', "' ", '\u3000', '😀', 'ไ', '<|', 'aB', 'abc def']: yield (t * n)[:n] + r.choice(['', ' ', 'x', '\n', 'Z'])
    for a in ('abcdefghijklmnopqrstuvwxyz', 'ab', 'ABab', '0123456789abcdef', 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/', ' \n\t\r', '中日本語文字', 'กขคงจฉชซ', '\u0300\u0301\u0302', "'stmdlvre"):
        for _ in range(3): yield ''.join(r.choice(a) for _ in range(60000))


def run_program(args, data, level):
    threads = [] if args[0] == 'train-bpe' else ['--threads', str(random.choice([1, 1, 2, 5]))]
    p = subprocess.run([DPIPE, args[0], '--cpu', level, *threads, *args[1:]], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if p.returncode: print('DIFFERENT: the program failed:', p.returncode, p.stderr.decode(errors='replace')[:2000]); sys.exit(1)
    return p.stdout


def b64_lines(texts):
    return b''.join(b'{"b64":"' + base64.b64encode(x if isinstance(x, bytes) else x.encode()) + b'"}\n' for x in texts)


def program_ids(file, texts, special, levels, split=None, more=()):
    """Lists of ids; all levels must print the same."""
    data, out = b64_lines(texts), None
    for v in levels:
        got = run_program(['tokenize', '--tokenizer', file, '--jsonl', '--b64-field', 'b64', '--special', special, *(['--split', split] if split else []), *more], data, v)
        if out is not None and out != got:
            k = next(i for i, (a, b) in enumerate(zip(out.split(b'\n'), got.split(b'\n'))) if a != b)
            print(f'DIFFERENT: {levels[0]} and {v} on {texts[k]!r}'); sys.exit(1)
        out = got
    lists = [json.loads(l)['ids'] for l in out.split(b'\n')[:-1]]
    assert len(lists) == len(texts), (len(lists), len(texts))
    return lists, out


def levels_here():
    return [v for v in LEVELS if v == 'scalar' or subprocess.run([DPIPE, 'help', '--cpu', v], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0]


def back(file, texts, out, levels):
    """detokenize gives the texts again."""
    got = run_program(['detokenize', '--tokenizer', file, '--jsonl'], out, levels[-1])
    for x, l in zip(texts, got.split(b'\n')):
        if json.loads(l)['text'] != x: print(f'DIFFERENT: detokenize gives {l!r} for {x!r}'); sys.exit(1)


# Other models' forms of tokenizer.json, on the vocabulary of cl100k: pattern, normalizer, ignore_merges.
VARIANTS = {'llama3': (PAT['cl100k'], None, True), 'qwen2': (PAT['qwen2'], {'type': 'NFC'}, False), 'qwen2-plain': (PAT['qwen2'], None, False), **{s: (PAT[s], None, False) for s in ('qwen3.5', 'tekken', 'deepseek-v3')}}


def variant_file(folder, name, to):
    pattern, normalizer, ignore = VARIANTS[name]
    d = json.load(open(f'{folder}/cl100k_base.json'))
    d['normalizer'], d['model']['ignore_merges'] = normalizer, ignore
    split = lambda p: {'type': 'Split', 'pattern': {'Regex': p}, 'behavior': 'Isolated', 'invert': False}
    d['pre_tokenizer'] = {'type': 'Sequence', 'pretokenizers': [*map(split, pattern if isinstance(pattern, list) else [pattern]), {'type': 'ByteLevel', 'add_prefix_space': False, 'trim_offsets': False, 'use_regex': False}]}
    if name == 'llama3': d['model']['merges'] = [' '.join(m) if isinstance(m, list) else m for m in d['model']['merges']]
    with open(to, 'w') as f: json.dump(d, f, ensure_ascii=name != 'qwen2')
    return to


class Judge:
    """One encoding: a batch of texts through everything."""
    def __init__(self, folder, enc, scratch):
        self.enc, self.levels, self.done, self.bytes = enc, levels_here(), 0, 0
        self.t, self.rank = (None, None) if enc in VARIANTS else (tik(folder, enc), f'{folder}/{enc}.tiktoken')
        self.json = variant_file(folder, enc, f'{scratch}/{enc}.json') if enc in VARIANTS else f'{folder}/{enc}.json'
        self.h = Tokenizer.from_file(self.json)

    def batch(self, texts, hf=True):
        if self.t: self.tiktoken(texts)
        if hf or not self.t:
            got, out = program_ids(self.json, texts, 'all', self.levels)
            if not self.h.normalizer: back(self.json, texts, out, self.levels)
            for x, a, b in zip(texts, got, self.h.encode_batch_fast(texts, add_special_tokens=False)):
                if a != b.ids: same(f'{self.enc} ids of {x[:4000]!r} (tokenizer.json, HF)', a, b.ids)
        self.done += len(texts); self.bytes += sum(len(x.encode()) for x in texts)

    def tiktoken(self, texts):
        plain, out = program_ids(self.rank, texts, 'none', self.levels)
        for x, a, b in zip(texts, plain, self.t.encode_ordinary_batch(texts, num_threads=1)):
            if a != b: same(f'{self.enc} ids of {x[:4000]!r} (.tiktoken, tiktoken)', a, b)
        back(self.rank, texts, out, self.levels)
        special, out = program_ids(self.rank, texts, 'all', self.levels)
        for x, a, b in zip(texts, special, self.t.encode_batch(texts, num_threads=1, allowed_special='all')):
            if a != b: same(f'{self.enc} ids of {x[:4000]!r} (specials)', a, b)
        back(self.rank, texts, out, self.levels)


def broken(r):
    """Bytes that are no UTF-8: cut characters, overlong forms, surrogates, anything."""
    bad = [b'\xff', b'\xc3', b'\xe4\xb8', b'\xf0\x9f\x98', b'\xed\xa0\x80', b'\xc0\xaf', b'\xf4\x90\x80\x80', b'\x80', b'\xe0\x80\x80', b'\xf5', b'\xed\xbf\xbf\xed', b'\xc2', b'\xe2\x80']
    for x in soup(r):
        b = bytearray(x.encode())
        for _ in range(r.choice([1, 2, 5, 20])):
            i = r.randrange(len(b) + 1)
            if r.random() < .5: b[i:i] = r.choice(bad)
            else: b[i:i + 1] = bytes([r.randrange(256)])
        yield bytes(b)


def bytes_back(j, texts):
    """Bytes come back as they were; and replaced, ids are tiktoken's of what Python decodes."""
    _, out = program_ids(j.rank, texts, 'none', j.levels)
    got = run_program(['detokenize', '--tokenizer', j.rank, '--jsonl', '--b64'], out, j.levels[-1])
    for x, l in zip(texts, got.split(b'\n')):
        if base64.b64decode(json.loads(l)['b64']) != x: print(f'DIFFERENT: detokenize --b64 gives {l!r} for {x!r}'); sys.exit(1)
    lossy, _ = program_ids(j.rank, texts, 'none', j.levels, more=['--utf8', 'replace'])
    for x, a, b in zip(texts, lossy, j.t.encode_ordinary_batch([x.decode(errors='replace') for x in texts], num_threads=1)): same(f'{j.enc} ids of {x!r} (--utf8 replace)', a, b)
    j.done += len(texts); j.bytes += sum(map(len, texts))


def chunks(it, n):
    out = []
    for x in it:
        out.append(x)
        if len(out) == n: yield out; out = []
    if out: yield out


def judge(folder, seconds, seed, encs):
    for enc in encs:
        scratch = tempfile.TemporaryDirectory()
        j, r = Judge(folder, enc, scratch.name), random.Random(seed)
        for g, size, hf in ((pairs, 2000, True), (runs, 500, True), (one_of_each, 50000, True), (big, 10, False), (soup, 4000, True), (broken, 4000, False)):
            if g is broken and not j.t: continue
            n0, b0, t0 = j.done, j.bytes, time.time()
            for texts in chunks(g(r), size):
                if g is broken: bytes_back(j, texts)
                else: j.batch(texts, hf)
                if g in (soup, broken) and time.time() - t0 > seconds: break
            print(f'{enc}: {g.__name__}: {j.done - n0} texts, {(j.bytes - b0) / 1e6:.1f} MB, levels {" ".join(j.levels)}: equal {" and ".join(["tiktoken"] * bool(j.t) + ["HF"] * (hf or not j.t))}', flush=True)


def whole(folder, path, encs):
    for enc in encs:
        t, n = tik(folder, enc), 0
        D = docs(path)
        with tempfile.TemporaryFile() as f:
            for x in D: f.write(b64_lines([x]))
            f.seek(0)
            p = subprocess.run([DPIPE, 'tokenize', '--tokenizer', f'{folder}/{enc}.tiktoken', '--jsonl', '--b64-field', 'b64'], stdin=f, stdout=subprocess.PIPE, check=True)
        for i, (x, l) in enumerate(zip(D, p.stdout.split(b'\n'))):
            got = json.loads(l)['ids']; n += len(got)
            if got != (want := t.encode_ordinary(x)): same(f'{enc} document {i}', got, want)
        print(f'{enc}: {n} ids of {len(D)} documents of {path} equal tiktoken', flush=True)


def small_corpus(r, files):
    """A list of texts (the units of text of a JSON lines file)."""
    k, n = r.randrange(12), r.choice([1, 2, 10, 100, 600])
    alphabets = ['ab', 'abc', 'aA', 'xyz ', 'ab \n', '01', '0123456789 ', '中日本 ', '中日本語文字書', 'กขค', 'é\u0301e ', '😀😁👩\u200d', '\u0300\u0301', "a's ", ' \n\t', '\r\n a', '\u3000\u00a0 x', 'äöüß', '\x00\x01a', '<|endoftext|>', '-=_ ', '한글 ']
    if k == 0: return [''.join(r.choice(r.choice(alphabets)) for _ in range(r.randrange(1, 60))) for _ in range(n)]
    if k == 1: return [r.choice('ab中é9.') * r.randrange(1, 70) + r.choice([' ', '', '\n']) for _ in range(n)]
    if k == 2: return [' '.join(r.choice(['aba', 'bab', 'abab', 'aab', 'abb', 'aaaa', 'aaa', 'bb']) for _ in range(r.randrange(1, 20))) for _ in range(n)]
    if k == 3: return [' '.join(''.join(r.choice('abcdefgh') for _ in range(r.randrange(1, 7))) for _ in range(30)) for _ in range(n)]  # nearly all tie
    if k == 4: return [soup_text for soup_text, _ in zip(soup(r), range(n))]
    if k == 5: return [random_text(r) for _ in range(n)]
    if k == 6:
        a = [chr(c) for c in range(r.randrange(0xa0, 0x2f000), 0x2ffff) if not 0xd800 <= c < 0xe000][:r.choice([4, 64, 1000])]
        return [''.join(r.choice(a) for _ in range(r.randrange(1, 40))) for _ in range(n)]
    if k == 7: return [str(r.randrange(10 ** r.randrange(1, 15))) + r.choice([' ', '.', ',', '\n']) for _ in range(n)]
    if k == 8: return [''.join(r.choice(r.choice(alphabets)[:3]) for _ in range(r.randrange(1, 3000)))]
    if k == 9: return [corpus(r.randrange(1 << 30), r.choice([300, 3000, 30000]))]
    if k == 10 and files:
        f = open(r.choice(files), 'rb'); f.seek(r.randrange(os.path.getsize(f.name)))
        return f.read(r.choice([1000, 20000, 200000])).decode(errors='replace').split('\n\n')
    return [r.choice(alphabets)[0] * r.randrange(1, 9) + r.choice(alphabets) for _ in range(n)]


def without(texts, specials):
    """What stands between the special tokens, each as a text of its own: dpipe doesn't learn from them, Hugging Face does."""
    cut = '|'.join(map(re.escape, sorted(specials, key=len, reverse=True)))
    return [y for x in texts for y in re.split(cut, x)] if specials else texts


def learn_one(r, texts, folder, count):
    vocab, split, unit = r.choice([257, 260, 300, 400, 1000, 100000]), r.choice(SPLITS), r.choice(['whole', 'lines', 'jsonl'])
    specials, learnt = r.choice([[], [], ['<|endoftext|>'], ['<|endoftext|>', '<pad>', '[SEP]']]), r.random() < .5
    if unit != 'jsonl': texts = [''.join(texts)]
    with open(f'{folder}/in', 'w', encoding='utf-8', newline='') as f:
        f.write(''.join(json.dumps({'text': x}, ensure_ascii=r.random() < .5) + '\n' for x in texts) if unit == 'jsonl' else texts[0])
    if unit == 'lines': texts = texts[0].encode().splitlines(True) and [x + '\n' for x in texts[0].split('\n')[:-1]] + [texts[0].split('\n')[-1]]
    if not any(texts): return
    flags = {'whole': ['--whole-file'], 'lines': [], 'jsonl': ['--jsonl', '--field', 'text']}[unit]
    probe = texts[:50] + [random_text(r) for _ in range(20)]
    for tie in ('hf', 'bytes') if isinstance(PAT[split], str) else ('hf',):  # rustbpe has one pattern
        sp = specials if tie == 'hf' else []
        v = max(vocab, 257 + len(sp))
        what = f'{tie} {split} {v} {unit} {sp} of {texts!r:.3000}'
        threads, level = str(r.choice([1, 2, 5])), r.choice(levels_here())
        run_program(['train-bpe', '--vocab-size', str(v), '--split', split, '--tie', tie, *flags, '--threads', threads, '--special-tokens', ','.join(sp), *(['--learn-special-text'] if learnt else []), '-o', f'{folder}/out', f'{folder}/in'], b'', level)
        got = [tuple(l.split(' ')) for l in open(f'{folder}/out/merges.txt', encoding='utf-8', newline='').read().split('\n')[1:-1]]
        if tie == 'hf':
            h = hf_train(texts if learnt else without(texts, sp), v, split, sp)
            d = json.loads(h.to_str())['model']
            same(f'merges {what}', got, [tuple(m) for m in d['merges']])
            if json.load(open(f'{folder}/out/vocab.json')) != d['vocab']: print(f'DIFFERENT vocab {what}'); sys.exit(1)
        else:
            t = rustbpe.Tokenizer(); t.train_from_iterator(iter(texts), v, pattern=WHOLE[split])
            want = sorted(((bytes(b), i) for b, i in t.get_mergeable_ranks()), key=lambda x: x[1])
            have = sorted(ranks(f'{folder}/out/tokenizer.tiktoken').items(), key=lambda x: x[1])
            same(f'ranks {what}', have, want)
            e = tiktoken.Encoding('x', pat_str=WHOLE[split], mergeable_ranks=dict(have), special_tokens={})
            a, _ = program_ids(f'{folder}/out/tokenizer.tiktoken', probe, 'none', [level], split)
            for x, y, z in zip(probe, a, e.encode_ordinary_batch(probe, num_threads=1)): same(f'ids of {x!r}, {what}', y, z)
            h = None
        mine = Tokenizer.from_file(f'{folder}/out/tokenizer.json')
        a, out = program_ids(f'{folder}/out/tokenizer.json', probe, 'all', [level])
        back(f'{folder}/out/tokenizer.json', probe, out, [level])
        for x, y in zip(probe, a):
            same(f'ids in HF of {x!r}, {what}', y, mine.encode(x, add_special_tokens=False).ids)
            if h: same(f'ids in the HF-trained of {x!r}, {what}', y, h.encode(x, add_special_tokens=False).ids)
        count[0] += 1; count[1] += len(got); count[2] += len(probe)


def learn(seconds, seed, files):
    r, count, t0 = random.Random(seed), [0, 0, 0], time.time()
    with tempfile.TemporaryDirectory() as folder:
        while time.time() - t0 < seconds: learn_one(r, small_corpus(r, files), folder, count)
    print('%d trainings, %d merges equal HF (hf) and rustbpe (bytes); %d texts have the same ids in HF and tiktoken' % tuple(count))


PARTS = ['The quick brown fox jumps over the lazy dog. ', "It's what we've got, isn't it? They'll say I'm wrong; you'd agree.\n", 'In 2024, 1,234,567 people paid $3.99 each.\n',
         'Der schnelle braune Fuchs springt über den faulen Hund; größere Häuser, süße Äpfel.\n', 'Le cœur a ses raisons que la raison ne connaît point. ',
         'El niño comió piñas en la montaña.\n', 'Съешь же ещё этих мягких французских булок, да выпей чаю.\n', 'Η γρήγορη αλεπού πηδά πάνω από το σκυλί. ',
         '色は匂へど散りぬるを我が世誰ぞ常ならむ。', '天地玄黄宇宙洪荒。日月盈昃辰宿列张。\n', '다람쥐 헌 쳇바퀴에 타고파. ', 'คนไทยรักภาษาไทย ', 'हिन्दी में लिखा हुआ वाक्य। ',
         'نص عربي قصير للاختبار. ', 'עברית פשוטה לבדיקה.\n', '🙂🚀👩‍💻 🇫🇷 ✅\n', 'for (int i = 0; i < n; i++) {\n    sum += a[i] * b[i];\n}\n',
         'def f(x):\n\treturn {"key": x, "none": None}  # comment\n\n', '<div class="row">\n  <p>Hello, &amp; welcome!</p>\n</div>\n', 'SELECT id, name FROM users WHERE age >= 21;\r\n',
         'https://example.org/path/to/page?query=1&x=%20#top ', 'aaaaaaaaaaaa bbbbbbbb abababababab ', 'XMLHttpRequest getElementById innerHTML snake_case_name ', '   \n\n\n\t\t  ',
         'lowercase UPPERCASE MixedCase iOS macOS ', '3.14159265358979 0x1F 1e-9 ½ ² Ⅷ\n']
WORDS = 'token merge corpus language model data train shard vocabulary pair count byte rank text learn order stable hash memory thread fast exact rule split piece'.split()


def corpus(seed=11, size=60000):
    r, out = random.Random(seed), []
    while sum(len(x.encode()) for x in out) < size:
        out.append(r.choice(PARTS) if r.random() < .55 else ' '.join(r.choice(WORDS) + r.choice(['', 's', 'ing', 'ed', 'er']) for _ in range(r.randrange(3, 12))) + '.' + r.choice([' ', '\n']))
    return ''.join(out)


def frozen():
    os.makedirs(DATA, exist_ok=True)
    text = corpus()
    open(f'{DATA}/corpus.txt', 'w', encoding='utf-8', newline='').write(text)
    r = random.Random(5)
    texts = sorted({random_text(r) for _ in range(420)})
    for s in SPLITS:  # hex of the text, ends of its pieces
        with open(f'{DATA}/split_{s}.txt', 'w') as f:
            for x in texts: f.write(f"{x.encode().hex()} {','.join(map(str, hf_pieces(s, x)))}\n")
    for s in ('gpt2', 'o200k'):
        h = hf_train([text], 1500, s)
        with open(f'{DATA}/merges_hf_{s}.txt', 'w') as f:
            for m in hf_merges(h): f.write('%d %d %d\n' % m)
        if s == 'o200k': continue
        with open(f'{DATA}/hf.json', 'w', encoding='utf-8') as f: json.dump(json.loads(h.to_str()), f, ensure_ascii=False, separators=(',', ':'))
        with open(f'{DATA}/ids_hf.txt', 'w') as f:
            for x in texts[::2] + [text[:3000]]: f.write(f"{x.encode().hex()} {','.join(map(str, h.encode(x, add_special_tokens=False).ids))}\n")
    t = rustbpe.Tokenizer(); t.train_from_iterator(iter([text]), 1500, pattern=PAT['cl100k'])
    ranks = {bytes(b): i for b, i in t.get_mergeable_ranks()}
    with open(f'{DATA}/rust.tiktoken', 'wb') as f:
        for b, i in sorted(ranks.items(), key=lambda x: x[1]): f.write(base64.b64encode(b) + b' %d\n' % i)
    e = tiktoken.Encoding('rust', pat_str=PAT['cl100k'], mergeable_ranks=ranks, special_tokens={})
    with open(f'{DATA}/ids_tiktoken.txt', 'w') as f:
        for x in texts[::2] + [text[:3000], 'token' * 40, 'ab' * 200]: f.write(f"{x.encode().hex()} {','.join(map(str, e.encode_ordinary(x)))}\n")


if __name__ == '__main__':
    m, a = (sys.argv[1:2] or [''])[0], sys.argv[2:]
    if not m:
        r = random.Random(1)
        pieces([random_text(r) for _ in range(5000)])
        train(f'{DATA}/corpus.txt', 1500)
        print(f'{len(SPLITS) + len(SPELT) + 4} passed, 0 failed')
    elif m == 'frozen': frozen()
    elif m == 'cases': cases(a[0], int(a[1]) if len(a) > 1 else 3000, int(a[2]) if len(a) > 2 else 1)
    elif m == 'judge': judge(a[0], int(a[1]) if len(a) > 1 else 60, int(a[2]) if len(a) > 2 else 1, a[3:] or ENC)
    elif m == 'whole': whole(a[0], a[1], a[2:] or ENC)
    elif m == 'learn': learn(int(a[0]) if a else 60, int(a[1]) if len(a) > 1 else 1, a[2:])
    elif m == 'text': text(a[0], a[1])
    elif m == 'train': train(a[0], int(a[1]))
    else: print(__doc__); sys.exit(64)
