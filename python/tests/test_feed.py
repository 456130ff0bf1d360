from __future__ import annotations

import gc
import json
import os
import threading
import unittest
from typing import Any

import numpy as np

from . import fixture
import dpipe


def take(feed: dpipe.Feed, steps: int) -> bytes:
    return b"".join(feed.next().tobytes() for _ in range(steps))


class SameRows(unittest.TestCase):
    """Byte for byte what the program writes."""

    def setUp(self) -> None:
        self.d = fixture.data()

    def compare(self, flags: list[Any], steps: int = 20, **options: Any) -> None:
        want = self.d.dump(*flags, "--steps", steps)
        with dpipe.Feed(**options) as feed:
            got = take(feed, steps)
        self.assertGreater(len(want), 0)
        self.assertEqual(got, want)

    def test_concat(self) -> None:
        self.compare(["--manifest", self.d.manifest, "--seq-len", 32, "--batch", 3, "--seed", 7], manifest=self.d.manifest, seq_len=32, batch=3, seed=7)

    def test_defaults(self) -> None:
        self.compare(["--manifest", self.d.manifest], steps=3, manifest=self.d.manifest)

    def test_bestfit(self) -> None:
        self.compare(["--manifest", self.d.manifest, "--seq-len", 64, "--batch", 4, "--pack", "bestfit", "--val-fraction", 0.25, "--split", "val"],
                     manifest=self.d.manifest, seq_len=64, batch=4, pack="bestfit", val_fraction=0.25, split="val")

    def test_in_order(self) -> None:
        self.compare(["--manifest", self.d.manifest, "--seq-len", 16, "--no-shuffle"], manifest=self.d.manifest, seq_len=16, shuffle=False)

    def test_workspace_with_its_recipe(self) -> None:
        self.compare(["-w", self.d.a, "--seq-len", 32, "--batch", 2], workspace=self.d.a, seq_len=32, batch=2)
        with dpipe.Feed(workspace=self.d.a, seq_len=32) as w, dpipe.Feed(self.d.manifest, seq_len=32) as m:
            self.assertLess(w.documents, m.documents)  # the recipe's val_fraction counts

    def test_mixtures(self) -> None:
        mixture = "web=0.7,books=0.3; 30:web=0.2,books=0.8"
        for pack in "concat", "bestfit":
            self.compare(["-w", "none", "--domains", f"web={self.d.manifest},books={self.d.other}", "--mixture", mixture, "--seq-len", 24, "--batch", 3, "--pack",
                          pack, "--seed", 5],
                         domains={"web": self.d.manifest, "books": self.d.other}, mixture=mixture, seq_len=24, batch=3, pack=pack, seed=5)
        self.compare(["-w", "none", "--domains", f"web={self.d.manifest},books={self.d.other}", "--mixture", "web=1e,books=2.5e", "--seq-len", 24],
                     domains={"web": self.d.manifest, "books": self.d.other}, mixture={"web": "1e", "books": "2.5e"}, seq_len=24)

    def test_domains_of_a_workspace(self) -> None:
        domains = "x=source:*one.jsonl,y=source:*two.jsonl"
        self.compare(["-w", self.d.a, "--domains", domains, "--mixture", "x=1,y=3", "--seq-len", 24, "--batch", 1], steps=60, workspace=self.d.a, domains=domains,
                     mixture={"x": 1, "y": 3}, seq_len=24, batch=1)

    def test_ranks_and_restarts(self) -> None:
        o: dict[str, Any] = dict(domains={"web": self.d.manifest, "books": self.d.other}, mixture="web=0.6,books=0.4", seq_len=24, pack="bestfit", seed=9)
        with dpipe.Feed(**o, batch=1) as one:
            want = take(one, 48)
        row = len(want) // 48
        for world, batch in (2, 3), (3, 4), (8, 1):
            feeds = [dpipe.Feed(**o, batch=batch, rank=r, world=world) for r in range(world)]
            self.assertEqual(b"".join(f.next().tobytes() for _ in range(48 // world // batch) for f in feeds), want)
        for start in 1, 17, 47:
            self.assertEqual(take(dpipe.Feed(**o, batch=1, start=start), 48 - start), want[start * row:])
            self.assertEqual(self.d.dump("-w", "none", "--domains", f"web={self.d.manifest},books={self.d.other}", "--mixture", "web=0.6,books=0.4", "--seq-len", 24,
                                         "--pack", "bestfit", "--seed", 9, "--batch", 1, "--start", start, "--steps", 48 - start), want[start * row:])
            first = dpipe.Feed(**o, batch=1)
            take(first, start)
            state = json.loads(json.dumps(first.state_dict()))
            second = dpipe.Feed(**o, batch=1)
            second.load_state_dict(state)
            self.assertEqual((second.sample, take(second, 48 - start)), (start, want[start * row:]))
        first = dpipe.Feed(**o, batch=2, world=2)
        take(first, 3)  # 12 samples; then another world
        feeds = [dpipe.Feed(**o, batch=4, rank=r, world=3) for r in range(3)]
        for f in feeds:
            f.load_state_dict(first.state_dict())
        self.assertEqual(b"".join(f.next().tobytes() for _ in range(3) for f in feeds), want[12 * row:])


class Api(unittest.TestCase):
    def setUp(self) -> None:
        self.d = fixture.data()

    def test_numbers(self) -> None:
        told = json.loads(fixture.dpipe("feed", "--manifest", self.d.manifest, "--seq-len", 32, "--batch", 2, "--pack", "bestfit", "--steps", 3))
        with dpipe.Feed(self.d.manifest, seq_len=32, batch=2, pack="bestfit") as f:
            take(f, 3)
            self.assertEqual((f.samples, f.tokens, f.documents, f.vocab_size, f.sample, f.pad),
                             tuple(told[k] for k in ("samples", "tokens", "documents", "vocab_size", "next_sample", "pad")))
            self.assertEqual([vars(d) for d in f.domains], told["domains"])
            self.assertEqual((f.seq_len, f.batch, f.rank, f.world, f.eot), (32, 2, 0, 1, f.pad))
            self.assertIn("2 x 32", repr(f))
        self.assertEqual(repr(f), "<dpipe.Feed closed>")

    def test_forms_of_a_batch(self) -> None:
        o: dict[str, Any] = dict(manifest=self.d.manifest, seq_len=48, batch=3, pack="bestfit")
        with dpipe.Feed(**o) as rows, dpipe.Feed(**o) as pairs, dpipe.Feed(**o) as metas, dpipe.Feed(**o) as into:
            out = np.empty((3, 49), np.int32)
            for step in range(30):
                r = rows.next()
                inputs, targets = pairs.next_pair()
                m = metas.next_batch()
                self.assertIs(into.next(out), out)
                self.assertTrue((out == r).all() and (m.ids == r).all())
                self.assertTrue(inputs.dtype == np.int64 and inputs.flags.c_contiguous and (inputs == r[:, :-1]).all() and (targets == r[:, 1:]).all())
                self.assertTrue((m.inputs == r[:, :-1]).all() and (m.targets == r[:, 1:]).all())
                self.assertEqual(m.sample.tolist(), [step * 3 + b for b in range(3)])
                self.assertTrue((rows.row(step * 3 + 2) == r[2]).all())
                self.masks(m, rows)

    def masks(self, m: dpipe.Batch, feed: dpipe.Feed) -> None:
        for b in range(3):
            n = int(m.segments[b])
            cu = m.cu_seqlens[b]
            self.assertEqual((cu[0], cu[n]), (0, 48))
            want = np.concatenate([np.arange(cu[k + 1] - cu[k]) for k in range(n)])
            self.assertTrue((m.positions[b] == want).all())
            where = [feed.origin(int(m.sample[b]), t) for t in range(49)]
            padding = [o is None for o in where]
            self.assertTrue((m.ids[b][padding] == feed.pad).all())
            # A target teaches when it continues the document of its input.
            same = [x is not None and y is not None and x.document == y.document and x.shard == y.shard and y.document_token == x.document_token + 1
                    for x, y in zip(where, where[1:])]
            self.assertEqual(m.loss_mask[b].tolist(), same)

    def test_iterates_without_end(self) -> None:
        with dpipe.Feed(self.d.manifest, seq_len=128, batch=8, val_fraction=0.0) as f:
            n = f.samples // 8 + 5
            for k, rows in enumerate(f):
                self.assertEqual(rows.shape, (8, 129))
                if k == n:
                    break
            self.assertEqual(f.sample, (n + 1) * 8)
            self.assertFalse(f.reload())

    def test_ahead(self) -> None:
        o: dict[str, Any] = dict(manifest=self.d.manifest, seq_len=32, batch=2)
        with dpipe.Feed(**o) as f, dpipe.Feed(**o) as g:
            ahead = f.ahead(3)
            for k in range(20):
                self.assertEqual((next(ahead).tolist(), f.sample), (g.next().tolist(), 2 * k + 2))
            self.assertEqual(f.state_dict(), g.state_dict())
            self.assertEqual(f.next().tolist(), g.next().tolist())  # between them
            self.assertEqual(next(ahead).tolist(), g.next().tolist())
            for x in f, g:
                x.seek(7)
            self.assertEqual(next(ahead).tolist(), g.next().tolist())
            self.assertFalse(f.reload())
            self.assertEqual((next(ahead).tolist(), f.sample), (g.next().tolist(), g.sample))
            ahead.close()
            self.assertEqual((f.next().tolist(), threading.active_count()), (g.next().tolist(), 1))
            batches = f.ahead(2, dpipe.Feed.next_batch)
            self.assertEqual([next(batches).positions.tolist() for _ in range(5)], [g.next_batch().positions.tolist() for _ in range(5)])
            two = f.ahead(2, lambda feed: (feed.next(), feed.sample))
            self.assertEqual(next(two)[0].tolist(), g.next().tolist())
            with self.assertRaises(ValueError):
                next(f.ahead(0, dpipe.Feed.next))
        with self.assertRaisesRegex(ValueError, "closed"):
            next(two)

        def fails(feed: dpipe.Feed) -> int:
            if feed.sample >= 6:
                raise KeyError("mine")
            return len(feed.next())

        with dpipe.Feed(**o) as f:
            bad = f.ahead(2, fails)
            self.assertEqual([next(bad) for _ in range(3)], [2, 2, 2])
            with self.assertRaisesRegex(KeyError, "mine"):
                next(bad)
            self.assertEqual(f.sample, 6)

    def test_refusals(self) -> None:
        def raises(kind: type[Exception], text: str, **o: Any) -> None:
            with self.assertRaises(kind) as c:
                dpipe.Feed(**o)
            self.assertIn(text, str(c.exception))

        m = self.d.manifest
        raises(dpipe.ConfigError, "seq_len", manifest=m, seq_len=0)
        raises(dpipe.ConfigError, "pack", manifest=m, pack="tight")
        raises(dpipe.ConfigError, "rank 2", manifest=m, rank=2, world=2)
        raises(dpipe.ConfigError, "no manifest, workspace or domains")
        raises(dpipe.ConfigError, "give one", manifest=m, workspace=self.d.a)
        raises(dpipe.ConfigError, "line break", manifest=m, mixture="a=1\nb=2")
        raises(dpipe.ConfigError, "only a workspace knows", manifest=m, domains="x=source:*")
        raises(dpipe.NotFound, "absent.json", manifest=self.d.dir + "/absent.json")
        raises(FileNotFoundError, "absent.json", manifest=self.d.dir + "/absent.json")
        raises(dpipe.CorruptError, "tokenizer", manifest=self.d.tokenizer)
        raises(dpipe.Error, "recipe", workspace=self.d.dir)
        f = dpipe.Feed(m, seq_len=32)
        for bad in np.empty((8, 33), np.int64), np.empty((7, 33), np.int32), np.empty((33, 8), np.int32).T:
            with self.assertRaises(ValueError):
                f.next(bad)  # type: ignore[arg-type]
        for sample in -1, 1 << 63:
            with self.assertRaises(ValueError):
                f.row(sample)
        with self.assertRaises(dpipe.Error):
            f.origin(0, 33)
        with dpipe.Feed(m, seq_len=16) as other, self.assertRaisesRegex(dpipe.ConfigError, "seq_len"):
            f.load_state_dict(other.state_dict())
        state = f.state_dict()
        for damaged in {}, {**state, "version": 2}, {**state, "feed": "zz"}, {**state, "feed": state["feed"][2:]}:
            with self.assertRaises(dpipe.Error):
                f.load_state_dict(damaged)
        f.close()
        f.close()
        with self.assertRaisesRegex(ValueError, "closed"):
            f.next()

    def test_damage_is_named(self) -> None:
        with open(self.d.other) as f:
            shard = json.load(f)["shards"][0]["name"]
        path = os.path.join(os.path.dirname(self.d.other), shard)
        with open(path, "r+b") as b:
            b.seek(100)
            byte = b.read(1)
            b.seek(100)
            b.write(bytes([byte[0] ^ 1]))
        try:
            with dpipe.Feed(self.d.other, seq_len=32, check=True) as feed, self.assertRaisesRegex(dpipe.CorruptError, shard[:-4] + ".*frame 0"):
                take(feed, feed.samples)
        finally:
            with open(path, "r+b") as b:
                b.seek(100)
                b.write(byte)

    def test_no_leak(self) -> None:
        def files() -> int:
            with open("/proc/self/maps") as maps:
                return len(os.listdir("/proc/self/fd")) + len(maps.readlines())

        dpipe.Feed(self.d.manifest, seq_len=32).next()
        dpipe.Feed(workspace=self.d.a, seq_len=32).next()  # which may load another library
        gc.collect()
        before = files()
        for _ in range(50):
            dpipe.Feed(self.d.manifest, seq_len=32).next()
            dpipe.Feed(workspace=self.d.a, seq_len=32).next()
        gc.collect()
        self.assertLess(files(), before + 20)


if __name__ == "__main__":
    unittest.main()
