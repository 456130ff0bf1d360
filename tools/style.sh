#!/bin/sh
# What a grep can see: tabs, trailing blanks, banned functions, exit() below cli/, base names that stand twice, functions over 70 lines
# (between their braces) and files over 1,000 (generated tables aside).
set -eu
cd "$(dirname "$0")/.."
bad=0
files=$(git ls-files '*.c' '*.h' '*.cc' 2>/dev/null || find . -name '*.[ch]' -o -name '*.cc' | sed 's,^\./,,' | grep -v '^build/')
say() { echo "$1" >&2; bad=1; }
# shellcheck disable=SC2086
grep -nP '\t' $files /dev/null && say "tabs in C sources" || true
# shellcheck disable=SC2086
grep -nE ' +$' $files /dev/null && say "trailing blanks" || true
# shellcheck disable=SC2086
grep -nE '\b(strcpy|strcat|sprintf|gets|strtok|alloca)\(' $files /dev/null && say "a banned function" || true
# shellcheck disable=SC2046,SC2086
grep -nE '\bexit\(' $(echo "$files" | tr ' ' '\n' | grep -vE '^(cli|tests|bench|tools)/') /dev/null && say "exit() below cli/" || true
twice=$(echo "$files" | tr ' ' '\n' | grep -vE '^tests/' | sed 's,.*/,,' | sort | uniq -d)
[ -z "$twice" ] || say "base names that stand twice: $twice"
# A function's braces stand in the first column, alone (.clang-format); its name is on the last line before that starts in it.
# shellcheck disable=SC2086
awk '
function file_end() { if (lines > 1000 && !generated) { printf "%s: %d lines, more than 1,000\n", name, lines; bad = 1 } }
FNR == 1 { file_end(); name = FILENAME; generated = 0; begin = 0 }
{ lines = FNR }
FNR <= 3 && /[Gg]enerated by / { generated = 1 }
/^[A-Za-z_]/ { head = $0; head_line = FNR }
/^{$/ { begin = FNR }
/^}/ { if (begin && FNR - begin - 1 > 70) { printf "%s:%d: %d lines, more than 70: %s\n", name, head_line, FNR - begin - 1, head; bad = 1 } begin = 0 }
END { file_end(); exit bad }' $files || say "too long"
exit $bad
