#!/usr/bin/env python3
"""Write tokenizer/split_tables.c: the class of every code point, as the pre-tokenizers need it, for Unicode 16.
usage: python3 -m venv V && V/bin/pip install unicodedata2==16.0.0 && V/bin/python tools/gen_unicode_tokenizer.py > tokenizer/split_tables.c
Two stages: 256 code points a block, equal blocks shared, two 4-bit classes a byte (low half first)."""
import sys
import unicodedata2 as ud

assert ud.unidata_version == '16.0.0', ud.unidata_version
# Unicode property White_Space (PropList.txt), which is what \s means to the reference engines.
SPACE = {*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
OTHER, UPPER, LOWER, CASELESS, MARK, NUMBER, BLANK, NEWLINE = range(8)  # enum class_index in split_int.h
GENERAL = {'Lu': UPPER, 'Lt': UPPER, 'Ll': LOWER, 'Lm': CASELESS, 'Lo': CASELESS}


def class_of(cp):
    if cp in (10, 13):
        return NEWLINE
    if cp in SPACE:
        return BLANK
    cat = ud.category(chr(cp))
    return GENERAL.get(cat, MARK if cat[0] == 'M' else NUMBER if cat[0] == 'N' else OTHER)


blocks, index = {}, []
for base in range(0, 0x110000, 256):
    cls = [class_of(cp) for cp in range(base, base + 256)]
    packed = bytes(cls[i] | cls[i + 1] << 4 for i in range(0, 256, 2))
    index.append(blocks.setdefault(packed, len(blocks)))
assert len(blocks) <= 256


def rows(values):
    values = list(values)
    return '\n'.join('    ' + ','.join(map(str, values[i:i + 32])) + ',' for i in range(0, len(values), 32))


sys.stdout.write(f'''/* tokenizer/split_tables.c - classes of code points, Unicode 16.0.0.
 * Made by tools/gen_unicode_tokenizer.py from unicodedata2 16.0.0; don't edit. Layout: split_int.h. */
#include "tokenizer/split_int.h"

const uint8_t dp_split_block_of[{len(index)}] = {{
{rows(index)}
}};

const uint8_t dp_split_blocks[{len(blocks)} * 128] = {{
{rows(b for k in blocks for b in k)}
}};
''')
