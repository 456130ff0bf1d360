#!/usr/bin/env python3
"""bench/bench_feed.py - M ids per CPU-second of the Python feed, B = 8, T = 2048, permuted: numpy int32 rows, int64 pairs, batches with masks; PyTorch by
itself and through a DataLoader where torch is installed; beside them a DataLoader over a constant (what the framework costs).

usage: bench_feed.py [--workspace DIR | --manifest FILE] [--steps N] [--rounds N]    one JSON line each; rates are medians of the rounds, which take turns.
Without data, `dpipe` (DPIPE, else build/release/dpipe) makes some in $TMPDIR: 16-bit ids of pseudo-words.
CPU seconds are the process's, all threads, system time included; first_ms is from the constructor to the first batch, after imports."""
import argparse, glob, json, os, random, shutil, statistics, subprocess, sys, tempfile, time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
try:
    import dpipe
except ImportError:
    sys.path.insert(0, os.path.join(ROOT, 'python'))
    os.environ.setdefault('DPIPE_LIBRARY', os.path.join(ROOT, 'build/release/libdpipe.so'))
    import dpipe
B, T = 8, 2048


def make(d):
    program = os.environ.get('DPIPE', os.path.join(ROOT, 'build/release/dpipe'))
    run = lambda *a: subprocess.run([program, *a], check=True)
    r = random.Random(1)
    words = [''.join(r.choice('etaoinshrdlu') for _ in range(r.randint(2, 9))) for _ in range(4000)]
    with open(f'{d}/x.jsonl', 'w') as f:
        for i in range(12000): f.write(json.dumps({'text': ' '.join(r.choices(words, k=r.randint(100, 1200)))}) + '\n')
    run('init', '-q', f'{d}/w')
    with open(f'{d}/w/recipe.yaml', 'w') as f:
        f.write('clean:\n  c4: {enabled: false}\n  gopher_quality: {enabled: false}\n  gopher_repetition: {enabled: false}\ntrain-bpe: {vocab_size: 8000}\n')
    run('ingest', '-q', '-w', f'{d}/w', '--register-only', f'{d}/x.jsonl')
    run('run', '-q', '-w', f'{d}/w', '--until', 'shard')
    return glob.glob(f'{d}/w/store/manifest-*.json')[0]


def ways(source):
    options = dict(seq_len=T, batch=B, **source)
    import numpy as np
    out = np.empty((B, T + 1), np.int32)

    def numpy_into():
        f = dpipe.Feed(**options)
        while True: yield f.next(out)

    def numpy_rows(): return iter(dpipe.Feed(**options))

    def numpy_pairs():
        f = dpipe.Feed(**options)
        while True: yield f.next_pair()

    def numpy_masks():
        f = dpipe.Feed(pack='bestfit', **options)
        while True: yield f.next_batch()

    yield 'numpy, into one array', numpy_into
    yield 'numpy, int32 rows', numpy_rows
    yield 'numpy, int64 pairs', numpy_pairs
    yield 'numpy, bestfit with masks', numpy_masks
    try:
        import torch
        from torch.utils.data import DataLoader, IterableDataset
        from dpipe.torch import FeedDataset
    except ImportError as e:
        print(f'skip torch: {e}', file=sys.stderr)
        return
    torch.set_num_threads(1)

    class Constant(IterableDataset):
        def __iter__(self):
            pair = torch.zeros((2, B, T), dtype=torch.int64).unbind(0)
            while True: yield pair

    yield 'torch, FeedDataset', lambda: iter(FeedDataset(**options))
    yield 'torch, DataLoader', lambda: iter(DataLoader(FeedDataset(**options), batch_size=None))
    yield 'torch, DataLoader, bestfit with masks', lambda: iter(DataLoader(FeedDataset(pack='bestfit', masks=True, **options), batch_size=None))
    yield 'torch, DataLoader over a constant', lambda: iter(DataLoader(Constant(), batch_size=None))
    try:
        from torchdata.stateful_dataloader import StatefulDataLoader
    except ImportError as e:
        print(f'skip torchdata: {e}', file=sys.stderr)
        return
    yield 'torchdata, StatefulDataLoader', lambda: iter(StatefulDataLoader(FeedDataset(**options), batch_size=None))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--workspace'), p.add_argument('--manifest')
    p.add_argument('--steps', type=int, default=2000), p.add_argument('--rounds', type=int, default=5)
    a = p.parse_args()
    d = tempfile.mkdtemp(prefix='dpipe-bench-')
    try:
        source = {'workspace': a.workspace} if a.workspace else {'manifest': a.manifest or make(d)}
        runs = []
        for name, way in ways(source):
            start = time.perf_counter()
            it = way()
            next(it)
            runs.append((name, it, 1e3 * (time.perf_counter() - start), []))
        for _ in range(a.rounds):
            for _, it, _, rates in runs:
                start = time.process_time()
                for _, _ in zip(range(a.steps), it): pass
                rates.append(a.steps * B * T / 1e6 / (time.process_time() - start))
        for name, _, first, rates in runs:
            print(json.dumps({'feed': name, 'mids_per_cpu_s': round(statistics.median(rates)), 'low': round(min(rates)), 'high': round(max(rates)), 'first_ms': round(first, 2)}))
    finally:
        shutil.rmtree(d, ignore_errors=True)


if __name__ == '__main__':
    main()
