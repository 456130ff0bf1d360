#!/usr/bin/env python3
"""bench/feed_ways.py - the ways of getting batches that bench/bench_feed.py compares, each in a process of its own.

usage: feed_ways.py WAY JSON      (bench/bench_feed.py runs it)
JSON: manifest, prepared (folder of the peers' own files), batch, seq_len, seed. The process imports what the way needs, takes a first batch and then does
a round for each line of its input: it draws batches for that many CPU-seconds. It answers with one JSON line each time, and with its memory at the end of
its input. CPU seconds are the process's and its children's, all threads, system time included; a batch counts for batch * seq_len ids, whatever it has more.
"""
import itertools, json, os, resource, sys, time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TICK = os.sysconf('SC_CLK_TCK')
WAYS = {}
PERMUTED, RANDOM, ORDER = 'permuted rows', 'random rows, with replacement', 'in order'


def way(name, order, needs=(), peer=False):
    def keep(f):
        WAYS[name] = dict(make=f, order=order, needs=tuple(needs), peer=peer, work=f.__doc__)
        return f
    return keep


# --- dpipe ---

def feed_options(c, **more):
    return dict(manifest=c['manifest'], seq_len=c['seq_len'], batch=c['batch'], seed=c['seed'], val_fraction=0.0, **more)


@way('dpipe numpy, rows', PERMUTED, ['numpy', 'dpipe'])
def numpy_rows(c):
    """u16 shards to int32 [B, T + 1]"""
    import dpipe
    return iter(dpipe.Feed(**feed_options(c)))


@way('dpipe numpy, pairs', PERMUTED, ['numpy', 'dpipe'])
def numpy_pairs(c):
    """u16 shards to two int64 [B, T]"""
    import dpipe
    feed = dpipe.Feed(**feed_options(c))
    while True: yield feed.next_pair()


@way('dpipe numpy, bestfit with masks', PERMUTED, ['numpy', 'dpipe'])
def numpy_masks(c):
    """documents packed whole; int32 [B, T + 1], cu_seqlens, positions, loss mask"""
    import dpipe
    feed = dpipe.Feed(**feed_options(c, pack='bestfit'))
    while True:
        b = feed.next_batch()
        yield b.ids, b


def feed_loader(c, cls=None, workers=0, **more):
    from torch.utils.data import DataLoader
    from dpipe.torch import FeedDataset
    data = FeedDataset(**feed_options(c, **more))
    return iter((cls or DataLoader)(data, batch_size=None, num_workers=workers)) if cls is not False else iter(data)


@way('dpipe torch', PERMUTED, ['torch', 'dpipe.torch'])
def torch_alone(c):
    """u16 shards to two int64 [B, T]; FeedDataset by itself"""
    return feed_loader(c, False)


@way('dpipe torch, reuse', PERMUTED, ['torch', 'dpipe.torch'])
def torch_reuse(c):
    """the same into the memory of 3 batches by turns"""
    return feed_loader(c, False, reuse=3)


@way('dpipe torch DataLoader', PERMUTED, ['torch', 'dpipe.torch'])
def torch_loader(c):
    """u16 shards to two int64 [B, T]"""
    return feed_loader(c)


@way('dpipe torch DataLoader, reuse', PERMUTED, ['torch', 'dpipe.torch'])
def torch_loader_reuse(c):
    """the same into the memory of 3 batches by turns"""
    return feed_loader(c, reuse=3)


@way('dpipe torch DataLoader, rows', PERMUTED, ['torch', 'dpipe.torch'])
def torch_loader_rows(c):
    """u16 shards to int32 [B, T + 1]"""
    return feed_loader(c, rows=True)


@way('dpipe torch DataLoader, bestfit with masks', PERMUTED, ['torch', 'dpipe.torch'])
def torch_loader_masks(c):
    """documents packed whole; two int64 [B, T], cu_seqlens, int64 positions, loss mask"""
    return feed_loader(c, pack='bestfit', masks=True)


@way('dpipe torch DataLoader, 2 workers', PERMUTED, ['torch', 'dpipe.torch'])
def torch_loader_workers(c):
    """u16 shards to two int64 [B, T], through pipes and shared memory"""
    return feed_loader(c, workers=2)


@way('dpipe torchdata StatefulDataLoader', PERMUTED, ['torch', 'dpipe.torch', 'torchdata.stateful_dataloader'])
def stateful_loader(c):
    """u16 shards to two int64 [B, T]; a snapshot of the state every 1,000 steps"""
    from torchdata.stateful_dataloader import StatefulDataLoader
    return feed_loader(c, lambda d, **k: StatefulDataLoader(d, snapshot_every_n_steps=1000, **k))


def served(c, address):
    """The options of a client of `dpipe feed --serve`, a child of this process."""
    import atexit, dpipe, shutil, subprocess, tempfile
    d = tempfile.mkdtemp(prefix='dpipe-bench-')
    if not address: address = f'{d}/feed.sock'
    program = os.path.join(os.environ.get('BUILD', f'{ROOT}/build/release'), 'dpipe')
    p = subprocess.Popen([program, 'feed', '-q', '--manifest', c['manifest'], '--serve', address])
    atexit.register(lambda: (p.terminate(), p.wait(), shutil.rmtree(d, True)))
    o = {**feed_options(c), 'connect': address}
    del o['manifest']
    for _ in range(500):
        try: return dpipe.Feed(**o).close() or o
        except dpipe.NotFound: time.sleep(0.01)
    raise RuntimeError('the server did not come')


@way('dpipe numpy, rows from a server', PERMUTED, ['numpy', 'dpipe'])
def ring_rows(c):
    """the server maps u16 shards; through a ring of memory, widened here to int32 [B, T + 1]; CPU of both processes"""
    import dpipe
    return iter(dpipe.Feed(**served(c, None)))


@way('dpipe torch DataLoader, from a server', PERMUTED, ['torch', 'dpipe.torch'])
def ring_loader(c):
    """the same as two int64 [B, T]"""
    from torch.utils.data import DataLoader
    from dpipe.torch import FeedDataset
    return iter(DataLoader(FeedDataset(**served(c, None)), batch_size=None))


# --- what the framework itself costs ---

@way('constant, DataLoader', 'none', ['torch'])
def constant_batch(c):
    """the same two int64 [B, T] again and again: the floor of batches made elsewhere"""
    import torch
    from torch.utils.data import DataLoader, IterableDataset

    class Constant(IterableDataset):
        def __iter__(self):
            pair = torch.zeros((2, c['batch'], c['seq_len']), dtype=torch.int64).unbind(0)
            while True: yield pair

    return iter(DataLoader(Constant(), batch_size=None))


@way('constant row, DataLoader collates', 'none', ['torch'])
def constant_row(c):
    """the same int64 [T + 1] B times, stacked by the DataLoader: the floor of what hands out rows"""
    import torch
    from torch.utils.data import DataLoader, Dataset

    class Constant(Dataset):
        row = torch.zeros(c['seq_len'] + 1, dtype=torch.int64)
        def __len__(self): return 1 << 20
        def __getitem__(self, i): return self.row

    return again(DataLoader(Constant(), batch_size=c['batch']))


# --- peers ---

def again(loader):
    while True: yield from loader


def stream(c):
    import numpy
    return numpy.memmap(f"{c['prepared']}/train.bin", numpy.uint16, 'r')


@way('numpy memmap', RANDOM, ['numpy'], peer=True)
def numpy_memmap(c):
    """slices of a memmap, stacked: u16 [B, T + 1]"""
    import numpy
    m, g, T = stream(c), numpy.random.default_rng(c['seed']), c['seq_len']
    while True: yield numpy.stack([m[i:i + T + 1] for i in g.integers(0, len(m) - T - 1, c['batch'])])


@way('nanoGPT get_batch', RANDOM, ['torch', 'numpy'], peer=True)
def nanogpt(c):
    """as its train.py does: a new memmap a batch, B slices to int64, stacked, for x and for y"""
    import numpy, torch
    torch.manual_seed(c['seed'])
    B, T = c['batch'], c['seq_len']
    while True:
        data = stream(c)
        starts = torch.randint(len(data) - T, (B,))
        yield tuple(torch.stack([torch.from_numpy(data[s + k:s + k + T].astype(numpy.int64)) for s in starts]) for k in (0, 1))


def litdata_rows(c, workers):
    import litdata
    from litdata.streaming.item_loader import TokensLoader
    data = litdata.StreamingDataset(f"{c['prepared']}/litdata", item_loader=TokensLoader(block_size=c['seq_len'] + 1), shuffle=True, drop_last=True, seed=c['seed'])
    return again(litdata.StreamingDataLoader(data, batch_size=c['batch'], num_workers=workers))


@way('litdata TokensLoader', 'shuffled chunks and blocks', ['torch', 'litdata'], peer=True)
def litdata_alone(c):
    """blocks of T + 1 u16 ids, stacked by its DataLoader"""
    return litdata_rows(c, 0)


@way('litdata TokensLoader, 2 workers', 'shuffled chunks and blocks', ['torch', 'litdata'], peer=True)
def litdata_workers(c):
    """blocks of T + 1 u16 ids, stacked in worker processes"""
    return litdata_rows(c, 2)


@way('MosaicML Streaming (MDS)', 'shuffled shards and blocks of samples', ['torch', 'streaming'], peer=True)
def mds(c):
    """samples of T + 1 u16 ids, stacked by its DataLoader"""
    import streaming
    streaming.base.util.clean_stale_shared_memory()
    data = streaming.StreamingDataset(local=f"{c['prepared']}/mds", shuffle=True, shuffle_seed=c['seed'], batch_size=c['batch'])
    return again(streaming.StreamingDataLoader(data, batch_size=c['batch']))


@way('HF datasets', 'permuted rows', ['torch', 'datasets'], peer=True)
def hf_datasets(c):
    """Arrow rows of T + 1 u16 ids with format torch, stacked by DataLoader(shuffle=True)"""
    import datasets
    from torch.utils.data import DataLoader
    data = datasets.load_from_disk(f"{c['prepared']}/arrow").with_format('torch')
    return again(DataLoader(data, batch_size=c['batch'], shuffle=True))


@way('Megatron GPTDataset', 'permuted rows', ['torch', 'megatron.core.datasets.gpt_dataset'], peer=True)
def megatron(c):
    """dpipe's Megatron export; its index is built for the first batch; tokens and labels int64 [B, T], loss mask, positions, stacked by DataLoader"""
    import shutil
    from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
    from torch.utils.data import DataLoader

    class Tokenizer:
        vocab_size, eod, pad, unique_identifiers = 50257, 50256, 50256, {'class': 'bench'}

    cache = f"{c['prepared']}/megatron-cache"
    shutil.rmtree(cache, ignore_errors=True)
    config = GPTDatasetConfig(random_seed=c['seed'], sequence_length=c['seq_len'], blend=(c['megatron'], None), split='1,0,0', path_to_cache=cache,
                              tokenizer=Tokenizer(), reset_position_ids=False, reset_attention_mask=False, eod_mask_loss=False, create_attention_mask=False)
    data = BlendedMegatronDatasetBuilder(GPTDataset, [c['ids'] // c['seq_len'] - 1, 0, 0], lambda: True, config).build()[0]
    return again(DataLoader(data, batch_size=c['batch']))


# --- the peers' own files, of the same ids ---

PIECE = 1 << 21


def litdata_piece(at):
    import torch
    c, i = at
    yield torch.from_numpy(stream(c)[i:i + PIECE].copy())


def prepare(c, say):
    """What there isn't yet in c['prepared']. A failure leaves its way without data, which is then skipped."""
    import numpy as np
    m, T = stream(c), c['seq_len']
    rows = m[:len(m) // (T + 1) * (T + 1)].reshape(-1, T + 1)

    def litdata(d):
        import litdata
        from litdata.streaming.item_loader import TokensLoader
        litdata.optimize(litdata_piece, [(c, i) for i in range(0, len(m), PIECE)], d, chunk_bytes='64MB', item_loader=TokensLoader(), num_workers=1,
                         reorder_files=False, verbose=False)

    def mds(d):
        from streaming import MDSWriter
        with MDSWriter(out=d, columns={'tokens': f'ndarray:uint16:{T + 1}'}) as w:
            for r in rows: w.write({'tokens': r})

    def arrow(d):
        import datasets, pyarrow
        table = pyarrow.table({'input_ids': pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.reshape(-1)), T + 1)})
        datasets.Dataset(table).save_to_disk(d)

    for make in litdata, mds, arrow:
        d = os.path.join(c['prepared'], make.__name__)
        if os.path.exists(d): continue
        try:
            make(d + '.new')
            os.replace(d + '.new', d)
        except Exception as e:
            say(f'skip {make.__name__}: {type(e).__name__}: {str(e)[:200]}')


# --- the process ---

def cpu():
    """Of this process, its children that ended, and those that live."""
    total = time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    for p in children():
        try:
            with open(f'/proc/{p}/stat') as f: words = f.read().rsplit(')', 1)[1].split()
            total += (int(words[11]) + int(words[12])) / TICK
        except OSError:
            pass
    return total


def children():
    found = []
    for task in os.listdir('/proc/self/task'):
        try:
            with open(f'/proc/self/task/{task}/children') as f: found += f.read().split()
        except OSError:
            pass
    return found


def memory(pid='self'):
    """KiB resident: all, and what isn't pages of files."""
    rss = anon = 0
    with open(f'/proc/{pid}/smaps_rollup') as f:
        for line in f:
            w = line.split()
            if w[0] == 'Rss:': rss = int(w[1])
            if w[0] in ('Pss_Anon:', 'Pss_Shmem:'): anon += int(w[1])
    return rss, anon


def shape(x):
    if isinstance(x, dict): return {k: shape(v) for k, v in x.items()}
    if isinstance(x, (tuple, list)): return [shape(v) for v in x]
    return f'{str(x.dtype).replace("torch.", "")}{list(x.shape)}' if hasattr(x, 'dtype') else type(x).__name__


def main():
    import importlib
    name, c = sys.argv[1], json.loads(sys.argv[2])
    w, out = WAYS[name], os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # what peers print is no result
    def tell(**k): print(json.dumps(k), file=out, flush=True)
    needs = [n for n in w['needs']]
    frameworks, own = [n for n in needs if n in ('torch', 'numpy')], [n for n in needs if n not in ('torch', 'numpy')]
    for n in frameworks: importlib.import_module(n)
    if 'torch' in sys.modules: sys.modules['torch'].set_num_threads(1)
    start = time.perf_counter()
    try:
        for n in own: importlib.import_module(n)
        imported = time.perf_counter()
        before = memory()
        batches = w['make'](c)
        first = next(batches)
    except Exception as e:
        tell(skip=f'{type(e).__name__}: {str(e)[:300]}')
        os._exit(0)
    end = time.perf_counter()
    tell(import_ms=1e3 * (imported - start), first_ms=1e3 * (end - start), gives=shape(first))
    ids = c['batch'] * c['seq_len']
    for line in sys.stdin:
        seconds = float(line)
        n, c0, t0, stop = 0, cpu(), time.perf_counter(), time.perf_counter() + 4 * seconds
        busy = time.process_time()
        while n < 8 or (time.process_time() - busy < seconds and time.perf_counter() < stop):
            for _ in itertools.islice(batches, 8): pass
            n += 8
        used, wall = cpu() - c0, time.perf_counter() - t0
        took, stop = [], time.perf_counter() + seconds
        while len(took) < 16 or (len(took) < 1000 and time.perf_counter() < stop):
            a = time.perf_counter()
            next(batches)
            took.append(1e6 * (time.perf_counter() - a))
        tell(ids=n * ids, cpu_s=used, wall_s=wall, us=sorted(took))
    rss, anon = memory()
    for p in children():
        try: anon += memory(p)[1]
        except OSError: pass
    tell(rss_mib=(rss - before[0]) / 1024, anon_mib=(anon - before[1]) / 1024)
    import atexit
    atexit._run_exitfuncs()
    os._exit(0)


if __name__ == '__main__':
    main()
