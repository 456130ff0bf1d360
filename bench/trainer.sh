#!/usr/bin/env bash
# A training step beside PyTorch's, in turns (bench/bench_trainer.py): installs PyTorch in build/venv-trainer (6 GB: PyPI's brings CUDA along, whether there is a GPU or not).
# usage: bench/trainer.sh [ARGUMENT OF bench/bench_trainer.py...]     BUILD=build/release
#   TORCH=PYTHON  an interpreter that has PyTorch already; RUNS=3 of which medians are taken, STEPS=5 a run
# In full about 15 minutes, on a machine that does nothing else. Compiled PyTorch needs a C++ compiler and Python's headers.
set -euo pipefail
cd "$(dirname "$0")/.."
export BUILD=${BUILD:-build/release}
case $BUILD in /*) ;; *) BUILD=$PWD/$BUILD ;; esac
out=$PWD/build/bench/trainer; mkdir -p "$out"
if [ -n "${TORCH:-}" ]; then py=$TORCH; else py=$(tools/venv.sh trainer); fi
"$py" -c 'import torch' 2>/dev/null || { echo "bench: $py has no torch" >&2; exit 69; }
# What MKL asks before it takes its fast paths; its own answer is no on every processor that isn't Intel's.
printf 'int mkl_serv_intel_cpu_true(void);\nint mkl_serv_intel_cpu_true(void) { return 1; }\n' | ${CC:-cc} -shared -fPIC -x c - -o "$out/mkl_will_do.so"
exec "$py" bench/bench_trainer.py --out "$out" --preload "$out/mkl_will_do.so" ${RUNS:+--runs "$RUNS"} ${STEPS:+--steps "$STEPS"} "$@"
