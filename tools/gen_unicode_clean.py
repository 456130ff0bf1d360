#!/usr/bin/env python3
"""Write base/unicode_tables.c and clean/word_tables.c.

usage: gen_unicode_clean.py spacy_en_rules.json    (run from the root of the tree)
Character properties and NFC data come from this Python's unicodedata; the character classes and special
cases of the word splitter from spaCy's English tokenizer data (MIT), which isn't kept in the tree.
The tables are committed: nobody needs this script to build."""
import json, re, sys, unicodedata as u

rules = json.load(open(sys.argv[1], encoding='utf-8'))
N = 0x110000
chars = [chr(c) for c in range(N)]

# datatrove's PUNCTUATION: a listed string, control characters, and the marks that end sentences.
LISTED = '!/—”:％１〈&(、━\\【#%「」，】；+^]~“《„\';’{|∶´[=-`*．（–？！：$～«〉,><》)?）。…@_."}►»'
CONTROLS = ''.join(map(chr, [x for a, b in ((0, 9), (11, 13), (13, 32), (127, 160)) for x in range(a, b)]))
TERMINAL = set(rules['sentencizer_punct_chars'])
# datatrove's TERMINAL_PUNCTUATION has these besides, from newer Unicode versions and fewer exceptions.
STOP = TERMINAL | set(map(chr, (0x61D, 0x61E, 0x837, 0x839, 0x83D, 0x83E, 0x17D4, 0x17D5, 0x17D6, 0x17D9, 0x17DA, 0x1B7D, 0x1B7E, 0x2E53, 0x2E54,
                                0x10F55, 0x10F56, 0x10F57, 0x10F58, 0x10F59, 0x10F86, 0x10F87, 0x10F88, 0x10F89, 0x11944, 0x11946, 0x11EF7,
                                0x11EF8, 0x11F43, 0x11F44, 0x16E98)))
GOPHER = set(LISTED) | set(CONTROLS) | STOP

def alternatives(pattern):
    """Split a regex at its top-level bars."""
    out, depth, cls, cur, i = [], 0, False, '', 0
    while i < len(pattern):
        c = pattern[i]
        if c == '\\':
            cur += pattern[i:i + 2]; i += 2; continue
        if cls: cls = c != ']'
        elif c == '[': cls = True
        elif c == '(': depth += 1
        elif c == ')': depth -= 1
        elif c == '|' and not depth:
            out.append(cur); cur = ''; i += 1; continue
        cur += c; i += 1
    return out + [cur]

prefix, suffix, infix = (alternatives(rules[k]) for k in ('prefix_search', 'suffix_search', 'infix_finditer'))
icons = next(p for p in prefix if p.startswith('^[\\u00A6'))[1:]
def lookbehind(p): return re.match(r'\(\?<=((?:\[[^\]]*\]|\(\?:[^)]*\)|[^)])*)\)', p).group(1)
def matcher(p):
    r = re.compile(p); return lambda c: bool(r.fullmatch(c))
single_pre = [p for p in prefix if '?!' not in p]
single_suf = [p for p in suffix if '?<' not in p]
comma = next(p for p in infix if ',(?=' in p)
dot = next(p for p in infix if r'\.(?=' in p)
alpha = re.match(r'\(\?<=(\[.*?\])\)', comma).group(1)
lower = re.match(r'\(\?<=(\[.*?\])\)', dot).group(1)
upper = re.search(r'\(\?=(\[.*?\])\)$', dot).group(1)
capdot = next(p for p in suffix if p.endswith(r'\.$') and p.startswith('(?<=[A-Z'))
capclass = re.match(r'\(\?<=(\[.*?\])\[', capdot).group(1)
lowdot = next(p for p in suffix if p.startswith('(?<=[0-9a-z'))
lowcls = re.compile(lowdot[:-3].replace('(?<=', '(?:', 1))  # without \.$

FLAGS = ['ALPHA', 'SPACE', 'W_ALPHA', 'W_LOWER', 'W_UPPER', 'ICON', 'GOPHER', 'NFC_SLOW', 'PREFIX', 'SUFFIX', 'TERMINAL',
         'PUNCT', 'INVISIBLE', 'W_BEFORE_DOT', 'W_CAP', 'STOP']
INVISIBLE = {0xAD, 0x200B, 0x2060, 0xFEFF, 0x180E}

def comp_table():
    comp = {}
    for c in range(N):
        d = u.decomposition(chars[c])
        if d and '<' not in d:
            p = [int(x, 16) for x in d.split()]
            if len(p) == 2 and u.normalize('NFC', chr(p[0]) + chr(p[1])) == chars[c]: comp[tuple(p)] = c
    return comp
comp = comp_table()
seconds = {b for _, b in comp} | set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))

m_icon, m_alpha, m_low, m_up, m_cap = map(matcher, (icons, alpha, lower, upper, capclass))
m_pre = [re.compile(p) for p in single_pre]; m_suf = [re.compile(p) for p in single_suf]
re_pre, re_suf = re.compile('|'.join(single_pre)), re.compile('|'.join(single_suf))

def flags(c):
    s = chars[c]
    if 0xD800 <= c < 0xE000: return 0
    slow = u.combining(s) or c in seconds or u.normalize('NFC', s) != s
    v = [s.isalpha(), s.isspace(), m_alpha(s), m_low(s), m_up(s), m_icon(s), s in GOPHER, slow,
         bool(re_pre.match(s)), bool(re_suf.match(s)), s in TERMINAL, u.category(s)[0] == 'P', c in INVISIBLE,
         bool(lowcls.fullmatch(s)), m_cap(s), s in STOP]
    return sum(1 << i for i, b in enumerate(v) if b)

def two_stage(out, name, kind, values):
    pages, index = {}, []
    for p in range(0, N, 256):
        t = tuple(values[p:p + 256]); index.append(pages.setdefault(t, len(pages)))
    assert len(pages) < 65536
    k = 'uint8_t' if len(pages) < 256 else 'uint16_t'
    array(out, f'const {k} {name}_page[{len(index)}]', index)
    array(out, f'const {kind} {name}_data[{len(pages) * 256}]', [v for t in pages for v in t])
    return k, len(index), len(pages) * 256

def array(out, decl, values):
    out.append(decl + ' = {')
    line = ''
    for v in values:
        s = f'{v},'
        if len(line) + len(s) > 99: out.append(line); line = ''
        line += s
    out.append(line); out.append('};')

HEAD = '/* clean/%s - generated by tools/gen_unicode_clean.py (Unicode %s); do not edit. */'
out = [HEAD % ('unicode_tables.c', u.unidata_version), '#include "base/unicode.h"', '']
a = two_stage(out, 'dp_uni_flags', 'uint16_t', [flags(c) for c in range(N)])
b = two_stage(out, 'dp_uni_ccc', 'uint8_t', [u.combining(s) for s in chars])
dec, pool = [], []
for c in range(N):
    if 0xAC00 <= c < 0xD7A4 or 0xD800 <= c < 0xE000: continue
    d = u.normalize('NFD', chars[c])
    if d != chars[c]: dec.append((c, len(pool), len(d))); pool += map(ord, d)
array(out, f'const struct dp_uni_decomp dp_uni_decomp[{len(dec)}]', ['{%d,%d,%d}' % t for t in dec])
array(out, f'const uint32_t dp_uni_pool[{len(pool)}]', pool)
cs = sorted((x, y, z) for (x, y), z in comp.items())
array(out, f'const struct dp_uni_comp dp_uni_comp[{len(cs)}]', ['{%d,%d,%d}' % t for t in cs])
# Decimal digits stand in rows of ten.
zeros = [c for c in range(N) if u.category(chars[c]) == 'Nd' and u.decimal(chars[c]) == 0]
assert sum(u.category(s) == 'Nd' for s in chars) == 10 * len(zeros) and all(u.decimal(chars[z + k]) == k for z in zeros for k in range(10))
array(out, f'const uint32_t dp_uni_zero[{len(zeros)}]', zeros)
open('base/unicode_tables.c', 'w').write('\n'.join(out) + '\n')

h = ['/* base/unicode.h - properties of characters: two-stage tables from Unicode %s.' % u.unidata_version, ' *',
 ' * Generated with base/unicode_tables.c by tools/gen_unicode_clean.py; do not edit. Read-only; any thread.',
 ' * Flags named W_ are the character classes of spaCy\'s English tokenizer; PREFIX and SUFFIX the single characters',
 ' * that it splits off a chunk; GOPHER is datatrove\'s PUNCTUATION and STOP its TERMINAL_PUNCTUATION, TERMINAL spaCy\'s sentence ends;',
 ' * ALPHA, SPACE, PUNCT are Python\'s isalpha, isspace and category P; NFC_SLOW marks what an NFC quick check can\'t pass:',
 ' * a combining class, or Quick_Check No or Maybe. */',
 '#ifndef DP_BASE_UNICODE_H', '#define DP_BASE_UNICODE_H', '', '#include <stdbool.h>', '#include <stdint.h>', '', 'enum dp_uni_flag {']
h += [f'    DP_UNI_{f} = 1 << {i},' for i, f in enumerate(FLAGS)] + ['};', '']
h += ['struct dp_uni_decomp {', '    uint32_t cp;', '    uint16_t at, len; /* full canonical decomposition in dp_uni_pool */', '};',
 'struct dp_uni_comp {', '    uint32_t first, second, composed; /* sorted by first, second */', '};',
 f'enum {{ DP_UNI_DECOMPS = {len(dec)}, DP_UNI_COMPS = {len(cs)}, DP_UNI_ZEROS = {len(zeros)} }};']
for n, t, (k, i, d) in (('dp_uni_flags', 'uint16_t', a), ('dp_uni_ccc', 'uint8_t', b)):
    h += [f'extern const {k} {n}_page[{i}];', f'extern const {t} {n}_data[{d}];']
h += [f'extern const struct dp_uni_decomp dp_uni_decomp[{len(dec)}];', f'extern const uint32_t dp_uni_pool[{len(pool)}];',
 f'extern const struct dp_uni_comp dp_uni_comp[{len(cs)}];',
 f'extern const uint32_t dp_uni_zero[{len(zeros)}]; /* the first of every ten decimal digits, ascending */', '',
 '/* cp must be at most 0x10FFFF. */',
 'static inline unsigned dp_uni(uint32_t cp)', '{', '    return dp_uni_flags_data[dp_uni_flags_page[cp >> 8] * 256u + (cp & 255)];', '}',
 '/* A decimal digit of any script (category Nd, Python\'s \\d)? */',
 'static inline bool dp_uni_digit(uint32_t cp)', '{', '    unsigned i = 0;',
 '    while (i + 1 < DP_UNI_ZEROS && dp_uni_zero[i + 1] <= cp) i++;', '    return cp - dp_uni_zero[i] < 10;', '}',
 'static inline unsigned dp_uni_class(uint32_t cp)', '{', '    return dp_uni_ccc_data[dp_uni_ccc_page[cp >> 8] * 256u + (cp & 255)];', '}',
 '', '#endif']
open('base/unicode.h', 'w').write('\n'.join(h) + '\n')

# Special cases: the text and the byte length of each token but the last.
def c_str(s): return '"' + ''.join('\\%03o' % b if b < 32 or b > 126 or b in b'"\\?' else chr(b) for b in s.encode()) + '"'
sp = sorted((k, v) for k, v in rules['rules'].items() if not k.isspace())
assert all(''.join(v) == k for k, v in sp)
w = [HEAD % ('word_tables.c', u.unidata_version), '#include "clean/words.h"', '',
 f'const struct dp_word_special dp_word_special[{len(sp)}] = {{']
for k, v in sp:
    lens = [len(t.encode()) for t in v]; assert len(lens) <= 4 and len(k.encode()) < 32, k
    w.append('    {%s, %d, {%s}},' % (c_str(k), len(k.encode()), ', '.join(map(str, lens + [0] * (4 - len(lens))))))
w.append('};')
units = next(p for p in suffix if p.startswith('(?<=[0-9])(?:km'))
units = sorted(set(re.search(r'\(\?:(.*)\)\$', units).group(1).split('|')), key=lambda x: (-len(x.encode()), x))
money = next(p for p in suffix if p.startswith('(?<=[0-9])(?:\\$'))
money = [m.replace('\\', '') for m in re.search(r'\(\?:(.*)\)\$', money).group(1).split('|')]
after = sorted(set(units + money), key=lambda x: (-len(x.encode()), x))
w.append(f'const char *const dp_word_after_digit[{len(after)}] = {{')
w += ['    %s,' % c_str(x) for x in after] + ['};']
open('clean/word_tables.c', 'w').write('\n'.join(w) + '\n')
print(len(sp), 'special cases', len(after), 'units', max(len(k.encode()) for k, _ in sp), len(GOPHER))
