#!/usr/bin/env python3
"""Write what the pre-tokenizers know of Unicode 16: the class of every code point, the script of every letter, or what Unicode 14 hadn't.
usage: python3 -m venv V && V/bin/pip install unicodedata2==16.0.0 fonttools==4.55.3
       V/bin/python tools/gen_unicode_tokenizer.py classes > tokenizer/split_tables.c
       V/bin/python tools/gen_unicode_tokenizer.py scripts > tokenizer/split_scripts.c
       V/bin/python tools/gen_unicode_tokenizer.py added > tokenizer/split_added.c       (V of a Python that has Unicode 14 itself: 3.11)
Classes in two stages: 256 code points a block, equal blocks shared, two 4-bit classes a byte (low half first). Scripts as sorted ranges.
tests/unit/test_split.c counts the code points of each class and knows some that older tables have otherwise."""
import sys
import unicodedata2 as ud

assert ud.unidata_version == '16.0.0', ud.unidata_version
# Unicode property White_Space (PropList.txt), which is what \s means to the reference engines.
SPACE = {*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
REST, UPPER, LOWER, CASELESS, MARK, NUMBER, BLANK, NEWLINE, SYMBOL = range(9)  # enum class_index in split_int.h
GENERAL = {'Lu': UPPER, 'Lt': UPPER, 'Ll': LOWER, 'Lm': CASELESS, 'Lo': CASELESS}


def class_of(cp):
    if cp in (10, 13):
        return NEWLINE
    if cp in SPACE:
        return BLANK
    cat = ud.category(chr(cp))
    return GENERAL.get(cat, {'M': MARK, 'N': NUMBER, 'P': SYMBOL, 'S': SYMBOL}.get(cat[0], REST))


def rows(values, n=32):
    values = list(values)
    return '\n'.join('    ' + ','.join(map(str, values[i:i + n])) + ',' for i in range(0, len(values), n))


def classes():
    blocks, index = {}, []
    for base in range(0, 0x110000, 256):
        cls = [class_of(cp) for cp in range(base, base + 256)]
        packed = bytes(cls[i] | cls[i + 1] << 4 for i in range(0, 256, 2))
        index.append(blocks.setdefault(packed, len(blocks)))
    assert len(blocks) <= 256
    return f'''/* tokenizer/split_tables.c - classes of code points, Unicode 16.0.0.
 * Made by tools/gen_unicode_tokenizer.py from unicodedata2 16.0.0; don't edit. Layout: split_int.h. */
#include "tokenizer/split_int.h"

const uint8_t dp_split_block_of[{len(index)}] = {{
{rows(index)}
}};

const uint8_t dp_split_blocks[{len(blocks)} * 128] = {{
{rows(b for k in blocks for b in k)}
}};
'''

def scripts():
    """Letters of the scripts Common and Inherited (and everything that is no letter) are of no script: they cut nothing."""
    from fontTools import unicodedata as ft
    assert ft.Scripts.__doc__ is None and 'Scripts-16.0.0' in open(ft.Scripts.__file__).read()
    names, ranges = {None: 0}, []
    for cp in range(0x110000):
        name = ft.script_name(ft.script(chr(cp))).replace(' ', '_') if ud.category(chr(cp))[0] == 'L' else None
        s = names.setdefault(None if name in ('Common', 'Inherited', 'Unknown') else name, len(names))
        if not ranges or ranges[-1][1] != s: ranges.append((cp, s))
    assert len(names) <= 256
    quoted = rows((f'"{n}"' for n in list(names)[1:]), 8)
    return f'''/* tokenizer/split_scripts.c - scripts of letters, Unicode 16.0.0.
 * Made by tools/gen_unicode_tokenizer.py from unicodedata2 16.0.0 and fonttools 4.55.3; don't edit. Layout: split_int.h. */
#include "tokenizer/split_int.h"

const size_t dp_split_script_ranges_count = {len(ranges)};
const uint32_t dp_split_script_ranges[{len(ranges)}] = {{
{rows((cp << 8 | s for cp, s in ranges), 16)}
}};

const size_t dp_split_script_count = {len(names)};
const char *const dp_split_script_names[{len(names)}] = {{
    "",
{quoted}
}};
'''


def added():
    """Code points that Unicode 14 (PCRE2 10.42) hasn't, by category and script."""
    import unicodedata
    from fontTools import unicodedata as ft
    assert unicodedata.unidata_version == '14.0.0', unicodedata.unidata_version
    ranges = []
    for cp in range(0x110000):
        c = chr(cp)
        if unicodedata.category(c) != 'Cn' or ud.category(c) == 'Cn': continue
        what = (ud.category(c), ft.script_name(ft.script(c)).replace(' ', '_'))
        if ranges and ranges[-1][1:] == (cp - 1, what): ranges[-1] = (ranges[-1][0], cp, what)
        else: ranges.append((cp, cp, what))
    lines = '\n'.join(f'    {{0x{a:X}, 0x{b:X}, "{c}", "{s}"}},' for a, b, (c, s) in ranges)
    return f'''/* tokenizer/split_added.c - code points of Unicode 16.0.0 that 14.0.0 hadn't, with their categories and scripts.
 * Made by tools/gen_unicode_tokenizer.py from unicodedata2 16.0.0, fonttools 4.55.3 and Python's unicodedata 14.0.0; don't edit. */
#include "tokenizer/split_int.h"

const size_t dp_split_added_count = {len(ranges)};
const struct dp_split_added dp_split_added[{len(ranges)}] = {{
{lines}
}};
'''


sys.stdout.write({'classes': classes, 'scripts': scripts, 'added': added}[sys.argv[1]]())
