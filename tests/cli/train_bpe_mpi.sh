#!/usr/bin/env bash
# dpipe train-bpe over three processes gives what one gives (make check-mpi); skipped where the program wasn't built with MPI.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
if ! command -v mpirun >/dev/null || ! ldd "$DPIPE" | grep libmpi >/dev/null; then echo "skip train_bpe_mpi: no mpirun, or built without MPI=1"; echo "0 passed, 0 failed, 1 skipped"; exit; fi
cd "$work"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_btl_base_warn_component_unused=0
three() { timeout 60 mpirun --oversubscribe -n 3 "$DPIPE" train-bpe -q --vocab-size 400 --threads 1 "$@"; }
one() { "$DPIPE" train-bpe -q --vocab-size 400 "$@"; }
words 3 700000 | fold -s -w 80 >big.txt; for i in 1 2 3 4; do words $i 20000 | fold -s -w 60 >s$i.txt; done; gzip -k s1.txt
files=(big.txt s1.txt.gz s2.txt s3.txt s4.txt)
one -o a "${files[@]}"; expect 0 three -o b "${files[@]}"
for f in tokenizer.json tokenizer.tiktoken merges.txt; do cmp -s a/$f b/$f && ok || bad "$f differs"; done
same "$(grep -E '"(bytes|texts|files|words)"' b/report.json | grep -v files | tr -d ' \n')" "$(grep -E '"(bytes|texts|words)"' a/report.json | tr -d ' \n')" "what was counted"
one --whole-file -o c "${files[@]}"; expect 0 three --whole-file -o d "${files[@]}"; cmp -s c/tokenizer.json d/tokenizer.json && ok || bad "whole files differ"
one --count-only -o a.words "${files[@]}"; expect 0 three --count-only -o b.words "${files[@]}"; cmp -s a.words b.words && ok || bad "counts differ"
one --sample 0.3 --seed 4 -o e "${files[@]}"; expect 0 three --sample 0.3 --seed 4 --checkpoint 0 -o f "${files[@]}"; cmp -s e/tokenizer.json f/tokenizer.json && ok || bad "samples differ"
[ -z "$(find . -name 'resume*' -o -name 'reduce*')" ] && ok || bad "left behind: $(find . -name 'resume*' -o -name 'reduce*')"
if three -o x s1.txt nowhere.txt 2>err; then bad "a missing file is no failure"; else says err nowhere.txt; fi
finish
