#!/usr/bin/env python3
"""dpipe's feed by a second implementation, written from docs/formats/feed_order.md and docs/formats/shard.md alone; Python 3 only.

usage: feed_order.py ROWS_FILE SEQ_LEN SEED PACK VAL TEST SPLIT SHUFFLE START MIXTURE NAME=MANIFEST...
Recomputes the int32 rows that ROWS_FILE (from `dpipe feed --dump`, one rank) holds from sample START on; prints how many agree, and exits
with 1 at the first that doesn't. MIXTURE - is none; one =MANIFEST is a feed without domains.
"""
import array, fractions, json, os, re, struct, sys

M64 = (1 << 64) - 1


def mix64(z):
    z = ((z ^ z >> 30) * 0xbf58476d1ce4e5b9) & M64
    z = ((z ^ z >> 27) * 0x94d049bb133111eb) & M64
    return z ^ z >> 31


class Domain:
    def __init__(self, name, path, o):
        m = json.load(open(path))
        self.name, self.o, self.eot = name, o, m["eot"]
        key = 0xcbf29ce484222325
        for b in name.encode():
            key = ((key ^ b) * 0x100000001b3) & M64
        self.seed = (o.seed ^ (mix64(key) if name else 0)) & M64
        self.docs = []  # (number in the manifest, its ids)
        number = 0
        for s in m["shards"]:
            d = os.path.dirname(path)
            ids = array.array("H" if m["dtype"] == "u16" else "I")
            ids.frombytes(open(os.path.join(d, s["name"]), "rb").read())
            x = open(os.path.join(d, s["index"]), "rb").read()
            n = s["documents"]
            ends = struct.unpack_from("<%dQ" % n, x, 128)
            contents = struct.unpack_from("<%dQ" % (2 * n), x, 128 + 8 * n)[::2]
            begin = 0
            for e, c in zip(ends, contents):
                if self.side(c) == o.split:
                    self.docs.append((number, ids[begin:e]))
                begin, number = e, number + 1
        self.rows = self.concat() if o.pack == "concat" else self.bestfit()
        self.permutation = (-1, None)

    def side(self, content):
        h = mix64(content ^ 0x9e3779b97f4a7c15)
        if h < int(self.o.val * 2**64):
            return "val"
        return "test" if M64 - h < int(self.o.test * 2**64) else "train"

    def concat(self):
        stream, t = array.array("i"), self.o.t
        for _, ids in self.docs:
            stream.extend(list(ids))
        return [stream[r * t:r * t + t + 1] for r in range((len(stream) - 1) // t)]

    def bestfit(self):
        rows, t, windows = [], self.o.t, {}
        for number, ids in self.docs:
            windows.setdefault(number // 65536, []).append(ids)
        for w in sorted(windows):
            pieces = []
            for ids in windows[w]:
                n, m = len(ids), 0
                if n > t:
                    m = (n - 1) // t
                    rows += [list(ids[j * t:j * t + t + 1]) for j in range(m)]
                if n and (n <= t or (n - 1) % t):
                    pieces.append(ids[m * t:])
            packed, room = [], {}  # room: rows by what they have left, the last to come there at the end
            for i in sorted(range(len(pieces)), key=lambda i: -len(pieces[i])):
                n = len(pieces[i])
                left = min((r for r in room if r >= n and room[r]), default=None)
                if left is None:
                    packed.append([])
                    row, left = len(packed) - 1, t + 1
                else:
                    row = room[left].pop()
                packed[row].append(i)
                room.setdefault(left - n, []).append(row)
            pad = self.eot if self.eot >= 0 else 0
            for p in packed:
                row = [x for i in sorted(p) for x in pieces[i]]
                rows.append(row + [pad] * (t + 1 - len(row)))
        return rows

    def draw(self, k):
        n = len(self.rows)
        epoch, i = divmod(k, n)
        if not self.o.shuffle:
            return self.rows[i]
        b = (n - 1).bit_length()
        low = (b + 1) // 2
        if self.permutation[0] != epoch:
            state, key = (mix64(self.seed ^ 0x6470697065666565) + mix64((epoch + 0x9e3779b97f4a7c15) & M64)) & M64, []
            for _ in range(4):
                state = (state + 0x9e3779b97f4a7c15) & M64
                key.append(mix64(state))
            self.permutation = (epoch, key)
        key, lm, hm = self.permutation[1], (1 << low) - 1, (1 << (b - low)) - 1
        while True:
            l, h = i & lm, i >> low
            h ^= mix64((l + key[0]) & M64) & hm
            l ^= mix64((h + key[1]) & M64) & lm
            h ^= mix64((l + key[2]) & M64) & hm
            l ^= mix64((h + key[3]) & M64) & lm
            i = h << low | l
            if i < n:
                return self.rows[i]


class Mixture:
    def __init__(self, text, domains, seed):
        self.key, self.stages, names = mix64((seed ^ 0x6d69787475726573) & M64), [], [d.name for d in domains]
        for part in (text or ",".join(n + "=1e" for n in names)).split(";"):
            start, _, weights = part.rpartition(":")
            w = [fractions.Fraction(0)] * len(domains)
            for item in weights.split(","):
                name, value = item.split("=")
                d = names.index(name.strip())
                w[d] = fractions.Fraction(value.strip().rstrip("e")) * (len(domains[d].rows) if value.strip().endswith("e") else 1)
            common = fractions.Fraction(0)
            for x in w:  # the greatest common divisor of fractions
                a, b = common, x
                while b:
                    a, b = b, a % b
                common = a
            self.stages.append((int(start or 0), [int(x / common) for x in w]))

    def descend(self, stage, n, d=None):
        """The domain of sample n and its draws before; with d, the draws of d before sample n."""
        w, lo, hi = self.stages[stage][1], 0, len(self.stages[stage][1])
        while hi - lo > 1:
            mid = (lo + hi) // 2
            m, a = sum(w[lo:hi]), sum(w[lo:mid])
            phase = mix64((self.key + stage * 65536 + lo * 256 + hi) & M64) % m if m else 0
            left = lambda x: 0 if a == 0 else x if a == m else (x * a + phase) // m
            k = left(n)
            if (d < mid) if d is not None else left(n + 1) > k:
                hi, n = mid, k
            else:
                lo, n = mid, n - k
        return lo, n

    def at(self, g):
        s = max(i for i, (start, _) in enumerate(self.stages) if start <= g)
        d, n = self.descend(s, g - self.stages[s][0])
        for i in range(s):
            n += self.descend(i, self.stages[i + 1][0] - self.stages[i][0], d)[1]
        return d, n


class Options:
    pass


def main(a):
    o = Options()
    o.t, o.seed, o.pack, o.val, o.test, o.split, o.shuffle = int(a[1]), int(a[2]), a[3], float(a[4]), float(a[5]), a[6], a[7] == "1"
    start, mixture = int(a[8]), a[9]
    domains = sorted((Domain(*x.split("=", 1), o) for x in a[10:]), key=lambda d: d.name)
    mix = Mixture(None if mixture == "-" else mixture, domains, o.seed) if len(domains) > 1 else None
    rows = array.array("i")
    rows.frombytes(open(a[0], "rb").read())
    n = len(rows) // (o.t + 1)
    for k in range(n):
        d, draw = mix.at(start + k) if mix else (0, start + k)
        want = domains[d].draw(draw)
        if list(rows[k * (o.t + 1):(k + 1) * (o.t + 1)]) != list(want):
            print("sample %d, draw %d of domain %s, differs" % (start + k, draw, domains[d].name))
            return 1
    print("%d rows agree" % n)
    return 0 if n else 1


if __name__ == "__main__":
    if len(sys.argv) < 12:
        print("skip tests/cli/feed.sh runs this, on dumps of its own\n0 passed, 0 failed, 1 skipped")
    else:
        sys.exit(main(sys.argv[1:]))
