#!/usr/bin/env python3
"""bench/bench_feed.py - dpipe's feed in C, numpy and PyTorch beside its peers, in one run and on the same ids.

usage: bench_feed.py [--manifest FILE | --million-ids N] [--batch B] [--seq-len T] [--rounds N] [--seconds S] [--cold] [WAY...]
One JSON line a way, then a table. Each way is a process (bench/feed_ways.py; bench_feed for C); they take turns, round by round, so that a busy machine
is busy for all, and figures are medians of the rounds. WAY: names, or beginnings of names. What isn't installed is said to be skipped (make bench-feed
PEERS=1 installs it). Without a manifest, data is made: ids of a vocabulary of 50,257 as u16, documents of 200 to 3,400 ids, in build/bench/feed.

mids_per_cpu_s  million ids for each CPU-second of all threads and child processes; mids_per_s by the clock
first_ms        from `import torch` (or numpy) being done to the first batch: the package's own import, opening, and what it builds; --cold: with the
                data's pages thrown out of memory before, as far as the kernel does
rss_mib         resident beyond the imports, pages of mapped files too; anon_mib without them, with child processes
p50_us, p99_us  of single batches
Ids are batch * seq_len a batch for all. What a way hands out and in which order differs, and stands in its line.
"""
import argparse, glob, hashlib, json, os, shutil, statistics, subprocess, sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
BUILD = os.environ.get('BUILD', os.path.join(ROOT, 'build/release'))
sys.path.insert(0, HERE)
import feed_ways
from race import say

C_WAYS = {'dpipe C, rows': ('rows', 'u16 shards to int32 [B, T + 1]'), 'dpipe C, pairs': ('pairs', 'u16 shards to two int64 [B, T]'),
          'dpipe C, bestfit rows': ('bestfit', 'documents packed whole; int32 [B, T + 1]')}


def data(a):
    """The manifest, and the folder for the peers' files of it."""
    manifest = a.manifest
    home = os.path.join(ROOT, 'build/bench/feed')
    if not manifest:
        d = os.path.join(home, f'{a.million_ids}M')
        manifest = os.path.join(d, 'manifest.json')
        if not os.path.exists(manifest):
            say(f'making {a.million_ids} million ids')
            shutil.rmtree(d, ignore_errors=True)
            os.makedirs(d)
            subprocess.run([f'{BUILD}/bench/bench_feed', 'make', d, str(a.million_ids)], check=True)
    manifest = os.path.abspath(manifest)
    with open(manifest, 'rb') as f: text = f.read()
    prepared = os.path.join(home, f'for-{hashlib.sha256(text + manifest.encode()).hexdigest()[:12]}-{a.seq_len}')
    return manifest, prepared, json.loads(text)


def exports(manifest, prepared, peers):
    """nanoGPT's stream and Megatron's files, by dpipe."""
    if not peers: return
    os.makedirs(prepared, exist_ok=True)
    for form in 'nanogpt', 'megatron':
        if not os.path.exists(f'{prepared}/{form}'):
            subprocess.run([f'{BUILD}/dpipe', 'export-shards', '-q', '--manifest', manifest, '-f', form, '-o', f'{prepared}/{form}', '--merge'][: None if form == 'megatron' else -1], check=True)
    if not os.path.exists(f'{prepared}/train.bin'):
        os.link(glob.glob(f'{prepared}/nanogpt/*.bin')[0], f'{prepared}/train.bin')


class Child:
    def __init__(self, name, command, about):
        self.name, self.about, self.rounds = name, about, []
        self.p = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=self.environment())
        self.begin = self.hear()
        self.skipped = self.begin.get('skip')

    @staticmethod
    def environment():
        path = [os.path.join(ROOT, 'python')] + ([os.environ['PYTHONPATH']] if os.environ.get('PYTHONPATH') else [])
        return {'DPIPE_LIBRARY': f'{BUILD}/libdpipe.so', **os.environ, 'PYTHONPATH': os.pathsep.join(path), 'TOKENIZERS_PARALLELISM': 'false', 'HF_HUB_OFFLINE': '1'}

    def hear(self):
        line = self.p.stdout.readline()
        return json.loads(line) if line else {'skip': f'the process ended ({self.p.wait()})'}

    def round(self, seconds):
        self.p.stdin.write(f'{seconds}\n')
        self.p.stdin.flush()
        r = self.hear()
        if 'skip' in r: self.skipped = r['skip']
        else: self.rounds.append(r)

    def end(self):
        self.p.stdin.close()
        r = {} if self.skipped else self.hear()
        self.p.stdout.close()
        self.p.wait()
        return r


def result(child, last):
    middle = lambda f: statistics.median(f(r) for r in child.rounds)
    us = [r['us'] for r in child.rounds]
    at = lambda q: statistics.median(u[min(len(u) - 1, int(len(u) * q))] for u in us)
    rate = lambda r: r['ids'] / r['cpu_s'] / 1e6
    return dict(feed=child.name, mids_per_cpu_s=round(middle(rate), 1), low=round(min(map(rate, child.rounds)), 1), high=round(max(map(rate, child.rounds)), 1),
                mids_per_s=round(middle(lambda r: r['ids'] / r['wall_s'] / 1e6), 1), p50_us=round(at(0.5), 1), p99_us=round(at(0.99), 1),
                first_ms=round(child.begin['first_ms'], 1), import_ms=round(child.begin['import_ms'], 1), rss_mib=round(last['rss_mib'], 1),
                anon_mib=round(last['anon_mib'], 1), **child.about, gives=child.begin['gives'])


def forget(*folders):
    """Throw the files' pages out of memory, as far as nobody has them mapped."""
    for d in folders:
        for base, _, names in os.walk(d):
            for n in names:
                fd = os.open(os.path.join(base, n), os.O_RDONLY)
                os.fdatasync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(fd)


def table(rows):
    print()
    print('| feed | M ids per CPU-s | M ids/s | p50 µs | p99 µs | first batch ms | MiB beyond imports (anonymous) | order |')
    print('| --- | --- | --- | --- | --- | --- | --- | --- |')
    for r in sorted(rows, key=lambda r: -r['mids_per_cpu_s']):
        n = lambda x: f'{x:,.0f}' if x >= 100 else f'{x:.1f}'
        print(f"| {r['feed']} | {n(r['mids_per_cpu_s'])} | {n(r['mids_per_s'])} | {n(r['p50_us'])} | {n(r['p99_us'])} | {n(r['first_ms'])} | {r['rss_mib']:.0f} ({r['anon_mib']:.0f}) | {r['order']} |")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--manifest'), p.add_argument('--million-ids', type=int, default=100)
    p.add_argument('--batch', type=int, default=8), p.add_argument('--seq-len', type=int, default=2048), p.add_argument('--seed', type=int, default=1)
    p.add_argument('--rounds', type=int, default=5), p.add_argument('--seconds', type=float, default=0.5), p.add_argument('--cold', action='store_true')
    p.add_argument('--no-peers', action='store_true'), p.add_argument('ways', nargs='*')
    a = p.parse_args()
    manifest, prepared, told = data(a)
    ways = [n for n in [*C_WAYS, *feed_ways.WAYS] if not a.ways or any(n.startswith(w) for w in a.ways)]
    ways = [n for n in ways if not (a.no_peers and n in feed_ways.WAYS and feed_ways.WAYS[n]['peer'])]
    c = dict(manifest=manifest, prepared=prepared, batch=a.batch, seq_len=a.seq_len, seed=a.seed, ids=sum(s['tokens'] for s in told['shards']))
    peers = [n for n in ways if n in feed_ways.WAYS and feed_ways.WAYS[n]['peer']]
    exports(manifest, prepared, peers)
    if peers:
        c['megatron'] = [x[:-4] for x in glob.glob(f'{prepared}/megatron/*.idx')]
        try: feed_ways.prepare(c, say)
        except ImportError as e: say(f'skip the peers\' files: {e}')
    children = []
    for n in ways:
        if a.cold: forget(prepared, os.path.dirname(manifest))
        if n in C_WAYS:
            child = Child(n, [f'{BUILD}/bench/bench_feed', 'way', C_WAYS[n][0], manifest, str(a.batch), str(a.seq_len), str(a.seed)],
                          dict(order=feed_ways.PERMUTED, work=C_WAYS[n][1]))
        else:
            w = feed_ways.WAYS[n]
            child = Child(n, [sys.executable, os.path.join(HERE, 'feed_ways.py'), n, json.dumps(c)], dict(order=w['order'], work=w['work']))
        children.append(child)
        if child.skipped: say(f'skip {n}: {child.skipped}')
    for k in range(-1, a.rounds):  # the first warms up
        for child in children:
            if not child.skipped: child.round(a.seconds)
        if k < 0:
            for child in children: child.rounds.clear()
    rows = []
    for child in children:
        last = child.end()
        if child.skipped or not child.rounds: continue
        rows.append(result(child, last))
        print(json.dumps(rows[-1]), flush=True)
    table(rows)


if __name__ == '__main__':
    main()
