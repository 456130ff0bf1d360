#!/usr/bin/env python3
"""`dpipe export-shards` read by the peers' own code: MosaicML's MDSWriter and MDSReader, megatron-core's IndexedDataset, datatrove's
DatatroveFileDataset, numpy. usage: tests/parity/export_folders.py [build/release/libdpipe.so]

Needs numpy; mosaicml-streaming (with zstd, pillow, xxhash, brotli, tqdm), megatron-core and datatrove where they are installed, without their
dependencies: torch and the clouds' clients are replaced by empty modules, since no reader of files needs them. Without them the MDS
layout is still read by a few lines of Python."""
import ctypes as C, hashlib, importlib, importlib.machinery, importlib.util, json, os, struct, sys, tempfile, types
from unittest.mock import MagicMock

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import shards_formats as sf

try:
    import numpy as np
except ImportError:
    np = None
FORMATS = ('megatron', 'llmc', 'nanogpt', 'datatrove', 'olmo', 'mds')


class Options(C.Structure):
    _fields_ = [('link', C.c_bool), ('merge', C.c_bool), ('file_tokens', C.c_int64), ('mds_bytes', C.c_uint64), ('mds_zstd', C.c_bool)]


class Report(C.Structure):
    _fields_ = [(n, C.c_uint64) for n in ('tokens', 'documents', 'files', 'linked', 'bytes')]


def empty_modules():
    """Modules that hold anything under any name, where the real ones are missing."""
    for name in ('torch', 'torch.distributed', 'torch.utils', 'torch.utils.data', 'boto3', 'botocore', 'botocore.config', 'botocore.exceptions',
                 'google', 'google.auth', 'google.cloud', 'snappy', 'brotli', 'filelock'):
        try:
            importlib.import_module(name)
        except ImportError:
            m = types.ModuleType(name)
            m.__getattr__ = lambda attr: MagicMock() if not attr.startswith('__') else (_ for _ in ()).throw(AttributeError(attr))
            m.__path__, m.__version__, m.__spec__ = [], '2.0.0', importlib.machinery.ModuleSpec(name, None)
            sys.modules[name] = m
            if '.' in name:
                setattr(sys.modules[name.rsplit('.', 1)[0]], name.rsplit('.', 1)[1], m)
            if name == 'torch.utils.data':
                m.Dataset = m.IterableDataset = m.DataLoader = object
            if name == 'torch':
                m.as_tensor, m.float16, m.float32, m.bfloat16, m.int64 = (lambda a, **_: a), np.float16, np.float32, np.float32, np.int64
                m.from_numpy, m.Tensor, m.int, m.float, m.long = (lambda a: a), np.ndarray, np.int32, np.float32, np.int64


def package(name, *parts):
    """Empty packages along the path, so that a module is imported without what its packages' __init__ import."""
    spec = importlib.util.find_spec(name)
    base = next(iter(spec.submodule_search_locations or []), None) if spec else None
    if not base:
        raise ImportError(name + ' is not installed')
    at, path = name, base
    for part in (None,) + parts:
        if part:
            at, path = at + '.' + part, path + '/' + part
        m = types.ModuleType(at)
        m.__path__ = [path]
        sys.modules[at] = m


def peer(what, load):
    try:
        return load()
    except Exception as e:  # whatever a package's import throws
        print('skip %s: %s: %s' % (what, type(e).__name__, e))
        return None


def load_mds():
    package('streaming', 'base')
    sys.modules['streaming.base.storage'] = MagicMock()
    upload = sys.modules['streaming.base.storage.upload'] = MagicMock()

    def local_only(out, *_, **__):
        os.makedirs(out)
        return types.SimpleNamespace(local=out, remote=None, upload_file=lambda *a, **k: None)
    upload.CloudUploader.get = local_only
    return importlib.import_module('streaming.base.format.mds.writer').MDSWriter, importlib.import_module('streaming.base.format.mds.reader').MDSReader


def load_megatron():
    package('megatron', 'core', 'datasets')
    sys.modules['megatron.core.utils'] = MagicMock()
    return importlib.import_module('megatron.core.datasets.indexed_dataset').IndexedDataset


def load_datatrove():
    return importlib.import_module('datatrove.utils.dataset').DatatroveFileDataset


def export(lib, name, manifest, out, **changed):
    err, report = sf.Err(), Report()
    o = Options(True, False, 100000000, 1 << 26, False)
    for k, v in changed.items():
        setattr(o, k, v)
    sf.call(lib, err, lib.dp_export_folder(FORMATS.index(name), manifest.encode(), out.encode(), C.byref(o), C.byref(report), C.byref(err)))
    return report


def read_mds(out, width):
    """The layout, from docs/formats/shard.md."""
    docs, index = [], json.loads(sf.read(out + '/index.json'))
    sf.check(index['version'] == 2, 'index version')
    for s in index['shards']:
        raw = sf.read('%s/%s' % (out, s['raw_data']['basename']))
        sf.check(len(raw) == s['raw_data']['bytes'] and hashlib.sha256(raw).hexdigest() == s['raw_data']['hashes']['sha256'], 'MDS file')
        n, = struct.unpack_from('<I', raw)
        sf.check(n == s['samples'], 'MDS samples')
        at = struct.unpack_from('<%dI' % (n + 1), raw, 4)
        sf.check(at[-1] == len(raw), 'MDS end')
        for a, b in zip(at, at[1:]):
            size, head = struct.unpack_from('<IB', raw, a)
            k = {4: 1, 5: 2, 6: 4}[head]
            length = int.from_bytes(raw[a + 5:a + 5 + k], 'little')
            sf.check(b - a == 4 + size and size == 1 + k + length * width, 'MDS sample')
            docs.append(sf.ids_of(raw[a + 5 + k:b], width))
    return docs


def check_mds(lib, manifest, folder, docs, width, mds):
    for limit in (1 << 26, 100000):
        out = '%s/mds%d' % (folder, limit)
        export(lib, 'mds', manifest, out, mds_bytes=limit)
        sf.check(read_mds(out, width) == docs, 'MDS documents')
        if not mds:
            continue
        writer, reader = mds
        theirs = out + '-peer'
        dtype = np.uint16 if width == 2 else np.uint32
        with writer(out=theirs, columns={'tokens': 'ndarray:uint%d' % (8 * width)}, hashes=['sha256'], size_limit=limit) as w:
            for d in docs:
                w.write({'tokens': np.array(d, dtype)})
        names = sorted(os.listdir(theirs))
        sf.check(names == sorted(n for n in os.listdir(out) if n != 'dpipe-export.json'), 'files of MDSWriter')
        for n in names:
            sf.check(sf.read('%s/%s' % (theirs, n)) == sf.read('%s/%s' % (out, n)), n + ' is what MDSWriter writes')
        zipped = out + '-zstd'
        export(lib, 'mds', manifest, zipped, mds_bytes=limit, mds_zstd=True)
        import zstd
        for path in (out, zipped):
            got = []
            for s in json.loads(sf.read(path + '/index.json'))['shards']:
                if s['zip_data']:  # as Stream._decompress_shard_part does
                    raw = zstd.decompress(sf.read('%s/%s' % (path, s['zip_data']['basename'])))
                    with open('%s/%s' % (path, s['raw_data']['basename']), 'wb') as f:
                        f.write(raw)
                r = reader.from_json(path, '', s)
                r.validate(False)
                got += [r[i]['tokens'].tolist() for i in range(r.samples)]
            sf.check(got == docs, 'documents by MDSReader')


def check_others(lib, manifest, folder, docs, vocab, megatron, datatrove):
    width, stream = 2 if vocab <= 65536 else 4, [t for d in docs for t in d]
    for merge in (False, True):
        out = '%s/m%d' % (folder, merge)
        r = export(lib, 'megatron', manifest, out, merge=merge)
        prefixes = sorted(n[:-4] for n in os.listdir(out) if n.endswith('.idx'))
        sf.check(len(prefixes) == (1 if merge else 3) and r.linked == (0 if merge or 65500 <= vocab <= 65536 else 3), 'Megatron files')
        if megatron:
            got = []
            for p in prefixes:
                d = megatron('%s/%s' % (out, p))
                got += [d[i].tolist() for i in range(len(d))]
            sf.check(got == docs, 'documents by IndexedDataset')
    out = folder + '/d'
    export(lib, 'datatrove', manifest, out)
    got = []
    for n in sorted(x for x in os.listdir(out) if x.endswith('.ds')):
        raw = sf.ids_of(sf.read('%s/%s' % (out, n)), width)
        got += raw
        if datatrove:
            d = datatrove('%s/%s' % (out, n), seq_len=63, token_size=width)
            sf.check([d._get_input_ids(i).tolist() for i in range(len(d))] == [raw[k:k + 64] for k in range(0, len(d) * 64, 64)], 'windows by DatatroveFileDataset')
    sf.check(got == stream, 'datatrove ids')
    out, got = folder + '/o', []
    export(lib, 'olmo', manifest, out)
    for n in sorted(x for x in os.listdir(out) if x.endswith('.npy')):
        got += (np.memmap('%s/%s' % (out, n), dtype='<u%d' % width, mode='r').tolist() if np else sf.ids_of(sf.read('%s/%s' % (out, n)), width))
    sf.check(got == stream, 'OLMo ids')


def main():
    so = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.environ.get('BUILD', 'build/release'), 'libdpipe.so')
    lib = sf.load(os.path.abspath(so))
    if np:
        empty_modules()
    mds = peer('mosaicml-streaming', load_mds) if np else None
    megatron = peer('megatron-core', load_megatron) if np else None
    datatrove = peer('datatrove', load_datatrove) if np else None
    for vocab, eot in ((50257, 50256), (65500, -1), (200019, 199999)):
        with tempfile.TemporaryDirectory() as folder:
            manifest, rows = sf.make(lib, folder, vocab, eot)
            docs = [ids for _, ids in rows]
            check_mds(lib, manifest, folder, docs, 2 if vocab <= 65536 else 4, mds)
            check_others(lib, manifest, folder, docs, vocab, megatron, datatrove)
    print('%d passed, 0 failed' % sf.check.count)


main()
