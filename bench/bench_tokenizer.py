#!/usr/bin/env python3
"""bench/bench_tokenizer.py - dpipe's tokenizer beside its peers, in turns, and whether what must hold does.

usage: bench_tokenizer.py --web FILE --code FILE --ranks DIR --out DIR [--limit BYTES] [--runs N] [--encodings gpt2,...] [--only encode|train|files...]
Writes OUT/runs.jsonl (every run) and OUT/tokenizer.json (medians, ratios, what holds), prints tables. `make bench-tokenizer` gives it all it needs.

Every measurement is a process of its own, pinned to one processor (two for two threads); tools take turns, so that a busy machine is busy for all, and figures
are medians of the runs. MB is 10^6 bytes of text. Documents are 64 KB of whole lines. cold: the first pass of a fresh process, the vocabulary loaded and "warm up"
encoded; warm: the better of two passes after it. cpu: per CPU-second of the process. Peers return the ids of all documents, dpipe has them one document
after another in one buffer (`dpipe bench tokenizer --keep-ids` keeps them all). Peers get bytes where they take bytes. Slow peers get the first
20 MB (tiktoken) or 4 MB (Hugging Face). Training: the whole process, start and reading too. files: `dpipe tokenize --whole-file -o`, reading, writing and fsync
too, less what the same command takes for one word.
"""
import argparse, base64, json, os, shutil, subprocess, sys, time

from race import print_musts, race, say

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
DPIPE = os.path.join(os.environ.get('BUILD', os.path.join(ROOT, 'build/release')), 'dpipe')
SPLIT = {'gpt2': 'gpt2', 'cl100k_base': 'cl100k', 'o200k_base': 'o200k'}
MOST = {'tiktoken': 20_000_000, 'hf': 4_000_000}
VOCAB = 32000


# --- one measurement, in a process of its own ---

def documents(path, limit, size=65536):
    text = open(path, 'rb').read(limit)
    docs, i = [], 0
    while i < len(text):
        j = text.find(b'\n', i + size)
        j = len(text) if j < 0 else j + 1
        docs.append(text[i:j])
        i = j
    return docs


def peer(name, ranks, encoding, threads):
    """(encode(documents) -> anything, count(that), decode(that) or None, whether it takes bytes)"""
    if name == 'tiktoken':
        import tiktoken
        from tiktoken_ext import openai_public
        table = {base64.b64decode(t): int(r) for t, r in (l.split() for l in open(f'{ranks}/{encoding}.tiktoken', 'rb'))}
        openai_public.load_tiktoken_bpe = lambda *a, **k: table
        t = tiktoken.Encoding(**openai_public.ENCODING_CONSTRUCTORS['r50k_base' if encoding == 'gpt2' else encoding]())
        one = lambda docs: [t.encode_ordinary(d) for d in docs]
        return (one if threads == 1 else lambda docs: t.encode_ordinary_batch(docs, num_threads=threads)), lambda r: sum(map(len, r)), lambda r: [t.decode_bytes(x) for x in r], False
    if name == 'hf':
        from tokenizers import Tokenizer
        t = Tokenizer.from_file(f'{ranks}/{encoding}.json')
        return lambda docs: [x.ids for x in t.encode_batch_fast(docs, add_special_tokens=False)], lambda r: sum(map(len, r)), lambda r: [t.decode(x, skip_special_tokens=False) for x in r], False
    if name == 'gigatoken':
        import gigatoken
        t = gigatoken.Tokenizer(f'{ranks}/{encoding}.json').backend if hasattr(gigatoken.Tokenizer, 'backend') else gigatoken.gigatoken_rs.BPETokenizer.from_hf(f'{ranks}/{encoding}.json')
        numpy_rows = lambda r: r if isinstance(r, list) else [x.to_numpy() if hasattr(x, 'to_numpy') else x for x in r]
        return lambda docs: t.encode_batch(docs, parallel=threads > 1), lambda r: sum(len(x) for x in r), lambda r: [t.decode(x) for x in numpy_rows(r)], True
    if name == 'fastokens':
        import fastokens
        t = fastokens.Tokenizer.from_tiktoken(f'{ranks}/{encoding}.tiktoken', encoding='r50k_base' if encoding == 'gpt2' else encoding)
        return lambda docs: t.encode_batch_flat(docs), lambda r: len(r[0]) // (4 if isinstance(r[0], bytes) else 1), None, False
    sys.exit(f'no peer {name}')


def timed(fn, *args):
    wall, cpu = time.perf_counter(), time.process_time()
    r = fn(*args)
    return r, time.perf_counter() - wall, time.process_time() - cpu


def encode_peer(name, ranks, encoding, threads, path, limit):
    docs = documents(path, limit)
    n = sum(map(len, docs))
    encode, count, decode, takes_bytes = peer(name, ranks, encoding, threads)
    if not takes_bytes: docs = [d.decode('utf-8', 'replace') for d in docs]
    encode([docs[0][:7]])
    r, wall, cpu = timed(encode, docs)
    out = dict(bytes=n, cold_cpu=n / 1e6 / cpu, cold_wall=n / 1e6 / wall, ids=count(r))
    warm = []
    for _ in range(2 if n > 0 and name not in ('tiktoken', 'hf') else 0):
        r = None
        r, wall, cpu = timed(encode, docs)
        warm.append((cpu, wall))
    if warm: out.update(warm_cpu=n / 1e6 / min(c for c, _ in warm), warm_wall=n / 1e6 / min(w for _, w in warm))
    if decode and threads == 1:
        _, _, cpu = timed(decode, r)
        out['decode_cpu'] = n / 1e6 / cpu
    return out


def train_peer(name, path):
    pattern = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    def chunks(n=1 << 16):
        with open(path, encoding='utf-8', errors='replace', newline='') as f:
            while b := f.read(n): yield b + f.readline()
    if name == 'hf':
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers
        t = Tokenizer(models.BPE())
        t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        t.train([path], trainers.BpeTrainer(vocab_size=VOCAB, min_frequency=0, special_tokens=[], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
        return t.get_vocab_size()
    if name == 'rustbpe':
        import rustbpe
        t = rustbpe.Tokenizer()
        t.train_from_iterator(chunks(), VOCAB, pattern=pattern)
        return len(t.get_mergeable_ranks())
    import gigatoken
    return len(gigatoken.train_bpe(path, VOCAB, [])[0])


# --- processes ---

def run(argv, cpus):
    """(output, CPU seconds, wall seconds, MiB) of a pinned process; None and why when it failed."""
    env = dict(os.environ, RAYON_NUM_THREADS=str(len(cpus)), RAYON_RS_NUM_CPUS=str(len(cpus)), TOKENIZERS_PARALLELISM='false' if len(cpus) == 1 else 'true')
    start = time.perf_counter()
    p = subprocess.Popen(['taskset', '-c', ','.join(map(str, cpus)), *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    out, err = p.communicate()
    wall = time.perf_counter() - start
    return out, err.strip(), p.returncode, wall


def child(argv, cpus):
    """The same with the process's own rusage, which a wrapper prints as the last line."""
    out, err, code, wall = run([sys.executable, __file__, '_usage', *argv], cpus)
    if code: return None, err.splitlines()[-1] if err else f'status {code}'
    body, usage = out.rstrip('\n').rsplit('\n', 1) if '\n' in out.rstrip('\n') else ('', out)
    return (body, *json.loads(usage)), None


def usage(argv):
    p = subprocess.Popen(argv)
    _, status, r = os.wait4(p.pid, 0)
    if status: sys.exit(1)
    print(json.dumps([r.ru_utime + r.ru_stime, r.ru_maxrss / 1024]))


def own_encode(a, encoding, threads, path):
    cmd = [DPIPE, 'bench', 'tokenizer', '-t', f'{a.ranks}/{encoding}.tiktoken', '--split', SPLIT[encoding], '--threads', str(threads), '--rounds', '2', '--doc-bytes', '65536', path]
    if a.limit: cmd += ['--limit', str(a.limit)]
    out, err, code, _ = run(cmd, a.cpus[:threads])
    if code: return None, err
    d = json.loads(out)
    e = d['encode'][0]
    r = dict(bytes=d['bytes'], ids=d['ids'], cold_cpu=e['cold']['first_mb_per_cpu_s'], cold_wall=e['cold']['first_mb_per_s'], warm_cpu=e['warm']['best_mb_per_cpu_s'],
             warm_wall=e['warm']['best_mb_per_s'], rss_mib=d['peak_rss_mib'])
    if threads == 1: r.update(decode_cpu=d['decode']['best_mb_per_cpu_s'], decode_first_cpu=d['decode']['first_mb_per_cpu_s'], split_cpu=d['split_only']['best_mb_per_cpu_s'], count_cpu=d['count_only']['best_mb_per_cpu_s'])
    return r, None


def own_files(a, encoding, threads, path):
    def one(text):
        folder = f'{a.out}/files'
        shutil.rmtree(folder, ignore_errors=True)
        start = time.perf_counter()
        r, why = child([DPIPE, 'tokenize', '-q', '-t', f'{a.ranks}/{encoding}.tiktoken', '--split', SPLIT[encoding], '--threads', str(threads), '--whole-file', '-o', folder, text], a.cpus[:threads])
        return (None, why) if not r else ((r[1], time.perf_counter() - start, r[2]), None)
    word = f'{a.out}/word.txt'
    with open(word, 'w') as f: f.write('word\n')
    if a.limit and os.path.getsize(path) > a.limit:
        short = f'{a.out}/short.txt'
        with open(short, 'wb') as f: f.write(open(path, 'rb').read(a.limit))
        path = short
    start = [one(word) for _ in range(3)] # the program, the vocabulary, an fsync or two
    base, why = min(start, key=lambda b: b[0][0]) if all(b for b, _ in start) else (None, next(w for b, w in start if not b))
    r, why = one(path) if base else (None, why)
    shutil.rmtree(f'{a.out}/files', ignore_errors=True)
    if not r: return None, why
    mb = os.path.getsize(path) / 1e6
    if r[0] - base[0] < base[0] or r[1] - base[1] < base[1]: return None, f'{mb:.0f} MB are too few to tell from starting'
    return dict(bytes=os.path.getsize(path), cold_cpu=mb / (r[0] - base[0]), cold_wall=mb / (r[1] - base[1]), rss_mib=r[2]), None


def train(a, tool, path):
    if tool == 'dpipe': argv = [DPIPE, 'train-bpe', '-q', '--threads', '1', '--vocab-size', str(VOCAB), '--split', 'gpt2', '--tie', 'hf', '--special-tokens', '', '-o', f'{a.out}/trained', path]
    else: argv = [sys.executable, __file__, '_train', tool, path]
    r, why = child(argv, a.cpus[:1])
    return (dict(bytes=os.path.getsize(path), cpu_s=r[1], rss_mib=r[2]), None) if r else (None, why)


def measure(a, case, tool):
    kind, text, encoding, threads = case
    path = a.texts[text]
    if kind == 'train': return train(a, tool, path)
    if kind == 'files': return own_files(a, encoding, threads, path)
    if tool == 'dpipe': return own_encode(a, encoding, threads, path)
    limit = min(a.limit or 1 << 60, MOST.get(tool, 1 << 60))
    out, err, code, _ = run([sys.executable, __file__, '_encode', tool, a.ranks, encoding, str(threads), path, str(limit)], a.cpus[:threads])
    return (json.loads(out), None) if not code else (None, err.splitlines()[-1] if err else f'status {code}')


# --- all of it ---

def cases(a):
    every = []
    for encoding in a.encodings:
        for text in ('web', 'code'):
            fast = ['dpipe', 'gigatoken'] + (['fastokens'] if encoding != 'gpt2' else []) # which has no gpt2
            every.append((('encode', text, encoding, 1), fast + ['tiktoken'] + (['hf'] if text == 'web' else [])))
            if len(a.cpus) > 1: every.append((('encode', text, encoding, 2), fast))
        every.append((('files', 'web', encoding, 1), ['dpipe']))
        if len(a.cpus) > 1: every.append((('files', 'web', encoding, 2), ['dpipe']))
    for text in ('train-20', 'train-100'): every.append((('train', text, None, 1), ['dpipe', 'gigatoken', 'rustbpe', 'hf']))
    return [c for c in every if c[0][0] in a.only]


def prepare(a):
    a.texts = {'web': a.web, 'code': a.code}
    for mb in (20, 100):
        path = a.texts[f'train-{mb}'] = f'{a.out}/train-{mb}.txt'
        size = min(mb * 1_000_000, a.limit or 1 << 60)
        with open(a.web, 'rb') as f: text = f.read(size)
        with open(path, 'wb') as f: f.write(text[:text.rfind(b'\n') + 1])
        if len(text) < mb * 1_000_000 * 0.95: say(f'note: "{mb} MB" are {len(text) / 1e6:.0f} MB here')


class Musts:
    """The issue's table: what must hold, as ratios or figures."""
    def __init__(self, m): self.m, self.rows = m, []

    def get(self, case, tool, key): return self.m.get((case, tool), {}).get(key)

    def row(self, what, own, other, ratio, must, unit=''):
        if own is None or ratio is None: return
        self.rows.append(dict(what=what, dpipe=round(own, 2), beside=other, ratio=round(ratio, 2), must=must, unit=unit, holds=ratio >= must))

    def at_least(self, what, case, key, peers, must):
        own = self.get(case, 'dpipe', key)
        them = [(self.get(case, p, key), p) for p in peers if self.get(case, p, key)]
        if own and them: self.row(what, own, f'{max(them)[1]} {max(them)[0]:.1f}', own / max(them)[0], must)

    def encode(self, text, encoding):
        one, two = ('encode', text, encoding, 1), ('encode', text, encoding, 2)
        name = f'{encoding} {text}'
        self.at_least(f'encode {name}, cold, of the better peer', one, 'cold_cpu', ('gigatoken', 'fastokens'), 1.5)
        self.at_least(f'encode {name}, cold, of tiktoken', one, 'cold_cpu', ('tiktoken',), 20)
        self.at_least(f'encode {name}, warm, of gigatoken', one, 'warm_cpu', ('gigatoken',), 1.5)
        for how in ('cold', 'warm'):
            a, b = self.get(one, 'dpipe', how + '_wall'), self.get(two, 'dpipe', how + '_wall')
            if a and b: self.row(f'encode {name}, {how}, two threads of one', b, f'dpipe {a:.1f}', b / a, 1.9)
        d = self.get(one, 'dpipe', 'decode_cpu')
        if d: self.row(f'decode {name}, MB per CPU s', d, self.decoders(one), d / 2000, 1.0)

    def decoders(self, case):
        return ', '.join(f'{p} {v:.0f}' for p in ('gigatoken', 'tiktoken', 'hf') if (v := self.get(case, p, 'decode_cpu')))

    def files(self, encoding, threads):
        case, memory = ('files', 'web', encoding, threads), ('encode', 'web', encoding, threads)
        for how in ('cpu', 'wall'):
            own, other = self.get(case, 'dpipe', 'cold_' + how), self.get(memory, 'dpipe', 'cold_' + how)
            if own and other: self.row(f'tokenize -o {encoding} web, {threads} thread{"s" * (threads > 1)}, {how}, of in memory', own, f'dpipe {other:.1f}', own / other, 0.8)

    def train(self, mb, peers, cpu_s, rss):
        case = ('train', f'train-{mb}', None, 1)
        own, mem = self.get(case, 'dpipe', 'cpu_s'), self.get(case, 'dpipe', 'rss_mib')
        if not own: return
        self.row(f'train {mb} MB, CPU s, at most {cpu_s}', own, '', cpu_s / own, 1.0)
        for p, must in peers:
            v = self.get(case, p, 'cpu_s')
            if v: self.row(f'train {mb} MB, CPU s, of {p}', own, f'{p} {v:.2f}', v / own, must)
        if rss: self.row(f'train {mb} MB, MiB, at most {rss}', mem, self.memory(case), rss / mem, 1.0)

    def memory(self, case): return ', '.join(f'{p} {v:.0f}' for p in ('gigatoken', 'rustbpe', 'hf') if (v := self.get(case, p, 'rss_mib')))


def counts(m, say_to):
    """Ids of the whole text must be as many as those of every peer that had all of it."""
    for (case, tool), r in m.items():
        own = m.get((case, 'dpipe'), {})
        if case[0] == 'encode' and tool != 'dpipe' and own.get('bytes') == r['bytes'] and own['ids'] != r['ids']: say_to(f'note: {tool} gives {r["ids"]:.0f} ids of {case[1]}, {case[2]}, dpipe {own["ids"]:.0f}')


def report(a, m):
    t = Musts(m)
    for encoding in a.encodings:
        for text in ('web', 'code'): t.encode(text, encoding)
        for threads in (1, 2): t.files(encoding, threads)
    t.train(100, (('gigatoken', 3), ('rustbpe', 7), ('hf', 23)), 1.2, 150)
    t.train(20, (('rustbpe', 3),), 0.6, None)
    print(f'\n{"tool":<10} {"MB/s; training: CPU s":<36}', *(f'{k:>9}' for k in ('cold cpu', 'cold', 'warm cpu', 'warm', 'dec. cpu', 'MiB')))
    for (case, tool), r in sorted(m.items(), key=lambda x: [str(v) for v in x[0][0]] + [x[0][1]]):
        v = {k: f'{x:.2f}' if k == 'cpu_s' else f'{x:.1f}' for k, x in r.items()}
        what = f'{case[0]} {case[1]} {case[2] or ""}' + (' 2 threads' if case[3] > 1 else '')
        print(f'{tool:<10} {what:<36}', *(f'{v.get(k, ""):>9}' for k in ('cpu_s' if case[0] == 'train' else 'cold_cpu', 'cold_wall', 'warm_cpu', 'warm_wall', 'decode_cpu', 'rss_mib')))
    print_musts(t.rows, 62)
    counts(m, print)
    held = sum(r['holds'] for r in t.rows)
    print(f'{held} of {len(t.rows)} hold; load {os.getloadavg()[0]:.1f}')
    with open(f'{a.out}/tokenizer.json', 'w') as f:
        json.dump(dict(runs=a.runs, limit=a.limit, load=os.getloadavg()[0], musts=t.rows, medians=[dict(kind=c[0], text=c[1], encoding=c[2], threads=c[3], tool=tool, **r) for (c, tool), r in m.items()]), f, indent=1)
    return held == len(t.rows)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ('web', 'code', 'ranks', 'out'): p.add_argument('--' + name, required=True)
    p.add_argument('--limit', type=int, default=0)
    p.add_argument('--runs', type=int, default=3)
    p.add_argument('--encodings', default=','.join(SPLIT), type=lambda s: s.split(','))
    p.add_argument('--only', nargs='+', default=['encode', 'files', 'train'])
    a = p.parse_args()
    a.cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(a.cpus) < 2: say('note: one processor only: nothing with two threads')
    prepare(a)
    report(a, race(cases(a), ('kind', 'text', 'encoding', 'threads'), lambda case, tool: measure(a, case, tool), a.runs, a.out))


if __name__ == '__main__':
    if sys.argv[1:2] == ['_encode']: print(json.dumps(encode_peer(*sys.argv[2:5], int(sys.argv[5]), sys.argv[6], int(sys.argv[7]))))
    elif sys.argv[1:2] == ['_train']: train_peer(*sys.argv[2:4])
    elif sys.argv[1:2] == ['_usage']: usage(sys.argv[2:])
    else: main()
