"""Packing and a mixture of three domains together: 1 to 64 ranks and restarts anywhere give one global sequence, the one that the program writes."""
from __future__ import annotations

import random
import unittest
from typing import Any

from . import fixture
import dpipe

SAMPLES = 256
MIXTURE = "web=0.5,books=0.3,notes=0.2; 70:web=0.1,books=0.2,notes=0.7; 150:web=1,books=0,notes=1"


class Elastic(unittest.TestCase):
    def setUp(self) -> None:
        d = fixture.data()
        self.o: dict[str, Any] = dict(domains={"web": d.manifest, "books": d.other, "notes": d.third}, mixture=MIXTURE, seq_len=40, pack="bestfit", seed=11)
        flags = ("-w", "none", "--domains", ",".join(f"{k}={v}" for k, v in self.o["domains"].items()), "--mixture", MIXTURE, "--seq-len", 40, "--pack", "bestfit",
                 "--seed", 11)
        text = d.dump(*flags, "--batch", 1, "--steps", SAMPLES)
        self.row = 41 * 4
        self.want = [text[k * self.row:(k + 1) * self.row] for k in range(SAMPLES)]

    def check(self, first: int, batch: int, world: int, feeds: "list[dpipe.Feed]") -> None:
        """From sample `first` on, as far as whole steps go."""
        steps = (SAMPLES - first) // (batch * world)
        got = [row.tobytes() for _ in range(steps) for f in feeds for row in f.next()]
        if got != self.want[first:first + steps * batch * world]:
            k = next(i for i, (x, y) in enumerate(zip(got, self.want[first:])) if x != y)
            self.fail(f"batch {batch}, world {world}, from sample {first}: sample {first + k} differs")

    def ranks(self, batch: int, world: int, state: Any = None) -> "list[dpipe.Feed]":
        feeds = [dpipe.Feed(**self.o, batch=batch, rank=r, world=world) for r in range(world)]
        for f in feeds:
            if state is not None:
                f.load_state_dict(state)
        return feeds

    def test_ranks(self) -> None:
        self.assertGreater(len(set(self.want)), SAMPLES // 2)
        for world in range(1, 65):
            for batch in (1, 3) if world % 8 == 0 else (1 + world % 3,):
                self.check(0, batch, world, self.ranks(batch, world))

    def test_restarts_with_other_ranks(self) -> None:
        r = random.Random(2)
        for world in range(1, 65):
            before, batch = r.randint(1, 8), r.randint(1, 2)
            one = dpipe.Feed(**self.o, batch=before, world=r.randint(1, 4), rank=0)
            for _ in range(r.randint(1, 4)):
                one.next()
            state = one.state_dict()
            self.check(state["sample"], batch, world, self.ranks(batch, world, state))

    def test_restarts_anywhere(self) -> None:
        feed = dpipe.Feed(**self.o, batch=1)
        for first in range(SAMPLES):
            state = feed.state_dict()
            self.assertEqual(state["sample"], first)
            again = dpipe.Feed(**self.o, batch=1)
            again.load_state_dict(state)
            self.assertEqual((again.next().tobytes(), feed.next().tobytes()), (self.want[first], self.want[first]))


if __name__ == "__main__":
    unittest.main()
