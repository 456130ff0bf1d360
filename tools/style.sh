#!/bin/sh
# What a grep can see: tabs, trailing blanks, lines over 160, banned functions, exit() below cli/, base names that stand twice.
set -eu
cd "$(dirname "$0")/.."
bad=0
files=$(git ls-files '*.c' '*.h' '*.cc' 2>/dev/null || find . -name '*.[ch]')
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
exit $bad
