from __future__ import annotations

import threading
import unittest

import numpy as np

from . import fixture
import dpipe

TEXTS = ["", "the river", " the  house\n\n of stone.", "Gr\u00fc\u00dfe, \u4f60\u597d \U0001f600 <|endoftext|>", "a\0b", "x" * 5000]


class TokenizerTest(unittest.TestCase):
    def setUp(self) -> None:
        self.t = dpipe.Tokenizer(fixture.data().tokenizer)

    def test_round_trip(self) -> None:
        for text in TEXTS:
            ids = self.t.encode(text)
            self.assertEqual(ids.dtype, np.uint32)
            self.assertEqual(self.t.decode(ids), text)
            self.assertEqual(self.t.decode(ids.tolist()), text)
        raw = bytes(range(256)) * 3
        self.assertEqual(self.t.decode_bytes(self.t.encode(raw)), raw)

    def test_batch(self) -> None:
        batch = self.t.encode_batch(TEXTS)
        self.assertEqual([b.tolist() for b in batch], [self.t.encode(x).tolist() for x in TEXTS])
        self.assertEqual(self.t.encode_batch([]), [])

    def test_others_run_meanwhile(self) -> None:
        text = " ".join(f"{word}{k}" for k in range(20000) for word in fixture.WORDS[:20])
        busy = threading.Thread(target=self.t.encode_batch, args=([text] * 4,))
        counted = 0
        busy.start()
        while busy.is_alive():
            counted += 1
        self.assertGreater(counted, 1000)  # without the GIL's release the count would be a few, between conversions

    def test_ids_are_the_shards(self) -> None:
        """A document's ids in the feed decode to a text that encodes to them."""
        d = fixture.data()
        with dpipe.Feed(d.manifest, seq_len=4000, batch=1, pack="bestfit", shuffle=False) as f:
            self.assertEqual(f.vocab_size, len(self.t))
            self.assertEqual(f.eot, self.t.eot)
            rows = f.next()[0]
        first = rows[: int(np.flatnonzero(rows == self.t.eot)[0])]
        self.assertGreater(len(first), 10)
        self.assertEqual(self.t.encode(self.t.decode(first)).tolist(), first.tolist())

    def test_specials(self) -> None:
        name = "<|endoftext|>"
        eot = self.t.eot
        assert eot is not None
        self.assertEqual(self.t.special_tokens, {name: eot})
        self.assertEqual(self.t.token_to_id(name), eot)
        self.assertNotIn(eot, self.t.encode(name).tolist())
        with_specials = dpipe.Tokenizer(fixture.data().tokenizer, specials=True)
        self.assertEqual(with_specials.encode("a" + name).tolist(), [self.t.token_to_id("a"), eot])
        self.assertEqual(with_specials.decode([eot]), name)
        self.assertIsNone(self.t.token_to_id("no such token in here"))
        self.assertEqual(len(self.t.digest), 32)
        self.assertEqual(self.t.digest, with_specials.digest)

    def test_offsets(self) -> None:
        for text in TEXTS:
            ids, at = self.t.encode_offsets(text)
            self.assertEqual(ids.tolist(), self.t.encode(text).tolist())
            self.assertEqual((at.dtype, at.shape), (np.dtype(np.int64), (len(ids), 2)))
            for i, (a, b) in zip(ids.tolist(), at.tolist()):
                token = self.t.id_to_bytes(i)
                assert token is not None
                self.assertIn(token, text[a:b].encode())
            ids, at = self.t.encode_offsets(text, unit="bytes")
            self.assertEqual([text.encode()[a:b] for a, b in at.tolist()], [self.t.id_to_bytes(i) for i in ids.tolist()])
        with self.assertRaises(ValueError):
            self.t.encode_offsets("x", unit="words")
        self.assertIsNone(self.t.id_to_bytes(len(self.t)))
        self.assertIsNone(self.t.id_to_bytes(-1))

    def test_count(self) -> None:
        self.assertEqual(self.t.count_batch(TEXTS).tolist(), [len(self.t.encode(x)) for x in TEXTS])
        self.assertEqual(self.t.count(TEXTS[1]), len(self.t.encode(TEXTS[1])))
        self.assertEqual(self.t.count_batch([]).tolist(), [])

    def test_decode_stream(self) -> None:
        raw = "".join(TEXTS).encode() + b"\xf0\x9f\x98x\xe4\xb8\xe4\xb8\xad\xff\xc3"
        ids = self.t.encode(raw)
        for errors in "replace", "surrogateescape":
            s = self.t.decode_stream(errors)
            for _ in range(2):
                self.assertEqual("".join(s.push(int(i)) for i in ids) + s.finish(), raw.decode("utf-8", errors))
            self.assertEqual(s.push(ids) + s.finish(), raw.decode("utf-8", errors))
        eot = self.t.eot
        assert eot is not None
        self.assertEqual(self.t.decode_stream().push(eot), "<|endoftext|>")
        self.assertEqual(self.t.decode_stream(skip_specials=True).push([eot]), "")
        t = dpipe.Tokenizer(fixture.data().tokenizer)
        s = t.decode_stream()
        del t
        self.assertEqual(s.push(ids[:1]) + s.finish(), self.t.decode(ids[:1]))
        with self.assertRaises(dpipe.CorruptError):
            s.push(1999999)
        with self.assertRaises(ValueError):
            self.t.decode_stream("strict")

    def test_encode_stream(self) -> None:
        text = " ".join(TEXTS).encode() * 3
        want = self.t.encode(text).tolist()
        s = self.t.encode_stream()
        for step in 1, 7, 1000:
            got: list[int] = []
            for i in range(0, len(text), step):
                got += s.push(text[i:i + step]).tolist()
                self.assertEqual(self.t.encode("the").tolist(), self.t.encode(b"the").tolist())  # used meanwhile
            self.assertGreater(len(got), len(want) // 2)
            self.assertEqual(got + s.finish().tolist(), want)
        small = self.t.encode_stream(bytes_max=100)
        with self.assertRaises(dpipe.Error):
            small.push("x" * 101)
        small.finish()
        self.assertEqual(np.concatenate([small.push("the "), small.finish()]).tolist(), self.t.encode("the ").tolist())

    def test_clones_and_bytes(self) -> None:
        with open(fixture.data().tokenizer, "rb") as f:
            content = f.read()
        t = dpipe.Tokenizer.from_bytes(content, cache_bytes=1 << 16)
        self.assertEqual(t.digest, self.t.digest)
        c = t.clone(specials=True, cache_bytes=1)
        name = "<|endoftext|>"
        self.assertEqual(t.encode(TEXTS[3]).tolist(), self.t.encode(TEXTS[3]).tolist())
        del t
        self.assertEqual(c.encode(name).tolist(), [c.eot])
        self.assertEqual(c.clone().encode(name).tolist(), [c.eot])
        self.assertEqual(c.clone(specials=False).encode(TEXTS[3]).tolist(), self.t.encode(TEXTS[3]).tolist())
        with self.assertRaisesRegex(dpipe.CorruptError, "half"):
            dpipe.Tokenizer.from_bytes(content[: len(content) // 2], name="half")

    def test_bad_utf8(self) -> None:
        bad = [b"\xff", b"the \xe4\xb8 river", b"\xf0\x9f\x98", b"\xed\xa0\x80x", b"\xc0\xaf\x80", bytes(range(256)), b"fine \xc3\xa9"]
        t = dpipe.Tokenizer(fixture.data().tokenizer, utf8="replace")
        sound = [b.decode("utf-8", "replace") for b in bad]
        want = [self.t.encode(x).tolist() for x in sound]
        self.assertEqual([i.tolist() for i in t.encode_batch(bad)], want)
        self.assertEqual(t.count_batch(bad).tolist(), [len(i) for i in want])
        self.assertNotEqual(self.t.encode(bad[0]).tolist(), want[0])
        self.assertEqual([self.t.decode_bytes(i) for i in self.t.encode_batch(bad)], bad)
        ids, at = t.encode_offsets(bad[1])
        self.assertEqual((ids.tolist(), int(at[-1, 1])), (want[1], len(sound[1])))
        for text, as_if in ("a\ud800b", "a\ufffdb"), ("\udc00", "\ufffd"), ("\ud83d\ude00", "\U0001f600"), ("fine \u00e9", "fine \u00e9"):
            self.assertEqual(t.encode(text).tolist(), self.t.encode(as_if).tolist())
        with self.assertRaises(UnicodeEncodeError):
            self.t.encode("a\ud800b")
        s = t.encode_stream()
        for raw, ids_ in zip(bad, want):
            for step in 1, 2, 300:
                got = [i for k in range(0, len(raw), step) for i in s.push(raw[k:k + step]).tolist()]
                self.assertEqual(got + s.finish().tolist(), ids_)
        self.assertEqual(t.clone().encode(bad[0]).tolist(), want[0])
        self.assertEqual(t.clone(utf8="keep").encode(bad[0]).tolist(), self.t.encode(bad[0]).tolist())
        with self.assertRaises(ValueError):
            self.t.clone(utf8="strict")

    def test_refusals(self) -> None:
        with self.assertRaisesRegex(dpipe.CorruptError, "1999999"):
            self.t.decode([1999999])
        for bad in [-1], [1.5], [1 << 32]:
            with self.assertRaises(ValueError):
                self.t.decode(bad)  # type: ignore[arg-type]
        with self.assertRaises(dpipe.NotFound):
            dpipe.Tokenizer("/nonexistent/tokenizer.json")
        with self.assertRaises(dpipe.Error):
            dpipe.Tokenizer(fixture.data().tokenizer, split="nonsense")
        with self.assertRaises(UnicodeEncodeError):
            self.t.encode("\ud800")

    def test_threads(self) -> None:
        want = [self.t.encode(x).tolist() for x in TEXTS]
        wrong: list[int] = []

        def work() -> None:
            for _ in range(200):
                if [b.tolist() for b in self.t.encode_batch(TEXTS)] != want:
                    wrong.append(1)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(wrong, [])


if __name__ == "__main__":
    unittest.main()
