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
