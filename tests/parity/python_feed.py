#!/usr/bin/env python3
"""The Python package: its own tests, then the wheel of `make wheel` in a folder of its own, whose rows are those of `dpipe feed --dump`.
usage: make parity"""
import os, random, re, subprocess, sys
from lib import BUILD, DPIPE, ROOT, check, counts, dpipe, finish, folder, jsonl, need, skip

env = {**os.environ, 'DPIPE': DPIPE, 'PYTHONDONTWRITEBYTECODE': '1'}


def own_tests():
    r = subprocess.run([sys.executable, '-m', 'tests'], cwd=f'{ROOT}/python', capture_output=True, text=True, env={**env, 'DPIPE_LIBRARY': f'{BUILD}/libdpipe.so'})
    line = re.search(r'^(\d+) passed, (\d+) failed', r.stdout, re.M)
    if not check(line and r.returncode == 0, f'python -m tests: exit {r.returncode}'): print(r.stderr[-3000:])
    if line: counts['passed'] += int(line[1])
    for s in re.findall(r'^skip (.*)', r.stdout, re.M): skip(s)


def wheel(d):
    r = subprocess.run(['tools/make-wheel.sh', f'{BUILD}/libdpipe.so'], cwd=ROOT, capture_output=True, text=True, env={**env, 'PYTHON': sys.executable})
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
    code = ('import sys, dpipe, dpipe._lib; f = dpipe.Feed(workspace=sys.argv[1], seq_len=16, batch=2)\n'
            'sys.stdout.buffer.write(b"".join(f.next().tobytes() for _ in range(5))); sys.stderr.write(dpipe._lib.path())')
    clean = {k: v for k, v in env.items() if k != 'DPIPE_LIBRARY'}
    r = subprocess.run([sys.executable, '-c', code, w], cwd=d, capture_output=True, env={**clean, 'PYTHONPATH': f'{d}/site'})
    with open(f'{d}/want', 'rb') as f: check(r.stdout == f.read() and len(r.stdout) == 5 * 2 * 17 * 4, f'rows by the wheel: {r.stderr.decode()[-500:]}')
    check(r.stderr.decode() == f'{d}/site/dpipe/libdpipe.so.0', f'the library it loads: {r.stderr.decode()[-300:]}')
    check(os.path.exists(f'{d}/site/dpipe/py.typed'), 'py.typed')


if need('numpy'):
    with folder() as d:
        own_tests()
        wheel(d)
finish()
