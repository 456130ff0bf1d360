#!/usr/bin/env python3
"""Read dpipe's shards, exports and feed by a second implementation, written from the published layouts alone.

usage: make parity, or tests/parity/shards_formats.py [build/release/libdpipe.so]

The data set is made through the C API (ctypes), then read back here: the native shard (docs/formats/shard.md), Megatron .bin/.idx,
llm.c .bin, datatrove .ds, OLMo .npy + .csv.gz, and the feed's order and split, recomputed from the definitions in the headers.
Needs Python 3 only; with numpy it also opens the files the way the peers do (np.memmap, np.frombuffer at an offset).
"""
import array, ctypes as C, gzip, os, struct, sys, tempfile

try:
    import numpy as np
except ImportError:
    np = None

M64 = (1 << 64) - 1


class Hash(C.Structure):
    _fields_ = [("lo", C.c_uint64), ("hi", C.c_uint64)]


class Meta(C.Structure):
    _fields_ = [("vocab_size", C.c_uint32), ("eot", C.c_int64), ("tokenizer", Hash), ("dtype", C.c_int)]


class Row(C.Structure):
    _fields_ = [("name", C.c_char_p), ("index", C.c_char_p), ("tokens", C.c_uint64), ("documents", C.c_uint64),
                ("bytes", C.c_uint64), ("sha256", C.c_char * 65), ("index_sha256", C.c_char * 65), ("packed", C.c_bool)]


class Options(C.Structure):
    _fields_ = [("seq_len", C.c_int64), ("batch", C.c_int64), ("seed", C.c_int64), ("split", C.c_int), ("val_fraction", C.c_double),
                ("test_fraction", C.c_double), ("rank", C.c_int64), ("world", C.c_int64), ("shuffle", C.c_bool), ("pack", C.c_int),
                ("loss_mask", C.c_int), ("on_bad", C.c_int), ("check", C.c_bool), ("domains", C.c_char_p), ("mixture", C.c_char_p)]


class Err(C.Structure):
    _fields_ = [("code", C.c_int), ("sys", C.c_int), ("line", C.c_int), ("file", C.c_char_p), ("msg", C.c_char * 480)]


def load(path):
    lib = C.CDLL(path)
    lib.dp_shard_writer_add.argtypes = [C.c_void_p, Hash, Hash, C.c_uint32, C.c_void_p, C.c_size_t, C.c_void_p]
    lib.dp_shard_writer_tokens.restype = C.c_uint64
    lib.dp_feed_samples.restype = C.c_uint64
    lib.dp_feed_get.argtypes = [C.c_void_p, C.c_uint64, C.c_void_p, C.c_void_p]
    return lib


def mix(z):
    z = ((z ^ z >> 30) * 0xbf58476d1ce4e5b9) & M64
    z = ((z ^ z >> 27) * 0x94d049bb133111eb) & M64
    return z ^ z >> 31


class Rng:
    def __init__(self, state):
        self.state = state

    def next(self):
        self.state = (self.state + 0x9e3779b97f4a7c15) & M64
        return mix(self.state)


class Order:
    """trainer_feed/feed_order.h"""

    def __init__(self, n, seed, epoch):
        bits = (n - 1).bit_length()
        self.n, self.low = n, (bits + 1) // 2
        self.lm, self.hm = (1 << self.low) - 1, (1 << bits - self.low) - 1
        r = Rng((mix((seed & M64) ^ 0x6470697065666565) + mix((epoch + 0x9e3779b97f4a7c15) & M64)) & M64)
        self.key = [r.next() for _ in range(4)]

    def at(self, i):
        while True:
            a, b = i & self.lm, i >> self.low
            b ^= mix((a + self.key[0]) & M64) & self.hm
            a ^= mix((b + self.key[1]) & M64) & self.lm
            b ^= mix((a + self.key[2]) & M64) & self.hm
            a ^= mix((b + self.key[3]) & M64) & self.lm
            i = b << self.low | a
            if i < self.n:
                return i


def check(ok, what):
    check.count += 1
    if not ok:
        sys.exit("FAIL " + what)


check.count = 0


def call(lib, err, rc):
    if rc < 0:
        sys.exit("FAIL %d: %s" % (rc, err.msg.decode()))


def make(lib, folder, vocab, eot, shards=3, docs=200, longest=700):
    err, rng, all_docs = Err(), Rng(vocab), []
    meta = Meta(vocab, eot, Hash(3, 4), 0)
    m = C.c_void_p()
    call(lib, err, lib.dp_manifest_new(C.byref(m), C.byref(meta), C.byref(err)))
    for s in range(shards):
        w, names = C.c_void_p(), [b"s%d.bin" % s, b"s%d.dpx" % s]
        call(lib, err, lib.dp_shard_writer_open(C.byref(w), *[os.path.join(folder.encode(), n) for n in names], C.byref(meta), C.byref(err)))
        for k in range(docs):
            ids = array.array("I", [rng.next() % vocab for _ in range(1 + rng.next() % longest)])
            content = rng.next()
            call(lib, err, lib.dp_shard_writer_add(w, Hash(len(all_docs), 5), Hash(content, 9), s, ids.buffer_info()[0], len(ids), C.byref(err)))
            all_docs.append((content, list(ids) + ([eot] if eot >= 0 else [])))
        row = Row(*names, tokens=lib.dp_shard_writer_tokens(w), documents=docs)
        row.bytes = row.tokens * (2 if vocab <= 65536 else 4)
        sha, sha_index = C.create_string_buffer(65), C.create_string_buffer(65)
        call(lib, err, lib.dp_shard_writer_finish(w, sha, sha_index, C.byref(err)))
        row.sha256, row.index_sha256 = sha.value, sha_index.value
        call(lib, err, lib.dp_manifest_add(m, C.byref(row), C.byref(err)))
        lib.dp_shard_writer_close(w)
    path = os.path.join(folder, "manifest.json")
    call(lib, err, lib.dp_manifest_write(m, path.encode(), C.byref(err)))
    lib.dp_manifest_free(m)
    return path, all_docs


def read(path):
    with open(path, "rb") as f:
        return f.read()


def ids_of(raw, width, offset=0):
    a = array.array("H" if width == 2 else "I", raw[offset:])
    return a.tolist()


def crc32c(data):
    table = crc32c.table
    c = 0xffffffff
    for b in data:
        c = c >> 8 ^ table[(c ^ b) & 255]
    return c ^ 0xffffffff


crc32c.table = []
for i in range(256):
    for _ in range(8):
        i = i >> 1 ^ (0x82f63b78 if i & 1 else 0)
    crc32c.table.append(i)


def check_native(folder, vocab, eot, docs):
    width, at = 2 if vocab <= 65536 else 4, 0
    for s in range(3):
        raw, body = read("%s/s%d.dpx" % (folder, s)), read("%s/s%d.bin" % (folder, s))
        (magic, version, id_bytes, v, e, tokens, n, lo, hi, frame, flags, frames, size) = struct.unpack_from("<4sIIIqQQQQIIQQ", raw)
        check((magic, version, id_bytes, v, e, lo, hi, frame, flags) == (b"DPX1", 1, width, vocab, eot, 3, 4, 65536, 0), "dpx header")
        check(size == len(raw) and len(body) == tokens * width and frames == -(-tokens // 65536), "dpx sizes")
        check(struct.unpack_from("<I", raw, 124)[0] == crc32c(raw[:124]), "dpx header checksum")
        p = 128
        for i, w in enumerate((8, 16, 16, 4, 4)):
            k = (frames if i == 4 else n) * w
            check(struct.unpack_from("<I", raw, 80 + 4 * i)[0] == crc32c(raw[p:p + k]), "dpx section %d" % i)
            p += k
        check(p == len(raw), "dpx end")
        ends = struct.unpack_from("<%dQ" % n, raw, 128)
        got, start = ids_of(body, width), 0
        for d in range(n):
            check(got[start:ends[d]] == docs[at][1] and struct.unpack_from("<Q", raw, 128 + 8 * n + 16 * d)[0] == docs[at][0], "shard document")
            start, at = ends[d], at + 1
        for f in range(frames):
            part = body[f * 65536 * width:(f + 1) * 65536 * width]
            check(struct.unpack_from("<I", raw, 128 + 44 * n + 4 * f)[0] == crc32c(part), "frame checksum")


def check_megatron(p, vocab, docs):
    idx, width = read(p + ".idx"), 2 if vocab < 65500 else 4
    check(idx[:9] == b"MMIDIDX\0\0", "idx magic")
    version, code, seqs, ndoc = struct.unpack_from("<QBQQ", idx, 9)
    check((version, code, seqs, ndoc) == (1, 8 if width == 2 else 4, len(docs), len(docs) + 1), "idx header")
    lengths = struct.unpack_from("<%di" % seqs, idx, 34)
    pointers = struct.unpack_from("<%dq" % seqs, idx, 34 + 4 * seqs)
    index = struct.unpack_from("<%dq" % ndoc, idx, 34 + 12 * seqs)
    check(len(idx) == 34 + 12 * seqs + 8 * ndoc and list(index) == list(range(seqs + 1)), "idx document index")
    body = read(p + ".bin")
    for k in range(seqs):
        check(ids_of(body[pointers[k]:pointers[k] + lengths[k] * width], width) == docs[k][1], "Megatron document")
    if np is not None:  # as IndexedDataset does
        mm, dtype = np.memmap(p + ".bin", mode="r", order="C"), np.uint16 if width == 2 else np.int32
        ln = np.frombuffer(idx, dtype=np.int32, count=seqs, offset=34)
        pt = np.frombuffer(idx, dtype=np.int64, count=seqs, offset=34 + ln.nbytes)
        for k in (0, seqs // 2, seqs - 1):
            check(np.frombuffer(mm, dtype=dtype, count=int(ln[k]), offset=int(pt[k])).tolist() == docs[k][1], "Megatron by numpy")


def check_others(lib, folder, path, vocab, docs, stream):
    width, err = 2 if vocab <= 65536 else 4, Err()
    for i, name in enumerate(("megatron", "llmc", "nanogpt", "datatrove", "olmo")):
        if name == "nanogpt" and width == 4:
            continue
        opt = C.c_int64(40000)
        call(lib, err, lib.dp_export(i, path.encode(), os.path.join(folder, name).encode(), C.byref(opt), C.byref(err)))
    check_megatron(folder + "/megatron", vocab, docs)
    got = []
    for name in sorted(n for n in os.listdir(folder) if n.startswith("llmc_")):
        raw = read(os.path.join(folder, name))
        head = struct.unpack_from("<256i", raw)
        check(head[:2] == ((20240520, 1) if width == 2 else (20240801, 7)) and head[2] <= 40000 and not any(head[3:]), "llm.c header")
        part = ids_of(raw, width, 1024)
        check(len(part) == head[2], "llm.c count")
        got += part
    check(got == stream, "llm.c ids")
    if width == 2:
        check(ids_of(read(folder + "/nanogpt.bin"), 2) == stream, "nanoGPT ids")
    check(ids_of(read(folder + "/datatrove.ds"), width) == stream, "datatrove ids")
    raw, start = read(folder + "/datatrove.ds.index"), 0
    for k, end in enumerate(struct.unpack("<%dQ" % (len(raw) // 8), raw)):
        check(stream[start:end] == docs[k][1], "datatrove document")
        start = end
    meta = read(folder + "/datatrove.ds.metadata").decode().split("\n")
    check(meta[0].rsplit("|", 1)[1] == str(width) and int(meta[1]) == len(stream) and len(meta) == 3, "datatrove metadata")
    check(ids_of(read(folder + "/olmo.npy"), width) == stream, "OLMo ids")
    if np is not None:
        check(np.memmap(folder + "/olmo.npy", mode="r", dtype=np.uint16 if width == 2 else np.uint32).tolist() == stream, "OLMo by numpy")
    with gzip.open(folder + "/olmo.csv.gz", "rt") as f:
        spans = [tuple(map(int, line.split(","))) for line in f]
    check([stream[a:b] for a, b in spans] == [d[1] for d in docs], "OLMo documents")


def check_feed(lib, path, docs):
    err, T = Err(), 64
    for split, fraction, shuffle, seed in ((0, 0.01, True, 0), (0, 0.3, True, -5), (1, 0.3, True, 11), (1, 0.3, False, 11), (0, 0.0, True, 2)):
        side = [int(mix(c ^ 0x9e3779b97f4a7c15) < int(fraction * 2.0**64)) for c, _ in docs]
        stream = [t for s, (_, ids) in zip(side, docs) if s == split for t in ids]
        o, f = Options(T, 4, seed, split, fraction, 0, 0, 1, shuffle), C.c_void_p()
        call(lib, err, lib.dp_feed_open(C.byref(f), path.encode(), C.byref(o), C.byref(err)))
        n, row = lib.dp_feed_samples(f), (C.c_int32 * (T + 1))()
        check(n == (len(stream) - 1) // T, "feed samples")
        for epoch in (0, 1, 7):
            order = Order(n, seed, epoch)
            for i in range(0, n, 1 + n // 300):
                call(lib, err, lib.dp_feed_get(f, epoch * n + i, row, C.byref(err)))
                k = (order.at(i) if shuffle else i) * T
                check(list(row) == stream[k:k + T + 1], "feed row")
        lib.dp_feed_close(f)


def main():
    so = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.environ.get("BUILD", "build/release"), "libdpipe.so")
    if not os.path.exists(so):
        print("skip: %s isn't built (make)" % so)
        return
    if sys.byteorder != "little":
        print("skip: little-endian machines only")
        return
    lib = load(os.path.abspath(so))
    for vocab, eot in ((50257, 50256), (65500, -1), (65536, 0), (200019, 199999)):
        with tempfile.TemporaryDirectory() as folder:
            path, docs = make(lib, folder, vocab, eot)
            stream = [t for _, ids in docs for t in ids]
            check_native(folder, vocab, eot, docs)
            check_others(lib, folder, path, vocab, docs, stream)
            check_feed(lib, path, docs)
    print("%d passed, 0 failed%s" % (check.count, "" if np is not None else " (without numpy: plain Python readers only)"))


if __name__ == '__main__':
    main()
