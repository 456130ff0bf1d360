#!/usr/bin/env python3
"""The Python package: its own tests, also with PyTorch and JAX where `make bench-feed PEERS=1` or tools/venv.sh feed installed them, mypy, then the wheel
of `make wheel` in a folder of its own, whose rows are those of `dpipe feed --dump`.
usage: make parity"""
import os, random, re, subprocess, sys
from lib import BUILD, DPIPE, ROOT, check, counts, dpipe, finish, folder, jsonl, need, skip, store

FEED = f'{ROOT}/build/venv-feed/bin/python'
env = {**os.environ, 'DPIPE': DPIPE, 'PYTHONDONTWRITEBYTECODE': '1'}


def own_tests(python):
    r = subprocess.run([python, '-W', 'ignore', '-m', 'tests'], cwd=f'{ROOT}/python', capture_output=True, text=True, env={**env, 'DPIPE_LIBRARY': f'{BUILD}/libdpipe.so'})
    line = re.search(r'^(\d+) passed, (\d+) failed', r.stdout, re.M)
    if not check(line and r.returncode == 0, f'python -m tests: exit {r.returncode}'): print(r.stderr[-3000:])
    if line: counts['passed'] += int(line[1])
    for s in re.findall(r'^skip (.*)', r.stdout, re.M): skip(s)


def types(python):
    r = subprocess.run([python, '-m', 'mypy', '--strict', '--cache-dir', os.devnull, 'dpipe', 'tests'], cwd=f'{ROOT}/python', capture_output=True, text=True)
    check(r.returncode == 0, f'mypy --strict: {r.stdout[-1500:]}{r.stderr[-500:]}')


def needed(library):
    r = subprocess.run(['readelf', '-d', library], capture_output=True, text=True)
    return set(re.findall(r'NEEDED.*\[(.*)\]', r.stdout)) if r.returncode == 0 else None


def wheel(d):
    if not os.path.exists(f'{BUILD}/libdpipe.a'): return skip('the wheel: no libdpipe.a')
    r = subprocess.run(['tools/make-wheel.sh', f'{BUILD}/libdpipe.so', f'{BUILD}/libdpipe.a'], cwd=ROOT, capture_output=True, text=True, env={**env, 'PYTHON': sys.executable})
    if r.returncode != 0: return skip(f'the wheel: {r.stderr[-300:]}')  # pip fetches setuptools
    path = r.stdout.strip().splitlines()[-1]
    check('-py3-none-linux_' in path, f'the name of {path}')
    subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', '--disable-pip-version-check', '--no-deps', '--no-index', '--target', f'{d}/site', f'{ROOT}/{path}'], check=True)
    w = f'{d}/w'
    dpipe('init', '-q', w)
    with open(f'{w}/recipe.yaml', 'w') as f: f.write('clean:\n  c4: {enabled: false}\ntrain-bpe: {vocab_size: 400}\n')
    r = random.Random(1)
    words = ['the', 'of', 'and', 'to', 'with'] + [''.join(r.choices('etaoinshrdlu', k=r.randint(2, 8))) for _ in range(300)]
    with open(f'{d}/x.jsonl', 'wb') as f: f.write(jsonl({'text': ' '.join(r.choices(words[:5] * 20 + words, k=200)) + '.'} for i in range(50)))
    dpipe('ingest', '-q', '-w', w, '--register-only', f'{d}/x.jsonl')
    dpipe('run', '-q', '-w', w, '--until', 'shard')
    flags = ('--seq-len', 16, '--batch', 2, '--steps', 5)
    dpipe('feed', '-w', w, *flags, '--dump', f'{d}/want')
    code = ('import sys, dpipe, dpipe._lib; f = dpipe.Feed(**{sys.argv[1]: sys.argv[2]}, seq_len=16, batch=2)\n'
            'sys.stdout.buffer.write(b"".join(f.next().tobytes() for _ in range(5))); sys.stderr.write(" ".join(dpipe._lib._loaded))')
    clean = {k: v for k, v in env.items() if k != 'DPIPE_LIBRARY'}
    for what, where, library in ('workspace', w, 'libdpipe.so.0'), ('manifest', store(w, 'manifest-')[0], 'libdpipe-feed.so.0'):
        r = subprocess.run([sys.executable, '-c', code, what, where], cwd=d, capture_output=True, env={**clean, 'PYTHONPATH': f'{d}/site'})
        with open(f'{d}/want', 'rb') as f: check(r.stdout == f.read() and len(r.stdout) == 5 * 2 * 17 * 4, f'rows by the wheel: {r.stderr.decode()[-500:]}')
        check(r.stderr.decode() == f'{d}/site/dpipe/{library}', f'the library it loads for a {what}: {r.stderr.decode()[-300:]}')
    # What it needs lies beside it, or is libc's.
    names = needed(f'{d}/site/dpipe/libdpipe-feed.so.0')
    if names is None: skip('readelf: what the library needs')
    else: check(not {n for n in names if not os.path.exists(f'{d}/site/dpipe/{n}')} - {'libc.so.6', 'libm.so.6', 'libpthread.so.0', 'ld-linux-x86-64.so.2'}, f'needs {names}')
    check(os.path.exists(f'{d}/site/dpipe/py.typed'), 'py.typed')


if need('numpy'):
    with folder() as d:
        own_tests(sys.executable)
        if os.path.exists(FEED): own_tests(FEED), types(FEED)
        else: skip('PyTorch, JAX and mypy: tools/venv.sh feed installs them, 7 GB')
        wheel(d)
finish()
