"""Make the archives of this folder (needs libarchive.so for 7z, iso and cpio; run by hand, outputs are kept in the repository)."""
import bz2, ctypes, gzip, io, json, lzma, os, struct, subprocess, tarfile, zipfile

TEXT = b"Plain text of a member.\n"
HTML = b"<!DOCTYPE html><html><body><p>A page.</p></body></html>\n"
LINES = b'{"text":"one","id":"a","n":1}\n{"text":"two \\u00e9","url":"http://x/","meta":{"k":"v"}}\n'
FILES = [("doc/readme.txt", TEXT), ("doc/page.html", HTML), ("doc/notes.md", b"# Notes\n"), ("src/main.c", b"int main(void) { return 0; }\n"),
         ("img/dot.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), ("data/rows.jsonl", LINES), ("doc/caf\u00e9 100%!.txt", TEXT)]


def tar(files, extra=()):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as t:
        for name, data in files:
            i = tarfile.TarInfo(name)
            i.size = len(data)
            t.addfile(i, io.BytesIO(data))
        for i in extra:
            t.addfile(i)
    return out.getvalue()


def zipped(files, comp=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", comp) as z:
        for name, data in files:
            z.writestr(zipfile.ZipInfo(name), data, comp)
    return out.getvalue()


def write(name, data):
    with open(name, "wb") as f:
        f.write(data)


la = ctypes.CDLL("libarchive.so.13")
for fn in ("archive_write_new", "archive_entry_new"):
    getattr(la, fn).restype = ctypes.c_void_p


def with_libarchive(path, form, files):
    a = ctypes.c_void_p(la.archive_write_new())
    assert getattr(la, "archive_write_set_format_" + form)(a) == 0
    assert la.archive_write_open_filename(a, path.encode()) == 0
    for name, data in files:
        e = ctypes.c_void_p(la.archive_entry_new())
        la.archive_entry_set_pathname(e, name.encode())
        la.archive_entry_set_size(e, ctypes.c_int64(len(data)))
        la.archive_entry_set_filetype(e, 0o100000)
        la.archive_entry_set_perm(e, 0o644)
        assert la.archive_write_header(a, e) >= -20
        la.archive_write_data(a, data, ctypes.c_size_t(len(data)))
    assert la.archive_write_close(a) == 0


link = tarfile.TarInfo("link")
link.type, link.linkname = tarfile.SYMTYPE, "doc/readme.txt"
hard = tarfile.TarInfo("hard")
hard.type, hard.linkname = tarfile.LNKTYPE, "doc/readme.txt"
folder = tarfile.TarInfo("doc")
folder.type = tarfile.DIRTYPE
fifo = tarfile.TarInfo("fifo")
fifo.type = tarfile.FIFOTYPE
plain = tar(FILES, (link, hard, folder, fifo))
write("files.tar.gz", gzip.compress(plain, mtime=0))
write("files.tar.bz2", bz2.compress(plain))
write("files.tar.xz", lzma.compress(plain))
for tool, suffix in (("zstd", "zst"), ("lz4", "lz4")):
    write("files.tar." + suffix, subprocess.run([tool, "-c", "-q"], input=plain, stdout=subprocess.PIPE, check=True).stdout)
write("files.zip", zipped(FILES))
with_libarchive("files.7z", "7zip", FILES[:4])
with_libarchive("files.cpio", "cpio_newc", FILES[:4])
with_libarchive("files.iso", "iso9660", FILES[:2])
with open("files.iso", "rb") as f:
    write("files.iso.gz", gzip.compress(f.read(), mtime=0))
os.remove("files.iso")
data_tar = lzma.compress(tar([("./usr/share/doc/x/readme.html", HTML), ("./usr/share/man/man1/x.1.gz", gzip.compress(b".TH X 1\n", mtime=0))]))
control = gzip.compress(tar([("./control", b"Package: x\n")]), mtime=0)


def ar(members):
    out = b"!<arch>\n"
    for name, data in members:
        out += b"%-16s%-12d%-6d%-6d%-8s%-10d`\n" % (name.encode(), 0, 0, 0, b"100644", len(data)) + data + b"\n" * (len(data) & 1)
    return out


write("package.deb", ar([("debian-binary", b"2.0\n"), ("control.tar.gz", control), ("data.tar.xz", data_tar)]))
write("twice.tar", tar([("a", TEXT), ("a", TEXT), ("a", TEXT), ("a#2", TEXT), ("b\x01\u00e9@5", TEXT)]))
write("nested.tar.gz", gzip.compress(tar([("in.zip", zipped(FILES[:2])), ("in.tar.xz", lzma.compress(tar(FILES[:1])))]), mtime=0))
deep = TEXT
for i in range(8):
    deep = tar([("d%d" % i, deep)])
write("deep.tar.gz", gzip.compress(deep, mtime=0))
bomb = gzip.compress(b"\0" * (1 << 20), 9, mtime=0) * 1024
write("bomb.gz", gzip.compress(gzip.compress(bomb, 9, mtime=0), 9, mtime=0))
write("bomb.zip", zipped([("a.txt", TEXT), ("bomb", b" " * (80 << 20)), ("z.txt", TEXT)], zipfile.ZIP_BZIP2))
enc = bytearray(zipped([("secret.txt", TEXT), ("open.txt", TEXT)]))
enc[6] |= 1
enc[enc.index(b"PK\x01\x02") + 8] |= 1
write("encrypted.zip", bytes(enc))

# Records of all sizes in streams that must be buffered: the window moves and grows under them.
warc = b""
for i in range(60):
    block = (b"line %d of a long record\n" % i) * (1 + (i * i * 7919) % 12007)
    warc += b"WARC/1.1\r\nWARC-Type: resource\r\nWARC-Target-URI: http://x/%d\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % (i, len(block)) + block + b"\r\n\r\n"
write("sizes.warc.zst", subprocess.run(["zstd", "-19", "-c", "-q"], input=warc, stdout=subprocess.PIPE, check=True).stdout)
write("sizes.warc.gz", gzip.compress(warc, mtime=0))
write("sizes.warc.bz2", bz2.compress(warc))

# What only permissions, old words, offsets of the whole archive, or a damaged or hidden directory say.
def ar_short(members):  # as `ar rc` writes it today: permissions without a file type, names with a slash
    out = b"!<arch>\n"
    for name, data in members:
        out += b"%-16s%-12d%-6d%-6d%-8s%-10d`\n" % (name.encode() + b"/", 0, 0, 0, b"644", len(data)) + data + b"\n" * (len(data) & 1)
    return out


def cpio_words(members, order):  # struct of 16-bit words, 32-bit ones high word first
    out = b""
    for name, data in members + [("TRAILER!!!", b"")]:
        n = name.encode() + b"\0"
        out += struct.pack(order + "13H", 0o070707, 0, 1, 0o100644, 0, 0, 1, 0, 0, 0, len(n), len(data) >> 16, len(data) & 0xffff)
        out += n + b"\0" * (len(n) & 1) + data + b"\0" * (len(data) & 1)
    return out


write("modes.ar", ar_short([("readme.txt", TEXT), ("page.html", HTML)]))
write("words.cpio", cpio_words(FILES[:4], "<"))
write("words_big.cpio", cpio_words(FILES[:4], ">"))
with_libarchive("files.xar", "xar", FILES[:4])
write("joined.tar", tar(FILES[:2]) + tar(FILES[2:4]))
bad = bytearray(zipped(FILES[:4]))
bad[bad.index(b"PK\x01\x02") + 1] ^= 1
write("directory.zip", bytes(bad))
write("self.exe", b"MZ\x90\0\3\0\0\0" + b"\x01\x02\x03\0" * 256 + zipped(FILES[:4]))
write("padding.tar", tar(FILES[:2])[:1024 + 512 + len(HTML)])

# A record that is too large to hold, at the begin of a compressed member.
large = [b"WARC/1.1\r\nWARC-Type: resource\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % n + b"x" * n + b"\r\n\r\n" for n in (5, 17 << 20, 6)]
write("large.warc.gz", b"".join(gzip.compress(r, 9, mtime=0) for r in large))
write("large_cut.warc.gz", gzip.compress(large[1][:-100], 9, mtime=0) + gzip.compress(large[2], mtime=0))
frames = [b'{"text":"one"}\n', b"x" * (40 << 20) + b"\n", b'{"text":"three"}\n']
write("bomb_between.jsonl.zst", b"".join(subprocess.run(["zstd", "-19", "-c", "-q"], input=f, stdout=subprocess.PIPE, check=True).stdout for f in frames))
