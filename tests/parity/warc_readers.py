#!/usr/bin/env python3
"""WARC and ARC files read by warcio, FastWARC and dpipe: the same documents, URLs and bytes. usage: make parity
WARC_FILES=FOLDER takes another folder's files too. Where the two peers disagree about a record, dpipe must agree with one of them."""
import glob, os, re, subprocess
from lib import BUILD, ROOT, check, finish, need

ROW = re.compile(rb'^row (\S*) format \d+ bytes (\d+) text (\d+) ([0-9a-f]{32}) (\S+) mime (\S*) url (.*) meta \{.*\}$')
# Damaged on purpose: of these one must have what the other has, and perhaps more. dpipe leaves a cut response out and goes on behind
# damage, and says both; a peer gives the stump or stops. test_warc.c has dpipe's side exactly.
DAMAGED = {'fastwarc--clipped.warc.gz', 'warcio--example-space-in-url.arc', 'warcio--example-trunc.warc', 'warcio--example-wrong-chunks.warc.gz'}


def subsequence(a, b):
    it = iter(b)
    return all(x in it for x in a)


def own(path):
    """Kept rows, and the URLs of those that dpipe drops (pictures...)."""
    out = subprocess.run([f'{BUILD}/bench/bench_ingest', '-n', '1', '-v', path], capture_output=True, check=True).stdout
    rows = [(m[7].decode('utf-8', 'replace'), int(m[3]), m[4].decode(), m[5]) for m in map(ROW.match, out.split(b'\n')) if m]
    return [r[:3] for r in rows if r[3] == b'kept'], {clean([r[:3]], True)[0][0] for r in rows if r[3] != b'kept'}


def digest(b):
    return xxhash.xxh3_128_hexdigest(b)


def wanted(kind, status):
    return kind in ('resource', 'conversion') or kind == 'response' and status in (None, 200)


def by_warcio(path):
    rows = []
    with open(path, 'rb') as f:
        try:
            for r in warcio.archiveiterator.ArchiveIterator(f, arc2warc=True):
                status = r.http_headers.get_statuscode() if r.http_headers else None
                if not wanted(r.rec_type, int(status) if status and status.isdigit() else None): continue
                b = r.content_stream().read()
                rows.append((r.rec_headers.get_header('WARC-Target-URI') or '', len(b), digest(b)))
        except Exception as e:
            return rows, f'{type(e).__name__}: {e}'.split('\n')[0]
    return rows, None


def by_fastwarc(path):
    rows = []
    try:
        with open(path, 'rb') as f:
            for r in fastwarc.ArchiveIterator(f, auto_decode='all', parse_http=True):
                kind = str(r.record_type).strip()
                if not wanted(kind, r.http_headers.status_code if kind == 'response' and r.http_headers else None): continue
                b = r.reader.read()
                rows.append(((r.headers.get('WARC-Target-URI') or ''), len(b), digest(b)))
    except Exception as e:
        return rows, f'{type(e).__name__}: {e}'.split('\n')[0]
    return rows, None


def clean(rows, empty=False):
    """URLs are spelt with <> and blanks by some crawlers; empty payloads are no documents, nor those over ingest.doc_bytes_max (16M)."""
    return [(u.strip('<>').strip().replace(' ', '%20'), n, d) for u, n, d in rows if (n or empty) and n <= 16 << 20]


def main():
    files = sorted(p for f in [f'{ROOT}/tests/data/ingest', *filter(None, [os.environ.get('WARC_FILES')])] for p in glob.glob(f'{f}/*.*arc*'))
    total = 0
    for path in files:
        name, (got, dropped) = os.path.basename(path), own(path)
        got, peers, total = clean(got), {}, total + len(got)
        for peer, (rows, err) in (('warcio', by_warcio(path)), ('FastWARC', by_fastwarc(path))):
            rows = [r for r in clean(rows) if not r[0] or r[0] not in dropped]
            if err: print(f'{name}: {peer} stops after {len(rows)} documents: {err}')
            if rows or not err: peers[peer] = rows
        # A peer that stopped short speaks for what it read.
        ok = any(got == rows for rows in peers.values()) or name in DAMAGED and any(subsequence(rows, got) or subsequence(got, rows) for rows in peers.values())
        if peers and not check(ok, f'{name}: dpipe has {len(got)} documents'):
            print('   dpipe   ', got[:4])
            for k, rows in peers.items(): print('   %-8s' % k, rows[:4])
        if not peers: print(f'{name}: no peer reads it')
    check(total >= 150, f'{total} documents in all')


if (m := need('warcio.archiveiterator', 'fastwarc.warc', 'xxhash')) and os.path.exists(f'{BUILD}/bench/bench_ingest'):
    import warcio, warcio.archiveiterator, fastwarc, xxhash
    main()
finish()
