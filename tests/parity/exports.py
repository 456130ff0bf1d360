#!/usr/bin/env python3
"""`dpipe export` read by the peers' own readers: megatron-core's IndexedDataset, datatrove's DatatroveFileDataset. usage: make parity
The layouts themselves are read in shards_formats.py. torch is replaced by a few functions of numpy (lib.without_torch)."""
import importlib.util, os, sys, types
import ctypes as C
from lib import BUILD, check, dpipe, finish, folder, need, same, skip, store, without_torch, workspace


def megatron_reader():
    """The module of megatron-core that reads .bin and .idx, without the package around it, which needs torch and a GPU's libraries."""
    spec = importlib.util.find_spec('megatron')
    base = next((p for p in (spec.submodule_search_locations if spec else []) if os.path.exists(f'{p}/core/datasets/indexed_dataset.py')), None)
    if not base: raise ImportError('megatron-core is not installed')
    for name, path in (('megatron.core', 'core'), ('megatron.core.datasets', 'core/datasets')):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [f'{base}/{path}']
    sys.modules['megatron.core.utils'] = types.ModuleType('megatron.core.utils')
    sys.modules['megatron.core.utils'].log_single_rank = lambda *a, **k: None
    return importlib.import_module('megatron.core.datasets.indexed_dataset')


def by_megatron(prefix, vocab, docs):
    for mmap in (True, False):
        d = megatron.IndexedDataset(prefix, mmap=mmap)
        check(d.index.dtype == (np.uint16 if vocab < 65500 else np.int32), f'{vocab}: dtype {d.index.dtype}')
        same(len(d), len(docs), f'{vocab}: sequences') if len(d) != len(docs) else check(True, '')
        same([d[i].tolist() for i in range(len(d))], docs, f'{vocab}: IndexedDataset, mmap {mmap}')
        same(d.document_indices.tolist(), list(range(len(docs) + 1)), f'{vocab}: document_indices')
        same(d.get(3, offset=1, length=2).tolist() if len(docs[3]) > 3 else [], docs[3][1:3] if len(docs[3]) > 3 else [], f'{vocab}: a part of a document')


def by_datatrove(file, vocab, stream, docs):
    T = 63
    d = datatrove.DatatroveFileDataset(file, seq_len=T, token_size=2 if vocab <= 65536 else 4, return_positions=True)
    check(len(d) == len(stream) // (T + 1), f'{vocab}: {len(d)} windows')
    same([d._get_input_ids(i).tolist() for i in range(len(d))], [stream[k:k + T + 1] for k in range(0, len(d) * (T + 1), T + 1)], f'{vocab}: DatatroveFileDataset')
    # Places of the tokens in their documents come from the .index file.
    place = [i for ids in docs for i in range(len(ids))]
    got = []
    for i in range(len(d)):
        got.append(d._get_pos_from_index_file(i).tolist())
        d._last_item = i
    want = []
    for k in range(0, len(d) * (T + 1), T + 1):
        w = place[k:k + T + 1]
        cut = next((j for j in range(len(w)) if w[j] == 0), len(w))  # datatrove counts a window's first document from the window's start
        want.append(list(range(cut)) + w[cut:])
    same(got, want, f'{vocab}: positions from .index')


def main(lib):
    for vocab, eot in ((50257, 50256), (65500, -1), (65536, 0), (200019, 199999)):
        with folder() as f:
            manifest, rows = sf.make(lib, f, vocab, eot)
            docs = [ids for _, ids in rows]
            stream = [t for ids in docs for t in ids]
            err, opt = sf.Err(), C.c_int64(40000)
            for i, name in enumerate(('megatron', 'llmc', 'nanogpt', 'datatrove', 'olmo')):
                if name != 'nanogpt' or vocab <= 65536: sf.call(lib, err, lib.dp_export(i, manifest.encode(), f'{f}/{name}'.encode(), C.byref(opt), C.byref(err)))
            if megatron: by_megatron(f'{f}/megatron', vocab, docs)
            if datatrove: by_datatrove(f'{f}/datatrove.ds', vocab, stream, docs)
            if vocab <= 65536: same(np.memmap(f'{f}/nanogpt.bin', dtype=np.uint16, mode='r').tolist(), stream, f'{vocab}: nanoGPT by memmap')
            same(np.memmap(f'{f}/olmo.npy', dtype=np.uint16 if vocab <= 65536 else np.uint32, mode='r').tolist(), stream, f'{vocab}: OLMo by memmap')


def by_command():
    """The same from the command line: what export writes of a workspace is what tokenizing its kept documents gives."""
    import json
    with folder() as w:
        workspace(w, 'clean:\n  c4: {enabled: false}\n  gopher_repetition: {enabled: false}\ntrain-bpe: {vocab_size: 500}\n', documents=60)
        dpipe('run', '-q', '-w', w, '--until', 'shard')
        dpipe('export', '-w', w, '-f', 'megatron', '-o', f'{w}/x')
        tok, = store(w, 'tokenizer-')[:1]
        kept = [json.loads(l) for l in dpipe('inspect', '-w', w, '--kept', '--json', '-n', 0).splitlines()]
        ids = [json.loads(l)['ids'] for l in dpipe('tokenize', '--tokenizer', tok, '--jsonl', stdin=''.join(json.dumps({'text': d['text']}) + '\n' for d in kept).encode()).splitlines()]
        d = megatron.IndexedDataset(f'{w}/x/tokens')
        end = json.load(open(tok))['model']['vocab']['<|endoftext|>']
        same([d[i].tolist() for i in range(len(d))], [i + [end] for i in ids], 'dpipe export: documents by IndexedDataset')


if np := need('numpy'):
    import shards_formats as sf
    without_torch(np)
    try: megatron = megatron_reader()
    except Exception as e: megatron = skip(f'megatron-core: {e}')
    datatrove = need('datatrove.utils.dataset')
    main(sf.load(f'{BUILD}/libdpipe.so'))
    if megatron: by_command()
finish()
